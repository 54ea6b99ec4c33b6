"""The report as a page, as JUnit XML and as Markdown: what stands in it, and what no name can do to it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from models import dense, model, saved
from onnx import helper
from page_documents import HOSTILE, cell, matrix, output, report, training
from test_cli import netferry

import netferry as package
from netferry.validation.reports import junit, markdown, wording
from netferry.validation.reports.page import Extras, matrix_page, report_page
from netferry.validation.reports.page.drawing import MOST_BOXES, WIDTH, Sprites, draw
from netferry.validation.reports.page.extras import FileFact, Latency, file_facts
from netferry.validation.reports.page.graphs import Graph, Node, of_onnx, of_source
from netferry.validation.reports.report import Report

MODELS = "linear linear-diabetes logistic cnn-binary cnn rnn lstm gru bilstm mlp cnn-bn".split()


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text that a person sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


def words_of(page: str) -> str:
    return " ".join(" ".join(Elements(page).text).split())


def chain(length: int) -> Graph:
    nodes = [Node("Relu", f"block{n // 7}/relu{n}", (f"v{n}",), (f"v{n + 1}",)) for n in range(length)]
    return Graph("long", ("v0",), (f"v{length}",), tuple(nodes))


# ---- words ---------------------------------------------------------------------------------------------


def test_the_verdict_comes_first_and_what_it_proves_stands_in_the_details() -> None:
    page = words_of(report_page(report(training=training())))
    at = [
        page.index(text)
        for text in (
            "They compute the same.",
            "run on the same 24 sets of inputs",
            "1.4 × what float32 rounding costs",
            "gradients of 9 weights agree",
            "Errors against the yardstick",
            "What was done",
            "Keras in float64",
            "rate of faults under 1.2 % for inputs like these",
        )
    ]
    assert at == sorted(at)
    assert page.count("1.2 %") == 1


def test_the_matrix_tells_the_rate_of_faults_within_each_journey_alone() -> None:
    document = matrix("cnn", cnn_pytorch_mxnet="failed")
    page = words_of(matrix_page(document))
    assert page.count("rate of faults") == 11
    assert page.index("rate of faults") > page.index("The models")


def test_markdown_tells_the_rate_of_faults_beneath_the_table() -> None:
    for text in (markdown.of_report(report()), markdown.of_matrix(matrix("cnn"))):
        assert text.count("rate of faults: under 1.2 %") == 1
        assert text.index("rate of faults") > text.rindex("| --- |")
    failed = report(output("logits", "failed"))
    assert "rate of faults" not in markdown.of_report(failed)


def test_a_difference_is_told_with_its_output_and_reason_and_proves_nothing_good() -> None:
    bad = output("logits", "failed", 900.0, reason="an error of 0.3")
    page = words_of(report_page(report(output(), bad)))
    assert "They differ." in page
    assert "logits: an error of 0.3." in page
    assert "rate of faults" not in page


def test_what_was_not_compared_is_not_said_to_agree() -> None:
    page = words_of(report_page(Report("a", "b", reason="mxnet is not installed").to_dict()))
    assert "Nothing was proved." in page
    assert "mxnet is not installed." in page
    assert "compute the same" not in page


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (5.4e-7, "5.4 × 10⁻⁷"), (2.7, "2.7"), (None, "–"), ("inf", "∞"), ("nan", "NaN"), (812.3, "812"),
     (True, "–"), (1.25e6, "1.2 × 10⁶")],
)  # fmt: skip
def test_numbers_are_written_as_a_person_writes_them(value: Any, said: str) -> None:
    assert wording.number(value) == said


def test_the_bound_is_the_verdicts_own_and_else_three_over_the_samples() -> None:
    assert wording.bound(report()) == 0.0125
    assert wording.bound({"samples": ["a"] * 300, "outputs": []}) == 0.01
    assert wording.bound({"samples": [], "outputs": []}) is None


# ---- the matrix ----------------------------------------------------------------------------------------


def test_the_matrix_page_holds_every_cell_once_and_names_what_did_not_arrive() -> None:
    document = matrix("cnn", "lstm", lstm_mxnet_onnx="failed", cnn_pytorch_mxnet="not_checked")
    page = matrix_page(document, titles={"cnn": ("A net that reads digits", "y = f(x)")})
    text = words_of(page)
    assert "22 of 24 conversions passed, 1 did not and 1 could not be checked." in text
    assert "lstm, MXNet to ONNX: failed" in text
    assert "A net that reads digits" in text
    links = [
        one["href"]
        for tag, one in Elements(page).found
        if tag == "a" and "square" in (one.get("class") or "")
    ]
    ids = [one["id"] for _, one in Elements(page).found if one.get("id")]
    assert len(links) == len(set(links)) == 24
    assert len(ids) == len(set(ids))
    assert {f"#{one}" for one in ids} >= set(links)


def test_a_full_matrix_with_graphs_and_files_stays_under_two_megabytes() -> None:
    document = matrix(*MODELS)
    for one in document["cells"]:
        one["report"]["training"] = training()
    rng = np.random.default_rng(0)
    extras = {
        (one["model"], one["source"], one["target"]): Extras(
            graphs=(chain(15), chain(int(rng.integers(8, 30)))),
            files=(FileFact("model.onnx", 1, "0" * 64), FileFact("model.safetensors", 1, "f" * 64)),
            layers=tuple((f"block{n}/relu{n}", float(rng.uniform(1e-8, 1e-6))) for n in range(15)),
        )
        for one in document["cells"]
    }
    page = matrix_page(document, extras)
    assert page.count("<article") == 132
    assert len(page.encode()) < 2_000_000


def test_drawings_that_are_alike_are_held_once() -> None:
    sprites = Sprites()
    for _ in range(3):
        sprites.show(draw(chain(5)), "a chain")
    assert str(sprites.sheet()).count("<g id=") == 1


def test_a_matrix_without_reports_is_shown_by_its_errors() -> None:
    document = matrix("mlp")
    for one in document["cells"]:
        one["report"] = None
    text = words_of(matrix_page(document))
    assert "Error relative to the output’s scale" in text
    assert "3/n" not in text


# ---- graphs --------------------------------------------------------------------------------------------


def convolutional() -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    weights = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "head.weight": rng.standard_normal((4, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Add", ["c", "r"], ["s"], "skip"),
        helper.make_node("GlobalAveragePool", ["s"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "head.weight"], ["y"], "head"),
    ]
    return model(nodes, {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 5]}, weights)


def test_an_onnx_graph_is_read_with_its_weights_and_without_constants() -> None:
    graph = of_onnx(ir.from_proto(convolutional()), "before")
    assert [node.op for node in graph.nodes] == [
        "Conv",
        "Relu",
        "Add",
        "GlobalAveragePool",
        "Flatten",
        "MatMul",
    ]
    assert [node.op for node in graph.nodes if node.weighted] == ["Conv", "MatMul"]
    assert graph.nodes[2].inputs == ("c", "r")
    assert (graph.inputs, graph.outputs) == (("x",), ("y",))


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow", "mxnet"])
def test_what_arrives_is_read_from_its_source_in_every_framework(framework: str) -> None:
    """Two layers that have learnt, the sum that skips one, from one input to one output: no framework is imported."""
    done = package.convert(convolutional(), framework, verify=False)
    assert done.imported is not None
    graph = of_source(done.imported.source, framework, done.imported.weights)
    assert graph is not None
    assert graph.inputs == ("x",)
    assert len(graph.outputs) == 1
    assert sum(node.weighted for node in graph.nodes) == 2
    assert any(len(node.inputs) == 2 for node in graph.nodes)
    known = set(graph.inputs)
    for node in graph.nodes:
        assert set(node.inputs) <= known, node
        known.update(node.outputs)
    assert set(graph.outputs) <= known


@pytest.mark.parametrize(
    "snapshot", sorted(Path(__file__).parent.glob("snapshots/*.py")), ids=lambda path: path.stem
)
def test_every_kind_of_generated_source_is_read_and_drawn_inside_its_picture(snapshot: Path) -> None:
    graph = of_source(snapshot.read_text(encoding="utf-8"), snapshot.stem)
    assert graph is not None and len(graph.nodes) >= 9
    drawing = draw(graph)
    for x, y, width in re.findall(r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)"', drawing.body):
        assert float(x) >= 0 and float(x) + float(width) <= WIDTH
        assert 0 <= float(y) <= drawing.height


@pytest.mark.parametrize("length", [MOST_BOXES + 1, 209, 1000])
def test_a_large_graph_is_drawn_in_groups_and_says_so(length: int) -> None:
    drawing = draw(chain(length))
    assert drawing.body.count("<rect") <= MOST_BOXES + 2
    assert f"{length:,} operations, drawn as" in drawing.caption


def test_a_source_that_netferry_did_not_write_has_no_graph() -> None:
    assert of_source("x = 1", "nothing") is None


def test_the_profile_is_shown_with_its_worst_tensor_by_name() -> None:
    page = report_page(report(), Extras(layers=(("stem", 1e-7), ("head", 2e-3), ("softmax", 1e-7))))
    assert "The largest, 0.002 of the tensor's scale, is in head." in words_of(page)
    same = report_page(report(), Extras(layers=(("stem", 0.0), ("head", 0.0))))
    assert "Every tensor is the same to the last bit." in words_of(same)


def test_tensors_that_the_target_does_not_have_are_counted_and_not_drawn() -> None:
    layers = (("stem", 1e-7), *((f"state{n}", None) for n in range(5)), ("head", 2e-7))
    page = words_of(report_page(report(), Extras(layers=layers)))
    assert "state0, state1, state2 and 2 others hold what no tensor of the target holds." in page
    assert "last of 2" in page
    nothing = words_of(report_page(report(), Extras(layers=(("stem", None),))))
    assert "Error from layer to layer" not in nothing


# ---- hostile names -------------------------------------------------------------------------------------


def hostile_documents() -> tuple[dict[str, Any], dict[str, Any], Extras]:
    verdict = report(
        output(HOSTILE, "failed", reason=HOSTILE, slice=HOSTILE, worst_sample=HOSTILE),
        source=HOSTILE, target=HOSTILE, truth=HOSTILE, notes=[HOSTILE], samples=[HOSTILE], reason=HOSTILE,
        versions={HOSTILE: HOSTILE}, training=training() | {"status": "failed", "reason": HOSTILE},
    )  # fmt: skip
    nodes = (Node(HOSTILE, HOSTILE, ("x",), ("y",)), Node(HOSTILE, HOSTILE, ("y",), (HOSTILE,)))
    extras = Extras(
        graphs=(Graph(HOSTILE, ("x",), (HOSTILE,), nodes),),
        files=(FileFact(HOSTILE, 3, "0"),),
        latencies=(Latency(HOSTILE, "onnx", 1.0),),
        layers=((HOSTILE, 1e-3), ("plain", 1e-7)),
    )
    cells = [cell(HOSTILE, "pytorch", target, "failed", reason=HOSTILE, route=HOSTILE, report=verdict, metric_name=HOSTILE)
             for target in ("onnx", "mxnet")]  # fmt: skip
    return verdict, {"cells": cells, "versions": {HOSTILE: HOSTILE}}, extras


@pytest.mark.parametrize("kind", ["verdict", "matrix"])
def test_no_name_from_a_file_becomes_markup(kind: str) -> None:
    verdict, cells, extras = hostile_documents()
    if kind == "verdict":
        page, harmless = report_page(verdict, extras), report_page(report())
    else:
        page = matrix_page(cells, {(HOSTILE, "pytorch", "onnx"): extras}, {HOSTILE: (HOSTILE, HOSTILE)})
        harmless = matrix_page(matrix("cnn"))
    for tag in ("script", "style", "meta"):
        assert Elements(page).count(tag) == Elements(harmless).count(tag)
    assert not {"img", "iframe", "link", "object"} & {tag for tag, _ in Elements(page).found}
    assert not any(name.startswith("on") for _, one in Elements(page).found for name in one)
    assert "<img src=x onerror" in "".join(Elements(page).text)


def test_a_page_asks_nothing_of_the_network() -> None:
    page = matrix_page(matrix("cnn"), {("cnn", "pytorch", "onnx"): Extras(graphs=(chain(3),))})
    for _, attributes in Elements(page).found:
        assert not {"src", "srcset", "data", "action"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|https?:", page)
    [policy] = [one["content"] for _, one in Elements(page).found if one.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'; ")


# ---- JUnit ---------------------------------------------------------------------------------------------

FORM: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name"}, {"tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors"}, {"skipped", "time"}, {"properties", "testcase"}),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"classname", "name", "time"}, set(), {"failure", "error", "skipped", "system-out"}),
    "failure": ({"message", "type"}, set(), set()),
    "error": ({"message", "type"}, set(), set()),
    "system-out": (set(), set(), set()),
}
"""Each element of JUnit's usual schema: attributes that it must have, that it may have, and what may stand inside."""


def read_junit(text: str) -> ElementTree.Element:
    """The document, once its form and its sums have been looked at."""
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        needed, allowed, inside = FORM[element.tag]
        assert needed <= set(element.keys()) <= needed | allowed
        assert {child.tag for child in element} <= inside
    for suite in (root, *root.iter("testsuite")):
        cases = list(suite.iter("testcase"))
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)
        assert int(suite.attrib["errors"]) == sum(case.find("error") is not None for case in cases)
        assert float(suite.attrib["time"]) == pytest.approx(
            sum(float(case.attrib["time"]) for case in cases), abs=1e-2
        )
    return root


def test_junit_has_a_case_for_each_cell_and_what_proves_nothing_is_no_success() -> None:
    root = read_junit(
        junit.of_matrix(matrix("cnn", "lstm", lstm_mxnet_onnx="failed", cnn_pytorch_mxnet="not_checked"))
    )
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("24", "1", "1")
    [failed] = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert (failed.attrib["classname"], failed.attrib["name"]) == ("lstm", "mxnet -> onnx")


def test_junit_has_a_case_for_each_output_and_one_for_training() -> None:
    root = read_junit(
        junit.of_report(report(output("a"), output("b", "failed"), training=training("not_checked")))
    )
    assert [case.attrib["name"] for case in root.iter("testcase")] == ["a", "b", "gradients and training"]
    assert (root.attrib["failures"], root.attrib["errors"]) == ("1", "1")


def test_junit_of_a_verdict_without_outputs_is_an_error_and_not_an_empty_success() -> None:
    root = read_junit(junit.of_report(Report("a", "b", reason="mxnet is not installed").to_dict()))
    [fault] = root.iter("error")
    assert fault.attrib["message"] == "mxnet is not installed"


def test_junit_holds_any_name() -> None:
    verdict, cells, _ = hostile_documents()
    for text in (junit.of_report(verdict), junit.of_matrix(cells)):
        assert "onerror" in next(read_junit(text).iter("testcase")).attrib["classname"]


# ---- Markdown ------------------------------------------------------------------------------------------


def tables(text: str) -> list[list[str]]:
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


def test_markdown_is_one_table_with_the_verdict_above_and_faults_below() -> None:
    text = markdown.of_matrix(matrix("cnn", lstm_x_y="", cnn_mxnet_onnx="failed"))
    assert text.startswith("## ✕ 11 of 12 conversions passed and 1 did not.")
    rows = tables(text)
    assert len(rows) == 2 + 3
    assert {len(row) for row in rows} == {6}
    assert "- cnn from MXNet to ONNX: an error of 0.3" in text


def test_markdown_of_a_verdict_lists_outputs_and_notes() -> None:
    text = markdown.of_report(report(output("a"), output("b")))
    assert [row[0].strip() for row in tables(text)] == ["output", "---", "a", "b"]
    assert "- a note" in text


@pytest.mark.parametrize("kind", [0, 1])
def test_markdown_holds_any_name(kind: int) -> None:
    text = (markdown.of_report, markdown.of_matrix)[kind](hostile_documents()[kind])
    assert len({len(row) for row in tables(text)}) == 1
    assert "<" not in text
    assert "@" not in text
    assert not re.search(r"(?<!\\)`", text)


# ---- from the command line -----------------------------------------------------------------------------


def test_verify_writes_a_page_junit_and_markdown_with_graphs_and_hashes(tmp_path: Path) -> None:
    a, b = saved(tmp_path, dense(), "a.onnx"), saved(tmp_path, dense(1.01), "b.onnx")
    forms = {form: tmp_path / f"report.{form}" for form in ("html", "junit", "markdown")}
    flags = [word for form, path in forms.items() for word in (f"--{form}", path)]
    result = netferry("verify", a, b, *flags)
    assert result.returncode == 1, result.stderr
    page = words_of(forms["html"].read_text(encoding="utf-8"))
    assert "They differ." in page
    assert "MatMul" in page
    for fact in file_facts([a, b]):
        assert fact.sha256 in page
    assert read_junit(forms["junit"].read_text(encoding="utf-8")).attrib["failures"] == "1"
    assert forms["markdown"].read_text(encoding="utf-8").startswith("## ✕ They differ.")


def test_convert_writes_all_forms_into_the_folder_of_its_report(tmp_path: Path) -> None:
    done = netferry(
        "convert", saved(tmp_path, dense()), tmp_path / "out.onnx", "--report", tmp_path / "report"
    )
    assert done.returncode == 0, done.stderr
    written = {path.name for path in (tmp_path / "report").glob("[!.]*")}
    assert written == {"verdict.json", "verdict.txt", "report.html", "junit.xml", "report.md"}
    page = words_of((tmp_path / "report" / "report.html").read_text(encoding="utf-8"))
    assert "They compute the same." in page
    assert file_facts([tmp_path / "out.onnx"])[0].sha256 in page


def test_the_demo_ends_with_the_path_of_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import typer.testing

    from netferry import cli
    from netferry.tasks import matrix as room

    cells = tuple(room.Cell("cnn", source, "onnx", "passed", max_rel=1e-7) for source in room.SOURCES)
    monkeypatch.setattr(room, "matrix", lambda *args, **kwargs: room.Matrix(cells))
    ended = typer.testing.CliRunner().invoke(cli.app, ["demo", "--output", str(tmp_path / "tour")])
    assert ended.exit_code == 0
    said = capfd.readouterr().out.strip().splitlines()[-1]
    page = Path(said.removeprefix("report: "))
    assert page.is_absolute()
    assert "All 3 conversions passed." in page.read_text(encoding="utf-8")
