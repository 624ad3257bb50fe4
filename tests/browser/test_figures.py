"""Figures that answer, in a real browser: what the page shows is what Python computes."""

import pytest
from conftest import SITE
from playwright.sync_api import expect
from widget_states import PAGES, states, values

from attn_course import widgets

NAMES = list(PAGES)
# Puts a figure into each of the states through its controls, and returns where it then differs
# from what Python made of that state: the sentence, or the view, compared node by node. Timers
# are called at once, so that no sentence has to be waited for.
COMPARE = """
([name, cases]) => {
    const root = document.querySelector(`[data-widget="${name}"]`), wrong = [];
    const set = {
        slider: (element, value, all) => { element.value = all.indexOf(value); },
        choice: (element, value, all) => { element.selectedIndex = all.indexOf(value); },
        switch: (element, value) => { element.checked = value; },
    };
    const waits = window.setTimeout;
    window.setTimeout = (act) => act();
    for (const { moves, view, says } of cases) {
        moves.forEach(({ kind, value, all }, n) => {
            const element = root.querySelectorAll("input, select")[n];
            set[kind](element, value, all);
            element.dispatchEvent(new Event(kind === "slider" ? "input" : "change"));
        });
        const expected = document.createElement("div");
        expected.className = "widget-view";
        expected.innerHTML = view;
        const shown = root.querySelector(".widget-view");
        const said = root.querySelector(".widget-says").textContent;
        if (said !== says) wrong.push([said, says]);
        if (!shown.isEqualNode(expected)) wrong.push([shown.innerHTML, expected.innerHTML]);
    }
    window.setTimeout = waits;
    return wrong;
}
"""


def inputs(figure):
    """Return the controls of a figure that hold a value, by the names of what they hold."""
    return {
        name: control
        for name, control in figure.controls.items()
        if not isinstance(control, widgets.Button)
    }


def given(widget):
    """Return the figure that Python makes of the state that a page's figure starts in."""
    name, state = widget.evaluate("(e) => [e.dataset.widget, JSON.parse(e.dataset.state)]")
    return getattr(widgets, name)(**state)


def differs(page, figure):
    """Wait for the sentence of `figure`; return what else the page shows in another way."""
    says = page.locator(f'[data-widget="{figure.name}"] .widget-says')
    expect(says).to_have_text(figure.says)
    case = {"moves": [], "view": figure.view, "says": figure.says}
    return page.evaluate(COMPARE, [figure.name, [case]])


@pytest.mark.parametrize("name", NAMES)
def test_page_and_python_agree_in_every_state(visit, name):
    page = visit(f"{PAGES[name]}.html")
    cases = []
    for state in states(name, 400):
        figure = getattr(widgets, name)(**state)
        moves = [
            {"kind": type(control).__name__.lower(), "value": state[key], "all": values(control)}
            for key, control in inputs(figure).items()
        ]
        cases.append({"moves": moves, "view": figure.view, "says": figure.says})
    assert page.evaluate(COMPARE, [name, cases]) == []
    # The comparison itself can fail.
    cases[0]["says"], cases[0]["view"] = "Something else.", "<table></table>"
    assert len(page.evaluate(COMPARE, [name, cases[:1]])) == 2


@pytest.mark.parametrize("name", NAMES)
def test_by_keyboard_alone(visit, name):
    page = visit(f"{PAGES[name]}.html")
    widget = page.locator(f'[data-widget="{name}"]')
    figure = start = given(widget)
    assert differs(page, figure) == []
    widget.locator("input, select, button").first.focus()
    for n, (key, control) in enumerate(figure.controls.items()):
        if n:
            page.keyboard.press("Tab")
        focused = page.locator(":focus")
        expect(focused).to_have_accessible_name(control.label)
        assert focused.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid"
        if isinstance(control, widgets.Button):
            keys, key = ["Enter"], control.to
            most = max(values(figure.controls[key]))
            now, more = figure.state[key], figure.state[control.by]
            expected = [0 if now == most else min(now + more, most)]
        else:
            all_, now = values(control), figure.state[key]
            at = all_.index(now)
            keys, expected = {
                widgets.Switch: (["Space"], [not now]),
                widgets.Choice: (["ArrowDown"], [all_[min(at + 1, len(all_) - 1)]]),
                widgets.Slider: (
                    ["Home", "ArrowRight", "End", "ArrowLeft"],
                    [all_[0], all_[1], all_[-1], all_[-2]],
                ),
            }[type(control)]
        for press, value in zip(keys, expected, strict=True):
            page.keyboard.press(press)
            figure = getattr(widgets, name)(**{**figure.state, key: value})
            assert differs(page, figure) == [], (key, press)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_accessible_name("Reset")
    page.keyboard.press("Enter")
    assert differs(page, start) == []
    page.keyboard.press("Tab")  # and out again
    assert page.evaluate("!document.activeElement.closest('.widget')")


@pytest.mark.parametrize("name", NAMES)
def test_a_slider_tells_its_value(visit, name):
    page = visit(f"{PAGES[name]}.html")
    widget = page.locator(f'[data-widget="{name}"]')
    figure = given(widget)
    for key, control in inputs(figure).items():
        if isinstance(control, widgets.Slider):
            slider = widget.get_by_role("slider", name=control.label, exact=True)
            text = widgets._typed(figure.state[key]) + control.unit
            assert slider.get_attribute("aria-valuetext") == text
            label = slider.locator("xpath=ancestor::label").text_content()
            assert label.split() == [*control.label.split(), text]
            slider.press("End")
            last = widgets._typed(values(control)[-1]) + control.unit
            assert slider.get_attribute("aria-valuetext") == last


def test_a_screen_reader_hears_where_a_drag_ends(visit):
    page = visit(f"{PAGES['temperature']}.html")
    widget = page.locator('[data-widget="temperature"]')
    expect(widget.get_by_role("status")).to_have_text(given(widget).says)
    page.evaluate(
        """() => {
            window.heard = [];
            const says = document.querySelector(".widget-says");
            new MutationObserver(() => window.heard.push(says.textContent))
                .observe(says, { childList: true });
        }"""
    )
    slider = widget.get_by_role("slider", name="Temperature")
    slider.evaluate(
        """(slider) => {
            for (let n = 0; n < 15; n++) {
                slider.value = n;
                slider.dispatchEvent(new Event("input"));
            }
        }"""
    )
    last = repr(widgets.temperature(temperature=1.5))
    expect(widget.get_by_role("status")).to_have_text(last)
    slider.press("Home")
    cold = repr(widgets.temperature(temperature=0.1))
    expect(widget.get_by_role("status")).to_have_text(cold)
    assert page.evaluate("window.heard") == [last, cold]


def test_the_query_can_be_dragged(visit):
    page = visit(f"{PAGES['query']}.html")
    widget = page.locator('[data-widget="query"]')
    plane, handle = widget.locator("svg"), widget.locator(".widget-drag")
    plane.scroll_into_view_if_needed()
    box, held = plane.bounding_box(), handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(held["x"] + held["width"] / 2, held["y"] + held["height"] / 2)
    page.mouse.down()
    for direction, (right, up) in {90: (0, 80), 225: (-60, -60), 0: (90, 0)}.items():
        page.mouse.move(x + right, y - up, steps=4)
        assert differs(page, widgets.query(direction=direction)) == []
    page.mouse.up()
    page.mouse.move(x, y - 50)  # let go
    assert differs(page, widgets.query(direction=0)) == []
    assert widget.get_by_role("slider", name="Direction").get_attribute("aria-valuetext") == "0°"


@pytest.mark.parametrize("name", NAMES)
def test_on_paper_and_without_scripts_a_figure_is_still(browser, site, visit, name):
    address = f"{PAGES[name]}.html"
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{address}")
    widget = page.locator(f'[data-widget="{name}"]')
    expect(widget.locator(".widget-view")).to_be_visible()
    expect(widget.locator(".widget-says")).to_be_visible()
    says = widget.locator(".widget-says").text_content()
    assert widget.locator("input, select, button").count() == 0
    context.close()

    page = visit(address, scheme="dark")
    page.emulate_media(media="print")
    widget = page.locator(f'[data-widget="{name}"]')
    assert says == widget.locator(".widget-says").text_content() == given(widget).says
    expect(widget.locator(".widget-view")).to_be_visible()
    expect(widget.locator(".widget-controls")).to_be_hidden()


@pytest.mark.parametrize("name", NAMES)
def test_it_works_from_a_folder(browser, name):
    context = browser.new_context()
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((SITE / f"{PAGES[name]}.html").as_uri())
    widget = page.locator(f'[data-widget="{name}"]')
    figure = given(widget)
    key, control = next(
        (key, c) for key, c in inputs(figure).items() if isinstance(c, widgets.Slider)
    )
    widget.get_by_role("slider", name=control.label, exact=True).press("End")
    assert differs(page, getattr(widgets, name)(**figure.state | {key: values(control)[-1]})) == []
    assert errors == []
    context.close()


@pytest.mark.parametrize("name", NAMES)
def test_it_fits_the_smallest_screen_and_a_finger(visit, name):
    page = visit(f"{PAGES[name]}.html", width=320, height=640)
    widget = page.locator(f'[data-widget="{name}"]')
    assert widget.locator(".widget-view").evaluate("(e) => e.scrollWidth <= e.clientWidth")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
    targets = widget.locator(".widget-controls").locator("input, select, button")
    for target in [*targets.all(), *widget.locator(".widget-drag").all()]:
        if target.get_attribute("type") == "checkbox":
            target = target.locator("xpath=ancestor::label")  # all of it can be pressed
        box = target.bounding_box()
        assert min(box["width"], box["height"]) >= 24, box


def test_only_pages_with_a_figure_load_its_script():
    named = {
        path.relative_to(SITE).with_suffix("").as_posix()
        for path in SITE.rglob("*.html")
        if "widgets.js" in path.read_text()
    }
    assert named == set(PAGES.values())
    for path in named:
        assert (SITE / f"{path}.html").read_text().count('data-widget="') == 1


def test_the_script_is_small():
    assert (SITE / "_static" / "widgets.js").stat().st_size < 17_000
