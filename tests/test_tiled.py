"""tiled_attention and its parts: equal to attention, tiles skipped, gradients, bad arguments."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import converted, outputs, refuses
from measure import in_own_process
from tolerance import assert_as_exact_as_plain, assert_equal64

from attn_course import fast, reference

LIBRARIES = [reference, fast]
FLOATS = [np.float16, np.float32, np.float64]


def drawn(seed, i, j, d=3, e=2, batch=()):
    rng = np.random.default_rng(seed)
    shapes = (i, d), (j, d), (j, e)
    return [rng.standard_normal((*batch, *shape)) for shape in shapes]


def drawn_options(seed, i, j):
    """Return a mask, the first of whose rows is empty, a bias and numbers, for all steps."""
    rng = np.random.default_rng(seed)
    mask = rng.random((i, j)) < 0.6
    mask[:1] = False
    return {"mask": mask, "bias": rng.standard_normal((i, j)), "scale": 0.7, "softcap": 1.5}


def called(library, name, *arguments, **options):
    options = dict(zip(options, converted(library, *options.values()), strict=True))
    return getattr(library, name)(*converted(library, *arguments), **options)


@pytest.mark.parametrize("library", LIBRARIES)
def test_three_keys_in_two_tiles_by_hand(library):
    # The scores log 1, log 2, log 5 give weights 1/8, 2/8, 5/8; their exponentials sum to 8.
    q, k = np.ones((1, 1)), np.log([[1.0], [2.0], [5.0]])
    v = np.array([[8.0], [4.0], [0.0]])
    output, lse = called(library, "partial_attention", q, k, v, block=2)
    assert_equal64(output, [[2]])
    assert_equal64(lse, [np.log(8)])
    # Alone, the first two sum to 3 and have the average 16 / 3; the third sums to 5.
    outputs, lses = np.array([[[16 / 3]], [[0.0]]]), np.log([[3.0], [5.0]])
    output, lse = called(library, "merge_attention", outputs, lses)
    assert_equal64(output, [[2]])
    assert_equal64(lse, [np.log(8)])


sizes = st.integers(1, 9)


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=40)
@given(st.integers(0, 999), sizes, sizes, st.integers(1, 11), st.booleans())
def test_every_block_gives_attention(library, seed, i, j, block, plain):
    q, k, v = drawn(seed, i, j, batch=(2,))
    options = {} if plain else drawn_options(seed, i, j)
    expected = reference.attention(q, k, v, **options)
    assert_equal64(called(library, "tiled_attention", q, k, v, block=block, **options), expected)


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=40)
@given(st.integers(0, 999), sizes, sizes, st.integers(1, 11), st.booleans())
def test_every_block_gives_the_gradients_of_attention(library, seed, i, j, block, plain):
    q, k, v = drawn(seed, i, j, batch=(2,))
    grad_output = np.random.default_rng(seed).standard_normal((2, i, 2))
    options = {} if plain else drawn_options(seed, i, j)
    expected = reference.attention_backward(q, k, v, grad_output, **options)
    actual = called(
        library, "tiled_attention_backward", q, k, v, grad_output, block=block, **options
    )
    for gradient, exact in zip(actual, expected, strict=True):
        assert_equal64(gradient, exact)


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=40)
@given(st.integers(0, 999), sizes, st.integers(0, 9), st.integers(1, 11))
def test_every_block_gives_softmax(library, seed, rows, n, block):
    x = np.random.default_rng(seed).standard_normal((rows, n))
    x[: rows // 2, : n // 2] = -np.inf
    x[0] = -np.inf
    assert_equal64(called(library, "online_softmax", x, block=block), reference.softmax(x))


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=40)
@given(st.integers(0, 999), sizes, st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_parts_merge_to_the_whole_in_any_order_and_grouping(library, seed, i, lengths):
    q, k, v = drawn(seed, i, sum(lengths))
    mask = np.random.default_rng(seed).random((i, sum(lengths))) < 0.5
    whole = called(library, "partial_attention", q, k, v, mask)
    q, *inputs = converted(library, q, k, v, mask.T)
    ends = np.cumsum(lengths)
    parts = [
        library.partial_attention(q, k, v, mask.T)
        for k, v, mask in (
            [x[end - length : end] for x in inputs]
            for end, length in zip(ends, lengths, strict=True)
        )
    ]
    order = np.random.default_rng(seed).permutation(len(parts))
    first, *others = (parts[place] for place in order)
    one_by_one = first
    for part in others:
        one_by_one = merged(library, one_by_one, part)
    at_once = merged(library, first, *others)
    for together in (one_by_one, at_once):
        for array, expected in zip(together, whole, strict=True):
            assert_equal64(array, expected)


def merged(library, *parts):
    stack = np.stack if library is reference else torch.stack
    return library.merge_attention(*(stack(arrays) for arrays in zip(*parts, strict=True)))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("parts", [0, 1, 3])
def test_empty_parts_merge_to_zeros(library, parts):
    outputs, lses = np.zeros((parts, 5, 2)), np.full((parts, 5), -np.inf)
    output, lse = called(library, "merge_attention", outputs, lses)
    np.testing.assert_array_equal(output, np.zeros((5, 2)))
    np.testing.assert_array_equal(lse, np.full(5, -np.inf))


def test_lse_is_the_logarithm_of_the_sum_of_exponentials(device):
    q, k, v = (torch.from_numpy(x).to(device) for x in drawn(1, 5, 9, batch=(2, 3)))
    options = drawn_options(1, 5, 9)
    mask, bias = (torch.from_numpy(options[name]).to(device) for name in ("mask", "bias"))
    scores = 1.5 * torch.tanh(0.7 * q @ k.mT / 1.5) + bias
    expected = scores.masked_fill(~mask, -torch.inf).logsumexp(dim=-1)
    _, lse = fast.partial_attention(q, k, v, mask, bias=bias, scale=0.7, softcap=1.5, block=4)
    assert_equal64(lse, expected)
    arrays = (x.cpu().numpy() for x in (q, k, v))
    assert_equal64(reference.partial_attention(*arrays, **options, block=4)[1], expected)
    # A number added to every score leaves the output as it is, but not the lse.
    _, lse = fast.partial_attention(q, k, v, bias=2.5, block=4)
    assert_equal64(lse, (q @ k.mT / 3**0.5).logsumexp(dim=-1) + 2.5)
    arrays = (x.cpu().numpy() for x in (q, k, v))
    assert_equal64(reference.partial_attention(*arrays, bias=2.5, block=4)[1], lse)


MODS = [
    ("causal", ()),
    ("window", (3,)),
    ("prefix", (4,)),
]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("i", "j"), [(7, 7), (5, 9), (9, 5)])
def test_functions_of_positions_are_their_arrays(library, batch, i, j):
    q, k, v = drawn(2, i, j, batch=batch)
    for name, arguments in MODS:
        mod = getattr(library, f"{name}_mod")(i, j, *arguments)
        mask = getattr(reference, f"{name}_mask")(i, j, *arguments)
        for block in (1, 4, 512):
            actual = called(library, "tiled_attention", q, k, v, mod, block=block)
            assert_equal64(actual, reference.attention(q, k, v, mask))


@pytest.mark.parametrize("library", LIBRARIES)
def test_functions_are_asked_by_batch_and_head(library):
    q, k, v = drawn(3, 5, 9, batch=(2, 3))
    lengths, heads = np.array([4, 9]), np.arange(3)[:, None, None]
    documents = np.random.default_rng(4).integers(0, 2, (2, 9))
    by_padding, by_document = (
        library.padding_mod(*converted(library, lengths)),
        library.document_mod(*converted(library, documents[:, 4:], documents)),
    )
    padding = reference.padding_mask(lengths, 9)
    document = reference.document_mask(documents[:, 4:], documents)
    for mod, mask in (
        (by_padding, padding),
        (by_document, document),
        (lambda b, h, i, j: by_padding(b, h, i, j) & by_document(b, h, i, j), padding & document),
        (lambda b, h, i, j: h == 1, np.broadcast_to(heads == 1, (3, 5, 9))),
        (lambda b, h, i, j: True, True),
        (lambda b, h, i, j: False, False),
    ):
        actual = called(library, "tiled_attention", q, k, v, mod, block=4)
        assert_equal64(actual, reference.attention(q, k, v, mask))
    # With three axes the first is heads, and the batch is 0.
    actual = called(library, "tiled_attention", q[0], k[0], v[0], by_padding, block=4)
    assert_equal64(actual, reference.attention(q[0], k[0], v[0], padding[0]))
    actual = called(library, "tiled_attention", q[0], k[0], v[0], lambda b, h, i, j: h == 1)
    assert_equal64(actual[1], reference.attention(q[0, 1], k[0, 1], v[0, 1]))
    assert (np.asarray(actual)[[0, 2]] == 0).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("batch", [(4,), (2, 4)])
def test_a_bias_may_be_a_function(library, batch):
    q, k, v = drawn(5, 5, 9, batch=batch)
    grad_output = np.random.default_rng(5).standard_normal((*batch, 5, 2))
    options = {"dtype": torch.float64} if library is fast else {}
    bias = library.alibi_mod(4, 5, 9, **options)
    expected = reference.attention(q, k, v, bias=reference.alibi_bias(4, 5, 9))
    assert_equal64(called(library, "tiled_attention", q, k, v, bias=bias, block=4), expected)
    actual = called(library, "tiled_attention_backward", q, k, v, grad_output, bias=bias, block=4)
    exact = reference.attention_backward(q, k, v, grad_output, bias=reference.alibi_bias(4, 5, 9))
    for gradient, expected in zip(actual, exact, strict=True):
        assert_equal64(gradient, expected)
    number = called(library, "partial_attention", q, k, v, bias=lambda b, h, i, j: 2.0, block=4)
    for array, expected in zip(number, reference.partial_attention(q, k, v, bias=2.0), strict=True):
        assert_equal64(array, expected)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("as_function", [False, True])
def test_tiles_that_nobody_sees_are_never_read(library, as_function):
    q, k, v = drawn(6, 4, 12)
    mask = np.zeros((4, 12), bool)
    mask[1:, 5:7] = True  # of three tiles, only the second is seen
    out = reference.attention(q, k, v, mask)
    grads = reference.attention_backward(q, k, v, out, mask)
    unseen = np.r_[0:4, 8:12]
    k[unseen] = v[unseen] = np.nan
    (lookup,) = converted(library, mask)
    asked = []

    def mod(b, h, i, j):
        asked.append((int(i.min()), int(i.max()), int(j.min()), int(j.max())))
        return lookup[i, j]

    given = mod if as_function else mask
    assert_equal64(called(library, "tiled_attention", q, k, v, given, block=4), out)
    if as_function:
        assert asked == [(0, 3, 0, 3), (0, 3, 4, 7), (0, 3, 8, 11)]
    actual = called(library, "tiled_attention_backward", q, k, v, out, given, block=4)
    for gradient, expected in zip(actual, grads, strict=True):
        assert_equal64(gradient, expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_causal_function_is_asked_once_a_tile(library):
    q, k, v = converted(library, *drawn(7, 10, 10, batch=(2, 3)))
    causal = library.causal_mod(10, 10)
    shapes = []

    def mod(b, h, i, j):
        seen = causal(b, h, i, j) & (b >= 0) & (h >= 0)
        shapes.append(tuple(seen.shape))
        return seen

    library.tiled_attention(q, k, v, mod, block=4)
    # The reference goes head by head, fast through all heads at once.
    heads = [(1, 1)] * 6 if library is reference else [(2, 3)]
    tiles = [(rows, columns) for rows in (4, 4, 2) for columns in (4, 4, 2)]
    assert shapes == [head + tile for head in heads for tile in tiles]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_extreme_scores_in_every_order_of_tiles(library, dtype):
    q = np.array([[100.0], [-100.0], [0.0]], dtype)
    k, v = np.array([[-100.0], [0.0], [100.0]], dtype), np.array([[1.0], [2.0], [6.0]], dtype)
    q, k, v = converted(library, q, k, v)
    before = copy.deepcopy((q, k, v))
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        out = library.tiled_attention(q, k[order], v[order], scale=1.0, block=1)
        np.testing.assert_allclose(out, [[6], [1], [3]], rtol=2e-3)
        assert out.dtype == q.dtype
        weights = library.online_softmax(k[order].T, block=1)
        # The next largest weight is exp(-100).
        np.testing.assert_allclose(weights, [[0, 0, 1]] @ np.eye(3)[order].T, atol=1e-40)
        assert weights.dtype == q.dtype
    for array, was in zip((q, k, v), before, strict=True):
        np.testing.assert_array_equal(array, was)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_empty_rows_are_zeros_forward_and_backward(library, softcap):
    q, k, v = drawn(8, 3, 5)
    mask = np.ones((3, 5), bool)
    mask[1], mask[:, 2] = False, False
    blocked = np.where(mask, 0.0, -np.inf)
    for options in ({"mask": mask}, {"bias": blocked}):
        options |= {"softcap": softcap, "block": 2}
        output, lse = called(library, "partial_attention", q, k, v, **options)
        np.testing.assert_array_equal(output[1], 0)
        assert lse[1] == -np.inf
        assert (np.asarray(output[[0, 2]]) != 0).all()
        assert np.isfinite(np.asarray(lse[[0, 2]])).all()
        grads = called(library, "tiled_attention_backward", q, k, v, np.ones((3, 2)), **options)
        grad_q, grad_k, grad_v = map(np.asarray, grads)
        for gradient, place in ((grad_q, 1), (grad_k, 2), (grad_v, 2)):
            assert (gradient[place] == 0).all()
            assert np.isfinite(gradient).all()
        assert (grad_v[[0, 1, 3, 4]] != 0).all()


@pytest.mark.parametrize("mask", [False, True, lambda b, h, i, j: j < 0])
@pytest.mark.parametrize(("i", "j"), [(3, 5), (3, 0), (0, 5), (0, 0)])
@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_seen(library, mask, i, j):
    q, k, v = converted(library, *drawn(9, i, j, batch=(2,)))
    if mask is True and j > 0 and i > 0:
        pytest.skip("something is seen")
    output, lse = library.partial_attention(q, k, v, mask, block=2)
    np.testing.assert_array_equal(output, np.zeros((2, i, 2)))
    np.testing.assert_array_equal(lse, np.full((2, i), -np.inf))
    grads = library.tiled_attention_backward(q, k, v, output, mask, block=2)
    if library is fast:
        inputs = [x.requires_grad_() for x in (q, k, v)]
        out = fast.tiled_attention(*inputs, mask, block=2)
        grads += torch.autograd.grad(out.sum(), inputs)
    for gradient, x in zip(grads, [q, k, v] * (len(grads) // 3), strict=True):
        assert gradient.shape == x.shape
        assert (np.asarray(gradient) == 0).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("place", [0, 4])
def test_what_is_not_finite_propagates(library, place):
    q, k, v = drawn(10, 2, 5)
    q[0] = np.abs(q[0])
    for wrong in (np.nan, np.inf):
        k[place] = wrong
        out = np.asarray(called(library, "tiled_attention", q, k, v, block=2))
        assert np.isnan(out[0]).all()
        mask = np.arange(5) != place
        out = called(library, "tiled_attention", q, k, v, mask, block=2)
        assert_equal64(out, reference.attention(q, k, v, mask))
        weights = called(library, "online_softmax", k.T, block=2)
        assert np.isnan(np.asarray(weights)).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_views_in_any_memory_order(library):
    q, k, v = drawn(11, 6, 10)
    expected = reference.attention(q[::2], k[::-1][:7], v[::-1][:7])
    q, k, v = np.asfortranarray(q)[::2], k[::-1][:7], v[::-1][:7]
    if library is fast:  # which has no negative strides
        k, v = (np.asfortranarray(x) for x in (k, v))
    assert_equal64(called(library, "tiled_attention", q, k, v, block=2), expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_block_may_be_of_any_size(library):
    q, k, v = drawn(16, 5, 9)
    for name, arguments in (
        ("online_softmax", (q,)),
        ("partial_attention", (q, k, v)),
        ("tiled_attention_backward", (q, k, v, q[:, :2])),
    ):
        expected = called(library, name, *arguments)
        ours = called(library, name, *arguments, block=10**400)
        for output, wanted in zip(outputs(ours), outputs(expected), strict=True):
            assert_equal64(output, wanted)


def test_what_was_made_in_inference_mode_can_be_used_outside(device):
    with torch.inference_mode():
        inputs = [torch.from_numpy(x).to(device).clone() for x in drawn(17, 5, 9)]
        mask = fast.causal_mask(5, 9, device=device)
    out = fast.tiled_attention(*inputs, mask, block=4)
    assert_equal64(out, fast.attention(*inputs, mask))


@pytest.mark.parametrize("library", LIBRARIES)
def test_half_precision_sums_in_single(library):
    q, k, v = (x.astype(np.float16) for x in drawn(12, 3, 3000, d=4))
    exact = reference.attention(*(x.astype(np.float64) for x in (q, k, v)))
    output, lse = called(library, "partial_attention", q, k, v, block=64)
    assert "float16" in str(output.dtype)
    assert "float32" in str(lse.dtype)
    assert_as_exact_as_plain(output, exact.astype(np.float16), exact)
    scores = q.astype(np.float64) @ k.astype(np.float64).T / 2
    np.testing.assert_allclose(lse, np.log(np.exp(scores).sum(axis=-1)), rtol=1e-5)
    # A bias is converted to half precision as in attention: -1e5 becomes -inf there.
    bias = np.full((1, 3000), -1e5, np.float32)
    np.testing.assert_array_equal(called(library, "tiled_attention", q, k, v, bias=bias), 0)


def test_what_a_function_holds_gets_its_gradient(device):
    q, k, v = (torch.from_numpy(x).to(device).requires_grad_() for x in drawn(13, 5, 9, batch=(3,)))
    slopes = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, device=device, requires_grad=True)
    i, j = torch.arange(5, device=device)[:, None], torch.arange(9, device=device)
    inputs = q, k, v, slopes
    tiled = fast.tiled_attention(
        q, k, v, bias=lambda b, h, i, j: slopes[h] * (j - i).abs(), softcap=2.0, block=4
    )
    plain = fast.attention(q, k, v, bias=slopes[:, None, None] * (j - i).abs(), softcap=2.0)
    weights = torch.linspace(0, 1, tiled.numel(), device=device).reshape(tiled.shape)
    for ours, theirs in zip(
        torch.autograd.grad((weights * tiled).sum(), inputs),
        torch.autograd.grad((weights * plain).sum(), inputs),
        strict=True,
    ):
        assert_equal64(ours, theirs)


def test_no_weights_are_kept_for_the_gradients():
    q, k, v = (torch.from_numpy(x).requires_grad_() for x in drawn(16, 40, 60, d=1, e=1))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()), id):
        fast.tiled_attention(q, k, v, block=10)
    assert sum(kept) < 40 * 60 / 4


def test_second_derivatives(device):
    inputs = [torch.from_numpy(x).to(device).requires_grad_() for x in drawn(14, 3, 5)]
    mask = fast.causal_mod(3, 5)
    assert torch.autograd.gradgradcheck(
        lambda q, k, v: fast.partial_attention(q, k, v, mask, softcap=2.0, block=2),
        inputs,
        fast_mode=True,
    )


def test_compiles():
    # In a process of its own: torch cannot trace methods in the wrapping of the tests' type checks.
    assert in_own_process("-c", COMPILED) == "equal"


COMPILED = """
import functools, json, torch
from attn_course import fast

q, k, v, bias = (torch.randn(shape) for shape in ((2, 5, 3), (2, 9, 3), (2, 9, 4), (5, 9)))
tiled = functools.partial(fast.tiled_attention, bias=bias, block=5)
for given in (q, k, v, fast.causal_mask(5, 9)), (q, k, v, fast.causal_mod(5, 9)):
    compiled = torch.compile(tiled, backend="eager", fullgraph=True)
    pairs = zip(compiled(*given), tiled(*given), strict=True)
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in pairs)
print(json.dumps("equal"))
"""


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


Q, K, V = zeros(3, 4), zeros(5, 4), zeros(5, 2)
G = zeros(3, 2)
FIVE = [x[None, None, None] for x in (Q, K, V)]


def mod(answer):
    return lambda b, h, i, j: answer(i, j)


MASK = r"mask\(b, h, i, j\)"
BIAS = r"bias\(b, h, i, j\)"
test_bad_arguments = refuses(
    [
        ("online_softmax", (zeros(3), 0), ValueError, "block is 0, expected at least 1"),
        ("online_softmax", (zeros(3), 2.0), TypeError, "block is 2.0, expected an integer"),
        ("online_softmax", (zeros(),), ValueError, r"x has shape \(\)"),
        ("online_softmax", (zeros(3, dtype=int),), TypeError, "x has dtype"),
        ("tiled_attention", (Q, zeros(5, 6), V), ValueError, "keys have width 6, queries have"),
        ("tiled_attention", (Q, K, zeros(6, 2)), ValueError, "6 values for 5 keys"),
        ("tiled_attention", (Q, K, V, np.ones((5, 3), bool)), ValueError, "mask has shape"),
        ("tiled_attention", (Q, K, V, "causal"), TypeError, "mask is a str"),
        ("tiled_attention", (Q, K, V, mod(lambda i, j: j)), TypeError, f"{MASK} has dtype"),
        ("tiled_attention", (Q, K, V, mod(lambda i, j: None)), TypeError, f"{MASK} is a NoneType"),
        ("tiled_attention", (Q, K, V, mod(lambda i, j: 1)), TypeError, f"{MASK} is 1"),
        (
            "tiled_attention",
            (Q, K, V, mod(lambda i, j: (j < i)[..., :2])),
            ValueError,
            rf"{MASK} has shape \(.*3, 2\), expected one that broadcasts to \(1, 1, 3, 5\)",
        ),
        (
            "tiled_attention",
            (*FIVE, mod(lambda i, j: j < i)),
            ValueError,
            r"mask is a function .* q has shape \(1, 1, 1, 3, 4\), expected at most four axes",
        ),
        ("partial_attention", (Q, K, V, None), TypeError, "mask is a NoneType"),
        ("partial_attention", (Q, K.tolist(), V), TypeError, "k is a list"),
        ("merge_attention", (zeros(2, 3), zeros(2)), ValueError, "outputs has shape"),
        (
            "merge_attention",
            (zeros(2, 3, 4), zeros(2, 4)),
            ValueError,
            r"lses has shape \(2, 4\), expected \(2, 3\)",
        ),
        ("merge_attention", (zeros(2, 3, 4), [0.0]), TypeError, "lses is a list"),
        ("merge_attention", (zeros(2, 3, 4), zeros(2, 3, dtype=int)), TypeError, "lses has dtype"),
        ("tiled_attention_backward", (Q, K, V, V), ValueError, r"grad_output has .*\(3, 2\)"),
        ("tiled_attention_backward", (Q, K, V, None), TypeError, "grad_output is a NoneType"),
        ("tiled_attention_backward", (Q, K, V, G, mod(lambda i, j: j)), TypeError, MASK),
    ]
)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["tiled_attention", "partial_attention"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(block=0), ValueError, "block is 0, expected at least 1"),
        (dict(block=True), TypeError, "block is True"),
        (dict(scale=np.inf), ValueError, "scale is inf"),
        (dict(softcap=0.0), ValueError, "softcap is 0.0"),
        (dict(bias=np.nan), ValueError, "bias is nan"),
        (dict(bias=zeros(5, 3)), ValueError, "bias has shape"),
        (dict(bias=mod(lambda i, j: j - i)), TypeError, f"{BIAS} has dtype"),
        (dict(bias=mod(lambda i, j: np.nan)), ValueError, f"{BIAS} is nan"),
        (dict(bias=mod(lambda i, j: (0.5 * j * i)[..., :2])), ValueError, f"{BIAS} has shape"),
    ],
)
def test_bad_options(name, library, options, error, message):
    with pytest.raises(error, match=message):
        called(library, name, Q, K, V, **options)
