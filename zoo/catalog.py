"""The reference models, as data. What is true of a model in every framework stands here, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from netferry.converters.errors import UsageError, nearest

Task = Literal["regression", "binary", "classes"]
"""What a model gives: a number, the probability of yes, or one probability per class."""

Metric = Literal["slope", "R2", "accuracy"]
"""What its held-out rows are judged by: the slope of the line that was found (its intercept stands
beside it), the share of variance explained, the share of rows classified right."""

Progress = Callable[[int, int, str], None]
"""Called after each pass over the data with passes done, passes in all, and a line on how it goes."""

CLASSES = 10
"""The digits."""


@dataclass(frozen=True)
class ModelSpec:
    """One reference model.

    ``input`` names what goes in, ``dims`` are its sizes without the batch (images height, width,
    channels; None is a free length), ``hidden`` the sizes of the layers between, ``outputs`` how many numbers
    come out. ``floor`` is the least that ``metric`` must reach on held-out rows.
    """

    name: str
    title: str
    formula: str
    data: str
    task: Task
    input: str
    dims: tuple[int | None, ...]
    hidden: tuple[int, ...]
    outputs: int
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adam"]
    learning_rate: float
    metric: Metric
    floor: float
    seed: int = 3

    @property
    def sizes(self) -> tuple[int, ...]:
        """Features or channels in, hidden sizes, outputs: what a model is made from."""
        features = self.dims[-1]
        assert features is not None
        return (features, *self.hidden, self.outputs)

    @property
    def factory(self) -> str:
        """The name of the function that makes this model, in each framework's file."""
        return self.name.replace("-", "_")


_DATA: Mapping[str, tuple[Task, str, tuple[int | None, ...], int, Metric]] = {
    "line": ("regression", "features", (1,), 1, "slope"),
    "diabetes": ("regression", "features", (10,), 1, "R2"),
    "breast-cancer": ("binary", "features", (30,), 1, "accuracy"),
    "textures": ("binary", "image", (32, 32, 3), 1, "accuracy"),
    "digits": ("classes", "image", (28, 28, 1), CLASSES, "accuracy"),
    "digit-rows": ("classes", "rows", (None, 28), CLASSES, "accuracy"),
    "digit-pixels": ("classes", "pixels", (784,), CLASSES, "accuracy"),
}
"""What a model is for that learns from this data: ``task``, ``input``, ``dims``, ``outputs``, ``metric``."""


def _model(
    name: str,
    title: str,
    formula: str,
    data: str,
    *hidden: int,
    floor: float,
    epochs: int,
    rate: float,
    optimizer: Literal["sgd", "adam"] = "adam",
    batch: int = 32,
    seed: int = 3,
) -> ModelSpec:
    task, given, dims, outputs, metric = _DATA[data]
    return ModelSpec(
        name, title, formula, data, task, given, dims, hidden, outputs, epochs, batch, optimizer, rate, metric, floor, seed,
    )  # fmt: skip


# fmt: off
_MODELS = (
    _model("linear", "Linear regression on a line", "y = w x + b, learnt from y = 3 x + 2 + noise",
           "line", floor=2.9, epochs=20, rate=0.05, optimizer="sgd", batch=16),
    _model("linear-diabetes", "Linear regression on the diabetes data", "y = w · x + b",
           "diabetes", floor=0.40, epochs=60, rate=0.03, optimizer="sgd"),
    _model("logistic", "Logistic regression on the breast-cancer data", "P(y=1|x) = 1 / (1 + exp(-(θ · x + b)))",
           "breast-cancer", floor=0.95, epochs=30, rate=0.3, optimizer="sgd", seed=7),
    _model("cnn-binary", "A small convolutional net that tells two textures apart",
           "P(y=1|x) = σ(W₂ relu(W₁ flatten(maxpool(relu(K * x)))))",
           "textures", 32, 10, floor=0.95, epochs=8, rate=3e-4),
    _model("cnn", "A convolutional net that reads digits",
           "softmax(W₂ relu(W₁ flatten(pool(relu(K₂ * pool(relu(K₁ * x)))))))",
           "digits", 32, 64, 128, floor=0.97, epochs=8, rate=2e-3),
    _model("rnn", "A plain recurrent net that reads digits row by row", "h_t = tanh(W x_t + U h_(t-1) + b)",
           "digit-rows", 128, floor=0.90, epochs=25, rate=7e-4),
    _model("lstm", "An LSTM that reads digits row by row", "c_t = f ⊙ c_(t-1) + i ⊙ g,  h_t = o ⊙ tanh(c_t)",
           "digit-rows", 64, floor=0.95, epochs=16, rate=5e-3, batch=64),
    _model("gru", "A GRU that reads digits row by row",
           "h_t = (1 - z) ⊙ n + z ⊙ h_(t-1),  n = tanh(W x_t + r ⊙ (U h_(t-1) + b))",
           "digit-rows", 64, floor=0.95, epochs=12, rate=1e-2, batch=64),
    _model("bilstm", "An LSTM that reads digits from the top and from the bottom", "softmax(W [h→_T ; h←_1])",
           "digit-rows", 48, floor=0.95, epochs=12, rate=5e-3),
    _model("mlp", "Two hidden layers with LayerNorm", "softmax(W₃ relu(LN(W₂ relu(LN(W₁ x)))))",
           "digit-pixels", 128, 64, floor=0.95, epochs=12, rate=1e-3),
    _model("cnn-bn", "A residual block with BatchNorm, and Dropout before the head",
           "softmax(W drop(flatten(pool(relu(x + BN(K₃ * relu(BN(K₂ * x))))))), x = pool(relu(BN(K₁ * image)))",
           "digits", 16, floor=0.97, epochs=8, rate=2e-3),
)
# fmt: on

CATALOG: Mapping[str, ModelSpec] = {spec.name: spec for spec in _MODELS}


def named(name: str) -> ModelSpec:
    """The model called ``name``."""
    if name not in CATALOG:
        raise UsageError(
            "the zoo has no such model",
            expected=f"one of {', '.join(CATALOG)}",
            received=name,
            remedy=nearest(name, CATALOG),
        )
    return CATALOG[name]
