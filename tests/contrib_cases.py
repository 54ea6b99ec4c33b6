"""Small models of onnxruntime's own operators, each at two sizes: what its CPU kernels are given in the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class Weight:
    """An input that is an initializer."""

    array: Any


@dataclass(frozen=True)
class Case:
    """One node: ``inputs`` are arrays, weights or None; ``outputs`` says which of its outputs are looked at."""

    operator: str
    inputs: Sequence[Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: Sequence[int] = (0,)
    domain: str = DOMAIN
    note: str = ""
    steps: int = 0
    """By how many quantisation steps an output may differ: what rounds at a tie."""
    free: bool = True
    """Whether it is carried with free sizes too."""
    narrow: int = 0
    """A dtype that runtimes are not fed with: float inputs are cast to it in the model."""
    widened: int = 0
    """What outputs are cast to, where numpy has no dtype for theirs."""

    @property
    def feeds(self) -> dict[str, Any]:
        return {f"x{place}": x for place, x in enumerate(self.inputs) if isinstance(x, np.ndarray)}

    @property
    def name(self) -> str:
        shapes = "_".join("x".join(map(str, x.shape)) for x in self.feeds.values())
        kinds = "_".join(dict.fromkeys(x.dtype.name for x in self.feeds.values()))
        return f"{self.operator}-{self.note or 'plain'}-{kinds}-{shapes}"

    def model(self, *, free: bool = False) -> onnx.ModelProto:
        """``free``: batches and lengths have names, and equal sizes the same one."""
        names, initializers, inputs, before, after = [], [], [], [], []
        for place, x in enumerate(self.inputs):
            names.append("" if x is None else f"x{place}")
            if isinstance(x, Weight):
                initializers.append(_tensor(x.array, f"x{place}"))
            elif x is not None:
                axes = _FREE[x.ndim] if free and x.dtype != np.int64 else ()
                dims = [f"n{n}" if axis in axes else n for axis, n in enumerate(x.shape)]
                kind = helper.np_dtype_to_tensor_dtype(x.dtype)
                inputs.append(helper.make_tensor_value_info(f"x{place}", kind, dims))
                if self.narrow and kind == TensorProto.FLOAT:
                    names[-1] = f"narrow{place}"
                    before.append(helper.make_node("Cast", [f"x{place}"], names[-1:], to=self.narrow))
        made = [f"y{place}" if place in self.outputs else "" for place in range(max(self.outputs) + 1)]
        results = [f"{name}_widened" if self.widened else name for name in made if name]
        if self.widened:
            pairs = zip(filter(None, made), results, strict=True)
            after = [helper.make_node("Cast", [name], [wide], to=self.widened) for name, wide in pairs]
        node = helper.make_node(
            self.operator, names, made, "node", domain=self.domain, **dict(self.attributes)
        )
        outputs = [onnx.ValueInfoProto(name=name) for name in results]
        graph = helper.make_graph([*before, node, *after], "case", inputs, outputs, initializers)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


_FREE = {0: (), 1: (0,), 2: (0,), 3: (0, 1), 4: (0, 2), 5: (0, 1)}
"""Rank -> the axes that are batches and lengths."""


def _tensor(array: Any, name: str) -> TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


Make = Callable[[np.random.Generator, int], Iterator[Case]]
MAKERS: list[Make] = []


def maker(function: Make) -> Make:
    MAKERS.append(function)
    return function


def cases() -> list[Case]:
    """Every case; ``size`` 0 and 1 give two sizes of each."""
    rng = np.random.default_rng(20)
    return [case for make in MAKERS for size in (0, 1) for case in make(rng, size)]


def _normal(rng: np.random.Generator, *shape: int, dtype: Any = np.float32) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def _bytes(rng: np.random.Generator, *shape: int, dtype: Any = np.uint8) -> Any:
    """Signed ones of seven bits: onnxruntime's kernels for processors without VNNI add two products with an unsigned byte in
    sixteen bits, and saturate beyond."""
    info = np.iinfo(dtype)
    low, high = (-64, 64) if info.min else (0, info.max + 1)
    return rng.integers(low, high, shape).astype(dtype)


def _scale(value: float) -> Any:
    return Weight(np.float32(value))


# ---- linear -----------------------------------------------------------------------------------------------


@maker
def products(rng: np.random.Generator, size: int) -> Iterator[Case]:
    m, k, n = ((2, 5, 3), (4, 7, 6))[size]
    for dtype in (np.float32, np.float64):
        a, b = _normal(rng, m, k, dtype=dtype), _normal(rng, k, n, dtype=dtype)
        yield Case("FusedMatMul", [a, b], {"alpha": 0.3})
        yield Case("FusedMatMul", [a, Weight(b.T.copy())], {"transB": 1}, note="weight")
        yield Case("FusedMatMul", [a.T.copy(), b], {"transA": 1, "alpha": 2.0}, note="transA")
        turned, stacked = _normal(rng, m, 3, 2, k, dtype=dtype), _normal(rng, 3, 2, k, n, dtype=dtype)
        yield Case("FusedMatMul", [turned, stacked], {"transBatchA": 1}, note="batchA")
        stacked = _normal(rng, n, 3, 2, k, dtype=dtype)
        attributes = {"transBatchA": 1, "transBatchB": 1, "transB": 1}
        yield Case("FusedMatMul", [turned, stacked], attributes, note="batchB")
    a, b, c = _normal(rng, m, k), _normal(rng, n, k), _normal(rng, n)
    yield Case("TransposeMatMul", [a, b], {"transB": 1, "alpha": 0.5})
    for activation, more in (("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.2}), ("Tanh", {}), ("Sigmoid", {}),
                             ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4})):  # fmt: skip
        attributes = {"transB": 1, "alpha": 0.7, "beta": 0.5, "activation": activation, **more}
        yield Case("FusedGemm", [a, Weight(b), Weight(c)], attributes, note=activation)


@maker
def few_bits(rng: np.random.Generator, size: int) -> Iterator[Case]:
    m, k, n, block = ((3, 32, 8, 16), (2, 80, 5, 32))[size]
    blocks = -(-k // block)
    for bits in (4, 8):
        a = _normal(rng, m, k)
        held = _bytes(rng, n, blocks, block * bits // 8)
        scales = rng.uniform(0.01, 0.1, n * blocks).astype(np.float32)
        given = {"K": k, "N": n, "block_size": block, "bits": bits}
        yield Case("MatMulNBits", [a, Weight(held), Weight(scales)], given, note=f"{bits}bits")
        zeros = _bytes(rng, n * -(-blocks * bits // 8))
        parts = [a, Weight(held), Weight(scales), Weight(zeros), None, Weight(_normal(rng, n))]
        yield Case("MatMulNBits", parts, given, note=f"{bits}bits_zeros_bias")
    zeros = rng.uniform(5, 10, n * blocks).astype(np.float32)
    given = {"K": k, "N": n, "block_size": block, "bits": 4}
    held = _bytes(rng, n, blocks, block // 2)
    yield Case("MatMulNBits", [a, Weight(held), Weight(scales), Weight(zeros)], given, note="float_zeros")


@maker
def tables(rng: np.random.Generator, size: int) -> Iterator[Case]:
    import ml_dtypes

    rows, width, block = ((6, 32, 16), (9, 64, 16))[size]
    ids = rng.integers(0, rows, (2, 3 + size))
    scales = rng.uniform(0.01, 0.1, (rows, width // block)).astype(np.float32)
    for dtype in (ml_dtypes.uint4, ml_dtypes.int4):
        low = 0 if dtype == ml_dtypes.uint4 else -8
        table = Weight(rng.integers(low, low + 16, (rows, width)).astype(dtype))
        zeros = Weight(rng.integers(low, low + 16, scales.shape).astype(dtype))
        given = {"block_size": block, "quantize_axis": 1, "gather_axis": 0}
        yield Case("GatherBlockQuantized", [table, ids, Weight(scales)], given, note=np.dtype(dtype).name)
        yield Case(
            "GatherBlockQuantized", [table, ids.astype(np.int32), Weight(scales), zeros], given,
            note=f"{np.dtype(dtype).name}_zeros",
        )  # fmt: skip
    for bits in (4, 8):
        table = Weight(_bytes(rng, rows, width * bits // 8))
        given = {"block_size": block, "quantize_axis": 1, "gather_axis": 0, "bits": bits}
        yield Case("GatherBlockQuantized", [table, ids, Weight(scales)], given, note=f"bytes{bits}")


# ---- convolutions -------------------------------------------------------------------------------------------


@maker
def convolutions(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, side = ((2, 7), (1, 10))[size]
    x, w, b = _normal(rng, batch, 4, side, side + 1), _normal(rng, 6, 2, 3, 3), _normal(rng, 6)
    given = {"group": 2, "pads": [1, 0, 1, 1], "strides": [2, 1], "kernel_shape": [3, 3]}
    for activation, more in (("Relu", []), ("Tanh", []), ("Sigmoid", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 1.5]),
                             ("HardSigmoid", [0.3, 0.4])):  # fmt: skip
        attributes = {**given, "activation": activation, **({"activation_params": more} if more else {})}
        yield Case("FusedConv", [x, Weight(w), Weight(b)], attributes, note=activation)
    shape = (batch, 6, (side + 1) // 2, side)
    yield Case(
        "FusedConv",
        [x, Weight(w), Weight(b), _normal(rng, *shape)],
        {**given, "activation": "Relu"},
        note="sum",
    )
    nhwc = _bytes(rng, batch, side, side, 3, dtype=np.int8)
    for dtype in (np.int8, np.uint8):
        x = nhwc.view(dtype)
        yield Case("NhwcMaxPool", [x], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]})
    x, w = _normal(rng, batch, 3, 4, 5), _normal(rng, 3, 2, 3, 3)
    pads = np.asarray([1, 0, 1, 1], np.int64)
    for one in (pads, Weight(pads)):
        yield Case("ConvTransposeWithDynamicPads", [x, Weight(w), one], {"strides": [2, 1]})


# ---- activations and normalisations ------------------------------------------------------------------------


@maker
def activations(rng: np.random.Generator, size: int) -> Iterator[Case]:
    shape = ((2, 3, 8), (4, 5, 12))[size]
    x, bias = 2 * _normal(rng, *shape), Weight(_normal(rng, shape[-1]))
    yield Case("Gelu", [x])
    yield Case("FastGelu", [x])
    yield Case("FastGelu", [x, bias], note="bias")
    yield Case("BiasGelu", [x, bias])
    yield Case("QuickGelu", [x])
    yield Case("QuickGelu", [x], {"alpha": 0.9}, note="alpha")


@maker
def normalisations(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, width = ((2, 3, 8), (3, 5, 16))[size]
    for dtype in (np.float32, np.float64):
        x, skip = (_normal(rng, batch, length, width, dtype=dtype) for _ in range(2))
        gamma, beta, bias = (Weight(_normal(rng, width, dtype=dtype)) for _ in range(3))
        given = {"epsilon": 1e-3}
        yield Case("SimplifiedLayerNormalization", [x, gamma], given, domain="")
        if dtype == np.float64:  # the others have no kernel
            continue
        yield Case("SkipLayerNormalization", [x, skip, gamma, beta], given)
        yield Case("SkipLayerNormalization", [x, skip, gamma, beta, bias], given, (0, 3), note="sum")
        yield Case("SkipLayerNormalization", [x, skip[:1], gamma], {}, note="broadcast")
        yield Case("SkipSimplifiedLayerNormalization", [x, skip, gamma], given)
        yield Case("SkipSimplifiedLayerNormalization", [x, skip, gamma, bias], given, (0, 3), note="sum")
    ids, kinds = rng.integers(0, 11, (batch, length)), rng.integers(0, 2, (batch, length))
    ids, kinds = ids.astype(np.int32), kinds.astype(np.int32)
    word, place, kind = (Weight(_normal(rng, rows, width)) for rows in (11, 9, 2))
    gamma, beta = (Weight(_normal(rng, width)) for _ in range(2))
    mask = rng.integers(0, 2, (batch, length)).astype(np.int32)
    parts = [ids, kinds, word, place, kind, gamma, beta]
    yield Case("EmbedLayerNormalization", parts, {"epsilon": 1e-5}, (0, 1))
    yield Case("EmbedLayerNormalization", [*parts, mask], {"epsilon": 1e-5}, (0, 1, 2), note="mask")
    places = rng.integers(0, 9, (batch, length)).astype(np.int32)
    parts = [ids, None, word, place, None, gamma, beta, None, places]
    yield Case("EmbedLayerNormalization", parts, {}, (0, 1), note="places")


# ---- attention ----------------------------------------------------------------------------------------------


@maker
def self_attention(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, width, heads = ((2, 3, 8, 2), (3, 5, 12, 3))[size]
    x, w, b = _normal(rng, batch, length, width), _normal(rng, width, 3 * width), _normal(rng, 3 * width)
    parts, given = [x, Weight(0.5 * w), Weight(b)], {"num_heads": heads}
    ends = rng.integers(1, length + 1, batch).astype(np.int32)
    starts = rng.integers(0, ends).astype(np.int32)
    raw = rng.integers(0, 2, (batch, length)).astype(np.int32)
    raw[:, 0] = 1
    cube = rng.integers(0, 2, (batch, length, length)).astype(np.int32)
    yield Case("Attention", parts, given)
    yield Case("Attention", parts, {**given, "unidirectional": 1}, note="causal")
    yield Case("Attention", parts, {**given, "scale": 0.4}, note="scale")
    for note, mask in (
        ("ends", ends),
        ("raw", raw),
        ("cube", cube),
        ("ranges", np.concatenate([ends, starts])),
    ):
        yield Case("Attention", [*parts, mask], given, note=note, free=note != "ranges")
    yield Case("Attention", [*parts, raw], {**given, "unidirectional": 1}, note="raw_causal")
    bias = _normal(rng, 1, heads, length, length)
    yield Case("Attention", [*parts, None, None, bias], given, note="bias")
    past = _normal(rng, 2, batch, heads, 4, width // heads)
    yield Case("Attention", [*parts, None, past], {**given, "unidirectional": 1}, (0, 1), note="past_causal")
    whole = np.concatenate([np.ones((batch, 4), np.int32), raw], 1)
    yield Case("Attention", [*parts, whole, past], given, (0, 1), note="past_raw")
    uneven = _normal(rng, width, width + width + 2 * heads)
    sizes = {**given, "qkv_hidden_sizes": [width, width, 2 * heads]}
    yield Case("Attention", [x, Weight(uneven), Weight(_normal(rng, uneven.shape[1]))], sizes, note="uneven")
    quantized, weight = _bytes(rng, batch, length, width), _bytes(rng, width, 3 * width, dtype=np.int8)
    scales = [Weight(b), _scale(0.02), _scale(0.01)]
    zeros = [Weight(np.uint8(120)), Weight(np.int8(3))]
    yield Case("QAttention", [quantized, Weight(weight), *scales, raw, *zeros], given, note="raw")
    yield Case(
        "QAttention", [quantized, Weight(weight), *scales, None, *zeros], {**given, "unidirectional": 1}
    )
    columns = Weight(rng.uniform(0.005, 0.02, 3 * width).astype(np.float32))
    zeros = [Weight(np.uint8(120)), Weight(np.zeros(3 * width, np.int8))]
    yield Case(
        "QAttention", [quantized, Weight(weight), *scales[:2], columns, None, *zeros], given, note="columns"
    )


@maker
def attention_between(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, keys, width, heads = ((2, 3, 4, 8, 2), (3, 5, 2, 12, 3))[size]
    each = width // heads
    q, k, v = (_normal(rng, batch, rows, width) for rows in (length, keys, keys))
    bias, given = Weight(_normal(rng, 3 * width)), {"num_heads": heads}
    yield Case("MultiHeadAttention", [q, k, v], given)
    yield Case("MultiHeadAttention", [q, k, v, bias], {**given, "scale": 0.3}, note="bias")
    ends = rng.integers(1, keys + 1, batch).astype(np.int32)
    raw = rng.integers(0, 2, (batch, keys)).astype(np.int32)
    raw[:, 0] = 1
    yield Case("MultiHeadAttention", [q, k, v, None, ends], given, note="ends")
    yield Case("MultiHeadAttention", [q, k, v, bias, raw], given, note="raw")
    more = _normal(rng, batch, 1, length, keys)
    yield Case("MultiHeadAttention", [q, k, v, bias, None, more], given, note="attention_bias")
    by_heads = [_normal(rng, batch, heads, keys, each) for _ in range(2)]
    yield Case("MultiHeadAttention", [q, *by_heads], given, note="heads")
    one = [_normal(rng, batch, length, width) for _ in range(3)]
    past = [_normal(rng, batch, heads, 4, each) for _ in range(2)]
    yield Case("MultiHeadAttention", [*one, None, None, None, *past], given, (0, 1, 2), note="past")
    causal = {**given, "unidirectional": 1}
    yield Case("MultiHeadAttention", one, causal, note="causal")
    yield Case("MultiHeadAttention", [*one, None, None, None, *past], causal, (0, 1, 2), note="past_causal")
    uneven = _normal(rng, batch, keys, 2 * heads)
    yield Case("MultiHeadAttention", [q, k, uneven], given, note="uneven")
    single = [x[:, :1] for x in one]
    filled = {**given, "past_present_share_buffer": 1}
    parts = [*single, None, None, *past, np.asarray([2], np.int32)]
    yield Case("DecoderMaskedMultiHeadAttention", parts, filled, (0, 1, 2), note="buffer")
    yield Case("DecoderMaskedMultiHeadAttention", [single[0], *by_heads], given, note="cross")


@maker
def rotations(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, heads, each = ((2, 3, 2, 8), (3, 4, 3, 16))[size]
    angles = rng.uniform(-3, 3, (20, each // 2)).astype(np.float32)
    tables = [Weight(np.cos(angles)), Weight(np.sin(angles))]
    x, wide = _normal(rng, batch, length, heads * each), _normal(rng, batch, heads, length, each)
    places = rng.integers(0, 20, (batch, length))
    yield Case("RotaryEmbedding", [x, places, *tables])
    yield Case("RotaryEmbedding", [x, np.asarray([5]), *tables], {"interleaved": 1}, note="offset")
    yield Case("RotaryEmbedding", [wide, places, *tables], note="heads")
    part = [Weight(np.cos(angles[:, :2])), Weight(np.sin(angles[:, :2]))]
    given = {"num_heads": heads, "rotary_embedding_dim": 4}
    yield Case("RotaryEmbedding", [x, places, *part], given, note="part")


@maker
def grouped(rng: np.random.Generator, size: int) -> Iterator[Case]:
    batch, length, heads, groups, each = ((2, 3, 4, 2, 16), (1, 5, 6, 3, 32))[size]
    q = _normal(rng, batch, length, heads * each)
    k, v = (_normal(rng, batch, length, groups * each) for _ in range(2))
    given = {"num_heads": heads, "kv_num_heads": groups}
    last = np.full((batch, 1), length - 1, np.int32)
    total = np.asarray([length], np.int32)
    yield Case("GroupQueryAttention", [q, k, v, None, None, last, total], given, (0, 1, 2), note="first")
    angles = rng.uniform(-3, 3, (20, each // 2)).astype(np.float32)
    tables = [Weight(np.cos(angles)), Weight(np.sin(angles))]
    turned = {**given, "do_rotary": 1, "scale": 0.2, "softcap": 3.0}
    parts = [q, k, v, None, None, last, total, *tables]
    yield Case("GroupQueryAttention", parts, turned, (0, 1, 2), note="rotary")
    packed = np.concatenate([q, k, v], 2)
    parts = [packed, None, None, None, None, last, total, *tables]
    yield Case("GroupQueryAttention", parts, {**turned, "rotary_interleaved": 1}, note="packed")
    past = [_normal(rng, batch, groups, 4, each) for _ in range(2)]
    single = [x[:, :1] for x in (q, k, v)]
    ragged = np.asarray([[4], [2]][:batch], np.int32)
    parts = [*single, *past, ragged, np.asarray([5], np.int32), *tables]
    yield Case("GroupQueryAttention", parts, turned, (0, 1, 2), note="ragged")
    yield Case(
        "GroupQueryAttention", parts, {**turned, "local_window_size": 3}, (0, 1, 2), note="ragged_window"
    )
    q, k, v, last = q[:1], k[:1], v[:1], last[:1]  # several queries behind a past come alone
    past = [x[:1] for x in past]
    total = np.asarray([length + 4], np.int32)
    parts = [q, k, v, *past, last + 4, total, *tables]
    yield Case("GroupQueryAttention", parts, turned, (0, 1, 2), note="past")
    yield Case("GroupQueryAttention", parts, {**turned, "local_window_size": 3}, (0, 1, 2), note="window")
    bias = _normal(rng, 1, 1, length, length + 4)
    parts = [q, k, v, *past, last + 4, total, None, None, None, bias]
    yield Case("GroupQueryAttention", parts, given, (0, 1, 2), note="bias")


# ---- quantised ------------------------------------------------------------------------------------------------


@maker
def integer_products(rng: np.random.Generator, size: int) -> Iterator[Case]:
    m, k, n = ((2, 5, 3), (4, 8, 6))[size]
    a, bias = _normal(rng, m, k), Weight(_normal(rng, n))
    for dtype in (np.int8, np.uint8):
        b = Weight(_bytes(rng, k, n, dtype=dtype))
        columns = Weight(rng.uniform(0.01, 0.03, n).astype(np.float32))
        zero, zeros = Weight(np.asarray(3, dtype)), Weight(_bytes(rng, n, dtype=dtype))
        name = np.dtype(dtype).name
        yield Case("DynamicQuantizeMatMul", [a, b, _scale(0.02), zero, bias], note=name)
        yield Case("DynamicQuantizeMatMul", [a, b, columns, zeros], note=f"{name}_columns")
        quantized = _bytes(rng, m, k)
        parts = [quantized, b, _scale(0.03), columns, Weight(np.uint8(7)), zeros, bias]
        yield Case("MatMulIntegerToFloat", parts, note=name)
        yield Case("MatMulIntegerToFloat", [quantized, b, _scale(0.03), _scale(0.01)], note=f"{name}_plain")
        full = np.full_like(quantized, 255)
        halves = [Weight(np.float16(0.01)), Weight(columns.array.astype(np.float16))]
        yield Case("MatMulIntegerToFloat", [full, b, *halves], note=f"{name}_half")
    for kind in (np.uint8, np.int8):
        c = Weight(rng.integers(-500, 500, n).astype(np.int32))
        a = _bytes(rng, m, k, dtype=kind)
        parts = [
            a,
            _scale(0.03),
            Weight(kind(5)),
            Weight(_bytes(rng, n, k, dtype=kind)),
            _scale(0.02),
            Weight(kind(4)),
        ]
        out = [_scale(0.3), Weight(kind(9))]
        yield Case("QGemm", [*parts, c], {"transB": 1}, note="float")
        yield Case("QGemm", [*parts, c, *out], {"transB": 1, "alpha": 0.7}, note="quantised", steps=1)


@maker
def between_floats(rng: np.random.Generator, size: int) -> Iterator[Case]:
    shape = ((2, 3, 5, 6), (1, 4, 8, 7))[size]
    for dtype in (np.uint8, np.int8):
        a, b = _bytes(rng, *shape, dtype=dtype), _bytes(rng, *shape, dtype=dtype)
        zero = [Weight(np.asarray(value, dtype)) for value in (5, 9, 17)]
        ends = [_scale(0.5), zero[2]]
        two = [a, _scale(0.03), zero[0], b, _scale(0.02), zero[1]]
        yield Case("QLinearAdd", [*two, _scale(0.05), zero[2]], steps=1)
        yield Case(
            "QLinearAdd", [*two[:3], b[:1, :, :1], *two[4:], _scale(0.05), zero[2]], note="broadcast", steps=1
        )
        yield Case("QLinearMul", [*two, _scale(0.1), zero[2]], steps=1)
        yield Case("QLinearSigmoid", [*two[:3], _scale(1 / 256), zero[0]], steps=1)
        yield Case("QLinearLeakyRelu", [*two[:3], _scale(0.04), zero[1]], {"alpha": 0.2}, steps=1)
        pool = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
        yield Case("QLinearAveragePool", [*two[:3], _scale(0.02), zero[1]], pool, steps=1)
        yield Case("QLinearAveragePool", [*two[:3], _scale(0.02), zero[1]], {**pool, "count_include_pad": 1},
                   note="padded", steps=1)  # fmt: skip
        last = {**pool, "channels_last": 1}
        yield Case("QLinearAveragePool", [*two[:3], _scale(0.02), zero[1]], last, note="last", steps=1)
        for channels_last in (0, 1):
            given = {"channels_last": channels_last}
            parts = [*two[:3], _scale(0.01), zero[1]]
            yield Case("QLinearGlobalAveragePool", parts, given, note=f"last{channels_last}", steps=1)
        yield Case("QLinearConcat", [*ends, *two], {"axis": 1}, steps=1)
        soft = [*two[:3], _scale(1 / 256), Weight(np.asarray(np.iinfo(dtype).min, dtype))]
        yield Case("QLinearSoftmax", soft, {"axis": -1, "opset": 13}, steps=1)
        yield Case("QLinearSoftmax", soft, {"axis": 1, "opset": 13}, note="axis", steps=1)
        yield Case("QLinearSoftmax", soft, {"axis": 2, "opset": 11}, note="flat", steps=1)
        condition = rng.integers(0, 2, shape).astype(bool)
        yield Case("QLinearWhere", [condition, *two, _scale(0.04), zero[2]], steps=1)
        x = _normal(rng, *shape)
        yield Case("QuantizeLinear", [x, _scale(0.03), zero[0]])
        yield Case("DequantizeLinear", [a, _scale(0.03), zero[0]])
        columns = [
            Weight(rng.uniform(0.01, 0.03, shape[1]).astype(np.float32)),
            Weight(_bytes(rng, shape[1], dtype=dtype)),
        ]
        yield Case("DequantizeLinear", [a, *columns], {"axis": 1}, note="axis")
        w = Weight(_bytes(rng, 4, shape[3], 3, 3, dtype=dtype))
        parts = [a, _scale(0.02), zero[0], w, _scale(0.01), zero[1], _scale(0.4), zero[2]]
        given = {"channels_last": 1, "pads": [1, 0, 0, 1]}
        yield Case("QLinearConv", parts, given, note="last", steps=1)


@maker
def recurrent(rng: np.random.Generator, size: int) -> Iterator[Case]:
    steps, batch, width, hidden = ((4, 2, 3, 5), (6, 3, 4, 8))[size]
    for direction, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
        for dtype in (np.int8, np.uint8):
            w, r = (Weight(_bytes(rng, count, rows, 4 * hidden, dtype=dtype)) for rows in (width, hidden))
            b = Weight(_normal(rng, count, 8 * hidden))
            zero = Weight(np.full(count, 0 if dtype == np.int8 else 128, dtype))
            scale = Weight(np.full(count, 0.01, np.float32))
            x = _normal(rng, steps, batch, width)
            given = {"hidden_size": hidden, "direction": direction}
            parts = [x, w, r, b, None, None, None, None, scale, zero, scale, zero]
            note = f"{direction}_{np.dtype(dtype).name}"
            yield Case("DynamicQuantizeLSTM", parts, given, (0, 1, 2), note=note)
        lengths = rng.integers(1, steps + 1, batch).astype(np.int32)
        lengths[0] = steps
        states = [_normal(rng, count, batch, hidden) for _ in range(2)]
        columns = Weight(rng.uniform(0.005, 0.02, (count, 4 * hidden)).astype(np.float32))
        zeros = Weight(np.zeros((count, 4 * hidden), np.int8))
        w, r = (Weight(_bytes(rng, count, rows, 4 * hidden, dtype=np.int8)) for rows in (width, hidden))
        p = Weight(_normal(rng, count, 3 * hidden))
        parts = [x, w, r, b, lengths, *states, p, columns, zeros, columns, zeros]
        yield Case("DynamicQuantizeLSTM", parts, {**given, "clip": 2.0}, (0, 1, 2), note=f"{direction}_all")


# ---- what moves ---------------------------------------------------------------------------------------------


@maker
def moves(rng: np.random.Generator, size: int) -> Iterator[Case]:
    n = (4, 6)[size]
    for dtype in (np.float32, np.float64):
        x = _normal(rng, 2, 3, n, n, dtype=dtype)
        yield Case("Inverse", [x + 3 * np.eye(n, dtype=dtype)])
        pads = np.asarray([0, 0, 1, 2, 0, 1, 0, 1])
        if dtype == np.float32:
            yield Case("Pad", [x, Weight(pads), Weight(np.asarray(1.5, dtype))])
        yield Case("Trilu", [x, Weight(np.asarray(1))], {"upper": 0})
    x = _normal(rng, 2, 3, n, n + 1)
    yield Case("Pad", [x, Weight(pads)], {"mode": "reflect"}, note="reflect")
    yield Case("Trilu", [x])
    yield Case("ExpandDims", [x, Weight(np.asarray(1, np.int32))])
    yield Case("ExpandDims", [x, Weight(np.asarray(-1, np.int32))], note="last")
    for dtype in (np.float32, np.float64, np.int32, np.int64, np.int16):
        yield Case(
            "Range", [Weight(np.asarray(value, dtype)) for value in (2, 9 + n, 3)], note=np.dtype(dtype).name
        )
    yield Case("Range", [np.asarray(2, np.int64), np.asarray(9 + n, np.int64)], note="ones")
    grid = rng.uniform(-1.2, 1.2, (2, n, 5, 2)).astype(np.float32)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border"):
            given = {"mode": mode, "padding_mode": padding, "align_corners": size}
            yield Case("GridSample", [x, grid], given, note=f"{mode}_{padding}")
    rois = rng.uniform(-0.2, 1.2, (5, 4)).astype(np.float32)
    images = np.asarray([0, 1, 1, 0, 1], np.int32)
    for mode in ("bilinear", "nearest"):
        for crop in ((3, 4), (1, 2)):
            given = {"mode": mode, "extrapolation_value": -2.0}
            parts = [x, rois, images, Weight(np.asarray(crop, np.int32))]
            yield Case("CropAndResize", parts, given, note=f"{mode}{crop[0]}")
    indices = rng.integers(0, 2, (3, 2)).astype(np.int32)
    yield Case("GatherND", [x, indices])
