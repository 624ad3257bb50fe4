"""The book as a PDF: `make pdf`.

One page of HTML holds all chapters, the formulas already set, and Chromium prints it, twice or
more: the numbers of the pages, in the contents and after each link to another chapter, are known
only when all is printed, and filled in they must not move what they count.
"""

import html
import io
import json
import os
from pathlib import Path

import matplotlib
from _extension.spoken import said
from bs4 import BeautifulSoup
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter

import paper
from paper.browser import FLAGS, find_browser
from paper.cover import drawing

FILE = paper.ROOT / "_build" / "pdf" / "attention.pdf"
WIDTH = 642  # CSS pixels between the margins: 170 of A4's 210 mm
LONG = 20  # lines; a listing that is longer may go on on the next page

# What is wider than the page is set smaller until it fits. The sign of a root is drawn far too
# long, and cut off.
FIT = """() => {
  for (const wide of document.querySelectorAll(".katex-display, table, .widget-view")) {
    const box = wide.parentElement.getBoundingClientRect();
    const inside = [wide, ...wide.querySelectorAll(":not(.katex svg, .katex svg *)")];
    for (let tries = 0; tries < 10; tries += 1) {
      const right = Math.max(...inside.map((x) => x.getBoundingClientRect().right));
      if (right < box.right + 1) break;
      wide.style.fontSize = `${parseFloat(getComputedStyle(wide).fontSize) * 0.93}px`;
    }
  }
}"""
# What reaches beyond the right edge all the same. A formula may end in 2 pixels of nothing.
OUTSIDE = """() => [...document.querySelectorAll("main :not(.katex svg, .katex svg *)")]
  .filter((x) => x.getBoundingClientRect().right > document.documentElement.clientWidth + 3)
  .map((x) => x.closest("[id]").id)"""

FILL = """(numbers) => {
  for (const mark of document.querySelectorAll("[data-place]")) {
    mark.textContent = numbers[mark.dataset.place];
  }
}"""


def _number(place: str) -> str:
    """Return what holds the number of the page of `place`, for now one of three digits."""
    return f'<span data-place="{place}">100</span>'


def _place(chapter: paper.Chapter, fragment: str = "") -> str:
    return f"{chapter.name}--{fragment}" if fragment else chapter.name


def _for_paper(chapter: paper.Chapter) -> None:
    """Open the folds, lower the headings by one for the parts, and leave room for page numbers."""
    body = chapter.body
    for formula in body.select(".katex"):
        formula["role"], formula["aria-label"] = "img", said(str(formula.math))
        formula.select_one(".katex-mathml").decompose()
    for fold in body.find_all("details"):
        fold.name = "div"
        fold.summary.attrs = {"class": "fold-label"}
        fold.summary.name = "p"
    for listing in body.find_all("pre"):
        if listing.get_text().count("\n") > LONG:
            listing["class"] = "long"
    for level in (4, 3, 2, 1):
        for heading in body.find_all(f"h{level}"):
            heading.name = f"h{level + 1}"
    for element in [body, *body.select("[id]")]:
        element["id"] = _place(chapter, element["id"])
    for link in body.select("a[href^='#']"):
        place = link["href"][1:]
        if place.partition("--")[0] != chapter.name and not link.find_parent(
            class_="bibtex-citation"
        ):
            note = f'<span class="page-of"> (p. {_number(place)})</span>'
            link.insert_after(BeautifulSoup(note, "html.parser").span)
    for link in body.select("a[href^=http]"):
        if not link.get_text().startswith("http"):
            note = f'<span class="page-of"> ({html.escape(link["href"])})</span>'
            link.insert_after(BeautifulSoup(note, "html.parser").span)


def _styles(book: list[paper.Chapter], folder: Path, site: Path) -> str:
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    faces = [
        f'@font-face {{ font-family: "{family}"; font-weight: {weight}; font-style: {style}; '
        f'src: url("{(fonts / file).as_uri()}"); }}'
        for family, weight, style, file in (
            ("Text", 400, "normal", "STIXGeneral.ttf"),
            ("Text", 700, "normal", "STIXGeneralBol.ttf"),
            ("Text", 400, "italic", "STIXGeneralItalic.ttf"),
            ("Text", 700, "italic", "STIXGeneralBolIta.ttf"),
            ("Heads", 400, "normal", "DejaVuSans.ttf"),
            ("Heads", 700, "normal", "DejaVuSans-Bold.ttf"),
            ("Heads", 400, "italic", "DejaVuSans-Oblique.ttf"),
            ("Code", 400, "normal", "DejaVuSansMono.ttf"),
            ("Code", 700, "normal", "DejaVuSansMono-Bold.ttf"),
            ("Code", 400, "italic", "DejaVuSansMono-Oblique.ttf"),
        )
    ]
    running = [
        f"#{chapter.name} {{ page: c{n}; }} @page c{n} {{ @bottom-left {{ "
        f"content: {json.dumps(_running(chapter), ensure_ascii=False)}; }} }}"
        for n, chapter in enumerate(book)
    ]
    sheets = (site / "_static" / "katex" / "katex.min.css", site / "_static" / "pygments.css")
    links = [f'<link rel="stylesheet" href="{os.path.relpath(s, folder)}">' for s in sheets]
    own = (Path(__file__).parent / "pdf.css").read_text()
    return "".join(links) + "<style>" + "\n".join([*faces, own, *running]) + "</style>"


def _running(chapter: paper.Chapter) -> str:
    if chapter.title.startswith(chapter.part):  # as those of the exercises do
        return chapter.title
    return f"{chapter.part} · {chapter.title}"


def _title_page() -> str:
    title, _, rest = paper.TITLE.partition(", ")
    return (
        f'<section class="title-page"><div aria-hidden="true">{drawing()}</div>'
        f'<p class="title">{html.escape(title)}<br><span>{html.escape(rest)}</span></p>'
        f'<p class="author">{html.escape(paper.AUTHOR)}</p>'
        f'<p class="imprint">Version {paper.CITATION["version"]}. {paper.LICENSES}</p></section>'
    )


def _contents(book: list[paper.Chapter]) -> str:
    lines, part = [], ""
    for chapter in book:
        if chapter.part != part:
            part = chapter.part
            lines.append(f'<li class="part">{part}</li>')
        lines.append(
            f'<li><a href="#{chapter.name}"><span>{html.escape(chapter.title)}</span>'
            f"{_number(chapter.name)}</a></li>"
        )
    return (
        f'<section class="contents"><h1>Contents</h1><ul>{"".join(lines)}</ul>'
        '<p class="how">On paper nothing is folded. Where a page asks you to predict, or asks a '
        "question, cover what follows until your own answer is written down.</p></section>"
    )


def compose(site: Path, folder: Path) -> str:
    """Return the book built into `site` as one page for `folder`, numbers of pages to be filled.

    Raises:
        FileNotFoundError: a page was not built.
        ValueError: a link leads nowhere.
    """
    book = paper.chapters(site)
    paper.relink(book, lambda chapter, fragment: "#" + _place(chapter, fragment))
    paper.pictures(book, lambda file: os.path.relpath(file, folder))
    sections, part = [], ""
    for chapter in book:
        _for_paper(chapter)
        head = ""
        if chapter.part != part:
            part = chapter.part
            head = f'<h1 class="part">{part}</h1>'
        sections.append(
            f'<section class="chapter" id="{chapter.name}">{head}{chapter.body}</section>'
        )
    return (
        f'<!DOCTYPE html><html lang="{paper.LANGUAGE}" data-theme="light"><head>'
        f'<meta charset="utf-8"><title>{html.escape(paper.TITLE)}</title>'
        f"{_styles(book, folder, site)}</head><body>{_title_page()}{_contents(book)}"
        f"<main>{''.join(sections)}</main></body></html>"
    )


def numbers_of_pages(reader: PdfReader) -> dict[str, int]:
    """Return the number of the page, from 1, of every place that a link of the PDF leads to."""
    return {
        name.removeprefix("/"): reader.get_destination_page_number(place) + 1
        for name, place in reader.named_destinations.items()
    }


def write(site: Path = paper.SITE, file: Path = FILE) -> int:
    """Print the book built into `site` to `file` and return how many pages it has.

    Raises:
        FileNotFoundError: a page was not built, or there is no browser.
        ValueError: a link leads nowhere, or something is wider than a page.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".html")
    whole.write_text(compose(site, file.parent))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.emulate_media(media="print", color_scheme="light")
        page.goto(whole.as_uri(), timeout=120_000)
        page.evaluate(FIT)
        if outside := page.evaluate(OUTSIDE):
            raise ValueError(f"these reach beyond the edge of the page: {sorted(set(outside))}")
        printed = _settled(page)
        browser.close()
    whole.unlink()
    writer = PdfWriter(io.BytesIO(printed), incremental=True)
    writer.add_metadata(
        {
            "/Title": paper.TITLE,
            "/Author": paper.AUTHOR,
            "/Subject": paper.CITATION["abstract"].strip(),
            "/Keywords": ", ".join(paper.CITATION["keywords"]),
        }
    )
    writer.write(file)
    return len(writer.pages)


def _settled(page: Page) -> bytes:
    """Return `page` printed with the numbers that its pages have when it is printed so."""
    paper_size = {"prefer_css_page_size": True, "print_background": True}
    printed = page.pdf(**paper_size)
    for _ in range(4):
        numbers = numbers_of_pages(PdfReader(io.BytesIO(printed)))
        page.evaluate(FILL, numbers)
        printed = page.pdf(**paper_size, outline=True, tagged=True)
        if numbers_of_pages(PdfReader(io.BytesIO(printed))) == numbers:
            return printed
    raise ValueError("the numbers of the pages move what they count")


if __name__ == "__main__":
    print(f"{FILE.relative_to(paper.ROOT)}: {write()} pages")
