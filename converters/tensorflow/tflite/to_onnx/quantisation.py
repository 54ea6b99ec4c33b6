"""Rows between numbers and the whole numbers that they are stored as."""

from __future__ import annotations

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.graph import ARRAY, Ref
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.tflite.graph import DEQUANTISE, OPERATORS, QUANTISE, Writer
from netferry.converters.tensorflow.tflite.model import Operation, Quantisation
from netferry.converters.tensorflow.tflite.to_onnx.straight import straight

straight(
    {"FAKE_QUANT": "FakeQuantWithMinMaxArgs"},
    lambda _, op: {
        "min": op.option("min"), "max": op.option("max"), "num_bits": op.option("num_bits"),
        "narrow_range": bool(op.option("narrow_range")),
    },
)  # fmt: skip


@OPERATORS.row("DEQUANTIZE")
def dequantise(w: Writer, op: Operation) -> Ref:
    """Weights that are stored as float16 are read as float32."""
    tensor, want = w.tensor(op, 0), w.out(op).dtype
    content = w.known(op.inputs[0])
    if content is not None and content.dtype.kind not in "iub":
        return w.node(ARRAY, array=content.astype(want))
    x = w.x(op)
    return x if tensor is None or tensor.quantised is not None else w.node("Cast", x, DstT=want)


@OPERATORS.row("DENSIFY")
def densify(w: Writer, op: Operation) -> Ref:
    """What is stored sparsely is whole since the file was read."""
    return w.node(ARRAY, array=w.array(op, 0)) if w.known(op.inputs[0]) is not None else w.x(op)


@OPERATORS.row("QUANTIZE")
def quantise(w: Writer, op: Operation) -> Ref:
    return w.x(op)


@ROWS.row(DEQUANTISE)
def read(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    q: Quantisation = a.raw("quantised")
    if x.dtype == np.int64:  # the bias of 16-bit activations, which ONNX does not store
        return g.Mul(g.cast(x, np.float32), g.constant(_along(q, x.rank)))
    return g.DequantizeLinear(x, *_constants(g, q, x.dtype), axis=q.axis if q.scale.size > 1 else None)


@ROWS.row(QUANTISE)
def stored(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    q, dtype = a.raw("quantised"), a.dtype("dtype")
    if dtype not in (np.int8, np.uint8, np.int16, np.uint16):
        raise CannotConvert(f"it stores {np.dtype(dtype).name}, which ONNX does not quantise to")
    return g.QuantizeLinear(x, *_constants(g, q, dtype), axis=q.axis if q.scale.size > 1 else None)


def _constants(g: Emitter, q: Quantisation, dtype: np.dtype[np.generic]) -> tuple[Tensor, Tensor | None]:
    """Scale and zero point; ONNX has none for int32, and onnxruntime takes one left out for one of uint8."""
    shape = q.scale.shape if q.scale.size > 1 else ()
    if dtype == np.int32 and q.zero.any():
        raise CannotConvert("it stores int32 with a zero point, which ONNX does not")
    zero = None if dtype == np.int32 else g.constant(q.zero.astype(dtype).reshape(shape))
    return g.constant(q.scale.reshape(shape)), zero


def _along(q: Quantisation, rank: int) -> Array:
    shape = [q.scale.size if axis == q.axis else 1 for axis in range(rank)]
    return q.scale.reshape(shape if q.scale.size > 1 else ())
