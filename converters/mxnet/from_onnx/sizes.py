"""Arithmetic of sizes, known and free, as MXNet's operators have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, ceil_div, known, product
from netferry.converters.mxnet.from_onnx.writer import Dims


def broadcast(one: Dims | None, other: Dims | None) -> Dims | None:
    """The sizes of two tensors broadcast against each other, as far as they are known."""
    if one is None or other is None:
        return None
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    shorter = (1,) * (len(longer) - len(shorter)) + shorter
    sizes = tuple(_broadcast_size(a, b) for a, b in zip(longer, shorter, strict=True))
    return None if None in sizes else sizes


def _broadcast_size(a: Any, b: Any) -> Any:
    """One of two sizes that fit; None where it is not known which."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if not isinstance(a, Size) and not isinstance(b, Size):
        raise CannotConvert(f"the sizes {a} and {b} do not fit")
    if isinstance(a, Size) and isinstance(b, Size):
        return None
    return b if isinstance(a, Size) else a


def expanded(dims: Dims, axes: Sequence[int]) -> Dims:
    """Sizes with an axis of 1 at each of ``axes``, which count in the result."""
    rest = iter(dims)
    return tuple(1 if axis in axes else next(rest) for axis in range(len(dims) + len(axes)))


def reduced(dims: Dims, axes: Sequence[int], keepdims: bool) -> Dims:
    """The sizes that a reduction over ``axes`` leaves."""
    gone = set(axes)
    return tuple(
        1 if axis in gone else size for axis, size in enumerate(dims) if keepdims or axis not in gone
    )


def multiplied(a: Dims | None, b: Dims | None) -> Dims | None:
    """The sizes of a matrix product."""
    if a is None or b is None:
        return None
    rows = a[-2:-1] if len(a) > 1 else ()
    columns = b[-1:] if len(b) > 1 else ()
    return (*(broadcast(a[:-2], b[:-2]) or ()), *rows, *columns)


def completed(sizes: Dims, have: Dims | None) -> Dims | None:
    """Sizes in which -1 is what is left over; None where that is not known."""
    if -1 not in sizes:
        return sizes
    if have is None:
        return None
    rest = product(size for size in sizes if size != -1)
    total = product(have)
    left = total // rest if isinstance(total, Size) or isinstance(rest, Size) or rest else 0
    return tuple(left if size == -1 else size for size in sizes)


def codes_for(have: Dims | None, dims: Dims | None, sizes: Dims) -> tuple[int, ...] | None:
    """MXNet's reshape codes: leading sizes that stay are 0, one other free size is -1; None where two are left."""
    if dims is None or have is None:
        return tuple(sizes) if known(sizes) else None
    if known(dims):
        return tuple(dims) or (1,)
    same = 0
    while same < min(len(have), len(dims)) and have[same] == dims[same]:
        same += 1
    rest = dims[same:]
    if sum(isinstance(size, Size) for size in rest) > 1:
        return None
    head = tuple(0 if isinstance(size, Size) else size for size in dims[:same])
    return head + tuple(-1 if isinstance(size, Size) else size for size in rest)


def runs(have: Dims, dims: Dims) -> list[tuple[int, Dims]]:
    """The shortest runs of axes with as many elements here as there: how many axes of ``have``, and the sizes in ``dims``."""
    found: list[tuple[int, Dims]] = []
    i = j = 0
    for stop in range(1, len(have) + 1):
        here = product(have[i:stop])
        end = next((k for k in range(j + 1, len(dims) + 1) if product(dims[j:k]) == here), None)
        if end is not None and (stop < len(have) or end == len(dims)):
            found.append((stop - i, dims[j:end]))
            i, j = stop, end
    if j < len(dims):
        found.append((len(have) - i, dims[j:]))
    elif i < len(have):  # axes of size 1, which the last run takes in
        count, run = found.pop()
        found.append((count + len(have) - i, run))
    return found


class Cut:
    """One axis of a slice as MXNet has it."""

    def __init__(self, begin: Any, end: Any, step: Any, size: Any, like: Size | None = None) -> None:
        self.begin, self.end, self.step, self.size, self.like = begin, end, step, size, like

    @classmethod
    def of(cls, size: Any, start: Any, stop: Any, step: Any) -> Cut:
        step = 1 if step is None else step
        if isinstance(step, Size):
            raise CannotConvert("a step that is known only when the model runs")
        if not isinstance(size, Size) and not isinstance(start, Size) and not isinstance(stop, Size):
            return cls._known(size, range(*slice(start, stop, step).indices(size)), step)
        return cls._free(size, start, stop, step)

    @classmethod
    def _known(cls, size: int, positions: range, step: int) -> Cut:
        if not len(positions):
            raise CannotConvert("MXNet has no empty tensors")
        if positions == range(size):
            return cls(None, None, None, size)
        if step > 0:
            return cls(positions.start, positions[-1] + 1, step if step != 1 else None, len(positions))
        return cls(positions.start, None if positions[-1] == 0 else positions[-1] - 1, step, len(positions))

    @classmethod
    def _free(cls, size: Any, start: Any, stop: Any, step: int) -> Cut:
        """Bounds that hold whatever the size is."""
        if step == -1 and start in (None, -1) and stop is None:
            return cls(None, None, -1, size)
        if step == 1 and start in (None, 0) and isinstance(stop, Size) and not isinstance(size, Size):
            return cls(None, None, None, stop, stop)
        begin, end = (_from_an_end(size, bound) for bound in (start, stop))
        begin = begin or None
        if step > 1 and isinstance(size, Size) and isinstance(begin, int | None) and end is None:
            left = -begin if begin is not None and begin < 0 else size - (begin or 0)
            return cls(begin, None, step, ceil_div(left, step))
        if step != 1 or not isinstance(size, Size):
            raise CannotConvert(f"the slice {start}:{stop}:{step} of an axis of size {size}")
        if isinstance(begin, Size):
            raise CannotConvert(f"a slice that starts at {begin}, which is known only when the model runs")
        if isinstance(end, Size):
            if begin is not None:
                raise CannotConvert(f"the slice {start}:{stop} of an axis of size {size}")
            return cls(None, None, None, end, end)
        if begin is None and end is None:
            return cls(None, None, None, size)
        first = 0 if begin is None else begin
        if end is None:
            return cls(begin, None, None, size - first if first >= 0 else -first)
        if first >= 0 and end < 0:
            return cls(begin, end, None, size + end - first)
        if (first >= 0) == (end >= 0) and end > first:
            return cls(begin, end, None, end - first)
        raise CannotConvert(f"the slice {start}:{stop} of an axis of size {size}")


def _from_an_end(size: Size, bound: Any) -> Any:
    """A bound as a number from the front or, negative, from the end; None is the end."""
    if bound is None or (isinstance(bound, int) and bound >= _FAR):
        return None
    if isinstance(bound, Size):
        distance = bound - size
        if distance == 0:
            return None
        return distance if not isinstance(distance, Size) and distance < 0 else bound
    return bound


_FAR = 2**31 - 1


def shown(dims: Any) -> str:
    return "[?]" if dims is None else f"[{', '.join(map(str, dims))}]"
