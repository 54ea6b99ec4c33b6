"""Symbols that the public has, with weights drawn by chance: they convert, and MXNet agrees. The files are no part of the project."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import onnx_outputs
from mxnet_oracle import Oracle

from netferry.converters.mxnet import files
from netferry.converters.mxnet.random_weights import with_random_weights
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples
from netferry.converters.source import open_source

SYMBOLS = Path(__file__).parents[2] / "shared" / "data" / "mxnet_symbols"

if not SYMBOLS.is_dir():
    pytest.skip(
        "the public symbols are not beside the checkout (shared/data/mxnet_symbols)", allow_module_level=True
    )

RNG = np.random.default_rng(17)
TOKENS = RNG.integers(0, 1000, (2, 384)).astype(np.float32)


def _image(channels: int, height: int, width: int) -> dict[str, Array]:
    return {"data": RNG.normal(size=(1, channels, height, width)).astype(np.float32)}


INPUTS: dict[str, dict[str, Array]] = {
    "djl-mlp": {"data": RNG.normal(size=(2, 784)).astype(np.float32)},
    "djl-squeezenet1.0": _image(3, 224, 224),
    "djl-simple-pose-resnet18": _image(3, 128, 96),
    "insightface-gender-age": _image(3, 112, 112),
    "insightface-mtcnn-det1": _image(3, 30, 24),
    "insightface-mtcnn-det4": _image(15, 24, 24),
    "mms-lstm-ptb": {"data": TOKENS[:, :35]},
    "mms-squeezenet1.1": _image(3, 224, 224),
    "mxnet-save-000800": {"data": RNG.normal(size=(2, 100)).astype(np.float32)},
}
LARGE: dict[str, dict[str, Array]] = {
    "djl-bert-qa": {"data0": TOKENS, "data1": TOKENS % 2, "data2": np.array([384, 200], np.float32)},
    "djl-resnet18-v1-old": _image(3, 224, 224),
    "djl-resnet50-v2": _image(3, 224, 224),
    "djl-ssd512-vgg16": _image(3, 512, 512),
    "djl-vgg16-ucf101": _image(3, 224, 224),
    "mxnet-mkldnn-model1": _image(3, 224, 224),
}
"""Without djl-ssd512-resnet50: through its boxes' exponentials, weights by chance magnify rounding to 5e-5 of the scale."""


def _assert_agrees(name: str, inputs: dict[str, Array], oracle: Oracle, folder: Path) -> None:
    source = open_source(str(SYMBOLS / f"{name}-symbol.json"))
    model = with_random_weights(source, examples(inputs), 3)
    export = to_onnx(model, examples(inputs))
    own = [model.graph.nodes[position].name for position in model.graph.variables]
    order = [key for key in own if key in inputs]
    prefix = folder / "net"
    files.write_symbol(folder / "net-symbol.json", model.graph)
    files.write_params(
        folder / "net-0000.params", {f"arg:{key}": array for key, array in model.params.items()}
    )
    truth = oracle.run_files(str(prefix), [inputs[key] for key in order])
    outputs = onnx_outputs(export.model, [inputs[key] for key in order])
    assert list(outputs) == list(truth)
    for key, expected in truth.items():
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(np.isfinite(outputs[key]), finite, key)
        scale = max(float(np.abs(expected[finite]).max(initial=0)), 1e-30)
        np.testing.assert_allclose(
            outputs[key][finite] / scale, expected[finite] / scale, rtol=0, atol=2e-5, err_msg=key
        )


@pytest.mark.parametrize("name", ["insightface-mtcnn-det1", "mms-lstm-ptb", "mxnet-save-000800"])
def test_a_small_public_symbol_converts_and_agrees(name: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_agrees(name, INPUTS[name], oracle, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*INPUTS, *LARGE])
def test_every_public_symbol_converts_and_agrees(name: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_agrees(name, (INPUTS | LARGE)[name], oracle, tmp_path)
