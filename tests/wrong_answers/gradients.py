"""Wrong answers to the exercises on gradients by hand, as students write them."""

import math

import numpy as np

from attn_course.reference import attention_weights, softmax


def mean_subtracted(weights, grad_weights):
    """Subtracts the plain mean of the gradient."""
    return weights * (grad_weights - grad_weights.mean(axis=-1, keepdims=True))


def sum_subtracted(weights, grad_weights):
    """Subtracts the sum of the gradient, not its average by weights."""
    return weights * (grad_weights - grad_weights.sum(axis=-1, keepdims=True))


def one_average_for_all(weights, grad_weights):
    """Takes one average over all rows."""
    return weights * (grad_weights - (weights * grad_weights).sum())


def average_down_the_columns(weights, grad_weights):
    """Averages along the first axis."""
    return weights * (grad_weights - (weights * grad_weights).sum(axis=0, keepdims=True))


def axis_lost(weights, grad_weights):
    """Drops the axis of the average, which then meets the columns."""
    return weights * (grad_weights - (weights * grad_weights).sum(axis=-1))


def jacobian_of_one_row(weights, grad_weights):
    """Builds the Jacobian of a single row."""
    jacobian = np.diag(weights) - np.outer(weights, weights)
    return jacobian @ grad_weights


def outer_product_alone(weights, grad_weights):
    """Takes away what stands off the diagonal, and forgets the diagonal."""
    return -weights * (weights * grad_weights).sum(axis=-1, keepdims=True)


def weights_outside_forgotten(weights, grad_weights):
    """Subtracts the average and does not multiply by the weights."""
    return grad_weights - (weights * grad_weights).sum(axis=-1, keepdims=True)


def average_after_the_slope(weights, grad_weights):
    """Keeps the slope of the program, and subtracts the average as well."""
    slope = weights * (1 - weights) * grad_weights
    return slope - weights * (weights * grad_weights).sum(axis=-1, keepdims=True)


def other_sign(weights, grad_weights):
    """Returns the negative gradient, the direction of descent."""
    return weights * ((weights * grad_weights).sum(axis=-1, keepdims=True) - grad_weights)


def divided_by_the_sum(weights, grad_weights):
    """Divides by the sum of the weights again, which is 0 in an empty row."""
    total = weights.sum(axis=-1, keepdims=True)
    average = (weights * grad_weights).sum(axis=-1, keepdims=True) / total
    return weights * (grad_weights - average)


def scale_forgotten(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Forgets the scale on the way back."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    grad_w = grad_output @ v.mT
    grad_s = w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def scale_in_one_alone(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Scales the gradient of the queries, not that of the keys."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return s * grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def cap_not_differentiated(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Takes the softcap on the way there and not on the way back."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def slope_of_the_cap_from_raw(
    q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None
):
    """Takes the slope of tanh at scores that are not divided by the softcap."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def slope_of_the_cap_with_the_bias(
    q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None
):
    """Adds the bias before it takes the slope of tanh."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh((s * q @ k.mT + bias) / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def slope_of_each_weight_alone(
    q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None
):
    """Goes through softmax by w (1 - w)."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_s = s * w * (1 - w) * (grad_output @ v.mT)
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def average_over_the_queries(
    q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None
):
    """Sums over the queries where the sum is over the keys."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-2, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def options_forgotten(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Recomputes the weights with the mask alone."""
    w = attention_weights(q, k, mask)
    grad_w = grad_output @ v.mT
    grad_s = w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True)) / math.sqrt(q.shape[-1])
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def all_axes_transposed(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Transposes by `.T`, which turns the batch around as well."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.T
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.T / softcap) ** 2)
    return grad_s @ k, grad_s.T @ q, w.T @ grad_output


def square_weights(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Forgets to transpose the weights, which goes unseen where they are square."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s @ q, w @ grad_output


def values_first(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Returns the gradients in the order in which they are found."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return w.mT @ grad_output, grad_s @ k, grad_s.mT @ q


def scaled_by_the_values(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Takes the width of the values for that of the queries on the way back."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(v.shape[-1]) if scale is None else scale
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def scale_taken_as_true(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Takes a scale of 0 for none."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = scale or 1 / math.sqrt(q.shape[-1])
    grad_w = grad_output @ v.mT
    grad_s = s * w * (grad_w - (w * grad_w).sum(axis=-1, keepdims=True))
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def by_log_weights(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Divides by the weights on the way, which are 0 where nothing is seen."""
    w = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    s = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    grad_log = w * (grad_output @ v.mT)
    grad_s = s * (grad_log / w - grad_log.sum(axis=-1, keepdims=True)) * w
    if softcap is not None:
        grad_s = grad_s * (1 - np.tanh(s * q @ k.mT / softcap) ** 2)
    return grad_s @ k, grad_s.mT @ q, w.mT @ grad_output


def not_squared(scores, grad_weights, temperature):
    """Divides by the temperature once."""
    a = softmax(scores / temperature)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return -(grad * scores).sum(axis=-1) / temperature


def hotter_is_more(scores, grad_weights, temperature):
    """Forgets the minus."""
    a = softmax(scores / temperature)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return (grad * scores).sum(axis=-1) / temperature**2


def weights_at_one(scores, grad_weights, temperature):
    """Takes the weights at temperature 1."""
    a = softmax(scores)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return -(grad * scores).sum(axis=-1) / temperature**2


def softmax_skipped(scores, grad_weights, temperature):
    """Takes the gradient of the weights for that of the scores."""
    return -(grad_weights * scores).sum(axis=-1) / temperature**2


def average_left_out(scores, grad_weights, temperature):
    """Multiplies by the weights and subtracts no average."""
    a = softmax(scores / temperature)
    return -(a * grad_weights * scores).sum(axis=-1) / temperature**2


def sum_of_all_rows(scores, grad_weights, temperature):
    """Adds the rows, since they share the temperature."""
    a = softmax(scores / temperature)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return -(grad * scores).sum() / temperature**2


def axis_kept(scores, grad_weights, temperature):
    """Keeps the last axis."""
    a = softmax(scores / temperature)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return -(grad * scores).sum(axis=-1, keepdims=True) / temperature**2


def divided_twice(scores, grad_weights, temperature):
    """Divides the scores by the temperature, and by its square once more."""
    scores = scores / temperature
    a = softmax(scores)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return -(grad * scores).sum(axis=-1) / temperature**2


def one_whole_unit(scores, grad_weights, temperature):
    """Raises the temperature by a whole unit and takes the difference."""
    change = softmax(scores / (temperature + 1)) - softmax(scores / temperature)
    return (change * grad_weights).sum(axis=-1)


def mean_over_the_scores(scores, grad_weights, temperature):
    """Takes the mean over the scores for their sum."""
    a = softmax(scores / temperature)
    grad = a * (grad_weights - (a * grad_weights).sum(axis=-1, keepdims=True))
    return -(grad * scores).mean(axis=-1) / temperature**2


WRONG = {
    # Not scaled; by the width; values without their average; w (1 - w) alone; keys left out; keys
    # and scale left out; turned around; weights that do not change
    "query_slope": [7.5, 0.46875, 6.25, 3.125, 0.625, 2.5, -1.875, 0],
    "scores_gradient": [
        mean_subtracted,
        sum_subtracted,
        one_average_for_all,
        average_down_the_columns,
        axis_lost,
        jacobian_of_one_row,
        outer_product_alone,
        weights_outside_forgotten,
        average_after_the_slope,
        other_sign,
        divided_by_the_sum,
    ],
    "attention_backward": [
        scale_forgotten,
        scale_in_one_alone,
        cap_not_differentiated,
        slope_of_the_cap_from_raw,
        slope_of_the_cap_with_the_bias,
        slope_of_each_weight_alone,
        average_over_the_queries,
        options_forgotten,
        all_axes_transposed,
        square_weights,
        values_first,
        scaled_by_the_values,
        scale_taken_as_true,
        by_log_weights,
    ],
    "temperature_gradient": [
        not_squared,
        hotter_is_more,
        weights_at_one,
        softmax_skipped,
        average_left_out,
        sum_of_all_rows,
        axis_kept,
        divided_twice,
        one_whole_unit,
        mean_over_the_scores,
    ],
}
