"""How well the exercises tell right from wrong: what `make kill-rate` writes and a page prints.

    python tests/kill_rate.py      # writes benchmarks/results/exercises.json

For each exercise: how many known mistakes there are, how many are rejected and how many are named;
of pairs of them made at once, how many are named in full, and how many have the numbers of one
mistake alone; how many right answers are accepted; how many unrelated answers are given a name all
the same; and how many mistakes that the exercise does not know (`tests/wrong_answers`) are
rejected.
"""

import importlib
import itertools
import json
import sys

import numpy as np

from attn_course.exercises import EXERCISES, check
from attn_course.exercises.checking import Outcome, attempted, expected, judge
from attn_course.notebook import RESULTS

UNRELATED = 100
MOST_PAIRS = 60


def banked(exercise):
    """Return the wrong answers of the exercise by the name of their mistake."""
    return {slip.name: exercise.wrong([slip.name]) for slip in exercise.all_slips()}


def unrelated(exercise, seed, count=UNRELATED):
    """Return the reports on answers of the right shape whose numbers have nothing to do with it."""
    cases = exercise.draw(seed)
    rng = np.random.default_rng(seed)
    wanted = [expected(exercise, case) for case in cases]
    return [
        judge(
            exercise,
            cases,
            [Outcome(tuple(noise(part, rng) for part in parts)) for parts in wanted],
            seed,
        )
        for _ in range(count)
    ]


def noise(array, rng):
    if array.dtype.kind == "b":
        return rng.random(array.shape) < 0.5
    return rng.standard_normal(array.shape).astype(array.dtype)


def pairs(exercise, seed):
    """Return how many pairs of slips were tried, named, and are told by one slip alone.

    Pairs that cannot be made together are left out, and so are those that undo each other.
    """
    names = [slip.name for slip in exercise.slips]
    every = list(itertools.combinations(names, 2))
    cases = exercise.draw(seed)
    small = [case for case in cases if case.bound is None]
    drawn = np.random.default_rng(seed).permutation(len(every))[:MOST_PAIRS]
    tried = named = fewer = 0
    for a, b in (every[i] for i in sorted(drawn)):
        outcomes = [attempted(exercise, frozenset([a, b]), case) for case in small]
        if None in outcomes:
            continue
        report = judge(exercise, small, outcomes, seed)
        if report.passed:
            continue
        found = {slip.name for slip in report.misconceptions}
        tried += 1
        named += found == {a, b}
        fewer += len(found) == 1
    return {"pairs": tried, "pairs_named": named, "pairs_as_one": fewer}


def unseen(topic):
    """Return the wrong answers to the exercises of `topic` that their writers did not bank."""
    return importlib.import_module(f"wrong_answers.{topic}").WRONG


def row(exercise, seed):
    """Return one row of the table."""
    wrong = banked(exercise).items()
    known = {name: check(exercise.name, answer, seed=seed) for name, answer in wrong}
    others = unseen(exercise.topic)[exercise.name]
    return {
        "exercise": exercise.name,
        "topic": exercise.topic,
        "kind": exercise.kind,
        "difficulty": exercise.difficulty,
        "minutes": exercise.minutes,
        "wrong": len(known),
        "rejected": sum(not report.passed for report in known.values()),
        "named": sum([slip.name for slip in r.misconceptions] == [n] for n, r in known.items()),
        "right": len(exercise.right),
        "accepted": sum(check(exercise.name, x, seed=seed).passed for x in exercise.right),
        "unrelated": UNRELATED,
        "unrelated_named": sum(bool(r.misconceptions) for r in unrelated(exercise, seed)),
        "unseen": len(others),
        "unseen_rejected": sum(not check(exercise.name, x, seed=seed).passed for x in others),
        **pairs(exercise, seed),
    }


def main():
    rows = []
    for number, exercise in enumerate(EXERCISES.values(), 1):
        rows.append(row(exercise, seed=number))
        told = ", ".join(f"{key} {value}" for key, value in list(rows[-1].items())[5:])
        print(f"{number:2}/{len(EXERCISES)} {exercise.name}: {told}", flush=True)
    (RESULTS / "exercises.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
