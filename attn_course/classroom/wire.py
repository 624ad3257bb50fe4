"""Messages between the grader and the jail: a length of 4 bytes, a JSON header, raw bytes.

Whoever reads trusts nothing: sizes are bounded before they are read, and numbers are bytes of a
few dtypes. Pickle and .npz are not used, since a student could have written them.
"""

import json
import math

import numpy as np

HEADER = 64 * 2**10  # bytes, of what comes out of the jail
BODY = 8 * 2**20
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "bool",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(f"float{bits}" for bits in (16, 32, 64)),
    )
}
MOST_AXES = 8
MOST_ARRAYS = 256


class Malformed(ValueError):
    """Raised where bytes are no message, or a header does not describe its body."""


def message(header: dict, body: bytes = b"") -> bytes:
    """Return the bytes of a message."""
    text = json.dumps({**header, "size": len(body)}).encode()
    return len(text).to_bytes(4, "big") + text + body


def receive(stream, *, header: int = HEADER, body: int = BODY) -> tuple[dict, bytes]:
    """Read a message of at most so many bytes from `stream`.

    Raises:
        EOFError: there is none.
        Malformed: what follows is no message, or too long.
    """
    start = stream.read(4)
    if not start:
        raise EOFError
    length = int.from_bytes(start, "big")
    if len(start) < 4 or length > header:
        raise Malformed(f"a header of {length} bytes")
    text = stream.read(length)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("a header that is no JSON") from error
    size = fields.get("size") if isinstance(fields, dict) else None
    if type(size) is not int or not 0 <= size <= body:
        raise Malformed("a header without the size of its body")
    data = stream.read(size)
    if len(data) < size:
        raise Malformed("a body that ends early")
    return fields, data


def described(array: np.ndarray) -> dict:
    """Return what a header says of an array. Its dtype is one of `DTYPES`."""
    return {"dtype": array.dtype.name, "shape": list(array.shape)}


def raw(array: np.ndarray) -> bytes:
    """Return the numbers of an array, row by row."""
    return np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name]).tobytes()


def arrays(described: object, body: bytes) -> tuple[np.ndarray, ...]:
    """Return the arrays that `described` says `body` consists of, as copies.

    Raises:
        Malformed: it does not consist of them.
    """
    if not isinstance(described, list) or len(described) > MOST_ARRAYS:
        raise Malformed("arrays that are not listed")
    made, start = [], 0
    for each in described:
        name, shape = (each.get("dtype"), each.get("shape")) if isinstance(each, dict) else (0, 0)
        if not isinstance(name, str) or name not in DTYPES:
            raise Malformed("an array of another dtype")
        if not isinstance(shape, list) or len(shape) > MOST_AXES:
            raise Malformed("an array without a shape")
        if not all(type(size) is int and 0 <= size <= BODY for size in shape):
            raise Malformed("an array of an impossible shape")
        # NumPy makes no array of some shapes, even where an axis of length 0 leaves it no entry.
        if math.prod(max(size, 1) for size in shape) > BODY:
            raise Malformed("an array of an impossible shape")
        size = math.prod(shape) * DTYPES[name].itemsize
        if start + size > len(body):
            raise Malformed("an array that is larger than its bytes")
        flat = np.frombuffer(body[start : start + size], dtype=DTYPES[name])
        native = np.dtype(name)
        # A byte that is neither 0 nor 1 is no bool, whatever NumPy makes of it.
        flat = flat.view(np.uint8) != 0 if name == "bool" else flat
        made.append(flat.astype(native).reshape(shape))
        start += size
    if start != len(body):
        raise Malformed("bytes that belong to no array")
    return tuple(made)
