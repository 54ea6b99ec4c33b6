"""Recurrent layers step by step, as a Scan of the cell: cells that ONNX has no operator for, and ConvLSTM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import keras, tree
from netferry.converters.tensorflow.to_onnx.convolution import (
    Window,
    convolved,
    first_and_back,
    kernel_channels_first,
)
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, activate

layers = keras.layers


def reversed_steps(g: Emitter, sequence: Tensor) -> Tensor:
    """(batch, time, ...) from the last step to the first."""
    end = int(np.iinfo(np.int64).min)
    return g.along(
        lambda base, position: g.Slice(base, g.ints(-1), g.ints(end), g.ints(position[1]), g.ints(-1)),
        sequence,
    )


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
    sizes = tree.flatten(getattr(layer.cell, "output_size", None) or layer.state_size)
    blank = g.follow(
        lambda count: keras.ops.zeros((count, *sizes), layer.compute_dtype), g.size(x, 0)
    ) if mask is not None else None  # fmt: skip
    sequence, output, last = _steps(g, layer, step, states, steps, mask, blank)
    output = sequence if layer.return_sequences else output
    return [output, *last] if layer.return_state else [output]


Step = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
"""(inputs of one step, states) -> (output, next states)."""


def _steps(
    g: Emitter,
    layer: Any,
    step: Step,
    states: Sequence[Tensor],
    sequence: Tensor,
    mask: Tensor | None,
    blank: Tensor | None = None,
) -> tuple[Tensor, Tensor, Sequence[Tensor]]:
    """A Scan of ``step`` over ``sequence`` (time, batch, ...), in the layer's direction.

    Over a step that ``mask`` (batch, time) leaves out, states and output stay; ``blank`` is the output before the
    first step, of the first state's sizes where it is not given. Returns the outputs
    (batch, time, ...) in the order of reading, the last of them, and the last states.
    """
    starts, sequences = list(states), [sequence]
    if mask is not None:
        sequences.append(g.transpose(g.cast(mask, np.bool_), (1, 0)))
        starts.append(g.Mul(states[0], g.scalar(0, states[0])) if blank is None else blank)

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
    outputs = reversed_steps(g, outputs) if layer.go_backwards else outputs
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
    states = [first_and_back(g, state, cell.data_format)[0] for state in start]
    if cell.data_format == "channels_last":
        x = g.transpose(x, (0, 1, rank, *range(2, rank)))
    frames = g.Reshape(x, g.ints(-1, *(x.size(axis) for axis in range(2, x.rank))))
    bias = g.weight(cell.bias) if cell.use_bias else None
    kernel = kernel_channels_first(g, g.weight(cell.kernel))
    convolved_inputs = convolved(g, frames, kernel, bias, Window.of(cell), 1)
    folded = g.vector([g.dim(x, 0), g.dim(x, 1), *(convolved_inputs.size(axis) for axis in range(1, rank))])
    sequence = g.transpose(g.Reshape(convolved_inputs, folded), layout.batch_second(rank + 1))

    def step(inputs: Tensor, before: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c = before
        ones = [1] * (rank - 2)
        recurrent_kernel = kernel_channels_first(g, g.weight(cell.recurrent_kernel))
        window = Window("same", ones, ones)
        gates = g.Add(inputs, convolved(g, h, recurrent_kernel, None, window, 1))
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
