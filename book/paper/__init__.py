"""The book as one PDF and one EPUB, made of the built pages: `make pdf` and `make epub`.

This module reads the pages as chapters and takes off what only a screen can do: buttons, dark
pictures, links to headings. What a page folds is marked, and each of the two opens or folds it as
it can.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
SETTINGS = yaml.safe_load((ROOT / "_config.yml").read_text())
TITLE, AUTHOR = SETTINGS["title"], SETTINGS["author"]
LANGUAGE = SETTINGS["sphinx"]["config"]["language"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
LICENSES = "Text and figures under CC BY 4.0, code under the MIT license."
# What a screen alone can do.
ON_SCREEN = (
    ".headerlink, .live-bar, .picture-dark, .widget-controls, .toctree-wrapper, script, "
    ".sd-summary-state-marker"
)
# Of a program's parts, tens of thousands, those that need no color of their own: names, numbers,
# signs and spaces.
PLAIN = ".highlight :is(.n, .nn, .nb, .p, .w, .o, .mi, .mf), code > .pre"
# What a fold is called, by what it says on the screen.
FOLDS = {
    "Show code": "Code",
    "Show imports": "Code",
    "Show more imports": "Code",
    "Show output": "Result",
}


@dataclass
class Chapter:
    """A page of the book: its part, the name that links use, its title and what it holds."""

    part: str
    name: str
    title: str
    page: Path
    body: Tag


def chapters(site: Path = SITE) -> list[Chapter]:
    """Return the pages of the book that was built into `site`, in their order.

    Raises:
        FileNotFoundError: a page was not built.
        ValueError: a page folds something under a label that has no form for paper.
    """
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [("", toc["root"])]
    for part in toc["parts"]:
        listed += [(part["caption"], chapter["file"]) for chapter in part["chapters"]]
    return [_chapter(part, file, (site / file).with_suffix(".html")) for part, file in listed]


def _chapter(part: str, file: str, page: Path) -> Chapter:
    body = BeautifulSoup(page.read_text(), "html.parser").select_one("article.bd-article > section")
    for element in body.select(ON_SCREEN):
        element.decompose()
    del body["class"]
    for sign in body.find_all(["mi", "mo", "mn", "mtext"]):
        if sign.find(True):  # a formula in the place of a sign: MathML has no such thing
            sign.name = "mrow"
    for svg in body.find_all("svg"):  # the parser writes every name in small letters
        svg["viewBox"] = svg.attrs.pop("viewbox")
    for picture in body.find_all("img"):
        del picture["loading"]
    for plain in body.select(PLAIN):
        plain.unwrap()
    for fold in body.find_all("details"):
        _label(fold, page)
    heading = body.find("h1")
    if not part:  # the title of the book stands on its cover
        heading.string = "Introduction"
    name = file.removeprefix("book/").replace("/", "-")
    return Chapter(part, name, heading.get_text(), page, body)


def _label(fold: Tag, page: Path) -> None:
    """Give `fold` a label that says what it holds, and a class that says of which kind it is."""
    summary = fold.summary
    says = next(summary.stripped_strings)
    if "hide" in fold["class"]:  # of a cell: the label is the theme's
        if says not in FOLDS:
            raise ValueError(f"{page.name} folds {says!r}, which has no label for paper")
        says = FOLDS[says]
        summary.string = says
    else:
        label = summary.select_one(".sd-summary-text").extract()
        summary.clear()
        summary.extend(label.contents[:])
    kind = "choice" if "choice" in fold["class"] else says.split()[0].lower()
    summary.attrs, fold.attrs = {}, {"class": f"fold fold-{kind}"}


def relink(book: list[Chapter], to: Callable[[Chapter, str], str]) -> None:
    """Give each link of `book` to a place in it the address `to(chapter, fragment)`.

    Raises:
        ValueError: a link leads to no chapter of the book, or to no place in it.
    """
    places = {chapter.page: chapter for chapter in book}
    known = {chapter.name: {x["id"] for x in chapter.body.select("[id]")} for chapter in book}
    for chapter in book:
        known[chapter.name].add(chapter.body["id"])
    for chapter in book:
        for link in chapter.body.select("a[href]"):
            address = urlsplit(link["href"])
            if address.scheme:
                continue
            path = chapter.page
            if address.path:
                path = Path(os.path.normpath(chapter.page.parent / unquote(address.path)))
            target, fragment = places.get(path), unquote(address.fragment)
            if target is None or (fragment and fragment not in known[target.name]):
                raise ValueError(f"{chapter.page.name} links to {link['href']}, which is not there")
            link["href"] = to(target, fragment)


def pictures(book: list[Chapter], to: Callable[[Path], str]) -> None:
    """Give each picture of `book` the address `to(file)`."""
    for chapter in book:
        for picture in chapter.body.find_all("img"):
            picture["src"] = to((chapter.page.parent / unquote(picture["src"])).resolve())
