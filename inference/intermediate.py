"""The tensors inside any model while it runs: one call for the four kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from netferry.converters import frameworks
from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Take
from netferry.inference.session import Session


def stream(model: object, arrays: Sequence[Array], take: Take) -> Ends:
    """Run ``model`` (the path of an ONNX file, or a model in memory) and hand each step's tensors to ``take``.

    ONNX runs in onnxruntime with its optimisations off, others run where they are at home.
    """
    framework = framework_of(model)
    if framework.name == "onnx":
        ends: Ends = framework.intermediate.stream(model, arrays, take, _run)
    else:
        ends = framework.intermediate.stream(model, arrays, take)
    return ends


def piece(model: object, name: str, reads: Mapping[str, Array], gives: str) -> object | None:
    """The part of ``model`` that computes the tensor ``gives`` from ``reads``, where it can be had as a model.

    Of a graph (ONNX, MXNet) it is cut out; of any other model it is the layer ``name``.
    """
    part: object | None = framework_of(model).intermediate.piece(model, name, reads, gives)
    return part


def weights(model: object) -> Iterator[tuple[str, Array]]:
    """The weights of a model in memory, by the names that its framework gives them."""
    found: Iterator[tuple[str, Array]] = framework_of(model).intermediate.weights(model)
    return found


def framework_of(model: object) -> frameworks.Framework:
    """A path is an ONNX file; any other model is known by its class."""
    return frameworks.named("onnx") if isinstance(model, str | os.PathLike) else frameworks.of(model)


def _run(part: onnx.ModelProto, folder: Path | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return Session(part, optimize=False, folder=folder).raw(inputs)
