"""Blocks of a transformer, in torch: see `attn_course.reference.transformer`.

The functions take all weights; the modules hold theirs. A stack of `EncoderLayer`s under a causal
mask is a decoder-only model; one layer of Llama's is
``EncoderLayer(width, heads, hidden, kv_heads=…, bias=False, rotate=rotary, residual=pre_norm,
norm=nn.RMSNorm, feed_forward=SwiGLU)``.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_course.arguments import (
    check_arrays,
    check_bool,
    check_decoder,
    check_encoder,
    check_feed_forward,
    check_functions,
    check_kind,
    check_layers,
    check_memory,
    check_norm,
    check_probability,
    check_rank,
    check_rows,
    check_size,
    check_swiglu,
    described,
)
from attn_course.fast.dot_product import attention
from attn_course.fast.multi_head import MultiHeadAttention, merge_heads, split_heads

Function = Callable[[Tensor], Tensor]
Weights = Mapping[str, Float[Tensor, "..."]]


def layer_norm(
    x: Float[Tensor, "*b d"],
    weight: Float[Tensor, " d"] | None = None,
    bias: Float[Tensor, " d"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*b d"]:
    """Give each row mean 0 and variance 1, then scale and shift each entry by what is learned.

    As `attn_course.reference.layer_norm`.

    >>> layer_norm(torch.tensor([[1.0, 5.0]]), torch.tensor([1.0, 2.0]), torch.tensor([0.0, 7.0]))
    tensor([[-1.0000,  9.0000]])

    Raises:
        TypeError: an argument is no floating tensor, or `eps` no number.
        ValueError: the shapes do not fit, the width is 0, or `eps` is not positive and finite.
    """
    eps = check_norm(Tensor, x, eps, weight=weight, bias=bias)
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def rms_norm(
    x: Float[Tensor, "*b d"], weight: Float[Tensor, " d"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "*b d"]:
    """Divide each row by its root mean square, then scale each entry by what is learned.

    As `attn_course.reference.rms_norm`.

    >>> rms_norm(torch.tensor([[1.0, 7.0]]), torch.tensor([5.0, 5.0]))
    tensor([[1., 7.]])

    Raises:
        TypeError: an argument is no floating tensor, or `eps` no number.
        ValueError: the shapes do not fit, the width is 0, or `eps` is not positive and finite.
    """
    eps = check_norm(Tensor, x, eps, weight=weight)
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def relu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Keep what is positive: ``max(x, 0)``.

    As `attn_course.reference.relu`.

    >>> relu(torch.tensor([-2.0, 3.0]))
    tensor([0., 3.])

    Raises:
        TypeError: `x` is no floating tensor.
    """
    check_arrays(Tensor, x=x)
    return F.relu(x)


def gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Weigh x by the share of a standard normal that lies below it: ``x Φ(x)``.

    As `attn_course.reference.gelu`; torch gives nan for inf in some places of a tensor.

    >>> gelu(torch.tensor([0.0, 40.0, -40.0]))
    tensor([ 0., 40., -0.])

    Raises:
        TypeError: `x` is no floating tensor.
    """
    check_arrays(Tensor, x=x)
    return F.gelu(x)


def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Weigh x by its own sigmoid: ``x / (1 + exp(-x))``.

    As `attn_course.reference.silu`.

    >>> silu(torch.tensor([0.0, 40.0, -1e4]))
    tensor([ 0., 40., -0.])

    Raises:
        TypeError: `x` is no floating tensor.
    """
    check_arrays(Tensor, x=x)
    return F.silu(x)


def feed_forward(
    x: Float[Tensor, "*b d"],
    w_1: Float[Tensor, "d hidden"],
    b_1: Float[Tensor, " hidden"],
    w_2: Float[Tensor, "hidden e"],
    b_2: Float[Tensor, " e"],
    activation: Function = relu,
) -> Float[Tensor, "*b e"]:
    """Send each row by itself through a network of one hidden layer.

    As `attn_course.reference.feed_forward`.

    >>> w_1, b_1 = torch.tensor([[1.0, -1.0]]), torch.tensor([0.0, 1.0])
    >>> w_2, b_2 = torch.tensor([[10.0], [100.0]]), torch.tensor([5.0])
    >>> feed_forward(torch.tensor([[2.0], [-2.0]]), w_1, b_1, w_2, b_2)
    tensor([[ 25.],
            [305.]])

    Raises:
        TypeError: an argument is no floating tensor, or `activation` no function.
        ValueError: the shapes do not fit.
    """
    check_feed_forward(Tensor, x, w_1, b_1, w_2, b_2, activation)
    return F.linear(activation(F.linear(x, w_1.T, b_1)), w_2.T, b_2)


def swiglu(
    x: Float[Tensor, "*b d"],
    w_gate: Float[Tensor, "d hidden"],
    w_up: Float[Tensor, "d hidden"],
    w_down: Float[Tensor, "hidden e"],
) -> Float[Tensor, "*b e"]:
    """Send each row through a hidden layer of which each unit is gated by another.

    As `attn_course.reference.swiglu`.

    >>> one = torch.ones(1, 1)
    >>> swiglu(torch.tensor([[50.0]]), one, one, one)
    tensor([[2500.]])

    Raises:
        TypeError: an argument is no floating tensor.
        ValueError: the shapes do not fit.
    """
    check_swiglu(Tensor, x, w_gate, w_up, w_down)
    return (F.silu(x @ w_gate) * (x @ w_up)) @ w_down


def pre_norm(x: Float[Tensor, "*b d"], sublayer: Function, norm: Function) -> Float[Tensor, "*b d"]:
    """Add to `x` what `sublayer` makes of it normalized: ``x + sublayer(norm(x))``.

    As `attn_course.reference.pre_norm`.

    >>> pre_norm(torch.tensor([[3.0]]), lambda x: 10 * x, lambda x: x / 3)
    tensor([[13.]])

    Raises:
        TypeError: `x` is no floating tensor, or `sublayer` or `norm` no function.
    """
    check_arrays(Tensor, x=x)
    check_functions(sublayer=sublayer, norm=norm)
    return x + sublayer(norm(x))


def post_norm(
    x: Float[Tensor, "*b d"], sublayer: Function, norm: Function
) -> Float[Tensor, "*b d"]:
    """Add to `x` what `sublayer` makes of it, and normalize the sum: ``norm(x + sublayer(x))``.

    As `attn_course.reference.post_norm`.

    >>> post_norm(torch.tensor([[3.0]]), lambda x: 10 * x, lambda x: x / 3)
    tensor([[11.]])

    Raises:
        TypeError: `x` is no floating tensor, or `sublayer` or `norm` no function.
    """
    check_arrays(Tensor, x=x)
    check_functions(sublayer=sublayer, norm=norm)
    return norm(x + sublayer(x))


def encoder_layer(
    x: Float[Tensor, "*b i d"],
    weights: Weights,
    heads: int,
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
) -> Float[Tensor, "*b i d"]:
    """Let the rows of `x` attend to each other, then send each through a feed-forward network.

    As `attn_course.reference.encoder_layer`. `EncoderLayer` holds weights of its own and has more
    choices.

    >>> layer = nn.TransformerEncoderLayer(6, nhead=3, dim_feedforward=8)
    >>> encoder_layer(torch.ones(2, 5, 6), layer.state_dict(), heads=3).shape
    torch.Size([2, 5, 6])

    Raises:
        TypeError: `x` or an entry of `weights` is no floating tensor, `weights` no mapping, `heads`
            no integer, `mask` neither bool nor boolean tensor, or another argument no function.
        ValueError: an entry of `weights` is missing, unknown or misshapen, the shapes do not fit,
            `heads` does not divide the width, or `eps` is not positive and finite.
    """
    functions = dict(residual=residual, activation=activation)
    check_encoder(Tensor, x, {"weights": weights}, heads, mask, eps, **functions)
    norm_1, norm_2 = (_norm(weights, name, eps) for name in ("norm1", "norm2"))
    x = residual(x, lambda y: _attend(y, y, weights, "self_attn", heads, mask), norm_1)
    return residual(x, lambda y: _feed(y, weights, activation), norm_2)


def decoder_layer(
    x: Float[Tensor, "*b i d"],
    memory: Float[Tensor, "*b j d"],
    weights: Weights,
    heads: int,
    mask: Bool[Tensor, "..."] | bool = True,
    memory_mask: Bool[Tensor, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
) -> Float[Tensor, "*b i d"]:
    """Let the rows of `x` attend to each other and to `memory`, then feed each forward by itself.

    As `attn_course.reference.decoder_layer`.

    >>> layer = nn.TransformerDecoderLayer(6, nhead=3, dim_feedforward=8)
    >>> x, memory = torch.ones(2, 5, 6), torch.ones(2, 7, 6)
    >>> decoder_layer(x, memory, layer.state_dict(), heads=3).shape
    torch.Size([2, 5, 6])

    Raises:
        TypeError: as `encoder_layer`, and `memory` is no floating tensor.
        ValueError: as `encoder_layer`, and `memory` does not fit `x`.
    """
    functions = dict(residual=residual, activation=activation)
    layers = {"weights": weights}
    check_decoder(Tensor, x, memory, layers, heads, mask, memory_mask, eps, **functions)
    w = weights
    norm_1, norm_2, norm_3 = (_norm(w, name, eps) for name in ("norm1", "norm2", "norm3"))
    x = residual(x, lambda y: _attend(y, y, w, "self_attn", heads, mask), norm_1)
    x = residual(x, lambda y: _attend(y, memory, w, "multihead_attn", heads, memory_mask), norm_2)
    return residual(x, lambda y: _feed(y, w, activation), norm_3)


def encoder(
    x: Float[Tensor, "*b i d"],
    layers: Sequence[Weights],
    heads: int,
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
    norm: Function | None = None,
) -> Float[Tensor, "*b i d"]:
    """Send `x` through one `encoder_layer` for each of `layers`, and through `norm` at the end.

    As `attn_course.reference.encoder`.

    >>> encoder(torch.tensor([[3.0, 7.0]]), [], heads=1, norm=lambda x: x - 3)  # no layer at all
    tensor([[0., 4.]])

    Raises:
        TypeError: as `encoder_layer`, and `layers` is no sequence, or `norm` no function.
        ValueError: as `encoder_layer`.
    """
    functions = dict(residual=residual, activation=activation)
    named = check_layers(layers)
    check_encoder(Tensor, x, named, heads, mask, eps, **functions, norm=norm)
    for weights in layers:
        x = encoder_layer(x, weights, heads, mask, eps=eps, **functions)
    return x if norm is None else norm(x)


def decoder(
    x: Float[Tensor, "*b i d"],
    memory: Float[Tensor, "*b j d"],
    layers: Sequence[Weights],
    heads: int,
    mask: Bool[Tensor, "..."] | bool = True,
    memory_mask: Bool[Tensor, "..."] | bool = True,
    *,
    residual: Callable = post_norm,
    activation: Function = relu,
    eps: float = 1e-5,
    norm: Function | None = None,
) -> Float[Tensor, "*b i d"]:
    """Send `x` through one `decoder_layer` for each of `layers`, and through `norm` at the end.

    As `attn_course.reference.decoder`.

    >>> x, memory = torch.tensor([[3.0, 7.0]]), torch.tensor([[5.0, 0.0]])
    >>> decoder(x, memory, [], heads=1, norm=lambda x: x - 3)  # no layer at all
    tensor([[0., 4.]])

    Raises:
        TypeError: as `decoder_layer`, and `layers` is no sequence, or `norm` no function.
        ValueError: as `decoder_layer`.
    """
    functions = dict(residual=residual, activation=activation)
    named = check_layers(layers)
    check_decoder(Tensor, x, memory, named, heads, mask, memory_mask, eps, **functions, norm=norm)
    for weights in layers:
        x = decoder_layer(x, memory, weights, heads, mask, memory_mask, eps=eps, **functions)
    return x if norm is None else norm(x)


def _norm(weights: Weights, name: str, eps: float) -> Function:
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    return partial(layer_norm, weight=weight, bias=bias, eps=eps)


def _attend(x, memory, weights: Weights, name: str, heads: int, mask):
    """Attend from the rows of `x` to those of `memory` by the projections called `name`."""
    matrices = weights[f"{name}.in_proj_weight"].chunk(3)
    bias = weights.get(f"{name}.in_proj_bias")
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q, k, v = (
        split_heads(F.linear(rows, w, b), heads)
        for rows, w, b in zip((x, memory, memory), matrices, biases, strict=True)
    )
    found = merge_heads(attention(q, k, v, mask))
    return _linear(found, weights, f"{name}.out_proj")


def _feed(x, weights: Weights, activation: Function):
    return _linear(activation(_linear(x, weights, "linear1")), weights, "linear2")


def _linear(x, weights: Weights, name: str):
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


class FeedForward(nn.Module):
    """`feed_forward` with weights that are learned; `dropout` acts on the hidden layer.

    The linear layers `up` and `down` start as torch's do, uniform within ±1/√(width of input).

    >>> FeedForward(4, 16)(torch.ones(2, 3, 4)).shape
    torch.Size([2, 3, 4])

    Raises:
        TypeError: `width` or `hidden` is no integer, `activation` no function, `bias` no bool, or
            `dropout` no number.
        ValueError: `width` or `hidden` is less than 1, or `dropout` not between 0 and 1.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Function = relu,
        *,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        width = check_size("width", width, minimum=1)
        hidden = check_size("hidden", hidden, minimum=1)
        check_functions(activation=activation)
        check_bool("bias", bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.activation = activation
        self.dropout = nn.Dropout(check_probability("dropout", dropout))
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Return what the network makes of each row of `x`.

        Raises:
            TypeError: `x` is no floating tensor.
            ValueError: the rows of `x` have another width.
        """
        check_rows(Tensor, self.up.in_features, x=x)
        return self.down(self.dropout(self.activation(self.up(x))))


class SwiGLU(nn.Module):
    """`swiglu` with weights that are learned; `dropout` acts on the hidden layer.

    The linear layers `gate`, `up` and `down` start as torch's do, uniform within
    ±1/√(width of input). By default they have no bias, as in the paper.

    >>> SwiGLU(4, 16)(torch.ones(2, 3, 4)).shape
    torch.Size([2, 3, 4])

    Raises:
        TypeError: `width` or `hidden` is no integer, `bias` no bool, or `dropout` no number.
        ValueError: `width` or `hidden` is less than 1, or `dropout` not between 0 and 1.
    """

    def __init__(self, width: int, hidden: int, *, bias: bool = False, dropout: float = 0.0):
        super().__init__()
        width = check_size("width", width, minimum=1)
        hidden = check_size("hidden", hidden, minimum=1)
        check_bool("bias", bias)
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.dropout = nn.Dropout(check_probability("dropout", dropout))
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Return what the network makes of each row of `x`.

        Raises:
            TypeError: `x` is no floating tensor.
            ValueError: the rows of `x` have another width.
        """
        check_rows(Tensor, self.up.in_features, x=x)
        return self.down(self.dropout(F.silu(self.gate(x)) * self.up(x)))


class EncoderLayer(nn.Module):
    """`encoder_layer` with weights that are learned, and with a choice of every part.

    `kv_heads`, `bias`, `dropout` and `rotate` are those of `MultiHeadAttention`; `bias` and
    `dropout` hold for the feed-forward network as well, and `dropout` also for what each step adds
    to its input. `residual` is `pre_norm` or `post_norm`. ``norm(width)`` makes a norm: it is
    `nn.LayerNorm`, `nn.RMSNorm` or a function such as ``partial(nn.RMSNorm, eps=1e-6)``.
    ``feed_forward(width, hidden, bias=bias, dropout=dropout)`` makes the network: it is
    `FeedForward`, `SwiGLU` or a function such as ``partial(FeedForward, activation=gelu)``.

    Initial values are those of the parts; norms start as torch's do, with weights of 1.

    >>> EncoderLayer(6, 3, 16)(torch.ones(2, 5, 6)).shape
    torch.Size([2, 5, 6])

    Raises:
        TypeError: a size is no integer, `bias` no bool, `dropout` no number, or `rotate`,
            `residual`, `norm` or `feed_forward` no function.
        ValueError: a size is less than 1, `heads` does not divide `width` or is not divided by
            `kv_heads`, or `dropout` not between 0 and 1.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        rotate: Callable | None = None,
        residual: Callable = post_norm,
        norm: Callable = nn.LayerNorm,
        feed_forward: Callable = FeedForward,
    ):
        super().__init__()
        check_functions(residual=residual, norm=norm, feed_forward=feed_forward)
        self.attention = MultiHeadAttention(
            width, heads, kv_heads, bias=bias, dropout=dropout, rotate=rotate
        )
        self.attention_norm = norm(width)
        self.feed_forward = feed_forward(width, hidden, bias=bias, dropout=dropout)
        self.feed_forward_norm = norm(width)
        self.dropout = nn.Dropout(dropout)
        self.residual = residual

    @classmethod
    def from_torch(cls, layer: nn.TransformerEncoderLayer) -> "EncoderLayer":
        """Return a layer with the options, a copy of the weights, and the mode of torch's `layer`.

        The result takes its input as (…, length, width) whether `layer` is `batch_first` or not.

        Raises:
            TypeError: `layer` is no `nn.TransformerEncoderLayer`.
            ValueError: `layer` has something that cannot be expressed, which the message names.
        """
        check_kind(nn.TransformerEncoderLayer, layer=layer)
        attentions, norms = {"attention": "self_attn"}, {"attention_norm": "norm1"}
        return _adopted(cls, layer, attentions, norms | {"feed_forward_norm": "norm2"})

    def forward(
        self,
        x: Float[Tensor, "*b i d"],
        mask: Bool[Tensor, "..."] | bool = True,
        *,
        bias: Float[Tensor, "..."] | float = 0.0,
    ) -> Float[Tensor, "*b i d"]:
        """Return `x` after both steps; `mask` and `bias` are those of the attention.

        Raises:
            TypeError: `x`, `mask` or `bias` is of another kind.
            ValueError: the rows of `x` have another width, or `mask` or `bias` does not fit them.
        """
        check_rows(Tensor, self.attention.query.in_features, x=x)
        check_rank(2, "(..., length, width)", x=x)
        attend = partial(self.attention, mask=mask, bias=bias)
        x = self.residual(x, lambda y: self.dropout(attend(y)), self.attention_norm)
        return self.residual(
            x, lambda y: self.dropout(self.feed_forward(y)), self.feed_forward_norm
        )


class DecoderLayer(nn.Module):
    """`decoder_layer` with weights that are learned, and with a choice of every part.

    The options are those of `EncoderLayer`. Both attentions have them, but `rotate`, which is for
    the attention of `x` to itself alone: positions in `x` and in `memory` are not of one sequence.

    >>> DecoderLayer(6, 3, 16)(torch.ones(2, 5, 6), torch.ones(2, 7, 6)).shape
    torch.Size([2, 5, 6])

    Raises:
        TypeError: as `EncoderLayer`.
        ValueError: as `EncoderLayer`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        kv_heads: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        rotate: Callable | None = None,
        residual: Callable = post_norm,
        norm: Callable = nn.LayerNorm,
        feed_forward: Callable = FeedForward,
    ):
        super().__init__()
        check_functions(residual=residual, norm=norm, feed_forward=feed_forward)
        self.attention = MultiHeadAttention(
            width, heads, kv_heads, bias=bias, dropout=dropout, rotate=rotate
        )
        self.attention_norm = norm(width)
        self.memory_attention = MultiHeadAttention(
            width, heads, kv_heads, bias=bias, dropout=dropout
        )
        self.memory_attention_norm = norm(width)
        self.feed_forward = feed_forward(width, hidden, bias=bias, dropout=dropout)
        self.feed_forward_norm = norm(width)
        self.dropout = nn.Dropout(dropout)
        self.residual = residual

    @classmethod
    def from_torch(cls, layer: nn.TransformerDecoderLayer) -> "DecoderLayer":
        """Return a layer with the options, a copy of the weights, and the mode of torch's `layer`.

        The result takes its input as (…, length, width) whether `layer` is `batch_first` or not.

        Raises:
            TypeError: `layer` is no `nn.TransformerDecoderLayer`.
            ValueError: `layer` has something that cannot be expressed, which the message names.
        """
        check_kind(nn.TransformerDecoderLayer, layer=layer)
        attentions = {"attention": "self_attn", "memory_attention": "multihead_attn"}
        norms = {"attention_norm": "norm1", "memory_attention_norm": "norm2"}
        return _adopted(cls, layer, attentions, norms | {"feed_forward_norm": "norm3"})

    def forward(
        self,
        x: Float[Tensor, "*b i d"],
        memory: Float[Tensor, "*b j d"],
        mask: Bool[Tensor, "..."] | bool = True,
        memory_mask: Bool[Tensor, "..."] | bool = True,
        *,
        bias: Float[Tensor, "..."] | float = 0.0,
    ) -> Float[Tensor, "*b i d"]:
        """Return `x` after all steps; `mask` and `bias` are those of its attention to itself.

        Raises:
            TypeError: as `EncoderLayer`, also for `memory` and `memory_mask`.
            ValueError: as `EncoderLayer`, also for `memory` and `memory_mask`.
        """
        check_rows(Tensor, self.attention.query.in_features, x=x)
        check_memory(Tensor, x, memory, self.attention.heads, memory_mask)
        attend = partial(self.attention, mask=mask, bias=bias)
        attend_to_memory = partial(self.memory_attention, k=memory, mask=memory_mask)
        x = self.residual(x, lambda y: self.dropout(attend(y)), self.attention_norm)
        x = self.residual(
            x, lambda y: self.dropout(attend_to_memory(y)), self.memory_attention_norm
        )
        return self.residual(
            x, lambda y: self.dropout(self.feed_forward(y)), self.feed_forward_norm
        )


class Encoder(nn.Module):
    """`encoder` of layers with weights that are learned, and an optional `norm` at the end.

    `layers` are modules such as `EncoderLayer`, each called as ``layer(x, mask, bias=bias)``. A
    module that occurs twice has its weights shared.

    >>> layers = [EncoderLayer(6, 3, 16, residual=pre_norm) for _ in range(2)]
    >>> Encoder(layers, norm=nn.LayerNorm(6))(torch.ones(2, 5, 6)).shape
    torch.Size([2, 5, 6])

    Raises:
        TypeError: `layers` cannot be iterated over, or one of them, or `norm`, is no module.
    """

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module | None = None):
        super().__init__()
        self.layers = nn.ModuleList(_modules(layers, norm))
        self.norm = norm

    @classmethod
    def from_torch(cls, encoder: nn.TransformerEncoder) -> "Encoder":
        """Return a stack of `EncoderLayer.from_torch` of each layer, and a copy of the norm.

        Raises:
            TypeError: `encoder` is no `nn.TransformerEncoder`, or has another kind of layer.
            ValueError: a layer has something that cannot be expressed, which the message names.
        """
        check_kind(nn.TransformerEncoder, encoder=encoder)
        layers = [EncoderLayer.from_torch(layer) for layer in encoder.layers]
        return cls(layers, copy.deepcopy(encoder.norm)).train(encoder.training)

    def forward(
        self,
        x: Float[Tensor, "*b i d"],
        mask: Bool[Tensor, "..."] | bool = True,
        *,
        bias: Float[Tensor, "..."] | float = 0.0,
    ) -> Float[Tensor, "*b i d"]:
        """Return `x` after all layers, which have the same `mask` and `bias`."""
        for layer in self.layers:
            x = layer(x, mask, bias=bias)
        return x if self.norm is None else self.norm(x)


class Decoder(nn.Module):
    """`decoder` of layers with weights that are learned, and an optional `norm` at the end.

    `layers` are modules such as `DecoderLayer`, each called as
    ``layer(x, memory, mask, memory_mask, bias=bias)``. A decoder-only model, which has no memory,
    is an `Encoder` under a causal mask.

    >>> decoder = Decoder([DecoderLayer(6, 3, 16) for _ in range(2)])
    >>> decoder(torch.ones(2, 5, 6), torch.ones(2, 7, 6)).shape
    torch.Size([2, 5, 6])

    Raises:
        TypeError: `layers` cannot be iterated over, or one of them, or `norm`, is no module.
    """

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module | None = None):
        super().__init__()
        self.layers = nn.ModuleList(_modules(layers, norm))
        self.norm = norm

    @classmethod
    def from_torch(cls, decoder: nn.TransformerDecoder) -> "Decoder":
        """Return a stack of `DecoderLayer.from_torch` of each layer, and a copy of the norm.

        Raises:
            TypeError: `decoder` is no `nn.TransformerDecoder`, or has another kind of layer.
            ValueError: a layer has something that cannot be expressed, which the message names.
        """
        check_kind(nn.TransformerDecoder, decoder=decoder)
        layers = [DecoderLayer.from_torch(layer) for layer in decoder.layers]
        return cls(layers, copy.deepcopy(decoder.norm)).train(decoder.training)

    def forward(
        self,
        x: Float[Tensor, "*b i d"],
        memory: Float[Tensor, "*b j d"],
        mask: Bool[Tensor, "..."] | bool = True,
        memory_mask: Bool[Tensor, "..."] | bool = True,
        *,
        bias: Float[Tensor, "..."] | float = 0.0,
    ) -> Float[Tensor, "*b i d"]:
        """Return `x` after all layers, which have the same memory, masks and `bias`."""
        for layer in self.layers:
            x = layer(x, memory, mask, memory_mask, bias=bias)
        return x if self.norm is None else self.norm(x)


def _modules(layers, norm) -> list[nn.Module]:
    """Return `layers` as a list, or raise TypeError unless they, and `norm`, are modules."""
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers is {described(layers)}, expected modules to iterate over")
    layers = list(layers)
    check_kind(nn.Module, **{f"layers[{index}]": layer for index, layer in enumerate(layers)})
    if norm is not None:
        check_kind(nn.Module, norm=norm)
    return layers


def _adopted(cls, layer, attentions: dict[str, str], norms: dict[str, str]):
    """Return a `cls` with the options and copies of the parts of torch's `layer`.

    `attentions` and `norms` give for the name of a part here the name of its origin there.
    """
    rates = [getattr(layer, f"dropout{number}").p for number in range(1, len(norms) + 1)]
    if len(set(rates)) > 1:
        raise ValueError(f"layer has dropout {rates} after its steps, expected one value for all")
    with torch.device("meta"):  # all weights are replaced below
        ours = cls(
            layer.self_attn.embed_dim,
            layer.self_attn.num_heads,
            layer.linear1.out_features,
            dropout=rates[0],
            residual=pre_norm if layer.norm_first else post_norm,
            feed_forward=partial(FeedForward, activation=copy.deepcopy(layer.activation)),
        )
    for name, origin in attentions.items():
        ours.set_submodule(name, MultiHeadAttention.from_torch(getattr(layer, origin)))
    network = {"up": "linear1", "dropout": "dropout", "down": "linear2"}
    copied = norms | {f"feed_forward.{name}": origin for name, origin in network.items()}
    for name, origin in copied.items():
        ours.set_submodule(name, copy.deepcopy(getattr(layer, origin)))
    return ours.train(layer.training)
