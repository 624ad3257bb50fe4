"""Tuning attention: each setting varied alone, then folds, a search, and one look at the test set.

    python -m attn_course.applications.tuning

Two tasks serve. *Sweeps* vary one setting at a time of a small reader of text
(`attn_course.applications.reading`), whose loss is measured finely: its settings are compared by
the bits that a character costs in documents held back from those for training. *Folds* and *search*
choose settings for the speakers of vowels (`attn_course.applications.sound`), whose 270 utterances
are few enough for a single split to mislead. The test set of the vowels is measured at the end,
once for each seed.

Every result goes to `benchmarks/results/tuning.json` when it is there. The same command goes on
from there, to the results that an uninterrupted run has.
"""

import argparse
import dataclasses
import functools
import math
import sys
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sklearn.model_selection import LeaveOneGroupOut
from torch import Tensor, nn
from torch.nn import functional as F

from attn_course.applications import reading, sound
from attn_course.applications.studies import ROOT, Study, measure, standing, write
from attn_course.applications.training import Recipe, train
from attn_course.data import Vowels, vowels
from attn_course.data.packages import library
from attn_course.fast import (
    Encoder,
    EncoderLayer,
    alibi_bias,
    post_norm,
    pre_norm,
    rotary,
    sinusoidal_positions,
    window_mask,
)

RESULTS = ROOT / "results" / "tuning.json"
SEEDS = (0, 1, 2)
LONGER = 1200  # steps
NORMS = {"before": pre_norm, "after": post_norm}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What there is to tune in a reader of text, with the values that the sweeps start from.

    `sharpness` multiplies the scores, so it is one over a temperature on top of ``1/√d``. `initial`
    multiplies the initial weights of the projections of queries and keys. `window` counts keys.
    """

    heads: int = 4
    width: int = 64
    layers: int = 2
    dropout: float = 0.0
    positions: str = "rotary"
    window: int = reading.CONTEXT
    sharpness: float = 1.0
    initial: float = 1.0
    norm: str = "before"
    learning_rate: float = 1e-2
    warmup: int = 30
    steps: int = 300


SWEEPS = {
    "sharpness": (0.1, 0.3, 1.0, 3.0, 10.0),
    "heads": (1, 2, 4, 8, 16),
    "width": (16, 32, 64, 128),
    "layers": (1, 2, 3),
    "dropout": (0.0, 0.1, 0.2, 0.4),
    "positions": ("none", "sinusoidal", "learned", "rotary", "alibi"),
    "window": (4, 16, 64, 128),
    "initial": (0.1, 0.3, 1.0, 3.0, 10.0),
    "norm": ("before", "after"),
    "learning_rate": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "warmup": (0, 30, 100),
}


class Body(nn.Module):
    """The layers of a reader with `settings`: rows in, rows out, under a causal mask."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.width, self.settings = settings.width, settings
        layers = [
            EncoderLayer(
                settings.width,
                settings.heads,
                2 * settings.width,
                dropout=settings.dropout,
                residual=NORMS[settings.norm],
                rotate=self.rotated,
            )
            for _ in range(settings.layers)
        ]
        with torch.no_grad():
            for layer in layers:
                layer.attention.query.weight *= settings.initial
                layer.attention.key.weight *= settings.initial
        # The norm at the end is what a stack with norms before its steps lacks.
        norm = nn.LayerNorm(settings.width) if settings.norm == "before" else None
        self.encoder = Encoder(layers, norm=norm)
        if settings.positions == "learned":
            self.table = nn.Parameter(0.02 * torch.randn(reading.CONTEXT, settings.width))

    def rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return queries or keys turned, if positions are, and scaled for their product."""
        x = math.sqrt(self.settings.sharpness) * x
        return rotary(x, positions) if self.settings.positions == "rotary" else x

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        length, kind = x.shape[-2], self.settings.positions
        if kind == "sinusoidal":
            x = x + sinusoidal_positions(length, self.width, device=x.device)
        if kind == "learned":
            x = x + self.table[:length]
        options = dict(device=x.device)
        bias = 0.0
        if kind == "alibi":
            bias = alibi_bias(self.settings.heads, length, length, **options)
        mask = window_mask(length, length, self.settings.window, **options)  # causal already
        return self.encoder(x, mask, bias=bias)


@functools.cache
def fitted_and_held() -> list[np.ndarray]:
    """Return nine tenths of the text for training, and the tenth that settings are compared on."""
    text, _ = reading.texts()
    return np.split(text, [9 * len(text) // 10])


def reading_loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
    """Return the mean cross-entropy on 16 random pieces."""
    return reading.loss(model, rng, 16, fitted_and_held()[0])


def reading_bits(model: nn.Module) -> dict[str, float]:
    """Return the bits that a character costs in the part held back."""
    _, text = fitted_and_held()
    return {"bits": reading.bits(model, text, length=reading.CONTEXT).mean()}


def sweeps() -> list[Study]:
    """Return a study for each value of each setting, named ``setting=value``.

    The learning rate is varied for either place of the norms, and the window in longer runs too.
    """
    varied = [{setting: value} for setting, values in SWEEPS.items() for value in values]
    varied += [{"norm": "after", "learning_rate": value} for value in SWEEPS["learning_rate"]]
    varied += [{"window": value, "steps": LONGER} for value in SWEEPS["window"]]
    return [
        Study(
            ", ".join(f"{setting}={value}" for setting, value in changed.items()),
            lambda chosen=chosen: reading.Reader(Body(chosen)),
            reading_bits,
            reading_loss,
            Recipe(
                steps=chosen.steps,
                learning_rate=chosen.learning_rate,
                warmup=chosen.warmup,
                log_every=100,
            ),
            stored=False,
        )
        for changed in varied
        for chosen in [dataclasses.replace(Settings(), **changed)]
    ]


@dataclasses.dataclass(frozen=True)
class Speakers:
    """What the search chooses for the speakers of vowels."""

    width: int
    layers: int
    dropout: float
    learning_rate: float
    weight_decay: float

    def model(self) -> nn.Module:
        return sound.SpeakerModel("attention", self.width, self.layers, self.dropout)

    def recipe(self) -> Recipe:
        return Recipe(
            steps=300,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            log_every=300,
        )


FOLDS, TRIALS, TRIALS_AT_RANDOM, FINAL_SEEDS = 5, 24, 8, 5


@functools.cache
def folds() -> list[tuple[Vowels, Vowels]]:
    """Return for each fold what is trained on and what is held back, scaled by the former.

    Each fold holds back six utterances of each speaker that follow one another, because those
    recorded together may be alike.
    """
    train, _ = vowels()
    places = np.arange(len(train.speakers))
    within = places - np.searchsorted(train.speakers, train.speakers)  # the speakers are in order
    found = LeaveOneGroupOut().split(places, groups=within * FOLDS // (within.max() + 1))
    parts = [tuple(taken(train, rows) for rows in pair) for pair in found]
    return [(sound.scaled(fit, by=fit), sound.scaled(held, by=fit)) for fit, held in parts]


def taken(part: Vowels, rows: np.ndarray) -> Vowels:
    """Return the utterances `rows` of `part`."""
    return Vowels(part.frames[rows], part.lengths[rows], part.speakers[rows])


def fitted(
    chosen: Speakers, fit: Vowels, held: Vowels, seed: int, *, key: str, results: Path
) -> dict:
    """Train on `fit` from `seed`; return the cross-entropy and the accuracy on `held`.

    What `results` has under `key`, for the same settings, is returned as it stands there.
    """
    settings = dataclasses.asdict(chosen)
    done = standing(results)[0].get("fits", {}).get(key)
    if done and done["settings"] == settings:
        return done

    def loss(model, rng):
        rows = rng.integers(len(fit.lengths), size=32)
        frames, lengths, speakers = sound.batch(fit, rows, "cpu")
        return F.cross_entropy(model(*sound.varied(frames, lengths, rng)), speakers)

    torch.manual_seed(seed)
    model = chosen.model()
    unfinished = results.with_name(f"{key.replace(' ', '-')}.unfinished")
    train(model, loss, chosen.recipe(), seed=seed, unfinished=unfinished, title=key)
    frames, lengths, speakers = sound.batch(held, np.arange(len(held.lengths)), "cpu")
    with torch.no_grad():
        scores = model(frames, lengths)
    found = {
        "settings": settings,
        "loss": round(F.cross_entropy(scores, speakers).item(), 6),
        "accuracy": round((scores.argmax(dim=-1) == speakers).float().mean().item(), 6),
    }
    table, _ = standing(results)  # read anew, for another process may have added to it
    write(results, table | {"fits": table.get("fits", {}) | {key: found}})
    return found


def search(results: Path) -> Speakers:
    """Return the settings of the least mean loss over the folds, of `TRIALS` that are tried.

    The first trials are drawn at random, the others where a tree-structured Parzen estimator
    expects to improve (Bergstra et al., 2011). Each trial's choice depends on its number and on the
    results before it alone, so a search that was stopped goes on as if it had not been.
    """
    optuna = library("optuna")  # only the search needs it, and it takes seconds to import
    ranges = optuna.distributions
    space = {
        "width": ranges.CategoricalDistribution([16, 32, 64]),
        "layers": ranges.IntDistribution(0, 2),
        "dropout": ranges.FloatDistribution(0.0, 0.4),
        "learning_rate": ranges.FloatDistribution(3e-4, 3e-2, log=True),
        "weight_decay": ranges.FloatDistribution(1e-3, 1.0, log=True),
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for number in range(TRIALS):
        study.sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=TRIALS_AT_RANDOM)
        trial = study.ask(space)
        chosen = Speakers(**trial.params)
        losses = [
            fitted(chosen, *fold, 0, key=f"trial {number} fold {index}", results=results)["loss"]
            for index, fold in enumerate(folds())
        ]
        study.tell(trial, float(np.mean(losses)))
        print(f"{number + 1}/{TRIALS} {chosen}: loss {np.mean(losses):.3f}", flush=True)
    return Speakers(**study.best_params)


def confirm(chosen: Speakers, results: Path) -> None:
    """Measure what the choice depends on: seeds on every fold; then the test set, once a seed."""
    for seed in range(1, FINAL_SEEDS):
        losses = [
            fitted(chosen, *fold, seed, key=f"seed {seed} fold {index}", results=results)["loss"]
            for index, fold in enumerate(folds())
        ]
        print(
            f"{seed}/{FINAL_SEEDS - 1} folds, seed {seed}: loss {np.mean(losses):.3f}", flush=True
        )
    for seed in range(FINAL_SEEDS):
        found = fitted(chosen, *sound.normalized(), seed, key=f"test seed {seed}", results=results)
        print(
            f"{seed + 1}/{FINAL_SEEDS} test, seed {seed}: accuracy {found['accuracy']:.4f}",
            flush=True,
        )


def main() -> None:
    summary = __doc__.partition("\n\n")[0]
    parser = argparse.ArgumentParser(
        prog="python -m attn_course.applications.tuning",
        description=summary,
        epilog="A run that is stopped goes on where it was when the same command is given again.",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="a JSON file to add to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        measure(sweeps(), SEEDS, "cpu", options.results)
        confirm(search(options.results), options.results)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")


if __name__ == "__main__":
    main()
