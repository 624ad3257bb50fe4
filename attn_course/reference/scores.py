"""How well do a query and a key fit? Five ways to compare them, larger meaning better."""

import math

import numpy as np
from jaxtyping import Float

from attn_course.arguments import (
    check_additive,
    check_bilinear,
    check_number,
    check_queries_and_keys,
)
from attn_course.reference.softmax import ieee, widened


def dot_scores(
    q: Float[np.ndarray, "*b i d"], k: Float[np.ndarray, "*b j d"]
) -> Float[np.ndarray, "*b i j"]:
    """Compare by the dot product: ``q kᵀ``.

    >>> dot_scores(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]))
    array([[11.,  2.]])

    Raises:
        TypeError: `q` or `k` is no floating array.
        ValueError: the shapes do not fit.

    Source:
        Luong, Pham and Manning (2015), section 3.1, "dot".
    """
    return scaled_dot_scores(q, k, scale=1.0)


def scaled_dot_scores(
    q: Float[np.ndarray, "*b i d"], k: Float[np.ndarray, "*b j d"], scale: float | None = None
) -> Float[np.ndarray, "*b i j"]:
    """Compare by the dot product times `scale`, by default ``1 / √d``: ``q kᵀ / √d``.

    The query is scaled before the product, so that half precision overflows later.

    >>> scaled_dot_scores(np.full((1, 4), 1.0), np.full((1, 4), 3.0))
    array([[6.]])

    Raises:
        TypeError: `q` or `k` is no floating array, or `scale` no number.
        ValueError: the shapes do not fit, or `scale` is not finite.

    Source:
        Vaswani et al. (2017), section 3.2.1.
    """
    check_queries_and_keys(np.ndarray, q, k)
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scale = check_number("scale", scale, dtype=q.dtype)
    with ieee():
        return (scale * q) @ k.swapaxes(-1, -2)


def bilinear_scores(
    q: Float[np.ndarray, "*b i dq"],
    k: Float[np.ndarray, "*b j dk"],
    w: Float[np.ndarray, "dq dk"],
) -> Float[np.ndarray, "*b i j"]:
    """Compare through a learned matrix: ``q w kᵀ``. Queries and keys may differ in width.

    >>> bilinear_scores(np.array([[1.0, 0.0]]), np.array([[5.0]]), np.array([[2.0], [7.0]]))
    array([[10.]])

    Raises:
        TypeError: `q`, `k` or `w` is no floating array.
        ValueError: the shapes do not fit.

    Source:
        Luong, Pham and Manning (2015), section 3.1, "general".
    """
    check_bilinear(np.ndarray, q, k, w)
    with ieee():
        return q @ w @ k.swapaxes(-1, -2)


def additive_scores(
    q: Float[np.ndarray, "*b i dq"],
    k: Float[np.ndarray, "*b j dk"],
    w_q: Float[np.ndarray, "dq hidden"],
    w_k: Float[np.ndarray, "dk hidden"],
    v: Float[np.ndarray, " hidden"],
) -> Float[np.ndarray, "*b i j"]:
    """Compare by a network of one hidden layer: ``tanh(q w_q + k w_k) v``.

    Queries and keys may differ in width. `v` is the layer's output vector, not a value of
    attention: the letter is the paper's.

    >>> one = np.ones((1, 1))
    >>> additive_scores(0 * one, 0 * one, one, one, np.ones(1))
    array([[0.]])

    Raises:
        TypeError: an argument is no floating array.
        ValueError: the shapes do not fit.

    Source:
        Bahdanau, Cho and Bengio (2015), appendix A.1.2.
    """
    check_additive(np.ndarray, q, k, w_q, w_k, v)
    with ieee():
        return np.tanh((q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :]) @ v


def cosine_scores(
    q: Float[np.ndarray, "*b i d"], k: Float[np.ndarray, "*b j d"]
) -> Float[np.ndarray, "*b i j"]:
    """Compare by the cosine of the angle between query and key: ``q kᵀ / (‖q‖ ‖k‖)``.

    A vector of zeros has no direction; its cosine with anything is taken to be 0.

    >>> cosine_scores(np.array([[3.0, 0.0]]), np.array([[5.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    array([[1., 0., 0.]])

    Raises:
        TypeError: `q` or `k` is no floating array.
        ValueError: the shapes do not fit.

    Source:
        Graves, Wayne and Danihelka (2014), "Neural Turing machines", equation 6.
    """
    check_queries_and_keys(np.ndarray, q, k)
    with ieee():
        return _unit(q) @ _unit(k).swapaxes(-1, -2)


def _unit(x: Float[np.ndarray, "*b n d"]) -> Float[np.ndarray, "*b n d"]:
    # Dividing by the largest entry first keeps the squares from overflowing.
    largest = np.abs(x).max(axis=-1, keepdims=True)
    x = x / np.where(largest == 0, 1, largest)
    length = np.sqrt((x**2).sum(axis=-1, keepdims=True, dtype=widened(x.dtype)))
    return (x / np.where(length == 0, 1, length)).astype(x.dtype)
