"""Pooling by one query and kernel regression: the first example, laws, limits, bad arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from libraries import converted, refuses
from tolerance import assert_equal64

from attn_course import fast, reference

X = np.arange(1.0, 10.0).reshape(3, 3)
HALVES = np.full(3, 0.5)


@pytest.mark.parametrize("library", [reference, fast])
def test_first_example(library):
    x, query = converted(library, X, HALVES)
    pooled = library.attention_pooling(x, query)
    expected = [6.9663109605, 7.9663109605, 8.9663109605]
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-10)


@given(st.integers(0, 999), st.integers(1, 7))
def test_pooling_is_attention_of_one_query(seed, n):
    rng = np.random.default_rng(seed)
    x, query = rng.standard_normal((2, n, 3)), rng.standard_normal(3)
    mask = rng.random((2, n)) < 0.7
    pooled = reference.attention_pooling(x, query, mask, scale=0.4)
    q = np.broadcast_to(query, (2, 1, 3))
    assert_equal64(pooled, reference.attention(q, x, x, mask[:, None], scale=0.4)[:, 0])
    order = rng.permutation(n)
    assert_equal64(
        reference.attention_pooling(x[:, order], query, mask[:, order], scale=0.4), pooled
    )


@pytest.mark.parametrize("library", [reference, fast])
def test_a_sequence_without_rows_gives_zeros(library):
    make = np.ones if library is reference else torch.ones
    for x, mask in (((2, 0, 3), True), ((2, 4, 3), False)):
        np.testing.assert_array_equal(library.attention_pooling(make(x), make(3), mask), 0)


def test_module_learns_its_query(device):
    torch.manual_seed(0)
    pool = fast.AttentionPooling(5).to(device)
    x = torch.randn(2, 3, 5, device=device)
    mask = torch.tensor([[True, True, False], [False, False, False]], device=device)
    out = pool(x, mask)
    assert torch.equal(out, fast.attention_pooling(x, pool.query, mask))
    out.sum().backward()
    assert pool.query.grad.isfinite().all()
    assert pool.query.grad.abs().sum() > 0
    assert (out[1] == 0).all()


def test_kernel_weights_by_hand():
    weights = reference.kernel_weights(np.array([[0.0]]), np.array([[0.0], [2.0]]), bandwidth=2.0)
    near = 1 / (1 + np.exp(-0.5))
    assert_equal64(weights, [[near, 1 - near]])


@given(st.integers(0, 999), st.integers(1, 6), st.floats(0.1, 5))
def test_kernel_weights_are_attention_with_a_bias(seed, n, bandwidth):
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((n, 3)), rng.standard_normal((n + 1, 3))
    # -|q - k|² / 2 = q·k - |k|² / 2 - |q|² / 2, and the last term is the same for every key.
    bias = -(k**2).sum(axis=-1)[None, :] / (2 * bandwidth**2)
    expected = reference.attention_weights(q, k, bias=bias, scale=bandwidth**-2)
    assert_equal64(reference.kernel_weights(q, k, bandwidth), expected)


def test_bandwidth_goes_from_the_nearest_to_the_mean():
    k = np.array([[0.0], [1.0], [5.0]])
    v = np.array([[1.0], [2.0], [6.0]])
    q = np.array([[0.9]])
    assert_equal64(reference.kernel_regression(q, k, v, 1e-3), [[2.0]])
    np.testing.assert_allclose(reference.kernel_regression(q, k, v, 1e6), [[3.0]], atol=1e-9)


def test_far_queries_still_find_the_nearest():
    k = np.array([[0.0], [1.0]], dtype=np.float32)
    out = reference.kernel_regression(np.array([[1e4]], dtype=np.float32), k, k)
    np.testing.assert_array_equal(out, [[1.0]])


BAD = [
    ("attention_pooling", (X, np.zeros(2)), ValueError, r"query has shape \(2,\), expected \(3,\)"),
    ("attention_pooling", (X, np.zeros((1, 3))), ValueError, r"query has shape \(1, 3\)"),
    ("attention_pooling", (np.zeros(3), HALVES), ValueError, r"x has shape \(3,\)"),
    ("attention_pooling", (X, [1.0]), TypeError, "query is a list"),
    ("attention_pooling", (X, HALVES, np.ones(2, bool)), ValueError, r"mask has shape \(2,\)"),
    ("attention_pooling", (X, HALVES, np.ones(3)), TypeError, "mask has dtype"),
    ("attention_pooling", (X, HALVES[:1]), ValueError, "query has shape"),
    ("kernel_weights", (X, X, np.nan), ValueError, "bandwidth is nan"),
    ("kernel_weights", (X, X, 0.0), ValueError, "bandwidth is 0.0, expected a positive"),
    ("kernel_weights", (X, X[:, :2]), ValueError, "keys have width 2, queries have width 3"),
    ("kernel_regression", (X, X, X[:2]), ValueError, "2 values for 3 keys"),
    ("kernel_regression", (X, X, X, -1.0), ValueError, "bandwidth is -1.0"),
    ("kernel_regression", (X, X, None), TypeError, "v is a NoneType"),
]


test_bad_arguments = refuses(BAD)


def test_module_starts_with_scores_of_variance_one():
    torch.manual_seed(0)
    assert abs(fast.AttentionPooling(10_000).query.std() * 100 - 1) < 0.05


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("width", "error"), [(0, ValueError), (2.5, TypeError)])
def test_bad_width(width, error):
    with pytest.raises(error, match="width is"):
        fast.AttentionPooling(width)
