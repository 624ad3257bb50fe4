"""How well do a query and a key fit? In torch: see `attn_course.reference.scores`."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from attn_course.arguments import (
    check_additive,
    check_bilinear,
    check_number,
    check_queries_and_keys,
)
from attn_course.fast.softmax import widened


def dot_scores(q: Float[Tensor, "*b i d"], k: Float[Tensor, "*b j d"]) -> Float[Tensor, "*b i j"]:
    """Compare by the dot product: ``q kᵀ``.

    As `attn_course.reference.dot_scores`.

    >>> dot_scores(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[11.,  2.]])

    Raises:
        TypeError: `q` or `k` is no floating tensor.
        ValueError: the shapes do not fit.
    """
    return scaled_dot_scores(q, k, scale=1.0)


def scaled_dot_scores(
    q: Float[Tensor, "*b i d"], k: Float[Tensor, "*b j d"], scale: float | None = None
) -> Float[Tensor, "*b i j"]:
    """Compare by the dot product times `scale`, by default ``1 / √d``: ``q kᵀ / √d``.

    As `attn_course.reference.scaled_dot_scores`.

    >>> scaled_dot_scores(torch.full((1, 4), 1.0), torch.full((1, 4), 3.0))
    tensor([[6.]])

    Raises:
        TypeError: `q` or `k` is no floating tensor, or `scale` no number.
        ValueError: the shapes do not fit, or `scale` is not finite.
    """
    check_queries_and_keys(Tensor, q, k)
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scale = check_number("scale", scale, dtype=q.dtype)
    return (scale * q) @ k.mT


def bilinear_scores(
    q: Float[Tensor, "*b i dq"],
    k: Float[Tensor, "*b j dk"],
    w: Float[Tensor, "dq dk"],
) -> Float[Tensor, "*b i j"]:
    """Compare through a learned matrix: ``q w kᵀ``. Queries and keys may differ in width.

    As `attn_course.reference.bilinear_scores`.

    >>> w = torch.tensor([[2.0], [7.0]])
    >>> bilinear_scores(torch.tensor([[1.0, 0.0]]), torch.tensor([[5.0]]), w)
    tensor([[10.]])

    Raises:
        TypeError: `q`, `k` or `w` is no floating tensor.
        ValueError: the shapes do not fit.
    """
    check_bilinear(Tensor, q, k, w)
    return q @ w @ k.mT


def additive_scores(
    q: Float[Tensor, "*b i dq"],
    k: Float[Tensor, "*b j dk"],
    w_q: Float[Tensor, "dq hidden"],
    w_k: Float[Tensor, "dk hidden"],
    v: Float[Tensor, " hidden"],
) -> Float[Tensor, "*b i j"]:
    """Compare by a network of one hidden layer: ``tanh(q w_q + k w_k) v``.

    As `attn_course.reference.additive_scores`.

    >>> one = torch.ones(1, 1)
    >>> additive_scores(0 * one, 0 * one, one, one, torch.ones(1))
    tensor([[0.]])

    Raises:
        TypeError: an argument is no floating tensor.
        ValueError: the shapes do not fit.
    """
    check_additive(Tensor, q, k, w_q, w_k, v)
    return torch.tanh((q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :]) @ v


def cosine_scores(
    q: Float[Tensor, "*b i d"], k: Float[Tensor, "*b j d"]
) -> Float[Tensor, "*b i j"]:
    """Compare by the cosine of the angle between query and key: ``q kᵀ / (‖q‖ ‖k‖)``.

    As `attn_course.reference.cosine_scores`: with a vector of zeros it is 0.

    >>> k = torch.tensor([[5.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> cosine_scores(torch.tensor([[3.0, 0.0]]), k)
    tensor([[1., 0., 0.]])

    Raises:
        TypeError: `q` or `k` is no floating tensor.
        ValueError: the shapes do not fit.
    """
    check_queries_and_keys(Tensor, q, k)
    return _unit(q) @ _unit(k).mT


def _unit(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n d"]:
    # Dividing by the largest entry first keeps the squares from overflowing. A row of zeros
    # divided by 1 stays a row of zeros, and the square root is not taken at 0, where its
    # derivative is infinite.
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    x = x / largest.masked_fill(largest == 0, 1)
    squares = widened(x).square().sum(dim=-1, keepdim=True)
    return (x / squares.masked_fill(squares == 0, 1).sqrt()).to(x.dtype)
