"""What an importer hands on: a model as a program of its new framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from netferry.converters.graph.ir.arrays import release
from netferry.converters.optimizer import OptimizerState
from netferry.converters.signature import Array, Signature


@dataclass(frozen=True)
class ImportedModel:
    """A model as a program of its new framework; the framework itself is imported when ``model`` is asked for.

    ``source`` is a Python module that builds the model and runs where netferry is not installed: it has a
    ``load(weights=None)`` that reads ``<module>.safetensors`` beside itself. ``weights`` are that file's arrays.
    ``names`` maps the source's weights to the parameters they have become. ``form`` names the kind of model
    (``module``, ``functional``, ``function``, ``symbol``); ``notes`` are sentences for the report. ``optimizer`` is what an optimizer of
    the source's keeps, for training to go on.
    """

    framework: str
    signature: Signature
    source: str
    weights: Mapping[str, Array] = field(repr=False)
    build: Callable[[], Any] = field(repr=False)
    names: Mapping[str, str] = field(default_factory=dict)
    form: str = "module"
    notes: tuple[str, ...] = ()
    optimizer: OptimizerState | None = field(default=None, repr=False, kw_only=True)

    @cached_property
    def model(self) -> Any:
        """The live model, ready to run and to train."""
        return self.build()

    def write_source(self, module: Path) -> None:
        """Write ``module`` (``model.py``) and ``model.safetensors`` beside it."""
        from safetensors.numpy import save_file

        module.write_text(self.source, encoding="utf-8")
        arrays = {name: _in_order(array) for name, array in self.weights.items()}
        weights = module.with_suffix(".safetensors")
        save_file(arrays, weights)
        weights.chmod(module.stat().st_mode)  # safetensors lets no one but its writer read


def _in_order(array: Array) -> Array:
    """The array itself, or a copy where its elements do not lie in their order; then a mapped original is let go."""
    if array.flags.c_contiguous:
        return array
    copy = array.copy(order="C")
    release(array)
    return copy
