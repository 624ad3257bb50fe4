"""Needs: parts of the data that nest and leak nothing, and models of one size that learn."""

import numpy as np
import pytest
import torch

from attn_course.applications import images, needs, reading, tuning
from attn_course.applications.needs import DIGITS, STEPS, WIDTHS
from attn_course.applications.reading import BODIES, CONTEXT, SYMBOLS, Reader
from attn_course.notebook import results

STUDIES = {study.name: study for study in needs.studies()}


def test_the_parts_of_the_text_nest_and_do_not_reach_into_what_is_held_back():
    train, _ = reading.texts()
    fit, _ = tuning.fitted_and_held()
    parts = [needs.part(parts) for parts in sorted(STEPS, reverse=True)]
    lengths = [len(part) for part in parts]
    assert lengths == sorted(lengths)
    assert lengths == [len(train) // 100, len(train) // 10]
    for part in parts:
        assert len(part) < len(fit)
        np.testing.assert_array_equal(part, fit[: len(part)])


def test_the_parts_of_the_text_are_of_other_documents_than_the_test():
    part, test = (
        "".join(SYMBOLS[x] for x in text) for text in (needs.part(10), reading.texts()[1])
    )
    documents = [line for line in test.split("\n") if len(line) > 200]
    assert len(documents) > 100
    assert not [line for line in documents if line in part]


def test_a_part_is_all_that_a_training_reads(monkeypatch):
    seen = []

    def recorded(text, starts, length, device):
        seen.append((len(text), int(starts.max()) + length))
        return torch.zeros(len(starts), length, dtype=torch.long, device=device)

    monkeypatch.setattr(reading, "pieces", recorded)
    study = STUDIES["needs/convolution/1 of 100, 100 steps"]
    model, rng = study.build(), np.random.default_rng(0)
    for _ in range(50):
        study.loss(model, rng)
    length = len(reading.texts()[0]) // 100
    assert {found for found, _ in seen} == {length}
    assert length - 10 * CONTEXT < max(end for _, end in seen) <= length


@pytest.mark.parametrize("count", DIGITS)
def test_fewer_digits_nest_and_hold_every_class(monkeypatch, count):
    train, test = images.data()
    seen = set()

    def recorded(drawn, down, right):
        seen.update(map(bytes, drawn))
        return drawn

    monkeypatch.setattr(images, "moved", recorded)
    study = STUDIES[f"needs/conv/{count} digits"]
    model, rng = study.build(), np.random.default_rng(0)
    for _ in range(10 * count // 64):
        study.loss(model, rng)
    assert seen == set(map(bytes, train.images[:count]))
    assert not seen & set(map(bytes, test.images))
    each = np.bincount(train.labels[:count], minlength=10)
    assert each.max() - each.min() <= 1


def test_rivals_are_equally_large():
    sizes = []
    for body, widths in WIDTHS.items():
        bodies = [BODIES[body](width) for width in widths[:2]] + [BODIES[body]()]
        sizes.append([sum(x.numel() for x in Reader(each).parameters()) for each in bodies])
    sizes = np.array(sizes)
    assert (sizes.max(axis=0) < 1.03 * sizes.min(axis=0)).all()
    growth = sizes[:, 1:] / sizes[:, :-1]
    assert growth.min() > 3.9
    assert growth.max() < 4.8


@pytest.mark.parametrize("name", ["needs/recurrence/1 of 100, 400 steps", "needs/vit-7/125 digits"])
def test_the_loss_on_a_part_can_be_lowered(name, device):
    torch.manual_seed(0)
    study = STUDIES[name]
    model, rng = study.build().to(device), np.random.default_rng(0)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        value = study.loss(model, rng)
        adam.zero_grad()
        value.backward()
        adam.step()
        losses.append(value.item())
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_bits_are_measured_as_for_all_of_the_text(device):
    torch.manual_seed(0)
    model = Reader(BODIES["convolution"](15)).to(device).eval()
    measured = needs.part_bits(model)
    held_out, held_back = reading.texts()[1], tuning.fitted_and_held()[1]
    assert measured["bits"] == reading.bits(model, held_out)[:CONTEXT].mean()
    assert measured["held"] == reading.bits(model, held_back, length=CONTEXT).mean()
    assert measured["bits"] != measured["held"]


def reached(name, metric="bits"):
    runs = results("applications")["runs"]
    found = [run["metrics"][metric] for run in runs if run["study"] == name]
    assert len(found) == 3, name
    return np.array(found)


def least_held(body):
    """Return the bits in the text held back after the number of steps that makes them least."""
    studies = [f"needs/{body}/1 of 100, {steps} steps" for steps in STEPS[100]]
    return min(reached(study, "held").mean() for study in studies)


def test_more_parameters_and_more_text_help_every_reader():
    for body, (small, middle, *_) in WIDTHS.items():
        anew = body == "convolution"  # at a larger rate than on its own page
        large = reached(f"needs/{body}/width 80" if anew else f"reading/{body}")
        assert reached(f"needs/{body}/width {small}").min() > 2.5
        middle = reached(f"needs/{body}/width {middle}")
        assert 2.3 > middle.min() > large.max() + 0.1
        tenth = reached(f"needs/{body}/1 of 10, 800 steps")
        assert tenth.mean() > middle.mean()
        assert least_held(body) > tenth.max() + 0.3


def test_attention_learns_from_a_hundredth_of_the_text_what_a_convolution_does_not():
    best = {body: least_held(body) for body in WIDTHS}
    assert best["attention"] < best["convolution"] - 0.2
    assert abs(best["attention"] - best["recurrence"]) < 0.1


def test_the_convolution_needs_fewer_digits():
    for count in DIGITS:
        convolution = reached(f"needs/conv/{count} digits", "accuracy")
        transformer = reached(f"needs/vit-7/{count} digits", "accuracy")
        assert convolution.min() > transformer.max() + 0.01
    assert reached("needs/conv/125 digits", "accuracy").min() > 0.9
