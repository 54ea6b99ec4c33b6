"""The table of torch functions: products."""

from __future__ import annotations

from typing import Any

import torch

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import reversed_
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row


@row("matmul", "bmm", "mm", "mv", "dot")
def matmul(e: Emitter, input: Tensor, other: Tensor) -> Tensor:
    return e.g.MatMul(e.cast(input, e.dtype), e.cast(other, e.dtype))


row("rmatmul")(reversed_(matmul))


@row("linear")
def linear(e: Emitter, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b; a matrix goes through Gemm with the weight as it is."""
    if weight.rank == 2 and input.rank == 2 and input.dtype.kind == "f":
        return e.g.Gemm(input, weight, bias, transB=1)
    base, wrap = e.beneath(input, trailing=1)
    product = e.g.MatMul(base, e.transpose(weight, (1, 0)) if weight.rank == 2 else weight)
    return wrap(product if bias is None else e.g.Add(product, bias))


@row(torch.einsum)
def einsum(e: Emitter, equation: str, *operands: Any) -> Tensor:
    tensors = operands[0] if isinstance(operands[0], list | tuple) else operands
    return e.g.Einsum(*(e.cast(x, e.dtype) for x in tensors), equation=equation.replace(" ", ""))


@row("outer", "ger")
def outer(e: Emitter, input: Tensor, vec2: Tensor) -> Tensor:
    column = e.g.Unsqueeze(e.cast(input, e.dtype), e.g.ints(1))
    return e.g.Mul(column, e.cast(vec2, e.dtype))
