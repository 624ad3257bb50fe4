"""The libraries as the suites of others call them: with NumPy's arrays, bfloat16 among them."""

import numpy as np
import torch
from ml_dtypes import bfloat16

from attn_course import fast, reference


class InNumPy:
    """A library whose functions take and return NumPy's arrays."""

    def __init__(self, library, name):
        self._library = library
        self.name = name

    def __getattr__(self, function):
        return lambda *arguments, **named: self._called(
            getattr(self._library, function), arguments, named
        )

    def _called(self, function, arguments, named):
        if self._library is fast:
            arguments = [_to_torch(a) for a in arguments]
            named = {name: _to_torch(a) for name, a in named.items()}
            return _to_numpy(function(*arguments, **named))
        # NumPy has no bfloat16 to compute in: widen it, and round the result.
        half = any(getattr(a, "dtype", None) == bfloat16 for a in arguments)
        arguments = [_widened(a) for a in arguments]
        named = {name: _widened(a) for name, a in named.items()}
        result = function(*arguments, **named)
        return result.astype(bfloat16) if half else result


def _widened(value):
    return value.astype(np.float32) if getattr(value, "dtype", None) == bfloat16 else value


def _to_torch(value):
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == bfloat16:
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def _to_numpy(tensor):
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().contiguous().view(torch.int16).numpy().view(bfloat16)
    return tensor.detach().numpy()


LIBRARIES = [InNumPy(reference, "reference"), InNumPy(fast, "fast")]


def fitted(mask, keys):
    """Return `mask`, cut or filled with False to the number of keys."""
    return np.pad(mask[:, :keys], [(0, 0), (0, max(0, keys - mask.shape[1]))])
