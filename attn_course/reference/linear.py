"""Attention whose cost grows with the length, not its square: sums in place of a softmax.

A similarity that is a product of features, ``φ(q)·φ(k)``, lets all keys and values be summed
into one matrix first. The causal forms keep that matrix as a state, S, which grows with every
token (linear attention), fades (gated) or is corrected (the delta rule). Each is given in forms
that return the same: `..._parallel` forms every pair and is the definition of its kind;
`..._recurrent` takes one token at a time in constant memory, as decoding does; `..._chunked`
forms the pairs within a chunk and passes the state from chunk to chunk.

In all causal forms query i sees the keys up to its own, so there are as many queries as keys.
State, decay and strengths may have another floating dtype than the queries; sums are kept, and
states returned, in that of the queries, but at least in float32. A state that a call returned
continues the sequence in the next call. Where pairs are formed, a value that is not finite
reaches earlier queries too, with which it has weight 0: in IEEE arithmetic 0·nan is nan.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

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
from attn_course.reference.softmax import ieee, widened

FeatureMap = Callable[..., object]
Sums = tuple[Float[np.ndarray, "*b m e"], Float[np.ndarray, "*b m"]]


def elu_features(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Map each entry to a positive one: ``elu(x) + 1``, that is ``max(x, 0) + exp(min(x, 0))``.

    >>> elu_features(np.array([-np.inf, 0.0, 3.0]))
    array([0., 1., 4.])

    Raises:
        TypeError: `x` is no floating array.

    Source:
        Katharopoulos et al. (2020), section 3.2.1.
    """
    check_arrays(np.ndarray, x=x)
    with ieee():
        return np.maximum(x, 0) + np.exp(np.minimum(x, 0))


def random_features(
    x: Float[np.ndarray, "*b n d"], projection: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, "*b n m"]:
    """Map rows to positive features whose products estimate ``exp(q·k / √d)``, softmax's own.

    The formula is ``φ(x) = exp(w·y − ‖y‖² / 2) / √m`` with ``y = x / d^(1/4)``, so that the
    inputs need no scaling, for each of the m rows w of `projection`. Where these are drawn from
    the standard normal distribution, ``φ(q)·φ(k)`` is ``exp(q·k / √d)`` on average, and its error
    falls as 1/√m. Queries and keys must share one `projection`, which is converted to the dtype
    that is summed in. No feature exceeds ``exp(‖w‖² / 2) / √m``; those of long rows become 0.

    >>> random_features(np.zeros((1, 2)), np.ones((4, 2)))
    array([[0.5, 0.5, 0.5, 0.5]])

    Raises:
        TypeError: `x` or `projection` is no floating array.
        ValueError: the shapes do not fit, or `projection` has no row.

    Source:
        Choromanski et al. (2021), lemma 1.
    """
    check_projection(np.ndarray, x, projection)
    features, width = projection.shape
    with ieee():
        y = x.astype(widened(x.dtype)) / width**0.25
        exponents = y @ projection.astype(y.dtype).T - (y**2).sum(axis=-1, keepdims=True) / 2
        return (np.exp(exponents) / math.sqrt(features)).astype(x.dtype)


def linear_attention(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    *,
    feature_map: FeatureMap = elu_features,
) -> Float[np.ndarray, "*b i e"]:
    """Average the rows of `v` for each query, weighted by products of features.

    The formula is ``φ(q) (φ(k)ᵀ v) / (φ(q) Σ_j φ(k_j))``: every query sees every key, at a cost
    that grows with the number of queries plus that of keys. `feature_map` is φ, a function of
    arrays (..., length, d) that returns arrays (..., length, m); it is called with the queries
    and with the keys, in at least float32. Where the denominator is 0, as it is where there is
    no key, the result is zeros.

    >>> linear_attention(np.zeros((1, 2)), np.eye(2), np.array([[0.0], [4.0]]))  # the mean
    array([[2.]])

    Raises:
        TypeError: `q`, `k` or `v` is no floating array, or `feature_map` no function that
            returns arrays in the dtype of what it is called with.
        ValueError: the shapes do not fit, those of the features among them.

    Source:
        Katharopoulos et al. (2020), section 3.2.
    """
    check_queries_and_keys(np.ndarray, q, k)
    check_values(np.ndarray, q, k, v)
    with ieee():
        q_features, k_features = _features(feature_map, q, k)
        values = k_features.mT @ v
        total = k_features.sum(axis=-2)[..., None]
        return _normalized(q_features @ values, q_features @ total).astype(q.dtype)


def linear_attention_parallel(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    *,
    feature_map: FeatureMap = elu_features,
) -> Float[np.ndarray, "*b n e"]:
    """Let each query average the values up to its own: causal `linear_attention`, by its weights.

    The formula is ``o_i = Σ_{j≤i} (φ(q_i)·φ(k_j)) v_j / Σ_{j≤i} φ(q_i)·φ(k_j)``; all n² weights
    are formed. Where the denominator is 0 the result is zeros.

    >>> linear_attention_parallel(np.zeros((2, 1)), np.zeros((2, 1)), np.array([[0.0], [4.0]]))
    array([[0.],
           [2.]])

    Raises:
        TypeError: as `linear_attention`.
        ValueError: as `linear_attention`, or there are not as many queries as keys.

    Source:
        Katharopoulos et al. (2020), section 3.3.
    """
    check_causal(np.ndarray, q, k, v)
    with ieee():
        q_features, k_features = _features(feature_map, q, k)
        weights = np.tril(q_features @ k_features.mT)
        return _normalized(weights @ v, weights.sum(axis=-1, keepdims=True)).astype(q.dtype)


def linear_attention_recurrent(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    state: Sums | None = None,
    *,
    feature_map: FeatureMap = elu_features,
) -> tuple[Float[np.ndarray, "*b n e"], Sums]:
    """Return `linear_attention_parallel`, computed token by token, and the state after the last.

    The state is the pair of the sums so far: ``S = Σ_j φ(k_j) v_jᵀ`` and ``z = Σ_j φ(k_j)``; then
    ``o_i = Sᵀ φ(q_i) / (z·φ(q_i))``. None stands for zeros.

    >>> zeros = np.zeros((2, 1))
    >>> out, (S, z) = linear_attention_recurrent(zeros, zeros, np.array([[0.0], [4.0]]))
    >>> out, S, z
    (array([[0.],
           [2.]]), array([[4.]]), array([2.]))

    Raises:
        TypeError: as `linear_attention`, or `state` is no pair of floating arrays.
        ValueError: as `linear_attention_parallel`, or the state has another shape.

    Source:
        Katharopoulos et al. (2020), section 3.4.
    """
    check_causal(np.ndarray, q, k, v)
    with ieee():
        q_features, k_features = _features(feature_map, q, k)
        S, z = _sums(state, k_features, v)
        out = np.zeros(v.shape, q.dtype)
        for t in _blocks(q, 1):
            q_t, k_t, v_t = q_features[..., t, :], k_features[..., t, :], v[..., t, :]
            S = S + k_t.mT @ v_t
            z = z + k_t.sum(axis=-2)
            out[..., t, :] = _normalized(q_t @ S, q_t @ z[..., None])
        return out, (S, z)


def linear_attention_chunked(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    state: Sums | None = None,
    *,
    chunk: int = 64,
    feature_map: FeatureMap = elu_features,
) -> tuple[Float[np.ndarray, "*b n e"], Sums]:
    """Return what `linear_attention_recurrent` returns, computed `chunk` tokens at a time.

    The weights are formed within a chunk; all that came before it is read from the state.

    >>> zeros, v = np.zeros((3, 1)), np.array([[0.0], [4.0], [5.0]])
    >>> out, state = linear_attention_chunked(zeros, zeros, v, chunk=2)
    >>> out
    array([[0.],
           [2.],
           [3.]])

    Raises:
        TypeError: as `linear_attention_recurrent`, or `chunk` is no integer.
        ValueError: as `linear_attention_recurrent`, or `chunk` is less than 1.

    Source:
        Sun et al. (2023), the chunkwise recurrent representation; Yang et al. (2024), "Gated
        linear attention transformers with hardware-efficient training".
    """
    check_causal(np.ndarray, q, k, v)
    chunk = check_size("chunk", chunk, minimum=1)
    with ieee():
        q_features, k_features = _features(feature_map, q, k)
        S, z = _sums(state, k_features, v)
        out = np.zeros(v.shape, q.dtype)
        for c in _blocks(q, chunk):
            q_c, k_c, v_c = q_features[..., c, :], k_features[..., c, :], v[..., c, :]
            weights = np.tril(q_c @ k_c.mT)
            total = weights.sum(axis=-1, keepdims=True) + q_c @ z[..., None]
            out[..., c, :] = _normalized(weights @ v_c + q_c @ S, total)
            S = S + k_c.mT @ v_c
            z = z + k_c.sum(axis=-2)
        return out, (S, z)


def gated_linear_attention_parallel(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    decay: Float[np.ndarray, "*b n"],
) -> Float[np.ndarray, "*b n e"]:
    """Let each query sum the values up to its own, the older the more faded, by their weights.

    The formula is ``o_i = Σ_{j≤i} (a_{j+1} ⋯ a_i) (q_i·k_j) v_j`` with ``a`` = `decay`; all n²
    weights are formed. Nothing is normalized, and no scale is applied. A decay lies between 0,
    which forgets all that came before its token, and 1, which forgets nothing: one number for
    all tokens is retention (RetNet), one that depends on the token Mamba-2's. The products are
    formed of the decays themselves, not as quotients, so that none can overflow.

    >>> one, v = np.ones((2, 1)), np.array([[4.0], [1.0]])
    >>> gated_linear_attention_parallel(one, one, v, np.array([1.0, 0.5]))
    array([[4.],
           [3.]])

    Raises:
        TypeError: `q`, `k`, `v` or `decay` is no floating array.
        ValueError: the shapes do not fit, or there are not as many queries as keys.

    Source:
        Sun et al. (2023), the parallel representation of retention; Dao and Gu (2024).
    """
    check_causal(np.ndarray, q, k, v)
    check_tokens(np.ndarray, q, decay=decay)
    with ieee():
        wide_q, wide_k, a = _wide(q, k, decay)
        weights = np.tril(wide_q @ wide_k.mT * _products(a))
        return (weights @ v).astype(q.dtype)


def gated_linear_attention_recurrent(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    decay: Float[np.ndarray, "*b n"],
    state: Float[np.ndarray, "*b d e"] | None = None,
) -> tuple[Float[np.ndarray, "*b n e"], Float[np.ndarray, "*b d e"]]:
    """Return `gated_linear_attention_parallel`, token by token, and the state after the last.

    The formula is ``S_t = a_t S_{t-1} + k_t v_tᵀ``, ``o_t = S_tᵀ q_t`` with ``a`` = `decay`. The
    state is S; None stands for zeros.

    >>> one, v = np.ones((2, 1)), np.array([[4.0], [1.0]])
    >>> gated_linear_attention_recurrent(one, one, v, np.array([1.0, 0.5]))
    (array([[4.],
           [3.]]), array([[3.]]))

    Raises:
        TypeError: as `gated_linear_attention_parallel`, or `state` is no floating array.
        ValueError: as `gated_linear_attention_parallel`, or `state` has another shape.

    Source:
        Sun et al. (2023), the recurrent representation of retention; Dao and Gu (2024).
    """
    check_causal(np.ndarray, q, k, v)
    check_tokens(np.ndarray, q, decay=decay)
    with ieee():
        wide_q, wide_k, wide_v, a = _wide(q, k, v, decay)
        S = _state(state, wide_k, wide_v)
        out = np.zeros(v.shape, q.dtype)
        for t in _blocks(q, 1):
            q_t, k_t, v_t = wide_q[..., t, :], wide_k[..., t, :], wide_v[..., t, :]
            S = a[..., t, None] * S + k_t.mT @ v_t
            out[..., t, :] = q_t @ S
        return out, S


def gated_linear_attention_chunked(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    decay: Float[np.ndarray, "*b n"],
    state: Float[np.ndarray, "*b d e"] | None = None,
    *,
    chunk: int = 64,
) -> tuple[Float[np.ndarray, "*b n e"], Float[np.ndarray, "*b d e"]]:
    """Return what `gated_linear_attention_recurrent` returns, `chunk` tokens at a time.

    >>> one, v = np.ones((3, 1)), np.array([[4.0], [1.0], [2.0]])
    >>> out, S = gated_linear_attention_chunked(one, one, v, np.array([1.0, 0.5, 1.0]), chunk=2)
    >>> out
    array([[4.],
           [3.],
           [5.]])

    Raises:
        TypeError: as `gated_linear_attention_recurrent`, or `chunk` is no integer.
        ValueError: as `gated_linear_attention_recurrent`, or `chunk` is less than 1.

    Source:
        Sun et al. (2023), the chunkwise recurrent representation of retention; Dao and Gu (2024).
    """
    check_causal(np.ndarray, q, k, v)
    check_tokens(np.ndarray, q, decay=decay)
    chunk = check_size("chunk", chunk, minimum=1)
    with ieee():
        wide_q, wide_k, wide_v, a = _wide(q, k, v, decay)
        S = _state(state, wide_k, wide_v)
        out = np.zeros(v.shape, q.dtype)
        for c in _blocks(q, chunk):
            q_c, k_c, v_c = wide_q[..., c, :], wide_k[..., c, :], wide_v[..., c, :]
            products = _products(a[..., c])
            since_start = np.cumprod(a[..., c], axis=-1)[..., None]
            until_end = products[..., -1, :, None]
            weights = np.tril(q_c @ k_c.mT * products)
            out[..., c, :] = weights @ v_c + since_start * (q_c @ S)
            S = since_start[..., -1:, :] * S + (until_end * k_c).mT @ v_c
        return out, S


def delta_rule_recurrent(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    beta: Float[np.ndarray, "*b n"],
    state: Float[np.ndarray, "*b d e"] | None = None,
) -> tuple[Float[np.ndarray, "*b n e"], Float[np.ndarray, "*b d e"]]:
    """Store each value under its key, in place of what the key recalls, then recall by the query.

    The formula is ``S_t = S_{t-1} + k_t (β_t (v_t − S_{t-1}ᵀ k_t))ᵀ``, ``o_t = S_tᵀ q_t``: the
    state S maps keys to values, and each token corrects its error, wholly where ``β_t ‖k_t‖²`` is
    1, not at all where it is 0. Above 2 the error grows with every step. The state that is
    returned is that after the last token; None stands for zeros.

    Nothing is scaled or normalized: flash-linear-attention scales the queries by ``1 / √d``, and
    its layers normalize queries and keys to length 1 beforehand.

    >>> k, v = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[4.0], [7.0]])
    >>> out, S = delta_rule_recurrent(k, k, v, np.array([1.0, 0.5]))
    >>> out
    array([[4. ],
           [5.5]])

    Raises:
        TypeError: `q`, `k`, `v`, `beta` or `state` is no floating array.
        ValueError: the shapes do not fit, or there are not as many queries as keys.

    Source:
        Schlag, Irie and Schmidhuber (2021), section 4.2.
    """
    check_causal(np.ndarray, q, k, v)
    check_tokens(np.ndarray, q, beta=beta)
    with ieee():
        wide_q, wide_k, wide_v, b = _wide(q, k, v, beta)
        S = _state(state, wide_k, wide_v)
        out = np.zeros(v.shape, q.dtype)
        for t in _blocks(q, 1):
            q_t, k_t, v_t = wide_q[..., t, :], wide_k[..., t, :], wide_v[..., t, :]
            S = S + k_t.mT @ (b[..., t, None] * (v_t - k_t @ S))
            out[..., t, :] = q_t @ S
        return out, S


def delta_rule_chunked(
    q: Float[np.ndarray, "*b n d"],
    k: Float[np.ndarray, "*b n d"],
    v: Float[np.ndarray, "*b n e"],
    beta: Float[np.ndarray, "*b n"],
    state: Float[np.ndarray, "*b d e"] | None = None,
    *,
    chunk: int = 64,
) -> tuple[Float[np.ndarray, "*b n e"], Float[np.ndarray, "*b d e"]]:
    """Return what `delta_rule_recurrent` returns, computed `chunk` tokens at a time.

    What a chunk's tokens add to the state S before it, ``k_t u_tᵀ`` each, solves the triangular
    system ``u_t + β_t Σ_{s<t} (k_t·k_s) u_s = β_t (v_t − Sᵀ k_t)``: the UT transform. Then
    ``o_t = Sᵀ q_t + Σ_{s≤t} (q_t·k_s) u_s``.

    >>> k, v = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[4.0], [7.0]])
    >>> out, S = delta_rule_chunked(k, k, v, np.array([1.0, 0.5]))
    >>> out
    array([[4. ],
           [5.5]])

    Raises:
        TypeError: as `delta_rule_recurrent`, or `chunk` is no integer.
        ValueError: as `delta_rule_recurrent`, or `chunk` is less than 1.

    Source:
        Yang et al. (2024), "Parallelizing linear transformers with the delta rule over sequence
        length".
    """
    check_causal(np.ndarray, q, k, v)
    check_tokens(np.ndarray, q, beta=beta)
    chunk = check_size("chunk", chunk, minimum=1)
    with ieee():
        wide_q, wide_k, wide_v, b = _wide(q, k, v, beta)
        S = _state(state, wide_k, wide_v)
        out = np.zeros(v.shape, q.dtype)
        for c in _blocks(q, chunk):
            q_c, k_c, v_c, b_c = wide_q[..., c, :], wide_k[..., c, :], wide_v[..., c, :], b[..., c]
            overlaps = b_c[..., None] * np.tril(k_c @ k_c.mT, -1)
            u = _substituted(overlaps, b_c[..., None] * (v_c - k_c @ S))
            out[..., c, :] = q_c @ S + np.tril(q_c @ k_c.mT) @ u
            S = S + k_c.mT @ u
        return out, S


def _wide(q, *others):
    """Return all arrays in the dtype that sums over queries of the dtype of `q` are kept in."""
    return [array.astype(widened(q.dtype)) for array in (q, *others)]


def _features(feature_map, q, k):
    check_functions(feature_map=feature_map)
    q, k = _wide(q, k)
    features = feature_map(q), feature_map(k)
    check_features(np.ndarray, q, k, *features)
    return features


def _sums(state, k, v):
    """Return `state`, or the sums over no tokens, in the dtype of the features `k`."""
    check_sums(np.ndarray, k, v, state)
    S, z = state or (k[..., :0, :].mT @ v[..., :0, :], k[..., :0, :].sum(axis=-2))
    return S.astype(k.dtype), z.astype(k.dtype)


def _state(state, k, v):
    """Return `state`, or one that holds nothing, in the dtype of `k`."""
    check_state(np.ndarray, k, v, state)
    return k[..., :0, :].mT @ v[..., :0, :] if state is None else state.astype(k.dtype)


def _blocks(x, size):
    """Return the slices that cut the rows of `x` into blocks of `size`, the last one shorter."""
    return [slice(start, start + size) for start in range(0, x.shape[-2], size)]


def _normalized(sums, total):
    # A finite sum over inf is 0, and nan stays nan.
    return sums / np.where(total == 0, np.inf, total)


def _products(a: Float[np.ndarray, "*b n"]) -> Float[np.ndarray, "*b n n"]:
    """Return ``a_{j+1} ⋯ a_i`` in row i and column j; above the diagonal, 1."""
    below = np.tri(a.shape[-1], k=-1, dtype=bool)
    return np.cumprod(np.where(below, a[..., :, None], 1), axis=-2)


def _substituted(lower, right):
    """Solve ``(1 + lower) u = right`` row by row, `lower` being zero from the diagonal up."""
    u = right.copy()
    for t in range(1, u.shape[-2]):
        u[..., t, :] -= (lower[..., t, None, :t] @ u[..., :t, :])[..., 0, :]
    return u
