"""Rows of operators that reduce axes."""

from __future__ import annotations

from netferry.converters.tensorflow.tflite.to_onnx.straight import dtype_of_result, flags, straight

straight(
    {
        "MEAN": "Mean", "REDUCE_ALL": "All", "REDUCE_ANY": "Any", "REDUCE_MAX": "Max", "REDUCE_MIN": "Min", "REDUCE_PROD": "Prod",
        "SUM": "Sum",
    },
    flags(keep_dims="keep_dims"),
)  # fmt: skip
straight({"ARG_MAX": "ArgMax", "ARG_MIN": "ArgMin"}, dtype_of_result("output_type"))
straight({"CUMSUM": "Cumsum"}, flags(exclusive="exclusive", reverse="reverse"))
straight({"TOPK_V2": "TopKV2"}, dtype_of_result("index_type", 1), outputs=2)
straight({"UNIQUE": "Unique"}, dtype_of_result("out_idx", 1), outputs=2)
straight(
    {
        "SEGMENT_SUM": "SegmentSum", "UNSORTED_SEGMENT_MAX": "UnsortedSegmentMax", "UNSORTED_SEGMENT_MIN": "UnsortedSegmentMin",
        "UNSORTED_SEGMENT_PROD": "UnsortedSegmentProd", "UNSORTED_SEGMENT_SUM": "UnsortedSegmentSum",
    }
)  # fmt: skip
