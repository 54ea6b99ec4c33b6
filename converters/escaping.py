"""Names and messages that come out of files, as each medium shows them: they may hold anything, and mean nothing to it.

Everywhere what has no picture (control characters, escape sequences, marks that turn the direction of writing, line
ends) is written as its escape, so that a name stays one line of text that reads as it is stored; and what is too long
is cut, its length said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MOST = 2_000
"""Characters that a line of a person's terminal gets."""

MOST_OF_PAGE = 10_000
MOST_OF_DATA = 100_000
"""Characters of one text in a JSON document: a program reads it, but a file's name of megabytes is no answer."""


def line(text: str, most: int = MOST) -> str:
    """For a terminal, a log, a warning, an error: one line that no terminal takes for orders."""
    text = cut(text, most)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, most: int) -> str:
    """The beginning and the end of what is too long, with its length between them."""
    if len(text) <= most:
        return text
    tail = most // 4
    return f"{text[: most - tail]} [... {len(text):,} characters ...] {text[-tail:]}"


def lines(text: str) -> str:
    """Several lines of netferry's own making, each as ``line`` has it."""
    return "\n".join(map(line, text.split("\n")))


# ---- Markdown and HTML -----------------------------------------------------------------------------

_MEANT = re.compile(r"([\\`*_\[\]|~#$])")
"""Characters that mean something to Markdown."""

_ENTITIES: Mapping[str, str] = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "://": "&#58;//", "www.": "www&#46;",
}  # fmt: skip
"""What begins a tag, a mention or a link, in the order in which it is replaced."""


def markdown(text: str) -> str:
    """For a sentence or a cell of a table: on one line, without marks, tags, mentions or links."""
    shown = _MEANT.sub(r"\\\1", " ".join(line(text.replace("\n", " ")).split()))
    for mark, entity in _ENTITIES.items():
        shown = shown.replace(mark, entity)
    return shown


def code(text: str) -> str:
    """In backticks, also in a table's cell: in more of them than the text has, so that it cannot end them."""
    shown = line(text).replace("|", "\\|")
    longest = max(map(len, re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    apart = " " if longest or not shown.strip() else ""
    return f"{fence}{apart}{shown}{apart}{fence}"


def html(value: Any) -> Any:
    """For a page whose templates escape marks: a text as one line; markup and whatever else as it is."""
    return line(value, MOST_OF_PAGE) if type(value) is str else value


# ---- data ------------------------------------------------------------------------------------------


def data(value: Any) -> Any:
    """A JSON document whose texts and keys are of a length that a reader can hold."""
    if isinstance(value, str):
        return cut(value, MOST_OF_DATA)
    if isinstance(value, Mapping):
        return {data(key): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return value


def in_json(text: str) -> str:
    """The text of a JSON document (ASCII) for a terminal: JSON itself leaves DEL as it is."""
    return text.replace("\x7f", "\\u007f")


_LONGEST_MEMBER, _LONGEST_QUOTED = 1_000, 100
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def members(names: Iterable[str]) -> Iterator[str]:
    """Names of an archive's members, each once: relative, without climbing, without what no terminal can show.

    A name that is so already stays as it is; of another, what makes it unfit is written as in a web address (``%2F``).
    """
    return _each_once(name if _is_member(name) else _member(cut(name, _LONGEST_QUOTED)) for name in names)


def headings(names: Iterable[str]) -> Iterator[str]:
    """Names of a table's columns in a text (CSV), each once, on one line; before what a spreadsheet takes for a formula
    stands an apostrophe."""
    shown = (line(name, _LONGEST_MEMBER) for name in names)
    return _each_once(f"'{name}" if name.lstrip().startswith(_FORMULA) else name for name in shown)


_FORMULA = ("=", "+", "-", "@")


def _each_once(wishes: Iterable[str]) -> Iterator[str]:
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for wish in wishes:
        made = wish
        while made in taken:
            numbers[wish] = numbers.get(wish, 0) + 1
            made = f"{wish}_{numbers[wish]}"
        taken.add(made)
        yield made


def _is_member(name: str) -> bool:
    climbs = any(part.strip(" .") == "" for part in name.split("/"))
    return (
        not climbs
        and name.isprintable()
        and "\\" not in name
        and not _DRIVE.match(name)
        and len(name) <= _LONGEST_MEMBER
    )


def _member(name: str) -> str:
    unfit = "\\/:%" if name.strip(" .") else "\\/:%. "
    made = "".join(
        c
        if c.isprintable() and c not in unfit
        else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "surrogatepass"))
        for c in name
    )
    return made or "%"
