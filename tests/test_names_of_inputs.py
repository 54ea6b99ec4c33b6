"""A named input is never bound by position: names that are not the model's are refused, and only lists have positions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch
from models import saved
from onnx import helper
from torch import nn

import netferry
from netferry.converters.errors import UsageError
from netferry.converters.mxnet.live import import_mxnet
from netferry.converters.signature import Example, InputNames
from netferry.inference.session import Session

RANDOM = np.random.default_rng(7)
A, B = RANDOM.normal(size=(3, 4)).astype(np.float32), RANDOM.normal(size=(3, 4)).astype(np.float32)


class Minus(nn.Module):
    """``first - second``, which tells the one from the other."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return first - second


def exported_program(folder: Path) -> Path:
    batch = torch.export.Dim("batch")
    shapes = {"first": {0: batch}, "second": {0: batch}}
    program = torch.export.export(Minus(), (torch.from_numpy(A), torch.from_numpy(B)), dynamic_shapes=shapes)
    torch.export.save(program, folder / "minus.pt2")
    return folder / "minus.pt2"


def scripted(folder: Path) -> Path:
    torch.jit.script(Minus()).save(folder / "minus.pt")
    return folder / "minus.pt"


def functional(_folder: Path) -> keras.Model:
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    return keras.Model([first, second], keras.layers.Subtract()([first, second]))


def keras_file(folder: Path) -> Path:
    functional(folder).save(folder / "minus.keras")
    return folder / "minus.keras"


class Subclassed(keras.Model):
    def call(self, first: Any, second: Any) -> Any:
        return first - second


def saved_model(folder: Path) -> Path:
    sizes = [tf.TensorSpec([None, 4], name=name) for name in ("first", "second")]

    class Module(tf.Module):
        @tf.function(input_signature=sizes)
        def minus(self, first: Any, second: Any) -> Any:
            return {"y": first - second}

    module = Module()
    tf.saved_model.save(module, folder / "minus", signatures={"serving_default": module.minus})
    return folder / "minus"


def graph() -> onnx.ModelProto:
    value = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4])  # noqa: E731
    node = helper.make_node("Sub", ["first", "second"], ["y"])
    inside = helper.make_graph([node], "minus", [value("first"), value("second")], [value("y")])
    return helper.make_model(inside, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def symbol(folder: Path) -> Path:
    netferry.convert(graph(), destination=folder / "minus-symbol.json", verify=False)
    return folder / "minus-symbol.json"


def block(_folder: Path) -> Any:
    mx = import_mxnet()

    class Block(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, first: Any, second: Any) -> Any:
            return first - second

    return Block()


DECLARED: dict[str, Callable[[Path], Any]] = {
    "a .pt2": exported_program,
    "a Keras model": functional,
    "a .keras": keras_file,
    "a SavedModel": saved_model,
    "an ONNX model": lambda _folder: graph(),
    "an ONNX file": lambda folder: saved(folder, graph(), "minus.onnx"),
    "a symbol": symbol,
    "a converted module": lambda _folder: netferry.convert(graph(), "pytorch", verify=False).model,
}
"""Models whose inputs have names of their own."""

CODE: dict[str, Callable[[Path], Any]] = {
    "a module": lambda _folder: Minus(),
    "TorchScript": scripted,
    "a subclassed Keras model": lambda _folder: Subclassed(),
    "a gluon block": block,
}
"""Models that are code: their parameters have names, their inputs not yet."""


def difference(model: Any, inputs: Any) -> np.ndarray:
    [y] = netferry.run(model, inputs).values()
    return y


def converted(model: Any, inputs: Any) -> tuple[list[str], np.ndarray]:
    """The names of the inputs of the result, and what it gives for A and B under these names."""
    done = netferry.convert(model, "onnx", inputs=inputs, quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    names = [spec.name for spec in Session(done.export.model).signature.inputs]
    [y] = Session(done.export.model).run(dict(zip(names, (A, B), strict=True))).values()
    return names, y


@pytest.mark.parametrize("make", {**DECLARED, **CODE}.values(), ids={**DECLARED, **CODE}.keys())
def test_names_are_bound_by_name_in_any_order_and_a_list_by_position(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    model = make(tmp_path)
    assert np.array_equal(difference(model, {"second": B, "first": A}), A - B)
    assert np.array_equal(difference(model, [A, B]), A - B)
    names, y = converted(model, {"second": B, "first": A})
    assert names == ["first", "second"]
    assert np.array_equal(y, A - B)


@pytest.mark.parametrize("make", {**DECLARED, **CODE}.values(), ids={**DECLARED, **CODE}.keys())
def test_a_name_that_is_not_the_models_is_refused_with_the_nearest(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    model, inputs = make(tmp_path), {"second": B, "frist": A}
    calls: list[Callable[[], object]] = [
        lambda: netferry.run(model, inputs),
        lambda: netferry.inspect(model, inputs=inputs),
        lambda: netferry.convert(model, "onnx", inputs=inputs),
        lambda: netferry.verify(model, graph(), inputs),
        lambda: netferry.bisect(model, graph(), inputs),
    ]
    for call in calls:
        with pytest.raises(UsageError, match=r"no such input: 'frist'.*Did you mean first\?") as refused:
            call()
        assert refused.value.expected == "first, second"


@pytest.mark.parametrize("make", DECLARED.values(), ids=DECLARED.keys())
def test_a_model_whose_inputs_have_names_takes_no_others(make: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such input: 'p', 'q'"):
        netferry.run(make(tmp_path), {"p": A, "q": B})


@pytest.mark.parametrize("make", CODE.values(), ids=CODE.keys())
def test_what_is_given_names_the_inputs_of_code(make: Callable[[Path], Any], tmp_path: Path) -> None:
    names, y = converted(make(tmp_path), {"p": A, "q": B})
    assert names == ["p", "q"]
    assert np.array_equal(y, A - B)


def test_a_list_keeps_the_names_that_the_model_has(tmp_path: Path) -> None:
    names, y = converted(keras_file(tmp_path), [A, B])
    assert names == ["first", "second"]
    assert np.array_equal(y, A - B)


@pytest.mark.parametrize("name", [None, "input_1", "dense_input"])
def test_names_that_keras_makes_are_no_names(name: str | None) -> None:
    """``keras.Input((4,))`` is called by a number, Keras 2's by its first layer: what is given names it."""
    model = keras.Sequential([keras.Input((4,), name=name), keras.layers.Dense(2)])
    done = netferry.convert(model, "onnx", inputs={"x": A}, quick=True)
    assert [spec.name for spec in Session(done.model).signature.inputs] == ["x"]


def test_a_part_of_an_argument_is_under_its_argument() -> None:
    names = InputNames(("ids", "past"), declared=False)
    given = tuple(Example(name, A) for name in ("past.0.key", "ids", "past.0.value"))
    assert [one.name for one in names.bound(given)] == ["ids", "past.0.key", "past.0.value"]
