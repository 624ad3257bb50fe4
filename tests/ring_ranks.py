"""What tests/test_ring.py starts with torchrun: each rank writes what it found to FOLDER.

torchrun --nproc-per-node RANKS tests/ring_ranks.py TASK FOLDER
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from measure import raised

from attn_course import fast
from attn_course.fast import ring

FORMS = {"ring": ring.ring_attention, "gathered": ring.gathered_attention}
torch.set_num_threads(1)


def drawn(n, dtype=torch.float32):
    """Return queries, keys, values and a gradient of `n` tokens, the same on every rank."""
    generator = torch.Generator().manual_seed(n)
    shapes = (4, n, 8), (2, n, 8), (2, n, 6), (4, n, 6)
    return [torch.randn(2, *shape, generator=generator).to(dtype) for shape in shapes]


def worst(circle, form, n, layout, dtype=torch.float32, **options):
    """Return the largest difference from attention in one process, of output and gradients."""
    *full, grad = drawn(n, dtype)
    own = [ring.shard(x, layout, circle).requires_grad_() for x in full]
    output = FORMS[form](*own, layout=layout, ring=circle, **options)
    grads = torch.autograd.grad(output, own, ring.shard(grad, layout, circle))
    found = [ring.unshard(x.detach(), layout, circle) for x in (output, *grads)]
    wide = [x.double().requires_grad_() for x in full]
    mask = fast.causal_mask(n, n) if options.pop("causal", False) else True
    expected = fast.grouped_query_attention(*wide, mask, **options)
    expected = [expected, *torch.autograd.grad(expected, wide, grad.double())]
    assert all(x.dtype == dtype for x in found)
    return max((x - y).abs().max().item() for x, y in zip(found, expected, strict=True))


def compare(circle):
    """Compare every form and layout with one process, at lengths that do not divide."""
    cases = itertools.product(FORMS, ring.LAYOUTS, (1, 17, 64), (False, True))
    found = {
        f"{form} {layout} {n} {causal}": worst(circle, form, n, layout, causal=causal)
        for form, layout, n, causal in cases
    }
    for form in FORMS:
        options = {"causal": True, "softcap": 2.0, "scale": 0.7}
        found[f"{form} softcap"] = worst(circle, form, 17, "zigzag", **options)
    return found


def half(circle):
    """The same in half precision."""
    return {form: worst(circle, form, 40, "zigzag", torch.bfloat16, causal=True) for form in FORMS}


def sent(circle):
    """Return the bytes that a rank sends, forward and backward."""
    found = {}
    for form, attend in FORMS.items():
        q, k, v, grad = (ring.shard(x, "zigzag", circle).requires_grad_() for x in drawn(48))
        before = circle.sent
        output = attend(q, k, v, causal=True, ring=circle)
        forward = circle.sent - before
        torch.autograd.grad(output, (q, k, v), grad.detach())
        found[form] = [forward, circle.sent - before - forward]
        found["own bytes"] = k.nbytes + v.nbytes
    return found


def memory(circle):
    """Return by how many bytes the peak grew, for rows so wide that scores weigh little."""

    def run(n, width):
        ring.ring_attention(*given(n, width), ring=circle).sum().backward()

    def given(n, width):
        return [torch.ones(1, n, width).requires_grad_() for _ in range(3)]

    run(2, 16)  # loads what is loaded at the first call
    _, grown = raised(lambda: run(512 // circle.ranks, 16384))
    return {"grown": grown}


def refused(circle):
    """Return what each rank says to what does not fit together."""
    x, odd = torch.ones(1, 2, 4), circle.rank == 1
    uneven, wide = torch.ones(1, 2 - circle.rank, 4), torch.ones(1, 2, 4 + circle.rank)
    typed = x.float() if odd else x.double()
    calls = {
        "tokens": lambda: ring.ring_attention(uneven, uneven, uneven, ring=circle),
        "width": lambda: ring.ring_attention(wide, wide, wide, ring=circle),
        "dtype": lambda: ring.ring_attention(typed, typed, typed, ring=circle),
        "causal": lambda: ring.ring_attention(x, x, x, causal=odd, ring=circle),
        "scale": lambda: ring.ring_attention(x, x, x, scale=1.5 if odd else None, ring=circle),
        "layout": lambda: ring.gathered_attention(
            x, x, x, layout=ring.LAYOUTS[circle.rank], ring=circle
        ),
        "call": lambda: ring.unshard(x, ring=circle) if odd else attend(x, circle),
        "rows": lambda: ring.unshard(wide, ring=circle),
        "row dtype": lambda: ring.unshard(typed.int() if odd else typed, ring=circle),
        "row tokens": lambda: ring.unshard(uneven, ring=circle),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
        except ValueError as error:
            found[name] = str(error)
    return found


def attend(x, circle):
    return ring.ring_attention(x, x, x, ring=circle)


def lost(circle):
    """Lose the last rank at the second step."""
    x = torch.ones(1, 8, 4)
    ring.ring_attention(x, x, x, ring=circle)
    if circle.rank == circle.ranks - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return told(circle, x)


def late(circle):
    """Wait for a rank that does not come."""
    x = torch.ones(1, 8, 4)
    if circle.rank == circle.ranks - 1:
        time.sleep(1000)
    return told(circle, x)


def told(circle, x):
    try:
        ring.ring_attention(x, x, x, ring=circle)
    except RuntimeError as error:
        return {"told": str(error)}
    return {}


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    with ring.process_group(seconds=10 if task == "late" else 60) as circle:
        found = globals()[task](circle)
        (folder / f"{circle.rank}.json").write_text(json.dumps(found))
