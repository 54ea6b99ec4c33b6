"""What a Keras model or a SavedModel may name: layers and operators that compute. What is not here may act.

Left out of Keras' layers are those that hold code or name files: Lambda, TorchModuleWrapper, JaxLayer, FlaxLayer, TFSMLayer. Left out of
TensorFlow's operators are those that read and write files, call Python, talk to the network or print.
"""

from __future__ import annotations

CLASSES = frozenset(
    """
    Model Functional Sequential
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast
    Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization Bidirectional
    CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D ConvLSTM1DCell ConvLSTM2DCell Convolution1D
    Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D Cropping2D
    Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization
    Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D
    GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention GroupedQueryAttention HashedCrossing Hashing
    Identity InputLayer InputSpec IntegerLookup LSTM LSTMCell Layer LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes
    MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention
    Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration
    RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
    RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness
    RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram
    SeparableConv1D SeparableConv2D SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization
    SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract
    TextVectorization ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper
    ZeroPadding1D ZeroPadding2D ZeroPadding3D LayerScale
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones Orthogonal
    OrthogonalInitializer RandomNormal RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling Zeros
    L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm
    DTypePolicy DTypePolicyMap FloatDTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy Int4DTypePolicy Policy
    AbsMaxQuantizer Int8QuantizationConfig Int4QuantizationConfig Float8QuantizationConfig
    AutoCastPolicy Softplus Sigmoid SeedGenerator
    TFOpLambda SlicingOpLambda SyncBatchNormalization BatchNormalizationV1 LocallyConnected1D LocallyConnected2D CuDNNGRU CuDNNLSTM
    __tensor__ __numpy__ __bytes__ __slice__ __ellipsis__ __typespec__ __keras_tensor__ __tuple__
    """.split()
)
"""Layers, initializers, regularizers, constraints and policies of Keras."""

LOOKUPS = frozenset("StringLookup IntegerLookup TextVectorization Discretization".split())
"""Layers whose vocabulary may stand in a file that their configuration names."""

FUNCTIONS = frozenset(
    """
    celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax
    squareplus swish tanh tanh_shrink threshold
    """.split()
)
"""Activations, where a configuration holds them as functions."""

OPERATIONS = frozenset(
    "keras.src.ops.numpy keras.src.ops.nn keras.src.ops.math keras.src.ops.core keras.src.ops.linalg keras.src.ops.image "
    "keras.optimizers keras.optimizers.schedules keras.losses keras.metrics".split()
)
"""Modules whose classes all compute, and nothing else: operations on tensors, and what a model inside another was trained with."""

OPERATORS = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin AsString Asin Asinh Assert Atan
    Atan2 Atanh AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3 BatchToSpaceND BesselI0e BesselI1e BiasAdd BiasAddV1
    Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastArgs BroadcastTo Bucketize CTCGreedyDecoder Cast Ceil CheckNumerics
    Cholesky ClipByValue CombinedNonMaxSuppression Complex ComplexAbs Concat ConcatOffset ConcatV2 Conj Const Conv1D Conv2D
    Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh CropAndResize Cross Cumprod CumulativeLogsumexp Cumsum
    DenseBincount DenseToDenseSetOperation DepthToSpace DepthwiseConv2dNative Dequantize Diag DiagPart Digamma
    DisableCopyOnRead Div DivNoNan DynamicPartition DynamicStitch Einsum Elu Empty EnsureShape Equal Erf Erfc Erfinv Exp ExpandDims
    Expm1 ExtractImagePatches FFT FFT2D FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
    FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd
    GatherV2 Greater GreaterEqual HashTableV2 IFFT IRFFT FFT3D IFFT2D IFFT3D Identity IdentityN If Imag InTopKV2 InplaceAdd InplaceUpdate Inv Invert
    InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift Less LessEqual Lgamma LinSpace ListDiff Log
    Log1p LogMatrixDeterminant LogSoftmax LogicalAnd LogicalNot LogicalOr LookupTableExportV2 LookupTableFindV2 LookupTableImportV2
    LookupTableInsertV2 LookupTableSizeV2 LowerBound MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPart
    MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixInverse MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 Max
    MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Mean Merge Min Minimum MirrorPad Mod Mul MulNoNan Multinomial
    MutableHashTableV2 NextAfter Neg NoOp NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4
    NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch PartitionedCall Placeholder
    PlaceholderWithDefault Polygamma Pow PreventGradient Prod QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
    QuantizeAndDequantizeV4 QuantizeV2 RFFT RFFT2D RGBToHSV HSVToRGB RaggedGather RaggedRange RaggedTensorFromVariant
    RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant RandomShuffle RandomStandardNormal RandomUniform
    RandomUniformInt Range Rank ReadVariableOp Real RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear
    ResizeNearestNeighbor ResourceGather ResourceGatherNd ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt
    SampleDistortedBoundingBox SampleDistortedBoundingBoxV2 ScaleAndTranslate ScatterNd SearchSorted SegmentMax SegmentMean
    SegmentMin SegmentProd SegmentSum Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Sinh Size Slice Snapshot Softmax
    SoftmaxCrossEntropyWithLogits Softplus Softsign SpaceToBatch SpaceToBatchND SpaceToDepth SparseFillEmptyRows SparseReshape
    SparseSegmentMean SparseSegmentMeanWithNumSegments SparseSegmentSqrtN SparseSegmentSqrtNWithNumSegments SparseSegmentSum
    SparseSegmentSumWithNumSegments SparseSoftmaxCrossEntropyWithLogits SparseTensorDenseMatMul SparseToDense Split SplitV Sqrt
    Square SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessMultinomial
    StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessTruncatedNormal
    StatelessTruncatedNormalV2 StatelessWhile StaticRegexFullMatch StaticRegexReplace StopGradient StridedSlice
    StringJoin StringLower StringLength StringSplitV2 StringToHashBucketFast StringToNumber StringUpper Sub Sum Svd Switch Case
    Tan Tanh TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
    TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListSetItem TensorListStack TensorScatterAdd
    TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile TopK TopKV2 Transpose
    TruncateDiv TruncateMod TruncatedNormal UnicodeDecode UnicodeDecodeWithOffsets Unique UniqueV2 UniqueWithCounts Unpack
    UnravelIndex UnsortedSegmentMax UnsortedSegmentMean UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
    VarHandleOp VarIsInitializedOp Variable VariableV2 VariableShape AssignVariableOp Assign AssignAddVariableOp AssignSubVariableOp
    DestroyResourceOp Where While Xdivy Xlog1py Xlogy Zeta ZerosLike Enter Exit NextIteration LoopCond ControlTrigger
    TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3
    TensorArrayConcatV3 TensorArrayCloseV3 TensorArrayGradV3 StringStrip RegexReplace RegexFullMatch StringFormat
    XlaSharding BlockLSTM LSTMBlockCell RngReadAndSkip StatefulUniform StatefulStandardNormalV2 ResourceScatterAdd
    ResourceScatterUpdate ResourceStridedSliceAssign Betainc Igamma Igammac Erfc FusedPadConv2D FusedResizeAndPadConv2D
    _FusedConv2D _FusedMatMul _FusedBatchNormEx RandomGamma RandomPoisson RandomPoissonV2
    EuclideanNorm Angle XlaDynamicUpdateSlice MatrixSolve MatrixTriangularSolve Qr SelfAdjointEigV2 ExtractVolumePatches
    NthElement HistogramFixedWidth ApproxTopK Ndtri DrawBoundingBoxes DrawBoundingBoxesV2
    BroadcastGradientArgs TanhGrad SigmoidGrad SqrtGrad RsqrtGrad InvGrad ReciprocalGrad ReluGrad Relu6Grad EluGrad SeluGrad LeakyReluGrad SoftplusGrad SoftsignGrad
    AvgPool3DGrad Dilation2D FractionalMaxPool FractionalAvgPool SobolSample
    ParseExample ParseExampleV2 ParseSingleExample ParseSequenceExample ParseSequenceExampleV2 DecodeCSV
    DecodeJSONExample DecodeRaw DecodePaddedRaw DecodeBase64 EncodeBase64 DecodeJpeg DecodeAndCropJpeg DecodePng DecodeBmp
    DecodeGif DecodeImage ExtractJpegShape StringSplit StringToHashBucket StringToHashBucketStrong Substr SparseConcat SparseSlice
    SparseCross SparseCrossV2 SparseTensorDenseAdd SparseReorder SparseReduceSum ParallelConcat
    """.split()
)

TRAINERS = frozenset(
    """
    ApplyAdadelta ApplyAdagrad ApplyAdagradV2 ApplyAdam ApplyAddSign ApplyCenteredRMSProp ApplyFtrl ApplyFtrlV2
    ApplyGradientDescent ApplyMomentum ApplyPowerSign ApplyRMSProp ResourceApplyAdadelta ResourceApplyAdagrad
    ResourceApplyAdagradV2 ResourceApplyAdam ResourceApplyAdamWithAmsgrad ResourceApplyAdaMax ResourceApplyCenteredRMSProp
    ResourceApplyFtrl ResourceApplyFtrlV2 ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum
    ResourceApplyRMSProp ResourceSparseApplyAdagrad ResourceSparseApplyAdagradV2 ResourceSparseApplyFtrl
    ResourceSparseApplyKerasMomentum ResourceSparseApplyMomentum ResourceSparseApplyRMSProp AssignAdd AssignSub ScatterAdd
    ScatterSub ScatterUpdate IsVariableInitialized
    AvgPoolGrad BiasAddGrad BroadcastGradientArgs Conv2DBackpropFilter Conv3DBackpropFilterV2
    DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput EluGrad FusedBatchNormGrad FusedBatchNormGradV2
    FusedBatchNormGradV3 InvGrad LeakyReluGrad LRNGrad MaxPoolGrad MaxPoolGradGrad MaxPool3DGrad MaxPoolGradV2
    MaxPoolGradWithArgmax MirrorPadGrad ReciprocalGrad Relu6Grad ReluGrad ResizeBilinearGrad ResizeNearestNeighborGrad
    RsqrtGrad SeluGrad SigmoidGrad SoftplusGrad SoftsignGrad SqrtGrad StridedSliceGrad TanhGrad
    CudnnRNN CudnnRNNV2 CudnnRNNV3 CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3 CudnnRNNCanonicalToParams
    CudnnRNNCanonicalToParamsV2 CudnnRNNParamsSize CudnnRNNParamsToCanonical CudnnRNNParamsToCanonicalV2 BlockLSTMV2
    ScalarSummary HistogramSummary ImageSummary MergeSummary TensorSummary TensorSummaryV2
    OptionalFromValue OptionalGetValue OptionalNone OptionalHasValue CudnnRNNParamsToCanonical
    GlobalStep StackV2 StackPushV2 StackPopV2 RefSwitch RefMerge RefEnter RefExit RefNextIteration RefIdentity
    RefSelect PlaceholderV2 AccumulateNV2 UniqueWithCountsV2 Sum LookupTableRemoveV2 InitializeTableV2 HashTable
    LookupTableFind LookupTableImport LookupTableSize EmptyTensorList TensorListPushBackBatch TensorListScatter
    TensorListScatterV2 TensorListScatterIntoExistingList TensorListConcat TensorListConcatLists TensorListSplit
    """.split()
)
"""Operators that train or summarise, or are of one processor: they act on nothing but the model itself."""

UNSOUND = frozenset({"AvgPoolGrad", "MaxPoolGradV2"})
"""Operators of training that were found to write outside of their tensors where sizes contradict: they may be left in a graph, and
are not run."""

FEEDERS = frozenset(
    """
    OneShotIterator IteratorToStringHandle IteratorFromStringHandleV2 FIFOQueueV2 PaddingFIFOQueueV2 RandomShuffleQueueV2
    QueueEnqueueV2 QueueEnqueueManyV2 QueueDequeueV2 QueueDequeueManyV2 QueueDequeueUpToV2 QueueCloseV2 QueueSizeV2 QueueIsClosedV2
    IteratorGetNext IteratorV2 MakeIterator TensorDataset TensorSliceDataset BatchDatasetV2 RepeatDataset ShuffleDatasetV3
    PrefetchDataset BatchFunction
    """.split()
)
"""Operators that fed a graph while it was trained, and may be left in it. They start threads, wait for each other without end, and a
queue crashes on elements without numbers: nothing that is run may lead to one."""

SAVERS = frozenset(
    "SaveV2 RestoreV2 SaveSlices Restore RestoreSlice MergeV2Checkpoints ShardedFilename".split()
)
"""What every SavedModel needs to be saved and restored, and nothing else may reach."""
