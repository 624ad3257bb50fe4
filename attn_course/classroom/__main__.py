"""The command `attn-course`: `release` writes notebooks for students, `grade` grades them."""

import argparse
import os
import sys
from pathlib import Path

from attn_course.classroom import commands, grading, jail
from attn_course.exercises import student


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("attn-course", description=__doc__)
    named = parser.add_subparsers(dest="command", required=True)
    command = named.add_parser("release", help="write notebooks to hand out")
    command.add_argument("folder", type=Path)
    command.add_argument("topics", nargs="*", metavar="topic", help="by default all")
    command = named.add_parser("grade", help="grade what lies in FOLDER/submitted")
    command.add_argument("folder", type=Path)
    command.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    command.add_argument(
        "--seconds", type=float, default=grading.SECONDS, help="for each exercise, at most"
    )
    arguments = parser.parse_args(words)
    if arguments.command == "release":
        unknown = sorted({*arguments.topics} - {*student.CHAPTERS})
        if unknown:
            parser.error(f"no topic {', '.join(unknown)}, only {', '.join(student.CHAPTERS)}")
    elif arguments.jobs < 1 or arguments.seconds <= 0:
        parser.error("--jobs and --seconds must be above 0")
    elif not (arguments.folder / "submitted").is_dir():
        parser.error(f"there is no folder {arguments.folder / 'submitted'}")
    return arguments


def main(words: list[str] | None = None) -> None:
    """Run the command; `words` are its arguments, by default those of the process."""
    arguments = _arguments(words)
    if arguments.command == "release":
        commands.release(arguments.folder, arguments.topics or list(student.CHAPTERS))
        return
    try:
        kind = jail.working()
    except jail.NoJail as error:
        sys.exit(f"Nothing was graded, since no jail can be made here. {error}")
    commands.grade(arguments.folder, arguments.jobs, arguments.seconds, kind)


if __name__ == "__main__":
    main()
