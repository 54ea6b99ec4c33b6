"""The inputs on which a verdict is found: sizes that the source runs at, numbers that it takes, what the caller says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from models import model, saved
from onnx import TensorProto, helper
from torch import nn

import netferry
from netferry.converters import calling
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import (
    Example,
    Range,
    Signature,
    TensorSpec,
    aligned,
    completed,
    examples_from_flags,
)
from netferry.inference.session import Session
from netferry.inference.watched import Watched
from netferry.validation.comparison.judge import Judge
from netferry.validation.comparison.truth import Double
from netferry.validation.pair import paired
from netferry.validation.samples.effort import Effort, too_heavy, weigher
from netferry.validation.samples.explore import Made, made_for
from netferry.validation.samples.inputs import ENOUGH, GRID, GRIDDED, Maker, Sample, samples
from netferry.validation.samples.plan import Share, planned
from netferry.validation.samples.sizes import Sizes, explored, sizes_of

FLOAT = np.dtype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, [name.strip("-") for name in inputs.split()], outputs.split(), **attributes)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def graph(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]],
    weights: Mapping[str, np.ndarray], dtypes: Mapping[str, int] | None = None, opset: int = 17,
) -> onnx.ModelProto:  # fmt: skip
    """A model with free sizes where names (or None) stand; ``dtypes`` of inputs and outputs that are no floats."""
    kinds = dtypes or {}
    ins, outs = (
        [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), d) for n, d in side.items()]
        for side in (inputs, outputs)
    )
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    made = helper.make_graph(list(nodes), "g", ins, outs, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def made(of: onnx.ModelProto, flags: Sequence[str] = (), **options: Any) -> Made:
    session = Session(of)
    given = examples_from_flags(flags) if flags else None
    return made_for(session, [(of, session.signature)], given, 5, **options)


def arrays(of: onnx.ModelProto, name: str, **options: Any) -> list[np.ndarray]:
    return [sample.arrays[name] for sample in made(of, **options).samples]


# ---- sizes --------------------------------------------------------------------------------------------

IMAGES = Signature((TensorSpec("x", FLOAT, ("batch", 3, "h", "w")),))
SHOWN = [Example("x", np.zeros((1, 3, 224, 224), np.float32), {0: "batch", 2: "h", 3: "w"}, asked=True)]


def extents(accepts: Any, given: Sequence[Example] | None = SHOWN) -> set[tuple[int, int]]:
    found = explored(IMAGES, given, accepts)
    return {(sizes["h"], sizes["w"]) for sizes in (found.usual, *found.rows, *found.extents)}


def test_heights_and_widths_are_tried_at_other_factors_of_the_example() -> None:
    assert {(224, 224), (336, 448), (448, 336)} <= extents(lambda _: True)


def test_sizes_are_multiples_where_the_source_refuses_others() -> None:
    tried = extents(lambda sizes: sizes["h"] % 32 == 0 and sizes["w"] % 64 == 0, given=None)
    assert all(h % 32 == 0 and w % 64 == 0 for h, w in tried)
    assert len({h for h, _ in tried}) > 1
    assert len({w for _, w in tried}) > 1


def test_axes_that_are_tied_to_each_other_step_together() -> None:
    assert len(extents(lambda sizes: sizes["h"] == sizes["w"])) >= 3


def test_an_axis_beside_one_that_cannot_move_is_tried_alone() -> None:
    tried = extents(lambda sizes: sizes["h"] == 224)
    assert {h for h, _ in tried} == {224}
    assert len({w for _, w in tried}) > 1


def test_a_source_with_an_upper_bound_gets_smaller_sizes() -> None:
    assert len(extents(lambda sizes: max(sizes["h"], sizes["w"]) <= 224)) > 1


def test_sizes_that_cost_too_much_are_not_tried() -> None:
    def rows(sizes: Sizes) -> int:
        return sizes["batch"]

    found = explored(IMAGES, SHOWN, lambda _: True, lambda sizes, _usual: rows(sizes) > 3)
    assert max(map(rows, (found.usual, *found.rows, *found.extents))) == 3


def test_a_free_batch_gets_many_rows_where_these_cost_little() -> None:
    classes = TensorSpec("y", np.dtype(np.int64), ("batch", "h", "w"))
    whole = Signature(IMAGES.inputs, (classes,))
    assert [sizes["batch"] for sizes in explored(whole, SHOWN, lambda _: True).many] == [128]
    dear = explored(whole, SHOWN, lambda _: True, lambda sizes, _usual: sizes["batch"] > 40)
    assert [sizes["batch"] for sizes in dear.many] == [32]
    assert not explored(whole, SHOWN, lambda _: True, lambda sizes, _usual: sizes["batch"] > 16).many
    ids = Signature((TensorSpec("x", np.dtype(np.int64), ("batch", "time")),))
    assert [sizes["batch"] for sizes in explored(ids, None, lambda _: True).many] == [128]
    assert not explored(Signature((TensorSpec("x", FLOAT, (1, 3, "h", "w")),)), None, lambda _: True).many


@pytest.mark.parametrize("seed", range(4))
def test_a_limit_that_a_normalisation_almost_hides_is_found(seed: int) -> None:
    """At 30 times normal a row beyond the limit moves the output by a hundredth, and most rows do not move it at all."""
    nodes = [
        node("Clip", "x low high", "c"), node("MatMul", "c w", "a"), node("LayerNormalization", "a g", "n"),
        node("MatMul", "n v", "s"), node("Softmax", "s", "y"),
    ]  # fmt: skip
    weights = {"w": normal(6, 16), "g": np.ones(16, np.float32), "v": normal(16, 4, seed=1)}
    ends = [{"low": np.float32(-one), "high": np.float32(one)} for one in (200, 60)]
    wide, narrow = (
        graph(nodes, {"x": ["batch", 6]}, {"y": ["batch", 4]}, {**weights, **limits}) for limits in ends
    )
    assert netferry.verify(wide, wide, seed=seed).status == "passed"
    assert netferry.verify(wide, narrow, seed=seed).status == "failed"


def test_a_class_that_is_another_one_once_in_a_thousand_is_found() -> None:
    """An epsilon that is off moves few scores past another one: a few rows of any kind show none of them."""
    weight = normal(40, 5)
    moved = np.where(np.arange(40)[:, None] == 3, weight * np.float32(1.02), weight)
    head, other = (
        graph(
            [node("MatMul", "x w", "s"), node("ArgMax", "s", "y", axis=2, keepdims=0)],
            {"x": ["batch", 16, 40]}, {"y": ["batch", 16]}, {"w": one}, {"y": TensorProto.INT64},
        )
        for one in (weight, moved)
    )  # fmt: skip
    assert [netferry.verify(head, head, seed=seed).status for seed in (1, 2)] == ["passed"] * 2
    assert [netferry.verify(head, other, seed=seed).status for seed in (1, 2, 3, 4)] == ["failed"] * 4


@pytest.mark.parametrize("name", ["N", "batch_size", "unk__7", None])
def test_a_leading_free_axis_is_a_batch_whatever_its_name(name: str | None) -> None:
    dense = graph([node("MatMul", "x w", "y")], {"x": [name, 3]}, {"y": [name, 4]}, {"w": normal(3, 4)})
    assert {array.shape[0] for array in arrays(dense, "x")} == {1, 2, 16, 128}


def stft(least: int = 512) -> onnx.ModelProto:
    """A window of 512 samples over sound of any length, as a convolution."""
    nodes = [
        node("Unsqueeze", "x one", "h"), node("Conv", "h w", "c", strides=[160]), node("Abs", "c", "y"),
    ]  # fmt: skip
    weights = {"w": normal(4, 1, least), "one": np.int64([1])}
    return graph(nodes, {"x": ["batch", "samples"]}, {"y": ["batch", 4, "frames"]}, weights)


def test_sizes_grow_until_the_source_runs() -> None:
    assert min(array.shape[1] for array in arrays(stft(), "x")) >= 512
    report = netferry.convert(stft(), "pytorch", seed=1).report
    assert report is not None
    assert report.status == "passed"
    assert report.unchecked_axes == ()
    assert report.samples


def test_two_axes_with_different_needs_are_both_met() -> None:
    nodes = [node("Conv", "a v", "p"), node("Conv", "b w", "q"), node("ReduceMean", "p", "m", axes=[2]),
             node("ReduceMean", "q", "n", axes=[2]), node("Add", "m n", "y")]  # fmt: skip
    weights = {"v": normal(4, 1, 3000), "w": normal(4, 128, 1)}
    both = graph(nodes, {"a": ["N", 1, "samples"], "b": ["N", 128, 7]}, {"y": ["N", 4, 1]}, weights)
    assert min(array.shape[2] for array in arrays(both, "a")) >= 3000


def gru(batch: Any = 1) -> onnx.ModelProto:
    """Frames of any number in any batch, and a first state that has one row alone."""
    nodes = [node("Transpose", "x", "t", perm=[1, 0, 2]), node("GRU", "t W R - - h0", "Y yh", hidden_size=4)]
    weights = {"W": normal(1, 12, 3), "R": normal(1, 12, 4, seed=1)}
    return graph(
        nodes, {"x": ["N", "frames", 3], "h0": [1, batch, 4]}, {"yh": [1, "N", 4]}, weights, opset=14
    )


def test_a_batch_that_is_tied_to_a_state_of_one_row_is_one_and_named() -> None:
    found = made(gru())
    assert {sample.arrays["x"].shape[0] for sample in found.samples} == {1}
    assert len({sample.arrays["x"].shape[1] for sample in found.samples}) > 1
    report = netferry.convert(gru(), "pytorch", seed=2).report
    assert report is not None
    assert report.status == "passed"
    assert report.unchecked_axes == ("axis N",)
    assert report.to_text().startswith("passed; not checked: axis N: ")
    assert report.to_dict()["unchecked_axes"] == ["axis N"]


class Frozen(nn.Module):
    """Right at 224 x 224 and wherever sizes are alike; what the copy does elsewhere is ``wrong``."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.wrong = wrong
        self.pool = nn.AvgPool2d(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(x)
        h, w = y.shape[2:]
        return y.transpose(2, 3).reshape(y.shape[0], 1, h, w) if self.wrong and h != w else y


def test_a_model_that_is_wrong_at_unlike_heights_and_widths_fails() -> None:
    shown = {"x": normal(1, 1, 64, 64)}
    free = {"x": {0: "batch", 2: "h", 3: "w"}}
    assert netferry.verify(Frozen(False), Frozen(False), shown, dynamic=free, seed=3).status == "passed"
    report = netferry.verify(Frozen(False), Frozen(True), shown, dynamic=free, seed=3)
    assert report.status == "failed"


class Gridded(nn.Module):
    """A detector's head: takes multiples of 32 alone, and adds a grid; a ``cached`` grid is that of its first size."""

    def __init__(self, cached: int | None = None) -> None:
        super().__init__()
        self.cached = cached

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise ValueError("multiples of 32 are wanted")
        y = nn.functional.avg_pool2d(x, 32)
        rows = torch.arange(y.shape[2], device=x.device).float()
        return y + (rows if self.cached is None else rows % self.cached)[:, None]


def test_a_cached_grid_shows_where_the_source_takes_multiples_alone() -> None:
    shown, free = {"x": normal(1, 1, 64, 64)}, {"x": {0: "batch", 2: "h", 3: "w"}}
    same = netferry.verify(Gridded(), Gridded(), shown, dynamic=free, seed=4)
    assert (same.status, same.unchecked_axes) == ("passed", ())
    assert netferry.verify(Gridded(), Gridded(cached=2), shown, dynamic=free, seed=4).status == "failed"


def test_an_axis_that_the_source_never_takes_at_another_size_is_named_and_passes() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(x.shape[0], 3, 20).relu()

    shown, free = {"x": normal(2, 60)}, {"x": {0: "batch", 1: "features"}}
    report = netferry.verify(Fixed(), Fixed(), shown, dynamic=free, seed=4)
    assert (report.status, report.unchecked_axes) == ("passed", ("axis features",))


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
def test_a_size_of_less_than_no_rows_is_a_free_one(to: str) -> None:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "y")]
    old = graph(nodes, {"x": [-1, 4]}, {"y": [-1, 3]}, {"w": normal(4, 3)}, opset=11)
    report = netferry.convert(old, to, seed=1).report
    assert report is not None
    assert (report.status, report.unchecked_axes) == ("passed", ())


# ---- what inputs hold ---------------------------------------------------------------------------------


def lookup(dtype: int, cast: bool) -> onnx.ModelProto:
    nodes = [
        *([node("Cast", "ids", "whole", to=TensorProto.INT32)] if cast else []),
        node("Reshape", f"{'whole' if cast else 'ids'} flat", "long"),
        node("Gather", "table long", "y"),
    ]
    weights = {"table": normal(7, 3), "flat": np.int64([-1])}
    return graph(nodes, {"ids": ["N", "time"]}, {"y": ["rows", 3]}, weights, {"ids": dtype})


@pytest.mark.parametrize(
    ("dtype", "cast"), [(TensorProto.INT64, False), (TensorProto.INT64, True), (TensorProto.FLOAT, True)]
)
def test_ids_cover_the_rows_of_the_table_that_they_look_into(dtype: int, cast: bool) -> None:
    drawn = np.concatenate([array.reshape(-1) for array in arrays(lookup(dtype, cast), "ids")])
    assert set(drawn.tolist()) == set(range(7))


@pytest.mark.parametrize("order", [None, (1, 0)])
def test_ids_cover_the_rows_of_a_table_that_is_dequantised_and_transposed(
    order: Sequence[int] | None,
) -> None:
    nodes = [
        node("DequantizeLinear", "table scale zero", "floats"),
        node("Transpose", "floats", "turned", **({"perm": order} if order else {})),
        node("Gather", "turned ids", "y"),
    ]
    table = np.random.default_rng(0).integers(-99, 99, (3, 7)).astype(np.int8)
    weights = {"table": table, "scale": np.float32(0.1), "zero": np.int8(3)}
    made_here = graph(nodes, {"ids": ["N", 8]}, {"y": ["N", 8, 3]}, weights, {"ids": TensorProto.INT64})
    drawn = np.concatenate([array.reshape(-1) for array in arrays(made_here, "ids")])
    assert set(drawn.tolist()) == set(range(7))


def test_ids_of_a_file_are_ranged_too(tmp_path: Any) -> None:
    onnx.save(lookup(TensorProto.FLOAT, True), tmp_path / "lookup.onnx")
    assert (
        netferry.verify(str(tmp_path / "lookup.onnx"), str(tmp_path / "lookup.onnx"), seed=1).status
        == "passed"
    )


def lengths(layout: str = "x") -> onnx.ModelProto:
    nodes = [node("LSTM", "x W R - n", "Y yh", hidden_size=4)]
    weights = {"W": normal(1, 16, 3), "R": normal(1, 16, 4, seed=1)}
    inputs = {"x": ["time", "N", 3], "n": ["N"]}
    return graph(nodes, inputs, {"yh": [1, "N", 4]}, weights, {"n": TensorProto.INT32}, opset=14)


def test_lengths_lie_between_one_and_the_number_of_steps() -> None:
    for sample in made(lengths()).samples:
        steps = sample.arrays["x"].shape[0]
        assert sample.arrays["n"].min() >= 1
        assert sample.arrays["n"].max() <= steps
    assert max(array.max() for array in arrays(lengths(), "n")) > 16
    report = netferry.convert(lengths(), "pytorch", seed=1).report
    assert report is not None
    assert report.status == "passed"


def test_what_is_called_a_length_measures_the_axis_beside_the_batch() -> None:
    spec = TensorSpec("x_lengths", np.dtype(np.int64), ("batch",))
    signature = Signature((TensorSpec("x", FLOAT, ("batch", "time", 8)), spec))
    for sample in samples(signature, seed=3):
        n = sample.arrays["x_lengths"]
        assert n.min() >= 1
        assert n.max() <= sample.arrays["x"].shape[1]


def masked(step: int = 1) -> onnx.ModelProto:
    """Rows of samples, of which only so many count; every ``step`` of them gives one output."""
    nodes = [
        node("Shape", "x", "size", start=1, end=2), node("Squeeze", "size", "count"), node("Range", "zero count one", "places"),
        node("Unsqueeze", "n last", "ends"), node("Less", "places ends", "mask"), node("Where", "mask x none", "kept"),
        node("Pad", "kept pads", "wide"), node("STFT", "wide hop window", "f"), node("ReduceSumSquare", "f over", "p", keepdims=0),
        node("Div", "n hop", "frames"), node("Shape", "p", "rows", start=1, end=2), node("Squeeze", "rows", "many"),
        node("Range", "zero many one", "at"), node("Unsqueeze", "frames last", "until"), node("Less", "at until", "seen"),
        node("Unsqueeze", "seen last3", "seen3"), node("Where", "seen3 p none", "y"),
    ]  # fmt: skip
    weights = {
        "zero": np.asarray(0), "one": np.asarray(1), "last": np.asarray([1]), "last3": np.asarray([2]), "none": np.float32(0),
        "pads": np.asarray([0, 8, 0, 8]), "hop": np.asarray(step), "window": np.hanning(16).astype(np.float32), "over": np.asarray([3]),
    }  # fmt: skip
    return graph(
        nodes, {"x": ["b", "N"], "n": ["b"]}, {"y": ["b", "T", 9]}, weights, {"n": TensorProto.INT64}, 18
    )


def test_lengths_that_are_compared_with_positions_lie_within_their_axis() -> None:
    for sample in made(masked()).samples:
        assert sample.arrays["n"].min() >= 1
        assert sample.arrays["n"].max() <= sample.arrays["x"].shape[1]
    assert max(array.max() for array in arrays(masked(), "n")) > 16


@pytest.mark.parametrize("table_first", [True, False])
def test_limits_that_a_table_is_held_against_let_some_of_it_through(table_first: bool) -> None:
    """Of a band that lets nothing through the softmax is NaN, and tells nothing."""
    nodes = [
        *(
            [node("GreaterOrEqual", "table low", "above"), node("Less", "table high", "below")]
            if table_first
            else [node("LessOrEqual", "low table", "above"), node("Greater", "high table", "below")]
        ),
        node("And", "above below", "band"),
        node("Where", "band x none", "kept"),
        node("Softmax", "kept", "y"),
    ]
    weights = {"table": np.geomspace(40, 2000, 30).astype(np.float32), "none": np.float32(-np.inf)}
    made_here = graph(nodes, {"x": ["N", 30], "low": [], "high": []}, {"y": ["N", 30]}, weights)
    for sample in made(made_here).samples:
        assert 40 <= sample.arrays["low"] < sample.arrays["high"] <= 2000
    report = netferry.convert(made_here, "pytorch", seed=1).report
    assert report is not None
    assert report.status == "passed", report.to_text()


def test_sizes_grow_while_the_output_is_one_number_over_and_over() -> None:
    """A recording shorter than 160 samples has no frame: all outputs are 0."""
    report = netferry.convert(masked(160), "pytorch", seed=1, quick=True).report
    assert report is not None
    assert report.status == "passed", report.to_text()


def test_a_model_that_gives_one_number_at_every_size_is_still_run() -> None:
    zero = graph(
        [node("Mul", "x nothing", "y")], {"x": ["b", "N"]}, {"y": ["b", "N"]}, {"nothing": np.float32(0)}
    )
    found = made(zero, quick=True)
    assert found.samples
    assert found.outputs


def test_a_divisor_is_not_zero() -> None:
    nodes = [node("Div", "a b", "y")]
    whole = dict.fromkeys("aby", TensorProto.INT64)
    quotient = graph(nodes, {"a": ["N", 4], "b": ["N", 4]}, {"y": ["N", 4]}, {}, whole)
    assert min(array.min() for array in arrays(quotient, "b")) == 1
    assert min(array.min() for array in arrays(quotient, "a")) == 0


def test_boxes_are_cut_out_of_images_that_are_there() -> None:
    nodes = [node("RoiAlign", "x boxes which", "y", output_height=2, output_width=2)]
    inputs = {"x": ["N", 2, 16, 16], "boxes": ["R", 4], "which": ["R"]}
    aligned_ = graph(nodes, inputs, {"y": ["R", 2, 2, 2]}, {}, {"which": TensorProto.INT64})
    for sample in made(aligned_).samples:
        assert sample.arrays["which"].min() >= 0
        assert sample.arrays["which"].max() < sample.arrays["x"].shape[0]


def test_boxes_in_one_table_have_their_images_in_the_first_column() -> None:
    nodes = [
        node("Gather", "rois zero", "first", axis=1), node("Cast", "first", "which", to=TensorProto.INT64),
        node("Slice", "rois one five one", "boxes"),
        node("RoiAlign", "x boxes which", "y", output_height=2, output_width=2),
    ]  # fmt: skip
    weights = {"zero": np.int64(0), "one": np.int64([1]), "five": np.int64([5])}
    one = graph(nodes, {"x": ["N", 2, 16, 16], "rois": ["R", 5]}, {"y": ["R", 2, 2, 2]}, weights)
    for sample in made(one).samples:
        which = sample.arrays["rois"][:, 0]
        assert np.array_equal(which, np.rint(which))
        assert 0 <= which.min() <= which.max() < sample.arrays["x"].shape[0]


def test_a_range_counts_from_the_axis_of_another_input() -> None:
    within = Range(0, -1, (1, 0))
    signature = Signature((TensorSpec("i", np.dtype(np.int64), ("n",)), TensorSpec("x", FLOAT, ("rows", 2))))
    drawn = Maker(signature, ranges={0: [within]}).sample("normal", {"n": 500, "rows": 6}).arrays["i"]
    assert set(drawn.tolist()) == set(range(6))


class Looked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 3)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.table(ids.long()) * scale


def test_pytorch_ids_are_the_rows_of_the_embedding_that_they_reach() -> None:
    from netferry.converters.pytorch.bounds import ranges

    given = [
        Example("ids", np.float32([[0, 1, 1]]), {0: "batch"}),
        Example("scale", normal(1, 3, 1), {0: "batch"}),
    ]
    assert ranges(Looked(), given) == {0: [Range(0, 39)]}


def test_keras_ids_are_the_rows_of_the_embedding_that_they_reach() -> None:
    keras = pytest.importorskip("keras")
    from netferry.converters.tensorflow.bounds import ranges

    for dtype in ("int32", "float32"):
        ids, other = keras.Input((6,), dtype=dtype), keras.Input((6, 4))
        rows = keras.layers.Embedding(11, 4)(keras.layers.Reshape((6,))(ids))
        model = keras.Model([other, ids], keras.layers.Add()([rows, other]))
        assert ranges(model) == {1: [Range(0, 10)]}
        report = netferry.convert(model, "onnx", seed=1).report
        assert report is not None
        assert report.status == "passed"


# ---- what the caller says -----------------------------------------------------------------------------


def strip(height: int = 48) -> onnx.ModelProto:
    """Lines of text: one height alone, which the file does not say, and any width."""
    nodes = [node("Conv", "x w", "h", strides=[1, 2]), node("Reshape", "h lines", "y")]
    weights = {"w": normal(4, 3, height, 3), "lines": np.int64([0, 4, -1])}
    return graph(nodes, {"x": ["N", 3, "h", "w"]}, {"y": ["N", 4, "steps"]}, weights)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_what_the_caller_says_of_sizes_rules_the_samples_of_both_sides(to: str) -> None:
    shown = examples_from_flags(["x:batch,3,48,w=320"])
    report = netferry.convert(strip(), to, inputs=shown, seed=1).report
    assert report is not None
    assert (report.status, report.unchecked_axes) == ("passed", ())
    found = made(strip(), ["x:batch,3,48,w=320"])
    assert {sample.arrays["x"].shape[2] for sample in found.samples} == {48}
    assert 320 in {sample.arrays["x"].shape[3] for sample in found.samples}


def test_an_axis_that_is_said_to_be_free_and_is_fixed_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be free"):
        made(strip(), ["x:batch,c=3,48,w=320"])


def two_inputs() -> onnx.ModelProto:
    return graph([node("Sub", "a b", "y")], {"a": ["N", 3], "b": ["N", 3]}, {"y": ["N", 3]}, {})


def test_some_inputs_may_be_given_and_the_others_are_made() -> None:
    array = np.full((5, 3), 7, np.float32)
    report = netferry.verify(two_inputs(), two_inputs(), {"b": array}, seed=1)
    assert (report.status, report.samples[0]) == ("passed", "given")
    first = made_for(
        Session(two_inputs()), [(two_inputs(), Session(two_inputs()).signature)], examples("b", array)
    ).samples[0]
    assert np.array_equal(first.arrays["b"], array)
    assert first.arrays["a"].shape == (5, 3)


def examples(name: str, array: np.ndarray) -> tuple[Example, ...]:
    return (Example(name, array, {0: "batch"}),)


def test_an_input_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match="no such input"):
        completed(examples("c", normal(2, 3)), Session(two_inputs()).signature.inputs)


class Difference(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - b


def test_named_inputs_of_pytorch_may_come_in_any_order() -> None:
    feed = {"b": normal(2, 3, seed=1), "a": normal(2, 3)}
    done = netferry.convert(Difference(), "onnx", inputs=feed, seed=1)
    assert done.report is not None
    assert done.report.status == "passed"
    [y] = Session(done.model).run(feed).values()
    assert np.array_equal(y, feed["a"] - feed["b"])


def test_examples_are_put_in_order_only_where_all_names_are_known() -> None:
    given = [*examples("b", normal(1, 1)), *examples("a", normal(1, 1))]
    assert [one.name for one in aligned(given, ["a", "b", "c"])] == ["a", "b"]
    assert [one.name for one in aligned(given, ["a", "x"])] == ["b", "a"]


# ---- outputs ------------------------------------------------------------------------------------------


def named(ours: str, swap: bool = False) -> onnx.ModelProto:
    first, second = ours.split()
    nodes = [helper.make_node("Relu", ["x"], [first]), helper.make_node("Neg", ["x"], [second])]
    outputs = [first, second] if not swap else [second, first]
    return model(nodes, {"x": ["batch", 6]}, {name: ["batch", 6] for name in outputs})


def test_outputs_that_are_called_otherwise_are_paired_by_position_and_the_report_says_so() -> None:
    report = netferry.verify(named("logits boxes"), named("output_0 output_1"), seed=1)
    assert report.status == "passed"
    assert [one.name for one in report.outputs] == ["logits", "boxes"]
    assert any("logits with output_0, boxes with output_1" in note for note in report.notes)
    assert netferry.verify(named("p q"), named("y z", swap=True), seed=1).status == "failed"


def test_the_caller_may_say_which_output_is_which() -> None:
    pair = named("p q"), named("y z", swap=True)
    assert netferry.verify(*pair, outputs={"p": "y", "q": "z"}, seed=1).status == "passed"
    assert (
        netferry.verify(named("p q"), named("q p"), outputs={"p": "q", "q": "p"}, seed=1).status == "passed"
    )
    with pytest.raises(UsageError, match="no output 'nowhere'"):
        netferry.verify(*pair, outputs={"p": "nowhere"}, seed=1)


# ---- seeds and data -----------------------------------------------------------------------------------


def dense() -> onnx.ModelProto:
    return graph([node("MatMul", "x w", "y")], {"x": ["N", 3]}, {"y": ["N", 4]}, {"w": normal(3, 4)})


@pytest.mark.fresh_seed
def test_a_seed_is_drawn_anew_and_told_and_repeats_the_comparison() -> None:
    reports = [netferry.verify(dense(), dense()) for _ in range(2)]
    assert reports[0].seed != reports[1].seed
    assert reports[0].to_text().splitlines()[1] == f"  seed {reports[0].seed}"
    again = netferry.verify(dense(), dense(), seed=reports[0].seed)
    assert again.to_json() == reports[0].to_json()
    converted = [netferry.convert(dense(), "pytorch").report for _ in range(2)]
    assert len({report.seed for report in converted if report is not None}) == 2


@pytest.mark.fresh_seed
def test_a_conversion_writes_the_same_bytes_whatever_its_seed(tmp_path: Any) -> None:
    for place, seed in (("a", 1), ("b", None)):
        netferry.convert(dense(), destination=tmp_path / f"{place}.onnx", seed=seed)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_rows_of_data_come_first_and_the_certificate_wants_them_again(tmp_path: Any) -> None:
    np.save(tmp_path / "rows.npy", normal(40, 3))
    onnx.save(dense(), tmp_path / "a.onnx")
    pair, proof = (tmp_path / "a.onnx", tmp_path / "a.onnx"), tmp_path / "proof.json"
    report = netferry.verify(*pair, data=tmp_path / "rows.npy", certificate=proof)
    assert report.status == "passed"
    assert report.samples[:2] == ("16 rows of rows.npy", "1 row of rows.npy")
    assert netferry.check(proof, data=tmp_path / "rows.npy").holds
    with pytest.raises(UsageError, match=r"rows of rows\.npy"):
        netferry.check(proof)
    np.save(tmp_path / "rows.npy", normal(40, 3, seed=2))
    assert netferry.check(proof, data=tmp_path / "rows.npy").changed


class Doubled(nn.Module):
    """Doubles what lies between 1000 and 5000, where no made input lies, or leaves it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where((x > 1000) & (x < 5000), x * self.factor, x)


def test_a_fault_that_only_real_rows_show_is_found_with_data(tmp_path: Any) -> None:
    pair, rows = (Doubled(1), Doubled(2)), tmp_path / "rows.npy"
    np.save(rows, np.float32([[1, 2, 4000], [3, 4, 5]]))
    shown = {"x": normal(2, 3)}
    assert netferry.verify(*pair, shown, seed=1).status == "passed"
    assert netferry.verify(*pair, shown, data=rows, seed=1).status == "failed"
    assert netferry.bisect(*pair, shown, data=rows, seed=1).sample == "2 rows of rows.npy"


def test_columns_without_data_are_refused() -> None:
    with pytest.raises(UsageError, match="for data"):
        netferry.verify(dense(), dense(), columns={"x": ["a"]})


def test_quick_and_samples_bound_what_a_conversion_tries() -> None:
    def tried(**options: Any) -> int:
        report = netferry.convert(dense(), "pytorch", seed=1, **options).report
        assert report is not None
        return len(report.samples)

    assert tried(samples=2) == 2
    assert 2 < tried(quick=True) < tried()


def test_the_progress_of_a_conversion_names_its_stages_and_what_is_left() -> None:
    told: list[tuple[int, int, str]] = []
    netferry.convert(dense(), "pytorch", seed=1, progress=lambda *step: told.append(step))
    words = [what for _, _, what in told]
    assert words[0] == "reading; then exporting, importing, verifying"
    assert any(what.startswith("verifying 1 of ") for what in words)
    assert words[-1] == "done"
    assert told[-1][0] == told[-1][1] == max(whole for _, whole, _ in told)


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_the_command_line_takes_values_beside_sizes(tmp_path: Any, kind: str) -> None:
    from netferry.cli.options import examples_of, outputs_of

    np.save(tmp_path / "x.npy", normal(2, 3))
    np.savez(tmp_path / "x.npz", x=normal(2, 3))
    x, m = examples_of([f"x={tmp_path}/x.{kind}", "m:2,3:i64"])
    assert (x.name, m.name) == ("x", "m")
    assert np.array_equal(x.array, normal(2, 3))
    assert (dict(x.free), dict(m.free)) == ({0: "batch"}, {0: "batch"})
    assert outputs_of(["a=b", "c=d"]) == {"a": "b", "c": "d"}
    with pytest.raises(UsageError, match="A=B"):
        outputs_of(["a"])


def test_strict_wants_every_free_axis_tried(tmp_path: Any) -> None:
    onnx.save(gru(), tmp_path / "gru.onnx")
    command = [sys.executable, "-m", "netferry", "verify", *[str(tmp_path / "gru.onnx")] * 2]
    for flags, code in (([], 0), (["--strict"], 1)):
        done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == code
        assert done.stdout.startswith("passed; not checked: axis N: ")


# ---- what cannot be checked here, and what it costs ---------------------------------------------------


@pytest.mark.parametrize("inside", [False, True])
def test_a_model_for_which_onnxruntime_has_no_kernel_is_not_checked(inside: bool) -> None:
    class Brief(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3).bfloat16()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.linear(x.bfloat16())
            return y.float() if inside else y.relu()

    shown = normal(2, 4) if inside else normal(2, 4).astype(ml_dtypes.bfloat16)
    report = netferry.convert(Brief().eval(), "onnx", inputs={"x": shown}, seed=1).report
    assert report is not None
    assert report.status == "not_checked"
    assert "NOT_IMPLEMENTED" in report.reason


def wide(rows: Any = "N", size: int = 160) -> onnx.ModelProto:
    """Three convolutions whose activations are many times as large as weights and inputs."""
    nodes = [node("Conv", "x a", "p", pads=[1] * 4), node("Relu", "p", "q"), node("Conv", "q b", "r", pads=[1] * 4),
             node("GlobalAveragePool", "r", "y")]  # fmt: skip
    weights = {"a": normal(128, 1, 3, 3), "b": normal(128, 128, 3, 3)}
    return graph(nodes, {"x": [rows, 1, size, size]}, {"y": [rows, 128, 1, 1]}, weights)


def test_batches_are_small_where_activations_are_large() -> None:
    def most(of: onnx.ModelProto) -> int:
        pair = paired(of, of, seed=1)
        return max(sample.arrays["x"].shape[0] for sample in pair.made.samples)

    assert most(wide(size=16)) == 128
    assert most(wide(size=160)) < 8


def test_many_rows_are_left_out_where_they_take_long() -> None:
    usual = {"N": 2}
    for operations, most in ((10**6, 128), (3 * 10**8, 64), (10**10, 32)):
        signature = Signature((TensorSpec("x", FLOAT, ("N", 8)),), (TensorSpec("y", FLOAT, ("N", 8)),))
        heavy = too_heavy(lambda sizes, one=operations: Effort(one * sizes["N"], 0), signature, 0)
        assert max(rows for rows in (16, 32, 64, 128) if not heavy({"N": rows}, usual)) == most


def test_what_takes_much_memory_is_run_in_float64_only_where_it_comes_first() -> None:
    model = wide(size=400)
    pair = paired(model, model, seed=1)
    assert {sample.arrays["x"].shape[0] for sample in pair.made.samples[:-1]} == {1}
    sizes = [sizes_of(pair.made.signature, sample.arrays) for sample in pair.made.samples]
    judge = Judge(Double(model), Double(model))
    shares = planned(pair.made.samples, sizes, judge, False, pair.weigh)
    assert shares[0] == Share(price=shares[0].price)
    assert not any(share.arithmetic or share.meaning for share in shares[1:])


def test_a_small_model_gets_everything_and_a_plan_is_the_same_each_time() -> None:
    pair = paired(dense(), dense(), seed=1)
    sizes = [sizes_of(pair.made.signature, sample.arrays) for sample in pair.made.samples]
    judge = Judge(Double(dense()), Double(dense()))
    plans = [planned(pair.made.samples, sizes, judge, False, pair.weigh) for _ in range(2)]
    assert plans[0] == plans[1]
    assert all(share == Share(price=share.price) and share.price > 0 for share in plans[0])


def test_normal_inputs_at_every_size_are_kept_before_kinds_of_values() -> None:
    """Where the budget is short kinds are left out, never the axes that were promised."""
    model = wide(size=160)
    pair = paired(model, model, seed=1)
    samples_, sizes = pair.made.samples, [{"N": 1}] * len(pair.made.samples)
    judge = Judge(Double(model), Double(model))
    shares = planned(samples_, sizes, judge, True, lambda _sizes: Effort(10**12, 0))
    left_out = [sample.label for sample, share in zip(samples_, shares, strict=True) if not share.runs]
    assert left_out
    assert not any(label.startswith("normal,") for label in left_out)


def test_the_work_of_a_run_grows_with_its_rows() -> None:
    weigh = weigher([wide()])
    one, four = (weigh({"N": rows}) for rows in (1, 4))
    assert one is not None
    assert four is not None
    assert four.operations == 4 * one.operations
    assert weigher([object()])({"N": 1}) is None


def shrinking() -> onnx.ModelProto:
    """A pool that leaves no row of less than 64: onnxruntime goes on with one, PyTorch and Keras refuse it."""
    nodes = [node("Conv", "x w", "h", strides=[32, 1]), node("MaxPool", "h", "p", kernel_shape=[2, 1], strides=[2, 1]),
             node("GlobalAveragePool", "p", "y")]  # fmt: skip
    return graph(nodes, {"x": ["?", 1, "?", "?"]}, {"y": ["?", 4, 1, 1]}, {"w": normal(4, 1, 1, 1)})


def test_sizes_at_which_a_tensor_inside_is_empty_are_none_to_compare_at() -> None:
    report = netferry.convert(shrinking(), "pytorch", seed=1).report
    assert report is not None
    assert (report.status, report.unchecked_axes) == ("passed", ())


def test_free_axes_that_are_all_called_a_question_mark_are_not_one() -> None:
    spec = Session(shrinking()).signature.inputs[0]
    assert spec.dims == (None, 1, None, None)
    shapes = {
        sample.arrays["x"].shape[2:] for sample in paired(shrinking(), shrinking(), seed=1).made.samples
    }
    assert any(h != w for h, w in shapes)


def test_pytorch_lengths_measure_the_time_axis_of_the_sequences() -> None:
    from netferry.converters.pytorch.bounds import ranges

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x, n, batch_first=True, enforce_sorted=False)
            return self.gru(packed)[1]

    given = [Example("x", normal(2, 6, 3), {0: "batch"}), Example("n", np.int64([6, 2]), {0: "batch"})]
    assert ranges(Packed(), given) == {1: [Range(1, 0, (0, 1))]}


class Branching(nn.Module):
    """Does another thing from four rows on, or at four: what is traced holds above three, or at the example's batch alone."""

    def __init__(self, at: bool) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if (x.shape[0] == 4 if self.at else x.shape[0] > 3) else x + 1


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_a_batch_that_the_code_bounds_is_noted_and_varied_within(to: str) -> None:
    done = netferry.convert(Branching(False), to, inputs={"x": normal(4, 3)}, seed=1)
    assert any("batch is above 3" in note for note in done.notes)
    assert done.report is not None
    assert (done.report.status, done.report.unchecked_axes) == ("passed", ())
    assert not any(
        f"batch={rows}" in label.split(", ") for label in done.report.samples for rows in (1, 2, 3)
    )


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_a_batch_that_the_code_fixes_is_noted_and_not_varied(to: str) -> None:
    done = netferry.convert(Branching(True), to, inputs={"x": normal(4, 3)}, seed=1)
    assert any("fixed" in note for note in done.notes)
    assert done.report is not None
    assert (done.report.status, done.report.unchecked_axes) == ("passed", ())
    assert not any("batch" in label for label in done.report.samples)


def test_a_target_that_is_wrong_beyond_a_length_has_no_say_in_the_sizes() -> None:
    """What its slice leaves empty at short lengths is no reason not to try them, nor the longer ones."""

    def cut(wrong: bool) -> onnx.ModelProto:
        last = [node("Neg", "tail", "turned")] if wrong else [node("Identity", "tail", "turned")]
        nodes = [
            node("Slice", "x zero sixteen one", "head"), node("Slice", "x sixteen end one", "tail"), *last,
            node("Concat", "head turned", "y", axis=1),
        ]  # fmt: skip
        places = {"zero": [0], "sixteen": [16], "end": [2**31], "one": [1]}
        weights = {name: np.int64(place) for name, place in places.items()}
        return graph(nodes, {"x": ["batch", "time", 3]}, {"y": ["batch", "time", 3]}, weights)

    whole = graph([node("Identity", "x", "y")], {"x": ["batch", "time", 3]}, {"y": ["batch", "time", 3]}, {})
    shown, free = {"x": normal(2, 7, 3)}, {"x": {0: "batch", 1: "time"}}
    for source in (whole, cut(False)):
        assert netferry.verify(source, cut(False), shown, dynamic=free, seed=2).status == "passed"
        report = netferry.verify(source, cut(True), shown, dynamic=free, seed=2)
        assert (report.status, report.unchecked_axes) == ("failed", ())


@pytest.mark.parametrize("shape", [(2, 3), (2, 6), (3, 4, 5), (1, 1), (4,), (), (2, 60), (1, 12, 5), (17, 5)])
def test_each_place_of_a_small_input_holds_every_value_of_the_grid_in_some_sample(
    shape: tuple[int, ...],
) -> None:
    held = np.stack([one.arrays["x"] for one in _gridded(shape)])
    for place in np.moveaxis(held, list(range(-len(shape[1:]), 0)), range(len(shape[1:]))).reshape(
        -1, len(held) * (shape[0] if shape else 1)
    ):
        assert set(place.tolist()) == set(GRID)


@pytest.mark.parametrize("shape", [(2, 100), (1, 3, 20, 20)])
def test_every_value_of_the_grid_is_at_many_places_of_a_larger_input(shape: tuple[int, ...]) -> None:
    held = np.stack([one.arrays["x"].reshape(-1) for one in _gridded(shape)])
    assert len(held) < len(GRID)
    for value in GRID:
        assert (held == value).any(axis=0).sum() >= min(ENOUGH, held.shape[1]) // 2


def _gridded(shape: tuple[int, ...]) -> list[Sample]:
    signature = Signature((TensorSpec("x", FLOAT, shape),), (TensorSpec("y", FLOAT, shape),))
    return [one for one in samples(signature) if one.label.startswith(GRIDDED)]


def test_a_batch_that_the_declared_output_rules_out_is_one_and_the_report_says_so() -> None:
    nodes = [node("MatMul", "x w", "m"), node("Squeeze", "m", "s"), node("Sigmoid", "s", "y")]
    scalar = graph(nodes, {"x": ["b", 3]}, {"y": []}, {"w": normal(3, 1)})
    report = netferry.convert(scalar, "pytorch", seed=1, quick=True).report
    assert report is not None
    assert report.status == "passed", report.to_text()
    assert report.unchecked_axes == ("axis b",)


FRAMES = """
    <ir_version: 8, opset_import: ["" : 17]>
    frames (float[b, n] x) => (float[b, t, 4] y) {
        size = Shape <start = 1, end = 2> (x)
        four = Constant <value_ints = [4]> ()
        one = Constant <value_ints = [1]> ()
        eighty = Constant <value_ints = [80]> ()
        over = Mod (size, four)
        less = Sub (size, over)
        end = Sub (less, eighty)
        sixteen = Constant <value_ints = [16]> ()
        cut = Slice (x, sixteen, end, one)
        shape = Constant <value_ints = [0, -1, 4]> ()
        rows = Reshape (cut, shape)
        y = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
            body = step (float[b, 4] row) => (float[b, 4] out) { out = Tanh (row) }> (rows)
    }"""
"""Its Scan has no step below a length of some hundred, and onnxruntime ends the process there."""


def test_sizes_of_which_onnxruntime_dies_are_refused_like_others() -> None:
    made = onnx.parser.parse_model(FRAMES)
    with pytest.raises(RefusedError, match=r"onnxruntime ends its process on these inputs \(SIG"):
        Watched(made).run({"x": normal(2, 40)})
    assert Watched(made).run({"x": normal(2, 200)})["y"].shape == (2, 26, 4)
    assert weigher([made]).is_perilous
    report = netferry.convert(made, "pytorch", seed=1).report
    assert report is not None
    assert report.status == "passed", report.to_text()


def test_only_graphs_of_which_onnxruntime_might_die_are_watched() -> None:
    def divided(kind: str, by: str) -> onnx.ModelProto:
        return onnx.parser.parse_model(f"""
            <ir_version: 8, opset_import: ["" : 17]> g ({kind}[n] x, {kind}[n] z) => ({kind}[n] y)
            <{kind}[1] three = {{3}}> {{ y = Div (x, {by}) }}""")

    assert weigher([divided("int32", "z")]).is_perilous
    assert not weigher([divided("int32", "three")]).is_perilous
    assert not weigher([divided("float", "z")]).is_perilous
    assert not weigher([divided("uint8", "z")]).is_perilous
    smallest = {"x": np.int32([-(2**31)]), "z": np.int32([-1])}
    with pytest.raises(RefusedError, match="SIGFPE"):
        Watched(divided("int32", "z")).run(smallest)


def test_arrays_of_every_framework_are_taken_as_they_are(tmp_path: Path) -> None:
    """By ``convert``, whose examples they are, and by ``run``."""
    import keras
    import torch

    from netferry.converters.mxnet.live import import_mxnet

    x = np.random.default_rng(0).random((2, 3)).astype(np.float32)
    path = saved(tmp_path, dense())
    wanted = netferry.run(path, {"x": x})["y"]
    for own in (torch.from_numpy(x), keras.ops.convert_to_tensor(x), import_mxnet().nd.array(x), x.tolist()):
        (given,) = calling.examples({"x": own})
        np.testing.assert_array_equal(np.asarray(given.array, np.float32), x)
        if not isinstance(own, list):
            np.testing.assert_array_equal(netferry.run(path, {"x": own})["y"], wanted)


@pytest.mark.parametrize("dims", [(1 << 62, 3), (1 << 40,), (1 << 20, 1 << 20, 2)])
def test_sizes_at_which_no_input_can_be_made_are_refused_by_name(dims: tuple[int, ...]) -> None:
    maker = Maker(Signature((TensorSpec("wide", np.dtype(np.float32), dims),), ()))
    with pytest.raises(
        RefusedError, match=r"no input can be made of the size.*at most 4,294,967,296 numbers"
    ):
        maker.sample("normal", {})
