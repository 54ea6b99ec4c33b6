"""MXNet networks with random weights, as symbols in gluon's SymbolBlock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sweep.case import Array, Input, Network


def mxnet() -> Any:
    from netferry.converters.mxnet.live import import_mxnet  # mxnet 1.9.1 needs names that numpy has dropped

    return import_mxnet()


def block(symbol: Any, params: Mapping[str, Array]) -> Any:
    """A symbol of the inputs data (ids) with its parameters."""
    mx = mxnet()
    inputs = [name for name in symbol.list_inputs() if name not in params]
    made = mx.gluon.SymbolBlock(symbol, [mx.sym.var(name) for name in inputs])
    for name, parameter in made.collect_params().items():
        array = params[name]
        parameter.shape, parameter.dtype = array.shape, array.dtype
        parameter.initialize(ctx=mx.cpu())
        parameter.set_data(mx.nd.array(array, dtype=array.dtype))
    return made


def drawn(symbol: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Random parameters of the sizes that mxnet infers; variances positive."""
    arguments, _, states = symbol.infer_shape(**shapes)
    sizes = dict(zip(symbol.list_arguments(), arguments, strict=True))
    sizes |= dict(zip(symbol.list_auxiliary_states(), states, strict=True))
    rng, params = np.random.default_rng(0), {}
    for name, shape in sizes.items():
        if name in shapes:
            continue
        fan = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 4
        values = rng.normal(0, 1 / np.sqrt(fan), shape)
        params[name] = (np.abs(values) + 0.5 if name.endswith("var") else values).astype(np.float32)
    return params


def cnn(F: Any, x: Any) -> Any:  # noqa: N803
    x = F.Convolution(x, kernel=(3, 3), num_filter=8, pad=(1, 1), no_bias=True, name="conv0")
    x = F.Activation(F.BatchNorm(x, fix_gamma=False, eps=1e-3, name="bn0"), act_type="relu")
    x = F.Pooling(x, kernel=(3, 3), stride=(2, 2), pool_type="max", pooling_convention="full")
    x = F.Convolution(x, kernel=(3, 3), num_filter=8, num_group=2, stride=(2, 2), pad=(1, 1), name="conv1")
    x = F.LeakyReLU(F.BatchNorm(x, fix_gamma=True, eps=2e-5, name="bn1"), act_type="leaky", slope=0.2)
    x = F.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg")
    return F.softmax(F.FullyConnected(x, num_hidden=5, name="fc"))


def upsampler(F: Any, x: Any) -> Any:  # noqa: N803
    x = F.Deconvolution(x, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=4, no_bias=False, name="up")
    x = F.LeakyReLU(x, act_type="elu", slope=0.7)
    x = F.UpSampling(x, scale=2, sample_type="nearest")
    x = F.contrib.BilinearResize2D(x, height=15, width=13)
    return F.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg")


def mlp(F: Any, x: Any) -> Any:  # noqa: N803
    x = F.LeakyReLU(F.FullyConnected(x, num_hidden=16, name="fc0"), act_type="gelu")
    x = F.LayerNorm(F.FullyConnected(x, num_hidden=16, name="fc1"), name="ln")
    x = F.Activation(F.FullyConnected(x, num_hidden=16, name="fc2"), act_type="softrelu")
    return F.log_softmax(F.FullyConnected(x, num_hidden=4, name="fc3"))


def text(F: Any, x: Any) -> Any:  # noqa: N803
    y = F.Embedding(x, input_dim=30, output_dim=8, name="table")
    y = F.concat(F.mean(y, axis=1), F.max(y, axis=1), dim=1)
    return F.FullyConnected(F.tanh(y), num_hidden=3, name="fc")


def attention(F: Any, x: Any) -> Any:  # noqa: N803
    q, k, v = (F.FullyConnected(x, num_hidden=8, flatten=False, name=name) for name in "qkv")
    weights = F.softmax(F.batch_dot(q, k, transpose_b=True) / 2.8)
    return F.LayerNorm(x + F.batch_dot(weights, v), name="ln")


def classifier(F: Any, x: Any) -> Any:  # noqa: N803
    y = F.FullyConnected(x, num_hidden=6, name="fc")
    return mxnet().sym.Group([F.argmax(y, axis=1), F.topk(y, k=2, ret_typ="indices"), F.clip(y * 10, -3, 3)])


def gated(F: Any, x: Any) -> Any:  # noqa: N803
    y = F.Convolution(x, kernel=(3,), num_filter=8, pad=(1,), name="conv")
    y = F.hard_sigmoid(F.slice_axis(y, axis=1, begin=0, end=4)) * F.slice_axis(y, axis=1, begin=4, end=8)
    y = F.L2Normalization(y, mode="channel")
    return F.Pooling(y, kernel=(2,), stride=(2,), pool_type="max")


_TABLE: tuple[tuple[str, str, Callable[[Any, Any], Any], Input], ...] = (
    ("cnn", "vision", cnn, Input("data", ("batch", 3, 12, 12))),
    ("upsampler", "vision", upsampler, Input("data", ("batch", 3, 5, 6))),
    ("mlp", "rows", mlp, Input("data", ("batch", 6))),
    ("text", "text", text, Input("data", ("batch", 7), "int32", 29)),
    ("attention", "text", attention, Input("data", ("batch", 7, 8))),
    ("classifier", "integer", classifier, Input("data", ("batch", 6))),
    ("gated conv1d", "vision", gated, Input("data", ("batch", 4, 20))),
)


def _made(make: Callable[[Any, Any], Any], one: Input) -> Any:
    mx = mxnet()
    with mx.name.NameManager():
        symbol = make(mx.sym, mx.sym.var("data", dtype=one.dtype))
    return block(symbol, drawn(symbol, {"data": one.shape(0)}))


def networks() -> list[Network]:
    return [
        Network(f"mxnet {name}", "mxnet", field, lambda make=make, one=one: _made(make, one), (one,))
        for name, field, make, one in _TABLE
    ]
