"""What arrived is called as its framework's models are: with gradients on and in training mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F

import netferry
from netferry.converters.pytorch.training import rehearse
from netferry.validation.reports import junit


class Frozen(nn.Module):
    """A normalisation whose weights stand where statistics do: PyTorch refuses it wherever gradients are on."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.var = nn.Parameter(torch.rand(3)), nn.Parameter(torch.rand(3) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, self.mean, self.var)


class Sound(Frozen):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / (self.var + 1e-5).sqrt()


class OnlyRuns(Sound):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise NotImplementedError("for inference alone")
        return super().forward(x)


def alike(cls: type[nn.Module]) -> nn.Module:
    torch.manual_seed(7)
    return cls()


SHOWN = {"x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}


@pytest.mark.parametrize(
    ("target", "why"), [(Frozen, "with gradients on"), (OnlyRuns, "in training mode: for inference")]
)
def test_a_target_that_cannot_be_trained_fails_in_one_sentence(target: type[nn.Module], why: str) -> None:
    report = netferry.verify(alike(Sound), alike(target), SHOWN, seed=1)
    assert all(one.comparison.status == "passed" for one in report.outputs)
    assert report.status == "failed"
    assert why in report.unusable
    assert report.reason == f"the result cannot be used: {report.unusable}"
    assert report.reason in report.to_text().splitlines()[0]
    assert "<failure" in junit.of_report(report.to_dict())


def test_what_the_source_cannot_do_either_is_no_fault_of_the_target() -> None:
    assert netferry.verify(alike(OnlyRuns), alike(OnlyRuns), SHOWN, seed=1).status == "passed"


def test_the_model_is_afterwards_what_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).eval()
    module[2].train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes, state = [part.training for part in module.modules()], torch.get_rng_state()
    assert rehearse(module, [SHOWN["x"]]) == ""
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert [part.training for part in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_batch_of_one_row_is_too_small_for_statistics_and_no_fault() -> None:
    assert rehearse(nn.Sequential(nn.BatchNorm1d(3)).eval(), [SHOWN["x"][:1]]) == ""


def test_a_keras_model_is_afterwards_what_it_was() -> None:
    keras = pytest.importorskip("keras")
    from netferry.converters.tensorflow.training import rehearse as rehearse_keras

    x = keras.Input((3,))
    y = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(4)(x)))
    model = keras.Model(x, y)
    before = [np.array(variable) for variable in model.variables]
    assert rehearse_keras(model, [SHOWN["x"]]) == ""
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))


def test_a_keras_model_that_raises_in_training_mode_is_told() -> None:
    keras = pytest.importorskip("keras")
    from netferry.converters.tensorflow.training import rehearse as rehearse_keras

    class OnlyInfers(keras.layers.Layer):
        def call(self, x: object, training: bool = False) -> object:
            if training:
                raise RuntimeError("for inference alone")
            return x

    x = keras.Input((3,))
    assert "in training mode" in rehearse_keras(keras.Model(x, OnlyInfers()(x)), [SHOWN["x"]])


def test_a_network_of_mxnet_runs_in_training_mode_and_keeps_its_statistics() -> None:
    from netferry.converters.mxnet.live import import_mxnet

    pytest.importorskip("netferry.converters.mxnet.training")
    mx = import_mxnet()
    from netferry.converters.mxnet.training import rehearse as rehearse_mxnet

    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(4), mx.gluon.nn.BatchNorm(), mx.gluon.nn.Dropout(0.5))
    net.initialize()
    net(mx.nd.array(SHOWN["x"]))
    before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    assert rehearse_mxnet(net, [SHOWN["x"]]) == ""
    assert all(np.array_equal(p.data().asnumpy(), before[n]) for n, p in net.collect_params().items())


def test_an_unread_empty_input_is_no_fault_of_a_network_of_mxnet() -> None:
    """To MXNet 0 is a size that is not known, so that it infers none."""
    x, axes = TensorProto.FLOAT, TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("x", x, (3, 4)),
        helper.make_tensor_value_info("axes", axes, (0,)),
    ]
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"])], "g", inputs,
        [helper.make_tensor_value_info("y", x, (1, 1))],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    report = netferry.convert(proto, "mxnet").report
    assert report is not None and report.status == "passed", report and report.to_text()
