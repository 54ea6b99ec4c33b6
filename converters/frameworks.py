"""The frameworks, as a table. A framework's folder is imported only when it is used.

Each folder has the same modules: ``safety`` looks into its native formats without loading them, ``files`` reads and writes
them, ``live`` recognises, describes and runs a model in memory, ``part`` cuts it, ``intermediate`` shows the tensors inside it while it runs,
``to_onnx`` exports to ONNX and ``from_onnx`` imports from there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from netferry.converters.errors import MissingError, RefusedError, UsageError, nearest

if TYPE_CHECKING:
    from netferry.converters.signature import Example, InputNames, Signature


@dataclass(frozen=True)
class Framework:
    """``package`` is what Python imports; ``roots`` are the modules whose classes are its models.

    ``last_python`` is the last one that the framework runs on, where it has been left behind. ``aliases`` are what else
    people call it. ``folder`` is where its modules stand, if not under its name. ``stand_ins`` are sets of packages, each of which its models
    can be built with where it is not installed. ``integers``: whether its models hold a quantised weight as small integers; layers
    of Keras and parameters that gluon trains are floats.
    """

    name: str
    title: str
    package: str
    roots: tuple[str, ...]
    last_python: tuple[int, int] | None = None
    aliases: tuple[str, ...] = ()
    folder: str = ""
    stand_ins: tuple[tuple[str, ...], ...] = ()
    integers: bool = False

    @property
    def files(self) -> ModuleType:
        return self.module("files")

    @property
    def safety(self) -> ModuleType:
        return self.module("safety")

    @property
    def live(self) -> ModuleType:
        return self.module("live")

    @property
    def random_weights(self) -> ModuleType:
        return self.module("random_weights")

    @property
    def to_onnx(self) -> ModuleType:
        return self.module("to_onnx")

    @property
    def from_onnx(self) -> ModuleType:
        return self.module("from_onnx")

    def signature(self, model: object, given: Sequence[Example] | None = None) -> Signature:
        """What a model in memory takes and gives; ``given`` are inputs that show it."""
        found: Signature = self.module("signature").signature(model, given)
        return found

    def input_names(self, model: object) -> InputNames | None:
        """What the inputs of a model in memory are called; None where it does not say."""
        found: InputNames | None = self.module("signature").input_names(model)
        return found

    @property
    def part(self) -> ModuleType:
        return self.module("part")

    @property
    def intermediate(self) -> ModuleType:
        return self.module("intermediate")

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    @property
    def remedy(self) -> str:
        """What to do where it is not installed."""
        if self.last_python is not None and sys.version_info[:2] > self.last_python:
            return f"It runs on Python {self.last_python[0]}.{self.last_python[1]} and older"
        return f'Install it: pip install "netferry[{self.name}]"'

    def require(self) -> None:
        """Say in one line what to install, instead of failing deep inside an import."""
        if not self.installed:
            raise MissingError(f"{self.title} is not installed", remedy=self.remedy)

    def demand_as_target(self) -> None:
        """Say so before any work where its models cannot be built here. What it has no need to be installed for passes."""
        if self.name not in _WRITTEN_WITHOUT and not any(all(map(find_spec, one)) for one in self.stand_ins):
            self.require()

    def module(self, name: str) -> ModuleType:
        """One of the modules that every framework's folder has, by its name."""
        return import_module(f"netferry.converters.{self.folder or self.name}.{name}")


FRAMEWORKS: Mapping[str, Framework] = {
    framework.name: framework
    for framework in (
        Framework("pytorch", "PyTorch", "torch", ("torch",), aliases=("torch",), integers=True),
        Framework(
            "tensorflow",
            "TensorFlow/Keras",
            "tensorflow",
            ("tensorflow", "keras"),
            aliases=("keras", "tf"),
            stand_ins=(("keras", "jax"), ("keras", "torch")),
        ),
        Framework("mxnet", "MXNet", "mxnet", ("mxnet", "netferry.converters.mxnet"), (3, 12), ("mx",)),
        Framework("onnx", "ONNX", "onnx", ("onnx", "onnx_ir"), aliases=("ort",)),
    )
}
NAMES: Mapping[str, str] = {
    name: framework.name for framework in FRAMEWORKS.values() for name in (framework.name, *framework.aliases)
}
"""What a framework is called, its aliases too -> its name."""

GRAPHS = Framework(
    "tensorflow",
    "TensorFlow",
    "tensorflow",
    ("netferry.converters.tensorflow.graphdef",),
    folder="tensorflow.graphdef",
)
"""TensorFlow's own files, which are read without it; it is what they run in."""

LITE = Framework(
    "tensorflow",
    "TFLite",
    "tensorflow",
    ("netferry.converters.tensorflow.tflite",),
    folder="tensorflow.tflite",
)
"""TFLite's files, which are read without TensorFlow; its interpreter of them is what they run in."""

_WRITTEN_WITHOUT = frozenset(("mxnet", "onnx"))
"""Frameworks whose files netferry writes itself."""

_BROUGHT_BY: Mapping[str, tuple[str, str]] = {
    "torch": ("PyTorch", "pytorch"), "onnxscript": ("onnxscript", "pytorch"), "transformers": ("transformers", "transformers"),
    "tensorflow": ("TensorFlow", "tensorflow"), "keras": ("Keras", "tensorflow"), "h5py": ("h5py", "tensorflow"),
    "tf2onnx": ("tf2onnx", "tensorflow"), "mxnet": ("MXNet", "mxnet"), "onnxruntime": ("onnxruntime", "cpu"),
    "pyarrow": ("pyarrow", "data"), "PIL": ("Pillow", "data"), "ray": ("Ray", "ray"), "sklearn": ("scikit-learn", "zoo"),
}  # fmt: skip
"""What Python imports -> what people call it, and the extra of netferry's that brings it."""


def missing(error: BaseException | None) -> MissingError | None:
    """An import that found nothing, as the line that says what to install; None where no extra brings it."""
    root = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if root not in _BROUGHT_BY or _is_found(root):
        return None
    title, extra = _BROUGHT_BY[root]
    remedy = (
        FRAMEWORKS[extra].remedy if extra in FRAMEWORKS else f'Install it: pip install "netferry[{extra}]"'
    )
    return MissingError(f"{title} is not installed", remedy=remedy)


def _is_found(package: str) -> bool:
    """Whether a package is here at all: one that is and lacks a part is not mended by installing it."""
    try:
        return find_spec(package) is not None
    except ValueError:  # what stands in its place says that it is not there
        return False


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution (what pip installs), or None where it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def named(name: str) -> Framework:
    """The framework called ``name``, or by one of its aliases, in any case."""
    if name.lower() not in NAMES:
        raise UsageError(
            "no such framework",
            expected=f"one of {', '.join(FRAMEWORKS)}",
            received=name,
            remedy=nearest(name, NAMES),
        )
    return FRAMEWORKS[NAMES[name.lower()]]


def of(model: object) -> Framework:
    """The framework that a model in memory belongs to; nothing is imported to find out.

    The class nearest to the model's own decides: a Keras model that runs on PyTorch is a Keras model.
    """
    for cls in type(model).__mro__:
        for framework in (*FRAMEWORKS.values(), GRAPHS, LITE):
            inside = any(f"{cls.__module__}.".startswith(f"{root}.") for root in framework.roots)
            if inside and framework.live.accepts(model):
                return framework
    raise RefusedError(
        "this is not a model that netferry knows",
        expected="a path, a torch.nn.Module, a keras.Model, a gluon block, or an onnx.ModelProto",
        received=f"{type(model).__module__}.{type(model).__qualname__}",
    )


def bound(model: object, given: tuple[Example, ...] | None) -> tuple[Example, ...] | None:
    """What is given for the inputs of a model in memory, in their order; the file of a path says its names where it is opened.

    Raises UsageError where a name is not the model's.
    """
    if given is None or isinstance(model, str | os.PathLike):
        return given
    framework = of(model)
    if not hasattr(framework.live, "called") and any(one.call is not None for one in given):
        return given  # what is no array, which ``called`` refuses
    names = framework.input_names(model)
    return given if names is None else names.bound(given)


def called(model: object, given: Sequence[Example] | None) -> object:
    """The model as it is called with these inputs by position: PyTorch's may have them anywhere among their parameters.

    Raises UsageError where a model of another framework is to take what is no array.
    """
    if isinstance(model, str | os.PathLike):
        return model
    framework = of(model)
    if hasattr(framework.live, "called"):
        return framework.live.called(model, given)
    for call in (one.call for one in given or ()):
        if call is not None:
            strange = sorted(name for name in call.values if name not in {one.name for one in given or ()})
            raise UsageError(
                f"a model of {framework.title} takes arrays alone",
                received=", ".join(strange),
                remedy="Give each array under the name of its input",
            )
    return model
