"""The prose of the book: no number without its proof, no picture without its description."""

import base64
import re
from xml.etree import ElementTree

import nbformat
import pytest
from book_text import ROOT, foreign, outputs, prose, read, sentences, titles, unproved
from execute import pages

PAGES = pages()
IDS = [str(path.relative_to(ROOT).with_suffix("")) for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_number_was_recorded_or_is_cited(path):
    assert unproved(read(path)) == []


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_page_has_prose_and_one_title(path):
    notebook = read(path)
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert sum(map(titles, markdown)) == 1
    assert [found for source in markdown for found in foreign(source)] == []
    assert notebook.cells[0].source.startswith("# ")
    assert len(prose(notebook)) >= 3


def page_with(text, recorded=""):
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=recorded)]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text), cell])


@pytest.mark.parametrize(
    "text",
    [
        "The weight is 0.98.",
        "The weight is 98.8 %.",
        "The weight is 98 percent.",
        "A | b\n--|--\nweight | 0.31",
        "```{dropdown} Answer\nIt is 0.5.\n```",
        "## The weight 0.3",
        "It fell to 1e-7.",
        "Well known {cite:t}`key`. The weight is 0.98.",
        "It fell by -0.989.",
        "It fell to .731.",
        "```{dropdown} It is 0.731\nSee above.\n```",
    ],
)
def test_an_unproved_number_is_found(text):
    assert unproved(page_with(text, "weight = 0.9889\n"))


@pytest.mark.parametrize(
    "text",
    [
        "The weight is 0.99, or 0.989.",
        "The weight is 98.9 %, some 99%.",
        "The weight is $0.31$, `0.31` in code.",
        "$$0.31$$",
        "```python\n0.31\n```",
        "The weight was 0.31 {cite:p}`key`.",
        "There are 12 heads in 3 layers.",
    ],
)
def test_a_proved_number_passes(text):
    assert unproved(page_with(text, "weight = 0.9889\n")) == []


def test_sentences_end_where_sentences_end():
    assert [s.text for s in sentences("One is `x.y`. Two\nis more! Three?")] == [
        "One is  ` .",
        "Two is more!",
        "Three?",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "![a](https://example.org/a.png)",
        "![ ](a.png)",
        "![][a]\n\n[a]: a.png",
        "```{figure} a.png\nIt is 0.731.\n```",
        ":::{margin}\nIt is 0.731.\n:::",
        '<IMG src="a.png">',
        "<p>It is 0.731.</p>",
    ],
)
def test_what_the_tests_cannot_read_is_refused(text):
    assert foreign(text)


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_picture_is_drawn_and_described(path):
    for output in outputs(read(path)):
        data = output.get("data", {})
        bare = [kind for kind in data if kind.startswith("image/")]
        assert not bare, "draw with attn_course.plots, which describes what it draws"
        check_pictures(data.get("text/html", ""))


IMAGE = re.compile(r'<img class="[\w-]+" src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)"')


def check_pictures(html):
    images = IMAGE.findall(html)
    assert len(images) == len(re.findall("<img", html, re.IGNORECASE)), "an image of another kind"
    assert "<svg" not in html or "widget-says" in html  # the sentence of a widget describes it
    for drawing, alt in images:
        svg = ElementTree.fromstring(base64.b64decode(drawing))
        shapes = [element for element in svg.iter() if element.tag.endswith(("path", "text"))]
        assert len(shapes) > 5, "an empty drawing"
        assert len(alt) >= 20, f"alternative text too short: {alt!r}"
    if images:
        assert len(images) == 2, "a picture has a light and a dark form"
        caption = html.partition("<figcaption>")[2].partition("</figcaption>")[0]
        assert len(caption) >= 10, f"caption too short: {caption!r}"
