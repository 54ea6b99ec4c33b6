"""Numbers that are written out in letters, as CSV has them."""

from __future__ import annotations

from typing import Any

from netferry.inference.data import require

_NUMBER = r"^[ \t]*[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|(?i:inf|infinity|nan))[ \t]*$"


def numbers_of(column: Any, name: str, known: set[str]) -> Any:
    """Text as int64 or float64; what is no number becomes null.

    So one bad cell costs one row. A column that holds no number at all stays text, unless it is among the ``known``
    ones, which held some before, and which it joins.
    """
    pc = require("pyarrow.compute")
    try:
        made = _cast(pc, column)
    except ValueError:
        fits = pc.match_substring_regex(column, _NUMBER)
        if name not in known and not pc.any(fits).as_py():
            return column
        made = _cast(pc, pc.utf8_trim_whitespace(pc.if_else(fits, column, None)))
    known.add(name)
    return made


def _cast(pc: Any, column: Any) -> Any:
    """Whole numbers first: float64 holds those of more than 53 bits only roughly."""
    try:
        return pc.cast(column, "int64")
    except ValueError:
        return pc.cast(column, "float64")
