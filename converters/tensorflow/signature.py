"""What a TensorFlow or Keras model takes and gives."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.signature import (
    Example,
    InputNames,
    Signature,
)
from netferry.converters.tensorflow.interface import interface_of, interface_or_none


def signature(model: object, given: Sequence[Example] | None = None) -> Signature:
    """Real names, dtypes and sizes; what is free has a name, the batch is ``batch``."""
    interface = interface_of(model, given)
    bound = interface.inputs(given)
    return Signature(bound.specs, interface.outputs(bound.specs))


def input_names(model: object) -> InputNames | None:
    """As layers and signatures declare them; of a ``call`` in Python its parameters, which are no names of inputs yet."""
    interface = interface_or_none(model)
    return None if interface is None else interface.input_names
