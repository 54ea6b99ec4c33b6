"""Loops of free length and branches in MXNet: written with its own operators, trained, read back, and as a Python module."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mxnet_oracle import Oracle
from onnx import TensorProto, helper, numpy_helper
from test_onnx_to_mxnet import F4, arrive, assert_same, check, drawn, model, onnxruntime, ops

import netferry
from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet import files
from netferry.converters.signature import Array

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)


def body(
    nodes: Sequence[tuple[str, str, str]],
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
    weights: Mapping[str, Array] | None = None,
) -> onnx.GraphProto:
    """``nodes``: operator, inputs, outputs; ``inputs`` and ``outputs``: name -> rank."""

    def infos(ranks: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in ranks.items()
        ]

    made = [helper.make_node(kind, taken.split(), given.split()) for kind, taken, given in nodes]
    kept = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    return helper.make_graph(made, "body", infos(inputs), infos(outputs), kept)


def scan(
    inside: onnx.GraphProto, taken: str, given: str, sequences: int = 1, **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node(
        "Scan",
        taken.split(),
        given.split(),
        name="loop",
        body=inside,
        num_scan_inputs=sequences,
        **attributes,
    )


RECURRENT = body(
    [
        ("MatMul", "h w", "p"),
        ("Add", "p r", "s"),
        ("Tanh", "s", "n"),
        ("Mul", "n scale", "o"),
        ("Identity", "n", "m"),
    ],
    {"h": 2, "r": 2},
    {"m": 2, "o": 2},
    {"scale": drawn(4)},
)
"""A state and a row of the batch: a weight of the surrounding graph, a constant of its own."""

RANK_1 = body([("Add", "h r", "n"), ("Mul", "n r", "o")], {"h": 1, "r": 0}, {"n": 1, "o": 1})
"""Rows that are numbers."""

PASSED_ON = body(
    [("Mul", "r r", "q"), ("Add", "q c", "o"), ("Identity", "r", "last"), ("Identity", "s", "same")],
    {"unread": 2, "s": 2, "r": 2},
    {"last": 2, "same": 2, "o": 2},
    {"c": drawn(1)},
)
"""One state that is not read, another that stays; its output is passed on unchanged."""


def recurrent(**attributes: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Mul", ["x", "gain"], ["y"]),
        scan(RECURRENT, "h0 y", "h outs", **attributes),
    ]
    dims = ("batch", "time", 4) if attributes.get("scan_input_axes") == [1] else ("time", "batch", 4)
    weights = {"w": drawn(4, 4) / 2, "gain": drawn(4)}
    return model(nodes, {"x": (F4, dims), "h0": (F4, ("batch", 4))}, {"h": (F4, 2), "outs": (F4, 3)}, weights)


DIRECTIONS: dict[str, dict[str, Any]] = {
    "forward": {},
    "backward": {"scan_input_directions": [1]},
    "backward, given forward": {"scan_input_directions": [1], "scan_output_directions": [1]},
    "along the second axis": {"scan_input_axes": [1], "scan_output_axes": [1]},
    "stacked at the end": {"scan_output_axes": [-1], "scan_output_directions": [1]},
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_loop_of_free_length_is_mxnets_own(name: str, oracle: Oracle, tmp_path: Path) -> None:
    proto = recurrent(**DIRECTIONS[name])
    swapped = "second" in name
    feeds = []
    for time, batch in ((5, 2), (1, 3), (9, 1)):
        x = drawn(time, batch, 4)
        feeds.append([x.swapaxes(0, 1).copy() if swapped else x, drawn(batch, 4)])
    arrived = check(proto, feeds, oracle, tmp_path, onnxruntime)
    assert ops(arrived).count("_foreach") == 1


def test_a_long_loop_is_not_written_turn_by_turn(oracle: Oracle, tmp_path: Path) -> None:
    proto = recurrent()
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, (200, 2, 4), strict=True):
        dim.Clear()
        dim.dim_value = size
    arrived = check(proto, [[drawn(200, 2, 4), drawn(2, 4)]], oracle, tmp_path, onnxruntime)
    assert len(arrived.graph.nodes) < 40


def test_rows_that_are_numbers_and_states_that_are_not_read(oracle: Oracle, tmp_path: Path) -> None:
    proto = model(
        [scan(RANK_1, "h0 x", "h o")], {"x": (F4, ("n",)), "h0": (F4, (3,))}, {"h": (F4, 1), "o": (F4, 2)}
    )
    check(proto, [[drawn(n), drawn(3)] for n in (4, 1, 7)], oracle, tmp_path, onnxruntime)
    proto = model(
        [scan(PASSED_ON, "a b x", "last kept o")],
        {"x": (F4, ("n", "batch", 2)), "a": (F4, ("batch", 2)), "b": (F4, ("batch", 2))},
        {"last": (F4, 2), "kept": (F4, 2), "o": (F4, 3)},
    )
    feeds = [[drawn(n, batch, 2), drawn(batch, 2), -drawn(batch, 2)] for n, batch in ((4, 2), (1, 3))]
    check(proto, feeds, oracle, tmp_path, onnxruntime)


def test_a_loop_within_a_loop(oracle: Oracle, tmp_path: Path) -> None:
    row = body(
        [("Add", "s e", "t"), ("Sin", "t", "u"), ("Mul", "u k", "v")], {"s": 1, "e": 1}, {"t": 1, "v": 1}
    )
    inner = helper.make_node("Scan", ["h", "r"], ["g", "o"], body=row, num_scan_inputs=1)
    outer = body([], {"h": 1, "r": 2}, {"g": 1, "o": 2})
    outer.node.append(inner)
    proto = model(
        [scan(outer, "h0 x", "h y")],
        {"x": (F4, ("n", "m", 3)), "h0": (F4, (3,))},
        {"h": (F4, 1), "y": (F4, 3)},
        {"k": drawn(3)},
    )
    check(
        proto,
        [[drawn(n, m, 3), drawn(3)] for n, m in ((3, 4), (1, 2), (5, 1))],
        oracle,
        tmp_path,
        onnxruntime,
    )


def branching() -> onnx.ModelProto:
    up = body([("MatMul", "x w", "t"), ("Relu", "t", "a")], {}, {"a": 2})
    down = body([("Mul", "x gain", "b")], {}, {"b": 2})
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["holds"]),
        helper.make_node("If", ["holds"], ["y"], name="which", then_branch=up, else_branch=down),
    ]
    weights = {"w": drawn(4, 4), "gain": drawn(4), "zero": np.array(0, F4)}
    return model(nodes, {"x": (F4, ("batch", 4))}, {"y": (F4, 2)}, weights)


def test_one_branch_runs(oracle: Oracle, tmp_path: Path) -> None:
    x = np.abs(drawn(3, 4))
    arrived = check(branching(), [[x], [-x], [x[:1]], [-x[:2]]], oracle, tmp_path, onnxruntime)
    assert "_cond" in ops(arrived)


def test_branches_of_other_sizes_are_refused() -> None:
    one, other = body([("Neg", "x", "a")], {}, {"a": 2}), body([("Concat", "x x", "b")], {}, {"b": 2})
    other.node[0].attribute.append(helper.make_attribute("axis", 1))
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["holds"], to=TensorProto.BOOL),
        helper.make_node("If", ["holds"], ["y"], name="which", then_branch=one, else_branch=other),
    ]
    with pytest.raises(
        UnsupportedError, match=r"which.*branches that give float32 \[batch, 4\] and .*\[batch, 8\]"
    ):
        arrive(model(nodes, {"x": (F4, ("batch", 4))}, {"y": (F4, 2)}))


@pytest.mark.parametrize("kind", ["loop", "branch"])
def test_bodies_are_read_back_judged_and_written_as_python(kind: str, oracle: Oracle, tmp_path: Path) -> None:
    proto = recurrent() if kind == "loop" else branching()
    x = [drawn(6, 3, 4), drawn(3, 4)] if kind == "loop" else [drawn(3, 4)]
    arrived = check(proto, [x], oracle, tmp_path, onnxruntime)
    back = netferry.convert(tmp_path / "net-symbol.json", "onnx", verify=False).model
    again = onnxruntime(back)
    wanted = onnxruntime(proto).run(None, dict(zip([i.name for i in proto.graph.input], x, strict=True)))
    for mine, other in zip(
        again.run(None, {i.name: a for i, a in zip(again.get_inputs(), x, strict=True)}), wanted, strict=True
    ):
        assert_same(mine, other)
    arrived.write_source(tmp_path / "module.py")
    results, _ = oracle.from_module(str(tmp_path / "module.py"), [x])
    for mine, other in zip(results[0], wanted, strict=True):
        assert_same(mine, other)
    report = netferry.convert(proto, "mxnet", seed=3).report
    assert report is not None
    assert report.status == "passed", report.to_text()


@pytest.mark.parametrize("kind", ["loop", "branch"])
def test_a_training_step_goes_through_a_body(kind: str, oracle: Oracle, tmp_path: Path) -> None:
    """After one step of SGD the weights are those of the same sums written by hand in PyTorch."""
    import torch

    if kind == "loop":
        proto = recurrent()
        start = proto.graph.input.pop(1)
        proto.graph.initializer.append(numpy_helper.from_array(drawn(3, 4), start.name))
        del proto.graph.output[0]
        x = drawn(6, 3, 4)
    else:
        proto, x = branching(), np.abs(drawn(3, 4))
    files.write(arrive(proto), tmp_path / "net-symbol.json")
    held = {
        one.name: torch.tensor(numpy_helper.to_array(one), requires_grad=True)
        for one in proto.graph.initializer
    }

    def by_hand(given: Any) -> Any:
        if kind == "branch":
            return torch.relu(given @ held["w"])
        h, outs = held["h0"], []
        for row in given * held["gain"]:
            h = torch.tanh(h @ held["w"] + row)
            outs.append(h * torch.from_numpy(scale))
        return torch.stack(outs)

    scale = numpy_helper.to_array(RECURRENT.initializer[0])
    target = drawn(*x.shape, seed=9)
    (first,), before, after = oracle.trained(str(tmp_path / "net"), ["x"], x, target, 1, 0.1)
    loss = 0.5 * ((by_hand(torch.from_numpy(x)) - torch.from_numpy(target)) ** 2).flatten(1).mean(1)
    loss.sum().backward()
    assert abs(first - float(loss.mean())) < 1e-5 * abs(first)
    for name in ("w", "gain") if kind == "loop" else ("w",):
        assert_same((before[name] - after[name]).T / 0.1 * len(x), held[name].grad.numpy(), 1e-4)
