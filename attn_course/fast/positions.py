"""Where a token stands, in torch: see `attn_course.reference.positions`."""

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from attn_course.arguments import (
    check_buckets,
    check_dtype,
    check_even,
    check_number,
    check_positions,
    check_rotary,
    check_rotation,
    check_size,
    check_table,
)
from attn_course.fast.masks import Device
from attn_course.fast.softmax import widened
from attn_course.reference.masks import MaskMod
from attn_course.reference.positions import bucket_edges


def sinusoidal_positions(
    length: int, width: int, *, device: Device = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "length width"]:
    """Give each position a vector of sines and cosines, to be added to the token there.

    As `attn_course.reference.sinusoidal_positions`, computed in float64 and rounded once.

    >>> sinusoidal_positions(1, 4)
    tensor([[0., 1., 0., 1.]])

    Raises:
        TypeError: a size is no integer, or `dtype` is not floating.
        ValueError: a size is negative, or `width` is odd.
    """
    width = check_even("width", width)
    length = check_size("length", length)
    angles = rotary_angles(torch.arange(length, device=device), width)
    waves = torch.stack([angles.sin(), angles.cos()], dim=-1)
    return waves.reshape(length, width).to(_floating(dtype))


def rotary_angles(
    positions: Real[Tensor, "*p"], width: int, base: float = 10000.0
) -> Float[Tensor, "*p pairs"]:
    """Return in radians how far each position turns each of ``width / 2`` pairs.

    As `attn_course.reference.rotary_angles`, on the device of `positions`.

    >>> rotary_angles(torch.tensor([0, 3]), 4, base=100.0)
    tensor([[0.0000, 0.0000],
            [3.0000, 0.3000]], dtype=torch.float64)

    Raises:
        TypeError: `positions` is no tensor of integers or floating numbers, `width` no integer,
            or `base` no number.
        ValueError: `width` is negative or odd, or `base` is not positive and finite.
    """
    check_positions(Tensor, positions)
    width = check_even("width", width)
    base = check_number("base", base, positive=True)
    pairs = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device)
    return positions[..., None].double() * base ** (-pairs / width)


def rotary(
    x: Float[Tensor, "*b n d"], positions: Real[Tensor, "..."], base: float = 10000.0
) -> Float[Tensor, "*b n d"]:
    """Turn each row of `x` by its position, coordinate m together with m + d/2.

    As `attn_course.reference.rotary`.

    >>> quarter = torch.tensor([torch.pi / 2])  # base 1 turns every pair alike
    >>> rotary(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), quarter, base=1.0)
    tensor([[-3.0000, -4.0000,  1.0000,  2.0000]])

    Raises:
        TypeError: `x` is no floating tensor, `positions` no tensor of integers or floating
            numbers, or `base` no number.
        ValueError: the width of `x` is odd, `positions` do not broadcast to its rows, or `base`
            is not positive and finite.
    """
    return rotate_halves(x, *_turn(x, positions, base))


def rotary_interleaved(
    x: Float[Tensor, "*b n d"], positions: Real[Tensor, "..."], base: float = 10000.0
) -> Float[Tensor, "*b n d"]:
    """Turn each row of `x` by its position, coordinate 2m together with 2m + 1.

    As `attn_course.reference.rotary_interleaved`.

    >>> quarter = torch.tensor([torch.pi / 2])  # base 1 turns every pair alike
    >>> rotary_interleaved(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), quarter, base=1.0)
    tensor([[-2.0000,  1.0000, -4.0000,  3.0000]])

    Raises:
        TypeError: as `rotary`.
        ValueError: as `rotary`.
    """
    return rotate_neighbors(x, *_turn(x, positions, base))


def rotate_halves(
    x: Float[Tensor, "*b n d"], cos: Float[Tensor, "..."], sin: Float[Tensor, "..."]
) -> Float[Tensor, "*b n d"]:
    """Turn the pairs ``(x_m, x_(m + d/2))`` by the angles that have this `cos` and `sin`.

    As `attn_course.reference.rotate_halves`.

    >>> rotate_halves(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.zeros(1), torch.ones(1))
    tensor([[-3., -4.,  1.,  2.]])

    Raises:
        TypeError: `x`, `cos` or `sin` is no floating tensor, or `cos` and `sin` differ in dtype.
        ValueError: the width of `x` is odd, or `cos` or `sin` does not broadcast to its pairs.
    """
    check_rotation(Tensor, x, cos, sin)
    first, second = widened(x).chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return turned.to(x.dtype)


def rotate_neighbors(
    x: Float[Tensor, "*b n d"], cos: Float[Tensor, "..."], sin: Float[Tensor, "..."]
) -> Float[Tensor, "*b n d"]:
    """Turn the pairs ``(x_2m, x_(2m + 1))`` by the angles that have this `cos` and `sin`.

    As `attn_course.reference.rotate_neighbors`. A pair is taken as a complex number, and turned
    by one product.

    >>> rotate_neighbors(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.zeros(1), torch.ones(1))
    tensor([[-2.,  1., -4.,  3.]])

    Raises:
        TypeError: as `rotate_halves`.
        ValueError: as `rotate_halves`.
    """
    check_rotation(Tensor, x, cos, sin)
    # A copy, since numbers that lie side by side in x need not do so in memory.
    pairs = widened(x).clone(memory_format=torch.contiguous_format).unflatten(-1, (-1, 2))
    turned = torch.view_as_complex(pairs) * torch.complex(widened(cos), widened(sin))
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


def alibi_slopes(
    heads: int, *, device: Device = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "heads"]:
    """Return how fast each head's scores fall with distance in `alibi_bias`.

    As `attn_course.reference.alibi_slopes`, computed in float64 and rounded once.

    >>> alibi_slopes(3)  # those of 2 heads, then the first of those of 4
    tensor([0.0625, 0.0039, 0.2500])

    Raises:
        TypeError: `heads` is no integer, or `dtype` is not floating.
        ValueError: `heads` is less than 1.
    """
    heads = check_size("heads", heads, minimum=1)
    power = 1 << (heads.bit_length() - 1)  # the largest power of two up to heads
    own = torch.arange(1, power + 1, dtype=torch.float64, device=device) / power
    between = torch.arange(1, 2 * power, 2, dtype=torch.float64, device=device) / (2 * power)
    return torch.exp2(-8 * torch.cat([own, between])[:heads]).to(_floating(dtype))


def alibi_bias(
    heads: int,
    queries: int,
    keys: int,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "heads queries keys"]:
    """Lower the score of each key in proportion to its distance: ``-slope * |distance|``.

    As `attn_course.reference.alibi_bias`, computed in float64 and rounded once.

    >>> alibi_bias(8, 2, 3)[0]  # slope 1/2; the queries stand at 1 and 2
    tensor([[-0.5000,  0.0000, -0.5000],
            [-1.0000, -0.5000,  0.0000]])

    Raises:
        TypeError: a size is no integer, or `dtype` is not floating.
        ValueError: `heads` is less than 1, or another size is negative.
    """
    slopes = alibi_slopes(heads, device=device, dtype=torch.float64)
    biases = slopes[:, None] * -_keys_ahead(queries, keys, device).abs()
    return _spread(biases.to(_floating(dtype)), queries, keys)


def alibi_mod(
    heads: int,
    queries: int,
    keys: int,
    *,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> MaskMod:
    """Return `alibi_bias` as a function of positions, which answers with the bias.

    The slopes are rounded to `dtype` before the distance multiplies them.

    >>> alibi_mod(8, 2, 3)(0, 0, 1, 0)
    tensor(-1.)
    """
    slopes = alibi_slopes(heads, device=device, dtype=dtype)
    offset = check_size("keys", keys) - check_size("queries", queries)
    return lambda b, h, i, j: slopes[h] * -abs(j - (i + offset))


def relative_buckets(
    queries: int,
    keys: int,
    buckets: int = 32,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
    device: Device = None,
) -> Int[Tensor, "queries keys"]:
    """Number how far each key is from each query, coarsely where it is far.

    As `attn_course.reference.relative_buckets`.

    >>> relative_buckets(2, 3)  # the queries stand at 1 and 2
    tensor([[ 1,  0, 17],
            [ 2,  1,  0]])

    Raises:
        TypeError: a size is no integer, or `bidirectional` no bool.
        ValueError: `queries` or `keys` is negative; `buckets` is less than 2 or, in both
            directions, less than 4 or odd; or `max_distance` is within the exact buckets or
            above 2³¹.
    """
    buckets, max_distance = check_buckets(buckets, max_distance, bidirectional)
    ahead = _keys_ahead(queries, keys, device)
    return _spread(_bucketed(ahead, buckets, max_distance, bidirectional), queries, keys)


def relative_bias(
    table: Float[Tensor, "buckets heads"],
    queries: int,
    keys: int,
    max_distance: int = 128,
    *,
    bidirectional: bool = True,
) -> Float[Tensor, "heads queries keys"]:
    """Look up each head's bias for each distance in a table that is learned.

    As `attn_course.reference.relative_bias`.

    >>> table = torch.tensor([[0.0], [5.0]])  # 0 for the query's own key, 5 for the past
    >>> relative_bias(table, 2, 2, bidirectional=False)
    tensor([[[0., 0.],
             [5., 0.]]])

    Raises:
        TypeError: `table` is no floating tensor, a size no integer, or `bidirectional` no bool.
        ValueError: `table` has not two axes, or as `relative_buckets`.
    """
    max_distance = check_table(Tensor, table, max_distance, bidirectional)
    ahead = _keys_ahead(queries, keys, table.device)
    buckets = _bucketed(ahead, table.shape[0], max_distance, bidirectional)
    return _spread(table.T[:, buckets], queries, keys)


def _turn(x, positions, base):
    """Return the cosines and sines that turn `x` by `positions`."""
    check_rotary(Tensor, x, positions)
    angles = rotary_angles(positions, x.shape[-1], base)
    dtype = torch.promote_types(x.dtype, torch.float32)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _keys_ahead(queries: int, keys: int, device: Device) -> Int[Tensor, "distances"]:
    """Return every number of places by which a key can be ahead of a query, and one more.

    It keeps `_spread` from asking for windows longer than the whole where there is no query.
    """
    keys = check_size("keys", keys)
    return torch.arange(1 - keys, check_size("queries", queries) + 1, device=device)


def _spread(
    values: Real[Tensor, "*h distances"], queries: int, keys: int
) -> Real[Tensor, "*h queries keys"]:
    """Lay out `values`, one for each of `_keys_ahead`, for each query and key."""
    return values.unfold(-1, keys, 1)[..., :queries, :].flip(-2)


def _bucketed(ahead: Int[Tensor, "*n"], buckets: int, max_distance: int, bidirectional: bool):
    """Return the bucket of each of `ahead`."""
    half = buckets // 2 if bidirectional else buckets
    edges = torch.tensor(bucket_edges(half, max_distance), device=ahead.device)
    if not bidirectional:
        return torch.bucketize(-ahead, edges, right=True)
    return torch.bucketize(ahead.abs(), edges, right=True) + half * (ahead > 0)


def _floating(dtype: torch.dtype | None) -> torch.dtype:
    check_dtype(dtype)
    return torch.get_default_dtype() if dtype is None else dtype
