"""TensorFlow's While as ONNX's Loop.

Each variable of the loop has one of four roles: it is kept as it is (and read from outside), it is carried from step to
step, it is a list that gets one element at each step (what the Loop yields), or a list of which one place is written
anew at each step (the last of what it yields).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import ge, gt, le, lt
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.tensor import typed
from netferry.converters.signature import Dim
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.graph import ARGUMENT, ARRAY, Graph, Node, Ref
from netferry.converters.tensorflow.graphdef.restore import Handle
from netferry.converters.tensorflow.graphdef.to_onnx.lists import Growing, TensorList
from netferry.converters.tensorflow.graphdef.to_onnx.walk import Text, Walk, truth

_TRIES = 4
KEPT, CARRIED, YIELDED, LAST = "kept", "carried", "yielded", "last"


_COMPARED = {"Less": lt, "LessEqual": le, "Greater": gt, "GreaterEqual": ge}


def origin(graph: Graph, ref: Ref) -> Ref:
    """Where a value comes from, behind nodes that hand it on as it is."""
    node = graph.nodes[ref.node]
    while node.operator in ("Identity", "IdentityN") and ref.port < len(node.inputs):
        ref = node.inputs[ref.port]
        node = graph.nodes[ref.node]
    return ref


def argument_of(graph: Graph, ref: Ref) -> int | None:
    """The position of the argument that a value is, if it is one."""
    node = graph.nodes[origin(graph, ref).node]
    return int(node.attributes["index"]) if node.operator == ARGUMENT else None


def constant_of(graph: Graph, ref: Ref) -> float | None:
    """The number that a value is, where it is a constant of one."""
    node = graph.nodes[origin(graph, ref).node]
    value = node.attributes.get("value")
    if node.operator == ARRAY:
        array = node.attributes["array"]
    elif node.operator == "Const" and value is not None and value.tensor.dtype in messages.DTYPES:
        array = messages.array_of(value.tensor, node.name)
    else:
        return None
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iuf" else None


@dataclass(frozen=True)
class Bound:
    """``counter < limit``: the positions of both, the limit's as a constant where it is one."""

    counter: int
    limit: int | None
    number: float | None


class Loop:
    """A While with what it is given; ``condition`` and ``body`` take all of its variables."""

    def __init__(self, walk: Walk, condition: Graph, body: Graph, given: list[Any]) -> None:
        self.walk, self.condition, self.body, self.given = walk, condition, body, list(given)

    # ---- what is known of it before it is written ------------------------------------------------------

    @cached_property
    def roles(self) -> list[str]:
        return [self._role(position) for position in range(len(self.given))]

    def _role(self, position: int) -> str:
        value = self.given[position]
        if self._is_kept(position):
            return KEPT
        if isinstance(value, Handle) and value.name not in self.walk.model.bindings.tables:
            value = self.given[position] = self.walk.read(value)
        if isinstance(value, Handle | Text) or value is None:
            raise CannotConvert("its body gives another table or text than it was given")
        if not isinstance(value, TensorList):
            return CARRIED
        return self._written_as(position)

    def _written_as(self, position: int) -> str:
        """A list that only the next element is written of, or only one place."""
        node = self.writer(position)
        if node is None:
            return CARRIED
        if node.operator == "TensorListPushBack":
            return YIELDED if self.given[position].tensor is None and self._is_empty(position) else CARRIED
        counter = argument_of(self.body, node.inputs[1])
        if counter is not None and (self._counts_up(counter) or self._counts_down(position, counter)):
            return YIELDED if self.given[position].tensor is None else CARRIED
        return (
            LAST if constant_of(self.body, node.inputs[1]) == 0 and self._length(position) == 1 else CARRIED
        )

    def writer(self, position: int) -> Node | None:
        """The one node that writes the list, if it is all that reads it."""
        node = self.body.nodes[origin(self.body, self.body.returns[position]).node]
        if node.operator not in ("TensorListSetItem", "TensorListPushBack"):
            return None
        own = argument_of(self.body, node.inputs[0]) == position
        readers = [
            each.name
            for each in self.body.nodes.values()
            if each.operator not in ("Identity", "IdentityN")
            and any(argument_of(self.body, ref) == position for ref in each.inputs)
        ]
        return node if own and readers == [node.name] else None

    def _is_empty(self, position: int) -> bool:
        return bool(self._length(position) == 0)

    def _length(self, position: int) -> Any:
        held = self.given[position]
        known = None if held.count is None else self.walk.g.content(held.count)
        return None if known is None else known.reshape(-1)[0]

    def steps_by_one(self, position: int) -> bool:
        return bool(self._step(position) == 1)

    def _step(self, position: int) -> Any:
        """What is added to a variable at each step, where that is all that happens to it."""
        node = self.body.nodes[origin(self.body, self.body.returns[position]).node]
        if node.operator not in ("Add", "AddV2", "Sub") or len(node.inputs) != 2:
            return None
        own = [argument_of(self.body, ref) == position for ref in node.inputs]
        if own.count(True) != 1 or (node.operator == "Sub" and not own[0]):
            return None
        by = self._number(self.body, node.inputs[own.index(False)])
        return None if by is None else -by if node.operator == "Sub" else by

    def _counts_up(self, position: int) -> bool:
        return bool(self.steps_by_one(position) and self.start(position) == 0)

    def _counts_down(self, list_: int, position: int) -> bool:
        """From the last place of a list on."""
        length, start = self._length(list_), self.start(position)
        known = length is not None and start is not None
        return bool(self._step(position) == -1 and known and start == length - 1)

    def _reaches_zero(self, list_: int, position: int) -> bool:
        """Whether a counter that comes down from a list's last place gets to its first, whatever else ends the loop."""
        waiting, found = [self.condition.returns[0]], False
        while waiting:
            node = self.condition.nodes[origin(self.condition, waiting.pop()).node]
            if node.operator == "LogicalAnd":
                waiting.extend(node.inputs)
                continue
            if node.operator not in ("GreaterEqual", "Less"):
                return False
            counter, limit = (argument_of(self.condition, ref) for ref in node.inputs)
            number = constant_of(self.condition, node.inputs[1]) if limit is None else self.start(limit)
            if counter is None or number is None:
                return False
            if node.operator == "Less":
                kept = limit is None or self._is_kept(limit)
                if not (kept and self._counts_up(counter) and bool(number == self._length(list_))):
                    return False
            elif counter != position or limit is not None or number != 0:
                return False
            else:
                found = True
        return found

    def _is_kept(self, position: int) -> bool:
        """Whether a variable is the same at every step."""
        return argument_of(self.body, self.body.returns[position]) == position

    def _number(self, graph: Graph, ref: Ref) -> Any:
        """The number that a value of the condition or the body is at every step, where it is known."""
        position = argument_of(graph, ref)
        if position is None:
            return constant_of(graph, ref)
        kept = argument_of(self.body, self.body.returns[position]) == position
        number = self.start(position) if kept else None
        return None if isinstance(number, Size) else number

    def _always(self, ref: Ref) -> bool | None:
        """What a part of the condition is at every step, where that is known: ``range`` asks for its direction."""
        node = self.condition.nodes[origin(self.condition, ref).node]
        if node.operator in ("LogicalAnd", "LogicalOr"):
            sides = [self._always(each) for each in node.inputs]
            decides = node.operator == "LogicalOr"
            return decides if decides in sides else None if None in sides else not decides
        if node.operator not in _COMPARED:
            return None
        numbers = [self._number(self.condition, each) for each in node.inputs]
        return None if None in numbers else bool(_COMPARED[node.operator](*numbers))

    def start(self, position: int) -> Any:
        known = (
            self.walk.g.content(self.given[position]) if isinstance(self.given[position], Tensor) else None
        )
        return None if known is None or known.size != 1 else known.reshape(-1)[0]

    @cached_property
    def bounds(self) -> list[Bound] | None:
        """The condition as counters that stay below their limits; None where it says anything else."""
        found: list[Bound] = []
        waiting = [self.condition.returns[0]]
        while waiting:
            part = waiting.pop()
            if self._always(part):
                continue
            node = self.condition.nodes[origin(self.condition, part).node]
            possible = [ref for ref in node.inputs if self._always(ref) is not False]
            if node.operator == "LogicalAnd" or (node.operator == "LogicalOr" and len(possible) == 1):
                waiting.extend(node.inputs if node.operator == "LogicalAnd" else possible)
                continue
            if node.operator != "Less":
                return None
            counter, limit = (argument_of(self.condition, ref) for ref in node.inputs)
            number = constant_of(self.condition, node.inputs[1])
            kept = number is not None or (limit is not None and self.roles[limit] == KEPT)
            if counter is None or not kept or not self.steps_by_one(counter):
                return None
            found.append(Bound(counter, limit, number))
        return found

    def trips(self) -> tuple[Tensor, Any] | None:
        """How often the loop runs, as an int64 tensor and as far as it is known; None where each step must be asked."""
        if not self.bounds:
            return None
        g = self.walk.g
        tensors: list[Tensor] = []
        sizes: list[Any] = []
        for bound in self.bounds:
            limit = (
                g.constant(int(bound.number), np.int64)
                if bound.number is not None
                else self._given(bound.limit)
            )
            start = self._given(bound.counter)
            last, first = g.content(limit), g.content(start)
            known = None
            if last is not None and first is not None:
                known = last.reshape(-1)[0] - first.reshape(-1)[0]
            if known is not None and any(known == each for each in sizes if each is not None):
                continue
            sizes.append(known)
            begins = (
                first is not None and not isinstance(first.reshape(-1)[0], Size) and first.reshape(-1)[0] == 0
            )
            tensors.append(g.index(limit) if begins else g.Sub(g.index(limit), g.index(start)))
        if all(isinstance(size, int | np.integer) for size in sizes):
            least = max(0, min(int(size) for size in sizes))
            return g.constant(least, np.int64), least
        whole = tensors[0] if len(tensors) == 1 else g.Min(*(g.Reshape(each, g.ints(1)) for each in tensors))
        scalar = whole if whole.dims == () else g.Squeeze(whole, g.ints(0))
        return scalar, sizes[0] if len(sizes) == 1 else None

    def _given(self, position: int | None) -> Tensor:
        found = self.walk.tensor(self.given[position or 0])
        assert found is not None
        return found

    # ---- writing it --------------------------------------------------------------------------------

    def written(self) -> list[Any]:
        carried = [at for at, role in enumerate(self.roles) if role == CARRIED]
        initial = {at: self._initial(at) for at in carried}
        dims = {at: x.dims for at, x in initial.items()}
        for _ in range(_TRIES):
            graph, outer = self._body(carried, initial, dims)
            fits = {at: _common(dims[at], x.dims) for at, x in zip(carried, outer, strict=False)}
            if fits == dims:
                return self._node(graph, carried, initial, outer)
            dims = fits
        raise CannotConvert("the sizes of what it carries change from step to step")

    def _initial(self, position: int) -> Tensor:
        value = self.given[position]
        x = value.stacked(self.walk.g) if isinstance(value, TensorList) else self.walk.tensor(value)
        assert x is not None
        return x

    def _body(
        self, carried: Sequence[int], initial: dict[int, Tensor], dims: dict[int, tuple[Dim, ...] | None]
    ) -> tuple[Any, list[Tensor]]:
        g = self.walk.g
        inner = {at: g.settled_names(g.given(initial[at].dtype, dims[at])) for at in carried}
        number, going = g.given(np.dtype(np.int64), ()), g.given(np.dtype(np.bool_), ())

        def write() -> list[Tensor]:
            results = self.walk.outputs(self.body, self.body.returns, {}, self.step_values(inner))
            outputs = [self._carried(results[at]) for at in carried]
            yielded = [
                self._item(results[at]) for at, role in enumerate(self.roles) if role in (YIELDED, LAST)
            ]
            return [self._goes_on(results, going), *outputs, *yielded]

        graph, results = g.body("body", [number, going, *inner.values()], write)
        return graph, results[1:]

    def step_values(self, inner: dict[int, Any]) -> list[Any]:
        """What the body is given at a step."""
        return [
            inner[at] if at in inner else value if self.roles[at] == KEPT else Growing(value.dtype)
            for at, value in enumerate(self._lists(inner))
        ]

    def _lists(self, inner: dict[int, Any]) -> list[Any]:
        """A list that is carried is a list again inside."""
        for at, x in list(inner.items()):
            if isinstance(self.given[at], TensorList) and isinstance(x, Tensor):
                inner[at] = TensorList(self.given[at].dtype, self.given[at].element, tensor=x)
        return self.given

    def _carried(self, value: Any) -> Tensor:
        x = value.stacked(self.walk.g) if isinstance(value, TensorList) else self.walk.tensor(value)
        assert x is not None
        return x

    def _item(self, value: Any) -> Tensor:
        if not isinstance(value, Growing) or value.item is None:
            raise CannotConvert("a list that it writes in a way that is not supported")
        return value.item

    def _goes_on(self, results: Sequence[Any], going: Tensor) -> Tensor:
        if self.bounds:
            return going
        (condition,) = self.walk.outputs(self.condition, self.condition.returns[:1], {}, results)
        found = self.walk.tensor(condition)
        assert found is not None
        return truth(self.walk, found)

    def _node(
        self, graph: Any, carried: Sequence[int], initial: dict[int, Tensor], outer: Sequence[Tensor]
    ) -> list[Any]:
        g, trips = self.walk.g, self.trips()
        begins = None
        if trips is None:
            (condition,) = self.walk.outputs(self.condition, self.condition.returns[:1], {}, self.given)
            found = self.walk.tensor(condition)
            assert found is not None
            begins = truth(self.walk, found)
        else:
            begins = g.constant(np.asarray(True))
        operands = [None if trips is None else trips[0], begins, *(initial[at] for at in carried)]
        values = g.holding("Loop", operands, len(outer), body=graph)
        results = list(self.given)
        for at, value, x in zip(carried, values, outer, strict=False):
            final = g.settled_names(typed(value, x.dtype, _common(initial[at].dims, x.dims)))
            held = self.given[at]
            results[at] = (
                TensorList(held.dtype, held.element, tensor=final) if isinstance(held, TensorList) else final
            )
        listed = [at for at, role in enumerate(self.roles) if role in (YIELDED, LAST)]
        for at, value, x in zip(listed, values[len(carried) :], outer[len(carried) :], strict=True):
            count = None if trips is None or trips[1] is None else g.dim_of(trips[1])
            inside = g.shown(x.dims)
            whole = g.settled_names(typed(value, x.dtype, None if inside is None else (count, *inside)))
            results[at] = self._list(at, whole, trips)
        return results

    def _list(self, position: int, whole: Tensor, trips: tuple[Tensor, Any] | None) -> TensorList:
        """What was yielded, as the list that TensorFlow has: places that no step has written are zeros."""
        g, held = self.walk.g, self.given[position]
        if self.roles[position] == LAST:
            return TensorList(
                held.dtype, held.element, tensor=g.Slice(whole, g.ints(-1), g.ints(2**62), g.ints(0))
            )
        length = self._length(position)
        node = self.writer(position)
        if node is not None and node.operator == "TensorListSetItem":
            counter = argument_of(self.body, node.inputs[1])
            if counter is not None and self._step(counter) == -1:
                return self._from_behind(position, counter, whole)
        grows = node is not None and (node.operator == "TensorListPushBack" or length == 0)
        if grows or (
            trips is not None and trips[1] is not None and length is not None and length == trips[1]
        ):
            return TensorList(held.dtype, held.element, tensor=whole)
        if whole.dims is None or held.count is None:
            return TensorList(held.dtype, held.element, tensor=whole)
        missing = g.Sub(g.Reshape(g.index(held.count), g.ints(1)), g.Shape(whole, start=0, end=1))
        pads = g.Concat(g.ints(*[0] * whole.rank), missing, g.ints(*[0] * (whole.rank - 1)), axis=0)
        padded = g.Pad(whole, pads)
        return TensorList(held.dtype, held.element, tensor=g.sized(padded, [length, *g.sizes_of(whole)[1:]]))

    def _from_behind(self, position: int, counter: int, whole: Tensor) -> TensorList:
        """A list that was written from its last place on; places that no step has written are zeros, in front."""
        g, held = self.walk.g, self.given[position]
        y = g.reversed(whole, 0)
        if not self._reaches_zero(position, counter):
            missing = g.Sub(g.Reshape(g.index(held.count), g.ints(1)), g.Shape(whole, start=0, end=1))
            y = g.Pad(y, g.Concat(missing, g.ints(*[0] * (2 * whole.rank - 1)), axis=0))
        sizes = None if whole.dims is None else [self._length(position), *g.sizes_of(whole)[1:]]
        return TensorList(held.dtype, held.element, tensor=g.sized(y, sizes))


def _common(one: tuple[Dim, ...] | None, other: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))
