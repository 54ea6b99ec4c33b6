"""What is installed here, what is missing, and the command that mends it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
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
        *(_package(name, remedy) for name, remedy in _EXTRAS),
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
    ("keras", 'pip install "netferry[tensorflow]"'),
    ("tf2onnx", 'pip install "netferry[tensorflow]"'),
    ("scikit-learn", 'pip install "netferry[zoo]"'),
)


def _package(name: str, remedy: str) -> Finding:
    version = installed_version(name)
    return Finding(name, GOOD, version) if version else Finding(name, MISSING, "not installed", remedy)


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
        return Finding("sandbox", GOOD, "files, network and programs are closed to what opens a foreign file")
    remedy = (
        f"Unset {sandbox.OFF}"
        if "=off" in found.why
        else "Use a container or a virtual machine for files that you fear"
    )
    return Finding("sandbox", MISSING, str(found), remedy)
