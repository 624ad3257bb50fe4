"""Grade a submission: let its code compute in a jail, judge here what came out."""

import dataclasses
import functools
import hashlib
import hmac
import inspect
import io
import traceback
from pathlib import Path

import numpy as np

from attn_course import reference
from attn_course.classroom import submissions, wire
from attn_course.classroom.jail import Broken, Jail
from attn_course.classroom.sources import shipped
from attn_course.classroom.submissions import legible
from attn_course.exercises import EXERCISES, Case, Exercise, Report
from attn_course.exercises.checking import Outcome, check_answer, judge, run
from attn_course.exercises.report import Evidence

SECONDS = 10  # for one exercise
MEMORY = 512 * 2**20  # bytes for one exercise, beyond what Python and NumPy take
# Where an exercise bounds memory: what Python takes for itself while it runs a few lines. The
# costly answers take 8 MiB and more beyond each bound.
SLACK = 5 * 2**20
ENDS = {
    "time": "there was no answer within the time",
    "size": "the answer was too large",
    "malformed": "the answer was malformed",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """The verdict on one answer, small enough to be kept for a whole class.

    `status` is a report's, or "unreadable" where the notebook could not be read, or "not graded"
    where the grader failed. `slips` are the names of the mistakes found, `card` is the report in
    HTML.
    """

    exercise: str
    status: str
    slips: tuple[str, ...]
    card: str


@dataclasses.dataclass(frozen=True)
class Graded:
    """A submission graded. `skipped` says which cells failed, `problem` why there was nothing.

    `again` says that the problem is the grader's, so that the next run tries once more.
    """

    student: str
    assignment: str
    digest: str
    seed: int
    rows: tuple[Row, ...]
    skipped: tuple[str, ...] = ()
    problem: str = ""
    again: bool = False


def seed_of(secret: bytes, student: str) -> int:
    """Return the seed of a student's numbers, which nobody can foretell who lacks the secret."""
    name = student.encode("utf-8", "surrogateescape")
    return int.from_bytes(hmac.digest(secret, name, hashlib.sha256)[:4], "big")


def grade(
    folder: Path, student: str, assignment: str, seed: int, kind: str, seconds: float
) -> Graded:
    """Grade what `student` handed in for `assignment`, in a jail of `kind`."""
    submission = submissions.read(folder, student, assignment)
    asked = [exercise for exercise in EXERCISES.values() if exercise.topic == assignment]
    known = (student, assignment, submission.digest(), seed)
    try:
        if submission.problem:
            raise submissions.Unreadable(submission.problem)
        cells = submissions.cells(submission.data)
        return _graded(known, asked, cells, kind, seconds)
    except submissions.Unreadable as error:
        problem, again = str(error), False
    except Broken as error:
        problem, again = f"the jail ended: {error}", True
    except Exception as error:  # nobody else's marks may depend on it
        traceback.print_exc()
        problem, again = f"the grader failed: {type(error).__name__}", True
    status = "not graded" if again else "unreadable"
    rows = tuple(Row(exercise.name, status, (), "") for exercise in asked)
    return Graded(*known, rows, problem=problem, again=again)


def _graded(known, asked, cells, kind, seconds) -> Graded:
    seed = known[-1]
    sources = {cell["source"].strip() for cell in cells}
    rows, skipped, late = [], [], []
    with Jail(kind, cells, _checking()) as jail:
        for exercise in asked:
            report, head = _judged(jail, exercise, seed, seconds, late)
            if report.withheld and exercise.cell().strip() in sources:  # the bug as handed out
                report = Report(exercise.name, "not attempted", seed)
            rows.append(_row(report))
            skipped += [legible(each[:320]) for each in _listed(head, "skipped", str)]
            # A cell that took too long is not waited for again.
            late = [*late, *_listed(head, "late", int)]
    return Graded(*known, tuple(rows), tuple(dict.fromkeys(skipped)))


def _row(report: Report) -> Row:
    slips = tuple(slip.name for slip in report.misconceptions)
    return Row(report.exercise, report.status, slips, report._repr_html_())


@functools.cache
def _checking() -> str:
    return shipped(run)


@functools.cache
def _helpers(exercise: str) -> str:
    return shipped(*(getattr(reference, name) for name in EXERCISES[exercise].helpers))


def _listed(head: dict, name: str, kind: type) -> list:
    """Return a list that a message has under `name`, empty where it has another thing there."""
    value = head.get(name)
    whole = isinstance(value, list) and all(type(each) is kind for each in value)
    return value[:10] if whole else []


def _judged(
    jail, exercise: Exercise, seed: int, seconds: float, late: list[int]
) -> tuple[Report, dict]:
    """Return the report on one exercise, and the first message of its process."""
    cases = exercise.draw(seed)
    small = [case for case in cases if case.bound is None]
    limits = {"seconds": seconds, "memory": MEMORY, "leave": late}
    head, outcomes, ended = _outcomes(jail, exercise, small, limits)
    answer, text, failed = (head.get(name) for name in ("answer", "text", "failed"))
    if answer == "missing" and isinstance(failed, str) and failed:
        return _failed(exercise, seed, f"the cell failed: {legible(failed[:300])}"), head
    if answer == "missing":
        return Report(exercise.name, "not attempted", seed), head
    if answer == "text" and exercise.lines is not None and isinstance(text, str):
        # The lines are the exercise's own: only their order is the student's.
        return check_answer(exercise, legible(text[:200]), seed), head
    if answer == "other" and isinstance(text, str):
        kind = "a string of letters" if exercise.lines is not None else "a function"
        problem = f"TypeError: the answer is {legible(text[:200])}, expected {kind}"
        return _failed(exercise, seed, problem), head
    if answer != "function" or exercise.lines is not None:
        return _failed(exercise, seed, ended), head
    for case in cases[len(small) :]:
        limits["memory"] = case.bound + SLACK
        _, last, _ = _outcomes(jail, exercise, [case], limits)
        outcomes += last
    return judge(exercise, cases, outcomes, seed), head


def _failed(exercise: Exercise, seed: int, problem: str) -> Report:
    evidence = Evidence("the answer itself", problem, {})
    return Report(exercise.name, "failed", seed, evidence=evidence)


def _outcomes(
    jail, exercise: Exercise, cases: list[Case], limits: dict
) -> tuple[dict, list[Outcome], str]:
    """Return the first message of the process, an outcome for each case, and how it ended."""
    arrays: list[np.ndarray] = []
    described = [
        {
            "args": [argument(x, arrays) for x in case.args],
            "kwargs": {name: argument(x, arrays) for name, x in case.kwargs.items()},
        }
        for case in cases
    ]
    request = {
        "name": exercise.name,
        "kind": exercise.kind,
        "helpers": _helpers(exercise.name),
        **limits,
        "cases": described,
        "arrays": [wire.described(array) for array in arrays],
    }
    ended, written = jail.ask(request, b"".join(map(wire.raw, arrays)))
    head, found = {}, {}
    stream = io.BytesIO(written)
    try:
        head, _ = wire.receive(stream)
        while True:
            fields, body = wire.receive(stream)
            number = fields.get("case")
            if type(number) is not int or not 0 <= number < len(cases):
                raise wire.Malformed("a case that there is not")
            found.setdefault(number, outcome(fields, body, cases[number]))  # the first one counts
    except EOFError:
        pass
    except wire.Malformed:
        ended = "malformed"
    why = ENDS.get(ended, f"the program ended before it answered ({ended})")
    missing = Outcome(error=why, kind="NoAnswer")
    return head, [found.get(number, missing) for number in range(len(cases))], why


def outcome(fields: dict, body: bytes, case: Case) -> Outcome:
    """Return what a message says that a call did.

    Raises:
        wire.Malformed: it says something else.
    """
    error, kind = fields.get("error", ""), fields.get("kind", "")
    changed, printed = fields.get("changed", []), fields.get("printed", False)
    given = len(case.args) + len(case.kwargs)
    if not (isinstance(error, str) and isinstance(kind, str) and isinstance(printed, bool)):
        raise wire.Malformed("an outcome of another form")
    if not isinstance(changed, list) or any(each not in map(str, range(given)) for each in changed):
        raise wire.Malformed("an argument that there is not")
    result = wire.arrays(fields["arrays"], body) if "arrays" in fields else None
    error, kind = legible(error[:2000]), legible(kind[:100])
    return Outcome(result, error, kind, tuple(changed[:given]), printed)


def argument(value, arrays: list[np.ndarray]) -> dict:
    """Return what a request says of an argument, and add its arrays to `arrays`.

    Raises:
        TypeError: it cannot be sent.
    """
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, tuple):
        return {"tuple": [argument(x, arrays) for x in value]}
    if isinstance(value, np.ufunc):
        return {"ufunc": value.__name__}
    if dataclasses.is_dataclass(value) and callable(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return {
            "object": {
                "class": type(value).__name__,
                "source": inspect.getsource(type(value)),
                "fields": [argument(x, arrays) for x in fields],
            }
        }
    if value is None or type(value) in (bool, int, float, str):
        return {"plain": value}
    raise TypeError(f"an argument of {type(value).__name__} cannot be sent to the jail")
