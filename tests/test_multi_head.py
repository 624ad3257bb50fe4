"""Heads: split and merged, in groups that share keys, projected; the module; bad arguments."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import converted, refuses
from tolerance import assert_equal64
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attn_course import fast, reference

FLOATS = [np.float16, np.float32, np.float64]


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def by_repeating(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Grouped-query attention by its definition: every query head gets a copy of its key head."""
    group = q.shape[-3] // k.shape[-3]
    k, v = (np.repeat(x, group, axis=-3) for x in (k, v))
    scores = np.einsum("...id,...jd->...ij", q, k)
    scores = scores / np.sqrt(q.shape[-1]) if scale is None else scores * scale
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    exponentials = np.where(mask, np.exp(scores + bias), 0)
    total = exponentials.sum(axis=-1, keepdims=True)
    return np.einsum("...ij,...je->...ie", exponentials / np.where(total == 0, 1, total), v)


sizes = st.integers(1, 5)


@given(st.lists(st.integers(0, 3), max_size=2), st.integers(0, 4), sizes, st.integers(0, 3))
def test_merge_undoes_split(batch, n, heads, d):
    x = np.arange(float(np.prod([*batch, n, heads * d]))).reshape(*batch, n, heads * d)
    for library in (reference, fast):
        (given_x,) = converted(library, x)
        pieces = library.split_heads(given_x, heads)
        assert tuple(pieces.shape) == (*batch, heads, n, d)
        for h in range(heads):
            np.testing.assert_array_equal(pieces[..., h, :, :], x[..., h * d : (h + 1) * d])
        merged = library.merge_heads(pieces)
        np.testing.assert_array_equal(merged, x)
        assert merged.dtype == given_x.dtype


def test_splitting_copies_nothing():
    x = np.ones((2, 3, 8), np.float32)
    assert np.shares_memory(reference.split_heads(x, 4), x)
    tensor = torch.from_numpy(x)
    assert fast.split_heads(tensor, 4).data_ptr() == tensor.data_ptr()
    strided = x.swapaxes(0, 1)
    np.testing.assert_array_equal(reference.split_heads(strided, 2)[0, 1], strided[0, :, 4:])


@pytest.mark.parametrize("library", [reference, fast])
def test_neighboring_heads_share_a_key_head(library):
    # Weights of 1/4 and 3/4 on values that tell which key head was read: 10 + ..., 20 + ...
    q = np.ones((4, 1, 1))
    k = np.log(np.array([[[1.0], [3.0]], [[3.0], [1.0]]]))
    v = np.array([[[10.0], [14.0]], [[20.0], [24.0]]])
    out = library.grouped_query_attention(*converted(library, q, k, v))
    np.testing.assert_allclose(out[:, 0, 0], [13, 13, 21, 21], rtol=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 999), sizes, sizes, sizes, sizes, st.booleans())
def test_equals_repeating_the_keys(seed, key_heads, group, i, j, capped):
    heads = key_heads * group
    shapes = (2, heads, i, 3), (2, key_heads, j, 3), (2, key_heads, j, 4), (heads, i, j)
    q, k, v, bias = drawn(seed, *shapes)
    mask = bias > -1
    options = {"bias": bias, "scale": 0.7, "softcap": 1.5 if capped else None}
    expected = by_repeating(q, k, v, mask, **options)
    for library in (reference, fast):
        inputs = converted(library, q, k, v, mask)
        library_options = dict(zip(options, converted(library, *options.values()), strict=True))
        assert_equal64(library.grouped_query_attention(*inputs, **library_options), expected)
    assert_equal64(reference.grouped_query_attention(q, k, v), by_repeating(q, k, v))


@pytest.mark.parametrize("library", [reference, fast])
def test_as_many_key_heads_as_query_heads_is_attention(library):
    arguments = converted(library, *drawn(0, (2, 3, 5, 7), (2, 3, 9, 7), (2, 3, 9, 4)))
    expected = library.attention(*arguments, scale=0.4, softcap=2.0)
    actual = library.grouped_query_attention(*arguments, scale=0.4, softcap=2.0)
    assert_equal64(actual, expected)


@settings(max_examples=25)
@given(st.integers(0, 999), sizes, sizes)
def test_permuting_heads(seed, key_heads, group):
    heads = key_heads * group
    q, k, v, bias = drawn(seed, (heads, 3, 2), (key_heads, 4, 2), (key_heads, 4, 2), (heads, 1, 4))
    out = reference.grouped_query_attention(q, k, v, bias=bias)
    rng = np.random.default_rng(seed)
    groups = rng.permutation(key_heads)
    order = (groups[:, None] * group + rng.permutation(group)).ravel()
    moved = reference.grouped_query_attention(q[order], k[groups], v[groups], bias=bias[order])
    assert_equal64(moved, out[order])


# Shapes that broadcast to (2, 3, 6, 5, 9): batch of two axes, query heads, queries, keys.
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(
    "shape",
    [
        (),
        (9,),
        (5, 9),
        (5, 1),
        (6, 5, 9),
        (6, 1, 1),
        (3, 1, 1, 9),
        (2, 1, 1, 5, 9),
        (2, 3, 6, 5, 9),
    ],
    ids=str,
)
def test_masks_and_biases_broadcast(shape, softcap, device):
    q, k, v, bias = drawn(1, (2, 3, 6, 5, 4), (2, 3, 2, 9, 4), (2, 3, 2, 9, 4), shape)
    mask = np.random.default_rng(2).random(shape) < 0.7
    for axes in (5, 4, 3):  # of the inputs: the batch's axes are taken away
        if len(shape) <= axes:
            inputs = [x[(0,) * (5 - axes)] for x in (q, k, v)]
            for options in ({"mask": np.asarray(mask)}, {"bias": np.asarray(bias)}):
                expected = by_repeating(*inputs, **options, softcap=softcap)
                actual = reference.grouped_query_attention(*inputs, **options, softcap=softcap)
                assert_equal64(actual, expected)
                tensors = [torch.from_numpy(x).to(device) for x in inputs]
                torch_options = {n: torch.from_numpy(x).to(device) for n, x in options.items()}
                actual = fast.grouped_query_attention(*tensors, **torch_options, softcap=softcap)
                assert_equal64(actual, expected)


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_empty_rows_are_zeros(library, dtype, softcap):
    shapes = (4, 3, 2), (2, 5, 2), (2, 5, 2)
    q, k, v = converted(library, *(x.astype(dtype) for x in drawn(3, *shapes)))
    mask = np.ones((4, 3, 5), bool)
    mask[2, 1] = False
    (mask,) = converted(library, mask)
    out = library.grouped_query_attention(q, k, v, mask, softcap=softcap)
    assert out.dtype == q.dtype
    np.testing.assert_array_equal(out[2, 1], 0)
    assert (np.asarray(out)[[0, 1, 3], 1] != 0).all()
    np.testing.assert_array_equal(library.grouped_query_attention(q, k, v, False), 0)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_gradients_of_empty_rows_are_zeros(device, softcap, dtype):
    q, k, v = (
        torch.from_numpy(x).to(device, dtype).requires_grad_()
        for x in drawn(4, (4, 3, 2), (2, 5, 2), (2, 5, 2))
    )
    mask = torch.ones(3, 5, dtype=torch.bool, device=device)
    mask[1] = False
    mask[:, 2] = False
    fast.grouped_query_attention(q, k, v, mask, softcap=softcap).sum().backward()
    for x in (q, k, v):
        assert x.grad.isfinite().all()
    assert (q.grad[:, 1] == 0).all()
    assert (k.grad[:, 2] == 0).all()
    assert (v.grad[:, [0, 1, 3, 4]] != 0).all()


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("b", "i", "j"), [(2, 0, 4), (2, 3, 0), (0, 3, 4), (1, 1, 1)])
def test_no_queries_no_keys_no_batch(library, dtype, b, i, j):
    q, k, v = (np.ones((b, h, n, 2), dtype) for h, n in ((6, i), (3, j), (3, j)))
    inputs = converted(library, q, k, v)
    for options in ({}, {"softcap": 2.0}, {"mask": library.causal_mask(i, j)}):
        out = library.grouped_query_attention(*inputs, **options)
        assert out.dtype == inputs[0].dtype
        np.testing.assert_array_equal(out, np.full((b, 6, i, 2), float(j > 0)))
    eye = np.eye(2, dtype=dtype)
    x, y, w = converted(library, np.ones((b, i, 2), dtype), np.ones((b, j, 2), dtype), eye)
    out = library.multi_head_attention(x, y, y, w, w, w, w, 2)
    np.testing.assert_array_equal(out, np.full((b, i, 2), float(j > 0)))


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
def test_extremes(library, dtype):
    q = np.array([[[100.0]], [[-100.0]]], dtype)
    k = np.array([[[100.0], [-100.0]]], dtype)  # scores of ±1e4
    v = np.array([[[1.0], [3.0]]], dtype)
    out = library.grouped_query_attention(*converted(library, q, k, v), scale=1.0)
    np.testing.assert_array_equal(out[:, 0, 0], [1, 3])


@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("keys", [1, 2, 8, 9, 33])  # torch's kernel loses nan among few keys
def test_nan_propagates(library, dtype, keys):
    q, k = np.ones((4, 3, 2), dtype), np.ones((2, keys, 2), dtype)
    q[1, 2, 0] = np.nan
    out = np.asarray(library.grouped_query_attention(*converted(library, q, k, k)))
    expected = np.ones((4, 3, 2))
    expected[1, 2] = np.nan
    np.testing.assert_allclose(out, expected, rtol=1e-3)
    q[1, 2, 0], k[0, 0, 0] = 1, np.nan
    out = np.asarray(library.grouped_query_attention(*converted(library, q, k, k)))
    assert np.isnan(out[:2]).all()
    np.testing.assert_allclose(out[2:], 1, rtol=1e-3)


def test_overflow_gives_no_warning():
    x, w = np.full((1, 2), 300, np.float16), np.full((2, 2), 300, np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(reference.multi_head_attention(x, x, x, w, w, w, w, 1)).all()


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_inputs_of_any_strides_are_left_alone(softcap, device):
    shapes = (
        (2, 5, 6, 4),
        (2, 9, 3, 4),
        (2, 9, 3, 4),
    )  # heads after length, as projections make them
    q, k, v = (x.swapaxes(1, 2) for x in drawn(5, *shapes))
    before = [x.copy() for x in (q, k, v)]
    expected = by_repeating(q, k, v, softcap=softcap)
    tensors = [torch.from_numpy(x).to(device) for x in (q, k, v)]
    assert_equal64(fast.grouped_query_attention(*tensors, softcap=softcap), expected)
    assert_equal64(reference.grouped_query_attention(q, k, v, softcap=softcap), expected)
    for x, tensor, was in zip((q, k, v), tensors, before, strict=True):
        np.testing.assert_array_equal(x, was)
        np.testing.assert_array_equal(tensor.cpu(), was)


class LargestMade(TorchDispatchMode):
    """Remembers how many bytes the largest tensor has that torch made."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if torch.is_tensor(x)}
        out = function(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if torch.is_tensor(x) and x.untyped_storage().data_ptr() not in given:
                self.bytes = max(self.bytes, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize(
    "options", [{}, {"mask": np.arange(4096) < 4000}, {"softcap": 2.0}], ids=lambda x: "-".join(x)
)
def test_keys_are_not_copied_for_each_query_head(options):
    inputs = drawn(9, (1, 8, 1, 16), (1, 2, 4096, 16), (1, 2, 4096, 16))
    tensors = converted(fast, *inputs)
    torch_options = dict(zip(options, converted(fast, *options.values()), strict=True))
    keys = inputs[1].nbytes
    with LargestMade() as made:
        fast.grouped_query_attention(*tensors, **torch_options)
    assert 0 < made.bytes <= keys
    tracemalloc.start()
    reference.grouped_query_attention(*inputs, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < keys


def test_a_mask_is_not_copied_for_each_head():
    heads, n = 8, 256
    q, k = torch.randn(2, heads, n, 8), torch.randn(2, 2, n, 8)
    for mask in (fast.causal_mask(n, n), fast.padding_mask(torch.tensor([n, 7]), n)):
        with LargestMade() as made:
            fast.grouped_query_attention(q, k, k, mask)
        assert made.bytes <= max(4 * mask.numel(), q.nbytes)  # a float for each entry


def by_heads(q, k, v, w_q, w_k, w_v, w_o, heads, **options):
    """The paper's formula: a matrix of its own for each head, the heads' outputs in one row."""
    d = w_q.shape[1] // heads
    key_heads = w_k.shape[1] // d
    e = w_v.shape[1] // key_heads
    outputs = []
    for h in range(heads):
        g = h * key_heads // heads
        queries, keys = q @ w_q[:, h * d : (h + 1) * d], k @ w_k[:, g * d : (g + 1) * d]
        values = v @ w_v[:, g * e : (g + 1) * e]
        outputs.append(reference.attention(queries, keys, values, **options))
    return np.concatenate(outputs, axis=-1) @ w_o


@settings(max_examples=25)
@given(st.integers(0, 999), sizes, sizes, sizes, sizes)
def test_multi_head_attention_is_the_papers(seed, key_heads, group, d, e):
    heads = key_heads * group
    q, k, v, w_q, w_k, w_v, w_o = drawn(
        seed,
        (2, 5, 3),
        (2, 7, 4),
        (2, 7, 2),
        (3, heads * d),
        (4, key_heads * d),
        (2, key_heads * e),
        (heads * e, 6),
    )
    options = {"mask": reference.causal_mask(5, 7), "bias": 0.5, "scale": 0.3, "softcap": 2.0}
    for chosen in ({}, options):
        expected = by_heads(q, k, v, w_q, w_k, w_v, w_o, heads, **chosen)
        for library in (reference, fast):
            inputs = converted(library, q, k, v, w_q, w_k, w_v, w_o)
            others = dict(zip(chosen, converted(library, *chosen.values()), strict=True))
            assert_equal64(library.multi_head_attention(*inputs, heads, **others), expected)


@pytest.mark.parametrize("library", [reference, fast])
def test_one_head_with_unit_projections_is_attention(library):
    q, k, v = converted(library, *drawn(6, (5, 3), (7, 3), (7, 3)))
    (eye,) = converted(library, np.eye(3))
    out = library.multi_head_attention(q, k, v, eye, eye, eye, eye, 1)
    assert_equal64(out, library.attention(q, k, v))


@pytest.mark.parametrize("library", [reference, fast])
def test_heads_see_masks_and_biases_of_their_own(library):
    x, w = drawn(7, (4, 6), (6, 6))
    mask = np.ones((3, 4, 4), bool)
    mask[1] = False
    x, w, mask, eye = converted(library, x, w, mask, np.eye(6))
    out = library.multi_head_attention(x, x, x, w, w, w, eye, 3, mask)
    full = library.multi_head_attention(x, x, x, w, w, w, eye, 3)
    np.testing.assert_array_equal(out[:, 2:4], 0)
    assert_equal64(out[:, :2], full[:, :2])
    assert_equal64(out[:, 4:], full[:, 4:])


# The module.


def weights_of(layer):
    """Return the matrices of `layer`, as the function takes them."""
    return [getattr(layer, name).weight.T for name in ("query", "key", "value", "output")]


@pytest.mark.parametrize("kv_heads", [None, 4, 2, 1])
def test_module_is_the_function(kv_heads, device):
    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(12, 4, kv_heads, key_width=5, value_width=7, bias=False)
    layer = layer.to(device, torch.float64)
    shapes = (2, 3, 12), (2, 6, 5), (2, 6, 7), (4, 3, 6)
    q, k, v, bias = (torch.from_numpy(x).to(device) for x in drawn(8, *shapes))
    mask = fast.causal_mask(3, 6, device=device)
    expected = fast.multi_head_attention(q, k, v, *weights_of(layer), 4, mask, bias=bias)
    assert_equal64(layer(q, k, v, mask, bias=bias), expected)
    assert tuple(layer.key.weight.shape) == (3 * (kv_heads or 4), 5)
    assert_equal64(layer(q[0], k[0], v[0], mask, bias=bias), expected[0])


def test_module_attends_to_itself_and_takes_keys_for_values():
    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(6, 3)
    x, y = torch.randn(2, 4, 6), torch.randn(2, 5, 6)
    assert torch.equal(layer(x), layer(x, x, x))
    assert torch.equal(layer(x, y), layer(x, y, y))
    mask = fast.causal_mask(4, 4)
    assert torch.equal(layer(x, mask=mask), layer(x, x, x, mask))
    assert not torch.equal(layer(x, mask=mask), layer(x))


def test_module_adds_the_projections_biases():
    layer = fast.MultiHeadAttention(4, 2)
    assert {name for name, _ in layer.named_parameters()} == {
        f"{part}.{what}"
        for part in ("query", "key", "value", "output")
        for what in ("weight", "bias")
    }
    with torch.no_grad():
        layer.value.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        layer.output.weight.copy_(torch.eye(4))
        layer.output.bias.fill_(10)
    # No value but its bias, whatever the weights are.
    torch.testing.assert_close(
        layer(torch.randn(1, 3, 4), v=torch.zeros(1, 3, 4)),
        torch.tensor([11.0, 12.0, 13.0, 14.0]).expand(1, 3, 4),
    )


def test_module_round_trip():
    torch.manual_seed(0)
    ours, other = (fast.MultiHeadAttention(6, 3, 1, key_width=4, value_width=5) for _ in range(2))
    q, k, v = torch.randn(2, 6), torch.randn(4, 4), torch.randn(4, 5)
    assert not torch.equal(ours(q, k, v), other(q, k, v))
    other.load_state_dict(ours.state_dict())
    assert torch.equal(ours(q, k, v), other(q, k, v))


def test_rotate_gets_each_heads_rows_and_their_positions():
    asked = []

    def rotate(x, positions):
        asked.append((tuple(x.shape), positions.tolist()))
        return x * (1 + positions[:, None])

    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(8, 4, 2, rotate=rotate, bias=False).double()
    q, k = torch.randn(3, 2, 8).double(), torch.randn(3, 5, 8).double()
    out = layer(q, k)
    assert asked == [((3, 4, 2, 2), [3, 4]), ((3, 2, 5, 2), [0, 1, 2, 3, 4])]
    w_q, w_k, w_v, w_o = weights_of(layer)
    place = torch.arange(1.0, 6.0, dtype=torch.float64)[:, None]
    queries = fast.split_heads(q @ w_q * place[3:], 4)
    keys, values = fast.split_heads(k @ w_k * place, 2), fast.split_heads(k @ w_v, 2)
    expected = fast.merge_heads(fast.grouped_query_attention(queries, keys, values)) @ w_o
    assert_equal64(out, expected)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_the_modules_weights_are_those_that_it_averages_by(kv_heads):
    torch.manual_seed(0)
    sizes = {"key_width": 5, "value_width": 7}
    layer = fast.MultiHeadAttention(12, 4, kv_heads, rotate=fast.rotary_interleaved, **sizes)
    layer = layer.train().double()
    q, k, v, bias = (torch.from_numpy(x) for x in drawn(8, (2, 3, 12), (2, 6, 5), (2, 6, 7), (6,)))
    mask = fast.causal_mask(3, 6)
    with pytest.raises(ValueError, match=r"multiple of 2|even"):
        layer.weights(q, k)  # heads of width 3 cannot be turned by pairs
    layer.rotate = lambda x, positions: x * (1 + positions[:, None])
    weights = layer.weights(q, k, mask, bias=bias)
    assert weights.shape == (2, 4, 3, 6)
    values = fast.split_heads(layer.value(v), kv_heads).repeat_interleave(4 // kv_heads, dim=1)
    expected = layer(q, k, v, mask, bias=bias)
    assert_equal64(layer.output(fast.merge_heads(weights @ values)), expected)
    layer.dropout.p = 0.5  # a weight is what the layer would give without dropout
    assert torch.equal(layer.weights(q, k, mask, bias=bias), weights)
    own = fast.MultiHeadAttention(6, 3).double()
    assert torch.equal(own.weights(v[..., :6]), own.weights(v[..., :6], v[..., :6]))


def test_with_rotary_a_shift_of_all_positions_changes_nothing():
    torch.manual_seed(0)
    plain = fast.MultiHeadAttention(8, 2, rotate=fast.rotary).double()
    shifted = fast.MultiHeadAttention(8, 2, rotate=lambda x, p: fast.rotary(x, p + 100)).double()
    without = fast.MultiHeadAttention(8, 2).double()
    for other in (shifted, without):
        other.load_state_dict(plain.state_dict())
    x = torch.randn(1, 5, 8).double()
    torch.testing.assert_close(shifted(x), plain(x))
    assert not torch.allclose(without(x), plain(x))
    # The last query alone, as in decoding, gets what it gets among all.
    torch.testing.assert_close(plain(x[:, -1:], x), plain(x)[:, -1:])


def test_dropout_acts_on_weights_in_training_alone(device):
    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(12, 6, 2, dropout=0.75, bias=False).to(device)
    with torch.no_grad():
        layer.output.weight.copy_(torch.eye(12))
    # One key has weight 1 for every query: dropped to 0, or kept and made 4.
    queries, key = torch.randn(500, 2, 12, device=device), torch.randn(500, 1, 12, device=device)
    undropped = layer.eval()(queries, key)
    values = fast.split_heads(layer.value(key), 2).repeat_interleave(3, dim=1)
    torch.testing.assert_close(undropped, fast.merge_heads(values).expand(500, 2, 12))
    times = (layer.train()(queries, key) / undropped).unflatten(-1, (6, 2))
    kept = times[..., 0] > 2
    torch.testing.assert_close(times, 4.0 * kept[..., None].expand_as(times))  # a whole value
    rates = kept.float().mean(dim=0)
    # 500 draws of probability 0.25 have standard deviation 0.02; five of them for the allowance.
    assert ((rates - 0.25).abs() < 0.1).all()
    # Every head of every query draws for itself: 500 draws correlate by 0.045, five times that.
    draws = kept.flatten(1).T.float()
    assert (torch.corrcoef(draws) - torch.eye(12, device=device)).abs().max() < 0.23
    never = fast.MultiHeadAttention(12, 6, 2, bias=False).to(device)
    assert torch.equal(never(queries, key), never.eval()(queries, key))


def test_dropout_leaves_masks_alone():
    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(4, 4, 2, dropout=0.5, bias=False)
    x = torch.randn(2, 3, 4)
    mask = torch.ones(4, 3, 3, dtype=torch.bool)
    mask[:, 1] = False
    out = layer(x, mask=mask)
    assert (out[:, 1] == 0).all()
    assert (out[:, 0] != 0).any()
    future = x.clone()
    future[:, 2] += 1
    mask = fast.causal_mask(3, 3)
    outputs = []
    for rows in (x, future):
        torch.manual_seed(1)
        outputs.append(layer(rows, mask=mask))
    assert torch.equal(outputs[0][:, :2], outputs[1][:, :2])
    assert not torch.equal(outputs[0][:, 2], outputs[1][:, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_module_learns_to_look_up(dtype, device):
    # The value to find stands beside the key that equals the query.
    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(8, 2, 1).to(device, dtype)
    keys = torch.randn(64, 5, 8, device=device).sign().to(dtype)
    values = torch.randn(64, 5, 8, device=device).to(dtype)
    target = values[:, [3, 1]]
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        loss = (layer(keys[:, [3, 1]], keys, values) - target).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3, f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f}"
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}


@pytest.mark.usefixtures("unchecked")
def test_module_compiles():
    torch.manual_seed(0)
    layer = fast.MultiHeadAttention(8, 4, 2, rotate=lambda x, p: x * (1 + p[:, None]))
    x, mask = torch.randn(2, 5, 8), fast.causal_mask(5, 5)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    out = compiled(x, mask=mask)
    torch.testing.assert_close(out, layer(x, mask=mask))
    (compiled_gradient,) = torch.autograd.grad(out.sum(), layer.key.weight)
    (gradient,) = torch.autograd.grad(layer(x, mask=mask).sum(), layer.key.weight)
    torch.testing.assert_close(compiled_gradient, gradient)


@pytest.mark.usefixtures("unchecked")
def test_grouped_query_attention_compiles():
    q, k, mask = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8), fast.causal_mask(5, 6)
    compiled = torch.compile(fast.grouped_query_attention, backend="eager", fullgraph=True)
    for softcap in (None, 2.0):
        expected = fast.grouped_query_attention(q, k, k, mask, softcap=softcap)
        torch.testing.assert_close(compiled(q, k, k, mask, softcap=softcap), expected)


# Bad arguments.


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


GQA, MHA = "grouped_query_attention", "multi_head_attention"
Q, K, V = zeros(2, 6, 5, 4), zeros(2, 3, 7, 4), zeros(2, 3, 7, 2)
# Four heads of width 2, two key heads of values of width 3.
INPUTS = {"q": zeros(5, 3), "k": zeros(7, 4), "v": zeros(7, 2)}
MATRICES = {"w_q": zeros(3, 8), "w_k": zeros(4, 4), "w_v": zeros(2, 6), "w_o": zeros(12, 9)}


def projected(heads=4, *others, **changed):
    """Return the arguments of `multi_head_attention`, all right but those `changed`."""
    return (*({**INPUTS, **MATRICES} | changed).values(), heads, *others)


BAD = [
    ("split_heads", (zeros(3, 6), 4), ValueError, r"x has shape \(3, 6\): width is 6, .* heads, 4"),
    ("split_heads", (zeros(3, 6), 0), ValueError, "heads is 0, expected at least 1"),
    ("split_heads", (zeros(3, 6), 2.0), TypeError, "heads is 2.0, expected an integer"),
    ("split_heads", (zeros(6), 2), ValueError, r"x has shape \(6,\), expected"),
    ("split_heads", (zeros(3, 6).astype(int), 2), TypeError, "x has dtype"),
    ("split_heads", ([[1.0, 2.0]], 2), TypeError, "x is a list"),
    ("merge_heads", (zeros(3, 6),), ValueError, r"x has shape \(3, 6\), expected \(\.\.\., heads"),
    ("merge_heads", (None,), TypeError, "x is a NoneType"),
    (GQA, (zeros(2, 5, 5, 4), K, V), ValueError, "query heads is 5, .*multiple of key heads, 3"),
    (GQA, (zeros(2, 1, 5, 4), K, V), ValueError, "query heads is 1, .*multiple of key heads, 3"),
    (GQA, (Q, zeros(2, 0, 7, 4), V), ValueError, "query heads is 6, .*multiple of key heads, 0"),
    (GQA, (zeros(2, 0, 5, 4), K, V), ValueError, "q has shape .* expected at least one head"),
    (GQA, (Q, K, zeros(2, 6, 7, 2)), ValueError, "v has shape .*6 heads of values for 3 .*of keys"),
    (GQA, (Q, K, zeros(2, 1, 7, 2)), ValueError, "v has shape .*1 heads of values for 3 .*of keys"),
    (GQA, (Q, K, zeros(2, 3, 8, 2)), ValueError, "8 values for 7 keys"),
    (GQA, (Q, zeros(2, 3, 7, 5), V), ValueError, "keys have width 5, queries have width 4"),
    (GQA, (Q, zeros(1, 3, 7, 4), V), ValueError, r"k has shape .* leading axes \(2,\) of q"),
    (GQA, (Q, K, zeros(3, 7, 2)), ValueError, r"v has shape .* leading axes \(2,\) of q"),
    (GQA, (zeros(5, 4), K, V), ValueError, r"q has shape \(5, 4\), expected \(\.\.\., heads"),
    (GQA, (Q, K.astype(np.float32), V), TypeError, "k has dtype"),
    (GQA, (Q, K, V, np.ones((3, 5, 7), bool)), ValueError, "mask has shape .*2, 6, 5, 7"),
    (GQA, (Q, K, V, zeros(5, 7)), TypeError, "mask has dtype .*expected a boolean"),
    (MHA, projected(heads=0), ValueError, "heads is 0"),
    (MHA, projected(heads=True), TypeError, "heads is True"),
    (MHA, projected(heads=3), ValueError, "the columns of w_q is 8, .*multiple of heads, 3"),
    (MHA, projected(q=zeros(5, 2)), ValueError, "q has shape .*width 2, expected 3"),
    (MHA, projected(k=zeros(7, 3)), ValueError, "k has shape .*width 3, expected 4"),
    (MHA, projected(v=zeros(7, 3)), ValueError, "v has shape .*width 3, expected 2"),
    (MHA, projected(v=zeros(8, 2)), ValueError, "8 values for 7 keys"),
    (MHA, projected(k=zeros(1, 7, 4)), ValueError, "k has shape .* leading axes"),
    (MHA, projected(w_q=zeros(3, 4, 2)), ValueError, r"w_q has shape .*expected \(in, out\)"),
    (MHA, projected(w_k=zeros(4, 0)), ValueError, "w_k has shape .*no axis of size 0"),
    (MHA, projected(w_k=zeros(4, 5)), ValueError, "the columns of w_k is 5, .*of a head, 2"),
    (MHA, projected(w_k=zeros(4, 6)), ValueError, "heads is 4, .*multiple of key heads, 3"),
    (MHA, projected(w_k=zeros(4, 16)), ValueError, "heads is 4, .*multiple of key heads, 8"),
    (MHA, projected(w_v=zeros(2, 5)), ValueError, "the columns of w_v is 5, .*of key heads, 2"),
    (MHA, projected(w_o=zeros(6, 9)), ValueError, r"w_o has shape \(6, 9\), expected 12 rows"),
    (MHA, projected(w_o=zeros(12, 9, dtype=np.float32)), TypeError, "w_o has dtype"),
    (MHA, projected(w_v=None), TypeError, "w_v is a NoneType"),
    (MHA, projected(4, np.ones((3, 5, 7), bool)), ValueError, r"mask has shape .*\(4, 5, 7\)"),
    (MHA, projected(4, None), TypeError, "mask is a NoneType"),
]

test_bad_arguments = refuses(BAD)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("library", [reference, fast])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bias": "0"}, TypeError, "bias is a str, expected a finite number or a floating"),
        ({"bias": np.nan}, ValueError, "bias is nan"),
        ({"scale": np.inf}, ValueError, "scale is inf"),
        ({"softcap": 0.0}, ValueError, "softcap is 0.0, expected a positive"),
    ],
)
def test_bad_options(library, options, error, message):
    with pytest.raises(error, match=message):
        library.grouped_query_attention(*converted(library, Q, K, V), **options)
    with pytest.raises(error, match=message):
        library.multi_head_attention(*converted(library, *projected()), **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ((8, 3), {}, ValueError, "width is 8, expected a multiple of heads, 3"),
        ((8, 4, 3), {}, ValueError, "heads is 4, expected a multiple of kv_heads, 3"),
        ((8, 4, 8), {}, ValueError, "heads is 4, expected a multiple of kv_heads, 8"),
        ((0, 1), {}, ValueError, "width is 0"),
        ((8, 0), {}, ValueError, "heads is 0"),
        ((8, 4, 0), {}, ValueError, "kv_heads is 0"),
        ((8, 4.0), {}, TypeError, "heads is 4.0"),
        ((8, 4), {"key_width": 0}, ValueError, "key_width is 0"),
        ((8, 4), {"value_width": "8"}, TypeError, "value_width is a str"),
        ((8, 4), {"dropout": 1.5}, ValueError, "dropout is 1.5, expected a number from 0 to 1"),
        ((8, 4), {"dropout": -0.1}, ValueError, "dropout is -0.1"),
        ((8, 4), {"dropout": None}, TypeError, "dropout is a NoneType"),
        ((8, 4), {"bias": 1.0}, TypeError, "bias is 1.0, expected a bool"),
        ((8, 4), {"rotate": True}, TypeError, "rotate is True, expected a function"),
    ],
)
def test_bad_sizes(sizes, options, error, message):
    with pytest.raises(error, match=message):
        fast.MultiHeadAttention(*sizes, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ((torch.zeros(5, 6),), ValueError, "q has shape .*width 6, expected 8"),
        ((torch.zeros(5, 8), torch.zeros(7, 8)), ValueError, "k has shape .*width 8, expected 4"),
        ((torch.zeros(5, 8), None, torch.zeros(5, 3)), ValueError, "k has shape .*expected 4"),
        ((torch.zeros(5, 8), torch.zeros(7, 4), torch.zeros(6, 3)), ValueError, "6 values for 7"),
        ((np.zeros((5, 8)),), TypeError, "q is a numpy.ndarray"),
        ((torch.zeros(8),), ValueError, r"q has shape \(8,\)"),
        (
            (torch.zeros(5, 8), torch.zeros(7, 4), torch.zeros(7, 3), torch.ones(5, 7)),
            TypeError,
            "mask has dtype",
        ),
    ],
)
def test_bad_inputs(inputs, error, message):
    layer = fast.MultiHeadAttention(8, 4, key_width=4, value_width=3)
    with pytest.raises(error, match=message):
        layer(*inputs)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_taken_from_torch():
    with pytest.raises(
        ValueError, match="module has add_bias_kv=True: it attends to a key besides"
    ):
        fast.MultiHeadAttention.from_torch(nn.MultiheadAttention(4, 2, add_bias_kv=True))
    with pytest.raises(ValueError, match="module has add_zero_attn=True"):
        fast.MultiHeadAttention.from_torch(nn.MultiheadAttention(4, 2, add_zero_attn=True))
    with pytest.raises(TypeError, match=r"module is a torch\.nn\..*Linear, expected"):
        fast.MultiHeadAttention.from_torch(nn.Linear(4, 4))
