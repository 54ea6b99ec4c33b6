"""A graph in float64 whose every operation rounds by chance: each result passes through numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from netferry.converters.rounding import Kind, Rounding, table
from netferry.converters.signature import Array
from netferry.converters.tensorflow.frozen.edit import Body, bodies, tensor_attribute, type_attribute
from netferry.converters.tensorflow.runtime import tf

KINDS = table(
    EXACT="""Abs AddN ArgMax ArgMin AssignVariableOp BatchToSpaceND BroadcastTo Case Cast Ceil ClipByValue Concat ConcatV2 Const
        DepthToSpace Diag EagerConst Empty EnsureShape Enter Exit ExpandDims Fill Floor Gather GatherNd GatherV2 Identity
        IdentityN If MatrixBandPart MatrixDiagV3 Max MaxPool MaxPool3D MaxPoolV2 Maximum Merge Min Minimum MirrorPad Neg
        NextIteration NonMaxSuppressionV3 OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder PlaceholderWithDefault
        PreventGradient ReadVariableOp Relu Relu6 ReluGrad ResizeNearestNeighbor ResourceGather Reshape ReverseSequence
        ReverseV2 Rint Roll Round ScatterNd Select SelectV2 Shape Sign Slice SpaceToBatchND SpaceToDepth Split SplitV
        Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile StopGradient StridedSlice Switch
        TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorListConcatV2 TensorListFromTensor TensorListGather
        TensorListGetItem TensorListSetItem TensorListStack TensorScatterUpdate Tile TopKV2 Transpose UnsortedSegmentMax
        Unpack VarHandleOp Where While ZerosLike""",
    INEXACT="""Acos Acosh Asin Asinh Atan Atan2 Atanh CombinedNonMaxSuppression Cos Cosh Elu Erf Erfc Exp Expm1 Lgamma Log
        Log1p LogSoftmax Pow Selu Sin Sinh Softplus Tan Tanh""",
    BOUNDED="Sigmoid Softmax",
    SUM="""AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd Conv2D Conv2DBackpropInput Conv3D
        Conv3DBackpropInputV2 Cumprod Cumsum DepthwiseConv2dNative Einsum FusedBatchNormV3 MatMul Mean Prod ResizeBicubic
        ResizeBilinear Sum UnsortedSegmentSum""",
)
"""TensorFlow's operators by how they round; what is not named rounds where its result is not held by the format."""

UNORDERED = {"CombinedNonMaxSuppression": 1}
"""Operators that sort without an order of equals, and which input decides: it is moved, so that any of them may come first."""


class Draws:
    """The errors of the run that is under way, of each operation on its own, whatever order they run in."""

    def __init__(self) -> None:
        self._kinds: list[str] = []
        self._roundings: dict[int, Rounding] = {}
        self._run: tuple[float, int] | None = None

    def place(self, operator: str) -> int:
        """The number of one operation."""
        self._kinds.append(operator)
        return len(self._kinds) - 1

    @contextmanager
    def of(self, u: float, seed: int) -> Iterator[None]:
        """Within it, results are moved as the unit roundoff and the seed say."""
        self._roundings, self._run = {}, (u, seed)
        try:
            yield
        finally:
            self._run = None

    def moved(self, place: Any, array: Array) -> Array:
        """What the operation of this number may have given where it gave ``array``."""
        if self._run is None:
            return array
        rounding = self._roundings.get(int(place))
        if rounding is None:
            rounding = self._roundings[int(place)] = Rounding(*self._run, KINDS, int(place))
        return rounding.result(self._kinds[int(place)], array)


def with_draws(graph: Any, draws: Draws) -> tuple[Mapping[str, str], Any]:
    """Put a call of ``draws`` behind each operation that rounds.

    Returns:
        Which tensor of the graph stands for which that was there, and what must live as long as the graph.
    """
    call = tf.function(lambda place, x: tf.numpy_function(draws.moved, [place, x], tf.float64))
    traced = call.get_concrete_function(tf.TensorSpec((), tf.int32), tf.TensorSpec(None, tf.float64))
    pattern = next(node for node in traced.graph.as_graph_def().node if node.op == "PyFunc")

    def moved(body: Body) -> Mapping[str, str]:
        for node in list(body.nodes):
            if KINDS.get(node.op) is not Kind.EXACT:
                _draw_behind(body, node, pattern, draws)
            if node.op in UNORDERED:
                cast = body.named(node.input[UNORDERED[node.op]])
                cast.input[0] = _drawn(body, node.op, cast.input[0], pattern, draws)
        return body.finish()

    redirected, *_ = [moved(body) for body in bodies(graph)]
    return redirected, traced


def _draw_behind(body: Body, node: Any, pattern: Any, draws: Draws) -> None:
    for reference, dtype in list(body.outputs(node)):
        if dtype == tf.float64.as_datatype_enum:
            body.redirect(reference, _drawn(body, node.op, reference, pattern, draws))


def _drawn(body: Body, operator: str, reference: str, pattern: Any, draws: Draws) -> str:
    """The tensor that stands for another one, moved as the results of the operator are."""
    name = reference.split(":")[0]
    place = body.add(
        "Const", f"{name}/place", [f"^{name}"], dtype=type_attribute(tf.int32),
        value=tensor_attribute(draws.place(operator), tf.int32),
    )  # fmt: skip
    moved = body.add("PyFunc", f"{name}/moved", [body.reference(place.name, "output"), reference])
    for key, value in pattern.attr.items():
        moved.attr[key].CopyFrom(value)
    return body.reference(moved.name, "output")
