"""What ONNX's converter does not do on the way to an older opset.

1. An operator that the older opset does not have is written as those that ONNX defines it by.
2. An operator whose form has changed, and not what it means, gets the older form.
3. Attributes that the older form does not have go where they say what it does anyway.
4. What can be said in no way is refused, all at once, by the names of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs, inliner

from netferry.converters.errors import Unsupported, UnsupportedError
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.passes.versions import SAME_SINCE, changed_by
from netferry.converters.graph.schema.opset import schema_of

_DEEPEST = 8
"""How often what an operator is opened into is opened once more."""


def lowered(model: ir.Model, opset: int) -> ir.Model:
    """The model, still at its own opset, of nodes that ``opset`` can say.

    Raises:
        UnsupportedError: the nodes that it cannot say.
    """
    for _ in range(_DEEPEST):  # 1
        wanted = sorted({node.op_type for node in _own(model) if _opens(node.op_type, opset)})
        if not wanted:
            break
        model = changed_by(model, partial(_opened, wanted))
    for node in list(_own(model)):
        for below, form in _FORMS.get(node.op_type, ()):
            if opset < below:
                form(node)  # 2
        schema = _schema(node.op_type, opset)
        if schema is not None:
            _drop_defaults(node, schema)  # 3
    missing = [
        Unsupported(
            node.name or str(node.outputs[0].name), node.op_type, f"opset {opset} has no such operator"
        )
        for node in _own(model)
        if _schema(node.op_type, opset) is None
    ]
    if missing:  # 4
        raise UnsupportedError(missing)
    return model


def fits(node: ir.Node, opset: int) -> bool:
    """Whether a node as it stands is one of the older opset, and means there what it means today."""
    schema = _schema(node.op_type, opset)
    if schema is None or opset < min(SAME_SINCE.get(node.op_type, 99), _UNCHANGED.get(node.op_type, 99)):
        return False
    inputs = len([value for value in node.inputs if value is not None])
    return set(node.attributes) <= set(schema.attributes) and schema.min_input <= inputs <= schema.max_input


_UNCHANGED: Mapping[str, int] = {
    "BatchNormalization": 9, "Dropout": 12, "LpPool": 11, "MeanVarianceNormalization": 9, "NegativeLogLikelihoodLoss": 12,
    "Pad": 11, "Pow": 7, "SoftmaxCrossEntropyLoss": 12, "GridSample": 16, "Resize": 11, "Split": 7,
    "Scatter": 9, "ScatterElements": 11, "ScatterND": 11, "Slice": 7, "Squeeze": 7, "Unsqueeze": 7,
    **dict.fromkeys(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split(),
        7,
    ),
}  # fmt: skip
"""Operator -> the first opset at which a node without later inputs and attributes means what it means today."""


def _own(model: ir.Model) -> Iterator[ir.Node]:
    return (node for node in model.graph.all_nodes() if node.domain in ("", "ai.onnx"))


def _schema(operator: str, opset: int) -> defs.OpSchema | None:
    """The operator as an opset has it."""
    try:
        schema = defs.get_schema(operator, max_inclusive_version=opset)
    except defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def _opens(operator: str, opset: int) -> bool:
    """Whether an operator is to be written as others: the older opset has none, or one of another meaning."""
    newest = schema_of("", operator)
    if (
        operator in _DEFINED_WRONGLY
        or newest is None
        or not (newest.has_function or newest.has_context_dependent_function)
    ):
        return False
    return _schema(operator, opset) is None or opset < _OTHERWISE.get(operator, 0)


_DEFINED_WRONGLY = frozenset({"AffineGrid"})
"""Operators whose definition by others no runtime takes: its Range has arrays for ends."""

_OTHERWISE: Mapping[str, int] = {"GroupNormalization": 21}
"""Operators that meant something else before an opset."""


def _opened(operators: Sequence[str], model: onnx.ModelProto) -> onnx.ModelProto:
    whole = onnx.shape_inference.infer_shapes(model)  # some definitions depend on ranks and dtypes
    names = [("", operator) for operator in operators]
    made: onnx.ModelProto = inliner.inline_selected_functions(whole, names, inline_schema_functions=True)
    return made


def _drop_defaults(node: ir.Node, schema: defs.OpSchema) -> None:
    newest = schema_of("", node.op_type)
    for name in set(node.attributes) - set(schema.attributes):
        known = None if newest is None else newest.attributes.get(name)
        default = None if known is None else known.default_value
        own = node.attributes[name]
        plain = list(own.value) if isinstance(own.value, tuple) else own.value
        said = default is not None and default.type and onnx.helper.get_attribute_value(default)
        said = said.decode() if isinstance(said, bytes) else said
        if plain == said or (name == "dilations" and set(plain) == {1}):
            del node.attributes[name]


# ---- older forms ----------------------------------------------------------------------------------


def _constant(node: ir.Node, position: int, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> None:
    """Give an operand a constant of its own."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    name = unique(f"{node.name or node.op_type}_input{position}", set(graph.initializers))
    value = ir.Value(
        name=name, type=ir.TensorType(ir.DataType.from_numpy(array.dtype)), shape=ir.Shape(array.shape)
    )
    value.const_value = ir.tensor(array, name=name)
    graph.register_initializer(value)
    node.resize_inputs(max(len(node.inputs), position + 1))
    node.replace_input_with(position, value)


def _resize(node: ir.Node) -> None:
    """Before opset 13 a region and scales must be given: empty ones mean none."""
    for position in (1, 2):
        if position >= len(node.inputs) or node.inputs[position] is None:
            _constant(node, position, np.zeros(0, np.float32))


def _split(node: ir.Node) -> None:
    """Before opset 18 the number of outputs alone says how many parts there are, of equal sizes."""
    count = node.attributes.pop("num_outputs", None)
    x = node.inputs[0]
    axis = node.attributes.get_int("axis", 0)
    size = None if x is None or x.shape is None else x.shape[axis]
    if count is not None and isinstance(size, int):
        part = -(-size // count.as_int())
        sizes = [part] * (count.as_int() - 1) + [size - part * (count.as_int() - 1)]
        _constant(node, 1, np.array(sizes, np.int64))
    elif count is not None:
        node.attributes["num_outputs"] = count


def _grid_sample(node: ir.Node) -> None:
    """Before opset 20 its modes have the names that images have."""
    mode = node.attributes.get_string("mode", "linear")
    node.attributes["mode"] = ir.AttrString(
        "mode", {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    )


def _attribute(name: str) -> Callable[[ir.Node], None]:
    """The second input, where it is constant, as the attribute that it was once."""

    def form(node: ir.Node) -> None:
        value = node.inputs[1] if len(node.inputs) > 1 else None
        content = None if value is None else ir.convenience.get_const_tensor(value)
        if content is None:
            return
        numbers = [int(number) for number in content.numpy().reshape(-1)]
        rank = None if node.inputs[0] is None or node.inputs[0].shape is None else node.inputs[0].shape.rank()
        if name == "axes" and rank is not None:
            rank += len(numbers) if node.op_type == "Unsqueeze" else 0
            numbers = [number % rank for number in numbers]  # the oldest count from the first axis alone
        node.replace_input_with(1, None)
        node.resize_inputs(1)
        node.attributes[name] = ir.AttrInt64s(name, numbers)

    return form


def _slice(node: ir.Node) -> None:
    """Before opset 10 its bounds are attributes, and every step is 1."""
    given = [None if value is None else ir.convenience.get_const_tensor(value) for value in node.inputs[1:]]
    numbers = [None if one is None else [int(n) for n in one.numpy().reshape(-1)] for one in given]
    starts, ends, axes, steps = [*numbers, None, None, None, None][:4]
    if any(value is not None and one is None for value, one in zip(node.inputs[1:], given, strict=True)):
        return
    if starts is None or ends is None or set(steps or [1]) != {1}:
        return
    x = node.inputs[0]
    if axes is not None and x is not None and x.shape is not None:
        axes = [axis % x.shape.rank() for axis in axes]
    for position in range(1, len(node.inputs)):
        node.replace_input_with(position, None)
    node.resize_inputs(1)
    for name, value in (("starts", starts), ("ends", ends), ("axes", axes)):
        if value is not None:
            node.attributes[name] = ir.AttrInt64s(name, value)


Form = tuple[int, Callable[[ir.Node], None]]
_FORMS: Mapping[str, tuple[Form, ...]] = {
    "Resize": ((13, _resize),),
    "Slice": ((10, _slice),),
    "Split": ((18, _split), (13, _attribute("split"))),
    "GridSample": ((20, _grid_sample),),
    **dict.fromkeys(("ReduceSum", "Squeeze", "Unsqueeze"), ((13, _attribute("axes")),)),
    **dict.fromkeys(
        "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSumSquare".split(),
        ((18, _attribute("axes")),),
    ),
}
"""Operator -> the opset from which it has today's form, and what gives it the older one."""
