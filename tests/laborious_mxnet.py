"""MXNet symbols of little length and much work: attributes of many numbers, fillers, repetitions, long chains."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hostile import Kit
from laborious import laborious

Node = dict[str, Any]


def null(name: str, **attrs: str) -> Node:
    return {"op": "null", "name": name, "inputs": []} | ({"attrs": attrs} if attrs else {})


def op(kind: str, name: str, inputs: Sequence[int], **attrs: str) -> Node:
    return {"op": kind, "name": name, "attrs": attrs, "inputs": [[place, 0, 0] for place in inputs]}


def written(kit: Kit, nodes: Sequence[Node], heads: Sequence[int] | None = None) -> Path:
    document = {
        "nodes": list(nodes),
        "arg_nodes": [place for place, each in enumerate(nodes) if each["op"] == "null"],
        "heads": [[place, 0, 0] for place in heads or [len(nodes) - 1]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
    kit.copy("mx-symbol.json").write_text(json.dumps(document))
    return kit.folder / "mx-symbol.json"


DATA = null("data", __shape__="(2, 4)")


def enter(name: str, nodes: Callable[[], Sequence[Node]], words: str | None) -> None:
    make: Callable[[Kit], Path] = lambda kit: written(kit, nodes())  # noqa: E731
    make.__module__ = __name__
    laborious(words, name)(make)


NUMBERS = "axes|numbers"
ONES = f"({', '.join(['1'] * 300_000)})"
ATTRIBUTES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "reshape_of_many_numbers": ("Reshape", {"shape": ONES}),
    "zeros_of_many_numbers": ("_zeros", {"shape": ONES}),
    "transpose_of_many_axes": ("transpose", {"axes": ONES}),
    "tile_of_many_numbers": ("tile", {"reps": ONES}),
    "broadcast_to_many_numbers": ("broadcast_to", {"shape": ONES}),
    "broadcast_of_many_axes": ("broadcast_axis", {"axis": ONES, "size": ONES}),
    "pads_of_many_numbers": ("Pad", {"mode": "constant", "pad_width": ONES}),
    "slices_of_many_numbers": ("slice", {"begin": ONES, "end": ONES}),
    "sums_over_many_axes": ("sum", {"axis": ONES}),
    "a_kernel_of_many_numbers": ("Pooling", {"kernel": ONES, "pool_type": "max"}),
    "splits_at_many_places": ("_split_v2", {"indices": ONES, "axis": "1"}),
    "flips_of_many_axes": ("reverse", {"axis": ONES}),
}
for _name, (_kind, _attrs) in ATTRIBUTES.items():
    enter(
        _name,
        lambda kind=_kind, attrs=_attrs: [DATA, op(kind, "y", [] if kind == "_zeros" else [0], **attrs)],
        NUMBERS if _kind not in ("_split_v2",) else "axes|numbers|places|pieces",
    )

MADE = "constant of"
FILLERS: Mapping[str, Sequence[Node]] = {
    "zeros_2_40": [op("_zeros", "z", [], shape="(1048576, 1048576)")],
    "full_2_31": [op("_full", "z", [], shape="(65536, 32768)", value="3")],
    "arange_2_30": [op("_arange", "z", [], start="0", stop="1073741824")],
    "arange_repeated": [op("_arange", "z", [], start="0", stop="3", repeat="1000000000")],
    "arange_of_small_steps": [op("_arange", "z", [], start="0", stop="1", step="1e-12")],
    "linspace_2_30": [op("_linspace", "z", [], start="0", stop="1", num="1073741824")],
    "eye_2_30": [op("_eye", "z", [], N="32768", M="32768")],
}
for _name, _nodes in FILLERS.items():
    enter(
        f"mxnet_{_name}",
        lambda nodes=_nodes: [DATA, *nodes, op("max", "m", [1]), op("broadcast_add", "y", [0, 2])],
        MADE,
    )


def _many_fillers() -> list[Node]:
    nodes = [DATA]
    for place in range(100):
        nodes.append(op("_full", f"z{place}", [], shape="(4096, 4096)", value=str(place)))
        nodes.append(op("max", f"m{place}", [len(nodes) - 1]))
    return [*nodes, op("add_n", "y", range(2, len(nodes), 2), num_args="100")]


enter("many_fillers", _many_fillers, MADE)
enter(
    "one_hot_of_a_filler",
    lambda: [
        DATA,
        op("_arange", "z", [], start="0", stop="60000"),
        op("one_hot", "o", [1], depth="60000"),
        op("max", "m", [2]),
        op("broadcast_add", "y", [0, 3]),
    ],
    None,
)
enter(
    "repeats_of_a_filler",
    lambda: [
        DATA,
        op("_arange", "z", [], start="0", stop="60000"),
        op("repeat", "o", [1], repeats="60000"),
        op("max", "m", [2]),
        op("broadcast_add", "y", [0, 3]),
    ],
    None,
)
enter(
    "tiles_of_a_filler",
    lambda: [
        DATA,
        op("_zeros", "z", [], shape="(1, 60000)"),
        op("tile", "o", [1], reps="(60000, 1)"),
        op("max", "m", [2]),
        op("broadcast_add", "y", [0, 3]),
    ],
    None,
)
enter(
    "fillers_broadcast",
    lambda: [
        DATA,
        op("_zeros", "z", [], shape="(1, 60000)"),
        op("broadcast_to", "o", [1], shape="(60000, 60000)"),
        op("max", "m", [2]),
        op("broadcast_add", "y", [0, 3]),
    ],
    None,
)
enter(
    "upsampled_often",
    lambda: [
        null("data", __shape__="(1, 1, 2, 2)"),
        op("UpSampling", "y", [0], scale="30000", sample_type="nearest", num_args="1"),
    ],
    None,
)
enter(
    "a_large_pool",
    lambda: [
        null("data", __shape__="(1, 1, 9000, 9000)"),
        op("Pooling", "y", [0], kernel="(8192, 8192)", pool_type="avg", pad="(1, 1)"),
    ],
    None,
)
enter(
    "anchors_without_end",
    lambda: [
        null("data", __shape__="(1, 1, 4000, 4000)"),
        op("_contrib_MultiBoxPrior", "y", [0], sizes="(0.5, 0.25)", ratios="(1, 2)"),
    ],
    None,
)


def chain(count: int, kind: str, **attrs: str) -> list[Node]:
    return [DATA, *(op(kind, f"n{place}", [place], **attrs) for place in range(count))]


enter("mxnet_sines_in_a_row", lambda: chain(9_000, "sin"), None)
enter("mxnet_transposes_in_a_row", lambda: chain(9_000, "transpose"), None)
enter("mxnet_reshapes_in_a_row", lambda: chain(9_000, "Reshape", shape="(-1, 4)"), None)
enter("mxnet_swaps_in_a_row", lambda: chain(9_000, "SwapAxis", dim1="0", dim2="1"), None)
enter(
    "mxnet_sums_that_double",
    lambda: [DATA, *(op("elemwise_add", f"n{place}", [place, place]) for place in range(6_000))],
    None,
)


@laborious(None)
def mxnet_many_heads(kit: Kit) -> Path:
    nodes = [DATA, *(op("sin", f"n{place}", [0]) for place in range(6_000))]
    return written(kit, nodes, range(1, 6_001))


@laborious(None)
def mxnet_loops_nested(kit: Kit) -> Path:
    """A foreach in a foreach, twelve deep."""

    def body(level: int) -> dict[str, Any]:
        inner: list[Node] = [null(f"x{level}"), null(f"s{level}")]
        if level < 12:
            inner.append({**foreach(level + 1, [0, 1]), "name": f"f{level}"})
        else:
            inner.append(op("broadcast_add", f"f{level}", [0, 1]))
        return {
            "nodes": inner,
            "arg_nodes": [0, 1],
            "heads": [[2, 0, 0], [1, 0, 0]],
            "node_row_ptr": [0, 1, 2, 3],
        }

    def foreach(level: int, inputs: Sequence[int]) -> Node:
        attrs = {
            "in_data_locs": "(0,)",
            "in_state_locs": "(1,)",
            "num_args": "3",
            "num_out_data": "1",
            "num_outputs": "2",
            "remain_locs": "()",
        }
        return {
            "op": "_foreach",
            "name": f"l{level}",
            "attrs": attrs,
            "inputs": [[i, 0, 0] for i in inputs],
            "subgraphs": [body(level)],
        }

    return written(
        kit, [null("data", __shape__=f"({'4, ' * 14})"), null("state", __shape__="(4,)"), foreach(0, [0, 1])]
    )
