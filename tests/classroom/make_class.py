"""Make a class of students who hand in what students hand in: right, wrong, half done, hostile.

python tests/classroom/make_class.py FOLDER STUDENTS [TOPIC ...]    # then: attn-course grade
"""

import json
import random
import sys
from pathlib import Path

import numpy as np

from attn_course.classroom.sources import shipped
from attn_course.exercises import EXERCISES, student
from attn_course.exercises.exercise import Exercise

KINDS = ("right", "wrong", "partly", "hostile")
HOSTILE = (
    "import numpy as np\nnp.allclose = np.isclose = lambda *a, **k: True\n",
    "while True:\n    pass\n",
    "import os\nos._exit(0)\n",
    "import os\nwhile True:\n    os.fork()\n",
    "everything = bytearray(3 * 2**30)\n",
    "raise SystemExit\n",
)


def right(exercise: Exercise, which: int = 0) -> str:
    """Return a cell with a right answer."""
    answer = exercise.right[which]
    if not callable(answer):
        return plain(exercise, answer)
    return f"{shipped(answer)}\n{exercise.name} = {answer.__name__}\n"


def plain(exercise: Exercise, answer) -> str:
    """Return a cell with an answer that is no function."""
    value = answer if isinstance(answer, str) else np.asarray(answer).tolist()
    return f"{exercise.name} = {value!r}\n"


def wrong(exercise: Exercise, slip: str) -> str:
    """Return a cell with the answer of a student who makes the mistake `slip`."""
    answer = exercise.wrong([slip])
    if not callable(answer):
        return plain(exercise, answer)
    name = exercise.solve.__name__
    call = f"{name}(frozenset([{slip!r}]), *args, **kwargs)"
    return f"{shipped(exercise.solve)}\ndef answer(*args, **kwargs):\n    return {call}\n" + (
        f"{exercise.name} = answer\n"
    )


def hand_in(folder: Path, name: str, topic: str, answers: dict[str, str]) -> Path:
    """Write a student's notebook with these answers in place of the unfinished cells."""
    notebook = student.notebook(topic)
    for cell in notebook.cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    path = folder / "submitted" / name / topic / f"{topic}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(notebook))
    return path


def make(folder: Path, students: int, topics: list[str], seed: int = 1) -> dict[str, dict]:
    """Write a class. Return by student and exercise what must come out: "" stands for right."""
    chance = random.Random(seed)
    expected = {}
    for number in range(students):
        name, kind = f"student{number:04}", KINDS[number % len(KINDS)]
        expected[name] = {}
        for topic in topics:
            asked = [exercise for exercise in EXERCISES.values() if exercise.topic == topic]
            answers = {}
            for place, exercise in enumerate(asked):
                if kind == "right" or (kind != "wrong" and place % 2 == 0):
                    answers[exercise.name] = right(exercise)
                    expected[name][exercise.name] = "passed"
                elif kind == "wrong":
                    slip = chance.choice(exercise.all_slips()).name
                    answers[exercise.name] = wrong(exercise, slip)
                    expected[name][exercise.name] = f"failed: {slip}"
                elif kind == "hostile":
                    answers[exercise.name] = chance.choice(HOSTILE)
            hand_in(folder, name, topic, answers)
    return expected


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or ["softmax"])
