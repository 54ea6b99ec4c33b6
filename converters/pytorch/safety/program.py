"""What stands in the JSON of an exported program, field by field: what PyTorch makes of it, and what it may therefore say.

PyTorch evaluates more of it than operators: sizes and guards as Python, names as the source of a function, the text of a container
(a treespec) as classes to import. A field that is not in the table below is refused: a newer PyTorch may read it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.pytorch.safety import allowlist, expressions
from netferry.converters.trust import texts
from netferry.converters.trust.permit import Permit

_CODE = "Build the model in Python and give package.module:factory with --weights weights.safetensors"

_MESSAGES = {
    "ExportedProgram": "graph_module=GraphModule opset_version={plain:int} range_constraints={size:RangeConstraint} "
    "schema_version=SchemaVersion verifiers=[plain] torch_version=text guards_code=[guard]",
    "SchemaVersion": "major=int minor=int",
    "RangeConstraint": "min_val=?int max_val=?int",
    "GraphModule": "graph=Graph signature=GraphSignature module_call_graph=[ModuleCallEntry] metadata={text:text} "
    "treespec_namedtuple_fields={text:NamedTupleDef}",
    "NamedTupleDef": "field_names=[name]",
    "ModuleCallEntry": "fqn=path signature=?ModuleCallSignature",
    "ModuleCallSignature": "inputs=[Argument] outputs=[Argument] in_spec=in_spec out_spec=out_spec forward_arg_names=?[name]",
    "Graph": "inputs=[Argument] outputs=[Argument] nodes=[Node] tensor_values={name:TensorMeta} sym_int_values={name:SymInt} "
    "sym_bool_values={name:SymBool} is_single_tensor_return=bool custom_obj_values={object:CustomObjArgument} "
    "sym_float_values={name:SymFloat}",
    "Node": "target=operator inputs=[NamedArgument] outputs=[Argument] metadata={text:text} is_hop_single_tensor_return=?bool "
    "name=?name",
    "NamedArgument": "name=keyword arg=Argument kind=?int",
    "TensorMeta": "dtype=int sizes=[SymInt] requires_grad=bool device=Device strides=[SymInt] storage_offset=SymInt layout=int",
    "Device": "type=name index=?int",
    "SymExpr": "expr_str=size hint=?SymExprHint",
    "TensorArgument": "name=name",
    "TokenArgument": "name=name",
    "GraphArgument": "name=name graph=Graph",
    "CustomObjArgument": "name=object class_fqn=object",
    "ComplexValue": "real=float imag=float",
    "GraphSignature": "input_specs=[InputSpec] output_specs=[OutputSpec]",
    "UserInputSpec": "arg=Argument",
    "InputToParameterSpec": "arg=TensorArgument parameter_name=path",
    "InputToBufferSpec": "arg=TensorArgument buffer_name=path persistent=bool",
    "InputToTensorConstantSpec": "arg=TensorArgument tensor_constant_name=path",
    "InputToCustomObjSpec": "arg=CustomObjArgument custom_obj_name=object",
    "InputTokenSpec": "arg=TokenArgument",
    "InputToConstantInputSpec": "name=name value=ConstantValue",
    "LossOutputSpec": "arg=TensorArgument",
    "BufferMutationSpec": "arg=TensorArgument buffer_name=path",
    "ParameterMutationSpec": "arg=TensorArgument parameter_name=path",
    "GradientToParameterSpec": "arg=TensorArgument parameter_name=path",
    "GradientToUserInputSpec": "arg=TensorArgument user_input_name=name",
    "UserInputMutationSpec": "arg=TensorArgument user_input_name=name",
    "OutputTokenSpec": "arg=TokenArgument",
    "PayloadConfig": "config={path:PayloadMeta}",
    "PayloadMeta": "path_name=entry is_param=bool use_pickle=bool tensor_meta=?TensorMeta",
}
_UNIONS = {
    "Argument": "as_none=bool as_tensor=TensorArgument as_tensors=[TensorArgument] as_int=int as_ints=[int] as_float=float "
    "as_floats=[float] as_string=text as_strings=[text] as_sym_int=SymIntArgument as_sym_ints=[SymIntArgument] "
    "as_scalar_type=int as_memory_format=int as_layout=int as_device=Device as_bool=bool as_bools=[bool] "
    "as_sym_bool=SymBoolArgument as_sym_bools=[SymBoolArgument] as_graph=GraphArgument "
    "as_optional_tensors=[OptionalTensorArgument] as_custom_obj=CustomObjArgument as_operator=operator "
    "as_sym_float=SymFloatArgument as_sym_floats=[SymFloatArgument] as_optional_tensor=OptionalTensorArgument "
    "as_complex=ComplexValue as_nested_tensors=[[TensorArgument]] as_int_lists=[[int]] "
    "as_string_to_argument={plain:Argument} as_float_lists=[[float]]",
    "OptionalTensorArgument": "as_tensor=TensorArgument as_none=bool",
    "SymExprHint": "as_int=int as_bool=bool as_float=float",
    "SymInt": "as_expr=SymExpr as_int=int",
    "SymFloat": "as_expr=SymExpr as_float=float",
    "SymBool": "as_expr=SymExpr as_bool=bool",
    "SymIntArgument": "as_name=name as_int=int",
    "SymFloatArgument": "as_name=name as_float=float",
    "SymBoolArgument": "as_name=name as_bool=bool",
    "ConstantValue": "as_none=bool as_int=int as_float=float as_string=plain as_bool=bool",
    "InputSpec": "user_input=UserInputSpec parameter=InputToParameterSpec buffer=InputToBufferSpec "
    "tensor_constant=InputToTensorConstantSpec custom_obj=InputToCustomObjSpec token=InputTokenSpec "
    "constant_input=InputToConstantInputSpec",
    "OutputSpec": "user_output=UserInputSpec loss_output=LossOutputSpec buffer_mutation=BufferMutationSpec "
    "gradient_to_parameter=GradientToParameterSpec gradient_to_user_input=GradientToUserInputSpec "
    "user_input_mutation=UserInputMutationSpec token=OutputTokenSpec parameter_mutation=ParameterMutationSpec",
}
"""torch/_export/serde/schema.py of PyTorch 2.6 to 2.13. ``?`` may be null, ``[ ]`` is a list, ``{ : }`` a mapping by its keys and values."""


def _fields(rows: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {name: dict(pair.split("=", 1) for pair in row.split()) for name, row in rows.items()}


_FIELDS, _ALTERNATIVES = _fields(_MESSAGES), _fields(_UNIONS)


def check(found: Any, kind: str, where: str, permit: Permit) -> None:
    """Look at a document that PyTorch reads as ``kind``: ``ExportedProgram`` or ``PayloadConfig``.

    Raises:
        RefusedError: it is none, or says what PyTorch would run or import.
    """
    strange: dict[str, set[str]] = {what: set() for what in _WORDS}
    for what, text in _strange(found, kind, where):
        strange[what].add(text)
    for what, texts_found in strange.items():
        permit.ask(_WORDS[what], texts_found, where, _CODE)


_WORDS = {
    "operator": "operators that are on no list",
    "size": "sizes that are no arithmetic",
    "guard": "guards that are no arithmetic",
    "spec": "containers that are on no list",
    "name": "names that are none and would be written into code",
    "object": "compiled code or objects of classes of their own",
    "field": "fields that this version of netferry does not know",
}


def _strange(found: Any, kind: str, where: str) -> Iterator[tuple[str, str]]:
    """What may not stand there, by what it is; a value of another type than its field's is refused at once."""
    waiting: list[tuple[Any, str]] = [(found, kind)]
    while waiting:
        value, kind = waiting.pop()
        if kind.startswith("?"):
            if value is not None:
                waiting.append((value, kind[1:]))
        elif kind.startswith("["):
            waiting.extend((each, kind[1:-1]) for each in _typed(value, list, kind, where))
        elif kind.startswith("{"):
            of_key, of_value = kind[1:-1].split(":", 1)
            for key, each in _typed(value, dict, kind, where).items():
                waiting += [(key, of_key), (each, of_value)]
        elif kind in _LEAVES:
            type_, what, is_known = _LEAVES[kind]
            if not is_known(_typed(value, type_, kind, where)):
                yield what, str(value)
        else:
            members = _FIELDS.get(kind) or _ALTERNATIVES[kind]
            for key, each in _typed(value, dict, kind, where).items():
                if key in members:
                    waiting.append((each, members[key]))
                else:
                    yield "field", f"{kind}.{key}"
            if kind in _ALTERNATIVES and len(value) != 1:
                raise _no_program(kind, value, where)


def _typed(value: Any, types: Any, kind: str, where: str) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in _several(types)):
        raise _no_program(kind, value, where)
    return value


def _several(types: Any) -> Sequence[type]:
    return types if isinstance(types, tuple) else (types,)


def _no_program(kind: str, value: Any, where: str) -> RefusedError:
    return RefusedError(
        f"not {_TITLES.get(where.rpartition('_')[2], 'an exported program')}",
        where=where,
        expected=kind,
        received=repr(value)[:80],
    )


_TITLES = {"config.json": "a table of tensors"}


def sizes(found: Any, where: str) -> set[str]:
    """The formulas of sizes in a program that was checked."""
    names = ("expr_str", "as_expr")
    mappings = list(texts.mappings(found, where))
    shown = {each[name] for each in mappings for name in names if isinstance(each.get(name), str)}
    ranges = [each["range_constraints"] for each in mappings if "range_constraints" in each]
    return shown.union(*ranges)


# ---- texts ---------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[\w @.:/+<>=,\-\[\]]*")
"""Texts that stay inside quotes, whichever: PyTorch writes some into code between them."""

_ENTRY = re.compile(r"(weight|tensor)_\d{1,9}")


def is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None


def _is_name(text: str) -> bool:
    """Written into code as it is, where an argument or a variable stands."""
    return text.isidentifier() and not keyword.iskeyword(text)


def _computes(target: str) -> bool:
    if target in allowlist.PYTHON:
        return True
    match = _OPERATOR.fullmatch(target)
    if match is None:
        return False
    known = _FAMILIES.get(match["family"], frozenset())
    return match["name"] in known or f"{match['name']}{match['form']}" in known


_OPERATOR = re.compile(r"torch\.ops\.(?P<family>\w+)\.(?P<name>\w+)(?P<form>\.\w+)?", re.ASCII)
_FAMILIES: Mapping[str, frozenset[str]] = {
    "aten": allowlist.ATEN | allowlist.EXPORTED,
    "prims": allowlist.PRIMS,
    "higher_order": allowlist.HIGHER_ORDER,
    "quantized_decomposed": allowlist.QUANTIZED,
}


def _is_number(value: object) -> bool:
    return not isinstance(value, str) or value in ("Infinity", "-Infinity", "NaN")


def _anything(_: object) -> bool:
    return True


# ---- treespecs -----------------------------------------------------------------------------------


def _is_arguments(text: str) -> bool:
    """A container of a call: arguments by position, and by names that are written into code."""
    found = _container(text)
    if found is None or found["type"] != "builtins.tuple" or len(found["children_spec"]) != 2:
        return False
    by_position, by_name = found["children_spec"]
    names = _document(by_name["context"]) if by_name["type"] == "builtins.dict" else None
    return by_position["type"] == "builtins.tuple" and isinstance(names, list) and all(map(_is_name, names))


def _container(text: str) -> Any:
    """The outermost node of a treespec, where it is made of known containers alone; else None."""
    found = _document(text)
    if not (isinstance(found, list) and len(found) == 2 and found[0] == 1 and type(found[0]) is int):
        return None
    waiting = [found[1]]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict) or node.keys() != {"type", "context", "children_spec"}:
            return None
        children = node["children_spec"]
        if not isinstance(children, list) or not _is_container(node["type"], node["context"], len(children)):
            return None
        waiting.extend(children)
    return found[1]


def _document(text: object) -> Any:
    """JSON inside a text; an Ellipsis where it is none, which is like nothing that may stand there."""
    try:
        return texts.document(text, "") if isinstance(text, str) else ...
    except RefusedError:
        return ...


def _is_container(kind: object, context: Any, children: int) -> bool:
    if kind is None:
        return context is None and not children
    if kind == "collections.defaultdict":
        return _is_defaultdict(context, children)
    is_known = _CONTAINERS.get(kind) if isinstance(kind, str) else None
    return is_known is not None and is_known(_document(context), children)


def _is_defaultdict(context: Any, children: int) -> bool:
    """One that makes what Python itself does: its factory would be imported."""
    return (
        isinstance(context, dict)
        and context.keys() == {"default_factory_module", "default_factory_name", "dict_context"}
        and context["default_factory_module"] == "builtins"
        and context["default_factory_name"] in ("list", "dict", "tuple", "set", "int", "float", "str", "bool")
        and _are_keys(context["dict_context"], children)
    )


def _are_keys(context: Any, children: int) -> bool:
    return (
        isinstance(context, list)
        and len(context) == children
        and all(
            each is None or isinstance(each, int) or (isinstance(each, str) and is_plain(each))
            for each in context
        )
    )


def _is_nothing(context: Any, _: int) -> bool:
    return context is None


def _is_length(context: Any, children: int) -> bool:
    return context is None or (type(context) is int and children <= context < 1 << 32)


_CONTAINERS: Mapping[str, Callable[[Any, int], bool]] = {
    "builtins.tuple": _is_nothing,
    "builtins.list": _is_nothing,
    "torch.Size": _is_nothing,
    "torch.fx.immutable_collections.immutable_list": _is_nothing,
    "builtins.dict": _are_keys,
    "collections.OrderedDict": _are_keys,
    "torch.fx.immutable_collections.immutable_dict": _are_keys,
    "collections.deque": _is_length,
}
"""Containers and what their context may be. Left out are those that name a class: namedtuples, dataclasses, a library's own."""

_LEAVES: Mapping[str, tuple[Any, str, Callable[[Any], bool]]] = {
    "int": (int, "field", _anything),
    "bool": (bool, "field", _anything),
    "float": ((int, float, str), "name", _is_number),
    "text": (str, "field", _anything),
    "plain": (str, "name", is_plain),
    "path": (str, "name", is_plain),
    "name": (str, "name", _is_name),
    "keyword": (str, "name", lambda text: not text or _is_name(text)),
    "entry": (str, "name", lambda text: _ENTRY.fullmatch(text) is not None),
    "operator": (str, "operator", _computes),
    "size": (str, "size", expressions.is_size),
    "guard": (str, "guard", expressions.is_guard),
    "in_spec": (str, "spec", _is_arguments),
    "out_spec": (str, "spec", lambda text: _container(text) is not None),
    "object": (str, "object", lambda _: False),
}
"""By the kind of a field: its type, what a value of it is that may not stand there, and whether one may."""
