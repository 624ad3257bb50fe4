"""Train a small model so that the run can be stopped, taken up again and repeated."""

import dataclasses
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

SAVE_EVERY = 5.0  # seconds

Loss = Callable[[nn.Module, np.random.Generator], Tensor]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW, with a learning rate that warms up and decays as a cosine.

    `steps` counts updates, `warmup` those of them in which the rate grows from 0 to
    `learning_rate`. Gradients longer than `clip` are shortened to it. The log has the mean loss of
    every `log_every` steps.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    log_every: int = 50

    def rate(self, step: int) -> float:
        """Return the learning rate of the update after `step` updates.

        >>> recipe = Recipe(steps=300, learning_rate=1.0, warmup=100)
        >>> [round(recipe.rate(step), 3) for step in (0, 99, 200, 299)]
        [0.01, 1.0, 0.5, 0.0]
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (1 + math.cos(math.pi * share)) / 2


def train(
    model: nn.Module, loss: Loss, recipe: Recipe, *, seed: int, unfinished: Path, title: str = ""
) -> list[tuple[int, float]]:
    """Train `model` in place and return its log: the count of steps and the mean loss up to it.

    ``loss(model, rng)`` draws a batch from the generator `rng`, which `seed` starts, and returns
    the loss to lower. The same seed gives the same weights, on one machine and one thread.

    Every few seconds the run is saved to the file `unfinished`; after an interruption the next
    call with that file goes on from there, to the very weights that an uninterrupted run reaches.
    At the end the file is removed.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: `unfinished` holds a run of another recipe or seed, or none.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    asked = {"recipe": dataclasses.asdict(recipe), "seed": seed}
    step, log, recent = 0, [], []
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    if unfinished.exists():
        try:
            saved = torch.load(unfinished, weights_only=True)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            raise ValueError(
                f"{unfinished} is damaged: remove it, and the run starts anew"
            ) from error
        if saved["asked"] != asked:
            raise ValueError(f"{unfinished} holds {saved['asked']}, asked for {asked}: remove it")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        rng.bit_generator.state = saved["numpy"]
        torch.set_rng_state(saved["torch"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(saved["cuda"])
        step, log, recent = saved["step"], saved["log"], saved["recent"]

    def save():
        state = {
            "asked": asked,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "numpy": rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "step": step,
            "log": log,
            "recent": recent,
        }
        written = unfinished.with_suffix(".part")  # a half-written file never takes the place
        torch.save(state, written)
        written.replace(unfinished)

    model.train()
    saved_at = time.monotonic()
    with tqdm(total=recipe.steps, initial=step, desc=title, leave=False) as bar:
        while step < recipe.steps:
            value = loss(model, rng)
            if not torch.isfinite(value):
                raise FloatingPointError(f"{title}: the loss is {value.item()} at step {step}")
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(step)
            optimizer.step()
            step += 1
            recent.append(value.item())
            bar.update()
            if step % recipe.log_every == 0 or step == recipe.steps:
                log.append((step, sum(recent) / len(recent)))
                recent = []
                bar.set_postfix(loss=f"{log[-1][1]:.3f}")
            if time.monotonic() > saved_at + SAVE_EVERY:
                save()
                saved_at = time.monotonic()
    unfinished.unlink(missing_ok=True)
    model.eval()
    return log
