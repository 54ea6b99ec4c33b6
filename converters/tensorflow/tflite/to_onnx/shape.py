"""Rows of operators that rearrange elements, and of those that compute with sizes."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.errors import CannotConvert
from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation
from netferry.converters.tensorflow.tflite.to_onnx.straight import dtype_of_result, moving, numbers, straight

straight(
    {
        "BROADCAST_TO": "BroadcastTo", "EXPAND_DIMS": "ExpandDims", "REVERSE_V2": "ReverseV2", "TILE": "Tile",
        "TRANSPOSE": "Transpose",
    },
    moving=True,
)  # fmt: skip
straight(
    {
        "BROADCAST_ARGS": "BroadcastArgs",
        "FILL": "Fill",
        "PAD": "Pad",
        "PADV2": "PadV2",
        "RANGE": "Range",
        "RANK": "Rank",
    }
)
straight({"SHAPE": "Shape"}, dtype_of_result("out_type"))
straight(
    {"DEPTH_TO_SPACE": "DepthToSpace", "SPACE_TO_DEPTH": "SpaceToDepth"},
    numbers(block_size="block_size"),
    moving=True,
)
straight({"MATRIX_DIAG": "MatrixDiag", "MATRIX_SET_DIAG": "MatrixSetDiag"}, moving=True)

_MIRRORS = ("REFLECT", "SYMMETRIC")


@moving("MIRROR_PAD")
def mirror_pad(w: Writer, op: Operation) -> Ref:
    return w.node("MirrorPad", *w.all(op), mode=_MIRRORS[op.option("mode")])


@moving("RESHAPE")
def reshape(w: Writer, op: Operation) -> Ref:
    """To the sizes of its second input, of its options, or of its result."""
    if w.tensor(op, 1) is not None:
        return w.node("Reshape", w.x(op), w.x(op, 1))
    wanted = [int(size) for size in op.option("new_shape", ())] or [
        -1 if s is None else s for s in w.out(op).dims or ()
    ]
    return w.node("Reshape", w.x(op), w.constant(wanted))


@moving("SQUEEZE")
def squeeze(w: Writer, op: Operation) -> Ref:
    return w.node("Squeeze", w.x(op), squeeze_dims=[int(axis) for axis in op.option("squeeze_dims", ())])


@moving("CONCATENATION")
def concatenation(w: Writer, op: Operation) -> Ref:
    return w.node("ConcatV2", *w.all(op), w.constant(op.option("axis")))


@moving("PACK")
def pack(w: Writer, op: Operation) -> Ref:
    return w.node("Pack", *w.all(op), axis=op.option("axis"))


@moving("UNPACK")
def unpack(w: Writer, op: Operation) -> Sequence[Ref]:
    count = len(op.outputs)
    return w.outputs(w.node("Unpack", w.x(op), axis=op.option("axis"), num=count), count)


@moving("SPLIT")
def split(w: Writer, op: Operation) -> Sequence[Ref]:
    count = len(op.outputs)
    return w.outputs(w.node("Split", w.x(op), w.x(op, 1), num_split=count), count)


@moving("SPLIT_V")
def split_v(w: Writer, op: Operation) -> Sequence[Ref]:
    return w.outputs(w.node("SplitV", *w.all(op)), len(op.outputs))


@OPERATORS.row("CALL")
def call(w: Writer, op: Operation) -> Sequence[Ref]:
    raise CannotConvert("it calls a subgraph, which TFLite has no kernel for")
