"""onnxruntime sessions: names, dtypes, shapes, devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import dense, two_inputs
from onnx import TensorProto, helper

from netferry.converters.errors import MissingError, RefusedError, UsageError, WriteError
from netferry.converters.onnx.to_onnx import to_onnx
from netferry.converters.signature import Signature, TensorSpec
from netferry.inference.binding import bind, rebind
from netferry.inference.devices import missing_for_cuda
from netferry.inference.session import Session

ROWS = np.ones((2, 3), np.float32)

CUDA_IS_HERE = not missing_for_cuda()

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not CUDA_IS_HERE, reason="no CUDA on this machine")),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(dense(), tmp_path / "dense.onnx")
    return tmp_path / "dense.onnx"


def test_outputs_come_under_their_names() -> None:
    outputs = Session(dense()).run({"x": ROWS})
    assert list(outputs) == ["y"]
    assert outputs["y"].shape == (2, 4)


def test_inputs_bind_by_name_and_without_names_by_position() -> None:
    model = Session(two_inputs())
    a, b = np.full(3, 5, np.float32), np.full(3, 2, np.float32)
    assert model.run({"b": b, "a": a})["y"][0] == 3
    with pytest.raises(UsageError, match=r"no such input: 'first', 'second'.* bound by position"):
        model.run({"first": a, "second": b})
    assert model.run([a, b])["y"][0] == 3


def of_onnx_ml(kind: str) -> onnx.ModelProto:
    """A classifier as scikit-learn's converter writes it, which gives maps; or one that takes words."""
    words = kind == "words"
    numbers = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_map_type_proto(TensorProto.INT64, numbers)
    node = (
        helper.make_node(
            "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["a"], values_floats=[1.0]
        )
        if words
        else helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    )
    dtype = TensorProto.STRING if words else TensorProto.FLOAT
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", dtype, ["n", 2])],
        [y if words else helper.make_value_info("y", helper.make_sequence_type_proto(maps))],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    ("kind", "message"), [("maps", "'y' .*zipmap"), ("words", r"'x' .*tensor\(string\)")]
)
def test_what_is_no_tensor_of_numbers_is_refused_by_name(kind: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        Session(of_onnx_ml(kind))
    if kind == "maps":
        with pytest.raises(RefusedError, match=message):
            to_onnx(of_onnx_ml(kind))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([ROWS.astype(np.float64)], "another dtype: expected float32, received float64"),
        ([np.ones((2, 4), np.float32)], r"another shape: expected x: float32\[batch, 3\], received \(2, 4\)"),
        ([np.ones(3, np.float32)], "another shape"),
        ([ROWS, ROWS], "number of inputs does not fit"),
        ({}, "number of inputs does not fit"),
    ],
)
def test_what_does_not_fit_is_told_before_running(inputs: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Session(dense()).run(inputs)


def test_cuda_is_never_exchanged_for_the_cpu_in_silence() -> None:
    if CUDA_IS_HERE:
        assert Session(dense(), "cuda").device == "cuda"
        return
    with pytest.raises(MissingError, match=r"CUDA.*missing: .*libcuda|has no CUDA") as caught:
        Session(dense(), "cuda")
    assert caught.value.exit_code == 4
    assert caught.value.remedy


def test_auto_says_where_it_went() -> None:
    assert Session(dense(), "auto").device == ("cuda" if CUDA_IS_HERE else "cpu")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="cpu, cuda or auto"):
        Session(dense(), "tpu")


def test_placement_names_the_provider_of_every_node() -> None:
    [(provider, nodes)] = Session(dense(), optimize=False).placement().items()
    assert provider == "CPUExecutionProvider"
    assert len(nodes) == 1


def test_a_model_that_onnxruntime_refuses_is_an_ordinary_error() -> None:
    broken = dense()
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(RefusedError, match="onnxruntime refuses the model"):
        Session(broken)


@pytest.mark.parametrize("device", DEVICES)
def test_a_prepared_session_reuses_its_buffers_and_gives_the_same_numbers(model: Path, device: str) -> None:
    session, rng = Session(model, device), np.random.default_rng(1)
    first, second = (rng.standard_normal((4, 3)).astype(np.float32) for _ in range(2))
    prepared = session.prepared({"x": first})
    for array in (first, second, np.asfortranarray(second[::-1])):
        wanted = session.run({"x": array})
        found = prepared.run({"x": array})
        assert found is prepared.outputs
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])
    for wrong in ({"x": first[:2]}, {"x": first.astype(np.float64)}, {}):
        with pytest.raises(UsageError, match="not what the session was prepared for"):
            prepared.run(wrong)


@pytest.mark.parametrize("device", DEVICES)
def test_the_optimised_graph_is_kept_and_loaded_again(device: str, model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    cache, wanted = tmp_path / "cache", Session(model, device).run({"x": x})
    Session(model, device, cache=cache)
    (kept,) = cache.glob("*.onnx")
    stamp = kept.stat().st_mtime_ns
    found = Session(model, device, cache=cache).run({"x": x})
    assert (kept.stat().st_mtime_ns, list(cache.glob("*.onnx"))) == (stamp, [kept])
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)
    Session(model, device, cache=cache, optimize=False)
    assert list(cache.glob("*.onnx")) == [kept]


def test_a_kept_graph_is_never_that_of_other_weights(tmp_path: Path) -> None:
    """Weights beside the graph, in a branch of it, exchanged for others of the same size and the same time."""
    path, weights, x = tmp_path / "m.onnx", tmp_path / "w.bin", np.ones((2, 3), np.float32)
    held = helper.make_tensor("w", TensorProto.FLOAT, [3], [0.0] * 3)
    held.ClearField("float_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="w.bin")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=held), helper.make_node("Add", ["x", "c"], ["z"])],
        "inner", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    truth = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["truth"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [truth])
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
        ).SerializeToString()
    )
    stamp = None
    for value in (1.0, 5.0):
        weights.write_bytes(np.full(3, value, np.float32).tobytes())
        stamp = stamp or weights.stat()
        os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        for _ in ("made", "kept"):
            session = Session(path, cache=tmp_path / "cache")
            np.testing.assert_array_equal(session.run([x])["y"], x + value)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_tensors_of_the_frameworks_are_taken_without_a_copy(framework: str, device: str, model: Path) -> None:
    pytest.importorskip(framework)
    array = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    if framework == "torch":
        import torch

        tensor = torch.from_numpy(array.copy()).requires_grad_()
        address = tensor.data_ptr()
    else:
        import tensorflow as tf

        tensor = tf.constant(array)
        address = None
    session = Session(model, device)
    taken = bind([tensor], session.signature)["x"]
    assert address is None or taken.ctypes.data == address
    np.testing.assert_array_equal(taken, array)
    for name, wanted in session.run([array]).items():
        np.testing.assert_array_equal(session.run([tensor])[name], wanted)


def test_a_damaged_cache_is_made_anew_and_one_that_cannot_be_written_is_told(
    model: Path, tmp_path: Path
) -> None:
    x = np.ones((2, 3), np.float32)
    first = Session(model, cache=tmp_path / "cache")
    feed = {first.signature.inputs[0].name: x}
    wanted = first.run(feed)
    (kept,) = (tmp_path / "cache").glob("*.onnx")
    kept.write_bytes(b"broken")
    for name, array in Session(model, cache=tmp_path / "cache").run(feed).items():
        np.testing.assert_array_equal(array, wanted[name])
    assert kept.read_bytes() != b"broken"
    with pytest.raises(WriteError, match="cannot write here"):
        Session(model, cache=model / "cache")


def test_a_prepared_session_refuses_outputs_that_have_grown(tmp_path: Path) -> None:
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("y", TensorProto.INT64, [2, "found"]),
    ]
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        tmp_path / "m.onnx",
    )
    prepared = Session(tmp_path / "m.onnx").prepared({"x": np.array([[1, 0, 1, 0]], np.float32)})
    with pytest.raises(RefusedError, match="could not run"):
        prepared.run({"x": np.ones((1, 4), np.float32)})


def test_a_tensor_that_numpy_cannot_hold_is_refused(model: Path) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match=r"numpy cannot hold.*bfloat16"):
        Session(model).run([torch.zeros(2, 3, dtype=torch.bfloat16)])


@pytest.mark.parametrize("device", DEVICES)
def test_outputs_stay_on_the_device_and_go_into_the_next_session(device: str, model: Path) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    session, following = Session(model, device), Session(clipped(), device)
    (there,) = session.run_on_device([x]).values()
    assert there.device_name() == device
    wanted = session.run([x])["y"]
    np.testing.assert_array_equal(there.numpy(), wanted)
    for outputs in (following.run([there]), following.run({"x": there})):
        np.testing.assert_array_equal(outputs["y"], np.clip(wanted, -0.5, 0.5))
    if device == "cpu":
        np.testing.assert_array_equal(np.from_dlpack(there), wanted)


def test_a_view_that_is_not_contiguous_runs_on_the_device_too(model: Path) -> None:
    x = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    session = Session(model)
    (there,) = session.run_on_device([x.T[::2]]).values()
    np.testing.assert_array_equal(there.numpy(), session.run([np.ascontiguousarray(x.T[::2])])["y"])


class Placed:
    """A tensor that says where it lies, and nothing else."""

    def __init__(self, kind: int, number: int) -> None:
        self._place = kind, number

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._place

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("a tensor of another device is not looked into")


@pytest.mark.parametrize(
    ("place", "device", "message"),
    [
        ((2, 0), "cpu", "expected cpu, received cuda:0. Move it there"),
        ((2, 1), "cuda", "expected cuda:0, received cuda:1"),
        ((10, 0), "cuda", "received DLPack device 10:0"),
    ],
)
def test_a_tensor_on_another_device_than_the_model_is_refused(
    place: tuple[int, int], device: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bind([Placed(*place)], Session(dense()).signature, device)


def test_a_failing_device_is_an_error_and_never_the_cpu() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

    class Failing:
        def __init__(self, session: Any) -> None:
            self._session, self._failed = session, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, *arguments: object) -> object:
            if not self._failed:
                self._failed = True
                raise EPFail("CUDA failure 2: out of memory")
            return self._session.run(*arguments)

    session = Session(dense())
    session._session._sess = Failing(session._session._sess)
    with pytest.raises(RefusedError, match="out of memory"):
        session.run([ROWS])


def clipped() -> onnx.ModelProto:
    """``y = clip(x, -0.5, 0.5)``, so that a chain of two sessions shows both."""
    bounds = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in (("low", -0.5), ("high", 0.5))]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Clip", ["x", "low", "high"], ["y"])], "g", ends[:1], ends[1:], bounds
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_name_that_is_no_input_is_not_bound_by_position() -> None:
    specs = tuple(TensorSpec(name, np.dtype(np.float32), (1,)) for name in "ab")
    one, two = np.ones(1, np.float32), np.full(1, 2, np.float32)
    signature = Signature(specs, ())
    assert bind({"b": two, "a": one}, signature) == {"a": one, "b": two}
    assert list(bind([one, two], signature).values()) == [one, two]
    assert rebind({"left": one, "right": two}, signature) == {"a": one, "b": two}
    assert rebind({"b": two, "a": one}, signature) == {"a": one, "b": two}
    with pytest.raises(UsageError, match="no such input: 'left', 'right'"):
        bind({"left": one, "right": two}, signature)
    with pytest.raises(UsageError, match="no such input: 'typo'"):
        bind({"b": two, "typo": one}, signature)
