"""The same arguments for either library."""

import numpy as np
import torch

from attn_course import reference


def converted(library, *arguments):
    """Return `arguments` with their arrays as `library` takes them: NumPy's, or torch's."""
    if library is reference:
        return list(arguments)
    return [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arguments]
