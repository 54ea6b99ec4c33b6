"""Names of values as legal Python identifiers."""

from __future__ import annotations

import keyword
import re


def identifier(text: str) -> str:
    """A legal Python identifier that still reads like ``text``; never a keyword, never empty.

    What exporters hang on the name of a node to name its output (``/conv1/Conv_output_0``) is left out.
    """
    word = re.sub(r"\W+", "_", re.sub(r"(?<=\w)(_output(_\d+)?|:\d+)$", "", text), flags=re.ASCII).strip("_")
    if not word or word[0].isdigit():
        word = f"x_{word}" if word else "x"
    return f"{word}_" if keyword.iskeyword(word) or keyword.issoftkeyword(word) else word
