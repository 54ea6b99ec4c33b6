"""ONNX's own backend suite through the TensorFlow importer: as it is, and with weights as initializers.

What is not carried is listed in ``exclusions/tensorflow.txt``, and the tests demand that it is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import Case, case, cases, check, excluded, freeze, light, parameters

from netferry.converters.errors import NetferryError
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.signature import Signature, TensorSpec
from netferry.converters.tensorflow import interface, live
from netferry.converters.tensorflow.from_onnx import from_onnx
from netferry.converters.tensorflow.runtime import quiet, tf

LIGHT = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx"))


def signature(model: onnx.ModelProto) -> Signature:
    """The names alone; the suite brings its own inputs."""
    held = {tensor.name for tensor in model.graph.initializer}

    def specs(values: Any) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(v.name, np.dtype(np.float32), None) for v in values if v.name not in held)

    return Signature(specs(model.graph.input), specs(model.graph.output))


def carried_and_checked(one: Case) -> None:
    model = from_onnx(plan(one.model), signature(one.model)).model
    names = [value.name for value in one.model.graph.output]
    for inputs, expected in one.data:
        with quiet():
            outputs = interface.interface_of(model).call([tf.convert_to_tensor(array) for array in inputs])
        check(one, [np.asarray(outputs[name]) for name in names], expected)


def carried_or_refused(one: Case) -> None:
    if one.name not in excluded("tensorflow"):
        carried_and_checked(one)
        return
    with pytest.raises(NetferryError):
        from_onnx(plan(one.model), signature(one.model))


@pytest.mark.parametrize("name", parameters())
def test_a_case_of_the_suite_is_carried_to_tensorflow(name: str) -> None:
    carried_or_refused(case(name))


@pytest.mark.parametrize("name", parameters(frozen=True))
def test_a_case_with_weights_as_initializers_is_carried_to_tensorflow(name: str) -> None:
    one = freeze(case(name))
    assert one is not None
    carried_or_refused(one)


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_a_light_model_gives_what_onnxruntime_gives(path: Path) -> None:
    """Whole networks of the onnx wheel, their weights made by ConstantOfShape."""
    proto = light(path)
    imported = from_onnx(plan(proto), signature(proto))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    x = np.random.default_rng(0).uniform(0, 1e-3, given.shape).astype(np.float32)
    with quiet():
        received = live.run(imported.model, [x])
    (want,) = session.run(None, {given.name: x})
    np.testing.assert_allclose(received[session.get_outputs()[0].name], want, rtol=1e-3, atol=1e-7)


def test_nearly_everything_of_the_suite_is_carried() -> None:
    """The shares that netferry promises: of the core cases, and of all with weights as initializers."""
    left_out = excluded("tensorflow")
    core = [one.name for one in cases() if one.core]
    frozen = [one.name for one in map(freeze, cases()) if one is not None]
    assert sum(name not in left_out for name in core) >= 0.93 * len(core)
    assert sum(name not in left_out for name in frozen) >= 0.90 * len(frozen)


@pytest.mark.parametrize("word", ["lstm", "gru", "rnn", "simple_rnn"])
def test_no_recurrent_case_is_left_out(word: str) -> None:
    left_out = excluded("tensorflow")
    recurrent = [one.name for one in cases() if one.name.startswith(f"test_{word}_")]
    assert recurrent
    assert not [name for name in recurrent if name in left_out]
