"""The two rules by which numbers count as equal."""

import numpy as np
import torch


def assert_equal64(actual, expected):
    """Hold float64 results to a relative 1e-10, of each entry or of one where entries are small."""
    actual, expected = as_float64(actual), as_float64(expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-10)


def assert_as_exact_as_plain(fast, plain, exact):
    """Hold `fast` to twice the error that the plain form makes in the same dtype.

    `exact` is the reference in float64, from the same inputs.
    """
    fast, plain, exact = as_float64(fast), as_float64(plain), as_float64(exact)
    assert fast.shape == exact.shape
    assert not np.isnan(fast).any()
    allowed = 2 * np.abs(plain - exact).max(initial=0) + 1e-6
    error = np.abs(fast - exact).max(initial=0)
    assert error <= allowed, f"error {error:.3g}, allowed {allowed:.3g}"


def as_float64(array) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        return array.detach().to("cpu", torch.float64).numpy()
    return np.asarray(array, dtype=np.float64)
