"""Weigh and time a call on a CPU, in a process of its own and on one thread."""

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

THREADS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


# glibc gives the memory of long arrays alone back at once, and takes it again page by page. A
# process with this environment keeps it, so that long arrays are timed as short ones are.
KEEPING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**32)}
# Of freed arrays below 32 MB it keeps some, how many differs from run to run. A process with this
# environment gives all back, and weighs what its arrays weigh.
RETURNING = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}


def peak() -> int:
    """Return the most memory that this process has held, in bytes.

    Linux hands the peak that getrusage knows down to child processes; its status file does not.
    """
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def raised(function) -> tuple:
    """Return what `function()` returns, and by how many bytes it raises the peak."""
    if CLEAR.exists():
        CLEAR.write_text("5")  # forget the peak of the imports: Linux counts anew from here
    before = peak()
    result = function()
    return result, peak() - before


def weighed(function) -> float:
    """Return by how many megabytes `function()` raises the peak, beyond the array it returns."""
    result, grown = raised(function)
    return max(0.0, (grown - result.nbytes) / 1e6)


def timed(function, seconds: float = 2.0, most: int = 100) -> float:
    """Return the least CPU time of one `function()`, in milliseconds, of as many as fit."""
    times, end = [], time.process_time() + seconds
    while not times or (time.process_time() < end and len(times) < most):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def in_turns(*functions, rounds: int = 3) -> list[float]:
    """Return what each function is `timed` at, the least of rounds in which they take turns.

    A busy machine slows some moments, seldom all of them.
    """
    found = [[timed(function, 0.15) for function in functions] for _ in range(rounds)]
    return [min(times) for times in zip(*found, strict=True)]


def in_own_process(*arguments, **environment):
    """Return what Python prints as JSON, run with `arguments` on one thread.

    There `measure` can be imported. What goes wrong in it is shown, and raises here.
    """
    environment |= os.environ | THREADS | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


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
