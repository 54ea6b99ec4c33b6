"""What an imported module holds: layers, parameters and buffers, under the names that they had in the source.

A weight called ``layer1.0.conv1.weight`` belongs to a layer ``layer1.0.conv1``, which stands in nested
``nn.ModuleDict``, so that the state dict of the imported module has the source's own keys.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.arrays import same
from netferry.converters.graph.ir.build import free
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.names import identifier
from netferry.converters.pytorch.dtypes import TORCH_DTYPES
from netferry.converters.signature import Array

Path = tuple[str, ...]

FORBIDDEN = frozenset(
    """
    T_destination _apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl
    _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks
    _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name
    _is_full_backward_hook _load_from_state_dict _load_state_dict_post_hooks _load_state_dict_pre_hooks
    _maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set _parameters
    _register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel
    _save_to_state_dict _slow_forward _state_dict_hooks _state_dict_pre_hooks _version
    _wrapped_call_impl add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda
    double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half input_specs ipu items keys load_state_dict modules mtia named_buffers
    named_children named_modules named_parameters output_names parameters pop register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook
    requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train training type
    update values xpu zero_grad
    """.split()
)
"""Names that a module or an ``nn.ModuleDict`` uses itself."""


@dataclass(frozen=True)
class Weight:
    """A tensor of a layer or of the module: its content as it is stored, and the source's name for it."""

    array: Array
    name: str = ""
    parameter: bool = True


@dataclass
class Layer:
    """``nn.Conv2d(3, 64, 7)``, with its tensors by their names in the layer."""

    call: ast.expr
    weights: Mapping[str, Weight]

    @property
    def text(self) -> str:
        return ast.unparse(self.call)


@dataclass
class Container:
    """An ``nn.ModuleDict`` and the tensors that stand in it beside its layers."""

    children: dict[str, Container | Layer] = field(default_factory=dict)
    tensors: dict[str, Weight] = field(default_factory=dict)

    def __contains__(self, key: object) -> bool:
        return key in self.children or key in self.tensors


class State:
    """Collects what the module holds while ``forward`` is written."""

    def __init__(self) -> None:
        self.root = Container()
        self.names: dict[str, str] = {}
        self._known: dict[str, list[tuple[Path, Weight]]] = {}
        self._layers: dict[tuple[Path, str], Path] = {}

    # ---- what rows ask -------------------------------------------------------------------------

    def tensor(self, fact: Fact, wish: str) -> ast.expr:
        """The expression of a constant; one that a layer owns already is read from there.

        ``wish`` is the name that a constant gets which has none in the source.
        """
        array = fact.constant
        assert array is not None
        for path, weight in self._known.get(fact.name, ()):
            if same(weight.array, array):
                return self.expr(path)
            if array.ndim == 2 and same(weight.array, array.T):
                return ast.Attribute(self.expr(path), "T", ast.Load())
        *parents, last = parts(fact.name) or [wish]
        container, path = self._container(parents)
        key = self._free(container, _legal(last))
        weight = Weight(array, fact.name, fact.trainable)
        container.tensors[key] = weight
        self._remember((*path, key), weight)
        return self.expr((*path, key))

    def layer(self, wish: Sequence[str], call: ast.expr, weights: Mapping[str, Weight]) -> ast.expr | None:
        """The expression of a layer that holds these weights, made now or standing there already.

        None where a weight stands elsewhere already: then the operator is written as a function of it. Beside another
        layer of its name (a convolution and its normalization in one scope of TensorFlow 1) it is numbered.
        """
        text = ast.unparse(call)
        stored = [self._stored_at(weight) for weight in weights.values()]
        if any(path is not None for path in stored):
            path = stored[0][:-1] if stored[0] else ()
            same_layer = all(p == (*path, key) for p, key in zip(stored, weights, strict=True))
            return self.expr(path) if same_layer and self._layers.get((path, text)) else None
        *parents, last = wish
        container, path = self._container(parents)
        if last in container and weights and not isinstance(container.children.get(last), Layer):
            return None
        key = self._free(container, last)
        path = (*path, key)
        container.children[key] = Layer(call, weights)
        self._layers[(path, text)] = path
        for name, weight in weights.items():
            self._remember((*path, name), weight)
        return self.expr(path)

    def expr(self, path: Path) -> ast.expr:
        """``self.layer1["0"]["conv1"].weight``"""
        return ast.parse(self._text(path), mode="eval").body

    def _text(self, path: Path) -> str:
        text, here = "self", self.root
        for key in path:
            inside = key in here.children if isinstance(here, Container) else False
            bracketed = inside and (here is not self.root or not _attribute(key))
            text += f"[{key!r}]" if bracketed else f".{key}"
            here = here.children[key] if inside else here  # type: ignore[assignment]
        return text

    # ---- what the program's writer asks --------------------------------------------------------------

    @property
    def arrays(self) -> dict[str, Array]:
        """Every tensor under its key of the state dict."""
        return {".".join(path): weight.array for path, weight in self._all(self.root, ())}

    @property
    def base(self) -> str:
        """The class of the whole module: a layer called ``0`` needs one that allows such keys."""
        plain = all(_attribute(key) for key in self.root.children)
        return "nn.Module" if plain else "nn.ModuleDict"

    def lines(self) -> Iterator[str]:
        """The body of ``__init__``."""
        for key, child in self.root.children.items():
            target = f"self.{key}" if _attribute(key) else f"self[{key!r}]"
            yield f"{target} = {_written(child, 0)}"
        yield from self._tensor_lines(self.root, ())

    # ---- inside ------------------------------------------------------------------------------------

    def _all(self, here: Container | Layer, path: Path) -> Iterator[tuple[Path, Weight]]:
        if isinstance(here, Layer):
            yield from (((*path, name), weight) for name, weight in here.weights.items())
            return
        yield from (((*path, name), weight) for name, weight in here.tensors.items())
        for key, child in here.children.items():
            yield from self._all(child, (*path, key))

    def _tensor_lines(self, here: Container, path: Path) -> Iterator[str]:
        owner = self._text(path)
        for name, weight in here.tensors.items():
            empty = _zeros(weight.array)
            if weight.parameter:
                yield f"{owner}.{name} = nn.Parameter({empty})"
            else:
                yield f"{owner}.register_buffer({name!r}, {empty})"
        for key, child in here.children.items():
            if isinstance(child, Container):
                yield from self._tensor_lines(child, (*path, key))

    def _stored_at(self, weight: Weight) -> Path | None:
        for path, known in self._known.get(weight.name, ()) if weight.name else ():
            if same(known.array, weight.array) or same(known.array, weight.array.T):
                return path
        return None

    def _remember(self, path: Path, weight: Weight) -> None:
        if weight.name:
            self._known.setdefault(weight.name, []).append((path, weight))
            self.names.setdefault(weight.name, ".".join(path))

    def _container(self, parents: Sequence[str]) -> tuple[Container, Path]:
        """The container of this path, made where it is missing; a layer in the way is gone round."""
        here, path = self.root, ()
        for wish in parents:
            key = wish
            if not isinstance(here.children.get(key), Container):
                key = self._free(here, wish)
                here.children[key] = Container()
            child = here.children[key]
            assert isinstance(child, Container)
            here, path = child, (*path, key)  # type: ignore[assignment]
        return here, path

    def _free(self, container: Container, wish: str) -> str:
        wish = f"{wish}_" if wish in FORBIDDEN else wish
        return free(wish, container)


def parts(name: str) -> list[str]:
    """The path in a source's name: ``a.b.weight`` and ``a/b/kernel`` have three parts; never an empty one."""
    names = (
        re.sub(r"\W+", "_", part, flags=re.ASCII) for part in re.split(r"[./]", re.sub(r":\d+$", "", name))
    )
    return [part.replace("__", "_") for part in names if part.strip("_")]


def _legal(key: str) -> str:
    """An attribute's name; one leading underscore is kept, unlike in the names of variables."""
    return f"_{identifier(key)}" if key.startswith("_") else identifier(key)


def _attribute(key: str) -> bool:
    return _legal(key) == key


def _zeros(array: Array) -> str:
    sizes = ", ".join(map(str, array.shape)) or "()"
    dtype = "" if array.dtype == np.float32 else f", dtype={ast.unparse(dotted(TORCH_DTYPES[array.dtype]))}"
    return f"torch.zeros({sizes}{dtype})"


def _written(here: Container | Layer, depth: int) -> str:
    """A layer's call, or a container with one layer on each line."""
    if isinstance(here, Layer):
        return here.text
    if not here.children:
        return "nn.ModuleDict()"
    inside, outside = "    " * (depth + 1), "    " * depth
    rows = "".join(
        f"{inside}{_quoted(key)}: {_written(child, depth + 1)},\n" for key, child in here.children.items()
    )
    return f"nn.ModuleDict({{\n{rows}{outside}}})"


def _quoted(key: str) -> str:
    return ast.unparse(ast.Constant(key)).replace("'", '"') if key.isalnum() or "_" in key else repr(key)
