"""Exercises that explain the mistake: `check` runs an answer and says what is wrong with it.

    from attn_course.exercises import check

    report = check("attention", my_attention)
    report.passed          # whether it is right
    report.misconceptions  # the known mistakes that give the very same numbers
    report.evidence        # the smallest case that shows it

In a notebook the report is a card, elsewhere print it. NumPy is all that this package needs.
"""

import numpy as np

from attn_course.exercises import (
    cache,
    dot_product,
    gradients,
    linear,
    masks,
    multi_head,
    pooling,
    positions,
    scores,
    softmax,
    tiled,
    transformer,
    window,
)
from attn_course.exercises.checking import check_answer
from attn_course.exercises.exercise import Case, Exercise, Slip
from attn_course.exercises.report import Evidence, Report

TOPICS = (  # in the order of the course
    softmax,
    pooling,
    scores,
    dot_product,
    masks,
    multi_head,
    positions,
    gradients,
    tiled,
    window,
    linear,
    cache,
    transformer,
)
EXERCISES = {exercise.name: exercise for topic in TOPICS for exercise in topic.EXERCISES}


def check(name: str, answer, *, seed: int | None = None) -> Report:
    """Judge `answer` to the exercise `name`.

    The answer is a function, a string of letters or a number, as the exercise asks. A function is
    called with copies of the arguments, on cases that are always the same and on cases that are
    drawn anew at every call; with `seed`, on those that this seed draws. Whatever it raises is
    reported. An answer that is unfinished, None or ``...``, counts as not attempted.

    >>> from attn_course.reference import attention
    >>> check("attention", attention).passed
    True

    Raises:
        KeyError: there is no exercise of this name; the message has those that there are.
    """
    if name not in EXERCISES:
        raise KeyError(f"there is no exercise {name!r}, only {', '.join(EXERCISES)}")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    return check_answer(EXERCISES[name], answer, seed)


__all__ = ["EXERCISES", "TOPICS", "Case", "Evidence", "Exercise", "Report", "Slip", "check"]
