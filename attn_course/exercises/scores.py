"""Exercises on scores."""

import math

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Slip, predictions
from attn_course.reference.scores import cosine_scores
from attn_course.reference.softmax import softmax

PAGE = "algorithm/scores"

ONE_BY_ONE = Slip(
    "pairs one by one",
    "Query i meets key i alone, where the shapes allow it at all. Every query must meet every key: "
    "the shapes need new axes.",
    PAGE,
)
ALREADY = Slip(
    "weights already",
    "Softmax is applied already, so the result holds weights. The scores themselves are asked for.",
    "concepts/softmax",
)


def additive(slips, q, k, w_q, w_k, v):
    """Compare queries and keys by a network of one hidden layer."""
    if "projections exchanged" in slips:
        w_q, w_k = w_k, w_q
    if "one projection" in slips:
        w_k = w_q
    asked, offered = q @ w_q, k @ w_k
    if "keys left out" in slips:
        offered = np.zeros_like(offered)
    if "queries left out" in slips:
        asked = np.zeros_like(asked)
    pair = asked[..., :, None, :], offered[..., None, :, :]
    if "pairs one by one" in slips:
        return np.tanh(asked + offered) @ v
    inner = pair[0] * pair[1] if "multiplied, not added" in slips else pair[0] + pair[1]
    if "subtracted" in slips:
        inner = pair[0] - pair[1]
    if "no tanh" in slips:
        hidden = inner
    elif "relu" in slips:
        hidden = np.maximum(inner, 0)
    elif "sigmoid" in slips:
        hidden = 1 / (1 + np.exp(-inner))
    elif "tanh of each" in slips:
        hidden = np.tanh(pair[0]) + np.tanh(pair[1])
    else:
        hidden = np.tanh(inner)
    if "summed, not weighed by v" in slips:
        return hidden.sum(axis=-1)
    scores = hidden @ v
    if "tanh at the end" in slips:
        scores = np.tanh(inner @ v)
    if "divided by the root" in slips:
        scores = scores / math.sqrt(v.shape[-1])
    if "weights already" in slips:
        scores = softmax(scores)
    return scores.swapaxes(-1, -2) if "keys by queries" in slips else scores


def additive_cases(rng):
    """Draw queries, keys and what is learned."""

    def drawn(i, j, dq, dk, hidden, *batch, dtype=np.float64, size=1.0):
        shapes = ((*batch, i, dq), (*batch, j, dk), (dq, hidden), (dk, hidden), (hidden,))
        return tuple((size * rng.standard_normal(shape)).astype(dtype) for shape in shapes)

    return [
        Case("one query, two keys", drawn(1, 2, 3, 3, 2)),
        Case("three queries, five keys", drawn(3, 5, 4, 4, 2)),
        Case("as many of all", drawn(3, 3, 3, 3, 3)),
        Case("queries and keys of other widths", drawn(2, 4, 5, 3, 6)),
        Case("one hidden unit", drawn(3, 2, 4, 4, 1)),
        Case("large entries", drawn(2, 3, 3, 3, 4, size=20.0)),
        Case("a batch of 2 with 3 heads", drawn(3, 4, 2, 2, 5, 2, 3)),
        Case("float32", drawn(4, 3, 5, 5, 6, dtype=np.float32)),
    ]


def additive_by_einsum(q, k, w_q, w_k, v):
    """With the pairs made by repeating rows."""
    asked = np.einsum("...id,dh->...ih", q, w_q)
    offered = np.einsum("...jd,dh->...jh", k, w_k)
    i, j = q.shape[-2], k.shape[-2]
    both = np.repeat(asked, j, axis=-2) + np.concatenate([offered] * i, axis=-2)
    return np.tanh(both).dot(v).reshape(*q.shape[:-1], j)


def additive_by_units(q, k, w_q, w_k, v):
    """A hidden unit at a time, tanh as a sigmoid."""
    scores = np.zeros((*q.shape[:-1], k.shape[-2]), dtype=q.dtype)
    for unit in range(len(v)):
        inner = (q @ w_q[:, unit])[..., :, None] + (k @ w_k[:, unit])[..., None, :]
        half = np.exp(-2 * np.abs(inner))
        scores += v[unit] * np.sign(inner) * (1 - half) / (1 + half)
    return scores


ADDITIVE = Exercise(
    name="additive_scores",
    topic="scores",
    title="Additive scores",
    kind="implement",
    difficulty=2,
    minutes=12,
    prompt=(
        "Compare each query with each key by a network of one hidden layer. The score of a query q "
        "and a key k is $\\tanh(q W_q + k W_k) \\cdot v$. `q` is (..., queries, dq), `k` is (..., "
        "keys, dk), `w_q` is (dq, hidden), `w_k` is (dk, hidden) and `v` is (hidden,). Return the "
        "scores, (..., queries, keys). Nothing is divided by a root."
    ),
    starter=("import numpy as np\n\n\ndef additive_scores(q, k, w_q, w_k, v):\n    ...\n"),
    hints=(
        "Every query must meet every key before tanh. Which shape does the hidden layer have?",
        "`(q @ w_q)[..., :, None, :]` is (..., queries, 1, hidden).",
        "Add it to `(k @ w_k)[..., None, :, :]`, take tanh, and multiply by `v` with `@`.",
    ),
    solve=additive,
    slips=(
        Slip(
            "no tanh",
            "There is no tanh, so a score is a number of the query plus a number of the key. "
            "Softmax over the keys then gives every query the same weights.",
            PAGE,
        ),
        Slip(
            "tanh at the end",
            "tanh is taken of the score. It is taken of the hidden layer, before the product with "
            "`v`.",
            PAGE,
        ),
        Slip(
            "tanh of each",
            "tanh is taken of query and key one by one, and then they are added. No hidden unit "
            "can react to the pair.",
            PAGE,
        ),
        Slip(
            "multiplied, not added",
            "Projected queries and keys are multiplied. They are added: hence the name.",
            PAGE,
        ),
        Slip(
            "summed, not weighed by v",
            "The hidden units are summed as they are. `v` weighs them.",
            PAGE,
        ),
        Slip(
            "one projection",
            "Both queries and keys are multiplied by `w_q`. The keys have a matrix of their own.",
            PAGE,
        ),
        Slip(
            "keys by queries",
            "The result is (keys, queries). Queries are the rows.",
            "appendix/notation",
        ),
        Slip(
            "projections exchanged",
            "`w_q` is applied to the keys and `w_k` to the queries. It is the other way around.",
            PAGE,
        ),
        Slip("keys left out", "The keys have no effect: all scores of a query are equal.", PAGE),
        Slip("queries left out", "The queries have no effect: all rows are equal.", PAGE),
        Slip(
            "divided by the root",
            "The scores are divided by the root of the number of hidden units. Nothing is divided "
            "here; the root is for dot products, whose terms grow in number with the width.",
            PAGE,
        ),
        ALREADY,
        Slip("relu", "The hidden layer has a ReLU. It has a tanh.", PAGE),
        Slip("sigmoid", "The hidden layer has a sigmoid. It has a tanh.", PAGE),
        Slip("subtracted", "The projected key is subtracted. It is added.", PAGE),
        ONE_BY_ONE,
    ),
    cases=additive_cases,
    right=(additive_by_einsum, additive_by_units),
)


def cosines(slips, q, k):
    """Compare by the angle alone."""
    q_length = np.sqrt((q**2).sum(axis=-1, keepdims=True))
    k_length = np.sqrt((k**2).sum(axis=-1, keepdims=True))
    if "squares without root" in slips:
        q_length, k_length = q_length**2, k_length**2
    if "sum of sizes" in slips:
        q_length = np.abs(q).sum(axis=-1, keepdims=True)
        k_length = np.abs(k).sum(axis=-1, keepdims=True)
    if "lengths of columns" in slips:
        q_length = np.sqrt((q**2).sum(axis=-2, keepdims=True))
        k_length = np.sqrt((k**2).sum(axis=-2, keepdims=True))
    if "one length for all" in slips:
        q_length = np.sqrt((q**2).sum())
        k_length = np.sqrt((k**2).sum())
    if "means subtracted" in slips:
        q, k = (x - x.mean(axis=-1, keepdims=True) for x in (q, k))
        q_length, k_length = (np.sqrt((x**2).sum(axis=-1, keepdims=True)) for x in (q, k))
    if "keys not normalized" in slips:
        k_length = np.ones_like(k_length)
    if "queries not normalized" in slips:
        q_length = np.ones_like(q_length)
    if "a vector of zeros" not in slips:
        q_length, k_length = (np.where(x == 0, 1, x) for x in (q_length, k_length))
    scores = (q / q_length) @ (k / k_length).swapaxes(-1, -2)
    if "divided by the root" in slips:
        scores = scores / math.sqrt(q.shape[-1])
    if "the angle itself" in slips:
        scores = np.arccos(np.clip(scores, -1, 1))
    return scores


def cosine_cases(rng):
    """Draw queries and keys."""

    def drawn(i, j, d, *batch, dtype=np.float64, size=1.0):
        shapes = ((*batch, i, d), (*batch, j, d))
        return tuple((size * rng.standard_normal(shape)).astype(dtype) for shape in shapes)

    q, k = drawn(3, 4, 3)
    q[1], k[2] = 0, 0
    return [
        Case("one query, one key", drawn(1, 1, 3)),
        Case("two queries, three keys", drawn(2, 3, 4)),
        Case("as many of all", drawn(3, 3, 3)),
        Case("a query and a key of zeros", (q, k)),
        Case("long vectors", drawn(2, 3, 5, size=200.0)),
        Case("a batch of 2", drawn(3, 2, 4, 2)),
        Case("float32", drawn(4, 5, 3, dtype=np.float32)),
    ]


def cosine_by_products(q, k):
    """The product over the root of the product of squares."""
    products = np.einsum("...id,...jd->...ij", q, k)
    squares = (
        np.einsum("...id,...id->...i", q, q)[..., :, None]
        * np.einsum("...jd,...jd->...j", k, k)[..., None, :]
    )
    return np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)


def cosine_by_hand(q, k):
    """With the package's own."""
    return cosine_scores(q, k)


COSINE = Exercise(
    name="angle_scores",
    topic="scores",
    title="The angle alone",
    kind="find the bug",
    difficulty=1,
    minutes=6,
    prompt=(
        "The score of a query and a key is the cosine of the angle between them, $q \\cdot k / "
        "(\\lVert q \\rVert\\, \\lVert k \\rVert)$; a vector of zeros has the cosine 0 with "
        "every vector. `q` is (..., queries, d), `k` is (..., keys, d), and the result is (..., "
        "queries, keys). For most inputs the program below gives scores between -1 and 1, as it "
        "should. For which does it not? Mend it."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def angle_scores(q, k):\n"
        "    q = q / np.sqrt((q**2).sum(axis=-1, keepdims=True))\n"
        "    k = k / np.sqrt((k**2).sum(axis=-1, keepdims=True))\n"
        "    return q @ k.swapaxes(-1, -2)\n"
    ),
    hints=(
        "Which vector has no direction?",
        "What is 0 / 0, and what does a product make of it?",
        "Divide by 1 where the length is 0.",
    ),
    solve=cosines,
    slips=(
        Slip(
            "a vector of zeros",
            "A vector of zeros is divided by its length, 0, and gives NaN. Its cosine is taken to "
            "be 0.",
            PAGE,
        ),
        Slip(
            "keys not normalized",
            "The keys are not divided by their lengths, so long keys get scores of large size.",
            PAGE,
        ),
        Slip(
            "queries not normalized",
            "The queries are not divided by their lengths, so long queries get scores of large "
            "size.",
            PAGE,
        ),
        Slip(
            "squares without root",
            "The vectors are divided by their squared lengths. The root is missing.",
            PAGE,
        ),
        Slip(
            "lengths of columns",
            "The lengths are those of the columns, over all vectors. Each vector is divided by its "
            "own length.",
            PAGE,
        ),
        Slip(
            "one length for all",
            "All vectors are divided by one length. Each vector has its own.",
            PAGE,
        ),
        Slip(
            "divided by the root",
            "The cosines are divided by √d as well. They are bounded by 1 at any width.",
            "algorithm/dot_product",
        ),
        Slip(
            "means subtracted",
            "From each vector its mean is subtracted: this is a correlation. The cosine takes the "
            "vectors as they are.",
            PAGE,
        ),
        Slip(
            "sum of sizes",
            "The length is taken as the sum of absolute values. It is the root of the sum of "
            "squares.",
            PAGE,
        ),
        Slip("the angle itself", "This is the angle. The score is its cosine.", PAGE),
    ),
    cases=cosine_cases,
    right=(cosine_by_products, cosine_by_hand),
    bug="a vector of zeros",
)


def correlations(slips, q, k):
    """Compare by Pearson's correlation."""
    if "a mean of products" in slips:
        return q @ k.swapaxes(-1, -2) / q.shape[-1]
    if "lengths before means" in slips:
        q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    if "means not subtracted" not in slips:
        axis = -2 if "means of columns" in slips else -1
        if "one mean for all" in slips:
            axis = None
        q, k = (x - x.mean(axis=axis, keepdims=True) for x in (q, k))
    if "lengths before means" in slips:
        scores = q @ k.swapaxes(-1, -2)
    elif "lengths not divided" in slips:
        scores = q @ k.swapaxes(-1, -2) / q.shape[-1]
    elif "a vector of equal entries" in slips:
        scores = cosines({*slips, "a vector of zeros"}, q, k)
    else:
        scores = cosines(slips, q, k)
    if "two counts" in slips:
        scores = scores * (q.shape[-1] - 1) / q.shape[-1]
    return scores**2 if "squared" in slips else scores


def correlation_cases(rng):
    """Draw queries and keys whose means are not 0."""

    def drawn(i, j, d, *batch, dtype=np.float64, size=1.0):
        shapes = ((*batch, i, d), (*batch, j, d))
        return tuple((size * (rng.standard_normal(s) + 1)).astype(dtype) for s in shapes)

    q, k = drawn(3, 4, 4)
    q[1], k[2] = 2, -1
    return [
        Case("one query, one key", drawn(1, 1, 3)),
        Case("two queries, three keys", drawn(2, 3, 5)),
        Case("as many of all", drawn(3, 3, 3)),
        Case("a query and a key of equal entries", (q, k)),
        Case("large entries", drawn(3, 2, 4, size=300.0)),
        Case("a batch of 2", drawn(3, 2, 4, 2)),
        Case("float32", drawn(2, 5, 6, dtype=np.float32)),
    ]


def correlation_by_numpy(q, k):
    """By NumPy's own matrix of correlations, a batch entry at a time."""
    out = np.zeros((*q.shape[:-1], k.shape[-2]), dtype=q.dtype)
    for index in np.ndindex(q.shape[:-2]):
        out[index] = np.corrcoef(q[index], k[index])[: q.shape[-2], q.shape[-2] :]
    return np.where(np.isnan(out), 0, out)


def correlation_by_deviations(q, k):
    """As the mean product of standardized entries."""

    def standardized(x):
        spread = x.std(axis=-1, keepdims=True)
        return (x - x.mean(axis=-1, keepdims=True)) / np.where(spread > 0, spread, np.inf)

    return np.einsum("...id,...jd->...ij", standardized(q), standardized(k)) / q.shape[-1]


CORRELATION = Exercise(
    name="correlation_scores",
    topic="scores",
    title="What a correlation is",
    kind="find the bug",
    difficulty=2,
    minutes=8,
    prompt=(
        "The second of the course's two sources says that attention weighs by the correlation of "
        "its inputs, and then takes products. So does the program below. Mend it, so that it "
        "returns Pearson's correlation of each query with each key: from every vector subtract the "
        "mean of its entries, then take the cosine of the angle between the two.\n\n"
        "`q` is (..., queries, d), `k` is (..., keys, d), the result (..., queries, keys). A "
        "vector whose entries are all equal has the correlation 0 with every vector."
    ),
    starter=(
        "def correlation_scores(q, k):\n"
        "    return q @ k.swapaxes(-1, -2) / q.shape[-1]  # the mean of the products\n"
    ),
    hints=(
        "Between which bounds does a correlation lie? Does this program keep them?",
        "Add 1 to all entries of a key. What happens to its correlation with a query, and what to "
        "the mean of the products? Then double the key.",
        "`x - x.mean(axis=-1, keepdims=True)` for both, then divide each vector by its length, or "
        "by 1 where that is 0, and only then multiply.",
    ),
    solve=correlations,
    slips=(
        Slip(
            "a mean of products",
            "This is the mean of the products. A correlation first subtracts from each vector its "
            "mean, and divides by both lengths.",
            PAGE,
        ),
        Slip(
            "means not subtracted",
            "The means are not subtracted: this is the cosine of the angle between the vectors.",
            PAGE,
        ),
        Slip(
            "lengths not divided",
            "The lengths are not divided out: this is the covariance, which has the units of both.",
            PAGE,
        ),
        Slip(
            "a vector of equal entries",
            "A vector of equal entries is all 0 once its mean is subtracted, and 0 / 0 is NaN. Its "
            "correlation is taken to be 0.",
            PAGE,
        ),
        Slip(
            "lengths before means",
            "The vectors are divided by their lengths before the means are subtracted. The length "
            "that counts is that of what is left after the mean is gone.",
            PAGE,
        ),
        Slip(
            "means of columns",
            "The mean of each column is subtracted, over all vectors. A correlation of two vectors "
            "looks at no third one: each has its own mean.",
            PAGE,
        ),
        Slip(
            "one mean for all",
            "One mean is subtracted from all vectors. Each has its own.",
            PAGE,
        ),
        Slip(
            "two counts",
            "One part is divided by d and the other by d - 1. The counts must cancel, so that a "
            "vector has the correlation 1 with itself.",
            PAGE,
        ),
        Slip("squared", "The correlation is squared, so its sign is lost.", PAGE),
        *(
            slip
            for slip in COSINE.slips
            if slip.name
            in ("keys not normalized", "queries not normalized", "squares without root")
        ),
    ),
    cases=correlation_cases,
    right=(correlation_by_numpy, correlation_by_deviations),
    bug="a mean of products",
)


def distances(slips, q, k, scale=1.0):
    """Score by minus half the squared distance."""
    steps = q[..., :, None, :] - k[..., None, :, :]
    squares = (steps**2).sum(axis=-1)
    if "distance instead of its square" in slips:
        squares = np.sqrt(squares)
    if "sum of sizes" in slips:
        squares = np.abs(steps).sum(axis=-1)
    if "mean over the width" in slips:
        squares = squares / q.shape[-1]
    if "query's own square forgotten" in slips:
        squares = squares - (q**2).sum(axis=-1)[..., :, None]
    if "key's own square forgotten" in slips:
        squares = squares - (k**2).sum(axis=-1)[..., None, :]
    if "the product with the wrong sign" in slips:
        squares = ((q[..., :, None, :] + k[..., None, :, :]) ** 2).sum(axis=-1)
    if "the product once" in slips:
        squares = squares + q @ k.swapaxes(-1, -2)
    if "summed before the square" in slips:
        squares = steps.sum(axis=-1) ** 2
    if "divided by the root" in slips:
        squares = squares / math.sqrt(q.shape[-1])
    if "pairs one by one" in slips:
        squares = ((q - k) ** 2).sum(axis=-1)
    half = 1.0 if "not halved" in slips else 0.5
    sign = 1 if "sign turned around" in slips else -1
    factor = 1.0 if "scale ignored" in slips else scale
    if "divided by the scale" in slips:
        factor = 1 / scale
    scores = sign * half * factor * squares
    if "the exponential already" in slips:
        scores = np.exp(scores)
    if "weights already" in slips:
        scores = softmax(scores)
    return scores.swapaxes(-1, -2) if "keys by queries" in slips else scores


def distance_cases(rng):
    """Draw queries, keys and scales."""
    cases = cosine_cases(rng)
    q, k = cases[1].args
    return [*cases, Case("a scale of 0.25", (q, k), {"scale": 0.25})]


def distance_by_norm(q, k, scale=1.0):
    """With NumPy's own length."""
    steps = np.linalg.norm(q[..., :, None, :] - k[..., None, :, :], axis=-1)
    return scale * steps**2 / -2


def distance_by_entries(q, k, scale=1.0):
    """An entry at a time."""
    total = np.zeros((*q.shape[:-1], k.shape[-2]), dtype=q.dtype)
    for c in range(q.shape[-1]):
        total -= np.subtract(q[..., :, None, c], k[..., None, :, c]) ** 2
    return total * scale / 2


DISTANCE = Exercise(
    name="distance_scores",
    topic="scores",
    title="Near is good",
    kind="extend",
    difficulty=2,
    minutes=12,
    prompt=(
        "Score a query and a key by minus half their squared distance, times `scale`: "
        "$-\\mathrm{scale} \\cdot \\lVert q - k \\rVert^2 / 2$. `q` is (..., queries, d), `k` is "
        "(..., keys, d), and the result is (..., queries, keys). The softmax of these scores gives "
        "the weights of kernel regression. If all keys have the same length, the dot products "
        "times `scale` give the same weights: can you see why?"
    ),
    starter="import numpy as np\n\n\ndef distance_scores(q, k, scale=1.0):\n    ...\n",
    hints=(
        "Every query must meet every key. Which shape do the differences have? (For the last "
        "question: write the square of a difference as three terms. Which of them is the same for "
        "all keys?)",
        "`q[..., :, None, :] - k[..., None, :, :]` is (..., queries, keys, d).",
        "Square it, sum over the last axis, times `-scale / 2`.",
    ),
    solve=distances,
    slips=(
        Slip(
            "sign turned around",
            "The minus is missing: the farthest keys get the largest scores.",
            PAGE,
        ),
        Slip("not halved", "The squared distance is not halved.", PAGE),
        Slip(
            "distance instead of its square",
            "The distance stands where its square should.",
            PAGE,
        ),
        Slip(
            "the product once",
            "The product of query and key is subtracted once. The square of a difference has it "
            "twice.",
            PAGE,
        ),
        Slip(
            "query's own square forgotten",
            "The query's own square is missing. The weights do not change by it; the scores do.",
            PAGE,
        ),
        Slip(
            "key's own square forgotten",
            "The key's own square is missing, so long keys get large scores.",
            PAGE,
        ),
        Slip("scale ignored", "The argument `scale` has no effect.", PAGE),
        Slip(
            "divided by the scale", "The scores are divided by `scale`. It multiplies them.", PAGE
        ),
        ONE_BY_ONE,
        Slip(
            "summed before the square",
            "The differences are summed first and squared then, so those of unlike sign cancel. "
            "The square comes before the sum.",
            PAGE,
        ),
        Slip(
            "the exponential already",
            "The exponential is taken already: this is the kernel. The scores are what softmax "
            "takes the exponential of.",
            PAGE,
        ),
        ALREADY,
        Slip(
            "divided by the root",
            "The scores are divided by √d, as dot products are. This formula has no such division.",
            "algorithm/dot_product",
        ),
        Slip(
            "sum of sizes",
            "The absolute values of the differences are summed, not their squares.",
            PAGE,
        ),
        Slip(
            "mean over the width", "The squares are averaged over the width. They are summed.", PAGE
        ),
        Slip(
            "the product with the wrong sign",
            "Query and key are added before the square. They are subtracted.",
            PAGE,
        ),
        Slip(
            "keys by queries",
            "The result is (keys, queries). Queries are the rows.",
            "appendix/notation",
        ),
    ),
    cases=distance_cases,
    right=(distance_by_norm, distance_by_entries),
)


WIDTH, HIDDEN = 48, 20
COUNTS = 2 * WIDTH * HIDDEN + HIDDEN

PARAMETERS = Exercise(
    name="score_parameters",
    topic="scores",
    title="What a score learns",
    kind="predict",
    difficulty=1,
    minutes=4,
    prompt=(
        f"Queries and keys have width {WIDTH}. The additive score $\\tanh(q W_q + k W_k) \\cdot v$ "
        f"has {HIDDEN} hidden units, the bilinear score is $q W k^\\top$. How many more numbers "
        "does the bilinear score learn than the additive one? Give an integer; an expression will "
        "do."
    ),
    hints=(
        "Which arrays are learned, and what are their shapes?",
        f"The bilinear score has {WIDTH} · {WIDTH} numbers.",
        f"The additive score has two matrices of {WIDTH} · {HIDDEN} numbers each, and `v` with one "
        "number for each hidden unit.",
    ),
    solve=predictions(
        WIDTH**2 - COUNTS,
        {
            "v forgotten": WIDTH**2 - 2 * WIDTH * HIDDEN,
            "one matrix for both": WIDTH**2 - WIDTH * HIDDEN - HIDDEN,
            "a bias counted": WIDTH**2 - COUNTS - HIDDEN,
            "two bilinear matrices": 2 * WIDTH**2 - COUNTS,
            "the additive score's own": COUNTS,
            "the bilinear score's own": WIDTH**2,
            "the sign turned around": COUNTS - WIDTH**2,
            "v as wide as a query": WIDTH**2 - 2 * WIDTH * HIDDEN - WIDTH,
        },
    ),
    slips=(
        Slip("v forgotten", "`v` is missing in the count. It is learned too.", PAGE),
        Slip(
            "one matrix for both",
            "The additive score was given one matrix. Queries and keys have a matrix each.",
            PAGE,
        ),
        Slip("a bias counted", "A bias was counted too. There is none in these formulas.", PAGE),
        Slip(
            "two bilinear matrices",
            "The bilinear score was given two matrices. It has one.",
            PAGE,
        ),
        Slip(
            "the additive score's own",
            "This is how many numbers the additive score learns. The difference is asked for.",
            PAGE,
        ),
        Slip(
            "the bilinear score's own",
            "This is how many numbers the bilinear score learns. The difference is asked for.",
            PAGE,
        ),
        Slip(
            "the sign turned around",
            "The bilinear score learns more, so the number is positive.",
            PAGE,
        ),
        Slip(
            "v as wide as a query",
            "`v` was counted as wide as a query. It has one number for each hidden unit.",
            PAGE,
        ),
    ),
    right=(float(WIDTH**2 - COUNTS), np.array(WIDTH * WIDTH - HIDDEN * (WIDTH + WIDTH + 1))),
)

EXERCISES = (PARAMETERS, ADDITIVE, COSINE, CORRELATION, DISTANCE)
