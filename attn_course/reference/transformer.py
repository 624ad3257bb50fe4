"""Blocks of a transformer: norms, activations, feed-forward networks, and the layers of both.

The weights of a layer are a mapping from the names of the `state_dict()` of torch's
`nn.TransformerEncoderLayer` or `nn.TransformerDecoderLayer` to arrays, so that one set of weights
runs through this library and that one. Their matrices are (out, in), and multiply as ``x wᵀ``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import (
    check_arrays,
    check_decoder,
    check_encoder,
    check_feed_forward,
    check_functions,
    check_layers,
    check_norm,
    check_swiglu,
)
from attn_course.reference.dot_product import attention
from attn_course.reference.multi_head import merge_heads, split_heads
from attn_course.reference.softmax import ieee, widened

Function = Callable[[np.ndarray], np.ndarray]
Weights = Mapping[str, Float[np.ndarray, "..."]]


def layer_norm(
    x: Float[np.ndarray, "*b d"],
    weight: Float[np.ndarray, " d"] | None = None,
    bias: Float[np.ndarray, " d"] | None = None,
    eps: float = 1e-5,
) -> Float[np.ndarray, "*b d"]:
    """Give each row mean 0 and variance 1, then scale and shift each entry by what is learned.

    The formula is ``(x - mean) / √(variance + eps) * weight + bias``, with the variance over d,
    not d - 1, entries. None stands for a weight of 1 and a bias of 0. Half precision is widened
    and rounded once, at the end. A row whose squares overflow gives zeros.

    >>> layer_norm(np.array([[1.0, 5.0]]), np.array([1.0, 2.0]), np.array([0.0, 7.0]), eps=1e-20)
    array([[-1.,  9.]])

    Raises:
        TypeError: an argument is no floating array, or `eps` no number.
        ValueError: the shapes do not fit, the width is 0, or `eps` is not positive and finite.

    Source:
        Ba, Kiros and Hinton (2016), equation 4.
    """
    eps = check_norm(np.ndarray, x, eps, weight=weight, bias=bias)
    with ieee():
        wide = x.astype(widened(x.dtype))
        centered = wide - wide.mean(axis=-1, keepdims=True)
        variance = (centered**2).mean(axis=-1, keepdims=True)
        normal = centered / np.sqrt(variance + eps)
        normal = normal if weight is None else normal * weight
        normal = normal if bias is None else normal + bias
        return normal.astype(x.dtype)


def rms_norm(
    x: Float[np.ndarray, "*b d"],
    weight: Float[np.ndarray, " d"] | None = None,
    eps: float = 1e-6,
) -> Float[np.ndarray, "*b d"]:
    """Divide each row by its root mean square, then scale each entry by what is learned.

    The formula is ``x / √(mean(x²) + eps) * weight``: `layer_norm` without its mean and bias.
    None stands for a weight of 1. Half precision is widened and rounded once, at the end. A row
    whose squares overflow gives zeros.

    >>> rms_norm(np.array([[1.0, 7.0]]), np.array([5.0, 5.0]), eps=1e-20)
    array([[1., 7.]])

    Raises:
        TypeError: an argument is no floating array, or `eps` no number.
        ValueError: the shapes do not fit, the width is 0, or `eps` is not positive and finite.

    Source:
        Zhang and Sennrich (2019), equation 4.
    """
    eps = check_norm(np.ndarray, x, eps, weight=weight)
    with ieee():
        wide = x.astype(widened(x.dtype))
        normal = wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + eps)
        normal = normal if weight is None else normal * weight
        return normal.astype(x.dtype)


def relu(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Keep what is positive: ``max(x, 0)``.

    >>> relu(np.array([-2.0, 3.0]))
    array([0., 3.])

    Raises:
        TypeError: `x` is no floating array.

    Source:
        Nair and Hinton (2010).
    """
    check_arrays(np.ndarray, x=x)
    with ieee():
        return np.where(x < 0, 0, x)


def gelu(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Weigh x by the share of a standard normal that lies below it: ``x Φ(x)``.

    Exact, by the error function. The limit at -inf is not taken: ``-inf * 0`` is nan.

    >>> gelu(np.array([0.0, 40.0, -40.0]))
    array([ 0., 40., -0.])

    Raises:
        TypeError: `x` is no floating array.

    Source:
        Hendrycks and Gimpel (2016), section 2.
    """
    check_arrays(np.ndarray, x=x)
    with ieee():
        wide = x.astype(np.float64)
        share = _erfc(-wide / math.sqrt(2)) / 2  # of the normal, without loss where it is small
        return np.asarray(wide * share, dtype=x.dtype)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def silu(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Weigh x by its own sigmoid: ``x / (1 + exp(-x))``.

    The limit at -inf is not taken: ``-inf * 0`` is nan.

    >>> silu(np.array([0.0, 1e4, -1e4]))
    array([    0., 10000.,    -0.])

    Raises:
        TypeError: `x` is no floating array.

    Source:
        Elfwing, Uchibe and Doya (2018); as "Swish", Ramachandran, Zoph and Le (2017).
    """
    check_arrays(np.ndarray, x=x)
    with ieee():
        wide = x.astype(widened(x.dtype))
        return np.asarray(wide / (1 + np.exp(-wide)), dtype=x.dtype)


def feed_forward(
    x: Float[np.ndarray, "*b d"],
    w_1: Float[np.ndarray, "d hidden"],
    b_1: Float[np.ndarray, " hidden"],
    w_2: Float[np.ndarray, "hidden e"],
    b_2: Float[np.ndarray, " e"],
    activation: Function = relu,
) -> Float[np.ndarray, "*b e"]:
    """Send each row by itself through a network of one hidden layer.

    The formula is ``activation(x w_1 + b_1) w_2 + b_2``.

    >>> w_1, b_1 = np.array([[1.0, -1.0]]), np.array([0.0, 1.0])
    >>> w_2, b_2 = np.array([[10.0], [100.0]]), np.array([5.0])
    >>> feed_forward(np.array([[2.0], [-2.0]]), w_1, b_1, w_2, b_2)
    array([[ 25.],
           [305.]])

    Raises:
        TypeError: an argument is no floating array, or `activation` no function.
        ValueError: the shapes do not fit.

    Source:
        Vaswani et al. (2017), equation 2.
    """
    check_feed_forward(np.ndarray, x, w_1, b_1, w_2, b_2, activation)
    with ieee():
        return activation(x @ w_1 + b_1) @ w_2 + b_2


def swiglu(
    x: Float[np.ndarray, "*b d"],
    w_gate: Float[np.ndarray, "d hidden"],
    w_up: Float[np.ndarray, "d hidden"],
    w_down: Float[np.ndarray, "hidden e"],
) -> Float[np.ndarray, "*b e"]:
    """Send each row through a hidden layer of which each unit is gated by another.

    The formula is ``(silu(x w_gate) * (x w_up)) w_down``.

    >>> one = np.ones((1, 1))
    >>> swiglu(np.array([[50.0]]), one, one, one)
    array([[2500.]])

    Raises:
        TypeError: an argument is no floating array.
        ValueError: the shapes do not fit.

    Source:
        Shazeer (2020), equation 6.
    """
    check_swiglu(np.ndarray, x, w_gate, w_up, w_down)
    with ieee():
        return (silu(x @ w_gate) * (x @ w_up)) @ w_down


def pre_norm(
    x: Float[np.ndarray, "*b d"], sublayer: Function, norm: Function
) -> Float[np.ndarray, "*b d"]:
    """Add to `x` what `sublayer` makes of it normalized: ``x + sublayer(norm(x))``.

    `x` itself passes through a stack of these unchanged but for what is added, so a stack needs
    a norm at its end.

    >>> pre_norm(np.array([[3.0]]), lambda x: 10 * x, lambda x: x / 3)
    array([[13.]])

    Raises:
        TypeError: `x` is no floating array, or `sublayer` or `norm` no function.

    Source:
        Xiong et al. (2020), table 1, "Pre-LN".
    """
    check_arrays(np.ndarray, x=x)
    check_functions(sublayer=sublayer, norm=norm)
    with ieee():
        return x + sublayer(norm(x))


def post_norm(
    x: Float[np.ndarray, "*b d"], sublayer: Function, norm: Function
) -> Float[np.ndarray, "*b d"]:
    """Add to `x` what `sublayer` makes of it, and normalize the sum: ``norm(x + sublayer(x))``.

    >>> post_norm(np.array([[3.0]]), lambda x: 10 * x, lambda x: x / 3)
    array([[11.]])

    Raises:
        TypeError: `x` is no floating array, or `sublayer` or `norm` no function.

    Source:
        Vaswani et al. (2017), section 3.1; Xiong et al. (2020), table 1, "Post-LN".
    """
    check_arrays(np.ndarray, x=x)
    check_functions(sublayer=sublayer, norm=norm)
    with ieee():
        return norm(x + sublayer(x))


def encoder_layer(
    x: Float[np.ndarray, "*b i d"],
    weights: Weights,
    heads: int,
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
) -> Float[np.ndarray, "*b i d"]:
    """Let the rows of `x` attend to each other, then send each through a feed-forward network.

    Both steps are wrapped by `residual`, which is `pre_norm` or `post_norm`. `weights` has the
    names of an `nn.TransformerEncoderLayer`, with all biases or with none. `mask` broadcasts to
    (..., heads, length, length); under `causal_mask` this is the layer of a decoder-only model.

    >>> linear = {"self_attn.in_proj_weight": np.zeros((6, 2)), "linear1.weight": np.zeros((4, 2)),
    ...           "self_attn.out_proj.weight": np.zeros((2, 2)), "linear2.weight": np.zeros((2, 4))}
    >>> norms = {"norm1.weight": np.ones(2), "norm2.weight": np.ones(2)}
    >>> encoder_layer(np.array([[3.0, 7.0]]), linear | norms, heads=1, eps=1e-20)  # norms alone
    array([[-1.,  1.]])

    Raises:
        TypeError: `x` or an entry of `weights` is no floating array, `weights` no mapping, `heads`
            no integer, `mask` neither bool nor boolean array, or another argument no function.
        ValueError: an entry of `weights` is missing, unknown or misshapen, the shapes do not fit,
            `heads` does not divide the width, or `eps` is not positive and finite.

    Source:
        Vaswani et al. (2017), section 3.1 and figure 1, left.
    """
    functions = dict(residual=residual, activation=activation)
    check_encoder(np.ndarray, x, {"weights": weights}, heads, mask, eps, **functions)
    w = _with_biases(weights)
    norm_1, norm_2 = (_norm(w, name, eps) for name in ("norm1", "norm2"))
    x = residual(x, lambda y: _attend(y, y, w, "self_attn", heads, mask), norm_1)
    return residual(x, lambda y: _feed(y, w, activation), norm_2)


def decoder_layer(
    x: Float[np.ndarray, "*b i d"],
    memory: Float[np.ndarray, "*b j d"],
    weights: Weights,
    heads: int,
    mask: Bool[np.ndarray, "..."] | bool = True,
    memory_mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
) -> Float[np.ndarray, "*b i d"]:
    """Let the rows of `x` attend to each other and to `memory`, then feed each forward by itself.

    As `encoder_layer`, with a third step in the middle, in which the keys and values are the
    rows of `memory`, what an encoder returned. `weights` has the names of an
    `nn.TransformerDecoderLayer`. `mask`, for a decoder the causal one, broadcasts to
    (..., heads, length, length), `memory_mask` to (..., heads, length, length of memory).

    >>> linear = {"self_attn.in_proj_weight": np.zeros((6, 2)), "linear1.weight": np.zeros((4, 2)),
    ...           "self_attn.out_proj.weight": np.zeros((2, 2)), "linear2.weight": np.zeros((2, 4)),
    ...           "multihead_attn.in_proj_weight": np.tile(np.eye(2), (3, 1)),
    ...           "multihead_attn.out_proj.weight": np.eye(2)}
    >>> norms = {f"norm{n}.weight": np.ones(2) for n in (1, 2, 3)}
    >>> x, memory = np.array([[3.0, 7.0]]), np.array([[5.0, 0.0]])
    >>> decoder_layer(x, memory, linear | norms, heads=1, eps=1e-20)  # [-1, 1] + memory, normalized
    array([[ 1., -1.]])

    Raises:
        TypeError: as `encoder_layer`, and `memory` is no floating array.
        ValueError: as `encoder_layer`, and `memory` does not fit `x`.

    Source:
        Vaswani et al. (2017), section 3.1 and figure 1, right.
    """
    functions = dict(residual=residual, activation=activation)
    layers = {"weights": weights}
    check_decoder(np.ndarray, x, memory, layers, heads, mask, memory_mask, eps, **functions)
    w = _with_biases(weights)
    norm_1, norm_2, norm_3 = (_norm(w, name, eps) for name in ("norm1", "norm2", "norm3"))
    x = residual(x, lambda y: _attend(y, y, w, "self_attn", heads, mask), norm_1)
    x = residual(x, lambda y: _attend(y, memory, w, "multihead_attn", heads, memory_mask), norm_2)
    return residual(x, lambda y: _feed(y, w, activation), norm_3)


def encoder(
    x: Float[np.ndarray, "*b i d"],
    layers: Sequence[Weights],
    heads: int,
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
    norm: Function | None = None,
) -> Float[np.ndarray, "*b i d"]:
    """Send `x` through one `encoder_layer` for each of `layers`, and through `norm` at the end.

    `layers` are the weights of each. A stack of `pre_norm` needs a `norm`, a function of the
    result such as `layer_norm`.

    >>> encoder(np.array([[3.0, 7.0]]), [], heads=1, norm=lambda x: x - 3)  # no layer at all
    array([[0., 4.]])

    Raises:
        TypeError: as `encoder_layer`, and `layers` is no sequence, or `norm` no function.
        ValueError: as `encoder_layer`.

    Source:
        Vaswani et al. (2017), section 3.1; the norm at the end, Xiong et al. (2020), table 1.
    """
    functions = dict(residual=residual, activation=activation)
    named = check_layers(layers)
    check_encoder(np.ndarray, x, named, heads, mask, eps, **functions, norm=norm)
    for weights in layers:
        x = encoder_layer(x, weights, heads, mask, eps=eps, **functions)
    return x if norm is None else norm(x)


def decoder(
    x: Float[np.ndarray, "*b i d"],
    memory: Float[np.ndarray, "*b j d"],
    layers: Sequence[Weights],
    heads: int,
    mask: Bool[np.ndarray, "..."] | bool = True,
    memory_mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
    norm: Function | None = None,
) -> Float[np.ndarray, "*b i d"]:
    """Send `x` through one `decoder_layer` for each of `layers`, and through `norm` at the end.

    As `encoder`; every layer attends to the same `memory`.

    >>> x, memory = np.array([[3.0, 7.0]]), np.array([[5.0, 0.0]])
    >>> decoder(x, memory, [], heads=1, norm=lambda x: x - 3)  # no layer at all
    array([[0., 4.]])

    Raises:
        TypeError: as `decoder_layer`, and `layers` is no sequence, or `norm` no function.
        ValueError: as `decoder_layer`.

    Source:
        Vaswani et al. (2017), section 3.1; the norm at the end, Xiong et al. (2020), table 1.
    """
    functions = dict(residual=residual, activation=activation)
    named = check_layers(layers)
    check_decoder(
        np.ndarray, x, memory, named, heads, mask, memory_mask, eps, **functions, norm=norm
    )
    for weights in layers:
        x = decoder_layer(x, memory, weights, heads, mask, memory_mask, eps=eps, **functions)
    return x if norm is None else norm(x)


def _with_biases(weights: Weights) -> Weights:
    """Return `weights` with zeros for the biases of a layer that has none."""
    zeros = {
        name.removesuffix("weight") + "bias": np.zeros(weight.shape[0], weight.dtype)
        for name, weight in weights.items()
        if name.endswith("weight")
    }
    return zeros | dict(weights)


def _norm(weights: Weights, name: str, eps: float) -> Function:
    return partial(
        layer_norm, weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"], eps=eps
    )


def _attend(x, memory, weights: Weights, name: str, heads: int, mask):
    """Attend from the rows of `x` to those of `memory` by the projections called `name`."""
    matrices = np.split(weights[f"{name}.in_proj_weight"], 3)
    biases = np.split(weights[f"{name}.in_proj_bias"], 3)
    with ieee():
        q, k, v = (
            split_heads(rows @ w.T + b, heads)
            for rows, w, b in zip((x, memory, memory), matrices, biases, strict=True)
        )
        found = merge_heads(attention(q, k, v, mask))
        return found @ weights[f"{name}.out_proj.weight"].T + weights[f"{name}.out_proj.bias"]


def _feed(x, weights: Weights, activation: Function):
    w_1, w_2 = weights["linear1.weight"].T, weights["linear2.weight"].T
    return feed_forward(x, w_1, weights["linear1.bias"], w_2, weights["linear2.bias"], activation)
