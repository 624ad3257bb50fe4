"""Keys and values kept from token to token, in torch: see `attn_course.reference.cache`.

A cache holds numbers, not how they came about: no gradient flows back into the keys and values
appended, only into queries and bias. To train, give `attention` the whole text and a causal mask.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attn_course.arguments import (
    check_appended,
    check_cached_attention,
    check_newest,
    check_room,
    check_size,
    check_stored,
)
from attn_course.fast.masks import causal_mask, window_mask
from attn_course.fast.multi_head import grouped_query_attention


class _Cache:
    """What both caches have: tensors of keys and values, of which the first `length` tokens count.

    `length` is the number of tokens kept, `seen` the number ever appended.
    """

    def __init__(self):
        self.length = 0
        self.seen = 0
        self._stored = None

    @property
    def keys(self) -> Float[Tensor, "*b length d"]:
        """A view of the keys kept, oldest first. Before the first `append` there is none."""
        return check_stored("keys", self._stored)[0][..., : self.length, :]

    @property
    def values(self) -> Float[Tensor, "*b length e"]:
        """A view of the values kept, oldest first. Before the first `append` there is none."""
        return check_stored("values", self._stored)[1][..., : self.length, :]

    @property
    def nbytes(self) -> int:
        """The bytes allocated, 0 before the first `append`."""
        return sum(tensor.nbytes for tensor in self._stored or ())

    def _device(self):
        return self._stored[0].device if self._stored else None


class KVCache(_Cache):
    """The keys and values of all tokens so far, at most `capacity` of them.

    As `attn_course.reference.KVCache`; the first `append` fixes the device too.

    >>> cache = KVCache(capacity=8)
    >>> cache.append(torch.zeros(1, 3, 2), torch.ones(1, 3, 1))
    >>> cache.length, cache.keys.shape, cache.nbytes  # room for 8 tokens of 3 numbers each
    (3, torch.Size([1, 3, 2]), 96)

    Raises:
        TypeError: `capacity` is no integer.
        ValueError: `capacity` is less than 1.
    """

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = check_size("capacity", capacity, minimum=1)

    def append(self, k: Float[Tensor, "*b new d"], v: Float[Tensor, "*b new e"]) -> None:
        """Keep copies of the keys `k` and values `v` of the next tokens, any number of them.

        Where they are refused the cache stays as it was.

        Raises:
            TypeError: `k` or `v` is no floating tensor, or not of the first tokens' dtype.
            ValueError: the shapes do not fit each other or the first tokens', or there is no room.
        """
        check_appended(Tensor, k, v, self._stored)
        length = self.length_after(k.shape[-2])
        if self._stored is None:
            shapes = [(*x.shape[:-2], self.capacity, x.shape[-1]) for x in (k, v)]
            with torch.inference_mode(False):  # else it could be written there only
                self._stored = tuple(k.new_empty(shape) for shape in shapes)
        for stored, new in zip(self._stored, (k, v), strict=True):
            # Through `data`, or torch would call changed what earlier steps keep for gradients.
            stored.data[..., self.length : length, :] = new.detach()
        self.length = self.seen = length

    def length_after(self, new: int) -> int:
        """Return what `length` is after `new` more tokens, or raise ValueError without room."""
        return check_room(self.length, new, self.capacity)

    def mask(self, queries: int) -> Bool[Tensor, "queries length"]:
        """Return who may look where if the newest `queries` tokens ask: `causal_mask`."""
        queries = check_newest(queries, self.length)
        return causal_mask(queries, self.length, device=self._device())


class SlidingKVCache(_Cache):
    """The keys and values that a window still reaches, however long the text.

    As `attn_course.reference.SlidingKVCache`; the first `append` fixes the device too.

    >>> cache = SlidingKVCache(window=3)
    >>> for token in range(5):
    ...     cache.append(torch.full((1, 1, 1), float(token)), torch.ones(1, 1, 1))
    >>> cache.keys[0, :, 0], cache.length, cache.seen
    (tensor([2., 3., 4.]), 3, 5)

    Raises:
        TypeError: `window` is no integer.
        ValueError: `window` is less than 1.
    """

    def __init__(self, window: int):
        super().__init__()
        self.window = check_size("window", window, minimum=1)

    def append(self, k: Float[Tensor, "*b new d"], v: Float[Tensor, "*b new e"]) -> None:
        """Keep copies of the keys `k` and values `v` of the next tokens, any number of them.

        Where they are refused the cache stays as it was.

        Raises:
            TypeError: `k` or `v` is no floating tensor, or not of the first tokens' dtype.
            ValueError: the shapes do not fit each other or the first tokens'.
        """
        check_appended(Tensor, k, v, self._stored)
        new = k.shape[-2]
        length = self.length_after(new)
        dropped = self.length + new - length
        old = self._stored or (k[..., :0, :].detach(), v[..., :0, :].detach())
        self._stored = tuple(
            torch.cat((x[..., dropped:, :], y.detach()), dim=-2)
            for x, y in zip(old, (k, v), strict=True)
        )
        self.length = length
        self.seen += new

    def length_after(self, new: int) -> int:
        """Return what `length` is after `new` more tokens."""
        return min(self.length, self.window - 1) + check_size("new", new)

    def mask(self, queries: int) -> Bool[Tensor, "queries length"]:
        """Return who may look where if the newest `queries` tokens ask: `window_mask`.

        Once tokens are dropped, of the last chunk alone is the whole window kept: to ask for more
        queries raises ValueError.
        """
        lost = self.window - 1 if self.seen > self.length else 0
        queries = check_newest(queries, self.length - lost)
        return window_mask(queries, self.length, self.window, device=self._device())


def cached_attention(
    q: Float[Tensor, "*b query_heads new d"],
    k: Float[Tensor, "*b key_heads new d"],
    v: Float[Tensor, "*b key_heads new e"],
    cache: KVCache | SlidingKVCache,
    mask: Bool[Tensor, "..."] | bool = True,
    *,
    bias: Float[Tensor, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "*b query_heads new e"]:
    """Append the keys and values of new tokens to `cache`, and attend from them to all it holds.

    As `attn_course.reference.cached_attention`. Gradients flow to `q` and `bias`; to `k` and `v`,
    which the cache keeps as numbers, none do.

    >>> cache = KVCache(capacity=2)
    >>> one = torch.ones(1, 1, 1)
    >>> cached_attention(0 * one, one, one, cache)
    tensor([[[1.]]])
    >>> cached_attention(0 * one, one, 3 * one, cache)  # the mean of 1, which was kept, and 3
    tensor([[[2.]]])

    Raises:
        TypeError: as `grouped_query_attention`, `cache` is no cache of this library, or it holds
            another dtype.
        ValueError: as `grouped_query_attention`, `q` has not one query for each new token, the
            shapes do not fit those in the cache, or it has no room.
    """
    check_cached_attention(Tensor, q, k, v, cache, _Cache, mask, bias, scale, softcap)
    cache.append(k, v)
    queries = q.shape[-2]
    if queries != 1:  # one alone, the newest, sees all that is kept
        mask = cache.mask(queries) & mask
    return grouped_query_attention(
        q, cache.keys, cache.values, mask, bias=bias, scale=scale, softcap=softcap
    )
