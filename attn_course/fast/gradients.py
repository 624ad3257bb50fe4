"""How the inputs of attention should change, in torch: see `attn_course.reference.gradients`.

The reference derives the gradients of attention by hand; here torch does, from `attention`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attn_course.arguments import (
    check_arrays,
    check_attention_backward,
    check_axis,
    check_gradient,
    check_grouped,
    check_number,
)
from attn_course.fast.dot_product import attention
from attn_course.fast.multi_head import grouped_query_attention
from attn_course.fast.softmax import widened


def softmax_backward(
    weights: Float[Tensor, "*shape"],
    grad_output: Float[Tensor, "*shape"],
    axis: int = -1,
    temperature: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Turn a gradient with respect to weights into one with respect to scores.

    As `attn_course.reference.softmax_backward`: ``w_i (g_i - sum_j w_j g_j) / t``.

    >>> softmax_backward(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    tensor([ 0.2500, -0.2500])

    Raises:
        TypeError: `weights` or `grad_output` is no floating tensor, `axis` no integer, or
            `temperature` no number.
        ValueError: `weights` has no such axis, `grad_output` not its shape, or `temperature` is
            not positive and finite or rounds to 0 in the dtype of `weights`.
    """
    check_arrays(Tensor, weights=weights)
    check_axis(axis, weights=weights)
    check_gradient(Tensor, grad_output, weights.shape, weights=weights)
    t = check_number("temperature", temperature, positive=True, dtype=weights.dtype)
    w, g = widened(weights), widened(grad_output)
    average = (w * g).sum(dim=axis, keepdim=True)
    return (w * (g - average) / t).to(weights.dtype)


def attention_backward(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    grad_output: Float[Tensor, "*b i e"],
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Float[Tensor, "*b i d"], Float[Tensor, "*b j d"], Float[Tensor, "*b j e"]]:
    """Turn a gradient with respect to the output of `attention` into those of `q`, `k` and `v`.

    As `attn_course.reference.attention_backward`, by automatic differentiation. torch's fused
    kernels have no second derivative: to differentiate the result raises, without a softcap.

    >>> q, k, v = torch.tensor([[2.0]]), torch.ones(2, 1), torch.tensor([[1.0], [3.0]])
    >>> grad_q, grad_k, grad_v = attention_backward(q, k, v, torch.ones(1, 1))
    >>> grad_k
    tensor([[-1.],
            [ 1.]])

    Raises:
        TypeError: as `attention`, and `grad_output` is no floating tensor.
        ValueError: as `attention`, and `grad_output` has not the shape of the output.
    """
    check_attention_backward(Tensor, q, k, v, grad_output, mask, bias, scale, softcap)
    options = dict(bias=bias, scale=scale, softcap=softcap)
    _, backward = torch.func.vjp(lambda *inputs: attention(*inputs, mask, **options), q, k, v)
    return backward(grad_output)


def attention_bias_backward(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    grad_output: Float[Tensor, "*b i e"],
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b i j"]:
    """Turn a gradient with respect to the output of `attention` into that of its bias.

    As `attn_course.reference.attention_bias_backward`, by automatic differentiation.

    >>> q, k, v = torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])
    >>> attention_bias_backward(q, k, v, torch.ones(1, 1))
    tensor([[-0.5000,  0.5000]])

    Raises:
        TypeError: as `attention_backward`.
        ValueError: as `attention_backward`.
    """
    check_attention_backward(Tensor, q, k, v, grad_output, mask, bias, scale, softcap)
    # One number added to every score of a row changes no weight, but may cost digits.
    bias = bias.to(q.dtype) if isinstance(bias, Tensor) else q.new_zeros(())
    bias = bias.expand(*q.shape[:-1], k.shape[-2])
    options = dict(scale=scale, softcap=softcap)
    _, backward = torch.func.vjp(lambda bias: attention(q, k, v, mask, bias=bias, **options), bias)
    (grad_bias,) = backward(grad_output)
    return grad_bias


def grouped_query_attention_backward(
    q: Float[Tensor, "*b query_heads i d"],
    k: Float[Tensor, "*b key_heads j d"],
    v: Float[Tensor, "*b key_heads j e"],
    grad_output: Float[Tensor, "*b query_heads i e"],
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[
    Float[Tensor, "*b query_heads i d"],
    Float[Tensor, "*b key_heads j d"],
    Float[Tensor, "*b key_heads j e"],
]:
    """Turn a gradient with respect to the output of `grouped_query_attention` into the inputs'.

    As `attn_course.reference.grouped_query_attention_backward`, by automatic differentiation.

    >>> q, v = torch.zeros(4, 1, 1), torch.tensor([[[1.0]], [[2.0]]])
    >>> grad_output = torch.arange(1.0, 5.0).reshape(4, 1, 1)
    >>> grad_q, grad_k, grad_v = grouped_query_attention_backward(q, v, v, grad_output)
    >>> grad_v[:, 0, 0]
    tensor([3., 7.])

    Raises:
        TypeError: as `grouped_query_attention`, and `grad_output` is no floating tensor.
        ValueError: as `grouped_query_attention`, and `grad_output` has not the shape of the
            output.
    """
    check_grouped(Tensor, q, k, v, mask, bias, scale, softcap)
    check_gradient(Tensor, grad_output, (*q.shape[:-1], v.shape[-1]), q=q)
    options = dict(bias=bias, scale=scale, softcap=softcap)
    _, backward = torch.func.vjp(
        lambda *inputs: grouped_query_attention(*inputs, mask, **options), q, k, v
    )
    return backward(grad_output)
