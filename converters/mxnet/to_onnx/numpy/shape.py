"""Rows of MXNet's numpy interface that move, join and cut: see ``elementwise``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, Row, rows
from netferry.converters.mxnet.to_onnx.reduction import named_axes
from netferry.converters.mxnet.to_onnx.shape import axes_of_one, parted
from netferry.converters.mxnet.to_onnx.sizes import (
    NUMPY_CODES,
    cut,
    flattened,
    flipped,
    positive,
    reshape,
    reshape_sizes,
    shape_of,
    size_of,
    swapped,
)

# ---- axes and sizes ----------------------------------------------------------------------------------


@ROWS.row("_np_transpose")
def transpose(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axes = a.maybe_integers("axes") or tuple(reversed(range(x.rank)))
    return g.transpose(x, [positive(axis, x.rank) for axis in axes])


@ROWS.row("_np_moveaxis")
def moveaxis(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    sources = [positive(axis, x.rank) for axis in a.integers("source")]
    targets = [positive(axis, x.rank) for axis in a.integers("destination")]
    order = [axis for axis in range(x.rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return g.transpose(x, order)


@ROWS.row("_np_squeeze")
def squeeze(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    named = a.maybe_integers("axis")
    if named is not None:
        return g.Squeeze(x, g.ints(*(positive(axis, x.rank) for axis in named)))
    return g.Squeeze(x, g.ints(*axes_of_one(x)))


def _in_c_order(a: Attrs) -> None:
    if a.string("order", "C") != "C":
        raise CannotConvert("order other than C")


@ROWS.row("_np_reshape")
def reshape_plain(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """A number for each axis, of which one may be -1."""
    _in_c_order(a)
    return g.Reshape(x, g.ints(*a.integers("newshape")), allowzero=1 if 0 in a.integers("newshape") else None)


@ROWS.row("_npx_reshape")
def reshape_by_codes(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """-1 is inferred, -2 keeps an axis, -3 drops one of size 1, -4 keeps all that are left, -5 joins two,
    -6 splits one into the two sizes that follow."""
    _in_c_order(a)
    return reshape(
        g, x, reshape_sizes(x, a.integers("newshape"), NUMPY_CODES, reverse=a.flag("reverse", False))
    )


_NEW_AXES: Mapping[int, Sequence[tuple[int, ...]]] = {
    1: [(0,)],
    2: [(0, 1), (0,)],
    3: [(0, 1, 2), (0, 2), (2,)],
}
"""Where numpy puts new axes to reach a rank, by the rank that there is: of three, a vector is the middle one."""


def _at_least(rank: int) -> Callable[..., list[Tensor]]:
    def row(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
        return [x if x.rank >= rank else g.Unsqueeze(x, g.ints(*_NEW_AXES[rank][x.rank])) for x in inputs]

    return row


for _rank in (1, 2, 3):
    ROWS.row(f"_np_atleast_{_rank}d")(_at_least(_rank))


@ROWS.row("_np_roll")
def roll(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """What leaves at one end comes back at the other."""
    shifts, named = a.integers("shift"), a.maybe_integers("axis")
    if named is None:
        flat = _rolled(g, reshape(g, x, [-1]), 0, sum(shifts))
        return g.Reshape(flat, shape_of(g, x))
    for shift, axis in zip(shifts * (len(named) // len(shifts)), named, strict=True):
        x = _rolled(g, x, positive(axis, x.rank), shift)
    return x


def _rolled(g: Emitter, x: Tensor, axis: int, shift: int) -> Tensor:
    size = size_of(x, axis)
    if not isinstance(size, int):
        raise CannotConvert("a roll along an axis whose size is not known")
    shift %= size
    if not shift:
        return x
    return g.Concat(cut(g, x, [axis], [-shift], [None]), cut(g, x, [axis], [0], [-shift]), axis=axis)


@ROWS.row("_npi_flip")
def flip(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axes = named_axes(a, x.rank)
    return flipped(g, x, axes)


@ROWS.row("_npi_rot90")
def rot90(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Quarter turns from the first axis to the second."""
    first, second = (positive(axis, x.rank) for axis in a.maybe_integers("axes") or (0, 1))
    order = swapped(x.rank, first, second)
    turns = a.integer("k", 1) % 4
    if turns == 0:
        return x
    if turns == 2:
        return flipped(g, x, [first, second])
    return (
        g.transpose(flipped(g, x, [second]), order)
        if turns == 1
        else flipped(g, g.transpose(x, order), [second])
    )


# ---- joining and cutting -----------------------------------------------------------------------------


@ROWS.row("_npi_concatenate")
def concatenate(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    axis = a.maybe_integer("axis", 0) if a.maybe_integer("dim") is None else a.integer("dim", 0)
    if axis is None:
        return g.Concat(*(reshape(g, x, [-1]) for x in inputs), axis=0)
    return g.Concat(*inputs, axis=positive(axis, inputs[0].rank))


def _joined(rank: int, axis: int) -> Row:
    def row(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
        a.ignore("dim")
        raised = _at_least(rank)(g, a, *inputs)
        return g.Concat(*raised, axis=0 if raised[0].rank == 1 else axis)

    return row


ROWS.row("_npi_vstack")(_joined(2, 0))
ROWS.row("_npi_hstack")(_joined(1, 1))
ROWS.row("_npi_dstack")(_joined(3, 2))


def _split(g: Emitter, a: Attrs, x: Tensor, axis: int) -> list[Tensor]:
    a.ignore("axis", "squeeze_axis")
    return parted(g, a, x, axis)


def _depth_split(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    axis = a.integer("axis", 2)
    if positive(axis, x.rank) != 2:
        raise CannotConvert(f"axis={axis}, along which MXNet cuts into pieces that have the sizes of axis 2")
    return _split(g, a, x, 2)


@ROWS.row("_npi_delete")
def delete(g: Emitter, a: Attrs, x: Tensor, *others: Tensor) -> Tensor:
    """Without one position, or a slice of positions, of an axis."""
    if others:
        raise CannotConvert("positions that are computed")
    axis = a.maybe_integer("axis")
    x, axis = flattened(g, x, axis)
    position = a.maybe_integer("int_ind")
    bounds = [a.maybe_integer(name) for name in ("start", "stop", "step")]
    gone = range(x.size(axis))[slice(*bounds)] if position is None else [position % x.size(axis)]
    kept = [index for index in range(x.size(axis)) if index not in gone]
    return g.Gather(x, g.ints(*kept), axis=axis)


_PAD_MODES = ("constant", "edge", "reflect")
_EXTREMES = {"maximum": "ReduceMax", "minimum": "ReduceMin"}


@ROWS.row("_npi_pad")
def pad(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """pad_width: (before, after) of each axis."""
    mode = a.string("mode", "constant", among=" ".join((*_PAD_MODES, "symmetric", *_EXTREMES)))
    if a.string("reflect_type", "even") != "even":
        raise CannotConvert("reflect_type other than even")
    widths = a.pairs("pad_width")
    if mode not in _PAD_MODES:
        a.ignore("constant_value")
        for axis, (before, after) in enumerate(widths):
            x = _bordered(g, x, axis, before, after, mode)
        return x
    value = g.scalar(a.number("constant_value", 0.0), x)
    pads = g.ints(*(w[0] for w in widths), *(w[1] for w in widths))
    return g.Pad(x, pads, value if mode == "constant" else None, mode=mode)


def _bordered(g: Emitter, x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """One axis with borders that mirror it, its own border too, or that repeat its extreme."""
    if max(before, after) == 0:
        return x
    if mode == "symmetric":
        if max(before, after) > x.size(axis):
            raise CannotConvert(f"pad_width={before, after} is wider than the axis that it mirrors")
        ends = [cut(g, x, [axis], [0], [before]), cut(g, x, [axis], [-after], [None])]
        borders = [flipped(g, end, [axis]) for end in ends]
    else:
        extreme = g.op(_EXTREMES[mode], x, g.ints(axis), keepdims=1)
        repeats = ([width if each == axis else 1 for each in range(x.rank)] for width in (before, after))
        borders = [g.Tile(extreme, g.ints(*each)) for each in repeats]
    parts = [*borders[: before > 0], x, *(borders[1:] if after > 0 else ())]
    return g.Concat(*parts, axis=axis)


rows(
    {
        # -2 (in MXNet 1.9, else -1) keeps an axis.
        "_npi_broadcast_to": lambda g, a, x: g.Expand(
            x, g.ints(*(1 if size < 0 else size for size in a.integers("shape")))
        ),
        "_np_copy": lambda _g, _, x: x,
        "_npi_column_stack": lambda g, _, *inputs: g.Concat(
            *(g.Unsqueeze(x, g.ints(1)) if x.rank == 1 else x for x in inputs), axis=1
        ),
        "_npi_hsplit": lambda g, a, x: _split(g, a, x, 0 if x.rank == 1 else 1),
        "_npi_dsplit": lambda g, a, x: _depth_split(g, a, x),
    }
)
