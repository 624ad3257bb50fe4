"""What every test needs: one BLAS thread, the devices at hand, seeds, and raw arguments."""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

# Before NumPy and torch are imported: two BLAS threads on a busy machine are far slower than one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from conformance_summary import pytest_terminal_summary  # noqa: F401, pytest finds it here
from hypothesis import HealthCheck, settings

# Where there is no CUDA the kernels are tested in Triton's interpreter, as which they are defined.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


class KernelsAsTheyAre(MetaPathFinder):
    """Imports kernels without the checks of shapes: Triton compiles their source itself."""

    def find_spec(self, name, path=None, target=None):
        """Find a module of kernels; none else."""
        package, _, module = name.rpartition(".")
        if package == "attn_course.fast.kernels" and module in ("flash", "decoding", "steps"):
            return PathFinder.find_spec(name, path, target)
        return None


sys.meta_path.insert(0, KernelsAsTheyAre())

# The same examples at every run, so that a failure in CI is a failure on every machine.
settings.register_profile(
    "course",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("course")

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
    ),
]


@pytest.fixture(params=DEVICES)
def device(request):
    """Each device that a torch function must run on."""
    return request.param


@pytest.fixture
def rng():
    """A seeded generator."""
    return np.random.default_rng(20240607)


@pytest.fixture
def unchecked():
    """Switch off the tests' own type checks, so that bad arguments reach the function itself."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _forget_what_was_compiled(request):
    """Let no test that compiles use up the number of compilations that torch allows another."""
    yield
    if "compile" in request.node.name:
        torch.compiler.reset()
