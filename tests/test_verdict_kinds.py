"""Kinds of models on which a verdict errs easily: what rounding decides, what kernels do, what people run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models import model
from onnx import TensorProto, helper
from torch import nn
from verdict_pairs import Call, node, randomised, retyped

import netferry
from netferry.converters.pytorch.live import to_numpy
from netferry.validation.comparison import earlier

SEED = 5
rng = np.random.default_rng(SEED)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng([SEED, *shape]).standard_normal(shape)).astype(np.float32)


def carried(source: Any, to: str, inputs: Any = None, **options: Any) -> netferry.Conversion:
    return netferry.convert(source, to, inputs=inputs, seed=SEED, **options)


def passes(source: Any, to: str, inputs: Any = None, **options: Any) -> netferry.Conversion:
    done = carried(source, to, inputs, **options)
    assert done.report is not None
    assert done.report.status == "passed", done.report.to_text()
    return done


# ---- whole numbers -----------------------------------------------------------------------------------


def clipped(low: float, dtype: int, changed: float | None = None) -> onnx.ModelProto:
    """A hundred x, cut to -128 to 127 and cast; with ``changed`` the lowest value becomes that."""
    nodes = [node("Mul", "x hundred", "big"), node("Clip", "big low high", "cut")]
    last = "cut"
    if changed is not None:
        nodes += [node("Equal", "cut low", "at"), node("Where", "at changed cut", "other")]
        last = "other"
    nodes.append(helper.make_node("Round", [last], ["whole"]))
    nodes.append(helper.make_node("Cast", ["whole"], ["y"], to=dtype))
    proto = model(
        nodes, {"x": ("batch", 6)}, {"y": ("batch", 6)},
        {"hundred": np.float32(100), "low": np.float32(low), "high": np.float32(127), "changed": np.float32(changed or 0)},
    )  # fmt: skip
    return retyped(proto, dtype)


@pytest.mark.parametrize("dtype", [TensorProto.INT8, TensorProto.INT32, TensorProto.FLOAT])
@pytest.mark.parametrize("changed", [127.0, -127.0, 0.0])
def test_an_end_of_a_range_is_not_any_other_value(dtype: int, changed: float) -> None:
    source = clipped(-128, dtype)
    assert netferry.verify(source, clipped(-128, dtype), seed=SEED).status == "passed"
    assert netferry.verify(source, clipped(-128, dtype, changed), seed=SEED).status == "failed"


def ranked(kind: str) -> onnx.ModelProto:
    """Two hundred scores behind a sigmoid, which are all one at large inputs; the best five, or the best."""
    nodes = [node("MatMul", "x w", "logits"), node("Sigmoid", "logits", "scores")]
    outputs: dict[str, tuple[Any, ...]]
    if kind == "TopK":
        nodes.append(node("TopK", "scores five", "best which"))
        outputs = {"best": ("batch", 5), "which": ("batch", 5)}
    else:
        nodes.append(node(kind, "scores", "which", axis=1, keepdims=0))
        outputs = {"which": ("batch",)}
    proto = model(nodes, {"x": ("batch", 8)}, outputs, {"w": normal(8, 200), "five": np.int64([5])})
    proto.graph.output[-1].type.tensor_type.elem_type = TensorProto.INT64
    return proto


def best_of_saturated(count: int) -> onnx.ModelProto:
    """The places of the four largest of tanh's values, of which many are 1 in float32."""
    nodes = [node("Tanh", "x", "scores"), node("TopK", "scores four", "best which")]
    made = {"best": ("batch", 4), "which": ("batch", 4)}
    proto = model(nodes, {"x": ("batch", count)}, made, {"four": np.array([4])})
    proto.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    return proto


@pytest.mark.parametrize("seed", [2, 4, 6])
def test_the_order_of_scores_that_kernels_of_tanh_give_decides_nothing(seed: int) -> None:
    """Those of TensorFlow and onnxruntime lie five roundings apart; of 128 rows some show it."""
    source = best_of_saturated(16)
    arrived = netferry.convert(source, "tensorflow", verify=False).model
    report = netferry.verify(source, arrived, seed=seed)
    assert report.status == "passed", report.to_text()


def test_the_wrong_end_of_the_order_is_found_among_saturated_scores() -> None:
    source, other = best_of_saturated(16), best_of_saturated(16)
    other.graph.node[1].attribute.append(helper.make_attribute("largest", 0))
    assert netferry.verify(source, other, seed=SEED).status == "failed"


@pytest.mark.parametrize("kind", ["TopK", "ArgMax", "ArgMin"])
@pytest.mark.parametrize("to", ["pytorch", "mxnet"])
def test_scores_that_saturate_may_change_places(kind: str, to: str) -> None:
    if (kind, to) == ("TopK", "mxnet"):
        pytest.skip("MXNet's topk gives its places as float32; the row is tested elsewhere")
    passes(ranked(kind), to)


def test_another_rank_is_a_fault_among_saturated_scores_too() -> None:
    source, target = ranked("ArgMax"), ranked("ArgMax")
    target.graph.node.insert(2, node("Neg", "scores", "turned"))
    target.graph.node[3].input[0] = "turned"
    assert netferry.verify(source, target, seed=SEED).status == "failed"


# ---- numbers that float32 rounds -----------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.3, 0.7, 0.6])
@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_a_scale_that_float32_rounds_is_no_fault(factor: float, to: str) -> None:
    source = model(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")],
        {"x": ("batch", 3, 8, 8)}, {"y": ("batch", 3, "h", "w")}, {"scales": np.float32([1, 1, factor, factor])},
    )  # fmt: skip
    passes(source, to)


@pytest.mark.parametrize("alpha", [1 / 6, 0.1666667, 0.2])
def test_a_hard_sigmoid_keeps_its_slope(alpha: float) -> None:
    source = model(
        [
            node("MatMul", "x w", "h"), helper.make_node("HardSigmoid", ["h"], ["gate"], alpha=alpha, beta=0.5),
            node("Mul", "h gate", "y"),
        ],
        {"x": ("batch", 8)}, {"y": ("batch", 16)}, {"w": normal(8, 16)},
    )  # fmt: skip
    passes(source, "pytorch")
    other = onnx.ModelProto()
    other.CopyFrom(source)
    other.graph.node[1].attribute[0].f = alpha * (1 + 1e-5)
    assert netferry.verify(source, other, seed=SEED).status == "failed"


def test_buckets_of_positions_are_those_that_float32_gives() -> None:
    class Buckets(nn.Module):
        """Distances in logarithmic buckets, as T5 has them."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            places = torch.arange(x.shape[1])
            apart = (places[None, :] - places[:, None]).abs()
            far = 8 + (torch.log(apart.float().clamp(min=1) / 8) / math.log(128 / 8) * 8).to(torch.long)
            bucket = torch.where(apart < 8, apart, far.clamp(max=15))
            return x @ self.table(bucket).mean(-1)

    module = randomised(Buckets())
    for to in ("onnx", "pytorch"):
        passes(module, to, {"x": normal(2, 40, 40)})


# ---- kernels that err -----------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [-9.0, -14.0, -19.0])
@pytest.mark.parametrize("to", ["pytorch", "mxnet"])
def test_a_sigmoid_near_zero_errs_relative_to_one(bias: float, to: str) -> None:
    source = model(
        [node("MatMul", "x w", "h"), node("Add", "h b", "logit"), node("Sigmoid", "logit", "y")],
        {"x": (1, 8)}, {"y": (1, 1)}, {"w": normal(8, 1, scale=0.3), "b": np.float32([bias])},
    )  # fmt: skip
    passes(source, to)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
def test_weights_of_eight_bits_are_held_to_exact_integers(to: str) -> None:
    weight = rng.integers(0, 256, (8, 5)).astype(np.uint8)
    source = model(
        [node("DequantizeLinear", "q s z", "w", axis=1), node("MatMul", "x w", "y")],
        {"x": ("batch", 8)}, {"y": ("batch", 5)},
        {"q": weight, "s": np.float32([0.1, 0.2, 0.3, 0.1, 0.5]), "z": np.uint8([1, 2, 3, 4, 250])},
    )  # fmt: skip
    passes(source, to)


def test_a_zero_point_off_by_one_is_a_fault() -> None:
    def quantised(zero: int) -> onnx.ModelProto:
        return model(
            [
                node("QuantizeLinear", "x xs xz", "q"), node("MatMulInteger", "q w xz wz", "sum"),
                helper.make_node("Cast", ["sum"], ["wide"], to=TensorProto.FLOAT), node("Mul", "wide scale", "y"),
            ],
            {"x": ("batch", 8)}, {"y": ("batch", 5)},
            {
                "xs": np.float32(0.02), "xz": np.uint8(128), "wz": np.int8(zero), "scale": np.float32(2e-4),
                "w": np.random.default_rng(1).integers(-127, 128, (8, 5)).astype(np.int8),
            },
        )  # fmt: skip

    assert netferry.verify(quantised(0), quantised(0), seed=SEED).status == "passed"
    assert netferry.verify(quantised(0), quantised(1), seed=SEED).status == "failed"
    passes(quantised(3), "pytorch")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_half_precision_is_judged_by_its_own_rounding(dtype: torch.dtype, to: str) -> None:
    module = randomised(nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 4))).to(
        dtype
    )
    x = torch.from_numpy(normal(2, 8)).to(dtype)
    passes(module, to, {"x": to_numpy(x)})


def test_a_wrong_epsilon_shows_in_half_precision() -> None:
    module = randomised(nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.Linear(32, 4))).half()
    other = randomised(nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32, eps=1e-2), nn.Linear(32, 4))).half()
    x = {"x": normal(2, 8).astype(np.float16)}
    assert netferry.verify(module, other, x, seed=SEED).status == "failed"


def test_mixed_precision_of_keras_is_judged_by_its_own_rounding() -> None:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(SEED)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dense(16, activation="relu", dtype="mixed_float16")(inputs)
    source = keras.Model(inputs, keras.layers.Dense(4, dtype="mixed_float16")(hidden))
    for to in ("onnx", "pytorch"):
        passes(source, to)


# ---- what people run ------------------------------------------------------------------------------


class Pooled(nn.Module):
    """An encoder whose result is averaged over time, padding and all."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8) if norm else None)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=mask).mean(1))


PADDING = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]], bool)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_padded_positions_are_zeros_as_under_no_grad(norm: bool, to: str) -> None:
    module = randomised(Pooled(norm))
    inputs = {"x": normal(2, 5, 8), "mask": PADDING}
    done = passes(module, to, inputs)
    assert done.report is not None
    assert any("fast path" in note for note in done.report.notes)
    with torch.no_grad():
        wanted = module(torch.from_numpy(inputs["x"]), torch.from_numpy(PADDING)).numpy()
    (found,) = netferry.run(done.model, inputs).values()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(layer._forward_hooks for layer in module.encoder.layers)


def test_a_target_without_those_zeros_fails() -> None:
    source = randomised(Pooled(False))
    target = randomised(Pooled(False))
    target.encoder.use_nested_tensor = False  # its layers alone, as with gradients
    report = netferry.verify(source, target, {"x": normal(2, 5, 8), "mask": PADDING}, seed=SEED)
    assert report.status == "failed", report.to_text()


def test_rows_that_are_masked_away_are_nan_on_both_sides() -> None:
    module = randomised(Call(lambda x, heads: heads(x, x, x, key_padding_mask=x[..., 0] > -1e9)[0],
                             nn.MultiheadAttention(8, 2, batch_first=True)))  # fmt: skip
    done = carried(module, "pytorch", {"x": normal(2, 5, 8)}, verify=False)
    with torch.no_grad():
        assert torch.isnan(module(torch.zeros(1, 5, 8))).all()
        assert torch.isnan(done.model(torch.zeros(1, 5, 8))).all()


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("wrap", ["", "Bidirectional"])
def test_a_row_of_padding_alone_keeps_its_first_state(cell: str, sequences: bool, wrap: str) -> None:
    keras = pytest.importorskip("keras")
    layers: Any = keras.layers
    ids = keras.Input((5,), dtype="int32")
    layer = getattr(layers, cell)(3, return_sequences=sequences)
    layer = layers.Bidirectional(layer) if wrap else layer
    source = keras.Model(ids, layer(layers.Embedding(7, 4, mask_zero=True)(ids)))
    for place, weight in enumerate(source.weights):
        weight.assign(np.random.default_rng(place).standard_normal(weight.shape) / 2)
    feed = np.array([[1, 2, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]], np.int32)
    wanted = source(feed).numpy()
    done = carried(source, "pytorch", verify=False)
    (found,) = netferry.run(done.model, [feed]).values()
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


TWO_LOOPS = """
<ir_version: 9, opset_import: ["" : 18]>
loops (float[time, batch, 3] x) => (float[steps, batch, 3] y)
{
   shape = Shape(x)
   zero = Constant<value_ints=[0]>()
   one = Constant<value_ints=[1]>()
   three = Constant<value_ints=[3]>()
   first = Slice(shape, zero, one)
   turns = Squeeze(first)
   rest = Slice(shape, one, three)
   start = ConstantOfShape(rest)
   going = Constant<value = bool {1}>()
   last, rows = Loop(turns, going, start) <body = up (int64 i, bool go, float[batch, 3] h) => (bool again, float[batch, 3] kept, float[batch, 3] out) {
       again = Identity(go)
       row = Gather(x, i)
       sum = Add(h, row)
       kept = Tanh(sum)
       out = Identity(kept)
   }>
   end, y = Loop(turns, going, last) <body = down (int64 i, bool go, float[batch, 3] h) => (bool again, float[batch, 3] kept, float[batch, 3] out) {
       again = Identity(go)
       row = Gather(rows, i)
       less = Sub(row, h)
       kept = Tanh(less)
       out = Identity(kept)
   }>
}
"""


@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_a_loop_over_the_rows_of_another_runs(to: str) -> None:
    parse: Callable[[str], onnx.ModelProto] = onnx.parser.parse_model
    passes(parse(TWO_LOOPS), to)


# ---- numbers that no rounding explains -----------------------------------------------------------------


def in_half(changed: Callable[[torch.Tensor], torch.Tensor] | None = None) -> nn.Module:
    made = randomised(nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 4))).half().eval()
    if changed is not None:
        with torch.no_grad():
            made[2].weight.copy_(changed(made[2].weight))
    return made


@pytest.mark.parametrize("changed", [lambda w: w.bfloat16().half(), lambda w: w * 1.02, lambda w: w.flip(0)])
def test_a_weight_of_float16_that_differs_alone_was_not_rounded_anew(changed: Callable[..., Any]) -> None:
    inputs = {"x": normal(2, 6).astype(np.float16)}
    report = netferry.verify(in_half(), in_half(changed), inputs, dynamic={"x": {0: "batch"}}, seed=SEED)
    assert report.status == "failed", report.to_text()


def saturated(bound: float | None) -> onnx.ModelProto:
    nodes = [node("Clip", "x low high", "cut")] if bound else []
    nodes += [node("MatMul", "cut w" if bound else "x w", "logits"), node("Sigmoid", "logits", "y")]
    bounds = {"low": np.float32(-(bound or 0)), "high": np.float32(bound or 0)} if bound else {}
    return model(
        nodes, {"x": ("batch", 4)}, {"y": ("batch", 3)},
        {"w": 8 * normal(4, 3), **bounds},
    )  # fmt: skip


@pytest.mark.parametrize("bound", [2.0, 4.0])
def test_a_saturated_output_hides_no_bound(bound: float) -> None:
    for seed in range(4):
        report = netferry.verify(saturated(None), saturated(bound), seed=seed)
        assert report.status == "failed", report.to_text()


def test_an_average_of_integers_may_fall_to_either_side() -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"), node("DequantizeLinear", "q scale zero", "f"),
        helper.make_node("AveragePool", ["f"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("QuantizeLinear", "m scale zero", "r"), node("DequantizeLinear", "r scale zero", "g"),
        node("GlobalAveragePool", "g", "p"), node("QuantizeLinear", "p scale zero", "s"), node("DequantizeLinear", "s scale zero", "y"),
    ]  # fmt: skip
    proto = model(
        nodes, {"x": ("batch", 3, 8, 8)}, {"y": ("batch", 3, 1, 1)}, {"scale": np.float32(0.0213), "zero": np.uint8(117)}
    )  # fmt: skip
    target = netferry.convert(proto, "pytorch", verify=False).model
    for seed in range(6):
        report = netferry.verify(proto, target, seed=seed)
        assert report.status == "passed", report.to_text()


def test_samples_without_an_output_leave_the_rest_to_tell() -> None:
    nodes = [node("NonZero", "positive", "places")]
    nodes = [node("Greater", "x bound", "positive"), *nodes]
    proto = model(nodes, {"x": (4, 6)}, {"places": (2, "found")}, {"bound": np.float32(0)})
    passes(retyped(proto, TensorProto.INT64), "pytorch")


def test_a_power_of_a_third_is_one_in_every_framework() -> None:
    nodes = [helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[3, 3], p=3)]
    proto = model(nodes, {"x": ("batch", 3, 12, 12)}, {"y": ("batch", 3, 10, 10)}, {})
    passes(proto, "tensorflow")


# ---- steps of a quantiser, one behind the other -------------------------------------------------------------------


def stepped(
    width: int, count: int, gain: float, change: Callable[[Any], Any] | None = None
) -> onnx.ModelProto:
    """What onnxruntime makes of a product in a recurrence: its input in 255 steps of its own range, ``count`` times."""
    weight = np.random.default_rng(0).integers(-127, 128, (width, width)).astype(np.int8)
    nodes, last = [], "x"
    for k in range(count):
        nodes += [
            node("DynamicQuantizeLinear", last, f"q{k} s{k} z{k}"), node("MatMulInteger", f"q{k} w z{k}", f"i{k}"),
            helper.make_node("Cast", [f"i{k}"], [f"f{k}"], to=TensorProto.FLOAT), node("Mul", f"s{k} ws", f"c{k}"),
            node("Mul", f"f{k} c{k}", f"g{k}"), node("Tanh", f"g{k}", f"h{k}"),
        ]  # fmt: skip
        last = f"h{k}"
    nodes.append(node("MatMul", f"{last} out", "y"))
    return model(
        nodes, {"x": ("batch", width)}, {"y": ("batch", 5)},
        {"w": change(weight) if change else weight, "ws": np.float32(gain / 73 / np.sqrt(width)), "out": normal(width, 5)},
    )  # fmt: skip


STEPPED = [(16, 8, 4.0), (24, 6, 2.5), (40, 8, 4.0)]


@pytest.fixture(params=[earlier.ALLOWANCE, 0.0], ids=["every sample asked", "the first alone"])
def _allowance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "ALLOWANCE", request.param)


@pytest.mark.usefixtures("_allowance")
@pytest.mark.parametrize("sizes", STEPPED)
def test_a_chain_of_quantisers_is_judged_by_what_rounding_does_to_it(sizes: tuple[int, int, float]) -> None:
    """Now and then rounding alone takes one of them to the next integer, from where the rest goes another way."""
    source = stepped(*sizes)
    target = netferry.convert(source, "pytorch", verify=False).model
    for seed in range(4):
        report = netferry.verify(source, target, seed=seed)
        assert report.status == "passed", report.to_text()


@pytest.mark.usefixtures("_allowance")
@pytest.mark.parametrize("sizes", STEPPED)
@pytest.mark.parametrize(
    "change",
    [
        lambda w: np.roll(w, 1, 0),
        lambda w: np.where(np.arange(len(w)) == 7, w // 2, w).astype(np.int8),
        lambda w: (w + (np.arange(len(w)) == 3) * (w < 100) * 8).astype(np.int8),
    ],
    ids=["rows moved", "a column halved", "a column moved"],
)
def test_another_weight_in_it_is_a_fault(change: Callable[[Any], Any], sizes: tuple[int, int, float]) -> None:
    report = netferry.verify(stepped(*sizes), stepped(*sizes, change), seed=SEED)
    assert report.status == "failed", report.to_text()


class Bucketed(nn.Module):
    """x: (batch, time, 6) -> the same, by attention whose bias is of distances: 8 and 16 lie on the edge of a bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Embedding(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(x.shape[1])
        gap = (place[:, None] - place[None]).abs()
        far = 4 + (torch.log(gap.clamp(min=1).float() / 4) / math.log(4) * 4).long()
        bias = self.bias(torch.where(gap < 4, gap, far.clamp(max=7))).permute(2, 0, 1)
        weights = (x[:, None] @ x[:, None].transpose(-1, -2) / 3 + bias).softmax(-1)
        return (weights @ x[:, None]).mean(1)


@pytest.mark.parametrize("factor", [1.0, 1.01, 0.97])
def test_an_edge_on_which_rounding_decides_hides_no_other_weight(factor: float) -> None:
    """At each distance rounding takes one bucket or the next, and nothing between: another bias is neither."""
    source, target = randomised(Bucketed()), randomised(Bucketed())
    target.load_state_dict(source.state_dict())
    with torch.no_grad():
        target.bias.weight[4:] *= factor
    for seed in range(3):
        report = netferry.verify(
            source, target, {"x": normal(2, 10, 6)}, dynamic={"x": {0: "batch", 1: "time"}}, seed=seed
        )
        assert report.status == ("passed" if factor == 1 else "failed"), report.to_text()
