"""The truth of an ONNX model: ONNX's evaluator, with the operators that it has wrong in the standard's form, against onnxruntime.

Every case runs in several ranks: what the evaluator gets wrong it gets wrong in some of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.onnx import double

SPACES = ((7,), (7, 8), (5, 6, 7))
WINDOWS: Mapping[str, Any] = {
    "plain": {}, "strided": {"strides": 2}, "padded": {"pads": 1}, "same upper": {"auto_pad": "SAME_UPPER", "strides": 2},
    "same lower": {"auto_pad": "SAME_LOWER", "strides": 2}, "ceiled": {"ceil_mode": 1, "strides": 2}, "valid": {"auto_pad": "VALID"},
}  # fmt: skip


def window(words: Mapping[str, Any], rank: int) -> dict[str, Any]:
    spread = {"strides": rank, "pads": 2 * rank}
    return {key: [value] * spread[key] if key in spread else value for key, value in words.items()}


Case = tuple[str, Sequence[Any], dict[str, Any]]
"""Operator; sizes of what is drawn, arrays of what is fixed, None for what is left out; attributes."""


def cases() -> Iterator[Case]:
    for space in SPACES:
        x, rank = (2, 4, *space), len(space)
        kernel = [2] * rank
        for name in ("GlobalMaxPool", "GlobalAveragePool"):
            yield name, [x], {}
        for mode in ("nearest", "linear", *(["cubic"] if rank == 2 else [])):
            for factors in (
                (0.2,) * rank,
                (0.2, *[2.0] * (rank - 1)),
            ):  # one place is left of some axes, or of all
                whole = {"mode": mode, "coordinate_transformation_mode": "pytorch_half_pixel"}
                yield "Resize", [x, None, np.array([1, 1, *factors], np.float32)], whole
        for p in (1, 2, 3):
            yield "GlobalLpPool", [x], {"p": p}
        for p in (1, 2):
            yield "LpNormalization", [x], {"axis": 1, "p": p}
        yield "MeanVarianceNormalization", [x], {"axes": list(range(2, rank + 2))}
        yield "InstanceNormalization", [x, (4,), (4,)], {}
        yield "GroupNormalization", [x, (4,), (4,)], {"num_groups": 2}
        yield "LayerNormalization", [x, x[2:], x[2:]], {"axis": 2}
        for words in WINDOWS.values():
            given = window(words, rank)
            yield "MaxPool", [x], {"kernel_shape": kernel, "outputs": 2} | given
            yield "AveragePool", [x], {"kernel_shape": kernel} | given
            yield "AveragePool", [x], {"kernel_shape": kernel, "count_include_pad": 1} | given
            yield "LpPool", [x], {"kernel_shape": kernel, "p": 3} | given
            if "ceil_mode" not in given:
                yield "Conv", [x, (6, 2, *kernel), (6,)], {"kernel_shape": kernel, "group": 2} | given
                yield (
                    "ConvTranspose",
                    [x, (4, 3, *kernel), (6,)],
                    {"kernel_shape": kernel, "group": 2} | given,
                )
        for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            for factor in (1.5, 0.6, 1.3, 2.2):
                for mode in ("nearest", "linear", *(("cubic",) if rank == 2 else ())):
                    scales = np.float32([1, 1, *[factor] * rank])
                    yield (
                        "Resize",
                        [x, None, scales],
                        {"mode": mode, "coordinate_transformation_mode": coordinates},
                    )
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                attributes = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                yield "GridSample", [(2, 3, 5, 6), (2, 4, 4, 2)], attributes
    for name in ("HardSwish", "HardSigmoid", "Gelu", "Mish", "Celu", "Selu", "Softplus", "Erf", "Elu"):
        yield name, [(3, 50)], {}
    yield "Gelu", [(3, 50)], {"approximate": "tanh"}


def named(case: Case) -> str:
    operator, operands, attributes = case
    words = ",".join(f"{key}={value}" for key, value in attributes.items() if key != "kernel_shape")
    return f"{operator}-{'x'.join(map(str, operands[0]))}-{words}".replace(" ", "")


@pytest.mark.parametrize("case", list(cases()), ids=named)
def test_the_truth_is_what_onnxruntime_computes(case: Case) -> None:
    operator, operands, attributes = case
    attributes = dict(attributes)
    rng, results = np.random.default_rng(0), attributes.pop("outputs", 1)
    drawn = {f"i{k}": o for k, o in enumerate(operands) if isinstance(o, tuple)}
    fixed = [numpy_helper.from_array(o, f"i{k}") for k, o in enumerate(operands) if isinstance(o, np.ndarray)]
    reads = ["" if o is None else f"i{k}" for k, o in enumerate(operands)]
    outputs = [f"y{k}" for k in range(results)]
    graph = helper.make_graph(
        [helper.make_node(operator, reads, outputs, **attributes)], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in drawn.items()],
        [helper.make_tensor_value_info(y, TensorProto.INT64 if y == "y1" else TensorProto.FLOAT, None) for y in outputs],
        fixed,
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    arrays = {name: rng.standard_normal(dims).astype(np.float32) for name, dims in drawn.items()}
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, arrays
    )
    found = list(double.as_float64(proto).run(list(arrays.values())).values())
    for right, here in zip(wanted, found, strict=True):
        assert here.shape == right.shape
        if right.dtype == np.int64:
            assert np.array_equal(here, right)
        else:
            assert here.dtype == np.float64
            assert np.abs(here - right).max() <= 4e-6 * np.abs(right).max()


@pytest.mark.parametrize("shape", [(2, 50), (2, 50, 1), (3, 40, 2)])
@pytest.mark.parametrize("onesided", [0, 1])
def test_a_short_transform_takes_signals_with_and_without_their_last_axis(
    shape: tuple[int, ...], onesided: int
) -> None:
    rng = np.random.default_rng(5)
    x, window = rng.standard_normal(shape), rng.random(12)
    onesided = onesided if shape[-1] != 2 else 0
    node = helper.make_node("STFT", ["x", "step", "w"], ["y"], onesided=onesided)
    made = helper.make_model(
        helper.make_graph(
            [node], "stft", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, shape)],
            [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
            [numpy_helper.from_array(np.asarray(5), "step"), numpy_helper.from_array(window, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    (y,) = double.as_float64(made).run([x]).values()
    whole = x if len(shape) == 2 else x[..., 0] + (1j * x[..., 1] if shape[2] == 2 else 0)
    for frame in range(y.shape[1]):
        want = np.fft.fft(whole[:, 5 * frame : 5 * frame + 12] * window)[:, : y.shape[2]]
        np.testing.assert_allclose(y[:, frame, :, 0] + 1j * y[:, frame, :, 1], want, atol=1e-12)
    assert y.shape[1] == (shape[1] - 12) // 5 + 1


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_negative_pads_take_away_on_one_side_and_others_add_on_the_other(mode: str) -> None:
    x = np.random.default_rng(6).standard_normal((2, 7, 5))
    inputs = [numpy_helper.from_array(np.asarray([-2, 3, 1, -1]), "p"), numpy_helper.from_array(np.asarray(4.0), "v"),
              numpy_helper.from_array(np.asarray([1, -1]), "a")]  # fmt: skip
    names = ["x", "p", "v" if mode == "constant" else "", "a"]
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("Pad", names, ["y"], mode=mode)], "pad",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)], inputs,
        ),
        opset_imports=[helper.make_opsetid("", 19)], ir_version=9,
    )  # fmt: skip
    (y,) = double.as_float64(made).run([x]).values()
    (want,) = ort.InferenceSession(made.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(y, want, atol=0)


INTEGERS = [np.int8, np.uint8]


@pytest.mark.parametrize("zeros", ["none", "one", "each"])
@pytest.mark.parametrize(
    "dtypes", [(a, b) for a in INTEGERS for b in INTEGERS], ids=lambda d: "-".join(t.__name__ for t in d)
)
def test_products_of_integers_are_exact(dtypes: tuple[Any, Any], zeros: str) -> None:
    """Whatever a processor's kernels saturate at: the standard's own formula in int64 is what is right."""
    rng = np.random.default_rng(7)
    x, w = whole(rng, dtypes[0], (2, 4, 9, 8)), whole(rng, dtypes[1], (6, 2, 3, 2))
    a, b = whole(rng, dtypes[0], (3, 5, 700)), whole(rng, dtypes[1], (700, 4))
    x_zero, w_zero = whole(rng, dtypes[0], ()), whole(rng, dtypes[1], (6,) if zeros == "each" else ())
    a_zero = whole(rng, dtypes[0], (3, 5, 1) if zeros == "each" else ())
    b_zero = whole(rng, dtypes[1], (4,) if zeros == "each" else ())
    given = {"x": x, "w": w, "a": a, "b": b, "x0": x_zero, "w0": w_zero, "a0": a_zero, "b0": b_zero}
    product, convolution = (["a", "b"], ["x", "w"]) if zeros == "none" else (["a", "b", "a0", "b0"], ["x", "w", "x0", "w0"])  # fmt: skip
    nodes = [helper.make_node("MatMulInteger", product, ["p"]),
             helper.make_node("ConvInteger", convolution, ["c"], group=2, strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2])]  # fmt: skip
    found = run_on(nodes, given, {"p": TensorProto.INT32, "c": TensorProto.INT32})
    off = dict.fromkeys(given, 0) if zeros == "none" else {k: v.astype(np.int64) for k, v in given.items()}
    assert np.array_equal(found["p"], (a.astype(np.int64) - off["a0"]) @ (b.astype(np.int64) - off["b0"]))
    kernel = w.astype(np.int64) - np.reshape(off["w0"], (-1, 1, 1, 1))
    padded = np.pad(x.astype(np.int64) - off["x0"], ((0, 0), (0, 0), (1, 2), (0, 1)))
    for channel in range(6):
        for row in range(found["c"].shape[2]):
            for column in range(found["c"].shape[3]):
                seen = padded[:, 2 * (channel // 3) : 2 * (channel // 3) + 2, 2 * row : 2 * row + 3, column : column + 3 : 2]  # fmt: skip
                assert np.array_equal(
                    found["c"][:, channel, row, column], (seen * kernel[channel]).sum((1, 2, 3))
                )


@pytest.mark.parametrize("scales", ["one", "each"])
def test_quantised_products_are_those_of_onnxruntime(scales: str) -> None:
    """Inputs below 128: kernels that add pairs of products in 16 bits saturate beyond. Within one step, where float32 rounds a half."""
    rng = np.random.default_rng(8)
    count = (6,) if scales == "each" else ()
    given = {
        "x": rng.integers(0, 128, (2, 4, 9, 8), np.uint8), "w": whole(rng, np.int8, (6, 4, 3, 3)), "bias": rng.integers(-900, 900, 6).astype(np.int32),
        "m": whole(rng, np.int8, (8, 6)), "s": np.float32(0.026), "x0": np.uint8(60), "w0": np.zeros(count, np.int8),
        "ws": rng.uniform(0.001, 0.003, count).astype(np.float32), "ys": np.float32(0.04), "y0": np.uint8(99),
    }  # fmt: skip
    nodes = [helper.make_node("QLinearConv", ["x", "s", "x0", "w", "ws", "w0", "ys", "y0", "bias"], ["c"], pads=[1, 1, 1, 1]),
             helper.make_node("QLinearMatMul", ["x", "s", "x0", "m", "ws", "w0", "ys", "y0"], ["p"])]  # fmt: skip
    outputs = {"c": TensorProto.UINT8, "p": TensorProto.UINT8}
    found = run_on(nodes, given, outputs)
    session = ort.InferenceSession(of(nodes, given, outputs).SerializeToString())
    for name, right in zip(outputs, session.run(None, {"x": given["x"]}), strict=True):
        assert right.std() > 3
        steps = np.abs(found[name].astype(int) - right.astype(int))
        assert steps.max() <= 1 and (steps > 0).mean() < 0.01


def whole(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> Any:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, endpoint=True).astype(dtype)


def of(nodes: Sequence[Any], given: Mapping[str, Any], outputs: Mapping[str, int]) -> Any:
    """``x`` is an input, everything else an initializer."""
    graph = helper.make_graph(
        nodes, "integers",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(given["x"].dtype), given["x"].shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in given.items() if name != "x"],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run_on(nodes: Sequence[Any], given: Mapping[str, Any], outputs: Mapping[str, int]) -> Mapping[str, Any]:
    return double.as_float64(of(nodes, given, outputs)).run([given["x"]])


@pytest.mark.parametrize(("into", "backwards"), [(0, 0), (1, 0), (2, 1), (-1, 1)])
@pytest.mark.parametrize(("out", "reversed_"), [(0, 0), (1, 1), (-1, 0)])
def test_a_scan_steps_along_any_axis_and_in_both_directions(
    into: int, backwards: int, out: int, reversed_: int
) -> None:
    made = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        scan (double[3] s0, double[4,4,4] x, double[n] outer) => (double[N] s, double[A,B,C] y, double[D] z) {{
            scale = ReduceSum <keepdims = 0> (outer)
            s, y, z = Scan <num_scan_inputs = 1, scan_input_axes = [{into}], scan_input_directions = [{backwards}],
                scan_output_axes = [{out}, 0], scan_output_directions = [{reversed_}, 1],
                body = step (double[3] s_in, double[4,4] row) => (double[3] s_out, double[4,4] y_out, double z_out) {{
                    half = Constant <value = double {{0.5}}> ()
                    less = Mul (s_in, half)
                    total = ReduceSum <keepdims = 0> (row)
                    s_out = Add (less, total)
                    y_out = Mul (row, scale)
                    z_out = Identity (total)
                }}> (s0, x)
        }}""")
    rng = np.random.default_rng(7)
    feed = {"s0": rng.normal(size=3), "x": rng.normal(size=(4, 4, 4)), "outer": rng.normal(size=5)}
    found = double.as_float64(made).run(list(feed.values()))
    wanted = ort.InferenceSession(made.SerializeToString()).run(None, feed)
    for here, right in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(here, right, atol=1e-13)


def normalised(x: np.ndarray, axes: tuple[int, ...], centre: bool = True) -> np.ndarray:
    centred = x - x.mean(axes, keepdims=True) if centre else x
    return centred / np.sqrt((centred**2).mean(axes, keepdims=True) + np.float64(np.float32(1e-5)))


NORMALISED: dict[str, tuple[dict[str, int], int, Any]] = {
    "GroupNormalization": ({"num_groups": 2}, 1, lambda x: normalised(x.reshape(2, 2, 10), (2,)).reshape(x.shape)),
    "InstanceNormalization": ({}, 1, lambda x: normalised(x, (2,))),
    "LayerNormalization": ({}, 2, lambda x: normalised(x, (2,))),
    "RMSNormalization": ({}, 2, lambda x: normalised(x, (2,), centre=False)),
}  # fmt: skip
"""Attributes, the axis of the weights, and what they scale."""


@pytest.mark.parametrize("operator", NORMALISED)
def test_what_normalises_computes_in_float64(operator: str) -> None:
    """A mean a thousand times the spread: what goes through float32 on the way keeps four digits of it."""
    attributes, axis, plain = NORMALISED[operator]
    rng = np.random.default_rng(7)
    x = 1e3 + rng.standard_normal((2, 4, 5))
    scale, bias = (rng.uniform(1, 2, x.shape[axis]).astype(np.float32) for _ in range(2))
    weights = {"scale": scale} if operator == "RMSNormalization" else {"scale": scale, "bias": bias}
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *weights], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    places = (1, -1, 1) if axis == 1 else (1, 1, -1)
    want = plain(x) * scale.astype(np.float64).reshape(places)
    want = want + (bias.astype(np.float64).reshape(places) if "bias" in weights else 0.0)
    (got,) = double.as_float64(proto).run([x]).values()
    assert np.abs(got - want).max() <= 1e-9 * np.abs(want).max()


@pytest.mark.parametrize("scales", ["one", "of channels", "of blocks"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_what_whole_numbers_stand_for_is_exact(dtype: Any, scales: str) -> None:
    """A float32 scale times a whole number takes more bits than float32 has."""
    rng = np.random.default_rng(3)
    low, high = (-128, 128) if dtype == np.int8 else (0, 256)
    q = rng.integers(low, high, (3, 6, 4)).astype(dtype)
    shape, options = {
        "one": ((), {}),
        "of channels": ((6,), {"axis": 1}),
        "of blocks": ((3, 2, 4), {"axis": 1, "block_size": 3}),
    }[scales]
    scale = rng.uniform(0.001, 0.1, shape).astype(np.float32)
    zero = rng.integers(max(low, 0), 100, shape).astype(dtype)
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **options)], "g",
        [helper.make_tensor_value_info("q", helper.np_dtype_to_tensor_dtype(q.dtype), q.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")],
    )  # fmt: skip
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    wide, middle = (array.astype(np.float64) for array in (scale, zero))
    if scales == "of channels":
        wide, middle = wide.reshape(1, 6, 1), middle.reshape(1, 6, 1)
    if scales == "of blocks":
        wide, middle = wide.repeat(3, 1), middle.repeat(3, 1)
    (got,) = double.as_float64(proto).run([q]).values()
    np.testing.assert_array_equal(got, (q - middle) * wide)
