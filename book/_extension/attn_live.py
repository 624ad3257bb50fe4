"""Python in the page: the cells tagged `live` get their buttons, and the book what runs them.

Beside the pages lies all that a browser needs, so that no other host is asked: Pyodide, which
`npm ci --prefix book/live` installs, the NumPy wheel of `book/live/wheels`, whose digest is
verified, and a wheel of the package, made here. A book that is built without Pyodide has no
buttons, and says so while it is built.
"""

import base64
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import zipfile
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util import logging

LIVE = Path(__file__).parents[1] / "live"
RUNTIME = LIVE / "node_modules" / "pyodide"
FOLDER = "live"  # below _static
PACKED = ("pyodide.asm.wasm", "pyodide.asm.js")  # the two that gzip makes smaller
# Of the package what needs NumPy alone.
PACKAGE = ("__init__.py", "arguments.py", "live.py", "notebook.py", "reference", "exercises")
LEFT_OUT = ("student.py",)  # writes notebooks, which takes nbformat

logger = logging.getLogger(__name__)


def wheel(name: str, version: str, files: dict[str, bytes]) -> bytes:
    """Return a wheel of pure Python, the same bytes for the same files."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_url_digest(data)},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
    return whole.getvalue()


def _url_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def package_files() -> dict[str, bytes]:
    """Return what a browser gets of the package, by the paths in the wheel."""
    package = Path(importlib.util.find_spec("attn_course").origin).parent
    files = {"jaxtyping.py": (LIVE / "jaxtyping.py").read_bytes()}
    for name in PACKAGE:
        path = package / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.name not in LEFT_OUT:
                files[file.relative_to(package.parent).as_posix()] = file.read_bytes()
    return files


def numpy_wheel() -> tuple[str, bytes]:
    """Return the name and the bytes of NumPy's wheel.

    Raises:
        ExtensionError: it is not the one whose digest stands beside it.
    """
    digest, name = (LIVE / "wheels" / "SHA256SUMS").read_text().split()
    data = (LIVE / "wheels" / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ExtensionError(f"book/live/wheels/{name} is not the wheel whose digest is pinned")
    return name, data


def _packed(data: bytes, before: Path) -> bytes:
    """Return `data` compressed: what an earlier build wrote, if it fits, for it takes a second."""
    if before.exists() and gzip.decompress(packed := before.read_bytes()) == data:
        return packed
    return gzip.compress(data, 9, mtime=0)


def runtime(folder: Path) -> dict[str, bytes]:
    """Return the files that run Python in the page, by their names in `folder`.

    Raises:
        ExtensionError: NumPy's wheel is not the one that is pinned.
    """
    version = importlib.metadata.version("attn-course")
    course = wheel("attn_course", version, package_files())
    wheels = {
        "numpy": numpy_wheel(),
        "attn-course": (f"attn_course-{version}-py3-none-any.whl", course),
    }
    lock = json.loads((RUNTIME / "pyodide-lock.json").read_text())
    lock["packages"] = {}
    for name, (file, data) in wheels.items():
        lock["packages"][name] = {
            "name": name,
            "version": file.split("-")[1],
            "file_name": file,
            "sha256": hashlib.sha256(data).hexdigest(),
            "install_dir": "site",
            "package_type": "package",
            "imports": [],
            "depends": [],
            "unvendored_tests": False,
        }
    lock["packages"]["attn-course"]["depends"] = ["numpy"]
    served = {name: (RUNTIME / name).read_bytes() for name in (*PACKED, "python_stdlib.zip")}
    served |= dict(wheels.values())
    for name in PACKED:
        served[f"{name}.z"] = _packed(served.pop(name), folder / f"{name}.z")
    sizes = {name: len(data) for name, data in served.items()}
    return {
        **served,
        "pyodide.mjs": (RUNTIME / "pyodide.mjs").read_bytes(),
        "pyodide-lock.json": json.dumps(lock).encode(),
        "sizes.json": json.dumps(sizes).encode(),
    }


def _bar(number: int) -> str:
    name = f"cell {number}"
    return (
        f'<div class="live-bar" data-cell="{name}">'
        f'<button type="button" class="live-run" aria-label="Run {name}">Run</button>'
        f'<button type="button" class="live-stop" aria-label="Stop {name}" hidden>Stop</button>'
        f'<button type="button" class="live-reset" aria-label="Reset {name}" hidden>Reset</button>'
        '<span class="live-says" role="status"></span>'
        '<span class="live-progress" aria-hidden="true"></span></div>'
    )


def _live_cells(doctree) -> list[nodes.Element]:
    return [cell for cell in doctree.findall(nodes.container) if "tag_live" in cell["classes"]]


def _add_bars(app, doctree, docname):
    if not app.env.live_bytes or app.builder.name != "html":
        return
    for number, cell in enumerate(_live_cells(doctree), 1):
        code = next(x for x in cell.findall(nodes.container) if "cell_input" in x["classes"])
        code += nodes.raw("", _bar(number), format="html")


def _add_script(app, pagename, templatename, context, doctree):
    if app.env.live_bytes and doctree is not None and _live_cells(doctree):
        megabytes = f"{app.env.live_bytes / 1e6:.1f}"
        # After course.js, whose `attnSolved` it asks.
        app.add_js_file("live.js", 900, loading_method="defer", **{"data-megabytes": megabytes})


def _prepare(app):
    app.env.live_bytes = 0
    if app.builder.name != "html":
        return
    if not RUNTIME.exists():
        logger.info("Cells stay as they are: for Run buttons first `npm ci --prefix book/live`.")
        return
    folder = Path(app.outdir) / "_static" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    files = runtime(folder)
    for old in folder.iterdir():
        if old.name not in files:
            old.unlink()
    for name, data in files.items():
        file = folder / name
        if not file.exists() or file.read_bytes() != data:
            file.write_bytes(data)
    app.env.live_bytes = sum(len(data) for data in files.values())


def setup(app):
    """Register the extension."""
    # Pages that were built without Pyodide are built anew once it is there.
    app.add_config_value("book_has_runtime", RUNTIME.exists(), "html")
    app.connect("builder-inited", _prepare)
    app.connect("doctree-resolved", _add_bars)
    app.connect("html-page-context", _add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
