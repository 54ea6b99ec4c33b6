"""What the tests of the Keras road share: random weights, and a model run beside its ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from netferry.converters.errors import MissingError
from netferry.converters.exported import ExportedModel
from netferry.converters.signature import Example
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.to_onnx import to_onnx

FREE = (5, 8)
"""Sizes tried for every free axis."""


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with every weight drawn anew, variances positive, so that nothing is at its default."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed_generator" in variable.path or not variable.shape:
            continue
        fan = max(int(np.prod(variable.shape[:-1])), 1)
        values = rng.normal(0, 1 / np.sqrt(fan) if len(variable.shape) > 1 else 0.5, variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def sequential(*layers: Any, shape: Sequence[int | None], dtype: str = "float32", name: str = "x") -> Any:
    return randomised(keras.Sequential([keras.Input(shape, name=name, dtype=dtype), *layers]))


@dataclass(frozen=True)
class Carried:
    """A model as ONNX, ready to be run."""

    export: ExportedModel
    proto: onnx.ModelProto
    session: onnxruntime.InferenceSession

    @property
    def operators(self) -> Counter[str]:
        return Counter(node.op_type for node in self.proto.graph.node)

    @property
    def initializers(self) -> dict[str, Any]:
        return {t.name: onnx.numpy_helper.to_array(t) for t in self.proto.graph.initializer}

    def run(self, arrays: Sequence[Any]) -> dict[str, Any]:
        feeds = {value.name: array for value, array in zip(self.session.get_inputs(), arrays, strict=True)}
        names = [value.name for value in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, feeds), strict=True))


def carried(model: Any, given: Sequence[Example] | None = None) -> Carried:
    export = to_onnx(model, given)
    proto = ir.to_proto(export.model)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return Carried(export, proto, session)


def drawn(shapes: Sequence[tuple[int, ...]], dtypes: Sequence[Any], top: int = 7, seed: int = 3) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(0, top, shape) if np.dtype(dtype).kind in "iu" else rng.normal(0, 2, shape)).astype(
            dtype
        )
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


def worst_error(model: Any, onnx_model: Carried, sizes: Sequence[tuple[int, int]], top: int = 7) -> float:
    """The largest difference from Keras' own outputs, relative to the output's scale.

    ``sizes`` are pairs of a batch and the size of every other free axis.
    """
    worst = 0.0
    for batch, free in sizes:
        shapes = [
            (batch, *(free if size is None else size for size in tensor.shape[1:])) for tensor in model.inputs
        ]
        arrays = drawn(shapes, [tensor.dtype for tensor in model.inputs], top)
        packed = keras.tree.pack_sequence_as(_structure(model), arrays)
        expected = [np.asarray(y) for y in keras.tree.flatten(model(packed, training=False))]
        received = list(onnx_model.run(arrays).values())
        assert [y.shape for y in received] == [y.shape for y in expected]
        assert [y.dtype for y in received] == [y.dtype for y in expected]
        worst = max(worst, *(distance(y, z) for y, z in zip(expected, received, strict=True)))
    return worst


def plainly(model: Any) -> Any:
    """The model in layers that TensorFlow's own kernels for the CPU run, where some of its own need oneDNN's.

    A dilated transposed convolution gets zeros between its weights, a convolution over channels-first tensors a
    transposition before it and one behind it.
    """
    copy = keras.models.clone_model(model, clone_function=_plain_layer)
    for layer, plain in zip(model.layers, copy.layers, strict=True):
        if layer.weights:
            weights = layer.get_weights()
            spread = np.zeros(plain.weights[0].shape, weights[0].dtype)
            spread[tuple(slice(None, None, step) for step in _dilations(layer))] = weights[0]
            plain.set_weights([spread, *weights[1:]])
    return copy


def _dilations(layer: Any) -> tuple[int, ...]:
    """By how much the weights of a transposed convolution lie apart; nothing for any other layer."""
    return tuple(layer.dilation_rate) if type(layer).__name__.endswith("DTranspose") else ()


def _plain_layer(layer: Any) -> Any:
    config = layer.get_config()
    if _dilations(layer):
        pairs = zip(layer.kernel_size, layer.dilation_rate, strict=True)
        config |= {"kernel_size": tuple((k - 1) * d + 1 for k, d in pairs), "dilation_rate": 1}
    first = config.get("data_format") == "channels_first"
    plain = type(layer).from_config(config | ({"data_format": "channels_last"} if first else {}))
    if not first:
        return plain
    space = len(config["kernel_size"])
    return keras.Sequential(
        [_moved(layer.input.ndim, -space - 1, -1), plain, _moved(layer.output.ndim, -1, -space - 1)]
    )


def _moved(rank: int, start: int, stop: int) -> Any:
    """The axis ``start`` brought to ``stop``; both count from the end."""
    axes = list(range(rank))
    axes.insert(stop % rank, axes.pop(start))
    return keras.layers.Permute(axes[1:])


def runs_here(model: Any, arrays: Sequence[Any]) -> bool:
    """Whether this processor's TensorFlow has a kernel for each of the model's layers."""
    try:
        live.run(model, arrays)
    except MissingError:
        return False
    return True


def _structure(model: Any) -> Any:
    return (model._functional if isinstance(model, keras.Sequential) else model)._inputs_struct


def distance(expected: Any, received: Any) -> float:
    """max|a - b| / max|a|; an output that is all zero or not finite compares nothing and fails."""
    scale = np.abs(expected.astype(np.float64)).max()
    assert np.isfinite(scale) and scale > 0
    return float(np.abs(expected.astype(np.float64) - received.astype(np.float64)).max() / scale)
