"""What the pages of the book need besides the mathematics: numbers, measurements, source."""

import ast
import html
import inspect
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def record(*, digits: int = 6, **values) -> None:
    """Print each value as `name = number`, to `digits` significant digits.

    The book's tests compare what is printed here at every run, and hold every decimal number and
    percentage in a page's prose against it. A value is a number, or an array or sequence of
    numbers; NumPy's and torch's both work.

    >>> record(third=1 / 3, sizes=[3, 7.5, 12])
    third = 0.333333
    sizes = 3, 7.5, 12

    Raises:
        TypeError: a value does not consist of numbers.
        ValueError: a value has no number, or one that is not finite.
    """
    for name, value in values.items():
        if hasattr(value, "detach"):  # a tensor, perhaps of a dtype that NumPy lacks
            value = value.detach().tolist()
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iuf":
            raise TypeError(f"{name} is {value!r}, expected numbers")
        if numbers.size == 0 or not np.isfinite(numbers).all():
            raise ValueError(f"{name} is {value!r}, expected finite numbers")
        print(name, "=", ", ".join(_typed(x, digits) for x in numbers.ravel().tolist()))


def _typed(number: int | float, digits: int) -> str:
    if isinstance(number, int):
        return str(number)
    # Positional, without trailing zeros, so that a reader can compare it with the prose.
    text = np.format_float_positional(number, precision=digits, fractional=False, trim="-")
    return "0" if text == "-0" else text


RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"


def results(name: str) -> dict:
    """Return what a benchmark measured and wrote to `benchmarks/results/NAME.json`.

    Raises:
        FileNotFoundError: there is no such file. It stands in a copy of the repository, not in
            the installed package.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in RESULTS.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"name is {name!r}, and there is no {path.name} in benchmarks/results of the "
            f"repository that the package runs from; there are: {known}"
        )
    return json.loads(path.read_text())


def marked(text: object) -> str:
    """Return `text` as HTML, what stands between backticks set as code.

    >>> marked("`a < b`")
    '<code>a &lt; b</code>'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(str(text)))


class Table:
    """Rows of names and numbers, shown as a table."""

    def __init__(self, rows: Sequence[Mapping[str, object]]):
        self.rows = rows

    def __repr__(self) -> str:
        head = list(self.rows[0])
        lines = [head, ["---"] * len(head), *([str(x) for x in row.values()] for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{marked(name)}</th>' for name in self.rows[0])
        body = ""
        for name, *others in (row.values() for row in self.rows):
            cells = "".join(f"<td>{marked(x)}</td>" for x in others)
            body += f'<tr><th scope="row">{marked(name)}</th>{cells}</tr>'
        return (
            '<div style="overflow-x: auto"><table class="table">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )


def table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Return `rows` as a table, its columns named by their keys.

    >>> table([{"form": "textbook", "arrays": 4}, {"form": "tiled", "arrays": 1}])
    | form | arrays |
    | --- | --- |
    | textbook | 4 |
    | tiled | 1 |

    On a page what stands between backticks is set as code.

    Raises:
        ValueError: there is no row, or two rows have other keys.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise ValueError("rows must be one or more, all with the same keys in the same order")
    return Table(rows)


class Source:
    """The source of a function of the package, shown as highlighted code."""

    def __init__(self, code: str):
        self.code = code

    def __repr__(self) -> str:
        return self.code

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.code}\n```"


def source(function) -> Source:
    """Return the source of `function` without its docstring, to be shown on a page.

    >>> from attn_course.reference import dot_scores
    >>> source(dot_scores)
    def dot_scores(
        q: Float[np.ndarray, "*b i d"], k: Float[np.ndarray, "*b j d"]
    ) -> Float[np.ndarray, "*b i j"]:
        return scaled_dot_scores(q, k, scale=1.0)

    Raises:
        TypeError: `function` is no Python function with a name.
    """
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise TypeError(f"function is {function!r}, expected a function with a name and a source")
    code = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    body = ast.parse(code).body[0].body
    lines = code.splitlines()
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(getattr(first, "value", None), ast.Constant):
        del lines[first.lineno - 1 : first.end_lineno]
    return Source("\n".join(lines).rstrip())
