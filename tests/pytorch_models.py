"""PyTorch models as people write them: what each is made by and what goes in, sizes of free axes as letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_oracle import Fn, Shape
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, rnn

Made = tuple[Callable[[], nn.Module], tuple[Shape, ...]]
"""A factory and the inputs of what it makes."""

IMAGE, STEPS, TOKENS = ("b", 3, "h", "w"), ("b", "t", 6), ("i64", 11, "b", "t")

# ---- images ---------------------------------------------------------------------------------------


def conv_bn(
    inner: int, outer: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Any = nn.ReLU
) -> nn.Module:
    conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), act())


class Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample: nn.Module | None = None
        if stride != 1 or inner != outer:
            self.downsample = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        for i in range(4):
            first = Residual(widths[i], widths[i + 1], 1 if i == 0 else 2)
            setattr(self, f"layer{i + 1}", nn.Sequential(first, Residual(widths[i + 1], widths[i + 1], 1)))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Inverted(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow; a shortcut where the sizes allow it."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.shortcut = stride == 1 and inner == outer
        wide = 2 * inner
        self.conv = nn.Sequential(
            conv_bn(inner, wide, 1, act=nn.ReLU6),
            conv_bn(wide, wide, 3, stride, wide, act=nn.ReLU6),
            nn.Conv2d(wide, outer, 1, bias=False),
            nn.BatchNorm2d(outer),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn(3, 8, 3, 2, act=nn.ReLU6), Inverted(8, 8, 1), Inverted(8, 12, 2), Inverted(12, 12, 1)
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1)).reshape(x.shape[0], -1)
        return self.classifier(x)


class UNet(nn.Module):
    """Down, up by a transposed convolution, and once more by interpolation to the skip's size."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.floor = conv_bn(3, 4), conv_bn(4, 8), conv_bn(8, 8)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.merge2, self.merge1 = conv_bn(16, 8), conv_bn(12, 4)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        y = self.up(self.floor(F.max_pool2d(two, 2)))
        y = self.merge2(torch.cat([y, two], 1))
        y = F.interpolate(y, size=one.shape[2:], mode="bilinear", align_corners=False)
        return self.head(self.merge1(torch.cat([y, one], dim=1)))


class PaddedUp(nn.Module):
    """What is brought up is padded to the skip's size, as the first U-Nets do."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(F.max_pool2d(self.down(x), 2))
        dy, dx = x.size(2) - y.size(2), x.size(3) - y.size(3)
        return torch.cat([x, F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])], dim=1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(3 + 4 * i), nn.ReLU(), nn.Conv2d(3 + 4 * i, 4, 3, padding=1))
            for i in range(3)
        )
        self.transition = nn.Sequential(nn.Conv2d(15, 6, 1), nn.AvgPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.transition(torch.cat(features, 1)).mean([2, 3])


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = conv_bn(3, 4, 1)
        self.three = nn.Sequential(
            conv_bn(3, 2, 1), nn.Conv2d(2, 4, (1, 7), padding=(0, 3)), nn.Conv2d(4, 4, (7, 1), padding=(3, 0))
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        average = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        return torch.cat([self.one(x), self.three(x), self.pool(x), average], 1)


class Excited(nn.Module):
    """EfficientNet's squeeze and excitation around SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = (
            conv_bn(3, 8, 3, 2, act=nn.SiLU),
            nn.Conv2d(8, 2, 1),
            nn.Conv2d(2, 8, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x * self.excite(F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()


class Shuffled(nn.Module):
    """ShuffleNet: channels split, a half of them worked on, all of them shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = conv_bn(3, 8), conv_bn(4, 4, 3, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        y = torch.cat((left, self.branch(right)), dim=1)
        batch, channels, height, width = y.size()
        y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return y.view(batch, -1, height, width)


class SuperResolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv2(torch.tanh(self.conv1(x)))) + F.interpolate(
            x, scale_factor=2, mode="nearest"
        )


class SpatialTransformer(nn.Module):
    """An affine map that the image itself decides, by grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(
            conv_bn(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        theta = self.locate(x).view(-1, 2, 3) + torch.eye(2, 3)
        grid = F.affine_grid(theta, list(x.size()), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


class Patches(nn.Module):
    """A vision transformer by hand: patches, a class token, places cut to the number of patches."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 64, width))
        layer = nn.TransformerEncoderLayer(width, 2, 16, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        return self.head(self.encoder(x + self.places[:, : x.shape[1]])[:, 0])


class Normed(nn.Module):
    """Every normalisation in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.batch, self.group, self.instance = (
            nn.BatchNorm2d(8),
            nn.GroupNorm(4, 8),
            nn.InstanceNorm2d(8, affine=True),
        )
        self.layer, self.rms = nn.LayerNorm(8), nn.RMSNorm(8)
        self.local = nn.LocalResponseNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local(self.instance(self.group(self.batch(self.conv(x)))))
        return self.rms(self.layer(x.permute(0, 2, 3, 1)).relu()).permute(0, 3, 1, 2)


class Detector(nn.Module):
    """Scores and boxes of every place: a grid made of the image's size, the best ten places picked."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = conv_bn(3, 8, 3, 2), nn.Conv2d(8, 2 * 7, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(self.body(x))
        batch, _, rows, columns = y.shape
        y = y.view(batch, 2, 7, rows, columns).permute(0, 1, 3, 4, 2).contiguous()
        line, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        grid = torch.stack((column, line), 2).view(1, 1, rows, columns, 2).float()
        center = (y[..., :2].sigmoid() * 2 - 0.5 + grid) * 2
        boxes = torch.cat([center, (y[..., 2:4].sigmoid() * 2) ** 2], -1).view(batch, -1, 4)
        scores, places = y[..., 4:].sigmoid().amax(-1).flatten(1).topk(10, dim=1)
        return scores, boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))


# ---- sequences ------------------------------------------------------------------------------------


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5, padding_idx=0)
        self.lstm = nn.LSTM(5, 4, num_layers=2, batch_first=True, bidirectional=True, dropout=0.1)
        self.fc = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        out, _ = self.lstm(self.embed(tokens))
        return self.fc(out).log_softmax(-1)


class LastState(nn.Module):
    """Time first, the first state made by hand, the last one of the top layer classified."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(6, 4, num_layers=2)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        state = torch.zeros(2, x.size(1), 4, device=x.device)
        _, state = self.gru(x, state)
        return self.fc(state[-1])


class Packed(nn.Module):
    """Sequences of different lengths, packed; the states are those of each one's own end."""

    def __init__(self, kind: Any = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.layer = kind(6, 4, batch_first=True, **options)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, state = self.layer(packed)
        padded, _ = rnn.pad_packed_sequence(out, batch_first=True)
        return padded, state


class Seq2Seq(nn.Module):
    """An encoder's states go on into a decoder, which attends to what the encoder gave."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(6, 4, batch_first=True), nn.GRUCell(6, 4)
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        seen, state = self.encoder(x)
        hidden, step, outputs = state[0], x[:, -1], []
        for _ in range(3):
            hidden = self.decoder(step, hidden)
            weights = torch.softmax(torch.bmm(seen, hidden.unsqueeze(2)).squeeze(2), dim=1)
            step = self.out(torch.cat([hidden, torch.einsum("bt,btc->bc", weights, seen)], 1))
            outputs.append(step)
        return torch.stack(outputs, 1)


class TextCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.convs = nn.ModuleList(nn.Conv1d(6, 4, k) for k in (2, 3, 4))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).permute(0, 2, 1)
        return torch.cat([F.relu(conv(x)).max(dim=2)[0] for conv in self.convs], 1)


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates and skips."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(6, 12, 2, dilation=2**i) for i in range(3))
        self.mix = nn.ModuleList(nn.Conv1d(6, 6, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x, skips = x.transpose(1, 2), 0.0
        for i, (conv, mix) in enumerate(zip(self.convs, self.mix, strict=True)):
            value, gate = conv(F.pad(x, (2**i, 0))).chunk(2, 1)
            y = mix(torch.tanh(value) * torch.sigmoid(gate))
            x, skips = x + y, skips + y
        return F.relu(skips).transpose(1, 2)


class GPT(nn.Module):
    """Causal attention by hand, learned places, a head that is tied to the table."""

    def __init__(self, words: int = 11, width: int = 12, heads: int = 3, longest: int = 32) -> None:
        super().__init__()
        self.heads, self.longest = heads, longest
        self.wte, self.wpe = nn.Embedding(words, width), nn.Embedding(longest, width)
        self.ln, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.proj, self.mlp = nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("bias", torch.ones(longest, longest).tril().view(1, 1, longest, longest), False)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        b, t = tokens.size()
        assert t <= self.longest, "too long"
        x = self.wte(tokens) + self.wpe(torch.arange(0, t, dtype=torch.long, device=tokens.device))
        q, k, v = self.qkv(self.ln(x)).split(x.size(2), dim=2)
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / k.size(-1) ** 0.5)
        scores = scores.masked_fill(self.get_buffer("bias")[:, :, :t, :t] == 0, float("-inf"))
        y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(b, t, -1)
        return self.lm_head(x + self.proj(y) + F.gelu(self.mlp(y)))


class Rotary(nn.Module):
    """Attention with rotated places, by the cosines of a table made of the length."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(6, 3 * 8, bias=False)
        self.register_buffer("inverse", 1.0 / 10000 ** (torch.arange(0, 4, 2).float() / 4))

    def turned(self, x: Tensor, angles: Tensor) -> Tensor:
        left, right = x.chunk(2, -1)
        return x * angles.cos() + torch.cat([-right, left], -1) * angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        angles = torch.outer(torch.arange(x.shape[1], dtype=torch.float32), self.get_buffer("inverse"))
        angles = torch.cat((angles, angles), dim=-1)[None, None]
        y = F.scaled_dot_product_attention(self.turned(q, angles), self.turned(k, angles), v, is_causal=True)
        return y.transpose(1, 2).flatten(2)


def padded_encoder(x: Tensor, mask: Tensor, encoder: nn.Module) -> Tensor:
    """The mask says which places are padding; the first place of each sequence is none."""
    return encoder(x, src_key_padding_mask=mask == 0) * mask.unsqueeze(-1)


def decoded(tokens: Tensor, memory: Tensor, decoder: nn.Module) -> Tensor:
    causal = nn.Transformer.generate_square_subsequent_mask(tokens.size(1))
    return decoder(tokens, memory, tgt_mask=causal, tgt_is_causal=True)


def bags(tokens: Tensor, table: nn.Module) -> Tensor:
    return table(tokens)


# ---- code that works with sizes -------------------------------------------------------------------


class Sized(nn.Module):
    """Sizes in every way that code asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.register_buffer("scale", torch.tensor([0.5, 1.5, 2.5, 3.5]))

    def forward(self, x: Tensor) -> Tensor:
        batch, length = x.size(0), x.shape[1]
        y = self.fc(x.view(batch * length, -1)).view(batch, length, 4) * self.get_buffer("scale")
        y = y + torch.zeros(batch, 1, 4) + torch.arange(length).unsqueeze(-1) / length
        if x.dim() > 2 and x.shape[-1] == 6:
            y = y / float(x.shape[-1])
        return torch.einsum("btc,bsc->bts", y, y)


class Written(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, 0] = x[:, -1]
        y[:, 1:] = x[:, :-1] * 0.5
        y[..., 2] += 1
        y[:, :, 3:5] *= 2
        return y


class Ordered(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values, places = x.topk(2, dim=1)
        ordered, order = torch.sort(x, dim=-1, descending=True)
        back = torch.zeros_like(x).scatter_(-1, order, ordered)
        added = torch.zeros(x.size(0), 6).scatter_add(1, order[:, 0], ordered[:, 0])
        kept = torch.where(x > x.mean(1, keepdim=True), x, torch.zeros_like(x))
        return values, places, back, added, kept, x.cumsum(1), kept.gather(2, order[..., :1])


class TiedAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.sigmoid(F.linear(x, self.weight)), self.weight.t(), self.bias)


@dataclass
class Answer:
    logits: Tensor
    states: tuple[Tensor, ...] | None = None


class Answering(nn.Module):
    """A dataclass, as it comes; with a mapping inside of what else there is."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor, *, scale: float = 2.0) -> Answer:
        return Answer(self.fc(x) * scale, (x.mean(1), x.amax(1)))


class Experts(nn.Module):
    """A mixture: every expert runs, the gate weighs the best two."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 4), nn.ModuleList(nn.Linear(6, 5) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        weights, places = self.gate(x).softmax(-1).topk(2, dim=-1)
        gates = torch.zeros(*x.shape[:-1], 4).scatter(-1, places, weights)
        return (torch.stack([expert(x) for expert in self.experts], -2) * gates.unsqueeze(-1)).sum(-2)


def weight_normed() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 5)), nn.ReLU(), parametrizations.orthogonal(nn.Linear(5, 5))
    )


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 2, 12, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS: Mapping[str, Made] = {
    # images
    "resnet18": (ResNet18, (("b", 3, "h", "w"),)),
    "mobilenet": (MobileNet, (IMAGE,)),
    "unet": (UNet, (IMAGE,)),
    "padded unet": (PaddedUp, (IMAGE,)),
    "densenet": (DenseNet, (IMAGE,)),
    "inception": (Inception, (IMAGE,)),
    "squeeze and excitation": (Excited, (IMAGE,)),
    "shufflenet": (Shuffled, (IMAGE,)),
    "super-resolution": (SuperResolution, (IMAGE,)),
    "spatial transformer": (SpatialTransformer, (IMAGE,)),
    "vision transformer by hand": (Patches, (IMAGE,)),
    "normalisations": (Normed, (IMAGE,)),
    "detector": (Detector, (IMAGE,)),
    "video": (lambda: nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.Conv3d(4, 2, 1)),
              (("b", 3, 4, "h", "w"),)),
    "fixed image": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(24, 2)),
                    (("b", 3, 11, 10),)),
    # sequences
    "tagger": (Tagger, (TOKENS,)),
    "last state": (LastState, (STEPS,)),
    "relu rnn": (lambda: nn.RNN(6, 4, 2, nonlinearity="relu", bidirectional=True), (("t", "b", 6),)),
    "projected lstm": (lambda: nn.LSTM(6, 5, 2, proj_size=3, bidirectional=True, batch_first=True), (STEPS,)),
    "projected lstm with a state": (
        lambda: Fn(lambda x, h, c, m: m(x, (h, c)), nn.LSTM(6, 5, proj_size=3)),
        (("t", "b", 6), (1, "b", 3), (1, "b", 5)),
    ),
    "packed lstm": (lambda: Packed(bidirectional=True), (STEPS, ("lengths", "t", "b"))),
    "packed gru": (lambda: Packed(nn.GRU, num_layers=2), (STEPS, ("lengths", "t", "b"))),
    "sequence to sequence": (Seq2Seq, (STEPS,)),
    "text cnn": (TextCNN, (TOKENS,)),
    "wavenet": (WaveNet, (STEPS,)),
    "bags of words": (lambda: Fn(bags, nn.EmbeddingBag(11, 5, mode="mean")), (TOKENS,)),
    "bags with a sum": (lambda: Fn(bags, nn.EmbeddingBag(11, 5, mode="sum", padding_idx=0)), (TOKENS,)),
    # attention
    "transformer encoder": (lambda: encoder(batch_first=True), (STEPS,)),
    "encoder with padding": (lambda: Fn(padded_encoder, encoder(batch_first=True, norm_first=True)), (STEPS, ("mask", "b", "t"))),
    "transformer decoder": (
        lambda: Fn(decoded, nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 12, batch_first=True), 2)),
        (STEPS, ("b", "s", 6)),
    ),
    "whole transformer": (lambda: nn.Transformer(6, 2, 1, 1, 12), (("t", "b", 6), ("s", "b", 6))),
    "attention over a memory": (
        lambda: Fn(lambda x, y, m: m(x, y, y), nn.MultiheadAttention(6, 2, batch_first=True)),
        (STEPS, ("b", "s", 6)),
    ),
    "gpt by hand": (GPT, (TOKENS,)),
    "rotary attention": (Rotary, (STEPS,)),
    # code
    "sizes": (Sized, (STEPS,)),
    "item assignment": (Written, (STEPS,)),
    "order": (Ordered, (STEPS,)),
    "tied autoencoder": (TiedAutoencoder, (STEPS,)),
    "dataclass": (Answering, (STEPS,)),
    "experts": (Experts, (STEPS,)),
    "parametrized": (weight_normed, (STEPS,)),
}  # fmt: skip

# ---- architectures of Hugging Face, tiny and with random weights -------------------------------------


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=12, max_position_embeddings=16)  # fmt: skip
    return BertModel(config)


def distilbert() -> nn.Module:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=11, dim=8, n_layers=2, n_heads=2, hidden_dim=12, max_position_embeddings=16
    )
    return DistilBertForSequenceClassification(config)


def gpt2(**options: Any) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=11, n_positions=32, n_embd=8, n_layer=2, n_head=2, **options)
    )


def _decoder(name: str, **options: Any) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(
        vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, use_cache=False, **options,
    )  # fmt: skip
    return getattr(transformers, f"{name}ForCausalLM")(config)


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
                       image_size=16, patch_size=4)  # fmt: skip
    return ViTForImageClassification(config)


def whisper() -> nn.Module:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=11, num_mel_bins=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, d_model=8, encoder_ffn_dim=12, decoder_ffn_dim=12, max_source_positions=12,
        max_target_positions=16, use_cache=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


def t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=11, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2, use_cache=False,
                      decoder_start_token_id=0)  # fmt: skip
    return T5ForConditionalGeneration(config)


def clip() -> nn.Module:
    from transformers import CLIPConfig, CLIPModel

    text = {"vocab_size": 11, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 10, "bos_token_id": 9}  # fmt: skip
    vision = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 16, "patch_size": 4}  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6))


def convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2))


def with_cache(tokens: Tensor, k0: Tensor, v0: Tensor, k1: Tensor, v1: Tensor, model: nn.Module) -> Any:
    """One more step: the tokens are new, keys and values of both layers are of what stood before."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for layer, (key, value) in enumerate(((k0, v0), (k1, v1))):
        cache.update(key, value, layer)
    found = model(tokens, past_key_values=cache, use_cache=True)
    kept = found.past_key_values
    return found.logits, tuple((layer.keys, layer.values) for layer in kept.layers)


def first_step(tokens: Tensor, model: nn.Module) -> Any:
    found = model(tokens, use_cache=True)
    return found.logits, tuple((layer.keys, layer.values) for layer in found.past_key_values.layers)


PAST = ("b", 2, "s", 4)

HUGGING_FACE: Mapping[str, Made] = {
    "bert": (bert, (TOKENS, ("mask", "b", "t"))),
    "distilbert": (distilbert, (TOKENS, ("mask", "b", "t"))),
    "gpt2": (lambda: gpt2(use_cache=False), (TOKENS,)),
    "gpt2 that gives its cache": (lambda: Fn(first_step, gpt2()), (TOKENS,)),
    "gpt2 that takes a cache": (lambda: Fn(with_cache, gpt2()), (TOKENS, PAST, PAST, PAST, PAST)),
    "llama": (lambda: _decoder("Llama"), (TOKENS, ("mask", "b", "t"))),
    "qwen2": (lambda: _decoder("Qwen2"), (TOKENS,)),
    "mistral": (lambda: _decoder("Mistral"), (TOKENS,)),
    "vit": (vit, (("b", 3, 16, 16),)),
    "whisper": (
        lambda: Fn(lambda x, ids, m: m(input_features=x, decoder_input_ids=ids), whisper()),
        (("b", 8, 24), TOKENS),
    ),
    "t5": (
        lambda: Fn(lambda x, ids, m: m(input_ids=x, decoder_input_ids=ids), t5()),
        (TOKENS, ("i64", 11, "b", "s")),
    ),
    "clip": (
        lambda: Fn(lambda ids, x, m: m(input_ids=ids, pixel_values=x), clip()),
        (TOKENS, ("b", 3, 16, 16)),
    ),
    "convnext": (convnext, (("b", 3, 32, 32),)),
}
