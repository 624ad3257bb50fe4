"""Attention in torch, on any device: the names, arguments and meanings of `reference`.

Every function takes and returns `torch.Tensor` of one dtype on one device, is differentiable,
and accumulates softmax in float32 for half-precision input. Functions that make a mask from
sizes alone take a `device` besides.
"""

from attn_course.fast.dot_product import attention, attention_weights
from attn_course.fast.masks import (
    causal_mask,
    causal_mod,
    document_mask,
    document_mod,
    padding_mask,
    padding_mod,
    prefix_mask,
    prefix_mod,
    window_mask,
    window_mod,
)
from attn_course.fast.pooling import (
    AttentionPooling,
    attention_pooling,
    kernel_regression,
    kernel_weights,
)
from attn_course.fast.scores import (
    additive_scores,
    bilinear_scores,
    cosine_scores,
    dot_scores,
    scaled_dot_scores,
)
from attn_course.fast.softmax import entropy, softmax, softmax_jacobian

__all__ = [
    "AttentionPooling",
    "additive_scores",
    "attention",
    "attention_pooling",
    "attention_weights",
    "bilinear_scores",
    "causal_mask",
    "causal_mod",
    "cosine_scores",
    "document_mask",
    "document_mod",
    "dot_scores",
    "entropy",
    "kernel_regression",
    "kernel_weights",
    "padding_mask",
    "padding_mod",
    "prefix_mask",
    "prefix_mod",
    "scaled_dot_scores",
    "softmax",
    "softmax_jacobian",
    "window_mask",
    "window_mod",
]
