"""For tests of one's own: two models that must be equal, an operator in every framework against a function of numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from netferry import converters
from netferry.api import verify
from netferry.arguments import Inputs
from netferry.converters import frameworks
from netferry.converters.errors import UsageError
from netferry.converters.graph.schema.own import OWN
from netferry.converters.onnx.own import runnable
from netferry.converters.signature import Array
from netferry.inference.run import run
from netferry.validation.comparison.metrics import PASSED
from netferry.validation.reports.report import Report

_OPSET = 21


def assert_equivalent(a: object, b: object, inputs: Inputs | None = None, **options: Any) -> Report:
    """Run two models on the same inputs, as ``netferry.verify`` does with these ``options``; the report, where it passed.

    In pytest the fixture of the same name also attaches the report to the test (``netferry.pytest_plugin``).

    Raises:
        AssertionError: they differ, or nothing was proved; its text is the whole report.
    """
    report = verify(a, b, inputs, **options)
    assert report.status == PASSED, report.to_text()
    return report


def check_operator(
    name: str,
    reference: Callable[..., Any],
    inputs: Sequence[Sequence[Array]],
    *,
    attributes: Mapping[str, Any] | None = None,
    to: Sequence[str] | None = None,
    tolerance: float = 1e-5,
) -> dict[str, float]:
    """Run an operator that ``netferry.operator`` has defined in onnxruntime and in each framework, at several sizes.

    ``reference(*arrays, **attributes)`` says in numpy what is right. ``inputs`` are lists of arrays, of the same ranks and dtypes
    and at least two of different sizes: sizes that differ are free. ``to`` names the frameworks, those that are installed
    where it is left out. Returns the worst error of each, relative to the largest value of the output.

    Raises:
        AssertionError: a framework is further off than ``tolerance``, with the sizes at which it is.
        UsageError: there is no such operator, or nothing that would tell a fixed size from a free one.
    """
    if name not in OWN:
        raise UsageError(
            "no such operator", expected=", ".join(OWN) or "one that netferry.operator defines", received=name
        )
    if len({tuple(array.shape for array in arrays) for arrays in inputs}) < 2:
        raise UsageError(
            "one size tells nothing of others", expected="inputs of at least two different sizes"
        )
    attributes = dict(attributes or {})
    model = _model(name, inputs, reference(*inputs[0], **attributes), attributes)
    wanted = to or [
        each.name for each in frameworks.FRAMEWORKS.values() if each.installed and each.name != "onnx"
    ]
    sides: dict[str, Any] = {"onnx": runnable(model)}
    importer = converters.importer(ir.from_proto(model))
    sides |= {frameworks.named(one).name: importer(one).model for one in wanted if one != "onnx"}
    worst = dict.fromkeys(sides, 0.0)
    for arrays in inputs:
        right = np.asarray(reference(*arrays, **attributes))
        for side, live in sides.items():
            [made] = run(live, list(arrays)).values()
            error = _error(made, right)
            sizes = ", ".join(str(list(array.shape)) for array in arrays)
            assert error <= tolerance, f"{name} in {side} is {error:.1e} of its scale off at sizes {sizes}"
            worst[side] = max(worst[side], error)
    return worst


def _error(made: Array, right: Array) -> float:
    if made.shape != right.shape or made.dtype != right.dtype:
        return float("inf")
    scale = float(np.max(np.abs(right), initial=0.0)) or 1.0
    return float(np.max(np.abs(made.astype(np.float64) - right.astype(np.float64)), initial=0.0)) / scale


def _model(
    name: str, inputs: Sequence[Sequence[Array]], result: Any, attributes: Mapping[str, Any]
) -> onnx.ModelProto:
    """One node, whose inputs have the sizes that all examples have, and are free elsewhere."""
    domain, _, operator = name.partition("::")
    names = [f"input_{place}" for place in range(len(inputs[0]))]
    specs = []
    for place, label in enumerate(names):
        shapes = [arrays[place].shape for arrays in inputs]
        dims = [
            sizes[0] if len(set(sizes)) == 1 else f"{label}_{axis}"
            for axis, sizes in enumerate(zip(*shapes, strict=True))
        ]
        specs.append(helper.make_tensor_value_info(label, _kind(inputs[0][place]), dims))
    made = np.asarray(result)
    output = helper.make_tensor_value_info("output", _kind(made), [None] * made.ndim)
    node = helper.make_node(operator, names, ["output"], name=operator, domain=domain, **attributes)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(domain, 1)]
    return helper.make_model(
        helper.make_graph([node], operator, specs, [output]), opset_imports=opsets, ir_version=10
    )


def _kind(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
