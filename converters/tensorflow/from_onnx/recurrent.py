"""LSTM, GRU and SimpleRNN: Keras' layers where they mean the same, ONNX's own steps written out where not.

Keras has the batch first; for sequences that is a pending transposition, so that stacked layers meet directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.recurrent import GATES, ONNX_GATES, Recurrence, reorder
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.function_names import Weight, layer_dtype
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE

LAYERS: Mapping[str, str] = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
CELLS: Mapping[str, str] = {"LSTM": "lstm_cell", "GRU": "gru_cell", "RNN": "simple_rnn_cell"}
PLAIN: Mapping[str, str] = {
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softsign": "softsign", "Softplus": "softplus",
}  # fmt: skip
"""Activations without parameters -> Keras' names."""

BIASES = "Keras' {} has one bias where ONNX has two: their sum, which moves as one while it trains"


@NATIVE.row("Recurrent")
def Recurrent(
    xp: TensorflowNamespace,
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
    """sequence (time, batch, directions * hidden), h and c (directions, batch, hidden)."""
    cell, hidden, direction = recurrence.cell, r.size(r.ndim - 1), recurrence.direction
    keras_has = _keras_activations(recurrence)
    constant = w.content is not None and r.content is not None and (b is None or b.content is not None)
    if constant and p is None and recurrence.plain and keras_has is not None and sequence_lens is None:
        reset = {"reset_after": recurrence.linear_before_reset} if cell == "GRU" else {}
        return _layer(xp, x, w, r, b, initial_h, initial_c, cell, hidden, direction, {**keras_has, **reset})
    if xp.functional:
        raise CannotConvert(
            "a functional Keras model has no recurrent layer with these activations, lengths or weights"
        )
    return _steps(
        xp, x, w, r, b, sequence_lens, initial_h, initial_c, p, cell=cell, hidden=hidden, direction=direction,
        activations=list(recurrence.activations), alpha=list(recurrence.alpha), beta=list(recurrence.beta),
        clip=recurrence.clip, input_forget=recurrence.input_forget, linear_before_reset=recurrence.linear_before_reset,
    )  # fmt: skip


def _keras_activations(recurrence: Recurrence) -> dict[str, str] | None:
    """The layer's two activations, left out where they are its defaults; None where it cannot have them."""
    names, count = recurrence.activations, len(recurrence.backwards)
    one = names[: len(names) // count]
    if names != one * count or any(name not in PLAIN for name in one):
        return None
    gate, *rest = one if recurrence.cell != "RNN" else ("Sigmoid", *one)
    if len(set(rest)) > 1:
        return None
    made = {}
    if rest[0] != "Tanh":
        made["activation"] = PLAIN[rest[0]]
    if gate != "Sigmoid":
        made["recurrent_activation"] = PLAIN[gate]
    return made


# ---- as a layer -----------------------------------------------------------------------------------------


def _layer(
    xp: TensorflowNamespace, x: Symbol, w: Symbol, r: Symbol, b: Symbol | None, h0: Symbol | None, c0: Symbol | None,
    cell: str, hidden: int, direction: str, settings: Mapping[str, Any],
) -> Any:  # fmt: skip
    both = direction == "bidirectional"
    sequence, states = xp.wanted(0), xp.wanted(1) or xp.wanted(2)
    inner_name = CELLS[cell].removesuffix("_cell")
    paths = (
        [f"forward_{inner_name}/{CELLS[cell]}", f"backward_{inner_name}/{CELLS[cell]}"]
        if both
        else [CELLS[cell]]
    )
    weights: dict[str, Weight] = {}
    for index, path in enumerate(paths):
        weights |= _weights(w, r, b, index, cell, bool(settings.get("reset_after")), path, len(paths))
    if b is not None and not settings.get("reset_after"):
        xp.note(BIASES.format(LAYERS[cell]))
    kwargs: dict[str, Any] = {
        **settings, "return_sequences": True if sequence or not states else None, "return_state": True if states else None,
        "use_bias": None if b is not None else False,
    }  # fmt: skip
    build = (None, None, w.size(w.ndim - 1))
    if both:
        inner = xp.call_expr(
            dotted(f"layers.{LAYERS[cell]}"), hidden, **kwargs, dtype=layer_dtype(x.dtype), name=inner_name
        )
        layer = xp.layer("Bidirectional", weights, build, inner, dtype=x.dtype)
    else:
        backwards = True if direction == "reverse" else None
        layer = xp.layer(
            LAYERS[cell], weights, build, hidden, dtype=x.dtype, go_backwards=backwards, **kwargs
        )
    base = xp.arranged(x, layout.batch_second(3))
    initial = [
        _state(xp, state, i)
        for i in range(len(paths))
        for state in ((h0, c0) if cell == "LSTM" else (h0,))
        if h0 is not None or c0 is not None
    ]
    if any(state is None for state in initial):
        raise CannotConvert("it begins with one state of two")
    called = xp.call_expr(layer, base, initial_state=initial or None)
    return _results(xp, x, called, cell, len(paths), hidden, direction == "reverse", states)


def _state(xp: TensorflowNamespace, state: Symbol | None, index: int) -> Any:
    """The state of one direction, (batch, hidden)."""
    if state is None:
        return None
    one = xp.slice(state, {0: (index, index + 1, 1)})
    return xp.squeeze(one, (0,)).expr


def _results(
    xp: TensorflowNamespace,
    x: Symbol,
    called: Any,
    cell: str,
    count: int,
    hidden: int,
    reverse: bool,
    states: bool,
) -> Any:
    time, batch = x.shape[0], x.shape[1]
    whole = xp.made(called, dtype=x.dtype)
    per_direction = 2 if cell == "LSTM" else 1
    parts: Any = xp.unpack(whole, 1 + count * per_direction) if states else [whole]
    sequence = parts[0]
    if reverse and (xp.wanted(0) or not states):
        sequence = xp.write_call("flip", sequence, [1] if not xp.functional else 1, dtype=x.dtype)
    dims = (time, batch, count * hidden)
    results: list[Any] = [Tensor(xp, Fact(x.dtype, dims), sequence.expr, layout.batch_second(3))]
    for kind in range(per_direction if states else 0):
        last = [parts[1 + i * per_direction + kind] for i in range(count)]
        stacked = xp.expand_dims(last[0], (0,)) if count == 1 else xp.stack(last, 0)
        results.append(Tensor(xp, Fact(x.dtype, (count, batch, hidden)), stacked.base))
    return tuple(results)


def _weights(
    w: Symbol, r: Symbol, b: Symbol | None, index: int, cell: str, reset_after: bool, path: str, count: int
) -> dict[str, Weight]:
    """The variables of one direction: gates in Keras' order, one bias or, of a GRU that resets after, two."""
    have, want = ONNX_GATES[cell], GATES["tensorflow"][cell]

    def kernel(packed: Symbol) -> Array:
        assert packed.content is not None
        return reorder(packed.content[index], have, want).T

    def sources(packed: Symbol) -> tuple[str, ...]:
        return (packed.fact.name,) if packed.fact.name else ()

    made = {
        f"{path}/kernel": Weight(kernel(w), sources(w)),
        f"{path}/recurrent_kernel": Weight(kernel(r), sources(r)),
    }
    if b is not None:
        assert b.content is not None
        halves = [reorder(half, have, want) for half in np.split(b.content[index], 2)]
        bias = np.stack(halves) if reset_after else halves[0] + halves[1]
        made[f"{path}/bias"] = Weight(bias, sources(b))
    return made


# ---- step by step --------------------------------------------------------------------------------------------


def _steps(xp: TensorflowNamespace, *operands: Symbol | None, cell: str, **settings: Any) -> Any:
    """ONNX's own equations, in a function that stands in the generated module."""
    xp.use("recurrent_steps")
    x = operands[0]
    assert x is not None
    plain = {key: value for key, value in settings.items() if value not in (None, [], False)}
    call = xp.call("recurrent_steps", cell, *[_or_none(o) for o in operands], **plain, dtype=x.dtype)
    parts = xp.unpack(call, 3 if cell == "LSTM" else 2)
    return tuple(Tensor(xp, Fact(part.fact.dtype), part.expr) for part in parts)


def _or_none(operand: Symbol | None) -> Any:
    return dotted("None") if operand is None else operand
