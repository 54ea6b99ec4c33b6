"""LSTM, GRU and RNN step by step: the exact fallback for every form that a target's own layer does not have.

The row is of our fused operator (see ``fuse.py``): time first, states (directions, batch, hidden), weights as ONNX
packs them. How many steps there are must be known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.elementwise import (
    Elu,
    HardSigmoid,
    LeakyRelu,
    Softplus,
    Softsign,
    ThresholdedRelu,
)
from netferry.converters.graph.ops.table import op, shaped
from netferry.converters.graph.schema.recurrent import ONNX_GATES, Recurrence

Activation = Callable[[Any], Any]


def _affine(xp: Any, x: Any, alpha: float, beta: float) -> Any:
    return x * alpha + beta


def _scaled_tanh(xp: Any, x: Any, alpha: float, beta: float) -> Any:
    return xp.tanh(x * beta) * alpha


ACTIVATIONS: Mapping[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "Sigmoid": (lambda xp, x: xp.sigmoid(x), ()),
    "Tanh": (lambda xp, x: xp.tanh(x), ()),
    "Relu": (lambda xp, x: xp.maximum(x, 0), ()),
    "Softsign": (Softsign, ()),
    "Softplus": (Softplus, ()),
    "Affine": (_affine, (1.0, 0.0)),
    "ScaledTanh": (_scaled_tanh, (1.0, 1.0)),
    "HardSigmoid": (lambda xp, x, a, b: HardSigmoid(xp, x, alpha=a, beta=b), (0.2, 0.5)),
    "LeakyRelu": (lambda xp, x, a: LeakyRelu(xp, x, alpha=a), (0.01,)),
    "ThresholdedRelu": (lambda xp, x, a: ThresholdedRelu(xp, x, alpha=a), (1.0,)),
    "Elu": (lambda xp, x, a: Elu(xp, x, alpha=a), (1.0,)),
}
"""ONNX's name -> function of ``xp``, x and its parameters, and the parameters it has by default."""


@dataclass(frozen=True)
class Cell:
    """One direction: its weights, and what it does between the matrices."""

    xp: Any
    kind: Recurrence
    hidden: Any
    r: Any
    br: Any
    peepholes: Any
    activations: tuple[Activation, ...]

    def parts(self, x: Any, axis: int) -> tuple[Any, ...]:
        """The gates of a stack."""
        count = len(ONNX_GATES[self.kind.cell])
        return tuple(self.xp.split(x, (self.hidden,) * count, axis)) if count > 1 else (x,)

    def clipped(self, x: Any) -> Any:
        clip = self.kind.clip
        return x if clip is None else self.xp.minimum(self.xp.maximum(x, -clip), clip)

    def step(self, given: Any, h: Any, c: Any) -> tuple[Any, Any]:
        """The next state from ``given``: x W^T and its bias, the gates in ONNX's order."""
        return _STEPS[self.kind.cell](self, given, h, c)


def _rnn(cell: Cell, given: Any, h: Any, c: Any) -> tuple[Any, Any]:
    (f,) = cell.activations
    return f(cell.clipped(given + cell.xp.matmul(h, cell.r) + cell.br)), None


def _gru(cell: Cell, given: Any, h: Any, c: Any) -> tuple[Any, Any]:
    xp, (f, g) = cell.xp, cell.activations
    gz, gr, gh = cell.parts(given, 1)
    rz, rr, rh = cell.parts(cell.r, 1)
    bz, br, bh = cell.parts(cell.br, 0)
    z = f(cell.clipped(gz + xp.matmul(h, rz) + bz))
    reset = f(cell.clipped(gr + xp.matmul(h, rr) + br))
    from_state = (
        reset * (xp.matmul(h, rh) + bh) if cell.kind.linear_before_reset else xp.matmul(reset * h, rh) + bh
    )
    return (1 - z) * g(cell.clipped(gh + from_state)) + z * h, None


def _lstm(cell: Cell, given: Any, h: Any, c: Any) -> tuple[Any, Any]:
    xp, (f, g, last) = cell.xp, cell.activations
    i, o, forget, candidate = cell.parts(given + xp.matmul(h, cell.r) + cell.br, 1)
    pi, po, pf = (None,) * 3 if cell.peepholes is None else xp.split(cell.peepholes, (cell.hidden,) * 3, 0)
    i = f(cell.clipped(i if pi is None else i + pi * c))
    forget = 1 - i if cell.kind.input_forget else f(cell.clipped(forget if pf is None else forget + pf * c))
    c = xp.let(forget * c + i * g(cell.clipped(candidate)), "cell")
    o = f(cell.clipped(o if po is None else o + po * c))
    return o * last(c), c


_STEPS: Mapping[str, Callable[..., tuple[Any, Any]]] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


@op
def Recurrent(
    xp: Any,
    x: Symbol,
    w: Symbol,
    r: Symbol,
    b: Symbol | None = None,
    sequence_lens: Symbol | None = None,
    initial_h: Symbol | None = None,
    initial_c: Symbol | None = None,
    p: Symbol | None = None,
    *,
    recurrence: Recurrence,
) -> Any:
    """Returns the sequence (time, batch, directions * hidden) and the last states, (directions, batch, hidden)."""
    if isinstance(x.shape[0], Size):
        raise CannotConvert("how many steps it takes is known only when the model runs")
    hidden, functions = r.shape[2], _activations(xp, recurrence)
    gates, each = len(ONNX_GATES[recurrence.cell]), len(functions) // len(recurrence.backwards)
    ends = None if sequence_lens is None else xp.expand_dims(sequence_lens, (1,))
    results = []
    for position, backwards in enumerate(recurrence.backwards):
        bias = xp.full((2 * gates * hidden,), 0, x.dtype) if b is None else _row(xp, b, position)
        bw, br = xp.split(bias, (gates * hidden,) * 2, 0)
        one = Cell(
            xp=xp,
            kind=recurrence,
            hidden=hidden,
            r=xp.let(xp.permute_dims(_row(xp, r, position), (1, 0)), "recurrent"),
            br=br,
            peepholes=None if p is None else _row(xp, p, position),
            activations=functions[position * each : (position + 1) * each],
        )
        given = xp.matmul(x, xp.permute_dims(_row(xp, w, position), (1, 0))) + bw
        given = shaped(given, (*x.shape[:2], gates * hidden))
        states = [
            _start(xp, state, position, (x.shape[1], hidden), x.dtype) for state in (initial_h, initial_c)
        ]
        results.append(_over_time(one, given, states, ends, backwards=backwards))
    sequences, *last = zip(*results, strict=True)
    return xp.concat(sequences, 2) if len(sequences) > 1 else sequences[0], *(
        xp.stack(states, 0) for states in last[: 2 if recurrence.cell == "LSTM" else 1]
    )


def _start(xp: Any, state: Symbol | None, position: int, sizes: tuple[Any, ...], dtype: Any) -> Any:
    return xp.full(sizes, 0, dtype) if state is None else _row(xp, state, position)


def _row(xp: Any, x: Symbol, position: int) -> Any:
    """What belongs to one direction."""
    return xp.squeeze(xp.slice(x, {0: (position, position + 1, 1)}), (0,))


def _over_time(
    cell: Cell, given: Any, states: Sequence[Any], ends: Any, *, backwards: bool
) -> tuple[Any, Any, Any]:
    """All outputs and the last states; a sequence that has ended keeps its state and gives zeros."""
    xp, (h, c) = cell.xp, states
    steps = given.shape[0]
    budget.write(steps)
    parts = xp.unstack(given, 0)
    outputs: list[Any] = [None] * steps
    for step in range(steps)[::-1] if backwards else range(steps):
        new_h, new_c = cell.step(parts[step], h, c)
        outputs[step] = new_h = xp.let(new_h, "hidden")
        if ends is not None:
            runs = ends > step
            outputs[step] = xp.where(runs, new_h, 0)
            new_h = xp.let(xp.where(runs, new_h, h), "hidden")
            new_c = None if new_c is None else xp.let(xp.where(runs, new_c, c), "cell")
        h, c = new_h, new_c
    return xp.stack(outputs, 0), h, c


def _activations(xp: Any, recurrence: Recurrence) -> tuple[Activation, ...]:
    """The functions, each with the next of the parameters that are given, or with its own defaults."""
    left = [iter(recurrence.alpha), iter(recurrence.beta)]
    made = []
    for name in recurrence.activations:
        function, defaults = ACTIVATIONS[name]
        values = [next(rest, default) for rest, default in zip(left, defaults, strict=False)]
        made.append(partial(_applied, xp, function, tuple(values)))
    return tuple(made)


def _applied(xp: Any, function: Callable[..., Any], values: tuple[float, ...], x: Any) -> Any:
    return function(xp, x, *values)
