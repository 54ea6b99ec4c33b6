"""Symbols that the public has, with weights drawn by chance: they convert, and MXNet agrees. The files are no part of the project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import assert_equal, onnx_outputs
from mxnet_oracle import Oracle

from netferry.converters import frameworks, import_model
from netferry.converters.exported import ExportedModel
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
    "djl-ssd512-resnet50": _image(3, 512, 512),
    "djl-ssd512-vgg16": _image(3, 512, 512),
    "djl-vgg16-ucf101": _image(3, 224, 224),
    "mxnet-mkldnn-model1": _image(3, 224, 224),
}

SMALL = ["insightface-mtcnn-det1", "mms-lstm-ptb", "mxnet-save-000800"]
TARGETS = ("onnx", "pytorch", "tensorflow")


def _next_batch(inputs: dict[str, Array]) -> dict[str, Array]:
    """One row more, in another order: what was computed for one batch is not that of the other."""
    first = {name: array[-1:, ..., ::-1] if array.ndim > 1 else array[-1:] for name, array in inputs.items()}
    return {name: np.concatenate([first[name], array]) for name, array in inputs.items()}


@dataclass(frozen=True)
class Converted:
    """A public symbol with weights drawn by chance, what MXNet computes of two batches, and the ONNX model."""

    exported: ExportedModel
    batches: list[list[Array]]
    truth: list[dict[str, Array]]


def _converted(name: str, oracle: Oracle, folder: Path) -> Converted:
    inputs = (INPUTS | LARGE)[name]
    source = open_source(str(SYMBOLS / f"{name}-symbol.json"))
    model = with_random_weights(source, examples(inputs), 3)
    own = [model.graph.nodes[position].name for position in model.graph.variables]
    order = [key for key in own if key in inputs]
    files.write_symbol(folder / "net-symbol.json", model.graph)
    arrays = {f"arg:{key}": array for key, array in model.params.items()}
    files.write_params(folder / "net-0000.params", arrays)
    batches = [[each[key] for key in order] for each in (inputs, _next_batch(inputs))]
    truth = [oracle.run_files(str(folder / "net"), batch) for batch in batches]
    return Converted(to_onnx(model, examples(inputs)), batches, truth)


def _assert_agrees(outputs: Mapping[str, Array], truth: Mapping[str, Array]) -> None:
    """To 2e-5 of the scale of each output, whose numbers are all finite; a detector's best boxes may be of one class."""
    assert len(outputs) == len(truth)
    assert any(float(np.std(expected)) > 0 for expected in truth.values())
    for mine, (key, expected) in zip(outputs.values(), truth.items(), strict=True):
        assert np.isfinite(expected).all(), key
        assert_equal(mine, expected, 2e-5, key)


def _assert_arrives(name: str, target: str, oracle: Oracle, folder: Path) -> None:
    found = _converted(name, oracle, folder)
    if target == "onnx":
        results = [onnx_outputs(found.exported.model, batch) for batch in found.batches]
        assert list(results[0]) == list(found.truth[0])
    else:
        model = import_model(found.exported.model, target).model
        results = [frameworks.named(target).live.run(model, batch) for batch in found.batches]
    for outputs, truth in zip(results, found.truth, strict=True):
        _assert_agrees(outputs, truth)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SMALL)
def test_a_small_public_symbol_arrives(name: str, target: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_arrives(name, target, oracle, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [name for name in (*INPUTS, *LARGE) if name not in SMALL])
def test_a_large_public_symbol_arrives(name: str, target: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_arrives(name, target, oracle, tmp_path)
