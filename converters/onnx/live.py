"""An ONNX model in memory: recognised and described (``inference.session`` runs it; in float64, ``double.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import onnx
import onnx_ir as ir

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array


def accepts(model: object) -> bool:
    return isinstance(model, onnx.ModelProto | ir.Model)


class Runs(Protocol):
    """A graph that runs itself: what ``double.as_float64`` gives."""

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]: ...


def run(model: Runs, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run a widened graph: inputs by position, outputs by name and in order."""
    return model.run(arrays)


_FITS = 1_900_000_000
"""Bytes that a message can hold, and some room for what is no weight."""


def proto(model: onnx.ModelProto | ir.Model) -> onnx.ModelProto:
    """The model as a message. Weights that lie in files are read into it, as far as it can hold them."""
    if not isinstance(model, ir.Model):
        return with_free_sizes(model)
    made = with_free_sizes(ir.to_proto(model))
    weights = {name: value.const_value for name, value in model.graph.initializers.items()}
    external = {name: weight for name, weight in weights.items() if isinstance(weight, ir.ExternalTensor)}
    if sum(weight.nbytes for weight in weights.values() if weight is not None) > _FITS:
        return made
    for tensor in made.graph.initializer:
        if tensor.name in external:
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.raw_data = external[tensor.name].tobytes()
    return made


def with_free_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without sizes below 0 in its inputs, which old exporters write for free ones; itself where it has none."""
    if not any(map(_is_no_size, _declared(model))):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for dim in filter(_is_no_size, _declared(copy)):
        dim.Clear()
    return copy


def _declared(model: onnx.ModelProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    for value in (*model.graph.input, *model.graph.output):
        yield from value.type.tensor_type.shape.dim


def _is_no_size(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return dim.HasField("dim_value") and dim.dim_value < 0


WITHOUT_MAPS = "Export the classifier without ZipMap (skl2onnx: options={'zipmap': False})"


def demand_no_maps(model: onnx.ModelProto) -> None:
    """Refuse inputs and outputs that are maps, which classifiers of ONNX-ML have, and of which netferry supports none."""
    for value in (*model.graph.input, *model.graph.output):
        if _is_map(value.type):
            raise RefusedError(f"'{value.name}' holds maps", expected="a tensor", remedy=WITHOUT_MAPS)


def _is_map(kind: onnx.TypeProto) -> bool:
    form = kind.WhichOneof("value")
    return form == "map_type" or (
        form in ("sequence_type", "optional_type") and _is_map(getattr(kind, form).elem_type)
    )
