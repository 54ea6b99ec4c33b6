"""A TFLite model is for inference: it has no loss, gradients or steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import UsageError
from netferry.converters.signature import Array
from netferry.converters.tensorflow.tflite.model import LiteModel


def Training(model: LiteModel, inputs: int) -> Any:
    raise UsageError(
        "a TFLite model cannot be trained", where=model.label, remedy="Compare it without --gradients"
    )


def rehearse(model: LiteModel, inputs: Sequence[Array]) -> str:
    """It is never trained, which is no fault of it."""
    return ""
