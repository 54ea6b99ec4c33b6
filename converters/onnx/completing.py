"""An ONNX message as runtimes take it, where a file leaves out or says otherwise what ONNX asks for.

Old exporters write weights that are no inputs before IR version 4, sizes of -1 and 0 for free ones, outputs without types, inputs without ranks; some write nodes
out of order, or sparse weights. onnxruntime runs them all, and so they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper, shape_inference

from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.signature import Array

_WEIGHTS_ALONE = 4
"""The IR version from which weights need not be inputs."""


def completed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as it should have been written; itself where it is. Its weights are in it."""
    return _ranked_message(repaired(model))


def repaired(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as it should have been written, but for ranks, which may hang on weights that lie in other files."""
    wanted = [repair for asks, repair in _REPAIRS if asks(model)]
    if not wanted:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for repair in wanted:
        repair(copy)
    return copy


# ---- IR version -----------------------------------------------------------------------------------


def _is_old(model: onnx.ModelProto) -> bool:
    inputs = {value.name for value in model.graph.input}
    return 0 < model.ir_version < _WEIGHTS_ALONE and any(
        tensor.name not in inputs for tensor in model.graph.initializer
    )


def _raise_version(model: onnx.ModelProto) -> None:
    model.ir_version = _WEIGHTS_ALONE


# ---- sizes ----------------------------------------------------------------------------------------


def _dims(values: Iterable[onnx.ValueInfoProto]) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """A list of no integers (axes, a shape) is meant as it stands."""
    for value in values:
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and not (
            kind.elem_type in _INTEGERS and len(kind.shape.dim) == 1 and not kind.shape.dim[0].dim_value
        ):
            yield from kind.shape.dim


_INTEGERS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


def _is_no_size(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return dim.HasField("dim_value") and dim.dim_value <= 0


def _has_no_sizes(model: onnx.ModelProto) -> bool:
    found = list(filter(_is_no_size, _dims((*model.graph.input, *model.graph.output))))
    return bool(found) and not (all(dim.dim_value == 0 for dim in found) and _is_empty(model))


def _is_empty(model: onnx.ModelProto) -> bool:
    """Whether a newer file means its sizes of 0 as they stand: its outputs have other ones, which follow from them."""
    said = [value.type.tensor_type.shape.dim for value in model.graph.output]
    if model.ir_version < _TODAYS or not all(dim.dim_value > 0 for dims in said for dim in dims):
        return False
    light = _light(model)
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        light = shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    except Exception:  # it is none that runs with those sizes
        return False
    follow = [value.type.tensor_type.shape.dim for value in light.graph.output]
    return [[dim.dim_value for dim in dims] for dims in follow] == [
        [dim.dim_value for dim in dims] for dims in said
    ]


_TODAYS = 8
"""The IR version from which no exporter is known that writes 0 for a free size."""


def _free_sizes(model: onnx.ModelProto) -> None:
    for dim in filter(_is_no_size, _dims((*model.graph.input, *model.graph.output))):
        dim.Clear()


# ---- order ----------------------------------------------------------------------------------------


def _is_unsorted(model: onnx.ModelProto) -> bool:
    made: set[str] = set()
    given = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if any(name in given and name not in made for name in node.input):
            return True
        made.update(node.output)
    return False


def _sort(model: onnx.ModelProto) -> None:
    """Every node behind those that it needs, as they stand else; a circle is left for the checker to refuse."""
    nodes = list(model.graph.node)
    maker = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = {
        place: sorted({maker[name] for name in _reads(node) if name in maker})
        for place, node in enumerate(nodes)
    }
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        return
    del model.graph.node[:]
    model.graph.node.extend(nodes[place] for place in order)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, in the graphs inside it too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _reads(inner)


# ---- types of outputs -----------------------------------------------------------------------------


def _untyped(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind is None or (kind == "tensor_type" and not value.type.tensor_type.elem_type)


def _has_untyped(model: onnx.ModelProto) -> bool:
    return any(map(_untyped, model.graph.output))


def _type_outputs(model: onnx.ModelProto) -> None:
    """As ONNX infers them of a model without its large weights; what it cannot tell stays as it is."""
    light = _light(model)
    for value in light.graph.output:
        if _untyped(value):
            value.ClearField("type")
    try:
        light = shape_inference.infer_shapes(light)
    except Exception:  # what is wrong with the model, the checker says
        return
    known = {
        value.name: value for value in (*light.graph.input, *light.graph.value_info, *light.graph.output)
    }
    for value in model.graph.output:
        if _untyped(value) and value.name in known and not _untyped(known[value.name]):
            value.type.CopyFrom(known[value.name].type)


def _is_bare(value: onnx.ValueInfoProto) -> bool:
    """Whether a value says that it is one number: so do some exporters of outputs whose sizes they do not know."""
    kind = value.type.tensor_type
    return bool(kind.elem_type) and kind.HasField("shape") and not kind.shape.dim


def _wrongly_bare(model: onnx.ModelProto) -> set[str]:
    """Outputs that are declared without axes and have some, as ONNX infers them."""
    bare = {value.name for value in model.graph.output if _is_bare(value)}
    if not bare:
        return bare
    light = _light(model)
    for value in light.graph.output:
        value.type.tensor_type.ClearField("shape")
    del light.graph.value_info[:]
    try:
        light = shape_inference.infer_shapes(light)
    except Exception:  # what is wrong with the model, the checker says
        return set()
    return {v.name for v in light.graph.output if v.name in bare and v.type.tensor_type.shape.dim}


def _forget_sizes(model: onnx.ModelProto) -> None:
    wrong = _wrongly_bare(model)
    for value in (*model.graph.output, *model.graph.value_info):
        if value.name in wrong:
            value.type.tensor_type.ClearField("shape")


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for inference, without large weights."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) > _SMALL:
            tensor.ClearField("raw_data")
    return light


_SMALL = 4096
"""Bytes of a weight that inference may have to read: a shape, an axis."""


# ---- ranks of inputs ------------------------------------------------------------------------------


def _unranked(value: onnx.ValueInfoProto) -> bool:
    kind = value.type
    return kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape")


def ranked(model: onnx.ModelProto | ir.Model) -> onnx.ModelProto | ir.Model:
    """Where one rank alone is what the operators take, an input has it, and so with sizes; else it stays unknown."""
    return _ranked(model) if isinstance(model, ir.Model) else _ranked_message(model)


def _ranked_message(model: onnx.ModelProto) -> onnx.ModelProto:
    if not any(map(_unranked, model.graph.input)):
        return model
    shapes = _shapes(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in filter(_unranked, copy.graph.input):
        for size in shapes.get(value.name) or ():
            dim = value.type.tensor_type.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
    return copy


def _ranked(model: ir.Model) -> ir.Model:
    if all(value.shape is not None for value in model.graph.inputs):
        return model
    shapes = _shapes(model)
    copy = model.clone()
    for value in copy.graph.inputs:
        if value.shape is None and (found := shapes.get(str(value.name))) is not None:
            value.shape = ir.Shape([size if isinstance(size, int) else None for size in found])
    return copy


def _shapes(model: onnx.ModelProto | ir.Model) -> Mapping[str, ir.Shape | None]:
    """What is found out of the inputs."""
    from netferry.converters.graph.passes.normalize import evaluated  # few files need the whole of it

    try:
        graph, _ = evaluated(model)
    except NetferryError:  # whoever asks for the plan is told
        return {}
    return {str(value.name): value.shape for value in graph.inputs}


# ---- sparse tensors -------------------------------------------------------------------------------


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _sparse_constants(graph: onnx.GraphProto) -> Iterator[onnx.AttributeProto]:
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield from (one for one in node.attribute if one.HasField("sparse_tensor"))


def _has_sparse(model: onnx.ModelProto) -> bool:
    return any(graph.sparse_initializer or any(_sparse_constants(graph)) for graph in _graphs(model))


def _fill(model: onnx.ModelProto) -> None:
    """Sparse weights and constants as dense ones."""
    for graph in _graphs(model):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(numpy_helper.from_array(dense(sparse), sparse.values.name))
        del graph.sparse_initializer[:]
        for attribute in _sparse_constants(graph):
            tensor = numpy_helper.from_array(dense(attribute.sparse_tensor))
            attribute.Clear()
            attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
            attribute.t.CopyFrom(tensor)


def dense(sparse: onnx.SparseTensorProto) -> Array:
    """The tensor with its zeros: indices are places of the flat tensor (count,), or of its axes (count, rank)."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    full = np.zeros(tuple(sparse.dims), values.dtype)
    try:
        if (indices < 0).any():
            raise IndexError("a place below 0")
        if indices.ndim == 1:
            full.reshape(-1)[indices] = values
        else:
            full[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        name = sparse.values.name
        raise RefusedError(
            f"the places of the sparse tensor '{name}' do not fit its sizes ({error})"
        ) from error
    return full


_REPAIRS: tuple[tuple[Callable[[onnx.ModelProto], bool], Callable[[onnx.ModelProto], None]], ...] = (
    (_is_old, _raise_version),
    (_has_no_sizes, _free_sizes),
    (_is_unsorted, _sort),
    (_has_sparse, _fill),
    (_has_untyped, _type_outputs),
    (lambda model: bool(_wrongly_bare(model)), _forget_sizes),
)
"""(what a message may want, what gives it): in this order."""
