"""TensorFlow's TFLite converter, in a process of its own: what it cannot convert may end the process.

``python -m netferry.converters.tensorflow.tflite.converting ORDER`` reads a JSON file: ``saved_model``, ``to``, ``precision``,
``rows`` (a ``.npz`` of calibration rows, ``NUMBER/INPUT``) and ``says``, the file for what the converter says where it refuses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.tensorflow.tflite.graph import COPYING


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
    return requantised(made) if precision == "int8-static" else made


def requantised(content: bytes) -> bytes:
    """A file in which whole numbers that are copied to another scale are brought to it.

    The converter gives what such an operator makes the scale that its reader wants (``REVERSE_V2`` of a bidirectional layer, whose
    two directions are joined), and its kernel copies the numbers of the old one.
    """
    schema = import_module("tensorflow.lite.python.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    copying = {getattr(schema.BuiltinOperator, name) for name in COPYING}
    behind_axis = schema.BuiltinOperator.SPLIT
    changed = False
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            operators.append(operator)
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            if code not in copying:
                continue
            before = graph.tensors[operator.inputs[int(code == behind_axis)]].quantization
            operator.outputs = list(operator.outputs)
            for place, output in enumerate(operator.outputs):
                if _alike(before, graph.tensors[output].quantization):
                    continue
                graph.tensors.append(_scaled(schema, graph.tensors[output], before))
                operator.outputs[place] = len(graph.tensors) - 1
                operators.append(_brought(schema, model, operator.outputs[place], output))
                changed = True
        graph.operators = operators
    if not changed:
        return content
    builder = import_module("flatbuffers").Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _alike(one: Any, other: Any) -> bool:
    """Whether two tensors' whole numbers mean the same; floats have no scale."""
    scales = [None if each is None or each.scale is None else each for each in (one, other)]
    if None in scales:
        return True
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("scale", "zeroPoint"))


def _scaled(schema: Any, tensor: Any, quantization: Any) -> Any:
    made = schema.TensorT()
    made.name, made.shape, made.shapeSignature = tensor.name + b"_copied", tensor.shape, tensor.shapeSignature
    made.type, made.quantization, made.buffer, made.hasRank = tensor.type, quantization, 0, tensor.hasRank
    return made


def _brought(schema: Any, model: Any, start: int, end: int) -> Any:
    """The operator that brings one tensor to the scale of another."""
    quantize = schema.BuiltinOperator.QUANTIZE
    codes = [code.builtinCode for code in model.operatorCodes]
    if quantize not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = quantize, quantize, 1
        model.operatorCodes.append(code)
        codes.append(quantize)
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = codes.index(quantize), [start], [end]
    made.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    made.builtinOptions = schema.QuantizeOptionsT()
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
