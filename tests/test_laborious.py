"""Small files that ask for much work are carried, or refused in words, within a budget that is counted."""

from __future__ import annotations

import itertools
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile import Kit
from hostile_good import write_good
from laborious import FILES, Laborious, load, measure
from models import model
from onnx import TensorProto, helper

from netferry import converters
from netferry.converters import artifact, source
from netferry.converters.errors import CannotConvert, NetferryError, RefusedError, UnsupportedError
from netferry.converters.graph.inference.contents import UNFOLDED
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.budget import LIMITS, Budget, counted
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.ir.sizes import Size, TooLong, largest, total
from netferry.converters.graph.numpy.fold import fold
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.pytorch.safety import formulas

load()
MOST_BYTES = 600 << 20
"""Of Python's own memory and numpy's, while one of the files is looked at."""


def named(kind: str) -> list[str]:
    return [name for name, one in FILES.items() if one.kind == kind]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("laborious") / "good")


def made(name: str, folder: Path, good: Path) -> Path:
    kit = Kit(folder / "case", good)
    kit.folder.mkdir()
    path = FILES[name].make(kit)
    assert sum(file.stat().st_size for file in kit.folder.rglob("*") if file.is_file()) < 2 << 20
    return path


def test_there_are_many_of_them() -> None:
    assert len(FILES) >= 150
    assert all(len(named(kind)) >= 5 for kind in ("onnx", "pytorch", "keras", "saved_model", "mxnet"))


def test_all_of_them_have_different_makers() -> None:
    assert len({one.name for one in FILES.values()}) == len({id(one.make) for one in FILES.values()})


# ---- ONNX: planned within the budget -------------------------------------------------------------

LONG = frozenset(
    """
    relus_in_a_row sums_in_a_row transposes_in_a_row reshapes_in_a_row shapes_read_in_a_row layers_in_a_row
    normalisations_in_a_row norms_by_hand_in_a_row splits_in_a_row unknown_operators many_outputs one_value_read_often
    many_small_weights ifs_that_double_10_deep sizes_joined_again_and_again
    """.split()
)
"""Linear in their length: nothing is refused and nothing is counted that they do not hold."""


@pytest.mark.parametrize("name", [name for name in named("onnx") if name not in LONG])
def test_planning_stays_within_the_budget(name: str, tmp_path: Path, good: Path) -> None:
    path = made(name, tmp_path, good)
    tracemalloc.start()
    try:
        counts = planned(path)
        _, peak = tracemalloc.get_traced_memory()
    except NetferryError as error:
        counts, (_, peak) = None, tracemalloc.get_traced_memory()
        assert "\n" not in str(error)
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert counts is None or all(counts.spent[kind] <= counts.limits[kind] for kind in counts.limits)


@pytest.mark.parametrize("name", named("saved_model"))
def test_a_graph_of_tensorflow_makes_no_large_constant(name: str, tmp_path: Path, good: Path) -> None:
    words, path = FILES[name].words, made(name, tmp_path, good)
    tracemalloc.start()
    try:
        if words is None:
            converters.export_model(source.open_source(path))
        else:
            with pytest.raises(NetferryError, match=words):
                converters.export_model(source.open_source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


def planned(path: Path) -> Budget:
    read = converters.export_model(source.open_source(path)).model
    with counted(Budget.of(read)) as counts:
        plan(read)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_inspect_answers_within_a_gibibyte(name: str, tmp_path: Path, good: Path) -> None:
    _, _, peak, code, said = measure(made(name, tmp_path, good), 300)
    assert peak < 1 << 20 and code in (0, 3, 5), said
    assert "not done after" not in said and "memory" not in said and "Traceback" not in said, said


# ---- sizes ---------------------------------------------------------------------------------------

NAMES = [Size.named(name) for name in "abcdef"]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_square_of_a_square_ends(count: int) -> None:
    with counted(Budget()) as counts, pytest.raises(TooLong):
        value = total(NAMES[:count])
        for _ in range(40):
            value = value * value
    assert counts.spent["terms"] <= LIMITS["terms"]


@pytest.mark.parametrize(
    "step",
    [
        lambda n: n * n,
        lambda n: n // 3 + n // 5,
        lambda n: largest(n * n // 7, n // 2 + NAMES[1]),
        lambda n: (n + 1) * (n // 2),
        lambda n: n % 7 * n,
        lambda n: n * (1 << 60),
    ],
)
def test_a_size_that_speaks_of_itself_twice_ends(step: object) -> None:
    with counted(Budget()) as counts, pytest.raises(TooLong):
        value = NAMES[0]
        for _ in range(100):
            value = step(value)  # type: ignore[operator]
    assert counts.spent["terms"] < LIMITS["terms"] // 2


def test_the_budget_ends_what_no_limit_ends() -> None:
    with counted(Budget()) as counts, pytest.raises(TooLong):
        value = total(NAMES)
        while True:
            value = value + 1
    assert LIMITS["terms"] - 100 < counts.spent["terms"] <= LIMITS["terms"]


def test_outside_of_a_budget_only_the_length_of_a_size_counts() -> None:
    assert budget.in_force() is None
    assert total(NAMES * 50) == total(50 * size for size in NAMES)


@pytest.mark.parametrize("count", [3, 40, 700])
def test_long_sums_are_written_in_groups(count: int) -> None:
    sizes = [Size.named(f"d{place}") for place in range(count)]
    value = total(place * size for place, size in enumerate(sizes, 1)) - 5
    assert (
        value.at({f"d{place}": place for place in range(count)}) == sum(p * (p + 1) for p in range(count)) - 5
    )
    depth = value.build(lambda _: 1, lambda _word, a, b: 1 + max(a, b), lambda _: 1)
    assert depth <= 60


@pytest.mark.parametrize("operator", ["Mul", "Add"])
def test_what_cannot_be_said_of_a_size_is_read_when_the_model_runs(operator: str) -> None:
    names = ["s", *(f"n{place}" for place in range(49)), "n"]
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        *(helper.make_node(operator, [a, a], [b]) for a, b in itertools.pairwise(names)),
        helper.make_node("Div", ["n", "n"], ["one"]),
        helper.make_node("Mul", ["one", "s"], ["back"]),
        helper.make_node("Reshape", ["x", "back"], ["y"]),
    ]
    made = plan(model(nodes, {"x": ["batch"]}, {"y": ["batch"]}))
    assert made.graph.outputs[0].name == "y"
    assert converted(made)


def converted(made: Plan) -> bool:
    from netferry.converters import frameworks
    from netferry.converters.signature import Signature, TensorSpec

    spec = TensorSpec("x", np.dtype(np.float32), ("batch",))
    whole = Signature((spec,), (TensorSpec("y", np.dtype(np.float32), ("batch",)),))
    return bool(frameworks.named("pytorch").from_onnx.from_onnx(made, whole, name="m").source)


# ---- constants -----------------------------------------------------------------------------------

I64 = np.int64


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("ConstantOfShape", [I64([65536, 65536])], {}),
        ("Range", [I64(0), I64(1 << 40), I64(1)], {}),
        ("Expand", [I64([[1]]), I64([1 << 20, 1 << 20])], {}),
        ("Tile", [I64([[1]]), I64([1 << 20, 1 << 20])], {}),
        ("OneHot", [I64([1, 2]), I64(1 << 40), I64([0, 1])], {}),
        ("Pad", [I64([1]), I64([1 << 40, 0])], {}),
        ("Gather", [np.zeros((9999, 9999), np.int8)[:1], np.zeros(9999, I64)], {}),
        ("Add", [np.zeros((9999, 1), I64), np.zeros((1, 9999), I64)], {}),
        ("Einsum", [np.zeros(999, I64)] * 4, {"equation": "a,b,c,d->a"}),
        ("MatMul", [np.zeros((9999, 1), np.int8), np.zeros((1, 9999), np.int8)], {}),
        ("HannWindow", [I64(1 << 40)], {}),
        ("MelWeightMatrix", [I64(60000), I64(60000), I64(9), np.float32(0), np.float32(1)], {}),
        ("Resize", [np.ones((1, 1, 2, 2), np.float32), None, None, I64([1, 1, 65536, 65536])], {}),
        ("EyeLike", [np.broadcast_to(np.int8(0), (65536, 65536))], {"dtype": TensorProto.INT64}),
    ],
)
def test_a_constant_that_is_too_large_is_left_to_the_model(
    operator: str, inputs: list[object], attributes: dict[str, object]
) -> None:
    tracemalloc.start()
    with counted(Budget()) as counts:
        assert fold(operator, inputs, attributes) is None  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.spent["elements"] <= LIMITS["elements"] and peak < MOST_BYTES


def test_texts_that_double_are_left_to_the_model() -> None:
    text = np.array(["ab"], object)
    with counted(Budget()) as counts:
        lengths = []
        while (result := fold("StringConcat", [text, text], {})) is not None:
            (text,) = result
            lengths.append(len(text[0]))
    assert max(lengths) <= LIMITS["elements"] and counts.spent["elements"] <= LIMITS["elements"]


def test_expressions_that_may_backtrack_are_never_tried() -> None:
    assert "RegexFullMatch" in UNFOLDED


def test_what_a_file_holds_may_be_moved_again_and_again() -> None:
    weights = {f"w{place}": np.ones((300, 400), np.float16) for place in range(60)}
    names = ["x", *(f"v{place}" for place in range(59)), "y"]
    nodes = [
        each
        for place, (a, b) in enumerate(itertools.pairwise(names))
        for each in (
            helper.make_node("Cast", [f"w{place}"], [f"c{place}"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", [f"c{place}"], [f"t{place}"], perm=[1, 0]),
            helper.make_node("Reshape", [f"t{place}", "n"], [f"r{place}"]),
            helper.make_node("Add", [a, f"r{place}"], [b]),
        )
    ]
    made = plan(model(nodes, {"x": [300, 400]}, {"y": [300, 400]}, weights | {"n": I64([300, 400])}))
    assert {node.op_type for node in made.graph} == {"Add"}


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize("count", [1 << 24, 1 << 30, 1 << 60])
def test_a_range_that_nobody_can_hold_is_no_literal(to: str, count: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Range", ["a", "n", "b"], ["r"]),
        helper.make_node("ReduceMax", ["r"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    whole = model(
        nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, {"a": I64(0), "b": I64(1), "n": I64(count)}
    )
    onnx.save(whole, tmp_path / "net.onnx")
    read = converters.export_model(source.open_source(tmp_path / "net.onnx")).model
    try:
        assert len(converters.import_model(read, to).source) < 20_000
    except UnsupportedError as error:
        assert "elements would be made" in str(error) and "'r' (Range)" in str(error)


# ---- graphs in graphs, functions -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("loops_nested_9_deep", 2_000),
        ("loops_nested_24_deep", 12_000),
        ("scans_nested_9_deep", 2_000),
        ("scans_nested_20_deep", 12_000),
        ("a_loop_of_many_states", 12_000),
        ("ifs_nested_9_deep", 0),
        ("ifs_nested_29_deep", 0),
    ],
)
def test_graphs_in_graphs_are_looked_at_a_few_times(name: str, most: int, tmp_path: Path, good: Path) -> None:
    assert planned(made(name, tmp_path, good)).spent["nodes"] <= most


@pytest.mark.parametrize(
    "name",
    [
        "functions_that_double_19_times",
        "functions_of_ten_calls_five_deep",
        "a_function_of_a_thousand_nodes_called_often",
    ],
)
def test_functions_that_grow_are_refused_by_the_count_of_nodes(name: str, tmp_path: Path, good: Path) -> None:
    with pytest.raises(RefusedError, match=FILES[name].words):
        planned(made(name, tmp_path, good))


def test_a_branch_that_only_the_first_turn_takes_is_not_the_only_one() -> None:
    """The state has 4 rows in the first turn, and more in the next: the If of the body must keep both branches."""
    whole = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[2, 4] x, int64 n) => (float[rows, 4] y)
        <bool yes = {1}, int64 two = {2}, int64 zero = {0}> {
            y = Loop <body = body (int64 i, bool on, float[r, 4] v) => (bool o, float[q, 4] w) {
                o = Identity (on)
                s = Shape (v)
                rows = Gather (s, zero)
                first = Equal (rows, two)
                w = If (first) <then_branch = t () => (float[q, 4] a) { a = Concat <axis = 0> (v, v) },
                                else_branch = e () => (float[q, 4] b) { b = Concat <axis = 0> (v, x) }>
            }> (n, yes, x)
        }"""
    )
    made = plan(whole)
    (loop,) = [node for node in made.graph if node.op_type == "Loop"]
    assert "If" in {node.op_type for node in loop.attributes["body"].as_graph()}


# ---- formulas of exported programs, weights of Keras, attributes of MXNet ------------------------


@pytest.mark.parametrize("name", ["pytorch", "keras", "mxnet"])
def test_the_kinds_have_words(name: str) -> None:
    assert any(FILES[each].words for each in named(name))


@pytest.mark.parametrize(
    "text",
    [
        f"Max({', '.join(f's{i} + s{i + 1}' for i in range(90))})",
        f"Min({', '.join(f'Mul(s{i}, s{i + 1})' for i in range(20))})",
        "*".join(f"(s{i} + s{i + 1})" for i in range(0, 40, 2)),
        "Pow(Add(s0, s1, s2), Integer(30))",
        "(s0 + s1)**20",
        "Max(" * 14 + "s0" + "".join(f", s{i + 1})" for i in range(14)),
        f"Piecewise({', '.join(f'(s{i}, s{i} < s{i + 1})' for i in range(30))})",
    ],
)
def test_formulas_that_take_long_are_refused_before_sympy_sees_them(text: str) -> None:
    with pytest.raises(RefusedError, match="formulas of sizes that would take long"):
        formulas.check([text], "net.pt2")


def test_many_short_formulas_take_long_too() -> None:
    with pytest.raises(RefusedError, match="words in all"):
        formulas.check((f"Max(s{i} + {i}, {i})" for i in range(20_000)), "net.pt2")


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0', positive=True, integer=True)",
        "((s0 + 3)//4)*s1**2 + Max(1, s0) + 7",
        "FloorDiv(" * 20 + "s0" + ", Integer(2)) + 1" * 20,
        "(s0*s1 + s0 + s1 + 1)**2",
        "Max(0, Min(s0, s1), Mod(s0, 8), s2 // 2)",
        "no formula (",
    ],
)
def test_formulas_as_models_have_them_pass(text: str) -> None:
    formulas.check([text], "net.pt2")


@pytest.mark.parametrize("name", [n for n in named("pytorch") if FILES[n].words])
def test_an_exported_program_of_long_formulas_is_answered_by_the_look(
    name: str, tmp_path: Path, good: Path
) -> None:
    look_at(FILES[name], made(name, tmp_path, good))


def look_at(one: Laborious, path: Path) -> None:
    found = artifact.look(path)
    with pytest.raises(NetferryError, match=one.words):
        found.framework.safety.look(found)


@pytest.mark.parametrize(
    "name",
    [
        "keras_build_config_2_27",
        "keras_kernel_8192_squared",
        "keras_depth_multiplier",
        "keras_einsum_dense",
        "h5_input_of_2_27",
    ],
)
def test_weights_larger_than_the_file_are_never_made(name: str, tmp_path: Path, good: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RefusedError, match=r"the weight '.*' asks for far more numbers than the file holds"):
        source.open_source(made(name, tmp_path, good))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 400 << 20


def test_keras_is_left_as_it_was(good: Path) -> None:
    from netferry.converters.tensorflow.runtime import keras

    make = keras.Variable._initialize_with_initializer
    source.open_source(good / "net.keras")
    assert keras.Variable._initialize_with_initializer is make


@pytest.mark.parametrize(
    "name", ["keras_rescaled_dense_chain", "keras_dropouts_in_a_row", "keras_permuted_often"]
)
def test_sequences_that_keras_builds_anew_and_anew_are_refused(name: str, tmp_path: Path, good: Path) -> None:
    look_at(FILES[name], made(name, tmp_path, good))


@pytest.mark.parametrize("name", [n for n in named("mxnet") if FILES[n].words])
def test_attributes_of_mxnet_are_answered_in_words(name: str, tmp_path: Path, good: Path) -> None:
    path = made(name, tmp_path, good)
    tracemalloc.start()
    try:
        with pytest.raises((NetferryError, CannotConvert), match=FILES[name].words) as caught:
            converters.export_model(source.open_source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 2_000 and peak < MOST_BYTES


def test_loops_of_mxnet_count_together(tmp_path: Path, good: Path) -> None:
    with pytest.raises(UnsupportedError, match="steps of a loop"):
        converters.export_model(source.open_source(made("mxnet_loops_nested", tmp_path, good)))
