"""What a TensorFlow or Keras model takes and gives."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.signature import (
    Example,
    Signature,
)
from netferry.converters.tensorflow.interface import interface_of


def signature(model: object, given: Sequence[Example] | None = None) -> Signature:
    """Real names, dtypes and sizes; what is free has a name, the batch is ``batch``."""
    interface = interface_of(model, given)
    bound = interface.inputs(given)
    return Signature(bound.specs, interface.outputs(bound.specs))
