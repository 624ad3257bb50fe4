"""Every page of the built book, opened in a real browser. Run by `make browser-test`."""

import functools
import gzip
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from conftest import SITE
from execute import ROOT, pages
from playwright.sync_api import expect

CHAPTERS = [path.relative_to(ROOT).with_suffix(".html").as_posix() for path in pages()]
OTHERS = ["search.html", "genindex.html"]  # index.html leads on: see below
HEAVIEST = 300_000  # bytes, compressed
PHONE = {"width": 375, "height": 812}


AXE = (ROOT / "tests/browser/node_modules/axe-core/axe.min.js").read_text()
# WCAG 2.2 AA, and what axe holds to be good besides. A formula's parts are hidden from screen
# readers, which read its MathML, and they are most of a page.
RULES = {
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "dark": ["color-contrast", "link-in-text-block"],  # all that depends on colors
}


def too_wide(page):
    """What is wider than a phone."""
    if page.evaluate("document.scrollingElement.scrollWidth") > PHONE["width"]:
        yield page.evaluate(
            """[...document.querySelectorAll("main *")]
                .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
                .slice(0, 5).map(e => e.outerHTML.slice(0, 120))"""
        )


def raw_formulas(page):
    """Formulas that are not typeset."""
    if page.locator(".katex-error").count():
        yield "a formula with an error"
    text = page.evaluate(
        """(() => {
            const copy = document.querySelector("article")?.cloneNode(true);
            copy?.querySelectorAll("pre, code, textarea, .katex").forEach(e => e.remove());
            return copy?.textContent ?? "";
        })()"""
    )
    yield from re.findall(r"\$[^$\n]{1,80}\$|\\[(\[a-zA-Z]\w*|\{cite", text)
    if page.locator(".math").count() != page.locator(".math .katex-html").count():
        yield "a formula without its picture"


def torn_signs(page):
    """Lines that begin with the sign after a formula of one piece."""
    yield from page.evaluate(
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


def missing_icons(page):
    """Icons that are not drawn."""
    yield from page.evaluate(
        """[...document.querySelectorAll('i[class*="fa-"], span[class*="fa-"]')]
            .filter(e => !getComputedStyle(e).maskImage.startsWith("url"))
            .map(e => e.className)"""
    )


def undescribed_pictures(page):
    """Visible pictures without a text, and figures without a caption."""
    for image in page.locator("img:visible").all():
        if not image.get_attribute("alt"):
            yield image.get_attribute("src")
    for caption in page.locator("figure.picture figcaption").all():
        if not caption.inner_text().strip():
            yield "an empty caption"


def pictures_of_the_other_theme(page):
    """Figures that do not show the picture of the page's theme, and that alone."""
    theme = page.evaluate("document.documentElement.dataset.theme")
    other = {"light": "dark", "dark": "light"}[theme]
    for picture in page.locator("figure.picture").all():
        shown, hidden = (picture.locator(f".picture-{name}") for name in (theme, other))
        if not shown.is_visible() or hidden.is_visible():
            yield f"{theme}: {shown.get_attribute('src')}"
        # One that is far away is loaded when the reader comes near.
        elif not shown.evaluate(
            "image => (image.loading = 'eager', image.decode().then(() => true))"
        ):
            yield f"not loaded: {shown.get_attribute('src')}"


@functools.cache
def compressed(path):
    """Return the size of a file of the book as a server sends it."""
    return len(gzip.compress((SITE / path).read_bytes()))


def heaviness(page):
    """What a page loads, where it is more than a reader on a slow line should wait for."""
    urls = page.evaluate(
        "[location.href, ...performance.getEntriesByType('resource').map(entry => entry.name)]"
    )
    paths = {unquote(urlsplit(url).path).lstrip("/") for url in urls if url.startswith("http")}
    weight = sum(map(compressed, paths))
    if weight > HEAVIEST:
        yield f"{weight} bytes in {len(paths)} files"


def barriers(page):
    """What axe finds."""
    theme = page.evaluate("document.documentElement.dataset.theme")
    # The letters of an editor are clear: what is seen are those of the code behind it.
    left_out = "exclude: ['.katex-html', '.live-code']"
    run = f"(rules) => axe.run({{{left_out}}}, {{runOnly: rules}})"
    for violation in page.evaluate(run, RULES[theme])["violations"]:
        nodes = [(node["html"][:200], node["failureSummary"]) for node in violation["nodes"][:3]]
        yield f"{violation['id']}: {violation['help']}: {nodes}"


@pytest.mark.parametrize("path", CHAPTERS + OTHERS)
def test_page(visit, path):
    """Everything that holds of every page, at the width of a phone and in both themes."""
    page = visit(path, **PHONE)
    page.wait_for_load_state("networkidle")
    found = [(heaviness.__doc__, problem) for problem in heaviness(page)]
    # What is folded is part of the page: an answer, or a cell.
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    # So is what is laid out only when the reader comes near.
    page.add_style_tag(content="* { content-visibility: visible !important }")
    for check in (too_wide, raw_formulas, torn_signs, missing_icons, undescribed_pictures):
        found += [(check.__doc__, problem) for problem in check(page)]
    page.evaluate(AXE)
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        for check in (pictures_of_the_other_theme, barriers):
            found += [(f"{check.__doc__} ({theme})", problem) for problem in check(page)]
    assert found == []


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
    page.add_style_tag(content="* { content-visibility: visible !important }")
    names = page.locator("details.above-input > summary").all_inner_texts()
    assert names[:2] == ["Show imports", "Show more imports"]
    assert set(names[2:]) == {"Show code"}
    for summary in page.locator("details > summary").all():
        assert summary.get_attribute("aria-label") is None
        assert summary.inner_text().strip()


def test_choices_that_are_formulas_have_names_of_their_own(visit):
    page = visit("book/outlook/costs.html")
    choices = page.locator("details.choice > summary")
    expect(choices.nth(0)).to_have_accessible_name("In all 2 n d")
    names = choices.evaluate_all("all => all.map(e => e.textContent)")
    assert len(names) == len(set(names))


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
