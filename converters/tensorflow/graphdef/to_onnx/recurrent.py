"""LSTM, GRU and SimpleRNN, found again in a loop.

The step of a loop is written by itself and run on numbers drawn by chance, with weights drawn by chance in place of its
own. What does to them what a cell's step does (``cells.py``) is that cell, in whatever order its operators stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np

from netferry.converters.errors import NetferryError
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import recurrent
from netferry.converters.graph.schema.masks import MaskedSteps, Padded
from netferry.converters.graph.schema.recurrent import DEFAULT_ACTIVATIONS, Direction, Names
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.to_onnx import loops, patterns
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.lists import TensorList
from netferry.converters.tensorflow.graphdef.to_onnx.steps import masks
from netferry.converters.tensorflow.graphdef.to_onnx.steps.cells import Cell
from netferry.converters.tensorflow.graphdef.to_onnx.steps.form import Form, form_of
from netferry.converters.tensorflow.graphdef.to_onnx.steps.trial import Probe

SWAPPED = (1, 0, 2)


def recognised(loop: loops.Loop) -> list[Any] | None:
    """The results of a loop that is a recurrent layer, which is written; None for any other loop."""
    form = form_of(loop)
    trips = None if form is None else loop.trips()
    if form is None or trips is None:
        return None
    if not _reads_all(loop, form, trips):
        return None
    try:
        trial, sources = Probe(loop, form).trial()
    except (NetferryError, ValueError, IndexError, TypeError):
        return None
    step = masks.found(trial)
    if step is None or not _begins_with_zeros(loop, form, step):
        return None
    return _layer(loop, form, step, sources, trips)


def _reads_all(loop: loops.Loop, form: Form, trips: tuple[Tensor, Any]) -> bool:
    """Whether the loop has as many steps as the sequence, or as the longest of its rows."""
    g = loop.walk.g
    size = g.size_of(loop.given[form.sequence].tensor, 0)
    if trips[1] is not None and trips[1] == size:
        return True
    if form.lengths is None:
        return False
    lengths = g.as_given(loop.given[form.lengths])
    limits = [loop.given[bound.limit] for bound in loop.bounds or () if bound.limit is not None]
    return bool(limits) and all(
        _is(g, limit, size) or _is_longest(g, limit, size, lengths) for limit in limits
    )


def _is(g: Emitter, x: Tensor, size: Any) -> bool:
    known = g.content(x)
    return known is not None and known.size == 1 and known.reshape(-1)[0] == size


def _is_longest(g: Emitter, x: Tensor, size: Any, lengths: Tensor) -> bool:
    """``min(size, max(1, max(lengths)))``, as TensorFlow 1 counts."""
    least = patterns.read_by(g, x, "Minimum") or ()
    for whole in least:
        most = patterns.read_by(g, whole, "Maximum") or ()
        longest = [patterns.read_by(g, each, "Max") for each in most if not _is(g, each, 1)]
        if any(_is(g, each, size) for each in least) and len(longest) == 1 and longest[0] is not None:
            return patterns.same(g.as_given(longest[0][0]), lengths)
    return False


def _begins_with_zeros(loop: loops.Loop, form: Form, step: masks.Step) -> bool:
    """Whether what is put out before any step counts is zero: the first output that is handed on, else the first state."""
    if form.lengths is not None and form.yields is not None and not step.zeros:
        return False
    if step.handed is None and (form.mask is None or step.zeros):
        return True
    first = step.cells[-1].states[0] if step.handed is None else step.handed
    return loop.walk.g.is_zero(loop.given[form.states[first]])


# ---- the layer -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a layer reads: ``x`` (time, batch, input) in the order of time, from behind where ``reverse``; steps that are left out, if any."""

    x: Tensor
    reverse: bool
    steps: MaskedSteps | Padded | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """The same for two layers that read the same."""
        return self.x.value, self.x.perm, self.steps


def _source(loop: loops.Loop, form: Form) -> Source:
    g, x = loop.walk.g, loop.given[form.sequence].tensor
    if form.lengths is not None:
        steps = _kept(g, g.as_given(loop.given[form.lengths]), Padded)
        base, turned = g.unturned(g.transpose(x, SWAPPED), steps.lengths)
        return Source(g.transpose(base, SWAPPED), turned, steps)
    source, reverse = g.unreversed(x, 0)
    if form.mask is None:
        return Source(source, reverse)
    mask, turned = g.unreversed(loop.given[form.mask].tensor, 0)
    if turned != reverse:
        source, reverse, mask = x, False, loop.given[form.mask].tensor
    return Source(source, reverse, _kept(g, _of_rows(g, mask), MaskedSteps))


def _of_rows(g: Emitter, mask: Tensor) -> Tensor:
    """A mask (time, batch), or (time, batch, 1), as (batch, time)."""
    if mask.rank == 2:
        return g.transpose(mask, (1, 0))
    swapped = g.transpose(mask, SWAPPED)
    wide = patterns.read_by(g, swapped, "ExpandDims")
    return wide[0] if wide is not None and wide[0].rank == 2 else g.Squeeze(swapped, g.ints(2))  # type: ignore[no-any-return]


def _kept(g: Emitter, x: Tensor, kind: Any) -> Any:
    """The steps that a mask or lengths leave out, written once for all layers that read them."""
    key = x.value, x.perm
    if key not in g.left_out:
        g.left_out[key] = kind(g, x)
    return g.left_out[key]


@dataclass(frozen=True)
class Written:
    """A layer that has been written, so that the other direction may join it."""

    cell: Cell
    source: Source
    direction: Direction
    names: Names
    zeros: bool
    part: str


def _layer(
    loop: loops.Loop,
    form: Form,
    step: masks.Step,
    sources: Mapping[Any, tuple[Array, str]],
    trips: tuple[Tensor, Any],
) -> list[Any]:
    """The results of the loop: its cells written as layers, each on the sequence of the one before."""
    g, source, results = loop.walk.g, _source(loop, form), list(loop.given)
    for cell in step.cells:
        last = cell is step.cells[-1]
        initial = [loop.given[form.states[place]] for place in cell.states]
        zeros = step.zeros or not last
        run = _run(g, cell, source, sources, initial, zeros, alone=len(step.cells) == 1)
        for place, final in zip(cell.states, run.finals, strict=True):
            results[form.states[place]] = final
        if not last:
            source = replace(source, x=run.sequence)
    if step.handed is not None:
        results[form.states[step.handed]] = run.output
    for at in form.counters:
        results[at] = _counted(g, loop.given[at], trips)
    if form.yields is not None:
        held = loop.given[form.yields]
        only = loop.roles[form.yields] == loops.LAST
        listed = _stacked(g, run.output) if only else _as_read(g, source, run.sequence)
        results[form.yields] = TensorList(held.dtype, held.element, tensor=listed)
    return results


@dataclass(frozen=True)
class _Run:
    """What a layer gives: the sequence in the order of time, its states at the end, and what it puts out last."""

    sequence: Tensor
    finals: Sequence[Tensor]
    output: Tensor


def _run(
    g: Emitter,
    cell: Cell,
    source: Source,
    sources: Mapping[Any, tuple[Array, str]],
    initial: Sequence[Tensor],
    zeros: bool,
    *,
    alone: bool,
) -> _Run:
    direction = cell.direction({key: sources[key][0] for key in cell.keys})
    names = _names(cell, sources)
    plain = all(g.is_zero(each) for each in initial)
    sequence, *last = _written(g, cell, source, [direction], names, zeros, None if plain else initial)
    finals = [g.Squeeze(each, g.ints(0)) for each in last if each is not None]
    output = finals[0]
    if isinstance(source.steps, MaskedSteps) and (zeros or not plain):
        output = source.steps.last_output(output, backwards=source.reverse, zeros=zeros)
    if plain and alone:
        g.layers[sequence.value] = Written(cell, source, direction, names, zeros, "sequence")
        g.layers[output.value] = Written(cell, source, direction, names, zeros, "last")
    return _Run(sequence, finals, output)


def _as_read(g: Emitter, source: Source, sequence: Tensor) -> Tensor:
    """What was put out, in the order in which it was read."""
    if not source.reverse:
        return sequence
    if not isinstance(source.steps, Padded):
        return g.reversed(sequence, 0)
    return g.transpose(g.turned(g.transpose(sequence, SWAPPED), source.steps.lengths), SWAPPED)


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
    source: Source,
    directions: Sequence[Direction],
    names: Names,
    zeros: bool,
    initial: Sequence[Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The sequence (time, batch, directions * units), and the last states (directions, batch, units)."""
    states = [None if initial is None else g.Unsqueeze(each, g.ints(0)) for each in initial or (None, None)]
    kinds, alphas, betas = zip(*cell.activations, strict=True)
    usual = kinds == DEFAULT_ACTIVATIONS[cell.kind]
    x, steps = source.x, source.steps
    sequence, h, c = recurrent.layer(
        g,
        cell.kind,
        "tensorflow",
        x if steps is None else g.transpose(steps.packed(g.transpose(x, SWAPPED)), SWAPPED),
        directions,
        names,
        reverse=source.reverse,
        initial_h=states[0],
        initial_c=states[1] if cell.kind == "LSTM" else None,
        sequence_lens=None if steps is None else steps.count,
        activations=None if usual else kinds,
        alpha=None if usual else [alpha for alpha in alphas if alpha is not None],
        beta=None if usual else [beta for beta in betas if beta is not None],
        linear_before_reset=cell.form == "after" if cell.kind == "GRU" else None,
    )
    sizes = [*g.sizes_of(x)[:2], directions[0].r.shape[1] * len(directions)]
    sequence = g.sized(sequence, sizes)
    if steps is None:
        return sequence, h, c
    unpacked = steps.unpacked(g.transpose(sequence, SWAPPED), backwards=source.reverse, zeros=zeros)
    first = states if cell.kind == "LSTM" else states[:1]
    h, *rest = (
        steps.or_initial(last, start) for last, start in zip((h, c), first, strict=False) if last is not None
    )
    return g.transpose(unpacked, SWAPPED), h, rest[0] if rest else None


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
    if (
        one is None
        or other is None
        or one.part != other.part
        or one.source.reverse
        or not other.source.reverse
    ):
        return None
    same = all(
        getattr(one.cell, each) == getattr(other.cell, each) for each in ("kind", "activations", "form")
    )
    same = same and one.source.place == other.source.place and one.zeros == other.zeros
    if not same or one.direction.r.shape != other.direction.r.shape:
        return None
    if one.source.steps is not None and one.part == "sequence" and not one.zeros:
        return None
    if parts[0].perm != parts[1].perm or _axis(parts[0], axis) != parts[0].rank - 1:
        return None
    return _both(g, one, other, parts[0])


def _axis(x: Tensor, axis: int) -> int:
    axis = axis % x.rank
    return axis if x.perm is None else x.perm[axis]


def _both(g: Emitter, one: Written, other: Written, like: Tensor) -> Tensor | None:
    key = (one.names, other.names, one.source.place)
    if key not in g.pairs:
        names = Names(*(_common(a, b) for a, b in zip(_all(one.names), _all(other.names), strict=True)))
        for packed, pair in zip(
            _all(names), zip(_all(one.names), _all(other.names), strict=True), strict=True
        ):
            g.made_of[packed] = pair
        g.pairs[key] = _written(
            g, one.cell, one.source, [one.direction, other.direction], names, one.zeros, None
        )
    sequence, last, _ = g.pairs[key]
    if one.part == "sequence":
        lain = sequence if sequence.perm is None else g.transpose(sequence, layout.inverse(sequence.perm))
        return lain if like.perm is None else g.transpose(lain, like.perm)
    flat = g.Reshape(g.transpose(last, SWAPPED), g.ints(0, -1))
    if isinstance(one.source.steps, MaskedSteps) and one.zeros:
        flat = one.source.steps.last_output(flat, backwards=False, zeros=True)
    return g.with_dims(flat, None if like.dims is None else (like.dims[0], None))


def _all(names: Names) -> tuple[str, str, str]:
    return names.w, names.r, names.b


def _common(one: str, other: str) -> str:
    """The layer of two directions, and the weight: ``bidirectional/kernel`` of ``bidirectional/forward_lstm/lstm_cell/kernel`` and the backward one's."""
    *a, weight = one.split("/")
    layer = [x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, other.split("/"), strict=False))]
    return "/".join([*layer, weight])
