"""An MXNet model in float64, where its operators have such kernels; the model itself stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.live import _is_block, traced
from netferry.converters.mxnet.to_onnx import symbol_model
from netferry.converters.signature import Array

Change = Callable[[str, Array], Array]

NARROW = {"float32": "float64", "float16": "float64"}


def as_float64(model: Any, change: Change | None = None) -> SymbolModel:
    """The symbol with its parameters in float64; ``change`` may move each widened weight.

    A dtype that a node names (Cast, zeros, arange ...) is widened as well.
    """
    source = _symbol(model)
    params = {name: _widened(name, array, change) for name, array in source.params.items()}
    return replace(source, graph=_widened_graph(source), params=params)


def weights(model: Any) -> dict[str, Array]:
    """Every parameter and state of floats by name, as it is."""
    return {name: array for name, array in _symbol(model).params.items() if array.dtype.kind == "f"}


def size(model: Any) -> int:
    """The number of weights."""
    return sum(array.size for array in weights(model).values())


def constants(model: Any) -> set[float]:
    """The numbers with a fraction that nodes have as attributes."""
    words = (word for node in _symbol(model).graph.nodes for word in node.attrs.values())
    found = (_float(word) for word in words)
    return {value for value in found if value is not None}


def _symbol(model: Any) -> SymbolModel:
    return traced(model) if _is_block(model) else symbol_model(model)


def _widened(name: str, array: Array, change: Change | None) -> Array:
    if array.dtype.kind != "f":
        return array
    wide = array.astype(np.float64)
    return wide if change is None else change(name, wide)


def _widened_graph(source: SymbolModel) -> Any:
    """The graph with ``dtype`` of its nodes, and of its variables, in float64."""

    def wide(words: Mapping[str, str]) -> dict[str, str]:
        fitting = {key: NARROW.get(word, word) if key in _DTYPE_KEYS else word for key, word in words.items()}
        return {key: "1" if key == "__dtype__" and word == "0" else word for key, word in fitting.items()}

    nodes = tuple(replace(n, attrs=wide(n.attrs), hidden=wide(n.hidden)) for n in source.graph.nodes)
    return replace(source.graph, nodes=nodes)


_DTYPE_KEYS = ("dtype", "out_type")


def _float(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
