"""Exercises on positions."""

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Slip, predictions
from attn_course.exercises.masks import ALIGNED
from attn_course.reference.positions import alibi_slopes

PAGE = "algorithm/positions"


def frequencies(slips, width, base, below=None):
    """Return how many radians a position turns each pair; `below` divides the exponents."""
    below = width if below is None else below
    pairs = np.arange(width // 2) + (1 if "counted from one" in slips else 0)
    exponent = pairs / below if "exponent not doubled" in slips else 2 * pairs / below
    if "exponent doubled twice" in slips:
        exponent = 4 * pairs / below
    if "the last pair at the base" in slips:
        exponent = pairs / max(1, width // 2 - 1)
    if "base of 1000" in slips:
        base = base / 10
    if "frequencies turned around" in slips:
        exponent = -exponent
    if "one frequency" in slips:
        exponent = np.zeros_like(exponent)
    if "slowest first" in slips:
        exponent = exponent[::-1]
    return base ** -exponent.astype(np.float64)


FREQUENCIES = (
    Slip(
        "exponent not doubled",
        "The exponent of pair m is m / width. It must be 2m / width, so that the exponents run "
        "from 0 to nearly 1.",
        PAGE,
    ),
    Slip(
        "exponent doubled twice",
        "The exponent of pair m is 4m / width: what was 2m already was doubled once more. It must "
        "be 2m / width, so that the exponents stay below 1.",
        PAGE,
    ),
    Slip(
        "counted from one",
        "The pairs are counted from 1. The first pair is m = 0: it turns by one radian a position.",
        PAGE,
    ),
    Slip(
        "the last pair at the base",
        "The exponents end at 1, as `np.linspace` makes them. They must reach 1 only one pair "
        "after the last.",
        PAGE,
    ),
    Slip(
        "frequencies turned around",
        "The exponent has the wrong sign, so later pairs turn faster. They must turn more slowly.",
        PAGE,
    ),
    Slip(
        "one frequency",
        "All pairs turn at one speed, a radian a position, as where `//` stands for `/` in the "
        "exponent. Pair m turns by base^(-2m / width).",
        PAGE,
    ),
    Slip(
        "slowest first",
        "The speeds stand in reverse order, the slowest first. The first pair turns fastest, by a "
        "radian a position.",
        PAGE,
    ),
)


def waves(slips, length, width):
    """Give each position sines and cosines."""
    start = 1 if "positions from one" in slips else 0
    p = np.arange(start, length + start)[:, None]
    angles = p * frequencies(slips, width, 10000.0)
    if "degrees" in slips:
        angles = np.deg2rad(angles)
    sine, cosine = np.sin(angles), np.cos(angles)
    if "an angle for every column" in slips:
        cosine = np.cos(angles * 10000.0 ** (-1 / width))
    if "sine and cosine exchanged" in slips:
        sine, cosine = cosine, sine
    if "sines alone" in slips:
        cosine = sine
    if "halves instead of neighbors" in slips:
        return np.concatenate([sine, cosine], axis=-1)
    return np.stack([sine, cosine], axis=-1).reshape(length, width)


def waves_by_columns(length, width):
    """A column at a time."""
    out = np.zeros((length, width))
    for column in range(width):
        angle = np.arange(length) / 10000 ** ((column - column % 2) / width)
        out[:, column] = np.cos(angle) if column % 2 else np.sin(angle)
    return out


def waves_by_powers(length, width):
    """As the parts of complex powers."""
    turns = np.exp(1j * np.exp(-np.log(10000.0) * np.arange(0, width, 2) / width))
    z = turns[None, :] ** np.arange(length)[:, None]
    out = np.empty((length, width))
    out[:, 0::2], out[:, 1::2] = z.imag, z.real
    return out


SINUSOIDAL = Exercise(
    name="sinusoidal_positions",
    topic="positions",
    title="Waves for positions",
    kind="implement",
    difficulty=1,
    minutes=10,
    prompt=(
        "Return an array (length, width) with a row for each position p, counted from 0. Column 2m "
        "is $\\sin(p / 10000^{2m / \\mathrm{width}})$, where m = 0, 1, ..., and column 2m + 1 is "
        "the cosine of the same angle, which is in radians. So sine and cosine of an angle are "
        "neighbors. `length` is at least 1; `width` is even and at least 2."
    ),
    starter="import numpy as np\n\n\ndef sinusoidal_positions(length, width):\n    ...\n",
    hints=(
        "How many different angles does a row have?",
        "`np.arange(0, width, 2)` gives the 2m. One outer product gives all angles.",
        "Fill `out[:, 0::2]` with sines and `out[:, 1::2]` with cosines of `p / 10000 ** (2m / "
        "width)`.",
    ),
    solve=waves,
    slips=(
        Slip(
            "halves instead of neighbors",
            "All sines stand first, then all cosines. Here a sine and its cosine are neighbors.",
            PAGE,
        ),
        Slip(
            "sine and cosine exchanged",
            "Sines and cosines are exchanged. Even columns, 0 first, are for sines, odd columns "
            "for cosines.",
            PAGE,
        ),
        *FREQUENCIES,
        Slip(
            "an angle for every column",
            "Every column has an angle of its own: the exponent counts columns. Columns 2m and "
            "2m + 1 are the sine and the cosine of one angle.",
            PAGE,
        ),
        Slip(
            "positions from one",
            "Positions are counted from 1. The first position is 0, so row 0 begins with 0, 1.",
            PAGE,
        ),
        Slip(
            "sines alone",
            "Odd columns repeat the sine. They are for the cosine of the same angle.",
            PAGE,
        ),
        Slip(
            "degrees",
            "The angles are taken for degrees. They are radians, as `np.sin` expects them.",
            PAGE,
        ),
        Slip("base of 1000", "The base is 1000. It must be 10000, with four zeros.", PAGE),
    ),
    cases=lambda rng: [
        Case("one position", (1, 4)),
        Case("two positions", (2, 2)),
        Case("three positions of width 6", (3, 6)),
        Case("as many positions as columns", (4, 4)),
        Case("a long text", (9, 8)),
        Case("sizes drawn anew", (int(rng.integers(2, 12)), 2 * int(rng.integers(2, 6)))),
    ],
    right=(waves_by_columns, waves_by_powers),
)


def halves(x):
    """Cut the last axis in two."""
    return np.split(x, 2, axis=-1)


def turned(slips, x, positions, base=10000.0, *, neighbors=False, part=None, below=None):
    """Turn pairs of the first `part` coordinates by positions."""
    width = x.shape[-1] if part is None else part
    head, rest = x[..., :width], x[..., width:]
    if "base ignored" in slips:
        base = 10000.0
    if "positions ignored" in slips:
        positions = np.arange(x.shape[-2])
    angles = positions[..., None] * frequencies(slips, width, base, below)
    if "the other way around" in slips:
        angles = -angles
    cos, sin = np.cos(angles), np.sin(angles)
    by_halves = neighbors == ("the other pairs" in slips)
    a, b = halves(head) if by_halves else (head[..., 0::2], head[..., 1::2])
    cos_b, sin_b = cos, sin
    if "angles in the other pattern" in slips:  # one for each coordinate, where the pairs are not
        whole = np.repeat(angles, 2, -1) if by_halves else np.concatenate([angles, angles], -1)
        angles, of_b = halves(whole) if by_halves else (whole[..., 0::2], whole[..., 1::2])
        cos, sin, cos_b, sin_b = np.cos(angles), np.sin(angles), np.cos(of_b), np.sin(of_b)
    first, second = a * cos - b * sin, b * cos_b + a * sin_b
    if "no minus" in slips:
        first = a * cos + b * sin
    if "the first turned twice" in slips:
        second = b * cos_b + first * sin_b
    if "scaled, not turned" in slips:
        first, second = a * cos, b * cos_b
    if "added" in slips:
        first, second = a + sin, b + cos_b
    if by_halves != ("put together by the other pairs" in slips):
        out = np.concatenate([first, second], axis=-1)
    else:
        out = np.stack([first, second], axis=-1).reshape(head.shape)
    out = np.concatenate([out, rest], axis=-1)
    return out.astype(x.dtype)


TURNS = (
    Slip(
        "the other pairs",
        "The coordinates are paired the other way: neighbors in place of halves, or halves in "
        "place of neighbors. Both are called rotary; weights of one do not fit the other.",
        "appendix/conventions",
    ),
    Slip(
        "the other way around",
        "The pairs turn the other way, by the negative angle. Dot products of turned queries and "
        "keys would be the same; the rows are not.",
        PAGE,
    ),
    Slip(
        "no minus",
        "The first coordinate became x cos + y sin. It must become x cos - y sin: a turn leaves "
        "the length of a pair as it is.",
        PAGE,
    ),
    Slip(
        "angles in the other pattern",
        "The angles are repeated in the other pattern, so the two coordinates of a pair get "
        "different angles. `np.repeat` puts equal angles side by side, `np.tile` half a row "
        "apart. The coordinates of a pair must have the same one.",
        "appendix/conventions",
    ),
    Slip(
        "positions ignored",
        "The numbers of the rows, 0, 1, 2 and so on, are taken for their positions. The positions "
        "are given as an argument.",
        PAGE,
    ),
    Slip(
        "the first turned twice",
        "The second coordinate is computed from the first one after it was turned. It needs the "
        "first as it was.",
        PAGE,
    ),
    Slip(
        "base ignored",
        "The argument `base` has no effect, and 10000 is used. It may be any positive number.",
        PAGE,
    ),
    *FREQUENCIES,
    Slip(
        "scaled, not turned",
        "Both coordinates are multiplied by the cosine. A turn mixes them: x cos - y sin and "
        "y cos + x sin.",
        PAGE,
    ),
    Slip(
        "added",
        "Sines and cosines are added to the rows, as sinusoidal positions are. Here they turn "
        "pairs of coordinates.",
        PAGE,
    ),
)
MIXED = Slip(
    "put together by the other pairs",
    "The pairs are taken apart in one way and put together in the other, so coordinates change "
    "places. At position 0 a row must stay as it is.",
    PAGE,
)


def rotary_by_halves(slips, x, positions, base=10000.0):
    """Pair coordinate m with m + d/2."""
    return turned(slips, x, positions, base)


def rotary_by_neighbors(slips, x, positions, base=10000.0):
    """Pair coordinate 2m with 2m + 1."""
    return turned(slips, x, positions, base, neighbors=True)


def turn_cases(rng, *more):
    """Draw rows and positions; `more` stands behind them."""

    def drawn(*shape, dtype=np.float64):
        return rng.standard_normal(shape).astype(dtype)

    return [
        Case("one row at position 1", (drawn(1, 4), np.array([1]), *more)),
        Case("three rows from position 0 on", (drawn(3, 4), np.arange(3), *more)),
        Case("position 0 turns nothing", (drawn(1, 6), np.array([0]), *more)),
        Case("two rows far on", (drawn(2, 6), np.array([70, 900]), *more)),
        Case("as many rows as coordinates", (drawn(4, 4), np.arange(4) + 2, *more)),
        Case("positions backwards", (drawn(3, 8), np.array([5, 3, 1]), *more)),
        Case("a batch of 2 with 3 heads", (drawn(2, 3, 5, 4), np.arange(5), *more)),
        Case("positions between tokens", (drawn(2, 4), np.array([0.5, 2.25]), *more)),
        Case("float32", (drawn(3, 6, dtype=np.float32), np.arange(3) + 10, *more)),
    ]


def rotary_cases(rng):
    """Draw the same, and another base."""
    cases = turn_cases(rng)
    return [*cases, Case("a base of 100", (*cases[3].args, 100.0))]


def halves_by_complex(x, positions, base=10000.0):
    """As products of complex numbers."""
    half = x.shape[-1] // 2
    z = x[..., :half] + 1j * x[..., half:]
    z = z * np.exp(1j * positions[..., None] * base ** (-np.arange(half) / half))
    return np.concatenate([z.real, z.imag], axis=-1)


def halves_by_matrices(x, positions, base=10000.0):
    """By one matrix for each row."""
    d = x.shape[-1]
    out = np.empty_like(x)
    for row, p in enumerate(positions):
        turn = np.zeros((d, d))
        for m in range(d // 2):
            angle = p * base ** (-2 * m / d)
            turn[m, m] = turn[m + d // 2, m + d // 2] = np.cos(angle)
            turn[m + d // 2, m], turn[m, m + d // 2] = np.sin(angle), -np.sin(angle)
        out[..., row, :] = x[..., row, :] @ turn.T
    return out


def neighbors_by_complex(x, positions, base=10000.0):
    """As products of complex numbers."""
    half = x.shape[-1] // 2
    pairs = x.reshape(*x.shape[:-1], half, 2)
    z = pairs[..., 0] + 1j * pairs[..., 1]
    z = z * np.exp(1j * positions[..., None] * base ** (-np.arange(half) / half))
    return np.stack([z.real, z.imag], axis=-1).reshape(x.shape)


def neighbors_by_halves(x, positions, base=10000.0):
    """With the coordinates sorted, turned by halves, and sorted back."""
    d = x.shape[-1]
    order = np.concatenate([np.arange(0, d, 2), np.arange(1, d, 2)])
    return halves_by_complex(x[..., order], positions, base)[..., np.argsort(order)]


QUESTION = (
    "Turn each row of `x`, (..., n, d), by its position, and return an array of the same shape. "
    "The pair {pair}, m = 0, 1, ..., is turned by the angle $p \\cdot "
    "\\mathrm{{base}}^{{-2m/d}}$ in radians, where p is the row's entry of `positions`, (n,): a "
    "pair (x, y) becomes (x cos - y sin, y cos + x sin). d is even. A position need not be an "
    "integer."
)

ROTARY = Exercise(
    name="rotary",
    topic="positions",
    title="Turning by halves",
    kind="implement",
    difficulty=2,
    minutes=15,
    prompt=QUESTION.format(pair="$(x_m, x_{m + d/2})$"),
    starter="import numpy as np\n\n\ndef rotary(x, positions, base=10000.0):\n    ...\n",
    hints=(
        "There are n rows and d/2 pairs. Which shape do the angles have?",
        "`np.split(x, 2, axis=-1)` gives the first coordinates of all pairs, and the second ones.",
        "`angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)`; turn, then "
        "`np.concatenate` along the last axis.",
    ),
    solve=rotary_by_halves,
    slips=(*TURNS, MIXED),
    cases=rotary_cases,
    right=(halves_by_complex, halves_by_matrices),
)

INTERLEAVED = Exercise(
    name="rotary_interleaved",
    topic="positions",
    title="Turning neighbors",
    kind="finish",
    difficulty=1,
    minutes=8,
    prompt=QUESTION.format(pair="$(x_{2m}, x_{2m+1})$")
    + " The angles are there; take the pairs, turn them and put them back.",
    starter=(
        "import numpy as np\n\n\n"
        "def rotary_interleaved(x, positions, base=10000.0):\n"
        "    d = x.shape[-1]\n"
        "    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)\n"
        "    cos, sin = np.cos(angles), np.sin(angles)\n"
        "    ...\n"
    ),
    hints=(
        "Which slices give the coordinates 0, 2, 4, ... and 1, 3, 5, ...?",
        "`a, b = x[..., 0::2], x[..., 1::2]`, both (..., n, d/2).",
        "`np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)`.",
    ),
    solve=rotary_by_neighbors,
    slips=(*TURNS, MIXED),
    cases=rotary_cases,
    right=(neighbors_by_complex, neighbors_by_halves),
)


def partly(slips, x, positions, turned_width):
    """Turn the first coordinates and leave the others."""
    d = x.shape[-1]
    part = d if "all turned" in slips else turned_width
    below = d if "angles of the whole width" in slips else part
    moved = part if "the last ones turned" in slips else 0
    if "pairs of the whole row" in slips:
        whole = turned(slips, x, positions)
        return np.concatenate([whole[..., :part], x[..., part:]], axis=-1)
    out = turned(slips, np.roll(x, moved, axis=-1), positions, part=part, below=below)
    if "the rest set to zero" in slips:
        out[..., part:] = 0
    if "the rest cut off" in slips:
        return out[..., :part]
    return np.roll(out, -moved, axis=-1)


def partly_by_complex(x, positions, turned_width):
    """As products of complex numbers."""
    return np.concatenate(
        [halves_by_complex(x[..., :turned_width], positions), x[..., turned_width:]], axis=-1
    )


def partly_by_rows(x, positions, turned_width):
    """A coordinate at a time."""
    out = x.copy()
    half = turned_width // 2
    for m in range(half):
        angle = positions * 10000.0 ** (-m / half)
        a, b = x[..., m], x[..., m + half]
        out[..., m] = a * np.cos(angle) - b * np.sin(angle)
        out[..., m + half] = b * np.cos(angle) + a * np.sin(angle)
    return out


PARTIAL = Exercise(
    name="partial_rotary",
    topic="positions",
    title="Turning a part",
    kind="extend",
    difficulty=2,
    minutes=10,
    prompt=(
        "Some models turn only a part of each row: GPT-NeoX a quarter. Turn the first "
        "`turned_width` coordinates of each row of `x`, (..., n, d), as if they were a row of "
        "their own, and leave the others as they are: of the r = `turned_width` coordinates, the "
        "pair $(x_m, x_{m + r/2})$ is turned by $p \\cdot 10000^{-2m/r}$ radians, as in `rotary`. "
        "p is the row's entry of `positions`, (n,). r is even, and may be 0 or d. The result has "
        "the shape of `x`."
    ),
    starter="import numpy as np\n\n\ndef partial_rotary(x, positions, turned_width):\n    ...\n",
    hints=(
        "Which width goes into the angles?",
        "Cut the row in two, turn the first part, and join them again.",
        "With r in place of d this is `rotary` on `x[..., :r]`, joined with `x[..., r:]`.",
    ),
    solve=partly,
    slips=(
        Slip(
            "angles of the whole width",
            "The exponents are divided by the width of the whole row. They must be divided by that "
            "of the part that is turned.",
            PAGE,
        ),
        Slip(
            "all turned",
            "All coordinates are turned. Those from `turned_width` on must stay as they are.",
            PAGE,
        ),
        Slip(
            "the last ones turned",
            "The last coordinates are turned. It must be the first `turned_width`.",
            PAGE,
        ),
        Slip(
            "pairs of the whole row",
            "The whole row was turned, and the rest put back: its pairs reach over the whole row. "
            "The first `turned_width` coordinates must form pairs among themselves.",
            PAGE,
        ),
        Slip(
            "the rest set to zero",
            "The coordinates that are not turned are 0. They must keep their values.",
            PAGE,
        ),
        Slip(
            "the rest cut off",
            "The coordinates that are not turned are cut off. The result has the shape of `x`.",
            PAGE,
        ),
        *(slip for slip in TURNS if slip.name not in ("base ignored", "added")),
    ),
    cases=lambda rng: (
        [
            Case(case.what, (*case.args, 2 * (1 + case.args[0].shape[-1] // 6)))
            for case in turn_cases(rng)
            if case.args[0].shape[-1] > 4
        ]
        + [
            Case("a quarter of eight", (rng.standard_normal((3, 8)), np.arange(3) + 1, 2)),
            Case("four of six", (rng.standard_normal((2, 5, 6)), np.arange(5), 4)),
            Case("all of four", (rng.standard_normal((3, 4)), np.arange(3), 4)),
            Case("none", (rng.standard_normal((2, 4)), np.arange(2) + 3, 0)),
            Case("six of eight", (rng.standard_normal((2, 8)), np.arange(2) + 1, 6)),
        ]
    ),
    right=(partly_by_complex, partly_by_rows),
)


def slopes(slips, heads):
    """Return how fast scores fall for each head."""
    power = 2 ** int(np.floor(np.log2(heads)))
    if "the power above" in slips and power < heads:
        power *= 2
    if "power of two not minded" in slips:
        power = heads
    exponent = 4.0 if "exponent of 4" in slips else 8.0
    first = 0 if "counted from zero" in slips else 1
    own = np.arange(first, power + first) / power
    double = 2 * power
    between = np.arange(1, double, 2) / double
    if "the rest from the start" in slips:
        between = own
    if "every slope in between" in slips:
        between = np.arange(1, double) / double
    both = [between, own] if "the rest first" in slips else [own, between]
    exponents = np.concatenate(both)[:heads]
    if "sorted" in slips:
        exponents = np.sort(exponents)
    if "linear" in slips:
        return 1 - exponents
    sign = 1 if "growing" in slips else -1
    base = np.e if "base e" in slips else 2.0
    if "halved from head to head" in slips:
        exponents = np.arange(1, heads + 1) / exponent
    found = base ** (sign * exponent * exponents)
    return found[::-1] if "flattest first" in slips else found


def slopes_by_recursion(heads):
    """As the authors' description: a power of two, then every second one of the next."""
    if heads & (heads - 1) == 0:
        return np.array([2 ** (-8 * (k + 1) / heads) for k in range(heads)])
    below = 1 << (heads.bit_length() - 1)
    return np.append(slopes_by_recursion(below), slopes_by_recursion(2 * below)[::2])[:heads]


def slopes_by_roots(heads):
    """As powers of one root."""
    below = 1
    while 2 * below <= heads:
        below *= 2
    ratio = (1 / 256) ** (1 / below)
    found = [ratio**k for k in range(1, below + 1)]
    found += [np.sqrt(ratio) ** k for k in range(1, 2 * below, 2)]
    return np.array(found[:heads])


SLOPES = Exercise(
    name="alibi_slopes",
    topic="positions",
    title="A slope for each head",
    kind="implement",
    difficulty=2,
    minutes=12,
    prompt=(
        "In ALiBi each head lowers the score of a key in proportion to its distance, each with a "
        "slope of its own. If `heads` is a power of two, head k = 1, 2, ... has the slope "
        "$2^{-8k / \\mathrm{heads}}$. If not, the first heads have the slopes of the power of two "
        "below it, and the others every second slope of the power of two above it, beginning with "
        "the first. Return the slopes, (heads,)."
    ),
    starter="import numpy as np\n\n\ndef alibi_slopes(heads):\n    ...\n",
    hints=(
        "What are the slopes of 2 heads, of 4, and then of 3?",
        "`1 << (heads.bit_length() - 1)` is the largest power of two up to `heads`.",
        "With that power P: the exponents `-8 * np.arange(1, P + 1) / P`, then `-8 * np.arange(1, "
        "2 * P, 2) / (2 * P)`, as many as are needed.",
    ),
    solve=slopes,
    slips=(
        Slip(
            "power of two not minded",
            "The formula for powers of two is used for every number of heads. With 3 heads, two "
            "slopes are those of 2 heads, and one is from those of 4.",
            PAGE,
        ),
        Slip(
            "counted from zero",
            "Heads are counted from 0, so the first slope is 1. They are counted from 1: the first "
            "of 8 heads has the slope 1/2.",
            PAGE,
        ),
        Slip(
            "every slope in between",
            "The other heads get every slope of the next power of two. They get every second one, "
            "since the rest are taken already.",
            PAGE,
        ),
        Slip(
            "the rest from the start",
            "The other heads repeat slopes of the first ones. They get those in between: of the "
            "power of two above, the first, the third and so on.",
            PAGE,
        ),
        Slip(
            "halved from head to head",
            "Each slope is half of the one before. That is so with 8 heads alone; with P heads, P "
            "a power of two, the factor is 2^(-8 / P).",
            PAGE,
        ),
        Slip(
            "the power above",
            "The slopes are the first ones of the power of two above. The first heads have those "
            "of the power below. Only the others have slopes of the power above, every second one.",
            PAGE,
        ),
        Slip(
            "exponent of 4",
            "The exponent has a 4 in place of the 8. With the 8, the smallest slope for a power of "
            "two is 1/256.",
            PAGE,
        ),
        Slip(
            "growing",
            "The exponent is positive, so slopes lie above 1. It is negative: they lie between 0 "
            "and 1.",
            PAGE,
        ),
        Slip("base e", "The powers are of e. The slopes are powers of 2.", PAGE),
        Slip(
            "flattest first",
            "The slopes stand in reverse order. The formula begins with head 1.",
            PAGE,
        ),
        Slip(
            "linear",
            "The slopes fall by equal steps. They fall by equal factors, as powers of 2 do.",
            PAGE,
        ),
        Slip(
            "sorted",
            "All slopes are sorted. Those of the power of two above are not sorted in; they come "
            "last.",
            PAGE,
        ),
        Slip(
            "the rest first",
            "The slopes in between come first. They come last, after those of the power of two "
            "below.",
            PAGE,
        ),
    ),
    cases=lambda rng: (
        [Case("one head", (1,))]
        + [Case(f"{heads} heads", (heads,)) for heads in (2, 3, 4, 6, 8, 12)]
        + [Case("heads drawn anew", (int(rng.integers(9, 40)),))]
    ),
    right=(slopes_by_recursion, slopes_by_roots),
)


def falling(slips, heads, queries, keys):
    """Lower the score of each key by its distance."""
    offset = 0 if "aligned at the start" in slips else keys - queries
    distance = np.arange(queries)[:, None] + offset - np.arange(keys)
    if "from the last query" in slips:
        distance = np.broadcast_to(keys - 1 - np.arange(keys), (queries, keys))
    if "the past raised" in slips:
        distance = -distance
    elif "the future not lowered" in slips:
        distance = np.maximum(distance, 0)
    elif "the future raised" not in slips:
        distance = np.abs(distance)
    if "one too far" in slips:
        distance = distance + 1
    if "the square of the distance" in slips:
        distance = distance * np.abs(distance)
    slope = alibi_slopes(heads)
    if "one slope" in slips:
        slope = np.full_like(slope, slope[0])
    if "no slopes" in slips:
        slope = np.ones_like(slope)
    if "flattest first" in slips:
        slope = slope[::-1]
    bias = -slope[:, None, None] * distance
    if "raised, not lowered" in slips:
        bias = -bias
    if "the future hidden" in slips:
        j, p = np.arange(keys), np.arange(queries)[:, None] + offset
        bias = np.where(j > p, -np.inf, bias)
    if "heads last" in slips:
        bias = np.moveaxis(bias, 0, -1)
    return bias.swapaxes(-1, -2) if "keys by queries" in slips else bias


def falling_by_einsum(heads, queries, keys):
    """As an outer product."""
    i, j = np.ogrid[keys - queries : keys, :keys]
    return np.einsum("h,ij->hij", -alibi_slopes(heads), np.abs(i - j).astype(float))


def falling_by_heads(heads, queries, keys):
    """An entry at a time."""
    bias = np.zeros((heads, queries, keys))
    for h, slope in enumerate(alibi_slopes(heads)):
        for i in range(queries):
            for j in range(keys):
                bias[h, i, j] = -slope * abs(i + keys - queries - j)
    return bias


BIAS = Exercise(
    name="alibi_bias",
    topic="positions",
    title="Far keys count less",
    kind="implement",
    difficulty=1,
    minutes=8,
    prompt=(
        "Return the bias of ALiBi, (heads, queries, keys): minus the head's slope times the "
        "distance between the query and the key. `alibi_slopes(heads)` gives the slopes, (heads,). "
        "Keys after the query count like keys before it; to hide them is for a mask. The queries "
        "are the last ones: the last query stands at the last key. Where there are more queries "
        "than keys, the first queries stand before the first key."
    ),
    starter=(
        "import numpy as np\n\n"
        "from attn_course.reference import alibi_slopes\n\n\n"
        "def alibi_bias(heads, queries, keys):\n"
        "    ...\n"
    ),
    hints=(
        "At which position does query 0 stand, if there are 2 queries and 3 keys?",
        "`np.arange(queries)[:, None] + keys - queries - np.arange(keys)` is how far each key lies "
        "before each query.",
        "`-alibi_slopes(heads)[:, None, None] * np.abs(distance)`.",
    ),
    solve=falling,
    slips=(
        ALIGNED,
        Slip(
            "raised, not lowered",
            "The minus is missing, so the score of a key grows with its distance. It must fall.",
            PAGE,
        ),
        Slip(
            "the future raised",
            "Keys after the query get a higher score, since their distance is taken as negative. "
            "Distance has no sign: `np.abs`.",
            PAGE,
        ),
        Slip(
            "the past raised",
            "Keys before the query get a higher score: how far a key lies ahead is taken for the "
            "distance. Distance has no sign: `np.abs`.",
            PAGE,
        ),
        Slip(
            "the future not lowered",
            "Keys after the query have the bias 0. They must have that of keys as far before it.",
            PAGE,
        ),
        Slip(
            "the future hidden",
            "Keys after the query are hidden. That is for a mask to do; here their scores are "
            "lowered by their distance.",
            PAGE,
        ),
        Slip(
            "from the last query",
            "All distances are measured from the last query, so all rows are the same. Under a "
            "causal mask the weights would be right all the same; the distances of the other "
            "queries are not.",
            PAGE,
        ),
        Slip(
            "one slope",
            "All heads have the slope of the first. Head h has entry h of `alibi_slopes`.",
            PAGE,
        ),
        Slip(
            "no slopes",
            "The slopes are missing, as if all were 1. Head h has entry h of `alibi_slopes`.",
            PAGE,
        ),
        Slip(
            "flattest first",
            "The slopes stand in reverse order. Head h has entry h of `alibi_slopes`.",
            PAGE,
        ),
        Slip(
            "one too far",
            "Every distance is too large by 1: a query's own key has the distance 0.",
            PAGE,
        ),
        Slip(
            "the square of the distance",
            "The distance is squared. ALiBi lowers scores in proportion to the distance itself.",
            PAGE,
        ),
        Slip(
            "heads last",
            "The heads are the last axis. The bias is (heads, queries, keys).",
            "appendix/notation",
        ),
        Slip(
            "keys by queries",
            "The last two axes are exchanged. Queries are rows, keys are columns.",
            "appendix/notation",
        ),
    ),
    cases=lambda rng: [
        Case("two heads, two queries, three keys", (2, 2, 3)),
        Case("as many of all", (4, 4, 4)),
        Case("one query", (3, 1, 5)),
        Case("more queries than keys", (2, 4, 2)),
        Case("one head", (1, 3, 6)),
        Case("sizes drawn anew", tuple(int(x) for x in rng.integers(2, 8, size=3))),
    ],
    right=(falling_by_einsum, falling_by_heads),
    helpers=("alibi_slopes",),
)


WIDTH, BASE, PAIR, RADIANS = 8, 10000.0, 2, 5
SPEED = BASE ** (-2 * PAIR / WIDTH)

ANGLE = Exercise(
    name="turns_of_a_pair",
    topic="positions",
    title="How far a pair turns",
    kind="predict",
    difficulty=1,
    minutes=4,
    prompt=(
        f"Rows of width {WIDTH} are turned by their positions, as in rotary embedding: with the "
        "base 10000 and pairs that are counted from 0, the first of which turns by one radian a "
        "position. Two equal rows at different positions are turned. Afterwards the angles of "
        f"their pair m = {PAIR} differ by {RADIANS} radians, and it has not turned all around in "
        "between. How many positions lie from one row to the other? Give the exact number; an "
        "expression will do."
    ),
    hints=(
        "By how many radians does one position turn this pair?",
        "$10000^{-2m/d}$ with m = 2 and d = 8.",
        "That is $10000^{-1/2}$ = 1/100 radian a position.",
    ),
    solve=predictions(
        RADIANS / SPEED,
        {
            "exponent not doubled": RADIANS * BASE ** (PAIR / WIDTH),
            "counted from one": RADIANS * BASE ** (2 * (PAIR + 1) / WIDTH),
            "the angle of so many positions": RADIANS * SPEED,
            "one radian": 1 / SPEED,
            "turns, not radians": RADIANS * 2 * np.pi / SPEED,
            "exponent doubled twice": RADIANS * BASE ** (4 * PAIR / WIDTH),
            "degrees": RADIANS * 180 / np.pi / SPEED,
            "the first pair": float(RADIANS),
        },
    ),
    slips=(
        Slip(
            "exponent not doubled",
            "The exponent m / d was used, with which the pair turns faster. It is 2m / d.",
            PAGE,
        ),
        Slip(
            "counted from one",
            f"The pairs were counted from 1. They are counted from 0, so pair {PAIR} is the third.",
            PAGE,
        ),
        Slip(
            "the angle of so many positions",
            f"This is by how many radians {RADIANS} positions turn the pair. The question is how "
            f"many positions turn it by {RADIANS} radians.",
            PAGE,
        ),
        Slip(
            "one radian",
            f"So many positions turn the pair by one radian. {RADIANS} radians are asked for.",
            PAGE,
        ),
        Slip(
            "turns, not radians",
            f"So many positions turn the pair all around {RADIANS} times. The {RADIANS} are "
            "radians.",
            PAGE,
        ),
        Slip(
            "exponent doubled twice",
            "The exponent 4m / d was used: it was doubled twice, or the number of pairs was taken "
            "for d. It is 2m / d, and d is the whole width.",
            PAGE,
        ),
        Slip(
            "degrees",
            "The angle was converted to degrees. Both the angle and the speed are in radians.",
            PAGE,
        ),
        Slip(
            "the first pair",
            f"This is for pair 0, which turns by a radian a position. Pair {PAIR} turns more "
            "slowly.",
            PAGE,
        ),
    ),
    right=(500, np.array(5 * 100.0)),
)

EXERCISES = (ANGLE, SINUSOIDAL, ROTARY, INTERLEAVED, PARTIAL, SLOPES, BIAS)
