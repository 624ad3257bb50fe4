"""Time and weigh attention on a CPU: what `make bench` runs.

Every case runs in a process of its own, on one thread: the growth of its peak memory beyond its
inputs and output, then the least CPU time of several runs. The forms of one question take turns,
round after round, and each keeps its least time. Machines differ, and busy machines differ from
themselves, so the figures to read are the ratios, to the form named first of each question.

The result goes to benchmarks/results/cpu.json. A run that is stopped leaves what it has measured
in a file beside it, and the next run on the same machine goes on from there.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

from measure import in_own_process, machine, timed, weighed

RESULTS = Path(__file__).parent / "results" / "cpu.json"
WIDTH, SOFTCAP, WINDOW = 64, 20.0, 256
ROUNDS, LONG = 2, 20_000  # one round of what is long, which is steady by itself
LENGTHS = (1024, 4096, 16384, 65536)


def arrays(*shape, count=3):
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for _ in range(count)]


def tensors(*shape, count=3):
    import torch

    torch.set_num_threads(1)
    return [torch.from_numpy(array) for array in arrays(*shape, count=count)]


def numpy_textbook(n):
    """Attention as a textbook prints it, without a guard for anything."""
    import numpy as np

    q, k, v = arrays(n, WIDTH)

    def run():
        scores = q @ k.T / math.sqrt(WIDTH)
        exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return exponentials / exponentials.sum(axis=-1, keepdims=True) @ v

    return run


def numpy_of(name, mod=None, **options):
    """A function of the reference; `mod` names the mask, as a function of positions."""

    def build(n):
        from attn_course import reference

        if mod:
            options["mask"] = getattr(reference, mod)(n, n)
        inputs = arrays(n, WIDTH)
        return lambda: getattr(reference, name)(*inputs, **options)

    return build


def torch_of(name, mod=None, **options):
    """The same in torch."""

    def build(n):
        from attn_course import fast

        if mod:
            options["mask"] = getattr(fast, mod)(n, n)
        inputs = tensors(n, WIDTH)[: 2 if name == "attention_weights" else 3]
        return lambda: getattr(fast, name)(*inputs, **options)

    return build


def torch_textbook(softcap=None, weights=False):
    """Attention as a textbook prints it, with the queries scaled before the product."""

    def build(n):
        q, k, v = tensors(n, WIDTH)

        def run():
            scores = (q / math.sqrt(WIDTH)) @ k.mT
            if softcap:
                scores = softcap * (scores / softcap).tanh()
            shares = scores.softmax(dim=-1)
            return shares if weights else shares @ v

        return run

    return build


def sdpa(is_causal=False, masked=False):
    """torch's own; `masked` gives it the window as a boolean mask."""

    def build(n):
        import torch

        from attn_course import fast

        q, k, v = (x[None, None] for x in tensors(n, WIDTH))
        mask = fast.window_mask(n, n, WINDOW) if masked else None
        attend = torch.nn.functional.scaled_dot_product_attention
        return lambda: attend(q, k, v, mask, is_causal=is_causal)

    return build


def sdpa_on(q, k, v):
    """torch's own, on what has no axes of batch and heads."""
    import torch

    inputs = (x[None, None] for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(*inputs)[0, 0]


def tiled_on(q, k, v):
    from attn_course import fast

    return fast.tiled_attention(q, k, v)


def torch_gradients(attend):
    """The gradient with respect to the queries, which costs what all three cost."""

    def build(n):
        import torch

        inputs = [x.requires_grad_() for x in tensors(n, WIDTH)]
        return lambda: torch.autograd.grad(attend(*inputs).sum(), inputs)[0]

    return build


def numpy_gradients(n):
    from attn_course import reference

    q, k, v, grad = arrays(n, WIDTH, count=4)
    return lambda: reference.tiled_attention_backward(q, k, v, grad)[0]


def decoding(library_name):
    """One more token after `n` in the cache."""

    def build(n):
        if library_name == "reference":
            from attn_course import reference as library

            make = arrays
        else:
            from attn_course import fast as library

            make = tensors
        cache = library.KVCache(n + 200)
        _, keys, values = make(1, n, WIDTH)
        cache.append(keys, values)
        token = make(1, 1, WIDTH)
        return lambda: library.cached_attention(*token, cache)

    return build


def recomputing(n):
    """All n tokens again, for the sake of the last."""
    from attn_course import fast

    q, k, v = tensors(1, n, WIDTH)
    causal = fast.causal_mod(n, n)
    return lambda: fast.tiled_attention(q, k, v, causal)


# question -> form -> what builds it, given the number of tokens. Ratios are to the first form.
QUESTIONS = {
    "attention": {
        "torch sdpa": sdpa(),
        "fast.attention": torch_of("attention"),
        "fast.tiled_attention": torch_of("tiled_attention"),
        "reference.tiled_attention": numpy_of("tiled_attention"),
        "reference.attention": numpy_of("attention"),
        "torch textbook": torch_textbook(),
        "numpy textbook": numpy_textbook,
    },
    "causal": {
        "torch sdpa": sdpa(is_causal=True),
        "fast.tiled_attention": torch_of("tiled_attention", "causal_mod"),
        "reference.tiled_attention": numpy_of("tiled_attention", "causal_mod"),
    },
    "gradients": {
        "torch sdpa": torch_gradients(sdpa_on),
        "fast.tiled_attention": torch_gradients(tiled_on),
        "reference.tiled_attention_backward": numpy_gradients,
    },
    "softcap": {
        "torch textbook": torch_textbook(softcap=SOFTCAP),
        "fast.attention": torch_of("attention", softcap=SOFTCAP),
    },
    "weights": {
        "torch textbook": torch_textbook(weights=True),
        "fast.attention_weights": torch_of("attention_weights"),
    },
    "window": {
        "torch sdpa with a mask": sdpa(masked=True),
        "fast.window_attention": torch_of("window_attention", window=WINDOW),
        "reference.window_attention": numpy_of("window_attention", window=WINDOW),
    },
    "linear": {
        "torch sdpa": sdpa(),
        "fast.linear_attention": torch_of("linear_attention"),
        "reference.linear_attention": numpy_of("linear_attention"),
    },
    "one more token": {
        "everything again": recomputing,
        "fast.cached_attention": decoding("fast"),
        "reference.cached_attention": decoding("reference"),
    },
}
# These hold every score at once: how many arrays of tokens by tokens, at the least.
SQUARE = {
    "reference.attention": 4,
    "torch textbook": 3,
    "numpy textbook": 3,
    "torch sdpa with a mask": 2,
    "fast.attention_weights": 2,
}

LONGEST = {"gradients": 16384, "softcap": 16384, "weights": 16384}  # what is asked of these


def fits(form, tokens) -> bool:
    """Say whether the memory of this machine holds the form at this length."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return SQUARE.get(form, 0) * 4 * tokens**2 < 0.6 * memory


def measure(question, form, tokens):
    """Return milliseconds and megabytes of one form at one length, measured in this process."""
    QUESTIONS[question][form](64)()  # loads what is loaded at the first call
    run = QUESTIONS[question][form](tokens)
    return {"extra_mb": round(weighed(run), 1), "cpu_ms": round(timed(run, 1.0), 3)}


def merged(old, new):
    """Return the least time and the least memory of two measurements of one case."""
    return {key: min(old[key], new[key]) for key in new} if old else new


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        question, form, tokens = options.one
        print(json.dumps(measure(question, form, int(tokens))))
        return
    unfinished = options.results.with_suffix(".unfinished.json")
    state = {"machine": machine(), "measured": {}}
    if unfinished.exists():
        before = json.loads(unfinished.read_text())
        state = before if before["machine"] == state["machine"] else state
    measured = state["measured"]
    asked = [
        (question, tokens)
        for question in options.questions
        for tokens in options.tokens
        if tokens <= LONGEST.get(question, tokens)
    ]
    planned = [
        (question, tokens, turn, form)
        for question, tokens in asked
        for turn in range(1 if tokens > LONG else ROUNDS)
        for form in QUESTIONS[question]
        if fits(form, tokens)
    ]
    for done, (question, tokens, turn, form) in enumerate(planned, 1):
        key = f"{question}/{tokens}/{form}"
        turns, best = measured.get(key, (0, None))
        if turns <= turn:
            best = merged(best, in_own_process(__file__, "--one", question, form, tokens))
            measured[key] = turn + 1, best
            unfinished.write_text(json.dumps(state))
        print(
            f"{done:3}/{len(planned)} {question:15}{tokens:6} {form:27}"
            f"{best['cpu_ms']:11.2f} ms {best['extra_mb']:8.1f} MB",
            flush=True,
        )
    cases = []
    for question, tokens in asked:
        first = next(iter(QUESTIONS[question]))
        _, base = measured.get(f"{question}/{tokens}/{first}", (0, None))
        for form in QUESTIONS[question]:
            case = {"question": question, "tokens": tokens, "form": form}
            if fits(form, tokens):
                _, best = measured[f"{question}/{tokens}/{form}"]
                ratio = round(best["cpu_ms"] / base["cpu_ms"], 3) if base else None
                cases.append({**case, **best, "ratio": ratio})
            else:
                needed = SQUARE[form] * 4 * tokens**2 / 1e9
                cases.append({**case, "left_out": f"needs at least {needed:.0f} GB"})
    record = {"width": WIDTH, "dtype": "float32", "machine": state["machine"], "cases": cases}
    options.results.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
