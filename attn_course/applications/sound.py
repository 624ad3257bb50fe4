"""Sound: who is speaking? Frames of speech, encoded, pooled into one vector, classified.

The settings were chosen on the training utterances alone: the first, the second and the last ten of
each speaker were held out in turn. The test utterances took no part in that.
"""

import dataclasses
import functools
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications.studies import Study
from attn_course.applications.training import Recipe
from attn_course.data import Clip, Vowels, vowels
from attn_course.data.vowels import CHANNELS, FRAMES, SPEAKERS
from attn_course.fast import (
    AttentionPooling,
    Encoder,
    EncoderLayer,
    padding_mask,
    pre_norm,
    rotary,
    softmax,
)
from attn_course.fast.softmax import masked

POOLINGS = ("attention", "mean", "last")


class MeanPooling(nn.Module):
    """The mean of the rows that the mask lets through."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        seen = mask[..., None].to(x.dtype)
        return (x * seen).sum(dim=-2) / seen.sum(dim=-2)


class LastPooling(nn.Module):
    """The last of the rows that the mask lets through, as of a recurrent network."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        last = mask.sum(dim=-1) - 1
        return x[torch.arange(len(x), device=x.device), last]


class SpeakerModel(nn.Module):
    """Classify utterances by speaker: `layers` encoder layers over the frames, pooling, a readout.

    `pooling` is one of `POOLINGS`. With no layers a small network sees each frame alone, and the
    pooling is the only step in which frames meet.
    """

    def __init__(self, pooling: str, width: int = 64, layers: int = 2, dropout: float = 0.2):
        super().__init__()
        poolings = {
            "attention": partial(AttentionPooling, width),
            "mean": MeanPooling,
            "last": LastPooling,
        }
        each = [nn.Linear(CHANNELS, 2 * width), nn.GELU(), nn.Dropout(dropout)]
        self.embed = nn.Linear(CHANNELS, width)
        if not layers:
            self.embed = nn.Sequential(*each, nn.Linear(2 * width, width))
        self.encoder = Encoder(
            [
                EncoderLayer(width, 4, 2 * width, dropout=dropout, residual=pre_norm, rotate=rotary)
                for _ in range(layers)
            ],
            norm=nn.LayerNorm(width),
        )
        self.pool = poolings[pooling]()
        self.read = nn.Linear(width, SPEAKERS)

    def forward(
        self, frames: Float[Tensor, "b n channels"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b speakers"]:
        """Return the score of each speaker for utterances of `lengths` frames."""
        x, mask = self.encode(frames, lengths)
        return self.read(self.pool(x, mask))

    def encode(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that are pooled, and which of them are frames and not padding."""
        mask = padding_mask(lengths, frames.shape[-2])
        return self.encoder(self.embed(frames), mask), mask[:, 0, 0]

    def weights(
        self, frames: Float[Tensor, "b n channels"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b n"]:
        """Return the weight that attention pooling gives each frame."""
        x, mask = self.encode(frames, lengths)
        return softmax(masked(x @ self.pool.query, mask))


@functools.cache
def normalized() -> tuple[Vowels, Vowels]:
    """Return the vowels for training and for testing, scaled by those for training."""
    train, test = vowels()
    return scaled(train, by=train), scaled(test, by=train)


def scaled(part: Vowels, by: Vowels) -> Vowels:
    """Return `part` with each channel as the frames of `by` say: mean 0, deviation 1."""
    inside = np.arange(FRAMES) < by.lengths[:, None]
    mean, deviation = by.frames[inside].mean(axis=0), by.frames[inside].std(axis=0)
    inside = np.arange(FRAMES) < part.lengths[:, None]
    frames = (part.frames - mean) / deviation * inside[..., None]
    return Vowels(frames.astype(np.float32), part.lengths, part.speakers)


def batch(part: Vowels, rows: np.ndarray, device) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames, lengths and speakers of `rows` as tensors."""
    arrays = part.frames[rows], part.lengths[rows], part.speakers[rows]
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def varied(frames: Tensor, lengths: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return utterances as they might have been recorded: a piece, another microphone, noise.

    At least six tenths of the frames stay, without a gap. All frames of an utterance are shifted by
    one vector of deviation 0.4, and each by one of its own of deviation 0.5.
    """
    count, device = len(lengths), frames.device

    def normal(*shape):
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(device)

    share, start = torch.from_numpy(rng.random((2, count))).to(device)
    kept = ((0.6 + 0.4 * share) * lengths).ceil().long()
    first = (start * (lengths - kept + 1)).long()
    places = (first[:, None] + torch.arange(FRAMES, device=device)).clamp(max=FRAMES - 1)
    pieces = frames.gather(1, places[..., None].expand(-1, -1, CHANNELS))
    return pieces + 0.4 * normal(count, 1, CHANNELS) + 0.5 * normal(*frames.shape), kept


def loss(model: nn.Module, rng: np.random.Generator, size: int = 32) -> Tensor:
    """Return the cross-entropy on a random batch of training utterances, each `varied`."""
    train, _ = normalized()
    device = next(model.parameters()).device
    frames, lengths, speakers = batch(train, rng.integers(len(train.lengths), size=size), device)
    return F.cross_entropy(model(*varied(frames, lengths, rng)), speakers)


@torch.no_grad()
def evaluate(model: nn.Module) -> dict[str, float]:
    """Return the share of the test utterances whose speaker is recognized."""
    _, test = normalized()
    device = next(model.parameters()).device
    frames, lengths, speakers = batch(test, np.arange(len(test.lengths)), device)
    right = model(frames, lengths).argmax(dim=-1) == speakers
    return {"accuracy": right.float().mean().item()}


def studies() -> list[Study]:
    """Return each pooling over two encoder layers, and over frames that know of no other."""
    recipe = Recipe(steps=500, learning_rate=2e-3, weight_decay=0.1)
    return [
        Study(f"vowels/{before}{pooling}", build, evaluate, loss, recipe)
        for before, layers in (("", 2), ("frames-", 0))
        for pooling in POOLINGS
        for build in [partial(SpeakerModel, pooling, layers=layers)]
    ]


@dataclasses.dataclass(frozen=True)
class Spectrogram:
    """How loud each frequency is at each time: 0 dB is the loudest of all, none is below −80 dB."""

    levels: Float[np.ndarray, "frequencies frames"]  # dB
    frequencies: Float[np.ndarray, " frequencies"]  # Hz
    times: Float[np.ndarray, " frames"]  # s, of the middle of each frame


def spectrogram(clip: Clip, frame: float = 0.025, hop: float = 0.01) -> Spectrogram:
    """Return the short-time Fourier transform of `clip`: a spectrum of a frame at every `hop`.

    `frame` and `hop` are in seconds. Each frame is tapered by a Hann window.

    Raises:
        ValueError: `hop` is shorter than one sample, or the clip shorter than one frame.
    """
    length, step = round(frame * clip.rate), round(hop * clip.rate)
    if step < 1 or not 2 <= length <= len(clip.samples):
        raise ValueError(
            f"frame is {frame} s, hop {hop} s, for {len(clip.samples)} samples at {clip.rate} Hz"
        )
    frames = np.lib.stride_tricks.sliding_window_view(clip.samples, length)[::step]
    amplitudes = np.abs(np.fft.rfft(frames * np.hanning(length))).T
    loudest = max(amplitudes.max(), np.finfo(float).tiny)
    return Spectrogram(
        levels=20 * np.log10(np.maximum(amplitudes / loudest, 1e-4)),
        frequencies=np.fft.rfftfreq(length, 1 / clip.rate),
        times=(np.arange(len(frames)) * step + (length - 1) / 2) / clip.rate,
    )
