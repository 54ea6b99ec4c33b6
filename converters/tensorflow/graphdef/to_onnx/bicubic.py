"""TensorFlow's bicubic resizing: its weights come from a table of 1024 steps, which no Resize of ONNX has.

Formula: ``InitCoeffsTable`` and ``GetWeightsAndIndices`` of TensorFlow's ``resize_bicubic_op.cc``.
"""

from __future__ import annotations

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter

_STEPS = 1024
_F = np.float32


@ROWS.row("ResizeBicubic")
def resize_bicubic(g: Emitter, a: Attrs, x: Tensor, size: Tensor) -> Tensor:
    """x: (batch, height, width, channels). A product with one matrix an axis, of the sizes that they have."""
    wanted = g.numbers(size, "size of the result")
    half, corners = a.flag("half_pixel_centers"), a.flag("align_corners")
    first = g.transpose(g.cast(x, _F), layout.channels_first(4))
    sizes = [g.size_of(first, axis) for axis in (2, 3)]
    if not all(isinstance(one, int) for one in sizes):
        raise CannotConvert(
            "TensorFlow's cubic weights are a table, and its input has free sizes",
            "Fix its height and width (--fix)",
        )
    rows, columns = (matrix(own, out, half, corners) for own, out in zip(sizes, wanted, strict=True))
    y = g.MatMul(g.MatMul(g.constant(rows), first), g.constant(columns.T))
    return g.transpose(y, layout.channels_last(4))


def matrix(size: int, out: int, half: bool, corners: bool) -> Array:
    """(out, size): what each place of the result takes of each place of the input."""
    scale = _F(size - 1) / _F(out - 1) if corners and out > 1 else _F(size) / _F(out)
    place = np.arange(out, dtype=_F)
    at = (place + _F(0.5)) * scale - _F(0.5) if half else place * scale
    base = np.floor(at)
    offset = np.rint((at - base) * _F(_STEPS)).astype(np.int64)
    near, far = _tables(-0.5 if half else -0.75)
    weights = np.stack([far[offset], near[offset], near[_STEPS - offset], far[_STEPS - offset]], 1)
    reads = base.astype(np.int64)[:, None] + np.arange(-1, 3)
    if half:  # what lies outside does not count
        weights = np.where((reads >= 0) & (reads < size), weights, 0)
        weights = weights / weights.sum(1, keepdims=True)
    made = np.zeros((out, size), _F)
    np.add.at(made, (np.arange(out)[:, None], reads.clip(0, size - 1)), weights.astype(_F))
    return made


def _tables(a: float) -> tuple[Array, Array]:
    """The cubic kernel from 0 to 1, and from 1 to 2."""
    x = np.arange(_STEPS + 1) / _STEPS
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    x = x + 1
    return near.astype(_F), (((a * x - 5 * a) * x + 8 * a) * x - 4 * a).astype(_F)
