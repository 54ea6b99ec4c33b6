"""The graph of a model as plain data: of ONNX, and of the programs that netferry writes for other frameworks."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Node:
    """One operation: ``inputs`` and ``outputs`` are names of values; parameters are no values, only ``weighted``.

    ``sizes`` are its outputs with dtype and sizes, ``attributes`` what else is said of it, both as text.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weighted: bool = False
    sizes: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Graph:
    """The operations that depend on the inputs, in an order in which they can run."""

    title: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]


def plain(value: str) -> str:
    """The name of a value of a program has its place before it."""
    return value.lstrip("0123456789").removeprefix(":") if ":" in value else value


def of_dict(plain: Mapping[str, Any]) -> Graph:
    """The graph that ``dataclasses.asdict`` made data of, from JSON too."""
    nodes = (
        Node(
            one["op"], one["name"], tuple(one["inputs"]), tuple(one["outputs"]), one["weighted"],
            tuple(one.get("sizes", ())), tuple((key, text) for key, text in one.get("attributes", ())),
        )
        for one in plain["nodes"]
    )  # fmt: skip
    return Graph(plain["title"], tuple(plain["inputs"]), tuple(plain["outputs"]), tuple(nodes))


def of_onnx(model: ir.Model, title: str) -> Graph:
    """The main graph; what stands in the bodies of If, Loop and Scan is one node."""
    graph = model.graph
    weights = {name for name, value in graph.initializers.items() if _is_weight(value)}
    inputs = tuple(str(value.name) for value in graph.inputs if value.name not in graph.initializers)
    known = set(inputs)
    nodes = []
    for node in graph:
        taken = [str(value.name) for value in node.inputs if value is not None]
        data = tuple(dict.fromkeys(name for name in taken if name in known))
        made = tuple(str(value.name) for value in node.outputs if value.name)
        weighted = bool(weights.intersection(taken))
        if data:
            known.update(made)
            sizes = tuple(_sized(value) for value in node.outputs if value.name)
            attributes = tuple((name, _short(one)) for name, one in node.attributes.items())
            nodes.append(Node(node.op_type, node.name or "", data, made, weighted, sizes, attributes))
        elif weighted:
            weights.update(made)
    return Graph(title, inputs, tuple(str(value.name) for value in graph.outputs), tuple(nodes))


_LONGEST = 120
"""Characters of an attribute that are shown."""


_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64"}
"""ONNX's names that are not numpy's."""


def _sized(value: ir.Value) -> str:
    dims = None if value.shape is None else ", ".join("?" if dim is None else str(dim) for dim in value.shape)
    kind = "" if value.dtype is None else _DTYPES.get(value.dtype.name, value.dtype.name.lower())
    return (
        f"{value.name}: {kind}[{dims}]"
        if dims is not None
        else f"{value.name}: {kind}"
        if kind
        else str(value.name)
    )


def _short(attribute: ir.Attr) -> str:
    """A tensor or a graph within is told by its kind, all else by what it is."""
    kind = attribute.type.name
    if kind in ("GRAPH", "GRAPHS", "TENSOR", "TENSORS", "SPARSE_TENSOR", "TYPE_PROTO"):
        return f"a {kind.lower().replace('_', ' ')}"
    return _cut(str(attribute.value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _is_weight(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype.is_floating_point() and bool(value.shape)


def of_source(text: str, title: str, weights: Iterable[str] = ()) -> Graph | None:
    """The graph of a module that ``ImportedModel.source`` holds; None where it has no function that netferry writes.

    ``weights`` are the names of its parameters: a layer with some is drawn as one with weights.
    """
    module = ast.parse(text)
    functions = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}
    body = next(
        (functions[name] for name in ("forward", "call", "symbol", "build") if name in functions), None
    )
    if body is None:
        return None
    reader = _Reader(tuple(weights), _stated_inputs(module))
    if "__init__" in functions:
        reader.learn_layers(functions["__init__"])
    return reader.read(body, title)


def _stated_inputs(module: ast.Module) -> tuple[str, ...] | None:
    """The ``INPUTS`` of an MXNet module, whose other variables are parameters."""
    for statement in module.body:
        if isinstance(statement, ast.Assign) and _bound(statement.targets[0]) == ["INPUTS"]:
            return tuple(str(name) for name in ast.literal_eval(statement.value))
    return None


@dataclass(frozen=True)
class _Value:
    """What an expression stands for: the values it is made of, and whether parameters have a part in it."""

    names: tuple[str, ...] = ()
    weighted: bool = False

    def __add__(self, other: _Value) -> _Value:
        names = tuple(dict.fromkeys(self.names + other.names))
        return _Value(names, self.weighted or other.weighted)


_SIGNS = {
    ast.Add: "+", ast.Sub: "−", ast.Mult: "×", ast.Div: "÷", ast.FloorDiv: "//", ast.Mod: "mod", ast.Pow: "power",
    ast.MatMult: "matmul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
    ast.USub: "negative", ast.Not: "not", ast.Invert: "not",
    ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥",
}  # fmt: skip


@dataclass
class _Reader:
    """Reads the function of a generated module, statement by statement."""

    weights: tuple[str, ...]
    stated: tuple[str, ...] | None
    layers: dict[tuple[str, ...], str] = field(default_factory=dict)
    made: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = field(default_factory=dict)
    names: dict[str, _Value] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    outputs: tuple[str, ...] = ()

    def learn_layers(self, init: ast.FunctionDef) -> None:
        """``self.stem = nn.Conv2d(...)``, also within ``nn.ModuleDict({...})``."""
        for statement in init.body:
            if isinstance(statement, ast.Assign) and (position := _path(statement.targets[0])):
                self._learn(position, statement.value)

    def _learn(self, position: tuple[str, ...], value: ast.expr) -> None:
        if not isinstance(value, ast.Call):
            return
        self.layers[position], self.made[position] = _last(value.func), _said(value)
        for table in value.args:
            if isinstance(table, ast.Dict):
                for key, item in zip(table.keys, table.values, strict=True):
                    self._learn((*position, str(getattr(key, "value", ""))), item)

    def read(self, function: ast.FunctionDef, title: str) -> Graph:
        for argument in function.args.args:
            if argument.arg not in ("self", "training"):
                self._add_input(argument.arg, argument.arg)
        self._statements(function.body)
        return Graph(title, tuple(self.inputs), self.outputs, tuple(self.nodes))

    def _add_input(self, variable: str, name: str) -> None:
        self.inputs.append(name)
        self.names[variable] = _Value((name,))

    def _statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                self.outputs = self._returned(statement.value).names
            elif isinstance(statement, ast.Assign):
                self._assign(statement)
            elif isinstance(statement, ast.If | ast.While | ast.For):
                self._control(statement)

    def _returned(self, value: ast.expr) -> _Value:
        """``keras.Model(inputs, outputs)`` is no operation."""
        if isinstance(value, ast.Call) and _last(value.func) == "Model" and len(value.args) > 1:
            return self._value(value.args[1])
        return self._value(value)

    def _assign(self, statement: ast.Assign) -> None:
        targets = [name for target in statement.targets for name in _bound(target)]
        call = statement.value
        if isinstance(call, ast.Call) and _last(call.func) in ("Input", "var") and not _path(call.func):
            return self._declare(targets[0], call)
        value = self._value(statement.value, targets[0] if targets else "")
        self.names.update(dict.fromkeys(targets, value))
        return None

    def _declare(self, variable: str, call: ast.Call) -> None:
        """An input of Keras, or a variable of MXNet: an input, where the module states it."""
        name = str(call.args[0].value) if call.args and isinstance(call.args[0], ast.Constant) else variable
        if self.stated is not None and name not in self.stated:
            self.names[variable] = _Value(weighted=True)
        else:
            self._add_input(variable, name)

    def _control(self, statement: ast.If | ast.While | ast.For) -> None:
        """A branch or a loop is one node: what it reads, and what it binds."""
        inside = list(ast.walk(statement))
        reads = [node.id for node in inside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
        binds = [name for node in inside if isinstance(node, ast.Assign) for name in _bound(node.targets[0])]
        value = _joined(self.names[name] for name in reads if name in self.names)
        made = self._node(type(statement).__name__.lower(), binds[0] if binds else "", value)
        self.names.update(dict.fromkeys(binds, made))

    def _value(self, expression: ast.expr, target: str = "") -> _Value:
        match expression:
            case ast.Name(id=name):
                return self.names.get(name, _Value())
            case ast.Call():
                return self._call(expression, target)
            case ast.Attribute(attr="shape" | "dtype" | "ndim"):
                return _Value()
            case ast.Attribute(value=inner) | ast.Starred(value=inner):
                return _Value(weighted=True) if _path(expression) else self._value(inner, target)
            case ast.Subscript(value=inner, slice=index):
                if _path(expression):
                    return _Value(weighted=True)
                whole = self._value(inner)
                return whole if isinstance(index, ast.Constant) else self._node("slice", target, whole)
            case ast.BinOp(op=sign) | ast.UnaryOp(op=sign):
                return self._node(_SIGNS.get(type(sign), "?"), target, self._parts(expression))
            case ast.Compare(ops=[sign, *_]):
                return self._node(_SIGNS.get(type(sign), "?"), target, self._parts(expression))
        return self._parts(expression)

    def _parts(self, expression: ast.AST) -> _Value:
        children = (child for child in ast.iter_child_nodes(expression) if isinstance(child, ast.expr))
        return _joined(self._value(child) for child in children)

    def _call(self, call: ast.Call, target: str) -> _Value:
        given = _joined(self._value(argument) for argument in _arguments(call))
        position = _path(call.func)
        if position in self.layers:
            name = ".".join(position)
            made = self.made.get(position, ())
            return self._node(self.layers[position], name, given + self._weight_of(name), made)
        if isinstance(call.func, ast.Call):
            name = _keyword(call.func, "name")
            wraps = [_last(part.func) for part in call.func.args if isinstance(part, ast.Call)]
            op = " ".join([_last(call.func.func), *wraps])
            return self._node(op, name or target, given + self._weight_of(name), _said(call.func))
        receiver = self._value(call.func.value) if isinstance(call.func, ast.Attribute) else _Value()
        name = _keyword(call, "name") or target
        return self._node(_last(call.func), name, receiver + given, _said(call))

    def _weight_of(self, name: str) -> _Value:
        starts = tuple(f"{name}{mark}" for mark in "./_") if name else ()
        return _Value(weighted=any(weight.startswith(starts) for weight in self.weights))

    def _node(self, op: str, name: str, value: _Value, said: tuple[tuple[str, str], ...] = ()) -> _Value:
        """A new node; what is made of parameters and sizes alone is none."""
        if not value.names:
            return value
        made = f"{len(self.nodes)}:{name or op}"
        shown = "" if name == "y" else name
        self.nodes.append(Node(op, shown, value.names, (made,), value.weighted, attributes=said))
        return _Value((made,))


def _joined(values: Iterable[_Value]) -> _Value:
    return sum(values, _Value())


def _arguments(call: ast.Call) -> Iterator[ast.expr]:
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def _said(call: ast.Call) -> tuple[tuple[str, str], ...]:
    """The arguments that are written out: numbers and words, and lists of them."""
    named = [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg not in (None, "name")]
    plain = [one for one in call.args if _is_plain(one)]
    first = [("with", _cut(", ".join(map(ast.unparse, plain))))] if plain else []
    return (*first, *((str(name), _cut(ast.unparse(value))) for name, value in named if _is_plain(value)))


def _is_plain(value: ast.expr) -> bool:
    return all(
        isinstance(node, ast.Constant | ast.Tuple | ast.List | ast.UnaryOp | ast.USub | ast.Load)
        for node in ast.walk(value)
    )


def _keyword(call: ast.Call, name: str) -> str:
    found = (keyword.value for keyword in call.keywords if keyword.arg == name)
    return next((str(value.value) for value in found if isinstance(value, ast.Constant)), "")


def _bound(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name) and node.id != "_"]


def _last(function: ast.expr) -> str:
    """``nn.Conv2d`` -> ``Conv2d``."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _path(expression: ast.expr) -> tuple[str, ...]:
    """``self.stem["0"].weight`` -> ``("stem", "0", "weight")``; empty for what does not start at ``self``."""
    steps: list[str] = []
    while True:
        if isinstance(expression, ast.Attribute):
            steps.append(expression.attr)
        elif isinstance(expression, ast.Subscript) and isinstance(expression.slice, ast.Constant):
            steps.append(str(expression.slice.value))
        else:
            break
        expression = expression.value
    return tuple(reversed(steps)) if isinstance(expression, ast.Name) and expression.id == "self" else ()
