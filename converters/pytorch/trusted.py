"""What a PyTorch file may call: operators that compute, and the globals of tensors. Whatever is not here may act.

The operators are those of ATen that PyTorch's exporters and its public functions know, and TorchScript's own on
lists, texts and numbers, without those that touch files (``from_file``, ``save``), threads, storages or global state.
"""

from __future__ import annotations

ATEN = frozenset(
    """
Bool BoolImplicit Complex Delete Float FloatImplicit Generator Int IntImplicit ScalarImplicit Size __and_
__and__ __contains_ __contains__ __derive_index __getitem_ __getitem__ __iand__ __ilshift__ __interpolate
__ior__ __irshift__ __is_ __is__ __isnot_ __isnot__ __ixor__ __lshift_ __lshift__ __not_ __not__ __or_
__or__ __range_length __rshift_ __rshift__ __upsample __xor_ __xor__ _adaptive_avg_pool2d _addmm_activation
_assert_async _assert_scalar _assert_tensor_metadata _batch_norm_no_update _batch_norm_with_update
_batch_norm_with_update_functional _cdist_forward _chunk_cat _conj _convolution _convolution_mode
_dim_arange _embedding_bag _embedding_bag_forward_only _euclidean_dist _fft_c2c _fft_c2r _fft_r2c
_floor_divide _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
_functional_sym_constrain_range_for_size _fused_dropout _fused_rms_norm _fused_rms_norm_backward _grouped_mm
_is_all_true _is_any_true _linalg_det _local_scalar_dense _log_softmax _log_softmax_backward_data
_native_batch_norm_legit _native_batch_norm_legit_functional _native_batch_norm_legit_no_training
_native_multi_head_attention _nested_tensor_from_mask _nested_tensor_from_mask_left_aligned _pack_padded_sequence _pad_packed_sequence _prelu_kernel _prelu_kernel_backward
_reshape_alias _reshape_from_tensor _safe_softmax _sample_dirichlet _scaled_dot_product_attention_math
_scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention
_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu _set_item _shape_as_tensor
_softmax _softmax_backward_data _standard_gamma _to_copy _transformer_encoder_layer_fwd _trilinear _unique
_unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_masked_index_put_accumulate
_unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm _weight_norm_interface abs abs_ absolute
absolute_ acos acos_ acosh acosh_ adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d add add_ addbmm addbmm_ addcdiv addcdiv_ addcmul
addcmul_ addmm addmm_ addmv addmv_ addr addr_ adjoint affine_grid_generator alias alias_copy all allclose
alpha_dropout alpha_dropout_ amax amin aminmax angle any append arange arccos arccos_ arccosh arccosh_
arcsin arcsin_ arcsinh arcsinh_ arctan arctan2 arctan2_ arctan_ arctanh arctanh_ argmax argmin argsort
argwhere as_strided as_strided_ as_strided_copy as_strided_scatter as_tensor asin asin_ asinh asinh_ atan
atan2 atan2_ atan_ atanh atanh_ atleast_1d atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm
baddbmm_ bartlett_window batch_norm batch_norm_backward batch_norm_backward_elemt batch_norm_backward_reduce
batch_norm_elemt batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_stats
batch_norm_update_stats bernoulli bernoulli_ bilinear binary_cross_entropy binary_cross_entropy_backward
binary_cross_entropy_with_logits bincount binomial bitwise_and bitwise_and_ bitwise_left_shift
bitwise_left_shift_ bitwise_not bitwise_not_ bitwise_or bitwise_or_ bitwise_right_shift bitwise_right_shift_
bitwise_xor bitwise_xor_ blackman_window block_diag bmm broadcast_shapes broadcast_tensors broadcast_to
bucketize can_cast cartesian_prod cat cauchy cauchy_ ccol_indices ccol_indices_copy cdist ceil ceil_ celu
celu_ chain_matmul chalf channel_shuffle cholesky cholesky_inverse cholesky_solve choose_qparams_optimized
chr chunk clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clear clip clip_ clone coalesce col2im
col_indices col_indices_copy column_stack combinations complex concat concatenate conj conj_physical
conj_physical_ constant_pad_nd contiguous conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d
conv_transpose3d convolution copy copy_ copysign copysign_ corrcoef cos cos_ cosh cosh_
cosine_embedding_loss cosine_similarity count count_nonzero cov cpu cross cross_entropy_loss crow_indices
crow_indices_copy ctc_loss cummax cummin cumprod cumprod_ cumsum cumsum_ cumulative_trapezoid data deg2rad
deg2rad_ dense_dim dequantize det detach detach_ detach_copy device diag diag_embed diagflat diagonal
diagonal_backward diagonal_copy diagonal_scatter dict diff digamma digamma_ dim dist div div_ divide divide_
dot dropout dropout_ dsplit dstack einsum element_size elu elu_ elu_backward embedding embedding_bag
embedding_dense_backward embedding_renorm embedding_renorm_ empty empty_like empty_permuted empty_quantized
empty_strided endswith eq eq_ equal erf erf_ erfc erfc_ erfinv erfinv_ exp exp2 exp2_ exp_ expand expand_as
expand_copy expm1 expm1_ exponential exponential_ extend eye fake_quantize_per_channel_affine
fake_quantize_per_tensor_affine feature_alpha_dropout feature_alpha_dropout_ feature_dropout
feature_dropout_ fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft
fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft
fft_rfft2 fft_rfftfreq fft_rfftn fill fill_ fill_diagonal_ find fix fix_ flatten flip fliplr flipud
float_power float_power_ floor floor_ floor_divide floor_divide_ floordiv fmax fmin fmod fmod_ format frac
frac_ fractional_max_pool2d fractional_max_pool3d frexp frobenius_norm full full_like
fused_moving_avg_obs_fake_quant gather gcd gcd_ ge ge_ gelu gelu_ gelu_backward geometric geometric_ geqrf
ger get get_autocast_dtype get_pool_ceil_padding getitem glu glu_backward grad gradient greater greater_
greater_equal greater_equal_ grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell gt gt_
hamming_window hann_window hardshrink hardsigmoid hardsigmoid_ hardsigmoid_backward hardswish hardswish_
hardswish_backward hardtanh hardtanh_ hardtanh_backward has_torch_function hash hash_tensor heaviside
heaviside_ hinge_embedding_loss histc histogram histogramdd hsplit hspmm hstack huber_loss
huber_loss_backward hypot hypot_ i0 i0_ igamma igamma_ igammac igammac_ im2col imag index index_add
index_add_ index_copy index_copy_ index_fill index_fill_ index_put index_put_ index_reduce index_reduce_
index_select indices indices_copy inner insert instance_norm int_repr inverse is_autocast_cpu_enabled
is_autocast_enabled is_coalesced is_complex is_conj is_contiguous is_cuda is_distributed is_floating_point
is_grad_enabled is_inference is_neg is_nonzero is_pinned is_same_size is_set_to is_signed
is_vulkan_available isclose isfinite isin isinf isnan isneginf isposinf isreal istft item items join
kaiser_window keys kl_div kron kthvalue l1_loss layer_norm lcm lcm_ ldexp ldexp_ le le_ leaky_relu
leaky_relu_ leaky_relu_backward len lerp lerp_ less less_ less_equal less_equal_ lgamma lgamma_ lift
lift_fresh lift_fresh_copy linalg__powsum linalg_cholesky linalg_cholesky_ex linalg_cond linalg_cross
linalg_det linalg_diagonal linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_householder_product
linalg_inv linalg_inv_ex linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve linalg_lstsq linalg_lu
linalg_lu_factor linalg_lu_factor_ex linalg_lu_solve linalg_matmul linalg_matrix_exp linalg_matrix_norm
linalg_matrix_power linalg_matrix_rank linalg_multi_dot linalg_norm linalg_pinv linalg_qr linalg_slogdet
linalg_solve linalg_solve_ex linalg_solve_triangular linalg_svd linalg_svdvals linalg_tensorinv
linalg_tensorsolve linalg_vander linalg_vecdot linalg_vector_norm linear linspace list log log10 log10_
log1p log1p_ log2 log2_ log_ log_normal log_normal_ log_sigmoid log_sigmoid_backward log_sigmoid_forward
log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_and_ logical_not logical_not_
logical_or logical_or_ logical_xor logical_xor_ logit logit_ logit_backward logspace logsumexp lower lstm
lstm_cell lt lt_ lu_solve lu_unpack mH mT margin_ranking_loss masked_fill masked_fill_ masked_scatter
masked_scatter_ masked_select matmul matrix_exp matrix_power max max_pool1d max_pool1d_with_indices
max_pool2d max_pool2d_with_indices max_pool2d_with_indices_backward max_pool3d max_pool3d_with_indices
max_unpool2d max_unpool3d maximum mean median meshgrid min minimum mish mish_ mish_backward mm mode moveaxis
movedim mse_loss mse_loss_backward msort mul mul_ multi_margin_loss multilabel_margin_loss
multilabel_margin_loss_forward multinomial multiply multiply_ mv mvlgamma mvlgamma_ nan_to_num nan_to_num_
nanmean nanmedian nanquantile nansum narrow narrow_copy native_batch_norm native_batch_norm_backward
native_channel_shuffle native_dropout native_dropout_backward native_group_norm native_group_norm_backward
native_layer_norm native_layer_norm_backward native_norm ne ne_ neg neg_ negative negative_ new_empty
new_empty_strided new_full new_ones new_zeros nextafter nextafter_ nll_loss nll_loss2d_backward
nll_loss2d_forward nll_loss_backward nll_loss_forward nonzero nonzero_numpy nonzero_static norm
norm_except_dim normal normal_ normal_functional not_equal not_equal_ nuclear_norm numel numpy_T one_hot
ones ones_like ord orgqr ormqr outer pad pad_sequence pairwise_distance pdist percentFormat permute
permute_copy pin_memory pinverse pixel_shuffle pixel_unshuffle poisson poisson_nll_loss polar polygamma
polygamma_ pop popitem positive pow pow_ prelu prod promote_types put put_ q_per_channel_axis
q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qr qscheme quantile quantize_per_channel
quantize_per_tensor quantize_per_tensor_dynamic quantized_batch_norm quantized_gru quantized_gru_cell
quantized_lstm quantized_lstm_cell quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d
quantized_rnn_relu_cell quantized_rnn_tanh_cell rad2deg rad2deg_ rand rand_like randint randint_like randn
randn_like random random_ randperm range ravel real reciprocal reciprocal_ reflection_pad1d
reflection_pad1d_backward reflection_pad2d reflection_pad2d_backward reflection_pad3d
reflection_pad3d_backward relu relu6 relu_ remainder remainder_ remove renorm renorm_ repeat
repeat_interleave replace replication_pad1d replication_pad2d replication_pad3d reshape reshape_as resize
resize_as resize_as_ resize_as_sparse_ resolve_conj resolve_neg result_type retains_grad reverse rms_norm
rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90 round round_ row_indices row_indices_copy row_stack
rrelu rrelu_ rrelu_with_noise_backward rsqrt rsqrt_ rsub scalar_tensor scaled_dot_product_attention scatter
scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_ searchsorted segment_reduce select
select_backward select_copy select_scatter selu selu_ set_grad_enabled setdefault sgn sgn_ sigmoid sigmoid_
sigmoid_backward sign sign_ signbit silu silu_ silu_backward sin sin_ sinc sinc_ sinh sinh_ size slice
slice_backward slice_copy slice_inverse slice_scatter slogdet smm smooth_l1_loss smooth_l1_loss_backward
soft_margin_loss soft_margin_loss_backward softmax softplus softplus_backward softshrink sort sorted
special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0 special_bessel_y1
special_chebyshev_polynomial_t special_chebyshev_polynomial_u special_chebyshev_polynomial_v
special_chebyshev_polynomial_w special_digamma special_entr special_erf special_erfc special_erfcx
special_erfinv special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln
special_hermite_polynomial_h special_hermite_polynomial_he special_i0 special_i0e special_i1 special_i1e
special_laguerre_polynomial_l special_legendre_polynomial_p special_log1p special_log_ndtr
special_log_softmax special_logit special_logsumexp special_modified_bessel_i0 special_modified_bessel_i1
special_modified_bessel_k0 special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri
special_polygamma special_psi special_round special_scaled_modified_bessel_k0
special_scaled_modified_bessel_k1 special_shifted_chebyshev_polynomial_t
special_shifted_chebyshev_polynomial_u special_shifted_chebyshev_polynomial_v
special_shifted_chebyshev_polynomial_w special_sinc special_softmax special_spherical_bessel_j0
special_xlog1py special_xlogy special_zeta split split_copy split_with_sizes split_with_sizes_copy sqrt
sqrt_ square square_ squeeze squeeze_ squeeze_copy sspaddmm stack startswith std std_mean stft
storage_offset str stride strip sub sub_ subtract subtract_ sum sum_to_size svd swapaxes swapaxes_ swapdims
swapdims_ sym_constrain_range sym_constrain_range_for_size sym_numel sym_size sym_storage_offset sym_stride
t t_ t_copy take take_along_dim tan tan_ tanh tanh_ tanh_backward tanhshrink tensor tensor_split tensordot
threshold threshold_ threshold_backward tile to to_dense to_mkldnn to_padded_tensor to_sparse to_sparse_bsc
to_sparse_bsr to_sparse_csc to_sparse_csr topk trace transpose transpose_ transpose_copy trapezoid trapz
triangular_solve tril tril_ tril_indices triplet_margin_loss triu triu_ triu_indices true_divide
true_divide_ trunc trunc_ type_as unbind unbind_copy unflatten unfold unfold_backward unfold_copy uniform
uniform_ unique_consecutive unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
unsqueeze_ unsqueeze_copy update upper upsample_bicubic2d upsample_bilinear2d upsample_linear1d
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d values values_copy vander var
var_mean vdot view view_as view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy
vsplit vstack warn where xlogy xlogy_ zero zero_ zeros zeros_like
""".split()
)

SCRIPT = ATEN

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
reciprocal remainder reshape resize rev round rsqrt select sign signbit sin sinh slice split_dim sqrt squeeze sub sum tan
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
