"""Rows of a data set as a model's inputs: which columns go where, what does not fit, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, UsageError, first_line, nearest
from netferry.converters.signature import Array, Signature, TensorSpec
from netferry.inference.data import IMAGES, Block, DataSet, require
from netferry.inference.images import Pixels, image_layout, read_image
from netferry.inference.parts import as_column, beside
from netferry.inference.text import numbers_of


def columns_from_flags(flags: Sequence[str]) -> dict[str, list[str]]:
    """``INPUT=A,B`` as the columns of each input."""
    made = {}
    for flag in flags:
        name, found, columns = flag.partition("=")
        if not found or not columns:
            raise UsageError("columns are written INPUT=A,B", expected="x=height,width", received=flag)
        made[name] = columns.split(",")
    return made


Bad = dict[int, str]
"""Rows that cannot be given to the model, and why; numbers count from 0 within what is being made."""


@dataclass(frozen=True)
class Feeder:
    """Gives each block's rows to the inputs of ``signature``: ``columns`` names what each input is made of.

    ``keep`` are the columns that go along to the results, and what they are called there. ``text`` says that numbers
    are written out in letters.
    """

    signature: Signature
    columns: Mapping[str, tuple[str, ...]]
    pixels: Pixels = field(default_factory=Pixels)
    keep: Mapping[str, str] = field(default_factory=dict)
    text: bool = False
    _known: set[str] = field(default_factory=set)

    @property
    def wanted(self) -> list[str]:
        """Every column that is read, once."""
        used = [name for names in self.columns.values() for name in names]
        return list(dict.fromkeys([*used, *self.keep]))

    def arrays(self, block: Block) -> tuple[dict[str, Array], Bad]:
        """One array for each input, with a row for each row of the block; rows named bad hold anything."""
        bad: Bad = {}
        made = {}
        for spec in self.signature.inputs:
            if isinstance(block.content, list):
                made[spec.name] = _files(block.content, spec, self.pixels, bad)
            elif isinstance(block.content, Mapping):
                made[spec.name] = _stacked(
                    [block.content[name] for name in self.columns[spec.name]], spec, bad
                )
            else:
                columns = [(name, self._read(block, name)) for name in self.columns[spec.name]]
                made[spec.name] = _table(columns, spec, bad)
        return made, bad | dict(block.bad)

    def kept(self, block: Block) -> dict[str, Any]:
        """The columns that go along, as Arrow has them, under their names in the results."""
        if not self.keep:
            return {}
        if isinstance(block.content, list):
            files = require("pyarrow").array([file.name for file in block.content], "string")
            return dict.fromkeys(self.keep.values(), files)
        if isinstance(block.content, Mapping):
            return {kept_as: as_column(block.content[name]) for name, kept_as in self.keep.items()}
        return {kept_as: _decoded(block.content.column(name)) for name, kept_as in self.keep.items()}

    def _read(self, block: Block, name: str) -> Any:
        column = block.content.column(name)
        return numbers_of(column, name, self._known) if self.text else column


def feeder(
    data: DataSet,
    signature: Signature,
    given: Mapping[str, Sequence[str]] | None = None,
    pixels: Pixels | None = None,
    keep: Sequence[str] = (),
) -> Feeder:
    """Find the columns of each input: those ``given``, else the one of its name, else all where there is one input.

    A column to ``keep`` is not among these, unless there is no other.
    """
    if not signature.inputs:
        raise UsageError("the model takes no inputs, and so no rows", where=data.title)
    chosen: dict[str, tuple[str, ...]] = {}
    for name, columns in (given or {}).items():
        if name not in {spec.name for spec in signature.inputs}:
            own = [spec.name for spec in signature.inputs]
            raise UsageError(
                "no such input", expected=_names(signature), received=name, remedy=nearest(name, own)
            )
        chosen[name] = tuple(columns)
    for column in (*(column for columns in chosen.values() for column in columns), *keep):
        if column not in data.columns:
            raise UsageError(
                f"the data has no column '{column}'", where=data.title, expected=", ".join(data.columns[:20])
            )
    free = [
        column for column in data.columns if column not in {c for names in chosen.values() for c in names}
    ]
    for spec in signature.inputs:
        if spec.name in chosen:
            continue
        if spec.name in free:
            chosen[spec.name] = (spec.name,)
        elif len(signature.inputs) == 1:
            chosen[spec.name] = tuple([column for column in free if column not in keep] or free)
        else:
            raise UsageError(
                f"nothing says which columns input '{spec.name}' is made of",
                where=data.title,
                expected=f"a column of that name among {', '.join(data.columns[:20])}",
                remedy=f"Give them with --columns {spec.name}=first,second",
            )
    outputs = {spec.name for spec in signature.outputs}
    kept_as = {column: beside(column, outputs) for column in keep}
    made = Feeder(signature, chosen, pixels or Pixels(), kept_as, data.text)
    twice = next((name for name in made.wanted if list(data.columns).count(name) > 1), None)
    if twice is not None:
        raise RefusedError(f"several columns are called '{twice}'", where=data.title)
    return made


def _table(columns: Sequence[tuple[str, Any]], spec: TensorSpec, bad: Bad) -> Array:
    """Columns of a table: one of lists or numbers, or several of numbers side by side."""
    if len(columns) == 1:
        return _column(*columns[0], spec, bad)
    rows = len(columns[0][1])
    # Column by column: a stack would copy everything twice.
    made = np.empty((rows, len(columns)), spec.dtype)
    for position, (name, column) in enumerate(columns):
        made[:, position] = _fitting(_numbers(name, column, bad), spec, bad, name)
    return _shaped(made, spec, ", ".join(name for name, _ in columns[:3]))


def _column(name: str, column: Any, spec: TensorSpec, bad: Bad) -> Array:
    column = _plain(column)
    if isinstance(column, np.ndarray):
        return _shaped(_fitting(column, spec, bad, name), spec, name)
    if not _is_list(column.type):
        return _shaped(_fitting(_numbers(name, column, bad), spec, bad, name), spec, name)
    levels, values = _flattened(column)
    shapes = _shapes(levels)
    usual = _row_shape(name, spec, shapes)
    numbers = _filled(name, values)
    good = (shapes == usual).all(1)
    if not good.all() or values.null_count:
        owners = _owners(levels)
        for row in np.flatnonzero(~good).tolist():
            bad[row] = f"column '{name}' {_not_usual(shapes[row].tolist(), usual)}"
        for row in np.unique(owners[np.asarray(values.is_null())]).tolist():
            bad.setdefault(row, f"column '{name}' holds a null among its numbers")
        numbers = numbers[good[owners]]
    made = _fitting(numbers.reshape(-1, *usual), spec, bad, name, np.flatnonzero(good))
    if not good.all():
        whole = np.zeros((len(shapes), *usual), made.dtype)
        whole[good] = made
        made = whole
    return _shaped(made, spec, name)


def _plain(column: Any) -> Any:
    """What wraps numbers or lists, unwrapped: categories, decimals, tensors."""
    pa, types = require("pyarrow"), require("pyarrow.types")
    if isinstance(column, pa.FixedShapeTensorArray):
        return column.storage if column.null_count else np.asarray(column.to_numpy_ndarray())
    column = _decoded(column)
    return column.cast("float64") if types.is_decimal(column.type) else column


def _decoded(column: Any) -> Any:
    """Categories as what they stand for."""
    return column.dictionary_decode() if require("pyarrow.types").is_dictionary(column.type) else column


def _is_list(kind: Any) -> bool:
    types = require("pyarrow.types")
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _flattened(column: Any) -> tuple[list[Array], Any]:
    """For each depth of lists how many items each list there holds (-1 where it is null); and all that they hold."""
    count = require("pyarrow.compute").list_value_length
    levels = []
    while _is_list(column.type):
        levels.append(np.asarray(count(column).fill_null(-1), np.int64))
        column = _plain(column.flatten())
    return levels, column


def _owners(levels: Sequence[Array]) -> Array:
    """The row that each item at the bottom belongs to."""
    owners = np.arange(len(levels[0]))
    for lengths in levels:
        owners = np.repeat(owners, np.maximum(lengths, 0))
    return owners


_NULL, _RAGGED = -1, -2


def _shapes(levels: Sequence[Array]) -> Array:
    """(rows, depths): the sizes of each row; ``_RAGGED`` where its lists at a depth are of several lengths."""
    shapes = [levels[0]]
    for depth in range(1, len(levels)):
        owners = _owners(levels[:depth])
        least, most = np.full(len(levels[0]), np.iinfo(np.int64).max), np.full(len(levels[0]), _NULL)
        np.minimum.at(least, owners, levels[depth])
        np.maximum.at(most, owners, levels[depth])
        shapes.append(np.where(least == most, most, np.where(most == _NULL, 0, _RAGGED)))
    return np.stack(shapes, 1)


def _row_shape(name: str, spec: TensorSpec, shapes: Array) -> list[int]:
    """The sizes that rows are to have: those of the input where it fixes them, else those that all rows have."""
    dims = (spec.dims or ())[1:]
    depth = shapes.shape[1]
    fixed = [dim for dim in dims if isinstance(dim, int)]
    if len(fixed) == len(dims):
        if depth == len(dims):
            return fixed
        if depth == 1:
            return [math.prod(fixed)]
    seen = np.unique(shapes[(shapes >= 0).all(1)], axis=0)
    if len(seen) > 1:
        raise UsageError(
            f"the rows of column '{name}' have several lengths, which do not go into one batch",
            received=", ".join("x".join(map(str, one)) for one in seen[:5].tolist()),
            remedy="Give them one by one with --batch 1",
        )
    return seen[0].tolist() if len(seen) else [0] * depth


def _not_usual(shape: list[int], usual: list[int]) -> str:
    if shape[0] == _NULL:
        return "is null"
    if _RAGGED in shape or _NULL in shape:
        return "holds lists of several lengths"
    present, wanted = ("x".join(map(str, one)) for one in (shape, usual))
    return f"holds {present} numbers where {wanted} are wanted"


def _numbers(name: str, column: Any, bad: Bad) -> Array:
    """A column of numbers as an array; nulls become zero and are named bad."""
    column = _plain(column)
    if column.null_count:
        for row in np.flatnonzero(np.asarray(column.is_null())).tolist():
            bad[row] = f"column '{name}' is null, or no number"
    return _filled(name, column)


def _filled(name: str, column: Any) -> Array:
    """Numbers as an array, with zeros for nulls."""
    pa, types, kind = require("pyarrow"), require("pyarrow.types"), column.type
    if types.is_null(kind):
        column = column.cast("float64")
        kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise UsageError(f"column '{name}' holds no numbers", expected="numbers", received=kind)
    if column.null_count:
        column = column.fill_null(pa.scalar(False if types.is_boolean(kind) else 0, kind))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _stacked(arrays: Sequence[Array], spec: TensorSpec, bad: Bad) -> Array:
    if len(arrays) == 1:
        return _shaped(_fitting(np.asarray(arrays[0]), spec, bad, spec.name), spec, spec.name)
    return _shaped(
        np.stack([_fitting(np.asarray(array), spec, bad, spec.name) for array in arrays], 1), spec, spec.name
    )


def _fitting(array: Array, spec: TensorSpec, bad: Bad, name: str, rows: Array | None = None) -> Array:
    """The array in the input's dtype, truth values as 0 and 1; a row with a value that the dtype cannot hold is bad."""
    if array.dtype == spec.dtype:
        return array
    if array.dtype.kind not in "biuf" or spec.dtype.kind == "b":
        raise UsageError(
            f"'{name}' has a dtype that input '{spec.name}' does not take",
            expected=spec.dtype,
            received=array.dtype,
        )
    with np.errstate(all="ignore"):
        cast = array.astype(spec.dtype)
        whole_numbers = spec.dtype.kind in "iu"
        lost = cast != array if whole_numbers else np.isinf(cast) & np.isfinite(array)
    if lost.any():
        for row in np.flatnonzero(lost.reshape(len(lost), -1).any(1)).tolist():
            bad[int(row if rows is None else rows[row])] = f"'{name}' holds a value that is no {spec.dtype}"
    return cast


def _shaped(array: Array, spec: TensorSpec, name: str) -> Array:
    """Rows in the shape that the input takes: those that have it but for sizes of one, flat ones, ones to be flat."""
    if spec.dims is None or array.ndim == 0:
        return array
    dims = spec.dims[1:]
    if not _alike(array.shape[1:], dims):
        raise UsageError(
            f"'{name}' does not fit input '{spec.name}'",
            expected=str(spec),
            received=f"rows of {'x'.join(map(str, array.shape[1:]))}",
        )
    if sum(not isinstance(dim, int) for dim in dims) <= 1:
        shape = [dim if isinstance(dim, int) else -1 for dim in dims]
        with_free = array.size // max(len(array), 1)
        known = math.prod(dim for dim in dims if isinstance(dim, int))
        if (with_free == known if -1 not in shape else known and with_free % known == 0) and array.size:
            return array.reshape(len(array), *shape)
        if not array.size:
            return array.reshape(len(array), *(0 if dim == -1 else dim for dim in shape))
    elif array.ndim == len(spec.dims):
        return array
    raise UsageError(
        f"'{name}' does not fit input '{spec.name}'",
        expected=str(spec),
        received=f"rows of {', '.join(map(str, array.shape[1:])) or 'one number'}",
    )


def _alike(sizes: Sequence[int], dims: Sequence[int | str | None]) -> bool:
    """Whether rows may take a shape without their numbers being dealt out anew: 2x3 is no 3x2."""
    present, wanted = [size for size in sizes if size != 1], [dim for dim in dims if dim != 1]
    if len(present) <= 1 or len(wanted) <= 1:
        return True
    return len(present) == len(wanted) and all(
        not isinstance(dim, int) or dim == size for size, dim in zip(present, wanted, strict=True)
    )


def _files(files: Sequence[Path], spec: TensorSpec, pixels: Pixels, bad: Bad) -> Array:
    """One row for each file; a file that cannot be read is a bad row."""
    rows: list[Array | None] = []
    if any(file.suffix.lower() in IMAGES for file in files):
        image_layout(spec)  # a model that takes none is no fault of a row
    for row, file in enumerate(files):
        try:
            one = (
                read_image(file, spec, pixels)
                if file.suffix.lower() in IMAGES
                else np.load(file, allow_pickle=False)
            )
            rows.append(_shaped(_fitting(one[None], spec, bad, file.name), spec, file.name)[0])
        except UsageError as error:
            bad[row] = f"{file.name}: {error}"
            rows.append(None)
        except Exception as error:  # Pillow and numpy raise whatever their decoders raise
            bad[row] = f"{file.name} cannot be read ({first_line(error)})"
            rows.append(None)
    shapes = {row.shape for row in rows if row is not None}
    if len(shapes) > 1:
        raise UsageError(
            "the files have several shapes, which do not go into one batch",
            received=", ".join(map(str, sorted(shapes)[:3])),
            remedy="Give them one by one with --batch 1, or use --pixels size=224x224",
        )
    shape = shapes.pop() if shapes else tuple(d if isinstance(d, int) else 1 for d in (spec.dims or ())[1:])
    return np.stack([np.zeros(shape, spec.dtype) if row is None else row for row in rows])


def _names(signature: Signature) -> str:
    return ", ".join(spec.name for spec in signature.inputs)
