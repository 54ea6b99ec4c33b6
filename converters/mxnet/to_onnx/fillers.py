"""Constants whose sizes MXNet infers, as first states of cells are: ``zeros(shape=(0, 8))``. They stand with size 1 until something of known size meets them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.symbol import Node
from netferry.converters.mxnet.to_onnx import elementwise
from netferry.converters.mxnet.to_onnx.emitter import Emitter
from netferry.converters.mxnet.to_onnx.sizes import positive, shape_tensor, size_of

_MAKERS = frozenset({"_zeros", "_ones", "_full"})

_BROADCAST = elementwise.POINTWISE | set(
    "RNN FullyConnected Activation LeakyReLU SliceChannel BlockGrad _copy Dropout where ones_like zeros_like".split()
)
"""Operators to which such a constant may come: it is broadcast, or stands for no state."""

_BY_ROWS = frozenset({"Convolution", "Deconvolution", "Pooling", "expand_dims"})
"""Those that do the same with each row, so that nothing but the number of rows may be open."""

_JOINS = {"Concat": 1, "stack": 0}
"""Those that join it to others, whose number of rows it takes; and the axis on which they do unless they say so."""


@dataclass
class Fillers:
    """``open``: the positions of the nodes whose sizes are still open, and whether nothing but their number of rows is."""

    open: dict[int, bool] = field(default_factory=dict)

    def met(
        self, g: Emitter, node: Node, position: int, operands: list[Tensor | None]
    ) -> list[Tensor | None]:
        """The operands with which the node is written; whether its own result stays open is noted.

        Raises:
            CannotConvert: the node needs a size that is open.
        """
        if node.op in _MAKERS:
            sizes = Attrs(node).integers("shape", ())
            if any(size < 1 for size in sizes):
                self.open[position] = all(size > 0 for size in sizes[1:])
            return operands
        sources = [source for source, _ in node.inputs]
        found = [source in self.open for source in sources]
        if not any(found):
            return operands
        rows = all(self.open.get(source, True) for source in sources)
        joins = node.op in _JOINS and rows and _axis(node, operands) > 0
        if not (node.op in _BROADCAST or (node.op in _BY_ROWS and rows) or joins):
            raise CannotConvert("a constant whose size MXNet infers comes to it")
        if joins and not all(found):
            return _as_long(g, operands, found)
        known = (x is None or x.array is not None for x in operands)
        if node.op != "RNN" and all(each or other for each, other in zip(found, known, strict=True)):
            self.open[position] = rows and node.op != "expand_dims"
        return operands


def _axis(node: Node, operands: Sequence[Tensor | None]) -> int:
    """The axis on which a node joins its inputs, counted in the result."""
    name = "dim" if node.op == "Concat" else "axis"
    rank = operands[0].rank if operands[0] is not None else 0
    return positive(Attrs(node).integer(name, _JOINS[node.op]), rank + (node.op == "stack"))


def _as_long(g: Emitter, operands: Sequence[Tensor | None], fillers: Sequence[bool]) -> list[Tensor | None]:
    """Constants get as many rows as what they are joined to."""
    longest = next(x for x, filler in zip(operands, fillers, strict=True) if x is not None and not filler)
    found: list[Tensor | None] = []
    for x, filler in zip(operands, fillers, strict=True):
        if x is not None and filler:
            sizes = [size_of(longest, 0), *(size_of(x, axis) for axis in range(1, x.rank))]
            x = g.Expand(x, shape_tensor(g, longest, sizes))
        found.append(x)
    return found
