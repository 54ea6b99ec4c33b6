"""ONNX's own suite through the numpy walk: the operator table itself, before any framework speaks it."""

from __future__ import annotations

from typing import Any

import pytest
from onnx_cases import Case, case, check, excluded, freeze, parameters

from netferry.converters.errors import NetferryError
from netferry.converters.graph.numpy.fold import NumpyNamespace, NumpyWalk, run
from netferry.converters.graph.passes.normalize import plan

EXCLUDED = excluded("numpy")


def carried(case: Case, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The outputs of the whole road from a file to numbers, with nothing but numpy at its end."""
    made = plan(case.model)
    return run(NumpyWalk(made, NumpyNamespace()), dict(zip(made.graph.inputs, inputs, strict=True)))


def compare(case: Case) -> None:
    """The suite's outputs, or a refusal where the case is listed."""
    for inputs, expected in case.data:
        if case.name in EXCLUDED:
            with pytest.raises(NetferryError):
                carried(case, inputs)
        else:
            check(case, carried(case, inputs), expected)


@pytest.mark.parametrize("name", parameters())
def test_the_table_gives_what_onnx_expects(name: str) -> None:
    compare(case(name))


@pytest.mark.parametrize("name", parameters(frozen=True))
def test_the_table_gives_the_same_where_weights_are_initializers(name: str) -> None:
    frozen = freeze(case(name))
    assert frozen is not None
    compare(frozen)
