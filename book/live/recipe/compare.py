"""Say where a wheel differs from another: python3 compare.py OLD NEW."""

import sys
import zipfile


def entries(path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


if __name__ == "__main__":
    old, new = map(entries, sys.argv[1:])
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            print(f"gone: {name}")
        elif name not in old:
            print(f"new: {name}")
        elif old[name] != new[name]:
            print(f"changed: {name}")
    same = sum(old[name] == new[name] for name in old.keys() & new.keys())
    print(f"the same: {same} of the {len(new)} files")
