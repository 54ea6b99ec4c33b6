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
from netferry.converters.graph.ops.table import choice, op, shaped

Activation = Callable[[Any], Any]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",),
}  # fmt: skip


def _affine(xp: Any, x: Any, alpha: float, beta: float) -> Any:
    return x * alpha + beta


def _scaled_tanh(xp: Any, x: Any, alpha: float, beta: float) -> Any:
    return xp.tanh(x * beta) * alpha


ACTIVATIONS: Mapping[str, tuple[Callable[..., Any], tuple[float, ...]]] = {
    "sigmoid": (lambda xp, x: xp.sigmoid(x), ()),
    "tanh": (lambda xp, x: xp.tanh(x), ()),
    "relu": (lambda xp, x: xp.maximum(x, 0), ()),
    "softsign": (Softsign, ()),
    "softplus": (Softplus, ()),
    "affine": (_affine, (1.0, 0.0)),
    "scaledtanh": (_scaled_tanh, (1.0, 1.0)),
    "hardsigmoid": (lambda xp, x, a, b: HardSigmoid(xp, x, alpha=a, beta=b), (0.2, 0.5)),
    "leakyrelu": (lambda xp, x, a: LeakyRelu(xp, x, alpha=a), (0.01,)),
    "thresholdedrelu": (lambda xp, x, a: ThresholdedRelu(xp, x, alpha=a), (1.0,)),
    "elu": (lambda xp, x, a: Elu(xp, x, alpha=a), (1.0,)),
}
"""Name in lower case -> function of ``xp``, x and its parameters, and the parameters it has by default."""


@dataclass(frozen=True)
class Cell:
    """One direction: its weights, and what it does between the matrices."""

    xp: Any
    kind: str
    hidden: Any
    r: Any
    br: Any
    peepholes: Any
    activations: tuple[Activation, ...]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool

    def parts(self, x: Any, axis: int) -> tuple[Any, ...]:
        """The gates of a stack."""
        count = _GATES[self.kind]
        return tuple(self.xp.split(x, (self.hidden,) * count, axis)) if count > 1 else (x,)

    def clipped(self, x: Any) -> Any:
        return x if self.clip is None else self.xp.minimum(self.xp.maximum(x, -self.clip), self.clip)

    def step(self, given: Any, h: Any, c: Any) -> tuple[Any, Any]:
        """The next state from ``given``: x W^T and its bias, the gates in ONNX's order."""
        return _STEPS[self.kind](self, given, h, c)


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
        reset * (xp.matmul(h, rh) + bh) if cell.linear_before_reset else xp.matmul(reset * h, rh) + bh
    )
    return (1 - z) * g(cell.clipped(gh + from_state)) + z * h, None


def _lstm(cell: Cell, given: Any, h: Any, c: Any) -> tuple[Any, Any]:
    xp, (f, g, last) = cell.xp, cell.activations
    i, o, forget, candidate = cell.parts(given + xp.matmul(h, cell.r) + cell.br, 1)
    pi, po, pf = (None,) * 3 if cell.peepholes is None else xp.split(cell.peepholes, (cell.hidden,) * 3, 0)
    i = f(cell.clipped(i if pi is None else i + pi * c))
    forget = 1 - i if cell.input_forget else f(cell.clipped(forget if pf is None else forget + pf * c))
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
    cell: str = "LSTM",
    activation_alpha: Sequence[float] | None = None,
    activation_beta: Sequence[float] | None = None,
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    linear_before_reset: int = 0,
) -> Any:
    """Returns the sequence (time, batch, directions * hidden) and the last states, (directions, batch, hidden)."""
    choice(cell, tuple(_GATES), "cell")
    choice(direction, ("forward", "reverse", "bidirectional"), "direction")
    if isinstance(x.shape[0], Size):
        raise CannotConvert("how many steps it takes is known only when the model runs")
    count, hidden, functions = (2 if direction == "bidirectional" else 1), r.shape[2], len(_DEFAULTS[cell])
    chosen = _activations(xp, activations or _DEFAULTS[cell] * count, activation_alpha, activation_beta)
    ends = None if sequence_lens is None else xp.expand_dims(sequence_lens, (1,))
    results = []
    for place in range(count):
        bias = xp.full((2 * _GATES[cell] * hidden,), 0, x.dtype) if b is None else _row(xp, b, place)
        bw, br = xp.split(bias, (_GATES[cell] * hidden,) * 2, 0)
        one = Cell(
            xp=xp,
            kind=cell,
            hidden=hidden,
            r=xp.let(xp.permute_dims(_row(xp, r, place), (1, 0)), "recurrent"),
            br=br,
            peepholes=None if p is None else _row(xp, p, place),
            activations=chosen[place * functions : (place + 1) * functions],
            clip=clip,
            input_forget=bool(input_forget),
            linear_before_reset=bool(linear_before_reset),
        )
        given = xp.matmul(x, xp.permute_dims(_row(xp, w, place), (1, 0))) + bw
        given = shaped(given, (*x.shape[:2], _GATES[cell] * hidden))
        states = [_start(xp, state, place, (x.shape[1], hidden), x.dtype) for state in (initial_h, initial_c)]
        results.append(_over_time(one, given, states, ends, backwards=direction == "reverse" or place == 1))
    sequences, *last = zip(*results, strict=True)
    return xp.concat(sequences, 2) if count == 2 else sequences[0], *(
        xp.stack(states, 0) for states in last[: 2 if cell == "LSTM" else 1]
    )


def _start(xp: Any, state: Symbol | None, place: int, sizes: tuple[Any, ...], dtype: Any) -> Any:
    return xp.full(sizes, 0, dtype) if state is None else _row(xp, state, place)


def _row(xp: Any, x: Symbol, place: int) -> Any:
    """What belongs to one direction."""
    return xp.squeeze(xp.slice(x, {0: (place, place + 1, 1)}), (0,))


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


def _activations(
    xp: Any, names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None
) -> tuple[Activation, ...]:
    """The functions, each with the next of the parameters that are given, or with its own defaults."""
    left = [iter(alphas or ()), iter(betas or ())]
    made = []
    for name in names:
        function, defaults = ACTIVATIONS[choice(name.lower(), tuple(ACTIVATIONS), "activation")]
        values = [next(rest, default) for rest, default in zip(left, defaults, strict=False)]
        made.append(partial(_applied, xp, function, tuple(values)))
    return tuple(made)


def _applied(xp: Any, function: Callable[..., Any], values: tuple[float, ...], x: Any) -> Any:
    return function(xp, x, *values)
