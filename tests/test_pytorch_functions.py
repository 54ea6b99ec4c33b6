"""PyTorch's functions to ONNX, one by one: a seeded part of the list, as it is written and by keyword. The sweep has all of it."""

from __future__ import annotations

import random

import pytest
from pytorch_calls import called, expressions, known_forms
from pytorch_oracle import Shape, check

pytest.importorskip("onnxruntime")

ALL = list(expressions())
DRAWN = random.Random(7).sample(ALL, 60)


@pytest.mark.parametrize(("shapes", "expression"), DRAWN, ids=[text for _, text in DRAWN])
def test_a_function_gives_what_pytorch_gives(shapes: tuple[Shape, ...], expression: str) -> None:
    check(called(expression, len(shapes)), *shapes, tolerance=3e-5)


@pytest.mark.parametrize(("shapes", "expression"), DRAWN[::3], ids=[text for _, text in DRAWN[::3]])
def test_a_function_takes_its_arguments_by_keyword(shapes: tuple[Shape, ...], expression: str) -> None:
    forms = known_forms(expression, shapes)
    if not forms:
        return
    check(called(expression, len(shapes), forms), *shapes, tolerance=3e-5)
