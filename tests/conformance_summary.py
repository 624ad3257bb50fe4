"""How many cases of other people's suites ran, at the end of the test report.

It is read off the reports' names alone, so that it is the same under pytest-xdist, whose
controller sees nothing else.
"""

import re
from collections import Counter

FILE = re.compile(r"\btests/conformance/test_(\w+)\.py::\w+\[(.*)\]$")
OPERATOR = re.compile(r"^([A-Z]\w+)-(\d+)-")  # of ONNX, and its opset
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
LIBRARY = re.compile(r"\b(reference|fast)\b")


def pytest_terminal_summary(terminalreporter):
    """Say for each suite and library how many cases passed, and what became of the others."""
    counts = {}  # suite: library: outcome: number of cases
    for outcome in OUTCOMES:
        for report in terminalreporter.stats.get(outcome, ()):
            if found := FILE.search(report.nodeid):
                suite, case = found.groups()
                if operator := OPERATOR.match(case):
                    suite = f"{suite} {operator[1]}, opset {operator[2]}"
                library = LIBRARY.search(case)
                libraries = counts.setdefault(suite, {})
                libraries.setdefault(library[1] if library else "", Counter())[outcome] += 1
    if counts:
        terminalreporter.section("conformance")
    for suite, libraries in sorted(counts.items()):
        cells = [
            f"{library} {count} {outcome}".strip()
            for library, outcomes in sorted(libraries.items(), reverse=True)
            for outcome, count in outcomes.items()
        ]
        terminalreporter.line(f"{suite:<34} {', '.join(cells)}")
