"""Summaries: the operations and their split, copying by hand, and what was reached."""

import gzip
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from attn_course.applications import load, studies, study, summaries
from attn_course.applications.summaries import (
    END,
    PADDING,
    START,
    UNKNOWN,
    WORDS,
    Numbered,
    Summarizer,
    contradicts,
    corpus,
    cross_entropy,
    invented,
    mixed,
    numbered,
    numbers,
    rouge,
    scored,
    summarize,
    usual,
    vocabulary,
    written_by,
)
from attn_course.applications.training import Recipe, train
from attn_course.data import packages
from attn_course.data.operations import Operation, operations, runs, words

STUDIES = pytest.mark.parametrize("copying", [True, False], ids=["copy", "plain"])


# The data


def test_operations_are_counted_and_short():
    train, test = corpus()
    assert (len(train), len(test)) == (6750, 874)
    for operation in train + test:
        assert 4 <= len(words(operation.summary)) <= 24
        assert len(words(operation.text)) >= 12
        assert operation.summary.endswith(".")
        assert not re.search(r"\n|  ", operation.summary + operation.text)
    tagged = {one.service for one in train + test if re.search(r"</?(p|code|i|li)>", one.text)}
    assert tagged == {"codeguruprofiler"}  # whose makers escaped the tags of two operations


def test_an_operation_by_hand():
    (found,) = [
        one for one in corpus()[1] if (one.service, one.name) == ("elb", "DescribeLoadBalancers")
    ]
    assert found.summary == "Describes the specified the load balancers."
    assert found.text == (
        "If no load balancers are specified, the call describes all of your load balancers."
    )


def test_no_test_operation_leaks_into_training():
    train, test = corpus()
    assert not {one.service for one in train} & {one.service for one in test}
    for part in (lambda one: words(one.summary), lambda one: words(one.text)):
        seen = [" ".join(part(one)) for one in train + test]
        assert len(seen) == len(set(seen))
    known = set().union(*(runs(one.text) for one in train))
    shared = [len(runs(one.text) & known) / len(runs(one.text)) for one in test]
    assert max(shared) < 0.5


def test_the_vocabulary_is_of_the_training_operations(monkeypatch):
    assert len(vocabulary()) == WORDS
    monkeypatch.setattr(summaries, "corpus", lambda: (corpus()[0], None))
    assert vocabulary.__wrapped__() == vocabulary()


DOCUMENTATION = (
    "<p>Stops a <code>Job</code> &amp; its tasks. A job that was stopped cannot be resumed.</p> "
    "<note><p>Tasks of other jobs that wait for this one are stopped as well.</p></note>"
)
STOP = (
    "Stops a Job & its tasks.",
    "A job that was stopped cannot be resumed. "
    "Tasks of other jobs that wait for this one are stopped as well.",
)


module = sys.modules["attn_course.data.operations"]
checksum = module._checksum


@pytest.fixture
def services(tmp_path, monkeypatch):
    """A package of made services, taken for the pinned one; the function adds a version of one."""

    def add(service, version, content):
        folder = tmp_path / service / version
        folder.mkdir(parents=True)
        if isinstance(content, dict):
            entries = {name: {"documentation": text} for name, text in content.items()}
            described = {"metadata": {}, "operations": entries | {"Bare": {}}, "shapes": {}}
            content = gzip.compress(json.dumps(described).encode())
        (folder / "service-2.json.gz").write_bytes(content)

    monkeypatch.setattr(module, "package_file", lambda *_: tmp_path)
    monkeypatch.setattr(module, "_checksum", lambda *_: module.CHECKSUM)
    return add


def test_only_the_newest_version_is_read_and_every_text_once(services):
    services("jobs", "2019-01-01", {"OldJob": DOCUMENTATION})
    services("jobs", "2024-01-01", {"StopJob": DOCUMENTATION, "Again": DOCUMENTATION})
    services("tasks", "2020-01-01", {"StopTask": DOCUMENTATION.replace("Stops", "Ends")})
    services("short", "2020-01-01", {"Stop": "<p>Stops it all now. Soon.</p>", "Empty": ""})
    assert operations() == ([Operation("jobs", "StopJob", *STOP)], [])


def test_near_copies_are_dropped_from_the_test_set(services):
    for n in range(20):
        own = " ".join(f"word{n}x{i}" for i in range(30))
        near = f"<p>Stops{n} a very big job.</p> <p>{STOP[1]} It{n}.</p>"
        new = f"<p>Starts{n} a very big job.</p> <p>{own}</p>"
        services(f"s{n}", "2020-01-01", {"Near": near, "New": new})
    train, test = operations()
    assert [one.name for one in train] == ["Near", "New"] * 18
    assert [one.name for one in test] == ["New"] * 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b'{"operations":{"A":{"documentation":"<p>B.</p>"}}}')[:-12],
        gzip.compress(b'{"operations":{"A":'),
        gzip.compress(b'{"shapes":{}}'),
        gzip.compress(b'{"operations":["A"]}'),
        gzip.compress(b'{"operations":{"A":[]}}'),
        gzip.compress(b'{"operations":{"A":{"documentation":7}}}'),
        gzip.compress(b"\xff\xfe"),
    ],
    ids=["empty", "text", "cut", "half", "none", "list", "entry", "number", "bytes"],
)
def test_a_damaged_file_is_named(services, content):
    services("jobs", "2024-01-01", content)
    with pytest.raises(ValueError, match=r"2024-01-01.service-2.json.gz is damaged.*JSON"):
        operations()


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps botocore==\d"):
        operations()


def test_another_version_is_refused(services, monkeypatch):
    services("jobs", "2019-01-01", {"StopJob": DOCUMENTATION})
    monkeypatch.setattr(module, "_checksum", checksum)
    with pytest.raises(ValueError, match=r"expected the operations of botocore==\d"):
        operations()


def test_a_package_without_files_is_refused(services):
    with pytest.raises(FileNotFoundError, match=r"has no \*/\*/service-2.json.gz"):
        operations()


def test_nothing_is_imported_from_the_package():
    code = (
        "import sys; from attn_course.data import operations; operations();"
        "print({'botocore', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# Words and numbers


def test_words_outside_the_vocabulary_get_numbers_of_their_own():
    found = numbered("The zyx and the quux zyx.", "Deletes the quux, not a blorp.")
    known = vocabulary()
    the, zyx, quux = known["the"], WORDS, WORDS + 1
    assert found.words == ["zyx", "quux"]
    assert found.text == [the, zyx, known["and"], the, quux, zyx, known["."]]
    assert found.summary[:4] == [known["deletes"], the, quux, known[","]]
    assert found.summary[-3:] == [UNKNOWN, known["."], END]


def test_long_texts_are_cut():
    found = numbered("word " * 1000, "word " * 1000)
    assert len(found.text) == summaries.READ
    assert len(found.summary) == summaries.WRITTEN
    assert found.summary[-1] == END


# The model


def build(copying, device="cpu", **options):
    torch.manual_seed(4)
    return Summarizer(copying, width=24, layers=1, **options).to(device).eval()


def example(device):
    """Two texts with words of their own, the first of them padded, and what was written."""
    text = torch.tensor([[7, WORDS, 9, 0, 0, 0], [5, 6, WORDS + 1, 8, WORDS, 5]], device=device)
    written = torch.tensor([[START, 9, WORDS, 7], [START, WORDS + 1, 12, 5]], device=device)
    return text, written


def test_the_mixture_by_hand(device):
    vocabulary = torch.tensor([[[0.5, 0.25, 0.25]]], device=device)
    weights = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]], device=device)
    text = torch.tensor([[3, 1, 3, 4]], device=device)  # word 3 twice, 3 and 4 not in vocabulary
    found = mixed(vocabulary, weights, torch.full((1, 1, 1), 0.8, device=device), text)
    expected = [0.4, 0.2 + 0.2 * 0.2, 0.2, 0.2 * (0.1 + 0.3), 0.2 * 0.4]
    assert found[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


@STUDIES
def test_probabilities_sum_to_one(copying, device):
    text, written = example(device)
    found = build(copying, device)(text, written)
    assert found.probabilities.shape == (2, 4, WORDS + 2 * copying)
    assert torch.allclose(found.probabilities.sum(dim=-1), torch.ones(2, 4, device=device))
    assert torch.allclose(found.weights.sum(dim=-1), torch.ones(2, 4, device=device))
    assert not found.weights[0, :, 3:].any()
    assert ((found.generated < 1) == copying).all()


def test_an_own_word_can_be_said_only_by_copying(device):
    text, written = example(device)
    found = build(True, device)(text, written)
    own = (1 - found.generated[1, :, 0]) * found.weights[1, :, 2]
    assert (own > 0).all()
    assert torch.allclose(found.probabilities[1, :, WORDS + 1], own)
    assert not found.probabilities[0, :, WORDS + 1].any()


@STUDIES
def test_padding_does_not_matter(copying, device):
    model = build(copying, device)
    text, written = example(device)
    both = model(text, written).probabilities
    alone = model(text[:1, :3], written[:1]).probabilities
    assert torch.allclose(both[:1, :, : alone.shape[-1]], alone, atol=1e-6)


@STUDIES
def test_the_future_does_not_matter(copying, device):
    model = build(copying, device)
    text, written = example(device)
    before = model(text, written).probabilities
    changed = written.clone()
    changed[:, 2] = 40
    after = model(text, changed).probabilities
    assert torch.allclose(before[:, :2], after[:, :2], atol=1e-6)
    assert not torch.allclose(before[:, 2:], after[:, 2:], atol=1e-6)


def test_the_text_matters(device):
    model = build(True, device)
    text, written = example(device)
    changed = text.clone()
    changed[1, 0] = 41
    before, after = model(text, written).probabilities, model(changed, written).probabilities
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-6)


def test_hidden_words_are_hidden_in_training_only():
    model = build(True, dropout=0.0, hidden=0.999)
    text, written = example("cpu")
    blank = torch.where((text != PADDING), UNKNOWN, text)
    assert torch.equal(model.read(text)[0], model.read(text)[0])
    assert not torch.allclose(model.read(text)[0], model.read(blank)[0], atol=1e-3)
    torch.manual_seed(0)
    inside = text != PADDING
    assert torch.allclose(model.train().read(text)[0][inside], model.read(blank)[0][inside])
    assert model(text, written).probabilities[1, 0, WORDS + 1] > 0  # still to be copied


@STUDIES
def test_the_loss_by_hand(copying, device):
    model = build(copying, device)
    batch = [Numbered([7, WORDS], [9, WORDS, END], ["zyx"]), Numbered([5, 6, 8], [12, END], [])]
    total = 0.0
    for one in batch:
        text = torch.tensor([one.text], device=device)
        said = [word if copying or word < WORDS else UNKNOWN for word in one.summary]
        written = torch.tensor([[START, *said[:-1]]], device=device)
        probabilities = model(text, written).probabilities[0]
        total -= sum(probabilities[i, word].log().item() for i, word in enumerate(said))
    assert cross_entropy(model, batch).item() == pytest.approx(total / 5, abs=1e-4)


def test_writing_takes_the_most_probable_word_that_is_one(device):
    """A model that copies a word after the other, and then ends."""

    class Reads(torch.nn.Linear):
        def read(self, text):
            return ()

        def write(self, text, written):
            found = torch.zeros(*written.shape, WORDS + 9, device=text.device)
            found[..., UNKNOWN], found[..., START], found[..., PADDING] = 5, 5, 5
            step = written.shape[-1] - 1
            wanted = text[:, step] if step < text.shape[-1] else torch.full_like(text[:, 0], END)
            wanted = torch.where(wanted == PADDING, END, wanted)
            found[:, -1].scatter_(-1, wanted[:, None], 1.0)
            return summaries.Written(found, found, found)

    batch = [numbered("zyx the blorp"), numbered("delete the quux and the zyx.")]
    expected = [["zyx", "the", "blorp"], ["delete", "the", "quux", "and", "the", "zyx", "."]]
    assert summarize(Reads(1, 1).to(device), batch) == expected


def test_the_order_and_size_of_batches_do_not_matter():
    model = build(True)
    torch.nn.init.normal_(model.bias, std=3.0)
    part = numbers()[1][:4]
    found = written_by(model, part, size=3)
    assert found == [written_by(model, [one])[0] for one in part]
    assert len(set(found)) > 1


# The metrics


def test_rouge_by_hand():
    found = rouge(["stops the old job.", "a b"], ["Stops a job", "a b"])
    assert found["rouge1"] == pytest.approx(100 * (2 * 2 / (4 + 3) + 1) / 2)
    assert found["rouge2"] == pytest.approx(100 * (0 + 1) / 2)
    assert found["rougeL"] == pytest.approx(100 * (2 * 2 / (4 + 3) + 1) / 2)


def test_the_true_summaries_are_perfect_and_nearly_never_contradict_the_name():
    metrics = scored([operation.summary for operation in corpus()[1]])
    assert metrics["rougeL"] == 100
    assert metrics["inventing"] == 0
    assert metrics["contradicting"] < 1


@pytest.mark.parametrize(
    ("name", "summary", "expected"),
    [
        ("CreateBot", "Deletes a bot.", True),
        ("CreateBot", "creates a bot.", False),
        ("ListBots", "Returns bots.", False),
        ("UpdateBot", "Trains a bot.", False),
        ("UpdateBot", "", False),
        ("TrainBot", "Deletes a bot.", None),
        ("GETBot", "Deletes a bot.", None),
        ("deleteBot", "Creates a bot.", None),
    ],
)
def test_contradictions(name, summary, expected):
    assert contradicts(name, summary) is expected


def test_invented_words():
    operation = Operation("s", "StopJob", "Stops jobs.", "A task that was halted.")
    assert invented("Stops the specified tasks of a job for bananas.", operation) == ["bananas"]
    assert {"the", "specified"} <= usual()
    assert len(usual()) == 50


# The training


def steps(copying, path, seed=0, count=20):
    torch.manual_seed(seed)
    model = Summarizer(copying, width=24, layers=1)
    recipe = Recipe(steps=count, learning_rate=0.01, warmup=2, log_every=5)
    return model, train(model, summaries.loss, recipe, seed=seed, unfinished=path / "run")


@STUDIES
def test_training_lowers_the_loss_and_a_seed_repeats_it(copying, tmp_path):
    (one, log), (again, log_again) = (steps(copying, tmp_path) for _ in range(2))
    assert log[-1][1] < 0.85 * log[0][1]
    assert log == log_again
    assert all(map(torch.equal, one.parameters(), again.parameters()))


def test_training_runs_on_the_device(device):
    model = build(True, device).train()
    summaries.loss(model, np.random.default_rng(0)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_batches_are_of_the_training_set_and_of_like_lengths(monkeypatch):
    part = numbers()[0]
    rng = np.random.default_rng(0)
    lengths = [[len(one.text) for one in summaries.drawn(part, rng)] for _ in range(50)]
    assert {len(batch) for batch in lengths} == {32}
    mean = np.mean([len(one.text) for one in part])
    assert np.mean(lengths) == pytest.approx(mean, rel=0.1)
    assert np.mean([np.std(batch) for batch in lengths]) < 0.4 * np.std(np.concatenate(lengths))
    monkeypatch.setattr(summaries, "numbers", lambda: (part, None))
    assert summaries.loss(build(True), rng).isfinite()


# What was reached


def reached(name):
    table = json.loads((studies.ROOT / "results" / "applications.json").read_text())["runs"]
    return {run["seed"]: run["metrics"] for run in table if run["study"] == name}


def test_every_seed_is_above_the_baselines_and_copying_helps():
    lead, random = (reached(f"summaries/{name}")[0] for name in ("lead", "random"))
    copy, plain = (reached(f"summaries/{name}") for name in ("copy", "plain"))
    assert set(copy) == set(plain) == {0, 1, 2}
    assert random["rougeL"] < lead["rougeL"]
    for seed, metrics in copy.items():
        assert metrics["rougeL"] > lead["rougeL"] + 8
        assert metrics["rouge1"] > lead["rouge1"]
        assert metrics["rougeL"] > plain[seed]["rougeL"] + 2
        assert metrics["inventing"] < plain[seed]["inventing"]


@pytest.mark.parametrize("name", ["lead", "random"])
def test_the_baselines_are_what_they_say(name):
    entry = study(f"summaries/{name}")
    assert entry.evaluate(entry.build()) == pytest.approx(reached(entry.name)[0], rel=1e-5)


@STUDIES
def test_the_stored_model_is_what_was_measured(copying):
    entry = study("summaries/copy" if copying else "summaries/plain")
    assert studies.checkpoint(entry.name).stat().st_size <= 900_000
    metrics, stored = entry.evaluate(load(entry)), reached(entry.name)[0]
    for rate in ("rouge1", "rouge2", "rougeL"):
        assert metrics[rate] == pytest.approx(stored[rate], abs=0.5)
    assert metrics["contradicting"] == pytest.approx(stored["contradicting"], abs=2)
    assert metrics["inventing"] == pytest.approx(stored["inventing"], abs=2)
