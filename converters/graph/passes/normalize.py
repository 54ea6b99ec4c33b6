"""From any ONNX model to a plan, in five steps.

1. Weights are initializers alone, and calls of local functions what they call.
2. Every operator is of one opset (``versions``), every node has a name.
3. Every value has its fact (``inference``); operators that nobody knows are expanded meanwhile (``expand``). Once more where that
   tells what ranks and sizes must be (``demands``).
4. Weights of small integers stay so for who asks (``integers``), and patterns that stand for one operator are that operator (``fuse``).
5. What nothing reads is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.graph.inference import demands
from netferry.converters.graph.inference.evaluate import Evaluator
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.budget import Budget
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.passes import contrib, expand, fuse as fusion, versions
from netferry.converters.graph.passes.edit import Editor
from netferry.converters.graph.passes.floats import Floats
from netferry.converters.graph.passes.integers import keep as keep_integers
from netferry.converters.graph.schema.opset import OPSET, OWN_DOMAIN

_KEPT = (
    "weights that stay integers with their scales, as the file holds them: {}. Each call makes floats of them; "
    "--dequantize makes floats once, which take four times the room, are faster and can be trained"
)
_DEEPEST = 100
"""How deep functions may be nested."""


def plan(
    model: ir.Model | onnx.ModelProto,
    *,
    fuse: bool = True,
    integers: bool = False,
    known: Collection[str] | None = None,
) -> Plan:
    """The model as the walk takes it; the one that is given is left as it is.

    ``integers``: whether weights that the file holds as small integers stay so, instead of becoming floats.
    ``known`` are the operators that somebody supports; others are expanded where ONNX defines them by others.
    Weights are not copied: contents share the memory of the model's tensors. What is done is counted in the ``Budget``
    that is in force, or in one of its own.
    """
    model = model.clone() if isinstance(model, ir.Model) else ir.serde.deserialize_model(model)
    with budget.counted(budget.in_force() or Budget.of(model)):
        graph, evaluator = _evaluated(model, known)
        editor = Editor(graph, evaluator)
        kept = keep_integers(editor) if integers else 0  # 4
        if fuse:
            fusion.fuse(editor)
        editor.sweep()  # 5
        editor.hush()
    return Plan(
        graph,
        evaluator.facts,
        evaluator.homes,
        evaluator.read,
        (_KEPT.format(kept),) if kept else (),
        integers,
    )


def evaluated(
    model: ir.Model | onnx.ModelProto, known: Collection[str] | None = None, *, opens: bool = True
) -> tuple[ir.Graph, Evaluator]:
    """The graph at one opset, whole as it is, with a fact for every value; ``opens`` onnxruntime's own operators."""
    model = model.clone() if isinstance(model, ir.Model) else ir.serde.deserialize_model(model)
    with budget.counted(budget.in_force() or Budget.of(model)):
        return _evaluated(model, known, opens=opens)


def standard(model: ir.Model) -> ir.Model:
    """The model, which is used up, with the operators of onnxruntime's own domain opened into ONNX's where they can be."""
    if any(map(contrib.is_contrib, model.graph.all_nodes())):
        with budget.counted(budget.in_force() or Budget.of(model)):
            _name_nodes(model.graph)
            Evaluator(expand.opener).graph(model.graph)
        model.opset_imports.update({"": OPSET, OWN_DOMAIN: 1})
    return model


def at_one_opset(model: ir.Model) -> ir.Model:
    """A copy at the newest opset, without functions, every node with a name."""
    made = versions.raised(_with_weights(_without_functions(model.clone())))
    _name_nodes(made.graph)
    return made


def in_floats(model: ir.Model) -> tuple[ir.Graph, Floats]:
    """The graph at one opset with floats in the place of integers that stand for floats, and how many those were."""
    with budget.counted(budget.in_force() or Budget.of(model)):
        made = at_one_opset(model)
        Evaluator(expand.float_opener).graph(made.graph)
        names = {str(value.name) for node in made.graph.all_nodes() for value in node.outputs}
        floats = Floats(
            names | set(made.graph.initializers) | {str(value.name) for value in made.graph.inputs}
        )
        Evaluator(floats).graph(made.graph)
    return made.graph, floats


def _evaluated(
    model: ir.Model, known: Collection[str] | None, *, opens: bool = True
) -> tuple[ir.Graph, Evaluator]:
    model = versions.raised(_with_weights(_without_functions(model)))  # 1, 2
    _name_nodes(model.graph)
    expander = expand.expander(expand.supported() if known is None else known, opens=opens)
    while True:
        evaluator = Evaluator(expander)
        evaluator.graph(model.graph)  # 3
        if not demands.settled(model.graph, evaluator):
            return model.graph, evaluator
        budget.look_again(len(model.graph), "its ranks are to be found out too often")


def _without_functions(model: ir.Model) -> ir.Model:
    """Calls of local functions as what they call; a model that would grow without bound is refused before it does."""
    if not model.functions:
        return model
    demand_bounded(model)
    try:
        return InlinePass()(model).model
    except Exception as error:
        raise RefusedError(f"the model's functions cannot be inlined: {first_line(error)}") from error


def demand_bounded(model: ir.Model) -> int:
    """How many nodes a model has once functions are inlined; one that would grow without bound is refused."""
    total = sum(extents(model))
    if model.functions:
        budget.look_again(total, f"its functions call each other into {total:,} nodes")
    return total


def extents(model: ir.Model) -> Iterator[int]:
    """Of each node of the graph, how many nodes it is: those of its subgraphs count, and those that functions become."""
    sizes: dict[Any, int] = {}
    for node in model.graph:
        inner = (
            graph.all_nodes() for attribute in node.attributes.values() for graph in graphs_of(attribute)
        )
        yield sum(_size(one, model, sizes, ()) for one in chain([node], *inner))


def graphs_of(attribute: ir.Attr) -> Sequence[ir.Graph]:
    """The subgraphs that an attribute holds."""
    if attribute.type == ir.AttributeType.GRAPH:
        return [attribute.value]
    return attribute.value if attribute.type == ir.AttributeType.GRAPHS else ()


def _size(node: ir.Node, model: ir.Model, sizes: dict[Any, int], callers: tuple[Any, ...]) -> int:
    """How many nodes a node is once functions are inlined."""
    key = node.op_identifier()
    function = model.functions.get(key)
    if function is None:
        return 1
    if key in callers or len(callers) > _DEEPEST:
        raise RefusedError(f"the function '{function.name}' calls itself, or is nested too deep")
    if key not in sizes:
        sizes[key] = sum(_size(inner, model, sizes, (*callers, key)) for inner in function.all_nodes())
    return sizes[key]


def _with_weights(model: ir.Model) -> ir.Model:
    """Initializers are weights, also where an old model lists them among the inputs."""
    inputs = model.graph.inputs
    kept = [value for value in inputs if value.name not in model.graph.initializers]
    if len(kept) != len(inputs):
        inputs[:] = kept
    return model


def _name_nodes(graph: ir.Graph) -> None:
    """Every node has a name, that of its first output where the file gives none."""
    for node in graph.all_nodes():
        node.domain = "" if node.domain == "ai.onnx" else node.domain
        if not node.name:
            node.name = next((value.name for value in node.outputs if value.name), node.op_type)
