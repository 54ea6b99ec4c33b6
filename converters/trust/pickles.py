"""Pickles, read by ourselves: which globals they would call. Nothing is unpickled here."""

from __future__ import annotations

import pickle
import pickletools
from io import BytesIO
from typing import Any

from netferry.converters.errors import RefusedError

_UNREADABLE = frozenset({"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"})
"""Opcodes whose meaning stands outside the pickle."""

_TEXTS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_KEEPS = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_FETCHES = {"GET", "BINGET", "LONG_BINGET"}


def globals_of(content: bytes, where: str) -> tuple[frozenset[str], int]:
    """The names ``module.name`` that the first pickle in ``content`` looks up, and where that pickle ends.

    Raises:
        RefusedError: it is damaged, or a name in it is put together while it is unpickled.
    """
    found: set[str] = set()
    memo: dict[int, str | None] = {}
    recent: list[str | None] = []
    stream, stopped = BytesIO(content), False
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name in _UNREADABLE:
                raise RefusedError(f"a pickle that cannot be read in advance ({name})", where=where)
            if name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", ".", 1))
            elif name == "STACK_GLOBAL":
                if len(recent) < 2 or recent[-1] is None or recent[-2] is None:
                    raise RefusedError("a pickle that puts names together while it is read", where=where)
                found.add(f"{recent[-2]}.{recent[-1]}")
            if name in _KEEPS:
                if argument is not None and int(argument) > len(content):
                    raise RefusedError("a pickle that asks for more places than it can fill", where=where)
                memo[len(memo) if argument is None else int(argument)] = recent[-1] if recent else None
                continue
            recent.append(_text(name, argument, memo))
            del recent[:-2]
            stopped = name == "STOP"
    except RefusedError:
        raise
    except Exception as error:  # pickletools raises whatever its readers meet
        raise RefusedError(f"a damaged pickle ({error})", where=where) from error
    if not stopped:
        raise RefusedError("a pickle without an end", where=where)
    return frozenset(found), stream.tell()


def texts_of(content: bytes, where: str) -> frozenset[str]:
    """Every text in a pickle, names and keys too."""
    try:
        found = [argument for opcode, argument, _ in pickletools.genops(content) if opcode.name in _TEXTS]
    except Exception as error:  # pickletools raises whatever its readers meet
        raise RefusedError(f"a damaged pickle ({error})", where=where) from error
    return frozenset(map(str, found))


def _text(name: str, argument: object, memo: dict[int, str | None]) -> str | None:
    """What an opcode leaves on the stack, where that is a text."""
    if name in _TEXTS and isinstance(argument, str):
        return argument
    if name in _FETCHES and isinstance(argument, int):
        return memo.get(argument)
    return None


def claims(content: bytes, where: str) -> list[Any]:
    """The persistent identities in a pickle: ``('storage', type, key, location, count)`` for each of PyTorch's tensors.

    The pickle is acted out with empty objects in the place of everything that it names.
    """
    actor = _Actor(BytesIO(content))
    try:
        actor.load()
    except Exception as error:  # a pickle can raise anything here, but do nothing
        raise RefusedError(f"a damaged pickle ({type(error).__name__})", where=where) from error
    return actor.claims


class _Nothing(dict[Any, Any]):
    """Stands for every class and function: it can be called, filled and subclassed, and does nothing."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self._name = name

    def __call__(self, *_: Any, **__: Any) -> _Nothing:
        return _Nothing()

    def __str__(self) -> str:
        return self._name

    def __setstate__(self, _: Any) -> None: ...

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...


_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class _Actor(_PythonUnpickler):  # type: ignore[misc]
    """Python's own unpickler, whose memo grows with what is in it, and not with what is asked for."""

    def __init__(self, stream: BytesIO) -> None:
        super().__init__(stream)
        self.claims: list[Any] = []

    def find_class(self, module: str, name: str) -> Any:
        return _Nothing(f"{module}.{name}")

    def persistent_load(self, claim: Any) -> Any:
        self.claims.append(claim)
        return _Nothing()

    def _make(self) -> None:
        """NEWOBJ: arguments and class are taken from the stack; an object of nothing takes their place."""
        del self.stack[-2:]
        self.stack.append(_Nothing())

    def _make_with_words(self) -> None:
        del self.stack[-3:]
        self.stack.append(_Nothing())

    def _fill(self) -> None:
        """BUILD: the state goes nowhere."""
        self.stack.pop()

    dispatch = {  # noqa: RUF012 - as its parent has it
        **_PythonUnpickler.dispatch,
        pickle.NEWOBJ[0]: _make,
        pickle.NEWOBJ_EX[0]: _make_with_words,
        pickle.BUILD[0]: _fill,
    }
