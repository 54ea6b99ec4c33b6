"""Complex numbers, which ONNX's operators do not compute with: each is written as its two parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.graph import Node
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.walk import STRUCTURES, Complex, Walk

BY_PARTS = frozenset(
    "AddN AddV2 Add BroadcastTo ConcatV2 Cumsum ExpandDims Fill GatherNd GatherV2 Mean MirrorPad Neg Pack Pad Reshape ReverseV2 "
    "Roll Slice Split SplitV Squeeze StridedSlice Sub Sum Tile Transpose Unpack ZerosLike".split()
)
"""Operators that do with complex numbers what they do with each of their parts."""


@STRUCTURES.row("complex")
def computed(walk: Walk, node: Node, read: Sequence[Any]) -> Sequence[Any]:
    """An operator of which one input is complex."""
    if node.operator in BY_PARTS:
        parts = [walk.row(node, [_part(walk, each, part) for each in read]) for part in ("real", "imaginary")]
        return [Complex(real, imaginary) for real, imaginary in zip(*parts, strict=True)]
    if node.operator in _MATRICES:
        return [_matrix_product(walk, node, read)]
    row = _ARITHMETIC.get(node.operator)
    if row is None:
        raise CannotConvert("it computes with complex numbers, which ONNX's operators do not")
    return [row(walk.g, *(_complex(walk, each) for each in read))]


def _part(walk: Walk, value: Any, part: str) -> Tensor | None:
    """A part of a number; what is not complex takes part as it is (sizes, axes)."""
    return getattr(value, part) if isinstance(value, Complex) else walk.tensor(value)


def _complex(walk: Walk, value: Any) -> Complex:
    if isinstance(value, Complex):
        return value
    x = walk.tensor(value)
    assert x is not None
    return Complex(x, walk.g.Mul(x, walk.g.like(0, x)))


def _product(g: Emitter, x: Complex, y: Complex) -> Complex:
    real = g.Sub(g.Mul(x.real, y.real), g.Mul(x.imaginary, y.imaginary))
    return Complex(real, g.Add(g.Mul(x.real, y.imaginary), g.Mul(x.imaginary, y.real)))


_MATRICES = frozenset("MatMul BatchMatMul BatchMatMulV2 BatchMatMulV3".split())


def _matrix_product(walk: Walk, node: Node, read: Sequence[Any]) -> Complex:
    """Of the parts; what is turned round as an adjoint is conjugated, too."""
    g = walk.g
    a = Attrs(node.attributes, node.name)
    x, y = (
        _conjugate(g, _complex(walk, each)) if a.flag(adjoint) else _complex(walk, each)
        for each, adjoint in zip(read, ("adj_x", "adj_y"), strict=True)
    )

    def product(one: Tensor, other: Tensor) -> Tensor:
        (made,) = walk.row(node, [one, other])
        found: Tensor = made
        return found

    real = g.Sub(product(x.real, y.real), product(x.imaginary, y.imaginary))
    return Complex(real, g.Add(product(x.real, y.imaginary), product(x.imaginary, y.real)))


def _quotient(g: Emitter, x: Complex, y: Complex) -> Complex:
    size = g.Add(g.Mul(y.real, y.real), g.Mul(y.imaginary, y.imaginary))
    above = _product(g, x, _conjugate(g, y))
    return Complex(g.Div(above.real, size), g.Div(above.imaginary, size))


def _conjugate(g: Emitter, x: Complex) -> Complex:
    return Complex(x.real, g.Neg(x.imaginary))


def _magnitude(g: Emitter, x: Complex) -> Tensor:
    return g.Sqrt(g.Add(g.Mul(x.real, x.real), g.Mul(x.imaginary, x.imaginary)))


def _exponential(g: Emitter, x: Complex) -> Complex:
    size = g.Exp(x.real)
    return Complex(g.Mul(size, g.Cos(x.imaginary)), g.Mul(size, g.Sin(x.imaginary)))


def _angle(g: Emitter, x: Complex) -> Any:
    return ROWS["Atan2"](g, None, x.imaginary, x.real)


def _logarithm(g: Emitter, x: Complex) -> Complex:
    return Complex(g.Log(_magnitude(g, x)), _angle(g, x))


def _real(_: Emitter, x: Complex) -> Tensor:
    return x.real


def _imaginary(_: Emitter, x: Complex) -> Tensor:
    return x.imaginary


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Angle": _angle,
    "ComplexAbs": _magnitude,
    "Conj": _conjugate,
    "Exp": _exponential,
    "Log": _logarithm,
    "Mul": _product,
    "RealDiv": _quotient,
    "Square": lambda g, x: _product(g, x, x),
    "Real": _real,
    "Imag": _imaginary,
}


@STRUCTURES.row("Complex")
def made(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    real, imaginary = map(walk.tensor, read)
    assert real is not None
    assert imaginary is not None
    return [Complex(real, imaginary)]


@STRUCTURES.row("Cast")
def cast(walk: Walk, node: Node, read: Sequence[Any]) -> Sequence[Any]:
    """Of a complex number, the real part becomes a real one."""
    (x,) = read
    wanted = Attrs(node.attributes, node.name).dtype("DstT")
    if wanted.kind == "c":
        parts = _complex(walk, x)
        half = np.dtype(f"f{wanted.itemsize // 2}")
        return [Complex(walk.g.cast(parts.real, half), walk.g.cast(parts.imaginary, half))]
    return walk.row(node, [x.real if isinstance(x, Complex) else walk.tensor(x)])


# ---- Fourier transforms along the last axes ----------------------------------------------------------


def _transformed(
    g: Emitter, pairs: Tensor, axis: int = -1, inverse: bool = False, onesided: bool = False
) -> Tensor:
    """``pairs``: (..., n, 1 or 2); ``axis`` is counted without the last."""
    return g.DFT(pairs, None, g.constant(axis - 1, np.int64), inverse=int(inverse), onesided=int(onesided))


def _pairs(g: Emitter, x: Complex) -> Tensor:
    return g.Concat(g.Unsqueeze(x.real, g.ints(-1)), g.Unsqueeze(x.imaginary, g.ints(-1)), axis=-1)


def _parts(g: Emitter, pairs: Tensor) -> Complex:
    return Complex(*(g.Gather(pairs, g.constant(part, np.int64), axis=-1) for part in (0, 1)))


def _fitted(g: Emitter, x: Tensor, length: int, axis: int) -> Tensor:
    """The first ``length`` along an axis counted from the end, zeros where there are fewer."""
    size = x.size(x.rank + axis)
    if size > length:
        return g.Slice(x, g.ints(0), g.ints(length), g.ints(axis))
    behind = [length - size if place == x.rank + axis else 0 for place in range(x.rank)]
    return x if size == length else g.Pad(x, g.ints(*[0] * x.rank, *behind))


def _lengths(g: Emitter, x: Tensor) -> dict[int, int]:
    """How long the transform is along each of the last axes."""
    lengths = g.numbers(x, "lengths of the transform")
    return dict(zip(range(-len(lengths), 0), lengths, strict=True))


@STRUCTURES.row("RFFT", "RFFT2D", "RFFT3D")
def real_to_half(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """Half of the last axis, then the whole of those before."""
    g, (x, lengths) = walk.g, map(walk.tensor, read)
    assert x is not None
    assert lengths is not None
    for axis, length in _lengths(g, lengths).items():
        x = _fitted(g, x, length, axis)
    pairs = _transformed(g, g.Unsqueeze(x, g.ints(-1)), onesided=True)
    for axis in list(_lengths(g, lengths))[-2::-1]:
        pairs = _transformed(g, pairs, axis)
    return [_parts(g, pairs)]


@STRUCTURES.row("IRFFT", "IRFFT2D", "IRFFT3D")
def half_to_real(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    """What mirrors the half is written out: ONNX has the whole inverse only. The axes before the last come first."""
    g, x, lengths = walk.g, _complex(walk, read[0]), walk.tensor(read[1])
    assert lengths is not None
    *before, (last, whole) = _lengths(g, lengths).items()
    half = whole // 2 + 1
    for axis, length in (*before, (last, half)):
        x = Complex(_fitted(g, x.real, length, axis), _fitted(g, x.imaginary, length, axis))
    for axis, _ in before:
        x = _parts(g, _transformed(g, _pairs(g, x), axis, inverse=True))
    mirror = g.ints(*range(whole - half, 0, -1))
    rest = _conjugate(g, Complex(*(g.Gather(part, mirror, axis=-1) for part in (x.real, x.imaginary))))
    full = Complex(g.Concat(x.real, rest.real, axis=-1), g.Concat(x.imaginary, rest.imaginary, axis=-1))
    return [_parts(g, _transformed(g, _pairs(g, full), inverse=True)).real]


@STRUCTURES.row("FFT", "IFFT", "FFT2D", "IFFT2D", "FFT3D", "IFFT3D")
def transformed(walk: Walk, node: Node, read: Sequence[Any]) -> list[Any]:
    pairs = _pairs(walk.g, _complex(walk, read[0]))
    axes = int(node.operator[-2]) if node.operator.endswith("D") else 1
    for axis in range(-axes, 0):
        pairs = _transformed(walk.g, pairs, axis, inverse=node.operator.startswith("I"))
    return [_parts(walk.g, pairs)]
