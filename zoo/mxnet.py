"""The reference models as a Gluon user writes them, trained with ``gluon.Trainer`` under ``autograd``.

Classifiers return probabilities, here as in the other frameworks, so that outputs can be compared;
images are (batch, channels, height, width).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.mxnet.live import import_mxnet
from netferry.converters.signature import Array
from netferry.zoo.catalog import CATALOG, ModelSpec, Progress
from netferry.zoo.data import Dataset

mx = import_mxnet()

from mxnet import autograd, gluon, nd  # noqa: E402 - needs what import_mxnet puts in place
from mxnet.gluon import nn  # noqa: E402
from mxnet.lr_scheduler import CosineScheduler  # noqa: E402

TINY = 1e-30
"""Keeps the logarithm of a probability finite; its gradient is right down to here."""


class RNN(gluon.HybridBlock):
    def __init__(self, features: int, hidden: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.rnn = gluon.rnn.RNN(
                hidden,
                activation="tanh",
                layout="NTC",
                input_size=features,
                h2h_weight_initializer=mx.init.Orthogonal(scale=1),
            )
            self.head = nn.Dense(classes)

    def hybrid_forward(self, F: Any, rows: Any) -> Any:
        last = F.slice_axis(self.rnn(rows), axis=1, begin=-1, end=None)
        return F.softmax(self.head(last))


class LSTM(gluon.HybridBlock):
    def __init__(self, features: int, hidden: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.lstm = gluon.rnn.LSTM(hidden, layout="NTC", input_size=features)
            self.head = nn.Dense(classes)

    def hybrid_forward(self, F: Any, rows: Any) -> Any:
        last = F.slice_axis(self.lstm(rows), axis=1, begin=-1, end=None)
        return F.softmax(self.head(last))


class GRU(gluon.HybridBlock):
    def __init__(self, features: int, hidden: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.gru = gluon.rnn.GRU(hidden, layout="NTC", input_size=features)
            self.head = nn.Dense(classes)

    def hybrid_forward(self, F: Any, rows: Any) -> Any:
        last = F.slice_axis(self.gru(rows), axis=1, begin=-1, end=None)
        return F.softmax(self.head(last))


class BiLSTM(gluon.HybridBlock):
    def __init__(self, features: int, hidden: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.lstm = gluon.rnn.LSTM(hidden, layout="NTC", bidirectional=True, input_size=features)
            self.head = nn.Dense(classes)

    def hybrid_forward(self, F: Any, rows: Any) -> Any:
        down, up = F.split(self.lstm(rows), axis=2, num_outputs=2)
        last = F.slice_axis(down, axis=1, begin=-1, end=None)
        first = F.slice_axis(up, axis=1, begin=0, end=1)
        return F.softmax(self.head(F.concat(last, first, dim=2)))


class ResidualCNN(gluon.HybridBlock):
    def __init__(self, channels: int, filters: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.stem = nn.Conv2D(filters, 3, padding=1, use_bias=False, in_channels=channels)
            self.norm = nn.BatchNorm()
            self.conv1 = nn.Conv2D(filters, 3, padding=1, use_bias=False)
            self.norm1 = nn.BatchNorm()
            self.conv2 = nn.Conv2D(filters, 3, padding=1, use_bias=False)
            self.norm2 = nn.BatchNorm()
            self.pool = nn.MaxPool2D(2)
            self.dropout = nn.Dropout(0.3)
            self.head = nn.Dense(classes)

    def hybrid_forward(self, F: Any, image: Any) -> Any:
        x = self.pool(F.relu(self.norm(self.stem(image))))
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        x = self.pool(F.relu(x + y))
        return F.softmax(self.head(self.dropout(F.flatten(x))))


def linear(spec: ModelSpec = CATALOG["linear"]) -> Any:
    features, outputs = spec.sizes
    return nn.Dense(outputs, in_units=features, prefix="linear_")


def linear_diabetes(spec: ModelSpec = CATALOG["linear-diabetes"]) -> Any:
    features, outputs = spec.sizes
    return nn.Dense(outputs, in_units=features, prefix="linear_")


def logistic(spec: ModelSpec = CATALOG["logistic"]) -> Any:
    features, outputs = spec.sizes
    return nn.Dense(outputs, activation="sigmoid", in_units=features, prefix="linear_")


def cnn_binary(spec: ModelSpec = CATALOG["cnn-binary"]) -> Any:
    channels, filters, units, outputs = spec.sizes
    net = nn.HybridSequential(prefix="cnn_")
    with net.name_scope():
        net.add(
            nn.Conv2D(filters, 3, activation="relu", in_channels=channels),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(units, activation="relu"),
            nn.Dense(outputs, activation="sigmoid"),
        )
    return net


def cnn(spec: ModelSpec = CATALOG["cnn"]) -> Any:
    channels, first, second, units, classes = spec.sizes
    net = nn.HybridSequential(prefix="cnn_")
    with net.name_scope():
        net.add(
            nn.Conv2D(first, 3, activation="relu", in_channels=channels),
            nn.MaxPool2D(2),
            nn.Conv2D(second, 3, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(units, activation="relu"),
            nn.Dense(classes),
            nn.HybridLambda("softmax"),
        )
    return net


def rnn(spec: ModelSpec = CATALOG["rnn"]) -> RNN:
    return RNN(*spec.sizes, prefix="rnn_")


def lstm(spec: ModelSpec = CATALOG["lstm"]) -> LSTM:
    return LSTM(*spec.sizes, prefix="lstm_")


def gru(spec: ModelSpec = CATALOG["gru"]) -> GRU:
    return GRU(*spec.sizes, prefix="gru_")


def bilstm(spec: ModelSpec = CATALOG["bilstm"]) -> BiLSTM:
    return BiLSTM(*spec.sizes, prefix="bilstm_")


def mlp(spec: ModelSpec = CATALOG["mlp"]) -> Any:
    pixels, first, second, classes = spec.sizes
    net = nn.HybridSequential(prefix="mlp_")
    with net.name_scope():
        net.add(
            nn.Dense(first, in_units=pixels),
            nn.LayerNorm(),
            nn.Activation("relu"),
            nn.Dense(second),
            nn.LayerNorm(),
            nn.Activation("relu"),
            nn.Dense(classes),
            nn.HybridLambda("softmax"),
        )
    return net


def cnn_bn(spec: ModelSpec = CATALOG["cnn-bn"]) -> ResidualCNN:
    return ResidualCNN(*spec.sizes, prefix="cnn_")


_cross_entropy: Any = gluon.loss.SoftmaxCELoss(from_logits=True)

LOSSES: Mapping[str, Callable[[Any, Any], Any]] = {
    "regression": gluon.loss.L2Loss(weight=2),  # Gluon halves the squared error; this is the whole
    "binary": gluon.loss.SigmoidBCELoss(from_sigmoid=True),
    "classes": lambda probabilities, y: _cross_entropy(nd.maximum(probabilities, TINY).log(), y),
}


def seed(value: int) -> None:
    """Fix what MXNet draws from: initial weights and dropout; the order of batches is numpy's to draw."""
    mx.random.seed(value)


def build(spec: ModelSpec) -> Any:
    """The untrained model, its weights drawn and its graph traced by one pass."""
    model = globals()[spec.factory](spec)
    model.initialize(mx.init.Xavier())
    model.hybridize()
    example = np.zeros([1, *(size or 1 for size in spec.dims)], np.float32)
    predict(model, example)
    return model


def to_native(x: Array) -> Array:
    """Images to (batch, channels, height, width); anything else is as it should be."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def train(model: Any, spec: ModelSpec, dataset: Dataset, progress: Progress) -> list[float]:
    """Record, backward, step; returns the mean loss of each pass over the data."""
    rows = gluon.data.ArrayDataset(dataset.x_train, dataset.y_train)
    batches = gluon.data.DataLoader(rows, batch_size=spec.batch_size, shuffle=True)
    schedule = CosineScheduler(spec.epochs * len(batches), base_lr=spec.learning_rate)
    settings = {"learning_rate": spec.learning_rate, "lr_scheduler": schedule}
    trainer = gluon.Trainer(model.collect_params(), spec.optimizer, settings)
    loss_of = LOSSES[spec.task]
    history: list[float] = []
    for epoch in range(spec.epochs):
        total = 0.0
        for x, y in batches:
            with autograd.record():
                loss = loss_of(model(x), y)
            loss.backward()
            trainer.step(len(x))
            total += float(loss.sum().asscalar())
        history.append(total / len(rows))
        progress(epoch + 1, spec.epochs, f"loss {history[-1]:.4f}")
    return history


def predict(model: Any, x: Array) -> Array:
    """The outputs for ``x`` as the zoo's data has it, in inference mode."""
    outputs: Array = model(nd.array(to_native(x))).asnumpy()
    return outputs


def save(model: Any, directory: Path, name: str) -> list[Path]:
    """The symbol and its parameters, as ``export`` writes them for deployment."""
    model.export(str(directory / name), epoch=0)
    return [directory / f"{name}-symbol.json", directory / f"{name}-0000.params"]


def load(spec: ModelSpec, directory: Path) -> Any:
    """The model that ``save`` left in ``directory``."""
    prefix = directory / spec.name
    return gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
