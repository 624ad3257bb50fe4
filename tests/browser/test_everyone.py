"""For everyone: by keyboard alone, at double size, in a narrow window, and without motion."""

import re

import pytest
from playwright.sync_api import expect

# A chapter with a figure, guesses, questions and cells that run; one with wide formulas and tables;
# an exercise; the first page.
PAGES = [
    "book/index.html",
    "book/concepts/softmax.html",
    "book/algorithm/masks.html",
    "book/exercises/softmax.html",
    "book/appendix/conventions.html",
]
# What the keyboard must reach, in the order of the page, by what is open and can be seen.
STOPS = """
() => {
    const kinds = "a[href], button, input, select, textarea, summary, [tabindex]";
    return [...document.querySelectorAll(kinds)].filter((e) =>
        e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true })
        && e.getClientRects().length && !e.closest("[inert], dialog:not([open])"));
}
"""
# Where the focus is: its number among the stops, whether a mark shows it, and what hides it.
FOCUS = """
() => {
    const element = document.activeElement, style = getComputedStyle(element);
    const box = element.getClientRects()[0];
    const x = Math.min(Math.max(box.left + box.width / 2, 1), innerWidth - 2);
    const y = Math.min(Math.max(box.top + box.height / 2, box.top), box.bottom - 1);
    const top = document.elementFromPoint(x, y);
    return {
        number: window.stops.indexOf(element),
        html: element.outerHTML.slice(0, 120),
        marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1
            || style.boxShadow !== "none",
        seen: !!top && (element.contains(top) || top.contains(element)
            || !!top.closest("label")?.contains(element) || !!element.matches(".live-code")),
    };
}
"""


@pytest.mark.parametrize("path", PAGES)
def test_the_keyboard_reaches_everything_in_order(visit, path):
    page = visit(path)
    page.emulate_media(reduced_motion="reduce")  # so that what moves into sight is there at once
    count = page.evaluate(f"(window.stops = ({STOPS})()).length")
    assert count > 20
    page.evaluate("document.activeElement.blur()")
    reached, problems = [], []
    while len(reached) < count and len(problems) < 9:
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if focus["number"] >= 0:  # else it came with the way: a heading's own list of contents
            reached.append(focus["number"])
        if not (focus["marked"] and focus["seen"]):
            problems.append(focus)
    assert problems == []
    assert reached == list(range(count))


@pytest.mark.parametrize("path", PAGES)
def test_double_letters_lose_nothing(visit, path):
    page = visit(path)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true })")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 1280
    cut = page.evaluate(
        """[...document.querySelectorAll("main :is(p, li, summary, label, button, h1, h2, h3)")]
            .filter(e => e.checkVisibility() && getComputedStyle(e).overflow !== "visible"
                && e.scrollHeight > e.clientHeight + 2 && e.clientHeight)
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert cut == []


@pytest.mark.parametrize("path", PAGES)
def test_who_asks_for_no_motion_sees_none(visit, path):
    page = visit(path)
    moving = """
        [...document.querySelectorAll("*")].flatMap((e) => ["", "::before", "::after"].map(
        (part) => {
            const style = getComputedStyle(e, part || null);
            const longest = Math.max(
                ...`${style.transitionDuration},${style.animationDuration}`
                    .split(",").map(parseFloat));
            return longest > 0.001 || style.scrollBehavior === "smooth" ? e.tagName + part : "";
        })).filter(Boolean)"""
    assert page.evaluate(moving) != []  # the theme moves: the check below can fail
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == []


def test_editors_say_whose_code_they_hold(visit):
    page = visit("book/exercises/softmax.html")
    for number, editor in enumerate(page.locator(".live-code").all(), 1):
        expect(editor).to_have_accessible_name(f"Code of cell {number}")


def test_a_fold_is_worked_by_keyboard(visit):
    page = visit("book/concepts/softmax.html")
    choice = page.locator("details.choice").first
    choice.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(choice.locator(".sd-summary-content")).to_be_visible()
    page.keyboard.press("Enter")
    expect(choice.locator(".sd-summary-content")).to_be_hidden()


def test_the_first_stop_leads_past_the_menus(visit):
    page = visit("book/algorithm/masks.html")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to main content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("!!document.activeElement.closest('main')")


def status(page):
    return page.locator("main > [role=status]")


def test_what_happens_is_said_and_the_focus_stays(visit):
    page = visit("book/algorithm/masks.html")
    for name, said in (
        ("Copy cell 2", "Copied"),
        (re.compile("Color mode"), r"Color mode: \w+"),
        ("Toggle primary sidebar", "Contents hidden"),
        ("Toggle primary sidebar", "Contents shown"),
    ):
        button = page.get_by_role("button", name=name, exact=True).filter(visible=True)
        button.focus()
        page.keyboard.press("Enter")
        expect(status(page)).to_have_text(re.compile(f"^{said}$"))
        expect(button).to_be_focused()


def test_a_search_says_what_it_found(visit):
    page = visit("search.html?q=temperature")
    expect(status(page)).to_contain_text(re.compile(r"found \d+ page"))
    excerpts = page.locator("#search-results .context").all_inner_texts()
    assert len(excerpts) > 5
    assert not any(".ipynb" in each or "RunStop" in each for each in excerpts)


def test_search_gives_the_focus_back(visit):
    page = visit("book/algorithm/masks.html")
    page.get_by_role("button", name="Toggle primary sidebar").filter(visible=True).click()
    page.get_by_role("button", name="Run cell 2").focus()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("dialog", name="Search")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Run cell 2")).to_be_focused()


def test_questions_and_outputs_have_names(visit):
    page = visit("book/algorithm/masks.html")
    group = page.get_by_role("group", name="Choices of question 3")
    assert group.locator("details.choice").count() in (3, 4)
    expect(page.get_by_role("group", name="Output of cell 2")).to_be_visible()
    names = page.locator(".copybtn").evaluate_all("all => all.map(e => e.ariaLabel)")
    assert len(set(names)) == len(names) > 10
    expect(page.locator("article table").last.locator("tbody th").first).to_be_attached()
    guess = page.get_by_role("form", name="Prediction 1").get_by_label("Your guess")
    expect(guess).to_have_accessible_description(re.compile(r"^Predict\."))
    here = page.locator(".bd-links [aria-current=page]")
    expect(here).to_have_text("Masks")
