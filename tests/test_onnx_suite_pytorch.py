"""ONNX's own backend suite through the PyTorch importer: as it is, and with weights as initializers.

What is not carried is listed in ``exclusions/pytorch.txt``, and the tests demand that it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
import torch
from onnx import numpy_helper
from onnx_cases import SATURATED, Case, case, cases, check, excluded, freeze, light, parameters

from netferry.converters.errors import NetferryError
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.pytorch import live
from netferry.converters.pytorch.from_onnx import from_onnx
from netferry.converters.signature import Signature, TensorSpec


def signature(model: onnx.ModelProto) -> Signature:
    """The names alone; the suite brings its own inputs."""
    held = {tensor.name for tensor in model.graph.initializer}

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(v.name, np.dtype(np.float32), None) for v in values if v.name not in held)

    return Signature(specs(model.graph.input), specs(model.graph.output))


def to_torch(value: Any) -> Any:
    """Lists are sequences, None an empty optional."""
    if isinstance(value, list):
        return [to_torch(item) for item in value]
    return None if value is None else live.to_torch(value)


def to_numpy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return live.to_numpy(value)
    return [to_numpy(item) for item in value] if isinstance(value, list) else value


def carried_and_checked(one: Case) -> None:
    model = from_onnx(plan(one.model), signature(one.model)).model
    for inputs, expected in one.data:
        with torch.no_grad():
            outputs = model(*map(to_torch, inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        check(one, [to_numpy(output) for output in outputs], expected)


def carried_or_refused(one: Case) -> None:
    if one.name not in excluded("pytorch"):
        carried_and_checked(one)
        return
    with pytest.raises(NetferryError):
        from_onnx(plan(one.model), signature(one.model))


@pytest.mark.parametrize("name", parameters())
def test_a_case_of_the_suite_is_carried_to_pytorch(name: str) -> None:
    carried_or_refused(case(name))


@pytest.mark.parametrize("name", parameters(frozen=True))
def test_a_case_with_weights_as_initializers_is_carried_to_pytorch(name: str) -> None:
    one = freeze(case(name))
    assert one is not None
    carried_or_refused(one)


LIGHT = sorted((Path(onnx.backend.test.__file__).parent / "data" / "light").glob("*.onnx"))


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_a_light_model_runs_as_in_the_suite(path: Path) -> None:
    """The inputs are those of onnx's own runner, the outputs those of its wheel, and onnxruntime's at a random input."""
    ort = pytest.importorskip("onnxruntime")
    model = light(path)
    held = {tensor.name for tensor in model.graph.initializer}
    (value,) = (value for value in model.graph.input if value.name not in held)
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    ramp = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    drawn = np.random.default_rng(0).random(shape, np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    if path.stem in SATURATED:
        (expected,) = session.run(None, {value.name: ramp})
    else:
        expected = numpy_helper.to_array(onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb")))
    arrived = from_onnx(plan(model), signature(model)).model
    for array, want in ((ramp, expected), (drawn, session.run(None, {value.name: drawn})[0])):
        (got,) = live.run(arrived, [array]).values()
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-7)
    assert any(parameter.requires_grad for parameter in arrived.parameters())


def test_nearly_everything_of_the_suite_is_carried() -> None:
    """The shares that netferry promises: of the core cases, and of all with weights as initializers."""
    left_out = excluded("pytorch")
    core = [one.name for one in cases() if one.core]
    frozen = [one.name for one in map(freeze, cases()) if one is not None]
    assert sum(name not in left_out for name in core) >= 0.97 * len(core)
    assert sum(name not in left_out for name in frozen) >= 0.93 * len(frozen)
