"""Linear attention: worked examples, definitions, equal forms, laws, linear cost, bad arguments."""

import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import converted, outputs, refuses
from measure import KEEPING, in_own_process
from tolerance import as_float64, assert_as_exact_as_plain, assert_equal64

from attn_course import fast, reference

few = settings(max_examples=15)  # of many kinds, forms and libraries each
LIBRARIES = pytest.mark.parametrize("library", [reference, fast])
KINDS = ["linear_attention", "gated_linear_attention", "delta_rule"]
STATEFUL = [f"{kind}_{form}" for kind in KINDS for form in ("recurrent", "chunked")]
CAUSAL = ["linear_attention_parallel", "gated_linear_attention_parallel", *STATEFUL]


def drawn(name, seed, n, d=3, e=2, batch=()):
    """Return arguments for the function or the kind `name`: q, k, v, and decay or beta."""
    rng = np.random.default_rng(seed)
    arguments = [rng.standard_normal((*batch, n, width)) for width in (d, d, e)]
    if name.startswith(("gated", "delta")):
        arguments.append(rng.uniform(0, 1, (*batch, n)))
    return arguments


def state_for(name, seed, d=3, e=2, batch=()):
    """Return a state that the function or the kind `name` takes."""
    rng = np.random.default_rng(seed)
    S, z = rng.uniform(1, 2, (*batch, d, e)), rng.uniform(1, 2, (*batch, d))
    return (S, z) if name.startswith("linear") else S


def tensors(state, *rest):
    """Return a state of NumPy's as one of torch's, to `rest` if given."""
    if isinstance(state, tuple):
        return tuple(tensors(part, *rest) for part in state)
    return torch.from_numpy(state).to(*rest)


def taken(library, state):
    return tensors(state) if library is fast and state is not None else state


def assert_same(actual, expected):
    """Hold an output and its state, or an output alone, to those expected."""
    for one, other in zip(outputs(actual), outputs(expected), strict=True):
        assert tuple(one.shape) == tuple(other.shape)
        assert_equal64(one, other)


def part(arguments, rows):
    """Return some of the tokens of `arguments`."""
    return [x[..., rows, :] for x in arguments[:3]] + [x[..., rows] for x in arguments[3:]]


# By hand


@LIBRARIES
def test_features_by_hand(library):
    (x,) = converted(library, np.array([[-1.0, 0.0, 2.0], [-800.0, -30.0, np.inf]]))
    expected = [[1 / np.e, 1, 3], [0, 9.357622968840175e-14, np.inf]]
    np.testing.assert_allclose(library.elu_features(x), expected, rtol=1e-14)
    # d = 16, so rows are halved: exp(w·x/2 − ‖x‖²/8) / √m, with ‖x‖² = 4.
    x, projection = np.zeros((1, 16)), np.zeros((4, 16))
    x[0, 0], projection[:, 0] = 2, [0, 1, 2, -1]
    features = library.random_features(*converted(library, x, projection))
    assert_equal64(features, np.exp([[-0.5, 0.5, 1.5, -1.5]]) / 2)


@LIBRARIES
def test_linear_attention_by_hand(library):
    # Features of q: 1, 3; of k: 1, 2; weights 1 2 and 3 6: both queries find 1/3 and 2/3.
    q, k = np.array([[0.0], [2.0]]), np.array([[0.0], [1.0]])
    v = np.array([[3.0, 0.0], [6.0, 9.0]])
    q, k, v = converted(library, q, k, v)
    assert_equal64(library.linear_attention(q, k, v), [[5, 6], [5, 6]])
    out, (S, z) = library.linear_attention_recurrent(q, k, v)
    assert_equal64(out, [[3, 0], [5, 6]])
    assert_equal64(S, [[15, 18]])
    assert_equal64(z, [3])


@LIBRARIES
@pytest.mark.parametrize("form", ["recurrent", "chunked"])
def test_the_delta_rule_recalls_the_value_stored_last_under_a_key(library, form):
    keys = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    written = [0, 1, 2, 0, 1, 0]
    values = np.arange(12.0).reshape(6, 2)
    k, v, beta, unwritten = converted(library, keys[written], values, np.ones(6), keys)
    out, S = getattr(library, f"delta_rule_{form}")(k, k, v, beta)
    assert_equal64(out, values)
    assert_equal64(unwritten @ S, [*values[[5, 4, 2]], [0, 0]])


@LIBRARIES
@pytest.mark.parametrize("form", ["recurrent", "chunked"])
def test_the_delta_rule_with_beta_0_stores_nothing(library, form):
    q, k, v, beta = drawn("delta_rule", 1, 5)
    before = state_for("delta_rule", 2)
    given = converted(library, q, k, v, 0 * beta, before)
    out, S = getattr(library, f"delta_rule_{form}")(*given)
    np.testing.assert_array_equal(S, before)
    assert_equal64(out, q @ before)


# The definitions, written differently


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@LIBRARIES
def test_elu_features_are_torchs_elu_plus_1(library, dtype):
    x = np.random.default_rng(0).uniform(-3, 3, (4, 5)).astype(dtype)
    (given,) = converted(library, x)
    features = library.elu_features(given)
    assert features.dtype == given.dtype
    plain = torch.nn.functional.elu(torch.from_numpy(x)) + 1
    exact = torch.nn.functional.elu(torch.from_numpy(x).double()) + 1
    assert_as_exact_as_plain(features, plain, exact)


@LIBRARIES
@few
@given(st.integers(0, 999), st.integers(1, 7), st.integers(1, 7))
def test_linear_attention_is_attention_with_the_logarithms_of_products_as_bias(library, seed, i, j):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, i, 3), (2, j, 3), (2, j, 2)))
    features = [torch.nn.functional.elu(torch.from_numpy(x)).numpy() + 1 for x in (q, k)]
    products = np.einsum("bif,bjf->bij", *features)
    expected = reference.attention(0 * q, 0 * k, v, bias=np.log(products))
    assert_equal64(library.linear_attention(*converted(library, q, k, v)), expected)


@LIBRARIES
@few
@given(st.integers(0, 999), st.integers(1, 7))
def test_the_parallel_form_is_causally_masked(library, seed, n):
    q, k, v = drawn("linear", seed, n, batch=(2,))
    products = reference.elu_features(q) @ reference.elu_features(k).swapaxes(-1, -2)
    mask = reference.causal_mask(n, n)
    expected = reference.attention(0 * q, 0 * k, v, mask, bias=np.log(products))
    assert_equal64(library.linear_attention_parallel(*converted(library, q, k, v)), expected)


@LIBRARIES
@few
@given(st.integers(0, 999), st.integers(1, 7))
def test_gates_multiply_what_is_older(library, seed, n):
    q, k, v, decay = drawn("gated", seed, n)
    decay[np.random.default_rng(seed).random(n) < 0.3] = 0  # all before is forgotten
    expected = np.zeros_like(v)
    for i in range(n):
        for j in range(i + 1):
            expected[i] += np.prod(decay[j + 1 : i + 1]) * (q[i] @ k[j]) * v[j]
    given = converted(library, q, k, v, decay)
    assert_equal64(library.gated_linear_attention_parallel(*given), expected)


@LIBRARIES
def test_a_fixed_decay_is_retention(library):
    q, k, v = drawn("linear", 3, 6)
    i, j = np.ogrid[:6, :6]
    expected = ((q @ k.T) * np.where(i >= j, 0.9 ** (i - j), 0)) @ v
    for form in ("parallel", "recurrent", "chunked"):
        given = converted(library, q, k, v, np.full(6, 0.9))
        out = getattr(library, f"gated_linear_attention_{form}")(*given)
        assert_equal64(outputs(out)[0], expected)


@LIBRARIES
@few
@given(st.integers(0, 999), st.integers(1, 7))
def test_the_delta_rule_is_a_product_of_reflections(library, seed, n):
    q, k, v, beta = drawn("delta_rule", seed, n)
    S = np.zeros((3, 2))
    expected = np.zeros_like(v)
    for t in range(n):
        S = (np.eye(3) - beta[t] * np.outer(k[t], k[t])) @ S + beta[t] * np.outer(k[t], v[t])
        expected[t] = S.T @ q[t]
    assert_same(library.delta_rule_recurrent(*converted(library, q, k, v, beta)), (expected, S))


# The forms are equal


@LIBRARIES
@pytest.mark.parametrize("kind", KINDS)
@few
@given(st.integers(0, 999), st.integers(0, 13), st.integers(1, 16), st.integers(0, 13))
def test_forms_and_splits_agree(library, kind, seed, n, chunk, split):
    arguments = converted(library, *drawn(kind, seed, n, batch=(2,)))
    recurrent = getattr(library, f"{kind}_recurrent")
    chunked = functools.partial(getattr(library, f"{kind}_chunked"), chunk=chunk)
    for start in (None, taken(library, state_for(kind, seed + 1, batch=(2,)))):
        whole, end = recurrent(*arguments, start)
        assert_same(chunked(*arguments, start), (whole, end))
        for first, second in ((recurrent, chunked), (chunked, recurrent)):
            head, middle = first(*part(arguments, slice(split)), start)
            tail, last = second(*part(arguments, slice(split, None)), middle)
            joined = np.concatenate([as_float64(head), as_float64(tail)], axis=-2)
            assert_same((joined, last), (whole, end))


@LIBRARIES
@pytest.mark.parametrize("kind", ["linear_attention", "gated_linear_attention"])
@few
@given(st.integers(0, 999), st.integers(0, 13))
def test_the_parallel_form_agrees(library, kind, seed, n):
    arguments = converted(library, *drawn(kind, seed, n, batch=(2, 1)))
    parallel = getattr(library, f"{kind}_parallel")(*arguments)
    assert_same(parallel, getattr(library, f"{kind}_recurrent")(*arguments)[0])


@LIBRARIES
@pytest.mark.parametrize("name", STATEFUL)
def test_no_token_leaves_the_state_as_it_was(library, name):
    arguments = converted(library, *drawn(name, 0, 0, batch=(2,)))
    state = taken(library, state_for(name, 1, batch=(2,)))
    out, after = getattr(library, name)(*arguments, state)
    assert tuple(out.shape) == (2, 0, 2)
    assert_same(after, state)
    _, after = getattr(library, name)(*arguments)
    for array in outputs(after):
        np.testing.assert_array_equal(array, 0)


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("batch", [(), (0,), (2, 1, 3)])
def test_any_number_of_axes(name, batch, device):
    arguments, state = drawn(name, 5, 7, batch=batch), state_for(name, 6, batch=batch)
    expected = getattr(reference, name)(*arguments, state)
    on_device = [torch.from_numpy(x).to(device) for x in arguments]
    ours = getattr(fast, name)(*on_device, tensors(state, device))
    assert_same(ours, expected)
    assert {x.device for x in outputs(ours)} == {on_device[0].device}
    for index in np.ndindex(batch):
        alone = getattr(reference, name)(*(x[index] for x in arguments), of(state, index))
        assert_same(of(expected, index), alone)


def of(result, index):
    """Return one entry of the batch of a result, or of a state."""
    return tuple(of(x, index) for x in result) if isinstance(result, tuple) else result[index]


# Laws


@LIBRARIES
@pytest.mark.parametrize("name", CAUSAL)
@few
@given(st.integers(0, 999), st.integers(1, 9), st.integers(0, 8))
def test_the_future_does_not_matter(library, name, seed, n, changed):
    arguments = drawn(name, seed, n)
    function = getattr(library, name)
    before = outputs(function(*converted(library, *arguments)))[0]
    changed %= n
    for array in arguments:
        array[changed] += 0.5
    after = outputs(function(*converted(library, *arguments)))[0]
    np.testing.assert_array_equal(after[:changed], before[:changed])
    assert not np.allclose(after[changed], before[changed])


@LIBRARIES
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL])
@few
@given(st.integers(0, 999), st.integers(1, 9))
def test_outputs_are_linear_in_the_values(library, name, seed, n):
    q, k, v, *rest = converted(library, *drawn(name, seed, n))
    w = q[..., :2]
    function = getattr(library, name)
    one, other, both = (outputs(function(q, k, x, *rest))[0] for x in (v, w, 2 * v - 3 * w))
    assert_equal64(both, 2 * one - 3 * other)


@LIBRARIES
@few
@given(st.integers(0, 999), st.integers(1, 7), st.integers(1, 7))
def test_permuting_keys_changes_nothing_and_weights_sum_to_1(library, seed, i, j):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(shape) for shape in ((i, 3), (j, 3), (j, 2)))
    columns = rng.permutation(j)
    out = library.linear_attention(*converted(library, q, k, v))
    assert_equal64(library.linear_attention(*converted(library, q, k[columns], v[columns])), out)
    shifted = library.linear_attention(*converted(library, q, k, v + 5))
    assert_equal64(shifted, as_float64(out) + 5)


# Random features


@LIBRARIES
def test_random_features_are_unbiased_and_their_error_falls_as_theory_says(library, rng):
    q, k = rng.standard_normal((2, 1, 4)) / 2
    exact = np.exp((q @ k.T).item() / 2)
    # Choromanski et al. (2021), lemma 2, for rows divided by 4^(1/4).
    length = ((q + k) ** 2).sum() / 2
    variance = np.exp(length) * exact**2 * (1 - np.exp(-length))
    for features, trials in ((4, 20000), (64, 20000)):
        projection = rng.standard_normal((trials * features, 4))
        mapped = [
            as_float64(library.random_features(*converted(library, x, projection))).reshape(
                trials, features
            )
            * np.sqrt(trials)
            for x in (q, k)
        ]
        errors = (mapped[0] * mapped[1]).sum(axis=-1) - exact
        # Five standard errors; and the mean square, whose own spread is some 5 % here.
        assert abs(errors.mean()) < 5 * np.sqrt(variance / (features * trials))
        assert (errors**2).mean() == pytest.approx(variance / features, rel=0.2)


@LIBRARIES
def test_linear_attention_with_random_features_approaches_attention(library, rng):
    q, k, v = (rng.standard_normal(shape) / 2 for shape in ((5, 4), (9, 4), (9, 3)))
    errors = []
    for features in (100, 100000):
        projection = rng.standard_normal((features, 4))
        q_, k_, v_, w = converted(library, q, k, v, projection)
        feature_map = functools.partial(library.random_features, projection=w)
        out = library.linear_attention(q_, k_, v_, feature_map=feature_map)
        errors.append(np.abs(as_float64(out) - reference.attention(q, k, v)).max())
    assert errors[1] < 0.03  # a thousand times the features, some thirtieth of the error
    assert errors[1] < errors[0] / 8


# Edges


@LIBRARIES
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL[:1], *STATEFUL[:2]])
def test_a_zero_denominator_gives_zeros(library, name):
    k, v = np.array([[1.0], [-1.0], [2.0]]), np.array([[1.0], [3.0], [5.0]])
    if name == "linear_attention":
        k, v = k[:2], v[:2]
    q, k, v = converted(library, np.ones_like(k), k, v)
    out = outputs(getattr(library, name)(q, k, v, feature_map=lambda x: x))[0]
    # Sums of keys 1, 0, 2; of keys times values 1, -2, 8.
    expected = [[0], [0]] if name == "linear_attention" else [[1], [0], [4]]
    np.testing.assert_array_equal(out, expected)
    # Features that vanish one by one.
    out = outputs(getattr(library, name)(q - 1e4, k, v))[0]
    np.testing.assert_array_equal(out, np.zeros_like(v))


@LIBRARIES
@pytest.mark.parametrize(("i", "j"), [(0, 4), (3, 0), (0, 0)])
def test_no_queries_or_no_keys(library, i, j):
    rng = np.random.default_rng(0)
    given = (rng.standard_normal(shape) for shape in ((2, i, 3), (2, j, 3), (2, j, 4)))
    out = library.linear_attention(*converted(library, *given))
    np.testing.assert_array_equal(out, np.zeros((2, i, 4)))


@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL])
def test_gradients_at_the_edges_are_finite(name):
    arguments = [torch.from_numpy(x).requires_grad_() for x in drawn(name, 3, 5)]
    with torch.no_grad():
        arguments[0][2] = -1e4  # features 0: a zero denominator
        for array in arguments[3:]:
            array[:] = 0
    outputs(getattr(fast, name)(*arguments))[0].sum().backward()
    for array in arguments:
        assert array.grad.isfinite().all()
    if name.startswith("linear"):
        assert (arguments[0].grad[2] == 0).all()


@LIBRARIES
@pytest.mark.parametrize("name", CAUSAL[:-1])
def test_a_key_of_nan_reaches_its_own_query_and_those_after_it(library, name):
    arguments = drawn(name, 4, 6)
    arguments[1][3, 0] = np.nan
    out = as_float64(outputs(getattr(library, name)(*converted(library, *arguments)))[0])
    assert np.isfinite(out[:3]).all()
    assert np.isnan(out[3:]).all()


@LIBRARIES
def test_not_a_number_is_never_hidden_by_a_zero_denominator(library):
    q, k, v = converted(library, np.full((1, 1), -1e4), np.ones((1, 1)), np.full((1, 1), np.nan))
    assert np.isnan(as_float64(library.linear_attention(q, k, v))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@LIBRARIES
@pytest.mark.parametrize("name", STATEFUL[:4])
def test_large_and_long_inputs(library, name, dtype):
    n = 700  # the sums reach some 2e7, where half precision ends at 65504
    one = np.ones((n, 1), dtype)
    q, k, v, *rest = converted(library, one, 99 * one, 320 * one, *[one[:, 0]] * ("gated" in name))
    out, state = getattr(library, name)(q, k, v, *rest)
    assert out.dtype == q.dtype
    sums = [as_float64(x) for x in outputs(state)]
    assert {str(x.dtype).removeprefix("torch.") for x in outputs(state)} == {"float32"}
    if name.startswith("linear"):
        assert_equal64(sums[0], [[320 * 100 * n]])
        assert_equal64(sums[1], [100 * n])
        np.testing.assert_array_equal(out, np.full((n, 1), 320, dtype))
    else:
        assert_equal64(sums[0], [[99 * 320 * n]])


@LIBRARIES
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL[:1], *STATEFUL[:2]])
def test_keys_far_below_zero_have_weight(library, name):
    # Rounded to 1 + elu, their features would be 0, and so the result.
    q, k, v = converted(library, np.zeros((2, 1)), np.full((2, 1), -40.0), np.array([[1.0], [3.0]]))
    out = outputs(getattr(library, name)(q, k, v))[0]
    assert_equal64(out[1], [2])


@LIBRARIES
@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize(("dtype", "given"), [("16", "64"), ("32", "64"), ("32", "16")])
def test_a_state_is_converted_to_what_sums_are_kept_in(library, name, dtype, given):
    arguments = converted(library, *(x.astype(f"float{dtype}") for x in drawn(name, 17, 3)))
    states = outputs(state_for(name, 18))
    out, kept = getattr(library, name)(
        *arguments, as_state(library, [x.astype(f"float{given}") for x in states])
    )
    rounded = [x.astype(f"float{given}").astype("float32") for x in states]
    expected = getattr(library, name)(*arguments, as_state(library, rounded))
    assert out.dtype == arguments[0].dtype
    assert_same((out, kept), expected)
    for x in outputs(kept):
        assert x.dtype == (np.float32 if library is reference else torch.float32)


def as_state(library, arrays):
    """Return the one array of a state, or its two as a pair, for `library`."""
    state = converted(library, *arrays)
    return tuple(state) if len(state) == 2 else state[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL])
def test_half_precision_is_rounded_once(name, dtype, device):
    halves = [torch.from_numpy(x).to(device, dtype) for x in drawn(name, 7, 70, 8, 5)]
    wholes = [half.double() for half in halves]
    if name.startswith("delta"):
        halves[1] = halves[1] / 8
        wholes[1] = halves[1].double()
    once = outputs(getattr(fast, name)(*wholes))[0].to(dtype)
    ours = outputs(getattr(fast, name)(*halves))[0]
    limits = torch.finfo(dtype)
    # The float32 sums of terms of both signs may cancel to some 1e-5.
    torch.testing.assert_close(ours, once, rtol=1.01 * limits.eps, atol=1e-5)


@LIBRARIES
def test_a_decay_may_be_finer_than_the_queries(library):
    one = np.ones((4, 1), np.float16)
    decay = np.full(4, 1 - 2**-13, np.float32)  # float16 would round it to 1
    for form in ("recurrent", "chunked"):
        function = getattr(library, f"gated_linear_attention_{form}")
        _, S = function(*converted(library, one, 0 * one, one, decay, np.ones((1, 1))))
        assert abs(S.item() - (1 - 2**-13) ** 4) < 1e-6


@LIBRARIES
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_of_tiny_decays_do_not_overflow(library, dtype):
    q, k, v, decay = (x.astype(dtype) for x in drawn("gated", 8, 200))
    decay[::2] = 1e-30
    decay[7::14] = 0
    given = converted(library, q, k, v, decay)
    exact, S = reference.gated_linear_attention_recurrent(
        *(x.astype(np.float64) for x in (q, k, v, decay))
    )
    plain = reference.gated_linear_attention_recurrent(q, k, v, decay)
    out, end = library.gated_linear_attention_chunked(*given)
    assert_as_exact_as_plain(out, plain[0], exact)
    assert_as_exact_as_plain(end, plain[1], S)
    assert_as_exact_as_plain(library.gated_linear_attention_parallel(*given), plain[0], exact)


@pytest.mark.parametrize("name", ["gated_linear_attention_parallel", *STATEFUL])
def test_gradients_match_finite_differences_with_gates_shut_and_a_state(name, device):
    arguments = [torch.from_numpy(x).to(device).requires_grad_() for x in drawn(name, 9, 5)]
    for array in arguments[3:]:
        array.data[[1, 3]] = 0
    options = {"chunk": 3} if name.endswith("chunked") else {}
    states = []
    if name in STATEFUL:
        states = [x.requires_grad_() for x in outputs(tensors(state_for(name, 10), device))]

    def function(*given):
        given, state = given[: len(arguments)], given[len(arguments) :]
        if name.startswith("linear"):
            state = [state]
        return tuple(outputs(getattr(fast, name)(*given, *state, **options)))

    assert torch.autograd.gradcheck(function, (*arguments, *states))


@LIBRARIES
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL])
def test_inputs_are_left_alone_and_may_be_views(library, name):
    given = drawn(name, 11, 9)
    state = [taken(library, state_for(name, 12))] * (name in STATEFUL)
    arguments = converted(library, *given)
    strided = [
        x.swapaxes(0, 1).copy().swapaxes(0, 1) if x.ndim == 2 else x.repeat(2)[::2] for x in given
    ]
    before = copy.deepcopy((arguments, state))
    expected = getattr(library, name)(*arguments, *state)
    for array, was in zip(
        [*arguments, *outputs(tuple(state))], [*before[0], *outputs(tuple(before[1]))], strict=True
    ):
        np.testing.assert_array_equal(array, was)
    assert_same(getattr(library, name)(*converted(library, *strided), *state), expected)


@LIBRARIES
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL[:1], *STATEFUL[:2]])
def test_feature_maps_may_change_the_width(library, name):
    q, k, v = converted(library, *drawn(name, 13, 5))
    kept = {"state": taken(library, state_for(name, 14, d=1))} if name in STATEFUL else {}
    out = getattr(library, name)(q, k, v, feature_map=lambda x: x[..., :1] ** 2, **kept)
    expected = getattr(library, name)(q[:, :1], k[:, :1], v, feature_map=lambda x: x**2, **kept)
    assert_same(out, expected)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL])
def test_compiles(name):
    arguments = [torch.from_numpy(x) for x in drawn(name, 15, 3)]
    state = [tensors(state_for(name, 16))] * (name in STATEFUL)
    options = {"chunk": 2} if name.endswith("chunked") else {}
    function = functools.partial(getattr(fast, name), **options)
    torch.compiler.reset()  # the functions of other tests count against torch's limit
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert_same(compiled(*arguments, *state), function(*arguments, *state))


# Cost

MEASURE = """
import json, resource, sys
import numpy as np
from attn_course import {library} as library
from measure import in_turns, peak

LIMIT = 8 * 2**30  # a quadratic form fails at once, instead of filling the machine
resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
rng = np.random.default_rng(0)

def arguments(n):
    made = [rng.standard_normal(shape).astype(np.float32) / 4 for shape in [(n, 16)] * 3]
    made.append(rng.random(n).astype(np.float32))
    if {torch}:
        import torch
        torch.set_num_threads(1)
        made = [torch.from_numpy(x) for x in made]
    return made

figures = dict()
for name, count in (
    ("linear_attention", 3),
    ("linear_attention_chunked", 3),
    ("gated_linear_attention_chunked", 4),
    ("delta_rule_chunked", 4),
):
    short, long = (arguments(n)[:count] for n in (2**14, 2**16))
    before = peak()
    function = getattr(library, name)
    times = in_turns(lambda: function(*short), lambda: function(*long))
    figures[name] = times[1] / times[0], (peak() - before) / 1e6
print(json.dumps(figures))
"""


@LIBRARIES
def test_time_and_memory_grow_with_the_length_not_its_square(library):
    short = library.__name__.rpartition(".")[-1]
    code = MEASURE.format(library=short, torch=library is fast)
    for name, (ratio, megabytes) in in_own_process("-c", code, **KEEPING).items():
        # Four times the length costs four times the time, and 16 if it were the square.
        assert ratio < 10, f"{name}: {ratio} times the time"
        # Queries, keys and values have 12 MB; 65536² weights would have 16384.
        assert megabytes < 250, f"{name}: {megabytes} MB"


# Bad arguments


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


Q, V, A = zeros(5, 3), zeros(5, 2), zeros(5)
STATE, Z = zeros(3, 2), zeros(3)
ONE_FOR_EACH = "4 keys for 5 queries, expected one for each"


BAD = [
    ("elu_features", ([1.0],), TypeError, "x is a list"),
    ("elu_features", (zeros(2, dtype=int),), TypeError, "x has dtype .*int64"),
    ("random_features", (zeros(3), zeros(4, 3)), ValueError, r"x has shape \(3,\), expected"),
    ("random_features", (Q, zeros(3)), ValueError, r"projection has shape \(3,\), expected"),
    ("random_features", (Q, zeros(1, 4, 3)), ValueError, r"projection has shape \(1, 4, 3\)"),
    ("random_features", (Q, zeros(4, 5)), ValueError, r"projection has .*expected \(features, 3\)"),
    ("random_features", (Q, zeros(0, 3)), ValueError, r"projection has shape \(0, 3\)"),
    ("random_features", (zeros(5, 0), zeros(4, 0)), ValueError, r"projection has shape \(4, 0\)"),
    ("random_features", (Q, zeros(4, 3, dtype=int)), TypeError, "projection has dtype .*int64"),
    ("random_features", (Q, None), TypeError, "projection is a NoneType"),
    ("linear_attention", (Q, zeros(4, 2), V), ValueError, "keys have width 2, queries have"),
    ("linear_attention", (Q, zeros(4, 3), V), ValueError, "5 values for 4 keys"),
    ("linear_attention", (Q, Q, V.astype(np.float32)), TypeError, "v has dtype .*float32"),
]
for causal in CAUSAL:
    more = [A] * (not causal.startswith("linear"))
    BAD += [
        (causal, (Q, zeros(4, 3), zeros(4, 2), *more), ValueError, ONE_FOR_EACH),
        (causal, (Q, Q, zeros(4, 2), *more), ValueError, "4 values for 5 keys"),
        (causal, (zeros(2, 5, 3), Q, V, *more), ValueError, "expected the leading axes"),
    ]
    if more:
        strength = "beta" if causal.startswith("delta") else "decay"
        BAD += [
            (causal, (Q, Q, V, 0.5), TypeError, f"{strength} is 0.5"),
            (causal, (Q, Q, V, zeros(4)), ValueError, rf"{strength} has shape \(4,\), .*\(5,\)"),
            (causal, (Q, Q, V, zeros(5, 1)), ValueError, rf"{strength} has shape \(5, 1\)"),
            (causal, (Q, Q, V, A.astype(int)), TypeError, f"{strength} has dtype .*int64"),
        ]
for stateful in STATEFUL[2:]:
    BAD += [
        (stateful, (Q, Q, V, A, V), ValueError, r"state has shape \(5, 2\), expected \(3, 2\)"),
        (stateful, (Q, Q, V, A, (STATE, Z)), TypeError, "state is a tuple"),
        (stateful, (Q, Q, V, A, STATE.astype(int)), TypeError, "state has dtype .*int64"),
    ]
for stateful in STATEFUL[:2]:
    BAD += [
        (stateful, (Q, Q, V, STATE), TypeError, "state is .*expected None or the pair"),
        (stateful, (Q, Q, V, (Z,)), TypeError, "state is a tuple, expected None or the pair"),
        (stateful, (Q, Q, V, (None, None)), TypeError, r"state\[0\] is a NoneType"),
    ]

test_bad_arguments = refuses(BAD)

BAD_OPTIONS = [
    (dict(feature_map=None), TypeError, "feature_map is a NoneType, expected a function"),
    (dict(feature_map=lambda x: 1.0), TypeError, r"feature_map\(q\) is 1.0"),
    (dict(feature_map=lambda x: x[:2]), ValueError, r"feature_map\(q\) has shape \(2, 3\), exp"),
    (dict(feature_map=lambda x: x[0]), ValueError, r"feature_map\(q\) has shape \(3,\), expected"),
    (dict(feature_map=lambda x: x > 0), TypeError, r"feature_map\(q\) has dtype .*bool"),
]


@pytest.mark.usefixtures("unchecked")
@LIBRARIES
@pytest.mark.parametrize("name", ["linear_attention", *CAUSAL[:1], *STATEFUL[:2]])
@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_bad_feature_maps(library, name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(library, name)(*converted(library, Q, Q, V), **options)


@pytest.mark.usefixtures("unchecked")
@LIBRARIES
def test_feature_maps_must_have_one_width_and_the_dtype_they_are_given(library):
    q, k, v = converted(library, Q, Q + 1, V)
    with pytest.raises(ValueError, match=r"feature_map\(k\) has width 1, feature_map\(q\) has wid"):
        library.linear_attention(q, k, v, feature_map=lambda x: x[:, :1] if x[0, 0] else x)
    (double,) = converted(library, Q)
    q, k, v = converted(library, *(x.astype(np.float16) for x in (Q, Q, V)))
    with pytest.raises(TypeError, match=r"feature_map\(q\) has dtype .*64, expected .*32, the dt"):
        library.linear_attention(q, k, v, feature_map=lambda x: double)


@pytest.mark.usefixtures("unchecked")
@LIBRARIES
@pytest.mark.parametrize("name", STATEFUL[1::2])
def test_bad_chunks(library, name):
    arguments = converted(library, *drawn(name, 0, 5))
    for chunk, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"chunk is {chunk}"):
            getattr(library, name)(*arguments, chunk=chunk)


@pytest.mark.usefixtures("unchecked")
def test_what_is_on_another_device_is_named():
    q, v, a, S, z = (torch.from_numpy(array) for array in (Q, V, A, STATE, Z))
    cases = [
        (lambda: fast.random_features(q, q.to("meta")), "projection"),
        (lambda: fast.delta_rule_recurrent(q, q, v, a.to("meta")), "beta"),
        (lambda: fast.delta_rule_chunked(q, q, v, a, S.to("meta")), "state"),
        (lambda: fast.linear_attention_recurrent(q, q, v, (S, z.to("meta"))), r"state\[1\]"),
    ]
    for call, name in cases:
        with pytest.raises(ValueError, match=f"{name} is on meta, expected cpu"):
            call()
