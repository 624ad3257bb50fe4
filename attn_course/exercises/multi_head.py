"""Exercises on heads."""

import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, attended, drawn
from attn_course.exercises.exercise import Case, Exercise, Slip, predictions
from attn_course.reference.dot_product import attention

PAGE = "algorithm/multi_head"


def grouped(slips, q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """Attend with groups of query heads that share a key head."""
    group = q.shape[-3] // k.shape[-3]
    h = np.arange(q.shape[-3])
    owner = h // group
    if "heads tiled" in slips:
        owner = h % k.shape[-3]
    if "divided by the number of key heads" in slips:
        owner = h // k.shape[-3]
    if "the first key head for all" in slips:
        owner = np.zeros_like(h)
    if "key heads in reverse" in slips:
        owner = k.shape[-3] - 1 - h // group
    if "options ignored" in slips:
        bias, scale, softcap = 0.0, None, None
    if "heads taken for the first axis" in slips:
        keys, values = (np.repeat(x, group, axis=0) for x in (k, v))
    else:
        keys, values = k[..., owner, :, :], v[..., owner, :, :]
    if "key heads averaged" in slips:
        shape = keys.shape, values.shape
        keys = np.broadcast_to(k.mean(axis=-3, keepdims=True), shape[0])
        values = np.broadcast_to(v.mean(axis=-3, keepdims=True), shape[1])
    if "values of the first head" in slips:
        values = v[..., np.zeros_like(h), :, :]
    if "queries averaged in a group" in slips:
        pooled = q.reshape(*q.shape[:-3], k.shape[-3], group, *q.shape[-2:]).mean(axis=-3)
        q = np.repeat(pooled, group, axis=-3)
    out = attended(slips, q, keys, values, mask, bias=bias, scale=scale, softcap=softcap)
    if "outputs of a group averaged" in slips:
        pooled = out.reshape(*out.shape[:-3], k.shape[-3], group, *out.shape[-2:]).mean(axis=-3)
        out = np.repeat(pooled, group, axis=-3)
    return out


SHARED = (
    "unscaled",
    "empty row",
    "mask after softmax",
    "mask turned around",
    "mask ignored",
    "every axis transposed",
    "softcap ignored",
    "bias ignored",
    "scale ignored",
)


def grouped_cases(rng):
    """Draw heads that share keys."""

    def heads(asked, kept, i, j, d, e, *batch, dtype=np.float64):
        q, *_ = drawn(rng, i, j, d, e, *batch, asked, dtype=dtype)
        _, k, v = drawn(rng, i, j, d, e, *batch, kept, dtype=dtype)
        return q, k, v

    several = heads(6, 2, 3, 5, 4, 2)
    some = rng.random((3, 5)) < 0.5
    some[0], some[1] = False, True
    each = rng.random((6, 3, 5)) < 0.6
    return [
        Case("two query heads, one key head", heads(2, 1, 1, 2, 3, 1)),
        Case("four query heads, two key heads", heads(4, 2, 2, 3, 3, 2)),
        Case("six query heads, two key heads", several),
        Case("as many key heads", heads(3, 3, 2, 4, 3, 2)),
        Case("as many heads as queries as keys as features", heads(4, 2, 4, 4, 4, 4)),
        Case("a mask with an empty row", (*several, some)),
        Case("a mask for every head", (*several, each)),
        Case("a bias for every head", several, {"bias": rng.standard_normal((6, 3, 5))}),
        Case("a scale and a softcap", several, {"scale": 1.5, "softcap": 1.0}),
        Case("a scale of 0", several, {"scale": 0.0}),
        Case(
            "mask, bias, scale and softcap at once",
            (*several, some),
            {"bias": rng.standard_normal((3, 5)), "scale": 0.8, "softcap": 1.5},
        ),
        Case("a batch of 2", heads(4, 2, 3, 2, 5, 3, 2)),
        Case("float32", heads(4, 1, 3, 4, 6, 2, dtype=np.float32)),
    ]


def grouped_by_repeating(q, k, v, mask=True, **options):
    """With the keys written out for every head."""
    group = q.shape[-3] // k.shape[-3]
    k, v = (np.repeat(x, group, axis=-3) for x in (k, v))
    return attention(q, k, v, mask, **options)


def grouped_by_axes(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None):
    """With an axis of its own for the members of a group."""
    *batch, heads, queries, d = q.shape
    kept, keys = k.shape[-3:-1]
    group = heads // kept
    scale = d**-0.5 if scale is None else scale
    scores = scale * np.einsum(
        "...gmid,...gjd->...gmij", q.reshape(*batch, kept, group, queries, d), k
    )
    scores = scores.reshape(*batch, heads, queries, keys)
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    scores = np.where(mask, scores + bias, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(top == -np.inf, 0, top))
    weights = weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    weights = weights.reshape(*batch, kept, group, queries, keys)
    out = np.einsum("...gmij,...gje->...gmie", weights, v)
    return out.reshape(*batch, heads, queries, v.shape[-1])


GROUPED = Exercise(
    name="grouped_query_attention",
    topic="multi_head",
    title="Heads that share keys",
    kind="implement",
    difficulty=2,
    minutes=15,
    prompt=(
        "`q` is (..., heads, queries, d), `k` is (..., kept, keys, d) and `v` is (..., kept, keys, "
        "e), where `kept` divides `heads`. Neighboring query heads share a key head and a value "
        "head: with 6 query heads and 2 key heads, the first three query heads use key head 0. "
        "Attend, with `mask`, `bias`, `scale` and `softcap` as in `attention`; mask and bias "
        "broadcast to (..., heads, queries, keys). The result is (..., heads, queries, e). A query "
        "that may look nowhere gets zeros."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import attention\n\n\n"
        "def grouped_query_attention(\n"
        "    q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None\n"
        "):\n"
        "    ...\n"
    ),
    hints=(
        "Which key head belongs to query head h?",
        "`np.repeat` and `np.tile` both make 6 heads of 2. In which order?",
        "`k = np.repeat(k, q.shape[-3] // k.shape[-3], axis=-3)`, the same for `v`, then "
        "`attention`.",
    ),
    solve=grouped,
    slips=(
        Slip(
            "heads tiled",
            "The key heads are tiled: with 6 query heads and 2 key heads, the query heads 0, 2 and "
            "4 use key head 0. Neighbors must share a key head: `np.repeat`, not `np.tile`.",
            PAGE,
        ),
        Slip(
            "the first key head for all",
            "All query heads use the first key head, as if it were the only one. Each group has "
            "one of its own: head h uses key head h // (heads / kept).",
            PAGE,
        ),
        Slip(
            "key heads averaged",
            "The key heads are averaged into one, which all query heads use. Each group has a key "
            "head of its own.",
            PAGE,
        ),
        Slip(
            "heads taken for the first axis",
            "The key heads are repeated along the first axis. With a batch in front that is not "
            "the axis of the heads; counted from the end it always is, axis -3.",
            PAGE,
        ),
        Slip(
            "options ignored",
            "`bias`, `scale` and `softcap` have no effect. They must be handed on to `attention`.",
            "algorithm/dot_product",
        ),
        Slip(
            "divided by the number of key heads",
            "Query head h is given key head h // kept. The number to divide by is that of the "
            "query heads in a group.",
            PAGE,
        ),
        Slip(
            "values of the first head",
            "All query heads use the values of the first head. Each group has a value head of its "
            "own, as it has a key head.",
            PAGE,
        ),
        Slip(
            "queries averaged in a group",
            "The queries of a group are averaged. Its heads share keys and values; each keeps its "
            "own queries.",
            PAGE,
        ),
        Slip(
            "outputs of a group averaged",
            "The outputs of a group are averaged. Each head keeps its own.",
            PAGE,
        ),
        Slip(
            "key heads in reverse",
            "The key heads are used in reverse order: the first group has the last one. The first "
            "group uses key head 0.",
            PAGE,
        ),
        *(slip for slip in WEIGHTS if slip.name in SHARED),
    ),
    cases=grouped_cases,
    right=(grouped_by_repeating, grouped_by_axes),
    helpers=("attention",),
)


def split(slips, x, heads):
    """Cut rows into heads."""
    *batch, n, width = x.shape
    d = width // heads
    if "every head the whole" in slips:
        out = np.repeat(x[..., None, :, :], heads, axis=-3)
    elif "reshaped without exchanging axes" in slips:
        out = x.reshape(*batch, heads, n, d)
    elif "axes counted from the left" in slips:
        out = x.reshape(*batch, n, heads, d).swapaxes(1, 2)
    elif "heads interleaved" in slips:
        out = np.moveaxis(x.reshape(*batch, n, d, heads), -1, -3)
    else:
        out = x.reshape(*batch, n, heads, d).swapaxes(-2, -3)
    if "heads in reverse" in slips:
        out = out[..., ::-1, :, :]
    if "positions in reverse" in slips:
        out = out[..., ::-1, :]
    if "scaled" in slips:
        out = out / math.sqrt(d)
    if "one head alone" in slips:
        out = out[..., :1, :, :]
    if "head and width exchanged" in slips:
        out = out.swapaxes(-1, -2)
    if "axes not exchanged" in slips:
        return out.swapaxes(-2, -3)
    return np.moveaxis(out, -3, 0) if "heads before the batch" in slips else out


def split_by_slices(x, heads):
    """A slice for each head."""
    d = x.shape[-1] // heads
    return np.stack([x[..., h * d : (h + 1) * d] for h in range(heads)], axis=-3)


def split_by_numpy(x, heads):
    """With NumPy's own split."""
    return np.array(np.split(np.moveaxis(x, -1, 0), heads)).transpose(
        *range(2, x.ndim), 0, x.ndim, 1
    )


SPLIT = Exercise(
    name="split_heads",
    topic="multi_head",
    title="One row, several heads",
    kind="find the bug",
    difficulty=1,
    minutes=6,
    prompt=(
        "`x` is (..., n, width). Cut each row into `heads` pieces of equal width, the first piece "
        "for head 0 and so on, and return (..., heads, n, width / heads). `heads` divides the "
        "width, and may be 1; then the axis of the heads has size 1. The program below returns an "
        "array of the right shape. Its contents are wrong: a head gets pieces of other positions. "
        "Mend it."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def split_heads(x, heads):\n"
        "    *batch, n, width = x.shape\n"
        "    return x.reshape(*batch, heads, n, width // heads)\n"
    ),
    hints=(
        "Split `np.arange(8.0).reshape(2, 4)` into two heads by hand, and by the program.",
        "`reshape` never moves a number. In which order do the axes lie in `x`?",
        "Reshape to (..., n, heads, width / heads), then exchange two axes.",
    ),
    solve=split,
    slips=(
        Slip(
            "reshaped without exchanging axes",
            "`reshape` to (heads, n, ...) cuts the array in the order in which it lies: head 0 "
            "gets whole rows, those of the first positions. Reshape to (n, heads, ...), then "
            "exchange axes.",
            PAGE,
        ),
        Slip(
            "axes not exchanged",
            "The shape is (..., n, heads, width / heads). Heads come before n: exchange the two "
            "axes.",
            PAGE,
        ),
        Slip(
            "heads interleaved",
            "The entries of a row are dealt out to the heads in turn. Each head takes a piece of "
            "neighbors: head 0 the first width / heads entries.",
            PAGE,
        ),
        Slip(
            "axes counted from the left",
            "Axes 1 and 2 are exchanged. These are n and heads only if exactly one axis of a batch "
            "stands before them. Count from the end.",
            "appendix/notation",
        ),
        Slip(
            "heads in reverse",
            "The first piece is given to the last head. It belongs to head 0.",
            PAGE,
        ),
        Slip(
            "head and width exchanged",
            "Each head is transposed: the shape is (..., heads, width / heads, n). Positions come "
            "before the width.",
            PAGE,
        ),
        Slip(
            "positions in reverse",
            "The positions stand in reverse order. Cutting leaves them where they are.",
            PAGE,
        ),
        Slip(
            "scaled",
            "The pieces are divided by the root of their width. They are only cut; the scale "
            "belongs to the scores.",
            PAGE,
        ),
        Slip(
            "every head the whole",
            "Each head gets the whole row. It gets a piece, of width / heads entries.",
            PAGE,
        ),
        Slip(
            "one head alone",
            "There is only the first head. All pieces are asked for, along an axis of heads.",
            PAGE,
        ),
        Slip(
            "heads before the batch",
            "The heads stand before the batch. The axes of the batch come first.",
            "appendix/notation",
        ),
    ),
    cases=lambda rng: [
        Case("two rows, two heads", (rng.standard_normal((2, 4)), 2)),
        Case("three rows, two heads", (rng.standard_normal((3, 6)), 2)),
        Case("one row", (rng.standard_normal((1, 6)), 3)),
        Case("as many rows as heads as entries", (rng.standard_normal((3, 9)), 3)),
        Case("one head", (rng.standard_normal((3, 4)), 1)),
        Case("a batch of 2", (rng.standard_normal((2, 5, 8)), 4)),
        Case("float32", (rng.standard_normal((4, 6)).astype(np.float32), 2)),
    ],
    right=(split_by_slices, split_by_numpy),
    bug="reshaped without exchanging axes",
)


def uptrained(slips, w, heads, kept):
    """Average the heads of a projection in groups."""
    rows, width = w.shape
    d, group = width // heads, heads // kept
    if "heads interleaved" in slips:
        pieces = w.reshape(rows, d, heads).swapaxes(-1, -2)
    else:
        pieces = w.reshape(rows, heads, d)
    if "groups of `kept` heads" in slips:
        groups = pieces.reshape(rows, group, kept, d)
    elif "heads tiled" in slips:
        groups = pieces.reshape(rows, group, kept, d).swapaxes(1, 2)
    else:
        groups = pieces.reshape(rows, kept, group, d)
    if "the first heads alone" in slips:
        pooled = pieces[:, :kept]
    elif "summed" in slips:
        pooled = groups.sum(axis=2)
    elif "the first of each group" in slips:
        pooled = groups[:, :, 0]
    elif "the last of each group" in slips:
        pooled = groups[:, :, -1]
    elif "divided by the root" in slips:
        pooled = groups.sum(axis=2) / math.sqrt(group)
    elif "averaged over the width" in slips:
        pooled = np.repeat(groups.mean(axis=(2, 3))[..., None], d, axis=-1)
    elif "neighboring columns" in slips:
        pooled = w.reshape(rows, kept, d, group).mean(axis=-1)
    elif "the largest entry" in slips:
        pooled = groups.max(axis=2)
    else:
        pooled = groups.mean(axis=2)
    if "one mean for all" in slips:
        pooled = np.repeat(pooled.mean(axis=1, keepdims=True), kept, axis=1)
    if "heads not joined" in slips:
        return pooled
    out = pooled.reshape(rows, -1)
    return np.repeat(pooled, group, axis=1).reshape(rows, width) if "repeated" in slips else out


def uptrained_by_matrix(w, heads, kept):
    """By one product with a matrix that averages."""
    d = w.shape[1] // heads
    average = np.kron(np.repeat(np.eye(kept), heads // kept, axis=0), np.eye(d))
    return w @ average * kept / heads


def uptrained_by_columns(w, heads, kept):
    """A column at a time."""
    d, group = w.shape[1] // heads, heads // kept
    columns = [
        sum(w[:, (g * group + m) * d + c] for m in range(group)) / group
        for g in range(kept)
        for c in range(d)
    ]
    return np.stack(columns, axis=1)


UPTRAINED = Exercise(
    name="mean_key_heads",
    topic="multi_head",
    title="From many key heads to few",
    kind="extend",
    difficulty=2,
    minutes=12,
    prompt=(
        "Ainslie et al. (2023) turn a trained model with as many key heads as query heads into one "
        "with fewer: in the projection of the keys, each group of neighboring heads is replaced by "
        "the mean of the group. `w` is (d, heads · width), the columns of head 0 first. Return the "
        "matrix (d, kept · width), the columns of the first group first. `kept` divides `heads`."
    ),
    starter="import numpy as np\n\n\ndef mean_key_heads(w, heads, kept):\n    ...\n",
    hints=(
        "Column c of a head is averaged with which columns? How many heads are in a group?",
        "Give the groups, their members and the columns of a head an axis each: `w.reshape(d, "
        "kept, heads // kept, width)`.",
        "Take the mean over the members, axis 2, and reshape to (d, kept · width).",
    ),
    solve=uptrained,
    slips=(
        Slip(
            "summed",
            "The heads of a group are summed, so scores grow with the size of the group. Their "
            "mean is asked for.",
            PAGE,
        ),
        Slip(
            "heads tiled",
            "Head 0 is averaged with the head `kept` places further on. Neighbors form a group.",
            PAGE,
        ),
        Slip(
            "the first of each group",
            "The first head of each group is kept alone. Ainslie et al. compare this with the mean "
            "of the group, and find it worse.",
            PAGE,
        ),
        Slip(
            "neighboring columns",
            "Neighboring columns are averaged, which belong to one head. Column c of a head is "
            "averaged with column c of the other heads of its group.",
            PAGE,
        ),
        Slip(
            "groups of `kept` heads",
            "The groups have `kept` heads each. There are `kept` groups, of heads / kept heads.",
            PAGE,
        ),
        Slip(
            "the first heads alone",
            "The first heads of the matrix are kept and the others dropped. Each group is replaced "
            "by its mean, so every head counts.",
            PAGE,
        ),
        Slip(
            "the last of each group",
            "The last head of each group is kept alone. All of the group go into the mean.",
            PAGE,
        ),
        Slip(
            "heads interleaved",
            "The columns of a head are taken to lie apart, dealt out in turn. They are neighbors: "
            "those of head 0 come first.",
            PAGE,
        ),
        Slip(
            "one mean for all",
            "All heads are averaged, and every group gets that mean. Each group has its own.",
            PAGE,
        ),
        Slip(
            "repeated",
            "The mean of a group is repeated for each of its heads, so the matrix is as wide as "
            "before. It stands once.",
            PAGE,
        ),
        Slip(
            "heads not joined",
            "The heads have an axis of their own. The result is a matrix: join heads and width.",
            PAGE,
        ),
        Slip(
            "divided by the root",
            "The sum is divided by the root of the group's size. A mean is divided by the size.",
            PAGE,
        ),
        Slip(
            "averaged over the width",
            "The columns of a head are averaged too, so all are alike. Column c is averaged with "
            "column c of the other heads.",
            PAGE,
        ),
        Slip(
            "the largest entry",
            "The largest entry of each group is taken. The mean is asked for.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case("two heads into one", (rng.standard_normal((3, 4)), 2, 1)),
        Case("four heads into two", (rng.standard_normal((3, 8)), 4, 2)),
        Case("six heads into two", (rng.standard_normal((4, 18)), 6, 2)),
        Case("as many of all", (rng.standard_normal((4, 16)), 4, 2)),
        Case("nothing to be done", (rng.standard_normal((2, 6)), 3, 3)),
        Case("float32", (rng.standard_normal((5, 12)).astype(np.float32), 6, 3)),
    ],
    right=(uptrained_by_matrix, uptrained_by_columns),
)


WIDTH, HEADS, KEPT = 288, 18, 3
PROJECTIONS = 2 * WIDTH**2 + 2 * WIDTH * (WIDTH // HEADS * KEPT)

PARAMETERS = Exercise(
    name="grouped_parameters",
    topic="multi_head",
    title="What sharing saves",
    kind="predict",
    difficulty=1,
    minutes=5,
    prompt=(
        f"A layer has rows of width {WIDTH}. Its {HEADS} query heads divide this width: joined "
        f"they are as wide as a row. It has {KEPT} key heads and {KEPT} value heads, each as wide "
        "as a query head. Four projections, without biases, make queries, keys and values from the "
        "rows, and the output from the joined heads. How many numbers do the four hold together? "
        "Give an integer; an expression will do."
    ),
    hints=(
        "How wide is one head?",
        f"The projections of queries and output have {WIDTH} rows and {WIDTH} columns each.",
        f"Keys and values: {WIDTH} rows and {KEPT} · {WIDTH // HEADS} columns each.",
    ),
    solve=predictions(
        PROJECTIONS,
        {
            "nothing shared": 4 * WIDTH**2,
            "everything shared": 4 * WIDTH * (WIDTH // HEADS * KEPT),
            "output forgotten": PROJECTIONS - WIDTH**2,
            "values not shared": 3 * WIDTH**2 + WIDTH * (WIDTH // HEADS * KEPT),
            "one key head": 2 * WIDTH**2 + 2 * WIDTH * (WIDTH // HEADS),
            "keys and values alone": 2 * WIDTH * (WIDTH // HEADS * KEPT),
            "every head as wide as a row": 2 * HEADS * WIDTH**2 + 2 * KEPT * WIDTH**2,
            "output shared too": WIDTH**2 + 3 * WIDTH * (WIDTH // HEADS * KEPT),
            "what is saved": 4 * WIDTH**2 - PROJECTIONS,
            "biases counted": PROJECTIONS + 2 * WIDTH + 2 * (WIDTH // HEADS * KEPT),
            "values forgotten": PROJECTIONS - WIDTH * (WIDTH // HEADS * KEPT),
            "as many key heads as in a group": 2 * WIDTH**2
            + 2 * WIDTH * (WIDTH // HEADS * (HEADS // KEPT)),
            "key heads as wide as a row": 2 * WIDTH**2 + 2 * KEPT * WIDTH**2,
        },
    ),
    slips=(
        Slip(
            "nothing shared",
            "This is a layer in which each query head has keys and values of its own. Here the "
            f"projections of keys and values have {KEPT} heads.",
            PAGE,
        ),
        Slip(
            "everything shared",
            f"All four projections were given {KEPT} heads. Those of queries and output have "
            f"{HEADS}.",
            PAGE,
        ),
        Slip(
            "output forgotten",
            "The projection of the output is missing. It is as large as that of the queries.",
            PAGE,
        ),
        Slip(
            "values forgotten",
            "Keys and values were counted once for both. Each has a projection of its own.",
            PAGE,
        ),
        Slip(
            "values not shared",
            f"The values were given {HEADS} heads. They are shared as the keys are.",
            PAGE,
        ),
        Slip(
            "one key head",
            f"One key head and one value head were counted. There are {KEPT} of each.",
            PAGE,
        ),
        Slip(
            "keys and values alone",
            "Only keys and values were counted. Queries and output are missing.",
            PAGE,
        ),
        Slip(
            "every head as wide as a row",
            f"Each head was taken to be {WIDTH} wide. All query heads together are.",
            PAGE,
        ),
        Slip(
            "as many key heads as in a group",
            f"Keys and values were given {HEADS // KEPT} heads. That is how many query heads share "
            f"one; there are {KEPT}.",
            PAGE,
        ),
        Slip(
            "key heads as wide as a row",
            f"Each key head and value head was taken to be {WIDTH} wide. They are as wide as a "
            "query head.",
            PAGE,
        ),
        Slip(
            "output shared too",
            f"The output was given {KEPT} heads. It takes the joined outputs of all {HEADS} query "
            "heads.",
            PAGE,
        ),
        Slip(
            "what is saved",
            "This is how many numbers sharing saves. The question is how many there are.",
            PAGE,
        ),
        Slip(
            "biases counted",
            "A bias for each column was counted too. The projections have none.",
            PAGE,
        ),
    ),
    right=(
        float(PROJECTIONS),
        np.array(2 * WIDTH * WIDTH * (1 + KEPT / HEADS)),
    ),
)

EXERCISES = (PARAMETERS, SPLIT, GROUPED, UPTRAINED)
