"""TensorFlow's messages as far as a graph's execution needs them, and a tensor message as a numpy array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from google.protobuf.message import DecodeError

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.signature import Array
from netferry.converters.trust import wire

_DECLARED: wire.Declared = {
    "SavedModel": {"graphs": "2* MetaGraph"},
    "MetaGraph": {
        "info": "1 Info", "graph": "2 Graph", "saver": "3 Saver", "collections": "4* CollectionEntry",
        "signatures": "5* SignatureEntry", "objects": "7 Objects",
    },
    "Objects": {"nodes": "1* Object", "functions": "2* BoundEntry"},
    "Object": {"children": "1* Child"},
    "Child": {"node": "1 int32", "name": "2 string"},
    "BoundEntry": {"key": "1 string", "value": "2 Bound"},
    "Bound": {"objects": "2* int32"},
    "Info": {"tags": "4* string"},
    "CollectionEntry": {"key": "1 string", "value": "2 Collection"},
    "Collection": {"nodes": "1 Nodes"},
    "Nodes": {"values": "1* string"},
    "Graph": {"nodes": "1* Node", "library": "2 Library"},
    "Library": {"functions": "1* Function"},
    "Function": {
        "signature": "1 Operator", "nodes": "3* Node", "returns": "4* TextEntry", "attributes": "5* AttributeEntry",
        "controls": "6* TextEntry",
    },
    "TextEntry": {"key": "1 string", "value": "2 string"},
    "Operator": {"name": "1 string", "inputs": "2* Argument", "outputs": "3* Argument"},
    "Argument": {"name": "1 string", "type": "3 int32", "type_attribute": "4 string", "number_attribute": "5 string"},
    "Node": {"name": "1 string", "operator": "2 string", "inputs": "3* string", "attributes": "5* AttributeEntry"},
    "AttributeEntry": {"key": "1 string", "value": "2 Attribute"},
    "Attribute": {
        "list": "1 List", "text": "2 bytes", "integer": "3 int64", "number": "4 float", "flag": "5 bool", "type": "6 int32",
        "shape": "7 Shape", "tensor": "8 Tensor", "function": "10 Called",
    },
    "List": {
        "texts": "2* bytes", "integers": "3* int64", "numbers": "4* float", "flags": "5* bool", "types": "6* int32",
        "shapes": "7* Shape", "functions": "9* Called",
    },
    "Called": {"name": "1 string", "attributes": "2* AttributeEntry"},
    "Shape": {"dims": "2* Dim", "unknown": "3 bool"},
    "Dim": {"size": "1 int64"},
    "Tensor": {
        "dtype": "1 int32", "shape": "2 Shape", "content": "4 bytes", "floats": "5* float", "doubles": "6* double",
        "ints": "7* int32", "texts": "8* bytes", "complexes": "9* float", "longs": "10* int64", "flags": "11* bool",
        "wide_complexes": "12* double", "halves": "13* int32", "unsigned": "16* uint32", "unsigned_longs": "17* uint64",
    },
    "Saver": {"filename": "1 string", "save": "2 string", "restore": "3 string"},
    "SignatureEntry": {"key": "1 string", "value": "2 Signature"},
    "Signature": {"inputs": "1* TensorEntry", "outputs": "2* TensorEntry", "method": "3 string"},
    "TensorEntry": {"key": "1 string", "value": "2 TensorInfo"},
    "TensorInfo": {"name": "1 string", "dtype": "2 int32", "shape": "3 Shape", "sparse": "4 Sparse", "parts": "5 Parts"},
    "Sparse": {"values": "1 string"},
    "Parts": {"components": "2* TensorInfo"},
    "BundleHeader": {"shards": "1 int32", "endianness": "2 int32"},
    "BundleEntry": {
        "dtype": "1 int32", "shape": "2 Shape", "shard": "3 int32", "offset": "4 int64", "size": "5 int64",
        "checksum": "6 fixed32", "slices": "7* Slice",
    },
    "SavedSlices": {"meta": "1 SavedMeta", "data": "2 SavedSlice"},
    "SavedMeta": {"tensors": "1* SavedTensor"},
    "SavedTensor": {"name": "1 string", "shape": "2 Shape", "type": "3 int32", "slices": "4* Slice"},
    "SavedSlice": {"name": "1 string", "slice": "2 Slice", "data": "3 Tensor"},
    "Slice": {"extents": "1* Extent"},
    "Extent": {"start": "1 int64", "length": "2 int64"},
}  # fmt: skip
"""Of tensorflow/core/protobuf and framework, under plain names."""


@cache
def _messages() -> Mapping[str, Any]:
    return wire.messages(_DECLARED)


def parsed(name: str, content: bytes, where: str) -> Any:
    """A message of one of the declared kinds.

    Raises:
        RefusedError: the bytes are not a whole message.
    """
    try:
        return _messages()[name].FromString(content)
    except DecodeError as error:
        raise RefusedError(f"not a whole protobuf message ({first_line(error)})", where=where) from error


# ---- dtypes ----------------------------------------------------------------------------------------

STRING, RESOURCE, VARIANT = 7, 20, 21

STORED: Mapping[int, np.dtype[Any]] = {
    code: np.dtype(kind)
    for code, kind in {
        1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 8: "c8", 9: "i8", 10: "?", 11: "i1", 12: "u1", 13: "i4",
        14: ml_dtypes.bfloat16, 15: "i2", 16: "u2", 17: "u2", 18: "c16", 19: "f2", 22: "u4", 23: "u8",
    }.items()
}  # fmt: skip
"""TensorFlow's numbers of dtypes, as files hold their tensors; a reference to a variable counts 100 more."""

BFLOAT16 = 14

DTYPES = {**STORED, BFLOAT16: np.dtype(np.float32)}
"""What a graph's tensors are written as: onnxruntime computes next to nothing in bfloat16, float32 holds each of its numbers."""

_TITLES = {STRING: "string", RESOURCE: "resource", VARIANT: "variant"}


def dtype_of(code: int, where: str, among: Mapping[int, np.dtype[Any]] = DTYPES) -> np.dtype[Any]:
    """What a tensor is written as; ``among`` STORED, what a file holds it as."""
    code = code - 100 if code > 100 else code
    if code not in among:
        title = _TITLES.get(code, f"number {code}")
        raise RefusedError(f"it holds tensors of the dtype {title}, which ONNX does not compute", where=where)
    return among[code]


def written(array: Array) -> Array:
    """A stored array as it is written."""
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array


def is_text(code: int) -> bool:
    return code in (STRING, STRING + 100)


def dims_of(shape: Any) -> tuple[int | None, ...] | None:
    """Sizes, None for each that is free; None where not even the rank is known."""
    if shape.unknown:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in shape.dims)


# ---- tensors ---------------------------------------------------------------------------------------

_LISTED = {
    "f4": "floats", "f8": "doubles", "i4": "ints", "u1": "ints", "i2": "ints", "i1": "ints", "u2": "ints", "b1": "flags",
    "i8": "longs", "u4": "unsigned", "u8": "unsigned_longs",
}  # fmt: skip
"""Where a tensor's numbers stand, if not as bytes, by its dtype."""

MOST = 1 << 31
"""The most bytes of a constant that is written as one number for all places."""


def array_of(tensor: Any, where: str) -> Array:
    """The content of a tensor message as it is written, read-only.

    Raises:
        RefusedError: it has not as many numbers as its sizes say.
    """
    return written(_stored(tensor, where))


def _stored(tensor: Any, where: str) -> Array:
    dtype = dtype_of(tensor.dtype, where, STORED)
    dims = [dim.size for dim in tensor.shape.dims]
    count = math.prod(dims)
    if any(size < 0 for size in dims) or count * dtype.itemsize > MOST:
        raise RefusedError("a constant of sizes that no file holds", where=where, received=dims)
    if tensor.content:
        if len(tensor.content) != count * dtype.itemsize:
            raise RefusedError(
                "a constant has not as many bytes as its sizes say",
                where=where,
                expected=count * dtype.itemsize,
                received=len(tensor.content),
            )
        return np.frombuffer(tensor.content, dtype).reshape(dims)
    listed = numbers(tensor, dtype)
    if len(listed) > count:
        raise RefusedError(
            "a constant has more numbers than its sizes say",
            where=where,
            expected=count,
            received=len(listed),
        )
    if not len(listed):
        return np.zeros(dims, dtype)
    whole = np.full(count, listed[-1], dtype)
    whole[: len(listed)] = listed
    return whole.reshape(dims)


def numbers(tensor: Any, dtype: np.dtype[Any]) -> Array:
    if dtype in (np.float16, ml_dtypes.bfloat16):
        return np.asarray(tensor.halves, np.int64).astype(np.uint16).view(dtype)
    if dtype.kind == "c":
        parts = np.asarray(tensor.complexes if dtype.itemsize == 8 else tensor.wide_complexes)
        return parts.view(np.complex64 if parts.dtype == np.float32 else np.complex128).astype(dtype)
    return np.asarray(getattr(tensor, _LISTED[dtype.str[1:]])).astype(dtype)
