"""For what is not made of Keras' layers alone: operator by operator, in rows of our own, else by tf2onnx.

That works on TensorFlow's operators, so the layers of the source are not found again in the result. Its
faults are corrected here: names that are lost, operators that ONNX does not have, inputs that are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs, numpy_helper, shape_inference

from netferry.converters.errors import MissingError, RefusedError, Unsupported, UnsupportedError, first_line
from netferry.converters.exported import ExportedModel
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import BATCH, Dim, Example, TensorSpec
from netferry.converters.tensorflow import traced
from netferry.converters.tensorflow.graphdef.to_onnx import direct, is_final
from netferry.converters.tensorflow.interface import ModelInterface, interface_of
from netferry.converters.tensorflow.runtime import convert_to_constants, quiet, tf
from netferry.converters.tensorflow.specs import demand_dense, tensor_specs

OPSET = 18
"""The newest opset that tf2onnx writes."""

_NAMED = 3
"""As many layers are named in a note."""

_REMEDIES = {
    "StatefulPartitionedCall": "TensorFlow does not inline this call: convert the .keras file instead"
}


def convert(
    interface: ModelInterface,
    given: Sequence[Example] | None,
    because: UnsupportedError | str,
) -> ExportedModel:
    """Convert a model operator by operator.

    Raises:
        UnsupportedError: what stopped the direct route, and in a line of its own what stops this one.
    """
    if find_spec("tf2onnx") is None:
        raise MissingError(
            "tf2onnx is not installed", remedy='Install it: pip install "netferry[tensorflow]"'
        )
    bound = interface.inputs(given)
    try:
        model = _corrected(interface, bound.specs)
    except UnsupportedError as error:
        raise UnsupportedError([*_problems(because), *error.problems]) from error
    return ExportedModel(model, route="tf2onnx", notes=(*bound.notes, _note(because)))


def by_operator(
    interface: ModelInterface, given: Sequence[Example] | None, because: UnsupportedError | None = None
) -> ExportedModel:
    """Trace the model and write its operators row by row; by tf2onnx where one of them has no row.

    ``because`` is what stopped the route by layers, where that was tried.

    Raises:
        UnsupportedError: what stopped each route.
    """
    bound = interface.inputs(given)
    try:
        exported = direct(traced.graph_model(interface, bound.specs), bound.specs, bound.notes)
    except UnsupportedError as error:
        if is_final(error):
            raise
        return convert(interface, given, UnsupportedError([*_problems(because or ""), *error.problems]))
    if because is None:
        return exported
    note = f"converted operator by operator, not layer by layer: {told(because)}"
    return replace(exported, route="graph", notes=(*exported.notes, note))


def convert_native(
    function: Any, given: Sequence[Example] | None, because: UnsupportedError
) -> ExportedModel:
    """``convert`` of a function that TensorFlow has loaded."""
    return convert(interface_of(function), given, because)


def _problems(because: UnsupportedError | str) -> tuple[Unsupported, ...]:
    return because.problems if isinstance(because, UnsupportedError) else ()


def _note(because: UnsupportedError | str) -> str:
    """Why this route was taken; of many layers the first few are named."""
    reasons = because if isinstance(because, str) else told(because)
    return f"converted by tf2onnx, operator by operator: {reasons}"


def told(because: UnsupportedError) -> str:
    """The first few of its problems, and how many more there are."""
    more = len(because.problems) - _NAMED
    reasons = "; ".join(map(str, because.problems[:_NAMED]))
    return reasons + (f"; and {more} more" if more > 0 else "")


def _corrected(interface: ModelInterface, inputs: Sequence[TensorSpec]) -> ir.Model:
    names: list[str] = []

    def apply(*tensors: Any) -> list[Any]:
        named = interface.call(tensors)
        names[:] = named
        for name, tensor in named.items():
            demand_dense(name, tensor, "output")
        return [tf.identity(tensor) for tensor in named.values()]

    with quiet():
        proto, shapes = _converted(tf.function(apply, autograph=False), inputs)
    for graph in _graphs(proto.graph):
        _replace_erfc(graph)
    _name(proto, inputs, names)
    _restore(proto.graph, shapes, lambda: _measured(interface, inputs))
    _check(proto)
    return ir.from_proto(proto)


def _converted(traced: Any, inputs: Sequence[TensorSpec]) -> tuple[onnx.ModelProto, list[Any]]:
    """Trace and convert, with TensorFlow's shapes of the outputs; what a trace captured becomes an initializer."""
    from tf2onnx import convert as tf2onnx

    specs = tensor_specs(inputs)
    try:
        with _without_jit(), _inlined():
            function = traced.get_concrete_function(*specs)
            proto: onnx.ModelProto = tf2onnx.from_function(traced, specs, opset=OPSET)[0]
    except RefusedError:
        raise
    except Exception as error:  # whatever TensorFlow and tf2onnx raise
        raise _failed("the model", "tf2onnx", f"it stops ({first_line(error)})") from error
    _fix_captures(proto, function, len(specs))
    return proto, [output.shape for output in function.outputs]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that its branches and loops hold."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _OF_GRAPHS else ():
                yield from _graphs(inner)


_OF_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


@contextmanager
def _without_jit() -> Iterator[None]:
    """Trace what Keras compiles with XLA (grouped convolutions) as plain TensorFlow."""
    function = tf.function

    def plain(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**kwargs, "jit_compile": None})

    with mock.patch.object(tf, "function", plain):
        yield


@contextmanager
def _inlined() -> Iterator[None]:
    """Let what was compiled with XLA when a SavedModel was written be inlined like any other function."""
    export = convert_to_constants.export_meta_graph

    def plain(graph_def: Any, **kwargs: Any) -> Any:
        for function in graph_def.library.function:
            for holder in (function, *function.node_def):
                holder.attr.pop(COMPILED, None)
        for node in graph_def.node:
            node.attr.pop(COMPILED, None)
        return export(graph_def=graph_def, **kwargs)

    with mock.patch.object(convert_to_constants, "export_meta_graph", plain):
        yield


COMPILED = "_XlaMustCompile"
"""The attribute by which TensorFlow keeps a function apart for XLA."""


def _fix_captures(proto: onnx.ModelProto, function: Any, count: int) -> None:
    captured = zip(function.inputs[count:], function.captured_inputs, strict=True)
    values = {symbol.name: tensor for symbol, tensor in captured if symbol.dtype != tf.resource}
    for stray in [value for value in proto.graph.input if value.name in values]:
        proto.graph.input.remove(stray)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(values[stray.name]), stray.name))


def _replace_erfc(graph: onnx.GraphProto) -> None:
    """Erfc(x), which ONNX does not have, is 1 - Erf(x)."""
    for node in [node for node in graph.node if node.op_type == "Erfc"]:
        ones = f"{node.name}_one"
        dtype = _dtype_of(graph, node.input[0])
        graph.initializer.append(numpy_helper.from_array(np.ones([], dtype), ones))
        position = list(graph.node).index(node)
        erf = onnx.helper.make_node("Erf", [node.input[0]], [f"{node.name}_erf"], name=f"{node.name}_erf")
        sub = onnx.helper.make_node("Sub", [ones, erf.output[0]], list(node.output), name=node.name)
        graph.node.remove(node)
        graph.node.insert(position, erf)
        graph.node.insert(position + 1, sub)


def _dtype_of(graph: onnx.GraphProto, name: str) -> Any:
    typed = [*graph.value_info, *graph.input, *graph.output]
    kinds = [value.type.tensor_type.elem_type for value in typed if value.name == name]
    return onnx.helper.tensor_dtype_to_np_dtype(kinds[0]) if kinds else np.float32


def _name(proto: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> None:
    """Give inputs and outputs their real names, and free sizes theirs instead of ``unk__N``.

    Inference may lose what tf2onnx knew of an output (behind a loop, a branch): then that stays.
    """
    graph = proto.graph
    declared = {value.name: position for position, value in enumerate(graph.input)}
    wanted = {f"input_{position}": spec for position, spec in enumerate(inputs)}
    renamed = {value.name: wanted[value.name].name for value in graph.input if value.name in wanted}
    if len(renamed) != len(declared):
        raise _failed("the model", "tf2onnx", f"it leaves inputs of its own ({', '.join(declared)})")
    for value in graph.input:
        _set_dims(value, wanted[value.name].dims)
    renamed |= {value.name: name for value, name in zip(graph.output, outputs, strict=True)}
    _rename(graph, renamed)
    del graph.value_info[:]
    known = [onnx.TypeProto.FromString(value.type.SerializeToString()) for value in graph.output]
    for value in graph.output:
        _set_dims(value, None)
    proto.CopyFrom(shape_inference.infer_shapes(proto))
    for value, kind in zip(proto.graph.output, known, strict=True):
        if not value.type.tensor_type.HasField("shape"):
            value.type.CopyFrom(kind)
    free = any(spec.dims and spec.dims[0] == BATCH for spec in inputs)
    for value in proto.graph.output:
        _name_dims(value, free)


def _shape_of(value: onnx.ValueInfoProto) -> onnx.TensorShapeProto:
    return value.type.tensor_type.shape


def _restore(graph: onnx.GraphProto, shapes: Sequence[Any], measured: Callable[[], Sequence[int]]) -> None:
    """What is known of outputs of which tf2onnx and ONNX know not even the rank: TensorFlow's shape, else the rank of a run."""
    lost = [
        position
        for position, value in enumerate(graph.output)
        if not value.type.tensor_type.HasField("shape")
    ]
    if not lost:
        return
    ranks = None if all(shapes[position].rank is not None for position in lost) else measured()
    for position in lost:
        shape = shapes[position]
        dims = [None] * ranks[position] if shape.rank is None and ranks is not None else shape.as_list()
        _set_dims(graph.output[position], tuple(dims))


def _measured(interface: ModelInterface, inputs: Sequence[TensorSpec]) -> list[int]:
    """The ranks of the outputs, from a run on ones."""
    ones = [
        tf.ones([dim if isinstance(dim, int) else 2 for dim in spec.dims or ()], tf.as_dtype(spec.dtype))
        for spec in inputs
    ]
    try:
        return [len(tensor.shape) for tensor in interface.call(ones).values()]
    except Exception as error:  # whatever TensorFlow raises
        raise _failed(
            "the model",
            "tf2onnx",
            f"the rank of an output is not known, and it does not run on ones ({first_line(error)})",
        ) from error


def _set_dims(value: onnx.ValueInfoProto, dims: tuple[Dim, ...] | None) -> None:
    value.type.tensor_type.ClearField("shape")
    if dims is None:
        return
    _shape_of(value).SetInParent()
    for dim in dims:
        entry = value.type.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is not None:
            entry.dim_param = dim


def _name_dims(value: onnx.ValueInfoProto, free: bool) -> None:
    """Inference numbers what it does not know; the first axis is the batch, where the inputs have one."""
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.dim_param.startswith("unk__"):
            dim.Clear()
        if axis == 0 and free and not dim.HasField("dim_value"):
            dim.dim_param = dim.dim_param or BATCH


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Rename values, in branches and loops too; what stands inside under a name that is wanted gives way."""
    taken, graphs = set(renamed.values()), list(_graphs(graph))
    inside = {name for each in graphs for node in each.node for name in (*node.input, *node.output) if name}
    inside |= {value.name for each in graphs for value in (*each.initializer, *each.input)}
    giving_way = sorted((inside & taken) - set(renamed))
    names = {name: unique(name, taken) for name in giving_way} | renamed
    for each in graphs:
        for node in each.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        for value in (*each.input, *each.output, *each.initializer, *each.value_info):
            value.name = names.get(value.name, value.name)


def _check(proto: onnx.ModelProto) -> None:
    """A file that ONNX does not read is not delivered."""
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    foreign = [
        Unsupported(
            node.name,
            node.op_type,
            "TensorFlow's operator, which ONNX does not have",
            _REMEDIES.get(node.op_type, ""),
        )
        for graph in _graphs(proto.graph)
        for node in graph.node
        if not defs.has(node.op_type, opsets.get(node.domain, OPSET), node.domain)
    ]
    if foreign:
        raise UnsupportedError(foreign)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # ValidationError, and InferenceError from shape inference
        raise _failed("the model", "tf2onnx", f"ONNX refuses the result ({first_line(error)})") from error


def _failed(node: str, operator: str, reason: str) -> UnsupportedError:
    return UnsupportedError([Unsupported(node, operator, reason)])
