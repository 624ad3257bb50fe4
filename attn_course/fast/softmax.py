"""Scores into weights, in torch: see `attn_course.reference.softmax`."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attn_course.arguments import check_arrays, check_axis, check_number, check_rank


def widened(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return `x` in float32 where it is of half precision, else `x` itself."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def masked(scores: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | bool) -> Float[Tensor, "..."]:
    """Return `scores` with -inf where `mask` is False."""
    if mask is True:
        return scores
    return torch.where(torch.as_tensor(mask, device=scores.device), scores, -torch.inf)


def softmax(
    x: Float[Tensor, "*shape"], axis: int = -1, temperature: float = 1.0
) -> Float[Tensor, "*shape"]:
    """Turn scores into weights, none negative, that sum to 1 along `axis`.

    As `attn_course.reference.softmax`: a row of -inf alone gets zeros, and passes none but zero
    gradients back.

    >>> softmax(torch.tensor([1.0, 1.0, 2.0]).log())
    tensor([0.2500, 0.2500, 0.5000])

    Raises:
        TypeError: `x` is no floating tensor, `axis` no integer, or `temperature` no number.
        ValueError: `x` has no such axis, or `temperature` is not positive and finite or rounds
            to 0 in the dtype of `x`.
    """
    check_arrays(Tensor, x=x)
    check_axis(axis, x=x)
    t = check_number("temperature", temperature, positive=True, dtype=x.dtype)
    if x.shape[axis] == 0:
        return torch.softmax(x, dim=axis)
    scores = widened(x)
    top = scores.detach().amax(dim=axis, keepdim=True)
    empty = top == -torch.inf
    if t != 1:
        scores = (scores - top.masked_fill(empty, 0)) / t
    # torch.softmax alone gives nan for a row without a finite score, forward and backward.
    return (torch.softmax(torch.where(empty, 0, scores), dim=axis) * ~empty).to(x.dtype)


def softmax_jacobian(weights: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n n"]:
    """Return how each weight changes with each score, given the weights that softmax returned.

    As `attn_course.reference.softmax_jacobian`.

    >>> softmax_jacobian(torch.tensor([0.5, 0.5]))
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]])

    Raises:
        TypeError: `weights` is no floating tensor.
        ValueError: `weights` has no axis.
    """
    check_arrays(Tensor, weights=weights)
    check_rank(1, "(..., keys)", weights=weights)
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    return weights[..., :, None] * (identity - weights[..., None, :])


def entropy(weights: Float[Tensor, "..."], axis: int = -1) -> Float[Tensor, "..."]:
    """Measure in nats how spread out `weights` are along `axis`: ``-sum_i w_i log w_i``.

    As `attn_course.reference.entropy`. A weight of 0 adds 0 and passes gradient 0 back.

    >>> entropy(torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])).exp()
    tensor([4., 2.])

    Raises:
        TypeError: `weights` is no floating tensor, or `axis` no integer.
        ValueError: `weights` has no such axis.
    """
    check_arrays(Tensor, weights=weights)
    check_axis(axis, weights=weights)
    wide = widened(weights)
    logs = torch.log(wide.masked_fill(wide == 0, 1))
    return (0 - (wide * logs).sum(dim=axis)).to(weights.dtype)
