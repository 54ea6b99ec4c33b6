"""What a configuration of Hugging Face may ask for: no other model, no kernels to fetch, and no more than its weights hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.trust import texts

LEFT_OUT = frozenset(
    """
    auto_map quantization_config attn_implementation _attn_implementation _attn_implementation_internal
    experts_implementation _experts_implementation _experts_implementation_internal
    """.split()
)
"""Fields, at any depth, that name code: of the folder, of a quantiser, or kernels that transformers would fetch. The numbers are the same without."""

_OTHERS = frozenset({"backbone", "architecture"})
"""Fields that name the code of another library's network; as a path or with a scheme they name a place where one is read or fetched."""

_COUNTS = re.compile(r"layers?$|blocks?$|depths?$|num_labels$|experts$")
_MOST = 1 << 16
"""Fields that say how many of something are made, and how many that is at most."""

_NUMBERS, _TIMES = 1 << 24, 4
_PARAMETERS, _EACH = 2_000, 20
"""A model may have so many numbers and parameters anyway, and so many more for each that its files hold: heads that are missing, tied weights."""


def demand_plain(config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration that names another model, or counts that no model has."""
    for part in texts.mappings(config, where):
        for name, value in part.items():
            if name in _OTHERS and isinstance(value, str) and re.search(r"[:/\\]", value):
                raise RefusedError(
                    "its configuration names another model, which would be read or fetched",
                    where=where,
                    received=f"{name}: {value[:80]}",
                    remedy="Save the whole model where it runs: model.save_pretrained(folder)",
                )
            if isinstance(value, int) and abs(value) > _MOST and _COUNTS.search(name):
                raise RefusedError(
                    "its configuration asks for more than any model has",
                    where=where,
                    expected=f"at most {_MOST:,}",
                    received=f"{name}: {value if abs(value) < 1 << 63 else 'a longer number'}",
                )


def plain(value: Any) -> Any:
    """The configuration without the fields that name code."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items() if name not in LEFT_OUT}
    return [plain(each) for each in value] if isinstance(value, list) else value


class _Counted:
    def __init__(self, state: Mapping[str, Any], where: str) -> None:
        self._numbers = _NUMBERS + _TIMES * sum(tensor.numel() for tensor in state.values())
        self._parameters = _PARAMETERS + _EACH * len(state)
        self._where = where

    def add(self, parameter: Any) -> None:
        self._numbers -= parameter.numel()
        self._parameters -= 1
        if self._numbers < 0 or self._parameters < 0:
            raise RefusedError(
                "its configuration asks for far more weights than its files hold", where=self._where
            )


_COUNTED: ContextVar[_Counted | None] = ContextVar("counted", default=None)


@contextmanager
def no_more_than(state: Mapping[str, Any], where: str) -> Iterator[None]:
    """Meanwhile a module may have about the parameters of ``state``: a configuration of one line can ask for any number.

    Raises:
        RefusedError: within, where a module is given more.
    """
    from torch.nn.modules.module import (
        register_module_parameter_registration_hook,
    )  # a look needs none of PyTorch

    def count(_module: Any, _name: str, parameter: Any) -> None:
        counted = _COUNTED.get()
        if counted is not None and parameter is not None:
            counted.add(parameter)

    token = _COUNTED.set(_Counted(state, where))
    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
        _COUNTED.reset(token)
