"""Scores into weights: softmax, its derivative, and how spread out its result is."""

import numpy as np
from jaxtyping import Float

from attn_course.arguments import check_arrays, check_axis, check_number, check_rank


def ieee():
    """Let overflow and inf - inf give inf and nan as in IEEE arithmetic, without a warning."""
    return np.errstate(over="ignore", under="ignore", invalid="ignore")


def widened(dtype: np.dtype) -> np.dtype:
    """Return the dtype to sum in: a long sum overflows half precision, and loses its digits."""
    return np.promote_types(dtype, np.float32)


def softmax(
    x: Float[np.ndarray, "*shape"], axis: int = -1, temperature: float = 1.0
) -> Float[np.ndarray, "*shape"]:
    """Turn scores into weights, none negative, that sum to 1 along `axis`.

    The formula is ``exp(x_i / t) / sum_j exp(x_j / t)`` with temperature ``t``. The largest
    score is subtracted first, which changes nothing but lets no exponential overflow. Scores of
    -inf get weight 0; where every score is -inf, or there is none, nothing may be looked at, and
    all weights are 0 instead of nan. A score of +inf or nan gives nan, as in IEEE arithmetic.

    >>> softmax(np.log(np.array([1.0, 1.0, 2.0])))
    array([0.25, 0.25, 0.5 ])

    Raises:
        TypeError: `x` is no floating array, `axis` no integer, or `temperature` no number.
        ValueError: `x` has no such axis, or `temperature` is not positive and finite or rounds
            to 0 in the dtype of `x`.

    Source:
        Bridle (1990); the temperature, Hinton, Vinyals and Dean (2015), equation 1.
    """
    check_arrays(np.ndarray, x=x)
    check_axis(axis, x=x)
    t = check_number("temperature", temperature, positive=True, dtype=x.dtype)
    with ieee():
        top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        exponentials = np.exp((x - np.where(top == -np.inf, 0, top)) / t)
        total = exponentials.sum(axis=axis, keepdims=True, dtype=widened(x.dtype))
        return (exponentials / np.where(total == 0, 1, total)).astype(x.dtype)


def softmax_jacobian(
    weights: Float[np.ndarray, "*b n"],
) -> Float[np.ndarray, "*b n n"]:
    """Return how each weight changes with each score, given the weights that softmax returned.

    Entry (i, j) is ``d weight_i / d score_j = weight_i * ((i == j) - weight_j)``. The matrix is
    symmetric and its rows sum to 0: what one key gains the others lose.

    >>> softmax_jacobian(np.array([0.5, 0.5]))
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])

    Raises:
        TypeError: `weights` is no floating array.
        ValueError: `weights` has no axis.

    Source:
        Bridle (1990).
    """
    check_arrays(np.ndarray, weights=weights)
    check_rank(1, "(..., keys)", weights=weights)
    identity = np.eye(weights.shape[-1], dtype=weights.dtype)
    return weights[..., :, None] * (identity - weights[..., None, :])


def entropy(weights: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """Measure in nats how spread out `weights` are along `axis`: ``-sum_i w_i log w_i``.

    One weight of 1 has entropy 0; n equal weights have entropy log n, the most there can be.
    ``exp(entropy)`` is the number of equal weights that would be as spread out. A weight of 0
    adds 0.

    >>> np.exp(entropy(np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])))
    array([4., 2.])

    Raises:
        TypeError: `weights` is no floating array, or `axis` no integer.
        ValueError: `weights` has no such axis.

    Source:
        Shannon (1948), section 6.
    """
    check_arrays(np.ndarray, weights=weights)
    check_axis(axis, weights=weights)
    with ieee():
        logs = np.log(np.where(weights == 0, 1, weights))
        total = (weights * logs).sum(axis=axis, dtype=widened(weights.dtype))
        return np.asarray(0 - total, dtype=weights.dtype)
