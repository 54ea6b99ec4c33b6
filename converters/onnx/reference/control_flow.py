"""Control flow of ONNX's reference evaluator that does not take all forms which the standard has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from netferry.converters.signature import Array


class Scan(OpRun):
    """The evaluator's steps along first axes alone, and forwards alone."""

    op_domain = ""

    def __init__(self, onnx_node: onnx.NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(onnx_node, run_params)  # type: ignore[no-untyped-call]
        body: Any = self.body  # type: ignore[attr-defined]
        self.input_names, self.output_names = list(body.input_names), list(body.output_names)

    def need_context(self) -> bool:
        return True

    def _run(  # type: ignore[override]
        self,
        *values: Array,
        context: Mapping[str, Any] | None = None,
        num_scan_inputs: int,
        scan_input_axes: Sequence[int] | None = None,
        scan_input_directions: Sequence[int] | None = None,
        scan_output_axes: Sequence[int] | None = None,
        scan_output_directions: Sequence[int] | None = None,
        **_others: Any,
    ) -> tuple[Array, ...]:
        carried = len(values) - num_scan_inputs
        states, given = list(values[:carried]), values[carried:]
        rows = [
            _turned(np.moveaxis(array, axis, 0), backwards)
            for array, axis, backwards in zip(
                given, scan_input_axes or [0] * len(given), scan_input_directions or [0] * len(given), strict=True,
            )
        ]  # fmt: skip
        stacks: list[list[Array]] = [[] for _ in self.output_names[carried:]]
        if stacks and not len(rows[0]):
            raise RuntimeError("a Scan without a step does not say the sizes of its outputs")
        for step in zip(*rows, strict=True):
            feed = dict(context or {}) | dict(zip(self.input_names, [*states, *step], strict=True))
            found = self._run_body(feed)  # type: ignore[attr-defined]
            states = list(found[:carried])
            for stack, array in zip(stacks, found[carried:], strict=True):
                stack.append(array)
        stacked = (
            np.moveaxis(_turned(np.stack(stack), backwards), 0, axis)
            for stack, axis, backwards in zip(
                stacks, scan_output_axes or [0] * len(stacks), scan_output_directions or [0] * len(stacks), strict=True,
            )
        )  # fmt: skip
        return (*states, *stacked)


def _turned(array: Array, backwards: int) -> Array:
    return array[::-1] if backwards else array
