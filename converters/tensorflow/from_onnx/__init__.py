"""ONNX to Keras and TensorFlow: a functional ``keras.Model`` where the graph allows it, else a model with its own source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from netferry.converters.errors import UnsupportedError
from netferry.converters.graph.codegen.execution import module_of
from netferry.converters.graph.ir.arrays import Lent
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.imported import ImportedModel
from netferry.converters.signature import Array, Signature
from netferry.converters.tensorflow.from_onnx import (
    activations,
    control_flow,
    convolution,
    dynamic,
    embedding,
    linear,
    normalization,
    pooling,
    random,
    recurrent,
)
from netferry.converters.tensorflow.from_onnx.program import Program, function, functional
from netferry.converters.tensorflow.names import legal


def from_onnx(plan: Plan, signature: Signature, *, name: str = "model") -> ImportedModel:
    """The graph as a program of Keras; neither Keras nor TensorFlow is imported before ``model`` is asked for.

    Raises:
        UnsupportedError: operators that TensorFlow cannot hold, all of them at once.
    """
    try:
        return _imported(functional(plan, signature, name), signature, name)
    except UnsupportedError as error:
        program = function(plan, signature, name)
        first = error.problems[:3]
        reasons = "; ".join(f"{problem.node or problem.operator}: {problem.reason}" for problem in first)
        return _imported(program, signature, name, f"It is no functional model ({reasons})")


def _imported(program: Program, signature: Signature, name: str, *notes: str) -> ImportedModel:
    xp = program.namespace
    weights = dict(xp.weights)
    return ImportedModel(
        framework="tensorflow",
        signature=signature,
        source=program.text,
        weights=weights,
        build=lambda: _build(program.text, weights, name),
        names=dict(xp.names),
        form=program.form,
        notes=(*notes, *xp.notes),
    )


def _build(text: str, weights: Mapping[str, Array], name: str) -> Any:
    """Run the generated module, under a name that tracebacks find its source by."""
    from netferry.converters.tensorflow.runtime import names_from_scratch, quiet

    module = module_of(text, f"netferry_{legal(name)}")
    load: Callable[..., Any] = module.load
    with quiet(), names_from_scratch():
        return load(Lent(weights))
