"""What a certificate may hold: tables of its keys and their types, and what options it may ask for.

A certificate may come from anyone. Only what stands in these tables is taken from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED

Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Kind:
    """A type's name, and whether a value is of it."""

    title: str
    fits: Test


def _whole(low: int, high: int) -> Kind:
    return Kind(f"an integer from {low} to {high}", lambda v: type(v) is int and low <= v <= high)


def _or_none(kind: Kind) -> Kind:
    return Kind(f"{kind.title}, or null", lambda v: v is None or kind.fits(v))


def _either(one: Kind, other: Kind) -> Kind:
    return Kind(f"{one.title} or {other.title}", lambda v: one.fits(v) or other.fits(v))


def _one_of(*values: str) -> Kind:
    return Kind(" or ".join(values), lambda v: isinstance(v, str) and v in values)


def _map(title: str, kind: Kind) -> Kind:
    return Kind(title, lambda v: isinstance(v, dict) and all(map(kind.fits, v.values())))


def _list(title: str, kind: Kind) -> Kind:
    return Kind(title, lambda v: isinstance(v, list) and all(map(kind.fits, v)))


def _record(title: str, /, **kinds: Kind) -> Kind:
    """An object that has these keys, and maybe others, which nobody reads."""
    return Kind(
        title, lambda v: isinstance(v, dict) and all(k in v and kind.fits(v[k]) for k, kind in kinds.items())
    )


TEXT = Kind("a text", lambda v: isinstance(v, str))
NAMES = _list("a list of texts", TEXT)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
OBJECT = Kind("an object", lambda v: isinstance(v, dict))
TOLERANCE = Kind(
    "a finite number of at least 0",
    lambda v: type(v) in (int, float) and v >= 0 and math.isfinite(v) and v < 1e300,
)
STATUS = _one_of(PASSED, FAILED, NOT_CHECKED)

OPTIONS: Mapping[str, tuple[Kind, Any]] = {
    "seed": (_whole(0, 2**63 - 1), 0),
    "rtol": (_or_none(TOLERANCE), None),
    "atol": (_or_none(TOLERANCE), None),
    "device": (_one_of("cpu", "cuda", "auto"), "cpu"),
    "gradients": (FLAG, False),
    "training_steps": (_whole(0, 100_000), 0),
    "quick": (FLAG, False),
    "samples": (_or_none(_whole(1, 1_000_000)), None),
    "outputs": (_or_none(_either(_map("an object of texts", TEXT), NAMES)), None),
    "input_at": (_or_none(NAMES), None),
    "fix": (_or_none(_map("an object of lists of sizes", _list("a list of sizes", _whole(1, 2**31)))), None),
    "task": (_or_none(TEXT), None),
    "signature": (_or_none(TEXT), None),
}
"""What a comparison may be repeated with: the option, what it may be, and its default."""

_ALWAYS_TOLD = ("seed",)
"""Options that every comparison has its own of."""

_SUBJECT = _record(
    "an object with title, path and files",
    title=TEXT,
    path=_or_none(TEXT),
    files=_map("an object of digests", TEXT),
)
_GIVEN = _record("an input with its name and SHA-256", name=TEXT, sha256=TEXT)

PARTS: Mapping[str, Kind] = {
    "digest": TEXT,
    "source": _SUBJECT,
    "target": _SUBJECT,
    "inputs": _record(
        "an object with what was given",
        given=_or_none(_list("a list of inputs", _GIVEN)),
        samples=Kind("a list", lambda v: isinstance(v, list)),
        data=_or_none(_record("an object with the name of the data", name=TEXT)),
    ),
    "options": OBJECT,
    "limits": OBJECT,
    "versions": _map("an object of texts", TEXT),
    "verdict": _record(
        "an object with status and outputs",
        status=STATUS,
        outputs=_list("a list of outputs", _record("an output", name=TEXT, status=STATUS)),
    ),
}
"""The parts of a certificate; others are not read."""


def parsed(text: bytes, where: str) -> dict[str, Any]:
    """The document of a certificate; what JSON does not know (NaN, a key twice) is refused."""
    try:
        document = json.loads(text.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_apart)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"not a certificate: it is no JSON ({error})", where=where) from error
    if (
        not isinstance(document, dict)
        or not {"format", "digest", "verdict", "source", "target"} <= document.keys()
    ):
        raise RefusedError("not a certificate of netferry", where=where)
    return document


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _apart(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def demand(document: Mapping[str, Any], where: str) -> None:
    """Refuse a certificate whose parts or options are not of their types."""
    for name, kind in PARTS.items():
        if name not in document:
            raise RefusedError(f"the certificate has no '{name}'", where=where, expected=kind.title)
        _demand(f"'{name}' of the certificate", document[name], kind, where)
    options = document["options"]
    for name, value in options.items():
        if name not in OPTIONS:
            raise RefusedError(
                "the certificate holds an option that no comparison is repeated with",
                where=where, expected=", ".join(OPTIONS), received=_short(name),
            )  # fmt: skip
        _demand(f"the option '{name}' of the certificate", value, OPTIONS[name][0], where)
    if (options.get("rtol") is None) != (options.get("atol") is None):
        raise RefusedError(
            "the certificate has one of rtol and atol", where=where, expected="both or neither"
        )


def _demand(what: str, value: object, kind: Kind, where: str) -> None:
    if not kind.fits(value):
        raise RefusedError(
            f"{what} has another type", where=where, expected=kind.title, received=_short(value)
        )


def _short(value: object) -> str:
    title = json.dumps(value)
    return title if len(title) <= 60 else f"{title[:57]}..."


def of_the_user(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as ``verify`` takes them, defaults where none stands."""
    return {name: options.get(name, default) for name, (_, default) in OPTIONS.items()}


def options_text(options: Mapping[str, Any]) -> str:
    """The options that are not the defaults, as text; nothing where there are none."""
    others = [
        f"{name}={_short(options[name])}"
        for name, (_, default) in OPTIONS.items()
        if name in options and options[name] != default and name not in _ALWAYS_TOLD
    ]
    return ", ".join(others)
