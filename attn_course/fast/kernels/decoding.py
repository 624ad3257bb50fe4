"""Attention of few queries to a long cache: its keys are shared among programs, then joined.

To make one token a card has little to do but to read the cache, and one program a head would leave
most of the card idle. So several programs share the keys of a head, each with all the queries that
look at them, and a second kernel joins what they found, as `merge_attention` does.

Source: [Dao et al. 2023](https://crfm.stanford.edu/2023/10/12/flashdecoding.html).
"""

import triton
import triton.language as tl

from attn_course.fast.kernels.flash import attend, rows_of
from attn_course.fast.kernels.tuning import tuned


@tuned("COLUMNS")
@triton.jit
def share(
    Q, K, V, OUT, LSE, LENGTHS, rows, queries, keys, key_heads, shares, scale, softcap, window,
    CAUSAL: tl.constexpr, PRECISION: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write output and lse of the `rows` of queries of a key head, from one share of its keys.

    A row is a query of one of the heads that share the keys, those of a head one after another.
    """
    head = tl.program_id(0) // shares
    length = keys
    if LENGTHS is not None:
        length = tl.load(LENGTHS + head // key_heads)
    q = rows_of(Q, head, rows, WIDTH, ROWS, PADDED).load([0, 0])
    # What lies beyond the length reads as 0, whatever an unused room of the cache holds.
    begin_of = tl.cast(head, tl.int64) * keys * WIDTH
    k_rows = rows_of(K + begin_of, 0, length, WIDTH, COLUMNS, PADDED)
    v_rows = rows_of(V + begin_of, 0, length, WIDTH, COLUMNS, PADDED)
    row = tl.arange(0, ROWS)
    places = length - queries + row % queries
    first = 0
    if window is not None:
        first = tl.maximum(length - queries - window + 1, 0) // COLUMNS * COLUMNS
    size = tl.cdiv(tl.cdiv(length - first, shares), COLUMNS) * COLUMNS
    begin = first + tl.program_id(0) % shares * size
    end = tl.minimum(begin + size, length)
    # Before it, every query sees every key; with a window all scores are masked.
    cut = begin
    if window is None:
        whole = tl.maximum(tl.minimum(length - queries + 1, end), 0) // COLUMNS * COLUMNS
        cut = tl.maximum(whole, begin)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    output = tl.zeros([ROWS, PADDED], tl.float32)
    top, total, output = attend(
        top, total, output, q, k_rows, v_rows, begin, cut, places, length, scale, softcap, window,
        CAUSAL, PRECISION, COLUMNS, False,
    )  # fmt: skip
    top, total, output = attend(
        top, total, output, q, k_rows, v_rows, cut, end, places, length, scale, softcap, window,
        CAUSAL, PRECISION, COLUMNS, True,
    )  # fmt: skip
    total = tl.where(total == 0, 1, total)
    rows_of(OUT, tl.program_id(0), rows, WIDTH, ROWS, PADDED).store([0, 0], output / total[:, None])
    lse = top + tl.log2(total)
    tl.store(LSE + tl.program_id(0) * rows + row, lse, mask=row < rows)


@triton.jit
def join(
    PARTS, LSES, OUT, rows, shares, WIDTH: tl.constexpr, PADDED: tl.constexpr, SHARES: tl.constexpr
):
    """Write the output of one row from those of all shares of the keys, weighted by their sums."""
    head, row = tl.program_id(0) // rows, tl.program_id(0) % rows
    share = tl.arange(0, SHARES)
    part = (head * shares + share) * rows + row
    lse = tl.load(LSES + part, mask=share < shares, other=float("-inf"))
    # Where no share saw a key, all weights are 0; else the largest is 1.
    top = tl.maximum(tl.max(lse, 0), -1e38)
    weights = tl.exp2(lse - top)
    total = tl.maximum(tl.sum(weights, 0), 1)
    column = tl.arange(0, PADDED)
    there = (share < shares)[:, None] & (column < WIDTH)[None, :]
    place = tl.cast(part, tl.int64)[:, None] * WIDTH + column[None, :]
    parts = tl.load(PARTS + place, mask=there, other=0.0)
    output = tl.sum(weights[:, None] * parts, 0) / total
    place = tl.cast(tl.program_id(0), tl.int64) * WIDTH + column
    tl.store(OUT + place, output.to(OUT.dtype.element_ty), mask=column < WIDTH)
