"""Weights of Keras 1 and 2, put into the layers that were made of the same file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array
from netferry.converters.tensorflow.keras2.graph import Part
from netferry.converters.tensorflow.runtime import keras

_COUNTED = (keras.layers.Normalization,)
"""Layers that keep a number of rows after their weights, which not every version wrote."""


# ---- the .h5: a group for each layer, its weights in the order of their names --------------------


def load_h5(model: Part, file: Any) -> None:
    """Trainable weights come first; a model inside has one group for all of its layers."""
    for part in model.parts:
        if part.name not in file:
            _demand(part, [])
            continue
        group = file[part.name]
        names = [n.decode() if isinstance(n, bytes) else n for n in _listed(group.attrs, "weight_names")]
        _assign(part, [*_trainable(part), *_frozen(part)], [np.asarray(group[name]) for name in names])
        _finish(part)


def _listed(attributes: Mapping[str, Any], name: str) -> list[Any]:
    """A list of names, which HDF5 may have in pieces."""
    if name in attributes:
        return list(attributes[name])
    pieces, number = list[Any](), 0
    while f"{name}{number}" in attributes:
        pieces += list(attributes[f"{name}{number}"])
        number += 1
    return pieces


def _trainable(part: Part) -> list[Any]:
    if part.parts:
        return [weight for inner in part.parts for weight in _trainable(inner)]
    return list(getattr(part.layer, "trainable_weights", ()))


def _frozen(part: Part) -> list[Any]:
    if part.parts:
        return [weight for inner in part.parts for weight in _frozen(inner)]
    return list(getattr(part.layer, "non_trainable_weights", ()))


# ---- the .keras: groups by class and number, attributes, and "vars" --------------------------------

_ROOTS = ("layers", "_layer_checkpoint_dependencies")


def load_archive(model: Part, file: Any) -> None:
    """Layers of one class are numbered; what has no weights may or may not have counted, so the order alone is taken."""
    root: Any = next((file[name] for name in _ROOTS if name in file), {})
    holders: dict[str, list[Part]] = {}
    for part in model.parts:
        if part.parts or getattr(part.layer, "weights", []):
            holders.setdefault(_snake(part.kind), []).append(part)
    for kind, parts in holders.items():
        groups = [group for group in _numbered(root, kind) if _has_arrays(group)]
        waiting = [part for part in parts if _weighs(part)]
        if len(groups) != len(waiting):
            raise RefusedError(
                "the weights do not fit the model",
                expected=f"{len(waiting)} layers {kind}",
                received=len(groups),
            )
        for part, group in zip(waiting, groups, strict=True):
            load_archive(part, group) if part.parts else _fill(part, part.layer, group)
            _finish(part)


def _weighs(part: Part) -> bool:
    return any(map(_weighs, part.parts)) if part.parts else bool(part.layer.weights)


def _snake(name: str) -> str:
    """Keras' own spelling of a class: ``Conv2DTranspose`` is ``conv2d_transpose``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _numbered(root: Any, kind: str) -> list[Any]:
    found = [
        (match, name) for name in root if (match := re.fullmatch(rf"{re.escape(kind)}(?:_(\d+))?", name))
    ]
    return [root[name] for _, name in sorted((int(match[1] or 0), name) for match, name in found)]


def _has_arrays(group: Any) -> bool:
    return isinstance(group, h5py.Dataset) or any(_has_arrays(group[name]) for name in group)


def _fill(part: Part, owner: Any, group: Any) -> None:
    """A layer's own arrays, and those of the layers that are its attributes."""
    held = group.get("vars", {})
    arrays = [np.asarray(held[str(number)]) for number in range(len(held))]
    own = [*getattr(owner, "_trainable_variables", ()), *getattr(owner, "_non_trainable_variables", ())]
    _assign(part, [variable for variable in own if not _is_seed(variable)], arrays)
    for name in group:
        inner = getattr(owner, name, None)
        if name == "vars" or not _has_arrays(group[name]) or isinstance(inner, keras.random.SeedGenerator):
            continue
        if isinstance(inner, list | tuple):
            _fill_all(part, inner, group[name])
        elif inner is None:
            raise RefusedError("the weights do not fit the model", where=part.name, received=name)
        else:
            _fill(part, inner, group[name])


def _fill_all(part: Part, owners: Sequence[Any], group: Any) -> None:
    kinds: dict[str, list[Any]] = {}
    for owner in owners:
        kinds.setdefault(_snake(type(owner).__name__), []).append(owner)
    for kind, several in kinds.items():
        for owner, inner in zip(several, _numbered(group, kind), strict=True):
            _fill(part, owner, inner)


def _is_seed(variable: Any) -> bool:
    return "seed" in str(variable.path)


# ---- both ---------------------------------------------------------------------------------------


def _assign(part: Part, variables: Sequence[Any], arrays: Sequence[Array]) -> None:
    """Raises: RefusedError: not as many arrays as weights, or of other sizes."""
    if isinstance(part.layer, _COUNTED) and len(arrays) == len(variables) - 1:
        variables = variables[:-1]
    _demand(part, arrays, variables)
    for variable, array in zip(variables, arrays, strict=True):
        if tuple(variable.shape) != array.shape and tuple(variable.shape) != np.squeeze(array).shape:
            raise RefusedError(
                f"a weight of '{part.name}' has another size",
                expected=list(variable.shape),
                received=list(array.shape),
            )
        variable.assign(array.reshape(variable.shape))


def _demand(part: Part, arrays: Sequence[Array], variables: Sequence[Any] | None = None) -> None:
    wanted = [*_trainable(part), *_frozen(part)] if variables is None else variables
    if len(wanted) != len(arrays):
        raise RefusedError(
            f"the weights do not fit the layer '{part.name}'",
            expected=f"{len(wanted)} arrays",
            received=len(arrays),
        )


def _finish(part: Part) -> None:
    if isinstance(part.layer, _COUNTED):
        part.layer.finalize_state()
