"""ONNX's own rules that its checker does not hold a model to: one opset a domain, known domains, loops that end, types that agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.graph.schema.own import domains
from netferry.converters.onnx.safety import tables

_PLUG_INS = re.compile(r"com\.(microsoft|ms|nvidia|intel|amd|qti|xilinx)(\..*)?|org\.(pytorch|tensorflow)(\..*)?|"
                       r"ai\.onnx(\..*)?|ai\.onnx\.contrib|onnxruntime(\..*)?|trt(\..*)?|pkg\..*|aten|prims?|torch.*")  # fmt: skip
"""Domains that onnxruntime, its plug-ins, and the exporters of frameworks know, beside those that ONNX has schemas of."""


def check(
    model: onnx.ModelProto, graphs: Iterable[onnx.GraphProto], nodes: Iterable[onnx.NodeProto], where: str
) -> None:
    """Hold a model, all of its graphs and all of its nodes against them.

    Raises:
        RefusedError: what it breaks, with the node's name.
    """
    _check_opsets(model, where)
    constants = [_constants(graph) for graph in graphs]
    outside = {name: value for each in constants for name, value in each.items()}
    domains = {function.domain for function in model.functions}
    for node in nodes:
        if not _is_known(node.domain, domains):
            raise RefusedError(
                f"the node '{node.name or node.op_type}' is of a domain that nobody knows",
                where=where,
                expected="a domain of ONNX, of a function in the file, or of a plug-in",
                received=repr(node.domain),
                remedy="Define its operators (netferry.operator), or register the plug-in's schemas (onnx.defs.register_schema)",
            )
        if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
            _check_loop(node, outside, where)
        tables.check(node, where)


def _check_opsets(model: onnx.ModelProto, where: str) -> None:
    """One version a domain; tools that merge models say the same twice."""
    for owner, opsets in (
        ("", model.opset_import),
        *((f" of the function '{each.name}'", each.opset_import) for each in model.functions),
    ):
        said: dict[str, set[int]] = {}
        for opset in opsets:
            said.setdefault(opset.domain or "ai.onnx", set()).add(opset.version)
        for domain, versions in said.items():
            if len(versions) > 1:
                raise RefusedError(f"two opsets{owner} for {domain}", where=where, received=sorted(versions))


@cache
def _schema_domains() -> frozenset[str]:
    return frozenset(schema.domain for schema in onnx.defs.get_all_schemas())


def _is_known(domain: str, own: set[str]) -> bool:
    if (
        domain in ("", "ai.onnx")
        or domain in own
        or domain in domains()
        or domain in _schema_domains()
        or _PLUG_INS.fullmatch(domain)
    ):
        return True
    return any(schema.domain == domain for schema in onnx.defs.get_all_schemas())


# ---- loops ---------------------------------------------------------------------------------------


def _constants(graph: onnx.GraphProto) -> dict[str, TensorProto]:
    """What is known of values in a graph: small weights that are no inputs, and Constant nodes."""
    given = {value.name for value in graph.input}
    found = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            found.update(
                (node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value"
            )
    return found


def _truth(name: str, constants: Mapping[str, TensorProto]) -> bool | None:
    """Whether a value is true or false; None where only a run tells."""
    tensor = constants.get(name)
    if tensor is None or tensor.data_type != TensorProto.BOOL or tensor.data_location == TensorProto.EXTERNAL:
        return None
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        return None
    return bool(array.reshape(-1)[0]) if np.size(array) == 1 else None


_NO_COUNT = 1 << 40
"""A count from which it is none: exporters write the largest number for a loop that a condition ends."""


def _check_loop(node: onnx.NodeProto, constants: Mapping[str, TensorProto], where: str) -> None:
    """One that no count ends and no condition: it has none, or its body makes it true whenever it was true before."""
    count, condition = [*node.input, "", ""][:2]
    body = next((attribute.g for attribute in node.attribute if attribute.name == "body"), None)
    if body is None or (count and _number(count, constants) < _NO_COUNT):
        return
    endless = not condition and not count
    if (condition or count) and body.output and (not condition or _truth(condition, constants) is not False):
        given = {body.input[1].name: True} if len(body.input) > 1 else {}
        endless = _outcome(body, {**constants, **_constants(body)}, given) is True
    if endless:
        raise RefusedError(
            f"the loop '{node.name or (node.output[0] if node.output else 'Loop')}' has no end",
            where=where,
            expected="a count, or a condition that its body can make false",
        )


def _number(name: str, constants: Mapping[str, TensorProto]) -> int:
    """A count that is known; 0 where only a run tells."""
    tensor = constants.get(name)
    if (
        tensor is None
        or tensor.data_type != TensorProto.INT64
        or tensor.data_location == TensorProto.EXTERNAL
    ):
        return 0
    try:
        return int(numpy_helper.to_array(tensor).reshape(-1)[0])
    except (ValueError, TypeError, IndexError):
        return 0


def _outcome(
    body: onnx.GraphProto, constants: Mapping[str, TensorProto], given: dict[str, bool]
) -> bool | None:
    """What a body's condition becomes, as far as logic on constants and on the condition before tells it."""
    known: dict[str, bool | None] = dict(given)

    def of(name: str) -> bool | None:
        return known[name] if name in known else _truth(name, constants)

    for node in body.node:
        logic = _LOGIC.get(node.op_type)
        if logic is not None and node.domain in ("", "ai.onnx") and node.output:
            known[node.output[0]] = logic([of(name) for name in node.input])
    return of(body.output[0].name)


def _both(sides: Sequence[bool | None]) -> bool | None:
    return False if False in sides else None if None in sides else True


def _either(sides: Sequence[bool | None]) -> bool | None:
    return True if True in sides else None if None in sides else False


_LOGIC: Mapping[str, Callable[[Sequence[bool | None]], bool | None]] = {
    "Identity": lambda sides: sides[0] if sides else None,
    "Cast": lambda sides: sides[0] if sides else None,
    "Reshape": lambda sides: sides[0] if sides else None,
    "Squeeze": lambda sides: sides[0] if sides else None,
    "Unsqueeze": lambda sides: sides[0] if sides else None,
    "Not": lambda sides: None if not sides or sides[0] is None else not sides[0],
    "And": _both,
    "Or": _either,
    "Xor": lambda sides: None if None in sides else len(set(sides)) == 2,
    "Equal": lambda sides: None if None in sides else len(set(sides)) == 1,
}


# ---- types ---------------------------------------------------------------------------------------

_CONTRADICTIONS = re.compile(
    r"existing elem type|existing shape differ|Incompatible dimensions|inconsistent type|[Mm]ismatch"
)
_SMALL = 4096
"""Bytes of a weight that inference may have to read: a shape, an axis."""


def check_types(model: onnx.ModelProto, where: str) -> None:
    """Refuse dtypes and sizes that contradict each other, as far as ONNX's inference sees them."""
    try:
        onnx.shape_inference.infer_shapes(_light(model), check_type=True, strict_mode=True)
    except Exception as error:  # InferenceError, and RuntimeError from inside
        said = next((line for line in str(error).splitlines() if _CONTRADICTIONS.search(line)), "")
        if said:
            raise RefusedError(
                f"its dtypes or sizes contradict each other ({first_line(Exception(said))})", where=where
            ) from error


def _light(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the content of its large weights, without sizes that are none, and without the sizes of values
    inside: tools leave old ones there, which every runtime infers anew."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    for field, content in model.graph.ListFields():
        if field.name not in ("initializer", "sparse_initializer"):
            target = getattr(light.graph, field.name)
            if isinstance(content, str):
                setattr(light.graph, field.name, content)
            else:
                target.extend(content) if hasattr(target, "extend") else target.CopyFrom(content)
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:  # sizes and axes of which nothing is known here
            if tensor.name not in inputs:
                light.graph.input.append(
                    onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
            continue
        made = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        if tensor.ByteSize() <= _SMALL:
            made.CopyFrom(tensor)
    weights = {tensor.name for tensor in model.graph.initializer}
    inside = [value for value in light.graph.value_info if value.name not in weights]
    del light.graph.value_info[:]  # a weight without sizes is misread: ONNX's Slice then takes axis 0
    light.graph.value_info.extend(inside)
    for value in light.graph.value_info:
        value.type.tensor_type.ClearField("shape")
    for value in (*light.graph.input, *light.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()
    return light
