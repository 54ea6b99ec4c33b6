"""The dtypes that PyTorch has, and what stands in for those in which it cannot compute; torch is not imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

BOOL, INT8, INT32, INT64 = (np.dtype(kind) for kind in (np.bool_, np.int8, np.int32, np.int64))
FLOAT32, FLOAT64, UINT64 = (np.dtype(kind) for kind in (np.float32, np.float64, np.uint64))

TORCH_DTYPES: Mapping[np.dtype[Any], str] = {
    np.dtype(kind): f"torch.{np.dtype(kind).name}"
    for kind in (
        *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.complex64, np.complex128),
        *(
            ml_dtypes.float8_e4m3fn,
            ml_dtypes.float8_e5m2,
            ml_dtypes.float8_e4m3fnuz,
            ml_dtypes.float8_e5m2fnuz,
        ),
        *(ml_dtypes.float8_e8m0fnu,),
    )
}
NARROW: Mapping[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(narrow): np.dtype(held)
    for narrow, held in (
        (ml_dtypes.int4, np.int8),
        (ml_dtypes.uint4, np.uint8),
        (ml_dtypes.int2, np.int8),
        (ml_dtypes.uint2, np.uint8),
    )
}
"""Types that PyTorch has not, and the type that holds their numbers: such values can be read, not made."""
WIDER: Mapping[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.uint16): INT32,
    np.dtype(np.uint32): INT64,
    UINT64: INT64,
}
"""The type in which PyTorch computes for one in which it cannot."""
BITS: Mapping[int, np.dtype[Any]] = {1: INT8, 2: np.dtype(np.int16), 4: INT32, 8: INT64}
MOVED_AS_BITS = frozenset(name for name in TORCH_DTYPES if name in WIDER or name.name.startswith("float8"))
"""Types that PyTorch does not gather or scatter, but stores."""

FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")

SIGN_BIT = -(2**63)
