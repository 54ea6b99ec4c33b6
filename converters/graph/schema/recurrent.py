"""Recurrent layers: gate order, bias layout and direction, in one place for every framework.

The letters are ONNX's: input, output, forget, cell of an LSTM; update (z), reset (r), hidden of a GRU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import GraphBuilder, Tensor
from netferry.converters.signature import Array

ONNX_GATES: Mapping[str, str] = {"LSTM": "iofc", "GRU": "zrh", "RNN": "i"}

GATES: Mapping[str, Mapping[str, str]] = {
    "pytorch": {"LSTM": "ifco", "GRU": "rzh", "RNN": "i"},
    "mxnet": {"LSTM": "ifco", "GRU": "rzh", "RNN": "i"},
    "tensorflow": {"LSTM": "ifco", "GRU": "zrh", "RNN": "i"},
}
"""The order in which each framework stacks the gates in its weights."""

DEFAULT_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",),
}  # fmt: skip
"""Those of one direction."""

_ACTIVATIONS: Mapping[str, str] = {
    name.lower(): name
    for name in """
    Affine Elu HardSigmoid LeakyRelu Relu ScaledTanh Sigmoid Softplus Softsign Tanh ThresholdedRelu
    """.split()
}

RECURRENCE = frozenset(
    """
    activation_alpha activation_beta activations cell clip direction hidden_size input_forget linear_before_reset
    """.split()
)
"""The attributes that are one object: ONNX's for LSTM, GRU and RNN, ``layout`` aside, and which of these it is."""


@dataclass(frozen=True)
class Recurrence:
    """What a recurrent layer does between its matrices, checked; its hidden size is that of its weights.

    ``activations`` are of all directions, under ONNX's names; ``alpha`` and ``beta`` hold, in their order, the
    parameters of those that have any.
    """

    cell: str
    direction: str
    activations: tuple[str, ...]
    alpha: tuple[float, ...]
    beta: tuple[float, ...]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool

    @classmethod
    def of(cls, operator: str, _inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Recurrence:
        """From a node's attributes; the default activations where it lists none."""
        cell = attributes.get("cell", operator)
        direction = attributes.get("direction") or "forward"
        for name, value, allowed in (("cell", cell, ONNX_GATES), ("direction", direction, _BACKWARDS)):
            if value not in allowed:
                raise CannotConvert(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
        usual = DEFAULT_ACTIVATIONS[cell] * len(_BACKWARDS[direction])
        names = tuple(attributes.get("activations") or usual)
        if len(names) != len(usual):
            raise CannotConvert(f"it lists {len(names)} activations, expected {len(usual)}")
        unknown = [name for name in names if name.lower() not in _ACTIVATIONS]
        if unknown:
            raise CannotConvert(
                f"activation {unknown[0]!r}, expected one of {', '.join(_ACTIVATIONS.values())}"
            )
        return cls(
            cell,
            direction,
            tuple(_ACTIVATIONS[name.lower()] for name in names),
            tuple(attributes.get("activation_alpha") or ()),
            tuple(attributes.get("activation_beta") or ()),
            attributes.get("clip"),
            bool(attributes.get("input_forget")),
            bool(attributes.get("linear_before_reset")),
        )

    @property
    def backwards(self) -> tuple[bool, ...]:
        """For each direction, whether it begins at the end."""
        return _BACKWARDS[self.direction]

    @property
    def usual(self) -> bool:
        """Whether its activations are the default ones."""
        return self.activations == DEFAULT_ACTIVATIONS[self.cell] * len(self.backwards)

    @property
    def plain(self) -> bool:
        """Whether it has nothing that only ONNX has: a clip, coupled gates, activations with parameters."""
        return self.clip is None and not (self.input_forget or self.alpha or self.beta)


_BACKWARDS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,), "reverse": (True,), "bidirectional": (False, True),
}  # fmt: skip


@dataclass(frozen=True)
class Direction:
    """The weights of one direction, gates stacked along the first axis in the framework's order.

    ``w``: (gates * hidden, input), ``r``: (gates * hidden, hidden), ``bw`` and ``br``:
    (gates * hidden,) or None for no bias.
    """

    w: Array
    r: Array
    bw: Array | None = None
    br: Array | None = None


def reorder(array: Array, have: str, want: str) -> Array:
    """Restack gates along the first axis from one order of letters to another."""
    blocks = dict(zip(have, np.split(array, len(have)), strict=True))
    return np.concatenate([blocks[gate] for gate in want])


def onnx_weights(
    cell: str, framework: str, directions: Sequence[Direction]
) -> tuple[Array, Array, Array | None]:
    """W, R and B as ONNX's LSTM, GRU and RNN take them: one leading axis for the directions.

    A bias that only one side has is completed with zeros; without any, B is None.
    """
    have, want = GATES[framework][cell], ONNX_GATES[cell]

    def bias(direction: Direction) -> Array:
        zeros = np.zeros(direction.w.shape[0], direction.w.dtype)
        halves = (zeros if half is None else half for half in (direction.bw, direction.br))
        return np.concatenate([reorder(half, have, want) for half in halves])

    w = np.stack([reorder(direction.w, have, want) for direction in directions])
    r = np.stack([reorder(direction.r, have, want) for direction in directions])
    biased = any(d.bw is not None or d.br is not None for d in directions)
    return w, r, np.stack([bias(direction) for direction in directions]) if biased else None


@dataclass(frozen=True)
class Names:
    """The names that the packed weights keep: the source's own names of W, R and B."""

    w: str
    r: str
    b: str


def projected_lstm(
    g: GraphBuilder,
    x: Tensor,
    weights: Mapping[str, Tensor],
    initial_h: Tensor,
    initial_c: Tensor,
    *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction of an LSTM with a projection, which ONNX's LSTM lacks, as a Scan over (time, batch, input).

    ``weights``, gates in the order input, forget, cell, output: "w" (input, 4 * hidden), "r" (4 * hidden,
    projected), "b" (4 * hidden,), "p" (projected, hidden). h is (batch, projected), c (batch, hidden).
    Returns the sequence (time, batch, projected) and the last h and c.
    """

    def step(
        states: Sequence[Tensor], elements: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        h, c = states
        gates = g.Gemm(h, weights["r"], elements[0], transB=1)
        i, f, cell, o = g.ops("Split", gates, outputs=4, axis=-1, num_outputs=4)
        c = g.Add(g.Mul(g.Sigmoid(f), c), g.Mul(g.Sigmoid(i), g.Tanh(cell)))
        h = g.Gemm(g.Mul(g.Sigmoid(o), g.Tanh(c)), weights["p"], transB=1)
        return (h, c), (h,)

    inputs = g.Add(g.MatMul(x, weights["w"]), weights["b"])
    (last_h, last_c), (sequence,) = g.scan(step, [initial_h, initial_c], [inputs], reverse=reverse)
    return sequence, last_h, last_c


def layer(
    g: GraphBuilder,
    cell: str,
    framework: str,
    x: Tensor,
    directions: Sequence[Direction],
    names: Names,
    *,
    reverse: bool = False,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    activations: Sequence[str] | None = None,
    alpha: Sequence[float] | None = None,
    beta: Sequence[float] | None = None,
    linear_before_reset: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One recurrent layer over ``x``: (time, batch, input).

    Returns the sequence (time, batch, directions * hidden), the last hidden state
    (directions, batch, hidden) and, of an LSTM, the last cell state. ``activations`` are those of one
    direction, under ONNX's names; ``alpha`` and ``beta`` hold, in their order, the parameters of those
    that have any.
    """
    w, r, b = onnx_weights(cell, framework, directions)
    count, hidden = len(directions), r.shape[-1]
    direction = "bidirectional" if count == 2 else "reverse" if reverse else "forward"
    attributes: dict[str, Any] = {
        "hidden_size": hidden,
        "direction": direction if direction != "forward" else None,
        "activations": None if activations is None else list(activations) * count,
        "activation_alpha": list(alpha) * count if alpha else None,
        "activation_beta": list(beta) * count if beta else None,
        "linear_before_reset": 1 if cell == "GRU" and linear_before_reset else None,
    }
    states = g.ops(
        cell,
        x,
        g.constant(w, name=names.w),
        g.constant(r, name=names.r),
        None if b is None else g.constant(b, name=names.b),
        sequence_lens,
        initial_h,
        *([initial_c] if cell == "LSTM" else []),
        outputs=3 if cell == "LSTM" else 2,
        **attributes,
    )
    sequence = states[0]  # (time, directions, batch, hidden)
    if count == 1:
        sequence = g.Squeeze(sequence, g.ints(1))
    else:
        sequence = g.Reshape(g.transpose(sequence, (0, 2, 1, 3)), g.ints(0, 0, -1))
    return sequence, states[1], states[2] if cell == "LSTM" else None
