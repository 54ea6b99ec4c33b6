"""The tables in the attributes of ``ai.onnx.ml``: trees, supports and labels, whose indices lie inside of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
from onnx import helper

from netferry.converters.errors import RefusedError

Attributes = Mapping[str, Any]


class _Broken(Exception):  # noqa: N818 - becomes a RefusedError
    """What is wrong with a table."""


def check(node: onnx.NodeProto, where: str) -> None:
    """Hold the tables of one node against themselves: kernels take them as they are.

    Raises:
        RefusedError: an index that leads out of its table, tables of unlike length, a tree that leads back into itself.
    """
    rule = _RULES.get(node.op_type) if node.domain == "ai.onnx.ml" else None
    if rule is None:
        return
    try:
        rule({attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute})
    except _Broken as broken:
        raise RefusedError(
            f"the node '{node.name or node.op_type}' has tables that do not hold together: {broken}",
            where=where,
        ) from None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise RefusedError(
            f"the node '{node.name or node.op_type}' has a table of another type than it must have ({error})",
            where=where,
        ) from error


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise _Broken(what)


def _demand_equal(attributes: Attributes, names: Iterable[str], size: int, optional: bool = True) -> None:
    for name in names:
        found = len(attributes.get(name, ()))
        _demand(found == size or (optional and not found), f"{name} has {found} entries, not {size}")


def _demand_inside(values: Iterable[int], size: int, what: str) -> None:
    outside = next((value for value in values if not 0 <= value < size), None)
    _demand(outside is None, f"{what} names {outside} of {size}")


# ---- trees ---------------------------------------------------------------------------------------


def _ensemble(leaves: str, names: str) -> Callable[[Attributes], None]:
    """TreeEnsembleClassifier (leaves ``class``) and TreeEnsembleRegressor (``target``), whose nodes have numbers in each tree."""

    def rule(attributes: Attributes) -> None:
        trees, numbers = attributes.get("nodes_treeids", ()), attributes.get("nodes_nodeids", ())
        count = len(trees)
        modes = attributes.get("nodes_modes", ())
        _demand_equal(attributes, ("nodes_nodeids", "nodes_modes", "nodes_featureids"), count, optional=False)
        _demand_equal(
            attributes,
            ("nodes_values", "nodes_values_as_tensor", "nodes_truenodeids", "nodes_falsenodeids", "nodes_hitrates",
             "nodes_missing_value_tracks_true"),
            count,
        )  # fmt: skip
        _demand(all(feature >= 0 for feature in attributes.get("nodes_featureids", ())), "a feature below 0")
        positions = {key: position for position, key in enumerate(zip(trees, numbers, strict=True))}
        _demand(len(positions) == count, "two nodes of one number in a tree")
        children: dict[int, list[int]] = {}
        for position, mode in enumerate(modes):
            if mode != b"LEAF":
                sides = [attributes[f"nodes_{side}nodeids"][position] for side in ("true", "false")]
                missing = [side for side in sides if (trees[position], side) not in positions]
                _demand(
                    not missing,
                    f"a branch of node {numbers[position]} leads to {missing}, which is not there",
                )
                children[position] = [positions[(trees[position], side)] for side in sides]
        _demand_trees(children, count)
        _demand_leaves(attributes, leaves, names, positions)

    return rule


def _demand_leaves(attributes: Attributes, leaves: str, names: str, positions: Mapping[Any, int]) -> None:
    owners = attributes.get(f"{leaves}_nodeids", ())
    _demand_equal(attributes, (f"{leaves}_treeids", f"{leaves}_ids"), len(owners), optional=False)
    _demand_equal(attributes, (f"{leaves}_weights", f"{leaves}_weights_as_tensor"), len(owners))
    keys = zip(attributes.get(f"{leaves}_treeids", ()), owners, strict=True)
    _demand(all(key in positions for key in keys), f"{leaves}_nodeids names a node that is not there")
    size = attributes.get("n_targets", 1) if names == "n_targets" else _labels(attributes)
    _demand_inside(attributes.get(f"{leaves}_ids", ()), max(size, 1), f"{leaves}_ids")
    base = len(attributes.get("base_values", ()))
    _demand(base in (0, 1, size) or names != "n_targets", f"base_values has {base} entries, not {size}")


def _labels(attributes: Attributes) -> int:
    found = [
        len(attributes.get(name, ()))
        for name in ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
    ]
    _demand(sum(map(bool, found)) <= 1, "two tables of labels")
    return max(found)


def _demand_trees(children: Mapping[int, Sequence[int]], count: int) -> None:
    """No node has two parents, and none is its own ancestor: a walk from the top ends."""
    parents: dict[int, int] = {}
    for parent, below in children.items():
        for child in set(below):
            _demand(child not in parents, "a node with two parents")
            parents[child] = parent
    reached, waiting = 0, [position for position in range(count) if position not in parents]
    while waiting:
        reached += 1
        waiting.extend(set(children.get(waiting.pop(), ())))
    _demand(reached == count, "a branch that leads back to its own root")


def _tree_ensemble(attributes: Attributes) -> None:
    """TreeEnsemble of ai.onnx.ml 5, whose branches name positions in the tables of nodes or of leaves."""
    count, leaves = len(attributes.get("nodes_featureids", ())), len(attributes.get("leaf_targetids", ()))
    sides = ("true", "false")
    _demand_equal(
        attributes,
        [f"nodes_{side}{kind}" for side in sides for kind in ("nodeids", "leafs")],
        count,
        optional=False,
    )
    _demand_equal(attributes, ("nodes_hitrates", "nodes_missing_value_tracks_true"), count)
    for name, size in (("nodes_splits", count), ("nodes_modes", count), ("leaf_weights", leaves)):
        found = attributes[name].dims[0] if name in attributes else 0
        _demand(found == size, f"{name} has {found} entries, not {size}")
    _demand(all(feature >= 0 for feature in attributes["nodes_featureids"]), "a feature below 0")
    children: dict[int, list[int]] = {}
    for side in sides:
        for position, (target, is_leaf) in enumerate(
            zip(attributes[f"nodes_{side}nodeids"], attributes[f"nodes_{side}leafs"], strict=True)
        ):
            _demand_inside([target], leaves if is_leaf else count, f"nodes_{side}nodeids")
            if not is_leaf:
                children.setdefault(position, []).append(target)
    roots = attributes.get("tree_roots", ())
    _demand_inside(roots, max(count, 1), "tree_roots")
    _demand_trees(children, count)
    _demand_inside(
        attributes.get("leaf_targetids", ()), max(attributes.get("n_targets", 1), 1), "leaf_targetids"
    )


# ---- what else has tables ------------------------------------------------------------------------


def _support_vectors(attributes: Attributes) -> None:
    per_class = attributes.get("vectors_per_class", ())
    _demand(all(number >= 0 for number in per_class), "vectors_per_class below 0")
    count = sum(per_class) if per_class else attributes.get("n_supports", 0)
    _demand(count >= 0, "n_supports below 0")
    vectors, weights = len(attributes.get("support_vectors", ())), len(attributes.get("coefficients", ()))
    if count:
        _demand(vectors % count == 0, f"support_vectors has {vectors} entries for {count} vectors")
        classes = max(len(per_class), 2)
        _demand(
            weights == count * (classes - 1) or (not per_class and weights == count),
            f"coefficients has {weights} entries for {count} vectors",
        )
    pairs = len(per_class) * (len(per_class) - 1) // 2
    if per_class:
        _demand_equal(attributes, ("prob_a", "prob_b"), pairs)
        _demand(len(attributes.get("rho", ())) >= pairs, "rho has too few entries")
        _demand(_labels(attributes) in (0, len(per_class)), "labels for another number of classes")


def _linear(attributes: Attributes) -> None:
    weights, starts = len(attributes.get("coefficients", ())), len(attributes.get("intercepts", ()))
    size = attributes.get("targets", 1) if "targets" in attributes else starts
    _demand(size >= 0, "a number of targets below 0")
    _demand(not size or weights % size == 0, f"coefficients has {weights} entries for {size} rows")
    _demand(starts in (0, size), f"intercepts has {starts} entries, not {size}")
    labels = _labels(attributes)
    _demand(not labels or not starts or labels in (starts, 2), f"{labels} labels for {starts} rows")


def _pairs(*names: str) -> Callable[[Attributes], None]:
    def rule(attributes: Attributes) -> None:
        sizes = {name: _length(attributes[name]) for name in names if name in attributes}
        _demand(len(set(sizes.values())) <= 1, f"tables of unlike length ({sizes})")

    return rule


def _length(value: Any) -> int:
    return (
        int(value.dims[0])
        if isinstance(value, onnx.TensorProto) and value.dims
        else len(value)
        if isinstance(value, list | tuple)
        else 1
    )


def _scaler(attributes: Attributes) -> None:
    sizes = {len(attributes.get(name, ())) for name in ("offset", "scale")}
    _demand(len(sizes - {0, 1}) <= 1, f"tables of unlike length ({sorted(sizes)})")


_LABEL_TABLES = [
    f"{side}_{kind}" for side in ("keys", "values") for kind in ("floats", "int64s", "strings", "tensor")
]
_RULES: Mapping[str, Callable[[Attributes], None]] = {
    "TreeEnsembleClassifier": _ensemble("class", "labels"),
    "TreeEnsembleRegressor": _ensemble("target", "n_targets"),
    "TreeEnsemble": _tree_ensemble,
    "SVMClassifier": _support_vectors,
    "SVMRegressor": _support_vectors,
    "LinearClassifier": _linear,
    "LinearRegressor": _linear,
    "LabelEncoder": _pairs(*_LABEL_TABLES),
    "CategoryMapper": _pairs("cats_int64s", "cats_strings"),
    "Scaler": _scaler,
}
