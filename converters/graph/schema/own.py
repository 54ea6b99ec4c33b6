"""Operators that a person has defined: what each is made of, by ``domain::name``. Filled by ``netferry.operator``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netferry.converters.graph.registry import Table

OWN: Table[str, Callable[..., Any]] = Table("operators of one's own")


def key(domain: str, operator: str) -> str:
    return f"{domain}::{operator}"


def domains() -> frozenset[str]:
    """The domains of these operators."""
    return frozenset(one.partition("::")[0] for one in OWN)
