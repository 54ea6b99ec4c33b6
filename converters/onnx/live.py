"""An ONNX model in memory: recognised and described (``inference.session`` runs it; in float64, ``double.py``)."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import onnx
import onnx_ir as ir

from netferry.converters.errors import RefusedError
from netferry.converters.onnx.completing import completed
from netferry.converters.signature import Array


def accepts(model: object) -> bool:
    return isinstance(model, onnx.ModelProto | ir.Model)


SPLIT = frozenset({"DynamicQuantizeLSTM"})
"""Operators of onnxruntime that quantise the rows of each thread apart: with more threads they compute something else."""


def depends_on_threads(model: object) -> bool:
    """Whether what onnxruntime computes depends on the number of its threads; ``model`` may be a path.

    A file is searched for the operators' names, not read: what is found there by chance costs a thread and nothing else.
    """
    if isinstance(model, str | os.PathLike):
        with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # noqa: PTH123
            return any(content.find(operator.encode()) >= 0 for operator in SPLIT)
    if isinstance(model, ir.Model):
        return any(node.op_type in SPLIT for node in model.graph.all_nodes())
    return isinstance(model, onnx.ModelProto) and any(node.op_type in SPLIT for node in model.graph.node)


class Runs(Protocol):
    """A graph that runs itself: what ``double.as_float64`` gives."""

    def run(self, arrays: Sequence[Array]) -> dict[str, Array]: ...


def run(model: Runs, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run a widened graph: inputs by position, outputs by name and in order."""
    return model.run(arrays)


_FITS = 1_900_000_000
"""Bytes that a message can hold, and some room for what is no weight."""


def proto(model: onnx.ModelProto | ir.Model) -> onnx.ModelProto:
    """The model as a message that is complete. Weights that lie in files are read into it, as far as it can hold them."""
    if not isinstance(model, ir.Model):
        return completed(model)
    made = completed(ir.to_proto(model))
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


def unranked(model: object) -> frozenset[str]:
    """The inputs of a graph, or of a file, whose rank is not said: onnxruntime shows them as if they had no axes."""
    if isinstance(model, str | os.PathLike):
        model = onnx.load(os.fspath(model), load_external_data=False)
    if not isinstance(model, onnx.ModelProto):
        return frozenset()
    inputs = (value for value in model.graph.input if value.type.HasField("tensor_type"))
    return frozenset(value.name for value in inputs if not value.type.tensor_type.HasField("shape"))


def constants(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """The weights of a model: initializers and constants, of the graphs inside it too."""
    graphs = [model.graph, *model.graph.subgraphs()]
    for graph in graphs:
        yield from (
            value.const_value for value in graph.initializers.values() if value.const_value is not None
        )
        for node in graph:
            value = node.attributes.get("value") if node.op_type == "Constant" and not node.domain else None
            if value is not None and value.type == ir.AttributeType.TENSOR:
                yield value.value


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
