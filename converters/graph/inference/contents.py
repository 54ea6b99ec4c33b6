"""The content of values that can be known before the model runs: constants, and integers made of sizes.

Both go through the operator table itself, over numpy (``fold.py``). Integers of which some are a free size are
arrays of dtype object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import RefusedError
from netferry.converters.graph.inference.dims import Dims
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.ir.sizes import TooLong, known as all_known, product
from netferry.converters.graph.numpy.fold import fold
from netferry.converters.signature import Array

FOLD_LIMIT = 1_000_000
"""A constant of more elements is not made of smaller ones: Expand and Tile stay in the graph. How much all of them make
together, ``budget.py`` counts."""

_LONGEST_TEXT = 1 << 26
"""Characters of an array of texts, in which each takes as many as the longest."""

MOVES = frozenset(
    """
    Cast Concat Expand Flatten Gather Identity Reshape Slice Split Squeeze Transpose Unsqueeze DepthToSpace
    SpaceToDepth DequantizeLinear
    """.split()
)
"""Operators that hand on a weight as the weight it was; what they make of a weight keeps its name."""

UNFOLDED = frozenset(
    "Bernoulli Dropout Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike RegexFullMatch".split()
)
"""Operators that draw numbers, or whose work does not follow from what they are given: they run when the model does."""


# ---- dtypes and arrays ----------------------------------------------------------------------------------


def numpy_dtype(dtype: ir.DataType) -> np.dtype[Any]:
    """numpy's dtype of ONNX's; that of strings is ``str``."""
    return np.dtype(str) if dtype == ir.DataType.STRING else np.dtype(dtype.numpy())


def onnx_dtype(dtype: np.dtype[Any]) -> ir.DataType:
    return ir.DataType.STRING if dtype.kind in "UO" else ir.DataType.from_numpy(dtype)


def array_of(tensor: Any) -> Array:
    """A tensor as an array that shares its memory, where it can be shared."""
    if tensor.dtype == ir.DataType.STRING:
        items = [
            text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
            for text in (tensor.string_data() if isinstance(tensor, ir.StringTensor) else tensor.numpy().flat)
        ]
        if len(items) * max(map(len, items), default=0) > _LONGEST_TEXT:
            raise RefusedError(
                f"the texts of '{tensor.name}' differ too much in length",
                expected=f"at most {_LONGEST_TEXT:,} characters if all were as long as the longest",
                received=f"{len(items):,} texts of up to {max(map(len, items)):,}",
            )
        return np.asarray(items, str).reshape(tensor.shape.numpy())
    array = np.asarray(tensor.numpy())
    # A dtype that spells out the machine's own byte order is equal to, and not recognised as, the built-in one.
    return (
        array.view(np.dtype(array.dtype.name))
        if array.dtype.isbuiltin == 0 and array.dtype.kind in "iufbc"
        else array
    )


def of_weight(value: ir.Value) -> Fact:
    """An initializer: one of floats that has an axis is a weight that can be trained."""
    array = array_of(value.const_value)
    trainable = is_float(array.dtype) and array.ndim > 0
    return Fact(
        array.dtype, array.shape, array, None if trainable else _uniform(array), str(value.name), trainable
    )


def of_array(array: Any, *, name: str = "", trainable: bool = False) -> Fact:
    array = np.asarray(array)
    return Fact(array.dtype, array.shape, array, _uniform(array), name, trainable)


def of_sizes(items: Any, dtype: Any = np.int64) -> Fact:
    """Integers, some of which may be sizes."""
    array = np.asarray(items, object)
    kind = np.dtype(dtype)
    return Fact(kind, array.shape, array.astype(kind) if all_known(array.reshape(-1)) else array)


def _uniform(array: Array) -> Any:
    """The one number that a small array is full of."""
    if not 0 < array.size <= 4096 or array.dtype.kind not in "iufb":
        return None
    first = array.reshape(-1)[0]
    return first.item() if (array == first).all() else None


# ---- what is known of a node's outputs ----------------------------------------------------------------------


def known(
    node: ir.Node,
    operands: Sequence[Fact | None],
    attributes: Mapping[str, Any],
    dims: Sequence[Dims],
    dtype: np.dtype[Any] | None,
) -> list[Fact] | None:
    """The outputs of a node as constants or integers made of sizes; None where they are neither."""
    if node.domain or node.op_type in UNFOLDED:
        return None
    if node.op_type == "Constant":
        return [_constant(node)]
    if node.op_type in ("Shape", "Size"):
        return _sizes_of(node, operands[0], attributes)
    facts = [fact for fact in operands if fact is not None]
    if not facts or any(fact.content is None for fact in facts) or not _may_fold(node, facts, dims):
        return None
    return _folded(node, operands, attributes, dtype)


def _constant(node: ir.Node) -> Fact:
    (attribute,) = node.attributes.values()
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        array = array_of(value)
        return of_array(
            array, name=str(node.outputs[0].name) if is_float(array.dtype) and array.size > 1 else ""
        )
    dtype = {"value_float": np.float32, "value_int": np.int64, "value_string": str}[
        attribute.name.removesuffix("s")
    ]
    return of_array(np.asarray(value, dtype))


def _sizes_of(node: ir.Node, x: Fact | None, attributes: Mapping[str, Any]) -> list[Fact] | None:
    if x is None or x.dims is None:
        return None
    if node.op_type == "Size":
        with suppress(TooLong):
            return [of_sizes(product(x.dims))]
        return None
    return [of_sizes(list(x.dims[attributes.get("start", 0) : attributes.get("end")]))]


def _may_fold(node: ir.Node, facts: Sequence[Fact], dims: Sequence[Dims]) -> bool:
    """Weights are moved, never computed with: what is made of them must move when they are trained."""
    if any(fact.trainable and product(fact.dims or ()) > 1 for fact in facts) and node.op_type not in MOVES:
        return False
    whole = [shape for shape in dims if shape is not None and None not in shape and all_known(shape)]
    elements = max(map(product, whole), default=0)
    given = {id(fact.content): product(fact.dims or ()) for fact in facts}
    return bool(elements <= max(FOLD_LIMIT, sum(given.values())))


def _folded(
    node: ir.Node, operands: Sequence[Fact | None], attributes: Mapping[str, Any], dtype: np.dtype[Any] | None
) -> list[Fact] | None:
    """Through the operator table itself. Integers made of sizes have the dtype of the output that they are."""
    arrays = [None if fact is None else fact.content for fact in operands]
    results = fold(node.op_type, arrays, attributes, len(node.outputs))
    if results is None:
        return None
    if any(result.dtype == object for result in results):
        return [of_sizes(result, dtype) for result in results]
    source = next((fact for fact in operands if fact is not None and fact.name), None)
    if source is None or node.op_type not in MOVES:
        return [of_array(array) for array in results]
    alive = source.trainable or node.op_type == "DequantizeLinear"
    return [
        of_array(a, name=source.name, trainable=alive and is_float(a.dtype) and a.ndim > 0) for a in results
    ]


# ---- one number everywhere ----------------------------------------------------------------------------------

KEEPS_FILL = frozenset(
    "Cast Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose Unsqueeze".split()
)
"""Operators that move the elements of their first input and add none."""


def filled(
    node: ir.Node, operands: Sequence[Fact | None], attributes: Mapping[str, Any], dtype: np.dtype[Any] | None
) -> int | float | bool | None:
    """The one number that every element of the output has; None where it is not known."""
    if dtype is None or dtype.kind not in "iufb" or node.domain:
        return None
    if node.op_type == "ConstantOfShape":
        value = attributes.get("value")
        return 0.0 if value is None else value.reshape(-1)[0].item()  # type: ignore[no-any-return]
    if node.op_type == "Concat":
        fills = {None if fact is None else fact.fill for fact in operands}
        return fills.pop() if len(fills) == 1 else None
    if node.op_type not in KEEPS_FILL or operands[0] is None or operands[0].fill is None:
        return None
    return np.asarray(operands[0].fill).astype(dtype).item()  # type: ignore[no-any-return]
