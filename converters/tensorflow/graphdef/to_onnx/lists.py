"""TensorFlow's lists of tensors: in ONNX one tensor, the elements along its first axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.tensorflow.graphdef.graph import Node
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Attrs, Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.walk import STRUCTURES, Walk


@dataclass(frozen=True)
class TensorList:
    """``tensor`` holds the elements, (count, ...), where there are any; else ``count`` of zeros, of the sizes ``element``."""

    dtype: np.dtype[Any]
    element: tuple[Any, ...] | None
    count: Tensor | None = None
    tensor: Tensor | None = None

    def stacked(self, g: Emitter, like: Tensor | None = None) -> Tensor:
        """All elements; ``like`` is one of them, where their sizes are not all known."""
        if self.tensor is not None:
            return self.tensor
        known = self.element is not None and all(isinstance(size, int) for size in self.element)
        if not known and like is None:
            raise CannotConvert(
                "it reads a list of tensors whose sizes are not known before they are written"
            )
        assert self.count is not None
        each = g.ints(*self.element) if known or like is None else g.Shape(like)  # type: ignore[misc]
        zeros = g.Expand(
            g.constant(np.zeros((), self.dtype)),
            g.Concat(g.Reshape(g.index(self.count), g.ints(1)), each, axis=0),
        )
        count = g.content(self.count)
        element = self.element if like is None else tuple(g.size_of(like, axis) for axis in range(like.rank))
        return g.sized(zeros, [None if count is None else count.reshape(-1)[0], *(element or ())])

    def length(self, g: Emitter) -> Tensor:
        if self.tensor is not None:
            return g.cast(g.length(self.tensor, 0), np.int32)
        assert self.count is not None
        return self.count


@dataclass(frozen=True)
class Growing:
    """A list while a loop writes its next element, which is ``item`` once it is there."""

    dtype: np.dtype[Any]
    item: Tensor | None = None


@dataclass(frozen=True)
class Element:
    """A list of which a step reads one element: what stands for it while the step is looked at alone."""

    item: Tensor


def _element(walk: Walk, shape: Any) -> tuple[Any, ...] | None:
    """The sizes of an element; None for each that is not known."""
    found = walk.g.content(walk.tensor(shape))
    if found is None or found.ndim != 1:
        return None
    return tuple(size if isinstance(size, Size) or size >= 0 else None for size in found)


def _dtype(walk: Walk, node: Node) -> np.dtype[Any]:
    return Attrs(node.attributes, node.name).dtype("element_dtype", np.float32)


@STRUCTURES.row("TensorListReserve")
def reserve(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    return [TensorList(_dtype(walk, node), _element(walk, read[0]), count=walk.tensor(read[1]))]


@STRUCTURES.row("TensorArrayV3")
def array(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """An array of TensorFlow 1: what flows is the list, the handle says nothing more."""
    dtype = Attrs(node.attributes, node.name).dtype("dtype", np.float32)
    return [None, TensorList(dtype, None, count=walk.tensor(read[0]))]


@STRUCTURES.row("EmptyTensorList")
def empty(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    return [TensorList(_dtype(walk, node), _element(walk, read[0]), count=walk.g.constant(0, np.int32))]


@STRUCTURES.row("TensorListFromTensor")
def from_tensor(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    x = walk.tensor(read[0])
    assert x is not None
    return [TensorList(x.dtype, None, tensor=x)]


@STRUCTURES.row("TensorListStack")
def stack(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    _demand_list(read[0])
    y = read[0].stacked(walk.g)
    element = _element(walk, read[1]) if len(read) > 1 else None
    if y.dims is None or element is None or len(element) + 1 != y.rank:
        return [y]
    count = Attrs(node.attributes, node.name).integer("num_elements", -1)
    return [walk.g.sized(y, [count if count >= 0 else walk.g.size_of(y, 0), *element])]


@STRUCTURES.row("TensorListGetItem")
def get_item(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    if isinstance(read[0], Element):
        return [read[0].item]
    _demand_list(read[0])
    index = walk.tensor(read[1])
    return [walk.g.settled_names(walk.g.Gather(read[0].stacked(walk.g), index, axis=0))]


@STRUCTURES.row("TensorListSetItem")
def set_item(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    item = walk.tensor(read[2])
    assert item is not None
    if isinstance(read[0], Growing):
        return [replace(read[0], item=item)]
    _demand_list(read[0])
    g, held = walk.g, read[0]
    if held.tensor is None and held.element is not None and item.dims is not None:
        held = replace(held, element=tuple(g.size_of(item, axis) for axis in range(item.rank)))
    index = g.Reshape(g.index(walk.tensor(read[1])), g.ints(1, 1))  # type: ignore[arg-type]
    whole = held.stacked(g, item)
    y = g.ScatterND(whole, index, g.Unsqueeze(item, g.ints(0)))
    return [TensorList(held.dtype, held.element, tensor=g.with_dims(y, whole.dims))]


@STRUCTURES.row("TensorListPushBack")
def push_back(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    item = walk.tensor(read[1])
    assert item is not None
    if isinstance(read[0], Growing):
        return [replace(read[0], item=item)]
    _demand_list(read[0])
    g, held = walk.g, read[0]
    last = g.Unsqueeze(item, g.ints(0))
    known = None if held.count is None else g.content(held.count)
    if held.tensor is None and known is not None and int(known.reshape(-1)[0]) == 0:
        return [TensorList(held.dtype, held.element, tensor=last)]
    return [TensorList(held.dtype, held.element, tensor=g.Concat(held.stacked(g), last, axis=0))]


@STRUCTURES.row("TensorListPopBack")
def pop_back(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    _demand_list(read[0])
    g, whole = walk.g, read[0].stacked(walk.g)
    rest = g.Slice(whole, g.ints(0), g.ints(-1), g.ints(0))
    return [TensorList(read[0].dtype, None, tensor=rest), g.Gather(whole, g.constant(-1, np.int64), axis=0)]


@STRUCTURES.row("TensorListLength")
def length(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    _demand_list(read[0])
    return [read[0].length(walk.g)]


@STRUCTURES.row("TensorListElementShape")
def element_shape(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    _demand_list(read[0])
    g, held = walk.g, read[0]
    dtype = Attrs(node.attributes, node.name).dtype("shape_type", np.int32)
    sizes = [-1 if size is None else size for size in held.element or ()]
    if held.tensor is None:
        return [g.constant(np.asarray(sizes), dtype)]
    return [g.cast(g.Shape(held.tensor, start=1), dtype)]


@STRUCTURES.row("TensorListGather")
def gather(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    _demand_list(read[0])
    return [walk.g.Gather(read[0].stacked(walk.g), walk.tensor(read[1]), axis=0)]


@STRUCTURES.row("TensorListConcatV2", "TensorListConcat")
def concat(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """The elements one behind the other, and how long each is."""
    _demand_list(read[0])
    g, whole = walk.g, read[0].stacked(walk.g)
    if whole.rank < 2:
        raise CannotConvert("it joins a list of numbers")
    tail = [g.size(whole, axis) for axis in range(2, whole.rank)]
    lengths = g.Expand(g.length(whole, 1), g.Shape(whole, start=0, end=1))
    return [g.Reshape(whole, g.vector([-1, *tail])), lengths]


@STRUCTURES.row("TensorListResize")
def resize(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    _demand_list(read[0])
    if read[0].tensor is not None:
        raise CannotConvert("it resizes a list that has elements")
    return [replace(read[0], count=walk.tensor(read[1]))]


def _demand_list(value: Any) -> None:
    if not isinstance(value, TensorList):
        raise CannotConvert("it reads a list while a loop writes it")
