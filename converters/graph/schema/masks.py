"""Steps of a sequence that a mask leaves out, in a recurrent layer that hands state and output on over them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from netferry.converters.graph.ir.build import GraphBuilder, Tensor

_KINDS = {np.bool_: TensorProto.BOOL, np.int32: TensorProto.INT32, np.int64: TensorProto.INT64}


def _as(g: GraphBuilder, x: Tensor, kind: Any) -> Tensor:
    return x if x.dtype == kind else g.Cast(x, to=_KINDS[kind])


class MaskedSteps:
    """Steps that a mask (batch, time) leaves out, wherever they stand.

    Keras hands state and output on unchanged over a step that is left out. So the steps that count are packed to
    the front, in their order, the operator reads as many as there are (``sequence_lens``), and its outputs are
    taken back to where they belong: this is exact for a mask with holes as for one of padding.
    """

    def __init__(self, g: GraphBuilder, mask: Tensor) -> None:
        self._g = g
        self._mask = _as(g, mask, np.bool_)
        numbers = _as(g, self._mask, np.int64)
        self._so_far = g.CumSum(numbers, g.constant(1, np.int64))  # steps that count, up to and with this one
        self._before = g.Sub(self._so_far, numbers)
        self.count = _as(g, g.ReduceSum(numbers, g.ints(1), keepdims=0), np.int32)

    def packed(self, x: Tensor) -> Tensor:
        """(batch, time, ...) with the steps that count in front."""
        g = self._g
        steps = g.Shape(self._mask, start=1, end=2)
        one = g.constant(1, np.int64)
        position = g.Range(g.constant(0, np.int64), g.Squeeze(steps, g.ints(0)), one)
        order = g.Where(self._mask, position, g.Add(position, steps))
        indices = g.ops("TopK", order, steps, axis=1, largest=0, outputs=2)[1]
        return replace(self._taken(x, indices), dims=x.dims)

    def unpacked(self, sequence: Tensor, *, backwards: bool, zeros: bool) -> Tensor:
        """What was put out at each step that counts, and at the others what was put out last, or ``zeros``."""
        g = self._g
        if backwards:
            indices = g.Min(
                self._before,
                g.Sub(g.Unsqueeze(_as(g, self.count, np.int64), g.ints(1)), g.constant(1, np.int64)),
            )
            reached = g.Less(self._before, g.Unsqueeze(_as(g, self.count, np.int64), g.ints(1)))
        else:
            indices = g.Sub(self._so_far, g.constant(1, np.int64))
            reached = g.Greater(self._so_far, g.constant(0, np.int64))
        kept = self._mask if zeros else reached
        taken = self._taken(sequence, g.Max(indices, g.constant(0, np.int64)))
        return replace(
            g.Where(g.Unsqueeze(kept, g.ints(2)), taken, g.scalar(0, sequence)), dims=sequence.dims
        )

    def last_output(self, state: Tensor, *, backwards: bool, zeros: bool) -> Tensor:
        """What is put out at the last step that is read."""
        g = self._g
        if not zeros:
            return g.Where(self._any(), state, g.scalar(0, state))
        at = g.ints(0 if backwards else -1)
        return g.Where(g.Gather(self._mask, at, axis=1), state, g.scalar(0, state))

    def or_initial(self, state: Tensor, initial: Tensor | None) -> Tensor:
        """(directions, batch, hidden): where nothing counts, what it began with."""
        return self._g.Where(self._any(), state, self._g.scalar(0, state) if initial is None else initial)

    def _any(self) -> Tensor:
        """(batch, 1): whether any step counts."""
        g = self._g
        return g.Unsqueeze(g.Greater(self.count, g.constant(0, np.int32)), g.ints(1))

    def _taken(self, x: Tensor, indices: Tensor) -> Tensor:
        return self._g.GatherND(x, self._g.Unsqueeze(indices, self._g.ints(2)), batch_dims=1)


class Padded:
    """Steps behind the length of each row, of which ONNX's operators put out zeros. lengths: (batch,)."""

    def __init__(self, g: GraphBuilder, lengths: Tensor) -> None:
        self._g, self.lengths = g, lengths
        self.count = _as(g, lengths, np.int32)

    def packed(self, x: Tensor) -> Tensor:
        return x

    def unpacked(self, sequence: Tensor, *, backwards: bool, zeros: bool) -> Tensor:  # noqa: ARG002 - MaskedSteps'
        return sequence

    def or_initial(self, state: Tensor, initial: Tensor | None) -> Tensor:
        """(directions, batch, hidden): where a row has no step, what it began with."""
        g = self._g
        if initial is None:
            return state
        return g.Where(g.Unsqueeze(g.Greater(self.count, g.constant(0, np.int32)), g.ints(1)), state, initial)
