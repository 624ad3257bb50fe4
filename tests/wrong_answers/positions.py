"""Wrong answers to the exercises on positions, as students write them."""

import math

import numpy as np

from attn_course.reference import alibi_slopes as slopes_of_heads
from attn_course.reference import rotary as turned_by_halves


def sines_then_cosines(length, width):
    """Puts all sines before all cosines."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def every_column_its_own_angle(length, width):
    """Gives sine and cosine different angles."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(width) / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))


def exponent_doubled(length, width):
    """Takes the even numbers for m, and doubles them once more."""
    angles = np.arange(length)[:, None] / 10000 ** (2 * np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def down_to_the_base(length, width):
    """Divides by one pair less, so that the last angle is p / 10000."""
    half = width // 2
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(half) / max(half - 1, 1))
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def whole_exponents(length, width):
    """Rounds the exponent down to a whole number."""
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2) // width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def rows_alternate(length, width):
    """Takes sines in even rows and cosines in odd ones."""
    exponents = np.arange(width) // 2 * 2 / width
    angles = np.arange(length)[:, None] / 10000**exponents
    return np.where(np.arange(length)[:, None] % 2 == 0, np.sin(angles), np.cos(angles))


def multiplied_by_the_power(length, width):
    """Multiplies positions by the power of 10000."""
    angles = np.arange(length)[:, None] * 10000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def counted_from_one(length, width):
    """Counts positions from 1."""
    angles = np.arange(1, length + 1)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def positions_as_shares(length, width):
    """Divides positions by the length."""
    angles = np.arange(length)[:, None] / length / 10000 ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def pairs_of_neighbors(x, positions, base=10000.0):
    """Turns neighboring coordinates."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape).astype(x.dtype)


def halves_with_angles_of_neighbors(x, positions, base=10000.0):
    """Turns by halves, each angle repeated for neighbors."""
    d = x.shape[-1]
    angles = np.repeat(positions[..., None] * base ** (-np.arange(0, d, 2) / d), 2, axis=-1)
    a, b = np.split(x, 2, axis=-1)
    turned = x * np.cos(angles) + np.concatenate([-b, a], axis=-1) * np.sin(angles)
    return turned.astype(x.dtype)


def sign_in_the_second_half(x, positions, base=10000.0):
    """Puts the minus in the second half, which turns backward."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos + b * sin, b * cos - a * sin], axis=-1).astype(x.dtype)


def no_minus(x, positions, base=10000.0):
    """Forgets the minus, which is no turn."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos + b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def rows_counted(x, positions, base=10000.0):
    """Takes the number of a row for its position."""
    return turned_by_halves(x, np.arange(x.shape[-2]), base=base)


def slow_by_half(x, positions, base=10000.0):
    """Forgets the 2 in the exponent."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(d // 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def second_from_the_turned_first(x, positions, base=10000.0):
    """Turns the second half with the first half as it is after its turn."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = np.split(x, 2, axis=-1)
    a = a * cos - b * sin
    b = b * cos + a * sin
    return np.concatenate([a, b], axis=-1).astype(x.dtype)


def base_written_out(x, positions, base=10000.0):
    """Uses 10000 whatever the base is."""
    return turned_by_halves(x, positions)


def added_positions(x, positions, base=10000.0):
    """Adds waves to the rows, and turns nothing."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    return (x + np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)).astype(x.dtype)


def written_over(x, positions, base=10000.0):
    """Writes into a copy through views, so that the second line reads the first one's result."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    out = x.copy()
    a, b = out[..., 0::2], out[..., 1::2]
    out[..., 0::2] = a * cos - b * sin
    out[..., 1::2] = b * cos + a * sin
    return out


def written_into_the_rows(x, positions, base=10000.0):
    """Writes the turned pairs into the argument."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., 0::2].copy(), x[..., 1::2].copy()
    x[..., 0::2] = a * cos - b * sin
    x[..., 1::2] = b * cos + a * sin
    return x


def put_back_by_halves(x, positions, base=10000.0):
    """Puts the pairs back as halves."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., 0::2], x[..., 1::2]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def second_coordinates_first(x, positions, base=10000.0):
    """Puts the second coordinates of all pairs before the first ones."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., 0::2], x[..., 1::2]
    turned = np.stack([b * cos + a * sin, a * cos - b * sin], axis=-2)
    return turned.reshape(x.shape).astype(x.dtype)


def taken_by_halves(x, positions, base=10000.0):
    """Takes the halves for pairs, and puts them back as neighbors."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return np.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape).astype(x.dtype)


def turned_backward(x, positions, base=10000.0):
    """Turns by the negative angle."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([a * cos + b * sin, b * cos - a * sin], -1).reshape(x.shape).astype(x.dtype)


def second_coordinates_kept(x, positions, base=10000.0):
    """Turns the first of each pair and leaves the second."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    out = x.copy()
    out[..., 0::2] = x[..., 0::2] * np.cos(angles) - x[..., 1::2] * np.sin(angles)
    return out


def pairs_exchanged(x, positions, base=10000.0):
    """Returns the second coordinate before the first."""
    d = x.shape[-1]
    angles = positions[..., None] * base ** (-np.arange(0, d, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b = x[..., 0::2], x[..., 1::2]
    return np.stack([b * cos + a * sin, a * cos - b * sin], -1).reshape(x.shape).astype(x.dtype)


def angles_of_the_whole_row(x, positions, turned_width):
    """Takes the angles of a row of full width."""
    d, r = x.shape[-1], turned_width
    angles = positions[..., None] * 10000.0 ** (-np.arange(0, r, 2) / d)
    cos, sin = np.cos(angles), np.sin(angles)
    a, b, rest = x[..., : r // 2], x[..., r // 2 : r], x[..., r:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1).astype(x.dtype)


def last_coordinates(x, positions, turned_width):
    """Turns the last coordinates."""
    kept = x.shape[-1] - turned_width
    turned = turned_by_halves(x[..., kept:], positions)
    return np.concatenate([x[..., :kept], turned], axis=-1)


def rest_by_negative_index(x, positions, turned_width):
    """Counts the rest from the end, which is everything where there is none."""
    turned = turned_by_halves(x[..., :turned_width], positions)
    return np.concatenate([turned, x[..., -(x.shape[-1] - turned_width) :]], axis=-1)


def rest_left_out(x, positions, turned_width):
    """Returns the turned part alone."""
    return turned_by_halves(x[..., :turned_width], positions)


def rest_is_zero(x, positions, turned_width):
    """Leaves zeros in the coordinates that are not turned."""
    out = np.zeros_like(x)
    out[..., :turned_width] = turned_by_halves(x[..., :turned_width], positions)
    return out


def pairs_over_the_whole_row(x, positions, turned_width):
    """Turns the row by halves, and takes back what lies outside the part."""
    turned = turned_by_halves(x, positions)
    return np.where(np.arange(x.shape[-1]) < turned_width, turned, x)


def rows_for_coordinates(x, positions, turned_width):
    """Turns the first rows, not the first coordinates."""
    rows = min(turned_width, x.shape[-2])
    turned = turned_by_halves(x[..., :rows, :], positions[:rows])
    return np.concatenate([turned, x[..., rows:, :]], axis=-2)


def one_formula(heads):
    """Takes the formula for powers of two for every number of heads."""
    return 2.0 ** (-8 * np.arange(1, heads + 1) / heads)


def first_of_the_power_above(heads):
    """Takes the first slopes of the power of two above."""
    power = 2 ** math.ceil(math.log2(heads))
    return 2.0 ** (-8 * np.arange(1, power + 1) / power)[:heads]


def power_below_is_half(heads):
    """Takes a power of two for its own half, with every second slope of itself."""
    power = 2 ** (math.ceil(math.log2(heads)) - 1) if heads > 1 else 1
    first = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    others = 2.0 ** (-8 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([first, others])[:heads]


def sorted_slopes(heads):
    """Sorts the slopes."""
    return np.sort(slopes_of_heads(heads))[::-1]


def others_from_the_second(heads):
    """Begins with the second slope of the power above, so that slopes occur twice."""
    power = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    others = 2.0 ** (-8 * np.arange(2, 2 * power + 1, 2) / (2 * power))
    return np.concatenate([first, others])[:heads]


def others_in_a_row(heads):
    """Takes the first slopes of the power above, not every second."""
    power = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8 * np.arange(1, power + 1) / power)
    others = 2.0 ** (-8 * np.arange(1, 2 * power + 1) / (2 * power))
    return np.concatenate([first, others])[:heads]


def heads_from_zero(heads):
    """Counts heads from 0, so that the first has the slope 1."""
    power = 1 << (heads.bit_length() - 1)
    first = 2.0 ** (-8 * np.arange(power) / power)
    others = 2.0 ** (-8 * np.arange(1, 2 * power, 2) / (2 * power))
    return np.concatenate([first, others])[:heads]


def halves(heads):
    """Halves the slope from head to head, as with 8 heads."""
    return 0.5 ** np.arange(1, heads + 1)


def sign_of_the_distance(heads, queries, keys):
    """Leaves the distance its sign, which raises keys after the query."""
    distance = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return -slopes_of_heads(heads)[:, None, None] * distance


def raised_by_distance(heads, queries, keys):
    """Forgets the minus."""
    distance = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return slopes_of_heads(heads)[:, None, None] * np.abs(distance)


def distance_of_numbers(heads, queries, keys):
    """Compares the numbers of query and key."""
    distance = np.abs(np.arange(queries)[:, None] - np.arange(keys))
    return -slopes_of_heads(heads)[:, None, None] * distance


def future_hidden(heads, queries, keys):
    """Hides keys after the query with -inf."""
    distance = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    distance = np.where(distance < 0, np.inf, distance)
    return -slopes_of_heads(heads)[:, None, None] * distance


def future_for_free(heads, queries, keys):
    """Lowers keys before the query alone."""
    distance = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return -slopes_of_heads(heads)[:, None, None] * np.maximum(distance, 0)


def from_the_last_query(heads, queries, keys):
    """Measures all distances from the last query."""
    distance = np.broadcast_to(keys - 1 - np.arange(keys), (queries, keys))
    return -slopes_of_heads(heads)[:, None, None] * distance


def heads_last(heads, queries, keys):
    """Puts the heads into the last axis."""
    distance = np.arange(queries)[:, None] + keys - queries - np.arange(keys)
    return -np.abs(distance)[..., None] * slopes_of_heads(heads)


def queries_before_the_text_moved(heads, queries, keys):
    """Moves queries that stand before the first key onto it."""
    positions = np.maximum(np.arange(queries)[:, None] + keys - queries, 0)
    return -slopes_of_heads(heads)[:, None, None] * np.abs(positions - np.arange(keys))


def square_of_the_keys(heads, queries, keys):
    """Returns a row for every key."""
    distance = np.abs(np.arange(keys)[:, None] - np.arange(keys))
    return -slopes_of_heads(heads)[:, None, None] * distance


WRONG = {
    # The exponent halved; the exponent doubled; multiplied; whole turns; degrees; the first pair
    "turns_of_a_pair": [
        5 * 10000 ** (2 / 8),
        5 * 10000 ** (4 / 4),
        5 / 100,
        5 / (2 * math.pi) * 100,
        math.degrees(5) * 100,
        5,
    ],
    "sinusoidal_positions": [
        sines_then_cosines,
        every_column_its_own_angle,
        exponent_doubled,
        down_to_the_base,
        whole_exponents,
        rows_alternate,
        multiplied_by_the_power,
        counted_from_one,
        positions_as_shares,
    ],
    "rotary": [
        pairs_of_neighbors,
        halves_with_angles_of_neighbors,
        sign_in_the_second_half,
        no_minus,
        rows_counted,
        slow_by_half,
        second_from_the_turned_first,
        base_written_out,
        added_positions,
    ],
    "rotary_interleaved": [
        written_over,
        written_into_the_rows,
        put_back_by_halves,
        second_coordinates_first,
        taken_by_halves,
        turned_backward,
        second_coordinates_kept,
        pairs_exchanged,
    ],
    "partial_rotary": [
        angles_of_the_whole_row,
        last_coordinates,
        rest_by_negative_index,
        rest_left_out,
        rest_is_zero,
        pairs_over_the_whole_row,
        rows_for_coordinates,
    ],
    "alibi_slopes": [
        one_formula,
        first_of_the_power_above,
        power_below_is_half,
        sorted_slopes,
        others_from_the_second,
        others_in_a_row,
        heads_from_zero,
        halves,
    ],
    "alibi_bias": [
        sign_of_the_distance,
        raised_by_distance,
        distance_of_numbers,
        future_hidden,
        future_for_free,
        from_the_last_query,
        heads_last,
        queries_before_the_text_moved,
        square_of_the_keys,
    ],
}
