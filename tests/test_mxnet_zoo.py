"""gluon's model zoo to ONNX: all 34 networks, with random weights and random BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mxnet_cases import assert_equal, drawn, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import examples

SMALL = ["resnet18_v1", "resnet18_v2", "mobilenet0.25", "squeezenet1.1"]
LARGE = [
    *(f"resnet{depth}_v{version}" for version in (1, 2) for depth in (34, 50, 101, 152)),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"mobilenet{width}" for width in ("0.5", "0.75", "1.0")),
    *(f"mobilenetv2_{width}" for width in ("0.25", "0.5", "0.75", "1.0")),
    "alexnet", "squeezenet1.0", "inceptionv3",
]  # fmt: skip

SIZES = {"inceptionv3": 299, "resnet18_v1": 64, "resnet18_v2": 64, "mobilenet0.25": 64}
"""Pixels of a side, where it is not 224."""


@pytest.fixture
def fresh() -> Iterator[Oracle]:
    """mxnet in a process that ends with the test: what a large network took is given back."""
    worker = Oracle()
    yield worker
    worker.close()


def assert_network_arrives(name: str, oracle: Oracle, folder: Path) -> None:
    """At two batches; the graph tells its input's sizes, and no needless node is in it."""
    size = SIZES.get(name, 224)
    images = [[drawn((batch, 3, size, size), 1)] for batch in (1, 2)]
    truth = oracle.zoo(name, images, str(folder / "net"))
    needs = name.startswith(("vgg", "alexnet", "inception"))  # dense: all pixels of one size
    export = to_onnx(read(folder), examples(images[0]) if needs else None)
    (value,) = export.model.graph.inputs
    assert value.shape is not None and value.shape[0].value == "batch" and value.shape[1] == 3
    assert not {node.op_type for node in export.model.graph} & {"Identity", "Transpose", "Cast"}
    for arrays, expected in zip(images, truth, strict=True):
        (mine,) = onnx_outputs(export.model, arrays).values()
        assert_equal(mine, expected[0], 1e-5, name)


def test_the_zoo_has_34_networks(oracle: Oracle) -> None:
    assert sorted([*SMALL, *LARGE]) == oracle.zoo_names()


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_of_the_model_zoo_arrives(name: str, oracle: Oracle, tmp_path: Path) -> None:
    assert_network_arrives(name, oracle, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_network_of_the_model_zoo_arrives(name: str, fresh: Oracle, tmp_path: Path) -> None:
    assert_network_arrives(name, fresh, tmp_path)
