"""Exercises on the block of a transformer."""

import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, attended
from attn_course.exercises.exercise import Case, Exercise, Lines, Orders, Slip, predictions
from attn_course.reference.dot_product import attention
from attn_course.reference.softmax import softmax
from attn_course.reference.transformer import relu, rms_norm, silu

PAGE = "algorithm/transformer"
UNSCALED = next(slip for slip in WEIGHTS if slip.name == "unscaled")


def normed(slips, x, weight, bias, eps):
    """Normalize rows, with the slips of both norms."""
    axis, kept = -1, "axis not kept" not in slips
    if "over the rows" in slips:
        axis = 0
    if "axis 1 for the last" in slips:
        axis = 1
    if "over everything" in slips:
        axis = None
    if "eps written as a number" in slips:
        eps = 1e-6 if bias is None else 1e-5
    mean, given = x.mean(axis=axis, keepdims=kept), x
    if "mean not subtracted" in slips:
        mean = np.zeros_like(mean)
    if "mean subtracted" in slips:
        x = x - mean
    if bias is not None:
        x = x - mean
    if "the mean square for the variance" in slips:
        square = (given**2).mean(axis=axis, keepdims=kept)
    elif "the variance for the mean square" in slips:
        square = x.var(axis=axis, keepdims=kept)
    else:
        square = (x**2).mean(axis=axis, keepdims=kept)
    count = x.size if axis is None else x.shape[axis]
    if "one degree of freedom" in slips:
        square = square * (count / max(count - 1, 1))
    if "summed" in slips:
        square = square * count
    if "the largest entry" in slips:
        square = np.abs(x).max(axis=axis, keepdims=kept) ** 2
    if "the mean of the sizes" in slips:
        below = np.abs(x).mean(axis=axis, keepdims=kept) + eps
    elif "eps outside the root" in slips:
        below = np.sqrt(square) + eps
    elif "no root" in slips:
        below = square + eps
    elif "eps ignored" in slips:
        below = np.sqrt(square)
    else:
        below = np.sqrt(square + eps)
    normal = x / below
    if bias is not None and "bias before the weight" in slips:
        return (normal + bias) * weight
    if "the truth of the weight" in slips:
        weight = weight if weight else None
    if "weight ignored" not in slips and (weight is not None or "no weight multiplied" in slips):
        normal = normal * weight
    if "one more than the weight" in slips and weight is not None:
        normal = x / below * (1 + weight)
    return normal if bias is None or "bias ignored" in slips else normal + bias


COMMON = (
    Slip(
        "over the rows",
        "The mean runs along the first axis, over the rows, so one token depends on the others. "
        "Each row must be normalized by itself, along the last axis.",
        PAGE,
    ),
    Slip(
        "axis not kept",
        "The mean of each row has lost its axis, so it meets a column. `keepdims=True` keeps the "
        "axis.",
        "appendix/notation",
    ),
    Slip(
        "axis 1 for the last",
        "The mean runs along axis 1. That is the last axis only if exactly one stands before it: "
        "count from the end.",
        "appendix/notation",
    ),
    Slip(
        "over everything",
        "One mean is taken over all entries. Each row must be normalized by itself, along the last "
        "axis.",
        PAGE,
    ),
    Slip(
        "eps outside the root",
        "`eps` is added after the root. It must be added under the root, to the mean of the "
        "squares.",
        PAGE,
    ),
    Slip(
        "no root",
        "The row is divided by the mean of the squares, not by its root. A row that is twice as "
        "large comes out half as large.",
        PAGE,
    ),
    Slip("summed", "The squares are summed. Their mean must be taken.", PAGE),
    Slip(
        "eps ignored",
        "`eps` has no effect, and a row of zeros gives NaN. It must be added under the root.",
        PAGE,
    ),
    Slip(
        "eps written as a number",
        "The argument `eps` has no effect: a number stands in its place.",
        PAGE,
    ),
    Slip("weight ignored", "The argument `weight` has no effect. It must multiply.", PAGE),
    Slip(
        "one more than the weight",
        "The result is multiplied by 1 + weight. Some models store their weights like this; here "
        "the weight itself must multiply.",
        PAGE,
    ),
)


def layer(slips, x, weight, bias, eps=1e-5):
    """Give each row mean 0 and variance 1, then scale and shift."""
    return normed(slips, x, weight, bias, eps)


def root_mean_square(slips, x, weight=None, eps=1e-6):
    """Divide each row by its root mean square, then scale."""
    return normed(slips, x, weight, None, eps)


def norm_rows(rng, parts):
    """Draw rows and what is learned of a norm, `parts` arrays of one width."""

    def drawn(*shape, size=1.0, dtype=np.float64):
        x = size * rng.standard_normal(shape) + 0.7 * size
        learned = (rng.standard_normal(shape[-1]).astype(dtype) for _ in range(parts))
        return (x.astype(dtype), *learned)

    x, *learned = drawn(3, 4)
    x[1] = 0
    return [
        Case("one row", drawn(1, 3)),
        Case("three rows of width 4", drawn(3, 4)),
        Case("as many rows as entries", drawn(3, 3)),
        Case("a row of zeros", (x, *learned)),
        Case("small entries", drawn(2, 5, size=0.003)),
        Case("large entries", drawn(2, 5, size=300.0)),
        Case("a large eps", drawn(2, 4), {"eps": 0.5}),
        Case("a batch of 2", drawn(2, 3, 5)),
        Case("float32", drawn(4, 6, dtype=np.float32)),
    ]


def layer_by_numpy(x, weight, bias, eps=1e-5):
    """With NumPy's own variance."""
    below = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (x - x.mean(axis=-1, keepdims=True)) / below * weight + bias


def layer_by_moments(x, weight, bias, eps=1e-5):
    """A row at a time."""
    rows = x.reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    for i, row in enumerate(rows):
        centered = row - sum(row) / len(row)
        out[i] = centered * ((centered @ centered) / len(row) + eps) ** -0.5
    return out.reshape(x.shape) * weight + bias


LAYER_NORM = Exercise(
    name="layer_norm",
    topic="transformer",
    title="Layer normalization",
    kind="find the bug",
    difficulty=1,
    minutes=8,
    prompt=(
        "Each row of `x`, (..., d), is to get mean 0 and a variance of nearly 1, and then be "
        "multiplied by `weight` and shifted by `bias`, both (d,): $(x - \\mathrm{mean}) / "
        "\\sqrt{\\mathrm{variance} + \\varepsilon} \\cdot \\mathrm{weight} + \\mathrm{bias}$ with "
        "$\\varepsilon$ = `eps`. The variance of a row is the mean of its squared differences from "
        "the mean. The program below is slightly wrong, as is one in a well-known tutorial. Mend "
        "it."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def layer_norm(x, weight, bias, eps=1e-5):\n"
        "    mean = x.mean(axis=-1, keepdims=True)\n"
        "    variance = x.var(axis=-1, keepdims=True, ddof=1)\n"
        "    return (x - mean) / np.sqrt(variance + eps) * weight + bias\n"
    ),
    hints=(
        "Normalize the row [1, 5] by hand. What should come out, and what does?",
        "By what does `np.var` divide the sum of squares, and by what with `ddof=1`?",
        "The variance here is the mean of d squares, not their sum over d - 1.",
    ),
    solve=layer,
    slips=(
        Slip(
            "one degree of freedom",
            "The sum of squares is divided by d - 1, as for an estimate from a sample. It must be "
            "divided by d.",
            PAGE,
        ),
        *COMMON,
        Slip(
            "mean not subtracted",
            "The mean is not subtracted, so this is another norm. It must be subtracted before the "
            "squares are taken.",
            PAGE,
        ),
        Slip(
            "the mean square for the variance",
            "The mean of the squares stands in place of the variance. The mean must be subtracted "
            "before the squares are taken.",
            PAGE,
        ),
        Slip(
            "bias before the weight",
            "The bias is added before the weight multiplies. It must be added last.",
            PAGE,
        ),
        Slip("bias ignored", "The argument `bias` has no effect. It must be added.", PAGE),
    ),
    cases=lambda rng: norm_rows(rng, 2),
    right=(layer_by_numpy, layer_by_moments),
    bug="one degree of freedom",
)


def rms_by_norm(x, weight=None, eps=1e-6):
    """By the length of the rows."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    scaled = x / np.sqrt(length**2 / x.shape[-1] + eps)
    return scaled if weight is None else scaled * weight


def rms_by_einsum(x, weight=None, eps=1e-6):
    """By products of rows with themselves, and a power."""
    square = np.einsum("...d,...d->...", x, x)[..., None] / x.shape[-1]
    return x * (square + eps) ** -0.5 * (1 if weight is None else weight)


RMS_NORM = Exercise(
    name="rms_norm",
    topic="transformer",
    title="The norm without a mean",
    kind="implement",
    difficulty=1,
    minutes=8,
    prompt=(
        "Divide each row of `x`, (..., d), by its root mean square, and multiply it by `weight`, "
        "(d,), unless that is None: $x / \\sqrt{\\mathrm{mean}(x^2) + \\varepsilon} \\cdot "
        "\\mathrm{weight}$ with $\\varepsilon$ = `eps`. No mean is subtracted. A row of zeros "
        "gives zeros."
    ),
    starter="import numpy as np\n\n\ndef rms_norm(x, weight=None, eps=1e-6):\n    ...\n",
    hints=(
        "Along which axis does the mean run, and which shape must it have so that each row is "
        "divided by its own?",
        "`(x**2).mean(axis=-1, keepdims=True)` is (..., 1).",
        "`x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)`, times `weight` unless it is "
        "None.",
    ),
    solve=root_mean_square,
    slips=(
        Slip(
            "mean subtracted",
            "The mean is subtracted first. This norm must leave it in.",
            PAGE,
        ),
        *COMMON,
        Slip(
            "no weight multiplied",
            "Without a weight `weight` is None, and nothing can be multiplied by that. Ask whether "
            "`weight is None`.",
            PAGE,
        ),
        Slip(
            "the truth of the weight",
            "An array of several numbers is neither true nor false. Ask whether `weight is None`.",
            PAGE,
        ),
        Slip(
            "the variance for the mean square",
            "The row is divided by its standard deviation, which leaves the mean out. It must be "
            "divided by the root of the mean of its squares.",
            PAGE,
        ),
        Slip(
            "the mean of the sizes",
            "The row is divided by the mean of its absolute values. It must be divided by the root "
            "of the mean of its squares.",
            PAGE,
        ),
        Slip(
            "the largest entry",
            "The row is divided by its largest absolute value. It must be divided by the root of "
            "the mean of its squares.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        *norm_rows(rng, 1),
        Case("no weight", (rng.standard_normal((2, 3)),)),
    ],
    right=(rms_by_norm, rms_by_einsum),
)


def gated(slips, x, w_gate, w_up, w_down):
    """Send each row through gated units."""
    if "gate and value exchanged" in slips:
        w_gate, w_up = w_up, w_gate
    gate, up = x @ w_gate, x @ w_up
    sigmoid = 1 / (1 + np.exp(-gate))
    opened = gate * sigmoid
    if "sigmoid alone" in slips:
        opened = sigmoid
    if "relu" in slips:
        opened = np.maximum(gate, 0)
    if "tanh" in slips:
        opened = gate * np.tanh(gate)
    if "the exponent's sign" in slips:
        opened = gate / (1 + np.exp(gate))
    if "no activation" in slips:
        opened = gate
    if "gelu" in slips:
        opened = gate / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    if "parentheses missing" in slips:
        opened = gate / 1 + np.exp(-gate)
    if "the exponential overflows" in slips:
        opened = gate * np.exp(gate) / (1 + np.exp(gate))
    if "both activated" in slips:
        up = up / (1 + np.exp(-up))
    if "activated after the product" in slips:
        product = gate * up
        hidden = product / (1 + np.exp(-product))
    elif "added" in slips:
        hidden = opened + up
    elif "the gate alone" in slips:
        hidden = opened
    else:
        hidden = opened * up
    return hidden if "the way down left out" in slips else hidden @ w_down


def gated_by_einsum(x, w_gate, w_up, w_down):
    """With named axes."""
    gate = np.einsum("...d,dh->...h", x, w_gate)
    up = np.einsum("...d,dh->...h", x, w_up)
    return np.einsum("...h,...h,he->...e", silu(gate), up, w_down)


def gated_by_one_product(x, w_gate, w_up, w_down):
    """With both matrices side by side, and the sigmoid as a hyperbolic tangent."""
    gate, up = np.split(x @ np.concatenate([w_gate, w_up], axis=1), 2, axis=-1)
    return (gate * (1 + np.tanh(gate / 2)) / 2 * up) @ w_down


SWIGLU = Exercise(
    name="swiglu",
    topic="transformer",
    title="Gated units",
    kind="finish",
    difficulty=1,
    minutes=8,
    prompt=(
        "In this feed-forward network each hidden unit is gated by another: "
        "$(\\mathrm{silu}(x\\, W_\\text{gate}) \\odot (x\\, W_\\text{up}))\\, W_\\text{down}$ with "
        "$\\mathrm{silu}(z) = z / (1 + e^{-z})$, where $\\odot$ multiplies entry by entry. `x` is "
        "(..., d), `w_gate` and `w_up` are (d, hidden), `w_down` is (hidden, e), and the result is "
        "(..., e). Entries can be large, of either sign. The first two products are there; two "
        "lines are missing."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def swiglu(x, w_gate, w_up, w_down):\n"
        "    gate, up = x @ w_gate, x @ w_up\n"
        "    ...  # your two lines\n"
    ),
    hints=(
        "Only one of the two products goes through silu.",
        "silu(z) is z times the sigmoid of z, which is $1 / (1 + e^{-z})$.",
        "`hidden = gate / (1 + np.exp(-gate)) * up`, then `return hidden @ w_down`.",
    ),
    solve=gated,
    slips=(
        Slip(
            "sigmoid alone",
            "The gate is the sigmoid alone. silu is the sigmoid times its argument.",
            PAGE,
        ),
        Slip(
            "gate and value exchanged",
            "silu is applied to the product with `w_up`. It must be applied to the product with "
            "`w_gate`.",
            PAGE,
        ),
        Slip(
            "relu",
            "The gate is a ReLU. silu is smooth, and slightly negative below 0.",
            PAGE,
        ),
        Slip(
            "the exponent's sign",
            "The exponent has the wrong sign, so the gate opens for negative arguments. It must "
            "open for positive ones.",
            PAGE,
        ),
        Slip(
            "parentheses missing",
            "The gate is divided by 1, and the exponential is added to it. The whole of 1 + "
            "exp(-z) must stand in parentheses.",
            PAGE,
        ),
        Slip(
            "the exponential overflows",
            "For a large z, exp(z) / (1 + exp(z)) is inf / inf, which is NaN. With exp(-z) below "
            "the line it stays finite.",
            "concepts/softmax",
        ),
        Slip(
            "activated after the product",
            "silu is applied to the product of `gate` and `up`. It must be applied to `gate` "
            "before they meet.",
            PAGE,
        ),
        Slip("added", "The gate and `up` are added. They must be multiplied.", PAGE),
        Slip(
            "no activation",
            "silu is missing: `gate` and `up` are multiplied as they are.",
            PAGE,
        ),
        Slip(
            "both activated",
            "silu is applied to both `gate` and `up`. It must be applied to `gate` alone.",
            PAGE,
        ),
        Slip("the gate alone", "`up` has no effect. The gate must multiply it.", PAGE),
        Slip(
            "the way down left out",
            "The hidden units are returned. They must be multiplied by `w_down`.",
            PAGE,
        ),
        Slip("gelu", "The gate is a GELU. It must be a silu, z times the sigmoid of z.", PAGE),
        Slip("tanh", "The gate is z tanh(z). silu is z times the sigmoid of z.", PAGE),
    ),
    cases=lambda rng: [
        Case(what, tuple(scale * rng.standard_normal(shape).astype(dtype) for shape in shapes))
        for what, shapes, scale, dtype in (
            ("one row", ((1, 2), (2, 3), (2, 3), (3, 1)), 1, np.float64),
            ("three rows", ((3, 4), (4, 5), (4, 5), (5, 2)), 1, np.float64),
            ("one width for all", ((3, 3), (3, 3), (3, 3), (3, 3)), 1, np.float64),
            ("large entries", ((2, 3), (3, 4), (3, 4), (4, 2)), 40, np.float64),
            ("a batch of 2", ((2, 3, 4), (4, 6), (4, 6), (6, 4)), 1, np.float64),
            ("float32", ((3, 5), (5, 4), (5, 4), (4, 2)), 1, np.float32),
        )
    ],
    right=(gated_by_einsum, gated_by_one_product),
)


def block_cases(rng):
    """Draw rows and the matrices of one head and one feed-forward network."""

    def drawn(n, d, width, hidden, *batch, dtype=np.float64):
        shapes = [(*batch, n, d), (d, width), (d, width), (d, width), (width, d)]
        shapes += [(d, hidden), (hidden, d)]
        return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)

    return [
        Case("one row", drawn(1, 3, 2, 4)),
        Case("three rows", drawn(3, 4, 2, 5)),
        Case("one width for all", drawn(3, 3, 3, 3)),
        Case("five rows", drawn(5, 4, 3, 6)),
        Case("a batch of 2", drawn(3, 4, 2, 5, 2)),
        Case("float32", drawn(4, 5, 3, 7, dtype=np.float32)),
    ]


BLOCK = Lines(
    "def transformer_block(x, w_q, w_k, w_v, w_o, w_1, w_2):",
    (
        "x = x + relu(m @ w_1) @ w_2",
        "h = rms_norm(x)",
        "x = attention(h @ w_q, h @ w_k, h @ w_v) @ w_o",
        "return x",
        "x = rms_norm(x)",
        "m = rms_norm(x)",
        "x = relu(m @ w_1) @ w_2",
        "x = x + attention(h @ w_q, h @ w_k, h @ w_v) @ w_o",
    ),
    (attention, relu, rms_norm),
)

TRANSFORMER_BLOCK = Exercise(
    name="transformer_block",
    topic="transformer",
    title="A block with norms before",
    kind="order",
    difficulty=1,
    minutes=8,
    prompt=(
        "Put lines in order so that they make a block with norms before its steps: attention reads "
        "the normalized rows, and its result is added to the rows; then the feed-forward network "
        "does the same with the new rows. `x` is (..., n, d), and so is the result. Five lines "
        "make the block; three belong nowhere. `attention`, `relu` and `rms_norm` are those of the "
        "package. Answer with letters."
    ),
    hints=(
        "Which two lines add something to `x`? They are the two steps.",
        "Each step reads what was normalized right before it.",
        "Norm, attention added, norm, feed-forward added, return.",
    ),
    solve=Orders(
        BLOCK,
        "BHFAD",
        {
            "no path around attention": "BCFAD",
            "no path around the feed-forward network": "BHFGD",
            "feed-forward first": "FABHD",
            "one norm for both": "BFHAD",
            "normalized on the path": "EBHFAD",
            "normalized between the steps": "BHEFAD",
            "normalized at the end": "BHFAED",
            "feed-forward left out": "BHD",
            "attention left out": "FAD",
            "no path at all": "BCFGD",
        },
    ),
    slips=(
        Slip(
            "no path around attention",
            "The result of attention replaces the rows. It must be added to them: without the "
            "residual path a token loses what it was.",
            PAGE,
        ),
        Slip(
            "no path around the feed-forward network",
            "The result of the feed-forward network replaces the rows. It must be added to them.",
            PAGE,
        ),
        Slip(
            "feed-forward first",
            "The feed-forward network comes before attention. It must come after it.",
            PAGE,
        ),
        Slip(
            "one norm for both",
            "Both norms are taken of the rows at the start, so the feed-forward network does not "
            "read what attention found. Each norm must stand right before its step.",
            PAGE,
        ),
        Slip(
            "normalized on the path",
            "The rows themselves are normalized at the start. Only what a step reads must be.",
            PAGE,
        ),
        Slip(
            "normalized between the steps",
            "The rows themselves are normalized between the steps, as in a block with norms after "
            "its steps. Here only what a step reads must be.",
            PAGE,
        ),
        Slip(
            "normalized at the end",
            "The rows are normalized once more at the end. A stack of blocks does that once, after "
            "the last of them.",
            PAGE,
        ),
        Slip(
            "feed-forward left out",
            "The feed-forward network has no effect: it is missing, or stands after the return.",
            PAGE,
        ),
        Slip(
            "attention left out",
            "Attention has no effect, so no token sees another: it is missing, or stands after the "
            "return.",
            PAGE,
        ),
        Slip(
            "no path at all",
            "The results of both steps replace the rows. They must be added to them.",
            PAGE,
        ),
    ),
    cases=block_cases,
    right=("BHFAD", "b h f a d"),
    lines=BLOCK,
)


def parallel(slips, x, w_q, w_k, w_v, w_o, w_1, w_2):
    """Let attention and the feed-forward network read the same rows, and add both."""
    h = x if "not normalized" in slips else rms_norm(x)
    q, k, v = h @ w_q, h @ w_k, h @ w_v
    if "queries and keys exchanged" in slips:
        q, k = k, q
    found = attended(slips, q, k, v) @ w_o
    m = h
    if "one after the other" in slips:
        m = rms_norm(x + found)
    if "the network reads what attention found" in slips:
        m = found
    if "the network reads rows that are not normalized" in slips:
        m = x
    inner = m @ w_1
    hidden = inner if "no activation" in slips else np.maximum(inner, 0)
    made = hidden @ w_2
    if "the path normalized" in slips:
        x = h
    if "no path" in slips:
        x = np.zeros_like(x)
    if "the path twice" in slips:
        x = 2 * x
    if "attention left out" in slips:
        found = np.zeros_like(found)
    added = (found + made) / 2 if "halved" in slips else found + made
    return rms_norm(x + added) if "normalized at the end" in slips else x + added


def parallel_by_rows(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """With the weights of attention written out."""
    h = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    scores = np.einsum("...iw,...jw->...ij", h @ w_q, h @ w_k) / math.sqrt(w_q.shape[-1])
    mixed = softmax(scores) @ h
    return x + mixed @ (w_v @ w_o) + np.where(h @ w_1 > 0, h @ w_1, 0) @ w_2


def parallel_in_one_product(x, w_q, w_k, w_v, w_o, w_1, w_2):
    """With the first matrices side by side, and the last ones too."""
    joined = rms_norm(x) @ np.concatenate([w_q, w_k, w_v, w_1], axis=1)
    width = w_q.shape[1]
    q, k, v, inner = np.split(joined, [width, 2 * width, 3 * width], axis=-1)
    both = np.concatenate([attention(q, k, v), relu(inner)], axis=-1)
    return x + both @ np.concatenate([w_o, w_2], axis=0)


PARALLEL = Exercise(
    name="parallel_block",
    topic="transformer",
    title="Both steps at once",
    kind="extend",
    difficulty=2,
    minutes=15,
    prompt=(
        "Some models let attention and the feed-forward network read the same rows at the same "
        "time and add both results: $x + \\mathrm{attention}(h W_q, h W_k, h W_v)\\, W_o + "
        "\\mathrm{relu}(h W_1)\\, W_2$ with $h = \\mathrm{rms\\_norm}(x)$. `x` is (..., n, d), "
        "`w_q`, `w_k`, `w_v` are (d, width), `w_o` is (width, d), `w_1` is (d, hidden), `w_2` is "
        "(hidden, d), and the result has the shape of `x`. There is one head, no mask, and no "
        "bias; scores are divided by $\\sqrt{\\mathrm{width}}$ as usual."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import attention, rms_norm\n\n\n"
        "def parallel_block(x, w_q, w_k, w_v, w_o, w_1, w_2):\n"
        "    ...\n"
    ),
    hints=(
        "How many norms does this block have?",
        "`h` is computed once, both steps read it, and `x` itself is used again only at the end.",
        "`h = rms_norm(x)`; `x + attention(h @ w_q, h @ w_k, h @ w_v) @ w_o + "
        "np.maximum(h @ w_1, 0) @ w_2`.",
    ),
    solve=parallel,
    slips=(
        Slip(
            "one after the other",
            "The feed-forward network reads the rows to which attention was added. Both must read "
            "the same rows.",
            PAGE,
        ),
        Slip(
            "not normalized",
            "Both steps read rows that are not normalized. They must read `rms_norm(x)`.",
            PAGE,
        ),
        Slip(
            "normalized at the end",
            "The sum is normalized at the end. Only what the two steps read must be.",
            PAGE,
        ),
        Slip(
            "the network reads rows that are not normalized",
            "The feed-forward network reads `x`. It must read `h`, as attention does.",
            PAGE,
        ),
        Slip("no path", "`x` itself is missing from the sum. It must be added once.", PAGE),
        Slip(
            "the path normalized",
            "The normalized rows are added in place of `x`. The rows themselves must be added.",
            PAGE,
        ),
        Slip(
            "the path twice",
            "`x` is added twice, once for each step. It must be added once.",
            PAGE,
        ),
        Slip(
            "the network reads what attention found",
            "The feed-forward network reads the result of attention alone. It must read `h`, as "
            "attention does.",
            PAGE,
        ),
        Slip(
            "no activation",
            "The feed-forward network has no ReLU, so its two matrices do no more than one could.",
            PAGE,
        ),
        Slip("halved", "The two results are averaged. They must be added.", PAGE),
        Slip(
            "attention left out",
            "The result of attention is missing from the sum. It must be added.",
            PAGE,
        ),
        Slip(
            "queries and keys exchanged",
            "Queries are made by `w_k` and keys by `w_q`. It must be the other way around.",
            "concepts/query_key_value",
        ),
        UNSCALED,
    ),
    cases=block_cases,
    right=(parallel_by_rows, parallel_in_one_product),
    helpers=("attention", "rms_norm"),
)


WIDTH, HIDDEN, HEADS = 96, 384, 6
ATTENTION = 4 * (WIDTH**2 + WIDTH)
NETWORK = 2 * WIDTH * HIDDEN + HIDDEN + WIDTH
NORMS = 2 * 2 * WIDTH

PARAMETERS = Exercise(
    name="layer_parameters",
    topic="transformer",
    title="What a layer learns",
    kind="predict",
    difficulty=2,
    minutes=6,
    prompt=(
        f"An encoder layer has rows of width {WIDTH}, {HEADS} heads that share this width, and a "
        f"feed-forward network with {HIDDEN} hidden units between two matrices. All four "
        "projections of attention and both matrices of the network have biases, and each of the "
        f"two layer norms has a weight and a bias, both of width {WIDTH}. How many numbers does "
        "the layer learn? Give an integer; an expression will do."
    ),
    hints=(
        "Three parts: attention, the network, the norms.",
        f"Attention has four projections from width {WIDTH} to width {WIDTH}, however many heads "
        "there are.",
        "With width d and h hidden units: 4 (d² + d) for attention, 2 d h + h + d for the network, "
        "4 d for the norms.",
    ),
    solve=predictions(
        ATTENTION + NETWORK + NORMS,
        {
            "norms forgotten": ATTENTION + NETWORK,
            "biases forgotten": 4 * WIDTH**2 + 2 * WIDTH * HIDDEN + 2 * WIDTH,
            "biases of the norms alone": 4 * WIDTH**2 + 2 * WIDTH * HIDDEN + NORMS,
            "biases of the network forgotten": ATTENTION + 2 * WIDTH * HIDDEN + NORMS,
            "three projections": 3 * (WIDTH**2 + WIDTH) + NETWORK + NORMS,
            "projections for every head": HEADS * ATTENTION + NETWORK + NORMS,
            "one norm": ATTENTION + NETWORK + NORMS // 2,
            "norms of single numbers": ATTENTION + NETWORK + 4,
            "one matrix in the network": ATTENTION + WIDTH * HIDDEN + HIDDEN + NORMS,
            "attention alone": ATTENTION,
            "the network left out": ATTENTION + NORMS,
        },
    ),
    slips=(
        Slip(
            "norms forgotten",
            "Four times the width is missing. Either the norms are not counted, each of which has "
            "a weight and a bias, or the biases of the four projections are not.",
            PAGE,
        ),
        Slip(
            "biases forgotten",
            "No bias is counted. Projections, network and norms all have biases.",
            PAGE,
        ),
        Slip(
            "biases of the norms alone",
            "Of the biases only those of the norms are counted. Each projection and each matrix of "
            "the network has one too.",
            PAGE,
        ),
        Slip(
            "biases of the network forgotten",
            "The biases of the network are not counted. Each of its two matrices has one.",
            PAGE,
        ),
        Slip(
            "three projections",
            "Three projections were counted. Attention has four: queries, keys, values, and the "
            "output.",
            "algorithm/multi_head",
        ),
        Slip(
            "projections for every head",
            "Four projections of the whole width were counted for every head. The heads share the "
            "width, so four are enough for all.",
            "algorithm/multi_head",
        ),
        Slip(
            "one norm",
            "Only half of what the norms learn is counted: one norm, or both without their bias. "
            "There are two, each with a weight and a bias.",
            PAGE,
        ),
        Slip(
            "norms of single numbers",
            "A norm was counted with one number as its weight and one as its bias. Both have a "
            f"number for each of the {WIDTH} columns.",
            PAGE,
        ),
        Slip(
            "one matrix in the network",
            "The network was counted with one matrix. It has two: into the hidden units and out of "
            "them.",
            PAGE,
        ),
        Slip(
            "attention alone",
            "This is attention alone. The network and the norms learn too.",
            PAGE,
        ),
        Slip(
            "the network left out",
            "The feed-forward network is not counted. It is the largest part.",
            PAGE,
        ),
    ),
    right=(
        float(ATTENTION + NETWORK + NORMS),
        np.array(sum([4 * WIDTH * (WIDTH + 1), (WIDTH + 1) * HIDDEN, (HIDDEN + 1) * WIDTH, NORMS])),
    ),
)

EXERCISES = (PARAMETERS, LAYER_NORM, RMS_NORM, SWIGLU, TRANSFORMER_BLOCK, PARALLEL)
