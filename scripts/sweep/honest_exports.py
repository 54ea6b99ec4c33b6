"""What the official exporters write: against the source, and carried on by netferry."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import onnx

from sweep.case import Case, Network, Pair
from sweep.honest_convert import carried, case
from sweep.networks import networks

OPSETS = (13, 17)


def _torch() -> Iterator[Case]:
    for network in networks("pytorch"):
        if network.precision != "float32":  # the exporter itself dies at some of them
            continue
        source = network.make()
        for opset in OPSETS:
            yield case(
                "torch.onnx export",
                network,
                f"opset {opset}",
                partial(_exported_pair, network, source, opset),
            )
            for to in ("pytorch", "tensorflow"):
                yield case(
                    "torch.onnx export, on",
                    network,
                    f"opset {opset}, to {to}",
                    partial(_exported_on, network, source, opset, to),
                )


def exported(network: Network, source: Any, opset: int) -> onnx.ModelProto | None:
    """By torch's exporter for TorchScript; None where it cannot."""
    import torch

    from sweep.plain import _tensor, flat

    tensors = tuple(_tensor(torch, array) for array in network.example.values())
    place = io.BytesIO()
    try:
        with torch.no_grad():
            outputs = len(flat(source(*tensors)))
        torch.onnx.export(
            source, tensors, place, dynamo=False, opset_version=opset, input_names=list(network.example),
            output_names=["output"] if outputs == 1 else [f"output_{i}" for i in range(outputs)], dynamic_axes=network.dynamic,
        )  # fmt: skip
    except Exception:  # what the exporter does not write is no case
        return None
    return onnx.load_from_string(place.getvalue())


def renamed(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Outputs under the names that netferry knows the source's by."""
    for value, name in zip(proto.graph.output, names, strict=True):
        for node in proto.graph.node:
            for side in (node.input, node.output):
                for place, old in enumerate(side):
                    if old == value.name:
                        side[place] = name
        value.name = name
    return proto


def output_names(network: Network, source: Any) -> list[str]:
    import netferry

    done = netferry.convert(source, "onnx", inputs=network.example, dynamic=network.dynamic, verify=False)
    return [value.name for value in done.model.graph.output]


def _exported_pair(network: Network, source: Any, opset: int) -> Pair | None:
    proto = exported(network, source, opset)
    return None if proto is None else Pair(source, renamed(proto, output_names(network, source)), network)


def _exported_on(network: Network, source: Any, opset: int, to: str) -> Pair | None:
    proto = exported(network, source, opset)
    return None if proto is None else carried(replace(network, framework="onnx"), proto, to)


def _tf2onnx() -> Iterator[Case]:
    for network in networks("tensorflow"):
        source = network.make()
        for opset in (13, 15, 18):
            yield case("tf2onnx export", network, f"opset {opset}", partial(_tf_pair, network, source, opset))
            for to in ("pytorch", "tensorflow"):
                yield case(
                    "tf2onnx export, on",
                    network,
                    f"opset {opset}, to {to}",
                    partial(_tf_on, network, source, opset, to),
                )


def from_keras(network: Network, source: Any, opset: int) -> onnx.ModelProto | None:
    """By tf2onnx over a function; None where it cannot, or where onnxruntime refuses what it wrote."""
    import tensorflow as tf
    import tf2onnx

    from sweep.plain import runner

    specs = [
        tf.TensorSpec([d if isinstance(d, int) else None for d in one.dims], one.dtype, name=one.name) for one in network.inputs
    ]  # fmt: skip
    try:
        call = tf.function(
            lambda *tensors: source(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        )
        proto, _ = tf2onnx.convert.from_function(call, input_signature=specs, opset=opset)
        runner(proto)(network.example)
    except Exception:  # what the exporter does not write is no case
        return None
    return proto


def _tf_pair(network: Network, source: Any, opset: int) -> Pair | None:
    proto = from_keras(network, source, opset)
    return None if proto is None else Pair(source, renamed(proto, output_names(network, source)), network)


def _tf_on(network: Network, source: Any, opset: int, to: str) -> Pair | None:
    proto = from_keras(network, source, opset)
    return None if proto is None else carried(replace(network, framework="onnx"), proto, to)


TOGETHER = {"exports of PyTorch": (_torch,), "exports of tf2onnx": (_tf2onnx,)}
SLOW = ["exports of tf2onnx"]
