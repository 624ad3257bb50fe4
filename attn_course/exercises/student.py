"""The notebook of a topic that a student gets: questions, unfinished cells, checks and hints.

It is in nbgrader's format: cells to be answered are marked as solutions, cells that check as
tests with points. It holds no answer.

    python -m attn_course.exercises.student FOLDER    # writes those of all topics
"""

import hashlib
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from attn_course.exercises import EXERCISES
from attn_course.exercises.exercise import Exercise

CHAPTERS = {
    "softmax": ("A weight for everything", "concepts/softmax"),
    "pooling": ("Five steps", "algorithm/pooling"),
    "scores": ("Scores", "algorithm/scores"),
    "dot_product": ("Why the square root", "algorithm/dot_product"),
    "masks": ("Masks", "algorithm/masks"),
    "multi_head": ("Many heads", "algorithm/multi_head"),
    "positions": ("Positions", "algorithm/positions"),
    "gradients": ("Gradients by hand", "algorithm/gradients"),
    "tiled": ("The same result in little memory", "algorithm/tiled"),
    "window": ("Windows", "algorithm/window"),
    "linear": ("Kernels instead of scores", "algorithm/linear"),
    "cache": ("One token at a time", "algorithm/cache"),
    "transformer": ("The block", "algorithm/transformer"),
}
LEVELS = {1: "easy", 2: "medium", 3: "hard"}


def notebook(topic: str) -> nbformat.NotebookNode:
    """Return the student's notebook of `topic`.

    Raises:
        KeyError: there is no such topic; the message has those that there are.
    """
    if topic not in CHAPTERS:
        raise KeyError(f"there is no topic {topic!r}, only {', '.join(CHAPTERS)}")
    asked = [exercise for exercise in EXERCISES.values() if exercise.topic == topic]
    title, page = CHAPTERS[topic]
    minutes = sum(exercise.minutes for exercise in asked)
    beginning = (
        f"# Exercises: {title}\n\n"
        f"These belong to the page [{title}](../{page}.ipynb) and take about {minutes} minutes. "
        "Answer in the cell below each question, then run the cell after it. It says whether the "
        "answer is right, and if it is not, on which numbers it fails and which mistake gives the "
        "same numbers."
    )
    cells = [
        _cell(new_markdown_cell, beginning, f"{topic} beginning"),
        _cell(new_code_cell, "from attn_course.exercises import check", f"{topic} setup"),
    ]
    for exercise in asked:
        name = exercise.name
        check = f'check("{name}", {name})'
        hints = "\n\n".join(
            f"```{{dropdown}} Hint {number}\n{hint}\n```"
            for number, hint in enumerate(exercise.hints, 1)
        )
        cells += [
            _cell(new_markdown_cell, question(exercise), f"{name} question"),
            _cell(new_code_cell, exercise.cell().rstrip("\n"), name, solution=True),
            _cell(new_code_cell, check, f"{name} check", points=exercise.difficulty),
            _cell(new_markdown_cell, hints, f"{name} hints"),
        ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return new_notebook(cells=cells, metadata=metadata)


def question(exercise: Exercise) -> str:
    """Return the heading and the question of an exercise, in Markdown."""
    said = [
        f"## {exercise.title}",
        f"*{exercise.kind.capitalize()}, {LEVELS[exercise.difficulty]}, about {exercise.minutes} "
        "minutes.*",
        exercise.prompt,
    ]
    if exercise.lines is not None:
        lettered = exercise.lines.lettered().items()
        lines = "\n".join(f"{letter}:     {line}" for letter, line in lettered)
        said.append(f"```text\n       {exercise.lines.header}\n{lines}\n```")
    return "\n\n".join(said)


def _cell(new, source: str, name: str, *, solution: bool = False, points: int = 0):
    cell = new(source)
    if cell.cell_type == "code":  # they run in the page; what a check makes, no other cell needs
        cell.metadata["tags"] = ["live", "check"] if points else ["live"]
    # The same notebook at every release: nbformat would draw the identifiers at random.
    cell.id = hashlib.sha256(name.encode()).hexdigest()[:8]
    if solution or points:
        cell.metadata["nbgrader"] = {
            "grade": bool(points),
            "grade_id": name.replace(" ", "-"),
            "locked": bool(points),
            "schema_version": 3,
            "solution": solution,
            "task": False,
            **({"points": points} if points else {}),
        }
    return cell


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for topic in CHAPTERS:
        nbformat.write(notebook(topic), folder / f"{topic}.ipynb")


if __name__ == "__main__":
    main()
