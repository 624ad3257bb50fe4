"""Live cells: what runs them, what a browser gets to run them with, and that they run alone."""

import ast
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile

import attn_live
import pytest
from attn_live import runtime, wheel
from book_text import ROOT, read
from execute import notebooks
from sphinx.errors import ExtensionError

from attn_course import live
from attn_course.live import Session

LIVE = [
    path
    for path in notebooks()
    if any("live" in cell.metadata.get("tags", []) for cell in read(path).cells)
]
IDS = [path.relative_to(ROOT).as_posix() for path in LIVE]
# Runs cells as a browser does: with the files of the package's wheel, and without what it lacks.
ALONE = """
import json, sys
folder, missing = sys.argv[1:]
sys.path = [folder, *(path for path in sys.path if path != missing)]
class Missing:
    def find_spec(self, name, path=None, target=None):
        known = name.partition(".")[0]
        if known not in {"attn_course", "jaxtyping", "numpy", *sys.stdlib_module_names}:
            raise ModuleNotFoundError(f"no {name} in a browser")
sys.meta_path.insert(0, Missing())
from attn_course.live import Session
session, shown = Session(), []
for number, code in enumerate(json.load(sys.stdin)):
    cell = []
    session.run(f"cell {number}", code, lambda *what: cell.append(what))
    shown.append(cell)
json.dump(shown, sys.stdout)
"""


def shown(code, session=None):
    """Return what a cell shows, and whether it came to its end."""
    pieces = []
    ended = (session or Session()).run("cell 1", code, lambda *what: pieces.append(what))
    return pieces, ended


def test_a_cell_shows_what_it_prints_and_its_last_expression():
    assert shown("print('a'); 1 + 1") == ([("text", "a\n"), ("text", "2")], True)
    assert shown("x = 1") == ([], True)
    assert shown("") == ([], True)
    assert shown("None") == ([], True)


def test_an_object_shows_its_html():
    pieces, _ = shown("from attn_course.notebook import table\ntable([{'a': 1}])")
    assert pieces[0][0] == "html"
    assert "<table" in pieces[0][1]


def test_cells_share_names():
    session = Session()
    shown("x = 3", session)
    assert shown("x", session) == ([("text", "3")], True)


def test_an_error_shows_the_lines_of_the_cell_alone():
    pieces, ended = shown("print('before')\ndef f(x):\n    return x / 0\nf(1)")
    assert not ended
    assert pieces[0] == ("text", "before\n")
    kind, text = pieces[1]
    assert kind == "error"
    assert text.startswith('Traceback (most recent call last):\n  File "cell 1", line 4')
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "return x / 0" in text
    assert "live.py" not in text


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = = 1", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "class A:\n    def __repr__(self):\n        raise ValueError('no')\nA()",
            "ValueError: no",
        ),
        ("import torch_of_another_name", "only NumPy is here: use Jupyter"),
        ("input('x')", "RuntimeError: input: nothing can be typed into a running cell"),
        ("1\0", "SyntaxError"),
    ],
)
def test_nothing_escapes(code, error):
    pieces, ended = shown(code)
    assert not ended
    assert error in pieces[-1][1]


def test_what_is_printed_without_end_is_cut():
    pieces, ended = shown(f"for _ in range({live.LONGEST}): print('12345')")
    assert ended
    text = "".join(piece for _, piece in pieces)
    assert live.LONGEST < len(text) < live.LONGEST + 100
    assert text.endswith("the rest is not shown.\n")


def test_a_solved_exercise_is_told():
    solved = "from attn_course.exercises import check\ncheck('softmax', {})"
    right = "(lambda x, axis=-1, temperature=1.0: softmax(x, axis=axis, temperature=temperature))"
    pieces, _ = shown("from attn_course.reference import softmax\n" + solved.format(right))
    assert pieces[-1] == ("passed", "softmax")
    pieces, _ = shown(solved.format("lambda x, axis=-1, temperature=1.0: x"))
    assert [kind for kind, _ in pieces] == ["html"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A folder that holds what a browser gets of the package."""
    folder = tmp_path_factory.mktemp("package")
    made = wheel("attn_course", "1", attn_live.package_files())
    zipfile.ZipFile(io.BytesIO(made)).extractall(folder)
    return folder


@pytest.mark.parametrize("path", LIVE, ids=IDS)
def test_live_cells_run_alone_and_show_what_is_stored(path, package):
    cells = [cell for cell in read(path).cells if "live" in cell.metadata.get("tags", [])]
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, str(package), str(ROOT)],
        input=json.dumps([cell.source for cell in cells]),
        capture_output=True,
        text=True,
        check=True,
    )
    for cell, got in zip(cells, json.loads(done.stdout), strict=True):
        stored, html = "", []
        for output in cell.outputs:
            data = output.get("data", {})
            html += [data["text/html"]] if "text/html" in data else []
            stored += output.get("text", "")
            stored += "" if "text/html" in data else data.get("text/plain", "")
        kinds = {kind for kind, _ in got}
        assert "error" not in kinds, got
        assert "".join(text for kind, text in got if kind == "text").strip() == stored.strip()
        assert [text for kind, text in got if kind == "html"] == html


@pytest.mark.parametrize("path", LIVE, ids=IDS)
def test_live_cells_name_nothing_that_a_browser_lacks(path):
    """Not even in a function that no live cell calls: a reader may."""
    used, missing = set(), set()
    for cell in read(path).cells:
        if cell.cell_type != "code":
            continue
        live_cell = "live" in cell.metadata.get("tags", [])
        for node in ast.walk(ast.parse(cell.source)):
            if live_cell and isinstance(node, ast.Name):
                used.add(node.id)
            elif not live_cell and isinstance(node, ast.Import | ast.ImportFrom):
                missing.update(alias.asname or alias.name for alias in node.names)
    assert not used & missing


def test_a_wheel_is_the_same_every_time_and_names_what_it_holds():
    made = wheel("attn_course", "1.2", attn_live.package_files())
    assert made == wheel("attn_course", "1.2", attn_live.package_files())
    archive = zipfile.ZipFile(io.BytesIO(made))
    assert archive.testzip() is None
    recorded = archive.read("attn_course-1.2.dist-info/RECORD").decode().splitlines()
    assert {line.partition(",")[0] for line in recorded} == set(archive.namelist())
    assert "attn_course/reference/masks.py" in archive.namelist()
    assert not any("fast" in name or "plots" in name for name in archive.namelist())


def test_another_numpy_wheel_is_refused(tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    for file in (attn_live.LIVE / "wheels").iterdir():
        data = file.read_bytes()
        (tmp_path / "wheels" / file.name).write_bytes(data + b" " * (file.suffix == ".whl"))
    monkeypatch.setattr(attn_live, "LIVE", tmp_path)
    with pytest.raises(ExtensionError, match="pinned"):
        attn_live.numpy_wheel()


def test_the_lock_names_each_wheel_by_its_digest(tmp_path):
    files = runtime(tmp_path)
    lock = json.loads(files["pyodide-lock.json"])
    for package in lock["packages"].values():
        assert hashlib.sha256(files[package["file_name"]]).hexdigest() == package["sha256"]
    sizes = json.loads(files["sizes.json"])
    assert sizes == {name: len(files[name]) for name in sizes}
    assert set(files) - set(sizes) == {"pyodide.mjs", "pyodide-lock.json", "sizes.json"}


def test_what_an_earlier_build_packed_is_used_again_if_it_is_the_same(tmp_path):
    (tmp_path / "file.z").write_bytes(gzip.compress(b"python", 1))
    assert attn_live._packed(b"python", tmp_path / "file.z") == gzip.compress(b"python", 1)
    assert gzip.decompress(attn_live._packed(b"newer", tmp_path / "file.z")) == b"newer"
    assert gzip.decompress(attn_live._packed(b"python", tmp_path / "none.z")) == b"python"


def test_the_recipe_makes_this_wheel_for_this_pyodide():
    recipe = attn_live.LIVE / "recipe"
    name, _ = attn_live.numpy_wheel()
    _, version, tag = name.removesuffix(".whl").split("-", 2)
    assert f"\nnumpy=={version} --hash" in (recipe / "requirements.txt").read_text()
    build = (recipe / "build.sh").read_text()
    assert f"\ntag={tag} " in build
    library = (attn_live.RUNTIME / "python_stdlib.zip").read_bytes()
    assert f"\n{hashlib.sha256(library).hexdigest()}  $pyodide/python_stdlib.zip\n" in build


def test_the_numpy_wheel_names_what_it_holds_and_has_its_licenses():
    name, data = attn_live.numpy_wheel()
    archive = zipfile.ZipFile(io.BytesIO(data))
    info = "-".join(name.split("-")[:2]) + ".dist-info"
    recorded = archive.read(f"{info}/RECORD").decode().splitlines()
    assert [line.partition(",")[0] for line in recorded] == archive.namelist()
    metadata = archive.read(f"{info}/METADATA").decode()
    licenses = re.findall(r"(?m)^License-File: (.+)$", metadata)
    assert licenses
    assert {f"{info}/licenses/{path}" for path in licenses} <= set(archive.namelist())
