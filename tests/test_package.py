"""What is shipped: a wheel made through an sdist, that works where the checkout is not."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import netferry

ROOT = Path(__file__).parent.parent


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with the wheel and the ``cpu`` extra, and no framework in it."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
    [wheel] = (folder / "dist").glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    constraints = ROOT / "constraints.txt"
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[cpu]", cwd=folder)
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


def test_a_missing_framework_is_one_line_with_the_command() -> None:
    """A Keras file where TensorFlow is absent: the import is blocked, as a clean environment has it."""
    script = (
        "import sys, zipfile, h5py, json, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('tensorflow', 'keras') else find(name, *a)\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "config = {'module': 'keras', 'class_name': 'Sequential', 'config': {'name': 's', 'layers': []}}\n"
        "h5py.File('w.h5', 'w').close()\n"
        "z = zipfile.ZipFile('m.keras', 'w'); z.writestr('config.json', json.dumps(config))\n"
        "z.write('w.h5', 'model.weights.h5'); z.close()\n"
        "import netferry.converters.frameworks as f; f.find_spec = u.find_spec\n"
        "import netferry\n"
        "try: netferry.convert('m.keras', 'onnx')\n"
        "except netferry.NetferryError as error: print(error.exit_code, error)\n"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        said = run(sys.executable, "-c", script, cwd=Path(folder))
    assert said.startswith("4 ")
    assert 'pip install "netferry[tensorflow]"' in said


def test_a_checkout_with_broken_links_says_so(tmp_path: Path) -> None:
    (tmp_path / "netferry").mkdir()
    (tmp_path / "netferry" / "__init__.py").write_bytes((ROOT / "netferry" / "__init__.py").read_bytes())
    (tmp_path / "netferry" / "converters").write_text("../converters")
    script = "try:\n    import netferry\nexcept ImportError as error:\n    print(error)"
    said = run(sys.executable, "-c", f"import sys; sys.path.insert(0, '.')\n{script}", cwd=tmp_path)
    assert "should be a link" in said
    assert "core.symlinks" in said
