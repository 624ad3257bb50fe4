"""Exercises on windows."""

import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, attended, drawn
from attn_course.exercises.exercise import Case, Exercise, Slip, predictions
from attn_course.exercises.gradients import ZERO_SCALE
from attn_course.exercises.masks import ALIGNED, WINDOWS, window_seen
from attn_course.reference.dot_product import attention
from attn_course.reference.masks import causal_mask, window_mask
from attn_course.reference.softmax import softmax

PAGE = "algorithm/window"
MASKS = "algorithm/masks"
LARGE = 2048  # tokens: all scores in float32 take 16 MiB
SHARED = ("unscaled", "empty row", "a large negative number", "scale ignored", "softcap ignored")


def windowed(slips, q, k, v, window, *, scale=None, softcap=None):
    """Attend to a window: the right way by gathering its keys, a wrong one by all scores."""
    queries, keys = q.shape[-2], k.shape[-2]
    if not slips:
        seen = np.arange(queries)[:, None] + keys - queries - np.arange(window)  # (queries, window)
        inside = seen >= 0
        k, v = (x[..., np.where(inside, seen, 0), :] for x in (k, v))
        scores = np.einsum("...id,...iwd->...iw", q, k)
        scores = scores * ((1 / math.sqrt(q.shape[-1])) if scale is None else scale)
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        weights = softmax(np.where(inside, scores, -np.inf))
        return np.einsum("...iw,...iwe->...ie", weights, v)
    usual = 1 / math.sqrt(q.shape[-1])
    if ZERO_SCALE.name in slips:
        scale = scale or None
    if "scaled twice" in slips:
        scale = usual * (usual if scale is None else scale)
    mask = window_seen(slips, queries, keys, window)
    positions = np.arange(queries) + keys - queries
    if "the keys before the block left out" in slips:
        mask = mask & (np.arange(keys) >= positions[:1])
    if "a slice that starts below 0" in slips:
        mask = np.zeros_like(mask)
        for i, position in enumerate(positions):
            mask[i, position - window + 1 : position + 1] = True
    if "a block's slice that starts below 0" in slips:
        k, v = (x[..., keys - queries - window + 1 :, :] for x in (k, v))
        mask = window_mask(queries, k.shape[-2], window)
    out = attended(slips, q, k, v, mask, scale=scale, softcap=softcap)
    if "as wide as a query" in slips:
        wide = np.zeros_like(q)
        wide[...] = out
        return wide
    return out


def windows(rng):
    """Draw the situations in which windows differ."""
    a = drawn(rng, 7, 7, 4, 3)
    return [
        Case("three tokens, a window of 2", (*drawn(rng, 3, 3, 2, 1), 2)),
        Case("a window of 1", (*drawn(rng, 3, 3, 4, 2), 1)),
        Case("seven tokens, a window of 3", (*a, 3)),
        Case("a window wider than the text", (*a, 11)),
        Case("fewer queries than keys", (*drawn(rng, 2, 6, 3, 2), 4)),
        Case("more queries than keys", (*drawn(rng, 5, 3, 4, 2), 2)),
        Case("large scores", (*(50 * x for x in drawn(rng, 5, 5, 4, 2)), 3)),
        Case("a batch of 2 with 3 heads", (*drawn(rng, 5, 5, 4, 2, 2, 3), 3)),
        Case("a scale and a softcap", (*a, 3), {"scale": 2.0, "softcap": 1.5}),
        Case("a scale of 0", (*a, 3), {"scale": 0.0}),
        Case("float32", (*drawn(rng, 6, 6, 3, 2, dtype=np.float32), 4)),
        Case(
            f"{LARGE} tokens, a window of 16",
            (*drawn(rng, LARGE, LARGE, 8, 8, dtype=np.float32), 16),
            bound=6 * 2**20,
        ),
    ]


def in_blocks(q, k, v, window, *, scale=None, softcap=None):
    """A block of queries at a time, with the keys that it can see."""
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)
    for start in range(max(0, -offset), q.shape[-2], 64):
        stop = min(start + 64, q.shape[-2])
        first, last = max(0, start + offset - window + 1), stop + offset
        mask = window_mask(stop - start, last - first, window)
        rows = (q[..., start:stop, :], k[..., first:last, :], v[..., first:last, :])
        out[..., start:stop, :] = attention(*rows, mask, scale=scale, softcap=softcap)
    return out


def query_by_query(q, k, v, window, *, scale=None, softcap=None):
    """One query at a time."""
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    offset = k.shape[-2] - q.shape[-2]
    out = np.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)
    for i in range(max(0, -offset), q.shape[-2]):
        seen = slice(max(0, i + offset + 1 - window), i + offset + 1)
        scores = np.einsum("...d,...wd->...w", q[..., i, :], k[..., seen, :])
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        out[..., i, :] = np.einsum("...w,...we->...e", softmax(scores), v[..., seen, :])
    return out


WINDOW_ATTENTION = Exercise(
    name="window_attention",
    topic="window",
    title="Attention in a window",
    kind="implement",
    difficulty=3,
    minutes=30,
    prompt=(
        "Let each query attend to the last `window` keys up to its own position, its own "
        "included; `window` is 1 or more. `q` is (..., queries, d), `k` is (..., keys, d), `v` is "
        "(..., keys, e), and the result is (..., queries, e). The last query stands at the last "
        "key: query i stands at position i + keys - queries. Where there are more queries than "
        "keys, the first ones see no key and get zeros. `scale` is $1/\\sqrt d$ unless it is "
        "given; a `softcap` turns scaled scores into `softcap * tanh(scores / softcap)`.\n\n"
        f"With {LARGE} tokens the answer may take 6 MiB beyond its arguments. All scores at once "
        "take more."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import attention, window_mask\n\n\n"
        "def window_attention(q, k, v, window, *, scale=None, softcap=None):\n"
        "    ...\n"
    ),
    hints=(
        "Take 64 queries at a time. Which keys can they see at most?",
        "A block of queries sees the keys from the first one in the window of its first query to "
        "the position of its last query.",
        "For a block from `start` to `stop`, with `offset = keys - queries`: the keys from "
        "`max(0, start + offset - window + 1)` up to, but without, `stop + offset`, and "
        "`attention` with the `window_mask` of as many queries and keys. Queries before position 0 "
        "keep zeros.",
    ),
    solve=windowed,
    slips=(
        *WINDOWS,
        Slip(
            "a slice that starts below 0",
            "For the first queries the slice starts at a negative number, which counts from the "
            "end, so they see other keys or none. It must not start below 0.",
            PAGE,
        ),
        Slip(
            "a block's slice that starts below 0",
            "For a block of queries at the beginning, the slice of its keys starts at a negative "
            "number, which counts from the end. It must not start below 0.",
            PAGE,
        ),
        Slip(
            "the keys before the block left out",
            "A block of queries gets only the keys at its own positions. Its first queries also "
            "see keys from before the block.",
            PAGE,
        ),
        *(slip for slip in WEIGHTS if slip.name in SHARED),
        ZERO_SCALE,
        Slip(
            "scaled twice",
            "The scores are scaled twice. `attention` divides by √d unless it is given a scale: "
            "hand the scale on, and leave the queries as they are.",
            "algorithm/dot_product",
        ),
        Slip(
            "as wide as a query",
            "The result has the shape of `q`, as `np.zeros_like(q)` makes it. It must be as wide "
            "as the values: (..., queries, e).",
            "appendix/notation",
        ),
    ),
    cases=windows,
    right=(in_blocks, query_by_query),
    helpers=("attention", "window_mask"),
    costly=Slip(
        "all scores at once",
        "All queries meet all keys, and a mask throws most of it away. Take a block of queries at "
        "a time, with the few keys that it can see.",
        PAGE,
    ),
)


LAYERS, WIDE = 6, 32
REACH = Exercise(
    name="layers_and_windows",
    topic="window",
    title="How far layers reach",
    kind="predict",
    difficulty=1,
    minutes=5,
    prompt=(
        f"A model has {LAYERS} layers. In each of them every token sees the last {WIDE} tokens up "
        "to its own, its own included. Take a token far from the beginning of the text. How many "
        "tokens of the text, its own included, can have an effect on what the last layer returns "
        "for it? Give an integer."
    ),
    hints=(
        "Try one layer with a window of 2, then two layers.",
        "In one layer a window of w reaches w - 1 tokens back.",
        "Each further layer reaches w - 1 tokens beyond the one below it.",
    ),
    solve=predictions(
        LAYERS * (WIDE - 1) + 1,
        {
            "layers times window": LAYERS * WIDE,
            "one layer alone": WIDE,
            "itself not counted": LAYERS * (WIDE - 1),
            "one more for every layer": WIDE + LAYERS - 1,
            "layers times window and itself": LAYERS * WIDE + 1,
            "twice itself": LAYERS * (WIDE - 1) + 2,
            "window to the power": WIDE**LAYERS,
            "both directions": 2 * LAYERS * (WIDE - 1) + 1,
            "doubled at every layer": WIDE * 2 ** (LAYERS - 1),
            "one layer forgotten": (LAYERS - 1) * (WIDE - 1) + 1,
        },
    ),
    slips=(
        Slip(
            "layers times window",
            "Layers times window is too many. A window includes the token itself, so a layer does "
            "not reach so far back.",
            PAGE,
        ),
        Slip(
            "one layer alone",
            "This is the reach of one layer. The rows that the next layer reads already hold "
            "tokens from further back.",
            PAGE,
        ),
        Slip(
            "itself not counted",
            "The token itself is not counted. It has an effect too.",
            PAGE,
        ),
        Slip(
            "one more for every layer",
            "Each further layer was counted as one token more. It adds as many tokens as a window "
            "reaches back.",
            PAGE,
        ),
        Slip(
            "layers times window and itself",
            "Layers times window and one more is too many. A window includes the token itself, so "
            "a layer does not reach so far back.",
            PAGE,
        ),
        Slip("twice itself", "The token itself is counted twice. It must be counted once.", PAGE),
        Slip(
            "window to the power",
            "There are that many paths through the layers. The windows overlap, so the paths end "
            "at far fewer tokens.",
            PAGE,
        ),
        Slip(
            "both directions",
            "Tokens after the token were counted too. The window ends at the token itself.",
            PAGE,
        ),
        Slip(
            "doubled at every layer",
            "The reach was doubled at every layer. Each layer adds the same number of tokens.",
            PAGE,
        ),
        Slip(
            "one layer forgotten",
            f"One layer too few was counted. All {LAYERS} have a window.",
            PAGE,
        ),
    ),
    right=(
        float(1 + LAYERS * (WIDE - 1)),
        np.array(WIDE + (LAYERS - 1) * (WIDE - 1)),
    ),
)


def drawn_sizes(rng, fewest_keys=6):
    """Return a number of queries and of keys."""
    return int(rng.integers(6, 12)), int(rng.integers(fewest_keys, 12))


def dilated(slips, queries, keys, window, step):
    """Let each query see `window` keys, `step` apart."""
    offset = 0 if "aligned at the start" in slips else keys - queries
    distance = np.arange(queries)[:, None] + offset - np.arange(keys)
    count = window
    if "one key too many" in slips:
        count = window + 1
    if "one key too few" in slips:
        count = window - 1
    longest = count if "the window in tokens" in slips else count * step
    if "steps counted from the start" in slips:
        hit = np.arange(keys) % step == 0
    elif "steps left out" in slips:
        hit = distance % step != 0
    elif "step ignored" in slips:
        hit = np.full(distance.shape, True)
    elif "one step too far" in slips:
        hit = distance % (step + 1) == 0
        longest = count * (step + 1)
    else:
        hit = distance % step == 0
    first = 1 if "itself left out" in slips else 0
    mask = hit & (distance >= first) & (distance < longest)
    if "the future as well" in slips:
        mask = hit & (np.abs(distance) < longest) & (np.abs(distance) >= first)
    if "indices below 0" in slips:
        mask = np.zeros((queries, keys), dtype=bool)
        for i in range(queries):
            for m in range(first, count):
                mask[i, i + offset - m * step] = True
    return mask


def by_slices(queries, keys, window, step):
    """Row by row, with a slice."""
    mask = np.zeros((queries, keys), dtype=bool)
    for i in range(queries):
        p = i + keys - queries
        if p >= 0:
            mask[i, p::-step][:window] = True
    return mask


def from_two_masks(queries, keys, window, step):
    """As a window of window * step tokens, thinned out."""
    distance = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    wide = causal_mask(queries, keys) & (distance // step < window)
    return wide & (distance / step == distance // step)


DILATED = Exercise(
    name="dilated_window_mask",
    topic="window",
    title="A window with gaps",
    kind="extend",
    difficulty=2,
    minutes=15,
    prompt=(
        "A window of w keys can reach further if it leaves keys out. Write "
        "`dilated_window_mask(queries, keys, window, step)`, which returns a mask (queries, keys), "
        "True where a query may look: at the `window` keys at the distances 0, step, 2·step, ... "
        "before its own position, as far as there are such keys. With `step` 1 it is "
        "`window_mask`. `window` and `step` are 1 or more, and `queries` may be 0. The last query "
        "stands at the last key. Where there are more queries than keys, the first ones see "
        "nothing."
    ),
    starter=(
        "import numpy as np\n\n\ndef dilated_window_mask(queries, keys, window, step):\n    ...\n"
    ),
    hints=(
        "Make one array of distances, (queries, keys), and ask all questions of it.",
        "`np.arange(queries)[:, None] + keys - queries - np.arange(keys)` is how far each key lies "
        "before each query.",
        "Three conditions: the distance is not negative, it is a multiple of `step`, and it is "
        "less than `window * step`.",
    ),
    solve=dilated,
    slips=(
        Slip(
            "the window in tokens",
            "The window is measured in tokens, so fewer than `window` keys are left in it. It must "
            "hold `window` keys, the last of them (window - 1) · step before the query.",
            PAGE,
        ),
        Slip(
            "steps counted from the start",
            "The steps are counted from the first key, so all queries see keys of the same "
            "columns. They must be counted back from the query.",
            PAGE,
        ),
        ALIGNED,
        Slip(
            "one key too many",
            "Each query sees window + 1 keys. The key at distance 0 counts as the first of "
            "`window`.",
            PAGE,
        ),
        Slip(
            "one key too few",
            "Each query sees window - 1 keys. The last one, at distance (window - 1) · step, is "
            "missing.",
            PAGE,
        ),
        Slip(
            "itself left out",
            "The query's own key, at distance 0, is left out. It is the first of the `window` "
            "keys.",
            PAGE,
        ),
        Slip(
            "indices below 0",
            "Keys before the first one are written to negative indices, which count from the end. "
            "There are no such keys: leave them out.",
            PAGE,
        ),
        Slip(
            "the future as well",
            "The window also reaches into the future. It must end at the query.",
            MASKS,
        ),
        Slip(
            "steps left out",
            "The mask shows the keys between the steps and hides those at the steps. It must be "
            "the other way around.",
            PAGE,
        ),
        Slip(
            "step ignored",
            "No key is left out in between: all keys over the whole length of the window are seen. "
            "Only the distances that are multiples of `step` may be.",
            PAGE,
        ),
        Slip(
            "one step too far",
            "`step` keys are left out between two that are seen. `step` is the distance between "
            "them, so step - 1 must be left out.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case("a step of 1 is a window", (4, 4, 2, 1)),
        Case("a step of 2", (6, 6, 2, 2)),
        Case("fewer queries than keys", (3, 9, 3, 2)),
        Case("more queries than keys", (6, 4, 2, 2)),
        Case("one query", (1, 8, 3, 3)),
        Case("a window of 1", (5, 5, 1, 3)),
        Case("sizes drawn anew", (*drawn_sizes(rng, fewest_keys=9), 3, 3)),
        Case("no query", (0, 4, 2, 2)),
    ],
    right=(by_slices, from_two_masks),
)


def sinks(slips, queries, keys, window, first):
    """Let each query see a window and the first keys."""
    positions = np.arange(queries)[:, None]
    if "aligned at the start" not in slips:
        positions = positions + keys - queries
    j = np.arange(keys)
    back = window if "one key too many" in slips else window - 1
    if "one key too few" in slips:
        back = window - 2
    past = np.full((queries, keys), True) if "the future as well" in slips else j <= positions
    count = first + 1 if "one sink too many" in slips else first
    sink = j < count
    if "the last keys for the first" in slips:
        sink = j >= keys - count
    inside = past & (j >= positions - back)
    if "sinks that come later" in slips:
        return inside | sink
    if "both at once" in slips:
        return inside & sink
    if "sinks inside the window" in slips:
        return past & (j >= positions - back + count) | past & sink
    if "sinks left out" in slips:
        return inside
    return inside | (past & sink)


def sinks_by_rows(queries, keys, window, first):
    """Row by row."""
    mask = np.zeros((queries, keys), dtype=bool)
    for i in range(queries):
        p = i + keys - queries + 1
        mask[i, max(0, p - window) : max(0, p)] = True
        mask[i, : min(first, max(0, p))] = True
    return mask


def sinks_of_two(queries, keys, window, first):
    """As a window, or as a causal mask of the first keys."""
    causal = causal_mask(queries, keys)
    causal[:, first:] = False
    return causal | window_mask(queries, keys, window)


SINKS = Exercise(
    name="sink_window_mask",
    topic="window",
    title="The first keys stay in sight",
    kind="find the bug",
    difficulty=2,
    minutes=10,
    prompt=(
        "A model that writes on and on with a window breaks down once the first tokens have left "
        "the window, because many heads put their spare weight there. The remedy of Xiao et al. "
        "(2024): each query sees the last `window` keys up to its own position, and of the first "
        "`first` keys of the text those that are not in its future. Return a mask (queries, keys), "
        "True where a query may look; the last query stands at the last key. The program below is "
        "wrong for some sizes. Mend it."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def sink_window_mask(queries, keys, window, first):\n"
        "    positions = np.arange(queries)[:, None] + keys - queries\n"
        "    j = np.arange(keys)\n"
        "    inside = (j <= positions) & (j > positions - window)\n"
        "    return inside | (j < first)\n"
    ),
    hints=(
        "Print the mask of 4 queries, 4 keys, a window of 1 and `first` 2.",
        "Which rows see a key that comes after them?",
        "Some of the first keys are in the future of the first queries. The causal condition must "
        "hold for these keys too.",
    ),
    solve=sinks,
    slips=(
        Slip(
            "sinks that come later",
            "The first queries see some of the first keys before these have come. The causal "
            "condition must hold for the first keys too.",
            MASKS,
        ),
        Slip(
            "sinks left out",
            "The first keys are seen only while the window holds them. They must stay in sight.",
            PAGE,
        ),
        Slip(
            "both at once",
            "A query sees only keys that are among the first and in the window at once. One of the "
            "two must be enough.",
            MASKS,
        ),
        Slip(
            "the last keys for the first",
            "The last keys stay in sight. It must be the first ones.",
            PAGE,
        ),
        Slip(
            "sinks inside the window",
            "The first keys take the place of keys of the window. They must come on top of it.",
            PAGE,
        ),
        Slip(
            "one sink too many",
            "At the beginning first + 1 keys stay in sight. Keys are counted from 0, so the last "
            "one that stays must be first - 1.",
            PAGE,
        ),
        Slip(
            "the future as well", "Queries see every key after them, which must be hidden.", MASKS
        ),
        Slip(
            "one key too many",
            "The window holds window + 1 keys. The query's own key counts as one of `window`.",
            PAGE,
        ),
        Slip(
            "one key too few",
            "The window holds window - 1 keys. One at its far end is missing.",
            PAGE,
        ),
        ALIGNED,
    ),
    cases=lambda rng: [
        Case("four tokens, a window of 1, two first keys", (4, 4, 1, 2)),
        Case("eight tokens", (8, 8, 3, 2)),
        Case("fewer queries than keys", (3, 9, 2, 3)),
        Case("more queries than keys", (6, 4, 2, 1)),
        Case("one query", (1, 7, 2, 2)),
        Case("no first key", (5, 5, 2, 0)),
        Case("sizes drawn anew", (*drawn_sizes(rng), 2, 3)),
    ],
    right=(sinks_by_rows, sinks_of_two),
    bug="sinks that come later",
)

EXERCISES = (REACH, WINDOW_ATTENTION, SINKS, DILATED)
