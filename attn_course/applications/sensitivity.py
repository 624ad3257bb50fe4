"""Sensitivity: does a wrong learning rate cost attention more than it costs its rivals?

Attention goes through six learning rates in the sweeps of `attn_course.applications.tuning`. Here a
recurrence and a convolution of as many parameters go through the same rates with the same steps on
the same text, and so does attention with two remedies: a longer warm-up, and normalized queries and
keys.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import Tensor, nn

from attn_course.applications import tuning
from attn_course.applications.reading import Convolution, Reader, Recurrence
from attn_course.applications.studies import Study

SWEPT = tuning.SWEEPS["learning_rate"]
RATES = (*SWEPT, 0.3, 1.0)  # the rivals bear more than the sweep goes up to


class Normalized(tuning.Body):
    """The layers of a reader with queries and keys that are normalized before they are turned.

    The gains of the norm are learned, once for all layers, heads, queries and keys. Wortsman et al.
    (2023), section 3.1.1, take a layer norm.
    """

    def __init__(self, settings: tuning.Settings):
        super().__init__(settings)
        self.norm = nn.RMSNorm(settings.width // settings.heads)

    def rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return queries or keys normalized, then turned by their positions."""
        return super().rotated(self.norm(x), positions)


PLAIN, LONGER = tuning.Settings(), 100
KINDS = {  # how the body is made, the steps of the warm-up, and the rates
    "attention": (partial(tuning.Body, PLAIN), PLAIN.warmup, RATES[len(SWEPT) :]),
    "recurrence": (partial(Recurrence, 73), PLAIN.warmup, RATES),
    "convolution": (partial(Convolution, 58), PLAIN.warmup, RATES),
    "normalized": (partial(Normalized, PLAIN), PLAIN.warmup, RATES[2:]),
    "warm-up": (partial(tuning.Body, PLAIN), LONGER, (3e-2, 1e-1)),
}


def studies() -> list[Study]:
    """Return a study for each kind and learning rate, named ``sensitivity/KIND/RATE``."""
    like = tuning.sweeps()[0]  # they differ in what is varied alone
    return [
        dataclasses.replace(
            like,
            name=f"sensitivity/{kind}/{rate}",
            build=lambda body=body: Reader(body()),
            recipe=dataclasses.replace(like.recipe, learning_rate=rate, warmup=warmup),
        )
        for kind, (body, warmup, rates) in KINDS.items()
        for rate in rates
    ]


def span(rates: Sequence[float], costs: Sequence[float], margin: float = 0.1) -> float:
    """Return the factor over which the rate may vary at costs at most `margin` above the least.

    Between two `rates`, which ascend, the cost is taken to be linear in the logarithm of the rate.
    What lies beyond them is not counted.

    >>> round(span([1, 10, 100, 1000], [30.0, 10.0, 10.0, 12.0]), 6)  # 10 ** (0.05 + 1 + 0.5)
    35.481339
    """
    costs = np.asarray(costs, dtype=float)
    limit = (1 + margin) * costs.min()
    low, high = np.minimum(costs[1:], costs[:-1]), np.maximum(costs[1:], costs[:-1])
    # A pair of equal costs lies below the limit as a whole, or not at all.
    within = np.clip((limit - low) / np.maximum(high - low, np.finfo(float).eps), 0, 1)
    return float(np.exp(within @ np.diff(np.log(rates))))
