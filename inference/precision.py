"""Smaller numbers: float16, bfloat16, int8; the tools of onnxruntime and of TFLite do the arithmetic of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from netferry.converters.errors import NetferryError, RefusedError, UsageError, first_line, nearest
from netferry.converters.signature import Array

if TYPE_CHECKING:
    from netferry.converters.imported import ImportedModel

Feeds = Sequence[Mapping[str, Array]]


def named(precision: str) -> str:
    """The precision called so, or by one of its aliases."""
    name = ALIASES.get(precision, precision)
    if name not in PRECISIONS:
        raise UsageError(
            "no such precision",
            expected=", ".join(PRECISIONS),
            received=precision,
            remedy=nearest(precision, (*PRECISIONS, *ALIASES)),
        )
    return name


def reduce(model: Path, target: Path, precision: str, feeds: Feeds) -> None:
    """Write ``model`` to ``target`` in another precision; ``feeds`` are the rows that static int8 is calibrated on.

    Inputs and outputs keep their dtypes. Raises ``RefusedError`` where onnxruntime's tools cannot.
    """
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()), TemporaryDirectory() as scratch:
            PRECISIONS[precision](model, target, feeds, Path(scratch))
    except NetferryError:
        raise
    except Exception as error:  # whatever the tools raise for this graph
        raise RefusedError(
            f"onnxruntime's tools cannot write it as {precision} ({first_line(error)})", where=model.name
        ) from error


def reduce_tflite(imported: ImportedModel, target: Path, precision: str, feeds: Feeds) -> None:
    """Write a model that was imported into TensorFlow as a TFLite file in another precision.

    Static int8 is calibrated on ``feeds``, row by row. Inputs and outputs keep their dtypes. Raises what ``write_tflite`` raises.
    """
    from netferry.converters.tensorflow.tflite.writing import write_tflite

    if precision == "int8-static" and not feeds:
        raise UsageError("static int8 is calibrated on real rows", remedy="Give them with --data")
    free = {
        spec.name for spec in imported.signature.inputs if spec.dims and not isinstance(spec.dims[0], int)
    }
    write_tflite(imported, target, precision, list(_single(feeds, free))[:CALIBRATION])


def _single(feeds: Feeds, free: Collection[str]) -> Iterator[Mapping[str, Array]]:
    """Row by row, where the first axis of all inputs is free."""
    for feed in feeds:
        if not set(feed) <= set(free):
            yield feed
            continue
        for row in range(min(len(array) for array in feed.values())):
            yield {name: array[row : row + 1] for name, array in feed.items()}


CALIBRATION = 256
"""The most rows that TFLite's converter is shown."""

TFLITE_PRECISIONS = ("float16", "int8-dynamic", "int8-static")


def _float16(model: Path, target: Path, feeds: Feeds, scratch: Path) -> None:  # noqa: ARG001
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    proto = convert_float_to_float16(onnx.load(model), keep_io_types=True)
    kept = {
        tuple(node.output): node for node in proto.graph.node
    }  # it writes a Cast once for each of its readers
    del proto.graph.node[:]
    proto.graph.node.extend(kept.values())
    onnx.save(proto, target)


def _bfloat16(model: Path, target: Path, feeds: Feeds, scratch: Path) -> None:  # noqa: ARG001
    """Weights of rank two and more as bfloat16, each behind a Cast: onnxruntime has few kernels for more on CPUs."""
    import ml_dtypes
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    proto = onnx.load(model)
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            name, array = tensor.name, numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            stored = helper.make_tensor(
                f"{name}.bfloat16", TensorProto.BFLOAT16, array.shape, array.tobytes(), raw=True
            )
            tensor.CopyFrom(stored)
            casts.append(
                helper.make_node("Cast", [stored.name], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
            )
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, target)


def _int8_dynamic(model: Path, target: Path, feeds: Feeds, scratch: Path) -> None:  # noqa: ARG001
    """Weights as int8 of seven bits, activations as what each run shows."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(_prepared(model, scratch), target, per_channel=True, reduce_range=_SEVEN_BITS)


def _int8_static(model: Path, target: Path, feeds: Feeds, scratch: Path) -> None:
    """Weights (of seven bits) and activations as int8, their ranges read off ``feeds``."""
    from onnxruntime.quantization import quantize_static

    if not feeds:
        raise UsageError("static int8 is calibrated on real rows", remedy="Give them with --data")
    quantize_static(
        _prepared(model, scratch), target, _Rows(feeds), per_channel=True, reduce_range=_SEVEN_BITS
    )


_SEVEN_BITS = True
"""Without VNNI a processor adds two products in 16 bits and stops at their end: 2 * 255 * 127 does not fit, 2 * 255 * 64
does. Weights of eight bits were off by 16 % there, where they and those of seven are off by 1.3 and 1.8 % elsewhere."""


def _prepared(model: Path, scratch: Path) -> Path:
    """The model as the quantiser wants it: shapes inferred, constants folded."""
    from onnxruntime.quantization import quant_pre_process

    prepared = scratch / "prepared.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    return prepared


class _Rows:
    """onnxruntime's calibration data reader over feeds."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds: Iterator[Mapping[str, Array]] = iter(feeds)

    def get_next(self) -> Any:
        return next(self._feeds, None)


PRECISIONS: Mapping[str, Callable[[Path, Path, Feeds, Path], None]] = {
    "float16": _float16,
    "bfloat16": _bfloat16,
    "int8-dynamic": _int8_dynamic,
    "int8-static": _int8_static,
}
ALIASES: Mapping[str, str] = {"fp16": "float16", "half": "float16", "bf16": "bfloat16"}
