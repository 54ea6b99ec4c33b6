"""Every attribute of every operator changed to what MXNet takes: the result is equal or refused, never wrong."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import test_mxnet_detection as detection
import test_mxnet_numpy as numpy_names
import test_mxnet_operators as operators
import test_mxnet_to_onnx as plain
from mxnet_cases import inputs_of, onnx_outputs, read
from mxnet_oracle import Oracle, OracleError

from netferry.converters.errors import NetferryError
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

Case = tuple[str, dict[str, Array], bool]
"""A symbol as text, its inputs, and whether it is written under ``npx.set_np``."""

OFTEN = 3
"""So many cases of an operator are varied."""

UNTOUCHED = frozenset(
    "workspace cudnn_off cudnn_tune ctx num_args p num_outputs num_filter num_hidden input_dim output_dim"
    " state_size num_layers projection_size dtype".split()
)
"""Attributes that change no result, or the sizes of weights."""

VALUES = {
    "boolean": ("True", "False"),
    "int": ("0", "1", "2", "-1", "3"),
    "long": ("0", "1", "2", "-1", "3"),
    "float": ("0.5", "2", "-1"),
    "double": ("0.5", "2", "-1"),
    "Shape": ("(1,)", "(0,)", "(1, 0)", "(2, 1)", "1"),
}
"""What to try, by how MXNet calls the type; of a choice every word."""


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    worker = Oracle(patience=30)
    yield worker
    worker.close()


def cases() -> Iterator[Case]:
    for case, dims in (numpy_names.CASES | numpy_names.FIXED).items():
        yield case, inputs_of(case, dims, (0,))[0], True
    for table, feed in detection.FEEDS:
        for case, dims in table.items():
            yield (
                case,
                {name: feed(name, array) for name, array in inputs_of(case, dims, (0,))[0].items()},
                False,
            )
    for case, dims in (operators.CASES | operators.FIXED | plain.CASES).items():
        if "index_copy" in case:  # mxnet writes outside of its memory where an index is too large
            continue
        yield case, inputs_of(case, dims, (0,))[0], False


def values_of(kind: str) -> tuple[str, ...]:
    if kind.startswith("{"):
        return tuple(re.findall(r"'([^']*)'", kind.split("}")[0]))
    return next((values for word, values in VALUES.items() if kind.startswith(word)), ())


def variants(folder: Path, types: dict[str, dict[str, str]], seen: Counter[str]) -> Iterator[str]:
    """Write the symbol in ``folder`` with one attribute changed at a time; yields what was changed."""
    path = folder / "net-symbol.json"
    document = json.loads(path.read_text())
    for node in document["nodes"]:
        seen[node["op"]] += 1
        if seen[node["op"]] > OFTEN:
            continue
        own = node.get("attrs", {})
        for name, kind in types.get(node["op"], {}).items():
            for value in values_of(kind) if name not in UNTOUCHED else ():
                node["attrs"] = own | {name: value}
                path.write_text(json.dumps(document))
                yield f"{node['op']} {name}={value}"
        node["attrs"] = own


def outcome(folder: Path, inputs: dict[str, Array], oracle: Oracle) -> str:
    """invalid (MXNet refuses it), equal, refused, or wrong."""
    try:
        truth = oracle.run_files(str(folder / "net"), list(inputs.values()))
    except OracleError:
        return "invalid"
    try:
        export = to_onnx(read(folder), examples(inputs, {}))
    except NetferryError:
        return "refused"
    outputs = onnx_outputs(export.model, list(inputs.values()))
    same = all(map(alike, outputs.values(), truth.values()))
    return "equal" if same else "wrong"


def alike(mine: Array, theirs: Array) -> bool:
    finite = np.abs(theirs[np.isfinite(theirs)].astype(np.float64))
    return (
        mine.shape == theirs.shape
        and mine.dtype == theirs.dtype
        and np.allclose(mine, theirs, rtol=1e-4, atol=1e-4 * finite.max(initial=1e-9), equal_nan=True)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_attribute_is_silently_ignored(oracle: Oracle, tmp_path: Path) -> None:
    types, seen, found = oracle.types(), Counter[str](), Counter[str]()
    wrong: list[str] = []
    for case, inputs, numpy in cases():
        try:
            oracle.symbol(case, [inputs], str(tmp_path / "net"), numpy=numpy)
        except OracleError:
            continue
        for change in variants(tmp_path, types, seen):
            result = outcome(tmp_path, inputs, oracle)
            found[result] += 1
            wrong += [f"{change} in {case}"] if result == "wrong" else []
    assert not wrong
    assert found["equal"] > 2000
    assert found["equal"] > 9 * found["refused"]
