"""Exercises on scaled dot-product attention."""

import math

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Slip
from attn_course.reference.softmax import softmax

PAGE = "algorithm/dot_product"


def scored(slips, q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Weigh the keys, with the slips that concern the weights."""
    d = q.shape[-1]
    if "features against features" in slips:
        scores = q.swapaxes(-1, -2) @ k
    elif "every axis transposed" in slips:
        scores = q @ k.T
    else:
        scores = q @ k.swapaxes(-1, -2)
    usual = 1 / math.sqrt(d)
    if "unscaled" in slips:
        usual = 1.0
    if "divided by the width" in slips:
        usual = 1 / d
    if "root of the number of keys" in slips:
        usual = 1 / math.sqrt(k.shape[-2])
    if scale is None or "scale ignored" in slips:
        factor = usual
    elif "scale on top of the root" in slips:
        factor = scale * usual
    else:
        factor = scale
    before = bias if "bias scaled too" in slips else 0.0
    after = 0.0 if slips & {"bias scaled too", "bias ignored"} else bias
    scores = (scores + before) * factor
    if "softcap last" in slips:
        scores, after = scores + after, 0.0
    if softcap is not None and "softcap ignored" not in slips:
        if "softcap cuts" in slips:
            scores = np.clip(scores, -softcap, softcap)
        else:
            scores = softcap * np.tanh(scores / softcap)
    scores = scores + np.asarray(after, dtype=q.dtype)
    if "mask ignored" in slips:
        mask = True
    if "mask turned around" in slips:
        mask = np.logical_not(mask)
    hidden = -1e9 if "a large negative number" in slips else -np.inf
    masked_late = "mask after softmax" in slips
    masked = scores if masked_late else np.where(mask, scores, hidden)
    axis = -2 if "softmax over the queries" in slips else -1
    if "overflow" in slips:
        exponentials = np.exp(masked)
        weights = exponentials / exponentials.sum(axis=axis, keepdims=True)
    elif "empty row" in slips:
        exponentials = np.exp(masked - masked.max(axis=axis, keepdims=True))
        weights = exponentials / exponentials.sum(axis=axis, keepdims=True)
    else:
        weights = softmax(masked, axis=axis)
    return np.where(mask, weights, 0) if masked_late else weights


def attended(slips, q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Average the values, with every slip."""
    weights = scored(slips, q, k, mask, bias=bias, scale=scale, softcap=softcap)
    if "weights transposed" in slips:
        weights = weights.swapaxes(-1, -2)
    if "keys averaged" in slips:
        return weights @ k
    if "heaviest value alone" in slips:
        return np.take_along_axis(v, weights.argmax(axis=-1)[..., None], axis=-2)
    return weights @ v


WEIGHTS = (
    Slip(
        "unscaled",
        "The scores are not divided by √d. They spread √d times as far, so softmax gives nearly "
        "everything to one key.",
        PAGE,
    ),
    Slip(
        "empty row",
        "A query whose keys are all masked gives NaN: its scores are all -inf, and so is their "
        "maximum. Such a query sees nothing and gets zeros.",
        "algorithm/masks",
    ),
    Slip(
        "mask after softmax",
        "The mask is applied after softmax, so the weights that are left no longer sum to 1. Put "
        "-inf into the scores first.",
        "algorithm/masks",
    ),
    Slip(
        "softmax over the queries",
        "Softmax runs over the queries: each column sums to 1, and the rows do not. The keys are "
        "the last axis, `axis=-1`.",
        "concepts/softmax",
    ),
    Slip(
        "mask turned around",
        "The mask is turned around. True says that a query may look, and hides nothing.",
        "algorithm/masks",
    ),
    Slip(
        "a large negative number",
        "Masked scores are -1e9 instead of -inf. A query that may look nowhere then looks "
        "everywhere alike; it should get zeros.",
        "algorithm/masks",
    ),
    Slip(
        "features against features",
        "This is QᵀK: it compares features with features, and runs only where there are as many "
        "queries as keys. Queries against keys is Q Kᵀ.",
        "code/second_example",
    ),
    Slip(
        "overflow",
        "Large scores overflow in exp. Subtract the largest score of each row first; the weights "
        "do not change by it.",
        "concepts/softmax",
    ),
    Slip(
        "divided by the width",
        "The scores are divided by d, not by √d. A dot product of d terms has a standard "
        "deviation of √d.",
        PAGE,
    ),
    Slip(
        "root of the number of keys",
        "The scores are divided by the root of the number of keys. It is the width of a key that "
        "makes dot products large.",
        PAGE,
    ),
    Slip(
        "every axis transposed",
        "`k.T` turns all axes around, the batch and the heads as well. Exchange the last two: "
        "`k.swapaxes(-1, -2)`.",
        "algorithm/multi_head",
    ),
    Slip("mask ignored", "The mask has no effect.", "algorithm/masks"),
    Slip("scale ignored", "The argument `scale` has no effect.", PAGE),
    Slip(
        "scale on top of the root",
        "`scale` stands in place of 1/√d; here the scores are multiplied by both.",
        PAGE,
    ),
    Slip("bias ignored", "The argument `bias` has no effect.", "algorithm/positions"),
    Slip(
        "bias scaled too",
        "The bias is added before the scores are scaled, and is scaled with them. It is added to "
        "the scaled scores.",
        "appendix/notation",
    ),
    Slip("softcap ignored", "The argument `softcap` has no effect.", "appendix/notation"),
    Slip(
        "softcap last",
        "The softcap also bends the bias. It comes after the scale and before the bias.",
        "appendix/notation",
    ),
    Slip(
        "softcap cuts",
        "The scores are cut off at the softcap. It bends them smoothly: softcap · tanh(scores / "
        "softcap).",
        "appendix/notation",
    ),
)

OUTPUT = (
    Slip(
        "weights transposed",
        "The weights are transposed before they meet the values: each output adds up what one key "
        "gave to all queries.",
        PAGE,
    ),
    Slip(
        "keys averaged",
        "The keys are averaged. Keys decide how much, values are what is averaged.",
        "concepts/query_key_value",
    ),
    Slip(
        "heaviest value alone",
        "The value with the largest weight is taken alone. Attention averages all of them by "
        "their weights.",
        "concepts/kinds",
    ),
)


def drawn(rng, queries, keys, d, e, *batch, dtype=np.float64):
    """Return random queries, keys and values."""
    shapes = ((*batch, queries, d), (*batch, keys, d), (*batch, keys, e))
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def with_values(rng):
    """Draw the situations in which answers differ."""
    empty_row = np.array([[True, False, True], [False, False, False]])
    some = rng.random((3, 5)) < 0.5
    some[:, 0] = True
    square = np.tril(np.ones((4, 4), dtype=bool))
    q, k, v = drawn(rng, 3, 5, 4, 2)
    large = tuple(60 * x for x in drawn(rng, 2, 3, 4, 3))
    return [
        Case("one query, two keys", drawn(rng, 1, 2, 3, 2)),
        Case("two queries, three keys of width 4", drawn(rng, 2, 3, 4, 1)),
        Case("as many queries as keys as features", drawn(rng, 3, 3, 3, 3)),
        Case(
            "as many of all, with mask, bias, scale and softcap",
            (*drawn(rng, 4, 4, 4, 4), square),
            {"bias": rng.standard_normal((4, 4)), "scale": 0.8, "softcap": 2.0},
        ),
        Case("a query that may look nowhere", (*drawn(rng, 2, 3, 2, 2), empty_row)),
        Case("a causal mask", (*drawn(rng, 4, 4, 5, 3), square)),
        Case("a mask that broadcasts over two heads", (*drawn(rng, 3, 5, 4, 2, 2), some)),
        Case("large scores", large),
        Case("a batch of 2 with 3 heads", drawn(rng, 3, 5, 4, 2, 2, 3)),
        Case("a scale of one's own", (q, k, v), {"scale": 0.3}),
        Case("a bias", (q, k, v), {"bias": rng.standard_normal((3, 5))}),
        Case("a softcap", (3 * q, k, v), {"softcap": 1.5}),
        Case(
            "mask, bias, scale and softcap at once",
            (q, k, v, some),
            {"bias": rng.standard_normal((3, 5)), "scale": 0.8, "softcap": 2.0},
        ),
        Case("float32", drawn(rng, 3, 4, 6, 2, dtype=np.float32)),
    ]


def without_values(rng):
    """Draw the same situations for a function of queries and keys."""
    return [
        Case(case.what, (*case.args[:2], *case.args[3:]), case.kwargs) for case in with_values(rng)
    ]


def einsum_attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """The same with named axes, and one division at the end."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = np.einsum("...id,...jd->...ij", scale * q, k)
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    scores = np.where(mask, scores + bias, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    exponentials = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = exponentials.sum(axis=-1, keepdims=True)
    summed = np.einsum("...ij,...je->...ie", exponentials, v)
    return np.divide(summed, total, out=np.zeros_like(summed), where=total > 0)


def row_by_row_attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """The same, a query at a time and only over the keys that it may see."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    batch, (queries, keys) = q.shape[:-2], (q.shape[-2], k.shape[-2])
    mask = np.broadcast_to(mask, (*batch, queries, keys))
    bias = np.broadcast_to(np.asarray(bias, dtype=q.dtype), mask.shape)
    out = np.zeros((*batch, queries, v.shape[-1]), dtype=q.dtype)
    for *b, i in np.ndindex(*batch, queries):
        b = tuple(b)
        seen = mask[(*b, i)]
        if not seen.any():
            continue
        scores = scale * (k[b][seen] @ q[(*b, i)])
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        scores = scores + bias[(*b, i)][seen]
        weights = np.exp(scores - np.logaddexp.reduce(scores))
        out[(*b, i)] = weights @ v[b][seen]
    return out


def weights_from_identity(q, k, mask=True, **options):
    """The weights as the average of unit vectors."""
    eye = np.broadcast_to(np.eye(k.shape[-2], dtype=q.dtype), (*k.shape[:-1], k.shape[-2]))
    return row_by_row_attention(q, k, eye, mask, **options)


def einsum_weights(q, k, mask=True, **options):
    """The same, by the other."""
    eye = np.broadcast_to(np.eye(k.shape[-2], dtype=q.dtype), (*k.shape[:-1], k.shape[-2]))
    return einsum_attention(q, k, eye, mask, **options)


ATTENTION = Exercise(
    name="attention",
    topic="dot_product",
    title="Attention",
    kind="implement",
    difficulty=2,
    minutes=20,
    prompt=(
        "Average the rows of `v` for each query: $\\mathrm{softmax}(q k^\\top / \\sqrt d)\\, v$, "
        "with all that can stand between score and softmax. In order: scale (by default "
        "$1/\\sqrt d$), then `softcap * tanh(scores / softcap)` if there is a softcap, then add "
        "`bias`, then mask.\n\n"
        "`q` is (..., queries, d), `k` (..., keys, d) and `v` (..., keys, e); `mask` is True where "
        "a query may look, and broadcasts to (..., queries, keys). A query that may look nowhere "
        "gets zeros. `softmax` turns a row of -inf into zeros."
    ),
    starter=(
        "from attn_course.reference import softmax\n\n\n"
        "def attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):\n"
        "    ...\n"
    ),
    hints=(
        "Write down the shape after every step. Which product of `q` and `k` has the shape "
        "(..., queries, keys)?",
        "`k.swapaxes(-1, -2)` transposes the last two axes alone. `np.where(mask, scores, "
        "-np.inf)` hides what may not be seen.",
        "Four lines: scores by `scale`; the softcap; `weights = softmax(np.where(mask, scores + "
        "bias, -np.inf))`; `return weights @ v`.",
    ),
    solve=attended,
    slips=WEIGHTS + OUTPUT,
    cases=with_values,
    right=(einsum_attention, row_by_row_attention),
    helpers=("softmax",),
)

ATTENTION_WEIGHTS = Exercise(
    name="attention_weights",
    topic="dot_product",
    title="Attention weights",
    kind="finish",
    difficulty=1,
    minutes=10,
    prompt=(
        "Three lines are there, two are missing. `attention_weights` gives how much each query "
        "attends to each key. Scale, softcap and bias are done; mask and normalize."
    ),
    starter=(
        "import math\n\n"
        "import numpy as np\n\n"
        "from attn_course.reference import softmax\n\n\n"
        "def attention_weights(q, k, mask=True, *, bias=0.0, scale=None, softcap=None):\n"
        "    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale\n"
        "    scores = scale * (q @ k.swapaxes(-1, -2))\n"
        "    if softcap is not None:\n"
        "        scores = softcap * np.tanh(scores / softcap)\n"
        "    scores = scores + bias\n"
        "    ...  # your two lines\n"
    ),
    hints=(
        "What must a score be so that its weight is exactly 0?",
        "exp(-inf) is 0. `np.where(condition, a, b)` takes from `a` where the condition is True.",
        "`scores = np.where(mask, scores, -np.inf)`, then `return softmax(scores)`.",
    ),
    solve=scored,
    slips=WEIGHTS,
    cases=without_values,
    right=(einsum_weights, weights_from_identity),
    helpers=("softmax",),
)

EXERCISES = (ATTENTION_WEIGHTS, ATTENTION)
