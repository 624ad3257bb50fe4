"""What `attn-course` does: write the notebooks of topics, grade a class."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

import nbformat
from tqdm import tqdm

from attn_course.classroom import grading, submissions
from attn_course.classroom.grading import Graded
from attn_course.classroom.journal import Journal, replace, secret
from attn_course.classroom.pages import Class, feedback
from attn_course.exercises import student

PDEATHSIG = 1  # prctl's


def release(folder: Path, topics: list[str]) -> None:
    """Write the notebooks of `topics` below ``folder/release``, as nbgrader lays them out."""
    for topic in topics:
        path = folder / "release" / topic / f"{topic}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(student.notebook(topic), path)
        print(path)


def grade(folder: Path, jobs: int, seconds: float, kind: str) -> None:
    """Grade what lies in ``folder/submitted`` and has not been graded, in `jobs` processes.

    Writes ``feedback`` (a page a submission), ``grades.csv``, ``report.html`` and, in ``grading``,
    what is needed to resume.
    """
    names = list(submissions.names(folder))
    key = secret(folder / "grading")
    with Journal(folder / "grading" / "journal.jsonl") as journal:
        done = {
            (line["student"], line["assignment"]): None if line["again"] else line["digest"]
            for line in journal.lines()
        }
        todo = (
            (folder, *name, grading.seed_of(key, name[0]), kind, seconds)
            for name in names
            if done.get(name) != submissions.read(folder, *name).digest()
        )
        fresh = 0
        with tqdm(total=len(names), unit="submission", smoothing=0) as bar:
            for graded in _graded(todo, jobs):
                write_feedback(folder, graded)
                # After the page: what stands in the journal is not done again.
                journal.add(graded)
                fresh += 1
                bar.update()
            bar.update(len(names) - fresh)
        latest = {(line["student"], line["assignment"]): line for line in journal.lines()}
    course = Class()
    for name in names:
        line = latest[name]
        problem = f"{line['assignment']}: {line['problem']}" if line["problem"] else ""
        course.add(line["student"], line["seed"], line["rows"], problem)
    print(f"{len(names)} submissions of {len(course.cells)} students, {fresh} graded now.")
    for name, problem in submissions.left_out(folder):
        course.add(name, grading.seed_of(key, name), (), problem)
    replace(folder / "grades.csv", course.table())
    replace(folder / "report.html", course.report())
    for name, problem in course.told():
        print(f"Not graded: {name}: {problem}.")
    print(f"Jail: {kind}. Written: grades.csv, report.html, feedback/ in {folder}")


def write_feedback(folder: Path, graded: Graded) -> None:
    """Write a student's page where nbgrader looks for it."""
    place = folder / "feedback" / graded.student / graded.assignment
    replace(place / f"{graded.assignment}.html", feedback(graded))


def _graded(todo: Iterator[tuple], jobs: int) -> Iterator[Graded]:
    """Yield the verdicts as they come. Few are under way at a time, so that memory stays flat."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, spawn, _end_with, (os.getpid(),)) as pool:
        under_way = set()
        for task in todo:
            under_way.add(pool.submit(grading.grade, *task))
            if len(under_way) >= 2 * jobs:
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in finished)
        yield from (each.result() for each in under_way)


def _end_with(parent: int) -> None:
    """Let this process end with the one that started it, however that ends."""
    ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
