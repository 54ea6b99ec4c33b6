"""Normalisation: one opset, no functions, nothing unused; names, weights and the given model stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import onnx
import onnx_cases
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, defs, helper, numpy_helper, parser, version_converter

from netferry.converters.errors import RefusedError, UnsupportedError
from netferry.converters.graph.numpy.fold import NumpyNamespace, NumpyWalk, run
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.graph.passes.versions import OPSET, SAME_SINCE

FLOAT = TensorProto.FLOAT


def outputs(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the plan of a model gives, by the numpy walk."""
    made = plan(model)
    walk = NumpyWalk(made, NumpyNamespace())
    return run(walk, {value: feeds[str(value.name)] for value in made.graph.inputs})


def text(source: str, weights: Mapping[str, Any] | None = None) -> onnx.ModelProto:
    """A model from ONNX's own text form."""
    model = parser.parse_model(source)
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in (weights or {}).items())
    return model


# ---- one opset ----------------------------------------------------------------------------------------------


def test_an_old_model_means_what_it_meant() -> None:
    model = text(
        """<ir_version: 4, opset_import: ["": 11]>
        g (float[n, 3, 4] x) => (float[n, 4] y) {
            m = ReduceMean <axes = [1], keepdims = 1> (x)
            s = Squeeze <axes = [1]> (m)
            y = Softmax <axis = 1> (s)
        }"""
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(outputs(model, {"x": x})[0], want[0], rtol=1e-6)


def test_a_large_weight_is_not_copied_through_the_converter() -> None:
    weight = np.arange(1024, dtype=np.float32).reshape(32, 32)
    model = text(
        """<ir_version: 8, opset_import: ["": 11]>
        g (float[n, 32] x) => (float[n, 32] y) { z = MatMul (x, w) y = Softmax <axis = 1> (z) }""",
        {"w": weight},
    )
    made = plan(model)
    (fact,) = [
        made.fact(value) for node in made.graph for value in node.inputs if value and made.fact(value).name
    ]
    assert fact.content is not None
    assert not fact.content.flags.owndata
    np.testing.assert_array_equal(fact.content, weight)


def test_what_stays_as_it_is_means_the_same_to_onnx_own_converter() -> None:
    """The table that spares models the converter: over the suite, the converter changes none of its operators."""
    seen: set[str] = set()
    for case in onnx_cases.cases():
        (node, *more) = case.model.graph.node
        opset = SAME_SINCE.get(node.op_type)
        if more or opset is None or node.domain or node.op_type in seen | {"If", "Loop", "Scan"}:
            continue
        old = onnx.ModelProto()
        old.CopyFrom(case.model)
        old.opset_import[0].version = max(opset, 5)
        try:
            onnx.checker.check_model(old)
            new = version_converter.convert_version(old, OPSET)
        except (onnx.checker.ValidationError, RuntimeError):
            continue  # this case uses what the old version had not
        seen.add(node.op_type)
        (after,) = [n for n in new.graph.node if n.op_type == node.op_type]
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kept = {a.name: helper.get_attribute_value(a) for a in after.attribute}
        assert given.items() <= kept.items() or node.op_type == "Constant", node.op_type
        schema = defs.get_schema(node.op_type, OPSET)
        for name in kept.keys() - given.keys():
            assert helper.get_attribute_value(schema.attributes[name].default_value) == kept[name], (
                node.op_type
            )
        assert len(new.graph.node) == 1, node.op_type
    assert len(seen) > 60


def test_a_model_that_cannot_be_raised_is_refused() -> None:
    model = text('<ir_version: 13, opset_import: ["": 99]> g (float[n] x) => (float[n] y) { y = Gelu (x) }')
    with pytest.raises(RefusedError, match="newer opset"):
        plan(model)


def test_a_scan_over_a_batch_gives_what_the_suite_says() -> None:
    case = onnx_cases.case("test_scan_sum")
    feeds = dict(zip((v.name for v in case.model.graph.input), case.data[0][0], strict=True))
    onnx_cases.check(case, outputs(case.model, feeds), case.data[0][1])


# ---- functions ----------------------------------------------------------------------------------------------


def test_a_local_function_is_inlined() -> None:
    model = text(
        """<ir_version: 8, opset_import: ["": 21, "own": 1]>
        g (float[n] x) => (float[n] y) { y = own.twice (x) }
        <domain: "own", opset_import: ["": 21]> twice (a) => (b) { b = Add (a, a) }"""
    )
    assert [node.op_type for node in plan(model).graph] == ["Add"]


def test_functions_that_multiply_without_bound_are_refused_before_they_do() -> None:
    functions = "".join(
        f'<domain: "own", opset_import: ["": 21, "own": 1]> '
        f"f{i} (a) => (c) {{ b = own.f{i + 1} (a) c = own.f{i + 1} (b) }}"
        for i in range(30)
    )
    last = '<domain: "own", opset_import: ["": 21]> f30 (a) => (b) { b = Relu (a) }'
    model = text(
        '<ir_version: 8, opset_import: ["": 21, "own": 1]> g (float[n] x) => (float[n] y) { y = own.f0 (x) }'
        + functions
        + last
    )
    with pytest.raises(RefusedError, match="call each other"):
        plan(model)


def test_a_function_that_calls_itself_is_refused() -> None:
    model = text(
        """<ir_version: 8, opset_import: ["": 21, "own": 1]>
        g (float[n] x) => (float[n] y) { y = own.f (x) }
        <domain: "own", opset_import: ["": 21, "own": 1]> f (a) => (b) { b = own.f (a) }"""
    )
    with pytest.raises(RefusedError, match="calls itself"):
        plan(model)


def test_an_operator_that_nobody_carries_becomes_its_definition() -> None:
    model = text(
        '<ir_version: 10, opset_import: ["": 22]> g (float[n, 3] x) => (float[n, 3] y) { y = HardSwish (x) }'
    )
    assert [node.op_type for node in plan(model).graph] == ["HardSwish"]
    assert "HardSwish" not in {node.op_type for node in plan(model, known=(), fuse=False).graph}


def test_an_operator_of_an_unknown_domain_stays() -> None:
    model = text(
        '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]> '
        "g (float[n] x) => (float[n] y) { y = com.microsoft.Strange (x) }"
    )
    assert [node.op_type for node in plan(model).graph] == ["Strange"]


def test_an_operator_of_another_domain_is_refused_whatever_its_name() -> None:
    model = text(
        '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]> '
        "g (float[n] x) => (float[n] y) { y = com.microsoft.Relu (x) }"
    )
    with pytest.raises(UnsupportedError, match=r"com\.microsoft\.Relu"):
        outputs(model, {"x": np.zeros(1, np.float32)})


# ---- inputs and outputs -------------------------------------------------------------------------------------


def test_an_input_that_has_a_value_is_a_weight() -> None:
    model = text(
        '<ir_version: 3, opset_import: ["": 9]> g (float[n, 2] x, float[2] w) => (float[n, 2] y) { y = Add (x, w) }',
        {"w": np.float32([1, 2])},
    )
    assert [value.name for value in plan(model).graph.inputs] == ["x"]


@pytest.mark.parametrize("fuse", [True, False])
def test_outputs_may_be_inputs_constants_or_twice_the_same(fuse: bool) -> None:
    model = text(
        """<ir_version: 8, opset_import: ["": 21]>
        g (float[n] x) => (float[n] a, float[2] c, float[n] y, float[n] z) {
            a = Identity (x)
            c = Constant <value_floats = [1.0, 2.0]> ()
            y = Relu (x)
            z = Identity (y)
        }"""
    )
    made = plan(model, fuse=fuse)
    assert [value.name for value in made.graph.outputs] == ["a", "c", "y", "z"]
    x = np.float32([-1, 1, 3])
    results = run(NumpyWalk(made, NumpyNamespace()), {made.graph.inputs[0]: x})
    for result, want in zip(
        results, (x, np.float32([1, 2]), np.maximum(x, 0), np.maximum(x, 0)), strict=True
    ):
        np.testing.assert_array_equal(result, want)


def test_what_nothing_reads_is_gone_and_unread_outputs_have_no_name() -> None:
    model = text(
        """<ir_version: 8, opset_import: ["": 21]>
        g (float[n, 4] x) => (float[n, 2] v) { u = Exp (x)  k = Constant <value_ints = [2]> ()  v, i = TopK (x, k) }"""
    )
    (node,) = plan(model).graph
    assert node.op_type == "TopK"
    assert [value.name for value in node.outputs] == ["v", ""]


def test_the_given_model_is_left_as_it_is() -> None:
    model = onnx_cases.case("test_lstm_bidirectional").model
    before = model.SerializeToString(deterministic=True)
    plan(model)
    assert model.SerializeToString(deterministic=True) == before
    live = ir.serde.deserialize_model(model)
    plan(live)
    assert ir.serde.serialize_model(live).graph.node[0].op_type == "LSTM"


def test_every_free_size_that_is_used_can_be_read_before_it_is_used() -> None:
    for name in sorted(onnx_cases.everyday())[::4]:
        case = onnx_cases.case(name)
        made = plan(case.model)
        known = {*made.graph.inputs, *made.graph.initializers.values()}
        for node in made.graph:
            for value in node.inputs:
                dims = () if value is None else made.fact(value).dims or ()
                for name in (name for dim in dims if not isinstance(dim, int) for name in dim.names()):
                    assert made.homes[name].value in known, (case.name, node.name, name)
            known |= set(node.outputs)


@pytest.mark.parametrize(
    "name",
    "bvlc_alexnet densenet121 inception_v1 inception_v2 resnet50 shufflenet squeezenet vgg19 zfnet512".split(),
)
def test_an_old_network_has_one_input_and_no_operator_of_old(name: str) -> None:
    path = files("onnx") / f"backend/test/data/light/light_{name}.onnx"
    made = plan(onnx.load(str(path)))
    assert len(made.graph.inputs) == 1
    assert all(made.fact(value).dims is not None for node in made.graph for value in node.outputs)
    assert all(defs.has(node.op_type) or node.domain == "netferry" for node in made.graph)
