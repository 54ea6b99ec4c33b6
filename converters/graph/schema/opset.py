"""ONNX's schemas at the one opset that a plan has."""

from __future__ import annotations

from functools import cache
from typing import Any

from onnx import defs

OPSET = 28
"""The newest opset: after normalisation every operator has one version."""

OWN_DOMAIN = "netferry"
"""The domain of operators that ONNX has none for."""

UNDER_THE_STANDARD = frozenset({"SimplifiedLayerNormalization"})
"""Operators that onnxruntime has under ONNX's domain and that ONNX does not know."""

EARLIER = {"LayerNormalization": 17}
"""Operators of ONNX that onnxruntime writes into models of older opsets too, and the first opset that has them."""


@cache
def schema_of(domain: str, op_type: str) -> Any:
    """The newest schema of an operator; None where ONNX does not know it."""
    try:
        return (
            defs.get_schema(op_type, OPSET, domain)
            if domain == ""
            else defs.get_schema(op_type, domain=domain)
        )
    except defs.SchemaError:
        return None
