"""Exported programs of little length and much work: the formulas of sizes, which PyTorch hands to sympy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hostile import Kit
from hostile_pytorch import spoilt
from laborious import laborious

LABOUR = "formulas of sizes|no arithmetic"
S = [f"Symbol('s{place}', positive=True, integer=True)" for place in range(100)]


def formulas(kit: Kit, *texts: str) -> Path:
    """The good program whose input has these sizes, as many axes as there are texts."""

    def change(content: bytes) -> bytes:
        program: dict[str, Any] = json.loads(content)
        graph = program["graph_module"]["graph"]
        values = graph["tensor_values"][graph["inputs"][-1]["as_tensor"]["name"]]
        sizes = [{"as_expr": {"expr_str": text, "hint": {"as_int": 2}}} for text in texts]
        program["range_constraints"] = {f"s{place}": {"min_val": 2, "max_val": 9999} for place in range(100)}
        values["sizes"], values["strides"] = [*sizes, values["sizes"][-1]], [{"as_int": 1}] * (len(texts) + 1)
        return json.dumps(program).encode()

    return spoilt(kit, "net.pt2", r"models/model\.json", change)


def added(words: Sequence[str]) -> str:
    return f"Add({', '.join(words)})"


FORMULAS: dict[str, Callable[[], list[str]]] = {
    "largest_of_90_sums": lambda: [f"Max({', '.join(added([S[i], S[i + 1]]) for i in range(90))})"],
    "largest_of_90_plain_sums": lambda: [f"Max({', '.join(f's{i} + s{i + 1}' for i in range(90))})"],
    "smallest_of_60_products": lambda: [f"Min({', '.join(f'Mul({S[i]}, {S[i + 1]})' for i in range(60))})"],
    "largest_of_largest": lambda: [
        "Max(" * 20 + S[0] + "".join(f", {added([S[i], S[i + 1]])})" for i in range(20))
    ],
    "products_of_sums": lambda: [f"Mul({', '.join(added([S[2 * i], S[2 * i + 1]]) for i in range(30))})"],
    "powers_of_sums": lambda: [f"Pow({added(S[:8])}, Integer(40))"],
    "powers_of_powers": lambda: [f"Pow(Pow(Pow({added(S[:3])}, Integer(20)), Integer(20)), Integer(20))"],
    "nested_halves": lambda: ["FloorDiv(" * 60 + S[0] + ", Integer(2))" * 60],
    "nested_remainders": lambda: ["Mod(" * 40 + added(S[:4]) + "".join(f", {S[i]})" for i in range(40))],
    "modular_indexing": lambda: ["ModularIndexing(" * 30 + added(S[:6]) + ", Integer(3), Integer(7))" * 30],
    "sums_of_remainders": lambda: [
        added([f"Mod({added([S[i], S[j]])}, {S[j]})" for i in range(8) for j in range(8)])
    ],
    "many_relations": lambda: [
        f"And({', '.join(f'Lt({S[i]}, {added([S[i + 1], S[i + 2]])})' for i in range(60))})"
    ],
    "pieces": lambda: [
        f"Piecewise({', '.join(f'({S[i]}, Lt({S[i]}, {S[i + 1]}))' for i in range(60))}, (0, True))"
    ],
    "numbers_of_many_digits": lambda: ["Mul(" + ", ".join(["Integer(9223372036854775807)"] * 250) + ")"],
    "many_different_formulas": lambda: [added([S[i], S[i + 1], S[i + 2]]) for i in range(60)],
    "rationals": lambda: [added([f"Rational({i + 1}, {7919 + 2 * i})" for i in range(200)])],
    "ceilings": lambda: ["ceiling(" * 40 + f"Mul(Rational(1, 3), {S[0]})" + ")" * 40],
}


SHORT = frozenset(
    """
    nested_halves nested_remainders modular_indexing numbers_of_many_digits many_different_formulas ceilings
    sums_of_remainders rationals
    """.split()
)
"""Formulas that look long and are soon worked out."""


def _enter(name: str, texts: Callable[[], list[str]]) -> None:
    make: Callable[[Kit], Path] = lambda kit: formulas(kit, *texts())  # noqa: E731
    make.__module__ = __name__
    laborious(None if name in SHORT else LABOUR, name)(make)


for _name, _texts in FORMULAS.items():
    _enter(_name, _texts)


@laborious(None)
def formulas_without_end(kit: Kit) -> Path:
    """Fifteen hundred different ones, each short."""

    def change(content: bytes) -> bytes:
        program: dict[str, Any] = json.loads(content)
        graph = program["graph_module"]["graph"]
        name = graph["inputs"][-1]["as_tensor"]["name"]
        for place in range(1500):
            other = json.loads(json.dumps(graph["tensor_values"][name]))
            text = f"Max(Add(s{place % 50}, {place}), Add(s{place % 49 + 1}, {place + 1}))"
            other["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 2}}}
            graph["tensor_values"][f"other{place}"] = other
        return json.dumps(program).encode()

    return spoilt(kit, "net.pt2", r"models/model\.json", change)


@laborious(None)
def ranges_of_many_symbols(kit: Kit) -> Path:
    def change(content: bytes) -> bytes:
        program: dict[str, Any] = json.loads(content)
        program["range_constraints"] |= {
            f"s{place}": {"min_val": 0, "max_val": 99} for place in range(200, 9000)
        }
        return json.dumps(program).encode()

    return spoilt(kit, "net.pt2", r"models/model\.json", change)
