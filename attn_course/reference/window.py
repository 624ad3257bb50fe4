"""Attention to the last few keys only, at a cost that grows with the window, not with the text.

The queries go in blocks. A block needs only the keys from the first query's window to the last
query, so no array of all queries by all keys is ever formed.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import check_window_attention, check_window_attention_backward
from attn_course.reference.gradients import grouped_query_attention_backward
from attn_course.reference.masks import window_mask
from attn_course.reference.multi_head import grouped_query_attention
from attn_course.reference.softmax import ieee, widened

BLOCK = 256  # smaller blocks pay Python more often, larger ones score more masked keys


def window_attention(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*c j d"],
    v: Float[np.ndarray, "*c j e"],
    window: int,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b i e"]:
    """Average for each query the values of the last `window` keys up to its own position.

    It is attention with `window_mask`, ``softmax(q kᵀ / √d) v`` over the keys
    ``p - window < j <= p`` of a query at position p, in time proportional to queries times
    window, and memory to that of the inputs plus one block of scores. Where there are fewer
    queries than keys the queries are the last ones; where there are more, the first see no key
    and get zeros. With heads, the query heads may be a multiple of the key heads, as in
    `grouped_query_attention`.

    >>> values = np.array([[1.0], [3.0], [5.0]])
    >>> window_attention(np.zeros((3, 1)), np.ones((3, 1)), values, window=2)
    array([[1.],
           [2.],
           [4.]])

    Raises:
        TypeError: `q`, `k` or `v` is no floating array, `window` no integer, or `scale` or
            `softcap` no number.
        ValueError: the shapes do not fit, `window` is less than 1, a number is not finite, or
            `softcap` not positive.

    Source:
        Beltagy, Peters and Cohan (2020), section 3.1, two-sided; Jiang et al. (2023), section 2.
    """
    window, scale, softcap = check_window_attention(np.ndarray, q, k, v, window, scale, softcap)
    if q.ndim == 2:
        heads = (x[None] for x in (q, k, v))
        return window_attention(*heads, window, scale=scale, softcap=softcap)[0]
    out = np.zeros((*q.shape[:-1], v.shape[-1]), q.dtype)
    for rows, seen, mask in _blocks(q.shape[-2], k.shape[-2], window):
        out[..., rows, :] = grouped_query_attention(
            q[..., rows, :], k[..., seen, :], v[..., seen, :], mask, scale=scale, softcap=softcap
        )
    return out


def window_attention_backward(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*c j d"],
    v: Float[np.ndarray, "*c j e"],
    grad_output: Float[np.ndarray, "*b i e"],
    window: int,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Float[np.ndarray, "*b i d"], Float[np.ndarray, "*c j d"], Float[np.ndarray, "*c j e"]]:
    """Turn a gradient with respect to the output of `window_attention` into those of its inputs.

    Block by block it is `attention_backward`. A key that two blocks see gets the sum of what
    both give: ``grad_k = sum over blocks of dSᵀ Q / √d``, and likewise ``grad_v``. Time and memory
    are as of `window_attention`. A query whose window holds no key gets zeros.

    >>> one, values = np.ones((2, 1)), np.array([[1.0], [3.0]])
    >>> grad_q, grad_k, grad_v = window_attention_backward(0 * one, one, values, one, window=2)
    >>> grad_v  # the first value is all of the first output and half of the second
    array([[1.5],
           [0.5]])

    Raises:
        TypeError: as `window_attention`, and `grad_output` is no floating array.
        ValueError: as `window_attention`, and `grad_output` has not the shape of the output.

    Source:
        Dao et al. (2022), "FlashAttention", appendix B.2, for the gradients of a block.
    """
    window, scale, softcap = check_window_attention_backward(
        np.ndarray, q, k, v, grad_output, window, scale, softcap
    )
    if q.ndim == 2:
        heads = (x[None] for x in (q, k, v, grad_output))
        grads = window_attention_backward(*heads, window, scale=scale, softcap=softcap)
        return tuple(grad[0] for grad in grads)
    grad_q = np.zeros(q.shape, q.dtype)
    grad_k, grad_v = (np.zeros(x.shape, widened(x.dtype)) for x in (k, v))
    with ieee():
        for rows, seen, mask in _blocks(q.shape[-2], k.shape[-2], window):
            block = q[..., rows, :], k[..., seen, :], v[..., seen, :], grad_output[..., rows, :]
            block_q, block_k, block_v = grouped_query_attention_backward(
                *block, mask, scale=scale, softcap=softcap
            )
            grad_q[..., rows, :] = block_q
            grad_k[..., seen, :] += block_k
            grad_v[..., seen, :] += block_v
        return grad_q, grad_k.astype(k.dtype), grad_v.astype(v.dtype)


def _blocks(
    queries: int, keys: int, window: int
) -> Iterator[tuple[slice, slice, Bool[np.ndarray, "rows seen"]]]:
    """Yield the queries that see a key block by block, each with the keys it needs and its mask."""
    offset = keys - queries
    for start in range(max(0, -offset), queries, BLOCK):
        stop = min(start + BLOCK, queries)
        seen = slice(max(0, start + offset - window + 1), stop + offset)
        # The last query of a block is at its last key, so the mask is aligned bottom right too.
        yield slice(start, stop), seen, window_mask(stop - start, seen.stop - seen.start, window)
