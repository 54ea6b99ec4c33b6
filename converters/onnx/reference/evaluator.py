"""ONNX's reference evaluator as the verdict needs it: it lets go of what no later node reads, and can round by chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from netferry.converters.onnx.reference.kernels import kernels
from netferry.converters.rounding import Rounding, table, widened
from netferry.converters.signature import Array

KINDS = table(
    EXACT="""Abs ArgMax ArgMin Cast CastLike Ceil Clip Compress Concat ConcatFromSequence Constant ConstantOfShape
        DepthToSpace Dropout Expand EyeLike Flatten Floor Gather GatherElements GatherND GlobalMaxPool Identity If Loop
        Max MaxPool MaxRoiPool MaxUnpool Min Neg NonMaxSuppression OneHot Optional OptionalGetElement Pad ReduceMax
        ReduceMin Relu Reshape ReverseSequence Round Scan ScatterElements ScatterND SequenceAt SequenceConstruct
        SequenceInsert Sign Slice SpaceToDepth Split SplitToSequence Squeeze Tile TopK Transpose Trilu Unique Unsqueeze
        Where""",
    INEXACT="""Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu Log LogSoftmax Mish Pow Selu Sin Sinh
        Softplus Swish Tan Tanh""",
    BOUNDED="Sigmoid Softmax",
    SUM="""AffineGrid AveragePool BatchNormalization Col2Im Conv ConvTranspose CumSum DFT DeformConv Einsum Gemm
        GlobalAveragePool GlobalLpPool GridSample GroupNormalization InstanceNormalization LayerNormalization
        LpNormalization LpPool LRN MatMul MeanVarianceNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
        ReduceMean ReduceProd ReduceSum ReduceSumSquare Resize RMSNormalization RoiAlign RotaryEmbedding STFT Sum""",
    COMPOUND="Attention GRU LSTM RNN",
    DIVIDES_FIRST="QuantizeLinear QLinearConv QLinearMatMul",
    DIVIDES_BY_RANGE="DynamicQuantizeLinear",
)
"""What is not named rounds where its result does not fit the format."""

_ROUNDING: ContextVar[Rounding | None] = ContextVar("rounding", default=None)


class Evaluator:
    """A widened graph that runs; ``run(arrays)`` gives outputs by name, in order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        weights = {tensor.name for tensor in model.graph.initializer}
        self.inputs = [value.name for value in model.graph.input if value.name not in weights]
        self.outputs = [value.name for value in model.graph.output]
        self._evaluator = _Evaluator(model, new_ops=kernels())

    def run(self, arrays: Sequence[Array], rounding: Rounding | None = None) -> dict[str, Array]:
        """``arrays`` by position, floats in float64; with ``rounding`` every node's result is moved by it."""
        feed = dict(zip(self.inputs, map(widened, arrays), strict=True))
        with np.errstate(all="ignore"), _rounded(rounding):
            values = self._evaluator.run(None, feed)
        return dict(zip(self.outputs, map(np.asarray, values), strict=True))


@contextmanager
def _rounded(rounding: Rounding | None) -> Iterator[None]:
    token = _ROUNDING.set(rounding)
    try:
        yield
    finally:
        _ROUNDING.reset(token)


def _unlogged(*_: Any) -> None:
    """Nothing is told of a step."""


class _Evaluator(ReferenceEvaluator):
    """Runs node by node; graphs within and functions are run by evaluators of the same class."""

    def _init(self) -> None:
        super()._init()
        for node in self.rt_nodes_:
            _widen_attributes(node)
            node.run_params["log"] = (
                _unlogged  # its own holds the evaluator, and so the weights until Python looks for circles
            )
        self._last = self._last_readers()

    def _last_readers(self) -> list[list[str]]:
        """For each node, the values that no later node reads, and that are no outputs."""
        seen, last = set(self.output_names), []
        for node in reversed(self.rt_nodes_):
            names = set(node.output) | set(_read(node.onnx_node))
            last.append([name for name in names if name not in seen])
            seen |= names
        return last[::-1]

    def run(  # type: ignore[override]
        self,
        output_names: Any,
        feed_inputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
        intermediate: bool = False,
        **_checks: Any,
    ) -> Any:
        """As the evaluator's own, without its checks of shapes."""
        values: dict[str, Any] = {"": None} | self.rt_inits_ | feed_inputs
        rounding = _ROUNDING.get()
        for node, done in zip(self.rt_nodes_, self._last, strict=True):
            given = _run(node, values, attributes, rounding)
            values.update(zip(node.output, given, strict=False))
            if not intermediate:
                for name in done:
                    values.pop(name, None)
        return values if intermediate else [values[name] for name in output_names or self.output_names]


def _run(
    node: OpRun, values: Mapping[str, Any], attributes: dict[str, Any] | None, rounding: Rounding | None
) -> Sequence[Any]:
    read = [values[name] if name else None for name in node.input]
    options: dict[str, Any] = {}
    if node.has_linked_attribute and attributes:
        options["linked_attributes"] = attributes
    if node.need_context():
        options["context"] = dict(values)
    if rounding is None:
        return node.run(*read, **options)  # type: ignore[no-untyped-call, no-any-return]
    operator = node.onnx_node.op_type
    moved = [rounding.operand(operator, value) for value in read]
    given = node.run(*moved, **options)  # type: ignore[no-untyped-call]
    return [
        rounding.result(operator, np.asarray(value)) if isinstance(value, np.ndarray | np.floating) else value
        for value in given
    ]


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, those of the graphs within it too."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _read(inner)
            yield from (value.name for value in graph.output)


def _widen_attributes(node: OpRun) -> None:
    """A float attribute is a scalar of numpy's float32, in which numpy 2 computes whatever it meets."""
    for name in node.attributes_names_:
        value = getattr(node, name, None)
        if isinstance(value, np.floating):
            setattr(node, name, float(value))
        elif (
            isinstance(value, np.ndarray)
            and value.dtype in (np.float16, np.float32)
            and node.op_type != "Constant"
        ):
            setattr(node, name, value.astype(np.float64))
