"""The PDF and the EPUB that `make pdf` and `make epub` wrote."""

import html
import posixpath
import re
import xml.etree.ElementTree as ET
import zipfile
from urllib.parse import unquote

import pypdfium2
import pytest
import yaml
from _extension.spoken import said
from bs4 import BeautifulSoup
from execute import pages
from paper import ROOT, SITE, TITLE, Chapter, epub, pdf, relink
from paper.browser import find_browser
from pypdf import PdfReader

RAW = re.compile(r"\$|\\frac|\\[a-z]+\{|\{(cite|doc|ref)|:::|```|<(span|div|code|img)\b")
HTML, MATH = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/1998/Math/MathML}"
OPS = "{http://www.idpf.org/2007/ops}"


def built():
    """Yield the name that links use, the title and the HTML of every page of the book."""
    for number, path in enumerate(pages()):
        name = path.relative_to(ROOT / "book").with_suffix("")
        page = (SITE / "book" / name).with_suffix(".html").read_text()
        title = re.search(r"<h1>(.*?)<a class=\"headerlink", page)[1]
        title = html.unescape(re.sub(r"<.*?>", "", title)) if number else "Introduction"
        yield str(name).replace("/", "-"), title, page


@pytest.fixture(scope="session")
def printed():
    """The PDF, opened."""
    if not pdf.FILE.exists():
        pytest.fail("there is no PDF: run `make pdf` first", pytrace=False)
    with pypdfium2.PdfDocument(pdf.FILE) as document:
        yield document


@pytest.fixture(scope="session")
def words(printed):
    """What stands on each page of the PDF."""
    return [" ".join(page.get_textpage().get_text_range().split()) for page in printed]


@pytest.fixture(scope="session")
def inside():
    """The files of the EPUB."""
    if not epub.FILE.exists():
        pytest.fail("there is no EPUB: run `make epub` first", pytrace=False)
    with zipfile.ZipFile(epub.FILE) as archive:
        assert archive.namelist()[0] == "mimetype"
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def documents(inside):
    """The pages of the EPUB, parsed, by their paths."""
    return {name: ET.fromstring(x) for name, x in inside.items() if name.endswith(".xhtml")}


def test_the_contents_name_every_chapter_and_its_page(words):
    sheets = PdfReader(pdf.FILE).pages[1:3]
    contents = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
    for _, title, _ in built():
        listed = re.search(rf"{re.escape(title)} (\d+)(?= |$)", contents)
        assert listed, f"{title} is not in the contents"
        assert title in words[int(listed[1]) - 1][:200], f"{title} is not on page {listed[1]}"


def test_a_reference_to_a_page_names_the_page_that_its_link_leads_to():
    reader = PdfReader(pdf.FILE)
    numbers = pdf.numbers_of_pages(reader)
    assert set(numbers) >= {name for name, _, _ in built()}
    softmax = numbers["concepts-softmax"]
    told = reader.pages[numbers["index"] - 1]
    assert f"A weight for everything (p. {softmax})" in " ".join(told.extract_text().split())


def test_pages_are_numbered_and_hold_no_raw_markup(words):
    for number, text in enumerate(words[1:], 2):
        assert re.search(rf"(^| ){number}( |$)", text[:120] + " " + text[-120:]), number
        assert len(text) > 60, f"page {number} is blank"
        raw = RAW.search(text)
        assert raw is None, f"page {number}: {text[raw.start() - 40 : raw.end() + 40]}"


def test_margins_are_white(printed):
    for number, page in enumerate(printed, 1):
        picture = page.render(scale=0.5, grayscale=True).to_numpy().reshape(421, -1)[:, :298]
        assert picture.min() < 128, f"page {number} is blank"
        assert picture[:, :24].min() > 250, f"page {number} is cut at the left"
        assert picture[:, -24:].min() > 250, f"page {number} is cut at the right"


def test_formulas_are_printed_where_the_book_has_them():
    reader = PdfReader(pdf.FILE)
    numbers = pdf.numbers_of_pages(reader)
    names = [(name, page) for name, _, page in built()]
    ends = [numbers[name] - 1 for name, _ in names[1:]] + [len(reader.pages)]
    for (name, page), end in zip(names, ends, strict=True):
        fonts = {
            str(font.get_object()["/BaseFont"])
            for sheet in reader.pages[numbers[name] - 1 : end]
            for font in sheet["/Resources"].get("/Font", {}).values()
        }
        assert any("KaTeX" in font for font in fonts) is ('class="katex"' in page), name


def test_the_pdf_says_what_it_is():
    reader = PdfReader(pdf.FILE)
    assert reader.metadata.title == TITLE
    assert reader.metadata.author
    assert reader.root_object["/Lang"] == "en"
    assert reader.root_object["/MarkInfo"]["/Marked"]
    assert [part.title for part in reader.outline if not isinstance(part, list)][-8:] == parts()


def parts():
    """Return the parts of the book."""
    return [part["caption"] for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]]


def test_epubcheck_finds_nothing():
    assert epub.complaints(epub.FILE) == []


def test_epubcheck_finds_what_is_wrong(inside, tmp_path):
    broken = tmp_path / "broken.epub"
    with zipfile.ZipFile(broken, "w") as archive:
        for name, data in inside.items():
            if name != "EPUB/cover.png":
                archive.writestr(name, data)
    assert "cover.png" in " ".join(epub.complaints(broken))


def test_links_of_the_epub_lead_somewhere(documents):
    places = {name: {x.get("id") for x in page.iter()} for name, page in documents.items()}
    for name, page in documents.items():
        for link in page.iter(f"{HTML}a"):
            address = link.get("href")
            if address.startswith("http"):
                continue
            path, _, fragment = address.partition("#")
            target = posixpath.join("EPUB", path) if path else name
            assert target in places, f"{name}: {address}"
            assert not fragment or unquote(fragment) in places[target], f"{name}: {address}"


def test_pictures_and_formulas_of_the_epub_are_said(documents, inside):
    for name, title, page in built():
        document = documents[f"EPUB/{name}.xhtml"]
        pictures = list(document.iter(f"{HTML}img"))
        assert len(pictures) == page.count('class="picture-light"'), title
        for picture in pictures:
            assert len(picture.get("alt")) > 20
            assert f"EPUB/{picture.get('src')}" in inside
        formulas = list(document.iter(f"{MATH}math"))
        assert len(formulas) == page.count('class="katex"'), title
        assert all(formula.get("alttext").strip() for formula in formulas), title
        assert not list(document.iter(f"{MATH}annotation"))


def test_the_epub_holds_no_raw_markup_and_no_script(documents):
    for name, page in documents.items():
        text = " ".join("".join(page.itertext()).split())
        alts = " ".join(x.get("alt") or x.get("alttext") or "" for x in page.iter())
        raw = RAW.search(text + alts)
        assert raw is None, f"{name}: {raw}"
        for element in ("script", "button", "form"):
            assert not list(page.iter(HTML + element)), name
        assert page.get("lang") == "en"


def test_the_contents_of_the_epub_are_the_books(documents):
    toc = next(documents["EPUB/contents.xhtml"].iter(f"{HTML}nav"))
    assert toc.get(f"{OPS}type") == "toc"
    assert [x.text for x in toc.iter(f"{HTML}span")] == parts()
    listed = [(x.get("href"), x.text) for x in toc.iter(f"{HTML}a")]
    assert listed == [(f"{name}.xhtml", title) for name, title, _ in built()]


@pytest.mark.parametrize("folded", ["Answer", "Result", "Code", "Hint 1"])
def test_folds_of_the_epub_say_what_they_hold(documents, folded):
    folds = [x for page in documents.values() for x in page.iter(f"{HTML}summary")]
    labels = {"".join(fold.itertext()).strip() for fold in folds}
    assert folded in labels
    assert not [label for label in labels if label.startswith(("Show", "Hide"))]


@pytest.mark.parametrize(
    ("formula", "line"),
    [
        ("<mfrac><mn>1</mn><mrow><mi>n</mi><mo>+</mo><mn>1</mn></mrow></mfrac>", "1 / (n + 1)"),
        ("<msup><mi>e</mi><mrow><mo>−</mo><mn>2</mn></mrow></msup>", "e^(− 2)"),
        ("<msub><mi>q</mi><mi>i</mi></msub><msqrt><mi>d</mi></msqrt>", "q_i √(d)"),
        ("<munderover><mo>∑</mo><mi>j</mi><mi>n</mi></munderover>", "∑_j^n"),
    ],
)
def test_a_formula_is_said_in_order(formula, line):
    math = BeautifulSoup(f"<math><semantics>{formula}</semantics></math>", "html.parser").math
    assert said(str(math)) == line


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    for address in ("other.html", "#missing"):
        page = f'<section id="here"><a href="{address}">there</a></section>'
        body = BeautifulSoup(page, "html.parser").section
        chapter = Chapter("", "here", "Here", tmp_path / "here.html", body)
        with pytest.raises(ValueError, match="links to"):
            relink([chapter], lambda chapter, fragment: fragment)


def test_without_a_browser_the_pdf_says_what_to_install(monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="install one of chromium"):
        find_browser()
