"""Training that goes on in another framework: what MXNet's optimizer kept, for PyTorch's."""

from __future__ import annotations

import os
from typing import Any

from netferry.converters import source
from netferry.converters.errors import UsageError
from netferry.converters.mxnet import optimizer
from netferry.converters.mxnet.files import SymbolModel

PathLike = str | os.PathLike[str]


def optimizer_state(
    states: PathLike,
    model: object,
    module: Any,
    *,
    weights: PathLike | None = None,
    learning_rate: float | None = None,
    updates: int | None = None,
) -> dict[int, dict[str, Any]]:
    """The ``"state"`` of ``torch.optim.SGD`` or ``Adam`` over ``module.parameters()``, from an MXNet ``.states`` file.

    ``model`` is the symbol (with its ``weights``) that the file belongs to, ``module`` what it was converted to, before its first
    step. ``learning_rate`` is needed for a momentum and ``updates`` (how many steps were taken) for Adam, where the file does not
    hold the optimizer itself, as ``Trainer.save_states`` writes it.
    """
    live = source.open_source(model, weights)
    if not isinstance(live, SymbolModel):
        raise UsageError("an optimizer's state belongs to an MXNet symbol", received=type(live).__name__)
    parameters = list(module.named_parameters())
    arrays = [(name, parameter.detach().cpu().numpy()) for name, parameter in parameters]
    found = optimizer.to_pytorch(
        optimizer.read(os.fspath(states)), live, arrays, learning_rate=learning_rate, updates=updates
    )
    return {
        place: {key: parameters[place][1].new_tensor(array) for key, array in kept.items()}
        for place, kept in found.items()
    }
