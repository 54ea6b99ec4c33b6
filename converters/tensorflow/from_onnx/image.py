"""Boxes in images. The function form alone has them: how many are left is known only when the model runs."""

from __future__ import annotations

from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.function_form import Function
from netferry.converters.tensorflow.from_onnx.function_names import INT64
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


@NATIVE.row("NonMaxSuppression")
def NonMaxSuppression(
    xp: TensorflowNamespace, boxes: Symbol, scores: Symbol, max_output_boxes_per_class: Symbol | None = None,
    iou_threshold: Symbol | None = None, score_threshold: Symbol | None = None, *, center_point_box: int,
) -> Any:  # fmt: skip
    if not isinstance(xp, Function):
        raise CannotConvert("a functional Keras model cannot hold as many boxes as are left when it runs")
    xp.use("regions")
    limits = (max_output_boxes_per_class, iou_threshold, score_threshold)
    given = {
        name: _number(limit)
        for name, limit in zip(("limit", "iou_threshold", "score_threshold"), limits, strict=True)
        if limit is not None
    }
    center = True if center_point_box else None
    return xp.call("non_max_suppression", boxes, scores, **given, center=center, dtype=INT64)


def _number(limit: Symbol) -> Any:
    return limit if limit.content is None else limit.content.reshape(-1)[0].item()
