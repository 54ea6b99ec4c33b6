"""Sizes that are known only when the model runs, as integer expressions.

A ``Size`` is a polynomial with integer coefficients over atoms. An atom is the name of a free size
(``batch``), or a function of other sizes that no polynomial can write (``(height - 1) // 2``). Equal
polynomials are equal sizes, so ``2 * batch // 2 == batch`` holds without running anything. Sizes that would be too long
to be written are not made (``TooLong``): whoever asked does without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import mul
from typing import Any, TypeAlias, TypeVar

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget

Dim: TypeAlias = "int | Size"
"""A size: a plain int where it is known, a ``Size`` where it is not."""

T = TypeVar("T")


MOST_TERMS, MOST_FACTORS, LONGEST, DEEPEST, MOST_BITS = 2_000, 64, 5_000, 40, 128
"""Terms of a size, factors of a term, atoms that a size is written with, functions within functions, bits of a number."""


_TOGETHER = 16
"""As many terms are written in a row; more of them in groups."""


class TooLong(CannotConvert):
    """A size that would be longer than anybody writes."""

    def __init__(self) -> None:
        super().__init__(
            "a size that it needs is too long a formula of others",
            "Give the inputs fixed sizes, or fewer free ones",
        )


@dataclass(frozen=True, eq=False)
class Atom:
    """A free size, or a function of sizes: ``//``, ``%``, ``max``, ``min``, or ``nonzero`` (a, or b where a is 0).

    ``text`` is how it is written, and what tells two atoms apart; ``key`` is what they are put in order by.
    ``length`` and ``depth`` are those of the whole formula, ``names`` the free sizes in it.
    """

    word: str
    args: tuple[Size | int, ...] = ()
    text: str = field(init=False, repr=False)
    key: str = field(init=False, repr=False)
    length: int = field(init=False, repr=False)
    depth: int = field(init=False, repr=False)
    names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = [arg for arg in self.args if isinstance(arg, Size)]
        length, depth = 1 + sum(s.length for s in sizes), 1 + max((s.depth for s in sizes), default=0)
        if length > LONGEST or depth > DEEPEST:
            raise TooLong
        names = tuple(dict.fromkeys(name for s in sizes for name in s.names())) if self.args else (self.word,)
        made = {"length": length, "depth": depth, "names": names, "text": self._text(), "key": repr(self)}
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Atom) and self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def _text(self) -> str:
        if not self.args:
            return self.word
        left, right = (
            f"({arg})" if isinstance(arg, Size) and len(arg.terms) > 1 else str(arg) for arg in self.args
        )
        return (
            f"({left} {self.word} {right})"
            if self.word in _FOLDS and not self.word.isalpha()
            else f"{self.word}({left}, {right})"
        )

    def __str__(self) -> str:
        return self.text


Monomial = tuple[Atom, ...]


def _clean(terms: Mapping[Monomial, int]) -> Dim:
    kept = {atoms: count for atoms, count in terms.items() if count}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    if len(kept) > MOST_TERMS or any(count.bit_length() > MOST_BITS for count in kept.values()):
        raise TooLong
    return Size(tuple(sorted(kept.items(), key=_order) if len(kept) > 1 else kept.items()))


def _order(term: tuple[Monomial, int]) -> tuple[int, str]:
    atoms, count = term
    return -len(atoms), f"(({', '.join(atom.key for atom in atoms)}{',' * (len(atoms) == 1)}), {count})"


def _terms(value: Any) -> dict[Monomial, int]:
    return dict(value.terms) if isinstance(value, Size) else {(): int(value)}


def _spend(terms: int) -> None:
    """Count terms that are about to be made."""
    if not budget.take("terms", terms):
        raise TooLong


def _text_of(atom: Atom) -> str:
    return atom.text


@dataclass(frozen=True)
class Size:
    """A sum of products of atoms; ``terms`` are (product, coefficient), in a fixed order."""

    terms: tuple[tuple[Monomial, int], ...]
    length: int = field(init=False, compare=False, repr=False)
    depth: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        atoms = [atom for product, _ in self.terms for atom in product]
        length = len(self.terms) + sum(atom.length for atom in atoms)
        if length > LONGEST:
            raise TooLong
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "depth", max((atom.depth for atom in atoms), default=0))

    @staticmethod
    def named(name: str) -> Size:
        """The free size called ``name``."""
        return Size((((Atom(name),), 1),))

    def __add__(self, other: Any) -> Any:
        return total((self, other))

    def __mul__(self, other: Any) -> Any:
        factors, found = _terms(other), dict[Monomial, int]()
        _spend(len(self.terms) * len(factors) + self.length)
        for one, a in self.terms:
            for two, b in factors.items():
                product = tuple(sorted(one + two, key=_text_of)) if one and two else one + two
                if len(product) > MOST_FACTORS:
                    raise TooLong
                found[product] = found.get(product, 0) + a * b
        return _clean(found)

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + (-1 * other if isinstance(other, Size) else -int(other))

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __floordiv__(self, other: Any) -> Any:
        exact = _exact(self, other)
        return _apply("//", self, other) if exact is None else exact

    def __rfloordiv__(self, other: Any) -> Any:
        return _apply("//", other, self)

    def __mod__(self, other: Any) -> Any:
        return _apply("%", self, other) if _exact(self, other) is None else 0

    def __rmod__(self, other: Any) -> Any:
        return _apply("%", other, self)

    def __index__(self) -> int:
        raise TypeError(f"the size {self} is known only when the model runs")

    def __str__(self) -> str:
        words = []
        for atoms, count in self.terms:
            parts = ([] if abs(count) == 1 and atoms else [str(abs(count))]) + [str(atom) for atom in atoms]
            words.append(("- " if count < 0 else "+ ") + " * ".join(parts))
        text = " ".join(words)
        return text[2:] if text.startswith("+ ") else text.replace("- ", "-", 1)

    __repr__ = __str__

    @property
    def atom(self) -> Atom | None:
        """The one atom that this size is, or None where it is more than that."""
        ((atoms, count), *rest) = self.terms
        return atoms[0] if not rest and count == 1 and len(atoms) == 1 else None

    def names(self) -> Iterable[str]:
        """The free sizes that it is made of, each once."""
        return dict.fromkeys(name for atoms, _ in self.terms for atom in atoms for name in atom.names)

    def build(
        self, name: Callable[[str], T], call: Callable[[str, T, T], T], literal: Callable[[int], T]
    ) -> T:
        """The expression in other words: ``call`` gets one of ``+ - * // % max min nonzero`` and two sides."""

        def of(value: Size | int) -> T:
            return value.build(name, call, literal) if isinstance(value, Size) else literal(value)

        def atom(one: Atom) -> T:
            return call(one.word, *(of(arg) for arg in one.args)) if one.args else name(one.word)

        in_order = sorted(self.terms, key=lambda term: term[1] < 0)
        if len(in_order) > _TOGETHER:  # no expression is nested deeper than a reader of it can go
            step = max(_TOGETHER, -(-len(in_order) // _TOGETHER))
            parts = [Size(tuple(in_order[i : i + step])) for i in range(0, len(in_order), step)]
            return reduce(lambda a, b: call("+", a, b), [part.build(name, call, literal) for part in parts])
        total: T | None = None
        for atoms, count in in_order:
            factors = [atom(one) for one in atoms]
            if abs(count) != 1 or not atoms or (total is None and count < 0):
                factors.append(literal(count if total is None else abs(count)))
            product = reduce(lambda a, b: call("*", a, b), factors)
            total = product if total is None else call("-" if count < 0 else "+", total, product)
        assert total is not None
        return total

    def where_nothing_is_empty(self) -> Any:
        """The size as it is where no axis has the size 0."""
        if not any("nonzero(" in atom.text for atoms, _ in self.terms for atom in atoms):
            return self
        words: dict[str, Callable[[Any, Any], Any]] = {
            **_FOLDS,
            "max": largest,
            "min": smallest,
            "nonzero": lambda a, _: a,
        }
        return self.build(Size.named, lambda word, a, b: words[word](a, b), int)

    def at(self, sizes: Mapping[str, int]) -> int:
        """The number, once every free size is known; what is divided by zero there is none."""

        def fold(word: str, a: int, b: int) -> int:
            return 0 if word in ("//", "%") and b == 0 else _FOLDS[word](a, b)

        return self.build(sizes.__getitem__, fold, int)


_FOLDS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": mul,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "max": max,
    "min": min,
    "nonzero": lambda a, b: a or b,
}


def _apply(word: str, a: Any, b: Any) -> Any:
    if not isinstance(a, Size) and not isinstance(b, Size):
        return _FOLDS[word](int(a), int(b))
    args = tuple(arg if isinstance(arg, Size) else int(arg) for arg in (a, b))
    return Size((((Atom(word, args),), 1),))


def _exact(a: Size, b: Any) -> Any:
    """a / b where the division leaves nothing in every term and b is one term; None elsewhere."""
    divisor = list(_terms(b).items())
    if len(divisor) != 1 or divisor[0][1] == 0:
        return 1 if a == b else None
    ((atoms, count),) = divisor
    _spend(a.length)
    quotient: dict[Monomial, int] = {}
    for product, times in a.terms:
        rest = list(product)
        for atom in atoms:
            if atom not in rest:
                return None
            rest.remove(atom)
        if times % count:
            return None
        quotient[tuple(rest)] = times // count
    return _clean(quotient)


def total(sizes: Iterable[Any]) -> Any:
    """The sum of sizes, put in order once."""
    found: dict[Monomial, int] = {}
    for size in sizes:
        _spend(size.length if isinstance(size, Size) else 1)
        for atoms, count in _terms(size).items():
            found[atoms] = found.get(atoms, 0) + count
    return _clean(found)


def largest(a: Any, b: Any) -> Any:
    """The larger of two sizes."""
    return a if a == b else _apply("max", a, b)


def smallest(a: Any, b: Any) -> Any:
    """The smaller of two sizes."""
    return a if a == b else _apply("min", a, b)


def nonzero(a: Any, b: Any) -> Any:
    """``a``, or ``b`` where ``a`` is 0: how ONNX's Reshape copies a size."""
    return (
        b if not isinstance(a, Size) and a == 0 else a if not isinstance(a, Size) else _apply("nonzero", a, b)
    )


def ceil_div(a: Any, b: int) -> Any:
    """a / b, rounded up."""
    return (a + (b - 1)) // b


def product(sizes: Any) -> Any:
    """The product of sizes; 1 of none."""
    return reduce(mul, sizes, 1)


def known(sizes: Any) -> bool:
    """Whether every size is a plain number."""
    return all(not isinstance(size, Size) for size in sizes)
