"""What was handed in, read as data: others wrote these bytes."""

import dataclasses
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from attn_course.exercises.student import CHAPTERS

LARGEST = 4 * 2**20  # bytes; notebooks with pictures in their outputs fit
MOST_CELLS = 500
MOST_SOURCE = 2**20  # characters
MOST_NAMES = 5  # of what lies in a folder, where something is missing there


class Unreadable(Exception):
    """Raised where what was handed in is no notebook; the message says what it is."""


@dataclasses.dataclass(frozen=True)
class Submission:
    """What a student handed in: the names as the folders have them, and the bytes or a problem."""

    student: str
    assignment: str
    data: bytes = b""
    problem: str = ""

    def digest(self) -> str:
        """Return a hash that another submission has not."""
        return hashlib.sha256(self.problem.encode() + b"\0" + self.data).hexdigest()


def names(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield student and assignment of all submissions, of assignments that the course has.

    Links to folders are followed nowhere: they could lead to another's work.

    Raises:
        FileNotFoundError: there is no folder of submissions.
    """
    for student in _folders(folder / "submitted"):
        try:
            assignments = _folders(folder / "submitted" / student)
        except PermissionError:  # an archive may bring folders that nobody may list
            continue
        yield from ((student, each) for each in assignments if each in CHAPTERS)


def left_out(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield of whom `names` has nothing, and why: what lies in the wrong place is not graded."""
    graded = {student for student, _ in names(folder)}
    for student in _folders(folder / "submitted"):
        if student in graded:
            continue
        try:
            found = _listed(folder / "submitted" / student)
        except PermissionError:
            found = "what nobody may list"
        yield student, f"there is no folder of an assignment; the student's folder holds {found}"
    for path in sorted((folder / "submitted").iterdir()):
        if path.is_symlink():
            yield path.name, "it is a link, and links are not followed"
        elif path.suffix == ".ipynb" and not path.is_dir():
            yield path.name, "the notebook lies outside of a student's folder"


def _listed(folder: Path | int) -> str:
    return ", ".join(map(shown, sorted(os.listdir(folder))[:MOST_NAMES])) or "nothing"


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def read(folder: Path, student: str, assignment: str) -> Submission:
    """Return a submission; where it is no file of a sensible size, with the problem."""
    try:
        data = _bytes(folder / "submitted", (student, assignment, f"{assignment}.ipynb"))
    except Unreadable as error:
        return Submission(student, assignment, problem=str(error))
    return Submission(student, assignment, data)


def _bytes(folder: Path, parts: tuple[str, ...]) -> bytes:
    # Step by step and without links, so that nobody can put one in place after the look.
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            # Without waiting: a named pipe would keep the grader forever.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            step = os.open(part, flags, dir_fd=place)
            os.close(place)
            place = step
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("it is no file")
        with os.fdopen(os.dup(place), "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise Unreadable(f"there is no file {part}; its folder holds {_listed(place)}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unreadable("it is a link, and links are not followed") from error
        raise Unreadable(f"it cannot be opened: {error.strerror}") from error
    finally:
        os.close(place)
    if len(data) > LARGEST:
        raise Unreadable(f"it is larger than {LARGEST // 2**20} MiB")
    return data


def cells(data: bytes) -> list[dict]:
    """Return the code cells of a notebook: the source, and the exercises it checks and answers.

    An exercise is its name, or "" where a cell does not do that.

    Raises:
        Unreadable: it is no notebook.
    """
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is no notebook: no JSON, or too deep") from error
    found = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(found, list) or not all(isinstance(cell, dict) for cell in found):
        raise Unreadable("it is no notebook: it has no list of cells")
    code = [
        {"source": _source(cell.get("source")), **_marked(cell.get("metadata"))}
        for cell in found
        if cell.get("cell_type") == "code"
    ]
    if len(code) > MOST_CELLS or sum(len(cell["source"]) for cell in code) > MOST_SOURCE:
        raise Unreadable(f"it has more than {MOST_CELLS} cells or {MOST_SOURCE} characters of code")
    return code


def _source(source: object) -> str:
    lines = source if isinstance(source, list) else [source]
    return "".join(line for line in lines if isinstance(line, str))


def _marked(metadata: object) -> dict[str, str]:
    mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = mark.get("grade_id") if isinstance(mark, dict) else None
    name = name if isinstance(name, str) else ""
    if name.endswith("-check"):
        return {"checks": name.removesuffix("-check"), "answers": ""}
    return {"checks": "", "answers": name}


def shown(name: str) -> str:
    """Return a name without what a terminal or a reader would not see: line ends, control marks."""
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode("ascii", "replace")
        for letter in name
    )


def legible(text: str) -> str:
    """Return what a student's program said, line by line as `shown` shows names."""
    return "\n".join(map(shown, text.split("\n")))
