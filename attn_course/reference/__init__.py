"""Attention defined in NumPy: readable, and in float64 what everything else is held to.

Every function takes and returns `numpy.ndarray`, computes in the dtype that it is given, and
never changes its inputs. Arrays are laid out `(..., heads, length, width)`.
"""

from attn_course.reference.dot_product import attention, attention_weights
from attn_course.reference.masks import (
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
from attn_course.reference.pooling import attention_pooling, kernel_regression, kernel_weights
from attn_course.reference.scores import (
    additive_scores,
    bilinear_scores,
    cosine_scores,
    dot_scores,
    scaled_dot_scores,
)
from attn_course.reference.softmax import entropy, softmax, softmax_jacobian

__all__ = [
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
