"""Sizes known only at run time: what they say must be what numbers say."""

from __future__ import annotations

from operator import add, floordiv, mod, mul, sub
from typing import Any

import pytest
from hypothesis import given, strategies as st

from netferry.converters.graph.ir.sizes import Size, ceil_div, known, largest, nonzero, product, smallest

NAMES = ("batch", "time", "height")
numbers = st.integers(1, 40)
leaves = st.one_of(st.integers(-9, 9), st.sampled_from(NAMES).map(Size.named))


def _number(value: Any, sizes: dict[str, int]) -> int:
    return value.at(sizes) if isinstance(value, Size) else value


def _combine(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def apply(pair: tuple[Any, Any, Any]) -> Any:
        function, a, b = pair
        return function(a, b)

    plain = st.tuples(st.sampled_from([add, sub, mul, largest, smallest]), children, children).map(apply)
    divided = st.tuples(st.sampled_from([floordiv, mod, ceil_div]), children, st.integers(1, 7)).map(apply)
    return st.one_of(plain, divided)


@given(st.data(), st.fixed_dictionaries(dict.fromkeys(NAMES, numbers)))
def test_an_expression_is_what_its_parts_are(data: st.DataObject, sizes: dict[str, int]) -> None:
    a, b = data.draw(st.recursive(leaves, _combine, max_leaves=6)), data.draw(leaves)
    divisor = data.draw(st.integers(1, 9))
    x, y = _number(a, sizes), _number(b, sizes)
    assert _number(a + b, sizes) == x + y
    assert _number(a - b, sizes) == x - y
    assert _number(a * b, sizes) == x * y
    assert _number(a // divisor, sizes) == x // divisor
    assert _number(a % divisor, sizes) == x % divisor
    assert _number(largest(a, b), sizes) == max(x, y)
    assert _number(smallest(a, b), sizes) == min(x, y)


@given(st.recursive(leaves, _combine, max_leaves=8), st.fixed_dictionaries(dict.fromkeys(NAMES, numbers)))
def test_what_is_written_computes_the_same(value: Any, sizes: dict[str, int]) -> None:
    assert eval(str(value), {"max": max, "min": min}, dict(sizes)) == _number(value, sizes)


def test_equal_sizes_are_equal_however_they_were_made() -> None:
    batch, time = Size.named("batch"), Size.named("time")
    assert 2 * batch // 2 == batch
    assert (batch + time) * 2 - time == time + batch * 2
    assert batch * time // time == batch
    assert batch * 12 // batch == 12
    assert batch * 6 % 3 == 0
    assert batch - batch == 0
    assert hash(batch * time) == hash(time * batch)
    assert product([batch, 3, time]) == 3 * time * batch


def test_what_does_not_divide_stays_a_division() -> None:
    height = Size.named("height")
    halved = (height - 1) // 2 + 1
    assert isinstance(halved, Size)
    assert halved.at({"height": 7}) == 4
    assert set(halved.names()) == {"height"}


def test_a_copied_size_takes_the_place_of_zero() -> None:
    batch, asked = Size.named("batch"), Size.named("asked")
    assert nonzero(0, batch) == batch
    assert nonzero(-1, batch) == -1
    assert nonzero(asked, batch).at({"asked": 0, "batch": 5}) == 5


def test_a_free_size_is_no_number() -> None:
    with pytest.raises(TypeError, match="known only when the model runs"):
        range(Size.named("batch"))  # type: ignore[call-overload]
    assert known((1, 2))
    assert not known((1, Size.named("batch")))
