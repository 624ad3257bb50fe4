"""attention_backward and softmax_backward; gradients of every function, three ways."""

import functools
import inspect

import by_hand
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from libraries import converted, outputs, refuses
from test_parity import ATTENTION, BIAS, arrays, function, masked, to_torch
from test_parity import CASES as PARITY_CASES
from tolerance import as_float64, assert_equal64

from attn_course import fast, reference

LIBRARIES = [reference, fast]


@pytest.mark.parametrize("library", LIBRARIES)
def test_one_query_and_two_keys_by_hand(library):
    q, k, v = np.array([[2.0]]), np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]])
    gradients = library.attention_backward(*converted(library, q, k, v, np.array([[1.0]])))
    # Weights of one half, the average 2 of the values: scores should change by -1/2 and 1/2.
    for gradient, expected in zip(gradients, ([[0]], [[-1], [1]], [[0.5], [0.5]]), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-15)
    # A softcap of 2 at a score of 2 lets 1 - tanh² 1 of that through.
    arguments = converted(library, q, k, v, np.array([[1.0]]))
    _, grad_k, _ = library.attention_backward(*arguments, softcap=2.0)
    np.testing.assert_allclose(grad_k, [[-0.4199743416], [0.4199743416]], rtol=0, atol=1e-10)
    grad_bias = library.attention_bias_backward(*arguments, softcap=2.0)
    np.testing.assert_allclose(grad_bias, [[-0.5, 0.5]], rtol=0, atol=1e-15)


def drawn(seed, i, j, d=3, e=2, batch=()):
    rng = np.random.default_rng(seed)
    shapes = (i, d), (j, d), (j, e), (i, e)
    return [rng.standard_normal((*batch, *shape)) for shape in shapes]


sizes = st.integers(1, 7)


@given(st.integers(0, 999), sizes, sizes, st.floats(0.1, 9))
def test_softmax_backward_is_the_jacobian_times_the_gradient(seed, rows, n, temperature):
    x, g = np.random.default_rng(seed).standard_normal((2, rows, n))
    w = reference.softmax(x, temperature=temperature)
    expected = (reference.softmax_jacobian(w) @ g[..., None])[..., 0] / temperature
    assert_equal64(reference.softmax_backward(w, g, temperature=temperature), expected)
    turned = reference.softmax_backward(w.T, g.T, axis=0, temperature=temperature)
    assert_equal64(turned.T, expected)


@given(st.integers(0, 999), sizes, sizes, st.sampled_from([None, 0.7]))
def test_laws(seed, i, j, softcap):
    q, k, v, g = drawn(seed, i, j)
    mask = np.random.default_rng(seed).random((i, j)) < 0.7
    grad_q, grad_k, grad_v = reference.attention_backward(q, k, v, g, mask, softcap=softcap)
    grad_bias = reference.attention_bias_backward(q, k, v, g, mask, softcap=softcap)
    # Longer queries and longer keys change the scores alike.
    assert_equal64((q * grad_q).sum(), (k * grad_k).sum())
    # What is added to every score of a row changes nothing; what to every value, each output.
    assert_equal64(grad_bias.sum(axis=-1), np.zeros(i))
    assert_equal64(grad_v.sum(axis=0), g[mask.any(axis=-1)].sum(axis=0))
    if softcap is None:
        assert_equal64(grad_k.sum(axis=0), np.zeros(3))
    doubled = reference.attention_backward(q, k, v, 2 * g, mask, softcap=softcap)
    for gradient, double in zip((grad_q, grad_k, grad_v), doubled, strict=True):
        assert_equal64(double, 2 * gradient)


@given(st.integers(0, 999), sizes, sizes)
def test_the_future_gets_no_gradient(seed, i, j):
    q, k, v, g = drawn(seed, i, j)
    mask = reference.causal_mask(i, j)
    g[1:] = 0  # only the first query's output matters
    grad_q, grad_k, grad_v = reference.attention_backward(q, k, v, g, mask)
    unseen = ~mask[0]
    np.testing.assert_array_equal(grad_q[1:], 0)
    np.testing.assert_array_equal(grad_k[unseen], 0)
    np.testing.assert_array_equal(grad_v[unseen], 0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_groups_add_up(library):
    q, k, v, g = drawn(3, 4, 5, batch=(2, 6))
    bias = drawn(4, 4, 5, batch=(6,))[0] @ np.ones((3, 5))
    q, k, v, g, bias = converted(library, q, k[:, :2], v[:, :2], g, bias)
    ours = library.grouped_query_attention_backward(q, k, v, g, bias=bias, scale=0.4)
    for head in range(2):
        group = slice(3 * head, 3 * head + 3)
        expected = [0, 0]
        for h in range(6)[group]:
            grad_q, *others = library.attention_backward(
                q[:, h], k[:, head], v[:, head], g[:, h], bias=bias[h], scale=0.4
            )
            assert_equal64(ours[0][:, h], grad_q)
            expected = [total + other for total, other in zip(expected, others, strict=True)]
        for gradient, total in zip(ours[1:], expected, strict=True):
            assert_equal64(gradient[:, head], total)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_empty_rows_give_and_get_zeros(library, dtype, softcap):
    q, k, v, g = (array.astype(dtype) for array in drawn(5, 3, 5))
    mask = np.ones((3, 5), dtype=bool)
    mask[1], mask[:, 2] = False, False
    q, k, v, g, mask = converted(library, q, k, v, g, mask)
    grad_q, grad_k, grad_v = library.attention_backward(q, k, v, g, mask, softcap=softcap)
    for gradient, empty, others in ((grad_q, 1, [0, 2]), (grad_k, 2, [0, 4]), (grad_v, 2, [0, 4])):
        assert gradient.dtype == q.dtype
        np.testing.assert_array_equal(gradient[empty], 0)
        assert (np.asarray(gradient[others]) != 0).all()
    grad_bias = np.asarray(library.attention_bias_backward(q, k, v, g, mask, softcap=softcap))
    np.testing.assert_array_equal(grad_bias[~np.asarray(mask)], 0)
    assert (grad_bias[np.asarray(mask)] != 0).all()
    for gradient in library.attention_backward(q, k, v, g, False, softcap=softcap):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("i", "j", "e"), [(0, 4, 2), (3, 0, 2), (0, 0, 2), (3, 4, 0)])
def test_sizes_of_0(library, i, j, e):
    arguments = converted(library, *drawn(6, i, j, e=e, batch=(2,)))
    for name in ("attention_backward", "grouped_query_attention_backward"):
        gradients = getattr(library, name)(*arguments)
        for gradient, x in zip(gradients, arguments, strict=False):
            assert gradient.shape == x.shape
            np.testing.assert_array_equal(gradient, 0)
    assert tuple(library.attention_bias_backward(*arguments).shape) == (2, i, j)
    assert tuple(library.softmax_backward(arguments[2], arguments[2]).shape) == (2, j, e)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_query_that_has_decided_learns_nothing(library, dtype):
    q = np.array([[100.0, 0.0], [-100.0, 0.0]], dtype)  # scores of ±1e4
    v = np.array([[1.0], [3.0]], dtype)
    q, v, g = converted(library, q, v, np.ones((2, 1), dtype))
    grad_q, grad_k, grad_v = library.attention_backward(q, q, v, g, scale=1.0)
    np.testing.assert_array_equal(grad_q, 0)
    np.testing.assert_array_equal(grad_k, 0)
    np.testing.assert_array_equal(grad_v, 1)


@pytest.mark.parametrize("library", LIBRARIES)
def test_nan_propagates(library):
    q, k, v, g = drawn(7, 2, 3)
    g[0] = np.nan
    gradients = library.attention_backward(*converted(library, q, k, v, g))
    grad_q, grad_k, grad_v = (np.asarray(gradient) for gradient in gradients)
    assert np.isnan(grad_q[0]).all()
    assert np.isfinite(grad_q[1]).all()
    assert np.isnan(grad_k).all()
    assert np.isnan(grad_v).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_memory_may_be_laid_out_in_any_way(library):
    arrays = converted(library, *drawn(8, 4, 5, batch=(2, 3)))
    turned = [x.swapaxes(-1, -2).copy() if library is reference else x.mT.clone() for x in arrays]
    views = [x.swapaxes(-1, -2) for x in turned]
    for ours, expected in zip(
        library.grouped_query_attention_backward(*views),
        library.grouped_query_attention_backward(*arrays),
        strict=True,
    ):
        assert_equal64(ours, expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_torch_needs_no_gradients_switched_on(mode, device):
    arguments = [torch.from_numpy(array).to(device) for array in drawn(9, 4, 5, batch=(6,))]
    names = ["attention_backward", "grouped_query_attention_backward", "attention_bias_backward"]
    expected = [outputs(getattr(fast, name)(*arguments)) for name in names]
    with mode():
        ours = [outputs(getattr(fast, name)(*arguments)) for name in names]
    for gradients, others in zip(ours, expected, strict=True):
        for gradient, other in zip(gradients, others, strict=True):
            assert torch.equal(gradient, other)
            assert not gradient.requires_grad


def test_a_bias_of_one_number_costs_torch_no_digits(device):
    arguments = [torch.from_numpy(array).to(device) for array in drawn(12, 4, 5)]
    mask = fast.causal_mask(4, 5, device=device)
    expected = fast.attention_bias_backward(*arguments, mask)
    for bias in (2.0**40, 1e300):
        assert torch.equal(fast.attention_bias_backward(*arguments, mask, bias=bias), expected)


def test_torch_differentiates_a_second_time(device):
    inputs = [torch.from_numpy(x).to(device).requires_grad_() for x in drawn(10, 3, 4)]

    def backward(*arguments):
        return fast.attention_backward(*arguments, softcap=2.0)

    assert torch.autograd.gradcheck(backward, inputs, fast_mode=True)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(
    "name",
    ["attention_backward", "attention_bias_backward", "grouped_query_attention_backward"],
)
def test_backward_compiles(name, softcap):
    arguments = [torch.from_numpy(array) for array in drawn(11, 3, 5, batch=(2,))]
    function = getattr(fast, name)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    mask = fast.causal_mask(3, 5)
    ours = outputs(compiled(*arguments, mask, softcap=softcap))
    for gradient, expected in zip(
        ours, outputs(function(*arguments, mask, softcap=softcap)), strict=True
    ):
        assert_equal64(gradient, expected)


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


Q, K, V, G = zeros(3, 4), zeros(5, 4), zeros(5, 2), zeros(3, 2)
BAD_BACKWARD = [
    ((Q, K, V, zeros(3, 4)), ValueError, r"grad_output has shape \(3, 4\), expected \(3, 2\)"),
    ((Q, K, V, zeros(1, 3, 2)), ValueError, r"grad_output has shape \(1, 3, 2\)"),
    ((Q, K, V, zeros(3, 2, dtype=np.float32)), TypeError, "grad_output has dtype .*float32"),
    ((Q, K, V, None), TypeError, "grad_output is a NoneType"),
    ((Q, zeros(5, 6), V, G), ValueError, "keys have width 6, queries have width 4"),
    ((Q, K, zeros(6, 2), G), ValueError, "6 values for 5 keys"),
    ((Q, K, V, G, np.ones((5, 3), bool)), ValueError, r"mask has shape \(5, 3\)"),
]
WITH_HEADS = [
    (tuple(x[None] if isinstance(x, np.ndarray) else x for x in arguments), *rest)
    for arguments, *rest in BAD_BACKWARD[2:-1]
]
W = zeros(2, 3)
BAD = [
    *(("attention_backward", *case) for case in BAD_BACKWARD),
    *(("attention_bias_backward", *case) for case in BAD_BACKWARD),
    *(("grouped_query_attention_backward", *case) for case in WITH_HEADS),
    ("grouped_query_attention_backward", (Q, K, V, G), ValueError, r"q has shape \(3, 4\)"),
    (
        "grouped_query_attention_backward",
        (zeros(3, 3, 4), zeros(2, 5, 4), zeros(2, 5, 2), zeros(3, 3, 2)),
        ValueError,
        "q has shape .*k has shape",
    ),
    ("softmax_backward", (W, zeros(3, 2)), ValueError, r"grad_output has shape \(3, 2\), expected"),
    ("softmax_backward", (W, W.astype(int)), TypeError, "grad_output has dtype"),
    ("softmax_backward", (W.tolist(), W), TypeError, "weights is a list"),
    ("softmax_backward", (W, W, 2), ValueError, "axis is 2"),
    ("softmax_backward", (W, W, -1, 0.0), ValueError, "temperature is 0.0, expected a positive"),
]


test_bad_arguments = refuses(BAD)


# Gradients three ways: by hand, by torch's autograd through fast, and by finite differences of
# the reference.

ONES = arrays((1, 1), (1, 1), (1, 1))
BLOCKED = np.where(masked(5, 9), BIAS, -np.inf)
BIASES = arrays((6, 5, 9))[0]
GROUPED = arrays((2, 6, 5, 7), (2, 3, 9, 7), (2, 3, 9, 4))
ROWS = arrays((2, 5, 4), (2, 9, 5), (2, 9, 2))
PROJECTED = [*ROWS, *arrays((4, 6), (5, 6), (2, 9), (9, 4))]
FIVE_AXES = [*(x[:, None, None] for x in ROWS), *arrays((4, 6), (5, 2), (2, 3), (9, 4))]
ALL = {"mask": masked(5, 9), "bias": BIAS, "scale": 0.2, "softcap": 2.0}
CASES = {
    **PARITY_CASES,
    "softmax-blocked": ("softmax", [BLOCKED], {"temperature": 0.5}),
    "softmax-jacobian-any": ("softmax_jacobian", arrays((2, 3, 5)), {}),
    "entropy-axis-0": ("entropy", [reference.softmax(BIAS)], {"axis": 0}),
    "pooling-one-row": ("attention_pooling", arrays((1, 1), (1,)), {}),
    "pooling-batches": ("attention_pooling", arrays((2, 3, 5, 4), (4,)), {"mask": masked(3, 5)}),
    "kernel-regression-batch": ("kernel_regression", ATTENTION, {"bandwidth": 2.0}),
    "scaled-dot-scale": ("scaled_dot_scores", ATTENTION[:2], {"scale": 0.3}),
    "bilinear-batch": ("bilinear_scores", arrays((2, 3, 5, 3), (2, 3, 4, 2), (3, 2)), {}),
    "cosine-batch": ("cosine_scores", ATTENTION[:2], {}),
    "weights-all-at-once": ("attention_weights", ATTENTION[:2], ALL),
    "attention-all-at-once": ("attention", ATTENTION, ALL),
    "attention-five-axes-all-at-once": ("attention", [a[:, None] for a in ATTENTION], ALL),
    "attention-bias-of-heads": ("attention", ATTENTION, {"bias": BIAS[:, :1, :1]}),
    "attention-bias-of-keys": ("attention", ATTENTION, {"bias": BIAS[0, 0], "softcap": 1.0}),
    "attention-bias-number": ("attention", ATTENTION, {"bias": 3.0, "scale": -0.4}),
    "attention-blocked": ("attention", ATTENTION, {"bias": BLOCKED}),
    "attention-blocked-softcap": ("attention", ATTENTION, {"bias": BLOCKED, "softcap": 2.0}),
    "attention-nothing-seen": ("attention", ATTENTION, {"mask": False, "bias": BIAS}),
    "attention-one-of-each": ("attention", ONES, {"bias": ONES[0], "softcap": 2.0}),
    "attention-one-key": ("attention", arrays((5, 3), (1, 3), (1, 2)), {}),
    "attention-no-keys": ("attention", arrays((2, 5, 3), (2, 0, 3), (2, 0, 4)), {}),
    "attention-no-width": ("attention", arrays((5, 3), (9, 3), (9, 0)), {"softcap": 2.0}),
    "grouped-all-at-once": ("grouped_query_attention", GROUPED, ALL | {"bias": BIASES}),
    "grouped-one-head": ("grouped_query_attention", arrays((1, 1, 1), (1, 1, 1), (1, 1, 1)), {}),
    "multi-head-all-at-once": ("multi_head_attention", PROJECTED, ALL | {"heads": 3}),
    "multi-query-five-axes": ("multi_head_attention", FIVE_AXES, ALL | {"heads": 3}),
    "attention-one-query": ("attention", arrays((1, 3), (5, 3), (5, 2)), {"softcap": 0.5}),
    "linear-one-token": ("linear_attention_recurrent", arrays((1, 2), (1, 2), (1, 3)), {}),
    "gated-one-token": ("gated_linear_attention_recurrent", [*ONES, ONES[0][0]], {}),
    "delta-one-token": ("delta_rule_recurrent", [*ONES, ONES[0][0]], {}),
}

STEP = 3e-4
DIRECTIONS = 3  # a wrong entry shows along almost every one


def inputs(case):
    """Return the floating arrays of `case`, those among its options last."""
    _, given, options = CASES[case]
    return [*given, *(options[key] for key in floating(options))]


def floating(options):
    return [key for key, value in options.items() if getattr(value, "dtype", None) == np.float64]


def called(library, case, arrays, **more):
    """Return what the case's function in `library` returns for `arrays` as its `inputs`."""
    name, given, options = CASES[case]
    options = options | dict(zip(floating(options), arrays[len(given) :], strict=True))
    if library is fast:
        options = {key: to_torch(value, arrays[0].device) for key, value in options.items()}
    return function(library, name)(*arrays[: len(given)], **options, **more)


@functools.cache
def output_gradients(case):
    rng = np.random.default_rng(13)
    return [rng.standard_normal(y.shape) for y in outputs(called(reference, case, inputs(case)))]


@functools.cache
def gradients_by_hand(case):
    dy = output_gradients(case)
    return called(by_hand, case, inputs(case), dy=dy if len(dy) > 1 else dy[0])


@functools.cache
def gradients_by_autograd(case, device):
    tensors = [to_torch(array, device).requires_grad_() for array in inputs(case)]
    dy = [to_torch(array, device) for array in output_gradients(case)]
    y = outputs(called(fast, case, tensors))
    return [as_float64(x) for x in torch.autograd.grad(y, tensors, dy)]


@functools.cache
def directions(case):
    """Return ways in which all inputs may change at once."""
    rng = np.random.default_rng(17)
    return [[rng.standard_normal(x.shape) for x in inputs(case)] for _ in range(DIRECTIONS)]


@functools.cache
def slopes_by_differences(case):
    """Return how fast `sum(dy * y)` grows in each direction."""

    def moved(direction, step):
        arrays = [x + step * dx for x, dx in zip(inputs(case), direction, strict=True)]
        return outputs(called(reference, case, arrays))

    def central(direction, step):
        pairs = zip(moved(direction, step), moved(direction, -step), strict=True)
        changes = [change(ahead, behind) for ahead, behind in pairs]
        return products(output_gradients(case), changes) / (2 * step)

    return [
        (4 * central(direction, STEP / 2) - central(direction, STEP)) / 3  # Richardson's
        for direction in directions(case)
    ]


def change(ahead, behind):
    # An output of -inf, as of an empty row, does not change.
    return np.subtract(ahead, behind, out=np.zeros(ahead.shape), where=ahead != behind)


def products(arrays, others):
    return sum((x * other).sum() for x, other in zip(arrays, others, strict=True))


def differentiable():
    """Return the names of the functions that take floating arrays, but for two kinds.

    The gradients of forms of attention are compared by the cases of those forms. A cache holds
    numbers, through which no gradient flows back.
    """
    return {
        name
        for name in reference.__all__
        if "Float[" in str(inspect.signature(getattr(reference, name)).parameters)
        and not ("attention" in name and name.endswith("_backward"))
        and name != "cached_attention"
    }


@pytest.mark.parametrize("name", sorted(differentiable()))
def test_every_differentiable_function_has_its_gradients_by_hand(name):
    assert hasattr(by_hand, name), f"tests/by_hand.py has no gradients of {name}"


THREE_WAYS = [case for case, (name, _, _) in CASES.items() if name in differentiable()]


# Of three that should agree, the one that fails twice is wrong.
@pytest.mark.parametrize("case", THREE_WAYS)
def test_by_hand_and_autograd(case, device):
    ours, theirs = gradients_by_hand(case), gradients_by_autograd(case, device)
    for x, gradient, expected in zip(inputs(case), ours, theirs, strict=True):
        assert gradient.shape == x.shape
        assert_equal64(gradient, expected)


@pytest.mark.parametrize("case", THREE_WAYS)
def test_by_hand_and_finite_differences(case):
    assert_slopes(case, gradients_by_hand(case))


@pytest.mark.parametrize("case", THREE_WAYS)
def test_autograd_and_finite_differences(case):
    assert_slopes(case, gradients_by_autograd(case, "cpu"))


def assert_slopes(case, gradients):
    ours = [products(gradients, direction) for direction in directions(case)]
    # Extrapolation errs by STEP⁴ times fifth derivatives, rounding by some 1e-15 / STEP.
    np.testing.assert_allclose(ours, slopes_by_differences(case), rtol=1e-7, atol=1e-9)
