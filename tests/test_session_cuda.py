"""onnxruntime on a GPU: tensors that stay there, streams, rounding. Nothing here runs where there is no CUDA."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from models import dense
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.errors import NetferryError, UsageError
from netferry.inference.binding import bind
from netferry.inference.devices import missing_for_cuda
from netferry.inference.session import Session

pytestmark = pytest.mark.skipif(bool(missing_for_cuda()), reason="no CUDA on this machine")

RNG = np.random.default_rng(7)
X = RNG.standard_normal((4, 3)).astype(np.float32)


def product(width: int, dtype: int = TensorProto.FLOAT, weight: np.ndarray | None = None) -> onnx.ModelProto:
    """``y = x @ w``."""
    wide = helper.tensor_dtype_to_np_dtype(dtype)
    w = RNG.standard_normal((width, width)).astype(wide) if weight is None else weight
    ends = [helper.make_tensor_value_info(name, dtype, ["batch", width]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def torch_tensor(array: np.ndarray) -> Any:
    return pytest.importorskip("torch").from_numpy(array.copy()).cuda()


def cupy_array(array: np.ndarray) -> Any:
    return pytest.importorskip("cupy").asarray(array)


def jax_array(array: np.ndarray) -> Any:
    jax = pytest.importorskip("jax")
    return jax.device_put(array, jax.devices("gpu")[0])


def tensorflow_tensor(array: np.ndarray) -> Any:
    tf = pytest.importorskip("tensorflow")
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("this TensorFlow sees no GPU")
    with tf.device("GPU:0"):
        return tf.identity(tf.constant(array))


@pytest.mark.parametrize("make", [torch_tensor, cupy_array, jax_array, tensorflow_tensor])
def test_tensors_on_the_gpu_give_what_arrays_give(make: Any) -> None:
    session = Session(dense(), "cuda")
    wanted = session.run([X])["y"]
    np.testing.assert_array_equal(session.run([make(X)])["y"], wanted)
    (there,) = session.run_on_device({"x": make(X)}).values()
    assert there.device_name() == "cuda"
    np.testing.assert_array_equal(there.numpy(), wanted)


def test_neither_inputs_nor_outputs_are_copied() -> None:
    torch = pytest.importorskip("torch")
    session, tensor = Session(dense(), "cuda"), torch_tensor(X)
    assert bind([tensor], session.signature, "cuda")["x"].data_ptr() == tensor.data_ptr()
    (there,) = session.run_on_device([tensor]).values()
    taken = torch.from_dlpack(there)
    assert (taken.device.type, taken.data_ptr()) == ("cuda", there.data_ptr())
    del session, there  # the memory outlives the session
    np.testing.assert_array_equal(taken.cpu().numpy(), Session(dense(), "cuda").run([X])["y"])


def test_a_tensor_that_is_still_being_computed_is_waited_for() -> None:
    torch = pytest.importorskip("torch")
    side, session = torch.cuda.Stream(), Session(dense(), "cuda")
    wanted = session.run([X])["y"]
    busy, source = torch.randn(4096, 4096, device="cuda"), torch_tensor(X)
    for _ in range(5):
        tensor = torch.zeros(4, 3, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            for _ in range(20):
                busy = torch.tanh(busy @ busy)
            tensor += source + 0 * busy[0, 0]
        np.testing.assert_array_equal(session.run([tensor])["y"], wanted)


def test_views_and_tensors_that_learn_are_taken() -> None:
    session, whole = Session(dense(), "cuda"), torch_tensor(np.ascontiguousarray(X.T))
    wanted = session.run([X])["y"]
    np.testing.assert_array_equal(session.run([whole.T])["y"], wanted)
    np.testing.assert_array_equal(session.run([torch_tensor(X).requires_grad_()])["y"], wanted)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: torch_tensor(X.astype(np.float64)), "another dtype: expected float32, received float64"),
        (
            lambda: torch_tensor(X[:, :2]),
            r"another shape: expected x: float32\[batch, 3\], received \(4, 2\)",
        ),
        (lambda: torch_tensor(X).bfloat16(), "bfloat16"),
    ],
)
def test_what_does_not_fit_is_told(tensor: Any, message: str) -> None:
    with pytest.raises(NetferryError, match=message):
        Session(dense(), "cuda").run([tensor()])


def test_a_session_on_the_cpu_refuses_a_tensor_on_the_gpu() -> None:
    with pytest.raises(UsageError, match="expected cpu, received cuda:0"):
        Session(dense()).run([torch_tensor(X)])


def test_half_precision_runs_and_stays_there() -> None:
    session, x = Session(product(64, TensorProto.FLOAT16), "cuda"), RNG.standard_normal((5, 64))
    (there,) = session.run_on_device([torch_tensor(x.astype(np.float16))]).values()
    np.testing.assert_array_equal(there.numpy(), session.run([x.astype(np.float16)])["y"])


def test_products_keep_all_bits_unless_tf32_is_asked_for() -> None:
    """1 + 2^-12 has more bits than tf32's ten: rounded to them it is 1."""
    x, w = np.full((64, 64), 1 + 2.0**-12, np.float32), np.eye(64, dtype=np.float32)
    exact = Session(product(64, weight=w), "cuda").run([x])["y"]
    np.testing.assert_array_equal(exact, x)
    rounded = Session(product(64, weight=w), "cuda", tf32=True).run([x])["y"]
    assert not np.array_equal(rounded, x)


def test_nodes_that_cuda_has_not_are_told() -> None:
    model = dense()
    assert Session(model, "cuda").where == "cuda"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Det", ["r"], ["y"])]
    ends[1] = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session, x = Session(proto, "cuda"), RNG.standard_normal((3, 3)).astype(np.float32)
    assert session.where == "cuda, 1 of 2 nodes on the cpu"
    wanted = np.linalg.det(np.maximum(x, 0))
    for outputs in (session.run([x]), session.run([torch_tensor(x)]), session.prepared([x]).run({"x": x})):
        np.testing.assert_allclose(outputs["y"], wanted, rtol=1e-5)
