"""An MXNet model in float64, where its operators have such kernels; the model itself stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.mxnet import intermediate
from netferry.converters.mxnet.exact import without_float32
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.live import _is_block, symbol_model, traced
from netferry.converters.rounding import Rounding, as_float32, table
from netferry.converters.signature import Array

Change = Callable[[str, Array], Array]

NARROW = {"float32": "float64", "float16": "float64"}


def as_float64(model: Any, change: Change | None = None) -> SymbolModel:
    """The symbol with its parameters in float64; ``change`` may move each widened weight and constant.

    A dtype that a node names (Cast, zeros, arange ...) is widened as well; numbers among the attributes are those
    that float32 holds.
    """
    source = _symbol(model)
    params = {name: _widened(name, array, change) for name, array in source.params.items()}

    def constant(value: float) -> float:
        number = as_float32(value)
        return number if change is None else float(change("", np.asarray(number)))

    return replace(source, graph=_widened_graph(source, constant), params=params)


def weights(model: Any) -> dict[str, Array]:
    """Every parameter and state of floats by name, as it is."""
    return {name: array for name, array in _symbol(model).params.items() if array.dtype.kind == "f"}


def size(model: Any) -> int:
    """The number of weights."""
    return sum(array.size for array in weights(model).values())


def constants(model: Any) -> set[float]:
    """The numbers with a fraction that nodes have as attributes."""
    found = (_float(text) for node in _symbol(model).graph.nodes for text in node.attrs.values())
    return {value for value in found if value is not None}


def narrowest(model: Any) -> str:
    """The narrowest float dtype among the parameters."""
    kinds = {array.dtype.name for array in _symbol(model).params.values()}
    return next((kind for kind in ("float16", "float32", "float64") if kind in kinds), "float32")


def run_rounded(wide: SymbolModel, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    """Outputs of a float64 run whose every node rounds to ``u`` by chance."""
    return intermediate.rounded(wide, arrays, Rounding(u, seed, KINDS))


def _symbol(model: Any) -> SymbolModel:
    return traced(model) if _is_block(model) else symbol_model(model)


def _widened(name: str, array: Array, change: Change | None) -> Array:
    if array.dtype.kind != "f":
        return array
    wide = array.astype(np.float64)
    return wide if change is None else change(name, wide)


def _widened_graph(source: SymbolModel, constant: Callable[[float], float]) -> Any:
    """The graph with ``dtype`` of its nodes, and of its variables, in float64."""

    def wide(texts: Mapping[str, str]) -> dict[str, str]:
        fitting = {key: NARROW.get(text, text) if key in _DTYPE_KEYS else text for key, text in texts.items()}
        return {key: "1" if key == "__dtype__" and text == "0" else text for key, text in fitting.items()}

    def exact(texts: Mapping[str, str]) -> dict[str, str]:
        return {key: _computed(text, constant) for key, text in texts.items()}

    def computed(op: str, attrs: Mapping[str, str]) -> dict[str, str]:
        return {**_MADE.get(op, {}), **exact(wide(attrs))}

    def body(document: Any) -> Any:
        """A graph inside of a node, as its file holds it."""
        return {**document, "nodes": [inner(raw) for raw in document["nodes"]]}

    def inner(raw: Mapping[str, Any]) -> dict[str, Any]:
        attrs, bodies = computed(raw["op"], raw.get("attrs", {})), raw.get("subgraphs")
        return {**raw, "attrs": attrs} | ({"subgraphs": [body(each) for each in bodies]} if bodies else {})

    nodes = tuple(
        replace(
            n, attrs=computed(n.op, n.attrs), hidden=wide(n.hidden), subgraphs=tuple(map(body, n.subgraphs))
        )
        for n in source.graph.nodes
    )
    return without_float32(replace(source.graph, nodes=nodes))


_DTYPE_KEYS = ("dtype", "out_type")

_MADE: Mapping[str, Mapping[str, str]] = {
    op: {"dtype": "float64"} for op in "_zeros _ones _full _eye _arange _linspace one_hot".split()
}
"""Operators that make float32 where they do not say what."""


def _computed(text: str, constant: Callable[[float], float]) -> str:
    """A number with a fraction as the node computes with it; any other text as it is."""
    value = _float(text) if "." in text or "e" in text.lower() else None
    return text if value is None else repr(constant(value))


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


KINDS = table(
    EXACT="""BlockGrad Cast Concat Crop Dropout Embedding Flatten Pad Reshape SequenceLast SequenceMask SequenceReverse
        SliceChannel SwapAxis UpSampling _arange _copy _equal _equal_scalar _full _greater _greater_equal
        _greater_equal_scalar _greater_scalar _lesser _lesser_equal _lesser_equal_scalar _lesser_scalar _maximum
        _maximum_scalar _minimum _minimum_scalar _not_equal _not_equal_scalar _ones _zeros abs amp_cast argmax
        argmax_channel argmin argsort batch_take broadcast_axis broadcast_equal broadcast_greater broadcast_greater_equal
        broadcast_lesser broadcast_lesser_equal broadcast_like broadcast_maximum broadcast_minimum broadcast_not_equal
        broadcast_to ceil clip depth_to_space expand_dims fix flip floor gather_nd identity max min negative one_hot
        ones_like pick relu repeat reshape_like reverse rint round sign slice slice_axis slice_like sort space_to_depth
        split_v2 squeeze stack take tile topk transpose trunc where zeros_like""",
    INEXACT="""arccos arccosh arcsin arcsinh arctan arctanh cbrt cos cosh erf erfinv exp expm1 gamma gammaln log log10 log1p
        log2 log_softmax sin sinh tan tanh _power broadcast_power _power_scalar _rpower_scalar LeakyReLU""",
    BOUNDED="sigmoid softmax SoftmaxActivation SoftmaxOutput Activation LogisticRegressionOutput softmin",
    SUM="""BatchNorm BilinearSampler Convolution Deconvolution FullyConnected GroupNorm InstanceNorm L2Normalization LRN
        LayerNorm Pooling RNN _contrib_AdaptiveAvgPooling2D _contrib_BilinearResize2D _linalg_gemm _linalg_gemm2
        batch_dot cumsum dot mean moments norm prod sum""",
)
"""MXNet's operators by how they round; what is not named rounds where its result does not fit the format."""
