"""Masks: small ones by hand, both forms equal, FlexAttention's agreement, bad arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from libraries import refuses
from torch.nn.attention.flex_attention import create_mask

from attn_course import fast, reference

sizes = st.integers(0, 9)


def picture(mask):
    return ["".join("x" if seen else "." for seen in row) for row in np.asarray(mask)]


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("causal_mask", (3, 3), ["x..", "xx.", "xxx"]),
        ("causal_mask", (2, 4), ["xxx.", "xxxx"]),
        ("causal_mask", (4, 2), ["..", "..", "x.", "xx"]),
        ("causal_mask", (0, 2), []),
        ("causal_mask", (2, 0), ["", ""]),
        ("window_mask", (4, 4, 2), ["x...", "xx..", ".xx.", "..xx"]),
        ("window_mask", (4, 4, 1), ["x...", ".x..", "..x.", "...x"]),
        ("window_mask", (2, 5, 3), [".xxx.", "..xxx"]),
        ("window_mask", (3, 3, 9), ["x..", "xx.", "xxx"]),
        ("window_mask", (3, 3, 2**64), ["x..", "xx.", "xxx"]),
        ("prefix_mask", (4, 4, 2), ["xx..", "xx..", "xxx.", "xxxx"]),
        ("prefix_mask", (3, 3, 0), ["x..", "xx.", "xxx"]),
        ("prefix_mask", (2, 3, 7), ["xxx", "xxx"]),
        ("prefix_mask", (2, 3, 2**63), ["xxx", "xxx"]),
    ],
)
def test_small_masks(library, name, arguments, expected):
    assert picture(getattr(library, name)(*arguments)) == expected


@pytest.mark.parametrize("library", [reference, fast])
def test_padding_and_documents(library):
    make = np.array if library is reference else torch.tensor
    mask = library.padding_mask(make([0, 2, 3]), 3)
    assert tuple(mask.shape) == (3, 1, 1, 3)
    assert picture(mask[:, 0, 0]) == ["...", "xx.", "xxx"]
    documents = make([[0, 0, 1], [5, 6, 5]])
    mask = library.document_mask(documents, documents)
    assert tuple(mask.shape) == (2, 1, 3, 3)
    assert picture(mask[0, 0]) == ["xx.", "xx.", "..x"]
    assert picture(mask[1, 0]) == ["x.x", ".x.", "x.x"]


def evaluated(mod, batch, queries, keys):
    """Ask `mod` about every position, as FlexAttention does."""
    b, h, i, j = np.ogrid[:batch, :1, :queries, :keys]
    return np.broadcast_to(mod(b, h, i, j), (batch, 1, queries, keys))


@given(sizes, sizes, st.integers(1, 9), st.integers(0, 9))
def test_both_forms_agree(queries, keys, window, prefix):
    for name, arguments in (("causal", ()), ("window", (window,)), ("prefix", (prefix,))):
        mod = getattr(reference, f"{name}_mod")(queries, keys, *arguments)
        array = getattr(reference, f"{name}_mask")(queries, keys, *arguments)
        np.testing.assert_array_equal(evaluated(mod, 1, queries, keys)[0, 0], array)
        torch_array = getattr(fast, f"{name}_mask")(queries, keys, *arguments)
        np.testing.assert_array_equal(torch_array, array)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_both_forms_of_padding_agree(lengths):
    lengths = np.array(lengths)
    array = reference.padding_mask(lengths, 6)
    mod = reference.padding_mod(lengths)
    np.testing.assert_array_equal(evaluated(mod, len(lengths), 1, 6), array)
    np.testing.assert_array_equal(fast.padding_mask(torch.from_numpy(lengths), 6), array)


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 5), st.integers(1, 6))
def test_both_forms_of_documents_agree(seed, batch, queries, keys):
    rng = np.random.default_rng(seed)
    q, k = rng.integers(0, 3, (batch, queries)), rng.integers(0, 3, (batch, keys))
    array = reference.document_mask(q, k)
    mod = reference.document_mod(q, k)
    np.testing.assert_array_equal(evaluated(mod, batch, queries, keys), array)
    np.testing.assert_array_equal(
        fast.document_mask(torch.from_numpy(q), torch.from_numpy(k)), array
    )


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (3, 7), (7, 3)])
def test_flex_attention_takes_the_functions(device, queries, keys):
    lengths = torch.tensor([keys, 1], device=device)
    documents = torch.arange(2 * 7, device=device).reshape(2, 7) // 3
    q, k = documents[:, :queries], documents[:, :keys]
    for mod, array in (
        (fast.causal_mod(queries, keys), fast.causal_mask(queries, keys, device=device)),
        (fast.window_mod(queries, keys, 2), fast.window_mask(queries, keys, 2, device=device)),
        (fast.prefix_mod(queries, keys, 2), fast.prefix_mask(queries, keys, 2, device=device)),
        (fast.padding_mod(lengths), fast.padding_mask(lengths, keys)),
        (fast.document_mod(q, k), fast.document_mask(q, k)),
    ):
        theirs = create_mask(mod, 2, 1, queries, keys, device=device)
        assert torch.equal(theirs, array.expand(2, 1, queries, keys))


def test_masks_combine(device):
    causal, window = fast.causal_mask(6, 6, device=device), fast.window_mask(6, 6, 3, device=device)
    assert torch.equal(causal & window, window)
    assert torch.equal(causal | window, causal)
    assert causal.device.type == torch.device(device).type


def test_masks_are_made_on_the_device_that_is_named():
    for make, sizes in (
        (fast.causal_mask, (2, 3)),
        (fast.window_mask, (2, 3, 1)),
        (fast.prefix_mask, (2, 3, 1)),
    ):
        assert make(*sizes, device="meta").device.type == "meta"


BAD = [
    ("causal_mask", (-1, 3), ValueError, "queries is -1, expected at least 0"),
    ("causal_mask", (3, -1), ValueError, "keys is -1"),
    ("causal_mask", (2.0, 3), TypeError, "queries is 2.0, expected an integer"),
    ("causal_mask", (True, 3), TypeError, "queries is True"),
    ("causal_mod", (3, "3"), TypeError, "keys is a str"),
    ("window_mask", (3, 3, 0), ValueError, "window is 0, expected at least 1"),
    ("window_mask", (3, 3, -2), ValueError, "window is -2"),
    ("window_mask", (3, 3, 1.5), TypeError, "window is 1.5"),
    ("window_mod", (3, 3, 0), ValueError, "window is 0"),
    ("prefix_mask", (3, 3, -1), ValueError, "prefix is -1"),
    ("prefix_mod", (3, 3, -1), ValueError, "prefix is -1"),
    ("padding_mask", ([1, 2], 3), TypeError, "lengths is a list"),
    ("padding_mask", (np.array([1.0]), 3), TypeError, "lengths has dtype .*float64"),
    ("padding_mask", (np.array([True]), 3), TypeError, "lengths has dtype .*bool"),
    ("padding_mask", (np.array([4]), 3), ValueError, "lengths goes from 4 to 4, expected from 0"),
    ("padding_mask", (np.array([-1]), 3), ValueError, "lengths goes from -1"),
    ("padding_mask", (np.array(1), 3), ValueError, r"lengths has shape \(\)"),
    ("padding_mask", (np.array([1]), -3), ValueError, "keys is -3"),
    ("padding_mask", (np.zeros(2, complex), 3), TypeError, "lengths has dtype"),
    ("padding_mod", (np.array([1.0]),), TypeError, "lengths has dtype"),
    ("padding_mod", (np.array(2),), ValueError, r"lengths has shape \(\)"),
    ("padding_mod", (np.array([[2]]),), ValueError, r"lengths has shape \(1, 1\)"),
    ("document_mod", (np.zeros((1, 1, 3), int),) * 2, ValueError, "query_documents has shape"),
    ("document_mask", (np.zeros(3, int), np.zeros(3, int)), ValueError, "query_documents has"),
    ("document_mask", (np.zeros((1, 3)), np.zeros((1, 3), int)), TypeError, "query_documents has"),
    ("document_mask", (np.zeros((1, 3), int), np.zeros((2, 3), int)), ValueError, "key_documents"),
    ("document_mod", (np.zeros((1, 3), int), np.zeros((2, 3), int)), ValueError, "key_documents"),
]


test_bad_arguments = refuses(BAD)
