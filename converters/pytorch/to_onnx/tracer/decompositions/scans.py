"""Functions of transformers that step through a sequence in Python, as one recurrence over all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.overrides import handle_torch_function, has_torch_function


def recurrence(decay: Tensor, added: Tensor) -> Tensor:
    """(steps, *state) twice -> (steps, *state): each state is the one before times ``decay``, plus ``added``; before all is 0."""
    if has_torch_function((decay, added)):
        found: Tensor = handle_torch_function(recurrence, (decay, added), decay, added)  # type: ignore[no-untyped-call]
        return found
    states, state = [], torch.zeros_like(added[0])
    for kept, new in zip(decay, added, strict=True):
        state = kept * state + new
        states.append(state)
    return torch.stack(states)


def recurrence_sizes(decay: Tensor, added: Tensor) -> Tensor:
    """What ``recurrence`` gives, by its sizes."""
    return added.new_empty(added.shape)


def _selective_scan(
    hidden_states: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    **_: Any,
) -> Any:
    """Mamba's state space over a whole sequence, of (batch, channels, length) and matrices of (batch, states, length).

    Source: Gu and Dao, Mamba, algorithm 2; equation 2a with a zero-order hold of A and Euler's step of B.
    """
    if delta_bias is not None:
        dt = dt + delta_bias.to(dt.dtype)[:, None]
    if delta_softplus:
        dt = F.softplus(dt)
    steps = dt.permute(2, 0, 1).unsqueeze(-1)  # (length, batch, channels, 1)
    decay = torch.exp(A * steps)
    added = (
        steps * B.permute(2, 0, 1).unsqueeze(2).float() * hidden_states.permute(2, 0, 1).unsqueeze(-1).float()
    )
    states = recurrence(decay, added)
    out = (states.to(hidden_states.dtype) @ C.permute(2, 0, 1).unsqueeze(-1)).squeeze(-1).permute(1, 2, 0)
    if D is not None:
        out = out + hidden_states * D[:, None]
    if z is not None:
        out = out * F.silu(z)
    return (out, states[-1]) if return_last_state else out


def _gated_scan(
    _: Any,
    hidden_states: Tensor,
    recurrent_gate: Tensor,
    reset: Tensor,
    recurrent_states: Tensor | None,
    acc_dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Griffin's linear recurrence over (batch, length, width), which begins anew where ``reset``."""
    decay = (recurrent_gate * ~reset).to(acc_dtype).transpose(0, 1)
    added = hidden_states.to(acc_dtype).transpose(0, 1)
    if recurrent_states is not None:
        added = torch.cat([added[:1] + decay[:1] * recurrent_states.to(acc_dtype), added[1:]])
    states = recurrence(decay, added)
    return states.transpose(0, 1).to(hidden_states.dtype), states[-1]


PYTHON: Mapping[tuple[str, str], Callable[..., Any]] = {
    **{
        (f"transformers.models.{name}.modeling_{name}", "mamba_selective_scan"): _selective_scan
        for name in ("mamba", "falcon_mamba", "jamba", "zamba")
    },
    (
        "transformers.models.recurrent_gemma.modeling_recurrent_gemma",
        "RecurrentGemmaRglru._rnn_scan",
    ): _gated_scan,
}
"""Where they stand, in the modules that call them; a trace calls these."""
