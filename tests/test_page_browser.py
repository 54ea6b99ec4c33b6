"""The page in a real browser: headless Chromium clicks through it, at a phone's width and at a desk's, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from models import saved
from page_documents import cell, matrix, output, report, training
from test_page import chain, convolutional, hostile_documents

import netferry
from netferry.tasks.extras import extras_between
from netferry.validation.reports.page import Extras, matrix_page, report_page
from netferry.validation.reports.page.extras import FileFact, Latency
from netferry.validation.reports.page.graphs import Graph, Node

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium here (Debian: apt-get install chromium chromium-driver)",
)
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium, which drives the browser, is not installed"
)
support = pytest.importorskip("selenium.webdriver.support.wait")

WIDTHS = (360, 768, 1400)
SCHEMES = ("light", "dark")

FLAWS = r"""
const flaws = [];
const width = document.documentElement.clientWidth;
const seen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const name = (element, text) => `<${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}"> ${text.trim().slice(0, 40)}`;
const numbers = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
const light = ([r, g, b]) => {
  const part = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (style.backgroundImage !== "none") return null;
    const color = numbers(style.backgroundColor);
    if (color.length === 3) return color;
  }
  return null;
};
if (document.documentElement.scrollWidth > width) flaws.push(`the page is ${document.documentElement.scrollWidth} wide`);
const walker = document.createTreeWalker(document.querySelector("body"), NodeFilter.SHOW_TEXT);
let texts = 0;
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || element.closest("script, style, title, .unseen, .skip, .sheet") || !seen(element)) continue;
  texts += 1;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const box of range.getClientRects()) {
    if (box.right > width + 0.5 || box.left < -0.5) flaws.push(`beyond the edge: ${name(element, node.textContent)}`);
  }
  for (let at = element; at && at !== document.body; at = at.parentElement) {
    if (at.namespaceURI.includes("svg")) break;
    const style = getComputedStyle(at);
    if (style.overflowX !== "visible" && at.scrollWidth > at.clientWidth + 1) flaws.push(`cut: ${name(at, node.textContent)}`);
  }
  const back = ground(element);
  const style = getComputedStyle(element);
  const drawn = element.namespaceURI.includes("svg");
  const front = numbers(drawn ? style.fill : style.color);
  if (back && front.length === 3) {
    const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
    const large = parseFloat(style.fontSize) >= 24;
    if ((high + 0.05) / (low + 0.05) < (large ? 3 : 4.5)) flaws.push(`faint, ${((high + 0.05) / (low + 0.05)).toFixed(2)}: ${name(element, node.textContent)}`);
  }
}
let drawings = 0;
for (const svg of document.querySelectorAll("svg.chart, svg.graph")) {
  if (!seen(svg) || !svg.getBoundingClientRect().width) continue;
  drawings += 1;
  const view = svg.viewBox.baseVal;
  for (const part of svg.querySelectorAll("text, rect, use, circle, path")) {
    const box = part.getBBox();
    if (box.x < -0.5 || box.y < -0.5 || box.x + box.width > view.width + 0.5 || box.y + box.height > view.height + 0.5) {
      flaws.push(`outside its picture: ${name(part, part.textContent)} ${[box.x, box.y, box.width, box.height].map(Math.round)} of ${view.width} x ${Math.round(view.height)}`);
    }
  }
  const words = [...svg.querySelectorAll("text")].map((text) => [text, text.getBBox()]);
  words.forEach(([text, a], place) => {
    for (const [other, b] of words.slice(place + 1)) {
      const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
      const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
      if (across > 1 && down > 3) flaws.push(`words over words: ${text.textContent} / ${other.textContent}`);
    }
  });
}
for (const box of document.querySelectorAll(".sheet .box")) {
  const [rect, text] = [box.querySelector("rect").getBBox(), box.querySelector("text").getBBox()];
  if (text.width > rect.width) flaws.push(`wider than its box: ${text.width} > ${rect.width}`);
}
return { flaws: [...new Set(flaws)], texts, drawings };
"""
"""What is cut, beyond an edge, faint, or drawn over something else; and how much was looked at."""


class Browser:
    """One page at a time, with what it said on the console."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def open(self, page: str, anchor: str = "", *, width: int = 1400, scheme: str = "light") -> None:
        path = self.folder / "page.html"
        path.write_text(page, encoding="utf-8")
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(f"{path.as_uri()}{anchor}")
        loaded = support.WebDriverWait(self.driver, 60)
        loaded.until(lambda _: self.run("return document.readyState") == "complete")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def shown(self) -> list[str]:
        """The journeys that can be seen."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll('article.journey')].filter(one => one.checkVisibility()).map(one => one.id)"
        )
        return found

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield Browser(driver, folder)
    driver.quit()


def whole_matrix() -> str:
    document = matrix(
        "linear-diabetes", "cnn", "lstm", cnn_tensorflow_mxnet="failed", lstm_mxnet_onnx="not_checked"
    )
    for one in document["cells"]:
        one["report"]["training"] = training()
    facts = (FileFact("a-rather-long-name-of-a-model-symbol.json", 123456, "0f" * 32),)
    extras = {
        (one["model"], one["source"], one["target"]): Extras(graphs=(chain(9), chain(45)), files=facts)
        for one in document["cells"]
    }
    return matrix_page(
        document, extras, {"cnn": ("A convolutional net that reads digits", "softmax(W · pool(K * x))")}
    )


def whole_verdict() -> str:
    """Every section there is, with long names and outputs of all three verdicts."""
    long = "encoder.layers.11.self_attention.output_projection/MatMul_transpose_reshape:0"
    outputs = (
        output("logits", ratio=1.25),
        output(
            long,
            "failed",
            90.0,
            reason="an error of 0.3, where rounding explains 2e-06",
            max_rel=float("inf"),
        ),
        output("mask", "not_checked", None, reason="the output is constant", histogram=[], max_rel=None),
    )
    extras = Extras(
        graphs=(chain(3), chain(400)),
        files=(FileFact(long, 10**9, "0f" * 32),),
        latencies=(
            Latency("PyTorch", "pytorch", 1.25),
            Latency(long, "onnx", 0.8),
            Latency("MXNet", "mxnet", 22.0),
        ),
        layers=tuple((f"{long}{n}", 10.0 ** (-9 + n % 7)) for n in range(300)),
    )
    return report_page(report(*outputs, training=training(), source=long, target="b.onnx"), extras)


@pytest.fixture(scope="module")
def real_verdict(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("real")
    a, b = saved(folder, convolutional(), "a.onnx"), saved(folder, convolutional(), "b.onnx")
    return report_page(netferry.verify(a, b).to_dict(), extras_between((a, b), (None, None)))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_faint_or_out_of_place(
    browser: Browser, width: int, scheme: str, real_verdict: str
) -> None:
    for page, anchor in (
        (whole_matrix(), "#cnn/tensorflow/mxnet"),
        (whole_verdict(), ""),
        (real_verdict, ""),
    ):
        browser.open(page, anchor, width=width, scheme=scheme)
        found = browser.run(FLAWS)
        assert found["flaws"] == []
        assert found["texts"] > 40
        assert found["drawings"] >= 2
        assert browser.complaints() == []


def test_the_look_at_the_page_finds_what_is_wrong(browser: Browser) -> None:
    """The check of the test above can fail: faint words, words cut, words outside a picture."""
    browser.open(report_page(report()))
    browser.run(
        """const add = (html) => document.querySelector('main').insertAdjacentHTML('beforeend', html);
        add('<p id=faint>faint</p><p id=cut>words that are cut away</p><p id=wide>far</p>');
        document.getElementById('faint').style.color = '#ddd';
        Object.assign(document.getElementById('cut').style, {width: '3rem', overflow: 'hidden', whiteSpace: 'nowrap'});
        Object.assign(document.getElementById('wide').style, {position: 'absolute', left: '1500px'});
        document.querySelector('svg.chart text').setAttribute('x', 400);"""
    )
    flaws = " ".join(browser.run(FLAWS)["flaws"])
    for word in ("faint, ", "cut: ", "beyond the edge: ", "outside its picture: "):
        assert word in flaws


def test_a_square_opens_its_journey_and_the_address_leads_back_to_it(browser: Browser) -> None:
    browser.open(whole_matrix())
    assert browser.shown() == []
    browser.click("a.square[href='#lstm/pytorch/mxnet']")
    assert browser.driver.current_url.endswith("#lstm/pytorch/mxnet")
    assert browser.shown() == ["lstm/pytorch/mxnet"]
    assert browser.run("return document.activeElement.id") == "lstm/pytorch/mxnet"
    assert browser.run("return document.querySelectorAll('.heat [aria-current]').length") == 1
    browser.click("#lstm .stop[href='#lstm/mxnet/tensorflow']")
    assert browser.shown() == ["lstm/mxnet/tensorflow"]
    browser.driver.back()
    browser.run("return new Promise(done => setTimeout(done, 100))")
    assert browser.shown() == ["lstm/pytorch/mxnet"]
    browser.open(whole_matrix(), "#cnn/mxnet/onnx", width=360)
    assert browser.shown() == ["cnn/mxnet/onnx"]
    top = browser.run("return document.getElementById('cnn/mxnet/onnx').getBoundingClientRect().top")
    assert -1 <= top < 900
    assert browser.complaints() == []


def test_a_model_opens_at_its_worst_journey(browser: Browser) -> None:
    browser.open(whole_matrix())
    browser.click("#cnn > summary")
    assert browser.shown() == ["cnn/tensorflow/mxnet"]


def test_keys_move_through_the_heat_map_and_open_a_square(browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(whole_matrix())
    assert browser.run("return document.querySelectorAll('.heat .square[tabindex=\"0\"]').length") == 1
    browser.run("document.querySelector('.heat .square').focus()")
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_LEFT, Keys.ARROW_RIGHT):
        browser.driver.switch_to.active_element.send_keys(key)
    assert browser.run("return document.activeElement.getAttribute('href')") == "#lstm/pytorch/pytorch"
    assert browser.run("return document.getElementById('readout').textContent").startswith(
        "lstm, PyTorch to PyTorch"
    )
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.shown() == ["lstm/pytorch/pytorch"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_button_changes_light_and_dark_and_back(browser: Browser, scheme: str) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    browser.open(whole_verdict(), scheme=scheme)
    before = browser.run(paper)
    browser.click("#theme")
    other = browser.run(paper)
    assert other != before
    browser.driver.refresh()
    assert browser.run(paper) == other
    browser.click("#theme")
    assert browser.run(paper) == before
    browser.run("localStorage.clear()")
    assert browser.complaints() == []


def test_a_table_is_sorted_by_values_and_not_by_their_words(browser: Browser) -> None:
    errors = (3e-9, 2e-1, 0.0, 5e-7)
    browser.open(report_page(report(*(output(f"out{n}", max_rel=error) for n, error in enumerate(errors)))))
    column = "return [...document.querySelectorAll('.outputs tbody tr')].map(row => row.cells[0].textContent)"
    heads = browser.driver.find_elements("css selector", ".outputs th button")
    next(head for head in heads if head.text.startswith("error / scale")).click()
    assert browser.run(column) == ["out1", "out3", "out0", "out2"]
    next(head for head in heads if head.text.startswith("error / scale")).click()
    assert browser.run(column) == ["out2", "out0", "out3", "out1"]
    heads[0].click()
    assert browser.run(column) == ["out0", "out1", "out2", "out3"]
    assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1


def test_hostile_names_do_nothing(browser: Browser) -> None:
    verdict, cells, extras = hostile_documents()
    model = cells["cells"][0]["model"]
    for page in (report_page(verdict, extras), matrix_page(cells, {(model, "pytorch", "onnx"): extras})):
        browser.open(page)
        browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
        assert browser.run("return [window.hacked ?? null, document.images.length]") == [None, 0]
        assert browser.complaints() == []


def test_everything_is_there_without_scripts_and_on_paper(browser: Browser) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(matrix_page({"cells": [cell("cnn", "pytorch", t) for t in ("onnx", "mxnet")]}))
        browser.run("document.querySelector('details').open = true")
        assert browser.shown() == ["cnn/pytorch/onnx", "cnn/pytorch/mxnet"]
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.open(whole_matrix())
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(printed) > 50_000
    assert browser.run("return document.querySelectorAll('details[open]').length") == 0


@pytest.mark.slow
def test_the_page_of_a_real_matrix_is_whole(browser: Browser, tmp_path: Path) -> None:
    from test_cli import netferry as command

    page = tmp_path / "report.html"
    done = command(
        "zoo",
        "matrix",
        "--model",
        "linear",
        "--model",
        "cnn-bn",
        "--output",
        tmp_path / "zoo",
        "--html",
        page,
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    for width in WIDTHS:
        browser.open(text, "#cnn-bn/tensorflow/pytorch", width=width)
        assert browser.run(FLAWS)["flaws"] == []
        assert browser.shown() == ["cnn-bn/tensorflow/pytorch"]
    assert browser.complaints() == []


def test_a_search_leaves_what_it_finds_with_its_modules_open(browser: Browser) -> None:
    names = ("stem", "stage.0.conv1", "stage.0.conv2", "stage.1.conv1", "stage.1.norm", "head")
    nodes = tuple(
        Node(
            "Conv" if "conv" in name else "Other",
            name,
            ("x",),
            (f"out{place}",),
            sizes=(f"out{place}: float32[{place}]",),
        )
        for place, name in enumerate(names)
    )
    browser.open(report_page(report(), Extras(graphs=(Graph("net", ("x",), ("y",), nodes),))))
    seen = "return [...document.querySelectorAll('.outline .leaf > summary')].filter(one => one.checkVisibility()).map(one => one.textContent.trim())"
    assert browser.run(seen) == ["Other stem", "Other head"]
    field = browser.driver.find_element("id", "seek")
    field.send_keys("CONV1")
    assert browser.run(seen) == ["Conv conv1", "Conv conv1"]
    assert browser.run("return document.getElementById('sought').textContent") == "2 found"
    field.clear()
    field.send_keys("float32[4]")
    assert browser.run(seen) == ["Other norm"]
    browser.click(".outline .leaf:not(.off) > summary")
    assert "float32[4]" in browser.run("return document.querySelector('.outline .leaf[open] dl').textContent")
    field.clear()
    field.send_keys("x")
    field.send_keys("\b")
    assert browser.run(seen) == ["Other stem", "Other head"]
    assert browser.complaints() == []


def test_a_module_opens_on_both_sides_and_an_operation_tells_its_sizes(browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    nodes = tuple(
        Node(
            "Conv",
            f"stage{n // 12}.part{n}",
            (f"v{n}",),
            (f"v{n + 1}",),
            True,
            (f"float32[{n}]",),
            (("strides", "2"),),
        )
        for n in range(60)
    )
    graph = Graph("net", ("v0",), ("v60",), nodes)
    browser.open(report_page(report(), Extras(graphs=(graph, graph))))
    seen = "return [...document.querySelectorAll('.view')].filter(one => one.checkVisibility()).map(one => one.dataset.path)"
    assert browser.run(seen) == ["", ""]
    browser.run("document.querySelector('.view:not([hidden]) a.box').focus()")
    browser.driver.switch_to.active_element.send_keys(Keys.TAB, Keys.ENTER)
    assert browser.run(seen) == ["stage1", "stage1"]
    assert browser.run("return document.activeElement.className") == "canvas"
    width = "return document.activeElement.querySelector('svg').getBoundingClientRect().width"
    before = browser.run(width)
    browser.driver.switch_to.active_element.send_keys("+", "+")
    assert browser.run(width) > before * 1.5
    browser.driver.switch_to.active_element.send_keys("0")
    assert browser.run(width) == before
    browser.click(".view:not([hidden]) a[href='#a14']")
    told = browser.run("return [...document.querySelectorAll('.told')].map(one => one.textContent)")
    assert all("float32[14]" in one and "strides" in one for one in told)
    browser.driver.find_element("id", "seek").send_keys("part14")
    dim = "return document.querySelectorAll('.view:not([hidden]) a.box:not(.dim)').length"
    assert browser.run(dim) == 2
    browser.click(".view:not([hidden]) .way a")
    assert browser.run(seen) == ["", ""]
    browser.open(report_page(report(), Extras(graphs=(graph, graph))), width=360)
    assert browser.run(FLAWS)["flaws"] == []
    assert browser.complaints() == []
