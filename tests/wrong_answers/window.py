"""Wrong answers to the exercises on windows, as students write them."""

import math

import numpy as np

from attn_course.reference import attention, window_mask


def dense_with_a_mask(q, k, v, window, *, scale=None, softcap=None):
    """Forms all scores at once and masks them."""
    mask = window_mask(q.shape[-2], k.shape[-2], window)
    return attention(q, k, v, mask, scale=scale, softcap=softcap)


def blocks_without_the_keys_before(q, k, v, window, *, scale=None, softcap=None):
    """Gives each block of queries the keys at its own positions, and none from before."""
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for start in range(0, q.shape[-2], 64):
        stop = min(start + 64, q.shape[-2])
        seen = slice(max(0, start + offset), max(0, stop + offset))
        mask = window_mask(stop - start, seen.stop - seen.start, window)
        out[..., start:stop, :] = attention(
            q[..., start:stop, :],
            k[..., seen, :],
            v[..., seen, :],
            mask,
            scale=scale,
            softcap=softcap,
        )
    return out


def one_query_at_a_time_from_zero(q, k, v, window, *, scale=None, softcap=None):
    """Takes the number of a query for its position."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(q.shape[-2]):
        seen = slice(max(0, i - window + 1), i + 1)
        out[..., i : i + 1, :] = attention(
            q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], scale=scale, softcap=softcap
        )
    return out


def negative_start(q, k, v, window, *, scale=None, softcap=None):
    """Lets the start of a window become negative, which counts from the end."""
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(q.shape[-2]):
        p = i + offset
        seen = slice(p - window + 1, p + 1)
        out[..., i : i + 1, :] = attention(
            q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], scale=scale, softcap=softcap
        )
    return out


def queries_before_the_text_see_one_key(q, k, v, window, *, scale=None, softcap=None):
    """Moves queries that stand before the first key onto it."""
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(q.shape[-2]):
        p = max(i + offset, 0)
        seen = slice(max(0, p - window + 1), p + 1)
        out[..., i : i + 1, :] = attention(
            q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], scale=scale, softcap=softcap
        )
    return out


def cap_before_the_scale(q, k, v, window, *, scale=None, softcap=None):
    """Scores by hand, and bounds them before they are scaled."""
    offset = k.shape[-2] - q.shape[-2]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(max(0, -offset), q.shape[-2]):
        seen = slice(max(0, i + offset - window + 1), i + offset + 1)
        scores = (k[..., seen, :] @ q[..., i, :, None])[..., 0]
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        weights = np.exp(scale * (scores - scores.max(axis=-1, keepdims=True)))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        out[..., i, :] = (weights[..., None] * v[..., seen, :]).sum(axis=-2)
    return out


def scaled_twice(q, k, v, window, *, scale=None, softcap=None):
    """Multiplies the queries by the scale, and lets attention scale them once more."""
    offset = k.shape[-2] - q.shape[-2]
    q = q * (scale or q.shape[-1] ** -0.5)
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(max(0, -offset), q.shape[-2]):
        seen = slice(max(0, i + offset - window + 1), i + offset + 1)
        out[..., i : i + 1, :] = attention(
            q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], softcap=softcap
        )
    return out


def scale_of_zero_is_none(q, k, v, window, *, scale=None, softcap=None):
    """Takes a scale of 0 for none."""
    offset = k.shape[-2] - q.shape[-2]
    scale = scale or q.shape[-1] ** -0.5
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for i in range(max(0, -offset), q.shape[-2]):
        seen = slice(max(0, i + offset - window + 1), i + offset + 1)
        out[..., i : i + 1, :] = attention(
            q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], scale=scale, softcap=softcap
        )
    return out


def zeros_of_the_shape_of_queries(q, k, v, window, *, scale=None, softcap=None):
    """Makes the result as wide as a query."""
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros_like(q)
    for i in range(max(0, -offset), q.shape[-2]):
        seen = slice(max(0, i + offset - window + 1), i + offset + 1)
        out[..., i : i + 1, :] = attention(
            q[..., i : i + 1, :], k[..., seen, :], v[..., seen, :], scale=scale, softcap=softcap
        )
    return out


def last_block_forgotten(q, k, v, window, *, scale=None, softcap=None):
    """Takes whole blocks alone, so that the queries of the last, shorter one get zeros."""
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for block in range(q.shape[-2] // 4):
        start, stop = 4 * block, 4 * block + 4
        seen = slice(max(0, start + offset - window + 1), max(0, stop + offset))
        mask = window_mask(4, seen.stop - seen.start, window)
        out[..., start:stop, :] = attention(
            q[..., start:stop, :],
            k[..., seen, :],
            v[..., seen, :],
            mask,
            scale=scale,
            softcap=softcap,
        )
    return out


def causal_over_all(queries, keys, window, first):
    """Gives every query all of its past, as soon as any first keys are asked for."""
    mask = window_mask(queries, keys, window)
    past = np.tri(queries, keys, keys - queries, dtype=bool)
    return np.where(first > 0, past, mask)


def queries_from_zero(queries, keys, window, first):
    """Takes the number of a query for its position."""
    i, j = np.arange(queries)[:, None], np.arange(keys)
    return (j <= i) & ((j > i - window) | (j < first))


def first_rows_for_first_columns(queries, keys, window, first):
    """Lets the first queries see their whole past, not all queries the first keys."""
    positions = np.arange(queries)[:, None] + keys - queries
    j = np.arange(keys)
    return (j <= positions) & ((j > positions - window) | (positions < first))


def first_keys_of_the_window(queries, keys, window, first):
    """Takes the first keys out of the window's size."""
    positions = np.arange(queries)[:, None] + keys - queries
    j = np.arange(keys)
    return (j <= positions) & ((j > positions - window + first) | (j < first))


def one_first_key_more(queries, keys, window, first):
    """Counts the first keys from 1."""
    positions = np.arange(queries)[:, None] + keys - queries
    j = np.arange(keys)
    return (j <= positions) & ((j > positions - window) | (j <= first))


def from_row_window_on(queries, keys, window, first):
    """Shows the first keys from row `window` on, as if rows were positions."""
    mask = window_mask(queries, keys, window)
    mask[window:, :first] = True
    return mask


def first_key_alone(queries, keys, window, first):
    """Keeps only key 0 in sight, whatever `first` is."""
    mask = window_mask(queries, keys, window)
    past = np.tri(queries, keys, keys - queries, dtype=bool)
    mask[:, 0] |= past[:, 0] & (first > 0)
    return mask


def window_thinned_out(queries, keys, window, step):
    """Thins the window out, so that it reaches no further than before."""
    behind = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return (behind >= 0) & (behind < window) & (behind % step == 0)


def every_step_th_key(queries, keys, window, step):
    """Leaves out keys by their position, not by their distance."""
    behind = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return (behind >= 0) & (behind < window * step) & (np.arange(keys) % step == 0)


def one_gap_short(queries, keys, window, step):
    """Ends before the last of the keys."""
    behind = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return (behind >= 0) & (behind < (window - 1) * step) & (behind % step == 0)


def step_left_out_between(queries, keys, window, step):
    """Takes the step for the number of keys between two seen ones."""
    behind = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return (behind >= 0) & (behind < window * (step + 1)) & (behind % (step + 1) == 0)


def written_by_index(queries, keys, window, step):
    """Writes True at indices that, before the first key, count from the end."""
    mask = np.zeros((queries, keys), dtype=bool)
    for i in range(queries):
        for m in range(window):
            j = i + keys - queries - m * step
            if -keys <= j < keys:
                mask[i, j] = True
    return mask


def counted_from_the_last_key(queries, keys, window, step):
    """Leaves out columns as counted from the last key, whichever query looks."""
    mask = window_mask(queries, keys, window * step)
    thin = np.zeros_like(mask)
    thin[:, ::-step] = mask[:, ::-step]
    return thin


def both_sides(queries, keys, window, step):
    """Reaches as far ahead as back."""
    behind = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return (np.abs(behind) < window * step) & (behind % step == 0)


WRONG = {
    # Windows side by side; one window; without its own token; one layer fewer; a token more; a tree
    "layers_and_windows": [6 * 32, 32, 6 * 31, 5 * 31 + 1, 6 * 32 + 1, 32**6],
    "window_attention": [
        dense_with_a_mask,
        blocks_without_the_keys_before,
        one_query_at_a_time_from_zero,
        negative_start,
        queries_before_the_text_see_one_key,
        cap_before_the_scale,
        scaled_twice,
        scale_of_zero_is_none,
        zeros_of_the_shape_of_queries,
        last_block_forgotten,
    ],
    "sink_window_mask": [
        causal_over_all,
        queries_from_zero,
        first_rows_for_first_columns,
        first_keys_of_the_window,
        one_first_key_more,
        from_row_window_on,
        first_key_alone,
    ],
    "dilated_window_mask": [
        window_thinned_out,
        every_step_th_key,
        one_gap_short,
        step_left_out_between,
        written_by_index,
        counted_from_the_last_key,
        both_sides,
    ],
}
