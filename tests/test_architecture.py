"""Who imports whom: the order of folders that ARCHITECTURE.md draws, read from the source with ``ast``."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKED = ("converters", "inference", "validation", "zoo")
"""Folders at the top level that are imported as ``netferry.<folder>``."""

FRAMEWORKS = ("pytorch", "tensorflow", "mxnet", "onnx")
GRAPH = ("registry", "ir", "schema", "ops", "codegen", "numpy", "inference", "passes")
"""The folders of ``converters/graph``, each above those before it."""

LAYERS = (
    ("version", "converters.errors", "converters.escaping", "converters.signature"),
    *((f"converters.graph.{folder}",) for folder in GRAPH),
    ("converters",),
    ("inference",),
    ("validation", "zoo"),
    ("runtime", "notebook"),
    ("arguments", "results", "conversion", "prospects"),
    ("api", "tasks"),
    ("cli",),
    ("",),
)
"""What stands on what, from the ground up: a module belongs to the longest name that it begins with."""

RUN, TYPES = "run", "types"
Imports = Mapping[str, frozenset[str]]


def _modules() -> Iterator[tuple[str, Path]]:
    for folder in (*LINKED, "netferry"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if folder == "netferry" and parts[1] in LINKED:
                continue
            name = ".".join(parts if folder != "netferry" else parts[1:]).removesuffix("__init__").rstrip(".")
            yield name, path


MODULES = dict(_modules())


def _imported(node: ast.stmt) -> Iterator[str]:
    """The modules of netferry that a statement imports, without ``netferry.``."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        package, _, inside = name.partition(".")
        if package == "netferry":
            yield inside if inside in MODULES else inside.rpartition(".")[0]


def _statements(body: ast.AST, types: bool) -> Iterator[ast.stmt]:
    """All statements, inside functions too; those under ``if TYPE_CHECKING`` only where types are asked for."""
    for node in ast.iter_child_nodes(body):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not types:
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from _statements(node, types)


@cache
def imports(kind: str) -> Imports:
    """Each module and those that it imports: when it runs, or for types as well."""
    found = {}
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = _statements(tree, types=kind == TYPES)
        found[name] = frozenset(m for node in statements for m in _imported(node)) - {name}
    return found


def circles(graph: Imports) -> list[list[str]]:
    """Sets of modules that reach each other (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        stack.append(module)
        for other in graph.get(module, ()):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[module] = min(lowest[module], lowest[other])
        if lowest[module] == index[module]:
            place = stack.index(module)
            circle = sorted(stack[place:])
            del stack[place:]
            if len(circle) > 1:
                found.append(circle)

    for module in graph:
        if module not in index:
            visit(module)
    return found


def arrows(kind: str = TYPES) -> Iterator[tuple[str, str]]:
    for module, others in imports(kind).items():
        for other in sorted(others):
            yield module, other


def test_the_search_for_circles_finds_one() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset("a")}
    assert circles(graph) == [["a", "b", "c"]]


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circles(imports(RUN)) == []


def test_circles_for_types_stay_in_one_folder_and_small() -> None:
    for circle in circles(imports(TYPES)):
        assert len(circle) <= 3, circle
        assert len({module.rpartition(".")[0] for module in circle}) == 1, circle


def _layer(module: str) -> int:
    fits = [
        (len(name), level)
        for level, names in enumerate(LAYERS)
        for name in names
        if not name or module == name or module.startswith(f"{name}.")
    ]
    return max(fits)[1]


def test_no_arrow_runs_up() -> None:
    assert [(a, b) for a, b in arrows(RUN) if _layer(a) < _layer(b)] == []


def test_the_graph_knows_no_framework() -> None:
    assert [
        (a, b) for a, b in arrows() if a.startswith("converters.graph.") and not b.startswith("converters.graph.")
        and b not in LAYERS[0]
    ] == []  # fmt: skip


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frameworks_do_not_know_each_other(framework: str) -> None:
    others = tuple(f"converters.{name}." for name in FRAMEWORKS if name != framework)
    assert [
        (a, b) for a, b in arrows() if a.startswith(f"converters.{framework}.") and b.startswith(others)
    ] == []


def _door(module: str, framework: str) -> str:
    """``to_onnx``, ``from_onnx``, or nothing."""
    head = f"converters.{framework}."
    door = module.removeprefix(head).partition(".")[0] if module.startswith(head) else ""
    return door if door in ("to_onnx", "from_onnx") else ""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_in_one_door_imports_the_other(framework: str) -> None:
    doors = [(_door(a, framework), _door(b, framework), a, b) for a, b in arrows()]
    assert [(a, b) for one, other, a, b in doors if one and other and one != other] == []


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_doors_share_imports_no_door(framework: str) -> None:
    """A file beside the doors that neither of them reads (``signature.py``) may stand above them."""
    graph = imports(TYPES)
    waiting = [module for module in graph if _door(module, framework)]
    read = set(waiting)
    while waiting:
        for other in graph.get(waiting.pop(), ()):
            if other not in read:
                read.add(other)
                waiting.append(other)
    shared = {
        module
        for module in read
        if module.startswith(f"converters.{framework}.") and not _door(module, framework)
    }
    assert [(a, b) for a, b in arrows() if a in shared and _door(b, framework)] == []


def test_no_folder_holds_more_than_a_reader_takes_in() -> None:
    folders: dict[Path, int] = {}
    for path in MODULES.values():
        folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > 24} == {}
