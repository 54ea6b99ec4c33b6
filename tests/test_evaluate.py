"""Facts: what is said of a value before the model runs is what it is when it runs.

The oracle is ONNX's reference evaluator, which computes every intermediate value of the suite's cases.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_cases
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.facts import Fact, Plan
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.passes.normalize import evaluated, plan

SEED = 20261123

NO_ORACLE = {
    "test_range_float_type_positive_delta_expanded": "the reference evaluator's Loop adds an axis",
    "test_range_float16_type_positive_delta_expanded": "the reference evaluator's Loop adds an axis",
    "test_range_bfloat16_type_positive_delta_expanded": "the reference evaluator's Loop adds an axis",
    "test_range_int32_type_negative_delta_expanded": "the reference evaluator's Loop adds an axis",
}
JPEG = "test_image_decoder_"  # the reference evaluator needs Pillow


# ---- the suite ------------------------------------------------------------------------------------------


def freed(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """The model with about half of its input sizes free: nameless, or under one name where they are equal."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    for value in free.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            size = dim.dim_value
            if size and rng.random() < 0.5:
                dim.Clear()
                if rng.random() < 0.5:
                    dim.dim_param = f"size{size}"
    for value in free.graph.output:
        value.type.tensor_type.ClearField("shape") if value.type.HasField("tensor_type") else None
    return free


def values_of(made: Plan, feeds: Mapping[str, Any]) -> dict[ir.Value, Any]:
    """Every value of the plan's own graph, computed by ONNX's reference evaluator."""
    proto = ir.serde.serialize_model(ir.Model(made.graph, ir_version=10))
    values = {value.name: value for node in made.graph for value in node.outputs if value.name}
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_value_info(str(name), onnx.TypeProto()) for name in values)
    results = ReferenceEvaluator(proto).run(None, dict(feeds)) if values else []
    inputs = {value: feeds[str(value.name)] for value in made.graph.inputs if value.name in feeds}
    return inputs | dict(zip(values.values(), results, strict=True))


def assert_true(made: Plan, values: Mapping[ir.Value, Any]) -> None:
    """Every fact holds for these values, the free sizes being what their homes say."""
    sizes: dict[str, int] = {}
    for name, home in made.homes.items():
        if isinstance(values.get(home.value), np.ndarray | np.generic):
            array = np.asarray(values[home.value])
            sizes[name] = array.shape[home.index] if home.kind == "dim" else int(array.flat[home.index])
    for value, array in values.items():
        if isinstance(array, np.ndarray | np.generic):
            assert_fact(made.fact(value), np.asarray(array), sizes, str(value.name))
        elif array is not None:
            assert made.fact(value).dtype is None, value.name


def assert_fact(fact: Fact, array: Any, sizes: Mapping[str, int], name: str) -> None:
    def at(size: Any) -> Any:
        return size.at(sizes) if isinstance(size, Size) else size

    if fact.dtype is None:  # an optional that holds a tensor
        return
    assert fact.dtype == array.dtype or (fact.dtype.kind == "U" and array.dtype.kind in "UOS"), name
    if fact.dims is not None:
        assert tuple(map(at, fact.dims)) == array.shape, name
    if fact.content is not None and fact.dtype.kind not in "Uc":
        content = np.array([at(item) for item in fact.content.flat], np.float64).reshape(fact.content.shape)
        np.testing.assert_allclose(content, array.astype(np.float64), rtol=1e-5, atol=1e-6, err_msg=name)
    if fact.fill is not None:
        assert (array == fact.fill).all(), name


def checked(case: onnx_cases.Case, model: onnx.ModelProto) -> None:
    feeds = dict(zip((value.name for value in model.graph.input), case.data[0][0], strict=False))
    made = whole(model)
    assert_true(made, values_of(made, feeds))


def whole(model: onnx.ModelProto) -> Plan:
    """The facts with every node still there, also those whose result is known."""
    graph, evaluator = evaluated(model)
    return Plan(graph, evaluator.facts, evaluator.homes, evaluator.read)


def names() -> list[Any]:
    return [
        parameter
        for parameter in onnx_cases.parameters()
        if parameter.values[0] not in NO_ORACLE and not parameter.values[0].startswith(JPEG)
    ]


@pytest.mark.parametrize("name", names())
def test_every_fact_of_a_case_is_true(name: str) -> None:
    case = onnx_cases.case(name)
    checked(case, case.model)
    checked(case, freed(case.model, random.Random(f"{SEED}{name}")))


# ---- free sizes -------------------------------------------------------------------------------------------


def model(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[Any, ...]],
    outputs: list[str],
    weights: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """A float model of these nodes; inputs have names and sizes."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 28)])


def output(made: Plan) -> Fact:
    return made.fact(made.graph.outputs[0])


def test_sizes_that_a_graph_computes_are_expressions_of_its_input() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Gather", ["shape", "one"], ["time"]),
        helper.make_node("Mul", ["batch", "time"], ["rows"]),
        helper.make_node("Concat", ["rows", "eight"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "one": np.array([1]), "eight": np.array([8])}
    made = plan(model(nodes, {"x": ("batch", "time", 8)}, ["y"], weights))
    assert [str(dim) for dim in output(made).dims or ()] == ["batch * time", "8"]
    assert [node.op_type for node in made.graph] == ["Reshape"]


def test_free_sizes_of_two_names_that_are_broadcast_stay_free() -> None:
    made = plan(model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ("n",), "b": ("m",)}, ["y"]))
    (dim,) = output(made).dims or ()
    assert str(dim) not in {"n", "m"}
    assert made.homes[str(dim)].value is made.graph.outputs[0]


def test_a_free_size_against_a_number_is_the_number() -> None:
    made = plan(model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ("n", "k"), "b": (3, 1)}, ["y"]))
    assert [str(dim) for dim in output(made).dims or ()] == ["3", "k"]


def test_a_table_that_is_cut_to_the_length_does_not_blur_the_length() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["time"]),
        helper.make_node("Slice", ["table", "zero", "time"], ["part"]),
        helper.make_node("Add", ["x", "part"], ["y"]),
    ]
    weights = {"zero": [0], "one": [1], "two": [2], "table": np.zeros((64, 4), np.float32)}
    made = plan(model(nodes, {"x": ("batch", "time", 4)}, ["y"], weights))
    assert [str(dim) for dim in output(made).dims or ()] == ["batch", "time", "4"]


def test_the_last_places_as_many_as_another_axis_has_are_known_by_their_number() -> None:
    """T5's way to cut a table of positions: from minus the length on."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["time"]),
        helper.make_node("Neg", ["time"], ["back"]),
        helper.make_node("Slice", ["long", "back", "end", "one"], ["y"]),
    ]
    weights = {"one": [1], "two": [2], "end": [2**63 - 1]}
    made = plan(model(nodes, {"x": ("batch", "time"), "long": ("batch", "time", 4)}, ["y"], weights))
    assert [str(dim) for dim in output(made).dims or ()] == ["batch", "time", "4"]


@pytest.mark.parametrize("start", [-1, 2**31 - 1, 2**63 - 1])
@pytest.mark.parametrize("stop", [-(2**31), -(2**31) - 1, -(2**63)])
def test_an_axis_that_is_turned_round_keeps_its_size(start: int, stop: int) -> None:
    node = helper.make_node("Slice", ["x", "start", "stop", "one", "back"], ["y"])
    weights = {"start": [start], "stop": [stop], "one": [1], "back": [-1]}
    made = plan(model([node], {"x": ("n", "time", 3)}, ["y"], weights))
    assert [str(dim) for dim in output(made).dims or ()] == ["n", "time", "3"]


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID", "SAME_UPPER"])
def test_a_convolution_has_the_size_that_its_arithmetic_says(size: int, stride: int, auto_pad: str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride], auto_pad=auto_pad)
    made = whole(model([node], {"x": ("n", 2, "t")}, ["y"], {"w": np.zeros((3, 2, 3), np.float32)}))
    feeds = {"x": np.zeros((1, 2, size), np.float32)}
    assert_true(made, values_of(made, feeds))
    assert set(made.homes) == {"n", "t"}


def test_what_a_row_reads_as_sizes_has_a_free_size_for_each_element() -> None:
    graph = model([helper.make_node("Expand", ["x", "sizes"], ["y"])], {"x": ("n", 1)}, ["y"])
    graph.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, [2]))
    made = plan(graph)
    read = made.read[made.graph.inputs[1]]
    assert [made.homes[str(size)].kind for size in read] == ["element", "element"]


def test_a_loop_keeps_only_the_sizes_that_every_turn_keeps() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Concat", ["grown", "x"], ["more"], axis=0),
            helper.make_node("Identity", ["again"], ["on"]),
            helper.make_node("Identity", ["kept"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("grown", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [helper.make_value_info(name, onnx.TypeProto()) for name in ("on", "more", "still")],
    )
    loop = helper.make_node("Loop", ["turns", "", "x", "x"], ["a", "b"], body=body)
    made = plan(model([loop], {"x": ("n", 4)}, ["a", "b"], {"turns": np.array(3)}))
    grown, kept = (made.fact(value) for value in made.graph.outputs)
    assert [str(dim) for dim in kept.dims or ()] == ["n", "4"]
    assert grown.dims is not None
    assert str(grown.dims[0]) != "n"
    assert grown.dims[1] == 4


# ---- contents -----------------------------------------------------------------------------------------------


def test_a_weight_that_is_only_moved_stays_the_weight_it_was() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("Slice", ["turned", "zero", "two"], ["part"]),
        helper.make_node("Add", ["x", "part"], ["y"]),
    ]
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "zero": [0], "two": [2]}
    made = plan(model(nodes, {"x": ("n", 2, 3)}, ["y"], weights))
    (node,) = made.graph
    part = made.fact(node.inputs[1])  # type: ignore[arg-type]
    assert (part.name, part.trainable) == ("w", True)
    np.testing.assert_array_equal(part.constant, weights["w"].T[:2])  # type: ignore[attr-defined]


def test_a_weight_that_is_computed_with_stays_a_weight_under_the_computation() -> None:
    nodes = [helper.make_node("Mul", ["w", "scale"], ["v"]), helper.make_node("Add", ["x", "v"], ["y"])]
    made = plan(model(nodes, {"x": ("n", 3)}, ["y"], {"w": np.ones(3, np.float32), "scale": np.float32(2)}))
    assert [node.op_type for node in made.graph] == ["Mul", "Add"]


def test_a_huge_constant_is_not_made_of_a_small_one() -> None:
    nodes = [helper.make_node("Expand", ["one", "sizes"], ["v"]), helper.make_node("Add", ["x", "v"], ["y"])]
    weights = {"one": np.float32(1), "sizes": np.array([2000, 2000])}
    made = plan(model(nodes, {"x": (2000, 2000)}, ["y"], weights))
    fact = made.fact(next(iter(made.graph)).outputs[0])
    assert (fact.content, fact.fill) == (None, 1)


def test_a_fill_is_known_whatever_the_sizes() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "first"], ["y"]),
    ]
    made = plan(model(nodes, {"x": ("n", 4)}, ["y"], {"first": np.array([0])}))
    assert output(made).fill == 0
    assert [str(dim) for dim in output(made).dims or ()] == ["1", "n", "4"]


def test_random_values_are_never_folded() -> None:
    node = helper.make_node("RandomUniform", [], ["r"], shape=[3])
    made = plan(model([node, helper.make_node("Add", ["x", "r"], ["y"])], {"x": (3,)}, ["y"]))
    assert [node.op_type for node in made.graph] == ["RandomUniform", "Add"]


def test_an_if_whose_condition_is_known_is_the_branch_that_is_taken() -> None:
    def branch(operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [f"{operator}_y"])],
            operator,
            [],
            [helper.make_value_info(f"{operator}_y", onnx.TypeProto())],
        )

    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))]
    made = plan(model(nodes, {"x": ("n",)}, ["y"], {"yes": np.array(True)}))
    assert [node.op_type for node in made.graph] == ["Relu"]
    assert [value.name for value in made.graph.outputs] == ["y"]


def test_a_node_that_does_not_fit_its_inputs_is_refused_by_name() -> None:
    node = helper.make_node("Transpose", ["x"], ["y"], name="turn", perm=[0, 3])
    with pytest.raises(RefusedError, match=r"node 'turn' \(Transpose\)"):
        plan(model([node], {"x": (2, 3)}, ["y"]))
