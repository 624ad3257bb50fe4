"""Sensitivity: rivals of one size at the same rates, and what the spread of rates is worth."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from attn_course.applications import sensitivity, tuning
from attn_course.applications.reading import Reader
from attn_course.applications.sensitivity import KINDS, RATES, SWEPT, span
from attn_course.notebook import results


def body(kind):
    torch.manual_seed(0)
    return KINDS[kind][0]()


def test_all_are_as_large_as_the_attention_that_the_sweeps_start_from():
    attention = Reader(tuning.Body(tuning.Settings()))
    size = sum(x.numel() for x in attention.parameters())
    for kind in KINDS:
        assert sum(x.numel() for x in Reader(body(kind)).parameters()) == pytest.approx(
            size, rel=0.01
        ), kind


def test_the_recipes_are_those_of_the_sweep_but_for_the_warm_up():
    like = next(study.recipe for study in tuning.sweeps() if study.name == "learning_rate=0.01")
    found = sensitivity.studies()
    assert len(found) == 2 + 8 + 8 + 6 + 2
    for study in found:
        _, kind, rate = study.name.split("/")
        warmup = 100 if kind == "warm-up" else tuning.Settings().warmup
        assert study.recipe == replace(like, learning_rate=float(rate), warmup=warmup)
        assert (study.loss, study.evaluate) == (tuning.reading_loss, tuning.reading_bits)


@pytest.mark.parametrize("kind", KINDS)
def test_every_body_reads_only_what_came_before(kind, device):
    model = Reader(body(kind)).to(device).eval()
    symbols = torch.arange(40, device=device).remainder(7)[None]
    other = symbols.clone()
    other[:, 25] = 9
    with torch.no_grad():
        one, two = model(symbols), model(other)
    torch.testing.assert_close(one[:, :25], two[:, :25])
    assert (one[:, 25] - two[:, 25]).abs().max() > 1e-6


def test_normalized_scores_have_a_bound_and_forget_the_length_of_their_weights(device):
    plain, normalized = body("warm-up").to(device), body("normalized").to(device)
    x = torch.randn(1, 9, 64, device=device)
    before = plain(x), normalized(x)
    with torch.no_grad():
        for net in (plain, normalized):
            for layer in net.encoder.layers:
                for linear in (layer.attention.query, layer.attention.key):
                    linear.weight *= 10
                    linear.bias *= 10
    torch.testing.assert_close(normalized(x), before[1], atol=1e-4, rtol=1e-4)
    assert (plain(x) - before[0]).abs().max() > 0.01

    attention = normalized.encoder.layers[0].attention
    q, k = attention._queries_and_keys(x, x)
    width = q.shape[-1]
    scores = q @ k.mT / math.sqrt(width)
    assert scores.abs().max() <= math.sqrt(width) + 1e-4
    torch.testing.assert_close(
        q.square().sum(dim=-1), torch.full_like(q[..., 0], width), rtol=1e-3, atol=0
    )


def test_the_span_by_hand():
    rates = [1.0, 10.0, 100.0]
    assert span(rates, [10.0, 10.0, 10.0]) == pytest.approx(100)
    assert span(rates, [12.0, 10.0, 12.0]) == pytest.approx(10)  # half of either side
    assert span(rates, [12.0, 10.0, 12.0], margin=0.2) == pytest.approx(100)
    assert span(rates, [10.0, 30.0, 10.0]) == pytest.approx(10**0.1)
    assert span(rates, [2.0, 1.0, 2.0]) == pytest.approx(span(rates, [20.0, 10.0, 20.0]))


def bits(kind, rate):
    """Return what was measured, from each seed; the sweep of the tuning page is attention's own."""
    swept = kind == "attention" and rate in SWEPT
    name = f"learning_rate={rate}" if swept else f"sensitivity/{kind}/{rate}"
    runs = results("applications")["runs"] + results("tuning")["runs"]
    found = [run["metrics"]["bits"] for run in runs if run["study"] == name]
    assert len(found) == 3, name
    return np.array(found)


def test_attention_bears_less_than_its_rivals():
    for rival in ("recurrence", "convolution"):
        assert bits(rival, 0.3).max() < bits("attention", 0.3).min() - 0.5
    best = {
        kind: min(bits(kind, rate).mean() for rate in RATES)
        for kind in ("attention", "recurrence", "convolution")
    }
    assert best["convolution"] < best["attention"] - 0.1 < best["recurrence"] - 0.3
    assert bits("attention", 0.1).mean() > 1.2 * best["attention"]
    assert bits("recurrence", 0.1).mean() < 1.1 * best["recurrence"]
    assert bits("convolution", 0.3).mean() < 1.05 * best["convolution"]


def test_normalized_queries_and_keys_bear_ten_times_the_rate():
    assert bits("normalized", 0.1).mean() < bits("attention", 0.1).mean() - 0.5
    assert bits("normalized", 0.3).max() < bits("attention", 0.3).min() - 1
    assert bits("normalized", 0.03).max() < bits("attention", 0.03).min()
    assert bits("normalized", 1.0).min() > 4.5  # but not every rate
