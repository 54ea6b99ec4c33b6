"""A table of rows: from a key (a layer class, an operator's name) to the function that converts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from netferry.converters.errors import CannotConvert

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


def written(row: Callable[..., Any], *arguments: Any, operands: Sequence[Any]) -> Any:
    """What a row makes of an operator of a file, whose inputs and attributes are the file's own.

    Raises:
        CannotConvert: they do not fit the row.
    """
    try:
        return row(*arguments, *operands)
    except TypeError as error:
        if "positional argument" not in str(error):
            raise
        raise CannotConvert(f"it has {len(operands)} inputs, which do not fit the operator") from error
    except (ValueError, IndexError, ArithmeticError) as error:
        raise CannotConvert(f"its attributes do not fit its inputs ({error})") from error
