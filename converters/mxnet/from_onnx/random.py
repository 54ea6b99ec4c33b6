"""What is drawn by chance in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import COMPUTED, NATIVE


@NATIVE.row("Dropout")
def dropout(
    xp: MxnetNamespace,
    x: Symbol,
    ratio: Symbol | None = None,
    training_mode: Symbol | None = None,
    *,
    seed: int,
) -> Any:
    """In inference as it is; gluon's training mode drops."""
    if training_mode is not None and (training_mode.content is None or bool(training_mode.content.any())):
        raise CannotConvert("a dropout that also drops in inference")
    if xp.wanted(1):
        return x, xp.full(x.shape, 1, np.dtype(bool)) if known(x.shape) else xp.equal(x, x)
    rate = 0.5 if ratio is None else None if ratio.content is None else float(str(ratio.content.item()))
    if rate is None or x.dtype not in COMPUTED or not 0 <= rate < 1:
        return x
    return xp.apply("Dropout", x, dims=x.shape, p=rate)
