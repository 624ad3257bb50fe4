"""Tuning: settings that do what they say, folds that leak nothing, a search that resumes."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from attn_course.applications import reading, sound, tuning
from attn_course.applications.tuning import FOLDS, SEEDS, SWEEPS, TRIALS, Settings
from attn_course.notebook import results


def body(**changed):
    torch.manual_seed(0)
    return tuning.Body(Settings(**changed)).eval()


def test_every_sweep_goes_through_the_settings_that_it_starts_from():
    for setting, values in SWEEPS.items():
        assert getattr(Settings(), setting) in values, setting
        assert len(set(values)) == len(values) >= 2
    names = [study.name for study in tuning.sweeps()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("positions", SWEEPS["positions"])
def test_positions_are_told_apart_where_there_are_any(positions):
    net = body(positions=positions, layers=1, width=16, heads=2)
    x = torch.randn(1, 6, 16)
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    same = torch.allclose(net(x)[:, -1], net(swapped)[:, -1], atol=1e-5)
    assert same == (positions == "none")


def test_sharpness_multiplies_the_scores():
    plain, sharp = body(sharpness=1.0, layers=1), body(sharpness=3.0, layers=1)
    layer = plain.encoder.layers[0].attention
    with torch.no_grad():
        layer.query.weight *= 3
        layer.query.bias *= 3
    x = torch.randn(2, 7, 64)
    torch.testing.assert_close(plain(x), sharp(x))


def test_a_window_and_the_future_are_masked():
    net = body(window=3, layers=1)
    x = torch.randn(1, 9, 64)
    other = x.clone()
    other[:, 4, 0] += 5  # a shift of all entries would be lost in the norm
    changed = (net(x) - net(other)).abs().amax(dim=-1)[0] > 1e-6
    assert changed.nonzero()[:, 0].tolist() == [4, 5, 6]


def test_initial_weights_are_multiplied():
    small, plain = body(initial=0.1), body()
    for name in ("query", "key", "value"):
        factor = 1.0 if name == "value" else 0.1
        weights = [getattr(x.encoder.layers[0].attention, name).weight for x in (small, plain)]
        torch.testing.assert_close(weights[0], factor * weights[1])


def test_folds_hold_back_each_utterance_once_and_are_scaled_by_the_rest():
    raw, _ = sound.vowels()
    count = 0
    for fit, held in tuning.folds():
        assert np.bincount(held.speakers).tolist() == [6] * 9
        assert np.bincount(fit.speakers).tolist() == [24] * 9
        inside = np.arange(fit.frames.shape[1]) < fit.lengths[:, None]
        np.testing.assert_allclose(fit.frames[inside].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(fit.frames[inside].std(axis=0), 1, atol=1e-5)
        known = {utterance.tobytes() for utterance in fit.frames}
        assert not any(utterance.tobytes() in known for utterance in held.frames)
        count += len(held.speakers)
    assert count == len(raw.speakers)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A search of few trials that takes no time, and the file of its results."""
    calls = []

    def counted(model, loss, recipe, *, seed, unfinished, title):
        calls.append(title)
        return []

    monkeypatch.setattr(tuning, "train", counted)
    monkeypatch.setattr(tuning, "TRIALS", 5)
    monkeypatch.setattr(tuning, "TRIALS_AT_RANDOM", 2)
    path = tmp_path / "tuning.json"
    path.write_text('{"runs": []}')
    return path, calls


def test_a_search_that_was_stopped_goes_on_to_the_same_end(quick, monkeypatch, tmp_path):
    path, calls = quick
    chosen = tuning.search(path)
    whole = json.loads(path.read_text())
    assert len(whole["fits"]) == len(calls) == 5 * FOLDS
    assert len({tuple(fit["settings"].values()) for fit in whole["fits"].values()}) == 5

    kept = dict(list(whole["fits"].items())[:13])  # stopped in the third trial
    path.write_text(json.dumps({"runs": [], "fits": kept}))
    calls.clear()
    assert tuning.search(path) == chosen
    assert json.loads(path.read_text()) == whole
    assert len(calls) == 5 * FOLDS - 13


def test_what_was_measured_of_other_settings_is_measured_anew(quick):
    path, calls = quick
    fold = tuning.folds()[0]
    first = tuning.Speakers(16, 1, 0.0, 1e-3, 0.1)
    for chosen in (first, first, dataclasses.replace(first, layers=0)):
        tuning.fitted(chosen, *fold, 0, key="one", results=path)
    assert len(calls) == 2
    assert json.loads(path.read_text())["fits"]["one"]["settings"]["layers"] == 0


def test_what_another_process_measured_meanwhile_is_kept(quick, monkeypatch):
    path, _ = quick
    fold = tuning.folds()[0]

    def meanwhile(*args, **options):
        path.write_text(json.dumps({"runs": [], "fits": {"other": {"settings": {}}}}))

    monkeypatch.setattr(tuning, "train", meanwhile)
    tuning.fitted(tuning.Speakers(16, 1, 0.0, 1e-3, 0.1), *fold, 0, key="one", results=path)
    assert set(json.loads(path.read_text())["fits"]) == {"one", "other"}


def test_without_optuna_the_search_says_how_to_install_it(quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install optuna$"):
        tuning.search(quick[0])


def test_the_record_is_whole():
    table = results("tuning")
    stands = {(run["study"], run["seed"]) for run in table["runs"]}
    assert stands == {(study.name, seed) for study in tuning.sweeps() for seed in SEEDS}
    trials = [
        {json.dumps(table["fits"][f"trial {n} fold {k}"]["settings"]) for k in range(FOLDS)}
        for n in range(TRIALS)
    ]
    assert all(len(settings) == 1 for settings in trials)


def test_the_settings_that_were_chosen_are_those_of_the_least_loss():
    fits = results("tuning")["fits"]
    losses = [
        np.mean([fits[f"trial {n} fold {k}"]["loss"] for k in range(FOLDS)]) for n in range(TRIALS)
    ]
    best = fits[f"trial {int(np.argmin(losses))} fold 0"]["settings"]
    final = [fits[f"test seed {seed}"] for seed in range(tuning.FINAL_SEEDS)]
    assert all(fit["settings"] == best for fit in final)
    assert np.mean([fit["accuracy"] for fit in final]) > 0.97


def test_reading_bits_are_measured_on_what_was_held_back():
    fit, held = tuning.fitted_and_held()
    text, _ = reading.texts()
    np.testing.assert_array_equal(np.concatenate([fit, held]), text)
    assert 8.9 < len(fit) / len(held) < 9.1
