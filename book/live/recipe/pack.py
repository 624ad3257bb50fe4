"""Pack an installed NumPy into a wheel: python3 pack.py SOURCE INSTALLED WHEEL.

The same files give the same bytes. Left out is what no reader's cell can use: tests and the modules
for them, f2py, stubs, headers and libraries. NumPy's licenses are in.
"""

import base64
import hashlib
import re
import sys
import zipfile
from pathlib import Path

FOLDERS = {"tests", "f2py", "include", "pkgconfig", "_pyinstaller", "__pycache__"}
SUFFIXES = {".a", ".h", ".ini", ".pc", ".pxd", ".pyi", ".pyx", ".txt"}
FOR_TESTS = (
    "_multiarray_tests",
    "_operand_flag_tests",
    "_rational_tests",
    "_simd",
    "_struct_ufunc_tests",
    "_umath_tests",
)


def wanted(name: Path) -> bool:
    return (
        name.suffix not in SUFFIXES
        and FOLDERS.isdisjoint(name.parts)
        and not name.name.startswith(FOR_TESTS)
    )


def contents(source: Path, installed: Path, wheel: str) -> dict[str, bytes]:
    """Return the files of the wheel by name, all but the record of them."""
    name, version, tag = re.fullmatch(r"(\w+)-([^-]+)-(.+)\.whl", wheel).groups()
    info = f"{name}-{version}.dist-info"
    names = sorted(x.relative_to(installed) for x in installed.rglob("*") if x.is_file())
    files = {x.as_posix(): (installed / x).read_bytes() for x in names if wanted(x)}
    metadata = (source / "PKG-INFO").read_bytes()
    for path in re.findall(r"(?m)^License-File: (.+)$", metadata.decode()):
        files[f"{info}/licenses/{path}"] = (source / path).read_bytes()
    kind = f"Wheel-Version: 1.0\nGenerator: recipe\nRoot-Is-Purelib: false\nTag: {tag}\n"
    return {**files, f"{info}/METADATA": metadata, f"{info}/WHEEL": kind.encode()}


def record(files: dict[str, bytes], name: str) -> bytes:
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    return f"{''.join(rows)}{name},,\n".encode()


def pack(source: Path, installed: Path, wheel: Path) -> None:
    files = contents(source, installed, wheel.name)
    name = f"{next(reversed(files)).partition('/')[0]}/RECORD"
    files[name] = record(files, name)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    pack(*map(Path, sys.argv[1:]))
