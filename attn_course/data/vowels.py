"""Japanese vowels: who of nine speakers says them?

Nine men say the vowels /ae/. Each utterance is a sequence of 7 to 29 frames, each frame 12 LPC
cepstral coefficients: how the vocal tract shapes the sound at that moment. A frame is 25.6 ms of
sound at 10 kHz, and a frame begins 6.4 ms after the one before it. The sound itself is not among
the data. 270 utterances are for training, 30 of each speaker, and 370, recorded on other occasions,
for testing.

M. Kudo, J. Toyama and M. Shimbo, *Multidimensional curve classification using passing-through
regions*, Pattern Recognition Letters 20, 1999. UCI Machine Learning Repository, CC BY 4.0,
https://doi.org/10.24432/C5NS47; the files are those of the package aeon (BSD-3-Clause).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from attn_course.data.packages import damaged, package_file

FRAMES, CHANNELS, SPEAKERS = 29, 12, 9


@dataclasses.dataclass(frozen=True)
class Vowels:
    """Utterances of unequal length: row i of `frames` is 0 from frame ``lengths[i]`` on."""

    frames: Float[np.ndarray, "utterances 29 12"]
    lengths: Int[np.ndarray, " utterances"]
    speakers: Int[np.ndarray, " utterances"]  # 0 to 8


def vowels() -> tuple[Vowels, Vowels]:
    """Return the utterances for training and those for testing, as their makers split them.

    Raises:
        ModuleNotFoundError: aeon is not installed; the message is the command that installs it.
        FileNotFoundError: aeon has not the files.
        ValueError: a file is damaged.
    """
    return _read("TRAIN", 270), _read("TEST", 370)


def _read(part: str, utterances: int) -> Vowels:
    path = package_file("aeon", "datasets", "data", "JapaneseVowels", f"JapaneseVowels_{part}.ts")
    expected = f"{utterances} utterances of {CHANNELS} channels and at most {FRAMES} frames"
    frames = np.zeros((utterances, FRAMES, CHANNELS), dtype=np.float32)
    lengths = np.zeros(utterances, dtype=np.int64)
    speakers = np.zeros(utterances, dtype=np.int64)
    _, _, data = path.read_text(errors="replace").partition("@data\n")
    rows = data.splitlines()
    if len(rows) != utterances:
        raise damaged(path, expected)
    for i, row in enumerate(rows):
        *channels, speaker = row.split(":")
        try:
            values = np.array([channel.split(",") for channel in channels], dtype=np.float32).T
            if values.shape[1:] != (CHANNELS,):
                raise ValueError(f"{len(channels)} channels")
            lengths[i], speakers[i] = len(values), int(speaker) - 1
            frames[i, : len(values)] = values
        except ValueError as error:
            raise damaged(path, f"{expected}; line {i + 1} of the data is not one") from error
    if not np.isfinite(frames).all() or not set(speakers) <= set(range(SPEAKERS)):
        raise damaged(path, expected)
    return Vowels(frames, lengths, speakers)
