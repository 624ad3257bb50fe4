"""What an exercise is: a question, the mistakes that are known of it, and the cases that tell.

A right answer and every known mistake are one function, `Exercise.solve`. Its first argument says
which slips to make: none for the right answer. So slips combine, and a student's numbers can be
compared with those of every small set of them.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

KINDS = ("implement", "finish", "order", "predict", "find the bug", "extend")


class Incompatible(Exception):
    """Raised by `Exercise.solve` for slips that no one could make together."""


@dataclasses.dataclass(frozen=True)
class Slip:
    """A known mistake: its name, what to tell who made it, and the page of the book to reread."""

    name: str
    message: str
    page: str


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of an answer, and in `what` the situation that it is.

    `bound` limits the memory that the call may take beyond its arguments, in bytes, its result
    included. Cases with a bound are large, and serve for nothing else.
    """

    what: str
    args: tuple = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bound: int | None = None

    def size(self) -> int:
        """Return how many numbers the arguments hold: of two failing cases the smaller is shown."""
        return sum(np.size(x) for x in (*self.args, *self.kwargs.values()) if not callable(x))


@dataclasses.dataclass(frozen=True)
class Lines:
    """The lines of a program out of order, lettered from A; some may belong nowhere.

    `header` is the line that stands above them, with ``def`` and the arguments. `helpers` are the
    functions that the lines call, besides ``np`` and ``math``.
    """

    header: str
    lines: tuple[str, ...]
    helpers: tuple[Callable, ...] = ()

    def lettered(self) -> dict[str, str]:
        """Return the lines by their letters."""
        return {chr(ord("A") + number): line for number, line in enumerate(self.lines)}

    def program(self, order) -> Callable:
        """Return the function whose lines stand in `order`, a string of letters such as "CAB".

        Raises:
            TypeError: `order` is no string.
            ValueError: a letter is unknown or stands twice, or there is none.
            SyntaxError: the lines make no program.
        """
        if not isinstance(order, str):
            raise TypeError(f"the order is {type(order).__name__}, expected a string of letters")
        letters = [letter for letter in order.upper() if not letter.isspace() and letter != ","]
        known = self.lettered()
        for letter in letters:
            if letter not in known:
                raise ValueError(f"there is no line {letter!r}, only {', '.join(known)}")
            if letters.count(letter) > 1:
                raise ValueError(f"line {letter} stands more than once")
        if not letters:
            raise ValueError("the order names no line")
        text = "\n".join([self.header, *(f"    {known[letter]}" for letter in letters)])
        scope = {"np": np, "math": math, **{helper.__name__: helper for helper in self.helpers}}
        exec(compile(text, "<your order>", "exec"), scope)  # the lines are ours, the order is not
        return next(reversed(scope.values()))


class Orders:
    """`Exercise.solve` for lines out of order: `right` is the right order, `wrong` has one a slip.

    Two slips at once make no order.
    """

    def __init__(self, lines: Lines, right: str, wrong: Mapping[str, str]):
        self.lines, self.right, self.wrong = lines, right, wrong
        # As of a function of slips and of the arguments that the lines have: reports name them.
        slips = inspect.Parameter("slips", inspect.Parameter.POSITIONAL_ONLY)
        named = inspect.signature(lines.program(right)).parameters.values()
        self.__signature__ = inspect.Signature([slips, *named])

    def __call__(self, slips, *args, **kwargs):
        return self.lines.program(self.order(slips))(*args, **kwargs)

    def order(self, slips: Collection[str]) -> str:
        """Return the order that a student writes who makes `slips`."""
        if len(slips) > 1:
            raise Incompatible
        return self.wrong[next(iter(slips))] if slips else self.right


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A question to a student, and all that is needed to judge and explain an answer.

    The answer is a function that takes the arguments of a `Case`; for the kind "order", a string
    of letters (see `Lines`); for the kind "predict", a number or an array.

    Attributes:
        name: what `check` is called with, and the name of the student's function or variable.
        topic: the module, the row of the course's table, that the exercise belongs to.
        title: a heading.
        kind: one of `KINDS`.
        difficulty: 1, 2 or 3.
        minutes: how long a student needs, estimated.
        prompt: the question, in Markdown.
        hints: three, each telling more than the one before.
        solve: ``solve(slips, *args, **kwargs)`` answers with the slips made that `slips` names.
        slips: the known mistakes, those first that are made most often.
        cases: draws the cases from a generator. A prediction has one case, without arguments.
        starter: the cell that the student begins with, where the answer is a function.
        right: right answers that differ from `solve`.
        helpers: names of `attn_course.reference` that the answer may use.
        parts: names of the results, where there are several.
        lines: for the kind "order".
        costly: the slip that gives right numbers and takes too much memory.
        bug: for the kind "find the bug", the slip that the starter makes.
    """

    name: str
    topic: str
    title: str
    kind: str
    difficulty: int
    minutes: int
    prompt: str
    hints: tuple[str, str, str]
    solve: Callable
    slips: tuple[Slip, ...]
    cases: Callable[[np.random.Generator], list[Case]] = lambda rng: [Case("your prediction")]
    starter: str = ""
    right: tuple = ()
    helpers: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    lines: Lines | None = None
    costly: Slip | None = None
    bug: str = ""

    def cell(self) -> str:
        """Return the cell that the student begins with."""
        if self.kind == "predict":
            return f"{self.name} = ...\n"
        if self.lines is not None:
            return f'{self.name} = ""  # letters, such as "CAB"\n'
        return self.starter

    def all_slips(self) -> tuple[Slip, ...]:
        """Return the known mistakes, the costly one included."""
        return self.slips if self.costly is None else (*self.slips, self.costly)

    def function(self, answer) -> Callable:
        """Return `answer` as a function of the arguments of a case.

        Raises:
            TypeError: the answer is not of the kind that is asked for.
            ValueError, SyntaxError: see `Lines.program`.
        """
        if self.kind == "predict":
            return lambda: answer
        if self.lines is not None:
            return self.lines.program(answer)
        if not callable(answer):
            raise TypeError(f"the answer is {type(answer).__name__}, expected a function")
        return answer

    def wrong(self, slips: Collection[str]):
        """Return the answer of a student who makes `slips`."""
        if self.kind == "predict":
            return self.solve(frozenset(slips))
        if self.lines is not None:
            return self.solve.order(slips)
        return lambda *args, **kwargs: self.solve(frozenset(slips), *args, **kwargs)

    def draw(self, seed: int) -> list[Case]:
        """Return the cases: those always asked, then those that `seed` draws, smallest first.

        The case that a report shows is one of those always asked, if the answer fails any, so
        that it stays the same while a student looks for the mistake.
        """
        fixed = [case for case in self.cases(np.random.default_rng(0)) if case.bound is None]
        fresh = self.cases(np.random.default_rng(seed)) if self.kind != "predict" else []
        large = [case for case in fresh if case.bound is not None]
        small = [case for case in fresh if case.bound is None]
        return [*sorted(fixed, key=Case.size), *sorted(small, key=Case.size), *large]


def predictions(right: float, wrong: Mapping[str, float]) -> Callable:
    """Return `Exercise.solve` for a value to be predicted; `wrong` has one a slip."""

    def solve(slips):
        if len(slips) > 1:
            raise Incompatible
        return wrong[next(iter(slips))] if slips else right

    return solve
