"""Arrays from and to numpy's own files, for the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.artifact import beside
from netferry.converters.disk import archives
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand, staged
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import Array
from netferry.inference.parts import RESULTS


def load_inputs(flags: Sequence[str]) -> dict[str, Array]:
    """Read ``name=file.npy`` flags, a bare ``file.npy``, or one ``file.npz`` with all inputs."""
    arrays: dict[str, Array] = {}
    for position, flag in enumerate(flags):
        name, found, path = flag.rpartition("=")
        if not found and not path.endswith((".npy", ".npz")):
            raise UsageError(
                "an input is read from a file", expected="x=FILE.npy, FILE.npy or FILE.npz", received=flag
            )
        loaded = _load(Path(path))
        if isinstance(loaded, dict):
            arrays |= loaded
        else:
            arrays[name if found else f"input_{position}"] = loaded
    return arrays


def demand_output(path: Path | None, replacing: Overwriting) -> None:
    """Refuse, before any work, a name that outputs are not written to."""
    if path is not None and path.suffix != ".npz":
        raise UsageError(
            "outputs are written as .npz", expected="a name that ends in .npz", received=path.name
        )
    demand(path, RESULTS, replacing)


def save_outputs(path: Path, outputs: Mapping[str, Array], replacing: Overwriting | None = None) -> None:
    """Write all outputs into one ``.npz`` under their names."""
    with staged(path, RESULTS, replacing) as stage, stage.open("wb") as file:
        archives.write(file, outputs)


def summary(outputs: Mapping[str, Array], path: Path | None) -> dict[str, Any]:
    """Names, dtypes and shapes; the values too where they are not written to a file."""
    return {
        "outputs": [
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
            | ({} if path else {"values": array.tolist()})
            for name, array in outputs.items()
        ],
        "file": None if path is None else str(path),
    }


def _load(path: Path) -> Array | dict[str, Array]:
    if not path.exists():
        raise RefusedError("there is no such file or folder", where=str(path), remedy=beside(path))
    found = archives.read(path)
    if found is None:
        raise RefusedError("cannot be read as arrays", where=str(path), expected="a .npy or .npz file")
    held, names = found
    arrays = [np.array(array) for array in held]
    return dict(zip(names, arrays, strict=True)) if names else arrays[0]
