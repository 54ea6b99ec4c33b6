"""``netferry.verify``: pairs with known verdicts, and the inputs they are tried on."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from models import dense, model, unary
from onnx import helper, numpy_helper

import netferry
from netferry.converters.signature import Example, Signature, TensorSpec
from netferry.validation.comparison.metrics import compare
from netferry.validation.samples.inputs import samples


def two_outputs(names: tuple[str, str]) -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], [names[0]]), helper.make_node("Neg", ["x"], [names[1]])]
    return model(nodes, {"x": ["batch", 6]}, {name: ["batch", 6] for name in names})


def constant() -> onnx.ModelProto:
    return model(
        [helper.make_node("Mul", ["x", "zero"], ["y"])],
        {"x": ["batch", 6]},
        {"y": ["batch", 6]},
        {"zero": np.zeros(1, np.float32)},
    )


def input_independent() -> onnx.ModelProto:
    nodes = [helper.make_node("Mul", ["x", "zero"], ["none"]), helper.make_node("Add", ["none", "b"], ["y"])]
    weights = {"zero": np.zeros(1, np.float32), "b": np.arange(6, dtype=np.float32)}
    return model(nodes, {"x": ["batch", 6]}, {"y": ["batch", 6]}, weights)


def with_lengths(length: int, moves: bool = False) -> onnx.ModelProto:
    """``y``, and the same number for each row of the batch: of the batch's size alone, or multiplied by what is always 0."""
    fill = numpy_helper.from_array(np.array([length], np.int64))
    nodes = [
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("Shape", ["x"], ["size"], start=0, end=1),
        helper.make_node("ConstantOfShape", ["size"], ["length"], value=fill),
        helper.make_node("Cast", ["length"], ["float"], to=onnx.TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "one"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Add", ["float", "none" if moves else "zero"], ["n"]),
    ]
    weights = {"zero": np.zeros(1, np.float32), "one": np.int64([1])}
    return model(nodes, {"x": ["batch", 6]}, {"y": ["batch", 6], "n": ["batch"]}, weights)


def only_first_row_right() -> onnx.ModelProto:
    """Equal at batch 1, wrong from the second row of a batch on."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "one", "zero"], ["head"]),
        helper.make_node("Slice", ["x", "one", "end", "zero"], ["rest"]),
        helper.make_node("Neg", ["rest"], ["wrong"]),
        helper.make_node("Concat", ["head", "wrong"], ["y"], axis=0),
    ]
    weights = {"zero": np.int64([0]), "one": np.int64([1]), "end": np.int64([2**31])}
    return model(nodes, {"x": ["batch", 6]}, {"y": ["batch", 6]}, weights)


def unary_to_column(op: str) -> onnx.ModelProto:
    """The same numbers as ``unary`` gives, in another shape under another name."""
    nodes = [helper.make_node(op, ["x"], ["h"]), helper.make_node("Unsqueeze", ["h", "last"], ["z"])]
    return model(nodes, {"x": ["batch", 6]}, {"z": ["batch", 6, 1]}, {"last": np.int64([2])})


IDENTITY = unary("Identity")

KNOWN = {
    "the same model": (dense(), dense(), "passed"),
    "a weight off by a ten-thousandth": (dense(), dense(1.0001), "failed"),
    "an output renamed": (dense(), dense(out="z"), "passed"),
    "an output renamed and of other sizes": (unary("Neg"), unary_to_column("Neg"), "failed"),
    "an output missing": (two_outputs(("p", "y")), unary("Neg"), "failed"),
    "an output added": (unary("Neg"), two_outputs(("p", "y")), "failed"),
    "outputs in another order": (two_outputs(("p", "q")), two_outputs(("q", "p")), "failed"),
    "wrong for negative inputs only": (
        unary("LeakyRelu", alpha=0.3),
        unary("LeakyRelu", alpha=0.301),
        "failed",
    ),
    "wrong beyond the first row": (IDENTITY, only_first_row_right(), "failed"),
    "another rounding of halves": (unary("Round"), unary("Floor"), "failed"),
    "a constant output": (constant(), constant(), "not_checked"),
    "an output that ignores its input": (input_independent(), input_independent(), "not_checked"),
    "an output of sizes alone": (with_lengths(30), with_lengths(30), "passed"),
    "another output of sizes alone": (with_lengths(30), with_lengths(31), "failed"),
    "a constant that an input reaches": (with_lengths(30, True), with_lengths(30, True), "not_checked"),
    "a difference outranks a constant": (constant(), IDENTITY, "failed"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_every_pair_gets_its_verdict(name: str) -> None:
    a, b, verdict = KNOWN[name]
    assert netferry.verify(a, b).status == verdict


def test_a_sigmoid_near_zero_is_held_to_the_rounding_of_its_usual_scale() -> None:
    """onnxruntime's sigmoid is right to one rounding of 1; where it is 1e-5 that is a thousandth of it."""
    usual, small = (compare(np.float32([x]), np.float32([x + 6e-8])) for x in (0.5, 1e-5))
    assert usual.status == "passed"
    assert small.status == "failed"
    assert small.seen_from(0.5).status == "passed"
    assert compare(np.float32([1e-5]), np.float32([1.1e-5])).seen_from(0.5).status == "failed"
    near = compare(np.float32([3e-3]), np.float32([3e-3 + 2e-7]))
    assert near.status == "failed"
    assert near.seen_from(3e-3, reach=1.0).status == "passed"
    assert near.seen_from(3e-3, reach=0.5).status == "failed"


def test_gelu_forms_are_told_apart() -> None:
    tanh, erf = (unary("Gelu", approximate=form) for form in ("tanh", "none"))
    assert netferry.verify(erf, erf).status == "passed"
    assert netferry.verify(erf, tanh).status == "failed"


def test_the_report_says_which_output_and_which_sample_was_worst() -> None:
    report = netferry.verify(dense(), dense(1.01))
    [verdict] = report.outputs
    assert verdict.name == "y"
    assert verdict.worst_sample in report.samples
    assert verdict.comparison.max_rel == pytest.approx(0.01, rel=1e-3)


def test_the_report_is_json() -> None:
    document = json.loads(netferry.verify(dense(), dense()).to_json())
    assert document["status"] == "passed"
    assert document["outputs"][0]["name"] == "y"
    assert {"python", "numpy", "onnx"} <= document["versions"].keys()


def test_given_inputs_come_first_and_a_list_is_bound_by_position() -> None:
    report = netferry.verify(dense(), dense(), [np.ones((4, 3), np.float32)])
    assert report.status == "passed"
    assert report.samples[0] == "given"


def test_inputs_of_the_same_names_are_bound_by_name_in_whatever_order() -> None:
    subtract = [helper.make_node("Sub", ["a", "b"], ["y"])]
    one, other = (
        model(subtract, {name: ["batch", 3] for name in order}, {"y": ["batch", 3]}) for order in ("ab", "ba")
    )
    assert netferry.verify(one, other).status == "passed"
    given = {"b": np.ones((2, 3), np.float32), "a": np.full((2, 3), 3, np.float32)}
    assert netferry.verify(one, other, given).status == "passed"


def test_a_size_that_only_the_target_refuses_is_a_difference() -> None:
    frozen = model([helper.make_node("Identity", ["x"], ["y"])], {"x": [1, 6]}, {"y": [1, 6]})
    report = netferry.verify(IDENTITY, frozen)
    assert report.status == "failed"
    assert "only the source runs here" in report.outputs[0].comparison.reason


SIGNATURE = Signature(
    (
        TensorSpec("tokens", np.dtype(np.int64), ("batch", "time")),
        TensorSpec("x", np.dtype(np.float32), ("batch", None, 4)),
    )
)


def test_free_axes_of_one_name_get_one_size_and_several_are_tried() -> None:
    shapes = {(s.arrays["tokens"].shape, s.arrays["x"].shape) for s in samples(SIGNATURE)}
    assert {shape[0][0] for shape in shapes} == {1, 2, 16, 128}
    assert len({shape[0][1] for shape in shapes}) >= 2
    assert all(tokens[0] == x[0] and x[2] == 4 for tokens, x in shapes)


def test_the_same_seed_makes_the_same_inputs_and_another_does_not() -> None:
    first, again, other = (list(samples(SIGNATURE, seed=seed)) for seed in (1, 1, 2))
    assert all(
        np.array_equal(a.arrays["x"], b.arrays["x"], equal_nan=True)
        for a, b in zip(first, again, strict=True)
    )
    assert not any(np.array_equal(a.arrays["x"], b.arrays["x"]) for a, b in zip(first, other, strict=True))


def test_integers_stay_within_what_the_example_shows() -> None:
    given = [Example("tokens", np.full((2, 8), 9, np.int64), {0: "batch", 1: "time"})]
    signature = Signature(SIGNATURE.inputs[:1])
    drawn = [s.arrays["tokens"] for s in samples(signature, given)]
    assert max(array.max() for array in drawn) == 9
    assert min(array.min() for array in drawn) == 0
