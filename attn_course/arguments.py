"""Checks of arguments, shared by `reference` and `fast`.

Every public function calls these before any work. A message names the argument, says what
was given and what was expected. Nothing here depends on NumPy or torch: an array is whatever
has `dtype`, `shape` and `ndim`.
"""

import math
import operator


def described(value):
    """Return how an error message calls `value`: its type and, for a number, its value."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    article = "an" if name[0] in "aeiou" else "a"
    return f"{value!r}" if isinstance(value, (bool, int, float)) else f"{article} {name}"


def is_floating(dtype):
    """Return whether `dtype`, NumPy's or torch's, is a real floating dtype."""
    if hasattr(dtype, "is_floating_point"):
        return dtype.is_floating_point
    return dtype.kind == "f"


def is_boolean(dtype):
    """Return whether `dtype`, NumPy's or torch's, is the boolean dtype."""
    return str(dtype) in ("bool", "torch.bool")


def is_integer(dtype):
    """Return whether `dtype`, NumPy's or torch's, is an integer dtype."""
    if hasattr(dtype, "is_floating_point"):
        return not (dtype.is_floating_point or dtype.is_complex or is_boolean(dtype))
    return dtype.kind in "iu"


def check_arrays(kind, **arrays):
    """Raise TypeError unless all `arrays` are of the class `kind`, floating, and of one dtype.

    torch tensors must also share a device.
    """
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if not isinstance(array, kind):
            raise TypeError(
                f"{name} is {described(array)}, expected a {kind.__module__}.{kind.__name__}"
            )
        if not is_floating(array.dtype):
            raise TypeError(f"{name} has dtype {array.dtype}, expected a floating dtype")
        if array.dtype != first.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype}, expected {first.dtype}, the dtype of {first_name}"
            )
        if array.device != first.device:
            raise ValueError(
                f"{name} is on {array.device}, expected {first.device}, the device of {first_name}"
            )


def check_integers(kind, **arrays):
    """Raise TypeError unless all `arrays` are of the class `kind` and of an integer dtype."""
    for name, array in arrays.items():
        if not isinstance(array, kind):
            raise TypeError(
                f"{name} is {described(array)}, expected a {kind.__module__}.{kind.__name__}"
            )
        if not is_integer(array.dtype):
            raise TypeError(f"{name} has dtype {array.dtype}, expected an integer dtype")


def check_rank(minimum, dimensions, **arrays):
    """Raise ValueError unless all `arrays` have at least `minimum` axes.

    `dimensions` is what the message says was expected, such as `(..., length, width)`.
    """
    for name, array in arrays.items():
        if array.ndim < minimum:
            raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {dimensions}")


def check_axis(x, axis):
    """Raise unless `axis` is an integer that names an axis of `x`."""
    axis = check_size("axis", axis, minimum=None)
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(
            f"axis is {axis}, x has shape {tuple(x.shape)}: "
            f"expected an axis from {-x.ndim} to {x.ndim - 1}"
            if x.ndim
            else f"x has shape (), expected at least one axis; axis is {axis}"
        )


def check_size(name, value, minimum=0):
    """Return `value` as an int, or raise unless it is an integer of at least `minimum`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {described(value)}, expected an integer") from None
    if minimum is not None and size < minimum:
        raise ValueError(f"{name} is {size}, expected at least {minimum}")
    return size


def check_number(name, value, *, positive=False):
    """Return `value` as a float, or raise unless it is one finite real number.

    With `positive`, zero and negative numbers raise too.
    """
    expected = "a positive finite number" if positive else "a finite number"
    try:
        if isinstance(value, (bool, str, bytes)) or getattr(value, "ndim", 0):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {described(value)}, expected {expected}") from None
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{name} is {number}, expected {expected}")
    return number


def check_temperature(temperature, dtype, limits):
    """Return `temperature` as a float, or raise unless it is positive and `dtype` can hold it.

    `limits` is the `finfo` of `dtype`.
    """
    number = check_number("temperature", temperature, positive=True)
    smallest = float(limits.smallest_normal) * float(limits.eps)
    if not smallest / 2 < number <= float(limits.max):
        raise ValueError(f"temperature is {number}, expected a number that {dtype} can hold")
    return number


def check_queries_and_keys(kind, q, k, *, same_width=True):
    """Raise unless `q` (..., queries, width) and `k` (..., keys, width) can be compared."""
    check_arrays(kind, q=q, k=k)
    check_rank(2, "(..., queries, width)", q=q)
    check_rank(2, "(..., keys, width)", k=k)
    for name, array, plural in (("q", q, "queries"), ("k", k, "keys")):
        if array.shape[-1] == 0:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}: {plural} have width 0, expected at least 1"
            )
    if same_width and k.shape[-1] != q.shape[-1]:
        raise ValueError(
            f"k has shape {tuple(k.shape)} and q has shape {tuple(q.shape)}: "
            f"keys have width {k.shape[-1]}, queries have width {q.shape[-1]}"
        )
    check_batch(q=q, k=k)


def check_values(kind, q, k, v):
    """Raise unless `v` (..., keys, value width) has one row for each key of `k`."""
    check_arrays(kind, q=q, v=v)
    check_rank(2, "(..., keys, value width)", v=v)
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"v has shape {tuple(v.shape)} and k has shape {tuple(k.shape)}: "
            f"{v.shape[-2]} values for {k.shape[-2]} keys"
        )
    check_batch(q=q, v=v)


def check_batch(**arrays):
    """Raise ValueError unless all `arrays` agree on every axis but the last two."""
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.shape[:-2] != first.shape[:-2]:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, expected the leading axes "
                f"{tuple(first.shape[:-2])} of {first_name}, which has shape {tuple(first.shape)}"
            )


def check_mask(kind, mask, shape):
    """Raise unless `mask` is a bool or a boolean array that broadcasts to `shape`."""
    if isinstance(mask, bool):
        return
    if not isinstance(mask, kind):
        raise TypeError(
            f"mask is {described(mask)}, expected a bool or a boolean "
            f"{kind.__module__}.{kind.__name__}, True where a query may look"
        )
    if not is_boolean(mask.dtype):
        raise TypeError(
            f"mask has dtype {mask.dtype}, expected a boolean dtype, True where a query may look"
        )
    check_broadcast("mask", mask, shape)


def check_bias(kind, bias, shape):
    """Raise unless `bias` is a finite number or a floating array that broadcasts to `shape`."""
    if isinstance(bias, kind) and bias.ndim:
        if not is_floating(bias.dtype):
            raise TypeError(f"bias has dtype {bias.dtype}, expected a floating dtype")
        check_broadcast("bias", bias, shape)
    else:
        check_number("bias", bias)


def check_broadcast(name, array, shape):
    """Raise ValueError unless `array` broadcasts to `shape` without enlarging it."""
    given = tuple(array.shape)
    fits = len(given) <= len(shape) and all(
        size in (1, full) for size, full in zip(reversed(given), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(f"{name} has shape {given}, expected one that broadcasts to {shape}")


def check_attention(kind, q, k, mask, bias, scale, softcap):
    """Raise unless the arguments of `attention_weights` fit together."""
    check_queries_and_keys(kind, q, k)
    shape = (*q.shape[:-1], k.shape[-2])
    check_mask(kind, mask, shape)
    check_bias(kind, bias, shape)
    if scale is not None:
        check_number("scale", scale)
    if softcap is not None:
        check_number("softcap", softcap, positive=True)


def check_pooling(kind, x, query, mask, scale):
    """Raise unless the arguments of `attention_pooling` fit together."""
    check_arrays(kind, x=x, query=query)
    check_rank(2, "(..., length, width)", x=x)
    if tuple(query.shape) != tuple(x.shape[-1:]):
        raise ValueError(
            f"query has shape {tuple(query.shape)}, expected {tuple(x.shape[-1:])}: "
            f"x has shape {tuple(x.shape)}, rows of width {x.shape[-1]}"
        )
    check_mask(kind, mask, tuple(x.shape[:-1]))
    check_number("scale", scale)


def check_bilinear(kind, q, k, w):
    """Raise unless the arguments of `bilinear_scores` fit together."""
    check_queries_and_keys(kind, q, k, same_width=False)
    check_arrays(kind, q=q, w=w)
    expected = (q.shape[-1], k.shape[-1])
    if tuple(w.shape) != expected:
        raise ValueError(
            f"w has shape {tuple(w.shape)}, expected {expected}: "
            f"the width of the queries by the width of the keys"
        )


def check_additive(kind, q, k, w_q, w_k, v):
    """Raise unless the arguments of `additive_scores` fit together."""
    check_queries_and_keys(kind, q, k, same_width=False)
    check_arrays(kind, q=q, w_q=w_q, w_k=w_k, v=v)
    if v.ndim != 1:
        raise ValueError(f"v has shape {tuple(v.shape)}, expected (hidden,)")
    for name, w, of, array in (("w_q", w_q, "q", q), ("w_k", w_k, "k", k)):
        expected = (array.shape[-1], v.shape[0])
        if tuple(w.shape) != expected:
            raise ValueError(
                f"{name} has shape {tuple(w.shape)}, expected {expected}: "
                f"the width of {of} by the length of v"
            )


def check_lengths(kind, lengths, keys):
    """Raise unless every one of `lengths` is between 0 and `keys`."""
    check_integers(kind, lengths=lengths)
    check_rank(1, "(batch,)", lengths=lengths)
    keys = check_size("keys", keys)
    if ((lengths < 0) | (lengths > keys)).any():
        raise ValueError(
            f"lengths goes from {lengths.min()} to {lengths.max()}, expected from 0 to {keys}"
        )


def check_documents(kind, query_documents, key_documents):
    """Raise unless both arguments number documents and their batches agree."""
    documents = {"query_documents": query_documents, "key_documents": key_documents}
    check_integers(kind, **documents)
    check_rank(2, "(batch, length)", **documents)
    if key_documents.shape[:-1] != query_documents.shape[:-1]:
        raise ValueError(
            f"key_documents has shape {tuple(key_documents.shape)}, expected the leading axes "
            f"{tuple(query_documents.shape[:-1])} of query_documents"
        )
