"""Both sides of a page: what of one has no counterpart in the other, where a difference begins, and the pictures of modules."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import model, saved
from onnx import helper
from page_documents import report
from test_cli import netferry
from test_page import Elements, words_of

from netferry.converters.onnx.live import proto
from netferry.tasks.extras import extras_between
from netferry.validation.reports.page import Extras, report_page
from netferry.validation.reports.page.graphs import Graph, Node
from netferry.validation.reports.page.modules import pictured
from netferry.validation.reports.page.outline import outline
from netferry.validation.reports.page.sides import graph_of, marks
from netferry.validation.tensors.profile import MOST_VALUES, inside

RNG = np.random.default_rng(5)


def convolutions(epsilon: float = 1e-5, stride: int = 2) -> onnx.ModelProto:
    """Three convolutions with a normalisation between, in two modules and a head."""
    rng = np.random.default_rng(2)
    weights = {
        "stem.w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        **{f"body.norm.{n}": rng.random(4).astype(np.float32) / 500 + 1e-3 for n in "abcd"},
        "body.conv.w": rng.standard_normal((4, 4, 3, 3)).astype(np.float32),
        "head.w": rng.standard_normal((4, 5)).astype(np.float32),
    }
    names = ["body.norm.a", "body.norm.b", "body.norm.c", "body.norm.d"]
    nodes = [
        helper.make_node("Conv", ["x", "stem.w"], ["s"], "stem", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["s", *names], ["n"], "body.norm", epsilon=epsilon),
        helper.make_node("Relu", ["n"], ["r"], "body.relu"),
        helper.make_node("Conv", ["r", "body.conv.w"], ["c"], "body.conv", pads=[1, 1, 1, 1], strides=[stride] * 2),
        helper.make_node("GlobalAveragePool", ["c"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "head.w"], ["y"], "head"),
    ]  # fmt: skip
    return model(nodes, {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 5]}, weights)


def sides(a: object, b: object) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What is marked on either side: the operations' names, and what is said."""
    found = inside(a, b)
    graphs = [graph_of(side, "net") for side in found.sides]
    marked = marks(graphs[0], graphs[1], found.counterparts)
    return tuple(  # type: ignore[return-value]
        [(node.name, mark.said) for node, mark in zip(graph.nodes, own, strict=True) if mark]
        for graph, own in zip(graphs, marked, strict=True)
    )


def test_models_made_alike_have_no_marks_and_other_attributes_are_told() -> None:
    assert sides(convolutions(), convolutions()) == ([], [])
    ours, theirs = sides(convolutions(), convolutions(epsilon=1e-3, stride=1))
    assert ours == [
        ("body.norm", "epsilon 1e-05, on the other side 0.001"),
        ("body.conv", "strides 2, on the other side 1"),
    ]
    assert [said for _, said in theirs] == [
        "epsilon 0.001, on the other side 1e-05",
        "strides 1, on the other side 2",
    ]


@pytest.mark.parametrize("target", ["pytorch", "tensorflow", "mxnet"])
def test_what_another_framework_needs_besides_is_marked_there_alone(target: str) -> None:
    import netferry as package

    done = package.convert(convolutions(), target, verify=False)
    ours, theirs = sides(convolutions(), done.model)
    assert ours == []
    assert {said for _, said in theirs} <= {"on this side only"}
    assert all(not name.endswith(("stem", "conv", "norm", "head")) for name, _ in theirs)


def test_an_operation_that_one_side_lacks_is_marked_on_the_other() -> None:
    fewer = proto(convolutions())
    relu = next(node for node in fewer.graph.node if node.op_type == "Relu")
    fewer.graph.node.remove(relu)
    next(node for node in fewer.graph.node if node.name == "body.conv").input[0] = "n"
    assert sides(convolutions(), fewer) == ([("body.relu", "on this side only")], [])


def test_branches_that_run_in_another_order_are_still_each_others() -> None:
    def branched(order: tuple[int, int]) -> Graph:
        nodes = [
            Node("Conv", f"way{n}", ("x",), (f"o{n}",), True, attributes=(("strides", "1"),)) for n in order
        ]
        return Graph("net", ("x",), ("y",), (*nodes, Node("Add", "sum", ("o0", "o1"), ("y",))))

    found = marks(branched((0, 1)), branched((1, 0)), {})
    assert [mark.twin for mark in found[0]] == [1, 0, 2]
    assert not any(found[0]) and not any(found[1])


def test_the_worst_values_are_those_of_the_first_tensor_that_differs() -> None:
    a, b = convolutions(), convolutions(epsilon=1e-3)
    found = inside(a, b)
    assert found.first is not None
    assert (found.first.tensor, found.first.other) == ("n", "n")
    assert 0 < len(found.first.values) <= MOST_VALUES
    apart = [abs(value.source - value.target) for value in found.first.values]
    assert apart == sorted(apart, reverse=True)
    assert all(len(value.place) == 4 for value in found.first.values)
    same = inside(a, a)
    assert same.first is None and same.counterparts["n"] == "n"


def test_a_failing_page_shows_the_values_and_commands_that_run(tmp_path: Path) -> None:
    a, b = (
        saved(tmp_path, one, name)
        for one, name in ((convolutions(), "a b.onnx"), (convolutions(1e-3), "b.onnx"))
    )
    done = netferry("verify", a.name, b.name, "--html", "page.html", "--quick", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    text = words_of(page)
    assert "is n: " in text
    assert text.index("Its worst values, side by side") < text.index("Errors against the yardstick")
    assert "1 pair of operations with attributes that differ" in text
    commands = re.findall(r"<pre[^>]*>(.*?)</pre>", page)
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(re.sub(r"</?span[^>]*>", "", command).replace("&#39;", "'"))
        assert words[0] == "netferry"
        again = netferry(*words[1:], cwd=tmp_path)
        assert again.returncode == 1, again.stderr
    assert (tmp_path / "difference").is_dir()


def test_a_conversions_page_shows_both_sides(tmp_path: Path) -> None:
    source = saved(tmp_path, convolutions(), "a.onnx")
    target = tmp_path / "a.keras"
    done = netferry("convert", source, target, "--report", tmp_path / "report", "--quick")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    labels = [one.get("aria-label") for _, one in Elements(page).found if one.get("class") == "side"]
    assert labels == ["Operations of a.onnx", "Operations of a.keras"]
    assert "Conv2D" in page


def modules(count: int, inner: int) -> Graph:
    """So many modules of so many convolutions."""
    names = [f"layer{n}.{m}.conv" for n in range(count) for m in range(inner)]
    nodes = tuple(
        Node("Conv", name, (f"v{place}",), (f"v{place + 1}",), True) for place, name in enumerate(names)
    )
    return Graph("net", ("v0",), (f"v{len(names)}",), nodes)


def test_a_large_model_is_folded_by_module_and_each_opens_to_its_own_picture() -> None:
    graph = modules(6, 12)
    found = pictured(graph, outline(graph, {}))
    whole, *inside_of = found.views
    assert whole.picture.count("<rect") == 6 + 2
    assert [view.path for view in inside_of] == [f"layer{n}" for n in range(6)]
    assert all(view.picture.count("<rect") == 12 + 2 for view in inside_of)
    page = report_page(report(), Extras(graphs=(graph, graph)))
    ids = [one["id"] for _, one in Elements(page).found if one.get("id")]
    links = {one["href"] for tag, one in Elements(page).found if tag == "a" and one.get("href")}
    assert len(ids) == len(set(ids))
    assert links <= {f"#{one}" for one in ids}


def test_very_many_operations_without_modules_are_folded_in_runs() -> None:
    nodes = tuple(Node("Relu", f"r{n}", (f"v{n}",), (f"v{n + 1}",)) for n in range(700))
    graph = Graph("net", ("v0",), ("v700",), nodes)
    found = pictured(graph, outline(graph, {}))
    assert all(view.picture.count("<rect") <= 32 for view in found.views)
    assert sum(view.picture.count('"box plain"') for view in found.views) == 700


def test_a_model_that_cannot_be_looked_into_is_drawn_as_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    path = saved(tmp_path, convolutions(), "a.onnx")
    from netferry.tasks import extras

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no way in")

    monkeypatch.setattr(extras, "inside", refuse)
    found = extras_between((path, path), (None, None))
    assert [graph.title for graph in found.graphs] == ["a.onnx, as ONNX"] * 2
    assert found.notes == ("no look inside: no way in",)
