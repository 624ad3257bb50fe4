"""Scaled dot-product attention, in torch: see `attn_course.reference.dot_product`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from attn_course.arguments import check_attention, check_values
from attn_course.fast.scores import scaled_dot_scores
from attn_course.fast.softmax import masked, softmax, widened


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
    scores = scaled_dot_scores(widened(q), widened(k), scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if isinstance(bias, Tensor):
        scores = scores + bias.to(q.dtype)
    return softmax(masked(scores, mask)).to(q.dtype)


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
    mask to the scores, so a key of nan or inf makes nan even where it is masked.

    >>> attention(torch.zeros(1, 2), torch.eye(2), torch.tensor([[0.0], [4.0]]))
    tensor([[2.]])

    Raises:
        TypeError: as `attention_weights`, and `v` is no floating tensor.
        ValueError: as `attention_weights`, and `v` has not one row for each key.
    """
    scale, softcap = check_attention(Tensor, q, k, mask, bias, scale, softcap)
    check_values(Tensor, q, k, v)
    if softcap is not None:
        return attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap) @ v
    additive = _additive_mask(mask, bias, q)
    if additive is None:
        return _fused(q, k, v, None, scale)
    # The fused kernels do not all agree on a query that may look nowhere, forward or backward:
    # let it look everywhere, then put zeros in its place.
    empty = (additive == -torch.inf).all(dim=-1, keepdim=True)
    additive = additive.masked_fill(empty, 0).expand(*q.shape[:-1], k.shape[-2])
    return _fused(q, k, v, additive, scale).masked_fill(empty, 0)


def _fused(q, k, v, additive, scale):
    # torch chooses its fused kernels for four axes only, and else forms all the weights.
    inputs = [None if x is None else _with_four_axes(x) for x in (q, k, v, additive)]
    out = scaled_dot_product_attention(*inputs, scale=scale)
    return out.reshape(*q.shape[:-1], v.shape[-1])


def _with_four_axes(x):
    return x.flatten(0, -4) if x.ndim > 4 else x[(None,) * (4 - x.ndim)]


def _additive_mask(mask, bias, q) -> Float[Tensor, "..."] | None:
    """Return `mask` and `bias` as one bias in the dtype of `q`, -inf where mask is False."""
    if mask is True and not isinstance(bias, Tensor):
        return None  # one number added to every score of a row changes no weight
    allowed = torch.as_tensor(mask, device=q.device)
    bias = torch.as_tensor(bias, device=q.device).to(q.dtype)
    return torch.where(allowed, bias, -torch.inf)
