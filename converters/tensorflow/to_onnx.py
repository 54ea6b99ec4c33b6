"""Keras to ONNX, layer by layer; what is not made of Keras' layers takes tf2onnx' road.

A functional model is a graph of operations: layers, operations of ``keras.ops``, and models again. Each
has a row (``pen.ROWS``); the walk here knows none of them by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotCarry, Unsupported, UnsupportedError
from netferry.converters.export import Export
from netferry.converters.graph.build import Tensor
from netferry.converters.signature import Example
from netferry.converters.tensorflow import (  # noqa: F401 - the rooms below register their rows
    activations,
    attention,
    fallback,
    functions,
    layers,
    live,
    normalization,
    recurrent,
    spatial,
)
from netferry.converters.tensorflow.pen import ROWS, Pen, refuse_unless
from netferry.converters.tensorflow.runtime import Functional, keras, tf, tree

Values = list[Tensor]


def to_onnx(model: Any, given: Sequence[Example] | None = None) -> Export:
    """Carry a Keras model, a SavedModel or a function of TensorFlow.

    Raises:
        UsageError: the model does not say its sizes and ``given`` is None.
        UnsupportedError: layers that neither netferry nor tf2onnx carries, all of them at once.
    """
    face = live.face_of(model, given)
    if isinstance(model, keras.Model):
        _refuse_outright(model)
    if not isinstance(face, live.Layered):
        return fallback.carry(face, given, face.opaque)
    try:
        return _direct(model, face, given)
    except UnsupportedError as error:
        return fallback.carry(face, given, error)


def _direct(model: Any, face: live.Layered, given: Sequence[Example] | None) -> Export:
    graph = face.graph
    if unknown := _unknown(graph):
        raise UnsupportedError(unknown)
    bound = face.inputs(given)
    g = Pen(model.name, model.variables)
    inputs = [
        g.cast(g.input(spec), tensor.dtype) for spec, tensor in zip(bound.specs, graph.inputs, strict=True)
    ]
    outputs = _Walk(g).graph(graph, inputs, [False] * len(inputs), "")[0]
    for name, x in zip(face.names, outputs, strict=True):
        g.output(x, name)
    carried = g.finish()
    written = carried.graph.initializers
    made_of = {name: sources for name, sources in g.made_of.items() if name in written}
    return Export(carried, notes=bound.notes, weights=made_of)


# ---- what is refused before any work --------------------------------------------------------


def _refuse_outright(model: Any) -> None:
    """What no road carries rightly: states kept between calls, training, arithmetic that ONNX would change."""
    problems = [
        Unsupported(layer.name, type(layer).__name__, *reason)
        for layer in model._flatten_layers(include_self=False)
        if (reason := _why_not(layer)) is not None
    ]
    graph = live.functional(model)
    problems += [
        Unsupported(name, _title(node.operation), "it is called with training=True, so it draws at random")
        for name, node in ({} if graph is None else dict(_calls(graph, ""))).items()
        if node.arguments.kwargs.get("training")
    ]
    if problems:
        raise UnsupportedError(problems)


def _why_not(layer: Any) -> tuple[str, str] | None:
    if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
        return (
            "it keeps its state from one call to the next",
            "Build it with stateful=False and pass the state",
        )
    policy = layer.dtype_policy
    if layer.quantization_mode is not None:
        return f"it is quantised ({policy.name})", "Carry the model from before quantize()"
    if layer.compute_dtype != layer.variable_dtype:
        return (
            f"it computes in mixed precision ({policy.name})",
            "Its weights are float32: set layer.dtype_policy = 'float32' on every layer and convert again",
        )
    if layer.compute_dtype == "bfloat16":
        return "it computes in bfloat16, which onnxruntime does not", "Load its weights into a float32 model"
    return None


def _unknown(graph: Functional) -> list[Unsupported]:
    """Every operation without a row, those of inner models and of wrapped layers too."""
    found: dict[str, type] = {}
    for name, node in _calls(graph, ""):
        operation = node.operation
        wrapped = [operation.layer] if isinstance(operation, keras.layers.TimeDistributed) else []
        found.update((name, type(part)) for part in [operation, *wrapped] if type(part) not in ROWS)
    return [
        Unsupported(name, _title(kind), "netferry has no row for it", "Build it of Keras' own layers")
        for name, kind in found.items()
    ]


def _calls(graph: Functional, prefix: str) -> Iterator[tuple[str, Any]]:
    """Each call of an operation with the operation's name, in inner models ``model/layer``."""
    for node in _nodes(graph):
        name, inner = prefix + node.operation.name, _inner(node.operation)
        if inner is None:
            yield name, node
        else:
            yield from _calls(inner, f"{name}/")


def _inner(operation: Any) -> Functional | None:
    return live.functional(operation) if isinstance(operation, keras.Model) else None


def _title(operation: Any) -> str:
    kind = operation if isinstance(operation, type) else type(operation)
    return kind.__name__ if issubclass(kind, keras.Layer) else f"keras.ops {kind.__name__}"


# ---- the walk -------------------------------------------------------------------------------


class _Walk:
    """Writes the operations of a graph in the order in which Keras would run them.

    Beside its value every tensor has a mark that says whether Keras would hand a mask on with it.
    """

    def __init__(self, g: Pen) -> None:
        self._g = g

    def graph(
        self, graph: Functional, inputs: Sequence[Tensor], marks: Sequence[bool], prefix: str
    ) -> tuple[Values, list[bool]]:
        values = dict(zip(map(id, graph.inputs), inputs, strict=True))
        marked = dict(zip(map(id, graph.inputs), marks, strict=True))
        for node in _nodes(graph):
            args, kwargs = node.arguments.fill_in(values)
            mark = any(marked[id(x)] for x in node.input_tensors)
            outputs, masks = self._operation(node.operation, args, kwargs, mark, prefix)
            for place, (symbol, x) in enumerate(zip(node.outputs, outputs, strict=True)):
                values[id(symbol)] = _known(x, symbol.shape)
                marked[id(symbol)] = masks[place]
        return [values[id(x)] for x in graph.outputs], [marked[id(x)] for x in graph.outputs]

    def _operation(
        self, operation: Any, args: Any, kwargs: Mapping[str, Any], mark: bool, prefix: str
    ) -> tuple[Values, list[bool]]:
        name, inner = prefix + operation.name, _inner(operation)
        try:
            mark = mark or any(mask is not None for mask in tree.flatten(kwargs.get("mask")))
            if inner is not None:
                return self._model(inner, args, mark, name)
            refuse_unless(not (mark and _reads_mask(operation)), "a mask reaches it", _WITHOUT_MASKS)
            kwargs = _plain_arguments(operation, kwargs)
            with self._g.scope(name):
                args, kwargs = tree.map_structure(lambda x: self._received(operation, x), (args, kwargs))
                written = ROWS[type(operation)](self._g, operation, *args, **kwargs)
        except CannotCarry as stop:
            raise UnsupportedError([Unsupported(name, _title(operation), stop.reason, stop.remedy)]) from stop
        outputs = [written] if isinstance(written, Tensor) else list(written)
        return outputs, [_makes_mask(operation) or (mark and _hands_mask_on(operation))] * len(outputs)

    def _model(self, inner: Functional, args: Any, mark: bool, name: str) -> tuple[Values, list[bool]]:
        inputs = tree.flatten(args)
        for x, symbol in zip(inputs, inner.inputs, strict=True):
            refuse_unless(x.rank == len(symbol.shape), "it is called with another rank than it was built for")
        cast = [self._g.cast(x, symbol.dtype) for x, symbol in zip(inputs, inner.inputs, strict=True)]
        return self.graph(inner, cast, [mark] * len(inputs), f"{name}/")

    def _received(self, operation: Any, x: Any) -> Any:
        """An argument as the operation's ``call`` sees it: arrays as constants, floats in its dtype."""
        if isinstance(x, keras.Variable):
            x = self._g.weight(x)
        elif isinstance(x, np.ndarray | tf.Tensor):
            x = self._g.lift(np.asarray(x))
        if isinstance(x, Tensor) and isinstance(operation, keras.Layer) and x.dtype.kind == "f":
            return self._g.cast(x, operation.compute_dtype)
        return x


def _nodes(graph: Functional) -> Iterator[Any]:
    """The calls of operations, what is needed before what needs it."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.operation and not node.is_input:
                yield node


def _plain_arguments(operation: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that a row is called with: those that are given and mean something here."""
    given = {
        key: value for key, value in kwargs.items() if value is not None and key not in ("mask", "training")
    }
    unknown = sorted(set(given) - set(inspect.signature(ROWS[type(operation)]).parameters))
    refuse_unless(not unknown, f"it is called with {', '.join(unknown)}")
    return given


def _known(x: Tensor, shape: Sequence[int | None]) -> Tensor:
    """Sizes that Keras knows and ONNX' inference lost; the batch is nobody's to fix."""
    if x.dims is None:
        return replace(x, dims=(None, *shape[1:]) if shape else ())
    sizes = zip(x.dims, shape, strict=True)
    return replace(x, dims=tuple(size if d is None and i else d for i, (d, size) in enumerate(sizes)))


# ---- masks ----------------------------------------------------------------------------------


_MASK_MAKERS = (keras.layers.Embedding, keras.layers.Masking)

_READ_SILENTLY = (keras.layers.Maximum, keras.layers.Minimum, keras.layers.Multiply)
"""Layers whose ``call`` has no argument for a mask and reads it all the same."""

_WITHOUT_MASKS = "Build the model without mask_zero or Masking"


def _makes_mask(operation: Any) -> bool:
    return isinstance(operation, _MASK_MAKERS) and getattr(operation, "mask_zero", True)


def _hands_mask_on(operation: Any) -> bool:
    return isinstance(operation, keras.Layer) and operation.supports_masking


def _reads_mask(layer: Any) -> bool:
    """Whether a mask changes what the operation computes.

    BatchNormalization looks at it in training only, TimeDistributed hands it to its layer.
    """
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.layers.BatchNormalization):
        return False
    if isinstance(layer, keras.layers.TimeDistributed):
        return _reads_mask(layer.layer)
    takes = any("mask" in name for name in inspect.signature(layer.call).parameters)
    return takes or isinstance(layer, _READ_SILENTLY)
