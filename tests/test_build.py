"""The pen that writes ONNX: layouts, names, constants."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import GraphBuilder
from netferry.converters.signature import TensorSpec
from netferry.inference.session import Session

FLOAT = np.dtype(np.float32)


def start(*dims: int | str) -> tuple[GraphBuilder, object]:
    g = GraphBuilder("test")
    return g, g.input(TensorSpec("x", FLOAT, dims))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_a_channels_last_net_has_one_transpose_at_its_input() -> None:
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal((4, c, 3, 3)).astype(np.float32) for c in (3, 4)]
    bias = rng.standard_normal(4).astype(np.float32)
    g, x = start("batch", 16, 16, 3)
    shortcut = None
    for kernel in kernels:
        x = g.transpose(
            g.Conv(g.transpose(x, layout.channels_first(4)), g.constant(kernel), pads=[1] * 4), (0, 2, 3, 1)
        )
        x = g.Relu(g.Add(x, g.constant(bias, name="bias")))
        shortcut = x if shortcut is None else g.Add(x, shortcut)
    g.output(g.transpose(shortcut, layout.channels_first(4)), "y")
    model = g.finish()
    assert operators(model).count("Transpose") == 1
    assert operators(model)[0] == "Transpose"

    image = rng.standard_normal((2, 16, 16, 3)).astype(np.float32)
    [y] = Session(model).run([image]).values()
    assert y.shape == (2, 4, 16, 16)
    assert np.abs(y - by_hand(image, kernels, bias)).max() <= 1e-5 * np.abs(y).max()


def by_hand(image: np.ndarray, kernels: list[np.ndarray], bias: np.ndarray) -> np.ndarray:
    x, shortcut = image.transpose(0, 3, 1, 2).astype(np.float64), None
    for kernel in kernels:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        x = np.maximum(np.einsum("bchwij,ocij->bohw", windows, kernel) + bias[:, None, None], 0)
        shortcut = x if shortcut is None else x + shortcut
    assert shortcut is not None
    return shortcut


def test_two_layouts_that_meet_are_brought_together() -> None:
    g, x = start(2, 3, 4)
    turned = g.transpose(x, (0, 2, 1))
    g.output(g.Add(turned, g.Reshape(x, g.ints(2, 4, 3))), "y")
    array = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    [y] = Session(g.finish()).run([array]).values()
    assert np.array_equal(y, array.transpose(0, 2, 1) + array.reshape(2, 4, 3))


def test_transposing_there_and_back_writes_nothing() -> None:
    g, x = start(2, 3, 4)
    g.output(g.Relu(g.transpose(g.transpose(x, (2, 0, 1)), (1, 2, 0))), "y")
    assert operators(g.finish()) == ["Relu"]


@pytest.mark.parametrize("perm", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_permutations_compose_as_numpy_does(perm: layout.Perm) -> None:
    array = np.arange(24).reshape(2, 3, 4)
    other = (1, 0, 2)
    both = layout.compose(perm, other)
    assert np.array_equal(array.transpose(perm).transpose(other), array.transpose(both))
    assert layout.compose(perm, layout.inverse(perm)) == layout.identity(3)


def test_weights_keep_their_names_and_equal_constants_are_written_once() -> None:
    g, x = start("batch", 3)
    weight = np.ones((4, 3), np.float32)
    y = g.Gemm(x, g.constant(weight, name="fc/kernel:0"), transB=1)
    y = g.Add(g.Mul(y, g.scalar(2.0, y)), g.scalar(2.0, y))
    g.output(y, "y")
    assert list(g.finish().graph.initializers) == ["fc/kernel:0", "constant"]


def test_names_of_inputs_and_outputs_are_kept_exactly() -> None:
    g, x = start("batch", 3)
    with g.scope("y"):
        hidden = g.Relu(x)
    g.output(g.Neg(hidden), "out/ütput:0")
    g.output(x, "y_again")
    model = g.finish()
    assert [value.name for value in model.graph.outputs] == ["out/ütput:0", "y_again"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_nodes_that_nothing_needs_are_dropped() -> None:
    g, x = start("batch", 3)
    g.Exp(x)
    g.output(g.Relu(x), "y")
    assert operators(g.finish()) == ["Relu"]


def test_free_sizes_stay_free_through_inference() -> None:
    g, x = start("batch", "time", 8)
    y = g.MatMul(x, g.constant(np.ones((8, 5), np.float32)))
    assert y.dims == ("batch", "time", 5)


def test_inputs_that_do_not_fit_are_named() -> None:
    g, x = start("batch", 3)
    with pytest.raises(CannotConvert, match=r"Gemm \(x float32\[batch, 3\]"):
        g.Gemm(x, g.constant(np.ones((5, 4), np.float32)))
