"""Each way to cheat or to break the grader that is known, tried in every kind of jail.

Every attacker has solved the first exercise of a topic and attacks in the cell of the second. The
code is written so that it passes the second where it gets through.
"""

import ctypes
import dataclasses
import json
import os
import pickle
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from make_class import hand_in, right

from attn_course.classroom import commands, grading, jail, pages
from attn_course.exercises import EXERCISES

TOPIC, SOLVED, ATTACKED = "pooling", "pooled_value", "attention_pooling"
SECONDS = 2
SUBREAPER = 36  # prctl's: processes whose parent is gone become ours
MARK = "attn-course-escaped"
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/", str(Path.home()), str(Path.cwd()), "FOLDER")


@dataclasses.dataclass(frozen=True)
class Attack:
    """What an attacker tries and gets, and the cell or the file that does it.

    In `code`, FOLDER, PORT, MARK, PLACES and ROOT stand for what the test puts there.
    """

    name: str
    tries: str
    gets: str
    code: str = ""
    make: Callable[[Path, Path], None] | None = None


NOTHING = "0 for the exercise; what was solved counts"
TIMED = "0 for the exercise, after its time; what was solved counts"
UNREAD = "0, with the reason on the page"
CHEAT = "def attention_pooling(*args, **kwargs):\n    return np.zeros(1)\n"

CODE = [
    Attack(
        "replaced comparisons",
        "replaces np.allclose, np.isclose and np.testing",
        NOTHING,
        "import numpy as np\n"
        "np.allclose = np.isclose = np.array_equal = lambda *a, **k: True\n"
        "np.testing.assert_allclose = lambda *a, **k: None\n" + CHEAT,
    ),
    Attack(
        "replaced library",
        "replaces np.array, np.asarray, tracemalloc, sys.stdout and builtins",
        NOTHING,
        "import builtins, sys, tracemalloc\nimport numpy as np\n"
        "np.array = np.asarray = lambda *a, **k: np.zeros(())\n"
        "tracemalloc.get_traced_memory = lambda: (0, 0)\n"
        "sys.stdout = None\nbuiltins.len = lambda x: 0\nbuiltins.isinstance = lambda *a: True\n"
        + CHEAT,
    ),
    Attack(
        "replaced checker",
        "replaces `check` and the judge's modules",
        NOTHING,
        "import sys, types\nimport numpy as np\n"
        "for name in ('attn_course.exercises', 'attn_course.exercises.checking', 'checking'):\n"
        "    sys.modules[name] = types.SimpleNamespace(\n"
        "        check=lambda *a: True, judge=lambda *a: 'passed', _equal=lambda *a: True)\n"
        + CHEAT,
    ),
    Attack(
        "replaced runner",
        "replaces the function of the runner that writes the results",
        NOTHING,
        "import numpy as np\nfrom attn_course.classroom import runner\n"
        "write = runner._write\n"
        "runner._write = lambda data: write(data.replace(b'failed', b'passed'))\n" + CHEAT,
    ),
    Attack(
        "forged results",
        "writes results and verdicts of its own on every descriptor",
        NOTHING,
        "import json, os\nimport numpy as np\n"
        "for header in ({'answer': 'function'}, {'status': 'passed'}, {'case': 0}, {'case': -1},\n"
        "               {'case': 0, 'arrays': [{'dtype': 'object', 'shape': [1]}]},\n"
        "               {'ended': 'code 0'}):\n"
        "    text = json.dumps({**header, 'size': 0}).encode()\n"
        "    for number in range(64):\n"
        "        try:\n"
        "            os.write(number, len(text).to_bytes(4, 'big') + text)\n"
        "        except OSError:\n"
        "            pass\n" + CHEAT,
    ),
    Attack(
        "flooded results",
        "writes 100 MB where results go",
        NOTHING,
        "import os\nfor _ in range(100):\n    os.write(3, bytes(10**6))\n",
    ),
    Attack("os._exit", "ends its process as if all were well", NOTHING, "import os\nos._exit(0)\n"),
    Attack(
        "sys.exit",
        "leaves the cell, and the function",
        NOTHING,
        "import sys\ndef attention_pooling(*a, **k):\n    sys.exit(0)\nsys.exit(0)\n",
    ),
    Attack(
        "endless loop",
        "never returns",
        TIMED,
        "def attention_pooling(*a, **k):\n    while True:\n        pass\n",
    ),
    Attack(
        "endless cell",
        "never comes to the end of a cell, and catches whatever should end it",
        TIMED,
        "while True:\n    try:\n        while True:\n            pass\n"
        "    except BaseException:\n        pass\n",
    ),
    Attack(
        "ignored signals",
        "ignores every signal, then sleeps",
        TIMED,
        "import signal, time\n"
        "for number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\n"
        "while True:\n    time.sleep(1000)\n",
    ),
    Attack(
        "fork bomb",
        "starts processes without end",
        NOTHING,
        "import os\ndef attention_pooling(*a, **k):\n    while True:\n        os.fork()\n",
    ),
    Attack(
        "threads",
        "starts threads without end",
        NOTHING,
        "import threading, time\ndef attention_pooling(*a, **k):\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(1000,)).start()\n",
    ),
    Attack(
        "another program",
        "runs a shell",
        NOTHING,
        "import os\ndef attention_pooling(*a, **k):\n"
        "    os.execv('/bin/sh', ['sh', '-c', 'sleep 1000'])\n",
    ),
    Attack(
        "3 GiB of memory",
        "takes 3 GiB",
        NOTHING,
        "def attention_pooling(*a, **k):\n    bytearray(3 * 2**30)\n"
        "    raise RuntimeError('ESC' + 'APED')\n",
    ),
    Attack(
        "raised limits",
        "lifts its own limits of memory and time, then takes 3 GiB",
        NOTHING,
        "import resource\ndef attention_pooling(*a, **k):\n"
        "    for limit in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):\n"
        "        try:\n            resource.setrlimit(limit, (-1, -1))\n"
        "            raise RuntimeError('ESC' + 'APED')\n"
        "        except (OSError, ValueError):\n            pass\n",
    ),
    Attack(
        "crashed interpreter",
        "overflows the stack of the interpreter",
        NOTHING,
        "import sys\nsys.setrecursionlimit(10**9)\ndef attention_pooling(*a, **k):\n"
        "    return sorted([0], key=attention_pooling)\n",
    ),
    Attack(
        "full disk",
        "writes until the disk is full",
        NOTHING,
        "import os\ndef attention_pooling(*a, **k):\n    for place in PLACES:\n"
        "        try:\n"
        "            with open(os.path.join(place, 'MARK'), 'wb') as file:\n"
        "                for _ in range(64):\n                    file.write(bytes(2**20))\n"
        "        except OSError:\n            pass\n    return 0.0\n",
    ),
    Attack(
        "files elsewhere",
        "makes, renames, links and deletes files outside",
        NOTHING,
        "import os, shutil\ndef attention_pooling(*a, **k):\n    for place in PLACES:\n"
        "        path = os.path.join(place, 'MARK')\n"
        "        for attempt in (lambda: os.mkdir(path), lambda: os.symlink('/', path),\n"
        "                        lambda: open(path, 'w'), lambda: os.mkfifo(path),\n"
        "                        lambda: os.rename('FOLDER/submitted', path),\n"
        "                        lambda: shutil.rmtree('FOLDER'),\n"
        "                        lambda: os.chmod('FOLDER/submitted', 0)):\n"
        "            try:\n                attempt()\n            except OSError:\n"
        "                pass\n    return 0.0\n",
    ),
    Attack(
        "a file in memory",
        "keeps what is too large in a file without a name",
        NOTHING,
        "import os\ndef attention_pooling(*a, **k):\n"
        "    os.write(os.memfd_create('large'), bytes(2**20))\n"
        "    raise RuntimeError('ESC' + 'APED')\n",
    ),
    Attack(
        "network",
        "sends its inputs to a server on this machine and elsewhere",
        NOTHING,
        "import socket\ndef attention_pooling(*a, **k):\n"
        "    for place in (('127.0.0.1', PORT), ('192.0.2.1', 80)):\n"
        "        try:\n            socket.create_connection(place, timeout=1).send(b'inputs')\n"
        "        except OSError:\n            pass\n    return 0.0\n",
    ),
    Attack(
        "another's answer",
        "runs the cells of another submission",
        NOTHING,
        "import json\n"
        "with open('FOLDER/submitted/other/pooling/pooling.ipynb') as file:\n"
        "    for cell in json.load(file)['cells']:\n"
        "        if 'def attention_pooling' in cell['source'] or 'pooling_' in cell['source']:\n"
        "            exec(cell['source'])\n",
    ),
    Attack(
        "the reference",
        "imports the reference, also from its file",
        NOTHING,
        "import sys\nsys.path.insert(0, 'ROOT')\n"
        "for name in [name for name in sys.modules if name.startswith('attn_course')]:\n"
        "    del sys.modules[name]\n"
        "from attn_course.reference.pooling import attention_pooling\n",
    ),
    Attack(
        "the solutions",
        "reads the right answers from the file of the exercises",
        NOTHING,
        "text = open('ROOT/attn_course/exercises/pooling.py').read()\n"
        "from attn_course.exercises.pooling import EXERCISES\n"
        "attention_pooling = EXERCISES[1].right[0]\n",
    ),
    Attack(
        "other processes' secrets",
        "reads environments, memory and open files in /proc",
        NOTHING,
        "import glob\ndef attention_pooling(*a, **k):\n"
        "    found = glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/mem')\n"
        "    seen = ''.join(open(path, errors='replace').read(10) for path in found)\n"
        "    raise RuntimeError('ESC' + 'APED' if found else 'nothing')\n",
    ),
    Attack(
        "killed parents",
        "kills its parent and everything else, also by way of files that send signals",
        NOTHING,
        "import fcntl, os, resource, signal\ndef attention_pooling(*a, **k):\n"
        "    def by_file():\n"
        "        fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())\n"
        "        fcntl.fcntl(3, 10, signal.SIGKILL)\n"
        "        fcntl.fcntl(3, fcntl.F_SETFL, os.O_ASYNC)\n"
        "    for attempt in (lambda: os.kill(os.getppid(), 0), lambda: os.kill(-1, 0),\n"
        "                    lambda: os.killpg(0, 0), by_file,\n"
        "                    lambda: signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 0),\n"
        "                    lambda: resource.prlimit(os.getppid(), 0, (0, 0))):\n"
        "        try:\n            attempt()\n            raise RuntimeError('ESC' + 'APED')\n"
        "        except OSError:\n            pass\n    return 0.0\n",
    ),
    Attack(
        "another's memory",
        "writes into its parent with ptrace and process_vm_writev",
        NOTHING,
        "import ctypes, os\ndef attention_pooling(*a, **k):\n    libc = ctypes.CDLL(None)\n"
        "    did = [libc.ptrace(16, os.getppid(), 0, 0),\n"
        "           libc.process_vm_writev(os.getppid(), 0, 0, 0, 0, 0),\n"
        "           libc.unshare(0x10000000),\n"
        "           libc.mount(b'none', b'/', b'tmpfs', 0, 0), libc.chroot(b'/')]\n"
        "    raise RuntimeError('ESC' + 'APED' if any(x >= 0 for x in did) else 'nothing')\n",
    ),
    Attack(
        "pickled code",
        "returns an object that runs code where it is unpickled",
        NOTHING,
        "import os\nclass Bomb:\n    def __reduce__(self):\n"
        "        return os.system, ('touch /tmp/MARK',)\n"
        "def attention_pooling(*a, **k):\n    return Bomb()\n",
    ),
    Attack(
        "hostile __array__",
        "returns objects whose conversion to an array lies",
        NOTHING,
        "import numpy as np\nclass Any(float):\n    __eq__ = __lt__ = lambda self, other: True\n"
        "    def __hash__(self):\n        return 0\n"
        "class Bomb:\n    def __array__(self, *a, **k):\n"
        "        return np.array([Any()], dtype=object)\n"
        "def attention_pooling(*a, **k):\n    return Bomb()\n",
    ),
    Attack(
        "an array of its own kind",
        "returns arrays that are equal to everything",
        NOTHING,
        "import numpy as np\nclass Equal(np.ndarray):\n"
        "    def __eq__(self, other):\n        return np.ones(self.shape, bool)\n"
        "    def __array_ufunc__(self, *a, **k):\n        return True\n"
        "def attention_pooling(x, *a, **k):\n    return np.zeros(x.shape).view(Equal)\n",
    ),
    Attack(
        "another dtype",
        "returns text, complex numbers, dates and NaN",
        NOTHING,
        "import itertools\nimport numpy as np\n"
        "turns = itertools.cycle([np.array(['x']), np.array([1j]), np.datetime64('2020-01-01'),\n"
        "                         np.array([np.nan], np.longdouble), np.float16('nan')])\n"
        "def attention_pooling(*a, **k):\n    return next(turns)\n",
    ),
    Attack(
        "another size",
        "returns a result of 8 GB, and one of 30 MB",
        NOTHING,
        "import itertools\nimport numpy as np\n"
        "turns = itertools.cycle([np.broadcast_to(0.0, (10**9,)), np.zeros(4 * 10**6)])\n"
        "def attention_pooling(*a, **k):\n    return next(turns)\n",
    ),
    Attack(
        "huge output",
        "prints without end",
        NOTHING,
        "def attention_pooling(*a, **k):\n    while True:\n        print('x' * 10**6)\n",
    ),
    Attack(
        "markup",
        "puts a script into error messages and names",
        NOTHING,
        "class Bad(Exception):\n    pass\nBad.__name__ = '<script>alert(1)</script>'\n"
        "def attention_pooling(*a, **k):\n    raise Bad('<img src=x onerror=alert(1)>')\n",
    ),
]


def _text(content: bytes) -> Callable[[Path, Path], None]:
    return lambda path, other: path.write_bytes(content)


def _link(path: Path, other: Path) -> None:
    path.symlink_to(other)


def _folder_link(path: Path, other: Path) -> None:
    path.parent.rmdir()
    path.parent.symlink_to(other.parent)


def _large(path: Path, other: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * 2**20)


def _zip_bomb(path: Path, other: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("pooling.ipynb", bytes(50 * 2**20))


class _Bomb:
    def __reduce__(self):
        return os.mkdir, (f"/tmp/{MARK}",)


FILES = [
    Attack("a link", "hands in a link to another's notebook", UNREAD, make=_link),
    Attack("a linked folder", "hands in a link to another's folder", UNREAD, make=_folder_link),
    Attack(
        "a named pipe",
        "hands in a pipe that never ends",
        UNREAD,
        make=lambda path, other: os.mkfifo(path),
    ),
    Attack("a folder", "hands in a folder", UNREAD, make=lambda path, other: path.mkdir()),
    Attack("100 MB", "hands in 100 MB", UNREAD, make=_large),
    Attack("a zip bomb", "hands in an archive that unpacks to 50 MB", UNREAD, make=_zip_bomb),
    Attack(
        "a pickle", "hands in a pickle that runs code", UNREAD, make=_text(pickle.dumps(_Bomb()))
    ),
    Attack("deep JSON", "nests a million lists", UNREAD, make=_text(b"[" * 10**6 + b"]" * 10**6)),
    Attack(
        "huge numbers",
        "writes a number of a million digits",
        UNREAD,
        make=_text(b'{"cells": ' + b"9" * 10**6 + b"}"),
    ),
    Attack(
        "no cells",
        "hands in JSON of another form",
        UNREAD,
        make=_text(json.dumps({"cells": [1, None, "x"]}).encode()),
    ),
    Attack(
        "endless cells",
        "hands in 100,000 cells",
        UNREAD,
        make=_text(json.dumps({"cells": [{"cell_type": "code", "source": ""}] * 100_000}).encode()),
    ),
]
NAMES = [
    Attack("\n<script>alert(1)</script>\x1b[2J", "has a name of markup and control marks", NOTHING),
    Attack("=cmd|'/c calc'!A1", "has a name that a spreadsheet computes", NOTHING),
    Attack("\u202egnp.exe\udcff", "has a name that reads backwards and is no text", NOTHING),
]
ATTACKS = [*CODE, *FILES, *NAMES]

kinds = pytest.mark.parametrize("kind", jail.KINDS)


def attacks(listed: list[Attack]):
    return pytest.mark.parametrize("attack", listed, ids=[repr(attack.name) for attack in listed])


@pytest.fixture
def folder(tmp_path):
    """A class with another student, who has solved everything, and afterwards still has."""
    asked = [exercise for exercise in EXERCISES.values() if exercise.topic == TOPIC]
    hand_in(tmp_path, "other", TOPIC, {exercise.name: right(exercise) for exercise in asked})
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left(folder):
    """No process and no file may be left, and nothing changed."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = set(children.read_text().split())
    work = (folder / "submitted" / "other" / TOPIC / f"{TOPIC}.ipynb").read_bytes()
    yield
    for child in set(children.read_text().split()) - before:
        ended(int(child))
    assert (folder / "submitted" / "other" / TOPIC / f"{TOPIC}.ipynb").read_bytes() == work
    for place in PLACES:
        assert not os.path.lexists(os.path.join(place.replace("FOLDER", str(folder)), MARK))


def ended(child: int) -> None:
    """Wait for a process that is ending: a jail is empty a moment after its first process ends."""
    for _ in range(500):
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return
        time.sleep(0.01)
    raise AssertionError(f"left: {Path(f'/proc/{child}/cmdline').read_text()}")


def graded(folder, kind, name="attacker"):
    return grading.grade(folder, name, TOPIC, 5, kind, SECONDS)


def statuses(result):
    return {row.exercise: row.status for row in result.rows}


def attacking(folder, name, code) -> None:
    hand_in(folder, name, TOPIC, {SOLVED: right(EXERCISES[SOLVED]), ATTACKED: code})


@pytest.fixture
def server():
    """A server on this machine that nobody may reach."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening
        with pytest.raises(BlockingIOError):
            listening.accept()


@kinds
@attacks(CODE)
def test_code_that_attacks(folder, kind, attack, server):
    root = str(Path(jail.__file__).parents[2])
    known = {"FOLDER": str(folder), "ROOT": root, "PORT": str(server.getsockname()[1])}
    code = attack.code.replace("PLACES", repr(PLACES)).replace("MARK", MARK)
    for name, value in known.items():
        code = code.replace(name, value)
    attacking(folder, "attacker", code)
    result = graded(folder, kind)
    assert result.problem == ""
    assert [name for name, status in statuses(result).items() if status == "passed"] == [SOLVED]
    page = pages.feedback(result)
    assert "ESCAPED" not in page
    assert "<script" not in page
    assert "<img" not in page
    assert set(statuses(graded(folder, kind, "other")).values()) == {"passed"}


@attacks(FILES)
def test_files_that_attack(folder, attack):
    path = folder / "submitted" / "attacker" / TOPIC / f"{TOPIC}.ipynb"
    path.parent.mkdir(parents=True)
    attack.make(path, folder / "submitted" / "other" / TOPIC / f"{TOPIC}.ipynb")
    result = graded(folder, "bubblewrap")
    assert set(statuses(result).values()) == {"unreadable"}
    assert result.problem
    assert result.problem in pages.feedback(result)


@attacks(NAMES)
def test_names_that_attack(folder, attack):
    name = attack.name.replace("/", "\u2215")
    attacking(folder, name, "")
    result = graded(folder, "bubblewrap", name)
    assert statuses(result)[SOLVED] == "passed"
    course = pages.Class()
    course.add(name, result.seed, [dataclasses.asdict(row) for row in result.rows])
    for page in (pages.feedback(result), course.report(), course.table()):
        page.encode()
        assert "<script" not in page.replace(course.table(), "")
        assert "\x1b" not in page
        assert "\u202e" not in page
    commands.write_feedback(folder, result)
    assert os.listdir(folder / "feedback") == [name]
    row = course.table().splitlines()[1]
    assert len(course.table().splitlines()) == 2
    assert not row.strip('"').startswith(("=", "+", "-", "@"))


@kinds
def test_the_attacks_get_through_where_they_may(folder, kind):
    """The same way of passing as attackers go, with what is allowed: it passes."""
    attacking(folder, "honest", right(EXERCISES[ATTACKED]))
    assert statuses(graded(folder, kind, "honest"))[ATTACKED] == "passed"


def test_a_jail_without_walls_is_noticed(monkeypatch):
    monkeypatch.setattr(jail, "KINDS", ("none",))
    monkeypatch.setattr(jail, "command", lambda kind: [])
    with pytest.raises(jail.NoJail, match="a program in it reads a file"):
        jail.working()
