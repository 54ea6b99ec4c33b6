"""An LSTM that quantises what it multiplies, step by step, as a Scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ops.table import choice
from netferry.converters.graph.passes.contrib.activations import FUSED
from netferry.converters.graph.passes.contrib.quantized import product
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_DEFAULT = ("Sigmoid", "Tanh", "Tanh")


@opens("DynamicQuantizeLSTM", input_forget=0, activation_alpha=None, activation_beta=None)
def dynamic_quantize_lstm(
    g: Writer,
    x: Value,
    w: Value,
    r: Value,
    b: Maybe,
    sequence_lens: Maybe,
    initial_h: Maybe,
    initial_c: Maybe,
    p: Maybe,
    w_scale: Value,
    w_zero_point: Value,
    r_scale: Value,
    r_zero_point: Value,
    *,
    activations: Sequence[str] = (),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
) -> tuple[Value, ...]:
    """x (steps, batch, width), w (directions, width, 4 hidden), r (directions, hidden, 4 hidden); gates are i, o, f, c.

    The input is quantised as a whole, the state of all rows anew at each step; weights have a scale of all or of each column.
    """
    backward = DIRECTIONS[choice(direction, tuple(DIRECTIONS), "direction")]
    size = g.known(r, 1, "its hidden size")
    if hidden_size not in (None, size):
        raise CannotConvert(f"hidden_size is {hidden_size}, and its weights are of {size}")
    names = _activations(activations, len(backward))
    if g.floats:
        parts = [_as_floats(g, *part) for part in ((w, w_scale, w_zero_point), (r, r_scale, r_zero_point))]
        return g.ops(
            "LSTM", x, *parts, b, sequence_lens, initial_h, initial_c, p, outputs=3,
            activations=names, clip=clip, direction=direction, hidden_size=size,
        )  # fmt: skip
    quantized, scale, zero = g.ops("DynamicQuantizeLinear", x, outputs=3)
    ys, hs, cs = [], [], []
    for place, reverse in enumerate(backward):
        w_one, ws, wz, r_one, rs, rz = (
            _at(g, part, place) for part in (w, w_scale, w_zero_point, r, r_scale, r_zero_point)
        )
        bias = None if b is None else _bias(g, _at(g, b, place), 4 * size)
        gates = product(g, quantized, scale, zero, w_one, ws, wz, bias)
        peepholes = None if p is None else g.split(_at(g, p, place), 0, size, size, size)
        states = [_state(g, state, place, x, size) for state in (initial_h, initial_c)]
        cell = Cell(g, (r_one, rs, rz), names[3 * place : 3 * place + 3], size, clip, peepholes)
        y, h, c = cell.scanned(gates, states, sequence_lens, reverse)
        ys.append(g.unsqueeze(y, 1))
        hs.append(g.unsqueeze(h, 0))
        cs.append(g.unsqueeze(c, 0))
    return _joined(g, ys, 1), _joined(g, hs, 0), _joined(g, cs, 0)


def _as_floats(g: Writer, w: Value, scale: Value, zero: Value) -> Value:
    """(directions, width, 4 hidden) of integers as ONNX's LSTM has it: (directions, 4 hidden, width) of floats."""
    held = g.content(w, "its weight").astype(np.float64)
    each = [
        g.content(part, "its scale or zero point").astype(np.float64).reshape(len(held), 1, -1)
        for part in (scale, zero)
    ]
    return g.constant(((held - each[1]) * each[0]).transpose(0, 2, 1), g.dtype(scale))


def _joined(g: Writer, parts: Sequence[Value], axis: int) -> Value:
    return parts[0] if len(parts) == 1 else g.Concat(*parts, axis=axis)


def _activations(given: Sequence[str], directions: int) -> list[str]:
    known = {name.lower(): name for name in FUSED if name not in ("Clip", "Gelu")}
    names = [choice(name.lower(), tuple(known), "an activation") for name in given or _DEFAULT * directions]
    if len(names) != 3 * directions:
        raise CannotConvert(f"it has {len(names)} activations, expected {3 * directions}")
    return [known[name] for name in names]


def _at(g: Writer, x: Value, place: int) -> Value:
    """What belongs to one direction; what is of one element is a number."""
    part = g.squeeze(g.slice(x, 0, place, place + 1), 0)
    return g.Reshape(part, g.constant([], np.int64)) if g.dims(part) == (1,) else part


def _seen(g: Writer, x: Value, lengths: Value) -> Value:
    """Which steps of each row are not over: (steps, batch, 1)."""
    steps = g.Range(g.constant(0), g.squeeze(g.size(x, 0), 0), g.constant(1))
    ends = g.reshape(g.as_dtype(lengths, np.int64), 1, -1)
    return g.unsqueeze(g.Less(g.unsqueeze(steps, 1), ends), 2)


def _bias(g: Writer, b: Value, width: int) -> Value:
    of_input, of_state = g.split(b, 0, width, width)
    return g.Add(of_input, of_state)


def _state(g: Writer, given: Maybe, place: int, x: Value, size: int) -> Value:
    if given is not None:
        return g.squeeze(g.slice(given, 0, place, place + 1), 0)
    return g.Expand(g.scalar(0, x), g.sizes(g.size(x, 1), size))


@dataclass(frozen=True)
class Cell:
    """One direction: its quantised weights (hidden, 4 hidden), scale and zero point, and what its gates are."""

    g: Writer
    weights: tuple[Value, Value, Value]
    names: Sequence[str]
    size: int
    clip: float | None
    peepholes: Sequence[Value] | None

    def scanned(
        self, gates: Value, states: Sequence[Value], lengths: Maybe, reverse: bool
    ) -> tuple[Value, Value, Value]:
        """Every state, (steps, batch, hidden), and the last ones. A row that is over keeps its state and gives 0."""
        g = self.g
        if lengths is None:
            h, c, y = self._scan(_backward(g, gates) if reverse else gates, states)
            return _backward(g, y) if reverse else y, h, c
        if reverse:
            gates = self._turned(gates, lengths)
        h, c, y = self._scan_some(gates, states, _seen(g, gates, lengths))
        return self._turned(y, lengths) if reverse else y, h, c

    def _turned(self, x: Value, lengths: Value) -> Value:
        return self.g.ReverseSequence(x, self.g.as_dtype(lengths, np.int64), batch_axis=1, time_axis=0)

    def _scan(self, gates: Value, states: Sequence[Value]) -> tuple[Value, ...]:
        g = self.g
        body = Body(g, "h", "c", "x")
        h, c, x = body.inputs
        h_next, c_next = self._step(body, h, c, x)
        graph = body.closed(h_next, c_next, body("Identity", h_next))
        return g.ops("Scan", *states, gates, outputs=3, body=graph, num_scan_inputs=1)

    def _scan_some(self, gates: Value, states: Sequence[Value], seen: Value) -> tuple[Value, ...]:
        """A row that is over is 0 from then on, also where the states of all rows are quantised together."""
        g = self.g
        body = Body(g, "h", "kept", "c", "x", "seen")
        h, kept, c, x, now = body.inputs
        h_next, c_next = self._step(body, h, c, x)
        y = body("Where", now, h_next, g.scalar(0, gates))
        last = [body("Where", now, new, old) for new, old in ((h_next, kept), (c_next, c))]
        graph = body.closed(y, *last, body("Identity", y))
        first, cell = states
        _, *ends = g.ops("Scan", first, first, cell, gates, seen, outputs=4, body=graph, num_scan_inputs=2)
        return tuple(ends)

    def _step(self, body: Body, h: Value, c: Value, x: Value) -> tuple[Value, Value]:
        """h' = o * tanh(c'), c' = f * c + i * g, of the gates x + h R."""
        weight, scale, zero = self.weights
        quantized, h_scale, h_zero = body.several("DynamicQuantizeLinear", h, outputs=3)
        whole = body("Cast", body("MatMulInteger", quantized, weight, h_zero, zero), to=1)
        gates = body("Add", x, body("Mul", whole, body("Mul", h_scale, scale)))
        sizes = self.g.ints(*[self.size] * 4)
        i, o, f, new = body.several("Split", gates, sizes, outputs=4, axis=-1)
        p_i, p_o, p_f = self.peepholes or (None, None, None)
        of_gates, of_new, of_cell = self.names
        i, f = (self._gate(body, of_gates, gate, c, peep) for gate, peep in ((i, p_i), (f, p_f)))
        kept = body("Mul", f, c)
        c_next = body("Add", kept, body("Mul", i, self._gate(body, of_new, new)))
        o = self._gate(body, of_gates, o, c_next, p_o)
        return body("Mul", o, body(of_cell, c_next)), c_next

    def _gate(self, body: Body, name: str, x: Value, c: Maybe = None, peephole: Maybe = None) -> Value:
        if peephole is not None and c is not None:
            x = body("Add", x, body("Mul", c, peephole))
        if self.clip:
            x = body(
                "Clip", x, self.g.constant(-self.clip, np.float32), self.g.constant(self.clip, np.float32)
            )
        return body(name, x)


def _backward(g: Writer, x: Value) -> Value:
    """The steps from the last to the first."""
    return g.Slice(x, g.ints(-1), g.ints(-(2**31)), g.ints(0), g.ints(-1))


class Body:
    """The graph of one turn of a Scan; it may read what stands around it."""

    def __init__(self, g: Writer, *names: str) -> None:
        self._prefix = f"{g.node.name}/step"
        self.inputs = [ir.Value(name=f"{self._prefix}/{name}") for name in names]
        self._nodes: list[ir.Node] = []

    def __call__(self, op_type: str, *inputs: Value, **attributes: Any) -> Value:
        return self.several(op_type, *inputs, outputs=1, **attributes)[0]

    def several(self, op_type: str, *inputs: Value, outputs: int, **attributes: Any) -> Sequence[Value]:
        name = f"{self._prefix}/{op_type}_{len(self._nodes)}"
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=name)
        for position, value in enumerate(node.outputs):
            value.name = f"{name}_{position}" if position else name
        self._nodes.append(node)
        return node.outputs

    def closed(self, *outputs: Value) -> ir.Graph:
        return ir.Graph(self.inputs, outputs, nodes=self._nodes, name=self._prefix)
