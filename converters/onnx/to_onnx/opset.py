"""From one opset to another, with ONNX's own converter."""

from __future__ import annotations

from functools import partial

import onnx
import onnx_ir as ir

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.graph.passes.versions import converted

OLDEST = 7


def to_opset(model: ir.Model, opset: int) -> ir.Model:
    """The same model at ``opset``; refused where ONNX has no way there."""
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise UsageError("no such opset", expected=f"a number from {OLDEST} to {newest}", received=opset)
    current = model.opset_imports[""]
    if opset == current:
        return model
    try:
        return converted(model.clone(), opset, partial(onnx.checker.check_model, full_check=True))
    except Exception as error:  # the converter raises RuntimeError, ConvertError and checker errors
        reason = str(error).strip().splitlines()[0]
        raise RefusedError(
            f"the model cannot be written at opset {opset} ({reason})",
            remedy=f"Leave --opset out: opset {current} holds it",
        ) from error
