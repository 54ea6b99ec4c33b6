"""SimpleRNN, LSTM, GRU and their wrappers, as ONNX' own recurrent operators.

ONNX has the time first, Keras the batch; stacked layers meet and their transpositions cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import recurrent
from netferry.converters.tensorflow.runtime import keras, tree
from netferry.converters.tensorflow.to_onnx import convolution
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, activate, one, refuse_unless, title

layers, functions = keras.layers, keras.activations

CELLS: Mapping[type, str] = {layers.SimpleRNNCell: "RNN", layers.LSTMCell: "LSTM", layers.GRUCell: "GRU"}

Activation = tuple[str, float | None, float | None]
"""ONNX' name of an activation inside a recurrent operator, its alpha and its beta."""

ACTIVATIONS: Mapping[Any, Activation] = {
    functions.elu: ("Elu", 1.0, None),
    functions.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
    functions.leaky_relu: ("LeakyRelu", 0.2, None),
    functions.linear: ("Affine", 1.0, 0.0),
    functions.relu: ("Relu", None, None),
    functions.sigmoid: ("Sigmoid", None, None),
    functions.softplus: ("Softplus", None, None),
    functions.softsign: ("Softsign", None, None),
    functions.tanh: ("Tanh", None, None),
}

DEFAULTS: Mapping[str, Sequence[str]] = {
    "RNN": ["Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
}


@dataclass(frozen=True)
class _States:
    """What a recurrent operator gives: the sequence (time, batch, directions * hidden) and its last states,
    each (directions, batch, hidden): of an LSTM h and c, of the others h."""

    sequence: Tensor
    last: tuple[Tensor, ...]


def _kind(layer: Any) -> str:
    kind = CELLS.get(type(layer.cell))
    if kind is None:
        raise CannotConvert(f"its cell {type(layer.cell).__name__} is not SimpleRNN, LSTM or GRU")
    return kind


def _activations(kind: str, cell: Any) -> dict[str, Any]:
    """The activations in ONNX' order, where they are not ONNX' defaults."""
    gates = [] if kind == "RNN" else [cell.recurrent_activation]
    wanted = [*gates, *[cell.activation] * (len(DEFAULTS[kind]) - len(gates))]
    unknown = [title(function) for function in wanted if function not in ACTIVATIONS]
    if unknown:
        raise CannotConvert(f"its activation {unknown[0]} is not one that ONNX' {kind} has")
    names, alphas, betas = zip(*(ACTIVATIONS[function] for function in wanted), strict=True)
    if list(names) == DEFAULTS[kind]:
        return {}
    return {
        "activations": names,
        "alpha": [alpha for alpha in alphas if alpha is not None],
        "beta": [beta for beta in betas if beta is not None],
    }


def _direction(kind: str, cell: Any) -> recurrent.Direction:
    """Keras' weights have the gates last; a GRU with ``reset_after`` has a bias for each side."""
    bias = np.asarray(cell.bias) if cell.use_bias else None
    both = bias is not None and bias.ndim == 2
    return recurrent.Direction(
        w=np.asarray(cell.kernel).T,
        r=np.asarray(cell.recurrent_kernel).T,
        bw=bias[0] if both and bias is not None else bias,
        br=bias[1] if both and bias is not None else None,
    )


def _names(g: Emitter, path: str, cells: Sequence[Any]) -> recurrent.Names:
    """One direction keeps the names of its variables; two share names under the wrapper's."""

    def name(weight: str) -> str:
        sources = tuple(g.path(getattr(cell, weight)) for cell in cells if getattr(cell, weight) is not None)
        if len(cells) == 1:
            return sources[0] if sources else ""
        packed = f"{path}/{weight}"
        g.made_of[packed] = sources
        return packed

    return recurrent.Names(name("kernel"), name("recurrent_kernel"), name("bias"))


def _run(
    g: Emitter,
    path: str,
    wrapped: Sequence[Any],
    x: Tensor,
    initial: Sequence[Tensor],
    masked: _Masked | None,
) -> _States:
    """Write the operator for one layer, or for the two directions of one.

    ``x``: (batch, time, input); ``initial``: the states, each (batch, hidden), direction by direction.
    """
    kind, cells = _kind(wrapped[0]), [layer.cell for layer in wrapped]
    stack: Callable[[Sequence[Tensor]], Tensor | None] = partial(_stacked, g)
    per_direction = len(initial) // len(cells)
    h0 = stack(initial[::per_direction]) if initial else None
    c0 = stack(initial[1::per_direction]) if initial and kind == "LSTM" else None
    sequence, h, c = recurrent.layer(
        g,
        kind,
        "tensorflow",
        g.transpose(x if masked is None else masked.packed(x), layout.batch_second(3)),
        [_direction(kind, cell) for cell in cells],
        _names(g, path, cells),
        reverse=wrapped[0].go_backwards,
        initial_h=h0,
        initial_c=c0,
        sequence_lens=None if masked is None else masked.count,
        linear_before_reset=getattr(cells[0], "reset_after", None),
        **_activations(kind, cells[0]),
    )
    last: tuple[Tensor, ...] = (h,) if c is None else (h, c)
    if masked is not None:
        last = tuple(masked.or_initial(state, start) for state, start in zip(last, (h0, c0), strict=False))
    return _States(sequence, last)


def _stacked(g: Emitter, states: Sequence[Tensor]) -> Tensor:
    """(batch, hidden) of each direction as (directions, batch, hidden)."""
    lifted = [g.Unsqueeze(state, g.ints(0)) for state in states]
    return lifted[0] if len(lifted) == 1 else g.Concat(*lifted, axis=0)


def _listed(initial_state: Any) -> list[Tensor]:
    if initial_state is None:
        return []
    return list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]


@ROWS.row(layers.SimpleRNN, layers.LSTM, layers.GRU, layers.RNN)
def recurrent_layer(
    g: Emitter, layer: Any, x: Tensor, *, initial_state: Any = None, mask: Tensor | None = None
) -> Sequence[Tensor]:
    """As ONNX' operator where it has the cell, else step by step."""
    if not _is_onnx_cell(layer) or x.rank != 3:
        return scanned(g, layer, x, initial_state, mask)
    masked = None if mask is None else _Masked(g, mask)
    states = _run(g, layer.path, [layer], x, _listed(initial_state), masked)
    last = [g.Squeeze(state, g.ints(0)) for state in states.last]
    if layer.return_sequences:
        output = _sequence(g, layer, states, masked)
    else:
        output = last[0] if masked is None else masked.last_output(layer, last[0])
    return [output, *last] if layer.return_state else [output]


def _is_onnx_cell(layer: Any) -> bool:
    """Whether ONNX has an operator for the cell, with the activations that it has."""
    kind = CELLS.get(type(layer.cell))
    if kind is None:
        return False
    gates = [] if kind == "RNN" else [layer.cell.recurrent_activation]
    return all(function in ACTIVATIONS for function in [*gates, layer.cell.activation])


def _sequence(g: Emitter, layer: Any, states: _States, masked: _Masked | None) -> Tensor:
    """(batch, time, hidden). Keras leaves what was read backwards in the order of reading."""
    sequence = g.transpose(states.sequence, layout.batch_second(3))
    if masked is not None:
        sequence = masked.unpacked(sequence, layer)
    return _backwards(g, sequence) if layer.go_backwards else sequence


def _backwards(g: Emitter, sequence: Tensor) -> Tensor:
    """(batch, time, ...) from the last step to the first."""
    end = int(np.iinfo(np.int64).min)
    return g.along(
        lambda base, place: g.Slice(base, g.ints(-1), g.ints(end), g.ints(place[1]), g.ints(-1)), sequence
    )


class _Masked:
    """Steps that a mask (batch, time) leaves out, wherever they stand.

    Keras hands state and output on unchanged over a step that is left out. So the steps that count are packed to
    the front, in their order, the operator reads as many as there are (``sequence_lens``), and its outputs are
    taken back to where they belong: this is exact for a mask with holes as for one of padding.
    """

    def __init__(self, g: Emitter, mask: Tensor) -> None:
        self._g = g
        self._mask = g.cast(mask, np.bool_)
        numbers = g.cast(self._mask, np.int64)
        self._so_far = g.CumSum(numbers, g.constant(1, np.int64))  # steps that count, up to and with this one
        self._before = g.Sub(self._so_far, numbers)
        self.count = g.cast(g.ReduceSum(numbers, g.ints(1), keepdims=0), np.int32)

    def packed(self, x: Tensor) -> Tensor:
        """(batch, time, ...) with the steps that count in front."""
        g = self._g
        steps = g.Shape(self._mask, start=1, end=2)
        one = g.constant(1, np.int64)
        place = g.Range(g.constant(0, np.int64), g.Squeeze(steps, g.ints(0)), one)
        order = g.Where(self._mask, place, g.Add(place, steps))
        indices = g.ops("TopK", order, steps, axis=1, largest=0, outputs=2)[1]
        return replace(self._taken(x, indices), dims=x.dims)

    def unpacked(self, sequence: Tensor, layer: Any) -> Tensor:
        """What was put out at each step that counts, and at the others what was put out last, or zero."""
        g = self._g
        if layer.go_backwards:
            indices = g.Min(
                self._before,
                g.Sub(g.Unsqueeze(g.cast(self.count, np.int64), g.ints(1)), g.constant(1, np.int64)),
            )
            reached = g.Less(self._before, g.Unsqueeze(g.cast(self.count, np.int64), g.ints(1)))
        else:
            indices = g.Sub(self._so_far, g.constant(1, np.int64))
            reached = g.Greater(self._so_far, g.constant(0, np.int64))
        kept = self._mask if layer.zero_output_for_mask else reached
        taken = self._taken(sequence, g.Max(indices, g.constant(0, np.int64)))
        return replace(
            g.Where(g.Unsqueeze(kept, g.ints(2)), taken, g.scalar(0, sequence)), dims=sequence.dims
        )

    def last_output(self, layer: Any, state: Tensor) -> Tensor:
        """What is put out at the last step that is read."""
        g = self._g
        if not layer.zero_output_for_mask:
            return g.Where(self._any(), state, g.scalar(0, state))
        at = g.ints(0 if layer.go_backwards else -1)
        return g.Where(g.Gather(self._mask, at, axis=1), state, g.scalar(0, state))

    def or_initial(self, state: Tensor, initial: Tensor | None) -> Tensor:
        """(directions, batch, hidden): where nothing counts, what it began with."""
        return self._g.Where(self._any(), state, self._g.scalar(0, state) if initial is None else initial)

    def _any(self) -> Tensor:
        """(batch, 1): whether any step counts."""
        g = self._g
        return g.Unsqueeze(g.Greater(self.count, g.constant(0, np.int32)), g.ints(1))

    def _taken(self, x: Tensor, indices: Tensor) -> Tensor:
        return self._g.GatherND(x, self._g.Unsqueeze(indices, self._g.ints(2)), batch_dims=1)


# ---- any cell, step by step -----------------------------------------------------------------


def scanned(g: Emitter, layer: Any, x: Tensor, initial_state: Any, mask: Tensor | None) -> Sequence[Tensor]:
    """A Scan whose body is the cell's own ``call``: stacked cells, cells of a user's own, other activations.

    ``x``: (batch, time, ...).
    """
    initial = initial_state
    if initial is None:
        initial = g.follow(lambda size: layer.get_initial_state(batch_size=size), g.size(x, 0))
    structure = initial if tree.is_nested(initial) else [initial]
    states = [g.cast(state, layer.compute_dtype) for state in tree.flatten(structure)]

    def step(inputs: Tensor, before: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        output, after = g.follow(_call(layer.cell), inputs, tree.pack_sequence_as(structure, list(before)))
        return output, tree.flatten(after)

    steps = g.transpose(x, layout.batch_second(x.rank))
    sequence, output, last = _steps(g, layer, step, states, steps, mask)
    output = sequence if layer.return_sequences else output
    return [output, *last] if layer.return_state else [output]


Step = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
"""(inputs of one step, states) -> (output, next states)."""


def _steps(
    g: Emitter, layer: Any, step: Step, states: Sequence[Tensor], sequence: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """A Scan of ``step`` over ``sequence`` (time, batch, ...), in the layer's direction.

    Over a step that ``mask`` (batch, time) leaves out, states and output stay. Returns the outputs
    (batch, time, ...) in the order of reading, the last of them, and the last states.
    """
    starts, sequences = list(states), [sequence]
    if mask is not None:
        sequences.append(g.transpose(g.cast(mask, np.bool_), (1, 0)))
        starts.append(g.Mul(states[0], g.scalar(0, states[0])))  # the output before the first step

    def body(before: Sequence[Tensor], elements: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        if mask is None:
            output, after = step(elements[0], before)
            return after, [output]
        output, after = step(elements[0], before[:-1])
        kept = g.scalar(0, output) if layer.zero_output_for_mask else before[-1]
        output = g.Where(_beside(g, elements[1], output), output, kept)
        pairs = zip(after, before[:-1], strict=True)
        return [*(g.Where(_beside(g, elements[1], new), new, old) for new, old in pairs), output], [output]

    last, (outputs,) = g.scan(body, starts, sequences, reverse=layer.go_backwards)
    outputs = g.transpose(outputs, layout.batch_second(outputs.rank))
    final = g.Gather(outputs, g.constant(0 if layer.go_backwards else -1, np.int64), axis=1)
    outputs = _backwards(g, outputs) if layer.go_backwards else outputs
    return outputs, final, last if mask is None else last[:-1]


def _call(cell: Any) -> Callable[..., Any]:
    training = {"training": False} if getattr(cell, "_call_has_training_arg", False) else {}
    return lambda inputs, states: cell(inputs, states, **training)


def _beside(g: Emitter, counts: Tensor, x: Tensor) -> Tensor:
    """A truth for each of the batch, with as many axes as ``x``."""
    return g.Unsqueeze(counts, g.ints(*range(1, x.rank)))


@ROWS.row(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
def conv_lstm(
    g: Emitter, layer: Any, x: Tensor, *, initial_state: Any = None, mask: Tensor | None = None
) -> Sequence[Tensor]:
    """The convolution of the inputs for all steps and gates at once, and a Scan over what depends on the state.

    ``x``: (batch, time, *space, channels), or with the channels before space.
    """
    cell, rank = layer.cell, x.rank - 1
    start = initial_state or g.follow(lambda size: layer.get_initial_state(batch_size=size), g.size(x, 0))
    states = [convolution.first_and_back(g, state, cell.data_format)[0] for state in start]
    if cell.data_format == "channels_last":
        x = g.transpose(x, (0, 1, rank, *range(2, rank)))
    frames = g.Reshape(x, g.ints(-1, *(x.size(axis) for axis in range(2, x.rank))))
    bias = g.weight(cell.bias) if cell.use_bias else None
    kernel = convolution.turned(g, g.weight(cell.kernel))
    arriving = convolution.convolved(g, frames, kernel, bias, convolution.Window.of(cell), 1)
    folded = g.vector([g.dim(x, 0), g.dim(x, 1), *(arriving.size(axis) for axis in range(1, rank))])
    sequence = g.transpose(g.Reshape(arriving, folded), layout.batch_second(rank + 1))

    def step(inputs: Tensor, before: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c = before
        ones = [1] * (rank - 2)
        recurrent_kernel = convolution.turned(g, g.weight(cell.recurrent_kernel))
        window = convolution.Window("same", ones, ones)
        gates = g.Add(inputs, convolution.convolved(g, h, recurrent_kernel, None, window, 1))
        i, f, candidate, o = g.ops("Split", gates, axis=1, num_outputs=4, outputs=4)
        i, f, o = (activate(g, cell.recurrent_activation, gate) for gate in (i, f, o))
        c = g.Add(g.Mul(f, c), g.Mul(i, activate(g, cell.activation, candidate)))
        h = g.Mul(o, activate(g, cell.activation, c))
        return h, [h, c]

    sequence, last_output, last = _steps(g, layer, step, states, sequence, mask)
    turn = (
        partial(g.transpose, perm=layout.channels_last(rank))
        if cell.data_format == "channels_last"
        else _same
    )
    if layer.return_sequences:
        perm = (0, 1, *range(3, rank + 1), 2)
        output = g.transpose(sequence, perm) if cell.data_format == "channels_last" else sequence
    else:
        output = turn(last_output)
    return [output, *map(turn, last)] if layer.return_state else [output]


def _same(x: Tensor) -> Tensor:
    return x


# ---- both directions ------------------------------------------------------------------------

_MERGES: Mapping[str, Callable[[Emitter, Tensor, Tensor], Tensor]] = {
    "sum": lambda g, a, b: g.Add(a, b),
    "mul": lambda g, a, b: g.Mul(a, b),
    "ave": lambda g, a, b: g.Mean(a, b),
}


@ROWS.row(layers.Bidirectional)
def bidirectional(
    g: Emitter, layer: Any, x: Tensor, *, initial_state: Any = None, mask: Tensor | None = None
) -> Sequence[Tensor]:
    """One operator for both directions; what was read backwards comes back in the order of time."""
    forward, backward = layer.forward_layer, layer.backward_layer
    _refuse_unequal(forward, backward)
    masked = None if mask is None else _Masked(g, mask)
    states = _run(g, layer.path, [forward, backward], x, _listed(initial_state), masked)
    if layer.return_sequences:
        joined = g.transpose(states.sequence, layout.batch_second(3))
        joined = joined if masked is None else masked.unpacked(joined, forward)
    else:
        joined = g.Reshape(g.transpose(states.last[0], (1, 0, 2)), g.ints(0, -1))
        joined = joined if masked is None else masked.last_output(forward, joined)
    outputs = [joined] if layer.merge_mode == "concat" else _merged(g, layer.merge_mode, joined)
    if not layer.return_state:
        return outputs
    by_state = [g.ops("Split", state, axis=0, num_outputs=2, outputs=2) for state in states.last]
    return [*outputs, *(g.Squeeze(state[side], g.ints(0)) for side in (0, 1) for state in by_state)]


def _merged(g: Emitter, mode: str | None, joined: Tensor) -> list[Tensor]:
    halves = g.ops("Split", joined, axis=-1, num_outputs=2, outputs=2)
    return list(halves) if mode is None else [_MERGES[mode](g, *halves)]


def _refuse_unequal(forward: Any, backward: Any) -> None:
    refuse_unless(not forward.go_backwards, "its forward layer reads backwards")
    refuse_unless(
        all(_is_onnx_cell(layer) for layer in (forward, backward)), "a cell that ONNX does not have"
    )
    kinds = [_kind(layer) for layer in (forward, backward)]
    differing = [
        attribute
        for attribute in ("units", "activation", "recurrent_activation", "reset_after")
        if getattr(forward.cell, attribute, None) != getattr(backward.cell, attribute, None)
    ] + [a for a in ("zero_output_for_mask",) if getattr(forward, a) != getattr(backward, a)]
    refuse_unless(
        kinds[0] == kinds[1] and not differing,
        f"its two directions differ in {', '.join(differing) or 'kind'}",
    )


# ---- one layer for every step ---------------------------------------------------------------

_LAST_AXIS_ONLY = (layers.Dense, layers.Dropout, layers.LayerNormalization)
"""Layers that treat the steps alike anyway, whatever stands before the last axis."""


@ROWS.row(layers.TimeDistributed)
def time_distributed(g: Emitter, layer: Any, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Fold the steps into the batch, apply the layer, and unfold them. The layer's own mask would be folded too."""
    inner = layer.layer
    reads = mask is not None and inner._call_has_mask_arg
    refuse_unless(not reads, "a mask reaches the layer that it wraps")
    if type(inner) in _LAST_AXIS_ONLY and getattr(inner, "axis", [-1]) in ([-1], -1):
        return one(g.follow(inner, x))
    folded = g.Reshape(x, g.vector([-1, *(g.dim(x, axis) for axis in range(2, x.rank))]))
    y = g.follow(inner, replace(folded, dims=(None, *(x.dims or ())[2:])))
    refuse_unless(isinstance(y, Tensor), "the layer that it wraps has several outputs")
    shape = [g.dim(y, axis) for axis in range(1, y.rank)]
    steps = g.dim(x, 1)
    batch = -1 if isinstance(steps, int) else g.size(x, 0)
    return g.Reshape(y, g.vector([batch, steps, *shape]))
