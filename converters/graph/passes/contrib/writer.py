"""What a row writes standard ONNX with, in the place of the operator that it opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.inference import contents
from netferry.converters.graph.inference.evaluate import Evaluator
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.signature import Array

Value = ir.Value
Maybe = ir.Value | None


class Writer:
    """Nodes before ``node``, each with its facts at once: ``g.Relu(x)`` gives the value that it makes.

    Operators that a row writes are those that every target's table knows, so that none of them is opened in turn.
    ``floats``: whether weights of integers are to be floats.
    """

    def __init__(self, node: ir.Node, evaluator: Evaluator, *, floats: bool = False) -> None:
        assert isinstance(node.graph, ir.Graph)
        self.node, self.floats = node, floats
        self.graph: ir.Graph = node.graph
        self.facts = evaluator.facts
        self._evaluator = evaluator
        self._written: list[ir.Node] = []
        self._constants: list[ir.Value] = []

    # ---- writing --------------------------------------------------------------------------------------

    def __getattr__(self, op_type: str) -> Callable[..., Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def call(*inputs: Maybe, **attributes: Any) -> Value:
            return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

        return call

    def ops(
        self, op_type: str, *inputs: Maybe, outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[Value, ...]:
        """A node with ``outputs`` outputs. Attributes that are None are left at ONNX's default."""
        operands = list(inputs)
        while operands and operands[-1] is None:
            operands.pop()
        given = {name: value for name, value in attributes.items() if value is not None}
        name = f"{self.node.name}/{op_type}" + (f"_{len(self._written)}" if self._written else "")
        node = ir.node(op_type, operands, given, num_outputs=outputs, domain=domain, name=name)
        for position, value in enumerate(node.outputs):
            value.name = f"{name}_{position}" if position else name
        self.graph.insert_before(self.node, node)
        self._written.append(node)
        self._evaluator.node(node)
        return tuple(node.outputs)

    def constant(self, array: Any, dtype: Any = None, name: str = "", of: Maybe = None) -> Value:
        """An initializer of the graph; ``of`` is the source's weight that it is, in another form."""
        content = np.asarray(array, dtype)
        name = name or f"{self.node.name}/constant_{len(self._constants)}"
        value = ir.Value(name=name, const_value=ir.tensor(content, name=name))
        value.shape, value.type = ir.Shape(content.shape), ir.TensorType(contents.onnx_dtype(content.dtype))
        self.graph.register_initializer(value)
        self._constants.append(value)
        self.facts[value] = contents.of_array(content, name="" if of is None else self.facts[of].name)
        return value

    def ints(self, *values: int) -> Value:
        """A vector of int64, as shapes, axes and pads are given."""
        return self.constant(list(values), np.int64)

    def scalar(self, value: float, like: Value) -> Value:
        """A number of the dtype of ``like``."""
        return self.constant(value, self.dtype(like))

    def like(self, x: Value, pattern: Value) -> Value:
        """``x`` cast to the dtype of ``pattern``, where it is of another."""
        return self.as_dtype(x, self.dtype(pattern))

    def as_dtype(self, x: Value, dtype: Any) -> Value:
        wanted = np.dtype(dtype)
        return x if self.dtype(x) == wanted else self.Cast(x, to=int(contents.onnx_dtype(wanted)))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        return x if list(perm) == list(range(len(perm))) else self.Transpose(x, perm=list(perm))

    def reshape(self, x: Value, *sizes: int | Value) -> Value:
        """To these sizes: numbers as Reshape has them (0 keeps, -1 is what is left), or values that hold one."""
        return self.Reshape(x, self.sizes(*sizes))

    def sizes(self, *sizes: int | Value) -> Value:
        if all(isinstance(size, int) for size in sizes):
            return self.ints(*sizes)  # type: ignore[arg-type]
        parts = [self.ints(size) if isinstance(size, int) else size for size in sizes]
        return self.Concat(*parts, axis=0)

    def size(self, x: Value, axis: int) -> Value:
        """The size of an axis, as a vector of one."""
        axis %= self.rank(x)
        return self.Shape(x, start=axis, end=axis + 1)

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        return self.Unsqueeze(x, self.ints(*axes))

    def squeeze(self, x: Value, *axes: int) -> Value:
        return self.Squeeze(x, self.ints(*axes))

    def slice(self, x: Value, axis: int, start: int | Value, end: int | Value) -> Value:
        """``x[start:end]`` along an axis; values are vectors of one."""
        first, last = (self.ints(place) if isinstance(place, int) else place for place in (start, end))
        return self.Slice(x, first, last, self.ints(axis))

    def split(self, x: Value, axis: int, *sizes: int) -> tuple[Value, ...]:
        return self.ops("Split", x, self.ints(*sizes), outputs=len(sizes), axis=axis)

    # ---- asking -------------------------------------------------------------------------------------

    def dims(self, x: Value) -> tuple[int | Size, ...]:
        dims = self.facts[x].dims
        if dims is None:
            raise CannotConvert(
                f"the rank of its input '{x.name}' is not known", "Give the model's values shapes"
            )
        return dims

    def rank(self, x: Value) -> int:
        return len(self.dims(x))

    def known(self, x: Value, axis: int, what: str) -> int:
        """A size that must be a number before the model runs."""
        size = self.dims(x)[axis]
        if not isinstance(size, int):
            raise CannotConvert(f"{what} is known only when the model runs")
        return size

    def dtype(self, x: Value) -> np.dtype[Any]:
        dtype = self.facts[x].dtype
        if dtype is None:
            raise CannotConvert(f"the dtype of its input '{x.name}' is not known")
        return dtype

    def content(self, x: Value, what: str) -> Array:
        """What an input that must be a constant holds."""
        found = self.facts[x].constant
        if found is None:
            raise CannotConvert(f"{what} is known only when the model runs")
        return found

    def asked(self, position: int) -> bool:
        """Whether something reads an output of the node that is opened."""
        outputs = self.node.outputs
        if position >= len(outputs):
            return False
        return bool(outputs[position].name) and (
            bool(outputs[position].uses()) or outputs[position].is_graph_output()
        )

    def constant_of(self, x: Maybe) -> Array | None:
        return None if x is None else self.facts[x].constant

    # ---- ending -------------------------------------------------------------------------------------

    def replace(self, results: Sequence[Maybe]) -> None:
        """Let ``results`` stand in the place of the node's outputs, under their names; the node is gone."""
        for value, result in zip(self.node.outputs, results, strict=False):
            if result is None or not value.name:
                continue
            if result.producer() is None or result.is_graph_output() or value.is_graph_output():
                result = self.Identity(result)
            result.type, result.shape = result.type or value.type, result.shape or value.shape
            value.replace_all_uses_with(result, replace_graph_outputs=True)
            result.name, value.name = value.name, ""
        self.graph.remove(self.node, safe=True)

    def undo(self) -> None:
        """Take everything back that was written."""
        for node in reversed(self._written):
            self.graph.remove(node)
            for position in range(len(node.inputs)):
                node.replace_input_with(position, None)
        for value in self._constants:
            del self.graph.initializers[str(value.name)]
