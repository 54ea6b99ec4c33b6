"""What is installed here, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from netferry.converters.errors import MissingError
from netferry.converters.frameworks import FRAMEWORKS, installed_version
from netferry.converters.trust import sandbox
from netferry.inference import devices

GOOD, MISSING, PROBLEM = "ok", "missing", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it stands, and what mends it."""

    subject: str
    state: str
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Everything that netferry stands on, in the order in which a person would ask."""
    return [
        Finding("python", GOOD, sys.version.split()[0]),
        *(_framework(name) for name in FRAMEWORKS),
        *_onnxruntime(),
        _cuda(),
        _sandbox(),
        _processor(),
        *(_package(*extra) for extra in _EXTRAS),
    ]


def to_dict(findings: list[Finding]) -> dict[str, Any]:
    return {"findings": [asdict(finding) for finding in findings]}


_DISTRIBUTIONS = {
    "pytorch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu"),
    "mxnet": ("mxnet",),
    "onnx": ("onnx",),
}

_EXTRAS = (
    ("keras", "Keras models", 'pip install "netferry[tensorflow]"'),
    ("h5py", "Keras' .h5 files", 'pip install "netferry[tensorflow]"'),
    ("tf2onnx", "TensorFlow's rarer operators", 'pip install "netferry[tensorflow]"'),
    ("transformers", "folders of Hugging Face", 'pip install "netferry[transformers]"'),
    ("pyarrow", "data in Parquet and Arrow files", 'pip install "netferry[data]"'),
    ("pillow", "folders of images as data", 'pip install "netferry[data]"'),
    ("ray", "--engine ray", 'pip install "netferry[ray]"'),
    ("scikit-learn", "the zoo's data", 'pip install "netferry[zoo]"'),
)
"""Packages, what each is for, and the command that brings it."""


def _package(name: str, use: str, remedy: str) -> Finding:
    version = installed_version(name)
    if version:
        return Finding(name, GOOD, f"{version}: {use}")
    return Finding(name, MISSING, f"not installed: {use}", remedy)


_INSTRUCTIONS: Mapping[str, str] = {
    "avx2": "vector kernels of PyTorch and onnxruntime",
    "avx512f": "oneDNN's kernels of 512 bits",
    "avx512_vnni": "int8 as fast as it gets",
    "avx_vnni": "int8 as fast as it gets",
    "amx_int8": "int8 in tiles",
    "asimddp": "int8 as fast as it gets",
}
"""Instruction sets as Linux names them, and what they change."""


def _processor() -> Finding:
    """Which instructions the processor has, and what is slower, or rounds otherwise, without them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Finding("processor", GOOD, f"{platform.machine()}; its instruction sets are not told here")
    line = next((one for one in text.splitlines() if one.startswith(("flags", "Features"))), "")
    words = line.partition(":")[2].split()
    found = {name: use for name, use in _INSTRUCTIONS.items() if name in words}
    told = ", ".join(f"{name} ({use})" for name, use in found.items())
    slow = "" if any("int8" in use for use in found.values()) else "; int8 may be slower than float32 here"
    onednn = (
        "; oneDNN is switched off (TF_ENABLE_ONEDNN_OPTS=0)"
        if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0"
        else ""
    )
    return Finding(
        "processor",
        GOOD,
        f"{platform.machine()}: {told or 'no vector instructions known here'}{slow}{onednn}",
    )


def _framework(name: str) -> Finding:
    framework = FRAMEWORKS[name]
    found = {dist: version for dist in _DISTRIBUTIONS[name] if (version := installed_version(dist))}
    if not found:
        without = "MXNet files are read without it" if name == "mxnet" else "not installed"
        return Finding(framework.title, MISSING, without, framework.remedy)
    if conflicts := [one for dist, version in found.items() for one in _conflicts(dist, version)]:
        return Finding(framework.title, PROBLEM, "; ".join(conflicts), framework.remedy)
    return Finding(framework.title, GOOD, ", ".join(f"{dist} {version}" for dist, version in found.items()))


def _conflicts(distribution: str, version: str) -> Iterator[str]:
    """What a distribution requires in another version than the one that is installed."""
    for requirement in map(Requirement, metadata.requires(distribution) or ()):
        here = installed_version(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and here and not requirement.specifier.contains(here, prereleases=True):
            yield f"{distribution} {version} wants {requirement.name} {requirement.specifier}, {here} is installed"


def _onnxruntime() -> list[Finding]:
    wheels = devices.installed_onnxruntimes()
    if len(wheels) > 1:
        return [
            Finding(
                "onnxruntime",
                PROBLEM,
                "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
                "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them: "
                'pip install "netferry[gpu]" or "netferry[cpu]"',
            )
        ]
    try:
        runtime = devices.require_onnxruntime()
    except MissingError as error:
        return [Finding("onnxruntime", MISSING, error.problem, error.remedy or "")]
    wheel = next(iter(wheels), "onnxruntime")
    providers = ", ".join(
        name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers()
    )
    return [Finding("onnxruntime", GOOD, f"{wheel} {runtime.__version__}, built for: {providers}")]


def _cuda() -> Finding:
    try:
        devices.choose(devices.CUDA)
    except MissingError as error:
        return Finding("CUDA", MISSING, f"not active: {error.received or error.problem}", error.remedy or "")
    return Finding("CUDA", GOOD, "a GPU, its driver and its libraries are here")


def _sandbox() -> Finding:
    """What a child that opens foreign files can give up on this machine."""
    found = sandbox.available()
    if found.files and found.calls:
        how = "Landlock closes files, seccomp network and programs, to what opens a foreign file"
        return Finding("sandbox", GOOD, how)
    remedy = (
        f"Unset {sandbox.OFF}"
        if "=off" in found.why
        else "Use a container or a virtual machine for files that you fear"
    )
    return Finding("sandbox", MISSING, str(found), remedy)
