"""What is said of the three frameworks, shown by running each: eager and traced, broadcasting, symbols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from netferry.converters.mxnet.live import import_mxnet
from netferry.converters.tensorflow.runtime import keras, tf

mx = import_mxnet()

Say = Callable[[str], None]
COLUMN, ROW = np.arange(3, dtype=np.float32).reshape(3, 1), np.arange(4, dtype=np.float32).reshape(1, 4)


# ---- eager: a value as soon as the line has run -------------------------------------------------------


def test_eager_execution_gives_values_at_once_in_all_three() -> None:
    doubled = {
        "pytorch": (torch.tensor([1.0, 2.0]) * 2).numpy(),
        "tensorflow": (tf.constant([1.0, 2.0]) * 2).numpy(),
        "mxnet": (mx.nd.array([1.0, 2.0]) * 2).asnumpy(),
    }
    for framework, value in doubled.items():
        assert value.tolist() == [2.0, 4.0], framework


def test_eager_code_may_branch_on_a_value_in_all_three() -> None:
    values = (torch.tensor(-3.0), tf.constant(-3.0), mx.nd.array([-3.0]))
    assert [(-x if x < 0 else x) == 3.0 for x in values] == [True, True, True]


# ---- static: Python runs while the graph is traced, then no more --------------------------------------


def torch_traced(say: Say) -> Callable[[Any], float]:
    def double(x: torch.Tensor) -> torch.Tensor:
        say("traced")
        return x * 2

    graph = torch.jit.trace(double, torch.zeros(1), check_trace=False)
    return lambda value: float(graph(torch.tensor([value])))


def tensorflow_function(say: Say) -> Callable[[Any], float]:
    @tf.function
    def double(x: Any) -> Any:
        say("traced")
        return x * 2

    return lambda value: float(double(tf.constant([value]))[0])


def gluon_hybridized(say: Say) -> Callable[[Any], float]:
    class Double(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, x: Any) -> Any:
            say("traced")
            return x * 2

    block = Double()
    block.hybridize()
    return lambda value: float(block(mx.nd.array([value])).asscalar())


@pytest.mark.parametrize("traced", [torch_traced, tensorflow_function, gluon_hybridized])
def test_a_static_graph_is_traced_once_and_then_runs_without_python(traced: Any) -> None:
    said: list[str] = []
    double = traced(said.append)
    assert [double(value) for value in (1.0, 2.0, 5.0)] == [2.0, 4.0, 10.0]
    assert said == ["traced"]


def test_without_hybridize_gluon_runs_its_python_every_time() -> None:
    said: list[str] = []

    class Double(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, x: Any) -> Any:
            said.append("ran")
            return x * 2

    block = Double()
    for value in (1.0, 2.0, 5.0):
        block(mx.nd.array([value]))
    assert said == ["ran"] * 3


def test_a_trace_keeps_the_branch_that_it_saw() -> None:
    """A trace holds one road: PyTorch's keeps it in silence, TensorFlow rewrites the ``if`` into the graph."""

    def magnitude(x: Any) -> Any:
        if x < 0:
            return -x
        return x

    with pytest.warns(torch.jit.TracerWarning):
        graph = torch.jit.trace(magnitude, torch.tensor(1.0), check_trace=False)
    assert float(graph(torch.tensor(-3.0))) == -3.0
    assert float(tf.function(magnitude)(tf.constant(-3.0))) == 3.0


def test_mxnet_cannot_trace_a_branch_on_a_value() -> None:
    class Magnitude(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return -x if x < 0 else x

    block = Magnitude()
    assert float(block(mx.nd.array([-3.0])).asscalar()) == 3.0
    block.hybridize()
    with pytest.raises(Exception, match="bool"):
        block(mx.nd.array([-3.0]))


# ---- broadcasting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "add",
    [
        lambda a, b: (torch.from_numpy(a) + torch.from_numpy(b)).numpy(),
        lambda a, b: (tf.constant(a) + tf.constant(b)).numpy(),
        lambda a, b: (mx.np.array(a) + mx.np.array(b)).asnumpy(),
        lambda a, b: (mx.nd.array(a) + mx.nd.array(b)).asnumpy(),
    ],
    ids=["torch", "tf", "mx.np", "mx.nd"],
)
def test_the_plus_sign_broadcasts_as_numpy_does(add: Any) -> None:
    np.testing.assert_array_equal(add(COLUMN, ROW), COLUMN + ROW)


def run_symbol(symbol: Any) -> np.ndarray:
    executor = symbol.bind(mx.cpu(), {"a": mx.nd.array(COLUMN), "b": mx.nd.array(ROW)})
    return executor.forward()[0].asnumpy()


def test_mxnets_elemwise_add_does_not_broadcast() -> None:
    with pytest.raises(mx.base.MXNetError):
        run_symbol(mx.sym.elemwise_add(mx.sym.var("a"), mx.sym.var("b")))


def test_mxnets_plus_sign_between_symbols_is_elemwise_and_does_not_broadcast() -> None:
    with pytest.raises(mx.base.MXNetError):
        run_symbol(mx.sym.var("a") + mx.sym.var("b"))


def test_mxnets_broadcast_add_does() -> None:
    result = run_symbol(mx.sym.broadcast_add(mx.sym.var("a"), mx.sym.var("b")))
    np.testing.assert_array_equal(result, COLUMN + ROW)


# ---- symbols: a computation before any value ----------------------------------------------------------


def mxnet_symbol() -> Callable[[np.ndarray], np.ndarray]:
    x = mx.sym.var("x")
    y = mx.sym.square(x) + 1
    assert y.list_arguments() == ["x"]
    return lambda value: y.eval(x=mx.nd.array(value))[0].asnumpy()


def keras_input() -> Callable[[np.ndarray], np.ndarray]:
    x = keras.Input((None,))
    y = keras.ops.square(x) + 1
    assert isinstance(y, keras.KerasTensor)
    model = keras.Model(x, y)
    return lambda value: model(value).numpy()


def torch_fx() -> Callable[[np.ndarray], np.ndarray]:
    graph = torch.fx.Graph()
    x = torch.fx.Proxy(graph.placeholder("x"))
    y = x.square() + 1
    assert isinstance(y, torch.fx.Proxy)
    graph.output(y.node)
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    return lambda value: module(torch.from_numpy(value)).numpy()


@pytest.mark.parametrize("compose", [mxnet_symbol, keras_input, torch_fx])
def test_a_computation_is_composed_before_any_value_exists(compose: Any) -> None:
    compute = compose()
    for batch in (1, 3):
        value = np.arange(2 * batch, dtype=np.float32).reshape(batch, 2)
        np.testing.assert_array_equal(compute(value), value**2 + 1)
