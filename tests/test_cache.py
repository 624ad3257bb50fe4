"""Caches: any chunks give what the whole text gives, refusals change nothing, cost, gradients."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import converted
from measure import in_own_process
from tolerance import assert_as_exact_as_plain, assert_equal64

from attn_course import fast, reference

BOTH = pytest.mark.parametrize("library", [reference, fast], ids=["reference", "fast"])
CACHES = pytest.mark.parametrize("name", ["KVCache", "SlidingKVCache"])


def drawn(seed, n, *, heads=4, key_heads=2, d=4, e=3, batch=()):
    rng = np.random.default_rng(seed)
    shapes = (heads, n, d), (key_heads, n, d), (key_heads, n, e)
    return [rng.standard_normal((*batch, *shape)) for shape in shapes]


def in_chunks(library, cache, chunks, q, k, v, rotate=None, **options):
    """Attend from each chunk of a text in turn, and join the outputs.

    Options that are arrays are about all the text, (..., queries, keys): each chunk gets its part.
    """
    outs, start = [], 0
    for size in chunks:
        stop = start + size
        rows, held = slice(start, stop), slice(stop - cache.length_after(size), stop)
        parts = {
            name: option[..., rows, held] if isinstance(option, np.ndarray) else option
            for name, option in options.items()
        }
        arrays = [x[..., rows, :] for x in (q, k, v)]
        if rotate is not None:
            positions = np.arange(cache.seen, cache.seen + size)
            arrays[:2] = (rotate(x, positions) for x in arrays[:2])
        parts = dict(zip(parts, converted(library, *parts.values()), strict=True))
        arrays = converted(library, *arrays)
        outs.append(np.asarray(library.cached_attention(*arrays, cache, **parts)))
        start = stop
    return np.concatenate(outs, axis=-2)


chunkings = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@settings(max_examples=40)
@given(st.integers(0, 999), chunkings, st.sampled_from([1, 2, 4]))
def test_any_chunks_give_causal_attention(seed, chunks, key_heads):
    n = sum(chunks)
    q, k, v = drawn(seed, n, key_heads=key_heads, batch=(2,))
    mask = reference.causal_mask(n, n)
    expected = reference.grouped_query_attention(q, k, v, mask)
    for library in (reference, fast):
        cache = library.KVCache(n + 1)
        assert_equal64(in_chunks(library, cache, chunks, q, k, v), expected)
        assert (cache.length, cache.seen) == (n, n)
        assert_equal64(cache.keys, k)
        assert_equal64(cache.values, v)


@settings(max_examples=40)
@given(st.integers(0, 999), chunkings, st.integers(1, 6), st.sampled_from([1, 2, 4]))
def test_any_chunks_give_window_attention(seed, chunks, window, key_heads):
    n = sum(chunks)
    q, k, v = drawn(seed, n, key_heads=key_heads, batch=(2,))
    expected = reference.grouped_query_attention(q, k, v, reference.window_mask(n, n, window))
    for library in (reference, fast):
        cache = library.SlidingKVCache(window)
        assert_equal64(in_chunks(library, cache, chunks, q, k, v), expected)
        assert cache.seen == n
        assert cache.length <= window - 1 + chunks[-1]
        assert_equal64(cache.keys, k[..., n - cache.length :, :])
        assert_equal64(cache.values, v[..., n - cache.length :, :])


@settings(max_examples=20)
@given(st.integers(0, 999), chunkings, st.integers(1, 6))
def test_mask_bias_and_numbers_apply_besides(seed, chunks, window):
    n = sum(chunks)
    q, k, v = drawn(seed, n)
    rng = np.random.default_rng(seed)
    bias, mask = rng.standard_normal((4, n, n)), rng.random((n, n)) < 0.7
    options = {"bias": bias, "scale": 0.3, "softcap": 1.5}
    for library in (reference, fast):
        for cache, causal in (
            (library.KVCache(n + 1), reference.causal_mask(n, n)),
            (library.SlidingKVCache(window), reference.window_mask(n, n, window)),
        ):
            expected = reference.grouped_query_attention(q, k, v, causal & mask, **options)
            out = in_chunks(library, cache, chunks, q, k, v, mask=mask, **options)
            assert_equal64(out, expected)


@BOTH
@CACHES
def test_keys_rotated_by_the_positions_seen(library, name):
    q, k, v = drawn(1, 12)
    cache = getattr(library, name)(12)
    out = in_chunks(library, cache, [3, 1, 1, 4, 0, 2, 1], q, k, v, rotate=reference.rotary)
    turned = (reference.rotary(x, np.arange(12)) for x in (q, k))
    expected = reference.grouped_query_attention(*turned, v, reference.causal_mask(12, 12))
    assert_equal64(out, expected)


@BOTH
@CACHES
def test_padded_sequences_get_what_each_gets_alone(library, name):
    q, k, v = drawn(2, 6, batch=(2,))
    real = np.ones((2, 1, 1, 6), bool)
    real[1, ..., :2] = False  # the second has two tokens of padding on the left
    mask = real & np.ones((6, 1), bool)
    out = in_chunks(library, getattr(library, name)(6), [4, 1, 1], q, k, v, mask=mask)
    for b, start in ((0, 0), (1, 2)):
        alone = [x[b, :, start:] for x in (q, k, v)]
        causal = reference.causal_mask(6 - start, 6 - start)
        assert_equal64(out[b, :, start:], reference.grouped_query_attention(*alone, causal))
    np.testing.assert_array_equal(out[1, :, :2], 0)


@BOTH
def test_a_sliding_cache_holds_a_window(library):
    cache = library.SlidingKVCache(4)
    held = []
    for size in (2, 1, 3, 1, 1, 0, 7, 1):
        (k,) = converted(library, np.arange(cache.seen, cache.seen + size, dtype=float)[:, None])
        cache.append(k, k)
        held.append([int(x) for x in cache.keys[:, 0]])
        assert cache.length == len(held[-1])
        assert cache.nbytes == 2 * 8 * cache.length
    assert held == [
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3, 4, 5],
        [3, 4, 5, 6],
        [4, 5, 6, 7],
        [5, 6, 7],
        [5, 6, 7, *range(8, 15)],
        [12, 13, 14, 15],
    ]


@BOTH
def test_memory_is_fixed_at_the_first_append(library):
    def token():
        return converted(library, np.ones((2, 1, 3)), np.ones((2, 1, 5)))

    cache = library.KVCache(100)
    assert cache.nbytes == 0
    cache.append(*token())
    places = address(cache.keys), address(cache.values)
    for _ in range(99):
        cache.append(*token())
        assert cache.nbytes == 2 * 100 * (3 + 5) * 8
        assert (address(cache.keys), address(cache.values)) == places  # written in place
    cache = library.SlidingKVCache(10)
    sizes = set()
    for _ in range(100):
        cache.append(*token())
        sizes.add(cache.nbytes)
    assert max(sizes) == 2 * 10 * (3 + 5) * 8


def address(array):
    return array.data_ptr() if isinstance(array, torch.Tensor) else array.ctypes.data


@BOTH
@CACHES
def test_what_is_appended_is_copied_and_left_alone(library, name):
    k, v = converted(library, np.ones((1, 2, 3)), np.ones((1, 2, 3)))
    cache = getattr(library, name)(4)
    cache.append(k, v)
    k[:], v[:] = 7, 7
    cache.append(k, v)
    assert_equal64(cache.keys[0, :, 0], [1, 1, 7, 7])
    assert_equal64(cache.values[0, :, 0], [1, 1, 7, 7])
    assert_equal64(k, np.full((1, 2, 3), 7.0))


@BOTH
def test_masks_of_the_newest_tokens(library):
    k = converted(library, *np.ones((1, 1, 1)))[0]
    full, sliding = library.KVCache(5), library.SlidingKVCache(3)
    assert tuple(full.mask(0).shape) == tuple(sliding.mask(0).shape) == (0, 0)
    for _ in range(3):
        full.append(k, k)
        sliding.append(k, k)
    expected = [[True, True, False], [True, True, True]]
    np.testing.assert_array_equal(full.mask(2), expected)
    np.testing.assert_array_equal(sliding.mask(2), expected)  # all that was seen is still held
    sliding.append(k, k)
    np.testing.assert_array_equal(sliding.mask(1), [[True, True, True]])
    two = converted(library, np.ones((2, 1)))[0]
    sliding.append(two, two)
    expected = [[True, True, True, False], [False, True, True, True]]
    np.testing.assert_array_equal(sliding.mask(2), expected)
    with pytest.raises(ValueError, match="queries is 3, expected at most 2"):
        sliding.mask(3)
    with pytest.raises(ValueError, match="queries is 4, expected at most 3"):
        full.mask(4)
    with pytest.raises(ValueError, match="queries is -1"):
        full.mask(-1)


@BOTH
@pytest.mark.parametrize("name", ["KVCache", "SlidingKVCache"])
def test_before_the_first_append(library, name):
    cache = getattr(library, name)(3)
    assert (cache.length, cache.seen, cache.nbytes) == (0, 0, 0)
    with pytest.raises(ValueError, match="cache has no keys yet"):
        _ = cache.keys
    with pytest.raises(ValueError, match="cache has no values yet"):
        _ = cache.values


def state(cache):
    arrays = (cache.keys, cache.values) if cache.nbytes else ()
    return [np.asarray(x).copy() for x in arrays], cache.length, cache.seen, cache.nbytes


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


Q, K, V = zeros(4, 2, 5), zeros(2, 2, 5), zeros(2, 2, 7)
REFUSED_TOKENS = [
    ((K.tolist(), V), TypeError, "k is a list"),
    ((K, None), TypeError, "v is a NoneType"),
    ((K.astype(np.float32), V.astype(np.float32)), TypeError, "k has dtype .*float32"),
    ((K, V.astype(np.float32)), TypeError, "v has dtype .*float32"),
    ((K.astype(int), V), TypeError, "k has dtype .*int64"),
    ((zeros(5), V), ValueError, r"k has shape \(5,\)"),
    ((zeros(3, 2, 5), zeros(3, 2, 7)), ValueError, r"k has shape \(3, 2, 5\)"),
    ((zeros(2, 2, 6), V), ValueError, r"k has shape \(2, 2, 6\), expected .* width 5"),
    ((K, zeros(2, 2, 5)), ValueError, r"v has shape \(2, 2, 5\), expected .* width 7"),
    ((K, zeros(2, 3, 7)), ValueError, r"v has shape \(2, 3, 7\)"),
    ((K, zeros(3, 2, 7)), ValueError, r"v has shape \(3, 2, 7\)"),
    ((K[None], V[None]), ValueError, r"k has shape \(1, 2, 2, 5\)"),
]


@BOTH
@CACHES
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("tokens", "error", "message"), REFUSED_TOKENS)
def test_refused_tokens_change_nothing(library, name, tokens, error, message):
    cache = getattr(library, name)(8)
    cache.append(*converted(library, K + 1, V + 2))
    before = state(cache)
    with pytest.raises(error, match=message):
        cache.append(*converted(library, *tokens))
    np.testing.assert_equal(state(cache), before)
    with pytest.raises(error):
        library.cached_attention(*converted(library, Q, *tokens), cache)
    np.testing.assert_equal(state(cache), before)


@BOTH
@pytest.mark.usefixtures("unchecked")
def test_no_more_tokens_than_there_is_room(library):
    q, k, v = converted(library, zeros(4, 4, 5), zeros(2, 4, 5), zeros(2, 4, 7))
    cache = library.KVCache(8)
    cache.append(k[:, :1], v[:, :1])
    cache.append(k, v)
    before = state(cache)
    message = "cache holds 5 of 8 tokens, 4 more do not fit"
    with pytest.raises(ValueError, match=message):
        cache.append(k, v)
    with pytest.raises(ValueError, match=message):
        library.cached_attention(q, k, v, cache)
    with pytest.raises(ValueError, match=message):
        cache.length_after(4)
    np.testing.assert_equal(state(cache), before)
    cache.append(k[:, :3], v[:, :3])
    assert cache.length == 8
    cache.append(k[:, :0], v[:, :0])
    empty = library.KVCache(3)
    with pytest.raises(ValueError, match="cache holds 0 of 3 tokens, 4 more do not fit"):
        empty.append(k, v)
    assert (empty.length, empty.nbytes) == (0, 0)


REFUSED = [
    ((Q.tolist(), K, V), {}, TypeError, "q is a list"),
    ((zeros(4, 3, 5), K, V), {}, ValueError, "3 queries for 2 new tokens"),
    ((zeros(3, 2, 5), K, V), {}, ValueError, "q has shape"),
    ((zeros(4, 2, 6), K, V), {}, ValueError, "keys have width 5, queries have width 6"),
    ((Q.astype(np.float32), K, V), {}, TypeError, "k has dtype .*float64, expected .*float32"),
    ((Q, K, V), {"mask": np.ones((2, 2), bool)}, ValueError, r"mask has shape \(2, 2\), .*4, 2, 4"),
    ((Q, K, V), {"mask": np.ones((2, 4))}, TypeError, "mask has dtype .*float64"),
    ((Q, K, V), {"mask": None}, TypeError, "mask is a NoneType"),
    ((Q, K, V), {"bias": zeros(2, 3)}, ValueError, r"bias has shape \(2, 3\)"),
    ((Q, K, V), {"bias": np.nan}, ValueError, "bias is nan"),
    ((Q, K, V), {"scale": np.inf}, ValueError, "scale is inf"),
    ((Q, K, V), {"softcap": -1.0}, ValueError, "softcap is -1.0"),
]


@BOTH
@CACHES
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("arrays", "options", "error", "message"), REFUSED)
def test_refused_attention_appends_nothing(library, name, arrays, options, error, message):
    cache = getattr(library, name)(8)
    cache.append(*converted(library, K + 1, V + 2))
    before = state(cache)
    options = dict(zip(options, converted(library, *options.values()), strict=True))
    with pytest.raises(error, match=message):
        library.cached_attention(*converted(library, *arrays), cache, **options)
    np.testing.assert_equal(state(cache), before)


@BOTH
@pytest.mark.usefixtures("unchecked")
def test_bad_caches(library):
    other = fast if library is reference else reference
    arrays = converted(library, Q, K, V)
    for cache in (None, [], other.KVCache(8)):
        with pytest.raises(TypeError, match=r"cache is .*, expected a KVCache or a Sl"):
            library.cached_attention(*arrays, cache)
    for name, argument in (("KVCache", "capacity"), ("SlidingKVCache", "window")):
        make = getattr(library, name)
        for bad, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (None, TypeError)):
            with pytest.raises(error, match=f"{argument} is"):
                make(bad)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@CACHES
def test_dtypes_and_devices(name, dtype, device):
    q, k, v = (torch.from_numpy(x).to(device, dtype) for x in drawn(3, 9))
    cache = getattr(fast, name)(9)
    outs = [
        fast.cached_attention(q[:, rows], k[:, rows], v[:, rows], cache)
        for rows in (slice(0, 4), slice(4, 5), slice(5, 9))
    ]
    out = torch.cat(outs, dim=-2)
    assert cache.keys.dtype == out.dtype == dtype
    assert cache.keys.device == cache.mask(3).device == q.device
    torch.testing.assert_close(cache.keys, k, rtol=0, atol=0)
    plain = fast.grouped_query_attention(q, k, v, fast.causal_mask(9, 9, device=device))
    exact = reference.grouped_query_attention(
        *(x.to("cpu", torch.float64).numpy() for x in (q, k, v)), reference.causal_mask(9, 9)
    )
    if dtype == torch.bfloat16:
        # It keeps 8 digits: that of the largest number is the least error there can be.
        plain = plain + torch.finfo(dtype).eps * abs(exact).max()
    assert_as_exact_as_plain(out, plain, exact)


@BOTH
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_dtype_is_kept(library, dtype):
    q, k, v = converted(library, *(x.astype(dtype) for x in drawn(4, 3)))
    for cache in (library.KVCache(3), library.SlidingKVCache(2)):
        out = library.cached_attention(q, k, v, cache)
        assert out.dtype == cache.keys.dtype == cache.values.dtype == q.dtype


@pytest.mark.usefixtures("unchecked")
@CACHES
def test_another_device_is_named(name):
    cache = getattr(fast, name)(8)
    k, v = torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)
    cache.append(k, v)
    with pytest.raises(ValueError, match="k is on meta, expected cpu, the cache's"):
        cache.append(k.to("meta"), v.to("meta"))
    with pytest.raises(ValueError, match="v is on meta, expected cpu"):
        cache.append(k, v.to("meta"))
    assert cache.length == 1


@CACHES
@pytest.mark.parametrize("value_width", [3, 4])  # torch's fused kernels want that of the keys: 4
def test_gradients_flow_to_queries_alone(name, value_width, device):
    arrays = drawn(5, 7, e=value_width)
    q, k, v = (torch.from_numpy(x).to(device).requires_grad_() for x in arrays)
    cache = getattr(fast, name)(7)
    outs = [
        fast.cached_attention(q[:, rows], k[:, rows], v[:, rows], cache)
        for rows in (slice(0, 3), slice(3, 4), slice(4, 7))
    ]
    assert not cache.keys.requires_grad
    # Later steps leave what earlier ones need for their gradients.
    torch.cat(outs, dim=-2).square().sum().backward()
    assert k.grad is None
    assert v.grad is None
    ours = q.grad.clone()
    q.grad = None
    mask = fast.causal_mask(7, 7, device=device)
    fast.grouped_query_attention(q, k, v, mask).square().sum().backward()
    assert_equal64(ours, q.grad)


@CACHES
def test_a_cache_filled_in_inference_mode_can_be_used_outside(name):
    q, k, v = (torch.from_numpy(x) for x in drawn(6, 2, e=4))
    cache = getattr(fast, name)(6)
    with torch.inference_mode():
        cache.append(k, v)
    cache.append(k, v)
    q.requires_grad_()
    fast.cached_attention(q, k, v, cache).sum().backward()
    assert q.grad.isfinite().all()


@CACHES
@pytest.mark.usefixtures("unchecked")
def test_steps_compile(name):
    q, k, v = (torch.from_numpy(x) for x in drawn(7, 6))
    compiled = torch.compile(fast.cached_attention, backend="eager", fullgraph=True)
    ours, theirs = (getattr(fast, name)(6) for _ in range(2))
    for start, stop in ((0, 3), (3, 4), (4, 6)):
        arrays = [x[:, start:stop] for x in (q, k, v)]
        out = compiled(*arrays, ours)
        assert_equal64(out, fast.cached_attention(*arrays, theirs))
    assert (ours.length, ours.seen) == (theirs.length, theirs.seen)


MEASURE = """
import json
import numpy as np
from functools import partial
from attn_course import {library} as library
from measure import in_turns

rng = np.random.default_rng(0)

def heads(count, length):
    array = rng.standard_normal((count, length, 128), dtype=np.float32)
    if "{library}" == "reference":
        return array
    import torch
    torch.set_num_threads(1)
    return torch.from_numpy(array)

token = heads(4, 1), heads(2, 1), heads(2, 1)
steps = []
for length in (2**14, 2**17):  # 34 MB and 268 MB: neither stays in a processor's own cache
    cache = library.KVCache(2**18)
    cache.append(heads(2, length), heads(2, length))
    steps.append(partial(library.cached_attention, *token, cache))
print(json.dumps(in_turns(*steps)))
"""


@BOTH
def test_a_step_costs_as_much_as_the_cache_is_long(library):
    code = MEASURE.format(library=library.__name__.rpartition(".")[-1])
    cost = in_own_process("-c", code)
    # Eight times as long costs eight times as much: not 64, and not the same, as it would if the
    # room that is still empty were read too.
    assert 2 * cost[0] < cost[-1] < 24 * cost[0], cost
