"""Pictures: both themes, described, the same at every run, and clear errors."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from attn_course import plots

TEXT = {"alt": "Three rows; the first is dark & the rest <light>.", "caption": "One message."}
RING = np.hypot(*np.mgrid[-3:4, -3:4]).astype(int) == 2
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
    "overlays": lambda: plots.overlays(
        {"ring": (RING, np.eye(4) / 4), "blank": (np.zeros((6, 9)), np.ones((2, 3)))}, **TEXT
    ),
    "panels-blank": lambda: plots.panels({"one": [[0.5, 0.5, np.nan], [0.2, 0.3, 0.5]]}, **TEXT),
    "spectrogram": lambda: plots.spectrogram(
        -np.arange(200.0).reshape(10, 20), seconds=0.2, hertz=500, **TEXT
    ),
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
        (lambda: plots.overlays({}, **TEXT), "pairs is empty"),
        (lambda: plots.overlays({"a": (RING, np.ones(3))}, **TEXT), r"a has shapes .* and \(3,\)"),
        (lambda: plots.overlays({"a": (RING, RING)}, top=0, **TEXT), "top is 0"),
        (lambda: plots.spreads({}, ylabel="y", **TEXT), "groups is empty"),
        (lambda: plots.spreads({"a": {}}, ylabel="y", **TEXT), "a is empty"),
        (lambda: plots.spreads({"a": {"b": []}}, ylabel="y", **TEXT), r"b of a is \[\]"),
        (lambda: plots.spreads({"a": {"b": [np.nan]}}, ylabel="y", **TEXT), "b of a is"),
        (lambda: plots.spectrogram([1], seconds=1, hertz=1, **TEXT), r"levels has shape \(1,\)"),
        (lambda: plots.spectrogram([[1]], seconds=0, hertz=1, **TEXT), "seconds is 0"),
        (lambda: plots.spectrogram([[1]], seconds=1, hertz=-1, **TEXT), "hertz -1"),
    ],
)
def test_bad_arguments(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_an_overlay_outlines_the_image_and_shades_the_weights_alike():
    squares = np.array([[0.0, 0.5], [1.0, 0.5]])
    svg = plots.overlays({"a": (RING, squares)}, top=1.0, **TEXT).drawings["light"]
    fills = re.findall(r"<path d=[^>]*fill: (#\w{6}); stroke: #ffffff", svg)
    assert len(fills) == 4
    assert fills[1] == fills[3]
    assert luminance(fills[0]) < luminance(fills[1]) < luminance(fills[2])
    assert len(re.findall(r"<path[^>]*fill: none; stroke: #(?:000000|ffffff)", svg)) == 2
    blank = plots.overlays({"a": (0 * RING, squares)}, top=1.0, **TEXT).drawings["light"]
    assert not re.findall(r"<path[^>]*fill: none; stroke: #ffffff", blank)


def test_what_is_no_number_is_left_blank():
    half = np.array([[0.27, np.nan], [0.5, 0.5]])
    svg = plots.heatmap(half, digits=2, **TEXT).drawings["light"]
    assert svg.count(">0.27<") == 1
    assert "nan" not in svg
    squares = re.findall(r"<path d=[^>]*style=\"fill: (#?\w+); stroke: #ffffff", svg)
    assert len(set(squares)) == 3  # two shades and nothing
    assert squares.count("none") == 1


def test_a_spectrogram_is_one_image_with_its_units():
    svg = plots.spectrogram(np.eye(50), seconds=0.5, hertz=4000, **TEXT).drawings["dark"]
    assert svg.count("<image") == 2  # the levels and the bar that explains their shades
    for name in ("time (s)", "frequency (kHz)", "level (dB)", "0.4", ">4<"):
        assert name in svg


def test_a_spread_has_a_dot_for_each_measurement_and_a_line_for_each_mean():
    groups = {"heads": {"1": [0.1, 0.3], "2": [0.2, 0.2, 0.5]}, "width": {"sixteen": [1.0]}}
    svg = plots.spreads(groups, ylabel="loss", **TEXT).drawings["light"]
    assert len(re.findall(r"<use [^>]*fill: #0072b2", svg)) == 6
    assert len(re.findall(r"<path[^>]*stroke: #1a1a1a", svg)) >= 3
    for name in ("heads", "width", "sixteen", "loss"):
        assert name in svg
