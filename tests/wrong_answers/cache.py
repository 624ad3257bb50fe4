"""Wrong answers to the exercises on one token at a time, as students write them."""

import numpy as np

from attn_course.reference import attention, causal_mask


def attended_before_stored(q, k, v, keys, values):
    """Lets the query attend to the cache before its own token is in it."""
    out = attention(q, keys, values)
    return out, np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)


def put_in_front(q, k, v, keys, values):
    """Puts the newest token first."""
    keys, values = np.concatenate([k, keys], axis=-2), np.concatenate([v, values], axis=-2)
    return attention(q, keys, values), keys, values


def oldest_pushed_out(q, k, v, keys, values):
    """Drops the oldest token for the newest, so that the cache never grows."""
    keys = np.concatenate([keys[:, 1:], k], axis=-2)
    values = np.concatenate([values[:, 1:], v], axis=-2)
    return attention(q, keys, values), keys, values


def mask_of_the_first_row(q, k, v, keys, values):
    """Uses a triangle whose only row sees the first key alone."""
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    mask = np.tril(np.ones((1, keys.shape[-2]), dtype=bool))
    return attention(q, keys, values, mask), keys, values


def joined_as_heads(q, k, v, keys, values):
    """Appends along the first axis, that of heads."""
    keys, values = np.concatenate([keys, k]), np.concatenate([values, v])
    return attention(q, keys, values), keys, values


def joined_as_coordinates(q, k, v, keys, values):
    """Appends along the last axis, that of coordinates."""
    keys, values = np.concatenate([keys, k], axis=-1), np.concatenate([values, v], axis=-1)
    return attention(q, keys, values), keys, values


def appended_flat(q, k, v, keys, values):
    """Appends without an axis, which makes one long row."""
    keys, values = np.append(keys, k), np.append(values, v)
    return attention(q, keys, values), keys, values


def output_alone(q, k, v, keys, values):
    """Returns the output and forgets the longer cache."""
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    return attention(q, keys, values)


def the_cache_as_it_was(q, k, v, keys, values):
    """Returns the keys and values that were given."""
    longer = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    return attention(q, *longer), keys, values


def nothing_cached_at_the_first_token(q, k, v, keys, values):
    """Treats the first token apart, and does not store it."""
    if keys.shape[-2] == 0:
        return v, keys, values
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    return attention(q, keys, values), keys, values


def keys_for_queries(q, k, v, keys, values):
    """Takes keys for queries, so that every token gets an output."""
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    mask = causal_mask(keys.shape[-2], keys.shape[-2])
    return attention(keys, keys, values, mask)[..., -1:, :], keys, values


def token_axis_lost(q, k, v, keys, values):
    """Returns the output without the axis of the one token."""
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    return attention(q, keys, values)[..., 0, :], keys, values


def diagonal_by_the_new(cached, new):
    """Moves the diagonal by the number of new tokens."""
    return np.tri(new, cached + new, new, dtype=bool)


def diagonal_to_the_left(cached, new):
    """Moves the diagonal to the left."""
    return np.tri(new, cached + new, -cached, dtype=bool)


def one_before(cached, new):
    """Hides each new token from itself."""
    return np.tri(new, cached + new, cached - 1, dtype=bool)


def new_see_each_other(cached, new):
    """Lets new tokens see all new ones."""
    return np.ones((new, cached + new), dtype=bool)


def new_first(cached, new):
    """Puts the columns of the new tokens before those of the cache."""
    return np.hstack([np.tri(new, dtype=bool), np.ones((new, cached), dtype=bool)])


def cache_hidden(cached, new):
    """Lets new tokens see new ones alone."""
    return np.hstack([np.zeros((new, cached), dtype=bool), np.tri(new, dtype=bool)])


def rows_of_the_cache(cached, new):
    """Returns the mask of the whole text, with rows for cached tokens."""
    return np.tri(cached + new, dtype=bool)


def cached_as_queries(cached, new):
    """Takes rows for keys and columns for queries."""
    return np.triu(np.ones((cached + new, new), dtype=bool), -cached)


def in_their_order(written, window):
    """Lists the last positions from the oldest to the newest, as if tokens moved."""
    last = np.arange(max(0, written - window), written)
    return np.pad(last, (0, window - len(last)), constant_values=-1)


def first_ones_stay(written, window):
    """Writes no more once all slots are full."""
    slots = np.arange(window)
    return np.where(slots < written, slots, -1)


def one_token_more(written, window):
    """Writes the token after the last as well."""
    slots = np.full(window, -1)
    for p in range(written + 1):
        slots[p % window] = p
    return slots


def counted_from_one(written, window):
    """Counts positions from 1."""
    slots = np.full(window, -1)
    for p in range(1, written + 1):
        slots[p % window] = p
    return slots


def empty_is_zero(written, window):
    """Leaves 0 in the slots that are empty."""
    slots = np.zeros(window, dtype=int)
    for p in range(written):
        slots[p % window] = p
    return slots


def empty_is_negative(written, window):
    """Lets empty slots hold positions before the text."""
    slots = np.arange(window)
    return written - 1 - (written - 1 - slots) % window


def rounds_of_the_slots(written, window):
    """Returns how often each slot was written, less one."""
    slots = np.arange(window)
    return (written - 1 - slots) // window


def short_of_slots(written, window):
    """Leaves empty slots out."""
    slots = np.arange(min(written, window))
    return slots + (written - 1 - slots) // window * window


def last_round_alone(written, window):
    """Shows what the last time around has written, and the rest as empty."""
    slots = np.arange(window)
    start = written // window * window
    return np.where(start + slots < written, start + slots, -1)


def rolled_the_other_way(written, window):
    """Turns the last positions in the wrong direction."""
    last = np.arange(written - window, written)
    return np.maximum(np.roll(last, -(written % window)), -1)


WRONG = {
    # All heads; no values; bits; one layer; query heads as well; one head; 32 bits
    "cache_bytes": [
        24 * 16 * 2 * 64 * 1000 * 2,
        24 * 4 * 64 * 1000 * 2,
        24 * 4 * 2 * 64 * 1000 * 16,
        4 * 2 * 64 * 1000 * 2,
        24 * (16 + 2 * 4) * 64 * 1000 * 2,
        24 * 2 * 64 * 1000 * 2,
        24 * 4 * 2 * 64 * 1000 * 4,
    ],
    "decode_step": [
        attended_before_stored,
        put_in_front,
        oldest_pushed_out,
        mask_of_the_first_row,
        joined_as_heads,
        joined_as_coordinates,
        appended_flat,
        output_alone,
        the_cache_as_it_was,
        nothing_cached_at_the_first_token,
        keys_for_queries,
        token_axis_lost,
    ],
    "prefill_mask": [
        diagonal_by_the_new,
        diagonal_to_the_left,
        one_before,
        new_see_each_other,
        new_first,
        cache_hidden,
        rows_of_the_cache,
        cached_as_queries,
    ],
    "ring_slots": [
        in_their_order,
        first_ones_stay,
        one_token_more,
        counted_from_one,
        empty_is_zero,
        empty_is_negative,
        rounds_of_the_slots,
        short_of_slots,
        last_round_alone,
        rolled_the_other_way,
    ],
}
