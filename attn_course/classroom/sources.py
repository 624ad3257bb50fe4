"""The text of functions of this package with all that they use, for where there is no package."""

import ast
import dataclasses
import inspect
import sys
import textwrap
import types


def shipped(*functions) -> str:
    """Return a module's text that defines `functions` and what of this package they use.

    Annotations stay text, so what they name is not needed.

    Raises:
        ValueError: two modules use one name for different things.
    """
    lines: dict[str, str] = {}
    found: dict[str, object] = {}
    for function in functions:
        _add(function.__name__, function, lines, found)
    return "\n".join(["from __future__ import annotations", *lines.values()])


def _add(name: str, value, lines: dict[str, str], found: dict[str, object]) -> None:
    """Add to `lines` what defines `name`, after what that uses."""
    value = inspect.unwrap(value) if callable(value) else value
    if name in found:
        if found[name] is not value:
            raise ValueError(f"{name} is two things")
        return
    found[name] = value
    if isinstance(value, types.ModuleType):
        lines[name] = f"import {value.__name__} as {name}"
    elif not isinstance(value, (types.FunctionType, type)):
        if dataclasses.is_dataclass(value):
            _add(type(value).__name__, type(value), lines, found)
        lines[name] = f"{name} = {value!r}"
    elif value.__module__.partition(".")[0] != __name__.partition(".")[0]:
        lines[name] = f"from {value.__module__} import {value.__name__} as {name}"
    else:
        text = textwrap.dedent(inspect.getsource(value))
        scope = vars(sys.modules[value.__module__])
        for used in sorted(_names(text) & scope.keys()):
            _add(used, scope[used], lines, found)
        lines[name] = text


def _names(text: str) -> set[str]:
    """Return the names that a program uses beside its annotations."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if isinstance(getattr(node, field, None), ast.AST):
                setattr(node, field, ast.Constant(0))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return {name for name in names if not name.startswith("__")}
