"""What is measured of the applications: models trained from several seeds, and their metrics.

The results go to `benchmarks/results/applications.json`, and the model of the first seed to
`benchmarks/checkpoints`, from where the pages of the book load it.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from attn_course.applications.training import Loss, Recipe, train

ROOT = Path(__file__).resolve().parents[2] / "benchmarks"


@dataclasses.dataclass(frozen=True)
class Study:
    """A model, how it is trained and how it is measured.

    `build` makes the model, its weights drawn from torch's generator. `evaluate` returns metrics by
    their names, measured on data that the model was not trained on. What needs no training has no
    `loss` and no `recipe`; what needs no model either has a `build` that returns `nn.Identity()`.
    The weights that the first seed reached are kept if `stored`, for a page to load.
    """

    name: str
    build: Callable[[], nn.Module]
    evaluate: Callable[[nn.Module], dict[str, float]]
    loss: Loss | None = None
    recipe: Recipe | None = None
    stored: bool = True

    def trained(self, seed: int, device: str, unfinished: Path) -> tuple[nn.Module, list]:
        """Return the model trained from `seed`, and the log of its training.

        The weights are rounded to float16 at the end, as they are stored: what is measured is
        what a page loads.
        """
        torch.manual_seed(seed)
        model = self.build().to(device)
        if self.recipe is None:
            return model.eval(), []
        title = f"{self.name}, seed {seed}"
        log = train(model, self.loss, self.recipe, seed=seed, unfinished=unfinished, title=title)
        return model.half().float(), log


def checkpoint(name: str) -> Path:
    """Return where the weights of the study `name` stand."""
    return ROOT / "checkpoints" / f"{name.replace('/', '-')}.safetensors"


def load(study: Study, device: str = "cpu") -> nn.Module:
    """Return the model of `study` with the weights that its first seed reached.

    Raises:
        FileNotFoundError: the study was not trained yet; the message is the command that does.
        ValueError: the weights of `study` are not stored.
    """
    if not study.stored:
        raise ValueError(f"of {study.name} only the results are kept, not the weights")
    path = checkpoint(study.name)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no {path.name} in {path.parent}; this trains it: "
            f"python -m attn_course.applications {study.name}"
        )
    model = study.build().to(device)
    model.load_state_dict({name: x.float() for name, x in load_file(path).items()})
    return model.eval()


def machine(device: str) -> dict:
    """Return what the figures depend on, and nothing that names one machine."""
    names = ("numpy", "torch")
    versions = {name: importlib.metadata.version(name).split("+")[0] for name in names}
    kind = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {"device": kind, "python": platform.python_version(), **versions}


def measure(studies: Iterable[Study], seeds: Iterable[int], device: str, results: Path) -> None:
    """Train and measure each study from each seed, and add what was measured to `results`.

    A run whose result stands there already, made by the same recipe, is not made again. Each
    result is written when it is there, so that an interruption loses none. The model of seed 0 is
    stored in `checkpoints` if the study's are.
    """
    planned = [(study, seed) for study in studies for seed in (seeds if study.recipe else (0,))]
    for number, (study, seed) in enumerate(planned, 1):
        recipe = study.recipe and dataclasses.asdict(study.recipe)
        title = f"{number}/{len(planned)} {study.name}, seed {seed}"
        done = standing(results)[1].get((study.name, seed))
        if done and done["recipe"] == recipe:
            print(f"{title}: stands already: {shown(done['metrics'])}")
            continue
        start = time.process_time()
        unfinished = checkpoint(f"{study.name}-{seed}").with_suffix(".unfinished")
        model, log = study.trained(seed, device, unfinished)
        seconds = time.process_time() - start
        metrics = study.evaluate(model)
        print(f"{title}: {shown(metrics)}", flush=True)
        if study.stored and recipe and seed == 0:
            checkpoint(study.name).parent.mkdir(parents=True, exist_ok=True)
            state = {name: x.half().cpu() for name, x in model.state_dict().items()}
            save_file(state, checkpoint(study.name))
        table, runs = standing(results)  # read anew, for another process may have added to it
        runs[study.name, seed] = {
            "study": study.name,
            "seed": seed,
            "recipe": recipe,
            "parameters": sum(x.numel() for x in model.parameters()),
            "metrics": {name: float(f"{value:.6g}") for name, value in metrics.items()},
            "log": [[step, round(loss, 4)] for step, loss in log],
            "cpu_seconds": round(seconds, 1),
            "machine": machine(device),
        }
        write(results, table | {"runs": [runs[key] for key in sorted(runs)]})


def standing(results: Path) -> tuple[dict, dict]:
    """Return what the file `results` holds, and its runs by study and seed.

    Raises:
        ValueError: the file holds something else.
    """
    if not results.exists():
        return {"runs": []}, {}
    try:
        table = json.loads(results.read_text())
        return table, {(run["study"], run["seed"]): run for run in table["runs"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{results} is damaged: restore it, or remove it to measure everything anew"
        ) from error


def shown(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def write(path: Path, table: dict) -> None:
    """Write `table` to `path` at once, so that an interruption leaves the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(table, indent=1) + "\n")
    os.replace(part, path)
