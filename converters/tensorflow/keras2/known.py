"""Names of Keras 2 that Keras 3 does not have, or has for something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, str] = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "SyncBatchNormalization": "BatchNormalization",
    "BatchNormalizationV1": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
}
"""Layers that another layer of Keras 3 stands for."""

FUNCTIONS = frozenset({"TFOpLambda", "SlicingOpLambda"})
"""Layers that are one call of a function of TensorFlow's."""

MODELS = frozenset({"Functional", "Model", "Sequential"})

ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "ThresholdedReLU": {"theta": "threshold"},
}
"""Settings that are called otherwise in Keras 3, by the layer's class."""

ALWAYS = frozenset(
    """
    batch_input_shape batch_size build_config fused implementation input_dtype input_length input_shape key_shape query_shape ragged
    rng_type shared_object_id sparse value_shape output_mode_dtype
    """.split()
)
"""Settings that say how a model was built, or how it was computed, and nothing of what it computes."""

TRAINING_ONLY = ("_initializer", "_regularizer", "_constraint")
"""Ends of the names of settings that matter while weights are made and trained."""

AT_DEFAULT: Mapping[str, tuple[Any, ...]] = {
    "adjustment": (None,),
    "groups": (1,),
    "keepdims": (False, None),
    "kernel_size_initial": (None,),
    "num_bins": (None,),
    "output_padding": (None,),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "softmax_robust_masking": (False,),
    "trainable": (True, False),
    "time_major": (False,),
    "virtual_batch_size": (None,),
    "zero_output_for_mask": (False,),
}
"""Settings that Keras 3 does not have, and the values at which they change nothing."""
