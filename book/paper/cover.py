"""The picture on the cover: attention weights under a causal mask, computed when it is drawn."""

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attn_course.reference import attention_weights, causal_mask

INK, PAPER = "#1a1a1a", "#ffffff"
SIZE = 16  # tokens


def _draw(axes):
    rng = np.random.default_rng(2017)
    q, k = rng.standard_normal((2, SIZE, 4)) * 1.5
    weights = attention_weights(q, k, causal_mask(SIZE, SIZE))
    for i, j in zip(*np.tril_indices(SIZE), strict=True):
        side = 0.12 + 0.82 * weights[i, j] ** 0.5  # an area is a weight
        corner = (j + 0.5 - side / 2, i + 0.5 - side / 2)
        axes.add_patch(Rectangle(corner, side, side, color="#0072B2", linewidth=0))
    axes.set(xlim=(0, SIZE), ylim=(SIZE, 0), aspect="equal")
    axes.set_axis_off()


def drawing() -> str:
    """Return the picture alone, as SVG."""
    figure = Figure(figsize=(5, 5), facecolor="none")
    FigureCanvasSVG(figure)
    _draw(figure.add_axes((0, 0, 1, 1)))
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def cover(title: str, author: str) -> bytes:
    """Return the cover as PNG, 1600 pixels wide and 2560 high, which shops and shelves ask for."""
    figure = Figure(figsize=(8, 12.8), dpi=200, facecolor=PAPER)
    FigureCanvasAgg(figure)
    _draw(figure.add_axes((0.1, 0.08, 0.8, 0.5)))
    first, _, rest = title.partition(", ")
    text = {"x": 0.1, "color": INK, "family": "DejaVu Sans"}
    figure.text(**text, y=0.85, s=first, size=56, weight="bold")
    figure.text(**text, y=0.795, s=rest, size=27)
    figure.text(**text, y=0.72, s=author, size=18)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
