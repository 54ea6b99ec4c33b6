"""Operators that keep float32 inside a float64 run, written with operators of MXNet that do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.symbol import Entry, Node, Symbol


def without_float32(graph: Symbol) -> Symbol:
    """The graph with bilinear resizes to a given size written as samplers.

    A resize computes its positions in float32, whatever its images are: at the far end of a large one they are off by a
    hundred-thousandth of a pixel. A sampler has them in the dtype of the image.
    """
    nodes = list(graph.nodes)
    for position, node in enumerate(graph.nodes):
        size = _size(node)
        if size is not None:
            grid = _grid(nodes, node, *size)
            nodes[position] = replace(node, op="BilinearSampler", attrs={}, inputs=(node.inputs[0], grid))
    return replace(graph, nodes=tuple(nodes))


def _size(node: Node) -> tuple[int, int] | None:
    """The height and width to which a node resizes corner to corner; None where it does not, or by a factor."""
    if node.op != "_contrib_BilinearResize2D" or len(node.inputs) != 1:
        return None
    a = Attrs(node)
    by_size = a.string("mode", "size") == "size" and a.maybe_number("scale_height") is None
    return (
        (a.integer("height", 1), a.integer("width", 1)) if by_size and a.flag("align_corners", True) else None
    )


def _grid(nodes: list[Node], node: Node, height: int, width: int) -> Entry:
    """Positions (batch, 2, height, width) from -1 to 1, x before y, as nodes behind those that are there."""

    def added(name: str, op: str, attrs: Mapping[str, str], *inputs: Entry) -> Entry:
        nodes.append(Node(f"{node.name}_{name}", op, attrs, inputs=inputs))
        return len(nodes) - 1, 0

    def along(name: str, size: int, shape: tuple[int, ...]) -> Entry:
        ends = {"start": "-1", "stop": "1", "num": str(size), "dtype": "float64"}
        places = added(f"{name}_places", "_linspace", ends)
        turned = added(f"{name}_turned", "Reshape", {"shape": str(shape)}, places)
        return added(name, "broadcast_to", {"shape": str((1, 1, height, width))}, turned)

    x, y = along("x", width, (1, 1, 1, width)), along("y", height, (1, 1, height, 1))
    grid = added("grid", "Concat", {"dim": "1", "num_args": "2"}, x, y)
    return added("grids", "broadcast_like", {"lhs_axes": "(0,)", "rhs_axes": "(0,)"}, grid, node.inputs[0])
