"""Signals: Fourier transforms, windows and filters."""

from __future__ import annotations

import math
from typing import Any

from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import (
    FLOAT32,
    FLOAT64,
    INT64,
    OPS,
    Row,
    Sizes,
    along,
    as_dtype,
    dtype_of,
    ints,
    op,
    shaped,
)


@op
def DFT(
    xp: Any,
    x: Symbol,
    dft_length: Sizes | None = None,
    axis: Sizes | None = None,
    *,
    inverse: int,
    onesided: int,
) -> Any:
    """Complex numbers are a last axis of 2; one of 1 holds real numbers."""
    position = along(-2 if axis is None else ints(axis, "axis")[0], x.ndim)
    size = x.shape[position]
    whole = 2 * (size - 1) if inverse and onesided else size
    length = whole if dft_length is None else dft_length[0]
    return xp.dft(x, position, length, bool(inverse), bool(onesided))


@op
def STFT(
    xp: Any,
    signal: Symbol,
    frame_step: Sizes,
    window: Symbol | None = None,
    frame_length: Sizes | None = None,
    *,
    onesided: int,
) -> Any:
    """The transform of each frame, ``signal``: (batch, length, 1 or 2), or (batch, length) of real numbers, which runtimes take too."""
    if signal.ndim == 2:
        signal = xp.expand_dims(signal, (2,))
    length = signal.shape[1]
    frame = frame_length[0] if frame_length is not None else length if window is None else window.shape[0]
    count = (length - frame) // frame_step[0] + 1
    starts = xp.expand_dims(xp.arange(0, count, 1, INT64) * frame_step[0], (1,))
    frames = xp.take(signal, starts + xp.arange(0, frame, 1, INT64), 1)
    if window is not None:
        frames = frames * xp.expand_dims(window, (1,))
    frames = shaped(frames, (signal.shape[0], count, frame, signal.shape[2]))
    return xp.dft(frames, 2, frame, False, bool(onesided))


def _cosine_window(*terms: float) -> Row:
    """The sum of a_k cos(2 pi k n / N), N the size, or one less where the window is not periodic."""

    def row(xp: Any, size: Sizes, *, output_datatype: int, periodic: int) -> Any:
        span = size[0] if periodic else size[0] - 1
        n = xp.arange(0, size[0], 1, FLOAT32)
        angle = (
            n * (2 * math.pi) / span if isinstance(span, Size) else n * (2 * math.pi / span if span else 0)
        )
        waves = (a * xp.cos(angle * k if k > 1 else angle) for k, a in enumerate(terms[1:], 1))
        return as_dtype(xp, sum(waves, start=terms[0]), dtype_of(output_datatype))

    return row


OPS.row("HannWindow")(_cosine_window(0.5, -0.5))
OPS.row("HammingWindow")(_cosine_window(25 / 46, -21 / 46))
OPS.row("BlackmanWindow")(_cosine_window(0.42, -0.5, 0.08))


@op
def MelWeightMatrix(
    xp: Any,
    num_mel_bins: Sizes,
    dft_length: Sizes,
    sample_rate: Sizes,
    lower_edge_hertz: Symbol,
    upper_edge_hertz: Symbol,
    *,
    output_datatype: int,
) -> Any:
    """Triangles on the mel scale, (length // 2 + 1, bins): each column rises to 1 at its centre and falls to 0 at the next one's."""
    bins, length, rate = num_mel_bins[0], dft_length[0], sample_rate[0]
    rows = length // 2 + 1
    if isinstance(bins, int) and isinstance(rows, int):
        budget.make(bins * rows)
    low, high = (_mel(xp, edge) for edge in (lower_edge_hertz, upper_edge_hertz))
    steps = xp.astype(xp.arange(0, bins + 2, 1, INT64), FLOAT64)
    mels = low + steps * (high - low) / (bins + 2)
    hertz = (xp.exp(mels * (math.log(10) / 2595)) - 1) * 700
    positions = xp.floor(hertz * (length + 1) / rate)
    left, centre, right = (xp.take(positions, xp.arange(n, bins + n, 1, INT64), 0) for n in range(3))
    row = xp.expand_dims(xp.astype(xp.arange(0, rows, 1, INT64), FLOAT64), (1,))
    up, down = centre - left, right - centre
    rise = xp.where(xp.equal(up, 0), 1, (row - left) / xp.maximum(up, 1))
    fall = (right - row) / xp.maximum(down, 1)
    inside = xp.where(xp.logical_and(row >= left, row <= centre), rise, 0)
    return as_dtype(
        xp, xp.where(xp.logical_and(row >= centre, row < right), fall, inside), dtype_of(output_datatype)
    )


def _mel(xp: Any, hertz: Symbol) -> Any:
    """The mel scale: 2595 log10(1 + hertz / 700)."""
    return xp.log(as_dtype(xp, hertz, FLOAT64) / 700 + 1) * (2595 / math.log(10))
