"""What `check` returns: whether the answer is right, which mistake it is, and how one sees it."""

import dataclasses
import html

from attn_course.exercises.exercise import Slip
from attn_course.notebook import marked

VERDICTS = {"passed": "right", "failed": "not right yet", "not attempted": "not attempted"}
WITHHELD = (
    "The bug that was to be found is still there. If you give up, `report.misconceptions` says "
    "what it is."
)


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
        if self.withheld:
            return [(WITHHELD, "")]
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
        parts = [f"<p><strong>{_escaped(self.exercise)}: {VERDICTS[self.status]}</strong></p>"]
        for message, page in self._told():
            again = f" Read again: <code>book/{_escaped(page)}</code>." if page else ""
            parts.append(f"<p>{marked(message)}{again}</p>")
        if self.evidence is not None:
            left = 'style="text-align: left; vertical-align: top"'
            plain = 'style="margin: 0; background: none; border: 0; padding: 0"'
            rows = "".join(
                f'<tr><th scope="row" {left}>{_escaped(name)}</th>'
                f"<td {left}><pre {plain}>{_escaped(text)}</pre></td></tr>"
                for name, text in self.evidence.rows().items()
            )
            parts.append(f"<p>The smallest case that shows it:</p><table>{rows}</table>")
        parts += [f"<p>{marked(remark)}</p>" for remark in self.remarks]
        return (
            f'<section aria-label="Check of {_escaped(self.exercise)}" style="overflow-x: auto; '
            f'border-left: 0.3em solid {color}; padding: 0 0 0 1em">{"".join(parts)}</section>'
        )


def _escaped(text: str) -> str:
    return html.escape(str(text))
