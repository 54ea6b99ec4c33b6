"""JSON out of a file: read with bounds, so that neither its depth nor its numbers can harm."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from netferry.converters.errors import RefusedError

_DEEPEST = 100


def document(text: bytes | str, where: str) -> Any:
    """The JSON document in ``text``, as every reader reads it.

    Raises:
        RefusedError: it is no UTF-8, nested too deep, or says a key twice, of which one reader takes the first and another the last.
    """
    try:
        whole = text.decode("utf-8") if isinstance(text, bytes) else text
        found = json.loads(whole, object_pairs_hook=_mapping)
    except (ValueError, RecursionError) as error:
        said = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RefusedError(f"not JSON ({said})", where=where) from error
    for _ in mappings(found, where):
        pass
    return found


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"it says {twice[:80]!r} twice")
    return made


def mappings(found: Any, where: str) -> Iterator[dict[str, Any]]:
    """Every mapping in a document, outermost first; a document that is nested too deep is refused."""
    level, depth = [found], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise RefusedError("nested too deep", where=where, expected=f"at most {_DEEPEST} levels")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                yield each
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        level = [each for each in inner if isinstance(each, dict | list)]
