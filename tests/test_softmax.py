"""softmax, its Jacobian and entropy: worked examples, laws, extremes, bad arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from libraries import converted
from tolerance import assert_equal64

from attn_course import fast, reference

FLOATS = [np.float16, np.float32, np.float64]
scores = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5),
    elements=st.floats(-1e4, 1e4),
)


def test_first_example():
    assert_equal64(
        reference.softmax(np.array([3.0, 7.5, 12.0])),
        [0.00012203901367, 0.0109856017610, 0.988892359226],
    )


def test_temperature_divides_the_scores():
    x = np.array([0.0, np.log(2.0)])
    assert_equal64(reference.softmax(x, temperature=0.5), [1 / 5, 4 / 5])


@given(scores, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_laws(x, shift, temperature):
    weights = reference.softmax(x, temperature=temperature)
    assert_equal64(weights.sum(axis=-1), np.ones(x.shape[:-1]))
    assert (weights >= 0).all()
    np.testing.assert_allclose(
        reference.softmax(x + shift, temperature=temperature), weights, rtol=1e-6, atol=1e-6
    )
    permutation = np.random.default_rng(0).permutation(x.shape[-1])
    assert_equal64(
        reference.softmax(x[..., permutation], temperature=temperature), weights[..., permutation]
    )
    assert (np.argmax(weights, axis=-1) == np.argmax(weights, axis=-1)).all()


@given(scores, st.data())
def test_axis_is_the_one_that_sums_to_one(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    moved = reference.softmax(np.moveaxis(x, axis, -1))
    assert_equal64(reference.softmax(x, axis=axis), np.moveaxis(moved, -1, axis))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("temperature", [1.0, 1e-3, 1e3])
def test_extreme_scores(dtype, temperature):
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [6e4, -6e4, 6e4]], dtype=dtype)
    before = x.copy()
    weights = reference.softmax(x, temperature=temperature)
    assert weights.dtype == dtype
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(weights.sum(axis=-1, dtype=np.float64), 1, atol=1e-3)
    if temperature <= 1:
        np.testing.assert_allclose(weights[0], [1, 0, 0], atol=1e-6)
        np.testing.assert_allclose(weights[2], [0.5, 0, 0.5], atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_minus_infinity_gets_no_weight(dtype):
    x = np.array([[-np.inf, 0.0, -np.inf], [-np.inf, -np.inf, -np.inf]], dtype=dtype)
    np.testing.assert_array_equal(reference.softmax(x), [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(reference.softmax(x, axis=0)[:, 1], [1, 0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 0)])
def test_no_scores_give_no_weights(dtype, shape):
    for axis in range(len(shape)):
        weights = reference.softmax(np.zeros(shape, dtype), axis=axis)
        assert weights.shape == shape
        assert weights.dtype == dtype


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_other_non_finite_scores_propagate(bad):
    weights = reference.softmax(np.array([[0.0, bad], [0.0, 0.0]]))
    assert np.isnan(weights[0]).all()
    assert_equal64(weights[1], [0.5, 0.5])


def test_jacobian_is_the_derivative(rng):
    x = rng.standard_normal((3, 5))
    jacobian = reference.softmax_jacobian(reference.softmax(x))
    step = 1e-6
    for j in range(5):
        up, down = x.copy(), x.copy()
        up[:, j] += step
        down[:, j] -= step
        slope = (reference.softmax(up) - reference.softmax(down)) / (2 * step)
        np.testing.assert_allclose(jacobian[..., j], slope, atol=1e-9)
    assert_equal64(jacobian, jacobian.swapaxes(-1, -2))
    assert_equal64(jacobian.sum(axis=-1), np.zeros((3, 5)))


@pytest.mark.parametrize(
    ("weights", "effective"), [([1.0, 0.0, 0.0], 1), ([0.5, 0.5, 0.0], 2), ([1 / 3] * 3, 3)]
)
def test_entropy_counts_equal_weights(weights, effective):
    assert_equal64(np.exp(reference.entropy(np.array(weights))), effective)


def test_entropy_grows_with_temperature(rng):
    x = rng.standard_normal(9)
    values = [reference.entropy(reference.softmax(x, temperature=t)) for t in (0.1, 0.5, 1, 5, 50)]
    assert np.all(np.diff(values) > 0)
    assert values[-1] < np.log(9)


@pytest.mark.parametrize("library", [reference, fast])
def test_long_sums_in_half_precision(library):
    for shape, axis in (((5000, 2), 0), ((2, 70000), 1)):
        x = np.zeros(shape, np.float16)
        (x,) = converted(library, x)
        weights = library.softmax(x, axis=axis)
        totals = np.asarray(weights, dtype=np.float64).sum(axis=axis)
        np.testing.assert_allclose(totals, 1, rtol=0.01)
        spread = np.asarray(library.entropy(weights, axis=axis), dtype=np.float64)
        np.testing.assert_allclose(spread, np.log(shape[axis]), rtol=0.01)


def test_the_largest_score_is_subtracted_in_torch_too():
    assert fast.softmax(torch.tensor([3e38, 0.0]), temperature=1e-3).tolist() == [1, 0]


@pytest.mark.parametrize("library", [reference, fast])
def test_entropy_goes_along_its_axis_and_is_never_minus_zero(library):
    weights = np.array([[1.0, 0.5], [0.0, 0.5]])
    (weights,) = converted(library, weights)
    spread = np.asarray(library.entropy(weights, axis=0))
    np.testing.assert_allclose(spread, [0, np.log(2)])
    assert not np.signbit(spread[0])


def test_entropy_of_a_certain_choice_has_a_finite_gradient(device):
    weights = torch.tensor([1.0, 0.0], requires_grad=True, device=device)
    fast.entropy(weights).backward()
    assert weights.grad.tolist() == [-1, 0]


def test_entropy_in_half_precision_is_rounded_once(device):
    x = torch.randn(400, 30, generator=torch.Generator().manual_seed(0)).to(device)
    weights = fast.softmax(x).half()
    assert torch.equal(fast.entropy(weights), fast.entropy(weights.double()).half())


def test_underflow_is_no_error_even_where_numpy_is_told_to_raise():
    with np.errstate(all="raise"):
        assert reference.softmax(np.array([0.0, -800.0])).tolist() == [1, 0]


BAD = [
    (dict(x=np.ma.array([1.0, 2.0])), TypeError, "x is a numpy.ma.MaskedArray, expected a plain"),
    (dict(x=np.zeros(2, np.longdouble)), TypeError, "x has dtype"),
    (dict(x=np.zeros(2), temperature=10**400), ValueError, "temperature is inf"),
    (dict(x=np.zeros(2, np.float32), temperature=1e39), ValueError, "that float32 can hold"),
    (dict(x=np.zeros(2), temperature=np.array(1.0)), TypeError, "temperature is a numpy.ndarray"),
    (dict(x=np.zeros(2), temperature=np.True_), TypeError, "temperature is a numpy.bool"),
    (dict(x=[1.0, 2.0]), TypeError, r"x is a list, expected a numpy\.ndarray"),
    (dict(x=np.array([1, 2])), TypeError, "x has dtype int64, expected a floating dtype"),
    (dict(x=np.array([True])), TypeError, "x has dtype bool"),
    (dict(x=np.array([1j])), TypeError, "x has dtype complex128"),
    (dict(x=np.array(["a"])), TypeError, "x has dtype"),
    (dict(x=torch.zeros(2)), TypeError, r"x is a torch\.Tensor, expected a numpy\.ndarray"),
    (dict(x=np.array(1.0)), ValueError, "x has shape"),
    (dict(x=np.zeros(2), axis=1), ValueError, r"axis is 1, x has shape \(2,\)"),
    (dict(x=np.zeros(2), axis=0.5), TypeError, "axis is 0.5, expected an integer"),
    (dict(x=np.zeros(2), axis=None), TypeError, "axis is a NoneType"),
    (dict(x=np.zeros(2), temperature=0), ValueError, "temperature is 0.0, expected a positive"),
    (dict(x=np.zeros(2), temperature=-1.0), ValueError, "temperature is -1.0"),
    (dict(x=np.zeros(2), temperature=np.nan), ValueError, "temperature is nan"),
    (dict(x=np.zeros(2), temperature=np.inf), ValueError, "temperature is inf"),
    (dict(x=np.zeros(2), temperature="1"), TypeError, "temperature is a str"),
    (dict(x=np.zeros(2), temperature=None), TypeError, "temperature is a NoneType"),
    (dict(x=np.zeros(2), temperature=np.ones(2)), TypeError, "temperature is a numpy.ndarray"),
    (dict(x=np.zeros(2, np.float16), temperature=1e-9), ValueError, "that float16 can hold"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        reference.softmax(**arguments)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(x=np.zeros(2)), TypeError, r"x is a numpy\.ndarray, expected a torch\.Tensor"),
        (dict(x=torch.zeros(2, dtype=torch.int64)), TypeError, "x has dtype torch.int64"),
        (dict(x=torch.zeros(())), ValueError, "x has shape"),
        (dict(x=torch.zeros(2), axis=2), ValueError, "axis is 2"),
        (dict(x=torch.zeros(2), temperature=0.0), ValueError, "temperature is 0.0"),
        (dict(x=torch.zeros(2).half(), temperature=1e-9), ValueError, "torch.float16 can hold"),
    ],
)
def test_bad_arguments_of_fast(arguments, error, message):
    with pytest.raises(error, match=message):
        fast.softmax(**arguments)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("library", [reference, fast])
def test_bad_weights(library):
    make = np.zeros if library is reference else torch.zeros
    with pytest.raises(ValueError, match="weights has shape"):
        library.softmax_jacobian(make(()))
    with pytest.raises(TypeError, match="weights has dtype"):
        library.softmax_jacobian(make((2,)) > 0)
    with pytest.raises(TypeError, match="weights has dtype"):
        library.entropy(make((2,)) > 0)
    with pytest.raises(ValueError, match="axis is 3, weights has shape"):
        library.entropy(make((2,)), axis=3)
    with pytest.raises(TypeError, match="x is sparse"):
        fast.softmax(torch.eye(2).to_sparse())
