"""Networks of every field in the forms in which MXNet's users keep them: right in ONNX, PyTorch and Keras, at two batches."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import assert_equal, onnx_outputs
from mxnet_networks import NETWORKS
from mxnet_networks.registry import Network
from mxnet_oracle import Oracle

from netferry.converters import frameworks, import_model
from netferry.converters.errors import NetferryError
from netferry.converters.exported import ExportedModel
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples
from netferry.converters.source import open_source

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

BATCHES = (2, 3)
EVERYDAY = (
    "lstm_by_hand", "text_convolution", "regions_of_interest", "memory_of_sentences", "generator",
    "cells_of_pictures", "decoder_that_is_fed_its_attention", "heads_of_every_kind",
)  # fmt: skip
"""Networks that are read in each test run; the others are slow together."""

CARRIED = [name for name, network in NETWORKS.items() if not network.refused]


def _exported(network: Network, folder: Path, inputs: dict[str, Array]) -> ExportedModel:
    free = {name: feed.free for name, feed in network.inputs.items()}
    return to_onnx(open_source(str(folder / "net-symbol.json")), examples(inputs, free))


def _run(target: str, exported: ExportedModel, inputs: dict[str, Array]) -> dict[str, Array]:
    arrays = [inputs[str(value.name)] for value in exported.model.graph.inputs]
    if target == "onnx":
        return onnx_outputs(exported.model, arrays)
    found: dict[str, Array] = frameworks.named(target).live.run(
        import_model(exported.model, target).model, arrays
    )
    return found


def _assert_arrives(name: str, targets: tuple[str, ...], oracle: Oracle, folder: Path) -> None:
    """At both batches each output that is kept is MXNet's own, to 1e-5 of its scale, under its name in ONNX."""
    network = NETWORKS[name]
    feeds = [network.feeds(batch) for batch in BATCHES]
    truth = oracle.network(name, str(folder / "net"), feeds)
    exported = _exported(network, folder, feeds[0])
    for target in targets:
        for inputs, expected in zip(feeds, truth, strict=True):
            outputs = _run(target, exported, inputs)
            assert target != "onnx" or tuple(outputs) == tuple(expected)
            for mine, (key, theirs) in zip(outputs.values(), expected.items(), strict=True):
                assert np.isfinite(theirs).all()
                assert_equal(mine, theirs, 1e-5, f"{name} {target} {key}")


@pytest.mark.parametrize("name", EVERYDAY)
def test_a_network_arrives_in_onnx(name: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_arrives(name, ("onnx",), oracle, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CARRIED)
def test_a_network_arrives_everywhere(name: str, oracle: Oracle, tmp_path: Path) -> None:
    _assert_arrives(name, ("onnx", "pytorch", "tensorflow"), oracle, tmp_path)


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.refused])
def test_a_network_is_refused_by_name(name: str, oracle: Oracle, tmp_path: Path) -> None:
    network = NETWORKS[name]
    inputs = network.feeds(2)
    oracle.network(name, str(tmp_path / "net"), [inputs])
    with pytest.raises(NetferryError, match=network.refused):
        _exported(network, tmp_path, inputs)


def test_the_sample_is_of_every_field_and_form() -> None:
    assert len(NETWORKS) >= 150
    assert {network.form for network in NETWORKS.values()} == {
        "checkpoint", "plain", "export", "numpy", "0.8", "0.9", "0.11", "1.2"
    }  # fmt: skip
