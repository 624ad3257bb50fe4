"""Run the cells of a page where there is no Jupyter: in the reader's own browser.

What a cell shows is what a notebook shows of it: what it prints, then its last expression, as
HTML where the object has such a form. The page's worker, `book/assets/live-worker.js`, calls this
under Pyodide; nothing here depends on that.
"""

import ast
import contextlib
import io
import linecache
import time
import traceback
from collections.abc import Callable

LONGEST = 100_000  # characters that a cell may print; an endless loop would print for ever
PAUSE = 0.05  # seconds between two messages to the page at least


class _Printed(io.TextIOBase):
    """Hands on what is printed, in pieces, and no more than `LONGEST` characters of it."""

    def __init__(self, show: Callable[[str, str], object]):
        self.show, self.kept, self.left, self.last = show, [], LONGEST, time.monotonic()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.left > 0:
            self.kept.append(text[: self.left])
            self.left -= len(text)
            if self.left <= 0:
                self.kept.append(f"\nMore than {LONGEST} characters: the rest is not shown.\n")
            if time.monotonic() - self.last >= PAUSE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        if self.kept:
            self.show("text", "".join(self.kept))
        self.kept, self.last = [], time.monotonic()


class Session:
    """The names that the cells of a page share.

    >>> session, shown = Session(), []
    >>> session.run("cell 1", "x = 20", lambda *what: shown.append(what))
    True
    >>> session.run("cell 2", "print('twice:')\\nx + x", lambda *what: shown.append(what))
    True
    >>> shown
    [('text', 'twice:\\n'), ('text', '40')]
    """

    def __init__(self):
        self.scope = {"__name__": "__main__", "input": _no_input}

    def run(self, name: str, code: str, show: Callable[[str, str], object]) -> bool:
        """Run a cell and return whether it came to its end.

        `show` is called with a kind and a string, as often as there is something to show: "text"
        (printed, or the last expression), "html" (the last expression's own), "error" (a
        traceback of the cell's own lines), "passed" (the name of an exercise that was solved).
        `name` stands in tracebacks in the place of a file's name.
        """
        printed = _Printed(show)
        # Tracebacks show lines, and reports name the line that failed.
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                try:
                    result = self._evaluated(name, code)
                    shown = None if result is None else _shown(result)
                finally:
                    printed.flush()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            show("error", _told(error, name))
            return False
        if shown is not None:
            show(*shown)
        if getattr(result, "passed", False) is True:  # a report, known without what makes one
            show("passed", result.exercise)
        return True

    def _evaluated(self, name: str, code: str) -> object:
        tree = ast.parse(code, name)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            exec(compile(tree, name, "exec"), self.scope)
            return None
        exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), self.scope)
        return eval(compile(ast.Expression(last.value), name, "eval"), self.scope)


def _no_input(prompt: object = "") -> str:
    raise RuntimeError("input: nothing can be typed into a running cell; write it into the code")


def _shown(result: object) -> tuple[str, str]:
    html = getattr(result, "_repr_html_", None)
    return ("html", html()) if callable(html) else ("text", repr(result))


def _told(error: BaseException, name: str) -> str:
    """Return the traceback from the first line of the cell on; whoever called it stands above."""
    if isinstance(error, ModuleNotFoundError):
        error.add_note("Of the course's packages only NumPy is here: use Jupyter for the others.")
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
