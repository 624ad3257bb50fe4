"""How the inputs of attention should change: the chain rule through it, written out by hand."""

import math

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import (
    check_arrays,
    check_attention_backward,
    check_axis,
    check_gradient,
    check_grouped,
    check_number,
)
from attn_course.reference.dot_product import attention_weights
from attn_course.reference.scores import scaled_dot_scores
from attn_course.reference.softmax import ieee, widened


def softmax_backward(
    weights: Float[np.ndarray, "*shape"],
    grad_output: Float[np.ndarray, "*shape"],
    axis: int = -1,
    temperature: float = 1.0,
) -> Float[np.ndarray, "*shape"]:
    """Turn a gradient with respect to weights into one with respect to scores.

    The formula is ``w_i (g_i - sum_j w_j g_j) / t``: a score gains where its weight's gradient g
    is above the average. `weights` are what `softmax` returned with temperature t along `axis`.
    It is `softmax_jacobian` times g, without forming that matrix. A weight of 0 gives 0, so a
    row of zeros gives zeros.

    >>> softmax_backward(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    array([ 0.25, -0.25])

    Raises:
        TypeError: `weights` or `grad_output` is no floating array, `axis` no integer, or
            `temperature` no number.
        ValueError: `weights` has no such axis, `grad_output` not its shape, or `temperature` is
            not positive and finite or rounds to 0 in the dtype of `weights`.

    Source:
        Dao et al. (2022), "FlashAttention", appendix B.2.
    """
    check_arrays(np.ndarray, weights=weights)
    check_axis(axis, weights=weights)
    check_gradient(np.ndarray, grad_output, weights.shape, weights=weights)
    t = check_number("temperature", temperature, positive=True, dtype=weights.dtype)
    with ieee():
        average = (weights * grad_output).sum(axis, widened(weights.dtype), keepdims=True)
        return (weights * (grad_output - average) / t).astype(weights.dtype)


def attention_backward(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    grad_output: Float[np.ndarray, "*b i e"],
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Float[np.ndarray, "*b i d"], Float[np.ndarray, "*b j d"], Float[np.ndarray, "*b j e"]]:
    """Turn a gradient with respect to the output of `attention` into those of `q`, `k` and `v`.

    The other arguments are those that `attention` was given. With weights W, output gradient dO
    and scale s::

        dV = Wᵀ dO
        dW = dO Vᵀ
        dS = softmax_backward(W, dW)
        dQ = s dS K
        dK = s dSᵀ Q

    and with a softcap c, dS times ``1 - tanh²(s q kᵀ / c)`` before the last two. A query that may
    look nowhere gets zeros and gives none to others; so does a key that no query may look at.

    >>> q, k, v = np.array([[2.0]]), np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]])
    >>> grad_q, grad_k, grad_v = attention_backward(q, k, v, np.ones((1, 1)))
    >>> grad_k  # more of the output comes from more weight on the larger value
    array([[-1.],
           [ 1.]])

    Raises:
        TypeError: as `attention`, and `grad_output` is no floating array.
        ValueError: as `attention`, and `grad_output` has not the shape of the output.

    Source:
        Dao et al. (2022), "FlashAttention", appendix B.2.
    """
    scale, softcap = check_attention_backward(
        np.ndarray, q, k, v, grad_output, mask, bias, scale, softcap
    )
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    with ieee():
        weights = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
        grad_v = weights.swapaxes(-1, -2) @ grad_output
        grad_weights = grad_output @ v.swapaxes(-1, -2)
        grad_scores = softmax_backward(weights, grad_weights)
        if softcap is not None:
            bounded = np.tanh(scaled_dot_scores(q, k, scale) / softcap)
            grad_scores = grad_scores * (1 - bounded**2)
        grad_q = scale * (grad_scores @ k)
        grad_k = scale * (grad_scores.swapaxes(-1, -2) @ q)
        return grad_q, grad_k, grad_v


def attention_bias_backward(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    grad_output: Float[np.ndarray, "*b i e"],
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b i j"]:
    """Turn a gradient with respect to the output of `attention` into that of its bias.

    The formula is ``softmax_backward(W, dO Vᵀ)``, the dS of `attention_backward` before the
    softcap's factor. There is one number for each score; a learned bias that was broadcast, such
    as one for each head and distance, takes the sum over the scores that it was added to.

    >>> q, k, v = np.zeros((1, 1)), np.zeros((2, 1)), np.array([[1.0], [3.0]])
    >>> attention_bias_backward(q, k, v, np.ones((1, 1)))
    array([[-0.5,  0.5]])

    Raises:
        TypeError: as `attention_backward`.
        ValueError: as `attention_backward`.

    Source:
        Dao et al. (2022), "FlashAttention", appendix B.2.
    """
    check_attention_backward(np.ndarray, q, k, v, grad_output, mask, bias, scale, softcap)
    with ieee():
        weights = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
        return softmax_backward(weights, grad_output @ v.swapaxes(-1, -2))


def grouped_query_attention_backward(
    q: Float[np.ndarray, "*b query_heads i d"],
    k: Float[np.ndarray, "*b key_heads j d"],
    v: Float[np.ndarray, "*b key_heads j e"],
    grad_output: Float[np.ndarray, "*b query_heads i e"],
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[
    Float[np.ndarray, "*b query_heads i d"],
    Float[np.ndarray, "*b key_heads j d"],
    Float[np.ndarray, "*b key_heads j e"],
]:
    """Turn a gradient with respect to the output of `grouped_query_attention` into the inputs'.

    The other arguments are those that `grouped_query_attention` was given. It is
    `attention_backward` with each key head repeated for every query head of its group; what a
    key head then gets from them is added up.

    >>> q, v = np.zeros((4, 1, 1)), np.array([[[1.0]], [[2.0]]])
    >>> grad_output = np.arange(1.0, 5.0).reshape(4, 1, 1)
    >>> grad_q, grad_k, grad_v = grouped_query_attention_backward(q, v, v, grad_output)
    >>> grad_v[:, 0, 0]  # 1 + 2 and 3 + 4
    array([3., 7.])

    Raises:
        TypeError: as `grouped_query_attention`, and `grad_output` is no floating array.
        ValueError: as `grouped_query_attention`, and `grad_output` has not the shape of the
            output.

    Source:
        Ainslie et al. (2023), section 2.2, for the groups.
    """
    check_grouped(np.ndarray, q, k, v, mask, bias, scale, softcap)
    check_gradient(np.ndarray, grad_output, (*q.shape[:-1], v.shape[-1]), q=q)
    group = q.shape[-3] // k.shape[-3]

    def repeated(x):
        return np.repeat(x, group, axis=-3)

    def added(grad):
        # (..., key heads, group, keys, width)
        grouped = grad.reshape(*k.shape[:-2], group, *grad.shape[-2:])
        return grouped.sum(axis=-3, dtype=widened(grad.dtype)).astype(grad.dtype)

    options = dict(bias=bias, scale=scale, softcap=softcap)
    grad_q, grad_k, grad_v = attention_backward(
        q, repeated(k), repeated(v), grad_output, mask, **options
    )
    with ieee():
        return grad_q, added(grad_k), added(grad_v)
