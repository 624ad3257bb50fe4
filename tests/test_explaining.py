"""Explaining: what is changed is what is meant, and what the page says of the models holds."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from attn_course.applications import explaining, load, study
from attn_course.applications.explaining import (
    agreement,
    guided_loss,
    importance,
    jensen_shannon,
    other_weights,
    pooled_answers,
    rollout,
    shuffled,
    total_variation,
)
from attn_course.applications.sound import SpeakerModel, batch, normalized

STORED = {"alone": "vowels/frames-attention", "mixed": "vowels/attention"}
LAYERS = pytest.mark.parametrize("layers", [0, 2])


def held_out(count, device="cpu"):
    rows = np.arange(count) * 370 // count
    frames, lengths, _ = batch(normalized()[1], rows, device)
    return frames.double(), lengths


def build(layers, device):
    torch.manual_seed(1)
    return SpeakerModel("attention", width=16, layers=layers).double().eval().to(device)


def distributions(rng, *shape):
    return torch.from_numpy(rng.dirichlet(np.ones(shape[-1]), shape[:-1]))


# Distances and ranks


def test_total_variation_by_hand():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    assert total_variation(p, p).tolist() == [0, 0]
    assert total_variation(p, torch.tensor([[1.0, 0, 0]])).tolist() == pytest.approx([0.3, 1])


def test_jensen_shannon_is_scipys(rng):
    p, q = distributions(rng, 2, 5, 7)
    p[0, :3] = 0
    p[0] /= p[0].sum()
    expected = jensenshannon(p.numpy(), q.numpy(), axis=-1) ** 2
    assert jensen_shannon(p, q).numpy() == pytest.approx(expected, rel=1e-10)
    assert torch.allclose(jensen_shannon(p, q), jensen_shannon(q, p), rtol=1e-12)
    assert jensen_shannon(p, p).abs().max() < 1e-15
    one, other = torch.eye(2)
    assert jensen_shannon(one, other).item() == pytest.approx(math.log(2))


def test_jensen_shannon_has_finite_gradients_where_weights_are_zero():
    scores = torch.tensor([0.3, -0.2, -torch.inf], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    (slopes,) = torch.autograd.grad(jensen_shannon(scores.softmax(-1), q), scores)
    assert slopes.isfinite().all()
    assert slopes[0] > 0 > slopes[1]


def test_agreement_by_hand():
    a = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert agreement(a, 3 * a + 1) == pytest.approx(1)
    assert agreement(a, -a) == pytest.approx(-1)
    assert agreement(a, torch.tensor([1.0, 2.0, 4.0, 3.0])) == pytest.approx(4 / 6)  # 5 pairs to 1


def test_what_has_no_order_is_refused():
    with pytest.raises(ValueError, match="constant"), np.errstate(all="ignore"):
        agreement(torch.ones(4), torch.arange(4.0))


# Changed weights


@LAYERS
def test_pooled_answers_are_the_models(layers, device):
    model, (frames, lengths) = build(layers, device), held_out(5, device)
    rows, _ = model.encode(frames, lengths)
    answers = pooled_answers(model, rows, model.weights(frames, lengths))
    assert torch.allclose(answers, model(frames, lengths).softmax(-1), rtol=1e-10)


def test_shuffled_weights_are_the_same_weights_elsewhere(rng, device):
    lengths = torch.tensor([5, 9], device=device)
    inside = torch.arange(9, device=device) < lengths[:, None]
    weights = (torch.arange(9.0, device=device) + 1) * inside
    dealt = shuffled(weights, lengths, rng)
    assert torch.equal(dealt.sort(dim=-1).values, weights.sort(dim=-1).values)
    assert not dealt[~inside].any()
    assert not torch.equal(dealt, weights)
    deals = torch.stack([shuffled(weights, lengths, rng) for _ in range(600)])
    assert deals.mean(dim=0)[0, :5].cpu().numpy() == pytest.approx(3, abs=0.3)


@LAYERS
def test_other_weights_are_far_away_within_the_tolerance(layers, device):
    model, (frames, lengths) = build(layers, device), held_out(8, device)
    rows, mask = model.encode(frames, lengths)
    weights = model.weights(frames, lengths)
    found = other_weights(model, rows, weights, mask, tolerance=0.02, steps=60)
    assert not found[~mask].any()
    assert torch.allclose(found.sum(-1), torch.ones_like(found[:, 0]))
    answers = (pooled_answers(model, rows, each) for each in (found, weights))
    assert total_variation(*answers).max() <= 0.02
    dealt = shuffled(weights, lengths, np.random.default_rng(0))
    assert (jensen_shannon(found, weights) > jensen_shannon(dealt, weights)).all()
    assert all(p.grad is None for p in model.parameters())


def test_where_nothing_is_found_the_weights_stay():
    model, (frames, lengths) = build(0, "cpu"), held_out(4)
    rows, mask = model.encode(frames, lengths)
    weights = model.weights(frames, lengths)
    found = other_weights(model, rows, weights, mask, tolerance=1e-12, steps=1)
    assert torch.equal(found, weights)


@pytest.mark.parametrize("options", [{"tolerance": 0.0}, {"tolerance": 1.0}, {"steps": 0}])
def test_a_search_that_cannot_be_is_refused(options):
    model, (frames, lengths) = build(0, "cpu"), held_out(2)
    rows, mask = model.encode(frames, lengths)
    with pytest.raises(ValueError, match="tolerance is"):
        other_weights(model, rows, model.weights(frames, lengths), mask, **options)


# Frames taken away


@LAYERS
def test_importance_is_what_it_says(layers, device):
    model, (frames, lengths) = build(layers, device), held_out(3, device)
    n = lengths[1].item()
    x, length = frames[1, :n], lengths[1:2]
    found = importance(model, x)
    weights = model.weights(x[None], length)[0]
    assert torch.equal(found["weight"], weights)
    answer = model(x[None], length).softmax(-1)[0]
    rows = model.encode(x[None], length)[0][0]

    j = 2
    rest = weights.clone()
    rest[j] = 0
    without = pooled_answers(model, rows, rest / rest.sum())
    assert found["row"][j].item() == pytest.approx(total_variation(without, answer).item())

    step = torch.zeros_like(x)
    slope = []
    for c in range(12):
        step.zero_()[j, c] = 1e-6
        up, down = (model((x + s * step)[None], length).softmax(-1)[0] for s in (1, -1))
        slope.append((up - down)[answer.argmax()].item() / 2e-6)
    assert found["gradient"][j].item() == pytest.approx(np.linalg.norm(slope), rel=1e-4)

    if not layers:  # nothing is mixed: a row is its frame
        assert torch.allclose(found["frame"], found["row"], rtol=1e-8)
        assert torch.equal(found["rollout"], weights)


def test_a_hidden_frame_is_seen_by_nothing(device):
    """The last frame, hidden, leaves the answer of the utterance without it."""
    model, (frames, lengths) = build(2, device), held_out(3, device)
    n = lengths[0].item()
    x, length = frames[0, :n], lengths[:1]
    answer, shorter = (model(x[None], length - less).softmax(-1)[0] for less in (0, 1))
    found = importance(model, x)
    assert found["frame"][-1].item() == pytest.approx(total_variation(answer, shorter).item())
    assert found["frame"][-1] != pytest.approx(found["row"][-1].item(), rel=1e-3)


@LAYERS
def test_removing_a_row_moves_the_scores_by_its_weight_and_its_distance(layers):
    """Without row j the mean moves by a/(1 - a) times its distance from row j."""
    model, (frames, lengths) = build(layers, "cpu"), held_out(3)
    rows, _ = model.encode(frames, lengths)
    weights = model.weights(frames, lengths)
    mean = (weights[:, None] @ rows)[:, 0]
    rest = weights.clone()
    rest[:, 4] = 0
    without = (rest[:, None] @ rows)[:, 0] / rest.sum(dim=-1, keepdim=True)
    a = weights[:, 4, None]
    assert torch.allclose(without - mean, a / (1 - a) * (mean - rows[:, 4]), rtol=1e-9)


def test_one_frame_is_refused():
    with pytest.raises(ValueError, match="frames has 1 rows"):
        importance(build(0, "cpu"), torch.zeros(1, 12, dtype=torch.float64))


@LAYERS
def test_rollout_shares_out_each_row(layers, device):
    model, (frames, lengths) = build(layers, device), held_out(3, device)
    shares = rollout(model, frames[0, : lengths[0]])
    assert torch.allclose(shares.sum(dim=-1), torch.ones_like(shares[0]))
    assert (shares.diagonal() >= 0.5**layers).all()


def test_rollout_of_one_layer_by_hand():
    model, (frames, _) = build(1, "cpu"), held_out(1)
    layer = model.encoder.layers[0]
    with torch.no_grad():  # every score is 0, every weight 1/5
        layer.attention.query.weight.zero_()
        layer.attention.query.bias.zero_()
    expected = torch.full((5, 5), 0.1) + 0.5 * torch.eye(5)
    assert torch.allclose(rollout(model, frames[0, :5]), expected.double())


# A simple model, guided


def test_a_guided_model_learns_from_the_frames_that_count(monkeypatch):
    train, test = normalized()
    uniform = [
        torch.from_numpy((np.arange(29) < part.lengths[:, None]) / part.lengths[:, None])
        for part in (train, test)
    ]
    loss = guided_loss(*uniform)
    assert 0.15 < loss < 0.3
    blank = [torch.zeros_like(weights) for weights in uniform]
    assert guided_loss(*blank) == pytest.approx(math.log(9), abs=0.01)
    monkeypatch.setattr(explaining, "normalized", lambda: (test, train))
    assert guided_loss(*uniform[::-1]) != pytest.approx(loss, abs=1e-3)


# What the page says of the stored models


@pytest.fixture(scope="module")
def stored():
    """Each stored model, and what it makes of 60 test utterances."""
    frames, lengths = held_out(60)
    found = {}
    for name, key in STORED.items():
        model = load(study(key)).double()
        with torch.no_grad():
            rows, mask = model.encode(frames, lengths)
            weights = model.weights(frames, lengths)
        found[name] = model, rows, mask, weights
    return found


@pytest.mark.parametrize("name", STORED)
def test_shuffling_seldom_changes_an_answer(stored, name):
    model, rows, mask, weights = stored[name]
    dealt = shuffled(weights, mask.sum(-1), np.random.default_rng(0))
    answers, others = (pooled_answers(model, rows, w).argmax(-1) for w in (weights, dealt))
    assert (answers != others).double().mean() < 0.1


@pytest.mark.parametrize("name", STORED)
def test_far_weights_with_the_same_answer_exist(stored, name):
    model, rows, mask, weights = stored[name]
    found = other_weights(model, rows, weights, mask, steps=150)
    assert jensen_shannon(found, weights).median() > 0.4


def test_a_weight_is_on_a_row_where_rows_have_mixed(stored):
    frames, lengths = held_out(60)
    mean = {}
    for name, (model, *_) in stored.items():
        found = [importance(model, x[:n]) for x, n in zip(frames, lengths.tolist(), strict=True)]
        for effect in ("row", "frame", "gradient"):
            mean[name, effect] = np.mean([agreement(x["weight"], x[effect]) for x in found])
        mean[name, "rollout"] = np.mean([agreement(x["rollout"], x["frame"]) for x in found])
    assert mean["mixed", "row"] > 0.5
    assert mean["mixed", "frame"] < 0.25
    assert mean["alone", "gradient"] > mean["mixed", "gradient"] + 0.3
    assert mean["alone", "frame"] == pytest.approx(mean["alone", "row"], abs=1e-6)
    assert mean["mixed", "rollout"] > mean["mixed", "frame"] + 0.08
