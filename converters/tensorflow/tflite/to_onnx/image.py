"""Rows of operators on images: resizing, blocks, boxes."""

from __future__ import annotations

from netferry.converters.tensorflow.tflite.to_onnx.straight import flags, straight

straight(
    {"RESIZE_BILINEAR": "ResizeBilinear", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor"},
    flags(align_corners="align_corners", half_pixel_centers="half_pixel_centers"),
)
straight({"SPACE_TO_BATCH_ND": "SpaceToBatchND", "BATCH_TO_SPACE_ND": "BatchToSpaceND"})
straight(
    {"NON_MAX_SUPPRESSION_V4": "NonMaxSuppressionV4"},
    lambda _w, _op: {"pad_to_max_output_size": True},
    outputs=2,
)
straight(
    {"NON_MAX_SUPPRESSION_V5": "NonMaxSuppressionV5"},
    lambda _w, _op: {"pad_to_max_output_size": True},
    outputs=3,
)
