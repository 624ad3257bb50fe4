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
    if "no exponential" in slips:
        return scaled / scaled.sum(axis=axis, keepdims=True)
    if "sigmoid" in slips:
        return 1 / (1 + np.exp(-scaled))
    if "one maximum for all" in slips:
        top = scaled.max(initial=-np.inf)
    elif "overflow" in slips:
        top = np.zeros_like(scaled.max(axis=axis, keepdims=True, initial=-np.inf))
    else:
        top = scaled.max(axis=axis, keepdims=True, initial=-np.inf)
    if "a row of -inf" not in slips:
        top = np.where(top == -np.inf, 0, top)
    shifted = scaled - top
    exponentials = np.exp2(shifted) if "powers of two" in slips else np.exp(shifted)
    total = exponentials.sum(axis=axis, keepdims=True)
    if "one sum for all" in slips:
        total = exponentials.sum()
    if "not divided" in slips:
        return exponentials.astype(x.dtype)
    if "divided by the length" in slips:
        total = np.sqrt((exponentials**2).sum(axis=axis, keepdims=True))
    if "a row of -inf" not in slips:
        total = np.where(total == 0, 1, total)
    return (exponentials / total).astype(x.dtype)


OVERFLOW = Slip(
    "overflow",
    "Large scores overflow: exp(1000) is inf, and inf / inf is NaN. Subtract the largest score of "
    "each row first; the weights do not change by it.",
    PAGE,
)
ROW_OF_INF = Slip(
    "a row of -inf",
    "A row of -inf gives NaN, since its maximum is -inf as well. Nothing may be looked at there, "
    "and all weights are 0.",
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
        Case("no score", (np.zeros((2, 0)),)),
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
        "Turn scores into weights that are not negative and sum to 1 along `axis`: "
        "$e^{x_i / t} / \\sum_j e^{x_j / t}$ with the temperature $t$. It must hold for scores in "
        "the thousands. A score of -inf gets weight 0; where all scores are -inf, or there is "
        "none, all weights are 0."
    ),
    starter=("import numpy as np\n\n\ndef softmax(x, axis=-1, temperature=1.0):\n    ...\n"),
    hints=(
        "What is exp(1000) in float64? Which number may be subtracted from all scores of a row "
        "without changing its weights?",
        "`x.max(axis=axis, keepdims=True, initial=-np.inf)` keeps the axis, so that it can be "
        "subtracted.",
        "Where the maximum is -inf subtract 0 instead, and where the sum is 0 divide by 1.",
    ),
    solve=weighed,
    slips=(
        OVERFLOW,
        AXIS,
        ROW_OF_INF,
        ONE_MAXIMUM,
        Slip(
            "one sum for all",
            "All weights together sum to 1. Each row sums to 1: `keepdims=True` along the axis.",
            PAGE,
        ),
        Slip(
            "multiplied by the temperature",
            "The scores are multiplied by the temperature. They are divided by it: hot is even.",
            PAGE,
        ),
        Slip("temperature ignored", "The argument `temperature` has no effect.", PAGE),
        *FORMULA,
        Slip("powers of two", "The base is 2 where it should be e.", PAGE),
        Slip(
            "divided by the length",
            "The exponentials are divided by the root of the sum of their squares. The weights "
            "themselves must sum to 1.",
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
        return x - below
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
        "A loss needs $\\log a_i$, the logarithms of the weights along `axis`. Weights as small as "
        "$e^{-800}$ are 0 in floating point, and the logarithm of that is -inf, though -800 is a "
        "number like any other. Compute the logarithms without the weights. A score of -inf gives "
        "-inf, and so does every score of a row that has no other."
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
        OVERFLOW,
        AXIS,
        Slip(
            "the maximum forgotten",
            "The maximum was subtracted inside the sum and is missing outside: the logarithm of "
            "the sum is m + log of what is left.",
            PAGE,
        ),
        ROW_OF_INF,
        ONE_MAXIMUM,
        Slip("one sum for all", "One sum is taken over all rows. Each row has its own.", PAGE),
        Slip(
            "no logarithm of the sum",
            "The sum itself is subtracted, not its logarithm.",
            PAGE,
        ),
        Slip(
            "the maximum alone",
            "Only the maximum is subtracted, so the largest logarithm of each row is 0.",
            PAGE,
        ),
        Slip(
            "sign turned around",
            "The sign is turned around: logarithms of weights are not positive.",
            PAGE,
        ),
        Slip(
            "mean instead of sum",
            "The mean of the exponentials is taken where their sum stands.",
            PAGE,
        ),
        Slip("logarithm to base two", "The logarithm is to base 2; exp is to base e.", PAGE),
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
        "Each row of `scores`, (..., n), is to become weights that sum to 1. The program below "
        "subtracts a maximum, as it should, and gives right weights for most scores. Yet a model "
        "that used it broke down in the middle of training. Mend it. Where all scores of a row are "
        "-inf its weights are 0."
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
        Slip("one sum for all", "All rows together sum to 1. Each row sums to 1.", PAGE),
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
        "The first source compares each datum $x_i$ with a vector $w$ and defines its weight as a "
        "sum over all data, $a_i = \\sum_j e^{w \\cdot x_j} / \\sum_m e^{w \\cdot x_m}$. The "
        "program below does what the formula says. Mend it, and with it the formula: `x` is (n, "
        "d), `w` is (d,), and the result holds one weight for each of the n data. No weight is "
        "negative, together they sum to 1, and $a_i / a_j = e^{w \\cdot x_i - w \\cdot x_j}$."
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
            "the largest takes all",
            "The datum of the largest score gets all of the weight. That is the limit of a "
            "temperature of 0.",
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
            "The entries of a datum are summed without `w`, which says what counts.",
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
        f"A score divided by {HOT:g}, in exp, is a root.",
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
        Slip("no exponential", "The scores themselves were compared. exp comes first.", PAGE),
        Slip(
            "the largest takes all",
            "That is the limit of a temperature of 0. At 2 the others get something.",
            PAGE,
        ),
        Slip("all alike", "That is the limit of an infinite temperature.", PAGE),
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
