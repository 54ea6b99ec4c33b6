"""Every name that ``mx.symbol`` registers: which have a row, and why the others have none; the rare rows against mxnet itself."""

from __future__ import annotations

import importlib.util
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import Dims, assert_arrives, assert_equal, drawn, inputs_of, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet import symbol
from netferry.converters.mxnet.to_onnx import refused, to_onnx
from netferry.converters.mxnet.to_onnx.emitter import ROWS
from netferry.converters.signature import examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

# ---- how many ----------------------------------------------------------------------------------------

NOT_INFERENCE: dict[str, str] = {
    r"_?backward|_contrib_backward|_npi_backward|.*_backward$|_broadcast_backward|_npi_hsplit_backward": "gradients",
    r".*_update(_phase[12])?$|multi_lars|reset_arrays|.*all_finite|multi_sum_sq": "optimizers",
    r"_?random_(?!pdf)|_?sample_|_npx__image_random|_image_random|normal$|uniform$|_?shuffle|_npi_shuffle|_npi_random"
    r"|_npi_(bernoulli|choice|exponential|gamma|gumbel|logistic|multinomial|normal|normal_n|pareto|powerd|rayleigh|uniform"
    r"|uniform_n|weibull)$|_sample_unique_zipfian": "draw random numbers",
    r"(_contrib_)?(CTCLoss|ctc_loss)|_contrib_MultiBoxTarget|_npx_multibox_target|_contrib_bipartite_matching"
    r"|_contrib_box_encode|_contrib_hawkesll|_contrib_calibrate_entropy": "losses and targets of training",
    r"_contrib_dgl|_contrib_edge_id|_contrib_getnnz|_sparse_retain|_square_sum": "compressed rows and graphs alone",
    r"_cv|_npi_cv|_imdecode": "image files",
    r"_CachedOp|_CrossDeviceCopy|_CustomFunction|_NDArray|_Native|_NoGradient|_set_value|_copyto|_npi_copyto"
    r"|_npi_share_memory|_npi_boolean_mask_assign": "inside of mxnet's own processes, or only in place",
    r"_contrib_(fft|ifft|count_sketch|quantize_asym|quantized_rnn)$": "mxnet's CPU does not run them",
    r"Custom|_npi_Custom": "code of the model's own",
}
"""Names that no model of the field says when it runs, by what they are."""


def _own(name: str) -> str:
    bare = name.removeprefix("_sparse_") if name != "_sparse_retain" else name
    return symbol.ALIASES.get(bare, bare)


def _names(oracle: Oracle) -> list[str]:
    outside = re.compile("|".join(NOT_INFERENCE))
    return [name for name in oracle.registry() if _own(name) in ROWS or not outside.match(name)]


def test_99_of_100_names_of_inference_have_a_row(oracle: Oracle) -> None:
    names = _names(oracle)
    absent = [name for name in names if _own(name) not in ROWS]
    assert len(names) >= 700
    assert len(absent) <= len(names) / 100, absent


def test_each_name_without_a_row_has_a_reason(oracle: Oracle) -> None:
    absent = [name for name in _names(oracle) if _own(name) not in ROWS]
    assert [name for name in absent if refused.reason(_own(name)) is None] == []


def test_no_operator_with_a_row_is_said_to_be_refused() -> None:
    assert [name for name in ROWS if refused.reason(name)] == []


SVD = """{"nodes": [{"op": "null", "name": "data", "inputs": []}, {"op": "_npi_svd", "name": "svd", "inputs": [[0, 0, 0]]}],
 "heads": [[1, 0, 0]], "attrs": {"mxnet_version": ["int", 10901], "is_np_shape": ["int", 1]}}"""


def test_what_is_refused_says_why(tmp_path: Path) -> None:
    (tmp_path / "net-symbol.json").write_text(SVD)
    (tmp_path / "net-0000.params").write_bytes(struct.pack("<4Q", 0x112, 0, 0, 0))
    with pytest.raises(UnsupportedError, match="found by iterations that end when they have converged"):
        to_onnx(read(tmp_path), examples({"data": drawn((3, 3), 1)}))


# ---- rare rows ---------------------------------------------------------------------------------------

ROWS2, SEQUENCE, IMAGES = (3, 8), (3, 5, 4), (2, 18, 12, 16)

CASES: dict[str, tuple[Dims, ...]] = {
    **{
        f"F._random_pdf_{name}(F.abs(data) + 0.1, {', '.join(['F.abs(other) + 0.2', 'F.abs(third) + 5.4'][:count])}{log})": (
            SEQUENCE, (3,), (3,)
        )[: count + 1]
        for name, count in (("uniform", 2), ("normal", 2), ("exponential", 1), ("gamma", 2), ("generalized_negative_binomial", 2))
        for log in ("", ", is_log=True")
    },
    "F._random_pdf_poisson(F.floor(F.abs(data) * 3), F.abs(other) + 0.2)": (SEQUENCE, (3, 5)),
    "F._random_pdf_negative_binomial(F.floor(F.abs(data) * 3), F.abs(other) + 0.2, F.sigmoid(third))": (SEQUENCE, (3, 5), (3, 5)),
    "F._random_pdf_dirichlet(F.softmax(data), F.abs(other) + 0.2)": (SEQUENCE, (3, 4)),
    "F._random_pdf_dirichlet(F.softmax(data), F.abs(other) + 0.2, is_log=True)": (SEQUENCE, (3, 4)),
    "list(F._histogram(data, bin_cnt=5, range=(-1.5, 2)))": (SEQUENCE,),
    "list(F._histogram(data, bins=mx.sym.Variable('edges', shape=(4,), init=mx.init.Constant(1)) + F.arange(4)))": (SEQUENCE,),
    "F._contrib_allclose(data, data * 1.000001)": (SEQUENCE,),
    "F.multi_sum_sq(data, other, num_arrays=2)": (SEQUENCE, ROWS2),
    "F.all_finite(data)": (SEQUENCE,),
    "F._image_adjust_lighting(data, alpha=(0.1, -0.2, 0.3))": ((6, 5, 3),),
    "F._image_resize(data, size=(5, 9))": ((3, 6, 7, 3),),
    "F._image_resize(data, size=4)": ((3, 6, 7, 3),),
    "F._image_resize(data, size=12, keep_ratio=True)": ((3, 6, 7, 2),),
    "F._image_resize(data, size=(9, 13), interp=2)": ((3, 6, 7, 3),),
    "F._image_resize(data, size=(14, 13), interp=0)": ((3, 6, 7, 3),),
    "list(F.linalg_gelqf(data))": ((3, 4, 6),),
    "list(F.linalg_gelqf(data * 2))": ((3, 4, 4),),
}  # fmt: skip

NUMPY: dict[str, tuple[Dims, ...]] = {
    **{
        f"F._npi_norm(data, ord={order}, axis={axis}, flag={flag}, keepdims={kept})": (SEQUENCE,)
        for order, axis, flag, kept in (
            (2, None, -2, False), (2, (1,), 1, True), (2, (1, 2), 1, False), (1, (1,), -1, False), (3, (2,), -1, True)
        )
    },
    "F._npi_eigvalsh(data)": ((3, 4, 4),),
    "F._npi_eigvalsh(data, UPLO='U')": ((3, 5, 5),),
    "F._npi_diag_indices_from(data)": ((4, 4),),
    "F._npi_ediff1d(data)": (SEQUENCE,),
    "F._npi_ediff1d(data, to_begin_scalar=1.5, to_end_scalar=-2)": (SEQUENCE,),
    "F._npi_ediff1d(data, other, to_begin_arr_given=True)": (SEQUENCE, (3, 4)),
    "F._npi_percentile(data, q_scalar=35, axis=(1,))": (SEQUENCE,),
    "F._npi_percentile(data, q_scalar=62.5, axis=(1, 2), keepdims=True, interpolation='midpoint')": (SEQUENCE,),
    **{
        f"F._npi_percentile(data, q_scalar=40, axis=(2,), interpolation='{kind}')": ((3, 2, 7),)
        for kind in ("lower", "higher", "nearest")
    },
    "F._npi_insert_scalar(data, val=2.5, int_ind=7)": ((12,),),
    "F._npi_insert_scalar(data, other, int_ind=-1, axis=1)": (SEQUENCE, (3, 4)),
    "F._npi_insert_scalar(data, other, int_ind=2, axis=1)": (SEQUENCE, (2, 1, 4)),
    "F._npi_insert_slice(data, other, start=1, stop=3, step=1, axis=2)": (SEQUENCE, (2,)),
    "F._npi_insert_slice(data, other, start=0, stop=5, step=2, axis=1)": (SEQUENCE, (1, 4)),
    "F._npi_tensorsolve(F._npi_add(data, F._npi_multiply_scalar(F._np_reshape(F._npi_eye(N=6), newshape=(2, 3, 6)), scalar=9)), other)": ((2, 3, 6), (2, 3)),
    "F._npi_tensorinv(F._npi_add(data, F._npi_multiply_scalar(F._np_reshape(F._npi_eye(N=6), newshape=(2, 3, 6)), scalar=9)), ind=2)": ((2, 3, 6),),
    "F._npi_lcm_scalar(F._npi_cast(F._npi_multiply_scalar(data, scalar=5), dtype='int32'), scalar=6)": (SEQUENCE,),
    "F._npi_lcm(F._npi_cast(F._npi_multiply_scalar(data, scalar=5), dtype='int32'), F._npi_cast(F._npi_multiply_scalar(other, scalar=30), dtype='int32'))": (SEQUENCE, SEQUENCE),
}  # fmt: skip

FIXED = re.compile(
    "tensorsolve|tensorinv|int_ind=7|adjust_lighting|diag_indices|ediff1d|linalg_gelqf|multi_sum_sq"
)
"""What knows no batch: other sizes are another model."""


def _larger(dims: tuple[Dims, ...], case: str) -> tuple[int, ...]:
    return (0,) if FIXED.search(case) else (0, 3)


@pytest.mark.parametrize("case", CASES)
def test_a_rare_operator_arrives(case: str, oracle: Oracle, tmp_path: Path) -> None:
    dims = CASES[case]
    assert_arrives(case, inputs_of(case, dims, _larger(dims, case)), oracle, tmp_path, tolerance=2e-5)


@pytest.mark.parametrize("case", NUMPY)
def test_a_rare_operator_of_the_numpy_interface_arrives(case: str, oracle: Oracle, tmp_path: Path) -> None:
    dims = NUMPY[case]
    assert_arrives(
        case, inputs_of(case, dims, _larger(dims, case)), oracle, tmp_path, numpy=True, tolerance=2e-5
    )


# ---- integers ----------------------------------------------------------------------------------------

_QUANTIZED = "F._contrib_quantize_v2({}, min_calib_range=-2.0, max_calib_range=2.5, out_type='int8')"
_PRODUCT = (
    "(lambda l, r: F._contrib_quantized_elemwise_mul(l[0], r[0], l[1], l[2], r[1], r[2]{}))"
    f"({_QUANTIZED.format('data')}, {_QUANTIZED.format('other')})"
)

INTEGERS: dict[str, tuple[Dims, ...]] = {
    f"list({_PRODUCT.format('')})": (ROWS2, ROWS2),
    f"list({_PRODUCT.format(', min_calib_range=-3.0, max_calib_range=3.5')})": (ROWS2, ROWS2),
    _PRODUCT.format(", enable_float_output=True"): (ROWS2, ROWS2),
    "(lambda r: list(F._contrib_quantized_embedding(F.floor(F.abs(data) * 2), r[0], r[1], r[2], input_dim=4, output_dim=6)))"
    f"({_QUANTIZED.format('other')})": (ROWS2, (4, 6)),
}


@pytest.mark.parametrize("case", INTEGERS)
def test_integers_are_mxnets_own(case: str, oracle: Oracle, tmp_path: Path) -> None:
    inputs = inputs_of(case, INTEGERS[case])
    _, truth = oracle.symbol(case, inputs, str(tmp_path / "net"))
    model = to_onnx(read(tmp_path), examples(inputs[0])).model
    for arrays, expected in zip(inputs, truth, strict=True):
        for mine, theirs in zip(onnx_outputs(model, list(arrays.values())).values(), expected, strict=True):
            assert mine.dtype == theirs.dtype
            if mine.dtype.kind == "f":
                assert_equal(mine, theirs, 1e-6, case)
            else:
                np.testing.assert_array_equal(mine, theirs)


# ---- features of regions -------------------------------------------------------------------------------

ROIS = {
    5: [[0, 0, 0, 15, 15], [1, 4, 4, 30, 28], [1, 2.5, 7.5, 9, 40], [0, 20, 3, 21, 4]],
    6: [[0, 12, 12, 8, 6, 30], [1, 5, 18, 20, 7, -75], [1, 30, 2, 9, 12, 200], [0, 2, 2, 1, 1, 10]],
}
REGIONS = {
    "F._contrib_PSROIPooling(data, other, spatial_scale=0.5, output_dim=2, pooled_size=3)": ((2, 18, 16, 12), 5),
    "F._contrib_PSROIPooling(data, other, spatial_scale=0.4, output_dim=2, pooled_size=5, group_size=3)": ((2, 18, 16, 12), 5),
    "F._contrib_DeformablePSROIPooling(data, other, spatial_scale=0.5, output_dim=2, group_size=3, pooled_size=3, no_trans=True,"
    " sample_per_part=2)": ((2, 18, 16, 12), 5),
    "F._contrib_DeformablePSROIPooling(data, other, third, spatial_scale=0.5, output_dim=4, group_size=2, pooled_size=4, part_size=4,"
    " sample_per_part=3, trans_std=0.1)": ((2, 16, 16, 12), 5),
    "F._contrib_RROIAlign(data, other, pooled_size=(3, 4), spatial_scale=0.5, sampling_ratio=2)": ((2, 3, 16, 12), 6),
}  # fmt: skip


@pytest.mark.parametrize("case", REGIONS)
def test_features_of_regions_are_those_of_mxnet(case: str, oracle: Oracle, tmp_path: Path) -> None:
    dims, width = REGIONS[case]
    rois = np.array(ROIS[width], np.float32)
    sets = []
    for chosen in (rois, rois[[2, 0, 3, 1, 2, 1]]):
        arrays = {"data": drawn(dims, 5), "other": chosen}
        sets.append(arrays | ({"third": drawn((len(chosen), 4, 4, 4), 6)} if "third" in case else {}))
    free = {name: {0: "regions"} for name in sets[0] if name != "data"}
    assert_arrives(case, sets, oracle, tmp_path, free=free)
