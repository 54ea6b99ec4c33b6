"""Functions that an imported program brings along where PyTorch has no function for what ONNX means.

``from_onnx`` copies those that are called, as they stand in these files, into the module that it writes: each uses
``torch``, ``F``, ``math`` and its neighbours here and nothing else. The files are read as text; nothing imports torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from netferry.converters.graph.codegen.writer import loaded

_FILES = (
    "unsigned",
    "indexing",
    "spectra",
    "windows",
    "regions",
    "recurrent",
    "dynamic",
    "resizing",
    "decoding",
)
"""In the order in which a program holds their functions."""


def helper_text(names: Iterable[str]) -> str:
    """The functions that a program calls, and those that they call, as they stand here."""
    functions = _functions()
    wanted = list(names)
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in functions and name not in found:
            found.add(name)
            wanted += functions[name][1]
    return "\n\n\n".join(text for name, (text, _) in functions.items() if name in found)


def helper_names() -> tuple[str, ...]:
    return tuple(_functions())


@cache
def _functions() -> dict[str, tuple[str, frozenset[str]]]:
    """Each function's text, and the names that it reads."""
    found = {}
    for file in _FILES:
        text = Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = (ast.get_source_segment(text, node) or "", frozenset(loaded(node)))
    return found
