"""Run notebooks in place and store their outputs, normalized: what `make notebooks` calls.

    python book/execute.py                     # every notebook of _toc.yml
    python book/execute.py book/faq/*.ipynb    # these

A notebook is written only when it ran to its end, so stopping loses nothing but the one that was
running.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120  # a cell's limit; a notebook's is 60, which tests/test_book_notebooks.py holds


def pages() -> list[Path]:
    """Return the pages of the book as _toc.yml orders them."""

    def files(entry):
        if "file" in entry:
            yield entry["file"]
        for key in ("parts", "chapters", "sections"):
            for child in entry.get(key, []):
                yield from files(child)

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    found = []
    for name in (toc["root"], *files(toc)):
        notebook = ROOT / f"{name}.ipynb"
        found.append(notebook if notebook.exists() else ROOT / f"{name}.md")
    return found


def notebooks() -> list[Path]:
    """Return the notebooks of the book as _toc.yml orders them."""
    return [path for path in pages() if path.suffix == ".ipynb"]


def normalized(notebook) -> nbformat.NotebookNode:
    """Return `notebook` without what changes from run to run and from machine to machine."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        # JupyterLab folds by these what the book folds by the tags.
        folded = {
            "source_hidden": not {"hide-input", "hide-cell"}.isdisjoint(tags),
            "outputs_hidden": not {"hide-output", "hide-cell"}.isdisjoint(tags),
        }
        if any(folded.values()):
            cell.metadata["jupyter"] = {name: True for name, hidden in folded.items() if hidden}
        if cell.cell_type != "code":
            cell.pop("attachments", None)
            continue
        count += 1
        cell.execution_count = count
        joined = []
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if "metadata" in output:
                output.metadata = {}
            last = joined[-1] if joined else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last.text += output.text
            else:
                joined.append(output)
        cell.outputs = joined
    return notebook


def text(notebook) -> str:
    """Return a notebook as the text of its file."""
    return nbformat.writes(notebook) + "\n"


def execute(path: Path) -> None:
    """Run the notebook at `path` and write it back with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute()
    path.write_text(text(normalized(notebook)))


def main() -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or notebooks()
    for number, path in enumerate(chosen, 1):
        start = time.perf_counter()
        print(f"[{number}/{len(chosen)}] {path.relative_to(ROOT)} ", end="", flush=True)
        try:
            execute(path)
        except CellExecutionError as error:
            print(f"failed, left as it was\n{error}")
            return 1
        print(f"{time.perf_counter() - start:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
