"""A symbol as a Python module that builds it: one line per node, names from the source model.

Every identifier is made here and every literal is a ``repr``, so nothing that a file says can become code.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.names import identifier
from netferry.converters.mxnet.files import body_of
from netferry.converters.mxnet.symbol import INPUT, Entry, Node, Symbol
from netferry.converters.signature import Signature

_HEADER = '''\
"""{title}, as an MXNet symbol: ``load()`` gives a gluon block with its weights."""

from pathlib import Path

import numpy as np

if "bool" not in vars(np):  # mxnet 1.9.1 reads a name that numpy has since dropped
    np.bool = np.bool_

import mxnet as mx

INPUTS = {inputs!r}
'''

_NUMPY_LIKE = '''

def numpy_like(operator, *inputs, **attributes):
    """One of MXNet's numpy-like operators among classic symbols."""
    home, word = mx.sym.np._internal, operator.removeprefix("_npi_")
    if word == operator:
        home, word = mx.sym.np._op, operator.removeprefix("_np_")
    return getattr(home, word)(*(x.as_np_ndarray() for x in inputs), **attributes).as_nd_ndarray()
'''

_LOAD = '''

def load(weights=None, ctx=None):
    """The model as a gluon block; ``weights`` is a .safetensors file, by default the one beside this module."""
    from safetensors.numpy import load_file

    weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    arrays = {name: mx.nd.array(array, dtype=array.dtype) for name, array in weights.items()}
    block = mx.gluon.SymbolBlock(symbol(), [mx.sym.var(name) for name in INPUTS])
    for name, parameter in block.collect_params().items():
        parameter.shape, parameter.dtype = arrays[name].shape, arrays[name].dtype
        if name in CONSTANTS:
            parameter.grad_req = "null"
        parameter.initialize(mx.init.Zero(), ctx=ctx or mx.cpu())
        parameter.set_data(arrays[name])
    return block
'''

_TABLES = {"_contrib_": "mx.sym.contrib.", "_linalg_": "mx.sym.linalg."}


def module(graph: Symbol, signature: Signature, constants: Sequence[str], title: str) -> str:
    """The text of the module."""
    lines = _Lines(graph, {"mx", "np", "Path", "numpy_like", "symbol", "load", "INPUTS", "CONSTANTS"})
    body = lines.all()
    heads = ", ".join(lines.entry(head) for head in graph.heads)
    last = f"return mx.sym.Group([{heads}])" if len(graph.heads) > 1 else f"return {heads}"
    names = [spec.name for spec in signature.inputs]
    function = "\n".join(
        [
            "\n\ndef symbol():",
            '    """The graph; parameters are variables under their names."""',
            *(f"    {line}" for line in [*body, last]),
        ]
    )
    constant = f'CONSTANTS = {_wrapped(constants)}\n"""Parameters that training leaves alone."""\n'
    helper = _NUMPY_LIKE if any("numpy_like(" in line for line in body) else ""
    return _HEADER.format(title=_plain(title), inputs=names) + constant + helper + function + "\n" + _LOAD


def _plain(title: str) -> str:
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in title)


def _wrapped(names: Sequence[str]) -> str:
    return repr(sorted(names))


class _Lines:
    """The lines of a graph: each node a name, each entry an expression. ``given`` are expressions for variables of a body."""

    def __init__(self, graph: Symbol, taken: set[str], given: Mapping[int, str] | None = None) -> None:
        self.graph = graph
        self._taken = taken
        self._given = given or {}
        self._names = [
            self._given.get(position) or unique(identifier(node.name or node.op), taken)
            for position, node in enumerate(graph.nodes)
        ]
        self._several = {position for node in graph.nodes for position, output in node.inputs if output} | {
            position
            for position, node in enumerate(graph.nodes)
            if node.op in ("SliceChannel", "topk") or node.subgraphs or "state_outputs" in node.attrs
        }

    def all(self) -> list[str]:
        return [line for position in range(len(self.graph.nodes)) for line in self.node(position)]

    def entry(self, entry: Entry) -> str:
        position, output = entry
        return f"{self._names[position]}[{output}]" if position in self._several else self._names[position]

    def node(self, position: int) -> list[str]:
        node, name = self.graph.nodes[position], self._names[position]
        if position in self._given:
            return []
        if node.is_variable:
            return [f"{name} = mx.sym.var({_arguments([repr(node.name)], _hidden(node))})"]
        operands = [self.entry(entry) for entry in node.inputs]
        if node.subgraphs:
            return (self._loop if node.op == "_foreach" else self._branches)(node, name, operands)
        attributes = {key: _literal(text) for key, text in node.attrs.items() if key != "num_args"}
        if node.hidden:
            attributes["attr"] = repr(dict(node.hidden))
        attributes["name"] = repr(node.name)
        if node.op.startswith("_np"):
            return [f"{name} = numpy_like({_arguments([repr(node.op), *operands], attributes)})"]
        return [f"{name} = {_function(node.op)}({_arguments(operands, attributes)})"]

    def _loop(self, node: Node, name: str, operands: Sequence[str]) -> list[str]:
        along, begun, others = (
            ast.literal_eval(node.attrs[f"{key}_locs"]) for key in ("in_data", "in_state", "remain")
        )
        count = len(along) + len(begun)
        rows, states, turn = (unique(word, self._taken) for word in ("rows", "states", f"{name}_turn"))
        given = {place: f"{rows}[{i}]" for i, place in enumerate(along)}
        given |= {place: f"{states}[{i}]" for i, place in enumerate(begun)}
        given |= dict(zip(others, operands[count:], strict=True))
        lines, ends = self._body(node.subgraphs[0], given)
        made = int(node.attrs["num_out_data"])
        taken = f"[{', '.join(operands[: len(along)])}], [{', '.join(operands[len(along) : count])}]"
        return [
            f"def {turn}({rows}, {states}):",
            *lines,
            f"    return [{', '.join(ends[:made])}], [{', '.join(ends[made:])}]",
            f"{name} = sum(mx.sym.contrib.foreach({turn}, {taken}, name={node.name!r}), [])",
        ]

    def _branches(self, node: Node, name: str, operands: Sequence[str]) -> list[str]:
        (condition,), *places = (
            ast.literal_eval(node.attrs[f"{key}_input_locs"]) for key in ("cond", "then", "else")
        )
        found, calls = [], []
        for body, word, reads in zip(node.subgraphs[1:], ("then", "else"), places, strict=True):
            calls.append(unique(f"{name}_{word}", self._taken))
            lines, ends = self._body(body, dict(enumerate(operands[place] for place in reads)))
            found += [f"def {calls[-1]}():", *lines, f"    return [{', '.join(ends)}]"]
        call = _arguments([operands[condition], *calls], {"name": repr(node.name)})
        return [*found, f"{name} = mx.sym.contrib.cond({call})"]

    def _body(self, document: Any, given: Mapping[int, str]) -> tuple[list[str], list[str]]:
        """The lines of a body, and the expressions of what it gives; ``given`` are those of its variables, in MXNet's order."""
        graph = body_of(document)
        inside = _Lines(graph, self._taken, {graph.variables[place]: text for place, text in given.items()})
        return [f"    {line}" for line in inside.all()], [inside.entry(head) for head in graph.heads]


def _function(op: str) -> str:
    for prefix, home in _TABLES.items():
        if op.startswith(prefix):
            return home + op.removeprefix(prefix)
    return f"mx.sym._internal.{op}" if op.startswith("_") else f"mx.sym.{op}"


def _hidden(node: Node) -> dict[str, str]:
    """What a variable says of itself: its sizes, 0 where they are free, and its dtype."""
    known = {"__shape__": "shape"}
    found = {known[key]: _literal(text) for key, text in node.hidden.items() if key in known}
    if "__dtype__" in node.hidden:
        found["dtype"] = repr(_DTYPES[int(node.hidden["__dtype__"])])
    if INPUT in node.hidden:
        found["attr"] = repr({INPUT: node.hidden[INPUT]})
    return found


_DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")


def _literal(text: str) -> str:
    """An attribute as the Python value that MXNet writes back as the same text."""
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return repr(text)
    return repr(value) if str(value) == text else repr(text)


def _arguments(positional: Sequence[str], named: Mapping[str, str]) -> str:
    return ", ".join([*positional, *(f"{key}={value}" for key, value in named.items())])
