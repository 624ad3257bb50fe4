"""Summaries: what does an operation do? An encoder reads its documentation, a decoder writes.

The decoder ends in one more head of attention to the text. What it finds helps to choose the next
word; with `copying`, its weights are besides a distribution over the words of the text, from which
a word can be taken as it stands. Vocabulary and text are mixed by a share that is computed at each
step: the pointer-generator network of See, Liu and Manning (2017), section 2.2, built here of a
transformer.

Settings were chosen on services held out of those for training. The test set was measured once.
"""

import functools
import re
from collections import Counter
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications.studies import Study
from attn_course.applications.training import Recipe
from attn_course.data.operations import Operation, first_sentence, operations, words
from attn_course.data.packages import library
from attn_course.fast import (
    Decoder,
    DecoderLayer,
    Encoder,
    EncoderLayer,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    pre_norm,
    rotary,
)

WORDS = 1200  # of the vocabulary, the special ones included
READ, WRITTEN = 80, 32  # tokens at most
SPECIAL = ("<padding>", "<start>", "<end>", "<unknown>")
PADDING, START, END, UNKNOWN = range(len(SPECIAL))
CAMEL = re.compile(r"\b[A-Za-z]+[a-z]+[A-Z]\w*")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
TOKEN = re.compile(r"\w+(?:['’.:/-]\w+)*|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Return the words and marks of `text`, lower-case.

    >>> tokens("Stops the on-premises S3 gateway, if any.")
    ['stops', 'the', 'on-premises', 's3', 'gateway', ',', 'if', 'any', '.']
    """
    return TOKEN.findall(text.lower())


def parts(text: str) -> list[str]:
    """Return the tokens of `text`, and after each name in camel case the words in it as well.

    >>> parts("Call StopJob.")
    ['call', 'stopjob', 'stop', 'job', '.']
    """
    return tokens(CAMEL.sub(lambda name: f"{name[0]} {HUMP.sub(' ', name[0])}", text))


def joined(written: list[str]) -> str:
    """Return tokens as a text.

    >>> joined(["stops", "the", "gateway", ",", "if", "any", "."])
    'stops the gateway, if any.'
    """
    return re.sub(r" (?=[.,;:!?)])|(?<=\() ", "", " ".join(written))


@functools.cache
def corpus() -> tuple[list[Operation], list[Operation]]:
    """Return `operations`, read once."""
    return operations()


@functools.cache
def vocabulary() -> dict[str, int]:
    """Return the numbers of the words that are frequent in the operations for training."""
    train, _ = corpus()
    counts = Counter()
    for operation in train:
        counts.update(parts(operation.text)[:READ])
        counts.update(tokens(operation.summary))
    frequent = [word for word, _ in counts.most_common(WORDS - len(SPECIAL))]
    return {word: number for number, word in enumerate([*SPECIAL, *frequent])}


class Numbered(NamedTuple):
    """A text and its summary as numbers; `words` are those that the numbers from WORDS on mean."""

    text: list[int]
    summary: list[int]
    words: list[str]


def numbered(text: str, summary: str = "") -> Numbered:
    """Return the first tokens of `text` and `summary` as numbers.

    A word of the text that is not in the vocabulary gets a number of its own, above all of the
    vocabulary's: it can be copied, though it has no vector. Such a word of the summary that is not
    in the text is unknown.
    """
    known, extra = vocabulary(), {}
    read = parts(text)[:READ]
    for word in read:
        if word not in known:
            extra.setdefault(word, WORDS + len(extra))
    wanted = [known.get(word, extra.get(word, UNKNOWN)) for word in tokens(summary)[: WRITTEN - 1]]
    return Numbered([known.get(word, extra.get(word)) for word in read], [*wanted, END], [*extra])


@functools.cache
def numbers() -> tuple[list[Numbered], list[Numbered]]:
    """Return the operations for training and for testing as numbers."""
    train, test = corpus()
    return tuple([numbered(one.text, one.summary) for one in part] for part in (train, test))


def padded(rows: list[list[int]], device) -> Int[Tensor, "b n"]:
    """Return `rows` as a tensor, the short ones filled with PADDING."""
    length = max(map(len, rows))
    return torch.tensor([row + [PADDING] * (length - len(row)) for row in rows], device=device)


class Written(NamedTuple):
    """What the decoder says after each word written.

    `probabilities` are of the next word, over the vocabulary and then the text's own words;
    `weights` are those of the last head, over the places of the text; `generated` is the share of
    the probabilities that comes from the vocabulary.
    """

    probabilities: Float[Tensor, "b i words"]
    weights: Float[Tensor, "b i j"]
    generated: Float[Tensor, "b i 1"]


class Summarizer(nn.Module):
    """Read a text, write a summary: an encoder, a decoder, and a last head that can copy.

    Without `copying` everything is the same except the mixing: all words are the vocabulary's.
    In training each word of the text is unknown to the encoder with probability `hidden`.
    """

    def __init__(
        self,
        copying: bool,
        width: int = 96,
        layers: int = 2,
        dropout: float = 0.2,
        hidden: float = 0.15,
    ):
        super().__init__()
        options = {"dropout": dropout, "residual": pre_norm, "rotate": rotary}
        sizes = width, 4, 2 * width
        self.copying, self.hidden = copying, hidden
        self.embed = nn.Embedding(WORDS, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.encoder = Encoder(
            [EncoderLayer(*sizes, **options) for _ in range(layers)], norm=nn.LayerNorm(width)
        )
        self.decoder = Decoder([DecoderLayer(*sizes, **options)], norm=nn.LayerNorm(width))
        self.pointer = MultiHeadAttention(width, 1)
        self.share = nn.Linear(3 * width, 1)
        self.merge = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(WORDS))

    def forward(self, text: Int[Tensor, "b j"], written: Int[Tensor, "b i"]) -> Written:
        """Return what follows after each word of `written`, the first of which is START."""
        return self.write(text, *self.read(text), written)

    def vectors(self, numbers: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return the vectors of words; one that is not in the vocabulary is UNKNOWN."""
        vectors = self.embed(torch.where(numbers < WORDS, numbers, UNKNOWN))
        return self.dropout(vectors * vectors.shape[-1] ** 0.5)

    def read(self, text: Int[Tensor, "b j"]) -> tuple[Tensor, Tensor]:
        """Return the encoded text, and where it is no padding."""
        mask = padding_mask((text != PADDING).sum(dim=-1), text.shape[-1])
        if self.training:
            kept = torch.rand(text.shape, device=text.device) >= self.hidden
            text = torch.where(kept, text, UNKNOWN)
        return self.encoder(self.vectors(text), mask), mask

    def write(self, text: Tensor, memory: Tensor, mask: Tensor, written: Tensor) -> Written:
        """Return what `forward` does, of a text that was read."""
        x = self.vectors(written)
        causal = causal_mask(x.shape[-2], x.shape[-2], device=x.device)
        state = self.decoder(x, memory, causal, mask)
        weights = self.pointer.weights(state, memory, mask=mask)[:, 0]
        context = self.pointer(state, memory, mask=mask)
        merged = self.dropout(torch.tanh(self.merge(torch.cat([state, context], dim=-1))))
        vocabulary = (F.linear(merged, self.embed.weight) + self.bias).softmax(dim=-1)
        if not self.copying:
            return Written(vocabulary, weights, torch.ones_like(x[..., :1]))
        generated = self.share(torch.cat([context, state, x], dim=-1)).sigmoid()
        return Written(mixed(vocabulary, weights, generated, text), weights, generated)


def mixed(
    vocabulary: Float[Tensor, "b i v"],
    weights: Float[Tensor, "b i j"],
    generated: Float[Tensor, "b i 1"],
    text: Int[Tensor, "b j"],
) -> Float[Tensor, "b i words"]:
    """Return the share `generated` of the vocabulary's words and the rest of the text's.

    A word that stands at several places of the text gets the weights of them all.
    """
    own = max(0, int(text.max()) + 1 - vocabulary.shape[-1])
    mixture = F.pad(generated * vocabulary, (0, own))
    return mixture.scatter_add(-1, text[:, None].expand_as(weights), (1 - generated) * weights)


def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
    """Return the cross-entropy of the next word, on a random batch."""
    train, _ = numbers()
    return cross_entropy(model, drawn(train, rng))


def drawn(part: list[Numbered], rng: np.random.Generator, size: int = 32) -> list[Numbered]:
    """Return `size` random members whose texts have about the same length: little is padding."""
    rows = sorted(rng.integers(len(part), size=4 * size), key=lambda i: len(part[i].text))
    start = size * rng.integers(4)
    return [part[i] for i in rows[start : start + size]]


def cross_entropy(model: nn.Module, batch: list[Numbered]) -> Tensor:
    """Return the mean over all words of the summaries; what copies nothing copies no own word."""
    device = next(model.parameters()).device
    text = padded([one.text for one in batch], device)
    summary = padded([one.summary for one in batch], device)
    if not model.copying:
        summary = torch.where(summary < WORDS, summary, UNKNOWN)
    written = F.pad(summary[:, :-1], (1, 0), value=START)
    given = model(text, written).probabilities.gather(-1, summary[..., None])[..., 0]
    counted = summary != PADDING
    return -(given[counted] + 1e-9).log().mean()


@torch.no_grad()
def summarize(model: nn.Module, batch: list[Numbered], repeat: bool = False) -> list[list[str]]:
    """Return the words that the model writes, each time the most probable one, up to the end.

    Unless it may `repeat`, no word is written twice in a row, and no pair of words twice.
    """
    device = next(model.parameters()).device
    text = padded([one.text for one in batch], device)
    read = model.read(text)
    written = torch.full((len(batch), 1), START, device=device)
    done = torch.zeros(len(batch), dtype=torch.bool, device=device)
    while not done.all() and written.shape[-1] < WRITTEN:
        following = model.write(text, *read, written).probabilities[:, -1]
        following[:, [PADDING, START, UNKNOWN]] = 0
        for row, (*before, last) in enumerate([] if repeat else written.tolist()):
            following[row, [last, *repeated(before, last)]] = 0
        best = torch.where(done, PADDING, following.argmax(dim=-1))
        written = torch.cat([written, best[:, None]], dim=-1)
        done |= best == END
    return [spelled(row, one) for row, one in zip(written.tolist(), batch, strict=True)]


def repeated(before: list[int], last: int) -> list[int]:
    """Return the numbers that followed on `last` before.

    >>> repeated([7, 8, 7, 9], 7)
    [8, 9]
    """
    return [following for word, following in pairwise([*before, last]) if word == last]


def spelled(row: list[int], source: Numbered) -> list[str]:
    """Return the words that the numbers of `row` mean, but the special ones."""
    known = [*vocabulary(), *source.words]
    return [known[number] for number in row if number not in (PADDING, START, END)]


def written_by(model: nn.Module, batch: list[Numbered], size: int = 64) -> list[str]:
    """Return the summaries that the model writes, as texts."""
    order = sorted(range(len(batch)), key=lambda i: len(batch[i].text))
    found = [""] * len(batch)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        summaries = summarize(model, [batch[i] for i in chosen])
        for i, summary in zip(chosen, summaries, strict=True):
            found[i] = joined(summary)
    return found


def rouge(summaries: list[str], expected: list[str]) -> dict[str, float]:
    """Return the mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, in percent, without stemming.

    >>> {name: round(f1) for name, f1 in rouge(["Stops a job."], ["Stops the job."]).items()}
    {'rouge1': 67, 'rouge2': 0, 'rougeL': 67}

    Raises:
        ModuleNotFoundError: rouge-score is not installed; the message is the command that does.
    """
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = library("rouge_score.rouge_scorer").RougeScorer(names)
    scores = [scorer.score(*pair) for pair in zip(expected, summaries, strict=True)]
    return {name: 100 * float(np.mean([one[name].fmeasure for one in scores])) for name in names}


def evaluate(model: nn.Module) -> dict[str, float]:
    """Return ROUGE of what the model writes for the operations of the test set."""
    return scored(written_by(model, numbers()[1]))


def scored(summaries: list[str]) -> dict[str, float]:
    """Return ROUGE, and shares in percent, of a summary for each operation of the test set.

    `contradicting` is the share of the operations that `contradicts` judges whose summary does,
    and `inventing` that of the summaries with a word that is `invented`.
    """
    test = corpus()[1]
    pairs = list(zip(test, summaries, strict=True))
    judged = [contradicts(one.name, summary) for one, summary in pairs]
    foreign = [bool(invented(summary, one)) for one, summary in pairs]
    return rouge(summaries, [operation.summary for operation in test]) | {
        "contradicting": 100 * float(np.mean([each for each in judged if each is not None])),
        "inventing": 100 * float(np.mean(foreign)),
    }


KINDS = {
    "make": {"create", "creates"},
    "remove": {"delete", "deletes", "remove", "removes"},
    "change": {"update", "updates", "modify", "modifies", "change", "changes"},
    "look": {"get", "gets", "list", "lists", "describe", "describes"}
    | {"return", "returns", "retrieve", "retrieves", "display", "displays"},
}


def kind(verb: str) -> str | None:
    """Return which of `KINDS` a verb is of, if any."""
    return next((name for name, verbs in KINDS.items() if verb.lower() in verbs), None)


def contradicts(name: str, summary: str) -> bool | None:
    """Tell if the first word of `summary` is a verb of another kind than that of the name.

    None is returned for the operations whose name begins with no verb of `KINDS`.

    >>> contradicts("DeleteBot", "Creates a bot."), contradicts("DeleteBot", "Removes a bot.")
    (True, False)
    >>> contradicts("RebootInstances", "Creates an instance.")
    """
    named = kind(re.match("[A-Z][a-z]*|", name)[0])
    said = kind((words(summary) or [""])[0])
    return None if named is None else said is not None and said != named


@functools.cache
def usual() -> frozenset[str]:
    """Return the 50 most frequent words of the summaries for training."""
    counts = Counter(word for one in corpus()[0] for word in words(one.summary))
    return frozenset(word for word, _ in counts.most_common(50))


def invented(summary: str, operation: Operation) -> list[str]:
    """Return the words of `summary` that stand neither in the text nor in the true summary.

    Words that are `usual` do not count, nor does a final s.
    """
    known = {word.rstrip("s") for word in words(f"{operation.text} {operation.summary}")}
    known |= {word.rstrip("s") for word in usual()}
    return [word for word in words(summary) if word.rstrip("s") not in known]


def lead() -> list[str]:
    """Return the first sentence of each text of the test set."""
    return [first_sentence([operation.text])[0] for operation in corpus()[1]]


def random_summaries() -> list[str]:
    """Return for each operation of the test set the summary of a random one for training."""
    train, test = corpus()
    return [train[i].summary for i in np.random.default_rng(0).integers(len(train), size=len(test))]


def studies() -> list[Study]:
    recipe = Recipe(steps=1500, learning_rate=3e-3)
    trained = {"copy": True, "plain": False}
    baselines = {"lead": lead, "random": random_summaries}
    return [
        Study(f"summaries/{name}", partial(Summarizer, copying), evaluate, loss, recipe)
        for name, copying in trained.items()
    ] + [
        Study(f"summaries/{name}", nn.Identity, lambda model, written=written: scored(written()))
        for name, written in baselines.items()
    ]
