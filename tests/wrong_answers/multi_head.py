"""Wrong answers to the exercises on many heads, as students write them."""

import numpy as np

from attn_course.reference import attention


def heads_after_tokens(x, heads):
    """Cuts the rows and leaves the axes in their order."""
    *batch, n, width = x.shape
    return x.reshape(*batch, n, heads, width // heads)


def every_so_many_columns(x, heads):
    """Deals the columns out in turn: head 0 gets each heads-th."""
    *batch, n, width = x.shape
    return np.moveaxis(x.reshape(*batch, n, width // heads, heads), -1, -3)


def heads_before_the_batch(x, heads):
    """Stacks the pieces along a new first axis."""
    return np.stack(np.split(x, heads, axis=-1))


def axes_from_the_left(x, heads):
    """Exchanges axes 1 and 2, which are the right ones with one batch axis alone."""
    *batch, n, width = x.shape
    return x.reshape(*batch, n, heads, width // heads).swapaxes(1, 2)


def without_a_batch(x, heads):
    """Takes the array for a single sequence."""
    n, width = x.shape[-2:]
    return x.reshape(n, heads, width // heads).transpose(1, 0, 2)


def pieces_transposed(x, heads):
    """Exchanges tokens and columns as well."""
    *batch, n, width = x.shape
    return x.mT.reshape(*batch, heads, width // heads, n)


def one_head_unchanged(x, heads):
    """Returns the rows as they are if there is one head."""
    if heads == 1:
        return x
    return np.stack(np.split(x, heads, axis=-1), axis=-3)


def last_piece_first(x, heads):
    """Counts heads from the end of the row."""
    return np.stack(np.split(x, heads, axis=-1)[::-1], axis=-3)


def tokens_cut(x, heads):
    """Cuts the sequence into pieces, not the rows."""
    return np.stack(np.array_split(x, heads, axis=-2), axis=-3)


def dealt_in_turn(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Gives query head h the key head h modulo their number."""
    heads = np.arange(q.shape[-3]) % k.shape[-3]
    k, v = k[..., heads, :, :], v[..., heads, :, :]
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def values_dealt_in_turn(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Repeats the keys head by head, and the values all together."""
    group = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, group, axis=-3), np.concatenate([v] * group, axis=-3)
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def group_of_kept_heads(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Divides the number of a query head by the number of key heads, not by the group's size."""
    heads = np.minimum(np.arange(q.shape[-3]) // k.shape[-3], k.shape[-3] - 1)
    k, v = k[..., heads, :, :], v[..., heads, :, :]
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def first_key_head_for_all(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Gives every query head key head 0."""
    k, v = (np.repeat(x[..., :1, :, :], q.shape[-3], axis=-3) for x in (k, v))
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def repeated_along_the_keys(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Repeats the axis before the last, that of keys."""
    group = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, group, axis=-2), np.repeat(v, group, axis=-2)
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def repeated_along_axis_zero(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Takes the first axis for that of heads."""
    group = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def grouped_without_the_mask_grouped(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Gives the groups of queries an axis, and neither mask nor bias."""
    *batch, heads, queries, d = q.shape
    kept = k.shape[-3]
    q = q.reshape(*batch, kept, heads // kept, queries, d)
    k, v = k[..., None, :, :], v[..., None, :, :]
    k = np.broadcast_to(k, (*q.shape[:-2], *k.shape[-2:]))
    v = np.broadcast_to(v, (*q.shape[:-2], *v.shape[-2:]))
    out = attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)
    return out.reshape(*batch, heads, queries, -1)


def queries_averaged(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Takes the mean of the queries of a group, and leaves mask and bias out."""
    *batch, heads, queries, d = q.shape
    kept = k.shape[-3]
    q = q.reshape(*batch, kept, heads // kept, queries, d).mean(axis=-3)
    out = attention(q, k, v, scale=scale, softcap=softcap)
    return np.repeat(out, heads // kept, axis=-3)


def options_left_out(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Hands on the mask alone."""
    group = q.shape[-3] // k.shape[-3]
    return attention(q, np.repeat(k, group, axis=-3), np.repeat(v, group, axis=-3), mask)


def scaled_by_the_joined_width(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Scales by the width of all heads together."""
    heads, d = q.shape[-3], q.shape[-1]
    k, v = (np.repeat(x, heads // x.shape[-3], axis=-3) for x in (k, v))
    scale = (heads * d) ** -0.5 if scale is None else scale
    return attention(q, k, v, mask, bias=bias, scale=scale, softcap=softcap)


def distant_heads_averaged(w, heads, kept):
    """Averages heads that lie `kept` apart."""
    d = len(w)
    return w.reshape(d, heads // kept, kept, -1).mean(axis=1).reshape(d, -1)


def columns_of_a_head_averaged(w, heads, kept):
    """Averages neighboring columns, not the same columns of neighboring heads."""
    d = len(w)
    return w.reshape(d, kept, -1, heads // kept).mean(axis=-1).reshape(d, -1)


def rows_averaged(w, heads, kept):
    """Averages groups of rows."""
    return w.reshape(-1, heads // kept, w.shape[1]).mean(axis=1)


def groups_of_kept(w, heads, kept):
    """Makes groups of `kept` heads each, one group too few or too many."""
    d = len(w)
    return w.reshape(d, heads // kept, kept, -1).mean(axis=2).reshape(d, -1)


def sum_of_the_group(w, heads, kept):
    """Adds the heads of a group."""
    d = len(w)
    return w.reshape(d, kept, heads // kept, -1).sum(axis=2).reshape(d, -1)


def first_of_the_group(w, heads, kept):
    """Keeps the first head of each group."""
    d = len(w)
    return w.reshape(d, kept, heads // kept, -1)[:, :, 0].reshape(d, -1)


def one_number_a_group(w, heads, kept):
    """Averages over the width as well."""
    return w.reshape(len(w), kept, -1).mean(axis=-1)


def width_of_a_square(w, heads, kept):
    """Takes the heads to share the width of a row."""
    d = len(w)
    return w.reshape(d, kept, heads // kept, d // heads).mean(axis=2).reshape(d, -1)


def repeated_afterwards(w, heads, kept):
    """Repeats the mean for every head of its group."""
    d = len(w)
    mean = w.reshape(d, kept, heads // kept, -1).mean(axis=2, keepdims=True)
    return np.repeat(mean, heads // kept, axis=2).reshape(d, -1)


def mean_of_means(w, heads, kept):
    """Halves the number of heads until few enough are left."""
    d = len(w)
    w = w.reshape(d, heads, -1)
    while w.shape[1] > kept:
        w = (w[:, ::2] + w[:, 1::2]) / 2
    return w.reshape(d, -1)


WRONG = {
    # All heads alike; no output; keys without values; biases; one head of keys; the way out as
    # narrow as the keys; as many key heads as share one; every head as wide as a row
    "grouped_parameters": [
        4 * 288 * 288,
        288 * 288 + 2 * 288 * 48,
        2 * 288 * 288 + 288 * 48,
        2 * (288 * 288 + 288) + 2 * (288 * 48 + 48),
        2 * 288 * 288 + 2 * 288 * 16,
        288 * 288 + 2 * 288 * 48 + 48 * 288,
        2 * 288 * 288 + 2 * 288 * (18 // 3) * 16,
        2 * 288 * 288 + 2 * 3 * 288 * 288,
    ],
    "split_heads": [
        heads_after_tokens,
        every_so_many_columns,
        heads_before_the_batch,
        axes_from_the_left,
        without_a_batch,
        pieces_transposed,
        one_head_unchanged,
        last_piece_first,
        tokens_cut,
    ],
    "grouped_query_attention": [
        dealt_in_turn,
        values_dealt_in_turn,
        group_of_kept_heads,
        first_key_head_for_all,
        repeated_along_the_keys,
        repeated_along_axis_zero,
        grouped_without_the_mask_grouped,
        queries_averaged,
        options_left_out,
        scaled_by_the_joined_width,
    ],
    "mean_key_heads": [
        distant_heads_averaged,
        columns_of_a_head_averaged,
        rows_averaged,
        groups_of_kept,
        sum_of_the_group,
        first_of_the_group,
        one_number_a_group,
        width_of_a_square,
        repeated_afterwards,
        mean_of_means,
    ],
}
