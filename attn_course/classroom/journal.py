"""What has been graded, on disk as soon as it is: a line a submission, so that a run can resume."""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from attn_course.classroom.grading import Graded


def secret(folder: Path) -> bytes:
    """Return the secret of the seeds, which is drawn once and stays in `folder`."""
    path = folder / "secret"
    if not path.exists():
        replace(path, secrets.token_hex(32), mode=0o600)
    return bytes.fromhex(path.read_text())


def replace(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    place = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(place, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Journal:
    """The lines of the submissions graded, to be used in a ``with`` block."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115  closed in __exit__
        self._drop_half_a_line()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def _drop_half_a_line(self) -> None:
        """Cut off what a run that was killed did not finish."""
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if line.endswith(b"\n"):
                whole += len(line)
        self._file.truncate(whole)

    def lines(self) -> Iterator[dict]:
        """Yield what was written, in order."""
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def add(self, graded: Graded) -> dict:
        """Write a line and wait until it is on the disk; return it."""
        line = {
            "student": graded.student,
            "assignment": graded.assignment,
            "digest": graded.digest,
            "seed": graded.seed,
            "problem": graded.problem,
            "again": graded.again,
            "rows": [
                {"exercise": row.exercise, "status": row.status, "slips": row.slips}
                for row in graded.rows
            ],
        }
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return line
