"""Any model on arrays: one call for the four kinds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from netferry.converters import frameworks, origin
from netferry.converters.errors import MissingError, NetferryError, RefusedError, first_line
from netferry.converters.graph.schema.own import OWN
from netferry.converters.signature import Array, Example, Signature, examples
from netferry.inference.binding import bind
from netferry.inference.session import Session


class Runnable(Protocol):
    """A model with its signature that maps named arrays to named arrays; ``where`` describes on what it runs."""

    signature: Signature
    device: str

    @property
    def where(self) -> str: ...

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Array]: ...


class Native:
    """A model that runs in its own framework, in inference mode."""

    device = where = "cpu"

    def __init__(self, model: object, given: Sequence[Example] | None = None) -> None:
        self._framework = frameworks.of(model)
        self._model = model
        with self._refusing():
            self.signature: Signature = self._framework.signature(model, given)

    def run(self, inputs: Mapping[str, Any] | Sequence[Any]) -> dict[str, Array]:
        arrays = list(bind(inputs, self.signature).values())
        with self._refusing():
            outputs: dict[str, Array] = self._framework.live.run(self._model, arrays)
        return outputs

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Whatever the framework raises for a model and its arrays, as one error."""
        try:
            yield
        except NetferryError:
            raise
        except Exception as error:
            raise RefusedError(
                f"{self._framework.title} could not run the model ({first_line(error)})",
                where=origin.named(self._model),
            ) from error


def runnable(
    model: object,
    given: Sequence[Example] | None = None,
    device: str = "cpu",
    *,
    spinning: bool = True,
    threads: int | None = None,
) -> Runnable:
    """Make a model runnable: ONNX in onnxruntime on ``device``, others where they are at home.

    A path is an ONNX file, which onnxruntime opens itself; any other model is one in memory. ``spinning`` and
    ``threads`` are for onnxruntime, see ``Session``.
    """
    is_path = isinstance(model, str | os.PathLike)
    framework = frameworks.named("onnx") if is_path else frameworks.of(model)
    if framework.name == "onnx":
        return Session(_without_own(model), device, spinning=spinning, threads=threads)
    if device == "cuda":
        raise MissingError(
            f"a {framework.title} model runs on the CPU here",
            remedy="Convert it to ONNX first, then run that with --device cuda",
        )
    return Native(model, given)


def _without_own(model: object) -> object:
    """The model without operators of a person's own; asked for only where there are any."""
    if not OWN:
        return model
    from netferry.converters.onnx.own import runnable as opened

    found: object = opened(model)
    return found


def run(model: object, inputs: Mapping[str, Any] | Sequence[Any], device: str = "cpu") -> dict[str, Array]:
    """Run a model once; what ``runnable`` takes."""
    given = frameworks.bound(model, examples(inputs)) or ()
    made = runnable(model, given, device)
    return made.run(inputs if isinstance(made, Session) else {one.name: one.array for one in given})
