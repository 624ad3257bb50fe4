"""Attention a tile at a time, in memory linear in length: what FlashAttention computes.

A tile is a block of queries by a block of keys. Softmax needs the largest score of a row and the
sum of its exponentials; both can be found tile by tile, if what was summed so far is scaled down
whenever a larger score turns up. So the scores of one tile at a time are all that is ever stored.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import (
    check_bias,
    check_gradient,
    check_mask,
    check_online,
    check_parts,
    check_tiled,
)
from attn_course.reference.masks import MaskMod
from attn_course.reference.softmax import ieee, softmax, widened


def online_softmax(x: Float[np.ndarray, "*b n"], block: int = 512) -> Float[np.ndarray, "*b n"]:
    """Return `softmax` of each row, its maximum and its sum found in one pass over blocks.

    For each block with scores x, the maximum m and the sum l so far become ``m' = max(m, max x)``
    and ``l' = l exp(m - m') + sum exp(x - m')``; the weights are ``exp(x - m) / l`` of the last.

    >>> online_softmax(np.log(np.array([1.0, 1.0, 2.0])), block=1)
    array([0.25, 0.25, 0.5 ])

    Raises:
        TypeError: `x` is no floating array, or `block` no integer.
        ValueError: `x` has no axis, or `block` is less than 1.

    Source:
        Milakov and Gimelshein (2018), algorithm 3.
    """
    block = check_online(np.ndarray, x, block)
    dtype = widened(x.dtype)
    top = np.full((*x.shape[:-1], 1), -np.inf, x.dtype)
    total = np.zeros((*x.shape[:-1], 1), dtype)
    with ieee():
        for columns in _blocks(x.shape[-1], block):
            part = x[..., columns]
            higher = np.maximum(top, part.max(axis=-1, keepdims=True))
            fade = np.exp(top - _finite(higher))
            exponentials = np.exp(part - _finite(higher))
            total = fade * total + exponentials.sum(axis=-1, keepdims=True, dtype=dtype)
            top = higher
        return (np.exp(x - _finite(top)) / np.where(total == 0, 1, total)).astype(x.dtype)


def tiled_attention(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    mask: Bool[np.ndarray, "..."] | bool | MaskMod = True,
    *,
    bias: Float[np.ndarray, "..."] | float | MaskMod = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    block: int = 512,
) -> Float[np.ndarray, "*b i e"]:
    """Return `attention`, with the scores of `block` queries and `block` keys at a time.

    The formula is ``softmax(q kᵀ / √d) v``; beyond inputs and output the memory does not grow with
    the length. `mask` and `bias` may also be functions of positions, such as `causal_mod` and
    `alibi_mod`. Each is asked once for every tile, with index arrays of batch, head, query and
    key that broadcast to (1, 1, queries, keys); an axis that `q` has not has the index 0. The
    keys and values of a tile in which no query may look are never read.

    The index arrays are of 32 bits where queries times keys fits, which halves the time that a
    mask takes.

    >>> from attn_course.reference.masks import causal_mod
    >>> values = np.array([[2.0], [4.0], [6.0]])
    >>> tiled_attention(np.zeros((3, 1)), np.ones((3, 1)), values, causal_mod(3, 3), block=2)
    array([[2.],
           [3.],
           [4.]])

    Raises:
        TypeError: as `attention`, `block` is no integer, or a function returns what is no mask or
            no bias.
        ValueError: as `attention`, `block` is less than 1, a function returns an array that does
            not broadcast to its tile, or is given although `q` has more than four axes.

    Source:
        Dao et al. (2022), "FlashAttention", algorithm 1, with the loops in the order of Dao (2023).
    """
    output, _ = partial_attention(
        q, k, v, mask, bias=bias, scale=scale, softcap=softcap, block=block
    )
    return output


def partial_attention(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    mask: Bool[np.ndarray, "..."] | bool | MaskMod = True,
    *,
    bias: Float[np.ndarray, "..."] | float | MaskMod = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    block: int = 512,
) -> tuple[Float[np.ndarray, "*b i e"], Float[np.ndarray, "*b i"]]:
    """Return `tiled_attention`, and of each query's scores the logarithm of the sum of ``exp``.

    The second, ``lse_i = log sum_j exp(s_ij)``, is what `merge_attention` needs to join this with
    attention to other keys. It is in nats and never of half precision; where a query may look
    nowhere it is -inf.

    >>> partial_attention(np.zeros((1, 1)), np.zeros((2, 1)), np.array([[1.0], [3.0]]))  # log 2
    (array([[2.]]), array([0.69314718]))

    Raises:
        TypeError: as `tiled_attention`.
        ValueError: as `tiled_attention`.

    Source:
        Dao (2023), "FlashAttention-2", algorithm 1.
    """
    scale, softcap, block = check_tiled(np.ndarray, q, k, v, mask, bias, scale, softcap, block)
    tiles = _Tiles(q, k, v, mask, bias, scale, softcap, block)
    output = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    lse = np.empty(q.shape[:-1], tiles.q.dtype)
    with ieee():
        for head, rows in tiles.blocks_of_rows():
            output[head][rows], lse[head][rows] = tiles.attend(head, rows)
    return output, lse


def merge_attention(
    outputs: Float[np.ndarray, "p *b i e"], lses: Float[np.ndarray, "p *b i"]
) -> tuple[Float[np.ndarray, "*b i e"], Float[np.ndarray, "*b i"]]:
    """Join attention to several sets of keys, no key in two, into attention to all of them.

    Given what `partial_attention` returned for each part, along a first axis: the outputs are
    averaged with the weights ``softmax(lse)`` over the parts, and the new lse is
    ``log sum_p exp(lse_p)``. Neither the order nor the grouping of the parts matters, and an empty
    part, of lse -inf, changes nothing. Where all are empty the result is zeros and -inf.

    >>> outputs, lses = np.array([[[2.0]], [[8.0]]]), np.log([[2.0], [1.0]])
    >>> merge_attention(outputs, lses)  # two keys of average 2 and one of 8
    (array([[4.]]), array([1.09861229]))

    Raises:
        TypeError: `outputs` or `lses` is no floating array.
        ValueError: `outputs` has fewer than three axes, or `lses` is not one for each row.

    Source:
        Ye et al. (2025), "FlashInfer", section 2.2.
    """
    check_parts(np.ndarray, outputs, lses)
    with ieee():
        weights = softmax(lses, axis=0)[..., None]
        output = (weights * outputs).sum(axis=0, dtype=widened(weights.dtype))
        top = np.max(lses, axis=0, initial=-np.inf)
        total = np.exp(lses - _finite(top)).sum(axis=0, dtype=widened(lses.dtype))
        lse = top + np.log(np.where(total == 0, 1, total))
        return output.astype(outputs.dtype), lse.astype(lses.dtype)


def tiled_attention_backward(
    q: Float[np.ndarray, "*b i d"],
    k: Float[np.ndarray, "*b j d"],
    v: Float[np.ndarray, "*b j e"],
    grad_output: Float[np.ndarray, "*b i e"],
    mask: Bool[np.ndarray, "..."] | bool | MaskMod = True,
    *,
    bias: Float[np.ndarray, "..."] | float | MaskMod = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    block: int = 512,
) -> tuple[Float[np.ndarray, "*b i d"], Float[np.ndarray, "*b j d"], Float[np.ndarray, "*b j e"]]:
    """Return `attention_backward`, with the scores of one tile at a time, computed anew.

    The weights of a tile are ``W = exp(S - lse)``. The average that softmax subtracts from a row
    of dW needs no other tile: it is ``D = sum_e dO O``. So in each tile::

        dV += Wᵀ dO
        dS = W (dO Vᵀ - D)
        dQ += s dS K
        dK += s dSᵀ Q

    and with a softcap c, dS times ``1 - tanh²(s q kᵀ / c)`` before the last two. Memory and what is
    skipped are as of `tiled_attention`.

    >>> q, k, v = np.array([[2.0]]), np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]])
    >>> grad_q, grad_k, grad_v = tiled_attention_backward(q, k, v, np.ones((1, 1)))
    >>> grad_k
    array([[-1.],
           [ 1.]])

    Raises:
        TypeError: as `tiled_attention`, and `grad_output` is no floating array.
        ValueError: as `tiled_attention`, and `grad_output` has not the shape of the output.

    Source:
        Dao et al. (2022), "FlashAttention", algorithm 4.
    """
    scale, softcap, block = check_tiled(np.ndarray, q, k, v, mask, bias, scale, softcap, block)
    check_gradient(np.ndarray, grad_output, (*q.shape[:-1], v.shape[-1]), q=q)
    tiles = _Tiles(q, k, v, mask, bias, scale, softcap, block)
    grad_output = _wide(grad_output)
    grad_q, grad_k, grad_v = (np.zeros(x.shape, tiles.q.dtype) for x in (q, k, v))
    buffer = np.empty_like(tiles.buffer)
    with ieee():
        for head, rows in tiles.blocks_of_rows():
            grad = grad_output[head][rows]
            output, lse = tiles.attend(head, rows)
            average = (grad * output).sum(axis=-1, keepdims=True)
            scaled_q = tiles.scaled(head, rows)
            for columns, scores in tiles.seen(head, rows):
                key, value = tiles.k[head][columns], tiles.v[head][columns]
                scores -= _finite(lse)[:, None]
                weights = np.exp(scores, out=scores)
                grad_v[head][columns] += weights.T @ grad
                grad_scores = np.matmul(grad, value.T, out=buffer[: len(grad), : len(value)])
                grad_scores -= average
                grad_scores *= weights
                if softcap is not None:
                    # The bounded scores take the place of the weights, which are done with.
                    bounded = tiles.bounded(scaled_q, key)
                    bounded /= softcap
                    grad_scores *= 1 - bounded**2
                grad_q[head][rows] += tiles.scale * (grad_scores @ key)
                grad_k[head][columns] += grad_scores.T @ scaled_q
        return grad_q.astype(q.dtype), grad_k.astype(k.dtype), grad_v.astype(v.dtype)


class _Tiles:
    """The scores of `attention` tile by tile, in one buffer that each tile overwrites."""

    def __init__(self, q, k, v, mask, bias, scale, softcap, block):
        self.q, self.k, self.v = _wide(q), _wide(k), _wide(v)
        self.mask, self.bias, self.given = mask, bias, q
        self.scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        self.softcap = softcap
        self.block = block
        queries, keys = q.shape[-2], k.shape[-2]
        # The rows' maxima and sums are found twice as fast where scores lie in memory column by
        # column. A bias lies there row by row, and to mix the two costs more than that saves.
        order = "C" if callable(bias) or isinstance(bias, np.ndarray) else "F"
        self.buffer = np.empty((min(block, queries), min(block, keys)), self.q.dtype, order)

    def blocks_of_rows(self) -> Iterator[tuple[tuple[int, ...], slice]]:
        """Yield each block of queries: the index of its head, and its rows."""
        for head in np.ndindex(self.q.shape[:-2]):
            for rows in _blocks(self.q.shape[-2], self.block):
                yield head, rows

    def attend(self, head, rows) -> tuple[Float[np.ndarray, "i e"], Float[np.ndarray, " i"]]:
        """Return the output and the lse of a block of queries, by `online_softmax`."""
        size, dtype = rows.stop - rows.start, self.q.dtype
        top = np.full((size, 1), -np.inf, dtype)
        total = np.zeros((size, 1), dtype)
        output = np.zeros((size, self.v.shape[-1]), dtype)
        for columns, scores in self.seen(head, rows):
            higher = np.maximum(top, scores.max(axis=-1, keepdims=True))
            fade = np.exp(top - _finite(higher))
            scores -= _finite(higher)
            exponentials = np.exp(scores, out=scores)
            total *= fade
            total += exponentials.sum(axis=-1, keepdims=True)
            output *= fade
            output += exponentials @ self.v[head][columns]
            top = higher
        total[total == 0] = 1
        return output / total, (top + np.log(total))[:, 0]

    def seen(self, head, rows) -> Iterator[tuple[slice, Float[np.ndarray, "i j"]]]:
        """Yield the columns and the scores of each tile in which a query may look.

        The caller may overwrite the scores; the next tile does.
        """
        q = self.scaled(head, rows)
        for columns in _blocks(self.k.shape[-2], self.block):
            mask = self.tile_of(self.mask, check_mask, "mask", head, rows, columns)
            if not np.any(mask):
                continue
            scores = self.bounded(q, self.k[head][columns])
            bias = self.tile_of(self.bias, check_bias, "bias", head, rows, columns)
            if isinstance(bias, np.ndarray) or bias != 0:
                scores += np.asarray(bias, dtype=self.given.dtype)
            if not np.all(mask):
                np.copyto(scores, -np.inf, where=~mask)
            yield columns, scores

    def bounded(self, q, k) -> Float[np.ndarray, "i j"]:
        """Return the scores of a tile before bias and mask, from scaled queries."""
        scores = np.matmul(q, k.T, out=self.buffer[: len(q), : len(k)])
        if self.softcap is not None:
            scores /= self.softcap
            np.tanh(scores, out=scores)
            scores *= self.softcap
        return scores

    def scaled(self, head, rows) -> Float[np.ndarray, "i d"]:
        return self.scale * self.q[head][rows]

    def tile_of(self, x, check, name, head, rows, columns):
        """Return what a mask or bias, be it number, array or function, is in a tile."""
        if callable(x):
            b, h = (0, 0, *head)[-2:]
            # Indices of 32 bits halve the time of a mask. The products of positions fit as well.
            fits = self.q.shape[-2] * self.k.shape[-2] <= np.iinfo(np.int32).max
            indices = [
                np.arange(place.start, place.stop, dtype=np.int32 if fits else np.int64)
                for place in (slice(b, b + 1), slice(h, h + 1), rows, columns)
            ]
            tile = x(*np.ix_(*indices))
            shape = tuple(len(index) for index in indices)
            check(np.ndarray, tile, shape, called=f"{name}(b, h, i, j)", q=self.given)
            return tile.reshape(tile.shape[-2:]) if isinstance(tile, np.ndarray) else tile
        if isinstance(x, np.ndarray):
            shape = (*self.q.shape[:-1], self.k.shape[-2])
            return np.broadcast_to(x, shape)[head][rows, columns]
        return x


def _blocks(length: int, block: int) -> Iterator[slice]:
    for start in range(0, length, block):
        yield slice(start, min(start + block, length))


def _finite(top: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return what to subtract: the largest score, or 0 where there is none."""
    return np.where(top == -np.inf, 0, top)


def _wide(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return x.astype(widened(x.dtype), copy=False)
