"""What the tests of the book read: its pages as Markdown, sentences, numbers and records."""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

ROOT = Path(__file__).resolve().parent.parent

CITED = "\u0001"  # stands where a citation stood
PROSE = re.compile(r"\{(?:note|tip|warning|important|seealso|admonition|dropdown)\}(.*)")
OTHER = re.compile(r"(?!\{)|\{(?:eval-rst|bibliography)\}")  # code, and what holds no prose

NUMBER = re.compile(
    r"(?<![\w.])[-\u2212]?(?:"
    r"(?:\d[\d,]*)?\.\d+(?:e[-+]?\d+)?(?:\s?(?:%|percent\b))?"  # a decimal number
    r"|\d[\d,]*(?:e[-+]?\d+)"  # an integer with an exponent
    r"|\d[\d,]*\s?(?:%|percent\b)"  # a percentage
    r")"
)


@dataclass
class Sentence:
    """A sentence of prose, without code and mathematics."""

    text: str
    cited: bool


def parser() -> MarkdownIt:
    markdown = MarkdownIt("commonmark").enable("table")
    return (
        markdown.use(front_matter_plugin)
        .use(dollarmath_plugin, double_inline=True)
        .use(colon_fence_plugin)
        .use(myst_role_plugin)
    )


def tokens(markdown: str):
    """Yield the block tokens of `markdown`, and of the prose inside admonitions and folds."""
    for token in parser().parse(markdown):
        prose = PROSE.match(token.info.strip()) if "fence" in token.type else None
        if prose:
            yield from parser().parse(prose[1])  # its title
            yield from tokens(token.content)
        else:
            yield token


def foreign(markdown: str) -> list[str]:
    """Return what `markdown` holds that the tests cannot read: HTML, images, directives."""
    found = []
    for token in tokens(markdown):
        if "fence" in token.type and not OTHER.match(token.info.strip()):
            found.append(token.info)
        for part in [token, *(token.children or [])]:
            if part.type in ("html_block", "html_inline", "image"):
                found.append(part.content)
    return found


def titles(markdown: str) -> int:
    """Return how many headings of the first level `markdown` has."""
    return sum(token.type == "heading_open" and token.tag == "h1" for token in tokens(markdown))


def sentences(markdown: str) -> list[Sentence]:
    """Return the sentences of `markdown`; a row of a table counts as one."""
    found, row = [], None
    for token in tokens(markdown):
        if token.type == "tr_open":
            row = []
        elif token.type == "tr_close":
            text = " | ".join(row)
            found.append(Sentence(text.replace(CITED, ""), CITED in text))
            row = None
        elif token.type == "inline":
            text = _prose(token.children)
            if row is not None:
                row.append(text)
            else:
                found += [
                    Sentence(part.replace(CITED, ""), CITED in part)
                    for part in re.split(r"(?<=[.!?:])\s+(?=\S)", text)
                ]
    return found


def _prose(children) -> str:
    parts = []
    for child in children:
        if child.type == "text":
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif child.type == "myst_role" and child.meta["name"].startswith("cite"):
            parts.append(CITED)
        elif child.type in ("code_inline", "math_inline", "math_inline_double", "myst_role"):
            parts.append(" ` ")
    return "".join(parts)


def records(notebook) -> list[float]:
    """Return every number that a cell of `notebook` printed as `name = number, number`."""
    numbers = []
    for output in outputs(notebook):
        if output.output_type == "stream" and output.name == "stdout":
            for line in output.text.splitlines():
                found = re.fullmatch(r"\w+ = ([-\d., ]+)", line)
                if found:
                    numbers += [float(item) for item in found[1].split(", ")]
    return numbers


def outputs(notebook):
    """Yield every output of every cell of `notebook`."""
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def read(path: Path):
    """Return the notebook at `path`, or a Markdown page as a notebook of one cell."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=4)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text())])


def prose(notebook) -> list[Sentence]:
    """Return the sentences of the Markdown cells of `notebook`."""
    return [
        sentence
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for sentence in sentences(cell.source)
    ]


def unproved(notebook) -> list[str]:
    """Return each number in uncited prose that no cell of `notebook` recorded, with its sentence.

    A number is proved by a recorded value that rounds to it at the digits typed; a percentage
    also by a recorded fraction.
    """
    known = records(notebook)
    found = []
    for sentence in prose(notebook):
        if sentence.cited:
            continue
        for match in NUMBER.finditer(sentence.text):
            if not _is_recorded(match[0], known):
                found.append(f"{match[0]!r} in: {sentence.text.strip()}")
    return found


def _is_recorded(typed: str, known: list[float]) -> bool:
    percent = typed.endswith(("%", "percent"))
    digits = re.sub(r"[^\d.e+-]", "", typed.replace("\u2212", "-").replace("percent", ""))
    mantissa, _, exponent = digits.partition("e")
    decimals = len(mantissa.partition(".")[2])
    half = 0.5 * 10.0 ** (int(exponent or 0) - decimals)
    candidates = [*known, *(100 * value for value in known)] if percent else known
    return any(abs(float(digits) - value) <= half * (1 + 1e-9) for value in candidates)
