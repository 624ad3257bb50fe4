"""Reading: three models of one size that see what came before, and nothing after."""

import math

import numpy as np
import pytest
import torch

from attn_course.applications import reading
from attn_course.applications.reading import BODIES, CONTEXT, SYMBOLS, Reader
from attn_course.applications.studies import load
from attn_course.notebook import results


def reader(name, device="cpu"):
    torch.manual_seed(0)
    return Reader(BODIES[name]()).to(device).eval()


def test_the_texts_are_of_other_services_and_of_known_symbols():
    train, test = reading.texts()
    assert len(train) > 3_000_000
    assert len(test) > 300_000
    assert max(train.max(), test.max()) < len(SYMBOLS)
    beginning = "".join(SYMBOLS[x] for x in test[:500])
    assert "\n" in beginning
    assert beginning.count(" ") > 50
    known = "".join(SYMBOLS[x] for x in train)
    assert sum(line in known for line in beginning.split("\n")[1:3]) == 0


def test_the_models_are_equally_large():
    sizes = [sum(x.numel() for x in reader(name).parameters()) for name in BODIES]
    assert max(sizes) < 1.02 * min(sizes)


@pytest.mark.parametrize("name", BODIES)
def test_what_comes_after_does_not_matter(name, device):
    model = reader(name, device)
    symbols = torch.arange(40, device=device).remainder(7)[None]
    other = symbols.clone()
    other[:, 25] = 9
    with torch.no_grad():
        one, two = model(symbols), model(other)
    assert one.shape == (1, 40, len(SYMBOLS))
    torch.testing.assert_close(one[:, :25], two[:, :25])
    assert (one[:, 25:] - two[:, 25:]).abs().amax(dim=-1).min() > 1e-6


def test_the_convolution_sees_as_far_as_it_says():
    model = reader("convolution")
    symbols = torch.zeros(1, 80, dtype=torch.long)
    other = symbols.clone()
    other[:, 5] = 1
    with torch.no_grad():
        changed = (model(symbols) - model(other)).abs().amax(dim=-1)[0] > 0
    assert changed.nonzero()[[0, -1], 0].tolist() == [5, 5 + 60]


def test_two_windows_see_as_far_as_they_say():
    model, reach = reader("window"), 2 * (reading.WINDOW - 1)
    symbols = torch.zeros(1, 80, dtype=torch.long)
    other = symbols.clone()
    other[:, 5] = 1
    with torch.no_grad():
        changed = (model(symbols) - model(other)).abs().amax(dim=-1)[0] > 0
    assert changed.nonzero()[[0, -1], 0].tolist() == [5, 5 + reach]


def test_slopes_know_distances_and_no_positions(device):
    """Two texts that end alike are read alike at the end, once what differs is far away."""
    model = reader("sloped", device)
    tail = torch.arange(40, device=device).remainder(11)[None]
    with torch.no_grad():
        long = model(torch.cat([tail[:, :3], tail], dim=1))[:, 3:]
        short = model(tail)
    assert (long - short).abs().max() > 1e-6  # the first rows still see the three before them
    model.body.bias = lambda length, where: -1e4 * (1 - torch.eye(length, device=where))
    with torch.no_grad():
        torch.testing.assert_close(model(tail)[:, 7], model(tail[:, 7:8])[:, 0])


@pytest.mark.parametrize("name", BODIES)
def test_costs_are_those_of_the_symbols_one_by_one(name):
    model = reader(name)
    symbols = torch.arange(30).remainder(7)[None].repeat(3, 1)
    found = reading.costs(model, symbols, at_once=2)
    assert found.shape == (3, 29)
    with torch.no_grad():
        chances = model(symbols[:1, :12]).softmax(dim=-1)[0, -1]
    assert found[0, 11] == pytest.approx(-math.log2(chances[symbols[0, 12]].item()), rel=1e-5)


def test_words_that_come_again_are_told_from_new_ones():
    def numbers(text):
        return np.array([SYMBOLS.index(x) for x in text])

    text = " tables, chair; tables TABLES tab"
    known, new = reading.followed(numbers(text))
    assert "".join(text[place] for place in known) == "bles"
    assert "".join(text[place] for place in new) == "bles" + "air" + "BLES"
    assert reading.followed(numbers("tables")) == ([], [])  # it may have begun before


def test_a_model_that_knows_nothing_needs_the_bits_of_the_alphabet():
    model = reader("attention")
    with torch.no_grad():
        model.read.weight.zero_()
        model.read.bias.zero_()
    bits = reading.bits(model, reading.texts()[1], length=9, count=20)
    np.testing.assert_allclose(bits, math.log2(len(SYMBOLS)), rtol=1e-6)


def test_a_model_that_knows_the_symbol_needs_few_bits():
    model = reader("convolution")
    with torch.no_grad():
        model.read.weight.zero_()
        model.read.bias.zero_()
        model.read.bias[SYMBOLS.index("e")] = 20
    text = np.full(1000, SYMBOLS.index("e"), dtype=np.uint8)
    assert reading.bits(model, text, length=30, count=4).max() < 1e-6


@pytest.mark.parametrize("name", BODIES)
def test_the_loss_can_be_lowered(name, device):
    model, rng = reader(name, device), np.random.default_rng(0)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        value = reading.loss(model, rng)
        adam.zero_grad()
        value.backward()
        adam.step()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]


def test_what_was_reached():
    runs = [run for run in results("applications")["runs"] if run["study"].startswith("reading/")]

    def reached(name, metric):
        found = [run["metrics"][metric] for run in runs if run["study"] == f"reading/{name}"]
        assert len(found) == 3
        return found

    for name in BODIES:
        assert (
            1 < min(reached(name, "bits")) <= max(reached(name, "bits")) < 2.2
        )  # by frequency 4.3
        for again, new in zip(
            reached(name, "bits_word_again"), reached(name, "bits_word_new"), strict=True
        ):
            assert again < new
    assert min(reached("attention", "bits_beyond")) > 4
    for name in ("recurrence", "convolution", "sloped", "window"):
        assert max(reached(name, "bits_beyond")) < 2

    model = reading.studies()[0]
    assert model.name == "reading/attention"
    stored = load(model)
    known = next(run for run in runs if (run["study"], run["seed"]) == (model.name, 0))
    assert reading.bits(stored, reading.texts()[1])[:CONTEXT].mean() == pytest.approx(
        known["metrics"]["bits"], abs=1e-3
    )
