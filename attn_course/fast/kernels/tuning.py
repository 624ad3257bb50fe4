"""The sizes of blocks that a kernel is tried with, on the card that it is to run on."""

import itertools

import triton

# Triton reads it when a kernel is defined, as here.
INTERPRETED = triton.knobs.runtime.interpret
# Rows of the block that a program holds, with the warps that multiply them, 16 rows each; of the
# blocks that it walks along; and how many of these are on their way to the chip, or there.
HELD = {64: 4, 128: 8}
WALKED = 32, 64, 128
STAGES = 2, 3
# In the interpreter nothing is timed. Small blocks make every stage of a walk appear soon.
SMALL = {"ROWS": 32, "COLUMNS": 16}


def tuned(walked, held=None, stages=STAGES):
    """Have a kernel timed with all sizes at its first call with a width, mask and dtype.

    `walked` and `held` are "ROWS" or "COLUMNS". A kernel without `held` is told its size.
    """
    if INTERPRETED:
        configs = [triton.Config({name: SMALL[name] for name in (walked, held) if name})]
    elif held is None:
        configs = [
            triton.Config({walked: size}, num_warps=warps, num_stages=pipeline)
            for size, warps, pipeline in itertools.product(WALKED, (4, 8), stages)
        ]
    else:
        configs = [
            triton.Config({held: rows, walked: size}, num_warps=warps, num_stages=pipeline)
            for (rows, warps), size, pipeline in itertools.product(HELD.items(), WALKED, stages)
        ]

    def fitting(configs, arguments, **constants):
        """Return those whose blocks fit on the chip: wide rows leave room for half as many."""
        most = 128 * 128 // constants["PADDED"]
        return [c for c in configs if c.kwargs[walked] <= most] or configs[:1]

    return triton.autotune(
        configs=configs,
        key=["WIDTH", "CAUSAL", "PRECISION"],
        prune_configs_by={"early_config_prune": fitting},
    )
