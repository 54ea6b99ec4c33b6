"""The same model as TensorFlow itself has it, for those who run it: imported when it is asked for."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

from netferry.converters.errors import MissingError, RefusedError
from netferry.converters.frameworks import named
from netferry.converters.tensorflow.graphdef.model import GraphModel


def module(name: str) -> ModuleType:
    """One of the modules of TensorFlow's own folder, which import it.

    Raises:
        MissingError: TensorFlow is not installed.
    """
    named("tensorflow").require()
    return import_module(f"netferry.converters.tensorflow.{name}")


@lru_cache(maxsize=4)
def native(model: GraphModel) -> Any:
    """The signature that is meant, as a function that TensorFlow runs."""
    if model.source is None:
        raise MissingError("the model came without a file that TensorFlow could load")
    try:
        return module("graph_files").function_of(model)
    except RefusedError as error:
        raise error if error.where else error.at(model.label) from None
