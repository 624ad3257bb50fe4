"""The script and the styles of the figures that answer, on the pages that have one."""

from docutils import nodes


def _add_files(app, pagename, templatename, context, doctree):
    raw = doctree.findall(nodes.raw) if doctree is not None else ()
    if any("data-widget=" in node.astext() for node in raw):
        app.add_js_file("widgets.js", loading_method="defer")


def setup(app):
    """Register the extension."""
    # All pages share one style sheet, so all name the same parts of it: see attn_pages.
    app.add_css_file("widgets.css")
    app.connect("html-page-context", _add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
