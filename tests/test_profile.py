"""Where an error arises: on a pair that passed no tensor claims a difference, and a fault is shown where it lies."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from models import model
from onnx import helper, numpy_helper
from test_page import convolutional

import netferry
from netferry import converters
from netferry.converters.signature import Array, Example
from netferry.inference.intermediate import stream
from netferry.tasks.extras import extras_of
from netferry.tasks.matrix import SOURCES, TARGETS
from netferry.validation.comparison.metrics import RELATIVE_TO_SCALE
from netferry.validation.tensors.profile import profile
from netferry.zoo.catalog import CATALOG, ModelSpec
from netferry.zoo.train import trainer

SEED = 11


# ---- every model, from everywhere to everywhere ---------------------------------------------------------

PAIRS = [(source, target) for source in SOURCES for target in TARGETS]
SHUFFLED = random.Random(SEED).sample(list(CATALOG), len(CATALOG))
EVERYDAY = {(SHUFFLED[place % len(SHUFFLED)], source, target) for place, (source, target) in enumerate(PAIRS)}
"""Every pair of frameworks and every model, each at least once."""

CELLS = [
    pytest.param(
        name,
        source,
        target,
        marks=() if (name, source, target) in EVERYDAY else pytest.mark.slow,
    )
    for name in CATALOG
    for source, target in PAIRS
]


def test_the_everyday_cells_hold_every_pair_and_every_model() -> None:
    assert {cell[0] for cell in EVERYDAY} == set(CATALOG)
    assert {cell[1:] for cell in EVERYDAY} == set(PAIRS)


def _random(spec: ModelSpec, framework: str) -> Any:
    """The model with random weights and statistics; no variance is near zero."""
    native, rng = trainer(framework), np.random.default_rng(SEED)
    native.seed(SEED)
    built = native.build(spec)

    def drawn(name: str, shape: tuple[int, ...]) -> Array:
        array = rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        return (np.abs(array) + 0.5 if "var" in name else array).astype(np.float32)

    if framework == "pytorch":
        import torch

        for name, tensor in built.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(drawn(name, tuple(tensor.shape))))
        return built.eval()
    if framework == "tensorflow":
        for weight in (w for w in built.weights if w.dtype == "float32"):
            weight.assign(drawn(weight.name, tuple(weight.shape)))
        return built
    import mxnet as mx

    for name, weight in built.collect_params().items():
        weight.set_data(mx.nd.array(drawn(name, weight.shape)))
    return built


@pytest.mark.parametrize(("name", "source", "target"), CELLS)
def test_no_tensor_of_a_pair_that_passes_claims_a_difference(name: str, source: str, target: str) -> None:
    spec = CATALOG[name]
    made = _random(spec, source)
    rows = np.random.default_rng(SEED).standard_normal((5, *(size or 9 for size in spec.dims)))
    given = [Example(spec.input, trainer(source).to_native(rows.astype(np.float32)), asked=True)]
    export = converters.export_model(made, given=given)
    arrived: Any = ir.to_proto(export.model)
    if target != "onnx":
        arrived = converters.import_model(export.model, target, name=name).model
    found = profile(made, arrived, given)
    errors = [error for _, error in found if error is not None]
    assert max(errors) <= RELATIVE_TO_SCALE["float32"], found
    assert found[-1][1] is not None, "the output has its counterpart by its name"
    assert len(errors) >= 0.7 * len(found), found
    verdict = netferry.verify(made, arrived, given, quick=True)
    assert verdict.status == "passed", verdict.to_text()
    assert found == profile(made, arrived, given, report=verdict)


# ---- what is the same, and what is not ------------------------------------------------------------------


def _head_moved(by: float) -> onnx.ModelProto:
    wrong = convolutional()
    weight = numpy_helper.to_array(wrong.graph.initializer[1]).copy()
    weight[0, 0] += by
    wrong.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "head.weight"))
    return wrong


def test_the_profile_shows_where_an_error_arises_and_what_reads_it() -> None:
    """The head alone is wrong: every tensor before it is as it was."""
    errors = dict(profile(convolutional(), _head_moved(1.0)))
    assert list(errors) == ["c", "r", "s", "g", "f", "y"]
    last = errors.pop("y")
    assert last is not None and last > 1e-3
    assert set(errors.values()) == {0.0}


def test_the_profile_is_taken_on_the_inputs_on_which_the_verdict_found_the_most() -> None:
    a, b = convolutional(), _head_moved(1.0)
    verdict = netferry.verify(a, b)
    [output] = verdict.outputs
    assert output.worst_sample != verdict.samples[0]
    error = dict(profile(a, b, report=verdict))["y"]
    assert error == pytest.approx(output.comparison.max_rel, rel=0.2)


def _norm(early: bool, factor: float = 1.0) -> onnx.ModelProto:
    """x / rms(x) * w, in two orders of operations under the same names; ``factor`` plants a fault in w."""
    rng = np.random.default_rng(SEED)
    weights = {
        "norm.weight": (rng.standard_normal(6) * factor).astype(np.float32),
        "one": np.array([-1]),
    }
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"], "square"),
        helper.make_node("ReduceMean", ["squares", "one"], ["mean"], "mean"),
        helper.make_node("Sqrt", ["mean"], ["root"], "root"),
    ]
    if early:
        nodes.append(helper.make_node("Mul", ["x", "norm.weight"], ["scaled"], "norm"))
        nodes.append(helper.make_node("Div", ["scaled", "root"], ["y"], "norm/Div"))
    else:
        nodes.append(helper.make_node("Div", ["x", "root"], ["scaled"], "norm"))
        nodes.append(helper.make_node("Mul", ["scaled", "norm.weight"], ["y"], "norm/Mul"))
    return model(nodes, {"x": ["batch", 6]}, {"y": ["batch", 6]}, weights)


def test_tensors_of_one_name_that_are_not_the_same_have_no_counterpart() -> None:
    found = dict(profile(_norm(True), _norm(False)))
    assert found["scaled"] is None
    assert all(error is not None and error < 1e-6 for name, error in found.items() if name != "scaled")


def test_a_layer_that_differs_is_held_against_the_closest_of_its_tensors() -> None:
    found = dict(profile(_norm(False), _norm(False, factor=1.25)))
    assert (found["squares"], found["mean"], found["root"], found["scaled"]) == (0.0, 0.0, 0.0, 0.0)
    assert found["y"] == pytest.approx(0.25, rel=1e-4)


def test_a_square_that_was_transposed_is_no_counterpart_though_its_digest_is_the_same() -> None:
    def turned(order: list[int]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Tanh", ["x"], ["a"]),
            helper.make_node("Transpose", ["a"], ["b"], perm=order),
            helper.make_node("ReduceMax", ["b"], ["y"], keepdims=0),
        ]
        return model(nodes, {"x": [3, 4, 4]}, {"y": []})

    assert dict(profile(turned([0, 2, 1]), turned([0, 1, 2]))) == {"a": 0.0, "b": None, "y": 0.0}


@pytest.mark.parametrize("to", list(TARGETS))
def test_a_conversion_that_differs_shows_an_error_from_the_source_on(
    to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter's fault is planted: what arrived is what the exporter handed on."""
    wrong = converters.export_model(_norm(False, factor=1.01))
    monkeypatch.setattr(converters, "export_model", lambda *_, **__: wrong)
    done = netferry.convert(_norm(False), to)
    assert done.report is not None and done.report.status == "failed"
    layers = dict(extras_of(done, _norm(False)).layers)
    assert layers["y"] == pytest.approx(0.01, rel=1e-3)
    assert layers["root"] is not None and layers["root"] < 1e-6


# ---- MXNet: what a monitor is shown ----------------------------------------------------------------------


def _tensors(symbol: Any, shape: tuple[int, ...]) -> dict[str, Array]:
    seen: dict[str, Array] = {}
    x = np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
    stream(symbol, [x], lambda _step, tensors: seen.update({n: a.copy() for n, a in tensors.items()}))
    return seen


def test_a_block_that_runs_twice_shows_both_of_its_tensors() -> None:
    pytest.importorskip("mxnet")
    from mxnet.gluon import nn

    pool, net = nn.MaxPool2D(2), nn.HybridSequential()
    net.add(pool, nn.Activation("tanh"), pool)
    net.initialize()
    net.hybridize()
    shapes = [array.shape for array in _tensors(net, (2, 3, 8, 8)).values()]
    assert shapes == [(2, 3, 4, 4), (2, 3, 4, 4), (2, 3, 2, 2)]


def test_states_that_nobody_reads_are_not_shown_for_they_are_not_computed() -> None:
    pytest.importorskip("mxnet")
    from mxnet import gluon

    net = gluon.rnn.GRU(4, layout="NTC", input_size=3)
    net.initialize()
    net.hybridize()
    seen = _tensors(net, (2, 5, 3))
    assert seen
    assert not [name for name in seen if "state" in name]
