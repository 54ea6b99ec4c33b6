"""What a file or a factory is, by content: a size and a time tell nothing.

The code of a factory is the file that it stands in, what that imports from the folders that it would find it in, and
the files beside it that the code names in letters.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from netferry.converters.disk import ledger
from netferry.converters.errors import RefusedError
from netferry.converters.trust.paths import regular

_MOST_FILES = 2_000
"""Files of code that are followed."""

_LONGEST_NAME = 255


def of_file(path: Path) -> str:
    """The SHA-256 of a regular file."""
    try:
        with regular(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RefusedError(f"cannot be read ({error.strerror})", where=str(path)) from error


def below(path: Path) -> dict[str, Path]:
    """A file, or all files below a folder, by their place in it; netferry's own notes are none."""
    if not path.is_dir():
        return {path.name: path}
    files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != ledger.NAME)
    return {file.relative_to(path).as_posix(): file for file in files}


def code_of(factory: str) -> dict[str, Path]:
    """The files of a factory's code, the one that it stands in first; none where that is not found.

    ``factory`` is ``package.module:name`` or ``file.py:name``. No code is run to find out. What is imported in other ways
    than by an import statement, or from packages that are installed, is not among them.
    """
    module = factory.rpartition(":")[0] or factory
    here = Path.cwd()
    if module.endswith(".py"):
        first, roots = Path(module), list(dict.fromkeys([Path(module).absolute().parent, here]))
    else:
        roots = [here, *(Path(entry or ".") for entry in sys.path)]
        found = next(((root, file) for root in roots for file in _module(root, module)[-1:]), None)
        if found is None:
            return {}
        roots, first = [found[0]], found[1]
    top = module.partition(".")[0] if "site-packages" in first.parts else None
    return _followed(first.absolute(), roots, top) if first.is_file() else {}


def _module(root: Path, dotted: str) -> list[Path]:
    """The files that importing a dotted name from ``root`` would run, its packages' first; none where it is not there."""
    files: list[Path] = []
    folder, parts = root, dotted.split(".")
    for number, part in enumerate(parts):
        package, plain = folder / part / "__init__.py", folder / f"{part}.py"
        if package.is_file():
            files.append(package)
        elif plain.is_file():
            return [*files, plain] if number == len(parts) - 1 else files
        elif not (folder / part).is_dir():
            return files if number else []
        folder = folder / part
    return files


def _followed(first: Path, roots: Sequence[Path], top: str | None) -> dict[str, Path]:
    """``first`` and whatever it imports below ``roots``, within the package ``top`` where one is said."""
    found, waiting = {first: first.name}, [first]
    taken = {first.name}
    while waiting and len(found) < _MOST_FILES:
        file = waiting.pop()
        if file.suffix != ".py":
            continue
        for other in _named(file, roots, top):
            other = other.absolute()
            if other not in found:
                found[other] = name = _place(other, [first.parent, *roots], taken)
                taken.add(name)
                waiting.append(other)
    return {name: file for file, name in found.items()}


def _place(file: Path, roots: Sequence[Path], taken: set[str]) -> str:
    """A name for a file, without the folders of this machine."""
    root = next((root for root in roots if file.is_relative_to(root)), file.parent)
    name = position = file.relative_to(root).as_posix()
    number = 1
    while name in taken:
        number += 1
        name = f"{position} #{number}"
    return name


def _named(file: Path, roots: Sequence[Path], top: str | None) -> Iterator[Path]:
    """The files that a file of code names: modules that it imports, and others by their names."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _from_roots(alias.name, roots, top)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, file, roots, top)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _beside(node.value, file, roots)


def _imported_from(
    node: ast.ImportFrom, file: Path, roots: Sequence[Path], top: str | None
) -> Iterator[Path]:
    names = ["", *(alias.name for alias in node.names)]
    for name in names:
        dotted = ".".join(filter(None, (node.module, name)))
        if node.level:
            folder = file.parent
            for _ in range(node.level - 1):
                folder = folder.parent
            yield from (_module(folder, dotted) if dotted else [])
            if (folder / "__init__.py").is_file():
                yield folder / "__init__.py"
        elif dotted:
            yield from _from_roots(dotted, roots, top)


def _from_roots(dotted: str, roots: Sequence[Path], top: str | None) -> Iterator[Path]:
    if top is None or dotted.partition(".")[0] == top:
        for root in roots:
            yield from _module(root, dotted)


def _beside(text: str, file: Path, roots: Sequence[Path]) -> Iterator[Path]:
    """A file that a text in the code may mean."""
    if not 0 < len(text) <= _LONGEST_NAME or "\0" in text or "\n" in text or not Path(text).suffix:
        return
    for folder in {file.parent, *roots}:
        try:
            if (folder / text).is_file():
                yield folder / text
        except (OSError, ValueError):
            continue
