"""What keeps a module from being traced; the exporter decides what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Untraceable(Exception):  # noqa: N818 - a finding
    """The module cannot be traced, and why; ``routes`` are the exporters that may still export it, ``remedy`` what a person may do.

    ``narrowings`` and ``hints`` are those of the trace until there: of a branch, the other side may be traced.
    """

    routes: tuple[str, ...] = ("torchscript", "dynamo")
    remedy: str = ""
    narrowings: Sequence[Any] = ()
    hints: Mapping[str, int] = {}

    def __init__(self, reason: str, line: str | None = None) -> None:
        self.reason = f"{reason} ({line})" if line else reason
        super().__init__(self.reason)


class DataDependent(Untraceable):
    """The code looks at a tensor's values: every exporter would keep one branch in silence."""

    routes = ()


class StaleAlias(Untraceable):
    """A tensor is read after a view of it was written: the TorchScript exporter gets this wrong in silence."""

    routes = ("dynamo",)


class Stateful(Untraceable):
    """The code changes the model as it runs: the same inputs do not give the same outputs."""

    routes = ()


class Gradient(Untraceable):
    """The code takes derivatives as it runs: the TorchScript exporter keeps those of one run in silence."""

    routes = ()
    remedy = "Write the derivative as a formula"


class OwnKernel(Untraceable):
    """The code calls what only PyTorch's own kernels compute."""

    routes = ()
    remedy = "Convert the model as it was before it was quantised, and quantise what comes of it"


class Random(Untraceable):
    """The code draws random numbers: what it gives in inference cannot be compared with anything."""

    routes = ()


class Complex(Untraceable):
    """What goes in or comes out is complex: no exporter supports it."""

    routes = ()
