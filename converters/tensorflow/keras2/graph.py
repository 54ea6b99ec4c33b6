"""A functional or Sequential model of Keras 2, called layer by layer on Keras 3's symbols."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.errors import RefusedError, Unsupported, UnsupportedError, first_line
from netferry.converters.tensorflow.keras2 import functions, known
from netferry.converters.tensorflow.keras2.layers import made, policy
from netferry.converters.tensorflow.keras2.sizes import Sizes
from netferry.converters.tensorflow.names import legal
from netferry.converters.tensorflow.runtime import Functional, backend, keras

CONSTANT = "_CONSTANT_VALUE"


@dataclass
class Part:
    """A layer of the file and what was made of it, in the file's order; of a model also its parts."""

    name: str
    kind: str
    layer: Any
    parts: list[Part] = field(default_factory=list)


def built(entry: Mapping[str, Any]) -> Part:
    """The model that an entry ``{"class_name": ..., "config": ...}`` describes.

    Raises:
        RefusedError: it is no model, or damaged.
        UnsupportedError: everything that Keras 3 has no counterpart for.
    """
    kind, config = str(entry.get("class_name")), entry.get("config")
    if kind not in known.MODELS:
        raise RefusedError("it holds a model class of a user's own", received=kind)
    if kind == "Sequential":
        return _sequential(config if isinstance(config, Mapping) else {"layers": config})
    if not isinstance(config, Mapping) or "layers" not in config:
        raise RefusedError(
            "it holds a model whose layers are called by Python code of its own", received=kind
        )
    return _Reader(config).part(kind)


def _parts(entries: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """Every layer made; what cannot be is collected, so that all of it is named at once."""
    problems: list[Unsupported] = []
    for entry in entries:
        kind = str(entry["class_name"])
        name = str(entry.get("name") or _settings(entry).get("name", kind))
        try:
            if kind in known.MODELS:
                part = built(entry)
                yield Part(name, kind, part.layer, part.parts)
            elif kind in known.FUNCTIONS:
                yield Part(name, kind, functions.found(name, str(_settings(entry)["function"])))
            else:
                yield Part(name, kind, _input(entry) if kind == "InputLayer" else made(entry, _model))
        except UnsupportedError as error:
            problems += error.problems
    if problems:
        raise UnsupportedError(problems)


def _model(entry: Mapping[str, Any]) -> Any:
    return built(entry).layer


def _settings(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    config = entry.get("config")
    return config if isinstance(config, Mapping) else {}


def _input(entry: Mapping[str, Any], dtype: str | None = None) -> Any:
    config = entry["config"]
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    return keras.layers.InputLayer(
        batch_shape=tuple(shape),
        dtype=dtype or policy(config.get("dtype")) or "float32",
        name=_legal(config.get("name")),
        **{key: True for key in ("sparse", "ragged") if config.get(key)},
    )


def _legal(name: Any) -> str | None:
    """Keras 3 takes no slash in a name."""
    return legal(name) if isinstance(name, str) and "/" in name else name


def _sequential(config: Mapping[str, Any]) -> Part:
    entries = list(config["layers"])
    parts = list(_parts(entries))
    shape = config.get("build_input_shape") or (entries and _settings(entries[0]).get("batch_input_shape"))
    layers = [part.layer for part in parts]
    if [part.kind for part in parts[:2]] == ["InputLayer", "Embedding"] and parts[0].name.endswith("_input"):
        layers[0] = _input(entries[0], "int32")  # Keras 2 made it up, and wrote down the layer's own dtype
    if shape and parts[0].kind != "InputLayer":
        dtype = "int32" if parts[0].kind == "Embedding" else policy(_settings(entries[0]).get("dtype"))
        wanted = dtype if dtype in ("int32", "int64", "float64") else "float32"
        name = f"{parts[0].name}_input"
        layers.insert(0, keras.layers.InputLayer(batch_shape=tuple(shape), dtype=wanted, name=name))
    model = keras.Sequential(layers, name=_legal(config.get("name")))
    return Part(str(config.get("name")), "Sequential", model, parts)


class _Reader:
    """Calls the layers of one functional model in the order in which their inputs are there."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._parts = {part.name: part for part in _parts(config["layers"])}
        self._outputs: dict[tuple[str, int], Any] = {}
        self._calls = {str(entry["name"]): list(entry["inbound_nodes"]) for entry in config["layers"]}

    def part(self, kind: str) -> Part:
        waiting = [name for name in self._parts if self._begins(name)]
        while waiting:
            left = [name for name in waiting if not self._called(name)]
            if sum(map(self._done, left)) == sum(map(self._done, waiting)) and len(left) == len(waiting):
                raise RefusedError("layers wait for each other", received=", ".join(left[:3]))
            waiting = left
        inputs, outputs = (self._tensors(self._config[key]) for key in ("input_layers", "output_layers"))
        model = keras.Model(inputs, outputs, name=_legal(self._config.get("name")))
        return Part(str(model.name), kind, model, list(self._parts.values()))

    def _begins(self, name: str) -> bool:
        """Whether a layer has to be called; an input is there from the beginning."""
        layer = self._parts[name].layer
        if isinstance(layer, keras.layers.InputLayer):
            self._outputs[name, 0] = layer.output
            return False
        self._first = getattr(self, "_first", {})
        self._first[name] = int(_begun(layer))
        return True

    def _done(self, name: str) -> int:
        return sum(1 for owner, _ in self._outputs if owner == name)

    def _called(self, name: str) -> bool:
        """Make the calls of a layer whose inputs are there; whether all have been made."""
        calls = self._calls[name]
        while (done := self._done(name)) < len(calls):
            node = calls[done]
            if not all(self._there(reference) for reference in _references(node, self._parts)):
                return False
            self._outputs[name, self._first[name] + done] = self._call(self._parts[name], node)
        return True

    def _there(self, reference: Sequence[Any]) -> bool:
        return (str(reference[0]), int(reference[1])) in self._outputs

    def _call(self, part: Part, node: Any) -> Any:
        first, keywords = self._tensors(node), self._keywords(node)
        given = {key: value for key, value in keywords.items() if value is not None and key != "name"}
        try:
            if part.kind in known.FUNCTIONS:
                return part.layer(first, **given)
            if given.get("training") is False:
                del given["training"]
            if _recurs(part.layer) and isinstance(first, list):
                given.setdefault("mask", backend.get_keras_mask(first[0]))  # Keras 3 forgets it beside states
                return part.layer(first[0], initial_state=first[1:], **given)
            return part.layer(first, **given)
        except UnsupportedError:
            raise
        except Exception as error:  # whatever Keras raises for a call that it does not take
            reason = f"Keras 3 does not call it so ({first_line(error)})"
            raise UnsupportedError([Unsupported(part.name, part.kind, reason)]) from error

    def _keywords(self, node: Any) -> dict[str, Any]:
        reference = next(_nodes(node, self._parts), None)
        written = reference[3] if reference is not None and len(reference) > 3 else {}
        return {key: self._filled(value) for key, value in written.items()}

    def _filled(self, value: Any) -> Any:
        if _is_reference(value, self._parts):
            return self._tensor(value)
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        if isinstance(value, Mapping):
            return {key: self._filled(inner) for key, inner in value.items()}
        return value

    def _tensor(self, reference: Sequence[Any]) -> Any:
        if reference[0] == CONSTANT:
            return reference[2]
        results = self._outputs[str(reference[0]), int(reference[1])]
        return results if isinstance(results, Sizes) else _flat(results)[int(reference[2])]

    def _tensors(self, references: Any) -> Any:
        """Lists and mappings of ``[layer, node, tensor, keywords]``; one alone in a list is that tensor."""
        if _is_reference(references, self._parts):
            return self._tensor(references)
        if isinstance(references, Mapping):
            return {key: self._tensors(inner) for key, inner in references.items()}
        values = [self._tensors(inner) for inner in references]
        return values[0] if len(values) == 1 else values


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [tensor for key in sorted(value) for tensor in _flat(value[key])]
    if isinstance(value, list | tuple):
        return [tensor for inner in value for tensor in _flat(inner)]
    return [value]


def _begun(layer: Any) -> bool:
    """A model counts the call by which it was made."""
    if isinstance(layer, keras.Sequential):
        return bool(layer.layers) and layer._functional is not None
    return isinstance(layer, Functional)


def _recurs(layer: Any) -> bool:
    return isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)


def _is_reference(value: Any, parts: Mapping[str, Part]) -> bool:
    """Whether this is ``[layer, node, tensor]``, with or without keywords, and no list of such."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and (value[0] in parts or value[0] == CONSTANT)
        and isinstance(value[1], int)
        and (len(value) == 3 or isinstance(value[3], Mapping))
    )


def _nodes(node: Any, parts: Mapping[str, Part]) -> Iterator[Sequence[Any]]:
    if _is_reference(node, parts):
        yield node
    elif isinstance(node, list | Mapping):
        for inner in node.values() if isinstance(node, Mapping) else node:
            yield from _nodes(inner, parts)


def _references(node: Any, parts: Mapping[str, Part]) -> Iterator[Sequence[Any]]:
    """All outputs of layers that a call needs, in its first argument and in its keywords."""
    for reference in _nodes(node, parts):
        if reference[0] != CONSTANT:
            yield reference
        if len(reference) > 3:
            yield from _references(list(reference[3].values()), parts)
