"""Exercises on tiles."""

import dataclasses
import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, drawn
from attn_course.exercises.exercise import Case, Exercise, Lines, Orders, Slip, predictions
from attn_course.exercises.gradients import ZERO_SCALE
from attn_course.reference.dot_product import attention
from attn_course.reference.tiled import merge_attention, tiled_attention

PAGE = "algorithm/tiled"
LARGE, TILE = 2048, 256  # tokens: all scores in float32 take 16 MiB
MOST = 6  # MiB: twelve tiles of scores in float64


@dataclasses.dataclass(frozen=True)
class Causal:
    """A causal mask as a function of positions, which shows its sizes in a report."""

    queries: int
    keys: int

    def __call__(self, b, h, i, j):
        return j <= i + self.keys - self.queries


def seen(slips, mask, queries, keys):
    """Return a mask, or a function of positions, as an array of the last two axes."""
    if callable(mask):
        i, j = np.arange(queries)[:, None], np.arange(keys)
        mask = np.broadcast_to(mask(0, 0, i, j), (queries, keys))
    return np.logical_not(mask) if "mask turned around" in slips else mask


def tiled(slips, q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Attend to a block of keys at a time."""
    if not slips:
        options = dict(bias=bias, scale=scale, softcap=softcap, block=block)
        return tiled_attention(q, k, v, mask, **options)
    queries, keys = q.shape[-2], k.shape[-2]
    if "too many scores at once" in slips:
        whole = seen(slips, mask, queries, keys)
        return attention(q, k, v, whole, bias=bias, scale=scale, softcap=softcap)
    usual = 1.0 if "unscaled" in slips else 1 / math.sqrt(q.shape[-1])
    if ZERO_SCALE.name in slips:
        scale = scale or None
    scale = usual if scale is None or "scale ignored" in slips else scale
    bias = 0.0 if "bias ignored" in slips else bias
    softcap = None if "softcap ignored" in slips else softcap
    batch = q.shape[:-2]
    shape = (*batch, queries, keys)
    if "bias cut as it is" not in slips or np.ndim(bias) == 0:
        bias = np.broadcast_to(np.asarray(bias, dtype=q.dtype), shape)
    within = callable(mask) and "positions within the block" in slips
    if not within:
        mask = seen(slips, mask, queries, keys)
        if "mask cut as it is" not in slips or np.ndim(mask) == 0:
            mask = np.broadcast_to(mask, shape)
    end = keys // block * block if "the last block lost" in slips else keys
    hidden = -1e9 if "a large negative number" in slips else -np.inf
    first = 0.0 if "the maximum begins at 0" in slips else -np.inf
    top = np.full((*batch, queries, 1), first, dtype=q.dtype)
    total = np.zeros_like(top)
    output = np.zeros((*batch, queries, v.shape[-1]), dtype=q.dtype)
    for start in range(0, end, block):
        some = slice(start, min(start + block, end))
        scores = scale * (q @ k[..., some, :].swapaxes(-1, -2))
        if "softcap last" in slips:
            scores = scores + bias[..., :, some]
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        if "softcap last" not in slips:
            scores = scores + bias[..., :, some]
        allowed = seen(slips, mask, queries, some.stop - start) if within else mask[..., :, some]
        if "a large negative number added" in slips:
            scores = np.where(allowed, scores, scores - 1e9)
        else:
            scores = np.where(allowed, scores, hidden)
        largest = scores.max(axis=-1, keepdims=True)
        own_maximum = slips & {"only the block's maximum", "blocks under their own maxima added"}
        new = largest if own_maximum else np.maximum(top, largest)
        if "no maximum" in slips:
            new = np.zeros_like(top)
        if "a block that is hidden" in slips or "no maximum" in slips:
            safe = new
        else:
            safe = np.where(new == -np.inf, 0, new)
        factor = np.exp(top - safe) if start else np.zeros_like(top)
        exponentials = np.exp(scores - safe)
        if "averages of blocks averaged" in slips or "averages of blocks added" in slips:
            own = exponentials.sum(axis=-1, keepdims=True)
            output = output + exponentials @ v[..., some, :] / np.where(own == 0, 1, own)
            total = total + 1
            continue
        if "rescaled the wrong way" in slips:
            factor = np.where(top == -np.inf, 0, np.exp(safe - top))
        if not slips & {"denominator not rescaled", "blocks under their own maxima added"}:
            total = factor * total
        if not slips & {"output not rescaled", "blocks under their own maxima added"}:
            output = factor * output
        total = total + exponentials.sum(axis=-1, keepdims=True)
        output = output + exponentials @ v[..., some, :]
        top = new
    if "averages of blocks added" in slips:
        return output
    if "not divided at the end" in slips:
        return output
    if "a query that sees nothing" in slips:
        return output / total
    return output / np.where(total == 0, 1, total)


def tiled_cases(rng):
    """Draw situations, with blocks that do and do not fit."""
    q, k, v = drawn(rng, 5, 7, 4, 2)
    some = rng.random((5, 7)) < 0.5
    some[0], some[:, 6] = False, False
    some[1:, 0] = True
    first = np.ones((3, 6), dtype=bool)
    first[:, :3] = False
    low = drawn(rng, 2, 4, 3, 2)
    return [
        Case("one query, three keys, blocks of 2", drawn(rng, 1, 3, 2, 1), {"block": 2}),
        Case("two queries, four keys, blocks of 2", drawn(rng, 2, 4, 3, 2), {"block": 2}),
        Case("as many of all, blocks of 2", drawn(rng, 4, 4, 4, 4), {"block": 2}),
        Case("one block", (q, k, v), {"block": 16}),
        Case("blocks of 1", (q, k, v), {"block": 1}),
        Case("a mask with an empty row", (q, k, v, some), {"block": 3}),
        Case("a first block that is hidden", (*drawn(rng, 3, 6, 4, 2), first), {"block": 3}),
        Case(
            "a mask as a function of positions",
            (*drawn(rng, 4, 6, 3, 2), Causal(4, 6)),
            {"block": 2},
        ),
        Case("a bias", (q, k, v), {"bias": rng.standard_normal((5, 7)), "block": 3}),
        Case("a scale and a softcap", (q, k, v), {"scale": 1.5, "softcap": 1.0, "block": 3}),
        Case("a scale of 0", (q, k, v), {"scale": 0.0, "block": 3}),
        Case("a mask for all queries alike", (q, k, v, some[1:2]), {"block": 3}),
        Case("a bias for all queries alike", (q, k, v), {"bias": k[:, 0], "block": 3}),
        Case("a mask for all keys alike", (q, k, v, some[:, 1:2]), {"block": 3}),
        Case(
            "mask, bias, scale and softcap at once",
            (q, k, v, some),
            {"bias": rng.standard_normal((5, 7)), "scale": 0.8, "softcap": 1.5, "block": 3},
        ),
        Case("large scores", tuple(40 * x for x in low), {"block": 2}),
        Case("all scores far below 0", (q - 60, k + 60, v), {"block": 3}),
        Case("a batch of 2 with 3 heads", drawn(rng, 4, 5, 3, 2, 2, 3), {"block": 2}),
        Case("float32", drawn(rng, 3, 8, 5, 2, dtype=np.float32), {"block": 3}),
        Case(
            f"{LARGE} tokens",
            drawn(rng, LARGE, LARGE, 8, 8, dtype=np.float32),
            {"block": TILE},
            bound=MOST * 2**20,
        ),
    ]


def tiled_by_merging(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """A block of queries at a time, its parts joined by the logarithms of their sums."""
    queries, keys = q.shape[-2], k.shape[-2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = np.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)

    def cut(x, rows, columns, offset_i, offset_j):
        if callable(x):
            return x(
                0, 0, np.arange(rows.start, offset_i)[:, None], np.arange(columns.start, offset_j)
            )
        if np.ndim(x) == 0:
            return x
        return np.broadcast_to(x, (*q.shape[:-1], keys))[..., rows, columns]

    for a in range(0, queries, 256):
        rows = slice(a, min(a + 256, queries))
        outputs, lses = [], []
        for b in range(0, keys, block):
            columns = slice(b, min(b + block, keys))
            scores = scale * np.einsum("...id,...jd->...ij", q[..., rows, :], k[..., columns, :])
            if softcap is not None:
                scores = softcap * np.tanh(scores / softcap)
            scores = scores + cut(bias, rows, columns, rows.stop, columns.stop)
            allowed = cut(mask, rows, columns, rows.stop, columns.stop)
            scores = np.where(allowed, scores, -np.inf).astype(q.dtype)
            top = scores.max(axis=-1, keepdims=True)
            exponentials = np.exp(scores - np.where(top == -np.inf, 0, top))
            total = exponentials.sum(axis=-1, keepdims=True)
            outputs.append(exponentials @ v[..., columns, :] / np.where(total == 0, 1, total))
            lses.append((top + np.log(np.where(total == 0, 1, total)))[..., 0])
        joined, _ = merge_attention(np.stack(outputs), np.stack(lses))
        out[..., rows, :] = joined
    return out


def tiled_by_rows(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """A few queries at a time with all of their keys, which needs no rescaling."""
    queries, keys = q.shape[-2], k.shape[-2]
    out = np.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)
    for start in range(0, queries, 64):
        rows = slice(start, min(start + 64, queries))
        allowed = mask
        if callable(mask):
            allowed = mask(0, 0, np.arange(rows.start, rows.stop)[:, None], np.arange(keys))
        elif np.ndim(mask):
            allowed = np.broadcast_to(mask, (*q.shape[:-1], keys))[..., rows, :]
        added = bias
        if np.ndim(bias):
            added = np.broadcast_to(bias, (*q.shape[:-1], keys))[..., rows, :]
        options = dict(bias=added, scale=scale, softcap=softcap)
        out[..., rows, :] = attention(q[..., rows, :], k, v, allowed, **options)
    return out


SHARED = (
    "unscaled",
    "mask turned around",
    "a large negative number",
    "a large negative number added",
    "scale ignored",
    "bias ignored",
    "softcap ignored",
    "softcap last",
)

TILED = Exercise(
    name="tiled_attention",
    topic="tiled",
    title="Attention in tiles",
    kind="implement",
    difficulty=3,
    minutes=45,
    prompt=(
        "Return what `attention` returns, (..., queries, e), with the scores of `block` keys at a "
        "time: keep for each query a running maximum, a running sum and a running output, and "
        "correct the last two whenever the maximum grows. `q` is (..., queries, d), `k` is (..., "
        "keys, d), `v` is (..., keys, e). The last block may be shorter. `mask` is True, or a "
        "boolean array that broadcasts to (..., queries, keys), or a function of index arrays (b, "
        "h, i, j) of batch, head, query and key that returns one; where it is a function, `q` has "
        "two axes, so give it 0 for b and h. `bias` is a number, or an array that broadcasts as "
        "the mask does. `scale` and `softcap` are those of `attention`: None stands for "
        "$1/\\sqrt d$ and for no softcap. A query that may look nowhere gets zeros.\n\n"
        f"With {LARGE} tokens and blocks of {TILE} the answer may take {MOST} MiB beyond its "
        "arguments, so take a block of queries at a time as well."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def tiled_attention(\n"
        "    q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512\n"
        "):\n"
        "    ...\n"
    ),
    hints=(
        "Two blocks by hand: the sum so far was made with the old maximum. By what must it be "
        "multiplied when the maximum grows?",
        "`factor = np.exp(top - new)`, with the old maximum `top`, corrects both the sum and the "
        "output. Begin with a maximum of -inf, and take care that -inf - -inf does not come up.",
        "For each block: `new = np.maximum(top, scores.max(...))`; `total = factor * total + "
        "exponentials.sum(...)`; `output = factor * output + exponentials @ v_block`. At the end "
        "divide by the total, or by 1 where it is 0.",
    ),
    solve=tiled,
    slips=(
        Slip(
            "denominator not rescaled",
            "The running sum is not corrected when the maximum grows. It must be rescaled by "
            "exp(old maximum - new maximum).",
            PAGE,
        ),
        Slip(
            "output not rescaled",
            "The running output is not corrected when the maximum grows. It must be rescaled by "
            "exp(old maximum - new maximum), as the sum is.",
            PAGE,
        ),
        Slip(
            "blocks under their own maxima added",
            "Each block is summed under its own maximum, and the sums are added as they are. Only "
            "sums under one maximum can be added: keep the largest so far, and rescale what was "
            "summed under a smaller one.",
            PAGE,
        ),
        Slip(
            "only the block's maximum",
            "The maximum of each block replaces the running one, also where it is smaller. Then "
            "old sums are enlarged, and large scores can overflow. Keep the larger of the two.",
            PAGE,
        ),
        Slip(
            "averages of blocks averaged",
            "Each block is normalized by itself and the averages are averaged. Blocks differ in "
            "how much weight they hold: one sum over all keys must divide, at the end.",
            PAGE,
        ),
        Slip(
            "averages of blocks added",
            "Each block is normalized by itself and the averages are added, so the weights of a "
            "query sum to the number of blocks. One sum over all keys must divide, at the end.",
            PAGE,
        ),
        Slip(
            "the last block lost",
            "Keys that do not fill a whole block are lost. The last block may be shorter, and "
            "counts too.",
            PAGE,
        ),
        Slip(
            "a block that is hidden",
            "A block in which a query may look nowhere gives -inf - -inf, which is NaN, and spoils "
            "what comes after it. As long as the maximum is -inf, subtract 0 instead.",
            PAGE,
        ),
        Slip(
            "mask cut as it is",
            "The mask is cut as if it had a column for every key. One with a single column "
            "broadcasts, and its slice is empty from the second block on. Broadcast it first.",
            PAGE,
        ),
        Slip(
            "bias cut as it is",
            "The bias is cut as if it had a row for every query. One with an axis of keys alone "
            "broadcasts as well. Broadcast it to (..., queries, keys) first.",
            PAGE,
        ),
        Slip(
            "a query that sees nothing",
            "A query that may look nowhere gives 0 / 0, which is NaN. Divide by 1 where the sum is "
            "0: such a query gets zeros.",
            "algorithm/masks",
        ),
        Slip(
            "no maximum",
            "No maximum is subtracted, so large scores overflow. Subtract the running one.",
            "concepts/softmax",
        ),
        Slip(
            "the maximum begins at 0",
            "The running maximum begins at 0. Where all scores of a query lie far below 0, their "
            "exponentials vanish. Begin with -inf.",
            PAGE,
        ),
        Slip(
            "rescaled the wrong way",
            "The factor is turned around: exp(new - old). What was summed under a smaller maximum "
            "is too large under the new one and must shrink: exp(old - new).",
            PAGE,
        ),
        Slip(
            "not divided at the end",
            "The output is not divided by the sum at the end. The weights must sum to 1.",
            PAGE,
        ),
        Slip(
            "positions within the block",
            "The mask is asked with positions that begin anew in every block. Key j of a block "
            "stands at its start + j.",
            PAGE,
        ),
        *(slip for slip in WEIGHTS if slip.name in SHARED),
        ZERO_SCALE,
    ),
    cases=tiled_cases,
    right=(tiled_by_merging, tiled_by_rows),
    costly=Slip(
        "too many scores at once",
        "The numbers are right, but too many scores are held at once: those of all queries, with "
        "all keys or with a block of them. Take a block of queries and a block of keys at a time.",
        PAGE,
    ),
)


ONLINE = Lines(
    "def online_sum(scores, block):",
    (
        "    new = max(top, some.max())",
        "return top + np.log(total)",
        "    total = total + np.exp(some - new).sum()",
        "for start in range(0, len(scores), block):",
        "    top = new",
        "top, total = -np.inf, 0.0",
        "    new = some.max()",
        "    total = total * np.exp(top - new) + np.exp(some - new).sum()",
        "return np.log(total)",
        "    total = total * np.exp(new - top) + np.exp(some - new).sum()",
        "    some = scores[start : start + block]",
    ),
)

ONLINE_SUM = Exercise(
    name="online_sum",
    topic="tiled",
    title="A sum in one pass",
    kind="order",
    difficulty=2,
    minutes=10,
    prompt=(
        "Compute the natural logarithm of $\\sum_j e^{s_j}$ over an array of scores, of which only "
        "`block` fit into memory at a time. The largest score is not known in advance. Scores may "
        "lie in the hundreds, above 0 and below, so no exponential may overflow. The last block "
        "may be shorter than the others. Put the lines in order. Seven of them compute it; four "
        "belong nowhere. The indented lines stand in the loop. Answer with letters."
    ),
    hints=(
        "What is known at the start, before any block?",
        "In the loop: take a block, find the new maximum, correct and enlarge the sum, keep the "
        "new maximum.",
        "The sum so far was made with the old maximum: multiply it by exp(top - new) while `top` "
        "is still the old one.",
    ),
    solve=Orders(
        ONLINE,
        "FDKAHEB",
        {
            "not rescaled": "FDKACEB",
            "only the block's maximum": "FDKGHEB",
            "the maximum forgotten at the end": "FDKAHEI",
            "the maximum never kept": "FDKAHB",
            "rescaled the wrong way": "FDKAJEB",
            "not rescaled, by the block's maximum": "FDKGCEB",
            "not rescaled, the maximum forgotten": "FDKACEI",
            "the maximum neither kept nor added": "FDKAHI",
        },
    ),
    slips=(
        Slip(
            "not rescaled",
            "The sum so far is not corrected when the maximum grows: the factor exp(top - new) is "
            "missing, or it is 1 because `top` was replaced before. The sum was made with the old "
            "maximum and must be multiplied while `top` still is the old one.",
            PAGE,
        ),
        Slip(
            "only the block's maximum",
            "The maximum of the block replaces the running one, also where it is smaller. After a "
            "block of large scores the correction can overflow. Keep the larger of the two.",
            PAGE,
        ),
        Slip(
            "the maximum forgotten at the end",
            "The maximum was subtracted from all scores, so it must be added to the logarithm at "
            "the end.",
            PAGE,
        ),
        Slip(
            "the maximum never kept",
            "The result is -inf: at the return `top` is still -inf, or `total` is still 0. The "
            "loop must change both, and end before the return.",
            PAGE,
        ),
        Slip(
            "rescaled the wrong way",
            "The factor is turned around: exp(new - top), which is infinite at the first block. It "
            "must be exp(top - new), which is 0 there.",
            PAGE,
        ),
        Slip(
            "not rescaled, by the block's maximum",
            "The maximum is that of the block alone, and the sum so far is not corrected when it "
            "changes: the factor exp(top - new) is missing, or it is 1 because `top` was replaced "
            "before. Keep the larger maximum, and multiply the sum before.",
            PAGE,
        ),
        Slip(
            "not rescaled, the maximum forgotten",
            "The sum so far is not corrected when the maximum grows: the factor exp(top - new) is "
            "missing, or it is 1 because `top` was replaced before. And the maximum must be added "
            "at the end.",
            PAGE,
        ),
        Slip(
            "the maximum neither kept nor added",
            "No line keeps the new maximum in `top`, so only the last block counts. And the "
            "maximum must be added at the end.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case("one block", (rng.standard_normal(3), 5)),
        Case("two blocks, the second larger", (rng.standard_normal(4) + np.array([0, 0, 2, 2]), 2)),
        Case("two blocks, the first larger", (rng.standard_normal(4) + np.array([3, 3, 0, 0]), 2)),
        Case("a last block that is shorter", (rng.standard_normal(7), 3)),
        Case("far apart", (np.array([900.0, 901.0, -900.0, -901.0, 899.5]), 2)),
    ],
    right=("FDKAHEB", "f, d, k, a, h, e, b"),
    lines=ONLINE,
)


def merged(slips, output_a, lse_a, output_b, lse_b):
    """Join attention to two sets of keys."""
    lses = np.stack([lse_a, lse_b])
    power = np.exp2 if "powers of two" in slips else np.exp
    top = lses.max(axis=None if "one maximum for all queries" in slips else 0)
    if "overflow" in slips:
        top = 0.0
    weights = power(lses - top)
    lse = (np.log2 if "powers of two" in slips else np.log)(weights.sum(axis=0))
    if "the maximum not added back" not in slips:
        lse = top + lse
    if "logarithms as weights" in slips:
        weights = lses
    elif "half of each" in slips:
        weights = np.ones_like(lses)
    elif "the larger alone" in slips:
        weights = (lses == lses.max(axis=0)).astype(lses.dtype)
    shares = weights if "shares not divided" in slips else weights / weights.sum(axis=0)
    if "not weighted" in slips:
        shares = np.ones_like(lses)
    if "exchanged" in slips:
        shares = shares[::-1]
    if "logarithms added" in slips:
        lse = lses.sum(axis=0)
    elif "the larger logarithm kept" in slips:
        lse = lses.max(axis=0)
    elif "mean of the logarithms" in slips:
        lse = lses.mean(axis=0)
    if "shares along the columns" not in slips:
        shares = shares[..., None]
    return shares[0] * output_a + shares[1] * output_b, lse


def merge_cases(rng):
    """Draw outputs and logarithms of sums."""

    def parts(n, e, size=1.0, dtype=np.float64):
        shapes = ((n, e), (n,), (n, e), (n,))
        drawn = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        drawn[1], drawn[3] = size * drawn[1], size * drawn[3]
        return drawn

    empty = parts(4, 2)
    empty[1][0] = empty[3][1] = -np.inf
    return [
        Case("one query", tuple(parts(1, 2))),
        Case("three queries", tuple(parts(3, 4))),
        Case("as many queries as entries", tuple(parts(3, 3))),
        Case("parts that see nothing", tuple(empty)),
        Case("large scores", tuple(parts(3, 2, size=900.0))),
        Case("float32", tuple(parts(4, 3, dtype=np.float32))),
    ]


def merged_by_logaddexp(output_a, lse_a, output_b, lse_b):
    """With NumPy's own sum."""
    lse = np.logaddexp(lse_a, lse_b)
    safe = np.where(lse == -np.inf, 0, lse)
    weights = (np.exp(lse_a - safe)[:, None], np.exp(lse_b - safe)[:, None])
    return weights[0] * output_a + weights[1] * output_b, lse


def merged_by_package(output_a, lse_a, output_b, lse_b):
    """With the package's own."""
    return merge_attention(np.stack([output_a, output_b]), np.stack([lse_a, lse_b]))


MERGE = Exercise(
    name="merge_two",
    topic="tiled",
    title="Two halves of the keys",
    kind="extend",
    difficulty=2,
    minutes=15,
    prompt=(
        "Two machines, a and b, hold half of the keys each. For n queries each machine returns its "
        "attention to its own keys, `output`, (n, e), and for each query the natural logarithm of "
        "the sum of the exponentials of its scores, `lse`, (n,). Return the same two for all keys "
        "together: the attention, (n, e), and the logarithms, (n,). The logarithms may lie in the "
        "hundreds, above 0 and below. Where a query may look at no key of a machine, the machine "
        "returns a row of zeros and -inf; this never happens at both machines for one query."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def merge_two(output_a, lse_a, output_b, lse_b):\n"
        "    ...\n"
        "    # return output, lse\n"
    ),
    hints=(
        "If the exponentials of the scores sum to 3 at machine a and to 1 at machine b, what share "
        "of the result has each?",
        "For each query the two shares are the softmax of `lse_a` and `lse_b`. How is that "
        "computed without overflow?",
        "`lse = np.logaddexp(lse_a, lse_b)`, and the shares are `np.exp(lse_a - lse)[:, None]` and "
        "`np.exp(lse_b - lse)[:, None]`.",
    ),
    solve=merged,
    slips=(
        Slip(
            "half of each",
            "The two outputs count alike. The machine with the larger sum of exponentials must "
            "count more, in proportion to its sum.",
            PAGE,
        ),
        Slip(
            "not weighted",
            "The outputs are added. Each is an average already, so their shares must sum to 1.",
            PAGE,
        ),
        Slip(
            "overflow",
            "The exponentials of the logarithms overflow. Subtract the larger logarithm of each "
            "query first.",
            "concepts/softmax",
        ),
        Slip(
            "the maximum not added back",
            "The larger logarithm was subtracted before the exponentials, so it must be added to "
            "the new logarithm at the end.",
            PAGE,
        ),
        Slip(
            "shares along the columns",
            "The shares meet the columns of the outputs, as an array (n,) does. Each row must be "
            "multiplied by its own share: give the shares a second axis.",
            "appendix/notation",
        ),
        Slip(
            "one maximum for all queries",
            "One maximum is subtracted for all queries. For a query whose logarithms lie far below "
            "it both exponentials become 0. Subtract the larger logarithm of each query.",
            "concepts/softmax",
        ),
        Slip(
            "shares not divided",
            "The shares are exp(lse - maximum), which do not sum to 1. They must be divided by "
            "their sum.",
            PAGE,
        ),
        Slip(
            "logarithms as weights",
            "The logarithms are used as weights. The weights must be the sums themselves, the "
            "exponentials of the logarithms.",
            PAGE,
        ),
        Slip(
            "exchanged",
            "The shares are exchanged: each output is multiplied by the share of the other.",
            PAGE,
        ),
        Slip(
            "logarithms added",
            "The logarithms are added, which multiplies the sums. The result must be the logarithm "
            "of the two sums added.",
            PAGE,
        ),
        Slip(
            "the larger logarithm kept",
            "The new logarithm is the larger of the two. The smaller sum counts as well, so the "
            "new logarithm must be larger than both.",
            PAGE,
        ),
        Slip(
            "mean of the logarithms",
            "The new logarithm is the mean of the two. The sum over all keys is larger than either "
            "sum, so its logarithm must be larger than both.",
            PAGE,
        ),
        Slip(
            "the larger alone",
            "The output is that of the machine with the larger sum. The other has a share as well.",
            PAGE,
        ),
        Slip(
            "powers of two",
            "The sums are computed as powers of 2. The logarithms are natural, so the sums are "
            "powers of e.",
            PAGE,
        ),
    ),
    cases=merge_cases,
    right=(merged_by_logaddexp, merged_by_package),
    parts=("output", "lse"),
)


TOKENS, BLOCK = 4096, 256
BLOCKS = TOKENS // BLOCK

COUNT = Exercise(
    name="tiles_read",
    topic="tiled",
    title="Tiles that are read",
    kind="predict",
    difficulty=1,
    minutes=4,
    prompt=(
        f"{TOKENS} tokens attend to themselves under a causal mask: each may look at itself and at "
        f"those before it. The scores are computed in tiles of {BLOCK} queries by {BLOCK} keys, "
        "which begin at multiples of this number, counted from 0. A tile is skipped if none of its "
        "queries may look at any of its keys; the others are read. How many tiles are read? Give "
        "an integer; an expression will do."
    ),
    hints=(
        "How many blocks of queries are there, and of keys?",
        "Which tiles hold at least one pair that is allowed?",
        f"Of {BLOCKS**2} tiles {BLOCKS} lie on the diagonal, and half of the others below it.",
    ),
    solve=predictions(
        BLOCKS * (BLOCKS + 1) // 2,
        {
            "without the diagonal": BLOCKS * (BLOCKS - 1) // 2,
            "half of all": BLOCKS**2 // 2,
            "all of them": BLOCKS**2,
            "half of all and the diagonal": BLOCKS**2 // 2 + BLOCKS,
            "all but the diagonal": BLOCKS**2 - BLOCKS,
            "the diagonal": BLOCKS,
            "pairs of tokens": TOKENS * (TOKENS + 1) // 2,
            "one block too many": (BLOCKS + 1) * (BLOCKS + 2) // 2,
        },
    ),
    slips=(
        Slip(
            "without the diagonal",
            "That many tiles lie above the diagonal, and as many below it. Those above it are "
            "skipped; those below it are read, and so are those on it.",
            PAGE,
        ),
        Slip(
            "half of all",
            "Half of all tiles were counted. Every tile on the diagonal holds pairs that are "
            "allowed, so it is read as a whole.",
            PAGE,
        ),
        Slip(
            "all of them",
            "This is how many tiles there are. Those that hold only the future are skipped.",
            PAGE,
        ),
        Slip(
            "half of all and the diagonal",
            "The tiles on the diagonal were added to half of all tiles. Half of all already has "
            "half of the diagonal: halve the others alone.",
            PAGE,
        ),
        Slip(
            "all but the diagonal",
            "The tiles on both sides of the diagonal were counted. Those above it are skipped, and "
            "those on it are read.",
            PAGE,
        ),
        Slip(
            "the diagonal",
            "These are the tiles on the diagonal alone. Those below it hold the past and are read "
            "too.",
            PAGE,
        ),
        Slip(
            "pairs of tokens",
            "This is how many pairs of tokens are allowed. The question is how many tiles hold at "
            "least one of them.",
            PAGE,
        ),
        Slip(
            "one block too many",
            f"One block too many was counted: {TOKENS} tokens make {BLOCKS} blocks.",
            PAGE,
        ),
    ),
    right=(float(sum(range(1, BLOCKS + 1))), np.array((BLOCKS**2 + BLOCKS) / 2)),
)

EXERCISES = (COUNT, ONLINE_SUM, TILED, MERGE)
