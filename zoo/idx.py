"""MNIST's own files (IDX), plain or gzipped. Their headers are checked before memory is asked for."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array

SIDE = 28
MOST_ITEMS = 1_000_000
"""More than any set of this family has (EMNIST: 814,255); a header that says more is not believed."""


@dataclass(frozen=True)
class _Kind:
    """A big-endian header of ``magic``, the number of items and the sizes of one; then a byte per number."""

    magic: int
    stem: str
    suffix: str
    dims: tuple[int, ...]


_IMAGES = _Kind(0x0803, "images", "idx3-ubyte", (SIDE, SIDE))
_LABELS = _Kind(0x0801, "labels", "idx1-ubyte", ())


def read_mnist(folder: Path) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Training and test rows: images uint8 (rows, 28, 28), labels uint8 (rows,)."""
    return _pair(folder, "train"), _pair(folder, "t10k")


def _pair(folder: Path, part: str) -> tuple[Array, Array]:
    images, labels = (_read(_find(folder, part, kind), kind) for kind in (_IMAGES, _LABELS))
    if len(images) != len(labels):
        raise RefusedError(
            f"MNIST's '{part}' files do not belong together",
            where=str(folder),
            expected=f"as many labels as images ({len(images)})",
            received=len(labels),
        )
    if not len(images):
        raise RefusedError(f"MNIST's '{part}' files are empty", where=str(folder))
    if labels.max() > 9:
        raise RefusedError(
            f"MNIST's '{part}' labels are not digits",
            where=str(folder),
            expected="labels from 0 to 9",
            received=labels.max(),
        )
    return images, labels


def _find(folder: Path, part: str, kind: _Kind) -> Path:
    names = [f"{part}-{kind.stem}{dot}{kind.suffix}{end}" for end in ("", ".gz") for dot in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise RefusedError(
        f"MNIST's '{part}' {kind.stem} are not in this folder", where=str(folder), expected=" or ".join(names)
    )


def _read(path: Path, kind: _Kind) -> Array:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return _parse(cast(BinaryIO, stream), kind)
    except RefusedError as error:
        raise error.at(str(path)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise RefusedError(f"it cannot be read: {error}", where=str(path)) from error


def _parse(stream: BinaryIO, kind: _Kind) -> Array:
    fields = struct.Struct(f">{2 + len(kind.dims)}I")
    header = stream.read(fields.size)
    if len(header) < fields.size:
        raise RefusedError(
            "this is not an IDX file",
            expected=f"a header of {fields.size} bytes",
            received=f"{len(header)} bytes",
        )
    magic, count, *dims = fields.unpack(header)
    if magic != kind.magic:
        raise RefusedError(
            f"this is not an IDX file of {kind.stem}",
            expected=f"the number {kind.magic:#010x} first",
            received=f"{magic:#010x}",
        )
    if tuple(dims) != kind.dims:
        raise RefusedError(f"its {kind.stem} have other sizes", expected=kind.dims, received=tuple(dims))
    if count > MOST_ITEMS:
        raise RefusedError(
            f"its header asks for too many {kind.stem}", expected=f"at most {MOST_ITEMS}", received=count
        )
    return _content(stream, (count, *kind.dims))


def _content(stream: BinaryIO, shape: tuple[int, ...]) -> Array:
    size = int(np.prod(shape))
    content = stream.read(size + 1)
    if len(content) != size:
        raise RefusedError(
            "its length is not what its header says",
            expected=f"{size} bytes after the header",
            received=f"{len(content)}" if len(content) < size else "more",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
