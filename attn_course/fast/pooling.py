"""Many rows into one, in torch: see `attn_course.reference.pooling`."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_course.arguments import (
    check_number,
    check_pooling,
    check_queries_and_keys,
    check_size,
    check_values,
)
from attn_course.fast.softmax import masked, softmax, widened


def attention_pooling(
    x: Float[Tensor, "*b j d"],
    query: Float[Tensor, " d"],
    mask: Bool[Tensor, "*#b #j"] | bool = True,
    *,
    scale: float = 1.0,
) -> Float[Tensor, "*b d"]:
    """Average the rows of `x`, weighted by ``softmax(scale * (x @ query))``.

    As `attn_course.reference.attention_pooling`.

    >>> attention_pooling(torch.tensor([[0.0, 2.0], [0.0, 4.0]]), torch.tensor([1.0, 0.0]))
    tensor([0., 3.])

    Raises:
        TypeError: `x` or `query` is no floating tensor, `mask` neither bool nor boolean tensor, or
            `scale` no number.
        ValueError: the shapes do not fit, or `scale` is not finite.
    """
    scale = check_pooling(Tensor, x, query, mask, scale)
    scores = widened(x) @ (scale * widened(query))
    weights = softmax(masked(scores, mask)).to(x.dtype)
    return (weights[..., None, :] @ x)[..., 0, :]


class AttentionPooling(nn.Module):
    """`attention_pooling` by a query that is learned.

    The parameter `query` (width) starts at random with standard deviation 1/√width, so that the
    scores of rows of unit variance start with variance 1.

    >>> AttentionPooling(4)(torch.ones(2, 3, 4)).shape
    torch.Size([2, 4])

    Raises:
        TypeError: `width` is no integer.
        ValueError: `width` is less than 1.
    """

    def __init__(self, width: int):
        super().__init__()
        width = check_size("width", width, minimum=1)
        self.query = nn.Parameter(torch.randn(width) / math.sqrt(width))

    def forward(
        self, x: Float[Tensor, "*b j d"], mask: Bool[Tensor, "*#b #j"] | bool = True
    ) -> Float[Tensor, "*b d"]:
        """Return the pooled rows of `x`."""
        return attention_pooling(x, self.query, mask)


def kernel_weights(
    q: Float[Tensor, "*b i d"], k: Float[Tensor, "*b j d"], bandwidth: float = 1.0
) -> Float[Tensor, "*b i j"]:
    """Return Gaussian kernel weights: ``softmax(-||q - k||² / (2 bandwidth²))`` over the keys.

    As `attn_course.reference.kernel_weights`.

    >>> kernel_weights(torch.zeros(1, 1), torch.tensor([[-1.0], [1.0]]))
    tensor([[0.5000, 0.5000]])

    Raises:
        TypeError: `q` or `k` is no floating tensor, or `bandwidth` no number.
        ValueError: the shapes do not fit, or `bandwidth` is not positive and finite.
    """
    check_queries_and_keys(Tensor, q, k)
    bandwidth = check_number("bandwidth", bandwidth, positive=True, dtype=q.dtype)
    steps = (widened(q)[..., :, None, :] - widened(k)[..., None, :, :]) / bandwidth
    return softmax(-steps.square().sum(dim=-1) / 2).to(q.dtype)


def kernel_regression(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    bandwidth: float = 1.0,
) -> Float[Tensor, "*b i e"]:
    """Estimate the value at each query as the average of `v`, weighted by `kernel_weights`.

    As `attn_course.reference.kernel_regression`.

    >>> k, v = torch.tensor([[-1.0], [1.0]]), torch.tensor([[2.0], [4.0]])
    >>> kernel_regression(torch.zeros(1, 1), k, v)
    tensor([[3.]])

    Raises:
        TypeError: `q`, `k` or `v` is no floating tensor, or `bandwidth` no number.
        ValueError: the shapes do not fit, or `bandwidth` is not positive and finite.
    """
    check_queries_and_keys(Tensor, q, k)
    check_values(Tensor, q, k, v)
    return kernel_weights(q, k, bandwidth) @ v
