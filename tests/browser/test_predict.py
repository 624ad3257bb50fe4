"""Predict, then observe: an output stays folded until the reader has written down a guess."""

import re

from playwright.sync_api import expect

SOFTMAX = "book/concepts/softmax.html"


def first(page):
    """Return the form of the first prediction and the fold that it guards."""
    cell = page.locator(".cell:has(> .guess)").first
    return cell.locator(".guess"), page.locator(".cell:has(> .guessed) > details").first


def test_a_guess_opens_the_fold_and_is_kept(visit):
    page = visit(SOFTMAX)
    form, fold = first(page)
    number = page.locator(".guess").count()
    assert number >= 2
    expect(fold).to_be_hidden()
    explained = page.get_by_text("Adding changes nothing, because no difference changes.")
    expect(explained).to_be_hidden()
    form.get_by_role("button", name="Compare").click()  # nothing is written yet
    expect(fold).to_be_hidden()
    page.get_by_label("Your guess").first.fill("they stay the same")
    page.keyboard.press("Enter")
    expect(fold).to_be_visible()
    expect(fold.locator(".cell_output")).to_contain_text("0.999955")
    expect(explained).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Your guess")).to_have_text(
        "Your guess: they stay the same"
    )
    assert fold.locator("summary").evaluate("e => e === document.activeElement")
    page.reload()
    expect(page.locator(".guess")).to_have_count(number - 1)
    expect(page.locator(".guessed").first).to_have_text("Your guess: they stay the same")


def test_who_does_not_guess_can_read_on(visit):
    page = visit(SOFTMAX)
    form, fold = first(page)
    form.get_by_role("button", name="Show without a guess").click()
    expect(fold.locator(".cell_output")).to_be_visible()
    expect(page.locator(".guessed").first).to_be_hidden()


def test_on_paper_and_without_script_nothing_is_held_back(visit, browser, site):
    page = visit(SOFTMAX)
    page.emulate_media(media="print")
    expect(page.locator(".guess").first).to_be_hidden()
    expect(page.locator(".cell:has(> .guess) > details").first).to_be_visible()
    expect(page.get_by_text("Adding changes nothing, because")).to_be_visible()
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/{SOFTMAX}")
    expect(page.locator("details.below-input").first).to_be_visible()
    context.close()


def test_every_prediction_with_a_folded_output_asks(visit):
    page = visit("book/algorithm/masks.html")
    asked = page.locator("article p > strong", has_text=re.compile("^Predict.$")).count()
    assert page.locator(".guess").count() == asked
