"""What is known of a value before the model runs: dtype, sizes, content, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.ir.sizes import Size
from netferry.converters.signature import Array


def is_float(dtype: np.dtype[Any] | None) -> bool:
    """Floats of every width, those of ``ml_dtypes`` too."""
    return dtype is not None and (dtype.kind == "f" or dtype.name.startswith(("bfloat", "float")))


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of one value.

    ``dims`` is None where not even the rank is known. ``content`` is the value of a constant; an array of
    dtype object where it holds integers of which some are a ``Size``. ``fill`` is the one number that every
    element has, also where the sizes are free (an LSTM's zero state). ``name`` is the source's name of a
    weight, kept through every folding; ``trainable`` tells a weight from a constant of the graph.
    """

    dtype: np.dtype[Any] | None
    dims: tuple[int | Size, ...] | None = None
    content: Array | None = None
    fill: int | float | bool | None = None
    name: str = ""
    trainable: bool = False

    @property
    def constant(self) -> Array | None:
        """The content, where all of it is plain numbers."""
        return None if self.content is None or self.content.dtype == object else self.content


@dataclass(frozen=True, slots=True)
class Home:
    """Where a free size can be read when the model runs.

    ``dim``: the size of axis ``index`` of ``value``; ``element``: its element ``index`` (of a scalar, 0).
    """

    value: ir.Value
    kind: Literal["dim", "element"]
    index: int


@dataclass(frozen=True)
class Plan:
    """A graph ready for the walk: one opset, no functions, constants folded, a fact for every value.

    ``homes`` says where each free size is read. ``read`` holds, for a value that an operator takes as sizes
    and whose content is not known, the free sizes that stand for its elements. ``integers``: whether weights that the
    file holds as small integers stay so.
    ``names`` maps values that were renamed or fused away to the source's own names.
    """

    graph: ir.Graph
    facts: Mapping[ir.Value, Fact]
    homes: Mapping[str, Home]
    read: Mapping[ir.Value, tuple[int | Size, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    integers: bool = False

    @property
    def sizes(self) -> Mapping[str, Sequence[int | None]]:
        """The sizes of the inputs, as far as they are numbers."""
        return {
            str(value.name): [dim if isinstance(dim, int) else None for dim in self.fact(value).dims or ()]
            for value in self.graph.inputs
        }

    def fact(self, value: ir.Value) -> Fact:
        """What is known of a value; of an output that nobody asked for, nothing."""
        return self.facts.get(value) or Fact(None)
