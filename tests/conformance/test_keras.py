"""Keras's attention layers and JAX's own attention, through the public functions of both libraries.

The layers run in float64 on JAX, with random weights, biases included. What a flag means there,
a mask says here. Conventions differ, and each of theirs is held by a test, so that a change is
noticed:

- A query that may look nowhere gets zeros here. JAX averages all values. Keras's layers without
  heads look everywhere. Those with heads give zeros where they are asked for the weights of
  attention, and else call JAX.
- Causal attention with fewer queries than keys aligns top left there, bottom right here.
- JAX's window of w is w keys on either side of the query's own. Keras's sliding window of w is
  w - 1 keys on either side: with a causal mask, the window of w here.
"""

import numpy as np
import pytest
from in_numpy import LIBRARIES, fitted
from tolerance import assert_equal64


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


BATCH, QUERIES, KEYS = 2, 5, 7
Q, K, V = drawn(BATCH, QUERIES, 6), drawn(BATCH, KEYS, 4), drawn(BATCH, KEYS, 3)
LENGTHS = np.array([KEYS, 3], dtype=np.int32)
PRESENT = np.arange(KEYS) < LENGTHS[:, None]
QUERY_LENGTHS = np.array([QUERIES, 2], dtype=np.int32)
ASKED = np.arange(QUERIES) < QUERY_LENGTHS[:, None]
SOME = drawn(BATCH, QUERIES, KEYS) < 0
SOME[..., 0] = True  # no query may look nowhere

each_library = pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)


@pytest.fixture(scope="module")
def jax():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JAX_PLATFORMS", "cpu")
        # One thread, and no time for optimizing what runs once.
        environment.setenv(
            "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"
        )
        import jax

        jax.devices()
    with jax.enable_x64(True):
        yield jax


@pytest.fixture(scope="module")
def keras(jax, tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KERAS_BACKEND", "jax")
        environment.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        import keras
    assert keras.backend.backend() == "jax"
    return keras


def outcomes(jax, function, calls, *arrays):
    """Call `function` with each of the options. Compiled as one: one by one takes longer."""
    together = jax.jit(
        lambda *x: {name: function(*x, **options) for name, options in calls.items()}
    )
    return together(*arrays)


def built(layer, *shapes):
    """Return `layer` with random weights, and them."""
    layer.build(*shapes)
    weights = [drawn(*weight.shape, seed=n) for n, weight in enumerate(layer.weights)]
    layer.set_weights(weights)
    return layer, weights


def assert_equal32(actual, expected):
    # JAX's softmax and Keras's tanh are in float32, whatever the dtype of the rest.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6)


def causal(library):
    return fitted(library.causal_mask(QUERIES, QUERIES), KEYS)


def window(library, left, right):
    return fitted(library.window_mask(QUERIES, QUERIES + right, left + 1 + right), KEYS)


LAYERS = {
    "multi_head": ("MultiHeadAttention", dict(num_heads=3, key_dim=2)),
    "value_dim": ("MultiHeadAttention", dict(num_heads=3, key_dim=2, value_dim=5)),
    "output_shape": ("MultiHeadAttention", dict(num_heads=2, key_dim=3, output_shape=9)),
    "no_bias": ("MultiHeadAttention", dict(num_heads=3, key_dim=2, use_bias=False)),
    "one_head": ("MultiHeadAttention", dict(num_heads=1, key_dim=4)),
    "grouped": (
        "GroupQueryAttention",
        dict(head_dim=3, num_query_heads=6, num_key_value_heads=2),
    ),
    "one_key_head": (
        "GroupQueryAttention",
        dict(head_dim=2, num_query_heads=3, num_key_value_heads=1, use_bias=False),
    ),
}
# Options of the call, and what they mean here.
MASKS = {
    "everything": ({}, lambda library: True),
    "some": (dict(attention_mask=SOME), lambda library: SOME[:, None]),
    "padding": (dict(value_mask=PRESENT), lambda library: library.padding_mask(LENGTHS, KEYS)),
    "causal": (dict(use_causal_mask=True), causal),
    "causal_and_some": (
        dict(use_causal_mask=True, attention_mask=SOME),
        lambda library: causal(library) & SOME[:, None],
    ),
}
WINDOWS = {  # of a layer with a sliding window of 3
    "window": (dict(use_causal_mask=True), lambda library: window(library, 2, 0)),
    "band": ({}, lambda library: window(library, 2, 2)),
}


def called(jax, keras, name, masks, *, sliding_window=None, **flags):
    """Return the weights of a layer, and what it returned under each of `masks`."""
    kind, options = LAYERS[name]
    layer = getattr(keras.layers, kind)(
        **options, sliding_window=sliding_window, dtype="float64", kernel_initializer="zeros"
    )
    layer, weights = built(layer, Q.shape, V.shape, K.shape)
    calls = {mask: flags | options for mask, (options, _) in masks.items()}
    return weights, outcomes(jax, layer, calls, Q, V, K)


@pytest.fixture(scope="module", params=LAYERS)
def multi_head(request, jax, keras):
    # Asked for the weights of attention, Keras computes them itself, in float64 to the end.
    asked = dict(return_attention_scores=True)
    weights, returned = called(jax, keras, request.param, MASKS, **asked)
    _, windowed = called(jax, keras, request.param, WINDOWS, sliding_window=3, **asked)
    return weights, returned | windowed


@pytest.fixture(scope="module", params=["multi_head", "grouped"])
def fused(request, jax, keras):
    return called(jax, keras, request.param, MASKS)


@each_library
@pytest.mark.parametrize("mask", [*MASKS, *WINDOWS])
def test_multi_head(library, multi_head, mask):
    weights, returned = multi_head
    output, attention_weights = returned[mask]
    _, meaning = (MASKS | WINDOWS)[mask]
    assert_equal64(attended(library, weights, meaning(library)), output)

    w_q, w_k, *_ = folded(weights)
    heads, key_heads = weights[0].shape[1], weights[2 if len(weights) == 8 else 1].shape[1]
    q = library.split_heads(with_ones(Q) @ w_q, heads)
    k = library.split_heads(with_ones(K) @ w_k, key_heads)
    k = np.repeat(k, heads // key_heads, axis=1)
    assert_equal64(library.attention_weights(q, k, meaning(library)), attention_weights)


@each_library
@pytest.mark.parametrize("mask", MASKS)
def test_multi_head_by_jax(library, fused, mask):
    weights, returned = fused
    _, meaning = MASKS[mask]
    assert_equal32(attended(library, weights, meaning(library)), returned[mask])


@each_library
def test_self_attention(library, jax, keras):
    layer = keras.layers.MultiHeadAttention(3, 2, dtype="float64", kernel_initializer="zeros")
    layer, weights = built(layer, Q.shape, Q.shape)
    output, _ = layer(Q, Q, use_causal_mask=True, return_attention_scores=True)
    mask = library.causal_mask(QUERIES, QUERIES)
    assert_equal64(attended(library, weights, mask, Q, Q, Q), output)


def attended(library, weights, mask, q=Q, k=K, v=V):
    """Return what a layer with Keras's weights is here."""
    inputs = (with_ones(x) for x in (q, k, v))
    output = library.multi_head_attention(*inputs, *folded(weights), weights[0].shape[1], mask)
    return output + weights[-1] if len(weights) == 8 else output


def folded(weights):
    """Return Keras's kernels as matrices, each but the last with its bias as one more row."""
    if len(weights) == 8:
        kernels, biases = weights[::2], weights[1:-1:2]
    else:
        kernels, biases = weights, [np.zeros(kernel.shape[1:]) for kernel in weights[:-1]]
    *inward, outward = kernels
    pairs = zip(inward, biases, strict=True)
    matrices = [np.concatenate([w, b[None]]).reshape(len(w) + 1, -1) for w, b in pairs]
    return [*matrices, outward.reshape(-1, outward.shape[-1])]


def with_ones(x):
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


SINGLE = {
    "dot": ("Attention", {}),
    "dot_scaled": ("Attention", dict(use_scale=True)),
    "concat": ("Attention", dict(score_mode="concat")),
    "concat_scaled": ("Attention", dict(score_mode="concat", use_scale=True)),
    "additive": ("AdditiveAttention", dict(use_scale=False)),
    "additive_scaled": ("AdditiveAttention", dict(use_scale=True)),
}
SINGLE_MASKS = {
    "everything": ({}, lambda library: True),
    "padding": (
        dict(mask=[None, PRESENT]),
        lambda library: library.padding_mask(LENGTHS, KEYS)[:, 0],
    ),
    "causal": (dict(use_causal_mask=True), causal),
    "causal_and_padding": (
        dict(use_causal_mask=True, mask=[None, PRESENT]),
        lambda library: causal(library) & library.padding_mask(LENGTHS, KEYS)[:, 0],
    ),
    # A query that is padding gets zeros at the end, but has weights like any other.
    "padded_queries": (dict(mask=[ASKED, None]), lambda library: True),
}
# These layers have no projections: queries and keys are of one width.
SINGLE_Q, SINGLE_K = drawn(BATCH, QUERIES, 4), drawn(BATCH, KEYS, 4, seed=1)


@pytest.fixture(scope="module", params=SINGLE)
def single(request, jax, keras):
    """A layer without heads: its name, its weights, and what it returned for each mask."""
    kind, options = SINGLE[request.param]
    inputs = [SINGLE_Q, V, SINGLE_K]
    layer = getattr(keras.layers, kind)(**options, dtype="float64")
    layer, weights = built(layer, [x.shape for x in inputs])
    asked = dict(return_attention_scores=True)
    calls = {mask: asked | options for mask, (options, _) in SINGLE_MASKS.items()}
    return request.param, weights, outcomes(jax, layer, calls, inputs)


@each_library
@pytest.mark.parametrize("mask", SINGLE_MASKS)
def test_single(library, single, mask):
    name, weights, returned = single
    output, attention_weights = returned[mask]
    _, meaning = SINGLE_MASKS[mask]
    here = single_weights(library, name, weights, meaning(library))
    assert_equal = assert_equal64 if name.startswith("dot") else assert_equal32
    assert_equal(here, attention_weights)
    kept = ASKED[..., None] if mask == "padded_queries" else 1
    assert_equal(kept * (here @ V), output)


def single_weights(library, name, weights, mask):
    if name.startswith("dot"):
        scale = float(*weights) if weights else 1.0
        return library.attention_weights(SINGLE_Q, SINGLE_K, mask, scale=scale)
    width = SINGLE_K.shape[-1]
    inward, outward = np.eye(width), np.ones(width)
    match name:
        case "concat":
            outward = weights[0] * outward
        case "concat_scaled":
            inward, outward = weights[0] * inward, weights[1] * outward
        case "additive_scaled":
            (outward,) = weights
    scores = library.additive_scores(SINGLE_Q, SINGLE_K, inward, inward, outward)
    return library.softmax(np.where(mask, scores, -np.inf))


BIAS = drawn(BATCH, 6, QUERIES, KEYS)
# Options of JAX, and what they mean here.
JAX = {
    "everything": ({}, lambda library: {}),
    "scale": (dict(scale=0.3), lambda library: dict(scale=0.3)),
    "bias": (dict(bias=BIAS), lambda library: dict(bias=BIAS)),
    "bias_of_heads": (dict(bias=BIAS[:1]), lambda library: dict(bias=BIAS[:1])),
    "some": (dict(mask=SOME[:, None]), lambda library: dict(mask=SOME[:, None])),
    "causal": (dict(is_causal=True), lambda library: dict(mask=causal(library))),
    "padding": (
        dict(key_value_seq_lengths=LENGTHS),
        lambda library: dict(mask=library.padding_mask(LENGTHS, KEYS)),
    ),
    "padded_queries": (
        dict(query_seq_lengths=QUERY_LENGTHS),
        lambda library: dict(mask=np.swapaxes(library.padding_mask(QUERY_LENGTHS, QUERIES), 2, 3)),
    ),
    "window": (
        dict(local_window_size=2),
        lambda library: dict(mask=window(library, 2, 2)),
    ),
    "window_of_two_sizes": (
        dict(local_window_size=(3, 1)),
        lambda library: dict(mask=window(library, 3, 1)),
    ),
    "all_options": (
        dict(
            bias=BIAS,
            mask=SOME[:, None],
            scale=2.0,
            is_causal=True,
            key_value_seq_lengths=LENGTHS,
            local_window_size=(QUERIES, 0),
        ),
        lambda library: dict(
            bias=BIAS,
            mask=SOME[:, None] & library.padding_mask(LENGTHS, KEYS) & causal(library),
            scale=2.0,
        ),
    ),
}


@pytest.fixture(scope="module", params=[6, 2, 1], ids=lambda heads: f"{heads}_key_heads")
def jax_attention(request, jax):
    """Queries, keys and values in JAX's layout, and what it returned for each of its options."""
    shapes = (QUERIES, 6, 3), (KEYS, request.param, 3), (KEYS, request.param, 3)
    inputs = [drawn(BATCH, *shape, seed=n) for n, shape in enumerate(shapes)]
    calls = {name: options for name, (options, _) in JAX.items()}
    return inputs, outcomes(jax, jax.nn.dot_product_attention, calls, *inputs)


@each_library
@pytest.mark.parametrize("options", JAX)
def test_jax(library, jax_attention, options):
    inputs, returned = jax_attention
    _, meaning = JAX[options]
    q, k, v = (np.swapaxes(x, 1, 2) for x in inputs)
    equal = q.shape[1] == k.shape[1]
    function = library.attention if equal else library.grouped_query_attention
    output = function(q, k, v, **meaning(library))
    assert_equal32(np.swapaxes(output, 1, 2), returned[options])


NOWHERE = np.zeros((BATCH, QUERIES, KEYS), dtype=bool)


def test_jax_averages_all_values_for_a_query_that_may_look_nowhere(jax):
    q, v = drawn(BATCH, QUERIES, 1, 3), drawn(BATCH, KEYS, 1, 3)
    output = jax.nn.dot_product_attention(q, v, v, mask=NOWHERE[:, None])
    assert_equal32(output[:, :1], v.mean(axis=1, keepdims=True))


def test_keras_gives_zeros_or_averages_for_a_query_that_may_look_nowhere(jax, keras):
    masks = {"nowhere": (dict(attention_mask=NOWHERE), None)}
    _, returned = called(jax, keras, "no_bias", masks, return_attention_scores=True)
    for zeros in returned["nowhere"]:
        assert not np.any(zeros)
    (_, _, w_v, w_o), returned = called(jax, keras, "no_bias", masks)
    average = np.einsum("bjv,vhe,hed->bd", V, w_v, w_o) / KEYS
    for query in range(QUERIES):
        assert_equal32(returned["nowhere"][:, query], average)


@pytest.mark.parametrize("kind", ["Attention", "AdditiveAttention"])
def test_keras_without_heads_looks_everywhere_for_a_query_that_may_look_nowhere(jax, keras, kind):
    inputs = [SINGLE_Q, SINGLE_K]
    layer, _ = built(getattr(keras.layers, kind)(dtype="float64"), [x.shape for x in inputs])
    calls = {"everywhere": {}, "nowhere": dict(mask=[None, NOWHERE[:, 0]])}
    returned = outcomes(jax, layer, calls, inputs)
    # It takes 1e9 from every score, which costs them nine digits and changes no weight.
    np.testing.assert_allclose(returned["nowhere"], returned["everywhere"], rtol=0, atol=1e-6)
