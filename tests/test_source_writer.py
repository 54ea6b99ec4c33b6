"""The pen that writes Python: what it writes must be what was meant, whatever a file says."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, strategies as st

from netferry.converters.graph.codegen.writer import SourceWriter, literal, loaded, prune, source
from netferry.converters.graph.ir.facts import Fact, Home, Plan
from netferry.converters.graph.ir.names import identifier
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol

FLOAT = np.dtype(np.float32)


class Plain(SourceWriter):
    """Just enough words to write numpy."""

    title = "Plain"

    def size_of(self, x: Symbol, axis: int) -> ast.expr:
        return ast.Subscript(ast.Attribute(x.expr, "shape", ast.Load()), ast.Constant(axis), ast.Load())

    def add(self, a: Any, b: Any) -> Symbol:
        return self.binary("+", a, b)

    def multiply(self, a: Any, b: Any) -> Symbol:
        return self.binary("*", a, b)


def _recorder() -> tuple[Plain, Symbol, ir.Value]:
    value = ir.Value(name="x")
    plan = Plan(ir.Graph([], [], nodes=[]), {}, {"batch": Home(value, "dim", 0)})
    pen = Plain(plan, reserved=["np"])
    pen.node = ir.node("Relu", [value], name="relu")
    x = Symbol(pen, Fact(FLOAT, (Size.named("batch"), 3)), ast.Name(pen.fresh("x"), ast.Load()))
    pen.read_sizes(value, x)
    return pen, x, value


def _finish(pen: Plain, result: Symbol) -> str:
    [bound] = pen.bind([ir.Value(name="y")], [result], [Fact(FLOAT)])
    return source(prune(pen.statements, loaded(bound.expr)))


def test_one_line_for_a_node_and_one_for_what_is_used_twice() -> None:
    pen, x, _ = _recorder()
    once = pen.call("np.exp", x)
    assert _finish(pen, once + once * 2).splitlines() == ["shared = np.exp(x)", "y = shared + shared * 2"]


def test_a_free_size_is_read_only_where_it_is_used() -> None:
    pen, x, _ = _recorder()
    assert _finish(pen, x + 1) == "y = x + 1"
    pen, x, _ = _recorder()
    lines = _finish(pen, pen.method(x, "reshape", Size.named("batch") * 3 // 2, -1)).splitlines()
    assert lines == ["batch = x.shape[0]", "y = x.reshape(batch * 3 // 2, -1)"]


def test_names_do_not_collide() -> None:
    pen, _, _ = _recorder()
    names = [pen.fresh(wish) for wish in ("np", "x", "a.b", "a/b", "a b", "class", "match", "1", "", "é")]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
    assert "np" not in names and "class" not in names


@given(st.text())
def test_no_name_of_a_file_becomes_code(text: str) -> None:
    name = identifier(text)
    tree = ast.parse(f"{name} = 1")
    assert isinstance(tree.body[0], ast.Assign)
    assert name.isascii()


@given(
    st.one_of(
        st.floats(), st.integers(), st.text(), st.booleans(), st.none(), st.floats(width=32).map(np.float32)
    )
)
def test_every_literal_reads_back_as_itself(value: Any) -> None:
    back = eval(ast.unparse(ast.fix_missing_locations(ast.Expression(literal(value)))))
    if isinstance(value, np.float32):
        assert np.float32(back) == value or math.isnan(back)
        assert math.copysign(1, back) == math.copysign(1, value) or math.isnan(back)
    elif isinstance(value, float):
        assert back == value or math.isnan(back)
        assert math.copysign(1, back) == math.copysign(1, value) or math.isnan(back)
    else:
        assert back == value and type(back) is type(value)


def test_a_word_that_a_target_lacks_is_refused_by_its_name() -> None:
    from netferry.converters.errors import CannotConvert

    pen, x, _ = _recorder()
    with pytest.raises(CannotConvert, match="Plain has no 'erf'"):
        pen.erf(x)


def test_parts_of_a_result_that_nothing_reads_have_no_name() -> None:
    code = ast.parse("y, (h, c) = lstm(x)\nvalues, places = topk(y)\nz = places")
    assert ast.unparse(ast.Module(prune(code.body, {"z"}), [])) == (
        "y, _ = lstm(x)\n_, places = topk(y)\nz = places"
    )


def test_lines_that_nothing_reads_are_dropped_and_loops_keep_theirs() -> None:
    code = ast.parse("a = f(x)\nb = g(x)\nwhile a:\n    c = a + 1\n    a = c\n    d = c\ny = a")
    assert ast.unparse(ast.Module(prune(code.body, {"y"}), [])) == (
        "a = f(x)\nwhile a:\n    c = a + 1\n    a = c\ny = a"
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_ends_of_a_format_are_written_as_what_it_holds(kind: type) -> None:
    info = np.finfo(kind)
    for value in (info.max, info.min, info.tiny, info.smallest_subnormal, kind(0.1), kind(1) / kind(3)):
        written = eval(ast.unparse(literal(kind(value))))
        assert kind(written) == kind(value)
        assert abs(written) <= float(info.max)
