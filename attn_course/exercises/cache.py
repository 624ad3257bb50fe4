"""Exercises on decoding with a cache."""

import math

import numpy as np

from attn_course.exercises.dot_product import WEIGHTS, attended
from attn_course.exercises.exercise import Case, Exercise, Slip, predictions
from attn_course.exercises.masks import TRANSPOSED, TURNED
from attn_course.reference.dot_product import attention
from attn_course.reference.masks import causal_mask

PAGE = "algorithm/cache"
MASKS = "algorithm/masks"


def step(slips, q, k, v, keys, values):
    """Append a token to what is cached and let it attend to all of it."""
    joined = []
    for old, new in ((keys, k), (values, v)):
        pair = (new, old) if "added in front" in slips else (old, new)
        whole = np.concatenate(pair, axis=-2)
        if "the last token overwritten" in slips:
            whole = np.concatenate([old[..., :-1, :], new], axis=-2)
        if "keys alone appended" in slips and old is values:
            whole = np.concatenate([old, np.zeros_like(new)], axis=-2)
        joined.append(whole)
    seen_keys, seen_values = (keys, values) if "appended too late" in slips else joined
    mask = True
    if "mask aligned at the start" in slips:
        mask = np.arange(seen_keys.shape[-2]) < 1
    if "only itself" in slips:
        seen_keys, seen_values = k, v
    out = attended(slips, q, seen_keys, seen_values, mask)
    if "every head sees the first" in slips:
        out = attended(slips, q, *(x[..., :1, :, :] for x in (seen_keys, seen_values)), mask)
    if "the new token alone returned" in slips:
        joined = [k, v]
    if "the cache returned as it was given" in slips:
        joined = [keys, values]
    return (out, *joined)


def step_cases(rng):
    """Draw caches and a token; heads come first."""

    def drawn(heads, cached, d, e, dtype=np.float64):
        shapes = [
            (heads, 1, d),
            (heads, 1, d),
            (heads, 1, e),
            (heads, cached, d),
            (heads, cached, e),
        ]
        return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)

    return [
        Case("one head, two tokens cached", drawn(1, 2, 3, 2)),
        Case("one token cached", drawn(2, 1, 3, 1)),
        Case("nothing cached", drawn(2, 0, 3, 2)),
        Case("three heads, five tokens cached", drawn(3, 5, 4, 2)),
        Case("keys and values of one width", drawn(2, 4, 3, 3)),
        Case("as many heads as tokens", drawn(3, 2, 3, 3)),
        # No entry is small, so in every draw the exponentials are too large for float64.
        Case("large scores", tuple(40 * (1 + np.abs(x)) for x in drawn(2, 3, 3, 2))),
        Case("float32", drawn(2, 6, 5, 3, np.float32)),
    ]


def step_by_writing(q, k, v, keys, values):
    """Into a larger array."""
    heads, cached, d = keys.shape
    grown_keys = np.empty((heads, cached + 1, d), dtype=keys.dtype)
    grown_values = np.empty((heads, cached + 1, values.shape[-1]), dtype=values.dtype)
    grown_keys[:, :cached], grown_keys[:, cached:] = keys, k
    grown_values[:, :cached], grown_values[:, cached:] = values, v
    return attention(q, grown_keys, grown_values), grown_keys, grown_values


def step_by_heads(q, k, v, keys, values):
    """A head at a time, by sums."""
    keys, values = np.append(keys, k, axis=1), np.append(values, v, axis=1)
    rows = []
    for h in range(len(q)):
        scores = keys[h] @ q[h, 0] / math.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        rows.append(weights @ values[h] / weights.sum())
    return np.stack(rows)[:, None], keys, values


DECODE_STEP = Exercise(
    name="decode_step",
    topic="cache",
    title="One token more",
    kind="implement",
    difficulty=1,
    minutes=10,
    prompt=(
        "A model writes its next token. Append the token's key `k`, (heads, 1, d), to the cached "
        "`keys`, (heads, cached, d), and its value `v`, (heads, 1, e), to the cached `values`, "
        "(heads, cached, e). Let its query `q`, (heads, 1, d), attend to all of them, its own "
        "included. Return the output, (heads, 1, e), the longer keys and the longer values. At the "
        "first token `cached` is 0. The arrays that were given stay as they are."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import attention\n\n\n"
        "def decode_step(q, k, v, keys, values):\n"
        "    ...\n"
    ),
    hints=(
        "Does a single query, the newest, need a causal mask?",
        "`np.concatenate([keys, k], axis=-2)` appends a key and leaves `keys` as it is.",
        "Concatenate keys, concatenate values, `attention(q, keys, values)`, return all three.",
    ),
    solve=step,
    slips=(
        Slip(
            "appended too late",
            "The token attends before it is appended, so it does not see itself, and the first "
            "token sees nothing. Append first.",
            PAGE,
        ),
        Slip(
            "mask aligned at the start",
            "The one query is taken for the first of the text and sees one key. It is the last "
            "token and sees all of them.",
            MASKS,
        ),
        Slip(
            "added in front",
            "The new token stands in front of the cached ones. The output is the same, but in the "
            "cache the newest token must stand last.",
            PAGE,
        ),
        Slip(
            "the last token overwritten",
            "The new token takes the place of the last cached one. The cache must grow by one "
            "token.",
            PAGE,
        ),
        Slip(
            "only itself",
            "The new token sees itself and nothing of the cache. It must see both.",
            PAGE,
        ),
        Slip(
            "the new token alone returned",
            "Only the new key and value are returned. The next step needs all of them.",
            PAGE,
        ),
        Slip(
            "the cache returned as it was given",
            "The keys and values are returned as they were given, without the new token. The next "
            "step needs the longer ones.",
            PAGE,
        ),
        Slip(
            "keys alone appended",
            "The new key is appended, but in place of the new value stand zeros. Both must be "
            "appended.",
            PAGE,
        ),
        Slip(
            "every head sees the first",
            "Every head attends to the keys and values of the first one. Each has its own.",
            "algorithm/multi_head",
        ),
        *(slip for slip in WEIGHTS if slip.name in ("unscaled", "overflow")),
    ),
    cases=step_cases,
    right=(step_by_writing, step_by_heads),
    helpers=("attention",),
    parts=("output", "keys", "values"),
)


def prefill(slips, cached, new):
    """Say which of the cached and new tokens each new one may see."""
    j = np.arange(cached + new)
    positions = np.arange(new)[:, None] + cached
    if "aligned at the start" in slips:
        positions = positions - cached
    if "moved to the left" in slips:
        positions = positions - 2 * cached
    if "moved by the new tokens" in slips:
        positions = positions - cached + new
    if "one behind" in slips:
        positions = positions - 1
    if "one ahead" in slips:
        positions = positions + 1
    mask = j <= positions
    if "the new see each other" in slips:
        mask = np.ones((new, cached + new), dtype=bool)
    if "the cache alone" in slips:
        mask = np.broadcast_to(j < cached, mask.shape)
    if "the cache forgotten" in slips:
        mask = mask & (j >= cached)
    if "the new first" in slips:
        mask = np.concatenate([mask[:, cached:], mask[:, :cached]], axis=1)
    if "the future instead of the past" in slips:
        mask = j >= positions
    if "only themselves" in slips:
        mask = (j < cached) | (j == positions)
    if "turned around" in slips:
        mask = ~mask
    if "rows for the cache" in slips:
        mask = np.concatenate([np.tri(cached, cached + new, dtype=bool), mask])
    return mask.T if "keys by queries" in slips else mask


def prefill_by_blocks(cached, new):
    """A block of ones and a triangle beside it."""
    ones = np.ones((new, cached), dtype=bool)
    return np.hstack([ones, np.tril(np.ones((new, new), dtype=bool))])


def prefill_by_rows(cached, new):
    """The last rows of the mask of the whole text."""
    return causal_mask(cached + new, cached + new)[cached:]


PREFILL = Exercise(
    name="prefill_mask",
    topic="cache",
    title="A chunk of the prompt",
    kind="find the bug",
    difficulty=1,
    minutes=5,
    prompt=(
        "A prompt is read in chunks. `cached` tokens are in the cache, and `new` ones come at "
        "once: each of them may see all cached tokens, and of the new ones those up to itself. The "
        "mask is (new, cached + new), with the cached keys first, True where a token may look. "
        "Both numbers may be 0. The program below is right for the first chunk alone. Mend it."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def prefill_mask(cached, new):\n"
        "    return np.tril(np.ones((new, cached + new), dtype=bool))\n"
    ),
    hints=(
        "Print the mask of 3 cached tokens and 2 new ones. How many keys does the first new token "
        "see, and how many should it?",
        "New token i stands at position i + cached.",
        "`np.tril` takes a second argument, `k`: by how far the diagonal is moved to the right.",
    ),
    solve=prefill,
    slips=(
        Slip(
            "aligned at the start",
            "New token i is taken to stand at position i, so it cannot see most of the cache. It "
            "stands at cached + i.",
            MASKS,
        ),
        Slip(
            "moved by the new tokens",
            "The diagonal is moved by the number of new tokens. New token i stands at cached + i, "
            "not at new + i.",
            MASKS,
        ),
        Slip(
            "moved to the left",
            "The diagonal is moved to the left, so the new tokens see even less of the cache. It "
            "must be moved the other way.",
            MASKS,
        ),
        Slip(
            "the new see each other",
            "Every new token sees all new tokens. Those after it must be hidden.",
            MASKS,
        ),
        Slip(
            "rows for the cache",
            "The mask has rows for the cached tokens too. Only the new tokens have queries here: "
            "it must have `new` rows.",
            MASKS,
        ),
        Slip(
            "the cache alone",
            "The new tokens see the cache and no new token. Each must also see the new ones up to "
            "itself.",
            PAGE,
        ),
        Slip(
            "the cache forgotten",
            "The new tokens see new ones and nothing of the cache. Each must see all of the cache.",
            PAGE,
        ),
        Slip(
            "one behind",
            "A new token does not see itself. It must see those up to itself.",
            MASKS,
        ),
        Slip(
            "one ahead",
            "A new token also sees the one that comes after it, which must be hidden.",
            MASKS,
        ),
        Slip(
            "the new first",
            "The columns of the new tokens stand before those of the cached ones. The cached keys "
            "must come first.",
            PAGE,
        ),
        Slip(
            "the future instead of the past",
            "Each token sees itself and what comes after it. It may see what came before.",
            MASKS,
        ),
        Slip(
            "only themselves",
            "Of the new tokens each sees only itself. It must also see the new ones before it.",
            PAGE,
        ),
        TURNED,
        TRANSPOSED,
    ),
    cases=lambda rng: [
        Case("two cached, two new", (2, 2)),
        Case("nothing cached", (0, 3)),
        Case("one new token", (4, 1)),
        Case("three cached, five new", (3, 5)),
        Case("nothing new", (3, 0)),
        Case("sizes drawn anew", tuple(int(x) for x in rng.integers(2, 9, size=2))),
    ],
    right=(prefill_by_blocks, prefill_by_rows),
    bug="aligned at the start",
)


def slots(slips, written, window):
    """Say which position stands in each slot of a cache that goes round."""
    size = window + 1 if "one slot too many" in slips else window
    held = np.full(size, 0 if "empty slots are zero" in slips else -1)
    if "positions before the text" in slips:
        held = np.arange(size) - size
    first = 1 if "counted from one" in slips else 0
    end = written + 1 if slips & {"counted from one", "one token too many"} else written
    if "only a window of tokens written" in slips:
        end = min(end, first + size)
    for position in range(first, end):
        slot = position % size
        if "moved along" in slips and position >= size:
            held[:-1] = held[1:]
            slot = size - 1
        if "the last slot overwritten" in slips:
            slot = min(position, size - 1)
        if "from the back" in slips:
            slot = size - 1 - slot
        if "the second round one off" in slips:
            slot = (position + position // size) % size
        if "the first slot kept" in slips and position >= size:
            slot = 1 + (position - size) % (size - 1) if size > 1 else 0
        held[slot] = position
    if "ages instead of positions" in slips:
        held = np.where(held >= 0, written - 1 - held, held)
    return held


def slots_by_formula(written, window):
    """The newest position that goes into each slot."""
    slot = np.arange(window)
    newest = slot + (written - 1 - slot) // window * window
    return np.where(slot < written, newest, -1)


def slots_by_turning(written, window):
    """The last positions in order, turned to where they stand."""
    last = np.arange(max(0, written - window), written)
    padded = np.concatenate([last, np.full(window - len(last), -1)])
    return np.roll(padded, written % window if written > window else 0)


RING = Exercise(
    name="ring_slots",
    topic="cache",
    title="A cache that goes round",
    kind="extend",
    difficulty=2,
    minutes=15,
    prompt=(
        "A model with a window needs only the last `window` tokens. Its cache has `window` slots "
        "and never moves a token: the token at position p goes into slot p modulo `window` and "
        "overwrites what was there. Positions and slots are counted from 0. Return an array "
        "(window,) of the positions that the slots hold after `written` tokens, with -1 for a slot "
        "that is still empty. `written` may be 0; `window` is 1 or more."
    ),
    starter="import numpy as np\n\n\ndef ring_slots(written, window):\n    ...\n",
    hints=(
        "Do it by hand for a window of 3 and five tokens.",
        "A loop over all positions does it. Without a loop: slot s holds the largest position "
        "below `written` that is s modulo `window`.",
        "With s = `np.arange(window)` it is `s + (written - 1 - s) // window * window` where s < "
        "written, else -1.",
    ),
    solve=slots,
    slips=(
        Slip(
            "moved along",
            "When the cache is full, all tokens move by one slot. They must stay where they are, "
            "and the new token must overwrite the oldest.",
            PAGE,
        ),
        Slip(
            "the last slot overwritten",
            "When the cache is full, the last slot is overwritten again and again, and the first "
            "tokens are kept. The oldest token must be overwritten.",
            PAGE,
        ),
        Slip(
            "only a window of tokens written",
            "Writing ends when the cache is full, so the newest tokens are missing. They must "
            "overwrite the oldest.",
            PAGE,
        ),
        Slip(
            "empty slots are zero",
            "An empty slot holds 0, which is the position of the first token. It must hold -1.",
            PAGE,
        ),
        Slip(
            "positions before the text",
            "An empty slot holds a position before the text, as a formula for full caches gives. "
            "Every slot that is still empty must hold -1.",
            PAGE,
        ),
        Slip(
            "one token too many",
            "One token more than `written` is written. Positions are counted from 0, so the last "
            "one is written - 1.",
            PAGE,
        ),
        Slip(
            "counted from one",
            "Positions are counted from 1. The first token stands at position 0.",
            PAGE,
        ),
        Slip(
            "from the back",
            "The slots are filled from the last one backward. Position 0 must go into slot 0.",
            PAGE,
        ),
        Slip(
            "one slot too many",
            "The cache has window + 1 slots. It must have `window`.",
            PAGE,
        ),
        Slip(
            "ages instead of positions",
            "The array says how many tokens came after each token. It must say where the token "
            "stands in the text.",
            PAGE,
        ),
        Slip(
            "the second round one off",
            "Each round begins one slot further. The slot must be the position modulo `window`.",
            PAGE,
        ),
        Slip(
            "the first slot kept",
            "The first slot is never overwritten. Every slot must be, in its turn.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case("two of three slots", (2, 3)),
        Case("full", (4, 4)),
        Case("one round and two", (5, 3)),
        Case("nothing written", (0, 3)),
        Case("a window of 1", (4, 1)),
        Case("three rounds", (15, 5)),
        Case("sizes drawn anew", (int(rng.integers(8, 30)), int(rng.integers(3, 8)))),
    ],
    right=(slots_by_formula, slots_by_turning),
)


LAYERS, HEADS, KEY_HEADS, WIDTH, TOKENS, BYTES = 24, 16, 4, 64, 1000, 2
CACHE = LAYERS * 2 * KEY_HEADS * WIDTH * TOKENS * BYTES

SIZE = Exercise(
    name="cache_bytes",
    topic="cache",
    title="How large the cache is",
    kind="predict",
    difficulty=1,
    minutes=5,
    prompt=(
        f"A model has {LAYERS} layers. Each has {HEADS} query heads that share {KEY_HEADS} key "
        f"heads and {KEY_HEADS} value heads, all of width {WIDTH}. The model has read {TOKENS} "
        "tokens and keeps their keys and values, each number in 16 bits. How many bytes does the "
        "cache hold? Give an integer; an expression will do."
    ),
    hints=(
        "How many numbers does one token leave in one layer?",
        f"A key of width {WIDTH} for each key head, and a value for each value head.",
        "Multiply: layers, two, key heads, width, tokens, bytes of a number.",
    ),
    solve=predictions(
        CACHE,
        {
            "query heads counted": CACHE // KEY_HEADS * HEADS,
            "keys without values": CACHE // 2,
            "one layer": CACHE // LAYERS,
            "bits": CACHE * 8,
            "four bytes a number": CACHE * 2,
            "one token": CACHE // TOKENS,
            "one head": CACHE // KEY_HEADS,
            "queries kept as well": CACHE // (2 * KEY_HEADS) * (HEADS + 2 * KEY_HEADS),
            "scores of all pairs": LAYERS * HEADS * TOKENS**2 * BYTES,
        },
    ),
    slips=(
        Slip(
            "query heads counted",
            "A key and a value were counted for every query head. The cache holds those of the key "
            "heads and value heads, of which there are fewer.",
            "algorithm/multi_head",
        ),
        Slip(
            "keys without values",
            "Only one of the two was counted, keys or values. Both are kept.",
            PAGE,
        ),
        Slip("one layer", "This is the cache of one layer. Each layer has its own.", PAGE),
        Slip("bits", "These are bits. A byte has 8.", PAGE),
        Slip(
            "four bytes a number",
            "Each number was counted with 4 bytes. One of 16 bits takes 2.",
            PAGE,
        ),
        Slip(
            "one token",
            f"This is what one token leaves in the cache. There are {TOKENS} tokens.",
            PAGE,
        ),
        Slip(
            "one head",
            "This is the cache of one key head and one value head in each layer. There are "
            f"{KEY_HEADS} of both.",
            PAGE,
        ),
        Slip(
            "queries kept as well",
            "Queries were counted too. They are not kept: a token asks once, when it comes.",
            PAGE,
        ),
        Slip(
            "scores of all pairs",
            "This is what the scores of all pairs of tokens would take. They are not kept.",
            PAGE,
        ),
    ),
    right=(float(CACHE), np.array(KEY_HEADS * WIDTH * 2 * LAYERS * BYTES * TOKENS)),
)

EXERCISES = (SIZE, DECODE_STEP, PREFILL, RING)
