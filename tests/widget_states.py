"""The figures that answer, the pages they stand on, and states to try them in."""

import itertools
import random

from attn_course import widgets

PAGES = {
    "temperature": "book/concepts/softmax",
    "query": "book/concepts/query_key_value",
    "masks": "book/algorithm/masks",
    "heads": "book/algorithm/multi_head",
    "rotation": "book/algorithm/positions",
    "online": "book/algorithm/tiled",
    "cache": "book/algorithm/cache",
}


def values(control) -> list:
    """Return every value that `control` can take, in its order."""
    if isinstance(control, widgets.Switch):
        return [False, True]
    if isinstance(control, widgets.Choice):
        return [value for value, _ in control.options]
    return list(control.values) or [
        round(control.low + n * control.step, 6) for n in range(control.count)
    ]


def states(name: str, most: int) -> list[dict]:
    """Return all states of a figure, or a seeded choice of `most` where there are more."""
    controls = getattr(widgets, name)().controls
    axes = {key: values(c) for key, c in controls.items() if not isinstance(c, widgets.Button)}
    total = 1
    for axis in axes.values():
        total *= len(axis)
    if total <= most:
        return [dict(zip(axes, state, strict=True)) for state in itertools.product(*axes.values())]
    draw = random.Random(name)
    return [{key: draw.choice(axis) for key, axis in axes.items()} for _ in range(most)]
