"""Time and weigh scaled dot-product attention on a CPU: what `make bench` runs.

Each case runs in a process of its own, on one thread: the growth of its peak memory beyond its
inputs, then the least CPU time of several runs. Machines differ, and busy machines differ from
themselves, so the figures to read are the ratios within one run. The result goes to
benchmarks/results/cpu.json.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "cpu.json"
WIDTH = 64
FORMS = (
    "numpy textbook",
    "attn_course.reference",
    "torch textbook",
    "attn_course.fast",
    "torch sdpa",
)
THREADS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def numpy_textbook(q, k, v):
    """Attention as a textbook prints it, without a guard for anything."""
    import numpy as np

    scores = q @ k.T / np.float32(np.sqrt(q.shape[-1]))
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True) @ v


def torch_textbook(q, k, v):
    """The same in torch."""
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def function_and_inputs(form, tokens):
    import numpy as np

    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((tokens, WIDTH), dtype=np.float32) for _ in range(3)]
    if form == "numpy textbook":
        return numpy_textbook, arrays
    if form == "attn_course.reference":
        from attn_course import reference

        return reference.attention, arrays
    import torch

    torch.set_num_threads(1)
    tensors = [torch.from_numpy(array) for array in arrays]
    if form == "torch textbook":
        return torch_textbook, tensors
    if form == "attn_course.fast":
        from attn_course import fast

        return fast.attention, tensors
    tensors = [tensor[None, None] for tensor in tensors]
    return torch.nn.functional.scaled_dot_product_attention, tensors


def measure(form, tokens):
    """Return CPU seconds and megabytes of one form at one length, measured in this process."""
    function, inputs = function_and_inputs(form, tokens)
    function(*(array[..., :8, :] for array in inputs))  # loads what is loaded at the first call
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function(*inputs)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds, end = [], time.process_time() + 2.0
    while len(seconds) < 3 or (time.process_time() < end and len(seconds) < 50):
        start = time.process_time()
        function(*inputs)
        seconds.append(time.process_time() - start)
    return {"cpu_ms": round(1e3 * min(seconds), 3), "peak_growth_mb": round(grown / 1024, 1)}


def machine():
    """Return what the figures depend on, and nothing that names one machine."""
    versions = {
        name: importlib.metadata.version(name).partition("+")[0] for name in ("numpy", "torch")
    }
    model = "unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if "model name" in line), model)
    return {"processor": model, "threads": 1, "python": platform.python_version(), **versions}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--one", nargs=2, metavar=("FORM", "TOKENS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    cases = []
    for tokens in options.tokens:
        for form in FORMS:
            command = [sys.executable, __file__, "--one", form, str(tokens)]
            done = subprocess.run(
                command, env=os.environ | THREADS, check=True, stdout=subprocess.PIPE, text=True
            )
            case = {"tokens": tokens, "form": form, **json.loads(done.stdout)}
            cases.append(case)
            print(f"{tokens:6} {form:22} {case['cpu_ms']:9.2f} ms {case['peak_growth_mb']:8.1f} MB")
    RESULTS.parent.mkdir(exist_ok=True)
    record = {"width": WIDTH, "dtype": "float32", "machine": machine(), "cases": cases}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
