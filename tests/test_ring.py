"""Attention across real processes: what each rank of tests/ring_ranks.py found."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from measure import RETURNING

from attn_course.fast import ring

SCRIPT = Path(__file__).parent / "ring_ranks.py"
RANKS = [2, 3, 4]
PATH = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def ran(ranks, task, folder, **environment):
    """Return what each rank of `task` found, started by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--master-port", "0", "--standalone", str(SCRIPT), task, str(folder)]
    environment = PATH | environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


def on_their_own(ranks, task, folder):
    """Return how each rank of `task` ended and what it found, with nobody to end the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, task, folder],
            env=PATH | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(ranks)
    ]
    try:
        codes = [process.wait(timeout=90) for process in processes[:-1]]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return codes, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks - 1)]


@pytest.mark.parametrize("ranks", RANKS)
def test_every_form_and_layout_gives_attention_and_its_gradients(tmp_path, ranks):
    for found in ran(ranks, "compare", tmp_path):
        assert len(found) == 2 * 3 * 3 * 2 + 2
        assert max(found.values()) <= 1e-5, found


def test_half_precision(tmp_path):
    for found in ran(2, "half", tmp_path):
        assert max(found.values()) <= 0.05, found


@pytest.mark.parametrize("ranks", RANKS)
def test_what_is_sent(tmp_path, ranks):
    for found in ran(ranks, "sent", tmp_path):
        once = (ranks - 1) * found["own bytes"]
        # Backward, keys and values go around again; their gradients go on to their own rank.
        assert found["ring"] == [once, once + ranks * found["own bytes"]]
        assert found["gathered"] == [once, once]


def test_memory_of_a_rank_falls_with_their_number(tmp_path):
    grown = {}
    for ranks in (1, 2, 4):
        found = ran(ranks, "memory", tmp_path, **RETURNING)
        grown[ranks] = max(each["grown"] for each in found)
    # Two ranks need room for what is on its way, which one alone does not.
    assert grown[2] < 0.8 * grown[1], grown
    assert grown[4] < 0.6 * grown[2], grown


def test_ranks_that_do_not_fit_together_are_all_told(tmp_path):
    layout = "the ranks hold [2, 1] tokens; a zigzag layout of 3 gives them [1, 2]"
    differ = {
        "width": "shape of q is (1, tokens, 5) on rank 1 and (1, tokens, 4) on rank 0",
        "dtype": "dtype is torch.float32 on rank 1 and torch.float64 on rank 0",
        "causal": "causal is True on rank 1 and False on rank 0",
        "scale": "scale is 1.5 on rank 1 and 0.5 on rank 0",
        "layout": "layout is striped on rank 1 and contiguous on rank 0",
        "call": "call is unshard on rank 1 and ring on rank 0",
        "rows": "shape of x is (1, tokens, 5) on rank 1 and (1, tokens, 4) on rank 0",
        "row dtype": "dtype is torch.int32 on rank 1 and torch.float64 on rank 0",
    }
    expected = {name: f"{said}, expected the same on all ranks" for name, said in differ.items()}
    for found in ran(2, "refused", tmp_path):
        assert found == expected | {"tokens": layout, "row tokens": layout}


@pytest.mark.parametrize("task", ["lost", "late"])
def test_who_waits_for_a_rank_in_vain_says_so(tmp_path, task):
    codes, found = on_their_own(3, task, tmp_path)
    assert codes == [0, 0]
    for rank, each in enumerate(found):
        assert f"rank {rank} of 3 waits in vain for one of the ranks" in each["told"]


def test_torchrun_ends_when_a_rank_dies(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3"]
    command += ["--standalone", str(SCRIPT), "lost", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=PATH)
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL) received by PID" in done.stderr


def test_a_script_without_torchrun_says_how_to_start_it(tmp_path):
    environment = {name: value for name, value in PATH.items() if name != "RANK"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "compare", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "start the ranks by torchrun: torchrun --nproc-per-node 4 SCRIPT" in done.stderr


@pytest.mark.parametrize("layout", ring.LAYOUTS)
@pytest.mark.parametrize("length", [0, 1, 7, 16, 41])
@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_every_token_has_one_rank(layout, length, ranks):
    parts = [ring.positions_of(length, rank, ranks, layout) for rank in range(ranks)]
    assert all(torch.equal(part, part.sort().values) for part in parts)
    assert torch.cat(parts).sort().values.tolist() == list(range(length))


def test_layouts_share_the_work_of_a_causal_mask():
    def pairs(layout):
        """Return how many pairs of a query and a key the busiest of 8 ranks scores."""
        return max((ring.positions_of(4096, rank, 8, layout) + 1).sum().item() for rank in range(8))

    mean = 4096 * 4097 / 2 / 8
    assert pairs("contiguous") > 1.8 * mean
    assert pairs("striped") < 1.01 * mean
    assert pairs("zigzag") == mean


X = torch.zeros(2, 4, 3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ring.positions_of(8, 2, 2, "zigzag"), ValueError, "rank is 2, expected less than"),
        (lambda: ring.positions_of(8, 0, 0, "zigzag"), ValueError, "ranks is 0"),
        (lambda: ring.positions_of(-1, 0, 1, "zigzag"), ValueError, "length is -1"),
        (lambda: ring.positions_of(8, 0, 1, "random"), ValueError, "layout is 'random', expected"),
        (lambda: ring.Ring(), RuntimeError, r"no process group: use process_group\(\)"),
        (lambda: ring.ring_attention(X, X, X), RuntimeError, "no process group"),
        (lambda: ring.ring_attention(X, X, X[:, 1:]), ValueError, "3 values for 4 keys"),
        (lambda: ring.ring_attention(X[:, 1:], X, X), ValueError, "q has 3 queries and k has 4 k"),
        (lambda: ring.ring_attention(X, X, X, causal=1), TypeError, "causal is 1"),
        (lambda: ring.ring_attention(X, X, X, layout="ring"), ValueError, "layout is 'ring'"),
        (lambda: ring.gathered_attention(X.tolist(), X, X), TypeError, "q is a list"),
        (lambda: ring.shard(X), RuntimeError, "no process group"),
        (lambda: ring.shard([[1.0]]), TypeError, "x is a list"),
        (lambda: ring.shard(X[0, 0]), ValueError, r"x has shape \(3,\)"),
        (lambda: ring.unshard(X[0, 0]), ValueError, r"x has shape \(3,\)"),
        (lambda: ring.shard(X, ring=3), TypeError, "ring is 3, expected a Ring or None"),
        (lambda: ring.ring_attention(X, X, X, ring="x"), TypeError, "ring is 'x'"),
        (lambda: ring.process_group("60").__enter__(), TypeError, "seconds is"),
        (lambda: ring.process_group(0).__enter__(), ValueError, "seconds is 0.0"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
