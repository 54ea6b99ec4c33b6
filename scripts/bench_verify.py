"""What verification costs: CPU time in forward passes of the source at the largest sample, and memory.

python scripts/bench_verify.py              names the models
python scripts/bench_verify.py resnet18     measures one of them here, as JSON
(``python scripts/bench.py verify`` gives each a process of its own and prints the table)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench_measure import MIB, OURS, Figure, beside, cpu, grown, tell

PASSES = 5
"""Forward passes of the source, of which the mean counts."""

Model = Callable[[], tuple[Any, str, Sequence[str]]]
"""Builds a model; where it goes, and how its inputs are said."""


def resnet18() -> tuple[Any, str, Sequence[str]]:
    from bench_models import ResNet18, randomised

    return randomised(ResNet18()), "onnx", ["x:1,3,224,224"]


def bilstm() -> tuple[Any, str, Sequence[str]]:
    from bench_models import BiLSTM, randomised

    return randomised(BiLSTM()), "onnx", ["x:batch,time=50,64"]


def encoder() -> tuple[Any, str, Sequence[str]]:
    from bench_models import Encoder, randomised

    return randomised(Encoder()), "onnx", ["tokens:batch,time=64:i64"]


def perceptron() -> tuple[Any, str, Sequence[str]]:
    import torch
    from torch import nn

    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).eval(), "tensorflow", ["x:8,64"]


def keras_masked() -> tuple[Any, str, Sequence[str]]:
    """A bidirectional LSTM over tokens of which some are padding."""
    import keras

    keras.utils.set_random_seed(3)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(1000, 64, mask_zero=True)(tokens)
    x = keras.layers.Bidirectional(keras.layers.LSTM(64))(x)
    return keras.Model(tokens, keras.layers.Dense(5)(x)), "pytorch", []


def keras_images() -> tuple[Any, str, Sequence[str]]:
    import keras

    keras.utils.set_random_seed(3)
    x = image = keras.Input((96, 96, 3), name="image")
    for width in (32, 64, 128):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = keras.layers.MaxPooling2D()(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    x = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x), "onnx", []


def _exported(module: Any, flags: Sequence[str]) -> Any:
    import netferry
    from netferry.converters.signature import examples_from_flags

    return netferry.convert(module, "onnx", inputs=examples_from_flags(flags), verify=False).model


def onnx_resnet18() -> tuple[Any, str, Sequence[str]]:
    model, _, flags = resnet18()
    return _exported(model, flags), "pytorch", []


def _tower(widths: Sequence[int], kernel: int, flags: Sequence[str]) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for inside, outside in zip((1, *widths), widths, strict=False):
        layers += [nn.Conv2d(inside, outside, kernel, padding=kernel // 2), nn.ReLU()]
    return _exported(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), flags)


def onnx_speech() -> tuple[Any, str, Sequence[str]]:
    """Few weights and large activations: 128 maps of 900 x 120 from each row."""
    return _tower((64, 128, 32), 3, ["x:batch,1,900,120"]), "pytorch", []


def onnx_small() -> tuple[Any, str, Sequence[str]]:
    """A file of 230 KB: eight convolutions on 76 x 32."""
    return _tower((24, 24, 48, 48, 64, 64, 24, 24), 3, ["x:batch,1,76,32"]), "tensorflow", []


def onnx_gru() -> tuple[Any, str, Sequence[str]]:
    from torch import nn

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(40, 128, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.gru(x)[0]

    return _exported(Last().eval(), ["x:batch,time=100,40"]), "pytorch", []


def mxnet_resnet18() -> tuple[Any, str, Sequence[str]]:
    from netferry.converters.mxnet.live import import_mxnet

    mx = import_mxnet()
    mx.random.seed(3)
    net = mx.gluon.model_zoo.vision.resnet18_v1()
    net.initialize(mx.init.Xavier())
    net.hybridize()
    net(mx.nd.zeros((1, 3, 224, 224)))
    return net, "onnx", ["data:1,3,224,224"]


MODELS: Mapping[str, tuple[str, Model]] = {
    "perceptron": ("perceptron, PyTorch -> Keras", perceptron),
    "resnet18": ("resnet18, PyTorch -> ONNX", resnet18),
    "bilstm": ("BiLSTM of two layers, 50 steps, PyTorch -> ONNX", bilstm),
    "encoder": ("encoder of four layers, 64 tokens, PyTorch -> ONNX", encoder),
    "keras_masked": ("masked BiLSTM, Keras -> PyTorch", keras_masked),
    "keras_images": ("CNN on 96 x 96, Keras -> ONNX", keras_images),
    "onnx_resnet18": ("resnet18, ONNX -> PyTorch", onnx_resnet18),
    "onnx_speech": ("CNN with large activations, ONNX -> PyTorch", onnx_speech),
    "onnx_small": ("CNN of 230 KB, ONNX -> Keras", onnx_small),
    "onnx_gru": ("GRU, 100 steps, ONNX -> PyTorch", onnx_gru),
    "mxnet_resnet18": ("resnet18, MXNet -> ONNX", mxnet_resnet18),
}


def measured(title: str, build: Model) -> list[Figure]:
    """The verification of one conversion: its models are ready, and PyTorch is imported."""
    import torch  # noqa: F401 - the truth of an ONNX graph runs on its kernels

    import netferry
    from netferry.converters.signature import examples_from_flags
    from netferry.inference.binding import bind
    from netferry.inference.intermediate import weights
    from netferry.validation.pair import paired

    model, to, flags = build()
    given = examples_from_flags(flags) if flags else None
    target = netferry.convert(model, to, inputs=given, verify=False).model
    pair = paired(model, target, given)
    largest = max(pair.made.samples, key=lambda one: sum(array.size for array in one.arrays.values()))
    feed = bind(largest.arrays, pair.source.signature)
    pair.source.run(feed)
    one = cpu(lambda: pair.source.run(feed), PASSES)
    reports: list[Any] = []
    seconds: list[float] = []

    def work() -> None:
        seconds.append(cpu(lambda: reports.append(netferry.verify(model, target, given, seed=0))))

    memory = grown(work)
    print(f"{title}: {reports[0].to_text()}", file=sys.stderr)
    size = sum(array.nbytes for _, array in weights(model))
    return [
        beside(
            f"{title}: {len(reports[0].samples)} samples", "s",
            {OURS: seconds[0], f"a pass of the source ({largest.label})": one},
        ),
        beside("memory grown meanwhile", "MiB", {OURS: memory / MIB, "the weights": size / MIB}),
    ]  # fmt: skip


CASES: Mapping[str, Callable[[], list[Figure]]] = {
    name: lambda title=title, build=build: measured(title, build) for name, (title, build) in MODELS.items()
}


if __name__ == "__main__":
    tell(CASES, sys.argv[1:])
