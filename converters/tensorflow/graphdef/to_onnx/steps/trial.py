"""The step of a loop, written by itself and run on numbers drawn by chance, with weights drawn by chance in place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array, TensorSpec
from netferry.converters.tensorflow.graphdef.restore import Handle
from netferry.converters.tensorflow.graphdef.to_onnx import loops
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.lists import Element, Growing
from netferry.converters.tensorflow.graphdef.to_onnx.steps.cells import Trial
from netferry.converters.tensorflow.graphdef.to_onnx.steps.form import Form
from netferry.converters.tensorflow.graphdef.to_onnx.walk import Walk

_LARGEST = 1 << 26

_STEP = 3
"""Which step is tried: the number that counters have there."""

ALIVE = np.asarray([False, True, True])
"""The rows of a trial that the mask counts."""


class Probe(Walk):
    """Writes the step of a loop as a model of its own, in which each weight is an input."""

    def __init__(self, loop: loops.Loop, form: Form) -> None:
        super().__init__(loop.walk.model, Emitter("step"))
        self._loop, self._form = loop, form
        self._rng = np.random.default_rng(0)
        self._feeds: dict[str, Array] = {}
        self._weights: dict[Any, Tensor] = {}
        self._arrays: dict[Any, Array] = {}
        self._sources: dict[Any, tuple[Array, str]] = {}

    def read(self, handle: Handle) -> Tensor:
        if handle.name not in self._weights:
            array = self.model.variable(handle.name)
            self._weight(handle.name, array, self.model.title_of(handle.name))
        return self._weights[handle.name]

    def _weight(self, key: Any, array: Array, name: str) -> None:
        drawn = self._rng.standard_normal(array.shape).astype(array.dtype) * np.asarray(0.6, array.dtype)
        self._weights[key], self._arrays[key], self._sources[key] = self._input(drawn), drawn, (array, name)

    def _input(self, array: Array) -> Tensor:
        if array.size > _LARGEST:
            raise CannotConvert("too large to be tried")
        name = f"x{len(self._feeds)}"
        self._feeds[name] = array
        return self.g.input(TensorSpec(name, array.dtype, array.shape))

    def trial(self) -> tuple[Trial, Mapping[Any, tuple[Array, str]]]:
        loop, form = self._loop, self._form
        given: list[Any] = [self._kept(at, value) for at, value in enumerate(loop.given)]
        x = self._drawn(loop.given[form.sequence].tensor.dims[2], loop.given[form.sequence].dtype)
        given[form.sequence] = Element(self._input(x))
        states = [self._drawn(loop.given[at].dims[1], loop.given[at].dtype) for at in form.states]
        for at, state in zip(form.states, states, strict=True):
            given[at] = self._input(state)
        for at in form.counters:
            given[at] = self._input(np.asarray(_STEP, loop.given[at].dtype))
        masked = self._leaves_out(given)
        if form.yields is not None:
            given[form.yields] = Growing(loop.given[form.yields].dtype)
        results = self.outputs(loop.body, loop.body.returns, {}, given)
        wanted = [self.tensor(results[at]) for at in form.states]
        if form.yields is not None:
            wanted.append(results[form.yields].item)
        for position, value in enumerate(wanted):
            assert value is not None
            self.g.output(value, f"y{position}")
        made = self._run()
        item = made[-1] if form.yields is not None else None
        found = Trial(x, states, self._arrays, made[: len(states)], item, ALIVE if masked else None)
        return found, self._sources

    def _leaves_out(self, given: list[Any]) -> bool:
        """Leave out rows, where the loop can."""
        loop, form = self._loop, self._form
        if form.mask is not None:
            flat = len(loop.given[form.mask].tensor.dims) == 2
            given[form.mask] = Element(self._input(ALIVE if flat else ALIVE[:, None]))
        if form.lengths is not None:
            given[form.lengths] = self._input(
                np.where(ALIVE, [0, _STEP + 1, 9], _STEP).astype(loop.given[form.lengths].dtype)
            )
        return form.mask is not None or form.lengths is not None

    def _drawn(self, size: int, dtype: np.dtype[Any]) -> Array:
        return self._rng.standard_normal((len(ALIVE), size)).astype(dtype)

    def _kept(self, position: int, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.array is None:
            if self._loop.walk.g.is_zero(value):
                return self._input(np.zeros(_dims(value), value.dtype))
            return self._input(self._rng.standard_normal(_dims(value)).astype(value.dtype))
        if value.dtype.kind != "f" or value.array.ndim == 0:
            return self.g.constant(value.array)
        self._weight(position, value.array, value.name)
        return self._weights[position]

    def _run(self) -> list[Array]:
        model = ReferenceEvaluator(ir.to_proto(self.g.finish()))
        names = {value.name for value in model.proto_.graph.input}
        with np.errstate(all="ignore"):
            return list(
                model.run(None, {name: array for name, array in self._feeds.items() if name in names})
            )


def _dims(x: Tensor) -> list[int]:
    return [dim if isinstance(dim, int) else len(ALIVE) for dim in x.dims or ()]
