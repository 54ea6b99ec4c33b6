"""Real rows to compare two models on: what ``run --data`` reads, the first of them that can be given to the model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array, Signature
from netferry.inference.data import open_data
from netferry.inference.feed import feeder
from netferry.inference.images import Pixels
from netferry.validation.samples.inputs import Sample

ROWS = 16
"""Rows that are taken: all at once, and the first of them alone."""
LOOKED_AT = 256
"""Rows that are read to find so many that can be given to the model."""


@dataclass(frozen=True)
class Rows:
    """A data set, the columns of each input where names do not decide, and how its images become numbers."""

    data: Path
    columns: Mapping[str, Sequence[str]] | None = None
    pixels: Pixels | None = None

    def samples(self, signature: Signature) -> list[Sample]:
        """Up to ``ROWS`` rows as one batch, and the first alone where the batch is free.

        Raises RefusedError where no row can be given to the model.
        """
        arrays = self._first(signature)
        count = len(next(iter(arrays.values())))
        fixed = {spec.dims[0] for spec in signature.inputs if spec.dims and isinstance(spec.dims[0], int)}
        taken = [size for size in fixed if size <= count] if fixed else sorted({count, 1}, reverse=True)
        if not taken:
            raise RefusedError(
                "the data has fewer rows than the model takes at once",
                where=str(self.data),
                expected=", ".join(map(str, sorted(fixed))),
                received=count,
            )
        return [
            Sample(
                f"{rows} {'row' if rows == 1 else 'rows'} of {self.data.name}",
                {name: array[:rows] for name, array in arrays.items()},
            )
            for rows in taken
        ]

    def document(self, taken: Sequence[Sample]) -> dict[str, str]:
        """What a report keeps of them: the data's name, and a digest of the rows that were taken."""
        digest = hashlib.sha256()
        for name, array in sorted(taken[0].arrays.items()):
            digest.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
        return {"name": self.data.name, "sha256": digest.hexdigest()}

    def _first(self, signature: Signature) -> dict[str, Array]:
        opened = open_data(self.data)
        feed = feeder(opened, signature, self.columns, self.pixels)
        for block in opened.blocks(0, LOOKED_AT, feed.wanted, LOOKED_AT):
            arrays, bad = feed.arrays(block)
            good = [row for row in range(block.rows) if row not in bad][:ROWS]
            if good:
                return {name: array[good] for name, array in arrays.items()}
        raise RefusedError("no row of the data can be given to the model", where=str(self.data))
