"""The same arguments, good and bad, for either library."""

import numpy as np
import pytest
import torch

from attn_course import fast, reference


def converted(library, *arguments):
    """Return `arguments` with their arrays as `library` takes them: NumPy's, or torch's."""
    if library is reference:
        return list(arguments)
    return [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]


def refuses(cases):
    """Return a test that both libraries refuse each case: name, arguments, error, its message."""

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize("library", [reference, fast])
    @pytest.mark.parametrize(("name", "arguments", "error", "message"), cases)
    def test(library, name, arguments, error, message):
        with pytest.raises(error, match=message):
            getattr(library, name)(*converted(library, *arguments))

    return test


def outputs(result):
    """Return as a list the arrays that a function returned, one or several."""
    if isinstance(result, tuple):
        return [array for part in result for array in outputs(part)]
    return [result]
