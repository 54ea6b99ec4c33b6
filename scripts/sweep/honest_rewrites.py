"""Rewritings that keep the function: by onnxruntime's optimiser, by folding, merging, reordering and algebra."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from sweep import onnx_edit as edit
from sweep.case import Case, Network, Pair
from sweep.examine import RefusalError
from sweep.honest_convert import SIDES, bases, carried, case
from sweep.networks import networks

LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}


# ---- onnxruntime's optimiser, saved offline ---------------------------------------------------------------


def optimised(proto: onnx.ModelProto, level: str) -> onnx.ModelProto:
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _optimised(side: str) -> Iterator[Case]:
    for network, proto in bases(side):
        made = replace(network, framework="onnx")
        for level in LEVELS:
            yield case(f"onnxruntime {level}", made, f"{level}", partial(_optimised_pair, made, proto, level))
            if level == "basic":
                for to in ("pytorch",):
                    yield case(
                        f"onnxruntime {level}",
                        made,
                        f"{level}, to {to}",
                        partial(_optimised_on, made, proto, level, to),
                    )


def _optimised_pair(network: Network, proto: onnx.ModelProto, level: str) -> Pair | None:
    return Pair(proto, optimised(proto, level), network)


def _optimised_on(network: Network, proto: onnx.ModelProto, level: str, to: str) -> Pair | None:
    return carried(network, optimised(proto, level), to)


# ---- other forms of the same graph -------------------------------------------------------------------------


def as_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Initializers as Constant nodes."""
    other = edit.copied(proto)
    nodes = [
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in other.graph.initializer
    ]
    rest = list(other.graph.node)
    del other.graph.initializer[:], other.graph.node[:]
    other.graph.node.extend([*nodes, *rest])
    return other


def another_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import version_converter

    version = proto.opset_import[0].version
    return version_converter.convert_version(proto, 22 if version < 22 else 24)


def through_identities(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A double negation behind every float between nodes."""
    other = edit.copied(proto)
    outputs = {value.name for value in other.graph.output}
    for name, _ in list(edit.floats(other)):
        if name not in outputs:
            edit.insert_after(
                other,
                name,
                [helper.make_node("Neg", ["IN"], ["t_n"]), helper.make_node("Neg", ["t_n"], ["OUT"])],
            )
    return other


def scaled_there_and_back(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every float times 4 and divided by 4: exact."""
    other = edit.copied(proto)
    outputs = {value.name for value in other.graph.output}
    for name, _ in list(edit.floats(other)):
        if name not in outputs:
            nodes = [
                helper.make_node("Mul", ["IN", "s_four"], ["t_m"]),
                helper.make_node("Div", ["t_m", "s_four"], ["OUT"]),
            ]
            edit.insert_after(other, name, nodes)
            edit.set_weight(other, "s_four", np.float32(4))
    return other


def expanded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Operators that ONNX defines by others, opened by ONNX's own inliner."""
    from onnx import inliner

    return inliner.inline_selected_functions(proto, [], exclude=True, inline_schema_functions=True)


GRAPHS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "constants as nodes": as_constants, "another opset": another_opset, "double negations": through_identities,
    "scaled there and back": scaled_there_and_back, "opened functions": expanded,
}  # fmt: skip


def _graphs(side: str) -> Iterator[Case]:
    for network, proto in bases(side):
        made = replace(network, framework="onnx")
        for kind, rewrite in GRAPHS.items():
            yield case(kind, made, kind, partial(_rewritten, made, proto, rewrite))


def _rewritten(
    network: Network, proto: onnx.ModelProto, rewrite: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> Pair | None:
    try:
        other = rewrite(proto)
        onnx.checker.check_model(other)
    except Exception:  # what onnx itself cannot rewrite is no case
        return None
    return None if other == proto else Pair(proto, other, network)


# ---- BatchNormalization folded ------------------------------------------------------------------------------


def _folded() -> Iterator[Case]:
    for framework in ("pytorch", "tensorflow", "mxnet", "onnx"):
        for network in networks(framework):
            if network.field in ("vision", "detector", "integer") and network.precision == "float32":
                yield case("BatchNorm folded", network, "by netferry", partial(_fused, network))
    from sweep.rewrites_torch import FOLDED

    for network, change in FOLDED:
        yield case("BatchNorm folded", network, "in PyTorch", partial(_changed, network, change))
        yield case("BatchNorm folded", network, "by netferry", partial(_fused, network))


def _fused(network: Network) -> Pair | None:
    source = network.make()
    plain = carried(network, source, "onnx", verify=False).target
    if not any(node.op_type == "BatchNormalization" for node in plain.graph.node):
        return None
    return carried(network, source, "onnx", fuse=True)


# ---- merged, reordered, written otherwise ---------------------------------------------------------------------


def _algebra() -> Iterator[Case]:
    from sweep.rewrites_torch import REWRITES

    for kind, table in REWRITES.items():
        for network, change in table:
            yield case(kind, network, "in PyTorch", partial(_changed, network, change))
            yield case(kind, network, "as onnx", partial(_changed_as_onnx, network, change))


def _changed(network: Network, change: Callable[[Any], Any]) -> Pair | None:
    source = network.make()
    return Pair(source, change(source), network)


def _changed_as_onnx(network: Network, change: Callable[[Any], Any]) -> Pair | None:
    import netferry

    source = network.make()
    try:
        done = netferry.convert(
            change(source), "onnx", inputs=network.example, dynamic=network.dynamic, verify=False
        )
    except netferry.NetferryError as error:
        raise RefusalError(str(error)) from error
    return Pair(source, done.model, network)


TOGETHER = {f"rewritings of {side}": (partial(_optimised, side), partial(_graphs, side)) for side in SIDES} | {
    "folded": (_folded,), "merged and reordered": (_algebra,),
}  # fmt: skip
SLOW = ["folded", "rewritings of Keras and MXNet"]
