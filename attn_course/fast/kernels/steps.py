"""From the textbook to one kernel, an idea at a time: what each step of the way gains.

Each computes the output of attention, causal or not, of arrays (heads, length, width), and differs
from the one before in one thing. None has gradients, windows or groups: `flash` is the last step.

Source: [Dao et al. 2022](https://arxiv.org/abs/2205.14135) for tiles, [Dao
2024](https://arxiv.org/abs/2307.08691) for the rest.
"""

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from attn_course.arguments import check_bool
from attn_course.fast.kernels.flash import LOG2E, rows_of
from attn_course.fast.kernels.operators import check_kernel, launch, precision_of, ready, width_of
from attn_course.fast.kernels.tuning import tuned


def _naive(q, k, v, causal):
    """Send the scores to memory, have them back, send the weights there, and have them back."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device)
        scores = scores.masked_fill(hidden.triu(1 + k.shape[1] - q.shape[1]), -torch.inf)
    return scores.softmax(dim=-1) @ v


@tuned("COLUMNS", held="ROWS", stages=(1,))
@triton.jit
def _tiled(
    Q, K, V, OUT, queries, keys, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Keep a tile of scores on the chip, and add it to an output that is scaled anew."""
    head, row = tl.program_id(1), tl.program_id(0) * ROWS
    q = rows_of(Q, head, queries, WIDTH, ROWS, PADDED).load([row, 0])
    k_rows = rows_of(K, head, keys, WIDTH, COLUMNS, PADDED)
    v_rows = rows_of(V, head, keys, WIDTH, COLUMNS, PADDED)
    places = row + tl.arange(0, ROWS)[:, None] + keys - queries
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total, output = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, PADDED], tl.float32)
    for start in tl.range(0, keys, COLUMNS):
        k, v = k_rows.load([start, 0]), v_rows.load([start, 0])
        columns = start + tl.arange(0, COLUMNS)[None, :]
        scores = scale * tl.dot(q, k.T, input_precision=PRECISION)
        seen = (columns < keys) & (columns <= places if CAUSAL else True)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights, fade = tl.exp(scores - higher[:, None]), tl.exp(top - higher)
        total = total * fade + tl.sum(weights, 1)
        output = output * fade[:, None]
        output = tl.dot(weights.to(v.dtype), v, output, input_precision=PRECISION)
        top = higher
    output = (output / total[:, None]).to(q.dtype)
    rows_of(OUT, head, queries, WIDTH, ROWS, PADDED).store([row, 0], output)


@triton.jit
def _exp2(
    Q, K, V, OUT, queries, keys, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Count scores in log2(e), so that one factor brings them to what the hardware computes, 2ˣ."""
    head, row = tl.program_id(1), tl.program_id(0) * ROWS
    q = rows_of(Q, head, queries, WIDTH, ROWS, PADDED).load([row, 0])
    k_rows = rows_of(K, head, keys, WIDTH, COLUMNS, PADDED)
    v_rows = rows_of(V, head, keys, WIDTH, COLUMNS, PADDED)
    places = row + tl.arange(0, ROWS)[:, None] + keys - queries
    unit = scale * LOG2E
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total, output = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, PADDED], tl.float32)
    for start in tl.range(0, keys, COLUMNS):
        k, v = k_rows.load([start, 0]), v_rows.load([start, 0])
        columns = start + tl.arange(0, COLUMNS)[None, :]
        scores = tl.dot(q, k.T, input_precision=PRECISION)
        seen = (columns < keys) & (columns <= places if CAUSAL else True)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1) * unit)
        weights, fade = tl.exp2(scores * unit - higher[:, None]), tl.exp2(top - higher)
        total = total * fade + tl.sum(weights, 1)
        output = output * fade[:, None]
        output = tl.dot(weights.to(v.dtype), v, output, input_precision=PRECISION)
        top = higher
    output = (output / total[:, None]).to(q.dtype)
    rows_of(OUT, head, queries, WIDTH, ROWS, PADDED).store([row, 0], output)


_one_after_the_other = tuned("COLUMNS", held="ROWS", stages=(1,))(_exp2)
_pipelined = tuned("COLUMNS", held="ROWS")(_exp2)


@tuned("COLUMNS", held="ROWS")
@triton.jit
def _two_stage(
    Q, K, V, OUT, queries, keys, scale, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Walk first along the tiles that every row sees whole, then along those that need a mask."""
    head, row = tl.program_id(1), tl.program_id(0) * ROWS
    q = rows_of(Q, head, queries, WIDTH, ROWS, PADDED).load([row, 0])
    k_rows = rows_of(K, head, keys, WIDTH, COLUMNS, PADDED)
    v_rows = rows_of(V, head, keys, WIDTH, COLUMNS, PADDED)
    places = row + tl.arange(0, ROWS)[:, None] + keys - queries
    unit = scale * LOG2E
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total, output = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, PADDED], tl.float32)
    cut, end = keys // COLUMNS * COLUMNS, keys
    if CAUSAL:
        cut = (row + keys - queries + 1) // COLUMNS * COLUMNS
        end = tl.minimum(row + ROWS + keys - queries, keys)
    bounds = 0, cut, end
    for stage in tl.static_range(2):
        for start in tl.range(bounds[stage], bounds[stage + 1], COLUMNS):
            k, v = k_rows.load([start, 0]), v_rows.load([start, 0])
            scores = tl.dot(q, k.T, input_precision=PRECISION)
            if stage == 1:
                columns = start + tl.arange(0, COLUMNS)[None, :]
                seen = (columns < keys) & (columns <= places if CAUSAL else True)
                scores = tl.where(seen, scores, float("-inf"))
            higher = tl.maximum(top, tl.max(scores, 1) * unit)
            weights, fade = tl.exp2(scores * unit - higher[:, None]), tl.exp2(top - higher)
            total = total * fade + tl.sum(weights, 1)
            output = output * fade[:, None]
            output = tl.dot(weights.to(v.dtype), v, output, input_precision=PRECISION)
            top = higher
    output = (output / total[:, None]).to(q.dtype)
    rows_of(OUT, head, queries, WIDTH, ROWS, PADDED).store([row, 0], output)


KERNELS = {
    "tiled": _tiled,
    "exp2": _one_after_the_other,
    "pipelined": _pipelined,
    "two_stage": _two_stage,
}
STEPS = "naive", *KERNELS


def step(
    name: str,
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n d"],
    causal: bool = False,
) -> Float[Tensor, "h n d"]:
    """Return attention by one of `STEPS`: a head of keys a head of queries, a query a key.

    Raises:
        TypeError: as `flash_attention`.
        ValueError: as `flash_attention`, there is no such step, or the shapes differ.
    """
    if name not in STEPS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(STEPS)}")
    check_kernel(q, k, v, None, None)
    check_bool("causal", causal)
    if not q.shape == k.shape == v.shape or q.ndim != 3:
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k and v have shapes {shapes}, expected one, (heads, length, width)")
    if name == "naive":
        return _naive(q, k, v, causal)
    q, k, v = ready(q, k, v)
    output = torch.empty_like(q)
    heads, length, width = q.shape
    launch(
        KERNELS[name],
        lambda meta: (triton.cdiv(length, meta["ROWS"]), heads),
        *(q, k, v, output, length, length, 1 / math.sqrt(width)),
        CAUSAL=causal,
        PRECISION=precision_of(q),
        **width_of(q),
    )
    return output
