"""The steps of LSTM, GRU and SimpleRNN in numpy, with which the step of a loop is compared.

Gates and weights stand as Keras and TensorFlow 1 keep them. x: (batch, input), h and c: (batch, units).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import numpy as np

from netferry.converters.graph.schema.recurrent import Direction
from netferry.converters.signature import Array

Activation = tuple[str, float | None, float | None]
"""ONNX's name of an activation inside a recurrent operator, its alpha and its beta."""

_ALL: Mapping[Activation, Callable[[Array], Array]] = {
    ("Tanh", None, None): np.tanh,
    ("Sigmoid", None, None): lambda x: 1 / (1 + np.exp(-x)),
    ("Relu", None, None): lambda x: np.maximum(x, 0),
    ("HardSigmoid", 0.2, 0.5): lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    ("HardSigmoid", 1 / 6, 0.5): lambda x: np.clip(x / 6 + 0.5, 0, 1),
    ("Affine", 1.0, 0.0): lambda x: x,
    ("Elu", 1.0, None): lambda x: np.where(x > 0, x, np.expm1(x)),
    ("LeakyRelu", 0.2, None): lambda x: np.where(x > 0, x, 0.2 * x),
    ("Softsign", None, None): lambda x: x / (1 + np.abs(x)),
    ("Softplus", None, None): lambda x: np.log1p(np.exp(x)),
}
_GATES = [kind for kind in _ALL if kind[0] in ("Sigmoid", "HardSigmoid")] + [
    kind for kind in _ALL if kind[0] not in ("Sigmoid", "HardSigmoid")
]


@dataclass(frozen=True)
class Trial:
    """What a step was given, and what it made of it: ``arrays`` are the weights that it may have read, by their keys.

    ``alive`` are the rows that count, where some are left out.
    """

    x: Array
    states: Sequence[Array]
    arrays: Mapping[Any, Array]
    next: Sequence[Array]
    item: Array | None
    alive: Array | None = None


@dataclass(frozen=True)
class Cell:
    """What a step is: ``keys`` are its weights (kernel, recurrent kernel, bias; one kernel where ``joint``).

    ``states`` are the places of h and c among the states of the loop; ``activations`` are in ONNX's order.
    """

    kind: str
    keys: tuple[Any, ...]
    states: tuple[int, ...]
    activations: tuple[Activation, ...]
    form: str = ""

    def direction(self, arrays: Mapping[Any, Array]) -> Direction:
        """The weights as the schema takes them, of the arrays that stand under the keys."""
        kernel, recurrent, bias = _weights(self, arrays)
        both = bias is not None and bias.ndim == 2
        return Direction(
            kernel.T,
            recurrent.T,
            bias[0] if both and bias is not None else bias,
            bias[1] if both and bias is not None else None,
        )


def _weights(cell: Cell, arrays: Mapping[Any, Array]) -> tuple[Array, Array, Array | None]:
    found = [arrays[key] for key in cell.keys]
    if cell.form == "gates":
        return _of_gates(*found)
    if not cell.form.startswith("joint"):
        if len(found) > 3:
            return found[0], found[1], np.stack(found[2:])
        return found[0], found[1], found[2] if len(found) > 2 else None
    if cell.kind == "RNN":
        inputs = found[0].shape[0] - found[0].shape[1]
        return found[0][:inputs], found[0][inputs:], found[1] if len(found) > 1 else None
    units = found[0].shape[1] // 4
    blocks = [np.split(each, 4, axis=-1) for each in found]
    i, j, f, o = range(4)
    kernel = np.concatenate([blocks[0][gate] for gate in (i, f, j, o)], axis=-1)
    bias = blocks[1] if len(blocks) > 1 else [np.zeros(units, kernel.dtype)] * 4
    moved = [bias[i], bias[f] + kernel.dtype.type(float(cell.form.removeprefix("joint "))), bias[j], bias[o]]
    inputs = kernel.shape[0] - units
    return kernel[:inputs], kernel[inputs:], np.concatenate(moved)


def _of_gates(gates: Array, bias: Array, candidate: Array, inner: Array) -> tuple[Array, Array, Array]:
    """TensorFlow 1's GRU: both gates (reset, then update) in one kernel, the candidate in another."""
    (reset, update), (low, high) = (np.split(each, 2, axis=-1) for each in (gates, bias))
    kernel = np.concatenate([update, reset, candidate], axis=1)
    inputs = kernel.shape[0] - candidate.shape[1]
    return kernel[:inputs], kernel[inputs:], np.concatenate([high, low, inner])


def found(trial: Trial) -> Cell | None:
    """The cell whose step gives what the trial gave."""
    return next((cell for cell in _candidates(trial) if _same(cell, trial)), None)


def chain(trial: Trial) -> tuple[Cell, ...] | None:
    """The cells whose steps, each on what the one before gives, give what the trial gave; their states stand in their order."""
    x, at, listed = trial.x, 0, list[Cell]()
    while at < len(trial.states):
        cell = next(filter(None, (_at(trial, x, slice(at, at + count)) for count in (2, 1))), None)
        if cell is None:
            return None
        listed.append(replace(cell, states=tuple(at + place for place in cell.states)))
        x, at = trial.next[listed[-1].states[0]], at + len(cell.states)
    return tuple(listed) if trial.item is None or close(x, trial.item) else None


def _at(trial: Trial, x: Array, places: slice) -> Cell | None:
    """The cell whose states are these alone."""
    states = trial.states[places]
    if len(states) != places.stop - places.start:
        return None
    return found(Trial(x, states, trial.arrays, trial.next[places], None))


def close(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=2e-5)


def _same(cell: Cell, trial: Trial) -> bool:
    want = [trial.next[place] for place in cell.states]
    item = trial.item if trial.item is not None else want[0]
    got = _step(cell, trial)
    return all(close(a, b) for a, b in zip([*got, got[0]], [*want, item], strict=True))


def _candidates(trial: Trial) -> Iterator[Cell]:
    units, inputs = trial.states[0].shape[1], trial.x.shape[1]
    for kind, gates, count in (("LSTM", 4, 2), ("GRU", 3, 1), ("RNN", 1, 1)):
        if len(trial.states) != count:
            continue
        for keys in _keys(trial, inputs, units, gates, kind):
            for states in permutations(range(count)):
                for activations in _activations(kind):
                    forms = ("after", "before") if kind == "GRU" else ("",)
                    yield from (Cell(kind, keys, states, activations, form) for form in forms)
        yield from _JOINT[kind](trial, inputs, units)


def _joint(trial: Trial, inputs: int, units: int) -> Iterator[Cell]:
    """TensorFlow 1 keeps both kernels in one, the gates as i, j, f, o, and adds to the forget gate's bias."""
    kernels = [key for key, array in trial.arrays.items() if array.shape == (inputs + units, 4 * units)]
    biases = [key for key, array in trial.arrays.items() if array.shape == (4 * units,)]
    for kernel, bias, states, extra in product(
        kernels, [*biases, None], permutations(range(2)), ("0.0", "1.0")
    ):
        keys = (kernel,) if bias is None else (kernel, bias)
        yield from (Cell("LSTM", keys, states, each, f"joint {extra}") for each in _activations("LSTM"))


def _joint_rnn(trial: Trial, inputs: int, units: int) -> Iterator[Cell]:
    kernels, biases = _of(trial, (inputs + units, units)), _of(trial, (units,))
    for kernel, bias in product(kernels, [*biases, None]):
        keys = (kernel,) if bias is None else (kernel, bias)
        yield from (Cell("RNN", keys, (0,), each, "joint 0.0") for each in _activations("RNN"))


def _gates(trial: Trial, inputs: int, units: int) -> Iterator[Cell]:
    shapes = ((inputs + units, 2 * units), (2 * units,), (inputs + units, units), (units,))
    for keys in product(*(_of(trial, shape) for shape in shapes)):
        yield from (Cell("GRU", keys, (0,), each, "gates") for each in _activations("GRU"))


def _of(trial: Trial, *shapes: tuple[int, ...]) -> list[Any]:
    return [key for key, array in trial.arrays.items() if array.shape in shapes]


_JOINT = {"LSTM": _joint, "GRU": _gates, "RNN": _joint_rnn}


def _keys(trial: Trial, inputs: int, units: int, gates: int, kind: str) -> Iterator[tuple[Any, ...]]:
    shapes = [(gates * units,)] + ([(2, gates * units)] if kind == "GRU" else [])
    for kernel, recurrent in product(_of(trial, (inputs, gates * units)), _of(trial, (units, gates * units))):
        if kernel == recurrent:
            continue
        if kind == "GRU":
            yield from ((kernel, recurrent, *pair) for pair in permutations(_of(trial, (gates * units,)), 2))
        yield from ((kernel, recurrent, bias) for bias in _of(trial, *shapes))
        yield kernel, recurrent


def _activations(kind: str) -> Iterator[tuple[Activation, ...]]:
    if kind == "RNN":
        yield from ((act,) for act in _ALL)
        return
    yield from ((gate, act, act) if kind == "LSTM" else (gate, act) for gate, act in product(_GATES, _ALL))


def _step(cell: Cell, trial: Trial) -> list[Array]:
    kernel, recurrent, bias = _weights(cell, trial.arrays)
    h = trial.states[cell.states[0]]
    functions = [_ALL[each] for each in cell.activations]
    with np.errstate(all="ignore"):
        if cell.kind == "RNN":
            return [functions[0](trial.x @ kernel + h @ recurrent + (0 if bias is None else bias))]
        if cell.kind == "GRU":
            return [_gru(cell, trial.x, h, kernel, recurrent, bias, functions)]
        i, f, j, o = np.split(trial.x @ kernel + h @ recurrent + (0 if bias is None else bias), 4, axis=1)
        gate, act, last = functions
        c = gate(f) * trial.states[cell.states[1]] + gate(i) * act(j)
        return [gate(o) * last(c), c]


def _gru(
    cell: Cell,
    x: Array,
    h: Array,
    kernel: Array,
    recurrent: Array,
    bias: Array | None,
    functions: Sequence[Any],
) -> Array:
    gate, act = functions
    before = bias[0] if bias is not None and bias.ndim == 2 else bias
    after = bias[1] if bias is not None and bias.ndim == 2 else None
    xz, xr, xh = np.split(x @ kernel + (0 if before is None else before), 3, axis=1)
    if cell.form == "after":
        hz, hr, hh = np.split(h @ recurrent + (0 if after is None else after), 3, axis=1)
        z, r = gate(xz + hz), gate(xr + hr)
        inner = act(xh + r * hh)
    else:
        rz, rr, rh = np.split(recurrent, 3, axis=1)
        z, r = gate(xz + h @ rz), gate(xr + h @ rr)
        inner = act(xh + (r * h) @ rh)
    return np.asarray(z * h + (1 - z) * inner)
