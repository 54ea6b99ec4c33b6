"""The reference models as a PyTorch user writes them, and the loop that trains them.

Classifiers return probabilities, here as in the other frameworks, so that outputs can be compared;
images are (batch, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from netferry.converters.signature import Array
from netferry.zoo.catalog import CATALOG, ModelSpec, Progress
from netferry.zoo.data import Dataset

TINY = 1e-30
"""Keeps the logarithm of a probability finite; its gradient is right down to here."""


class LinearRegression(nn.Module):
    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)


class LogisticRegression(nn.Module):
    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, outputs)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features).sigmoid()


class BinaryCNN(nn.Module):
    def __init__(self, channels: int, filters: int, units: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(filters * 15 * 15, units)
        self.head = nn.Linear(units, outputs)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.conv(image).relu())
        x = self.hidden(x.flatten(1)).relu()
        return self.head(x).sigmoid()


class CNN(nn.Module):
    def __init__(self, channels: int, first: int, second: int, units: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, first, 3)
        self.conv2 = nn.Conv2d(first, second, 3)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(second * 5 * 5, units)
        self.head = nn.Linear(units, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.conv1(image).relu())
        x = self.pool(self.conv2(x).relu())
        x = self.hidden(x.flatten(1)).relu()
        return self.head(x).softmax(dim=-1)


class RNN(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(features, hidden, batch_first=True)
        nn.init.orthogonal_(self.rnn.get_parameter("weight_hh_l0"))
        self.head = nn.Linear(hidden, classes)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.rnn(rows)
        return self.head(states[:, -1]).softmax(dim=-1)


class LSTM(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.lstm(rows)
        return self.head(states[:, -1]).softmax(dim=-1)


class GRU(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.gru(rows)
        return self.head(states[:, -1]).softmax(dim=-1)


class BiLSTM(nn.Module):
    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, rows: Tensor) -> Tensor:
        _, (last, _) = self.lstm(rows)
        both = torch.cat([last[0], last[1]], dim=-1)
        return self.head(both).softmax(dim=-1)


class MLP(nn.Module):
    def __init__(self, pixels: int, first: int, second: int, classes: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(pixels, first)
        self.norm1 = nn.LayerNorm(first)
        self.hidden2 = nn.Linear(first, second)
        self.norm2 = nn.LayerNorm(second)
        self.head = nn.Linear(second, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm1(self.hidden1(pixels)).relu()
        x = self.norm2(self.hidden2(x)).relu()
        return self.head(x).softmax(dim=-1)


class ResidualCNN(nn.Module):
    def __init__(self, channels: int, filters: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(filters * 7 * 7, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.norm(self.stem(image)).relu())
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y))
        x = self.pool((x + y).relu())
        return self.head(self.dropout(x.flatten(1))).softmax(dim=-1)


def linear(spec: ModelSpec = CATALOG["linear"]) -> LinearRegression:
    return LinearRegression(*spec.sizes)


def linear_diabetes(spec: ModelSpec = CATALOG["linear-diabetes"]) -> LinearRegression:
    return LinearRegression(*spec.sizes)


def logistic(spec: ModelSpec = CATALOG["logistic"]) -> LogisticRegression:
    return LogisticRegression(*spec.sizes)


def cnn_binary(spec: ModelSpec = CATALOG["cnn-binary"]) -> BinaryCNN:
    return BinaryCNN(*spec.sizes)


def cnn(spec: ModelSpec = CATALOG["cnn"]) -> CNN:
    return CNN(*spec.sizes)


def rnn(spec: ModelSpec = CATALOG["rnn"]) -> RNN:
    return RNN(*spec.sizes)


def lstm(spec: ModelSpec = CATALOG["lstm"]) -> LSTM:
    return LSTM(*spec.sizes)


def gru(spec: ModelSpec = CATALOG["gru"]) -> GRU:
    return GRU(*spec.sizes)


def bilstm(spec: ModelSpec = CATALOG["bilstm"]) -> BiLSTM:
    return BiLSTM(*spec.sizes)


def mlp(spec: ModelSpec = CATALOG["mlp"]) -> MLP:
    return MLP(*spec.sizes)


def cnn_bn(spec: ModelSpec = CATALOG["cnn-bn"]) -> ResidualCNN:
    return ResidualCNN(*spec.sizes)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "regression": F.mse_loss,
    "binary": F.binary_cross_entropy,
    "classes": lambda probabilities, y: F.nll_loss(probabilities.clamp_min(TINY).log(), y),
}

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
}


def seed(value: int) -> None:
    """Fix what PyTorch draws from: initial weights, dropout, the order of batches."""
    torch.manual_seed(value)


def build(spec: ModelSpec) -> nn.Module:
    """The untrained model."""
    model: nn.Module = globals()[spec.factory](spec)
    return model


def to_native(x: Array) -> Array:
    """Images to (batch, channels, height, width); anything else is as it should be."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def train(model: nn.Module, spec: ModelSpec, dataset: Dataset, progress: Progress) -> list[float]:
    """Forward, loss, backward, step; returns the mean loss of each pass over the data."""
    rows = TensorDataset(torch.from_numpy(dataset.x_train), torch.from_numpy(dataset.y_train))
    batches = DataLoader(rows, batch_size=spec.batch_size, shuffle=True)
    optimizer = OPTIMIZERS[spec.optimizer](model.parameters(), lr=spec.learning_rate)
    schedule = CosineAnnealingLR(optimizer, T_max=spec.epochs * len(batches))
    loss_of = LOSSES[spec.task]
    history: list[float] = []
    model.train()
    for epoch in range(spec.epochs):
        total = 0.0
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(x)
        history.append(total / len(rows))
        progress(epoch + 1, spec.epochs, f"loss {history[-1]:.4f}")
    model.eval()
    return history


def predict(model: nn.Module, x: Array) -> Array:
    """The outputs for ``x`` as the zoo's data has it, in inference mode."""
    model.eval()
    with torch.inference_mode():
        outputs: Array = model(torch.from_numpy(to_native(x))).numpy()
    return outputs


def save(model: nn.Module, directory: Path, name: str) -> list[Path]:
    """The state dict as safetensors; it loads into what the factory makes."""
    path = directory / f"{name}.safetensors"
    save_file(model.state_dict(), path)
    return [path]


def load(spec: ModelSpec, directory: Path) -> Any:
    """The model that ``save`` left in ``directory``."""
    model = build(spec)
    model.load_state_dict(load_file(directory / f"{spec.name}.safetensors"))
    return model.eval()
