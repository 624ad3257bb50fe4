"""Train the models of the applications and measure them.

    python -m attn_course.applications                        # what is missing from the results
    python -m attn_course.applications vowels --seeds 0 1     # the studies whose names begin so

A run that is stopped goes on where it was when the same command is given again.
"""

import argparse
import sys

import torch

from attn_course.applications import all_studies
from attn_course.applications.studies import ROOT, measure


def main() -> None:
    summary, _, usage = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m attn_course.applications",
        description=summary,
        epilog=usage,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = all_studies()
    parser.add_argument("studies", nargs="*", help="names, or how they begin; by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    for name in options.studies:
        if not any(study.startswith(name) for study in known):
            parser.error(f"no study begins with {name}; there are: {', '.join(known)}")
    chosen = [
        study
        for name, study in known.items()
        if not options.studies or name.startswith(tuple(options.studies))
    ]
    torch.set_num_threads(1)
    try:
        measure(chosen, options.seeds, options.device, ROOT / "results" / "applications.json")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")


if __name__ == "__main__":
    main()
