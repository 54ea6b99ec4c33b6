"""A name out of a file means nothing to the medium that it is shown in."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pyarrow
import pytest
from hostile_names import NAMES
from markdown_it import MarkdownIt
from onnx import TensorProto, helper

from netferry.cli.arrays import save_outputs
from netferry.converters import escaping, origin
from netferry.converters.disk import archives, ledger
from netferry.converters.errors import RefusedError, Unsupported, UnsupportedError, first_line
from netferry.converters.signature import Signature, TensorSpec
from netferry.converters.trust.paths import is_plain
from netferry.converters.trust.permit import Permit, UnsafeWarning
from netferry.inference import parts
from netferry.tasks.package import _card
from netferry.validation.comparison.metrics import PASSED, Comparison
from netferry.validation.reports import junit, markdown
from netferry.validation.reports.page import report_page
from netferry.validation.reports.report import OutputVerdict, Report

EACH = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def report_of(name: str) -> Report:
    """A verdict in which every word that a file can choose is ``name``."""
    return Report(
        name, name, (OutputVerdict(name, Comparison(PASSED, reason=name), name, name, name, (name,)),), (name,),
        notes=(f"at {name}",), reason=f"at {name}", truth=name, unchecked_axes=(name,), data={"name": name, "sha256": "0"},
    )  # fmt: skip


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@EACH
def test_a_terminal_gets_one_line_of_bounded_length(name: str) -> None:
    line = escaping.line(name)
    assert line.isprintable() and len(line) < 21_000
    assert escaping.line(line) == line or len(name) > escaping.MOST
    if name.isprintable() and len(name) < escaping.MOST:
        assert line == name


@EACH
def test_errors_warnings_and_verdicts_are_lines(name: str) -> None:
    error = RefusedError(name, where=name, expected=name, received=name, remedy=name).at(name)
    assert str(error).isprintable() and len(str(error)) < 130_000
    many = UnsupportedError([Unsupported(name, name, name, name)] * 300, where=name)
    assert harmless(str(many)) and str(many).count("\n") == 101
    assert first_line(ValueError(f"{name}x")).isprintable()
    permit = Permit(unsafe=True)
    permit.ask(name, {name or "x"}, name)
    with pytest.warns(UnsafeWarning) as warned:
        permit.tell()
    assert str(warned[0].message).isprintable()
    text = report_of(name).to_text()
    assert harmless(text) and text.count("\n") == 3


def test_a_message_of_megabytes_is_cut_and_its_length_is_told() -> None:
    for size in (10_000_000, 3_000_000):
        error = RefusedError("x" * size, where="net.onnx")
        assert f"[... {size:,} characters ...]" in str(error)
        assert len(json.dumps(error.to_json())) < 6_000


def test_a_file_that_is_being_written_bears_its_own_name() -> None:
    stage = "/d/.netferry-0123456789abcdef/new/out.pt2"
    error = RefusedError(f"cannot open {stage}", where=stage, remedy=f"See {stage}/x")
    assert str(error) == "/d/out.pt2: cannot open /d/out.pt2. See /d/out.pt2/x"


@EACH
def test_json_is_ascii_and_comes_back_as_it_was(name: str) -> None:
    text = report_of(name).to_json()
    assert text.isascii() and harmless(text)
    found = json.loads(text)["outputs"][0]["name"]
    assert found == name or (len(name) > escaping.MOST_OF_DATA and len(found) < len(name))
    error = json.loads(escaping.in_json(json.dumps(RefusedError(name or "x").to_json())))
    assert error["message"] == escaping.line(name or "x")


# ---- Markdown and HTML, as their readers see them --------------------------------------------------


def tokens(text: str) -> list[Any]:
    found = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [inner for token in found for inner in (token, *(token.children or ()))]


def kinds(text: str) -> list[str]:
    """What a reader of Markdown makes of a text, but for its words."""
    return [token.type for token in tokens(text) if token.type not in ("text", "text_special", "softbreak")]


def said(text: str) -> str:
    return "".join(
        token.content for token in tokens(text) if token.type in ("text", "text_special", "code_inline")
    )


@EACH
def test_a_sentence_of_markdown_holds_a_name_as_it_is(name: str) -> None:
    text = f"The output {escaping.markdown(name)} differs."
    assert kinds(text) == kinds("The output x differs.")
    assert said(text) == f"The output {' '.join(escaping.line(name.replace(chr(10), ' ')).split())} differs."
    assert not re.search(r"://|@|www\.", text)


@EACH
def test_code_of_markdown_ends_where_it_ends(name: str) -> None:
    table = "| a | b |\n|---|---|\n| {} | end |\n"
    assert kinds(table.format(escaping.code(name))) == kinds(table.format("`x`"))
    found = [
        token.content for token in tokens(table.format(escaping.code(name))) if token.type == "code_inline"
    ]
    assert found[0].strip() == escaping.line(name).strip()


@EACH
def test_a_report_in_markdown_has_the_form_of_any_other(name: str) -> None:
    text = markdown.of_report(report_of(name).to_dict())
    assert harmless(text)
    assert kinds(text) == kinds(markdown.of_report(report_of("x").to_dict()))


@EACH
def test_a_model_card_has_the_form_of_any_other(name: str) -> None:
    def card(name: str) -> str:
        spec = TensorSpec(name, np.dtype(np.float32), (name, 3))
        return _card(name, report_of(name), Signature((spec,), (spec,)))

    text = card(name)
    assert harmless(text)
    assert kinds(text) == kinds(card("x"))
    (code,) = [token.content for token in tokens(text) if token.type == "fence"]
    compile(code, "card", "exec")
    assert re.search(r"run\(None, \{.*: \w+_array\}\)", code)


class Seen(HTMLParser):
    """Tags with the names of their attributes, and the words between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(key for key, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def seen(page: str) -> Seen:
    found = Seen()
    found.feed(page)
    return found


@EACH
def test_a_page_has_the_form_of_any_other(name: str) -> None:
    if not name.strip():
        return
    page = report_page(report_of(name).to_dict())
    assert harmless(page)
    assert seen(page).tags == seen(report_page(report_of("x").to_dict())).tags
    assert len(name) > 1000 or escaping.line(name).strip() in seen(page).words


@EACH
def test_junit_is_xml_whatever_it_names(name: str) -> None:
    root = ElementTree.fromstring(junit.of_report(report_of(name).to_dict()))
    (case,) = root.iter("testcase")
    assert case.get("name") == escaping.line(name)
    assert root.get("failures") == "0"


# ---- archives --------------------------------------------------------------------------------------


def test_names_of_an_archive_stay_inside_it_and_each_array_is_found() -> None:
    arrays = {name: np.float32([place]) for place, name in enumerate(NAMES.values())}
    arrays |= {
        "dense/BiasAdd:0": np.float32([-1]),
        "..%2F..%2Fup": np.float32([-2]),
        "%2E%2E": np.float32([-3]),
    }
    file = io.BytesIO()
    archives.write(file, arrays)
    names = zipfile.ZipFile(file).namelist()
    assert len(set(names)) == len(arrays)
    for name in names:
        assert is_plain(name) and name.isprintable() and "\\" not in name and len(name) < 4_000
    with np.load(file, allow_pickle=False) as found:
        values = [found[key].item() for key in found.files]
        assert values == [array.item() for array in arrays.values()]
        assert found["file"].item() == arrays["file"].item()
        assert found["dense/BiasAdd:0"].item() == -1


@pytest.mark.parametrize("name", ["file", "../../up", "x\x1b[31m\n", "args"])
def test_outputs_of_any_name_are_saved_by_the_command(name: str, tmp_path: Path) -> None:
    save_outputs(tmp_path / "out.npz", {name: np.ones(2, np.float32), "other": np.zeros(2, np.float32)})
    with np.load(tmp_path / "out.npz") as found:
        assert [found[key].sum() for key in found.files] == [2, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"out.npz", ledger.NAME}


@EACH
def test_headings_of_a_table_are_lines_and_no_formula(name: str) -> None:
    found = list(escaping.headings([name, f"={name}", f" @{name}", name]))
    assert len(set(found)) == 4
    assert all(
        heading.isprintable() and heading.lstrip()[:1] not in ("=", "+", "-", "@") for heading in found
    )


def test_columns_of_a_csv_mean_nothing_and_none_is_lost(tmp_path: Path) -> None:
    """Lists become several columns, whose names may be those of other outputs."""
    batch = pyarrow.record_batch(
        {"=1+1\x1b[2J": [[1.0, 2.0], [3.0, 4.0]], "y": [[5.0], [6.0]], "y_0": [7.0, 8.0], "\u202eid": [1, 2]}
    )
    parts.WRITERS[".csv"](tmp_path / "out.csv", [batch])
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["'=1+1\\x1b[2J_0", "'=1+1\\x1b[2J_1", "y_0", "y_0_1", "\\u202eid"],
        ["1", "2", "5", "7", "1"],
        ["3", "4", "6", "8", "2"],
    ]


# ---- a model with such names, through the command line ---------------------------------------------


def hostile_model(folder: Path) -> Path:
    """An identity whose input, output, node and free axis are named to mislead."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b`\x1b[31m|\n# x", 3])
        for name in ("x\x1b]0;owned\x07", "../../y` | passed |\n## ✓ They compute the same.\n")
    ]
    node = helper.make_node("Identity", [values[0].name], [values[1].name], name="\u202en\x9b1m")
    graph = helper.make_graph([node], "g\x1b[2J", values[:1], values[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        folder / "m.onnx",
    )
    return folder / "m.onnx"


def test_every_file_that_a_command_writes_of_it_is_harmless(tmp_path: Path) -> None:
    model = hostile_model(tmp_path)
    np.savez(tmp_path / "x.npz", **{"x\x1b]0;owned\x07": np.ones((2, 3), np.float32)})
    commands = [
        ["inspect", "m.onnx", "--to", "all"],
        ["verify", "m.onnx", "m.onnx", "--quick", "--report", "report"],
        ["package", "m.onnx", "--card", "CARD.md", "--kserve", "kserve", "--triton", "triton"],
        ["run", "m.onnx", "--input", "x.npz", "--output", "y.npz"],
    ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "netferry", *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert harmless(done.stdout) and harmless(done.stderr), command
    written = [
        path
        for path in tmp_path.rglob("*")
        if path.suffix in (".md", ".html", ".json", ".xml", ".txt", ".pbtxt")
    ]
    assert len(written) >= 9
    for path in written:
        assert harmless(path.read_text(encoding="utf-8")), path.name
    headings = [
        line
        for line in (tmp_path / "CARD.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    ]
    assert len(headings) == 2 and model.exists()
    (member,) = zipfile.ZipFile(tmp_path / "y.npz").namelist()
    assert is_plain(member) and member.isprintable()


def test_a_model_of_a_file_is_named_by_it() -> None:
    class Module:
        pass

    model = Module()
    assert origin.named(model) == "Module"
    origin.remember(model, "net.pt2")
    origin.remember(1, "one")
    assert (origin.named(model), origin.named(1)) == ("net.pt2", "int")
