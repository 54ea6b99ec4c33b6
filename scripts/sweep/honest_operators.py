"""Small graphs of one matter: activations, Resize at odd scales, heads of detectors, integers, and the cases of ONNX's suite."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T

from sweep.case import Case, Feed, Input, Network, Pair, chosen, some
from sweep.honest_convert import carried, case
from sweep.networks_onnx import X, drawn, model, node

TARGETS = ("pytorch", "tensorflow", "mxnet")
SUITE = 200
"""Cases of ONNX's suite: a seeded choice in which every operator may appear."""


def _each(
    kind: str, networks: Iterator[tuple[Network, onnx.ModelProto]], targets: tuple[str, ...]
) -> Iterator[Case]:
    for network, proto in networks:
        for to in targets:
            given = any(one.dtype.startswith("int") for one in network.inputs)  # else integers are 0 and 1
            yield case(kind, network, f"to {to}", partial(carried, network, proto, to, given=given))


def _network(name: str, field: str, inputs: tuple[Input, ...], precision: str = "float32") -> Network:
    return Network(f"onnx {name}", "onnx", field, lambda: None, inputs, precision, whole=False)


ACTIVATIONS: Mapping[str, Mapping[str, Any]] = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.3}, "Elu": {"alpha": 0.7}, "Selu": {}, "Celu": {"alpha": 1.5}, "HardSigmoid": {"alpha": 1 / 6},
    "HardSwish": {}, "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "Softsign": {}, "Mish": {}, "Gelu": {}, "ThresholdedRelu": {"alpha": 0.4},
    "Shrink": {"lambd": 0.3, "bias": 0.1}, "Erf": {}, "Abs": {}, "Ceil": {}, "Floor": {}, "Round": {}, "Sign": {}, "Exp": {}, "Sin": {},
    "Atan": {}, "Softmax": {}, "LogSoftmax": {}, "Reciprocal": {},
}  # fmt: skip


def _activations() -> Iterator[Case]:
    inputs = (Input("x", X),)

    def made() -> Iterator[tuple[Network, onnx.ModelProto]]:
        for op, attributes in ACTIVATIONS.items():
            nodes = [node("MatMul", "x w", "a"), node(op, "a", "b", **attributes), node("MatMul", "b v", "y")]
            weights = {"w": drawn(6, 6, scale=2), "v": drawn(6, 6, seed=1)}
            yield (
                _network(f"{op} between", "activation", inputs),
                model(nodes, inputs, {"y": (T.FLOAT, X)}, weights),
            )
            plain = model([node(op, "x", "y", **attributes)], inputs, {"y": (T.FLOAT, X)}, {})
            yield _network(f"{op} alone", "activation", inputs), plain

    yield from _each("activation", made(), ("pytorch", "tensorflow"))


def _resizes() -> Iterator[Case]:
    inputs = (Input("x", ("batch", 2, 5, 7)),)

    def made() -> Iterator[tuple[Network, onnx.ModelProto]]:
        for mode in ("nearest", "linear", "cubic"):
            for coordinates in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"):
                for up, across in ((1.3, 1.7), (2.2, 0.6), (0.75, 3.0)):
                    scales = {"s": np.float32([1, 1, up, across])}
                    nodes = [
                        node("Resize", "x - s", "y", mode=mode, coordinate_transformation_mode=coordinates)
                    ]
                    yield (
                        _network(f"Resize {mode} {coordinates} {up} {across}", "vision", inputs),
                        model(nodes, inputs, {"y": (T.FLOAT, ("batch", 2, "h", "w"))}, scales),
                    )

    yield from _each("Resize at odd scales", made(), ("pytorch", "tensorflow"))


def _detectors() -> Iterator[Case]:
    inputs = (Input("x", ("batch", 8)),)

    def made() -> Iterator[tuple[Network, onnx.ModelProto]]:
        for scale in (1, 4, 12):
            weights = {"w": drawn(8, 60, scale=scale), "k": np.int64([4])}
            for squash in ("Sigmoid", "Softmax", "Tanh", "Identity"):
                head = [node("MatMul", "x w", "a"), node(squash, "a", "s")]
                best = {"best": (T.FLOAT, ("batch", 4)), "which": (T.INT64, ("batch", 4))}
                yield (
                    _network(f"TopK of {squash} x {scale}", "detector", inputs),
                    model([*head, node("TopK", "s k", "best which")], inputs, best, weights),
                )
                first = model(
                    [*head, node("ArgMax", "s", "y", axis=1, keepdims=0)],
                    inputs,
                    {"y": (T.INT64, ("batch",))},
                    {"w": weights["w"]},
                )
                yield _network(f"ArgMax of {squash} x {scale}", "detector", inputs), first

    yield from _each("detector head", made(), ("pytorch", "tensorflow"))


def _integers() -> Iterator[Case]:
    inputs = (Input("x", X),)

    def made() -> Iterator[tuple[Network, onnx.ModelProto]]:
        for kind in ("INT8", "UINT8", "INT32", "INT64"):
            low, high = {"UINT8": (0, 255)}.get(kind, (-128, 127))
            code = getattr(T, kind)
            for step in ("Round", "Floor", "Identity"):
                nodes = [
                    node("Mul", "x f", "a"),
                    node(step, "a", "b"),
                    node("Clip", "b l h", "c"),
                    node("Cast", "c", "y", to=code),
                ]
                weights = {"f": np.float32(20), "l": np.float32(low), "h": np.float32(high)}
                yield (
                    _network(f"{step} as {kind}", "integer", inputs),
                    model(nodes, inputs, {"y": (code, X)}, weights),
                )
        for divisor in (3, -4):
            for op, more in (("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})):
                nodes = [node(op, "ids d", "y", **more)]
                plain = (Input("ids", X, "int64", 40),)
                yield (
                    _network(f"{op} {more} by {divisor}", "integer", plain),
                    model(nodes, plain, {"y": (T.INT64, X)}, {"d": np.int64(divisor)}),
                )
        for step, far in ((0.3, 7), (0.25, 5), (1 / 3, 9), (0.1, 20)):
            nodes = [
                node("Abs", "x", "a"), node("Add", "a one", "b"), node("Log", "b", "c"), node("Div", "c step", "d"),
                node("Cast", "d", "e", to=T.INT64), node("Min", "e far", "f"), node("Gather", "table f", "y"),
            ]  # fmt: skip
            weights = {
                "one": np.float32(1),
                "step": np.float32(step),
                "far": np.int64(far),
                "table": drawn(far + 1, 3),
            }
            yield (
                _network(f"buckets of {step:.2f}", "integer", inputs),
                model(nodes, inputs, {"f": (T.INT64, X), "y": (T.FLOAT, (*X, 3))}, weights),
            )

    yield from _each("integers and buckets", made(), ("pytorch", "tensorflow"))


# ---- the node cases of ONNX's own suite --------------------------------------------------------------------


def _suite(to: str) -> Iterator[Case]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tests = [one for one in load_model_tests(kind="node") if chosen(one.name, 0.5, 0)]
    plain = [one for one in tests if _is_plain(one)]
    for one in some(plain, SUITE // 2, to):
        for frozen in (False, True):
            proto, data = _frozen(one) if frozen else (one.model, one.data_sets[0][0])
            if proto is None:
                continue
            network = Network(one.name, "onnx", "operator", lambda: None, whole=False)
            name = f"frozen, to {to}" if frozen else f"to {to}"
            yield case("suite of ONNX", network, name, partial(_suite_pair, network, proto, list(data), to))


def _is_plain(test: Any) -> bool:
    """Tensors of standard types, ONNX's own domain, nothing random."""
    graph = test.model.graph
    words = ("random", "bernoulli", "multinomial", "dropout", "string", "expanded")
    if any(word in test.name for word in words) or {one.domain for one in test.model.opset_import} != {""}:
        return False
    if not all(value.type.HasField("tensor_type") for value in (*graph.input, *graph.output)):
        return False
    plain = {T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT64, T.INT32, T.INT8, T.UINT8, T.BOOL}
    if any(value.type.tensor_type.elem_type not in plain for value in (*graph.input, *graph.output)):
        return False
    return bool(test.data_sets) and all(array is not None for array in test.data_sets[0][0])


def _frozen(test: Any) -> tuple[onnx.ModelProto | None, list[Any]]:
    """Every input but the first as an initializer, as in trained models."""
    inputs = test.data_sets[0][0]
    if len(inputs) < 2:
        return None, []
    proto = onnx.ModelProto()
    proto.CopyFrom(test.model)
    proto.ir_version = max(proto.ir_version, 8)
    names = [value.name for value in proto.graph.input]
    del proto.graph.input[1:]
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(_array(value), name)
        for name, value in zip(names[1:], inputs[1:], strict=True)
    )
    return proto, inputs[:1]


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _suite_pair(network: Network, proto: onnx.ModelProto, data: list[Any], to: str) -> Pair:
    names = [value.name for value in proto.graph.input]
    first: Feed = dict(zip(names, map(_array, data), strict=True))
    rng = np.random.default_rng(0)
    others = [{name: _moved(rng, array) for name, array in first.items()} for _ in range(2)]
    pair = carried(network, proto, to, given=first)
    drawn_feeds = [("given", first), *((f"drawn {place}", feed) for place, feed in enumerate(others))]
    pair.feeds = lambda: iter(drawn_feeds)
    return pair


def _moved(rng: np.random.Generator, array: Any) -> Any:
    """Other floats of the same kind; integers stay, since they may be sizes."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * (1 + 0.1 * rng.standard_normal(array.shape))).astype(array.dtype)


TOGETHER = {
    "operators": (_activations, _resizes, _detectors, _integers), "suite of ONNX": tuple(partial(_suite, to) for to in TARGETS),
}  # fmt: skip
SLOW: list[str] = []
