"""Kernels of our own, in Triton, for CUDA: each computes what a function of `fast` computes.

Without a CUDA device they run in Triton's interpreter on the CPU, which is how they are tested: put
TRITON_INTERPRET=1 in the environment before this is imported.
"""

from attn_course.fast.kernels.operators import (
    flash_attention,
    flash_decoding,
    flash_partial_attention,
)

__all__ = ["flash_attention", "flash_decoding", "flash_partial_attention"]
