"""Runs that round by chance: what they move, what they leave, and that each framework's room has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from models import model
from onnx import TensorProto, helper
from torch import nn
from verdict_pairs import randomised

import netferry
from netferry.converters.rounding import FREE, Rounding, as_float32, table
from netferry.validation.comparison.truth import Double

U = 2.0**-24
KINDS = table(
    EXACT="Relu",
    SUM="MatMul",
    BOUNDED="Sigmoid",
    INEXACT="Exp",
    DIVIDES_FIRST="QuantizeLinear",
    DIVIDES_BY_RANGE="DynamicQuantizeLinear",
)


def rounding(seed: int = 0) -> Rounding:
    return Rounding(U, seed, KINDS)


def test_what_the_format_holds_is_not_rounded() -> None:
    held = np.float64([0, 1, -128, 0.5, 1e30, np.float32(0.1)]).astype(np.float32).astype(np.float64)
    assert np.array_equal(rounding().result("Add", held), held)
    assert np.array_equal(rounding().result("MatMul", held.reshape(2, 3)), held.reshape(2, 3))


def test_a_result_is_moved_within_two_roundings() -> None:
    x = np.random.default_rng(0).standard_normal(1000)
    moved = rounding().result("Add", x)
    assert np.all(np.abs(moved - x) <= 2 * U * np.abs(x))
    assert np.abs(moved / x - 1).max() > U


def test_selection_is_exact_and_functions_are_not() -> None:
    x = np.random.default_rng(0).standard_normal(100)
    assert np.array_equal(rounding().result("Relu", x), x)
    assert not np.array_equal(rounding().result("Exp", np.ones(100)), np.ones(100))


def test_a_bounded_function_errs_relative_to_its_range_and_keeps_its_sign() -> None:
    moved = rounding().result("Sigmoid", np.full(1000, 1e-12))
    assert moved.min() >= 0
    assert moved.max() > U


def test_a_quantised_operand_is_moved_and_its_result_is_not() -> None:
    x = np.float64([0.5, 2.5])
    assert not np.array_equal(rounding().operand("QuantizeLinear", x), x)
    assert np.array_equal(rounding().result("QuantizeLinear", x), x)
    assert np.array_equal(rounding().operand("Add", x), x)


def test_the_ends_of_a_range_move_as_one() -> None:
    x = np.repeat(np.random.default_rng(0).standard_normal(50), 20)
    moved = rounding().operand("DynamicQuantizeLinear", x)
    for end in (x == x.min(), x == x.max()):
        assert end.sum() == 20
        assert np.unique(moved[end]).size == 1
    assert np.all(moved != x)
    assert np.unique(moved[x == np.sort(x)[500]]).size == 20
    assert np.array_equal(rounding().result("DynamicQuantizeLinear", x), x)


def test_a_range_that_is_no_number_has_no_ends() -> None:
    x = np.float64([[1.0, np.nan], [-2.0, 3.0]])
    assert np.array_equal(np.isnan(rounding().operand("DynamicQuantizeLinear", x)), np.isnan(x))


def test_a_seed_gives_the_same_errors() -> None:
    x = np.random.default_rng(0).standard_normal(50)
    assert np.array_equal(rounding(3).result("Add", x), rounding(3).result("Add", x))
    assert not np.array_equal(rounding(3).result("Add", x), rounding(4).result("Add", x))


def test_a_number_beyond_float32_stays_as_it_is() -> None:
    assert as_float32(1e300) == 1e300
    assert as_float32(0.1) == float(np.float32(0.1)) != 0.1


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, dict[str, np.ndarray]]:
    module = randomised(nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5), nn.Sigmoid()
    ))  # fmt: skip
    return module, {"x": np.random.default_rng(1).standard_normal((2, 3, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize("to", ["pytorch", "onnx", "tensorflow", "mxnet"])
def test_every_framework_rounds_each_step(to: str, network: tuple[nn.Module, dict[str, np.ndarray]]) -> None:
    module, inputs = network
    arrived: Any = netferry.convert(module, to, inputs=inputs, verify=False).model
    double = Double(arrived, netferry.api.given_examples(inputs, None))
    arrays = list(inputs.values())
    truth = double.run(arrays)
    assert truth is not None, double.reason
    (name,) = truth
    runs = [double.rounded(arrays, seed)[name] for seed in range(3)]
    errors = [np.abs(run - truth[name]).max() for run in runs]
    assert all(U / 4 < error < 100 * U for error in errors), errors
    assert not np.array_equal(runs[0], runs[1])
    assert np.array_equal(double.rounded(arrays, 0)[name], runs[0])
    assert np.array_equal(double.run(arrays)[name], truth[name])  # type: ignore[index]


def test_a_loop_of_keras_rounds_within_its_steps() -> None:
    keras = pytest.importorskip("keras")
    inputs = keras.Input((6, 3))
    recurrent = keras.Model(inputs, keras.layers.LSTM(4)(inputs))
    double = Double(recurrent)
    x = np.random.default_rng(0).standard_normal((2, 6, 3)).astype(np.float32)
    truth = double.run([x])
    assert truth is not None
    (name,) = truth
    assert 0 < np.abs(double.rounded([x], 0)[name] - truth[name]).max() < 100 * U


def test_the_shortest_format_of_a_graph_is_found() -> None:
    halved = model(
        [helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), helper.make_node("Cast", ["h"], ["y"], to=1)],
        {"x": ("batch", 3)}, {"y": ("batch", 3)}, {},
    )  # fmt: skip
    assert Double(halved).format == "float16"
    assert Double(onnx.ModelProto.FromString(halved.SerializeToString())).u == 2.0**-11


def test_of_later_runs_every_second_errs_one_way() -> None:
    x = np.random.default_rng(0).standard_normal(1000)
    ways = {}
    for seed in range(FREE, FREE + 16):
        drawn = rounding(seed)
        errors = [drawn.result("Add", x) - x for _ in range(20)]
        outward = [np.sign(error) * np.sign(x) for error in errors]
        ways[seed] = max(
            np.mean([np.all(side == 1) or np.all(side == -1) for side in sides])
            for sides in (outward, [np.sign(error) for error in errors])
        )
    assert all(share > 0.5 for seed, share in ways.items() if seed % 2)
    assert not any(share for seed, share in ways.items() if not seed % 2)
