"""Pages that are light, and right to a screen reader: what is done to the HTML once it is built.

The theme's script of two thousand icons, 1.5 MB, is replaced by a style sheet of the dozen that
the pages use, taken from the script itself. From the style sheets goes what no page uses, and the
dozen of them becomes one, for a browser draws nothing before it has them all. Scripts
wait until the page stands, and those that a page has no use for are left out: the index of the
search, which only the page that searches needs, is the largest. Pictures are files of their own,
of which a browser asks only for those that it shows: of each, the light or the dark form.

And what the theme, docutils and folds say, to a screen reader above all, is put right where it is
wrong.
"""

import base64
import hashlib
import html
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import quote

import pydata_sphinx_theme
from sphinx.errors import ExtensionError
from sphinxcontrib import katex
from spoken import said

LIVE = Path(__file__).parents[1] / "live"
SCRIPT = re.compile(r'<script (?=[^>]*src="[^"]*_static/)(?![^>]*\bdefer\b)')
OPTIONS = re.compile(r'<script src="([^"]*documentation_options\.js)[^"]*"></script>')
# What acts on a class only, and the class.
IDLE = {
    "togglebutton": re.compile(
        r"<script[^>]*>[^<]*toggle[^<]*</script>|<script[^>]*/togglebutton\.js[^>]*></script>"
    ),
    "sd-tab-set": re.compile(r"<script[^>]*/design-tabs\.js[^>]*></script>"),
}
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
# Scripts that wait need not be fetched before the style sheet.
PRELOAD = re.compile(r'<link rel="preload" as="script"[^>]*>\n?')
PICTURE = re.compile(
    r'<img class="picture-(?:light|dark)" src="data:image/svg\+xml;base64,([^"]+)"'
)
ICON_SCRIPT = re.compile(
    r"<script[^>]*scripts/fontawesome\.js[^>]*></script>|<link[^>]*scripts/fontawesome\.js[^>]*>"
)
JOINED = "book.css"
SHEET = re.compile(
    r'<link (?=[^>]*rel="stylesheet")[^>]*href="((?:\.\./)*_static/)([^"?]*\.css)[^"]*"[^>]*>\n?'
)
IMPORT = re.compile(r"""@import\s*(?:url\()?["']?([^"');]+)["']?\)?;""")
RELATIVE = re.compile(r"""url\((["']?)(?!data:|/|https?:|#)([^"')]+)""")
SUMMARY = re.compile(r"<summary.*?</summary>", re.DOTALL)
MATH = re.compile(r"<math.*?</math>", re.DOTALL)
PUT_RIGHT = (
    # What a fold holds, in the reader's words.
    (" code cell content</p>", " code</p>"),
    (" code cell source</p>", " code</p>"),
    (" code cell output</p>", " output</p>"),
    # This label of theirs would hide from a screen reader what a fold says it holds.
    (' aria-label="Toggle hidden content"', ""),
    # So would this one, which is not all that the button says.
    (
        'search-button__button pst-js-only" aria-label="Search"',
        'search-button__button pst-js-only"',
    ),
    # The title of the book lies outside every landmark.
    (
        '<div id="pst-primary-sidebar" class=',
        '<div id="pst-primary-sidebar" role="region" aria-label="Book" class=',
    ),
    ('<dialog id="pst-search-dialog">', '<dialog id="pst-search-dialog" aria-label="Search">'),
    (
        '<dialog id="pst-primary-sidebar-modal">',
        '<dialog id="pst-primary-sidebar-modal" aria-label="Contents of the book">',
    ),
    (
        '<dialog id="pst-secondary-sidebar-modal">',
        '<dialog id="pst-secondary-sidebar-modal" aria-label="Contents of the page">',
    ),
    # What the menu of downloads does.
    (
        'title="Download source file"\n',
        'title="Download source file" aria-label="Notebook (.ipynb), in a new tab"\n',
    ),
    ('title="Print to PDF"\n', 'title="Print to PDF" aria-label="Print, or save as .pdf"\n'),
    # In the list of all pages, the one that is open.
    (
        '<a class="current reference internal" href="#">',
        '<a class="current reference internal" href="#" aria-current="page">',
    ),
    # Who skips to the text goes on from there.
    ('<main id="main-content" class=', '<main id="main-content" tabindex="-1" class='),
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


def _later(path: Path, page: str) -> str:
    """Return `page` without idle scripts; the others wait until the page stands."""
    for name, scripts in IDLE.items():
        if not re.search(rf'class="[^"]*\b{name}\b', page):
            page = scripts.sub("", page)
    if path.name == "search.html":  # whose own script needs the others at once
        return page
    page = SEARCHING.sub("", page)
    # Two lines of every page set options, so these must be there before.
    options = OPTIONS.search(page)
    if options:
        text = (path.parent / options[1]).read_text()
        page = page.replace(options[0], f"<script>{text}</script>")
    return SCRIPT.sub("<script defer ", PRELOAD.sub("", page))


def _named(match: re.Match) -> str:
    """Return the summary of a fold with its formulas in words: a name cannot hold MathML.

    The MathML stays where nobody sees it, for the editions on paper and for readers.
    """
    if "<template>" in match[0]:
        return match[0]  # of an earlier build
    return MATH.sub(
        lambda formula: f"{html.escape(said(formula[0]))}<template>{formula[0]}</template>",
        match[0],
    )


def _purge(out: Path, pages) -> None:
    """Take from the style sheets what no page and no script names."""
    words = set()
    for page in pages:
        for tag in set(re.findall(r"<[a-zA-Z][^>]*>", page)):
            words.update(re.findall(r"[\w-]+", tag))
    static = out / "_static"
    for script in static.rglob("*.js"):
        words.update(re.findall(r"[\w-]+", script.read_text()))
    sheets = [str(path) for path in static.rglob("*.css") if "katex" not in path.parts]
    subprocess.run(
        [katex.NODEJS_BINARY, LIVE / "purge.cjs", *sheets],
        input=" ".join(sorted(words)),
        text=True,
        check=True,
    )


def _sheet(static: Path, name: str) -> str:
    """Return a style sheet with what it imports, and with addresses as they are from `static`."""
    folder = Path(name).parent

    def moved(match):
        return f"url({match[1]}{os.path.normpath(folder / match[2])}"

    # What is imported has its addresses moved already.
    parts = IMPORT.split((static / name).read_text())
    texts = [RELATIVE.sub(moved, part) for part in parts[::2]]
    imports = [_sheet(static, os.path.normpath(folder / part)) for part in parts[1::2]]
    return texts[0] + "".join(a + b for a, b in zip(imports, texts[1:], strict=True))


def _join_sheets(out: Path, pages: dict[Path, str]) -> None:
    """Put all style sheets into one, in their order, and have every page ask for that alone."""
    static = out / "_static"
    # All pages have the same; those of an earlier build ask for the one already.
    sheets = max((SHEET.findall(page) for page in pages.values()), key=len)
    if len(sheets) > 1:
        text = "\n".join(_sheet(static, name) for _, name in sheets)
        (static / JOINED).write_text(text)
    version = hashlib.sha256((static / JOINED).read_bytes()).hexdigest()[:8]
    for path, page in pages.items():
        first = SHEET.search(page)
        if first:
            link = f'<link rel="stylesheet" href="{first[1]}{JOINED}?v={version}" />'
            joined = page[: first.start()] + link + SHEET.sub("", page[first.start() :])
            if joined != page:
                path.write_text(joined)


def _finish_pages(app, exception):
    if exception is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    (out / "_images").mkdir(exist_ok=True)
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme"
    script = (theme / "static" / "scripts" / "fontawesome.js").read_text()
    pages = {path: path.read_text() for path in out.rglob("*.html") if "_static" not in path.parts}
    (out / "_static" / "icons.css").write_text(_icon_css(script, _icons_used(pages.values())))
    for path, built in pages.items():
        page = _later(path, ICON_SCRIPT.sub("", built))
        page = PICTURE.sub(lambda match, path=path: _as_file(out, path, match), page)
        page = SUMMARY.sub(_named, page)
        for theirs, ours in PUT_RIGHT:
            page = page.replace(theirs, ours)
        if page != built:
            path.write_text(page)
        pages[path] = page
    (out / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    for sourcemap in (out / "_static").rglob("*.map"):
        sourcemap.unlink()
    if (LIVE / "node_modules").exists():
        _purge(out, pages.values())
    _join_sheets(out, pages)


def setup(app):
    """Register the extension."""
    app.add_css_file("icons.css")
    # After the theme, which writes the colors of code when all else is written.
    app.connect("build-finished", _finish_pages, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
