"""TensorFlow's TFLite converter, in a process of its own: what it cannot convert may end the process.

``python -m netferry.converters.tensorflow.tflite.converting ORDER`` reads a JSON file: ``saved_model``, ``to``, ``precision``,
``rows`` (a ``.npz`` of calibration rows, ``NUMBER/INPUT``) and ``says``, the file for what the converter says where it refuses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def ordered(order: Path) -> int:
    """Convert as ordered; where that is refused the message is written, and the result is 1."""
    wanted = json.loads(order.read_text())
    try:
        content = _converted(wanted)
    except Exception as error:  # whatever the converter raises
        Path(wanted["says"]).write_text(f"{type(error).__name__}: {error}")
        return 1
    Path(wanted["to"]).write_bytes(content)
    return 0


def _converted(wanted: dict[str, Any]) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(wanted["saved_model"])
    precision = wanted["precision"]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8-static":
        converter.representative_dataset = lambda: _rows(Path(wanted["rows"]))
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]
    made: bytes = converter.convert()
    return made


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Feeds by the names of inputs."""
    feeds: dict[int, dict[str, Any]] = {}
    with np.load(path) as held:
        for key in held.files:
            number, _, name = key.partition("/")
            feeds.setdefault(int(number), {})[name] = held[key]
    for number in sorted(feeds):
        yield feeds[number]


if __name__ == "__main__":
    sys.exit(ordered(Path(sys.argv[1])))
