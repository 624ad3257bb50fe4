"""Plant known bugs into a copy of the package, one at a time, and see which tests find them.

    python tests/planted_bugs.py             # all: what `make planted-bugs` runs
    python tests/planted_bugs.py window      # those of one topic

A bug counts as found when at least two tests fail. What it prints is a table: the topic, what was
planted, and the first two tests that failed. A bug whose text is no longer in the package, or
that fewer than two tests find, makes the run fail.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# topic, what is wrong, file in attn_course, its text, the text planted
BUGS = [
    (
        "masks",
        "causal aligned top left",
        "reference/masks.py",
        '    return check_size("keys", keys) - check_size("queries", queries)',
        '    return 0 * (check_size("keys", keys) - check_size("queries", queries))',
    ),
    (
        "masks",
        "a window one key too wide",
        "reference/masks.py",
        "(ahead <= 0) & (ahead > -window)",
        "(ahead <= 0) & (ahead >= -window)",
    ),
    (
        "masks",
        "padding ignored",
        "fast/masks.py",
        "< lengths[..., None, None, None]",
        "< keys + 0 * lengths[..., None, None, None]",
    ),
    (
        "multi_head",
        "heads split without swapping the axes",
        "reference/multi_head.py",
        "    return pieces.swapaxes(-3, -2)",
        "    return pieces.reshape(*x.shape[:-2], heads, x.shape[-2], x.shape[-1] // heads)",
    ),
    (
        "multi_head",
        "key heads tiled instead of repeated",
        "reference/multi_head.py",
        "g = h // group",
        "g = h % k.shape[-3]",
    ),
    (
        "multi_head",
        "a key head for the wrong members of a group",
        "fast/multi_head.py",
        "function(q[..., g::group, :, :], k, v,",
        "function(q[..., (g + 1) % group :: group, :, :], k, v,",
    ),
    (
        "positions",
        "RoPE turns the wrong way in one half",
        "reference/positions.py",
        "(x * cos - y * sin).astype(dtype), (y * cos + x * sin)",
        "(x * cos + y * sin).astype(dtype), (y * cos + x * sin)",
    ),
    (
        "positions",
        "ALiBi aligned top left",
        "reference/positions.py",
        "slopes[h] * -abs(j - (i + offset))",
        "slopes[h] * -abs(j - i)",
    ),
    (
        "gradients",
        "softcap forgotten",
        "reference/gradients.py",
        "            grad_scores = grad_scores * (1 - bounded**2)",
        "            grad_scores = grad_scores * (1 - 0 * bounded**2)",
    ),
    (
        "gradients",
        "scale forgotten",
        "reference/gradients.py",
        "        grad_q = scale * (grad_scores @ k)",
        "        grad_q = grad_scores @ k",
    ),
    (
        "tiled",
        "the denominator not rescaled",
        "reference/tiled.py",
        "            total *= fade\n",
        "            total *= 1\n",
    ),
    (
        "tiled",
        "the output not rescaled",
        "fast/tiled.py",
        "fade * output + exponentials @ v",
        "output + exponentials @ v",
    ),
    (
        "tiled",
        "parts merged without their log-sum-exp",
        "reference/tiled.py",
        "weights = softmax(lses, axis=0)[..., None]",
        "weights = softmax(0 * lses, axis=0)[..., None]",
    ),
    (
        "window",
        "the first key of a block missing",
        "reference/window.py",
        "start + offset - window + 1",
        "start + offset - window + 2",
    ),
    (
        "window",
        "a window one key too wide",
        "fast/window.py",
        "window_mask(block, size, window, device=q.device)",
        "window_mask(block, size, window + 1, device=q.device)",
    ),
    (
        "linear",
        "the newest value missing from the state",
        "reference/linear.py",
        "            z = z + k_t.sum(axis=-2)\n",
        "            z = z + k_t.sum(axis=-2)\n            S = S - k_t.mT @ v_t * 0.5\n",
    ),
    (
        "linear",
        "the delta rule adds without erasing",
        "reference/linear.py",
        "(v_t - k_t @ S)",
        "(v_t - 0 * k_t @ S)",
    ),
    (
        "cache",
        "a window too short by one",
        "reference/cache.py",
        "min(self.length, self.window - 1)",
        "min(self.length, self.window - 2)",
    ),
    (
        "cache",
        "a new token looks at its future",
        "fast/cache.py",
        "mask = cache.mask(queries) & mask",
        "mask = (cache.mask(queries) | True) & mask",
    ),
    (
        "transformer",
        "variance over d - 1",
        "reference/transformer.py",
        "variance = (centered**2).mean(axis=-1, keepdims=True)",
        "variance = centered.var(axis=-1, keepdims=True, ddof=1)",
    ),
    (
        "transformer",
        "memory unmasked",
        "fast/transformer.py",
        "heads, memory_mask), norm_2)",
        "heads, True), norm_2)",
    ),
    (
        "dot_product",
        "softcap left out",
        "fast/dot_product.py",
        "scores = softcap * scores.div_(softcap).tanh_()",
        "scores = scores + 0 * softcap",
    ),
    (
        "dot_product",
        "scale ignored",
        "reference/dot_product.py",
        "scaled_dot_scores(q, k, scale)",
        "scaled_dot_scores(q, k)",
    ),
    (
        "kernels",
        "a mask off by one",
        "fast/kernels/flash.py",
        "mask &= columns <= places",
        "mask &= columns < places",
    ),
    (
        "kernels",
        "a window one key too wide",
        "fast/kernels/flash.py",
        "mask &= columns > places - window",
        "mask &= columns >= places - window",
    ),
    (
        "kernels",
        "the sum not rescaled when a larger score comes",
        "fast/kernels/flash.py",
        "total = total * fade + tl.sum(weights, 1)",
        "total = total + tl.sum(weights, 1)",
    ),
    (
        "kernels",
        "the output not rescaled",
        "fast/kernels/flash.py",
        "        output *= fade[:, None]\n",
        "",
    ),
    (
        "kernels",
        "the last keys left out",
        "fast/kernels/flash.py",
        "first, whole, cut, end = 0, 0, keys, keys",
        "first, whole, cut, end = 0, 0, keys, keys // COLUMNS * COLUMNS",
    ),
    (
        "kernels",
        "keys beyond the end not masked",
        "fast/kernels/flash.py",
        "    mask = columns < keys\n",
        "    mask = columns >= 0\n",
    ),
    (
        "kernels",
        "causal aligned top left",
        "fast/kernels/flash.py",
        "    place = row + keys - queries\n    places = place",
        "    place = row\n    places = place",
    ),
    (
        "kernels",
        "whole tiles begin one too early",
        "fast/kernels/flash.py",
        "cut = tl.minimum(tl.maximum(place + 1, 0), keys)",
        "cut = tl.minimum(tl.maximum(place + COLUMNS, 0), keys)",
    ),
    (
        "kernels",
        "heads of a group read other keys",
        "fast/kernels/flash.py",
        "k_rows = rows_of(K, head // group, keys, WIDTH, COLUMNS, PADDED)\n"
        "    v_rows = rows_of(V, head // group, keys, WIDTH, COLUMNS, PADDED)\n    place =",
        "k_rows = rows_of(K, head // group, keys, WIDTH, COLUMNS, PADDED)\n"
        "    v_rows = rows_of(V, head % group, keys, WIDTH, COLUMNS, PADDED)\n    place =",
    ),
    (
        "kernels",
        "the slope of the softcap left out",
        "fast/kernels/flash.py",
        "gradients *= 1 - scores * scores",
        "gradients *= 1",
    ),
    (
        "kernels",
        "the gradients' average left out",
        "fast/kernels/flash.py",
        "(tl.dot(c, d.T, input_precision=PRECISION) - average)",
        "tl.dot(c, d.T, input_precision=PRECISION)",
    ),
    (
        "kernels",
        "the keys' gradient from one head of the group alone",
        "fast/kernels/flash.py",
        "for of in range(head * group, head * group + group)",
        "for of in range(head * group, head * group + 1)",
    ),
    (
        "kernels",
        "shares joined without their sums",
        "fast/kernels/decoding.py",
        "weights = tl.exp2(lse - top)",
        "weights = tl.where(lse > top - 1e30, 1.0, 0.0)",
    ),
    (
        "kernels",
        "the lengths of a batch mixed up",
        "fast/kernels/decoding.py",
        "tl.load(LENGTHS + head // key_heads)",
        "tl.load(LENGTHS + head % key_heads)",
    ),
    (
        "ring",
        "keys of the wrong rank's positions",
        "fast/ring.py",
        "mask = _mask(causal, places[ring.rank], places[source])\n            lse",
        "mask = _mask(causal, places[ring.rank], places[ring.rank])\n            lse",
    ),
    (
        "ring",
        "parts added without their sums",
        "fast/ring.py",
        "    output *= (lse - finite).exp()[..., None]\n",
        "",
    ),
    (
        "ring",
        "gradients that stop one rank too early",
        "fast/ring.py",
        "        grad_k, grad_v = coming.split(widths, dim=-1)\n        return *(x.to(q.dtype)",
        "        grad_k, grad_v = grad_kv.split(widths, dim=-1)\n        return *(x.to(q.dtype)",
    ),
]
EVERYWHERE = ("tests/test_parity.py", "tests/test_gradients.py", "tests/conformance")


def failed(copy, *tests):
    """Return the names of the first two tests that fail in the copy of the project."""
    command = [sys.executable, "-m", "pytest", "-q", "--maxfail=2", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *tests],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    # A file that cannot be collected, or a test whose set-up breaks, has found nothing.
    if done.returncode not in (0, 1) or "\nERROR " in done.stdout:
        raise SystemExit(f"the tests {', '.join(tests)} do not run in a copy:\n{done.stdout}")
    return re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE)


def main() -> int:
    chosen = [bug for bug in BUGS if not sys.argv[1:] or bug[0] in sys.argv[1:]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("attn_course", "tests", "benchmarks", "book/execute.py", "pyproject.toml"):
            source, target = ROOT / part, copy / part
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        for number, (topic, what, name, text, planted) in enumerate(chosen, 1):
            file = copy / "attn_course" / name
            original = file.read_text()
            print(f"{number}/{len(chosen)} {topic}: {what} ({name})", flush=True)
            if original.count(text) == 1:
                file.write_text(original.replace(text, planted))
                found = failed(copy, f"tests/test_{topic}.py")
                if len(found) < 2:
                    found += failed(copy, *EVERYWHERE)
                file.write_text(original)
            else:
                found = ["NOT PLANTED: its text is not there once"]
            missed += len(found) < 2
            for test in found or ["NOT FOUND"]:
                print(f"      {test}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} were found by two tests or more")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
