"""Putting the files of a save in place as one: whole once it is committed, undone where that fails.

``staging`` says which file and folder of a stage is which.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netferry.converters.disk import ledger
from netferry.converters.disk.folders import Content, Folder, is_plain
from netferry.converters.disk.ledger import Overwriting, Save
from netferry.converters.disk.stages import (
    ForeignError,
    opened,
    stage_name,
)
from netferry.converters.errors import WriteError


@dataclass(frozen=True)
class _Move:
    """An entry that goes to its place: its own inode, and what each of its files is known by."""

    inode: int
    files: Mapping[str, Content]


@dataclass(frozen=True)
class _Moves:
    """A save that is ready: its entries in the order in which they go, and what is to be remembered of it."""

    main: str
    entries: Mapping[str, _Move]
    save: Save

    def to_json(self) -> dict[str, Any]:
        entries = {name: {"inode": one.inode, "files": one.files} for name, one in self.entries.items()}
        return {"main": self.main, "entries": entries, "save": self.save.to_json()}


def commit(stage: Folder, folder: Folder, main: str, kind: str, replacing: Overwriting) -> None:
    """From here on the save happened, and is finished even by another process."""
    entries: dict[str, _Move] = {}
    with stage.folder("new") as new:
        for name in sorted(new.names(), key=lambda name: name == main):
            found = new.stat(name)
            assert found is not None
            files = {position: inner.content(file, sync=True) for inner, file, position in new.files(name)}
            _may_replace(folder, name, found, main, kind, frozenset(files), replacing)
            entries[name] = _Move(found.st_ino, files)
    if not entries:
        return
    written = {position: content for one in entries.values() for position, content in one.files.items()}
    moves = _Moves(main, entries, Save(kind, written, replacing.made_from()))
    stage.write("moves", json.dumps(moves.to_json()).encode(), 0o600)
    stage.make("old").close()
    stage.move("new", stage, "ready")
    before = (ledger.saves(folder) or {}).get(main)
    try:
        put_in_place(stage, folder, moves)
        folder.sync()
        ledger.put(folder, main, moves.save, stage)
    except BaseException:  # Ctrl-C too
        _take_back(stage, folder, moves)
        with contextlib.suppress(OSError):
            ledger.put(folder, main, before, stage)
        raise
    stage.move("ready", stage, "done")


def _may_replace(
    folder: Folder,
    name: str,
    new: os.stat_result,
    main: str,
    kind: str,
    files: frozenset[str],
    replacing: Overwriting,
) -> None:
    """A file takes a file's place and a folder that of its like, and only what was netferry's own goes."""
    there = folder.stat(name)
    if there is not None and stat.S_ISDIR(there.st_mode) and not stat.S_ISDIR(new.st_mode):
        raise WriteError("a folder stands in the way", where=str(folder.path / name))
    replacing.demand_entry(folder, name, main, kind, files)


def recover(stage: Folder, folder: Folder) -> None:
    """Finish what a killed process had committed, once it is known to be whole."""
    if stage.stat("ready") is None:
        return
    moves = _left(stage)
    with opened(stage, "ready") as ready:
        _demand_whole(ready, folder, moves, stage.path.name)
    if stage.stat("old") is None:
        stage.make("old").close()
    put_in_place(stage, folder, moves)
    ledger.put(folder, moves.main, moves.save, stage)
    stage.move("ready", stage, "done")


def _left(stage: Folder) -> _Moves:
    """What ``moves`` says, which must be what this stage's save wrote there."""
    try:
        found = json.loads(stage.read("moves"))
        entries = {
            name: _Move(int(one["inode"]), ledger.contents(one["files"]))
            for name, one in found["entries"].items()
        }
        moves = _Moves(str(found["main"]), entries, ledger.save_of(found["save"]))
    except ledger.FAULTS:
        raise ForeignError(stage.path.name, "its list of files is damaged") from None
    if not all(map(is_plain, (moves.main, *entries))) or stage_name(moves.main) != stage.path.name:
        raise ForeignError(stage.path.name, "its list names files that are not this save's")
    return moves


def _demand_whole(ready: Folder, folder: Folder, moves: _Moves, stage: str) -> None:
    """Each entry is ready as it was written, or in its place already; and there are no others."""
    strange = set(ready.names()) - set(moves.entries)
    for name, move in moves.entries.items():
        here, there = ready.stat(name), folder.stat(name)
        if here is not None and here.st_ino == move.inode:
            try:
                files = {position: inner.content(file) for inner, file, position in ready.files(name)}
            except OSError:
                files = {}
            if files != move.files:
                strange.add(name)
        elif there is None or there.st_ino != move.inode:
            strange.add(name)
    if strange:
        raise ForeignError(stage, f"{', '.join(sorted(strange)[:3])} in it is not as it was written")


def put_in_place(stage: Folder, folder: Folder, moves: _Moves) -> None:
    """Move each entry that is still in ``ready`` and is still the new one."""
    with stage.folder("ready") as ready, stage.folder("old") as old:
        for name, move in moves.entries.items():
            here, there = ready.stat(name), folder.stat(name)
            if here is None or here.st_ino != move.inode:
                continue
            if there is not None and stat.S_ISDIR(here.st_mode) and ready.exchange(name, folder):
                continue
            if there is not None:
                old.remove(name)
                _set_aside(folder, name, there, old)
            ready.move(name, folder)


def _set_aside(folder: Folder, name: str, there: os.stat_result, old: Folder) -> None:
    """Keep what is to be replaced: a file stays in its place meanwhile, where the file system has links."""
    if not stat.S_ISDIR(there.st_mode):
        with contextlib.suppress(OSError):
            folder.link(name, old)
            return
    folder.move(name, old)


def _take_back(stage: Folder, folder: Folder, moves: _Moves) -> None:
    """Undo what ``put_in_place`` did: an entry that is not in ``ready`` any more, or is the old one there."""
    stage.move("ready", stage, "void")
    with stage.folder("void") as void, stage.folder("old") as old:
        for name, move in moves.entries.items():
            here, there, kept = void.stat(name), folder.stat(name), old.stat(name)
            if here is not None and here.st_ino == move.inode:  # it was not moved; the old one was, perhaps
                if there is None and kept is not None:
                    old.move(name, folder)
                continue
            if here is not None and void.exchange(name, folder):
                continue
            if there is not None and (here is not None or kept is None or stat.S_ISDIR(there.st_mode)):
                folder.move(name, stage, "aside")
                stage.remove("aside")
            if here is not None or kept is not None:
                (old if here is None else void).move(name, folder)
