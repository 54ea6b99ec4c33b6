"""The forms of a report on their way to files, and to the screen."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netferry.converters.disk.ledger import Overwriting


REPORT = {
    "verdict": "verdict.json", "text": "verdict.txt", "html": "report.html", "junit": "junit.xml", "markdown": "report.md",
}  # fmt: skip
"""The files of ``--report``: each form and its name."""


def demand_forms(
    replacing: Overwriting, wanted: Mapping[str, Path | None], folder: Path | None = None
) -> None:
    """Refuse, before any work, forms of a report that would replace a person's files."""
    from netferry.converters.disk.staging import demand

    paths = {} if folder is None else {form: folder / name for form, name in REPORT.items()}
    for form, path in (*wanted.items(), *paths.items()):
        demand(path, form, replacing)


_READ = {
    "inputs": "--input", "weights": "--weights", "data": "--data", "columns": "--columns", "pixels": "--pixels", "imports": "--import",
    "unsafe": "--unsafe",
}  # fmt: skip
_COMPARED = {**_READ, "rtol": "--rtol", "atol": "--atol"}
_VERIFIED = {
    **_COMPARED, "output": "--output", "input_at": "--input-at", "fix": "--fix", "map_output": "--map-output", "task": "--task",
    "signature": "--signature", "samples": "--samples", "quick": "--quick", "device": "--device", "grad": "--grad", "train_steps": "--train-steps",
}  # fmt: skip
_CONVERTED = {
    **{name: flag for name, flag in _VERIFIED.items() if name not in ("rtol", "atol", "grad", "train_steps")},
    "to": "--to", "epoch": "--epoch", "rename": "--rename", "opset": "--opset", "fuse": "--fuse", "simplify": "--simplify",
    "dequantize": "--dequantize",
}  # fmt: skip
"""Arguments of commands and their flags: what decides what is compared, and nothing that is written."""


def to_see_again(models: Sequence[object], given: Mapping[str, Any], seed: int) -> list[str]:
    """What a person types to see a comparison of ``models`` again: the first step that differs, then the whole."""
    found = f"--seed {seed}"
    return [
        f"{_typed('bisect', models, given, _COMPARED)} {found} --output difference",
        f"{_typed('verify', models, given, _VERIFIED)} {found}",
    ]


def to_convert_again(source: str, destination: Path, given: Mapping[str, Any], seed: int) -> list[str]:
    """The same for a conversion, whose result is kept first."""
    again = f"{_typed('convert', (source, destination), given, _CONVERTED)} --seed {seed} --keep"
    code = destination / "model.py"
    written = (
        f"{code}:load" if not destination.suffix and given.get("to") in ("pytorch", "torch") else destination
    )
    return [again, *to_see_again((source, written), given, seed)[:1]]


def _typed(command: str, models: Sequence[object], given: Mapping[str, Any], flags: Mapping[str, str]) -> str:
    words = ["netferry", command, *map(str, models)]
    for name, flag in flags.items():
        value = given.get(name)
        if value is True:
            words.append(flag)
        elif value not in (None, False, 0, "cpu"):
            many = value if isinstance(value, list | tuple) else [value]
            words += [word for one in many for word in (flag, str(one))]
    return shlex.join(words)


def write_report(folder: Path, report: Any, extras: Callable[[], Any], replacing: Overwriting) -> None:
    """A verdict in all forms; ``extras`` gives what only the page shows beside it."""
    from netferry.tasks.pages import of_verdict

    forms = {
        **of_verdict(report.to_dict(), extras),
        "verdict": lambda: report.to_json() + "\n",
        "text": lambda: report.to_text() + "\n",
    }
    write_forms(forms, {form: folder / name for form, name in REPORT.items()}, replacing)


def write_forms(
    forms: Mapping[str, Callable[[], str]], wanted: Mapping[str, Path | None], replacing: Overwriting
) -> None:
    """Those forms that have a place to go to."""
    for form, path in wanted.items():
        if path is not None:
            write_text(path, forms[form](), form, replacing)


def sizes_text(files: Iterable[Path | str]) -> list[str]:
    """The files that were written, each with its size."""
    found = [Path(file) for file in files]
    width = max((len(str(file)) for file in found), default=0) + 2
    return [f"wrote {file!s:<{width}}{size_text(file.stat().st_size)}" for file in found if file.is_file()]


def size_text(count: int) -> str:
    """Bytes in the unit in which they have one to three digits before the point."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{count} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def open_on_desktop(page: Path) -> None:
    """Show the page where a person sits before a screen of this very machine; never over a wire or in CI."""
    away = ("CI", "SSH_CONNECTION", "SSH_TTY")
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if screen and sys.stderr.isatty() and not any(map(os.environ.get, away)):
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def write_text(path: Path, text: str, kind: str, replacing: Overwriting) -> None:
    """The text as a whole file, with the folders that it lies in."""
    from netferry.converters.disk.staging import staged
    from netferry.converters.errors import WriteError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write here ({error.strerror})", where=str(path)) from error
    with staged(path, kind, replacing) as stage:
        stage.write_text(text, encoding="utf-8")
