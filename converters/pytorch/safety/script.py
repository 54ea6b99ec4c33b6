"""What TorchScript's code may say: operators that compute, by the names under which PyTorch writes them.

PyTorch writes each operator as a function (``torch.relu(x)``), and an attribute for what the archive's own classes have
(``self.weight``). A method of a tensor (``x.set_(y)``) means an operator too; it is written by hand alone, and refused.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard

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
    known, aliased = bound | allowlist.SCRIPT_WORDS, set(_calls_of_aliases(nodes))
    for node in nodes:
        if isinstance(node, ast.Attribute):
            yield from _strange_attribute(node, own, node not in inner)
        elif isinstance(node, ast.Name) and node not in inner and node.id not in known:
            yield node.id
        elif isinstance(node, ast.Call):
            yield from _strange_call(node, own, node in aliased)
        elif isinstance(node, ast.JoinedStr | ast.Lambda):
            yield type(node).__name__
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _strange_import(node)
        elif isinstance(node, ast.ClassDef):
            yield from _strange_hooks(node)
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


def _calls_of_aliases(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """``_57 = __torch__.f; _57(x)``: calls of a name that PyTorch has made up for a function of the archive, and that is nothing else."""
    for function in nodes:
        if not isinstance(function, ast.FunctionDef):
            continue
        inner = list(ast.walk(function))
        named = {
            each.targets[0]
            for each in inner
            if isinstance(each, ast.Assign)
            and isinstance(each.value, ast.Attribute)
            and _chain(each.value)[:1] == ["__torch__"]
        }
        others = {each.id for each in inner if _is_stored(each) and each not in named}
        names = {each.id for each in named if isinstance(each, ast.Name)} - others
        made_up = {name for name in names if _MADE_UP.fullmatch(name)}
        for each in inner:
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Name) and each.func.id in made_up:
                yield each


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


_MADE_UP = re.compile(r"_[0-9]+")


def _strange_call(node: ast.Call, own: frozenset[str], is_alias: bool) -> Iterator[str]:
    """A word that is called, which PyTorch looks up among its own functions wherever no variable of the name is in sight.

    ``getattr(self, "0")``: the name stands there as it is, and a class has it.
    """
    if not isinstance(node.func, ast.Name):
        return
    if node.func.id not in allowlist.SCRIPT_WORDS and not is_alias:
        yield node.func.id
    if node.func.id == "getattr":
        name = node.args[1] if len(node.args) > 1 else None
        text = name.value if isinstance(name, ast.Constant) else None
        if not isinstance(text, str) or text not in own:
            yield f"getattr {text!r}"


def _strange_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Old archives name the other parts of their code; nothing else can be imported."""
    modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
    yield from (f"import {name}" for name in modules if name.partition(".")[0] != "__torch__")


def _strange_hooks(node: ast.ClassDef) -> Iterator[str]:
    """Methods that run before or after another, and are none of the class: PyTorch calls what is not there."""
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    for each in node.body:
        targets = each.targets if isinstance(each, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id in _HOOKS for target in targets):
            named = {str(one.value) for one in ast.walk(each) if isinstance(one, ast.Constant)}
            yield from (f"hook {name}" for name in sorted(named - methods))


_HOOKS = frozenset({"__forward_hooks__", "__forward_pre_hooks__"})


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
