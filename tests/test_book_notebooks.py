"""The notebooks of the book: listed, run, clean, and stored in one normal form."""

import ast
import re
import sys

import pytest
import yaml
from book_text import ROOT, outputs, read
from execute import normalized, notebooks, pages, text

NOTEBOOKS = notebooks()
IDS = [str(path.relative_to(ROOT)) for path in NOTEBOOKS]


def test_toc_names_every_page_once():
    listed = [path.relative_to(ROOT) for path in pages()]
    assert len(set(listed)) == len(listed)
    present = {
        path.relative_to(ROOT)
        for suffix in ("ipynb", "md")
        for path in (ROOT / "book").rglob(f"*.{suffix}")
        if {".ipynb_checkpoints", "node_modules"}.isdisjoint(path.parts)
    }
    assert set(listed) == present


def test_toc_has_the_six_parts():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    captions = [part["caption"] for part in toc["parts"]]
    assert captions[:6] == ["Background", "Concepts", "Algorithm", "Code", "Outlook", "FAQ"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_notebook_has_run_without_error(path):
    notebook = read(path)
    assert list(outputs(notebook)), "no output is stored: run `make notebooks`"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.source.strip(), "an empty cell"
            assert cell.execution_count is not None, "a cell was not run: run `make notebooks`"
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_notebook_is_stored_in_normal_form(path):
    assert path.read_text() == text(normalized(read(path))), (
        "JupyterLab saved this notebook in its own form: `make notebooks` runs it and stores it in "
        "the book's, `git restore book` takes your changes back"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_cells_are_short(path):
    for cell in read(path).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 16, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_outputs_hold_nothing_of_one_machine(path):
    for output in outputs(read(path)):
        shown = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"0x[0-9a-f]{6,}|site-packages|/home/|/tmp/", shown), shown


def python(path):
    """Yield the syntax of every code cell of the notebook at `path`."""
    for cell in read(path).cells:
        if cell.cell_type == "code":
            yield from ast.walk(ast.parse(cell.source))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_imports_are_few(path):
    """A chapter holds no drawing and no library that the environment does not promise."""
    allowed = {"attn_course", "numpy", "torch", *sys.stdlib_module_names}
    if path.stem == "conventions":  # its subject is what other libraries do
        allowed |= {"attn_gym", "jax", "keras", "local_attention", "onnx"}
        allowed |= {"rotary_embedding_torch", "x_transformers"}
    for node in python(path):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= allowed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_assertions_can_fail(path):
    for node in python(path):
        if isinstance(node, ast.Assert):
            used = [part for part in ast.walk(node.test) if isinstance(part, ast.Name)]
            assert used, f"asserts nothing: {ast.unparse(node)}"
