"""Operators of ONNX's reference evaluator that are wrong, slow or missing in float64, as the standard defines them.

PyTorch's double kernels compute them where it is installed (``converters/pytorch/kernels.py``); what has no such
kernel stays with the evaluator, which is slower. Erf alone is mended in any case: the evaluator's is in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from netferry.converters import frameworks
from netferry.converters.graph.schema import padding
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.onnx.reference.control_flow import Scan
from netferry.converters.onnx.reference.convolution import convolved, torch_kernels, wide
from netferry.converters.onnx.reference.integers import (
    ConvInteger,
    DequantizeLinear,
    MatMulInteger,
    QLinearConv,
    QLinearMatMul,
)
from netferry.converters.onnx.reference.recurrent import recurrence
from netferry.converters.onnx.reference.signals import STFT, Pad
from netferry.converters.signature import Array


def kernels() -> list[type[OpRun]]:
    """What ``ReferenceEvaluator`` is given as ``new_ops``."""
    return [*ALWAYS, *(WITH_TORCH if frameworks.named("pytorch").installed else ())]


class Erf(OpRun):
    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        if frameworks.named("pytorch").installed:
            return (np.asarray(torch_kernels().erf(wide(x))),)
        return (np.vectorize(math.erf, otypes=[np.float64])(x),)


class Pow(OpRun):
    """Squares and cubes as products: numpy's power is forty times slower."""

    op_domain = ""

    def _run(self, x: Array, y: Array) -> tuple[Array]:
        times = y.item() if y.size == 1 and y.ndim <= x.ndim and x.dtype == np.float64 else 0
        if times not in (2, 3):
            return (np.power(x, y).astype(x.dtype),)
        squares = x * x
        return (squares if times == 2 else squares * x,)


class Gelu(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, approximate: str = "none") -> tuple[Array]:  # type: ignore[override]
        """The evaluator opens this into a body whose Erf is its own."""
        if approximate == "tanh":
            return (0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        (value,) = Erf(self.onnx_node, self.run_params)._run(x / np.sqrt(2))
        return (0.5 * x * (1 + value),)


class Inverse(OpRun):
    """Of netferry's own domain: the standard has none."""

    op_domain = "netferry"

    def _run(self, x: Array) -> tuple[Array]:
        return (np.linalg.inv(x),)


class GatherElements(OpRun):
    """The evaluator's fails where the data has one row."""

    op_domain = ""

    def _run(self, data: Array, indices: Array, *, axis: int = 0) -> tuple[Array]:  # type: ignore[override]
        axis %= data.ndim
        part = [slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape)]
        return (np.take_along_axis(data[tuple(part)], indices % data.shape[axis], axis),)


class RMSNormalization(OpRun):
    """The evaluator's refuses a computation in float64."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, **_stash: int
    ) -> tuple[Array]:
        axes = tuple(range(axis % x.ndim, x.ndim))
        return (x / np.sqrt(np.mean(x * x, axes, keepdims=True) + epsilon) * scale,)


class GroupNormalization(OpRun):
    """The evaluator opens this into a body that computes in float32, whatever the input is."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, scale: Array, bias: Array, *, num_groups: int, epsilon: float = 1e-5, **_stash: int
    ) -> tuple[Array]:
        groups = x.reshape(x.shape[0], num_groups, -1)
        mean, variance = groups.mean(2, keepdims=True), groups.var(2, keepdims=True)
        y = ((groups - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
        by_channel = (-1, *[1] * (x.ndim - 2))
        return (y * scale.reshape(by_channel) + bias.reshape(by_channel),)


class _Recurrent(OpRun):
    op_domain = ""

    def _run(self, *inputs: Array, **attributes: Any) -> tuple[Array, ...]:
        return recurrence(type(self).__name__, inputs, attributes)


class LSTM(_Recurrent): ...


class GRU(_Recurrent): ...


class RNN(_Recurrent): ...


class Conv(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, w: Array, b: Array | None = None, *, group: int = 1, **attributes: Any
    ) -> tuple[Array]:
        return (convolved(x, w, b, group, attributes),)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override]
        self,
        x: Array,
        w: Array,
        b: Array | None = None,
        *,
        group: int = 1,
        output_padding: Sequence[int] | None = None,
        output_shape: Sequence[int] | None = None,
        **attributes: Any,
    ) -> tuple[Array]:
        windows = Windows.of("ConvTranspose", (x, w), attributes)
        extra = list(output_padding or [0] * windows.rank)
        cut = padding.onnx_pads(windows.cut_off(x.shape[2:], extra, output_shape))
        made = torch_kernels().conv_transpose(
            wide(x),
            wide(w),
            None if b is None else wide(b),
            windows.strides,
            cut,
            windows.dilations,
            group or 1,
            extra,
        )
        return (made,)


class MaxPool(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, storage_order: int = 0, **attributes: Any) -> tuple[Array, ...]:  # type: ignore[override]
        windows = Windows.of("MaxPool", (x,), attributes)
        pads = _pads(windows, x)
        y, indices = torch_kernels().max_pool(
            wide(x), windows.kernel, windows.strides, pads, windows.dilations
        )
        y = y.astype(x.dtype)
        if len(self.onnx_node.output) == 1:
            return (y,)
        if storage_order:
            raise NotImplementedError("indices that count columns first")
        return y, _flat_indices(indices, x.shape, pads)


def _flat_indices(indices: Array, shape: Sequence[int], pads: Sequence[int]) -> Array:
    """Indices in a padded image (batch, channels, *space), as indices in the whole tensor as it was."""
    rank = len(shape) - 2
    padded = [size + pads[i] + pads[rank + i] for i, size in enumerate(shape[2:])]
    own = [index - pads[i] for i, index in enumerate(np.unravel_index(indices, padded))]
    images = np.arange(math.prod(shape[:2])).reshape(*shape[:2], *[1] * rank)
    return np.asarray(
        images * math.prod(shape[2:]) + np.ravel_multi_index(own, shape[2:], mode="clip"), np.int64
    )


class AveragePool(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, count_include_pad: int = 0, **attributes: Any) -> tuple[Array]:  # type: ignore[override]
        windows = Windows.of("AveragePool", (x,), attributes)
        sums = _sums(windows, x, _pads(windows, x))
        ones = np.ones((1, 1, *x.shape[2:]))
        if not count_include_pad:
            return (sums / _sums(windows, ones, _pads(windows, x)),)
        axes = windows.over(x.shape[2:])
        ones = np.pad(ones, [(0, 0), (0, 0), *((w.before, w.after) for w in axes)], constant_values=1)
        beyond = [0] * len(axes) + [
            w.missing for w in axes
        ]  # what ceil_mode adds at the end is never counted
        return (sums / _sums(windows, ones, beyond),)


class GlobalAveragePool(OpRun):
    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.mean(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GlobalMaxPool(OpRun):
    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        """The evaluator's own takes other axes where there are not two of space."""
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class HardSwish(OpRun):
    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        """The evaluator's own has a sixth in float32, which no kernel has."""
        return (x * np.clip(x / 6 + 0.5, 0, 1),)


class LpPool(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, p: int = 2, **attributes: Any) -> tuple[Array]:  # type: ignore[override]
        windows = Windows.of("LpPool", (x,), attributes)
        return (_sums(windows, np.abs(wide(x)) ** p, _pads(windows, x)) ** (1 / p),)


class GlobalLpPool(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, p: int = 2) -> tuple[Array]:  # type: ignore[override]
        return ((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class LpNormalization(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, axis: int = -1, p: int = 2) -> tuple[Array]:  # type: ignore[override]
        """The evaluator's own leaves the sign in a norm of one."""
        norm = (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
        return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0),)


class MeanVarianceNormalization(OpRun):
    op_domain = ""

    def _run(self, x: Array, *, axes: Sequence[int] = (0, 2, 3)) -> tuple[Array]:  # type: ignore[override]
        """The evaluator opens this into a body whose constants are in float32."""
        centred = x - x.mean(tuple(axes), keepdims=True)
        return (centred / (np.sqrt((centred**2).mean(tuple(axes), keepdims=True)) + 1e-9),)


class Resize(OpRun):
    op_domain = ""

    def _run(
        self, x: Array, roi: Any = None, scales: Any = None, sizes: Any = None, **attributes: Any
    ) -> Any:
        """Three things are as ONNX's page and runtimes have them: where corners are aligned the step is made of whole
        sizes; where elements are picked their positions are computed in float32; and ``pytorch_half_pixel`` looks at the
        first element of an axis of which one is left.
        """
        from onnx.reference.ops.op_resize import Resize as Own

        axes = [axis % x.ndim for axis in attributes.get("axes") or range(x.ndim)]
        coordinates = attributes.get("coordinate_transformation_mode", "half_pixel")
        if scales is not None and len(scales):
            lengths = [
                math.floor(np.float32(x.shape[a]) * np.float32(s)) for a, s in zip(axes, scales, strict=True)
            ]
            if attributes.get("mode", "nearest") == "nearest" and coordinates in _LOOKS:
                return (_picked(x, axes, lengths, scales, attributes),)
            scales = scales.astype(np.float64)
            if coordinates == "align_corners":
                scales, sizes = None, np.asarray(lengths)
        own: Any = Own(self.onnx_node, self.run_params)
        stretched = attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        if coordinates == "pytorch_half_pixel" and stretched:
            single = np.asarray(lengths if sizes is None or not len(sizes) else sizes) == 1
            if single.any():
                first = {
                    "coordinate_transformation_mode": "asymmetric",
                    "axes": np.array(axes)[single].tolist(),
                }
                (x,) = own._run(x, None, None, np.ones(single.sum(), np.int64), **attributes | first)
                attributes = attributes | {"axes": np.array(axes)[~single].tolist()}
                scales, sizes = (None if given is None else given[~single] for given in (scales, sizes))
            if single.all():
                return (x,)
        return own._run(x, roi, scales, sizes, **attributes)


_HALF = np.float32(0.5)
_LOOKS: dict[str, Callable[[Array, np.float32, int], Array]] = {
    "asymmetric": lambda y, scale, _: y / scale,
    "half_pixel": lambda y, scale, _: (y + _HALF) / scale - _HALF,
    "pytorch_half_pixel": lambda y, scale, _: (y + _HALF) / scale - _HALF if len(y) > 1 else y * 0,
    "align_corners": lambda y, _, size: y * np.float32(size - 1) / np.float32(max(len(y) - 1, 1)),
}
_PICKS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda at: np.ceil(at - _HALF), "round_prefer_ceil": lambda at: np.floor(at + _HALF),
    "floor": np.floor, "ceil": np.ceil,
}  # fmt: skip


def _picked(
    x: Array, axes: Sequence[int], lengths: Sequence[int], scales: Array, attributes: Mapping[str, Any]
) -> Array:
    """The element of ``x`` that each output element copies, axis by axis."""
    look = _LOOKS[attributes.get("coordinate_transformation_mode", "half_pixel")]
    pick = _PICKS[attributes.get("nearest_mode", "round_prefer_floor")]
    for axis, length, scale in zip(axes, lengths, scales.astype(np.float32), strict=True):
        if scale != 1:
            size = x.shape[axis]
            positions = pick(look(np.arange(length, dtype=np.float32), scale, size)).clip(0, size - 1)
            x = np.take(x, positions.astype(np.int64), axis)
    return x


class GridSample(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override]
        self,
        x: Array,
        grid: Array,
        *,
        align_corners: int = 0,
        mode: str = "linear",
        padding_mode: str = "zeros",
    ) -> tuple[Array]:
        """The evaluator's own takes other neighbours at a border that is continued."""
        return (torch_kernels().grid_sample(wide(x), wide(grid), mode, padding_mode, bool(align_corners)),)


class LRN(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int
    ) -> tuple[Array]:
        return (torch_kernels().lrn(wide(x), size, alpha, beta, bias),)


class DynamicQuantizeLinear(OpRun):
    op_domain = ""

    def _run(self, x: Array) -> tuple[Array, Array, Array]:
        """The evaluator's own rounds the scale to float32, whatever the input is."""
        low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
        scale = (high - low) / 255 if high > low else 1.0
        zero = np.clip(np.rint(-low / scale), 0, 255)
        y = np.clip(np.rint(x / scale) + zero, 0, 255)
        return y.astype(np.uint8), np.asarray(scale, x.dtype), zero.astype(np.uint8)


ALWAYS: tuple[type[OpRun], ...] = (
    STFT, Pad, Erf, Gelu, HardSwish, LSTM, GRU, RNN, GlobalAveragePool, GlobalMaxPool, GlobalLpPool, LpNormalization,
    MeanVarianceNormalization, Resize, DynamicQuantizeLinear, DequantizeLinear, GatherElements, GroupNormalization, Inverse, RMSNormalization,
    MatMulInteger, QLinearMatMul, Pow, Scan,
)  # fmt: skip
WITH_TORCH: tuple[type[OpRun], ...] = (
    Conv,
    ConvTranspose,
    MaxPool,
    AveragePool,
    LpPool,
    LRN,
    GridSample,
    ConvInteger,
    QLinearConv,
)


def _pads(windows: Windows, x: Array) -> list[int]:
    """Pads as ONNX writes them, with what ceil_mode adds at the end."""
    return padding.onnx_pads([(w.before, w.after + w.missing) for w in windows.over(x.shape[2:])])


def _sums(windows: Windows, x: Array, pads: Sequence[int]) -> Array:
    return np.asarray(
        torch_kernels().sum_pool(wide(x), windows.kernel, windows.strides, pads, windows.dilations)
    )
