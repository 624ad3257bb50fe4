"""window_attention: by hand, equal to attention with the mask, linear cost, bad arguments."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import converted, outputs, refuses
from measure import KEEPING, in_own_process
from tolerance import assert_as_exact_as_plain, assert_equal64

from attn_course import fast, reference

BOTH = pytest.mark.parametrize("library", [reference, fast], ids=["reference", "fast"])


@BOTH
@pytest.mark.parametrize(
    ("queries", "values", "window", "expected"),
    [
        (4, [2, 4, 6, 8], 1, [2, 4, 6, 8]),
        (4, [2, 4, 6, 8], 2, [2, 3, 5, 7]),
        (4, [2, 4, 6, 8], 3, [2, 3, 4, 6]),
        (4, [2, 4, 6, 8], 4, [2, 3, 4, 5]),
        (4, [2, 4, 6, 8], 10**9, [2, 3, 4, 5]),
        (2, [2, 4, 6, 8], 2, [5, 7]),  # the queries are the last two
        (4, [2, 4], 2, [0, 0, 2, 3]),  # the first two see no key
        (4, [], 2, [0, 0, 0, 0]),
        (0, [2, 4], 2, []),
        (1, [7], 1, [7]),
    ],
)
def test_windows_of_equal_scores_average_their_values(library, queries, values, window, expected):
    q, k = np.zeros((queries, 3)), np.ones((len(values), 3))
    q, k, v = converted(library, q, k, np.array(values, float).reshape(-1, 1))
    out = library.window_attention(q, k, v, window)
    assert_equal64(out, np.array(expected, float).reshape(-1, 1))


def drawn(seed, i, j, *, heads=2, key_heads=1, d=3, e=2, batch=()):
    """Return q, k, v and a gradient of the output."""
    rng = np.random.default_rng(seed)
    shapes = (heads, i, d), (key_heads, j, d), (key_heads, j, e), (heads, i, e)
    return [rng.standard_normal((*batch, *shape)) for shape in shapes]


# Beyond 256 queries there are several blocks in both libraries.
lengths = st.one_of(st.integers(0, 9), st.integers(250, 400))
windows = st.one_of(st.integers(1, 9), st.integers(1, 450))
options = st.sampled_from([{}, {"scale": -0.7}, {"softcap": 1.5}, {"scale": 2.0, "softcap": 0.5}])


@settings(max_examples=50)
@given(st.integers(0, 999), lengths, lengths, windows, options, st.sampled_from([1, 2, 4]))
def test_it_is_attention_with_a_window_mask(seed, i, j, window, options, key_heads):
    q, k, v, _ = drawn(seed, i, j, heads=4, key_heads=key_heads)
    mask = reference.window_mask(i, j, window)
    expected = reference.grouped_query_attention(q, k, v, mask, **options)
    for library in (reference, fast):
        out = library.window_attention(*converted(library, q, k, v), window, **options)
        assert_equal64(out, expected)
        out = library.window_attention(*converted(library, q[0], k[0], v[0]), window, **options)
        assert_equal64(out, expected[0])


@settings(max_examples=30)
@given(st.integers(0, 999), lengths, lengths, windows, options)
def test_its_gradients_are_those_of_attention_with_a_window_mask(seed, i, j, window, options):
    arrays = drawn(seed, i, j)
    mask = reference.window_mask(i, j, window)
    expected = reference.grouped_query_attention_backward(*arrays, mask, **options)
    for library in (reference, fast):
        grads = library.window_attention_backward(*converted(library, *arrays), window, **options)
        for grad, wanted in zip(grads, expected, strict=True):
            assert_equal64(grad, wanted)


@BOTH
def test_two_axes_and_five_go_backward(library):
    arrays = drawn(1, 300, 302, batch=(2, 3))
    grads = library.window_attention_backward(*converted(library, *arrays), 5)
    # One query head to one key head: the other query head's output does not count.
    q, k, v, grad_output = (x[1, 2, 0] for x in arrays)
    alone = reference.attention_backward(q, k, v, grad_output, reference.window_mask(300, 302, 5))
    two_axes = library.window_attention_backward(*converted(library, q, k, v, grad_output), 5)
    for ours, wanted in zip(two_axes, alone, strict=True):
        assert_equal64(ours, wanted)
    assert_equal64(grads[0][1, 2, 0], alone[0])


@BOTH
def test_only_near_keys_are_touched(library):
    q, k, v, grad_output = drawn(2, 3000, 3000)
    k[:, 0], v[:, -1] = np.nan, np.inf
    arrays = converted(library, q, k, v, grad_output)
    out = np.asarray(library.window_attention(*arrays[:3], 4))
    assert np.isnan(out[:, :4]).all()
    assert not np.isfinite(out[:, -1]).any()
    assert np.isfinite(out[:, 300:-300]).all()
    for grad in library.window_attention_backward(*arrays, 4):
        assert np.isfinite(np.asarray(grad)[:, 600:-600]).all()


@BOTH
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_window_may_be_of_any_size(library, softcap):
    arrays = converted(library, *drawn(4, 5, 7))
    expected = library.window_attention(*arrays[:3], 7, softcap=softcap)
    assert_equal64(library.window_attention(*arrays[:3], 10**400, softcap=softcap), expected)
    expected = library.window_attention_backward(*arrays, 7, softcap=softcap)
    grads = library.window_attention_backward(*arrays, 10**400, softcap=softcap)
    for grad, wanted in zip(grads, expected, strict=True):
        assert_equal64(grad, wanted)


@BOTH
def test_views_and_batches(library):
    q, k, v, _ = drawn(3, 400, 400, heads=6, key_heads=3, batch=(2,))
    out = library.window_attention(*converted(library, q, k, v), 7)
    turned = [np.ascontiguousarray(x.swapaxes(-2, -3)).swapaxes(-2, -3) for x in (q, k, v)]
    given = converted(library, *turned)
    assert_equal64(library.window_attention(*given, 7), out)
    for x, was in zip(given, (q, k, v), strict=True):
        np.testing.assert_array_equal(x, was)
    for b in range(2):
        alone = library.window_attention(*converted(library, q[b], k[b], v[b]), 7)
        assert_equal64(out[b], alone)
    nobody = library.window_attention(*converted(library, q[:0], k[:0], v[:0]), 7)
    assert tuple(nobody.shape) == (0, 6, 400, 2)
    nothing = library.window_attention(*converted(library, q, k, v[..., :0]), 7)
    assert tuple(nothing.shape) == (2, 6, 400, 0)


@BOTH
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_extreme_scores(library, dtype):
    n = 520
    q = np.full((n, 2), 100, dtype)
    k = np.where(np.arange(n)[:, None] % 3, -q, q)  # scores of ±2e4
    v = np.arange(n, dtype=dtype)[:, None]
    out = library.window_attention(*converted(library, q, k, v), 3, scale=1.0)
    assert out.dtype == converted(library, q)[0].dtype
    np.testing.assert_array_equal(np.asarray(out)[:, 0], np.arange(n) // 3 * 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_half_precision_is_summed_in_float32(dtype, softcap, device):
    q, k, v = (torch.from_numpy(x).to(device, dtype) for x in drawn(4, 700, 700, d=8, e=8)[:3])
    once = fast.window_attention(q.double(), k.double(), v.double(), 300, softcap=softcap)
    ours = fast.window_attention(q, k, v, 300, softcap=softcap)
    assert ours.dtype == dtype
    limits = torch.finfo(dtype)
    # The weights are rounded to half precision as well, before the sum.
    torch.testing.assert_close(ours.double(), once, rtol=limits.eps, atol=limits.eps)


def test_gradients_of_half_precision_are_as_exact_as_without_blocks():
    arrays = [x.astype(np.float16) for x in drawn(5, 900, 900)]
    mask = reference.window_mask(900, 900, 800)
    exact = reference.grouped_query_attention_backward(*(x.astype(float) for x in arrays), mask)
    plain = reference.grouped_query_attention_backward(*arrays, mask)
    tensors = [torch.from_numpy(x) for x in arrays]
    for grads in (
        reference.window_attention_backward(*arrays, 800),
        fast.window_attention_backward(*tensors, 800),
    ):
        for ours, ours_plain, wanted in zip(grads, plain, exact, strict=True):
            assert_as_exact_as_plain(ours, ours_plain, wanted)


def test_what_blocks_give_to_a_key_is_summed_in_float32():
    n = 2048
    q, k = np.ones((n, 1), np.float16), np.zeros((n, 1), np.float16)
    k[0] = 30  # so all weight is on the first key
    grad_output = np.zeros((n, 1), np.float16)
    grad_output[[0, *range(256, n, 256)]] = 1
    grad_output[0] = 2048  # in float16, 2048 + 1 is 2048
    _, _, grad_v = reference.window_attention_backward(q, k, 0 * k, grad_output, n)
    assert grad_v[0] == 2048 + 8  # 7 more, rounded


def test_no_query_without_a_key_gives_nan(device):
    tensors = [torch.from_numpy(x).to(device) for x in drawn(6, 700, 300)]
    q, k, v = (x.requires_grad_() for x in tensors[:3])
    out = fast.window_attention(q, k, v, 40)
    assert (out[:, :400] == 0).all()
    assert (out[:, 400:] != 0).all()
    out.backward(tensors[3])
    assert (q.grad[:, :400] == 0).all()
    assert (q.grad[:, 401:] != 0).any()
    for ours, grad in zip(
        fast.window_attention_backward(q, k, v, tensors[3], 40), (q, k, v), strict=True
    ):
        assert_equal64(ours, grad.grad)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["window_attention", "window_attention_backward"])
def test_it_compiles(name):
    arrays = [torch.from_numpy(x) for x in drawn(7, 300, 300)]
    arrays = arrays[: 3 if name == "window_attention" else 4]
    function = getattr(fast, name)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    for ours, wanted in zip(
        outputs(compiled(*arrays, 9)), outputs(function(*arrays, 9)), strict=True
    ):
        assert_equal64(ours, wanted)


MEASURE = """
import json
import numpy as np
from attn_course import {library} as library
from measure import in_turns, peak

def arguments(n, count):
    rng = np.random.default_rng(n)
    made = [rng.standard_normal((n, 16)).astype(np.float32) for _ in range(count)]
    if "{library}" == "fast":
        import torch
        torch.set_num_threads(1)
        made = [torch.from_numpy(x) for x in made]
    return made

figures = dict()
for name, count in (("window_attention", 3), ("window_attention_backward", 4)):
    function = getattr(library, name)
    function(*arguments(2**10, count), 256)
    short, long = (arguments(n, count) for n in (2**14, 2**16))
    before = peak()
    times = in_turns(lambda: function(*short, 256), lambda: function(*long, 256))
    figures[name] = times[1] / times[0], (peak() - before) / 1e6
print(json.dumps(figures))
"""


@BOTH
def test_time_and_memory_are_linear_in_the_length(library):
    code = MEASURE.format(library=library.__name__.rpartition(".")[-1])
    for name, (ratio, megabytes) in in_own_process("-c", code, **KEEPING).items():
        # Four times the length costs four times the time, and 16 if it were the square.
        assert ratio < 8, f"{name}: {ratio} times the time"
        # Two numbers for each query and key of its window are 128 MB; all queries by all keys are
        # 4 GB even of booleans.
        assert megabytes < 128, f"{name}: {megabytes} MB"


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


Q, K, V, G = zeros(4, 3, 5), zeros(2, 6, 5), zeros(2, 6, 7), zeros(4, 3, 7)
FORWARD = [
    ((Q, K, V, 0), ValueError, "window is 0, expected at least 1"),
    ((Q, K, V, -3), ValueError, "window is -3"),
    ((Q, K, V, 2.0), TypeError, "window is 2.0, expected an integer"),
    ((Q, K, V, True), TypeError, "window is True"),
    ((Q, K, V, None), TypeError, "window is a NoneType"),
    ((Q.tolist(), K, V, 2), TypeError, "q is a list"),
    ((Q, K, None, 2), TypeError, "v is a NoneType"),
    ((Q, K.astype(np.float32), V, 2), TypeError, "k has dtype .*float32"),
    ((Q, K, V.astype(int), 2), TypeError, "v has dtype .*int64"),
    ((Q, zeros(2, 6, 4), V, 2), ValueError, "keys have width 4, queries have width 5"),
    ((Q, K, zeros(2, 5, 7), 2), ValueError, "5 values for 6 keys"),
    ((zeros(3, 3, 5), K, V, 2), ValueError, "q has shape .* a multiple of"),
    ((Q, K, zeros(4, 6, 7), 2), ValueError, r"v has shape \(4, 6, 7\)"),
    ((Q, K[0], V[0], 2), ValueError, r"k has shape \(6, 5\)"),
    ((Q[0], K, V, 2), ValueError, r"k has shape \(2, 6, 5\)"),
    ((zeros(5), K, V, 2), ValueError, r"q has shape \(5,\)"),
    ((zeros(1, 4, 3, 5), K[None], zeros(2, 2, 6, 7), 2), ValueError, "v has shape"),
]


def after_values(arguments):
    return (*arguments[:3], G, *arguments[3:])


test_bad_arguments = refuses(
    [("window_attention", *case) for case in FORWARD]
    + [("window_attention_backward", after_values(case[0]), *case[1:]) for case in FORWARD]
    + [
        ("window_attention_backward", (Q, K, V, zeros(4, 3, 6), 2), ValueError, "grad_output has"),
        ("window_attention_backward", (Q, K, V, None, 2), TypeError, "grad_output is a NoneType"),
    ]
)


@BOTH
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ({"scale": np.inf}, ValueError, "scale is inf"),
        ({"scale": "1"}, TypeError, "scale is a str"),
        ({"softcap": 0.0}, ValueError, "softcap is 0.0, expected a positive"),
    ],
)
def test_bad_numbers(library, numbers, error, message):
    q, k, v, g = converted(library, Q, K, V, G)
    with pytest.raises(error, match=message):
        library.window_attention(q, k, v, 2, **numbers)
    with pytest.raises(error, match=message):
        library.window_attention_backward(q, k, v, g, 2, **numbers)
