"""A model of TensorFlow in memory as the graph that its files would hold: traced, its variables beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import Unsupported, UnsupportedError, first_line
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Array, TensorSpec
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.graph import Ref, graph_of
from netferry.converters.tensorflow.graphdef.model import CalledBy, GraphModel, Library, Port
from netferry.converters.tensorflow.graphdef.restore import Handle
from netferry.converters.tensorflow.interface import ModelInterface
from netferry.converters.tensorflow.runtime import quiet, tf
from netferry.converters.tensorflow.specs import tensor_specs

_LABEL = "the model"


def graph_model(interface: ModelInterface, specs: Sequence[TensorSpec]) -> GraphModel:
    """Trace a model for inputs of these sizes.

    Raises:
        UnsupportedError: TensorFlow cannot trace it.
    """
    names: list[str] = []

    def apply(*tensors: Any) -> list[Any]:
        named = interface.call(tensors)
        names[:] = named
        return [tf.identity(tensor) for tensor in named.values()]

    try:
        with quiet():
            traced = tf.function(apply, autograph=False).get_concrete_function(*tensor_specs(specs))
            message = messages.parsed("Graph", traced.graph.as_graph_def().SerializeToString(), _LABEL)
    except Exception as error:  # whatever the model's own code raises
        raise UnsupportedError(
            [Unsupported(_LABEL, "trace", f"it cannot be traced ({first_line(error)})")]
        ) from error
    captured, arrays = _captured(traced)
    inputs = traced.inputs[: len(specs)]
    signature = CalledBy(
        "",
        tuple(_port(spec.name, tensor) for spec, tensor in zip(specs, inputs, strict=True)),
        tuple(_port(name, tensor) for name, tensor in zip(names, traced.outputs, strict=True)),
    )
    return GraphModel(
        _LABEL,
        graph_of(message.nodes, _LABEL),
        Library(message.library.functions, _LABEL),
        {},
        signature,
        arrays=arrays,
        captured=captured,
    )


def _port(name: str, tensor: Any) -> Port:
    node, _, index = tensor.name.partition(":")
    dims = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Port(name, Ref(node, int(index)), tensor.dtype.as_datatype_enum, dims)


def _captured(traced: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """What the function reads from outside, by the node that stands for it; and the variables by their names."""
    taken: set[str] = set()
    variables = {id(each.handle): each for each in traced.graph.variables}
    names: dict[int, str] = {}
    captured: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for outside, inside in traced.graph.captures:
        node = inside.name.partition(":")[0]
        variable = variables.get(id(outside))
        if variable is not None:
            if id(outside) not in names:
                names[id(outside)] = unique(_path(variable), taken)
                arrays[names[id(outside)]] = np.asarray(variable)
            captured[node] = Handle(names[id(outside)])
        elif outside.dtype not in (tf.resource, tf.variant, tf.string):
            captured[node] = np.asarray(outside)
    return captured, arrays


def _path(variable: Any) -> str:
    return str(getattr(variable, "path", None) or variable.name.partition(":")[0])
