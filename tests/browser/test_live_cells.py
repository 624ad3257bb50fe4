"""Live cells in a real browser: loaded at the first Run, run, broken, stopped, kept."""

import base64
import re

import numpy as np
import pytest
from conftest import SITE
from playwright.sync_api import expect

from attn_course.live import Session

SOFTMAX = "book/concepts/softmax.html"
EXERCISES = "book/exercises/softmax.html"
LOADED = 60_000  # milliseconds; a busy machine loads Python slowly
# The reference in both Pythons: what it prints are all numbers, to the last bit.
NUMBERS = """
import base64
import numpy as np
from attn_course import reference as r

rng = np.random.default_rng(0)
q, k, v, g = (rng.standard_normal((2, 4, 7, 6)) for _ in range(4))
mask, bias = r.causal_mask(7, 7), rng.standard_normal((7, 7))
results = [
    r.softmax(50 * q), r.entropy(r.softmax(q)), r.attention(q, k, v),
    r.attention(q, k, v, mask, bias=bias, softcap=5.0), r.attention_weights(q, k, mask, scale=0.3),
    r.grouped_query_attention(q, k[:, :2], v[:, :2], mask), r.tiled_attention(q, k, v, block=3),
    r.rotary(q, np.arange(7)), r.rotary_interleaved(q, np.arange(7)), r.alibi_bias(4, 7, 7),
    r.sinusoidal_positions(50, 32), r.linear_attention(q, k, v), r.window_attention(q, k, v, 3),
    r.additive_scores(q[0, 0], k[0, 0], g[0, 0, :6], g[0, 1, :6], g[0, 2, 0]),
    *r.attention_backward(q, k, v, g, mask), r.layer_norm(q), r.rms_norm(q),
]
for result in results:
    print(base64.b64encode(result.tobytes()).decode())
"""


def live(page, number):
    """Return the live cell of a page that stands at `number`, the first at 0."""
    return page.locator(".cell.tag_live").nth(number)


def run(cell, says="Done"):
    """Run a cell to its end and return what it shows."""
    cell.locator(".live-run").click()
    expect(cell.locator(".live-says")).to_contain_text(says, timeout=LOADED)
    return cell.locator(".cell_output").inner_text()


def numbers(printed):
    """Return the arrays that `NUMBERS` printed."""
    return [np.frombuffer(base64.b64decode(line)) for line in printed.split()]


def write(cell, code):
    cell.locator("textarea").fill(code)


@pytest.fixture
def opened(visit):
    """The page on softmax, and the addresses that it has asked for."""
    asked = []

    def open_page(path=SOFTMAX):
        page = visit(path)
        page.on("request", lambda request: asked.append(request.url))
        return page, asked

    return open_page


def test_a_cell_is_run_broken_stopped_and_reset(opened):
    page, asked = opened()
    cell = live(page, 2)
    stored = cell.locator(".cell_output").inner_text()
    page.wait_for_load_state("networkidle")
    assert not any("live-worker" in url or "/live/" in url for url in asked)

    cell.locator(".live-run").click()
    expect(cell.locator(".live-says")).to_contain_text(" MB")  # how much it will load
    expect(cell.locator(".live-says")).to_have_text(re.compile("^Done"), timeout=LOADED)
    assert cell.locator(".cell_output").inner_text() == stored
    loaded = [url for url in asked if "/live/" in url]
    assert len(loaded) == len(set(loaded))

    editor = cell.locator("textarea")
    editor.fill("def half(x):")
    editor.press("End")
    editor.press("Enter")
    page.keyboard.type("return x / 2")
    assert editor.input_value() == "def half(x):\n    return x / 2"
    page.keyboard.type("\n")
    page.keyboard.press("Backspace")
    page.keyboard.type("half(3)")
    assert editor.input_value().endswith("\nhalf(3)")
    page.keyboard.press("Control+Enter")
    expect(cell.locator(".cell_output")).to_have_text("1.5")
    expect(editor).to_be_focused()

    write(cell, "print('so far')\n1 / 0")
    assert "ZeroDivisionError" in run(cell, "Ended with an error: cell 3")
    write(cell, "while True:\n    print('again')")
    cell.locator(".live-run").click()
    expect(cell.locator(".cell_output")).to_contain_text("again")
    live(page, 1).locator(".live-run").click()
    expect(live(page, 1).locator(".live-says")).to_have_text("cell 3 is running")
    cell.locator(".live-stop").click()
    expect(cell.locator(".live-says")).to_contain_text("Stopped")

    cell.locator(".live-reset").click()
    assert cell.locator(".cell_output").inner_text() == stored
    assert run(cell) == stored  # the cells above it have run anew


def test_the_numbers_are_those_of_this_python(opened):
    page, _ = opened()
    cell = live(page, 0)
    cell.evaluate("cell => { cell.querySelector('details').open = true }")
    write(cell, NUMBERS)
    there = numbers(run(cell))
    pieces = []
    assert Session().run("here", NUMBERS, lambda kind, text: pieces.append(text))
    here = numbers("".join(pieces))
    assert sum(result.size for result in here) > 5000
    worst = 0.0
    for ours, theirs in zip(here, there, strict=True):
        largest = np.abs(ours).max()
        np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-14 * largest)
        worst = max(worst, (np.abs(theirs - ours) / largest).max())
    print(f"largest difference to this Python, of the largest number: {worst:.1e}")


def test_a_reader_comes_back_to_a_solved_exercise(visit):
    page = visit("search.html?q=temperature")
    page.locator("#search-results li a", has_text="A weight for everything").first.click()
    page.wait_for_url("**/concepts/softmax.html*")
    page.goto(f"{page.url.split('/book/')[0]}/{EXERCISES}")
    answer = page.locator(".cell.tag_live", has_text="def softmax(")
    check = answer.locator("xpath=following-sibling::*[contains(@class, 'tag_check')][1]")
    assert "not attempted" in run(check)
    write(
        answer,
        "import numpy as np\n\ndef softmax(x, axis=-1, temperature=1.0):\n"
        "    e = np.exp(x / temperature)\n    return e / e.sum(axis=axis, keepdims=True)",
    )
    card = run(check)
    assert "not right yet" in card
    assert "The smallest case that shows it" in card
    expect(check.locator("[role=status]")).to_have_text("Done. softmax: not right yet")
    again = check.locator(".cell_output").get_by_role("link", name="A weight for everything")
    expect(again.first).to_have_attribute("href", re.compile(r"/book/concepts/softmax\.html$"))
    write(
        answer,
        "from attn_course.reference import softmax as theirs\n\n"
        "def softmax(x, axis=-1, temperature=1.0):\n    return theirs(x, axis, temperature)",
    )
    assert "softmax: right" in run(check)
    page.reload()
    assert "theirs" in answer.locator("textarea").input_value()
    expect(check.locator(".cell_output")).not_to_contain_text("not attempted")
    expect(check.locator(".live-says")).to_contain_text("Solved in this browser")
    page.goto(f"{page.url.rpartition('/')[0]}/index.html")
    expect(page.locator("body")).to_contain_text("1 of 64 solved in this browser")


def test_a_check_judges_what_stands_above_it(visit):
    page = visit("book/exercises/dot_product.html")
    answer, check, other = live(page, 5), live(page, 6), live(page, 12)
    assert "attention: not attempted" in run(check)
    # Another question's cell imports the reference under the name that is asked for here.
    assert "attention_with_rest: not attempted" in run(other)
    assert "attention: not attempted" in run(check)
    write(answer, "def attention(q, k, v")
    expect(check.locator(".live-says")).to_have_text("The answer has changed since.")
    assert run(check, "No verdict: cell 6 ended with an error, shown below it.") == ""
    assert "SyntaxError" in answer.locator(".cell_output").inner_text()
    write(answer, "")
    assert "NameError: name 'attention' is not defined" in run(check, "Ended with an error")
    # Reset can be undone, and Shift and Enter leads on.
    write(answer, "attention = 36")
    answer.locator(".live-reset").click()
    assert "def attention(" in answer.locator("textarea").input_value()
    answer.locator("textarea").focus()
    page.keyboard.press("Control+z")
    assert answer.locator("textarea").input_value() == "attention = 36"
    page.keyboard.press("Shift+Enter")
    expect(check.locator("textarea")).to_be_focused()
    expect(answer.locator(".live-says")).to_contain_text("Done", timeout=LOADED)
    # An answer that never ends blocks no other question.
    write(answer, "while True:\n    pass")
    assert "attention_with_rest: not attempted" in run(other)


def test_a_call_without_end_costs_no_more_than_a_new_start(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site}/{SOFTMAX}")
    cell = live(page, 2)
    write(cell, "def f(x):\n    return f([x])\nimport sys\nsys.setrecursionlimit(10**9)\nf(0)")
    run(cell, "Python gave up in cell 3")
    write(cell, "print(36)")
    assert "36" in run(cell)
    context.close()


def test_a_file_that_is_cut_off_is_named_and_asked_for_again(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site}/{SOFTMAX}")
    page.route("**/live/numpy*", lambda route: route.fulfill(status=200, body="cut"), times=1)
    cell = live(page, 2)
    run(cell, "Run tries again")
    expect(cell.locator(".live-says")).to_contain_text("has 3 bytes of")
    assert "0.705385" in run(cell)
    context.close()


def test_from_a_folder_cells_say_what_to_do(browser):
    context = browser.new_context()
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((SITE / SOFTMAX).as_uri())
    cell = live(page, 2)
    expect(cell.locator(".live-says")).to_contain_text("make serve")
    assert cell.locator(".live-run").is_disabled()
    context.close()
    assert errors == []


def test_without_script_and_on_paper_there_are_no_buttons(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{SOFTMAX}")
    assert page.locator(".live-bar:visible").count() == 0
    context.close()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site}/{SOFTMAX}")
    assert page.locator(".live-bar:visible").count() > 5
    page.emulate_media(media="print")
    assert page.locator(".live-bar:visible").count() == 0
    context.close()


def test_the_editor_lies_over_its_colored_code(visit):
    page = visit(SOFTMAX)
    editor = live(page, 2).locator("textarea")
    before = editor.bounding_box()
    editor.fill("x = 1\n" * 30 + "y = " + "1 + " * 60 + "1")
    after = editor.bounding_box()
    assert after["height"] > before["height"]
    pre = live(page, 2).locator(".cell_input pre").bounding_box()
    assert after == pre  # the same box, so that what is typed and what is seen lie on each other
    fits = "e => e.scrollWidth <= e.clientWidth + 1 && e.scrollHeight <= e.clientHeight + 1"
    assert editor.evaluate(fits)
