"""What a row is called with: the schema's attributes and defaults, and a refusal of everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, defs, helper

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.schema.attributes import REQUIRED, Operators, defaults
from netferry.converters.graph.schema.opset import OPSET
from netferry.converters.graph.schema.recurrent import Recurrence
from netferry.converters.graph.schema.windows import Windows

FLOAT32 = np.dtype(np.float32)


def operators() -> list[str]:
    """Every operator of ONNX, so of every table too."""
    live = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}
    return sorted(name for name in live if not defs.get_schema(name, OPSET).deprecated)


def symbol(*dims: int) -> Symbol:
    return Symbol(None, Fact(FLOAT32, dims))


def bound(operator: str, function: Callable[..., Any]) -> Callable[..., Any]:
    table = Operators("a test's")
    table.row(operator)(function)
    return table[operator]


def refused(call: Callable[..., Any], *inputs: Any, **attributes: Any) -> str:
    with pytest.raises(CannotConvert) as caught:
        call(None, *inputs, **attributes)
    return caught.value.reason


# ---- defaults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", operators())
def test_the_defaults_are_those_of_the_schema(operator: str) -> None:
    schema, known = defs.get_schema(operator, OPSET), defaults(operator)
    assert known is not None
    assert set(known) == set(schema.attributes)
    for name, attribute in schema.attributes.items():
        if attribute.required:
            assert known[name] is REQUIRED
        elif attribute.default_value.type == AttributeProto.UNDEFINED:
            assert known[name] is None
        else:
            value = helper.get_attribute_value(attribute.default_value)
            value = value.decode() if isinstance(value, bytes) else value
            same = (
                np.float32(known[name]) == np.float32(value)
                if isinstance(value, float)
                else known[name] == value
            )
            assert same, name


def test_a_default_float_is_written_as_in_onnx_documents() -> None:
    assert (defaults("HardSigmoid") or {})["alpha"] == 0.2
    assert (defaults("BatchNormalization") or {})["epsilon"] == 1e-5


def test_an_operator_of_our_own_has_no_schema() -> None:
    assert defaults("Linear") is None


def test_a_row_gets_the_default_of_what_a_node_leaves_out() -> None:
    row = bound("Gemm", lambda xp, a, *, alpha, beta, transA, transB: (a, alpha, beta, transA, transB))
    assert row(None, "a", transB=1, beta=None) == ("a", 1.0, 1.0, 0, 1)


# ---- refusals ---------------------------------------------------------------------------------------------


def test_an_attribute_that_a_row_does_not_name_must_be_at_its_default() -> None:
    row = bound("LeakyRelu", lambda xp, x: x)
    assert (
        row(None, "x") == row(None, "x", alpha=0.01) == row(None, "x", alpha=float(np.float32(0.01))) == "x"
    )
    assert refused(row, "x", alpha=0.02) == "alpha=0.02: netferry supports only 0.01 here"


def test_a_list_may_come_as_a_tuple() -> None:
    row = bound("MeanVarianceNormalization", lambda xp, x: x)
    assert row(None, "x", axes=(0, 2, 3)) == row(None, "x", axes=[0, 2, 3]) == "x"
    assert "axes" in refused(row, "x", axes=(1,))


@pytest.mark.parametrize("operator", ["Relu", "LeakyRelu", "Linear"])
def test_an_attribute_that_the_operator_has_not_is_refused_by_name(operator: str) -> None:
    assert refused(OPS[operator], symbol(2), slope=1) == f"{operator} has no attribute slope"


def test_a_required_attribute_that_is_missing_is_refused_by_name() -> None:
    assert refused(OPS["Cast"], symbol(2)) == "its attribute to is missing"
    assert refused(OPS["Concat"], symbol(2), symbol(2)) == "its attribute axis is missing"


def test_a_row_that_takes_every_attribute_is_handed_what_the_node_has() -> None:
    assert bound("Gemm", lambda xp, **given: given)(None, alpha=2.0) == {"alpha": 2.0}


def test_two_rows_for_one_operator_raise() -> None:
    table = Operators("a test's")
    table.row("Relu")(lambda xp, x: x)
    with pytest.raises(KeyError, match="Relu"):
        table.row("Relu")(lambda xp, x: x)


# ---- windows ------------------------------------------------------------------------------------------------

X, W = symbol(1, 3, 8, 8), symbol(4, 3, 3, 2)
conv = bound("Conv", lambda xp, x, w, *, windows, group: windows)
pool = bound("MaxPool", lambda xp, x, *, windows, storage_order: windows)


def test_windows_are_complete_whatever_a_node_leaves_out() -> None:
    assert conv(None, X, W) == Windows((3, 2), (1, 1), (1, 1), (0, 0, 0, 0))
    assert pool(None, X, kernel_shape=[2, 2], strides=[2, 1], ceil_mode=1) == Windows(
        (2, 2), (2, 1), (1, 1), (0, 0, 0, 0), ceil_mode=True
    )


def test_windows_may_be_handed_on_as_they_are() -> None:
    windows = Windows((3, 2), (1, 1), (1, 1), (0, 0, 0, 0))
    assert conv(None, X, W, windows=windows, group=1) is windows


@pytest.mark.parametrize(
    "attributes, reason",
    [
        ({"strides": [1]}, "strides holds 1 numbers, expected 2"),
        ({"dilations": [1, 1, 1]}, "dilations holds 3 numbers, expected 2"),
        ({"pads": [1, 1]}, "pads holds 2 numbers, expected 4"),
        ({"strides": [1, 0]}, "strides is [1, 0], expected positive numbers"),
        ({"auto_pad": "SAME"}, "auto_pad is 'SAME', expected one of NOTSET, VALID, SAME_UPPER, SAME_LOWER"),
        ({"kernel_shape": [3, 3]}, "kernel_shape is [3, 3], but its weight has a kernel of [3, 2]"),
        ({"kernel_shape": [3]}, "kernel_shape is [3], but its weight has a kernel of [3, 2]"),
        ({"ceil_mode": 1}, "Conv has no attribute ceil_mode"),
    ],
)
def test_windows_that_do_not_fit_are_refused(attributes: dict[str, Any], reason: str) -> None:
    assert refused(conv, X, W, **attributes) == reason


def test_a_pool_needs_its_kernel_and_one_that_fits_its_input() -> None:
    assert refused(pool, X) == "its attribute kernel_shape is missing"
    assert (
        refused(pool, X, kernel_shape=[2]) == "its kernel has 1 axes, its input 2 besides batch and channels"
    )


# ---- recurrent layers ---------------------------------------------------------------------------------------

steps = bound("Recurrent", lambda xp, x, *, recurrence: recurrence)


def test_a_recurrence_has_the_default_activations_of_every_direction() -> None:
    made = steps(None, X, cell="GRU", direction="bidirectional", hidden_size=4)
    assert made.activations == ("Sigmoid", "Tanh") * 2
    assert made.backwards == (False, True)
    assert made.usual
    assert made.plain


def test_activations_go_by_onnx_names_however_they_are_spelt() -> None:
    made = steps(None, X, cell="RNN", activations=["leakyrelu"], activation_alpha=[0.3])
    assert (made.activations, made.alpha, made.usual, made.plain) == (("LeakyRelu",), (0.3,), False, False)


def test_an_operator_of_onnx_is_its_own_cell() -> None:
    assert Recurrence.of("LSTM", (), {}).cell == "LSTM"


@pytest.mark.parametrize(
    "attributes, reason",
    [
        ({"cell": "SRU"}, "cell is 'SRU', expected one of LSTM, GRU, RNN"),
        ({"direction": "up"}, "direction is 'up', expected one of forward, reverse, bidirectional"),
        ({"activations": ["Tanh"]}, "it lists 1 activations, expected 3"),
        ({"layout": 1}, "Recurrent has no attribute layout"),
    ],
)
def test_recurrences_that_do_not_fit_are_refused(attributes: dict[str, Any], reason: str) -> None:
    assert refused(steps, X, **{"cell": "LSTM", **attributes}) == reason


def test_an_unknown_activation_is_refused_by_name() -> None:
    assert refused(steps, X, cell="RNN", activations=["Sine"]).startswith(
        "activation 'Sine', expected one of Affine"
    )
