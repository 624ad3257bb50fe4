"""What `check` returns: whether the answer is right, which mistake it is, and how one sees it."""

import dataclasses
import html

from attn_course.exercises.exercise import Slip
from attn_course.notebook import marked

VERDICTS = {"passed": "right", "failed": "not right yet", "not attempted": "not attempted"}
WITHHELD = (
    "The bug that was to be found is still there. If you give up, "
    '`check("{0}", {0}).misconceptions[0].message` says what it is.'
)
EMPTY = "There is nothing to check yet: the answer is not filled in, or it returns nothing."
# Everything that the page around the card could color or align otherwise is set here: a page may
# give code a color of its own, which is not readable on every background.
CELL = "text-align: left; vertical-align: baseline; padding: 0.25em 0.6em; border: 0"
HEAD = f"{CELL}; font-weight: 600; overflow-wrap: anywhere; width: 7em"
TEXT = f"{CELL}; font-family: inherit; line-height: 1.4; overflow-wrap: anywhere"
PLAIN = "margin: 0; padding: 0; border: 0; background: none; color: inherit; overflow-x: auto"
NUMBERS = f"{PLAIN}; font-size: 0.9em; line-height: 1.35; white-space: pre"
SHORT = 30  # characters that have room on a phone


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The smallest case that an answer fails, in words and numbers.

    `inputs` has the shape and, where they are few, the numbers of each argument.
    """

    case: str
    problem: str
    inputs: dict[str, str]
    expected: str = ""
    got: str = ""

    def __str__(self):
        return "\n".join(f"{name}: {text}" for name, text in self.rows().items())

    def rows(self) -> dict[str, str]:
        """Return what there is to show, by its name."""
        rows = {"case": self.case, "problem": self.problem, **self.inputs}
        rows |= {"expected": self.expected, "got": self.got}
        return {name: text for name, text in rows.items() if text}


@dataclasses.dataclass(frozen=True)
class Report:
    """The verdict on one answer.

    Attributes:
        exercise: its name.
        status: "passed", "failed" or "not attempted".
        misconceptions: the known mistakes that together give the very numbers of the answer, most
            likely first; none where no known mistake does.
        evidence: the smallest failing case, or None.
        remarks: what is worth knowing and cost nothing.
        seed: the draw, which ``check(..., seed=...)`` repeats.
        withheld: whether the mistake is the very one to be found, so that it is not told unasked.
    """

    exercise: str
    status: str
    seed: int
    misconceptions: tuple[Slip, ...] = ()
    evidence: Evidence | None = None
    remarks: tuple[str, ...] = ()
    withheld: bool = False

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def _told(self) -> list[tuple[str, str]]:
        if self.status == "not attempted":
            return [(EMPTY, "")]
        if self.withheld:
            return [(WITHHELD.format(self.exercise), "")]
        return [(slip.message, slip.page) for slip in self.misconceptions]

    def __str__(self):
        said = [f"{self.exercise}: {VERDICTS[self.status]}"]
        for message, page in self._told():
            said += [f"  {message}", *([f"  Read again: book/{page}"] if page else [])]
        if self.evidence is not None:
            said += ["  The smallest case that shows it:"]
            said += [f"    {line}" for line in str(self.evidence).splitlines()]
        said += [f"  {remark}" for remark in self.remarks]
        return "\n".join(said)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows. It takes the colors of the page around it."""
        color = {"passed": "#2a9d4a", "failed": "#c4501b", "not attempted": "#808080"}[self.status]
        name = _escaped(self.exercise)
        parts = [f"<strong>{name}: {VERDICTS[self.status]}</strong>"]
        for message, page in self._told():
            again = f" Read again: `book/{page}`." if page else ""
            parts.append(_marked(message + again))
        if self.evidence is not None:
            parts.append("The smallest case that shows it:")
        parts = [f'<p style="margin: 0.4em 0">{part}</p>' for part in parts]
        if self.evidence is not None:
            parts.append(_table(self.evidence.rows()))
        parts += [f'<p style="margin: 0.4em 0">{_marked(remark)}</p>' for remark in self.remarks]
        return (
            f'<div role="group" aria-label="Check of {name}" style="margin: 0.5em 0; '
            f'padding: 0 0 0 1em; border-left: 0.3em solid {color}">{"".join(parts)}</div>'
        )


def _table(rows: dict[str, str]) -> str:
    """Return `rows` as a table: sentences wrap, numbers keep their columns and scroll.

    What may scroll can be reached by the keyboard.
    """
    lines = []
    for name, text in rows.items():
        if name in ("case", "problem"):
            cell = f'<td style="{TEXT}">{_escaped(text)}</td>'
        else:
            wide = max(map(len, text.splitlines())) > SHORT
            pre = f'<pre style="{NUMBERS}"{" tabindex=0" * wide}>{_escaped(text)}</pre>'
            cell = f'<td style="{CELL}">{pre}</td>'
        lines.append(f'<tr><th scope="row" style="{HEAD}">{_escaped(name)}</th>{cell}</tr>')
    style = (
        "display: table; table-layout: fixed; width: 100%; margin: 0; border-collapse: collapse; "
        "font-size: inherit; color: inherit"
    )
    return f'<table style="{style}">{"".join(lines)}</table>'


def _marked(text: str) -> str:
    return marked(text).replace("<code>", '<code style="color: inherit">')


def _escaped(text: str) -> str:
    return html.escape(str(text))
