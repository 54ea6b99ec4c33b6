"""Recurrent layers: ``nn.LSTM``, ``nn.GRU``, ``nn.RNN``; a loop over the steps where those cannot do it.

Layers that stood in one ``nn.LSTM`` of several layers (their weights are called ``lstm.weight_ih_l0``,
``lstm.weight_ih_l1`` ...) are put back into one: they are collected until the last of them is written.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.recurrent import GATES, ONNX_GATES, Recurrence, reorder
from netferry.converters.pytorch.from_onnx.layers import Xp, all_constant, as_float32, layer, module_path, row
from netferry.converters.pytorch.from_onnx.state import Weight, parts


@dataclass(frozen=True)
class Call:
    """One Recurrent node: what it is called with."""

    recurrence: Recurrence
    x: Symbol
    w: Symbol
    r: Symbol
    b: Symbol | None
    lengths: Symbol | None
    states: tuple[Symbol | None, ...]
    peepholes: Symbol | None

    @property
    def cell(self) -> str:
        return self.recurrence.cell

    @property
    def directions(self) -> int:
        return len(self.recurrence.backwards)

    @property
    def kind(self) -> str | None:
        """``LSTM``, ``GRU``, ``RNN`` with its options, where PyTorch has such a layer."""
        known = self.recurrence
        relu = self.cell == "RNN" and set(known.activations) == {"Relu"}
        if (
            not (known.usual or relu)
            or self.peepholes is not None
            or known.clip is not None
            or known.input_forget
        ):
            return None
        if self.cell == "GRU" and not known.linear_before_reset:
            return None
        return self.cell if all_constant(self.w, self.r, self.b) and self.w.dtype == self.x.dtype else None

    @property
    def relu(self) -> bool:
        return self.cell == "RNN" and "Relu" in self.recurrence.activations


@dataclass
class Stack:
    """Layers of one module that are written together: what their nodes were called with, and their outputs."""

    calls: list[Call] = field(default_factory=list)
    outputs: list[list[ast.expr]] = field(default_factory=list)


@row("Recurrent")
def Recurrent(
    xp: Xp, x: Symbol, w: Symbol, r: Symbol, b: Symbol | None = None, sequence_lens: Symbol | None = None,
    initial_h: Symbol | None = None, initial_c: Symbol | None = None, p: Symbol | None = None, *, recurrence: Recurrence,
) -> Any:  # fmt: skip
    states = (initial_h, initial_c) if recurrence.cell == "LSTM" else (initial_h,)
    call = Call(recurrence, x, w, r, b, sequence_lens, states, p)
    if call.kind is None:
        return _steps(xp, call)
    stack: Stack = xp.__dict__.setdefault("stacks", {}).pop(
        x.expr.id if isinstance(x.expr, ast.Name) else "", Stack()
    )
    stack.calls.append(call)
    if _goes_on(xp, call):
        return _deferred(xp, stack)
    return _written(xp, stack)


# ---- as a layer -----------------------------------------------------------------------------------


def _goes_on(xp: Xp, call: Call) -> bool:
    """Whether the next layer of the same module takes this one's sequence, and nothing else is in the way."""
    found = re.fullmatch(r"(.*)_l(\d+)", call.w.fact.name)
    sequence, *finals = xp.node.outputs
    uses = sequence.uses()
    if found is None or call.recurrence.direction == "reverse" or len(uses) != 1 or call.lengths is not None:
        return False
    ((after, index),) = uses
    if (
        after.op_type != "Recurrent"
        or index != 0
        or after.graph is not xp.node.graph
        or sequence.is_graph_output()
    ):
        return False
    weight = after.inputs[1]
    same_module = weight is not None and xp.plan.fact(weight).name == f"{found[1]}_l{int(found[2]) + 1}"
    own = ("direction", "cell", "hidden_size", "activations")
    alike = all(_attribute(xp.node, name) == _attribute(after, name) for name in own)
    biased = (len(after.inputs) > 3 and after.inputs[3] is not None) == (call.b is not None)
    lengths = len(after.inputs) > 4 and after.inputs[4] is not None
    late = all(_comes_after(user, after) for value in finals for user, _ in value.uses())
    return same_module and alike and biased and not lengths and late and not _has_home(xp, sequence)


def _attribute(node: ir.Node, name: str) -> Any:
    found = node.attributes.get(name)
    return None if found is None else found.value


def _comes_after(node: ir.Node, other: ir.Node) -> bool:
    """Whether ``node`` stands behind ``other`` in the graph that holds both."""
    return any(
        here is node for here in itertools.dropwhile(lambda here: here is not other, other.graph or ())
    )


def _has_home(xp: Xp, value: ir.Value) -> bool:
    return any(home.value is value for home in xp.plan.homes.values())


def _read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _deferred(xp: Xp, stack: Stack) -> list[Symbol]:
    """Names for what the last of the layers will write."""
    call, values = stack.calls[-1], xp.node.outputs
    names = [ast.Name(xp.fresh(value.name or "state"), ast.Load()) for value in values]
    stack.outputs.append(list(names[1:]))
    xp.__dict__["stacks"][names[0].id] = stack
    return [xp.made(name, call.x) for name in names]


def _written(xp: Xp, stack: Stack) -> Any:
    """``sequence, (h, c) = self.lstm(x, (h0, c0))`` for all of the layers."""
    first, count, last = stack.calls[0], len(stack.calls), stack.calls[-1]
    weights = {
        key: weight for number, call in enumerate(stack.calls) for key, weight in _weights(call, number)
    }
    inside, hidden = first.w.size(2), first.r.size(2)
    made = layer(
        xp, first.cell, inside, hidden, num_layers=count if count > 1 else None, nonlinearity="relu" if first.relu else None,
        bias=False if first.b is None else None, bidirectional=True if first.directions == 2 else None,
        at=_module_path(xp, first.w), weights=weights,
    )  # fmt: skip
    if made is None:
        if count == 1:
            return _steps(xp, first)
        raise CannotConvert("layers of one recurrent module are used on their own too")
    x: Any = (
        xp.flip(first.x, (0,))
        if first.recurrence.direction == "reverse" and first.lengths is None
        else first.x
    )
    states = _initial(xp, stack)
    if first.lengths is not None:
        return _packed(xp, made, first, states)
    names = [
        xp.fresh(value.name or "state") if _read(value) or stack.outputs else "_" for value in xp.node.outputs
    ]
    names += ["_" for _ in range(len(first.states) + 1 - len(names))]
    _assign(xp, names, xp.call_expr(made, x, *([states] if states is not None else [])))
    sequence: Any = xp.made(ast.Name(names[0], ast.Load()), first.x)
    finals = [xp.made(ast.Name(name, ast.Load()), first.x) for name in names[1:]]
    for index, outputs in enumerate(stack.outputs):
        for name, state in zip(outputs, finals, strict=False):
            part = xp.index(state, slice(index * first.directions, (index + 1) * first.directions))
            assert isinstance(name, ast.Name)
            xp.write(ast.Assign([ast.Name(name.id, ast.Store())], part.expr))
    if count > 1:
        finals = [xp.index(state, slice((count - 1) * last.directions, None)) for state in finals]
    if first.recurrence.direction == "reverse":
        sequence = xp.flip(sequence, (0,))
    return sequence, *finals


def _module_path(xp: Xp, w: Symbol) -> list[str] | None:
    """``encoder.lstm.weight_ih_l0`` belongs to a module ``encoder.lstm``."""
    path = parts(w.fact.name)
    return path[:-1] if len(path) > 1 and path[-1].startswith("weight_ih") else module_path(xp, w)


def _assign(xp: Xp, names: Sequence[str], call: ast.expr) -> None:
    """``sequence, (h, c) = ...`` of an LSTM, ``sequence, h = ...`` of the others."""
    if set(names[1:]) == {"_"}:
        names = names[:2]
    first, *rest = (ast.Name(name, ast.Store()) for name in names)
    states = rest[0] if len(rest) == 1 else ast.Tuple(list(rest), ast.Store())
    (call,) = xp._shared([call])
    xp.write(ast.Assign([ast.Tuple([first, states], ast.Store())], call))


def _initial(xp: Xp, stack: Stack) -> Any:
    """The initial states of all layers, one after the other; None where all are zero."""
    if all(state is None for call in stack.calls for state in call.states):
        return None
    joined = []
    for kind in range(len(stack.calls[0].states)):
        of_layers = [
            call.states[kind] if call.states[kind] is not None else _zeros(xp, call) for call in stack.calls
        ]
        joined.append(xp.concat([state for state in of_layers if state is not None], 0))
    return tuple(joined) if len(joined) > 1 else joined[0]


def _zeros(xp: Xp, call: Call) -> Symbol:
    batch = ast.Subscript(ast.Attribute(call.x.expr, "shape", ast.Load()), ast.Constant(1), ast.Load())
    return xp.method(call.x, "new_zeros", call.directions, batch, call.r.size(2))


def _packed(xp: Xp, made: ast.expr, call: Call, states: Any) -> Any:
    """Rows of their own lengths: a packed sequence, with zeros behind each row's end."""
    result = xp.helper(
        "run_packed",
        made,
        call.x,
        call.lengths,
        states,
        reverse=True if call.recurrence.direction == "reverse" else None,
    )
    return xp.unpack(result, len(call.states) + 1, [call.x.dtype] * (len(call.states) + 1))


def _weights(call: Call, number: int) -> Iterator[tuple[str, Weight]]:
    """The tensors of one layer, gates in PyTorch's order: (gates * hidden, features)."""
    have, want = ONNX_GATES[call.cell], GATES["pytorch"][call.cell]
    for direction, suffix in enumerate(("", "_reverse")[: call.directions]):
        for kind, packed in (("weight_ih", call.w), ("weight_hh", call.r)):
            assert packed.content is not None
            yield (
                f"{kind}_l{number}{suffix}",
                Weight(reorder(packed.content[direction], have, want), packed.fact.name),
            )
        if call.b is None or call.b.content is None:
            continue
        whole = call.b.content[direction]
        halves = (whole[: len(whole) // 2], whole[len(whole) // 2 :])
        for kind, half in zip(("bias_ih", "bias_hh"), halves, strict=True):
            yield f"{kind}_l{number}{suffix}", Weight(reorder(half, have, want), call.b.fact.name)


# ---- step by step ---------------------------------------------------------------------------------

_ACTIVATIONS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "Affine": ("lambda v: {0!r} * v + {1!r}", (1.0, 0.0)),
    "Elu": ("lambda v: F.elu(v, {0!r})", (1.0,)),
    "HardSigmoid": ("lambda v: ({0!r} * v + {1!r}).clamp(0, 1)", (0.2, 0.5)),
    "LeakyRelu": ("lambda v: F.leaky_relu(v, {0!r})", (0.01,)),
    "Relu": ("torch.relu", ()),
    "ScaledTanh": ("lambda v: {0!r} * torch.tanh({1!r} * v)", (1.0, 1.0)),
    "Sigmoid": ("torch.sigmoid", ()),
    "Softplus": ("F.softplus", ()),
    "Softsign": ("F.softsign", ()),
    "Tanh": ("torch.tanh", ()),
    "ThresholdedRelu": ("lambda v: torch.where(v > {0!r}, v, 0)", (1.0,)),
}
"""Each activation as Python, and the defaults of alpha and beta where it takes them."""


def _steps(xp: Xp, call: Call) -> Any:
    """A loop over the steps, by a runtime helper."""
    functions, known = _functions(call.recurrence), call.recurrence
    options: dict[str, Any] = {
        "clip": None if known.clip is None else as_float32(known.clip),
        "direction": known.direction if known.direction != "forward" else None,
    }
    if call.cell == "LSTM":
        options |= {"peepholes": call.peepholes, "input_forget": True if known.input_forget else None}
    if call.cell == "GRU":
        options |= {"before_reset": True if known.linear_before_reset else None}
    made = xp.helper(
        f"{call.cell.lower()}_steps",
        call.x,
        call.w,
        call.r,
        call.b,
        call.lengths,
        *call.states,
        functions,
        **options,
    )
    return xp.unpack(made, len(call.states) + 1, [call.x.dtype] * (len(call.states) + 1))


def _functions(recurrence: Recurrence) -> ast.expr:
    """The activations of each direction: ``((torch.sigmoid, torch.tanh, torch.tanh),)``."""
    alpha, beta = list(recurrence.alpha), list(recurrence.beta)
    each = len(recurrence.activations) // len(recurrence.backwards)
    texts = []
    for name in recurrence.activations:
        text, defaults = _ACTIVATIONS[name]
        given = (
            source.pop(0) if source else default
            for source, default in zip((alpha, beta), defaults, strict=False)
        )
        texts.append(text.format(*(as_float32(number) for number in given)) if defaults else text)
    rows = (", ".join(texts[i : i + each]) for i in range(0, len(texts), each))
    return ast.parse(f"({', '.join(f'({line},)' for line in rows)},)", mode="eval").body
