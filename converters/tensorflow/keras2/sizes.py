"""Sizes that a functional model reads from its tensors and computes with: numbers where they are fixed, else found when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from netferry.converters.tensorflow.runtime import keras

ops = keras.ops


@dataclass(frozen=True, eq=False)
class Size:
    """A size of ``source`` along ``axis``, or ``function`` of other sizes."""

    source: Any = None
    axis: int = 0
    function: Callable[..., Any] | None = None
    of: tuple[Any, ...] = ()

    def sources(self) -> Iterator[Any]:
        if self.function is None:
            yield self.source
        for size in self.of:
            if isinstance(size, Size):
                yield from size.sources()

    def found(self, sources: dict[int, Any]) -> Any:
        """This size as it is now, the sources standing for what they were when the model was built."""
        if self.function is None:
            return ops.shape(sources[id(self.source)])[self.axis]
        return self.function(*(x.found(sources) if isinstance(x, Size) else x for x in self.of))


class Sizes(tuple[Any, ...]):
    """What ``tf.shape`` gives: a number or a ``Size`` for each axis."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        part = tuple.__getitem__(self, index)
        return Sizes(part) if isinstance(index, slice) else part


def shape_of(x: Any) -> Sizes:
    return Sizes(Size(x, axis) if size is None else size for axis, size in enumerate(x.shape))


def computed(value: Any) -> bool:
    return isinstance(value, Size | Sizes)


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "floor_divide": lambda x, y: x // y,
    "mod": lambda x, y: x % y,
}


def with_sizes(function: Callable[..., Any], x: Any, sizes: Any) -> Any:
    """``function`` of two sizes, or of a tensor and sizes that say what its result is like."""
    if computed(x) or not hasattr(x, "dtype"):
        return _of_sizes(_ARITHMETIC[function.__name__], x, sizes)
    wanted = list(sizes) if isinstance(sizes, list | tuple) else [sizes]
    free = [position for position, size in enumerate(wanted) if isinstance(size, Size)]
    if function is ops.reshape and len(free) == 1 and -1 not in wanted[: free[0]] + wanted[free[0] + 1 :]:
        wanted[free[0]], free = -1, []
    if not free:
        return function(x, tuple(wanted))
    sources = list({id(source): source for k in free for source in wanted[k].sources()}.values())
    return Sized(function, wanted, sources)([x, *sources])


def _of_sizes(function: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    if isinstance(x, Sizes) and isinstance(y, Sizes | list):
        return Sizes(_of_sizes(function, a, b) for a, b in zip(x, y, strict=True))
    return (
        Size(function=function, of=(x, y)) if isinstance(x, Size) or isinstance(y, Size) else function(x, y)
    )


class Sized(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """A function of a tensor and of sizes that other tensors have when the model runs."""

    def __init__(self, function: Callable[..., Any], wanted: Sequence[Any], sources: Sequence[Any]) -> None:
        super().__init__()
        self._function, self._wanted = function, tuple(wanted)
        self._places = [id(source) for source in sources]

    def call(self, inputs: Sequence[Any]) -> Any:
        x, *sources = inputs
        known = dict(zip(self._places, sources, strict=True))
        sizes = [size.found(known) if isinstance(size, Size) else size for size in self._wanted]
        return self._function(x, tuple(sizes))
