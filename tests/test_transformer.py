"""Transformer blocks: by hand, against torch's own layers, laws, training, bad arguments."""

import copy
import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import converted, refuses
from tolerance import as_float64, assert_equal64
from torch import nn

from attn_course import fast, reference

LIBRARIES = [reference, fast]
FLOATS = [np.float16, np.float32, np.float64]
BATCH, LENGTH, MEMORY, WIDTH, HEADS, HIDDEN = 3, 5, 7, 6, 2, 11

sizes = st.integers(1, 9)
seeds = st.integers(0, 999)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def by_torch(function, *arrays, **options):
    return function(*(torch.from_numpy(array) for array in arrays), **options).numpy()


# Norms


@pytest.mark.parametrize("library", LIBRARIES)
def test_norms_by_hand(library):
    x, weight, bias = converted(
        library, np.array([[0.0, 3.0, 9.0]]), np.array([1.0, 2.0, -1.0]), np.array([0.0, 0.0, 5.0])
    )
    # mean 4, variance (16 + 1 + 25) / 3 = 14; the mean of squares is 90 / 3 = 30
    root = math.sqrt(14 + 2)
    assert_equal64(library.layer_norm(x, weight, bias, 2.0), [[-4 / root, -2 / root, 5 - 5 / root]])
    assert_equal64(library.layer_norm(x, eps=2.0), [[-4 / root, -1 / root, 5 / root]])
    assert_equal64(library.layer_norm(x, bias=bias, eps=2.0), [[-1, -0.25, 6.25]])
    assert_equal64(library.rms_norm(x, weight, 6.0), [[0, 1, -1.5]])
    assert_equal64(library.rms_norm(x, eps=6.0), [[0, 0.5, 1.5]])


def test_norms_have_their_usual_eps():
    x = np.array([[1e-3, -1e-3]])
    assert_equal64(reference.layer_norm(x), x / math.sqrt(1e-6 + 1e-5))
    assert_equal64(reference.rms_norm(x), x / math.sqrt(1e-6 + 1e-6))


@given(seeds, sizes, st.floats(-100, 100), st.floats(0.1, 100))
def test_layer_norm_ignores_shift_and_scale_and_rms_norm_scale(seed, width, shift, scale):
    x, weight, bias = normal(seed, 4, width + 1), normal(1, width + 1), normal(2, width + 1)
    layer_norm = partial(reference.layer_norm, weight=weight, bias=bias, eps=1e-20)
    np.testing.assert_allclose(layer_norm(scale * x + shift), layer_norm(x), atol=1e-8)
    rms_norm = partial(reference.rms_norm, weight=weight, eps=1e-20)
    assert_equal64(rms_norm(scale * x), rms_norm(x))
    centered = x - x.mean(axis=-1, keepdims=True)
    assert_equal64(rms_norm(centered) + bias, layer_norm(x))
    assert not np.allclose(rms_norm(x + 9), rms_norm(x))


@pytest.mark.parametrize("width", [1, 2, 7])
def test_norms_are_torchs(width):
    x, weight, bias = 3 * normal(0, 2, 5, width) + 1, normal(1, width), normal(2, width)
    expected = by_torch(lambda x, w, b: F.layer_norm(x, (width,), w, b, 1e-5), x, weight, bias)
    assert_equal64(reference.layer_norm(x, weight, bias), expected)
    expected = by_torch(lambda x, w: F.rms_norm(x, (width,), w, 1e-6), x, weight)
    assert_equal64(reference.rms_norm(x, weight), expected)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_of_half_precision_do_not_overflow(library, name):
    x = np.array([[3e4, -3e4, 6e4], [1e-4, -1e-4, 2e-4]], np.float16)  # squares beyond float16
    exact = getattr(reference, name)(x.astype(np.float64))
    out = getattr(library, name)(*converted(library, x))
    assert out.dtype == converted(library, x)[0].dtype
    np.testing.assert_allclose(as_float64(out), exact, rtol=1e-3)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_at_the_edge(library, dtype, name):
    norm = getattr(library, name)
    (x,) = converted(library, np.array([[np.nan, 1], [np.inf, 1], [5, 5], [0, 0]], dtype))
    out = as_float64(norm(x))
    assert np.isnan(out[0]).all()
    assert np.isnan(out[1, 0])
    np.testing.assert_allclose(out[2], [0, 0] if name == "layer_norm" else [1, 1], atol=1e-6)
    np.testing.assert_array_equal(out[3], 0)
    assert tuple(norm(x[:0]).shape) == (0, 2)
    assert tuple(norm(x[2]).shape) == (2,)


# Activations

POINTS = np.array([-np.inf, -1e4, -50, -3, -1, -1e-3, 0, 1e-3, 1, 3, 50, 1e4, np.inf, np.nan])


@pytest.mark.parametrize("library", LIBRARIES)
def test_activations_by_hand(library):
    (x,) = converted(library, np.array([-1.0, 0.0, 1.0, 2.0]))
    below = [0.15865525393145707, 0.5, 0.8413447460685429, 0.9772498680518208]  # of the normal
    sigmoid = [0.2689414213699951, 0.5, 0.7310585786300049, 0.8807970779778823]
    assert_equal64(library.relu(x), [0, 0, 1, 2])
    assert_equal64(library.gelu(x), np.asarray(x) * below)
    assert_equal64(library.silu(x), np.asarray(x) * sigmoid)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["relu", "gelu", "silu"])
def test_activations_at_the_edge(library, dtype, name):
    (x,) = converted(library, POINTS.astype(dtype))
    function = getattr(library, name)
    out = function(x)
    assert out.dtype == x.dtype
    minus_inf, low, *_, high, inf, nan = as_float64(out)
    assert low == 0
    assert high == 1e4
    if (library, name) != (fast, "gelu"):  # torch's gives inf or nan, by its place in a tensor
        assert inf == np.inf
    assert np.isnan(nan)
    assert minus_inf == 0 if name == "relu" else np.isnan(minus_inf)
    assert_equal64(function(x[2:4].reshape(1, 2, 1))[0, :, 0], out[2:4])
    for empty_or_scalar in (x[:0], x[3:4].reshape(())):
        assert tuple(function(empty_or_scalar).shape) == tuple(empty_or_scalar.shape)


def test_activations_are_torchs():
    x = np.linspace(-12, 12, 997)
    for name in ("relu", "gelu", "silu"):
        assert_equal64(getattr(reference, name)(x), by_torch(getattr(F, name), x))


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "layer_norm", "rms_norm"])
def test_half_precision_is_rounded_once(name):
    x = np.linspace(-12, 12, 997).astype(np.float16)  # exp(12) is beyond float16
    function, limits = getattr(reference, name), np.finfo(np.float16)
    exact = function(x.astype(np.float64))
    np.testing.assert_allclose(function(x), exact, rtol=limits.eps, atol=limits.smallest_subnormal)


def test_gelu_keeps_its_digits_where_it_is_small():
    # x Φ(x) → -φ(x) (1 - 1/x² + 3/x⁴ - ...): by 1 + erf it would be 0 here
    assert reference.gelu(np.array([-10.0])) == pytest.approx(-7.619853024160525e-23, rel=1e-12)


# Feed-forward networks and residuals


@given(seeds, sizes, sizes, sizes)
def test_feed_forward_is_a_sum_over_hidden_units(seed, width, hidden, out):
    x, w_1, b_1 = normal(seed, 4, width), normal(1, width, hidden), normal(2, hidden)
    w_2, b_2 = normal(3, hidden, out), normal(4, out)
    units = [
        np.maximum(0, x @ w_1[:, unit] + b_1[unit])[:, None] * w_2[unit] for unit in range(hidden)
    ]
    assert_equal64(reference.feed_forward(x, w_1, b_1, w_2, b_2), sum(units) + b_2)


@given(seeds, sizes, sizes, sizes)
def test_swiglu_is_a_sum_over_hidden_units(seed, width, hidden, out):
    x, w_gate = normal(seed, 4, width), normal(1, width, hidden)
    w_up, w_down = normal(2, width, hidden), normal(3, hidden, out)
    units = []
    for unit in range(hidden):
        gate = x @ w_gate[:, unit]
        units.append((gate / (1 + np.exp(-gate)) * (x @ w_up[:, unit]))[:, None] * w_down[unit])
    assert_equal64(reference.swiglu(x, w_gate, w_up, w_down), sum(units))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_network_without_hidden_units_gives_its_last_bias(library):
    arrays = [np.ones((2, 3)), np.ones((3, 0)), np.ones(0), np.ones((0, 4)), np.full(4, 7.0)]
    np.testing.assert_array_equal(library.feed_forward(*converted(library, *arrays)), 7)


@pytest.mark.parametrize("library", LIBRARIES)
def test_residuals(library):
    (x,) = converted(library, normal(0, 4, 6))

    def nothing(y):
        return 0 * y

    def double(y):
        return 2 * y

    norm = library.layer_norm
    np.testing.assert_array_equal(library.pre_norm(x, nothing, norm), x)
    np.testing.assert_array_equal(library.post_norm(x, nothing, norm), norm(x))
    np.testing.assert_array_equal(library.pre_norm(x, double, norm), x + 2 * norm(x))
    np.testing.assert_array_equal(library.post_norm(x, double, norm), norm(x + 2 * x))


# The layers, against torch's

OPTIONS = [
    pytest.param(
        dict(norm_first=norm_first, activation=activation, bias=bias),
        id=f"{'pre' if norm_first else 'post'}-{activation}-{'bias' if bias else 'no-bias'}",
    )
    for norm_first, activation, bias in product([False, True], ["relu", "gelu"], [True, False])
]
TORCH_LAYERS = {"encoder": nn.TransformerEncoderLayer, "decoder": nn.TransformerDecoderLayer}
MODULES = {"encoder": fast.EncoderLayer, "decoder": fast.DecoderLayer}
KINDS = sorted(MODULES)
LENGTHS = torch.tensor([LENGTH, 2, 3])
MEMORY_LENGTHS = torch.tensor([1, MEMORY, 4])


def torch_layer(kind, *, seed=0, **options):
    """Return a layer of torch's, in float64, every weight and bias of which matters."""
    torch.manual_seed(seed)
    given = dict(dropout=0.0, batch_first=True, dtype=torch.float64) | options
    layer = TORCH_LAYERS[kind](WIDTH, HEADS, HIDDEN, **given)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def torch_inputs(kind, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shapes = [(BATCH, LENGTH, WIDTH), (BATCH, MEMORY, WIDTH)]
    drawn = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    return drawn[: 2 if kind == "decoder" else 1]


def our_masks(kind):
    """Return causal and padding masks, as ours; those for torch are their opposites."""
    mask = fast.causal_mask(LENGTH, LENGTH) & fast.padding_mask(LENGTHS, LENGTH)
    return [mask, fast.padding_mask(MEMORY_LENGTHS, MEMORY)][: 2 if kind == "decoder" else 1]


def run_torch(kind, layer, inputs):
    shut = ~fast.causal_mask(LENGTH, LENGTH)
    padding = ~fast.padding_mask(LENGTHS, LENGTH)[:, 0, 0]
    memory_padding = ~fast.padding_mask(MEMORY_LENGTHS, MEMORY)[:, 0, 0]
    if kind == "encoder":
        return layer(*inputs, src_mask=shut, src_key_padding_mask=padding)
    return layer(
        *inputs,
        tgt_mask=shut,
        tgt_key_padding_mask=padding,
        memory_key_padding_mask=memory_padding,
    )


def function_options(library, options):
    return dict(
        residual=library.pre_norm if options["norm_first"] else library.post_norm,
        activation=getattr(library, options["activation"]),
    )


def run_function(library, kind, inputs, weights, options, **others):
    arguments = [*inputs, weights, HEADS, *our_masks(kind)]
    if library is reference:
        masks = [mask.numpy() for mask in our_masks(kind)]
        weights = {name: as_float64(weight) for name, weight in weights.items()}
        arguments = [*map(as_float64, inputs), weights, HEADS, *masks]
    function = getattr(library, f"{kind}_layer")
    return function(*arguments, **function_options(library, options), **others)


ATTENTIONS = {"attention": "self_attn", "memory_attention": "multihead_attn"}
NORMS = {
    "encoder": {"attention_norm": "norm1", "feed_forward_norm": "norm2"},
    "decoder": {
        "attention_norm": "norm1",
        "memory_attention_norm": "norm2",
        "feed_forward_norm": "norm3",
    },
}


def under_torchs_names(kind, ours):
    """Return what belongs to the parameters of our module as it would belong to torch's."""
    parts = NORMS[kind] | {"feed_forward.up": "linear1", "feed_forward.down": "linear2"}
    parts |= {f"{name}.output": f"{origin}.out_proj" for name, origin in ATTENTIONS.items()}
    theirs = {}
    for name, value in ours.items():
        part, _, which = name.rpartition(".")
        if part in parts:
            theirs[f"{parts[part]}.{which}"] = value
        else:
            attention = ATTENTIONS[part.split(".")[0]]
            theirs.setdefault(f"{attention}.in_proj_{which}", []).append(value)
    return {n: torch.cat(v) if isinstance(v, list) else v for n, v in theirs.items()}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_torchs(kind, options, training):
    layer = torch_layer(kind, layer_norm_eps=0.1, **options).train(training)
    inputs = torch_inputs(kind)
    with torch.no_grad():  # in eval mode torch takes another way, its fast path, only then
        expected = run_torch(kind, layer, inputs)
        ours = MODULES[kind].from_torch(layer)(*inputs, *our_masks(kind))
    assert_equal64(ours, expected)
    for library in LIBRARIES:
        out = run_function(library, kind, inputs, layer.state_dict(), options, eps=0.1)
        assert_equal64(out, expected)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_torchs(kind, options):
    layer = torch_layer(kind, **options)
    ours = MODULES[kind].from_torch(layer)
    inputs = [x.requires_grad_() for x in torch_inputs(kind)]
    names, parameters = zip(*layer.named_parameters(), strict=True)
    out = run_torch(kind, layer, inputs)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype)
    expected = torch.autograd.grad(out, [*inputs, *parameters], upstream)

    out = run_function(fast, kind, inputs, dict(layer.named_parameters()), options)
    actual = torch.autograd.grad(out, [*inputs, *parameters], upstream)
    for theirs, mine in zip(expected, actual, strict=True):
        assert_equal64(mine, theirs)

    own_names, own_parameters = zip(*ours.named_parameters(), strict=True)
    out = ours(*inputs, *our_masks(kind))
    actual = torch.autograd.grad(out, [*inputs, *own_parameters], upstream)
    for theirs, mine in zip(expected[: len(inputs)], actual[: len(inputs)], strict=True):
        assert_equal64(mine, theirs)
    renamed = under_torchs_names(kind, dict(zip(own_names, actual[len(inputs) :], strict=True)))
    theirs = dict(zip(names, expected[len(inputs) :], strict=True))
    assert renamed.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert_equal64(renamed[name], gradient)


@pytest.mark.parametrize("norm", [None, "norm"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_stacks_are_torchs(norm, norm_first):
    torch.manual_seed(3)
    for kind, stack in (("encoder", nn.TransformerEncoder), ("decoder", nn.TransformerDecoder)):
        layer = torch_layer(kind, norm_first=norm_first)
        last = None if norm is None else nn.LayerNorm(WIDTH, dtype=torch.float64)
        # nested tensors would put zeros in the place of padding
        options = dict(enable_nested_tensor=False) if kind == "encoder" else {}
        theirs = stack(layer, 3, last, **options)
        for parameter in theirs.parameters():  # torch's stack starts as copies of one layer
            nn.init.normal_(parameter, std=0.5)
        inputs = torch_inputs(kind)
        if kind == "encoder":
            padding = ~fast.padding_mask(LENGTHS, LENGTH)[:, 0, 0]
            expected = theirs(*inputs, ~fast.causal_mask(LENGTH, LENGTH), padding)
        else:
            expected = run_torch(kind, theirs, inputs)
        ours = {"encoder": fast.Encoder, "decoder": fast.Decoder}[kind].from_torch(theirs)
        assert_equal64(ours(*inputs, *our_masks(kind)), expected)
        for library in LIBRARIES:
            layers = [
                dict(zip(part.state_dict(), state_arrays(library, part), strict=True))
                for part in theirs.layers
            ]
            final = None
            if last is not None:
                weight, bias = state_arrays(library, theirs.norm)
                final = partial(library.layer_norm, weight=weight, bias=bias)
            out = getattr(library, kind)(
                *arrays_for(library, inputs),
                layers,
                HEADS,
                *arrays_for(library, our_masks(kind)),
                residual=library.pre_norm if norm_first else library.post_norm,
                norm=final,
            )
            assert_equal64(out, expected)


def arrays_for(library, tensors):
    return [tensor.numpy() if library is reference else tensor for tensor in tensors]


def state_arrays(library, module):
    return arrays_for(library, module.state_dict().values())


# from_torch


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_from_torch_keeps_what_the_layer_is(kind, dtype, batch_first):
    layer = torch_layer(kind, dtype=dtype, batch_first=batch_first, dropout=0.3)
    before = torch.get_rng_state()
    ours = MODULES[kind].from_torch(layer)
    assert torch.equal(torch.get_rng_state(), before)
    assert ours.training
    assert not MODULES[kind].from_torch(layer.eval()).training
    assert all(parameter.dtype == dtype for parameter in ours.parameters())
    assert {m.p for m in ours.modules() if isinstance(m, nn.Dropout)} == {0.3}
    inputs = torch_inputs(kind, dtype)
    out = ours.eval()(*inputs)
    before = out.clone()
    with torch.no_grad():
        theirs = layer(*(x if batch_first else x.transpose(0, 1) for x in inputs))
    expected = theirs if batch_first else theirs.transpose(0, 1)
    tolerance = 20 * torch.finfo(dtype).eps  # of outputs around 1, after some ten roundings
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(ours(*inputs), before)


@pytest.mark.parametrize("activation", [F.relu, nn.ReLU(), F.gelu, nn.GELU(), F.silu, nn.PReLU()])
def test_from_torch_takes_any_activation(activation):
    layer = torch_layer("encoder", activation=activation)
    ours = fast.EncoderLayer.from_torch(layer.double())
    (x,) = torch_inputs("encoder")
    assert_equal64(ours(x), layer(x))
    shared = {id(p) for p in ours.parameters()} & {id(p) for p in layer.parameters()}
    assert not shared


def with_different_dropout():
    layer = torch_layer("encoder")
    layer.dropout2.p = 0.5
    return layer


@pytest.mark.usefixtures("unchecked")
def test_from_torch_refuses_what_it_cannot_express():
    for cls in (fast.EncoderLayer, fast.DecoderLayer, fast.Encoder, fast.Decoder):
        with pytest.raises(
            TypeError, match=r"is a torch\.nn.*Linear, expected a torch\.nn.*Transf"
        ):
            cls.from_torch(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"expected a torch\.nn.*TransformerDecoderLayer"):
        fast.DecoderLayer.from_torch(torch_layer("encoder"))
    with pytest.raises(ValueError, match=r"layer has dropout \[0.0, 0.5\]"):
        fast.EncoderLayer.from_torch(with_different_dropout())
    layer = torch_layer("encoder")
    layer.self_attn = nn.MultiheadAttention(WIDTH, HEADS, add_zero_attn=True, dtype=torch.float64)
    with pytest.raises(ValueError, match="add_zero_attn"):
        fast.EncoderLayer.from_torch(layer)


# Laws of the layers

LLAMA = dict(
    bias=False,
    residual=fast.pre_norm,
    norm=partial(nn.RMSNorm, eps=1e-6),
    feed_forward=fast.SwiGLU,
)


def weights_of(kind, seed=0):
    return {
        name: weight.numpy() for name, weight in torch_layer(kind, seed=seed).state_dict().items()
    }


ENCODERS, DECODERS = ([weights_of(kind, seed) for seed in range(2)] for kind in MODULES)


@settings(max_examples=15)
@given(seeds, st.sampled_from(["pre_norm", "post_norm"]))
def test_an_encoder_without_positions_is_equivariant_to_permutations(seed, residual):
    layers = ENCODERS
    x = normal(seed, LENGTH, WIDTH)
    order = np.random.default_rng(seed).permutation(LENGTH)
    encoder = partial(
        reference.encoder, layers=layers, heads=HEADS, residual=getattr(reference, residual)
    )
    assert_equal64(encoder(x[order]), encoder(x)[order])


@settings(max_examples=15)
@given(seeds, st.integers(0, LENGTH - 1))
def test_a_decoder_sees_no_future_and_all_of_its_memory(seed, changed):
    layers = DECODERS
    x, memory = normal(seed, LENGTH, WIDTH), normal(seed + 1, MEMORY, WIDTH)
    mask = reference.causal_mask(LENGTH, LENGTH)

    def decoder(x, memory):
        return reference.decoder(x, memory, layers, HEADS, mask)

    out = decoder(x, memory)
    other = x.copy()
    other[changed] += normal(seed + 2, WIDTH)
    after = decoder(other, memory)
    assert_equal64(after[:changed], out[:changed])
    assert (np.abs(after[changed:] - out[changed:]).max(axis=-1) > 1e-9).all()
    other = memory.copy()
    other[-1] += normal(seed + 3, WIDTH)
    assert (np.abs(decoder(x, other) - out).max(axis=-1) > 1e-9).all()


@pytest.mark.parametrize("residual", [fast.pre_norm, fast.post_norm])
def test_a_causal_stack_of_modules_sees_no_future(residual, device):
    torch.manual_seed(0)
    layers = [
        fast.EncoderLayer(
            12, 6, HIDDEN, kv_heads=2, rotate=fast.rotary, **LLAMA | {"residual": residual}
        )
        for _ in range(2)
    ]
    model = fast.Encoder(layers, nn.RMSNorm(12)).to(device, torch.float64)
    x = torch.randn(2, LENGTH, 12, dtype=torch.float64, device=device)
    mask = fast.causal_mask(LENGTH, LENGTH, device=device)
    out = model(x, mask)
    assert out.device == x.device
    for n in range(1, LENGTH):
        assert_equal64(model(x[:, :n], mask[:n, :n]), out[:, :n])
    assert not torch.allclose(model(x), out)


def test_a_llama_layer_is_made_of_the_functions_of_the_reference():
    torch.manual_seed(0)
    width, heads, kv_heads = 12, 6, 2
    layer = fast.EncoderLayer(
        width, heads, HIDDEN, kv_heads=kv_heads, rotate=fast.rotary, **LLAMA
    ).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    w = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    assert not any("bias" in name for name in w)
    x = normal(4, BATCH, LENGTH, width)
    mask = reference.causal_mask(LENGTH, LENGTH)
    bias = reference.alibi_bias(heads, LENGTH, LENGTH)
    positions = np.arange(LENGTH)

    def split(y, name, heads):
        return reference.split_heads(y @ w[f"attention.{name}.weight"].T, heads)

    y = reference.rms_norm(x, w["attention_norm.weight"])
    q = reference.rotary(split(y, "query", heads), positions)
    k = reference.rotary(split(y, "key", kv_heads), positions)
    found = reference.grouped_query_attention(q, k, split(y, "value", kv_heads), mask, bias=bias)
    expected = x + reference.merge_heads(found) @ w["attention.output.weight"].T
    y = reference.rms_norm(expected, w["feed_forward_norm.weight"])
    matrices = [w[f"feed_forward.{name}.weight"].T for name in ("gate", "up", "down")]
    expected = expected + reference.swiglu(y, *matrices)

    x, mask, bias = converted(fast, x, mask, bias)
    assert_equal64(layer(x, mask, bias=bias), expected)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_may_look_nowhere_get_finite_numbers(library, kind):
    inputs = arrays_for(library, torch_inputs(kind))
    weights = dict(
        zip(weights_of(kind), converted(library, *weights_of(kind).values()), strict=True)
    )
    function = getattr(library, f"{kind}_layer")
    masks = [False] * len(inputs)
    out = as_float64(function(*inputs, weights, HEADS, *masks))
    assert np.isfinite(out).all()
    changed = [inputs[0], *(x + 1 for x in inputs[1:])]
    assert_equal64(function(*changed, weights, HEADS, *masks), out)
    assert not np.allclose(as_float64(function(*inputs, weights, HEADS)), out)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("batch", "i", "j"), [((), 1, 1), ((2, 4), 3, 1), ((2,), 0, 3), ((1,), 2, 0)]
)
def test_any_number_of_axes_and_rows(library, batch, i, j):
    x, memory = converted(library, normal(0, *batch, i, WIDTH), normal(1, *batch, j, WIDTH))
    weights = dict(
        zip(weights_of("decoder"), converted(library, *weights_of("decoder").values()), strict=True)
    )
    out = as_float64(library.decoder_layer(x, memory, weights, HEADS))
    assert out.shape == (*batch, i, WIDTH)
    for index in np.ndindex(*batch):
        assert_equal64(library.decoder_layer(x[index], memory[index], weights, HEADS), out[index])


@pytest.mark.parametrize("library", LIBRARIES)
def test_inputs_need_not_be_contiguous(library):
    weights = weights_of("encoder")
    strided = {name: np.repeat(weight, 2, axis=-1)[..., ::2] for name, weight in weights.items()}
    x = normal(0, LENGTH, BATCH, WIDTH).swapaxes(0, 1)
    arrays = converted(library, x, *strided.values())
    out = library.encoder_layer(arrays[0], dict(zip(weights, arrays[1:], strict=True)), HEADS)
    assert_equal64(out, reference.encoder_layer(x.copy(), weights, HEADS))


# Modules


@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward_modules_are_the_functions(bias, device):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, device=device)
    network = fast.FeedForward(3, 7, fast.gelu, bias=bias).to(device)
    up, down = network.up, network.down
    zeros = (x.new_zeros(7), x.new_zeros(3))
    b_1, b_2 = (up.bias, down.bias) if bias else zeros
    expected = fast.feed_forward(x, up.weight.T, b_1, down.weight.T, b_2, fast.gelu)
    torch.testing.assert_close(network(x), expected)
    gated = fast.SwiGLU(3, 7).to(device)
    matrices = (gated.gate.weight.T, gated.up.weight.T, gated.down.weight.T)
    torch.testing.assert_close(gated(x), fast.swiglu(x, *matrices))
    assert len(list(gated.parameters())) == 3
    assert len(list(fast.SwiGLU(3, 7, bias=True).parameters())) == 6


@pytest.mark.parametrize("make", [fast.FeedForward, partial(fast.SwiGLU, bias=True)])
def test_dropout_acts_on_hidden_units(make):
    torch.manual_seed(0)
    network, x = make(6, 7, dropout=1.0), torch.randn(2, 5, 6)
    assert torch.equal(network(x), network.down.bias.expand_as(x))
    assert not torch.allclose(network.eval()(x), network.down.bias.expand_as(x))


@pytest.mark.parametrize("residual", [fast.pre_norm, fast.post_norm])
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_on_what_is_added(kind, residual):
    torch.manual_seed(0)
    layer = MODULES[kind](WIDTH, HEADS, HIDDEN, dropout=0.9, residual=residual)
    inputs = torch_inputs(kind, torch.float32)
    assert not torch.equal(layer(*inputs), layer(*inputs))
    assert torch.equal(layer.eval()(*inputs), layer(*inputs))
    layer.train()
    layer.dropout.p = 1.0
    expected = inputs[0]
    if residual is fast.post_norm:
        for norm in NORMS[kind]:
            expected = layer.get_submodule(norm)(expected)
    torch.testing.assert_close(layer(*inputs), expected)
    rates = [m.p for m in layer.modules() if isinstance(m, nn.Dropout) and m is not layer.dropout]
    assert rates == [0.9] * len(inputs) + [0.9]  # in each attention and in the network


@pytest.mark.usefixtures("unchecked")
def test_modules_refuse_inputs_that_do_not_fit():
    x, memory = torch.zeros(2, 5, 6), torch.zeros(2, 7, 6)
    for residual in (fast.pre_norm, fast.post_norm):
        encoder = fast.EncoderLayer(6, 2, 3, residual=residual)
        decoder = fast.DecoderLayer(6, 2, 3, residual=residual)
        for module in (fast.FeedForward(6, 2), fast.SwiGLU(6, 2), encoder, decoder):
            others = [memory] * (module is decoder)
            with pytest.raises(ValueError, match=r"^x has shape \(2, 5, 7\), expected rows of wid"):
                module(torch.zeros(2, 5, 7), *others)
            with pytest.raises(TypeError, match=r"^x has dtype torch\.int64"):
                module(x.long(), *others)
            with pytest.raises(TypeError, match=r"^x is a list"):
                module([1.0], *others)
        with pytest.raises(
            ValueError, match=r"^x has shape \(6,\), expected \(\.\.\., length, width"
        ):
            encoder(torch.zeros(6))
        with pytest.raises(ValueError, match=r"^mask has shape \(3, 5, 5\)"):
            encoder(torch.zeros(3, 5, 6), torch.ones(3, 5, 5, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"^memory has shape \(1, 7, 6\)"):
            decoder(x, memory[:1])
        with pytest.raises(TypeError, match=r"^memory has dtype torch\.float64"):
            decoder(x, memory.double())
        with pytest.raises(ValueError, match=r"^memory_mask has shape \(5, 5\)"):
            decoder(x, memory, True, torch.ones(5, 5, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"^bias has shape"):
            decoder(x, memory, bias=torch.zeros(5, 7))


def test_modules_start_at_the_scale_of_their_inputs():
    torch.manual_seed(0)
    width, hidden = 200, 800
    network = fast.FeedForward(width, hidden)
    for linear, fan_in in ((network.up, width), (network.down, hidden)):
        for parameter in (linear.weight, linear.bias):
            assert parameter.abs().max() <= 1 / math.sqrt(fan_in)
        assert abs(linear.weight.std() * math.sqrt(3 * fan_in) - 1) < 0.02
    x = torch.randn(4, 30, width)
    layers = [fast.EncoderLayer(width, 4, hidden, residual=fast.pre_norm) for _ in range(6)]
    out = fast.Encoder(layers)(x)
    assert 1 < out.std() < 2  # each step adds little to what came in
    assert 0.99 < fast.EncoderLayer(width, 4, hidden)(x).std() < 1.01


@pytest.mark.parametrize("residual", [fast.pre_norm, fast.post_norm])
def test_modules_save_and_load(residual):
    def model(seed):
        torch.manual_seed(seed)
        options = dict(kv_heads=1, rotate=fast.rotary) | LLAMA | dict(residual=residual)
        encoder = fast.Encoder([fast.EncoderLayer(8, 2, 11, **options) for _ in range(2)])
        decoder = fast.Decoder(
            [fast.DecoderLayer(8, 2, 11, residual=residual) for _ in range(2)], nn.LayerNorm(8)
        )
        return nn.ModuleList([encoder, decoder])

    first, second = model(0), model(1)
    x = torch.randn(2, 5, 8)

    def run(modules):
        encoder, decoder = modules
        return decoder(x, encoder(x))

    assert not torch.allclose(run(first), run(second))
    second.load_state_dict(first.state_dict())
    assert torch.equal(run(first), run(second))
    assert torch.equal(run(copy.deepcopy(first)), run(first))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["encoder", "decoder", "function"])
def test_modules_and_functions_compile(kind):
    torch.manual_seed(0)
    x, memory, mask = torch.randn(2, 5, 8), torch.randn(2, 7, 8), fast.causal_mask(5, 5)
    if kind == "encoder":
        layer = fast.EncoderLayer(8, 2, 11, kv_heads=1, rotate=fast.rotary, **LLAMA)
        function, arguments = fast.Encoder([layer], nn.RMSNorm(8)), (x, mask)
    elif kind == "decoder":
        function, arguments = fast.Decoder([fast.DecoderLayer(8, 2, 11)]), (x, memory, mask)
    else:
        weights = nn.TransformerEncoderLayer(8, 2, 11).state_dict()
        function, arguments = fast.encoder_layer, (x, weights, 2, mask)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), function(*arguments))


class NextToken(nn.Module):
    """A decoder-only model of Llama's kind."""

    def __init__(self, tokens, width):
        super().__init__()
        options = dict(kv_heads=2, rotate=fast.rotary) | LLAMA
        layers = [fast.EncoderLayer(width, 4, 2 * width, **options) for _ in range(2)]
        self.embedding = nn.Embedding(tokens, width)
        self.stack = fast.Encoder(layers, nn.RMSNorm(width))
        self.output = nn.Linear(width, tokens, bias=False)

    def forward(self, tokens):
        n = tokens.shape[-1]
        mask = fast.causal_mask(n, n, device=tokens.device)
        return self.output(self.stack(self.embedding(tokens), mask))


class Translator(nn.Module):
    """The encoder and decoder of 2017, with learned positions."""

    def __init__(self, tokens, width, length):
        super().__init__()
        options = dict(heads=4, hidden=2 * width)
        self.embedding = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(torch.randn(length, width))
        self.encoder = fast.Encoder([fast.EncoderLayer(width, **options)])
        self.decoder = fast.Decoder([fast.DecoderLayer(width, **options)])
        self.output = nn.Linear(width, tokens)

    def forward(self, tokens):
        rows = self.embedding(tokens) + self.positions
        start = self.positions.expand_as(rows)  # nothing but where each output stands
        return self.output(self.decoder(start, self.encoder(rows)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("task", ["say again what came two tokens ago", "reverse"])
def test_models_learn(task, dtype, device):
    torch.manual_seed(0)
    tokens, length, width = 8, 9, 32
    model = NextToken(tokens, width) if "again" in task else Translator(tokens, width, length)
    model.to(device, dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(50):
        x = torch.randint(tokens, (32, length), device=device)
        if "again" in task:
            wanted, predicted = x[:, :-2], model(x)[:, 2:]
        else:
            wanted, predicted = x.flip(-1), model(x)
        loss = F.cross_entropy(predicted.float().flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert abs(losses[0] - math.log(tokens)) < 0.8  # no better than a guess
    assert np.mean(losses[-5:]) < losses[0] / 50
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name


# Bad arguments

X = np.zeros((4, 3))
V3, V4 = np.zeros(3), np.zeros(4)
W34, W43 = np.zeros((3, 4)), np.zeros((4, 3))
ROWS = np.zeros((5, WIDTH))
GOOD = {name: np.zeros(weight.shape) for name, weight in weights_of("encoder").items()}
GOOD_DECODER = {name: np.zeros(weight.shape) for name, weight in weights_of("decoder").items()}


def with_entry(name, value):
    return GOOD | {name: value}


def without(name):
    return {key: value for key, value in GOOD.items() if key != name}


BAD = [
    ("layer_norm", (X, V4), ValueError, r"weight has shape \(4,\), expected \(3,\)"),
    ("layer_norm", (X, V3, V4), ValueError, r"bias has shape \(4,\), expected \(3,\)"),
    ("layer_norm", (X, np.zeros((1, 3))), ValueError, r"weight has shape \(1, 3\)"),
    ("layer_norm", (X, V3, V3, 0.0), ValueError, "eps is 0.0, expected a positive"),
    ("layer_norm", (X, V3, V3, np.nan), ValueError, "eps is nan"),
    ("layer_norm", (X, V3, V3, "1"), TypeError, "eps is a str"),
    ("layer_norm", (X.astype(np.float16), None, None, 1e-60), ValueError, "eps is 1e-60"),
    ("layer_norm", (X.astype(int),), TypeError, "x has dtype .*int64"),
    ("layer_norm", (X, V3.astype(np.float32)), TypeError, "weight has dtype .*float32"),
    ("layer_norm", (X, [1.0]), TypeError, "weight is a list"),
    ("layer_norm", (np.zeros((2, 0)),), ValueError, "x has shape .* width 0"),
    ("rms_norm", (np.array(1.0),), ValueError, r"x has shape \(\)"),
    ("rms_norm", (X, V4), ValueError, r"weight has shape \(4,\)"),
    ("rms_norm", (X, V3, -1.0), ValueError, "eps is -1.0"),
    ("relu", ([1.0],), TypeError, "x is a list"),
    ("gelu", (X.astype(int),), TypeError, "x has dtype"),
    ("silu", (X.astype(bool),), TypeError, "x has dtype"),
    ("feed_forward", (X, W43, V4, W34, V3), ValueError, r"w_1 has shape \(4, 3\), expected \(3, 3"),
    ("feed_forward", (X, W34, V3, W43, V3), ValueError, r"b_1 has shape \(3,\), expected \(4,\)"),
    ("feed_forward", (X, W34, V4, W34, V3), ValueError, r"w_2 has shape \(3, 4\), expected \(4, 4"),
    ("feed_forward", (X, W34, V4, W43, V4), ValueError, r"b_2 has shape \(4,\), expected \(3,\)"),
    ("feed_forward", (X, V3, V4, W43, V3), ValueError, r"w_1 has shape \(3,\), expected \(in, out"),
    ("feed_forward", (X, W34, V4, W43, V3, "relu"), TypeError, "activation is a str"),
    ("feed_forward", (X, W34, None, W43, V3), TypeError, "b_1 is a NoneType"),
    ("swiglu", (X, W34, W43, W43), ValueError, r"w_up has shape \(4, 3\), expected \(3, 4\)"),
    ("swiglu", (X, W43, W34, W43), ValueError, r"w_gate has shape \(4, 3\), expected \(3, 3\)"),
    ("swiglu", (X, W34, W34, W34), ValueError, r"w_down has shape \(3, 4\), expected \(4, 4\)"),
    ("pre_norm", (X, "relu", abs), TypeError, "sublayer is a str, expected a function"),
    ("post_norm", (X, abs, None), TypeError, "norm is a NoneType, expected a function"),
    ("pre_norm", (X.tolist(), abs, abs), TypeError, "x is a list"),
]
test_bad_arguments = refuses(BAD)

BAD_LAYERS = [
    (dict(weights=without("linear1.bias")), ValueError, "weights has no entry 'linear1.bias'"),
    (dict(weights=without("linear1.weight")), ValueError, "weights has no entry 'linear1.weight'"),
    (dict(weights=with_entry("linear3.weight", W34)), ValueError, "an entry 'linear3.weight'"),
    (dict(weights=GOOD_DECODER), ValueError, "weights has an entry 'multihead_attn"),
    (
        dict(weights=with_entry("linear2.weight", np.zeros((HIDDEN, WIDTH)))),
        ValueError,
        r"weights\['linear2.weight'\] has shape \(11, 6\), expected \(6, 11\)",
    ),
    (
        dict(weights=with_entry("linear1.weight", V3)),
        ValueError,
        r"weights\['linear1.weight'\] has",
    ),
    (
        dict(weights=with_entry("self_attn.in_proj_weight", np.zeros((WIDTH, WIDTH)))),
        ValueError,
        r"weights\['self_attn.in_proj_weight'\] has shape \(6, 6\), expected \(18, 6\)",
    ),
    (dict(weights=with_entry("norm1.bias", V3)), ValueError, r"\['norm1.bias'\] has shape \(3,\)"),
    (
        dict(weights=with_entry("norm1.bias", np.zeros(WIDTH, np.float32))),
        TypeError,
        r"weights\['norm1.bias'\] has dtype .*float32, expected .*float64, the dtype of x",
    ),
    (
        dict(weights=with_entry("norm1.bias", [0.0])),
        TypeError,
        r"weights\['norm1.bias'\] is a list",
    ),
    (dict(weights=[GOOD]), TypeError, "weights is a list, expected a mapping"),
    (dict(x=np.zeros(WIDTH)), ValueError, r"x has shape \(6,\)"),
    (dict(x=ROWS.astype(int)), TypeError, "x has dtype"),
    (dict(heads=4), ValueError, "width is 6, expected a multiple of heads, 4"),
    (dict(heads=0), ValueError, "heads is 0"),
    (dict(mask=np.ones((5, 4), bool)), ValueError, r"mask has shape \(5, 4\)"),
    (dict(mask=np.ones((3, 5, 5), bool)), ValueError, r"mask has shape \(3, 5, 5\)"),
    (dict(mask=None), TypeError, "mask is a NoneType"),
    (dict(residual="pre_norm"), TypeError, "residual is a str, expected a function"),
    (dict(activation="relu"), TypeError, "activation is a str, expected a function"),
    (dict(eps=-1.0), ValueError, "eps is -1.0"),
]
BAD_ENCODERS = [
    (dict(layers=GOOD), TypeError, "layers is a dict, expected a sequence"),
    (dict(layers=[GOOD, GOOD_DECODER]), ValueError, r"layers\[1\] has an entry 'multihead_attn"),
    (dict(layers=[without("norm1.bias")]), ValueError, r"layers\[0\] has no entry 'norm1.bias'"),
    (dict(layers=[None]), TypeError, r"layers\[0\] is a NoneType"),
    (dict(norm="layer_norm"), TypeError, "norm is a str, expected a function"),
    (dict(heads=5), ValueError, "width is 6, expected a multiple of heads, 5"),
]
BAD_DECODERS = [
    (dict(memory=np.zeros((5, 7))), ValueError, r"memory has shape \(5, 7\), expected \(5, 6\)"),
    (dict(memory=np.zeros((2, 5, 6))), ValueError, r"memory has shape \(2, 5, 6\)"),
    (dict(memory=np.zeros(6)), ValueError, r"memory has shape \(6,\)"),
    (dict(memory=None), TypeError, "memory is a NoneType"),
    (dict(memory=ROWS.astype(np.float32)), TypeError, "memory has dtype .*float32"),
    (dict(memory_mask=np.ones((5, 4), bool)), ValueError, r"memory_mask has shape \(5, 4\)"),
    (dict(memory_mask=np.ones((5, 5))), TypeError, "memory_mask has dtype"),
    (dict(memory_mask=1), TypeError, "memory_mask is 1, expected a bool"),
    (dict(mask=np.ones((5, 4), bool)), ValueError, r"^mask has shape \(5, 4\)"),
]
STACKS = [("encoder_layer", dict(x=ROWS, weights=GOOD, heads=HEADS), bad) for bad in BAD_LAYERS]
STACKS += [("encoder", dict(x=ROWS, layers=[GOOD], heads=HEADS), bad) for bad in BAD_ENCODERS]
for name, weights in (
    ("decoder_layer", dict(weights=GOOD_DECODER)),
    ("decoder", dict(layers=[GOOD_DECODER])),
):
    good = dict(x=ROWS, memory=ROWS, heads=HEADS, **weights)
    STACKS += [(name, good, bad) for bad in BAD_DECODERS]


def as_library_takes(library, value):
    if isinstance(value, dict):
        return {key: as_library_takes(library, entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [as_library_takes(library, entry) for entry in value]
    return converted(library, value)[0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("name", "good", "bad"), STACKS)
def test_bad_layers(library, name, good, bad):
    changed, error, message = bad
    function = getattr(library, name)
    function(**as_library_takes(library, good))
    with pytest.raises(error, match=message):
        function(**as_library_takes(library, good | changed))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fast.FeedForward(0, 3), ValueError, "width is 0, expected at least 1"),
        (lambda: fast.FeedForward(3, 0), ValueError, "hidden is 0, expected at least 1"),
        (lambda: fast.FeedForward(3, 2.5), TypeError, "hidden is 2.5"),
        (lambda: fast.FeedForward(3, 2, "relu"), TypeError, "activation is a str"),
        (lambda: fast.FeedForward(3, 2, dropout=1.5), ValueError, "dropout"),
        (lambda: fast.FeedForward(3, 2, bias=None), TypeError, "bias is a NoneType, expected a b"),
        (lambda: fast.SwiGLU(0, 3), ValueError, "width is 0"),
        (lambda: fast.SwiGLU(3, 0), ValueError, "hidden is 0"),
        (lambda: fast.SwiGLU(3, 2, bias=0), TypeError, "bias is 0, expected a bool"),
        (lambda: fast.EncoderLayer(6, 4, 3), ValueError, "heads"),
        (lambda: fast.EncoderLayer(6, 2, 0), ValueError, "hidden is 0"),
        (lambda: fast.EncoderLayer(6, 2, 3, residual="pre"), TypeError, "residual is a str"),
        (lambda: fast.EncoderLayer(6, 2, 3, norm=None), TypeError, "norm is a NoneType"),
        (lambda: fast.DecoderLayer(6, 2, 3, feed_forward=5), TypeError, "feed_forward is 5"),
        (lambda: fast.DecoderLayer(6, 2, 3, dropout=-1.0), ValueError, "dropout"),
        (lambda: fast.EncoderLayer(6, 2, 3, rotate="rotary"), TypeError, "rotate is a str"),
        (lambda: fast.Encoder([nn.Linear(1, 1), "x"]), TypeError, r"layers\[1\] is a str"),
        (lambda: fast.Encoder(nn.Linear(1, 1)), TypeError, "layers is a torch.*Linear, expected"),
        (lambda: fast.Decoder(None), TypeError, "layers is a NoneType, expected modules"),
        (lambda: fast.Decoder([], norm=fast.relu), TypeError, "norm is a .*function, expected"),
    ],
)
def test_bad_modules(make, error, message):
    with pytest.raises(error, match=message):
        make()
