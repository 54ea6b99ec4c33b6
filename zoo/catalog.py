"""The reference models, as data. What is true of a model in every framework stands here, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from netferry.converters.errors import UsageError

Task = Literal["regression", "binary", "classes"]
"""What a model gives: a number, the probability of yes, or one probability per class."""

Metric = Literal["slope", "R2", "accuracy"]
"""What its held-out rows are judged by: the slope of the line that was found (its intercept stands
beside it), the share of variance explained, the share of rows told right."""

Progress = Callable[[int, int, str], None]
"""Called after each pass over the data with passes done, passes in all, and a word on how it goes."""

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


_ROWS = (None, 28)
_DIGIT = (28, 28, 1)

CATALOG: Mapping[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            name="linear",
            title="Linear regression on a line",
            formula="y = w x + b, learnt from y = 3 x + 2 + noise",
            data="line",
            task="regression",
            input="features",
            dims=(1,),
            hidden=(),
            outputs=1,
            epochs=20,
            batch_size=16,
            optimizer="sgd",
            learning_rate=0.05,
            metric="slope",
            floor=2.9,
        ),
        ModelSpec(
            name="linear-diabetes",
            title="Linear regression on the diabetes data",
            formula="y = w · x + b",
            data="diabetes",
            task="regression",
            input="features",
            dims=(10,),
            hidden=(),
            outputs=1,
            epochs=60,
            batch_size=32,
            optimizer="sgd",
            learning_rate=0.03,
            metric="R2",
            floor=0.40,
        ),
        ModelSpec(
            name="logistic",
            title="Logistic regression on the breast-cancer data",
            formula="P(y=1|x) = 1 / (1 + exp(-(θ · x + b)))",
            data="breast-cancer",
            task="binary",
            input="features",
            dims=(30,),
            hidden=(),
            outputs=1,
            epochs=30,
            batch_size=32,
            optimizer="sgd",
            learning_rate=0.3,
            metric="accuracy",
            floor=0.95,
            seed=7,
        ),
        ModelSpec(
            name="cnn-binary",
            title="A small convolutional net that tells two textures apart",
            formula="P(y=1|x) = σ(W₂ relu(W₁ flatten(maxpool(relu(K * x)))))",
            data="textures",
            task="binary",
            input="image",
            dims=(32, 32, 3),
            hidden=(32, 10),
            outputs=1,
            epochs=8,
            batch_size=32,
            optimizer="adam",
            learning_rate=3e-4,
            metric="accuracy",
            floor=0.95,
        ),
        ModelSpec(
            name="cnn",
            title="A convolutional net that reads digits",
            formula="softmax(W₂ relu(W₁ flatten(pool(relu(K₂ * pool(relu(K₁ * x)))))))",
            data="digits",
            task="classes",
            input="image",
            dims=_DIGIT,
            hidden=(32, 64, 128),
            outputs=CLASSES,
            epochs=8,
            batch_size=32,
            optimizer="adam",
            learning_rate=2e-3,
            metric="accuracy",
            floor=0.97,
        ),
        ModelSpec(
            name="rnn",
            title="A plain recurrent net that reads digits row by row",
            formula="h_t = tanh(W x_t + U h_(t-1) + b)",
            data="digit-rows",
            task="classes",
            input="rows",
            dims=_ROWS,
            hidden=(128,),
            outputs=CLASSES,
            epochs=25,
            batch_size=32,
            optimizer="adam",
            learning_rate=7e-4,
            metric="accuracy",
            floor=0.90,
        ),
        ModelSpec(
            name="lstm",
            title="An LSTM that reads digits row by row",
            formula="c_t = f ⊙ c_(t-1) + i ⊙ g,  h_t = o ⊙ tanh(c_t)",
            data="digit-rows",
            task="classes",
            input="rows",
            dims=_ROWS,
            hidden=(64,),
            outputs=CLASSES,
            epochs=16,
            batch_size=64,
            optimizer="adam",
            learning_rate=5e-3,
            metric="accuracy",
            floor=0.95,
        ),
        ModelSpec(
            name="gru",
            title="A GRU that reads digits row by row",
            formula="h_t = (1 - z) ⊙ n + z ⊙ h_(t-1),  n = tanh(W x_t + r ⊙ (U h_(t-1) + b))",
            data="digit-rows",
            task="classes",
            input="rows",
            dims=_ROWS,
            hidden=(64,),
            outputs=CLASSES,
            epochs=12,
            batch_size=64,
            optimizer="adam",
            learning_rate=1e-2,
            metric="accuracy",
            floor=0.95,
        ),
        ModelSpec(
            name="bilstm",
            title="An LSTM that reads digits from the top and from the bottom",
            formula="softmax(W [h→_T ; h←_1])",
            data="digit-rows",
            task="classes",
            input="rows",
            dims=_ROWS,
            hidden=(48,),
            outputs=CLASSES,
            epochs=12,
            batch_size=32,
            optimizer="adam",
            learning_rate=5e-3,
            metric="accuracy",
            floor=0.95,
        ),
        ModelSpec(
            name="mlp",
            title="Two hidden layers with LayerNorm",
            formula="softmax(W₃ relu(LN(W₂ relu(LN(W₁ x)))))",
            data="digit-pixels",
            task="classes",
            input="pixels",
            dims=(784,),
            hidden=(128, 64),
            outputs=CLASSES,
            epochs=12,
            batch_size=32,
            optimizer="adam",
            learning_rate=1e-3,
            metric="accuracy",
            floor=0.95,
        ),
        ModelSpec(
            name="cnn-bn",
            title="A residual block with BatchNorm, and Dropout before the head",
            formula="softmax(W drop(flatten(pool(relu(x + BN(K₃ * relu(BN(K₂ * x))))))), x = pool(relu(BN(K₁ * image)))",
            data="digits",
            task="classes",
            input="image",
            dims=_DIGIT,
            hidden=(16,),
            outputs=CLASSES,
            epochs=8,
            batch_size=32,
            optimizer="adam",
            learning_rate=2e-3,
            metric="accuracy",
            floor=0.97,
        ),
    )
}


def named(name: str) -> ModelSpec:
    """The model called ``name``."""
    if name not in CATALOG:
        raise UsageError("the zoo has no such model", expected=f"one of {', '.join(CATALOG)}", received=name)
    return CATALOG[name]
