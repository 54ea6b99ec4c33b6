"""ONNX to PyTorch: the walk of a plan writes a Python module, and running that module is the arrival.

What is written needs PyTorch and safetensors alone; netferry need not be installed where it runs. Nothing
here imports torch before the live model is asked for.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from netferry.converters.arrival import Arrival
from netferry.converters.errors import RefusedError
from netferry.converters.graph.facts import Plan
from netferry.converters.graph.recorder import identifier, loaded, prune, source
from netferry.converters.graph.symbol import Symbol
from netferry.converters.graph.walk import Walk
from netferry.converters.pytorch import (  # noqa: F401 - they fill the table of rows
    layers,
    layers_flow,
    layers_random,
    layers_recurrent,
    layers_runtime,
    layers_spatial,
)
from netferry.converters.pytorch.namespace import MISSING, TorchNamespace
from netferry.converters.signature import Array, Signature, TensorSpec


@dataclass(frozen=True)
class Program:
    """A module as text, its tensors by their keys of the state dict, and what became of the source's names."""

    source: str
    weights: Mapping[str, Array]
    names: Mapping[str, str]


def from_onnx(plan: Plan, signature: Signature, *, name: str = "Model") -> Arrival:
    """The plan as a PyTorch module; torch is imported when ``Arrival.model`` is asked for.

    Raises UnsupportedError with every node that cannot be carried.
    """
    program = write(plan, signature, name)
    return Arrival(
        framework="pytorch",
        signature=signature,
        source=program.source,
        weights=program.weights,
        build=lambda: build(program),
        names=program.names,
        notes=tuple(plan.notes),
    )


def write(plan: Plan, signature: Signature, name: str = "Model") -> Program:
    """The module's source and its weights."""
    xp = TorchNamespace(plan)
    xp.node = plan.graph[0] if len(plan.graph) else xp.node
    inputs = {}
    for value in plan.graph.inputs:
        word = ast.Name(xp.fresh(value.name or "x"), ast.Load())
        inputs[value] = Symbol(xp, plan.fact(value), word)
    parameters = [ast.unparse(symbol.expr) for symbol in inputs.values()]
    tensors = [symbol for symbol in inputs.values() if symbol.fact.dtype is not None]
    if tensors:
        xp.device = ast.Attribute(tensors[0].expr, "device", ast.Load())
    for value, symbol in inputs.items():
        xp.read_sizes(value, symbol)
    results = Walk(plan, xp).run(inputs)
    returned = [xp.to_expr(result) for result in results]
    if any(MISSING in loaded(statement) for statement in (*xp.statements, *returned)):
        raise RefusedError("a value of the graph is read before it is made")
    value = returned[0] if len(returned) == 1 else ast.Tuple(returned, ast.Load())
    body = [*prune(xp.statements, loaded(value)), ast.Return(value)]
    title = identifier(name)
    return Program(_module(title, signature, parameters, body, xp), xp.state.arrays, xp.state.names)


def _module(
    title: str, signature: Signature, parameters: Sequence[str], body: Sequence[ast.stmt], xp: TorchNamespace
) -> str:
    """The text of the whole module."""
    init = "\n".join(xp.state.lines())
    forward = source(body)
    helpers = helper_text(xp.helpers)
    functional = "from torch.nn import functional as F\n" if "F." in forward + helpers else ""
    maths = "import math\n" if "math." in helpers else ""
    parts = [
        f'"""{_sentence(title, signature)}"""\n',
        f"{maths}from pathlib import Path\n",
        f"import torch\nfrom safetensors.torch import load_file\nfrom torch import nn\n{functional}\n",
        f"{helpers}\n\n" if helpers else "",
        f"class {title}({xp.state.base}):\n"
        f"    input_specs = {_specs(signature.inputs)}\n"
        f"    output_names = {_names(signature.outputs)}\n",
        f"    def __init__(self):\n        super().__init__()\n{textwrap.indent(init, ' ' * 8)}".rstrip() + "\n",
        f"    def forward(self{''.join(f', {word}' for word in parameters)}):\n{textwrap.indent(forward, ' ' * 8)}\n\n",
        _LOAD.format(title=title),
    ]
    return "\n".join(part for part in parts if part)


_LOAD = '''\
def load(weights=None):
    """The model, ready to run: with the weights of a state dict, a .safetensors file, or the one beside this module."""
    if not isinstance(weights, dict):
        weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    with torch.device("meta"):
        model = {title}()
    model.load_state_dict(weights, assign=True)
    return model.eval()
'''


def _sentence(title: str, signature: Signature) -> str:
    """What goes in and out; whatever the names hold, it cannot end the docstring."""
    lines = [f"{title}, carried to PyTorch by netferry.", ""]
    lines += [f"in   {spec}" for spec in signature.inputs]
    lines += [f"out  {spec}" for spec in signature.outputs]
    return "\n".join(re.sub(r"[^\w \[\](),.:?/*+<>-]", "_", line) for line in lines) + "\n"


def _specs(specs: Iterable[TensorSpec]) -> str:
    """What ``forward`` takes, by the names that its inputs had: ``{'x': ('float32', ('batch', 3))}``."""
    rows = (f"{spec.name!r}: ({spec.dtype.name!r}, {ast.unparse(ast.Constant(spec.dims or ()))})" for spec in specs)
    return f"{{{', '.join(rows)}}}"


def _names(specs: Iterable[TensorSpec]) -> str:
    return ast.unparse(ast.Constant(tuple(spec.name for spec in specs)))


# ---- helpers --------------------------------------------------------------------------------------


def helper_text(names: Iterable[str]) -> str:
    """The functions of ``prelude.py`` that a program calls, and those that they call, as they stand there."""
    text, functions = _prelude()
    wanted = list(names)
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in functions and name not in found:
            found.add(name)
            wanted += loaded(functions[name])
    return "\n\n\n".join(ast.get_source_segment(text, functions[name]) or "" for name in functions if name in found)


@cache
def _prelude() -> tuple[str, dict[str, ast.FunctionDef]]:
    text = Path(__file__).with_name("prelude.py").read_text(encoding="utf-8")
    return text, {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


# ---- the live model -------------------------------------------------------------------------------

_count = itertools.count(1)


def build(program: Program) -> Any:
    """Run the module and give its model the weights, as copies: training it leaves the source alone."""
    from netferry.converters.pytorch.live import to_torch

    state = {key: to_torch(array) for key, array in program.weights.items()}
    return module_of(program.source).load(state)


def module_of(text: str, name: str | None = None) -> ModuleType:
    """A module in memory; tracebacks, ``inspect.getsource`` and pickle find it under a name of its own."""
    name = name or f"netferry_arrival_{next(_count)}"
    filename = f"<{name}>"
    module = ModuleType(name)
    module.__file__ = filename
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), module.__dict__)
    sys.modules.setdefault(name, module)
    return module
