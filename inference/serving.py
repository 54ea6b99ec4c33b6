"""What other engines need to serve a model: a Triton model repository, requests of the Open Inference Protocol.

Sources: Triton's model_config.proto; the Open Inference Protocol, version 2, REST.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import Array, Signature, TensorSpec
from netferry.inference.rows import rows_are_free

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64", "bfloat16": "BF16",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip
"""numpy's names -> the protocol's; Triton writes the same behind TYPE_."""

SAMPLE = "netferry-sample"

DOCUMENTS = ("request.json", "response.json", "metadata.json")
"""The files that ``requests`` gives."""

QUEUE_DELAY_US = 100
"""How long Triton may wait for more requests to join a batch; its own documentation's example value."""


def triton_config(signature: Signature, name: str, max_batch: int) -> str:
    """The text of Triton's ``config.pbtxt`` for a model that lies in ``1/model.onnx`` beside it.

    Where the first axis of every input and output is free, Triton batches requests dynamically, at most
    ``max_batch`` rows at once; else the model runs as each request has it.
    """
    _check_name(name)
    if max_batch < 0:
        raise UsageError(
            "a batch has no rows less than none", expected="0 for no batching", received=max_batch
        )
    batched = max_batch > 0 and rows_are_free(signature)
    blocks = [
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        'default_model_filename: "model.onnx"',
        f"max_batch_size: {max_batch if batched else 0}",
        *(_tensor("input", spec, batched) for spec in signature.inputs),
        *(_tensor("output", spec, batched) for spec in signature.outputs),
    ]
    if batched:
        blocks.append(f"dynamic_batching {{\n  max_queue_delay_microseconds: {QUEUE_DELAY_US}\n}}")
    return "\n".join(blocks) + "\n"


def _tensor(kind: str, spec: TensorSpec, batched: bool) -> str:
    if spec.dims is None:
        raise UsageError(f"Triton needs the rank of '{spec.name}'", received="an unknown rank")
    dims = [str(dim) if isinstance(dim, int) else "-1" for dim in spec.dims[1 if batched else 0 :]]
    # A scalar for each row, or for the model: Triton wants at least one dimension, and reshapes it away.
    reshape = "" if dims else "\n  reshape: { shape: [ ] }"
    return (
        f"{kind} {{\n  name: {_quoted(spec.name)}\n  data_type: TYPE_{_datatype(spec)}\n"
        f"  dims: [ {', '.join(dims or ['1'])} ]{reshape}\n}}"
    )


def _quoted(text: str) -> str:
    """As protobuf's text form has it: JSON's escapes, and bytes in octal for what has no picture; letters stand as they are."""
    return "".join(
        c if c.isprintable() else "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "surrogatepass"))
        for c in json.dumps(text, ensure_ascii=False)
    )


def requests(
    signature: Signature, inputs: Mapping[str, Array], outputs: Mapping[str, Array], name: str
) -> dict[str, dict[str, Any]]:
    """Documents of the Open Inference Protocol by file name: a request, the answer that is due, the model's metadata.

    ``request.json`` goes to ``POST /v2/models/<name>/infer``; ``response.json`` is what onnxruntime gave for it;
    ``metadata.json`` is what ``GET /v2/models/<name>`` answers.
    """
    _check_name(name)
    return {
        "request.json": {
            "id": SAMPLE,
            "inputs": [_data(spec, inputs[spec.name]) for spec in signature.inputs],
            "outputs": [{"name": spec.name} for spec in signature.outputs],
        },
        "response.json": {
            "model_name": name,
            "id": SAMPLE,
            "outputs": [_data(spec, outputs[spec.name]) for spec in signature.outputs],
        },
        "metadata.json": {
            "name": name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [_described(spec) for spec in signature.inputs],
            "outputs": [_described(spec) for spec in signature.outputs],
        },
    }


def _data(spec: TensorSpec, array: Array) -> dict[str, Any]:
    """A tensor with its numbers in row-major order; the protocol's JSON has no form for NaN and infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"'{spec.name}' holds NaN or infinity, which JSON cannot say")
    flat = array.astype(np.float64) if array.dtype.name in ("float16", "bfloat16") else array
    return {
        "name": spec.name,
        "datatype": _datatype(spec),
        "shape": list(array.shape),
        "data": flat.reshape(-1).tolist(),
    }


def _described(spec: TensorSpec) -> dict[str, Any]:
    dims: Sequence[Any] = spec.dims or ()
    shape = [dim if isinstance(dim, int) else -1 for dim in dims]
    return {"name": spec.name, "datatype": _datatype(spec), "shape": shape}


def _datatype(spec: TensorSpec) -> str:
    if spec.dtype.name not in DATATYPES:
        raise UsageError(f"'{spec.name}' has a dtype that the protocol does not have", received=spec.dtype)
    return DATATYPES[spec.dtype.name]


def _check_name(name: str) -> None:
    """A model's name is a folder and a part of an address."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            "not a name for a served model", expected="letters, digits, dots, dashes", received=name
        )
