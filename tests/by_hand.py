"""Gradients derived by hand: one function for each differentiable function, of the same name.

Each takes the arguments of the function and `dy`, the gradient with respect to its output (a
list of them where it has several), and returns the gradients with respect to its floating
arrays, in their order: `dx` is the one with respect to `x`. Where the package has a gradient by
hand, that is taken. A function among the arguments is the one of that name here.
"""

import math

import numpy as np

from attn_course import reference


def summed(x, shape):
    """Undo broadcasting from `shape`: sum over the axes along which it repeated numbers."""
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    repeated = tuple(axis for axis, size in enumerate(shape) if size != x.shape[axis])
    return x.sum(axis=repeated, keepdims=True)


def softmax(x, axis=-1, temperature=1.0, *, dy):
    w = reference.softmax(x, axis, temperature)
    return [reference.softmax_backward(w, dy, axis, temperature)]


def softmax_jacobian(weights, *, dy):
    # y_ij = w_i ((i == j) - w_j)
    w = weights[..., None]
    return [np.diagonal(dy, axis1=-2, axis2=-1) - ((dy + dy.mT) @ w)[..., 0]]


def entropy(weights, axis=-1, *, dy):
    return [-np.expand_dims(dy, axis) * (np.log(weights) + 1)]


def softmax_backward(weights, grad_output, axis=-1, temperature=1.0, *, dy):
    # y = w (g - a) / t with the average a = sum w g
    w, g, dy = weights, grad_output, dy / temperature
    a = (w * g).sum(axis, keepdims=True)
    da = -(w * dy).sum(axis, keepdims=True)
    return [dy * (g - a) + da * g, w * dy + da * w]


def attention_pooling(x, query, mask=True, *, scale=1.0, dy):
    w = reference.softmax(np.where(mask, scale * x @ query, -np.inf))
    ds = scale * reference.softmax_backward(w, (x @ dy[..., None])[..., 0])
    dx = w[..., None] * dy[..., None, :] + ds[..., None] * query
    return [dx, summed(ds[..., None] * x, query.shape)]


def kernel_weights(q, k, bandwidth=1.0, *, dy):
    # scores = -||q - k||² / (2 b²)
    ds = reference.softmax_backward(reference.kernel_weights(q, k, bandwidth), dy)
    dsteps = -ds[..., None] * (q[..., :, None, :] - k[..., None, :, :]) / bandwidth**2
    return [dsteps.sum(axis=-2), -dsteps.sum(axis=-3)]


def kernel_regression(q, k, v, bandwidth=1.0, *, dy):
    w = reference.kernel_weights(q, k, bandwidth)
    return [*kernel_weights(q, k, bandwidth, dy=dy @ v.mT), w.mT @ dy]


def dot_scores(q, k, *, dy):
    return [dy @ k, dy.mT @ q]


def scaled_dot_scores(q, k, scale=None, *, dy):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    return [scale * dy @ k, scale * dy.mT @ q]


def bilinear_scores(q, k, w, *, dy):
    return [dy @ k @ w.T, dy.mT @ q @ w, summed(q.mT @ dy @ k, w.shape)]


def additive_scores(q, k, w_q, w_k, v, *, dy):
    h = np.tanh((q @ w_q)[..., :, None, :] + (k @ w_k)[..., None, :, :])
    da = dy[..., None] * v * (1 - h**2)
    da_q, da_k = da.sum(axis=-2), da.sum(axis=-3)
    return [
        da_q @ w_q.T,
        da_k @ w_k.T,
        summed(q.mT @ da_q, w_q.shape),
        summed(k.mT @ da_k, w_k.shape),
        summed(dy[..., None] * h, v.shape),
    ]


def cosine_scores(q, k, *, dy):
    (u_q, n_q), (u_k, n_k) = ((x / n, n) for x, n in ((q, norms(q)), (k, norms(k))))
    du_q, du_k = dy @ u_k, dy.mT @ u_q
    # A change along u changes the length alone.
    return [
        (du - u * (u * du).sum(axis=-1, keepdims=True)) / n
        for u, du, n in ((u_q, du_q, n_q), (u_k, du_k, n_k))
    ]


def norms(x):
    return np.sqrt((x**2).sum(axis=-1, keepdims=True))


def attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, dy):
    options = dict(bias=bias, scale=scale, softcap=softcap)
    gradients = list(reference.attention_backward(q, k, v, dy, mask, **options))
    if isinstance(bias, np.ndarray):
        dscores = reference.attention_bias_backward(q, k, v, dy, mask, **options)
        gradients.append(summed(dscores, bias.shape))
    return gradients


def attention_weights(q, k, mask=True, *, dy, **options):
    # The weights are what attention returns for values that are the rows of the identity.
    v = np.broadcast_to(np.eye(k.shape[-2]), (*k.shape[:-1], k.shape[-2]))
    dq, dk, _, *dbias = attention(q, k, v, mask, dy=dy, **options)
    return [dq, dk, *dbias]


def grouped_query_attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, dy):
    options = dict(bias=bias, scale=scale, softcap=softcap)
    gradients = list(reference.grouped_query_attention_backward(q, k, v, dy, mask, **options))
    if isinstance(bias, np.ndarray):
        k, v = (np.repeat(x, q.shape[-3] // k.shape[-3], axis=-3) for x in (k, v))
        dscores = reference.attention_bias_backward(q, k, v, dy, mask, **options)
        gradients.append(summed(dscores, bias.shape))
    return gradients


def split_heads(x, heads, *, dy):
    return [reference.merge_heads(dy)]  # the transpose of a permutation is its inverse


def merge_heads(x, *, dy):
    return [reference.split_heads(dy, x.shape[-3])]


def multi_head_attention(q, k, v, w_q, w_k, w_v, w_o, heads, mask=True, *, dy, **options):
    key_heads = heads * w_k.shape[1] // w_q.shape[1]
    inputs = [(q, w_q, heads), (k, w_k, key_heads), (v, w_v, key_heads)]
    projected = [reference.split_heads(x @ w, n) for x, w, n in inputs]
    found = reference.merge_heads(reference.grouped_query_attention(*projected, mask, **options))
    dfound = reference.split_heads(dy @ w_o.T, heads)
    dprojected = grouped_query_attention(*projected, mask, dy=dfound, **options)
    dprojected, dbias = [reference.merge_heads(dx) for dx in dprojected[:3]], dprojected[3:]
    return [
        *(dx @ w.T for dx, (_, w, _) in zip(dprojected, inputs, strict=True)),
        *(summed(x.mT @ dx, w.shape) for dx, (x, w, _) in zip(dprojected, inputs, strict=True)),
        summed(found.mT @ dy, w_o.shape),
        *dbias,
    ]


def rotary(x, positions, base=10000.0, *, dy):
    return [reference.rotary(dy, -positions, base)]  # a rotation is undone by its transpose


def rotary_interleaved(x, positions, base=10000.0, *, dy):
    return [reference.rotary_interleaved(dy, -positions, base)]


def rotate_halves(x, cos, sin, *, dy):
    x_1, x_2, dy_1, dy_2 = (half for array in (x, dy) for half in np.split(array, 2, axis=-1))
    dcos, dsin = turned(x_1, x_2, cos, sin, dy_1, dy_2)
    return [reference.rotate_halves(dy, cos, -sin), dcos, dsin]


def rotate_neighbors(x, cos, sin, *, dy):
    x_1, x_2, dy_1, dy_2 = (array[..., n::2] for array in (x, dy) for n in (0, 1))
    dcos, dsin = turned(x_1, x_2, cos, sin, dy_1, dy_2)
    return [reference.rotate_neighbors(dy, cos, -sin), dcos, dsin]


def turned(x_1, x_2, cos, sin, dy_1, dy_2):
    # y_1 = x_1 cos - x_2 sin, y_2 = x_2 cos + x_1 sin
    dcos, dsin = x_1 * dy_1 + x_2 * dy_2, x_1 * dy_2 - x_2 * dy_1
    return summed(dcos, cos.shape), summed(dsin, sin.shape)


def relative_bias(table, queries, keys, max_distance=128, *, bidirectional=True, dy):
    buckets = reference.relative_buckets(
        queries, keys, table.shape[0], max_distance, bidirectional=bidirectional
    )
    return [np.stack([dy[:, buckets == n].sum(axis=-1) for n in range(table.shape[0])])]


def online_softmax(x, block=512, *, dy):
    return softmax(x, dy=dy)


def tiled_attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512, dy):
    options = dict(bias=bias, scale=scale, softcap=softcap)
    gradients = list(reference.tiled_attention_backward(q, k, v, dy, mask, **options, block=block))
    if isinstance(bias, np.ndarray):
        dscores = reference.attention_bias_backward(q, k, v, dy, mask, **options)
        gradients.append(summed(dscores, bias.shape))
    return gradients


def partial_attention(q, k, v, mask=True, *, bias=0.0, scale=None, softcap=None, block=512, dy):
    # y = w v, and of lse = log sum exp(scores) the gradient is w.
    dy, dlse = dy
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    w = reference.attention_weights(q, k, mask, bias=bias, scale=scale, softcap=softcap)
    dscores = reference.softmax_backward(w, dy @ v.mT) + w * dlse[..., None]
    dbias = [summed(dscores, bias.shape)] if isinstance(bias, np.ndarray) else []
    if softcap is not None:
        dscores = dscores * (1 - np.tanh(scale * q @ k.mT / softcap) ** 2)
    return [scale * dscores @ k, scale * dscores.mT @ q, w.mT @ dy, *dbias]


def merge_attention(outputs, lses, *, dy):
    # y = sum w outputs with w = softmax(lses), whose lse is log sum exp(lses)
    dy, dlse = dy
    w = reference.softmax(lses, axis=0)
    dw = (outputs * dy).sum(axis=-1)
    return [w[..., None] * dy, reference.softmax_backward(w, dw, axis=0) + w * dlse]


def window_attention(q, k, v, window, *, dy, **options):
    return reference.window_attention_backward(q, k, v, dy, window, **options)


def elu_features(x, *, dy):
    return [dy * np.where(x > 0, 1, np.exp(x))]


def random_features(x, projection, *, dy):
    # y = exp(a) / √m with a = w·x / d^(1/4) - ‖x‖² / (2 √d)
    d = x.shape[-1]
    da = dy * reference.random_features(x, projection)
    dx = da @ projection / d**0.25 - da.sum(axis=-1, keepdims=True) * x / math.sqrt(d)
    return [dx, summed(da.mT @ x, projection.shape) / d**0.25]


def linear_attention(q, k, v, *, feature_map=elu_features, dy):
    everything = np.ones((q.shape[-2], k.shape[-2]))
    return normalized_sums(q, k, v, None, everything, feature_map, dy)


def linear_attention_parallel(q, k, v, *, feature_map=elu_features, dy):
    return normalized_sums(q, k, v, None, np.tri(q.shape[-2]), feature_map, dy)


def linear_attention_recurrent(q, k, v, state=None, *, feature_map=elu_features, dy):
    return normalized_sums(q, k, v, state, np.tri(q.shape[-2]), feature_map, dy)


def linear_attention_chunked(q, k, v, state=None, *, chunk=64, feature_map=elu_features, dy):
    return linear_attention_recurrent(q, k, v, state, feature_map=feature_map, dy=dy)


def normalized_sums(q, k, v, state, seen, feature_map, dy):
    # y = n / t with n = A v + f S and t = A 1 + f z, where A = seen * f gᵀ;
    # the state that is returned is S + gᵀ v, z + gᵀ 1.
    f, g = forward(feature_map)(q), forward(feature_map)(k)
    S, z = state or (0 * (g[..., :1, :].mT @ v[..., :1, :]), 0 * g[..., :1, :].sum(axis=-2))
    dy, dS_n, dz_n = dy if isinstance(dy, list) else (dy, 0 * S, 0 * z)
    A = seen * (f @ g.mT)
    t = A.sum(axis=-1, keepdims=True) + f @ z[..., None]
    t = np.where(t == 0, np.inf, t)
    y = (A @ v + f @ S) / t
    dn, dt = dy / t, -(dy * y).sum(axis=-1, keepdims=True) / t
    dA = seen * (dn @ v.mT + dt)
    df = dA @ g + dn @ S.mT + dt * z[..., None, :]
    dg = dA.mT @ f + v @ dS_n.mT + dz_n[..., None, :]
    dstate = [dS_n + f.mT @ dn, dz_n + (f * dt).sum(axis=-2)] if state else []
    return [
        *feature_map(q, dy=df),
        *feature_map(k, dy=dg),
        A.mT @ dn + g @ dS_n,
        *dstate,
    ]


def gated_linear_attention_parallel(q, k, v, decay, *, dy):
    return gated_linear_attention_recurrent(q, k, v, decay, dy=(dy, 0))


def gated_linear_attention_recurrent(q, k, v, decay, state=None, *, dy):
    # S_t = a S_(t-1) + kᵀ v and y = q S_t, for rows q, k and v
    dy, dS = dy
    S_0 = np.zeros((*k.shape[:-2], k.shape[-1], v.shape[-1])) if state is None else state
    dq, dk, dv, da = (np.zeros_like(x) for x in (q, k, v, decay))
    states = [S_0]
    for t in range(q.shape[-2]):
        states.append(decay[..., t, None, None] * states[-1] + row(k, t).mT @ row(v, t))
    for t in reversed(range(q.shape[-2])):
        dS = dS + row(q, t).mT @ row(dy, t)
        row(dq, t)[:] = row(dy, t) @ states[t + 1].mT
        row(dk, t)[:] = row(v, t) @ dS.mT
        row(dv, t)[:] = row(k, t) @ dS
        da[..., t] = (dS * states[t]).sum(axis=(-2, -1))
        dS = decay[..., t, None, None] * dS
    return [dq, dk, dv, da, *([] if state is None else [dS])]


def gated_linear_attention_chunked(q, k, v, decay, state=None, *, chunk=64, dy):
    return gated_linear_attention_recurrent(q, k, v, decay, state, dy=dy)


def delta_rule_recurrent(q, k, v, beta, state=None, *, dy):
    # S_t = S_(t-1) + kᵀ u with u = b (v - k S_(t-1)), and y = q S_t, for rows q, k, v and u
    dy, dS = dy
    S_0 = np.zeros((*k.shape[:-2], k.shape[-1], v.shape[-1])) if state is None else state
    dq, dk, dv, db = (np.zeros_like(x) for x in (q, k, v, beta))
    states, errors = [S_0], []
    for t in range(q.shape[-2]):
        errors.append(row(v, t) - row(k, t) @ states[-1])
        states.append(states[-1] + row(k, t).mT @ (beta[..., t, None, None] * errors[-1]))
    for t in reversed(range(q.shape[-2])):
        b = beta[..., t, None, None]
        dS = dS + row(q, t).mT @ row(dy, t)
        du = row(k, t) @ dS
        row(dq, t)[:] = row(dy, t) @ states[t + 1].mT
        row(dk, t)[:] = b * (errors[t] @ dS.mT - du @ states[t].mT)
        row(dv, t)[:] = b * du
        db[..., t] = (du * errors[t]).sum(axis=(-2, -1))
        dS = dS - row(k, t).mT @ (b * du)
    return [dq, dk, dv, db, *([] if state is None else [dS])]


def delta_rule_chunked(q, k, v, beta, state=None, *, chunk=64, dy):
    return delta_rule_recurrent(q, k, v, beta, state, dy=dy)


def row(x, t):
    return x[..., t : t + 1, :]


def forward(function):
    """Return the function of which `function` is the gradient by hand."""
    return getattr(reference, function.__name__)


def layer_norm(x, weight=None, bias=None, eps=1e-5, *, dy):
    n, deviation = reference.layer_norm(x, eps=eps), np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    dn = dy if weight is None else dy * weight
    # A change that is constant, or along n, is taken away again.
    constant, along = (part.mean(axis=-1, keepdims=True) for part in (dn, dn * n))
    return [
        (dn - constant - n * along) / deviation,
        *([] if weight is None else [summed(dy * n, weight.shape)]),
        *([] if bias is None else [summed(dy, bias.shape)]),
    ]


def rms_norm(x, weight=None, eps=1e-6, *, dy):
    root = np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    n = x / root
    dn = dy if weight is None else dy * weight
    dx = (dn - n * (dn * n).mean(axis=-1, keepdims=True)) / root
    return [dx, *([] if weight is None else [summed(dy * n, weight.shape)])]


def relu(x, *, dy):
    return [dy * (x > 0)]


def gelu(x, *, dy):
    share = (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return [dy * (share + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi))]


def silu(x, *, dy):
    s = 1 / (1 + np.exp(-x))
    return [dy * s * (1 + x * (1 - s))]


def feed_forward(x, w_1, b_1, w_2, b_2, activation=relu, *, dy):
    a = x @ w_1 + b_1
    (da,) = activation(a, dy=dy @ w_2.T)
    return [
        da @ w_1.T,
        summed(x.mT @ da, w_1.shape),
        summed(da, b_1.shape),
        summed(forward(activation)(a).mT @ dy, w_2.shape),
        summed(dy, b_2.shape),
    ]


def swiglu(x, w_gate, w_up, w_down, *, dy):
    gate, up = x @ w_gate, x @ w_up
    dhidden = dy @ w_down.T
    (dgate,), dup = silu(gate, dy=dhidden * up), dhidden * reference.silu(gate)
    return [
        dgate @ w_gate.T + dup @ w_up.T,
        summed(x.mT @ dgate, w_gate.shape),
        summed(x.mT @ dup, w_up.shape),
        summed((reference.silu(gate) * up).mT @ dy, w_down.shape),
    ]


def pre_norm(x, sublayer, norm, *, dy):
    _, back = residual_step(pre_norm, x, step(sublayer), step(norm))
    return [back(dy)["x"]]


def post_norm(x, sublayer, norm, *, dy):
    _, back = residual_step(post_norm, x, step(sublayer), step(norm))
    return [back(dy)["x"]]


# Of a layer: a step takes x, and returns its output and a function from the gradient with respect
# to that to all others, by name, of which "x" is one.


def step(function):
    return lambda x: (forward(function)(x), lambda dy: {"x": function(x, dy=dy)[0]})


def residual_step(residual, x, sublayer, norm):
    if residual is pre_norm:
        n, norm_back = norm(x)
        y, sublayer_back = sublayer(n)

        def back(dy):
            inner = sublayer_back(dy)
            outer = norm_back(inner["x"])
            return inner | outer | {"x": dy + outer["x"]}

        return x + y, back
    y, sublayer_back = sublayer(x)
    y, norm_back = norm(x + y)

    def back(dy):
        outer = norm_back(dy)
        inner = sublayer_back(outer["x"])
        return inner | outer | {"x": outer["x"] + inner["x"]}

    return y, back


def norm_step(w, name, eps):
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]

    def forth(x):
        names = ("x", f"{name}.weight", f"{name}.bias")
        return reference.layer_norm(x, weight, bias, eps), lambda dy: dict(
            zip(names, layer_norm(x, weight, bias, eps, dy=dy), strict=True)
        )

    return forth


def feed_step(w, activation):
    w_1, b_1, w_2, b_2 = (w[f"linear{n}.{part}"] for n in (1, 2) for part in ("weight", "bias"))

    def forth(x):
        def back(dy):
            dx, dw_1, db_1, dw_2, db_2 = feed_forward(x, w_1.T, b_1, w_2.T, b_2, activation, dy=dy)
            return {
                "x": dx,
                "linear1.weight": dw_1.T,
                "linear1.bias": db_1,
                "linear2.weight": dw_2.T,
                "linear2.bias": db_2,
            }

        return reference.feed_forward(x, w_1.T, b_1, w_2.T, b_2, forward(activation)), back

    return forth


def attend_step(w, name, heads, mask, memory=None):
    # A bias is one more row of a matrix, for a column of ones.
    w_in = np.column_stack([w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"]])
    w_out, b_out = w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"]

    def forth(x):
        seen = x if memory is None else memory
        x, seen = (np.concatenate([y, np.ones((*y.shape[:-1], 1))], axis=-1) for y in (x, seen))
        matrices = [part.T for part in np.split(w_in, 3)]
        arguments = [x, seen, seen, *matrices, w_out.T, heads, mask]

        def back(dy):
            dx, dk, dv, *dw_in, dw_out = multi_head_attention(*arguments, dy=dy)
            dx, dseen = dx[..., :-1], (dk + dv)[..., :-1]
            dw_in = np.concatenate([part.T for part in dw_in])
            return {
                "x": dx + dseen if memory is None else dx,
                **({} if memory is None else {"memory": dseen}),
                f"{name}.in_proj_weight": dw_in[:, :-1],
                f"{name}.in_proj_bias": dw_in[:, -1],
                f"{name}.out_proj.weight": dw_out.T,
                f"{name}.out_proj.bias": summed(dy, b_out.shape),
            }

        return reference.multi_head_attention(*arguments) + b_out, back

    return forth


def stack(x, layers, steps, residual, eps, norm, dy):
    """Return the gradients of `x`, of the memory if there is one, and of the weights in `layers`.

    `steps` makes from the weights of a layer its steps.
    """
    backs = []
    for w in layers:
        for n, sublayer in enumerate(steps(w), 1):
            x, back = residual_step(residual, x, sublayer, norm_step(w, f"norm{n}", eps))
            backs.append(back)
    if norm is not None:
        (dy,) = norm(x, dy=dy)
    gradients, dmemory = [{} for _ in layers], []
    for n, back in reversed(list(enumerate(backs))):
        found = back(dy)
        dy = found["x"]
        dmemory += [found["memory"]] if "memory" in found else []
        gradients[n * len(layers) // len(backs)] |= found
    ordered = [of[name] for w, of in zip(layers, gradients, strict=True) for name in w]
    return [dy, *([sum(dmemory)] if dmemory else []), *ordered]


def encoder(
    x, layers, heads, mask=True, *, residual=post_norm, activation=relu, eps=1e-5, norm=None, dy
):
    def steps(w):
        return [attend_step(w, "self_attn", heads, mask), feed_step(w, activation)]

    return stack(x, layers, steps, residual, eps, norm, dy)


def encoder_layer(x, weights, heads, mask=True, *, dy, **options):
    return encoder(x, [weights], heads, mask, dy=dy, **options)


def decoder(
    x,
    memory,
    layers,
    heads,
    mask=True,
    memory_mask=True,
    *,
    residual=post_norm,
    activation=relu,
    eps=1e-5,
    norm=None,
    dy,
):
    def steps(w):
        return [
            attend_step(w, "self_attn", heads, mask),
            attend_step(w, "multihead_attn", heads, memory_mask, memory),
            feed_step(w, activation),
        ]

    return stack(x, layers, steps, residual, eps, norm, dy)


def decoder_layer(x, memory, weights, heads, mask=True, memory_mask=True, *, dy, **options):
    return decoder(x, memory, [weights], heads, mask, memory_mask, dy=dy, **options)
