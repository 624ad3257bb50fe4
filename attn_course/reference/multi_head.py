"""Attention of several heads at once: multi-head, grouped-query and multi-query."""

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import (
    check_arrays,
    check_grouped,
    check_heads,
    check_multi_head,
    check_rank,
)
from attn_course.reference.dot_product import attention
from attn_course.reference.softmax import ieee


def split_heads(
    x: Float[np.ndarray, "*b n width"], heads: int
) -> Float[np.ndarray, "*b heads n d"]:
    """Cut every row of `x` into `heads` pieces: (…, n, heads·d) becomes (…, heads, n, d).

    Head h has columns h·d to (h + 1)·d. The result is a view of `x` where NumPy can make one.

    >>> split_heads(np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), 2)
    array([[[1., 2.],
            [5., 6.]],
    <BLANKLINE>
           [[3., 4.],
            [7., 8.]]])

    Raises:
        TypeError: `x` is no floating array, or `heads` no integer.
        ValueError: `x` has fewer than two axes, or its width is no multiple of `heads`.

    Source:
        Vaswani et al. (2017), section 3.2.2: the projections of all heads in one matrix.
    """
    heads = check_heads(np.ndarray, x, heads)
    pieces = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    return pieces.swapaxes(-3, -2)


def merge_heads(x: Float[np.ndarray, "*b heads n d"]) -> Float[np.ndarray, "*b n width"]:
    """Put the heads side by side: (…, heads, n, d) becomes (…, n, heads·d). Undoes `split_heads`.

    >>> merge_heads(np.array([[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]]))
    array([[1., 2., 3., 4.],
           [5., 6., 7., 8.]])

    Raises:
        TypeError: `x` is no floating array.
        ValueError: `x` has fewer than three axes.

    Source:
        Vaswani et al. (2017), section 3.2.2: "Concat".
    """
    check_arrays(np.ndarray, x=x)
    check_rank(3, "(..., heads, length, width)", x=x)
    pieces = x.swapaxes(-3, -2)
    return pieces.reshape(*pieces.shape[:-2], pieces.shape[-2] * pieces.shape[-1])


def grouped_query_attention(
    q: Float[np.ndarray, "*b query_heads i d"],
    k: Float[np.ndarray, "*b key_heads j d"],
    v: Float[np.ndarray, "*b key_heads j e"],
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b query_heads i e"]:
    """Attend with several query heads to each head of keys and values.

    The formula is ``out_h = softmax(q_h k_gᵀ / √d) v_g`` with ``g = h // (query heads / key
    heads)``: each run of neighboring query heads shares one key head. One key head makes it
    multi-query attention, as many as there are query heads multi-head attention. `mask` and `bias`
    broadcast to (…, query heads, queries, keys); they, `scale` and `softcap` are as in `attention`.

    >>> q, k, v = np.zeros((4, 1, 1)), np.zeros((2, 1, 1)), np.array([[[5.0]], [[6.0]]])
    >>> grouped_query_attention(q, k, v)[:, 0, 0]
    array([5., 5., 6., 6.])

    Raises:
        TypeError: as `attention`.
        ValueError: as `attention`; an argument has fewer than three axes, the query heads are no
            multiple of the key heads, or `v` has not as many heads as `k`.

    Source:
        Ainslie et al. (2023), section 2.2; one key head, Shazeer (2019), section 3; as many key
        heads as query heads, Vaswani et al. (2017), section 3.2.2.
    """
    check_grouped(np.ndarray, q, k, v, mask, bias, scale, softcap)
    scores_shape = (*q.shape[:-1], k.shape[-2])
    group = q.shape[-3] // k.shape[-3]
    out = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    for h in range(q.shape[-3]):
        g = h // group
        out[..., h, :, :] = attention(
            q[..., h, :, :],
            k[..., g, :, :],
            v[..., g, :, :],
            _of_head(mask, h, scores_shape),
            bias=_of_head(bias, h, scores_shape),
            scale=scale,
            softcap=softcap,
        )
    return out


def multi_head_attention(
    q: Float[np.ndarray, "*b i q_width"],
    k: Float[np.ndarray, "*b j k_width"],
    v: Float[np.ndarray, "*b j v_width"],
    w_q: Float[np.ndarray, "q_width heads_d"],
    w_k: Float[np.ndarray, "k_width key_heads_d"],
    w_v: Float[np.ndarray, "v_width key_heads_e"],
    w_o: Float[np.ndarray, "heads_e out"],
    heads: int,
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b i out"]:
    """Project `q`, `k` and `v`, attend in each head, and project the heads' outputs side by side.

    The formula is ``Concat(out_1, …, out_heads) w_o``, where `grouped_query_attention` makes
    ``out_h`` of the columns of head h in ``q w_q``, ``k w_k`` and ``v w_v``. A head of queries
    and keys has width ``d``, the columns of `w_q` over `heads`; there are as many key heads as
    `w_k` has d columns, each with its share ``e`` of the columns of `w_v`. `mask` and `bias`
    broadcast to (…, heads, queries, keys); they, `scale` and `softcap` are as in `attention`.

    >>> x, w = np.array([[3.0, 5.0]]), np.eye(2)  # one row attends to itself alone
    >>> multi_head_attention(x, x, x, w, w, w, 2 * w, 2)
    array([[ 6., 10.]])

    Raises:
        TypeError: as `attention`, or `heads` is no integer.
        ValueError: as `attention`, or the shape of a matrix does not fit its input or `heads`.

    Source:
        Vaswani et al. (2017), section 3.2.2.
    """
    options = {"mask": mask, "bias": bias, "scale": scale, "softcap": softcap}
    weights = {"w_q": w_q, "w_k": w_k, "w_v": w_v, "w_o": w_o}
    heads, key_heads = check_multi_head(np.ndarray, q, k, v, heads=heads, **weights, **options)
    with ieee():
        q = split_heads(q @ w_q, heads)
        k = split_heads(k @ w_k, key_heads)
        v = split_heads(v @ w_v, key_heads)
        return merge_heads(grouped_query_attention(q, k, v, **options)) @ w_o


def _of_head(x, h, scores_shape):
    """Return what a mask or bias that broadcasts to `scores_shape` holds for head `h`."""
    if not isinstance(x, np.ndarray):
        return x
    return np.broadcast_to(x, scores_shape)[..., h, :, :]
