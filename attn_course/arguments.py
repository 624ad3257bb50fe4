"""Checks of arguments, shared by `reference` and `fast`.

Every public function calls these before any work. A message names the argument, says what
was given and what was expected. An array is NumPy's or torch's, as `kind` says.
"""

import math
import numbers
import operator

import numpy as np

FLOATING = ("float16", "bfloat16", "float32", "float64")
INTEGERS = {  # torch's other unsigned integers cannot be compared
    "numpy": ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    "torch": ("int8", "int16", "int32", "int64", "uint8"),
}
DENSE = "torch.strided"


def described(value):
    """Return how an error message calls `value`: its type and, for a number, its value."""
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    article = "an" if name[0] in "aeiou" else "a"
    return f"{value!r}" if isinstance(value, (bool, int, float)) else f"{article} {name}"


def dtype_name(dtype) -> str:
    """Return the name of `dtype`, NumPy's or torch's, without the library's."""
    return getattr(dtype, "name", str(dtype)).removeprefix("torch.")


def limits(dtype):
    """Return the `finfo` of `dtype`, NumPy's or torch's."""
    if hasattr(dtype, "is_floating_point"):
        import torch  # it is loaded already, where there is one of its dtypes

        return torch.finfo(dtype)
    return np.finfo(dtype)


def check_kind(kind, **arrays):
    """Raise TypeError unless all `arrays` are plain arrays of the class `kind`."""
    for name, array in arrays.items():
        if not isinstance(array, kind):
            raise TypeError(
                f"{name} is {described(array)}, expected a {kind.__module__}.{kind.__name__}"
            )
        # NumPy's masked arrays and matrices redefine what indexing and products mean.
        if isinstance(array, (np.ma.MaskedArray, np.matrix)):
            raise TypeError(f"{name} is {described(array)}, expected a plain numpy.ndarray")
        if str(getattr(array, "layout", DENSE)) != DENSE:
            raise TypeError(f"{name} is sparse ({array.layout}), expected a dense tensor")


def check_floating(name, array):
    """Raise TypeError unless `array` has a floating dtype that both libraries compute in."""
    if dtype_name(array.dtype) not in FLOATING:
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected a floating dtype of 16, 32 or 64 bits"
        )


def check_arrays(kind, **arrays):
    """Raise unless all `arrays` are of the class `kind`, floating, of one dtype, on one device."""
    check_kind(kind, **arrays)
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        check_floating(name, array)
        if array.dtype != first.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype}, expected {first.dtype}, the dtype of {first_name}"
            )
    check_devices(**arrays)


def check_devices(**arrays):
    """Raise ValueError unless all `arrays` are on the device of the first."""
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.device != first.device:
            raise ValueError(
                f"{name} is on {array.device}, expected {first.device}, the device of {first_name}"
            )


def check_integers(kind, **arrays):
    """Raise unless all `arrays` are of the class `kind`, of integers, on one device."""
    check_kind(kind, **arrays)
    for name, array in arrays.items():
        if dtype_name(array.dtype) not in INTEGERS[kind.__module__]:
            raise TypeError(f"{name} has dtype {array.dtype}, expected an integer dtype")
    check_devices(**arrays)


def check_rank(minimum, dimensions, *, maximum=math.inf, **arrays):
    """Raise ValueError unless all `arrays` have from `minimum` to `maximum` axes.

    `dimensions` is what the message says was expected, such as `(..., length, width)`.
    """
    for name, array in arrays.items():
        if not minimum <= array.ndim <= maximum:
            raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {dimensions}")


def check_axis(axis, **arrays):
    """Raise unless `axis` is an integer that names an axis of the one array given."""
    ((name, array),) = arrays.items()
    axis = check_size("axis", axis, minimum=None)
    check_rank(1, f"at least one axis; axis is {axis}", **arrays)
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(
            f"axis is {axis}, {name} has shape {tuple(array.shape)}: "
            f"expected an axis from {-array.ndim} to {array.ndim - 1}"
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


def check_number(name, value, *, positive=False, dtype=None):
    """Return `value` as a float, or raise unless it is one finite real number.

    With `positive`, zero and negative numbers raise too; with `dtype`, so do numbers too large
    for it, and positive ones that it rounds to zero.
    """
    expected = "a positive finite number" if positive else "a finite number"
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {described(value)}, expected {expected}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (positive and number <= 0):
        raise ValueError(f"{name} is {number}, expected {expected}")
    if dtype is not None:
        bounds = limits(dtype)
        smallest = float(bounds.smallest_normal) * float(bounds.eps)
        if abs(number) > float(bounds.max) or (positive and number <= smallest / 2):
            raise ValueError(f"{name} is {number}, expected a number that {dtype} can hold")
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


def check_mask(kind, mask, shape, **like):
    """Raise unless `mask` is a bool or a boolean array that broadcasts to `shape`.

    `like` is the array, under its name, on whose device the mask must be.
    """
    if isinstance(mask, bool):
        return
    if not isinstance(mask, kind):
        raise TypeError(
            f"mask is {described(mask)}, expected a bool or a boolean "
            f"{kind.__module__}.{kind.__name__}, True where a query may look"
        )
    check_kind(kind, mask=mask)
    if dtype_name(mask.dtype) != "bool":
        raise TypeError(
            f"mask has dtype {mask.dtype}, expected a boolean dtype, True where a query may look"
        )
    check_broadcast("mask", mask, shape)
    check_devices(**like, mask=mask)


def check_bias(kind, bias, shape, **like):
    """Raise unless `bias` is a finite number or a floating array that broadcasts to `shape`.

    `like` is the array, under its name, on whose device the bias must be, and whose dtype must
    hold the number.
    """
    if isinstance(bias, kind):
        check_kind(kind, bias=bias)
        check_floating("bias", bias)
        check_broadcast("bias", bias, shape)
        check_devices(**like, bias=bias)
    else:
        (array,) = like.values()
        check_number("bias", bias, dtype=array.dtype)


def check_broadcast(name, array, shape):
    """Raise ValueError unless `array` broadcasts to `shape` without enlarging it."""
    given = tuple(array.shape)
    fits = len(given) <= len(shape) and all(
        size in (1, full) for size, full in zip(reversed(given), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(f"{name} has shape {given}, expected one that broadcasts to {shape}")


def check_attention(kind, q, k, mask, bias, scale, softcap):
    """Return `scale` and `softcap`, numbers or None, or raise unless all arguments fit together."""
    check_queries_and_keys(kind, q, k)
    shape = (*q.shape[:-1], k.shape[-2])
    check_mask(kind, mask, shape, q=q)
    check_bias(kind, bias, shape, q=q)
    if softcap is not None:
        softcap = check_number("softcap", softcap, positive=True, dtype=q.dtype)
    if scale is not None:
        scale = check_number("scale", scale, dtype=q.dtype)
    return scale, softcap


def check_pooling(kind, x, query, mask, scale):
    """Return `scale` as a float, or raise unless the arguments of `attention_pooling` fit."""
    check_arrays(kind, x=x, query=query)
    check_rank(2, "(..., length, width)", x=x)
    if tuple(query.shape) != tuple(x.shape[-1:]):
        raise ValueError(
            f"query has shape {tuple(query.shape)}, expected {tuple(x.shape[-1:])}: "
            f"x has shape {tuple(x.shape)}, rows of width {x.shape[-1]}"
        )
    check_mask(kind, mask, tuple(x.shape[:-1]), x=x)
    return check_number("scale", scale, dtype=x.dtype)


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
    """Return `keys` as an int, or raise unless every one of `lengths` is between 0 and `keys`."""
    check_integers(kind, lengths=lengths)
    check_rank(1, "(batch,)", lengths=lengths)
    keys = check_size("keys", keys)
    if ((lengths < 0) | (lengths > keys)).any():
        raise ValueError(
            f"lengths goes from {lengths.min()} to {lengths.max()}, expected from 0 to {keys}"
        )
    return keys


def check_documents(kind, query_documents, key_documents, *, maximum=math.inf):
    """Raise unless both arguments number documents and their batches agree.

    `maximum` is the number of axes that they may have.
    """
    documents = {"query_documents": query_documents, "key_documents": key_documents}
    check_integers(kind, **documents)
    check_rank(2, "(batch, length)", maximum=maximum, **documents)
    if key_documents.shape[:-1] != query_documents.shape[:-1]:
        raise ValueError(
            f"key_documents has shape {tuple(key_documents.shape)}, expected the leading axes "
            f"{tuple(query_documents.shape[:-1])} of query_documents"
        )
