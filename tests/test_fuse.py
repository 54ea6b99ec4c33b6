"""Fusion: what PyTorch and netferry's own exporters write becomes the operators that it means, and gives the same.

The oracle is onnxruntime on the model as it was, at several batches and lengths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.numpy.fold import NumpyNamespace, NumpyWalk, run
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.graph.passes.rearrange import Rearrangement

Weights = Mapping[str, Any]
RNG = np.random.default_rng(20261123)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def model(signature: str, body: str, weights: Weights | None = None, opset: int = 18) -> onnx.ModelProto:
    """A model from ONNX's own text form: ``x`` is read, ``y`` is given."""
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {signature} {{ {body} }}')
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()
    )
    return made


def operators(made: Plan) -> list[str]:
    return [node.op_type for node in made.graph]


def fused(source: onnx.ModelProto, *inputs: Mapping[str, Any]) -> list[str]:
    """The operators of the plan, after it has given what onnxruntime gives for each of the inputs."""
    made = plan(source)
    session = onnxruntime.InferenceSession(source.SerializeToString())
    for feeds in inputs:
        want = session.run(None, dict(feeds))
        values = {value: feeds[str(value.name)] for value in made.graph.inputs}
        for got, expected in zip(run(NumpyWalk(made, NumpyNamespace()), values), want, strict=True):
            assert got.shape == expected.shape
            scale = max(float(np.abs(expected).max()), 1e-6)
            assert float(np.abs(got - expected).max()) / scale < 5e-6
    return operators(made)


def floats(*shapes: Sequence[int]) -> list[dict[str, Any]]:
    return [{"x": normal(*shape)} for shape in shapes]


# ---- rearrangements -------------------------------------------------------------------------------------------


def test_heads_that_are_split_and_merged_again_are_nothing() -> None:
    batch, time = Size.named("batch"), Size.named("time")
    moves = Rearrangement((batch, time, 32))
    assert moves.reshape((batch, time, 4, 8))
    moves.transpose((0, 2, 1, 3))
    assert moves.reshape((batch * 4, time, 8))
    assert moves.reshape((batch, 4, time, 8))
    moves.transpose((0, 2, 1, 3))
    assert moves.reshape((batch, time, 32))
    assert moves.steps() == []


def test_sizes_that_are_not_whole_factors_are_not_taken_apart() -> None:
    assert not Rearrangement((Size.named("n"), 6)).reshape((4, Size.named("m")))


def test_two_sizes_of_one_value_are_two_things() -> None:
    moves = Rearrangement((4, 4))
    moves.transpose((1, 0))
    assert moves.steps() == [("Transpose", [1, 0])]


def test_any_chain_of_moves_gives_what_numpy_gives() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        dims = [int(n) for n in rng.choice([1, 2, 3, 4, 6], 4)]
        x = np.arange(math.prod(dims)).reshape(dims)
        moves, y = Rearrangement(dims), x
        for _ in range(5):
            if rng.random() < 0.5:
                perm = [int(a) for a in rng.permutation(y.ndim)]
                moves.transpose(perm)
                y = y.transpose(perm)
            else:
                cuts = _regrouped(y.shape, rng)
                if not moves.reshape(cuts):
                    break
                y = y.reshape(cuts)
        else:
            got = x
            for word, how in moves.steps():
                got = got.reshape(how) if word == "Reshape" else got.transpose(how)
            np.testing.assert_array_equal(got, y)


def _regrouped(shape: Sequence[int], rng: np.random.Generator) -> list[int]:
    """The same elements in other axes: neighbours merged, one split, a 1 put in."""
    dims = list(shape)
    place = int(rng.integers(len(dims)))
    if rng.random() < 0.4 and place + 1 < len(dims):
        dims[place : place + 2] = [dims[place] * dims[place + 1]]
    elif dims[place] % 2 == 0:
        dims[place : place + 1] = [2, dims[place] // 2]
    else:
        dims.insert(place, 1)
    return dims


def test_transposes_round_elementwise_operators_cancel() -> None:
    source = model(
        "(float[n, c, h] x) => (float[n, c, h] y)",
        "t = Transpose <perm = [0, 2, 1]> (x) r = Relu (t) s = Sigmoid (r) y = Transpose <perm = [0, 2, 1]> (s)",
    )
    assert fused(source, *floats((2, 3, 4))) == ["Relu", "Sigmoid"]


def test_a_transpose_that_something_else_reads_stays_beside() -> None:
    source = model(
        "(float[n, 3] x) => (float[3, n] t, float[n, 3] y)",
        "t = Transpose <perm = [1, 0]> (x) y = Transpose <perm = [1, 0]> (t)",
    )
    assert fused(source, *floats((2, 3))) == ["Transpose", "Identity"]


# ---- linear -----------------------------------------------------------------------------------------------------


def test_matmul_and_its_bias_are_linear() -> None:
    source = model(
        "(float[n, t, 4] x) => (float[n, t, 5] y)",
        "m = MatMul (x, w) y = Add (b, m)",
        {"w": normal(4, 5), "b": normal(5)},
    )
    assert fused(source, *floats((2, 3, 4), (1, 1, 4))) == ["Linear"]


@pytest.mark.parametrize("bias", [normal(3, 5), normal(3, 1)])
def test_what_is_added_to_each_row_is_no_bias(bias: Any) -> None:
    source = model(
        "(float[3, 4] x) => (float[3, 5] y)",
        "m = MatMul (x, w) y = Add (m, b)",
        {"w": normal(4, 5), "b": bias},
    )
    assert fused(source, *floats((3, 4))) == ["Linear", "Add"]


def test_a_product_that_is_read_twice_keeps_its_bias_apart() -> None:
    source = model(
        "(float[n, 4] x) => (float[n, 5] m, float[n, 5] y)",
        "m = MatMul (x, w) y = Add (m, b)",
        {"w": normal(4, 5), "b": normal(5)},
    )
    assert fused(source, *floats((3, 4))) == ["Linear", "Add"]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [("transB = 1", ["Linear"]), ("transB = 1, alpha = 0.5", ["Gemm"]), ("transB = 1, beta = 2.0", ["Gemm"])],
)
def test_only_a_plain_gemm_is_linear(attributes: str, expected: list[str]) -> None:
    source = model(
        "(float[n, 4] x) => (float[n, 5] y)",
        f"y = Gemm <{attributes}> (x, w, b)",
        {"w": normal(5, 4), "b": normal(5)},
    )
    assert fused(source, *floats((3, 4))) == expected


def test_a_turned_weight_is_a_view_of_the_source() -> None:
    made = plan(
        model("(float[n, 4] x) => (float[n, 5] y)", "y = Gemm <transB = 1> (x, w)", {"w": normal(5, 4)})
    )
    (node,) = made.graph
    fact = made.fact(node.inputs[1])  # type: ignore[arg-type]
    assert fact.content is not None
    assert (fact.name, fact.trainable, fact.content.flags.owndata, fact.dims) == ("w", True, False, (4, 5))


def test_rows_that_are_merged_for_a_linear_layer_stay_apart() -> None:
    source = model(
        "(float[n, t, 4] x) => (float[n, t, 5] y)",
        """s = Shape (x) f = Slice (s, zero, two) out = Concat <axis = 0> (f, five)
        r = Reshape (x, flat) a = Gemm (r, w, b) c = Relu (a) y = Reshape (c, out)""",
        {"w": normal(4, 5), "b": normal(5), "flat": [-1, 4], "zero": [0], "two": [2], "five": [5]},
    )
    assert fused(source, *floats((2, 3, 4), (1, 7, 4))) == ["Linear", "Relu"]


# ---- activations ------------------------------------------------------------------------------------------------

GELU = {
    "half first": "h = Mul (x, half) d = Div (x, root) e = Erf (d) p = Add (e, one) y = Mul (h, p)",
    "half last": "d = Mul (x, over) e = Erf (d) p = Add (one, e) m = Mul (x, p) y = Mul (half, m)",
    "half inside": "d = Div (x, root) e = Erf (d) p = Add (e, one) q = Mul (p, half) y = Mul (x, q)",
    "divided": "d = Div (x, root) e = Erf (d) p = Add (e, one) m = Mul (x, p) y = Div (m, two)",
}
NUMBERS = {
    name: np.float32(value)
    for name, value in {
        "half": 0.5, "one": 1, "two": 2, "three": 3, "six": 6, "zero": 0, "root": math.sqrt(2), "over": math.sqrt(0.5),
        "small": 0.044715, "pi": math.sqrt(2 / math.pi), "alpha": 1.702,
    }.items()
}  # fmt: skip


@pytest.mark.parametrize("body", GELU.values(), ids=GELU)
def test_gelu_by_erf_is_gelu(body: str) -> None:
    source = model("(float[n, 4] x) => (float[n, 4] y)", body, NUMBERS)
    assert fused(source, {"x": np.linspace(-4, 4, 12, dtype=np.float32).reshape(3, 4)}) == ["Gelu"]


CUBE = {"power": "c = Pow (x, three)", "product": "s = Mul (x, x) c = Mul (s, x)"}


@pytest.mark.parametrize("cube", CUBE.values(), ids=CUBE)
def test_gelu_by_tanh_is_its_approximation(cube: str) -> None:
    body = f"{cube} k = Mul (c, small) i = Add (x, k) j = Mul (i, pi) t = Tanh (j) p = Add (t, one) h = Mul (x, half) y = Mul (h, p)"
    made = plan(model("(float[n, 4] x) => (float[n, 4] y)", body, NUMBERS))
    (node,) = made.graph
    assert (node.op_type, node.attributes["approximate"].value) == ("Gelu", "tanh")
    fused(model("(float[n, 4] x) => (float[n, 4] y)", body, NUMBERS), *floats((3, 4)))


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        ("s = Sigmoid (x) y = Mul (x, s)", "Swish"),
        ("a = Mul (x, alpha) s = Sigmoid (a) y = Mul (s, x)", "Swish"),
        ("a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six)", "HardSwish"),
        ("s = Softplus (x) t = Tanh (s) y = Mul (x, t)", "Mish"),
    ],
)
def test_a_product_with_its_own_gate_is_an_activation(body: str, operator: str) -> None:
    source = model("(float[n, 4] x) => (float[n, 4] y)", body, NUMBERS)
    assert fused(source, {"x": np.linspace(-5, 5, 12, dtype=np.float32).reshape(3, 4)}) == [operator]


def test_a_number_that_is_trained_is_not_taken_for_a_constant() -> None:
    numbers = {**NUMBERS, "root": np.float32([math.sqrt(2)])}
    source = model("(float[n, 4] x) => (float[n, 4] y)", GELU["half first"], numbers)
    assert "Gelu" not in fused(source, *floats((3, 4)))


def test_another_number_in_gelu_is_not_gelu() -> None:
    body = GELU["half first"].replace("(x, root)", "(x, two)")
    assert "Gelu" not in fused(model("(float[n, 4] x) => (float[n, 4] y)", body, NUMBERS), *floats((3, 4)))


# ---- normalisations -----------------------------------------------------------------------------------------------

SPREAD = "q = Pow (d, two) v = ReduceMean (q, last) e = Add (v, eps) r = Sqrt (e)"
NORM = {
    "with bias": f"m = ReduceMean (x, last) d = Sub (x, m) {SPREAD} n1 = Div (d, r) s = Mul (n1, g) y = Add (s, b)",
    "without bias": f"m = ReduceMean (x, last) d = Sub (x, m) {SPREAD} n1 = Div (d, r) y = Mul (g, n1)",
}


@pytest.mark.parametrize("body", NORM.values(), ids=NORM)
def test_a_normalisation_in_pieces_is_one(body: str) -> None:
    weights = {"last": [-1], "two": np.float32(2), "eps": np.float32(1e-3), "g": normal(5), "b": normal(5)}
    source = model("(float[n, t, 5] x) => (float[n, t, 5] y)", body, weights)
    assert fused(source, *floats((2, 3, 5), (1, 1, 5))) == ["LayerNormalization"]
    (node,) = plan(source).graph
    assert node.attributes["epsilon"].value == pytest.approx(1e-3)


def test_a_normalisation_without_a_mean_is_rms() -> None:
    body = f"{SPREAD.replace('(d,', '(x,')} i = Reciprocal (r) n1 = Mul (x, i) y = Mul (g, n1)"
    weights = {"last": [-1], "two": np.float32(2), "eps": np.float32(1e-3), "g": normal(5)}
    source = model("(float[n, t, 5] x) => (float[n, t, 5] y)", body, weights)
    assert fused(source, *floats((2, 3, 5))) == ["RMSNormalization"]


def test_a_mean_over_other_axes_is_no_layer_normalisation() -> None:
    weights = {"last": [1], "two": np.float32(2), "eps": np.float32(1e-3), "g": normal(5), "b": normal(5)}
    source = model("(float[n, 5, 5] x) => (float[n, 5, 5] y)", NORM["with bias"], weights)
    assert "LayerNormalization" not in fused(source, *floats((2, 5, 5)))


# ---- attention ------------------------------------------------------------------------------------------------------

ATTENTION = {
    "scaled behind": "k = Transpose <perm = [0, 1, 3, 2]> (x) a = MatMul (x, k) b = Mul (a, s) p = Softmax (b) y = MatMul (p, x)",
    "divided": "k = Transpose <perm = [0, 1, 3, 2]> (x) a = MatMul (x, k) b = Div (a, s) p = Softmax (b) y = MatMul (p, x)",
    "scaled before": "q = Mul (x, s) k = Transpose <perm = [0, 1, 3, 2]> (x) a = MatMul (q, k) p = Softmax (a) y = MatMul (p, x)",
    "half on each": """q = Mul (x, s) k = Transpose <perm = [0, 1, 3, 2]> (x) l = Mul (k, s) a = MatMul (q, l)
        p = Softmax (a) y = MatMul (p, x)""",
    "scaled before the heads": """l = Reshape (x, flat) m = Mul (l, s) h = Reshape (m, heads)
        k = Transpose <perm = [0, 1, 3, 2]> (x) a = MatMul (h, k) p = Softmax (a) y = MatMul (p, x)""",
    "masked": """k = Transpose <perm = [0, 1, 3, 2]> (x) a = MatMul (x, k) b = Mul (a, s) c = Add (mask, b)
        p = Softmax (c) y = MatMul (p, x)""",
    "guarded": """k = Transpose <perm = [0, 1, 3, 2]> (x) a = MatMul (x, k) b = Mul (a, s) p = Softmax (b)
        i = IsNaN (p) o = Where (i, zero, p) y = MatMul (o, x)""",
}


@pytest.mark.parametrize("body", ATTENTION.values(), ids=ATTENTION)
def test_attention_in_pieces_is_one(body: str) -> None:
    weights = {
        "s": np.float32(0.4),
        "zero": np.float32(0),
        "mask": normal(1, 1, 3, 3),
        "flat": [0, 6, 4],
        "heads": [0, 2, 3, 4],
    }
    source = model("(float[n, 2, 3, 4] x) => (float[n, 2, 3, 4] y)", body, weights)
    assert fused(source, *floats((2, 2, 3, 4), (1, 2, 3, 4))) == ["Attention"]


def test_a_mask_of_one_column_is_not_attentions() -> None:
    weights = {"s": np.float32(0.4), "mask": normal(1, 1, 3, 1)}
    source = model("(float[n, 2, 3, 4] x) => (float[n, 2, 3, 4] y)", ATTENTION["masked"], weights)
    assert "Attention" not in fused(source, *floats((2, 2, 3, 4)))


def test_attention_without_an_axis_of_heads_has_one_head() -> None:
    body = ATTENTION["scaled behind"].replace("[0, 1, 3, 2]", "[0, 2, 1]")
    source = model("(float[n, t, 4] x) => (float[n, t, 4] y)", body, {"s": np.float32(0.4)})
    assert "Attention" in fused(source, *floats((2, 3, 4), (3, 5, 4)))


def test_softmax_over_another_axis_is_not_attention() -> None:
    body = ATTENTION["scaled behind"].replace("Softmax (b)", "Softmax <axis = 2> (b)")
    source = model("(float[n, 2, 3, 4] x) => (float[n, 2, 3, 4] y)", body, {"s": np.float32(0.4)})
    assert "Attention" not in fused(source, *floats((2, 2, 3, 4)))


# ---- recurrent ------------------------------------------------------------------------------------------------------


def test_two_recurrent_layers_have_nothing_between_them() -> None:
    body = """y1 = LSTM <hidden_size = 3, direction = "bidirectional"> (x, w1, r1)
        t = Transpose <perm = [0, 2, 1, 3]> (y1) f = Reshape (t, flat)
        y2 = LSTM <hidden_size = 3> (f, w2, r2) y = Squeeze (y2, one)"""
    weights = {
        "w1": normal(2, 12, 4), "r1": normal(2, 12, 3), "w2": normal(1, 12, 6), "r2": normal(1, 12, 3),
        "flat": [0, 0, -1], "one": [1],
    }  # fmt: skip
    source = model("(float[t, n, 4] x) => (float[t, n, 3] y)", body, weights)
    assert fused(source, *floats((5, 2, 4), (1, 3, 4))) == ["Recurrent", "Recurrent"]


def test_a_state_of_zeros_of_any_batch_is_left_out() -> None:
    body = """s = Shape <start = 1, end = 2> (x) d = Concat <axis = 0> (one, s, three) h = Expand (zero, d)
        a, y, c = LSTM <hidden_size = 3> (x, w, r, , , h, h)"""
    weights = {"w": normal(1, 12, 4), "r": normal(1, 12, 3), "one": [1], "three": [3], "zero": np.float32(0)}
    source = model("(float[t, n, 4] x) => (float[1, n, 3] y)", body, weights)
    made = plan(source)
    assert operators(made) == ["Recurrent"]
    assert [value for value in next(iter(made.graph)).inputs[3:] if value is not None] == []


# ---- what does nothing ----------------------------------------------------------------------------------------------


def test_what_does_nothing_is_gone_and_dropout_stays_for_training() -> None:
    body = """a = Identity (x) b = Cast <to = 1> (a) c = Dropout (b, ratio) d = Dropout (c, none)
        e = Slice (d, zero, far) f = Pad (e, pads) y = Relu (f)"""
    weights = {
        "ratio": np.float32(0.3),
        "none": np.float32(0),
        "zero": [0],
        "far": [2**40],
        "pads": [0, 0, 0, 0],
    }
    source = model("(float[n, 4] x) => (float[n, 4] y)", body, weights)
    assert fused(source, *floats((3, 4))) == ["Dropout", "Relu"]


def test_parts_taken_one_by_one_are_a_split() -> None:
    body = """r = Reshape (x, heads) t = Transpose <perm = [2, 0, 3, 1, 4]> (r)
        q = Gather <axis = 0> (t, i0) k = Gather <axis = 0> (t, i1) v = Gather <axis = 0> (t, i2)
        a = Add (q, k) y = Mul (a, v)"""
    weights = {"heads": [0, 0, 3, 2, 4], "i0": np.array(0), "i1": np.array(1), "i2": np.array(-1)}
    source = model("(float[n, t, 24] x) => (float[n, 2, t, 4] y)", body, weights)
    made = fused(source, *floats((2, 3, 24), (1, 5, 24)))
    assert made[0] == "Split"
    assert "Gather" not in made
