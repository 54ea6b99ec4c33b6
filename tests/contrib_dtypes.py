"""onnxruntime's own operators at the further dtypes of its CPU kernels: what ``contrib_cases`` leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from contrib_cases import Case, Weight, maker
from onnx import TensorProto

PLAIN = (
    np.float16,
    np.float64,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
)
BFLOAT16 = {"narrow": TensorProto.BFLOAT16, "widened": TensorProto.FLOAT}
EIGHT_BITS = (
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e4m3fnuz,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float8_e5m2fnuz,
    ml_dtypes.float4_e2m1fn,
)
FEW_BITS = (ml_dtypes.int4, ml_dtypes.uint4, np.int16, np.uint16)


def _drawn(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if np.dtype(dtype) == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype)
    info = ml_dtypes.iinfo(dtype)
    return rng.integers(max(info.min, -1000), min(info.max, 1000) + 1, shape).astype(dtype)


def _named(dtype: Any) -> str:
    return np.dtype(dtype).name


@maker
def moved(rng: np.random.Generator, size: int) -> Iterator[Case]:
    n = 3 + size
    for dtype in PLAIN:
        x = _drawn(rng, dtype, 2, n, 4)
        yield Case("ExpandDims", [x, Weight(np.asarray(1, np.int32))], note=_named(dtype))
        for places in (np.int32, np.int64):
            indices = rng.integers(0, 2, (3, 1)).astype(places)
            yield Case("GatherND", [x, indices], note=f"{_named(dtype)}_{_named(places)}")
    yield Case("Trilu", [_drawn(rng, np.int64, 2, n, 4)], note="int64")
    x = (rng.standard_normal((2, n, n)) + 5 * np.eye(n)).astype(np.float16)
    yield Case("Inverse", [x], note="float16")


@maker
def normalised(rng: np.random.Generator, size: int) -> Iterator[Case]:
    width = (8, 12)[size]
    for held, more in ((np.float16, {}), (ml_dtypes.bfloat16, BFLOAT16)):
        fed = np.float32 if more else held
        x, skip = (_drawn(rng, fed, 2, 3 + size, width) for _ in range(2))
        gamma, beta, bias = (Weight(_drawn(rng, np.float32, width).astype(held)) for _ in range(3))
        given = {"epsilon": 1e-3}
        yield Case(
            "SkipLayerNormalization", [x, skip, gamma, beta, bias], given, (0, 3), note=_named(held), **more
        )
        yield Case(
            "SkipSimplifiedLayerNormalization",
            [x, skip, gamma, bias],
            given,
            (0, 3),
            note=_named(held),
            **more,
        )


@maker
def quantised(rng: np.random.Generator, size: int) -> Iterator[Case]:
    n = 4 + size
    scale = Weight(np.float32(0.03))
    for dtype in FEW_BITS:
        zero = Weight(_drawn(rng, dtype, 1))
        held = Weight(_drawn(rng, dtype, 2, n))
        yield Case("DequantizeLinear", [held, np.full(1, 0.03, np.float32), zero], note=_named(dtype))
        yield Case(
            "QuantizeLinear",
            [_drawn(rng, np.float32, 2, n), scale, zero],
            note=_named(dtype),
            widened=TensorProto.INT32,
        )
    yield Case("DequantizeLinear", [_drawn(rng, np.int32, 2, n), scale], note="int32")
    for a, b in ((np.int8, np.int8), (np.uint8, np.int8), (np.uint8, np.uint8)):
        parts = [_drawn(rng, a, 2, n), Weight(_drawn(rng, b, n, 3) // 2), scale, Weight(np.float32(0.01))]
        yield Case("MatMulIntegerToFloat", parts, note=f"{_named(a)}_{_named(b)}")
    m, k, block = 3, 32 + 16 * size, 16
    blocks = -(-k // block)
    held = Weight(_drawn(rng, np.uint8, n, blocks, block // 2))
    scales = rng.uniform(0.01, 0.1, n * blocks)
    given = {"K": k, "N": n, "block_size": block, "bits": 4}
    x = _drawn(rng, np.float16, m, k)
    yield Case("MatMulNBits", [x, held, Weight(scales.astype(np.float16))], given, note="float16")
    halves = [Weight(made.astype(np.float16)) for made in (scales, rng.uniform(5, 10, n * blocks))]
    yield Case("MatMulNBits", [x, held, *halves], given, note="float16_zeros")
    order = Weight(rng.permutation(k).astype(np.int32) // block)
    parts = [x.astype(np.float32), held, Weight(scales.astype(np.float32))]
    yield Case("MatMulNBits", [*parts, None, order], given, note="ordered")
    zeros = Weight(rng.uniform(5, 10, n * blocks).astype(np.float32))
    yield Case("MatMulNBits", [*parts, zeros, order], given, note="ordered_float_zeros")
    table = Weight(_drawn(rng, ml_dtypes.uint4, 6, k))
    scales = Weight(rng.uniform(0.01, 0.1, (6, blocks)).astype(np.float16))
    given = {"block_size": block, "quantize_axis": 1, "gather_axis": 0}
    yield Case("GatherBlockQuantized", [table, rng.integers(0, 6, (2, n)), scales], given, note="float16")
    for dtype in EIGHT_BITS:
        table = Weight(rng.standard_normal((6, k)).astype(dtype))
        for held in (np.float16, np.float32):
            scales = Weight(rng.uniform(0.01, 0.1, (6, blocks)).astype(held))
            yield Case(
                "GatherBlockQuantized",
                [table, rng.integers(0, 6, (2, n)), scales],
                given,
                note=f"{_named(dtype)}_{_named(held)}",
            )
    x = _drawn(rng, np.uint8, 1, 5, 5, 3)
    w = Weight(_drawn(rng, np.int8, 4, 3, 3, 3) // 2)
    zeros = [Weight(np.uint8(7)), Weight(np.int8(0)), Weight(np.uint8(9))]
    bias = Weight(rng.integers(-900, 900, 4).astype(np.int32))
    parts = [
        x,
        scale,
        zeros[0],
        w,
        Weight(np.float32(0.01)),
        zeros[1],
        Weight(np.float32(0.4)),
        zeros[2],
        bias,
    ]
    yield Case("QLinearConv", parts, {"channels_last": 1}, note="bias", steps=1)


@maker
def attended(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, heads, groups, each = ((2, 3, 4, 2, 16), (1, 5, 6, 3, 32))[size]
    angles = rng.uniform(-3, 3, (20, each // 2))
    tables = [Weight(made.astype(np.float16)) for made in (np.cos(angles), np.sin(angles))]
    x = _drawn(rng, np.float16, batch, length, heads * each)
    yield Case("RotaryEmbedding", [x, rng.integers(0, 20, (batch, length)), *tables], note="float16")
    q, k, v = (_drawn(rng, np.float16, batch, length, many * each) for many in (heads, groups, groups))
    given = {"num_heads": heads, "kv_num_heads": groups}
    last, total = np.full((batch, 1), length - 1, np.int32), np.asarray([length], np.int32)
    parts = [q, k, v, None, None, last, total]
    yield Case("GroupQueryAttention", parts, given, (0, 1, 2), note="float16")
    width = heads * 4
    x, bias = _drawn(rng, np.uint8, batch, length, width), Weight(_drawn(rng, np.float32, 3 * width))
    w = Weight(_drawn(rng, np.uint8, width, 3 * width))
    ends = [
        Weight(np.float32(0.02)),
        Weight(np.float32(0.01)),
        None,
        Weight(np.uint8(120)),
        Weight(np.uint8(99)),
    ]
    yield Case("QAttention", [x, w, bias, *ends], {"num_heads": heads}, note="uint8")


@maker
def embedded(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, width = ((2, 3, 8), (3, 5, 16))[size]
    ids, kinds = (rng.integers(0, rows, (batch, length)).astype(np.int32) for rows in (11, 2))
    tables = [
        Weight(_drawn(rng, np.uint8, *shape))
        for shape in ((11, width), (9, width), (2, width), (width,), (width,))
    ]
    scales = [Weight(np.float32(0.01 * (1 + place))) for place in range(5)]
    zeros = [Weight(np.uint8(120 + place)) for place in range(5)]
    parts = [ids, kinds, *tables, None, *scales, *zeros]
    yield Case("QEmbedLayerNormalization", parts, {"epsilon": 1e-5}, (0, 1), note="uint8")


KERNELS = """
    Attention T: float
    BiasGelu T: float
    ConvTransposeWithDynamicPads T: float
    CropAndResize T1: float; T2: int32
    DecoderMaskedMultiHeadAttention T: float
    DequantizeLinear T1: int4 uint4 int8 uint8 int16 uint16 int32; T2: float
    DynamicQuantizeLSTM T: float; T1: int32; T2: int8 uint8
    DynamicQuantizeMatMul T1: float; T2: int8 uint8
    EmbedLayerNormalization T: float
    ExpandDims T: bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float double string
    FastGelu T: float
    FusedConv T: float
    FusedGemm T: float
    FusedMatMul T: float double
    GatherBlockQuantized T1: int4 uint4 uint8 float4e2m1 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz; T2: float16 float; Tind: int32 int64
    GatherND T: bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 bfloat16 float double string; Tind: int32 int64
    Gelu T: float
    GridSample T1: float; T2: float
    GroupQueryAttention M: int32; T: float16 float; T_CACHE: int8 uint8 float16 float; T_KV_SCALE: float
    Inverse T: float16 float double
    MatMulIntegerToFloat T1: int8 uint8; T2: int8 uint8; T3: float
    MatMulNBits T1: float16 float; T2: uint8; T3: uint8 float16 float; T4: int32
    MultiHeadAttention T: float
    NhwcMaxPool T: int8 uint8
    Pad T: float
    QAttention T1: uint8; T2: int8 uint8; T3: float; T4: int32
    QEmbedLayerNormalization T: float
    QGemm T: float; TA: int8 uint8; TB: int8 uint8; TC: int32; TY: int8 uint8 float; TYZ: int8 uint8
    QLinearAdd T: int8 uint8
    QLinearConv T1: int8 uint8; T2: int8 uint8; T3: int8 uint8; T4: int32
    QLinearLeakyRelu T: int8 uint8
    QLinearMul T: int8 uint8
    QLinearSigmoid T: int8 uint8
    QLinearSoftmax T: int8 uint8
    QLinearWhere T: int8 uint8
    QuantizeLinear T1: float; T2: int4 uint4 int8 uint8 int16 uint16
    QuickGelu T: float
    Range T: int16 int32 int64 float double
    RotaryEmbedding M: int64; T: float16 float
    SkipLayerNormalization T: float16 bfloat16 float double
    SkipSimplifiedLayerNormalization T: float16 bfloat16 float double
    TransposeMatMul T: float
    Trilu T: int64 float double
"""
"""Operator, and the dtypes of each of its type variables that onnxruntime 1.31's CPU provider registers a kernel for."""

WITHOUT = {
    ("ExpandDims", "T"): "bfloat16 string",
    ("GatherND", "T"): "bfloat16 string",
    ("SkipLayerNormalization", "T"): "double",
    ("SkipSimplifiedLayerNormalization", "T"): "double",
    ("GroupQueryAttention", "T_CACHE"): "int8 uint8",
    ("GroupQueryAttention", "T_KV_SCALE"): "float",
}
"""Kernels that no model reaches, since the schemas have not their dtypes; text, which is no number; and a quantised cache, which
is refused by name."""
