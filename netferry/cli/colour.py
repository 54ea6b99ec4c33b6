"""A verdict in its colour, where a person looks at a terminal; in a file or a pipe, and with NO_COLOR, words are words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_COLOURS: Mapping[str, int] = {"passed": 32, "failed": 31, "not_checked": 33, "refused": 31}
"""The codes of ECMA-48 (SGR) for green, red and yellow."""

_VERDICT = re.compile(rf"^(\s*(?:[^\n]*?: )?)({'|'.join(_COLOURS)})\b", re.MULTILINE)
"""What a line begins with, or says first of what it names."""


def is_wanted(stream: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an open file is a terminal that shows colours to someone who wants them (https://no-color.org)."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    if os.name == "nt" and "WT_SESSION" not in environment:  # older consoles print the codes
        return False
    return os.isatty(stream)


def of_verdicts(text: str) -> str:
    """The text with each verdict in bold and in its colour."""
    return _VERDICT.sub(lambda found: f"{found[1]}\033[1;{_COLOURS[found[2]]}m{found[2]}\033[0m", text)
