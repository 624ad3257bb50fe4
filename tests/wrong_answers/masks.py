"""Wrong answers to the exercises on masks, as students write them."""

import numpy as np


def triangle_of_numbers(queries, keys):
    """Returns a triangle of 1 and 0 that is aligned at the first key."""
    return np.tril(np.ones((queries, keys)))


def upper_triangle(queries, keys):
    """Takes the upper triangle for the lower one."""
    return np.triu(np.ones((queries, keys), dtype=bool), keys - queries)


def offset_turned_around(queries, keys):
    """Moves the diagonal to the wrong side."""
    return np.tri(queries, keys, queries - keys, dtype=bool)


def square_of_keys(queries, keys):
    """Returns the mask of the whole text, one row a key."""
    return np.tri(keys, dtype=bool)


def first_query_sees_all(queries, keys):
    """Lets queries that stand before the first key see the first key."""
    mask = np.tri(queries, keys, keys - queries, dtype=bool)
    mask[:, :1] = True
    return mask


def last_query_alone(queries, keys):
    """Lets every query see what the last one sees."""
    return np.ones((queries, 1), dtype=bool) & (np.arange(keys) < keys)


def window_in_blocks_of_keys(queries, keys, window):
    """Compares the numbers of blocks, not distances."""
    positions = np.arange(queries)[:, None] + keys - queries
    return (np.arange(keys) <= positions) & (np.arange(keys) // window == positions // window)


def distance_without_sign(queries, keys, window):
    """Takes the size of the distance."""
    positions = np.arange(queries)[:, None] + keys - queries
    return np.abs(np.arange(keys) - positions) < window


def window_of_the_text(queries, keys, window):
    """Lets every query see the last keys of the text."""
    mask = np.tri(queries, keys, keys - queries, dtype=bool)
    return mask & (np.arange(keys) >= keys - window)


def window_at_the_start(queries, keys, window):
    """Lets every query see the first keys."""
    mask = np.tri(queries, keys, keys - queries, dtype=bool)
    return mask & (np.arange(keys) < window)


def or_for_and(queries, keys, window):
    """Combines past and window by or."""
    ahead = np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)
    return (ahead <= 0) | (ahead > -window)


def wrapped_around(queries, keys, window):
    """Lets the window reach around the start to the end of the text."""
    ahead = np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)
    return (-ahead) % max(keys, 1) < window


def rows_and_columns(lengths, keys):
    """Hides padding as key and as query, in a square."""
    real = np.arange(keys) < lengths[..., None]
    return (real[..., :, None] & real[..., None, :])[..., None, :, :]


def sum_of_lengths(lengths, keys):
    """Takes the lengths for ends in one long text."""
    ends = np.cumsum(lengths).reshape(lengths.shape)
    return np.arange(keys) < ends[..., None, None, None]


def numbers_of_lengths(lengths, keys):
    """Counts how many real keys each sequence has left, as numbers."""
    return np.maximum(0, lengths[..., None, None, None] - np.arange(keys))


def axes_at_the_end(lengths, keys):
    """Puts the new axes behind the keys."""
    return (np.arange(keys) < lengths[..., None])[..., None, None]


def only_the_first_length(lengths, keys):
    """Uses the first length for all sequences."""
    first = np.full(lengths.shape, lengths.ravel()[0])
    return np.arange(keys) < first[..., None, None, None]


def batch_last(lengths, keys):
    """Compares lengths with positions the other way round: keys before sequences."""
    return (np.arange(keys)[:, None, None, None] < lengths.ravel()).reshape(keys, 1, 1, -1)


def real_rows_too(lengths, n):
    """Hides the rows of padding as well."""
    real = np.arange(n) < lengths[:, None]
    return np.tri(n, dtype=bool) & real[:, None, :] & real[:, :, None]


def added(lengths, n):
    """Adds the masks: plus is `|` for boolean arrays."""
    return np.tri(n, dtype=bool) + (np.arange(n) < lengths[:, None])[:, None, :]


def inverse_of_both(lengths, n):
    """Returns True where a query may not look."""
    return ~(np.tri(n, dtype=bool) & (np.arange(n) < lengths[:, None])[:, None, :])


def last_key_always(lengths, n):
    """Lets every query see itself, even in the padding."""
    mask = np.tri(n, dtype=bool) & (np.arange(n) < lengths[:, None])[:, None, :]
    return mask | np.eye(n, dtype=bool)


def causal_by_length(lengths, n):
    """Moves the diagonal by the padding."""
    return np.stack([np.tri(n, n, length - n, dtype=bool) for length in lengths])


def one_mask_for_all(lengths, n):
    """Makes the shortest sequence the measure of all."""
    shortest = np.arange(n) < lengths.min()
    return np.broadcast_to(np.tri(n, dtype=bool) & shortest, (len(lengths), n, n))


def neighbors_of_one_document(documents):
    """Compares each token with the one before it alone."""
    n = len(documents)
    same = np.diff(documents, prepend=documents[:1] - 1) == 0
    return np.tri(n, dtype=bool) & same


def not_the_first_token(documents):
    """Hides the first token of each document."""
    first = np.array([d not in documents[:i] for i, d in enumerate(documents)])
    mask = np.tri(len(documents), dtype=bool) & (documents[:, None] == documents)
    return mask & ~first


def documents_within_the_next(documents):
    """Lets tokens see later documents and not later tokens."""
    return np.tri(len(documents), dtype=bool) & (documents[:, None] <= documents)


def exclusive_or(documents):
    """Combines past and document by exclusive or."""
    return np.tri(len(documents), dtype=bool) ^ (documents[:, None] == documents)


def sorted_first(documents):
    """Sorts the documents, and with them the tokens."""
    documents = np.sort(documents)
    return np.tri(len(documents), dtype=bool) & (documents[:, None] == documents)


WRONG = {
    "causal_mask": [
        triangle_of_numbers,
        upper_triangle,
        offset_turned_around,
        square_of_keys,
        first_query_sees_all,
        last_query_alone,
    ],
    "window_mask": [
        window_in_blocks_of_keys,
        distance_without_sign,
        window_of_the_text,
        window_at_the_start,
        or_for_and,
        wrapped_around,
    ],
    "padding_mask": [
        rows_and_columns,
        sum_of_lengths,
        numbers_of_lengths,
        axes_at_the_end,
        only_the_first_length,
        batch_last,
    ],
    "causal_padding_mask": [
        real_rows_too,
        added,
        inverse_of_both,
        last_key_always,
        causal_by_length,
        one_mask_for_all,
    ],
    "packed_mask": [
        neighbors_of_one_document,
        not_the_first_token,
        documents_within_the_next,
        exclusive_or,
        sorted_first,
    ],
    # 7 rows of all keys; what lies before the queries; the hidden ones of the whole; a share; 7 · 7
    "pairs_seen": [70, 24, 45, 0.85, 49],
}
