"""Checks of arguments, shared by `reference` and `fast`.

Every public function calls these before any work. A message names the argument, says what
was given and what was expected. An array is NumPy's or torch's, as `kind` says.
"""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence

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


def check_bool(name, value):
    """Raise TypeError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {described(value)}, expected a bool")


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


def check_queries_and_keys(kind, q, k, *, same_width=True, own=2):
    """Raise unless `q` (..., queries, width) and `k` (..., keys, width) can be compared.

    The last `own` axes of each are its own: all others must agree.
    """
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
    check_batch(own, q=q, k=k)


def check_values(kind, q, k, v, *, own=2):
    """Raise unless `v` (..., keys, value width) has one row for each key of `k`."""
    check_arrays(kind, q=q, v=v)
    check_rank(2, "(..., keys, value width)", v=v)
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"v has shape {tuple(v.shape)} and k has shape {tuple(k.shape)}: "
            f"{v.shape[-2]} values for {k.shape[-2]} keys"
        )
    check_batch(own, q=q, v=v)


def check_batch(own=2, **arrays):
    """Raise ValueError unless all `arrays` agree on every axis but the last `own`."""
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if array.shape[:-own] != first.shape[:-own]:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, expected the leading axes "
                f"{tuple(first.shape[:-own])} of {first_name}, which has shape {tuple(first.shape)}"
            )


def check_mask(kind, mask, shape, *, called="mask", **like):
    """Raise unless `mask` is a bool or a boolean array that broadcasts to `shape`.

    `like` is the array, under its name, on whose device the mask must be.
    """
    if isinstance(mask, bool):
        return
    if not isinstance(mask, kind):
        raise TypeError(
            f"{called} is {described(mask)}, expected a bool or a boolean "
            f"{kind.__module__}.{kind.__name__}, True where a query may look"
        )
    check_kind(kind, **{called: mask})
    if dtype_name(mask.dtype) != "bool":
        raise TypeError(
            f"{called} has dtype {mask.dtype}, "
            "expected a boolean dtype, True where a query may look"
        )
    check_broadcast(called, mask, shape)
    check_devices(**like, **{called: mask})


def check_bias(kind, bias, shape, *, called="bias", **like):
    """Raise unless `bias` is a finite number or a floating array that broadcasts to `shape`.

    `like` is the array, under its name, on whose device the bias must be, and whose dtype must
    hold the number.
    """
    if isinstance(bias, kind):
        check_kind(kind, **{called: bias})
        check_floating(called, bias)
        check_broadcast(called, bias, shape)
        check_devices(**like, **{called: bias})
    elif isinstance(bias, numbers.Real):
        (array,) = like.values()
        check_number(called, bias, dtype=array.dtype)
    else:
        raise TypeError(
            f"{called} is {described(bias)}, expected a finite number or a floating "
            f"{kind.__module__}.{kind.__name__}"
        )


def check_broadcast(name, array, shape):
    """Raise ValueError unless `array` broadcasts to `shape` without enlarging it."""
    given = tuple(array.shape)
    fits = len(given) <= len(shape) and all(
        size == 1 or size == full  # not `in`, which torch.compile gets wrong for dynamic sizes
        for size, full in zip(reversed(given), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(f"{name} has shape {given}, expected one that broadcasts to {shape}")


def check_attention(kind, q, k, mask, bias, scale, softcap, *, own=2):
    """Return `scale` and `softcap`, numbers or None, or raise unless all arguments fit together."""
    check_queries_and_keys(kind, q, k, own=own)
    return check_options(kind, q, (*q.shape[:-1], k.shape[-2]), mask, bias, scale, softcap)


def check_options(kind, q, shape, mask, bias, scale, softcap):
    """Return `scale` and `softcap`, or raise unless all fit queries `q` and scores of `shape`."""
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


def check_gradient(kind, grad_output, shape, **like):
    """Raise unless `grad_output` has `shape`, that of an output, and the dtype of `like`.

    `like` is an array, under its name, of the dtype and on the device of the output.
    """
    check_arrays(kind, **like, grad_output=grad_output)
    if tuple(grad_output.shape) != tuple(shape):
        raise ValueError(
            f"grad_output has shape {tuple(grad_output.shape)}, expected {tuple(shape)}, "
            "the shape of the output"
        )


def check_attention_backward(kind, q, k, v, grad_output, mask, bias, scale, softcap):
    """Return `scale` and `softcap`, numbers or None, or raise unless all arguments fit together."""
    scale, softcap = check_attention(kind, q, k, mask, bias, scale, softcap)
    check_values(kind, q, k, v)
    check_gradient(kind, grad_output, (*q.shape[:-1], v.shape[-1]), q=q)
    return scale, softcap


def check_heads(kind, x, heads):
    """Return `heads` as an int, or raise unless the rows of `x` split into so many heads."""
    check_arrays(kind, x=x)
    check_rank(2, "(..., length, heads * width)", x=x)
    heads = check_size("heads", heads, minimum=1)
    check_multiple("width", x.shape[-1], "heads", heads, x=x)
    return heads


def check_multiple(what, size, of, divisor, **arrays):
    """Raise ValueError unless `size`, the number of `what`, is a multiple of that of `of`.

    The message shows the shapes of `arrays`.
    """
    if divisor == 0 or size % divisor:
        given = " and ".join(f"{name} has shape {tuple(x.shape)}" for name, x in arrays.items())
        raise ValueError(f"{given}: {what} is {size}, expected a multiple of {of}, {divisor}")


def check_grouped(kind, q, k, v, mask, bias, scale, softcap):
    """Return `scale` and `softcap`, or raise unless the arguments fit a grouped-query attention."""
    check_arrays(kind, q=q, k=k, v=v)
    check_rank(3, "(..., heads, length, width)", q=q, k=k, v=v)
    scale, softcap = check_attention(kind, q, k, mask, bias, scale, softcap, own=3)
    check_values(kind, q, k, v, own=3)
    if q.shape[-3] == 0:
        raise ValueError(f"q has shape {tuple(q.shape)}, expected at least one head")
    check_multiple("query heads", q.shape[-3], "key heads", k.shape[-3], q=q, k=k)
    if v.shape[-3] != k.shape[-3]:
        raise ValueError(
            f"v has shape {tuple(v.shape)} and k has shape {tuple(k.shape)}: "
            f"{v.shape[-3]} heads of values for {k.shape[-3]} heads of keys"
        )
    return scale, softcap


def check_inputs(kind, q, k, v, widths, heads, mask, bias, scale, softcap):
    """Raise unless `q`, `k` and `v` have the `widths` that are projected, and all else fits."""
    check_queries_and_keys(kind, q, k, same_width=False)
    check_values(kind, q, k, v)
    for name, x, width in zip("qkv", (q, k, v), widths, strict=True):
        if x.shape[-1] != width:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}: rows of width {x.shape[-1]}, "
                f"expected {width}, what the projection of {name} takes"
            )
    shape = (*q.shape[:-2], heads, q.shape[-2], k.shape[-2])
    check_options(kind, q, shape, mask, bias, scale, softcap)


def check_multi_head(kind, q, k, v, w_q, w_k, w_v, w_o, heads, mask, bias, scale, softcap):
    """Return the numbers of query and key heads, or raise unless `multi_head_attention` fits."""
    heads = check_size("heads", heads, minimum=1)
    weights = {"w_q": w_q, "w_k": w_k, "w_v": w_v, "w_o": w_o}
    check_arrays(kind, q=q, k=k, v=v, **weights)
    for name, w in weights.items():
        check_rank(2, "(in, out)", maximum=2, **{name: w})
        if 0 in w.shape:
            raise ValueError(f"{name} has shape {tuple(w.shape)}, expected no axis of size 0")
    check_inputs(
        kind, q, k, v, [w.shape[0] for w in (w_q, w_k, w_v)], heads, mask, bias, scale, softcap
    )
    check_multiple("the columns of w_q", w_q.shape[1], "heads", heads, w_q=w_q)
    width = w_q.shape[1] // heads
    check_multiple("the columns of w_k", w_k.shape[1], "the width of a head", width, w_k=w_k)
    key_heads = w_k.shape[1] // width
    check_multiple("heads", heads, "key heads", key_heads, w_q=w_q, w_k=w_k)
    check_multiple("the columns of w_v", w_v.shape[1], "key heads", key_heads, w_v=w_v)
    rows = w_v.shape[1] // key_heads * heads
    if w_o.shape[0] != rows:
        raise ValueError(
            f"w_o has shape {tuple(w_o.shape)}, expected {rows} rows: "
            f"the values of {heads} heads side by side"
        )
    return heads, key_heads


def check_module_sizes(width, heads, kv_heads, key_width, value_width):
    """Return the sizes of a `MultiHeadAttention` as ints, or raise unless they fit together."""
    width = check_size("width", width, minimum=1)
    heads = check_size("heads", heads, minimum=1)
    kv_heads = heads if kv_heads is None else check_size("kv_heads", kv_heads, minimum=1)
    key_width = width if key_width is None else check_size("key_width", key_width, minimum=1)
    value_width = (
        width if value_width is None else check_size("value_width", value_width, minimum=1)
    )
    if width % heads:
        raise ValueError(f"width is {width}, expected a multiple of heads, {heads}")
    if heads % kv_heads:
        raise ValueError(f"heads is {heads}, expected a multiple of kv_heads, {kv_heads}")
    return width, heads, kv_heads, key_width, value_width


def check_torch_attention(kind, module):
    """Raise unless `module` is of `kind`, `nn.MultiheadAttention`, and adds no keys of its own."""
    if not isinstance(module, kind):
        raise TypeError(f"module is {described(module)}, expected a torch.nn.{kind.__name__}")
    added = {"add_bias_kv": module.bias_k is not None, "add_zero_attn": module.add_zero_attn}
    for name, given in added.items():
        if given:
            raise ValueError(
                f"module has {name}=True: it attends to a key besides those that it is given, "
                f"for which MultiHeadAttention has no place"
            )


def check_probability(name, value):
    """Return `value` as a float, or raise unless it is a number from 0 to 1."""
    number = check_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} is {number}, expected a number from 0 to 1")
    return number


def check_window_attention(kind, q, k, v, window, scale, softcap):
    """Return `window`, `scale` and `softcap`, or raise unless all arguments fit together."""
    window = check_size("window", window, minimum=1)
    check_arrays(kind, q=q, k=k, v=v)
    if q.ndim == 2:
        scale, softcap = check_attention(kind, q, k, True, 0.0, scale, softcap)
        check_values(kind, q, k, v)
    else:
        scale, softcap = check_grouped(kind, q, k, v, True, 0.0, scale, softcap)
    return window, scale, softcap


def check_window_attention_backward(kind, q, k, v, grad_output, window, scale, softcap):
    """Return `window`, `scale` and `softcap`, or raise unless all arguments fit together."""
    numbers_ = check_window_attention(kind, q, k, v, window, scale, softcap)
    check_gradient(kind, grad_output, (*q.shape[:-1], v.shape[-1]), q=q)
    return numbers_


def check_projection(kind, x, projection):
    """Raise unless `projection` (features, width) has a row at least, as wide as those of `x`."""
    check_arrays(kind, x=x)
    check_kind(kind, projection=projection)
    check_floating("projection", projection)
    check_devices(x=x, projection=projection)
    check_rank(2, "(..., length, width)", x=x)
    check_rank(2, "(features, width)", maximum=2, projection=projection)
    if projection.shape[-1] != x.shape[-1] or 0 in projection.shape:
        raise ValueError(
            f"projection has shape {tuple(projection.shape)}, expected (features, "
            f"{x.shape[-1]}), neither of them 0: x has shape {tuple(x.shape)}"
        )


def check_causal(kind, q, k, v):
    """Raise unless each of a sequence's tokens has a row in `q`, in `k` and in `v`."""
    check_queries_and_keys(kind, q, k)
    check_values(kind, q, k, v)
    if k.shape[-2] != q.shape[-2]:
        raise ValueError(
            f"k has shape {tuple(k.shape)} and q has shape {tuple(q.shape)}: "
            f"{k.shape[-2]} keys for {q.shape[-2]} queries, expected one for each"
        )


def check_converted(kind, name, array, expected, reason, **like):
    """Raise unless `array`, of any floating dtype, has the shape `expected`.

    `reason` says why; `like` is the array, under its name, on whose device it must be.
    """
    check_kind(kind, **{name: array})
    check_floating(name, array)
    check_shape(name, array, expected, reason)
    check_devices(**like, **{name: array})


def check_tokens(kind, q, **numbers_):
    """Raise unless each of `numbers_`, of any floating dtype, has a number for each query."""
    for name, array in numbers_.items():
        reason = f"q has shape {tuple(q.shape)}"
        check_converted(kind, name, array, q.shape[:-1], reason, q=q)


def check_features(kind, q, k, q_features, k_features):
    """Raise unless a feature map made one row of features of each row, of one width for all."""
    for name, x, features in (("q", q, q_features), ("k", k, k_features)):
        made = f"feature_map({name})"
        check_arrays(kind, **{"its argument": x, made: features})
        if features.ndim != x.ndim or features.shape[:-1] != x.shape[:-1]:
            raise ValueError(
                f"{made} has shape {tuple(features.shape)}, expected a row for each of {name}, "
                f"which has shape {tuple(x.shape)}"
            )
    if k_features.shape[-1] != q_features.shape[-1]:
        raise ValueError(
            f"feature_map(k) has width {k_features.shape[-1]}, "
            f"feature_map(q) has width {q_features.shape[-1]}"
        )


def check_state(kind, k, v, state):
    """Raise unless `state` is None or maps keys to values: (..., width, value width)."""
    if state is not None:
        expected = (*k.shape[:-2], k.shape[-1], v.shape[-1])
        reason = "the width of the keys by the width of the values"
        check_converted(kind, "state", state, expected, reason, k=k)


def check_sums(kind, k, v, state):
    """Raise unless `state` is None or a pair: sums of the features `k` times `v`, and of `k`."""
    if state is None:
        return
    if not isinstance(state, tuple) or len(state) != 2:
        raise TypeError(f"state is {described(state)}, expected None or the pair (S, z)")
    expected = (*k.shape[:-2], k.shape[-1], v.shape[-1])
    reason = "the width of the features by the width of the values"
    check_converted(kind, "state[0]", state[0], expected, reason, k=k)
    reason = "the width of the features"
    check_converted(kind, "state[1]", state[1], expected[:-1], reason, k=k)


def check_dtype(dtype):
    """Raise TypeError unless `dtype` is None or a floating dtype that both libraries have."""
    if dtype is not None and dtype_name(dtype) not in FLOATING:
        raise TypeError(f"dtype is {dtype}, expected a floating dtype of 16, 32 or 64 bits")


def check_even(name, value):
    """Return `value` as an int, or raise unless it is an even integer, not negative."""
    size = check_size(name, value)
    if size % 2:
        raise ValueError(f"{name} is {size}, expected an even number")
    return size


def check_positions(kind, positions):
    """Raise unless `positions` is of the class `kind`, of integers or floating."""
    check_kind(kind, positions=positions)
    if dtype_name(positions.dtype) not in (*FLOATING, *INTEGERS[kind.__module__]):
        raise TypeError(
            f"positions has dtype {positions.dtype}, expected an integer or a floating dtype"
        )


def check_pairs(kind, x):
    """Raise unless `x` (..., length, width) has an even width, to be taken in pairs."""
    check_arrays(kind, x=x)
    check_rank(2, "(..., length, width)", x=x)
    if x.shape[-1] % 2:
        raise ValueError(
            f"x has shape {tuple(x.shape)}: width {x.shape[-1]}, expected an even width"
        )


def check_rotary(kind, x, positions):
    """Raise unless `positions` has a position for each row of `x`, which has an even width."""
    check_pairs(kind, x)
    check_positions(kind, positions)
    check_broadcast("positions", positions, tuple(x.shape[:-1]))
    check_devices(x=x, positions=positions)


def check_rotation(kind, x, cos, sin):
    """Raise unless `cos` and `sin` have an angle for each pair of `x`."""
    check_pairs(kind, x)
    check_arrays(kind, cos=cos, sin=sin)
    shape = (*x.shape[:-1], x.shape[-1] // 2)
    check_broadcast("cos", cos, shape)
    check_broadcast("sin", sin, shape)
    check_devices(x=x, cos=cos, sin=sin)


def check_buckets(buckets, max_distance, bidirectional, name="buckets"):
    """Return `buckets` and `max_distance` as ints, or raise unless T5's rule covers them.

    `name` is how the message calls the number of buckets.
    """
    check_bool("bidirectional", bidirectional)
    buckets = check_size(name, buckets, minimum=4 if bidirectional else 2)
    if bidirectional and buckets % 2:
        raise ValueError(f"{name} is {buckets}, expected an even number: half for each direction")
    exact = buckets // 4 if bidirectional else buckets // 2
    max_distance = check_size("max_distance", max_distance)
    # Up to 2³¹, double precision finds every edge to well within one half.
    if not exact < max_distance <= 2**31:
        raise ValueError(
            f"max_distance is {max_distance}, expected from {exact + 1} to {2**31}: "
            f"with {buckets} buckets, each distance below {exact} has one of its own"
        )
    return buckets, max_distance


def check_table(kind, table, max_distance, bidirectional):
    """Return `max_distance` as an int, or raise unless `table` (buckets, heads) fits it."""
    check_arrays(kind, table=table)
    check_rank(2, "(buckets, heads)", maximum=2, table=table)
    _, max_distance = check_buckets(table.shape[0], max_distance, bidirectional, "table.shape[0]")
    return max_distance


def check_online(kind, x, block):
    """Return `block` as an int, or raise unless the arguments of `online_softmax` fit."""
    check_arrays(kind, x=x)
    check_rank(1, "(..., keys)", x=x)
    return check_size("block", block, minimum=1)


def check_tiled(kind, q, k, v, mask, bias, scale, softcap, block):
    """Return `scale`, `softcap` and `block`, or raise unless all arguments fit together.

    `mask` and `bias` may be functions of batch, head, query and key: what they return can only
    be checked when they are asked, tile by tile.
    """
    arrays = {"mask": mask, "bias": bias}
    functions = {name for name, array in arrays.items() if callable(array)}
    arrays |= {name: {"mask": True, "bias": 0.0}[name] for name in functions}
    scale, softcap = check_attention(kind, q, k, arrays["mask"], arrays["bias"], scale, softcap)
    check_values(kind, q, k, v)
    for name in sorted(functions):
        if q.ndim > 4:
            raise ValueError(
                f"{name} is a function of batch, head, query and key and q has shape "
                f"{tuple(q.shape)}, expected at most four axes: (batch, heads, queries, width)"
            )
    return scale, softcap, check_size("block", block, minimum=1)


def check_parts(kind, outputs, lses):
    """Raise unless `outputs` (parts, ..., queries, value width) have one of `lses` for each row."""
    check_kind(kind, outputs=outputs, lses=lses)
    check_floating("outputs", outputs)
    check_floating("lses", lses)
    check_devices(outputs=outputs, lses=lses)
    check_rank(3, "(parts, ..., queries, value width)", outputs=outputs)
    check_shape("lses", lses, outputs.shape[:-1], f"outputs has shape {tuple(outputs.shape)}")


def check_appended(kind, k, v, stored):
    """Raise unless `k` and `v` hold the same tokens, and fit `stored`, a cache's arrays or None."""
    check_arrays(kind, k=k, v=v)
    check_rank(2, "(..., tokens, width)", k=k, v=v)
    if v.shape[:-1] != k.shape[:-1]:
        raise ValueError(
            f"v has shape {tuple(v.shape)}, expected {tuple(k.shape[:-1])} and a width, "
            f"as k has shape {tuple(k.shape)}"
        )
    for name, array, kept in zip(("k", "v"), (k, v), stored or (), strict=False):
        if array.shape[:-2] != kept.shape[:-2] or array.shape[-1] != kept.shape[-1]:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, expected the leading axes "
                f"{tuple(kept.shape[:-2])} and the width {kept.shape[-1]} of those in the cache"
            )
        if array.dtype != kept.dtype:
            raise TypeError(f"{name} has dtype {array.dtype}, expected {kept.dtype}, the cache's")
        if array.device != kept.device:
            raise ValueError(f"{name} is on {array.device}, expected {kept.device}, the cache's")


def check_room(length, new, capacity):
    """Return `length` + `new`, or raise unless a cache of `capacity` tokens has room for them."""
    new = check_size("new", new)
    if length + new > capacity:
        raise ValueError(f"cache holds {length} of {capacity} tokens, {new} more do not fit")
    return length + new


def check_stored(name, stored):
    """Return `stored`, a cache's arrays, or raise ValueError if nothing was appended yet."""
    if stored is None:
        raise ValueError(f"cache has no {name} yet: expected an append before")
    return stored


def check_newest(queries, most):
    """Return `queries` as an int, or raise unless a cache holds what so many of them may see."""
    queries = check_size("queries", queries)
    if queries > most:
        raise ValueError(
            f"queries is {queries}, expected at most {most}, whose keys the cache holds"
        )
    return queries


def check_cached_attention(kind, q, k, v, cache, caches, mask, bias, scale, softcap):
    """Raise unless the arguments fit together, and `mask` and `bias` what `cache` will hold.

    `caches` is the class that `cache` must be of.
    """
    if not isinstance(cache, caches):
        raise TypeError(
            f"cache is {described(cache)}, expected a KVCache or a SlidingKVCache "
            f"of {caches.__module__}"
        )
    check_grouped(kind, q, k, v, True, 0.0, scale, softcap)
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(
            f"q has shape {tuple(q.shape)} and k has shape {tuple(k.shape)}: "
            f"{q.shape[-2]} queries for {k.shape[-2]} new tokens"
        )
    shape = (*q.shape[:-1], cache.length_after(k.shape[-2]))
    check_mask(kind, mask, shape, q=q)
    check_bias(kind, bias, shape, q=q)


def check_functions(**functions):
    """Raise TypeError unless all `functions` can be called."""
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} is {described(function)}, expected a function")


def check_shape(name, array, expected, reason):
    """Raise ValueError unless `array` has the shape `expected`, for the `reason` given."""
    if tuple(array.shape) != tuple(expected):
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}, expected {tuple(expected)}: {reason}"
        )


def check_norm(kind, x, eps, **vectors):
    """Return `eps` as a float, or raise unless the arguments of a norm of rows fit together.

    `vectors` are what is learned, under their names: None, or an entry for each of a row of `x`.
    """
    vectors = {name: vector for name, vector in vectors.items() if vector is not None}
    check_arrays(kind, x=x, **vectors)
    check_rank(1, "(..., width)", x=x)
    width = x.shape[-1]
    if width == 0:
        raise ValueError(
            f"x has shape {tuple(x.shape)}: its rows have width 0, expected at least 1"
        )
    for name, vector in vectors.items():
        check_shape(name, vector, (width,), f"the rows of x have width {width}")
    return check_eps(eps, x)


def check_eps(eps, x):
    """Return `eps` as a float, or raise unless it is positive in the dtype `x` is widened to."""
    if hasattr(x.dtype, "is_floating_point"):
        import torch  # it is loaded already, as in `limits`

        wide = torch.promote_types(x.dtype, torch.float32)
    else:
        wide = np.promote_types(x.dtype, np.float32)
    return check_number("eps", eps, positive=True, dtype=wide)


def check_feed_forward(kind, x, w_1, b_1, w_2, b_2, activation):
    """Raise unless the arguments of `feed_forward` fit together."""
    check_arrays(kind, x=x, w_1=w_1, b_1=b_1, w_2=w_2, b_2=b_2)
    check_rank(1, "(..., width)", x=x)
    check_rank(2, "(in, out)", maximum=2, w_1=w_1, w_2=w_2)
    (width, hidden), out = (x.shape[-1], w_1.shape[1]), w_2.shape[1]
    check_shape("w_1", w_1, (width, hidden), f"the rows of x have width {width}")
    check_shape("b_1", b_1, (hidden,), f"w_1 has {hidden} columns")
    check_shape("w_2", w_2, (hidden, out), f"w_1 has {hidden} columns")
    check_shape("b_2", b_2, (out,), f"w_2 has {out} columns")
    check_functions(activation=activation)


def check_swiglu(kind, x, w_gate, w_up, w_down):
    """Raise unless the arguments of `swiglu` fit together."""
    check_arrays(kind, x=x, w_gate=w_gate, w_up=w_up, w_down=w_down)
    check_rank(1, "(..., width)", x=x)
    check_rank(2, "(in, out)", maximum=2, w_gate=w_gate, w_up=w_up, w_down=w_down)
    width, hidden = x.shape[-1], w_gate.shape[1]
    check_shape("w_gate", w_gate, (width, hidden), f"the rows of x have width {width}")
    check_shape("w_up", w_up, (width, hidden), "the shape of w_gate")
    check_shape("w_down", w_down, (hidden, w_down.shape[1]), f"w_gate has {hidden} columns")


def check_layers(layers):
    """Return the weights in `layers` under their names, or raise unless it is a sequence."""
    if not isinstance(layers, Sequence):
        raise TypeError(f"layers is {described(layers)}, expected a sequence of mappings")
    return {f"layers[{index}]": weights for index, weights in enumerate(layers)}


def check_layer(kind, name, weights, x, *, attentions, norms):
    """Raise unless `weights`, called `name`, are those of a layer for rows as wide as those of `x`.

    They are the entries of the `state_dict()` of torch's layer with these `attentions` and `norms`,
    where either all parts have a bias or none has.
    """
    if not isinstance(weights, Mapping):
        raise TypeError(f"{name} is {described(weights)}, expected a mapping from names to arrays")
    width = x.shape[-1]
    first = tuple(getattr(weights.get("linear1.weight"), "shape", ()))
    hidden = first[0] if len(first) == 2 else "hidden"
    shapes = {"linear1.": (hidden, width), "linear2.": (width, hidden)}
    for attention in attentions:
        shapes[f"{attention}.in_proj_"] = (3 * width, width)
        shapes[f"{attention}.out_proj."] = (width, width)
    shapes |= {f"{norm}.": (width,) for norm in norms}
    expected = {part + "weight": shape for part, shape in shapes.items()}
    if any(str(entry).endswith("bias") for entry in weights):
        expected |= {part + "bias": shape[:1] for part, shape in shapes.items()}
    for entry in expected:
        if entry not in weights:
            raise ValueError(f"{name} has no entry {entry!r}, expected {', '.join(expected)}")
    for entry in weights:
        if entry not in expected:
            raise ValueError(f"{name} has an entry {entry!r}, expected {', '.join(expected)}")
    check_arrays(kind, x=x, **{f"{name}[{entry!r}]": array for entry, array in weights.items()})
    reason = f"the rows of x have width {width}"
    for entry, shape in expected.items():
        check_shape(f"{name}[{entry!r}]", weights[entry], shape, reason)


def check_encoder(kind, x, layers, heads, mask, eps, **functions):
    """Raise unless the arguments of a stack of encoder layers fit together.

    `layers` are the weights of each under its name; of the `functions`, `norm` may be None.
    """
    heads = check_heads(kind, x, heads)
    check_mask(kind, mask, (*x.shape[:-2], heads, x.shape[-2], x.shape[-2]), x=x)
    check_eps(eps, x)
    check_functions(**{name: f for name, f in functions.items() if (name, f) != ("norm", None)})
    for name, weights in layers.items():
        check_layer(kind, name, weights, x, attentions=("self_attn",), norms=("norm1", "norm2"))


def check_rows(kind, width, **arrays):
    """Raise unless all `arrays` are of the class `kind`, floating, and have rows of `width`."""
    for name, array in arrays.items():
        check_arrays(kind, **{name: array})
        check_rank(1, f"(..., {width})", **{name: array})
        if array.shape[-1] != width:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, expected rows of width {width}"
            )


def check_memory(kind, x, memory, heads, memory_mask):
    """Raise unless the rows of `x` can attend to those of `memory`, which are as wide."""
    check_arrays(kind, x=x, memory=memory)
    check_rank(2, "(..., length, width)", x=x, memory=memory)
    expected = (*x.shape[:-2], memory.shape[-2], x.shape[-1])
    check_shape("memory", memory, expected, f"x has shape {tuple(x.shape)}")
    shape = (*x.shape[:-2], heads, x.shape[-2], memory.shape[-2])
    check_mask(kind, memory_mask, shape, called="memory_mask", x=x)


def check_decoder(kind, x, memory, layers, heads, mask, memory_mask, eps, **functions):
    """Raise unless the arguments of a stack of decoder layers fit together.

    `layers` are the weights of each under its name; of the `functions`, `norm` may be None.
    """
    check_encoder(kind, x, {}, heads, mask, eps, **functions)
    check_memory(kind, x, memory, heads, memory_mask)
    for name, weights in layers.items():
        check_layer(
            kind,
            name,
            weights,
            x,
            attentions=("self_attn", "multihead_attn"),
            norms=("norm1", "norm2", "norm3"),
        )
