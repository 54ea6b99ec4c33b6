"""Any model of TensorFlow as one frozen graph in which every float is a double."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.rounding import ANY, Rounding
from netferry.converters.signature import Array, Example, TensorSpec
from netferry.converters.tensorflow.interface import ModelInterface
from netferry.converters.tensorflow.rounded import Draws
from netferry.converters.tensorflow.runtime import freeze, quiet, tf
from netferry.converters.tensorflow.specs import tensor_specs

Change = Callable[[str, Array], Array]


def widened(
    interface: ModelInterface,
    given: Sequence[Example] | None,
    change: Change | None = None,
    draws: Draws | None = None,
) -> Widened:
    """The model's graph, traced in float32, its variables as constants, with DT_DOUBLE for every narrow float;
    with ``draws`` each operation's result passes through them.

    Raises:
        CannotConvert: an operator of the graph has no double kernel, or its own kind of dtype.
    """
    specs = interface.inputs(given).specs
    names: list[str] = []

    def call(*tensors: Any) -> list[Any]:
        named = interface.call(tensors)
        names[:] = named
        return list(named.values())

    with nullcontext() if draws is None else draws.traced():
        concrete = tf.function(call, autograph=False).get_concrete_function(*tensor_specs(specs))
    frozen = freeze(concrete)
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(frozen.graph.as_graph_def())
    weights = {id(node) for node in graph.node if node.op == "Const"}
    for node in graph.node:
        if node.op in _BATCH_NORMS:
            raise CannotConvert(f"{node.op} has no double kernel")
        _widen_node(node, change if id(node) in weights else None)
    for function in graph.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            argument.type = _DOUBLE.get(argument.type, argument.type)
        for node in function.node_def:
            _widen_node(node, None)
    feeds = [tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource]
    fetches = [tensor.name for tensor in frozen.outputs]
    run = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    pruned = run.prune(
        [run.graph.get_tensor_by_name(n) for n in feeds], [run.graph.get_tensor_by_name(n) for n in fetches]
    )
    return Widened(
        pruned, specs, tuple(names), concrete, lambda draws: widened(interface, given, change, draws)
    )


class Widened(tf.Module):  # type: ignore[misc]
    """A widened graph that is called with tensors by position; ``traced`` keeps what it calls in Python."""

    def __init__(
        self, function: Any, specs: Sequence[TensorSpec], names: tuple[str, ...], traced: Any,
        again: Callable[[Draws], Widened],
    ) -> None:  # fmt: skip
        super().__init__()
        self._function, self._specs, self._names = function, specs, names
        self._traced, self._again = traced, again

    @cached_property
    def _rounded(self) -> tuple[Draws, Widened]:
        draws = Draws()
        return draws, self._again(draws)

    def run_rounded(self, arrays: Sequence[Array], rounding: Rounding) -> dict[str, Array]:
        """Outputs by name of a run whose every operation rounds; ``arrays`` by position."""
        draws, twin = self._rounded
        with quiet(), draws.of(rounding):
            named = twin(*[tf.convert_to_tensor(array) for array in arrays])
        return {name: tensor.numpy() for name, tensor in named.items()}

    def __call__(self, *tensors: Any) -> dict[str, Any]:
        fitting = [
            tf.cast(tensor, spec.dtype) if spec.dtype.kind != "f" else tf.cast(tensor, tf.float64)
            for tensor, spec in zip(tensors, self._specs, strict=True)
        ]
        return dict(zip(self._names, self._function(*fitting), strict=True))


_DOUBLE = {
    dtype.as_datatype_enum: tf.float64.as_datatype_enum for dtype in (tf.float32, tf.float16, tf.bfloat16)
}
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def _widen_node(node: Any, change: Change | None) -> None:
    for attribute in node.attr.values():
        kind = attribute.WhichOneof("value")
        if kind == "type":
            attribute.type = _DOUBLE.get(attribute.type, attribute.type)
        elif kind == "list":
            attribute.list.type[:] = [_DOUBLE.get(one, one) for one in attribute.list.type]
        elif kind == "tensor" and attribute.tensor.dtype in _DOUBLE:
            array = tf.make_ndarray(attribute.tensor).astype(np.float64)
            moved = array if change is None else change(ANY, array)
            attribute.tensor.CopyFrom(tf.make_tensor_proto(moved, dtype=tf.float64, shape=array.shape))
