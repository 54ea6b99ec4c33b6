"""Networks that MXNet quantised, or fused for oneDNN, against mxnet itself: its own integers, every tensor of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import assert_equal, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet import files
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

_CPU = Path("/proc/cpuinfo")
EXACT = _CPU.is_file() and "vnni" in _CPU.read_text()
"""Without these instructions oneDNN halves weights, or saturates pairs of products: MXNet's integers are others there."""

PIXELS = np.random.default_rng(11).normal(size=(4, 3, 8, 8)).astype(np.float32)


def _conv(x: str, name: str, more: str = "") -> str:
    return f"F.Convolution({x}, kernel=(3, 3), pad=(1, 1), num_filter=8, name='{name}'{more})"


def _relu(x: str) -> str:
    return f"F.Activation({x}, act_type='relu')"


def _norm(x: str, name: str) -> str:
    return f"F.BatchNorm({x}, fix_gamma=False, name='{name}')"


def _classified(x: str) -> str:
    return f"F.SoftmaxOutput(F.FullyConnected(F.Flatten({x}), num_hidden=5, name='fc'), name='softmax')"


def _pooled(x: str, kind: str) -> str:
    return f"F.Pooling({x}, kernel=(2, 2), stride=(2, 2), pool_type='{kind}')"


_FIRST = _relu(_norm(_conv("data", "c1"), "n1"))
NETWORKS = {
    "plain": _classified(_pooled(_relu(_conv("data", "c1")), "max")),
    "residual": f"(lambda x: {_classified(_pooled(_relu(_conv('x', 'c2') + ' + x'), 'avg'))})({_FIRST})",
    "without bias": _classified(
        f"F.Pooling({_conv(_conv('data', 'c1', ', no_bias=True'), 'c2', ', stride=(2, 2), no_bias=True')}, "
        "kernel=(1, 1), global_pool=True, pool_type='avg')"
    ),
    "depthwise": _classified(_conv(_relu(_conv(_relu(_conv("data", "c1")), "c2", ", num_group=8")), "c3")),
    "branches": _classified(_conv(f"F.Concat({_relu(_conv('data', 'c1'))}, {_conv('data', 'c2')}, dim=1)", "c3")),
    "dense": _classified(
        _relu("F.FullyConnected(" + _relu("F.FullyConnected(data, num_hidden=16, name='d1')") + ", num_hidden=12, name='d2')")
    ),
    "deep": _classified(_pooled(_relu(_norm(_conv(_relu(_norm(_conv(_FIRST, "c2"), "n2")), "c3"), "n3")), "max")),
    "activated before": (
        f"(lambda x: (lambda y: {_classified(_conv(_relu(_norm('y', 'n2')), 'c3') + ' + y')})"
        f"({_conv(_relu(_norm('x', 'n1')), 'c2')} + x))({_conv('data', 'c1')})"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["auto", "int8"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.skipif(not EXACT, reason="oneDNN computes other integers without VNNI")
def test_a_quantised_network_has_mxnets_own_integers(
    name: str, kind: str, oracle: Oracle, tmp_path: Path
) -> None:
    truth = oracle.quantized(NETWORKS[name], PIXELS, str(tmp_path / "net"), kind)
    export = to_onnx(read(tmp_path), examples({"data": PIXELS}))
    outputs = onnx_outputs(export.model, [PIXELS * np.float32(1.3)])
    assert list(outputs) == list(truth)
    whole = [title for title, array in truth.items() if array.dtype.kind in "iu"]
    assert len(whole) >= 3
    for title in truth:
        assert outputs[title].dtype == truth[title].dtype, title
        if title in whole:
            np.testing.assert_array_equal(outputs[title], truth[title], title)
        elif truth[title].size == 1:
            np.testing.assert_allclose(outputs[title], truth[title], rtol=1e-6, err_msg=title)
        else:
            assert_equal(outputs[title], truth[title], 1e-5, title)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "activated before"])
def test_a_network_fused_for_onednn_is_what_is_inside_of_its_nodes(
    name: str, oracle: Oracle, tmp_path: Path
) -> None:
    names, (truth,) = oracle.fused(NETWORKS[name], {"data": PIXELS}, str(tmp_path / "net"))
    export = to_onnx(read(tmp_path), examples({"data": PIXELS}))
    (mine,) = onnx_outputs(export.model, [PIXELS]).values()
    assert names == ["softmax_output"]
    assert_equal(mine, truth[0], 1e-5, name)


def test_integers_that_were_not_calibrated_are_refused_by_name() -> None:
    inside = {"nodes": [
        {"op": "null", "name": "d", "inputs": []}, {"op": "null", "name": "w", "inputs": []},
        {"op": "Convolution", "name": "c", "attrs": {"kernel": "(1, 1)", "num_filter": "2", "no_bias": "True"},
         "inputs": [[0, 0, 0], [1, 0, 0]]},
    ], "heads": [[2, 0, 0]]}  # fmt: skip
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "weight", "inputs": []},
        {"op": "_contrib_quantize_v2", "name": "q", "attrs": {"out_type": "int8"}, "inputs": [[0, 0, 0]]},
        {"op": "_sg_mkldnn_conv", "name": "conv", "attrs": {"quantized": "true"}, "subgraphs": [inside],
         "inputs": [[2, 0, 0], [1, 0, 0], [2, 1, 0], [2, 2, 0]]},
    ]  # fmt: skip
    graph = files.symbol_of({"nodes": nodes, "heads": [[3, 0, 0]]}, "net")
    model = files.model_of(graph, {"weight": np.ones((2, 3, 1, 1), np.float32)})
    with pytest.raises(UnsupportedError, match="without a calibrated range"):
        to_onnx(model, examples({"data": PIXELS}))
