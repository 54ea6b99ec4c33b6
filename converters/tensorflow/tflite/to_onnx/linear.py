"""Rows of products of matrices."""

from __future__ import annotations

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation
from netferry.converters.tensorflow.tflite.to_onnx.straight import flags, straight

straight({"BATCH_MATMUL": "BatchMatMulV2"}, flags(adj_x="adjoint_x", adj_y="adjoint_y"))


@OPERATORS.row("FULLY_CONNECTED")
def fully_connected(w: Writer, op: Operation) -> Ref:
    """Weights: (units, channels). Without ``keep_num_dims`` all but the channels is one axis."""
    if op.option("weights_format"):
        raise CannotConvert("its weights are shuffled for one machine", "Convert the file from before that")
    bias = w.maybe(op, 2)
    rest = [] if bias is None else [bias]
    tensor = w.tensor(op, 0)
    if op.option("keep_num_dims") and tensor is not None and len(tensor.dims or ()) != 2:
        y = w.node("MatMul", w.x(op), w.weight(op, 1, (1, 0)))
        return w.node("AddV2", y, *rest) if rest else y
    return w.node("lite.Dense", w.x(op), w.x(op, 1), *rest)


@ROWS.row("lite.Dense")
def dense(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    channels = weight.size(1)
    if x.rank != 2 or (x.dims or (None,))[-1] != channels:
        x = ROWS["Reshape"](g, a, x, g.ints(-1, channels))
    return g.Gemm(x, weight, bias, transB=1)
