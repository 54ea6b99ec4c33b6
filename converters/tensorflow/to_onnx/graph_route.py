"""What is not made of Keras' layers, or has one without a row: traced, and its operators written row by row.

tf2onnx (``fallback.py``) is asked where an operator has no row, and the notes say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netferry.converters.errors import UnsupportedError
from netferry.converters.exported import ExportedModel
from netferry.converters.signature import Example
from netferry.converters.tensorflow import traced
from netferry.converters.tensorflow.graphdef.to_onnx import direct
from netferry.converters.tensorflow.interface import ModelInterface
from netferry.converters.tensorflow.to_onnx import fallback


def convert(
    interface: ModelInterface, given: Sequence[Example] | None, because: UnsupportedError | None = None
) -> ExportedModel:
    """``because`` is what stopped the route by layers, where that was tried.

    Raises:
        UnsupportedError: what stopped each route.
    """
    bound = interface.inputs(given)
    try:
        exported = direct(traced.graph_model(interface, bound.specs), bound.specs, bound.notes)
    except UnsupportedError as error:
        reasons = UnsupportedError([*(because.problems if because else ()), *error.problems])
        return fallback.convert(interface, given, reasons)
    if because is None:
        return exported
    note = f"converted operator by operator, not layer by layer: {fallback.told(because)}"
    return replace(exported, route="graph", notes=(*exported.notes, note))
