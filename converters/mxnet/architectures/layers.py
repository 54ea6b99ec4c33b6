"""What a table of architectures is written with: layers, chains of them, sums and branches.

A part is a ``Layer``, a tuple of parts in their order, a ``Sum``, a ``Branches``, a ``Wired`` or a ``Tap``. Weights come in the order
in which the parts are written, which is that in which gluon registers them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """An operator of MXNet; ``weights`` are the roles of its parameters.

    ``shape``: what is known of its first weight's, None for a size that any may have. ``counts`` names the attribute that
    is that weight's first size.
    """

    op: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()
    counts: str = ""


@dataclass(frozen=True)
class Sum:
    """Two ways added; ``before`` is what both read. ``other`` may be empty: what comes in is added to what goes out.

    ``other_first``: the weights of ``other`` stand before those of ``main``.
    """

    main: Part
    other: Part = ()
    before: Part = ()
    other_first: bool = False


@dataclass(frozen=True)
class Branches:
    """Ways that lie side by side among the channels of the result."""

    ways: tuple[Part, ...]


@dataclass(frozen=True)
class Tap:
    """What passes here is also one of the features that a ``Wired`` network reads (``Wiring.features``)."""


@dataclass(frozen=True)
class Wired:
    """Parts whose weights come in this order, and how they are connected.

    ``connect`` is given a ``builder.Wiring``, each of the parts as a ``builder.Taken`` and what comes in; it returns what comes out,
    a list where a whole network has several outputs. ``note``: what the weights do not tell.
    """

    parts: tuple[Part, ...]
    connect: Callable[..., Any]
    note: str = ""


Part = Union[Layer, Sum, Branches, Tap, Wired, "tuple[Part, ...]"]


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def conv(
    filters: int | None,
    kernel: Pair,
    stride: int = 1,
    pad: Pair = 0,
    groups: int = 1,
    *,
    bias: bool = False,
    dilate: int = 1,
) -> Layer:
    """A convolution; ``filters`` None is as many as the file has."""
    sizes = _pair(kernel)
    attrs = {
        "kernel": str(sizes), "stride": str(_pair(stride)), "pad": str(_pair(pad)), "num_group": str(groups), "no_bias": str(not bias),
        "dilate": str(_pair(dilate)),
    }  # fmt: skip
    weights = ("weight", "bias") if bias else ("weight",)
    return Layer("Convolution", attrs, weights, (filters, None, *sizes), "num_filter")


def deconv(filters: int, kernel: int, stride: int, pad: int) -> Layer:
    attrs = {
        "kernel": str(_pair(kernel)), "stride": str(_pair(stride)), "pad": str(_pair(pad)), "no_bias": "True", "num_filter": str(filters),
    }  # fmt: skip
    return Layer("Deconvolution", attrs, ("weight",), (None, filters, kernel, kernel))


def dense(units: int | None = None) -> Layer:
    return Layer("FullyConnected", {"flatten": "True"}, ("weight", "bias"), (units, None), "num_hidden")


def norm(eps: float = 1e-5, *, fixed: bool = False) -> Layer:
    """A BatchNorm; ``fixed``: its scale counts as one."""
    attrs = {"eps": str(eps), "fix_gamma": str(fixed)}
    return Layer("BatchNorm", attrs, ("gamma", "beta", "running_mean", "running_var"), (None,))


def held(role: str, *shape: int | None) -> Layer:
    """A variable that no operator has as its weight: a scale, or a constant that gluon keeps in the file."""
    return Layer("", {}, (role,), shape)


def pool(kind: str, kernel: int, stride: int, pad: int = 0, *, full: bool = False) -> Layer:
    attrs = {
        "pool_type": kind, "kernel": str(_pair(kernel)), "stride": str(_pair(stride)), "pad": str(_pair(pad)),
        "pooling_convention": "full" if full else "valid",
    }  # fmt: skip
    return Layer("Pooling", attrs)


def average_inside(size: int) -> Layer:
    """Averages of squares, of what lies inside of the image where the last does not."""
    attrs = {"pool_type": "avg", "kernel": str(_pair(size)), "stride": str(_pair(size))}
    return Layer("Pooling", {**attrs, "pooling_convention": "full", "count_include_pad": "False"})


RELU = Layer("Activation", {"act_type": "relu"})
LEAKY = Layer("LeakyReLU", {"act_type": "leaky", "slope": "0.1"})
RELU6 = Layer("clip", {"a_min": "0", "a_max": "6"})
WHOLE_AVERAGE = Layer("Pooling", {"pool_type": "avg", "global_pool": "True", "kernel": "(1, 1)"})
FLATTEN = Layer("Flatten")
