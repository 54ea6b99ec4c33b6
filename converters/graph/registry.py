"""A table of rows: from a key (a layer class, an operator's name) to the function that converts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

Key = TypeVar("Key")
Row = TypeVar("Row", bound=Callable[..., object])
Function = TypeVar("Function", bound=Callable[..., object])


class Table(Generic[Key, Row]):
    """Keyed exactly; a key that is registered twice is a mistake and raises."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._rows: dict[Key, Row] = {}

    def row(self, *keys: Key) -> Callable[[Function], Function]:
        """Register the decorated function under each key."""

        def register(function: Function) -> Function:
            for key in keys:
                if key in self._rows:
                    raise KeyError(f"{self.title}: {key!r} has two rows")
                self._rows[key] = cast(Row, function)
            return function

        return register

    def get(self, key: Key) -> Row | None:
        return self._rows.get(key)

    def __getitem__(self, key: Key) -> Row:
        return self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[Key]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
