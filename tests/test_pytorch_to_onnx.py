"""PyTorch to ONNX: every row against PyTorch itself, at two batches and, where there is one, two lengths."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pytorch_models import GPT, ResNet18
from pytorch_oracle import SIZES, Fn, Shape, check, export, operators, randomized, session
from torch import nn
from torch.nn import functional as F

import netferry
from netferry.converters.errors import RefusedError, UnsupportedError, UsageError
from netferry.converters.pytorch import live
from netferry.converters.pytorch.signature import signature as signature_of
from netferry.converters.pytorch.to_onnx import fallback, to_onnx
from netferry.converters.pytorch.to_onnx.tracer.decompositions import DECOMPOSITIONS
from netferry.converters.signature import Example

pytest.importorskip("onnxruntime")

# ---- layers ---------------------------------------------------------------------------------------

IMAGE, SERIES, VOLUME, ROWS, STEPS = (
    ("b", 4, "h", "w"),
    ("b", 4, "t"),
    ("b", 4, 6, 4, 8),
    ("b", 5),
    ("b", "t", 5),
)

LAYERS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "linear": (lambda: nn.Linear(5, 3), ROWS),
    "linear over steps": (lambda: nn.Linear(5, 3), STEPS),
    "linear of a vector": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), STEPS),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), SERIES),
    "conv1d same": (lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=3), SERIES),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), IMAGE),
    "conv2d same even": (lambda: nn.Conv2d(4, 6, (2, 4), padding="same"), IMAGE),
    "conv2d valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid", bias=False), IMAGE),
    "conv2d groups": (lambda: nn.Conv2d(4, 8, 3, groups=4), IMAGE),
    "conv2d reflect": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"), IMAGE),
    "conv2d circular": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), IMAGE),
    "conv2d unbatched": (lambda: nn.Conv2d(4, 6, 3), (4, "h", "w")),
    "conv3d": (lambda: nn.Conv3d(4, 3, 3, padding=1), VOLUME),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), SERIES),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 2), groups=2, dilation=2),
        IMAGE,
    ),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(4, 3, 2, stride=2, bias=False), VOLUME),
    "max_pool1d": (lambda: nn.MaxPool1d(3, 2, 1), SERIES),
    "max_pool2d": (lambda: nn.MaxPool2d(3, 2, 1, dilation=2), IMAGE),
    "max_pool2d ceil": (lambda: nn.MaxPool2d((3, 2), (2, 3), 1, ceil_mode=True), ("b", 4, 9, 10)),
    "max_pool2d ceil drops a window in the padding": (
        lambda: nn.MaxPool2d(2, 2, 1, ceil_mode=True), ("b", 4, 7, 7)
    ),
    "max_pool3d": (lambda: nn.MaxPool3d(2), VOLUME),
    "avg_pool1d": (lambda: nn.AvgPool1d(3, 2, 1), SERIES),
    "avg_pool2d": (lambda: nn.AvgPool2d(3, 2, 1), IMAGE),
    "avg_pool2d without padding counted": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    "avg_pool2d ceil": (lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True), ("b", 4, 8, 10)),
    "avg_pool2d ceil without padding": (lambda: nn.AvgPool2d(3, 2, ceil_mode=True), ("b", 4, 8, 10)),
    "avg_pool2d ceil not counting padding": (
        lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), ("b", 4, 8, 10)
    ),
    "avg_pool3d": (lambda: nn.AvgPool3d(2), VOLUME),
    "avg_pool2d with a divisor": (lambda: nn.AvgPool2d(2, divisor_override=3), IMAGE),
    "avg_pool2d padded with a divisor": (
        lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=5), IMAGE
    ),
    "avg_pool3d with a divisor": (lambda: nn.AvgPool3d(2, padding=1, divisor_override=7), VOLUME),
    "adaptive_avg_pool2d to one": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "adaptive_avg_pool2d divisible": (lambda: nn.AdaptiveAvgPool2d((2, None)), ("b", 4, 8, 6)),
    "adaptive_avg_pool1d": (lambda: nn.AdaptiveAvgPool1d(1), SERIES),
    "adaptive_max_pool2d": (lambda: nn.AdaptiveMaxPool2d((4, 3)), ("b", 4, 8, 6)),
    "adaptive_avg_pool3d": (lambda: nn.AdaptiveAvgPool3d((3, 2, 2)), VOLUME),
    "batch_norm1d of rows": (lambda: nn.BatchNorm1d(5, eps=0.03), ROWS),
    "batch_norm1d": (lambda: nn.BatchNorm1d(4), SERIES),
    "batch_norm2d": (lambda: nn.BatchNorm2d(4, eps=0.1, momentum=0.3), IMAGE),
    "batch_norm2d plain": (lambda: nn.BatchNorm2d(4, affine=False), IMAGE),
    "batch_norm3d": (lambda: nn.BatchNorm3d(4), VOLUME),
    "layer_norm": (lambda: nn.LayerNorm(5, eps=0.02), STEPS),
    "layer_norm of two axes": (lambda: nn.LayerNorm((4, 6)), ("b", "t", 4, 6)),
    "layer_norm without bias": (lambda: nn.LayerNorm(5, bias=False), STEPS),
    "layer_norm plain": (lambda: nn.LayerNorm(5, elementwise_affine=False), STEPS),
    "rms_norm": (lambda: nn.RMSNorm(5), STEPS),
    "rms_norm with eps": (lambda: nn.RMSNorm((5,), eps=0.05), STEPS),
    "group_norm": (lambda: nn.GroupNorm(2, 4, eps=0.01), IMAGE),
    "group_norm plain": (lambda: nn.GroupNorm(2, 4, affine=False), SERIES),
    "instance_norm1d": (lambda: nn.InstanceNorm1d(4), SERIES),
    "instance_norm2d": (lambda: nn.InstanceNorm2d(4, affine=True, eps=0.02), IMAGE),
    "instance_norm2d with statistics": (lambda: nn.InstanceNorm2d(4, track_running_stats=True), IMAGE),
    "embedding": (lambda: nn.Embedding(7, 5, padding_idx=0), ("i64", 7, "b", "t")),
    "prelu": (lambda: nn.PReLU(), IMAGE),
    "prelu per channel": (lambda: nn.PReLU(4), IMAGE),
    "prelu per feature": (lambda: nn.PReLU(5), ROWS),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 5), nn.AlphaDropout(0.5)), ROWS),
    "dropout2d": (lambda: nn.Sequential(nn.Dropout2d(0.5), nn.ReLU()), IMAGE),
    "flatten": (lambda: nn.Flatten(), ("b", 4, 3, 2)),
    "flatten of free axes": (lambda: nn.Flatten(1, 2), ("b", "t", 3, 2)),
    "unflatten": (lambda: nn.Unflatten(1, (2, 2)), IMAGE),
    "upsample nearest": (lambda: nn.Upsample(scale_factor=2), IMAGE),
    "upsample nearest by a fraction": (lambda: nn.Upsample(scale_factor=1.5), IMAGE),
    "upsample bilinear": (lambda: nn.Upsample(scale_factor=(2, 3), mode="bilinear"), IMAGE),
    "upsample bilinear corners": (lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), IMAGE),
    "upsample bicubic": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
    "upsample linear": (lambda: nn.Upsample(scale_factor=2, mode="linear"), SERIES),
    "upsample to a size": (lambda: nn.Upsample(size=(11, 7), mode="bilinear"), IMAGE),
    "pixel_shuffle": (lambda: nn.PixelShuffle(2), IMAGE),
    "pixel_unshuffle": (lambda: nn.PixelUnshuffle(2), ("b", 3, "h", "w")),
    "zero_pad2d": (lambda: nn.ZeroPad2d((1, 2, 3, 0)), IMAGE),
    "constant_pad1d": (lambda: nn.ConstantPad1d((2, 1), -1.5), SERIES),
    "reflection_pad2d": (lambda: nn.ReflectionPad2d((1, 2, 3, 1)), IMAGE),
    "replication_pad1d": (lambda: nn.ReplicationPad1d((2, 1)), SERIES),
    "softmax2d": (lambda: nn.Softmax2d(), IMAGE),
    "bilinear": (lambda: Fn(lambda x, b: b(x, x * 2), nn.Bilinear(5, 5, 3)), ROWS),
}  # fmt: skip

ACTIVATIONS: tuple[nn.Module, ...] = (
    nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.CELU(0.6), nn.GELU(),
    nn.GELU("tanh"), nn.Sigmoid(), nn.Tanh(), nn.Softmax(-1), nn.Softmax(1), nn.LogSoftmax(-1), nn.Softmin(-1),
    nn.Softplus(), nn.Softplus(2.0, 1.5), nn.Softsign(), nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(),
    nn.Hardtanh(-0.3, 0.8), nn.GLU(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Hardshrink(0.4), nn.Softshrink(0.3),
    nn.Threshold(0.1, -2.0),
)  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_pytorch_gives(name: str) -> None:
    factory, shape = LAYERS[name]
    check(randomized(factory()), shape)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_an_activation_gives_what_pytorch_gives(layer: nn.Module) -> None:
    check(nn.Sequential(nn.Linear(6, 6), layer), ("b", "t", 6))


RECURRENT = [
    (kind, options)
    for kind in (nn.RNN, nn.LSTM, nn.GRU)
    for options in (
        {},
        {"batch_first": True},
        {"bidirectional": True, "batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 3, "bias": False, "batch_first": True, "dropout": 0.5},
    )
] + [(nn.RNN, {"nonlinearity": "relu", "bidirectional": True})]


@pytest.mark.parametrize(("kind", "options"), RECURRENT)
def test_a_recurrent_layer_gives_what_pytorch_gives(kind: Any, options: dict[str, Any]) -> None:
    check(randomized(kind(5, 4, **options)), STEPS)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_recurrent_layer_takes_its_initial_state(kind: Any, layers: int) -> None:
    def run(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, layer: nn.Module) -> Any:
        return layer(x, (h, c) if kind is nn.LSTM else h + c)

    layer = kind(5, 4, num_layers=layers, bidirectional=True, batch_first=True)
    state = (2 * layers, "b", 4)
    check(randomized(Fn(run, layer)), STEPS, state, state)


def test_a_recurrent_layer_takes_a_sequence_without_a_batch() -> None:
    check(randomized(nn.LSTM(5, 4, num_layers=2)), ("t", 5))


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_gives_what_pytorch_gives(kind: Any, bias: bool) -> None:
    check(randomized(Fn(lambda x, h, cell: cell(x, (h, h * 2) if kind is nn.LSTMCell else h), kind(5, 4, bias))), ROWS,
          ("b", 4))  # fmt: skip


# ---- functions ------------------------------------------------------------------------------------


def written(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 0] = 1.5
    y[:, -1] += x[:, 0]
    y[:, 1:3, ::2] = x[:, :2, ::2]
    return y


def made(x: torch.Tensor) -> torch.Tensor:
    batch, length = x.shape[:2]
    line = torch.arange(length, device=x.device)
    ones = torch.ones(batch, length, 1)
    return (x + line[None, :, None] * 0.1) * ones + torch.zeros(length, 5) + x.new_full((length, 1), 0.5)


def heads(x: torch.Tensor) -> torch.Tensor:
    b, t, c = x.size()
    q = x.view(b, t, 3, c // 3).transpose(1, 2)
    scores = (q @ q.transpose(-2, -1)) / (c // 3) ** 0.5
    mask = torch.tril(torch.ones(t, t)).view(1, 1, t, t)
    scores = scores.masked_fill(mask == 0, float("-inf"))
    return (F.softmax(scores, dim=-1) @ q).transpose(1, 2).contiguous().view(b, t, c)


def picked(x: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return x[torch.arange(x.shape[0]), where]


def norms(x: torch.Tensor) -> Any:
    return (
        x.norm(dim=-1),
        torch.norm(x, p=1, dim=1, keepdim=True),
        x.norm(),
        torch.linalg.vector_norm(x, 3, dim=-1),
    )


X, POS = ("b", "t", 6), ("pos", "b", "t", 6)

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Shape, ...]]] = {
    "arithmetic": (lambda x, y: (x + y) * 2 - 1 / (y * y + 1) + (3 - x) - torch.add(x, y, alpha=0.5), (X, X)),
    "broadcast": (lambda x, y: x * y + y, (X, (6,))),
    "promotion of integers": (lambda i: (i + 1, i * 1.5, i / 2, i // 2, i % 3, i - 4, -i), (("i64", 9, "b", 4),)),
    "floor of negative integers": (lambda i: ((i - 5) // 3, (i - 5) % 3, torch.div(i - 5, 3, rounding_mode="trunc"),
                                              torch.fmod(i - 5, 3)), (("i64", 11, "b", 4),)),
    "remainder of floats": (lambda x: (x % 0.7, x // 0.7, torch.fmod(x, 0.7), torch.remainder(x, -0.7)), (X,)),
    "integers and floats": (lambda x, i: (x + i, i * x > 0.5, torch.where(i > 2, x, i)), (X, ("i64", 5, "b", "t", 6))),
    "truth": (lambda x: ((x > 0) & (x < 1), (x > 0) | ~(x > -1), (x >= 0) ^ (x <= 1), x == x, x != 0), (X,)),
    "truth as numbers": (lambda x: ((x > 0).float() * 2, (x > 0).sum(-1), (x > 0) + (x > 1), (x > 0) * x), (X,)),
    "any and all": (lambda x: ((x > 1).any(-1), (x > -1).all(1, keepdim=True), (x > 9).any()), (X,)),
    "powers": (lambda x: (x**2, x**0.5, x**-0.5, x**3, 2**x, x**1.7, x.square(), x.rsqrt(), x.sqrt()), (POS,)),
    "logarithms": (lambda x: (x.log(), x.log2(), x.log10(), x.log1p(), x.exp(), x.expm1(), torch.exp2(x)), (POS,)),
    "roundings": (lambda x: ((x * 3).round(), x.floor(), x.ceil(), x.trunc(), x.abs(), x.sign(), x.neg()), (X,)),
    "halves round to even": (lambda i: ((i - 4) / 2).round(), (("i64", 9, "b", 4),)),
    "trigonometry": (lambda x: (x.sin(), x.cos(), x.tanh(), x.atan(), x.erf(), x.sigmoid(), x.reciprocal()), (POS,)),
    "clamp": (lambda x: (x.clamp(-0.5, 0.5), x.clamp(min=0), x.clamp(max=0.1), torch.clamp(x, x * 0, x + 1)), (X,)),
    "extremes": (lambda x: (x.max(), x.max(1), x.min(-1, keepdim=True), torch.maximum(x, -x), x.argmax(-1), x.argmin()),
                 (X,)),
    "sums": (lambda x: (x.sum(), x.sum(1), x.mean((1, 2)), x.mean(-1, keepdim=True), x.amax(1), x.amin((0, 1)),
                        x.prod(-1), x.logsumexp(-1)), (X,)),
    "spreads": (lambda x: (x.var(-1), x.var(1, unbiased=False), x.std(dim=(1, 2), keepdim=True), x.std(),
                           *torch.var_mean(x, -1, correction=0)), (X,)),
    "norms": (norms, (X,)),
    "cumsum": (lambda x: (x.cumsum(1), x.cumsum(-1)), (X,)),
    "topk": (lambda x: (x.topk(3), x.sort(descending=True), x.argsort(-1)), (X,)),
    "softmax": (lambda x: (x.softmax(1), F.softmax(x, dim=-1), torch.log_softmax(x, 2), x.transpose(1, 2).softmax(-1)),
                (X,)),
    "products": (lambda x, y: (x @ y.transpose(1, 2), torch.bmm(x, y.mT), torch.matmul(x, y[0].t())), (X, X)),
    "addmm": (lambda x, y: (torch.addmm(x, x, y, beta=0.5, alpha=2.0), torch.baddbmm(x[None], x[None], y[None])),
              (("b", 6), (6, 6))),
    "einsum": (lambda x, y: (torch.einsum("btc,bsc->bts", x, y), torch.einsum("btc, btc -> bt", [x, y])), (X, X)),
    "outer": (lambda x: torch.outer(x, x), (("t",),)),
    "reshape": (lambda x: (x.reshape(x.shape[0], -1), x.view(-1, 3, 2), x.flatten(), x.flatten(0, 1), x.unflatten(-1, (2, 3))),
                (X,)),
    "reshape to sums of sizes": (lambda x: (x.reshape(x.size(0) * x.size(1), 2, 3), x.view(x.size(1), x.size(0), 6)),
                                 (X,)),
    "permute": (lambda x: (x.permute(2, 0, 1), x.transpose(0, 2), x.mT, x.movedim(0, -1), x[0].t(), x[0].T), (X,)),
    "unsqueeze": (lambda x: (x.unsqueeze(1), x.unsqueeze(-1).squeeze(-1), x[:, None, :, :1].squeeze((1, 3))), (X,)),
    "cat": (lambda x, y: (torch.cat([x, y], 1), torch.cat((x, y), dim=-1), torch.stack([x, y], 2), torch.concat([x, y[:0]])), (X, X)),
    "split": (lambda x: (x.chunk(3, -1), x.split(2, -1), torch.split(x, [1, 5], 2), x.chunk(4, 2), x[0:1].unbind(0)), (X,)),
    "halves of a free axis": (lambda x: (x[:, : x.size(1) // 2], x[:, x.size(1) // 2 :], x[:, -1], x[:, 1:-1]), (X,)),
    "expand": (lambda x: (x[:, :1].expand(-1, x.size(1), -1) + x, x[0].expand_as(x), x[0, 0].expand(x.size(1), 6)), (X,)),
    "repeat": (lambda x: (x.repeat(2, 1, 1), x.repeat(1, 1, 3), x[0].repeat(x.size(0), 1, 1), x.repeat_interleave(2, -1)),
               (X,)),
    "index": (lambda x: (x[0], x[:, 1], x[..., 2], x[:, None], x[:, ::2, 1:4], x[..., -1, :], x[:, [0, 2]], x[-1, -1, -1]),
              (X,)),
    "index by tensors": (lambda x, i: (x[i], x[:, i], x[:, :, i % 6], x.index_select(1, i), x[0, :, i % 6]),
                         (("b", 5, 6), ("i64", 1, 4))),
    "index by two tensors": (picked, (("b", 5, 6), ("i64", 5, "b"))),
    "gather": (lambda x, i: (x.gather(1, i), x.scatter(1, i, 2.0)), (("b", 5), ("i64", 5, "b", 2))),
    "masks": (lambda x, m: (x.masked_fill(m, -1e9), torch.where(m, x, -x), x * m, x.where(m, torch.zeros(()))),
              (X, ("bool", "b", "t", 6))),
    "triangles": (lambda x: (x.tril(), x.triu(1), torch.ones(x.size(1), x.size(1)).triu(1) > 0), (X,)),
    "flip and roll": (lambda x: (x.flip(1), x.flip((0, -1)), torch.roll(x, 1, 2), x.roll((1, 2), (1, 2))), (X,)),
    "making": (made, (("b", "t", 5),)),
    "likes": (lambda x: (torch.zeros_like(x), torch.full_like(x, 2.5), torch.ones_like(x[0]) + x, x.new_zeros(3)), (X,)),
    "writing": (written, (X,)),
    "in place": (lambda x: x.mul(2).add_(1).relu_().clamp_(max=2).div_(3), (X,)),
    "writing where true": (lambda x: x.clone().masked_fill_(x > 0, 0).copy_(x * 2) + x, (X,)),
    "conversions": (lambda x: (x.long(), x.to(torch.float64), (x * 3).int(), x.bool(), x.type(torch.int64), x.half().float()),
                    (X,)),
    "one_hot": (lambda i: F.one_hot(i, 4), (("i64", 4, "b", "t"),)),
    "pad": (lambda x: (F.pad(x, (1, 2)), F.pad(x, (1, 0, 2, 1), value=-1.0), F.pad(x, (1, 1), "reflect"),
                       F.pad(x, (2, 1), mode="replicate")), (X,)),
    "normalize": (lambda x, y: (F.normalize(x, dim=-1), F.cosine_similarity(x, y, dim=-1)), (X, X)),
    "functional norms": (lambda x: (F.layer_norm(x, (6,)), F.rms_norm(x, (6,)), F.glu(x), F.gelu(x)), (X,)),
    "interpolate": (lambda x: (F.interpolate(x, size=(9, 5)), F.interpolate(x, scale_factor=0.5, mode="bilinear"),
                               F.interpolate(x, size=(x.size(2) * 2, x.size(3) + 1), mode="bilinear", align_corners=True),
                               F.interpolate(x, size=(7, 5), mode="nearest-exact")), (IMAGE,)),
    "pools": (lambda x: (F.max_pool2d(x, 2), F.avg_pool2d(x, 2, 1), F.adaptive_avg_pool2d(x, 1), F.relu(x).mean((2, 3))),
              (IMAGE,)),
    "attention": (lambda q, k: F.scaled_dot_product_attention(q, k, k), (("b", 2, "t", 4), ("b", 2, 5, 4))),
    "causal attention": (lambda q: F.scaled_dot_product_attention(q, q, q * 2, is_causal=True, scale=0.3),
                         (("b", 2, "t", 4),)),
    "masked attention": (lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m), (("b", 2, 6, 4), ("bool", 6, 6))),
    "grouped attention": (lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
                          (("b", 4, "t", 3), ("b", 2, "t", 3))),
    "grouped attention whose values have groups of their own": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (("b", 4, "t", 3), ("b", 2, "t", 3), ("b", 4, "t", 3))),
    "entropy of a distribution": (lambda x: torch.distributions.Categorical(logits=x).entropy(), (X,)),
    "causal heads by hand": (heads, (X,)),
    "iteration": (lambda x: sum(part * (i + 1) for i, part in enumerate(x)), ((4, "b", 3),)),
    "meshgrid": (lambda x: torch.meshgrid(x, x * 2, indexing="xy"), (("t",),)),
    "mapping of outputs": (lambda x: {"logits": x * 2, "states": (x + 1, {"last": x[:, -1]}), "none": None}, (X,)),
    "sizes in all ways": (lambda x: (x / len(x), x * torch.tensor(x.size(1)), x + torch.tensor([x.size(0), 2] * 3),
                                     x[:, : -(-x.size(1) // 2)], x.sum(1) / x[0].numel(), x.max(1).values), (X,)),
    "shape as a number": (lambda x: x / x.size(1) + x.size(0) * 0.5 + x.shape[1] ** 0.5, (X,)),
    "lerp": (lambda x, y: (torch.lerp(x, y, 0.3), torch.addcmul(x, x, y, value=0.5), x.clone().addcmul_(x, y)), (X, X)),
    "constants": (lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) + torch.linspace(0, 1, 6), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_what_pytorch_gives(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    check(Fn(function), *shapes)


# ---- whole models ---------------------------------------------------------------------------------


class BiLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.embed(tokens))
        return self.fc(out[:, -1])


def test_a_resnet18_gives_what_pytorch_gives_at_every_batch_and_image_size() -> None:
    found = check(randomized(ResNet18()), ("b", 3, 64, 64), tolerance=1e-5)
    names = set(found.model.graph.initializers)
    assert {"layer2.0.downsample.1.running_var", "layer4.1.conv2.weight", "fc.bias"} <= names
    assert operators(found).count("BatchNormalization") == 20
    assert check(randomized(ResNet18(4)), ("b", 3, "h", "w")).notes == ()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_transformer_encoder_traces_through(norm_first: bool, batch_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        8, 2, 16, batch_first=batch_first, norm_first=norm_first, activation="gelu"
    )
    found = check(randomized(nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))), ("b", "t", 8))
    assert "layers.1.self_attn.in_proj_weight" in found.model.graph.initializers
    assert found.notes == ()


def test_a_transformer_encoder_takes_both_masks() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

    def run(x: torch.Tensor, pad: torch.Tensor, model: nn.Module) -> Any:
        causal = nn.Transformer.generate_square_subsequent_mask(x.size(1))
        pad = pad.clone()
        pad[:, 0] = False
        return model(x, mask=causal, src_key_padding_mask=torch.zeros(pad.shape).masked_fill(pad, -1e9))

    check(randomized(Fn(run, encoder)), ("b", "t", 8), ("bool", "b", "t"))


def test_a_transformer_decoder_traces_through() -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2)
    check(randomized(Fn(lambda x, y, model: model(x, y), decoder)), ("b", "t", 8), ("b", 4, 8))


ATTENTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "without weights": ({"batch_first": True}, {"need_weights": False}),
    "per head": ({"bias": False}, {"average_attn_weights": False}),
    "added keys": ({"add_bias_kv": True, "add_zero_attn": True}, {"mask": True}),
    "other features": ({"kdim": 6, "vdim": 6, "batch_first": True}, {}),
    "masked": ({"batch_first": True}, {"mask": True, "need_weights": False}),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_multi_head_attention_traces_through(name: str) -> None:
    made, called = ATTENTIONS[name]
    called = dict(called)
    mask = torch.rand(6, 5) < 0.3 if called.pop("mask", False) else None
    features = made.get("kdim", 8)

    def run(q: torch.Tensor, kv: torch.Tensor, attention: nn.Module) -> Any:
        return attention(q, kv, kv, attn_mask=mask, **called)

    module = randomized(Fn(run, nn.MultiheadAttention(8, 2, **made)))
    front = ("b", 6) if made.get("batch_first") else (6, "b")
    behind = ("b", 5) if made.get("batch_first") else (5, "b")
    check(module, (*front, 8), (*behind, features))


def test_a_bidirectional_lstm_is_one_node_with_batch_and_length_free() -> None:
    found = check(randomized(BiLSTM()), ("i64", 11, "b", "t"))
    assert operators(found).count("LSTM") == 1
    assert [str(dim) for dim in found.model.graph.inputs[0].shape or ()] == ["batch", "length"]
    assert found.weights["lstm.weight_ih_l0"] == ("lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse")


def test_a_decoder_written_by_hand_keeps_its_tied_weight_one() -> None:
    found = check(randomized(GPT()), ("i64", 11, "b", "t"))
    names = list(found.model.graph.initializers)
    assert "wte.weight" in names and not any(name.startswith(("wte.weight_", "lm_head")) for name in names)
    assert any("length is at most 32" in note for note in found.notes)


# ---- what the graph looks like --------------------------------------------------------------------


def test_weights_and_nodes_keep_the_names_of_the_layers() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4, 3))
    found = check(randomized(net), ("b", 4, 4, 4))
    assert set(found.model.graph.initializers) == set(net.state_dict()) - {"1.num_batches_tracked"}
    assert [node.name for node in found.model.graph] == ["0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(
        found.model.graph.initializers["4.weight"].const_value.numpy(), net[4].weight.detach().numpy()
    )


def test_no_node_is_written_that_does_nothing() -> None:
    net = nn.Sequential(nn.Linear(5, 5), nn.Dropout(), nn.Identity(), nn.ReLU())
    found = check(Fn(lambda x, n: n(x).contiguous().detach().float().view(-1, 5)[:], net), ROWS)
    assert operators(found) == ["Gemm", "Relu"]


def test_attention_of_a_batch_first_layer_has_no_transposition_but_its_heads() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    found = check(randomized(Fn(lambda x, m: m(x, x, x, need_weights=False)[0], attention)), ("b", "t", 8))
    assert operators(found).count("Transpose") == 4


def test_a_layer_that_is_called_twice_has_its_weights_once() -> None:
    found = check(randomized(Fn(lambda x, fc: fc(fc(x).relu()), nn.Linear(5, 5))), STEPS)
    assert sorted(found.model.graph.initializers) == ["parts.0.bias", "parts.0.weight"]


def test_a_parametrized_weight_says_what_it_is_made_of() -> None:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))
    found = check(nn.Sequential(layer), ROWS)
    origin = "0.parametrizations.weight.original"
    assert found.weights["0.weight"] == (f"{origin}0", f"{origin}1")


def test_a_batch_norm_keeps_its_momentum_in_the_words_of_onnx() -> None:
    found = export(randomized(nn.BatchNorm2d(4, momentum=0.3)), IMAGE)
    assert next(iter(found.model.graph)).attributes["momentum"].as_float() == pytest.approx(0.7)


def test_the_mode_of_every_submodule_is_as_before() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(5))
    net[1].eval()
    export(net, ROWS)
    live.run(net, [np.ones((2, 5), np.float32)])
    assert [part.training for part in net.modules()] == [True, True, False]


@pytest.mark.parametrize("kind", ["float64", "float16"])
def test_a_model_keeps_its_dtype(kind: str) -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2))
    module = randomized(net).to(getattr(torch, kind))
    check(module, (kind, "b", "t", 5), tolerance=1e-11 if kind == "float64" else 3e-3)


def test_a_bfloat16_model_keeps_its_dtype() -> None:
    array = live.to_numpy(torch.ones(2, 5, dtype=torch.bfloat16))
    found = to_onnx(nn.Linear(5, 3).bfloat16(), [Example("x", array, {0: "batch"})])
    assert found.model.graph.outputs[0].dtype == ir.DataType.BFLOAT16


def test_outputs_are_named_by_their_place_or_their_key() -> None:
    found = check(Fn(lambda x: {"logits": x, "past": (x * 2, [x * 3, None])}), ROWS)
    assert [value.name for value in found.model.graph.outputs] == ["logits", "past_0", "past_1_0"]
    found = check(Fn(lambda x: (x + 1, {"k": x * 2})), ROWS)
    assert [value.name for value in found.model.graph.outputs] == ["output_0", "output_1_k"]


def test_the_signature_names_the_sizes_that_follow_a_free_axis() -> None:
    example = Example("x", np.zeros((2, 7, 5), np.float32), {0: "batch", 1: "length"}, asked=True)
    found = signature_of(nn.LSTM(5, 4, batch_first=True), [example])
    assert str(found).endswith(
        "-> (output_0: float32[batch, length, 4], output_1_0: float32[1, batch, 4], output_1_1: float32[1, batch, 4])"
    )


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (ir.to_proto(export(randomized(GPT()), ("i64", 11, "b", "t")).model) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


# ---- sizes that do not stay free ------------------------------------------------------------------


def branches(x: torch.Tensor) -> torch.Tensor:
    if x.shape[0] > 1:
        return x * 2
    return x


def counts(x: torch.Tensor) -> torch.Tensor:
    return sum(x[:, i] for i in range(x.shape[1]))  # type: ignore[return-value]


def told(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] == 6:
        return x * 2
    return x


def told_beside_a_range(x: torch.Tensor) -> torch.Tensor:
    return x * torch.arange(6) if x.shape[1] == 6 else x


def halves(x: torch.Tensor) -> torch.Tensor:
    return x.view(-1, 12)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (counts, "range(x.shape[1])"),
        (told, "if x.shape[1] == 6"),
        (told_beside_a_range, "if x.shape[1] == 6"),
    ],
)
def test_an_axis_asked_to_be_free_that_the_code_fixes_is_refused_with_the_line(
    function: Any, line: str
) -> None:
    with pytest.raises(UsageError, match="does not leave the size") as caught:
        export(Fn(function), X)
    assert line in str(caught.value)
    assert ("loop in Python" in str(caught.value)) == (function is counts)


def test_a_default_batch_that_the_code_fixes_is_fixed_and_told() -> None:
    found = export(Fn(lambda x: x * 2 if x.shape[0] == 3 else x), ("b", 6), asked=False)
    assert found.model.graph.inputs[0].shape == ir.Shape([3, 6])
    assert "'batch' is fixed" in found.notes[0] and "x.shape[0] == 3" in found.notes[0]


def test_a_branch_on_a_batch_is_seen_when_the_example_has_one() -> None:
    with pytest.raises(UsageError, match="batch"):
        export(Fn(branches), X, sizes=SIZES[1])


def test_writing_into_an_input_does_not_reach_back() -> None:
    check(Fn(lambda x: x.add_(1) * 2), X)


def test_squeezing_a_free_axis_is_told() -> None:
    found = export(Fn(lambda x: x.sum(-1, keepdim=True).squeeze()), X)
    assert "squeeze keeps 'batch' also where it is 1" in found.notes


def test_two_free_sizes_that_must_be_equal_are_told() -> None:
    found = export(Fn(lambda x, y: x + y), ("b", 5), ("t", 5), sizes={"b": 4, "t": 4})
    assert any("is" in note and "batch" in note and "length" in note for note in found.notes)


def test_examples_with_one_symbol_and_two_sizes_are_refused() -> None:
    given = [Example(n, np.zeros((s, 2), np.float32), {0: "batch"}) for n, s in (("a", 2), ("b", 3))]
    with pytest.raises(UsageError, match="batch"):
        to_onnx(Fn(lambda a, b: (a, b)), given)


# ---- refusals and fallbacks -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2 if x.sum() > 0 else x,
        lambda x: x * x.max().item(),
        lambda x: x[: int(x[0, 0, 0])],
        lambda x: x if torch.equal(x, x * 2) else -x,
    ],
)
def test_code_that_looks_at_values_is_refused_with_its_line(function: Any) -> None:
    with pytest.raises(UnsupportedError, match="looks at a tensor's values") as caught:
        export(Fn(function), X)
    assert "test_pytorch_to_onnx.py:" in str(caught.value)


def test_functions_without_a_row_are_named_all_at_once() -> None:
    def strange(x: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(x) + torch.special.bessel_j0(x) + torch.special.i1(x)

    with pytest.raises(UnsupportedError) as caught:
        export(Fn(strange), X)
    assert [problem.operator for problem in caught.value.problems] == [
        "special_airy_ai",
        "special_bessel_j0",
        "special_i1",
    ]
    assert "PyTorch's TorchScript exporter" in str(caught.value)


def test_what_has_no_row_goes_by_pytorchs_exporter_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in [key for key in DECOMPOSITIONS if "fake_quantize" in str(key)]:
        monkeypatch.delitem(DECOMPOSITIONS, function)
    rounded = Fn(lambda x: torch.fake_quantize_per_tensor_affine(x, 0.01, 0, -128, 127))
    steps = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), rounded)
    found = check(randomized(steps), ("b", 4, 10, 10), route="torchscript", tolerance=1e-2)
    assert "BatchNormalization" in operators(found)
    assert "TorchScript exporter was used" in found.notes[0] and "fake_quantize" in found.notes[0]
    assert "0.weight" in found.model.graph.initializers


def test_reading_a_tensor_after_a_view_of_it_was_written_is_never_left_to_torchscript() -> None:
    def aliased(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y.unfold(-1, 2, 2)[..., 0].mul_(5)
        return y + 1

    found = check(Fn(aliased), (3, 4, 6), route="dynamo")
    assert found.notes[0].count("shares its memory") == 1


WRITTEN_THROUGH = {
    "a view": lambda y, x: y.view(-1, 3).mul_(5),
    "a flattened view": lambda y, x: y.flatten().clamp_(min=0),
    "a transposed view": lambda y, x: y.transpose(0, 1).add_(x.transpose(0, 1)),
    "a slice of a slice": lambda y, x: y[:, 1:][:, :2].copy_(x[:, :2]),
    "a row": lambda y, x: y[0].zero_(),
    "a part of several": lambda y, x: y.chunk(3, -1)[1].mul_(5),
    "a part beside another": lambda y, x: y.split([1, 2, 3], dim=-1)[2].add_(1),
    "what is cut out by name": lambda y, x: y.narrow(1, 0, 2).mul_(3),
    "one of an axis": lambda y, x: y.select(dim=1, index=0).fill_(3),
    "a permuted view": lambda y, x: y.permute(2, 0, 1)[0].zero_(),
    "a transposed view by keyword": lambda y, x: y.transpose(dim0=0, dim1=1)[0].mul_(2),
    "what is detached": lambda y, x: y.detach().mul_(2),
    "a slice, with its sum": lambda y, x: y[:, :2].__iadd__(x[:, 2:4]),
}


@pytest.mark.parametrize("write", WRITTEN_THROUGH.values(), ids=WRITTEN_THROUGH)
def test_what_is_written_into_a_view_is_in_its_base_and_in_its_other_views(write: Any) -> None:
    def written(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x * 2
        other, turned = y[:, 1:], y.transpose(1, 2)
        write(y, x)
        return y, other + 1, turned

    check(Fn(written), X)


def test_a_tensor_that_is_made_empty_and_filled_by_slices_is_what_was_filled_in() -> None:
    def filled(x: torch.Tensor) -> torch.Tensor:
        y = x.new_empty(x.shape)
        y[..., :3].copy_(x[..., 3:])
        y[..., 3:].copy_(x[..., :3])
        return y

    check(Fn(filled), X)


def test_a_fallback_leaves_no_path_of_this_machine_in_the_file() -> None:
    def aliased(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y.unfold(-1, 2, 2)[..., 0].mul_(5)
        return y

    found = export(Fn(aliased), X)
    assert found.route == "dynamo"
    assert b".py" not in ir.to_proto(found.model).SerializeToString()


def _written(*nodes: Any) -> Any:
    """What an exporter gives: a graph from x0 to output."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x0", "output")]
    shape = numpy_helper.from_array(np.array([7, 9]), "shape")
    graph = helper.make_graph([helper.make_node(*node) for node in nodes], "net", ends[:1], ends[1:], [shape])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


@pytest.mark.parametrize(
    "node",
    [
        ("Mul", ["x0", "shape"], ["output"]),
        ("Nonsense", ["x0"], ["output"]),
        ("Relu", ["nowhere"], ["output"]),
    ],
)
def test_an_invalid_file_of_an_exporter_is_never_handed_on(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types that do not agree, operators that ONNX has not, inputs that are not there: the next exporter is asked."""
    good = fallback._ROUTES["torchscript"]
    monkeypatch.setattr(fallback, "_ROUTES", {"torchscript": lambda *_: _written(node), "dynamo": good})
    module, given = nn.Linear(5, 4).eval(), [Example("x0", np.zeros((2, 5), np.float32))]
    assert fallback.export(module, given, ("torchscript", "dynamo"), "why").route == "dynamo"
    with pytest.raises(fallback.Failed, match="TorchScript"):
        fallback.export(module, given, ("torchscript",), "why")


def test_a_file_of_an_exporter_that_does_not_run_is_refused_without_a_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = _written(("Reshape", ["x0", "shape"], ["output"]))
    monkeypatch.setattr(fallback, "_ROUTES", {"torchscript": lambda *_: bad, "dynamo": lambda *_: bad})
    module = Fn(lambda x: torch.special.i1(x))
    with pytest.raises(RefusedError, match="does not run on its own example"):
        netferry.convert(module, "onnx", inputs={"x0": np.zeros((2, 5), np.float32)}, verify=False)


@pytest.mark.parametrize(
    "function", [F.dropout, lambda x: x + torch.rand(6), lambda x: x + torch.randn_like(x)]
)
def test_code_that_draws_random_numbers_in_inference_is_refused(function: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"random numbers|on in inference"):
        export(Fn(function), X)


class BatchStatistics(nn.Module):
    """Normalised by its batch in inference too; what it keeps of batches is no part of what it gives, unless it ``reads_them``."""

    def __init__(self, reads_them: bool = False) -> None:
        super().__init__()
        self.reads_them = reads_them
        self.norm, self.other = nn.BatchNorm2d(4, eps=0.1), nn.BatchNorm1d(4, affine=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = F.batch_norm(x, torch.zeros(4), torch.ones(4), training=True, momentum=0.3)
        kept = F.batch_norm(x, self.norm.running_mean, self.norm.running_var, training=True)
        first = self.other(x.mean((2, 3)))
        return (self.norm(kept), first) if self.reads_them else (own, kept, first)


def test_a_norm_by_its_batch_is_one_at_every_batch() -> None:
    module = randomized(BatchStatistics()).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = export(module, IMAGE)
    assert found.route == "direct", found.notes
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    running = session(found)
    for batch in (3, 5):
        x = np.random.default_rng(batch).normal(2, 3, (batch, 4, 6, 7)).astype(np.float32)
        want = copy.deepcopy(module)(torch.from_numpy(x))
        for a, b in zip(want, running.run(None, {"x0": x}), strict=True):
            np.testing.assert_allclose(b, a.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_statistics_that_a_batch_has_changed_and_the_code_reads_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="statistics that a batch_norm in training has changed"):
        export(randomized(BatchStatistics(reads_them=True)).eval(), IMAGE)


def test_an_exported_program_is_traced_again() -> None:
    net = randomized(
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    )
    batch = torch.export.Dim("batch")
    program = torch.export.export(net.eval(), (torch.randn(3, 4, 4, 4),), dynamic_shapes=({0: batch},))
    found = to_onnx(program)
    assert found.route == "direct", found.notes
    assert {"0.weight", "1.running_mean", "4.bias"} <= set(found.model.graph.initializers)
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 4)).astype(np.float32)
    running = session(found)
    got = running.run(None, {running.get_inputs()[0].name: x})[0]
    np.testing.assert_allclose(got, live.run(program, [x])["output"], rtol=1e-5, atol=1e-5)


def test_an_exported_lstm_stays_one_node() -> None:
    net = randomized(BiLSTM()).eval()
    program = torch.export.export(net, (torch.zeros(3, 6, dtype=torch.long),))
    found = to_onnx(program)
    assert operators(found) == ["Gather", "Transpose", "LSTM", "Transpose", "Reshape", "Gather", "Gemm"]
    assert found.route == "direct"


def test_without_examples_the_error_says_how_to_give_them() -> None:
    with pytest.raises(UsageError, match="--input tokens:"):
        to_onnx(BiLSTM())


def test_inputs_that_the_model_does_not_take_are_refused_in_one_line() -> None:
    with pytest.raises(RefusedError, match="does not run on these inputs"):
        export(nn.Linear(5, 3), ("b", 4))
    with pytest.raises(RefusedError, match="does not run"):
        live.run(nn.Linear(5, 3), [np.zeros((2, 4), np.float32)])
