"""The settings for a public copy: with addresses, pages can be launched and previewed."""

import re
import shutil
import subprocess
import sys

from book_text import ROOT

ADDRESS = "https://github.com/example/course"
SITE = "https://example.org/course/"


def test_addresses_switch_on_launch_buttons_and_previews(tmp_path):
    shutil.copytree(ROOT / "book", tmp_path / "book")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/appendix/references\n"
        "chapters:\n  - file: book/concepts/query_key_value\n"
    )
    build = "from jupyter_book.cli.main import main; main(['build', '.', '--quiet'])"
    settings = (ROOT / "_config.yml").read_text()
    assert settings.count('  url: ""') == settings.count('  baseurl: ""') == 1
    for address, site, expected in (("", "", False), (ADDRESS, SITE, True)):
        named = settings.replace('  baseurl: ""', f'  baseurl: "{site}"')
        (tmp_path / "_config.yml").write_text(named.replace('  url: ""', f'  url: "{address}"'))
        subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
        page = tmp_path / "_build/html/book/concepts/query_key_value.html"
        html = page.read_text()
        path = "book/concepts/query_key_value.ipynb"
        for launch in (
            f"https://colab.research.google.com/github/example/course/blob/main/{path}",
            f"https://mybinder.org/v2/gh/example/course/main?urlpath=lab/tree/{path}",
        ):
            assert (launch in html) is expected
        assert re.search('<meta name="description" content="[^"]{60,200}">', html)
        assert '<meta property="og:title" content="Query, key, value"' in html
        picture = re.search(f'<meta property="og:image" content="{SITE}([^"]+)"', html)
        assert (picture is not None) is expected
        if picture:
            assert (tmp_path / "_build/html" / picture[1]).stat().st_size > 1000


WITHOUT = """
import inspect, sys
sys.path[:0] = sys.argv[1:]
from attn_book import _StandInForTorch
sys.meta_path.insert(0, _StandInForTorch())
from attn_course import fast
from attn_course.fast import kernels, ring
from attn_course.fast.kernels import steps
for documented in (fast.alibi_slopes, kernels.flash_attention, steps.step, ring.Ring):
    print(inspect.signature(documented))
"""


def test_signatures_are_read_without_torch_and_triton():
    """As where only the book is built."""
    paths = ROOT / "book" / "_extension", ROOT / "book"
    told = [
        subprocess.check_output([sys.executable, "-c", code, *paths], text=True)
        for code in (WITHOUT, WITHOUT.replace("sys.meta_path", "[]"))
    ]
    without, with_them = (shown.splitlines() for shown in told)
    assert without[0].startswith("(heads: int, *, device: torch.device | str | None = None")
    assert without[:3] == with_them[:3]
    assert without[3] == "(group: torch.distributed.ProcessGroup | None = None)"
