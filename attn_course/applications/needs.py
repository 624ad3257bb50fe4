"""Needs: how many parameters and how much data, compared with rivals of the same size?

*Parameters*: the readers of `attn_course.applications.reading` in two smaller sizes, on the same
text. *Data*: those of the middle size on a hundredth and a tenth of the text, and the Vision
Transformer and the convolution of `attn_course.applications.images` on fewer digits.

A hundredth of the text is seen so often that the number of steps decides. It is chosen on the last
tenth of the text, which the parts do not reach into. The digits keep the settings that they have on
all images. Nothing is chosen on data for testing.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor, nn

from attn_course.applications import images, reading, tuning
from attn_course.applications.reading import BODIES, CONTEXT, Reader
from attn_course.applications.studies import Study

WIDTHS = {  # small and middle, each beside two others of as many parameters
    "attention": (16, 40),
    "recurrence": (18, 46),
    # At the rate of the others, which its sweep in `attn_course.applications.sensitivity` finds too
    # small, the convolution is worse in training too: so it is trained anew in the large size.
    "convolution": (15, 37, 80),
}
RATES = {"attention": 1e-2, "recurrence": 1e-2, "convolution": 3e-2}
STEPS = {100: (100, 200, 400, 800), 10: (800,)}  # by the number of parts that the text is cut into
DIGITS = (125, 500)
VIEWERS = ("vit-7", "conv")


def part(parts: int) -> np.ndarray:
    """Return the first of `parts` equal parts of the text for training."""
    text, _ = reading.texts()
    return text[: len(text) // parts]


def part_loss(model: nn.Module, rng: np.random.Generator, parts: int) -> Tensor:
    """Return the mean cross-entropy on 32 random pieces of the first of `parts` parts."""
    return reading.loss(model, rng, text=part(parts))


def bits(model: nn.Module) -> dict[str, float]:
    """Return the bits that a symbol costs in the text for testing, as `reading.evaluate` does."""
    _, test = reading.texts()
    return {"bits": reading.bits(model, test)[:CONTEXT].mean()}


def part_bits(model: nn.Module) -> dict[str, float]:
    """Return these bits, and as `held` those in the last tenth of the text for training."""
    _, held = tuning.fitted_and_held()
    return bits(model) | {"held": reading.bits(model, held, length=CONTEXT).mean()}


def digits_loss(model: nn.Module, rng: np.random.Generator, count: int) -> Tensor:
    """Return the cross-entropy on random images of the first `count` for training."""
    train, _ = images.data()
    return images.loss(model, rng, part=train[:count])


def studies() -> list[Study]:
    """Return the studies of sizes, of parts of the text and of parts of the digits.

    They are named ``needs/BODY/width WIDTH``, ``needs/BODY/1 of PARTS, STEPS steps`` and
    ``needs/MODEL/COUNT digits``.
    """
    readers = {study.name: study for study in reading.studies()}
    viewers = {study.name: study for study in images.studies()}
    found = []
    for body, widths in WIDTHS.items():
        recipe = replace(readers[f"reading/{body}"].recipe, learning_rate=RATES[body])
        builds = [lambda body=body, width=width: Reader(BODIES[body](width)) for width in widths]
        found += [
            Study(f"needs/{body}/width {width}", build, bits, reading.loss, recipe)
            for width, build in zip(widths, builds, strict=True)
        ]
        found += [
            Study(
                f"needs/{body}/1 of {parts}, {steps} steps",
                builds[1],
                part_bits,
                partial(part_loss, parts=parts),
                replace(recipe, steps=steps, warmup=steps // 8),
            )
            for parts, options in STEPS.items()
            for steps in options
        ]
    for name in VIEWERS:
        like = viewers[f"digits/{name}"]
        found += [
            replace(
                like, name=f"needs/{name}/{count} digits", loss=partial(digits_loss, count=count)
            )
            for count in DIGITS
        ]
    return [replace(study, stored=False) for study in found]
