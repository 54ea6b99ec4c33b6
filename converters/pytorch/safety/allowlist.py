"""What a PyTorch file may call: operators that compute, and the globals of tensors. Whatever is not here may act."""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "on lists, texts and numbers: TorchScript's own": """
BoolImplicit Delete Generator Size __derive_index __getitem__ __is__ __isnot__ __not__ __range_length _assert_scalar
_set_item append broadcast_shapes can_cast chr clear count device dict endswith extend find floordiv format get
get_autocast_dtype has_torch_function hash insert is_autocast_cpu_enabled is_autocast_enabled is_cuda is_grad_enabled
items join keys len list lower ord percentFormat pop popitem promote_types remove replace reverse set_grad_enabled
setdefault startswith str strip sym_constrain_range sym_constrain_range_for_size tanhshrink update upper warn
""",
    "what a tensor is, and whether it is as it must be": """
Bool Complex Float FloatImplicit Int IntImplicit ScalarImplicit _assert_async _assert_tensor_metadata
_functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
_functional_sym_constrain_range_for_size _local_scalar_dense allclose contiguous data dim element_size grad is_complex
is_conj is_contiguous is_floating_point is_inference is_neg is_nonzero is_same_size is_signed item numel result_type
size storage_offset stride sym_numel sym_size sym_storage_offset sym_stride
""",
    "number by number": """
__and__ __contains__ __iand__ __ilshift__ __ior__ __irshift__ __ixor__ __lshift__ __or__ __rshift__ __xor__ _conj
_prelu_kernel abs abs_ absolute absolute_ acos acos_ acosh acosh_ add add_ addcdiv addcdiv_ addcmul addcmul_ angle
arccos arccos_ arccosh arccosh_ arcsin arcsin_ arcsinh arcsinh_ arctan arctan2 arctan2_ arctan_ arctanh arctanh_ asin
asin_ asinh asinh_ atan atan2 atan2_ atan_ atanh atanh_ bitwise_and bitwise_and_ bitwise_left_shift
bitwise_left_shift_ bitwise_not bitwise_not_ bitwise_or bitwise_or_ bitwise_right_shift bitwise_right_shift_
bitwise_xor bitwise_xor_ ceil ceil_ celu celu_ clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clip clip_
complex conj conj_physical conj_physical_ copysign copysign_ cos cos_ cosh cosh_ deg2rad deg2rad_ diff digamma
digamma_ div div_ divide divide_ elu elu_ eq eq_ equal erf erf_ erfc erfc_ erfinv erfinv_ exp exp2 exp2_ exp_ expm1
expm1_ fill fill_ fix fix_ float_power float_power_ floor floor_ floor_divide floor_divide_ fmax fmin fmod fmod_ frac
frac_ frexp gcd gcd_ ge ge_ gelu gelu_ glu gradient greater greater_ greater_equal greater_equal_ gt gt_ hardshrink
hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ heaviside heaviside_ hypot hypot_ i0 i0_ igamma
igamma_ igammac igammac_ imag isclose isfinite isinf isnan isneginf isposinf isreal lcm lcm_ ldexp ldexp_ le le_
leaky_relu leaky_relu_ lerp lerp_ less less_ less_equal less_equal_ lgamma lgamma_ log log10 log10_ log1p log1p_ log2
log2_ log_ log_sigmoid log_sigmoid_forward logaddexp logaddexp2 logical_and logical_and_ logical_not logical_not_
logical_or logical_or_ logical_xor logical_xor_ logit logit_ lt lt_ masked_fill masked_fill_ maximum minimum mish
mish_ mul mul_ multiply multiply_ mvlgamma mvlgamma_ nan_to_num nan_to_num_ ne ne_ neg neg_ negative negative_
nextafter nextafter_ not_equal not_equal_ polar polygamma polygamma_ positive pow pow_ prelu rad2deg rad2deg_ real
reciprocal reciprocal_ relu relu6 relu_ remainder remainder_ resolve_conj resolve_neg round round_ rsqrt rsqrt_ rsub
selu selu_ sgn sgn_ sigmoid sigmoid_ sign sign_ signbit silu silu_ sin sin_ sinc sinc_ sinh sinh_ softplus softshrink
special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1 special_chebyshev_polynomial_t
special_chebyshev_polynomial_u special_chebyshev_polynomial_v special_chebyshev_polynomial_w special_digamma
special_entr special_erf special_erfc special_erfcx special_erfinv special_exp2 special_expit special_expm1
special_gammainc special_gammaincc special_gammaln special_hermite_polynomial_h special_hermite_polynomial_he
special_i0 special_i0e special_i1 special_i1e special_laguerre_polynomial_l special_legendre_polynomial_p
special_log1p special_log_ndtr special_logit special_modified_bessel_i0 special_modified_bessel_i1
special_modified_bessel_k0 special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri
special_polygamma special_psi special_round special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1
special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v
special_shifted_chebyshev_polynomial_w special_sinc special_spherical_bessel_j0 special_xlog1py special_xlogy
special_zeta sqrt sqrt_ square square_ sub sub_ subtract subtract_ tan tan_ tanh tanh_ threshold threshold_
true_divide true_divide_ trunc trunc_ where xlogy xlogy_ zero zero_
""",
    "over axes: sums, extremes, orders": """
_is_all_true _is_any_true _log_softmax _safe_softmax _softmax all amax amin aminmax any argmax argmin argsort
count_nonzero cummax cummin cumprod cumprod_ cumsum cumsum_ cumulative_trapezoid histc histogram histogramdd kthvalue
log_softmax logcumsumexp logsumexp max mean median min mode msort nanmean nanmedian nanquantile nansum native_norm
norm norm_except_dim prod quantile renorm renorm_ softmax sort sorted special_log_softmax special_logsumexp
special_softmax std std_mean sum sum_to_size topk trapezoid trapz var var_mean
""",
    "products, decompositions and distances of matrices": """
_addmm_activation _cdist_forward _euclidean_dist _linalg_det _trilinear addbmm addbmm_ addmm addmm_ addmv addmv_ addr
addr_ adjoint baddbmm baddbmm_ bilinear bmm cdist chain_matmul cholesky cholesky_inverse cholesky_solve corrcoef cov
cross det dist dot einsum frobenius_norm geqrf ger inner inverse kron linalg__powsum linalg_cholesky
linalg_cholesky_ex linalg_cond linalg_cross linalg_det linalg_diagonal linalg_eig linalg_eigh linalg_eigvals
linalg_eigvalsh linalg_householder_product linalg_inv linalg_inv_ex linalg_lstsq linalg_lu linalg_lu_factor
linalg_lu_factor_ex linalg_matmul linalg_matrix_exp linalg_matrix_norm linalg_matrix_power linalg_matrix_rank
linalg_multi_dot linalg_norm linalg_pinv linalg_qr linalg_slogdet linalg_solve linalg_solve_ex linalg_solve_triangular
linalg_svd linalg_svdvals linalg_tensorinv linalg_tensorsolve linalg_vander linalg_vecdot linalg_vector_norm linear
logdet mH mT matmul matrix_exp matrix_power mm mv nuclear_norm orgqr ormqr outer pdist pinverse qr slogdet svd
tensordot trace triangular_solve vdot
""",
    "convolutions, pools, resizings and margins": """
__interpolate __upsample _adaptive_avg_pool2d _convolution _convolution_mode _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d affine_grid_generator avg_pool1d avg_pool2d avg_pool3d
channel_shuffle col2im constant_pad_nd conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
conv_transpose3d convolution fractional_max_pool2d fractional_max_pool3d grid_sampler grid_sampler_2d grid_sampler_3d
im2col max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
max_unpool2d max_unpool3d native_channel_shuffle pad pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d
reflection_pad3d replication_pad1d replication_pad2d replication_pad3d unfold upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
""",
    "normalisations, attention, recurrence": """
_native_multi_head_attention _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _pack_padded_sequence
_pad_packed_sequence _scaled_dot_product_attention_math _transformer_encoder_layer_fwd _weight_norm batch_norm
group_norm gru gru_cell instance_norm layer_norm lstm lstm_cell native_group_norm native_layer_norm pad_sequence
rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell scaled_dot_product_attention to_padded_tensor
""",
    "the same numbers in another order or shape; sizes and strides are checked against the storage": """
_chunk_cat _to_copy _unsafe_view alias alias_copy as_strided as_strided_copy atleast_1d atleast_2d atleast_3d
block_diag broadcast_tensors broadcast_to cat chunk clone column_stack concat concatenate copy copy_ cpu detach
detach_ detach_copy diag diag_embed diagflat diagonal diagonal_copy dsplit dstack expand expand_as expand_copy flatten
flip fliplr flipud hsplit hstack moveaxis movedim narrow narrow_copy numpy_T permute permute_copy ravel repeat reshape
reshape_as roll rot90 row_stack select select_copy slice slice_copy split split_copy split_with_sizes
split_with_sizes_copy squeeze squeeze_ squeeze_copy stack swapaxes swapaxes_ swapdims swapdims_ t t_ t_copy
tensor_split tile to transpose transpose_ transpose_copy tril tril_ triu triu_ type_as unbind unbind_copy unflatten
unfold_copy unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_ unsqueeze_copy view view_as
view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit vstack
""",
    "by indices, each of which is checked against its axis": """
_unique _unique2 _unsafe_index _unsafe_masked_index argwhere as_strided_scatter bincount bucketize diagonal_scatter
embedding embedding_bag fill_diagonal_ gather index index_add index_add_ index_copy index_copy_ index_fill index_fill_
index_put index_put_ index_reduce index_reduce_ index_select isin masked_scatter masked_scatter_ masked_select nonzero
nonzero_numpy nonzero_static one_hot put put_ repeat_interleave scatter scatter_ scatter_add scatter_add_
scatter_reduce scatter_reduce_ searchsorted select_scatter slice_scatter take take_along_dim tril_indices triu_indices
unique_consecutive unique_dim
""",
    "new tensors": """
_dim_arange _shape_as_tensor arange as_tensor cartesian_prod combinations empty empty_like empty_permuted
empty_strided eye full full_like lift lift_fresh lift_fresh_copy linspace logspace meshgrid new_empty
new_empty_strided new_full new_ones new_zeros ones ones_like range scalar_tensor tensor vander zeros zeros_like
""",
    "numbers drawn by chance": """
alpha_dropout alpha_dropout_ bernoulli bernoulli_ binomial cauchy cauchy_ dropout dropout_ exponential exponential_
feature_alpha_dropout feature_alpha_dropout_ feature_dropout feature_dropout_ geometric geometric_ log_normal
log_normal_ multinomial native_dropout normal normal_ normal_functional poisson rand rand_like randint randint_like
randn randn_like random random_ randperm rrelu rrelu_ uniform uniform_
""",
    "transforms of signals": """
bartlett_window blackman_window fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn
fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft
fft_rfft2 fft_rfftfreq fft_rfftn hamming_window hann_window istft kaiser_window stft
""",
    "distances between what is and what should be": """
binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cosine_similarity cross_entropy_loss
hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss
multilabel_margin_loss_forward nll_loss nll_loss2d_forward nll_loss_forward pairwise_distance poisson_nll_loss
smooth_l1_loss soft_margin_loss triplet_margin_loss
""",
    "fewer bits": """
dequantize fake_quantize_per_channel_affine fake_quantize_per_tensor_affine int_repr q_per_channel_axis
q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme quantize_per_channel quantize_per_tensor
quantize_per_tensor_dynamic
""",
    "other layouts": """
ccol_indices ccol_indices_copy coalesce col_indices col_indices_copy crow_indices crow_indices_copy dense_dim indices
indices_copy is_coalesced row_indices row_indices_copy smm to_dense to_sparse to_sparse_bsc to_sparse_bsr
to_sparse_csc to_sparse_csr values values_copy
""",
}
"""ATen's operators for inference, by what makes them harmless: each checks its sizes and indices, or has none.

Left out are gradients (``*_backward``), statistics of training, storage (``set_``, ``resize_``), and what PyTorch calls between two operators once
their arguments are known to be good: ``_reshape_alias``, ``_embedding_bag``, ``_fft_r2c``. Left out too are those that were found to read or
write outside of their tensors when sizes, indices or strides are wrong: ``as_strided_``, ``segment_reduce``, ``ctc_loss``, ``lu_unpack``,
``linalg_ldl_solve``, ``_grouped_mm``, ``native_batch_norm``, quantized cells.
"""

ATEN = frozenset(name for names in KINDS.values() for name in names.split())

EXPORTED = frozenset(
    """
_native_batch_norm_legit_no_training _scaled_dot_product_flash_attention_for_cpu _weight_norm_interface _upsample_bilinear2d_aa.vec
_upsample_bicubic2d_aa.vec _upsample_lanczos2d_aa.vec
""".split()
)
"""What PyTorch decomposes an exported program into; no TorchScript says it. A name may stand for one of its forms alone."""

SCRIPT_ATTRIBUTES = frozenset({"name", "value"})
"""Attributes of an enumeration; everything else that stands behind a dot in TorchScript's code belongs to a class of its archive."""

HIGHER_ORDER = frozenset(
    "cond while_loop scan map_impl wrap_with_set_grad_enabled wrap_with_autocast".split()
)

PRIMS = frozenset(
    """
abs acos acosh add asin asinh as_strided atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_in_dim
cat ceil clone collapse_view conj convert_element_type copy_strided cos cosh digamma div empty empty_strided eq erf erfc exp
exp2 expm1 floor fmax fmin full ge gt iota isfinite le lgamma log log10 log1p log2 lt maximum minimum mul ne neg pow prod
reciprocal remainder reshape rev round rsqrt select sign signbit sin sinh slice split_dim sqrt squeeze sub sum tan
tanh transpose trunc var view_element_type where xor_sum
""".split()
)

QUANTIZED = frozenset(
    """
quantize_per_tensor quantize_per_channel dequantize_per_tensor dequantize_per_channel
""".split()
)

PYTHON = frozenset(
    """
_operator.__lshift__ _operator.__rshift__ _operator.abs _operator.add _operator.and_ _operator.eq _operator.floordiv
_operator.ge _operator.getitem _operator.gt _operator.le _operator.lt _operator.mod _operator.mul _operator.ne
_operator.neg _operator.not_ _operator.or_ _operator.pos _operator.pow _operator.sub _operator.truediv
math.ceil math.floor math.trunc math.sqrt math.pow math.log math.exp
torch.sym_float torch.sym_int torch.sym_ite torch.sym_max torch.sym_min torch.sym_not torch.sym_sqrt torch.sym_sum
""".split()
)
"""Functions of Python's own that an exported program calls on sizes."""

SCRIPT_WORDS = frozenset(
    """
    annotate unchecked_cast uninitialized isinstance getattr hasattr range int float bool str complex len min max abs
    enumerate zip tuple list dict
    Tensor Optional List Dict Tuple Final NoneType Module CONSTANTS Any Union number Device Generator Layout Scalar
    inf nan infj nanj __annotations__ NamedTuple Enum
    """.split()
)
"""What TorchScript's code may use by a bare name: its functions, its types, its constants."""

PRIM = frozenset(
    """
NumToTensor RaiseException unchecked_unwrap_optional unchecked_cast device dtype layout data is_cuda is_cpu is_mkldnn is_meta
is_mps is_nested is_quantized is_sparse is_sparse_csr is_vulkan is_xla is_xpu is_ipu is_maia itemsize nbytes requires_grad
min max abs TupleUnpack TupleIndex TupleSlice ListUnpack tolist type shape ModuleContainerIndex grad name index rangelist
itemsize isinstance EnumName EnumValue StringIndex
""".split()
)

TENSORS = frozenset(
    """
collections.OrderedDict torch.Size torch.device torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2
torch._utils._rebuild_parameter torch._utils._rebuild_parameter_with_state torch._tensor._rebuild_from_type_v2
torch.serialization._get_layout torch.nn.parameter.Parameter torch.storage.UntypedStorage torch.storage.TypedStorage
torch.DoubleStorage torch.FloatStorage torch.HalfStorage torch.BFloat16Storage torch.LongStorage torch.IntStorage
torch.ShortStorage torch.CharStorage torch.ByteStorage torch.BoolStorage torch.ComplexFloatStorage
torch.ComplexDoubleStorage torch.float32 torch.float64 torch.float16 torch.bfloat16 torch.int8 torch.int16 torch.int32
torch.int64 torch.uint8 torch.uint16 torch.uint32 torch.uint64 torch.bool torch.complex64 torch.complex128
torch.float8_e4m3fn torch.float8_e5m2 torch.strided torch.Tensor torch._utils._rebuild_qtensor torch.per_tensor_affine
torch.per_channel_affine torch.QInt8Storage torch.QUInt8Storage torch.QInt32Storage torch.quint8 torch.qint8 torch.qint32
""".split()
)
"""The globals of a pickle that holds tensors, and nothing else."""

SCRIPT_GLOBALS = TENSORS | frozenset(
    """
torch.jit._pickle.build_intlist torch.jit._pickle.build_tensorlist torch.jit._pickle.build_doublelist
torch.jit._pickle.build_boollist torch.jit._pickle.build_tensor_from_id torch.jit._pickle.restore_type_tag
""".split()
)
"""The same in a TorchScript archive, whose classes are those of its own code besides (``__torch__``)."""

NUMBERS = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexFloat": 8, "ComplexDouble": 16, "QInt8": 1, "QUInt8": 1, "QInt32": 4,
}  # fmt: skip
"""Bytes of a number in a storage, by the first part of the storage's name."""

SCALARS = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 2,
    7: 4,
    8: 8,
    9: 4,
    10: 8,
    11: 16,
    12: 1,
    13: 2,
    28: 2,
    29: 1,
    30: 1,
    31: 1,
    32: 1,
    33: 1,
    34: 4,
    35: 8,
}
"""Bytes of a number, by the code of its dtype in an exported program (torch._export.serde.schema.ScalarType)."""
