"""Training that goes on in another framework: what an optimizer keeps, as another framework's keeps it."""

from __future__ import annotations

from typing import Any

from netferry.arguments import Dynamic, Inputs, PathLike, given_examples
from netferry.converters import frameworks, origin, source
from netferry.converters.optimizer import demand_even
from netferry.validation.training.optimizers import carried, read


def optimizer_state(
    states: object,
    model: object,
    target: Any,
    *,
    weights: PathLike | None = None,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    learning_rate: float | None = None,
    updates: int | None = None,
) -> Any:
    """What ``states`` keeps of the weights of ``model``, for training to go on with ``target``, which that was converted to.

    ``states`` is an optimizer of PyTorch's or Keras', a compiled Keras model, PyTorch's ``state_dict()``, or a file: what ``torch.save``
    wrote of one, a ``.keras`` that was saved with its optimizer, MXNet's ``.states``. For a module of PyTorch's this gives the ``"state"``
    of ``SGD``, ``Adam`` or ``AdamW`` over ``target.parameters()``; for a Keras model an optimizer to compile it with.

    ``weights`` and ``inputs`` (with ``dynamic``) are those of the conversion. ``learning_rate`` and ``updates`` (how many steps were taken) are
    needed where MXNet's file does not hold the optimizer itself. Neither model may have taken a step since. Where MXNet's symbol gives weights an
    ``lr_mult`` of their own, make groups of PyTorch's with these rates for the state.
    """
    live = source.open_source(model, weights)
    given = frameworks.bound(live, given_examples(inputs, dynamic))
    state = carried(read(states, live, learning_rate, updates), live, target, given)
    framework = frameworks.of(target)
    if framework.name != "pytorch":
        demand_even(state.settings, origin.named(live))
    return framework.module("optimizer").going_on(state, target)
