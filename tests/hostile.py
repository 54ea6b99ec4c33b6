"""Makes hostile and broken files, all of them harmless: what one would run writes a marker file, nothing more.

``python tests/hostile.py FOLDER`` writes them all. Each case is a function from a ``Kit`` to the arguments of
``netferry convert``; the tests hold that each is refused, with the words that stand beside it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECRET = b"not of this model: 6f1c9a"
"""Stands beside every model's folder; no output may hold it."""


@dataclass(frozen=True)
class Kit:
    """A folder of its own for each case, the good models to spoil, and the marker that nobody may write."""

    folder: Path
    good: Path

    @property
    def marker(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.marker"

    @property
    def secret(self) -> Path:
        path = self.folder.parent / "secret.bin"
        path.write_bytes(SECRET * 64)
        return path

    @property
    def command(self) -> str:
        return f"touch {self.marker}"

    def copy(self, name: str) -> Path:
        """A good model, to be spoilt: its file or folder, with what belongs to it."""
        source = self.good / name
        target = self.folder / name
        if source.is_dir():
            shutil.copytree(source, target)
            return target
        for each in self.good.glob(f"{name.partition('.')[0].removesuffix('-symbol')}[-.]*"):
            shutil.copy(each, self.folder / each.name)
        return target


Maker = Callable[[Kit], object]


@dataclass(frozen=True)
class Case:
    """``words`` are what the error must say; ``slow`` needs a framework to be loaded, or limits to be met."""

    name: str
    make: Maker
    words: str


CASES: dict[str, Case] = {}


def case(words: str, name: str = "") -> Callable[[Maker], Maker]:
    """Enter a maker under its own name; ``words`` are a regular expression."""

    def enter(make: Maker) -> Maker:
        key = name or make.__name__
        assert key not in CASES, key
        CASES[key] = Case(key, make, words)
        return make

    return enter


def cases(
    rows: Mapping[str, tuple[object, str]], prefix: str
) -> Callable[[Callable[[Kit, object], object]], None]:
    """Enter one maker for many values: ``{name: (value, words)}``."""

    def enter(make: Callable[[Kit, object], object]) -> None:
        for name, (value, words) in rows.items():

            def bound(kit: Kit, value: object = value) -> object:
                return make(kit, value)

            case(words, f"{prefix}_{name}")(bound)

    return enter


def arguments(case: Case, kit: Kit) -> list[str]:
    """What follows ``netferry convert``; the destination is ``out.onnx`` beside the case's folder."""
    made = case.make(kit)
    given: Sequence[object] = made if isinstance(made, list) else [made]
    return [
        str(given[0]),
        str(kit.folder.parent / f"{kit.folder.name}.out" / "out.onnx"),
        *map(str, given[1:]),
    ]


def load() -> Mapping[str, Case]:
    """All cases; the modules beside this one enter them."""
    import hostile_archives  # noqa: F401
    import hostile_huggingface  # noqa: F401
    import hostile_keras  # noqa: F401
    import hostile_mxnet  # noqa: F401
    import hostile_onnx  # noqa: F401
    import hostile_programs  # noqa: F401
    import hostile_pytorch  # noqa: F401
    import hostile_readers  # noqa: F401
    import hostile_saved_model  # noqa: F401
    import hostile_tflite  # noqa: F401
    import hostile_variants  # noqa: F401

    return CASES


if __name__ == "__main__":
    sys.modules["hostile"] = sys.modules["__main__"]
    from hostile_good import write_good

    home = Path(sys.argv[1])
    write_good(home / "good")
    for one in load().values():
        kit = Kit(home / one.name, home / "good")
        kit.folder.mkdir()
        arguments(one, kit)
