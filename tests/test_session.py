"""onnxruntime sessions: names, dtypes, shapes, devices."""

from __future__ import annotations

import numpy as np
import pytest
from models import dense, two_inputs

from netferry.converters.errors import MissingError, RefusedError, UsageError
from netferry.inference import session
from netferry.inference.session import Session

ROWS = np.ones((2, 3), np.float32)


def cuda_is_here() -> bool:
    return not session.missing_cuda_libraries()


def test_outputs_come_under_their_names() -> None:
    outputs = Session(dense()).run({"x": ROWS})
    assert list(outputs) == ["y"]
    assert outputs["y"].shape == (2, 4)


def test_inputs_bind_by_name_where_names_are_known_and_by_position_elsewhere() -> None:
    model = Session(two_inputs())
    a, b = np.full(3, 5, np.float32), np.full(3, 2, np.float32)
    assert model.run({"b": b, "a": a})["y"][0] == 3
    assert model.run({"first": a, "second": b})["y"][0] == 3
    assert model.run([a, b])["y"][0] == 3


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
    if cuda_is_here():
        assert Session(dense(), "cuda").device == "cuda"
        return
    with pytest.raises(MissingError, match=r"CUDA.*missing: .*libcuda|has no CUDA") as caught:
        Session(dense(), "cuda")
    assert caught.value.exit_code == 4
    assert caught.value.remedy


def test_auto_says_where_it_went() -> None:
    assert Session(dense(), "auto").device == ("cuda" if cuda_is_here() else "cpu")


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
