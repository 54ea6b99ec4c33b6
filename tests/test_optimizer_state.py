"""Training that goes on in another framework: after a few steps in one, twenty more have the same losses in the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import netferry as command

import netferry
from netferry.converters.errors import NetferryError, UsageError
from netferry.converters.source import open_module

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf
import torch
from torch import nn
from torch.nn import functional as F

BEFORE, AFTER, ROWS = 5, 20, 8
RNG = np.random.default_rng(11)

# ---- models of PyTorch's and of Keras', each by what it takes ------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.conv1(x))
        return self.head(F.relu(y + self.conv2(y)).mean((2, 3)))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(11, 5), nn.LSTM(5, 4, batch_first=True, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embedding(ids))[0].mean(1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return self.head(y.mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3))


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3), nn.SiLU(), nn.Conv2d(6, 4, 1), nn.Flatten(), nn.Linear(4 * 16, 3)
    )


def conv_net() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
    )


def transposed() -> Any:
    layers = keras.layers
    inner = [layers.Conv2DTranspose(4, 3, strides=2), layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 3)), *inner])


def recurrent() -> Any:
    layers = keras.layers
    inner = [layers.Embedding(11, 5), layers.LSTM(4, use_bias=False), layers.Dense(3)]
    return keras.Sequential([keras.Input((7,), dtype="int64"), *inner])


def normalised() -> Any:
    layers = keras.layers
    inner = [layers.Dense(8, activation="relu"), layers.LayerNormalization(), layers.Dense(3)]
    return keras.Sequential([keras.Input((6,)), *inner])


def separable() -> Any:
    layers = keras.layers
    inner = [layers.SeparableConv2D(4, 3, activation="relu"), layers.GlobalMaxPooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 3)), *inner])


def floats(*sizes: int) -> Callable[[], np.ndarray]:
    return lambda: RNG.standard_normal((ROWS, *sizes)).astype(np.float32)


def ids() -> np.ndarray:
    return RNG.integers(0, 11, (ROWS, 7))


PYTORCH = {
    "mlp": (mlp, floats(6)),
    "residual": (Residual, floats(3, 6, 6)),
    "tagger": (Tagger, ids),
    "attending": (Attending, floats(5, 8)),
    "depthwise": (depthwise, floats(3, 6, 6)),
}
KERAS = {
    "conv_net": (conv_net, floats(6, 6, 3)),
    "transposed": (transposed, floats(6, 6, 3)),
    "recurrent": (recurrent, ids),
    "normalised": (normalised, floats(6)),
    "separable": (separable, floats(6, 6, 3)),
}

# ---- optimizers, as each framework has them ------------------------------------------------------------------

TORCH_OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, 0.03, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, 0.02, momentum=0.8, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, betas=(0.85, 0.99)),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
}
KERAS_OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "momentum": lambda: keras.optimizers.SGD(0.03, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.02, momentum=0.8, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01, beta_1=0.85, beta_2=0.99, epsilon=1e-8),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True, epsilon=1e-8),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-8),
}

Batches = list[tuple[np.ndarray, np.ndarray]]


def batches(make: Callable[[], np.ndarray]) -> Batches:
    return [(make(), RNG.standard_normal((ROWS, 3)).astype(np.float32)) for _ in range(3)]


def trained_in_pytorch(module: Any, optimizer: Any, data: Batches, steps: range) -> list[float]:
    module.train()
    losses = []
    for step in steps:
        x, wanted = (torch.from_numpy(array) for array in data[step % len(data)])
        optimizer.zero_grad()
        loss = F.mse_loss(module(x), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_in_keras(model: Any, optimizer: Any, data: Batches, steps: range) -> list[float]:
    losses = []
    variables = model.trainable_variables
    for step in steps:
        x, wanted = (tf.constant(array) for array in data[step % len(data)])
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            y = (
                y if tf.is_tensor(y) else next(iter(y.values()))
            )  # a model that came from elsewhere names its outputs
            loss = tf.reduce_mean((y - wanted) ** 2)
        slopes = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(
            list(map(tf.convert_to_tensor, slopes)), variables
        )  # of a sparse one Keras squares each slice by itself
        losses.append(float(loss))
    return losses


def far(step: int) -> float:
    """The losses of float32 in two frameworks part a little more with each step."""
    return 2e-5 * (step + 5)


def assert_equal(losses: list[float], truth: list[float]) -> None:
    assert truth[-1] != truth[0]
    for step, (one, other) in enumerate(zip(losses, truth, strict=True)):
        assert abs(one - other) <= far(step) * other, (step, one, other)


def pairs(models: Mapping[str, Any], more: Sequence[tuple[str, str]]) -> list[Any]:
    """Each model with an optimizer of its own, and some more; the first every day."""
    first, *others = [*zip(models, TORCH_OPTIMIZERS, strict=True), *more]
    return [first, *(pytest.param(*other, marks=pytest.mark.slow) for other in others)]


@pytest.mark.parametrize(("name", "kind"), pairs(PYTORCH, [("residual", "adam"), ("attending", "momentum")]))
def test_a_model_of_pytorchs_trains_on_in_keras(name: str, kind: str) -> None:
    make, shown = PYTORCH[name]
    torch.manual_seed(3)
    module, data = make(), batches(shown)
    optimizer = TORCH_OPTIMIZERS[kind](module.parameters())
    trained_in_pytorch(module, optimizer, data, range(BEFORE))
    done = netferry.convert(
        module, "keras", inputs={"x": data[0][0]}, verify=False, optimizer_state=optimizer
    )
    losses = trained_in_keras(done.model, done.optimizer, data, range(BEFORE, BEFORE + AFTER))
    truth = trained_in_pytorch(module, optimizer, data, range(BEFORE, BEFORE + AFTER))
    assert_equal(losses, truth)


@pytest.mark.parametrize(("name", "kind"), pairs(KERAS, [("recurrent", "adam"), ("separable", "momentum")]))
def test_a_keras_model_trains_on_in_pytorch(name: str, kind: str) -> None:
    make, shown = KERAS[name]
    keras.utils.set_random_seed(3)
    model, data = make(), batches(shown)
    optimizer = KERAS_OPTIMIZERS[kind]()
    optimizer.build(model.trainable_variables)
    trained_in_keras(model, optimizer, data, range(BEFORE))
    module = netferry.convert(model, "torch", verify=False).model
    state = netferry.optimizer_state(optimizer, model, module)
    ours = TORCH_OPTIMIZERS[kind](module.parameters())
    ours.load_state_dict({"state": state, "param_groups": ours.state_dict()["param_groups"]})
    losses = trained_in_pytorch(module, ours, data, range(BEFORE, BEFORE + AFTER))
    truth = trained_in_keras(model, optimizer, data, range(BEFORE, BEFORE + AFTER))
    assert_equal(losses, truth)


def test_files_carry_the_optimizer_both_ways(tmp_path: Path) -> None:
    """From Keras' file to PyTorch's folder and back, on the command line: the optimizer lies where each framework looks for it."""
    keras.utils.set_random_seed(3)
    model, data = conv_net(), batches(floats(6, 6, 3))
    model.compile(KERAS_OPTIMIZERS["adam"](), "mse")
    for x, wanted in data:
        model.train_on_batch(x, wanted)
    model.save(tmp_path / "net.keras")
    place = str(tmp_path / "net.keras")
    done = command(
        "convert", place, str(tmp_path / "net"), "--to", "pytorch", "--quick", "--optimizer-state", place
    )
    assert done.returncode == 0, done.stderr
    module = open_module(tmp_path / "net" / "model.py")
    ours = torch.optim.Adam(module.parameters())
    ours.load_state_dict(torch.load(tmp_path / "net" / "optimizer.pt"))
    assert ours.param_groups[0]["lr"] == pytest.approx(0.01)
    assert ours.param_groups[0]["betas"] == pytest.approx((0.85, 0.99))
    truth = trained_in_keras(model, model.optimizer, data, range(AFTER))
    assert_equal(trained_in_pytorch(module, ours, data, range(AFTER)), truth)

    torch.save({"optimizer": ours.state_dict()}, tmp_path / "checkpoint.pt")
    done = netferry.convert(
        module, destination=tmp_path / "again.keras", inputs={"x": data[0][0]}, quick=True,
        optimizer_state=tmp_path / "checkpoint.pt",
    )  # fmt: skip
    assert done.report is not None and done.report.status == "passed"
    again = keras.saving.load_model(tmp_path / "again.keras")
    assert type(again.optimizer).__name__ == "Adam" and int(again.optimizer.iterations) == len(data) + AFTER
    truth = trained_in_pytorch(module, ours, data, range(AFTER))
    assert_equal(trained_in_keras(again, again.optimizer, data, range(AFTER)), truth)


def test_what_no_other_framework_has_is_refused_by_name() -> None:
    module, data = mlp(), batches(floats(6))
    for optimizer, said in (
        (torch.optim.RMSprop(module.parameters()), "momentum"),
        (torch.optim.Adam(module.parameters(), weight_decay=0.1), "weight decay"),
        (torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, dampening=0.2), "dampening"),
        (torch.optim.SGD([{"params": [p], "lr": 0.1 * (n + 1)} for n, p in enumerate(module.parameters())], 0.1), "lr"),
        (torch.optim.Adam(mlp().parameters()), "none of the model's"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            netferry.convert(
                module, "keras", inputs={"x": data[0][0]}, verify=False, optimizer_state=optimizer
            )
    with pytest.raises(NetferryError, match="cannot go on in"):
        netferry.convert(
            module, "onnx", inputs={"x": data[0][0]}, optimizer_state=torch.optim.Adam(module.parameters())
        )
