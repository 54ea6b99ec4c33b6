"""What a signature takes and gives, as its file declares it. Sizes that it does not declare are found by the walk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.signature import Example, InputNames, Signature, TensorSpec
from netferry.converters.tensorflow.declared import dims_of
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.inputs import Declares, specs_of


def signature(model: Declares, given: Sequence[Example] | None = None) -> Signature:
    """Real names, dtypes and sizes; what is free has a name, the batch is ``batch``."""
    inputs = specs_of(model, given).specs
    outputs = tuple(
        TensorSpec(
            port.name,
            messages.DTYPES.get(port.dtype, np.dtype(np.float32)),
            None if port.dims is None else dims_of(port.name, port.dims),
        )
        for port in model.signature.outputs
    )
    return Signature(inputs, outputs)


def input_names(model: Declares) -> InputNames:
    """As the signature of the file declares them."""
    return InputNames(tuple(port.name for port in model.signature.inputs))
