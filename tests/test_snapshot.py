"""What was looked at is what is loaded: files are swapped between the look and the load, and nothing of the other file gets in."""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hostile_good import write_good
from onnx import numpy_helper

from netferry.converters import frameworks, source
from netferry.converters.disk import archives
from netferry.converters.errors import RefusedError, WriteError
from netferry.converters.onnx import stream
from netferry.converters.trust import paths, snapshot, tables, zips
from netferry.inference.run import run


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("snapshot") / "good")


@pytest.fixture(params=["in memory", "in private files"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small files are held in memory, large ones as private copies."""
    if request.param != "in memory":
        monkeypatch.setattr(snapshot, "SMALL", 0)
        monkeypatch.setattr(stream, "_MAPPED_FROM", 0)
    return str(request.param)


# ---- swapped between the look and the load -------------------------------------------------------

Swap = Callable[[Path], None]


def replaced(path: Path) -> None:
    """Another file, or folder, comes into its place."""
    other = path.with_name("other")
    if path.is_dir():
        other.mkdir()
        (other / "saved_model.pb").write_bytes(b"not what was looked at")
        path.rename(path.with_name("gone"))
    else:
        other.write_bytes(b"not what was looked at")
    other.rename(path)


def linked(path: Path) -> None:
    """A link to somewhere else comes into its place."""
    path.rename(path.with_name("gone"))
    path.symlink_to("/etc")


def removed(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


SWAPS: dict[str, Swap] = {"replaced": replaced, "linked": linked, "removed": removed}
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pt2": ("net.pt2", ("net.pt2",)),
    "torchscript": ("script.pt", ("script.pt",)),
    "keras": ("net.keras", ("net.keras",)),
    "h5": ("whole.h5", ("whole.h5",)),
    "saved_model": ("served", ("served",)),
    "onnx": ("net.onnx", ("net.onnx",)),
    "external data": ("ext.onnx", ("ext.onnx", "ext.data")),
    "mxnet": ("mx-symbol.json", ("mx-symbol.json", "mx-0000.params")),
}
"""What is opened, and the files that are swapped."""


def swapping(monkeypatch: pytest.MonkeyPatch, folder: Path, names: tuple[str, ...], swap: Swap) -> list[str]:
    """From now on the files are swapped as soon as a look is over; gives where that was done."""
    done: list[str] = []

    def files(self: frameworks.Framework) -> Any:
        if not done:
            done.append(self.name)
            for name in names:
                swap(folder / name)
        return self.module("files")

    monkeypatch.setattr(frameworks.Framework, "files", property(files))
    monkeypatch.setattr(source.staging, "steadily", lambda path, read: read())
    return done


def outputs(model: object) -> list[np.ndarray]:
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    return [np.asarray(value) for value in run(model, [x]).values()]


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("form", MODELS)
def test_what_was_looked_at_is_what_is_loaded(
    form: str, swap: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "models"
    shutil.copytree(good, folder)
    name, swapped = MODELS[form]
    expected = outputs(source.open_source(good / name))
    done = swapping(monkeypatch, folder, swapped, SWAPS[swap])
    model = source.open_source(folder / name)
    assert (done and not (folder / swapped[0]).is_file()) or (folder / swapped[0]).read_bytes()[:3] == b"not"
    for one, other in zip(outputs(model), expected, strict=True):
        np.testing.assert_array_equal(one, other)


WEIGHTS = ("state.pt", "state.safetensors", "old.pt")


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_were_looked_at_are_what_is_loaded(
    name: str, swap: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.load(good / "state.pt")
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(state, folder / "state.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "state.safetensors")
    frameworks.named("pytorch").files  # noqa: B018 - imported before it is swapped
    done = swapping(monkeypatch, folder, (name,), SWAPS[swap])
    model: Any = source.open_source(f"{good / 'factory.py'}:net", folder / name)
    assert done
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in state)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("swap", SWAPS)
def test_onnxruntime_opens_what_was_looked_at(swap: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(good, folder)
    expected = outputs(good / "ext.onnx")
    opened = source.looked_at(folder / "ext.onnx")
    for name in ("ext.onnx", "ext.data"):
        SWAPS[swap](folder / name)
    assert str(opened) == str(folder / "ext.onnx")
    np.testing.assert_array_equal(outputs(opened)[0], expected[0])
    place = Path(opened)
    del opened
    assert not place.exists()


def test_a_file_that_becomes_another_kind_is_refused(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TorchScript stands where an exported program stood a moment ago, and the other way round."""
    for name, other in (("net.pt2", "script.pt"), ("script.pt", "net.pt2")):
        path = tmp_path / name
        shutil.copy(good / name, path)
        safety = frameworks.named("pytorch").safety
        look = safety.look

        def later(found: Any, *args: Any, path: Path = path, other: str = other, look: Any = look) -> Any:
            shutil.copy(good / other, path)
            return look(found, *args)

        with monkeypatch.context() as patched:
            patched.setattr(safety, "look", later)
            patched.setattr(source.staging, "steadily", lambda path, read: read())
            with pytest.raises(RefusedError, match="replaced while it was read"):
                source.open_source(path)


def test_a_folder_that_becomes_a_link_while_it_is_read_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between following the links of a name and opening what they lead to a folder on the way is swapped."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "data").mkdir(parents=True)
    outside.mkdir()
    (home / "data" / "w.bin").write_bytes(b"inside")
    (outside / "w.bin").write_bytes(b"secret")
    with paths.opened_inside(home, "data/w.bin", "net.onnx") as file:
        assert file.read() == b"inside"
    walked = paths._walked

    def swapped(base: Path, parts: tuple[str, ...]) -> int:
        (home / "data").rename(home / "gone")
        (home / "data").symlink_to(outside)
        return walked(base, parts)

    monkeypatch.setattr(paths, "_walked", swapped)
    with pytest.raises(RefusedError, match="cannot be read"):
        paths.opened_inside(home, "data/w.bin", "net.onnx")


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_file_that_grows_while_it_is_read_is_refused(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"x" * 100)
    monkeypatch.setattr(snapshot, "SMALL", 0 if times > 1 else 1 << 20)
    held = snapshot.unchanged

    def growing(file: Any, where: str) -> Any:
        whole = held(file, where)
        enter = whole.__enter__

        class Grown:
            def __enter__(self) -> int:
                size = int(enter())
                with path.open("ab") as more:
                    more.write(b"y" * times)
                os.utime(path, (times, times))
                return size

            def __exit__(self, *error: Any) -> Any:
                return whole.__exit__(*error)

        return Grown()

    monkeypatch.setattr(snapshot, "unchanged", growing)
    with pytest.raises(RefusedError, match="changed while it was read"):
        snapshot.take(path)


# ---- private files -------------------------------------------------------------------------------


def test_private_copies_are_nobody_elses_and_go_with_their_last_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SMALL", 0)
    (tmp_path / "net.bin").write_bytes(b"abc" * 100)
    held = snapshot.take(tmp_path / "net.bin")
    place = held.path("model.bin")
    assert place.read_bytes() == b"abc" * 100 and place.name == "model.bin"
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.parent.parent.stat().st_mode) == 0o700
    view = held.view()
    assert isinstance(view.obj, mmap.mmap)
    del held
    assert not place.parent.exists() and bytes(view[:3]) == b"abc"


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    """Its folder is locked as long as it lives."""
    program = (
        "import os, sys; from pathlib import Path; from netferry.converters.trust import snapshot; snapshot.SMALL = 0;"
        "held = snapshot.take(Path(sys.argv[1])); place = held.path('x'); os.utime(place.parent.parent, (1, 1));"
        "print(place.parent.parent, flush=True); sys.stdin.read()"
    )
    (tmp_path / "net.bin").write_bytes(b"abc")
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent.parent)}

    def started() -> tuple[Any, Path]:
        arguments = [sys.executable, "-c", program, str(tmp_path / "net.bin")]
        process = subprocess.Popen(arguments, env=environment, stdin=-1, stdout=-1, text=True)
        return process, Path(process.stdout.readline().strip())

    first, left = started()
    assert left.is_dir()
    second, own = started()
    assert left.is_dir(), "it is in use"
    first.kill()
    first.wait()
    os.utime(left, (1, 1))
    third, _ = started()
    assert not left.exists() and own.is_dir()
    for process in (second, third):
        process.communicate("")
    assert not own.exists()


def test_no_room_for_a_private_copy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.bin").write_bytes(bytes(100))

    def full(source: Any, target: Any, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot, "SMALL", 0)
    monkeypatch.setattr(snapshot, "_copy", full)
    with pytest.raises(WriteError, match=r"no private copy.*No space left.*TMPDIR"):
        snapshot.take(tmp_path / "net.bin")


@pytest.mark.parametrize(
    "hidden", [("fcntl",), ("copy_file_range",), ("fcntl", "copy_file_range", "O_NOFOLLOW", "O_NONBLOCK")]
)
def test_systems_without_the_names_of_linux_make_copies_too(
    hidden: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "net.bin").write_bytes(content)
    monkeypatch.setattr(snapshot, "SMALL", 0)
    for name in hidden:
        if name == "fcntl":
            monkeypatch.setattr(snapshot, "fcntl", None)
        else:
            monkeypatch.delattr(os, name)
    assert snapshot.take(tmp_path / "net.bin").read() == content
    assert snapshot.take_inside(tmp_path, "net.bin", "x").read(5, 1 << 20) == content[1 << 20 :][:5]


def held_weight(folder: Path) -> tuple[stream.MappedTensor, np.ndarray]:
    content = np.arange(2000, dtype=np.float32)
    content.tofile(folder / "w")
    head = numpy_helper.from_array(content[500:1500], "w")
    head.external_data.add(key="location", value="w")
    return stream.MappedTensor(snapshot.mapped(folder / "w"), head, 2000, 4000), content[500:1500]


@pytest.mark.usefixtures("size")
def test_a_weight_in_a_file_that_is_replaced_is_still_there(tmp_path: Path) -> None:
    """Mapped weights are read and written from the file that was opened."""
    held, content = held_weight(tmp_path)
    (tmp_path / "other").write_bytes(b"another")
    (tmp_path / "other").replace(tmp_path / "w")
    with (tmp_path / "out").open("wb") as file:
        file.write(b"head")
        held.tofile(file)
        file.write(b"tail")
    assert (tmp_path / "out").read_bytes() == b"head" + content.tobytes() + b"tail"
    np.testing.assert_array_equal(held.numpy(), content)
    assert held.tobytes() == content.tobytes()


@pytest.mark.parametrize("way", ["written over", "cut", "longer"])
def test_a_weight_in_a_file_that_is_written_to_is_refused(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place where it is read, a large file may not change."""
    monkeypatch.setattr(snapshot, "SMALL", 0)
    held, _ = held_weight(tmp_path)
    with (tmp_path / "w").open("r+b") as file:
        file.truncate(4000) if way == "cut" else file.seek(0, 2 if way == "longer" else 0)
        file.write(b"another")
    os.utime(tmp_path / "w", (1, 1))
    for read in (held.numpy, held.tobytes, lambda: held.tofile((tmp_path / "out").open("wb"))):
        with pytest.raises(RefusedError, match="changed while it was read"):
            read()


def test_numbers_of_four_bits_are_read_from_a_file(tmp_path: Path) -> None:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.INT4, [5], [1, -2, 3, -8, 7])
    (tmp_path / "w").write_bytes(tensor.raw_data or bytes(np.array([0xE1, 0x83, 0x07], np.uint8)))
    tensor.external_data.add(key="location", value="w")
    held = stream.MappedTensor(snapshot.mapped(tmp_path / "w"), tensor, 0, 3)
    assert held.numpy().astype(int).tolist() == [1, -2, 3, -8, 7]


# ---- the new archive -----------------------------------------------------------------------------


def test_an_archive_of_more_than_four_gigabytes_is_laid_out_with_long_numbers() -> None:
    """The numbers alone: nobody writes such a file here."""
    found = [tables.Entry("top/a", 5 << 30, 40), tables.Entry("top/B", 3, 0)]
    more, made = zips._laid_out(found, tables.PYTORCH)
    assert [entry.filename for entry in made] == ["archive/a", "archive/b"]
    assert made[1].start > 5 << 30 and all(entry.start % 64 == 0 for entry in made) and more < 1000


class Far(BytesIO):
    """The last bytes of a file that is longer than anything that a test writes."""

    def __init__(self, last: bytes, size: int) -> None:
        super().__init__(last)
        self._before = size - len(last)

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(offset - self._before, whence)


@pytest.mark.parametrize(
    "count, length, start", [(70_000, 1 << 20, 100), (3, 200, 6 << 30), (3, 5 << 30, 1 << 30), (3, 200, 100)]
)
def test_the_ends_of_long_archives_are_read_as_they_are_written(count: int, length: int, start: int) -> None:
    end = zips._ends(count, length, start)
    size = start + length + len(end)
    assert len(end) == (22 if max(count, length, start) < 1000 else 98)
    assert tables._end(Far(bytes(60) + end, size), size, "x") == (start, length, count)


@pytest.mark.parametrize("form", ["stored", "deflated", "described"])
def test_ordinary_archives_are_taken_as_they_are(form: str, tmp_path: Path) -> None:
    contents = {"a.txt": b"x" * 5000, "folder/ä.bin": bytes(range(256)) * 40, "empty": b""}
    stream_: Any = BytesIO()
    if form == "described":
        stream_.seekable = lambda: False
    method = zipfile.ZIP_STORED if form == "stored" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(stream_, "w", method) as archive:
        archive.mkdir("folder") if sys.version_info >= (3, 11) else None
        for name, content in contents.items():
            archive.writestr(name, content)
    found = zips.look(stream_.getvalue(), "ordinary")
    assert {name: found.read(name) for name in found.entries} == contents
    with zipfile.ZipFile(found.content.open()) as again:
        assert again.testzip() is None and set(again.namelist()) == set(contents)


@pytest.mark.parametrize("name", ["x:0", "layer/kernel:0", "W", "two  words ", "ärger", "a//b", "file.npy"])
def test_arrays_of_numpys_may_be_called_what_no_file_is(name: str, tmp_path: Path) -> None:
    """These names are keys, though none that climbs; numpy tells capitals apart."""
    given = {name: np.arange(3), name.swapcase() + "_": np.ones(2)}
    np.savez(tmp_path / "x.npz", **given)
    found = archives.read(tmp_path / "x.npz")
    assert found is not None and found[1] == list(given)
    np.testing.assert_array_equal(found[0][0], np.arange(3))
