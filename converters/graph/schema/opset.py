"""ONNX's schemas at the one opset that a plan has."""

from __future__ import annotations

from functools import cache
from typing import Any

from onnx import defs

OPSET = 28
"""The newest opset: after normalisation every operator has one version."""


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
