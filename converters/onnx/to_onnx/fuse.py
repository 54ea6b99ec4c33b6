"""BatchNormalization folded into the convolution before it, for who asks: ``--fuse``.

Source: y = gamma (W x + b - mean) / sqrt(var + epsilon) + beta is a convolution with W' = s W and b' = s (b - mean) + beta,
where s = gamma / sqrt(var + epsilon). The model computes the same and can no longer be trained as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Array

EPSILON = 1e-5  # BatchNormalization's own default in ONNX


def fused(model: ir.Model) -> tuple[ir.Model, int]:
    """The model with every BatchNormalization that can be folded gone, and how many were; the given one stays as it is."""
    model = model.clone()
    graph, count = model.graph, 0
    for norm in list(graph):
        if norm.op_type != "BatchNormalization" or norm.domain:
            continue
        layer = norm.inputs[0].producer() if norm.inputs[0] is not None else None
        if layer is None or layer.op_type not in _SCALED or not _foldable(layer, norm):
            continue
        _fold(graph, layer, norm)
        count += 1
    return model, count


def _foldable(layer: ir.Node, norm: ir.Node) -> bool:
    """Its statistics are constants, nobody else reads what is between, and it is not training."""
    between = layer.outputs[0]
    alone = len(between.uses()) == 1 and not between.is_graph_output()
    inference = not norm.attributes.get_int("training_mode", 0) and not any(
        v.uses() for v in norm.outputs[1:]
    )
    constants = [*norm.inputs[1:5], *layer.inputs[1:3]]
    return alone and inference and all(value is None or value.const_value is not None for value in constants)


def _fold(graph: ir.Graph, layer: ir.Node, norm: ir.Node) -> None:
    gamma, beta, mean, variance = (_content(value).astype(np.float64) for value in norm.inputs[1:5])
    epsilon = norm.attributes.get_float("epsilon", EPSILON)
    scale = gamma / np.sqrt(variance + epsilon)
    weight = layer.inputs[1]
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    assert weight is not None
    kernel = _content(weight)
    shift = np.zeros_like(mean) if bias is None else _content(bias).astype(np.float64)
    _give(graph, layer, 1, weight, _SCALED[layer.op_type](layer, kernel, scale).astype(kernel.dtype))
    _give(graph, layer, 2, bias or norm.inputs[2], (scale * (shift - mean) + beta).astype(kernel.dtype))
    old, new = norm.outputs[0], layer.outputs[0]
    name, read = old.name, [*norm.inputs[1:5], weight, bias]
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
    new.name = name
    for value in read:
        if value is not None and value.name and value.name in graph.initializers and not value.uses():
            del graph.initializers[value.name]


def _content(value: ir.Value | None) -> Array:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


def _give(graph: ir.Graph, layer: ir.Node, index: int, old: ir.Value | None, content: Array) -> None:
    """A new weight in the layer's input, under the name of the one that it comes from."""
    assert old is not None and old.name is not None
    name = unique(f"{old.name}_fused", set(graph.initializers))
    value = ir.Value(
        name=name, shape=ir.Shape(content.shape), type=ir.TensorType(ir.DataType.from_numpy(content.dtype))
    )
    value.const_value = ir.tensor(content, name=name)
    graph.register_initializer(value)
    if len(layer.inputs) <= index:
        layer.resize_inputs(index + 1)
    layer.replace_input_with(index, value)


def _convolution(layer: ir.Node, kernel: Array, scale: Array) -> Array:
    """(out, in / group, *kernel)."""
    return np.asarray(kernel * scale.reshape(-1, *[1] * (kernel.ndim - 1)))


def _transposed(layer: ir.Node, kernel: Array, scale: Array) -> Array:
    """(in, out / group, *kernel): each group of inputs gives its own outputs."""
    group = layer.attributes.get_int("group", 1)
    whole = kernel.reshape(group, kernel.shape[0] // group, *kernel.shape[1:])
    each = scale.reshape(group, 1, -1, *[1] * (kernel.ndim - 2))
    return np.asarray((whole * each).reshape(kernel.shape))


_SCALED: Mapping[str, Callable[[ir.Node, Array, Array], Array]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
}
