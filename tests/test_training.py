"""Training that can be stopped and repeated, and the studies that it serves."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from attn_course.applications import all_studies, studies, study, training
from attn_course.applications.studies import Study, load, measure
from attn_course.applications.training import Recipe, train

RECIPE = Recipe(steps=30, learning_rate=0.1, warmup=3, log_every=7)


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


def loss(model, rng):
    """The error of a linear function, whose input NumPy draws and whose dropout torch draws."""
    x = torch.from_numpy(rng.standard_normal((8, 3), dtype=np.float32))
    x = x.to(next(model.parameters()).device)
    return ((model(x)[:, 0] - x[:, 0]) ** 2).mean()


def trained(path, seed=0, loss=loss, device="cpu", recipe=RECIPE):
    torch.manual_seed(5)
    net = model().to(device)
    return net, train(net, loss, recipe, seed=seed, unfinished=path / "run.unfinished")


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_rate_warms_up_and_decays():
    rates = [RECIPE.rate(step) for step in range(RECIPE.steps)]
    assert rates[:3] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert Recipe(steps=2, warmup=0, learning_rate=1.0).rate(1) == pytest.approx(0.5)


def test_training_lowers_the_loss_and_logs_every_step(tmp_path, device):
    recipe = Recipe(steps=300, learning_rate=0.02, warmup=3, log_every=70)
    net, log = trained(tmp_path, device=device, recipe=recipe)
    assert [step for step, _ in log] == [70, 140, 210, 280, 300]
    torch.manual_seed(5)
    untrained = model().to(device).eval()
    errors = [loss(x, np.random.default_rng(9)).item() for x in (net, untrained)]
    assert errors[0] < 0.2 * errors[1]
    assert not net.training
    assert not list(tmp_path.iterdir())


def test_a_seed_repeats_a_run(tmp_path):
    (one, log), (again, log_again), (other, _) = (trained(tmp_path, seed) for seed in (0, 0, 1))
    assert same(one, again)
    assert log == log_again
    assert not same(one, other)


@pytest.mark.parametrize("stop", [1, 13, 29])
def test_a_stopped_run_reaches_the_weights_of_one_that_was_not(tmp_path, monkeypatch, stop):
    whole, log = trained(tmp_path)
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    calls = []

    def interrupted(model, rng):
        calls.append(0)
        if len(calls) > stop:
            rng.standard_normal(100)  # what was drawn for nothing must not matter
            raise KeyboardInterrupt
        return loss(model, rng)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, loss=interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["run.unfinished"]
    steps = []

    def counted(model, rng):
        steps.append(0)
        return loss(model, rng)

    resumed, log_resumed = trained(tmp_path, loss=counted)
    assert len(steps) == RECIPE.steps - stop
    assert same(resumed, whole)
    assert log_resumed == log


def test_an_unfinished_run_of_another_kind_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)

    def interrupted(model, rng):
        if rng.random() > 0.8:
            raise KeyboardInterrupt
        return loss(model, rng)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, loss=interrupted)
    with pytest.raises(
        ValueError, match=r"run.unfinished holds .*'seed': 0.*asked for .*'seed': 1"
    ):
        trained(tmp_path, seed=1)
    assert (tmp_path / "run.unfinished").exists()


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_a_damaged_run_is_refused(tmp_path, kept):
    whole = tmp_path / "whole"
    torch.save({"asked": 1, "model": model().state_dict()}, whole)
    path = tmp_path / "run.unfinished"
    path.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"run.unfinished is damaged: remove it"):
        trained(tmp_path)
    path.write_text("no run")
    with pytest.raises(ValueError, match=r"run.unfinished is damaged: remove it"):
        trained(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        trained(tmp_path, loss=lambda model, rng: loss(model, rng) * float("nan"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of results of its own."""
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    return tmp_path


def example(name="toy/one", recipe=RECIPE, stored=True):
    def evaluate(net):
        return {"error": loss(net, np.random.default_rng(9)).item()}

    return Study(name, model, evaluate, loss, recipe, stored)


def test_results_hold_what_the_stored_model_does(home, capsys):
    results = home / "table.json"
    measure([example()], (0, 1), "cpu", results)
    runs = json.loads(results.read_text())["runs"]
    assert [(run["study"], run["seed"]) for run in runs] == [("toy/one", 0), ("toy/one", 1)]
    assert {run["parameters"] for run in runs} == {3 * 4 + 4 + 4 + 1}
    assert [step for step, _ in runs[0]["log"]] == [7, 14, 21, 28, 30]
    net = load(example())
    assert example().evaluate(net)["error"] == pytest.approx(runs[0]["metrics"]["error"], abs=1e-6)
    assert [path.name for path in (home / "checkpoints").iterdir()] == ["toy-one.safetensors"]
    assert runs[0]["metrics"]["error"] != runs[1]["metrics"]["error"]


def test_what_stands_is_not_measured_again(home, capsys):
    results = home / "table.json"
    measure([example()], (0,), "cpu", results)
    before = results.read_text()
    measure([example()], (0,), "cpu", results)
    assert "stands already" in capsys.readouterr().out
    assert results.read_text() == before
    longer = Recipe(steps=31, learning_rate=0.1, warmup=3)
    measure([example(recipe=longer)], (0,), "cpu", results)
    (run,) = json.loads(results.read_text())["runs"]
    assert run["recipe"]["steps"] == 31


def test_an_interruption_loses_no_result(home):
    results = home / "table.json"

    def interrupted(net):
        raise KeyboardInterrupt

    second = Study("toy/two", model, interrupted, loss, RECIPE)
    with pytest.raises(KeyboardInterrupt):
        measure([example(), second], (0,), "cpu", results)
    assert [run["study"] for run in json.loads(results.read_text())["runs"]] == ["toy/one"]


@pytest.mark.parametrize(
    "text", ["", '{"runs": [{"stu', "[]", "{}", '{"runs": [{"study": "toy"}]}']
)
def test_damaged_results_are_kept_and_named(home, text):
    results = home / "table.json"
    results.write_text(text)
    with pytest.raises(ValueError, match=r"table.json is damaged: restore it, or remove it"):
        measure([example()], (0,), "cpu", results)
    assert results.read_text() == text


def test_the_folder_of_the_results_is_made(home):
    results = home / "new" / "folder" / "table.json"
    measure([example()], (0,), "cpu", results)
    assert len(json.loads(results.read_text())["runs"]) == 1


def test_what_needs_no_training_is_measured_once(home):
    baseline = Study("toy/nothing", nn.Identity, lambda net: {"error": 1.0})
    measure([baseline], (0, 1, 2), "cpu", home / "table.json")
    (run,) = json.loads((home / "table.json").read_text())["runs"]
    assert (run["recipe"], run["parameters"], run["metrics"]) == (None, 0, {"error": 1.0})
    assert not (home / "checkpoints").exists()


def test_of_what_is_not_stored_the_results_are_kept(home):
    results = home / "table.json"
    measure([example(stored=False)], (0,), "cpu", results)
    assert len(json.loads(results.read_text())["runs"]) == 1
    assert not list((home / "checkpoints").iterdir())
    with pytest.raises(ValueError, match="of toy/one only the results are kept"):
        load(example(stored=False))


def test_a_study_that_was_not_trained_says_how(home):
    with pytest.raises(FileNotFoundError, match=r"python -m attn_course.applications toy/one"):
        load(example())
    with pytest.raises(KeyError, match=r"no study is named 'toy'; there are: .*vowels/mean"):
        study("toy")


def test_every_study_stands_in_the_results_with_its_recipe():
    table = json.loads((studies.ROOT / "results" / "applications.json").read_text())["runs"]
    stands = {(run["study"], run["seed"]): run["recipe"] for run in table}
    known = all_studies()
    for name, entry in known.items():
        recipe = json.loads(json.dumps(entry.recipe and vars(entry.recipe)))
        for seed in (0, 1, 2) if recipe else (0,):
            assert stands.pop((name, seed)) == recipe, f"{name}, seed {seed}"
        assert studies.checkpoint(name).exists() == bool(recipe and entry.stored), name
    assert not stands, "results of studies that are no more"
