"""Wrong answers to the exercises on scores, as students write them."""

import math

import numpy as np


def side_by_side(q, k, w_q, w_k, v):
    """Adds query i to key j by repeating both alike, so that each query meets one key."""
    queries, keys = q.shape[-2], k.shape[-2]
    asked = np.repeat(q @ w_q, keys, axis=-2)
    offered = np.repeat(k @ w_k, queries, axis=-2)
    return (np.tanh(asked + offered) @ v).reshape(*q.shape[:-1], keys)


def axes_exchanged(q, k, w_q, w_k, v):
    """Exchanges the new axes and reshapes."""
    hidden = np.tanh((q @ w_q)[..., None, :, :] + (k @ w_k)[..., :, None, :])
    return (hidden @ v).reshape(*q.shape[:-1], k.shape[-2])


def v_inside(q, k, w_q, w_k, v):
    """Multiplies by v before tanh and sums after it."""
    inner = (q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :]
    return np.tanh(inner * v).sum(axis=-1)


def already_weights(q, k, w_q, w_k, v):
    """Normalizes the scores, which was not asked for."""
    scores = np.tanh((q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :]) @ v
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def one_projection(q, k, w_q, w_k, v):
    """Projects the keys by the matrix of the queries."""
    return np.tanh((q @ w_q)[..., :, None, :] + (k @ w_q)[..., None, :, :]) @ v


def arctangent(q, k, w_q, w_k, v):
    """Takes arctan for tanh."""
    return np.arctan((q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :]) @ v


def a_small_number_added(q, k):
    """Adds a small number to every length, which bends all cosines."""
    q = q / (np.linalg.norm(q, axis=-1, keepdims=True) + 1e-3)
    k = k / (np.linalg.norm(k, axis=-1, keepdims=True) + 1e-3)
    return q @ k.swapaxes(-1, -2)


def ones_for_zeros(q, k):
    """Gives a vector of zeros the cosine 1."""
    products = q @ k.swapaxes(-1, -2)
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return np.where(lengths == 0, 1, products / np.where(lengths == 0, 1, lengths))


def largest_entry_one(q, k):
    """Divides by the largest entry of each vector."""
    q, k = (x / np.where(x == 0, 1, np.abs(x).max(axis=-1, keepdims=True)) for x in (q, k))
    return q @ k.swapaxes(-1, -2)


def nearness(q, k):
    """Returns one minus the cosine, a distance."""
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return 1 - q @ k.swapaxes(-1, -2) / np.where(lengths == 0, 1, lengths)


def product_of_the_squares_of_one(q, k):
    """Divides by the squared length of the query, as a projection does."""
    squares = (q**2).sum(axis=-1, keepdims=True)
    return q @ k.swapaxes(-1, -2) / np.where(squares == 0, 1, squares)


def not_negative(q, k):
    """Drops the sign of the cosine."""
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return np.abs(q @ k.swapaxes(-1, -2)) / np.where(lengths == 0, 1, lengths)


def keys_alone_centered(q, k):
    """Subtracts the mean of the keys alone before it takes the cosine."""
    k = k - k.mean(axis=-1, keepdims=True)
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return q @ k.swapaxes(-1, -2) / np.where(lengths == 0, 1, lengths)


def mean_after_the_length(q, k):
    """Divides by the lengths first and subtracts the means then."""
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    q, k = (x - x.mean(axis=-1, keepdims=True) for x in (q, k))
    return q @ k.swapaxes(-1, -2)


def correlation_of_ranks(q, k):
    """Correlates ranks."""
    q, k = (x.argsort(axis=-1).argsort(axis=-1).astype(float) for x in (q, k))
    q, k = (x - x.mean(axis=-1, keepdims=True) for x in (q, k))
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return q @ k.swapaxes(-1, -2) / lengths


def one_for_equal_entries(q, k):
    """Gives a vector of equal entries the correlation 1."""
    q, k = (x - x.mean(axis=-1, keepdims=True) for x in (q, k))
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return np.where(lengths == 0, 1, q @ k.swapaxes(-1, -2) / np.where(lengths == 0, 1, lengths))


def median_for_the_mean(q, k):
    """Subtracts the median."""
    q, k = (x - np.median(x, axis=-1, keepdims=True) for x in (q, k))
    lengths = np.linalg.norm(q, axis=-1)[..., :, None] * np.linalg.norm(k, axis=-1)[..., None, :]
    return q @ k.swapaxes(-1, -2) / np.where(lengths == 0, 1, lengths)


def expanded_with_one_product(q, k, scale=1.0):
    """Expands the square and takes the product once, not twice."""
    squares = (q**2).sum(axis=-1)[..., :, None] + (k**2).sum(axis=-1)[..., None, :]
    return -scale * (squares - q @ k.swapaxes(-1, -2)) / 2


def sum_before_the_square(q, k, scale=1.0):
    """Sums the differences first and squares then."""
    steps = q[..., :, None, :] - k[..., None, :, :]
    return -scale * steps.sum(axis=-1) ** 2 / 2


def one_key_for_each_query(q, k, scale=1.0):
    """Subtracts row from row, so that query i meets key i alone."""
    n = min(q.shape[-2], k.shape[-2])
    squares = ((q[..., :n, :] - k[..., :n, :]) ** 2).sum(axis=-1)
    return np.broadcast_to(-scale * squares[..., :1, None] / 2, (*q.shape[:-1], k.shape[-2]))


def a_kernel(q, k, scale=1.0):
    """Takes the exponential already."""
    steps = q[..., :, None, :] - k[..., None, :, :]
    return np.exp(-scale * (steps**2).sum(axis=-1) / 2)


def scale_squared(q, k, scale=1.0):
    """Multiplies the differences by the scale and squares it with them."""
    steps = scale * (q[..., :, None, :] - k[..., None, :, :])
    return -(steps**2).sum(axis=-1) / 2


def root_of_the_width(q, k, scale=1.0):
    """Divides by the root of the width, as with a dot product."""
    steps = q[..., :, None, :] - k[..., None, :, :]
    return -scale * (steps**2).sum(axis=-1) / 2 / math.sqrt(q.shape[-1])


WRONG = {
    "additive_scores": [
        side_by_side,
        axes_exchanged,
        v_inside,
        already_weights,
        one_projection,
        arctangent,
    ],
    "angle_scores": [
        a_small_number_added,
        ones_for_zeros,
        largest_entry_one,
        nearness,
        product_of_the_squares_of_one,
        not_negative,
    ],
    "correlation_scores": [
        keys_alone_centered,
        mean_after_the_length,
        correlation_of_ranks,
        one_for_equal_entries,
        median_for_the_mean,
    ],
    "distance_scores": [
        expanded_with_one_product,
        sum_before_the_square,
        one_key_for_each_query,
        a_kernel,
        scale_squared,
        root_of_the_width,
    ],
    # Both added; hidden by hidden; a ratio; sides added, not multiplied; two matrices and no v
    "score_parameters": [2304 + 1940, 2304 - 400, 2304 / 1940, 2304 - 136, 4608 - 1920],
}
