"""A browser, and the built book served to it on this machine."""

import functools
import http.server
import sys
import threading
from pathlib import Path

import pytest
from paper.browser import FLAGS, find_browser
from playwright.sync_api import sync_playwright

SITE = Path(__file__).resolve().parents[2] / "_build" / "html"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, *args):
        """Leave the tests' output to the tests."""


class QuietServer(http.server.ThreadingHTTPServer):
    """A server that does not mind a browser that leaves in the middle of an answer."""

    def handle_error(self, request, client_address):
        """Raise what is an error of the tests' own."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture(scope="session")
def site():
    """The address of the built book."""
    if not (SITE / "index.html").exists():
        pytest.fail(f"{SITE} holds no book: run `make book` first", pytrace=False)
    handler = functools.partial(Quiet, directory=SITE)
    with QuietServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, which must be installed."""
    chosen = find_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chosen, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, site):
    """Return a function that opens a page and returns it, failing on what no page may do.

    No page may ask another host for anything, raise a script error, or miss a file.
    """
    contexts, complaints = [], []

    def open_page(path, width=1280, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()

        def on_request(request):
            if not request.url.startswith((site, "data:", "blob:")):
                complaints.append(f"{path} asks {request.url}")

        def on_response(response):
            if response.status >= 400:
                complaints.append(f"{path}: {response.status} for {response.url}")

        def on_console(message):
            if message.type == "error":
                complaints.append(f"{path} logs {message.text}")

        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page.on("request", on_request)
        page.on("response", on_response)
        page.on("console", on_console)
        page.on("pageerror", lambda error: complaints.append(f"{path}: {error}"))
        page.goto(f"{site}/{path}", wait_until="load")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
