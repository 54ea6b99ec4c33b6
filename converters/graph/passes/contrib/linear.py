"""Products of matrices with what has been fused into them, and weights of a few bits."""

# ruff: noqa: N803 - attributes have the names of their schemas

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ops.table import choice
from netferry.converters.graph.passes.contrib.activations import activated
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer
from netferry.converters.signature import Array


@opens("FusedMatMul")
def fused_matmul(
    g: Writer,
    a: Value,
    b: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Value:
    """alpha * A B. ``transBatch`` brings the first axis behind the others but the last, ``trans`` swaps the last two."""
    y = g.MatMul(_turned(g, a, transA, transBatchA), _turned(g, b, transB, transBatchB))
    return y if alpha == 1 else g.Mul(y, g.scalar(alpha, y))


@opens("TransposeMatMul")
def transpose_matmul(
    g: Writer, a: Value, b: Value, *, alpha: float = 1.0, transA: int = 0, transB: int = 0
) -> Value:
    return fused_matmul(g, a, b, alpha=alpha, transA=transA, transB=transB)


@opens("FusedMatMulActivation")
def fused_matmul_activation(
    g: Writer,
    a: Value,
    b: Value,
    *,
    activation: str,
    activation_alpha: float | None = None,
    activation_axis: int | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Value:
    y = fused_matmul(
        g, a, b, alpha=alpha, transA=transA, transB=transB, transBatchA=transBatchA, transBatchB=transBatchB
    )
    if activation == "Softmax":
        return g.Softmax(y, axis=-1 if activation_axis is None else activation_axis)
    return activated(
        g, activation, y, {"alpha": activation_alpha, "beta": activation_beta, "gamma": activation_gamma}
    )


@opens("FusedGemm")
def fused_gemm(
    g: Writer,
    a: Value,
    b: Value,
    c: Maybe = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    y = g.Gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return activated(
        g, activation, y, {"alpha": activation_alpha, "beta": activation_beta, "gamma": activation_gamma}
    )


@opens("GemmFastGelu")
def gemm_fast_gelu(g: Writer, x: Value, w: Value, bias: Maybe = None) -> Value:
    y = g.MatMul(x, w)
    return g.Gelu(y if bias is None else g.Add(y, bias), approximate="tanh")


def _turned(g: Writer, x: Value, last: int, batch: int) -> Value:
    """A vector has nothing to turn."""
    rank = g.rank(x)
    if rank < 2 or not (last or batch):
        return x
    order = [*range(1, rank - 1), 0, rank - 1] if batch else list(range(rank))
    if last:
        order[-2], order[-1] = order[-1], order[-2]
    return g.transpose(x, order)


# ---- weights of a few bits ------------------------------------------------------------------------------

BITS = (2, 4, 8)
"""How many bits a weight may have; each is a byte of its own in what is written, as no target computes in fewer."""


def unpacked(packed: Array, bits: int) -> Array:
    """Bytes as the numbers that they hold, the lowest bits first, along the last axis; one a byte."""
    if bits == 8:
        return packed.view(np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    each = (packed.view(np.uint8)[..., None] >> shifts) & ((1 << bits) - 1)
    return np.asarray(each.reshape(*packed.shape[:-1], packed.shape[-1] * len(shifts)), np.uint8)


@opens("MatMulNBits", weight_prepacked=0)
def matmul_nbits(
    g: Writer,
    a: Value,
    b: Value,
    scales: Value,
    zero_points: Maybe = None,
    g_idx: Maybe = None,
    bias: Maybe = None,
    *,
    K: int,
    N: int,
    block_size: int,
    accuracy_level: int = 0,
    bits: int = 4,
) -> Value:
    """A W^T + bias, where W (N, K) is (B - zero point) * scale, with a scale for each block of K: the one that ``g_idx`` (K)
    names for each column of W, or else ``block_size`` side by side.

    B: (N, blocks, block_size * bits / 8) bytes; scales: N * blocks; zero points: packed as B is along the blocks of
    each row, or of A's dtype and one for each scale; ``2**(bits - 1)`` where there are none. ``accuracy_level`` allows a
    kernel to compute more coarsely and means nothing else.
    """
    choice(bits, BITS, "bits")
    blocks = math.ceil(K / block_size)
    whole = unpacked(g.content(b, "its weight"), bits).reshape(N, -1)[:, :K]
    scale = g.reshape(scales, N, blocks)
    zero, ahead = _zero_points(g, zero_points, (N, blocks), bits)
    groups = None if g_idx is None else g.content(g_idx, "its g_idx")[:K]
    if groups is not None and not np.array_equal(groups, np.arange(K) // block_size):
        if groups.min() < 0 or groups.max() >= blocks:
            raise CannotConvert(f"its g_idx names blocks outside 0 to {blocks - 1}")
        if zero_points is not None and ahead is None:
            raise CannotConvert(
                "its g_idx comes with zero points in bytes, which onnxruntime's kernel passes over and its schema does not"
            )
        place, block_size = g.constant(groups.astype(np.int64), of=g_idx), 1
        scale = g.Gather(scale, place, axis=1)
        zero, ahead = (None if x is None else g.Gather(x, place, axis=1) for x in (zero, ahead))
    w = g.DequantizeLinear(g.constant(whole, of=b), scale, zero, axis=1, block_size=block_size)
    if ahead is not None:
        lift = _spread(g, g.Mul(ahead, scale), K, block_size)
        w = g.Sub(w, lift)
    y = g.MatMul(a, g.Transpose(w, perm=[1, 0]))
    return y if bias is None else g.Add(y, bias)


def _zero_points(g: Writer, given: Maybe, shape: Sequence[int], bits: int) -> tuple[Maybe, Maybe]:
    """The zero points as integers, or as floats that no integer holds."""
    if given is None:
        return g.constant(np.full(shape, 1 << (bits - 1), np.uint8)), None
    if g.dtype(given) == np.uint8:
        held = unpacked(g.content(given, "its zero points").reshape(shape[0], -1), bits)
        return g.constant(held[:, : shape[1]], of=given), None
    return None, g.reshape(given, *shape)


def _spread(g: Writer, x: Value, count: int, block_size: int) -> Value:
    """(N, blocks) as (N, K): each as often as its block is long."""
    rows, blocks = (g.known(x, axis, "the number of blocks") for axis in (0, 1))
    wide = g.Expand(g.unsqueeze(x, 2), g.ints(rows, blocks, block_size))
    return g.slice(g.reshape(wide, rows, blocks * block_size), 1, 0, count)


@opens("GatherBlockQuantized")
def gather_block_quantized(
    g: Writer,
    data: Value,
    indices: Value,
    scales: Value,
    zero_points: Maybe = None,
    *,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> Value:
    """Rows of a table that is quantised in blocks: gathered as integers, with their scales, and dequantised then."""
    rank = g.rank(data)
    gather, along = gather_axis % rank, quantize_axis % rank
    parts = [_as_bytes(g, data), scales, None if zero_points is None else _as_bytes(g, zero_points)]
    if g.dtype(data) == np.uint8:
        parts = _of_bytes(g, data, scales, zero_points, bits)
    if gather == along or g.floats:
        whole = g.DequantizeLinear(*parts, axis=along, block_size=block_size)
        return g.Gather(whole, indices, axis=gather)
    rows = [None if part is None else g.Gather(part, indices, axis=gather) for part in parts]
    behind = along + g.rank(indices) - 1 if along > gather else along
    return g.DequantizeLinear(*rows, axis=behind, block_size=block_size)


def _of_bytes(g: Writer, data: Value, scales: Value, zeros: Maybe, bits: int) -> list[Any]:
    """What is packed into bytes along the last axis, as integers of ``bits``, with the zero points that go without saying."""
    choice(bits, BITS, "bits")
    whole = unpacked(g.content(data, "its table"), bits)
    if zeros is None:
        shape = [g.known(scales, axis, "the shape of its scales") for axis in range(g.rank(scales))]
        middle = np.full(shape, 1 << (bits - 1), np.uint8)
    else:
        last = g.known(scales, -1, "the number of blocks")
        middle = unpacked(g.content(zeros, "its zero points"), bits)[..., :last]
    return [g.constant(whole, of=data), scales, g.constant(middle, of=zeros)]


def _as_bytes(g: Writer, x: Value) -> Value:
    """Integers of four bits, one a byte; floats of few bits are as they are."""
    held = g.content(x, "its table")
    if held.dtype in (np.int8, np.uint8) or "float" in held.dtype.name:
        return x
    return g.constant(held.astype(np.uint8 if held.dtype.name.startswith("u") else np.int8), of=x)
