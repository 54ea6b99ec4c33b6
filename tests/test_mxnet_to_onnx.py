"""MXNet to ONNX: every row against mxnet's own result, through the files, at two batches."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mxnet_cases import assert_arrives, assert_equal, drawn, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry import converters
from netferry.converters import artifact, frameworks
from netferry.converters.errors import RefusedError, UnsupportedError, UsageError
from netferry.converters.mxnet import attributes, files, symbol
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.symbol import Node, Symbol
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.mxnet.to_onnx.emitter import ROWS
from netferry.converters.signature import Array, Example, examples
from netferry.inference.session import Session

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def registry(oracle: Oracle) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = oracle.registry()
    return found


# ---- symbols -----------------------------------------------------------------------------------

IMAGE, ROWS2, SEQUENCE, WAVE, VOLUME = (2, 4, 7, 6), (3, 8), (3, 5, 4), (2, 3, 9), (2, 2, 5, 4, 6)

LAYERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "F.Convolution(data, kernel=(3, 2), num_filter=6, num_group=2, stride=(2, 1), pad=(1, 0), dilate=(1, 2))": (IMAGE,),
    "F.Convolution(data, kernel=(3,), num_filter=4, no_bias=True, layout='NCW')": (WAVE,),
    "F.Convolution(data, kernel=(2, 3, 2), num_filter=3, pad=(1, 1, 0))": (VOLUME,),
    "F.Deconvolution(data, kernel=(3, 4), num_filter=6, num_group=2, stride=(2, 3), pad=(1, 0), adj=(1, 2), no_bias=False)": (IMAGE,),
    "F.Deconvolution(data, kernel=(2, 2), num_filter=3)": (IMAGE,),
    "F.Deconvolution(data, kernel=(3,), num_filter=3, stride=(2,), dilate=(1,), target_shape=(9,), pad=(5,))": (WAVE,),
    "F.Deconvolution(data, kernel=(3,), num_filter=3, stride=(2,), dilate=(1,))": (WAVE,),
    "F.FullyConnected(data, num_hidden=5)": (IMAGE,),
    "F.FullyConnected(data, num_hidden=5, flatten=False)": (SEQUENCE,),
    "F.FullyConnected(data, num_hidden=5, no_bias=True, flatten=False)": (ROWS2,),
    "F.BatchNorm(data, name='n')": (IMAGE,),
    "F.BatchNorm(data, fix_gamma=False, eps=0.05, axis=3)": (IMAGE,),
    "F.BatchNorm(data, fix_gamma=False, axis=-1, use_global_stats=True)": (SEQUENCE,),
    "F.BatchNorm(data, fix_gamma=False, output_mean_var=True)[0]": (ROWS2,),
    "F.contrib.SyncBatchNorm(data, fix_gamma=False, key='k')": (IMAGE,),
    "F.contrib.BatchNormWithReLU(data, fix_gamma=False)": (IMAGE,),
    "F.LayerNorm(data)": (SEQUENCE,),
    "F.LayerNorm(data, axis=1, eps=0.1)": (IMAGE,),
    "F.GroupNorm(data, num_groups=2, eps=0.1)": (IMAGE,),
    "F.InstanceNorm(data)": (IMAGE,),
    "F.InstanceNorm(data, eps=0.2)": (WAVE,),
    "F.L2Normalization(data, eps=0.3)": (IMAGE,),
    "F.L2Normalization(data, mode='channel')": (IMAGE,),
    "F.L2Normalization(data, mode='spatial', eps=0.3)": (IMAGE,),
    "F.LRN(data, nsize=3, alpha=0.3, beta=0.6, knorm=1.5)": (IMAGE,),
    "F.LRN(data, nsize=5)": (IMAGE,),
    "F.LRN(data, nsize=3, alpha=0.3, beta=-0.6, knorm=1.5)": (IMAGE,),
    "F.LRN(data * 0.1, nsize=5, alpha=-0.2)": (IMAGE,),
    "F.Dropout(data, p=0.7)": (ROWS2,),
    "F.LeakyReLU(data)": (ROWS2,),
    "F.LeakyReLU(data, act_type='leaky', slope=0.4)": (ROWS2,),
    "F.LeakyReLU(data, act_type='elu', slope=0.7)": (ROWS2,),
    "F.LeakyReLU(data, act_type='selu')": (ROWS2,),
    "F.LeakyReLU(data, act_type='gelu')": (ROWS2,),
    "F.LeakyReLU(data, act_type='prelu', gamma=var('slope_gamma'))": (IMAGE,),
    "F.LeakyReLU(data, act_type='prelu', gamma=var('slope_gamma', shape=(1,)))": (IMAGE,),
    "F.LeakyReLU(data, act_type='prelu', gamma=var('slope_gamma') )": (ROWS2,),
    "F.LeakyReLU(data, act_type='rrelu', lower_bound=0.2, upper_bound=0.4)[0]": (ROWS2,),
    **{f"F.Activation(data, act_type='{kind}')": (ROWS2,) for kind in ["relu", "sigmoid", "tanh", "softrelu", "softsign"]},
    "F.SoftmaxActivation(data)": (ROWS2,),
    "F.SoftmaxActivation(data * 3)": (IMAGE,),
    "F.SoftmaxActivation(data, mode='channel')": (IMAGE,),
    "F.SoftmaxOutput(data, name='softmax')": (ROWS2,),
    "F.SoftmaxOutput(data, name='softmax', multi_output=True, use_ignore=True)": (IMAGE,),
    "F.SoftmaxOutput(data, name='softmax', preserve_shape=True)": (SEQUENCE,),
    "F.SoftmaxOutput(data, name='softmax')  # flattened": (SEQUENCE,),
    "F.LinearRegressionOutput(data, name='lro')": (ROWS2,),
    "F.LogisticRegressionOutput(data, name='lro', grad_scale=2)": (ROWS2,),
    "F.MAERegressionOutput(data, name='lro')": (ROWS2,),
    "F.SVMOutput(data, name='svm', margin=2)": (ROWS2,),
    "F.MakeLoss(data * 2, grad_scale=3)": (ROWS2,),
    "F.BlockGrad(data + 1)": (ROWS2,),
    "F.UpSampling(data, scale=2, sample_type='nearest')": (IMAGE,),
    "F.UpSampling(data, scale=2, sample_type='bilinear', num_filter=4)": (IMAGE,),
    "F.UpSampling(data, scale=3, sample_type='bilinear', num_filter=4)": (IMAGE,),
    "F.contrib.BilinearResize2D(data, height=9, width=4)": (IMAGE,),
    "F.contrib.BilinearResize2D(data, height=9, width=11, align_corners=False)": (IMAGE,),
    "F.contrib.BilinearResize2D(data, scale_height=1.5, scale_width=0.5)": (IMAGE,),
    "F.contrib.BilinearResize2D(data, other, mode='like')": (IMAGE, (2, 1, 5, 9)),
    "F.contrib.BilinearResize2D(data, scale_height=2.5, scale_width=2.5, mode='odd_scale')": (IMAGE,),
    "F.contrib.BilinearResize2D(data, mode='to_even_down')": (IMAGE,),
    "F.contrib.BilinearResize2D(data, mode='to_even_up')": (IMAGE,),
    "F.contrib.BilinearResize2D(data, mode='to_odd_down')": (IMAGE,),
    "F.contrib.BilinearResize2D(data, mode='to_odd_up')": (IMAGE,),
    "F.Pooling(data, kernel=(2, 3), stride=(2, 1), pad=(1, 1), layout='NHWC')": (IMAGE,),
    "F.Pooling(data, kernel=(2, 3), pool_type='avg', pooling_convention='full', stride=(2, 2), layout='NHWC')": (IMAGE,),
    "F.depth_to_space(data, block_size=2)": (IMAGE,),
    "F.space_to_depth(data, block_size=2)": ((2, 4, 6, 4),),
}  # fmt: skip

POOLS = {
    f"F.Pooling(data, kernel={kernel}, stride={stride}, pad={pad}, pool_type='{kind}', pooling_convention='{rule}'{more})": (dims,)
    for kernel, stride, pad, dims in [
        ("(2, 3)", "(2, 2)", "(0, 1)", IMAGE),
        ("(3, 3)", "(2, 3)", "(1, 1)", IMAGE),
        ("(2, 2)", "(3, 4)", "(0, 0)", IMAGE),
        ("(1, 2)", "(2, 3)", "(0, 1)", IMAGE),
        ("(3,)", "(2,)", "(1,)", WAVE),
        ("(2, 3, 2)", "(1, 2, 2)", "(1, 0, 0)", VOLUME),
    ]
    for kind, more in [("max", ""), ("avg", ""), ("avg", ", count_include_pad=False"), ("sum", "")]
    for rule in ("valid", "full")
}  # fmt: skip
POOLS |= {
    "F.Pooling(data, kernel=(3, 3), stride=(2, 2), pool_type='lp', p_value=2)": (IMAGE,),
    "F.Pooling(data, kernel=(2,), stride=(3,), pad=(0, 0, 0), pooling_convention='same')": (WAVE,),
    "F.Pooling(data, kernel=(2, 2), stride=(3, 3), pooling_convention='full')": ((2, 3, 6, 8),),
    "F.Pooling(data, kernel=(2, 2), stride=(4, 3), pooling_convention='full')  # a window of padding": ((2, 3, 7, 5),),
    "F.Pooling(data, kernel=(1, 1))": (IMAGE,),
    **{f"F.Pooling(data, global_pool=True, pool_type='{kind}')": (IMAGE,) for kind in ("max", "avg", "sum")},
    "F.Pooling(data, kernel=(7, 7), global_pool=True, pool_type='avg', pooling_convention='full')": (IMAGE,),
    "F.Pooling(data, kernel=(1,), global_pool=True, pool_type='lp', p_value=2)": (WAVE,),
}  # fmt: skip

UNARY = {
    **{
        f"F.{name}(data)": (ROWS2,)
        for name in [
            "relu",
            "sigmoid",
            "tanh",
            "exp",
            "abs",
            "sign",
            "negative",
            "floor",
            "ceil",
            "erf",
            "reciprocal",
            "softsign",
            "sin",
            "cos",
            "tan",
            "arctan",
            "sinh",
            "cosh",
            "arcsinh",
            "square",
            "degrees",
            "radians",
            "trunc",
            "fix",
            "round",
            "rint",
            "expm1",
            "cbrt",
            "rcbrt",
            "identity",
            "stop_gradient",
            "make_loss",
        ]
    },
    **{
        f"F.{name}(F.abs(data) + 0.3)": (ROWS2,)
        for name in ["log", "sqrt", "rsqrt", "log2", "log10", "log1p"]
    },
    "F.arccosh(F.abs(data) + 1.2)": (ROWS2,),
    **{f"F.{name}(data * 0.2)": (ROWS2,) for name in ["arcsin", "arccos", "arctanh", "log1p"]},
    **{
        f"F.{name}(F.broadcast_add(F._arange(start=-4, stop=4, step=0.25), F.sum(data) * 0))": (ROWS2,)
        for name in ["round", "rint", "trunc", "fix", "floor", "ceil", "sign"]
    },
    "F.expm1(data * 1e-4)": (ROWS2,),
    "F.log1p(data * 1e-4)": (ROWS2,),
    "F.logical_not(F.round(data))": (ROWS2,),
    "F.hard_sigmoid(data, alpha=0.4, beta=0.3)": (ROWS2,),
    "F.hard_sigmoid(data)": (ROWS2,),
    "F.smooth_l1(data, scalar=1.5)": (ROWS2,),
    "F.smooth_l1(data, scalar=0.7)": (ROWS2,),
    "F.clip(data, a_min=-0.5, a_max=0.7)": (ROWS2,),
    "F.cast(data * 10, dtype='int32')": (ROWS2,),
    "F.cast(data, dtype='float64')": (ROWS2,),
    "F.cast(data, dtype='float16')": (ROWS2,),
    "F.amp_cast(data, dtype='float16')": (ROWS2,),
    "F.contrib.div_sqrt_dim(data)": (ROWS2,),
    "F.softmax(data)": (SEQUENCE,),
    "F.softmax(data, axis=1, temperature=2.5)": (SEQUENCE,),
    "F.softmax(data, dtype='float64')": (SEQUENCE,),
    "F.log_softmax(data, axis=1, temperature=0.5)": (SEQUENCE,),
    "F.softmin(data, axis=1)": (SEQUENCE,),
}

_COARSE = "F.round(data), F.round(other)"
BINARY = {
    **{
        f"F.{prefix}{name}({operands})": (ROWS2, (1, 8) if prefix == "broadcast_" else ROWS2)
        for prefix, names in [
            ("elemwise_", "add sub mul div"),
            ("broadcast_", "add sub mul div mod maximum minimum hypot"),
            ("_", "mod maximum minimum hypot"),
        ]
        for name in names.split()
        for operands in ("data, other",)
    },
    **{
        f"F.{prefix}{name}({_COARSE})": (ROWS2, (1, 8) if prefix == "broadcast_" else ROWS2)
        for prefix in ("_", "broadcast_")
        for name in ["mod", "equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal", "logical_and", "logical_or", "logical_xor"]
    },
    "F.broadcast_power(F.abs(data), other)": (ROWS2, (1, 8)),
    "F._power(F.abs(data), other)": (ROWS2, ROWS2),
    **{
        f"F.{name}(data, scalar={scalar})": (ROWS2,)
        for name in ["_plus_scalar", "_minus_scalar", "_rminus_scalar", "_mul_scalar", "_div_scalar", "_rdiv_scalar", "_mod_scalar", "_rmod_scalar", "_rpower_scalar", "_maximum_scalar", "_minimum_scalar", "_hypot_scalar"]
        for scalar in (0.7, 2)
    },
    "F._mod_scalar(data, scalar=-0.7)": (ROWS2,),
    "F._rmod_scalar(data, scalar=-0.7)": (ROWS2,),
    "F._power_scalar(F.abs(data), scalar=1.7)": (ROWS2,),
    **{
        f"F._{name}_scalar(F.round(data), scalar=1)": (ROWS2,)
        for name in ["equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal", "logical_and", "logical_or", "logical_xor"]
    },
    "F.add_n(data, other, third)": (ROWS2,) * 3,
    "F.add_n(data, other)": (ROWS2,) * 2,
    "F.where(F.round(data), other, third)": (ROWS2,) * 3,
    "F.where(F.slice_axis(F.round(data), axis=1, begin=0, end=1).reshape((-1,)), other, third)": (ROWS2,) * 3,
    "F.cast(F.cast(data * 10, dtype='int32') + 3, dtype='float32')": (ROWS2,),
}  # fmt: skip

REDUCTIONS = {
    **{
        f"F.{name}({'data' if name != 'prod' else 'data + 1'}{more})": (SEQUENCE,)
        for name in ["sum", "mean", "max", "min", "prod"]
        for more in (
            "", ", axis=1", ", axis=(0, 2)", ", axis=-1, keepdims=True", ", axis=1, exclude=True",
            ", axis=(1, 2), exclude=True, keepdims=True", ", axis=()", ", keepdims=True",
        )
    },
    **{
        f"F.norm(data{more})": (SEQUENCE,)
        for more in ("", ", axis=1", ", ord=1, axis=2", ", ord=1, axis=0, keepdims=True", ", axis=(0, 2)")
    },
    "F.sum(F.reshape(data, shape=(-1,)), axis=0)": (SEQUENCE,),
    "F.moments(data, axes=(0, 2))": (SEQUENCE,),
    "F.moments(data, axes=(1,), keepdims=True)": (SEQUENCE,),
    **{
        f"F.{name}(data{more})": (SEQUENCE,)
        for name in ("argmax", "argmin")
        for more in (", axis=1", ", axis=-1, keepdims=True", "", ", keepdims=True")
    },
    "F.argmax(F.round(data), axis=1)": (SEQUENCE,),
    "F.argmax_channel(data)": (ROWS2,),
    "F.dot(data, other)": (ROWS2, (8, 5)),
    "F.dot(data, other, transpose_b=True)": (ROWS2, (5, 8)),
    "F.dot(data, var('w_weight', shape=(6, 4)), transpose_b=True)": (SEQUENCE,),
    "F.batch_dot(data, other)": ((3, 5, 4), (3, 4, 2)),
    "F.batch_dot(data, other, transpose_b=True)": ((3, 5, 4), (3, 2, 4)),
    "F.batch_dot(data, other, transpose_a=True)": ((3, 5, 4), (3, 5, 2)),
}  # fmt: skip

SHAPES = {
    **{
        f"F.reshape(data, shape={shape})": (dims,)
        for shape, dims in [
            ("(-1,)", IMAGE), ("(0, -1)", IMAGE), ("(0, 0, -1)", IMAGE), ("(-1, 6)", IMAGE), ("(0, -2)", IMAGE),
            ("(0, -3, -2)", IMAGE), ("(-3, -2)", IMAGE), ("(-3, 0, 0)", IMAGE), ("(0, -4, 2, -1, -2)", IMAGE),
            ("(0, -4, -1, 2, 0, 0)", IMAGE), ("(-2, 1, 1)", IMAGE), ("(0, 2, -1, 0)", IMAGE),
            ("(-3, -3)", IMAGE), ("(0, 1, -1, 1, 6)", IMAGE), ("(0, -3, -1)", IMAGE),
        ]
    },
    "F.flatten(data)": (IMAGE,),
    "F.flatten(data)  # flat": (ROWS2,),
    "F.reshape_like(data, other)": ((4, 6), (4, 3, 2)),
    "F.reshape_like(data, other, lhs_begin=1, lhs_end=2, rhs_begin=1, rhs_end=3)": ((4, 6, 5), (7, 3, 2)),
    "F.reshape_like(data, other, lhs_begin=-2, rhs_begin=1)": ((4, 6, 5), (4, 3, 10)),
    "F.reshape_like(data, other, lhs_end=2, rhs_end=-1)": ((4, 6, 5), (4, 3, 2, 5)),
    "F.Reshape(data, target_shape=(0, 2, 15))": ((4, 6, 5),),
    "F.Reshape(data, target_shape=(9, 0), keep_highest=True)": ((4, 6, 5),),
    "F.Reshape(data, target_shape=(9, 2, 0), keep_highest=True)": ((4, 6, 5),),
    "F.broadcast_add(F.Convolution(data, kernel=(3, 3), num_filter=3), F.sum(var('data'), axis=(1, 2, 3), keepdims=True))": (IMAGE,),
    "F.transpose(data)": (SEQUENCE,),
    "F.transpose(data, axes=(0, 2, 1))": (SEQUENCE,),
    "F.transpose(F.transpose(data, axes=(1, 2, 0)), axes=(1, 0, 2)) * 2": (SEQUENCE,),
    "F.swapaxes(data, dim1=0, dim2=2)": (SEQUENCE,),
    "F.expand_dims(data, axis=1)": (SEQUENCE,),
    "F.expand_dims(data, axis=-1)": (SEQUENCE,),
    "F.squeeze(data, axis=2)": ((3, 5, 1, 4),),
    "F.squeeze(F.expand_dims(data, axis=1), axis=(1, -1))": ((3, 5, 1),),
    "F.broadcast_to(data, shape=(0, 5, 4))": ((3, 1, 4),),
    "F.broadcast_axis(data, axis=(1, 2), size=(5, 2))": ((3, 1, 1),),
    "F.broadcast_like(data, other)": ((3, 1, 4), (3, 5, 4)),
    "F.broadcast_like(data, other, lhs_axes=(1,), rhs_axes=(2,))": ((3, 1, 4), (3, 2, 6)),
    "F.tile(data, reps=(1, 2, 3))": (SEQUENCE,),
    "F.tile(data, reps=(2,))": (ROWS2,),
    "F.tile(data, reps=(2, 1, 3))": (ROWS2,),
    "F.repeat(data, repeats=3, axis=1)": (SEQUENCE,),
    "F.repeat(data, repeats=2, axis=-1)": (SEQUENCE,),
    "F.repeat(data, repeats=2)": (SEQUENCE,),
    "F.concat(data, other, dim=1)": ((3, 5, 4), (3, 2, 4)),
    "F.concat(data, other, dim=-1)": ((3, 5, 4), (3, 5, 1)),
    "F.concat(data, other)": (ROWS2, (3, 2)),
    "F.stack(data, other, axis=1)": (ROWS2, ROWS2),
    "F.stack(data, other, axis=-1)": (ROWS2, ROWS2),
    "F.split(data, num_outputs=4)": (ROWS2,),
    "F.split(data, num_outputs=2, axis=2)[1]": (SEQUENCE,),
    "F.split(data, num_outputs=5, axis=1, squeeze_axis=True)": (SEQUENCE,),
    "F.split(data, num_outputs=1, axis=1)": (SEQUENCE,),
    "F.split_v2(data, (1, 3), axis=1)": (SEQUENCE,),
    "F.split_v2(data, 2, axis=2)": (SEQUENCE,),
    "F.split_v2(data, 3, axis=2)": (SEQUENCE,),
    "F.split_v2(data, 3, axis=1)": (SEQUENCE,),
    "F.split_v2(data, 5, axis=1, squeeze_axis=True)": (SEQUENCE,),
    "F.slice(data, begin=(None, 1), end=(None, -1))": (SEQUENCE,),
    "F.slice(data, begin=(0, 4, None), end=(2, 0, None), step=(1, -2, -1))": (SEQUENCE,),
    "F.slice_axis(data, axis=1, begin=1, end=4)": (SEQUENCE,),
    "F.slice_axis(data, axis=-1, begin=-2, end=None)": (SEQUENCE,),
    "F.slice_like(data, other)": ((3, 5, 4), (3, 2, 3)),
    "F.slice_like(data, other, axes=(1,))": ((3, 5, 4), (3, 2, 3)),
    "F.reverse(data, axis=(1,))": (SEQUENCE,),
    "F.pad(data, mode='constant', pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=0.7)": (IMAGE,),
    "F.pad(data, mode='edge', pad_width=(0, 0, 0, 0, 1, 2, 3, 0))": (IMAGE,),
    "F.pad(data, mode='reflect', pad_width=(0, 0, 0, 0, 1, 2, 3, 0))": (IMAGE,),
    "F.zeros_like(data) + data": (SEQUENCE,),
    "F.ones_like(data) * 3": (SEQUENCE,),
    "data + F.zeros(shape=(0, 4))": ((3, 4),),
    "F.broadcast_mul(data, F.full(shape=(1, 4), val=3))": ((3, 4),),
    "F.broadcast_mul(data, F._arange(start=1, stop=5, repeat=2).reshape((1, 8)))": (ROWS2,),
    "F.broadcast_add(F.contrib.arange_like(data, axis=1, start=2, step=0.5).reshape((1, -1)), data)": (ROWS2,),
    "F._ones(shape=(1, 4)) * F.slice_axis(data, axis=0, begin=0, end=1)": ((3, 4),),
    "F._identity_with_attr_like_rhs(data * 2, other)": (ROWS2, ROWS2),
    "F.amp_multicast(data, other, num_outputs=2)": (ROWS2, ROWS2),
    "F.shape_array(data)": (SEQUENCE,),
    "F.take(var('table_weight', shape=(5, 4)), F.round(data) * 2)": (ROWS2,),
    "F.take(data, F._arange(start=-1, stop=6), axis=1)": (SEQUENCE,),
    "F.take(data, F._arange(start=-2, stop=8), axis=1, mode='wrap')": (SEQUENCE,),
    "F.take(data, F._arange(start=0, stop=3), axis=-1, mode='clip')": (SEQUENCE,),
    "F.Embedding(F.round(data) * 2, input_dim=5, output_dim=3)": (ROWS2,),
    "F.one_hot(F.round(data), depth=3, on_value=2, off_value=-1)": (ROWS2,),
    "F.one_hot(F.round(data), depth=2, dtype='int32') + 1": (ROWS2,),
    "F.pick(data, F.round(F.max(data, axis=1)) * 2)": (ROWS2,),
    "F.pick(data, F.argmin(data, axis=1), axis=1, keepdims=True)": (SEQUENCE,),
    "F.pick(data, F.round(F.max(data, axis=1) * 3), axis=1, mode='wrap')": (SEQUENCE,),
    "F.batch_take(data, F.cast(F.argmax(data, axis=1), dtype='int32'))": (ROWS2,),
    "F.gather_nd(data, F.reshape(F._arange(start=0, stop=4), shape=(2, 2)))": (SEQUENCE,),
    "F.topk(data, k=3)": (ROWS2,),
    "F.topk(data, k=-1, ret_typ='both')": (ROWS2,),
    "F.topk(data, k=2, axis=1, ret_typ='both', is_ascend=True)": (SEQUENCE,),
    "F.topk(data, k=3, ret_typ='value')": (ROWS2,),
    "F.topk(data, k=3, dtype='int32')": (ROWS2,),
    "F.sort(data, axis=1)": (SEQUENCE,),
    "F.sort(data, is_ascend=False)": (SEQUENCE,),
    "F.argsort(data)": (SEQUENCE,),
    "F.argsort(data, axis=1, is_ascend=False, dtype='int32')": (SEQUENCE,),
}  # fmt: skip

_LENGTHS = "F.slice_axis(F._arange(start=1, stop=40, repeat=1) % 5 + 1, axis=0, begin=0, end=3)"
SEQUENCES = {
    f"F.{name}(data, {_LENGTHS}, use_sequence_length=True{more})": (dims,)
    for name in ("SequenceMask", "SequenceLast", "SequenceReverse")
    for more, dims in [("", (6, 3, 4)), (", axis=1", (3, 6, 4))]
    if not (name == "SequenceReverse" and more)
} | {
    f"F.SequenceMask(data, {_LENGTHS}, use_sequence_length=True, value=-2)": ((6, 3),),
    "F.SequenceMask(data)": (SEQUENCE,),
    "F.SequenceLast(data, axis=1)": (SEQUENCE,),
    "F.SequenceLast(data)": (SEQUENCE,),
    "F.SequenceReverse(data)": (SEQUENCE,),
}

CASES = LAYERS | POOLS | UNARY | BINARY | REDUCTIONS | SHAPES | SEQUENCES

FIXED_BATCH = (
    "reshape((1, -1)), data)",
    "_LENGTHS",
    "SequenceMask(data, F",
    "SequenceLast(data, F",
    "SequenceReverse(data, F",
    "F.dot(data, other",
)
"""Cases in which the first axis is not a batch that may change alone."""

LOOSER = {"F.cast(data, dtype='float16')": 1e-3, "tan(": 3e-5, "F.broadcast_power": 1e-5}


def inputs_of(case: str, dims: Sequence[tuple[int, ...]]) -> list[dict[str, Array]]:
    """The inputs of a case at its own batch and at a larger one."""
    seed = zlib.crc32(case.encode())
    names = ("data", "other", "third")
    changed = 0 if any(part in case for part in FIXED_BATCH) else 3
    batch = dims[0][0]
    return [
        {
            name: drawn((each[0] + more, *each[1:]) if each[0] == batch else each, seed, *name.encode())
            for name, each in zip(names, dims, strict=False)
        }
        for more in dict.fromkeys((0, changed))
    ]


@pytest.fixture
def defaults_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """Every default that a row asked for: (operator, attribute, default)."""
    seen: list[tuple[str, str, Any]] = []
    inner: Callable[..., Any] = Attrs._value

    def watched(self: Attrs, name: str, kind: str, read: Callable[[str], Any], default: Any) -> Any:
        if default is not attributes._REQUIRED:
            seen.append((self._node.op, name, default))
        return inner(self, name, kind, read, default)

    monkeypatch.setattr(Attrs, "_value", watched)
    return seen


def same_default(mine: Any, theirs: str) -> bool:
    if mine == () and theirs == "None":
        return True
    if mine is None or theirs == "None":
        return (theirs == "None" and mine in (None, "None")) or (mine is True and theirs == "None")
    if isinstance(mine, bool):
        return theirs == str(int(mine))
    if isinstance(mine, tuple):
        return theirs in ("[]", "None") and mine == ()
    return np.float32(mine) == np.float32(theirs) if not isinstance(mine, str) else mine == theirs


@pytest.mark.parametrize("case", CASES)
def test_a_symbol_computes_in_onnx_what_it_computes_in_mxnet(
    case: str, oracle: Oracle, registry: dict[str, dict[str, str]], tmp_path: Path, defaults_read: list[Any]
) -> None:
    demand_equal(case, inputs_of(case, CASES[case]), oracle, tmp_path)
    for op, attribute, default in defaults_read:
        theirs = registry.get(op, {}).get(attribute)
        assert theirs is None or same_default(default, theirs), (op, attribute, default, theirs)


def demand_equal(case: str, inputs: list[dict[str, Any]], oracle: Oracle, tmp_path: Path) -> None:
    names, truth = oracle.symbol(case, inputs, str(tmp_path / "net"))
    model = files.read(artifact.look(tmp_path / "net-symbol.json"))
    export = to_onnx(model, examples(inputs[0], None if len(inputs) > 1 else {}))
    tolerance = next((loose for part, loose in LOOSER.items() if part in case), 1e-5)
    for arrays, expected in zip(inputs, truth, strict=True):
        outputs = onnx_outputs(export.model, list(arrays.values()))
        assert list(outputs) == names
        for (name, mine), theirs in zip(outputs.items(), expected, strict=True):
            assert_equal(mine, theirs, tolerance, f"{case} {name}")


@pytest.fixture(scope="module")
def plain_oracle(oracle: Oracle) -> Iterator[Oracle]:
    worker = Oracle(onednn=False)
    yield worker
    worker.close()


@pytest.mark.parametrize("more", ["", ", dilate=(1, 1)", ", no_bias=False, num_group=3"])
@pytest.mark.parametrize("target", [(14, 12), (14, 13), (16, 13)])
def test_a_deconvolution_reaches_the_size_that_it_is_given(
    target: tuple[int, int], more: str, plain_oracle: Oracle, tmp_path: Path
) -> None:
    """By MXNet's own kernels: with oneDNN's it cannot run one that cuts."""
    case = f"F.Deconvolution(data, kernel=(4, 3), num_filter=3, stride=(2, 2), target_shape={target}{more})"
    demand_equal(case, inputs_of(case, ((2, 3, 7, 6),)), plain_oracle, tmp_path)


# ---- recurrent networks --------------------------------------------------------------------------

RECURRENT = {
    f"F.RNN(data, state_size=3, num_layers={layers}, mode='{mode}', bidirectional={both}, {more})": (mode, layers, both)
    for mode in ("rnn_tanh", "rnn_relu", "lstm", "gru")
    for layers in (1, 2)
    for both in (False, True)
    for zeros in [f"F.zeros(shape=({layers * (1 + both)}, 0, 3))"]
    for more in (
        f"state={zeros}" + (f", state_cell={zeros}" if mode == "lstm" else ""),
        "state_outputs=True, state=other" + (", state_cell=third" if mode == "lstm" else ""),
    )
}  # fmt: skip


@pytest.mark.parametrize("case", RECURRENT)
def test_a_recurrent_operator_keeps_its_gates_directions_and_states(
    case: str, oracle: Oracle, tmp_path: Path
) -> None:
    mode, layers, both = RECURRENT[case]
    inputs = []
    for time, batch in [(5, 2), (7, 3)]:
        states = [drawn((layers * (1 + both), batch, 3), i) for i in range(2 if mode == "lstm" else 1)]
        given = states if "state=other" in case else []
        arrays = [drawn((time, batch, 4), 9), *given]
        inputs.append(dict(zip(("data", "other", "third"), arrays, strict=False)))
    names, truth = oracle.symbol(case, inputs, str(tmp_path / "net"))
    free = {"data": {0: "length", 1: "batch"}} | {name: {1: "batch"} for name in list(inputs[0])[1:]}
    export = to_onnx(read(tmp_path), examples(inputs[0], free))
    cell = {"lstm": "LSTM", "gru": "GRU"}.get(mode, "RNN")
    assert [node.op_type for node in export.model.graph].count(cell) == layers
    for arrays, expected in zip(inputs, truth, strict=True):
        outputs = onnx_outputs(export.model, list(arrays.values()))
        assert list(outputs) == names
        for mine, theirs in zip(outputs.values(), expected, strict=True):
            assert_equal(mine, theirs, 1e-5, case)


PROJECTED = {
    f"F.RNN(data, state_size=6, projection_size=3, num_layers={layers}, mode='lstm', bidirectional={both}, state_outputs=True, "
    f"state={states[0]}, state_cell={states[1]})": layers * (1 + both)
    for layers in (1, 2)
    for both in (False, True)
    for states in (("other", "third"), [f"F.zeros(shape=({layers * (1 + both)}, 0, {size}))" for size in (3, 6)])
}  # fmt: skip


def projected_inputs(case: str, time: int, batch: int) -> dict[str, Array]:
    """A sequence, and where the case is given its states, h (.., 3) and c (.., 6)."""
    given = {"data": drawn((time, batch, 4), 9)}
    if "state=other" in case:
        given |= {
            name: drawn((PROJECTED[case], batch, size), size) for name, size in (("other", 3), ("third", 6))
        }
    return given


@pytest.mark.parametrize("case", PROJECTED)
def test_an_rnn_that_projects_its_state_is_scanned(case: str, oracle: Oracle, tmp_path: Path) -> None:
    inputs = [projected_inputs(case, 5, 2), projected_inputs(case, 7, 3)]
    free = {"data": {0: "length", 1: "batch"}, "other": {1: "batch"}, "third": {1: "batch"}}
    model = assert_arrives(case, inputs, oracle, tmp_path, free={name: free[name] for name in inputs[0]})
    assert [node.op_type for node in model.graph].count("Scan") == PROJECTED[case]
    assert all(tuple(value.shape or ())[1] == "batch" for value in model.graph.outputs)


def test_an_rnn_that_projects_its_state_goes_on_to_pytorch(oracle: Oracle, tmp_path: Path) -> None:
    case = next(case for case, ways in PROJECTED.items() if ways == 4 and "state=other" in case)
    inputs = [projected_inputs(case, 5, 2), projected_inputs(case, 7, 3)]
    _, truth = oracle.symbol(case, inputs, str(tmp_path / "net"))
    free = {"data": {0: "length", 1: "batch"}, "other": {1: "batch"}, "third": {1: "batch"}}
    export = to_onnx(read(tmp_path), examples(inputs[0], free))
    imported = converters.import_model(export.model, "pytorch", name="projected")
    for arrays, expected in zip(inputs, truth, strict=True):
        outputs = frameworks.named("pytorch").live.run(imported.model, list(arrays.values()))
        for mine, theirs in zip(outputs.values(), expected, strict=True):
            assert_equal(mine, theirs, 1e-5, case)


def test_the_weights_of_an_rnn_that_projects_keep_their_names(oracle: Oracle, tmp_path: Path) -> None:
    case = _net("rnn.LSTM(6, projection_size=3, prefix='l_')")
    oracle.gluon(case, [[drawn((3, 2, 5), 1)]], str(tmp_path / "net"))
    export = to_onnx(read(tmp_path))
    weights = {f"l_l0_{name}" for name in ("i2h_weight", "h2h_weight", "h2r_weight", "i2h_bias")}
    assert weights <= set(export.model.graph.initializers)
    assert export.weights["l_l0_i2h_bias"] == ("l_l0_i2h_bias", "l_l0_h2h_bias")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"use_sequence_length": "True"}, "use_sequence_length"),
        ({"lstm_state_clip_min": "-1"}, "clipped LSTM states"),
        ({"lstm_state_clip_max": "1"}, "clipped LSTM states"),
    ],
)
def test_what_an_rnn_does_on_a_gpu_alone_is_refused_by_name(more: dict[str, str], said: str) -> None:
    attrs = {"mode": "lstm", "state_size": "2", "num_layers": "1", **more}
    states = ((0, 0),) * (3 if "use_sequence_length" in more else 2)
    made = Node("made", "tanh", {}, inputs=((0, 0),))
    model = built(DATA, made, Node("here", "RNN", attrs, inputs=((0, 0), (1, 0), *states)))
    with pytest.raises(UnsupportedError, match=f"{said}.* on a GPU alone"):
        to_onnx(model, example(2, 3, 4))


# ---- gluon ---------------------------------------------------------------------------------------


def _net(*layers: str) -> str:
    return f"(lambda net: (net.add({', '.join(layers)}), net)[1])(nn.HybridSequential())"


GLUON: dict[str, tuple[int, ...]] = {
    "nn.Dense(5, activation='tanh')": (3, 8),
    "nn.Dense(5, flatten=False, use_bias=False)": (3, 4, 8),
    "nn.Conv1D(4, 3, strides=2, padding=1, activation='relu')": (2, 3, 9),
    "nn.Conv2D(6, (3, 2), strides=(2, 1), padding=(1, 0), groups=2)": IMAGE,
    "nn.Conv3D(3, 2)": VOLUME,
    "nn.Conv1DTranspose(4, 3, strides=2, padding=1, output_padding=1)": (2, 3, 9),
    "nn.Conv2DTranspose(6, (3, 4), strides=(2, 3), groups=2, padding=(1, 0), use_bias=False, in_channels=4)": IMAGE,
    "nn.MaxPool2D((2, 3), strides=2, padding=(0, 1), ceil_mode=True)": IMAGE,
    "nn.AvgPool2D(3, strides=2, padding=1, count_include_pad=False)": IMAGE,
    "nn.AvgPool2D(3, strides=2, padding=1, ceil_mode=True)": IMAGE,
    "nn.AvgPool1D(3, strides=2)": (2, 3, 9),
    "nn.MaxPool3D(2)": VOLUME,
    "nn.GlobalAvgPool2D()": IMAGE,
    "nn.GlobalMaxPool1D()": (2, 3, 9),
    "nn.BatchNorm()": IMAGE,
    "nn.BatchNorm(scale=False, center=False, axis=2, epsilon=0.01)": IMAGE,
    "nn.LayerNorm(epsilon=0.01)": (3, 5, 4),
    "nn.LayerNorm(axis=1)": IMAGE,
    "nn.InstanceNorm(scale=True)": IMAGE,
    "nn.InstanceNorm(axis=2)": IMAGE,
    "nn.GroupNorm(num_groups=2)": IMAGE,
    "nn.PReLU()": IMAGE,
    "nn.LeakyReLU(0.3)": IMAGE,
    "nn.ELU(0.7)": IMAGE,
    "nn.SELU()": IMAGE,
    "nn.GELU()": IMAGE,
    "nn.Swish(1.5)": IMAGE,
    "nn.ReflectionPad2D(2)": IMAGE,
    "nn.Flatten()": IMAGE,
    "nn.HybridLambda('tanh')": IMAGE,
    "mx.gluon.contrib.nn.HybridConcurrent(axis=1)": IMAGE,
    _net("nn.Conv2D(8, 3, activation='relu')", "nn.MaxPool2D()", "nn.BatchNorm()", "nn.Dropout(0.5)", "nn.Dense(10)"): (2, 3, 10, 9),
    _net("nn.Dense(16, activation='relu')", "nn.LayerNorm()", "nn.Dense(3)", "nn.HybridLambda('softmax')"): (3, 8),
    **{
        _net(f"rnn.{kind}(4, num_layers={layers}, layout='{layout}', bidirectional={both}{more})"): (3, 5, 6)
        for kind, more in [("RNN", ""), ("RNN", ", activation='tanh'"), ("LSTM", ""), ("GRU", "")]
        for layers, layout, both in [(1, "NTC", False), (2, "TNC", True), (2, "NTC", True)]
    },
    _net("rnn.LSTM(6, projection_size=3, layout='NTC')"): (3, 5, 6),
    _net("rnn.LSTM(6, num_layers=2, layout='TNC', projection_size=3, bidirectional=True)"): (3, 5, 6),
    _net("rnn.LSTM(6, num_layers=2, layout='NTC', projection_size=3, bidirectional=True)"): (3, 5, 6),
    _net("nn.Embedding(6, 4)", "nn.Dense(3, flatten=False)"): (3, 5),
    _net("rnn.LSTM(4, layout='NTC')", "nn.Dense(3)"): (3, 5, 6),
}  # fmt: skip


def shown(case: str, dims: tuple[int, ...]) -> list[list[Array]]:
    """Inputs of a gluon case at two batches; of recurrent ones at two lengths as well."""
    axis = 1 if "TNC" in case else 0
    grown = list(dims)
    grown[axis] += 2
    if "rnn." in case and "Dense" not in case:
        grown[1 - axis] += 3
    arrays = [drawn(tuple(each), 3) for each in (dims, grown)]
    return [[np.floor(np.abs(array)) if "Embedding" in case else array] for array in arrays]


@pytest.mark.parametrize("case", GLUON)
def test_a_gluon_layer_computes_in_onnx_what_it_computes_in_mxnet(
    case: str, oracle: Oracle, tmp_path: Path
) -> None:
    case_inputs = shown(case, GLUON[case])
    if "HybridConcurrent" in case:
        case = f"(lambda net: (net.add(nn.Conv2D(3, 1), nn.AvgPool2D(3, 1, 1)), net)[1])({case})"
    truth = oracle.gluon(case, case_inputs, str(tmp_path / "net"))
    free = dict.fromkeys(range(2), "n") if "rnn." in case else {0: "batch"}
    free = {axis: f"{name}{axis}" for axis, name in free.items()}
    export = to_onnx(read(tmp_path), [Example("x", case_inputs[0][0], free, asked=True)])
    assert [value.name for value in export.model.graph.inputs] == ["x"]
    for arrays, expected in zip(case_inputs, truth, strict=True):
        for mine, theirs in zip(onnx_outputs(export.model, arrays).values(), expected, strict=True):
            assert_equal(mine, theirs, 1e-5, case)


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize(
    "case", [_net("nn.Conv2D(4, 3)", "nn.BatchNorm()", "nn.GlobalAvgPool2D()", "nn.Dense(5)"), "rnn.LSTM(3)", "(lambda net: (net.add(nn.Conv2D(4, 3, in_channels=4)), net)[1])(nn.Sequential())"]
)  # fmt: skip
def test_a_block_in_memory_is_carried_and_run_under_the_same_names(
    case: str, shows: bool, hybridize: bool, oracle: Oracle
) -> None:
    array = drawn((5, 2, 4) if "rnn" in case else IMAGE, 4)
    model, ran, truth = oracle.live(case, [array], shown=shows or "rnn" in case, hybridize=hybridize)
    outputs = onnx_outputs(model, [array])
    assert list(outputs) == list(ran)
    for mine, again, theirs in zip(outputs.values(), ran.values(), truth, strict=True):
        assert_equal(mine, theirs, 1e-5)
        np.testing.assert_array_equal(again, theirs)


def test_weights_of_save_parameters_go_into_a_fresh_block(oracle: Oracle, tmp_path: Path) -> None:
    case = _net("nn.Conv2D(4, 3)", "nn.BatchNorm()", "nn.Dense(5)")
    first, second = oracle.reload(case, [drawn(IMAGE, 1)], str(tmp_path / "x.params"))
    np.testing.assert_array_equal(first[0], second[0])


def test_a_module_is_carried_and_so_is_its_checkpoint(oracle: Oracle, tmp_path: Path) -> None:
    case = "F.SoftmaxOutput(F.FullyConnected(F.Activation(F.FullyConnected(data, num_hidden=7), act_type='relu'), num_hidden=3), name='softmax')"
    array = drawn((4, 6), 5)
    model, ran, truth = oracle.module(case, array, str(tmp_path / "net"))
    assert_equal(onnx_outputs(model, [array])["softmax_output"], truth[0], 1e-5)
    assert_equal(ran["softmax_output"], truth[0], 1e-6)
    checkpoint = to_onnx(read(tmp_path))
    assert_equal(onnx_outputs(checkpoint.model, [array])["softmax_output"], truth[0], 1e-5)
    assert oracle.run_files(str(tmp_path / "net"), [array]).keys() == {"softmax_output"}


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_full_pooling_holds_at_every_size_where_no_window_starts_in_the_padding(
    kind: str, oracle: Oracle, tmp_path: Path
) -> None:
    case = f"F.Pooling(data, kernel=(3, 4), stride=(2, 3), pad=(1, 1), pooling_convention='full', pool_type='{kind}', count_include_pad=False)"
    inputs = [{"data": drawn((2, 3, height, height + 1), 1)} for height in range(4, 12)]
    _, truth = oracle.symbol(case, inputs, str(tmp_path / "net"))
    export = to_onnx(read(tmp_path), examples(inputs[0], {"data": {2: "height", 3: "width"}}))
    for arrays, expected in zip(inputs, truth, strict=True):
        assert_equal(*onnx_outputs(export.model, [arrays["data"]]).values(), expected[0], 1e-5)


@pytest.mark.parametrize(
    "more", ["kernel=(2, 2), stride=(3, 3)", "kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='avg'"]
)
def test_full_pooling_asks_for_sizes_where_they_matter(more: str, oracle: Oracle, tmp_path: Path) -> None:
    inputs = {"data": drawn(IMAGE, 1)}
    oracle.symbol(f"F.Pooling(data, {more}, pooling_convention='full')", [inputs], str(tmp_path / "net"))
    with pytest.raises(UnsupportedError, match="--input"):
        to_onnx(read(tmp_path))


# ---- what the graph tells, and what it does not --------------------------------------------------

TOLD = {
    "F.Convolution(data, kernel=(3, 3), num_filter=6, num_group=2)": (IMAGE, ("batch", 4, "height", "width"), "float32"),
    "F.Convolution(data / 255, kernel=(3,), num_filter=6)": (WAVE, ("batch", 3, "length"), "float32"),
    "F.Deconvolution(data, kernel=(3, 3), num_filter=6)": (IMAGE, ("batch", 4, "height", "width"), "float32"),
    "F.Pooling(data, kernel=(2, 2))": (IMAGE, ("batch", "channels", "height", "width"), "float32"),
    "F.FullyConnected(F.relu(data), num_hidden=3)": (ROWS2, ("batch", 8), "float32"),
    "F.Embedding(data, input_dim=5, output_dim=3)": (ROWS2, ("batch", "length"), "int64"),
    "F.RNN(F.swapaxes(data, dim1=0, dim2=1), state=F.zeros(shape=(2, 0, 3)), state_size=3, num_layers=1, mode='gru', bidirectional=True)": (SEQUENCE, ("batch", "length", 4), "float32"),
    "F.tanh(var('data', shape=(0, 3, 5)))": ((2, 3, 5), ("batch", 3, 5), "float32"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOLD)
def test_the_first_reader_of_an_input_tells_its_sizes(case: str, oracle: Oracle, tmp_path: Path) -> None:
    dims, told, dtype = TOLD[case]
    arrays = {"data": np.floor(np.abs(drawn(dims, 2))) if "Embedding" in case else drawn(dims, 2)}
    _, truth = oracle.symbol(case, [arrays], str(tmp_path / "net"))
    model = read(tmp_path)
    spec = frameworks.of(model).signature(model).inputs[0]
    assert (spec.name, spec.dims, spec.dtype.name) == ("data", told, dtype)
    outputs = onnx_outputs(to_onnx(model).model, [arrays["data"].astype(dtype)])
    assert_equal(next(iter(outputs.values())), truth[0][0], 1e-5)


def built(
    *nodes: Node, params: dict[str, Array] | None = None, version: int = symbol.VERSION
) -> files.SymbolModel:
    """A model of nodes; the last one is its output."""
    graph = symbol.upgrade(Symbol(nodes, ((len(nodes) - 1, 0),), version))
    return files.SymbolModel(graph, params or {}, "net-symbol.json")


DATA = Node("data", "null")


def test_sizes_that_nothing_tells_are_asked_for() -> None:
    with pytest.raises(UsageError, match=r"sizes of data .* --input data:1,3,224,224"):
        to_onnx(built(DATA, Node("y", "tanh", inputs=((0, 0),))))


def test_a_size_that_a_dense_layer_fixes_is_asked_for(oracle: Oracle, tmp_path: Path) -> None:
    case = "F.FullyConnected(F.Convolution(data, kernel=(3, 3), num_filter=2), num_hidden=3, name='last')"
    arrays = {"data": drawn(IMAGE, 1)}
    _, truth = oracle.symbol(case, [arrays], str(tmp_path / "net"))
    with pytest.raises(UsageError, match=r"'last' its 40 numbers.*--input data"):
        to_onnx(read(tmp_path))
    export = to_onnx(read(tmp_path), examples(arrays))
    assert_equal(next(iter(onnx_outputs(export.model, list(arrays.values())).values())), truth[0][0], 1e-5)


def test_operators_without_a_row_are_named_all_at_once() -> None:
    model = built(DATA, Node("a", "CTCLoss", inputs=((0, 0),)), Node("b", "Custom", inputs=((1, 0),)))
    with pytest.raises(UnsupportedError) as caught:
        to_onnx(model)
    assert [(problem.node, problem.operator) for problem in caught.value.problems] == [
        ("a", "CTCLoss"),
        ("b", "Custom"),
    ]


def example(*dims: int) -> list[Example]:
    return [Example("data", drawn(dims, 1), {0: "batch"})]


@pytest.mark.parametrize(
    ("op", "attrs", "said"),
    [
        ("tanh", {"speed": "3"}, "'speed' is not one netferry knows"),
        ("Activation", {"act_type": "swish"}, "act_type='swish'"),
        ("Dropout", {"mode": "always"}, "mode='always'"),
        ("softmax", {"use_length": "True"}, "without lengths"),
        ("Pooling", {"kernel": "(2, 2)", "layout": "CHWN"}, "layout='CHWN'"),
        ("Reshape", {"shape": "(-4, 2, -1)", "reverse": "True"}, "no code -4"),
        ("slice_axis", {"axis": "7", "begin": "0", "end": "1"}, "axis 7"),
        ("sum", {"axis": "(1, 9)"}, "axis 9"),
        ("Reshape", {"shape": "(-4, 0, -1, -2)"}, "cannot be split by 0"),
        ("broadcast_axis", {"axis": "(1, 2)", "size": "(3,)"}, "do not fit its inputs"),
        ("one_hot", {"depth": "99999999999"}, "a constant of 99999999999 elements"),
    ],
)
def test_what_a_row_does_not_carry_is_refused_by_name(op: str, attrs: dict[str, str], said: str) -> None:
    model = built(DATA, Node("here", op, attrs, inputs=((0, 0),)))
    with pytest.raises(UnsupportedError) as caught:
        to_onnx(model, example(2, 3, 4, 4))
    assert f"net-symbol.json: 1 node cannot be converted\n  node 'here' ({op})" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["x", "(1", "1.5", "None"])
def test_an_attribute_that_does_not_hold_together_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"node 'here' \(expand_dims\).*'axis'"):
        to_onnx(built(DATA, Node("here", "expand_dims", {"axis": text}, inputs=((0, 0),))), example(2, 3))


def test_harmless_and_hidden_attributes_are_passed_over() -> None:
    attrs = {"workspace": "512", "cudnn_tune": "off", "kernel": "(1, 1)", "num_filter": "2", "no_bias": "True",
             "__ctx_group__": "a", "weight_lr_mult": "2"}  # fmt: skip
    node = Node("here", "Convolution", attrs, inputs=((0, 0), (1, 0)))
    weight = drawn((2, 3, 1, 1), 4)
    export = to_onnx(built(DATA, Node("w", "null"), node, params={"w": weight}))
    assert list(export.model.graph.initializers) == ["w"]


def test_missing_parameters_are_named_together_and_labels_are_not_missing() -> None:
    model = built(
        DATA,
        Node("fc_weight", "null"),
        Node("fc_bias", "null"),
        Node("fc", "FullyConnected", {"num_hidden": "3"}, inputs=((0, 0), (1, 0), (2, 0))),
        Node("softmax_label", "null"),
        Node("softmax", "SoftmaxOutput", inputs=((3, 0), (4, 0))),
    )
    with pytest.raises(RefusedError, match=r"parameters are missing.*received fc_weight, fc_bias"):
        to_onnx(model)


@pytest.mark.parametrize("given", [[], [*example(2, 3), *example(2, 3)]])
def test_a_wrong_number_of_inputs_is_told_with_the_names(given: list[Example]) -> None:
    with pytest.raises(UsageError, match=r"expected 1 \(data\)"):
        to_onnx(built(DATA, Node("y", "tanh", inputs=((0, 0),))), given)


def test_names_in_another_order_than_the_model_has_them_are_bound_by_name() -> None:
    model = built(DATA, Node("other", "null"), Node("y", "elemwise_sub", inputs=((0, 0), (1, 0))))
    feed = {"other": drawn((2, 3), 1), "data": drawn((2, 3), 2)}
    [y] = (
        Session(frameworks.named("onnx").live.proto(to_onnx(model, examples(feed)).model)).run(feed).values()
    )
    assert np.array_equal(y, feed["data"] - feed["other"])


def test_a_batch_that_the_model_fixes_is_told_and_where_it_was_asked_for_refused() -> None:
    model = built(DATA, Node("y", "squeeze", inputs=((0, 0),)))
    array = drawn((1, 3), 1)
    export = to_onnx(model, [Example("data", array, {0: "batch"})])
    assert "fixed sizes [1, 3]" in export.notes[-1]
    with pytest.raises(UnsupportedError):
        to_onnx(model, [Example("data", array, {0: "batch"}, asked=True)])


def test_a_constant_of_inferred_size_is_refused_where_nothing_broadcasts_it() -> None:
    model = built(
        DATA,
        Node("zeros", "_zeros", {"shape": "(0, 3)"}),
        Node("y", "Concat", {"dim": "0"}, inputs=((0, 0), (1, 0))),
    )
    with pytest.raises(UnsupportedError, match="whose size MXNet infers"):
        to_onnx(model, example(2, 3))


def test_nodes_of_one_name_do_not_meet() -> None:
    model = built(DATA, Node("y", "tanh", inputs=((0, 0),)), Node("y", "exp", inputs=((1, 0),)))
    array = drawn((2, 3), 1)
    export = to_onnx(model, [Example("data", array)])
    assert_equal(onnx_outputs(export.model, [array])["y_output"], np.exp(np.tanh(array)), 1e-6)


def test_an_output_keeps_its_name_where_a_node_inside_would_take_it() -> None:
    model = built(DATA, Node("y", "round", inputs=((0, 0),)))
    export = to_onnx(model, example(2, 3))
    assert [value.name for value in export.model.graph.outputs] == ["y_output"]


def test_weights_that_became_one_initializer_are_told(oracle: Oracle, tmp_path: Path) -> None:
    oracle.gluon(
        _net("rnn.LSTM(4, bidirectional=True, prefix='l_')"), [[drawn((3, 2, 5), 1)]], str(tmp_path / "net")
    )
    export = to_onnx(read(tmp_path))
    assert export.weights["l_l0_i2h_weight"] == ("l_l0_i2h_weight", "l_r0_i2h_weight")
    assert set(export.weights) <= set(export.model.graph.initializers)


# ---- older generations ---------------------------------------------------------------------------

OLD = """{"nodes": [
  {"op": "null", "param": {}, "name": "data", "inputs": [], "backward_source_id": -1},
  {"op": "null", "param": {}, "name": "bn_gamma", "inputs": [], "backward_source_id": -1},
  {"op": "null", "param": {}, "name": "bn_beta", "inputs": [], "backward_source_id": -1},
  {"op": "BatchNorm", "param": {"eps": "0.01", "fix_gamma": "False", "momentum": "0.9"}, "name": "bn",
   "inputs": [[0, 0], [1, 0], [2, 0]], "attr": {"lr_mult": "2"}, "backward_source_id": -1},
  {"op": "_PlusScalar", "param": {"scalar": "1.5"}, "name": "plus", "inputs": [[3, 0]]},
  {"op": "null", "param": {}, "name": "softmax_label", "inputs": []},
  {"op": "Softmax", "param": {"grad_scale": "1"}, "name": "softmax", "inputs": [[4, 0], [5, 0]]}],
 "arg_nodes": [0, 1, 2, 5], "heads": [[6, 0]]}"""


def test_a_symbol_of_mxnet_0_8_gets_the_statistics_that_it_implies(oracle: Oracle, tmp_path: Path) -> None:
    (tmp_path / "net-symbol.json").write_text(OLD)
    params = {f"arg:bn_{name}": drawn((3,), 1, i) for i, name in enumerate(("gamma", "beta"))}
    params |= {"aux:bn_moving_mean": drawn((3,), 2), "aux:bn_moving_var": np.abs(drawn((3,), 3))}
    oracle.save(params, str(tmp_path / "net-0000.params"))
    model = read(tmp_path)
    array = drawn((4, 3), 4)
    outputs = onnx_outputs(to_onnx(model, examples({"data": array})).model, [array])
    truth = oracle.run_files(str(tmp_path / "net"), [array])
    assert outputs.keys() == truth.keys() == {"softmax_output"}
    assert_equal(outputs["softmax_output"], truth["softmax_output"], 1e-5)


def test_before_0_9_5_the_last_axis_of_argmax_meant_all_axes() -> None:
    array = drawn((2, 3), 1)
    node = Node("y", "argmax", {"axis": "-1"}, inputs=((0, 0),))
    found = {
        version: onnx_outputs(
            to_onnx(built(DATA, node, version=version), [Example("data", array)]).model, [array]
        )
        for version in (904, 905)
    }
    assert found[904]["y_output"].tolist() == [float(array.argmax())]
    assert found[905]["y_output"].tolist() == array.argmax(1).tolist()


def test_every_alias_is_one_of_mxnets_own(registry: dict[str, dict[str, str]]) -> None:
    retired = {"BatchNorm_v1", "Convolution_v1"}
    later = {f"_npi_{name}" for name in symbol.MXNET_2.split()}
    assert {old for old in symbol.ALIASES if old not in registry} <= {"_grad_add"} | later
    wrong = {
        old: new
        for old, new in symbol.ALIASES.items()
        if old not in retired | later and registry[old][""] != new
    }
    assert set(wrong) <= {"_grad_add"}
    assert {op for op in ROWS if op not in registry} == set()


# ---- without mxnet -------------------------------------------------------------------------------


def test_files_become_onnx_where_mxnet_cannot_be_imported(oracle: Oracle, tmp_path: Path) -> None:
    array = drawn((2, 3, 10, 9), 1)
    truth = oracle.gluon(
        _net("nn.Conv2D(8, 3)", "nn.BatchNorm()", "nn.GlobalMaxPool2D()", "nn.Dense(4)"),
        [[array]],
        str(tmp_path / "net"),
    )
    script = (
        "import sys; sys.modules['mxnet'] = None\n"
        "import onnx_ir as ir\n"
        "from netferry.converters import artifact, frameworks\n"
        "model = artifact.look(sys.argv[1])\n"
        "model = model.framework.files.read(model)\n"
        "export = frameworks.of(model).to_onnx.to_onnx(model)\n"
        "ir.save(export.model, sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "net-symbol.json"), str(tmp_path / "net.onnx")]
    subprocess.run(command, check=True, capture_output=True)
    (mine,) = onnx_outputs((tmp_path / "net.onnx").read_bytes(), [array]).values()
    assert_equal(mine, truth[0][0], 1e-5)


def test_a_block_keeps_the_order_in_which_it_is_called() -> None:
    """The symbol meets ``b`` and ``weight`` first, whose name is that of a parameter elsewhere."""
    import netferry
    from netferry.converters.mxnet.live import import_mxnet

    mx = import_mxnet()

    class Backwards(mx.gluon.HybridBlock):
        def hybrid_forward(self, F: Any, a: Any, b: Any, weight: Any) -> Any:
            return F.broadcast_sub(F.FullyConnected(b, weight, no_bias=True, num_hidden=3) * 2, a)

    block = Backwards()
    block.initialize()
    arrays = [drawn(shape, place) for place, shape in enumerate([(2, 3), (2, 5), (3, 5)])]
    right = 2 * arrays[1] @ arrays[2].T - arrays[0]
    block.hybridize()
    block(*(mx.nd.array(array) for array in arrays))
    inputs = {f"data{place}": array for place, array in enumerate(arrays)}
    done = netferry.convert(block, "onnx", inputs=inputs)
    assert done.report is not None and done.report.status == "passed", done.report
    for model in (block, done.model):
        [found] = netferry.run(model, arrays).values()
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)
