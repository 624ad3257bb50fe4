"""The browser that prints the book and that the tests drive: a Chromium or Chrome that is there."""

import os
import shutil

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str:
    """Return the path of the browser: of CHROMIUM in the environment, or of the first there is.

    Raises:
        FileNotFoundError: there is none.
    """
    found = [path for path in map(shutil.which, BROWSERS) if path]
    chosen = os.environ.get("CHROMIUM") or (found[0] if found else None)
    if chosen is None:
        raise FileNotFoundError(
            f"no browser found: install one of {', '.join(BROWSERS)}, or name yours in CHROMIUM"
        )
    return chosen
