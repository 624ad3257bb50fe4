"""Attention to the last few keys only, in torch: see `attn_course.reference.window`."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attn_course.arguments import check_window_attention, check_window_attention_backward
from attn_course.fast.dot_product import SCORES_AT_ONCE, attention
from attn_course.fast.masks import window_mask


def window_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*c j d"],
    v: Float[Tensor, "*c j e"],
    window: int,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b i e"]:
    """Average for each query the values of the last `window` keys up to its own position.

    As `attn_course.reference.window_attention`. The blocks of queries whose windows are full go
    to torch's fused attention as one batch: on views of the keys and values that overlap, with
    one mask that all blocks share, so neither scores nor copies of the keys are stored. With a
    softcap, which that cannot express, scores are formed for some blocks at a time.

    >>> values = torch.tensor([[1.0], [3.0], [5.0]])
    >>> window_attention(torch.zeros(3, 1), torch.ones(3, 1), values, window=2)
    tensor([[1.],
            [2.],
            [4.]])

    Raises:
        TypeError: `q`, `k` or `v` is no floating tensor, `window` no integer, or `scale` or
            `softcap` no number.
        ValueError: the shapes do not fit, `window` is less than 1, a number is not finite, or
            `softcap` not positive.
    """
    window, scale, softcap = check_window_attention(Tensor, q, k, v, window, scale, softcap)
    queries, keys = q.shape[-2], k.shape[-2]
    key_heads = math.prod(k.shape[:-2])
    group = q.shape[-3] // k.shape[-3] if q.ndim > 2 else 1
    grouped_q = q.reshape(key_heads, group, queries, q.shape[-1])
    flat_k, flat_v = (x.reshape(key_heads, keys, x.shape[-1]) for x in (k, v))
    at_once = math.inf
    if softcap is not None:
        at_once = SCORES_AT_ONCE["cpu" if q.device.type == "cpu" else "other"]
        at_once /= max(1, key_heads * group)
    blind = max(0, queries - keys)  # where there are more queries than keys, the first see none
    parts = [q.new_zeros(key_heads, group, blind, v.shape[-1])]
    for rows, seen, block in _spans(queries, keys, window, at_once):
        span = grouped_q[:, :, rows], flat_k[:, seen], flat_v[:, seen]
        parts.append(_attend(*span, block, window, scale, softcap))
    return torch.cat(parts, dim=-2).reshape(*q.shape[:-1], v.shape[-1])


def window_attention_backward(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*c j d"],
    v: Float[Tensor, "*c j e"],
    grad_output: Float[Tensor, "*b i e"],
    window: int,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Float[Tensor, "*b i d"], Float[Tensor, "*c j d"], Float[Tensor, "*c j e"]]:
    """Turn a gradient with respect to the output of `window_attention` into those of its inputs.

    As `attn_course.reference.window_attention_backward`, by automatic differentiation. torch's
    fused kernels have no second derivative: to differentiate the result raises, without a softcap.

    >>> one, values = torch.ones(2, 1), torch.tensor([[1.0], [3.0]])
    >>> grad_q, grad_k, grad_v = window_attention_backward(0 * one, one, values, one, window=2)
    >>> grad_v
    tensor([[1.5000],
            [0.5000]])

    Raises:
        TypeError: as `window_attention`, and `grad_output` is no floating tensor.
        ValueError: as `window_attention`, and `grad_output` has not the shape of the output.
    """
    window, scale, softcap = check_window_attention_backward(
        Tensor, q, k, v, grad_output, window, scale, softcap
    )
    _, backward = torch.func.vjp(
        lambda q, k, v: window_attention(q, k, v, window, scale=scale, softcap=softcap), q, k, v
    )
    return backward(grad_output)


def _spans(
    queries: int, keys: int, window: int, at_once: float
) -> Iterator[tuple[slice, slice, int]]:
    """Yield spans of queries that see a key, the keys that each span needs, and its block's size.

    The last span, or the last few where one would form more than `at_once` scores, is of whole
    blocks with as many keys each; those before, at the start of the text, are of one block.
    """
    offset = keys - queries
    # Longer blocks score more masked keys, shorter ones share fewer: their gradients overlap more.
    block = min(max(128, 8 * (window // 32)), 1024)
    # The fused kernels on GPUs want rows of 8 scores. There are no keys before the first.
    back = 8 * math.ceil(min(window - 1, keys) / 8)
    whole = max(0, min(queries, keys - back)) // block
    first = queries - whole * block
    for start in range(max(0, -offset), first, block):
        stop = min(start + block, first)
        seen = slice(max(0, start + offset - window + 1), stop + offset)
        yield slice(start, stop), seen, stop - start
    step = block * int(max(1, min(whole, at_once // (block * (block + back)))))
    for start in range(first, queries, step):
        stop = min(start + step, queries)
        yield slice(start, stop), slice(start + offset - back, stop + offset), block


def _attend(
    q: Float[Tensor, "h group rows d"],
    k: Float[Tensor, "h columns d"],
    v: Float[Tensor, "h columns e"],
    block: int,
    window: int,
    scale: float | None,
    softcap: float | None,
) -> Float[Tensor, "h group rows e"]:
    """Attend from blocks of `block` queries, each to the keys up to that of its last query."""
    group, size = q.shape[1], k.shape[1] - q.shape[2] + block
    q = q.unflatten(2, (-1, block)).transpose(1, 2).flatten(2, 3)  # h blocks group*block d
    k, v = (x.unfold(1, size, block).mT for x in (k, v))  # h blocks size d
    mask = window_mask(block, size, window, device=q.device).repeat(group, 1)
    if softcap is None:
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    else:
        out = attention(q, k, v, mask, scale=scale, softcap=softcap)
    return out.unflatten(2, (group, block)).transpose(1, 2).flatten(2, 3)
