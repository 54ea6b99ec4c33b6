"""A symbol as a Python module that builds it: one line per node, names from the source model.

Every identifier is made here and every literal is a ``repr``, so nothing that a file says can become code.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.names import identifier
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
    lines = _Lines(graph)
    body = [lines.node(position) for position in range(len(graph.nodes))]
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
    helper = _NUMPY_LIKE if any(node.op.startswith("_np") for node in graph.nodes) else ""
    return _HEADER.format(title=_plain(title), inputs=names) + constant + helper + function + "\n" + _LOAD


def _plain(title: str) -> str:
    return "".join(c if c.isalnum() or c in " ._-" else "_" for c in title)


def _wrapped(names: Sequence[str]) -> str:
    return repr(sorted(names))


class _Lines:
    """The lines of a graph: each node a name, each entry an expression."""

    def __init__(self, graph: Symbol) -> None:
        self.graph = graph
        self._taken = {"mx", "np", "Path", "numpy_like", "symbol", "load", "INPUTS", "CONSTANTS"}
        self._names = [unique(identifier(node.name or node.op), self._taken) for node in graph.nodes]
        self._several = {position for node in graph.nodes for position, output in node.inputs if output} | {
            position
            for position, node in enumerate(graph.nodes)
            if node.op in ("SliceChannel", "topk") or "state_outputs" in node.attrs
        }

    def entry(self, entry: Entry) -> str:
        position, output = entry
        return f"{self._names[position]}[{output}]" if position in self._several else self._names[position]

    def node(self, position: int) -> str:
        node = self.graph.nodes[position]
        if node.is_variable:
            return f"{self._names[position]} = mx.sym.var({_arguments([repr(node.name)], _hidden(node))})"
        operands = [self.entry(entry) for entry in node.inputs]
        attributes = {key: _literal(text) for key, text in node.attrs.items() if key != "num_args"}
        if node.hidden:
            attributes["attr"] = repr(dict(node.hidden))
        attributes["name"] = repr(node.name)
        if node.op.startswith("_np"):
            return (
                f"{self._names[position]} = numpy_like({_arguments([repr(node.op), *operands], attributes)})"
            )
        return f"{self._names[position]} = {_function(node.op)}({_arguments(operands, attributes)})"


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
