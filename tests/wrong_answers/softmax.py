"""Wrong answers to the exercises on softmax, as students write them."""

import numpy as np


def shifted_by_the_mean(x, axis=-1, temperature=1.0):
    """Subtracts the mean, which does not keep large scores from overflowing."""
    z = (x - x.mean(axis=axis, keepdims=True)) / temperature
    exponentials = np.exp(z)
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def temperature_on_the_weights(x, axis=-1, temperature=1.0):
    """Divides the finished weights by the temperature."""
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return np.nan_to_num(exponentials / exponentials.sum(axis=axis, keepdims=True)) / temperature


def a_small_number_below(x, axis=-1, temperature=1.0):
    """Adds a small number to the sum, so that the weights fall short of 1."""
    top = x.max(axis=axis, keepdims=True, initial=-np.inf)
    exponentials = np.exp((x - np.where(top == -np.inf, 0, top)) / temperature)
    return exponentials / (exponentials.sum(axis=axis, keepdims=True) + 1e-3)


def shares_of_what_is_above_the_least(x, axis=-1, temperature=1.0):
    """Lifts all scores above 0 and takes shares of them."""
    lifted = (x - x.min(axis=axis, keepdims=True, initial=np.inf)) / temperature
    return lifted / lifted.sum(axis=axis, keepdims=True)


def lost_axis(x, axis=-1, temperature=1.0):
    """Sums without keepdims, so that rows are divided by the sums of other rows."""
    exponentials = np.exp((x - x.max(axis=axis, keepdims=True, initial=-np.inf)) / temperature)
    return exponentials / exponentials.sum(axis=axis)


def cut_off_at_a_hundred(x, axis=-1, temperature=1.0):
    """Keeps exp from overflowing by cutting the scores off."""
    exponentials = np.exp(np.clip(x / temperature, -100, 100))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def empty_row_shared(x, axis=-1, temperature=1.0):
    """Gives every key of a row of -inf the same weight."""
    top = x.max(axis=axis, keepdims=True, initial=-np.inf)
    shifted = np.where(top == -np.inf, 0, x - np.where(top == -np.inf, 0, top))
    exponentials = np.exp(shifted / temperature)
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def rows_with_the_mean(scores):
    """Subtracts the mean of each row."""
    exponentials = np.exp(scores - scores.mean(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rows_by_the_first(scores):
    """Subtracts the first score of each row, which need not be the largest."""
    exponentials = np.exp(scores - scores[..., :1])
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def columns(scores):
    """Takes maxima and sums of the columns."""
    top = scores.max(axis=0)
    exponentials = np.exp(scores - np.where(top == -np.inf, 0, top))
    return exponentials / exponentials.sum(axis=0)


def rows_that_add_up_at_the_end(scores):
    """Writes what is missing to a sum of 1 into the last weight, even where there is none."""
    top = scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = exponentials.sum(axis=-1, keepdims=True)
    weights = exponentials / np.where(total == 0, 1, total)
    weights[..., -1] = 1 - weights[..., :-1].sum(axis=-1)
    return weights


def rows_with_nan_replaced(scores):
    """Hides the trouble: what is NaN becomes 0, in rows that have scores as well."""
    exponentials = np.exp(scores)
    return np.nan_to_num(exponentials / exponentials.sum(axis=-1, keepdims=True))


def log_with_a_floor(x, axis=-1):
    """Adds a small number to the weights, so that the logarithm is never -inf."""
    top = x.max(axis=axis, keepdims=True)
    exponentials = np.exp(x - np.where(top == -np.inf, 0, top))
    total = exponentials.sum(axis=axis, keepdims=True)
    return np.log(exponentials / np.where(total == 0, 1, total) + 1e-12)


def log_one_more(x, axis=-1):
    """Writes log(1 + sum) for the logarithm of the sum."""
    top = x.max(axis=axis, keepdims=True)
    top = np.where(top == -np.inf, 0, top)
    return x - top - np.log1p(np.exp(x - top).sum(axis=axis, keepdims=True))


def log_of_each_term(x, axis=-1):
    """Takes the sum of the logarithms for the logarithm of the sum."""
    return x - x.sum(axis=axis, keepdims=True)


def log_against_the_others(x, axis=-1):
    """Leaves the score itself out of the sum: the logarithm of the odds."""
    top = x.max(axis=axis, keepdims=True)
    exponentials = np.exp(x - np.where(top == -np.inf, 0, top))
    weights = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return np.log(weights) - np.log1p(-weights)


def log_of_the_absolute(x, axis=-1):
    """Takes the logarithm of the scores' sizes."""
    return np.log(np.abs(x)) - np.log(np.abs(x).sum(axis=axis, keepdims=True))


def compared_with_the_mean(x, w):
    """Compares each datum with the mean of the data and not with w."""
    scores = x @ x.mean(axis=0)
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def an_entry_at_a_time(x, w):
    """Takes a softmax for every entry, and their mean."""
    scores = x * w
    exponentials = np.exp(scores - scores.max(axis=0))
    return (exponentials / exponentials.sum(axis=0)).mean(axis=1)


def lengths_instead_of_products(x, w):
    """Weighs the data by their lengths."""
    length = np.linalg.norm(x, axis=1)
    return np.exp(length) / np.exp(length).sum()


def the_same_for_all(x, w):
    """Divides the 1 that each datum gets by the number of data."""
    return np.full(len(x), 1 / len(x))


def counted_up(x, w):
    """Sums the terms up to each datum."""
    scores = x @ w
    exponentials = np.exp(scores - scores.max())
    return np.cumsum(exponentials / exponentials.sum())


WRONG = {
    "softmax": [
        shifted_by_the_mean,
        temperature_on_the_weights,
        a_small_number_below,
        shares_of_what_is_above_the_least,
        lost_axis,
        cut_off_at_a_hundred,
        empty_row_shared,
    ],
    "row_weights": [
        rows_with_the_mean,
        rows_by_the_first,
        columns,
        rows_that_add_up_at_the_end,
        rows_with_nan_replaced,
    ],
    "log_softmax": [
        log_with_a_floor,
        log_one_more,
        log_of_each_term,
        log_against_the_others,
        log_of_the_absolute,
    ],
    "weights_of_data": [
        compared_with_the_mean,
        an_entry_at_a_time,
        lengths_instead_of_products,
        the_same_for_all,
        counted_up,
    ],
    # The temperature taken twice; the first weight; odds; against the second; odds at 1
    "weight_at_temperature": [8**0.5 / (1 + 3**0.5 + 8**0.5), 1 / 12, 8 / 4, 8 / 3, 64 / 10],
}
