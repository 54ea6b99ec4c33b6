"""Weights of gluon's model zoo and of GluonCV without a symbol or code: the network is known by their names and sizes."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gluoncv_weights import drawn_images, drawn_weight
from mxnet_cases import assert_equal, drawn, onnx_outputs
from mxnet_oracle import Oracle
from test_mxnet_zoo import LARGE, SIZES, SMALL

from netferry.converters.errors import RefusedError
from netferry.converters.mxnet import files
from netferry.converters.mxnet.architectures import TABLES, recognised
from netferry.converters.mxnet.architectures.builder import inner
from netferry.converters.mxnet.architectures.gluon import NETWORKS
from netferry.converters.mxnet.architectures.layers import Layer, Part
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


def _layers(part: Part) -> Iterator[Layer]:
    """The layers with weights in the order of the file."""
    if isinstance(part, Layer):
        if part.weights:
            yield part
    else:
        for each in inner(part):
            yield from _layers(each)


ANY = 24
"""For sizes that a network does not say: 3 classes where each place has 6 boxes (SSD), and where it has 3 (YOLO)."""


def _params(name: str, prefix: str = "") -> dict[str, Array]:
    """Weights of a network's sizes, that take no memory."""
    params = {}
    for number, layer in enumerate(_layers(ALL[name]())):
        shape = tuple(size or ANY for size in layer.shape)
        for role in layer.weights:
            sizes = shape if role == layer.weights[0] else shape[:1]
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


# ---- GluonCV's own results ---------------------------------------------------------------------------

SEEN = json.loads(gzip.decompress((Path(__file__).parent / "gluoncv_networks.json.gz").read_bytes()))
"""Of networks of GluonCV 0.10.5: the names and sizes of what ``save_parameters`` writes (``collected``: the names of
``collect_params().save``), and what they gave, run by MXNet 1.9.1, of the weights and images of ``gluoncv_weights``.

Of a detector the first eight rows, of others some fifty numbers for each image.
"""
QUICK = ("ssd_300_mobilenet0.25_custom", "yolo3_mobilenet0.25_custom", "resnest14")


def _assert_gives_what_gluoncv_gave(name: str, folder: Path) -> None:
    seen = SEEN[name]
    arrays = {weight: drawn_weight(weight, shape) for weight, shape in seen["weights"].items()}
    files.write_params(folder / "net.params", arrays)
    model = open_source(folder / "net.params")
    assert isinstance(model, files.SymbolModel)
    images = drawn_images(seen["size"])
    export = to_onnx(model, examples({"data": images[:1]}, {"data": {0: "batch"}}))
    outputs = onnx_outputs(export.model, [images]).values()
    detector = name.startswith(("ssd", "yolo"))
    for mine, theirs in zip(outputs, seen["outputs"], strict=True):
        assert list(mine.shape) == theirs["shape"]
        step = max(1, mine[0].size // 48)
        taken = mine[:, :8] if detector else mine.reshape(2, -1)[:, ::step]
        np.testing.assert_allclose(taken.ravel(), theirs["values"], rtol=0, atol=1e-5 * theirs["scale"])
    if "collected" in seen:
        renamed = dict(zip(seen["collected"], arrays.values(), strict=True))
        files.write_params(folder / "collected.params", renamed)
        again = open_source(folder / "collected.params")
        assert isinstance(again, files.SymbolModel) and again.notes == model.notes


@pytest.mark.parametrize("name", QUICK)
def test_bare_weights_of_gluoncv_give_what_gluoncv_gave(name: str, tmp_path: Path) -> None:
    _assert_gives_what_gluoncv_gave(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SEEN) - set(QUICK)))
def test_bare_weights_of_large_networks_of_gluoncv_give_what_gluoncv_gave(name: str, tmp_path: Path) -> None:
    _assert_gives_what_gluoncv_gave(name, tmp_path)


def test_what_the_weights_of_a_detector_do_not_tell_is_said(tmp_path: Path) -> None:
    weights = {name: drawn_weight(name, shape) for name, shape in SEEN[QUICK[1]]["weights"].items()}
    files.write_params(tmp_path / "net.params", weights)
    model = open_source(tmp_path / "net.params")
    assert isinstance(model, files.SymbolModel)
    assert "an overlap of 0.45" in model.notes[1]


@pytest.mark.parametrize("change", ["classes", "anchors"])
def test_a_detector_whose_scales_do_not_agree_is_none(change: str, tmp_path: Path) -> None:
    weights = {name: drawn_weight(name, shape) for name, shape in SEEN[QUICK[0]]["weights"].items()}
    name = {"classes": "class_predictors.1.predictor", "anchors": "box_predictors.1.predictor"}[change]
    for role in ("weight", "bias"):
        weights[f"{name}.{role}"] = weights[f"{name}.{role}"][:-1]
    files.write_params(tmp_path / "net.params", weights)
    with pytest.raises(RefusedError, match="parameters without their symbol"):
        open_source(tmp_path / "net.params")
