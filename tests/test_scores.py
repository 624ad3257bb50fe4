"""The five scores: by hand, by their laws, at their extremes, with bad arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from libraries import converted, refuses
from tolerance import assert_equal64

from attn_course import fast, reference

Q = np.array([[1.0, 2.0], [0.0, -1.0]])
K = np.array([[3.0, 4.0], [0.0, 1.0], [-2.0, 0.0]])


def test_by_hand():
    dot = np.array([[11.0, 2.0, -2.0], [-4.0, -1.0, 0.0]])
    assert_equal64(reference.dot_scores(Q, K), dot)
    assert_equal64(reference.scaled_dot_scores(Q, K), dot / np.sqrt(2))
    assert_equal64(reference.scaled_dot_scores(Q, K, scale=3.0), 3 * dot)
    w = np.array([[0.0, 1.0], [1.0, 0.0]])  # compares each entry with the other's other
    assert_equal64(reference.bilinear_scores(Q, K, w), [[10, 1, -4], [-3, 0, 2]])
    lengths = np.sqrt([[5.0], [1.0]]) * np.array([5.0, 1.0, 2.0])
    assert_equal64(reference.cosine_scores(Q, K), dot / lengths)


def test_additive_by_hand():
    w_q, w_k = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0], [1.0]]) @ np.array([[1.0, 2.0]])
    v = np.array([1.0, 10.0])
    expected = [[np.tanh(q[0] + k[1]) + 10 * np.tanh(2 * k[1]) for k in K] for q in Q]
    assert_equal64(reference.additive_scores(Q, K, w_q, w_k, v), expected)


@given(st.integers(0, 999), st.integers(1, 5), st.integers(1, 6), st.floats(0.1, 10))
def test_laws(seed, i, j, factor):
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, i, 3)), rng.standard_normal((2, j, 3))
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    dot, cosine = reference.dot_scores(q, k), reference.cosine_scores(q, k)
    assert_equal64(reference.dot_scores(q @ rotation, k @ rotation), dot)
    assert_equal64(reference.cosine_scores(q @ rotation, k @ rotation), cosine)
    assert_equal64(reference.dot_scores(factor * q, k), factor * dot)
    assert_equal64(reference.cosine_scores(factor * q, k / factor), cosine)
    assert (np.abs(cosine) <= 1 + 1e-12).all()
    assert_equal64(reference.bilinear_scores(q, k, np.eye(3)), dot)
    a, b = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    assert_equal64(reference.bilinear_scores(q, k, a @ b.T), reference.dot_scores(q @ a, k @ b))


@pytest.mark.parametrize("library", [reference, fast])
def test_the_query_is_scaled_before_the_product(library):
    x = np.full((1, 64), 40, np.float16)  # the plain product, 102400, is above 65504
    (x,) = converted(library, x)
    assert float(library.scaled_dot_scores(x, x)[0, 0]) == 12800


@pytest.mark.parametrize("library", [reference, fast])
def test_cosine_of_wide_rows_in_half_precision(library):
    x = np.ones((1, 70000), np.float16)
    (x,) = converted(library, x)
    np.testing.assert_allclose(library.cosine_scores(x, x), [[1]], rtol=0.02)


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cosine_of_extremes(library, dtype):
    x = np.array([[6e4, 6e4], [6e-6, 6e-6], [0.0, 0.0]], dtype)
    (x,) = converted(library, x)
    scores = np.asarray(library.cosine_scores(x, x))
    np.testing.assert_allclose(scores, [[1, 1, 0], [1, 1, 0], [0, 0, 0]], atol=2e-2)


def test_cosine_of_zeros_has_a_finite_gradient(device):
    q = torch.zeros(2, 3, device=device, requires_grad=True)
    fast.cosine_scores(q, torch.ones(4, 3, device=device)).sum().backward()
    assert q.grad.isfinite().all()


def zeros(*shape):
    return np.zeros(shape)


QK = (zeros(2, 3), zeros(4, 5))
BAD = [
    ("dot_scores", QK, ValueError, "keys have width 5, queries have width 3"),
    ("scaled_dot_scores", (QK[0], QK[0], "1"), TypeError, "scale is a str"),
    ("scaled_dot_scores", (QK[0], QK[0], np.nan), ValueError, "scale is nan"),
    ("cosine_scores", (QK[0], zeros(3)), ValueError, r"k has shape \(3,\)"),
    ("bilinear_scores", (*QK, zeros(5, 3)), ValueError, r"w has shape \(5, 3\), expected \(3, 5\)"),
    ("bilinear_scores", (*QK, None), TypeError, "w is a NoneType"),
    ("bilinear_scores", (QK[0], zeros(4, 0), zeros(3, 0)), ValueError, "k has shape .* width 0"),
    ("additive_scores", (*QK, zeros(3, 7), zeros(5, 7), zeros(6)), ValueError, r"w_q .* \(3, 6\)"),
    ("additive_scores", (*QK, zeros(3, 6), zeros(3, 6), zeros(6)), ValueError, r"w_k .* \(5, 6\)"),
    ("additive_scores", (*QK, zeros(3, 6), zeros(5, 6), zeros(6, 1)), ValueError, "v has shape"),
    ("additive_scores", (*QK, zeros(3, 6), zeros(5, 6), [0.0]), TypeError, "v is a list"),
    (
        "additive_scores",
        (*QK, zeros(3, 6), zeros(5, 6).astype(np.float32), zeros(6)),
        TypeError,
        "w_k has dtype",
    ),
]


test_bad_arguments = refuses(BAD)
