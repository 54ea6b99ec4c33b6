"""ONNX to PyTorch: the walk of a plan writes a Python module, and running that module makes the imported model.

What is written needs PyTorch and safetensors alone; netferry need not be installed where it runs. Nothing
here imports torch before the live model is asked for.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert, RefusedError
from netferry.converters.graph.codegen.execution import module_of
from netferry.converters.graph.codegen.walk import Walk
from netferry.converters.graph.codegen.writer import loaded, prune
from netferry.converters.graph.ir.arrays import Lent
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.facts import Plan
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
from netferry.converters.pytorch.from_onnx.module import class_name, module_text, name_chains
from netferry.converters.pytorch.from_onnx.namespace import TorchNamespace
from netferry.converters.pytorch.from_onnx.runtime_helpers import helper_names
from netferry.converters.pytorch.from_onnx.writer import MISSING, RESERVED
from netferry.converters.signature import Array, Signature


@dataclass(frozen=True)
class Program:
    """A module as text, its tensors by their keys of the state dict, and what became of the source's names."""

    source: str
    weights: Mapping[str, Array]
    names: Mapping[str, str]


def from_onnx(plan: Plan, signature: Signature, *, name: str = "Model") -> ImportedModel:
    """The plan as a PyTorch module; torch is imported when ``ImportedModel.model`` is asked for.

    Raises UnsupportedError with every node that netferry cannot import.
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
    xp = TorchNamespace(plan, reserved=helper_names())
    parameters: list[str] = []

    def take(value: ir.Value) -> Symbol:
        fact = plan.fact(value)
        _demand_tensor(fact.dtype)
        parameters.append(xp.fresh(value.name or "x"))
        name_expr = ast.Name(parameters[-1], ast.Load())
        if fact.dtype is not None and xp.device is None:
            xp.device = ast.Attribute(name_expr, "device", ast.Load())
        return Symbol(xp, fact, name_expr)

    results = Walk(plan, xp).run(take)
    returned = [xp.to_expr(result) for result in results]
    if any(MISSING in loaded(statement) for statement in (*xp.statements, *returned)):
        raise RefusedError("a value of the graph is read before it is made")
    whole = returned[0] if len(returned) == 1 else ast.Tuple(returned, ast.Load())
    body = [*prune(xp.statements, loaded(whole)), ast.Return(whole)]
    name_chains(body)
    title = unique(class_name(name), {*RESERVED, *helper_names()} - {"Model"})
    return Program(module_text(title, signature, parameters, body, xp), xp.state.arrays, xp.state.names)


def _demand_tensor(dtype: np.dtype[Any] | None) -> None:
    """Refuse an input of a type that no tensor has; sequences and optional values have none and are taken."""
    if dtype is not None and dtype not in TORCH_DTYPES and dtype not in NARROW:
        raise CannotConvert(f"PyTorch has no tensors of {dtype.name}")


# ---- the live model -------------------------------------------------------------------------------

_count = itertools.count(1)


def build(program: Program) -> Any:
    """Run the module and give its model the weights, as copies: training it leaves the source alone."""
    from netferry.converters.pytorch.live import to_torch

    weights = Lent(program.weights)
    state = {key: to_torch(weights[key]) for key in weights}
    return module_of(program.source, f"netferry_import_{next(_count)}").load(state)
