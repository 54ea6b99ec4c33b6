"""Which files of a folder belong to an MXNet symbol, and which to a checkpoint of TensorFlow, by the names that they are given."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from netferry.converters.errors import RefusedError
from netferry.converters.trust import paths

SYMBOL = re.compile(r"(?:^|/)[^/]*symbol\.json$")
_HEAD, _MOST, _DEPTH = 1 << 12, 1000, 3
_SOCKEYE = re.compile(r"params(\.\d+|\.best)?")
_PAIR = ("args.nd", "auxs.nd")
_EPOCH = re.compile(r"(?P<prefix>.+):(?P<epoch>\d{1,9})")


def hidden_symbols(folder: Path) -> list[Path]:
    """Symbols of a folder that has none called so: JSON files beside params that are one, else those of its folders (AutoGluon's lie there)."""
    found: list[Path] = []
    if any(folder.glob("*.params")) or any((folder / name).is_file() for name in _PAIR):
        found = [
            path
            for path, _ in zip(sorted(folder.glob("*.json")), range(_MOST), strict=False)
            if _is_symbol(path)
        ]
    return found or sorted(_below(folder))


def _below(folder: Path) -> Iterator[Path]:
    seen = 0
    for place, folders, files in os.walk(folder):
        seen += len(files) + len(folders)
        yield from (Path(place, name) for name in files if SYMBOL.search(name))
        if seen > _MOST or len(Path(place).relative_to(folder).parts) >= _DEPTH:
            folders.clear()


def _is_symbol(path: Path) -> bool:
    """Whether a JSON file begins as MXNet writes a symbol."""
    if not path.is_file():
        return False
    with paths.opened(path) as file:
        return re.match(rb'\s*\{\s*"nodes"\s*:\s*\[', file.read(_HEAD)) is not None


def prefix_of(symbol: str) -> str:
    """``net`` of ``net-symbol.json``; empty for ``symbol.json``."""
    name = PurePosixPath(symbol).name.removesuffix(".json")
    return name.removesuffix("-symbol") if name != "symbol" else ""


def chosen(symbol: str, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of ``names`` in one folder: the params files that may belong to the symbol, the last being meant, and what is read
    with it.

    By the symbol's own name (``net-0007.params``, ``net.params``), or, where there is none, Sockeye's ``params.best``,
    a pair ``args.nd`` and ``auxs.nd``, or the only params file there.
    """
    prefix, known = prefix_of(symbol), sorted(names)
    epochs = [(number, name) for name in known if (number := epoch_of(name, prefix)) is not None]
    if prefix and (own := [*_plain(prefix, known), *(name for _, name in sorted(epochs))]):
        return tuple(own), ()
    if own := sorted(filter(_SOCKEYE.fullmatch, known), key=_rank):
        return tuple(own), ()
    if set(_PAIR) <= set(known):
        return _PAIR[:1], _PAIR[1:]
    others = [name for name in known if name.endswith(".params")]
    return (tuple(others), ()) if len(others) == 1 else ((), ())


def _plain(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == f"{prefix}.params"]


def _rank(name: str) -> tuple[bool, int]:
    """``params.00012`` after ``params.00003``, ``params.best`` last."""
    ending = name.rpartition(".")[2]
    return ending == "best", int(ending) if ending.isdigit() else -1


def epoch_of(name: str, prefix: str) -> int | None:
    """7 of ``net-0007.params``."""
    match = re.fullmatch(re.escape(prefix) + r"-(\d+)\.params", name)
    return int(match[1]) if match else None


def by_prefix(path: str | os.PathLike[str]) -> tuple[Path, str] | None:
    """The symbol that ``prefix`` or ``prefix:7`` means, and its epoch as text; None where there is none.

    As ``mx.model.load_checkpoint(prefix, epoch)`` has it.
    """
    text = os.fspath(path)
    match = _EPOCH.fullmatch(text)
    prefix, epoch = (match["prefix"], match["epoch"]) if match else (text, "")
    symbol = Path(f"{prefix}-symbol.json")
    return (symbol, epoch) if os.path.lexists(symbol) else None


def at_epoch(symbol: Path, epoch: str) -> Path:
    """The params file of an epoch."""
    prefix = prefix_of(symbol.name)
    found = {
        number: name for name in os.listdir(symbol.parent) if (number := epoch_of(name, prefix)) is not None
    }
    if int(epoch) not in found:
        raise RefusedError(
            f"there are no parameters of epoch {int(epoch)}",
            where=str(symbol),
            expected=f"{prefix}-{int(epoch):04}.params",
            received=", ".join(found[number] for number in sorted(found)) or "none of any epoch",
        )
    return symbol.with_name(found[int(epoch)])


# ---- TensorFlow: NAME.meta, and NAME.index with NAME.data-00000-of-00001, or NAME alone (its first format) ------------

_META = ".meta"
_CHECKPOINT = re.compile(r"(?P<prefix>.+?)(\.index|\.meta|(\.data)?-\d{5}-of-\d{5})?")
_LISTED, _LONGEST_LIST = re.compile(r'model_checkpoint_path:\s*"(?P<name>[^"]*)"'), 1 << 16


def meta_of(path: str | os.PathLike[str]) -> Path | None:
    """The ``.meta`` of a checkpoint of which this is a file or the prefix; None where there is none."""
    match = _CHECKPOINT.fullmatch(Path(path).name)
    meta = Path(path).with_name(f"{match['prefix']}{_META}") if match and Path(path).name else None
    return meta if meta is not None and not Path(path).is_dir() and meta.is_file() else None


def meta_in(folder: Path) -> Path | None:
    """The ``.meta`` of a folder: the only one, or that of the checkpoint that the file ``checkpoint`` names."""
    found = sorted(folder.glob(f"*{_META}"))
    listed = folder / "checkpoint"
    if len(found) > 1 and listed.is_file() and listed.stat().st_size < _LONGEST_LIST:
        match = _LISTED.search(listed.read_text("utf-8", "replace"))
        name = PurePosixPath(match["name"]).name if match else ""
        found = [meta for meta in found if meta.name == f"{name}{_META}"]
    return found[0] if len(found) == 1 else None


def is_tensorflow(path: Path) -> bool:
    """Whether a file is one of a checkpoint, by its name: ``.index`` or ``.data-00000-of-00001``."""
    return re.fullmatch(r".+(\.index|\.data-\d{5}-of-\d{5})", path.name) is not None


def of_tensorflow(meta: Path) -> dict[str, str]:
    """The files of a checkpoint by the names that a SavedModel gives them; ``variables/old-N`` for the first format."""
    prefix = meta.name.removesuffix(_META)
    names = sorted(each.name for each in meta.parent.iterdir() if each.name.startswith(prefix))
    if f"{prefix}.index" in names:
        own = [name for name in names if name == f"{prefix}.index" or name.startswith(f"{prefix}.data-")]
        return {f"variables/variables{name.removeprefix(prefix)}": name for name in own}
    parts = [name for name in names if re.fullmatch(re.escape(prefix) + r"(-\d{5}-of-\d{5})?", name)]
    return {f"variables/old-{number}": name for number, name in enumerate(parts)}
