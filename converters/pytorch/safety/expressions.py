"""Texts of an exported program that PyTorch evaluates as Python: arithmetic on sizes, and guards on the sizes of inputs."""

from __future__ import annotations

import ast
import re

_SIZE_WORDS = frozenset(
    """
    Add Mul Pow Mod Min Max Eq Ne Lt Le Gt Ge And Or Not Integer Rational Float Symbol Abs floor ceiling Piecewise
    FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow
    FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat
    Identity Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan ExprCondPair
    """.split()
)
_SIZE_NAMES = re.compile(
    r"([suz]|zuf|zf)\d{1,6}|true|false|oo|int_oo|positive|integer|nonnegative|real|nonzero|precision"
)
_GROWING = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_LONGEST, _LARGEST_POWER = 10_000, 64
_ARITHMETIC = (
    ast.Expression, ast.Constant, ast.Load, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.UnaryOp, ast.USub, ast.UAdd, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Tuple,
    ast.keyword,
)  # fmt: skip


def is_size(text: str) -> bool:
    """PyTorch hands these texts to sympy, which evaluates them as Python: only arithmetic on sizes gets there."""
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= _LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    return tree is not None and all(map(_is_arithmetic, ast.walk(tree)))


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _SIZE_WORDS or _SIZE_NAMES.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return name in _SIZE_WORDS and (name not in _GROWING or all(map(_is_small, node.args)))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (
            _SIZE_NAMES.fullmatch(node.value) is not None
            or re.fullmatch(r"-?[\d.]{1,40}", node.value) is not None
        )
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return abs(node.value) < 1 << 64
    return isinstance(node, _ARITHMETIC) and not (
        isinstance(node, ast.Constant) and isinstance(node.value, bytes)
    )


def _is_small(node: ast.expr) -> bool:
    """A part that stays a symbol, or a number that no power makes large."""
    inside = list(ast.walk(node))
    if any(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in inside):
        return True
    numbers = [each.value for each in inside if isinstance(each, ast.Constant)]
    return all(
        isinstance(number, int | float) and abs(number) <= _LARGEST_POWER for number in numbers
    ) and not any(
        isinstance(each, ast.BinOp)
        or (isinstance(each, ast.Call) and getattr(each.func, "id", "") in _GROWING)
        for each in inside
    )


# ---- guards --------------------------------------------------------------------------------------

_SIZE_METHODS = frozenset({"size", "stride", "storage_offset", "dim", "numel", "item"})
_FUNCTIONS = frozenset(
    {"abs", "max", "min", "round", "int", "float", "bool", "cast_symbool_to_symint_guardless"}
)
_MODULES = frozenset({"math", "torch"})
_MATH = re.compile(
    r"(sym_|_sym_)\w+|inf|nan|floor|ceil|trunc|sqrt|log2?|exp|pow|isnan|a?(cos|sin|tan)h?", re.ASCII
)
_KEY = re.compile(r"[\w .:/\-]*")
_LOGIC = (
    *_ARITHMETIC, ast.BoolOp, ast.And, ast.Or, ast.Not, ast.IfExp,
    ast.LShift, ast.RShift, ast.BitAnd, ast.BitOr, ast.BitXor,
)  # fmt: skip


def is_guard(text: str) -> bool:
    """Arithmetic and logic on ``L['input'].size()[0]`` and its like, and nothing that could leave the quotes it is put in."""
    if len(text) > _LONGEST or set('#"\\\n\r') & set(text):
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    return tree is not None and _is_condition(tree.body)


def _is_condition(top: ast.expr) -> bool:
    waiting: list[ast.AST] = [top]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant):
            if not isinstance(node.value, int | float | None) or (
                isinstance(node.value, int) and abs(node.value) >= 1 << 64
            ):
                return False
        elif isinstance(node, ast.Attribute | ast.Subscript | ast.Call | ast.Name):
            inner = _inner(node)
            if inner is None:
                return False
            waiting.extend(inner)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            if not (isinstance(node.right, ast.Constant) and _is_small(node.right)):
                return False
            waiting.append(node.left)
        elif isinstance(node, _LOGIC):
            waiting.extend(ast.iter_child_nodes(node))
        else:
            return False
    return True


def _inner(node: ast.expr) -> list[ast.expr] | None:
    """What a name, a call or a part of an input still holds to be looked at; None where it may not stand there."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return [] if _is_input(node) else _sizes(node)
    if isinstance(node, ast.Attribute):
        known = isinstance(node.value, ast.Name) and node.value.id in _MODULES and _MATH.fullmatch(node.attr)
        return [] if known else None
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    if isinstance(node.func, ast.Name):
        return node.args if node.func.id in _FUNCTIONS else None
    if isinstance(node.func, ast.Attribute) and _is_input(node.func.value):
        return node.args if node.func.attr in _SIZE_METHODS else None
    return [node.func, *node.args] if isinstance(node.func, ast.Attribute) else None


def _sizes(node: ast.Subscript) -> list[ast.expr] | None:
    """``L['x'].size()[0]``: the call whose result is taken apart."""
    assert isinstance(node.slice, ast.Constant)
    return [node.value] if isinstance(node.value, ast.Call) and type(node.slice.value) is int else None


def _is_input(node: ast.expr) -> bool:
    """``L['x']['key'][0]``."""
    while isinstance(node, ast.Subscript):
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if not (type(key) is int or (isinstance(key, str) and _KEY.fullmatch(key))):
            return False
        node = node.value
    return isinstance(node, ast.Name) and node.id == "L"
