"""Scaled dot-product attention: score, weigh, average."""

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import check_attention, check_values
from attn_course.reference.scores import scaled_dot_scores
from attn_course.reference.softmax import ieee, softmax


def attention_weights(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b i j"]:
    """Return how much each query attends to each key: ``softmax(q kᵀ / √d)``, row by row.

    In order: the scores are scaled by `scale` (by default 1/√d), bounded by
    ``softcap * tanh(scores / softcap)``, given `bias`, masked and normalized. `mask` is True
    where query i may look at key j; `mask` and `bias` broadcast to (..., queries, keys). A query
    that may look nowhere gets weights 0. `bias` is converted to the dtype of `q`.

    >>> mask = np.array([[True, False], [True, True]])
    >>> attention_weights(np.zeros((2, 1)), np.ones((2, 1)), mask)
    array([[1. , 0. ],
           [0.5, 0.5]])

    Raises:
        TypeError: `q` or `k` is no floating array, `mask` neither bool nor boolean array,
            `bias` neither number nor floating array, or `scale` or `softcap` no number.
        ValueError: the shapes do not fit, a number is not finite, or `softcap` not positive.

    Source:
        Vaswani et al. (2017), equation 1; the softcap, Gemma 2 (Gemma Team, 2024), section 2.
    """
    scale, softcap = check_attention(np.ndarray, q, k, mask, bias, scale, softcap)
    with ieee():
        scores = scaled_dot_scores(q, k, scale)
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        scores = scores + np.asarray(bias, dtype=q.dtype)
        return softmax(np.where(mask, scores, -np.inf))


def attention(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b i e"]:
    """Average the rows of `v` for each query, weighted by `attention_weights`.

    The formula is ``softmax(q kᵀ / √d) v``. A query that may look nowhere gets zeros.

    >>> attention(np.zeros((1, 2)), np.eye(2), np.array([[0.0], [4.0]]))  # equal scores: the mean
    array([[2.]])

    Raises:
        TypeError: as `attention_weights`, and `v` is no floating array.
        ValueError: as `attention_weights`, and `v` has not one row for each key.

    Source:
        Vaswani et al. (2017), equation 1.
    """
    check_attention(np.ndarray, q, k, mask, bias, scale, softcap)
    check_values(np.ndarray, q, k, v)
    with ieee():
        weights = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
        return weights @ v
