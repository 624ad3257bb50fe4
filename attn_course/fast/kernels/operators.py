"""The kernels as functions of torch.

`flash_attention` is an operator too, which autograd differentiates once and `torch.compile` keeps.
"""

import math

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from attn_course.arguments import (
    check_bool,
    check_grouped,
    check_integers,
    check_lengths,
    check_size,
)
from attn_course.fast.kernels import decoding, flash
from attn_course.fast.kernels.tuning import INTERPRETED

DTYPES = torch.float32, torch.float16, torch.bfloat16
WIDTHS = range(16, 257, 8)  # a row is a multiple of 16 bytes, and a block of rows fits on the chip
MOST = 64  # queries for one head of keys that decoding holds in one program


def flash_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*c j d"],
    v: Float[Tensor, "*c j d"],
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b i d"]:
    """Return `grouped_query_attention` with a causal mask or none, by one kernel.

    Args:
        q: queries (..., heads, queries, width), in float32, float16 or bfloat16.
        k: keys (..., key heads, keys, width), with as many heads or a divisor of them.
        v: values, of the shape of the keys.
        causal: whether a query sees no key after its own; the last query stands at the last key.
        window: how many keys a query sees, its own included, in tokens; it is causal besides.
        scale: what scores are multiplied by, positive; 1 / √width if None.
        softcap: bounds the scores to ±softcap by tanh, before the mask.

    Memory is linear in the length, forward and backward. There are first derivatives only. Products
    of float32 are exact to its last digits, or TF32, with 10 bits after the point, where
    `torch.set_float32_matmul_precision` allows it. The sums of half-precision products are in
    float32.

    Raises:
        TypeError: `q`, `k` or `v` is no tensor of these dtypes, `causal` no bool, `window` no
            integer, or `scale` or `softcap` no number.
        ValueError: the shapes do not fit, the width is none of 16, 24, … 256, `window` is less than
            1, a number is not positive, or the tensors are where no kernel runs.

    Source: [Dao et al. 2022](https://arxiv.org/abs/2205.14135).
    """
    options = {"causal": causal, "window": window, "scale": scale, "softcap": softcap}
    return flash_partial_attention(q, k, v, **options)[0]


def flash_partial_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*c j d"],
    v: Float[Tensor, "*c j d"],
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Float[Tensor, "*b i d"], Float[Tensor, "*b i"]]:
    """Return `flash_attention`, and of each query's scores the logarithm of the sum of ``exp``.

    The logarithms are in float32. Both have gradients, as those of `partial_attention`.

    Raises:
        TypeError: as `flash_attention`.
        ValueError: as `flash_attention`.
    """
    scale, softcap = check_kernel(q, k, v, scale, softcap)
    check_bool("causal", causal)
    keys = k.shape[-2]
    if window is not None:
        causal, window = True, check_size("window", window, minimum=1)
        if window >= keys:
            window = None  # it hides nothing that a causal mask shows
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    flat = (x.flatten(0, -3) for x in (q, k, v))
    output, lse = torch.ops.attn_course.flash_attention(*flat, causal, window, scale, softcap)
    return output.reshape(q.shape), lse.reshape(q.shape[:-1]) / flash.LOG2E.value


def flash_decoding(
    q: Float[Tensor, "*b h i d"],
    k: Float[Tensor, "*b c j d"],
    v: Float[Tensor, "*b c j d"],
    lengths: Int[Tensor, "*b"] | None = None,
    *,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b h i d"]:
    """Return causal attention of the newest tokens to a cache, whose keys programs share.

    Args:
        q: queries (..., heads, queries, width) of the newest tokens, in a dtype of
            `flash_attention`; at most 64 for one head of keys.
        k: keys (..., key heads, room, width), those of the queries' own tokens included.
        v: values, of the shape of the keys.
        lengths: how many keys count in each entry of the batch, in tokens, those of the queries
            included: from 0 to the room, which is checked on the CPU; on CUDA what lies outside
            counts as the nearest. All if None. The unused room may hold anything.
        window: as `flash_attention`.
        scale: as `flash_attention`.
        softcap: as `flash_attention`.

    No gradients flow: to train, give `flash_attention` the whole text. `torch.compile` leaves it
    out of its graphs.

    Raises:
        TypeError: as `flash_attention`, or `lengths` is no tensor of integers.
        ValueError: as `flash_attention`, `lengths` has not one number for each entry or one that is
            out of range, or there are more than 64 queries for one head of keys.
    """
    scale, softcap = check_kernel(q, k, v, scale, softcap)
    if window is not None:
        window = check_size("window", window, minimum=1)
    *batch, heads, queries, width = q.shape
    key_heads, keys = k.shape[-3:-1]
    rows = heads // key_heads * queries
    if rows > MOST:
        raise ValueError(
            f"q has {rows} queries for each head of keys, expected at most {MOST}; "
            "flash_attention takes any number"
        )
    if lengths is not None:
        check_integers(Tensor, lengths=lengths)
        if lengths.shape != (*batch,):
            raise ValueError(f"lengths has shape {tuple(lengths.shape)}, expected {(*batch,)}")
        if lengths.device.type == "cpu":  # to look at others would wait for the device
            check_lengths(Tensor, lengths.reshape(-1), keys)
        lengths = lengths.reshape(-1).clamp(0, keys).to(q.device, torch.int32)
    if 0 in (q.numel(), k.numel()):
        return torch.zeros_like(q)
    k, v = (x.reshape(-1, keys, width) for x in (k, v))
    q, k, v = ready(q.detach().reshape(len(k), rows, width), k, v)
    # Two programs for each multiprocessor, and enough keys for each program.
    shares = min(triton.cdiv(2 * processors(q.device), len(k)), triton.cdiv(keys, 128), 128)
    parts = q.new_empty(len(k), shares, rows, width, dtype=torch.float32)
    lses = parts.new_empty(parts.shape[:-1])
    output = torch.empty_like(q)
    launch(
        decoding.share,
        (len(k) * shares,),
        *(q, k, v, parts, lses, lengths, rows, queries, keys, key_heads, shares),
        *(1 / math.sqrt(width) if scale is None else scale, softcap, window),
        CAUSAL=True,
        PRECISION=precision_of(q),
        ROWS=max(16, triton.next_power_of_2(rows)),
        **width_of(q),
    )
    launch(
        decoding.join,
        (len(k) * rows,),
        *(parts, lses, output, rows, shares),
        SHARES=triton.next_power_of_2(shares),
        **width_of(q),
    )
    return output.reshape(*batch, heads, queries, width)


def processors(device):
    """Return how many multiprocessors a device has; the interpreter counts as sixteen."""
    if device.type == "cpu":
        return 16
    return torch.cuda.get_device_properties(device).multi_processor_count


def check_kernel(q, k, v, scale, softcap):
    """Return `scale` and `softcap`, numbers or None, or raise unless the kernels can use all."""
    scale, softcap = check_grouped(Tensor, q, k, v, True, 0.0, scale, softcap)
    if q.dtype not in DTYPES:
        raise TypeError(f"q has dtype {q.dtype}; the kernels take float32, float16 and bfloat16")
    if q.shape[-1] not in WIDTHS:
        raise ValueError(
            f"q has width {q.shape[-1]}; the kernels take multiples of 8 from 16 to 256"
        )
    if v.shape[-1] != q.shape[-1]:
        raise ValueError(
            f"v has width {v.shape[-1]} and q has width {q.shape[-1]}; the kernels need one width"
        )
    if scale is not None and scale <= 0:
        raise ValueError(f"scale is {scale}, expected a positive number")
    if q.device.type != ("cpu" if INTERPRETED else "cuda"):
        raise ValueError(
            f"q is on the device {q.device}; the kernels run on CUDA, or, where Python was started "
            "with TRITON_INTERPRET=1 in its environment, in the interpreter on the CPU"
        )
    return scale, softcap


def launch(kernel, grid, *arguments, **constants):
    """Run `kernel` on the device of its first argument."""
    device = arguments[0].device
    if device.type == "cpu":
        kernel[grid](*arguments, **constants)
        return
    # Where a kernel describes its arrays to the hardware, the descriptions need memory.
    triton.set_allocator(lambda size, *_: torch.empty(size, dtype=torch.int8, device=device))
    with torch.cuda.device(device):
        kernel[grid](*arguments, **constants)


def width_of(x):
    """Return what a kernel is compiled for: the width, and the size of a block of such rows."""
    width = x.shape[-1]
    return {"WIDTH": width, "PADDED": triton.next_power_of_2(width)}


def precision_of(x):
    """Return how products are taken: with all digits of `x`, unless torch allows TF32."""
    exact = x.dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"


def ready(*arrays):
    """Return `arrays` as the kernels read them: without gaps, from an address of whole rows."""
    arrays = (x.contiguous() for x in arrays)
    return [x.clone() if x.data_ptr() % 16 else x for x in arrays]


def walk(kernel, side, q, k, v, others, causal, window, scale, softcap):
    """Run a kernel of `flash` with a program for each block of `side`, the queries or the keys."""
    rows, size = (q, "ROWS") if side == "queries" else (k, "COLUMNS")
    launch(
        kernel,
        lambda meta: (len(rows) * triton.cdiv(rows.shape[1], meta[size]),),
        *(q, k, v, *others, q.shape[1], k.shape[1], len(q) // len(k), scale, softcap, window),
        CAUSAL=causal,
        PRECISION=precision_of(q),
        **width_of(q),
    )


@torch.library.custom_op("attn_course::flash_attention", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int | None, scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return output and lse, in log2(e), of arrays (heads, length, width)."""
    q, k, v = ready(q, k, v)
    output, lse = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)
    if q.numel() and k.numel():
        walk(flash.forward, "queries", q, k, v, (output, lse), causal, window, scale, softcap)
        return output, lse
    return output.zero_(), lse.fill_(-math.inf)


@_forward.register_fake
def _(q, k, v, causal, window, scale, softcap):
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("attn_course::flash_attention_backward", mutates_args=())
def _backward(
    q: Tensor, k: Tensor, v: Tensor, output: Tensor, lse: Tensor, grad_output: Tensor,
    grad_lse: Tensor, causal: bool, window: int | None, scale: float, softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of queries, keys and values."""
    q, k, v, output, grad_output = ready(q, k, v, output, grad_output)
    if not (q.numel() and k.numel()):
        return tuple(torch.zeros_like(x) for x in (q, k, v))
    grads = [torch.empty_like(x) for x in (q, k, v)]
    average = torch.empty_like(lse)
    rows = average.numel()
    launch(
        flash.averages,
        (triton.cdiv(rows, 64),),
        *(output, grad_output, average, rows),
        **width_of(q),
    )
    average -= flash.LOG2E.value * grad_lse  # to raise an lse is to raise scores by their weights
    # A query that sees no key has no weights: no number is 2 to the power of minus infinity.
    lse = lse.masked_fill(lse == -math.inf, math.inf)
    given = grad_output, lse, average
    options = causal, window, scale, softcap
    walk(flash.backward_queries, "queries", q, k, v, (*given, grads[0]), *options)
    walk(flash.backward_keys, "keys", q, k, v, (*given, *grads[1:]), *options)
    return tuple(grads)


@_backward.register_fake
def _(q, k, v, *others):
    return tuple(x.new_empty(x.shape) for x in (q, k, v))


def _keep(ctx, inputs, output):
    """Keep what the gradients are computed from: no scores."""
    ctx.save_for_backward(*inputs[:3], *output)
    ctx.options = inputs[3:]


def _differentiate(ctx, grad_output, grad_lse):
    given = *ctx.saved_tensors, grad_output, grad_lse
    grads = torch.ops.attn_course.flash_attention_backward(*given, *ctx.options)
    return *grads, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)
