"""A symbol's variables by kind: weights, labels that inference drops, and the inputs of the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.symbol import IMAGE, INPUT, WEIGHTS, Node, input_name
from netferry.converters.signature import Dim

_GLUON_PARAMETER = frozenset({"__storage_type__", "__init__"})
"""Hidden attributes that gluon writes on parameters and never on inputs."""


@dataclass(frozen=True)
class Variables:
    """Places of the variables in the symbol, in its order; inputs in that in which they are given."""

    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    labels: tuple[int, ...]


def _is_parameter(model: SymbolModel, node: Node, roles: set[str]) -> bool:
    """By what gluon writes on parameters; where the symbol's params are not at hand, by its name too."""
    written = bool(_GLUON_PARAMETER & node.hidden.keys()) and IMAGE not in roles
    return written or (bool(model.absent) and _NAMED.search(node.name) is not None)


_NAMED = re.compile(r"_(weight|bias|gamma|beta|moving_mean|moving_var|running_mean|running_var)$")
"""How a parameter is called whose reader does not tell that it is one."""


def absent(model: SymbolModel) -> tuple[int, ...]:
    """Places of the parameters that are missing."""
    return tuple(_sorted(model)["missing"])


def variables(model: SymbolModel, *, whole: bool = True) -> Variables:
    """Sort a symbol's variables by kind; refuse it where parameters are missing, naming all of them, unless ``whole`` is
    not asked for."""
    kinds = _sorted(model)
    if whole:
        _demand_all(model, kinds["missing"])
    nodes = model.graph.nodes
    kinds["input"].sort(key=lambda position: _said(nodes[position].hidden.get(INPUT, "")))
    if model.called:
        kinds["input"].sort(key=lambda position: _rank(nodes[position].name, model.called))
    return Variables(tuple(kinds["input"]), tuple(kinds["weight"]), tuple(kinds["label"]))


def _sorted(model: SymbolModel) -> dict[str, list[int]]:
    graph = model.graph
    kinds: dict[str, list[int]] = {"input": [], "weight": [], "label": [], "missing": []}
    for position in graph.variables:
        node = graph.nodes[position]
        roles = _roles(model, position)
        if node.name in model.params:
            kind = "weight"
        elif node.name in model.called or INPUT in node.hidden:
            kind = "input"
        elif roles == {"label"}:
            kind = "label"
        elif roles & WEIGHTS or _is_parameter(model, node, roles):
            kind = "missing"
        else:
            kind = "input"
        kinds[kind].append(position)
    return kinds


def _demand_all(model: SymbolModel, missing: Sequence[int]) -> None:
    if missing and model.absent:
        raise RefusedError(
            "no params file stands beside the symbol",
            where=model.label,
            expected=model.absent,
            remedy="Name it with --weights; --random-weights tries the symbol without",
        )
    if missing:
        raise RefusedError(
            "parameters are missing",
            where=model.label,
            received=", ".join(model.graph.nodes[position].name for position in missing),
            remedy="Name the params file that belongs to this symbol with --weights",
        )


_STATES = frozenset({"state", "state_cell"})
_BEGINNING = re.compile(r"begin_state(_\d+)?$|_init_[ch]$|_state_?\d*$")
"""How a recurrent cell's first states are called, where they are variables."""


def with_zero_states(model: SymbolModel, count: int | None) -> SymbolModel:
    """The model with first states that are zeros, where ``count`` inputs (or none) are given and states are not among them."""
    taken = variables(model, whole=False).inputs
    states = [position for position in taken if _is_state(model, position)]
    if not states or count == len(taken) or len(states) == len(taken):
        return model
    if count is not None and count != len(taken) - len(states):
        return model
    kinds = [array.dtype for array in model.params.values() if array.dtype.kind == "f"]
    kind = max(kinds, key=lambda dtype: dtype.itemsize, default=np.dtype(np.float32)).name
    nodes = list(model.graph.nodes)
    for position in states:
        rank = 3 if _roles(model, position) <= _STATES else 2
        unknown = ", ".join(["-1" if model.graph.numpy else "0"] * rank)
        nodes[position] = Node(nodes[position].name, "_zeros", {"shape": f"({unknown})", "dtype": kind})
    names = ", ".join(nodes[position].name for position in states)
    note = f"first states that are not given are zeros: {names}"
    called = tuple(name for name in model.called if name not in {nodes[p].name for p in states})
    graph = replace(model.graph, nodes=tuple(nodes))
    return replace(model, graph=graph, notes=(*model.notes, note), called=called)


def _is_state(model: SymbolModel, position: int) -> bool:
    if INPUT in model.graph.nodes[position].hidden:
        return False
    roles = _roles(model, position)
    named = _BEGINNING.search(model.graph.nodes[position].name) is not None
    return bool(roles) and (roles <= _STATES or named)


def _said(place: str) -> int:
    """The place of an input as its variable says it; those that do not come last, as they stand."""
    return int(place) if place.isdecimal() and len(place) < 10 else 1 << 32


def _rank(name: str, called: Sequence[str]) -> int:
    return called.index(name) if name in called else len(called)


def _roles(model: SymbolModel, position: int) -> set[str]:
    """What a variable is to its readers; a parameter vector is put together from reshaped parts."""
    roles, waiting = set[str](), [position]
    seen = {position}
    while waiting:
        for reader, slot in model.graph.consumers.get(waiting.pop(), ()):
            node = model.graph.nodes[reader]
            if node.op == "_rnn_param_concat":
                roles.add("parameters")
            elif node.op != "Reshape":
                roles.add(input_name(node, slot))
            elif reader not in seen:
                seen.add(reader)
                waiting.append(reader)
    return roles


# ---- what the inputs look like -------------------------------------------------------------------


Guess = tuple[tuple[Dim, ...], np.dtype[Any]]
