"""Pictures: both themes, described, the same at every run, and clear errors."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from attn_course import plots

TEXT = {"alt": "Three rows; the first is dark & the rest <light>.", "caption": "One message."}
DRAWN = {
    "heatmap": lambda: plots.heatmap(np.eye(3), **TEXT),
    "heatmap-labels": lambda: plots.heatmap(np.ones((2, 3)) / 3, queries="ab", keys="cde", **TEXT),
    "panels": lambda: plots.panels({"one": np.eye(3), "two": np.ones((2, 5), bool)}, **TEXT),
    "bars": lambda: plots.bars({"a": [0.2, 0.8], "b": [0.5, 0.5]}, **TEXT),
    "lines": lambda: plots.lines([1, 2], {"a": [1, 2]}, xlabel="x", ylabel="y", **TEXT),
    "lines-points": lambda: plots.lines(
        [1, 2],
        {"a": [1, 2], "b": [2, 1]},
        xlabel="x",
        ylabel="y",
        logx=True,
        logy=True,
        points={"data": ([1], [2])},
        **TEXT,
    ),
    "plane": lambda: plots.plane({"q": [1, 0], "k": [0, 1]}, query="q", weights={"k": 1}, **TEXT),
    "timeline": lambda: plots.timeline([(1964, "kernels"), (2017, "attention")], **TEXT),
}


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_drawn_for_both_themes_and_described(name):
    picture = DRAWN[name]()
    assert set(picture.drawings) == {"light", "dark"}
    assert plots.THEMES["light"]["paper"] in picture.drawings["light"]
    assert plots.THEMES["dark"]["paper"] in picture.drawings["dark"]
    html = picture._repr_html_()
    assert html.count('alt="Three rows; the first is dark &amp; the rest &lt;light&gt;."') == 2
    assert "<figcaption>One message.</figcaption>" in html
    assert repr(picture) == f"Picture: {TEXT['alt']}"


@pytest.mark.parametrize("name", DRAWN)
def test_picture_is_the_same_at_every_run(name):
    assert DRAWN[name]()._repr_html_() == DRAWN[name]()._repr_html_()


def luminance(color):
    channels = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", plots.THEMES)
def test_colors_stand_out(theme):
    colors = plots.THEMES[theme]
    assert contrast(colors["ink"], colors["paper"]) > 12
    assert contrast(colors["muted"], colors["paper"]) > 4.5
    for color in plots.COLORS:
        drawn = plots.BRIGHT[color] if theme == "dark" else color
        # WCAG 2.2, 1.4.11: what a graphic is understood by has a contrast of 3 to 1
        assert contrast(drawn, colors["paper"]) > 3


def test_numbers_in_a_heat_map_can_be_read():
    svg = plots.heatmap(np.linspace(0, 1, 49).reshape(7, 7), **TEXT).drawings["light"]
    fills = re.findall(r"<path[^>]*fill: (#\w{6})", svg)
    assert len(fills) >= 49
    darkest = min(fills, key=luminance)
    assert contrast("#ffffff", darkest) > 4.5


@pytest.mark.parametrize("digits", [0, 2, 4])
def test_numbers_are_written_with_all_their_digits(digits):
    weights = np.array([[0.123456, 0.5], [0.25, 0.987654]])
    for svg in plots.heatmap(weights, digits=digits, **TEXT).drawings.values():
        for weight in weights.flat:
            assert f">{weight:.{digits}f}</text>" in svg


@pytest.mark.parametrize(
    ("x", "named"),
    [
        ([128, 256, 512, 1024], ["128", "256", "512", "1024"]),
        (2 ** np.arange(9), ["1", "2", "4", "8", "16", "32", "64", "128", "256"]),
        (2 ** np.arange(7, 16), ["128", "512", "2048", "8192", "32768"]),
        (2 ** np.arange(14, 20), ["16384", "32768", "65536", "131072", "262144", "524288"]),
        (2 ** np.arange(9, 21), ["512", "2048", "8192", "32768", "131072", "524288"]),
        ([1000, 1010, 100000], ["1000", "100000"]),
        ([32768], ["32768"]),
    ],
)
def test_names_of_a_logarithmic_axis_do_not_touch(x, named):
    picture = plots.lines(x, {"a": np.ones(len(x))}, xlabel="x", ylabel="y", logx=True, **TEXT)
    for svg in picture.drawings.values():
        ticks = re.findall(r'text-anchor: middle[^>]* y="209[^>]*>(\d+)</text>', svg)
        assert ticks == named


@pytest.mark.parametrize("name", DRAWN)
def test_drawings_are_well_formed_and_light(name):
    for svg in DRAWN[name]().drawings.values():
        ElementTree.fromstring(svg)
        assert len(svg) < 30_000


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.heatmap(np.eye(2), alt="", caption="c"), "alt is ''"),
        (lambda: plots.heatmap(np.eye(2), alt="a", caption=" "), "caption is ' '"),
        (lambda: plots.heatmap(np.zeros(3), **TEXT), r"weights has shape \(3,\)"),
        (lambda: plots.heatmap(np.eye(2), queries=["a"], **TEXT), "query labels: 1 given"),
        (lambda: plots.heatmap(np.eye(2), top=0, **TEXT), "top is 0"),
        (lambda: plots.panels({}, **TEXT), "matrices is empty"),
        (lambda: plots.plane({}, **TEXT), "vectors is empty"),
        (lambda: plots.panels({"m": np.zeros(3)}, **TEXT), r"m has shape \(3,\)"),
        (lambda: plots.bars({"a": [1], "b": [1, 2]}, **TEXT), "groups has shapes"),
        (lambda: plots.lines([1], {"a": [1, 2]}, xlabel="", ylabel="", **TEXT), "a has shape"),
        (lambda: plots.plane({"q": [1, 2, 3]}, **TEXT), r"q has shape \(3,\)"),
        (lambda: plots.plane({"q": [1, 2]}, query="k", **TEXT), "query is 'k'"),
        (lambda: plots.timeline([(2, "b"), (1, "a")], **TEXT), "events have dates"),
        (lambda: plots.timeline([], **TEXT), "events have dates"),
    ],
)
def test_bad_arguments(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
