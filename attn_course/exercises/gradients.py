"""Exercises on gradients."""

import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, drawn, scored
from attn_course.exercises.exercise import Case, Exercise, Slip, predictions
from attn_course.reference.dot_product import attention, attention_weights
from attn_course.reference.softmax import softmax, softmax_jacobian

PAGE = "algorithm/gradients"


def through_softmax(slips, weights, grad):
    """Turn a gradient of weights into one of scores."""
    if "softmax left out" in slips:
        return -grad if "sign turned around" in slips else grad
    axis, kept = -1, "axis not kept" not in slips
    if "sum over the queries" in slips:
        axis = -2
    if "sum over the first axis" in slips:
        axis = 0
    if "axis 1 for the last" in slips:
        axis = 1
    if "one mean for all rows" in slips:
        axis = None
    if "the diagonal alone" in slips:
        mean = weights * grad
    elif "a(1 - a) kept" in slips:
        mean = (weights * grad).sum(axis=axis, keepdims=kept) + weights * grad
    elif "mean not weighted" in slips:
        mean = grad.mean(axis=axis, keepdims=kept)
    elif "sum not weighted" in slips:
        mean = grad.sum(axis=axis, keepdims=kept)
    elif "nothing subtracted" in slips:
        mean = 0.0
    else:
        mean = (weights * grad).sum(axis=axis, keepdims=kept)
    out = grad - mean
    if "weights left out" not in slips:
        out = weights * out
    return -out if "sign turned around" in slips else out


SOFTMAX = (
    Slip(
        "the diagonal alone",
        "Only the diagonal of the Jacobian is used, a(1 - a). A score changes the other weights "
        "too: what one gains, the others lose.",
        PAGE,
    ),
    Slip(
        "softmax left out",
        "The gradient of the weights is passed on as that of the scores. Softmax lies between "
        "them, and its Jacobian must be multiplied in.",
        PAGE,
    ),
    Slip(
        "nothing subtracted",
        "Nothing is subtracted from the gradient. Then a shift of all scores would seem to matter, "
        "but softmax ignores it. The mean of the gradient under the weights must be subtracted.",
        PAGE,
    ),
    Slip(
        "axis not kept",
        "The sum over the keys has lost its axis, so the number of a row meets a column. "
        "`keepdims=True` keeps the axis.",
        PAGE,
    ),
    Slip(
        "mean not weighted",
        "The plain mean of the gradient is subtracted. It must be the mean under the weights.",
        PAGE,
    ),
    Slip(
        "sum not weighted",
        "The plain sum of the gradient is subtracted. It must be the sum of weight times gradient, "
        "the mean under the weights.",
        PAGE,
    ),
    Slip(
        "weights left out",
        "The weights are missing as a factor of the whole. The score of a hidden key changes "
        "nothing, so where the weight is 0 the gradient must be 0.",
        PAGE,
    ),
    Slip(
        "one mean for all rows",
        "One number is subtracted in all rows, summed over all of them. Each row is a softmax of "
        "its own, with a mean of its own: sum along the last axis alone.",
        PAGE,
    ),
    Slip(
        "sum over the queries",
        "The sum runs over the queries. It must run over the keys, the axis of softmax.",
        PAGE,
    ),
    Slip(
        "sign turned around",
        "The gradient of the scores has the wrong sign, as where the gradient is subtracted from "
        "its mean. The mean must be subtracted from the gradient.",
        PAGE,
    ),
)
ZERO_SCALE = Slip(
    "a scale of 0 taken for none",
    "A scale of 0 is taken for no scale, as `scale or ...` does. Ask whether `scale is None`.",
    "algorithm/dot_product",
)


def backward(slips, q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Turn a gradient of the output into those of queries, keys and values."""
    usual = 1.0 if "unscaled" in slips else 1 / math.sqrt(q.shape[-1])
    if "options ignored" in slips:
        bias, scale, softcap = 0.0, None, None
    scale = usual if scale is None else scale
    weights = scored(slips, q, k, mask, bias=bias, scale=scale, softcap=softcap)
    if ZERO_SCALE.name in slips:  # the weights are those of the package, which asks for None
        scale = scale or usual
    turn = np.transpose if "every axis transposed" in slips else (lambda x: x.swapaxes(-1, -2))
    grad_v = (weights if "values not transposed" in slips else turn(weights)) @ grad_output
    grad_scores = through_softmax(slips, weights, grad_output @ turn(v))
    if softcap is not None and not slips & {"softcap ignored", "softcap's slope left out"}:
        scores = scale * (q @ turn(k))
        if "softcap's slope with the bias" in slips and "bias ignored" not in slips:
            scores = scores + bias
        inner = scores if "softcap's slope not divided" in slips else scores / softcap
        grad_scores = grad_scores * (1 - np.tanh(inner) ** 2)
    by_q = 1.0 if "scale left out" in slips else scale
    by_k = 1.0 if slips & {"scale left out", "scale left out of the keys"} else scale
    turned = turn(grad_scores)
    grad_q = by_q * ((turned if "queries transposed" in slips else grad_scores) @ k)
    grad_k = by_k * ((grad_scores if "keys not transposed" in slips else turned) @ q)
    return grad_q, grad_k, grad_v


def backward_cases(rng):
    """Draw what attention was given, and a gradient of its output."""

    def with_grad(i, j, d, e, *batch, dtype=np.float64):
        q, k, v = drawn(rng, i, j, d, e, *batch, dtype=dtype)
        return q, k, v, rng.standard_normal((*batch, i, e)).astype(dtype)

    several = with_grad(3, 5, 4, 2)
    some = rng.random((3, 5)) < 0.6
    some[1] = False
    some[0, :3] = True
    square = np.tril(np.ones((4, 4), dtype=bool))
    return [
        Case("one query, two keys", with_grad(1, 2, 3, 1)),
        Case("two queries, three keys", with_grad(2, 3, 4, 2)),
        Case("as many of all", with_grad(3, 3, 3, 3)),
        Case("a causal mask", (*with_grad(4, 4, 4, 4), square)),
        Case("a query that may look nowhere", (*several, some)),
        Case("a batch of 2", with_grad(3, 4, 2, 5, 2)),
        Case("a scale of one's own", several, {"scale": 0.9}),
        Case("a scale of 0", several, {"scale": 0.0}),
        Case("a bias", several, {"bias": rng.standard_normal((3, 5))}),
        Case("a softcap", several, {"softcap": 1.2}),
        Case(
            "as many of all, with everything",
            (*with_grad(4, 4, 4, 4), square),
            {"bias": rng.standard_normal((4, 4)), "scale": 0.8, "softcap": 1.5},
        ),
        Case("float32", with_grad(3, 4, 5, 2, dtype=np.float32)),
    ]


def backward_by_jacobian(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """With the whole Jacobian of each row."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    weights = attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    grad_weights = np.einsum("...ie,...je->...ij", grad_output, v)
    grad_scores = np.einsum("...ijk,...ik->...ij", softmax_jacobian(weights), grad_weights)
    if softcap is not None:
        inner = scale * np.einsum("...id,...jd->...ij", q, k) / softcap
        grad_scores = grad_scores / np.cosh(inner) ** 2
    grad_q = scale * np.einsum("...ij,...jd->...id", grad_scores, k)
    grad_k = scale * np.einsum("...ij,...id->...jd", grad_scores, q)
    return grad_q, grad_k, np.einsum("...ij,...ie->...je", weights, grad_output)


def backward_by_output(q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None):
    """With the mean taken from the output, as FlashAttention does."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    options = dict(bias=bias, scale=scale, softcap=softcap)
    weights = attention_weights(q, k, mask, **options)
    mean = (grad_output * attention(q, k, v, mask, **options)).sum(axis=-1)[..., None]
    grad_scores = weights * (grad_output @ v.swapaxes(-1, -2) - mean) * scale
    if softcap is not None:
        bounded = np.tanh(scale * (q @ k.swapaxes(-1, -2)) / softcap)
        grad_scores = grad_scores - grad_scores * bounded**2
    down = (-1, -2)
    return (
        grad_scores @ k,
        grad_scores.swapaxes(*down) @ q,
        weights.swapaxes(*down) @ grad_output,
    )


FORWARD = ("unscaled", "every axis transposed", "mask ignored", "bias ignored", "softcap ignored")

BACKWARD = Exercise(
    name="attention_backward",
    topic="gradients",
    title="Attention backward",
    kind="implement",
    difficulty=3,
    minutes=35,
    prompt=(
        "`attention` was called with `q`, (..., queries, d), `k`, (..., keys, d), `v`, (..., keys, "
        "e), and the options; `grad_output`, (..., queries, e), is the gradient of a loss with "
        "respect to its output. Return the gradients with respect to `q`, `k` and `v`, of the same "
        "shapes. The scores $q \\cdot k$ are multiplied by `scale`, $1/\\sqrt d$ unless given; "
        "with a `softcap` they become `softcap * tanh(scores / softcap)`; then the "
        "`bias` is added, and `mask` says where a query may look. A query that may look nowhere "
        "has an output of zeros, so it adds nothing to any gradient. `attention_weights` gives the "
        "weights."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import attention_weights\n\n\n"
        "def attention_backward(\n"
        "    q, k, v, grad_output, mask=True, *, bias=0.0, scale=None, softcap=None\n"
        "):\n"
        "    ...\n"
        "    # return grad_q, grad_k, grad_v\n"
    ),
    hints=(
        "Go backward through three steps: average, softmax, scores. Which shape does the gradient "
        "have after each?",
        "dV = Wᵀ dO. dW = dO Vᵀ. Through softmax, entry by entry: dS = W · (dW - m), where m is "
        "the sum of W · dW over the keys.",
        "With a softcap dS is multiplied by 1 - tanh²(scores / softcap), with scores that are "
        "scaled and have no bias. Then dQ = scale · dS K and dK = scale · dSᵀ Q.",
    ),
    solve=backward,
    slips=(
        *(slip for slip in SOFTMAX if slip.name != "one mean for all rows"),
        Slip(
            "softcap's slope left out",
            "The softcap bends the scores. Its slope, 1 - tanh², must be a factor of their "
            "gradient.",
            PAGE,
        ),
        Slip(
            "softcap's slope not divided",
            "The slope of tanh is taken at the scores themselves. In the forward pass tanh was "
            "given scores / softcap, so its slope must be taken there.",
            PAGE,
        ),
        Slip(
            "softcap's slope with the bias",
            "The slope of tanh is taken at scores that have the bias already. The softcap comes "
            "before the bias.",
            PAGE,
        ),
        Slip(
            "scale left out",
            "The scale is missing in the gradients of queries and keys. Scores are the scale times "
            "q · k, so it must be a factor of both.",
            PAGE,
        ),
        Slip(
            "scale left out of the keys",
            "The scale is missing in the gradient of the keys. It must be a factor of both, that "
            "of the queries and that of the keys.",
            PAGE,
        ),
        Slip(
            "values not transposed",
            "The gradient of the values was computed as W dO. It must be Wᵀ dO: each value gets "
            "back from every query, by the weight that it had there.",
            PAGE,
        ),
        Slip(
            "keys not transposed",
            "The gradient of the keys was computed as dS Q. It must be dSᵀ Q, with a row for each "
            "key.",
            PAGE,
        ),
        Slip(
            "queries transposed",
            "The gradient of the queries was computed as dSᵀ K. It must be dS K, with a row for "
            "each query.",
            PAGE,
        ),
        Slip(
            "options ignored",
            "`bias`, `scale` and `softcap` have no effect. They must be handed on to "
            "`attention_weights`, and scale and softcap also matter in the backward pass.",
            PAGE,
        ),
        *(s for s in WEIGHTS if s.name in FORWARD),
        ZERO_SCALE,
    ),
    cases=backward_cases,
    right=(backward_by_jacobian, backward_by_output),
    helpers=("attention_weights",),
    parts=("grad_q", "grad_k", "grad_v"),
)


def pulled(slips, weights, grad_weights):
    """Turn a gradient of weights into one of scores."""
    return through_softmax(slips, weights, grad_weights)


def weight_cases(rng):
    """Draw weights and gradients."""
    hidden = softmax(rng.standard_normal((3, 4)))
    hidden[1] = 0
    return [
        Case("one row of two", (softmax(rng.standard_normal((1, 2))), rng.standard_normal((1, 2)))),
        Case("two rows of three", tuple(f(rng.standard_normal((2, 3))) for f in (softmax, np.abs))),
        Case(
            "as many rows as weights",
            (softmax(rng.standard_normal((3, 3))), rng.standard_normal((3, 3))),
        ),
        Case("a row of zeros", (hidden, rng.standard_normal((3, 4)))),
        Case(
            "a batch of 2",
            (softmax(rng.standard_normal((2, 3, 5))), rng.standard_normal((2, 3, 5))),
        ),
        Case(
            "float32",
            (
                softmax(rng.standard_normal((4, 6)).astype(np.float32)),
                rng.standard_normal((4, 6)).astype(np.float32),
            ),
        ),
    ]


def pulled_by_jacobian(weights, grad_weights):
    """With the whole Jacobian."""
    return (softmax_jacobian(weights) @ grad_weights[..., None])[..., 0]


def pulled_by_pairs(weights, grad_weights):
    """As a sum over all pairs of keys."""
    differences = grad_weights[..., :, None] - grad_weights[..., None, :]
    return (
        weights
        * (weights[..., None, :] * differences).sum(axis=-1)
        / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    )


THROUGH = Exercise(
    name="scores_gradient",
    topic="gradients",
    title="Back through softmax",
    kind="find the bug",
    difficulty=2,
    minutes=8,
    prompt=(
        "`weights`, (..., n), are what softmax returned along the last axis, and `grad_weights`, "
        "of the same shape, is the gradient of a loss with respect to them. The gradient with "
        "respect to the scores, again of this shape, is asked for. The program below uses a slope "
        "that many textbooks print, that of one probability with respect to its own score. "
        "Something is missing. Mend it, for any number of axes in front. A row of zeros, as of a "
        "query that may look nowhere, gives zeros."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def scores_gradient(weights, grad_weights):\n"
        "    return weights * (1 - weights) * grad_weights\n"
    ),
    hints=(
        "Let `grad_weights` be the same number everywhere. What must the gradient be, since the "
        "weights always sum to 1?",
        "The Jacobian has the entries $a_i(\\delta_{ij} - a_j)$. What stands off the diagonal?",
        "With weights a and gradient g, entry i is $a_i (g_i - \\sum_j a_j g_j)$.",
    ),
    solve=pulled,
    slips=(
        *SOFTMAX,
        Slip(
            "a(1 - a) kept",
            "The factor a(1 - a) is kept and the sum over all keys is subtracted as well, so the "
            "diagonal is taken away twice. If the sum has all keys, the factor is a alone.",
            PAGE,
        ),
        Slip(
            "axis 1 for the last",
            "The sum runs along axis 1. That is the last axis only if exactly one stands before "
            "it: count from the end.",
            "appendix/notation",
        ),
        Slip(
            "sum over the first axis",
            "The sum runs along the first axis. It must run along the last, the axis of softmax.",
            PAGE,
        ),
    ),
    cases=weight_cases,
    right=(pulled_by_jacobian, pulled_by_pairs),
    bug="the diagonal alone",
)


def heat(slips, scores, grad_weights, temperature):
    """Say how a loss changes with the temperature."""
    weights = softmax(scores, temperature=temperature)
    if "weights at temperature 1" in slips:
        weights = softmax(scores)
    inner = through_softmax(slips, weights, grad_weights)
    each = scores * inner
    power = 1 if "not squared" in slips else 2
    if "divided before as well" in slips:
        power += 1
    if slips & {"inner slope left out", "as for a factor"}:
        power = 0
    sign = 1 if slips & {"minus forgotten", "as for a factor"} else -1
    axis = None if "summed over the rows" in slips else -1
    return (sign * each / temperature**power).sum(axis=axis).astype(scores.dtype)


def heat_cases(rng):
    """Draw scores, gradients and temperatures."""
    return [
        Case(
            what,
            (
                rng.standard_normal(shape).astype(dtype),
                rng.standard_normal(shape).astype(dtype),
                temperature,
            ),
        )
        for what, shape, temperature, dtype in (
            ("two scores", (2,), 2.0, np.float64),
            ("two rows of three", (2, 3), 0.5, np.float64),
            ("as many rows as scores", (3, 3), 1.5, np.float64),
            ("a temperature of 1", (2, 4), 1.0, np.float64),
            ("a batch of 2", (2, 3, 4), 3.0, np.float64),
            ("float32", (3, 5), 0.7, np.float32),
        )
    ]


def heat_by_covariance(scores, grad_weights, temperature):
    """As minus a covariance of scores and gradient under the weights, over t squared."""
    a = softmax(scores / temperature)
    mean = (a * scores).sum(axis=-1, keepdims=True)
    covariance = (a * (scores - mean) * grad_weights).sum(axis=-1)
    return -covariance / temperature**2


def heat_by_complex_step(scores, grad_weights, temperature):
    """By a step into the imaginary numbers, without rounding."""
    step = 1e-30
    z = scores.astype(np.complex128) / (temperature + 1j * step)
    z = np.exp(z - z.real.max(axis=-1, keepdims=True))
    return ((z / z.sum(axis=-1, keepdims=True)).imag * grad_weights).sum(axis=-1) / step


HEAT = Exercise(
    name="temperature_gradient",
    topic="gradients",
    title="Learning a temperature",
    kind="extend",
    difficulty=3,
    minutes=20,
    prompt=(
        "The weights are softmax(scores / t) along the last axis, and `grad_weights` is the "
        "gradient of a loss with respect to them; `scores` and `grad_weights` are (..., n), "
        "`temperature` is the number t, above 0. Return for each row the derivative of the loss "
        "with respect to t, of shape (...): by how much the loss of that row grows, for each unit "
        "of temperature, when the temperature is raised a little. `softmax` works along the last "
        "axis."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import softmax\n\n\n"
        "def temperature_gradient(scores, grad_weights, temperature):\n"
        "    ...\n"
    ),
    hints=(
        "Chain rule: how does the loss change with scores / t, and how does that change with t?",
        "With weights a and gradient g the first is $a_i (g_i - \\sum_j a_j g_j)$.",
        "With scores x the second is $-x_i / t^2$. Multiply, and sum over the scores of a row.",
    ),
    solve=heat,
    slips=(
        Slip(
            "minus forgotten",
            "The minus is missing. The derivative of 1/t is -1/t²: a higher temperature brings "
            "scores together.",
            PAGE,
        ),
        Slip(
            "not squared",
            "The result is divided by t once. The derivative of 1/t is -1/t², so it must be "
            "divided by t twice.",
            PAGE,
        ),
        Slip(
            "divided before as well",
            "The result is divided by t three times: once as the scores were overwritten by scores "
            "/ t, and twice as the derivative -1/t². That derivative belongs to the scores as they "
            "were given.",
            PAGE,
        ),
        Slip(
            "summed over the rows",
            "The derivatives of all rows are added to one number. Each row has a loss of its own "
            "here: sum along the last axis alone.",
            PAGE,
        ),
        Slip(
            "inner slope left out",
            "Of the derivative of 1/t only the sign is there. It is -1/t².",
            PAGE,
        ),
        Slip(
            "as for a factor",
            "This is the derivative with respect to a factor of the scores. The temperature "
            "divides them.",
            PAGE,
        ),
        Slip(
            "weights at temperature 1",
            "The weights are those of temperature 1. They must be softmax(scores / t): the "
            "derivative is taken at the temperature that is given.",
            PAGE,
        ),
        *(s for s in SOFTMAX if s.name not in ("sum over the queries", "sign turned around")),
    ),
    cases=heat_cases,
    right=(heat_by_covariance, heat_by_complex_step),
    helpers=("softmax",),
)


KEYS, VALUES, WIDTH = (1.0, 4.0), (2.0, 12.0), 16
MEAN = sum(VALUES) / 2
ROOT = math.sqrt(WIDTH)
SLOPE = sum((v - MEAN) * k for v, k in zip(VALUES, KEYS, strict=True)) / 2 / ROOT
PRODUCTS = sum(v * k for v, k in zip(VALUES, KEYS, strict=True))

DERIVATIVE = Exercise(
    name="query_slope",
    topic="gradients",
    title="A derivative by hand",
    kind="predict",
    difficulty=2,
    minutes=8,
    prompt=(
        f"Queries and keys have width {WIDTH}. There are two keys. Their first coordinates are "
        f"{KEYS[0]:g} and {KEYS[1]:g}, their other coordinates are 0, and their values are the "
        f"numbers {VALUES[0]:g} and {VALUES[1]:g}. The scores are divided by the root of the "
        "width, as usual. All coordinates of the query are 0. How fast does the output, a number, "
        "change with the first coordinate of the query? Give the derivative as an exact number."
    ),
    hints=(
        "Which weights does a query of zeros give to the two keys?",
        "The derivative is $\\sum_j a_j (v_j - y)\\, s_j'$ with weights a, values v and output y, "
        "where $s_j'$ is how fast score j changes.",
        f"The output y is {MEAN:g}, both weights are 1/2, and the slopes of the scores are "
        f"{KEYS[0]:g}/{ROOT:g} and {KEYS[1]:g}/{ROOT:g}.",
    ),
    solve=predictions(
        SLOPE,
        {
            "scale forgotten": SLOPE * ROOT,
            "mean not subtracted": PRODUCTS / 2 / ROOT,
            "divided by the width": SLOPE / ROOT,
            "weights left out": SLOPE * 2,
            "the diagonal alone": PRODUCTS / 4 / ROOT,
            "mean key times output": MEAN * sum(KEYS) / 2 / ROOT,
            "the output": MEAN,
            "sign turned around": -SLOPE,
            "keys left out": (VALUES[1] - VALUES[0]) / 4 / ROOT,
            "keys and scale left out": (VALUES[1] - VALUES[0]) / 4,
            "no change at all": 0.0,
        },
    ),
    slips=(
        Slip(
            "scale forgotten",
            f"The scale is missing. The scores are divided by √{WIDTH}, so their slopes are too.",
            "algorithm/dot_product",
        ),
        Slip(
            "mean not subtracted",
            "The output was not subtracted from the values. What one weight gains the other loses, "
            "so only the difference of each value from the output counts.",
            PAGE,
        ),
        Slip(
            "divided by the width",
            f"The scores were divided by {WIDTH}. They must be divided by the root of the width.",
            "algorithm/dot_product",
        ),
        Slip(
            "weights left out",
            "The weights are missing. Each key counts by its weight, 1/2 for both.",
            PAGE,
        ),
        Slip(
            "the diagonal alone",
            "Only the diagonal of the Jacobian was used, a(1 - a). Each score changes both "
            "weights.",
            PAGE,
        ),
        Slip(
            "mean key times output",
            "This is how fast the mean score changes, times the output. It is what must be "
            "subtracted, not the result.",
            PAGE,
        ),
        Slip(
            "the output",
            "This is the output itself, the mean of the values. The question is how fast it "
            "changes.",
            PAGE,
        ),
        Slip(
            "sign turned around",
            "The sign is wrong. The key with the larger value has the larger coordinate, so its "
            "weight and the output grow.",
            PAGE,
        ),
        Slip(
            "keys left out",
            "The difference of the keys was taken to be 1. Each score changes by its key's "
            "coordinate, and these differ by more.",
            PAGE,
        ),
        Slip(
            "keys and scale left out",
            "This is a(1 - a) times the difference of the values. It lacks how fast the difference "
            "of the scores changes: by that of the keys, divided by the root of the width.",
            PAGE,
        ),
        Slip(
            "no change at all",
            "The answer says that the output does not change. The weights are equal at this query, "
            "but they change with it, and the values differ.",
            PAGE,
        ),
    ),
    right=(15 / 8, np.array([-2.5, 2.5]) @ np.array([0.25, 1.0])),
)

EXERCISES = (DERIVATIVE, THROUGH, BACKWARD, HEAT)
