"""RNN, GRU and LSTM step by step in numpy, by the formulas of ONNX's operator pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from netferry.converters.signature import Array

Activation = Callable[[Array], Array]
GATES: Mapping[str, int] = {"RNN": 1, "GRU": 3, "LSTM": 4}
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}


def recurrence(kind: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> tuple[Array, ...]:
    """x: (time, batch, in) or, with ``layout`` 1, (batch, time, in); all outputs of the operator."""
    names = ("x", "w", "r", "b", "lengths", "h", "c", "p")
    given = dict(zip_longest(names, inputs[: len(names)]))
    batch_first = bool(attributes.get("layout") or 0)
    x = _axes(given["x"], batch_first)
    assert x is not None and given["w"] is not None and given["r"] is not None
    count, hidden = given["w"].shape[0], given["r"].shape[-1]
    states = [_axes(given[name], batch_first) for name in ("h", "c")]
    begin = [np.zeros((count, x.shape[1], hidden)) if s is None else s.astype(np.float64) for s in states]
    lengths = np.full(x.shape[1], x.shape[0]) if given["lengths"] is None else given["lengths"]
    direction = attributes.get("direction") or "forward"
    rows = []
    for index in range(count):
        cell = _Cell(kind, {n: None if (v := given[n]) is None else v[index].astype(np.float64) for n in "wrbp"},
                     attributes, index, hidden)  # fmt: skip
        backward = direction == "reverse" or index == 1
        rows.append(_run(cell, x, [state[index] for state in begin], lengths, backward))
    y = np.stack([row[0] for row in rows], 1)
    last = [np.stack([row[1][i] for row in rows]) for i in range(2)]
    if batch_first:
        y, last = y.transpose(2, 0, 1, 3), [state.transpose(1, 0, 2) for state in last]
    return (y, *last) if kind == "LSTM" else (y, last[0])


def _axes(array: Array | None, batch_first: bool) -> Array | None:
    return array if array is None or not batch_first else array.swapaxes(0, 1)


def _run(
    cell: _Cell, x: Array, states: Sequence[Array], lengths: Array, backward: bool
) -> tuple[Array, list[Array]]:
    """y: (time, batch, hidden), zero beyond each row's length, and the states after its last step; of none, zeros."""
    h, c = (state.copy() for state in states)
    y = np.zeros((x.shape[0], *h.shape))
    for step in range(x.shape[0]):
        alive = step < lengths
        index = np.where(alive, lengths - 1 - step, 0) if backward else np.full(len(lengths), step)
        row = np.arange(len(lengths))
        new_h, new_c = cell(x[index, row].astype(np.float64), h, c)
        h, c = np.where(alive[:, None], new_h, h), np.where(alive[:, None], new_c, c)
        y[index[alive], row[alive]] = new_h[alive]
    some = (lengths > 0)[:, None]
    return y, [h * some, c * some]


class _Cell:
    """One step in one direction; ``w``, ``r``, ``b``, ``p`` are that direction's weights."""

    def __init__(
        self, kind: str, weights: Mapping[str, Array | None], attributes: Mapping[str, Any], index: int,
        hidden: int,
    ) -> None:  # fmt: skip
        gates = GATES[kind]
        bias = weights["b"] if weights["b"] is not None else np.zeros(2 * gates * hidden)
        self.w, self.r, self.p = weights["w"], weights["r"], weights["p"]
        self.wb, self.rb = np.split(bias, 2)
        self.hidden, self.clip = hidden, attributes.get("clip") or None
        self.linear = bool(attributes.get("linear_before_reset") or 0)
        self.coupled = bool(attributes.get("input_forget") or 0)
        self.activations = _activations(kind, attributes, index)
        self.step = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[kind]

    def __call__(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return self.step(x, h, c)

    def _clipped(self, x: Array) -> Array:
        return x if self.clip is None else np.clip(x, -self.clip, self.clip)

    def _rnn(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        total = x @ self.w.T + h @ self.r.T + self.wb + self.rb  # type: ignore[union-attr]
        return self.activations[0](self._clipped(total)), c

    def _gru(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, g = self.activations
        assert self.w is not None and self.r is not None
        xz, xr, xh = np.split(x @ self.w.T + self.wb, 3, -1)
        rz, rr, rh = np.split(self.r, 3)
        bz, br, bh = np.split(self.rb, 3)
        z = f(self._clipped(xz + h @ rz.T + bz))
        r = f(self._clipped(xr + h @ rr.T + br))
        inner = r * (h @ rh.T + bh) if self.linear else (r * h) @ rh.T + bh
        return (1 - z) * g(self._clipped(xh + inner)) + z * h, c

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        f, g, last = self.activations
        total = x @ self.w.T + h @ self.r.T + self.wb + self.rb  # type: ignore[union-attr]
        i, o, forget, cell = np.split(total, 4, -1)
        pi, po, pf = (0.0, 0.0, 0.0) if self.p is None else np.split(self.p, 3)
        i = f(self._clipped(i + pi * c))
        forget = 1 - i if self.coupled else f(self._clipped(forget + pf * c))
        c = forget * c + i * g(self._clipped(cell))
        return f(self._clipped(o + po * c)) * last(c), c


def _activations(kind: str, attributes: Mapping[str, Any], index: int) -> list[Activation]:
    """Those of one direction; alpha and beta are dealt out to the activations that take them, in order."""
    names = list(attributes.get("activations") or DEFAULTS[kind] * 2)
    alphas, betas = (
        list(attributes.get("activation_alpha") or ()),
        list(attributes.get("activation_beta") or ()),
    )
    made = []
    for name in names:
        function, alpha, beta = ACTIVATIONS[name.lower()]
        a = alphas.pop(0) if alpha is not None and alphas else alpha
        b = betas.pop(0) if beta is not None and betas else beta
        made.append(function(a, b))
    each = len(DEFAULTS[kind])
    return made[index * each : (index + 1) * each] or made[:each]


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


ACTIVATIONS: Mapping[str, tuple[Callable[[Any, Any], Activation], float | None, float | None]] = {
    "tanh": (lambda _a, _b: np.tanh, None, None),
    "sigmoid": (lambda _a, _b: _sigmoid, None, None),
    "relu": (lambda _a, _b: lambda x: np.maximum(x, 0), None, None),
    "leakyrelu": (lambda a, _b: lambda x: np.where(x < 0, a * x, x), 0.01, None),
    "thresholdedrelu": (lambda a, _b: lambda x: np.where(x > a, x, 0), 1.0, None),
    "scaledtanh": (lambda a, b: lambda x: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda a, b: lambda x: np.clip(a * x + b, 0, 1), 0.2, 0.5),
    "elu": (lambda a, _b: lambda x: np.where(x < 0, a * np.expm1(x), x), 1.0, None),
    "affine": (lambda a, b: lambda x: a * x + b, 1.0, 0.0),
    "softsign": (lambda _a, _b: lambda x: x / (1 + np.abs(x)), None, None),
    "softplus": (lambda _a, _b: lambda x: np.logaddexp(0, x), None, None),
}
