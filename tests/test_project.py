"""The project's own files agree with each other."""

import re
import subprocess
import sys
import tomllib

import planted_bugs
import pytest
import yaml
from book_text import ROOT

import attn_course
from attn_course import fast, reference

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if not line.startswith("#")
)


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned():
    pinned = {canonical(name) for name in PINS}
    for extra, requirements in {
        "": PYPROJECT["dependencies"],
        **PYPROJECT["optional-dependencies"],
    }.items():
        for requirement in requirements:
            name = canonical(re.match(r"[\w.-]+", requirement)[0])
            assert name in pinned | {"attn-course"}, f"{requirement} of [{extra}] is not pinned"


def test_pins_install_from_any_registry():
    for name, version in PINS.items():
        assert "+" not in version, f"{name} carries a local label: {version}"


def test_conda_installs_what_make_test_installs():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-c constraints.txt", "-e .[test]"]
    assert '-e ".[test]"' in (ROOT / "Makefile").read_text()


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == attn_course.__version__


def test_every_bug_can_still_be_planted():
    for topic, what, name, text, planted in planted_bugs.BUGS:
        source = (ROOT / "attn_course" / name).read_text()
        assert source.count(text) == 1, f"{topic}: {what}"
        assert text != planted
    assert {bug[0] for bug in planted_bugs.BUGS} >= set(topics()) - {"pooling", "scores", "softmax"}


def topics():
    """Return the topics of the package, each of which is a row of the table."""
    folder = ROOT / "attn_course" / "reference"
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def applications():
    """Return the applications of the package, each of which is a row of the table."""
    folder = ROOT / "attn_course" / "applications"
    shared = {"__init__", "__main__", "studies", "training"}
    return sorted({path.stem for path in folder.glob("*.py")} - shared)


def test_readme_names_what_exists():
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for path in re.findall(
        r"`([\w./-]+\.(?:py|md|txt|toml|cff|ipynb|yml|json)|LICENSE[-A-Z]*)`", readme
    ):
        assert (ROOT / path).exists() or (ROOT / "book" / path).exists(), path
    for topic in topics():
        for room in (
            f"attn_course/reference/{topic}.py",
            f"attn_course/fast/{topic}.py",
            f"tests/test_{topic}.py",
        ):
            assert f"`{room}`" in readme
    for application in applications():
        for room in (f"attn_course/applications/{application}.py", f"tests/test_{application}.py"):
            assert f"`{room}`" in readme


def test_the_api_page_names_every_function_and_class():
    page = (ROOT / "book" / "appendix" / "api.md").read_text()
    members = ",".join(re.findall(r":members: (.*)", page)).replace(",", " ").split()
    classes = re.findall(r"autoclass:: attn_course\.\w+\.(\w+)", page)
    assert set(reference.__all__) | set(fast.__all__) <= {*members, *classes}


def tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


# NumPy for the reader's browser, which no registry has; attn_live.py holds it to its digest.
LARGE = {ROOT / "book/live/wheels" / (ROOT / "book/live/wheels/SHA256SUMS").read_text().split()[1]}


def test_nothing_large_or_built_is_committed():
    for path in tracked():
        if path.exists() and path not in LARGE:
            assert path.stat().st_size < 1_000_000, f"{path} is over 1 MB"
            assert not {"_build", "__pycache__", ".ipynb_checkpoints"} & set(path.parts)


@pytest.mark.parametrize("module", ["torch", "matplotlib", "IPython"])
def test_reference_needs_numpy_alone(module):
    code = (
        f"import sys; sys.modules[{module!r}] = None; import attn_course.reference as reference;"
        "import numpy as np; print(reference.softmax(np.zeros(2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[0.5 0.5]\n", done.stderr
