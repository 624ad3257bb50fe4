"""Time and weigh ring attention on processes of this machine: what `make bench-ring` runs.

Each number of processes is started by torchrun, each process on one thread. Of every rank: the CPU
time of its forward and backward passes, the least of several; the bytes that it sent; and by how
much its peak of memory grew. Then how long a message takes to the next of two ranks, by its size.
The results go to benchmarks/results/ring.json, by which the page *Longer than one machine* fits its
model and checks it.

    python benchmarks/bench_ring.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import RETURNING, THREADS, machine, raised

from attn_course.fast import ring

RESULTS = Path(__file__).parent / "results" / "ring.json"
RANKS, TOKENS, ROUNDS = (1, 2, 3, 4), (1536, 3072, 6144), 6  # rounds of the longest
HEADS, WIDTH = 4, 64
MESSAGES = [2**n for n in range(16, 25)]  # bytes


def passes(circle, tokens):
    """Return what one rank needs for its share of `tokens`, forward and backward."""
    own = len(ring.positions_of(tokens, circle.rank, circle.ranks, "zigzag"))
    torch.manual_seed(circle.rank)
    q, k, v, grad = (torch.randn(HEADS, own, WIDTH) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    times, sent = {"forward": [], "backward": []}, {}
    for _ in range(ROUNDS * TOKENS[-1] // tokens):  # short ones are disturbed more
        before, start = circle.sent, time.process_time()
        output = ring.ring_attention(*inputs, ring=circle)
        middle, half = circle.sent, time.process_time()
        torch.autograd.grad(output, inputs, grad)
        times["forward"].append(half - start)
        times["backward"].append(time.process_time() - half)
        sent = {"forward": middle - before, "backward": circle.sent - middle}
    return {
        "own": own,
        "sent": sent,
        "cpu_ms": {name: round(1e3 * min(each), 2) for name, each in times.items()},
    }


def weighed(circle, tokens):
    """Return by how many megabytes the peak of one rank grows, forward and backward."""
    own = len(ring.positions_of(tokens, circle.rank, circle.ranks, "zigzag"))
    inputs = [torch.zeros(1, own, 16384, requires_grad=True) for _ in range(3)]
    _, grown = raised(lambda: ring.ring_attention(*inputs, ring=circle).sum().backward())
    return round(grown / 1e6, 1)


def messages(circle):
    """Return how many milliseconds a message of each size is on its way, the least of many."""
    found = {}
    for size in MESSAGES:
        x, times = torch.zeros(1, size // 4), []
        for _ in range(20):
            circle.tell([0], x.device)  # all begin together
            start = time.perf_counter()
            _, exchange = circle.shift(x, 1)
            exchange.wait()
            times.append(time.perf_counter() - start)
        found[size] = round(1e3 * min(times), 4)
    return found


def on_this_rank(task, folder):
    """Measure as one of the ranks that torchrun started."""
    torch.set_num_threads(1)
    with ring.process_group() as circle:
        passes(circle, TOKENS[0])  # loads what is loaded at the first call
        if task == "passes":
            found = {tokens: passes(circle, tokens) for tokens in TOKENS}
        elif task == "memory":
            found = weighed(circle, 512)
        else:
            found = messages(circle)
        (Path(folder) / f"{circle.rank}.json").write_text(json.dumps(found))


def on_ranks(ranks, task, **environment):
    """Return what each rank of `task` found."""
    environment |= os.environ | THREADS
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(ranks), __file__, task, folder]
        subprocess.run(command, check=True, env=environment)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]


def main():
    cases, memory = [], []
    for ranks in RANKS:
        print(f"{ranks} of {RANKS[-1]} ranks", flush=True)
        found = on_ranks(ranks, "passes")
        cases += [
            {"ranks": ranks, "rank": rank, "tokens": int(tokens), **case}
            for rank, each in enumerate(found)
            for tokens, case in each.items()
        ]
        memory.append({"ranks": ranks, "grown_mb": on_ranks(ranks, "memory", **RETURNING)})
    print("messages", flush=True)
    sizes = {int(size): ms for size, ms in on_ranks(2, "messages")[0].items()}
    found = {
        "machine": machine(),
        "heads": HEADS,
        "width": WIDTH,
        "cases": cases,
        "memory": memory,
        "messages": [{"bytes": size, "ms": ms} for size, ms in sizes.items()],
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=("passes", "memory", "messages"))
    parser.add_argument("folder", nargs="?", help="where a rank that torchrun started writes")
    options = parser.parse_args()
    if options.folder:
        on_this_rank(options.task, options.folder)
    else:
        main()
