"""Coverage-guided fuzzing of the readers: ``python tests/fuzz_readers.py params|symbol|npz|onnx|zip|pickle|wire|size [-max_total_time=60]``.

Needs ``pip install atheris``. Whatever a reader raises that is not a ``NetferryError`` is a finding; it goes into ``tests/test_readers.py`` as a case.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["netferry"]):
    from netferry.converters.artifact import Artifact
    from netferry.converters.disk import archives
    from netferry.converters.errors import NetferryError
    from netferry.converters.mxnet import files as mxnet_files
    from netferry.converters.onnx import files as onnx_files
    from netferry.converters.pytorch import safety
    from netferry.converters.pytorch.safety import expressions
    from netferry.converters.trust import pickles, wire, zips
    from netferry.converters.trust.permit import Permit

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
FILE = FOLDER / "file"


def on_disk(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def one(content: bytes) -> object:
        FILE.write_bytes(content)
        return read(FILE)

    return one


def whole(message: memoryview) -> None:
    for field in wire.fields(message, "file"):
        if field.content is not None and len(field.content) < 1000:
            whole(field.content)


READERS: dict[str, Callable[[bytes], object]] = {
    "params": on_disk(mxnet_files.read_arrays),
    "symbol": mxnet_files.parse_symbol,
    "npz": on_disk(archives.read),
    "onnx": on_disk(lambda path: onnx_files.read(Artifact("onnx", path))),
    "zip": lambda content: zips.look(content, "file"),
    "pickle": lambda content: (pickles.globals_of(content, "file"), pickles.claims(content, "file")),
    "state": on_disk(lambda path: safety.look_at_weights(path, Permit())),
    "wire": lambda content: whole(memoryview(content)),
    "size": lambda content: expressions.is_size(content.decode("utf-8", "replace")),
}


def main() -> None:
    """Run one reader under libFuzzer until it is stopped or something is found."""
    read = READERS[sys.argv.pop(1)]

    def one(content: bytes) -> None:
        try:
            read(content)
        except NetferryError:
            return

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
