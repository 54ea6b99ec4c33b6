"""Where onnxruntime can run: what CUDA needs, what of it is missing here, and which device a request gets."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from netferry.converters.errors import MissingError, UsageError
from netferry.converters.frameworks import installed_version

CPU, CUDA, AUTO = "cpu", "cuda", "auto"

PROVIDERS: Mapping[str, str] = {CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}

DRIVER = "libcuda.so.1"

_CUDA_LIBRARIES: Mapping[str, str] = {
    DRIVER: "the NVIDIA driver",
    "libcudart.so.{major}": "nvidia-cuda-runtime",
    "libcublas.so.{major}": "nvidia-cublas",
    "libcublasLt.so.{major}": "nvidia-cublas",
    "libcurand.so.10": "nvidia-curand",
    "libcudnn.so.9": "nvidia-cudnn-cu{major}",
}
"""What onnxruntime-gpu loads for CUDA, and what brings it; ``major`` is the CUDA that this onnxruntime was built for."""

_USUAL_CUDA = "13"


def require_onnxruntime() -> Any:
    """onnxruntime, or the one line that says how to get it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError(
            "onnxruntime is not installed",
            remedy='Install it: pip install "netferry[cpu]", or "netferry[gpu]" for CUDA',
        ) from error
    return onnxruntime


def installed_onnxruntimes() -> dict[str, str]:
    """The onnxruntime wheels that are installed: two at once overwrite each other's files."""
    return {
        name: version
        for name in ("onnxruntime", "onnxruntime-gpu")
        if (version := installed_version(name)) is not None
    }


def has_cuda() -> bool:
    """Whether this onnxruntime was built for CUDA."""
    return PROVIDERS[CUDA] in require_onnxruntime().get_available_providers()


def missing_for_cuda() -> dict[str, str]:
    """What CUDA wants and is not here, each with what brings it: libraries that do not load, or a GPU."""
    ort = require_onnxruntime()
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it prints what it does not find; we say it ourselves
            ort.preload_dlls()
    major = _cuda_major()
    missing = {}
    for library, origin in _CUDA_LIBRARIES.items():
        try:
            ctypes.CDLL(library.format(major=major))
        except OSError:
            missing[library.format(major=major)] = origin.format(major=major)
    if DRIVER not in missing and (why := _why_no_gpu()) is not None:
        missing["a GPU"] = why
    return missing


def _cuda_major() -> str:
    try:
        from onnxruntime.capi.build_and_package_info import cuda_version
    except ImportError:  # a build for the CPU
        return _USUAL_CUDA
    return str(cuda_version).partition(".")[0] or _USUAL_CUDA


def _why_no_gpu() -> str | None:
    """Why the driver has no GPU for this process; None where it has one."""
    driver, count = ctypes.CDLL(DRIVER), ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return f"the driver answers with CUDA error {code}"
    return None if count.value else "the driver finds none; CUDA_VISIBLE_DEVICES may hide it"


def choose(device: str) -> str:
    """The device for a request of cpu, cuda or auto.

    Raises:
        UsageError: there is no such device.
        MissingError: CUDA is asked for and is not available.
    """
    if device not in (*PROVIDERS, AUTO):
        raise UsageError("no such device", expected="cpu, cuda or auto", received=device)
    if device == CPU:
        return CPU
    ready = has_cuda() and not missing_for_cuda()
    if device == CUDA and not ready:
        raise no_cuda()
    return CUDA if ready else CPU


def no_cuda() -> MissingError:
    """The error that says why CUDA is not available here, and what mends it."""
    if not has_cuda():
        return MissingError(
            "this onnxruntime has no CUDA",
            received=", ".join(installed_onnxruntimes()) or "a build of its own",
            remedy='Exchange it: pip uninstall -y onnxruntime && pip install "netferry[gpu]"',
        )
    missing = missing_for_cuda()
    return MissingError(
        "CUDA is not available here",
        expected="a GPU with its driver and libraries",
        received="missing: " + ", ".join(f"{what} ({why})" for what, why in missing.items())
        if missing
        else "onnxruntime could not start its CUDA provider",
        remedy="Install the NVIDIA driver for your GPU, or choose --device cpu"
        if DRIVER in missing
        else "Show this process a GPU, or choose --device cpu"
        if "a GPU" in missing
        else 'Install the libraries: pip install "onnxruntime-gpu[cuda,cudnn]"',
    )
