"""Read speech: two clips of sound as it was recorded.

The package moonshine-voice (Moonshine AI, MIT) ships them as examples for its recognizer of speech.
`two_cities` is the first sentence of *A Tale of Two Cities* (Charles Dickens, 1859), 44 seconds;
`beckett` is six short sentences, 10 seconds. The package does not say who reads.
"""

import dataclasses
import wave

import numpy as np
from jaxtyping import Float

from attn_course.data.packages import damaged, package_file

CLIPS = {"two_cities": (2_129_958, 48_000), "beckett": (159_414, 16_000)}  # samples, rate


@dataclasses.dataclass(frozen=True)
class Clip:
    """Sound of one microphone: `samples` from −1 to 1, of which `rate` make a second."""

    samples: Float[np.ndarray, " samples"]
    rate: int  # Hz

    def part(self, start: float, end: float) -> "Clip":
        """Return what sounds from `start` to `end`, both in seconds.

        >>> Clip(np.arange(8.0), rate=4).part(0.5, 1.25).samples
        array([2., 3., 4.])

        Raises:
            ValueError: that is not a part of the clip.
        """
        seconds = len(self.samples) / self.rate
        if not 0 <= start < end <= seconds:
            raise ValueError(f"asked for {start} to {end} s of a clip of {seconds:g} s")
        first, last = round(start * self.rate), round(end * self.rate)
        return Clip(self.samples[first:last], self.rate)


def speech(name: str) -> Clip:
    """Return the clip `name`, one of `CLIPS`.

    Raises:
        ValueError: there is no such clip, or its file is damaged.
        ModuleNotFoundError: moonshine-voice is not installed; the message is the command that
            installs it.
        FileNotFoundError: moonshine-voice has not the file.
    """
    if name not in CLIPS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(CLIPS)}")
    path = package_file("moonshine_voice", "assets", f"{name}.wav")
    count, rate = CLIPS[name]
    expected = f"{count} samples of 16 bits at {rate} Hz, one channel"
    try:
        with wave.open(str(path), "rb") as file:
            form = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise damaged(path, expected) from error
    if form != (1, 2, rate) or len(data) != 2 * count:
        raise damaged(path, expected)
    return Clip(np.frombuffer(data, dtype="<i2").astype(np.float32) / 2**15, rate)
