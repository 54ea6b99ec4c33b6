"""Operators on signals of ONNX's reference evaluator that do not run at all inputs which the standard, or a runtime, has."""

from __future__ import annotations

import numpy as np
from onnx.reference.op_run import OpRun

from netferry.converters.signature import Array


class STFT(OpRun):
    """The evaluator's goes frame by frame, and fails at a signal of real numbers without their axis."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self,
        signal: Array,
        step: Array,
        window: Array | None = None,
        length: Array | None = None,
        *,
        onesided: int = 1,
    ) -> tuple[Array]:
        """signal: (batch, length), or (batch, length, 1 or 2); gives (batch, frames, bins, 2)."""
        x = np.asarray(signal if signal.ndim == 3 else signal[..., None], np.float64)
        values = x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]
        size = int(length) if length is not None else values.shape[1] if window is None else len(window)
        starts = np.arange(0, values.shape[1] - size + 1, int(step))
        frames = values[:, starts[:, None] + np.arange(size)]
        found = np.fft.fft(frames if window is None else frames * window.astype(np.float64))
        bins = size // 2 + 1 if onesided else size
        return (np.stack([found.real, found.imag], -1)[:, :, :bins],)


class Pad(OpRun):
    """The evaluator's knows no negative pads, which take away."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self,
        data: Array,
        pads: Array,
        value: Array | None = None,
        axes: Array | None = None,
        *,
        mode: str = "constant",
    ) -> tuple[Array]:
        places = range(data.ndim) if axes is None else [int(axis) % data.ndim for axis in axes]
        given = np.asarray(pads).reshape(2, -1)
        pairs = np.zeros((data.ndim, 2), np.int64)
        pairs[list(places)] = given.T
        kept = [
            slice(max(-a, 0), size - max(-b, 0))
            for (a, b), size in zip(pairs.tolist(), data.shape, strict=True)
        ]
        words = (
            {"constant_values": 0 if value is None else np.asarray(value).reshape(())}
            if mode == "constant"
            else {}
        )
        return (np.pad(data[tuple(kept)], np.maximum(pairs, 0), mode, **words),)  # type: ignore[call-overload]
