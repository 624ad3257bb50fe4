"""Positions: small ones by hand, published values, laws, exact edges, bad arguments."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from libraries import converted, refuses
from rotary_embedding_torch import RotaryEmbedding
from tolerance import assert_equal64
from torch.nn.attention.flex_attention import flex_attention

from attn_course import fast, reference

BOTH = pytest.mark.parametrize("library", [reference, fast])
ROTARY = pytest.mark.parametrize("name", ["rotary", "rotary_interleaved"])
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

seeds = st.integers(0, 999)
sizes = st.integers(0, 9)
evens = st.integers(0, 4).map(lambda n: 2 * n)
anywhere = st.floats(-1000, 1000)


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


# Sinusoidal


def test_sinusoidal_by_hand():
    expected = [
        [wave(p / 10000 ** (m / 3)) for m in range(3) for wave in (math.sin, math.cos)]
        for p in range(5)
    ]
    assert_equal64(reference.sinusoidal_positions(5, 6), expected)


@given(sizes, evens, st.integers(0, 500))
def test_a_shift_turns_sinusoidal_positions(length, width, shift):
    later = reference.sinusoidal_positions(shift + length, width)[shift:]
    # Of a pair (sin, cos) the angle grows clockwise.
    here = reference.sinusoidal_positions(length, width)
    assert_equal64(reference.rotary_interleaved(here, np.array([-shift])), later)


# Rotary


def test_angles_by_hand():
    angles = reference.rotary_angles(np.array([[0.0], [2.5]]), 6, base=1000.0)
    assert_equal64(angles, [[[0, 0, 0]], [[2.5, 0.25, 0.025]]])
    assert_equal64(reference.rotary_angles(np.array([1]), 4), [[1, 0.01]])


@BOTH
@ROTARY
def test_rotary_is_the_exponential_of_a_turn(library, name):
    n, d, base = 3, 8, 50.0
    x, positions = drawn(1, n, d), np.array([-2.0, 0.5, 7.0])
    velocity = np.zeros((d, d))
    for m in range(d // 2):
        a, b = (m, m + d // 2) if name == "rotary" else (2 * m, 2 * m + 1)
        # (1, 0) moves toward (0, 1), and that toward (-1, 0).
        velocity[b, a] = base ** (-2 * m / d)
        velocity[a, b] = -velocity[b, a]
    turns = torch.matrix_exp(torch.from_numpy(positions[:, None, None] * velocity)).numpy()
    ours = getattr(library, name)(*converted(library, x, positions), base)
    assert_equal64(ours, (turns @ x[..., None])[..., 0])


def test_rotary_interleaved_is_that_of_rotary_embedding_torch():
    x = torch.from_numpy(drawn(2, 2, 3, 11, 8)).float()
    theirs = RotaryEmbedding(dim=8).rotate_queries_or_keys(x)
    torch.testing.assert_close(fast.rotary_interleaved(x, torch.arange(11)), theirs)


@given(seeds, sizes, evens, anywhere)
def test_the_two_pairings_differ_by_a_permutation(seed, n, d, shift):
    x, positions = drawn(seed, n, d), np.arange(n) + shift
    order = np.arange(d).reshape(2, d // 2).T.ravel()  # 0, d/2, 1, d/2 + 1, …
    assert_equal64(
        reference.rotary_interleaved(x[..., order], positions),
        reference.rotary(x, positions)[..., order],
    )


@given(seeds, evens, anywhere, anywhere, anywhere)
@ROTARY
def test_scores_depend_on_the_distance_alone(name, seed, d, m, n, shift):
    rotate = getattr(reference, name)
    q, k = drawn(seed, 2, 1, d)

    def score(m, n):
        return rotate(q, np.array([m])) @ rotate(k, np.array([n])).T

    assert_equal64(score(m + shift, n + shift), score(m, n))
    assert_equal64(score(m - n, 0), score(m, n))


@given(seeds, sizes, evens, anywhere, anywhere)
@ROTARY
def test_rotations_form_a_group_that_keeps_lengths(name, seed, n, d, a, b):
    rotate = getattr(reference, name)
    x, a, b = drawn(seed, n, d), a + np.arange(n), b * np.ones(n)
    np.testing.assert_array_equal(rotate(x, np.zeros(n)), x)
    assert_equal64(rotate(rotate(x, a), b), rotate(x, a + b))
    assert_equal64(np.linalg.norm(rotate(x, a), axis=-1), np.linalg.norm(x, axis=-1))


@ROTARY
def test_the_gradient_of_a_rotation_is_the_rotation_back(name, device):
    rotate = getattr(fast, name)
    x, grad = (torch.from_numpy(drawn(seed, 2, 5, 6)).to(device) for seed in (3, 4))
    positions = torch.arange(5, device=device)
    rotate(x.requires_grad_(), positions).backward(grad)
    assert_equal64(x.grad, rotate(grad, -positions))


@ROTARY
def test_gradients_reach_the_positions(name):
    x, positions = torch.from_numpy(drawn(5, 5, 6)), torch.from_numpy(drawn(6, 5))
    assert torch.autograd.gradcheck(
        lambda positions: getattr(fast, name)(x, positions), positions.requires_grad_()
    )


@BOTH
@ROTARY
def test_positions_broadcast(library, name):
    rotate = getattr(library, name)
    x = drawn(7, 2, 3, 5, 4)
    positions = np.arange(10).reshape(2, 1, 5)
    x, positions = converted(library, x, positions)
    out = rotate(x, positions)
    for b, h in np.ndindex(2, 3):
        assert_equal64(out[b, h], rotate(x[b, h], positions[b, 0]))
    assert_equal64(rotate(x, positions[0, 0, 3:4]), rotate(x, positions[0, 0, 3:4].reshape(())))


@BOTH
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.float16, np.float32])
def test_positions_of_any_dtype_are_taken_exactly(library, kind):
    x, positions = drawn(8, 3, 4), np.array([0, 3, 101])
    expected = reference.rotary(x, positions)
    x, positions = converted(library, x, positions.astype(kind))
    out = library.rotary(x, positions)
    assert out.dtype == x.dtype
    assert_equal64(out, expected)


# At 10000^(-m/4) the angles are round numbers, whose cosines the C library computes exactly.
FAR = np.array([1e6, 1e5, 1e4, 1e3])
COS, SIN = (np.array([f(angle) for angle in FAR]) for f in (math.cos, math.sin))


@BOTH
@ROTARY
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_far_position_loses_no_digits_and_half_precision_is_rounded_once(library, name, dtype):
    if library is reference and dtype == torch.bfloat16:
        pytest.skip("NumPy has no bfloat16")
    order = np.arange(8) if name == "rotary" else [0, 4, 1, 5, 2, 6, 3, 7]
    x = torch.from_numpy(drawn(11, 40, 8)).to(dtype)
    a, b = x.double().numpy()[:, :4], x.double().numpy()[:, 4:]
    expected = np.concatenate([a * COS - b * SIN, b * COS + a * SIN], axis=-1)[:, order]
    x, far = (x.numpy(), np.array([10**6])) if library is reference else (x, torch.tensor([10**6]))
    out = getattr(library, name)(x[:, order], far)
    assert out.dtype == x.dtype
    if dtype == torch.float64:
        assert_equal64(out, expected)
        return
    # Half a unit in the last place, and what float32 loses on the way.
    half_a_unit = torch.finfo(dtype).eps / 2
    out = torch.as_tensor(out).double()
    np.testing.assert_allclose(out, expected, rtol=1.01 * half_a_unit, atol=5e-7)


@BOTH
@pytest.mark.parametrize("name", ["rotate_halves", "rotate_neighbors"])
def test_a_rotation_is_computed_in_the_widest_dtype_and_returned_in_that_of_x(library, name):
    # In half precision 4092 (1 + 2^-10) is 4096, and nothing would be left.
    x = np.array([[4096.0, 4092.0]], np.float16)
    c = np.ones(1), np.array([1 + 2.0**-10])
    for dtype in (np.float16, np.float32, np.float64):
        args = converted(library, x, *(a.astype(dtype) for a in c))
        out = getattr(library, name)(*args)
        assert out.dtype == args[0].dtype
        np.testing.assert_array_equal(out, [[2.0**-8, 8192]])
    wide = 1 + 2.0**-40
    arrays = converted(library, np.ones((1, 2), np.float32), np.array([wide]), np.ones(1))
    np.testing.assert_array_equal(getattr(library, name)(*arrays), np.float32([[2.0**-40, 2]]))


@BOTH
@ROTARY
def test_non_finite_inputs_propagate(library, name):
    x = np.ones((4, 4))
    x[1, 0], x[2, 3] = np.nan, np.inf
    x, positions = converted(library, x, np.array([1.0, 2.0, 3.0, np.inf]))
    finite = np.isfinite(np.asarray(getattr(library, name)(x, positions)))
    rows = {"rotary": ([1, 3], [0, 2]), "rotary_interleaved": ([2, 3], [0, 1])}[name]
    untouched = np.zeros((2, 4), bool)
    for row, columns in zip(untouched, rows, strict=True):
        row[columns] = True
    np.testing.assert_array_equal(finite, [[True] * 4, *untouched, [False] * 4])


@BOTH
@ROTARY
@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4), (2, 3, 0), (1, 2)])
def test_nothing_to_rotate_and_one_pair(library, name, shape):
    x, positions = converted(library, np.ones(shape), np.zeros(shape[-2]))
    out = getattr(library, name)(x, positions)
    np.testing.assert_array_equal(out, np.ones(shape))


VIEWS = {
    "from an odd place": lambda a: a[1:33].reshape(4, 8),
    "rows of odd length": lambda a: a[:36].reshape(4, 9)[:, :8],
    "three apart": lambda a: a[:96].reshape(4, 24)[:, ::3],
    "columns": lambda a: a[:32].reshape(8, 4).T,
}


@BOTH
@ROTARY
@pytest.mark.parametrize("view", VIEWS)
def test_rotary_takes_views_and_leaves_them_alone(library, name, view):
    line, rotate = drawn(9, 99), getattr(library, name)
    x = np.ascontiguousarray(VIEWS[view](line))
    x, same, positions = converted(library, x, line.copy(), np.arange(4))
    assert_equal64(rotate(VIEWS[view](same), positions), rotate(x, positions))
    np.testing.assert_array_equal(same, line)


# ALiBi

ROOT = math.sqrt(0.5)
PUBLISHED = {  # of the paper: 8 heads and 16; of the authors' rule: the others
    1: [1 / 256],
    2: [1 / 16, 1 / 256],
    3: [1 / 16, 1 / 256, 1 / 4],
    6: [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8],
    8: [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256],
    12: [2.0**-n for n in range(1, 9)] + [ROOT, ROOT / 2, ROOT / 4, ROOT / 8],
    16: [slope for n in range(8) for slope in (ROOT / 2**n, 0.5 / 2**n)],
}


@BOTH
@pytest.mark.parametrize("heads", PUBLISHED)
def test_published_slopes(library, heads):
    np.testing.assert_allclose(library.alibi_slopes(heads), PUBLISHED[heads], rtol=2e-7)
    assert_equal64(reference.alibi_slopes(heads), PUBLISHED[heads])


@given(st.integers(0, 7), st.integers(0, 127))
def test_slopes_between_powers_of_two_are_taken_from_twice_as_many(exponent, more):
    power = 2**exponent
    more %= power
    slopes = reference.alibi_slopes(power + more)
    assert_equal64(slopes[:power], reference.alibi_slopes(power))
    twice = reference.alibi_slopes(2 * power)
    assert_equal64(slopes[power:], twice[::2][:more])
    # Those of twice as many are the old ones, and a geometric mean before each.
    np.testing.assert_allclose(twice[1::2], slopes[:power], rtol=1e-14)
    before = np.append(1, slopes[: power - 1])
    np.testing.assert_allclose(twice[::2], np.sqrt(before * slopes[:power]), rtol=1e-14)


@BOTH
def test_bias_by_hand(library):
    distances = [[1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]]
    bias = np.asarray(library.alibi_bias(4, 3, 4))
    np.testing.assert_array_equal(bias[0], -np.array(distances) / 4)
    np.testing.assert_array_equal(bias[3], -np.array(distances) / 256)
    few = np.asarray(library.alibi_bias(4, 3, 1))  # the first two queries stand before the key
    np.testing.assert_array_equal(few[0, :, 0], [-0.5, -0.25, 0])
    assert not np.signbit(bias[:, 0, 1]).any()


def evaluated(library, mod, heads, queries, keys):
    h, i, j = converted(library, *np.ogrid[:heads, :queries, :keys])
    return mod(0, h, i, j)


@pytest.mark.parametrize("library", [reference, fast])
def test_alibi_takes_nothing_from_the_last_key_of_the_last_query(library):
    mod = library.alibi_mod(2, 3, 5)  # slopes 1/16 and 1/256
    h, i, j = (torch.tensor(x) if library is fast else np.array(x) for x in (0, 2, [4, 3, 0]))
    assert np.asarray(mod(0, h, i, j)).tolist() == [0, -1 / 16, -4 / 16]


@given(st.integers(1, 13), sizes, sizes)
def test_both_forms_of_alibi_agree(heads, queries, keys):
    array = reference.alibi_bias(heads, queries, keys)
    mod = reference.alibi_mod(heads, queries, keys)
    np.testing.assert_array_equal(evaluated(reference, mod, heads, queries, keys), array)
    mod = fast.alibi_mod(heads, queries, keys, dtype=torch.float64)
    assert_equal64(evaluated(fast, mod, heads, queries, keys), array)


@given(seeds, st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))
def test_alibi_depends_on_the_distance_alone(seed, heads, queries, keys):
    bias = reference.alibi_bias(heads, queries, keys)
    later = reference.alibi_bias(heads, queries + 3, keys + 3)
    np.testing.assert_array_equal(later[:, 3:, 3:], bias)
    np.testing.assert_array_equal(later[:, :-3, :-3], bias)


@pytest.mark.parametrize(("queries", "keys"), [(3, 7), (7, 3)])
def test_flex_attention_takes_alibi(device, queries, keys):
    q, k, v = (torch.from_numpy(drawn(n, 2, 3, n, 4)).to(device) for n in (queries, keys, keys))
    mod = fast.alibi_mod(3, queries, keys, device=device, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        theirs = flex_attention(q, k, v, lambda score, *where: score + mod(*where))
    bias = fast.alibi_bias(3, queries, keys, device=device, dtype=torch.float64)
    assert_equal64(fast.attention(q, k, v, bias=bias), theirs)


# T5's buckets


@BOTH
def test_buckets_by_hand(library):
    buckets = np.asarray(library.relative_buckets(1, 201, 18, 128))[0, ::-1]
    # (128 / 4)^(1/5) = 2: distances 0, 1, 2, 3, then 4 to 7, 8 to 15 and so on.
    assert [int(np.argmax(buckets == n)) for n in range(9)] == [0, 1, 2, 3, 4, 8, 16, 32, 64]
    assert (np.diff(buckets) >= 0).all()
    assert buckets[-1] == 8
    expected = [[1, 0, 5, 6], [2, 1, 0, 5], [2, 2, 1, 0]]
    np.testing.assert_array_equal(library.relative_buckets(3, 4, 8, 100), expected)
    expected = [[1, 0, 0, 0], [2, 1, 0, 0], [3, 2, 1, 0]]
    past = library.relative_buckets(3, 4, 7, 100, bidirectional=False)
    np.testing.assert_array_equal(past, expected)
    np.testing.assert_array_equal(library.relative_buckets(3, 1)[:, 0], [18, 17, 0])


def t5_bucket(relative, bidirectional, buckets, max_distance):
    """Return the bucket of key minus query, with the logarithm in float32 as T5's code has it."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if relative > 0 else 0
        distance = abs(relative)
    else:
        distance = max(-relative, 0)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    ratio = np.log(np.float32(distance) / np.float32(exact))
    ratio = ratio / np.float32(math.log(max_distance / exact))
    return first + min(exact + int(ratio * np.float32(buckets - exact)), buckets - 1)


SETTINGS = [
    (True, 32, 128),  # T5's encoder
    (False, 32, 128),  # its decoder
    (True, 32, 256),
    (False, 64, 512),
    (True, 64, 128),
    (True, 18, 128),  # exact edges that a logarithm in float64 falls short of
    (False, 7, 100),
    (True, 4, 2),
    (False, 2, 2),
]


@pytest.mark.parametrize(("bidirectional", "buckets", "max_distance"), SETTINGS)
def test_buckets_are_those_of_t5(bidirectional, buckets, max_distance):
    last = 10000
    expected = [
        t5_bucket(relative, bidirectional, buckets, max_distance)
        for relative in range(-last, last + 1)
    ]
    options = {"bidirectional": bidirectional}
    for library in (reference, fast):
        past = library.relative_buckets(1, last + 1, buckets, max_distance, **options)
        np.testing.assert_array_equal(past[0], expected[: last + 1])
        future = library.relative_buckets(last + 1, 1, buckets, max_distance, **options)
        np.testing.assert_array_equal(future[:, 0], expected[:last:-1] + expected[last : last + 1])


@given(sizes, sizes, st.booleans(), st.integers(2, 20), st.integers(11, 60))
def test_bias_is_looked_up_by_distance(queries, keys, bidirectional, half, max_distance):
    table = drawn(10, 2 * half, 3)
    options = {"bidirectional": bidirectional}
    max_distance += half
    expected = np.zeros((3, queries, keys))
    for i, j in np.ndindex(queries, keys):
        relative = j - (i + keys - queries)
        expected[:, i, j] = table[t5_bucket(relative, bidirectional, 2 * half, max_distance)]
    for library in (reference, fast):
        (converted_table,) = converted(library, table)
        bias = library.relative_bias(converted_table, queries, keys, max_distance, **options)
        np.testing.assert_array_equal(bias, expected)


def test_the_gradient_of_a_bias_counts_its_places(device):
    table = torch.zeros(8, 3, dtype=torch.float64, device=device, requires_grad=True)
    fast.relative_bias(table, 6, 11, 5).sum().backward()
    counts = torch.bincount(fast.relative_buckets(6, 11, 8, 5).flatten(), minlength=8)
    assert counts.sum() == 66
    np.testing.assert_array_equal(table.grad.cpu(), counts[:, None].expand(8, 3))


# What all have in common


@BOTH
def test_no_queries_no_keys(library):
    (table,) = converted(library, np.ones((4, 3)))
    for queries, keys in ((0, 0), (0, 5), (5, 0)):
        assert tuple(library.alibi_bias(3, queries, keys).shape) == (3, queries, keys)
        assert tuple(library.relative_buckets(queries, keys).shape) == (queries, keys)
        assert tuple(library.relative_bias(table, queries, keys).shape) == (3, queries, keys)
    assert tuple(library.sinusoidal_positions(0, 4).shape) == (0, 4)
    assert tuple(library.sinusoidal_positions(3, 0).shape) == (3, 0)
    assert library.sinusoidal_positions(1, 2).tolist() == [[0, 1]]


FROM_SIZES = {
    "sinusoidal_positions": (50, 6),
    "alibi_slopes": (12,),
    "alibi_bias": (12, 50, 60),
}


@pytest.mark.parametrize("name", FROM_SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_from_sizes_are_rounded_once_and_made_where_named(name, dtype, device):
    make, sizes = getattr(fast, name), FROM_SIZES[name]
    exact = torch.from_numpy(getattr(reference, name)(*sizes))
    ours = make(*sizes, dtype=dtype, device=device)
    assert ours.dtype == dtype
    assert ours.device.type == torch.device(device).type
    if dtype == torch.float64:
        assert_equal64(ours, exact)
    else:
        assert torch.equal(ours.cpu(), exact.to(dtype))
    assert make(*sizes).dtype == torch.float32
    assert make(*sizes, device="meta").device.type == "meta"


def test_the_functions_of_sizes_follow_the_device_and_the_default_dtype():
    assert fast.relative_buckets(2, 3, device="meta").device.type == "meta"
    assert fast.alibi_mod(3, 2, 2, dtype=torch.float16)(0, 1, 0, 0).dtype == torch.float16
    torch.set_default_dtype(torch.float64)
    try:
        assert fast.alibi_slopes(3).dtype == torch.float64
        assert fast.sinusoidal_positions(3, 2).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        *FROM_SIZES.items(),
        ("rotary", (torch.ones(3, 4), torch.arange(3))),
        ("rotary_interleaved", (torch.ones(3, 4), torch.arange(3))),
        ("relative_buckets", (5, 9)),
        ("relative_bias", (torch.arange(12.0).reshape(4, 3), 5, 9)),
    ],
)
def test_positions_compile(name, sizes):
    function = getattr(fast, name)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert torch.equal(compiled(*sizes), function(*sizes))


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


X, P, C = zeros(2, 3, 4), np.arange(3), zeros(3, 2)
TABLE = zeros(8, 3)
BAD = [
    ("sinusoidal_positions", (3, 5), ValueError, "width is 5, expected an even number"),
    ("sinusoidal_positions", (3, -2), ValueError, "width is -2, expected at least 0"),
    ("sinusoidal_positions", (-3, 2), ValueError, "length is -3, expected at least 0"),
    ("sinusoidal_positions", (3.0, 2), TypeError, "length is 3.0, expected an integer"),
    ("sinusoidal_positions", (3, "2"), TypeError, "width is a str"),
    ("rotary_angles", (P, 3), ValueError, "width is 3, expected an even number"),
    ("rotary_angles", ([1, 2], 4), TypeError, "positions is a list, expected a .*"),
    ("rotary_angles", (3, 4), TypeError, "positions is 3, expected a .*"),
    ("rotary_angles", (np.array([True]), 4), TypeError, "positions has dtype .*bool, expected an"),
    ("rotary_angles", (zeros(3, dtype=complex), 4), TypeError, "positions has dtype .*complex128"),
    ("rotary_angles", (P, 4, 0.0), ValueError, "base is 0.0, expected a positive finite number"),
    ("rotary_angles", (P, 4, "1"), TypeError, "base is a str"),
    ("rotary", (X, P, -1.0), ValueError, "base is -1.0"),
    ("rotary", (X, P, np.inf), ValueError, "base is inf"),
    ("rotary", (zeros(3, 5), P), ValueError, r"x has shape \(3, 5\): width 5, expected an even"),
    ("rotary", (zeros(4), P), ValueError, r"x has shape \(4,\), expected \(\.\.\., length, width"),
    ("rotary", (X.astype(int), P), TypeError, "x has dtype .*int64"),
    ("rotary", (X.tolist(), P), TypeError, "x is a list"),
    ("rotary", (X, np.arange(4)), ValueError, r"positions has shape \(4,\), expected .* \(2, 3\)"),
    ("rotary", (X, zeros(5, 2, 3)), ValueError, r"positions has shape \(5, 2, 3\)"),
    ("rotary", (X, 1), TypeError, "positions is 1"),
    ("rotary_interleaved", (X, np.arange(2)), ValueError, r"positions has shape \(2,\)"),
    ("rotary_interleaved", (zeros(3, 5), P), ValueError, "width 5, expected an even width"),
    ("rotate_halves", (zeros(3, 5), C, C), ValueError, "width 5, expected an even width"),
    ("rotate_halves", (X, zeros(3, 4), C), ValueError, r"cos has shape \(3, 4\), .*\(2, 3, 2\)"),
    ("rotate_halves", (X, C, zeros(3, 4)), ValueError, r"sin has shape \(3, 4\), .*\(2, 3, 2\)"),
    ("rotate_halves", (X, P, C), TypeError, "cos has dtype .*int64"),
    ("rotate_halves", (X, C, C.astype(np.float32)), TypeError, "sin has dtype .*float32, expected"),
    ("rotate_neighbors", (X, C, 1.0), TypeError, "sin is 1.0"),
    ("rotate_neighbors", (zeros(4), C, C), ValueError, r"x has shape \(4,\)"),
    ("alibi_slopes", (0,), ValueError, "heads is 0, expected at least 1"),
    ("alibi_slopes", (2.0,), TypeError, "heads is 2.0, expected an integer"),
    ("alibi_bias", (0, 3, 3), ValueError, "heads is 0"),
    ("alibi_bias", (3, -1, 3), ValueError, "queries is -1"),
    ("alibi_bias", (3, 1, -3), ValueError, "keys is -3"),
    ("alibi_mod", (0, 3, 3), ValueError, "heads is 0"),
    ("alibi_mod", (3, True, 3), TypeError, "queries is True"),
    ("relative_buckets", (-1, 3), ValueError, "queries is -1"),
    ("relative_buckets", (3, None), TypeError, "keys is a NoneType"),
    ("relative_buckets", (3, 3, 7), ValueError, "buckets is 7, expected an even number: half for"),
    ("relative_buckets", (3, 3, 2), ValueError, "buckets is 2, expected at least 4"),
    ("relative_buckets", (3, 3, 32, 8), ValueError, "max_distance is 8, expected from 9 to 2147"),
    ("relative_buckets", (3, 3, 32, 2**31 + 1), ValueError, "max_distance is 2147483649, expected"),
    ("relative_buckets", (3, 3, 32, 9.5), TypeError, "max_distance is 9.5, expected an integer"),
    ("relative_bias", (zeros(8), 3, 3), ValueError, r"table has shape \(8,\), expected \(buckets"),
    ("relative_bias", (TABLE[None], 3, 3), ValueError, r"table has shape \(1, 8, 3\)"),
    ("relative_bias", (zeros(7, 3), 3, 3), ValueError, r"table.shape\[0\] is 7, expected an even"),
    ("relative_bias", (TABLE.astype(int), 3, 3), TypeError, "table has dtype .*int64"),
    ("relative_bias", (TABLE, 3, 3, 2), ValueError, "max_distance is 2, expected from 3"),
    ("relative_bias", (TABLE, 3, -1), ValueError, "keys is -1"),
]

test_bad_arguments = refuses(BAD)


@pytest.mark.usefixtures("unchecked")
@BOTH
def test_bad_directions(library):
    with pytest.raises(TypeError, match="bidirectional is 1, expected a bool"):
        library.relative_buckets(3, 3, bidirectional=1)
    with pytest.raises(ValueError, match="buckets is 1, expected at least 2"):
        library.relative_buckets(3, 3, 1, bidirectional=False)
    with pytest.raises(ValueError, match="max_distance is 16, expected from 17 to"):
        library.relative_buckets(3, 3, 32, 16, bidirectional=False)


@pytest.mark.usefixtures("unchecked")
def test_a_dtype_that_is_not_floating_and_a_tensor_elsewhere_are_named():
    for name, sizes in {**FROM_SIZES, "alibi_mod": (3, 2, 2)}.items():
        with pytest.raises(TypeError, match=r"dtype is torch\.int64, expected a floating dtype"):
            getattr(fast, name)(*sizes, dtype=torch.int64)
    x, positions, c = (torch.from_numpy(array) for array in (X, P, C))
    with pytest.raises(ValueError, match="positions is on meta, expected cpu, the device of x"):
        fast.rotary(x, positions.to("meta"))
    with pytest.raises(ValueError, match="sin is on meta, expected cpu"):
        fast.rotate_halves(x, c, c.to("meta"))
    with pytest.raises(ValueError, match="cos is on meta, expected cpu, the device of x"):
        fast.rotate_halves(x, c.to("meta"), c.to("meta"))
