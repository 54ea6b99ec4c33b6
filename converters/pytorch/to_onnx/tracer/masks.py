"""Masks that transformers makes of functions of positions: over whole axes at once, where it would map them element by element.

``torch.vmap`` cannot run over fake tensors of free sizes. The functions are arithmetic, comparisons and look-ups of positions, of which
broadcasting gives the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

_MODULE = "transformers.masking_utils"


@contextmanager
def broadcast(is_traced: Callable[[], bool]) -> Iterator[None]:
    """While a trace runs, masks are made by broadcasting in its thread; nothing changes where transformers is not loaded."""
    library: Any = sys.modules.get(_MODULE)
    if not all(hasattr(library, name) for name in ("_vmap_expansion_sdpa", "TransformGetItemToIndex")):
        yield
        return
    mapped, indexed = library._vmap_expansion_sdpa, library.TransformGetItemToIndex

    def expansion(mask: Callable[..., Any]) -> Callable[..., Any]:
        return _over_axes(mask) if is_traced() else mapped(mask)  # type: ignore[no-any-return]

    def indexing() -> AbstractContextManager[Any]:
        return nullcontext() if is_traced() else indexed()  # type: ignore[no-any-return]

    with ExitStack() as stack:
        stack.enter_context(patch.object(library, "_vmap_expansion_sdpa", expansion))
        stack.enter_context(patch.object(library, "TransformGetItemToIndex", indexing))
        yield


def _over_axes(mask: Callable[..., Any]) -> Callable[..., Any]:
    """A function of four positions (batch, head, query, key), over a vector of each: (batch, heads, queries, keys)."""

    def whole(*vectors: Any) -> Any:
        sizes = [vector.shape[0] for vector in vectors]
        shapes = [
            [-1 if place == axis else 1 for place in range(len(vectors))] for axis in range(len(vectors))
        ]
        found = mask(*(vector.view(shape) for vector, shape in zip(vectors, shapes, strict=True)))
        return found.expand(sizes)

    return whole
