"""Inside a real model: the attention of a trained sentence encoder, head by head.

Nothing is trained here. The weights are loaded into the layers of `attn_course.fast`, which must
then give what the library gives that the weights were made with. What is said of the heads is
measured on `sentences`, what the model loses without some of them on `pairs`, of other services.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_course.applications.studies import Study
from attn_course.data.minilm import Config, MiniLM, folder, minilm
from attn_course.data.operations import operations
from attn_course.data.packages import library
from attn_course.data.paraphrases import paraphrases
from attn_course.fast import (
    Encoder,
    EncoderLayer,
    FeedForward,
    entropy,
    gelu,
    merge_heads,
    padding_mask,
    split_heads,
)

Head = tuple[int, int]  # layer and head, both from 0


class SentenceEncoder(nn.Module):
    """BERT's encoder, and above it the mean of the last states, divided by its length.

    A state is a row of a token after a layer. Sentences come as `tokens`, each a number of the
    vocabulary, of which the first `lengths` of a row are the sentence and the rest padding.
    """

    def __init__(self, config: Config):
        super().__init__()
        width = config.width
        norm = partial(nn.LayerNorm, eps=config.eps)
        self.words = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Embedding(config.positions, width)
        self.kinds = nn.Embedding(config.kinds, width)
        self.norm = norm(width)
        feed_forward = partial(FeedForward, activation=gelu)
        self.encoder = Encoder(
            EncoderLayer(width, config.heads, config.hidden, norm=norm, feed_forward=feed_forward)
            for _ in range(config.layers)
        )

    def embed(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n width"]:
        """Return the states below the first layer: word, place and kind of text, added up."""
        places = torch.arange(tokens.shape[-1], device=tokens.device)
        kind = self.kinds.weight[0]  # a sentence alone is all of the first kind
        return self.norm(self.words(tokens) + self.positions(places) + kind)

    def states(
        self, tokens: Int[Tensor, "b n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "layers_and_1 b n width"]:
        """Return the states below the first layer and after every layer."""
        mask = padding_mask(lengths, tokens.shape[-1])
        states = [self.embed(tokens)]
        for layer in self.encoder.layers:
            states.append(layer(states[-1], mask))
        return torch.stack(states)

    def weights(
        self, tokens: Int[Tensor, "b n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "layers b heads n n"]:
        """Return the weight that each head of each layer gives each token for each token."""
        mask = padding_mask(lengths, tokens.shape[-1])
        below = self.states(tokens, lengths)[:-1]
        pairs = zip(self.encoder.layers, below, strict=True)
        return torch.stack([layer.attention.weights(x, mask=mask) for layer, x in pairs])

    def forward(
        self, tokens: Int[Tensor, "b n"], lengths: Int[Tensor, " b"]
    ) -> Float[Tensor, "b width"]:
        """Return a vector of length 1 for each sentence."""
        return pooled(self.states(tokens, lengths)[-1], lengths)


def pooled(
    states: Float[Tensor, "b n width"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b width"]:
    """Return the mean of the states of each sentence without its padding, divided by its length."""
    inside = padding_mask(lengths, states.shape[-2])[:, 0, 0, :, None]
    mean = (states * inside).sum(dim=-2) / lengths[:, None]
    return nn.functional.normalize(mean, dim=-1)


@functools.cache
def _source() -> MiniLM:
    return minilm()


# What a part of a layer is called in the file of the weights.
NAMES = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def pretrained() -> SentenceEncoder:
    """Return the encoder with the weights of `attn_course.data.minilm`, ready to be used."""
    config, weights, _ = _source()
    names = {
        "words.weight": "embeddings.word_embeddings.weight",
        "positions.weight": "embeddings.position_embeddings.weight",
        "kinds.weight": "embeddings.token_type_embeddings.weight",
        "norm.weight": "embeddings.LayerNorm.weight",
        "norm.bias": "embeddings.LayerNorm.bias",
    }
    for n in range(config.layers):
        for ours, theirs in NAMES.items():
            for kind in ("weight", "bias"):
                names[f"encoder.layers.{n}.{ours}.{kind}"] = f"encoder.layer.{n}.{theirs}.{kind}"
    with torch.device("meta"):  # weights that are replaced at once need no values
        model = SentenceEncoder(config)
    state = {ours: torch.tensor(weights[theirs]) for ours, theirs in names.items()}
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)


def tokenize(
    texts: Iterable[str], device: str | torch.device = "cpu"
) -> tuple[Int[Tensor, "b n"], Int[Tensor, " b"]]:
    """Return the tokens of each text, padded with 0, and how many they are.

    The first token is [CLS], the last [SEP].
    """
    rows = [encoding.ids for encoding in _source().tokenizer.encode_batch(list(texts))]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for n, row in enumerate(rows):
        tokens[n, : len(row)] = torch.tensor(row)
    return tokens.to(device), lengths.to(device)


def pieces(text: str) -> list[str]:
    """Return the tokens of `text` as they are written; ## goes on with the word before it."""
    return _source().tokenizer.encode(text).tokens


@torch.no_grad()
def embeddings(model: SentenceEncoder, texts: list[str]) -> Float[Tensor, "texts width"]:
    """Return the vector of each of `texts`."""
    device = next(model.parameters()).device
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))  # like lengths, little padding
    parts = [order[n : n + 32] for n in range(0, len(order), 32)]
    found = [model(*tokenize((texts[n] for n in part), device)) for part in parts]
    return torch.cat(found)[torch.tensor(order, device=device).argsort()]


@functools.cache
def sentences(count: int = 96) -> list[str]:
    """Return first sentences of the documentation of operations, each of another service."""
    train, _ = operations()
    order = np.random.default_rng(0).permutation(len(train))
    of_service = {train[n].service: train[n].summary for n in order}
    return list(of_service.values())[:count]


@functools.cache
def pairs(count: int = 300, longest: int = 30) -> tuple[list[str], list[str]]:
    """Return first sentences of documentations, and the first `longest` words of what follows."""
    _, test = operations()
    chosen = np.random.default_rng(0).permutation(len(test))[:count]
    first = [test[n].summary for n in chosen]
    return first, [" ".join(test[n].text.split()[:longest]) for n in chosen]


def roles(model: SentenceEncoder, texts: list[str]) -> dict[str, Float[np.ndarray, "layers heads"]]:
    """Return the share of its weight that each head gives to keys of each kind.

    The shares are means over the words of `texts`, where every word piece and punctuation mark
    counts as a word, [CLS] and [SEP] do not. A word that has no key of a kind, as the first has no
    word before it, does not count for that kind. "same word" is elsewhere in the sentence.
    """
    weights, kinds, words = _looks(model, texts)
    found = {}
    for name, keys in kinds.items():
        queries = words & keys.any(dim=-1)
        mass = (weights * keys[:, None]).sum(dim=-1)
        found[name] = _mean(mass, queries)
    return found


def spread(model: SentenceEncoder, texts: list[str]) -> Float[np.ndarray, "layers heads"]:
    """Return the entropy of each head's weights as a share of the largest that it could be.

    It is 0 where one key has all the weight, and 1 where all keys of the sentence have the same.
    """
    weights, _, words = _looks(model, texts)
    keys = (words.sum(dim=-1) + 2).to(weights.dtype)
    return _mean(entropy(weights) / keys.log()[:, None, None], words)


def _mean(values: Tensor, queries: Tensor) -> np.ndarray:
    """Return the mean of `values` (layers, b, heads, n) over the `queries` (b, n)."""
    total = (values * queries[:, None]).sum(dim=(1, 3))
    return (total / queries.sum()).cpu().numpy()


@torch.no_grad()
def _looks(model, texts):
    """Return the weights, the keys of each kind for each query, and which tokens are words."""
    tokens, lengths = tokenize(texts, next(model.parameters()).device)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    last = lengths[:, None] - 1
    words = (place > 0) & (place < last)
    query, key = words[:, :, None], words[:, None, :]
    step = place - place[:, None]
    equal = tokens[:, :, None] == tokens[:, None, :]
    kinds = {
        "[CLS]": query & (place == 0),
        "[SEP]": query & (place == last)[:, None],
        "word before": query & key & (step == -1),
        "word after": query & key & (step == 1),
        "itself": query & (step == 0),
        "same word": query & key & equal & (step != 0),
    }
    return model.weights(tokens, lengths), kinds, words


@contextlib.contextmanager
def removed(model: SentenceEncoder, heads: Iterable[Head]) -> Iterator[None]:
    """Let `heads` add nothing: inside `with`, their columns of the output projections are 0.

    Raises:
        IndexError: there is no such head.
    """
    kept = {}
    try:
        for layer, head in heads:
            attention = model.encoder.layers[layer].attention
            weight = attention.output.weight
            if layer not in kept:
                kept[layer] = weight.detach().clone()
            with torch.no_grad():
                weight.unflatten(1, (attention.heads, -1))[:, head] = 0
        yield
    finally:
        with torch.no_grad():
            for layer, weight in kept.items():
                model.encoder.layers[layer].attention.output.weight.copy_(weight)


def all_heads(model: SentenceEncoder) -> list[Head]:
    """Return every head, layer by layer."""
    layers = enumerate(model.encoder.layers)
    return [(n, head) for n, layer in layers for head in range(layer.attention.heads)]


def distance(one: Float[Tensor, "b width"], other: Float[Tensor, "b width"]) -> float:
    """Return 1 minus the cosine of the vectors of length 1, on average.

    >>> distance(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    0.5
    """
    return 1 - (one * other).sum(dim=-1).mean().item()


@torch.no_grad()
def removal_costs(
    model: SentenceEncoder, texts: list[str], layers: Iterable[int] | None = None
) -> Float[np.ndarray, "layers heads"]:
    """Return how far the vectors of `texts` move when one head is removed, for every head.

    With `layers`, only for the heads of those.
    """
    tokens, lengths = tokenize(texts, next(model.parameters()).device)
    mask = padding_mask(lengths, tokens.shape[1])
    states = model.states(tokens, lengths)
    whole = pooled(states[-1], lengths)
    costs = []
    for n in range(len(states) - 1) if layers is None else layers:
        above = model.encoder.layers[n:]
        costs.append([])
        for head in range(above[0].attention.heads):
            x = states[n]  # what stands below the head does not change
            with removed(model, [(n, head)]):
                for layer in above:
                    x = layer(x, mask)
            costs[-1].append(distance(pooled(x, lengths), whole))
    return np.array(costs)


def value_lengths(model: SentenceEncoder, texts: list[str]) -> Float[np.ndarray, "layers heads"]:
    """Return how long [CLS]'s values are, as a share of those of the words on average.

    A value is taken as it reaches the state, after the head's part of the output projection.
    """
    tokens, lengths = tokenize(texts, next(model.parameters()).device)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    words = (place > 0) & (place < lengths[:, None] - 1)
    shares = []
    with torch.no_grad():
        states = model.states(tokens, lengths)
        for layer, x in zip(model.encoder.layers, states, strict=False):
            attention = layer.attention
            values = split_heads(attention.value(x), attention.heads)
            output = attention.output.weight.unflatten(1, (attention.heads, -1)).movedim(1, 0)
            size = (values @ output.mT).norm(dim=-1)  # (b, heads, n)
            mean = (size * words[:, None]).sum(dim=(0, 2)) / words.sum()
            shares.append(size[..., 0].mean(dim=0) / mean)
    return torch.stack(shares).cpu().numpy()


def silenced(
    model: SentenceEncoder, tokens: Int[Tensor, "b n"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b width"]:
    """Return the vectors when what every head fetches from [CLS] is left out, all weights kept."""

    def attend(attention, x, mask):
        weights = attention.weights(x, mask=mask)
        values = split_heads(attention.value(x), attention.heads)
        return attention.output(merge_heads(weights[..., 1:] @ values[..., 1:, :]))

    return _encoded(model, tokens, lengths, attend)


def forbidden(
    model: SentenceEncoder, tokens: Int[Tensor, "b n"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b width"]:
    """Return the vectors when no head may look at [CLS], so that its weight goes to other keys."""

    def attend(attention, x, mask):
        others = torch.arange(x.shape[-2], device=x.device) > 0
        return attention(x, mask=mask & others)

    return _encoded(model, tokens, lengths, attend)


@torch.no_grad()
def _encoded(model, tokens, lengths, attend) -> Tensor:
    """Return the vectors that the encoder gives with `attend` in place of every attention."""
    x, mask = model.embed(tokens), padding_mask(lengths, tokens.shape[1])
    for layer in model.encoder.layers:
        x = layer.attention_norm(x + attend(layer.attention, x, mask))
        x = layer.feed_forward_norm(x + layer.feed_forward(x))
    return pooled(x, lengths)


def found_first(first: Float[np.ndarray, "b width"], rest: Float[np.ndarray, "b width"]) -> float:
    """Return for what share of the rows of `first` the row of `rest` alike most is its own."""
    return float(np.mean((first @ rest.T).argmax(axis=1) == np.arange(len(first))))


def nearer(
    sentence: Float[np.ndarray, "b width"],
    paraphrase: Float[np.ndarray, "b width"],
    rival: Float[np.ndarray, "b width"],
) -> float:
    """Return for what share of the sentences the paraphrase is nearer than the rival."""
    return float(np.mean((sentence * paraphrase).sum(axis=1) > (sentence * rival).sum(axis=1)))


Vectors = Callable[[list[str]], Float[np.ndarray, "b width"]]


def search(vectors: Vectors) -> float:
    """Return how often the rest of a documentation is found by its first sentence, of `pairs`."""
    first, rest = pairs()
    both = vectors(first + rest)
    return found_first(both[: len(first)], both[len(first) :])


def choices(vectors: Vectors) -> dict[str, float]:
    """Return how often a paraphrase is nearer than its rival, for each kind of `paraphrases`."""
    found = {}
    for kind, triplets in paraphrases().items():
        columns = zip(*triplets, strict=True)
        rows = vectors([text for column in columns for text in column])
        found[kind] = nearer(*np.split(rows, 3))
    return found


def tasks(vectors: Vectors) -> dict[str, float]:
    """Return what `search` and `choices` measure."""
    return {"search": search(vectors), **choices(vectors)}


def of_model(model: SentenceEncoder) -> Vectors:
    """Return the function from texts to the vectors that `model` gives them."""
    return lambda texts: embeddings(model, texts).cpu().numpy()


def word_counts(texts: list[str]) -> Float[np.ndarray, "texts words"]:
    """Return for each text a vector of length 1: its words, the rarer the heavier (TF-IDF)."""
    vectorizer = library("sklearn.feature_extraction.text").TfidfVectorizer()
    return vectorizer.fit_transform(texts).toarray()


PARITY = [
    "The keys to the cabinet are on the table.",
    "Attention is a weighted average, and the weights depend on the data.",
    "Yes.",
    "Ünïcode, numbers (3.14) and words that nobody wrote before: flumphered.",
    "A sentence that goes on and on, " * 9 + "until it is far longer than all the others.",
]


@torch.no_grad()
def differences(model: SentenceEncoder, texts: list[str]) -> dict[str, float]:
    """Return how far `model` is at most from Hugging Face's model of the same weights.

    Compared are the states and the weights of all tokens without padding, and the vectors; in
    the precision of `model`, float32 or float64.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    transformers = library("transformers")
    transformers.utils.logging.disable_progress_bar()
    theirs = transformers.AutoModel.from_pretrained(
        str(folder()), attn_implementation="eager", local_files_only=True
    ).eval()
    weight = next(model.parameters())
    theirs = theirs.to(weight.device, weight.dtype)
    tokens, lengths = tokenize(texts, weight.device)
    inside = padding_mask(lengths, tokens.shape[1])[:, 0, 0]
    given = theirs(
        input_ids=tokens,
        attention_mask=inside.long(),
        output_hidden_states=True,
        output_attentions=True,
    )
    states = (model.states(tokens, lengths) - torch.stack(given.hidden_states)).abs()
    weights = (model.weights(tokens, lengths) - torch.stack(given.attentions)).abs()
    vectors = (model(tokens, lengths) - pooled(given.last_hidden_state, lengths)).abs()
    return {
        "state difference": (states * inside[..., None]).max().item(),
        "weight difference": (weights * inside[:, None, :, None]).max().item(),
        "vector difference": vectors.max().item(),
    }


def evaluate(model: SentenceEncoder) -> dict[str, float]:
    """Return the differences from Hugging Face's model in both precisions, and the tasks."""
    found = differences(model, PARITY)
    precise = differences(copy.deepcopy(model).double(), PARITY)
    found |= {f"{name}, float64": value for name, value in precise.items()}
    return found | tasks(of_model(model))


def evaluate_without_heads(model: SentenceEncoder) -> dict[str, float]:
    """Return the tasks without any head: every state depends on its own word and place alone."""
    whole = embeddings(model, sentences())
    with removed(model, all_heads(model)):
        moved = distance(embeddings(model, sentences()), whole)
        return {"distance": moved, **tasks(of_model(model))}


STEPS = (12, 24, 36, 48, 60)


def evaluate_heads(model: SentenceEncoder) -> dict[str, float]:
    """Return the cost of every head, and of many at once, those of least cost first or last.

    The costs, and with them the order, are measured on `sentences`; the search is of `pairs`.
    """
    costs = removal_costs(model, sentences())
    heads = all_heads(model)
    found = {f"cost {layer + 1}.{head + 1}": costs[layer, head] for layer, head in heads}
    least_first = sorted(heads, key=lambda head: costs[head])
    whole = embeddings(model, sentences())
    for name, order in (("least", least_first), ("most", least_first[::-1])):
        for count in STEPS:
            with removed(model, order[:count]):
                found[f"distance, {count} {name}"] = distance(embeddings(model, sentences()), whole)
                found[f"search, {count} {name}"] = search(of_model(model))
    for layer in range(len(costs)):
        with removed(model, [head for head in heads if head[0] == layer]):
            found[f"distance, layer {layer + 1}"] = distance(embeddings(model, sentences()), whole)
            found[f"search, layer {layer + 1}"] = search(of_model(model))
    return found


def studies() -> list[Study]:
    return [
        Study("encoder/minilm", pretrained, evaluate),
        Study("encoder/heads", pretrained, evaluate_heads),
        Study("encoder/no heads", pretrained, evaluate_without_heads),
        Study("encoder/word counts", nn.Identity, lambda _: tasks(word_counts)),
    ]
