"""Exercises on tiles."""

import dataclasses
import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, drawn
from attn_course.exercises.exercise import Case, Exercise, Lines, Orders, Slip, predictions
from attn_course.reference.dot_product import attention
from attn_course.reference.tiled import merge_attention, tiled_attention

PAGE = "algorithm/tiled"
LARGE = 2048  # tokens: all scores in float32 take 16 MiB


@dataclasses.dataclass(frozen=True)
class Causal:
    """A causal mask as a function of positions, which shows its sizes in a report."""

    queries: int
    keys: int

    def __call__(self, b, h, i, j):
        return j <= i + self.keys - self.queries


def seen(slips, mask, queries, keys):
    """Return a mask, or a function of positions, as an array of the last two axes."""
    if not callable(mask):
        return mask
    i, j = np.arange(queries)[:, None], np.arange(keys)
    return np.broadcast_to(mask(0, 0, i, j), (queries, keys))


def tiled(slips, q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):
    """Attend to a block of keys at a time."""
    if not slips:
        options = dict(bias=bias, scale=scale, softcap=softcap, block=block)
        return tiled_attention(q, k, v, mask, **options)
    queries, keys = q.shape[-2], k.shape[-2]
    if "all scores at once" in slips:
        whole = seen(slips, mask, queries, keys)
        return attention(q, k, v, whole, bias=bias, scale=scale, softcap=softcap)
    usual = 1.0 if "unscaled" in slips else 1 / math.sqrt(q.shape[-1])
    scale = usual if scale is None or "scale ignored" in slips else scale
    bias = 0.0 if "bias ignored" in slips else bias
    softcap = None if "softcap ignored" in slips else softcap
    batch = q.shape[:-2]
    shape = (*batch, queries, keys)
    bias = np.broadcast_to(np.asarray(bias, dtype=q.dtype), shape)
    if "positions within the block" not in slips:
        mask = np.broadcast_to(seen(slips, mask, queries, keys), shape)
    elif not callable(mask):
        mask = np.broadcast_to(mask, shape)
    end = keys // block * block if "the last block lost" in slips and keys > block else keys
    top = np.full((*batch, queries, 1), -np.inf, dtype=q.dtype)
    total = np.zeros_like(top)
    output = np.zeros((*batch, queries, v.shape[-1]), dtype=q.dtype)
    parts = 0
    for start in range(0, end, block):
        some = slice(start, min(start + block, end))
        scores = scale * (q @ k[..., some, :].swapaxes(-1, -2))
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        allowed = (
            mask(0, 0, np.arange(queries)[:, None], np.arange(some.stop - some.start))
            if callable(mask)
            else mask[..., some]
        )
        scores = np.where(allowed, scores + bias[..., some], -np.inf)
        largest = scores.max(axis=-1, keepdims=True)
        new = largest if "only the block's maximum" in slips else np.maximum(top, largest)
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
            parts += 1
            total = total + 1
            continue
        keep = np.ones_like(factor)
        rescaled = keep if "denominator not rescaled" in slips else factor
        total = rescaled * total + exponentials.sum(axis=-1, keepdims=True)
        rescaled = keep if "output not rescaled" in slips else factor
        if "rescaled the wrong way" in slips and start:
            rescaled = np.where(factor == 0, 0, 1 / np.where(factor == 0, 1, factor))
        output = rescaled * output + exponentials @ v[..., some, :]
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
        Case("large scores", tuple(40 * x for x in low), {"block": 2}),
        Case("a batch of 2 with 3 heads", drawn(rng, 4, 5, 3, 2, 2, 3), {"block": 2}),
        Case("float32", drawn(rng, 3, 8, 5, 2, dtype=np.float32), {"block": 3}),
        Case(
            f"{LARGE} tokens",
            drawn(rng, LARGE, LARGE, 8, 8, dtype=np.float32),
            bound=8 * 2**20,
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


SHARED = ("unscaled", "scale ignored", "bias ignored", "softcap ignored")

TILED = Exercise(
    name="tiled_attention",
    topic="tiled",
    title="Attention in tiles",
    kind="implement",
    difficulty=3,
    minutes=45,
    prompt=(
        "Return what `attention` returns, with the scores of `block` keys at a time: keep for each "
        "query a running maximum, a running sum and a running output, and correct the last two "
        "whenever the maximum grows. `mask` is a boolean array that broadcasts to (..., queries, "
        "keys), or a function of index arrays (b, h, i, j) of batch, head, query and key that "
        "returns one; give it 0 for b and h. The last block may be shorter. A query that may look "
        "nowhere gets zeros.\n\n"
        f"With {LARGE} tokens the answer may take 8 MiB, so take a block of queries at a time as "
        "well."
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
        "`factor = np.exp(old - new)` corrects both the sum and the output. Begin with a maximum "
        "of -inf, and take care that -inf - -inf does not come up.",
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
            "only the block's maximum",
            "The maximum of each block replaces the running one, also where it is smaller. Then "
            "old sums are enlarged, and large scores can overflow.",
            PAGE,
        ),
        Slip(
            "averages of blocks averaged",
            "Each block is normalized by itself and the averages are averaged. Blocks differ in "
            "how much weight they hold.",
            PAGE,
        ),
        Slip(
            "averages of blocks added",
            "Each block is normalized by itself and the averages are added.",
            PAGE,
        ),
        Slip("the last block lost", "Keys that do not fill a whole block are lost.", PAGE),
        Slip(
            "a block that is hidden",
            "A block in which a query may look nowhere gives -inf - -inf, which is NaN, and spoils "
            "what comes after it.",
            PAGE,
        ),
        Slip(
            "a query that sees nothing",
            "A query that may look nowhere gives 0 / 0. It gets zeros.",
            "algorithm/masks",
        ),
        Slip(
            "no maximum", "No maximum is subtracted, so large scores overflow.", "concepts/softmax"
        ),
        Slip(
            "rescaled the wrong way",
            "The factor is turned around: exp(new - old) in place of exp(old - new).",
            PAGE,
        ),
        Slip("not divided at the end", "The output is not divided by the sum at the end.", PAGE),
        Slip(
            "positions within the block",
            "The mask is asked with positions that begin anew in every block. Key j of a block "
            "stands at its start + j.",
            PAGE,
        ),
        *(slip for slip in WEIGHTS if slip.name in SHARED),
    ),
    cases=tiled_cases,
    right=(tiled_by_merging, tiled_by_rows),
    costly=Slip(
        "all scores at once",
        "All scores are formed before the first is used. Take a block of queries and a block of "
        "keys at a time.",
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
        "The logarithm of $\\sum_j e^{s_j}$ over an array of scores is wanted, and only `block` "
        "scores fit into memory at a time. The largest is not known in advance. Seven of the "
        "lines, in order, compute it; the others belong nowhere."
    ),
    hints=(
        "What is known at the start, before any block?",
        "In the loop: the new maximum, the sum corrected and enlarged, the new maximum kept.",
        "The sum so far was made with the old maximum: multiply it by exp(top - new).",
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
            "The sum so far is not corrected when the maximum grows.",
            PAGE,
        ),
        Slip(
            "only the block's maximum",
            "The maximum of the block replaces the running one. With a first block of large scores "
            "and a second one of small ones the correction overflows.",
            PAGE,
        ),
        Slip(
            "the maximum forgotten at the end",
            "The maximum was subtracted from all scores and is not added at the end.",
            PAGE,
        ),
        Slip(
            "the maximum never kept",
            "The new maximum is not kept, so everything before the last block is multiplied by 0.",
            PAGE,
        ),
        Slip("rescaled the wrong way", "The factor is exp(top - new), not exp(new - top).", PAGE),
        Slip(
            "not rescaled, by the block's maximum",
            "The sum so far is not corrected, and the maximum is that of the block alone.",
            PAGE,
        ),
        Slip(
            "not rescaled, the maximum forgotten",
            "The sum so far is not corrected, and the maximum is not added at the end.",
            PAGE,
        ),
        Slip(
            "the maximum neither kept nor added",
            "The new maximum is not kept, so only the last block counts, and it is not added at "
            "the end.",
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
    a, b = lse_a, lse_b
    if "logarithms as weights" in slips:
        share = a / (a + b)
    elif "exchanged" in slips:
        share = 1 / (1 + np.exp(a - b))
    elif "half of each" in slips:
        share = np.full_like(a, 0.5)
    elif "the larger alone" in slips:
        share = (a >= b).astype(a.dtype)
    elif "powers of two" in slips:
        share = 1 / (1 + np.exp2(b - a))
    elif "overflow" in slips:
        share = np.exp(a) / (np.exp(a) + np.exp(b))
    else:
        share = np.where(a == -np.inf, 0.0, 1 / (1 + np.exp(np.minimum(b - a, 700))))
        share = np.where((b == -np.inf) & (a > -np.inf), 1.0, share)
    top = np.maximum(a, b)
    lse = np.where(top == -np.inf, -np.inf, top + np.log1p(np.exp(-np.abs(a - b))))
    if "logarithms added" in slips:
        lse = a + b
    if "the larger logarithm kept" in slips:
        lse = top
    if "mean of the logarithms" in slips:
        lse = (a + b) / 2
    share = share[..., None]
    both = share * output_a + (1 - share) * output_b
    if "not weighted" in slips:
        both = output_a + output_b
    return both.astype(output_a.dtype), lse.astype(lse_a.dtype)


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
        "Two machines hold half of the keys each. Each returns its attention to its own keys, "
        "`output`, (n, e), and for each query the logarithm of the sum of the exponentials of its "
        "scores, `lse`, (n,). Return the attention to all keys and the logarithm of the sum over "
        "all. The logarithms can be in the hundreds, either way; a machine in which a query sees "
        "nothing returns -inf for it, but never both do."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def merge_two(output_a, lse_a, output_b, lse_b):\n"
        "    ...\n"
        "    # return output, lse\n"
    ),
    hints=(
        "If machine a saw scores whose exponentials sum to 3 and b to 1, what are their shares?",
        "The shares are softmax(lse_a, lse_b). How is that computed without overflow?",
        "`lse = np.logaddexp(lse_a, lse_b)`, and the shares `np.exp(lse_a - lse)` and "
        "`np.exp(lse_b - lse)`.",
    ),
    solve=merged,
    slips=(
        Slip(
            "half of each",
            "The outputs are averaged alike. The machine that saw larger scores counts more.",
            PAGE,
        ),
        Slip(
            "not weighted",
            "The outputs are added. Each is an average already, so their shares must sum to 1.",
            PAGE,
        ),
        Slip(
            "overflow",
            "The exponentials of the logarithms overflow. Subtract the larger one first.",
            "concepts/softmax",
        ),
        Slip(
            "logarithms as weights",
            "The logarithms are used as weights. Their exponentials are.",
            PAGE,
        ),
        Slip("exchanged", "The shares are exchanged: a has that of b.", PAGE),
        Slip("logarithms added", "The logarithms are added, so the sums are multiplied.", PAGE),
        Slip("the larger logarithm kept", "The new logarithm is the larger of the two.", PAGE),
        Slip("mean of the logarithms", "The new logarithm is the mean of the two.", PAGE),
        Slip("the larger alone", "The machine with the larger sum answers alone.", PAGE),
        Slip("powers of two", "The base is 2 where it should be e.", PAGE),
    ),
    cases=merge_cases,
    right=(merged_by_logaddexp, merged_by_package),
    parts=("output", "lse"),
)


TOKENS, BLOCK = 4096, 512
BLOCKS = TOKENS // BLOCK

COUNT = Exercise(
    name="tiles_read",
    topic="tiled",
    title="Tiles that are skipped",
    kind="predict",
    difficulty=1,
    minutes=4,
    prompt=(
        f"{TOKENS} tokens attend to themselves under a causal mask, in tiles of {BLOCK} queries by "
        f"{BLOCK} keys. How many tiles can be skipped, because no query in them may look at any of "
        "their keys? Give an integer."
    ),
    hints=(
        f"There are {BLOCKS} blocks of queries and as many of keys.",
        "Which tiles lie above the diagonal?",
        "Of 64 tiles 8 lie on the diagonal, and half of the others above it.",
    ),
    solve=predictions(
        BLOCKS * (BLOCKS - 1) // 2,
        {
            "the tiles that are read": BLOCKS * (BLOCKS + 1) // 2,
            "half of all": BLOCKS**2 // 2,
            "all of them": BLOCKS**2,
            "all but the diagonal": BLOCKS**2 - BLOCKS,
            "the diagonal": BLOCKS,
            "pairs of tokens": TOKENS * (TOKENS - 1) // 2,
            "one block short": (BLOCKS - 1) * (BLOCKS - 2) // 2,
            "blocks counted from one less": (BLOCKS - 1) ** 2,
        },
    ),
    slips=(
        Slip("the tiles that are read", "These are the tiles that must be read.", PAGE),
        Slip("half of all", "The tiles on the diagonal must be read too.", PAGE),
        Slip("all of them", "This is how many tiles there are.", PAGE),
        Slip("all but the diagonal", "Tiles below the diagonal hold the past.", PAGE),
        Slip("the diagonal", "These are the tiles that are read in part.", PAGE),
        Slip("pairs of tokens", "This counts pairs of tokens, not tiles.", PAGE),
        Slip("one block short", f"There are {BLOCKS} blocks, one more than was counted.", PAGE),
        Slip(
            "blocks counted from one less",
            "Above the diagonal the rows hold 7, 6, ... tiles, down to none.",
            PAGE,
        ),
    ),
    right=(float(sum(range(BLOCKS))), np.array((BLOCKS**2 - BLOCKS) / 2)),
)

EXERCISES = (COUNT, ONLINE_SUM, TILED, MERGE)
