"""ONNX's own backend suite: the node cases, the same with weights as initializers, and how outputs compare.

The expected outputs are the suite's. A target that cannot carry a case lists it, with the reason, in
``tests/exclusions/<target>.txt``; the tests then demand that it is refused.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, TypeProto, numpy_helper

SEED = 20261123

AS_RUNTIMES = frozenset(f"test_resize_downsample_scales_{mode}_align_corners" for mode in ("linear", "cubic"))
"""Cases whose expected outputs are onnxruntime's: the suite aligns corners with a size that is not whole, which no runtime
does (nor PyTorch, whose exporter writes the operator)."""

STANDARD_TYPES = frozenset(
    getattr(TensorProto, name)
    for name in "FLOAT DOUBLE FLOAT16 BFLOAT16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()
)
RANDOM_OPERATORS = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)


@dataclass(frozen=True)
class Case:
    """One case of the suite.

    ``data`` holds pairs of inputs and expected outputs: arrays (the small floats as those of ``ml_dtypes``),
    lists for sequences, None for an empty optional. ``core``: plain tensors of standard types, the default
    domain alone. ``random``: only dtype and shape of the outputs can be compared.
    """

    name: str
    model: ModelProto = field(repr=False)
    data: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...] = field(repr=False)
    rtol: float
    atol: float
    core: bool
    random: bool

    @property
    def operators(self) -> frozenset[str]:
        return frozenset(operators(self.model.graph))


def operators(graph: onnx.GraphProto) -> Iterator[str]:
    """The operators of a graph and of its subgraphs."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from operators(attribute.g)


@cache
def cases(kind: str = "node") -> tuple[Case, ...]:
    """Every case of the suite; loaded once, in some five seconds."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(_case(test) for test in load_model_tests(kind=kind))


def case(name: str) -> Case:
    """The case of this name."""
    return _by_name()[name]


@cache
def _by_name() -> Mapping[str, Case]:
    return {case.name: case for case in cases()}


def _case(test: Any) -> Case:
    model = test.model
    data = tuple((tuple(map(_array, xs)), tuple(map(_array, ys))) for xs, ys in test.data_sets)
    if test.name in AS_RUNTIMES:
        data = tuple((xs, _run(model, xs)) for xs, _ in data)
    used = frozenset(operators(model.graph))
    values = [*model.graph.input, *model.graph.output]
    return Case(
        name=test.name,
        model=model,
        data=data,
        rtol=test.rtol,
        atol=test.atol,
        core={opset.domain for opset in model.opset_import} == {""}
        and all(_standard(v.type) for v in values),
        random=bool(used & RANDOM_OPERATORS) or test.name.startswith("test_training_dropout"),
    )


def _run(model: ModelProto, arrays: Sequence[Any]) -> tuple[Any, ...]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return tuple(session.run(None, dict(zip(names, arrays, strict=True))))


def _standard(kind: TypeProto) -> bool:
    return kind.HasField("tensor_type") and kind.tensor_type.elem_type in STANDARD_TYPES


def _array(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return [_array(item) for item in value] if isinstance(value, list | tuple) else np.asarray(value)


# ---- the variant in which weights are weights ---------------------------------------------------------


def freeze(case: Case) -> Case | None:
    """Every input but the first becomes an initializer, as in trained models.

    None where there is only one input, or where one of the others is no tensor.
    """
    if not _can_freeze(case):
        return None
    inputs = list(case.model.graph.input)
    first, *others = case.data[0][0]
    model = ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 8)
    del model.graph.input[1:]
    model.graph.initializer.extend(
        numpy_helper.from_array(value, info.name) for info, value in zip(inputs[1:], others, strict=True)
    )
    return replace(case, name=f"{case.name}_frozen", model=model, data=(((first,), case.data[0][1]),))


def _can_freeze(case: Case) -> bool:
    others = case.data[0][0][1:]
    return bool(others) and all(isinstance(value, np.ndarray) for value in others)


# ---- which cases run -----------------------------------------------------------------------------------


@cache
def everyday() -> frozenset[str]:
    """A seeded half of the cases in which every operator appears; ``scripts/test --all`` runs all of them."""
    rest = list(cases())
    random.Random(SEED).shuffle(rest)
    seen: set[str] = set()
    first = [case for case in rest if not case.operators <= seen and not seen.update(case.operators)]
    chosen = {case.name for case in first}
    others = (case.name for case in rest if case.name not in chosen)
    return frozenset(
        [*chosen, *(name for name, _ in zip(others, range(len(rest) // 2 - len(chosen)), strict=False))]
    )


def parameters(*, frozen: bool = False) -> list[Any]:
    """The names of all cases as pytest parameters; those that are not for every day are marked slow."""
    slow = pytest.mark.slow
    return [
        pytest.param(case.name, marks=[] if case.name in everyday() else [slow])
        for case in cases()
        if not frozen or _can_freeze(case)
    ]


# ---- how outputs compare ---------------------------------------------------------------------------------

_TWO_ULP = {"bfloat16": 2**-6, "float16": 2**-9}
"""Least relative tolerance: every operation rounds, in whatever order a framework does them."""


def check(case: Case, outputs: Sequence[Any], expected: Sequence[Any]) -> None:
    """Raise AssertionError unless count, dtype, shape and values agree; NaN equals NaN."""
    assert len(outputs) == len(expected), f"{len(outputs)} outputs instead of {len(expected)}"
    for place, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        _check(case, got, want, f"output {place}")


def _check(case: Case, got: Any, want: Any, where: str) -> None:
    if want is None:
        assert got is None, f"{where} is something instead of nothing"
        return
    if isinstance(want, list):
        assert isinstance(got, list | tuple), f"{where} is {type(got).__name__} instead of a sequence"
        assert len(got) == len(want), f"{where} has {len(got)} elements instead of {len(want)}"
        for place, (one, other) in enumerate(zip(got, want, strict=True)):
            _check(case, one, other, f"{where}[{place}]")
        return
    got = np.asarray(got)
    assert got.shape == want.shape, f"{where} has shape {got.shape} instead of {want.shape}"
    if want.dtype.kind in "OUST":
        assert np.array_equal(got.astype(object), want.astype(object)), f"{where} differs"
        return
    assert got.dtype == want.dtype, f"{where} has dtype {got.dtype} instead of {want.dtype}"
    if not case.random:
        rtol = max(case.rtol, _TWO_ULP.get(want.dtype.name, 0))
        np.testing.assert_allclose(_wide(got), _wide(want), rtol=rtol, atol=case.atol, err_msg=where)


def _wide(array: np.ndarray) -> np.ndarray:
    """Small floats and integers as a type that numpy compares."""
    return array if array.dtype.isbuiltin == 1 else array.astype(np.float32)


# ---- what a target does not carry --------------------------------------------------------------------------


@dataclass(frozen=True)
class Exclusions:
    """The lines of ``tests/exclusions/<target>.txt``: ``pattern: reason``, ``#`` begins a comment."""

    reasons: Mapping[str, str]

    def reason(self, name: str) -> str | None:
        """Why the case of this name is not carried; None where it is."""
        if name in self.reasons:
            return self.reasons[name]
        return next((why for pattern, why in self.reasons.items() if fnmatchcase(name, pattern)), None)

    def __contains__(self, name: str) -> bool:
        return self.reason(name) is not None


@cache
def excluded(target: str) -> Exclusions:
    """What ``target`` does not carry, with the reasons; patterns match the case's name (frozen ones end in ``_frozen``)."""
    path = Path(__file__).parent / "exclusions" / f"{target}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = (line.split(":", 1) for line in lines if line.strip() and not line.startswith("#"))
    return Exclusions({pattern.strip(): why.strip() for pattern, why in rows})


# ---- whole networks of onnx's wheel -------------------------------------------------------------------

SATURATED = ("light_squeezenet",)
"""Networks whose Softmax gets a thousand equal numbers of 1e10: the last bit of one sum, which is another with every
processor's kernels, would decide it. Their outputs are compared before it."""


def light(path: Path) -> ModelProto:
    """A network of the wheel, without the Softmax at its end where that is ``SATURATED``."""
    proto = onnx.load(path)
    if path.stem in SATURATED:
        last = proto.graph.node.pop()
        assert last.op_type == "Softmax"
        assert len(proto.graph.output) == 1
        proto.graph.output[0].name = last.input[0]
    return proto
