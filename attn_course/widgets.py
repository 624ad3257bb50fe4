"""Figures that answer: each function returns a figure in the state that its arguments name.

A figure shows itself as HTML: a view, and one sentence that says the whole state. On a page of the
book `book/assets/widgets.js` puts controls above it and computes both anew at every change. It
draws the same markup and rounds as `fixed` does, so that the tests can compare the two. Elsewhere,
in print and without scripts the figure stays as it is.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from attn_course.arguments import check_bool, check_number
from attn_course.notebook import marked
from attn_course.reference import (
    KVCache,
    attention,
    attention_weights,
    causal_mask,
    document_mask,
    entropy,
    grouped_query_attention,
    padding_mask,
    partial_attention,
    prefix_mask,
    rotary,
    rotary_angles,
    softmax,
    window_mask,
)

INK = "var(--pst-color-primary,#0072B2)"  # the book's color where there is one
ON = f' style="background:{INK};color:var(--pst-color-background,#fff)"'


@dataclass(frozen=True)
class Slider:
    """A number from `low` in steps of `step`, `count` values in all, or one of `values`."""

    label: str
    low: float = 0
    step: float = 1
    count: int = 0
    values: tuple[float, ...] = ()
    unit: str = ""

    def checked(self, name: str, value):
        evenly = tuple(round(self.low + n * self.step, 6) for n in range(self.count))
        check_number(name, value)
        return _one_of(name, value, self.values or evenly)


@dataclass(frozen=True)
class Choice:
    """One of `options`: pairs of a value and what the reader chooses it by."""

    label: str
    options: tuple[tuple[object, str], ...]

    def checked(self, name: str, value):
        return _one_of(name, value, [option for option, _ in self.options])


@dataclass(frozen=True)
class Switch:
    """True or False."""

    label: str

    def checked(self, name: str, value):
        check_bool(name, value)
        return value


@dataclass(frozen=True)
class Button:
    """Adds the state's `by` to its `to`, and begins again at 0 after the most that `to` can be."""

    label: str
    to: str
    by: str


def _one_of(name: str, value, options: Sequence):
    for option in options:
        if option == value and isinstance(value, bool) == isinstance(option, bool):
            return option
    if len(options) > 9 and len(set(np.diff(options).round(6))) == 1:
        expected = f"a multiple of {_typed(options[1] - options[0])} "
        expected += f"from {_typed(options[0])} to {_typed(options[-1])}"
    else:
        expected = f"one of {', '.join(x if isinstance(x, str) else _typed(x) for x in options)}"
    raise ValueError(f"{name} is {value!r}, expected {expected}")


class Widget:
    """A figure in one state: its `view` as HTML, and the sentence that `says` the state."""

    def __init__(self, name: str, title: str, controls: dict, state: dict, view: str, says: str):
        self.name, self.title, self.controls, self.state = name, title, controls, state
        self.view, self.says = view, says

    def __repr__(self) -> str:
        return self.says

    def _repr_html_(self) -> str:
        controls = []
        for name, control in self.controls.items():
            given = {key: x for key, x in asdict(control).items() if x not in ("", ())}
            controls.append({"name": name, "kind": type(control).__name__.lower(), **given})
        return (
            f'<div class="widget" role="group" aria-label="{self.title}" '
            f'data-widget="{self.name}" data-state="{_attribute(self.state)}" '
            f'data-controls="{_attribute(controls)}">'
            f'<div class="widget-view">{self.view}</div>'
            f'<p class="widget-says">{marked(self.says)}</p></div>'
        )


def _attribute(value) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "&amp;").replace('"', "&quot;")


def _checked(controls: dict, **state) -> dict:
    return {name: controls[name].checked(name, value) for name, value in state.items()}


def fixed(x: float, digits: int) -> str:
    """Return `x` to `digits` decimals, halves rounded away from 0.

    What is a half but for its last bits counts as one, so that Python and JavaScript, whose
    exponentials differ there, show the same.

    >>> fixed(0.125, 2), fixed(-1 / 3, 3), fixed(-0.0001, 3)
    ('0.13', '−0.333', '0.000')
    """
    return _plain(x, digits).replace("-", "−")


def _plain(x: float, digits: int = 1) -> str:
    text = f"{x + math.copysign(1e-9, x):.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _typed(x: float) -> str:
    return f"{x:,.6f}".rstrip("0").rstrip(".").replace("-", "−")


def _count(n: float, what: str) -> str:
    return f"{_typed(n)} {what}" + "s" * (n != 1)


def _list(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _row(head: str, *cells: str) -> str:
    """Return a row of a table; what begins with `<t` is a whole cell already."""
    rest = (cell if cell.startswith("<t") else f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{head}</th>{"".join(rest)}</tr>'


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    names = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _on(text: str) -> str:
    return f"<td{ON}>{text}</td>"


def _bar(share: float) -> str:
    """Return a bar that fills `share` of its cell; it is a border, which every printer prints."""
    width = f"{_plain(100 * share)}%"
    style = f"width:{width};border-top:.8em solid {INK}"
    bar = f'<div role="img" aria-label="{width}" style="{style}"></div>'
    return f'<td class="widget-bar">{bar}</td>'


def _svg(width: int, height: int, *shapes: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" aria-hidden="true" '
        f'style="max-width:100%;height:auto">{"".join(shapes)}</svg>'
    )


def _circle(radius: float) -> str:
    style = "fill:none;stroke:currentColor;opacity:.4"
    return f'<circle r="{_plain(radius)}" style="{style}"></circle>'


def _arrow(angle: float, length: float, thick: float, name: str, query: bool = False) -> str:
    """Return an arrow from (0, 0), its angle in radians, with its name; a query is dashed."""
    color, dash = (INK, ' stroke-dasharray="6 3"') if query else ("currentColor", "")
    head, far = _plain(4 + thick), length + (34 if query else 18)
    return (
        f'<path transform="rotate({_plain(-math.degrees(angle))})" style="stroke:{color};'
        f'fill:{color}" stroke-width="{_plain(thick)}"{dash} d="M0 0H{_plain(length)}'
        f'm0 0l-{head} -{_plain(2 + thick / 2)}v{head}z"></path>'
        f'<text x="{_plain(far * math.cos(angle))}" y="{_plain(4 - far * math.sin(angle))}" '
        f'style="fill:{color};font-size:12px;text-anchor:middle">{name}</text>'
    )


TEMPERATURE = {
    "temperature": Slider(
        "Temperature",
        values=(*(round(0.1 * n, 1) for n in range(1, 21)), 2.5, 3, 4, 5, 10, 20, 50, 100),
    ),
    "first": Slider("Score of key 1", -3, 0.5, 13),
    "second": Slider("Score of key 2", -3, 0.5, 13),
    "third": Slider("Score of key 3", -3, 0.5, 13),
}


def temperature(
    *, temperature: float = 0.5, first: float = 2, second: float = 1, third: float = -1
) -> Widget:
    """Show the weights of three scores at a temperature, and how many keys they count as.

    >>> temperature(temperature=1)
    Scores 2, 1 and −1 at temperature 1: weights 0.705, 0.259 and 0.035. Entropy 0.714: as \
spread out as 2.04 equal weights.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(TEMPERATURE, temperature=temperature, first=first, second=second, third=third)
    temperature, *scores = state.values()
    typed = [_typed(score) for score in scores]
    weights = softmax(np.array(scores, dtype=float), temperature=temperature)
    spread = entropy(weights).item()
    rows = [
        _row(f"key {n}", score, _bar(weight), fixed(weight, 3))
        for n, (score, weight) in enumerate(zip(typed, weights, strict=True), 1)
    ]
    many = math.exp(spread)
    rows.append(_row("equal weights, of 3", "", _bar(many / 3), fixed(many, 2)))
    says = (
        f"Scores {_list(typed)} at temperature {_typed(temperature)}: weights "
        f"{_list([fixed(weight, 3) for weight in weights])}. Entropy {fixed(spread, 3)}: "
        f"as spread out as {fixed(many, 2)} equal weights."
    )
    view = _table(["", "score", "share", "weight"], rows)
    return Widget("temperature", "Temperature and entropy", TEMPERATURE, state, view, says)


QUERY = {
    "direction": Slider("Direction of the query", 0, 5, 72, unit="°"),
    "length": Slider("Length of the query", 0, 0.1, 81),
    "north": Slider("Length of the key of north", 0, 0.5, 11),
}


def query(*, direction: float = 20, length: float = 2, north: float = 1) -> Widget:
    """Show what a query in the plane reads from the keys east, north and west.

    `direction` is in degrees from east toward north. The keys have length 1, but for that of
    north, and the values 18, 4 and 12. The weights are those of `attention`.

    >>> query(direction=90, length=1)
    Query of length 1 at 90°, key of north of length 1: weights 0.248 east, 0.503 north and \
0.248 west. Answer 9.46 degrees.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(QUERY, direction=direction, length=length, north=north)
    direction, length, north = state.values()
    angle, names = math.radians(direction), ("east", "north", "west")
    q = length * np.array([[math.cos(angle), math.sin(angle)]])
    k, v = np.array([[1, 0], [0, north], [-1, 0.0]]), np.array([[18.0], [4.0], [12.0]])
    weights, answer = attention_weights(q, k)[0], fixed(attention(q, k, v).item(), 2)
    unit = 86 / max(1.5, length, north)
    arrows = [
        _arrow(turn * math.pi / 2, unit * size, 1 + 6 * weight, name)
        for turn, (name, size, weight) in enumerate(zip(names, (1, north, 1), weights, strict=True))
    ]
    tip = unit * length
    x, y = _plain(tip * math.cos(angle)), _plain(-tip * math.sin(angle))
    plane = _svg(
        280,
        260,
        '<g transform="translate(140 130)">',
        _circle(unit),
        *arrows,
        _arrow(angle, tip, 2, "query", query=True),
        f'<circle class="widget-drag" cx="{x}" cy="{y}" r="16" fill="transparent"></circle>',
        "</g>",
    )
    rows = [
        _row(name, _typed(value), _bar(weight), fixed(weight, 3))
        for name, value, weight in zip(names, v[:, 0], weights, strict=True)
    ]
    rows.append(_row("answer", answer, "", ""))
    says = (
        f"Query of length {_typed(length)} at {_typed(direction)}°, key of north of length "
        f"{_typed(north)}: weights "
        + _list([f"{fixed(a, 3)} {name}" for a, name in zip(weights, names, strict=True)])
        + f". Answer {answer} degrees."
    )
    view = plane + _table(["key", "value", "share", "weight"], rows)
    return Widget("query", "A query among keys in the plane", QUERY, state, view, says)


POSITIONS = 8
DOCUMENTS = np.array([[0, 0, 0, 1, 1, 1, 1, 2]])
MASKS = {
    "pattern": Choice(
        "Mask",
        (
            ("all", "none"),
            ("causal", "causal"),
            ("window", "window"),
            ("prefix", "prefix"),
        ),
    ),
    "size": Slider("Keys in the window or prefix", 1, 1, POSITIONS),
    "words": Slider("Words; the rest is padding", 1, 1, POSITIONS),
    "queries": Slider("Queries: the last positions", 1, 1, POSITIONS),
    "documents": Switch("Three documents, of 3, 4 and 1 positions"),
}


def masks(
    *,
    pattern: str = "window",
    size: int = 3,
    words: int = POSITIONS,
    queries: int = POSITIONS,
    documents: bool = False,
) -> Widget:
    """Show which of eight keys each query sees.

    `pattern` is "all", "causal", "window" or "prefix", the last two of `size` keys. Keys after
    the first `words` are padding. The queries are the last `queries` of the eight positions.

    >>> masks(pattern="causal", queries=2)
    Causal, 8 words, 2 queries: 15 of 16 pairs are allowed. The queries see 7 and 8 keys.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(
        MASKS, pattern=pattern, size=size, words=words, queries=queries, documents=documents
    )
    pattern, size, words, queries, documents = state.values()
    shape = queries, POSITIONS
    mask = {
        "all": np.ones(shape, dtype=bool),
        "causal": causal_mask(*shape),
        "window": window_mask(*shape, size),
        "prefix": prefix_mask(*shape, size),
    }[pattern]
    mask = mask & padding_mask(np.array([words]), POSITIONS)[0, 0]
    if documents:
        mask = mask & document_mask(DOCUMENTS[:, -queries:], DOCUMENTS)[0, 0]
    seen = [str(row.sum()) for row in mask]
    rows = [
        _row(str(POSITIONS - queries + n), *(_on("1") if x else "0" for x in row), keys)
        for n, (row, keys) in enumerate(zip(mask, seen, strict=True), 1)
    ]
    name = {"all": "No mask", "causal": "Causal"}.get(pattern, f"{pattern.title()} of {size}")
    says = (
        f"{name}{', three documents' * documents}, {_count(words, 'word')}, "
        f"{'1 query' if queries == 1 else f'{queries} queries'}: {mask.sum()} of {mask.size} "
        f"pairs are allowed. The {'query sees' if queries == 1 else 'queries see'} "
        f"{_list(seen)} {'key' if seen == ['1'] else 'keys'}."
    )
    head = ["query ↓ key →", *(str(n) for n in range(1, POSITIONS + 1)), "seen"]
    view = _table(head, rows)
    return Widget("masks", "Masks and windows", MASKS, state, view, says)


HEADS = 8
KEPT = tuple(2**n for n in range(18))  # numbers of tokens
SHARED = {
    "key_heads": Choice("Heads of keys and values", ((8, "8"), (4, "4"), (2, "2"), (1, "1"))),
    "width": Choice("Width of a head", ((32, "32"), (64, "64"), (128, "128"))),
    "tokens": Slider("Tokens so far", values=KEPT),
    "listed": Switch("Repeat the whole list of key heads (a mistake)"),
}


def heads(
    *, key_heads: int = 2, width: int = 128, tokens: int = 4096, listed: bool = False
) -> Widget:
    """Show how 8 query heads of a layer share heads of keys and values, and what that changes.

    Numbers are of 16 bits. With `listed` the query heads read the key heads in the order of a
    program that repeats their whole list in place of each one of them.

    >>> heads(tokens=1)
    8 query heads read the key heads 0, 0, 0, 0, 1, 1, 1 and 1. With 1 token of width 128 the \
cache holds 1,024 bytes, 25% of those of 8 key heads. A new token still has 8 scores and an output \
of 1,024 numbers.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(SHARED, key_heads=key_heads, width=width, tokens=tokens, listed=listed)
    key_heads, width, tokens, listed = state.values()
    numbers = np.arange(key_heads, dtype=float)[:, None, None]  # each key head's value
    if listed:
        numbers = np.tile(numbers, (HEADS // key_heads, 1, 1))
    query_heads = np.zeros((HEADS, 1, 1))
    out = grouped_query_attention(query_heads, np.zeros(numbers.shape), numbers)
    read = [str(int(number)) for number in out[:, 0, 0]]
    cells, start = [], 0
    for n in range(1, HEADS + 1):
        if n == HEADS or read[n] != read[start]:
            cells.append(
                f'<td colspan="{n - start}"{ON * (int(read[start]) % 2)}>{read[start]}</td>'
            )
            start = n
    shared = "<table><tbody>" + _row("query head", *(str(n) for n in range(HEADS)))
    shared += _row("reads key head", *cells) + "</tbody></table>"
    model, each = HEADS * width, 2 * HEADS * width * width
    amounts = {
        "bytes in the cache of a layer": (tokens * _bytes(key_heads, width), key_heads / HEADS),
        "parameters that make keys and values": (each * key_heads, key_heads / HEADS),
        "parameters of queries and output": (each * HEADS, 1),
        "scores of a new token": (HEADS * tokens, 1),
        "numbers in its output": (model, 1),
    }
    rows = [
        _row(what, _typed(amount), _bar(share), f"{_typed(100 * share)}%")
        for what, (amount, share) in amounts.items()
    ]
    (kept, share), scores = amounts["bytes in the cache of a layer"], HEADS * tokens
    says = (
        f"8 query heads read the key heads {_list(read)}. With {_count(tokens, 'token')} of "
        f"width {width} the cache holds {_typed(kept)} bytes, {_typed(100 * share)}% of those "
        f"of 8 key heads. A new token still has {_typed(scores)} scores and an output of "
        f"{_typed(model)} numbers."
    )
    view = shared + _table(["", "number", "share", "of that of 8"], rows)
    return Widget("heads", "Query heads that share key heads", SHARED, state, view, says)


def _bytes(key_heads: int, width: int) -> int:
    """Return the bytes that one token leaves in the cache of one layer, in 16 bits."""
    cache, one = KVCache(capacity=1), np.zeros((key_heads, 1, width), dtype=np.float16)
    cache.append(one, one)
    return cache.nbytes


ROTATION = {
    "query_at": Slider("Position of the query", 0, 1, 21),
    "key_at": Slider("Position of the key", 0, 1, 21),
    "shift": Slider("Move both by", 0, 1, 101),
}


def rotation(*, query_at: int = 0, key_at: int = 1, shift: int = 0) -> Widget:
    """Show how RoPE turns a query and a key of width 4, and that only their distance counts.

    In both pairs of entries the query is (2, 1) and the key (2, −1). The first pair turns by 1
    radian a position, the second by one tenth: `rotary` with the base 100.

    >>> rotation(key_at=3)
    Query at 0, key at 3: distance 3. The pairs add −2.405 and 4.048 to the score, which is 1.643.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(ROTATION, query_at=query_at, key_at=key_at, shift=shift)
    query_at, key_at, shift = state.values()
    at = np.array([query_at, key_at]) + shift
    q = rotary(np.array([[2, 2, 1, 1.0]]), at[:1], base=100.0)[0].reshape(2, 2)
    k = rotary(np.array([[2, 2, -1, -1.0]]), at[1:], base=100.0)[0].reshape(2, 2)
    added, angles = (q * k).sum(axis=0), rotary_angles(at, 4, base=100.0).T
    shapes, rows = [], []
    for pair, (name, turned) in enumerate(zip(("quick", "slow"), angles, strict=True)):
        degrees = [fixed(math.degrees(angle), 1) for angle in turned]
        rows.append(_row(name, *degrees, fixed(added[pair], 3)))
        tilt = math.atan2(1, 2)
        shapes += [
            f'<g transform="translate({80 + 160 * pair} 82)">',
            _circle(45),
            _arrow(turned[1] - tilt, 45, 2, "k"),
            _arrow(turned[0] + tilt, 45, 2, "q", query=True),
            f'</g><text x="{80 + 160 * pair}" y="176" style="fill:currentColor;'
            f'font-size:12px;text-anchor:middle">{name} pair</text>',
        ]
    score, there = fixed(added.sum(), 3), [_typed(n) for n in at.tolist()]
    rows.append(_row("score", "", "", score))
    says = (
        f"Query at {there[0]}, key at {there[1]}: distance {_typed(key_at - query_at)}. The "
        f"pairs add {fixed(added[0], 3)} and {fixed(added[1], 3)} to the score, "
        f"which is {score}."
    )
    head = ["pair", "query turned by °", "key turned by °", "product"]
    view = _svg(320, 184, *shapes) + _table(head, rows)
    return Widget("rotation", "Query and key, turned", ROTATION, state, view, says)


EXPONENTIALS = (1, 1, 2, 4, 2, 8, 2, 4)  # of the scores
VALUES = (4, 0, 2, 6, 2, 8, 6, 2)
ONLINE = {
    "block": Slider("Keys in a block", 1, 1, 8),
    "read": Slider("Keys read", 0, 1, 9),
    "next": Button("Read the next block, or begin again", to="read", by="block"),
    "reverse": Switch("The last key first"),
    "forget": Switch("Forget the factor (a mistake)"),
}


def online(*, block: int = 2, read: int = 4, reverse: bool = False, forget: bool = False) -> Widget:
    """Show the sums of online softmax after each block of eight keys, of which `read` are read.

    With `forget` the old sums are not scaled when the largest score so far changes.

    >>> online()
    Blocks of 2, 4 of 8 keys read: m 1.39, factor 0.25, l 2.00, o 8.00. The output so far is \
4.00, as of these keys at once.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(ONLINE, block=block, read=read, reverse=reverse, forget=forget)
    block, read, reverse, forget = state.values()
    order = slice(None, None, -1 if reverse else 1)
    terms, values = EXPONENTIALS[order], VALUES[order]
    scores, v = np.log(np.array(terms, dtype=float)), np.array(values, dtype=float)
    m, total, o, rows, at_once = -np.inf, 0.0, 0.0, [], 0.0
    for start in range(0, read, block):
        part = slice(start, min(start + block, read))
        old, m = m, max(m, scores[part].max())
        factor = 1.0 if forget else np.exp(old - m)
        fresh = np.exp(scores[part] - m)
        total, o = factor * total + fresh.sum(), factor * o + fresh @ v[part]
        at_once = _at_once(scores[: part.stop], v[: part.stop])
        numbers = [fixed(x, 2) for x in (m, factor, total, o, o / total, at_once)]
        rows.append(_row(str(start // block + 1), *numbers))
    blocks = [n // block + 1 if n < read else 0 for n in range(8)]
    shown = "<table><tbody>" + _row("key", *"12345678"[order])
    shown += _row("e to the score", *map(str, terms)) + _row("value", *map(str, values))
    shown += _row("read in block", *(_on(str(n)) if n else "–" for n in blocks))
    says = f"Blocks of {block}{', the last key first' * reverse}, {read} of 8 keys read"
    says += ", without the factor" * forget
    if rows:
        output, right = numbers[-2:]
        says += f": m {numbers[0]}, factor {numbers[1]}, l {numbers[2]}, o {numbers[3]}. "
        says += f"The output so far is {output}, "
        says += f"not {right}." if output != right else "as of these keys at once."
    else:
        says += "."
    head = ["block", "m", "factor", "l", "o", "o / l", "at once"]
    view = f"{shown}</tbody></table>{_table(head, rows)}"
    return Widget("online", "Softmax, block by block", ONLINE, state, view, says)


def _at_once(scores: np.ndarray, values: np.ndarray) -> float:
    out, _ = partial_attention(np.ones((1, 1)), scores[:, None], values[:, None], scale=1.0)
    return out.item()


LAYERS, WIDTH, MODEL = 32, 128, 4096  # of Mistral 7B
CACHE = {
    "tokens": Slider("Tokens of a text", values=KEPT),
    "texts": Slider("Texts side by side", values=tuple(2**n for n in range(9))),
    "key_heads": Choice("Heads of keys and values", ((32, "32"), (8, "8"), (1, "1"))),
    "bits": Choice("Bits of a cached number", ((16, "16"), (8, "8"), (4, "4"), (2, "2"))),
    "window": Choice("Tokens kept", ((0, "all"), (4096, "the last 4,096"))),
}


def cache(
    *, tokens: int = 4096, texts: int = 1, key_heads: int = 8, bits: int = 16, window: int = 0
) -> Widget:
    """Show what the caches of a model of Mistral's sizes hold, and how long a step must take.

    The parameters have 16 bits, those of keys and values as many columns as `key_heads` need. A
    step reads parameters and caches, at 10^12 bytes a second. With a `window` a cache keeps no
    more tokens than that; 0 keeps all.

    >>> cache()
    1 text of 4,096 tokens, 8 heads of keys and values, 16 bits: the cache holds 0.54 GB, the \
parameters 14.22 GB. A step takes at least 14.8 ms: at most 68 tokens a second.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is none of the control's values.
    """
    state = _checked(
        CACHE, tokens=tokens, texts=texts, key_heads=key_heads, bits=bits, window=window
    )
    tokens, texts, key_heads, bits, window = state.values()
    layer = MODEL * (2 * MODEL + 2 * key_heads * WIDTH + 3 * 14336)
    parameters = 2 * (LAYERS * layer + 32000 * MODEL) / 1e9
    kept = min(tokens, window) if window else tokens
    one = LAYERS * kept * _bytes(key_heads, WIDTH) * bits / 16 / 1e9
    read = parameters + texts * one
    amounts = {
        "cache of one text": one,
        f"caches of {_typed(texts)}": texts * one,
        "parameters": parameters,
        "read in a step": read,
    }
    rows = [_row(what, fixed(amount, 2), _bar(amount / read)) for what, amount in amounts.items()]
    says = (
        f"{_count(texts, 'text')} of {_count(tokens, 'token')}"
        f"{', the last 4,096 kept' * bool(window)}, {_count(key_heads, 'head')} of keys and "
        f"values, {bits} bits: the {'cache holds' if texts == 1 else 'caches hold'} "
        f"{fixed(texts * one, 2)} GB, the parameters {fixed(parameters, 2)} GB. A step takes "
        f"at least {fixed(read, 1)} ms: at most "
        f"{fixed(1000 * texts / read, 0)} tokens a second."
    )
    view = _table(["", "gigabytes", "share of what a step reads"], rows)
    return Widget("cache", "What the cache holds", CACHE, state, view, says)
