"""Where a token stands: positions added to it, turned into it, or added to its scores.

Attention alone does not see the order of its rows. `sinusoidal_positions` are added to the
rows; `rotary` turns queries and keys; `alibi_bias` and `relative_bias` are a `bias` of
`attention`. As in `masks`, query i of q stands at position ``i + keys - queries``.
"""

import numpy as np
from jaxtyping import Float, Int, Real

from attn_course.arguments import (
    check_buckets,
    check_even,
    check_number,
    check_positions,
    check_rotary,
    check_rotation,
    check_size,
    check_table,
)
from attn_course.reference.masks import MaskMod, _keys_ahead, _offset
from attn_course.reference.softmax import ieee, widened


def sinusoidal_positions(length: int, width: int) -> Float[np.ndarray, "length width"]:
    """Give each position a vector of sines and cosines, to be added to the token there.

    Column 2m of row p is ``sin(p / 10000^(2m / width))``, column 2m + 1 the cosine of the same
    angle: waves of length 2π to nearly 20000π.

    >>> sinusoidal_positions(1, 4)
    array([[0., 1., 0., 1.]])

    Raises:
        TypeError: a size is no integer.
        ValueError: a size is negative, or `width` is odd.

    Source:
        Vaswani et al. (2017), section 3.5.
    """
    width = check_even("width", width)
    angles = rotary_angles(np.arange(check_size("length", length)), width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def rotary_angles(
    positions: Real[np.ndarray, "*p"], width: int, base: float = 10000.0
) -> Float[np.ndarray, "*p pairs"]:
    """Return in radians how far each position turns each of ``width / 2`` pairs.

    Pair m turns by ``position * base^(-2m / width)``: by one radian a position at m = 0, more
    slowly after that. The angles are float64, whatever `positions` are, since in half or single
    precision a large angle loses the digits that its sine depends on.

    >>> rotary_angles(np.array([0, 3]), 4, base=100.0)
    array([[0. , 0. ],
           [3. , 0.3]])

    Raises:
        TypeError: `positions` is no array of integers or floating numbers, `width` no integer,
            or `base` no number.
        ValueError: `width` is negative or odd, or `base` is not positive and finite.

    Source:
        Su et al. (2021), section 3.2.2.
    """
    check_positions(np.ndarray, positions)
    width = check_even("width", width)
    base = check_number("base", base, positive=True)
    with ieee():
        frequencies = base ** (-np.arange(0, width, 2) / width)
        return positions[..., None].astype(np.float64) * frequencies


def rotary(
    x: Float[np.ndarray, "*b n d"], positions: Real[np.ndarray, "..."], base: float = 10000.0
) -> Float[np.ndarray, "*b n d"]:
    """Turn each row of `x` by its position, coordinate m together with m + d/2.

    The pair ``(x_m, x_(m + d/2))`` is turned by ``position * base^(-2m / d)``. Done to queries
    and keys, it makes their dot product depend on how far apart they stand, not on where.
    `positions` broadcast to (..., n); numbers that are not whole stand between tokens.

    Models that are called rotary pair in this way or as `rotary_interleaved` does, and the
    weights of one do not fit the other.

    >>> quarter = np.array([np.pi / 2])  # base 1 turns every pair alike
    >>> rotary(np.array([[1.0, 2.0, 3.0, 4.0]]), quarter, base=1.0).round(9)
    array([[-3., -4.,  1.,  2.]])

    Raises:
        TypeError: `x` is no floating array, `positions` no array of integers or floating
            numbers, or `base` no number.
        ValueError: the width of `x` is odd, `positions` do not broadcast to its rows, or `base`
            is not positive and finite.

    Source:
        Su et al. (2021), section 3.2.2; these pairs, GPT-NeoX (Black et al., 2022).
    """
    return rotate_halves(x, *_turn(x, positions, base))


def rotary_interleaved(
    x: Float[np.ndarray, "*b n d"], positions: Real[np.ndarray, "..."], base: float = 10000.0
) -> Float[np.ndarray, "*b n d"]:
    """Turn each row of `x` by its position, coordinate 2m together with 2m + 1.

    As `rotary`, but for the pairs: ``(x_2m, x_(2m + 1))`` is turned by
    ``position * base^(-2m / d)``.

    >>> quarter = np.array([np.pi / 2])  # base 1 turns every pair alike
    >>> rotary_interleaved(np.array([[1.0, 2.0, 3.0, 4.0]]), quarter, base=1.0).round(9)
    array([[-2.,  1., -4.,  3.]])

    Raises:
        TypeError: as `rotary`.
        ValueError: as `rotary`.

    Source:
        Su et al. (2021), section 3.2.2.
    """
    return rotate_neighbors(x, *_turn(x, positions, base))


def rotate_halves(
    x: Float[np.ndarray, "*b n d"], cos: Float[np.ndarray, "..."], sin: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "*b n d"]:
    """Turn the pairs ``(x_m, x_(m + d/2))`` by the angles that have this `cos` and `sin`.

    A pair (x, y) becomes ``(x cos - y sin, y cos + x sin)``. `cos` and `sin` broadcast to
    (..., n, d/2); the result has the dtype of `x`, rounded once from the widest of the three
    and float32.

    >>> rotate_halves(np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros(1), np.ones(1))
    array([[-3., -4.,  1.,  2.]])

    Raises:
        TypeError: `x`, `cos` or `sin` is no floating array, or `cos` and `sin` differ in dtype.
        ValueError: the width of `x` is odd, or `cos` or `sin` does not broadcast to its pairs.

    Source:
        Black et al. (2022), GPT-NeoX.
    """
    check_rotation(np.ndarray, x, cos, sin)
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate(_turned(first, second, cos, sin), axis=-1)


def rotate_neighbors(
    x: Float[np.ndarray, "*b n d"], cos: Float[np.ndarray, "..."], sin: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "*b n d"]:
    """Turn the pairs ``(x_2m, x_(2m + 1))`` by the angles that have this `cos` and `sin`.

    As `rotate_halves`, but for the pairs.

    >>> rotate_neighbors(np.array([[1.0, 2.0, 3.0, 4.0]]), np.zeros(1), np.ones(1))
    array([[-2.,  1., -4.,  3.]])

    Raises:
        TypeError: as `rotate_halves`.
        ValueError: as `rotate_halves`.

    Source:
        Su et al. (2021), section 3.2.2.
    """
    check_rotation(np.ndarray, x, cos, sin)
    pairs = _turned(x[..., 0::2], x[..., 1::2], cos, sin)
    return np.stack(pairs, axis=-1).reshape(x.shape)


def alibi_slopes(heads: int) -> Float[np.ndarray, "heads"]:
    """Return how fast each head's scores fall with distance in `alibi_bias`.

    For a power of two, head k = 1, 2, … has slope ``2^(-8k / heads)``. For another number, the
    first heads have the slopes of the power of two below it, and the rest have every second
    slope of the power of two above it, beginning with the first.

    >>> alibi_slopes(3)  # those of 2 heads, then the first of those of 4
    array([0.0625    , 0.00390625, 0.25      ])

    Raises:
        TypeError: `heads` is no integer.
        ValueError: `heads` is less than 1.

    Source:
        Press, Smith and Lewis (2022), section 3; for other numbers, the authors' code.
    """
    heads = check_size("heads", heads, minimum=1)
    power = 1 << (heads.bit_length() - 1)  # the largest power of two up to heads
    own = np.arange(1, power + 1) / power
    between = np.arange(1, 2 * power, 2) / (2 * power)
    return 2.0 ** (-8 * np.concatenate([own, between])[:heads])


def alibi_bias(heads: int, queries: int, keys: int) -> Float[np.ndarray, "heads queries keys"]:
    """Lower the score of each key in proportion to its distance: ``-slope * |distance|``.

    The slopes are `alibi_slopes`. Keys after the query count like keys before it.

    >>> alibi_bias(8, 2, 3)[0]  # slope 1/2; the queries stand at 1 and 2
    array([[-0.5,  0. , -0.5],
           [-1. , -0.5,  0. ]])

    Raises:
        TypeError: a size is no integer.
        ValueError: `heads` is less than 1, or another size is negative.

    Source:
        Press, Smith and Lewis (2022), section 3.
    """
    slopes = alibi_slopes(heads)
    return slopes[:, None, None] * -np.abs(_keys_ahead(queries, keys))


def alibi_mod(heads: int, queries: int, keys: int) -> MaskMod:
    """Return `alibi_bias` as a function of positions, which answers with the bias.

    >>> float(alibi_mod(8, 2, 3)(0, 0, 1, 0))
    -1.0
    """
    slopes = alibi_slopes(heads)
    offset = _offset(queries, keys)
    return lambda b, h, i, j: slopes[h] * -abs(j - (i + offset))


def relative_buckets(
    queries: int,
    keys: int,
    buckets: int = 32,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
) -> Int[np.ndarray, "queries keys"]:
    """Number how far each key is from each query, coarsely where it is far.

    Of n buckets, the first ``n // 2`` hold one distance each, from 0; the others share what lies
    up to `max_distance` in logarithmic steps, and the last one holds all beyond. Distance d is in
    bucket ``n//2 + floor((n - n//2) * log(d / (n//2)) / log(max_distance / (n//2)))``.

    With `bidirectional` half of the buckets are for keys up to the query, the other half for
    keys after it. Without it, keys after the query are in bucket 0, and are to be masked.

    The floor is taken exactly, in integers: a computed logarithm can fall short of a whole
    number that it should reach.

    >>> relative_buckets(2, 3)  # the queries stand at 1 and 2
    array([[ 1,  0, 17],
           [ 2,  1,  0]])

    Raises:
        TypeError: a size is no integer, or `bidirectional` no bool.
        ValueError: `queries` or `keys` is negative; `buckets` is less than 2 or, in both
            directions, less than 4 or odd; or `max_distance` is within the exact buckets or
            above 2³¹.

    Source:
        Raffel et al. (2020), section 2.1; the formula, the authors' code in Mesh TensorFlow.
    """
    buckets, max_distance = check_buckets(buckets, max_distance, bidirectional)
    ahead = _keys_ahead(queries, keys)
    if not bidirectional:
        return np.searchsorted(bucket_edges(buckets, max_distance), -ahead, side="right")
    half = buckets // 2
    edges = bucket_edges(half, max_distance)
    return np.searchsorted(edges, np.abs(ahead), side="right") + half * (ahead > 0)


def bucket_edges(buckets: int, max_distance: int) -> list[int]:
    """Return the least distance in each bucket of one direction but the first."""
    exact = buckets // 2
    steps = buckets - exact
    edges = list(range(1, exact + 1))
    for step in range(1, steps):
        # The least d with d/exact >= (max_distance/exact)^(step/steps).
        d = round(exact * (max_distance / exact) ** (step / steps))
        short = d**steps * exact**step < max_distance**step * exact**steps
        edges.append(d + short)
    return edges


def relative_bias(
    table: Float[np.ndarray, "buckets heads"],
    queries: int,
    keys: int,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
) -> Float[np.ndarray, "heads queries keys"]:
    """Look up each head's bias for each distance in a table that is learned.

    Entry (h, i, j) is ``table[bucket of (i, j), h]``, with the bucket of `relative_buckets`.

    >>> table = np.array([[0.0], [5.0]])  # one head: 0 for the query's own key, 5 for the past
    >>> relative_bias(table, 2, 2, bidirectional=False)
    array([[[0., 0.],
            [5., 0.]]])

    Raises:
        TypeError: `table` is no floating array, a size no integer, or `bidirectional` no bool.
        ValueError: `table` has not two axes, or as `relative_buckets`.

    Source:
        Raffel et al. (2020), section 2.1.
    """
    max_distance = check_table(np.ndarray, table, max_distance, bidirectional)
    buckets = relative_buckets(
        queries, keys, table.shape[0], max_distance, bidirectional=bidirectional
    )
    return table.T[:, buckets]


def _turn(x, positions, base):
    """Return the cosines and sines that turn `x` by `positions`."""
    check_rotary(np.ndarray, x, positions)
    angles = rotary_angles(positions, x.shape[-1], base)
    with ieee():
        dtype = widened(x.dtype)
        return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def _turned(x, y, cos, sin):
    """Return `x` and `y` turned, computed in no less than float32, in the dtype they came in."""
    dtype = x.dtype
    x, y = x.astype(widened(dtype)), y.astype(widened(dtype))
    with ieee():
        return (x * cos - y * sin).astype(dtype), (y * cos + x * sin).astype(dtype)
