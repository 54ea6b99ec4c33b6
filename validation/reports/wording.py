"""Numbers and verdicts as text, for the page, for Markdown and for JUnit alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED, largest

Document = Mapping[str, Any]
"""A verdict or a cell as its ``to_dict()`` gives it."""

TITLES: Mapping[str, str] = {
    "pytorch": "PyTorch",
    "tensorflow": "Keras",
    "mxnet": "MXNet",
    "onnx": "ONNX",
}
"""How a framework is written where a person reads it."""

MARKS: Mapping[str, str] = {PASSED: "✓", FAILED: "✕", NOT_CHECKED: "?"}
STATED: Mapping[str, str] = {PASSED: "passed", FAILED: "failed", NOT_CHECKED: "not checked"}

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def title_of(framework: str) -> str:
    return TITLES.get(framework, framework)


def measure(value: Any) -> float | None:
    """A number of a document, where infinity and NaN are strings; None for what is none."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def number(value: Any, digits: int = 2) -> str:
    """``0.0000054`` -> ``5.4 × 10⁻⁶``; numbers of an everyday size stay as they are."""
    found = measure(value)
    if found is None:
        return "–"
    if math.isnan(found):
        return "NaN"
    if math.isinf(found):
        return "∞" if found > 0 else "−∞"
    if found == 0 or 1e-3 <= abs(found) < 1e5:
        return f"{found:,.{max(0, digits)}g}" if abs(found) < 100 else f"{found:,.0f}"
    mantissa, exponent = f"{found:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def brief(value: Any) -> str:
    """The same in at most five characters, for a cell of a heat map."""
    found = measure(value)
    if found is None:
        return ""
    if found == 0 or not math.isfinite(found):
        return number(found)
    if 0.01 <= abs(found) < 1000:
        return f"{found:.2g}" if abs(found) < 100 else f"{found:.0f}"
    mantissa, exponent = f"{found:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words))


def worst_ratio(document: Document) -> float | None:
    """The largest error of a verdict in units of the yardstick: how far float32 itself is from the truth."""
    ratios = [measure(output.get("ratio")) for output in document.get("outputs") or ()]
    return max((ratio for ratio in ratios if ratio is not None), default=measure(document.get("ratio")))


def bound(document: Document) -> float | None:
    """The rule of three: n samples without a fault mean a rate of faults under 3/n, at 95 %."""
    given = [
        measure(document.get("bound")),
        *(measure(o.get("bound")) for o in document.get("outputs") or ()),
    ]
    found = [value for value in given if value is not None]
    if found:
        return max(found)
    samples = len(document.get("samples") or ())
    return 3 / samples if samples else None


def headline(document: Document) -> str:
    """A verdict in three or four words."""
    return {PASSED: "They compute the same.", FAILED: "They differ.", NOT_CHECKED: "Nothing was proved."}[
        document["status"]
    ]


def sentences(document: Document) -> list[str]:
    """What was compared, and how it came out."""
    sentences = [_compared(document), _found(document)]
    if isinstance(document.get("training"), Mapping):
        sentences.append(training_sentence(document["training"]))
    if document.get("unchecked_axes"):
        sentences.append(f"Not tried at two sizes: {', '.join(document['unchecked_axes'])}.")
    return [sentence for sentence in sentences if sentence]


def _compared(document: Document) -> str:
    samples = document.get("samples") or ()
    if not samples:
        return f"{document['source']} and {document['target']} were not compared."
    total = len(document.get("outputs") or ())
    outputs = "their one output was" if total == 1 else f"all {total:,} outputs were"
    inputs = "set of inputs" if len(samples) == 1 else f"{len(samples):,} sets of inputs"
    return (
        f"{document['source']} and {document['target']} were run on the same {inputs}, "
        f"and {outputs} compared value by value."
    )


def _found(document: Document) -> str:
    outputs = document.get("outputs") or ()
    faults = [output for output in outputs if output["status"] != PASSED]
    if faults:
        worst = faults[0]
        rest = f"; {count(len(faults) - 1, 'other output')} did not pass either" if len(faults) > 1 else ""
        return f"{worst['name']}: {worst.get('reason') or STATED[worst['status']]}{rest}."
    training_why = (document.get("training") or {}).get("reason")
    if document.get("reason") and document["reason"] != training_why:
        return f"{str(document['reason']).rstrip('.')}."
    return _agreement(document)


def _agreement(document: Document) -> str:
    ratio, relative = worst_ratio(document), measure(document.get("max_rel"))
    if relative == 0:
        return "Every value is the same to the last bit."
    if ratio is not None:
        return (
            f"The largest error is {number(ratio)} × what float32 rounding costs the source itself "
            "(8 is the limit)."
        )
    return f"The largest error is {number(relative)} of the output's scale." if relative is not None else ""


def training_sentence(training: Document) -> str:
    """What the comparison of gradients and of training steps found."""
    steps = count(int(training.get("steps") or 0), "training step")
    weights = count(len(training.get("weights") or ()), "weight")
    if training["status"] != PASSED:
        return f"Gradients and training {STATED[training['status']]}: {training.get('reason') or 'no reason is given'}."
    ratio = measure(training.get("ratio"))
    worst = "" if ratio is None else f", at most {number(ratio)} yardsticks apart"
    return f"The gradients of {weights} agree, and so do {steps} from the same state{worst}."


RATE = "rate of faults"
"""What ``proved`` says, as a title."""


def proved(documents: Iterable[Document]) -> str:
    """How much the clean inputs of verdicts that passed prove: a detail of a report, with its reason."""
    rate = largest(bound(one) for one in documents if one.get("status") == PASSED)
    if rate is None or rate >= 1:
        return ""
    return f"under {rate * 100:.1f} % for inputs like these (3/n after n clean inputs, at 95 % confidence)"


def worst_status(cells: Iterable[Document]) -> str:
    """A difference outranks what was not checked, which outranks equality."""
    found = {cell["status"] for cell in cells}
    return next((status for status in (FAILED, NOT_CHECKED, PASSED) if status in found), NOT_CHECKED)


def matrix_headline(cells: Sequence[Document]) -> str:
    """How many of a matrix's cells passed."""
    tally = {status: sum(cell["status"] == status for cell in cells) for status in MARKS}
    if not cells:
        return "Nothing was converted."
    if tally[PASSED] == len(cells):
        return "The one conversion passed." if len(cells) == 1 else f"All {len(cells)} conversions passed."
    sentences = [f"{tally[PASSED]} of {len(cells)} conversions passed"]
    sentences += [f"{tally[FAILED]} did not"] * bool(tally[FAILED])
    sentences += [f"{tally[NOT_CHECKED]} could not be checked"] * bool(tally[NOT_CHECKED])
    return f"{listed(sentences)}."


def matrix_sentences(cells: Sequence[Document]) -> Iterator[str]:
    """What was compared in a matrix, how it came out, and where the truth came from."""
    models = len({cell["model"] for cell in cells})
    sources = listed([title_of(s) for s in dict.fromkeys(cell["source"] for cell in cells)])
    targets = listed([title_of(t) for t in dict.fromkeys(cell["target"] for cell in cells)])
    if not cells:
        return
    yield (
        f"{count(models, 'reference model')}, trained in {sources}, each converted to {targets}. Source and "
        "result were run on the same inputs, and every value of every output compared."
    )
    passed = [cell for cell in cells if cell["status"] == PASSED]
    worst = largest(worst_ratio(report_of(cell)) for cell in passed)
    relative = largest(measure(cell.get("max_rel")) for cell in passed)
    of_these = "Nowhere" if len(passed) == len(cells) else "Nowhere among those that passed"
    if worst is not None:
        yield (
            f"{of_these} is the error more than {number(worst)} × what float32 rounding costs the source "
            "itself; 8 is the limit."
        )
    elif relative is not None:
        yield f"{of_these} is the error more than {number(relative)} of the output’s scale."
    steps = max((len(cell.get("further") or ()) for cell in cells), default=0)
    if steps:
        yield f"Results in frameworks that train were trained on there for {steps} steps."
    truths = dict.fromkeys(str(truth) for cell in cells if (truth := report_of(cell).get("truth")))
    if truths:
        yield f"Truth, against which errors are measured: {listed(list(truths))}."


def report_of(cell: Document) -> Document:
    """The verdict that a cell holds; empty where it holds none."""
    report = cell.get("report")
    return report if isinstance(report, Mapping) else {}
