"""Linear algebra, attention, writing by index and what is rare, to ONNX, against mxnet itself."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import NAMES, Dims, assert_arrives, assert_equal, drawn, inputs_of, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry.converters.errors import UnsupportedError
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

IMAGE, ROWS2, SEQUENCE, SQUARES = (2, 4, 7, 6), (3, 8), (3, 5, 4), (3, 4, 4)

CASES: dict[str, tuple[Dims, ...]] = {
    "F.diag(data, k=1, axis1=1, axis2=2)": (SEQUENCE,),
    "F._linalg_extractdiag(data, offset=-1)": (SQUARES,),
    "F._linalg_makediag(data, offset=2)": ((3, 4),),
    "F._linalg_makediag(data, offset=-1)": ((3, 4),),
    "F._linalg_extracttrian(data, offset=-1)": (SQUARES,),
    "F._linalg_extracttrian(data, offset=1)": (SQUARES,),
    "F._linalg_extracttrian(data, lower=False)": (SQUARES,),
    "F._linalg_extracttrian(data)": (SQUARES,),
    "F._linalg_maketrian(data, offset=-1)": ((3, 6),),
    "F._linalg_maketrian(data, lower=False)": ((3, 6),),
    "F._linalg_maketrian(data, offset=1)": ((3, 6),),
    "F._linalg_det(data)": (SQUARES,),
    "F._linalg_slogdet(data)": (SQUARES,),
    "F._linalg_gemm(data, other, third, transpose_a=True, alpha=0.7, beta=1.3)": ((3, 4, 5), (3, 4, 2), (3, 5, 2)),
    "F._linalg_gemm(data, other, third, transpose_b=True)": (SEQUENCE, (3, 2, 4), (3, 5, 2)),
    "F._linalg_gemm(data, other, third, axis=1, alpha=2)": ((3, 5, 7, 4), (3, 4, 7, 2), (3, 5, 7, 2)),
    "F._linalg_gemm2(data, other, transpose_a=True, transpose_b=True, alpha=0.7)": ((3, 4, 5), (3, 2, 4)),
    "F._linalg_gemm2(data, other, axis=1)": ((3, 5, 7, 4), (3, 4, 7, 2)),
    "F._linalg_syrk(data, alpha=0.7)": (SEQUENCE,),
    "F._linalg_syrk(data, transpose=True)": (SEQUENCE,),
    "F._linalg_trmm(data, other, alpha=0.7)": (SQUARES, (3, 4, 2)),
    "F._linalg_trmm(data, other, transpose=True, rightside=True)": (SQUARES, (3, 2, 4)),
    "F._linalg_trmm(data, other, lower=False)": (SQUARES, (3, 4, 2)),
    "F._contrib_interleaved_matmul_selfatt_qk(data, heads=3)": ((5, 2, 18),),
    "F.nansum(F.sqrt(data), )": (SEQUENCE,),
    "F.nansum(F.sqrt(data), axis=1, keepdims=True)": (SEQUENCE,),
    "F.nansum(F.sqrt(data), axis=1, exclude=True)": (SEQUENCE,),
    "F.nanprod(F.sqrt(data), )": (SEQUENCE,),
    "F.nanprod(F.sqrt(data), axis=1, keepdims=True)": (SEQUENCE,),
    "F.nanprod(F.sqrt(data), axis=1, exclude=True)": (SEQUENCE,),
    "F._slice_assign(data, other, begin=(None, 1, 2), end=(None, 3, None))": (SEQUENCE, (3, 2, 2)),
    "F._slice_assign_scalar(data, scalar=2.5, begin=(None, 1, -2), end=(None, -1, None))": (SEQUENCE,),
    "F._contrib_index_array(data)": (SEQUENCE,),
    "F._contrib_index_array(data, axes=(2, 0))": (SEQUENCE,),
    "F.size_array(data)": (SEQUENCE,),
    "F._contrib_quadratic(data, a=2, b=-3, c=0.5)": (SEQUENCE,),
    "F._contrib_round_ste(data)": (SEQUENCE,),
    "F._contrib_sign_ste(data)": (SEQUENCE,),
    "F._scatter_plus_scalar(data, scalar=2)": (SEQUENCE,),
    "F._scatter_minus_scalar(data, scalar=2)": (SEQUENCE,),
    "F._scatter_elemwise_div(data, other)": (SEQUENCE, SEQUENCE),
    "F._contrib_gradientmultiplier(data, scalar=3)": (SEQUENCE,),
    "F.cast_storage(data, stype='default')": (SEQUENCE,),
    "F.IdentityAttachKLSparseReg(data, penalty=0.3)": (ROWS2,),
    "F._contrib_SparseEmbedding(F.round(data) * 2, input_dim=5, output_dim=3)": (ROWS2,),
    "F.broadcast_add(F.slice_axis(F._eye(N=2, M=4, k=1),axis=0,begin=0,end=1), data)": ((3, 4),),
    "F.broadcast_add(F.reshape(F.linspace(1, 5, 4, endpoint=False),shape=(1,4)), data)": ((3, 4),),
    "F.cumsum(data, axis=1)": (SEQUENCE,),
    "F.Pooling_v1(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='avg')": (IMAGE,),
    "F.Pooling_v1(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='avg', pooling_convention='full')": (IMAGE,),
    "F.Pooling_v1(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type='max', pooling_convention='full')": (IMAGE,),
    "F.Pooling_v1(data, kernel=(2, 2), stride=(3, 3), pool_type='sum', pooling_convention='full')": ((2, 4, 7, 5),),
    "F.Convolution_v1(data, kernel=(3, 3), num_filter=3)": (IMAGE,),
    "F.BatchNorm_v1(data)": (IMAGE,),
    "F.Reshape(data, shape=(-1, 0), reverse=True)": (SEQUENCE,),
    "F.reshape(data, shape=(-1, 0), reverse=True)": (SEQUENCE,),
    "F.reshape(data, shape=(0, -1, 0), reverse=True)": (SEQUENCE,),
    "F.reshape(data, shape=(0, -3), reverse=True)": (SEQUENCE,),
    "F.reshape(data, shape=(-3, 0), reverse=True)": (SEQUENCE,),
    "F.Reshape(data, shape=(5, -1, 0), reverse=True)": (SEQUENCE,),
}  # fmt: skip

FIXED: dict[str, tuple[Dims, ...]] = {
    "F.diag(data)": (SEQUENCE,),
    "F.diag(data, k=-1) #1": ((4,),),
    "F._linalg_det(data) # 2": ((4, 4),),
    "F.khatri_rao(data, other)": ((3, 4), (5, 4)),
    "F.khatri_rao(data, other, third)": ((3, 4), (5, 4), (2, 4)),
    "F._contrib_interleaved_matmul_selfatt_valatt(data, other, heads=3)": ((5, 2, 18), (6, 5, 5)),
    "F._contrib_interleaved_matmul_encdec_qk(data, other, heads=3)": ((5, 2, 6), (7, 2, 12)),
    "F._contrib_interleaved_matmul_encdec_valatt(data, other, heads=3)": ((7, 2, 12), (6, 5, 7)),
    "F._contrib_index_copy(data, F.slice_axis(F._arange(start=1, stop=9), axis=0, begin=0, end=2), other)": (ROWS2, (2, 8)),
    "F._slice_assign(data, other, begin=(1, 0), end=(3, 5))": (SEQUENCE, (2, 5, 4)),
    "F._ravel_multi_index(F.round(F.abs(data)), shape=(5, 9, 7))": ((3, 6),),
    "F._zeros_without_dtype(shape=(1, 4)) + data": ((1, 4),),
    "F._unravel_index(F._arange(start=3,stop=9), shape=(5, 9, 7)) + data": ((3, 6),),
    "F._contrib_arange_like(data, start=1, step=0.5) + data": (ROWS2,),
    "F._contrib_arange_like(data, start=2, repeat=2) + data": (SEQUENCE,),
    "F._contrib_arange_like(data, start=2, repeat=2, axis=1)": (SEQUENCE,),
    "F.SoftmaxOutput(data, name='softmax')": ((3, 4, 5, 6),),
    "F.SoftmaxOutput(data, name='softmax', preserve_shape=True)": ((3, 4, 5, 6),),
    "F.LeakyReLU(data, act_type='rrelu')[0] * 1": (SEQUENCE,),
    "F._contrib_DeformableConvolution(data, other, kernel=(3, 3), pad=(1, 1), num_filter=4, num_deformable_group=2)": (
        (2, 8, 7, 6), (2, 36, 7, 6),
    ),
    "F._contrib_DeformableConvolution(data, other, kernel=(3, 2), stride=(2, 1), pad=(1, 0), dilate=(1, 2), num_filter=4)": (
        (2, 8, 7, 6), (2, 12, 4, 4),
    ),
    "F._contrib_ModulatedDeformableConvolution(data, other, F.sigmoid(third), kernel=(3, 3), pad=(1, 1), num_filter=4)": (
        (2, 8, 7, 6), (2, 18, 7, 6), (2, 9, 7, 6),
    ),
}  # fmt: skip
"""Cases whose first axis is not a batch."""


def positive(array: Array) -> Array:
    """Matrices with a logarithm."""
    return (array @ np.swapaxes(array, -1, -2) + np.eye(array.shape[-1])).astype(np.float32)


def triangle(array: Array) -> Array:
    return np.linalg.cholesky(positive(array)).astype(np.float32)


def upper(array: Array) -> Array:
    return np.ascontiguousarray(np.swapaxes(triangle(array), -1, -2))


def scores(array: Array) -> Array:
    """Between minus one and one, near the ends and zero too."""
    found = np.clip(array / 3, -0.999999, 0.999999)
    found.flat[:4] = 1e-6, -1e-7, 0.99999, -0.999999
    return found


def regions(array: Array) -> Array:
    return np.array([[0, 1, 1, 6, 5], [1, 0, 2, 5, 6], [0, 2, 0, 6.5, 6]], np.float32)


def lengths(array: Array) -> Array:
    return (np.arange(array.size).reshape(array.shape) % 4 + 1).astype(np.int32)


def none_too(array: Array) -> Array:
    return (np.arange(array.size).reshape(array.shape) % 5).astype(np.int32)


def labels(array: Array) -> Array:
    return (np.arange(len(array)) % 7).astype(np.float32)


def places(array: Array) -> Array:
    return np.array([[0, 1, 2, 1], [3, 7, 0, 2]], np.float32)


def chosen(array: Array) -> Array:
    return np.array([1, 0, 1], np.float32)


Feed = Callable[[Array], Array]

FED: dict[str, tuple[tuple[Dims, ...], dict[str, Feed], tuple[int, ...]]] = {
    "F._linalg_sumlogdiag(data)": ((SQUARES,), {"data": positive}, (0, 3)),
    "F.softmax(data, other, use_length=True, axis=1, temperature=0.7)": ((SEQUENCE, (3, 4)), {"other": lengths}, (0, 3)),
    "F.softmax(data, other, use_length=True)": ((SEQUENCE, (3, 5)), {"other": none_too}, (0, 3)),
    "F.softmax_cross_entropy(data, other)": ((ROWS2, (3,)), {"other": labels}, (0,)),
    "F.scatter_nd(data, other, shape=(3, 8))": (((4,), (2, 4)), {"other": places}, (0,)),
    "F.gamma(data)": (((3, 40),), {"data": lambda x: 2 * x}, (0, 3)),
    "F.gammaln(data)": (((3, 40),), {"data": lambda x: 5 * x}, (0, 3)),
    "F.erfinv(data)": (((3, 40),), {"data": scores}, (0, 3)),
    "F._linalg_potrf(data)": ((SQUARES,), {"data": positive}, (0, 3)),
    "F._linalg_potri(data)": ((SQUARES,), {"data": triangle}, (0, 3)),
    "F._linalg_inverse(data)": ((SQUARES,), {"data": positive}, (0, 3)),
    "F._linalg_trsm(data, other, alpha=2.5)": ((SQUARES, (3, 4, 5)), {"data": triangle}, (0, 3)),
    "F._linalg_trsm(data, other, lower=False)": ((SQUARES, (3, 4, 5)), {"data": upper}, (0, 3)),
    "F._linalg_trsm(data, other, rightside=True, transpose=True)": ((SQUARES, (3, 5, 4)), {"data": triangle}, (0, 3)),
    "F._contrib_ROIAlign(data, other, pooled_size=(2, 2), spatial_scale=1.0, sample_ratio=2, position_sensitive=True)": (
        ((2, 8, 7, 8), (3, 5)), {"other": regions}, (0,),
    ),
    "F.contrib.boolean_mask(data, other)": ((SEQUENCE, (3,)), {"other": chosen}, (0,)),
}  # fmt: skip


@pytest.mark.parametrize("case", [*CASES, *FIXED])
def test_an_operator_arrives(case: str, oracle: Oracle, tmp_path: Path) -> None:
    inputs = inputs_of(case, (CASES | FIXED)[case], (0, 3) if case in CASES else (0,))
    assert_arrives(case, inputs, oracle, tmp_path)


LOOPS = {
    "mx.sym.contrib.foreach(lambda x, s: (x * 2 + s, s * 0.5 - x), data, other)": ((5, 3, 4), (3, 4)),
    "mx.sym.contrib.foreach(lambda x, s: (F.FullyConnected(x, num_hidden=4, name='fc') + s, s * 0.5 + x), data, other)": ((5, 3, 4), (3, 4)),
    "mx.sym.contrib.foreach(lambda x, s: ([x[0] - s[1], x[1]], [s[1], s[0] + x[0]]), [data, other], [third, fourth])": (
        (5, 3, 4), (5, 3, 4), (3, 4), (3, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LOOPS)
def test_a_loop_is_written_out_step_by_step(case: str, oracle: Oracle, tmp_path: Path) -> None:
    def grown(more: int) -> dict[str, Array]:
        dims = [(*each[:-2], each[-2] + more, each[-1]) for each in LOOPS[case]]
        return {name: drawn(each, *name.encode()) for name, each in zip(NAMES, dims, strict=False)}

    text = f"(lambda found: sum([each if isinstance(each, list) else [each] for each in found], []))({case})"
    inputs = [grown(0), grown(2)]
    free = {name: {array.ndim - 2: "batch"} for name, array in inputs[0].items()}
    assert_arrives(text, inputs, oracle, tmp_path, free=free)


BRANCHES = {
    "mx.sym.contrib.cond(F.sum(data) > 0, lambda: data * 2, lambda: data - 1)": ((3, 4),),
    "mx.sym.contrib.cond(F.sum(data) < 0, lambda: data * 2, lambda: other - 1)": ((3, 4), (3, 4)),
    "mx.sym.contrib.while_loop(lambda i, s: F.sum(i) <= 3, lambda i, s: ([i + s], [i + 1, s * data + i]), "
    "loop_vars=(other, third), max_iterations=6)[1][1]": ((2,), (2,), (2,)),
    "mx.sym.contrib.while_loop(lambda s: F.sum(s) < 90, lambda s: (s * 2, [s + F.abs(data) + 1]), "
    "loop_vars=[other], max_iterations=9)[1][0]": ((2,), (2,)),
}


@pytest.mark.parametrize("case", BRANCHES)
def test_a_branch_or_a_loop_with_a_condition_arrives(case: str, oracle: Oracle, tmp_path: Path) -> None:
    (inputs,) = inputs_of(case, BRANCHES[case], (0,))
    oracle.bare(case, str(tmp_path / "net"))
    model = read(tmp_path)
    names = [model.graph.nodes[position].name for position in model.graph.variables]
    arrays = [inputs[name] for name in names]
    truth = oracle.run_files(str(tmp_path / "net"), arrays)
    outputs = onnx_outputs(to_onnx(model, examples({name: inputs[name] for name in names}, {})).model, arrays)
    assert list(outputs) == list(truth)
    for name, expected in truth.items():
        assert_equal(outputs[name], expected, 1e-5, name)


@pytest.mark.parametrize("case", LOOPS)
def test_a_loop_of_unknown_length_is_a_scan(case: str, oracle: Oracle, tmp_path: Path) -> None:
    def grown(more: int) -> dict[str, Array]:
        dims = [(each[0] + more, *each[1:]) if len(each) == 3 else each for each in LOOPS[case]]
        return {name: drawn(each, *name.encode()) for name, each in zip(NAMES, dims, strict=False)}

    text = f"(lambda found: sum([each if isinstance(each, list) else [each] for each in found], []))({case})"
    inputs = [grown(0), grown(3), grown(-4)]
    free = {name: {0: "length"} for name, array in inputs[0].items() if array.ndim == 3}
    assert_arrives(text, inputs, oracle, tmp_path, free=free)


@pytest.mark.parametrize("case", FED)
def test_an_operator_arrives_whose_inputs_are_of_a_kind(case: str, oracle: Oracle, tmp_path: Path) -> None:
    dims, feeds, more = FED[case]
    inputs = [
        {name: feeds.get(name, np.asarray)(array) for name, array in arrays.items()}
        for arrays in inputs_of(case, dims, more)
    ]
    assert_arrives(case, inputs, oracle, tmp_path)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [((2, 2), (1, 1), (2, 2)), ((2, 3), (1, 2), (0, 4)), ((3, 3), (2, 2), (3, 3))],
)
def test_a_largest_of_padding_alone_is_the_lowest_number_with_the_channels_last(
    kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], oracle: Oracle, tmp_path: Path
) -> None:
    inputs = {"data": drawn((2, 5, 6, 3), 1)}
    case = f"F.Pooling(data, kernel={kernel}, stride={stride}, pad={pad}, pool_type='max', layout='NHWC')"
    _, ((theirs,),) = oracle.symbol(case, [inputs], str(tmp_path / "net"))
    (mine,) = onnx_outputs(to_onnx(read(tmp_path), examples(inputs, {})).model, [inputs["data"]]).values()
    assert np.isclose(theirs, np.finfo(np.float32).min).any()
    np.testing.assert_array_equal(mine, theirs)


def test_a_split_in_depth_along_another_axis_is_refused_by_its_name(oracle: Oracle, tmp_path: Path) -> None:
    inputs = {"data": drawn((3, 5, 4), 1)}
    oracle.symbol("np_.dsplit(data, 2)", [inputs], str(tmp_path / "net"), numpy=True)
    path = tmp_path / "net-symbol.json"
    document = json.loads(path.read_text())
    for node in document["nodes"]:
        node.get("attrs", {}).update({"axis": "1"} if node["op"] == "_npi_dsplit" else {})
    path.write_text(json.dumps(document))
    with pytest.raises(UnsupportedError, match="axis=1, along which MXNet cuts"):
        to_onnx(read(tmp_path), examples(inputs, {}))
