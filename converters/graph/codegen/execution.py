"""A generated program becomes a module in memory."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType


def module_of(text: str, name: str) -> ModuleType:
    """Execute ``text`` as the module ``name``; tracebacks, ``inspect.getsource`` and pickle find it under that name."""
    file = f"<{name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(name)
    module.__file__ = file
    exec(compile(text, file, "exec"), module.__dict__)
    sys.modules.setdefault(name, module)
    return module
