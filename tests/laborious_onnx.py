"""ONNX files of little length and much work: sizes, constants, graphs in graphs, functions, long chains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from hostile import Kit
from laborious import laborious
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, info = helper.make_node, helper.make_tensor_value_info


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **constants: object,
) -> onnx.GraphProto:
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    return helper.make_graph(list(nodes), "g", list(inputs), list(outputs), weights)


def result(rank: int, name: str = "y") -> onnx.ValueInfoProto:
    return info(name, FLOAT, [None] * rank)


def saved(kit: Kit, inside: onnx.GraphProto, functions: Sequence[onnx.FunctionProto] = ()) -> Path:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    model = helper.make_model(inside, opset_imports=opsets, ir_version=10, functions=functions)
    onnx.save(model, kit.folder / "net.onnx")
    return kit.folder / "net.onnx"


def made(kit: Kit, nodes: Sequence[onnx.NodeProto], **constants: object) -> Path:
    """x (batch, 4) -> y of no declared rank, through nodes and int64 or float constants."""
    return saved(kit, graph(nodes, [info("x", FLOAT, ["batch", 4])], [result(2)], **constants))


# ---- sizes ---------------------------------------------------------------------------------------


def sized(kit: Kit, rank: int, nodes: Sequence[onnx.NodeProto], **constants: object) -> Path:
    """x has free sizes only, ``s`` is its shape and ``s0``, ``s1`` its parts; ``n`` is the size that x is reshaped to."""
    names = [f"s{place}" for place in range(rank)]
    parts = [node("Shape", ["x"], ["s"]), node("Split", ["s"], names, axis=0, num_outputs=rank)]
    last = [node("Reshape", ["x", "n"], ["y"], allowzero=1)]
    inputs = [info("x", FLOAT, [f"d{place}" for place in range(rank)])]
    return saved(kit, graph([*parts, *nodes, *last], inputs, [result(1)], **constants))


def chain(operator: str, count: int, first: str, last: str, *other: str) -> list[onnx.NodeProto]:
    """``operator`` on ``first``, again and again; without ``other`` inputs on itself twice."""
    names = [first, *(f"{last}_{place}" for place in range(count - 1)), last]
    return [node(operator, [a, *(other or [a])], [b]) for a, b in itertools.pairwise(names)]


def total(names: Sequence[str], last: str, operator: str = "Add") -> list[onnx.NodeProto]:
    """The sum of values."""
    values, nodes = list(names), []
    for place, name in enumerate(values[1:], 1):
        result = last if place == len(values) - 1 else f"{last}_part{place}"
        nodes.append(node(operator, [values[0], name], [result]))
        values[0] = result
    return nodes


TERMS = "terms"


@laborious(TERMS)
def sizes_summed_and_squared(kit: Kit) -> Path:
    return sized(kit, 6, total([f"s{i}" for i in range(6)], "t") + chain("Mul", 4, "t", "n"))


@laborious(TERMS)
def sizes_summed_and_squared_many_times(kit: Kit) -> Path:
    return sized(kit, 2, total(["s0", "s1"], "t") + chain("Mul", 40, "t", "n"))


@laborious(TERMS)
def one_size_squared_sixty_times(kit: Kit) -> Path:
    """Its monomial has 2^60 factors."""
    return sized(kit, 1, chain("Mul", 60, "s0", "n"))


@laborious(TERMS)
def sizes_plus_one_multiplied(kit: Kit) -> Path:
    """(a + 1) (b + 1) ... has 2^30 terms."""
    plus = [node("Add", [f"s{i}", "one"], [f"p{i}"]) for i in range(30)]
    return sized(kit, 30, plus + total([f"p{i}" for i in range(30)], "n", "Mul"), one=np.int64([1]))


@laborious(TERMS)
def sizes_halved_and_summed(kit: Kit) -> Path:
    """n -> n // 3 + n // 5: each step speaks of the one before twice."""
    nodes, size = [], "s0"
    for place in range(60):
        nodes += [node("Div", [size, "three"], [f"a{place}"]), node("Div", [size, "five"], [f"b{place}"])]
        nodes += [node("Add", [f"a{place}", f"b{place}"], [f"c{place}"])]
        size = f"c{place}"
    return sized(kit, 1, [*nodes, node("Identity", [size], ["n"])], three=np.int64([3]), five=np.int64([5]))


@laborious(TERMS)
def sizes_of_which_the_larger_is_taken(kit: Kit) -> Path:
    """n -> max(n * n // 7, n // 2 + m), fifty deep."""
    nodes, size = [], "s0"
    for place in range(50):
        nodes += [
            node("Mul", [size, size], [f"q{place}"]),
            node("Div", [f"q{place}", "seven"], [f"a{place}"]),
        ]
        nodes += [node("Div", [size, "two"], [f"h{place}"]), node("Add", [f"h{place}", "s1"], [f"b{place}"])]
        nodes += [node("Max", [f"a{place}", f"b{place}"], [f"c{place}"])]
        size = f"c{place}"
    return sized(kit, 2, [*nodes, node("Identity", [size], ["n"])], two=np.int64([2]), seven=np.int64([7]))


@laborious(TERMS)
def a_padded_picture_flattened(kit: Kit) -> Path:
    """(d0 + 2) (d1 + 2) ... of thirty axes, without a single size computed by the graph."""
    nodes = [node("Pad", ["x", "pads"], ["p"]), node("Flatten", ["p"], ["y"], axis=0)]
    inputs = [info("x", FLOAT, [f"d{place}" for place in range(30)])]
    return saved(kit, graph(nodes, inputs, [result(2)], pads=np.ones(60, np.int64)))


@laborious(None)
def many_free_sizes_joined(kit: Kit) -> Path:
    """One sum of 1,500 free sizes."""
    inputs = [info(f"x{place}", FLOAT, [f"d{place}", 4]) for place in range(1500)]
    joined = node("Concat", [each.name for each in inputs], ["y"], axis=0)
    return saved(kit, graph([joined], inputs, [result(2)]))


@laborious("terms|axes")
def sizes_joined_again_and_again(kit: Kit) -> Path:
    """Each of 1,500 joins has a sum that is longer by one."""
    inputs = [info(f"x{place}", FLOAT, [f"d{place}", 4]) for place in range(1500)]
    nodes, last = [], "x0"
    for place in range(1, 1500):
        nodes.append(node("Concat", [last, f"x{place}"], [f"y{place}"], axis=0))
        last = f"y{place}"
    return saved(kit, graph(nodes, inputs, [result(2, last)]))


@laborious("axes")
def a_shape_of_many_numbers(kit: Kit) -> Path:
    return made(kit, [node("Reshape", ["x", "n"], ["y"])], n=np.ones(100_000, np.int64))


@laborious("axes")
def an_input_of_many_axes(kit: Kit) -> Path:
    return saved(kit, graph([node("Relu", ["x"], ["y"])], [info("x", FLOAT, [1] * 100_000)], [result(2)]))


# ---- constants -----------------------------------------------------------------------------------


def constant(
    name: str, nodes: Sequence[onnx.NodeProto], words: str | None = None, **constants: object
) -> None:
    """``c`` is added to x once its only place is picked: so the graph itself stays small."""
    end = [node("ReduceMax", ["c"], ["m"], keepdims=0), node("Cast", ["m"], ["f"], to=FLOAT)]

    def make(kit: Kit) -> Path:
        return made(kit, [*nodes, *end, node("Add", ["x", "f"], ["y"])], **constants)

    make.__module__ = __name__
    laborious(words, name)(make)


def doubled(operator: str, times: int, first: str, last: str, **attributes: object) -> list[onnx.NodeProto]:
    names = [first, *(f"{last}_{place}" for place in range(times - 1)), last]
    return [node(operator, [a, a], [b], **attributes) for a, b in itertools.pairwise(names)]


I = np.int64  # noqa: E741
constant("constant_of_shape_2_32", [node("ConstantOfShape", ["n"], ["c"])], n=I([65536, 65536]))
constant("constant_of_shape_of_one_axis", [node("ConstantOfShape", ["n"], ["c"])], n=I([1 << 40]))
constant("range_2_26", [node("Range", ["a", "n", "b"], ["c"])], a=I(0), b=I(1), n=I(1 << 26))
constant(
    "range_of_floats",
    [node("Range", ["a", "n", "b"], ["c"])],
    a=np.float32(0),
    b=np.float32(1e-7),
    n=np.float32(9),
)
constant("expand_2_32", [node("Expand", ["a", "n"], ["c"])], a=I([[1], [2]]), n=I([1, 2, 1 << 31]))
constant("tile_2_30", [node("Tile", ["a", "n"], ["c"])], a=I([[1, 2]]), n=I([1 << 15, 1 << 14]))
constant(
    "one_hot_2_30", [node("OneHot", ["a", "n", "v"], ["c"])], a=I([1, 2, 3, 4]), n=I([1 << 28]), v=I([0, 1])
)
constant(
    "eye_2_30",
    [node("ConstantOfShape", ["n"], ["z"]), node("EyeLike", ["z"], ["c"], dtype=INT64)],
    n=I([32768, 32768]),
)
constant(
    "resize_2_32",
    [node("Resize", ["a", "", "", "n"], ["c"])],
    a=np.ones((1, 1, 2, 2), np.float32),
    n=I([1, 1, 65536, 65536]),
)
constant(
    "resize_by_scales",
    [node("Resize", ["a", "", "n"], ["c"])],
    a=np.ones((1, 1, 2, 2), np.float32),
    n=np.float32([1, 1, 30000, 30000]),
)
constant("concat_doubled_30_times", doubled("Concat", 30, "a", "c", axis=0), a=I([1, 2]))
constant("pad_2_30", [node("Pad", ["a", "n"], ["c"])], a=I([[1, 2]]), n=I([1 << 15, 1 << 14, 0, 0]))
constant(
    "gather_blows_up",
    [node("Gather", ["a", "i"], ["c"])],
    a=np.arange(30_000, dtype=I).reshape(1, -1),
    i=np.zeros(60_000, np.int32),
)
constant("gather_doubled", doubled("Gather", 6, "i", "c"), i=np.zeros((9, 9), I))
constant(
    "outer_sum",
    [node("Add", ["a", "b"], ["c"])],
    a=np.arange(40_000, dtype=I).reshape(-1, 1),
    b=np.arange(40_000, dtype=I),
)
constant(
    "outer_product_of_einsum",
    [node("Einsum", ["a", "a", "a", "a"], ["c"], equation="a,b,c,d->abcd")],
    a=np.arange(600, dtype=I),
)
constant(
    "einsum_summed_at_once",
    [node("Einsum", ["a"] * 6, ["c"], equation="a,b,c,d,e,f->a")],
    a=np.arange(100, dtype=I),
)
constant(
    "matmul_of_integers",
    [node("Add", ["a", "z"], ["b"]), *doubled("MatMul", 3, "b", "c")],
    a=np.ones((300, 400), np.int64)[:, :1] * np.ones((1, 300), np.int64),
    z=I(1),
)
constant("window_2_30", [node("HannWindow", ["n"], ["c"])], n=I(1 << 30))
constant(
    "mel_matrix",
    [node("MelWeightMatrix", ["n", "n", "r", "l", "h"], ["c"])],
    n=I(60_000),
    r=I(90_000),
    l=np.float32(0),
    h=np.float32(9000),
)
constant(
    "dft_2_28",
    [node("DFT", ["a", "n"], ["d"], axis=1), node("Identity", ["d"], ["c"])],
    a=np.ones((1, 4, 1), np.float32),
    n=I(1 << 28),
)
constant(
    "text_doubled",
    [
        *doubled("StringConcat", 45, "a", "t"),
        node("Equal", ["t", "t"], ["e"]),
        node("Cast", ["e"], ["c"], to=INT64),
    ],
    a=np.array(["ab"], object),
)
constant(
    "expression_that_backtracks",
    [
        node("RegexFullMatch", ["a"], ["e"], pattern="(a|aa|a*)*(b|a*)*c"),
        node("Cast", ["e"], ["c"], to=INT64),
    ],
    a=np.array(["a" * 60], object),
)
constant(
    "many_large_constants",
    [
        n
        for i in range(400)
        for n in (
            node("Range", ["a", "n", "b"], [f"r{i}"]),
            node("Add", [f"r{i}", f"q{i}"] if i else ["r0", "a"], [f"q{i + 1}"]),
        )
    ]
    + [node("Identity", ["q400"], ["c"])],
    a=I(0),
    b=I(1),
    n=I(900_000),
)
constant(
    "upsampled_convolution",
    [node("ConstantOfShape", ["n"], ["z"]), node("Conv", ["z", "w"], ["c"])],
    n=I([1, 1, 900, 900]),
    w=np.ones((1, 1, 300, 300), np.float32),
)
constant("random_2_32", [node("RandomNormal", [], ["c"], shape=[65536, 65536])])
constant(
    "random_like_2_32",
    [node("ConstantOfShape", ["n"], ["z"]), node("RandomUniformLike", ["z"], ["c"])],
    n=I([65536, 65536]),
)
constant(
    "scattered_2_30",
    [node("ConstantOfShape", ["n"], ["z"]), node("ScatterND", ["z", "i", "v"], ["c"])],
    n=I([1 << 30]),
    i=I([[1]]),
    v=np.float32([1]),
)
constant(
    "cubed_integers",
    [
        node("Range", ["a", "n", "b"], ["r"]),
        node("Reshape", ["r", "s1"], ["u"]),
        node("Reshape", ["r", "s2"], ["v"]),
        node("Mul", ["u", "v"], ["c"]),
    ],
    a=I(0),
    b=I(1),
    n=I(90_000),
    s1=I([-1, 1]),
    s2=I([1, -1]),
)
constant(
    "nonzero_of_outer",
    [node("Equal", ["a", "b"], ["e"]), node("NonZero", ["e"], ["c"])],
    a=np.arange(50_000, dtype=np.int32).reshape(-1, 1),
    b=np.arange(50_000, dtype=np.int32),
)
constant(
    "split_into_texts",
    [node("StringSplit", ["a"], ["t", "c"], delimiter=",")],
    a=np.array(["," * 200_000, *["x"] * 4000], object),
)


# ---- graphs in graphs ----------------------------------------------------------------------------


def nested(
    kit: Kit, depth: int, around: Callable[[onnx.GraphProto, int], list[onnx.NodeProto]], rank: int = 2
) -> Path:
    def body(level: int) -> list[onnx.NodeProto]:
        if level == depth:
            return [node("Sin", ["x"], [f"y{level}"])]
        return around(graph(body(level + 1), [], [info(f"y{level + 1}", FLOAT, None)]), level)

    inputs = [info("x", FLOAT, ["batch", 4]), info("go", BOOL, []), info("n", INT64, [])]
    return saved(kit, graph(body(0), inputs, [result(rank, "y0")], yes=np.array(True)))


def _if(inside: onnx.GraphProto, level: int) -> list[onnx.NodeProto]:
    other = graph([node("Cos", ["x"], [f"z{level}"])], [], [info(f"z{level}", FLOAT, None)])
    return [node("If", ["go"], [f"y{level}"], then_branch=inside, else_branch=other)]


laborious(None, "ifs_nested_9_deep")(lambda kit: nested(kit, 9, _if))
laborious(None, "ifs_nested_16_deep")(lambda kit: nested(kit, 16, _if))
laborious(None, "ifs_nested_29_deep")(lambda kit: nested(kit, 29, _if))


def _both(inside: onnx.GraphProto, level: int) -> list[onnx.NodeProto]:
    return [node("If", ["go"], [f"y{level}"], then_branch=inside, else_branch=inside)]


laborious(None, "ifs_that_double_10_deep")(lambda kit: nested(kit, 10, _both))


def _loop(inside: onnx.GraphProto, level: int) -> list[onnx.NodeProto]:
    """The carried value grows by a row each turn: its first size is given up, then its second."""
    name = f"y{level + 1}"
    inside = graph(
        [
            *inside.node,
            node("Identity", [f"on{level}"], [f"o{level}"]),
            node("Concat", [f"v{level}", "x"], [f"w{level}"], axis=0),
        ],
        [info(f"i{level}", INT64, []), info(f"on{level}", BOOL, []), info(f"v{level}", FLOAT, None)],
        [info(f"o{level}", BOOL, []), info(f"w{level}", FLOAT, None), info(name, FLOAT, None)],
    )
    return [node("Loop", ["n", "yes", "x"], [f"carried{level}", f"y{level}"], body=inside)]


laborious(None, "loops_nested_9_deep")(lambda kit: nested(kit, 9, _loop, 11))
laborious(None, "loops_nested_24_deep")(lambda kit: nested(kit, 24, _loop, 26))


def _scan(inside: onnx.GraphProto, level: int) -> list[onnx.NodeProto]:
    name = f"y{level + 1}"
    inside = graph(
        [
            *inside.node,
            node("Add", [f"v{level}", f"e{level}"], [f"s{level}"]),
            node("ReduceMax", [f"s{level}"], [f"w{level}"], keepdims=0),
        ],
        [info(f"v{level}", FLOAT, None), info(f"e{level}", FLOAT, None)],
        [info(f"w{level}", FLOAT, None), info(name, FLOAT, None)],
    )
    first = node("ReduceMax", ["x"], [f"r{level}"], keepdims=0)
    return [
        first,
        node("Scan", [f"r{level}", "x"], [f"last{level}", f"y{level}"], body=inside, num_scan_inputs=1),
    ]


laborious(None, "scans_nested_9_deep")(lambda kit: nested(kit, 9, _scan, 11))
laborious(None, "scans_nested_20_deep")(lambda kit: nested(kit, 20, _scan, 22))


@laborious(None)
def a_loop_of_a_billion_turns(kit: Kit) -> Path:
    body = graph(
        [node("Identity", ["on"], ["o"]), node("Sin", ["v"], ["w"])],
        [info("i", INT64, []), info("on", BOOL, []), info("v", FLOAT, ["batch", 4])],
        [info("o", BOOL, []), info("w", FLOAT, ["batch", 4]), info("w", FLOAT, ["batch", 4])],
    )
    body.output[2].name = "u"
    body.node.append(node("Cos", ["v"], ["u"]))
    nodes = [node("Loop", ["n", "yes", "x"], ["l", "all"], body=body), node("Add", ["l", "x"], ["y"])]
    return made(kit, nodes, n=I(1_000_000_000), yes=np.array(True))


@laborious(None)
def a_loop_of_many_states(kit: Kit) -> Path:
    """Three hundred states that hand each other on: each round of evaluation gives one of them up."""
    count = 300
    states = [f"v{place}" for place in range(count)]
    body = graph(
        [node("Identity", ["on"], ["o"]), node("Concat", ["v0", "v0"], ["w0"], axis=0)]
        + [node("Identity", [f"v{place - 1}"], [f"w{place}"]) for place in range(1, count)],
        [info("i", INT64, []), info("on", BOOL, []), *(info(name, FLOAT, None) for name in states)],
        [info("o", BOOL, []), *(info(f"w{place}", FLOAT, None) for place in range(count))],
    )
    loop = node("Loop", ["n", "yes", *["x"] * count], [f"l{place}" for place in range(count)], body=body)
    return made(kit, [loop, node("Identity", [f"l{count - 1}"], ["y"])], n=I(9), yes=np.array(True))


# ---- functions -----------------------------------------------------------------------------------

NODES = "into [0-9,]+ nodes"


def calling(kit: Kit, bodies: Sequence[Sequence[onnx.NodeProto]]) -> Path:
    """Functions ``f0``, ``f1`` ... from a to b; the graph calls the first."""
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function("f", f"f{i}", ["a"], ["b"], list(body), opsets) for i, body in enumerate(bodies)
    ]
    out = info("y", FLOAT, ["batch", 4])
    return saved(
        kit, graph([node("f0", ["x"], ["y"], domain="f")], [info("x", FLOAT, ["batch", 4])], [out]), functions
    )


def _calls(name: str, times: int) -> list[onnx.NodeProto]:
    values = ["a", *(f"v{place}" for place in range(times - 1)), "b"]
    return [node(name, [a], [b], domain="f") for a, b in itertools.pairwise(values)]


laborious(NODES, "functions_that_double_19_times")(
    lambda kit: calling(
        kit, [*(_calls(f"f{level + 1}", 2) for level in range(18)), [node("Sin", ["a"], ["b"])]]
    )
)
laborious(NODES, "functions_of_ten_calls_five_deep")(
    lambda kit: calling(
        kit, [*(_calls(f"f{level + 1}", 10) for level in range(5)), [node("Sin", ["a"], ["b"])]]
    )
)
laborious(None, "functions_nested_90_deep")(
    lambda kit: calling(
        kit, [*(_calls(f"f{level + 1}", 1) for level in range(89)), [node("Sin", ["a"], ["b"])]]
    )
)
laborious(NODES, "a_function_of_a_thousand_nodes_called_often")(
    lambda kit: calling(
        kit,
        [
            _calls("f1", 900),
            [*chain("Sin", 1, "a", "q0"), *chain("Add", 998, "q0", "q", "a"), node("Sin", ["q"], ["b"])],
        ],
    )
)


# ---- long chains ---------------------------------------------------------------------------------


def long(
    name: str,
    count: int,
    step: Callable[[int, str, str], Sequence[onnx.NodeProto]],
    words: str | None = None,
    **constants: object,
) -> None:
    def make(kit: Kit) -> Path:
        names = ["x", *(f"v{place}" for place in range(count - 1)), "y"]
        steps = [step(place, a, b) for place, (a, b) in enumerate(itertools.pairwise(names))]
        return made(kit, [each for nodes in steps for each in nodes], **constants)

    make.__module__ = __name__
    laborious(words, name)(make)


long("relus_in_a_row", 20_000, lambda place, a, b: [node("Sin", [a], [b])])
long("sums_in_a_row", 12_000, lambda place, a, b: [node("Add", [a, "x"], [b])])
long("transposes_in_a_row", 8_000, lambda place, a, b: [node("Transpose", [a], [b], perm=[1, 0])])
long("reshapes_in_a_row", 12_000, lambda place, a, b: [node("Reshape", [a, "n"], [b])], n=I([-1, 4]))
long(
    "shapes_read_in_a_row",
    4_000,
    lambda place, a, b: [node("Shape", [a], [f"s{place}"]), node("Reshape", [a, f"s{place}"], [b])],
)
long(
    "layers_in_a_row",
    6_000,
    lambda place, a, b: [node("MatMul", [a, "w"], [f"m{place}"]), node("Add", [f"m{place}", "b"], [b])],
    w=np.ones((4, 4), np.float32),
    b=np.ones(4, np.float32),
)
long(
    "normalisations_in_a_row",
    6_000,
    lambda place, a, b: [node("MeanVarianceNormalization", [a], [b], axes=[0, 1])],
)
long(
    "norms_by_hand_in_a_row",
    1_500,
    lambda place, a, b: [
        node("ReduceMean", [a, "axes"], [f"m{place}"]),
        node("Sub", [a, f"m{place}"], [f"d{place}"]),
        node("Pow", [f"d{place}", "two"], [f"p{place}"]),
        node("ReduceMean", [f"p{place}", "axes"], [f"v_{place}"]),
        node("Add", [f"v_{place}", "e"], [f"w{place}"]),
        node("Sqrt", [f"w{place}"], [f"r{place}"]),
        node("Div", [f"d{place}", f"r{place}"], [b]),
    ],
    axes=I([-1]),
    two=np.float32(2),
    e=np.float32(1e-5),
)
long(
    "splits_in_a_row",
    5_000,
    lambda place, a, b: [
        node("Split", [a], [f"l{place}", f"r{place}"], axis=1, num_outputs=2),
        node("Concat", [f"r{place}", f"l{place}"], [b], axis=1),
    ],
)
long(
    "unknown_operators",
    9_000,
    lambda place, a, b: (
        [node("Sin", [a], [b])] if place % 2 else [node("Binarizer", [a], [b], domain="ai.onnx.ml")]
    ),
)


@laborious(None)
def many_outputs(kit: Kit) -> Path:
    count = 9_000
    nodes = [node("Sin", ["x"], [f"y{place}"]) for place in range(count)]
    return saved(
        kit,
        graph(
            nodes,
            [info("x", FLOAT, ["batch", 4])],
            [info(f"y{place}", FLOAT, ["batch", 4]) for place in range(count)],
        ),
    )


@laborious(None)
def one_value_read_often(kit: Kit) -> Path:
    nodes = [node("Sin", ["x"], [f"v{place}"]) for place in range(9_000)]
    return made(kit, [*nodes, node("Sum", [f"v{place}" for place in range(9_000)], ["y"])])


@laborious(None)
def many_small_weights(kit: Kit) -> Path:
    count = 9_000
    weights = {f"w{place}": np.float32([place]) for place in range(count)}
    names = ["x", *(f"v{place}" for place in range(count - 1)), "y"]
    nodes = [node("Add", [a, f"w{place}"], [b]) for place, (a, b) in enumerate(itertools.pairwise(names))]
    return made(kit, nodes, **weights)


@laborious(None)
def names_of_ten_kilobytes(kit: Kit) -> Path:
    long_name = "n" * 10_000
    names = ["x", *(f"{long_name}{place}" for place in range(48)), "y"]
    return made(kit, [node("Sin", [a], [b]) for a, b in itertools.pairwise(names)])
