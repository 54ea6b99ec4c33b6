"""Weights of gluon's model zoo without a symbol or code: the network is known by their names and sizes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import assert_equal, drawn, onnx_outputs
from mxnet_oracle import Oracle
from test_mxnet_zoo import LARGE, SIZES, SMALL

from netferry.converters.errors import RefusedError
from netferry.converters.mxnet import files
from netferry.converters.mxnet.architectures import TABLES, recognised
from netferry.converters.mxnet.architectures.gluon import NETWORKS
from netferry.converters.mxnet.architectures.layers import Branches, Layer, Part, Sum
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples
from netferry.converters.source import open_source

needs_mxnet = pytest.mark.skipif(
    importlib.util.find_spec("mxnet") is None, reason="mxnet, the oracle, is not installed"
)
FORMS = ("structural", "collected", "stripped")
"""``save_parameters``, ``collect_params().save`` and the same without the network's own prefix."""


@pytest.fixture
def fresh() -> Iterator[Oracle]:
    """mxnet in a process that ends with the test: what a large network took is given back."""
    worker = Oracle()
    yield worker
    worker.close()


def _assert_recognised(name: str, oracle: Oracle, folder: Path, classes: int) -> None:
    """In every form the network is the same one, and computes what gluon computes, at two batches."""
    size = SIZES.get(name, 224)
    images = [[drawn((batch, 3, size, size), 1)] for batch in (1, 2)]
    truth = oracle.zoo_weights(name, images, str(folder), classes)
    for form in FORMS:
        model = open_source(folder / f"{form}.params")
        assert isinstance(model, files.SymbolModel)
        assert f"those of {name} of gluon's model zoo" in model.notes[0]
        if form != "structural" and name not in SMALL:
            continue
        export = to_onnx(model, examples({"data": images[0][0]}))
        for arrays, expected in zip(images, truth, strict=True):
            (mine,) = onnx_outputs(export.model, arrays).values()
            assert_equal(mine, expected[0], 1e-5, f"{name} {form}")


@needs_mxnet
def test_the_table_has_every_network_of_the_zoo(oracle: Oracle) -> None:
    assert sorted(NETWORKS) == oracle.zoo_names()


@needs_mxnet
@pytest.mark.parametrize("name", SMALL)
def test_bare_weights_of_a_small_network_arrive(name: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_recognised(name, oracle, tmp_path, 7)


@needs_mxnet
@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_bare_weights_of_a_large_network_arrive(name: str, fresh: Oracle, tmp_path: Path) -> None:
    _assert_recognised(name, fresh, tmp_path, 1000)


def _saved(folder: Path, change: str = "") -> Path:
    """Weights of an AlexNet with a tenth of its neurons, and one of them off where that is asked for."""
    rng = np.random.default_rng(3)
    convs = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
    shapes = {f"features.{i}": (n, m, k, k) for i, (n, m, k) in enumerate(convs)}
    shapes |= {"features.9": (4096, 256), "features.11": (4096, 4096), "output": (3, 4096)}
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(size=shape[:1]).astype(np.float32)
    if change == "size":
        arrays["features.2.weight"] = arrays["features.2.weight"][:383]
    if change == "more":
        arrays["aux.weight"] = arrays["output.weight"]
    if change == "less":
        del arrays["features.3.bias"]
    if change == "name":
        arrays["features.alpha"] = arrays.pop("features.3.bias")
    files.write_params(folder / "net.params", arrays)
    return folder / "net.params"


def test_what_the_weights_show_is_enough(tmp_path: Path) -> None:
    model = open_source(_saved(tmp_path))
    assert isinstance(model, files.SymbolModel) and "those of alexnet" in model.notes[0]


@pytest.mark.parametrize("change", ["size", "more", "less", "name"])
def test_what_fits_no_network_is_refused_as_before(change: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="parameters without their symbol"):
        open_source(_saved(tmp_path, change))


def _weights(part: Part, channels: int, found: list[tuple[Layer, int]]) -> int:
    """The layers with weights in their order, each with the channels that come to it; the channels that come out."""
    if isinstance(part, Layer):
        if not part.weights:
            return channels
        found.append((part, channels))
        return int(part.attrs.get("num_filter") or part.shape[0] or 5) if part.op != "BatchNorm" else channels
    if isinstance(part, Sum):
        before = _weights(part.before, channels, found)
        result = _weights(part.main, before, found)
        _weights(part.other, before, found)
        return result
    if isinstance(part, Branches):
        return sum(_weights(way, channels, found) for way in part.ways)
    for each in part:
        channels = _weights(each, channels, found)
    return channels


def _params(name: str, prefix: str = "") -> dict[str, Array]:
    """Weights of a network's sizes, that take no memory."""
    layers = list[tuple[Layer, int]]()
    _weights(ALL[name](), 3, layers)
    params = {}
    for number, (layer, channels) in enumerate(layers):
        first = layer.shape[0] or (channels if layer.op in ("BatchNorm", "Deconvolution") else 5)
        inner = int(layer.attrs.get("num_filter", channels)) if layer.op == "Deconvolution" else channels
        shape = (first, inner // int(layer.attrs.get("num_group", 1)), *layer.shape[2:])[: len(layer.shape)]
        for role in layer.weights:
            sizes = shape if role == "weight" else shape[:1]
            params[f"{prefix}layer{number}_{role}"] = np.broadcast_to(np.float32(0), sizes)
    return params


ALL = {name: network for networks in TABLES.values() for name, network in networks.items()}
APART = [f"resnet{depth}_v1" for depth in (50, 101, 152)]
"""Networks of GluonCV of which two differ in an average alone, which has no weights: v1c and v1d."""


def test_each_network_is_told_from_all_others() -> None:
    for name in ALL:
        found = recognised(_params(name), f"{name}-0a1b2c3d.params")
        assert found is not None and found.name == name


@pytest.mark.parametrize("name", APART)
def test_what_weights_cannot_tell_is_told_by_a_name_or_refused(name: str) -> None:
    params = _params(f"{name}d")
    with pytest.raises(RefusedError, match=f"several networks: {name}c, {name}d"):
        recognised(params, "best.params")
    for kind in "cd":
        found = recognised(_params(f"{name}{kind}", f"resnetv1{kind}0_"), "best.params")
        assert found is not None and found.name == f"{name}{kind}"
