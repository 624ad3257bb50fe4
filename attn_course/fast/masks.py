"""Who may look where, in torch: see `attn_course.reference.masks`.

The functions of positions that need no array are the reference's own: they hold no numbers but
sizes, and work on indices of either library.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attn_course.arguments import (
    check_documents,
    check_integers,
    check_lengths,
    check_rank,
    check_size,
)
from attn_course.reference.masks import MaskMod, causal_mod, prefix_mod, window_mod

__all__ = [
    "causal_mask",
    "causal_mod",
    "document_mask",
    "document_mod",
    "padding_mask",
    "padding_mod",
    "prefix_mask",
    "prefix_mod",
    "window_mask",
    "window_mod",
]

Device = torch.device | str | None


def causal_mask(queries: int, keys: int, *, device: Device = None) -> Bool[Tensor, "queries keys"]:
    """Let each query see the keys up to its own position, none after it.

    As `attn_course.reference.causal_mask`.

    >>> causal_mask(2, 3)
    tensor([[ True,  True, False],
            [ True,  True,  True]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative.
    """
    return _evaluated(causal_mod(queries, keys), queries, keys, device)


def window_mask(
    queries: int, keys: int, window: int, *, device: Device = None
) -> Bool[Tensor, "queries keys"]:
    """Let each query see the last `window` keys up to its own position, its own included.

    As `attn_course.reference.window_mask`.

    >>> window_mask(3, 3, 2)
    tensor([[ True, False, False],
            [ True,  True, False],
            [False,  True,  True]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative, or `window` is less than 1.
    """
    return _evaluated(window_mod(queries, keys, window), queries, keys, device)


def prefix_mask(
    queries: int, keys: int, prefix: int, *, device: Device = None
) -> Bool[Tensor, "queries keys"]:
    """Let every query see the first `prefix` keys, and beyond them only the past.

    As `attn_course.reference.prefix_mask`.

    >>> prefix_mask(3, 3, 2)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [ True,  True,  True]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative.
    """
    return _evaluated(prefix_mod(queries, keys, prefix), queries, keys, device)


def padding_mask(lengths: Int[Tensor, "*b"], keys: int) -> Bool[Tensor, "*b 1 1 keys"]:
    """Let every query of sequence b see its first ``lengths[b]`` keys; the rest are padding.

    As `attn_course.reference.padding_mask`, on the device of `lengths`.

    >>> padding_mask(torch.tensor([1, 3]), 3)[:, 0, 0]
    tensor([[ True, False, False],
            [ True,  True,  True]])

    Raises:
        TypeError: `lengths` is no integer tensor, or `keys` no integer.
        ValueError: `lengths` has no axis, or a length is negative or above `keys`.
    """
    keys = check_lengths(Tensor, lengths, keys)
    return torch.arange(keys, device=lengths.device) < lengths[..., None, None, None]


def padding_mod(lengths: Int[Tensor, " b"]) -> MaskMod:
    """Return `padding_mask` as a function of positions."""
    check_integers(Tensor, lengths=lengths)
    check_rank(1, "(batch,)", maximum=1, lengths=lengths)
    return lambda b, h, i, j: j < lengths[b]


def document_mask(
    query_documents: Int[Tensor, "*b i"], key_documents: Int[Tensor, "*b j"]
) -> Bool[Tensor, "*b 1 i j"]:
    """Let each query see the keys of its own document, where several are packed into a sequence.

    As `attn_course.reference.document_mask`.

    >>> document_mask(torch.tensor([[0, 0, 1]]), torch.tensor([[0, 0, 1]]))[0, 0]
    tensor([[ True,  True, False],
            [ True,  True, False],
            [False, False,  True]])

    Raises:
        TypeError: an argument is no integer tensor.
        ValueError: an argument has fewer than two axes, or their batches differ.
    """
    check_documents(Tensor, query_documents, key_documents)
    return query_documents[..., None, :, None] == key_documents[..., None, None, :]


def document_mod(query_documents: Int[Tensor, "b i"], key_documents: Int[Tensor, "b j"]) -> MaskMod:
    """Return `document_mask` as a function of positions."""
    check_documents(Tensor, query_documents, key_documents, maximum=2)
    return lambda b, h, i, j: query_documents[b, i] == key_documents[b, j]


def _evaluated(mod: MaskMod, queries: int, keys: int, device: Device):
    i = torch.arange(check_size("queries", queries), device=device)[:, None]
    j = torch.arange(check_size("keys", keys), device=device)
    return mod(0, 0, i, j)
