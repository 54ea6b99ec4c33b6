"""ONNX to MXNet: what arrives, loaded by gluon from its files, against onnx's evaluator and the source framework."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from mxnet_oracle import Oracle
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from netferry import converters
from netferry.converters import artifact
from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet import files
from netferry.converters.mxnet.imported import ImportedSymbol
from netferry.converters.signature import Array, examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

Dims = Sequence[int | str]


# ---- making models and holding them against the truth ----------------------------------------------


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[Any, Dims]],
    outputs: Mapping[str, Any],
    weights: Mapping[str, Array] | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    """``inputs``: name -> (dtype, sizes); ``outputs``: name -> (dtype, rank)."""

    def kind(dtype: Any) -> int:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    graph = helper.make_graph(
        list(nodes),
        "g",
        [
            helper.make_tensor_value_info(name, kind(dtype), list(dims))
            for name, (dtype, dims) in inputs.items()
        ],
        [
            helper.make_tensor_value_info(name, kind(dtype), [f"{name}_{i}" for i in range(rank)])
            for name, (dtype, rank) in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def arrive(proto: onnx.ModelProto | ir.Model, name: str = "model") -> ImportedSymbol:
    source = ir.from_proto(proto) if isinstance(proto, onnx.ModelProto) else proto
    arrived = converters.import_model(source, "mxnet", name=name)
    assert isinstance(arrived, ImportedSymbol)
    return arrived


def outputs_of(
    arrived: ImportedSymbol, feeds: Sequence[Sequence[Array]], oracle: Oracle, folder: Path
) -> Any:
    files.write(arrived, folder / "net-symbol.json")
    return oracle.imported(
        str(folder / "net"), [s.name for s in arrived.signature.inputs], list(map(list, feeds))
    )


def assert_same(got: Array, want: Array, tolerance: float = 1e-5) -> None:
    """Integers and truth values exactly, floats relative to the output's scale; NaN equals NaN."""
    want = np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    finite = want[np.isfinite(want)]
    scale = float(np.max(np.abs(finite), initial=0.0)) or 1.0
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


def check(
    proto: onnx.ModelProto,
    feeds: Sequence[Sequence[Array]],
    oracle: Oracle,
    folder: Path,
    truth: Callable[[onnx.ModelProto], Any] = ReferenceEvaluator,
) -> ImportedSymbol:
    arrived = arrive(proto)
    judge = truth(proto)
    names = [value.name for value in proto.graph.input]
    for feed, got in zip(feeds, outputs_of(arrived, feeds, oracle, folder), strict=True):
        for mine, other in zip(got, judge.run(None, dict(zip(names, feed, strict=True))), strict=True):
            assert_same(mine, other)
    return arrived


def onnxruntime(proto: onnx.ModelProto) -> Any:
    """For what onnx's own evaluator does not compute."""
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def ops(arrived: ImportedSymbol) -> list[str]:
    return [node.op for node in arrived.graph.nodes if not node.is_variable]


# ---- where MXNet's own operators mean something else ------------------------------------------------

F4, F8, I4, I8, U1 = (np.dtype(kind) for kind in ("f4", "f8", "i4", "i8", "u1"))
BIG = 2**60


def one(
    operator: str, *arrays: Array, gives: Any = None, **attributes: Any
) -> tuple[onnx.ModelProto, list[Array]]:
    """A model of one operator whose inputs are all inputs of the model."""
    names = [f"x{i}" for i in range(len(arrays))]
    node = helper.make_node(operator, names, ["y"], name="it", **attributes)
    taken = {name: (array.dtype, array.shape) for name, array in zip(names, arrays, strict=True)}
    rank = max(array.ndim for array in arrays)
    return model([node], taken, {"y": (gives or arrays[0].dtype, rank)}), list(arrays)


EDGES = np.array([np.nan, -0.0, 0.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, np.inf, -np.inf], F4)

TRAPS: dict[str, Callable[[], tuple[onnx.ModelProto, list[Array]]]] = {
    "rounding is half to even": lambda: one("Round", EDGES),
    "the sign of NaN is NaN": lambda: one("Sign", EDGES),
    "relu keeps NaN": lambda: one("Relu", EDGES),
    "a softplus far below zero": lambda: one("Softplus", np.linspace(-30, 30, 61).astype(F4)),
    "comparisons give truth values": lambda: one("Less", EDGES, EDGES[::-1].copy(), gives=bool),
    "64-bit integers compare exactly": lambda: one(
        "Equal", np.array([BIG, BIG]), np.array([BIG + 1, BIG]), gives=bool
    ),
    "the modulus of 64-bit integers is exact": lambda: one(
        "Mod", np.array([BIG + 1, 7, -7, 7, -7]), np.array([2**59, 2, 2, -2, -2])
    ),
    "the C modulus of 64-bit integers is exact": lambda: one(
        "Mod", np.array([BIG + 1, 7, -7, 7, -7]), np.array([2**59, 2, 2, -2, -2]), fmod=1
    ),
    "the modulus of floats has the dividend's sign": lambda: one(
        "Mod", np.array([5.5, -5.5, 5.5, -5.5], F4), np.array([3, 3, -3, -3], F4), fmod=1
    ),
    "the modulus of 32-bit integers has the divisor's sign": lambda: one(
        "Mod", np.array([5, -5, 5, -5], I4), np.array([3, 3, -3, -3], I4)
    ),
    "integers divide toward zero": lambda: one("Div", np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])),
    "the magnitude of 64-bit integers is exact": lambda: one("Abs", np.array([-BIG - 1, BIG + 1, 0])),
    "bytes wrap": lambda: one("Add", np.array([250, 3], U1), np.array([10, 3], U1)),
    "truth values broadcast": lambda: one(
        "And", np.array([[True], [False]]), np.array([[True, False, True]]), gives=bool
    ),
    "the first of equal maxima": lambda: one(
        "ArgMax", np.array([[3, 1, 3, 2], [0, 0, 0, 0]], F4), gives=I8, axis=1, keepdims=0
    ),
    "an index from the end": lambda: one(
        "Gather", np.arange(12, dtype=F4).reshape(3, 4), np.array([[-1, 0], [2, -3]]), axis=0
    ),
    "an index from the end along an axis": lambda: one(
        "GatherElements", np.arange(12, dtype=F4).reshape(3, 4), np.array([[-1, 0, 1, -2]]), axis=0
    ),
    "casts to integers go toward zero": lambda: (
        one("Cast", np.array([1.9, -1.9, 0.5], F4), gives=I8, to=TensorProto.INT64)
    ),
    "a cast of floats to truth values": lambda: (
        one("Cast", np.array([0.25, 0.0, -1, np.nan], F4), gives=bool, to=TensorProto.BOOL)
    ),
    "a maximum of which one side is NaN": lambda: one("Max", EDGES, np.full_like(EDGES, 0.25)),
    "gelu in its erf form": lambda: one("Gelu", np.linspace(-4, 4, 41).astype(F4)),
    "gelu in its tanh form": lambda: one("Gelu", np.linspace(-4, 4, 41).astype(F4), approximate="tanh"),
    "the slope of elu": lambda: one("Elu", np.linspace(-4, 4, 41).astype(F4), alpha=0.7),
    "the slope of leaky relu": lambda: one("LeakyRelu", np.linspace(-4, 4, 41).astype(F4), alpha=0.3),
    "the mean of windows without their padding": lambda: one(
        "AveragePool", drawn(2, 3, 7, 6), kernel_shape=[3, 2], pads=[1, 1, 1, 1], strides=[2, 2]
    ),
    "the mean of windows with their padding": lambda: one(
        "AveragePool", drawn(2, 3, 7, 6), kernel_shape=[3, 2], pads=[1, 1, 1, 1], strides=[2, 2], count_include_pad=1
    ),
    "the mean of a partial last window": lambda: one(
        "AveragePool", drawn(2, 3, 8, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1,
        pads=[1, 0, 0, 0],
    ),
    "the maximum of a partial last window": lambda: one(
        "MaxPool", drawn(2, 3, 8, 8) - 9, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[0, 1, 1, 0]
    ),
    "the norm of windows": lambda: one("LpPool", drawn(2, 3, 8, 8), kernel_shape=[2, 3], strides=[2, 1], p=1),
}  # fmt: skip


def drawn(*dims: int, seed: int = 3) -> Array:
    return np.random.default_rng([seed, *dims]).normal(0.1, 1.2, dims).astype(F4)


@pytest.mark.parametrize("trap", TRAPS)
def test_an_operator_means_what_onnx_means(trap: str, oracle: Oracle, tmp_path: Path) -> None:
    proto, arrays = TRAPS[trap]()
    check(proto, [arrays], oracle, tmp_path)


@pytest.mark.parametrize("largest", [0, 1])
def test_equal_elements_keep_their_order_in_topk(largest: int, oracle: Oracle, tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 4, (2, 40, 3)).astype(F4)
    node = helper.make_node("TopK", ["x", "k"], ["values", "indices"], axis=1, largest=largest)
    proto = model(
        [node], {"x": (F4, ("batch", 40, 3))}, {"values": (F4, 3), "indices": (I8, 3)}, {"k": np.array([17])}
    )
    arrived = arrive(proto)
    order = np.argsort(-array if largest else array, axis=1, kind="stable")[:, :17]
    ((values, indices),) = outputs_of(arrived, [[array]], oracle, tmp_path)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(array, order, 1))


def test_clipping_keeps_large_integers(oracle: Oracle, tmp_path: Path) -> None:
    array = np.array([2**30 + 1, 5, -(2**30) - 1], I4)
    bounds = {"low": np.array(-(2**30), I4), "high": np.array(2**30, I4)}
    node = helper.make_node("Clip", ["x", "low", "high"], ["y"])
    check(model([node], {"x": (I4, (3,))}, {"y": (I4, 1)}, bounds), [[array]], oracle, tmp_path)


VALUES: dict[str, Array] = {
    "f2": np.array([-3.7, -1.5, -0.5, 0, 0.3, 1, 2.5, 7.25], "f2"),
    "f4": np.array([-3.7, -1.5, -0.5, 0, 0.3, 1, 2.5, 7.25], "f4"),
    "f8": np.array([-3.7, -1.5, -0.5, 0, 0.3, 1, 2.5, 7.25], "f8"),
    "i4": np.array([-(2**30) - 1, -7, -3, 0, 1, 2, 7, 2**30 + 1], "i4"),
    "i8": np.array([-BIG - 1, -7, -3, 0, 1, 2, 2**53 + 1, BIG + 1], "i8"),
    "u1": np.array([0, 1, 2, 3, 7, 100, 200, 255], "u1"),
}
TWO_SIDED = "Add Sub Mul Div Pow Max Min Mod Less Equal GreaterOrEqual".split()
TRUE_OR_FALSE = frozenset({"Less", "Equal", "GreaterOrEqual"})


def against_a_number(operator: str, dtype: str, side: int) -> tuple[onnx.ModelProto, Array]:
    """x with the constant 3, or the constant 3 with x."""
    x = VALUES[dtype]
    x = np.where(x == 0, 5, x).astype(dtype) if side else x
    exponent = operator == "Pow" and side == 0
    options = {"fmod": 1} if operator == "Mod" and x.dtype.kind == "f" else {}
    node = helper.make_node(operator, ["x", "c"][:: -1 if side else 1], ["y"], **options)
    gives = bool if operator in TRUE_OR_FALSE else x.dtype
    x = np.abs(x) if operator == "Pow" else x
    proto = model(
        [node], {"x": (x.dtype, x.shape)}, {"y": (gives, 1)}, {"c": np.array(2 if exponent else 3, dtype)}
    )
    return proto, x


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("operator", TWO_SIDED)
def test_arithmetic_with_a_number_is_right_or_refused(
    operator: str, dtype: str, side: int, oracle: Oracle, tmp_path: Path
) -> None:
    proto, x = against_a_number(operator, dtype, side)
    try:
        arrived = arrive(proto)
    except UnsupportedError:
        assert (operator, dtype[0]) in {("Pow", "i"), ("Pow", "u")}
        return
    with np.errstate(all="ignore"):
        (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    (((got,)),) = outputs_of(arrived, [[x]], oracle, tmp_path)
    assert_same(got, want, {"f2": 2e-3, "f4": 1e-6, "f8": 1e-12}.get(dtype, 0))


# ---- layers ----------------------------------------------------------------------------------------


def test_a_batch_norm_keeps_its_epsilon_and_its_statistics_as_states(oracle: Oracle, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "bn.weight": rng.normal(size=4).astype(F4),
        "bn.bias": rng.normal(size=4).astype(F4),
        "bn.mean": rng.normal(size=4).astype(F4),
        "bn.var": rng.uniform(0.01, 0.2, 4).astype(F4),
    }
    node = helper.make_node(
        "BatchNormalization", ["x", *weights], ["y"], name="bn", epsilon=0.05, momentum=0.75
    )
    proto = model([node], {"x": (F4, ("batch", 4, 5))}, {"y": (F4, 3)}, weights)
    arrived = check(proto, [[drawn(3, 4, 5)], [drawn(1, 4, 5)]], oracle, tmp_path)
    (layer,) = (node for node in arrived.graph.nodes if node.op == "BatchNorm")
    assert layer.attrs["fix_gamma"] == "False"
    assert float(layer.attrs["momentum"]) == 0.75
    assert arrived.states == {"bn.mean", "bn.var"}
    assert set(arrived.params) == {"arg:bn.weight", "arg:bn.bias", "aux:bn.mean", "aux:bn.var"}


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_group_norm_scales_each_channel(groups: int, oracle: Oracle, tmp_path: Path) -> None:
    weights = {"w": drawn(4, seed=1), "b": drawn(4, seed=2)}
    node = helper.make_node("GroupNormalization", ["x", "w", "b"], ["y"], num_groups=groups, epsilon=0.02)
    proto = model([node], {"x": (F4, ("batch", 4, 5))}, {"y": (F4, 3)}, weights)
    check(proto, [[drawn(3, 4, 5)], [drawn(1, 4, 5)]], oracle, tmp_path)


def test_an_embedding_counts_negative_indices_from_the_end(oracle: Oracle, tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "x"], ["y"], name="words")
    proto = model([node], {"x": (I8, ("batch", 3))}, {"y": (F4, 3)}, {"table": drawn(5, 2)})
    arrived = check(
        proto, [[np.array([[0, -1, 4], [-5, 2, -2]])], [np.array([[1, 1, -3]])]], oracle, tmp_path
    )
    assert "Embedding" in ops(arrived)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 1, 1, 1], "strides": [2, 1]},
        {"pads": [0, 1, 2, 0]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "dilations": [2, 1]},
        {"group": 2, "dilations": [1, 2]},
    ],
)
def test_a_convolution_pads_as_onnx_says(attributes: dict[str, Any], oracle: Oracle, tmp_path: Path) -> None:
    groups = attributes.get("group", 1)
    weights = {"w": drawn(6, 4 // groups, 3, 2), "b": drawn(6)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", **attributes)
    proto = model([node], {"x": (F4, ("batch", 4, 9, 8))}, {"y": (F4, 4)}, weights)
    arrived = check(proto, [[drawn(2, 4, 9, 8)], [drawn(1, 4, 9, 8)]], oracle, tmp_path)
    assert "Convolution" in ops(arrived)


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]},
        {"strides": [2, 2], "pads": [0, 1, 2, 0]},
        {"strides": [2, 2], "group": 2, "dilations": [2, 1]},
    ],
)
def test_a_transposed_convolution_cuts_as_onnx_says(
    attributes: dict[str, Any], oracle: Oracle, tmp_path: Path
) -> None:
    weights = {"w": drawn(4, 3, 3, 3), "b": drawn(3 * attributes.get("group", 1))}
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)
    proto = model([node], {"x": (F4, ("batch", 4, 5, 6))}, {"y": (F4, 4)}, weights)
    check(proto, [[drawn(2, 4, 5, 6)], [drawn(1, 4, 5, 6)]], oracle, tmp_path, onnxruntime)


# ---- whole nets from PyTorch -------------------------------------------------------------------------


def torch_nets() -> dict[str, tuple[Callable[[], Any], Callable[[int], Array], dict[int, str]]]:
    """Name -> (maker, input of a batch, free axes)."""
    import torch
    from torch import nn

    class Cnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.second = nn.Conv2d(8, 16, 3, groups=2, bias=False)
            self.other = nn.BatchNorm2d(16, eps=1e-2, momentum=0.2)
            self.pool, self.drop, self.head = nn.MaxPool2d(2), nn.Dropout(0.3), nn.Linear(16, 5)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(x)))
            x = self.pool(nn.functional.gelu(self.other(self.second(x))))
            return self.head(self.drop(x.mean((2, 3))))

    class Recurrent(nn.Module):
        def __init__(self, cell: str) -> None:
            super().__init__()
            self.words = nn.Embedding(20, 6)
            self.cells = getattr(nn, cell)(6, 7, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(14, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.cells(self.words(x))[0])

    def mlp() -> Any:
        return nn.Sequential(nn.Linear(6, 10), nn.LayerNorm(10), nn.Tanh(), nn.Linear(10, 4))

    def encoder() -> Any:
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def tokens(batch: int) -> Array:
        return np.random.default_rng(batch).integers(0, 20, (batch, 4 + batch))

    batch, both = {0: "batch"}, {0: "batch", 1: "time"}
    return {
        "mlp": (mlp, lambda n: drawn(n, 6), batch),
        "cnn": (Cnn, lambda n: drawn(n, 3, 16, 16), batch),
        "lstm": (lambda: Recurrent("LSTM"), tokens, both),
        "gru": (lambda: Recurrent("GRU"), tokens, both),
        "rnn": (lambda: Recurrent("RNN"), tokens, both),
        "encoder": (encoder, lambda n: drawn(n, 3 + n, 16), both),
    }


def randomised(module: Any) -> Any:
    """Weights and statistics that tell everything apart, the same each time."""
    import torch

    made = torch.Generator().manual_seed(5)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dtype == torch.float32:
            noise = torch.rand(tensor.shape, generator=made)
            tensor.data = noise + 0.5 if name.endswith("running_var") else noise - 0.45
    return module.eval()


def torch_arrival(name: str) -> tuple[Any, Callable[[int], Array], ImportedSymbol, Any]:
    from netferry.converters.pytorch.to_onnx import to_onnx

    make, feed, free = torch_nets()[name]
    net = randomised(make())
    export = to_onnx(net, examples({"x": feed(3)}, {"x": free}))
    return net, feed, arrive(export.model, name), export


NETS = ("mlp", "cnn", "lstm", "gru", "rnn", "encoder")


@pytest.mark.parametrize("name", NETS)
def test_a_net_from_pytorch_arrives_with_its_batch_and_length_free(
    name: str, oracle: Oracle, tmp_path: Path
) -> None:
    import torch

    net, feed, arrived, _ = torch_arrival(name)
    sizes = (3, 1, 2)
    results = outputs_of(arrived, [[feed(n)] for n in sizes], oracle, tmp_path)
    for n, (got,) in zip(sizes, results, strict=True):
        with torch.no_grad():
            assert_same(got, net(torch.from_numpy(feed(n))).numpy())


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_weights_from_pytorch_come_back_bit_equal(name: str, tmp_path: Path) -> None:
    """PyTorch -> MXNet files -> ONNX: every weight that the layers share, by its own name."""
    net, _, arrived, _ = torch_arrival(name)
    files.write(arrived, tmp_path / "net-symbol.json")
    params = files.read_params(tmp_path / "net-0000.params")
    for key, tensor in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        assert params[arrived.names.get(key, key)].tobytes() == tensor.numpy().tobytes(), key


def test_a_net_trains_and_its_statistics_move(oracle: Oracle, tmp_path: Path) -> None:
    _, feed, arrived, _ = torch_arrival("cnn")
    files.write(arrived, tmp_path / "net-symbol.json")
    target = np.eye(5, dtype=F4)[np.arange(8) % 5]
    losses, before, after = oracle.trained(str(tmp_path / "net"), ["x"], feed(8), target, 20)
    assert losses[-1] < 0.7 * losses[0]
    moved = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert moved | {"first.bias"} == set(arrived.weights)  # before a BatchNorm a bias has no gradient


def test_no_gradient_reaches_a_constant(oracle: Oracle, tmp_path: Path) -> None:
    mask = np.array([[0.5, 2.0, 3.0]], F4)
    nodes = [
        helper.make_node("Constant", [], ["mask"], value=numpy_helper.from_array(mask)),
        helper.make_node("Where", ["keep", "x", "mask"], ["y"]),
        helper.make_node("Mul", ["y", "w"], ["z"]),
    ]
    weights = {"w": np.array([1.0, -1.0, 2.0], F4), "keep": np.array([[True, False, True]])}
    proto = model(nodes, {"x": (F4, ("batch", 3))}, {"z": (F4, 2)}, weights)
    arrived = check(proto, [[drawn(2, 3)]], oracle, tmp_path)
    _, before, after = oracle.trained(str(tmp_path / "net"), ["x"], drawn(4, 3), drawn(4, 3), 3)
    moved = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert "w" in moved
    assert not moved & arrived.constants


# ---- there and back ----------------------------------------------------------------------------------


def alone(layer: str) -> str:
    """A recurrent layer that keeps its states to itself."""
    return f"(lambda net: (net.add({layer}), net)[1])(nn.HybridSequential())"


GLUON = {
    "resnet": ("mx.gluon.model_zoo.vision.resnet18_v1(classes=10)", (3, 3, 32, 32)),
    "mobilenet": ("mx.gluon.model_zoo.vision.mobilenet_v2_0_25(classes=10)", (3, 3, 32, 32)),
    "squeezenet": ("mx.gluon.model_zoo.vision.squeezenet1_1(classes=10)", (2, 3, 224, 224)),
    "perceptron": ("nn.Dense(7, in_units=4, activation='tanh')", (3, 4)),
    "lstm": (alone("rnn.LSTM(7, 2, bidirectional=True, input_size=4)"), (5, 3, 4)),
    "gru": (alone("rnn.GRU(7, input_size=4)"), (5, 3, 4)),
}


@pytest.mark.parametrize("name", GLUON)
def test_a_gluon_net_comes_home_bit_equal(name: str, oracle: Oracle, tmp_path: Path) -> None:
    case, dims = GLUON[name]
    feeds = [[drawn(*dims)], [drawn(dims[0], 1, *dims[2:]) if len(dims) == 3 else drawn(1, *dims[1:])]]
    there = oracle.gluon(case, feeds, str(tmp_path / "home"), seed=4)
    home = files.read(artifact.look(tmp_path / "home-symbol.json"))
    given = examples({"data": feeds[0][0]}, {"data": {1 if len(dims) == 3 else 0: "batch"}})
    arrived = arrive(to_onnx(home, given))
    back = outputs_of(arrived, feeds, oracle, tmp_path)
    for one_way, both_ways in zip(there, back, strict=True):
        assert_same(both_ways[0], one_way[0])
    assert {key: array.tobytes() for key, array in home.params.items()} == {
        key: array.tobytes() for key, array in arrived.weights.items()
    }


def to_onnx(home: Any, given: Any) -> ir.Model:
    from netferry.converters.mxnet.to_onnx import to_onnx as carry

    return carry(home, given).model


# ---- files, source, names ----------------------------------------------------------------------------


def test_nothing_is_imported_to_write(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    proto = model([node], {"x": (F4, ("batch", 3))}, {"y": (F4, 2)}, {"w": drawn(2, 3), "b": drawn(2)})
    onnx.save(proto, tmp_path / "net.onnx")
    program = (
        "import sys, onnx_ir as ir; from pathlib import Path; from netferry import converters;"
        f"a = converters.import_model(ir.load({str(tmp_path / 'net.onnx')!r}), 'mxnet');"
        f"converters.write(a, Path({str(tmp_path / 'net-symbol.json')!r}));"
        "assert 'mxnet' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {p.name for p in tmp_path.glob("[!.]*")} == {"net.onnx", "net-symbol.json", "net-0000.params"}


@pytest.mark.parametrize("name", NETS)
def test_the_source_builds_the_same_symbol(name: str, oracle: Oracle, tmp_path: Path) -> None:
    _, feed, arrived, _ = torch_arrival(name)
    (direct,) = outputs_of(arrived, [[feed(2)]], oracle, tmp_path)
    arrived.write_source(tmp_path / "module.py")
    (results, text) = oracle.from_module(str(tmp_path / "module.py"), [[feed(2)]])
    np.testing.assert_array_equal(results[0][0], direct[0])
    assert by_name(json.loads(text)) == by_name(json.loads((tmp_path / "net-symbol.json").read_text()))


SNAPSHOT = """\
def symbol():
    \"\"\"The graph; parameters are variables under their names.\"\"\"
    x = mx.sym.var('x', shape=(0, 3), dtype='float32', attr={'__input__': '0'})
    fc_weight = mx.sym.var('fc.weight', shape=(2, 3), dtype='float32')
    fc_bias = mx.sym.var('fc.bias', shape=(2,), dtype='float32')
    fc = mx.sym.FullyConnected(x, fc_weight, fc_bias, num_hidden=2, name='fc')
    scaled = mx.sym._internal._mul_scalar(fc, scalar=0.5, name='scaled')
    equal = numpy_like('_npi_greater', scaled, fc, attr={'__output__': 'larger'}, name='equal')
    return equal
"""


def test_the_source_reads_line_by_line() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["a"], name="fc", transB=1),
        helper.make_node("Mul", ["a", "half"], ["b"], name="scaled"),
        helper.make_node("Greater", ["b", "a"], ["larger"], name="equal"),
    ]
    weights = {"fc.weight": drawn(2, 3), "fc.bias": drawn(2), "half": np.array(0.5, F4)}
    proto = model(nodes, {"x": (F4, ("batch", 3))}, {"larger": (bool, 2)}, weights)
    text = arrive(proto).source
    assert SNAPSHOT in text
    compile(text, "model.py", "exec")


def by_name(symbol: dict[str, Any]) -> dict[str, Any]:
    """A symbol whose nodes may stand in any order that suits them."""
    nodes = symbol["nodes"]

    def told(node: dict[str, Any]) -> Any:
        attrs = {
            key: text for key, text in node.get("attrs", {}).items() if key not in ("__init__", "num_args")
        }
        return node["op"], attrs, [(nodes[place]["name"], output) for place, output, *_ in node["inputs"]]

    heads = [(nodes[place]["name"], output) for place, output, *_ in symbol["heads"]]
    return {node["name"]: told(node) for node in nodes} | {"": heads}


def test_a_hostile_name_stays_data(oracle: Oracle, tmp_path: Path) -> None:
    evil = '"); import os; os.abort() #\n'
    node = helper.make_node("Mul", ["x", evil], ["y"], name=evil)
    proto = model([node], {"x": (F4, ("batch", 3))}, {"y": (F4, 2)}, {evil: drawn(3)})
    arrived = arrive(proto, name='"""\nimport os')
    arrived.write_source(tmp_path / "module.py")
    ((got,),), _ = oracle.from_module(str(tmp_path / "module.py"), [[drawn(2, 3)]])
    assert_same(got, drawn(2, 3) * drawn(3))


def test_outputs_keep_their_names(oracle: Oracle, tmp_path: Path) -> None:
    """One value twice, an input as it is, a value without axes: each stands under the source's name."""
    import netferry

    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Identity", ["x"], ["c"]),
        helper.make_node("ReduceSum", ["a"], ["total"], keepdims=0),
    ]
    proto = model(
        nodes, {"x": (F4, ("batch", 3))}, {"a": (F4, 2), "b": (F4, 2), "c": (F4, 2), "total": (F4, 0)}
    )
    check(proto, [[drawn(2, 3)], [drawn(1, 3)]], oracle, tmp_path)
    onnx.save(proto, tmp_path / "net.onnx")
    report = netferry.verify(str(tmp_path / "net.onnx"), str(tmp_path / "net-symbol.json"))
    assert report.status == "passed", report
    assert [output.name for output in report.outputs] == ["a", "b", "c", "total"]


def test_the_verdict_of_an_arrived_net_is_passed(tmp_path: Path) -> None:
    import netferry

    _, _, arrived, export = torch_arrival("cnn")
    files.write(arrived, tmp_path / "net-symbol.json")
    onnx.save(ir.to_proto(export.model), tmp_path / "net.onnx")
    assert netferry.verify(str(tmp_path / "net.onnx"), str(tmp_path / "net-symbol.json")).status == "passed"


@pytest.mark.parametrize("place", ["net-symbol.json", "net.json", "net"])
def test_a_symbol_is_written_beside_its_parameters(place: str, tmp_path: Path) -> None:
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    arrived = arrive(model([node], {"x": (F4, ("batch", 3))}, {"y": (F4, 2)}, {"w": drawn(3)}))
    files.write(arrived, tmp_path / place)
    symbol = tmp_path / (place if place.endswith(".json") else "net-symbol.json")
    assert json.loads(symbol.read_text())["attrs"] == {"mxnet_version": ["int", 10901]}
    np.testing.assert_array_equal(files.read_params(tmp_path / "net-0000.params")["w"], drawn(3))


# ---- refusals ----------------------------------------------------------------------------------------


def refused(proto: onnx.ModelProto) -> str:
    with pytest.raises(UnsupportedError) as caught:
        arrive(proto)
    return str(caught.value)


def test_every_node_that_cannot_be_carried_is_named() -> None:
    nodes = [
        helper.make_node("Compress", ["x", "keep"], ["a"], name="first", axis=0),
        helper.make_node("Relu", ["a"], ["b"], name="between"),
        helper.make_node("NonZero", ["b"], ["y"], name="second"),
    ]
    proto = model(nodes, {"x": (F4, (3, 4)), "keep": (bool, (3,))}, {"y": (I8, 2)})
    message = refused(proto)
    assert "'first' (Compress)" in message
    assert "'second' (NonZero)" in message
    assert "between" not in message


@pytest.mark.parametrize(
    ("operator", "dtype", "says"),
    [("Add", "uint16", "uint16"), ("Neg", "int16", "int16"), ("Add", "uint32", "uint32")],
)
def test_a_dtype_that_mxnet_does_not_compute_with_is_refused(operator: str, dtype: str, says: str) -> None:
    arrays = [np.ones((2, 3), dtype)] * (2 if operator == "Add" else 1)
    assert says in refused(one(operator, *arrays)[0])


def test_a_shape_that_only_an_input_knows_is_refused() -> None:
    node = helper.make_node("Reshape", ["x", "sizes"], ["y"], name="shape")
    message = refused(model([node], {"x": (F4, ("n", "m")), "sizes": (I8, (3,))}, {"y": (F4, 3)}))
    assert "'shape' (Reshape)" in message


def test_a_gru_that_resets_before_the_product_is_refused() -> None:
    weights = {"w": drawn(1, 9, 2), "r": drawn(1, 9, 3)}
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=3, name="cells")
    assert "linear_before_reset" in refused(
        model([node], {"x": (F4, ("time", "batch", 2))}, {"y": (F4, 4)}, weights)
    )


# ---- free sizes --------------------------------------------------------------------------------------


NUMBERS: dict[str, Array] = {
    "zero": np.array([0]), "one": np.array([1]), "three": np.array([3]), "last": np.array([-1]), "end": np.array([2**63 - 1]),
    "front": np.array([-(2**63) + 1]), "start": np.array(0), "step": np.array(1), "heads": np.array([0, 0, 2, 3]),
    "two": np.array([2]), "six": np.array([6]), "seven": np.array([7]), "second": np.array(2), "third": np.array(3), "fifth": np.array(5), "any": np.array([-1]), "column": np.array([-1, 1]),
    "back": np.array([-3]), "rows": np.array([6, -1]), "ramp": np.array([[0.5], [1.5], [2.5]], np.float32).T,
    "flat": np.array([-1, 6]), "table": drawn(1, 50, 6), "row": drawn(1, 1, 6),
}  # fmt: skip
"""Weights and constants that the graphs below may name."""

FREE: dict[str, tuple[int, list[str]]] = {
    "heads split and merged": (3, [
        "Reshape x,heads -> a", "Transpose a -> b; perm=[0,2,1,3]", "Relu b -> c",
        "Transpose c -> d; perm=[0,2,1,3]", "Shape x -> s", "Reshape d,s -> y",
    ]),
    "batch and time merged and parted": (3, [
        "Reshape x,flat -> a", "Relu a -> b", "Shape x -> s", "Reshape b,s -> y",
    ]),
    "the last step": (2, ["Slice x,last,end,one -> a", "Squeeze a,one -> y"]),
    "all but the first step": (3, ["Slice x,one,end,one -> y"]),
    "all but the last step": (3, ["Slice x,zero,last,one -> y"]),
    "backwards": (3, ["Slice x,last,front,one,last -> y"]),
    "a position table as long as the input": (3, [
        "Shape x -> s; start=1 end=2", "Slice table,zero,s,one -> t", "Add x,t -> y",
    ]),
    "positions counted": (3, [
        "Shape x -> s; start=1 end=2", "Squeeze s -> n", "Range start,n,step -> r", "Cast r -> f; to=1",
        "Unsqueeze f,one -> u", "Add x,u -> y",
    ]),
    "a mean over time": (2, ["ReduceMean x,one -> a; keepdims=0", "Softmax a -> y"]),
    "a causal mask": (3, ["Transpose x -> t; perm=[0,2,1]", "MatMul x,t -> m", "Trilu m -> y; upper=0"]),
    "a mean by its size": (3, ["Shape x -> s; start=1 end=2", "Cast s -> n; to=1", "Div x,n -> y"]),
    "the rest of a size": (3, ["Shape x -> s; start=1 end=2", "Mod s,three -> m", "Cast m -> f; to=1", "Add x,f -> y"]),
    "all sizes as numbers": (1, ["Shape x -> s", "Cast s -> y; to=1"]),
    "a row expanded": (3, ["Shape x -> s", "Expand row,s -> e", "Mul x,e -> y"]),
    "twice as many counted": (1, [*(STEPS := ["Shape x -> s; start=1 end=2", "Squeeze s -> n"]),
        "Add n,n -> m", *(COUNTED := ["Range start,m,step -> r", "Cast r -> y; to=1"])]),
    "half as many counted, rounded up": (1, [*STEPS, "Add n,step -> a", "Div a,second -> m", *COUNTED]),
    "five thirds counted": (1, [*STEPS, "Mul n,fifth -> a", "Div a,third -> m", *COUNTED]),
    "all but two counted": (1, [*STEPS, "Sub n,second -> m", *COUNTED]),
    "a grid counted": (1, ["Shape x -> s; end=2", "ReduceProd s -> m; keepdims=0", *COUNTED]),
    "a grid and a row counted": (1, [*STEPS, "Shape x -> g; end=2", "ReduceProd g -> p; keepdims=0", "Add p,n -> m", *COUNTED]),
    "as many ones": (2, [*STEPS, "Add n,n -> m", "Unsqueeze m,zero -> k", "Concat k,three -> d; axis=0",
        "ConstantOfShape d -> o", "Add o,ramp -> y"]),
    "filled up to a known length": (3, [
        "Shape x -> s; start=1 end=2", "Sub seven,s -> m", "Concat zero,zero,zero,zero,m,zero -> p; axis=0", "Pad x,p -> y",
    ]),
    "every other step": (3, ["Slice x,zero,end,one,two -> y"]),
    "every third step but the first": (3, ["Slice x,one,end,one,three -> y"]),
    "every other of the last three": (3, ["Slice x,back,end,one,two -> y"]),
    "two free axes merged and parted behind a known one": (3, [
        "Transpose x -> a; perm=[2,0,1]", "Reshape a,rows -> b", "Relu b -> c", "Shape a -> s", "Reshape c,s -> y",
    ]),
    "heads into the batch and back": (4, [
        "Reshape x,heads -> a", "Transpose a -> b; perm=[0,2,1,3]", "Shape x -> s; start=1 end=2",
        "Concat any,s,three -> d; axis=0", "Reshape b,d -> c", "Relu c -> e", "Shape b -> f", "Reshape e,f -> y",
    ]),
    "a column back to a grid": (2, [
        "ReduceMean x,two -> m", "Reshape m,column -> a", "Relu a -> b", "Shape x -> s; end=2", "Reshape b,s -> y",
    ]),
    "a known axis parted before two free ones": (4, [
        "Reshape x,any -> a", "Shape x -> s; end=2", "Concat two,s,three -> d; axis=0", "Reshape a,d -> y",
    ]),
    "a grid parted that no value has": (3, [
        "Shape x -> s; start=1 end=2", "Shape x -> b; end=1", "Concat s,b,six -> d; axis=0", "Reshape x,d -> y",
    ]),
}  # fmt: skip
"""What it does -> the rank of its output, and its nodes: ``Operator inputs -> outputs; attributes``."""


def graph_of(rank: int, lines: Sequence[str]) -> onnx.ModelProto:
    nodes = []
    for line in lines:
        call, _, attributes = line.partition(";")
        taken, _, given = call.partition("->")
        operator, *inputs = taken.replace(",", " ").split()
        pairs = (pair.partition("=") for pair in attributes.split())
        options = {key: json.loads(text) for key, _, text in pairs}
        nodes.append(helper.make_node(operator, inputs, given.replace(",", " ").split(), **options))
    named = {name for node in nodes for name in node.input}
    weights = {name: array for name, array in NUMBERS.items() if name in named}
    return model(nodes, {"x": (F4, ("batch", "time", 6))}, {"y": (F4, rank)}, weights)


@pytest.mark.parametrize("name", FREE)
def test_free_sizes_stay_free(name: str, oracle: Oracle, tmp_path: Path) -> None:
    check(graph_of(*FREE[name]), [[drawn(n, t, 6)] for n, t in ((2, 5), (1, 3), (4, 7))], oracle, tmp_path)


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_repeated_ends_have_a_gradient_at_free_sizes(
    mode: str, rank: int, oracle: Oracle, tmp_path: Path
) -> None:
    """Every axis but two, or but what MXNet's own padding leaves out, grows; too short an axis is an error, as in onnxruntime."""
    few = max(rank - 3, 0) if rank < 5 else 2
    before, after = np.zeros(rank, np.int64), np.zeros(rank, np.int64)
    before[few:], after[few:] = np.arange(1, rank - few + 1) % 3, 2
    dims = tuple(f"size_{axis}" for axis in range(rank))
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["scaled"]),
        helper.make_node("Pad", ["scaled", "pads"], ["y"], mode=mode),
    ]
    weights = {"w": drawn(1), "pads": np.concatenate([before, after])}
    proto = model(nodes, {"x": (F4, dims)}, {"y": (F4, rank)}, weights)
    feeds = [[drawn(*range(3, 3 + rank))], [drawn(*range(3 + rank, 3, -1))]]
    check(proto, feeds, oracle, tmp_path, onnxruntime)
    x = feeds[0][0]
    sizes = tuple(zip(before, after, strict=True))
    target = np.pad(x, sizes, mode=mode) * 0.5
    losses, _, moved = oracle.trained(str(tmp_path / "net"), ["x"], x, target, 30, 0.1)
    assert losses[-1] < losses[0] / 2
    assert abs(moved["w"][0] - 0.5) < abs(weights["w"][0] - 0.5)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("length", [None, 5, 8, 11])
@pytest.mark.parametrize(("sizes", "axis"), [((2, 8), 1), ((8, 3), 0), ((2, 3, 8), -2)])
def test_a_fourier_transform_of_a_known_length(
    sizes: tuple[int, ...],
    axis: int,
    length: int | None,
    inverse: int,
    onesided: int,
    oracle: Oracle,
    tmp_path: Path,
) -> None:
    shape = (*sizes, 1 if onesided and not inverse else 2)
    nodes = [
        helper.make_node(
            "DFT", ["x", "length" if length else "", "axis"], ["y"], inverse=inverse, onesided=onesided
        )
    ]
    weights = {"axis": np.array(axis)} | ({"length": np.array(length)} if length else {})
    dims = tuple(
        size if place in (axis % len(shape), len(shape) - 1) else f"free_{place}"
        for place, size in enumerate(shape)
    )
    proto = model(nodes, {"x": (F4, dims)}, {"y": (F4, len(shape))}, weights)
    other = [size if isinstance(free, int) else size + 2 for size, free in zip(shape, dims, strict=True)]
    check(proto, [[drawn(*shape)], [drawn(*other)]], oracle, tmp_path)


@pytest.mark.parametrize("onesided", [0, 1])
def test_a_short_time_transform_of_a_free_length(onesided: int, oracle: Oracle, tmp_path: Path) -> None:
    nodes = [helper.make_node("STFT", ["x", "step", "window", "length"], ["y"], onesided=onesided)]
    weights = {"step": np.array(3), "window": drawn(7), "length": np.array(7)}
    proto = model(nodes, {"x": (F4, ("batch", "samples", 1))}, {"y": (F4, 4)}, weights)
    check(proto, [[drawn(n, t, 1)] for n, t in ((2, 20), (1, 7), (3, 33))], oracle, tmp_path)


def test_a_last_window_over_free_sizes_is_rounded_up(oracle: Oracle, tmp_path: Path) -> None:
    for operator in ("MaxPool", "AveragePool"):
        node = helper.make_node(operator, ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        proto = model([node], {"x": (F4, ("batch", 2, "height", "width"))}, {"y": (F4, 4)})
        feeds = [[drawn(1, 2, 7, 8)], [drawn(2, 2, 6, 9)], [drawn(1, 2, 5, 5)]]
        check(proto, feeds, oracle, tmp_path, onnxruntime)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("lengths", [False, True])
def test_a_recurrent_layer_keeps_its_direction_states_and_lengths(
    cell: str, direction: str, lengths: bool, oracle: Oracle, tmp_path: Path
) -> None:
    ways, gates, hidden = 1 + (direction == "bidirectional"), {"LSTM": 4, "GRU": 3, "RNN": 1}[cell], 3
    weights = {
        "w": drawn(ways, gates * hidden, 4, seed=1),
        "r": drawn(ways, gates * hidden, hidden, seed=2),
        "b": drawn(ways, 2 * gates * hidden, seed=3),
    }
    inputs: dict[str, tuple[Any, Dims]] = {
        "x": (F4, ("time", "batch", 4)),
        "h": (F4, (ways, "batch", hidden)),
    }
    if lengths:
        inputs["n"] = (I4, ("batch",))
    reset = {"linear_before_reset": 1} if cell == "GRU" else {}
    node = helper.make_node(
        cell, ["x", "w", "r", "b", "n" if lengths else "", "h"], ["y", "last"],
        name="cells", hidden_size=hidden, direction=direction, **reset,
    )  # fmt: skip
    proto = model([node], inputs, {"y": (F4, 4), "last": (F4, 3)}, weights)
    feeds = [[drawn(t, b, 4), drawn(ways, b, hidden)] for t, b in ((5, 3), (2, 1))]
    if lengths:
        feeds = [
            [*feed, n] for feed, n in zip(feeds, (np.array([5, 2, 3], I4), np.array([2], I4)), strict=True)
        ]
    check(proto, feeds, oracle, tmp_path, onnxruntime)


@pytest.mark.parametrize("name", ["mlp", "lstm", "gru", "rnn", "encoder"])
def test_a_training_step_is_that_of_pytorch(name: str, oracle: Oracle, tmp_path: Path) -> None:
    """The same loss, the same gradients: after one step of SGD the weights agree."""
    import torch

    net, feed, arrived, _ = torch_arrival(name)
    files.write(arrived, tmp_path / "net-symbol.json")
    x = feed(3)
    with torch.no_grad():
        target = drawn(*net(torch.from_numpy(x)).shape, seed=9)
    (first,), before, after = oracle.trained(str(tmp_path / "net"), ["x"], x, target, 1, 0.1)
    net.eval()  # dropout would differ; none of these has a BatchNorm
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = 0.5 * ((net(torch.from_numpy(x)) - torch.from_numpy(target)) ** 2).mean()
    loss.backward()
    assert abs(first - float(loss)) < 1e-5 * abs(float(loss))
    for key, weight in net.named_parameters():
        made = arrived.names.get(key, key)
        if made not in after or after[made].shape != tuple(weight.shape) or weight.grad is None:
            continue
        moved = (before[made] - after[made]) / 0.1
        assert_same(moved, weight.grad.numpy(), 2e-3)
