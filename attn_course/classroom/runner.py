"""What runs in the jail: for each exercise a process of its own, which runs the student's cells.

It needs the standard library and NumPy alone. The process that serves here runs nothing of the
student's; what the others write is passed on unread.
"""

import builtins
import ctypes
import dataclasses
import fcntl
import io
import json
import linecache
import mmap
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time
import types

import numpy as np

from attn_course.classroom import filters, wire

TRUSTED = 64 * 2**20  # bytes, of what the grader sends
NOBODY = 65534
RESULTS = 3  # the descriptor that answers go to; prints go nowhere
NO_NEW_PRIVS, PDEATHSIG, SECCOMP, FILTER = 38, 1, 22, 2  # prctl's
CELL = 0.2  # of the time of an exercise is what a cell may take
libc = ctypes.CDLL(None, use_errno=True)


def main(kind: str, readable: list[str]) -> None:
    """Serve one submission, over the socket that is standard input."""
    connection = socket.socket(fileno=os.dup(0))
    null = fcntl.fcntl(os.open(os.devnull, os.O_RDWR), fcntl.F_DUPFD, 10)
    # OpenBLAS takes its memory at the first product: before memory is weighed.
    for dtype in (np.float32, np.float64):
        np.ones((64, 64), dtype) @ np.ones((64, 64), dtype)
    if kind == "landlock":
        _wall_off(readable)
    _drop_rights(kind)
    stream = connection.makefile("rb")
    start, body = wire.receive(stream, header=TRUSTED, body=TRUSTED)
    cells = json.loads(body)
    connection.sendall(wire.message({"ready": True}))
    while True:
        try:
            request, body = wire.receive(stream, header=TRUSTED, body=TRUSTED)
        except EOFError:
            return
        ended, written = _watched(null, {**start, **request}, body, cells)
        connection.sendall(wire.message({"ended": ended}, written))


def _watched(null: int, request: dict, body: bytes, cells: list) -> tuple[str, bytes]:
    """Run a process for one exercise; return how it ended and what it wrote."""
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writing, RESULTS)
            _confine(null, parent, request, body)
            _answer(request, body, cells)
            os._exit(0)
        finally:  # also where a wall could not be built: then nothing of the student's has run
            os._exit(1)
    os.close(writing)
    written, deadline, ended = io.BytesIO(), time.monotonic() + request["seconds"], ""
    while not ended:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            ended = "time"
        elif not (part := os.read(reading, 2**16)):
            break
        elif written.tell() + len(part) > wire.BODY:
            ended = "size"
        else:
            written.write(part)
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return ended or f"code {code}", written.getvalue()


# Walls


def _wall_off(readable: list[str]) -> None:
    """Leave of all files only `readable` to be read, and nothing to be written (Landlock)."""
    create, add, restrict = 444, 445, 446
    read_file, read_folder, write_file = 1 << 2, 1 << 3, 1 << 1
    version = libc.syscall(create, None, 0, 1)
    # From version 2 on moving, from 3 on truncating is an access of its own.
    every = struct.pack("Q", (1 << (12 + min(version, 3))) - 1)
    rules = _call(libc.syscall(create, every, len(every), 0))
    for path in readable:
        access = read_file
        if os.path.isdir(path):
            access |= read_folder
        elif path == os.devnull:
            access |= write_file
        place = os.open(path, os.O_PATH)
        _call(libc.syscall(add, rules, 1, struct.pack("<Qi", access, place), 0))
        os.close(place)
    # A folder that Python imports from has to be listed; what stands in it is not read by that.
    # The last one is that of this package, of which nothing more is imported.
    for path in filter(os.path.isdir, sys.path[:-1]):
        place = os.open(path, os.O_PATH)
        _call(libc.syscall(add, rules, 1, struct.pack("<Qi", read_folder, place), 0))
        os.close(place)
    _call(libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0))
    _call(libc.syscall(restrict, rules, 0))
    os.close(rules)
    os.chdir("/")


def _drop_rights(kind: str) -> None:
    """Give up root, where it is root that grades."""
    if os.geteuid() == 0 and kind == "bubblewrap":
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    elif os.geteuid() == 0:
        # Without a root folder of its own Python may lie where root alone can read. Root without
        # capabilities may no more than any user, and less behind Landlock.
        header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
        _call(libc.capset(header, none))
    _call(libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0))


def _confine(null: int, parent: int, request: dict, body: bytes) -> None:
    """Leave this process a pipe to write answers to, its memory, its time, and little else."""
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.closerange(RESULTS + 1, 4096)
    _call(libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        raise ProcessLookupError("the jail is gone")
    # The address space, since a student's program could falsify any other measure. The arguments
    # are counted already, the copies that are made of them are not.
    memory = _address_space() + request["memory"] + 4 * len(body)
    seconds = int(request["seconds"]) + 1
    for limit, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),  # nothing is written to any file, not even in memory
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),
    ):
        resource.setrlimit(limit, (most, most))
    code = filters.program(platform.machine())
    text = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(text))
    _call(libc.prctl(SECCOMP, FILTER, ctypes.c_char_p(program), 0, 0))


def _address_space() -> int:
    """Return the size of this process in bytes: what limit just lets another page through.

    In the jail there is no /proc to ask.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    low, high = 0, 2**47
    while high - low > mmap.PAGESIZE:
        middle = (low + high) // 2
        resource.setrlimit(resource.RLIMIT_AS, (middle, hard))
        try:
            mmap.mmap(-1, mmap.PAGESIZE).close()
            high = middle
        except OSError:
            low = middle
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return high


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


# The student's program


def _answer(request: dict, body: bytes, cells: list) -> None:
    """Run the cells, then the answer on each case, and write what it does."""
    checking = _module("checking", request["checking"])
    _stand_in(request["helpers"])
    cases = _cases(request["cases"], wire.arrays(request["arrays"], body))
    scope, skipped, late, failed = _run_cells(request, cells)
    answer = scope.get(request["name"])
    head = {"answer": "function", "skipped": skipped, "late": late, "failed": failed}
    if answer is None or answer is Ellipsis or (type(answer) is str and not answer.strip()):
        head["answer"] = "missing"
    elif request["kind"] == "order":
        head |= {"answer": "text", "text": answer[:200]} if type(answer) is str else {}
    elif request["kind"] == "predict":
        value, answer = answer, lambda: value
    if head["answer"] == "function" and (request["kind"] == "order" or not callable(answer)):
        head |= {"answer": "other", "text": type(answer).__name__[:200]}
    _write(wire.message(head))
    if head["answer"] != "function":
        return
    for number, case in enumerate(cases):
        outcome = checking.run(answer, case)
        fields = {
            "case": number,
            "error": outcome.error[:2000],
            "kind": outcome.kind[:100],
            "changed": outcome.changed,
            "printed": outcome.printed,
        }
        if outcome.result is None:
            _write(wire.message(fields))
            continue
        result = [_sendable(array) for array in outcome.result]
        fields["arrays"] = [wire.described(array) for array in result]
        _write(wire.message(fields, b"".join(map(wire.raw, result))))


def _run_cells(request: dict, cells: list) -> tuple[dict, list[str], list[int], str]:
    """Run the cells above the check of the exercise.

    Returns the names that they set, what failed, the numbers of the cells that took too long, and
    how the cell failed that was to answer, or "".
    A cell that raises or takes long is left where it stops, so that the other exercises count.
    """
    checked = [number for number, cell in enumerate(cells) if cell["checks"] == request["name"]]
    scope = {"__name__": "__main__", "__builtins__": builtins}
    skipped, late, failed = [], [], ""
    signal.signal(signal.SIGALRM, _out_of_time)
    for number, cell in enumerate(cells[: checked[0]] if checked else cells, 1):
        if cell["checks"] or number in request["leave"]:
            continue
        name = f"<cell {number}>"
        try:
            signal.setitimer(signal.ITIMER_REAL, CELL * request["seconds"])
            code = _compiled(cell["source"], name)
            exec(code, scope)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"[:300]
            skipped.append(f"{name[1:-1]}: {said}")
            if cell["answers"] == request["name"]:
                failed = said
            if isinstance(error, TimeoutError):
                late.append(number)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return scope, skipped[:10], late, failed


def _compiled(source: str, name: str):
    try:
        code = compile(source, name, "exec")
    except SyntaxError:  # perhaps for IPython's commands, of which Python knows nothing
        lines = source.split("\n")
        plain = ["pass" if line[:1] in ("%", "!", "?") else line for line in lines]
        code = compile("\n".join(plain), name, "exec")
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return code


def _out_of_time(number, frame):
    raise TimeoutError("the cell took too long")


def _sendable(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.name in wire.DTYPES else array.astype(np.float64)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(RESULTS, data) :]


def _module(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__file__ = f"<{name}>"
    sys.modules[name] = module
    exec(compile(source, module.__file__, "exec"), vars(module))
    return module


class _Missing:
    """A function of the course that this exercise does not offer: it can be named, not called."""

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *args, **kwargs):
        raise NameError(f"{self._name} is not offered in this exercise")


def _stand_in(helpers: str) -> None:
    """Make `attn_course.reference`, with the helpers alone, and a `check` that does nothing."""
    package = sys.modules["attn_course"]
    package.reference = _module("attn_course.reference", helpers)
    package.reference.__getattr__ = _missing
    package.exercises = _module("attn_course.exercises", "def check(*args, **kwargs): pass")


def _missing(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Missing(name)


def _cases(described: list, arrays: tuple) -> list:
    return [
        types.SimpleNamespace(
            args=tuple(_value(x, arrays) for x in case["args"]),
            kwargs={name: _value(x, arrays) for name, x in case["kwargs"].items()},
            bound=None,  # the limit of memory does that here
        )
        for case in described
    ]


def _value(described: dict, arrays: tuple):
    """Return an argument from what the grader says of it (see `grading.argument`)."""
    ((kind, value),) = described.items()
    if kind == "array":
        return arrays[value]
    if kind == "tuple":
        return tuple(_value(x, arrays) for x in value)
    if kind == "ufunc":
        return getattr(np, value)
    if kind == "object":
        scope = {"dataclasses": dataclasses, "np": np, "__name__": __name__}
        exec(value["source"], scope)
        return scope[value["class"]](*(_value(x, arrays) for x in value["fields"]))
    return value
