"""What is shipped: a wheel made through an sdist, that works where the checkout is not."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from environments import ROOT, built, environment, run
from models import dense, saved

import netferry
from netferry.converters.frameworks import missing


@pytest.fixture(scope="module")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with the wheel and the ``cpu`` extra, and no framework in it."""
    folder = tmp_path_factory.mktemp("wheel")
    with environment(folder / "env", f"{built(folder)[0]}[cpu]"):
        yield folder


def test_the_wheel_carries_mxnet_to_onnx_without_mxnet(clean_environment: Path) -> None:
    """The whole road of an MXNet model in an environment that holds no framework at all."""
    programs = clean_environment / "env" / "bin"
    assert "convert" in run(programs / "netferry", "--help", cwd=clean_environment)
    write_mxnet_model(clean_environment)
    run(
        programs / "netferry", "convert", "net-symbol.json", "net.onnx", "--input", "data:2,3", "--no-verify",
        cwd=clean_environment,
    )  # fmt: skip
    script = (
        "import netferry, numpy as np, importlib.util as u\n"
        "assert not any(u.find_spec(name) for name in ('torch', 'tensorflow', 'mxnet'))\n"
        "print(netferry.run('net.onnx', [np.float32([[1, 2, 3]])])['fc_output'].tolist())"
    )
    assert run(programs / "python", "-c", script, cwd=clean_environment).strip() == "[[14.5, 31.0]]"


def write_mxnet_model(folder: Path) -> None:
    """y = W x + b, with W = [[1, 2, 3], [4, 5, 6]] and b = [0.5, -1], as MXNet's own files."""
    from netferry.converters.mxnet.files import write_params

    weight = np.float32([[1, 2, 3], [4, 5, 6]])
    write_params(folder / "net-0000.params", {"arg:fc_weight": weight, "arg:fc_bias": np.float32([0.5, -1])})
    (folder / "net-symbol.json").write_text(
        """{"nodes": [
            {"op": "null", "name": "data", "inputs": []},
            {"op": "null", "name": "fc_weight", "inputs": []},
            {"op": "null", "name": "fc_bias", "inputs": []},
            {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "2"},
             "inputs": [[0, 0, 0], [1, 0, 0], [2, 0, 0]]}],
        "arg_nodes": [0, 1, 2], "heads": [[3, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}"""
    )


def test_the_public_face_is_what_it_says() -> None:
    assert set(netferry.__all__) == {
        "Conversion", "NetferryError", "Reading", "Report", "__version__", "bench", "bisect", "check", "convert", "diff",
        "exporter", "inspect", "operator", "optimizer_state", "package", "precision", "run", "stream", "verify",
    }  # fmt: skip
    for name in netferry.__all__:
        assert getattr(netferry, name) is not None


def test_importing_netferry_imports_nothing_heavy() -> None:
    script = "import netferry, netferry.cli, sys; print(*sorted(sys.modules))"
    loaded = set(run(sys.executable, "-c", script, cwd=ROOT).split())
    assert not loaded & {"numpy", "onnx", "onnxruntime", "torch", "tensorflow", "keras", "mxnet", "rich"}


WITHOUT = """
import sys

class Without:
    def __init__(self, finder, names):
        self.finder, self.names = finder, names
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder, {names!r}) for finder in sys.meta_path]
"""
"""A process that finds none of some packages, as where they were never installed."""

NO_FRAMEWORK = ("torch", "tensorflow", "keras", "mxnet", "h5py", "jax", "transformers")


def said_without(script: str, folder: Path, names: tuple[str, ...] = NO_FRAMEWORK) -> list[str]:
    return run(
        sys.executable, "-c", WITHOUT.format(names=names) + script, cwd=folder, more={"PYTHONPATH": str(ROOT)}
    ).splitlines()


def tried(*conversions: tuple[object, ...]) -> str:
    """What each conversion ends with: exit code and message, or the verdict's exit code and what was missing."""
    return (
        "import netferry\n"
        f"for model, options in {conversions!r}:\n"
        "    try:\n"
        "        done = netferry.convert(model, **options)\n"
        "        print(done.report.exit_code, done.report.missing, len(done.files))\n"
        "    except netferry.NetferryError as error: print(error.exit_code, error)\n"
    )


TARGETS = (
    {"destination": "out.pt2"}, {"destination": "out", "to": "pytorch"}, {"destination": "out.keras"},
    {"destination": "out.tflite"}, {"destination": "out.py", "to": "tensorflow"}, {"to": "keras"},
)  # fmt: skip


def test_a_missing_target_is_one_line_with_the_command_and_nothing_is_written(tmp_path: Path) -> None:
    saved(tmp_path, dense(), "a.onnx")
    lines = said_without(tried(*(("a.onnx", target) for target in TARGETS)), tmp_path)
    for said, extra in zip(lines, ["pytorch"] * 2 + ["tensorflow"] * 4, strict=True):
        assert said.startswith("4 ")
        assert said.endswith(f'pip install "netferry[{extra}]"')
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]


def test_a_missing_source_is_one_line_with_the_command(tmp_path: Path) -> None:
    """A Keras file, a PyTorch program, and code that imports what is not there, at once or when it is called."""
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": []}}
    h5py.File(tmp_path / "w.h5", "w").close()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(tmp_path / "w.h5", "model.weights.h5")
    (tmp_path / "early.py").write_text("import torch\ndef make(): return torch.nn.Linear(2, 2)\n")
    (tmp_path / "late.py").write_text("def make():\n    import keras\n    return keras.Sequential()\n")
    (tmp_path / "own.py").write_text("import a_module_of_my_own\n")
    models = ("m.keras", "early.py:make", "late.py:make", "own.py:make")
    keras, early, late, own = said_without(tried(*((model, {"to": "onnx"}) for model in models)), tmp_path)
    for said, extra in ((keras, "tensorflow"), (early, "pytorch"), (late, "tensorflow")):
        assert said.startswith("4 ")
        assert f'pip install "netferry[{extra}]"' in said
    assert own.startswith("5 own.py:make: cannot be imported")


def test_what_cannot_run_here_is_written_and_has_its_own_exit_code(tmp_path: Path) -> None:
    saved(tmp_path, dense(), "a.onnx")
    [said] = said_without(tried(("a.onnx", {"destination": "out-symbol.json"})), tmp_path)
    assert said == '7 MXNet is not installed. Install it: pip install "netferry[mxnet]" 2'


def test_a_part_that_is_missing_of_what_is_installed_is_no_reason_to_install_it() -> None:
    assert missing(ModuleNotFoundError("no", name="torch.nowhere")) is None
    assert missing(ModuleNotFoundError("no", name="a_module_of_my_own")) is None
    assert missing(ValueError("torch")) is None


def test_a_checkout_with_broken_links_says_so(tmp_path: Path) -> None:
    (tmp_path / "netferry").mkdir()
    (tmp_path / "netferry" / "__init__.py").write_bytes((ROOT / "netferry" / "__init__.py").read_bytes())
    (tmp_path / "netferry" / "converters").write_text("../converters")
    script = "try:\n    import netferry\nexcept ImportError as error:\n    print(error)"
    said = run(sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\n{script}", cwd=tmp_path)
    assert "should be a link" in said
    assert "core.symlinks" in said
