"""What an MXNet model takes and gives. It stands above the exporter, which knows the sizes of the outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters import frameworks
from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet import inputs, live
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.live import import_mxnet, loaded, output_names, symbol_model
from netferry.converters.mxnet.to_onnx import input_specs, to_onnx
from netferry.converters.signature import Example, InputNames, Signature, TensorSpec


def signature(model: object, given: Sequence[Example] | None = None) -> Signature:
    """Names, dtypes and sizes, as the model's ONNX graph has them."""
    try:
        exported = to_onnx(model, given).model
    except UnsupportedError:
        return _own_signature(symbol_model(model, given), given)
    return frameworks.named("onnx").signature(exported)


def input_names(model: object) -> InputNames | None:
    """What the symbol's variables that are inputs are called."""
    if not isinstance(model, SymbolModel):
        return live.input_names(model)
    places = inputs.variables(model, whole=False).inputs
    return InputNames(tuple(model.graph.nodes[place].name for place in places))


def _own_signature(source: SymbolModel, given: Sequence[Example] | None) -> Signature:
    """Of a model that ONNX cannot hold: as mxnet itself infers it."""
    mx, source = import_mxnet(), inputs.with_zero_states(source, None if given is None else len(given))
    specs, _ = input_specs.specs(source, inputs.variables(source).inputs, given)
    symbol = loaded(mx, source)
    shapes = {s.name: tuple(d if isinstance(d, int) else 0 for d in s.dims) for s in specs if s.dims}
    weights = {name: array.shape for name, array in source.params.items()}
    _, sizes, _ = symbol.infer_shape_partial(**shapes, **weights)
    kinds = {s.name: s.dtype for s in specs} | {name: a.dtype for name, a in source.params.items()}
    _, dtypes, _ = symbol.infer_type_partial(**kinds)
    made = (
        TensorSpec(name, np.dtype(dtype or np.float32), tuple(d or None for d in dims) if dims else None)
        for name, dims, dtype in zip(output_names(mx, source), sizes, dtypes, strict=True)
    )
    return Signature(specs, tuple(made))
