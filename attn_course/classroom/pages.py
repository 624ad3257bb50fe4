"""The pages that a grader writes: a feedback for each student, a report on the class, a table.

Each page is one file without scripts, in the colors of the reader's system. Everything that a
student could have written is escaped.
"""

import csv
import html
import io
from collections import Counter
from collections.abc import Iterable, Mapping

from attn_course.classroom.grading import Graded
from attn_course.classroom.submissions import shown
from attn_course.exercises import EXERCISES
from attn_course.notebook import marked

STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 55rem; margin: 2rem auto; padding: 0 1rem; }
section { margin: 2rem 0; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
"""
MOST_SHOWN = 20  # mistakes in the report on the class


def _page(title: str, body: Iterable[str]) -> str:
    # The policy lets nothing run or load, should something unescaped get through.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{_text(title)}</h1>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def feedback(graded: Graded) -> str:
    """Return the page that a student gets back."""
    title = f"{graded.assignment}: {shown(graded.student)}"
    if graded.problem:
        return _page(title, [f"<p>Nothing could be graded: {_text(graded.problem)}.</p>"])
    passed = sum(row.status == "passed" for row in graded.rows)
    body = [f"<p>{passed} of {len(graded.rows)} right. Seed of the numbers: {graded.seed}.</p>"]
    body += [row.card for row in graded.rows]
    if graded.skipped:
        items = "".join(f"<li><code>{_text(each)}</code></li>" for each in graded.skipped)
        body.append(f"<h2>Cells that failed</h2><p>They were skipped.</p><ul>{items}</ul>")
    return _page(title, body)


class Class:
    """What is kept of a class while it is graded: for each student a few words an exercise."""

    def __init__(self):
        self.seeds: dict[str, int] = {}
        self.cells: dict[str, dict[str, str]] = {}
        self.counts: dict[str, Counter] = {}
        self.slips: Counter = Counter()
        self.problems: dict[str, list[str]] = {}

    def add(self, student: str, seed: int, rows: Iterable[Mapping], problem: str = "") -> None:
        """Count the verdicts on a submission: of each exercise `status` and `slips`.

        `problem` says why there is no verdict.
        """
        self.seeds[student] = seed
        cells = self.cells.setdefault(student, {})
        if problem:
            self.problems.setdefault(student, []).append(problem)
        for row in rows:
            name, status, slips = row["exercise"], row["status"], row["slips"]
            cells[name] = f"{status}: {slips[0]}" if slips else status
            self.counts.setdefault(name, Counter())[status] += 1
            # A student with two mistakes at once has both. The bug that was to be found is in the
            # program as it was handed out.
            self.slips.update((name, slip) for slip in slips if slip != EXERCISES[name].bug)

    def columns(self) -> list[str]:
        """Return the exercises that were handed in, in the order of the course."""
        return [name for name in EXERCISES if name in self.counts]

    def told(self) -> list[tuple[str, str]]:
        """Return of each student who handed in what could not be graded why, both as shown."""
        return [
            (shown(student), problem)
            for student in sorted(self.problems)
            for problem in self.problems[student]
        ]

    def table(self) -> str:
        """Return the table as CSV: a row a student, a column an exercise."""
        text = io.StringIO()
        # Where a comma is part of numbers, spreadsheets take a semicolon for the end of a cell,
        # unless the cell is quoted.
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        columns = self.columns()
        possible = _points(columns)
        writer.writerow(["student", "seed", "passed", "points", "possible", "problem", *columns])
        for student in sorted(self.cells):
            cells = self.cells[student]
            passed = [name for name in columns if cells.get(name) == "passed"]
            counted = [self.seeds[student], len(passed), _points(passed), possible]
            problem = "; ".join(self.problems.get(student, ()))
            verdicts = [cells.get(name, "") for name in columns]
            writer.writerow([_harmless(student), *counted, problem, *verdicts])
        return text.getvalue()

    def report(self) -> str:
        """Return the page on the class."""
        statuses = ("passed", "failed", "not attempted", "unreadable", "not graded")
        rows = [
            f'<tr><th scope="row">{_text(name)}</th>'
            f'<td class="number">{EXERCISES[name].difficulty}</td>'
            + "".join(f'<td class="number">{self.counts[name][status]}</td>' for status in statuses)
            + "</tr>"
            for name in self.columns()
        ]
        heads = ("exercise", "points", *statuses)
        heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in heads)
        body = [
            f"<p>{len(self.cells)} students, {_points(self.columns())} points in all.</p>",
            f'<div class="wide"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>",
        ]
        if self.problems:
            told = (f"<li>{_text(name)}: {_text(problem)}</li>" for name, problem in self.told())
            body.append(f"<h2>What could not be graded</h2><ul>{''.join(told)}</ul>")
        body.append("<h2>The commonest misconceptions</h2>")
        if not self.slips:
            return _page("The class", [*body, "<p>None was found.</p>"])
        told = [
            f"<li><p><strong>{_text(name)}: {_text(slip)}</strong>, {count} "
            f"{'student' if count == 1 else 'students'}</p><p>{_message(name, slip)}</p></li>"
            for (name, slip), count in self.slips.most_common(MOST_SHOWN)
        ]
        return _page("The class", [*body, f"<ol>{''.join(told)}</ol>"])


def _message(exercise: str, name: str) -> str:
    known = {slip.name: slip for slip in EXERCISES[exercise].all_slips()}
    if name not in known:  # one that any exercise may have
        return ""
    slip = known[name]
    return f"{marked(slip.message)} Read again: <code>book/{_text(slip.page)}</code>."


def _points(exercises: Iterable[str]) -> int:
    return sum(EXERCISES[name].difficulty for name in exercises)


def _harmless(name: str) -> str:
    """Return a name as a cell: a spreadsheet would compute what begins like a formula."""
    name = shown(name)
    return f"'{name}" if name[:1] in ("=", "+", "-", "@") else name


def _text(text: str) -> str:
    return html.escape(text)
