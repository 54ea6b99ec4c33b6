"""Pairs of models with known verdicts, as data: (source, target, example inputs, free axes, verdict)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from models import dense, model, unary
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional as F

Pair = tuple[Any, Any, Mapping[str, np.ndarray] | None, Mapping[str, Mapping[int, str]] | None]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def graph(nodes: list[onnx.NodeProto], dims: tuple[int | str, ...] = ("batch", 6), out: Any = None,
          **weights: np.ndarray) -> onnx.ModelProto:  # fmt: skip
    return model(nodes, {"x": dims}, {"y": dims if out is None else out}, weights)


def retyped(proto: onnx.ModelProto, dtype: int) -> onnx.ModelProto:
    for value in proto.graph.output:
        value.type.tensor_type.elem_type = dtype
    return proto


def onnx_pair(a: onnx.ModelProto, b: onnx.ModelProto) -> Callable[[], Pair]:
    return lambda: (a, b, None, None)


class Call(nn.Module):
    """A function of the modules beside it."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self._function = nn.ModuleList(parts), function

    def forward(self, x: torch.Tensor) -> Any:
        return self._function(x, *self.parts)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point():
                spread = tensor.shape[-1] ** -0.5 if tensor.ndim > 1 else 0.3
                tensor.normal_(0, spread, generator=generator)
                if name.endswith("var"):
                    tensor.abs_().add_(0.5)
    return module.eval()


Change = Callable[[nn.Module], Any]


def torch_pair(
    shape: tuple[int, ...],
    make: Callable[[], nn.Module],
    change: Change,
    free: Mapping[int, str] | None = None,
    ids: int = 0,
) -> Callable[[], Pair]:
    """A random module, and what ``change`` makes of a copy of it (in place, or a new module)."""

    def built() -> Pair:
        source = randomised(make())
        target = copy.deepcopy(source)
        with torch.no_grad():
            target = change(target) or target
        rng = np.random.default_rng(1)
        x = rng.integers(0, ids, shape) if ids else rng.standard_normal(shape).astype(np.float32)
        return source, target.eval(), {"x": x}, {"x": dict(free or {0: "batch"})}

    return built


def setting(path: str, value: Any) -> Change:
    def change(module: nn.Module) -> None:
        *parts, name = path.split(".")
        setattr(module.get_submodule(".".join(parts)), name, value)

    return change


def weight(path: str, function: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    def change(module: nn.Module) -> None:
        tensor = module.get_parameter(path)
        tensor.copy_(function(tensor.clone()))

    return change


def every_weight(function: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    def change(module: nn.Module) -> None:
        for tensor in module.parameters():
            tensor.copy_(function(tensor.clone()))

    return change


def folded(module: nn.Module) -> nn.Module:
    conv, norm, *rest = module
    return nn.Sequential(torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval()), *rest)


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


def lstm() -> nn.Module:
    return Call(lambda x, layer, out: out(layer(x)[0]), nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 3))


def gru() -> nn.Module:
    return Call(lambda x, layer, out: out(layer(x)[0]), nn.GRU(5, 8, batch_first=True), nn.Linear(8, 3))


def encoder() -> nn.Module:
    return nn.Sequential(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Linear(16, 3))


def bag() -> nn.Module:
    return nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 3))


def swapped(tensor: torch.Tensor) -> torch.Tensor:
    i, f, g, o = tensor.chunk(4)
    return torch.cat([f, i, g, o])


def of(function: Callable[[torch.Tensor], Any]) -> Callable[[], nn.Module]:
    return lambda: Call(function)


def instead(function: Callable[..., Any]) -> Change:
    return lambda module: Call(function, *getattr(module, "parts", ()))


def permuted(module: nn.Module) -> None:
    """Hidden units in another order: the same function, sums reordered."""
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3))
    one, two = module[0], module[2]
    one.weight.copy_(one.weight[order]), one.bias.copy_(one.bias[order])
    two.weight.copy_(two.weight[:, order])


def unrolled(x: torch.Tensor, layer: nn.LSTM, out: nn.Linear) -> torch.Tensor:
    h = c = x.new_zeros(x.shape[0], layer.hidden_size)
    steps = []
    for step in range(x.shape[1]):
        gates = (
            x[:, step] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
        )
        i, f, g, o = gates.chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        steps.append(h)
    return out(torch.stack(steps, 1))


def wrong_beyond_16(x: torch.Tensor, layer: nn.LSTM, out: nn.Linear) -> torch.Tensor:
    y = out(layer(x)[0])
    return torch.cat([y[:, :16], -y[:, 16:]], 1)


def windows(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """A convolution as one matrix product."""
    columns = F.unfold(x, 3, padding=1)
    return (conv.weight.flatten(1) @ columns).unflatten(2, x.shape[2:]) + conv.bias.view(-1, 1, 1)


def explicit_norm(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def rows_after(first: str) -> onnx.ModelProto:
    """Equal in the first row, ``first`` applied to the others."""
    return graph(
        [
            node("Slice", "x zero one zero", "head"), node("Slice", "x one end zero", "rest"),
            node(first, "rest", "wrong"), node("Concat", "head wrong", "y", axis=0),
        ],
        zero=np.int64([0]), one=np.int64([1]), end=np.int64([2**31]),
    )  # fmt: skip


def two(names: tuple[str, str]) -> onnx.ModelProto:
    dims = ["batch", 6]
    return model(
        [node("Relu", "x", names[0]), node("Neg", "x", names[1])], {"x": dims}, dict.fromkeys(names, dims)
    )


def constant(value: float) -> onnx.ModelProto:
    nodes = [node("Mul", "x zero", "none"), node("Add", "none value", "y")]
    return graph(nodes, zero=np.zeros(1, np.float32), value=np.full(6, value, np.float32))


def integers(value: int, dtype: Any, code: int) -> onnx.ModelProto:
    """An integer output: ``value`` where x is positive, else 0."""
    nodes = [node("Greater", "x zero", "p"), node("Where", "p value none", "y")]
    weights = {"zero": np.float32([0]), "value": np.array([value], dtype), "none": np.array([0], dtype)}
    return retyped(graph(nodes, **weights), code)


def infinity(sign: float) -> onnx.ModelProto:
    nodes = [node("Relu", "x", "p"), node("Div", "one p", "y")]
    return graph(nodes, one=np.float32([sign]))


def shaped(dims: tuple[int, int]) -> onnx.ModelProto:
    return graph([node("Reshape", "x sizes", "y")], (3,), dims, sizes=np.int64(dims))


def decomposed_gelu() -> onnx.ModelProto:
    """With float32's root of two, as exporters write it."""
    nodes = [
        node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c"), node("Mul", "x c", "d"),
        node("Mul", "d half", "y"),
    ]  # fmt: skip
    return graph(nodes, root=np.float32([2**0.5]), one=np.float32([1]), half=np.float32([0.5]))


def argmax(last: int) -> onnx.ModelProto:
    proto = graph([node("ArgMax", "x", "y", axis=1, select_last_index=last)], out=["batch", 1])
    return retyped(proto, TensorProto.INT64)


def cast(op: str) -> onnx.ModelProto:
    return retyped(
        graph([node(op, "x", "f"), node("Cast", "f", "y", to=TensorProto.INT32)]), TensorProto.INT32
    )


def empty() -> onnx.ModelProto:
    nodes = [node("Slice", "x zero zero one", "y")]
    return graph(nodes, out=["batch", 0], zero=np.int64([0]), one=np.int64([1]))


def half_up() -> onnx.ModelProto:
    return graph([node("Add", "x half", "a"), node("Floor", "a", "y")], half=np.float32([0.5]))


def sign_of_zero() -> onnx.ModelProto:
    nodes = [node("Less", "x zero", "n"), node("Where", "n minus one", "y")]
    return graph(nodes, zero=np.float32([0]), minus=np.float32([-1]), one=np.float32([1]))


def relu_by_where() -> onnx.ModelProto:
    nodes = [node("Greater", "x zero", "p"), node("Where", "p x zero", "y")]
    return graph(nodes, zero=np.float32([0]))


def nan_at_zero() -> onnx.ModelProto:
    return graph([node("Div", "x x", "one"), node("Mul", "one x", "y")])


def pool(value: float) -> Change:
    """Max pooling that pads with ``value``."""
    return instead(lambda x: F.max_pool2d(F.pad(x, [1, 1, 1, 1], value=value), 3, 2))


IMAGE, ROWS, SERIES = (2, 3, 8, 8), (2, 6), (2, 7, 5)
TIME = {0: "batch", 1: "time"}
MAXIMUM = of(lambda x: F.max_pool2d(x, 3, 2, padding=1))
SOFTMAX = of(lambda x: F.softmax(x, -1))
CONV = lambda: Call(lambda x, conv: conv(x), nn.Conv2d(3, 8, 3, padding=1))  # noqa: E731
NORM = lambda: Call(lambda x, norm: norm(x), nn.LayerNorm(6))  # noqa: E731
GELU = of(F.gelu)

PASSES: dict[str, Callable[[], Pair]] = {
    "an output renamed": onnx_pair(dense(), dense(out="z")),
    "the same model": onnx_pair(dense(), dense()),
    "hidden units permuted": torch_pair(ROWS, mlp, permuted),
    "a sum in another order": torch_pair((2, 40), of(lambda x: x.sum(-1)), instead(lambda x: x.flip(-1).cumsum(-1)[:, -1])),
    "BatchNorm folded into its convolution": torch_pair(IMAGE, cnn, folded),
    "a convolution as a matrix product": torch_pair(IMAGE, CONV, instead(windows)),
    "an LSTM unrolled": torch_pair(SERIES, lstm, instead(unrolled), TIME),
    "LayerNorm written out": torch_pair(ROWS, NORM, instead(explicit_norm)),
    "softmax by exponentials": torch_pair(ROWS, SOFTMAX, instead(lambda x: (x - x.logsumexp(-1, keepdim=True)).exp())),
    "GELU written out with float32's root of 2": onnx_pair(unary("Gelu"), decomposed_gelu()),
    "two affine maps as one": torch_pair(
        ROWS, lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)),
        lambda m: nn.Sequential(_merged(m[0], m[1])),
    ),
    "attention by hand": torch_pair(
        (2, 4, 7, 8), of(lambda x: F.scaled_dot_product_attention(x, x, x)),
        instead(lambda x: (x @ x.transpose(-1, -2) / 8**0.5).softmax(-1) @ x),
    ),
    "sigmoid by tanh": torch_pair(ROWS, of(torch.sigmoid), instead(lambda x: 0.5 + 0.5 * torch.tanh(x / 2))),
    "argmax alike": onnx_pair(argmax(0), argmax(0)),
    "integers alike": onnx_pair(integers(7, np.int8, TensorProto.INT8), integers(7, np.int8, TensorProto.INT8)),
    "the same infinity": onnx_pair(infinity(1), infinity(1)),
    "a dead unit's weight": torch_pair(
        ROWS, lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), every_weight(lambda w: w),
    ),
}  # fmt: skip


def _merged(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    one = nn.Linear(first.in_features, second.out_features)
    one.weight.copy_((second.weight.double() @ first.weight.double()).float())
    one.bias.copy_((second.weight.double() @ first.bias.double() + second.bias.double()).float())
    return one


FAILS: dict[str, Callable[[], Pair]] = {
    "a weight off by a ten-thousandth": onnx_pair(dense(), dense(1.0001)),
    "NaN on one side": onnx_pair(unary("Identity"), nan_at_zero()),
    "shapes that would broadcast": onnx_pair(shaped((3, 1)), shaped((1, 3))),
    "outputs exchanged": onnx_pair(two(("p", "q")), two(("q", "p"))),
    "an output missing": onnx_pair(two(("p", "y")), unary("Neg")),
    "an output added": onnx_pair(unary("Neg"), two(("p", "y"))),
    "all zeros against 9e-6": onnx_pair(constant(0), constant(9e-6)),
    "wrong beyond the first row": onnx_pair(unary("Identity"), rows_after("Neg")),
    "wrong beyond length 16": torch_pair(SERIES, lstm, instead(wrong_beyond_16), TIME),
    "wrong for negative inputs only": onnx_pair(unary("LeakyRelu", alpha=0.3), unary("LeakyRelu", alpha=0.301)),
    "int8 -128 against 127": onnx_pair(
        integers(-128, np.int8, TensorProto.INT8), integers(127, np.int8, TensorProto.INT8)
    ),
    "integers off by one": onnx_pair(
        integers(2**60, np.int64, TensorProto.INT64), integers(2**60 + 1, np.int64, TensorProto.INT64)
    ),
    "inf against -inf": onnx_pair(infinity(1), infinity(-1)),
    "halves rounded up": onnx_pair(unary("Round"), half_up()),
    "the sign of zero": onnx_pair(unary("Sign"), sign_of_zero()),
    "the last of equal largest": onnx_pair(argmax(0), argmax(1)),
    "NaN turned to zero": onnx_pair(unary("Relu"), relu_by_where()),
    "floor for truncation": onnx_pair(cast("Identity"), cast("Floor")),
    "float16 weights": torch_pair(ROWS, mlp, every_weight(lambda w: w.half().float())),
    "bfloat16 weights": torch_pair(ROWS, mlp, every_weight(lambda w: w.bfloat16().float())),
    "BatchNorm's epsilon 1.1e-5": torch_pair(IMAGE, cnn, setting("1.eps", 1.1e-5)),
    "LayerNorm's epsilon 1.1e-5": torch_pair(ROWS, NORM, setting("parts.0.eps", 1.1e-5)),
    "GELU by tanh": torch_pair(ROWS, GELU, instead(lambda x: F.gelu(x, approximate="tanh"))),
    "GELU by a sigmoid": torch_pair(ROWS, GELU, instead(lambda x: x * torch.sigmoid(1.702 * x))),
    "ReLU6 without its 6": torch_pair(ROWS, of(F.relu6), instead(F.relu)),
    "padding on the other side": torch_pair(
        IMAGE, lambda: Call(lambda x, conv: conv(F.pad(x, [0, 1, 0, 1])), nn.Conv2d(3, 8, 2)),
        instead(lambda x, conv: conv(F.pad(x, [1, 0, 1, 0]))),
    ),
    "max pooling that pads with zeros": torch_pair(IMAGE, MAXIMUM, pool(0.0)),
    "max pooling that pads with -8": torch_pair(IMAGE, MAXIMUM, pool(-8.0)),
    "padding counted in the average": torch_pair(
        IMAGE, of(lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
        instead(lambda x: F.avg_pool2d(x, 3, 2, 1)),
    ),
    "gates exchanged": torch_pair(
        SERIES, lstm, lambda m: [weight(f"parts.0.{n}_l0", swapped)(m) for n in ("weight_ih", "weight_hh")] and None,
        TIME,
    ),
    "a GRU that resets before the product": torch_pair(SERIES, gru, weight("parts.0.bias_hh_l0", lambda b: b * 0), TIME),
    "softmax over another axis": torch_pair(SERIES, SOFTMAX, instead(lambda x: F.softmax(x, 1)), TIME),
    "a square weight transposed": torch_pair(ROWS, mlp, weight("2.weight", lambda w: w.T.contiguous())),
    "a bias lost": torch_pair(ROWS, mlp, weight("4.bias", lambda b: b * 0)),
    "one weight off by a millionth of the largest": torch_pair(
        ROWS, mlp, weight("0.weight", lambda w: w + 1e-6 * w.max() * torch.eye(32, 6))
    ),
    "a wrong row in the table": torch_pair(
        (2, 9), bag, weight("0.weight", lambda w: torch.cat([w[:-3], -w[-3:]])), TIME, ids=50
    ),
    "attention without its scale": torch_pair(
        (2, 4, 7, 8), of(lambda x: F.scaled_dot_product_attention(x, x, x)),
        instead(lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.35)),
    ),
    "the encoder's norm first": torch_pair(
        (2, 7, 16), encoder, lambda m: setattr(m[0], "norm_first", True), TIME
    ),
    "a leaky slope of 0.01001": torch_pair(ROWS, of(F.leaky_relu), instead(lambda x: F.leaky_relu(x, 0.01001))),
    "another float width": onnx_pair(
        unary("Identity"),
        retyped(graph([node("Cast", "x", "y", to=TensorProto.DOUBLE)]), TensorProto.DOUBLE),
    ),
    "a difference beside a constant": onnx_pair(constant(0), unary("Identity")),
}  # fmt: skip

PROVES_NOTHING: dict[str, Callable[[], Pair]] = {
    "a constant output": onnx_pair(constant(0), constant(0)),
    "an output that ignores its input": onnx_pair(
        graph([node("Mul", "x zero", "n"), node("Add", "n b", "y")], zero=np.zeros(1, np.float32), b=np.arange(6, dtype=np.float32)),
        graph([node("Mul", "x zero", "n"), node("Add", "n b", "y")], zero=np.zeros(1, np.float32), b=np.arange(6, dtype=np.float32)),
    ),
    "an empty output": onnx_pair(empty(), empty()),
}  # fmt: skip

TABLE = {
    f"{verdict}: {name}": (make, verdict)
    for verdict, pairs in (("passed", PASSES), ("failed", FAILS), ("not_checked", PROVES_NOTHING))
    for name, make in pairs.items()
}
