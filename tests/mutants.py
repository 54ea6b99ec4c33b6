"""Mutants of good files, from fixed seeds: bits turned, parts lost, doubled or moved, lengths that lie."""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
"""What a length field may say."""


def mutated(content: bytes, draw: random.Random) -> bytes:
    """One to three changes."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(CHANGES)(bytearray(content), draw) if content else content
    return content


def _turn_bits(content: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 8)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _cut(content: bytearray, draw: random.Random) -> bytes:
    return bytes(content[: draw.randrange(len(content))])


def _lose(content: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    del content[start : start + draw.randint(1, 16)]
    return bytes(content)


def _double(content: bytearray, draw: random.Random) -> bytes:
    start, size = draw.randrange(len(content)), draw.randint(1, 64)
    content[start:start] = content[start : start + size]
    return bytes(content)


def _splice(content: bytearray, draw: random.Random) -> bytes:
    start, other, size = draw.randrange(len(content)), draw.randrange(len(content)), draw.randint(1, 64)
    content[start : start + size] = content[other : other + size]
    return bytes(content)


def _lie(content: bytearray, draw: random.Random) -> bytes:
    size, start = draw.choice((1, 2, 4, 8)), draw.randrange(len(content))
    number = draw.choice(NUMBERS) & ((1 << 8 * size) - 1)
    content[start : start + size] = number.to_bytes(size, draw.choice(("little", "big")))
    return bytes(content)


def _digits(content: bytearray, draw: random.Random) -> bytes:
    """Another digit in a text."""
    places = [place for place, byte in enumerate(content[:100_000]) if 48 <= byte < 58]
    if places:
        content[draw.choice(places)] = draw.choice(b"0123456789-")
    return bytes(content)


CHANGES: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _turn_bits, _turn_bits, _cut, _lose, _double, _splice, _lie, _lie, _digits,
)  # fmt: skip


def mutated_archive(content: bytes, draw: random.Random) -> bytes:
    """A zip archive in which one entry is a mutant, or that is one itself."""
    if draw.random() < 0.3:
        return mutated(content, draw)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    chosen = draw.choice([name for name, data in entries.items() if data])
    entries[chosen] = mutated(entries[chosen], draw)
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


FORMATS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("net.onnx", "ext.onnx"),
    "pytorch": ("net.pt2", "script.pt", "state.pt"),
    "keras": ("net.keras", "whole.h5"),
    "saved_model": ("served/saved_model.pb", "served/variables/variables.index"),
    "mxnet": ("mx-symbol.json", "mx-0000.params"),
}
"""Each format with the files of a good model that are spoilt in turn."""


def make(form: str, number: int, good: Path, folder: Path) -> list[str]:
    """Mutant ``number`` of a format in a folder of its own: what to open, and its weights where they go apart."""
    draw = random.Random(f"{form} {number}")
    spoilt = FORMATS[form][number % len(FORMATS[form])]
    top = Path(spoilt).parts[0]
    folder.mkdir()
    if (good / top).is_dir():
        shutil.copytree(good / top, folder / top)
    else:
        for each in good.glob(f"{Path(top).stem.partition('-')[0]}[-.]*"):
            shutil.copy(each, folder / each.name)
    content = (good / spoilt).read_bytes()
    change = mutated_archive if content.startswith(b"PK") else mutated
    (folder / spoilt).write_bytes(change(content, draw))
    if spoilt == "state.pt":
        shutil.copy(good / "factory.py", folder / "factory.py")
        return [f"{folder / 'factory.py'}:net", str(folder / spoilt)]
    if form == "mxnet":
        return [str(folder / "mx-symbol.json")]
    return [str(folder / top)]
