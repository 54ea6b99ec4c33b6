"""The inputs of a signature: declared names and sizes, met with examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from netferry.converters.errors import Unsupported, UnsupportedError
from netferry.converters.signature import Example, TensorSpec
from netferry.converters.tensorflow.declared import Bound, bind, dims_of
from netferry.converters.tensorflow.graphdef import messages, part
from netferry.converters.tensorflow.graphdef.model import CalledBy, GraphModel, Port


class Declares(Protocol):
    """A model of a file that declares its inputs: where it came from, and the signature that is meant."""

    @property
    def label(self) -> str: ...
    @property
    def signature(self) -> CalledBy: ...


def own_specs(model: Declares) -> tuple[TensorSpec, ...]:
    """What the signature declares: ``batch`` for a free first axis, ``<input>_dim1`` ... for others."""
    return tuple(_spec(model, port) for port in model.signature.inputs)


def _spec(model: Declares, port: Port) -> TensorSpec:
    code = port.dtype - 100 if port.dtype > 100 else port.dtype
    if code not in messages.DTYPES:
        what = "strings" if code == messages.STRING else "what is no tensor"
        raise UnsupportedError(
            [
                Unsupported(
                    port.name,
                    "input",
                    f"it takes {what}, which ONNX models do not",
                    _remedy(model),
                )
            ],
            where=model.label,
        )
    return TensorSpec(
        port.name, messages.DTYPES[code], None if port.dims is None else dims_of(port.name, port.dims)
    )


def _remedy(model: Declares) -> str:
    """Where a part can begin that takes numbers."""
    names = part.behind_texts(model) if isinstance(model, GraphModel) else []
    return f"Cut the model behind it{':' if names else ''}{''.join(f' --input-at {name}' for name in names[:_LISTED])}"


_LISTED = 12
"""The most names of a remedy: an estimator reads as many columns as its table has."""


def specs_of(model: Declares, given: Sequence[Example] | None) -> Bound:
    """The inputs as they will be converted, by name where all names are the signature's, else by position; and notes."""
    return bind(own_specs(model), given, integers=False)
