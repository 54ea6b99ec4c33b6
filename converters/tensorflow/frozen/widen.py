"""Any model of TensorFlow as one frozen graph in which every float is a double."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from netferry.converters.rounding import ANY
from netferry.converters.signature import Array, Example, TensorSpec
from netferry.converters.tensorflow.frozen.batch_norm import BATCH_NORMS, open_batch_norm
from netferry.converters.tensorflow.frozen.edit import Body, bodies, rename_functions
from netferry.converters.tensorflow.frozen.rounded import Draws, with_draws
from netferry.converters.tensorflow.frozen.single import surround, without_double
from netferry.converters.tensorflow.interface import ModelInterface
from netferry.converters.tensorflow.runtime import freeze, function_of_graph, quiet, tf
from netferry.converters.tensorflow.specs import tensor_specs

Change = Callable[[str, Array], Array]


def widened(
    interface: ModelInterface, given: Sequence[Example] | None, change: Change | None = None
) -> Frozen:
    """The model's graph, traced as it is, its variables as constants, with DT_DOUBLE for every narrow float.

    Raises:
        CannotConvert: an operator of the graph has no double kernel, or its own kind of dtype.
    """
    specs = interface.inputs(given).specs
    names: list[str] = []

    def call(*tensors: Any) -> list[Any]:
        named = interface.call(tensors)
        names[:] = named
        return list(named.values())

    concrete = tf.function(call, autograph=False).get_concrete_function(*tensor_specs(specs))
    frozen = freeze(concrete)
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(frozen.graph.as_graph_def())
    instead = _widen(graph, change)
    fetches = {name: instead.get(t.name, t.name) for name, t in zip(names, frozen.outputs, strict=True)}
    feeds = [tensor.name for tensor in frozen.inputs if tensor.dtype != tf.resource]
    return Frozen(graph, specs, feeds, fetches, concrete)


class Frozen(tf.Module):  # type: ignore[misc]
    """A graph in float64 that is called with tensors by position and gives them by name; ``kept`` is what it calls in Python."""

    def __init__(
        self, graph: Any, specs: Sequence[TensorSpec], feeds: Sequence[str], fetches: Mapping[str, str], kept: Any
    ) -> None:  # fmt: skip
        super().__init__()
        self._graph, self._specs, self._feeds, self._fetches, self._kept = graph, specs, feeds, fetches, kept
        rename_functions(graph)
        self._function = function_of_graph(graph, feeds, fetches.values())

    def __call__(self, *tensors: Any) -> dict[str, Any]:
        fitting = [
            tf.cast(tensor, spec.dtype) if spec.dtype.kind != "f" else tf.cast(tensor, tf.float64)
            for tensor, spec in zip(tensors, self._specs, strict=True)
        ]
        return dict(zip(self._fetches, self._function(*fitting), strict=True))

    def run_rounded(self, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
        """Outputs by name of a run whose every operation rounds to ``u``; ``arrays`` by position."""
        draws, twin = self._rounded
        with quiet(), draws.of(u, seed):
            named = twin(*[tf.convert_to_tensor(array) for array in arrays])
            return {name: tensor.numpy() for name, tensor in named.items()}

    @cached_property
    def _rounded(self) -> tuple[Draws, Frozen]:
        draws, graph = Draws(), tf.compat.v1.GraphDef()
        graph.CopyFrom(self._graph)
        with quiet():
            instead, kept = with_draws(graph, draws)
            fetches = {name: instead.get(tensor, tensor) for name, tensor in self._fetches.items()}
            return draws, Frozen(graph, self._specs, self._feeds, fetches, (self._kept, kept))


_DOUBLE = {
    dtype.as_datatype_enum: tf.float64.as_datatype_enum for dtype in (tf.float32, tf.float16, tf.bfloat16)
}


def _widen(graph: Any, change: Change | None) -> Mapping[str, str]:
    """Every float of a GraphDef a double; the result says which of its tensors stands for which that was there."""
    for function in graph.library.function:
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            argument.type = _DOUBLE.get(argument.type, argument.type)
    redirected, *_ = [_widen_body(body, None if i else change) for i, body in enumerate(bodies(graph))]
    return redirected


def _widen_body(body: Body, change: Change | None) -> Mapping[str, str]:
    for node in body.nodes:
        _widen_node(node, change if node.op == "Const" else None)
    norms = [node for node in body.nodes if node.op in BATCH_NORMS]
    for node in [each for each in body.nodes if each.op not in BATCH_NORMS]:
        surround(body, node)
    for node in norms:
        open_batch_norm(body, node)
    return body.finish(norms)


def _widen_node(node: Any, change: Change | None) -> None:
    single = {} if node.op in BATCH_NORMS else without_double(node)
    for name, attribute in node.attr.items():
        kind = attribute.WhichOneof("value")
        if kind == "type":
            attribute.type = single.get(name, _DOUBLE).get(attribute.type, attribute.type)
        elif kind == "list":
            attribute.list.type[:] = [_DOUBLE.get(one, one) for one in attribute.list.type]
        elif kind == "tensor" and attribute.tensor.dtype in _DOUBLE:
            array = tf.make_ndarray(attribute.tensor).astype(np.float64)
            moved = array if change is None else change(ANY, array)
            attribute.tensor.CopyFrom(tf.make_tensor_proto(moved, dtype=tf.float64, shape=array.shape))
