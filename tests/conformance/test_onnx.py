"""The cases that ONNX ships with its operators, through the public functions of both libraries.

ONNX makes every case in memory, from its own NumPy code: https://onnx.ai/onnx/operators. An
adapter for each operator only rearranges: no arithmetic of attention is done here. The cases of
opset 25 add windows to those of 23 and 24. Cases named `_expanded` hold the same arrays as those
without, for runtimes that decompose the operator, and add nothing here.
"""

import importlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from in_numpy import LIBRARIES, fitted
from ml_dtypes import finfo
from onnx.backend.test.case import node as onnx_cases

# The operators and opsets, with how many cases each had when this was written.
KNOWN = {
    ("Attention", 23): 69,
    ("Attention", 24): 13,
    ("Attention", 25): 11,
    ("RotaryEmbedding", 23): 8,
    ("RMSNormalization", 23): 19,
    ("LayerNormalization", 17): 19,
    ("Softmax", 13): 7,
}


@dataclass
class Case:
    """One case; its arrays and attributes under the names of the operator's schema."""

    name: str
    operator: str
    opset: int
    inputs: dict[str, np.ndarray]
    attributes: dict[str, object]
    expected: dict[str, np.ndarray]
    rtol: float
    atol: float

    def __str__(self):
        return f"{self.operator}-{self.opset}-{self.name.removeprefix('test_')}"


def read(case):
    """Return the Case of an `onnx` test case that is one node of an operator in KNOWN, or None."""
    (opset,) = [o.version for o in case.model.opset_import if o.domain in ("", "ai.onnx")]
    first, *others = case.model.graph.node
    if others or (first.op_type, opset) not in KNOWN:
        return None
    schema = onnx.defs.get_schema(first.op_type, opset)
    attributes = {
        attribute.name: onnx.helper.get_attribute_value(attribute)
        for attribute in (
            *(a.default_value for a in schema.attributes.values() if a.default_value.name),
            *first.attribute,
        )
    }
    ((inputs, outputs),) = case.data_sets
    return Case(
        case.name,
        first.op_type,
        opset,
        named(schema.inputs, first.input, inputs),
        attributes,
        named(schema.outputs, first.output, outputs),
        case.rtol,
        case.atol,
    )


def named(formal, given, arrays):
    """Return `arrays` under the schema's names. A case leaves one out by an empty name."""
    present = [parameter.name for parameter, name in zip(formal, given, strict=False) if name]
    return dict(zip(present, arrays, strict=True))


def load():
    # onnx.backend.test.loader would make the cases of every operator: 8 s instead of half a one.
    for operators in (
        "attention",
        "layernormalization",
        "rmsnormalization",
        "rotaryembedding",
        "softmax",
    ):
        importlib.import_module(f"onnx.backend.test.case.node.{operators}")
    return [case for case in map(read, onnx_cases._NodeTestCases) if case is not None]


CASES = load()


def test_every_known_case_is_here():
    found = Counter((case.operator, case.opset) for case in CASES)
    assert found >= Counter(KNOWN), found


def attention(library, inputs, attributes, expected):
    q, k, v = (inputs[name] for name in "QKV")
    packed = q.ndim == 3
    if packed:
        q = library.split_heads(q, attributes["q_num_heads"])
        k, v = (library.split_heads(x, attributes["kv_num_heads"]) for x in (k, v))
    if "past_key" in inputs:
        k = np.concatenate([inputs["past_key"], k], axis=-2)
        v = np.concatenate([inputs["past_value"], v], axis=-2)
    mask, bias = visible(library, inputs, attributes, q.shape[-2], k.shape[-2])
    scaling = dict(scale=attributes.get("scale"), softcap=attributes["softcap"] or None)

    grouped = q.shape[1] != k.shape[1]
    function = library.grouped_query_attention if grouped else library.attention
    y = function(q, k, v, mask, bias=bias, **scaling)
    yield library.merge_heads(y) if packed else y, expected["Y"]
    if "present_key" in expected:
        yield k, expected["present_key"]
        yield v, expected["present_value"]
    if "qk_matmul_output" in expected:
        k = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
        scores = expected["qk_matmul_output"]
        match attributes["qk_matmul_output_mode"]:
            case 0:
                yield library.scaled_dot_scores(q, k, scaling["scale"]), scores
            # The scores after softcap and bias are nobody's output here, but their softmax is.
            case 1:
                yield library.attention_weights(q, k, **scaling), library.softmax(scores)
            case 2:
                weights = library.attention_weights(q, k, mask, bias=bias, **scaling)
                yield weights, library.softmax(scores)
            case 3:
                yield library.attention_weights(q, k, mask, bias=bias, **scaling), scores


def visible(library, inputs, attributes, queries, keys):
    """Return the mask and the bias that ONNX means."""
    mask, bias = True, 0.0
    given = inputs.get("attn_mask")
    if given is not None:
        missing = [(0, 0)] * (given.ndim - 1) + [(0, keys - given.shape[-1])]
        if given.dtype == bool:
            mask = np.pad(given, missing)
        else:
            bias = np.pad(given, missing, constant_values=-np.inf)
    # How many keys there are up to the last query, its own included: all that are no padding,
    # or the cached ones and one for each query.
    if "nonpad_kv_seqlen" in inputs:
        ends = inputs["nonpad_kv_seqlen"]
        mask = mask & library.padding_mask(ends, keys)
    else:
        ends = [queries + (inputs["past_key"].shape[-2] if "past_key" in inputs else 0)]
    if attributes["is_causal"]:
        mask = mask & for_each(ends, keys, lambda end: library.causal_mask(queries, end))
    left, right = (attributes.get(f"{side}_window_size", -1) for side in ("left", "right"))
    if left >= 0 or right >= 0:
        left = left if left >= 0 else keys
        right = right if right >= 0 else keys
        mask = mask & for_each(
            ends, keys, lambda end: library.window_mask(queries, end + right, left + 1 + right)
        )
    return mask, bias


def for_each(ends, keys, mask):
    """Return `mask(end)` for the end of each sequence, cut or filled with False to all keys."""
    return np.stack([fitted(mask(int(end)), keys) for end in ends])[:, None]


def rotary_embedding(library, inputs, attributes, expected):
    x, cos, sin = (inputs[name] for name in ("X", "cos_cache", "sin_cache"))
    if "position_ids" in inputs:
        cos, sin = (cache[inputs["position_ids"]] for cache in (cos, sin))
    packed = x.ndim == 3
    if packed:
        x = library.split_heads(x, attributes["num_heads"])
    rotate = library.rotate_neighbors if attributes["interleaved"] else library.rotate_halves
    width = attributes["rotary_embedding_dim"] or x.shape[-1]
    turned = rotate(np.ascontiguousarray(x[..., :width]), cos[:, None], sin[:, None])
    y = np.concatenate([turned, x[..., width:]], axis=-1)
    yield library.merge_heads(y) if packed else y, expected["Y"]


def layer_normalization(library, inputs, attributes, expected):
    x, weight, bias = rows(attributes["axis"], inputs["X"], inputs["Scale"], inputs["B"])
    eps = attributes["epsilon"]
    yield library.layer_norm(x, weight, bias, eps).reshape(expected["Y"].shape), expected["Y"]
    # Mean and deviation are nobody's output here, but what they make of the input is.
    normal = (inputs["X"] - expected["Mean"]) * expected["InvStdDev"]
    ones = np.ones_like(weight)
    yield library.layer_norm(x, ones, np.zeros_like(bias), eps).reshape(normal.shape), normal


def rms_normalization(library, inputs, attributes, expected):
    x, weight = rows(attributes["axis"], inputs["X"], inputs["scale"])
    y = library.rms_norm(x, weight, attributes["epsilon"])
    yield y.reshape(expected["Y"].shape), expected["Y"]


def rows(axis, x, *parameters):
    """Return `x` with its axes from `axis` on as one, and `parameters` as vectors."""
    leading = x.shape[:axis]
    return x.reshape(*leading, -1), *(parameter.reshape(-1) for parameter in parameters)


def softmax(library, inputs, attributes, expected):
    yield library.softmax(inputs["input"], attributes["axis"]), expected["output"]


ADAPTERS = {
    "Attention": attention,
    "RotaryEmbedding": rotary_embedding,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "Softmax": softmax,
}


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(library, case):
    pairs = ADAPTERS[case.operator](library, case.inputs, case.attributes, case.expected)
    for actual, expected in pairs:
        assert actual.dtype == expected.dtype
        # The tolerance is the suite's own, and in half precision two units in the last place:
        # ONNX's runner allows bfloat16 as many, and its own float16 results are off by 1.4.
        rtol = max(case.rtol, 2 * float(finfo(actual.dtype).eps))
        actual, expected = (x.astype(np.float32) for x in (actual, expected))
        np.testing.assert_allclose(actual, expected, rtol=rtol, atol=case.atol)
