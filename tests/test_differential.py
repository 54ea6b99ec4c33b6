"""Two readers never see two files: what the look has seen is what a framework's own reader opens, by names and bytes.

Mutants change how a file is put together (``structure_mutants.py``). Each is refused, or the framework's reader finds in what it is handed,
and in the file itself where it reads that at all, the same names and the same bytes. Everyday some hundred of each format; with ``--all`` 10,000.
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_good import write_torch
from structure_mutants import mutant_of_hdf5, mutant_of_safetensors, mutant_of_zip

from netferry.converters.artifact import Artifact
from netferry.converters.disk import archives
from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.pytorch import safety as pytorch
from netferry.converters.tensorflow import safety as keras
from netferry.converters.trust import hdf5, snapshot, tables, zips
from netferry.converters.trust.permit import Permit

EVERYDAY, ALL = 200, 10_000
Content = dict[str, bytes]
"""What a reader finds: bytes by name."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return good_files(tmp_path_factory.mktemp("differential"))


def good_files(folder: Path) -> Mapping[str, bytes]:
    """What is spoilt, by name."""
    from safetensors.numpy import save

    write_torch(folder)
    arrays = {
        "W": np.arange(6, dtype=np.float32).reshape(2, 3),
        "w": np.ones(3, np.int8),
        "b/c": np.zeros((2, 0)),
    }
    stream = BytesIO()
    np.savez(stream, **arrays)
    files = {name: (folder / name).read_bytes() for name in ("net.pt2", "script.pt", "state.pt")}
    weights = hdf5_of("layers/dense/vars")
    files |= {
        "net.weights.h5": weights,
        "net.keras": keras_of(weights),
        "whole.h5": hdf5_of("model_weights/dense/dense"),
    }
    return files | {"data.npz": stream.getvalue(), "w.safetensors": save(arrays)}


def hdf5_of(group: str) -> bytes:
    """Weights and a configuration as Keras keeps them."""
    import h5py

    stream = BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(CONFIG)
        file[f"{group}/0"], file[f"{group}/1"] = np.arange(12, dtype="f4").reshape(3, 4), np.ones(4, "f4")
        file[group].attrs["weight_names"] = [b"0", b"1"]
        file.create_dataset("vars/0", data=np.arange(40.0), chunks=(8,), compression="gzip")
    return stream.getvalue()


def keras_of(weights: bytes) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entries = {
            "metadata.json": b"{}",
            "config.json": json.dumps(CONFIG).encode(),
            "model.weights.h5": weights,
        }
        for name, content in (entries | {"assets/words.txt": b"a b"}).items():
            archive.writestr(name, content)
    return stream.getvalue()


CONFIG = {
    "module": "keras", "class_name": "Sequential", "registered_name": None,
    "config": {"name": "net", "layers": [{"module": "keras.layers", "class_name": "Dense", "registered_name": None,
                                          "config": {"name": "dense", "units": 4}}]},
}  # fmt: skip


# ---- what the look has seen, and what a framework's reader opens -------------------------------------


def of_torch(content: bytes) -> Content:
    """As torch.export.load, torch.jit.load and torch.load open it."""
    import torch

    reader = torch._C.PyTorchFileReader(BytesIO(content))
    return {
        f"{zips.FOLDER}/{name.lower()}": reader.get_record(name)
        for name in reader.get_all_records()
        if name[-1:] != "/"
    }


def of_zipfile(content: bytes) -> Content:
    """As Keras opens it."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1:] != "/"}


def of_numpy(content: bytes) -> Content:
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files}


def of_h5py(source: Any) -> Content:
    """All arrays that stand under any name, whatever link leads there."""
    import h5py

    found: Content = {}

    def walk(group: Any, prefix: str, depth: int) -> None:
        for name in group:
            each = group[name]
            if isinstance(each, h5py.Group) and depth < 20:
                walk(each, f"{prefix}{name}/", depth + 1)
            elif isinstance(each, h5py.Dataset):
                value = each[()]
                content = value.tobytes() if hasattr(value, "tobytes") else value
                found[f"{prefix}{name}"] = f"{each.shape} {each.dtype} ".encode() + content

    with h5py.File(source, "r") as file:
        walk(file, "", 0)
    return found


def of_safetensors(content: bytes) -> Content:
    from safetensors.numpy import load

    return {name: shown(array) for name, array in load(content).items()}


def shown(array: Any) -> bytes:
    return f"{array.shape} {array.dtype} ".encode() + (
        array.tobytes() if hasattr(array, "tobytes") else bytes(array)
    )


class Reads:
    """The entries that the look has read; each is what it says of the new archive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        read = zips.Archive.read

        def noted(archive: zips.Archive, name: str) -> bytes:
            self.names.add(name)
            return read(archive, name)

        monkeypatch.setattr(zips.Archive, "read", noted)


def seen_archive(looked: Any, reader: tables.Reader) -> tuple[Content, bytes]:
    handed = looked.content.read()
    archive = zips.look(handed, "handed", reader)
    assert archive.content.read() == handed, "the new archive has more than one reading"
    return {name: bytes(archive.view(name)) for name in archive.entries}, handed


def acts(name: str) -> bool:
    """Whether PyTorch reads more than bytes in an entry of this name."""
    return name.endswith((".pkl", ".json", ".py", ".pt")) or "/models/" in name or "/sample_inputs/" in name


Look = Callable[[Path, Reads], tuple[Content, bytes]]


def look_pt2(path: Path, reads: Reads) -> tuple[Content, bytes]:
    return _torch(pytorch.look(Artifact("pt2", path)), reads)


def look_script(path: Path, reads: Reads) -> tuple[Content, bytes]:
    return _torch(pytorch.look(Artifact("torchscript", path)), reads)


def look_state(path: Path, reads: Reads) -> tuple[Content, bytes]:
    return _torch(pytorch.look_at_weights(path, Permit()), reads)


def _torch(looked: Any, reads: Reads) -> tuple[Content, bytes]:
    seen, handed = seen_archive(looked, tables.PYTORCH)
    assert {name for name in seen if acts(name)} <= reads.names, "PyTorch reads what nobody has looked at"
    return seen, handed


def look_keras(path: Path, reads: Reads) -> tuple[Content, bytes]:
    return seen_archive(keras.look(Artifact("keras", path)), tables.KERAS)


def look_npz(path: Path, reads: Reads) -> tuple[Content, bytes]:
    found = archives.read(path)
    if found is None:
        raise RefusedError("no arrays of numpy's", where=str(path))
    values, names = found
    return {
        name: np.asarray(value).tobytes() for name, value in zip(names, values, strict=True)
    }, path.read_bytes()


def look_h5(path: Path, reads: Reads) -> tuple[Content, bytes]:
    held = snapshot.take(path)
    place = held.path("model.h5")
    arrays = hdf5.look(place, held.size, str(path)).arrays
    try:
        found = of_h5py(place)
    except OSError as error:  # HDF5 finds it damaged where it reads the numbers
        raise RefusedError(str(error), where=str(path)) from error
    assert {name: f"{shape} {dtype} ".encode() for name, (shape, dtype) in arrays.items()} == {
        name: content[: len(f"{arrays[name][0]} {arrays[name][1]} ")]
        for name, content in found.items()
        if name in arrays
    }
    return {name: found[name] for name in arrays}, held.read()


def look_safetensors(path: Path, reads: Reads) -> tuple[Content, bytes]:
    """Nobody looks into it but safetensors itself: what it maps by path against what it is handed."""
    from safetensors import safe_open

    held = pytorch.look_at_weights(path, Permit()).content
    try:
        with safe_open(path, "np") as file:
            return {name: shown(file.get_tensor(name)) for name in file.keys()}, held.read()  # noqa: SIM118 - not a mapping
    except Exception as error:  # safetensors' own, and KeyError for a dtype that numpy does not have
        raise RefusedError(str(error), where=str(path)) from error


Mutate = Callable[[bytes, random.Random], bytes]
FORMATS: Mapping[str, tuple[str, Mutate, Look, Callable[..., Content]]] = {
    "pt2": ("net.pt2", mutant_of_zip, look_pt2, of_torch),
    "torchscript": ("script.pt", mutant_of_zip, look_script, of_torch),
    "state_dict": ("state.pt", mutant_of_zip, look_state, of_torch),
    "keras": ("net.keras", mutant_of_zip, look_keras, of_zipfile),
    "npz": ("data.npz", mutant_of_zip, look_npz, of_numpy),
    "h5": ("whole.h5", mutant_of_hdf5, look_h5, lambda content: of_h5py(BytesIO(content))),
    "weights_h5": ("net.weights.h5", mutant_of_hdf5, look_h5, lambda content: of_h5py(BytesIO(content))),
    "safetensors": ("w.safetensors", mutant_of_safetensors, look_safetensors, of_safetensors),
}
"""Each format: the good file, what spoils it, our look, and the reader of the framework that loads it."""


def alike(form: str, seeds: range, good: Mapping[str, bytes], reads: Reads, folder: Path) -> tuple[int, int]:
    """How many mutants the look refused, and how many were seen alike by both readers.

    Raises:
        AssertionError: one was seen in two ways.
    """
    name, mutate, look, opens = FORMATS[form]
    refused = passed = 0
    path = folder / name
    for number in seeds:
        content = mutate(good[name], random.Random(f"{form} {number}"))
        path.write_bytes(content)
        reads.names.clear()
        try:
            seen, handed = look(path, reads)
        except NetferryError:
            refused += 1
            continue
        for given in (handed, content):
            try:
                opened = opens(given)
            except Exception:  # the framework's reader refuses it in its turn
                continue
            assert opened == seen, f"{form} {number}: {'handed on' if given is handed else 'the file itself'}"
            passed += given is handed
    return refused, passed


def check(form: str, count: int, good: Mapping[str, bytes], reads: Reads, folder: Path) -> None:
    """No mutant is seen in two ways; some are refused and some are not, or they would show nothing."""
    refused, passed = alike(form, range(count), good, reads, folder)
    assert refused > count // 10 and passed > count // 50


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    yield Reads(monkeypatch)


@pytest.mark.parametrize("form", FORMATS)
def test_no_two_readers_see_two_files(
    form: str, good: Mapping[str, bytes], reads: Reads, tmp_path: Path
) -> None:
    check(form, EVERYDAY, good, reads, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_no_two_readers_see_two_files_in_ten_thousand(
    form: str, good: Mapping[str, bytes], reads: Reads, tmp_path: Path
) -> None:
    check(form, ALL, good, reads, tmp_path)
