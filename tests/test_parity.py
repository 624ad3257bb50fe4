"""fast equals reference: the same names, arguments, values and, where there are any, gradients."""

import inspect

import numpy as np
import pytest
import torch
from tolerance import assert_as_exact_as_plain, assert_equal64

from attn_course import fast, reference

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def arrays(*shapes):
    rng = np.random.default_rng(11)
    return [rng.standard_normal(shape) for shape in shapes]


def masked(i, j):
    mask = np.random.default_rng(12).random((i, j)) < 0.6
    mask[1] = False
    return mask


ATTENTION = arrays((2, 3, 5, 7), (2, 3, 9, 7), (2, 3, 9, 4))
BIAS = arrays((3, 5, 9))[0]

# name of the function, floating arrays, other arguments
CASES = {
    "softmax": ("softmax", arrays((4, 9)), {}),
    "softmax-axis-0-warm": ("softmax", arrays((4, 9)), {"axis": 0, "temperature": 3.0}),
    "softmax-jacobian": ("softmax_jacobian", [np.full((2, 5), 0.2)], {}),
    "entropy": ("entropy", [np.array([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]])], {}),
    "pooling": ("attention_pooling", arrays((3, 11, 5), (5,)), {"scale": 0.7}),
    "pooling-masked": ("attention_pooling", arrays((3, 11, 5), (5,)), {"mask": masked(3, 11)}),
    "kernel-weights": ("kernel_weights", arrays((2, 5, 3), (2, 9, 3)), {"bandwidth": 0.8}),
    "kernel-regression": ("kernel_regression", arrays((5, 3), (9, 3), (9, 2)), {}),
    "dot": ("dot_scores", arrays((5, 3), (9, 3)), {}),
    "scaled-dot": ("scaled_dot_scores", arrays((2, 5, 3), (2, 9, 3)), {}),
    "bilinear": ("bilinear_scores", arrays((5, 3), (9, 4), (3, 4)), {}),
    "additive": ("additive_scores", arrays((2, 5, 3), (2, 9, 4), (3, 6), (4, 6), (6,)), {}),
    "cosine": ("cosine_scores", arrays((5, 3), (9, 3)), {}),
    "weights": ("attention_weights", ATTENTION[:2], {"mask": masked(5, 9)}),
    "attention": ("attention", ATTENTION, {}),
    "attention-masked": ("attention", ATTENTION, {"mask": masked(5, 9)}),
    "attention-two-axes": ("attention", [a[0, 0] for a in ATTENTION], {"mask": masked(5, 9)}),
    "attention-five-axes": ("attention", [a[None] for a in ATTENTION], {"mask": masked(5, 9)}),
    "attention-bias": ("attention", ATTENTION, {"bias": BIAS, "scale": 0.2}),
    "attention-softcap": (
        "attention",
        ATTENTION,
        {"mask": masked(5, 9), "bias": BIAS, "softcap": 2.0},
    ),
}


def to_torch(argument, device, dtype=None):
    if not isinstance(argument, np.ndarray):
        return argument
    tensor = torch.from_numpy(argument).to(device)
    return tensor if tensor.dtype == torch.bool or dtype is None else tensor.to(dtype)


def test_the_two_have_the_same_names():
    modules = {name for name in fast.__all__ if inspect.isclass(getattr(fast, name))}
    assert set(fast.__all__) - modules == set(reference.__all__)
    assert sorted(fast.__all__) == fast.__all__
    assert sorted(reference.__all__) == reference.__all__


@pytest.mark.parametrize("name", reference.__all__)
def test_the_two_have_the_same_arguments(name):
    ours, theirs = (
        [
            (parameter.name, parameter.default, parameter.kind)
            for parameter in inspect.signature(getattr(library, name)).parameters.values()
            if parameter.name != "device"
        ]
        for library in (reference, fast)
    )
    assert ours == theirs


def test_every_function_of_numbers_has_a_case():
    covered = {case[0] for case in CASES.values()}
    masks = {name for name in reference.__all__ if name.endswith(("_mask", "_mod"))}
    assert covered == set(reference.__all__) - masks


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values(case, dtype, device):
    name, given, options = CASES[case]
    tensors = [to_torch(array, device, dtype) for array in given]
    # The reference sees the numbers as rounded to dtype, so that only arithmetic is compared.
    rounded = [tensor.to("cpu", torch.float64).numpy() for tensor in tensors]
    exact = getattr(reference, name)(*rounded, **options)
    torch_options = {key: to_torch(value, device) for key, value in options.items()}
    ours = getattr(fast, name)(*tensors, **torch_options)
    assert ours.dtype == dtype
    assert ours.device == tensors[0].device
    if dtype == torch.float64:
        assert_equal64(ours, exact)
    elif dtype == torch.bfloat16:
        # NumPy has no bfloat16: the plain form is the exact one, rounded once at the end.
        plain = torch.from_numpy(np.asarray(exact)).to(dtype)
        plain = plain * (1 + 2 * torch.finfo(dtype).eps)  # and once more on the way there
        assert_as_exact_as_plain(ours, plain, exact)
    else:
        numpy_dtype = {torch.float32: np.float32, torch.float16: np.float16}[dtype]
        plain = getattr(reference, name)(*(a.astype(numpy_dtype) for a in rounded), **options)
        assert plain.dtype == numpy_dtype
        assert_as_exact_as_plain(ours, plain, exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype, device):
    generator = torch.Generator().manual_seed(0)
    q, k = (3 * torch.randn(40, 8, generator=generator) for _ in range(2))
    x = 9 * torch.randn(40, 30, generator=generator)
    rows = 8 * torch.eye(30).expand(40, 30, 30)
    for name, given, options in (
        ("softmax", (x,), {"temperature": 3.0}),
        ("entropy", (fast.softmax(x),), {}),
        ("attention_weights", (q, k), {}),
        ("attention_weights", (q, k), {"softcap": 3.0}),
        ("kernel_weights", (q, k), {}),
        ("attention_pooling", (rows, x[0]), {"scale": 0.7}),
    ):
        halves = [tensor.to(device, dtype) for tensor in given]
        once = getattr(fast, name)(*(half.double() for half in halves), **options).to(dtype)
        ours = getattr(fast, name)(*halves, **options)
        limits = torch.finfo(dtype)
        torch.testing.assert_close(ours, once, rtol=1.01 * limits.eps, atol=limits.tiny)


@pytest.mark.parametrize("case", CASES)
def test_gradients_match_finite_differences(case, device):
    name, given, options = CASES[case]
    tensors = [to_torch(array, device).requires_grad_() for array in given]
    torch_options = {key: to_torch(value, device) for key, value in options.items()}
    if isinstance(torch_options.get("bias"), torch.Tensor):
        torch_options["bias"].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *inputs: getattr(fast, name)(*inputs, **torch_options), tensors, fast_mode=True
    )


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_left_alone(case):
    name, given, options = CASES[case]
    for library, convert in ((reference, np.copy), (fast, torch.tensor)):
        inputs = [convert(array) for array in given]
        others = {
            key: convert(value) if isinstance(value, np.ndarray) else value
            for key, value in options.items()
        }
        getattr(library, name)(*inputs, **others)
        for array, before in zip(inputs, given, strict=True):
            np.testing.assert_array_equal(array, before)
        for key, before in options.items():
            np.testing.assert_array_equal(others[key], before)


@pytest.mark.usefixtures("unchecked")
def test_attention_compiles():
    q, k, v = (torch.from_numpy(array) for array in ATTENTION)
    mask = torch.from_numpy(masked(5, 9))
    compiled = torch.compile(fast.attention, backend="eager", fullgraph=True)
    assert_equal64(compiled(q, k, v, mask), fast.attention(q, k, v, mask))
