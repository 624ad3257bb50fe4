"""Every page of the built book, opened in a real browser. Run by `make browser-test`."""

import gzip
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import pytest
from conftest import SITE
from execute import ROOT, pages

CHAPTERS = [path.relative_to(ROOT).with_suffix(".html").as_posix() for path in pages()]
OTHERS = ["search.html", "genindex.html"]  # index.html leads on: see below
PHONE = {"width": 375, "height": 812}


@pytest.mark.parametrize("path", CHAPTERS + OTHERS)
def test_page_opens_and_fits_a_phone(visit, path):
    page = visit(path, **PHONE)
    page.wait_for_load_state("networkidle")
    width = page.evaluate("document.scrollingElement.scrollWidth")
    wide = page.evaluate(
        """[...document.querySelectorAll("main *")]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
            .slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""
    )
    assert width <= PHONE["width"], f"{path} is {width} pixels wide: {wide}"


@pytest.mark.parametrize("path", CHAPTERS)
def test_formulas_are_typeset(visit, path):
    page = visit(path)
    assert page.locator(".katex-error").count() == 0
    text = page.evaluate(
        """(() => {
            const copy = document.querySelector("article").cloneNode(true);
            copy.querySelectorAll("pre, code, .katex").forEach(e => e.remove());
            return copy.textContent;
        })()"""
    )
    raw = re.findall(r"\$[^$\n]{1,80}\$|\\[(\[a-zA-Z]\w*|\{cite", text)
    assert raw == []
    formulas = page.locator(".math").count()
    assert formulas == page.locator(".math .katex-html").count()


@pytest.mark.parametrize("path", CHAPTERS)
def test_no_line_begins_with_the_sign_after_a_formula_of_one_piece(visit, path):
    page = visit(path, **PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    torn = page.evaluate(
        """[...document.querySelectorAll(".katex")].filter(formula => {
            const after = document.createRange(), next = formula.parentElement.nextSibling;
            const bases = formula.querySelectorAll(".base");
            if (next?.nodeType !== Node.TEXT_NODE || bases.length > 1) return false;
            if (!/^[.,;:!?)]/.test(next.textContent)) return false;
            after.setStart(next, 0);
            after.setEnd(next, 1);
            return after.getBoundingClientRect().left < bases[0].getBoundingClientRect().left;
        }).map(formula => formula.textContent)"""
    )
    assert torn == []


@pytest.mark.parametrize("path", CHAPTERS)
def test_pictures_are_described_and_follow_the_theme(visit, path):
    page = visit(path)
    # A picture may be the folded answer to a question.
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    for image in page.locator("img:visible").all():
        assert image.get_attribute("alt")
    pictures = page.locator("figure.picture").all()
    for picture in pictures:
        assert picture.locator("figcaption").inner_text().strip()
    for theme, other in (("light", "dark"), ("dark", "light")):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for picture in pictures:
            shown, hidden = (picture.locator(f".picture-{name}") for name in (theme, other))
            assert shown.is_visible()
            assert not hidden.is_visible()
            assert shown.evaluate("async (image) => (await image.decode(), image.naturalWidth)")


@pytest.mark.parametrize("path", CHAPTERS)
def test_icons_are_drawn(visit, path):
    page = visit(path)
    missing = page.evaluate(
        """[...document.querySelectorAll('i[class*="fa-"], span[class*="fa-"]')]
            .filter(e => !getComputedStyle(e).maskImage.startsWith("url"))
            .map(e => e.className)"""
    )
    assert missing == []


def test_first_page_is_light(browser, site):
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    bodies = {}
    page.on("response", lambda response: bodies.setdefault(response.url, response.body()))
    page.goto(f"{site}/book/index.html", wait_until="networkidle")
    weight = sum(len(gzip.compress(body)) for body in bodies.values())
    context.close()
    assert weight < 700_000, f"{weight} bytes in {len(bodies)} files"
    print(f"the first page weighs {weight} bytes compressed, in {len(bodies)} files")


def test_root_leads_to_the_first_page(visit):
    page = visit("index.html")
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").count() == 1


def test_search_finds_a_chapter(visit):
    page = visit("search.html?q=softmax")
    # The results appear one after the other.
    page.locator("#search-results li a", has_text="weight for everything").first.wait_for()


def test_folded_answer_opens_by_keyboard(visit):
    page = visit("book/concepts/softmax.html")
    fold = page.locator("details").first
    fold.locator("summary").focus()
    before = fold.evaluate("(d) => d.open")
    page.keyboard.press("Enter")
    assert fold.evaluate("(d) => d.open") != before


def test_folds_are_named_by_what_they_show(visit):
    page = visit("book/concepts/softmax.html")
    for summary in page.locator("details > summary").all():
        assert summary.get_attribute("aria-label") is None
        assert summary.inner_text().strip()


def test_contents_close_and_give_the_focus_back(visit):
    page = visit("book/concepts/softmax.html", **PHONE)
    for name in ("primary", "secondary"):
        toggle = page.locator(f"button.{name}-toggle:visible").first
        dialog = page.locator(f"#pst-{name}-sidebar-modal")
        toggle.click()
        assert dialog.is_visible()
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        page.wait_for_function(f"document.activeElement.matches('.{name}-toggle')")
    toggle.click()
    dialog.locator('a[href^="#"]').last.click()
    dialog.wait_for(state="hidden")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paper_is_light(visit, scheme):
    page = visit("book/algorithm/masks.html", scheme=scheme)
    page.emulate_media(media="print")
    picture = page.locator("figure.picture").first
    assert picture.locator(".picture-light").is_visible()
    assert not picture.locator(".picture-dark").is_visible()
    color = "(element) => getComputedStyle(element).color"
    for element in ("article p", "article h1", ".highlight pre"):
        channels = page.locator(element).first.evaluate(color)
        assert max(int(number) for number in re.findall(r"\d+", channels)[:3]) < 128, element


class Links(HTMLParser):
    """Collects the targets of links and the ids that links can point to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if attributes.get("id"):
            self.ids.add(attributes["id"])
        for name in ("href", "src"):
            if attributes.get(name):
                self.targets.append(attributes[name])


def test_internal_links_resolve():
    parsed = {
        path: Links(path.read_text())
        for path in SITE.rglob("*.html")
        if "_static" not in path.parts
    }
    broken = []
    for path, page in parsed.items():
        for target in page.targets:
            if re.match(r"[a-z]+:|//", target):
                continue
            file, anchor = urldefrag(target)
            file = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            if not file.exists():
                broken.append(f"{path.name} -> {target}")
            elif anchor and file in parsed and unquote(anchor) not in parsed[file].ids:
                broken.append(f"{path.name} -> {target} (no such place)")
    assert broken == []
