"""HDF5 (Keras' weights): numbers only, in the file itself, as many as it has bytes for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.trust.tables import ALWAYS, MOST_TIMES, room

_FILTERS = frozenset({1, 2, 3, 32000})
"""deflate, shuffle, fletcher32, lzf: what h5py brings. Any other would be looked for among the system's plugins."""


_FEWEST_CHUNKS, _BYTES_PER_CHUNK = 4096, 8
"""A file has at least so many bytes for each chunk of an array that has many."""


_READ = ("model_config", "keras_version")
"""The attributes of a file's root that are of interest here."""


@dataclass(frozen=True)
class Seen:
    """What stands in a file: those attributes of its root, and the shape and dtype of every array by its path."""

    attributes: Mapping[str, Any]
    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


def look(source: Path | IO[bytes], size: int, where: str) -> Seen:
    """What stands in a file, once all of it is known to be plain; ``size`` is the file's, in bytes."""
    import h5py

    arrays, claimed = {}, 0
    try:
        with h5py.File(source, "r") as file:
            _check_attributes(file, "/", size, h5py, where)
            for name, found in _objects(file, h5py, where):
                _check_attributes(found, name, size, h5py, where)
                if not isinstance(found, h5py.Group):
                    claimed += _look_at(found, name, size, h5py, where)
                    arrays[name] = found.shape, found.dtype
            attributes = {name: _attribute(file, name) for name in _READ if name in file.attrs}
    except RefusedError:
        raise
    except (
        Exception
    ) as error:  # h5py raises OSError, KeyError, RuntimeError, ValueError, TypeError for damaged files
        raise RefusedError(f"a damaged HDF5 file ({first_line(error)})", where=where) from error
    if claimed > room(size):
        raise RefusedError(
            "an HDF5 file whose arrays are far larger than its size allows",
            where=where,
            expected=f"at most {room(size):,} bytes",
            received=f"{claimed:,} bytes",
        )
    return Seen(attributes, arrays)


def _objects(group: Any, h5py: Any, where: str) -> Iterator[tuple[str, Any]]:
    """All that lies below ``group``, by its path; a link by path, into another file or round to its own parent is none of Keras'."""
    open_groups, seen = [("", group)], {h5py.h5o.get_info(group.id).addr}
    while open_groups:
        prefix, each = open_groups.pop()
        for name in each:
            path = f"{prefix}{name}"
            link = each.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise RefusedError(
                    f"an HDF5 file with a link ({type(link).__name__})", where=where, received=repr(path)
                )
            found = each[name]
            yield path, found
            if isinstance(found, h5py.Group):
                address = h5py.h5o.get_info(found.id).addr
                if address in seen:
                    raise RefusedError(
                        "an HDF5 file whose groups hold each other", where=where, received=repr(path)
                    )
                seen.add(address)
                open_groups.append((f"{path}/", found))


def _check_attributes(found: Any, name: str, size: int, h5py: Any, where: str) -> None:
    """Refuse a list of texts that would be far larger in memory than its file: all of them may be one that stands there once."""
    for position in range(h5py.h5a.get_num_attrs(found.id)):
        attribute = h5py.h5a.open(found.id, index=position)
        kind = attribute.get_type()
        is_text = isinstance(kind, h5py.h5t.TypeStringID)
        if kind.is_variable_str() if is_text else kind.detect_class(h5py.h5t.VLEN):
            count = math.prod(attribute.shape) * (1 if is_text else kind.get_size())
            if count > 1 and count * size > room(size):
                raise RefusedError(
                    "an HDF5 file with a list of texts that may be far larger than its size allows",
                    where=where,
                    received=f"{attribute.name.decode('utf-8', 'replace')!r} of {name!r}, {count:,} texts",
                )


def _look_at(found: Any, name: str, size: int, h5py: Any, where: str) -> int:
    """The bytes that a dataset takes in memory, its chunks whole."""
    if not isinstance(found, h5py.Dataset):
        raise RefusedError("an HDF5 file with a type of its own", where=where, received=repr(name))
    properties = found.id.get_create_plist()
    filters = {properties.get_filter(index)[0] for index in range(properties.get_nfilters())}
    problem = (
        "kept in another file" if found.external or found.is_virtual
        else "of texts or objects" if not (_is_plain(found, h5py) or _is_text(found, h5py))
        else f"filtered by a plugin ({sorted(filters - _FILTERS)})" if filters - _FILTERS
        else ""
    )  # fmt: skip
    if problem:
        raise RefusedError(f"an HDF5 file with an array {problem}", where=where, received=repr(name))
    shape, step = found.shape or (), found.chunks or (1,) * len(found.shape or ())
    counts = [-(-dim // each) for dim, each in zip(shape, step, strict=True)]
    if found.chunks and math.prod(counts) > max(_FEWEST_CHUNKS, size // _BYTES_PER_CHUNK):
        raise RefusedError("an HDF5 file with an array in too many pieces", where=where, received=repr(name))
    claimed = int(math.prod(counts) * math.prod(step) * found.dtype.itemsize)
    times, problem = (MOST_TIMES, "far larger than its size allows") if filters else (1, "that is not there")
    if claimed > max(ALWAYS, times * found.id.get_storage_size()):
        raise RefusedError(f"an HDF5 file with an array {problem}", where=where, received=repr(name))
    return claimed


def _is_plain(found: Any, h5py: Any) -> bool:
    """Numbers, or structures of numbers."""
    kind = found.id.get_type()
    elsewhere = any(kind.detect_class(each) for each in (h5py.h5t.VLEN, h5py.h5t.REFERENCE))
    return found.dtype.kind in "biufcV" and not elsewhere


def _is_text(found: Any, h5py: Any) -> bool:
    """A single short text: Keras keeps a vocabulary or a name so."""
    return found.dtype.kind == "S" or (
        h5py.check_string_dtype(found.dtype) is not None and math.prod(found.shape or ()) <= 1
    )


def _attribute(file: Any, name: str) -> Any:
    try:
        return file.attrs[name]
    except Exception:  # an attribute of a type that h5py has no numpy for
        return None
