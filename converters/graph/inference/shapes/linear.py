"""Sizes of products of matrices."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, broadcast, ranked
from netferry.converters.graph.ir.facts import Fact


@SHAPES.row("MatMul", "MatMulInteger")
def matmul(a: Fact, b: Fact, *_: Any) -> Dims:
    return _matmul(a.dims, b.dims)


@SHAPES.row("QLinearMatMul")
def qlinear_matmul(a: Fact, _s: Any, _z: Any, b: Fact, *_: Any) -> Dims:
    return _matmul(a.dims, b.dims)


def _matmul(a: Dims, b: Dims) -> Dims:
    if a is None or b is None:
        return None
    batch = broadcast(a[:-2], b[:-2]) or ()
    return (*batch, *a[-2:-1], *(b[-1:] if len(b) > 1 else ()))


@SHAPES.row("Gemm")
def gemm(a: Fact, b: Fact, c: Any = None, *, transA: int = 0, transB: int = 0, **_: Any) -> Dims:  # noqa: N803
    if a.dims is None or b.dims is None:
        return None
    return (a.dims[1 if transA else 0], b.dims[0 if transB else 1])


@SHAPES.row("Linear")
@ranked
def linear(x: Any, w: Any, b: Any = None) -> Dims:
    return (*x.dims[:-1], w.dims[1])
