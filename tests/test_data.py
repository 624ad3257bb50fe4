"""Where the data come from: packages that are installed, missing or damaged."""

import re
import subprocess
import sys

import pytest
from book_text import ROOT

from attn_course.data import packages
from attn_course.data.packages import damaged, library, package_file, pinned


def test_every_package_is_pinned_and_has_its_licence():
    lines = (ROOT / "attn_course" / "data" / "packages.txt").read_text().splitlines()
    entries = [line for line in lines if not line.startswith("#")]
    assert len(entries) == len(pinned()) == 7
    for entry in entries:
        assert re.fullmatch(r"[\w-]+==[\d.]+ +# .+\(.+\)", entry), entry


def test_no_package_is_pinned_twice():
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    twice = {line for line in constraints if line.split("==")[0].lower() in pinned()}
    assert twice <= set(pinned().values())


def test_a_file_is_found_without_importing_its_package():
    code = (
        "import sys; from attn_course.data.packages import package_file;"
        "print(package_file('aeon', 'datasets').name, 'aeon' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "datasets False\n"


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install --no-deps aeon==\d") as caught:
        package_file("aeon", "datasets")
    assert caught.value.name == "aeon"


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    assert library("json.decoder").JSONDecoder
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install tokenizers$"):
        library("tokenizers")


def test_a_missing_file_says_how_to_install_the_version_that_has_it():
    message = r"aeon has no datasets/nothing; .*--force-reinstall --no-deps aeon==\d"
    with pytest.raises(FileNotFoundError, match=message):
        package_file("aeon", "datasets", "nothing")
    with pytest.raises(KeyError, match="numpy"):
        package_file("numpy")


@pytest.mark.parametrize(
    ("folder", "requirement"),
    [("babel/locale-data", pinned()["babel"]), ("elsewhere", "-r attn_course/data/packages.txt")],
)
def test_a_damaged_file_is_named_and_how_to_replace_it(folder, requirement):
    error = damaged(ROOT / folder / "x.csv", "5 rows")
    assert isinstance(error, ValueError)
    assert "x.csv is damaged, or of another version: expected 5 rows; " in str(error)
    assert str(error).endswith(f"pip install --force-reinstall --no-deps {requirement}")
