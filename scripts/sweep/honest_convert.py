"""Conversions of every network to every framework, and networks that onnxruntime has quantised, carried on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import onnx

from sweep.case import Case, Feed, Network, Pair, feeds
from sweep.examine import RefusalError, TracebackError
from sweep.networks import networks

TARGETS = ("onnx", "pytorch", "tensorflow", "mxnet")


def carried(network: Network, source: Any, to: str, *, given: Any = True, **options: Any) -> Pair:
    """The conversion with its own verification; a refusal is told apart.

    Where only the verification fails, the pair is made of what arrived, and the verdict is the error. ``given`` are other example
    inputs than the network's, or False for none.
    """
    import netferry

    shown: dict[str, Any] = {"inputs": network.example, "dynamic": network.dynamic} if given is True else {}
    if isinstance(given, dict):
        shown = {"inputs": given, "dynamic": {}}
    try:
        done = netferry.convert(source, to, **shown, **options)
        target = done.model
    except Exception as error:
        return _unverified(network, source, to, shown | options, error)
    return Pair(source, target, network, verdict=lambda: done.report)


def _unverified(network: Network, source: Any, to: str, options: dict[str, Any], error: Exception) -> Pair:
    import netferry

    def raised() -> Any:
        raise error

    try:
        target = netferry.convert(source, to, **{**options, "verify": False}).model
    except netferry.NetferryError as refusal:
        raise RefusalError(f"{type(refusal).__name__}: {refusal}") from refusal
    except Exception as fault:
        raise TracebackError(f"{type(fault).__name__}: {str(fault)[:200]}") from fault
    return Pair(source, target, network, verdict=raised)


def case(kind: str, network: Network, name: str, build: Callable[[], Pair | None]) -> Case:
    return Case("honest", kind, f"{network.name}, {name}", build, network.field, network.whole)


def _networks(framework: str) -> Iterator[Case]:
    for network in networks(framework):
        source = network.make()
        for to in TARGETS:
            kind = "half precision" if network.field == "half" else f"to {to}"
            yield case(kind, network, f"to {to}", partial(carried, network, source, to))


# ---- quantised by onnxruntime ----------------------------------------------------------------------------


SIDES: dict[str, tuple[str, ...]] = {
    "PyTorch and ONNX": ("pytorch", "onnx"),
    "Keras and MXNet": ("tensorflow", "mxnet"),
}


@cache
def bases(side: str) -> tuple[tuple[Network, onnx.ModelProto], ...]:
    """The networks of float32 as ONNX: their own graphs, or what netferry wrote."""
    return tuple(_bases(side))


def _bases(side: str) -> Iterator[tuple[Network, onnx.ModelProto]]:
    import netferry

    for framework in SIDES[side]:
        for network in networks(framework):
            if network.precision != "float32":
                continue
            source = network.make()
            if framework == "onnx":
                yield network, source
                continue
            try:
                done = netferry.convert(
                    source, "onnx", inputs=network.example, dynamic=network.dynamic, verify=False
                )
            except netferry.NetferryError:
                continue
            yield network, done.model


class Reader:
    """Calibration data, as onnxruntime.quantization reads it."""

    def __init__(self, network: Network, names: list[str]) -> None:
        self._feeds = iter(
            [dict(zip(names, feed.values(), strict=True)) for _, feed in feeds(network, plain=True)]
        )

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _dynamic(_network: Network, plain: Path, place: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(plain, place, weight_type=QuantType.QUInt8)


def _static(form: str, signed: bool, per_channel: bool) -> Callable[[Network, Path, Path], None]:
    def quantise(network: Network, plain: Path, place: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        names = [value.name for value in onnx.load(plain).graph.input]
        quantize_static(
            plain, place, Reader(network, names), quant_format=QuantFormat[form], per_channel=per_channel,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip

    return quantise


QUANTISERS: dict[str, Callable[[Network, Path, Path], None]] = {
    "dynamic": _dynamic,
    "QDQ": _static("QDQ", False, True),
    "QDQ signed": _static("QDQ", True, False),
    "QOperator": _static("QOperator", False, False),
}


QUANTISED_TO = {
    "dynamic": ("pytorch", "tensorflow"),
    "QDQ": ("pytorch", "tensorflow"),
    "QDQ signed": ("onnx",),
    "QOperator": ("pytorch", "onnx"),
}


def _quantised(how: str, side: str) -> Iterator[Case]:
    for network, proto in bases(side):
        operators = {node.op_type for node in proto.graph.node}
        if not operators & {"Conv", "MatMul", "Gemm"} or network.field in ("integer", "detector"):
            continue
        made = replace(network, field="quantised", precision="quantised", framework="onnx")
        for to in QUANTISED_TO[how]:
            yield case(
                f"quantised {how.split()[0]}",
                made,
                f"{how}, to {to}",
                partial(_quantised_pair, made, proto, how, to),
            )


def _quantised_pair(network: Network, proto: onnx.ModelProto, how: str, to: str) -> Pair | None:
    with tempfile.TemporaryDirectory() as folder:
        plain, place = Path(folder, "plain.onnx"), Path(folder, "quantised.onnx")
        onnx.save(proto, plain)
        try:
            QUANTISERS[how](network, plain, place)
        except Exception:  # what onnxruntime does not quantise is no case
            return None
        source = onnx.load(place)
    if source == proto or not any(
        "Quant" in node.op_type or "Integer" in node.op_type for node in source.graph.node
    ):
        return None
    return carried(network, source, to)


TOGETHER = {
    f"conversions of {side}": tuple(partial(_networks, framework) for framework in frameworks)
    for side, frameworks in SIDES.items()
} | {f"quantised {side}": tuple(partial(_quantised, how, side) for how in QUANTISERS) for side in SIDES}
SLOW = [name for name in TOGETHER if "Keras" in name]
