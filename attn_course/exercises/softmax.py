"""Exercises on softmax."""

import math

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Slip, predictions

PAGE = "concepts/softmax"


def weighed(slips, x, axis=-1, temperature=1.0):
    """Turn scores into weights."""
    if "axis ignored" in slips:
        axis = -1
    if "temperature ignored" in slips:
        temperature = 1.0
    if "turned around" in slips:
        x = -x
    scaled = x * temperature if "multiplied by the temperature" in slips else x / temperature
    if "weights divided by the temperature" in slips:
        scaled = x
    if "no exponential" in slips:
        return scaled / scaled.sum(axis=axis, keepdims=True)
    if "sigmoid" in slips:
        return 1 / (1 + np.exp(-scaled))
    if "one maximum for all" in slips:
        top = scaled.max()
    elif "the mean subtracted" in slips:
        top = scaled.mean(axis=axis, keepdims=True)
    elif "maxima of columns" in slips:
        top = scaled.max(axis=0)
    elif slips & {"overflow", "NaN replaced"}:
        top = np.zeros_like(scaled.max(axis=axis, keepdims=True))
    else:
        top = scaled.max(axis=axis, keepdims=True)
    if "a row of -inf" not in slips:
        top = np.where(top == -np.inf, 0, top)
    shifted = scaled - top
    if "an empty row shared out" in slips:
        empty = np.all(scaled == -np.inf, axis=axis, keepdims=True)
        shifted = np.where(empty, 0, shifted)
    exponentials = np.exp2(shifted) if "powers of two" in slips else np.exp(shifted)
    total = exponentials.sum(axis=axis, keepdims=True)
    if "one sum for all" in slips:
        total = exponentials.sum()
    if "not divided" in slips:
        return exponentials.astype(x.dtype)
    if "divided by the length" in slips:
        total = np.sqrt((exponentials**2).sum(axis=axis, keepdims=True))
    if "keepdims missing" in slips:
        total = total.squeeze(axis)
    if "NaN replaced" in slips:
        return np.nan_to_num(exponentials / total)
    if "a row of -inf" not in slips:
        total = np.where(total == 0, 1, total)
    weights = (exponentials / total).astype(x.dtype)
    return weights / temperature if "weights divided by the temperature" in slips else weights


OVERFLOW = Slip(
    "overflow",
    "Large scores overflow: exp(1000) is inf, and inf / inf is NaN. First subtract the largest of "
    "the scores that share one sum; the weights stay the same.",
    PAGE,
)
ROW_OF_INF = Slip(
    "a row of -inf",
    "A row of -inf gives NaN: -inf - (-inf) is NaN, and so is 0 / 0. Nothing may be looked at "
    "there, and all weights are 0.",
    PAGE,
)
ONE_MAXIMUM = Slip(
    "one maximum for all",
    "One maximum is subtracted from all rows. In a row whose scores lie far below it every "
    "exponential is 0. Each row needs its own maximum.",
    PAGE,
)
AXIS = Slip(
    "axis ignored",
    "The argument `axis` has no effect: the weights always sum to 1 along the last axis.",
    PAGE,
)
KEEPDIMS = Slip(
    "keepdims missing",
    "The maximum or the sum of each row loses its axis, so NumPy lines it up with the columns, or "
    "fails. With `keepdims=True` the axis stays, with size 1.",
    PAGE,
)
REPLACED = Slip(
    "NaN replaced",
    "NaN is replaced by 0 afterwards, so a row whose exponentials overflow, or are all 0, loses "
    "all of its weights. Subtract the maximum first; then no NaN arises there.",
    PAGE,
)
MEAN_SUBTRACTED = Slip(
    "the mean subtracted",
    "The mean of each row is subtracted. A score far above the mean still overflows. "
    "Subtract a number that no score of the row exceeds.",
    PAGE,
)
SHARED_OUT = Slip(
    "an empty row shared out",
    "In a row of -inf all weights are equal. Nothing may be looked at there, so all of them are 0.",
    PAGE,
)
FORMULA = (
    Slip(
        "no exponential",
        "The scores are divided by their sum, without exp. They can be negative, and so can the "
        "weights.",
        PAGE,
    ),
    Slip(
        "sigmoid",
        "Each score goes through a sigmoid of its own. The weights do not compete, and do not sum "
        "to 1.",
        PAGE,
    ),
    Slip("not divided", "The exponentials are not divided by their sum.", PAGE),
    Slip("turned around", "The sign is turned around: the smallest score weighs most.", PAGE),
)


def score_cases(rng):
    """Draw the situations in which weights differ."""
    x = rng.standard_normal((3, 4))
    hidden = x.copy()
    hidden[1], hidden[2, 1:3] = -np.inf, -np.inf
    far = x + np.array([[0.0], [900.0], [-900.0]])
    return [
        Case("three scores", (rng.standard_normal(3),)),
        Case("one score", (rng.standard_normal(1),)),
        Case("three rows of four", (x,)),
        Case("along the first axis", (x,), {"axis": 0}),
        Case("along the middle of three axes", (rng.standard_normal((2, 3, 4)),), {"axis": 1}),
        Case("as many rows as columns", (rng.standard_normal((3, 3)),), {"axis": -2}),
        Case("scores of a thousand", (500 * rng.standard_normal((2, 3)) + 1000,)),
        Case("rows far apart", (far,)),
        Case("scores far apart", (np.array([[0.0, 2000.0, 1998.0], [-3000.0, 1.0, 0.0]]),)),
        Case("a masked row", (hidden,)),
        Case("float32", (rng.standard_normal((4, 5)).astype(np.float32),)),
    ]


def weight_cases(rng):
    """Draw the same, and temperatures."""
    x = rng.standard_normal((2, 5))
    return [
        *score_cases(rng),
        Case("a temperature of 0.5", (x,), {"temperature": 0.5}),
        Case("a temperature of 3 along the first axis", (x, 0, 3.0)),
    ]


def by_logarithm(x, axis=-1, temperature=1.0):
    """As the exponential of the logarithm of the weights."""
    z = np.moveaxis(x / temperature, axis, -1)
    total = np.logaddexp.reduce(z, axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(z - np.where(np.isfinite(total), total, 0))
    return np.moveaxis(weights, -1, axis)


def by_differences(x, axis=-1, temperature=1.0):
    """As one over the sum of exponentials of differences."""
    z = np.moveaxis(x, axis, -1) / temperature
    hidden = z == -np.inf
    z = np.where(hidden, 0.0, z)
    differences = np.where(hidden[..., None, :], -np.inf, z[..., None, :] - z[..., :, None])
    weights = np.where(hidden, 0.0, 1 / np.maximum(1, np.exp(differences).sum(axis=-1)))
    return np.moveaxis(weights, -1, axis)


SOFTMAX = Exercise(
    name="softmax",
    topic="softmax",
    title="Softmax",
    kind="implement",
    difficulty=1,
    minutes=12,
    prompt=(
        "Turn the scores `x`, an array of one axis or more, into weights of the same shape that "
        "are not negative and sum to 1 along `axis`: $e^{x_i / t} / \\sum_j e^{x_j / t}$, where "
        "$t > 0$ is the `temperature`. It must work for scores in the thousands. A score of -inf "
        "gets the weight 0. Where all scores along `axis` are -inf, all weights are 0."
    ),
    starter=("import numpy as np\n\n\ndef softmax(x, axis=-1, temperature=1.0):\n    ...\n"),
    hints=(
        "What is exp(1000) in float64? Which numbers may be subtracted from all scores of a row "
        "without changing its weights?",
        "`x.max(axis=axis, keepdims=True)` is the largest score. It keeps the axis, so that it can "
        "be subtracted.",
        "Divide by the temperature, subtract the maximum, take exp, divide by the sum. Where the "
        "maximum is -inf subtract 0 instead, and where the sum is 0 divide by 1.",
    ),
    solve=weighed,
    slips=(
        OVERFLOW,
        AXIS,
        ROW_OF_INF,
        KEEPDIMS,
        ONE_MAXIMUM,
        Slip(
            "one sum for all",
            "All weights together sum to 1. The weights along `axis` must: each row has a sum of "
            "its own.",
            PAGE,
        ),
        REPLACED,
        Slip(
            "multiplied by the temperature",
            "The scores are multiplied by the temperature. They are divided by it: the higher the "
            "temperature, the more equal the weights.",
            PAGE,
        ),
        Slip(
            "weights divided by the temperature",
            "The weights are divided by the temperature, so they no longer sum to 1. It is the "
            "scores that are divided, before exp.",
            PAGE,
        ),
        Slip("temperature ignored", "The argument `temperature` has no effect.", PAGE),
        SHARED_OUT,
        MEAN_SUBTRACTED,
        *FORMULA,
        Slip("powers of two", "The base is 2 where it should be e.", PAGE),
        Slip(
            "divided by the length",
            "The exponentials are divided by the root of the sum of their squares. Divide by their "
            "sum: the weights themselves must sum to 1.",
            PAGE,
        ),
    ),
    cases=weight_cases,
    right=(by_logarithm, by_differences),
)


def logarithm(slips, x, axis=-1):
    """Return the logarithms of the weights."""
    if "axis ignored" in slips:
        axis = -1
    top = x.max(axis=axis, keepdims=True)
    if "one maximum for all" in slips:
        top = np.full_like(top, x.max())
    if "overflow" in slips:
        top = np.zeros_like(top)
    if "a row of -inf" not in slips:
        top = np.where(top == -np.inf, 0, top)
    if "the sum of the scores" in slips:
        logarithms = x - x.sum(axis=axis, keepdims=True)
        hidden = "a row of -inf" not in slips
        return np.where((x == -np.inf) & hidden, -np.inf, logarithms)
    exponentials = np.exp(x - top)
    total = exponentials.sum(axis=axis, keepdims=True)
    if "one sum for all" in slips:
        total = np.full_like(total, exponentials.sum())
    if "mean instead of sum" in slips:
        total = exponentials.mean(axis=axis, keepdims=True)
    if "logarithm of the weights" in slips:
        return np.log(exponentials / np.where(total == 0, 1, total))
    below = np.log2(total) if "logarithm to base two" in slips else np.log(total)
    if "no logarithm of the sum" in slips:
        below = total
    if "the maximum forgotten" in slips:
        top = np.zeros_like(top)
    if "the maximum alone" in slips:
        below = np.zeros_like(below)
    if "sign turned around" in slips:
        return top + below - x
    if "a row of -inf" in slips:
        return x - top - below
    return np.where(x == -np.inf, -np.inf, x - top - below)


def log_by_logaddexp(x, axis=-1):
    """By NumPy's own sum of exponentials."""
    total = np.logaddexp.reduce(x, axis=axis, keepdims=True)
    return np.where(x == -np.inf, -np.inf, x - np.where(total == -np.inf, 0, total))


def log_by_differences(x, axis=-1):
    """As minus the logarithm of a sum of exponentials of differences, a score at a time."""
    z = np.moveaxis(x, axis, -1)
    out = np.full(z.shape, -np.inf, dtype=x.dtype)
    for index in np.ndindex(z.shape):
        if z[index] > -np.inf:
            d = z[index[:-1]] - z[index]
            out[index] = -(d.max() + np.log(np.exp(d - d.max()).sum()))
    return np.moveaxis(out, -1, axis)


LOG_SOFTMAX = Exercise(
    name="log_softmax",
    topic="softmax",
    title="The logarithm of a weight",
    kind="extend",
    difficulty=2,
    minutes=12,
    prompt=(
        "A loss needs $\\log a_i$, the logarithms of the weights $a_i = e^{x_i} / \\sum_j "
        "e^{x_j}$ along `axis`. A weight of $e^{-800}$ is 0 in floating point, and the logarithm "
        "of 0 is -inf, though -800 is a number like any other. Compute the logarithms without the "
        "weights, for scores in the thousands as well. `x` has one axis or more, and the result "
        "has its shape. A score of -inf gives -inf, also where all scores of a row are -inf."
    ),
    starter="import numpy as np\n\n\ndef log_softmax(x, axis=-1):\n    ...\n",
    hints=(
        "Write $\\log(e^{x_i} / \\sum_j e^{x_j})$ as a difference.",
        "$\\log \\sum_j e^{x_j} = m + \\log \\sum_j e^{x_j - m}$ for any $m$. Which m is safe?",
        "`x - m - np.log(np.exp(x - m).sum(axis=axis, keepdims=True))` with the maximum m of each "
        "row, or 0 where that is -inf; a score of -inf stays -inf.",
    ),
    solve=logarithm,
    slips=(
        Slip(
            "logarithm of the weights",
            "The weights are computed first and their logarithm then. Small weights are 0 by then, "
            "and their logarithm is -inf.",
            PAGE,
        ),
        Slip(
            "overflow",
            "The exponentials of large scores are inf, and those of scores far below 0 are all 0. "
            "The logarithm of such a sum is inf or -inf. Take a factor out of the sum first.",
            PAGE,
        ),
        AXIS,
        Slip(
            "the maximum forgotten",
            "The maximum was subtracted inside the sum and is missing outside: the logarithm of "
            "the sum is m + log of what is left.",
            PAGE,
        ),
        Slip(
            "a row of -inf",
            "A row of -inf gives NaN, since -inf - (-inf) is NaN. All weights are 0 there, and "
            "their logarithms -inf.",
            PAGE,
        ),
        ONE_MAXIMUM,
        Slip("one sum for all", "One sum is taken over all rows. Each row has its own.", PAGE),
        Slip(
            "no logarithm of the sum",
            "The sum itself is subtracted, not its logarithm.",
            PAGE,
        ),
        Slip(
            "the sum of the scores",
            "The sum of the scores is subtracted. The logarithm of a sum is not the sum of the "
            "logarithms.",
            PAGE,
        ),
        Slip(
            "the maximum alone",
            "Only the maximum is subtracted, so the largest logarithm of each row is 0. The "
            "logarithm of the sum is missing.",
            PAGE,
        ),
        Slip(
            "sign turned around",
            "The sign is turned around. A weight is at most 1, so its logarithm is never positive.",
            PAGE,
        ),
        Slip(
            "mean instead of sum",
            "The mean of the exponentials is taken. The weights are divided by their sum.",
            PAGE,
        ),
        Slip(
            "logarithm to base two",
            "The logarithm is to base 2. It must undo exp, whose base is e.",
            PAGE,
        ),
    ),
    cases=score_cases,
    right=(log_by_logaddexp, log_by_differences),
)


def rows(slips, scores):
    """Turn each row of scores into weights, by the maximum and sum of the row."""
    return weighed(slips, scores)


ROWS = Exercise(
    name="row_weights",
    topic="softmax",
    title="Weights that vanish",
    kind="find the bug",
    difficulty=1,
    minutes=6,
    prompt=(
        "Each row of `scores`, (..., n), is to become n weights that sum to 1, by softmax. The "
        "program below subtracts a maximum, as it should, and gives right weights for most scores. "
        "Yet a model that used it broke down in the middle of training. Mend it. A score of -inf "
        "has the weight 0, also where all scores of a row are -inf."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def row_weights(scores):\n"
        "    top = scores.max()\n"
        "    top = np.where(top == -np.inf, 0, top)\n"
        "    exponentials = np.exp(scores - top)\n"
        "    total = exponentials.sum(axis=-1, keepdims=True)\n"
        "    return exponentials / np.where(total == 0, 1, total)\n"
    ),
    hints=(
        "Try one row of scores near 1000 and one near 0.",
        "Whose maximum is subtracted from the second row?",
        "`scores.max(axis=-1, keepdims=True)`.",
    ),
    solve=rows,
    slips=(
        ONE_MAXIMUM,
        OVERFLOW,
        ROW_OF_INF,
        KEEPDIMS,
        REPLACED,
        Slip(
            "maxima of columns",
            "The maximum of each column is subtracted, so the scores of one row are lowered by "
            "different numbers, and the weights change. A row needs one number: its own maximum.",
            PAGE,
        ),
        SHARED_OUT,
        MEAN_SUBTRACTED,
        Slip("one sum for all", "All rows together sum to 1. Each row must sum to 1.", PAGE),
        Slip("not divided", "The exponentials are not divided by their sum.", PAGE),
        Slip("no exponential", "The scores are divided by their sum, without exp.", PAGE),
        Slip("turned around", "The sign is turned around: the smallest score weighs most.", PAGE),
        Slip("powers of two", "The base is 2 where it should be e.", PAGE),
    ),
    cases=lambda rng: [case for case in score_cases(rng) if not case.kwargs],
    right=(by_logarithm, by_differences),
    bug="one maximum for all",
)


def by_one_vector(slips, x, w):
    """Weigh data by their product with one vector."""
    scores = x @ (np.ones_like(w) if "w left out" in slips else w)
    if "divided by the root" in slips:
        scores = scores / math.sqrt(x.shape[-1])
    weights = weighed(slips, scores)
    if "the largest takes all" in slips:
        weights = np.eye(len(x), dtype=x.dtype)[scores.argmax()]
    if "divided by the number of data" in slips:
        weights = weights / len(x)
    if "the same for all" in slips:
        weights = np.full_like(weights, 1 / len(x))
    return np.full_like(weights, weights.sum()) if "every term summed" in slips else weights


def by_two_of_them(x, w):
    """Weigh each datum by how it stands against every other."""
    return np.array([1 / np.exp(np.minimum((x - row) @ w, 700)).sum() for row in x])


def by_each_term(x, w):
    """Weigh each datum by its own term of one softmax."""
    scores = [float(sum(a * b for a, b in zip(row, w, strict=True))) for row in x]
    terms = [math.exp(score - max(scores)) for score in scores]
    return np.array([term / sum(terms) for term in terms], dtype=x.dtype)


def data_cases(rng):
    """Draw the source's example, and data of other sizes."""

    def drawn(n, d, dtype=np.float64):
        return tuple(rng.standard_normal(shape).astype(dtype) for shape in ((n, d), (d,)))

    return [
        Case("the source's example", (np.arange(1.0, 10.0).reshape(3, 3), np.full(3, 0.5))),
        Case("two data of width 3", drawn(2, 3)),
        Case("one datum", drawn(1, 4)),
        Case("as many data as entries", drawn(4, 4)),
        Case("five data of width 2", drawn(5, 2)),
        Case("large entries", tuple(40 * (1 + np.abs(part)) for part in drawn(3, 4))),
        Case("float32", drawn(4, 3, dtype=np.float32)),
    ]


DATA = Exercise(
    name="weights_of_data",
    topic="softmax",
    title="The first source's weights",
    kind="find the bug",
    difficulty=1,
    minutes=6,
    prompt=(
        "The first of the course's two sources compares each datum $x_i$ with a vector $w$ and "
        "defines its weight as a sum over all data, $a_i = \\sum_j e^{w \\cdot x_j} / \\sum_m "
        "e^{w \\cdot x_m}$. The program below does what the formula says. Mend it, and with it "
        "the formula: `x` is (n, d), `w` is (d,), and the result holds one weight for each of the"
        " n data. No weight is negative, together they sum to 1, and $a_i / a_j = e^{w \\cdot x_i"
        " - w \\cdot x_j}$."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def weights_of_data(x, w):\n"
        "    scores = x @ w\n"
        "    exponentials = np.exp(scores - scores.max())\n"
        "    terms = exponentials / exponentials.sum()\n"
        "    return np.array([terms.sum() for row in x])\n"
    ),
    hints=(
        "Run it on any data. What comes out, and why does it not depend on the data?",
        "How many terms does the sum over j have, and what do they add up to?",
        "The sum over j stands in the denominator alone. The numerator of $a_i$ is one term, that "
        "of its own datum.",
    ),
    solve=by_one_vector,
    slips=(
        Slip(
            "every term summed",
            "The terms of a softmax are summed. They add up to 1, so every datum gets 1. The "
            "weight of a datum is its own term.",
            PAGE,
        ),
        OVERFLOW,
        *FORMULA,
        Slip(
            "the same for all",
            "All data get the same weight, 1 / n, whatever `x` and `w` are. The weight of a datum "
            "is its own term, which depends on it.",
            PAGE,
        ),
        Slip(
            "the largest takes all",
            "The datum of the largest score gets all of the weight. Every datum gets some, by its "
            "own term.",
            PAGE,
        ),
        Slip(
            "divided by the number of data",
            "The weights are divided by the number of data. They sum to 1 without it.",
            PAGE,
        ),
        Slip(
            "divided by the root",
            "The scores are divided by √d. This formula has no such scale.",
            "algorithm/dot_product",
        ),
        Slip(
            "w left out",
            "The entries of a datum are summed without `w`, which says how much each of them "
            "counts.",
            "concepts/query_key_value",
        ),
    ),
    cases=data_cases,
    right=(by_two_of_them, by_each_term),
    bug="every term summed",
)


SCORES, HOT = (1, 9, 64), 2.0
ROOTS = [math.sqrt(x) for x in SCORES]

WEIGHT = Exercise(
    name="weight_at_temperature",
    topic="softmax",
    title="A weight by hand",
    kind="predict",
    difficulty=1,
    minutes=4,
    prompt=(
        f"The scores are log {SCORES[0]}, log {SCORES[1]} and log {SCORES[2]}. Softmax with the "
        f"temperature {HOT:g} turns them into three weights. How large is the last one? No "
        "computer is needed; give a number, or a fraction such as `3 / 7`."
    ),
    hints=(
        "What does exp do to a logarithm?",
        f"The exponential of (log x) / {HOT:g} is the square root of x.",
        "The exponentials are 1, 3 and 8.",
    ),
    solve=predictions(
        ROOTS[2] / sum(ROOTS),
        {
            "temperature ignored": SCORES[2] / sum(SCORES),
            "multiplied by the temperature": SCORES[2] ** 2 / sum(x**2 for x in SCORES),
            "no exponential": math.log(SCORES[2]) / sum(math.log(x) for x in SCORES),
            "the largest takes all": 1.0,
            "all alike": 1 / 3,
            "divided afterwards": SCORES[2] / sum(SCORES) / HOT,
            "turned around": (1 / ROOTS[2]) / sum(1 / x for x in ROOTS),
            "not divided by the sum": ROOTS[2],
            "the second weight": ROOTS[1] / sum(ROOTS),
        },
    ),
    slips=(
        Slip("temperature ignored", "This is the weight at temperature 1.", PAGE),
        Slip(
            "multiplied by the temperature",
            "The scores were multiplied by the temperature. They are divided by it.",
            PAGE,
        ),
        Slip(
            "no exponential",
            "The scores themselves were divided by their sum. exp comes first.",
            PAGE,
        ),
        Slip(
            "the largest takes all",
            f"That is the limit of a temperature of 0. At {HOT:g} the others get something.",
            PAGE,
        ),
        Slip(
            "all alike",
            f"That is the limit of an infinite temperature. At {HOT:g} the weights differ.",
            PAGE,
        ),
        Slip(
            "divided afterwards",
            "The weight was divided by the temperature. It is the scores that are divided.",
            PAGE,
        ),
        Slip("turned around", "The largest score must get the largest weight.", PAGE),
        Slip("not divided by the sum", "The exponential was not divided by the sum of all.", PAGE),
        Slip("the second weight", "This is the weight in the middle.", PAGE),
    ),
    right=(2 / 3, round(8 / (1 + 3 + 8), 9)),
)

EXERCISES = (WEIGHT, DATA, SOFTMAX, ROWS, LOG_SOFTMAX)
