"""A model that was imported into MXNet: the symbol and its weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from netferry.converters.imported import ImportedModel
from netferry.converters.mxnet import symbol
from netferry.converters.signature import Array


@dataclass(frozen=True)
class ImportedSymbol(ImportedModel):
    """An imported model that is a symbol: ``graph`` and ``weights`` are what stands in MXNet's two files.

    ``states`` are the weights that MXNet keeps as auxiliary states (BatchNorm's statistics), ``constants``
    those that no training changes.
    """

    graph: symbol.Symbol = field(default=symbol.Symbol((), ()), repr=False)
    states: frozenset[str] = frozenset()
    constants: frozenset[str] = frozenset()

    @property
    def params(self) -> dict[str, Array]:
        """The weights as a params file names them."""
        return {
            ("aux:" if name in self.states else "arg:") + name: array for name, array in self.weights.items()
        }
