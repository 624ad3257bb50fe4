"""The kernels, on CUDA or, where there is none, in Triton's interpreter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from measure import in_own_process
from tolerance import as_float64, assert_as_exact_as_plain

from attn_course import reference

triton = pytest.importorskip("triton", reason="Triton is for Linux")
import triton.language as tl  # noqa: E402

from attn_course.fast import kernels  # noqa: E402
from attn_course.fast.kernels import flash, steps  # noqa: E402
from attn_course.fast.kernels.tuning import INTERPRETED  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
HALVES = [torch.float16] if INTERPRETED else [torch.float16, torch.bfloat16]
DTYPES = [torch.float32, *HALVES]

# queries, keys, causal, window: whole blocks and parts of them, more queries than keys and fewer,
# queries that see nothing, a window that begins and ends within a block.
CASES = {
    "one": (1, 1, False, None),
    "whole-blocks": (64, 32, False, None),
    "tails": (35, 50, False, None),
    "causal": (70, 70, True, None),
    "causal-fewer-queries": (33, 75, True, None),
    "causal-more-queries": (75, 33, True, None),
    "window-of-one": (40, 40, True, 1),
    "window": (70, 90, True, 21),
    "window-more-queries": (90, 50, True, 40),
}


def drawn(queries, keys, heads=2, key_heads=1, width=16, dtype=torch.float32, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (heads, queries), (key_heads, keys), (key_heads, keys)
    return [
        torch.randn(batch, h, n, width, generator=generator).to(DEVICE, dtype) for h, n in shapes
    ]


def mask_of(queries, keys, causal, window):
    if window:
        return reference.window_mask(queries, keys, window)
    return reference.causal_mask(queries, keys) if causal else np.True_


def textbook(q, k, v, mask, softcap=None):
    """Attention as it is written, in the dtype of the queries; what it makes of empty rows is 0."""
    mask = torch.tensor(mask, device=q.device)
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if softcap:
        scores = softcap * (scores / softcap).tanh()
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).nan_to_num() @ v


def gradients(function, q, k, v, grad):
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    output = function(*inputs)
    return [output.detach(), *torch.autograd.grad(output, inputs, grad)]


def exact(q, k, v, grad, mask, softcap=None):
    """Return output and gradients by the reference, in float64."""
    given = [as_float64(x) for x in (q, k, v, grad)]
    options = {"mask": np.broadcast_to(mask, (q.shape[-2], k.shape[-2])), "softcap": softcap}
    output = reference.grouped_query_attention(*given[:3], **options)
    return [output, *reference.grouped_query_attention_backward(*given, **options)]


def compare(q, k, v, causal=False, window=None, softcap=None):
    """Hold the kernel, forward and backward, to twice the error of the textbook's form."""
    mask = mask_of(q.shape[-2], k.shape[-2], causal, window)
    grad = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(q)
    options = {"causal": causal, "window": window, "softcap": softcap}
    found = gradients(lambda *x: kernels.flash_attention(*x, **options), q, k, v, grad)
    plain = gradients(lambda *x: textbook(*x, mask, softcap), q, k, v, grad)
    for parts in zip(found, plain, exact(q, k, v, grad, mask, softcap), strict=True):
        assert_as_exact_as_plain(*parts)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_output_and_gradients(case, dtype):
    queries, keys, causal, window = CASES[case]
    compare(*drawn(queries, keys, dtype=dtype), causal, window)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["tails", "window"])
def test_softcap(case, dtype):
    queries, keys, causal, window = CASES[case]
    compare(*drawn(queries, keys, dtype=dtype), causal, window, softcap=1.5)


@pytest.mark.parametrize("width", [32, 40, 64, 80, 128, 256])
def test_widths(width):
    compare(*drawn(17, 33, width=width, batch=1, dtype=HALVES[0]), causal=True)


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (3, 1)])
def test_heads_that_share_keys(heads, key_heads):
    compare(*drawn(20, 35, heads, key_heads), causal=True)


@triton.jit
def _stages(OUT, queries, keys, window, CAUSAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip # noqa: E501
    """Write the stages of the walk of each block of queries, then of each block of keys."""
    block = tl.program_id(0)
    place = block * ROWS + keys - queries
    stages = flash.along_keys(place, keys, window, CAUSAL, ROWS, COLUMNS)
    for n in tl.static_range(4):
        tl.store(OUT + block * 8 + n, stages[n])
    place = block * COLUMNS + queries - keys
    stages = flash.along_queries(place, queries, window, CAUSAL, ROWS, COLUMNS)
    for n in tl.static_range(4):
        tl.store(OUT + block * 8 + 4 + n, stages[n])


@pytest.mark.parametrize("seed", range(60))
def test_a_walk_meets_what_is_seen_and_masks_what_is_cut(seed):
    rng = np.random.default_rng(seed)
    queries, keys = (int(n) for n in rng.integers(1, 90, size=2))
    rows, columns = (int(n) for n in rng.choice([16, 32, 64], size=2))
    causal = seed % 3 > 0
    window = int(rng.integers(1, 100)) if seed % 3 == 2 else None
    blocks = max(-(-queries // rows), -(-keys // columns))
    out = torch.zeros(blocks, 8, dtype=torch.int32, device=DEVICE)
    _stages[(blocks,)](out, queries, keys, window, CAUSAL=causal, ROWS=rows, COLUMNS=columns)
    seen = np.broadcast_to(mask_of(queries, keys, causal, window), (queries, keys))
    for block, stages in enumerate(out.tolist()):
        for tile, step, (first, whole, cut, end) in (
            (seen[block * rows : (block + 1) * rows], columns, stages[:4]),
            (seen[:, block * columns : (block + 1) * columns].T, rows, stages[4:]),
        ):
            if not len(tile):
                continue  # there is no such block
            visited = np.zeros(tile.shape[1], int)
            for begin, stop, masked in (
                (first, whole, True),
                (whole, cut, False),
                (cut, end, True),
            ):
                for start in range(begin, stop, step):
                    assert start % step == 0
                    visited[start : start + step] += 1
                    assert masked or tile[:, start : start + step].all()
            assert visited.max(initial=0) <= 1
            assert not tile[:, visited == 0].any()


def test_a_query_that_sees_nothing_gets_zeros():
    q, k, v = (x.requires_grad_() for x in drawn(40, 3))
    output, lse = kernels.flash_partial_attention(q, k, v, causal=True)
    assert (output[..., :37, :] == 0).all()
    assert (lse[..., :37] == -torch.inf).all()
    grads = torch.autograd.grad(output.sum(), (q, k, v))
    assert (grads[0][..., :37, :] == 0).all()
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (5, 0)])
def test_nothing_to_attend(queries, keys):
    q, k, v = (x.requires_grad_() for x in drawn(queries, keys))
    output, lse = kernels.flash_partial_attention(q, k, v)
    assert output.shape == q.shape
    assert (output == 0).all()
    assert (lse == -torch.inf).all()
    assert all((grad == 0).all() for grad in torch.autograd.grad(output.sum(), (q, k, v)))


def test_lse_and_its_gradients():
    q, k, v = drawn(20, 37)
    grad = torch.randn(q.shape[:-1], generator=torch.Generator().manual_seed(2)).to(DEVICE)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    lse = kernels.flash_partial_attention(*inputs, causal=True, softcap=2.0)[1]
    found = torch.autograd.grad(lse, inputs, grad)
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    scores = 2 * (wide[0] @ wide[1].mT / 8).tanh()  # 8 is twice the root of the width
    mask = torch.as_tensor(reference.causal_mask(20, 37), device=DEVICE)
    expected = scores.masked_fill(~mask, -torch.inf).logsumexp(dim=-1)
    assert torch.allclose(lse.double(), expected, atol=1e-5)
    for ours, theirs in zip(found[:2], torch.autograd.grad(expected, wide[:2], grad), strict=True):
        assert torch.allclose(ours.double(), theirs, atol=1e-5)
    assert (found[2] == 0).all()


# What is masked may overflow before it is: the interpreter's NumPy warns of it.
@pytest.mark.filterwarnings("ignore:overflow encountered in exp2:RuntimeWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_scores(dtype):
    q, k, v = drawn(20, 40, dtype=dtype)
    compare(100 * q, k, v, causal=True)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # the interpreter's NumPy
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_what_is_not_finite_reaches_who_sees_it(number):
    q, k, v = drawn(50, 50)
    values = v.clone()
    k[:, :, 20], values[:, :, 20] = torch.nan, number
    output = kernels.flash_attention(q, k, v, causal=True)
    assert output[..., :20, :].isfinite().all()
    assert output[..., 20:, :].isnan().all()
    output = kernels.flash_attention(q, v, values, causal=True)
    assert not output[..., 20:, :].isfinite().any()


def test_any_memory():
    """Transposed arrays, and arrays that begin in the middle of others, at no round address."""
    q, k, v = drawn(20, 35)
    expected = kernels.flash_attention(q, k, v)
    turned = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    moved = [torch.cat((x.new_zeros(1), x.flatten()))[1:].view(x.shape) for x in (q, k, v)]
    assert all(x.data_ptr() % 16 for x in moved)
    for given in (turned, moved):
        assert torch.equal(kernels.flash_attention(*given), expected)


def test_scale_and_leading_axes():
    q, k, v = drawn(20, 35)
    found = kernels.flash_attention(q[:, None], k[:, None], v[:, None], scale=0.7)
    expected = textbook(q * 0.7 * 4, k, v, np.True_)  # 4 is the root of the width
    assert torch.allclose(found[:, 0], expected, atol=1e-5)
    assert torch.allclose(
        kernels.flash_attention(q[0], k[0], v[0], scale=0.7), expected[0], atol=1e-5
    )


def test_operators_pass_the_checks_of_torch():
    q, k, v = (x.reshape(-1, *x.shape[-2:]).requires_grad_() for x in drawn(20, 35, heads=2))
    for options in (False, None, 0.25, None), (True, 7, 0.25, 2.0):
        torch.library.opcheck(torch.ops.attn_course.flash_attention, (q, k, v, *options))


def test_compile_takes_the_kernel_whole():
    # In a process of its own: torch cannot trace the wrapping of the tests' type checks.
    assert in_own_process("-c", COMPILED) == "equal"


COMPILED = """
import json, torch
from attn_course.fast.kernels import flash_attention
from attn_course.fast.kernels.tuning import INTERPRETED

device = "cpu" if INTERPRETED else "cuda"
q, k, v = (torch.randn(1, 2, n, 16, device=device, requires_grad=True) for n in (20, 35, 35))

def loss(q, k, v):
    return flash_attention(2 * q, k, v, causal=True).square().sum()

compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
found = torch.autograd.grad(compiled(q, k, v), (q, k, v))
expected = torch.autograd.grad(loss(q, k, v), (q, k, v))
assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
print(json.dumps("equal"))
"""


def test_no_scores_are_kept_for_the_gradients():
    q, k, v = (x.requires_grad_() for x in drawn(64, 96))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        kernels.flash_attention(q, k, v)
    assert len(kept) == 5
    assert max(x.numel() for x in kept) == q.numel()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("window", [None, 1, 50])
def test_decoding(queries, window, dtype):
    q, k, v = drawn(queries, 300, heads=4, key_heads=2, dtype=dtype, batch=3)
    lengths = [300, 131, 2]
    given = torch.tensor(lengths, device=DEVICE)
    found = kernels.flash_decoding(q, k, v, given, window=window, softcap=3.0)
    for n, length in enumerate(lengths):
        mask = mask_of(queries, length, True, window)
        one = q[n : n + 1], k[n : n + 1, :, :length], v[n : n + 1, :, :length]
        wide = [as_float64(x) for x in one]
        expected = reference.grouped_query_attention(*wide, mask, softcap=3.0)
        assert_as_exact_as_plain(found[n : n + 1], textbook(*one, mask, 3.0), expected)


@pytest.mark.parametrize("unused", [float("nan"), float("inf")])
def test_what_unused_room_of_a_cache_holds_does_not_count(unused):
    q, k, v = drawn(1, 40)
    lengths = torch.tensor([10, 33], device=DEVICE)
    expected = kernels.flash_decoding(q, k, v, lengths)
    for n, length in enumerate(lengths.tolist()):
        k[n, :, length:] = v[n, :, length:] = unused
    assert torch.equal(kernels.flash_decoding(q, k, v, lengths), expected)


def test_decoding_without_lengths_and_with_an_empty_cache():
    q, k, v = drawn(2, 40)
    assert torch.allclose(
        kernels.flash_decoding(q, k, v), kernels.flash_attention(q, k, v, causal=True), atol=1e-6
    )
    found = kernels.flash_decoding(q, k, v, torch.tensor([0, 1]))
    assert (found[0] == 0).all()
    assert (found[1, :, 0] == 0).all()
    assert torch.allclose(found[1, :, 1], v[1, :, 0].expand(2, -1), atol=1e-6)
    assert (kernels.flash_decoding(q, k[:, :, :0], v[:, :, :0]) == 0).all()


@pytest.mark.parametrize("name", steps.STEPS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 64, 75])
def test_every_step_gives_attention(name, causal, length):
    q, k, v = (x[0] for x in drawn(length, length, key_heads=2))
    mask = np.broadcast_to(mask_of(length, length, causal, None), (length, length))
    expected = reference.attention(*(as_float64(x) for x in (q, k, v)), mask)
    plain = textbook(q[None], k[None], v[None], mask)[0]
    assert_as_exact_as_plain(steps.step(name, q, k, v, causal), plain, expected)


def test_for_a_card_that_is_not_here_the_kernels_compile_to_what_makes_them_fast(monkeypatch):
    """Tensor cores by warp groups, tiles by the copy engine, no registers in memory."""
    compiled = Path(__file__).with_name("compiled.py")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    for name, made in in_own_process(compiled).items():
        assert made["copies"] > 0, name
        assert made["spilled_bytes"] <= 8, name
        assert made["memory"] <= 227 * 1024, name
        # One query a head is too few rows for a warp group.
        assert name.startswith("decoding") or made["tensor_core"] > 0, name


Q, K, V = (torch.zeros(2, 4, 5, 16, device=DEVICE) for _ in range(3))
WIDE = torch.zeros(2, 4, 5, 264, device=DEVICE)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["flash_attention", "flash_decoding"])
@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ((Q.double(), K.double(), V.double()), {}, TypeError, "q has dtype torch.float64; the ker"),
        ((Q.tolist(), K, V), {}, TypeError, "q is a list"),
        ((Q[..., :12], K[..., :12], V[..., :12]), {}, ValueError, "q has width 12; the kernels"),
        ((WIDE, WIDE, WIDE), {}, ValueError, "q has width 264"),
        ((Q, K, WIDE[..., :24]), {}, ValueError, "v has width 24 and q has width 16"),
        ((Q, K[:, :3], V[:, :3]), {}, ValueError, "query heads"),
        ((Q, K[..., :3, :], V), {}, ValueError, "5 values for 3 keys"),
        ((Q, K, V), {"window": 0}, ValueError, "window is 0, expected at least 1"),
        ((Q, K, V), {"window": 1.5}, TypeError, "window is 1.5"),
        ((Q, K, V), {"scale": -1.0}, ValueError, "scale is -1.0, expected a positive number"),
        ((Q, K, V), {"softcap": 0.0}, ValueError, "softcap is 0.0"),
        ((Q.to("meta"), K.to("meta"), V.to("meta")), {}, ValueError, "q is on the device meta"),
    ],
)
def test_bad_arguments(name, given, options, error, message):
    with pytest.raises(error, match=message):
        getattr(kernels, name)(*given, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.flash_attention(Q, K, V, causal=1), TypeError, "causal is 1"),
        (
            lambda: kernels.flash_decoding(Q, K, V, torch.ones(3, dtype=torch.int32)),
            ValueError,
            r"lengths has shape \(3,\), expected \(2,\)",
        ),
        (lambda: kernels.flash_decoding(Q, K, V, torch.ones(2)), TypeError, "lengths has dtype"),
        (
            lambda: kernels.flash_decoding(Q, K, V, torch.tensor([-1, 6])),
            ValueError,
            "lengths goes from -1 to 6, expected from 0 to 5",
        ),
        (
            lambda: kernels.flash_decoding(torch.zeros(2, 8, 65, 16), K, V),
            ValueError,
            "q has 130 queries for each head of keys, expected at most 64",
        ),
    ],
)
def test_bad_arguments_of_one(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("two_pass", Q[0], K[0], V[0]), "name is 'two_pass', expected one of naive, tiled"),
        (("tiled", Q[0], K[0, :2], V[0, :2]), r"q, k and v have shapes \(4, 5, 16\), \(2, 5, 16"),
        (("tiled", Q, K, V), r"q, k and v have shapes \(2, 4, 5, 16\)"),
    ],
)
def test_bad_steps(given, message):
    with pytest.raises(ValueError, match=message):
        steps.step(*given)
