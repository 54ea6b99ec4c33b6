"""LSTM, GRU and SimpleRNN, found again."""

from __future__ import annotations

from typing import Any


def recognised(loop: Any) -> list[Any] | None:
    return None
