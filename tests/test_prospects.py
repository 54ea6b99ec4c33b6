"""inspect looks at every node where that is little work; of more it looks at the first ones, and says how many those are."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from models import model
from onnx import TensorProto, helper

import netferry
from netferry import prospects as within
from netferry.cli.converting import _prospect_text
from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.budget import Budget, counted
from netferry.results import Prospect

TARGETS = ("pytorch", "tensorflow", "mxnet")


@pytest.fixture(autouse=True)
def forty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within, "_NODES", 40)


def chain(count: int, strange: int = -1, operator: str = "Sin") -> onnx.ModelProto:
    """``count`` nodes in a row, of which one is of an operator that nobody knows."""
    names = ["x", *(f"v{place}" for place in range(count - 1)), "y"]
    nodes = [
        helper.make_node("Strange", [a], [b], domain="pkg.of.mine")
        if place == strange
        else helper.make_node(operator, [a], [b])
        for place, (a, b) in enumerate(itertools.pairwise(names))
    ]
    made = model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]})
    made.opset_import.add(domain="pkg.of.mine", version=1)
    return made


def found(made: onnx.ModelProto, **options: bool) -> Sequence[Prospect]:
    targets = netferry.inspect(made, to=TARGETS, **options).targets
    return [targets[name] for name in TARGETS]


@pytest.mark.parametrize("count", [1, 39, 40])
def test_a_short_graph_is_looked_at_whole(count: int) -> None:
    for one in found(chain(count)):
        assert one.carried is True and one.looked_at is None


def test_nodes_that_have_to_be_brought_to_a_newer_opset_are_twice_the_work() -> None:
    names = ["x", *(f"v{place}" for place in range(49)), "y"]
    nodes = [helper.make_node("Clip", [a], [b], min=-1.0, max=1.0) for a, b in itertools.pairwise(names)]
    made = model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]})
    del made.opset_import[:]
    made.opset_import.add(domain="", version=7)
    made.ir_version = 8
    for one in found(made):
        assert one.carried is None and one.looked_at == (20, 50) and not one.problems


def test_of_a_long_one_the_answer_says_how_far_it_goes() -> None:
    for one in found(chain(90, strange=60)):
        assert one.carried is None and one.looked_at == (40, 90) and not one.problems
    for one in found(chain(90, strange=30)):
        assert one.carried is False and one.looked_at == (40, 90) and one.problems[0].operator == "Strange"
    assert _prospect_text(Prospect(looked_at=(40, 90))).startswith("only the first 40 of 90 nodes")


@pytest.mark.parametrize("strange", [30, 60])
def test_every_node_is_looked_at_where_that_is_asked_for(strange: int) -> None:
    for one in found(chain(90, strange), every_node=True):
        assert one.carried is False and one.looked_at is None and one.problems[0].operator == "Strange"


def test_weights_are_worth_nodes() -> None:
    made = chain(90)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(51 * 500, np.int8), "w"))
    made.graph.node[-1].op_type, made.graph.node[-1].input[:] = "Gather", ["x", "w"]
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    made.graph.node.insert(89, helper.make_node("Cast", ["w"], ["i"], to=TensorProto.INT32))
    made.graph.node[-1].input[1] = "i"
    assert all(one.looked_at is None for one in found(made))


def test_nodes_of_subgraphs_count_and_are_looked_at() -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        inner = [helper.make_node(operator, ["x"], [f"{name}0"])]
        inner += [helper.make_node("Sin", [f"{name}{i}"], [f"{name}{i + 1}"]) for i in range(4)]
        return helper.make_graph(
            inner, name, [], [helper.make_tensor_value_info(f"{name}4", TensorProto.FLOAT, None)]
        )

    nodes = [
        helper.make_node(
            "If",
            ["go"],
            [f"y{place}"],
            then_branch=branch(f"t{place}", "Sin"),
            else_branch=branch(f"e{place}", "Cos"),
        )
        for place in range(9)
    ]
    made = model(nodes, {"x": ["batch", 4]}, {f"y{place}": ["batch", 4] for place in range(9)})
    made.graph.input.append(helper.make_tensor_value_info("go", TensorProto.BOOL, []))
    assert found(made)[0].looked_at == (33, 99)


def test_what_leaves_the_first_nodes_may_be_no_tensor() -> None:
    nodes = list(chain(60).graph.node)
    nodes.insert(2, helper.make_node("SequenceConstruct", ["v0", "v1"], ["s"]))
    nodes.append(helper.make_node("SequenceAt", ["s", "zero"], ["z"]))
    made = model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4], "z": ["batch", 4]}, {"zero": np.int64(0)})
    assert all(one.carried is None and one.looked_at == (39, 62) for one in found(made))


@pytest.mark.parametrize(("kind", "operator"), [("words", "Mish"), ("terms", "Concat")])
def test_where_each_node_is_much_work_fewer_are_looked_at(
    kind: str, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = chain(30, operator=operator)
    if operator == "Concat":
        for node in made.graph.node:
            node.input.append(node.input[0])
            node.attribute.append(helper.make_attribute("axis", 0))
        made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["much", 4]))
    monkeypatch.setattr(within, "_WORK", {**within._WORK, kind: 60})
    for one in found(made):
        assert one.carried is None and one.looked_at is not None and 0 < one.looked_at[0] < one.looked_at[1]


def test_a_node_that_is_too_much_by_itself_is_said_to_be_the_first() -> None:
    with counted(Budget(nodes=1)) as counts:
        assert counts.take("words", counts.limits["words"]) and not counts.take("words", 1)
    assert not counts.short  # nothing more could be asked for: that is an answer
    counts = Budget(nodes=1)
    counts.most = {"words": 10}
    assert not counts.take("words", 11)
    assert counts.short and not counts.take("words", counts.limits["words"] + 1)


def test_functions_without_end_are_refused_as_ever() -> None:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    bodies = [
        [helper.make_node(f"f{level + 1}", [a], [b], domain="f") for a, b in (("a", "m"), ("m", "b"))]
        for level in range(18)
    ]
    bodies.append([helper.make_node("Sin", ["a"], ["b"])])
    functions = [
        helper.make_function("f", f"f{i}", ["a"], ["b"], body, opsets) for i, body in enumerate(bodies)
    ]
    made = model([helper.make_node("f0", ["x"], ["y"], domain="f")], {"x": ["batch", 4]}, {"y": ["batch", 4]})
    made.functions.extend(functions)
    made.opset_import.add(domain="f", version=1)
    with pytest.raises(RefusedError, match=re.escape("into 262,144 nodes")):
        netferry.inspect(made, to="all")
