"""Wrong answers to the exercises on the block, as students write them."""

import math

import numpy as np

from attn_course.reference import attention, rms_norm


def epsilon_outside_the_root(x, weight, bias, eps=1e-5):
    """Adds eps to the standard deviation."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / (x.std(axis=-1, keepdims=True) + eps) * weight + bias


def no_epsilon(x, weight, bias, eps=1e-5):
    """Leaves eps out."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / x.std(axis=-1, keepdims=True) * weight + bias


def epsilon_of_its_own(x, weight, bias, eps=1e-5):
    """Uses 1e-5 whatever eps is."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5) * weight + bias


def divided_by_the_variance(x, weight, bias, eps=1e-5):
    """Takes no root."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / (x.var(axis=-1, keepdims=True) + eps) * weight + bias


def columns_normalized(x, weight, bias, eps=1e-5):
    """Normalizes each column over the rows, as batch normalization does."""
    mean = x.mean(axis=0, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=0, keepdims=True) + eps) * weight + bias


def all_numbers_normalized(x, weight, bias, eps=1e-5):
    """Takes one mean and one variance of the whole array."""
    return (x - x.mean()) / np.sqrt(x.var() + eps) * weight + bias


def rows_along_axis_one(x, weight, bias, eps=1e-5):
    """Takes axis 1 for the last."""
    mean = x.mean(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=1, keepdims=True) + eps) * weight + bias


def bias_before_weight(x, weight, bias, eps=1e-5):
    """Shifts before it multiplies."""
    mean = x.mean(axis=-1, keepdims=True)
    return ((x - mean) / np.sqrt(x.var(axis=-1, keepdims=True) + eps) + bias) * weight


def squares_of_the_rows(x, weight, bias, eps=1e-5):
    """Takes the mean square, not of the differences, for the variance."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = (x**2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def divided_by_one_more(x, weight, bias, eps=1e-5):
    """Corrects the number of squares in the wrong direction."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = x.var(axis=-1, keepdims=True, ddof=-1)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def sum_of_squares(x, weight=None, eps=1e-6):
    """Divides by the length of the row."""
    length = np.sqrt((x**2).sum(axis=-1, keepdims=True) + eps)
    return x / length if weight is None else x / length * weight


def mean_removed(x, weight=None, eps=1e-6):
    """Subtracts the mean first."""
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    return x if weight is None else x * weight


def mean_square_around_the_mean(x, weight=None, eps=1e-6):
    """Divides by the standard deviation."""
    x = x / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return x if weight is None else x * weight


def mean_of_sizes(x, weight=None, eps=1e-6):
    """Divides by the mean of the absolute values."""
    x = x / (np.abs(x).mean(axis=-1, keepdims=True) + eps)
    return x if weight is None else x * weight


def truth_of_an_array(x, weight=None, eps=1e-6):
    """Asks whether the array of weights is true."""
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    return x * weight if weight else x


def weight_must_be_given(x, weight=None, eps=1e-6):
    """Multiplies by the weight even if there is none."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * weight


def epsilon_as_a_floor(x, weight=None, eps=1e-6):
    """Lets the root be no smaller than eps."""
    x = x / np.maximum(np.sqrt((x**2).mean(axis=-1, keepdims=True)), eps)
    return x if weight is None else x * weight


def epsilon_in_each_square(x, weight=None, eps=1e-6):
    """Adds eps to each number before it is squared."""
    x = x / np.sqrt(((x + eps) ** 2).mean(axis=-1, keepdims=True))
    return x if weight is None else x * weight


def one_root_for_all(x, weight=None, eps=1e-6):
    """Takes the mean square of the whole array."""
    x = x / np.sqrt((x**2).mean() + eps)
    return x if weight is None else x * weight


def axis_dropped(x, weight=None, eps=1e-6):
    """Drops the axis of the mean, so that rows are divided by those of others."""
    x = x / np.sqrt((x**2).mean(axis=-1) + eps)
    return x if weight is None else x * weight


def one_plus_weight(x, weight=None, eps=1e-6):
    """Multiplies by 1 + weight, as Gemma does."""
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    return x if weight is None else x * (1 + weight)


def sigmoid_alone(x, w_gate, w_up, w_down):
    """Gates by the sigmoid without its argument."""
    gate, up = x @ w_gate, x @ w_up
    hidden = up / (1 + np.exp(-gate))
    return hidden @ w_down


def silu_of_the_other(x, w_gate, w_up, w_down):
    """Puts the wrong product through silu."""
    gate, up = x @ w_gate, x @ w_up
    hidden = gate * up / (1 + np.exp(-up))
    return hidden @ w_down


def silu_of_both(x, w_gate, w_up, w_down):
    """Puts both products through silu."""
    gate, up = x @ w_gate, x @ w_up
    hidden = gate / (1 + np.exp(-gate)) * up / (1 + np.exp(-up))
    return hidden @ w_down


def silu_of_the_product(x, w_gate, w_up, w_down):
    """Multiplies first and takes silu of that."""
    hidden = (x @ w_gate) * (x @ w_up)
    return hidden / (1 + np.exp(-hidden)) @ w_down


def sign_lost(x, w_gate, w_up, w_down):
    """Forgets the minus in the exponent."""
    gate, up = x @ w_gate, x @ w_up
    return (gate / (1 + np.exp(gate)) * up) @ w_down


def added_not_multiplied(x, w_gate, w_up, w_down):
    """Adds the two halves."""
    gate, up = x @ w_gate, x @ w_up
    return (gate / (1 + np.exp(-gate)) + up) @ w_down


def gated_after_the_way_down(x, w_gate, w_up, w_down):
    """Takes both products down before they meet."""
    gate, up = x @ w_gate, x @ w_up
    return (gate / (1 + np.exp(-gate)) @ w_down) * (up @ w_down)


def precedence(x, w_gate, w_up, w_down):
    """Divides by 1 and adds the exponential, for want of parentheses."""
    gate, up = x @ w_gate, x @ w_up
    return (gate / 1 + np.exp(-gate)) * up @ w_down


def gate_by_relu(x, w_gate, w_up, w_down):
    """Takes relu for silu."""
    return (np.maximum(x @ w_gate, 0) * (x @ w_up)) @ w_down


def gate_by_gelu(x, w_gate, w_up, w_down):
    """Takes gelu for silu."""
    gate, up = x @ w_gate, x @ w_up
    gelu = gate / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    return gelu * up @ w_down


def hidden_returned(x, w_gate, w_up, w_down):
    """Returns the hidden units and forgets the way down."""
    gate, up = x @ w_gate, x @ w_up
    return gate / (1 + np.exp(-gate)) * up


def overflowing_sigmoid(x, w_gate, w_up, w_down):
    """Computes the sigmoid as a share of exponentials, which overflows."""
    gate, up = x @ w_gate, x @ w_up
    return gate * np.exp(gate) / (1 + np.exp(gate)) * up @ w_down


def one_after_the_other(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Lets the network read what attention has added to."""
    h = rms_norm(x)
    x = x + attention(h @ w_q, h @ w_k, h @ w_v) @ w_o
    return x + np.maximum(rms_norm(x) @ w_1, 0) @ w_2


def network_reads_attention(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Lets the network read the output of attention."""
    h = rms_norm(x)
    a = attention(h @ w_q, h @ w_k, h @ w_v) @ w_o
    return x + a + np.maximum(a @ w_1, 0) @ w_2


def normalized_rows_kept(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Adds to the normalized rows, as x is overwritten."""
    x = rms_norm(x)
    return x + attention(x @ w_q, x @ w_k, x @ w_v) @ w_o + np.maximum(x @ w_1, 0) @ w_2


def rows_added_twice(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Adds the rows once for each branch."""
    h = rms_norm(x)
    a = x + attention(h @ w_q, h @ w_k, h @ w_v) @ w_o
    return a + x + np.maximum(h @ w_1, 0) @ w_2


def network_reads_the_rows(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Lets the network read rows that were not normalized."""
    h = rms_norm(x)
    return x + attention(h @ w_q, h @ w_k, h @ w_v) @ w_o + np.maximum(x @ w_1, 0) @ w_2


def queries_alone_normalized(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Makes keys and values of rows that were not normalized."""
    h = rms_norm(x)
    return x + attention(h @ w_q, x @ w_k, x @ w_v) @ w_o + np.maximum(h @ w_1, 0) @ w_2


def relu_at_the_end(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Takes relu of the network's result."""
    h = rms_norm(x)
    return x + attention(h @ w_q, h @ w_k, h @ w_v) @ w_o + np.maximum(h @ w_1 @ w_2, 0)


def relu_of_the_sum(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Takes relu of the result of both branches."""
    h = rms_norm(x)
    both = attention(h @ w_q, h @ w_k, h @ w_v) @ w_o + np.maximum(h @ w_1, 0) @ w_2
    return x + np.maximum(both, 0)


def without_the_rows(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Adds the branches and forgets the rows."""
    h = rms_norm(x)
    return attention(h @ w_q, h @ w_k, h @ w_v) @ w_o + np.maximum(h @ w_1, 0) @ w_2


def mean_of_the_branches(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Takes the mean of the two branches."""
    h = rms_norm(x)
    both = attention(h @ w_q, h @ w_k, h @ w_v) @ w_o + np.maximum(h @ w_1, 0) @ w_2
    return x + both / 2


def normalized_at_the_end(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Normalizes the sum, not what the branches read."""
    attended = attention(x @ w_q, x @ w_k, x @ w_v) @ w_o
    return rms_norm(x + attended + np.maximum(x @ w_1, 0) @ w_2)


def scaled_by_the_rows(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Scales scores by the width of the rows, not of the queries."""
    h = rms_norm(x)
    scale = 1 / math.sqrt(x.shape[-1])
    attended = attention(h @ w_q, h @ w_k, h @ w_v, scale=scale) @ w_o
    return x + attended + np.maximum(h @ w_1, 0) @ w_2


WRONG = {
    # No biases; no output projection; one norm; no norms; each head as wide as a row; no biases
    # in the network; heads without the way together; weights and biases of norms as four numbers
    "layer_parameters": [
        4 * 96**2 + 2 * 96 * 384 + 4 * 96,
        3 * (96**2 + 96) + 2 * 96 * 384 + 384 + 96 + 4 * 96,
        4 * (96**2 + 96) + 2 * 96 * 384 + 384 + 96 + 2 * 96,
        4 * (96**2 + 96) + 2 * 96 * 384 + 384 + 96,
        6 * 3 * (96**2 + 96) + 6 * 96 * 96 + 96 + 2 * 96 * 384 + 384 + 96 + 4 * 96,
        4 * (96**2 + 96) + 2 * 96 * 384 + 4 * 96,
        4 * (96 * 16 + 16) + 2 * 96 * 384 + 384 + 96 + 4 * 96,
        4 * (96**2 + 96) + 2 * 96 * 384 + 384 + 96 + 4,
    ],
    "layer_norm": [
        epsilon_outside_the_root,
        no_epsilon,
        epsilon_of_its_own,
        divided_by_the_variance,
        columns_normalized,
        all_numbers_normalized,
        rows_along_axis_one,
        bias_before_weight,
        squares_of_the_rows,
        divided_by_one_more,
    ],
    "rms_norm": [
        sum_of_squares,
        mean_removed,
        mean_square_around_the_mean,
        mean_of_sizes,
        truth_of_an_array,
        weight_must_be_given,
        epsilon_as_a_floor,
        epsilon_in_each_square,
        one_root_for_all,
        axis_dropped,
        one_plus_weight,
    ],
    "swiglu": [
        sigmoid_alone,
        silu_of_the_other,
        silu_of_both,
        silu_of_the_product,
        sign_lost,
        added_not_multiplied,
        gated_after_the_way_down,
        precedence,
        gate_by_relu,
        gate_by_gelu,
        hidden_returned,
        overflowing_sigmoid,
    ],
    # Attention not added; the network not added; the network first; both norms at once; rows
    # normalized first, at the end; attention before its norm; rows normalized between; no sums
    "transformer_block": [
        "BCFAD",
        "BHFGD",
        "FABHD",
        "BFHAD",
        "EBHFAD",
        "BHFAED",
        "HBFAD",
        "BHEFAD",
        "BCFGD",
    ],
    "parallel_block": [
        one_after_the_other,
        network_reads_attention,
        normalized_rows_kept,
        rows_added_twice,
        network_reads_the_rows,
        queries_alone_normalized,
        relu_at_the_end,
        relu_of_the_sum,
        without_the_rows,
        mean_of_the_branches,
        normalized_at_the_end,
        scaled_by_the_rows,
    ],
}
