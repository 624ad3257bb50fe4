"""All drawing. A chapter calls one function and gets a `Picture`: drawn twice, for light pages
and for dark ones, with its alternative text and its caption.

Colors are taken from Okabe and Ito's palette (two of them darkened, to stand out on white) and
from the color map cividis, so that they can be told apart whatever a reader's color vision; no
line differs from another in color alone. A drawing is SVG inside the notebook: it stays sharp,
and no file lies beside the page.
"""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#B0588E", "#8A7000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

# Ink and paper, each pair with a contrast above 12 to 1; muted ink is above 4.5 to 1.
THEMES = {
    "light": {"ink": "#1a1a1a", "muted": "#5f5f5f", "paper": "#ffffff"},
    "dark": {"ink": "#ececec", "muted": "#a8a8a8", "paper": "#121212"},
}
BRIGHT = {  # the palette's own brighter tones, which stand out on dark pages
    "#0072B2": "#56B4E9",
    "#D55E00": "#E9822F",
    "#009E73": "#1DB98D",
    "#B0588E": "#CC79A7",
    "#8A7000": "#E0CE3A",
}

STYLE = {
    "svg.fonttype": "none",  # text stays text: small, and sharp at any size
    "svg.hashsalt": "attn_course",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


class Picture:
    """A drawing in a light and a dark form, its alternative text and its caption.

    It shows itself as HTML: a figure of two images, of which the book shows the one that fits
    the reader's theme. Elsewhere the light one is shown.
    """

    def __init__(self, drawings: Mapping[str, str], alt: str, caption: str):
        for name, text in (("alt", alt), ("caption", caption)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{name} is {text!r}, expected a sentence")
        self.drawings, self.alt, self.caption = dict(drawings), alt, caption

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"

    def _repr_html_(self) -> str:
        light, dark = (
            "data:image/svg+xml;base64," + base64.b64encode(self.drawings[theme].encode()).decode()
            for theme in ("light", "dark")
        )
        alt, caption = html.escape(self.alt), html.escape(self.caption, quote=False)
        return (
            '<figure class="picture">'
            f'<img class="picture-light" src="{light}" alt="{alt}">'
            f'<img class="picture-dark" src="{dark}" alt="{alt}" style="display:none">'
            f"<figcaption>{caption}</figcaption></figure>"
        )


def _picture(draw, size, alt, caption) -> Picture:
    """Call `draw(figure, theme)` once a theme and return both drawings."""
    drawings = {}
    for name, theme in THEMES.items():
        colors = {
            "figure.facecolor": theme["paper"],
            "axes.facecolor": theme["paper"],
            "savefig.facecolor": theme["paper"],
            "text.color": theme["ink"],
            "axes.labelcolor": theme["ink"],
            "axes.edgecolor": theme["muted"],
            "xtick.color": theme["muted"],
            "ytick.color": theme["muted"],
            "xtick.labelcolor": theme["ink"],
            "ytick.labelcolor": theme["ink"],
        }
        with matplotlib.rc_context({**STYLE, **colors}):
            figure = Figure(figsize=size, layout="constrained")
            FigureCanvasSVG(figure)
            draw(figure, {**theme, "name": name})
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        drawings[name] = _compact(buffer.getvalue())
    return Picture(drawings, alt, caption)


def _compact(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Tenths of a point are fine enough for where a line goes. What stands as text is left alone.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)
    svg = re.sub(r"'DejaVu Sans',.*?sans-serif", "sans-serif", svg)  # the reader's own font
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)
    svg = re.sub(r"<g>\s*</g>|<g/>", "", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _color(index: int, theme) -> str:
    color = COLORS[index % len(COLORS)]
    return BRIGHT[color] if theme["name"] == "dark" else color


def _labels(given, count: int, letter: str) -> list[str]:
    if given is None:
        return [f"{letter} {n + 1}" for n in range(count)] if count <= 12 else [""] * count
    if len(given) != count:
        raise ValueError(f"{letter} labels: {len(given)} given, expected {count}")
    return [str(label) for label in given]


def _apart(x) -> list[str]:
    """Name the points of a logarithmic axis, or every second, third, ... where all would touch."""
    names, places = [f"{value:g}" for value in x], np.log(x)
    places *= 250 / max(np.ptp(places), 1e-12)  # the curves span some 250 points of the drawing
    for step in range(1, len(x)):
        gaps = abs(np.diff(places[::step]))
        widths = np.array([7 * len(name) for name in names[::step]])  # 7 points a digit
        if (gaps >= (widths[1:] + widths[:-1]) / 2 + 3).all():
            break
    else:
        step = len(x)
    return [name if n % step == 0 else "" for n, name in enumerate(names)]


def _shade(axes, matrix, rows, columns, theme, *, top, digits):
    """Draw `matrix` as shaded squares with a number in each where there is room."""
    numbers = np.asarray(matrix, dtype=float)
    there = ~np.isnan(numbers)  # the rest is left blank
    high = top if top is not None else max(float(np.max(numbers, initial=0, where=there)), 1e-12)
    low = min(float(np.min(numbers, initial=0, where=there)), 0.0)
    shades = dict(cmap="cividis", vmin=low, vmax=high)
    if numbers.size <= 150:
        mesh = axes.pcolormesh(numbers, edgecolors=theme["paper"], linewidth=1, **shades)
        axes.invert_yaxis()
    else:  # a square each would make the drawing heavy: one small image instead
        height, width = numbers.shape
        mesh = axes.imshow(numbers, interpolation="none", extent=(0, width, height, 0), **shades)
    axes.set_aspect("equal")
    if any(columns):
        axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
        if max(map(len, columns)) > 4:
            axes.tick_params(axis="x", rotation=45)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
                label.set_rotation_mode("anchor")
    else:
        axes.set_xticks([])
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows) if any(rows) else axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if digits is not None and matrix.size <= 100:
        for i, j in np.argwhere(there):
            value = numbers[i, j]
            shade = (value - low) / (high - low)
            axes.text(
                j + 0.5,
                i + 0.5,
                f"{value:.{digits}f}",
                ha="center",
                va="center",
                size=9,
                color="#ffffff" if shade < 0.5 else "#000000",
            )
    return mesh


def heatmap(
    weights,
    *,
    alt: str,
    caption: str,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    top: float | None = 1.0,
    digits: int | None = 2,
    label: str = "weight",
) -> Picture:
    """Draw a matrix of weights, a row a query and a column a key.

    `top` is the value of the brightest shade (None: the largest entry), `digits` how many stand
    after the point in each square (None: no numbers), `label` what the shades measure.

    Raises:
        ValueError: `weights` is no matrix, the labels do not fit, `top` is not positive, or `alt`
            or `caption` is empty.
    """
    weights = np.asarray(weights)
    if weights.ndim != 2:
        raise ValueError(f"weights has shape {weights.shape}, expected (queries, keys)")
    if top is not None and not top > 0:
        raise ValueError(f"top is {top}, expected a positive number or None")
    rows = _labels(queries, weights.shape[0], "query")
    columns = _labels(keys, weights.shape[1], "key")
    width = min(max(2.4 + 0.42 * weights.shape[1], 3.4), 5.6)
    height = min(max(1.3 + 0.42 * weights.shape[0], 1.9), 5.2)

    def draw(figure, theme):
        axes = figure.subplots()
        mesh = _shade(axes, weights, rows, columns, theme, top=top, digits=digits)
        bar = figure.colorbar(mesh, ax=axes, shrink=0.8, pad=0.03)
        bar.set_label(label)
        bar.outline.set_visible(False)

    return _picture(draw, (width, height), alt, caption)


def panels(
    matrices: Mapping[str, object],
    *,
    alt: str,
    caption: str,
    queries: str = "query",
    keys: str = "key",
    top: float | None = 1.0,
    columns: int = 2,
) -> Picture:
    """Draw several matrices side by side under their names: masks, say, or the weights of heads.

    An entry that is NaN is left blank.

    Raises:
        ValueError: there is no matrix, an entry is none, or `alt` or `caption` is empty.
    """
    matrices = {name: np.asarray(matrix) for name, matrix in matrices.items()}
    if not matrices:
        raise ValueError("matrices is empty, expected at least one")
    for name, matrix in matrices.items():
        if matrix.ndim != 2:
            raise ValueError(f"{name} has shape {matrix.shape}, expected (queries, keys)")
    columns = min(columns, len(matrices))
    rows = -(-len(matrices) // columns)

    def draw(figure, theme):
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(matrices) :]:
            axes.set_visible(False)
        for axes, (name, matrix) in zip(grid.flat, matrices.items(), strict=False):
            no_rows, no_columns = [""] * matrix.shape[0], [""] * matrix.shape[1]
            _shade(axes, matrix, no_rows, no_columns, theme, top=top, digits=None)
            axes.set_title(name, size=11)
            axes.set_xlabel(keys, size=10)
            axes.set_ylabel(queries, size=10)

    return _picture(draw, (min(2.4 * columns, 5.4), 2.35 * rows), alt, caption)


def bars(
    groups: Mapping[str, object],
    *,
    alt: str,
    caption: str,
    labels: Sequence[str] | None = None,
    xlabel: str = "key",
    ylabel: str = "weight",
) -> Picture:
    """Draw one distribution, or several beside each other, as bars.

    Raises:
        ValueError: the distributions differ in length, the labels do not fit, or `alt` or
            `caption` is empty.
    """
    groups = {name: np.asarray(values, dtype=float) for name, values in groups.items()}
    lengths = {values.shape for values in groups.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise ValueError(f"groups has shapes {sorted(lengths)}, expected one length for all")
    (count,) = next(iter(lengths))
    ticks = _labels(labels, count, xlabel)

    def draw(figure, theme):
        axes = figure.subplots()
        step = 0.8 / len(groups)
        hatches = ("", "///", "...", "xx", "--")
        for n, (name, values) in enumerate(groups.items()):
            axes.bar(
                np.arange(count) + (n - (len(groups) - 1) / 2) * step,
                values,
                step * 0.92,
                label=name,
                color=_color(n, theme),
                edgecolor=theme["paper"],
                hatch=hatches[n % len(hatches)],
                linewidth=0.5,
            )
        axes.set_xticks(np.arange(count), ticks)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if len(groups) > 1:
            axes.legend()

    return _picture(draw, (4.7, 2.8), alt, caption)


def lines(
    x,
    series: Mapping[str, object],
    *,
    alt: str,
    caption: str,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    points: Mapping[str, tuple] | None = None,
) -> Picture:
    """Draw one or more curves over `x`, each with its own color and dash.

    Where there are few points, each curve has a marker of its own too.

    `points` names sets of (xs, ys) drawn as dots, such as the data that a curve was fitted to.

    Raises:
        ValueError: a series is not as long as `x`, or `alt` or `caption` is empty.
    """
    x = np.asarray(x, dtype=float)
    series = {name: np.asarray(values, dtype=float) for name, values in series.items()}
    for name, values in series.items():
        if values.shape != x.shape:
            raise ValueError(f"{name} has shape {values.shape}, expected {x.shape}, that of x")

    def draw(figure, theme):
        axes = figure.subplots()
        for name, (xs, ys) in (points or {}).items():
            axes.plot(xs, ys, "o", label=name, color=theme["muted"], markersize=4, alpha=0.8)
        for n, (name, values) in enumerate(series.items()):
            axes.plot(
                x,
                values,
                label=name,
                color=_color(n, theme),
                linestyle=DASHES[n % len(DASHES)],
                marker=MARKERS[n % len(MARKERS)] if len(x) <= 20 else None,
                markersize=5,
                linewidth=2,
            )
        if logx:
            axes.set_xscale("log")
            if len(x) <= 12:  # name the points themselves instead of powers of ten
                axes.set_xticks(x, _apart(x))
                axes.minorticks_off()
        axes.set_yscale("log" if logy else "linear")
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if len(series) + len(points or {}) > 1:
            axes.legend(fontsize=9)

    return _picture(draw, (4.7, 3.2), alt, caption)


def plane(
    vectors: Mapping[str, object],
    *,
    alt: str,
    caption: str,
    query: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> Picture:
    """Draw vectors of the plane as arrows from the origin, with their names at the tips.

    The one named `query` is drawn in a color of its own. With `weights`, each arrow named there
    is as thick as its weight is large.

    Raises:
        ValueError: there is no vector, one has not two entries, `query` names none, or `alt` or
            `caption` is empty.
    """
    vectors = {name: np.asarray(vector, dtype=float) for name, vector in vectors.items()}
    if not vectors:
        raise ValueError("vectors is empty, expected at least one")
    for name, vector in vectors.items():
        if vector.shape != (2,):
            raise ValueError(f"{name} has shape {vector.shape}, expected (2,)")
    if query is not None and query not in vectors:
        raise ValueError(f"query is {query!r}, expected one of {sorted(vectors)}")
    reach = 1.25 * max(np.abs(vector).max() for vector in vectors.values())

    def draw(figure, theme):
        axes = figure.subplots()
        axes.axhline(0, color=theme["muted"], linewidth=0.6)
        axes.axvline(0, color=theme["muted"], linewidth=0.6)
        for name, vector in vectors.items():
            color = _color(1 if name == query else 0, theme)
            thick = 2.0 if weights is None or name not in weights else 0.8 + 6 * weights[name]
            axes.annotate(
                "",
                xy=vector,
                xytext=(0, 0),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": color,
                    "linewidth": thick,
                    "linestyle": "--" if name == query else "-",
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
            )
            out = vector + 0.12 * reach * vector / max(np.linalg.norm(vector), 1e-12)
            axes.text(
                *out,
                name,
                ha="center",
                va="center",
                color=theme["ink"],
                bbox={"facecolor": theme["paper"], "edgecolor": "none", "pad": 1},
            )
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-reach, reach)
        axes.set_aspect("equal")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=8)

    return _picture(draw, (3.6, 3.6), alt, caption)


def timeline(events: Sequence[tuple[float, str]], *, alt: str, caption: str) -> Picture:
    """Draw dated events from top to bottom, evenly spaced, the year at the left.

    Raises:
        ValueError: there is no event, the dates are out of order, or `alt` or `caption` is empty.
    """
    years = [year for year, _ in events]
    if not events or years != sorted(years):
        raise ValueError(f"events have dates {years}, expected some, in order")

    def draw(figure, theme):
        axes = figure.subplots()
        rows = np.arange(len(events))[::-1]
        axes.plot(np.zeros(len(events)), rows, color=theme["muted"], linewidth=1.5, zorder=1)
        axes.plot(np.zeros(len(events)), rows, "o", color=_color(0, theme), markersize=7, zorder=2)
        for row, (year, name) in zip(rows, events, strict=True):
            axes.text(-0.4, row, f"{year:g}", ha="right", va="center", weight="bold")
            axes.text(0.4, row, name, ha="left", va="center")
        axes.set_xlim(-2, 10)
        axes.set_ylim(-0.6, len(events) - 0.4)
        axes.axis("off")

    return _picture(draw, (5.0, 0.38 * len(events) + 0.2), alt, caption)


def overlays(
    pairs: Mapping[str, tuple],
    *,
    alt: str,
    caption: str,
    label: str = "weight",
    top: float | None = None,
    columns: int = 4,
) -> Picture:
    """Draw weights of patches as shades, and over them the outline of the image they belong to.

    Each of `pairs` is an image, a matrix from 0 to 1 outlined where it crosses one half, and the
    weights, a matrix of fewer squares that covers the same area. All have the same shades; `top`
    is the value of the brightest (None: the largest weight).

    Raises:
        ValueError: there is no pair, an entry is no matrix or has no square, `top` is not positive,
            or `alt` or `caption` is empty.
    """
    pairs = {name: tuple(map(np.asarray, pair)) for name, pair in pairs.items()}
    if not pairs:
        raise ValueError("pairs is empty, expected at least one")
    for name, (image, weights) in pairs.items():
        if image.ndim != 2 or weights.ndim != 2 or not image.size or not weights.size:
            raise ValueError(
                f"{name} has shapes {image.shape} and {weights.shape}, expected an image and "
                "weights, both matrices"
            )
    if top is not None and not top > 0:
        raise ValueError(f"top is {top}, expected a positive number or None")
    high = top if top is not None else max(float(weights.max()) for _, weights in pairs.values())
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)

    def draw(figure, theme):
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for axes, (name, (image, weights)) in zip(grid.flat, pairs.items(), strict=False):
            height, width = image.shape
            right = np.linspace(0, width, weights.shape[1] + 1)
            down = np.linspace(0, height, weights.shape[0] + 1)
            mesh = axes.pcolormesh(
                right, down, weights, cmap="cividis", vmin=0, vmax=max(high, 1e-12)
            )
            mesh.set(edgecolor=theme["paper"], linewidth=0.5)
            if image.min() < 0.5 < image.max():
                centers = np.arange(width) + 0.5, np.arange(height) + 0.5
                # White inside black is seen on every shade of the map.
                for color, thick in (("#000000", 3.0), ("#ffffff", 1.4)):
                    axes.contour(*centers, image, [0.5], colors=color, linewidths=thick)
            axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
            axes.set_title(name, size=10)
        bar = figure.colorbar(mesh, ax=grid, shrink=0.8, pad=0.02)
        bar.set_label(label)
        bar.outline.set_visible(False)

    return _picture(draw, (min(1.25 * columns + 0.9, 5.6), 1.5 * rows + 0.1), alt, caption)


def spectrogram(levels, *, seconds: float, hertz: float, alt: str, caption: str) -> Picture:
    """Draw how loud each frequency is at each time: time to the right, frequency upward.

    Row i of `levels` (frequencies, frames), in dB, is a frequency, from 0 to `hertz`; column j is a
    moment, from 0 to `seconds`.

    Raises:
        ValueError: `levels` is no matrix or has no entry, `seconds` or `hertz` is not positive, or
            `alt` or `caption` is empty.
    """
    levels = np.asarray(levels, dtype=float)
    if levels.ndim != 2 or not levels.size:
        raise ValueError(f"levels has shape {levels.shape}, expected (frequencies, frames)")
    if not seconds > 0 or not hertz > 0:
        raise ValueError(f"seconds is {seconds}, hertz {hertz}, expected positive numbers")

    def draw(figure, theme):
        axes = figure.subplots()
        image = axes.imshow(
            levels,
            cmap="cividis",
            origin="lower",
            aspect="auto",
            interpolation="none",
            extent=(0, seconds, 0, hertz / 1000),
        )
        axes.set_xlabel("time (s)")
        axes.set_ylabel("frequency (kHz)")
        bar = figure.colorbar(image, ax=axes, pad=0.03)
        bar.set_label("level (dB)")
        bar.outline.set_visible(False)

    return _picture(draw, (5.6, 3.0), alt, caption)


def spreads(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    alt: str,
    caption: str,
    ylabel: str,
    columns: int = 3,
) -> Picture:
    """Draw every measurement as a dot over its name, and the mean of each name as a line.

    `groups` has a drawing for each entry: names and the values measured under them, such as one a
    seed. All drawings of a row share one scale.

    Raises:
        ValueError: there is no group, a group or name has no finite number, or `alt` or `caption`
            is empty.
    """
    if not groups:
        raise ValueError("groups is empty, expected at least one")
    for group, entries in groups.items():
        for name, values in entries.items():
            if not len(values) or not np.isfinite(np.asarray(values, dtype=float)).all():
                raise ValueError(f"{name} of {group} is {values!r}, expected finite numbers")
        if not entries:
            raise ValueError(f"{group} is empty, expected names and their values")
    columns = min(columns, len(groups))
    rows = -(-len(groups) // columns)

    def draw(figure, theme):
        grid = figure.subplots(rows, columns, squeeze=False, sharey="row")
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, (group, entries) in zip(grid.flat, groups.items(), strict=False):
            for place, values in enumerate(entries.values()):
                values = np.asarray(values, dtype=float)
                axes.plot(
                    np.full(len(values), place),
                    values,
                    MARKERS[0],
                    color=_color(0, theme),
                    markersize=5,
                    alpha=0.75,
                    markeredgewidth=0,
                )
                mean = [values.mean()] * 2
                axes.plot([place - 0.3, place + 0.3], mean, color=theme["ink"], linewidth=1.2)
            axes.set_xticks(range(len(entries)), entries, size=9)
            if sum(map(len, entries)) > 60 / columns:  # names side by side would touch
                axes.tick_params(axis="x", rotation=90)
            axes.set_xlim(-0.6, len(entries) - 0.4)
            axes.set_title(group, size=11)
        for axes in grid[:, 0]:
            axes.set_ylabel(ylabel)

    return _picture(draw, (5.6 if columns > 1 else 4.7, 2.3 * rows + 0.5), alt, caption)
