"""An operator of one's own: a dozen lines, and every framework takes it, reads it, and is checked on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.errors import NetferryError, UnsupportedError, UsageError
from netferry.converters.graph.schema.own import OWN
from netferry.converters.pytorch.to_onnx.layers import MODULES
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS
from netferry.converters.tensorflow.to_onnx.emitter import ROWS
from netferry.testing import check_operator

NAME = "my.ops::Softcap"
TABLES = (MODULES, FUNCTIONS, ROWS)
"""What is registered here is no row of netferry's: other tests count those."""


@pytest.fixture(autouse=True)
def softcap() -> Iterator[Any]:
    """The operator of the guide, for one test."""

    @netferry.operator(NAME)
    def softcap(g: Any, x: Any, *, cap: float = 30.0) -> Any:
        limit = g.scalar(cap, x)
        return g.Mul(g.Tanh(g.Div(x, limit)), limit)

    before = [dict(table._rows) for table in TABLES]
    yield softcap
    OWN._rows.clear()
    for table, rows in zip(TABLES, before, strict=True):
        table._rows.clear()
        table._rows.update(rows)


def in_numpy(x: np.ndarray, cap: float = 30.0) -> np.ndarray:
    return (np.tanh(x / x.dtype.type(cap)) * x.dtype.type(cap)).astype(x.dtype)


def model(operator: str = "Softcap", domain: str = "my.ops", **attributes: Any) -> onnx.ModelProto:
    """A product with trained weights before the operator."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node(operator, ["h"], ["y"], name="cap", domain=domain, **attributes),
    ]
    weight = np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weight, "w")])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet", "onnx"])
def test_a_file_with_it_is_read_run_and_converted(to: str, tmp_path: Path) -> None:
    onnx.save(model(cap=2.0), tmp_path / "m.onnx")
    done = netferry.convert(tmp_path / "m.onnx", to, quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    assert any(NAME in note for note in done.notes)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    weight = numpy_helper.to_array(model().graph.initializer[0])
    [made] = netferry.run(done.model, [x]).values()
    np.testing.assert_allclose(made, in_numpy(x @ weight, 2.0), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_tested_in_every_framework_against_numpy(dtype: type) -> None:
    random = np.random.default_rng(2)
    inputs = [[(random.normal(size=(rows, 3)) * 3).astype(dtype)] for rows in (2, 5)]
    frameworks = ["pytorch", "tensorflow"] if dtype is np.float64 else None
    worst = check_operator(NAME, in_numpy, inputs, attributes={"cap": 1.5}, to=frameworks)
    assert {"onnx", "pytorch", "tensorflow"} <= worst.keys()
    with pytest.raises(AssertionError, match="Softcap in onnx is"):
        check_operator(
            NAME, lambda x, cap: in_numpy(x, cap * 1.1), inputs, attributes={"cap": 1.5}, to=["pytorch"]
        )
    with pytest.raises(UsageError, match="two different sizes"):
        check_operator(NAME, in_numpy, inputs[:1])


def test_layers_and_functions_of_one_s_own_are_exported(softcap: Any) -> None:
    import keras

    class Capped(torch.nn.Module):
        def __init__(self, cap: float) -> None:
            super().__init__()
            self.cap = cap

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x / self.cap) * self.cap

    netferry.exporter(Capped)(lambda g, layer, x: softcap(g, x, cap=layer.cap))
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), Capped(1.5))
    done = netferry.convert(net, "onnx", inputs={"x": np.ones((2, 4), np.float32)}, quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    assert [node.op_type for node in done.export.model.graph] == ["Gemm", "Div", "Tanh", "Mul"]

    class Cap(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.tanh(x / 2.0) * 2.0

    netferry.exporter(Cap)(lambda g, layer, x: softcap(g, x, cap=2.0))
    x = keras.Input((4,))
    done = netferry.convert(keras.Model(x, Cap()(keras.layers.Dense(3)(x))), "onnx", quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    with pytest.raises(UsageError, match="defined already"):
        netferry.exporter(Cap)(softcap)


def test_a_custom_operator_of_pytorch_is_exported(softcap: Any) -> None:

    @torch.library.custom_op("netferry_tests::softcap", mutates_args=())
    def own(x: torch.Tensor, cap: float) -> torch.Tensor:
        return torch.tanh(x / cap) * cap

    own.register_fake(lambda x, cap: torch.empty_like(x))
    netferry.exporter(torch.ops.netferry_tests.softcap)(lambda g, x, cap: softcap(g, x, cap=cap))

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.netferry_tests.softcap(x, 2.0)

    done = netferry.convert(Net(), "onnx", inputs={"x": np.ones((2, 4), np.float32)}, quick=True)
    assert done.route == "direct"
    assert done.report is not None
    assert done.report.status == "passed"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"operator": "Other"}, "my.ops.Other"),
        ({"sharpness": 3.0}, "sharpness"),
        ({"domain": "their.ops"}, "domain that nobody knows"),
    ],
)
def test_what_is_not_defined_is_refused_by_name(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    onnx.save(model(**changed), tmp_path / "m.onnx")
    with pytest.raises(NetferryError, match=told):
        netferry.convert(tmp_path / "m.onnx", "pytorch")


def test_a_row_that_writes_what_onnx_has_not_is_refused_with_its_name(tmp_path: Path) -> None:
    netferry.operator("my.ops::Broken")(lambda g, x: g.NoSuchOperator(x))
    onnx.save(model("Broken"), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="NoSuchOperator"):
        netferry.convert(tmp_path / "m.onnx", "pytorch", verify=False)


@pytest.mark.parametrize("name", ["Softcap", "::Softcap", "my.ops::", "my.ops::a b", "netferry::X", NAME])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        netferry.operator(name)(lambda g, x: x)
    with pytest.raises(UsageError):
        netferry.exporter(3)(lambda g, x: x)
