"""Wrong answers to the exercises on scaled dot-product attention, as students write them."""

import math

import numpy as np

from attn_course.reference import softmax


def hidden_scores_of_zero(q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Multiplies the scores by the mask."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return softmax((scores + bias) * mask)


def hidden_entries_removed(q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Adds the mask to the scores as if True were 1 and False were 0."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return softmax(scores + bias + mask)


def minus_infinity_times_the_mask(q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Multiplies -inf by a mask of 0 and 1, and 0 times inf is NaN."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return softmax(scores + bias + np.logical_not(mask) * -np.inf)


def softmax_over_all(q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Divides by the sum of the whole array."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    exponentials = np.exp(np.where(mask, scores + bias, -np.inf))
    return exponentials / exponentials.sum()


def equal_shares_for_an_empty_row(q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Gives a query that may look nowhere the mean of all keys."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    weights = softmax(np.where(mask, scores + bias, -np.inf))
    return np.where(weights.sum(axis=-1, keepdims=True) == 0, 1 / k.shape[-2], weights)


def from_weights(weigh):
    """Return a program of attention that averages with these weights."""

    def attend(q, k, v, mask=True, **options):
        return weigh(q, k, mask, **options) @ v

    attend.__doc__ = weigh.__doc__
    return attend


def scale_per_head(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Divides by the root of the width of the values."""
    scale = 1 / math.sqrt(v.shape[-1]) if scale is None else scale
    scores = scale * (q @ k.swapaxes(-1, -2))
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return softmax(np.where(mask, scores + bias, -np.inf)) @ v


def no_default_left(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Takes a scale of 0.0 or a missing softcap for the default with `or`, and caps always."""
    scores = (scale or q.shape[-1] ** -0.5) * (q @ k.swapaxes(-1, -2))
    softcap = softcap or 1.0
    scores = softcap * np.tanh(scores / softcap)
    return softmax(np.where(mask, scores + bias, -np.inf)) @ v


def flattened_batch(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Lets the queries see the keys of the whole batch."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    width, e = k.shape[-1], v.shape[-1]
    scores = scale * (q @ k.reshape(-1, width).T)
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    return softmax(np.where(mask, scores + bias, -np.inf)) @ v.reshape(-1, e)


def roots_of_the_features(q, k, v):
    """Transposes the wrong factor and the weights after it."""
    return softmax(q.T @ k / math.sqrt(q.shape[-1])).T @ v


def transposed_values(q, k, v):
    """Multiplies by the transposed values."""
    return softmax(q @ k.T / math.sqrt(q.shape[-1])) @ v.T


def elementwise(q, k, v):
    """Multiplies queries and keys entry by entry."""
    return softmax(q * k / math.sqrt(q.shape[-1])) @ v


def keys_first(q, k, v):
    """Asks with the keys: one row a key."""
    return softmax(k @ q.T / math.sqrt(q.shape[-1])) @ v


def root_of_the_weights(q, k, v):
    """Divides the weights by the root, not the scores."""
    return softmax(q @ k.T) / math.sqrt(q.shape[-1]) @ v


def scores_of(q, k, mask):
    return np.where(mask, q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), -np.inf)


def one_over_the_output(q, k, v, mask=True):
    """Divides the finished weights by 1 + their sum, which is 2."""
    return softmax(scores_of(q, k, mask)) / 2 @ v


def a_further_key_that_is_seen_at_its_mean(q, k, v, mask=True):
    """Gives the further key the mean of the values."""
    s = scores_of(q, k, mask)
    top = np.maximum(s.max(axis=-1, keepdims=True), 0)
    total = np.exp(-top) + np.exp(s - top).sum(axis=-1, keepdims=True)
    return np.exp(s - top) / total @ v + np.exp(-top) / total * v.mean(axis=-2, keepdims=True)


def one_added_to_the_scores(q, k, v, mask=True):
    """Adds 1 to every score, which changes no weight."""
    return softmax(scores_of(q, k, mask) + 1) @ v


def one_subtracted_from_the_weights(q, k, v, mask=True):
    """Writes exp(s) - 1 for exp(s), so that a score of 0 weighs nothing."""
    s = scores_of(q, k, mask)
    exponentials = np.maximum(np.expm1(s), 0)
    return exponentials / (1 + exponentials.sum(axis=-1, keepdims=True)) @ v


def clipped_at_zero(q, k, v, mask=True):
    """Raises scores below 0 to 0, the score of the further key."""
    s = scores_of(q, k, mask)
    top = np.maximum(s.max(axis=-1, keepdims=True), 0)
    exponentials = np.where(s == -np.inf, 0, np.exp(np.maximum(s, 0) - top))
    return exponentials / (np.exp(-top) + exponentials.sum(axis=-1, keepdims=True)) @ v


WEIGHTS = [
    hidden_scores_of_zero,
    hidden_entries_removed,
    minus_infinity_times_the_mask,
    softmax_over_all,
    equal_shares_for_an_empty_row,
]
WRONG = {
    "attention_weights": WEIGHTS,
    "attention": [
        *(from_weights(weigh) for weigh in WEIGHTS),
        scale_per_head,
        no_default_left,
        flattened_batch,
    ],
    "source_attention": [
        roots_of_the_features,
        transposed_values,
        elementwise,
        keys_first,
        root_of_the_weights,
    ],
    "attention_with_rest": [
        one_over_the_output,
        a_further_key_that_is_seen_at_its_mean,
        one_added_to_the_scores,
        one_subtracted_from_the_weights,
        clipped_at_zero,
    ],
    # 4 · 9 · √64 / 64; 4 · 7; 4² · 9; 5 · 8; the largest score
    "score_variance": [4.5, 28, 144, 40, 64],
    # Bias, softcap, scale; mask first; masked late after the wrong product; no weights; no softcap
    "attention_in_order": ["IHEBCAF", "ICBEHAF", "GBEHADF", "IBEHCF", "IBADF"],
}
