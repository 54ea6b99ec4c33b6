"""TFLite files of little length and much work: long chains, names that are all the same, names that look like numbered ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import flat_files as flat
from flat_files import Table, operator, subgraph, tensor
from hostile import Kit
from laborious import laborious


def enter(name: str, model: Callable[[], Table]) -> None:
    def make(kit: Kit) -> Path:
        path = kit.folder / "net.tflite"
        path.write_bytes(flat.packed(model()))
        return path

    make.__module__ = __name__
    laborious(None, f"tflite_{name}")(make)


def _chain(count: int, title: Callable[[int], str]) -> Table:
    shape, places = [2, 4], [[place] for place in range(count + 1)]
    tensors: list[Table] = [{"name": title(place), "shape": shape} for place in range(count + 1)]
    operators: list[Table] = [
        {"opcode_index": 0, "inputs": a, "outputs": b} for a, b in itertools.pairwise(places)
    ]
    return flat.model([subgraph(tensors, operators, [count])])


enter("operators_in_a_row", lambda: _chain(6_000, "t{}".format))
enter("names_that_are_all_the_same", lambda: _chain(6_000, lambda _: "t"))
enter("no_names", lambda: _chain(6_000, lambda _: ""))


def _inputs(names: list[str]) -> Table:
    tensors = [*map(tensor, names), tensor("y")]
    inputs = list(range(len(names)))
    return flat.model(
        [{**subgraph(tensors, [operator(inputs, [len(names)])], [len(names)]), "inputs": inputs}], ["ADD_N"]
    )


enter("inputs_whose_numbers_are_taken", lambda: _inputs(["a_2", "a", "a"]))
enter("inputs_that_are_all_the_same", lambda: _inputs(["a"] * 12_000))
enter(
    "many_signatures",
    lambda: {
        **flat.relu(),
        "signature_defs": [
            {"signature_key": f"s{i}", "subgraph_index": 0, "outputs": [{"name": "o", "tensor_index": 1}]}
            for i in range(8_000)
        ],
    },
)
