"""Attention a tile at a time, in plain torch: see `attn_course.reference.tiled`.

All heads of a tile are computed at once. For the gradients torch would keep the weights of every
tile. So each block of queries is a checkpoint, computed anew when its gradients are asked for, and
within it each tile is one again.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attn_course.arguments import (
    check_bias,
    check_gradient,
    check_mask,
    check_online,
    check_parts,
    check_tiled,
)
from attn_course.fast.masks import MaskMod
from attn_course.fast.softmax import masked, softmax, widened


def online_softmax(x: Float[Tensor, "*b n"], block: int = 512) -> Float[Tensor, "*b n"]:
    """Return `softmax` of each row, its maximum and its sum found in one pass over blocks.

    As `attn_course.reference.online_softmax`.

    >>> online_softmax(torch.tensor([1.0, 1.0, 2.0]).log(), block=1)
    tensor([0.2500, 0.2500, 0.5000])

    Raises:
        TypeError: `x` is no floating tensor, or `block` no integer.
        ValueError: `x` has no axis, or `block` is less than 1.
    """
    block = min(check_online(Tensor, x, block), max(1, x.shape[-1]))
    scores = widened(x)
    top = scores.new_full((*x.shape[:-1], 1), -torch.inf)
    total = scores.new_zeros((*x.shape[:-1], 1))
    for part in scores.split(block, dim=-1) if x.shape[-1] else ():
        higher = torch.maximum(top, part.detach().amax(dim=-1, keepdim=True))
        shift = _finite(higher)
        total = (top - shift).exp() * total + (part - shift).exp().sum(dim=-1, keepdim=True)
        top = higher
    return ((scores - _finite(top)).exp() / _counted(total)).to(x.dtype)


def tiled_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    mask: Bool[Tensor, "..."] | bool | MaskMod = True,
    *,
    bias: Float[Tensor, "..."] | float | MaskMod = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    block: int = 512,
) -> Float[Tensor, "*b i e"]:
    """Return `attention`, with the scores of `block` queries and `block` keys at a time.

    As `attn_course.reference.tiled_attention`, for all heads at once: functions are given index
    arrays that broadcast to (batch, heads, queries, keys), and a tile is skipped where no head
    lets anything through. Memory is linear in the length forward and backward, which computes
    the scores anew; tensors that a function holds get their gradients too.
    Under `torch.compile` no tile is skipped. `torch.func.grad` and its like cannot pass through
    what is computed anew, nor can `torch.vmap` map a mask, for its numbers are looked at.

    >>> from attn_course.fast.masks import causal_mod
    >>> values = torch.tensor([[2.0], [4.0], [6.0]])
    >>> tiled_attention(torch.zeros(3, 1), torch.ones(3, 1), values, causal_mod(3, 3), block=2)
    tensor([[2.],
            [3.],
            [4.]])

    Raises:
        TypeError: as `attention`, `block` is no integer, or a function returns what is no mask or
            no bias.
        ValueError: as `attention`, `block` is less than 1, a function returns a tensor that does
            not broadcast to its tile, or is given although `q` has more than four axes.
    """
    output, _ = partial_attention(
        q, k, v, mask, bias=bias, scale=scale, softcap=softcap, block=block
    )
    return output


def partial_attention(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    mask: Bool[Tensor, "..."] | bool | MaskMod = True,
    *,
    bias: Float[Tensor, "..."] | float | MaskMod = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    block: int = 512,
) -> tuple[Float[Tensor, "*b i e"], Float[Tensor, "*b i"]]:
    """Return `tiled_attention`, and of each query's scores the logarithm of the sum of ``exp``.

    As `attn_course.reference.partial_attention`.

    >>> partial_attention(torch.zeros(1, 1), torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
    (tensor([[2.]]), tensor([0.6931]))

    Raises:
        TypeError: as `tiled_attention`.
        ValueError: as `tiled_attention`.
    """
    scale, softcap, block = check_tiled(Tensor, q, k, v, mask, bias, scale, softcap, block)
    tiles = Tiles(q, k, v, mask, bias=bias, scale=scale, softcap=softcap, block=block)
    # It has no rows, but ties the result to all inputs even where no tile is seen.
    none = tiles.q[0][..., :0, :1] + tiles.k[..., :0, :1] + tiles.v[..., :0, :]
    outputs, lses = [none], [none.sum(dim=-1)]
    for rows in range(len(tiles.q)):
        output, lse = _recomputed(tiles.attend, rows)
        outputs.append(output)
        lses.append(lse)
    return torch.cat(outputs, dim=-2).to(q.dtype), torch.cat(lses, dim=-1)


def merge_attention(
    outputs: Float[Tensor, "p *b i e"], lses: Float[Tensor, "p *b i"]
) -> tuple[Float[Tensor, "*b i e"], Float[Tensor, "*b i"]]:
    """Join attention to several sets of keys, no key in two, into attention to all of them.

    As `attn_course.reference.merge_attention`.

    >>> outputs, lses = torch.tensor([[[2.0]], [[8.0]]]), torch.tensor([[2.0], [1.0]]).log()
    >>> merge_attention(outputs, lses)
    (tensor([[4.]]), tensor([1.0986]))

    Raises:
        TypeError: `outputs` or `lses` is no floating tensor.
        ValueError: `outputs` has fewer than three axes, or `lses` is not one for each row.
    """
    check_parts(Tensor, outputs, lses)
    wide = widened(lses)
    output = (softmax(wide, axis=0)[..., None] * widened(outputs)).sum(dim=0)
    if len(lses) == 0:
        return output.to(outputs.dtype), lses.new_full(lses.shape[1:], -torch.inf)
    top = wide.detach().amax(dim=0)
    total = (wide - _finite(top)).exp().sum(dim=0)
    return output.to(outputs.dtype), (top + _counted(total).log()).to(lses.dtype)


def tiled_attention_backward(
    q: Float[Tensor, "*b i d"],
    k: Float[Tensor, "*b j d"],
    v: Float[Tensor, "*b j e"],
    grad_output: Float[Tensor, "*b i e"],
    mask: Bool[Tensor, "..."] | bool | MaskMod = True,
    *,
    bias: Float[Tensor, "..."] | float | MaskMod = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    block: int = 512,
) -> tuple[Float[Tensor, "*b i d"], Float[Tensor, "*b j d"], Float[Tensor, "*b j e"]]:
    """Return `attention_backward`, with the scores of one tile at a time, computed anew.

    As `attn_course.reference.tiled_attention_backward`.

    >>> q, k, v = torch.tensor([[2.0]]), torch.ones(2, 1), torch.tensor([[1.0], [3.0]])
    >>> grad_q, grad_k, grad_v = tiled_attention_backward(q, k, v, torch.ones(1, 1))
    >>> grad_k
    tensor([[-1.],
            [ 1.]])

    Raises:
        TypeError: as `tiled_attention`, and `grad_output` is no floating tensor.
        ValueError: as `tiled_attention`, and `grad_output` has not the shape of the output.
    """
    scale, softcap, block = check_tiled(Tensor, q, k, v, mask, bias, scale, softcap, block)
    check_gradient(Tensor, grad_output, (*q.shape[:-1], v.shape[-1]), q=q)
    tiles = Tiles(q, k, v, mask, bias=bias, scale=scale, softcap=softcap, block=block)

    def statistics(rows, grad):
        output, lse = tiles.attend(rows)
        return lse, (grad * output).sum(dim=-1, keepdim=True)

    return tuple(grad.to(q.dtype) for grad in tiles.gradients(grad_output, statistics))


class Tiles:
    """The scores of `attention` tile by tile. Blocks of rows and columns go by their number."""

    def __init__(self, q, k, v, mask, *, bias=0.0, scale=None, softcap=None, block=512):
        self.scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        self.softcap = softcap
        # A larger block makes no larger tiles, and may be too large for torch.
        self.block = min(block, max(1, q.shape[-2], k.shape[-2]))
        self.given = q
        self.q = (self.scale * widened(q)).split(self.block, dim=-2)
        self.k, self.v = widened(k), widened(v)
        self.mask, self.bias = _grid(mask, self.block), _grid(bias, self.block)

    def columns(self, x: Float[Tensor, "*b j w"]) -> tuple[Tensor, ...]:
        """Return the blocks of keys or values. To slice them would make gradients of full size."""
        return x.split(self.block, dim=-2)

    def attend(self, rows: int) -> tuple[Float[Tensor, "*b i e"], Float[Tensor, "*b i"]]:
        """Return the output and the lse of a block of queries, by `online_softmax`."""
        q = self.q[rows]
        # Split here, all gradients of a block are let go before the next; memory fragments less.
        keys, values = self.columns(self.k), self.columns(self.v)
        top = q.new_full((*q.shape[:-1], 1), -torch.inf)
        total = q.new_zeros((*q.shape[:-1], 1))
        output = q.new_zeros((*q.shape[:-1], self.v.shape[-1]))
        for columns, mask in self.seen(rows):
            tile = q, keys[columns], values[columns], rows, columns, mask
            top, total, output = _recomputed(self.add, *tile, top, total, output)
        total = _counted(total)
        return output / total, (top + total.log())[..., 0]

    def add(self, q, k, v, rows, columns, mask, top, total, output):
        """Return the largest score, the sum and the output so far, with those of one more tile."""
        scores = self.scores(q, k, rows, columns, mask)
        higher = torch.maximum(top, scores.detach().amax(dim=-1, keepdim=True))
        shift = _finite(higher)
        fade = (top - shift).exp()
        exponentials = scores.sub_(shift).exp_()
        total = fade * total + exponentials.sum(dim=-1, keepdim=True)
        return higher, total, fade * output + exponentials @ v

    def gradients(self, grad_output, statistics) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of queries, keys and values, in the dtype that sums are taken in.

        `statistics`, of the number of a block of queries and the gradient of its output, are their
        lse and the average of their weights' gradients, each over all keys that they see.
        """
        keys, values = self.columns(self.k), self.columns(self.v)
        grad_q = []
        grad_k, grad_v = ([torch.zeros_like(x) for x in columns] for columns in (keys, values))
        for rows, grad in enumerate(widened(grad_output).split(self.block, dim=-2)):
            q = self.q[rows]
            lse, average = statistics(rows, grad)
            grad_q.append(torch.zeros_like(q))
            for columns, mask in self.seen(rows):
                key, value = keys[columns], values[columns]
                scores = self.scores(q, key, rows, columns, mask)
                weights = (scores - _finite(lse)[..., None]).exp()
                grad_v[columns] = grad_v[columns] + weights.mT @ grad
                grad_scores = weights * (grad @ value.mT - average)
                if self.softcap is not None:
                    slope = 1 - (self.bounded(q, key) / self.softcap) ** 2
                    grad_scores = grad_scores * slope
                grad_q[rows] = grad_q[rows] + self.scale * (grad_scores @ key)
                grad_k[columns] = grad_k[columns] + grad_scores.mT @ q
        return tuple(torch.cat(grads, dim=-2) for grads in (grad_q, grad_k, grad_v))

    def seen(self, rows: int) -> Iterator[tuple[int, Bool[Tensor, "..."] | bool]]:
        """Yield the number and the mask of each tile in which a query may look."""
        for columns in range(math.ceil(self.k.shape[-2] / self.block)):
            mask = self.tile_of(self.mask, check_mask, "mask", rows, columns)
            something, everything = _seen(mask)
            if something:
                yield columns, everything or mask

    def scores(self, q, k, rows, columns, mask) -> Float[Tensor, "*b i j"]:
        """Return the scores of a tile, in memory of their own."""
        scores = self.bounded(q, k)
        bias = self.tile_of(self.bias, check_bias, "bias", rows, columns)
        if isinstance(bias, Tensor):
            scores = scores + bias.to(self.given.dtype)
        elif bias != 0:
            scores = scores + bias
        return masked(scores, mask)

    def bounded(self, q, k) -> Float[Tensor, "*b i j"]:
        """Return the scores of a tile before bias and mask, from scaled queries."""
        scores = q @ k.mT
        return scores if self.softcap is None else self.softcap * (scores / self.softcap).tanh()

    def tile_of(self, x, check, name, rows, columns):
        """Return what a mask or bias, be it number, grid or function, is in a tile."""
        if isinstance(x, list):
            x = x[rows % len(x)]
            return x[columns % len(x)]
        if not callable(x):
            return x
        batch, heads = (1, 1, *self.given.shape[:-2])[-2:]
        rows, columns = (
            range(number * self.block, min((number + 1) * self.block, length))
            for number, length in ((rows, self.given.shape[-2]), (columns, self.k.shape[-2]))
        )
        places = range(batch), range(heads), rows, columns
        b, h, i, j = (torch.arange(p.start, p.stop, device=self.given.device) for p in places)
        tile = x(b[:, None, None, None], h[:, None, None], i[:, None], j)
        shape = tuple(len(place) for place in places)
        check(Tensor, tile, shape, called=f"{name}(b, h, i, j)", q=self.given)
        # What broadcasts to four axes may have more than the scores.
        return tile.reshape(tile.shape[-self.given.ndim :]) if isinstance(tile, Tensor) else tile


def _recomputed(function, *arguments):
    """Return `function` of `arguments`, of which nothing within is kept for the gradients."""
    # What inference mode made has none, and a checkpoint outside it cannot keep it.
    if not torch.compiler.is_compiling() and any(
        isinstance(x, Tensor) and x.is_inference() for x in arguments
    ):
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _grid(x, block: int):
    """Return an array of mask or bias as rows of tiles; along an axis of size 1 there is one."""
    if not isinstance(x, Tensor):
        return x
    return [list(rows.split(block, dim=-1)) for rows in torch.atleast_2d(x).split(block, dim=-2)]


def _seen(mask: Bool[Tensor, "..."] | bool) -> tuple[bool, bool]:
    """Return whether something and whether everything in a tile is let through."""
    if isinstance(mask, bool):
        return mask, mask
    if torch.compiler.is_compiling():  # a graph cannot depend on what the numbers are
        return True, False
    if mask.numel() == 0:
        return False, False
    least, most = torch.aminmax(mask.view(torch.uint8))  # ten times as fast as any() and all()
    return bool(most), bool(least)


def _finite(top: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return what to subtract: the largest score, or 0 where there is none."""
    return top.masked_fill(top == -torch.inf, 0)


def _counted(total: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return what to divide by: the sum of the exponentials, or 1 where there are none."""
    return total.masked_fill(total == 0, 1)
