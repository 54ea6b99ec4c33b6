"""LSTM, GRU and SimpleRNN, found again in a loop.

The step of a loop is written by itself and run on numbers drawn by chance, with weights drawn by chance in place of its
own. What does to them what a cell's step does (``cells.py``) is that cell, in whatever order its operators stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from netferry.converters.errors import CannotConvert, NetferryError
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import recurrent
from netferry.converters.graph.schema.recurrent import DEFAULT_ACTIVATIONS, Direction, Names
from netferry.converters.signature import Array, TensorSpec
from netferry.converters.tensorflow.graphdef.restore import Handle
from netferry.converters.tensorflow.graphdef.to_onnx import cells, loops
from netferry.converters.tensorflow.graphdef.to_onnx.cells import Cell, Trial
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.lists import Element, Growing, TensorList
from netferry.converters.tensorflow.graphdef.to_onnx.walk import Walk

_BATCH, _LARGEST = 3, 1 << 26


@dataclass(frozen=True)
class _Form:
    """A loop that may be a recurrent layer: the places of its sequence, states, counters and what it yields."""

    sequence: int
    states: tuple[int, ...]
    counters: tuple[int, ...]
    yields: int | None


def recognised(loop: loops.Loop) -> list[Any] | None:
    """The results of a loop that is a recurrent layer, which is written; None for any other loop."""
    form = _form(loop)
    trips = None if form is None else loop.trips()
    if form is None or trips is None:
        return None
    g, x = loop.walk.g, loop.given[form.sequence].tensor
    if trips[1] is None or trips[1] != g.size_of(x, 0):
        return None
    try:
        trial, sources = _Probe(loop, form).trial()
    except (NetferryError, ValueError, IndexError, TypeError):
        return None
    cell = cells.found(trial)
    return None if cell is None else _layer(loop, form, cell, sources, trips)


def _form(loop: loops.Loop) -> _Form | None:
    carried = [at for at, role in enumerate(loop.roles) if role == loops.CARRIED]
    counters = tuple(at for at in carried if _is_counter(loop, at))
    states = tuple(at for at in carried if at not in counters)
    lists = [at for at, value in enumerate(loop.given) if isinstance(value, TensorList)]
    yields = [at for at in lists if loop.roles[at] in (loops.YIELDED, loops.LAST)]
    sequences = [at for at in lists if loop.roles[at] == loops.KEPT]
    fits = loop.bounds and 1 <= len(states) <= 2 and len(sequences) == 1 and len(yields) <= 1
    if not fits or not all(_is_state(loop.given[at]) for at in states):
        return None
    x = loop.given[sequences[0]].tensor
    if (
        x is None
        or x.dims is None
        or len(x.dims) != 3
        or not isinstance(x.dims[2], int)
        or x.dtype.kind != "f"
    ):
        return None
    if not _is_read_in_order(loop, sequences[0]):
        return None
    return _Form(sequences[0], states, counters, yields[0] if yields else None)


def _is_counter(loop: loops.Loop, position: int) -> bool:
    value = loop.given[position]
    return isinstance(value, Tensor) and value.dtype.kind == "i" and loop.steps_by_one(position)


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and value.dtype.kind == "f" and value.dims is not None
        and len(value.dims) == 2 and isinstance(value.dims[1], int)
    )  # fmt: skip


def _is_read_in_order(loop: loops.Loop, sequence: int) -> bool:
    """Every reader takes the element that the counter says, from the first one on."""
    readers = [
        node
        for node in loop.body.nodes.values()
        if node.operator not in ("Identity", "IdentityN")
        and any(loops.argument_of(loop.body, ref) == sequence for ref in node.inputs)
    ]
    for node in readers:
        counter = (
            loops.argument_of(loop.body, node.inputs[1]) if node.operator == "TensorListGetItem" else None
        )
        if counter is None or not _is_counter(loop, counter) or loop.start(counter) != 0:
            return False
    return bool(readers)


# ---- the step by itself ----------------------------------------------------------------------------


class _Probe(Walk):
    """Writes the step of a loop as a model of its own, in which each weight is an input."""

    def __init__(self, loop: loops.Loop, form: _Form) -> None:
        super().__init__(loop.walk.model, Emitter("step"))
        self._loop, self._form = loop, form
        self._rng = np.random.default_rng(0)
        self._feeds: dict[str, Array] = {}
        self._weights: dict[Any, Tensor] = {}
        self._arrays: dict[Any, Array] = {}
        self._sources: dict[Any, tuple[Array, str]] = {}

    def read(self, handle: Handle) -> Tensor:
        if handle.name not in self._weights:
            array = self.model.variable(handle.name)
            self._weight(handle.name, array, self.model.title_of(handle.name))
        return self._weights[handle.name]

    def _weight(self, key: Any, array: Array, name: str) -> None:
        drawn = self._rng.standard_normal(array.shape).astype(array.dtype) * np.asarray(0.6, array.dtype)
        self._weights[key], self._arrays[key], self._sources[key] = self._input(drawn), drawn, (array, name)

    def _input(self, array: Array) -> Tensor:
        if array.size > _LARGEST:
            raise CannotConvert("too large to be tried")
        name = f"x{len(self._feeds)}"
        self._feeds[name] = array
        return self.g.input(TensorSpec(name, array.dtype, array.shape))

    def trial(self) -> tuple[Trial, Mapping[Any, tuple[Array, str]]]:
        loop, form = self._loop, self._form
        given: list[Any] = [self._kept(at, value) for at, value in enumerate(loop.given)]
        x = self._drawn(loop.given[form.sequence].tensor.dims[2], loop.given[form.sequence].dtype)
        given[form.sequence] = Element(self._input(x))
        states = [self._drawn(loop.given[at].dims[1], loop.given[at].dtype) for at in form.states]
        for at, state in zip(form.states, states, strict=True):
            given[at] = self._input(state)
        for at in form.counters:
            given[at] = self._input(np.asarray(3, loop.given[at].dtype))
        if form.yields is not None:
            given[form.yields] = Growing(loop.given[form.yields].dtype)
        results = self.outputs(loop.body, loop.body.returns, {}, given)
        wanted = [self.tensor(results[at]) for at in form.states]
        if form.yields is not None:
            wanted.append(results[form.yields].item)
        for position, value in enumerate(wanted):
            assert value is not None
            self.g.output(value, f"y{position}")
        made = self._run()
        item = made[-1] if form.yields is not None else None
        return Trial(x, states, self._arrays, made[: len(states)], item), self._sources

    def _drawn(self, size: int, dtype: np.dtype[Any]) -> Array:
        return self._rng.standard_normal((_BATCH, size)).astype(dtype)

    def _kept(self, position: int, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.array is None:
            dims = [dim if isinstance(dim, int) else _BATCH for dim in value.dims or ()]
            return self._input(self._rng.standard_normal(dims).astype(value.dtype))
        if value.dtype.kind != "f" or value.array.ndim == 0:
            return self.g.constant(value.array)
        self._weight(position, value.array, value.name)
        return self._weights[position]

    def _run(self) -> list[Array]:
        model = ReferenceEvaluator(ir.to_proto(self.g.finish()))
        names = {value.name for value in model.proto_.graph.input}
        with np.errstate(all="ignore"):
            return list(
                model.run(None, {name: array for name, array in self._feeds.items() if name in names})
            )


# ---- the layer -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A layer that has been written, so that the other direction may join it."""

    cell: Cell
    x: Tensor
    direction: Direction
    names: Names
    reverse: bool
    part: str


def _layer(
    loop: loops.Loop,
    form: _Form,
    cell: Cell,
    sources: Mapping[Any, tuple[Array, str]],
    trips: tuple[Tensor, Any],
) -> list[Any]:
    g, x = loop.walk.g, loop.given[form.sequence].tensor
    source, reverse = g.unreversed(x, 0)
    direction = cell.direction({key: sources[key][0] for key in cell.keys})
    names = _names(cell, sources)
    initial = [loop.given[form.states[place]] for place in cell.states]
    plain = all(g.is_zero(each) for each in initial)
    sequence, *last = _written(g, cell, source, [direction], names, reverse, None if plain else initial)
    finals = [g.Squeeze(each, g.ints(0)) for each in last if each is not None]
    if plain:
        g.layers[sequence.value] = Written(cell, source, direction, names, reverse, "sequence")
        g.layers[finals[0].value] = Written(cell, source, direction, names, reverse, "last")
    if reverse:
        sequence = g.reversed(sequence, 0)
    results = list(loop.given)
    for place, final in zip(cell.states, finals, strict=True):
        results[form.states[place]] = final
    for at in form.counters:
        results[at] = _counted(g, loop.given[at], trips)
    if form.yields is not None:
        held = loop.given[form.yields]
        only = loop.roles[form.yields] == loops.LAST
        results[form.yields] = TensorList(
            held.dtype, held.element, tensor=_stacked(g, finals[0]) if only else sequence
        )
    return results


def _stacked(g: Emitter, last: Tensor) -> Tensor:
    y = g.Unsqueeze(last, g.ints(0))
    g.singles[y.value] = last
    return y


def _counted(g: Emitter, start: Tensor, trips: tuple[Tensor, Any]) -> Tensor:
    if isinstance(trips[1], int) and start.array is not None:
        return g.constant(np.asarray(start.array + trips[1], start.dtype))
    return g.Add(start, g.cast(trips[0], start.dtype))


def _written(
    g: Emitter,
    cell: Cell,
    x: Tensor,
    directions: Sequence[Direction],
    names: Names,
    reverse: bool,
    initial: Sequence[Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    states = [None if initial is None else g.Unsqueeze(each, g.ints(0)) for each in initial or (None, None)]
    kinds, alphas, betas = zip(*cell.activations, strict=True)
    usual = kinds == DEFAULT_ACTIVATIONS[cell.kind]
    sequence, h, c = recurrent.layer(
        g,
        cell.kind,
        "tensorflow",
        x,
        directions,
        names,
        reverse=reverse,
        initial_h=states[0],
        initial_c=states[1] if cell.kind == "LSTM" else None,
        activations=None if usual else kinds,
        alpha=None if usual else [alpha for alpha in alphas if alpha is not None],
        beta=None if usual else [beta for beta in betas if beta is not None],
        linear_before_reset=cell.form == "after" if cell.kind == "GRU" else None,
    )
    sizes = [*g.sizes_of(x)[:2], directions[0].r.shape[1] * len(directions)]
    return g.sized(sequence, sizes), h, c


def _names(cell: Cell, sources: Mapping[Any, tuple[Array, str]]) -> Names:
    own = [sources[key][1] for key in cell.keys]
    if cell.form == "gates":
        own = [own[2], f"{own[2]}/recurrent", own[3]]
    if cell.form.startswith("joint"):
        own = [own[0], f"{own[0]}/recurrent", *own[1:]]
    return Names(own[0], own[1], own[2] if len(own) > 2 else f"{own[0]}/bias")


# ---- both directions -------------------------------------------------------------------------------


def joined(g: Emitter, parts: Sequence[Tensor], axis: int) -> Tensor | None:
    """Two directions of one layer that are put side by side: the layer of both, where they are that."""
    if len(parts) != 2:
        return None
    one, other = (g.layers.get(part.value) for part in parts)
    if one is None or other is None or one.part != other.part or one.reverse == other.reverse or one.reverse:
        return None
    same = one.cell.kind == other.cell.kind and one.cell.activations == other.cell.activations
    same = (
        same
        and one.cell.form == other.cell.form
        and one.x.value is other.x.value
        and one.x.perm == other.x.perm
    )
    if not same or one.direction.r.shape != other.direction.r.shape:
        return None
    if parts[0].perm != parts[1].perm or _axis(parts[0], axis) != parts[0].rank - 1:
        return None
    return _both(g, one, other, parts[0])


def _axis(x: Tensor, axis: int) -> int:
    axis = axis % x.rank
    return axis if x.perm is None else x.perm[axis]


def _both(g: Emitter, one: Written, other: Written, like: Tensor) -> Tensor | None:
    key = (one.names, other.names, one.x.value)
    if key not in g.pairs:
        names = Names(*(_common(a, b) for a, b in zip(_all(one.names), _all(other.names), strict=True)))
        for packed, pair in zip(
            _all(names), zip(_all(one.names), _all(other.names), strict=True), strict=True
        ):
            g.made_of[packed] = pair
        g.pairs[key] = _written(g, one.cell, one.x, [one.direction, other.direction], names, False, None)
    sequence, last, _ = g.pairs[key]
    if one.part == "sequence":
        return sequence if like.perm is None else g.transpose(sequence, like.perm)
    flat = g.Reshape(g.transpose(last, (1, 0, 2)), g.ints(0, -1))
    return g.with_dims(flat, None if like.dims is None else (like.dims[0], None))


def _all(names: Names) -> tuple[str, str, str]:
    return names.w, names.r, names.b


def _common(one: str, other: str) -> str:
    """What the names of two directions share: ``bidirectional/forward_lstm/kernel`` and the backward one's."""
    a, b = one.split("/"), other.split("/")
    same = [x for x, y in zip(a, b, strict=False) if x == y]
    return "/".join(same) or one
