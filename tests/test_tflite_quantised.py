"""TFLite files of whole numbers: read as ONNX's QDQ, and held to steps of the numbers that they store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_models import both, drawn, exported, functional, of_keras, opened, operators
from served_models import floats

import netferry
from netferry.converters.rounding import Step
from netferry.converters.tensorflow.runtime import keras, tf
from netferry.converters.tensorflow.tflite import live
from netferry.converters.tensorflow.tflite.converting import requantised
from netferry.converters.tensorflow.tflite.double import steps
from netferry.validation.comparison.metrics import compare
from netferry.validation.comparison.whole_numbers import in_steps

L = keras.layers


def build(x: Any) -> Any:
    """What a small classifier of images has: padded, strided and depthwise convolutions, pools, a sum, a join, a product."""
    y = L.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    y = L.Add()([y, L.DepthwiseConv2D(3, padding="same", activation="relu6")(y)])
    y = L.Concatenate()([L.MaxPool2D(2)(y), L.AveragePooling2D(2)(y)])
    return L.Dense(6)(L.Flatten()(y))


CASES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "int8 inside": ("int8", {}, {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"}),
    "int8 throughout": ("int8", {"whole": True}, {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"}),
    "uint8 at the ends": ("int8", {"whole": True, "kinds": tf.uint8}, {"QuantizeLinear", "DequantizeLinear"}),
    "int16 activations": ("int16", {}, {"QuantizeLinear", "DequantizeLinear", "Conv"}),
}  # fmt: skip


@pytest.mark.parametrize("title", CASES)
def test_a_network_of_whole_numbers_stays_one(title: str, tmp_path: Path) -> None:
    precision, how, kinds = CASES[title]
    model = opened(of_keras(functional(build, 12, 12, 3), precision, **how), tmp_path)
    export = exported(model)
    assert kinds <= set(operators(export))
    for batch in (1, 3):
        want, got = both(model, export, drawn(model, batch))
        for name, value in want.items():
            assert got[name].dtype == value.dtype
            step = steps(model)[name]
            apart = np.abs(got[name].astype(np.float64) - value) / step.size
            assert apart.max() <= step.most + 0.01, title
            assert np.sqrt(np.mean(apart**2)) <= step.most / 2, title


def turned(x: Any) -> Any:
    """The join has one scale for both of its parts, and TensorFlow's converter gives it to what REVERSE_V2 makes, too."""
    return L.Concatenate()([8 * L.Dense(3)(x), keras.ops.flip(L.Dense(3)(x), axis=1)])


def test_what_a_kernel_copies_is_moved_as_it_is_stored_whatever_the_scales_say(tmp_path: Path) -> None:
    model = opened(of_keras(functional(turned, 5, 4), "int8"), tmp_path)
    (reverse,) = [
        (graph, op) for graph in model.executed for op in graph.operations if op.name == "REVERSE_V2"
    ]
    before, behind = (
        reverse[0].tensors[index].quantised for index in (reverse[1].inputs[0], reverse[1].outputs[0])
    )
    assert not before.equals(behind)
    export = exported(model)
    for batch in (1, 3):
        want, got = both(model, export, drawn(model, batch))
        for name, value in want.items():
            apart = np.abs(got[name].astype(np.float64) - value) / (behind.scale.item())
            assert apart.max() <= 1.5


def test_what_is_written_brings_copied_numbers_to_the_scale_that_it_says(tmp_path: Path) -> None:
    """The interpreter itself computes what the file says: within two steps of the float model, where it was off by a factor of 8."""
    model = functional(turned, 5, 4)
    content = of_keras(model, "int8")
    mended = requantised(content)
    x = floats(1, 5, 4)
    want = np.asarray(model(x))
    apart = []
    for number, each in enumerate((content, mended)):
        (got,) = live.run(opened(each, _folder(tmp_path / str(number))), [x]).values()
        apart.append(np.abs(got - want)[..., 3:].max())
    assert apart[0] > 0.5
    assert apart[1] < 0.3
    assert requantised(mended) == mended


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_weights_keep_their_names_and_their_channels_scales(tmp_path: Path) -> None:
    model = opened(of_keras(functional(build, 12, 12, 3), "int8"), tmp_path)
    held = exported(model).model.graph.initializers
    kernels = {name: each for name, each in held.items() if len(each.shape) == 4}
    assert {tuple(each.shape) for each in kernels.values()} == {(8, 3, 3, 3), (8, 1, 3, 3)}
    assert all(each.const_value.numpy().dtype == np.int8 for each in kernels.values())
    scales = [each.const_value.numpy() for each in held.values() if tuple(each.shape) == (8,)]
    assert any(each.dtype == np.float32 and len(set(each.tolist())) > 1 for each in scales)


def test_weights_alone_of_int8_arrive_as_what_they_stand_for(tmp_path: Path) -> None:
    wide = functional(lambda x: L.Dense(8)(L.Dense(64, "relu")(x)), 48)
    path = tmp_path / "net.tflite"
    path.write_bytes(of_keras(wide, "int8-dynamic"))
    done = netferry.convert(path, "onnx", quick=True, seed=0)
    assert "DequantizeLinear" in {node.op_type for node in done.model.graph.node}
    assert done.report is not None
    assert done.report.status == "passed"


@pytest.mark.parametrize("title", ["int8 inside", "int8 throughout"])
def test_a_network_of_whole_numbers_gets_a_verdict_in_steps(title: str, tmp_path: Path) -> None:
    precision, how, _ = CASES[title]
    path = tmp_path / "net.tflite"
    path.write_bytes(of_keras(functional(build, 12, 12, 3), precision, **how))
    done = netferry.convert(path, "onnx", quick=True, seed=0)
    assert done.report is not None
    assert done.report.status == "passed", done.report.to_text()
    other = tmp_path / "other.tflite"
    other.write_bytes(of_keras(functional(build, 12, 12, 3), precision, **how))
    assert netferry.verify(other, done.model, quick=True, seed=0).status == "failed"


def test_what_lies_more_than_steps_away_fails() -> None:
    s = np.round(floats(1000) * 40)
    step = Step(1.0, 2.0)
    near, far = s.copy(), s.copy()
    near[::7] += 1
    far[3] += 9
    passed, said = in_steps(compare(s, near), s, near, None, step)
    assert passed.status == "passed"
    assert "14.3%" in said
    failed, _ = in_steps(compare(s, far), s, far, None, step)
    assert failed.status == "failed"
    assert "9 steps" in failed.reason
    assert (
        in_steps(compare(s, s + 2), s, s + 2, None, step)[0].status == "failed"
    )  # each within two, all together not
    assert (
        in_steps(compare(s, far), s, far, far, step)[0].status == "passed"
    )  # as the source's other kernels have it


def test_what_is_quantised_in_flight_is_held_to_how_far_the_sources_own_kernels_lie_apart() -> None:
    s = floats(1000)
    step = Step(1 / 127, 2.0, relative=True)
    size = float(np.abs(s).max()) / 127
    other = (s + 5 * size * np.where(floats(1000) > 0, 1, -1)).astype(np.float32)
    between = (s + 2.5 * size * np.where(floats(1000) > 0, 1, -1) * (floats(1000) > 1)).astype(np.float32)
    beyond = between.copy()
    beyond[3] = s[3] + 12 * size
    assert in_steps(compare(s, between), s, between, other, step)[0].status == "passed"
    assert in_steps(compare(s, between), s, between, None, step)[0].status == "failed"
    assert in_steps(compare(s, beyond), s, beyond, other, step)[0].status == "failed"
