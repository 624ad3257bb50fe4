"""Judge an answer: run it, compare it, and find the mistakes that give the same numbers.

The three steps stand apart so that a student's code can be run elsewhere: `run` calls the answer,
`judge` never does.
"""

import contextlib
import copy
import dataclasses
import inspect
import io
import itertools
import linecache
import math
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from attn_course.exercises.exercise import Case, Exercise, Incompatible, Slip
from attn_course.exercises.report import Evidence, Report

MOST_SETS = 240  # sets of slips that are tried: pairs always, three at once where slips are few

CHANGES = Slip(
    "changes its arguments",
    "The function writes into an array that it was given. Whoever called it loses their numbers. "
    "Make a new array instead: `x = x - y`, not `x -= y`.",
    "appendix/notation",
)
PRINTS = Slip(
    "prints instead of returning",
    "The function prints its result and returns nothing. What is printed cannot be computed with: "
    "end with `return`.",
    "appendix/notation",
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one call of an answer did.

    `result` is a tuple of arrays, or None where the call returned nothing or failed; `error` says
    then how. `changed` names the arguments written into, `peak` is in bytes.
    """

    result: tuple[np.ndarray, ...] | None = None
    error: str = ""
    kind: str = ""  # the name of the exception's class
    changed: tuple[str, ...] = ()
    printed: bool = False
    peak: int | None = None


def check_answer(exercise: Exercise, answer, seed: int) -> Report:
    """Run `answer` on the cases that `seed` draws and judge it."""
    if answer is None or answer is Ellipsis or (isinstance(answer, str) and not answer.strip()):
        return Report(exercise.name, "not attempted", seed)
    try:
        function = exercise.function(answer)
    except (TypeError, ValueError, SyntaxError) as error:
        problem = Evidence("the answer itself", f"{type(error).__name__}: {error}", {})
        return Report(exercise.name, "failed", seed, evidence=problem)
    cases = exercise.draw(seed)
    return judge(exercise, cases, [run(function, case) for case in cases], seed)


def run(function: Callable, case: Case) -> Outcome:
    """Call `function` on copies of the arguments of `case`, and let nothing escape.

    Ctrl-C still stops it.
    """
    args, kwargs = copy.deepcopy((case.args, dict(case.kwargs)))
    printed = io.StringIO()
    result, error, kind, peak = None, "", "", None
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            if case.bound is None:
                result = as_arrays(function(*args, **kwargs))
            else:
                result, peak = _weighed(lambda: as_arrays(function(*args, **kwargs)))
        except (Exception, SystemExit) as raised:
            kind = type(raised).__name__
            error = _told(raised)
    if result is not None:  # an answer may write into an array that it returned before
        result = tuple(part.copy() for part in result)
    given = enumerate((*case.args, *case.kwargs.values()))
    after = (*args, *kwargs.values())
    changed = tuple(str(number) for number, x in given if not _same(x, after[number]))
    return Outcome(result, error, kind, changed, bool(printed.getvalue()), peak)


def as_arrays(value) -> tuple[np.ndarray, ...] | None:
    """Return what an answer returned as a tuple of arrays, or None for nothing.

    Raises:
        TypeError: it does not consist of numbers.
        ValueError: a list in it is ragged.
    """
    if value is None or value is Ellipsis:
        return None
    parts = value if isinstance(value, tuple) else (value,)
    try:
        arrays = tuple(np.asarray(part) for part in parts)
    except ValueError:
        raise ValueError(
            f"the result is a {type(value).__name__} of parts that make no array; several results "
            "are returned as a tuple: return a, b"
        ) from None
    for array in arrays:
        if array.dtype.kind not in "biuf":
            what = type(value).__name__
            raise TypeError(f"the result is {what} of dtype {array.dtype}, expected real numbers")
    return arrays


@np.errstate(all="ignore")  # answers may be infinite
def judge(
    exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome], seed: int
) -> Report:
    """Return the report on `outcomes`, one for each of `cases`."""
    # Who put lines in order has attempted it, also where they return nothing.
    if exercise.lines is None and all(_nothing(outcome) for outcome in outcomes):
        if any(outcome.printed for outcome in outcomes):
            want = expected(exercise, cases[0])
            problem = "nothing was returned"
            evidence = _evidence(exercise, cases[0], outcomes[0], want, problem)
            return Report(exercise.name, "failed", seed, (PRINTS,), evidence)
        return Report(exercise.name, "not attempted", seed)
    wanted = [expected(exercise, case) for case in cases]
    problems = [_problem(exercise, *three) for three in zip(cases, outcomes, wanted, strict=True)]
    failing = [number for number, problem in enumerate(problems) if problem]
    if not failing:
        return Report(exercise.name, "passed", seed, remarks=_remarks(outcomes, wanted))
    first = failing[0]
    evidence = _evidence(exercise, cases[first], outcomes[first], wanted[first], problems[first])
    small = [number for number in failing if cases[number].bound is None]
    if small and all(_equal(outcomes[number].result, wanted[number]) for number in failing):
        found = (CHANGES,)  # all that a small case can be faulted for where its numbers are right
    else:
        found = diagnosis(exercise, cases, outcomes, failing)
    withheld = [slip.name for slip in found] == [exercise.bug]
    return Report(exercise.name, "failed", seed, found, evidence, withheld=withheld)


def diagnosis(
    exercise: Exercise, cases: Sequence[Case], outcomes: Sequence[Outcome], failing: Sequence[int]
) -> tuple[Slip, ...]:
    """Return the smallest set of slips that does on every case what the answer did, or none.

    Of sets of one size the first wins, as the exercise orders its slips. `failing` are the cases
    that the answer fails; they come first, since most sets differ there at once.
    """
    numbers = [number for number in failing if cases[number].bound is None]
    if not numbers:
        large = any(_too_large(cases[number], outcomes[number]) for number in failing)
        return (exercise.costly,) if exercise.costly and large else ()
    others = [i for i, case in enumerate(cases) if case.bound is None and i not in numbers]
    order = numbers + others
    tried = 0
    for size in range(1, len(exercise.slips) + 1):
        tried += math.comb(len(exercise.slips), size)
        if size > 2 and tried > MOST_SETS:
            break
        for slips in itertools.combinations(exercise.slips, size):
            names = frozenset(slip.name for slip in slips)
            if _explains(exercise, names, cases, outcomes, order):
                return slips
    return ()


def _explains(exercise, names, cases, outcomes, order) -> bool:
    agreed = False  # on numbers: that both only fail says little
    for number in order:
        made = attempted(exercise, names, cases[number])
        got = outcomes[number]
        if made is None or made.kind != got.kind:
            return False
        if not made.kind:
            if not _equal(got.result, made.result):
                return False
            agreed = True
    return agreed


def attempted(exercise: Exercise, names: frozenset[str], case: Case) -> Outcome | None:
    """Return what the slips `names` do on `case`; None if they do not go together."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return Outcome(as_arrays(exercise.solve(names, *case.args, **case.kwargs)))
        except Incompatible:
            return None
        except Exception as raised:
            return Outcome(error=str(raised), kind=type(raised).__name__)


def expected(exercise: Exercise, case: Case) -> tuple[np.ndarray, ...]:
    """Return the right result."""
    with np.errstate(all="ignore"):
        return as_arrays(exercise.solve(frozenset(), *case.args, **case.kwargs))


def _nothing(outcome: Outcome) -> bool:
    unfinished = outcome.kind == "NotImplementedError"
    return unfinished or (outcome.result is None and not outcome.error)


def _equal(got, want) -> bool:
    """Say whether two results are the same numbers, to what rounding leaves of them."""
    if got is None or want is None:
        return got is want
    if len(got) != len(want) or any(a.shape != b.shape for a, b in zip(got, want, strict=True)):
        return False
    return all(
        np.allclose(a, b, equal_nan=True, **_tolerance(b)) for a, b in zip(got, want, strict=True)
    )


def _tolerance(want: np.ndarray) -> dict[str, float]:
    # Loose beside the rounding of a right answer, tight beside any slip.
    if want.dtype.kind == "f" and want.dtype.itemsize < 8:
        return {"rtol": 1e-4, "atol": 1e-5}
    if want.dtype.kind in "iu":
        return {"rtol": 1e-12, "atol": 1e-9}  # one byte of a gigabyte is a mistake
    return {"rtol": 1e-7, "atol": 1e-9}


def _problem(exercise: Exercise, case: Case, outcome: Outcome, want) -> str:
    """Say what is wrong with the outcome of a case, or nothing."""
    if outcome.error:
        return outcome.error
    if outcome.result is None:
        return "nothing was returned"
    if len(outcome.result) != len(want):
        names = f": {', '.join(exercise.parts)}" if len(exercise.parts) == len(want) > 1 else ""
        return f"results returned: {len(outcome.result)}, expected {len(want)}{names}"
    for name, a, b in zip(_parts(exercise, want), outcome.result, want, strict=True):
        if a.shape != b.shape:
            return f"{name} has shape {a.shape}, expected {b.shape}"
        wrong = ~np.isclose(a, b, equal_nan=True, **_tolerance(b))
        if wrong.any() and exercise.kind == "predict":
            return _guessed(a, b)
        if wrong.any():
            return _difference(name, a, b, wrong)
    if outcome.changed:
        return f"the call changed {', '.join(_named(exercise, case, outcome.changed))}"
    if _too_large(case, outcome):
        return (
            f"the numbers are right, but the call took {outcome.peak / 2**20:.1f} MiB beyond its "
            f"arguments; {case.bound / 2**20:.1f} MiB are enough"
        )
    return ""


def _too_large(case: Case, outcome: Outcome) -> bool:
    if case.bound is None:
        return False
    return outcome.kind == "MemoryError" or (outcome.peak or 0) > case.bound


def _guessed(got, want) -> str:
    """Say that a number is wrong, but not which is right: it is still to be predicted."""
    rounded = want % 1 and np.isclose(got, want, rtol=0.01)
    near = "; it is near, so give a fraction or more digits" if rounded else ""
    return f"{got:.12g} is not what comes out{near}"


def _difference(name, got, want, wrong) -> str:
    where = tuple(int(x) for x in np.argwhere(wrong)[0])
    index = f"[{', '.join(map(str, where))}]" if where else ""
    entries = [x[where] if x.dtype.kind == "b" else f"{x[where]:.6g}" for x in (got, want)]
    if entries[0] == entries[1]:
        entries = [x[where].item() for x in (got, want)]
    said = [f"{name}{index} is {', expected '.join(map(str, entries))}"]
    missing = int(np.isnan(got).sum()) if got.dtype.kind == "f" else 0
    if missing:
        said.append(f"{missing} of {got.size} entries are NaN")
    if want.ndim and want.dtype.kind == "f" and np.allclose(want.sum(axis=-1), 1) and not missing:
        sums = got.sum(axis=-1).ravel()
        if not np.allclose(sums, 1):
            said.append(f"rows sum to {', '.join(f'{x:.4g}' for x in sums[:6])}, expected 1")
    return "; ".join(said)


def _evidence(exercise: Exercise, case: Case, outcome: Outcome, want, problem: str) -> Evidence:
    if exercise.kind == "predict":
        return Evidence(case.what, problem, {})
    got = outcome.result
    return Evidence(
        case.what,
        problem,
        {name: _shown(x) for name, x in _arguments(exercise, case).items()},
        _all_shown(_parts(exercise, want), want),
        "" if got is None else _all_shown(_parts(exercise, got), got),
    )


def _remarks(outcomes, wanted) -> tuple[str, ...]:
    remarks = []
    if any(outcome.printed for outcome in outcomes):
        remarks.append("The function prints while it computes; that is no mistake.")
    for outcome, want in zip(outcomes, wanted, strict=True):
        for a, b in zip(outcome.result, want, strict=True):
            if b.dtype.kind == "b" and a.dtype.kind != "b":
                remarks.append(f"The result has dtype {a.dtype}. As bool it combines with & and |.")
                return tuple(remarks)
            if b.dtype == np.float32 and a.dtype == np.float64:
                remarks.append(
                    "For float32 arguments the result is float64, twice the memory. What is made "
                    "on the way is float64 unless it is told otherwise: `np.zeros(n)`, "
                    "`np.arange(n) / n`, also `np.sqrt(2)`, where `math.sqrt(2)` does no harm."
                )
                return tuple(remarks)
    return tuple(remarks)


def _arguments(exercise: Exercise, case: Case) -> dict:
    bound = inspect.signature(exercise.solve).bind(None, *case.args, **case.kwargs)
    (_, *given) = bound.arguments.items()  # the first are the slips
    return dict(given)


def _named(exercise: Exercise, case: Case, numbers: Sequence[str]) -> list[str]:
    names = list(_arguments(exercise, case))
    return [names[int(number)] for number in numbers]


def _parts(exercise: Exercise, results) -> list[str]:
    if len(results) == len(exercise.parts):
        return list(exercise.parts)
    return ["result"] if len(results) == 1 else [f"result {i}" for i in range(1, len(results) + 1)]


def _all_shown(names, arrays) -> str:
    if len(arrays) == 1:
        return _shown(arrays[0])
    return "\n".join(f"{name}: {_shown(x)}" for name, x in zip(names, arrays, strict=True))


def _shown(value) -> str:
    """Return an argument or a result as text: its shape and, where they are few, its numbers."""
    if not isinstance(value, np.ndarray):
        return getattr(value, "__name__", repr(value))
    if value.ndim == 0:
        return f"{value:.6g}" if value.dtype.kind == "f" else str(value)
    shape = f"shape {value.shape}"
    most = 24 if value.dtype.kind == "f" else 64  # True and small integers take less room
    if value.size == 0 or value.size > most:
        return shape
    numbers = np.array2string(value, precision=4, suppress_small=True, max_line_width=72)
    return f"{shape}\n{numbers}"


def _weighed(call: Callable):
    """Return what `call` returns and the peak of the memory that it took, in bytes."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        result = call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not was_tracing:
            tracemalloc.stop()
    return result, peak - before


def _same(before, after) -> bool:
    if not isinstance(before, np.ndarray):
        return True
    return np.array_equal(before, after, equal_nan=before.dtype.kind == "f")


def _told(raised: BaseException) -> str:
    """Return an exception in words, with the line of the student's that raised it."""
    said = f"{type(raised).__name__}: {raised}".rstrip(": ")
    for frame, number in reversed([*traceback.walk_tb(raised.__traceback__)]):
        file = frame.f_code.co_filename
        if file == __file__:
            break
        line = linecache.getline(file, number).strip()
        ours = str(frame.f_globals.get("__name__")).startswith("attn_course.")
        if line and not ours and "site-packages" not in file:
            return f"{said}, in line {number}: {line}"
    return said
