"""The operator table: its signatures against the schemas, and the places where tools are known to go wrong."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import AttributeProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Case, case, cases, check, everyday, excluded, freeze, parameters

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen import namespace
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.numpy.fold import NumpyNamespace, fold
from netferry.converters.graph.numpy.namespace import WORDS
from netferry.converters.graph.numpy.rows import ROWS
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.ops.elementwise import FOLDS, WORDS as OPERATOR_WORDS
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.graph.registry import Table
from netferry.converters.graph.schema.attributes import OBJECTS, REQUIRED, defaults
from netferry.converters.graph.schema.constants import SIZES
from netferry.converters.signature import Signature

OPSET = 28
OURS = {"Inverse", "Linear", "Recurrent"}
N, M = Size.named("n"), Size.named("m")


# ---- the table against the schemas -------------------------------------------------------------------------


def schema_attributes(schema: Any) -> dict[str, Any]:
    return {name: _default(attribute) for name, attribute in schema.attributes.items()}


def _default(attribute: Any) -> Any:
    if attribute.required:
        return REQUIRED
    if attribute.default_value.type == AttributeProto.UNDEFINED:
        return None
    value = helper.get_attribute_value(attribute.default_value)
    return value.decode() if isinstance(value, bytes) else value


def _same(have: Any, want: Any) -> bool:
    """Floats as a file stores them; a list of the schema may be a tuple here."""
    if isinstance(want, float):
        return have is not None and np.float32(have) == np.float32(want)
    return list(have) == list(want) if isinstance(want, list) and have is not None else have == want


@pytest.mark.parametrize("operator", sorted(set(OPS) - OURS - set(OPERATOR_WORDS) - set(FOLDS)))
def test_a_row_has_the_signature_of_its_schema(operator: str) -> None:
    schema = defs.get_schema(operator, OPSET)
    if operator.startswith("Reduce"):
        operator = "ReduceSum"  # made by one function, which is looked at once
    _, *parameters = inspect.signature(OPS[operator]).parameters.values()
    inputs = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    own = {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert [name for name, default in own.items() if default is not inspect.Parameter.empty] == []
    named = set(own) - set(OBJECTS)
    within = set(schema.attributes) & set().union(*(OBJECTS[name][1] for name in own if name in OBJECTS))
    assert named | within == set(schema.attributes)
    expected, attributes = schema_attributes(schema), defaults(operator) or {}
    assert [name for name in expected if not _same(attributes[name], expected[name])] == []
    kinds = [p.kind is inspect.Parameter.VAR_POSITIONAL for p in inputs]
    assert kinds == [i.option == defs.OpSchema.FormalParameterOption.Variadic for i in schema.inputs]
    optional = [p.default is None for p in inputs]
    assert optional == [i.option == defs.OpSchema.FormalParameterOption.Optional for i in schema.inputs]


@pytest.mark.parametrize("operator", sorted(OPERATOR_WORDS))
def test_an_operator_that_is_a_word_has_no_attributes(operator: str) -> None:
    assert not defs.get_schema(operator, OPSET).attributes


TARGETS_OWN = set(
    """
    Bernoulli GRU If ImageDecoder LSTM Loop Multinomial NonMaxSuppression Optional OptionalGetElement
    OptionalHasElement RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike RegexFullMatch Scan
    SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap
    SplitToSequence ConcatFromSequence StringConcat StringNormalizer StringSplit
    """.split()
)


def test_every_live_operator_has_a_row_or_is_left_to_the_targets() -> None:
    live = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    live = {name for name in live if not defs.get_schema(name, OPSET).deprecated}
    assert live - set(OPS) == TARGETS_OWN


def test_the_table_speaks_only_words_of_the_namespace() -> None:
    source = Path(namespace.__file__).read_text(encoding="utf-8")
    known = set(re.findall(r"[a-z]\w*", source))
    folder = Path(inspect.getfile(inspect.unwrap(OPS["Conv"]))).parent
    spoken = {
        word for file in folder.glob("*.py") for word in re.findall(r"xp\.(\w+)", file.read_text("utf-8"))
    }
    assert spoken <= known
    assert set(OPERATOR_WORDS.values()) | set(FOLDS.values()) <= known
    assert spoken - set(WORDS) <= {
        "rows",
        "node",
        "wanted",
        "symbol",
        "let",
        "operator",
        "integers",
        "widened_like",
    }  # numpy has every one of them


def test_only_the_table_knows_numpys_rows_by_name() -> None:
    assert set(OPS) & set(ROWS) == {"Cast", "CastLike"}


# ---- the cases ---------------------------------------------------------------------------------------------------


def test_the_everyday_half_has_every_operator() -> None:
    chosen = [c for c in cases() if c.name in everyday()]
    assert len(chosen) == len(cases()) // 2
    assert set().union(*(c.operators for c in chosen)) == set().union(*(c.operators for c in cases()))


def test_a_frozen_case_has_one_input_and_the_same_meaning() -> None:
    frozen = freeze(case("test_gemm_all_attributes"))
    assert frozen is not None
    assert [value.name for value in frozen.model.graph.input] == ["a"]
    ((inputs, expected),) = frozen.data
    check(frozen, ReferenceEvaluator(frozen.model).run(None, {"a": inputs[0]}), expected)
    assert freeze(case("test_abs")) is None


def test_a_difference_is_seen_wherever_it_is() -> None:
    some = case("test_add")
    ((_, (want,)),) = some.data
    for wrong in (want.astype(np.float64), want[None], want + 1e-2, np.where(want > 0, np.nan, want)):
        with pytest.raises(AssertionError):
            check(some, [wrong], [want])
    with pytest.raises(AssertionError):
        check(some, [], [want])


def test_every_exclusion_names_a_case() -> None:
    names = [name for c in cases() for name in (c.name, f"{c.name}_frozen")]
    unused = set(excluded("numpy").reasons)
    for pattern in list(unused):
        if any(excluded("numpy").reason(name) == excluded("numpy").reasons[pattern] for name in names):
            unused.discard(pattern)
    assert not unused


# ---- traps, against ONNX's reference evaluator or by hand ---------------------------------------------------------


def one(operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
    arrays = [None if x is None else np.asarray(x) for x in inputs]
    results = fold(operator, arrays, attributes, outputs)
    assert results is not None
    return results[0] if outputs == 1 else results


def reference(operator: str, *inputs: Any, **attributes: Any) -> Any:
    names = [f"x{i}" for i in range(len(inputs))]
    arrays = [np.asarray(x) for x in inputs]
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), None)
        for name, x in zip(names, arrays, strict=True)
    ]
    node = helper.make_node(operator, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))[0]


def as_run(operator: str, *inputs: Any, **attributes: Any) -> Any:
    """What onnxruntime gives."""
    import onnxruntime

    names = [f"x{i}" for i in range(len(inputs))]
    infos = [helper.make_tensor_value_info(name, 1, x.shape) for name, x in zip(names, inputs, strict=True)]
    node = helper.make_node(operator, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


INF, NAN = float("inf"), float("nan")
I8, U8, I32, I64 = np.int8, np.uint8, np.int32, np.int64
F16, F32, F64 = np.float16, np.float32, np.float64

TRAPS: Mapping[str, tuple[Callable[[], Any], Any]] = {
    "integer division goes toward zero": (lambda: one("Div", I32([-7, 7, -7]), I32([2, -2, -2])), [-3, -3, 3]),
    "and of large integers is exact": (lambda: one("Div", I64([2**62 + 1]), I64([1])), [2**62 + 1]),
    "and of uint64 too": (lambda: one("Div", np.uint64([2**64 - 1]), np.uint64([2])), [2**63 - 1]),
    "Mod has the divisor's sign": (lambda: one("Mod", I32([-7, 7]), I32([3, -3])), [2, -2]),
    "fmod has the dividend's": (lambda: one("Mod", I32([-7, 7]), I32([3, -3]), fmod=1), [-1, 1]),
    "rounding is half to even": (lambda: one("Round", F32([0.5, 1.5, -2.5])), [0, 2, -2]),
    "a cast cuts toward zero": (lambda: one("Cast", F32([-1.9, 1.9]), to=6), [-1, 1]),
    "a cast to a smaller integer wraps": (lambda: one("Cast", I32([200, -1]), to=3), [-56, -1]),
    "NaN is true": (lambda: one("Cast", F32([NAN, 0]), to=9), [True, False]),
    "the largest wins where bounds cross": (lambda: one("Clip", F32([0, 9]), F32(5), F32(2)), [2, 2]),
    "Max keeps NaN": (lambda: one("Max", F32([1, NAN]), F32([NAN, 1])), [NAN, NAN]),
    "Relu keeps NaN": (lambda: one("Relu", F32([-1, NAN])), [0, NAN]),
    "Pow has the base's dtype": (lambda: one("Pow", I32([4, 9]), F32([0.5, 1.5])), I32([2, 27])),
    "and an integer power of a float": (lambda: one("Pow", F32([2, 3]), I64([3, 2])), F32([8, 9])),
    "a shift of unsigned is logical": (lambda: one("BitShift", U8([255]), U8([1]), direction="RIGHT"), U8([127])),
    "infinities of one sign": (lambda: one("IsInf", F32([INF, -INF]), detect_negative=0), [True, False]),
    "and of neither": (lambda: one("IsInf", F32([INF]), detect_negative=0, detect_positive=0), [False]),
    "ArgMax of equals is the first": (lambda: one("ArgMax", I32([3, 1, 3]), keepdims=0), 0),
    "or the last": (lambda: one("ArgMax", I32([3, 1, 3]), keepdims=0, select_last_index=1), 2),
    "Hardmax marks the first of equals": (lambda: one("Hardmax", F32([2, 5, 5])), F32([0, 1, 0])),
    "TopK takes the lower index first": (lambda: one("TopK", I32([5, 7, 7, 5]), I64([3]), outputs=2)[1], [1, 2, 0]),
    "smallest too": (lambda: one("TopK", I32([5, 7, 5]), I64([2]), largest=0, outputs=2)[1], [0, 2]),
    "of unsigned and of the least integer": (lambda: one("TopK", I8([-128, 0]), I64([1]), outputs=2)[0], I8([0])),
    "Gather counts back": (lambda: one("Gather", I32([1, 2, 3]), I64([-1, 0])), [3, 1]),
    "OneHot counts back": (lambda: one("OneHot", I64([-1, 3]), I64(3), I32([0, 1])), [[0, 0, 1], [0, 0, 0]]),
    "the largest of nothing": (lambda: one("ReduceMax", np.zeros((0,), F32), keepdims=0), -INF),
    "of no integers": (lambda: one("ReduceMin", np.zeros((0,), I8), keepdims=0), I8(127)),
    "no axes, told to leave it": (lambda: one("ReduceSum", F32([1, 2]), I64([]), noop_with_empty_axes=1), [1, 2]),
    "but the steps are done": (lambda: one("ReduceSumSquare", F32([3]), I64([]), noop_with_empty_axes=1), [9]),
    "a mean of integers is cut": (lambda: one("ReduceMean", I32([-3, -4]), keepdims=0), I32(-3)),
    "False is less than True": (lambda: one("ReduceMax", np.array([False, True]), keepdims=0), True),
    "an exclusive sum": (lambda: one("CumSum", I32([1, 2, 3]), I64(0), exclusive=1), [0, 1, 3]),
    "backwards": (lambda: one("CumSum", I32([1, 2, 3]), I64(0), exclusive=1, reverse=1), [5, 3, 0]),
    "an exclusive product": (lambda: one("CumProd", I32([2, 3, 4]), I64(-1), exclusive=1), [1, 2, 6]),
    "a slice backwards to the end": (
        lambda: one("Slice", I32([1, 2, 3]), I64([2**63 - 1]), I64([-(2**63)]), None, I64([-2])), [3, 1],
    ),
    "a slice beyond the end": (lambda: one("Slice", I32([1, 2, 3]), I64([1]), I64([2**63 - 1])), [2, 3]),
    "a negative pad cuts": (lambda: one("Pad", I32([1, 2, 3]), I64([-1, 1])), [2, 3, 0]),
    "a padded axis among others": (
        lambda: one("Pad", I32([[1], [2]]), I64([0, 1]), I32(9), I64([-1])), [[1, 9], [2, 9]],
    ),
    "Reshape copies a 0": (lambda: one("Reshape", np.zeros((2, 3)), I64([0, -1])).shape, (2, 3)),
    "unless it is allowed": (lambda: one("Reshape", np.zeros((0, 3)), I64([3, 0]), allowzero=1).shape, (3, 0)),
    "Expand goes both ways": (lambda: one("Expand", np.zeros((3, 1)), I64([2, 1, 4])).shape, (2, 3, 4)),
    "an uneven split": (lambda: [p.size for p in one("Split", np.zeros(7), num_outputs=3, outputs=3)], [3, 3, 1]),
    "Range counts floats": (lambda: one("Range", F32(0), F32(1), F32(0.3)), F32([0, 0.3, 0.6, 0.9])),
    "and goes down": (lambda: one("Range", I32(10), I32(4), I32(-2)), [10, 8, 6]),
    "EyeLike has its own dtype": (lambda: one("EyeLike", np.zeros((2, 3), I32), k=1).dtype, np.dtype(I32)),
    "Unique unsorted keeps the order": (lambda: one("Unique", I32([2, 1, 2]), sorted=0, outputs=4)[0], [2, 1]),
    "and counts": (lambda: one("Unique", I32([2, 1, 2]), sorted=0, outputs=4)[3], [2, 1]),
    "updates of one place add up": (
        lambda: one("ScatterElements", I32([1, 1]), I64([0, 0]), I32([2, 3]), reduction="add"), [6, 1],
    ),
    "in ScatterND as well": (
        lambda: one("ScatterND", I32([2, 1]), I64([[0], [0]]), I32([3, 5]), reduction="mul"), [30, 1],
    ),
    "Gelu is the erf form": (lambda: one("Gelu", F32([1.0])), F32([0.8413447])),
    "unless it says tanh": (lambda: one("Gelu", F32([1.0]), approximate="tanh"), F32([0.8411920])),
    "Softmax of large numbers": (lambda: one("Softmax", F32([1000, 1000])), F32([0.5, 0.5])),
    "LogSumExp of large numbers": (lambda: one("ReduceLogSumExp", F32([1000, 1000]), keepdims=0), F32(1000.6931)),
    "Softplus of large numbers": (lambda: one("Softplus", F32([1000, -1000])), F32([1000, 0])),
    "Sigmoid of large numbers": (lambda: one("Sigmoid", F32([1000, -1000])), F32([1, 0])),
    "Elu with its alpha": (lambda: one("Elu", F32([-1, 2]), alpha=2.0), F32([2 * np.expm1(-1), 2])),
    "uint64 stays exact": (lambda: one("Add", np.uint64([2**63]), np.uint64([1])), np.uint64([2**63 + 1])),
    "integers wrap": (lambda: one("Add", I8([127]), I8([1])), I8([-128])),
    "quantised half to even": (lambda: one("QuantizeLinear", F32([0.5, 1.5, 2.5]), F32(1), U8(0)), U8([0, 2, 2])),
    "and saturated": (lambda: one("QuantizeLinear", F32([300, -300]), F32(1), I8(0)), I8([127, -128])),
    "a vector of zeros has no norm": (lambda: one("LpNormalization", F32([[0, 0], [3, 4]])), F32([[0, 0], [0.6, 0.8]])),
    "Mean of one": (lambda: one("Mean", F32([3])), F32([3])),
    "Trilu below": (lambda: one("Trilu", I32([[1, 2], [3, 4]]), I64(-1), upper=0), [[0, 0], [3, 0]]),
    "Compress without an axis": (lambda: one("Compress", I32([[1, 2], [3, 4]]), np.array([0, 1, 1], bool)), [2, 3]),
    "an ellipsis in Einsum": (
        lambda: one("Einsum", F32([[[1, 2]]]), F32([[[3], [4]]]), equation="... i j, ... j k -> ... i k"), [[[11]]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_the_traps_are_known(name: str) -> None:
    compute, want = TRAPS[name]
    got = compute()
    if isinstance(want, np.ndarray | np.generic):
        assert got.dtype == want.dtype
    if isinstance(want, tuple | np.dtype):
        assert got == want
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6)


HALF = np.random.default_rng(5).standard_normal((4, 2048)).astype(np.float16)


@pytest.mark.parametrize(("operator", "attributes"), [("ReduceSum", {}), ("ReduceMean", {}), ("Softmax", {})])
def test_half_precision_is_added_up_in_float32(operator: str, attributes: dict[str, Any]) -> None:
    wide = one(operator, HALF.astype(np.float64), **attributes)
    np.testing.assert_allclose(
        one(operator, HALF, **attributes), wide, rtol=2e-3, atol=2e-2 * abs(wide).max() / 20
    )


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"])
@pytest.mark.parametrize("scale", [0.4, 1.7, 2.0])
def test_nearest_takes_the_places_that_onnxruntime_takes(
    coordinates: str, rounding: str, scale: float
) -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 1, 4, 6)
    scales = F32([1, 1, scale, scale])
    attributes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    want = as_run("Resize", x, F32([]), scales, mode="nearest", **attributes)
    np.testing.assert_array_equal(one("Resize", x, None, scales, mode="nearest", **attributes), want)


@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize("outside", [0, 1])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("scale", [0.45, 0.8, 2.3])
def test_interpolation_is_onnx_s(
    coordinates: str, mode: str, outside: int, antialias: int, scale: float
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7)).astype(np.float32)
    scales = F32([1, 1, scale, scale])
    attributes = {
        "coordinate_transformation_mode": coordinates, "mode": mode,
        "exclude_outside": outside, "antialias": antialias,
    }  # fmt: skip
    whole = np.asarray([math.floor(n * by) for n, by in zip(x.shape, scales, strict=True)])
    aligned = coordinates == "align_corners"  # of whole sizes, as runtimes have it
    want = reference("Resize", x, F32([]), *((F32([]), whole) if aligned else (scales,)), **attributes)
    given = (None, None, whole) if aligned and antialias else (None, scales)
    np.testing.assert_allclose(one("Resize", x, *given, **attributes), want, rtol=1e-4, atol=1e-5)


# ---- recurrent ---------------------------------------------------------------------------------------------------


def _recurrent_cases() -> list[Case]:
    return [c for c in cases() if c.operators in ({"LSTM"}, {"GRU"}, {"RNN"})]


@pytest.mark.parametrize("some", _recurrent_cases(), ids=lambda c: c.name)
def test_the_unrolled_recurrence_is_onnx_s(some: Case) -> None:
    (node,) = some.model.graph.node
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    texts = {name: v.decode() for name, v in attributes.items() if isinstance(v, bytes)}
    lists = (
        {"activations": [v.decode() for v in attributes["activations"]]}
        if "activations" in attributes
        else {}
    )
    layout = {**attributes, **texts, **lists}.pop("layout", 0)
    given = {name: v for name, v in {**attributes, **texts, **lists}.items() if name != "layout"}
    ((inputs, expected),) = some.data
    bound = dict(zip([info.name for info in some.model.graph.input], inputs, strict=True))
    operands = [bound[name] if name else None for name in node.input]
    swap = (lambda x: x.swapaxes(0, 1)) if layout else (lambda x: x)
    operands[0] = swap(operands[0])
    operands[5:7] = [None if x is None else swap(x) for x in operands[5:7]]
    order = [*operands, *[None] * (8 - len(operands))]
    if node.op_type != "LSTM":
        order = [*order[:6], None, None]
    sequence, *states = one(
        "Recurrent", *order, cell=node.op_type, outputs=3 if node.op_type == "LSTM" else 2, **given
    )
    directions = order[1].shape[0]
    y = sequence.reshape(*sequence.shape[:2], directions, -1).transpose(0, 2, 1, 3)
    results = [y.transpose(2, 0, 1, 3) if layout else y, *(swap(state) for state in states)]
    check(some, [y for y, name in zip(results, node.output, strict=False) if name], expected)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_every_form_of_a_recurrence_agrees_with_onnxruntime(cell: str, direction: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(3)
    steps, batch, inputs, hidden, count = 5, 3, 4, 6, 2 if direction == "bidirectional" else 1
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]

    def weights(*sizes: int) -> Any:
        return (rng.standard_normal(sizes) * 0.4).astype(np.float32)

    x, w, r = (
        weights(steps, batch, inputs),
        weights(count, gates * hidden, inputs),
        weights(count, gates * hidden, hidden),
    )
    b, h, c = weights(count, 2 * gates * hidden), weights(count, batch, hidden), weights(count, batch, hidden)
    p, lengths = weights(count, 3 * hidden), np.array([5, 3, 1], np.int32)
    operands = [x, w, r, b, lengths, h, *([c, p] if cell == "LSTM" else [])]
    extra = {
        "LSTM": {"clip": 0.8},
        "GRU": {"linear_before_reset": 1},
        "RNN": {"activations": ["Relu"] * count},
    }[cell]
    names = [f"i{i}" for i in range(len(operands))]
    node = helper.make_node(cell, names, ["y", "h"], hidden_size=hidden, direction=direction, **extra)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in zip(names, operands, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(name, 1, None) for name in ("y", "h")]
    model = helper.make_model(
        helper.make_graph([node], "g", infos, outputs),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    want_y, want_h = session.run(None, dict(zip(names, operands, strict=True)))
    order = [*operands, *[None] * (8 - len(operands))]
    y, last, *_ = one("Recurrent", *order, cell=cell, direction=direction, outputs=2, **extra)
    got = y.reshape(steps, batch, count, hidden).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(got, want_y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last, want_h, rtol=1e-4, atol=1e-5)


# ---- arithmetic on sizes ---------------------------------------------------------------------------------------------


def sizes(*items: Any) -> np.ndarray:
    return np.array([*items, None], object)[:-1]


ARITHMETIC: Mapping[str, tuple[Callable[[], Any], list[Any]]] = {
    "a sum": (lambda: one("Add", sizes(N, 2), I64([1, 1])), [N + 1, 3]),
    "what cancels is a number": (lambda: one("Sub", sizes(N), sizes(N)), [0]),
    "a product of all": (lambda: one("ReduceProd", sizes(N, 3, M), keepdims=0), N * 3 * M),
    "an exact division": (lambda: one("Div", sizes(4 * N), I64([2])), [2 * N]),
    "one that rounds": (lambda: one("Div", sizes(N), I64([2])), [N // 2]),
    "concatenation": (lambda: one("Concat", sizes(N), I64([-1]), axis=0), [N, -1]),
    "picking": (lambda: one("Gather", sizes(N, M, 3), I64(1)), M),
    "slicing": (lambda: one("Slice", sizes(N, M, 3), I64([1]), I64([2**62])), [M, 3]),
    "a size is never negative": (lambda: one("Equal", sizes(N, 2), I64([-1, 2])), [False, True]),
    "so the other is chosen": (
        lambda: one("Where", one("Equal", sizes(-1, N), I64([-1])), I64([7, 7]), sizes(-1, N)), [7, N],
    ),
    "a size and one more": (lambda: one("Greater", sizes(N + 1), sizes(N)), [True]),
    "a cast between integers": (lambda: one("Cast", sizes(N), to=6), [N]),
    "one axis more": (lambda: one("Unsqueeze", np.array(N, object), I64([0])), [N]),
}  # fmt: skip


@pytest.mark.parametrize("name", ARITHMETIC)
def test_sizes_are_computed_with(name: str) -> None:
    compute, want = ARITHMETIC[name]
    got = compute()
    assert (got.item() if got.ndim == 0 else list(got)) == want
    assert got.dtype != object or any(isinstance(item, Size) for item in got.reshape(-1))


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("Equal", (sizes(N), I64([3])), {}),
        ("Less", (sizes(N), sizes(M)), {}),
        ("Div", (sizes(N - 5), I64([2])), {}),
        ("Cast", (sizes(N),), {"to": 1}),
        ("Range", (np.array(0), np.array(N, object), np.array(1)), {}),
        ("ConstantOfShape", (sizes(N),), {}),
        ("Mod", (sizes(N), sizes(M - 3)), {}),
        ("Sqrt", (sizes(N),), {}),
    ],
)
def test_what_depends_on_a_size_is_not_decided(operator: str, inputs: Any, attributes: Any) -> None:
    assert fold(operator, inputs, attributes) is None


def test_random_and_unknown_operators_are_not_folded() -> None:
    assert fold("RandomNormal", [], {"shape": [2]}) is None
    assert fold("NoSuchOperator", [np.zeros(2)], {}) is None
    assert fold("Dropout", [F32([1]), F32(0.5), np.array(True)], {}) is None


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("DepthToSpace", (np.zeros((1, 4, 1, 1)),), {"blocksize": 2, "mode": "RCD"}),
        ("Gelu", (F32([1]),), {"approximate": "sigmoid"}),
        ("BitShift", (U8([1]), U8([1])), {"direction": "UP"}),
        ("ScatterND", (I32([1]), I64([[0]]), I32([1])), {"reduction": "avg"}),
        ("Pad", (I32([1]), I64([1, 1])), {"mode": "mirror"}),
        ("Resize", (np.zeros((1, 4), F32), None, F32([1, 2])), {"mode": "lanczos"}),
        ("Resize", (np.zeros((1, 4), U8), None, F32([1, 2])), {"mode": "linear"}),
        ("Gemm", (I32([[1]]), I32([[1]])), {"alpha": 0.5}),
        ("Shrink", (I32([1]),), {}),
        ("GridSample", (np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 2, 2))), {"mode": "area"}),
        ("LpNormalization", (F32([[1]]),), {"p": 3}),
        ("Concat", (F32([1]), F32([1])), {"axis": 4}),
    ],
)
def test_an_attribute_that_nobody_knows_is_refused(operator: str, inputs: Any, attributes: Any) -> None:
    xp = NumpyNamespace()
    places = SIZES.get(operator, ())
    operands = [
        None if x is None else tuple(int(i) for i in x) if place in places else xp.given(x)
        for place, x in enumerate(inputs)
    ]
    with pytest.raises(CannotConvert):
        OPS[operator](xp, *operands, **attributes)


# ---- on symbols: what a target gets where it has no row of its own ------------------------------------------------------


def _bare_cases() -> list[Any]:
    """Frozen cases of operators that PyTorch has rows of its own for; here it has to do without."""
    pytest.importorskip("torch")
    from netferry.converters.pytorch.from_onnx import TorchNamespace

    own = set(OPS) & set(TorchNamespace.rows) - {"Dropout"}
    plain = {c.name for c in cases() if c.core and not c.random and c.operators <= own}
    return [parameter for parameter in parameters(frozen=True) if parameter.values[0] in plain]


@pytest.mark.parametrize("name", _bare_cases())
def test_the_table_alone_carries_it_into_a_framework(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from netferry.converters.pytorch.from_onnx import TorchNamespace, from_onnx

    monkeypatch.setattr(TorchNamespace, "rows", _bare())
    frozen = freeze(case(name))
    assert frozen is not None
    model = from_onnx(plan(frozen.model), Signature(())).model
    ((inputs, expected),) = frozen.data
    with torch.no_grad():
        results = model(*(_to_torch(x) for x in inputs))
    check(frozen, [_to_numpy(y) for y in (results if isinstance(results, tuple) else (results,))], expected)


def _bare() -> Table[str, Any]:
    from netferry.converters.pytorch.from_onnx import TorchNamespace

    bare: Table[str, Any] = Table("rows that no composition replaces")
    for operator in set(TorchNamespace.rows) - set(OPS):
        bare.row(operator)(TorchNamespace.rows[operator])
    return bare


def _weights(*sizes: int) -> Any:
    return np.random.default_rng(7).standard_normal(sizes).astype(np.float32)


IMAGE, TABLE = ("n", 4, "h", "w"), ("n", "h")

FREE: Mapping[str, tuple[str, tuple[Any, ...], list[Any], dict[str, Any]]] = {
    "convolution": ("Conv", IMAGE, [_weights(6, 2, 3, 3), _weights(6)], {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "convolution, same": ("Conv", IMAGE, [_weights(6, 4, 3, 3)], {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "transposed": ("ConvTranspose", IMAGE, [_weights(4, 3, 3, 2)], {"strides": [2, 3], "output_padding": [1, 0]}),
    "maximum": ("MaxPool", IMAGE, [], {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1}),
    "average": ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "average with padding": (
        "AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1],
                                   "count_include_pad": 1, "ceil_mode": 1},
    ),
    "groups": ("GroupNormalization", IMAGE, [_weights(4), _weights(4)], {"num_groups": 2}),
    "depth to space": ("DepthToSpace", IMAGE, [], {"blocksize": 2}),
    "whole factors": ("Resize", IMAGE, [None, np.float32([1, 1, 2, 3])], {"mode": "nearest"}),
    "flat": ("Flatten", IMAGE, [], {"axis": 2}),
    "centred": ("CenterCropPad", ("n", "h", 4), [np.int64([9])], {"axes": [1]}),
    "halves": ("Split", TABLE, [], {"axis": 1, "num_outputs": 2}),
    "backwards": ("Slice", TABLE, [np.int64([-1]), np.int64([-(2**62)]), np.int64([1]), np.int64([-2])], {}),
    "copied": ("Reshape", ("n", "h", 4), [np.int64([0, -1])], {}),
    "stretched": ("Expand", ("n", 1), [np.int64([1, 5])], {}),
    "the last of equals": ("ArgMax", TABLE, [], {"axis": 1, "select_last_index": 1}),
    "one hot": ("Hardmax", TABLE, [], {}),
    "cumulated": ("CumSum", TABLE, [np.int64(1)], {"exclusive": 1, "reverse": 1}),
    "frames": ("STFT", ("n", "h", 1), [np.int64(2), None, np.int64(4)], {}),
    "largest": ("TopK", TABLE, [np.int64([3])], {}),
    "sizes": ("Shape", TABLE, [], {}),
    "a layer": ("LayerNormalization", ("n", "h", 4), [_weights(4)], {}),
    "an instance": ("InstanceNormalization", IMAGE, [_weights(4), _weights(4)], {}),
    "attention": ("Attention", (2, "h", 8), [_weights(2, 6, 4), _weights(2, 6, 4)], {"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1}),
    "causal": ("CausalConvWithState", ("n", 3, "h"), [_weights(3, 1, 4)], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_free_sizes_stay_free(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from netferry.converters.pytorch.from_onnx import TorchNamespace, from_onnx

    monkeypatch.setattr(TorchNamespace, "rows", _bare())
    operator, dims, constants, attributes = FREE[name]
    outputs = ["y", "z"] if operator in ("Split", "TopK", "CausalConvWithState") else ["y"]
    names = [f"c{i}" if array is not None else "" for i, array in enumerate(constants)]
    held = [numpy_helper.from_array(array, key) for array, key in zip(constants, names, strict=True) if key]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *names], outputs, **attributes)],
        "g", [helper.make_tensor_value_info("x", 1, dims)], [onnx.ValueInfoProto(name=y) for y in outputs], held,
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model = from_onnx(plan(proto), Signature(())).model
    for sizes in ({"n": 2, "h": 11, "w": 13}, {"n": 3, "h": 8, "w": 9}):
        x = np.random.default_rng(0).standard_normal([sizes.get(d, d) for d in dims]).astype(np.float32)
        with torch.no_grad():
            results = model(torch.from_numpy(x))
        results = results if isinstance(results, tuple) else (results,)
        for got, want in zip(results, ReferenceEvaluator(proto).run(None, {"x": x}), strict=True):
            assert tuple(got.shape) == want.shape
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)


def _to_torch(x: np.ndarray) -> Any:
    import torch

    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(x.copy())


def _to_numpy(y: Any) -> np.ndarray:
    import torch

    if y.dtype == torch.bfloat16:
        return y.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return y.numpy()
