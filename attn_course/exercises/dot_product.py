"""Exercises on scaled dot-product attention."""

import math

import numpy as np

from attn_course.exercises.exercise import (
    Case,
    Exercise,
    Incompatible,
    Lines,
    Orders,
    Slip,
    predictions,
)
from attn_course.reference.dot_product import attention
from attn_course.reference.softmax import softmax

PAGE = "algorithm/dot_product"


def compared(slips, q, k):
    """Compare the queries with the keys."""
    if "features against features" in slips:
        return q.swapaxes(-1, -2) @ k
    if "every axis transposed" in slips:
        return q @ k.T
    if "the keys ask" in slips:
        return k @ q.swapaxes(-1, -2)
    return q @ k.swapaxes(-1, -2)


def usual_scale(slips, q, k):
    """Return what scores are multiplied by."""
    if slips & {"unscaled", "weights divided by the root"}:
        return 1.0
    if "divided by the width" in slips:
        return 1 / q.shape[-1]
    if "root of the number of keys" in slips:
        return 1 / math.sqrt(k.shape[-2])
    return 1 / math.sqrt(q.shape[-1])


def scored(slips, q, k, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Weigh the keys, with the slips that concern the weights."""
    scores = compared(slips, q, k)
    usual = usual_scale(slips, q, k)
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
    if "masked scores are zero" in slips:
        hidden = 0.0
    masked_late = "mask after softmax" in slips
    masked = scores if masked_late else np.where(mask, scores, hidden)
    if "a large negative number added" in slips:
        masked = scores + np.logical_not(mask) * -1e9
    if "mask added" in slips:
        masked = scores + mask
    if "mask times minus infinity" in slips:
        masked = scores + np.logical_not(mask) * -np.inf
    axis = -2 if "softmax over the queries" in slips else -1
    if "overflow" in slips:
        exponentials = np.exp(masked)
        weights = exponentials / exponentials.sum(axis=axis, keepdims=True)
    elif "empty row" in slips:
        exponentials = np.exp(masked - masked.max(axis=axis, keepdims=True))
        weights = exponentials / exponentials.sum(axis=axis, keepdims=True)
    else:
        weights = softmax(masked, axis=axis)
    if "weights divided by the root" in slips:
        weights = weights / math.sqrt(q.shape[-1])
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
        "The scores are not divided by √d. They spread √d times as far, so with a large d softmax "
        "gives nearly everything to one key.",
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
        "masked scores are zero",
        "Hidden keys have the score 0 instead of -inf, as where scores are multiplied by the mask. "
        "exp(0) is 1, so hidden keys still get weight.",
        "algorithm/masks",
    ),
    Slip(
        "mask times minus infinity",
        "A mask of 0 and 1 is multiplied by -inf, and 0 · -inf is NaN. Choose between the score "
        "and -inf with `np.where`.",
        "algorithm/masks",
    ),
    Slip(
        "mask added",
        "The boolean mask is added to the scores: True adds 1, False adds 0. That hides nothing; "
        "the score of a hidden key must be -inf.",
        "algorithm/masks",
    ),
    Slip(
        "a large negative number",
        "A query that may look nowhere looks at all keys alike. That happens where masked scores "
        "are -1e9 instead of -inf. Such a query gets zeros.",
        "algorithm/masks",
    ),
    Slip(
        "a large negative number added",
        "A query that may look nowhere looks at the keys as if there were no mask. That happens "
        "where -1e9 is added to masked scores. Such a query gets zeros: put -inf in their place.",
        "algorithm/masks",
    ),
    Slip(
        "features against features",
        "This is QᵀK: it compares features with features, and runs only where there are as many "
        "queries as keys. Queries against keys is Q Kᵀ.",
        "code/second_example",
    ),
    Slip(
        "the keys ask",
        "This is K Qᵀ: it has a row for each key, and keys weigh queries. A row is for a query, "
        "which weighs the keys.",
        "concepts/query_key_value",
    ),
    Slip(
        "overflow",
        "The largest score of each row is not subtracted before exp. So large scores overflow, and "
        "a query that may look nowhere gets 0 / 0, which is NaN instead of zeros.",
        "concepts/softmax",
    ),
    Slip(
        "divided by the width",
        "The scores are divided by d, not by √d. Where entries have variance 1, a dot product of d "
        "terms has the standard deviation √d.",
        PAGE,
    ),
    Slip(
        "weights divided by the root",
        "The weights are divided by √d, so they no longer sum to 1. It is the scores that are "
        "divided, before softmax.",
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
        "`k.T` reverses all axes, those of the batch and the heads as well. Exchange the last two: "
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
        "The bias is added before the scores are scaled, and is scaled with them. It is added "
        "afterwards, to the scaled scores.",
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
        "The value with the largest weight is taken alone. Attention averages all values by their "
        "weights.",
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
        "with all that can stand between score and softmax. In order: multiply by `scale` (if it "
        "is None, by $1/\\sqrt d$), then `softcap * tanh(scores / softcap)` unless `softcap` is "
        "None, then add `bias`, then mask.\n\n"
        "`q` is (..., queries, d), `k` (..., keys, d) and `v` (..., keys, e); the result is (..., "
        "queries, e). `mask`, True where a query may look, and `bias` broadcast to (..., queries, "
        "keys). A query that may look nowhere gets zeros. `softmax` turns a row of -inf into zeros."
    ),
    starter=(
        "import math\n\n"
        "import numpy as np\n\n"
        "from attn_course.reference import softmax\n\n\n"
        "def attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):\n"
        "    ...\n"
    ),
    hints=(
        "Write down the shape after every step. Which product of `q` and `k` has the shape "
        "(..., queries, keys)?",
        "`k.swapaxes(-1, -2)` transposes the last two axes alone. `np.where(mask, scores, "
        "-np.inf)` hides what may not be seen.",
        "Four steps: the scores times `scale`; the softcap; `weights = softmax(np.where(mask, "
        "scores + bias, -np.inf))`; `return weights @ v`.",
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
        "`attention_weights` returns how much each query attends to each key, (..., queries, "
        "keys). Scale, softcap and bias are there. Two lines are missing: mask and normalize.\n\n"
        "`q` is (..., queries, d) and `k` (..., keys, d). `mask`, True where a query may look, and "
        "`bias` broadcast to (..., queries, keys). A query that may look nowhere gets the weights "
        "0. `softmax` turns a row of -inf into zeros."
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

QUERIES, KEYS, KEY_MEAN, WIDTH = 4, 8, 1, 64  # variances, a mean, a width
TERM = QUERIES * (KEYS + KEY_MEAN**2)

SCORE_VARIANCE = Exercise(
    name="score_variance",
    topic="dot_product",
    title="How far scores spread",
    kind="predict",
    difficulty=2,
    minutes=8,
    prompt=(
        "All entries of queries and keys are independent. Those of the queries have mean 0 and "
        f"variance {QUERIES}. Those of the keys have variance {KEYS}, and their mean is not 0 but "
        f"{KEY_MEAN}. The width is {WIDTH}, and the scores are divided by its root, as usual. "
        "What is the variance of the score of one query and one key? Give an exact number."
    ),
    hints=(
        "Begin with one product of two entries. What is its mean?",
        "The mean of a product of independent numbers is the product of their means. A variance "
        "is the mean of the square, less the square of the mean.",
        "The mean of the square of a key's entry is its variance plus the square of its mean. A "
        f"score adds {WIDTH} products; dividing it by a number divides the variance by the "
        "square of that number.",
    ),
    solve=predictions(
        float(TERM),
        {
            "the mean of the keys forgotten": QUERIES * KEYS,
            "unscaled": TERM * WIDTH,
            "divided by the width": TERM / WIDTH,
            "divided by the root alone": TERM * math.sqrt(WIDTH),
            "the standard deviation": math.sqrt(TERM),
            "one, whatever the entries": 1,
            "the square of the mean subtracted": QUERIES * (KEYS - KEY_MEAN**2),
            "variances added": QUERIES + KEYS,
            "standard deviations multiplied": math.sqrt(QUERIES * KEYS),
            "the mean added last": QUERIES * KEYS + KEY_MEAN**2,
        },
    ),
    slips=(
        Slip(
            "the mean of the keys forgotten",
            "The mean of the keys is left out. Because of it their entries lie farther from 0 than "
            "their variance says, and products with them spread farther.",
            PAGE,
        ),
        Slip(
            "unscaled",
            "This is the variance of the product q · k. The division by the root is still missing.",
            PAGE,
        ),
        Slip(
            "divided by the root alone",
            "The variance was divided by √d. Dividing a score by √d divides its variance by d.",
            PAGE,
        ),
        Slip(
            "the square of the mean subtracted",
            "The square of the keys' mean was subtracted from their variance. The mean of the "
            "square is larger than the variance, not smaller.",
            PAGE,
        ),
        Slip(
            "one, whatever the entries",
            "The variance is 1 where all entries have mean 0 and variance 1. These do not.",
            PAGE,
        ),
        Slip(
            "the standard deviation",
            "This is the standard deviation, the root of the variance.",
            PAGE,
        ),
        Slip(
            "divided by the width",
            "The scores were divided by d, the variance by its square. The usual scale is 1/√d.",
            PAGE,
        ),
        Slip(
            "variances added",
            "The variances of query and key were added. Their entries are multiplied, and the "
            "products are added.",
            PAGE,
        ),
        Slip(
            "standard deviations multiplied",
            "The standard deviations were multiplied, and the mean of the keys was left out. A "
            "variance is made of squares.",
            PAGE,
        ),
        Slip(
            "the mean added last",
            "The square of the keys' mean was added to the result. It belongs to the square of "
            "the key, and is multiplied by that of the query as well.",
            PAGE,
        ),
    ),
    right=(
        float(WIDTH * QUERIES * (KEYS + KEY_MEAN) / math.sqrt(WIDTH) ** 2),
        np.array(QUERIES * KEYS + QUERIES * KEY_MEAN**2),
    ),
)


def printed(slips, q, k, v):
    """Average the values as the second source's formula says."""
    return attended(slips, q, k, v)


def by_named_axes(q, k, v):
    """With named axes, and a division at the end."""
    scores = np.einsum("id,jd->ij", q, k) * q.shape[1] ** -0.5
    exponentials = np.exp(scores - scores.max(axis=1)[:, None])
    return np.einsum("ij,je->ie", exponentials, v) / exponentials.sum(axis=1)[:, None]


def one_query_at_a_time(q, k, v):
    """Row by row."""
    return np.stack([softmax(k @ row / math.sqrt(len(row))) @ v for row in q])


def source_cases(rng):
    """Draw the source's example, and sizes that tell more."""
    keys = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    return [
        Case("the source's example", (np.eye(3), keys, np.arange(1.0, 10.0).reshape(3, 3))),
        Case("five of each, width 3", drawn(rng, 5, 5, 3, 2)),
        Case("one query", drawn(rng, 1, 4, 3, 2)),
        Case("two queries, five keys", drawn(rng, 2, 5, 3, 4)),
        Case("more queries than keys", drawn(rng, 6, 2, 4, 3)),
        Case("as many as the width", drawn(rng, 4, 4, 4, 1)),
        Case("large scores", tuple(60 * x for x in drawn(rng, 3, 3, 3, 2))),
        Case("float32", drawn(rng, 3, 4, 5, 2, dtype=np.float32)),
    ]


IN_THE_SOURCE = (
    "features against features",
    "unscaled",
    "softmax over the queries",
    "the keys ask",
    "weights divided by the root",
    "divided by the width",
    "root of the number of keys",
    "overflow",
)

SOURCE = Exercise(
    name="source_attention",
    topic="dot_product",
    title="The second source's program",
    kind="find the bug",
    difficulty=1,
    minutes=8,
    prompt=(
        "The second of the course's two sources prints the formula $\\mathrm{softmax}(Q K^\\top / "
        "\\sqrt d)\\, V$ and a program for it. In NumPy the program reads as below. It runs on the "
        "source's example of three queries, three keys and width 3, and its results look as good "
        "as the right ones. They are not those of the formula. Mend it.\n\n"
        "`q` is (queries, d), `k` (keys, d) and `v` (keys, e); the result is (queries, e). There "
        "is no mask."
    ),
    starter=(
        "import math\n\n"
        "from attn_course.reference import softmax\n\n\n"
        "def source_attention(q, k, v):\n"
        "    scores = q.T @ k / math.sqrt(k.shape[-1])\n"
        "    return softmax(scores) @ v\n"
    ),
    hints=(
        "Try two queries and five keys. What happens?",
        "Write down the shapes of both factors of the first product, and of the result that the "
        "formula asks for.",
        "The formula transposes the keys: `q @ k.T`.",
    ),
    solve=printed,
    slips=tuple(slip for slip in WEIGHTS if slip.name in IN_THE_SOURCE) + OUTPUT,
    cases=source_cases,
    right=(by_named_axes, one_query_at_a_time),
    helpers=("softmax",),
    bug="features against features",
)


STEPS = Lines(
    "def attend(q, k, v, mask, bias):",
    (
        "weights = softmax(scores)",
        "scores = scores / math.sqrt(q.shape[-1])",
        "scores = np.where(mask, scores, -np.inf)",
        "weights = np.where(mask, weights, 0)",
        "scores = 5 * np.tanh(scores / 5)",
        "return weights @ v",
        "scores = q.swapaxes(-1, -2) @ k",
        "scores = scores + bias",
        "scores = q @ k.swapaxes(-1, -2)",
    ),
    helpers=(softmax,),
)


def order_cases(rng):
    """Draw queries, keys, values, a mask and a bias."""

    def asked(what, queries, keys, d, *batch, size=1.0):
        q, k, v = drawn(rng, queries, keys, d, 2, *batch)
        mask = np.tril(np.ones((queries, keys), dtype=bool), keys - queries)
        return Case(what, (size * q, size * k, v, mask, rng.standard_normal((queries, keys))))

    some = asked("a query that may look nowhere", 2, 3, 4)
    some.args[3][0] = False
    return [
        asked("one query, two keys", 1, 2, 3),
        asked("as many queries as keys as features", 3, 3, 3, size=2.0),
        asked("two queries, four keys", 2, 4, 3),
        some,
        asked("large scores", 3, 4, 4, size=8.0),
        asked("a batch of 2", 3, 3, 5, 2),
        asked("width 1", 3, 4, 1),
    ]


ORDER = Exercise(
    name="attention_in_order",
    topic="dot_product",
    title="What comes after what",
    kind="order",
    difficulty=2,
    minutes=8,
    prompt=(
        "Put the lines in order, so that they compute attention with everything that can stand "
        "between score and softmax: the scale $1/\\sqrt d$, a softcap of 5, a bias and a mask, "
        "which is True where a query may look. The softcap bends the scaled scores, and not the "
        "bias. `softmax` turns a row of -inf into zeros. `q` is (..., queries, d), `k` (..., keys, "
        "d), `v` (..., keys, e); `mask` and `bias` are (queries, keys). Two lines belong nowhere. "
        "Answer with letters."
    ),
    hints=(
        "Two lines compare `q` with `k`. Which of them gives (..., queries, keys)?",
        "A hidden key must have the score -inf when softmax begins. What does the softcap make of "
        "-inf?",
        "Compare, scale, softcap, bias, mask, softmax, average.",
    ),
    solve=Orders(
        STEPS,
        "IBEHCAF",
        {
            "mask after softmax": "IBEHADF",
            "bias scaled too": "IHBECAF",
            "softcap over the bias": "IBHECAF",
            "mask before the softcap": "IBCEHAF",
            "softcap before the scale": "IEBHCAF",
            "features against features": "GBEHCAF",
            "unscaled": "IEHCAF",
            "no softcap": "IBHCAF",
            "no bias": "IBECAF",
            "no mask": "IBEHAF",
        },
    ),
    slips=(
        *(
            slip
            for slip in WEIGHTS
            if slip.name in ("mask after softmax", "features against features", "unscaled")
        ),
        Slip(
            "mask before the softcap",
            "The softcap comes after the mask and turns -inf into -5, so hidden keys get weight. "
            "The softcap must come before the mask.",
            "algorithm/masks",
        ),
        Slip(
            "bias scaled too",
            "The bias is added before the scale and the softcap, and goes through both. It is "
            "added to what they leave.",
            "appendix/notation",
        ),
        Slip(
            "softcap over the bias",
            "The softcap also bends the bias. It comes before the bias.",
            "appendix/notation",
        ),
        Slip(
            "softcap before the scale",
            "The softcap bends scores that are not scaled yet, which are √d times as large.",
            "appendix/notation",
        ),
        Slip(
            "no softcap",
            "The softcap is missing: scores of any size reach softmax.",
            "appendix/notation",
        ),
        Slip("no bias", "The bias is missing: it is never added.", "algorithm/positions"),
        Slip("no mask", "The mask is missing: every query sees every key.", "algorithm/masks"),
    ),
    cases=order_cases,
    right=("IBEHCAF", "IBECHAF"),
    lines=STEPS,
)


def kept(slips, q, k, v, mask=True):
    """Let a query keep weight back, as for a key of score 0 and value 0."""
    if {"nothing kept back", "shared out again"} <= slips:
        raise Incompatible
    scores = compared(slips, q, k) * usual_scale(slips, q, k)
    if "mask turned around" in slips:
        mask = np.logical_not(mask)
    late = "mask after softmax" in slips
    masked = scores if late else np.where(mask, scores, -np.inf)
    if "a hidden key counts as one more" in slips:
        masked = np.where(mask, scores, 0)
    axis = -2 if "softmax over the queries" in slips else -1
    largest = masked.max(axis=axis, keepdims=True)
    top = np.maximum(largest, 0)
    if slips & {"one added after the shift", "nothing kept back"}:
        top = np.where(largest == -np.inf, 0, largest)
    if "empty row" in slips:
        top = largest
    if "overflow" in slips:
        top = np.zeros_like(largest)
    one = np.exp(-top)
    if "one added after the shift" in slips:
        one = np.ones_like(top)
    if "nothing kept back" in slips:
        one = np.zeros_like(top)
    if "one for every key" in slips:
        one = one * masked.shape[-1]
    if "a score of one" in slips:
        one = one * math.e
    exponentials = np.exp(masked - top)
    if "every key by itself" in slips:
        total = exponentials + one
    else:
        total = exponentials.sum(axis=axis, keepdims=True) + one
    weights = exponentials / np.where(total == 0, 1, total)
    if late or "a hidden key counts as one more" in slips:
        weights = np.where(mask, weights, 0)
    if "shared out again" in slips:
        weights = weights + one / total / masked.shape[-1]
    return weights @ v


def with_one_more_key(q, k, v, mask=True):
    """As attention with one more key and value, all of zeros, that every query may see."""
    mask = np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))
    nothing = [np.zeros_like(x[..., :1, :]) for x in (k, v)]
    k, v = (np.concatenate(pair, axis=-2) for pair in zip((k, v), nothing, strict=True))
    mask = np.concatenate([mask, np.ones_like(mask[..., :1])], axis=-1)
    return attention(q, k, v, mask)


def by_a_gate(q, k, v, mask=True):
    """As attention times a gate: the share that all keys together have against the one."""
    scores = np.where(mask, q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]), -np.inf)
    together = np.logaddexp.reduce(scores, axis=-1, keepdims=True)
    return (1 + np.tanh(together / 2)) / 2 * (softmax(scores) @ v)


def kept_cases(rng):
    """Draw what concerns the scores and the mask."""
    cases = [case for case in with_values(rng) if not case.kwargs]
    q, k, v = drawn(rng, 2, 3, 4, 2)
    far = np.concatenate([np.ones((2, 1)), q[:, 1:]], axis=-1)
    below = np.concatenate([np.full((3, 1), -3000.0), k[:, 1:]], axis=-1)
    return [*cases, Case("no key fits", (far, below, v)), Case("scores near 0", (q / 9, k, v))]


OF_THE_SCORES = (
    "unscaled",
    "mask after softmax",
    "softmax over the queries",
    "mask turned around",
    "features against features",
    "divided by the width",
)

KEPT = Exercise(
    name="attention_with_rest",
    topic="dot_product",
    title="Attention that may keep its weight",
    kind="extend",
    difficulty=2,
    minutes=15,
    prompt=(
        "Softmax gives all weight away, even where no key fits. Let a query keep some back: key j "
        "gets the weight $e^{s_j} / (1 + \\sum_m e^{s_m})$ with $s = q k^\\top / \\sqrt d$, as if "
        "there were one more key of score 0 whose value is 0. The result, (..., queries, e), is "
        "the weighted sum of the rows of `v`.\n\n"
        "`q` is (..., queries, d), `k` (..., keys, d), `v` (..., keys, e); `mask` is True where a "
        "query may look. A hidden key counts nowhere, and a query that may look nowhere gets "
        "zeros. Scores may lie in the thousands, above 0 and below."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import attention, softmax\n\n\n"
        "def attention_with_rest(q, k, v, mask=True):\n"
        "    ...\n"
    ),
    hints=(
        "You may subtract a number from all scores. What must then happen to the 1?",
        "The 1 is $e^0$. Subtract m from every score, that of the 0 included.",
        "With m the larger of 0 and the largest score of a row, the weights are `np.exp(s - m) / "
        "(np.exp(-m) + np.exp(s - m).sum(axis=-1, keepdims=True))`. Or append a row of zeros to "
        "`k` and to `v`.",
    ),
    solve=kept,
    slips=(
        Slip(
            "one added after the shift",
            "The largest score was subtracted, and then 1 was added to the sum. The 1 is the "
            "exponential of a score of 0, which must be shifted like the others: exp(-m).",
            "concepts/softmax",
        ),
        Slip(
            "nothing kept back",
            "The weights sum to 1: the 1 in the denominator has no effect.",
            PAGE,
        ),
        *(slip for slip in WEIGHTS if slip.name == "empty row"),
        Slip(
            "overflow",
            "Large scores overflow in exp, and inf / inf is NaN. A number must be subtracted from "
            "all scores first, that of the further key included.",
            "concepts/softmax",
        ),
        Slip(
            "one for every key",
            "A 1 is added for every key. There is one more key for the whole row.",
            PAGE,
        ),
        Slip(
            "every key by itself",
            "Each weight is e^s / (1 + e^s), a sigmoid of its own. All keys of a query share one "
            "sum.",
            "concepts/softmax",
        ),
        Slip(
            "a hidden key counts as one more",
            "A hidden key adds a 1 of its own to the denominator: its score was set to 0. It must "
            "be -inf.",
            "algorithm/masks",
        ),
        Slip(
            "a score of one",
            "The further key has score 1, so e is added. Its score is 0, and 1 is added.",
            "concepts/softmax",
        ),
        Slip(
            "shared out again",
            "What was kept back is shared out among the keys, as if the value of the further key "
            "were the mean of the values. That value is 0, so the output shrinks.",
            PAGE,
        ),
        *(slip for slip in WEIGHTS if slip.name in OF_THE_SCORES),
    ),
    cases=kept_cases,
    right=(with_one_more_key, by_a_gate),
    helpers=("attention", "softmax"),
)

EXERCISES = (SCORE_VARIANCE, ATTENTION_WEIGHTS, ATTENTION, SOURCE, ORDER, KEPT)
