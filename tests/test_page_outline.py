"""The outline of a graph: modules as names' paths say, operations with sizes and attributes, and where a difference begins."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
from models import model
from onnx import helper
from page_documents import output, report

from netferry.validation.reports.page import Extras, report_page
from netferry.validation.reports.page.graphs import Graph, Node, of_dict, of_onnx, of_source
from netferry.validation.reports.page.outline import MOST, Branch, Leaf, first_difference, outline


def graph(*names: str) -> Graph:
    nodes = tuple(Node("Relu", name, ("x",), (f"out{place}",)) for place, name in enumerate(names))
    return Graph("net", ("x",), ("y",), nodes)


def shape(parts: object) -> object:
    """Names alone, nested."""
    return [{one.name: shape(one.parts)} if isinstance(one, Branch) else one.name for one in parts]  # type: ignore[attr-defined]


def test_operations_are_folded_by_the_paths_of_their_names() -> None:
    found = outline(graph("stem", "body.0.a", "body.0/b", "body.1.a", "head/deep/only", "body.0.a"), {})
    assert shape(found.parts) == ["stem", {"body": [{"0": ["a", "b"]}, "1.a"]}, "head.deep.only", "body.0.a"]
    assert found.said == "6 operations"
    assert found.left_out == 0


def test_what_a_program_does_between_two_steps_of_a_module_is_in_it() -> None:
    found = outline(graph("stem", "", "body.0.a", "", "z", "body.0.b", "", "body.1.a", "", "head"), {})
    assert shape(found.parts) == ["stem", "", {"body": [{"0": ["a", "", "z", "b"]}, "", "1.a"]}, "", "head"]


def test_an_outline_of_very_many_says_what_it_leaves_out() -> None:
    found = outline(graph(*(f"m{n // 10}.n{n}" for n in range(MOST + 7))), {})
    assert found.left_out == 7


def test_sizes_and_attributes_are_those_of_the_model() -> None:
    proto = model(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="body.conv", strides=[2, 2])],
        {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 4, 3, 3]}, {"w": np.ones((4, 3, 3, 3), np.float32)},
    )  # fmt: skip
    drawn = of_onnx(ir.from_proto(proto), "net")
    [leaf] = outline(drawn, {"y": 3e-4}).parts
    assert isinstance(leaf, Leaf)
    assert dict(leaf.facts) == {"reads": "x", "gives": "y: float32[batch, 4, 3, 3]", "strides": "(2, 2)"}
    assert leaf.differs
    assert leaf.weighted
    from dataclasses import asdict

    assert of_dict(asdict(drawn)) == drawn


def test_a_programs_layers_tell_their_arguments() -> None:
    source = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x):
        y = self.stem(x)
        y = torch.softmax(y, 1)
        return y
"""
    drawn = of_source(source, "PyTorch", ("stem.weight",))
    assert drawn is not None
    stem, softmax = outline(drawn, {}).parts
    assert dict(stem.facts)["with"] == "3, 8, 3"  # type: ignore[union-attr]
    assert dict(stem.facts)["stride"] == "2"  # type: ignore[union-attr]
    assert dict(softmax.facts)["with"] == "1"  # type: ignore[union-attr]


LAYERS = (("stem_out", 2e-7), ("body_out", None), ("head_out", 0.3), ("y", 0.4))


def test_a_failing_page_leads_with_where_it_begins_and_how_to_see_it_again() -> None:
    failed = report(output("y", "failed", 90.0, reason="an error of 0.3"), source="my model.onnx", seed=7)
    page = report_page(failed, Extras(graphs=(graph("stem", "body.a", "body.b"),), layers=LAYERS))
    assert first_difference(LAYERS) == ("head_out", 0.3)
    begins = page.index("is head_out: 0.3 of its scale")
    assert begins < page.index("<h2>Outputs</h2>")
    [command, _] = re.findall(r"<pre[^>]*>(.*?)</pre>", page)
    plain = re.sub(r"</?span[^>]*>", "", command)  # a word of it is not broken at its hyphens
    assert plain == "netferry bisect &#39;my model.onnx&#39; cnn.onnx --seed 7 --output difference"
    assert '<span class="word">--output</span>' in command
    passed = report_page(report(), Extras(layers=LAYERS))
    assert "Where it begins" not in passed
    assert "were not compared" in report_page(failed, Extras())


def test_names_in_an_outline_are_no_markup() -> None:
    page = report_page(report(), Extras(graphs=(graph('</script><img src=x>"', "a.<b>.c", "a.<b>.d"),)))
    assert "<img" not in page
    assert not re.search(r"<b>\.|<b><b>", page)
