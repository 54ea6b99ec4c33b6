"""Rows of recurrent layers. TFLite has each gate's weights by themselves; states begin at zero with every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.graph import ARRAY, Ref
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.tflite import schema
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer, is_quantised
from netferry.converters.tensorflow.tflite.model import Operation

_GATES = (0, 3, 1, 2)
"""ONNX's order (input, output, forget, cell) in TFLite's (input, forget, cell, output)."""


@dataclass(frozen=True)
class _Places:
    """Where an operator has its inputs: weights, recurrent weights, peepholes, biases; projection and layer normalisation."""

    weights: int
    recurrent: int
    peepholes: int
    biases: int
    projection: int
    normalised: tuple[int, ...] = ()


_FORWARD = _Places(1, 5, 9, 12, 16, (20, 21, 22, 23))
_BOTH = (_Places(1, 5, 9, 12, 16), _Places(18, 22, 26, 29, 33))


@OPERATORS.row("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(w: Writer, op: Operation) -> Ref:
    return w.node("lite.Lstm", w.x(op), *_lstm(w, op, [_FORWARD]), time_major=bool(op.option("time_major")))


@OPERATORS.row("BIDIRECTIONAL_SEQUENCE_LSTM")
def bidirectional_lstm(w: Writer, op: Operation) -> Sequence[Ref]:
    if any(w.tensor(op, place) is not None for place in range(39, 48)):
        raise CannotConvert("it has a second input")
    if op.option("merge_outputs") and not op.option("time_major", True):
        raise CannotConvert(
            "it joins both directions batch by batch, where TFLite's kernel mixes up their steps"
        )
    y = w.node("lite.Lstm", w.x(op), *_lstm(w, op, _BOTH), time_major=bool(op.option("time_major", True)))
    return [y] if op.option("merge_outputs") else w.outputs(_parts(w, y), 2)


def _parts(w: Writer, y: Ref) -> Ref:
    return w.node("Split", w.constant(2), y, num_split=2)


def _lstm(w: Writer, op: Operation, directions: Sequence[_Places]) -> list[Ref]:
    """W, R, B and P as ONNX has them, for all directions."""
    for places in directions:
        if w.tensor(op, places.projection) is not None:
            raise CannotConvert("it projects its state")
        if any(w.tensor(op, place) is not None for place in places.normalised):
            raise CannotConvert("it normalises its gates")
    if op.option("diagonal_recurrent_tensors"):
        raise CannotConvert("its recurrent weights are diagonals")
    if op.option("proj_clip"):
        raise CannotConvert("it clips a projection")
    if schema.ACTIVATIONS[op.option("fused_activation_function")] != "TANH":
        raise CannotConvert("its cell has another activation than tanh")
    stacked = [_stacked(w, op, places) for places in directions]
    found = [_joined([each[number] for each in stacked]) for number in range(4)]
    if not found[3].any():
        found.pop()
    return [w.node(ARRAY, array=array) for array in found]


def _joined(parts: Sequence[Array]) -> Array:
    return np.asarray(np.stack(parts), np.float32)


def _stacked(w: Writer, op: Operation, places: _Places) -> list[Array]:
    """The gates of one direction; where the input gate is left out, it is what the forget gate leaves: i(z) = f(-z)."""
    coupled = w.tensor(op, places.weights) is None
    groups = [
        _four(w, op, places.weights, coupled), _four(w, op, places.recurrent, coupled), _four(w, op, places.biases, coupled),
    ]  # fmt: skip
    weights, recurrent, biases = (np.concatenate([group[gate] for gate in _GATES]) for group in groups)
    units = recurrent.shape[1]
    places_of = {0: places.peepholes, 2: places.peepholes + 1, 1: places.peepholes + 2}
    peep = [_floats(w, op, places_of[gate]) for gate in (0, 1, 2)]
    if coupled and peep[2] is not None:
        peep[0] = -peep[2]
    zeros = np.zeros(units, np.float32)
    held = [zeros if each is None else each for each in (peep[0], peep[1], peep[2])]
    return [weights, recurrent, np.concatenate([biases, np.zeros_like(biases)]), np.concatenate(held)]


def _four(w: Writer, op: Operation, first: int, coupled: bool) -> list[Array]:
    """Of input, forget, cell and output gate."""
    found = [None if coupled and gate == 0 else _floats(w, op, first + gate) for gate in range(4)]
    forget = found[1]
    assert forget is not None
    found[0] = -forget if coupled else found[0]
    if any(each is None for each in found):
        raise CannotConvert("it lacks the weights of a gate")
    return [each for each in found if each is not None]


def _floats(w: Writer, op: Operation, position: int) -> Array | None:
    """A constant as the numbers that it stands for."""
    tensor = w.tensor(op, position)
    if tensor is None:
        return None
    index = op.inputs[position]
    array = w.known(index)
    if array is None:
        raise CannotConvert("its weights are computed while the model runs")
    if not is_quantised(tensor):
        return np.asarray(array, np.float32)
    assert tensor.quantised is not None
    q = tensor.quantised
    return np.asarray((array.astype(np.float32) - q.zero) * q.scale, np.float32)


@ROWS.row("lite.Lstm")
def write_lstm(g: Emitter, a: Attrs, x: Tensor, *weights: Tensor) -> Tensor:
    """weights: W, R, B, and P where there are peepholes."""
    first, peepholes = weights[:3], weights[3:]
    rest = [None, None, None, *peepholes] if peepholes else []
    return _layer(g, a, "LSTM", x, [*first, *rest])


def _layer(
    g: Emitter, a: Attrs, operator: str, x: Tensor, weights: Sequence[Tensor | None], **attributes: Any
) -> Tensor:
    """x: (batch, time, channels), or time first; the results of the directions stand side by side."""
    first = x if a.flag("time_major") else g.transpose(x, (1, 0, 2))
    recurrent = weights[1]
    assert recurrent is not None
    both, units = recurrent.size(0) == 2, recurrent.size(2)
    y, *_ = g.ops(
        operator, first, *weights, outputs=3 if operator == "LSTM" else 2, hidden_size=units,
        direction="bidirectional" if both else None, **attributes,
    )  # fmt: skip
    y = g.Reshape(g.transpose(y, (0, 2, 1, 3)), g.ints(0, 0, -1)) if both else g.Squeeze(y, g.ints(1))
    y = g.sized(y, [*g.sizes_of(first)[:2], units * recurrent.size(0)])
    return y if a.flag("time_major") else g.transpose(y, (1, 0, 2))


@OPERATORS.row("UNIDIRECTIONAL_SEQUENCE_RNN")
def rnn(w: Writer, op: Operation) -> Ref:
    """Of weights, recurrent weights and a bias."""
    return w.node("lite.Rnn", w.x(op), *_rnn(w, op, [1]), **_said(op, time_major=False))


@OPERATORS.row("BIDIRECTIONAL_SEQUENCE_RNN")
def bidirectional_rnn(w: Writer, op: Operation) -> Sequence[Ref]:
    if any(w.tensor(op, place) is not None for place in range(9, 12)):
        raise CannotConvert("it has a second input")
    y = w.node("lite.Rnn", w.x(op), *_rnn(w, op, [1, 5]), **_said(op, time_major=False))
    return [y] if op.option("merge_outputs") else w.outputs(_parts(w, y), 2)


_CELLS = {"TANH": "Tanh", "RELU": "Relu"}


def _said(op: Operation, time_major: bool) -> dict[str, Any]:
    name = schema.ACTIVATIONS[op.option("fused_activation_function")]
    if name not in _CELLS:
        raise CannotConvert(f"its cell has the activation {name}", f"Supported: {', '.join(_CELLS)}")
    return {"cell": _CELLS[name], "time_major": bool(op.option("time_major", time_major))}


def _rnn(w: Writer, op: Operation, directions: Sequence[int]) -> list[Ref]:
    """W, R and B as ONNX has them, for all directions."""
    found: list[list[Array]] = []
    for first in directions:
        each = [_floats(w, op, first + place) for place in range(3)]
        if any(array is None for array in each):
            raise CannotConvert("it lacks a weight")
        whole = [array for array in each if array is not None]
        found.append([whole[0], whole[1], np.concatenate([whole[2], np.zeros_like(whole[2])])])
    return [w.node(ARRAY, array=_joined([each[number] for each in found])) for number in range(3)]


@ROWS.row("lite.Rnn")
def write_rnn(g: Emitter, a: Attrs, x: Tensor, weights: Tensor, recurrent: Tensor, biases: Tensor) -> Tensor:
    return _layer(
        g, a, "RNN", x, [weights, recurrent, biases], activations=[a.text("cell")] * weights.size(0)
    )
