"""Exercises on linear attention."""

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, drawn
from attn_course.exercises.exercise import Case, Exercise, Lines, Orders, Slip, predictions
from attn_course.reference.linear import elu_features
from attn_course.reference.softmax import softmax

PAGE = "algorithm/linear"
ITSELF_LEFT_OUT = Slip(
    "itself left out",
    "A token does not see itself, and the first one sees nothing. A token must see those up to its "
    "own.",
    "algorithm/masks",
)
LARGE = 2048  # tokens: all weights in float32 take 16 MiB

FEATURES = (
    Slip(
        "features of the keys alone",
        "The feature map is applied to the keys and not to the queries. Both must be mapped, or "
        "products can be negative.",
        PAGE,
    ),
    Slip(
        "features of the queries alone",
        "The feature map is applied to the queries and not to the keys. Both must be mapped, or "
        "products can be negative.",
        PAGE,
    ),
    Slip(
        "no features",
        "No feature map is applied. Plain products can be negative, and their sum can be 0: both "
        "queries and keys must be mapped first.",
        PAGE,
    ),
)


def mapped(slips, q, k, feature_map=elu_features):
    """Return the features of queries and keys, with the slips that concern them."""
    chosen = feature_map
    if "elu without the one" in slips:
        chosen = lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))  # noqa: E731
    if "softmax as features" in slips:
        chosen = softmax
    plain = "no features" in slips
    q_features = q if plain or "features of the keys alone" in slips else chosen(q)
    k_features = k if plain or "features of the queries alone" in slips else chosen(k)
    return q_features, k_features


def linear(slips, q, k, v, *, feature_map=elu_features):
    """Average the values by products of features."""
    if "feature_map ignored" in slips:
        feature_map = elu_features
    q_features, k_features = mapped(slips, q, k, feature_map)
    if "all weights at once" in slips:
        weights = q_features @ k_features.mT
        total = weights.sum(axis=-1, keepdims=True)
        return weights @ v / np.where(total == 0, np.inf, total)
    turned = k_features.T if "every axis transposed" in slips else k_features.mT
    sums = q_features @ (turned @ v)
    axis = 0 if "summed over the first axis" in slips else -2
    total = (q_features @ k_features.sum(axis=axis)[..., None]).astype(q.dtype)
    if "divided by the number of keys" in slips:
        return sums / max(1, k.shape[-2])
    if "not divided" in slips:
        return sums
    if "divided by all queries' totals" in slips:
        total = total.sum(axis=-2, keepdims=True)
    if "keys' features summed over the width" in slips:
        total = np.broadcast_to(k_features.sum(axis=(-2, -1))[..., None, None], total.shape)
    if "a small number added below" in slips:
        return sums / (total + 1e-6)
    if "no key" in slips:
        return sums / total
    return sums / np.where(total == 0, np.inf, total)


def linear_cases(rng):
    """Draw the situations in which linear attention differs."""
    small = drawn(rng, 2, 3, 4, 2)
    return [
        Case("one query, two keys", drawn(rng, 1, 2, 3, 1)),
        Case("three queries, five keys", drawn(rng, 3, 5, 4, 2)),
        Case("as many of all", drawn(rng, 3, 3, 3, 3)),
        Case("no key", drawn(rng, 2, 0, 3, 2)),
        Case("one key", drawn(rng, 4, 1, 3, 2)),
        Case("a batch of 2 with 3 heads", drawn(rng, 4, 5, 3, 2, 2, 3)),
        Case("a batch of 2 with two keys each", drawn(rng, 3, 2, 4, 1, 2)),
        Case("small features", (small[0] - 5, small[1] - 5, small[2])),
        Case("features by np.exp", drawn(rng, 3, 4, 5, 2), {"feature_map": np.exp}),
        Case("large entries", tuple(30 * x for x in drawn(rng, 3, 4, 2, 2))),
        Case("float32", drawn(rng, 4, 3, 5, 2, dtype=np.float32)),
        Case(
            f"{LARGE} queries and keys",
            drawn(rng, LARGE, LARGE, 8, 8, dtype=np.float32),
            bound=4 * 2**20,
        ),
    ]


def linear_by_einsum(q, k, v, *, feature_map=elu_features):
    """With a column of ones beside the values, whose average is the denominator."""
    ones = np.ones((*v.shape[:-1], 1), dtype=v.dtype)
    state = np.einsum("...jm,...je->...me", feature_map(k), np.concatenate([v, ones], axis=-1))
    both = np.einsum("...im,...me->...ie", feature_map(q), state)
    total = both[..., -1:]
    return np.divide(both[..., :-1], total, out=np.zeros_like(both[..., :-1]), where=total != 0)


def linear_key_by_key(q, k, v, *, feature_map=elu_features):
    """A key at a time, as a state that grows."""
    phi_q, phi_k = feature_map(q), feature_map(k)
    state = np.zeros((*q.shape[:-2], phi_q.shape[-1], v.shape[-1]), dtype=q.dtype)
    total = np.zeros((*q.shape[:-2], phi_q.shape[-1]), dtype=q.dtype)
    for j in range(k.shape[-2]):
        state += phi_k[..., j, :, None] * v[..., j, None, :]
        total += phi_k[..., j, :]
    denominator = phi_q @ total[..., None]
    return phi_q @ state / np.where(denominator == 0, 1, denominator)


LINEAR_ATTENTION = Exercise(
    name="linear_attention",
    topic="linear",
    title="Linear attention",
    kind="implement",
    difficulty=2,
    minutes=15,
    prompt=(
        "Average the values for each query, weighted by products of features: the weight of key j "
        "for query i is $\\varphi(q_i) \\cdot \\varphi(k_j)$, divided by the sum of these over all "
        "keys. `q` is (..., queries, d), `k` is (..., keys, d), `v` is (..., keys, e), and the "
        "result is (..., queries, e). `feature_map` is $\\varphi$, a function that turns an array "
        "(..., n, d) into one (..., n, m). Every query sees every key. Where the sum is 0, as it "
        "is where there is no key, the result is zeros.\n\n"
        f"With {LARGE} queries and keys the answer may take 4 MiB beyond its arguments, so the "
        "weights cannot all be formed. They need not be."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import elu_features\n\n\n"
        "def linear_attention(q, k, v, *, feature_map=elu_features):\n"
        "    ...\n"
    ),
    hints=(
        "A product of three matrices can be computed from the left or from the right. Which way "
        "forms no matrix of queries by keys?",
        "`feature_map(k).mT @ v` is (..., m, e) and knows all that queries will ask. The "
        "denominator needs the sum of the keys' features, (..., m).",
        "Divide `phi_q @ (phi_k.mT @ v)` by `phi_q @ phi_k.sum(axis=-2)[..., None]`, and mind a "
        "denominator of 0.",
    ),
    solve=linear,
    slips=(
        Slip(
            "not divided",
            "The sum of the values is not divided by the sum of the weights, so it is no average: "
            "it grows with the number of keys.",
            PAGE,
        ),
        *FEATURES,
        Slip(
            "divided by the number of keys",
            "The sum is divided by the number of keys. The weights do not sum to that number. It "
            "must be divided by the sum of the weights.",
            PAGE,
        ),
        Slip(
            "elu without the one",
            "elu(x) without the 1 added is negative for negative x, so weights can be negative. "
            "The feature map is elu(x) + 1; it is given as an argument.",
            PAGE,
        ),
        Slip(
            "divided by all queries' totals",
            "All queries are divided by one number, the sum of all their denominators. Each query "
            "must have its own.",
            PAGE,
        ),
        next(slip for slip in WEIGHTS if slip.name == "every axis transposed"),
        Slip(
            "summed over the first axis",
            "The keys' features are summed over axis 0. That is the axis of the keys only where "
            "there is no batch. Counted from the end it always is axis -2.",
            "appendix/notation",
        ),
        Slip(
            "a small number added below",
            "1e-6 is added to every denominator. Where features are small, that changes the "
            "result. Only a denominator of 0 may be replaced.",
            PAGE,
        ),
        Slip(
            "keys' features summed over the width",
            "The denominator leaves the query out: it is the sum of all features of all keys. It "
            "must be the product of the query's features and the sum of the keys' features.",
            PAGE,
        ),
        Slip(
            "softmax as features",
            "The features are a softmax over the width. That is another feature map than the one "
            "given as an argument.",
            PAGE,
        ),
        Slip(
            "feature_map ignored",
            "The argument `feature_map` has no effect. It must be called with the queries and with "
            "the keys.",
            PAGE,
        ),
        Slip(
            "no key",
            "Without a key the denominator is 0, and 0 / 0 is NaN. The result must be zeros there.",
            PAGE,
        ),
    ),
    cases=linear_cases,
    right=(linear_by_einsum, linear_key_by_key),
    helpers=("elu_features",),
    costly=Slip(
        "all weights at once",
        "All queries meet all keys before the values are averaged. Multiply keys and values "
        "first: `phi_q @ (phi_k.mT @ v)`.",
        PAGE,
    ),
)


def causal_linear(slips, q, k, v):
    """Let each query average the values up to its own by products of features."""
    q_features, k_features = mapped(slips, q, k)
    products = q_features @ k_features.mT
    n = q.shape[-2]
    seen = np.tri(n, k=-1 if "itself left out" in slips else 0, dtype=bool)
    if "the future instead of the past" in slips:
        seen = seen.T
    if "no mask" in slips:
        seen = np.ones((n, n), dtype=bool)
    weights = np.where(seen, products, 0)
    total = weights.sum(axis=-1, keepdims=True)
    if "the denominator sees the future" in slips:
        total = products.sum(axis=-1, keepdims=True)
    if "the denominator is one behind" in slips:
        total = np.where(np.tri(n, k=-1, dtype=bool), products, 0).sum(axis=-1, keepdims=True)
    if "the denominator begins with all keys" in slips:
        total = total + products.sum(axis=-1, keepdims=True)
    if "the denominator has its own key alone" in slips:
        total = np.diagonal(products, axis1=-2, axis2=-1)[..., None]
    if "divided by the number of keys" in slips:
        total = np.arange(1.0, n + 1)[:, None]
    if "not divided" in slips:
        total = np.ones_like(total)
    return weights @ v / total


def causal_cases(rng):
    """Draw sequences."""
    return [
        Case("one token", drawn(rng, 1, 1, 3, 2)),
        Case("two tokens", drawn(rng, 2, 2, 3, 1)),
        Case("five tokens", drawn(rng, 5, 5, 4, 2)),
        Case("as many tokens as features", drawn(rng, 3, 3, 3, 3)),
        Case("a batch of 2 with 3 heads", drawn(rng, 4, 4, 3, 2, 2, 3)),
        Case("large entries", tuple(30 * x for x in drawn(rng, 4, 4, 2, 3))),
        Case("float32", drawn(rng, 7, 7, 5, 2, dtype=np.float32)),
    ]


def causal_by_state(q, k, v):
    """A token at a time."""
    phi_q, phi_k = elu_features(q), elu_features(k)
    out = np.zeros_like(v)
    state = np.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]), dtype=q.dtype)
    total = np.zeros((*q.shape[:-2], q.shape[-1], 1), dtype=q.dtype)
    for t in range(q.shape[-2]):
        row = slice(t, t + 1)
        state = state + phi_k[..., row, :].mT @ v[..., row, :]
        total = total + phi_k[..., row, :].mT
        out[..., row, :] = phi_q[..., row, :] @ state / (phi_q[..., row, :] @ total)
    return out


def causal_by_sums(q, k, v):
    """With running sums of all states at once."""
    phi_q, phi_k = elu_features(q), elu_features(k)
    states = np.cumsum(phi_k[..., :, None] * v[..., None, :], axis=-3)
    totals = np.cumsum(phi_k, axis=-2)
    sums = np.einsum("...tm,...tmv->...tv", phi_q, states)
    return sums / np.einsum("...tm,...tm->...t", phi_q, totals)[..., None]


CAUSAL = Exercise(
    name="causal_linear_attention",
    topic="linear",
    title="The past alone",
    kind="find the bug",
    difficulty=2,
    minutes=10,
    prompt=(
        "Each token i should average the values of the tokens $j \\le i$. The weights are "
        "$\\varphi(q_i) \\cdot \\varphi(k_j)$ with $\\varphi = \\mathrm{elu} + 1$, divided by "
        "their sum over $j \\le i$. `q` and `k` are (..., n, d), `v` is (..., n, e), and so is "
        "the result. The program below keeps a state, as in decoding, and gets only the last token "
        "right. Mend it."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import elu_features\n\n\n"
        "def causal_linear_attention(q, k, v):\n"
        "    q, k = elu_features(q), elu_features(k)\n"
        "    state = np.zeros((*q.shape[:-2], q.shape[-1], v.shape[-1]))\n"
        "    total = k.sum(axis=-2)\n"
        "    out = np.zeros_like(v)\n"
        "    for t in range(q.shape[-2]):\n"
        "        state = state + k[..., t, :, None] * v[..., t, None, :]\n"
        "        above = (q[..., t, None, :] @ state)[..., 0, :]\n"
        "        out[..., t, :] = above / (q[..., t, :] * total).sum(axis=-1, keepdims=True)\n"
        "    return out\n"
    ),
    hints=(
        "Let all values be 1. What must every output be, and what does the program return?",
        "Each output is a fraction of two sums. Which of them knows tokens that are still to come?",
        "`total` must grow with the tokens, as `state` does.",
    ),
    solve=causal_linear,
    slips=(
        Slip(
            "the denominator sees the future",
            "The denominator sums over all keys, the numerator over the past. The weights of a "
            "token then sum to less than 1, and depend on tokens that are still to come.",
            PAGE,
        ),
        Slip(
            "no mask",
            "Every token sees all tokens. A token may only see those up to its own.",
            "algorithm/masks",
        ),
        ITSELF_LEFT_OUT,
        Slip(
            "not divided",
            "The sum of the values is not divided by the sum of the weights, so it is no average.",
            PAGE,
        ),
        Slip(
            "the denominator is one behind",
            "The denominator lacks the token itself. It must be updated before it is used.",
            PAGE,
        ),
        Slip(
            "the denominator begins with all keys",
            "The denominator grows with the tokens, but begins with the sum over all keys. It must "
            "begin with 0.",
            PAGE,
        ),
        Slip(
            "the denominator has its own key alone",
            "The denominator has the key of the token itself and none before. The keys must be "
            "added up.",
            PAGE,
        ),
        Slip(
            "the future instead of the past",
            "Each token sees itself and what comes after it. It may see itself and what came "
            "before.",
            "algorithm/masks",
        ),
        Slip(
            "divided by the number of keys",
            "The sum is divided by the number of tokens so far. It must be divided by the sum of "
            "their weights.",
            PAGE,
        ),
        *FEATURES,
    ),
    cases=causal_cases,
    right=(causal_by_state, causal_by_sums),
    helpers=("elu_features",),
    bug="the denominator sees the future",
)


def fading(slips, q, k, v, decay):
    """Average the past by products of features that fade with the distance."""
    q_features, k_features = mapped(slips, q, k)
    n = q.shape[-2]
    distance = np.arange(n)[:, None] - np.arange(n)
    seen = distance >= (1 if "itself left out" in slips else 0)
    if "no mask" in slips:
        seen = np.ones((n, n), dtype=bool)
    steps = np.abs(distance)
    if "fades from the start" in slips:
        steps = np.broadcast_to(np.arange(n), (n, n))
    if "fades with the square of the distance" in slips:
        steps = steps**2
    base = 1 - decay if "one minus the decay" in slips else decay
    fade = np.power(base, steps, dtype=np.float64)
    if "linear in the distance" in slips:
        fade = 1 - (1 - decay) * steps
    if "decay ignored" in slips:
        fade = np.ones((n, n))
    if "faded once" in slips:
        fade = np.where(steps > 0, decay, 1.0)
    products = np.where(seen, q_features @ k_features.mT, 0)
    weights = products * fade
    if "the power split in two" in slips:
        ahead = np.power(base, np.arange(n), dtype=np.float64)[:, None]
        weights = np.where(seen, (q_features * ahead) @ (k_features / ahead).mT, 0)
    total = weights.sum(axis=-1, keepdims=True)
    if "the denominator does not fade" in slips:
        total = products.sum(axis=-1, keepdims=True)
    if "not divided" in slips:
        total = np.ones_like(total)
    return (weights @ v / total).astype(q.dtype)


def fading_by_state(q, k, v, decay):
    """A token at a time."""
    phi_q, phi_k = elu_features(q), elu_features(k)
    ones = np.ones((*v.shape[:-1], 1), dtype=v.dtype)
    wide = np.concatenate([v, ones], axis=-1)
    state = np.zeros((*q.shape[:-2], q.shape[-1], wide.shape[-1]), dtype=q.dtype)
    rows = []
    for t in range(q.shape[-2]):
        state = decay * state + phi_k[..., t, :, None] * wide[..., t, None, :]
        rows.append((phi_q[..., t, None, :] @ state)[..., 0, :])
    both = np.stack(rows, axis=-2)
    return both[..., :-1] / both[..., -1:]


def fading_by_rows(q, k, v, decay):
    """A query at a time, by its own weights."""
    phi_q, phi_k = elu_features(q), elu_features(k)
    out = np.zeros_like(v)
    for t in range(q.shape[-2]):
        ages = np.arange(t, -1, -1)
        weights = (phi_k[..., : t + 1, :] @ phi_q[..., t, :, None])[..., 0] * decay**ages
        weights = weights / weights.sum(axis=-1, keepdims=True)
        out[..., t, :] = (weights[..., None] * v[..., : t + 1, :]).sum(axis=-2)
    return out


FADING = Exercise(
    name="fading_linear_attention",
    topic="linear",
    title="A past that fades",
    kind="extend",
    difficulty=3,
    minutes=20,
    prompt=(
        "Let each token average the values up to its own, so that older ones count less: the "
        "weight of token j for token i is $\\gamma^{\\,i-j}\\, \\varphi(q_i) \\cdot "
        "\\varphi(k_j)$, divided by the sum of these over $j \\le i$, with $\\varphi = "
        "\\mathrm{elu} + 1$ and $\\gamma$ = `decay`, a number above 0 and below 1. `q` and `k` are "
        "(..., n, d), `v` is (..., n, e), and so is the result. There can be hundreds of tokens, "
        "and `decay` can be as small as one hundredth."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import elu_features\n\n\n"
        "def fading_linear_attention(q, k, v, decay):\n"
        "    ...\n"
    ),
    hints=(
        "There are two ways: all n² weights at once, or a state that fades before each token is "
        "added. Which sums must fade?",
        "With all weights at once the exponents are `np.arange(n)[:, None] - np.arange(n)` on and "
        "below the diagonal; above it the weights are 0.",
        "With a state, for each token t: `state = decay * state + ...` and `total = decay * total "
        "+ phi_k[t]`; its result is `phi_q[t] @ state` divided by `phi_q[t] @ total`.",
    ),
    solve=fading,
    slips=(
        Slip(
            "the denominator does not fade",
            "The numerator fades and the denominator does not, so the weights of a token sum to "
            "less than 1. Both must fade.",
            PAGE,
        ),
        Slip(
            "not divided",
            "The weights are not divided by their sum, so the result is no average.",
            PAGE,
        ),
        Slip(
            "fades from the start",
            "The decay counts from the first token, so the newest one fades most. It must count "
            "back from the query.",
            PAGE,
        ),
        ITSELF_LEFT_OUT,
        Slip(
            "no mask",
            "A token sees tokens that come after it. It may only see those up to its own.",
            "algorithm/masks",
        ),
        Slip(
            "the power split in two",
            "The power is split into one of i and one of -j. In a long text the first becomes 0 "
            "and the second overflows, and their product is NaN. Raise `decay` to i - j.",
            PAGE,
        ),
        Slip(
            "decay ignored",
            "The argument `decay` has no effect. Older tokens must count less.",
            PAGE,
        ),
        Slip(
            "faded once",
            "All older tokens fade alike, by one factor. The factor must come in again with every "
            "step back.",
            PAGE,
        ),
        Slip(
            "one minus the decay",
            "Weights are multiplied by 1 - decay at every step. They must be multiplied by "
            "`decay`: it is the part that is left.",
            PAGE,
        ),
        Slip(
            "linear in the distance",
            "Weights lose the same amount at every step. They must be multiplied by `decay` at "
            "every step.",
            PAGE,
        ),
        Slip(
            "fades with the square of the distance",
            "The exponent is the square of the distance. It must be the distance itself.",
            PAGE,
        ),
        *FEATURES,
    ),
    cases=lambda rng: [
        *(
            Case(case.what, (*case.args, float(decay)))
            for case, decay in zip(
                causal_cases(rng), (0.5, 0.5, 0.8, 0.9, 0.7, 0.6, 0.3), strict=True
            )
        ),
        Case("a fast decay over 200 tokens", (*drawn(rng, 200, 200, 2, 1), 0.01)),
    ],
    right=(fading_by_state, fading_by_rows),
    helpers=("elu_features",),
)


RULE = Lines(
    "def delta_rule(q, k, v, beta):",
    (
        "    S = S + beta[t] * np.outer(k[t], v[t])",
        "out = np.zeros((len(q), v.shape[-1]))",
        "    error = v[t] - q[t] @ S",
        "    out[t] = q[t] @ S",
        "for t in range(len(q)):",
        "    S = S + beta[t] * np.outer(k[t], error)",
        "S = np.zeros((k.shape[-1], v.shape[-1]))",
        "    S = S + np.outer(k[t], error)",
        "    error = v[t] - k[t] @ S",
        "    out[t] = k[t] @ S",
        "return out",
    ),
)

DELTA_RULE = Exercise(
    name="delta_rule",
    topic="linear",
    title="Correct what is stored",
    kind="order",
    difficulty=2,
    minutes=10,
    prompt=(
        "The delta rule stores each value under its key, in place of what the key recalled before: "
        "$S_t = S_{t-1} + k_t\\, (\\beta_t (v_t - S_{t-1}^\\top k_t))^\\top$, and then answers the "
        "query, $o_t = S_t^\\top q_t$. The state S begins with zeros. `q` and `k` are (n, d), "
        "`v` is (n, e), `beta` is (n,), and the outputs are (n, e). Put lines in order so that "
        "they do this: seven of them do, four belong nowhere. The indented lines stand in the "
        "loop. Answer with letters."
    ),
    hints=(
        "Two lines make the arrays, one begins the loop, three stand in it, one ends the program.",
        "The error is the value that is to be stored, minus what the key recalls.",
        "In the loop: the error by the key, the state with `beta`, the output by the query.",
    ),
    solve=Orders(
        RULE,
        "GBEIFDK",
        {
            "recalled before stored": "GBEIDFK",
            "added without correcting": "GBEADK",
            "strength left out": "GBEIHDK",
            "error by the query": "GBECFDK",
            "recalled by the key": "GBEIFJK",
            "stored on top of the correction": "GBEIFADK",
            "corrected after storing": "GBEAIFDK",
            "never stored": "GBEDK",
            "error by the query, strength left out": "GBECHDK",
        },
    ),
    slips=(
        Slip(
            "recalled before stored",
            "The output is read before the token is stored, so it does not know the token's own "
            "value. The token must be stored first.",
            PAGE,
        ),
        Slip(
            "added without correcting",
            "The value is added to what the key recalls already. The delta rule takes that away "
            "first: it adds the error.",
            PAGE,
        ),
        Slip(
            "strength left out",
            "`beta` has no effect. It says how much of the error is corrected.",
            PAGE,
        ),
        Slip(
            "error by the query",
            "The error is computed from what the query recalls. It must be computed from what the "
            "key recalls, because the value is stored under the key.",
            PAGE,
        ),
        Slip(
            "recalled by the key",
            "The output is what the key recalls. It must be what the query recalls.",
            "concepts/query_key_value",
        ),
        Slip(
            "stored on top of the correction",
            "The error and the value are both added to the state. The error alone must be.",
            PAGE,
        ),
        Slip(
            "corrected after storing",
            "The value is added first, and then the error that is left is corrected. The error "
            "must be computed before anything of the token is stored.",
            PAGE,
        ),
        Slip(
            "never stored",
            "All outputs are 0: nothing is stored in the state before it is read, or nothing is "
            "written to `out` before it is returned.",
            PAGE,
        ),
        Slip(
            "error by the query, strength left out",
            "The error is computed from what the query recalls, and `beta` has no effect. It must "
            "be computed from what the key recalls, and `beta` says how much of it is corrected.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case(what, (*drawn(rng, n, n, d, e), rng.random(n)))
        for what, n, d, e in (
            ("one token", 1, 3, 2),
            ("two tokens", 2, 3, 1),
            ("five tokens", 5, 4, 2),
            ("as many tokens as features", 3, 3, 3),
        )
    ],
    right=("BGEIFDK", "b, g, e, i, f, d, k"),
    lines=RULE,
)


WIDTH, VALUE, COUNT = 128, 64, 512
STATE = COUNT * VALUE + COUNT


def more_than(state, token):
    """Return from how many tokens on a cache with `token` numbers each exceeds `state`."""
    return state // token + 1


STATE_OR_CACHE = Exercise(
    name="state_or_cache",
    topic="linear",
    title="State or cache",
    kind="predict",
    difficulty=2,
    minutes=8,
    prompt=(
        f"One head has queries and keys of width {WIDTH} and values of width {VALUE}. A cache "
        "keeps the key and the value of every token. Causal linear attention keeps its state "
        f"instead, two sums, with a feature map that makes {COUNT} features of a key. What is the "
        "smallest number of tokens for which the cache holds more numbers than the state? Give an "
        "integer."
    ),
    hints=(
        "What are the shapes of the two sums of the state?",
        "One sum is of features times values, for the numerator; the other is of features, for the "
        "denominator.",
        f"The state has {COUNT} · {VALUE} + {COUNT} numbers, a token of the cache "
        f"{WIDTH} + {VALUE}. The cache must hold more, not as many.",
    ),
    solve=predictions(
        more_than(STATE, WIDTH + VALUE),
        {
            "denominator forgotten": more_than(COUNT * VALUE, WIDTH + VALUE),
            "rounded down": STATE // (WIDTH + VALUE),
            "features forgotten": more_than(WIDTH * VALUE + WIDTH, WIDTH + VALUE),
            "features and denominator forgotten": more_than(WIDTH * VALUE, WIDTH + VALUE),
            "not rounded": STATE / (WIDTH + VALUE),
            "keys alone": more_than(STATE, WIDTH),
            "values alone": more_than(STATE, VALUE),
            "features by the width of keys": more_than(COUNT * WIDTH + COUNT, WIDTH + VALUE),
            "features by features": more_than(COUNT**2 + COUNT, WIDTH + VALUE),
            "features in the cache": more_than(STATE, COUNT + VALUE),
            "the state itself": STATE,
        },
    ),
    slips=(
        Slip(
            "denominator forgotten",
            "One of the two sums is missing: the sum of the features, which the denominator needs.",
            PAGE,
        ),
        Slip(
            "rounded down",
            "With that many tokens the cache still holds fewer numbers than the state. It must "
            "hold more.",
            PAGE,
        ),
        Slip(
            "features forgotten",
            "The state was counted with the width of a key. It is made of features of the keys, "
            f"and there are {COUNT} of them.",
            PAGE,
        ),
        Slip(
            "features and denominator forgotten",
            "The state was counted with the width of a key, and without the sum that the "
            f"denominator needs. It is made of {COUNT} features of the keys.",
            PAGE,
        ),
        Slip(
            "not rounded",
            "Here both would hold as many numbers, but it is no whole number of tokens. The "
            "smallest whole number is asked for with which the cache holds more.",
            PAGE,
        ),
        Slip(
            "keys alone",
            "Of the cache only the keys were counted. It holds the values too.",
            "algorithm/cache",
        ),
        Slip(
            "values alone",
            "Of the cache only the values were counted. It holds the keys too.",
            "algorithm/cache",
        ),
        Slip(
            "features by the width of keys",
            "The large sum has a row for each feature and a column for each entry of a value, not "
            "of a key.",
            PAGE,
        ),
        Slip(
            "features by features",
            "The large sum has a row for each feature and a column for each entry of a value, not "
            "for each feature.",
            PAGE,
        ),
        Slip(
            "features in the cache",
            f"A token of the cache was counted with {COUNT} features. The cache holds the keys "
            "themselves, not their features.",
            "algorithm/cache",
        ),
        Slip(
            "the state itself",
            "This is how many numbers the state holds. The question is how many tokens of the "
            "cache hold more.",
            PAGE,
        ),
    ),
    right=(
        float(-(-(STATE + 1) // (WIDTH + VALUE))),
        np.array(next(n for n in range(STATE) if n * (WIDTH + VALUE) > STATE)),
    ),
)

EXERCISES = (STATE_OR_CACHE, LINEAR_ATTENTION, CAUSAL, DELTA_RULE, FADING)
