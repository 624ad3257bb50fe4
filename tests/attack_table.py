"""The attacks on the grader that the tests try, for the page for teachers.

python tests/attack_table.py      # writes benchmarks/results/attacks.json
"""

import json
import sys
from pathlib import Path

from attn_course.notebook import RESULTS

sys.path.append(str(Path(__file__).parent / "classroom"))


def rows():
    """Return what each attacker tries, and what the tests hold that he gets."""
    from test_attacks import ATTACKS

    return [
        {"attack": shown(attack.name), "tries": attack.tries, "gets": attack.gets}
        for attack in ATTACKS
    ]


def shown(name):
    """Return a name with what no page can show written as Python writes it."""
    return name if name.isprintable() else f"`{ascii(name)[1:-1]}`"


if __name__ == "__main__":
    (RESULTS / "attacks.json").write_text(json.dumps({"rows": rows()}, indent=1) + "\n")
