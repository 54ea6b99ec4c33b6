"""A part of a model is a model: cut by name in each framework, with fixed sizes, under other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.part import sizes_from_flags

RNG = np.random.default_rng(7)
X = RNG.standard_normal((3, 3, 8, 8)).astype(np.float32)


def graph() -> onnx.ModelProto:
    """Conv, Relu, pool, Flatten, Gemm; the sizes between are not declared."""
    weights = {"w": RNG.standard_normal((4, 3, 3, 3)), "v": RNG.standard_normal((4, 5))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], name="head"),
    ]
    made = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def whole(model: onnx.ModelProto, *names: str) -> list[Any]:
    """What the whole graph has at these tensors, by onnxruntime."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": X}))


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", ["r", "relu", "r_output"])
def test_a_graph_ends_at_a_tensor_or_a_node(name: str) -> None:
    model = graph()
    if name == "r_output":
        with pytest.raises(netferry.NetferryError, match="no tensor 'q_output'"):
            netferry.convert(model, "onnx", outputs="q_output")
    done = netferry.convert(model, "pytorch", outputs=[name])
    assert done.report is not None and done.report.status == "passed"
    (got,) = netferry.run(done.model, [X]).values()
    close(got, whole(model, "r")[0])


def test_a_graph_begins_inside_and_its_weights_stay_behind() -> None:
    model = graph()
    done = netferry.convert(model, "onnx", input_at="relu", rename={"r": "features", "y": "scores"})
    inner, right = whole(model, "r", "y")
    assert done.report is not None and done.report.status == "passed"
    assert [tensor.name for tensor in done.model.graph.initializer] == ["v"]
    close(netferry.run(done.model, {"features": inner})["scores"], right)


def test_fixed_sizes_are_the_models_sizes() -> None:
    model = graph()
    done = netferry.convert(model, "onnx", fix={"x": (2, 3, 10, 12)})
    (x,), (y,) = done.export.model.graph.inputs, done.export.model.graph.outputs
    assert (list(x.shape or ()), list(y.shape or ())) == ([2, 3, 10, 12], [2, 5])
    with pytest.raises(netferry.NetferryError, match="axis 1 of input 'x'"):
        netferry.convert(model, "onnx", fix={"x": (2, 4, 10, 12)})
    with pytest.raises(netferry.NetferryError, match="no input 'z'"):
        netferry.convert(model, "onnx", fix={"z": (1,)})


def test_a_condition_on_a_fixed_size_is_decided() -> None:
    """A branch that drops an axis leaves no rank while sizes are free."""
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["x"], [f"{operator}_out"])],
            operator,
            [],
            [helper.make_tensor_value_info(f"{operator}_out", TensorProto.FLOAT, None)],
        )
        for operator in ("Squeeze", "Relu")
    ]
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "one"], ["d"]),
        helper.make_node("Equal", ["d", "one"], ["is"]),
        helper.make_node("If", ["is"], ["z"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("ReduceMax", ["z"], ["y"], axes=[-1], keepdims=0),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(1), "one")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    done = netferry.convert(model, "tensorflow", fix={"x": (3, 2, 4)})
    assert done.report is not None and done.report.status == "passed"


def test_names_are_listed_and_the_nearest_is_told() -> None:
    model = graph()
    listed = {spec.name: spec.dims for spec in netferry.inspect(model, layers=True).layers}
    assert listed["r"] == ("n", 4, "h", "w") and listed["f"] == ("n", 4)
    with pytest.raises(netferry.NetferryError, match="no tensor 'relo' in the model: expected relu"):
        netferry.convert(model, "onnx", outputs=["relo"])
    with pytest.raises(netferry.NetferryError, match="begin and end reads 'y'"):
        netferry.convert(model, "onnx", outputs=["r"], input_at=["y"])


def test_verify_compares_a_part() -> None:
    model = graph()
    part = netferry.convert(model, "onnx", outputs=["g"], verify=False).model
    assert netferry.verify(model, part, outputs=["g"], seed=1).status == "passed"
    assert netferry.verify(model, part, outputs=["f"], seed=1).status == "failed"


def test_flags_of_sizes() -> None:
    assert sizes_from_flags(["x:1,3, 640,640", "y=2"]) == {"x": (1, 3, 640, 640), "y": (2,)}
    with pytest.raises(netferry.NetferryError, match="name:sizes"):
        sizes_from_flags(["x:batch"])


# ---- PyTorch ------------------------------------------------------------------------------------------------


def module() -> Any:
    """A network whose last lines depend on data."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
            self.rnn = nn.LSTM(4, 6, batch_first=True)
            self.head = nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rows, _ = self.rnn(self.body(x).flatten(2).transpose(1, 2))
            y = self.head(rows.reshape(x.shape[0], 6))
            return torch.cat([row[row > 0] for row in y if row.sum().item() > 0])

    torch.manual_seed(3)
    return Net().eval()


def test_a_module_is_carried_up_to_where_data_decides() -> None:
    import torch

    net = module()
    state, hooks = {name: id(part) for name, part in net.named_modules()}, len(net.head._forward_hooks)
    done = netferry.convert(net, "onnx", inputs={"x": X}, outputs=["head", "body.1"])
    assert done.report is not None and done.report.status == "passed" and done.route == "direct"
    with torch.no_grad():
        inner = net.body[:2](torch.from_numpy(X[:2]))
    close(netferry.run(done.model, {"x": X[:2]})["body.1"], inner.numpy())
    assert {name: id(part) for name, part in net.named_modules()} == state
    assert len(net.head._forward_hooks) == hooks
    assert "head.weight" in {tensor.name for tensor in done.model.graph.initializer}


def test_a_module_begins_at_a_submodule() -> None:
    import torch

    net = module()
    done = netferry.convert(net, "onnx", inputs={"x": X}, outputs=["head"], input_at=["body"])
    assert done.report is not None and done.report.status == "passed"
    there = torch.randn(5, 4, 1, 1)
    with torch.no_grad():
        right = net.head(net.rnn(there.flatten(2).transpose(1, 2))[0].reshape(5, 6))
    close(netferry.run(done.model, {"body": there.numpy()})["head"], right.numpy())


def test_a_part_that_reads_the_models_inputs_too_is_refused() -> None:
    import torch
    from torch import nn

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.b(self.a(x) + x))

    x = RNG.standard_normal((2, 4)).astype(np.float32)
    with pytest.raises(netferry.NetferryError, match="not made of a alone"):
        netferry.convert(Skip().eval(), "onnx", inputs={"x": x}, outputs=["b"], input_at=["a"])
    with pytest.raises(netferry.NetferryError, match="no submodule 'c'"):
        netferry.convert(Skip().eval(), "onnx", inputs={"x": x}, outputs=["c"])
    listed = netferry.inspect(Skip().eval(), inputs={"x": x}, layers=True).layers
    assert [(spec.name, spec.dims) for spec in listed] == [("a", (2, 4)), ("b", (2, 2))]


# ---- Keras and MXNet ----------------------------------------------------------------------------------------


def test_a_keras_model_is_cut_at_layers_also_of_a_model_inside(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    base = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="c1"), layers.ReLU(name="r1")], name="base"
    )
    image = keras.Input((8, 8, 3), name="image")
    y = layers.Dense(3, name="d")(layers.GlobalAveragePooling2D(name="gap")(base(image)))
    model, x = keras.Model(image, y), X.transpose(0, 2, 3, 1)
    done = netferry.convert(model, "onnx", outputs=["base/c1", "gap"])
    assert done.report is not None and done.report.status == "passed"
    inner = np.asarray(base.get_layer("c1")(x))
    got = list(netferry.run(done.model, {"image": x}).values())
    close(got[0], inner)
    close(got[1], np.maximum(inner, 0).mean((1, 2)))
    model.save(tmp_path / "m.keras")
    done = netferry.convert(tmp_path / "m.keras", "pytorch", input_at=["gap"], rename={"d": "logits"})
    assert done.report is not None and done.report.status == "passed"
    assert [spec.name for spec in done.imported.signature.inputs] == ["gap"]  # type: ignore[union-attr]
    close(netferry.run(done.model, {"gap": got[1]})["logits"], np.asarray(model(x)))


def test_an_mxnet_symbol_is_cut_as_get_internals_names_it() -> None:
    from netferry.converters.mxnet.files import SymbolModel
    from netferry.converters.mxnet.symbol import Node, Symbol

    weights = {"w1": (6, 5), "b1": (6,), "w2": (3, 6), "b2": (3,)}
    nodes = (
        Node("data", "null"),
        *(Node(name, "null") for name in weights),
        Node("fc1", "FullyConnected", {"num_hidden": "6"}, {}, ((0, 0), (1, 0), (2, 0))),
        Node("act", "Activation", {"act_type": "relu"}, {}, ((5, 0),)),
        Node("fc2", "FullyConnected", {"num_hidden": "3"}, {}, ((6, 0), (3, 0), (4, 0))),
    )
    params = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    model = SymbolModel(Symbol(nodes, ((7, 0),)), params)
    x = RNG.standard_normal((4, 5)).astype(np.float32)
    hidden = np.maximum(x @ params["w1"].T + params["b1"], 0)
    for name in ("act_output", "act"):
        done = netferry.convert(model, "onnx", inputs={"data": x}, outputs=[name], verify=False)
        close(netferry.run(done.model, {"data": x})["act_output"], hidden)
    done = netferry.convert(model, "onnx", inputs={"act_output": hidden}, input_at="act_output", verify=False)
    close(*netferry.run(done.model, [hidden]).values(), hidden @ params["w2"].T + params["b2"])
    with pytest.raises(netferry.NetferryError, match="no tensor 'fc9'"):
        netferry.convert(model, "onnx", inputs={"data": x}, outputs=["fc9"])
