"""What the tests of the MXNet room share: cases are symbols as text, mxnet itself says what they compute."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes  # noqa: F401 - teaches numpy bfloat16
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from mxnet_oracle import Oracle

from netferry.converters import artifact
from netferry.converters.mxnet import files
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples


def onnx_outputs(model: ir.Model | bytes, arrays: Sequence[Array]) -> dict[str, Array]:
    """What onnxruntime makes of a model that ONNX's own checker has passed."""
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {node.name: array for node, array in zip(session.get_inputs(), arrays, strict=True)}
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_equal(mine: Array, theirs: Array, tolerance: float, what: str = "") -> None:
    assert mine.shape == theirs.shape, what
    assert mine.dtype == theirs.dtype, what
    scale = float(np.max(np.abs(theirs.astype(np.float64)), initial=0))
    assert scale > 1e-9, f"{what}: the oracle's output is too small to tell anything"
    np.testing.assert_allclose(
        mine.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=tolerance * scale, err_msg=what
    )


def drawn(dims: Sequence[int], *seed: int) -> Array:
    rng = np.random.default_rng([*seed, *dims])
    array = rng.normal(0.1, 1.3, dims).astype(np.float32)
    array.flat[0] = 0.3  # neither the largest nor the smallest: arguments are not at place 0
    return array


def read(folder: Path) -> files.SymbolModel:
    return files.read(artifact.look(folder / "net-symbol.json"))


NAMES = ("data", "other", "third", "fourth")
Dims = tuple[int, ...]


def inputs_of(case: str, dims: Sequence[Dims], more: Sequence[int] = (0, 3)) -> list[dict[str, Array]]:
    """The inputs of a case, at its own batch and at larger ones; what begins with the batch grows with it."""
    seed = zlib.crc32(case.encode())
    batch = dims[0][0]
    return [
        {
            name: drawn((each[0] + grown, *each[1:]) if each[:1] == (batch,) else each, seed, *name.encode())
            for name, each in zip(NAMES, dims, strict=False)
        }
        for grown in more
    ]


def assert_arrives(
    case: str,
    inputs: Sequence[Mapping[str, Array]],
    oracle: Oracle,
    folder: Path,
    *,
    numpy: bool = False,
    tolerance: float = 1e-5,
    free: Mapping[str, Mapping[int, str]] | None = None,
) -> ir.Model:
    """What mxnet computes of each set of inputs, the ONNX model computes too, under the same names.

    The first axis of the inputs is free where there is more than one set, or ``free`` says which are.
    """
    names, truth = oracle.symbol(case, list(inputs), str(folder / "net"), numpy=numpy)
    if free is None and len(inputs) == 1:
        free = {}
    export = to_onnx(read(folder), examples(inputs[0], free))
    for arrays, expected in zip(inputs, truth, strict=True):
        outputs = onnx_outputs(export.model, list(arrays.values()))
        assert list(outputs) == names
        for (name, mine), theirs in zip(outputs.items(), expected, strict=True):
            assert_equal(mine, theirs, tolerance, f"{case} {name}")
    return export.model
