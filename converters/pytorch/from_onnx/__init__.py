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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert, RefusedError
from netferry.converters.graph.codegen.execution import module_of
from netferry.converters.graph.codegen.walk import Walk
from netferry.converters.graph.codegen.writer import loaded, prune, source
from netferry.converters.graph.ir.arrays import Lent
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.names import identifier
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.imported import ImportedModel
from netferry.converters.pytorch.dtypes import NARROW, TORCH_DTYPES
from netferry.converters.pytorch.from_onnx import (
    activations,
    attention,
    control_flow,
    convolution,
    dynamic,
    embedding,
    image,
    linear,
    normalization,
    pooling,
    random,
    recurrent,
)
from netferry.converters.pytorch.from_onnx.namespace import TorchNamespace
from netferry.converters.pytorch.from_onnx.writer import MISSING, RESERVED
from netferry.converters.signature import Array, Signature, TensorSpec


@dataclass(frozen=True)
class Program:
    """A module as text, its tensors by their keys of the state dict, and what became of the source's names."""

    source: str
    weights: Mapping[str, Array]
    names: Mapping[str, str]


def from_onnx(plan: Plan, signature: Signature, *, name: str = "Model") -> ImportedModel:
    """The plan as a PyTorch module; torch is imported when ``ImportedModel.model`` is asked for.

    Raises UnsupportedError with every node that cannot be carried.
    """
    program = write(plan, signature, name)
    return ImportedModel(
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
    xp = TorchNamespace(plan, reserved=_helper_names())
    parameters: list[str] = []

    def take(value: ir.Value) -> Symbol:
        fact = plan.fact(value)
        _demand_tensor(fact.dtype)
        parameters.append(xp.fresh(value.name or "x"))
        word = ast.Name(parameters[-1], ast.Load())
        if fact.dtype is not None and xp.device is None:
            xp.device = ast.Attribute(word, "device", ast.Load())
        return Symbol(xp, fact, word)

    results = Walk(plan, xp).run(take)
    returned = [xp.to_expr(result) for result in results]
    if any(MISSING in loaded(statement) for statement in (*xp.statements, *returned)):
        raise RefusedError("a value of the graph is read before it is made")
    whole = returned[0] if len(returned) == 1 else ast.Tuple(returned, ast.Load())
    body = [*prune(xp.statements, loaded(whole)), ast.Return(whole)]
    _name_chains(body)
    title = unique(_class_name(name), {*RESERVED, *_helper_names()} - {"Model"})
    return Program(_module(title, signature, parameters, body, xp), xp.state.arrays, xp.state.names)


def _class_name(name: str) -> str:
    """``resnet_v2`` as a class is called: ``ResnetV2``."""
    return "".join(part[:1].upper() + part[1:] for part in identifier(name).split("_"))


def _demand_tensor(dtype: np.dtype[Any] | None) -> None:
    """Refuse an input of a type that no tensor has; sequences and optional values have none and are taken."""
    if dtype is not None and dtype not in TORCH_DTYPES and dtype not in NARROW:
        raise CannotConvert(f"PyTorch has no tensors of {dtype.name}")


CHAIN = "y"


def _name_chains(body: Sequence[ast.stmt]) -> None:
    """Call what only the next line reads ``y``, as a person would: it is not held longer than it is needed."""
    reads = Counter(
        n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    )
    for block in _blocks(body):
        for statement, after in itertools.pairwise(block):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if (
                not isinstance(target, ast.Name)
                or not isinstance(after, ast.Assign | ast.Return)
                or reads[target.id] != 1
            ):
                continue
            for node in ast.walk(after.value) if after.value is not None else ():
                if isinstance(node, ast.Name) and node.id == target.id:
                    node.id = target.id = CHAIN
                    break


def _blocks(body: Sequence[ast.stmt]) -> Iterator[Sequence[ast.stmt]]:
    yield body
    for statement in body:
        for field in ("body", "orelse"):
            inner = getattr(statement, field, None)
            if isinstance(inner, list) and inner:
                yield from _blocks(inner)


def _module(
    title: str, signature: Signature, parameters: Sequence[str], body: Sequence[ast.stmt], xp: TorchNamespace
) -> str:
    """The text of the whole module."""
    init = _double_quoted("\n".join(xp.state.lines()))
    forward = _double_quoted(source(body))
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
        f"    def __init__(self):\n        super().__init__()\n{textwrap.indent(init, ' ' * 8)}".rstrip()
        + "\n",
        f"    def forward(self{''.join(f', {word}' for word in parameters)}):\n{textwrap.indent(forward, ' ' * 8)}\n\n",
        _LOAD.format(title=title, take=_TAKE if len(xp.state.arrays) < _MANY else _TAKE_MANY),
    ]
    return "\n".join(part for part in parts if part)


def _double_quoted(text: str) -> str:
    """``self.layer1["0"]`` rather than ``self.layer1['0']``, as code is formatted today."""
    return re.sub(r"\['(\w+)'\]", r'["\1"]', text, flags=re.ASCII)


_LOAD = '''\
def load(weights=None):
    """The model, ready to run: with the weights of a state dict, a .safetensors file, or the one beside this module."""
    if not isinstance(weights, dict):
        weights = load_file(weights or Path(__file__).with_suffix(".safetensors"))
    with torch.device("meta"):
        model = {title}()
    {take}
    return model.eval()
'''

_TAKE = "model.load_state_dict(weights, assign=True)"

_MANY = 2000
_TAKE_MANY = """\
layers = dict(model.named_modules())
    if missing := model.state_dict().keys() ^ weights.keys():
        raise KeyError(f"missing or unexpected: {sorted(missing)}")
    for path, tensor in weights.items():
        layer, _, name = path.rpartition(".")
        layers[layer].load_state_dict({name: tensor}, strict=False, assign=True)"""
"""Of very many weights each goes to its layer: ``load_state_dict`` asks each layer for all of them."""


def _sentence(title: str, signature: Signature) -> str:
    """What goes in and out; whatever the names hold, it cannot end the docstring."""
    lines = [f"{title}, carried to PyTorch by netferry.", ""]
    lines += [f"in   {spec}" for spec in signature.inputs]
    lines += [f"out  {spec}" for spec in signature.outputs]
    return "\n".join(re.sub(r"[^\w \[\](),.:?/*+<>-]", "_", line) for line in lines) + "\n"


def _specs(specs: Iterable[TensorSpec]) -> str:
    """What ``forward`` takes, by the names that its inputs had: ``{'x': ('float32', ('batch', 3))}``."""
    rows = (f"{spec.name!r}: ({spec.dtype.name!r}, {spec.dims or ()!r})" for spec in specs)
    return f"{{{', '.join(rows)}}}"


def _names(specs: Iterable[TensorSpec]) -> str:
    return repr(tuple(spec.name for spec in specs))


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
    return "\n\n\n".join(
        ast.get_source_segment(text, functions[name]) or "" for name in functions if name in found
    )


@cache
def _prelude_text() -> str:
    return Path(__file__).with_name("runtime_helpers.py").read_text(encoding="utf-8")


@cache
def _helper_names() -> tuple[str, ...]:
    return tuple(re.findall(r"^def (\w+)", _prelude_text(), re.MULTILINE))


@cache
def _prelude() -> tuple[str, dict[str, ast.FunctionDef]]:
    text = _prelude_text()
    return text, {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}


# ---- the live model -------------------------------------------------------------------------------

_count = itertools.count(1)


def build(program: Program) -> Any:
    """Run the module and give its model the weights, as copies: training it leaves the source alone."""
    from netferry.converters.pytorch.live import to_torch

    weights = Lent(program.weights)
    state = {key: to_torch(weights[key]) for key in weights}
    return module_of(program.source, f"netferry_import_{next(_count)}").load(state)
