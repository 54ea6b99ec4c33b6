"""Structures that people keep in MXNet, with random weights, to ONNX at sizes that stay free."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import assert_arrives, assert_equal, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry import converters
from netferry.converters import frameworks
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)


def images(batch: int, size: int) -> dict[str, Array]:
    return {"data": np.random.default_rng(batch).uniform(0, 255, (batch, 3, size, size)).astype(np.float32)}


def test_an_arcface_network_of_insightface_arrives(oracle: Oracle, tmp_path: Path) -> None:
    inputs = [images(1, 112), images(3, 112)]
    model = assert_arrives("structures.arcface(mx)", inputs, oracle, tmp_path)
    assert [value.name for value in model.graph.outputs] == ["embedding_output"]
    assert not {"Identity", "Transpose", "Cast"} & {node.op_type for node in model.graph}


MOVED = 12
"""Runs of MXNet with images that a rounding may have made of each other."""

REACH = 2e-5
"""Of a score; of a box, of the largest number among them."""


def assert_detects(case: str, inputs: list[dict[str, Array]], oracle: Oracle, folder: Path) -> None:
    """The boxes are those that MXNet finds in the image, or in one a rounding away: where two overlaps are nearly equal its own
    kernels decide, and those of each processor otherwise."""
    rng = np.random.default_rng(4)
    moved = [
        {name: (x * (1 + 4e-6 * rng.uniform(-1, 1, x.shape))).astype(x.dtype) for name, x in arrays.items()}
        for arrays in inputs
        for _ in range(MOVED)
    ]
    _, runs = oracle.symbol(case, [*inputs, *moved], str(folder / "net"))
    export = to_onnx(read(folder), examples(inputs[0]))
    for place, arrays in enumerate(inputs):
        taken = [runs[place], *runs[len(inputs) + MOVED * place : len(inputs) + MOVED * (place + 1)]]
        found = np.concatenate(list(onnx_outputs(export.model, list(arrays.values())).values()), -1)
        for image, mine in enumerate(found):
            theirs = [np.concatenate(one, -1)[image] for one in taken]
            assert any(are_the_same_boxes(mine, other) for other in theirs), (case, place, image)


def are_the_same_boxes(mine: Array, other: Array) -> bool:
    """Rows of class, score and box: the scores in order, and each box once, in any order among equal scores."""
    reach = REACH * np.abs(other).max()
    if mine.shape != other.shape or np.abs(mine[:, 1] - other[:, 1]).max() > REACH:
        return False
    apart = np.abs(mine[:, None] - other[None]).max(-1)
    pairs = np.argmin(apart, 1)
    kept = other[:, 0] >= 0  # the others are all alike
    return bool(np.all(apart.min(1) <= reach)) and set(np.flatnonzero(kept)) <= set(pairs)


def test_an_ssd_detector_arrives(oracle: Oracle, tmp_path: Path) -> None:
    assert_detects("structures.ssd(mx)", [images(1, 50), images(3, 50)], oracle, tmp_path)


def test_a_yolo_detector_of_gluoncv_arrives(oracle: Oracle, tmp_path: Path) -> None:
    assert_detects("structures.yolo(mx)", [images(1, 48), images(3, 48)], oracle, tmp_path)


def sentences(batch: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng([batch, length])
    return {
        "data": rng.integers(0, 50, (batch, length)).astype(np.float32),
        "other": rng.integers(0, 2, (batch, length)).astype(np.float32),
        "third": rng.integers(2, length + 1, batch).astype(np.float32),
    }


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_bert_of_gluonnlp_arrives_at_every_batch_and_length(
    interleaved: bool, oracle: Oracle, tmp_path: Path
) -> None:
    inputs = [sentences(2, 7), sentences(3, 11), sentences(1, 5)]
    free = {"data": {0: "batch", 1: "length"}, "other": {0: "batch", 1: "length"}, "third": {0: "batch"}}
    case = f"structures.bert(mx, interleaved={interleaved})"
    model = assert_arrives(case, inputs, oracle, tmp_path, free=free)
    assert [node.op_type for node in model.graph].count("Gelu") == 2


STRUCTURES = {
    "structures.arcface(mx)": images(2, 112),
    "structures.ssd(mx)": images(2, 50),
    "structures.yolo(mx)": images(2, 48),
    "structures.bert(mx)": sentences(2, 7),
    "structures.bert(mx, interleaved=False)": sentences(2, 7),
}


@pytest.mark.parametrize("case", STRUCTURES)
def test_a_structure_goes_on_to_pytorch(case: str, oracle: Oracle, tmp_path: Path) -> None:
    arrays = STRUCTURES[case]
    _, truth = oracle.symbol(case, [arrays], str(tmp_path / "net"))
    export = to_onnx(read(tmp_path), examples(arrays))
    imported = converters.import_model(export.model, "pytorch", name="structure")
    outputs = frameworks.named("pytorch").live.run(imported.model, list(arrays.values()))
    for mine, theirs in zip(outputs.values(), truth[0], strict=True):
        assert_equal(mine, theirs, 1e-5, case)
