"""The exercises: every known mistake is rejected and named, every right answer accepted."""

import contextlib
import inspect
import io
import json
import re
import subprocess
import sys
import time

import attack_table
import kill_rate
import numpy as np
import pytest
from book_text import ROOT, read
from execute import normalized
from kill_rate import banked, unrelated, unseen

from attn_course import exercises, reference
from attn_course.exercises import EXERCISES, TOPICS, Case, Exercise, Slip, check, student
from attn_course.exercises.checking import CHANGES, PRINTS, check_answer
from attn_course.exercises.exercise import KINDS, Lines, Orders
from attn_course.notebook import RESULTS

FROZEN = (
    "softmax",
    "attention",
    "attention_weights",
    "grouped_query_attention",
    "tiled_attention",
    "causal_mask",
    "window_mask",
    "padding_mask",
    "rotary",
    "rotary_interleaved",
    "alibi_slopes",
    "alibi_bias",
    "sinusoidal_positions",
    "additive_scores",
    "linear_attention",
    "window_attention",
    "attention_backward",
)
every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
topics = pytest.mark.parametrize("topic", student.CHAPTERS)


# What an exercise has


@every
def test_an_exercise_is_whole(exercise):
    assert exercise.kind in KINDS
    assert exercise.difficulty in student.LEVELS
    assert 1 <= exercise.minutes <= 60
    assert len(exercise.hints) == 3
    assert all(hint.strip() for hint in exercise.hints)
    assert len(exercise.all_slips()) >= 8
    assert len({slip.name for slip in exercise.all_slips()}) == len(exercise.all_slips())
    assert len(exercise.right) >= 2
    assert (exercise.kind == "order") == (exercise.lines is not None)
    assert (exercise.kind == "find the bug") == bool(exercise.bug)
    for slip in exercise.all_slips():
        assert slip.message.endswith(".")
        assert any((ROOT / "book" / f"{slip.page}.{kind}").exists() for kind in ("ipynb", "md"))
    for name in exercise.helpers:
        assert getattr(reference, name)
        assert name in exercise.cell() + exercise.prompt


def test_every_topic_has_exercises_of_several_kinds():
    assert [module.__name__.rpartition(".")[2] for module in TOPICS] == list(student.CHAPTERS)
    assert sorted(student.CHAPTERS) == sorted(
        path.stem
        for path in (ROOT / "attn_course" / "reference").glob("*.py")
        if path.stem != "__init__"
    )
    for module in TOPICS:
        topic = module.__name__.rpartition(".")[2]
        assert all(exercise.topic == topic for exercise in module.EXERCISES)
        assert any(not hasattr(reference, exercise.name) for exercise in module.EXERCISES)
    assert sum(len(module.EXERCISES) for module in TOPICS) == len(EXERCISES)
    assert {exercise.kind for exercise in EXERCISES.values()} == set(KINDS)


@pytest.mark.parametrize("name", FROZEN)
def test_the_core_has_exercises_of_the_same_names(name):
    function = getattr(reference, name)
    asked = list(inspect.signature(EXERCISES[name].solve).parameters.values())[1:]
    given = list(inspect.signature(function).parameters.values())
    assert [(p.name, p.kind) for p in asked] == [(p.name, p.kind) for p in given]
    assert check(name, function).passed


@every
def test_the_package_passes_its_own_exercises(exercise):
    function = getattr(reference, exercise.name, None)
    assert function is None or check(exercise.name, function).passed


# What it tells apart


@pytest.mark.parametrize(
    ("exercise", "slip"),
    [(exercise, slip) for exercise in EXERCISES.values() for slip in exercise.all_slips()],
    ids=lambda value: value.name,
)
def test_a_known_mistake_is_rejected_and_named(exercise, slip):
    report = check(exercise.name, exercise.wrong([slip.name]))
    assert not report.passed
    assert [found.name for found in report.misconceptions] == [slip.name]
    assert report.evidence is not None
    assert slip.message in str(report) or report.withheld


@every
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_right_answers_are_accepted(exercise, seed):
    for answer in exercise.right:
        report = check(exercise.name, answer, seed=seed)
        assert report.passed, report


@every
def test_the_right_answers_differ(exercise):
    """At least in how they are written."""
    if exercise.lines is not None or exercise.kind == "predict":
        assert len({(type(x), str(x)) for x in exercise.right}) == len(exercise.right)
    else:
        texts = {inspect.getsource(answer) for answer in exercise.right}
        assert len(texts) == len(exercise.right)


@every
def test_unrelated_numbers_are_given_no_name(exercise):
    if exercise.kind == "order":
        pytest.skip("the lines are ours: there are no unrelated answers")
    reports = unrelated(exercise, seed=11)
    assert not any(report.passed or report.misconceptions for report in reports)


@every
def test_mistakes_that_no_one_banked_are_rejected(exercise):
    answers = unseen(exercise.topic)[exercise.name]
    assert len(answers) >= 5
    for answer in answers:
        report = check(exercise.name, answer)
        assert report.status == "failed", getattr(answer, "__doc__", answer)


@topics
def test_a_stub_and_an_empty_notebook_score_nothing(topic):
    """The student's notebook as it is handed out."""
    scope = {}
    for cell in student.notebook(topic).cells:
        if cell.cell_type != "code" or cell.source.startswith("check("):
            continue
        exec(cell.source, scope)
        exercise = EXERCISES.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if exercise is None:
            continue
        report = check(exercise.name, scope[exercise.name])
        if exercise.kind == "find the bug":
            assert report.status == "failed"
            assert [slip.name for slip in report.misconceptions] == [exercise.bug]
            assert report.withheld
            assert report.misconceptions[0].message not in str(report) + report._repr_html_()
        else:
            assert report.status == "not attempted", report
        assert check(exercise.name, None).status == "not attempted"


@every
def test_a_check_takes_less_than_a_second(exercise):
    answers = {"right": exercise.right[0], **banked(exercise)}

    def seconds(answer):
        start = time.process_time()
        check(exercise.name, answer, seed=1)
        return time.process_time() - start

    for name, answer in answers.items():
        assert seconds(answer) < 1 or seconds(answer) < 1, name


# The tests' own process checks the shapes of every call, and so is several times slower.
TIMED = """
import json, time
import numpy as np
from attn_course.exercises import EXERCISES
from attn_course.exercises.checking import diagnosis, run

def least(exercise):
    if exercise.kind == "predict":
        answer = 0.123456
    elif exercise.lines is not None:
        answer = exercise.lines.lettered().popitem()[0]
    else:
        answer = lambda *args, **kwargs: np.zeros(3)  # no set of slips gives it
    try:
        function = exercise.function(answer)
    except SyntaxError:
        return 0.0  # such an order is not run at all
    cases = exercise.draw(1)
    outcomes = [run(function, case) for case in cases]
    small = [i for i, case in enumerate(cases) if case.bound is None]
    spent = []
    for _ in range(3):
        start = time.process_time()
        assert diagnosis(exercise, cases, outcomes, small) == ()
        spent.append(time.process_time() - start)
    return min(spent)

print(json.dumps({name: least(exercise) for name, exercise in EXERCISES.items()}))
"""


@pytest.fixture(scope="module")
def seconds_of_a_diagnosis():
    """The seconds that a diagnosis takes, by exercise, where no mistake is found."""
    done = subprocess.run(
        [sys.executable, "-c", TIMED], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


@every
def test_a_diagnosis_takes_less_than_a_tenth_of_a_second(exercise, seconds_of_a_diagnosis):
    assert seconds_of_a_diagnosis[exercise.name] < 0.1


def test_the_table_in_the_book_is_of_these_exercises():
    rows = json.loads((RESULTS / "exercises.json").read_text())["rows"]
    assert [row["exercise"] for row in rows] == list(EXERCISES), "run `make kill-rate`"
    for row in rows:
        exercise = EXERCISES[row["exercise"]]
        assert row["wrong"] == row["rejected"] == len(exercise.all_slips())
        assert row["named"] == row["wrong"]
        assert row["accepted"] == row["right"] == len(exercise.right)
        assert row["unseen_rejected"] == row["unseen"] == len(unseen(row["topic"])[row["exercise"]])
        assert row["unrelated_named"] == 0


def test_the_table_of_attacks_is_of_those_that_are_tried():
    stored = json.loads((RESULTS / "attacks.json").read_text())["rows"]
    assert stored == attack_table.rows(), "run `make kill-rate`"
    assert len(stored) > 40


def test_the_table_is_made_by_checking():
    exercise = EXERCISES["attention_weights"]
    made = kill_rate.row(exercise, seed=1)
    assert made["named"] == made["rejected"] == made["wrong"] == len(exercise.slips)
    assert made["accepted"] == 2
    # With one case alone a check is blind, and the table would say so.
    blind = Exercise(**{**vars(exercise), "cases": lambda rng: exercise.cases(rng)[:1]})
    judged = [check_answer(blind, blind.wrong([slip.name]), seed=1) for slip in blind.slips]
    assert any(report.passed for report in judged)
    assert any(not report.passed for report in judged)


# What a check survives


def identity(x):
    return x


DOUBLE = Exercise(
    name="double",
    topic="softmax",
    title="Double",
    kind="implement",
    difficulty=1,
    minutes=1,
    prompt="",
    starter="",
    hints=("", "", ""),
    solve=lambda slips, x, times=2: x * times if "one more" not in slips else x * times + 1,
    slips=(Slip("one more", "One is added.", "concepts/softmax"),),
    cases=lambda rng: [
        Case("two numbers", (rng.standard_normal(2),)),
        Case("three times", (rng.standard_normal((2, 3)),), {"times": 3}),
        Case("large", (np.ones(40_000),), bound=500_000),
    ],
    costly=Slip("a large array", "It takes too much memory.", "concepts/softmax"),
)


@pytest.fixture
def double(monkeypatch):
    """Check answers to an exercise that is easy to get wrong in every way."""
    monkeypatch.setitem(exercises.EXERCISES, "double", DOUBLE)
    return lambda answer, **options: check("double", answer, **options)


def test_a_right_answer_passes(double):
    report = double(lambda x, times=2: sum([x] * times))
    assert report.passed
    assert report.misconceptions == ()
    assert report.evidence is None


def test_what_is_asked_by_an_unknown_name():
    with pytest.raises(KeyError, match=r"attentoin.*attention"):
        check("attentoin", identity)


@pytest.mark.parametrize("answer", [None, ..., lambda x, times=2: None, lambda x, times=2: ...])
def test_unfinished_is_not_attempted(double, answer):
    assert double(answer).status == "not attempted"


def test_not_implemented_is_not_attempted(double):
    def stub(x, times=2):
        raise NotImplementedError

    assert double(stub).status == "not attempted"


def raises(error):
    def answer(x, times=2):
        raise error

    return answer


def endless(x, times=2):
    return endless(x, times)


FAULTY = {
    "no function": (3, "int, expected a function"),
    "raises": (raises(ValueError("no such thing")), "ValueError: no such thing, in line"),
    "leaves": (raises(SystemExit(0)), "SystemExit"),
    "recursion": (endless, "RecursionError"),
    "too few arguments": (lambda: 1, "TypeError"),
    "lacks an argument": (lambda x: 2 * x, "unexpected keyword argument 'times'"),
    "a text": (lambda x, times=2: "six", "expected real numbers"),
    "an object": (lambda x, times=2: object(), "expected real numbers"),
    "a ragged list": (lambda x, times=2: [[1], [1, 2]], "as a tuple: return a, b"),
    "complex": (lambda x, times=2: 2j * x, "expected real numbers"),
    "two results": (lambda x, times=2: (x, x), "results returned: 2, expected 1"),
    "another shape": (lambda x, times=2: x[None], "shape (1, 2), expected (2,)"),
    "a number": (lambda x, times=2: 4.0, "shape (), expected (2,)"),
    "nothing half of the time": (lambda x, times=2: x if x.ndim == 2 else None, "nothing was"),
    "nan": (lambda x, times=2: x * np.nan, "2 of 2 entries are NaN"),
    "infinite": (lambda x, times=2: x / 0, "inf"),
    "an empty array": (lambda x, times=2: x[:0], "shape (0,), expected (2,)"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_answer_is_told_in_words(double, name):
    answer, words = FAULTY[name]
    report = double(answer)
    assert report.status == "failed"
    assert report.misconceptions == ()
    assert words in report.evidence.problem
    assert words in str(report)


def test_infinite_arguments_are_compared_as_they_are(monkeypatch):
    cases = lambda rng: [Case("infinite", (np.array([np.inf, -np.inf, np.nan, 1.0]),))]  # noqa: E731
    monkeypatch.setitem(exercises.EXERCISES, "double", Exercise(**{**vars(DOUBLE), "cases": cases}))
    assert check("double", lambda x, times=2: x + x).passed
    assert not check("double", lambda x, times=2: np.nan_to_num(x) * 2).passed


def test_ctrl_c_stops_a_check(double):
    with pytest.raises(KeyboardInterrupt):
        double(raises(KeyboardInterrupt()))


def test_arguments_are_copies(double):
    seen = []

    def answer(x, times=2):
        seen.append(x.copy())
        x *= times
        return x

    report = double(answer, seed=0)
    assert report.misconceptions == (CHANGES,)
    assert "the call changed x" in report.evidence.problem
    again = []
    double(lambda x, times=2: again.append(x.copy()) or x * times, seed=0)
    for a, b in zip(seen, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_function_that_prints(double):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        report = double(lambda x, times=2: print("here") or x * times)
        printing = double(lambda x, times=2: print(x * times))
    assert shown.getvalue() == ""
    assert report.passed
    assert "prints" in report.remarks[0]
    assert printing.misconceptions == (PRINTS,)


def test_too_much_memory(double):
    def answer(x, times=2):
        return np.stack([x] * 4).sum(axis=0) / 4 * times

    report = double(answer)
    assert report.misconceptions == (DOUBLE.costly,)
    assert "MiB" in report.evidence.problem
    assert double(lambda x, times=2: x * times).passed


def test_a_memory_error_is_too_much_memory(double):
    def answer(x, times=2):
        return x * times if x.size < 1000 else np.empty(10**15)

    assert double(answer).misconceptions == (DOUBLE.costly,)


def test_every_call_draws_anew(double):
    drawn = set()
    for _ in range(3):
        double(lambda x, times=2: drawn.add(x.tobytes()) or x * times)
    assert len(drawn) == 2 + 1 + 3 * 2  # small cases: two always, two drawn anew; and the large
    with pytest.raises(TypeError):
        double(identity, seed="today")


def test_remembered_numbers_do_not_pass(double):
    """An answer that knows the cases that are always asked."""
    known = {case.args[0].tobytes(): case.args[0] * 2 for case in DOUBLE.draw(0)}
    report = double(lambda x, times=2: known.get(x.tobytes(), np.zeros_like(x)))
    assert not report.passed


def test_a_seed_repeats_a_report(double):
    def wrong(x, times=2):
        return x * times + 1

    report = double(wrong)
    assert str(double(wrong, seed=report.seed)) == str(report)
    assert [slip.name for slip in report.misconceptions] == ["one more"]


def test_what_the_card_shows_is_escaped(double):
    report = double(raises(ValueError("<script>alert(1)</script>")))
    assert "<script>" not in report._repr_html_()
    assert "&lt;script&gt;" in report._repr_html_()


def test_the_card_has_no_color_but_that_of_the_page_and_its_bar(double):
    """A page gives code a color of its own; on another background it was invisible."""
    card = double(lambda x, times=2: x + 1e-3)._repr_html_()
    card += check("attention", EXERCISES["attention"].wrong(["unscaled"]))._repr_html_()
    for tag in ("pre", "code", "table"):
        styles = re.findall(f"<{tag}([^>]*)>", card)
        assert styles
        assert all("color: inherit" in style for style in styles)
    assert set(re.findall(r"#[0-9a-f]{3,}", card)) == {"#c4501b"}
    assert set(re.findall(r"background: (\w+)", card)) == {"none"}


def test_in_the_card_sentences_wrap_and_numbers_do_not(double):
    card = double(raises(ValueError("no such thing")))._repr_html_()
    rows = dict(re.findall("<tr><th[^>]*>(.*?)</th>(.*?)</tr>", card, flags=re.DOTALL))
    assert list(rows) == ["case", "problem", "x", "expected"]
    assert "no such thing" in rows["problem"]
    assert "overflow-wrap: anywhere" in rows["problem"]
    assert "<pre" not in rows["problem"]
    assert 'white-space: pre"' in rows["x"]


def test_a_prediction_is_not_told():
    for exercise in EXERCISES.values():
        if exercise.kind == "predict":
            right = float(exercise.solve(frozenset()))
            report = check(exercise.name, right + 0.987654321)
            assert report.status == "failed"
            assert report.evidence.rows().keys() == {"case", "problem"}
            assert f"{right:.12g}" not in report.evidence.problem.split()


def test_a_prediction_that_was_rounded_is_told_so():
    name = "weight_at_temperature"
    right = EXERCISES[name].solve(frozenset())
    assert "near" in check(name, round(right, 3)).evidence.problem
    assert "near" not in check(name, right + 0.1).evidence.problem
    assert "near" not in check("cache_bytes", 24576001).evidence.problem


def test_who_leaves_results_out_is_told_which_there_are():
    exercise = EXERCISES["decode_step"]
    report = check(exercise.name, lambda *args: exercise.right[0](*args)[0])
    assert report.evidence.problem == "results returned: 1, expected 3: output, keys, values"


def test_who_returns_nothing_is_told_so(double):
    def forgot_to_return(x, times=2):
        x * times

    report = double(forgot_to_return)
    assert "returns nothing" in str(report)
    assert "returns nothing" in report._repr_html_()


def test_who_gives_up_is_told_by_the_line_on_the_card():
    exercise = EXERCISES["source_attention"]
    scope = {"check": check, exercise.name: exercise.wrong([exercise.bug])}
    (line,) = re.findall("give up, `(.*?)`", str(check(exercise.name, scope[exercise.name])))
    (bug,) = [slip for slip in exercise.slips if slip.name == exercise.bug]
    assert eval(line, scope) == bug.message


def test_an_error_within_the_course_is_told_with_the_line_that_called_it(double):
    report = double(lambda x, times=2: reference.softmax("x"))
    assert report.evidence.problem.endswith('reference.softmax("x"))')


# Lines out of order


LINES = Lines("def f(x):", ("return y", "y = x + 1", "y = 2 * y"))


@pytest.mark.parametrize(
    ("order", "error", "words"),
    [
        ("BX", ValueError, "no line 'X'"),
        ("BB", ValueError, "more than once"),
        ("", ValueError, "names no line"),
        (12, TypeError, "expected a string"),
    ],
)
def test_orders_that_make_no_program(order, error, words):
    with pytest.raises(error, match=words):
        LINES.program(order)


def test_lines_in_order_run():
    assert LINES.program("B, C, A")(3) == 8
    assert LINES.program("bca")(3) == 8
    solve = Orders(LINES, "BCA", {"not doubled": "BA"})
    assert solve(frozenset(), 3) == 8
    assert solve({"not doubled"}, 3) == 4
    assert list(inspect.signature(solve).parameters) == ["slips", "x"]


# The notebooks that students get


@topics
def test_the_book_has_the_notebook_of_each_topic(topic):
    kept = read(ROOT / "book" / "exercises" / f"{topic}.ipynb")
    made = normalized(student.notebook(topic))
    assert [(c.cell_type, c.id, c.source) for c in kept.cells] == [
        (c.cell_type, c.id, c.source) for c in made.cells
    ], "run `make exercises`"


@topics
def test_a_chapter_has_the_title_that_its_exercises_name(topic):
    title, page = student.CHAPTERS[topic]
    first = read(ROOT / "book" / f"{page}.ipynb").cells[0].source
    assert first.splitlines()[0] == f"# {title}"


@topics
def test_a_students_notebook_tells_no_answer(topic):
    text = "\n".join(cell.source for cell in student.notebook(topic).cells)
    for exercise in EXERCISES.values():
        if exercise.topic == topic:
            assert not any(slip.message in text for slip in exercise.all_slips())
            if exercise.lines is not None:
                assert exercise.solve.right not in text


def test_nbgrader_finds_what_to_grade():
    cells = student.notebook("dot_product").cells
    marks = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
    asked = [e for e in EXERCISES.values() if e.topic == "dot_product"]
    assert [mark.grade_id for mark in marks if mark.solution] == [e.name for e in asked]
    assert [mark.points for mark in marks if mark.grade] == [e.difficulty for e in asked]
    assert all(mark.locked for mark in marks if mark.grade)


def test_an_unknown_topic_is_named():
    with pytest.raises(KeyError, match=r"rnn.*softmax"):
        student.notebook("rnn")
