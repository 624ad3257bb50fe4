"""The book's one setting for a public copy: with an address, pages can be launched."""

import shutil
import subprocess
import sys

from book_text import ROOT

ADDRESS = "https://github.com/example/course"


def test_an_address_switches_on_the_launch_buttons(tmp_path):
    shutil.copytree(ROOT / "book", tmp_path / "book")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/appendix/references\n"
        "chapters:\n  - file: book/concepts/query_key_value\n"
    )
    build = "from jupyter_book.cli.main import main; main(['build', '.', '--quiet'])"
    settings = (ROOT / "_config.yml").read_text()
    assert settings.count('  url: ""') == 1
    for address, expected in (("", False), (ADDRESS, True)):
        (tmp_path / "_config.yml").write_text(settings.replace('url: ""', f'url: "{address}"'))
        subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
        page = tmp_path / "_build/html/book/concepts/query_key_value.html"
        html = page.read_text()
        path = "book/concepts/query_key_value.ipynb"
        for launch in (
            f"https://colab.research.google.com/github/example/course/blob/main/{path}",
            f"https://mybinder.org/v2/gh/example/course/main?urlpath=lab/tree/{path}",
        ):
            assert (launch in html) is expected
