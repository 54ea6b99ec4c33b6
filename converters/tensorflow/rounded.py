"""A model of TensorFlow whose every operation rounds by chance: traced anew, each result passing through numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from netferry.converters.rounding import Kind, Rounding, table
from netferry.converters.signature import Array
from netferry.converters.tensorflow.interface import ModelInterface
from netferry.converters.tensorflow.runtime import op_callbacks, quiet, tf

KINDS = table(
    EXACT="""Abs AddN ArgMax ArgMin AssignVariableOp BatchToSpaceND BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Const
        DepthToSpace Diag EagerConst Empty ExpandDims Fill Floor Gather GatherNd GatherV2 Identity IdentityN MatrixBandPart
        MatrixDiagV3 Max MaxPool MaxPool3D MaxPoolV2 Maximum Min Minimum MirrorPad Neg NonMaxSuppressionV3 OneHot OnesLike
        Pack Pad PadV2 ReadVariableOp Relu Relu6 ReluGrad ResizeNearestNeighbor ResourceGather Reshape ReverseSequence
        ReverseV2 Rint Roll Round ScatterNd Select SelectV2 Shape Sign Slice SpaceToBatchND SpaceToDepth Split SplitV
        Squeeze StopGradient StridedSlice TensorListConcatV2 TensorListFromTensor TensorListGather TensorListGetItem
        TensorListSetItem TensorListStack TensorScatterUpdate Tile TopKV2 Transpose UnsortedSegmentMax Unpack VarHandleOp
        Where ZerosLike""",
    INEXACT="""Acos Acosh Asin Asinh Atan Atan2 Atanh Cos Cosh Elu Erf Erfc Exp Expm1 Lgamma Log Log1p LogSoftmax Pow Selu
        Sin Sinh Softplus Tan Tanh""",
    BOUNDED="Sigmoid Softmax",
    SUM="""AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Conv2D Conv2DBackpropInput Conv3D
        Conv3DBackpropInputV2 Cumprod Cumsum DepthwiseConv2dNative Einsum FusedBatchNormV3 MatMul Mean Prod ResizeBicubic
        ResizeBilinear Sum UnsortedSegmentSum""",
)
"""TensorFlow's operators by how they round; what is not named rounds where its result is not held by the format."""

_FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


class Draws:
    """The errors of the run that is under way; between runs nothing is moved."""

    def __init__(self) -> None:
        self.rounding: Rounding | None = None

    def result(self, operator: str) -> Callable[[Array], Array]:
        return lambda array: array if self.rounding is None else self.rounding.result(operator, array)

    @contextmanager
    def of(self, rounding: Rounding) -> Iterator[None]:
        self.rounding = rounding
        try:
            yield
        finally:
            self.rounding = None

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Within it, what is traced has a call to ``result`` behind each operation that rounds."""
        op_callbacks.add_op_callback(self._behind)
        try:
            yield
        finally:
            op_callbacks.remove_op_callback(self._behind)

    def _behind(self, op_type: Any, _in: Any, _attrs: Any, outputs: Any, op_name: Any, graph: Any) -> Any:  # noqa: ARG002 - TensorFlow's
        kind = op_type.decode() if isinstance(op_type, bytes) else str(op_type)
        if graph is None or KINDS.get(kind) is Kind.EXACT:
            return None
        return [self._moved(kind, tensor) if tensor.dtype in _FLOATS else tensor for tensor in outputs]

    def _moved(self, kind: str, tensor: Any) -> Any:
        moved = tf.numpy_function(self.result(kind), [tensor], tensor.dtype)
        moved.set_shape(tensor.shape)
        return moved


class Rounded:
    """A model in float64, traced once; ``run`` gives its outputs by name."""

    def __init__(self, interface: ModelInterface) -> None:
        self._draws = Draws()
        self._face, self._traced = (
            interface,
            tf.function(lambda *tensors: interface.call(tensors), autograph=False),
        )

    def run(self, arrays: Sequence[Array], rounding: Rounding) -> dict[str, Array]:
        """``arrays`` by position, floats in float64."""
        with quiet(), self._draws.traced(), self._draws.of(rounding):
            named = self._traced(*[tf.convert_to_tensor(array) for array in arrays])
        return {name: tensor.numpy() for name, tensor in named.items()}
