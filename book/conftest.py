"""How nbval runs the book: one BLAS thread, and a minute at most for a notebook."""

import os
from collections import Counter

import pytest

SECONDS = 60

# The notebooks' kernels inherit these.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

_spent = Counter()


def pytest_runtest_logreport(report):
    name = report.nodeid.partition("::")[0]
    if name.endswith(".ipynb"):
        _spent[name] += report.duration


def _slow():
    return [(name, spent) for name, spent in _spent.most_common() if spent > SECONDS]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if _slow() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    for name, spent in _slow():
        terminalreporter.write_line(f"too slow: {name} took {spent:.0f} s of {SECONDS} s")
