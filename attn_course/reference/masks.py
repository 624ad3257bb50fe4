"""Who may look where. Each mask in two forms: an array, and a function of positions.

An array is True where a query may look at a key. A function, named `..._mod`, is asked with
indices of batch, head, query and key, and answers alike: FlexAttention's `mask_mod`. Masks
combine with `&` and `|`.

Where there are fewer queries than keys the queries are the last ones: query i of q stands at
position ``i + keys - queries`` (bottom-right alignment, as in decoding with a cache).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

from attn_course.arguments import (
    check_documents,
    check_integers,
    check_lengths,
    check_rank,
    check_size,
)

MaskMod = Callable[..., object]


def causal_mask(queries: int, keys: int) -> Bool[np.ndarray, "queries keys"]:
    """Let each query see the keys up to its own position, none after it.

    >>> causal_mask(2, 3)
    array([[ True,  True, False],
           [ True,  True,  True]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative.

    Source:
        Vaswani et al. (2017), section 3.2.3.
    """
    ahead = _keys_ahead(queries, keys)
    return ahead <= 0


def causal_mod(queries: int, keys: int) -> MaskMod:
    """Return `causal_mask` as a function of positions."""
    offset = _offset(queries, keys)
    return lambda b, h, i, j: j <= i + offset


def window_mask(queries: int, keys: int, window: int) -> Bool[np.ndarray, "queries keys"]:
    """Let each query see the last `window` keys up to its own position, its own included.

    >>> window_mask(3, 3, 2)
    array([[ True, False, False],
           [ True,  True, False],
           [False,  True,  True]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative, or `window` is less than 1.

    Source:
        Jiang et al. (2023), section 2; two-sided, Beltagy, Peters and Cohan (2020), section 3.1.
    """
    window = check_size("window", window, minimum=1)
    ahead = _keys_ahead(queries, keys)
    return (ahead <= 0) & (ahead > -window)


def window_mod(queries: int, keys: int, window: int) -> MaskMod:
    """Return `window_mask` as a function of positions."""
    window = check_size("window", window, minimum=1)
    offset = _offset(queries, keys)
    window = min(window, keys)  # a larger one lets no more through, and may be too large for torch
    return lambda b, h, i, j: (j <= i + offset) & (j > i + offset - window)


def prefix_mask(queries: int, keys: int, prefix: int) -> Bool[np.ndarray, "queries keys"]:
    """Let every query see the first `prefix` keys, and beyond them only the past.

    >>> prefix_mask(3, 3, 2)
    array([[ True,  True, False],
           [ True,  True, False],
           [ True,  True,  True]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative.

    Source:
        Raffel et al. (2020), section 3.2.1, "prefix LM".
    """
    prefix = check_size("prefix", prefix)
    return causal_mask(queries, keys) | (np.arange(keys) < prefix)


def prefix_mod(queries: int, keys: int, prefix: int) -> MaskMod:
    """Return `prefix_mask` as a function of positions."""
    prefix = check_size("prefix", prefix)
    offset = _offset(queries, keys)
    prefix = min(prefix, keys)  # as in `window_mod`
    return lambda b, h, i, j: (j <= i + offset) | (j < prefix)


def padding_mask(lengths: Int[np.ndarray, "*b"], keys: int) -> Bool[np.ndarray, "*b 1 1 keys"]:
    """Let every query of sequence b see its first ``lengths[b]`` keys; the rest are padding.

    The two axes of size 1 stand for heads and queries.

    >>> padding_mask(np.array([1, 3]), 3)[:, 0, 0]
    array([[ True, False, False],
           [ True,  True,  True]])

    Raises:
        TypeError: `lengths` is no integer array, or `keys` no integer.
        ValueError: `lengths` has no axis, or a length is negative or above `keys`.
    """
    keys = check_lengths(np.ndarray, lengths, keys)
    return np.arange(keys) < lengths[..., None, None, None]


def padding_mod(lengths: Int[np.ndarray, " b"]) -> MaskMod:
    """Return `padding_mask` as a function of positions."""
    check_integers(np.ndarray, lengths=lengths)
    check_rank(1, "(batch,)", maximum=1, lengths=lengths)
    return lambda b, h, i, j: j < lengths[b]


def document_mask(
    query_documents: Int[np.ndarray, "*b i"], key_documents: Int[np.ndarray, "*b j"]
) -> Bool[np.ndarray, "*b 1 i j"]:
    """Let each query see the keys of its own document, where several are packed into a sequence.

    The axis of size 1 stands for heads.

    >>> document_mask(np.array([[0, 0, 1]]), np.array([[0, 0, 1]]))[0, 0]
    array([[ True,  True, False],
           [ True,  True, False],
           [False, False,  True]])

    Raises:
        TypeError: an argument is no integer array.
        ValueError: an argument has fewer than two axes, or their batches differ.

    Source:
        Krell et al. (2021).
    """
    check_documents(np.ndarray, query_documents, key_documents)
    return query_documents[..., None, :, None] == key_documents[..., None, None, :]


def document_mod(
    query_documents: Int[np.ndarray, "b i"], key_documents: Int[np.ndarray, "b j"]
) -> MaskMod:
    """Return `document_mask` as a function of positions."""
    check_documents(np.ndarray, query_documents, key_documents, maximum=2)
    return lambda b, h, i, j: query_documents[b, i] == key_documents[b, j]


def _offset(queries: int, keys: int) -> int:
    return check_size("keys", keys) - check_size("queries", queries)


def _keys_ahead(queries: int, keys: int) -> Int[np.ndarray, "queries keys"]:
    offset = _offset(queries, keys)
    return np.arange(keys) - (np.arange(queries)[:, None] + offset)
