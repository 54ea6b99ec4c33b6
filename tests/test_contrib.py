"""onnxruntime's own operators, opened into ONNX's: as its CPU kernels compute them, or as their schemas say."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import contrib_dtypes
import numpy as np
import onnx
import pytest
from contrib_cases import DOMAIN, Case, Weight, cases
from mxnet_oracle import Oracle
from onnx import helper

from netferry.converters.errors import NetferryError, UnsupportedError
from netferry.converters.frameworks import named
from netferry.converters.graph.passes.contrib import CONTRIB
from netferry.converters.graph.passes.contrib.refused import REFUSED
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.mxnet import files
from netferry.converters.onnx import double
from netferry.converters.signature import Signature, TensorSpec

ort = pytest.importorskip("onnxruntime")

ASKED = """
    DynamicQuantizeLSTM DynamicQuantizeMatMul MatMulIntegerToFloat QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu
    QLinearAveragePool QLinearGlobalAveragePool QLinearConcat QLinearSoftmax QGemm FusedMatMul FusedConv FusedGemm Gelu
    FastGelu BiasGelu QuickGelu SkipLayerNormalization SimplifiedLayerNormalization SkipSimplifiedLayerNormalization
    EmbedLayerNormalization Attention MultiHeadAttention GroupQueryAttention DecoderMaskedMultiHeadAttention
    RotaryEmbedding MatMulNBits GatherBlockQuantized QAttention NhwcConv NhwcMaxPool Pad Inverse Trilu ExpandDims
    CropAndResize GridSample Range TransposeMatMul ConvTransposeWithDynamicPads BiasSplitGelu GroupNorm SkipGroupNorm
    BiasAdd
    """.split()

CASES = cases()
OPERATORS = sorted({case.operator for case in CASES})


def expected(case: Case) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        case.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, case.feeds))


def signature(model: onnx.ModelProto) -> Signature:
    held = {tensor.name for tensor in model.graph.initializer}

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(v.name, np.dtype(np.float32), None) for v in values if v.name not in held)

    return Signature(specs(model.graph.input), specs(model.graph.output))


def imported(model: onnx.ModelProto, to: str) -> Any:
    return named(to).from_onnx.from_onnx(plan(model), signature(model))


def ran(model: onnx.ModelProto, to: str, feeds: Mapping[str, Any]) -> list[Any]:
    return list(named(to).live.run(imported(model, to).model, list(feeds.values())).values())


LACKED = {
    "pytorch": {"int4", "uint4", "float4_e2m1fn"},
    "tensorflow": {"int4", "uint4", "float4_e2m1fn", "float8_e4m3fnuz", "float8_e5m2fnuz"},
    "mxnet": {"bfloat16", "int4", "uint4", "int16", "uint16", "uint32", "uint64", "float4_e2m1fn",
              "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"},
}  # fmt: skip
"""The dtypes that a target has not, by which it refuses."""


def told(error: UnsupportedError, to: str) -> bool:
    return any(f"{dtype}" in str(error).replace(".", "").split() for dtype in LACKED[to])


def check(case: Case, got: Sequence[Any], wanted: Sequence[Any], *, wide: bool = False) -> None:
    assert len(got) == len(wanted)
    for one, want in zip(got, wanted, strict=True):
        assert one.shape == want.shape and (wide or one.dtype == want.dtype), case.name
        if not want.size:
            continue
        far = np.abs(np.asarray(one, np.float64) - np.asarray(want, np.float64)).max()
        if want.dtype.kind in "iub":
            assert far <= case.steps, case.name
        else:
            unit = 8e-3 if case.narrow else {"float64": 1e-12, "float16": 1e-3}.get(want.dtype.name, 3e-6)
            assert far <= unit * np.abs(np.asarray(want, np.float64)).max() + 1e-30, (case.name, far)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_what_onnxruntime_computes(operator: str) -> None:
    """With fixed and with named sizes, in PyTorch; in float64 by ONNX's reference evaluator."""
    for case in (case for case in CASES if case.operator == operator):
        wanted = expected(case)
        for free in (False, True)[: 1 + case.free]:
            try:
                check(case, ran(case.model(free=free), "pytorch", case.feeds), wanted)
            except UnsupportedError as error:
                assert told(error, "pytorch"), error
        truth = double.as_float64(case.model()).run(list(case.feeds.values()))
        check(case, list(truth.values()), wanted, wide=True)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_what_onnxruntime_computes_in_tensorflow(operator: str) -> None:
    for case in (case for case in CASES if case.operator == operator):
        try:
            check(case, ran(case.model(), "tensorflow", case.feeds), expected(case))
        except UnsupportedError as error:
            assert told(error, "tensorflow"), error


TOLD = "GroupQueryAttention Range ConvTransposeWithDynamicPads".split()
"""Operators of which MXNet refuses a part, by name: outputs that no input reaches, and sizes that are computed."""


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_what_onnxruntime_computes_in_mxnet(
    operator: str, oracle: Oracle, tmp_path: Path
) -> None:
    if importlib.util.find_spec("mxnet") is None:
        pytest.skip("mxnet, the oracle, is not installed")
    for case in (case for case in CASES if case.operator == operator):
        try:
            arrived = imported(case.model(), "mxnet")
        except UnsupportedError as error:
            assert operator in TOLD or told(error, "mxnet"), error
            continue
        files.write(arrived, tmp_path / "case-symbol.json")
        names = [spec.name for spec in arrived.signature.inputs]
        (outputs,) = oracle.imported(str(tmp_path / "case"), names, [list(case.feeds.values())])
        check(case, outputs, expected(case), wide=True)


# ---- the table ------------------------------------------------------------------------------------------------


def test_every_operator_that_was_asked_for_has_a_row() -> None:
    assert [operator for operator in ASKED if operator not in CONTRIB] == []
    assert {"PackedAttention", "QOrderedMatMul", "QOrderedAttention"} <= REFUSED.keys()


def test_every_dtype_of_a_kernel_is_in_a_case() -> None:
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    schemas = {schema.name: schema for schema in state.get_all_operator_schema() if schema.domain == DOMAIN}
    tried: set[tuple[str, str, str]] = set()
    for case in (case for case in CASES if case.operator in schemas):
        model, schema = case.model(), schemas[case.operator]
        node = next(node for node in model.graph.node if node.op_type == case.operator)
        dtypes = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        dtypes |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        dtypes |= {name: case.narrow for name in node.input if name.startswith("narrow")}
        if not case.widened:
            results = [name for name in node.output if name]
            kinds = (helper.np_dtype_to_tensor_dtype(value.dtype) for value in expected(case))
            dtypes |= dict(zip(results, kinds, strict=True))
        for formals, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
            for place, name in enumerate(names):
                if dtype := dtypes.get(name):
                    words = onnx.TensorProto.DataType.Name(dtype).lower()
                    tried.add((case.operator, formals[min(place, len(formals) - 1)].typeStr, words))
    wanted = {
        (line.split()[0], variable.split(":")[0].split()[-1], dtype)
        for line in contrib_dtypes.KERNELS.strip().splitlines()
        for variable in line.split(maxsplit=1)[1].split(";")
        for dtype in variable.split(":")[1].split()
    }
    assert {
        one for one in wanted - tried if one[2] not in contrib_dtypes.WITHOUT.get(one[:2], "").split()
    } == set()


def test_attributes_and_their_defaults_are_those_of_the_schemas() -> None:
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    schemas = {s.name: s for s in state.get_all_operator_schema() if s.domain == DOMAIN and s.name in CONTRIB}
    assert len(schemas) > 50
    for name, schema in schemas.items():
        defaults = CONTRIB[name].defaults
        assert defaults.keys() == schema.attributes.keys(), name
        for key, attribute in schema.attributes.items():
            given = onnx.AttributeProto.FromString(attribute._default_value)
            if attribute.required:
                assert defaults[key] is inspect.Parameter.empty, (name, key)
            elif given.name:
                value = helper.get_attribute_value(given)
                value = value.decode() if isinstance(value, bytes) else value
                close = (
                    math.isclose(value, defaults[key], rel_tol=1e-6) if isinstance(value, float) else False
                )
                assert close or value == defaults[key], (name, key)


def test_inputs_are_as_many_as_the_schemas_say() -> None:
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    for schema in state.get_all_operator_schema():
        if schema.domain != DOMAIN or schema.name not in CONTRIB:
            continue
        parameters = list(inspect.signature(CONTRIB[schema.name].function).parameters.values())[1:]
        inputs = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        assert len(inputs) == len(schema.inputs), schema.name


# ---- what has no kernel on a CPU: the schema's formula ------------------------------------------------------------


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _grouped(x: Any, gamma: Any, beta: Any, groups: int, epsilon: float) -> Any:
    """x: (batch, *space, channels)."""
    split = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, variance = split.mean((1, 3), keepdims=True), split.var((1, 3), keepdims=True)
    return ((split - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * gamma + beta


def _convolved(x: Any, w: Any, b: Any) -> Any:
    """x (batch, h, w, in), w (out, kh, kw, in), no padding."""
    _, high, wide, _ = w.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (high, wide), (1, 2))
    return np.einsum("nyxiab,oabi->nyxo", windows, w) + b


def _attended(q: Any, k: Any, v: Any) -> Any:
    """(batch, length, heads, size) each."""
    scores = np.einsum("bqhs,bkhs->bhqk", q, k) / math.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhs->bqhs", weights, v).reshape(*q.shape[:2], -1)


def _formulas(rng: np.random.Generator, size: int) -> Iterator[tuple[Case, list[Any]]]:
    batch, side, channels = ((2, 4, 4), (3, 5, 6))[size]

    def drawn(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    x, bias, skip = drawn(batch, side, channels), drawn(channels), drawn(batch, side, channels)
    yield Case("BiasAdd", [x, Weight(bias), skip]), [x + bias + skip]
    left, right = np.split(x + bias, 2, -1)
    yield Case("BiasSplitGelu", [x, Weight(bias)]), [left * _gelu(right)]
    w = drawn(channels, 3)
    tanh = x @ w + bias[:3]
    tanh = 0.5 * tanh * (1 + np.tanh(math.sqrt(2 / math.pi) * (tanh + 0.044715 * tanh**3)))
    yield Case("GemmFastGelu", [x, Weight(w), Weight(bias[:3])]), [tanh]
    image, gamma, beta = drawn(batch, side, side + 1, channels), drawn(channels), drawn(channels)
    y = _grouped(image, gamma, beta, 2, 1e-3)
    given = {"groups": 2, "activation": 0, "epsilon": 1e-3}
    parts = [Weight(gamma), Weight(beta)]
    yield Case("GroupNorm", [image, *parts], given), [y]
    first = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    silu = {**given, "activation": 1, "channels_last": 0}
    yield (
        Case("GroupNorm", [first, *parts], silu, note="first"),
        [(y / (1 + np.exp(-y))).transpose(0, 3, 1, 2)],
    )
    more = drawn(batch, channels)
    total = image + more[:, None, None] + bias
    y = _grouped(total, gamma, beta, 2, 1e-3)
    yield Case("SkipGroupNorm", [image, *parts, more, Weight(bias)], given, (0, 1)), [y, total]
    w = drawn(3, 2, 3, channels)
    y = _convolved(image, w, bias[:3])
    yield Case("NhwcConv", [image, Weight(w), Weight(bias[:3])]), [y]
    ahead = np.ascontiguousarray(w.transpose(0, 3, 1, 2))
    relu = {"activation": "Relu"}
    yield Case("NhwcFusedConv", [image, Weight(ahead), Weight(bias[:3])], relu), [np.maximum(y, 0)]
    packed = drawn(batch, side, 2, 3, channels)
    given = {"num_heads": 2}
    yield Case("MultiHeadAttention", [packed], given), [_attended(*np.moveaxis(packed, 3, 0))]
    q, packed = drawn(batch, 3, 2 * channels), drawn(batch, side, 2, 2, channels)
    wanted = _attended(q.reshape(batch, 3, 2, channels), *np.moveaxis(packed, 3, 0))
    yield Case("MultiHeadAttention", [q, packed], given, note="keys"), [wanted]


@pytest.mark.parametrize("to", ["pytorch", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_an_operator_without_a_kernel_is_what_its_schema_says(to: str) -> None:
    rng = np.random.default_rng(3)
    for case, wanted in [pair for size in (0, 1) for pair in _formulas(rng, size)]:
        got = ran(case.model(), to, case.feeds)
        for one, want in zip(got, wanted, strict=True):
            assert one.shape == want.shape, case.name
            assert np.abs(one - want).max() <= 5e-6 * np.abs(want).max(), case.name


# ---- what arrives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", "FusedConv FusedGemm SkipLayerNormalization Attention".split())
def test_float_weights_are_parameters(operator: str) -> None:
    case = next(case for case in CASES if case.operator == operator)
    held = sum(x.array.size for x in case.inputs if isinstance(x, Weight))
    model = imported(case.model(free=True), "pytorch").model
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == held


def _refusal(case: Case) -> str:
    with pytest.raises(NetferryError) as error:
        imported(case.model(), "pytorch")
    return str(error.value)


def test_what_is_not_understood_is_refused_by_name() -> None:
    x = np.ones((2, 3, 4), np.float32)
    w = Weight(np.ones((4, 12), np.float32))
    for case, words in (
        (Case("PackedAttention", [x]), "batches without padding"),
        (Case("QOrderedMatMul", [x]), "one kind of GPU"),
        (Case("Strange", [x]), "com.microsoft.Strange"),
        (Case("Attention", [x, w], {"num_heads": 2, "do_rotary": 1}), "do_rotary=1"),
        (Case("Attention", [x, w]), "num_heads is missing"),
        (Case("Gelu", [x], {"shape": 2}), "an attribute shape"),
        (Case("BiasGelu", [x]), "do not fit"),
        (Case("SkipLayerNormalization", [x, x, Weight(x[0, 0])], {}, (0, 1)), "number 2"),
        (Case("FusedConv", [x, Weight(x)], {"activation": "Strange"}), "Strange"),
        (Case("Conv", [x, Weight(x)], domain="com.microsoft.nchwc"), "ORT_ENABLE_EXTENDED"),
    ):
        assert words in _refusal(case), case.name


def test_an_order_of_blocks_with_zero_points_in_bytes_is_refused() -> None:
    """onnxruntime's kernel takes 8 for each zero point then, and its schema says otherwise."""
    (case, *_) = (case for case in CASES if case.operator == "MatMulNBits" and case.note == "ordered")
    zeros = Weight(
        np.full(
            case.attributes["N"] * -(-case.inputs[2].array.size // case.attributes["N"] // 2), 17, np.uint8
        )
    )
    both = Case("MatMulNBits", [*case.inputs[:3], zeros, case.inputs[4]], case.attributes)
    with pytest.raises(UnsupportedError, match="zero points in bytes"):
        imported(both.model(), "pytorch")
