"""Grading a class: what is right passes, what is wrong is named, a killed run loses nothing."""

import csv
import ctypes
import errno
import html
import html.parser
import io
import json
import os
import platform
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
from book_text import ROOT
from make_class import KINDS, hand_in, make, right, wrong

from attn_course import reference
from attn_course.classroom import commands, filters, grading, jail, runner, submissions, wire
from attn_course.classroom.__main__ import main
from attn_course.classroom.journal import Journal, replace, secret
from attn_course.classroom.sources import shipped
from attn_course.exercises import EXERCISES, Case, Exercise, student
from attn_course.exercises.checking import check_answer

kinds = pytest.mark.parametrize("kind", jail.KINDS)
topics = pytest.mark.parametrize("topic", student.CHAPTERS)


def graded(folder, name, topic, kind="bubblewrap", seconds=20):
    return grading.grade(folder, name, topic, 3, kind, seconds)


def verdicts(folder):
    with open(folder / "grades.csv") as file:
        return {row.pop("student"): row for row in csv.DictReader(file)}


def asked(topic):
    return [exercise for exercise in EXERCISES.values() if exercise.topic == topic]


# The jail


@kinds
def test_jails_hold_on_this_machine(kind, monkeypatch):
    monkeypatch.setattr(jail, "KINDS", (kind,))
    assert jail.working() == kind


def test_without_a_jail_nothing_is_graded(tmp_path, monkeypatch):
    hand_in(tmp_path, "ann", "softmax", {})
    monkeypatch.setattr(jail, "KINDS", ("bubblewrap",))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="bwrap is not installed"):
        main(["grade", str(tmp_path)])
    assert not (tmp_path / "grading").exists()


def test_on_another_machine_nothing_is_graded(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "sparc")
    with pytest.raises(jail.NoJail, match="x86_64"):
        jail.working()


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_numbers_of_system_calls_are_those_of_libseccomp(machine, arch):
    library = ctypes.CDLL("libseccomp.so.2")
    column = filters.MACHINES[machine][0]
    for name, numbers in filters.SYSCALLS.items():
        number = library.seccomp_syscall_resolve_name_arch(arch, name.encode())
        assert number == numbers[column] or (number < 0 and numbers[column] is None), name


@pytest.mark.parametrize("machine", filters.MACHINES)
def test_the_filter_lets_through_what_is_listed(machine):
    """Executes the filter as the kernel would."""
    code = list(struct.iter_unpack("<HBBI", filters.program(machine)))
    column, arch = filters.MACHINES[machine]

    def verdict(number, *arguments, arch=arch):
        data = struct.pack("<IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
        at, value = 0, 0
        while True:
            operation, yes, no, constant = code[at]
            at += 1
            if operation == filters.LOAD:
                value = struct.unpack_from("<I", data, constant)[0]
            elif operation == filters.EQUAL:
                at += yes if value == constant else no
            else:
                return constant

    numbers = {name: each[column] for name, each in filters.SYSCALLS.items()}
    for name, number in numbers.items():
        if number is not None and name not in filters.ONLY:
            assert verdict(number) == filters.ALLOW
            assert verdict(number, arch=0x40000003) == filters.KILL
            assert verdict(number | 0x40000000) == filters.DENY  # those of x32
    allowed = set(numbers.values())
    assert all(verdict(n) == filters.DENY for n in range(600) if n not in allowed)
    for name, (argument, values) in filters.ONLY.items():
        for value in range(2000):
            given = [0] * argument + [value]
            want = filters.ALLOW if value in values else filters.DENY
            assert verdict(numbers[name], *given) == want


# The wire


def received(data):
    return wire.receive(io.BytesIO(data))


@pytest.mark.parametrize("dtype", wire.DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_come_through(dtype, shape, rng):
    array = np.asarray(100 * rng.standard_normal(shape)).astype(dtype)
    for given in (array, array.T, array.astype(array.dtype.newbyteorder())):
        fields, body = received(wire.message({"a": [wire.described(given)]}, wire.raw(given)))
        (made,) = wire.arrays(fields["a"], body)
        np.testing.assert_array_equal(made, given)
        assert made.dtype == np.dtype(dtype)
        assert made.dtype.isnative
        assert made.flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\5{}",
        b"\0\0\0\2[]",
        b"\0\0\0\2{}",
        wire.message({}, b"12345")[:-1],
        wire.message({"size": 0}).replace(b'"size": 0', b'"size":-1'),
        wire.message({"size": 0}).replace(b'"size": 0', b'"size":1e'),
        wire.message({"x": "y" * wire.HEADER}),
        wire.message({}, bytes(wire.BODY + 1)),
        (2 * 10**4).to_bytes(4, "big") + b"[" * 2 * 10**4,
    ],
)
def test_other_bytes_are_no_message(data):
    with pytest.raises(wire.Malformed):
        received(data)


def test_the_end_is_no_message():
    with pytest.raises(EOFError):
        received(b"")


@pytest.mark.parametrize(
    "described",
    [
        None,
        {},
        [1],
        [{}],
        [{"dtype": "object", "shape": [1]}],
        [{"dtype": "float64", "shape": 1}],
        [{"dtype": "float64", "shape": [-1]}],
        [{"dtype": "float64", "shape": [True]}],
        [{"dtype": "float64", "shape": [1.0]}],
        [{"dtype": "float64", "shape": [2]}],
        [{"dtype": "float64", "shape": [10**18, 10**18]}],
        [{"dtype": "float64", "shape": [0, 10**30]}],
        [{"dtype": "float64", "shape": [0, *[2**23] * 7]}],
        [{"dtype": "float32", "shape": [1]}],
        [{"dtype": "float64", "shape": [1] * 9}],
        [{"dtype": ["float64"], "shape": [1]}],
        [{"dtype": "float64", "shape": []}] * 300,
    ],
)
def test_other_descriptions_are_no_arrays(described):
    with pytest.raises(wire.Malformed):
        wire.arrays(described, bytes(8))


@pytest.mark.parametrize(
    "fields",
    [
        {"error": 1},
        {"kind": None},
        {"printed": 1},
        {"changed": "0"},
        {"changed": ["2"]},
        {"changed": [0]},
        {"changed": ["-1"]},
        {"changed": [["0"]]},
        {"arrays": 1},
    ],
)
def test_other_outcomes_are_malformed(fields):
    case = Case("two arguments", (1,), {"x": 2})
    assert grading.outcome({"changed": ["1"]}, b"", case).changed == ("1",)
    with pytest.raises(wire.Malformed):
        grading.outcome(fields, b"", case)


def test_an_argument_that_cannot_be_sent():
    with pytest.raises(TypeError, match="function"):
        grading.argument(right, [])


# What the jail gets


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_the_jail_gets_helpers_and_no_answer(exercise):
    scope = {"__name__": __name__}
    exec(shipped(*(getattr(reference, name) for name in exercise.helpers)), scope)
    assert set(exercise.helpers) <= scope.keys()
    assert exercise.name not in scope
    if exercise.lines is None and exercise.kind != "predict":
        offered = [value for value in scope.values() if callable(value)]
        assert not any(check_answer(exercise, value, 1).passed for value in offered)
    for case in exercise.draw(1):
        arrays = []
        for value in (*case.args, *case.kwargs.values()):
            described = json.loads(json.dumps(grading.argument(value, arrays)))
            made = runner._value(described, tuple(arrays))
            assert type(made).__name__ == type(value).__name__


def test_no_order_of_lines_runs_forever():
    """Orders are run outside of the jail, since the lines are ours."""
    for exercise in EXERCISES.values():
        if exercise.lines is not None:
            assert not any("while" in line for line in exercise.lines.lines)


@kinds
def test_what_the_jail_may_read(kind):
    readable = jail._python(kind)[-1]
    words = [*jail.command(kind), *json.loads(readable)]
    package = str(ROOT / "attn_course")
    ours = {word for word in words if word.startswith(package)}
    assert {Path(word).name for word in ours} <= {
        "attn_course",
        "classroom",
        *("__init__.py", "runner.py", "wire.py", "filters.py"),
    }
    # A folder of packages, which this one may be in, is not there or is an empty one.
    hidden = jail._hidden()
    assert hidden
    if kind == "bubblewrap":
        assert all(words[words.index(path) - 1] == "--tmpfs" for path in hidden)
    else:
        inside = [
            word for word in words if any(f"{path}/".startswith(f"{word}/") for path in hidden)
        ]
        assert inside == []


# Whole submissions


@topics
def test_right_answers_pass(tmp_path, topic):
    for which in (0, 1):
        answers = {exercise.name: right(exercise, which) for exercise in asked(topic)}
        hand_in(tmp_path, f"ann{which}", topic, answers)
        result = graded(tmp_path, f"ann{which}", topic)
        assert {row.exercise: row.status for row in result.rows} == dict.fromkeys(answers, "passed")


@kinds
@topics
def test_known_mistakes_are_named(tmp_path, topic, kind):
    """The last one of each exercise, which is that of memory where there is one."""
    slips = {exercise.name: exercise.all_slips()[-1].name for exercise in asked(topic)}
    answers = {exercise.name: wrong(exercise, slips[exercise.name]) for exercise in asked(topic)}
    hand_in(tmp_path, "ann", topic, answers)
    result = graded(tmp_path, "ann", topic, kind)
    assert {row.exercise: row.slips for row in result.rows} == {
        name: (slip,) for name, slip in slips.items()
    }
    assert all(row.status == "failed" for row in result.rows)


@topics
def test_what_was_handed_out_scores_nothing(tmp_path, topic):
    hand_in(tmp_path, "ann", topic, {})
    assert {row.status for row in graded(tmp_path, "ann", topic).rows} == {"not attempted"}


def test_a_bug_that_was_put_back_is_a_mistake(tmp_path):
    answers = {"row_weights": EXERCISES["row_weights"].cell() + "# I changed this line.\n"}
    hand_in(tmp_path, "ann", "softmax", answers)
    rows = {row.exercise: row for row in graded(tmp_path, "ann", "softmax").rows}
    assert rows["row_weights"].status == "failed"
    assert rows["row_weights"].slips == (EXERCISES["row_weights"].bug,)


def with_cells(folder, cells: list[str], topic="softmax"):
    hand_in(folder, "ann", topic, {cells[0]: "\n".join(cells[1:])})
    return {row.exercise: row for row in graded(folder, "ann", topic, seconds=5).rows}


def test_cells_that_fail_cost_nothing_else(tmp_path):
    answers = {exercise.name: right(exercise) for exercise in asked("softmax")}
    path = hand_in(tmp_path, "ann", "softmax", answers)
    notebook = json.loads(path.read_text())
    for source in ("import matplotlib", "this is no Python", "while True: pass", "1 / 0"):
        cell = {"cell_type": "code", "source": [source], "metadata": {}}
        notebook["cells"].insert(1, cell)
    path.write_text(json.dumps(notebook))
    start = time.monotonic()
    result = graded(tmp_path, "ann", "softmax", seconds=5)
    assert {row.status for row in result.rows} == {"passed"}
    assert [each.split(": ")[1] for each in result.skipped] == [
        "ZeroDivisionError",
        "TimeoutError",
        "SyntaxError",
        "ModuleNotFoundError",
    ]
    assert time.monotonic() - start < 5 * len(result.rows)  # waited for it once


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        (["softmax = 3"], "failed", "expected a function"),
        (["softmax = None"], "not attempted", ""),
        (["softmax = ..."], "not attempted", ""),
        (["def softmax(:"], "failed", "the cell failed: SyntaxError"),
        (["1 / 0", "softmax = len"], "failed", "the cell failed: ZeroDivisionError"),
        (["def softmax(x): pass", "1 / 0"], "failed", "nothing was returned"),
        (["%matplotlib inline", "import numpy as np", "def softmax(*a): 1 / 0"], "failed", "1 / 0"),
        (
            ["from attn_course.reference import softmax"],
            "failed",
            "softmax is not offered in this exercise",
        ),
    ],
)
def test_other_answers(tmp_path, lines, status, words):
    row = with_cells(tmp_path, ["softmax", *lines])["softmax"]
    assert row.status == status
    assert words in row.card


def test_an_order_that_is_no_text(tmp_path):
    rows = with_cells(tmp_path, ["kernel_average", "kernel_average = 5"], "pooling")
    assert "expected a string of letters" in rows["kernel_average"].card


def test_every_cell_that_failed_is_told(tmp_path):
    answers = {"softmax": "1 / 0", "log_softmax": "this is no Python"}
    hand_in(tmp_path, "ann", "softmax", answers)
    told = [each.split(": ")[1] for each in graded(tmp_path, "ann", "softmax").skipped]
    assert told == ["ZeroDivisionError", "SyntaxError"]


def test_a_seed_is_a_students_own_and_repeats_the_report(tmp_path):
    hand_in(tmp_path, "ann", "softmax", {"softmax": "def softmax(x, *a, **k): return x"})
    first, again = graded(tmp_path, "ann", "softmax"), graded(tmp_path, "ann", "softmax")
    assert first == again
    key = secret(tmp_path / "grading")
    assert key == secret(tmp_path / "grading")
    assert (tmp_path / "grading" / "secret").stat().st_mode & 0o777 == 0o600
    assert len({grading.seed_of(k, n) for k in (key, b"x") for n in ("ann", "bob", "\udcff")}) == 6


# The command


def run_command(*words, **options):
    command = [sys.executable, "-m", "attn_course.classroom", *map(str, words)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_the_command_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"attn-course": "attn_course.classroom.__main__:main"}


def test_release_writes_what_nbgrader_expects(tmp_path, capsys):
    main(["release", str(tmp_path), "softmax", "masks"])
    for topic in ("softmax", "masks"):
        path = tmp_path / "release" / topic / f"{topic}.ipynb"
        assert str(path) in capsys.readouterr().out or topic == "masks"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        marks = [cell.metadata.get("nbgrader") for cell in notebook.cells]
        assert {exercise.name for exercise in asked(topic)} == {
            mark["grade_id"] for mark in marks if mark and mark["solution"]
        }
    with pytest.raises(SystemExit):
        main(["release", str(tmp_path), "spells"])
    main(["release", str(tmp_path)])
    assert {path.name for path in (tmp_path / "release").iterdir()} == {*student.CHAPTERS}


def test_a_class_is_graded(tmp_path):
    expected = make(tmp_path, 8, ["softmax", "pooling"])
    (tmp_path / "submitted" / "student0000" / "notes").mkdir()
    bug = EXERCISES["row_weights"].cell() + "# I looked for it.\n"
    hand_in(tmp_path, "looked", "softmax", {"row_weights": bug})
    process = run_command("grade", tmp_path, "--jobs", 2)
    said, progress = process.communicate(timeout=300)
    assert process.returncode == 0, progress
    assert "17 submissions of 9 students, 17 graded now." in said
    assert "100%" in progress
    table = verdicts(tmp_path)
    assert table.keys() == {*expected, "looked"}
    for name, exercises in expected.items():
        row = table[name]
        # A cell that ends the process takes the exercises below it along.
        if KINDS[int(name.removeprefix("student")) % len(KINDS)] != "hostile":
            assert {each: row[each] for each in exercises} == exercises
        passed = {each for each, verdict in row.items() if verdict == "passed"}
        assert passed <= {each for each, verdict in exercises.items() if verdict == "passed"}
        assert row["passed"] == str(len(passed))
        for topic in ("softmax", "pooling"):
            page = (tmp_path / "feedback" / name / topic / f"{topic}.html").read_text()
            assert f"Seed of the numbers: {row['seed']}." in page
            whole(page)
    report = (tmp_path / "report.html").read_text()
    whole(report)
    bugs = {(exercise.name, f"failed: {exercise.bug}") for exercise in EXERCISES.values()}
    named = {
        pair for row in table.values() for pair in row.items() if pair[1].startswith("failed: ")
    }
    assert named & bugs
    assert named - bugs
    for name, verdict in named:
        told = f"<strong>{name}: {html.escape(verdict.removeprefix('failed: '))}</strong>" in report
        assert told == ((name, verdict) not in bugs)
    assert "`" not in report


def whole(page: str) -> None:
    """Check that every tag is closed, nothing is loaded and nothing runs."""

    class Reader(html.parser.HTMLParser):
        open_tags: list = []  # noqa: RUF012  set anew below

        def handle_starttag(self, tag, attributes):
            assert tag not in ("script", "img", "link", "iframe")
            assert not any(name.startswith("on") for name, _ in attributes)
            if tag != "meta":
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag

    reader = Reader()
    reader.open_tags = []
    reader.feed(page)
    assert reader.open_tags == []
    assert "color-scheme: light dark" in page
    assert not re.search(r"https?://", page)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    expected = make(tmp_path, 12, ["pooling"])
    journal = tmp_path / "grading" / "journal.jsonl"
    process = run_command("grade", tmp_path, "--jobs", 2)
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_text().count("\n") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert children
    while any(Path(f"/proc/{child}/exe").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    lines = journal.read_text().splitlines()
    assert 3 <= len(lines) < 12
    with journal.open("a") as file:
        file.write('{"student": "half a li')
    said, _ = run_command("grade", tmp_path, "--jobs", 2).communicate(timeout=300)
    assert f"12 submissions of 12 students, {12 - len(lines)} graded now." in said
    after = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [json.dumps(line) for line in after[: len(lines)]] == lines
    assert sorted(line["student"] for line in after) == sorted(expected)
    assert verdicts(tmp_path).keys() == expected.keys()


def test_only_what_is_new_is_graded_again(tmp_path, capsys):
    for name in ("ann", "bob"):
        hand_in(tmp_path, name, "softmax", {})
    commands.grade(tmp_path, 1, 5, "bubblewrap")
    assert "2 graded now" in capsys.readouterr().out
    commands.grade(tmp_path, 1, 5, "bubblewrap")
    assert "0 graded now" in capsys.readouterr().out
    path = tmp_path / "submitted" / "ann" / "softmax" / "softmax.ipynb"
    path.unlink()
    path.parent.rmdir()
    path.parent.parent.rmdir()
    hand_in(tmp_path, "ann", "softmax", {"softmax": right(EXERCISES["softmax"])})
    commands.grade(tmp_path, 1, 5, "bubblewrap")
    assert "1 graded now" in capsys.readouterr().out
    assert verdicts(tmp_path)["ann"]["softmax"] == "passed"


def test_a_broken_jail_is_told_and_costs_no_other(tmp_path, monkeypatch):
    hand_in(tmp_path, "ann", "softmax", {})
    monkeypatch.setattr(jail, "START", "import sys; sys.exit('no memory')")
    result = graded(tmp_path, "ann", "softmax")
    assert result.problem == "the jail ended: no memory"
    assert {row.status for row in result.rows} == {"not graded"}


@pytest.mark.parametrize("broken", ["draw", "_outcomes"])
def test_what_the_grader_could_not_do_is_tried_again(tmp_path, monkeypatch, capsys, broken):
    def fail(*args):
        raise ZeroDivisionError

    hand_in(tmp_path, "ann", "softmax", {"softmax": right(EXERCISES["softmax"])})
    with monkeypatch.context() as patch:
        patch.setattr(*((Exercise, "draw") if broken == "draw" else (grading, "_outcomes")), fail)
        result = graded(tmp_path, "ann", "softmax")
    assert result.problem == "the grader failed: ZeroDivisionError"
    with Journal(tmp_path / "grading" / "journal.jsonl") as journal:
        journal.add(result)
    commands.grade(tmp_path, 1, 20, "bubblewrap")
    assert "1 graded now" in capsys.readouterr().out
    assert verdicts(tmp_path)["ann"]["softmax"] == "passed"


def test_a_folder_that_nobody_may_list(tmp_path, monkeypatch):
    for name in ("ann", "bob"):
        hand_in(tmp_path, name, "softmax", {})
    scan, listed = os.scandir, os.listdir

    def denied(look):  # root may list every folder
        def looked(folder):
            if Path(folder).name == "ann":
                raise PermissionError
            return look(folder)

        return looked

    monkeypatch.setattr(os, "scandir", denied(scan))
    monkeypatch.setattr(os, "listdir", denied(listed))
    assert list(submissions.names(tmp_path)) == [("bob", "softmax")]
    ((name, problem),) = submissions.left_out(tmp_path)
    assert name == "ann"
    assert "nobody may list" in problem


def test_what_could_not_be_graded_says_why(tmp_path, capsys):
    submitted = tmp_path / "submitted"
    hand_in(tmp_path, "right", "softmax", {"softmax": right(EXERCISES["softmax"])})
    path = hand_in(tmp_path, "renamed", "softmax", {})
    path.rename(path.with_name("softmax (1).ipynb"))
    hand_in(tmp_path, "document", "softmax", {}).write_bytes(b"PK\3\4")
    hand_in(tmp_path, "latin", "softmax", {}).write_bytes('{"cells": "\xe9"}'.encode("latin-1"))
    path = hand_in(tmp_path, "elsewhere", "softmax", {})
    path.rename(submitted / "elsewhere" / "softmax.ipynb")
    path.parent.rmdir()
    (submitted / "nothing").mkdir()
    (submitted / "loose.ipynb").write_text("{}")
    (submitted / "linked").symlink_to(submitted / "right")
    commands.grade(tmp_path, 1, 20, "bubblewrap")
    problems = {
        "renamed": "softmax: there is no file softmax.ipynb; its folder holds softmax (1).ipynb",
        "document": "softmax: it is no notebook: no JSON, or too deep",
        "latin": "softmax: it is no notebook: no JSON, or too deep",
        "elsewhere": "there is no folder of an assignment; "
        "the student's folder holds softmax.ipynb",
        "nothing": "there is no folder of an assignment; the student's folder holds nothing",
        "loose.ipynb": "the notebook lies outside of a student's folder",
        "linked": "it is a link, and links are not followed",
    }
    table, said = verdicts(tmp_path), capsys.readouterr().out
    report = html.unescape((tmp_path / "report.html").read_text())
    assert {name: row["problem"] for name, row in table.items()} == {"right": "", **problems}
    for name, problem in problems.items():
        assert f"Not graded: {name}: {problem}." in said
        assert f"{name}: {problem}</li>" in report
        handed_in = problem.startswith("softmax: ")
        assert table[name]["softmax"] == ("unreadable" if handed_in else "")
        if handed_in:
            page = (tmp_path / "feedback" / name / "softmax" / "softmax.html").read_text()
            assert html.escape(problem.removeprefix("softmax: ")) in page
    points = sum(exercise.difficulty for exercise in asked("softmax"))
    assert {row["possible"] for row in table.values()} == {str(points)}
    assert table["right"]["points"] == str(EXERCISES["softmax"].difficulty)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_notebooks_that_other_programs_saved(tmp_path, encoding):
    path = hand_in(tmp_path, "ann", "softmax", {"softmax": right(EXERCISES["softmax"])})
    notebook = {**json.loads(path.read_text()), "metadata": {"x": float("nan"), "name": "\xe9"}}
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding=encoding)
    rows = {row.exercise: row.status for row in graded(tmp_path, "ann", "softmax").rows}
    assert rows["softmax"] == "passed"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("grade class --jobs 0", "argument --jobs: '0'"),
        ("grade class --jobs -1", "argument --jobs: "),
        ("grade class --jobs 1.5", "argument --jobs: '1.5'"),
        ("grade class --seconds 0", "argument --seconds: '0'"),
        ("grade class --seconds nan", "argument --seconds: 'nan'"),
        ("grade class --seconds inf", "argument --seconds: 'inf'"),
        ("grade class --seconds soon", "argument --seconds: 'soon'"),
        ("grade missing", "argument folder: there is no folder missing"),
        ("grade file", "argument folder: file is a file"),
        ("grade empty", "argument folder: there is no folder empty/submitted"),
        ("grade bare", "argument folder: there are no submissions"),
        ("grade class", "argument folder: class/grading: "),
        ("release file", "argument folder: file is a file"),
        ("release file/within masks", "argument folder: file/within"),
        ("release class masks", "argument folder: class/release"),
        ("release empty spells", "argument topic: no topic 'spells', only softmax"),
    ],
)
def test_a_bad_argument_is_named(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    hand_in(Path("class"), "ann", "softmax", {})
    for folder in ("empty", "bare/submitted/ann"):
        Path(folder).mkdir(parents=True)
    for file in ("file", "class/grading", "class/release"):  # where folders are to be written
        Path(file).write_text("")
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    *usage, line = capsys.readouterr().err.splitlines()
    assert told in line
    assert "Traceback" not in "".join(usage)


def test_submissions_that_nobody_may_list(tmp_path, monkeypatch, capsys):
    hand_in(tmp_path, "ann", "softmax", {})

    def denied(folder):  # root may list every folder
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(submissions, "_folders", denied)
    with pytest.raises(SystemExit) as ended:
        main(["grade", str(tmp_path)])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"argument folder: {tmp_path / 'submitted'}: Permission denied" in line


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    replace(tmp_path / "a", "old")
    (tmp_path / "a.part").write_text("left by a run that was killed")
    replace(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_memory_stays_flat(tmp_path):
    """Of the process that waits for the others, from 4 students to 40."""
    peaks = []
    for students in (4, 40):
        folder = tmp_path / str(students)
        make(folder, students, ["pooling"], seed=2)
        process = run_command("grade", folder, "--jobs", 2)
        peak = 0
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.05)
        process.communicate()
        assert len(verdicts(folder)) == students
        peaks.append(peak)
    small, large = peaks
    assert large < small + 4000  # kB


def test_names_are_shown_as_they_are_read():
    assert submissions.shown("Zoë O'Neil") == "Zoë O'Neil"
    assert submissions.shown("a\nb\x1b\u202e\udcff") == r"a\nb\x1b\u202e\udcff"


def test_a_journal_without_its_last_half(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"a": 1}\n{"b')
    with Journal(path) as journal:
        assert list(journal.lines()) == [{"a": 1}]
    assert path.read_text() == '{"a": 1}\n'


def test_limits_of_this_process_are_left_alone(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_AS)
    hand_in(tmp_path, "ann", "softmax", {})
    graded(tmp_path, "ann", "softmax")
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert os.getcwd() == str(Path.cwd())
