"""Print Python's pyconfig.h for the browser: python3 pyconfig.py SYSCONFIGDATA PYCONFIG_H.

Pyodide comes without headers. What its pyconfig.h says stands in its sysconfig data, as values by
name; this computer's header gives the names that are macros, and the lines around them.
"""

import re
import runpy
import sys

MACRO = re.compile(r"# *define (\w+)|/\* #undef (\w+) \*/")


def translated(line: str, values: dict[str, object]) -> str:
    """Return a line of this computer's header as the browser's header has it."""
    found = MACRO.match(line)
    if not found:
        return line
    name = found[1] or found[2]
    # sysconfig skips names with an underscore first, which say how to read the system's headers.
    # A function that the browser's Python does not know is one that it does not have.
    value = values.get(name, 0 if name.startswith("HAVE_") else None)
    if value is None:
        return line
    return f"#define {name} {value}" if value not in (0, "") else f"/* #undef {name} */"


if __name__ == "__main__":
    values = runpy.run_path(sys.argv[1])["build_time_vars"]
    with open(sys.argv[2]) as header:
        for line in header.read().splitlines():
            print(translated(line, values))
