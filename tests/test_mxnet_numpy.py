"""Operators of MXNet's numpy interface to ONNX, as code under ``npx.set_np`` writes them, against mxnet itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import Dims, assert_arrives, assert_equal, drawn, inputs_of, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

ROWS2, SEQUENCE = (3, 8), (3, 5, 4)

CASES: dict[str, tuple[Dims, ...]] = {
    "F._npi_absolute(data)": (ROWS2,),
    "F._npi_arctan(data)": (ROWS2,),
    "F._npi_cbrt(data)": (ROWS2,),
    "F._npi_ceil(data)": (ROWS2,),
    "F._npi_cos(data)": (ROWS2,),
    "F._npi_cosh(data)": (ROWS2,),
    "F._npi_degrees(data)": (ROWS2,),
    "F._npi_exp(data)": (ROWS2,),
    "F._npi_expm1(data)": (ROWS2,),
    "F._npi_fix(data)": (ROWS2,),
    "F._npi_floor(data)": (ROWS2,),
    "F._npi_negative(data)": (ROWS2,),
    "F._npi_radians(data)": (ROWS2,),
    "F._npi_reciprocal(data)": (ROWS2,),
    "F._npi_rint(data)": (ROWS2,),
    "F._npi_sign(data)": (ROWS2,),
    "F._npi_sin(data)": (ROWS2,),
    "F._npi_sinh(data)": (ROWS2,),
    "F._npi_square(data)": (ROWS2,),
    "F._npi_tan(data)": (ROWS2,),
    "F._npi_tanh(data)": (ROWS2,),
    "F._npi_trunc(data)": (ROWS2,),
    "F._npi_arcsinh(data)": (ROWS2,),
    "F._npi_isfinite(data)": (ROWS2,),
    "F._npi_log(F._npi_add_scalar(F._npi_absolute(data), scalar=0.3))": (ROWS2,),
    "F._npi_log10(F._npi_add_scalar(F._npi_absolute(data), scalar=0.3))": (ROWS2,),
    "F._npi_log1p(F._npi_add_scalar(F._npi_absolute(data), scalar=0.3))": (ROWS2,),
    "F._npi_log2(F._npi_add_scalar(F._npi_absolute(data), scalar=0.3))": (ROWS2,),
    "F._npi_sqrt(F._npi_add_scalar(F._npi_absolute(data), scalar=0.3))": (ROWS2,),
    "F._npi_arccos(data * 0.2)": (ROWS2,),
    "F._npi_arcsin(data * 0.2)": (ROWS2,),
    "F._npi_arctanh(data * 0.2)": (ROWS2,),
    "F._npi_arccosh(F._npi_absolute(data) + 1.2)": (ROWS2,),
    "F._npi_isinf(1 / F._npi_floor(data))": (ROWS2,),
    "F._npi_isfinite(1 / F._npi_floor(data))": (ROWS2,),
    "F._npi_isneginf(-1 / F._npi_absolute(F._npi_floor(data)))": (ROWS2,),
    "F._npi_isposinf(1 / F._npi_absolute(F._npi_floor(data)))": (ROWS2,),
    "F._npi_isnan(F._npi_sqrt(data))": (ROWS2,),
    "F._npi_logical_not(F._npi_floor(data))": (ROWS2,),
    "F._npi_nan_to_num(F._npi_log(F._npi_floor(data)), nan=2.5, posinf=7, neginf=-9)": (ROWS2,),
    "F._npi_nan_to_num(F._npi_log(data), nan=2.5)": (ROWS2,),
    "F._npx_relu(data) + F._npx_sigmoid(data)": (ROWS2,),
    "F._npx_relu(data)": (ROWS2,),
    "F._npx_sigmoid(data)": (ROWS2,),
    "F._npi_around(data, decimals=1)": (ROWS2,),
    "F._npi_around(F._npi_arange(start=-4, stop=4, step=0.25) + data.sum() * 0)": (ROWS2,),
    "F._npi_rint(F._npi_arange(start=-4, stop=4, step=0.25) + data.sum() * 0)": (ROWS2,),
    "F._npi_add(data, other)": (ROWS2, (1, 8)),
    "F._npi_subtract(data, other)": (ROWS2, (1, 8)),
    "F._npi_multiply(data, other)": (ROWS2, (1, 8)),
    "F._npi_true_divide(data, other)": (ROWS2, (1, 8)),
    "F._npi_mod(data, other)": (ROWS2, (1, 8)),
    "F._npi_hypot(data, other)": (ROWS2, (1, 8)),
    "F._npi_copysign(data, other)": (ROWS2, (1, 8)),
    "F._npi_arctan2(data, other)": (ROWS2, (1, 8)),
    "F._npi_ldexp(data, other)": (ROWS2, (1, 8)),
    "F._npi_power(F._npi_absolute(data), other)": (ROWS2, (1, 8)),
    "F._npi_equal(F._npi_floor(data), F._npi_floor(other))": (ROWS2, (1, 8)),
    "F._npi_equal_scalar(F._npi_floor(data), scalar=1)": (ROWS2,),
    "F._npi_not_equal(F._npi_floor(data), F._npi_floor(other))": (ROWS2, (1, 8)),
    "F._npi_not_equal_scalar(F._npi_floor(data), scalar=1)": (ROWS2,),
    "F._npi_greater(F._npi_floor(data), F._npi_floor(other))": (ROWS2, (1, 8)),
    "F._npi_greater_scalar(F._npi_floor(data), scalar=1)": (ROWS2,),
    "F._npi_greater_equal(F._npi_floor(data), F._npi_floor(other))": (ROWS2, (1, 8)),
    "F._npi_greater_equal_scalar(F._npi_floor(data), scalar=1)": (ROWS2,),
    "F._npi_less(F._npi_floor(data), F._npi_floor(other))": (ROWS2, (1, 8)),
    "F._npi_less_scalar(F._npi_floor(data), scalar=1)": (ROWS2,),
    "F._npi_less_equal(F._npi_floor(data), F._npi_floor(other))": (ROWS2, (1, 8)),
    "F._npi_less_equal_scalar(F._npi_floor(data), scalar=1)": (ROWS2,),
    "F._npi_add_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_add_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_subtract_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_subtract_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_multiply_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_multiply_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_true_divide_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_true_divide_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_mod_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_mod_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rsubtract_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_rsubtract_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rtrue_divide_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_rtrue_divide_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rmod_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_rmod_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rpower_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_copysign_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_copysign_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rcopysign_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_rcopysign_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_arctan2_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_arctan2_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rarctan2_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_rarctan2_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_ldexp_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_ldexp_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_rldexp_scalar(data, scalar=0.7)": (ROWS2,),
    "F._npi_rldexp_scalar(data, scalar=-2)": (ROWS2,),
    "F._npi_power_scalar(F._npi_absolute(data), scalar=1.7)": (ROWS2,),
    "F._npi_bitwise_and(F._npi_floor(data * 4).astype('int32'), F._npi_floor(other * 4).astype('int32'))": (ROWS2, (1, 8)),
    "F._npi_bitwise_and_scalar(F._npi_floor(data * 4).astype('int32'), scalar=5)": (ROWS2,),
    "F._npi_bitwise_or(F._npi_floor(data * 4).astype('int32'), F._npi_floor(other * 4).astype('int32'))": (ROWS2, (1, 8)),
    "F._npi_bitwise_or_scalar(F._npi_floor(data * 4).astype('int32'), scalar=5)": (ROWS2,),
    "F._npi_bitwise_xor(F._npi_floor(data * 4).astype('int32'), F._npi_floor(other * 4).astype('int32'))": (ROWS2, (1, 8)),
    "F._npi_bitwise_xor_scalar(F._npi_floor(data * 4).astype('int32'), scalar=5)": (ROWS2,),
    "F._npi_bitwise_not(F._npi_floor(data * 4).astype('int32'))": (ROWS2,),
    "F._npi_bitwise_not(data > 0)": (ROWS2,),
    "F._npi_floor(data * 4).astype('int32') + 2": (ROWS2,),
    "F._npi_floor(data * 4).astype('int32') * 1.5 #": (ROWS2,),
    "F._npi_floor(data * 4).astype('int32') / 4": (ROWS2,),
    "F._npi_floor(data * 4).astype('int32') / (F._npi_floor(other * 4).astype('int32') * 2 + 1)": (ROWS2, (1, 8)),
    "F._npi_floor(data * 4).astype('int32') + other": (ROWS2, (1, 8)),
    "(data > 0) * other": (ROWS2, (1, 8)),
    "F._npi_mean(F._npi_floor(data * 4).astype('int32'), axis=1)": (ROWS2,),
    "F._np_sum(F._npi_floor(data * 4).astype('int32'), axis=1)": (ROWS2,),
    "F._npi_where(data > 0, other, third)": (ROWS2, (1, 8), ROWS2),
    "F._npi_where_lscalar(data > 0, other, scalar=2.5)": (ROWS2, ROWS2),
    "F._npi_where_rscalar(data > 0, other, scalar=2.5)": (ROWS2, ROWS2),
    "F._npi_where_scalar2(data > 0, x=2.5, y=-1)": (ROWS2,),
    "F._np_sum(data)": (SEQUENCE,),
    "F._np_sum(data, axis=1)": (SEQUENCE,),
    "F._np_sum(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._np_sum(data, axis=-1)": (SEQUENCE,),
    "F._npi_mean(data)": (SEQUENCE,),
    "F._npi_mean(data, axis=1)": (SEQUENCE,),
    "F._npi_mean(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._npi_mean(data, axis=-1)": (SEQUENCE,),
    "F._np_max(data)": (SEQUENCE,),
    "F._np_max(data, axis=1)": (SEQUENCE,),
    "F._np_max(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._np_max(data, axis=-1)": (SEQUENCE,),
    "F._np_min(data)": (SEQUENCE,),
    "F._np_min(data, axis=1)": (SEQUENCE,),
    "F._np_min(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._np_min(data, axis=-1)": (SEQUENCE,),
    "F._np_prod(data, axis=1)": (SEQUENCE,),
    "F._np_prod(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._np_prod(data, axis=-1)": (SEQUENCE,),
    "F._npi_std(data)": (SEQUENCE,),
    "F._npi_std(data, axis=1)": (SEQUENCE,),
    "F._npi_std(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._npi_std(data, axis=-1)": (SEQUENCE,),
    "F._npi_var(data)": (SEQUENCE,),
    "F._npi_var(data, axis=1)": (SEQUENCE,),
    "F._npi_var(data, axis=(0, 2), keepdims=True)": (SEQUENCE,),
    "F._npi_var(data, axis=-1)": (SEQUENCE,),
    "F._npi_std(data, axis=1, ddof=1)": (SEQUENCE,),
    "F._npi_var(data, axis=(1, 2), ddof=2, keepdims=True)": (SEQUENCE,),
    "F._np_all(data > -1, axis=1)": (SEQUENCE,),
    "F._np_any(data > 1.5, axis=(1, 2), keepdims=True)": (SEQUENCE,),
    "F._npi_average(data, other, axis=1)": (SEQUENCE, SEQUENCE),
    "F._npi_average(data, other, axis=1)  # 1": (SEQUENCE, (5,)),
    "F._npi_average(data, axis=2, weighted=False)": (SEQUENCE,),
    "list(F._npi_average(data, other, axis=1, returned=True))": (SEQUENCE, SEQUENCE),
    "list(F._npi_average(data, other, axis=1, returned=True))  # 1": (SEQUENCE, (5,)),
    "list(F._npi_average(data, axis=2, weighted=False, returned=True))": (SEQUENCE,),
    "F._npi_argmax(data)": (SEQUENCE,),
    "F._npi_argmax(data, axis=1)": (SEQUENCE,),
    "F._npi_argmax(data, axis=-1, keepdims=True)": (SEQUENCE,),
    "F._npi_argmin(data)": (SEQUENCE,),
    "F._npi_argmin(data, axis=1)": (SEQUENCE,),
    "F._npi_argmin(data, axis=-1, keepdims=True)": (SEQUENCE,),
    "F._np_cumsum(data)": (SEQUENCE,),
    "F._np_cumsum(data, axis=1)": (SEQUENCE,),
    "F._npi_diff(data, n=2, axis=1)": (SEQUENCE,),
    "F._npi_matmul(data, other)": (SEQUENCE, (4, 2)),
    "F._npi_matmul(data, other) # b": (SEQUENCE, (3, 4, 2)),
    "F._np_dot(data, other)": (SEQUENCE, (4, 2)),
    "F._np_dot(data, other) # 3": (SEQUENCE, (2, 4, 6)),
    "F._np_dot(data, other) # 1": (SEQUENCE, (4,)),
    "F._npi_tensordot_int_axes(data, other, axes=2)": (SEQUENCE, (5, 4, 2)),
    "F._npi_tensordot(data, other, a_axes_summed=(2, 1), b_axes_summed=(0, 2))": (SEQUENCE, (4, 2, 5)),
    "F._npi_einsum(data, other, subscripts='bij,jk->bki')": (SEQUENCE, (4, 2)),
    "F._npi_polyval(var('p_weight', shape=(4,)).as_np_ndarray(), data)": (SEQUENCE,),
    "F._np_transpose(data)": (SEQUENCE,),
    "F._np_transpose(data, axes=(0, 2, 1))": (SEQUENCE,),
    "F._np_moveaxis(data, source=(0, 2), destination=(2, 1))": (SEQUENCE,),
    "F._np_squeeze(data, axis=2)": ((3, 5, 1, 4),),
    "F._np_reshape(data, newshape=(-1, 2, 10))": (SEQUENCE,),
    "F._np_reshape(data, newshape=(-1,))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -2, 2, -1))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -5))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-5, -2))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -4))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -5), reverse=True)": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -1), reverse=True)": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -6, 5, -1, -2))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-1, 4))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-4, 1))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -6, -1, 1, -2))": (SEQUENCE,),
    "F._npx_reshape(data, newshape=(-2, -3, -2, -2))": ((3, 1, 5, 4),),
    "F._npi_broadcast_to(data, shape=(-2, 5, -2))": ((3, 1, 4),),
    "F._np_copy(data)": (SEQUENCE,),
    "F._np_roll(data, shift=(2,), axis=(1,))": (SEQUENCE,),
    "F._np_roll(data, shift=(2, -1), axis=(1, 2))": (SEQUENCE,),
    "F._npi_flip(data, axis=(1, 2))": (SEQUENCE,),
    "F._npi_rot90(data, k=0, axes=(1, 2))": (SEQUENCE,),
    "F._npi_rot90(data, k=1, axes=(1, 2))": (SEQUENCE,),
    "F._npi_rot90(data, k=2, axes=(1, 2))": (SEQUENCE,),
    "F._npi_rot90(data, k=3, axes=(1, 2))": (SEQUENCE,),
    "F._npi_concatenate(data, other, axis=1)": (SEQUENCE, (3, 2, 4)),
    "F._npi_concatenate(data, other, axis=None)": (SEQUENCE, (3, 2, 4)),
    "F._npi_stack(data, other, axis=-1)": (SEQUENCE, SEQUENCE),
    "F._npi_vstack(data, other)": ((3,), (3,)),
    "F._npi_vstack(data, other) # 2": (SEQUENCE, SEQUENCE),
    "np_.hstack([data, other])": ((3,), (3,)),
    "np_.hstack([data, other]) # 2": (SEQUENCE, (3, 2, 4)),
    "np_.dstack([data, other]) # 2": (ROWS2, ROWS2),
    "np_.dstack([data, other])": (SEQUENCE, (3, 5, 2)),
    "F._npi_column_stack(data, other)": (ROWS2, ROWS2),
    "F._npi_column_stack(data, other) # 1": ((3,), (3,)),
    "F._np_atleast_1d(data)": ((3,),),
    "F._np_atleast_2d(data)": ((3,),),
    "F._np_atleast_3d(data, other)": ((3,), (4, 2)),
    "np_.hsplit(data, 2)": (ROWS2,),
    "np_.hsplit(data, 3)": (ROWS2,),
    "np_.hsplit(data, (1, 3))": (ROWS2,),
    "np_.dsplit(data, 2)": (SEQUENCE,),
    "np_.delete(data, 2, axis=1)": (SEQUENCE,),
    "np_.delete(data, slice(1, 4, 2), axis=1)": (SEQUENCE,),
    "F._npi_pad(data, pad_width=((0, 0), (1, 2), (3, 0)), mode='constant', constant_value=0.7)": (SEQUENCE,),
    "F._npi_pad(data, pad_width=((0, 0), (1, 2), (3, 0)), mode='edge')": (SEQUENCE,),
    "F._npi_pad(data, pad_width=((0, 0), (1, 2), (3, 0)), mode='symmetric')": (SEQUENCE,),
    "F._npi_pad(data, pad_width=((0, 0), (1, 0), (3, 2)), mode='maximum')": (SEQUENCE,),
    "F._npi_pad(data, pad_width=((0, 0), (0, 2), (1, 1)), mode='minimum', constant_value=3)": (SEQUENCE,),
    "F._npi_pad(data, pad_width=((0, 0), (1, 2), (3, 0)), mode='reflect')": (SEQUENCE,),
    "F._np_diagonal(data, offset=1, axis1=1, axis2=2)": (SEQUENCE,),
    "F._np_diagonal(data, offset=-2, axis1=-1, axis2=1)": (SEQUENCE,),
    "F._np_trace(data, offset=1, axis1=1, axis2=2)": (SEQUENCE,),
    "F._npi_tril(data, k=1)": (SEQUENCE,),
    "F._npi_full_like(data, fill_value=2.5)": (SEQUENCE,),
    "F._npi_zeros(shape=(1, 4), dtype='float32') + data": (SEQUENCE,),
    "F._npi_ones(shape=(1, 4), dtype='float32') + data": (SEQUENCE,),
    "F._npi_identity(shape=(4, 4), dtype='float32')[0] + data": (SEQUENCE,),
    "F._npi_eye(N=2, M=4, k=1, dtype='float32')[0] + data": (SEQUENCE,),
    "F._npi_arange(start=2, stop=4, step=0.5, dtype='float32') + data": (SEQUENCE,),
    "F._npi_logspace(start=0, stop=2, num=4, base=3, dtype='float32') + data": (SEQUENCE,),
    "F._npi_hanning(M=4, dtype='float32') + data": (SEQUENCE,),
    "F._npi_hamming(M=4, dtype='float32') + data": (SEQUENCE,),
    "F._npi_blackman(M=4, dtype='float32') + data": (SEQUENCE,),
    "np_.linspace(1, 5, 4, endpoint=False) + data": (SEQUENCE,),
    "np_.full((1, 4), 2.5) + data": (SEQUENCE,),
    "F._npi_indices(dimensions=(2, 4), dtype='float32')[1, 0] + data": (SEQUENCE,),
    "np_.maximum(data, other)": (SEQUENCE, (5, 4)),
    "np_.expand_dims(data, 1)": (SEQUENCE,),
    "np_.take(data, np_.arange(3), axis=1)": (SEQUENCE,),
    "np_.split(data, 5, axis=1)": (SEQUENCE,),
    "F._npx_softmax(data, axis=1)": (SEQUENCE,),
    "np_.mean(data)": (SEQUENCE,),
    "np_.maximum(data, 0.3)": (SEQUENCE,),
    "np_.hypot(data, 0.3)": (SEQUENCE,),
    "F._np_cumsum(data, axis=2, dtype='float64')": (SEQUENCE,),
}  # fmt: skip

FIXED: dict[str, tuple[Dims, ...]] = {
    "np_.hsplit(data, (1, 2))": ((4,),),
    "F._npi_broadcast_to(data, shape=(2, 3, 4))": ((3, 4),),
    "F._np_roll(data, shift=(3,))": (SEQUENCE,),
    "F._np_diag(data, k=1)": ((4, 5),),
    "F._np_diag(data, k=-2)": ((4,),),
    "F._np_diagflat(data, k=1)": ((4, 2),),
    "F._npi_tril(data, k=-1) # 1": ((4,),),
}  # fmt: skip
"""Cases whose first axis is not a batch."""


@pytest.mark.parametrize("case", [*CASES, *FIXED])
def test_an_operator_of_the_numpy_interface_arrives(case: str, oracle: Oracle, tmp_path: Path) -> None:
    inputs = inputs_of(case, (CASES | FIXED)[case], (0, 3) if case in CASES else (0,))
    assert_arrives(case, inputs, oracle, tmp_path, numpy=True)


def test_a_block_in_memory_under_set_np_is_carried_and_run(oracle: Oracle) -> None:
    array = drawn((2, 3, 4), 1)
    model, ran, truth = oracle.live_numpy("structures.normalised(mx)", [array])
    outputs = onnx_outputs(model, [array])
    assert list(outputs) == list(ran)
    for mine, again, theirs in zip(outputs.values(), ran.values(), truth, strict=True):
        assert_equal(mine, theirs, 1e-5)
        np.testing.assert_array_equal(again, theirs)


def test_a_symbol_remembers_that_it_counts_zero_as_a_size(oracle: Oracle, tmp_path: Path) -> None:
    array = drawn((3, 4), 1)
    names, truth = oracle.symbol("F._np_sum(data)", [{"data": array}], str(tmp_path / "net"), numpy=True)
    assert read(tmp_path).graph.numpy
    ran = oracle.run_files(str(tmp_path / "net"), [array])
    assert ran[names[0]].shape == truth[0][0].shape == ()


@pytest.mark.parametrize(
    "case",
    [
        "F._npi_sin(data.astype('int32'))",  # mxnet computes it in integers
        "F._np_roll(data, shift=1, axis=0)",
    ],
)
def test_what_the_numpy_rows_do_not_carry_is_refused(case: str, oracle: Oracle, tmp_path: Path) -> None:
    inputs = {"data": np.asarray(drawn((3, 4), 1))}
    oracle.symbol(case, [inputs], str(tmp_path / "net"), numpy=True)
    with pytest.raises(UnsupportedError):
        to_onnx(
            read(tmp_path),
            [
                example.__class__(example.name, example.array, {0: "batch"}, asked=True)
                for example in examples(inputs)
            ],
        )
