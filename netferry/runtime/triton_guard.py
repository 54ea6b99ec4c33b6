"""A library that would take the process down if it were loaded now: refused, so that its users do without it.

TensorFlow's wheels from 2.20 on load their LLVM where every later library finds its symbols (RTLD_GLOBAL). triton binds
to them and crashes, and torch imports triton, where it is installed, with its optimisers and its exporter. At an
ImportError torch goes on without: only its compiler for GPUs needs triton. Imported before TensorFlow it is no trouble.

Source: https://github.com/tensorflow/tensorflow/issues/124205
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

GLOBAL_LLVM = "tensorflow.python.pywrap_dlopen_global_flags"
"""The module with which TensorFlow loads itself so."""


class _Refused(Loader):
    def exec_module(self, module: ModuleType) -> None:
        raise ImportError(
            f"{module.__name__} crashes when it is loaded after TensorFlow, so netferry does not let it: import it first",
            name=module.__name__,
        )


class _Finder:
    """Finds triton where it would crash; it is found as ever elsewhere, and all other modules are."""

    @staticmethod
    def find_spec(
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG004
        target: ModuleType | None = None,  # noqa: ARG004
    ) -> ModuleSpec | None:
        return ModuleSpec(name, _Refused()) if name == "triton" and GLOBAL_LLVM in sys.modules else None


def guard_triton() -> None:
    """From now on triton is not loaded after TensorFlow."""
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder)
