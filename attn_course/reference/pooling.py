"""Many rows into one: pooling by one learned query, and its ancestor, kernel regression."""

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import (
    check_number,
    check_pooling,
    check_queries_and_keys,
    check_values,
)
from attn_course.reference.softmax import ieee, softmax


def attention_pooling(
    x: Float[np.ndarray, "*b j d"],
    query: Float[np.ndarray, " d"],
    mask: Bool[np.ndarray, "*#b #j"] | bool = True,
    *,
    scale: float = 1.0,
) -> Float[np.ndarray, "*b d"]:
    """Average the rows of `x`, weighted by ``softmax(scale * (x @ query))``.

    One query asks every row the same question; the rows are their own keys and their own values.
    `mask` is True for the rows that may be looked at. Where there is none, the result is zeros.

    >>> attention_pooling(np.array([[0.0, 2.0], [0.0, 4.0]]), np.array([1.0, 0.0]))
    array([0., 3.])

    Raises:
        TypeError: `x` or `query` is no floating array, `mask` neither bool nor boolean array, or
            `scale` no number.
        ValueError: the shapes do not fit, or `scale` is not finite.

    Source:
        Yang et al. (2016), equations 5 to 7, without their hidden layer.
    """
    scale = check_pooling(np.ndarray, x, query, mask, scale)
    with ieee():
        scores = x @ (scale * query)
        weights = softmax(np.where(mask, scores, -np.inf))
        return (weights[..., None, :] @ x)[..., 0, :]


def kernel_weights(
    q: Float[np.ndarray, "*b i d"], k: Float[np.ndarray, "*b j d"], bandwidth: float = 1.0
) -> Float[np.ndarray, "*b i j"]:
    """Return Gaussian kernel weights: ``softmax(-||q - k||² / (2 bandwidth²))`` over the keys.

    `bandwidth` is the kernel's standard deviation, in the units of `q` and `k`: the smaller, the
    more only the nearest keys count.

    >>> kernel_weights(np.zeros((1, 1)), np.array([[-1.0], [1.0]]))
    array([[0.5, 0.5]])

    Raises:
        TypeError: `q` or `k` is no floating array, or `bandwidth` no number.
        ValueError: the shapes do not fit, or `bandwidth` is not positive and finite.

    Source:
        Nadaraya (1964); Watson (1964).
    """
    check_queries_and_keys(np.ndarray, q, k)
    bandwidth = check_number("bandwidth", bandwidth, positive=True, dtype=q.dtype)
    with ieee():
        steps = (q[..., :, None, :] - k[..., None, :, :]) / bandwidth
        return softmax(-(steps**2).sum(axis=-1) / 2)


def kernel_regression(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    bandwidth: float = 1.0,
) -> Float[np.ndarray, "*b i e"]:
    """Estimate the value at each query as the average of `v`, weighted by `kernel_weights`.

    >>> kernel_regression(np.zeros((1, 1)), np.array([[-1.0], [1.0]]), np.array([[2.0], [4.0]]))
    array([[3.]])

    Raises:
        TypeError: `q`, `k` or `v` is no floating array, or `bandwidth` no number.
        ValueError: the shapes do not fit, or `bandwidth` is not positive and finite.

    Source:
        Nadaraya (1964); Watson (1964).
    """
    check_queries_and_keys(np.ndarray, q, k)
    check_values(np.ndarray, q, k, v)
    with ieee():
        return kernel_weights(q, k, bandwidth) @ v
