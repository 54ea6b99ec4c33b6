"""Modules that are put off until something of them is used.

onnx_ir imports sympy, which takes half of its time, for arithmetic on symbolic sizes that netferry does itself
(``converters/graph/ir/sizes.py``). Whoever does use sympy gets it whole.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

LAZY = frozenset({"sympy", "onnx_ir._symbolic_shapes"})


class _LazyModule:
    """A finder for these modules alone; all others are found as ever."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LAZY else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def defer_imports() -> None:
    """From now on these modules are imported when they are first used."""
    if not any(finder is _LazyModule for finder in sys.meta_path):
        sys.meta_path.insert(0, _LazyModule)
