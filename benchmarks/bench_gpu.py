"""Time attention on a CUDA device, beside its own roofline: what `make bench-gpu` runs.

Random data in bfloat16, CUDA events, the median of many runs with the chip's cache emptied before
each. The forms of one case run one after another. The results go to
benchmarks/results/<device>.json as they come. A run that was stopped is gone on with; to measure
anew, delete the file.

    python benchmarks/bench_gpu.py                                   # everything
    python benchmarks/bench_gpu.py --questions decoding steps        # some of it
    python benchmarks/bench_gpu.py --results FOLDER --minutes 9      # stop in time, to go on later
"""

import argparse
import importlib.metadata
import json
import re
import sys
import time
from pathlib import Path

import torch
import triton
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from attn_course.fast import alibi_slopes
from attn_course.fast.kernels import flash_attention, flash_decoding, steps

RESULTS = Path(__file__).parent / "results"
LENGTHS = [2**n for n in range(10, 17)]
WIDTHS = 64, 128
TOKENS, CHANNELS = 16384, 2048  # of a batch, and of all heads of a token
WINDOW, SOFTCAP = 1024, 30.0
HEADS, KEY_HEADS = 32, 8  # of decoding
ROUNDED = 4  # digits


def sdpa(backend):
    """torch's own, with one backend and no other."""

    def prepare(q, k, v, causal):
        def attend(q, k, v):
            with sdpa_kernel(backend):
                grouped = q.shape[1] != k.shape[1]
                return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)

        return attend

    return prepare


def flex(mod=None, score_of=None):
    """FlexAttention, compiled, with a mask and a change of scores."""

    def prepare(q, k, v, causal):
        mod_ = mod or (causal_mod if causal else None)
        lengths = q.shape[-2], k.shape[-2]
        mask = create_block_mask(mod_, None, None, *lengths, q.device) if mod_ else None
        score = score_of(q) if score_of else None
        compiled = torch.compile(flex_attention)
        return lambda q, k, v: compiled(q, k, v, score_mod=score, block_mask=mask)

    return prepare


def causal_mod(b, h, i, j):
    return i >= j


def window_mod(b, h, i, j):
    return (i >= j) & (i - j < WINDOW)


def softcapped(q):
    return lambda score, b, h, i, j: SOFTCAP * torch.tanh(score / SOFTCAP)


def with_alibi(q):
    slopes = alibi_slopes(q.shape[1], device=q.device)
    return lambda score, b, h, i, j: score - slopes[h] * (i - j)


def kernel(**options):
    return lambda q, k, v, causal: (
        lambda q, k, v: flash_attention(q, k, v, causal=causal, **options)
    )


def one_step(name):
    """A step on the way to the kernel; arrays (heads, length, width)."""
    return lambda q, k, v, causal: (
        lambda q, k, v: steps.step(name, *(x.flatten(0, 1) for x in (q, k, v)), causal)
    )


def decoding(q, k, v, causal):
    return lambda q, k, v: flash_decoding(q, k, v)


BACKENDS = {
    "sdpa flash": sdpa(SDPBackend.FLASH_ATTENTION),
    "sdpa cudnn": sdpa(SDPBackend.CUDNN_ATTENTION),
    "sdpa efficient": sdpa(SDPBackend.EFFICIENT_ATTENTION),
    "sdpa math": sdpa(SDPBackend.MATH),
}
# question -> form -> what prepares it; then lengths, masks and directions.
QUESTIONS = {
    "attention": {**BACKENDS, "naive": one_step("naive"), "flex": flex(), "kernel": kernel()},
    "steps": {name: one_step(name) for name in steps.STEPS} | {"kernel": kernel()},
    "window": {"flex": flex(window_mod), "kernel": kernel(window=WINDOW)},
    "softcap": {"flex": flex(score_of=softcapped), "kernel": kernel(softcap=SOFTCAP)},
    "alibi": {"flex": flex(score_of=with_alibi)},
    "decoding": {**BACKENDS, "kernel": decoding},
}
ASKED = {
    "attention": (LENGTHS, (False, True), ("forward", "backward")),
    "steps": ((4096, 16384), (False, True), ("forward",)),
    "window": ((8192, 32768), (True,), ("forward", "backward")),
    "softcap": ((8192, 32768), (True,), ("forward", "backward")),
    "alibi": ((8192, 32768), (True,), ("forward", "backward")),
    "decoding": ((4096, 32768, 131072), (False,), ("forward",)),
}
# These hold every score at once: how many arrays of queries by keys, in two bytes, at the least.
SQUARE = {"naive": 3, "sdpa math": 4}


def cases(questions):
    """Yield all that is to be measured."""
    for question in questions:
        lengths, masks, directions = ASKED[question]
        for width in WIDTHS:
            for tokens in lengths:
                for causal in masks:
                    for direction in directions:
                        for form in QUESTIONS[question]:
                            if question != "decoding" or width == 128:
                                yield {
                                    "question": question, "tokens": tokens, "width": width,
                                    "causal": causal, "direction": direction, "form": form,
                                }  # fmt: skip


def key(case):
    """Return what names a case."""
    names = "question", "tokens", "width", "causal", "direction", "form"
    return "/".join(str(case[name]) for name in names)


def drawn(question, tokens, width):
    """Return random queries, keys and values. Zeros would be faster: they take less power."""
    batch = max(1, TOKENS // tokens)
    heads, key_heads, queries = CHANNELS // width, CHANNELS // width, tokens
    if question == "decoding":
        batch, heads, key_heads, queries = max(1, 2**18 // tokens), HEADS, KEY_HEADS, 1
    shapes = (heads, queries), (key_heads, tokens), (key_heads, tokens)
    like = {"device": "cuda", "dtype": torch.bfloat16}
    return [torch.randn(batch, h, n, width, **like) for h, n in shapes]


def pairs(question, tokens, causal):
    """Return how many pairs of a query and a key count; of a causal mask, half of all."""
    if question == "window":
        return tokens * WINDOW - WINDOW * (WINDOW - 1) / 2
    return tokens**2 / (2 if causal else 1)


def measure(question, tokens, width, causal, direction, form):
    """Return milliseconds, what the card reached, and by how much memory grew."""
    q, k, v = drawn(question, tokens, width)
    scores = q.shape[0] * q.shape[1] * q.shape[2] * tokens
    free = torch.cuda.get_device_properties(q.device).total_memory
    if SQUARE.get(form, 0) * 2 * scores > 0.8 * free:
        return {"left_out": f"needs at least {SQUARE[form] * 2 * scores / 1e9:.0f} GB"}
    torch.manual_seed(0)
    attend = QUESTIONS[question][form](q, k, v, causal)
    if direction == "forward":
        with torch.no_grad():
            return reached(lambda: attend(q, k, v), question, tokens, causal, q, k)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    output = attend(*inputs)
    grad = torch.randn_like(output)
    return reached(
        lambda: torch.autograd.grad(output, inputs, grad, retain_graph=True),
        *(question, tokens, causal, q, k, 2.5),  # five products instead of two
    )


def reached(function, question, tokens, causal, q, k, times=1.0):
    """Time a function, and weigh it."""
    function()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    grown = torch.cuda.max_memory_allocated() - before
    milliseconds = triton.testing.do_bench(function, warmup=50, rep=200, return_mode="median")
    found = {"ms": milliseconds, "peak_mb": grown / 1e6}
    if question == "decoding":
        found["gigabytes_per_s"] = 2 * k.nbytes / milliseconds / 1e6
    else:
        batch, heads, _, width = q.shape
        operations = times * 4 * batch * heads * width * pairs(question, tokens, causal)
        found["tflops"] = operations / milliseconds / 1e9
    return {name: float(f"{value:.{ROUNDED}g}") for name, value in found.items()}


def roofline():
    """Return what this card reaches: products of matrices, and copies."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = triton.testing.do_bench(lambda: a @ b, warmup=100, rep=500, return_mode="median")
    x = torch.randn(2**29, device="cuda", dtype=torch.bfloat16)
    y = torch.empty_like(x)
    copy = triton.testing.do_bench(lambda: y.copy_(x), warmup=100, rep=500, return_mode="median")
    return {
        "tflops": float(f"{2 * 8192**3 / product / 1e9:.{ROUNDED}g}"),
        "gigabytes_per_s": float(f"{2 * x.nbytes / copy / 1e6:.{ROUNDED}g}"),
    }


def machine():
    """Return what the figures depend on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gb": round(properties.total_memory / 1e9),
        "torch": torch.__version__.partition("+")[0],
        "triton": importlib.metadata.version("triton"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="a folder")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here; make bench measures the CPU")
    end = time.monotonic() + 60 * options.minutes
    here = machine()
    name = re.sub(r"[^a-z0-9]+", "_", here["device"].lower()).strip("_")
    results = options.results / f"{name}.json"
    record = {"machine": here, "dtype": "bfloat16", "roofline": None, "cases": []}
    if results.exists():
        before = json.loads(results.read_text())
        if before["machine"] != here:
            parser.error(f"{results} is of another machine, or other versions: move it away first")
        record = before
    record["roofline"] = record["roofline"] or roofline()
    planned = list(cases(options.questions))
    done = {key(case): case for case in record["cases"]}
    for number, case in enumerate(planned, 1):
        if key(case) not in done:
            if time.monotonic() > end:
                print(f"stopped after {number - 1} of {len(planned)}; the next run goes on")
                return 0
            try:
                found = measure(**case)
            except RuntimeError as error:  # a backend that cannot, or too little memory
                found = {"left_out": str(error).strip().splitlines()[0]}
            torch.cuda.empty_cache()
            done[key(case)] = case | found
            record["cases"] = list(done.values())
            whole = results.with_suffix(".new")
            whole.write_text(json.dumps(record, indent=1) + "\n")
            whole.replace(results)
        shown = {name: value for name, value in done[key(case)].items() if name not in case}
        print(f"{number:3}/{len(planned)} {key(case):55} {shown}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
