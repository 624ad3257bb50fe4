"""Compile the kernels for a card that need not be there, and say what came out, as JSON.

    TRITON_INTERPRET=0 python tests/compiled.py

For compute capability 9.0 (H100, H200), width 128, bfloat16: how many instructions multiply on
tensor cores by warp groups, how many copy tiles by the hardware's copy engine, how many bytes of a
thread's registers do not fit and go to memory, and how much memory a program holds on the chip.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attn_course.fast.kernels import decoding, flash, steps

TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
NUMBERS = {
    "scale": "fp32",
    "LSE": "*fp32",
    "AVERAGE": "*fp32",
    "LENGTHS": "*i32",
}
CASES = {
    "forward": (flash.forward, 128, 128),
    "backward_queries": (flash.backward_queries, 128, 64),
    "backward_keys": (flash.backward_keys, 32, 128),
    "decoding": (decoding.share, 16, 64),
    "tiled": (steps.KERNELS["tiled"], 128, 64),
    "two_stage": (steps.KERNELS["two_stage"], 128, 128),
}


def compiled(kernel, rows, columns, causal):
    """Return what the compiler made of a kernel with blocks of these sizes."""
    function = kernel.fn
    constants = {"CAUSAL": causal, "PRECISION": "ieee", "WIDTH": 128, "PADDED": 128}
    constants |= {"ROWS": rows, "COLUMNS": columns, "softcap": None, "window": None}
    signature, attributes = {}, {}
    for number, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name.isupper():
            signature[name] = NUMBERS.get(name, "*bf16")
            attributes[(number,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = NUMBERS.get(name, "i32")
    constants = {(function.arg_names.index(n),): v for n, v in constants.items() if n in signature}
    source = ASTSource(function, signature, constants, attributes)
    warps = max(4, max(rows, columns if rows < 64 else 0) // 16)
    made = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps, "num_stages": 2}
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        command = [TOOL, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        "tensor_core": made.asm["ptx"].count("wgmma.mma_async"),
        "copies": made.asm["ptx"].count("cp.async.bulk.tensor"),
        "spilled_bytes": int(re.search(r"STACK:(\d+)", usage)[1]),
        "memory": made.metadata.shared,
    }


if __name__ == "__main__":
    found = {}
    for name, (kernel, rows, columns) in CASES.items():
        for causal in (False, True):
            found[f"{name} {causal}"] = compiled(kernel, rows, columns, causal)
    print(json.dumps(found))
