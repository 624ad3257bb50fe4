"""The prose of the book: no number without its proof, no picture without its description."""

import nbformat
import pytest
from book_text import ROOT, outputs, prose, read, sentences, unproved
from execute import pages

PAGES = pages()
IDS = [str(path.relative_to(ROOT).with_suffix("")) for path in PAGES]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_number_was_recorded_or_is_cited(path):
    assert unproved(read(path)) == []


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_page_has_prose_and_one_title(path):
    notebook = read(path)
    titles = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("# ")
    ]
    assert len(titles) == 1
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


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_every_picture_is_described(path):
    notebook = read(path)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert "![](" not in cell.source
            assert "<img" not in cell.source
    for output in outputs(notebook):
        data = output.get("data", {})
        bare = [kind for kind in data if kind.startswith("image/")]
        assert not bare, "draw with attn_course.plots, which describes what it draws"
        undescribed_images(data.get("text/html", ""))


def undescribed_images(html):
    for tag in html.split("<img")[1:]:
        alt = tag.partition('alt="')[2].partition('"')[0]
        assert len(alt) >= 20, f"alternative text too short: {alt!r}"
    if "<img" in html:
        caption = html.partition("<figcaption>")[2].partition("</figcaption>")[0]
        assert len(caption) >= 10, f"caption too short: {caption!r}"
    assert "<svg" not in html.partition("<img")[0]
