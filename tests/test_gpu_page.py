"""The page "On the GPU" shows what was measured on cards, and says so where nothing was."""

import json

import pytest
from book_text import ROOT, read

from attn_course import notebook

pytest.importorskip("triton", reason="Triton is for Linux")
from bench_gpu import cases

from attn_course.fast.kernels import steps, tuning

CELLS = [cell.source for cell in read(ROOT / "book/code/gpu.ipynb").cells]


@pytest.fixture
def show(monkeypatch, tmp_path):
    """Return what gives a folder of these results to the page's cell, and its rows."""
    (source,) = (source for source in CELLS if "def measured(card)" in source)
    (tmp_path / "cpu.json").write_text('{"cases": []}')
    monkeypatch.setattr(notebook, "RESULTS", tmp_path)

    def run(**files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        names = {name: getattr(notebook, name) for name in ("RESULTS", "results", "table")}
        exec(source, names)
        return names["rows"]

    return run


def card(tflops, device="Some card", **found):
    planned = cases(["attention", "steps"])
    return {
        "machine": {"device": device},
        "roofline": {"tflops": tflops, "gigabytes_per_s": 2000.0},
        "cases": [case | (found or {"ms": 1.0, "tflops": 100.0}) for case in planned],
    }


def test_without_a_card_the_page_says_so(show, capsys):
    assert show() == []
    assert capsys.readouterr().out == "none: no card has been measured\n"


def test_every_form_is_shown_once_with_its_share(show):
    rows = show(some_card=card(400.0), other_card=card(200.0, "Other card"))
    forms = [row["form"] for row in rows if row["card"] == "Some card"]
    assert len(set(forms)) == len(forms) == len(rows) / 2
    assert {*steps.STEPS, "kernel", "sdpa flash"} <= set(forms)
    assert {(row["card"], row["of its rate"]) for row in rows} == {
        ("Some card", "25%"),
        ("Other card", "50%"),
    }


def test_what_was_left_out_is_not_shown(show):
    assert show(some_card=card(400.0, left_out="needs at least 103 GB")) == []


def test_the_page_counts_as_the_package_does():
    """What the page says of blocks, stages and shares, held to the kernels' own numbers."""
    text = "\n".join(CELLS)
    assert "32 queries, 16 keys" in text
    assert tuning.SMALL == {"ROWS": 32, "COLUMNS": 16}
    assert 128 in tuning.HELD
    assert 128 in tuning.WALKED
    assert 2 in tuning.STAGES
    assert all(f"| `{name}` |" in text for name in steps.STEPS)
