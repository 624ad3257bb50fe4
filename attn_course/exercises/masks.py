"""Exercises on masks."""

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Incompatible, Slip, predictions
from attn_course.reference.masks import causal_mask

PAGE = "algorithm/masks"

ALIGNED = Slip(
    "aligned at the start",
    "Query i is taken to stand at key i, also where there are fewer queries than keys. The queries "
    "are the last ones: query i stands at i + keys - queries.",
    PAGE,
)
OFFSET = Slip(
    "offset turned around",
    "The offset has the wrong sign: query i is taken to stand at i + queries - keys. With fewer "
    "queries than keys, query 0 has keys before it.",
    PAGE,
)
TURNED = Slip(
    "turned around", "The mask is turned around: True must say that a query may look.", PAGE
)
TRANSPOSED = Slip(
    "keys by queries",
    "The mask is transposed. Queries must be rows, and keys columns.",
    PAGE,
)
ITSELF = Slip(
    "itself left out",
    "A query does not see its own key. The past ends with the query's own position.",
    PAGE,
)
FUTURE = Slip(
    "the future as well", "Queries also see every key after them, which must be hidden.", PAGE
)


def causal(slips, queries, keys):
    """Let each query see the keys up to its own."""
    if {"one ahead", "itself left out"} <= slips:  # they cancel
        raise Incompatible
    if "sizes exchanged" in slips:
        queries, keys = keys, queries
    offset = 0 if "aligned at the start" in slips else keys - queries
    if "offset turned around" in slips:
        offset = -offset
    if "one ahead" in slips:
        offset += 1
    if "itself left out" in slips:
        offset -= 1
    ahead = np.arange(keys) - (np.arange(queries)[:, None] + offset)
    mask = ahead >= 0 if "the future instead of the past" in slips else ahead <= 0
    if "the future as well" in slips:
        mask = np.ones_like(mask)
    if "turned around" in slips:
        mask = ~mask
    if "only itself" in slips:
        mask = ahead == 0
    if "keys by queries" in slips:
        mask = mask.T
    return np.where(mask, 0.0, -np.inf) if "numbers to add" in slips else mask


def size_cases(rng, *more):
    """Draw numbers of queries and keys; `more` stands behind them."""
    a, b = (int(x) for x in rng.integers(3, 9, size=2))
    return [
        Case("two queries, three keys", (2, 3, *more)),
        Case("as many queries as keys", (4, 4, *more)),
        Case("one query", (1, 5, *more)),
        Case("more queries than keys", (5, 3, *more)),
        Case("one query, one key", (1, 1, *more)),
        Case("no query", (0, 3, *more)),
        Case("sizes drawn anew", (a, a + b, *more)),
    ]


def causal_by_numpy(queries, keys):
    """With NumPy's own triangle."""
    return np.tri(queries, keys, keys - queries, dtype=bool)


def causal_by_rows(queries, keys):
    """A row at a time."""
    mask = np.zeros((queries, keys), dtype=bool)
    for i in range(queries):
        mask[i, : max(0, i + keys - queries + 1)] = True
    return mask


CAUSAL_MASK = Exercise(
    name="causal_mask",
    topic="masks",
    title="Nothing from the future",
    kind="implement",
    difficulty=1,
    minutes=8,
    prompt=(
        "Return a mask (queries, keys) that is True where a query may look, at the keys up to its "
        "own position, and False elsewhere. The queries are the last ones: the last query stands "
        "at the last key and sees every key. Where there are more queries than keys, the first "
        "queries see nothing. There may be no query."
    ),
    starter="import numpy as np\n\n\ndef causal_mask(queries, keys):\n    ...\n",
    hints=(
        "At which position does query 0 stand if there are 2 queries and 5 keys?",
        "Compare a column of positions with a row of positions.",
        "`np.arange(keys) <= np.arange(queries)[:, None] + keys - queries`.",
    ),
    solve=causal,
    slips=(
        ALIGNED,
        TURNED,
        ITSELF,
        OFFSET,
        Slip(
            "one ahead",
            "A query also sees the key after its own. That is one key of the future.",
            PAGE,
        ),
        Slip(
            "the future instead of the past",
            "A query sees its own key and the keys after it. It may see its own and those before.",
            PAGE,
        ),
        Slip(
            "numbers to add",
            "The mask holds 0 and -inf, to be added to scores. True and False are asked for.",
            PAGE,
        ),
        TRANSPOSED,
        FUTURE,
        Slip(
            "only itself",
            "A query sees its own key and no other. It may also see the keys before.",
            PAGE,
        ),
        Slip(
            "sizes exchanged",
            "`queries` and `keys` are exchanged, so the shape is (keys, queries).",
            PAGE,
        ),
    ),
    cases=size_cases,
    right=(causal_by_numpy, causal_by_rows),
)


def window_seen(slips, queries, keys, window):
    """Let each query see the last keys up to its own."""
    offset = 0 if "aligned at the start" in slips else keys - queries
    if "offset turned around" in slips:
        offset = -offset
    back, ahead = window - 1, 0
    if "one key too many" in slips:
        back = window
    if "one key too few" in slips:
        back = window - 2
    if "itself left out" in slips:
        back, ahead = window, -1
    if "both sides" in slips:
        ahead = window - 1
    if "half on either side" in slips:
        back = ahead = window // 2
    if "the future as well" in slips:
        ahead = keys + queries
    if "the past without end" in slips:
        back = keys + queries
    positions = np.arange(queries)[:, None] + offset
    if "blocks that do not overlap" in slips:
        back = positions % window
    mask = (np.arange(keys) >= positions - back) & (np.arange(keys) <= positions + ahead)
    if "one or the other" in slips:
        mask = np.ones_like(mask)
    return ~mask if "turned around" in slips else mask


WINDOWS = (
    Slip(
        "one key too many",
        "Each query sees window + 1 keys. The query's own key counts: position p sees the keys "
        "from p - window + 1.",
        "algorithm/window",
    ),
    Slip(
        "itself left out",
        "Each query sees the window before it and not its own key. The window ends at the query's "
        "own position.",
        "algorithm/window",
    ),
    Slip(
        "one key too few",
        "Each query sees window - 1 keys; one at the far end is missing.",
        "algorithm/window",
    ),
    ALIGNED,
    Slip(
        "blocks that do not overlap",
        "The text is cut into blocks of the size of the window, and a query sees only keys of its "
        "own block. The first query of a block sees nothing of its past.",
        "algorithm/window",
    ),
    Slip(
        "both sides",
        "The window reaches as far into the future as into the past. It must end at the query.",
        "algorithm/window",
    ),
    Slip(
        "half on either side",
        "The window lies around the query, half of it in the future. It must end at the query.",
        "algorithm/window",
    ),
    Slip(
        "the future as well",
        "Only the past is limited: each query also sees every key after it.",
        PAGE,
    ),
    Slip(
        "the past without end",
        "Each query sees all keys before it, as in a causal mask. `window` limits how many.",
        PAGE,
    ),
)


def window_by_two(queries, keys, window):
    """As one causal mask without another."""
    mask = causal_mask(queries, keys)
    return mask & ~np.tri(queries, keys, keys - queries - window, dtype=bool)


def window_by_rows(queries, keys, window):
    """A row at a time."""
    mask = np.zeros((queries, keys), dtype=bool)
    for i in range(queries):
        stop = max(0, i + keys - queries + 1)
        mask[i, max(0, stop - window) : stop] = True
    return mask


WINDOW_MASK = Exercise(
    name="window_mask",
    topic="masks",
    title="The last few keys",
    kind="implement",
    difficulty=1,
    minutes=8,
    prompt=(
        "Return a mask (queries, keys) that is True where a query may look, at the last `window` "
        "keys up to its own position, its own included, and False elsewhere. The queries are the "
        "last ones: the last query stands at the last key. Where there are more queries than keys, "
        "the first queries see nothing. `window` is 1 or more."
    ),
    starter="import numpy as np\n\n\ndef window_mask(queries, keys, window):\n    ...\n",
    hints=(
        "What does a window of 1 look like?",
        "How far ahead of the query lies each key? Which of these distances are allowed?",
        "With `ahead = np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)`: "
        "`(ahead <= 0) & (ahead > -window)`.",
    ),
    solve=window_seen,
    slips=(
        *WINDOWS,
        Slip(
            "one or the other",
            "Every query sees every key. A key must lie neither ahead nor too far back: both "
            "conditions hold at once, `&`, not `|`.",
            PAGE,
        ),
        OFFSET,
        TURNED,
    ),
    cases=lambda rng: [
        *size_cases(rng, 2),
        Case("a window of 1", (3, 5, 1)),
        Case("a window of 3", (7, 7, 3)),
        Case("a window wider than the text", (4, 4, 9)),
    ],
    right=(window_by_two, window_by_rows),
)


def padding(slips, lengths, keys):
    """Let every query see the keys that are not padding."""
    j = np.arange(keys)
    if "one key too many" in slips:
        mask = j <= lengths[..., None]
    elif "one key too few" in slips:
        mask = j < lengths[..., None] - 1
    elif "padding at the start" in slips:
        mask = j >= keys - lengths[..., None]
    elif "the longest for all" in slips:
        mask = j < np.full_like(lengths, lengths.max())[..., None]
    elif "lengths of the padding" in slips:
        mask = j < keys - lengths[..., None]
    elif "the last real key alone" in slips:
        mask = j == lengths[..., None] - 1
    else:
        mask = j < lengths[..., None]
    if "turned around" in slips:
        mask = ~mask
    if "no axes for heads and queries" in slips:
        return mask
    if "one axis too few" in slips:
        return mask[..., None, :]
    if "axes at the end" in slips:
        return mask[..., None, None]
    if "padding hidden as a query too" in slips:
        return (mask[..., :, None] & mask[..., None, :])[..., None, :, :]
    if "keys in the place of queries" in slips:
        return mask[..., None, :, None]
    return mask[..., None, None, :]


def padding_by_lists(lengths, keys):
    """A sequence at a time."""
    rows = [[True] * n + [False] * (keys - n) for n in lengths.ravel().tolist()]
    return np.array(rows, dtype=bool).reshape(*lengths.shape, 1, 1, keys)


def padding_by_table(lengths, keys):
    """The right rows of a triangle."""
    return np.expand_dims(np.tri(keys + 1, keys, -1, dtype=bool)[lengths], (-3, -2))


PADDING_MASK = Exercise(
    name="padding_mask",
    topic="masks",
    title="Sequences of unequal length",
    kind="implement",
    difficulty=1,
    minutes=8,
    prompt=(
        "The first `lengths[b]` keys of sequence b of a batch are real; the rest, up to `keys`, is "
        "padding. Return a mask that is True at the real keys and False at the padding, so laid "
        "out that it broadcasts to scores (batch, heads, queries, keys): with an axis of size 1 "
        "for the heads and one for the queries. `lengths`, integers from 0 to `keys`, is (batch,). "
        "It may have more axes, which then come first in the result too."
    ),
    starter="import numpy as np\n\n\ndef padding_mask(lengths, keys):\n    ...\n",
    hints=(
        "Which shape broadcasts to (batch, heads, queries, keys) and differs by batch and key "
        "alone?",
        "Compare `np.arange(keys)` with lengths that have three more axes, of size 1.",
        "`np.arange(keys) < lengths[..., None, None, None]`.",
    ),
    solve=padding,
    slips=(
        Slip(
            "no axes for heads and queries",
            "The shape is (batch, keys). Against scores NumPy takes its axes for queries and keys. "
            "Two axes of size 1 are missing between them.",
            PAGE,
        ),
        TURNED,
        Slip("one key too many", "Key number `length` is padding: keys are counted from 0.", PAGE),
        Slip(
            "axes at the end",
            "The new axes stand behind the keys. The keys must be the last axis, and the axes of "
            "size 1 stand before it.",
            PAGE,
        ),
        Slip(
            "padding hidden as a query too",
            "The mask is (keys, keys) for each sequence, and hides padding as a query as well. It "
            "hides keys alone; the axis of the queries has size 1.",
            PAGE,
        ),
        Slip(
            "one key too few",
            "The last real key is hidden. It is key number `length` - 1, counted from 0.",
            PAGE,
        ),
        Slip(
            "keys in the place of queries",
            "The keys stand on the axis of the queries: this hides queries, not keys.",
            PAGE,
        ),
        Slip(
            "one axis too few",
            "One axis of size 1 is missing: heads and queries have one each.",
            PAGE,
        ),
        Slip(
            "padding at the start",
            "The padding is taken to stand at the start. The real keys come first.",
            PAGE,
        ),
        Slip(
            "the longest for all",
            "Every sequence gets the length of the longest. Each has its own.",
            PAGE,
        ),
        Slip(
            "lengths of the padding",
            "`lengths` is taken to count the padding. It counts the real keys.",
            PAGE,
        ),
        Slip(
            "the last real key alone",
            "Only the last real key is seen. All real keys are.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case("two sequences", (np.array([1, 3]), 4)),
        Case("one sequence", (np.array([2]), 5)),
        Case("an empty sequence and a full one", (np.array([0, 3]), 3)),
        Case("as many sequences as keys", (np.array([2, 1, 3]), 3)),
        Case("two axes of sequences", (np.array([[1, 2, 4], [3, 0, 2]]), 4)),
        Case("lengths drawn anew", (rng.integers(0, 7, size=5), 6)),
    ],
    right=(padding_by_lists, padding_by_table),
)


def combined(slips, lengths, n):
    """Combine a causal mask with one of padding."""
    past = causal(slips, n, n)
    j = np.arange(n)
    real = (j <= lengths[:, None]) if "one key too many" in slips else (j < lengths[:, None])
    columns, rows = real[:, None, :], real[:, :, None]
    if "one or the other" in slips:
        mask = past | columns
    elif "rows of padding hidden" in slips:
        mask = past & rows
    elif "exactly one of both" in slips:
        mask = past ^ columns
    elif "padding ignored" in slips:
        mask = np.broadcast_to(past, (len(lengths), n, n))
    else:
        mask = past & columns
    return mask


def combined_by_rows(lengths, n):
    """A query at a time."""
    mask = np.zeros((len(lengths), n, n), dtype=bool)
    for b, length in enumerate(lengths):
        for i in range(n):
            mask[b, i, : min(i + 1, length)] = True
    return mask


def combined_by_product(lengths, n):
    """As a product of numbers."""
    real = (np.arange(n) < lengths[:, None]).astype(int)
    return np.einsum("ij,bj->bij", np.tri(n, dtype=int), real).astype(bool)


COMBINED = Exercise(
    name="causal_padding_mask",
    topic="masks",
    title="Two masks at once",
    kind="find the bug",
    difficulty=1,
    minutes=5,
    prompt=(
        "In a batch of sequences of n tokens, the first `lengths[b]` tokens of sequence b are "
        "real, and the rest is padding. A query may see a key that does not come after it and is "
        "no padding. Queries that are padding follow the same rule. `lengths` is (batch,), and the "
        "mask is (batch, n, n), True where a query may look. The program below lets through too "
        "much. Mend it."
    ),
    starter=(
        "import numpy as np\n\n\n"
        "def causal_padding_mask(lengths, n):\n"
        "    past = np.tril(np.ones((n, n), dtype=bool))\n"
        "    real = np.arange(n) < lengths[:, None]\n"
        "    return past | real[:, None, :]\n"
    ),
    hints=(
        "Print the mask of one sequence of length 2 in 3 tokens.",
        "May a query look where both masks allow it, or where one does?",
        "Masks in which True allows combine by `&`.",
    ),
    solve=combined,
    slips=(
        Slip(
            "one or the other",
            "A query sees what either mask allows. Both must allow it: `&`, not `|`, which for "
            "boolean arrays is also what `+` does.",
            PAGE,
        ),
        Slip(
            "rows of padding hidden",
            "Queries that are padding see nothing. They follow the same rule as the others: "
            "padding is hidden as a key, not as a query.",
            PAGE,
        ),
        Slip(
            "padding ignored",
            "The causal mask alone is left, so padding is seen. Both masks must allow a key.",
            PAGE,
        ),
        FUTURE,
        ITSELF,
        Slip("turned around", "The causal mask is turned around: only the future is seen.", PAGE),
        Slip(
            "exactly one of both",
            "A query sees what exactly one of the masks allows. Both must allow it.",
            PAGE,
        ),
        Slip(
            "one key too many",
            "The first token of the padding is seen. It is token number `length`, counted from 0.",
            PAGE,
        ),
    ),
    cases=lambda rng: [
        Case("one sequence of two in three", (np.array([2]), 3)),
        Case("two sequences", (np.array([1, 4]), 4)),
        Case("no padding", (np.array([3, 3]), 3)),
        Case("an empty sequence", (np.array([0, 2]), 5)),
        Case("lengths drawn anew", (rng.integers(1, 7, size=4), 6)),
    ],
    right=(combined_by_rows, combined_by_product),
    bug="one or the other",
)


def packed(slips, documents):
    """Let each token see its own document up to itself."""
    same = documents[:, None] == documents
    if "documents before as well" in slips:
        same = documents[:, None] >= documents
    if "documents ignored" in slips:
        same = np.ones_like(same)
    if "other documents" in slips:
        same = ~same
    i = np.arange(len(documents))
    if "a document that goes on later" in slips:
        starts = np.cumsum(np.diff(documents, prepend=documents[:1]) != 0)
        same = same & (starts[:, None] == starts)
    ahead = i - i[:, None]
    past = ahead <= 0
    if "one ahead" in slips:
        past = ahead <= 1
    if "itself left out" in slips:
        past = ahead < 0
    if "the future as well" in slips:
        past = np.ones_like(past)
    if "the future instead of the past" in slips:
        past = ahead >= 0
    mask = past | same if "one or the other" in slips else past & same
    return ~mask if "turned around" in slips else mask


def packed_by_rows(documents):
    """A token at a time."""
    n = len(documents)
    return np.array(
        [[j <= i and documents[j] == documents[i] for j in range(n)] for i in range(n)], dtype=bool
    ).reshape(n, n)


def packed_by_documents(documents):
    """A document at a time."""
    mask = np.zeros((len(documents), len(documents)), dtype=bool)
    for number in np.unique(documents):
        own = documents == number
        mask |= own[:, None] & own
    return np.tril(mask)


PACKED = Exercise(
    name="packed_mask",
    topic="masks",
    title="Several documents in a row",
    kind="extend",
    difficulty=1,
    minutes=8,
    prompt=(
        "Documents are packed into one sequence of n tokens; `documents`, (n,), has the number of "
        "each token's document. Return a mask (n, n), True where a token may look, at tokens of "
        "its own document that do not come after it, and False elsewhere. The parts of a document "
        "may lie apart, as what one of two speakers says: they still belong together. The numbers "
        "may come in any order."
    ),
    starter="import numpy as np\n\n\ndef packed_mask(documents):\n    ...\n",
    hints=(
        "May a token look where one of the two conditions holds, or where both do?",
        "`documents[:, None] == documents` compares all pairs.",
        "Combine it by `&` with a causal mask of n tokens.",
    ),
    solve=packed,
    slips=(
        FUTURE,
        Slip(
            "documents ignored",
            "Tokens also see other documents: `documents` has no effect.",
            PAGE,
        ),
        Slip(
            "one or the other",
            "A token sees what is not after it, and also all of its own document. Both conditions "
            "must hold: `&`, not `|`.",
            PAGE,
        ),
        ITSELF,
        Slip(
            "documents before as well",
            "Tokens also see documents with smaller numbers. They may see only their own.",
            PAGE,
        ),
        Slip(
            "a document that goes on later",
            "A document that is interrupted counts as two. Its parts belong together.",
            PAGE,
        ),
        Slip(
            "other documents",
            "Tokens see the other documents and not their own. It is the other way around.",
            PAGE,
        ),
        Slip("one ahead", "A token also sees the one after it.", PAGE),
        Slip(
            "the future instead of the past",
            "Tokens see themselves and what comes after them. They may see themselves and what "
            "came before.",
            PAGE,
        ),
        TURNED,
    ),
    cases=lambda rng: [
        Case("two documents", (np.array([0, 0, 1]),)),
        Case("one document", (np.array([3, 3, 3]),)),
        Case("numbers that fall", (np.array([2, 2, 1, 1, 0]),)),
        Case("a document that goes on later", (np.array([0, 1, 1, 0, 0, 1]),)),
        Case("one token", (np.array([5]),)),
        Case("documents drawn anew", (rng.integers(0, 3, size=9),)),
    ],
    right=(packed_by_rows, packed_by_documents),
)


QUERIES, KEYS = 4, 10
SEEN = int(causal_mask(QUERIES, KEYS).sum())

COUNT = Exercise(
    name="pairs_seen",
    topic="masks",
    title="How much is seen",
    kind="predict",
    difficulty=1,
    minutes=3,
    prompt=(
        f"In a causal mask of {QUERIES} queries and {KEYS} keys, the queries are the last "
        f"{QUERIES} of the {KEYS} tokens. A query sees its own key and those before it. How many "
        "entries of the mask are True? Give an integer."
    ),
    hints=(
        "How many keys does the last query see, and the one before it?",
        f"The first query stands at position {KEYS - QUERIES}, counted from 0.",
        " + ".join(str(seen) for seen in range(KEYS - QUERIES + 1, KEYS + 1)) + ".",
    ),
    solve=predictions(
        SEEN,
        {
            "aligned at the start": QUERIES * (QUERIES + 1) // 2,
            "itself left out": SEEN - QUERIES,
            "all of them": QUERIES * KEYS,
            "half of them": QUERIES * KEYS // 2,
            "the hidden ones": QUERIES * KEYS - SEEN,
            "the mask of the whole text": KEYS * (KEYS + 1) // 2,
            "one ahead": SEEN + QUERIES - 1,
            "the first query counted for all": QUERIES * (KEYS - QUERIES + 1),
        },
    ),
    slips=(
        ALIGNED,
        ITSELF,
        Slip(
            "all of them",
            "These are all entries of the mask. All queries but the last have keys after them, "
            "which they do not see.",
            PAGE,
        ),
        Slip(
            "half of them",
            "This is half of the entries. Only a square causal mask is about half full.",
            PAGE,
        ),
        Slip("the hidden ones", "These are the entries that are False.", PAGE),
        Slip(
            "the mask of the whole text",
            f"This is for a query at each of the {KEYS} tokens. There are only {QUERIES} queries.",
            PAGE,
        ),
        Slip(
            "one ahead",
            "Each query but the last was given one key too many, the one after it.",
            PAGE,
        ),
        Slip(
            "the first query counted for all",
            "The first query was counted for all. Each query sees one key more than the one before "
            "it.",
            PAGE,
        ),
    ),
    right=(
        float(sum(range(KEYS - QUERIES + 1, KEYS + 1))),
        np.array(QUERIES * KEYS - QUERIES * (QUERIES - 1) // 2),
    ),
)

EXERCISES = (COUNT, CAUSAL_MASK, WINDOW_MASK, PADDING_MASK, COMBINED, PACKED)
