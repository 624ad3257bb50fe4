"""Attention in one kernel: scores are made, used and forgotten a tile at a time, on the chip.

A program takes a block of rows and walks along the blocks of the other side: queries along keys,
for the output and the queries' gradient; keys along queries, for the gradients of keys and values.
A mask costs work only where it cuts a tile, so a walk has three stages: blocks that one edge of the
mask cuts, blocks that every row sees whole, and blocks that the other edge cuts.

Exponentials are powers of two, which the hardware computes, so scores are counted in log2(e).
Arrays are (heads, length, width) with the batch among the heads; `group` heads of queries share one
of keys. The lse of a query is the logarithm of its sum of ``exp``, counted as the scores are; -inf
where it sees no key.

Source: [Dao 2024](https://arxiv.org/abs/2307.08691), algorithms 1 and 2.
"""

import triton
import triton.language as tl

from attn_course.fast.kernels.tuning import tuned

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def rows_of(x, head, length, WIDTH: tl.constexpr, ROWS: tl.constexpr, PADDED: tl.constexpr):
    """Return the rows of a head, read and written by blocks; what lies outside reads as 0."""
    start = x + tl.cast(head, tl.int64) * length * WIDTH
    return tl.make_tensor_descriptor(start, [length, WIDTH], [WIDTH, 1], [ROWS, PADDED])


@triton.jit
def number_of(x, head, rows, length, other):
    """Return one number for each of the rows of a head, `other` beyond its end."""
    return tl.load(x + tl.cast(head, tl.int64) * length + rows, mask=rows < length, other=other)


@triton.jit
def scores_of(a, b, scale, softcap, PRECISION: tl.constexpr):
    """Return the scores of a tile, and the unit that they are to be multiplied by."""
    scores = tl.dot(a, b.T, input_precision=PRECISION)
    unit = scale * LOG2E
    if softcap is not None:  # tanh, by the one exponential that is at hand
        scores = 1 - 2 / (1 + tl.exp2(2 * unit / softcap * scores))
        unit = softcap * LOG2E
    return scores, unit


@triton.jit
def seen(places, columns, keys, window, CAUSAL: tl.constexpr):
    """Return which keys, by column, the queries see that stand at `places` among the keys."""
    mask = columns < keys
    if CAUSAL:
        mask &= columns <= places
    if window is not None:
        mask &= columns > places - window
    return mask


@triton.jit
def along_keys(
    place, keys, window, CAUSAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Return where the three stages of a walk along the keys begin, and where the last ends.

    The first of the queries stands at `place` among the keys.
    """
    first, whole, cut, end = 0, 0, keys, keys
    if CAUSAL:
        cut = tl.minimum(tl.maximum(place + 1, 0), keys)
        end = tl.minimum(tl.maximum(place + ROWS, 0), keys)
    if window is not None:
        first = tl.maximum(place - window + 1, 0) // COLUMNS * COLUMNS
        whole = tl.minimum(tl.cdiv(tl.maximum(place + ROWS - window, 0), COLUMNS) * COLUMNS, end)
    return first, whole, tl.maximum(cut // COLUMNS * COLUMNS, whole), end


@triton.jit
def along_queries(
    place, queries, window, CAUSAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Return the same of a walk along the queries. The first key stands at `place` among them."""
    first, whole, cut, end = 0, 0, queries, queries
    if CAUSAL:
        first = tl.maximum(place, 0) // ROWS * ROWS
        whole = tl.minimum(tl.cdiv(tl.maximum(place + COLUMNS - 1, 0), ROWS) * ROWS, queries)
    if window is not None:
        cut = tl.minimum(tl.maximum(place + window, 0) // ROWS * ROWS, queries)
        end = tl.minimum(tl.maximum(place + COLUMNS - 1 + window, 0), queries)
        whole = tl.minimum(whole, end)
    return first, whole, tl.maximum(cut, whole), end


@triton.jit
def attend(
    top, total, output, q, k_rows, v_rows, begin, end, places, keys, scale, softcap, window,
    CAUSAL: tl.constexpr, PRECISION: tl.constexpr, COLUMNS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Add the keys from `begin` to `end` to the largest score, the sum and the output so far."""
    for start in tl.range(begin, end, COLUMNS):
        k, v = k_rows.load([start, 0]), v_rows.load([start, 0])
        scores, unit = scores_of(q, k, scale, softcap, PRECISION)
        if MASKED:
            columns = start + tl.arange(0, COLUMNS)
            mask = seen(places[:, None], columns[None, :], keys, window, CAUSAL)
            scores = tl.where(mask, scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1) * unit)
        shift = tl.where(higher == float("-inf"), 0, higher) if MASKED else higher
        weights = tl.exp2(scores * unit - shift[:, None])
        fade = tl.exp2(top - shift)
        total = total * fade + tl.sum(weights, 1)
        output *= fade[:, None]
        output = tl.dot(weights.to(v.dtype), v, output, input_precision=PRECISION)
        top = higher
    return top, total, output


@tuned("COLUMNS", held="ROWS")
@triton.jit
def forward(
    Q, K, V, OUT, LSE, queries, keys, group, scale, softcap, window,
    CAUSAL: tl.constexpr, PRECISION: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the output and the lse of a block of queries."""
    blocks = tl.cdiv(queries, ROWS)
    head = tl.program_id(0) // blocks
    # Under a causal mask the last queries have the most to do: they begin.
    row = (blocks - 1 - tl.program_id(0) % blocks) * ROWS
    q = rows_of(Q, head, queries, WIDTH, ROWS, PADDED).load([row, 0])
    k_rows = rows_of(K, head // group, keys, WIDTH, COLUMNS, PADDED)
    v_rows = rows_of(V, head // group, keys, WIDTH, COLUMNS, PADDED)
    place = row + keys - queries
    places = place + tl.arange(0, ROWS)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    output = tl.zeros([ROWS, PADDED], tl.float32)
    stages = along_keys(place, keys, window, CAUSAL, ROWS, COLUMNS)
    for stage in tl.static_range(3):
        top, total, output = attend(
            top, total, output, q, k_rows, v_rows, stages[stage], stages[stage + 1], places, keys,
            scale, softcap, window, CAUSAL, PRECISION, COLUMNS, stage != 1,
        )  # fmt: skip
    total = tl.where(total == 0, 1, total)  # a query that may look nowhere gets zeros
    output = output / total[:, None]
    rows_of(OUT, head, queries, WIDTH, ROWS, PADDED).store([row, 0], output.to(q.dtype))
    rows = row + tl.arange(0, ROWS)
    lse = top + tl.log2(total)
    tl.store(LSE + tl.cast(head, tl.int64) * queries + rows, lse, mask=rows < queries)


@triton.jit
def gradients_of(a, b, c, d, lse, average, scale, softcap, mask, PRECISION: tl.constexpr):
    """Return the weights of a tile, and the gradients of its scores before their scale.

    `a` and `b` are the sides of the scores, `c` and `d` those of the gradients of the weights:
    of queries and keys with the output's gradient and the values, or all of them turned around.
    """
    scores, unit = scores_of(a, b, scale, softcap, PRECISION)
    weights = tl.exp2(scores * unit - lse)
    if mask is not None:
        weights = tl.where(mask, weights, 0)
    gradients = weights * (tl.dot(c, d.T, input_precision=PRECISION) - average)
    if softcap is not None:
        gradients *= 1 - scores * scores
    return weights, gradients


@triton.jit
def averages(OUT, GRAD, AVERAGE, queries, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Write for 64 queries, of all heads, the average by weight of their weights' gradients."""
    row = tl.program_id(0) * 64
    out = rows_of(OUT, 0, queries, WIDTH, 64, PADDED).load([row, 0]).to(tl.float32)
    grad = rows_of(GRAD, 0, queries, WIDTH, 64, PADDED).load([row, 0]).to(tl.float32)
    rows = row + tl.arange(0, 64)
    tl.store(AVERAGE + rows, tl.sum(out * grad, 1), mask=rows < queries)


@tuned("COLUMNS", held="ROWS")
@triton.jit
def backward_queries(
    Q, K, V, GRAD, LSE, AVERAGE, GRAD_Q, queries, keys, group, scale, softcap, window,
    CAUSAL: tl.constexpr, PRECISION: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a block of queries. AVERAGE is that of their weights' gradients."""
    blocks = tl.cdiv(queries, ROWS)
    head = tl.program_id(0) // blocks
    row = (blocks - 1 - tl.program_id(0) % blocks) * ROWS
    rows = row + tl.arange(0, ROWS)
    q = rows_of(Q, head, queries, WIDTH, ROWS, PADDED).load([row, 0])
    grad = rows_of(GRAD, head, queries, WIDTH, ROWS, PADDED).load([row, 0])
    k_rows = rows_of(K, head // group, keys, WIDTH, COLUMNS, PADDED)
    v_rows = rows_of(V, head // group, keys, WIDTH, COLUMNS, PADDED)
    lse = number_of(LSE, head, rows, queries, float("inf"))[:, None]
    average = number_of(AVERAGE, head, rows, queries, 0.0)[:, None]
    grad_q = tl.zeros([ROWS, PADDED], tl.float32)
    place = row + keys - queries
    stages = along_keys(place, keys, window, CAUSAL, ROWS, COLUMNS)
    for stage in tl.static_range(3):
        for start in tl.range(stages[stage], stages[stage + 1], COLUMNS):
            k, v = k_rows.load([start, 0]), v_rows.load([start, 0])
            mask = None
            if stage != 1:
                columns = start + tl.arange(0, COLUMNS)[None, :]
                mask = seen(rows[:, None] + keys - queries, columns, keys, window, CAUSAL)
            _, grad_scores = gradients_of(
                q, k, grad, v, lse, average, scale, softcap, mask, PRECISION
            )
            grad_q = tl.dot(grad_scores.to(k.dtype), k, grad_q, input_precision=PRECISION)
    grad_q = (scale * grad_q).to(q.dtype)
    rows_of(GRAD_Q, head, queries, WIDTH, ROWS, PADDED).store([row, 0], grad_q)


@tuned("ROWS", held="COLUMNS")
@triton.jit
def backward_keys(
    Q, K, V, GRAD, LSE, AVERAGE, GRAD_K, GRAD_V, queries, keys, group, scale, softcap, window,
    CAUSAL: tl.constexpr, PRECISION: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a block of keys and their values, from all heads that share them."""
    blocks = tl.cdiv(keys, COLUMNS)
    head = tl.program_id(0) // blocks
    start = tl.program_id(0) % blocks * COLUMNS
    columns = start + tl.arange(0, COLUMNS)[:, None]
    k = rows_of(K, head, keys, WIDTH, COLUMNS, PADDED).load([start, 0])
    v = rows_of(V, head, keys, WIDTH, COLUMNS, PADDED).load([start, 0])
    grad_k = tl.zeros([COLUMNS, PADDED], tl.float32)
    grad_v = tl.zeros([COLUMNS, PADDED], tl.float32)
    stages = along_queries(start + queries - keys, queries, window, CAUSAL, ROWS, COLUMNS)
    for of in range(head * group, head * group + group):
        q_rows = rows_of(Q, of, queries, WIDTH, ROWS, PADDED)
        grad_rows = rows_of(GRAD, of, queries, WIDTH, ROWS, PADDED)
        for stage in tl.static_range(3):
            for row in tl.range(stages[stage], stages[stage + 1], ROWS):
                rows = row + tl.arange(0, ROWS)
                q, grad = q_rows.load([row, 0]), grad_rows.load([row, 0])
                lse = number_of(LSE, of, rows, queries, float("inf"))[None, :]
                average = number_of(AVERAGE, of, rows, queries, 0.0)[None, :]
                mask = None
                if stage != 1:
                    mask = seen(rows[None, :] + keys - queries, columns, keys, window, CAUSAL)
                weights, grad_scores = gradients_of(
                    k, q, v, grad, lse, average, scale, softcap, mask, PRECISION
                )
                grad_v = tl.dot(weights.to(q.dtype), grad, grad_v, input_precision=PRECISION)
                grad_k = tl.dot(grad_scores.to(q.dtype), q, grad_k, input_precision=PRECISION)
    grad_k = (scale * grad_k).to(k.dtype)
    rows_of(GRAD_K, head, keys, WIDTH, COLUMNS, PADDED).store([start, 0], grad_k)
    rows_of(GRAD_V, head, keys, WIDTH, COLUMNS, PADDED).store([start, 0], grad_v.to(k.dtype))
