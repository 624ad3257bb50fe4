"""Exercises on pooling."""

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Lines, Orders, Slip, predictions
from attn_course.exercises.softmax import OVERFLOW
from attn_course.reference.pooling import kernel_weights
from attn_course.reference.softmax import softmax

PAGE = "algorithm/pooling"
FIRST = "code/first_example"


def pooled(slips, x, query, mask=True, *, scale=1.0):
    """Average rows by what one query thinks of them."""
    if "mask ignored" in slips:
        mask = True
    if "mask turned around" in slips:
        mask = np.logical_not(mask)
    factor = 1.0 if "scale ignored" in slips else scale
    if "divided by the root" in slips:
        factor = scale / np.sqrt(x.shape[-1])
    if "hidden rows set to zero" in slips:
        x, mask = np.where(np.asarray(mask)[..., None], x, 0), True
    if "scale after softmax" in slips:
        factor = 1.0
    scores = (x * (factor * query)).sum(axis=-1)
    if "a softmax for every entry" in slips:
        each = x * (factor * query)
        weights = softmax(np.where(np.asarray(mask)[..., None], each, -np.inf), axis=-2)
        return (weights * x).sum(axis=-2)
    hidden = 0.0 if "masked scores are zero" in slips else -np.inf
    masked = np.where(mask, scores, hidden)
    if "no exponential" in slips:
        weights = np.where(mask, scores, 0)
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights / np.where(total == 0, 1, total)
    elif "overflow" in slips:
        exponentials = np.exp(masked)
        total = exponentials.sum(axis=-1, keepdims=True)
        weights = exponentials / np.where(total == 0, 1, total)
    elif "a mask that hides all" in slips:
        exponentials = np.exp(masked - masked.max(axis=-1, keepdims=True))
        weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    else:
        weights = softmax(masked, axis=0 if "softmax over the first axis" in slips else -1)
    if "mask after softmax" in slips:
        weights = np.where(mask, softmax(scores), 0)
    if "the mean, not weighted" in slips:
        kept = np.broadcast_to(mask, scores.shape).astype(x.dtype)
        weights = kept / np.maximum(1, kept.sum(axis=-1, keepdims=True))
    if "the heaviest row" in slips:
        top = np.eye(scores.shape[-1], dtype=x.dtype)[masked.argmax(axis=-1)]
        weights = np.where(masked.max(axis=-1, keepdims=True) == -np.inf, 0, top)
    if "a product over the batch" in slips:
        return weights @ x
    if "summed over the first axis" in slips:
        return (weights[..., None] * x).sum(axis=0)
    if "mean instead of sum" in slips:
        return (weights[..., None] * x).mean(axis=-2)
    if "scale after softmax" in slips:
        weights = scale * weights
    return (weights[..., None] * x).sum(axis=-2)


def pooling_cases(rng):
    """Draw rows, a query and masks."""

    def drawn(*shape, dtype=np.float64):
        return tuple(rng.standard_normal(s).astype(dtype) for s in (shape, shape[-1:]))

    some = np.array([[True, False, True, True], [False, True, True, False]])
    none = np.array([[True, True, False], [False, False, False]])
    return [
        Case("one row", drawn(1, 3)),
        Case("two rows", drawn(2, 3)),
        Case("as many rows as entries", drawn(3, 3)),
        Case("five rows of width 4", drawn(5, 4)),
        Case("a batch of 2 with a mask", (*drawn(2, 4, 3), some)),
        Case("a mask that hides all", (*drawn(2, 3, 2), none)),
        Case("a scale", drawn(4, 3), {"scale": 2.5}),
        Case("large scores", tuple(40 * x for x in drawn(3, 4))),
        Case("float32", drawn(6, 5, dtype=np.float32)),
    ]


def pooled_by_einsum(x, query, mask=True, *, scale=1.0):
    """With named axes and one division."""
    scores = np.where(mask, np.einsum("...jd,d->...j", x, query) * scale, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(top > -np.inf, top, 0))
    summed = np.einsum("...j,...jd->...d", weights, x)
    total = weights.sum(axis=-1, keepdims=True)
    return summed / np.where(total > 0, total, 1)


def pooled_row_by_row(x, query, mask=True, *, scale=1.0):
    """A batch entry at a time, over the rows that are kept."""
    mask = np.broadcast_to(mask, x.shape[:-1])
    out = np.zeros((*x.shape[:-2], x.shape[-1]), dtype=x.dtype)
    for index in np.ndindex(x.shape[:-2]):
        rows = x[index][mask[index]]
        if len(rows):
            scores = rows @ query * scale
            out[index] = np.exp(scores - np.logaddexp.reduce(scores)) @ rows
    return out


ATTENTION_POOLING = Exercise(
    name="attention_pooling",
    topic="pooling",
    title="One query for all rows",
    kind="implement",
    difficulty=1,
    minutes=12,
    prompt=(
        "Average the n rows of `x`, (..., n, d), into one, (..., d). The score of row $x_j$ is "
        "`scale` times $x_j \\cdot \\mathrm{query}$, where `query` is (d,). The weights are the "
        "softmax of the scores over the rows. `mask`, (..., n), is True for the rows that may be "
        "looked at; where there is no such row, the result is zeros. Nothing is divided by "
        "$\\sqrt d$. `softmax` turns a row of -inf into zeros."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import softmax\n\n\n"
        "def attention_pooling(x, query, mask=True, *, scale=1.0):\n"
        "    ...\n"
    ),
    hints=(
        "How many scores does a row get? How many weights?",
        "`x @ query` is (..., n). Put -inf where the mask is False; `softmax` then gives 0.",
        "`weights = softmax(np.where(mask, scale * (x @ query), -np.inf))`, then "
        "`(weights[..., None] * x).sum(axis=-2)`.",
    ),
    solve=pooled,
    slips=(
        Slip(
            "a softmax for every entry",
            "Every entry of a row gets a weight of its own, as in the first source's example. A "
            "row has one score and one weight.",
            FIRST,
        ),
        Slip(
            "the mean, not weighted",
            "All rows weigh the same: this is the mean. Each row has the weight that its score "
            "gives it.",
            PAGE,
        ),
        Slip(
            "mask after softmax",
            "The mask is applied after softmax, so the weights that are left no longer sum to 1.",
            "algorithm/masks",
        ),
        Slip(
            "masked scores are zero",
            "Masked scores are 0 instead of -inf. exp(0) is 1: such rows still count.",
            "algorithm/masks",
        ),
        Slip(
            "hidden rows set to zero",
            "Hidden rows are replaced by zeros. Their scores are then 0, and exp(0) is 1, so they "
            "take weight from the others.",
            "algorithm/masks",
        ),
        Slip("mask ignored", "The argument `mask` has no effect.", "algorithm/masks"),
        Slip(
            "mean instead of sum",
            "The weighted rows are averaged, which divides them by n. The weights sum to 1 "
            "already: add the weighted rows.",
            PAGE,
        ),
        Slip(
            "a product over the batch",
            "`weights @ x` is right without a batch. In a batch the weights, (..., n), are taken "
            "for one matrix, and every row of them meets every entry of the batch.",
            PAGE,
        ),
        Slip(
            "summed over the first axis",
            "The weighted rows are added along the first axis, which in a batch is not that of the "
            "rows. Counted from the end it always is, axis -2.",
            PAGE,
        ),
        Slip(
            "softmax over the first axis",
            "Softmax runs over the first axis of the scores. In a batch that is not the axis of "
            "the rows, which is the last one.",
            "concepts/softmax",
        ),
        Slip(
            "mask turned around",
            "The mask is turned around. True says that a row may be looked at.",
            "algorithm/masks",
        ),
        Slip(
            "divided by the root",
            "The scores are divided by √d. This pooling has a learned query, which finds its own "
            "size, and no such division.",
            PAGE,
        ),
        Slip("scale ignored", "The argument `scale` has no effect.", PAGE),
        Slip(
            "scale after softmax",
            "The weights or the result are multiplied by `scale`. It multiplies the scores, before "
            "softmax.",
            PAGE,
        ),
        Slip(
            "a mask that hides all",
            "Where the mask hides every row, the result is NaN. It should be zeros.",
            "algorithm/masks",
        ),
        OVERFLOW,
        Slip(
            "the heaviest row",
            "The row with the largest weight is taken alone. All rows count, each by its weight.",
            "concepts/kinds",
        ),
        Slip(
            "no exponential",
            "The scores are divided by their sum. softmax takes exponentials first.",
            "concepts/softmax",
        ),
    ),
    cases=pooling_cases,
    right=(pooled_by_einsum, pooled_row_by_row),
    helpers=("softmax",),
)


KERNEL = Lines(
    "def kernel_regression(q, k, v, bandwidth):",
    (
        "weights = softmax(distances)",
        "steps = steps / bandwidth",
        "return weights @ v",
        "distances = (steps**2).sum(axis=-1) / 2",
        "weights = softmax(-distances, axis=0)",
        "steps = q[:, None, :] - k[None, :, :]",
        "distances = np.sqrt((steps**2).sum(axis=-1))",
        "weights = softmax(-distances)",
    ),
    (softmax,),
)

KERNEL_REGRESSION = Exercise(
    name="kernel_average",
    topic="pooling",
    title="The average of 1964",
    kind="order",
    difficulty=1,
    minutes=8,
    prompt=(
        "Kernel regression averages the values for each query. The weight of a key is the softmax "
        "over the keys of $-\\lVert q - k \\rVert^2 / (2\\, \\mathrm{bandwidth}^2)$. `q` is "
        "(queries, d), `k` is (keys, d), `v` is (keys, e), and the result is (queries, e). Put the "
        "lines in order. Three of them belong nowhere. Answer with letters."
    ),
    hints=(
        "Score, weigh, average: the score takes three lines.",
        "Near keys must weigh more than far ones. For each query, the weights of the keys sum to "
        "1.",
        "The steps from keys to queries, these over the bandwidth, half their squared lengths, the "
        "softmax of the negatives, the average of the values.",
    ),
    solve=Orders(
        KERNEL,
        "FBDHC",
        {
            "the farthest weigh most": "FBDAC",
            "bandwidth forgotten": "FDHC",
            "softmax over the queries": "FBDEC",
            "distance instead of its square": "FBGHC",
            "distance, and no bandwidth": "FGHC",
            "the farthest, and no bandwidth": "FDAC",
            "over the queries, and no bandwidth": "FDEC",
            "the farthest, by distance": "FBGAC",
            "over the queries, by distance": "FBGEC",
        },
    ),
    slips=(
        Slip(
            "the farthest weigh most",
            "The sign is turned around: the farthest keys weigh most.",
            "background/averages",
        ),
        Slip(
            "bandwidth forgotten",
            "The bandwidth has no effect: the steps are not divided by it, or only after the "
            "distances are computed.",
            "background/averages",
        ),
        Slip(
            "softmax over the queries",
            "Softmax runs over the queries: for each key, the weights of the queries sum to 1. For "
            "each query, those of the keys should.",
            "concepts/softmax",
        ),
        Slip(
            "distance instead of its square",
            "The weights are made from the distance. They should be made from half its square.",
            "background/averages",
        ),
        Slip(
            "distance, and no bandwidth",
            "The weights are made from the distance, not from half its square, and the bandwidth "
            "has no effect.",
            "background/averages",
        ),
        Slip(
            "the farthest, and no bandwidth",
            "The sign is turned around, and the bandwidth has no effect.",
            "background/averages",
        ),
        Slip(
            "over the queries, and no bandwidth",
            "Softmax runs over the queries, not over the keys, and the bandwidth has no effect.",
            "concepts/softmax",
        ),
        Slip(
            "the farthest, by distance",
            "The sign is turned around, so the farthest keys weigh most, and the distance stands "
            "where half its square should.",
            "background/averages",
        ),
        Slip(
            "over the queries, by distance",
            "Softmax runs over the queries, not over the keys, and the distance stands where half "
            "its square should.",
            "concepts/softmax",
        ),
    ),
    cases=lambda rng: [
        Case(
            what,
            (*(rng.standard_normal(shape) for shape in ((i, d), (j, d), (j, e))), width),
        )
        for what, i, j, d, e, width in (
            ("one query, two keys", 1, 2, 1, 1, 0.5),
            ("three queries, five keys", 3, 5, 2, 3, 0.7),
            ("as many of all", 3, 3, 3, 3, 2.0),
            ("a wide kernel", 2, 4, 3, 1, 10.0),
            ("a narrow kernel", 4, 3, 2, 2, 0.2),
        )
    ],
    right=("FBDHC", "f, b, d, h, c"),
    lines=KERNEL,
)


def estimate(slips, q, k, v, bandwidth):
    """Say how far values lie from their average, by the same weights."""
    weights = kernel_weights(q, k, 1.0 if "bandwidth forgotten" in slips else bandwidth)
    mean = weights @ v
    if "mean of all values" in slips:
        mean = np.broadcast_to(v.mean(axis=-2, keepdims=True), mean.shape)
    differences = v[..., None, :, :] - mean[..., :, None, :]
    if "sizes of the differences" in slips:
        return np.einsum("...ij,...ije->...ie", weights, np.abs(differences))
    if "differences not squared" in slips:
        return np.einsum("...ij,...ije->...ie", weights, differences)
    if "not weighted" in slips:
        weights = np.full_like(weights, 1 / k.shape[-2])
    if "spread of weighted values" in slips:
        return np.std(weights[..., None] * v[..., None, :, :], axis=-2)
    variance = np.einsum("...ij,...ije->...ie", weights, differences**2)
    if "one key less" in slips:
        variance = variance * k.shape[-2] / max(1, k.shape[-2] - 1)
    if "of the mean" in slips:
        variance = variance / k.shape[-2]
    if "variance" in slips:
        return variance
    if "mean of squares" in slips:
        return np.sqrt(weights @ v**2)
    return np.sqrt(variance)


def estimate_by_moments(q, k, v, bandwidth):
    """As the mean square less the square of the mean, of values centered once."""
    weights = kernel_weights(q, k, bandwidth)
    centered = v - v.mean(axis=-2, keepdims=True)
    mean = weights @ centered
    return np.sqrt(np.maximum(0, weights @ centered**2 - mean**2))


def estimate_by_rows(q, k, v, bandwidth):
    """A query at a time."""
    out = np.empty((len(q), v.shape[-1]))
    for i, row in enumerate(kernel_weights(q, k, bandwidth)):
        out[i] = np.sqrt(np.average((v - np.average(v, axis=0, weights=row)) ** 2, 0, row))
    return out


SPREAD = Exercise(
    name="kernel_spread",
    topic="pooling",
    title="How sure is the average?",
    kind="extend",
    difficulty=2,
    minutes=15,
    prompt=(
        "An average does not say how far the values lie from it. Return for each query i, and for "
        "each of the e entries of a value, the standard deviation under the kernel weights "
        "$a_{ij}$: the root of $\\sum_j a_{ij} (v_j - m_i)^2$, where $m_i = \\sum_j a_{ij} v_j$. "
        "`q` is (queries, d), `k` is (keys, d), `v` is (keys, e), and the result is (queries, e). "
        "`kernel_weights(q, k, bandwidth)` gives the weights, (queries, keys)."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import kernel_weights\n\n\n"
        "def kernel_spread(q, k, v, bandwidth):\n"
        "    ...\n"
    ),
    hints=(
        "There is one mean for each query: which shape do the differences have?",
        "`v[None, :, :] - mean[:, None, :]` is (queries, keys, e).",
        "Weigh the squares of these by `weights[:, :, None]`, sum over the keys, take the root.",
    ),
    solve=estimate,
    slips=(
        Slip("variance", "The root is missing: this is the variance.", PAGE),
        Slip(
            "mean of all values",
            "The differences are taken from the mean of all values. Each query has its own mean.",
            PAGE,
        ),
        Slip(
            "not weighted",
            "All squares weigh the same. They have the weights of the query.",
            PAGE,
        ),
        Slip(
            "mean of squares",
            "The mean is not subtracted: this is the root of the mean square.",
            PAGE,
        ),
        Slip(
            "spread of weighted values",
            "This is the standard deviation of the values times their weights. The weights belong "
            "to the squared differences, not to the values.",
            PAGE,
        ),
        Slip(
            "one key less",
            "The variance is multiplied by n / (n - 1), as for a sample without weights. Here the "
            "weights sum to 1, and nothing is corrected.",
            PAGE,
        ),
        Slip(
            "of the mean",
            "The variance is divided by the number of keys, as for the error of a mean. The spread "
            "of the values is asked for.",
            PAGE,
        ),
        Slip(
            "sizes of the differences",
            "The mean of the absolute differences is taken, not the root of their mean square.",
            PAGE,
        ),
        Slip(
            "differences not squared",
            "The differences are averaged without a square. They cancel.",
            PAGE,
        ),
        Slip(
            "bandwidth forgotten", "The argument `bandwidth` has no effect.", "background/averages"
        ),
    ),
    cases=lambda rng: [
        Case(
            what,
            (*(rng.standard_normal(shape) + 2 for shape in ((i, d), (j, d), (j, e))), width),
        )
        for what, i, j, d, e, width in (
            ("one query, two keys", 1, 2, 1, 1, 0.5),
            ("three queries, five keys", 3, 5, 2, 3, 0.7),
            ("as many of all", 3, 3, 3, 3, 2.0),
            ("one key", 2, 1, 2, 2, 1.5),
            ("a wide kernel", 2, 4, 3, 1, 10.0),
        )
    ],
    right=(estimate_by_moments, estimate_by_rows),
    helpers=("kernel_weights",),
)


NUMBERS = (2.0, 3.0, 8.0)
FRACTIONS = (1 / 8, 2 / 8, 5 / 8)

AVERAGE = Exercise(
    name="pooled_value",
    topic="pooling",
    title="A pooled value by hand",
    kind="predict",
    difficulty=1,
    minutes=4,
    prompt=(
        "Three rows have one entry each: 2, 3 and 8. A query gives them the scores 0, log 2 and "
        "log 5. What is the pooled value? Give an exact number."
    ),
    hints=(
        "What does exp make of log 2? And which numbers are the three weights?",
        "The exponentials of the scores are 1, 2 and 5. They are divided by their sum.",
        "The weights are 1/8, 2/8 and 5/8. Each value is multiplied by its weight.",
    ),
    solve=predictions(
        sum(a * x for a, x in zip(FRACTIONS, NUMBERS, strict=True)),
        {
            "the mean": sum(NUMBERS) / 3,
            "the sum of exponentials times values": 8
            * sum(a * x for a, x in zip(FRACTIONS, NUMBERS, strict=True)),
            "the heaviest value": NUMBERS[2],
            "the weights added up": 1.0,
            "scores without exponential": (3 * np.log(2) + 8 * np.log(5)) / np.log(10),
            "the largest weight": FRACTIONS[2],
            "divided by the number of rows": sum(
                a * x for a, x in zip(FRACTIONS, NUMBERS, strict=True)
            )
            / 3,
            "the values in reverse": sum(
                a * x for a, x in zip(FRACTIONS, NUMBERS[::-1], strict=True)
            ),
        },
    ),
    slips=(
        Slip("the mean", "This is the mean of the three values. Their weights differ.", PAGE),
        Slip(
            "the sum of exponentials times values",
            "The exponentials were not divided by their sum, 8.",
            PAGE,
        ),
        Slip("the heaviest value", "This is the value of the largest weight alone.", PAGE),
        Slip(
            "the weights added up",
            "This is the sum of the weights, which is always 1. The first source stops there.",
            FIRST,
        ),
        Slip(
            "scores without exponential",
            "The scores were taken for weights. exp comes first.",
            "concepts/softmax",
        ),
        Slip("the largest weight", "This is a weight. The values are still to be averaged.", PAGE),
        Slip(
            "divided by the number of rows",
            "The weights sum to 1 already. Nothing more is divided.",
            PAGE,
        ),
        Slip(
            "the values in reverse",
            "The values were taken in reverse order. The first score belongs to the value 2.",
            PAGE,
        ),
    ),
    right=((2 + 6 + 40) / 8, np.array([2, 3, 8]) @ [1, 2, 5] // 8),
)

EXERCISES = (AVERAGE, ATTENTION_POOLING, KERNEL_REGRESSION, SPREAD)
