"""The command `attn-course`: `release` writes notebooks for students, `grade` grades them."""

import argparse
import os
import sys
from pathlib import Path

from attn_course.classroom import commands, grading, jail, submissions
from attn_course.exercises import student

LONGEST = 3600  # seconds for an exercise


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and up to {LONGEST}")
    return seconds


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, expected a folder")
    return path


def _class(text: str) -> Path:
    path = _folder(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    if not (path / "submitted").is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path / 'submitted'}")
    if not any(submissions.names(path)):
        expected = path / "submitted" / "STUDENT" / "ASSIGNMENT" / "ASSIGNMENT.ipynb"
        raise argparse.ArgumentTypeError(f"there are no submissions, expected {expected}")
    return path


def _topic(text: str) -> str:
    if text not in student.CHAPTERS:
        raise argparse.ArgumentTypeError(f"no topic {text!r}, only {', '.join(student.CHAPTERS)}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("attn-course", description=__doc__)
    named = parser.add_subparsers(dest="command", required=True)
    command = named.add_parser("release", help="write notebooks to hand out")
    command.add_argument("folder", type=_folder, help="notebooks go to FOLDER/release")
    command.add_argument("topics", nargs="*", metavar="topic", type=_topic, help="by default all")
    command = named.add_parser("grade", help="grade what lies in FOLDER/submitted")
    command.add_argument("folder", type=_class)
    command.add_argument("--jobs", type=_jobs, default=os.cpu_count(), help="processes")
    command.add_argument(
        "--seconds", type=_seconds, default=grading.SECONDS, help="for each exercise, at most"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "release":
        commands.release(arguments.folder, arguments.topics or list(student.CHAPTERS))
        return
    try:
        kind = jail.working()
    except jail.NoJail as error:
        sys.exit(f"Nothing was graded, since no jail can be made here. {error}")
    commands.grade(arguments.folder, arguments.jobs, arguments.seconds, kind)


def main(words: list[str] | None = None) -> None:
    """Run the command; `words` are its arguments, by default those of the process."""
    parser = _parser()
    try:
        _run(parser.parse_args(words))
    except OSError as error:
        if error.filename is None:  # no file of the user's
            raise
        parser.error(f"argument folder: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main()
