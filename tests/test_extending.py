"""An operator of one's own: a dozen lines, and every framework takes it, reads it, and is checked on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
from netferry.converters.mxnet.files import SymbolModel, parse_symbol
from netferry.converters.mxnet.to_onnx.emitter import ROWS as MXNET_ROWS
from netferry.converters.pytorch.to_onnx.layers import MODULES
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS
from netferry.converters.tensorflow.to_onnx.emitter import ROWS
from netferry.testing import check_operator

NAME = "my.ops::Softcap"
TABLES = (MODULES, FUNCTIONS, ROWS, MXNET_ROWS)
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


def symbol(op: str, **attrs: str) -> SymbolModel:
    """An operator of a person's own behind a layer with trained weights, as MXNet's files have it."""
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "w", "inputs": []},
        {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "3", "no_bias": "True"}, "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": op, "name": "cap", "attrs": attrs, "inputs": [[2, 0, 0]]},
    ]  # fmt: skip
    text = json.dumps({"nodes": nodes, "arg_nodes": [0, 1], "heads": [[3, 0, 0]]})
    weight = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
    return SymbolModel(parse_symbol(text), {"w": weight}, label="net")


@pytest.mark.parametrize(
    ("op", "attrs"), [("softcap", {"cap": "2.0"}), ("Custom", {"op_type": "softcap", "cap": "2.0"})]
)
def test_an_operator_of_mxnet_is_exported_under_its_own_name(
    op: str, attrs: dict[str, str], softcap: Any
) -> None:
    example = {"data": np.ones((2, 4), np.float32)}
    with pytest.raises(UnsupportedError, match=r"netferry\.exporter|does not support"):
        netferry.convert(symbol(op, **attrs), "onnx", inputs=example, verify=False)
    netferry.exporter("softcap")(lambda g, attributes, x: softcap(g, x, cap=attributes.number("cap", 30.0)))
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    source = symbol(op, **attrs)
    for to in ("onnx", "pytorch"):
        done = netferry.convert(source, to, inputs=example, verify=False)
        [made] = netferry.run(done.model, [x]).values()
        np.testing.assert_allclose(made, in_numpy(x @ source.params["w"].T, 2.0), rtol=0, atol=2e-6)
    with pytest.raises(UnsupportedError, match="sharp"):
        netferry.convert(symbol(op, **attrs, sharp="1"), "onnx", inputs=example, verify=False)


def test_a_custom_operator_that_mxnet_itself_runs_is_verified(softcap: Any) -> None:
    from netferry.converters.mxnet.live import import_mxnet

    pytest.importorskip("mxnet", reason="MXNet is not installed")
    mx = import_mxnet()

    class Softcap(mx.operator.CustomOp):  # type: ignore[name-defined, misc]
        def forward(self, is_train: Any, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
            self.assign(out_data[0], req[0], mx.nd.tanh(in_data[0] / 2) * 2)

    class Prop(mx.operator.CustomOpProp):  # type: ignore[name-defined, misc]
        def create_operator(self, context: Any, shapes: Any, dtypes: Any) -> Softcap:
            return Softcap()

    mx.operator.register("softcap")(Prop)
    netferry.exporter("softcap")(lambda g, attributes, x: softcap(g, x, cap=2.0))
    example = {"data": np.ones((2, 4), np.float32)}
    done = netferry.convert(symbol("Custom", op_type="softcap"), "onnx", inputs=example, quick=True)
    assert done.report is not None
    assert done.report.status == "passed", done.report.to_text()


def test_an_operator_with_its_function_body_in_the_file_needs_no_definition(tmp_path: Path) -> None:
    own = model(domain="their.ops")
    two = numpy_helper.from_array(np.float32(2.0), "two")
    steps = [
        helper.make_node("Constant", [], ["c"], value=two),
        helper.make_node("Div", ["x", "c"], ["d"]),
        helper.make_node("Tanh", ["d"], ["t"]),
        helper.make_node("Mul", ["t", "c"], ["y"]),
    ]
    opsets = [helper.make_opsetid("", 18)]
    own.functions.append(helper.make_function("their.ops", "Softcap", ["x"], ["y"], steps, opsets))
    onnx.save(own, tmp_path / "m.onnx")
    for to in ("pytorch", "tensorflow", "onnx"):
        done = netferry.convert(tmp_path / "m.onnx", to, quick=True)
        assert done.report is not None
        assert done.report.status == "passed"


PLUGIN = """
import netferry

@netferry.operator("my.ops::Softcap")
def softcap(g, x, *, cap=30.0):
    limit = g.scalar(cap, x)
    return g.Mul(g.Tanh(g.Div(x, limit)), limit)
"""


def command(*words: object, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(path), os.environ.get("PYTHONPATH", "")] if path else [os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(
        [sys.executable, "-m", "netferry", *map(str, words)], cwd=cwd, env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_plug_in_that_is_named_reaches_every_child_process(tmp_path: Path) -> None:
    onnx.save(model(cap=2.0), tmp_path / "m.onnx")
    (tmp_path / "caps.py").write_text(PLUGIN)
    assert "my.ops" in command("inspect", "m.onnx", cwd=tmp_path).stderr
    assert command("inspect", "m.onnx", "--plugin", "caps.py", cwd=tmp_path).returncode == 0
    many = ("convert", "m.onnx", "--to", "pytorch", "--output-dir", "out", "--quick", "--plugin", "caps.py")
    done = command(*many, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_plug_in_of_an_installed_package_is_found(tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    about = site / "caps-1.0.dist-info"
    about.mkdir(parents=True)
    work.mkdir()
    (site / "caps.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: caps\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[netferry.plugins]\ncaps = caps\nbroken = no_such_module\n")
    onnx.save(model(cap=2.0), work / "m.onnx")
    done = command("convert", "m.onnx", "out.onnx", "--quick", cwd=work, path=site)
    assert done.returncode == 0, done.stderr
    assert "the plug-in 'broken' (no_such_module) cannot be loaded" in done.stderr


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


def test_a_mistake_in_a_definition_is_told_as_its_own_with_the_line(tmp_path: Path) -> None:
    @netferry.operator("my.ops::Mistaken")
    def mistaken(g: Any, x: Any) -> Any:
        return g.tanh(x)

    onnx.save(model("Mistaken"), tmp_path / "m.onnx")
    line = rf"test_extending\.py, line {mistaken.__code__.co_firstlineno + 2}"
    with pytest.raises(UnsupportedError, match=rf"my\.ops::Mistaken fails \(.*{line}\): AttributeError"):
        netferry.convert(tmp_path / "m.onnx", "pytorch", verify=False)


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
