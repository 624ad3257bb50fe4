"""Translation: dates as they are written in 16 languages, into ISO 8601, character by character.

The settings of the training (learning rate, size of a batch, steps) were chosen on the dates for
validation; those for testing were looked at once, at the end.
"""

import dataclasses
import datetime
import functools
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications.studies import Study
from attn_course.applications.training import Recipe
from attn_course.data.dates import LANGUAGES, STYLES, dates, fields, written
from attn_course.fast import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    causal_mask,
    pre_norm,
    sinusoidal_positions,
)

MEMORIES = ("all", "mean")
PADDING, UNKNOWN = 0, 1  # numbers that stand for no character and for one never seen
OUTPUT = "0123456789-"
BIN = 5  # characters, the width of the groups of lengths in `evaluate`
START, LENGTH = len(OUTPUT), len("2021-09-05")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A date as it is written in a language and a style, and as ISO 8601 writes it."""

    text: str
    iso: str
    language: str
    style: str


def pairs(
    days: Sequence[datetime.date],
    languages: Iterable[str] = LANGUAGES,
    styles: Iterable[str] = STYLES,
) -> list[Pair]:
    """Return each of `days` in each of `languages` and `styles`."""
    return [
        Pair(written(day, language, style), day.isoformat(), language, style)
        for day in days
        for language in languages
        for style in styles
    ]


@functools.cache
def parts() -> tuple[list[datetime.date], ...]:
    """Return the dates for training, for validation and for testing."""
    return dates()


@functools.cache
def alphabet() -> str:
    """Return the characters with which 300 of the training dates are written."""
    texts = {pair.text for pair in pairs(parts()[0][:300])}
    return "".join(sorted(set("".join(texts))))


@functools.cache
def _numbers() -> dict[str, int]:
    return {character: n for n, character in enumerate(alphabet(), UNKNOWN + 1)}


def encoded(texts: Sequence[str], device="cpu") -> Int[Tensor, "b j"]:
    """Return the numbers of the characters of `texts`, padded at the end to one length."""
    numbers, longest = _numbers(), max(map(len, texts))
    rows = [
        [numbers.get(character, UNKNOWN) for character in text] + [PADDING] * (longest - len(text))
        for text in texts
    ]
    return torch.tensor(rows, device=device)


def targets(texts: Sequence[str], device="cpu") -> Int[Tensor, "b 10"]:
    """Return the places in `OUTPUT` of the characters of ISO dates.

    >>> targets(["2021-09-05"])
    tensor([[ 2,  0,  2,  1, 10,  0,  9, 10,  0,  5]])
    """
    return torch.tensor([[OUTPUT.index(c) for c in text] for text in texts], device=device)


class TranslationModel(nn.Module):
    """A transformer (Vaswani et al. 2017) that reads a text and writes ten characters.

    With `memory` "all", the decoder attends to the encoder's rows, one for each character of the
    text. With "mean", it gets one row, their mean: one vector for the text.
    """

    def __init__(
        self,
        memory: str,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
    ):
        super().__init__()
        if memory not in MEMORIES:
            raise ValueError(f"memory is {memory!r}, expected one of {', '.join(MEMORIES)}")
        self.memory, self.width = memory, width
        options = {"dropout": dropout, "residual": pre_norm}
        self.read = nn.Embedding(UNKNOWN + 1 + len(alphabet()), width)
        self.encoder = Encoder(
            [EncoderLayer(width, heads, 2 * width, **options) for _ in range(layers)],
            norm=nn.LayerNorm(width),
        )
        self.written = nn.Embedding(START + 1, width)
        self.decoder = Decoder(
            [DecoderLayer(width, heads, 2 * width, **options) for _ in range(layers)],
            norm=nn.LayerNorm(width),
        )
        self.write = nn.Linear(width, len(OUTPUT))

    def forward(
        self, texts: Int[Tensor, "b j"], before: Int[Tensor, "b i"]
    ) -> Float[Tensor, "b i s"]:
        """Return the score of each output character that may follow each of those `before`.

        `before` begins with `START`. Row i sees the characters up to i and the whole text.
        """
        memory, mask = self.encode(texts)
        return self.decode(before, memory, mask)

    def encode(self, texts: Int[Tensor, "b j"]):
        """Return the rows that the decoder attends to, and their mask, False where padding is."""
        mask = (texts != PADDING)[:, None, None]  # (b, heads, i, j)
        rows = self.encoder(self.placed(self.read(texts)), mask)
        if self.memory == "all":
            return rows, mask
        seen = (texts != PADDING)[..., None].to(rows.dtype)
        mean = (rows * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True)
        return mean, mask.any(dim=-1, keepdim=True)

    def decode(self, before, memory, mask) -> Tensor:
        """Return what `forward` returns, from the encoder's rows."""
        length = before.shape[1]
        causal = causal_mask(length, length, device=before.device)
        x = self.placed(self.written(before))
        return self.write(self.decoder(x, memory, causal, mask))

    def placed(self, x: Tensor) -> Tensor:
        """Return the rows of `x` with the vectors of their positions added."""
        return x + sinusoidal_positions(*x.shape[1:], device=x.device, dtype=x.dtype)

    @torch.no_grad()
    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return the dates that `texts` mean, decoded greedily."""
        device = next(self.parameters()).device
        memory, mask = self.encode(encoded(texts, device))
        out = torch.full((len(texts), 1), START, device=device)
        for _ in range(LENGTH):
            last = self.decode(out, memory, mask)[:, -1]
            out = torch.cat([out, last.argmax(dim=-1, keepdim=True)], dim=1)
        return ["".join(OUTPUT[n] for n in row) for row in out[:, 1:].tolist()]

    @torch.no_grad()
    def alignments(
        self, texts: Int[Tensor, "b j"], before: Int[Tensor, "b i"]
    ) -> Float[Tensor, "layers b heads i keys"]:
        """Return the weights of the cross-attention in each layer of the decoder.

        The arguments are those of a call. Row i of the weights belongs to the character that
        follows the first i + 1 of those `before`.
        """
        found = []

        def keep(attention, args, kwargs):
            found.append(attention.weights(args[0], kwargs["k"], kwargs["mask"]))

        hooks = [
            layer.memory_attention.register_forward_pre_hook(keep, with_kwargs=True)
            for layer in self.decoder.layers
        ]
        try:
            self(texts, before)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack(found)


def shifted(y: Int[Tensor, "b i"]) -> Int[Tensor, "b i"]:
    """Return what stands before each character of `y`.

    >>> shifted(torch.tensor([[2, 0, 5]]))
    tensor([[11,  2,  0]])
    """
    return torch.cat([torch.full_like(y[:, :1], START), y[:, :-1]], dim=1)


def loss(model: nn.Module, rng: np.random.Generator, size: int = 64) -> Tensor:
    """Return the cross-entropy on random training dates, each in a random language and style."""
    train, _, _ = parts()
    device = next(model.parameters()).device
    counts = (len(train), len(LANGUAGES), len(STYLES))
    drawn = zip(*(rng.integers(count, size=size).tolist() for count in counts), strict=True)
    languages = list(LANGUAGES)
    batch = [pair for n, i, j in drawn for pair in pairs([train[n]], [languages[i]], [STYLES[j]])]
    y = targets([pair.iso for pair in batch], device)
    scores = model(encoded([pair.text for pair in batch], device), shifted(y))
    return F.cross_entropy(scores.flatten(0, 1), y.flatten())


@torch.no_grad()
def translated_exactly(
    model: nn.Module, chosen: Sequence[Pair], size: int = 512
) -> Bool[np.ndarray, " pairs"]:
    """Return of which of the pairs `chosen` the model's greedy translation has no mistake.

    One call answers for ten: greedy decoding writes a date exactly if and only if, after each
    right beginning of the date, the right character has the highest score.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(chosen)), key=lambda n: len(chosen[n].text))
    exact = np.zeros(len(chosen), dtype=bool)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        y = targets([chosen[n].iso for n in rows], device)
        scores = model(encoded([chosen[n].text for n in rows], device), shifted(y))
        exact[rows] = (scores.argmax(dim=-1) == y).all(dim=-1).cpu().numpy()
    return exact


def marks(chosen: Sequence[Pair], field: str, device="cpu") -> Bool[Tensor, "b j"]:
    """Return which characters of each text say `field`, one of those of `data.fields`.

    >>> pair = Pair("5 mai 2021", "2021-05-05", "fr", "long")
    >>> marks([pair], "month").int()
    tensor([[0, 0, 1, 1, 1, 0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    longest = max(len(pair.text) for pair in chosen)
    rows = []
    for pair in chosen:
        said = fields(datetime.date.fromisoformat(pair.iso), pair.language, pair.style)
        row = [name == field for name, text in said for _ in text]
        rows.append(row + [False] * (longest - len(row)))
    return torch.tensor(rows, device=device)


def evaluate(model: nn.Module, days: Sequence[datetime.date] | None = None) -> dict[str, float]:
    """Return the share of the test dates (or of `days`) that are translated without a mistake.

    Besides the share of all texts, "exact", there are those by language, by style, and by the
    length of the text: "length 10" is of texts with 10 to 14 characters.
    """
    chosen = pairs(parts()[2] if days is None else days)
    exact = translated_exactly(model, chosen)
    groups = {"exact": np.ones(len(chosen), dtype=bool)}
    languages = np.array([pair.language for pair in chosen])
    groups |= {f"language {name}": languages == name for name in LANGUAGES}
    styles = np.array([pair.style for pair in chosen])
    groups |= {f"style {name}": styles == name for name in STYLES}
    lengths = np.array([len(pair.text) for pair in chosen]) // BIN * BIN
    groups |= {f"length {n}": lengths == n for n in sorted(set(lengths.tolist()))}
    return {name: float(exact[group].mean()) for name, group in groups.items()}


def studies() -> list[Study]:
    recipe = Recipe(steps=1500, learning_rate=2e-3)
    return [
        Study(f"dates/{memory}", partial(TranslationModel, memory), evaluate, loss, recipe)
        for memory in MEMORIES
    ]
