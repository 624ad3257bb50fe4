"""torch's own attention, module and function, in float64: values and gradients.

`nn.MultiheadAttention` is met by three ways: our module, made by `from_torch`, and the public
functions of both libraries. Its masks are True where a query may *not* look.

Where torch and the course differ, a test here says so by name:
- test_a_query_that_may_look_nowhere: nan in torch where it returns the weights, zeros in ours.
- test_causal_of_unequal_lengths_differs: torch aligns top left, ours bottom right.
"""

import numpy as np
import pytest
import torch
from tolerance import assert_equal64
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from attn_course import fast, reference

BATCH, QUERIES, KEYS, WIDTH, HEADS = 2, 5, 7, 12, 3


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


FORBIDDEN = drawn(QUERIES, KEYS) > 0.6
FORBIDDEN_PER_HEAD = drawn(BATCH * HEADS, QUERIES, KEYS) > 0.6
PADDING = torch.arange(KEYS) >= torch.tensor([[KEYS], [4]])
FUTURE = torch.ones(KEYS, KEYS, dtype=torch.bool).triu(1)


def lowered(forbidden, seed=1):
    """Return a mask of floats, torch's other kind: -inf where `forbidden`, else anything."""
    return drawn(*forbidden.shape, seed=seed).masked_fill(forbidden, -torch.inf)


# What the constructor is given, what the call is given.
CASES = {
    "plain": ({}, {}),
    "length-first": ({"batch_first": False}, {}),
    "length-first-padding": ({"batch_first": False}, {"key_padding_mask": PADDING}),
    "one-head": ({"num_heads": 1}, {}),
    "as-many-heads-as-columns": ({"num_heads": WIDTH}, {}),
    "kdim-and-vdim": ({"kdim": 5, "vdim": 4}, {}),
    "kdim": ({"kdim": 5}, {}),
    "vdim": ({"vdim": 4}, {}),
    "no-bias": ({"bias": False}, {}),
    "no-bias-kdim-and-vdim": ({"bias": False, "kdim": 5, "vdim": 4}, {}),
    "eval": ({"eval": True, "dropout": 0.5}, {}),
    "unbatched": ({"unbatched": True}, {}),
    "unbatched-length-first": ({"unbatched": True, "batch_first": False}, {}),
    "unbatched-padding": ({"unbatched": True}, {"key_padding_mask": PADDING[1]}),
    "unbatched-mask-3d": ({"unbatched": True}, {"attn_mask": FORBIDDEN_PER_HEAD[:HEADS]}),
    "padding": ({}, {"key_padding_mask": PADDING}),
    "padding-of-floats": ({}, {"key_padding_mask": lowered(PADDING)}),
    "mask-2d": ({}, {"attn_mask": FORBIDDEN}),
    "mask-2d-of-floats": ({}, {"attn_mask": lowered(FORBIDDEN)}),
    "mask-3d": ({}, {"attn_mask": FORBIDDEN_PER_HEAD}),
    "mask-3d-of-floats": ({}, {"attn_mask": lowered(FORBIDDEN_PER_HEAD)}),
    "mask-2d-and-padding": ({}, {"attn_mask": FORBIDDEN, "key_padding_mask": PADDING}),
    "mask-3d-and-padding-of-floats": (
        {},
        {"attn_mask": lowered(FORBIDDEN_PER_HEAD), "key_padding_mask": lowered(PADDING)},
    ),
    "causal": ({"queries": KEYS}, {"attn_mask": FUTURE, "is_causal": True}),
    "causal-and-padding": (
        {"queries": KEYS},
        {"attn_mask": FUTURE, "is_causal": True, "key_padding_mask": PADDING},
    ),
    "one-query": ({"queries": 1}, {}),
}
WEIGHTS = {
    "output-alone": {"need_weights": False},
    "weights-averaged": {},
    "weights-per-head": {"average_attn_weights": False},
}


class Case:
    """A module of torch's, inputs for it with the batch first, and its masks in our terms."""

    def __init__(self, settings, call):
        settings = {"num_heads": HEADS, "batch_first": True} | settings
        self.unbatched = settings.pop("unbatched", False)
        queries, evaluated = settings.pop("queries", QUERIES), settings.pop("eval", False)
        torch.manual_seed(3)
        self.module = nn.MultiheadAttention(WIDTH, dtype=torch.float64, **settings)
        for name, parameter in self.module.named_parameters():
            if name.endswith("bias"):  # torch starts them at 0, where they could be forgotten
                nn.init.normal_(parameter)
        self.module.train(not evaluated)
        batch = () if self.unbatched else (BATCH,)
        q = drawn(*batch, queries, WIDTH)
        k, v = drawn(*batch, KEYS, self.module.kdim), drawn(*batch, KEYS, self.module.vdim, seed=1)
        self.inputs = [x.requires_grad_() for x in (q, k, v)]
        self.call = call
        self.mask, self.bias = translated(settings["num_heads"], **call)

    def theirs(self, **options):
        """Return torch's output, batch first, and its weights."""
        turn = not self.module.batch_first and not self.unbatched
        inputs = [x.transpose(0, 1) if turn else x for x in self.inputs]
        out, weights = self.module(*inputs, **self.call, **options)
        return out.transpose(0, 1) if turn else out, weights

    def matrices(self):
        """Return the projections of torch's module as `multi_head_attention` takes them.

        A bias is the weight of one more column, of ones; it is the last row of its matrix.
        """
        module = self.module
        if module.in_proj_weight is None:
            weights = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
        else:
            weights = module.in_proj_weight.chunk(3)
        if module.in_proj_bias is None:
            return [w.T for w in weights], [*self.inputs]
        biases = module.in_proj_bias.chunk(3)
        matrices = [torch.cat([w.T, b[None]]) for w, b in zip(weights, biases, strict=True)]
        ones = (torch.ones_like(x[..., :1]) for x in self.inputs)
        return matrices, [torch.cat(pair, -1) for pair in zip(self.inputs, ones, strict=True)]

    def ours(self, library):
        """Return the output and the weights of each head by the public functions of `library`."""
        matrices, inputs = self.matrices()
        out_proj = self.module.out_proj
        out_bias = 0.0 if out_proj.bias is None else out_proj.bias
        arrays = [*inputs, *matrices, out_proj.weight.T, self.mask, self.bias, out_bias]
        if library is reference:
            arrays = [a.detach().numpy() if torch.is_tensor(a) else a for a in arrays]
        *inputs, w_q, w_k, w_v, w_o, mask, bias, out_bias = arrays
        heads = self.module.num_heads
        out = library.multi_head_attention(*inputs, w_q, w_k, w_v, w_o, heads, mask, bias=bias)
        q, k = (library.split_heads(x @ w, heads) for x, w in zip(inputs, (w_q, w_k), strict=False))
        return out + out_bias, library.attention_weights(q, k, mask, bias=bias)

    def leaves(self):
        return [*self.inputs, *self.module.parameters()]


def translated(heads, attn_mask=None, key_padding_mask=None, is_causal=False):
    """Return torch's masks as our `mask` and `bias`: True where a query may look, and floats."""
    mask, bias = True, 0.0
    if attn_mask is not None and attn_mask.ndim == 3:  # (batch * heads, queries, keys)
        attn_mask = attn_mask.unflatten(0, (-1, heads)).squeeze(0)
    if key_padding_mask is not None:
        key_padding_mask = key_padding_mask[..., None, None, :]
    for given in (attn_mask, key_padding_mask):
        if given is not None and given.dtype == torch.bool:
            mask = mask & ~given
        elif given is not None:
            bias = bias + given
    return mask, bias


def gradients(out, leaves):
    return torch.autograd.grad((out * drawn(*out.shape, seed=2)).sum(), leaves)


def assert_all_equal64(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert_equal64(ours, theirs)


both = pytest.mark.parametrize("library", [reference, fast], ids=["reference", "fast"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weights", WEIGHTS)
@both
def test_functions(library, weights, case):
    case = Case(*CASES[case])
    expected, expected_weights = case.theirs(**WEIGHTS[weights])
    out, ours = case.ours(library)
    assert_equal64(out, expected)
    if expected_weights is None:
        assert weights == "output-alone"
    else:
        assert_equal64(ours.mean(-3) if weights == "weights-averaged" else ours, expected_weights)
    if library is fast:
        assert_all_equal64(gradients(out, case.leaves()), gradients(expected, case.leaves()))


@pytest.mark.parametrize("case", CASES)
def test_module(case):
    case = Case(*CASES[case])
    expected, _ = case.theirs(need_weights=False)
    layer = fast.MultiHeadAttention.from_torch(case.module)
    out = layer(*case.inputs, case.mask, bias=case.bias)
    assert_equal64(out, expected)
    ours = dict(layer.named_parameters())
    found = gradients(out, [*case.inputs, *ours.values()])
    grads = dict(zip(ours, found[3:], strict=True))
    parts = ("query", "key", "value")
    joined = {
        "in_proj_weight": [grads[f"{part}.weight"] for part in parts],
        "in_proj_bias": [grads.get(f"{part}.bias") for part in parts],
        **{f"{part[0]}_proj_weight": [grads[f"{part}.weight"]] for part in parts},
        "out_proj.weight": [grads["output.weight"]],
        "out_proj.bias": [grads.get("output.bias")],
    }
    found = [*found[:3], *(torch.cat(joined[name]) for name, _ in case.module.named_parameters())]
    assert_all_equal64(found, gradients(expected, case.leaves()))


@pytest.mark.parametrize("padding", [None, PADDING], ids=["plain", "padding"])
def test_torchs_path_without_gradients(padding):
    # In evaluation without gradients torch takes a kernel of its own for self-attention.
    module = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64).eval()
    layer = fast.MultiHeadAttention.from_torch(module)
    x = drawn(BATCH, KEYS, WIDTH)
    with torch.no_grad():
        expected, _ = module(x, x, x, key_padding_mask=padding, need_weights=False)
        mask, _ = translated(HEADS, key_padding_mask=padding)
        assert_equal64(layer(x, mask=mask), expected)


def test_dropout_draws_as_torch_does():
    module = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.3, batch_first=True).double()
    layer = fast.MultiHeadAttention.from_torch(module)
    x = drawn(BATCH, KEYS, WIDTH)
    torch.manual_seed(5)
    expected, _ = module(x, x, x)
    torch.manual_seed(5)
    out = layer(x)
    assert_equal64(out, expected)
    assert not torch.allclose(layer.eval()(x), out)


@pytest.mark.parametrize(
    ("forbidden", "empty"),
    [
        ({"attn_mask": FORBIDDEN.index_fill(0, torch.tensor([1]), True)}, (slice(None), [1])),
        (
            {"attn_mask": lowered(FORBIDDEN.index_fill(0, torch.tensor([1]), True))},
            (slice(None), [1]),
        ),
        ({"key_padding_mask": PADDING.index_fill(0, torch.tensor([1]), True)}, ([1],)),
    ],
    ids=["mask", "mask-of-floats", "padding"],
)
def test_a_query_that_may_look_nowhere(forbidden, empty):
    case = Case({}, forbidden)
    theirs, their_weights = case.theirs(average_attn_weights=False)
    blank = torch.zeros(BATCH, QUERIES, dtype=torch.bool)
    blank[empty] = True
    # torch returns nan, for it divides by a sum of no weights; ours the projection of zeros.
    assert torch.equal(theirs.isnan().all(dim=-1), blank)
    assert torch.equal(their_weights.isnan().all(dim=-1).all(dim=1), blank)
    layer = fast.MultiHeadAttention.from_torch(case.module)
    outputs = [
        case.ours(reference)[0],
        case.ours(fast)[0],
        layer(*case.inputs, case.mask, bias=case.bias),
    ]
    for out in outputs:
        out = torch.as_tensor(out)
        assert_equal64(out[~blank], theirs[~blank])
        assert_equal64(out[blank], case.module.out_proj.bias.expand_as(out[blank]))
    for library in (reference, fast):
        weights = torch.as_tensor(case.ours(library)[1]).transpose(1, 2)
        assert_equal64(weights[blank], torch.zeros_like(weights[blank]))
        assert_equal64(weights[~blank], their_weights.transpose(1, 2)[~blank])
    for gradient in gradients(outputs[1], case.leaves()):
        assert gradient.isfinite().all()
    # Without the weights torch agrees with us.
    assert_equal64(outputs[1], case.theirs(need_weights=False)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_from_torch_keeps_settings(dtype, training, device):
    module = nn.MultiheadAttention(8, 2, dropout=0.25, kdim=3, device=device, dtype=dtype)
    state = torch.get_rng_state()
    layer = fast.MultiHeadAttention.from_torch(module.train(training))
    assert torch.equal(torch.get_rng_state(), state)
    assert {(p.dtype, p.device) for p in layer.parameters()} == {
        (dtype, module.out_proj.weight.device)
    }
    assert all(parameter.requires_grad for parameter in layer.parameters())
    assert layer.dropout.p == 0.25
    assert all(part.training == training for part in layer.modules())
    assert (layer.heads, layer.kv_heads) == (2, 2)
    before = layer.key.weight.clone()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(layer.key.weight, before)


# The function. Layout (batch, heads, length, width); its masks are ours, True where allowed.

ALLOWED = ~FORBIDDEN
SHARED = {"enable_gqa": True}
FUNCTION_CASES = {
    "plain": (4, 4, {}, {}),
    "mask": (4, 4, {"attn_mask": ALLOWED}, {"mask": ALLOWED}),
    "mask-of-floats": (4, 4, {"attn_mask": lowered(FORBIDDEN)}, {"bias": lowered(FORBIDDEN)}),
    "mask-per-head": (
        4,
        4,
        {"attn_mask": drawn(4, QUERIES, KEYS) > 0},
        {"mask": drawn(4, QUERIES, KEYS) > 0},
    ),
    "scale": (4, 4, {"scale": 0.3}, {"scale": 0.3}),
    "causal": (4, 4, {"is_causal": True}, {"mask": ~FUTURE}),
    "gqa": (6, 2, SHARED, {}),
    "gqa-one-key-head": (6, 1, SHARED, {}),
    "gqa-causal-scale": (
        6,
        3,
        SHARED | {"is_causal": True, "scale": 0.3},
        {"mask": ~FUTURE, "scale": 0.3},
    ),
    "gqa-mask": (6, 2, SHARED | {"attn_mask": ALLOWED}, {"mask": ALLOWED}),
    "gqa-empty-row": (
        6,
        2,
        SHARED | {"attn_mask": ALLOWED.index_fill(0, torch.tensor([1]), False)},
        {"mask": ALLOWED.index_fill(0, torch.tensor([1]), False)},
    ),
}


@pytest.mark.parametrize("case", FUNCTION_CASES)
@pytest.mark.parametrize("value_width", [8, 3], ids=["values-as-wide-as-keys", "values-narrower"])
@both
def test_scaled_dot_product_attention(library, value_width, case):
    heads, key_heads, theirs, ours = FUNCTION_CASES[case]
    queries = KEYS if theirs.get("is_causal") else QUERIES
    q, k = drawn(BATCH, heads, queries, 8), drawn(BATCH, key_heads, KEYS, 8)
    v = drawn(BATCH, key_heads, KEYS, value_width, seed=1)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    expected = scaled_dot_product_attention(*inputs, **theirs)
    expected_gradients = gradients(expected, inputs)
    names = ["grouped_query_attention"] + (["attention"] if heads == key_heads else [])
    for name in names:
        if library is reference:
            arrays = [x.detach().numpy() for x in inputs]
            options = {n: x.numpy() if torch.is_tensor(x) else x for n, x in ours.items()}
            assert_equal64(getattr(reference, name)(*arrays, **options), expected)
        else:
            out = getattr(fast, name)(*inputs, **ours)
            assert_equal64(out, expected)
            assert_all_equal64(gradients(out, inputs), expected_gradients)


@pytest.mark.parametrize(("queries", "keys"), [(QUERIES, KEYS), (KEYS, QUERIES), (1, KEYS)])
def test_causal_of_unequal_lengths_differs(queries, keys):
    q, k = drawn(4, queries, 8), drawn(4, keys, 8)
    theirs = scaled_dot_product_attention(q, k, k, is_causal=True)
    top_left = torch.ones(queries, keys, dtype=torch.bool).tril()
    assert_equal64(fast.attention(q, k, k, top_left), theirs)
    assert_equal64(reference.attention(q.numpy(), k.numpy(), k.numpy(), top_left.numpy()), theirs)
    ours = fast.attention(q, k, k, fast.causal_mask(queries, keys))
    assert not np.allclose(ours, theirs)
    assert_equal64(reference.causal_mask(queries, keys)[-1], np.ones(keys))
