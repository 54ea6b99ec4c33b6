"""What TorchScript's code may say: operators that compute, by the names under which PyTorch writes them.

PyTorch writes each operator as a function (``torch.relu(x)``), and an attribute for what the archive's own classes have
(``self.weight``). A method of a tensor (``x.set_(y)``) means an operator too; it is written by hand alone, and refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from netferry.converters.errors import RefusedError
from netferry.converters.pytorch.safety import allowlist

_WHOLE = re.compile(r"[\n\t\x20-\x7e]*")
"""What code may be written in: with other signs PyTorch and Python may see its lines end at different places."""


def parsed(code: bytes, where: str) -> ast.Module:
    """TorchScript's code is written in Python's grammar; what Python reads otherwise is not let through."""
    try:
        text = code.decode("ascii")
        if not _WHOLE.fullmatch(text):
            raise ValueError
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedError(
            f"TorchScript code that cannot be read ({type(error).__name__})", where=where
        ) from error


def attributes(trees: Iterable[ast.Module]) -> frozenset[str]:
    """The names of what the archive's classes have: methods, fields, and submodules that are called by numbers."""
    return frozenset(name for tree in trees for node in ast.walk(tree) for name in _declared(node))


def _declared(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr
    for each in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(each, ast.FunctionDef | ast.ClassDef):
            yield each.name
        targets = (
            each.targets
            if isinstance(each, ast.Assign)
            else [each.target]
            if isinstance(each, ast.AnnAssign)
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id
            elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                yield str(target.slice.value)


def strange(tree: ast.Module, own: frozenset[str]) -> Iterator[str]:
    """Operators that are on no list, attributes that no class of the archive has, words that the code may not use."""
    nodes = list(ast.walk(tree))
    inner = {node.value for node in nodes if isinstance(node, ast.Attribute)}
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    known = bound | allowlist.SCRIPT_WORDS
    for node in nodes:
        if isinstance(node, ast.Attribute):
            yield from _strange_attribute(node, own, node not in inner)
        elif isinstance(node, ast.Name) and node not in inner and node.id not in known:
            yield node.id
        elif isinstance(node, ast.Call):
            yield from _strange_lookup(node, own)
        elif isinstance(node, ast.JoinedStr | ast.Lambda):
            yield type(node).__name__
    yield from bound & {"torch", "ops", "__torch__", "getattr"}


def _strange_attribute(node: ast.Attribute, own: frozenset[str], is_whole: bool) -> Iterator[str]:
    chain = _chain(node)
    if chain and chain[0] != "__torch__":
        if is_whole and not _is_known(chain):
            yield ".".join(chain)
    elif chain[:3] == ["__torch__", "torch", "classes"]:
        if is_whole:
            yield ".".join(chain)
    elif not chain and node.attr not in own and node.attr not in allowlist.SCRIPT_ATTRIBUTES:
        yield f".{node.attr}"


def _strange_lookup(node: ast.Call, own: frozenset[str]) -> Iterator[str]:
    """``getattr(self, "0")``: the name stands there as it is, and a class has it."""
    if isinstance(node.func, ast.Name) and node.func.id == "getattr":
        name = node.args[1] if len(node.args) > 1 else None
        text = name.value if isinstance(name, ast.Constant) else None
        if not isinstance(text, str) or text not in own:
            yield f"getattr {text!r}"


def _chain(node: ast.Attribute) -> Sequence[str]:
    """``torch.relu`` as its words; empty where it does not start at ``torch``, ``ops`` or ``__torch__``."""
    words: list[str] = []
    current: ast.expr = node
    while isinstance(current, ast.Attribute):
        words.insert(0, current.attr)
        current = current.value
    if not isinstance(current, ast.Name):
        return ()
    words.insert(0, current.id)
    return words if current.id in ("torch", "ops", "__torch__") else ()


def _is_known(chain: Sequence[str]) -> bool:
    family, name = ".".join(chain[:-1]), chain[-1]
    return name in _FAMILIES.get(family, ())


_FAMILIES: Mapping[str, frozenset[str]] = {
    "torch": allowlist.ATEN,
    "ops.aten": allowlist.ATEN,
    "ops.prim": allowlist.PRIM,
}
