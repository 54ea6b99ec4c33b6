"""What an exporter hands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class ExportedModel:
    """A model as ONNX, with what a person should know of how it was made.

    ``route`` names the exporter (``direct``, ``torchscript``, ``dynamo``, ``tf2onnx``, ``as it is``);
    ``notes`` are sentences for the report: a fallback that was taken, a size that is fixed;
    ``weights`` maps an initializer to the source's weights that it was made of, where they differ.
    """

    model: ir.Model
    route: str = "direct"
    notes: tuple[str, ...] = ()
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
