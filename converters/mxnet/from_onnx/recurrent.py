"""ONNX's recurrent layers as MXNet's RNN operator, its parameters put together as gluon's layers export them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.recurrent import GATES, ONNX_GATES, Recurrence, reorder
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE
from netferry.converters.signature import Array

_ACTIVATIONS: Mapping[str, Mapping[tuple[str, ...], str]] = {
    "LSTM": {("Sigmoid", "Tanh", "Tanh"): "lstm"},
    "GRU": {("Sigmoid", "Tanh"): "gru"},
    "RNN": {("Tanh",): "rnn_tanh", ("Relu",): "rnn_relu"},
}
_GLUON = re.compile(r"(?P<prefix>.*?)[lr](?P<level>\d+)_i2h_weight")


@NATIVE.row("Recurrent")
def recurrent(
    xp: MxnetNamespace,
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
    """x: (time, batch, inputs); w, r, b as ONNX packs them: one leading axis for the directions."""
    _refuse(p, recurrence)
    cell, ways = recurrence.cell, recurrence.backwards
    if cell == "GRU" and not recurrence.linear_before_reset:
        raise CannotConvert("linear_before_reset=0: MXNet's GRU applies the reset gate after the product")
    if w.content is None or r.content is None or (b is not None and b.content is None):
        raise CannotConvert("its weights are not constants")
    if x.dtype not in (np.float32, np.float64):
        raise CannotConvert(f"MXNet has no recurrent layer for {x.dtype.name}")
    layer = _Layer(xp, cell, _mode(recurrence), w, r, b)
    if sequence_lens is not None and not _whole(sequence_lens, x):
        return _of_many_lengths(layer, x, sequence_lens, initial_h, initial_c, ways)
    if ways == (True,):
        outputs = layer.run(xp.flip(x, (0,)), (0,), initial_h, initial_c)
        return (xp.flip(outputs[0], (0,)), *outputs[1:])
    return layer.run(x, tuple(range(len(ways))), initial_h, initial_c)


def _refuse(p: Symbol | None, recurrence: Recurrence) -> None:
    if p is not None and p.fact.fill != 0 and (p.content is None or np.any(p.content)):
        raise CannotConvert("MXNet's LSTM has no peepholes")
    if recurrence.clip:
        raise CannotConvert("MXNet's RNN does not clip its gates")
    if recurrence.input_forget:
        raise CannotConvert("MXNet's LSTM does not couple its input and forget gates")
    if recurrence.alpha or recurrence.beta:
        raise CannotConvert("activations with parameters")


def _mode(recurrence: Recurrence) -> str:
    names, count = recurrence.activations, len(recurrence.backwards)
    each = len(names) // count
    mode = _ACTIVATIONS[recurrence.cell].get(names[:each])
    if mode is None or names != names[:each] * count:
        raise CannotConvert(f"MXNet's {recurrence.cell} has no activations {', '.join(names)}")
    return mode


def _whole(lens: Symbol, x: Symbol) -> bool:
    """Whether every sequence is as long as the input."""
    time = x.shape[0]
    return lens.content is not None and isinstance(time, int) and bool(np.all(lens.content == time))


class _Layer:
    """The weights of a layer as parameters, and the RNN node over them."""

    def __init__(
        self, xp: MxnetNamespace, cell: str, mode: str, w: Symbol, r: Symbol, b: Symbol | None
    ) -> None:
        self.xp, self.mode, self.cell = xp, mode, cell
        self.w, self.r, self.b = w, r, b
        assert r.content is not None
        self.hidden = int(r.content.shape[-1])
        self._made: dict[tuple[int, str], Symbol] = {}

    def run(
        self, x: Symbol, ways: tuple[int, ...], initial_h: Symbol | None, initial_c: Symbol | None
    ) -> tuple[Symbol, ...]:
        """The sequence, the last hidden state and, of an LSTM, the last cell state."""
        xp, (time, batch, _) = self.xp, x.shape
        vectors = [self._flat(way, kind) for kinds in _ORDER for way in ways for kind in kinds]
        packed = xp.apply("_rnn_param_concat", *vectors, dims=None, dim=0, num_args=len(vectors))
        states = [self._state(initial_h, ways, batch, x.dtype)]
        if self.cell == "LSTM":
            states.append(self._state(initial_c, ways, batch, x.dtype))
        asked = xp.wanted(1) or xp.wanted(2)
        position = xp.node_of(
            "RNN",
            x,
            packed,
            *states,
            state_size=self.hidden,
            num_layers=1,
            bidirectional=True if len(ways) == 2 else None,
            mode=self.mode,
            state_outputs=True if asked else None,
        )
        last = (len(ways), batch, self.hidden)
        shapes = [(time, batch, len(ways) * self.hidden), last, last][: 1 + len(states) * asked]
        return tuple(xp.entry(position, i, x.dtype, dims) for i, dims in enumerate(shapes))

    def _state(self, state: Symbol | None, ways: tuple[int, ...], batch: Any, dtype: np.dtype[Any]) -> Symbol:
        """A state that is given, or zeros whose batch MXNet finds by itself (0 in a shape)."""
        if state is not None:
            return state
        dims = (len(ways), batch, self.hidden)
        return self.xp.apply("_zeros", gives=dtype, dims=dims, shape=(len(ways), 0, self.hidden), dtype=dtype)

    def _flat(self, way: int, kind: str) -> Symbol:
        if (way, kind) not in self._made:
            content, source = self._part(way, kind)
            name = self._name(way, kind)
            weight = self.xp.parameter(content, name)
            if way == 0 and source:
                self.xp.names.setdefault(source, name)
            self._made[way, kind] = self.xp.apply("Reshape", weight, dims=None, shape=(-1,))
        return self._made[way, kind]

    def _part(self, way: int, kind: str) -> tuple[Array, str]:
        """One weight of one direction, its gates in MXNet's order, and the source's name of what it comes from."""
        have, want = ONNX_GATES[self.cell], GATES["mxnet"][self.cell]
        rows = len(have) * self.hidden
        if kind in ("i2h_weight", "h2h_weight"):
            source = self.w if kind == "i2h_weight" else self.r
            assert source.content is not None
            return reorder(source.content[way], have, want), source.fact.name
        if self.b is None or self.b.content is None:
            return np.zeros(rows, self.w.dtype), ""
        half = self.b.content[way][:rows] if kind == "i2h_bias" else self.b.content[way][rows:]
        return reorder(half, have, want), self.b.fact.name if kind == "i2h_bias" else ""

    def _name(self, way: int, kind: str) -> str:
        """As gluon names them: ``lstm0_l0_i2h_weight``, ``lstm0_r0_i2h_weight``."""
        match = _GLUON.fullmatch(self.w.fact.name)
        prefix, level = (match["prefix"], match["level"]) if match else (f"{self.xp.wish}_", "0")
        return f"{prefix}{'lr'[way]}{level}_{kind}"


_ORDER = (("i2h_weight", "h2h_weight"), ("i2h_bias", "h2h_bias"))
"""The parameter vector: all weights, then all biases; direction by direction."""


def _of_many_lengths(
    layer: _Layer,
    x: Symbol,
    lens: Symbol,
    initial_h: Symbol | None,
    initial_c: Symbol | None,
    ways: tuple[bool, ...],
) -> tuple[Any, ...]:
    """Each direction by itself: beyond its length a sequence is zero, and its last state is that of its last step, zero
    where it has none.

    On a CPU MXNet's RNN takes no lengths; SequenceReverse, SequenceMask and SequenceLast do.
    """
    xp = layer.xp
    if layer.cell == "LSTM" and xp.wanted(2):
        raise CannotConvert("the last cell states of sequences of different lengths")
    length = xp.astype(lens, np.dtype("f4"))
    step = xp.let(xp.maximum(length, 1))  # SequenceLast of none reads what is not there
    some = xp.expand_dims(xp.minimum(length, 1), (1,))
    sequences, states = [], []
    for way, backwards in enumerate(ways):
        own = [None if s is None else xp.slice(s, {0: (way, way + 1, 1)}) for s in (initial_h, initial_c)]
        start = _sequence(xp, "SequenceReverse", x, length) if backwards else x
        sequence = layer.run(start, (way,), own[0], own[1])[0]
        masked = _sequence(xp, "SequenceMask", sequence, length, value=0.0)
        last = _sequence(xp, "SequenceLast", sequence, step, dims=sequence.shape[1:])
        sequences.append(_sequence(xp, "SequenceReverse", masked, length) if backwards else masked)
        states.append(xp.expand_dims(xp.multiply(last, xp.astype(some, last.dtype)), (0,)))
    return xp.concat(sequences, 2), xp.concat(states, 0)


def _sequence(
    xp: MxnetNamespace, op: str, x: Symbol, length: Symbol, dims: Any = None, **attrs: Any
) -> Symbol:
    return xp.apply(op, x, length, dims=dims or x.shape, use_sequence_length=True, **attrs)
