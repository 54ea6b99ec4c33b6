"""Weights by chance for a symbol whose params are not there, of the sizes that its operators ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from netferry.converters.errors import CannotConvert, UsageError
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet import inputs, magnitudes
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.symbol import Node, input_name
from netferry.converters.mxnet.to_onnx import recurrent, to_onnx
from netferry.converters.signature import Array, Example

NOTE = "weights were drawn by chance (--random-weights): the result shows that the symbol converts, and nothing else"

Shape = tuple[int, ...]


def with_random_weights(model: object, given: Sequence[Example] | None, seed: int) -> SymbolModel:
    """The model with an array for each parameter that it lacks; the sizes follow from those of the inputs."""
    made: dict[str, Array] = {}
    if not isinstance(model, SymbolModel):
        raise UsageError("a live model has its weights", remedy="Leave out --random-weights")

    def make(
        name: str, node: Node, slot: int, operands: Sequence[Tensor | None], hidden: Mapping[str, str]
    ) -> Array:
        if name not in made:
            made[name] = _drawn(
                name, node, slot, _shape(name, node, slot, operands, hidden), come[node.name], seed
            )
        return made[name]

    if not inputs.absent(model):
        raise UsageError("the model has its weights", where=model.label, remedy="Leave out --random-weights")
    come = magnitudes.of_first_inputs(model, given)
    to_onnx(model, given, make)
    return replace(model, params={**model.params, **made}, absent="", notes=(*model.notes, NOTE))


def _drawn(name: str, node: Node, slot: int, shape: Shape, come: float, seed: int) -> Array:
    """Statistics near those of what comes to the node, whose magnitude is ``come``; weights that bring it to 1.

    The squares of the scales, drawn from 0.5 to 1.5, over variances from 0.6 to 1.8, are 1 on average.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    role = input_name(node, slot)
    if role == "moving_var" or name.endswith("var"):
        return (rng.uniform(0.6, 1.8, shape) * come**2).astype(np.float32)
    if role == "moving_mean":
        return rng.normal(0, 0.1 * come, shape).astype(np.float32)
    if role == "gamma" or name.endswith("gamma"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if node.op in _TABLES:
        return rng.normal(0, 1, shape).astype(np.float32)
    if len(shape) < 2:
        return rng.normal(0, 0.1, shape).astype(np.float32)
    terms = math.prod(shape[1:]) if node.op != "Deconvolution" else _met(node, shape)
    return rng.normal(0, 1 / (come * math.sqrt(max(terms, 1))), shape).astype(np.float32)


def _met(node: Node, shape: Shape) -> int:
    """How many products an element of a transposed convolution is the sum of, on average."""
    attrs = Attrs(node)
    strides = attrs.integers("stride", ()) or (1,) * (len(shape) - 2)
    return shape[0] * math.prod(shape[2:]) // (math.prod(strides) * attrs.integer("num_group", 1))


_TABLES = frozenset({"Embedding", "_contrib_SparseEmbedding"})


def _shape(
    name: str, node: Node, slot: int, operands: Sequence[Tensor | None], hidden: Mapping[str, str]
) -> Shape:
    declared = Attrs(Node(name, "null", hidden)).integers("__shape__", ())
    if declared and all(size > 0 for size in declared):
        return declared
    x = operands[0] if operands else None
    row = _SHAPES.get(node.op)
    if row is None or x is None:
        raise CannotConvert(
            f"the sizes of its weight '{name}' do not follow from its attributes",
            "Give the params file with --weights",
        )
    return row(Attrs(node), x, input_name(node, slot))


def _convolution(a: Attrs, x: Tensor, role: str) -> Shape:
    filters = a.integer("num_filter")
    return (
        (filters,)
        if role == "bias"
        else (filters, x.size(1) // a.integer("num_group", 1), *a.integers("kernel"))
    )


def _deconvolution(a: Attrs, x: Tensor, role: str) -> Shape:
    filters = a.integer("num_filter")
    return (
        (filters,)
        if role == "bias"
        else (x.size(1), filters // a.integer("num_group", 1), *a.integers("kernel"))
    )


def _dense(a: Attrs, x: Tensor, role: str) -> Shape:
    hidden = a.integer("num_hidden")
    if role == "bias":
        return (hidden,)
    axes = range(1, x.rank) if a.flag("flatten", True) else [x.rank - 1]
    return hidden, math.prod(x.size(axis) for axis in axes)


def _normalized(default: int) -> Callable[[Attrs, Tensor, str], Shape]:
    return lambda a, x, _role: (x.size(a.integer("axis", default)),)


def _recurrent(a: Attrs, x: Tensor, role: str) -> Shape:
    if role != "parameters":
        raise CannotConvert(f"its {role} is not given")
    cell = recurrent.CELLS[a.string("mode")]
    ways = 2 if a.flag("bidirectional", False) else 1
    sizes = (
        x.size(2),
        a.integer("state_size"),
        a.integer("num_layers"),
        ways,
        a.maybe_integer("projection_size"),
    )
    return (sum(part.size for part in recurrent.parts(cell, *sizes)),)


def _bilinear(a: Attrs, x: Tensor, role: str) -> Shape:
    scale = a.integer("scale")
    return x.size(1), 1, 2 * scale - scale % 2, 2 * scale - scale % 2


_SHAPES: Mapping[str, Callable[[Attrs, Tensor, str], Shape]] = {
    "Convolution": _convolution, "_contrib_DeformableConvolution": _convolution,
    "_contrib_ModulatedDeformableConvolution": _convolution, "Deconvolution": _deconvolution,
    "FullyConnected": _dense, "UpSampling": _bilinear, "RNN": _recurrent,
    **dict.fromkeys(("BatchNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU"), _normalized(1)),
    "LayerNorm": _normalized(-1), "InstanceNorm": lambda _a, x, _role: (x.size(1),),
    "GroupNorm": lambda a, _x, _role: (a.integer("num_groups", 1),),
    "LeakyReLU": lambda _a, x, _role: (x.size(1),),
    **dict.fromkeys(
        ("Embedding", "_contrib_SparseEmbedding"), lambda a, _x, _role: (a.integer("input_dim"), a.integer("output_dim"))
    ),
}  # fmt: skip
"""The sizes of an operator's weights, from its attributes, its first input and what the weight is to it."""
