"""Functions of Keras 2 that have another meaning in Keras 3 under the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netferry.converters.tensorflow.runtime import keras

ops = keras.ops


def hard_sigmoid(x: Any) -> Any:
    """0.2 x + 0.5 between 0 and 1; Keras 3 has x / 6 + 0.5 under this name."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


keras.saving.register_keras_serializable("netferry", "keras2_hard_sigmoid")(hard_sigmoid)

CHANGED: Mapping[str, Callable[..., Any]] = {"hard_sigmoid": hard_sigmoid}
