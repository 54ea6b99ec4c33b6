"""netferry converts a trained model from one framework to another and proves that the result is equal.

``convert``, ``verify``, ``check``, ``bisect``, ``diff``, ``run``, ``stream``, ``inspect``, ``precision``, ``bench`` and ``package`` do what
the commands of these names do; ``operator`` and ``exporter`` are for what is a person's own. All are loaded when they are first used.
"""

import sys

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.orig_argv[-len(sys.argv)].endswith("netferry"):
    # python -m netferry: the working folder would come before Python's own modules, and may hold anything.
    del sys.path[0]

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.runtime.lazy import defer_imports
from netferry.runtime.triton_guard import guard_triton
from netferry.version import VERSION as __version__  # noqa: N811 - its name in Python

if TYPE_CHECKING:
    from netferry.api import bisect, check, convert, inspect, run, verify
    from netferry.arguments import Reading
    from netferry.converters.errors import NetferryError
    from netferry.extending import exporter, operator
    from netferry.results import Conversion
    from netferry.tasks.bench import bench
    from netferry.tasks.diff import diff
    from netferry.tasks.optimizer_state import optimizer_state
    from netferry.tasks.package import package
    from netferry.tasks.precision import lower as precision
    from netferry.tasks.stream import stream
    from netferry.validation.reports.report import Report

__all__ = [
    "Conversion",
    "NetferryError",
    "Reading",
    "Report",
    "__version__",
    "bench",
    "bisect",
    "check",
    "convert",
    "diff",
    "exporter",
    "inspect",
    "operator",
    "optimizer_state",
    "package",
    "precision",
    "run",
    "stream",
    "verify",
]

_HOMES = {
    "Conversion": "netferry.api",
    "bench": "netferry.tasks.bench",
    "bisect": "netferry.api",
    "check": "netferry.api",
    "convert": "netferry.api",
    "diff": "netferry.tasks.diff",
    "exporter": "netferry.extending",
    "operator": "netferry.extending",
    "inspect": "netferry.api",
    "optimizer_state": "netferry.tasks.optimizer_state",
    "package": "netferry.tasks.package",
    "precision": "netferry.tasks.precision:lower",
    "run": "netferry.api",
    "stream": "netferry.tasks.stream",
    "verify": "netferry.api",
    "Reading": "netferry.arguments",
    "NetferryError": "netferry.converters.errors",
    "Report": "netferry.validation.reports.report",
}

defer_imports()
guard_triton()

for _folder in ("converters", "inference", "validation", "zoo"):
    if not (Path(__file__).parent / _folder).is_dir():
        raise ImportError(
            f"netferry/{_folder} should be a link to the folder {_folder}/ of the checkout and is not. "
            "On Windows, clone with: git clone -c core.symlinks=true (developer mode on), "
            "or install the wheel, which has no links."
        )


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netferry' has no attribute {name!r}")
    home, _, other = _HOMES[name].partition(":")
    value = globals()[name] = getattr(import_module(home), other or name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
