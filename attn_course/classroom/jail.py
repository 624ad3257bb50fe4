"""Where a student's program runs: without network, files, other processes or much memory.

Two kinds of walls, of which the first that holds on this machine is used. In both, the process
that runs the program has a filter of system calls and hard limits on memory, time and files
(`runner`, `filters`).

"bubblewrap": namespaces of its own and a root folder with nothing but Python and NumPy in it,
read-only, as a user without rights.
"landlock": where no namespaces are to be had. The files are the machine's, of which the kernel
lets the program read Python and NumPy alone.
"""

import ctypes  # loaded here so that the libraries that it needs are among those of the jail
import glob
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np

import attn_course
from attn_course.classroom import filters, runner, wire

KINDS = ("bubblewrap", "landlock")
START = (
    "import json, sys; kind, path, readable = map(json.loads, sys.argv[1:]); sys.path += path; "
    "from attn_course.classroom import runner; runner.main(kind, readable)"
)
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Large arrays are mapped and given back one by one, so that the address space is what is used.
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TOP_PAD_": "0",
    "LANG": "C.UTF-8",
}
MARGIN = 20  # seconds that a jail may take beyond those of the exercise


class NoJail(Exception):
    """Raised where neither kind of jail holds: then nothing is run."""


class Broken(Exception):
    """Raised where a jail ended that should not have."""


class Jail:
    """A jail for one submission, to be used in a ``with`` block."""

    def __init__(self, kind: str, cells: list[dict], checking: str):
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed in close
        with theirs:
            self._process = subprocess.Popen(
                [*command(kind), *_python(kind)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        self._stream = ours.makefile("rb")
        self._start = wire.message({"checking": checking}, json.dumps(cells).encode())

    def __enter__(self):
        try:
            self._ask(self._start, MARGIN)
        except Broken:
            self.close()
            raise
        return self

    def __exit__(self, *error):
        self.close()

    def ask(self, request: dict, body: bytes) -> tuple[str, bytes]:
        """Let the runner answer `request`; return how its process ended and what it wrote.

        Raises:
            Broken: the jail ended, or does not answer.
        """
        header, body = self._ask(wire.message(request, body), request["seconds"] + MARGIN)
        return header["ended"], body

    def _ask(self, message: bytes, seconds: float) -> tuple[dict, bytes]:
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(message)
            return wire.receive(self._stream)
        except (OSError, EOFError, wire.Malformed) as error:
            self._said.seek(0)
            said = self._said.read(4000).decode(errors="replace").strip().splitlines()
            raise Broken(said[-1] if said else f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """End every process of the jail."""
        self._stream.close()
        self._socket.close()
        try:  # without a grader the runner ends by itself, and nothing is left
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._said.close()


def working() -> str:
    """Return the first of `KINDS` that holds on this machine.

    Raises:
        NoJail: none does; the message says why.
    """
    if platform.machine() not in filters.MACHINES or sys.platform != "linux":
        raise NoJail(f"jails are made on Linux, on {' and '.join(filters.MACHINES)}, only")
    reasons = []
    for kind in KINDS:
        problem = _problem(kind)
        if not problem:
            return kind
        reasons.append(f"{kind}: {problem}")
    raise NoJail("; ".join(reasons))


PROBE = """
import os, socket
def escaped():
    out = []
    for name, attempt in {
        "reads a file": lambda: open(%r).read(),
        "writes a file": lambda: open("/tmp/escaped", "w").write("x"),
        "starts a process": os.fork,
        "sends a signal": lambda: os.kill(os.getppid(), 0),
        "opens a socket": socket.socket,
    }.items():
        try:
            attempt()
        except OSError:
            continue
        out.append(name)
    return "".join(out) or "none"
probe = escaped()
"""


def _problem(kind: str) -> str:
    """Return why a kind of jail does not hold, or nothing: a harmless program tries the walls."""
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "the program bwrap is not installed (Debian's package bubblewrap)"
    probe = PROBE % str(Path(__file__).with_name("jail.py"))
    cells = [{"source": probe, "checks": "", "answers": ""}]
    request = {"name": "probe", "kind": "order", "seconds": 10, "memory": 2**28, "leave": []}
    request |= {"helpers": "", "cases": [], "arrays": []}
    try:
        with Jail(kind, cells, "") as jail:
            ended, written = jail.ask(request, b"")
    except (Broken, OSError) as error:
        return str(error)
    try:
        found = wire.receive(io.BytesIO(written))[0].get("text")
    except (EOFError, wire.Malformed):
        return f"its process ended with {ended}"
    return "" if found == "none" else f"a program in it {found}"


def command(kind: str) -> list[str]:
    """Return the words of the command that makes the walls, before those of Python's."""
    if kind == "landlock":
        return []
    words = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    # The runner is the first process of its space, so that nothing is left to be reaped.
    words += ["--as-pid-1"]
    if os.geteuid() == 0:
        # Root makes the walls without a namespace of users, in which it would still be root to
        # the kernel. The runner then gives its user up, which takes these two.
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        words += ["--unshare-user"]
    for link in ("/lib", "/lib64"):
        if os.path.islink(link):
            words += ["--symlink", os.readlink(link), link]
    paths = [*_libraries(), *_readable()]
    # Folders that bubblewrap makes by itself are root's alone.
    for folder in sorted({str(each) for path in paths for each in Path(path).parents} - {"/"}):
        words += ["--perms", "0755", "--dir", folder]
    for path in paths:
        words += ["--ro-bind", path, path]
    for path in _hidden():
        words += ["--tmpfs", path]
    return [*words, "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/", "--"]


def _python(kind: str) -> list[str]:
    readable = [os.devnull, "/dev/urandom"] if kind == "landlock" else []
    if kind == "landlock":
        hidden = _hidden()
        for path in (*_libraries(), *_readable()):
            readable += _without(path, hidden)
    arguments = (kind, [str(_site()), str(_root())], readable)
    # Without a virtual environment, which would bring all its packages.
    python = os.path.realpath(sys.executable)
    return [python, "-I", "-S", "-B", "-c", START, *map(json.dumps, arguments)]


def _without(path: str, hidden: list[str]) -> list[str]:
    """Return what makes up `path` besides `hidden`: Landlock takes nothing away from a folder."""
    if path in hidden:
        return []
    if not any(each.startswith(f"{path}/") for each in hidden):
        return [path]
    inside = glob.glob(f"{glob.escape(path)}/*")
    return [part for each in inside for part in _without(each, hidden)]


def _root() -> Path:
    return Path(attn_course.__file__).parent.parent


def _site() -> Path:
    return Path(np.__file__).parent.parent


def _stdlib() -> str:
    return os.path.realpath(sysconfig.get_path("stdlib"))


def _readable() -> list[str]:
    """Return what a program in the jail may read besides libraries: no other file of this package.

    It holds no answer: neither the reference nor the exercises.
    """
    ours = Path(runner.__file__).parent
    packages = [_site() / "numpy", _site() / "numpy.libs"]
    modules = [_root() / "attn_course" / "__init__.py"]
    modules += [ours / f"{name}.py" for name in ("__init__", "runner", "wire", "filters")]
    paths = [_stdlib(), os.path.realpath(sys.executable), *packages, *modules]
    return [str(path) for path in paths if os.path.exists(path)]


def _libraries() -> list[str]:
    """Return the folders of the shared libraries that Python, NumPy and ctypes have loaded."""
    ctypes.CDLL(None)
    with open("/proc/self/maps") as maps:
        loaded = {line.split()[-1] for line in maps if ".so" in line}
    folders = {os.path.dirname(path) for path in loaded} | {os.path.realpath("/lib64")}
    own = (_stdlib(), str(_site()))
    return sorted(path for path in folders if os.path.isdir(path) and not path.startswith(own))


def _hidden() -> list[str]:
    """Return the folders within those of the jail where packages lie, this one perhaps."""
    folders = [_stdlib(), *_libraries()]
    patterns = ("site-packages", "dist-packages", "python*/*-packages")
    found = {path for folder in folders for p in patterns for path in glob.glob(f"{folder}/{p}")}
    return sorted(found)
