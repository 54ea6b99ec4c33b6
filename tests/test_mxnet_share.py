"""Of graphs that MXNet writes and runs, how many arrive: measured over ``mxnet_graphs.GRAPHS``."""

from __future__ import annotations

import importlib.util
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import NAMES, assert_equal, drawn, onnx_outputs, read
from mxnet_graphs import GRAPHS, Graph
from mxnet_oracle import Oracle

from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

FIXED = ["F.squeeze(F.slice_axis("]
"""What arrives for one batch alone: which axes are 1 depends on it."""


def inputs_of(graph: Graph, grown: int) -> dict[str, Array]:
    size = graph.dims[0][graph.batch]

    def dims(each: tuple[int, ...]) -> tuple[int, ...]:
        grows = len(each) > graph.batch and each[graph.batch] == size
        return tuple(n + grown if grows and axis == graph.batch else n for axis, n in enumerate(each))

    seed = zlib.crc32(graph.text.encode())
    arrays = {
        name: drawn(dims(each), seed, *name.encode()) for name, each in zip(NAMES, graph.dims, strict=False)
    }
    return {name: np.floor(np.abs(array)) if graph.whole else array for name, array in arrays.items()}


def outcome(graph: Graph, oracle: Oracle, folder: Path) -> str:
    """free: equal at two batches with a batch that stays free; fixed: equal at one. Else an error."""
    inputs = [inputs_of(graph, grown) for grown in (0, 2)]
    truth = truth_of(graph, inputs, oracle, folder)
    free = {name: {graph.batch: "batch"} for name in inputs[0]}
    shown = [replace(example, asked=False) for example in examples(inputs[0], free)]
    export = to_onnx(read(folder), shown)
    whole = any("fixed sizes" in note for note in export.notes)
    for arrays, expected in zip(inputs[: 1 if whole else 2], truth, strict=False):
        outputs = onnx_outputs(export.model, list(arrays.values()))
        for mine, theirs in zip(outputs.values(), expected, strict=True):
            if np.any(theirs):
                assert_equal(mine, theirs, 3e-5, graph.text)
            else:
                np.testing.assert_array_equal(mine, theirs)
    return "fixed" if whole else "free"


def truth_of(graph: Graph, inputs: list[dict[str, Array]], oracle: Oracle, folder: Path) -> list[list[Array]]:
    prefix = str(folder / "net")
    if graph.form == "gluon":
        found: list[list[Array]] = oracle.gluon(
            graph.text, [list(arrays.values()) for arrays in inputs], prefix
        )
        return found
    result: list[list[Array]] = oracle.symbol(graph.text, inputs, prefix, numpy=graph.form == "numpy")[1]
    return result


def test_the_sample_is_large_and_holds_no_graph_twice() -> None:
    assert len(GRAPHS) >= 355
    assert len(set(GRAPHS)) == len(GRAPHS)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: f"{graph.kind}: {graph.text}")
def test_a_graph_arrives(graph: Graph, oracle: Oracle, tmp_path: Path) -> None:
    expected = "fixed" if any(part in graph.text for part in FIXED) else "free"
    assert outcome(graph, oracle, tmp_path) == expected
