"""attention: the two worked examples, laws, extremes, gradients at the edge, bad arguments."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from libraries import converted
from tolerance import assert_equal64

from attn_course import fast, reference

X = np.arange(1.0, 10.0).reshape(3, 3)
FIRST_QUERY = np.full((1, 3), 0.5)
FIRST_WEIGHTS = [[0.00012203901367, 0.0109856017610, 0.988892359226]]
FIRST_OUTPUT = [[6.9663109605, 7.9663109605, 8.9663109605]]

SECOND_K = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
SECOND_WEIGHTS = [
    [0.3904139456, 0.3904139456, 0.2191721088],
    [0.3904139456, 0.2191721088, 0.3904139456],
    [0.3904139456, 0.2191721088, 0.3904139456],
]
SECOND_OUTPUT = [[3.4862744895, 4.4862744895, 5.4862744895], [4, 5, 6], [4, 5, 6]]

FLOATS = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("library", [reference, fast])
def test_first_example(library):
    q, k = converted(library, FIRST_QUERY, X)
    np.testing.assert_allclose(library.dot_scores(q, k), [[3, 7.5, 12]], rtol=0, atol=1e-10)
    weights = library.attention_weights(q, k, scale=1.0)
    np.testing.assert_allclose(weights, FIRST_WEIGHTS, rtol=0, atol=1e-10)
    output = library.attention(q, k, k, scale=1.0)
    np.testing.assert_allclose(output, FIRST_OUTPUT, rtol=0, atol=1e-10)


@pytest.mark.parametrize("library", [reference, fast])
def test_second_example(library):
    q, k, v = converted(library, np.eye(3), SECOND_K, X)
    weights = library.attention_weights(q, k)
    np.testing.assert_allclose(weights, SECOND_WEIGHTS, rtol=0, atol=1e-10)
    np.testing.assert_allclose(library.attention(q, k, v), SECOND_OUTPUT, rtol=0, atol=1e-10)


def drawn(seed, i, j, d=3, e=2, batch=()):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((*batch, n, width)) for n, width in ((i, d), (j, d), (j, e)))


sizes = st.integers(1, 7)


@given(st.integers(0, 999), sizes, sizes)
def test_permutations(seed, i, j):
    q, k, v = drawn(seed, i, j)
    out = reference.attention(q, k, v)
    rows, columns = (np.random.default_rng(seed).permutation(n) for n in (i, j))
    assert_equal64(reference.attention(q, k[columns], v[columns]), out)
    assert_equal64(reference.attention(q[rows], k, v), out[rows])


@given(st.integers(0, 999), sizes, sizes)
def test_weights_are_a_distribution_and_outputs_lie_among_the_values(seed, i, j):
    q, k, v = drawn(seed, i, j)
    assert_equal64(reference.attention_weights(q, k).sum(axis=-1), np.ones(i))
    out = reference.attention(q, k, v)
    assert (out >= v.min(axis=0) - 1e-12).all()
    assert (out <= v.max(axis=0) + 1e-12).all()


@given(st.integers(0, 999), sizes, st.floats(-5, 5))
def test_shifts(seed, n, shift):
    q, k, v = drawn(seed, n, n)
    out = reference.attention(q, k, v)
    # One vector added to every key adds the same to every score of a query.
    assert_equal64(reference.attention(q, k + shift, v), out)
    assert_equal64(reference.attention(q, k, v, bias=shift), out)
    assert_equal64(reference.attention(q, k, v + shift), out + shift)


@given(st.integers(0, 999), sizes, sizes, st.integers(0, 6))
def test_the_future_does_not_matter(seed, i, j, changed):
    q, k, v = drawn(seed, i, j)
    mask = reference.causal_mask(i, j)
    out = reference.attention(q, k, v, mask)
    changed %= j
    k[changed] += 3
    v[changed] -= 5
    after = reference.attention(q, k, v, mask)
    unaffected = ~mask[:, changed]
    assert_equal64(after[unaffected], out[unaffected])
    if (~unaffected).any():
        assert not np.allclose(after[~unaffected], out[~unaffected])


@given(st.integers(0, 999), sizes, sizes)
def test_removing_a_masked_key_changes_nothing(seed, i, j):
    q, k, v = drawn(seed, i, j)
    mask = np.ones((i, j), dtype=bool)
    mask[:, 0] = False
    assert_equal64(reference.attention(q, k, v, mask), reference.attention(q, k[1:], v[1:]))


def test_order_is_scale_softcap_bias_mask(rng):
    q, k, v = drawn(1, 4, 6)
    bias = rng.standard_normal((4, 6))
    mask = rng.random((4, 6)) < 0.7
    scores = 0.3 * q @ k.T
    scores = 1.5 * np.tanh(scores / 1.5) + bias
    scores = np.where(mask, scores, -np.inf)
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True) @ v
    actual = reference.attention(q, k, v, mask, bias=bias, scale=0.3, softcap=1.5)
    assert_equal64(actual, expected)


@pytest.mark.parametrize("library", [reference, fast])
def test_softcap_and_scale_go_together(library):
    q, k, v = converted(library, *drawn(9, 3, 5))
    weights = np.asarray(library.attention_weights(q, k, scale=0.2, softcap=1.0))
    scores = np.tanh(0.2 * np.asarray(q) @ np.asarray(k).T)
    exponentials = np.exp(scores)
    assert_equal64(weights, exponentials / exponentials.sum(axis=-1, keepdims=True))
    assert_equal64(library.attention(q, k, v, scale=0.2, softcap=1.0), weights @ np.asarray(v))


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_of_numpy_change_no_dtype(library, dtype):
    q, k, v = converted(library, *(array.astype(dtype) for array in drawn(10, 3, 5)))
    two = np.float64(2)
    out = library.attention(q, k, v, bias=two, scale=two, softcap=two)
    assert out.dtype == q.dtype
    assert library.attention_pooling(q, q[0], scale=two).dtype == q.dtype


@pytest.mark.parametrize("library", [reference, fast])
def test_a_bias_is_converted_to_the_dtype_of_the_queries(library):
    q = np.ones((1, 2), np.float16)
    bias = np.full((1, 1), -1e5, np.float32)  # -inf in float16
    q, bias = converted(library, q, bias)
    np.testing.assert_array_equal(library.attention_weights(q, q, bias=bias), 0)
    np.testing.assert_array_equal(library.attention(q, q, q, bias=bias), 0)
    np.testing.assert_array_equal(library.attention(q, q, q, bias=bias, softcap=2.0), 0)


@pytest.mark.parametrize("library", [reference, fast])
def test_a_masked_key_of_nan_has_weight_0(library):
    q, k, _ = drawn(11, 2, 3)
    k[0] = np.nan
    q, k, mask = converted(library, q, k, np.array([[False, True, True]]))
    weights = np.asarray(library.attention_weights(q, k, mask))
    np.testing.assert_array_equal(weights[:, 0], 0)
    assert_equal64(weights.sum(axis=-1), [1, 1])


def test_values_of_inf_propagate_without_a_warning():
    column = np.ones((2, 1))
    out = reference.attention(column, column, np.array([[np.inf], [1.0]]), np.array([False, True]))
    assert np.isnan(out).all()


def test_batches_are_independent():
    q, k, v = drawn(2, 3, 5, batch=(2, 4))
    mask = np.random.default_rng(3).random((2, 1, 3, 5)) < 0.6
    out = reference.attention(q, k, v, mask)
    assert out.shape == (2, 4, 3, 2)
    for b, h in np.ndindex(2, 4):
        assert_equal64(out[b, h], reference.attention(q[b, h], k[b, h], v[b, h], mask[b, 0]))


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
def test_extreme_scores(library, dtype):
    q = np.array([[100.0, 0.0], [-100.0, 0.0], [0.0, 0.0]], dtype)
    k = np.array([[100.0, 0.0], [-100.0, 0.0]], dtype)  # scores of ±1e4
    v = np.array([[1.0], [3.0]], dtype)
    q, k, v = converted(library, q, k, v)
    before = copy.deepcopy((q, k, v))
    out = library.attention(q, k, v, scale=1.0)
    np.testing.assert_allclose(out, [[1], [3], [2]], atol=1e-3)
    assert out.dtype == q.dtype
    for array, was in zip((q, k, v), before, strict=True):
        np.testing.assert_array_equal(array, was)


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_empty_rows_are_zeros(library, dtype, softcap):
    q, k, v = (array.astype(dtype) for array in drawn(4, 3, 5))
    mask = np.ones((3, 5), dtype=bool)
    mask[1] = False
    q, k, v, mask = converted(library, q, k, v, mask)
    out = library.attention(q, k, v, mask, softcap=softcap)
    np.testing.assert_array_equal(out[1], 0)
    assert (np.asarray(out[[0, 2]]) != 0).all()
    np.testing.assert_array_equal(library.attention(q, k, v, False, softcap=softcap), 0)
    blocked = np.zeros((3, 5), dtype)
    blocked[1] = -np.inf
    (bias,) = converted(library, blocked)
    again = library.attention(q, k, v, bias=bias, softcap=softcap)
    np.testing.assert_allclose(again, out, rtol=1e-5)


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("i", "j"), [(0, 4), (3, 0), (0, 0)])
def test_no_queries_or_no_keys(library, dtype, i, j):
    q, k, v = converted(library, *(array.astype(dtype) for array in drawn(5, i, j, batch=(2,))))
    out = library.attention(q, k, v)
    assert tuple(out.shape) == (2, i, 2)
    np.testing.assert_array_equal(out, 0)
    assert tuple(library.attention_weights(q, k).shape) == (2, i, j)
    mask = library.causal_mask(i, j)
    assert tuple(library.attention(q, k, v, mask).shape) == (2, i, 2)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_of_empty_rows_are_zeros(device, softcap, dtype):
    q, k, v = (
        torch.from_numpy(array).to(device, dtype).requires_grad_() for array in drawn(6, 3, 5)
    )
    mask = torch.ones(3, 5, dtype=torch.bool, device=device)
    mask[1] = False
    mask[:, 2] = False
    fast.attention(q, k, v, mask, softcap=softcap).sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all()
    assert (q.grad[1] == 0).all()
    assert (k.grad[2] == 0).all()
    assert (v.grad[2] == 0).all()
    assert (v.grad[[0, 1, 3, 4]] != 0).all()


def test_non_finite_inputs_propagate():
    q, k, v = drawn(7, 2, 3)
    q[0, 0] = np.nan
    for library in (reference, fast):
        out = np.asarray(library.attention(*converted(library, q, k, v)))
        assert np.isnan(out[0]).all()
        assert np.isfinite(out[1]).all()


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


Q, K, V = zeros(3, 4), zeros(5, 4), zeros(5, 2)
BAD = [
    ((Q, zeros(5, 6), V), {}, ValueError, "keys have width 6, queries have width 4"),
    ((Q, K, zeros(6, 2)), {}, ValueError, "6 values for 5 keys"),
    ((zeros(4), K, V), {}, ValueError, r"q has shape \(4,\), expected \(\.\.\., queries, width\)"),
    ((Q, zeros(4), V), {}, ValueError, r"k has shape \(4,\)"),
    ((Q, K, zeros(5)), {}, ValueError, r"v has shape \(5,\)"),
    ((zeros(3, 0), zeros(5, 0), V), {}, ValueError, "q has shape .* width 0"),
    ((zeros(2, 3, 4), K, V), {}, ValueError, r"k has shape \(5, 4\), expected the leading axes"),
    ((Q, K, zeros(1, 5, 2)), {}, ValueError, "v has shape .* expected the leading axes"),
    ((Q, K.astype(np.float32), V), {}, TypeError, "k has dtype float32, expected float64"),
    ((Q, K, V.astype(np.float32)), {}, TypeError, "v has dtype float32, expected float64"),
    ((Q.astype(int), K, V), {}, TypeError, "q has dtype int64"),
    ((Q, K.tolist(), V), {}, TypeError, "k is a list"),
    ((Q, K, None), {}, TypeError, "v is a NoneType"),
    ((Q, K, V, np.ones((3, 5), int)), {}, TypeError, "mask has dtype int64, expected a boolean"),
    ((Q, K, V, np.ones((3, 5))), {}, TypeError, "mask has dtype float64, expected a boolean"),
    ((Q, K, V, np.ones((5, 3), bool)), {}, ValueError, r"mask has shape \(5, 3\), expected .*3, 5"),
    ((Q, K, V, np.ones((2, 3, 5), bool)), {}, ValueError, r"mask has shape \(2, 3, 5\)"),
    ((Q, K, V, None), {}, TypeError, "mask is a NoneType"),
    ((Q, K, V, 1), {}, TypeError, "mask is 1"),
    ((Q, K, V), dict(bias=zeros(5, 3)), ValueError, "bias has shape"),
    ((Q, K, V), dict(bias=np.ones((3, 5), bool)), TypeError, "bias has dtype bool"),
    ((Q, K, V), dict(bias="0"), TypeError, "bias is a str"),
    ((Q, K, V), dict(bias=np.nan), ValueError, "bias is nan"),
    ((Q, K, V), dict(scale=np.inf), ValueError, "scale is inf"),
    ((Q, K, V), dict(scale="1"), TypeError, "scale is a str"),
    ((Q, K, V), dict(scale=True), TypeError, "scale is True"),
    ((Q, K, V), dict(softcap=0.0), ValueError, "softcap is 0.0, expected a positive"),
    ((Q, K, V), dict(softcap=-3.0), ValueError, "softcap is -3.0"),
    ((Q, K, V), dict(scale=b"1"), TypeError, "scale is a bytes"),
    ((zeros(1, 4), K, V, np.ones((3, 5), bool)), {}, ValueError, r"mask has shape \(3, 5\)"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD)
@pytest.mark.parametrize("library", [reference, fast])
def test_bad_arguments(library, arguments, options, error, message):
    if library is fast:
        message = message.replace("dtype ", r"dtype torch\.").replace(
            "expected float", "expected torch.float"
        )
    with pytest.raises(error, match=message):
        library.attention(
            *converted(library, *arguments),
            **dict(zip(options, converted(library, *options.values()), strict=True)),
        )


@pytest.mark.usefixtures("unchecked")
def test_a_tensor_on_another_device_is_named():
    q, k, v = (torch.from_numpy(array) for array in (Q, K, V))
    with pytest.raises(ValueError, match="k is on meta, expected cpu, the device of q"):
        fast.attention(q, k.to("meta"), v)
    with pytest.raises(ValueError, match="mask is on meta, expected cpu"):
        fast.attention(q, k, v, torch.ones(3, 5, dtype=torch.bool, device="meta"))
