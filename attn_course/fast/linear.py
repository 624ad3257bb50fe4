"""Attention whose cost grows with the length, in torch: see `attn_course.reference.linear`.

The forms `..._recurrent` loop over tokens: they are the definition, and the step of decoding. The
forms `..._chunked` are for training: they work on all chunks at once, and loop over the chunks
at most to carry the state.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from attn_course.arguments import (
    check_arrays,
    check_causal,
    check_features,
    check_functions,
    check_projection,
    check_queries_and_keys,
    check_size,
    check_state,
    check_sums,
    check_tokens,
    check_values,
)
from attn_course.fast.softmax import widened

FeatureMap = Callable[..., object]
Sums = tuple[Float[Tensor, "*b m e"], Float[Tensor, "*b m"]]


def elu_features(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Map each entry to a positive one: ``elu(x) + 1``, that is ``max(x, 0) + exp(min(x, 0))``.

    As `attn_course.reference.elu_features`.

    >>> elu_features(torch.tensor([-torch.inf, 0.0, 3.0]))
    tensor([0., 1., 4.])

    Raises:
        TypeError: `x` is no floating tensor.
    """
    check_arrays(Tensor, x=x)
    # To add 1 to torch's elu would round what is small and positive to 0.
    return x.relu() + x.clamp(max=0).exp()


def random_features(
    x: Float[Tensor, "*b n d"], projection: Float[Tensor, "m d"]
) -> Float[Tensor, "*b n m"]:
    """Map rows to positive features whose products estimate ``exp(q·k / √d)``, softmax's own.

    As `attn_course.reference.random_features`.

    >>> random_features(torch.zeros(1, 2), torch.ones(4, 2))
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])

    Raises:
        TypeError: `x` or `projection` is no floating tensor.
        ValueError: the shapes do not fit, or `projection` has no row.
    """
    check_projection(Tensor, x, projection)
    features, width = projection.shape
    y = widened(x) / width**0.25
    exponents = y @ projection.to(y.dtype).T - y.square().sum(dim=-1, keepdim=True) / 2
    return (exponents.exp() / math.sqrt(features)).to(x.dtype)


def linear_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    *,
    feature_map: FeatureMap = elu_features,
) -> Float[Tensor, "*b i e"]:
    """Average the rows of `v` for each query, weighted by products of features.

    As `attn_course.reference.linear_attention`.

    >>> linear_attention(torch.zeros(1, 2), torch.eye(2), torch.tensor([[0.0], [4.0]]))
    tensor([[2.]])

    Raises:
        TypeError: `q`, `k` or `v` is no floating tensor, or `feature_map` no function that
            returns tensors in the dtype of what it is called with.
        ValueError: the shapes do not fit, those of the features among them.
    """
    check_queries_and_keys(Tensor, q, k)
    check_values(Tensor, q, k, v)
    q_features, k_features = _features(feature_map, q, k)
    sums = k_features.mT @ _with_ones(v)
    return _normalized(q_features @ sums).to(q.dtype)


def linear_attention_parallel(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    *,
    feature_map: FeatureMap = elu_features,
) -> Float[Tensor, "*b n e"]:
    """Let each query average the values up to its own: causal `linear_attention`, by its weights.

    As `attn_course.reference.linear_attention_parallel`.

    >>> zeros = torch.zeros(2, 1)
    >>> linear_attention_parallel(zeros, zeros, torch.tensor([[0.0], [4.0]]))
    tensor([[0.],
            [2.]])

    Raises:
        TypeError: as `linear_attention`.
        ValueError: as `linear_attention`, or there are not as many queries as keys.
    """
    check_causal(Tensor, q, k, v)
    q_features, k_features = _features(feature_map, q, k)
    weights = (q_features @ k_features.mT).tril()
    return _normalized(weights @ _with_ones(v)).to(q.dtype)


def linear_attention_recurrent(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    state: Sums | None = None,
    *,
    feature_map: FeatureMap = elu_features,
) -> tuple[Float[Tensor, "*b n e"], Sums]:
    """Return `linear_attention_parallel`, computed token by token, and the state after the last.

    As `attn_course.reference.linear_attention_recurrent`.

    >>> zeros = torch.zeros(2, 1)
    >>> out, (S, z) = linear_attention_recurrent(zeros, zeros, torch.tensor([[0.0], [4.0]]))
    >>> out, S, z
    (tensor([[0.],
            [2.]]), tensor([[4.]]), tensor([2.]))

    Raises:
        TypeError: as `linear_attention`, or `state` is no pair of floating tensors.
        ValueError: as `linear_attention_parallel`, or the state has another shape.
    """
    check_causal(Tensor, q, k, v)
    q_features, k_features = _features(feature_map, q, k)
    sums = _sums(state, k_features, v)
    values = _with_ones(v)
    parts = [values[..., :0, :]]
    for q_t, k_t, v_t in _tokens(q_features, k_features, values):
        sums = sums + k_t.mT @ v_t
        parts.append(q_t @ sums)
    out = _normalized(torch.cat(parts, dim=-2)).to(q.dtype)
    return out, (sums[..., :-1], sums[..., -1])


def linear_attention_chunked(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    state: Sums | None = None,
    *,
    chunk: int = 64,
    feature_map: FeatureMap = elu_features,
) -> tuple[Float[Tensor, "*b n e"], Sums]:
    """Return what `linear_attention_recurrent` returns, computed `chunk` tokens at a time.

    As `attn_course.reference.linear_attention_chunked`.

    >>> v = torch.tensor([[0.0], [4.0], [5.0]])
    >>> out, state = linear_attention_chunked(torch.zeros(3, 1), torch.zeros(3, 1), v, chunk=2)
    >>> out
    tensor([[0.],
            [2.],
            [3.]])

    Raises:
        TypeError: as `linear_attention_recurrent`, or `chunk` is no integer.
        ValueError: as `linear_attention_recurrent`, or `chunk` is less than 1.
    """
    check_causal(Tensor, q, k, v)
    chunk = check_size("chunk", chunk, minimum=1)
    q_features, k_features = _features(feature_map, q, k)
    sums = _sums(state, k_features, v)
    q_c, k_c, v_c = (_chunks(x, chunk) for x in (q_features, k_features, _with_ones(v)))
    # Row c: the sums before chunk c; the last row: the sums after all.
    sums = torch.cat([sums[..., None, :, :], k_c.mT @ v_c], dim=-3).cumsum(dim=-3)
    parts = (q_c @ k_c.mT).tril() @ v_c + q_c @ sums[..., :-1, :, :]
    out = _normalized(_joined(parts, q)).to(q.dtype)
    return out, (sums[..., -1, :, :-1], sums[..., -1, :, -1])


def gated_linear_attention_parallel(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    decay: Float[Tensor, "*b n"],
) -> Float[Tensor, "*b n e"]:
    """Let each query sum the values up to its own, the older the more faded, by their weights.

    As `attn_course.reference.gated_linear_attention_parallel`. A decay of 0 passes its own
    gradient back, like any other.

    >>> one, v = torch.ones(2, 1), torch.tensor([[4.0], [1.0]])
    >>> gated_linear_attention_parallel(one, one, v, torch.tensor([1.0, 0.5]))
    tensor([[4.],
            [3.]])

    Raises:
        TypeError: `q`, `k`, `v` or `decay` is no floating tensor.
        ValueError: the shapes do not fit, or there are not as many queries as keys.
    """
    check_causal(Tensor, q, k, v)
    check_tokens(Tensor, q, decay=decay)
    wide_q, wide_k, wide_v, a = _wide(q, k, v, decay)
    weights = (wide_q @ wide_k.mT * _products(a)).tril()
    return (weights @ wide_v).to(q.dtype)


def gated_linear_attention_recurrent(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    decay: Float[Tensor, "*b n"],
    state: Float[Tensor, "*b d e"] | None = None,
) -> tuple[Float[Tensor, "*b n e"], Float[Tensor, "*b d e"]]:
    """Return `gated_linear_attention_parallel`, token by token, and the state after the last.

    As `attn_course.reference.gated_linear_attention_recurrent`.

    >>> one, v = torch.ones(2, 1), torch.tensor([[4.0], [1.0]])
    >>> gated_linear_attention_recurrent(one, one, v, torch.tensor([1.0, 0.5]))
    (tensor([[4.],
            [3.]]), tensor([[3.]]))

    Raises:
        TypeError: as `gated_linear_attention_parallel`, or `state` is no floating tensor.
        ValueError: as `gated_linear_attention_parallel`, or `state` has another shape.
    """
    check_causal(Tensor, q, k, v)
    check_tokens(Tensor, q, decay=decay)
    wide_q, wide_k, wide_v, a = _wide(q, k, v, decay)
    S = _state(state, wide_k, wide_v)
    parts = [wide_v[..., :0, :]]
    for q_t, k_t, v_t, a_t in _tokens(wide_q, wide_k, wide_v, a[..., None]):
        S = a_t * S + k_t.mT @ v_t
        parts.append(q_t @ S)
    return torch.cat(parts, dim=-2).to(q.dtype), S


def gated_linear_attention_chunked(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    decay: Float[Tensor, "*b n"],
    state: Float[Tensor, "*b d e"] | None = None,
    *,
    chunk: int = 64,
) -> tuple[Float[Tensor, "*b n e"], Float[Tensor, "*b d e"]]:
    """Return what `gated_linear_attention_recurrent` returns, `chunk` tokens at a time.

    As `attn_course.reference.gated_linear_attention_chunked`.

    >>> one, v = torch.ones(3, 1), torch.tensor([[4.0], [1.0], [2.0]])
    >>> decay = torch.tensor([1.0, 0.5, 1.0])
    >>> out, S = gated_linear_attention_chunked(one, one, v, decay, chunk=2)
    >>> out
    tensor([[4.],
            [3.],
            [5.]])

    Raises:
        TypeError: as `gated_linear_attention_recurrent`, or `chunk` is no integer.
        ValueError: as `gated_linear_attention_recurrent`, or `chunk` is less than 1.
    """
    check_causal(Tensor, q, k, v)
    check_tokens(Tensor, q, decay=decay)
    chunk = check_size("chunk", chunk, minimum=1)
    wide_q, wide_k, wide_v, a = _wide(q, k, v, decay)
    states = [_state(state, wide_k, wide_v)]
    q_c, k_c, v_c = (_chunks(x, chunk) for x in (wide_q, wide_k, wide_v))
    # Decay 1 after the last token, so that the state is that after it.
    a_c = _chunks(a[..., None], chunk, fill=1.0)[..., 0]
    products = _products(a_c)
    since_start = a_c.cumprod(dim=-1)[..., None]
    until_end = products[..., -1, :, None]
    added = (until_end * k_c).mT @ v_c
    for kept, new in zip(since_start[..., -1:, :].unbind(-3), added.unbind(-3), strict=True):
        states.append(kept * states[-1] + new)
    before = torch.stack(states, dim=-3)[..., :-1, :, :]
    parts = (q_c @ k_c.mT * products).tril() @ v_c + since_start * (q_c @ before)
    return _joined(parts, q).to(q.dtype), states[-1]


def delta_rule_recurrent(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    beta: Float[Tensor, "*b n"],
    state: Float[Tensor, "*b d e"] | None = None,
) -> tuple[Float[Tensor, "*b n e"], Float[Tensor, "*b d e"]]:
    """Store each value under its key, in place of what the key recalls, then recall by the query.

    As `attn_course.reference.delta_rule_recurrent`.

    >>> k, v = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[4.0], [7.0]])
    >>> out, S = delta_rule_recurrent(k, k, v, torch.tensor([1.0, 0.5]))
    >>> out
    tensor([[4.0000],
            [5.5000]])

    Raises:
        TypeError: `q`, `k`, `v`, `beta` or `state` is no floating tensor.
        ValueError: the shapes do not fit, or there are not as many queries as keys.
    """
    check_causal(Tensor, q, k, v)
    check_tokens(Tensor, q, beta=beta)
    wide_q, wide_k, wide_v, b = _wide(q, k, v, beta)
    S = _state(state, wide_k, wide_v)
    parts = [wide_v[..., :0, :]]
    for q_t, k_t, v_t, b_t in _tokens(wide_q, wide_k, wide_v, b[..., None]):
        S = S + k_t.mT @ (b_t * (v_t - k_t @ S))
        parts.append(q_t @ S)
    return torch.cat(parts, dim=-2).to(q.dtype), S


def delta_rule_chunked(
    q: Float[Tensor, "*b n d"],
    k: Float[Tensor, "*b n d"],
    v: Float[Tensor, "*b n e"],
    beta: Float[Tensor, "*b n"],
    state: Float[Tensor, "*b d e"] | None = None,
    *,
    chunk: int = 64,
) -> tuple[Float[Tensor, "*b n e"], Float[Tensor, "*b d e"]]:
    """Return what `delta_rule_recurrent` returns, computed `chunk` tokens at a time.

    As `attn_course.reference.delta_rule_chunked`. The triangular systems of all chunks are solved
    at once, for ``β v`` and ``β k``: the state enters as a factor of the second solution.

    >>> k, v = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[4.0], [7.0]])
    >>> out, S = delta_rule_chunked(k, k, v, torch.tensor([1.0, 0.5]))
    >>> out
    tensor([[4.0000],
            [5.5000]])

    Raises:
        TypeError: as `delta_rule_recurrent`, or `chunk` is no integer.
        ValueError: as `delta_rule_recurrent`, or `chunk` is less than 1.
    """
    check_causal(Tensor, q, k, v)
    check_tokens(Tensor, q, beta=beta)
    chunk = check_size("chunk", chunk, minimum=1)
    wide_q, wide_k, wide_v, b = _wide(q, k, v, beta)
    S = _state(state, wide_k, wide_v)
    q_c, k_c, v_c, b_c = (_chunks(x, chunk) for x in (wide_q, wide_k, wide_v, b[..., None]))
    overlaps = b_c * (k_c @ k_c.mT).tril(-1)
    solved = torch.linalg.solve_triangular(
        overlaps, b_c * torch.cat([v_c, k_c], dim=-1), upper=False, unitriangular=True
    )
    from_values, from_keys = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    states, written = [S], [from_values[..., :0, :, :]]
    for k_t, by_values, by_keys in zip(
        k_c.unbind(-3), from_values.unbind(-3), from_keys.unbind(-3), strict=True
    ):
        u = by_values - by_keys @ states[-1]
        states.append(states[-1] + k_t.mT @ u)
        written.append(u[..., None, :, :])
    before = torch.stack(states, dim=-3)[..., :-1, :, :]
    parts = (q_c @ k_c.mT).tril() @ torch.cat(written, dim=-3) + q_c @ before
    return _joined(parts, q).to(q.dtype), states[-1]


def _wide(q, *others):
    """Return all tensors in the dtype that sums over queries of the dtype of `q` are kept in."""
    dtype = torch.promote_types(q.dtype, torch.float32)
    return [x.to(dtype) for x in (q, *others)]


def _features(feature_map, q, k):
    check_functions(feature_map=feature_map)
    q, k = widened(q), widened(k)
    features = feature_map(q), feature_map(k)
    check_features(Tensor, q, k, *features)
    return features


def _with_ones(v):
    """Return `v` with a column of ones: the sum of the weights is then one more of the sums."""
    return pad(widened(v), (0, 1), value=1.0)


def _normalized(sums):
    """Divide all columns by the last; a finite sum over inf is 0, and nan stays nan."""
    total = sums[..., -1:]
    return sums[..., :-1] / total.masked_fill(total == 0, torch.inf)


def _sums(state, k, v):
    """Return `state` as one tensor, z its last column, in the dtype of the features `k`."""
    check_sums(Tensor, k, v, state)
    if state is None:
        return k.new_zeros((*k.shape[:-2], k.shape[-1], v.shape[-1] + 1))
    S, z = state
    return torch.cat([S, z[..., None]], dim=-1).to(k.dtype)


def _state(state, k, v):
    """Return `state`, or one that holds nothing, in the dtype of `k`."""
    check_state(Tensor, k, v, state)
    if state is None:
        return k.new_zeros((*k.shape[:-2], k.shape[-1], v.shape[-1]))
    return state.to(k.dtype)


def _tokens(*tensors):
    """Return for each token its row of every tensor, as a matrix of one row."""
    return zip(*(x.unsqueeze(-2).unbind(dim=-3) for x in tensors), strict=True)


def _chunks(x, chunk, fill=0.0):
    """Cut (..., n, width) into (..., chunks, chunk, width), with `fill` after the last row."""
    n = x.shape[-2]
    chunk = min(chunk, max(n, 1))
    count = -(-n // chunk)
    return pad(x, (0, 0, 0, count * chunk - n), value=fill).unflatten(-2, (count, chunk))


def _joined(chunks, q):
    """Undo `_chunks`: as many rows as `q` has."""
    return chunks.flatten(-3, -2)[..., : q.shape[-2], :]


def _products(a: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n n"]:
    """Return ``a_{j+1} ⋯ a_i`` in row i and column j; above the diagonal, 1."""
    below = torch.ones(a.shape[-1], a.shape[-1], dtype=torch.bool, device=a.device).tril(-1)
    return torch.where(below, a[..., :, None], 1).cumprod(dim=-2)
