"""Scaled dot-product attention, in torch: see `attn_course.reference.dot_product`."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attn_course.arguments import check_attention, check_values
from attn_course.fast.scores import scaled_dot_scores
from attn_course.fast.softmax import masked, softmax, widened

# How many scores are formed at once where the weights must be: what a processor's cache holds,
# for there each of the dozen passes over them would else go to memory.
SCORES_AT_ONCE = {"cpu": 2**20, "other": 2**28}
# A processor's vector holds at most this many numbers. Among fewer keys, torch's kernel makes zeros
# of a row of scores that are all nan, unless it is given a mask.
LANES = 16


def attention_weights(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b i j"]:
    """Return how much each query attends to each key: ``softmax(q kᵀ / √d)``, row by row.

    As `attn_course.reference.attention_weights`. A bias that is one number is left out: added
    to every score of a row, it changes no weight.

    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> attention_weights(torch.zeros(2, 1), torch.ones(2, 1), mask)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])

    Raises:
        TypeError: `q` or `k` is no floating tensor, `mask` neither bool nor boolean tensor,
            `bias` neither number nor floating tensor, or `scale` or `softcap` no number.
        ValueError: the shapes do not fit, a number is not finite, or `softcap` not positive.
    """
    scale, softcap = check_attention(Tensor, q, k, mask, bias, scale, softcap)
    if mask is True and softcap is None and not isinstance(bias, Tensor):
        return _weights(q, k, mask, bias, scale, softcap)  # joining would cost more than it saves
    return _by_rows(_weights, q, k, mask, bias, scale, softcap)


def attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b i e"]:
    """Average the rows of `v` for each query, weighted by `attention_weights`.

    As `attn_course.reference.attention`. The work is done by torch's fused
    `scaled_dot_product_attention`, except with a softcap, which that cannot express. It adds the
    mask to the scores, so a query or key of nan or inf makes nan even where it is masked.

    >>> attention(torch.zeros(1, 2), torch.eye(2), torch.tensor([[0.0], [4.0]]))
    tensor([[2.]])

    Raises:
        TypeError: as `attention_weights`, and `v` is no floating tensor.
        ValueError: as `attention_weights`, and `v` has not one row for each key.
    """
    scale, softcap = check_attention(Tensor, q, k, mask, bias, scale, softcap)
    check_values(Tensor, q, k, v)
    if softcap is not None:
        return _by_rows(lambda *rows: _weights(*rows) @ v, q, k, mask, bias, scale, softcap)
    return fused(q, k, v, mask, bias, scale)


def _by_rows(function, q, k, mask, bias, scale, softcap):
    """Apply `function` to some of the queries at a time, and join what it returns."""
    at_once = SCORES_AT_ONCE["cpu" if q.device.type == "cpu" else "other"]
    size = max(1, at_once // max(1, math.prod(q.shape[:-2]) * k.shape[-2]))
    slices = [slice(start, start + size) for start in range(0, max(1, q.shape[-2]), size)]
    parts = [
        function(q[..., rows, :], k, _rows(mask, rows), _rows(bias, rows), scale, softcap)
        for rows in slices
    ]
    return torch.cat(parts, dim=-2)


def _rows(x, rows):
    """Return the rows of a mask or bias, of any shape that broadcasts, for some of the queries."""
    whole = not isinstance(x, Tensor) or x.ndim < 2 or x.shape[-2] == 1
    return x if whole else x[..., rows, :]


def _weights(q, k, mask, bias, scale, softcap):
    scores = scaled_dot_scores(widened(q), widened(k), scale)
    if softcap is not None:
        scores = softcap * scores.div_(softcap).tanh_()
    if isinstance(bias, Tensor):
        scores = scores + bias.to(q.dtype)
    elif mask is True:
        return torch.softmax(scores, dim=-1).to(q.dtype)  # no row is empty
    return softmax(masked(scores, mask)).to(q.dtype)


def fused(q, k, v, mask, bias, scale):
    """Return attention by torch's fused kernels; query heads may share a key head.

    torch chooses these kernels for four axes only, and else forms all the weights.
    """
    allowed, empty = _allowed(mask, bias, q), None
    if q.device.type == "cpu":
        if allowed is None and k.shape[-2] < LANES:
            allowed = torch.ones((), dtype=torch.bool, device=q.device)
    elif allowed is not None:
        # Elsewhere the kernels do not all agree on a query that may look nowhere, forward or
        # backward: let it look everywhere, then put zeros in its place.
        empty = _empty(allowed)
        allowed = allowed.masked_fill(empty, 1)
    if allowed is not None:
        allowed = _with_four_axes(_with_batch(allowed, q.shape[:-3]))
    inputs = [_with_four_axes(x) for x in (q, k, v)]
    grouped = q.shape[:-2] != k.shape[:-2]
    out = scaled_dot_product_attention(*inputs, allowed, scale=scale, enable_gqa=grouped)
    out = out.reshape(*q.shape[:-1], v.shape[-1])
    return out if empty is None else out.masked_fill(empty, 0)


def _with_four_axes(x):
    return x.flatten(0, -4) if x.ndim > 4 else x[(None,) * (4 - x.ndim)]


def _with_batch(allowed, batch):
    """Return `allowed` with the leading axes `batch`, where flattening needs them.

    All others stay of size 1 where they are: torch makes a float of every entry of a mask.
    """
    allowed = allowed[(None,) * (len(batch) + 3 - allowed.ndim)]
    return allowed.expand(*batch, -1, -1, -1) if len(batch) > 1 else allowed


def _allowed(mask, bias, q) -> Bool[Tensor, "..."] | Float[Tensor, "..."] | None:
    """Return `mask` and `bias` as torch takes them: one boolean mask, or one bias with -inf."""
    if isinstance(bias, Tensor):
        return masked(bias.to(q.dtype), mask)
    # One number added to every score of a row changes no weight.
    return None if mask is True else torch.as_tensor(mask, device=q.device)


def _empty(allowed) -> Bool[Tensor, "..."]:
    """Return which rows of what `_allowed` returned let nothing through."""
    shut = ~allowed if allowed.dtype == torch.bool else allowed == -torch.inf
    return shut.all(dim=-1, keepdim=True)
