"""Keys and values kept from token to token, so that a new token need not compute the old again.

Text is written token by token, and each new token looks at all before it. Their keys and values
do not change, so a cache keeps them: a step costs the attention of one query, not of all.
"""

import numpy as np
from jaxtyping import Bool, Float

from attn_course.arguments import (
    check_appended,
    check_cached_attention,
    check_newest,
    check_room,
    check_size,
    check_stored,
)
from attn_course.reference.masks import causal_mask, window_mask
from attn_course.reference.multi_head import grouped_query_attention


class _Cache:
    """What both caches have: arrays of keys and values, of which the first `length` tokens count.

    `length` is the number of tokens kept, `seen` the number ever appended.
    """

    def __init__(self):
        self.length = 0
        self.seen = 0
        self._stored = None

    @property
    def keys(self) -> Float[np.ndarray, "*b length d"]:
        """A view of the keys kept, oldest first. Before the first `append` there is none."""
        return check_stored("keys", self._stored)[0][..., : self.length, :]

    @property
    def values(self) -> Float[np.ndarray, "*b length e"]:
        """A view of the values kept, oldest first. Before the first `append` there is none."""
        return check_stored("values", self._stored)[1][..., : self.length, :]

    @property
    def nbytes(self) -> int:
        """The bytes allocated, 0 before the first `append`."""
        return sum(array.nbytes for array in self._stored or ())


class KVCache(_Cache):
    """The keys and values of all tokens so far, at most `capacity` of them.

    Room for `capacity` tokens is allocated at the first `append`, which fixes shape and dtype.
    `length` is the number of tokens kept, and `seen` that ever appended, which is the same here.

    >>> cache = KVCache(capacity=8)
    >>> cache.append(np.zeros((1, 3, 2)), np.ones((1, 3, 1)))
    >>> cache.length, cache.keys.shape, cache.nbytes  # room for 8 tokens of 3 numbers each
    (3, (1, 3, 2), 192)

    Raises:
        TypeError: `capacity` is no integer.
        ValueError: `capacity` is less than 1.

    Source:
        Pope et al. (2023); decoding step by step, Shazeer (2019), section 2.4.
    """

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = check_size("capacity", capacity, minimum=1)

    def append(self, k: Float[np.ndarray, "*b new d"], v: Float[np.ndarray, "*b new e"]) -> None:
        """Keep copies of the keys `k` and values `v` of the next tokens, any number of them.

        Where they are refused the cache stays as it was.

        Raises:
            TypeError: `k` or `v` is no floating array, or not of the first tokens' dtype.
            ValueError: the shapes do not fit each other or the first tokens', or there is no room.
        """
        check_appended(np.ndarray, k, v, self._stored)
        length = self.length_after(k.shape[-2])
        if self._stored is None:
            self._stored = tuple(
                np.empty((*x.shape[:-2], self.capacity, x.shape[-1]), x.dtype) for x in (k, v)
            )
        for stored, new in zip(self._stored, (k, v), strict=True):
            stored[..., self.length : length, :] = new
        self.length = self.seen = length

    def length_after(self, new: int) -> int:
        """Return what `length` is after `new` more tokens, or raise ValueError without room."""
        return check_room(self.length, new, self.capacity)

    def mask(self, queries: int) -> Bool[np.ndarray, "queries length"]:
        """Return who may look where if the newest `queries` tokens ask: `causal_mask`."""
        return causal_mask(check_newest(queries, self.length), self.length)


class SlidingKVCache(_Cache):
    """The keys and values that a window still reaches, however long the text.

    Each `append` first drops all but the last ``window - 1`` tokens, for no later query sees
    them: `length`, the number of tokens kept, is at most that plus the last chunk. `seen` is the
    number ever appended. The first `append` fixes shape and dtype.

    >>> cache = SlidingKVCache(window=3)
    >>> for token in range(5):
    ...     cache.append(np.full((1, 1, 1), float(token)), np.ones((1, 1, 1)))
    >>> cache.keys[0, :, 0], cache.length, cache.seen
    (array([2., 3., 4.]), 3, 5)

    Raises:
        TypeError: `window` is no integer.
        ValueError: `window` is less than 1.

    Source:
        Jiang et al. (2023), section 2, "rolling buffer cache".
    """

    def __init__(self, window: int):
        super().__init__()
        self.window = check_size("window", window, minimum=1)

    def append(self, k: Float[np.ndarray, "*b new d"], v: Float[np.ndarray, "*b new e"]) -> None:
        """Keep copies of the keys `k` and values `v` of the next tokens, any number of them.

        Where they are refused the cache stays as it was.

        Raises:
            TypeError: `k` or `v` is no floating array, or not of the first tokens' dtype.
            ValueError: the shapes do not fit each other or the first tokens'.
        """
        check_appended(np.ndarray, k, v, self._stored)
        new = k.shape[-2]
        length = self.length_after(new)
        dropped = self.length + new - length
        old = self._stored or (k[..., :0, :], v[..., :0, :])
        self._stored = tuple(
            np.concatenate((x[..., dropped:, :], y), axis=-2)
            for x, y in zip(old, (k, v), strict=True)
        )
        self.length = length
        self.seen += new

    def length_after(self, new: int) -> int:
        """Return what `length` is after `new` more tokens."""
        return min(self.length, self.window - 1) + check_size("new", new)

    def mask(self, queries: int) -> Bool[np.ndarray, "queries length"]:
        """Return who may look where if the newest `queries` tokens ask: `window_mask`.

        Once tokens are dropped, of the last chunk alone is the whole window kept: to ask for more
        queries raises ValueError.
        """
        lost = self.window - 1 if self.seen > self.length else 0
        return window_mask(check_newest(queries, self.length - lost), self.length, self.window)


def cached_attention(
    q: Float[np.ndarray, "*b query_heads new d"],
    k: Float[np.ndarray, "*b key_heads new d"],
    v: Float[np.ndarray, "*b key_heads new e"],
    cache: KVCache | SlidingKVCache,
    mask: Bool[np.ndarray, "..."] | bool = True,
    *,
    bias: Float[np.ndarray, "..."] | float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[np.ndarray, "*b query_heads new e"]:
    """Append the keys and values of new tokens to `cache`, and attend from them to all it holds.

    It is `grouped_query_attention` of `q` to ``cache.keys`` and ``cache.values`` with the
    cache's own mask: causal, or the window. So text given in chunks of any sizes, of one token to
    decode, of many to prefill, gets what all of it gets at once. A long prompt is best given in
    chunks: the scores of one are its length times what the cache holds.

    The new tokens stand at positions ``cache.seen`` and on, as it is before the call: rotate `q`
    and `k` by these. `mask`, True where a query may look besides, for instance not at padding, and
    `bias` broadcast to (..., heads, new, length), with length the ``cache.length_after(new)``
    newest tokens. A query that may look nowhere gets zeros. Where an argument is refused nothing
    is appended.

    >>> cache = KVCache(capacity=2)
    >>> one = np.ones((1, 1, 1))
    >>> cached_attention(0 * one, one, one, cache)
    array([[[1.]]])
    >>> cached_attention(0 * one, one, 3 * one, cache)  # the mean of 1, which was kept, and 3
    array([[[2.]]])

    Raises:
        TypeError: as `grouped_query_attention`, `cache` is no cache of this library, or it holds
            another dtype.
        ValueError: as `grouped_query_attention`, `q` has not one query for each new token, the
            shapes do not fit those in the cache, or it has no room.

    Source:
        Shazeer (2019), section 2.4; prefill in chunks, Jiang et al. (2023), section 2.
    """
    check_cached_attention(np.ndarray, q, k, v, cache, _Cache, mask, bias, scale, softcap)
    cache.append(k, v)
    queries = q.shape[-2]
    if queries != 1:  # one alone, the newest, sees all that is kept
        mask = cache.mask(queries) & mask
    return grouped_query_attention(
        q, cache.keys, cache.values, mask, bias=bias, scale=scale, softcap=softcap
    )
