"""Reading: which character comes next? Attention, recurrence and convolution, equally large.

The text is what the operations of web services do (`attn_course.data.operations`), one after the
other. The models are trained on pieces of `CONTEXT` characters and read pieces four times as long
of the documentation of other services. Settings were chosen on documents held back from those for
training.
"""

import functools
import math
import re

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications.studies import Study
from attn_course.applications.training import Recipe
from attn_course.data.operations import operations
from attn_course.fast import (
    Encoder,
    EncoderLayer,
    alibi_bias,
    causal_mask,
    pre_norm,
    rotary,
    window_mask,
)

CONTEXT, LONGER = 128, 4
WINDOW = 32  # keys, in each of two layers
LETTERS, BEGUN = 5, 2  # the least letters of a word that is followed, and those already read
SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))  # every other character is read as a space


class Attention(nn.Module):
    """Two encoder layers under a causal mask: a small decoder-only transformer.

    Queries and keys are turned by their positions. What extends it changes what the scores know
    of positions, and nothing that is learned.
    """

    HEADS = 4
    rotate = staticmethod(rotary)

    def __init__(self, width: int = 88, dropout: float = 0.0):
        super().__init__()
        self.width = width
        options = dict(dropout=dropout, residual=pre_norm, rotate=self.rotate)
        layers = [EncoderLayer(width, self.HEADS, 2 * width, **options) for _ in range(2)]
        self.encoder = Encoder(layers, norm=nn.LayerNorm(width))

    def seen(self, length: int, device: torch.device) -> Tensor:
        """Return which key each query may look at."""
        return causal_mask(length, length, device=device)

    def bias(self, length: int, device: torch.device) -> Tensor | float:
        """Return what is added to the scores."""
        return 0.0

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        at = x.shape[-2], x.device
        return self.encoder(x, self.seen(*at), bias=self.bias(*at))


class SlopedAttention(Attention):
    """The same without turns: scores fall with the distance (ALiBi)."""

    rotate = None

    def bias(self, length: int, device: torch.device) -> Tensor:
        """Return the slopes times the distances."""
        return alibi_bias(self.HEADS, length, length, device=device)


class WindowAttention(Attention):
    """The same with turns, where each layer sees the last `WINDOW` rows."""

    def seen(self, length: int, device: torch.device) -> Tensor:
        """Return which key each query may look at."""
        return window_mask(length, length, WINDOW, device=device)


class Recurrence(nn.Module):
    """Two layers of gated recurrent units (GRU)."""

    def __init__(self, width: int = 101):
        super().__init__()
        self.width = width
        self.layers = nn.GRU(width, width, num_layers=2, batch_first=True)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.layers(x)[0]


class Convolution(nn.Module):
    """Four causal convolutions of kernel 5, each before a ReLU, with residuals and norms.

    The steps between the keys of a kernel are 1, 2, 4 and 8, so that a row sees 61 rows.
    """

    KERNEL, STEPS = 5, (1, 2, 4, 8)

    def __init__(self, width: int = 80):
        super().__init__()
        self.width = width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.STEPS)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, self.KERNEL, dilation=step) for step in self.STEPS
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        for norm, layer, step in zip(self.norms, self.layers, self.STEPS, strict=True):
            columns = F.pad(norm(x).mT, ((self.KERNEL - 1) * step, 0))
            x = x + F.relu(layer(columns)).mT
        return self.norm(x)


BODIES = {
    "attention": Attention,
    "recurrence": Recurrence,
    "convolution": Convolution,
    "sloped": SlopedAttention,
    "window": WindowAttention,
}


class Reader(nn.Module):
    """Score the symbol after each symbol, having read those before it by `body`."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.embed = nn.Embedding(len(SYMBOLS), body.width)
        self.body = body
        self.read = nn.Linear(body.width, len(SYMBOLS))

    def forward(self, symbols: Int[Tensor, "b n"]) -> Float[Tensor, "b n symbols"]:
        return self.read(self.body(self.embed(symbols)))


@functools.cache
def texts() -> tuple[np.ndarray, np.ndarray]:
    """Return the symbols of the text for training and of the text for testing, as numbers."""
    number = np.full(256, SYMBOLS.index(" "), dtype=np.uint8)
    number[[ord(symbol) for symbol in SYMBOLS]] = range(len(SYMBOLS))

    def of(part):
        order = np.random.default_rng(0).permutation(len(part))  # services side by side are alike
        documents = (f"{part[i].name}\n{part[i].summary} {part[i].text}\n" for i in order)
        data = "".join(documents).encode("latin-1", errors="replace")
        return number[np.frombuffer(data, dtype=np.uint8)]

    train, test = operations()
    return of(train), of(test)


def pieces(text: np.ndarray, starts: np.ndarray, length: int, device) -> Int[Tensor, "b n"]:
    """Return `length` symbols of `text` from each of `starts`."""
    return torch.from_numpy(text[starts[:, None] + np.arange(length)].astype(np.int64)).to(device)


def loss(
    model: nn.Module, rng: np.random.Generator, size: int = 32, text: np.ndarray | None = None
) -> Tensor:
    """Return the mean cross-entropy on random pieces of the text for training (or of `text`)."""
    text = texts()[0] if text is None else text
    device = next(model.parameters()).device
    starts = rng.integers(len(text) - CONTEXT, size=size)
    symbols = pieces(text, starts, CONTEXT + 1, device)
    return F.cross_entropy(model(symbols[:, :-1]).flatten(0, 1), symbols[:, 1:].flatten())


@torch.no_grad()
def costs(
    model: nn.Module, symbols: Int[Tensor, "b n"], at_once: int = 16
) -> Float[np.ndarray, "b n-1"]:
    """Return the bits that each symbol but the first costs, given those before it in its row."""
    rows = [
        F.cross_entropy(model(some[:, :-1]).mT, some[:, 1:], reduction="none").double().cpu()
        for some in symbols.split(at_once)
    ]
    return torch.cat(rows).numpy() / math.log(2)


def evenly(text: np.ndarray, length: int, count: int, device) -> Int[Tensor, "b n"]:
    """Return `count` pieces of `length` symbols that lie evenly over `text`."""
    starts = np.linspace(0, len(text) - length, count).astype(int)
    return pieces(text, starts, length, device)


def bits(
    model: nn.Module, text: np.ndarray, length: int = LONGER * CONTEXT, count: int = 128
) -> Float[np.ndarray, " length"]:
    """Return the mean bits that the symbol costs which follows 1, 2, ... `length` symbols.

    The mean is over `count` pieces that lie evenly over the text.
    """
    device = next(model.parameters()).device
    return costs(model, evenly(text, length + 1, count, device)).mean(axis=0)


def followed(symbols: Int[np.ndarray, " n"]) -> tuple[list[int], list[int]]:
    """Return where words go on that stood in `symbols` before, and where words that did not.

    Words are runs of `LETTERS` or more letters. The places are those of their letters from the one
    after the first `BEGUN` on. A word counts as seen if the same word ended before it began.

    >>> known, new = followed(np.array([SYMBOLS.index(x) for x in "a table, a chair, a table"]))
    >>> known, new
    ([22, 23, 24], [4, 5, 6, 13, 14, 15])
    """
    text = "".join(SYMBOLS[x] for x in symbols)
    known, new, words = [], [], set()
    for word in re.finditer(rf"(?<![A-Za-z])[A-Za-z]{{{LETTERS},}}(?![A-Za-z])", text):
        if word.start() > 0:  # the first may have begun before the piece
            places = known if word[0] in words else new
            places.extend(range(word.start() + BEGUN, word.end()))
            words.add(word[0])
    return known, new


def evaluate(model: nn.Module, count: int = 1024) -> dict[str, float]:
    """Return the bits a symbol costs: in the context trained for, beyond it, and in training.

    Also within words, of which the first letters are given: of those that the context holds
    already, and of others. These are means over `count` pieces.
    """
    train, test = texts()
    held, known = bits(model, test), bits(model, train)
    second = slice(CONTEXT // 2, CONTEXT)
    symbols = evenly(test, CONTEXT + 1, count, next(model.parameters()).device)
    each = costs(model, symbols)
    seen, unseen = [], []
    for row, found in zip(each, map(followed, symbols.cpu().numpy()), strict=True):
        for places, values in zip(found, (seen, unseen), strict=True):
            values.extend(row[place - 1] for place in places)  # the first symbol costs nothing
    return {
        "bits": held[:CONTEXT].mean(),
        "bits_late": held[second].mean(),
        "bits_beyond": held[CONTEXT:].mean(),
        "bits_train": known[:CONTEXT].mean(),
        "bits_word_again": np.mean(seen),
        "bits_word_new": np.mean(unseen),
    }


def studies() -> list[Study]:
    """Return a study for each of the bodies."""
    # Of 0.001, 0.003 and 0.01 the last was best for each of the first three, after 400 steps.
    recipe = Recipe(steps=800, learning_rate=1e-2)
    return [
        Study(
            f"reading/{name}",
            lambda body=body: Reader(body()),
            evaluate,
            loss,
            recipe,
            stored=name == "attention",
        )
        for name, body in BODIES.items()
    ]
