"""Attention of several heads at once, in torch: see `attn_course.reference.multi_head`."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_course.arguments import (
    check_arrays,
    check_bool,
    check_functions,
    check_grouped,
    check_heads,
    check_inputs,
    check_module_sizes,
    check_multi_head,
    check_probability,
    check_rank,
    check_torch_attention,
)
from attn_course.fast.dot_product import attention, attention_weights, fused


def split_heads(x: Float[Tensor, "*b n width"], heads: int) -> Float[Tensor, "*b heads n d"]:
    """Cut every row of `x` into `heads` pieces: (…, n, heads·d) becomes (…, heads, n, d).

    As `attn_course.reference.split_heads`.

    >>> split_heads(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), 2)
    tensor([[[1., 2.],
             [5., 6.]],
    <BLANKLINE>
            [[3., 4.],
             [7., 8.]]])

    Raises:
        TypeError: `x` is no floating tensor, or `heads` no integer.
        ValueError: `x` has fewer than two axes, or its width is no multiple of `heads`.
    """
    heads = check_heads(Tensor, x, heads)
    return x.unflatten(-1, (heads, x.shape[-1] // heads)).transpose(-3, -2)


def merge_heads(x: Float[Tensor, "*b heads n d"]) -> Float[Tensor, "*b n width"]:
    """Put the heads side by side: (…, heads, n, d) becomes (…, n, heads·d). Undoes `split_heads`.

    As `attn_course.reference.merge_heads`.

    >>> merge_heads(torch.tensor([[[1.0, 2.0], [5.0, 6.0]], [[3.0, 4.0], [7.0, 8.0]]]))
    tensor([[1., 2., 3., 4.],
            [5., 6., 7., 8.]])

    Raises:
        TypeError: `x` is no floating tensor.
        ValueError: `x` has fewer than three axes.
    """
    check_arrays(Tensor, x=x)
    check_rank(3, "(..., heads, length, width)", x=x)
    return x.transpose(-3, -2).flatten(-2)


def grouped_query_attention(
    q: Float[Tensor, "*b query_heads i d"],
    k: Float[Tensor, "*b key_heads j d"],
    v: Float[Tensor, "*b key_heads j e"],
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b query_heads i e"]:
    """Attend with several query heads to each head of keys and values.

    As `attn_course.reference.grouped_query_attention`. The work is done as in `attention`; torch's
    fused kernels read the shared keys and values where they lie.

    >>> q, k, v = torch.zeros(4, 1, 1), torch.zeros(2, 1, 1), torch.tensor([[[5.0]], [[6.0]]])
    >>> grouped_query_attention(q, k, v)[:, 0, 0]
    tensor([5., 5., 6., 6.])

    Raises:
        TypeError: as `attention`.
        ValueError: as `attention`; an argument has fewer than three axes, the query heads are no
            multiple of the key heads, or `v` has not as many heads as `k`.
    """
    scale, softcap = check_grouped(Tensor, q, k, v, mask, bias, scale, softcap)
    if softcap is not None:
        capped = partial(attention, scale=scale, softcap=softcap)
        return _by_members(capped, q, k, v, mask, bias)
    return fused(q, k, v, mask, bias, scale)


def multi_head_attention(
    q: Float[Tensor, "*b i q_width"],
    k: Float[Tensor, "*b j k_width"],
    v: Float[Tensor, "*b j v_width"],
    w_q: Float[Tensor, "q_width heads_d"],
    w_k: Float[Tensor, "k_width key_heads_d"],
    w_v: Float[Tensor, "v_width key_heads_e"],
    w_o: Float[Tensor, "heads_e out"],
    heads: int,
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b i out"]:
    """Project `q`, `k` and `v`, attend in each head, and project the heads' outputs side by side.

    As `attn_course.reference.multi_head_attention`.

    >>> x, w = torch.tensor([[3.0, 5.0]]), torch.eye(2)  # one row attends to itself alone
    >>> multi_head_attention(x, x, x, w, w, w, 2 * w, 2)
    tensor([[ 6., 10.]])

    Raises:
        TypeError: as `attention`, or `heads` is no integer.
        ValueError: as `attention`, or the shape of a matrix does not fit its input or `heads`.
    """
    options = {"mask": mask, "bias": bias, "scale": scale, "softcap": softcap}
    weights = {"w_q": w_q, "w_k": w_k, "w_v": w_v, "w_o": w_o}
    heads, key_heads = check_multi_head(Tensor, q, k, v, heads=heads, **weights, **options)
    q = split_heads(q @ w_q, heads)
    k = split_heads(k @ w_k, key_heads)
    v = split_heads(v @ w_v, key_heads)
    return merge_heads(grouped_query_attention(q, k, v, **options)) @ w_o


class MultiHeadAttention(nn.Module):
    """`multi_head_attention` by projections that are learned: multi-head, grouped or multi-query.

    Rows of `width` columns give `heads` heads of queries and `kv_heads` of keys and values (by
    default as many), all of width ``width / heads``. `key_width` and `value_width` are the widths
    of the rows of `k` and `v`, by default `width`. The projections `query`, `key`, `value` and
    `output` are `nn.Linear`, with a bias if `bias`. In training every weight is set to 0 with
    probability `dropout`, and the others divided by ``1 - dropout``.

    `rotate` is a function of rows and their positions, such as `rotary`, applied to the queries
    and keys of each head. Keys stand at 0, 1, …, and queries at the last of those positions.

    >>> layer = MultiHeadAttention(8, heads=4, kv_heads=2)
    >>> layer(torch.zeros(3, 5, 8)).shape
    torch.Size([3, 5, 8])

    Raises:
        TypeError: a size is no integer, `bias` no bool, `dropout` no number, or `rotate` no
            function.
        ValueError: a size is less than 1, `width` no multiple of `heads`, `heads` no multiple of
            `kv_heads`, or `dropout` not between 0 and 1.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int | None = None,
        *,
        key_width: int | None = None,
        value_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        rotate: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        super().__init__()
        width, heads, kv_heads, key_width, value_width = check_module_sizes(
            width, heads, kv_heads, key_width, value_width
        )
        check_bool("bias", bias)
        if rotate is not None:
            check_functions(rotate=rotate)
        self.heads, self.kv_heads, self.rotate = heads, kv_heads, rotate
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(key_width, width // heads * kv_heads, bias=bias)
        self.value = nn.Linear(value_width, width // heads * kv_heads, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        self.dropout = nn.Dropout(check_probability("dropout", dropout))

    @classmethod
    def from_torch(cls, module: nn.MultiheadAttention) -> "MultiHeadAttention":
        """Return a layer with copies of the weights of torch's own, and its settings.

        Ours takes inputs (…, length, width) whatever `batch_first` is, and its mask is the
        opposite of `attn_mask` and `key_padding_mask`: True where a query may look.

        Raises:
            TypeError: `module` is no `nn.MultiheadAttention`.
            ValueError: `module` adds keys and values of its own to those that it is given.
        """
        check_torch_attention(nn.MultiheadAttention, module)
        bias = module.in_proj_bias is not None
        with torch.device("meta"):  # weights that are replaced at once need no values
            layer = cls(
                module.embed_dim,
                module.num_heads,
                key_width=module.kdim,
                value_width=module.vdim,
                bias=bias,
                dropout=module.dropout,
            )
        names = ("query", "key", "value")
        if module.in_proj_weight is None:
            weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        else:
            weights = module.in_proj_weight.chunk(3)
        state = {f"{name}.weight": w for name, w in zip(names, weights, strict=True)}
        state["output.weight"] = module.out_proj.weight
        if bias:
            biases = zip(names, module.in_proj_bias.chunk(3), strict=True)
            state |= {f"{name}.bias": b for name, b in biases}
            state["output.bias"] = module.out_proj.bias
        copies = {name: tensor.detach().clone() for name, tensor in state.items()}
        layer.load_state_dict(copies, assign=True)
        return layer.train(module.training)

    def forward(
        self,
        q: Float[Tensor, "*b i q_width"],
        k: Float[Tensor, "*b j k_width"] | None = None,
        v: Float[Tensor, "*b j v_width"] | None = None,
        mask: Bool[Tensor, "..."] | bool = True,
        *,
        bias: Float[Tensor, "..."] | float = 0.0,
    ) -> Float[Tensor, "*b i q_width"]:
        """Return for each row of `q` what it finds among the rows of `v`.

        `k` is by default `q` (self-attention), `v` by default `k`. `mask` and `bias` broadcast to
        (…, heads, queries, keys); `mask` is True where a query may look.

        Raises:
            TypeError: as `attention`.
            ValueError: as `attention`, or `q`, `k` or `v` has not the width that the layer takes.
        """
        k = q if k is None else k
        v = k if v is None else v
        widths = [layer.in_features for layer in (self.query, self.key, self.value)]
        check_inputs(Tensor, q, k, v, widths, self.heads, mask, bias, None, None)
        q, k = self._queries_and_keys(q, k)
        v = split_heads(self.value(v), self.kv_heads)
        if self.training and self.dropout.p > 0:
            out = _by_members(self._with_dropout, q, k, v, mask, bias)
        else:
            out = grouped_query_attention(q, k, v, mask, bias=bias)
        return self.output(merge_heads(out))

    def weights(
        self,
        q: Float[Tensor, "*b i q_width"],
        k: Float[Tensor, "*b j k_width"] | None = None,
        mask: Bool[Tensor, "..."] | bool = True,
        *,
        bias: Float[Tensor, "..."] | float = 0.0,
    ) -> Float[Tensor, "*b heads i j"]:
        """Return the weight that each head gives each key for each query, without dropout.

        The arguments are those of a call of the layer. The output is what the values, averaged
        by these weights, become in the projection `output`.

        Raises:
            TypeError: as `attention`.
            ValueError: as `attention`, or `q` or `k` has not the width that the layer takes.
        """
        k = q if k is None else k
        widths = [layer.in_features for layer in (self.query, self.key, self.key)]
        check_inputs(Tensor, q, k, k, widths, self.heads, mask, bias, None, None)
        q, k = self._queries_and_keys(q, k)
        return _by_members(
            lambda q, k, _, mask, bias: attention_weights(q, k, mask, bias=bias),
            q,
            k,
            k,
            mask,
            bias,
        )

    def _queries_and_keys(self, q, k):
        """Return the heads of queries and keys, turned by their positions if there is `rotate`."""
        q = split_heads(self.query(q), self.heads)
        k = split_heads(self.key(k), self.kv_heads)
        if self.rotate is None:
            return q, k
        queries, keys = q.shape[-2], k.shape[-2]
        q = self.rotate(q, torch.arange(keys - queries, keys, device=q.device))
        return q, self.rotate(k, torch.arange(keys, device=k.device))

    def _with_dropout(self, q, k, v, mask, *, bias):
        return self.dropout(attention_weights(q, k, mask, bias=bias)) @ v


def _by_members(function, q, k, v, mask, bias):
    """Apply `function` to the first query heads of all groups, to the second, ..., and join.

    So many query heads as there are key heads need no copies of keys and values.
    """
    group = q.shape[-3] // k.shape[-3]
    parts = [
        function(q[..., g::group, :, :], k, v, _heads(mask, g, group), bias=_heads(bias, g, group))
        for g in range(group)
    ]
    return torch.stack(parts, dim=-3).flatten(-4, -3)


def _heads(x, first, step):
    """Return what a mask or bias of any shape that broadcasts holds for every `step`-th head."""
    whole = not isinstance(x, Tensor) or x.ndim < 3 or x.shape[-3] == 1
    return x if whole else x[..., first::step, :, :]
