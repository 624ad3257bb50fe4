"""Figures that answer: their numbers are the reference's, and their still form says all."""

import inspect
import json
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from book_text import ROOT, read
from execute import notebooks
from widget_states import PAGES, states, values

from attn_course import widgets
from attn_course.reference import (
    KVCache,
    SlidingKVCache,
    attention,
    attention_weights,
    causal_mask,
    online_softmax,
    rotary,
    softmax,
    window_mask,
)

NAMES = list(PAGES)
NUMBER = re.compile(r"−?[\d,]*\d(?:\.\d+)?")


def numbers(text):
    """Return the numbers of a text that a figure shows."""
    return [float(x.replace("−", "-").replace(",", "")) for x in NUMBER.findall(text)]


def cells(figure):
    """Return the rows of all tables of a figure, by the texts of their cells."""
    root = ElementTree.fromstring(f"<div>{figure.view}</div>")
    return [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]


@pytest.mark.parametrize("name", NAMES)
def test_the_still_form_is_whole(name):
    for state in states(name, 100):
        figure = getattr(widgets, name)(**state)
        root = ElementTree.fromstring(figure._repr_html_())  # well formed
        view, says = root
        assert says.text == repr(figure) == figure.says
        assert says.text.endswith(".")
        assert (view.get("class"), says.get("class")) == ("widget-view", "widget-says")
        assert (root.get("data-widget"), root.get("role")) == (name, "group")
        assert root.get("aria-label") == figure.title
        assert json.loads(root.get("data-state")) == state == figure.state
        assert root.find(".//script") is None
        for drawing in root.iter("svg"):
            assert drawing.get("aria-hidden") == "true"  # the sentence says it
        for text in root.itertext():
            assert not re.search(r"nan|inf|-\d|−0(\.0+)?(?![.\d])", text), text


@pytest.mark.parametrize("name", NAMES)
def test_controls_cover_the_state(name):
    function = getattr(widgets, name)
    figure = function()
    named = {key for key, c in figure.controls.items() if not isinstance(c, widgets.Button)}
    assert named == set(figure.state) == set(inspect.signature(function).parameters)
    controls = json.loads(ElementTree.fromstring(figure._repr_html_()).get("data-controls"))
    for control in controls:
        assert control["label"]
        if control["kind"] == "button":
            assert {control["to"], control["by"]} <= named


@pytest.mark.parametrize("name", NAMES)
def test_two_states_never_say_the_same(name):
    said = {}
    for state in states(name, 300):
        shown = repr(getattr(widgets, name)(**state))
        same = said.setdefault(shown, state)
        unlike = {key for key in state if state[key] != same[key]}
        # A window's size says nothing of a causal mask, a shift of 0 turns nothing.
        assert unlike <= {"size", "query_at", "key_at", "shift"} or (name, unlike) == (
            "heads",
            {"listed"},
        ), (state, same)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("unchecked")
def test_a_value_that_no_control_has_is_refused(name):
    function = getattr(widgets, name)
    for key, control in function().controls.items():
        if isinstance(control, widgets.Button):
            continue
        wrong = {"a string": "red", "None": None, "NaN": math.nan, "far": 1e9, "near": 0.123}
        for value in wrong.values():
            with pytest.raises((TypeError, ValueError), match=rf"^{key} is .*expected"):
                function(**{key: value})
        if not isinstance(control, widgets.Switch):
            with pytest.raises((TypeError, ValueError), match=rf"^{key} is True"):
                function(**{key: True})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: widgets.temperature(temperature=0), "temperature is 0, expected one of 0.1, 0.2"),
        (lambda: widgets.query(direction=7), "direction is 7, expected a multiple of 5 from 0 to"),
        (lambda: widgets.query(length=-1), "length is -1, expected a multiple of 0.1 from 0 to 8"),
        (lambda: widgets.masks(pattern="left"), "pattern is 'left', expected one of all, causal"),
        (lambda: widgets.heads(key_heads=3), "key_heads is 3, expected one of 8, 4, 2, 1"),
        (lambda: widgets.online(forget=1), "forget is 1, expected a bool"),
        (lambda: widgets.cache(tokens="2"), "tokens is a str, expected a finite number"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_message_names_what_was_given_and_expected(call, message):
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("x", "digits", "expected"),
    [
        (0.125, 2, "0.13"),
        (-0.125, 2, "−0.13"),
        (0.5, 0, "1"),
        (2.675 - 1e-16, 2, "2.68"),  # a half but for its last bits
        (0.12499, 2, "0.12"),
        (-0.0004, 3, "0.000"),
        (-0.0, 1, "0.0"),
        (1 / 3, 3, "0.333"),
    ],
)
def test_halves_are_rounded_away_from_zero(x, digits, expected):
    assert widgets.fixed(x, digits) == expected


def test_temperature_shows_softmax_and_the_effective_number():
    for state in states("temperature", 200):
        heat, *scores = state.values()
        weights = softmax(np.array(scores, dtype=float), temperature=heat)
        figure = widgets.temperature(**state)
        *rows, many = cells(figure)[1:]
        for row, score, weight in zip(rows, scores, weights, strict=True):
            assert numbers(row[1]) == [score]
            assert abs(float(row[3]) - weight) <= 0.0005 + 1e-9
        spread = -sum(a * math.log(a) for a in weights if a > 0)
        assert abs(float(many[3]) - math.exp(spread)) <= 0.005 + 1e-8
        assert numbers(figure.says)[:4] == [*scores, heat]


def test_bars_are_as_long_as_their_numbers():
    figure = widgets.temperature(temperature=1)
    widths = [float(x) for x in re.findall(r"width:([\d.]+)%;", figure.view)]
    weights = [float(row[3]) for row in cells(figure)[1:4]]
    np.testing.assert_allclose(np.array(widths[:3]) / 100, weights, atol=0.001)


def test_query_shows_attention():
    for state in states("query", 200):
        angle = math.radians(state["direction"])
        q = state["length"] * np.array([[math.cos(angle), math.sin(angle)]])
        k, v = np.array([[1, 0], [0, state["north"]], [-1, 0.0]]), np.array([[18.0], [4], [12]])
        figure = widgets.query(**state)
        *rows, answer = cells(figure)[1:]
        shown = [float(row[3]) for row in rows]
        np.testing.assert_allclose(shown, attention_weights(q, k)[0], rtol=0, atol=0.0005 + 1e-8)
        assert abs(float(answer[1]) - attention(q, k, v).item()) <= 0.005 + 1e-8
        assert numbers(figure.says)[-1] == float(answer[1])


def test_masks_show_who_sees_whom():
    documents = [0, 0, 0, 1, 1, 1, 1, 2]
    for state in states("masks", 300):
        size, first = state["size"], 8 - state["queries"]
        figure = widgets.masks(**state)
        head, *rows = cells(figure)
        assert head[1:] == [*map(str, range(1, 9)), "seen"]
        assert len(rows) == state["queries"]
        for i, row in enumerate(rows, first):
            allowed = [
                {
                    "all": True,
                    "causal": j <= i,
                    "window": i - size < j <= i,
                    "prefix": j <= i or j < size,
                }[state["pattern"]]
                and j < state["words"]
                and (not state["documents"] or documents[i] == documents[j])
                for j in range(8)
            ]
            assert row == [str(i + 1), *(str(int(x)) for x in allowed), str(sum(allowed))]
        assert numbers(figure.says)[-len(rows) :] == [float(row[-1]) for row in rows]
    causal, window = (cells(widgets.masks(pattern=x))[1:] for x in ("causal", "window"))
    for shown, mask in ((causal, causal_mask(8, 8)), (window, window_mask(8, 8, 3))):
        assert [[int(x) for x in row[1:-1]] for row in shown] == mask.astype(int).tolist()


def test_heads_show_what_the_cache_holds_and_who_reads_what():
    for state in states("heads", 500):
        groups, width, tokens = state["key_heads"], state["width"], state["tokens"]
        figure = widgets.heads(**state)
        _, read, _, *amounts = cells(figure)
        spans = [int(x) for x in re.findall(r'colspan="(\d)"', figure.view)]
        heads = [int(x) for x, span in zip(read[1:], spans, strict=True) for _ in range(span)]
        each = 8 // groups
        assert heads == [h % groups if state["listed"] else h // each for h in range(8)]
        bytes_, kv, rest, scores, output = (numbers(row[1])[0] for row in amounts)
        assert bytes_ == tokens * groups * width * 2 * 2
        assert (kv, rest) == (2 * 8 * width * groups * width, 2 * (8 * width) ** 2)
        assert (scores, output) == (8 * tokens, 8 * width)
    cache = KVCache(capacity=16)
    cache.append(*np.zeros((2, 4, 16, 32), dtype=np.float16))
    shown = cells(widgets.heads(key_heads=4, width=32, tokens=16))[3]
    assert numbers(shown[1]) == [cache.nbytes]


def test_a_shift_of_both_changes_no_score():
    scores = {}
    for state in states("rotation", 400):
        q = rotary(np.array([[2.0, 2, 1, 1]]), np.array([state["query_at"]]), base=100.0)
        k = rotary(np.array([[2.0, 2, -1, -1]]), np.array([state["key_at"]]), base=100.0)
        figure = widgets.rotation(**state)
        quick, slow, score = cells(figure)[1:]
        shown = numbers(score[3])[0]
        assert abs(shown - (q @ k.T).item()) <= 0.0005 + 1e-8  # of the positions before the shift
        assert abs(numbers(quick[3])[0] + numbers(slow[3])[0] - shown) <= 0.0015 + 1e-9
        distance = state["key_at"] - state["query_at"]
        assert scores.setdefault(distance, shown) == shown
        turned = math.degrees(state["query_at"] + state["shift"])
        assert abs(numbers(quick[1])[0] - turned) <= 0.05 + 1e-8
    assert len(scores) > 30


def test_online_shows_the_sums_of_the_keys_read():
    for state in states("online", 500):
        figure = widgets.online(**state)
        shown = cells(figure)
        terms, v = (np.array([float(x) for x in row[1:]]) for row in shown[1:3])
        rows, block = shown[5:], state["block"]
        assert len(rows) == -(-state["read"] // block)
        in_block = [str(n // block + 1) if n < state["read"] else "–" for n in range(8)]
        assert shown[3][1:] == in_block
        for n, row in enumerate(rows, 1):
            seen = min(n * block, state["read"])
            m, factor, total, o, output, at_once = (numbers(x)[0] for x in row[1:])
            right = softmax(np.log(terms[:seen])) @ v[:seen]
            assert abs(at_once - right) <= 0.005 + 1e-8
            assert abs(m - math.log(terms[:seen].max())) <= 0.005 + 1e-8
            if state["forget"]:
                assert factor == 1
                continue
            assert abs(total - terms[:seen].sum() / terms[:seen].max()) <= 0.005 + 1e-8
            assert abs(o - (terms * v)[:seen].sum() / terms[:seen].max()) <= 0.005 + 1e-8
            assert output == at_once
        if rows:
            assert f"{rows[-1][5]}, " in figure.says
        assert ("as of these keys at once" in figure.says) == (
            bool(rows) and rows[-1][5] == rows[-1][6]
        )


def test_online_is_the_reference():
    scores, values_ = np.log(np.array(widgets.EXPONENTIALS, dtype=float)), widgets.VALUES
    for block in range(1, 9):
        shown = cells(widgets.online(block=block, read=8))[-1]
        assert float(shown[5]) == pytest.approx(online_softmax(scores, block) @ values_, abs=5e-3)


def test_the_bug_shows_where_the_largest_score_is_not_in_the_first_block():
    harmless = [
        block
        for block in range(1, 9)
        if "at once" in repr(widgets.online(block=block, read=8, forget=True))
    ]
    assert harmless == [6, 7, 8]


def test_cache_shows_what_caches_hold_and_a_step_reads():
    for state in states("cache", 300):
        kept = min(state["tokens"], state["window"] or state["tokens"])
        number = 2 * 32 * state["key_heads"] * 128 * kept
        one = number * state["bits"] / 8 / 1e9
        layer = 4096 * (2 * 4096 + 2 * state["key_heads"] * 128 + 3 * 14336)
        parameters = 2 * (32 * layer + 32000 * 4096) / 1e9
        figure = widgets.cache(**state)
        shown = [float(row[1]) for row in cells(figure)[1:]]
        caches = state["texts"] * one
        expected = [one, caches, parameters, caches + parameters]
        np.testing.assert_allclose(shown, expected, rtol=0, atol=0.005 + 1e-8)
        *_, milliseconds, rate = numbers(figure.says)
        assert abs(milliseconds - expected[-1]) <= 0.05 + 1e-8
        assert abs(rate - state["texts"] / expected[-1] * 1000) <= 0.5 + 1e-8


@pytest.mark.parametrize(("window", "cache"), [(0, KVCache(8)), (4, SlidingKVCache(4))])
def test_kept_bytes_are_those_of_the_caches(window, cache):
    for _ in range(8):
        cache.append(*np.zeros((2, 2, 1, 16), dtype=np.float16))
    assert cache.nbytes == widgets._bytes(2, 16) * (window or 8)


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_stands_on_its_page_in_no_live_cell(name):
    found = []
    for path in notebooks():
        for cell in read(path).cells:
            if f"widgets.{name}(" in cell.source:
                assert "live" not in cell.metadata.get("tags", [])
                assert "hide-input" in cell.metadata.get("tags", [])
                found.append(path.relative_to(ROOT).with_suffix("").as_posix())
                html = cell.outputs[0].data["text/html"]
                state = json.loads(ElementTree.fromstring(html).get("data-state"))
                assert html == getattr(widgets, name)(**state)._repr_html_()
    assert found == [PAGES[name]]


def test_every_control_offers_a_choice():
    for name in NAMES:
        for control in getattr(widgets, name)().controls.values():
            if not isinstance(control, widgets.Button):
                assert len(set(values(control))) > 1
