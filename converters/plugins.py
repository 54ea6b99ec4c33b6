"""Operators and layers that installed packages bring along: their entry points in the group ``netferry.plugins``.

    [project.entry-points."netferry.plugins"]
    softcap = "my_ops.netferry"

The module is imported before the first model is read, once in each process, and registers what it has (``netferry.operator``,
``netferry.exporter``). A package is code that the person has installed; NETFERRY_PLUGINS=off leaves them all out.
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib.metadata import entry_points

GROUP = "netferry.plugins"


class PluginWarning(UserWarning):
    """A package's plug-in could not be loaded; what it defines is unknown."""


@cache
def load() -> tuple[str, ...]:
    """Import them all; the names of those that are there. One that fails costs no other, and a warning names it."""
    if os.environ.get("NETFERRY_PLUGINS", "").lower() == "off":
        return ()
    loaded = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            warnings.warn(
                f"the plug-in '{entry.name}' ({entry.value}) cannot be loaded: {type(error).__name__}: {error}",
                PluginWarning,
                stacklevel=2,
            )
        else:
            loaded.append(entry.name)
    return tuple(loaded)
