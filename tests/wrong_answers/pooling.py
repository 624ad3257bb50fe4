"""Wrong answers to the exercises on pooling, as students write them."""

import numpy as np

from attn_course.reference import kernel_weights, softmax


def sum_of_the_weights(x, query, mask=True, *, scale=1.0):
    """Sums the weights, as the first source's recipe says, and multiplies the rows by that."""
    weights = softmax(np.where(mask, scale * (x @ query), -np.inf))
    return weights.sum(axis=-1, keepdims=True) * x.sum(axis=-2)


def each_row_its_own_query(x, query, mask=True, *, scale=1.0):
    """Lets each row ask all rows, and averages the answers."""
    mask = np.broadcast_to(mask, x.shape[:-1])[..., None, :]
    scores = np.where(mask, scale * (x @ x.swapaxes(-1, -2)), -np.inf)
    return (softmax(scores) @ x).mean(axis=-2)


def mean_of_weighted_rows(x, query, mask=True, *, scale=1.0):
    """Takes the mean of the weighted rows where their sum is asked for."""
    weights = softmax(np.where(mask, scale * (x @ query), -np.inf))
    return (weights[..., None] * x).mean(axis=-2)


def hidden_rows_set_to_zero(x, query, mask=True, *, scale=1.0):
    """Replaces hidden rows by zeros, which have the score 0 and still get weight."""
    x = np.where(np.broadcast_to(mask, x.shape[:-1])[..., None], x, 0)
    return (softmax(scale * (x @ query))[..., None] * x).sum(axis=-2)


def softmax_over_the_batch(x, query, mask=True, *, scale=1.0):
    """Normalizes over the first axis."""
    weights = softmax(np.where(mask, scale * (x @ query), -np.inf), axis=0)
    return (weights[..., None] * x).sum(axis=-2)


def query_averaged(x, query, mask=True, *, scale=1.0):
    """Weighs the query, not the rows."""
    weights = softmax(np.where(mask, scale * (x @ query), -np.inf))
    return weights.sum(axis=-1, keepdims=True) * query


def scale_outside(x, query, mask=True, *, scale=1.0):
    """Multiplies the result by the scale, not the scores."""
    weights = softmax(np.where(mask, x @ query, -np.inf))
    return scale * (weights[..., None] * x).sum(axis=-2)


def spread_of_weighted_values(q, k, v, bandwidth):
    """Takes the standard deviation of the weighted values."""
    return (kernel_weights(q, k, bandwidth)[:, :, None] * v).std(axis=1)


def spread_of_the_keys(q, k, v, bandwidth):
    """Measures how far the keys lie from their average, which has another width."""
    weights = kernel_weights(q, k, bandwidth)
    return np.sqrt(np.maximum(0, weights @ k**2 - (weights @ k) ** 2))


def spread_around_the_nearest(q, k, v, bandwidth):
    """Takes the differences from the value of the nearest key."""
    weights = kernel_weights(q, k, bandwidth)
    nearest = v[weights.argmax(axis=1)]
    return np.sqrt(np.einsum("ij,ije->ie", weights, (v - nearest[:, None]) ** 2))


def spread_as_one_number(q, k, v, bandwidth):
    """Sums the squares over the entries of the values as well."""
    weights = kernel_weights(q, k, bandwidth)
    differences = v - (weights @ v)[:, None]
    total = np.einsum("ij,ije->i", weights, differences**2)
    return np.repeat(np.sqrt(total)[:, None], v.shape[1], axis=1)


def sum_of_roots(q, k, v, bandwidth):
    """Takes the root of every term before the sum."""
    weights = kernel_weights(q, k, bandwidth)
    differences = v - (weights @ v)[:, None]
    return np.sqrt(weights[:, :, None] * differences**2).sum(axis=1)


WRONG = {
    "attention_pooling": [
        sum_of_the_weights,
        each_row_its_own_query,
        mean_of_weighted_rows,
        hidden_rows_set_to_zero,
        softmax_over_the_batch,
        query_averaged,
        scale_outside,
    ],
    # The bandwidth after the distances; no steps; weights before distances; the bandwidth before
    # the steps; the wrong sign, and the bandwidth too late; two distances, over the queries
    "kernel_average": ["FDBHC", "BDHC", "FBHDC", "BFDHC", "FDBAC", "FBGDEC"],
    "kernel_spread": [
        spread_of_weighted_values,
        spread_of_the_keys,
        spread_around_the_nearest,
        spread_as_one_number,
        sum_of_roots,
    ],
    # Exponentials averaged; the heaviest term alone; values not weighed; their sum; shares of it
    "pooled_value": [48 / 3, 40 / 8, 13 / 8, 13, 48 / 13],
}
