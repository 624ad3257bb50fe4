"""fast equals reference: the same names, arguments and values; gradients, in test_gradients."""

import inspect

import numpy as np
import pytest
import torch
from libraries import outputs
from tolerance import assert_as_exact_as_plain, assert_equal64

from attn_course import fast, reference
from attn_course.arguments import dtype_name

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
BACKWARD = [*ATTENTION, *arrays((2, 3, 5, 4))]
WINDOW = arrays((2, 6, 5, 7), (2, 3, 9, 7), (2, 3, 9, 4), (2, 6, 5, 4))
GROUPED = arrays((2, 6, 5, 7), (2, 3, 9, 7), (2, 3, 9, 7))
PROJECTED = arrays(  # four heads of width 2, two key heads of values of width 3
    (2, 5, 3), (2, 9, 4), (2, 9, 7), (3, 8), (4, 4), (7, 6), (12, 5)
)
LONG = arrays((2, 300, 3), (1, 299, 3), (1, 299, 2), (2, 300, 2))

WIDTH, HIDDEN = 6, 11
LINEAR = {
    "linear1.weight": (HIDDEN, WIDTH),
    "linear1.bias": (HIDDEN,),
    "linear2.weight": (WIDTH, HIDDEN),
    "linear2.bias": (WIDTH,),
}
ENCODER = LINEAR | {
    "self_attn.in_proj_weight": (3 * WIDTH, WIDTH),
    "self_attn.in_proj_bias": (3 * WIDTH,),
    "self_attn.out_proj.weight": (WIDTH, WIDTH),
    "self_attn.out_proj.bias": (WIDTH,),
    **{f"norm{n}.{part}": (WIDTH,) for n in (1, 2) for part in ("weight", "bias")},
}
DECODER = ENCODER | {
    **{name.replace("self", "multihead"): ENCODER[name] for name in ENCODER if "self" in name},
    **{f"norm3.{part}": (WIDTH,) for part in ("weight", "bias")},
}
ROWS = arrays((2, 5, WIDTH), (2, 9, WIDTH))

TOKENS = arrays((2, 7, 3), (2, 7, 3), (2, 7, 4))
SUMS = [5 * np.abs(array) for array in arrays((2, 3, 4), (2, 3))]
FADING = [*TOKENS, np.abs(np.tanh(arrays((2, 7))[0]))]
STATE = arrays((2, 3, 4))


def layer_weights(shapes, count=1):
    return [0.5 * array for array in arrays(*count * list(shapes.values()))]


def layers(shapes, weights):
    """Return `weights` as a mapping for each layer, under the names in `shapes`."""
    size = len(shapes)
    starts = range(0, len(weights), size)
    return [dict(zip(shapes, weights[i : i + size], strict=True)) for i in starts]


# How the arrays of a case become the arguments of a function that takes more than arrays.
ARRANGED = {
    "linear_attention_recurrent": lambda library, q, k, v, *state: (q, k, v, state or None),
    "linear_attention_chunked": lambda library, q, k, v, *state: (q, k, v, state or None),
    "pre_norm": lambda library, x: (x, library.gelu, library.layer_norm),
    "post_norm": lambda library, x: (x, library.gelu, library.layer_norm),
    "encoder_layer": lambda library, x, *w: (x, *layers(ENCODER, w), 2),
    "decoder_layer": lambda library, x, memory, *w: (x, memory, *layers(DECODER, w), 2),
    "encoder": lambda library, x, *w: (x, layers(ENCODER, w), 2),
    "decoder": lambda library, x, memory, *w: (x, memory, layers(DECODER, w), 2),
}

# name of the function, floating arrays, other arguments; a function among them by its name
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
    "split-heads": ("split_heads", arrays((2, 5, 6)), {"heads": 3}),
    "merge-heads": ("merge_heads", arrays((2, 3, 5, 4)), {}),
    "grouped-query": ("grouped_query_attention", GROUPED, {}),
    "grouped-query-three-axes": ("grouped_query_attention", [a[1] for a in GROUPED], {}),
    "grouped-query-five-axes": (
        "grouped_query_attention",
        [a[None] for a in GROUPED],
        {"mask": masked(5, 9)},
    ),
    "grouped-query-bias": (
        "grouped_query_attention",
        GROUPED,
        {"mask": masked(5, 9), "bias": arrays((6, 1, 9))[0], "scale": 0.2},
    ),
    "grouped-query-softcap": (
        "grouped_query_attention",
        GROUPED,
        {"mask": masked(5, 9), "bias": arrays((2, 1, 5, 9))[0], "softcap": 2.0},
    ),
    "multi-query": ("grouped_query_attention", [GROUPED[0], *(a[:, :1] for a in GROUPED[1:])], {}),
    "multi-head": ("multi_head_attention", PROJECTED, {"heads": 4}),
    "multi-head-all-at-once": (
        "multi_head_attention",
        PROJECTED,
        {
            "heads": 4,
            "mask": masked(5, 9),
            "bias": arrays((4, 5, 1))[0],
            "scale": 0.2,
            "softcap": 2.0,
        },
    ),
    "softmax-backward": ("softmax_backward", arrays((4, 9), (4, 9)), {}),
    "softmax-backward-axis-0-warm": (
        "softmax_backward",
        arrays((4, 9), (4, 9)),
        {"axis": 0, "temperature": 3.0},
    ),
    "attention-backward": ("attention_backward", BACKWARD, {}),
    "attention-backward-all-at-once": (
        "attention_backward",
        BACKWARD,
        {"mask": masked(5, 9), "bias": BIAS, "scale": 0.2, "softcap": 2.0},
    ),
    "attention-bias-backward": ("attention_bias_backward", BACKWARD, {"mask": masked(5, 9)}),
    "attention-bias-backward-capped": (
        "attention_bias_backward",
        BACKWARD,
        {"bias": BIAS[0], "scale": 0.2, "softcap": 2.0},
    ),
    "online-softmax": ("online_softmax", arrays((4, 9)), {"block": 4}),
    "online-softmax-one-block": ("online_softmax", arrays((2, 3, 9)), {}),
    "tiled": ("tiled_attention", ATTENTION, {"block": 4}),
    "tiled-masked": ("tiled_attention", ATTENTION, {"mask": masked(5, 9), "block": 1}),
    "tiled-two-axes-all-masked": (
        "tiled_attention",
        [a[0, 0] for a in ATTENTION],
        {"mask": False, "block": 4},
    ),
    "tiled-no-keys": ("tiled_attention", arrays((5, 3), (0, 3), (0, 4)), {}),
    "tiled-all-at-once": (
        "tiled_attention",
        ATTENTION,
        {"mask": masked(5, 9), "bias": BIAS, "scale": 0.2, "softcap": 2.0, "block": 4},
    ),
    "tiled-bias-of-keys": (
        "tiled_attention",
        ATTENTION,
        {"mask": masked(5, 9), "bias": BIAS[0, 0], "block": 2},
    ),
    "partial": ("partial_attention", ATTENTION, {"mask": masked(5, 9)[2:3], "block": 4}),
    "partial-all-at-once": (
        "partial_attention",
        ATTENTION,
        {"mask": masked(5, 9)[2:3], "bias": BIAS, "scale": 0.2, "softcap": 2.0, "block": 4},
    ),
    "merge": ("merge_attention", arrays((4, 2, 5, 3), (4, 2, 5)), {}),
    "tiled-backward": ("tiled_attention_backward", BACKWARD, {"block": 4}),
    "tiled-backward-all-at-once": (
        "tiled_attention_backward",
        BACKWARD,
        {"mask": masked(5, 9), "bias": BIAS, "scale": 0.2, "softcap": 2.0, "block": 2},
    ),
    "grouped-query-attention-backward": (
        "grouped_query_attention_backward",
        arrays((2, 6, 5, 7), (2, 3, 9, 7), (2, 3, 9, 4), (2, 6, 5, 4)),
        {"mask": masked(5, 9), "scale": 0.2, "softcap": 2.0},
    ),
    "window": ("window_attention", WINDOW[:3], {"window": 3}),
    "window-two-axes": ("window_attention", [a[0, 0] for a in ATTENTION], {"window": 3}),
    "window-in-blocks": ("window_attention", LONG[:3], {"window": 9, "scale": 0.2, "softcap": 2.0}),
    "window-backward": ("window_attention_backward", WINDOW, {"window": 3}),
    "window-backward-in-blocks": (
        "window_attention_backward",
        LONG,
        {"window": 9, "scale": 0.2, "softcap": 2.0},
    ),
    "elu-features": ("elu_features", arrays((5, 7)), {}),
    "random-features": ("random_features", arrays((2, 5, 3), (7, 3)), {}),
    "linear": ("linear_attention", ATTENTION, {}),
    "linear-relu": ("linear_attention", ATTENTION, {"feature_map": "relu"}),
    "linear-parallel": ("linear_attention_parallel", TOKENS, {}),
    "linear-recurrent": ("linear_attention_recurrent", TOKENS, {}),
    "linear-recurrent-continued": ("linear_attention_recurrent", [*TOKENS, *SUMS], {}),
    "linear-chunked": ("linear_attention_chunked", TOKENS, {}),
    "linear-chunked-continued": ("linear_attention_chunked", [*TOKENS, *SUMS], {"chunk": 3}),
    "gated-parallel": ("gated_linear_attention_parallel", FADING, {}),
    "gated-recurrent": ("gated_linear_attention_recurrent", FADING, {}),
    "gated-recurrent-continued": ("gated_linear_attention_recurrent", [*FADING, *STATE], {}),
    "gated-chunked": ("gated_linear_attention_chunked", FADING, {}),
    "gated-chunked-continued": (
        "gated_linear_attention_chunked",
        [*FADING, *STATE],
        {"chunk": 3},
    ),
    "delta-recurrent": ("delta_rule_recurrent", FADING, {}),
    "delta-recurrent-continued": ("delta_rule_recurrent", [*FADING, *STATE], {}),
    "delta-chunked": ("delta_rule_chunked", FADING, {}),
    "delta-chunked-continued": ("delta_rule_chunked", [*FADING, *STATE], {"chunk": 3}),
    "layer-norm": ("layer_norm", arrays((2, 5, 7), (7,), (7,)), {"eps": 0.1}),
    "layer-norm-plain": ("layer_norm", arrays((5, 7)), {}),
    "rms-norm": ("rms_norm", arrays((2, 5, 7), (7,)), {"eps": 0.1}),
    "rms-norm-plain": ("rms_norm", arrays((5, 7)), {}),
    "relu": ("relu", arrays((5, 7)), {}),
    "gelu": ("gelu", arrays((5, 7)), {}),
    "silu": ("silu", arrays((5, 7)), {}),
    "feed-forward": ("feed_forward", arrays((2, 5, 3), (3, 7), (7,), (7, 4), (4,)), {}),
    "feed-forward-gelu": (
        "feed_forward",
        arrays((5, 3), (3, 7), (7,), (7, 4), (4,)),
        {"activation": "gelu"},
    ),
    "swiglu": ("swiglu", arrays((2, 5, 3), (3, 7), (3, 7), (7, 4)), {}),
    "pre-norm": ("pre_norm", arrays((5, 7)), {}),
    "post-norm": ("post_norm", arrays((5, 7)), {}),
    "encoder-layer": ("encoder_layer", [ROWS[0], *layer_weights(ENCODER)], {"mask": masked(5, 5)}),
    "encoder-layer-pre-norm": (
        "encoder_layer",
        [ROWS[0], *layer_weights(ENCODER)],
        {"residual": "pre_norm", "activation": "gelu", "eps": 0.1},
    ),
    "decoder-layer": (
        "decoder_layer",
        [*ROWS, *layer_weights(DECODER)],
        {"mask": masked(5, 5), "memory_mask": masked(5, 9)},
    ),
    "encoder": ("encoder", [ROWS[0], *layer_weights(ENCODER, 2)], {"mask": masked(5, 5)}),
    "decoder": (
        "decoder",
        [*ROWS, *layer_weights(DECODER, 2)],
        {"memory_mask": masked(5, 9), "residual": "pre_norm", "norm": "layer_norm"},
    ),
    "rotary": ("rotary", arrays((2, 3, 5, 8)), {"positions": np.arange(40, 45)}),
    "rotary-batches-base": (
        "rotary",
        arrays((2, 3, 5, 8)),
        {"positions": np.arange(10).reshape(2, 1, 5), "base": 50.0},
    ),
    "rotary-interleaved": (
        "rotary_interleaved",
        arrays((2, 3, 5, 8)),
        {"positions": np.arange(40, 45), "base": 50.0},
    ),
    "rotate-halves": ("rotate_halves", arrays((2, 3, 5, 8), (5, 4), (5, 4)), {}),
    "rotate-halves-broadcast": (
        "rotate_halves",
        arrays((2, 3, 5, 8), (2, 1, 1, 4), (1, 5, 1)),
        {},
    ),
    "rotate-neighbors": ("rotate_neighbors", arrays((2, 3, 5, 8), (5, 4), (5, 4)), {}),
    "rotate-neighbors-broadcast": (
        "rotate_neighbors",
        arrays((2, 3, 5, 8), (2, 1, 1, 4), (1, 5, 1)),
        {},
    ),
    "relative-bias": (
        "relative_bias",
        arrays((8, 3)),
        {"queries": 5, "keys": 9, "max_distance": 7},
    ),
    "relative-bias-past": (
        "relative_bias",
        arrays((5, 3)),
        {"queries": 9, "keys": 7, "max_distance": 6, "bidirectional": False},
    ),
}

# name of the function, all its arguments, what fast takes besides: these are given no floating
# array, and answer in float64 or integers
EXACT = {
    "sinusoidal": ("sinusoidal_positions", (7, 6), {"dtype": torch.float64}),
    "rotary-angles": ("rotary_angles", (np.arange(10).reshape(2, 5), 6), {}),
    "rotary-angles-between": ("rotary_angles", (np.array([0.5, 2.25]), 6, 50.0), {}),
    "alibi-slopes": ("alibi_slopes", (12,), {"dtype": torch.float64}),
    "alibi-bias": ("alibi_bias", (6, 5, 9), {"dtype": torch.float64}),
    "alibi-bias-few-keys": ("alibi_bias", (6, 9, 5), {"dtype": torch.float64}),
    "relative-buckets": ("relative_buckets", (40, 300), {}),
    "relative-buckets-few-keys": ("relative_buckets", (300, 40, 12, 50), {}),
}


def function(library, name):
    """Return the function of `library` that takes the arrays and options of a case as they are."""
    arrange = ARRANGED.get(name, lambda library, *given: given)

    def call(*given, **options):
        options = {
            key: getattr(library, value) if isinstance(value, str) else value
            for key, value in options.items()
        }
        return getattr(library, name)(*arrange(library, *given), **options)

    return call


def to_torch(argument, device, dtype=None):
    if not isinstance(argument, np.ndarray):
        return argument
    tensor = torch.from_numpy(argument).to(device)
    return tensor if tensor.dtype == torch.bool or dtype is None else tensor.to(dtype)


def is_class(library, name, base=object):
    value = getattr(library, name)
    return inspect.isclass(value) and issubclass(value, base)


def test_the_two_have_the_same_names():
    modules = {name for name in fast.__all__ if is_class(fast, name, torch.nn.Module)}
    assert set(fast.__all__) - modules == set(reference.__all__)
    assert sorted(fast.__all__) == fast.__all__
    assert sorted(reference.__all__) == reference.__all__


@pytest.mark.parametrize("name", reference.__all__)
def test_the_two_have_the_same_arguments(name):
    ours, theirs = (
        [
            # A function by default is the library's own: the two have one name.
            (
                parameter.name,
                getattr(parameter.default, "__name__", parameter.default),
                parameter.kind,
            )
            for parameter in inspect.signature(getattr(library, name)).parameters.values()
            if parameter.name not in ("device", "dtype")
        ]
        for library in (reference, fast)
    )
    assert ours == theirs


CLASSES = [name for name in reference.__all__ if is_class(reference, name)]


@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_the_two_have_the_same_methods(name):
    ours, theirs = (
        {
            method: [
                (parameter.name, parameter.default, parameter.kind)
                for parameter in inspect.signature(value).parameters.values()
            ]
            if callable(value)
            else type(value)
            for method, value in inspect.getmembers(getattr(library, name))
            if not method.startswith("_")
        }
        for library in (reference, fast)
    )
    assert ours == theirs
    assert ours, f"{name} has no public method"


def test_every_function_of_numbers_has_a_case():
    covered = {case[0] for case in (*CASES.values(), *EXACT.values())}
    masks = {name for name in reference.__all__ if name.endswith(("_mask", "_mod"))}
    # What a cache holds changes from call to call: test_cache.py compares the two.
    assert covered == set(reference.__all__) - masks - {*CLASSES, "cached_attention"}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values(case, dtype, device):
    name, given, options = CASES[case]
    tensors = [to_torch(array, device, dtype) for array in given]
    # The reference sees the numbers as rounded to dtype, so that only arithmetic is compared.
    rounded = [tensor.to("cpu", torch.float64).numpy() for tensor in tensors]
    exact = outputs(function(reference, name)(*rounded, **options))
    torch_options = {key: to_torch(value, device) for key, value in options.items()}
    ours = outputs(function(fast, name)(*tensors, **torch_options))
    for number, output in enumerate(ours):
        is_state = number > 0 and name.endswith(("_recurrent", "_chunked", "partial_attention"))
        assert output.dtype == (torch.promote_types(dtype, torch.float32) if is_state else dtype)
        assert output.device == tensors[0].device
    if dtype == torch.float64:
        for output, expected in zip(ours, exact, strict=True):
            assert_equal64(output, expected)
        return
    if dtype == torch.bfloat16:
        # NumPy has no bfloat16: the plain form is the exact one, rounded once at the end.
        plain = [torch.from_numpy(np.asarray(output)).to(dtype) for output in exact]
        plain = [x * (1 + 2 * torch.finfo(dtype).eps) for x in plain]  # and once on the way there
    else:
        numpy_dtype = {torch.float32: np.float32, torch.float16: np.float16}[dtype]
        halves = (array.astype(numpy_dtype) for array in rounded)
        plain = outputs(function(reference, name)(*halves, **options))
        assert [str(x.dtype) for x in plain] == [dtype_name(x.dtype) for x in ours]
    for output, plain_output, expected in zip(ours, plain, exact, strict=True):
        assert_as_exact_as_plain(output, plain_output, expected)


@pytest.mark.parametrize("case", EXACT)
def test_exact_values(case, device):
    name, given, options = EXACT[case]
    if not any(isinstance(argument, np.ndarray) for argument in given):
        options = {**options, "device": device}
    ours = getattr(fast, name)(*(to_torch(argument, device) for argument in given), **options)
    exact = getattr(reference, name)(*given)
    assert ours.device.type == torch.device(device).type
    assert ours.dtype == torch.from_numpy(exact).dtype
    assert_equal64(ours, exact)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_once(dtype, device):
    generator = torch.Generator().manual_seed(0)
    q, k = (3 * torch.randn(40, 8, generator=generator) for _ in range(2))
    x = 9 * torch.randn(40, 30, generator=generator)
    rows = 8 * torch.eye(30).expand(40, 30, 30)
    for name, given, options in (
        ("softmax", (x,), {"temperature": 3.0}),
        ("entropy", (fast.softmax(x),), {}),
        ("softmax_backward", (fast.softmax(x / 9), x), {}),
        ("attention_weights", (q, k), {}),
        ("attention_weights", (q, k), {"softcap": 3.0}),
        ("kernel_weights", (q, k), {}),
        ("attention_pooling", (rows, x[0]), {"scale": 0.7}),
        ("layer_norm", (x, x[0], x[1]), {}),
        ("rms_norm", (x, x[0]), {}),
        ("silu", (x,), {}),
        ("rotary", (x,), {"positions": torch.arange(40, device=device)}),
        ("rotary_interleaved", (x,), {"positions": torch.arange(40, device=device)}),
    ):
        halves = [tensor.to(device, dtype) for tensor in given]
        once = function(fast, name)(*(half.double() for half in halves), **options).to(dtype)
        ours = function(fast, name)(*halves, **options)
        limits = torch.finfo(dtype)
        torch.testing.assert_close(ours, once, rtol=1.01 * limits.eps, atol=limits.tiny)


@pytest.mark.parametrize("case", CASES)
def test_inputs_are_left_alone(case):
    name, given, options = CASES[case]
    for library, convert in ((reference, np.copy), (fast, torch.tensor)):
        inputs = [convert(array) for array in given]
        others = {
            key: convert(value) if isinstance(value, np.ndarray) else value
            for key, value in options.items()
        }
        function(library, name)(*inputs, **others)
        for array, before in zip(inputs, given, strict=True):
            np.testing.assert_array_equal(array, before)
        for key, before in options.items():
            np.testing.assert_array_equal(others[key], before)


@pytest.mark.parametrize("case", CASES)
def test_the_default_device_plays_no_part(case):
    name, given, options = CASES[case]
    tensors = [torch.from_numpy(array) for array in given]
    torch_options = {key: to_torch(value, "cpu") for key, value in options.items()}
    expected = outputs(function(fast, name)(*tensors, **torch_options))
    with torch.device("meta"):
        ours = outputs(function(fast, name)(*tensors, **torch_options))
    for output, wanted in zip(ours, expected, strict=True):
        assert torch.equal(output, wanted)


@pytest.mark.usefixtures("unchecked")
def test_attention_compiles():
    q, k, v = (torch.from_numpy(array) for array in ATTENTION)
    mask = torch.from_numpy(masked(5, 9))
    compiled = torch.compile(fast.attention, backend="eager", fullgraph=True)
    assert_equal64(compiled(q, k, v, mask), fast.attention(q, k, v, mask))
