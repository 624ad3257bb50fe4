"""Reading: which character comes next? Attention, recurrence and convolution, equally large.

The text is what the operations of web services do (`attn_course.data.operations`), one after the
other. The models are trained on pieces of `CONTEXT` characters and read pieces four times as long
of the documentation of other services. Settings were chosen on documents held back from those for
training.
"""

import functools
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications.studies import Study
from attn_course.applications.training import Recipe
from attn_course.data.operations import operations
from attn_course.fast import Encoder, EncoderLayer, causal_mask, pre_norm, rotary

CONTEXT, LONGER = 128, 4
SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))  # every other character is read as a space


class Attention(nn.Module):
    """Two encoder layers under a causal mask: a small decoder-only transformer."""

    def __init__(self, width: int = 88, dropout: float = 0.0):
        super().__init__()
        self.width = width
        options = dict(dropout=dropout, residual=pre_norm, rotate=rotary)
        layers = [EncoderLayer(width, 4, 2 * width, **options) for _ in range(2)]
        self.encoder = Encoder(layers, norm=nn.LayerNorm(width))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        return self.encoder(x, causal_mask(x.shape[-2], x.shape[-2], device=x.device))


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


BODIES = {"attention": Attention, "recurrence": Recurrence, "convolution": Convolution}


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
def bits(
    model: nn.Module, text: np.ndarray, length: int = LONGER * CONTEXT, count: int = 128
) -> Float[np.ndarray, " length"]:
    """Return the mean bits that the symbol costs which follows 1, 2, ... `length` symbols.

    The mean is over `count` pieces that lie evenly over the text.
    """
    device = next(model.parameters()).device
    starts = np.linspace(0, len(text) - length - 1, count).astype(int)
    total = np.zeros(length)
    for some in np.array_split(starts, max(1, count // 16)):
        symbols = pieces(text, some, length + 1, device)
        costs = F.cross_entropy(model(symbols[:, :-1]).mT, symbols[:, 1:], reduction="none")
        total += costs.double().sum(dim=0).cpu().numpy()
    return total / count / math.log(2)


def evaluate(model: nn.Module) -> dict[str, float]:
    """Return the bits a symbol costs: in the context trained for, beyond it, and in training."""
    train, test = texts()
    held, known = bits(model, test), bits(model, train)
    second = slice(CONTEXT // 2, CONTEXT)
    return {
        "bits": held[:CONTEXT].mean(),
        "bits_late": held[second].mean(),
        "bits_beyond": held[CONTEXT:].mean(),
        "bits_train": known[:CONTEXT].mean(),
    }


def studies() -> list[Study]:
    """Return a study for each of the three bodies."""
    # Of 0.001, 0.003 and 0.01 the last was best for each of the three, after 400 steps.
    recipe = Recipe(steps=800, learning_rate=1e-2)
    return [
        Study(f"reading/{name}", lambda body=body: Reader(body()), evaluate, loss, recipe)
        for name, body in BODIES.items()
    ]
