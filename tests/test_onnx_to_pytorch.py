"""ONNX to PyTorch: what arrives computes, trains, is saved and read as the source did and was."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

import netferry
from netferry.converters import artifact
from netferry.converters.errors import NetferryError, RefusedError, UnsupportedError, UsageError
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.imported import ImportedModel
from netferry.converters.onnx.signature import signature as onnx_signature
from netferry.converters.pytorch import files, live
from netferry.converters.pytorch.from_onnx import from_onnx, write
from netferry.converters.pytorch.from_onnx.state import FORBIDDEN
from netferry.converters.pytorch.to_onnx import to_onnx
from netferry.converters.signature import Array, Example

ort = pytest.importorskip("onnxruntime")


def arrive(model: onnx.ModelProto, name: str = "Model") -> ImportedModel:
    return from_onnx(plan(model), onnx_signature(model), name=name)


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight and every statistic of its own: neutral values hide mistakes."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if "running_var" in name:
                tensor.uniform_(0.3, 2.0)
            elif tensor.is_floating_point():
                tensor.normal_(0, 1 / max(tensor[0].numel() if tensor.dim() > 1 else 4, 1) ** 0.5)
    return module.eval()


def exported(module: nn.Module, *examples: Example) -> onnx.ModelProto:
    return ir.to_proto(to_onnx(module, list(examples)).model)


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def example(array: Array, **free: int) -> Example:
    """``example(x, batch=0)``: the first axis is free."""
    return Example("x", array, {axis: name for name, axis in free.items()}, asked=True)


def by_onnxruntime(model: onnx.ModelProto, *arrays: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)})


def agree(got: Sequence[Array], want: Sequence[Array], tolerance: float = 1e-5) -> None:
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, b.dtype, a.shape, b.shape)
        scale = max(float(np.abs(b.astype(np.float64)).max(initial=0)), 1e-6)
        assert float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)) <= tolerance * scale


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str]],
    outputs: Sequence[str],
    weights: dict[str, Array] | None = None,
    opset: int = 21,
    kinds: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes; inputs are float32 unless ``kinds`` says otherwise."""
    values = [
        helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), dims)
        for name, dims in inputs.items()
    ]
    results = [
        helper.make_tensor_value_info(name, (kinds or {}).get(name, TensorProto.FLOAT), None)
        for name in outputs
    ]
    held = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    made = helper.make_graph(list(nodes), "small", values, results, held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def same_as_onnxruntime(
    model: onnx.ModelProto, *samples: Sequence[Array], tolerance: float = 1e-5
) -> ImportedModel:
    imported = arrive(model)
    for arrays in samples:
        agree(list(live.run(imported.model, arrays).values()), by_onnxruntime(model, *arrays), tolerance)
    return imported


# ---- there and back ---------------------------------------------------------------------------------


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8, eps=1e-3, momentum=0.03),
            nn.ReLU(),
        )
        self.depth = nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8)
        self.slope = nn.PReLU(8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.slope(self.depth(self.stem(x)))
        x = self.norm(self.up(F.max_pool2d(x, 2)))
        return self.head(self.drop(x.mean((2, 3))))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 12)
        self.lstm = nn.LSTM(12, 7, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(14, 6)
        self.out = nn.Linear(6, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, (h, _) = self.lstm(self.words(x))
        z, _ = self.gru(y.transpose(0, 1))
        return self.out(z) + h.sum()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 9, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", norm_first=True)
        self.layers = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(16, eps=1e-6), enable_nested_tensor=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x + self.position[:, : x.shape[1]])


TOKENS = np.random.default_rng(1).integers(0, 50, (3, 6))
NETS: dict[str, tuple[Callable[[], nn.Module], Example, list[Array]]] = {
    "cnn": (
        Cnn,
        example(floats(2, 3, 16, 20), batch=0, height=2, width=3),
        [floats(2, 3, 16, 20), floats(5, 3, 24, 32)],
    ),
    "tagger": (Tagger, example(TOKENS, batch=0, time=1), [TOKENS, TOKENS[:1, :2], np.tile(TOKENS, (2, 2))]),
    "encoder": (
        Encoder,
        example(floats(2, 6, 16), batch=0, time=1),
        [floats(2, 6, 16), floats(4, 9, 16), floats(1, 3, 16)],
    ),
}


@pytest.fixture(scope="module", params=NETS)
def crossing(request: pytest.FixtureRequest) -> tuple[nn.Module, ImportedModel, list[Array], onnx.ModelProto]:
    """A module, and what became of it over ONNX."""
    make, first, arrays = NETS[request.param]
    source = randomized(make())
    model = exported(source, first)
    return source, arrive(model), arrays, model


def test_what_comes_back_gives_the_same_at_every_size(crossing: Any) -> None:
    source, imported, arrays, _ = crossing
    for array in arrays:
        agree(list(live.run(imported.model, [array]).values()), list(live.run(source, [array]).values()))


def test_the_state_dict_comes_back_key_by_key_and_bit_by_bit(crossing: Any) -> None:
    source, imported, _, _ = crossing
    before, after = source.state_dict(), imported.model.state_dict()
    assert set(before) == set(after)
    for key, tensor in before.items():
        assert torch.equal(tensor, after[key]), key
    assert imported.model.load_state_dict(before)


def test_every_weight_is_trainable_and_its_own_copy(crossing: Any) -> None:
    source, imported, _, model = crossing
    parameters = dict(imported.model.named_parameters())
    assert set(parameters) == set(dict(source.named_parameters()))
    assert all(p.requires_grad for p in parameters.values())
    before = {t.name: t.raw_data for t in model.graph.initializer}
    other = from_onnx(plan(model), imported.signature).model
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    assert before == {t.name: t.raw_data for t in model.graph.initializer}
    assert all(torch.equal(p, source.state_dict()[name]) for name, p in imported.model.named_parameters())


def test_five_steps_of_training_go_the_same_way_in_float64(crossing: Any) -> None:
    source, imported, arrays, _ = crossing
    ours, theirs = (copy.deepcopy(m).double().train() for m in (imported.model, source))
    for module in (*ours.modules(), *theirs.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    inputs = [torch.from_numpy(a).double() if a.dtype.kind == "f" else torch.from_numpy(a) for a in arrays]
    optimizers = [torch.optim.SGD(m.parameters(), 0.05, momentum=0.9) for m in (ours, theirs)]
    for step in range(5):
        losses = []
        for module, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            loss = module(inputs[step % 2]).square().mean()
            loss.backward()
            losses.append(loss.item())
        want = dict(theirs.named_parameters())
        for name, p in ours.named_parameters():
            assert p.grad is not None and want[name].grad is not None
            assert torch.allclose(p.grad, want[name].grad, rtol=1e-8, atol=1e-10), (step, name)
        assert losses[0] == pytest.approx(losses[1], rel=1e-9)
        for optimizer in optimizers:
            optimizer.step()
    for name, buffer in ours.named_buffers():
        assert torch.allclose(buffer, dict(theirs.named_buffers())[name]), name


def test_dropout_sleeps_and_wakes() -> None:
    nodes = [
        helper.make_node("Dropout", ["x", "ratio"], ["d"], name="drop"),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    model = arrive(graph(nodes, {"x": ["b", 9]}, ["y"], {"ratio": np.array(0.25, np.float32)})).model
    assert model.drop.p == 0.25 and not model.training
    x = torch.from_numpy(floats(4, 9))
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_it_can_be_copied_pickled_and_read(crossing: Any) -> None:
    _, imported, arrays, _ = crossing
    x = torch.from_numpy(arrays[0])
    for other in (copy.deepcopy(imported.model), pickle.loads(pickle.dumps(imported.model))):
        assert torch.equal(other(x), imported.model(x))
    assert inspect.getsource(type(imported.model)) in imported.source


def test_it_crosses_to_onnx_again_under_the_same_names(crossing: Any) -> None:
    _, imported, arrays, model = crossing
    again = to_onnx(imported.model)
    assert again.route == "direct", again.notes
    proto = ir.to_proto(again.model)
    assert [v.name for v in proto.graph.input] == [v.name for v in model.graph.input]
    assert [v.name for v in proto.graph.output] == [v.name for v in model.graph.output]
    for array in arrays:
        agree(by_onnxruntime(proto, array), by_onnxruntime(model, array))


def test_torch_export_keeps_the_free_sizes(crossing: Any, tmp_path: Path) -> None:
    _, imported, arrays, _ = crossing
    if any(isinstance(m, nn.RNNBase) for m in imported.model.modules()):
        with pytest.raises(RefusedError, match="folder"):  # torch.export unrolls a recurrent layer
            files.write(imported, tmp_path / "model.pt2")
        return
    files.write(imported, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2").module()
    for array in arrays:
        agree(
            [program(torch.from_numpy(array)).detach().numpy()],
            list(live.run(imported.model, [array]).values()),
        )
    content = (tmp_path / "model.pt2").read_bytes()
    assert (
        str(Path.home()).encode() not in content and str(Path(torch.__file__).parent).encode() not in content
    )


def test_torch_compile_sees_one_graph(crossing: Any) -> None:
    _, imported, arrays, _ = crossing
    torch._dynamo.reset()
    compiled = torch.compile(
        imported.model,
        backend="eager",
        fullgraph=not any(isinstance(m, nn.RNNBase) for m in imported.model.modules()),
    )
    with torch.no_grad():
        for array in arrays[:2]:
            x = torch.from_numpy(array)
            assert torch.allclose(compiled(x), imported.model(x), atol=1e-6)


def test_netferry_verifies_it_against_the_onnx_file(crossing: Any, tmp_path: Path) -> None:
    from netferry import verify

    _, imported, arrays, model = crossing
    onnx.save(model, tmp_path / "model.onnx")
    sizes = imported.signature.inputs[0].dims or ()
    free = {axis: size for axis, size in enumerate(sizes) if isinstance(size, str)}
    report = verify(tmp_path / "model.onnx", imported.model, inputs={"x": arrays[0]}, dynamic={"x": free})
    assert report.status == "passed", report.to_text()


# ---- files ------------------------------------------------------------------------------------------

_ALONE = """
import sys, importlib.util
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "netferry":
            raise ImportError("netferry is not installed here")
sys.meta_path.insert(0, Blocked())
spec = importlib.util.spec_from_file_location("model", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import numpy, torch
torch.set_num_threads(1)
x = torch.from_numpy(numpy.load(sys.argv[2]))
numpy.save(sys.argv[3], module.load()(x).detach().numpy())
"""


@pytest.mark.parametrize("written", ["folder", "net.py"])
def test_what_is_written_runs_where_netferry_is_not_installed(written: str, tmp_path: Path) -> None:
    make, first, arrays = NETS["cnn"]
    imported = arrive(exported(randomized(make()), first))
    files.write(imported, tmp_path / written)
    module = tmp_path / written / "model.py" if written == "folder" else tmp_path / written
    np.save(tmp_path / "x.npy", arrays[1])
    paths = [str(module), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    subprocess.run(
        [sys.executable, "-c", _ALONE, *paths], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}
    )
    agree([np.load(tmp_path / "y.npy")], list(live.run(imported.model, [arrays[1]]).values()))


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    make, first, _ = NETS["cnn"]
    model = exported(randomized(make()), first)
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        imported = arrive(model)
        files.write(imported, tmp_path / place / "net.pt2")
        files.write(imported, tmp_path / place / "net")
    for name in ("net.pt2", "net/model.py", "net/model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_other_suffixes_are_refused_with_what_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not written as \.pth.*model\.py and model\.safetensors"):
        artifact.demand_ending(tmp_path / "net.pth", "pytorch")


def test_writing_the_source_needs_no_torch() -> None:
    code = (
        "import sys, onnx_ir, numpy as np, onnx\n"
        "from onnx import helper, numpy_helper, TensorProto as T\n"
        "sys.modules['torch'] = None\n"
        "from netferry.converters.graph.passes.normalize import plan\n"
        "from netferry.converters.pytorch.from_onnx import from_onnx\n"
        "from netferry.converters.signature import Signature, TensorSpec\n"
        "v = lambda n: helper.make_tensor_value_info(n, T.FLOAT, ['b', 3])\n"
        "w = numpy_helper.from_array(np.ones((3, 3), np.float32), 'w')\n"
        "g = helper.make_graph([helper.make_node('MatMul', ['x', 'w'], ['y'])], 'g', [v('x')], [v('y')], [w])\n"
        "s = TensorSpec('x', np.dtype('float32'), ('b', 3))\n"
        "m = helper.make_model(g, opset_imports=[helper.make_opsetid('', 21)], ir_version=10)\n"
        "print(from_onnx(plan(m), Signature((s,), (s,))).source)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "nn.Linear(3, 3, bias=False)" in run.stdout


# ---- what it reads like -------------------------------------------------------------------------------


HOSTILE = [
    "__import__('os').system('false')",
    '"""\nraise SystemExit',
    "class",
    "self",
    "torch",
    "x.shape[0]",
    "größe",
    "名前",
    "0",
    "..",
    "forward",
    "resize",
    "y",
    "load",
    "a-b/c:0",
]


def test_names_from_a_file_never_become_code() -> None:
    nodes, weights, last = [], {}, "input'\"\\\n"
    for i, name in enumerate(HOSTILE):
        weights[name] = floats(4, seed=i)
        nodes.append(helper.make_node("Add", [last, name], [f"{name}!"], name=name))
        last = f"{name}!"
    model = graph(nodes, {"input'\"\\\n": ["batch", 4]}, [last], weights)
    imported = arrive(model, name="import os; 1")
    x = floats(3, 4)
    agree([live.to_numpy(imported.model(torch.from_numpy(x)))], by_onnxruntime(model, x))
    assert list(live.run(imported.model, [x])) == [last]
    assert set(imported.names) == set(HOSTILE)
    assert set(imported.names.values()) == set(imported.model.state_dict())
    assert len(list(imported.model.parameters())) == len(HOSTILE)


def test_names_that_modules_use_themselves_are_gone_round() -> None:
    """Asked of a process with torch alone: libraries that other tests import add methods to ``nn.Module``."""
    code = "from torch import nn; print(*dir(nn.ModuleDict()), *vars(nn.ModuleDict()))"
    used = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in used if not name.startswith("__")} <= FORBIDDEN


def test_every_operator_that_cannot_be_carried_is_told_at_once() -> None:
    nodes = [
        helper.make_node("StringNormalizer", ["x"], [out], name=name)
        for out, name in (("a", "first"), ("b", "second"))
    ]
    model = graph(nodes, {"x": ["n"]}, ["a", "b"], kinds=dict.fromkeys("xab", TensorProto.STRING))
    with pytest.raises(UnsupportedError) as error:
        arrive(model)
    assert {"first", "second"} <= {problem.node for problem in error.value.problems}


def test_a_weight_that_two_layers_share_stays_one() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(11, 6)
            self.dense = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(torch.tanh(self.dense(self.words(x)))) @ self.words.weight.T

    source = randomized(Tied())
    tokens = np.arange(10).reshape(2, 5)
    imported = arrive(exported(source, example(tokens, batch=0)))
    agree(list(live.run(imported.model, [tokens]).values()), list(live.run(source, [tokens]).values()))
    assert set(imported.model.state_dict()) == set(source.state_dict())


def test_an_embedding_never_reads_a_negative_index_wrongly() -> None:
    table = floats(5, 3)
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    model = graph([node], {"x": ["n"]}, ["y"], {"table": table}, kinds={"x": TensorProto.INT64})
    arrived = arrive(model).model
    with pytest.raises(IndexError):
        arrived(torch.tensor([0, -1]))


# ---- defaults that differ between frameworks -----------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.9, 0.75])
def test_batch_normalization_keeps_epsilon_and_momentum(momentum: float) -> None:
    rng = np.random.default_rng(3)
    weights = {
        f"bn.{name}": rng.uniform(0.5, 2, 4).astype(np.float32)
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], epsilon=0.02, momentum=momentum)
    imported = same_as_onnxruntime(
        graph([node], {"x": ["b", 4, "h"]}, ["y"], weights), [floats(2, 4, 5)], [floats(3, 4, 1)]
    )
    (layer,) = (m for m in imported.model.modules() if isinstance(m, nn.BatchNorm1d))
    assert layer.eps == 0.02 and layer.momentum == pytest.approx(1 - momentum)


def test_integer_division_goes_toward_zero_and_modulo_has_its_two_signs() -> None:
    nodes = [
        helper.make_node("Div", ["x", "w"], ["d"]),
        helper.make_node("Mod", ["x", "w"], ["m"]),
        helper.make_node("Mod", ["x", "w"], ["f"], fmod=1),
    ]
    x, w = np.array([-7, 7, -7, 7]), np.array([2, -2, -2, 2])
    kinds = dict.fromkeys("xdmf", TensorProto.INT64)
    same_as_onnxruntime(graph(nodes, {"x": [4]}, ["d", "m", "f"], {"w": w}, kinds=kinds), [x])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_unsigned_integers_count_without_a_sign(kind: Any) -> None:
    top = int(np.iinfo(kind).max)
    x = np.array([top, top // 2 + 1, 7, 0, top - 3], kind)
    y = np.array([3, top, 2, 1, top], kind)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    operators = {
        "Add": x + y,
        "Sub": x - y,
        "Mul": x * y,
        "Div": x // y,
        "Mod": x % y,
        "Max": np.maximum(x, y),
        "Min": np.minimum(x, y),
    }
    if kind is np.uint16:
        del operators["Mod"], operators["Max"], operators["Min"]
    nodes = [helper.make_node(name, ["x", "y"], [name]) for name in operators]
    model = graph(
        nodes, {"x": [5], "y": [5]}, list(operators), kinds=dict.fromkeys(["x", "y", *operators], number)
    )
    for (name, want), got in zip(
        operators.items(), live.run(arrive(model).model, [x, y]).values(), strict=True
    ):
        np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_keeps_its_form(approximate: str) -> None:
    same_as_onnxruntime(
        graph([helper.make_node("Gelu", ["x"], ["y"], approximate=approximate)], {"x": ["n"]}, ["y"]),
        [np.linspace(-4, 4, 41, dtype=np.float32)],
        tolerance=1e-6,
    )


def test_round_is_half_to_even_and_sign_of_nan_is_nan() -> None:
    nodes = [helper.make_node("Round", ["x"], ["r"]), helper.make_node("Sign", ["x"], ["s"])]
    x = np.array([0.5, 1.5, 2.5, -0.5, np.nan], np.float32)
    got = live.run(arrive(graph(nodes, {"x": ["n"]}, ["r", "s"])).model, [x])
    np.testing.assert_array_equal(got["r"], np.array([0, 2, 2, -0.0, np.nan], np.float32))
    np.testing.assert_array_equal(got["s"], np.sign(x))


POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 1, 1, 0], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER", "strides": [2, 3]},
    {"kernel_shape": [2, 3], "dilations": [2, 2], "pads": [1, 1, 1, 1]},
]


@pytest.mark.parametrize("settings", POOLS, ids=str)
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "AveragePool counted", "LpPool"])
def test_pools_keep_their_windows(operator: str, settings: dict[str, Any]) -> None:
    name, *counted = operator.split()
    node = helper.make_node(name, ["x"], ["y"], **settings, **({"count_include_pad": 1} if counted else {}))
    model = graph([node], {"x": ["b", 3, "h", "w"]}, ["y"])
    same_as_onnxruntime(model, [floats(2, 3, 9, 10)], [floats(1, 3, 8, 7)])


CONVS: list[dict[str, Any]] = [
    {"pads": [0, 1, 2, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [1, 2]},
    {"strides": [2, 3], "pads": [1, 1, 1, 1], "group": 2},
]


@pytest.mark.parametrize("settings", CONVS, ids=str)
@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose"])
def test_convolutions_pad_as_onnx_says(operator: str, settings: dict[str, Any]) -> None:
    group = settings.get("group", 1)
    shape = (4 * group if operator == "Conv" else 4, 4 // group if operator == "Conv" else 6, 3, 3)
    bias = floats(shape[0] if operator == "Conv" else 6 * group, seed=2)
    node = helper.make_node(operator, ["x", "conv.weight", "conv.bias"], ["y"], **settings)
    model = graph(
        [node], {"x": ["b", 4, "h", "w"]}, ["y"], {"conv.weight": floats(*shape, seed=1), "conv.bias": bias}
    )
    imported = same_as_onnxruntime(model, [floats(2, 4, 9, 10)], [floats(1, 4, 8, 7)])
    assert set(imported.model.state_dict()) == {"conv.weight", "conv.bias"}


def test_a_layer_called_twice_is_one_and_other_settings_read_its_weights() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "conv.weight"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "conv.weight"], ["y"], strides=[2, 2]),
    ]
    model = graph(nodes, {"x": ["b", 2, "h", "w"]}, ["y"], {"conv.weight": floats(2, 2, 3, 3)})
    imported = same_as_onnxruntime(model, [floats(2, 2, 8, 8)])
    assert set(imported.model.state_dict()) == {"conv.weight"}


@pytest.mark.parametrize("where", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_at_any_image_size(mode: str, where: str) -> None:
    node = helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], mode=mode, coordinate_transformation_mode=where
    )
    model = graph([node], {"x": ["b", 2, "h", "w"]}, ["y"], {"scales": np.array([1, 1, 1.5, 2], np.float32)})
    same_as_onnxruntime(model, [floats(2, 2, 6, 5)], [floats(1, 2, 10, 8)], tolerance=1e-4)


def test_resize_by_a_factor_that_floats_do_not_hold() -> None:
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
    model = graph(
        [node], {"x": ["b", 2, "h", "w"]}, ["y"], {"scales": np.array([1, 1, 0.7, 1.3], np.float32)}
    )
    same_as_onnxruntime(model, [floats(2, 2, 10, 10)], [floats(1, 2, 20, 30)], tolerance=1e-4)


# ---- recurrent ------------------------------------------------------------------------------------------


def recurrent(cell: str, direction: str, lengths: bool, states: bool, **settings: Any) -> onnx.ModelProto:
    """x (time, batch, 3) through one recurrent layer of 4; all its outputs."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    count = 2 if direction == "bidirectional" else 1
    weights = {
        "rnn.W": floats(count, gates * 4, 3, seed=1),
        "rnn.R": floats(count, gates * 4, 4, seed=2) * np.float32(0.5),
        "rnn.B": floats(count, 2 * gates * 4, seed=3),
    }
    names = [*weights, "", "", "", ""]
    if lengths:
        names[3], weights["lens"] = "lens", np.array([5, 2, 4], np.int32)
    if states:
        for place, name in enumerate(["h0", "c0"][: 2 if cell == "LSTM" else 1]):
            names[4 + place], weights[name] = name, floats(count, 3, 4, seed=4 + place)
    if settings.pop("peepholes", False):
        names[6], weights["rnn.P"] = "rnn.P", floats(count, 12, seed=7)
    outputs = ["Y", "Y_h", "Y_c"][: 3 if cell == "LSTM" else 2]
    while not names[-1]:
        names.pop()
    node = helper.make_node(cell, ["x", *names], outputs, hidden_size=4, direction=direction, **settings)
    return graph([node], {"x": ["time", "batch" if not (lengths or states) else 3, 3]}, outputs, weights)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_arrive_as_layers(cell: str, direction: str, lengths: bool, states: bool) -> None:
    settings = {"linear_before_reset": 1} if cell == "GRU" else {}
    model = recurrent(cell, direction, lengths, states, **settings)
    samples = [[floats(5, 3, 3)]] + ([] if lengths or states else [[floats(8, 2, 3)]])
    imported = same_as_onnxruntime(model, *samples)
    assert any(isinstance(m, getattr(nn, cell)) for m in imported.model.modules())


ODD: list[tuple[str, dict[str, Any]]] = [
    ("GRU", {}),
    ("LSTM", {"peepholes": True}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"activations": ["HardSigmoid", "Relu", "Softsign"]}),
    ("GRU", {"activations": ["Sigmoid", "LeakyRelu"], "activation_alpha": [0.3]}),
    ("RNN", {"activations": ["Elu"], "activation_alpha": [0.7]}),
    ("GRU", {"clip": 0.4, "linear_before_reset": 1}),
    ("RNN", {"clip": 0.4}),
]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell, settings", ODD, ids=str)
def test_recurrent_layers_that_pytorch_lacks_are_loops(
    cell: str, settings: dict[str, Any], direction: str
) -> None:
    settings = dict(settings)
    if "activations" in settings and direction == "bidirectional":
        settings |= {key: settings[key] * 2 for key in ("activations", "activation_alpha") if key in settings}
    model = recurrent(cell, direction, lengths=True, states=True, **settings)
    same_as_onnxruntime(model, [floats(5, 3, 3)])


# ---- what values decide --------------------------------------------------------------------------------


def test_a_loop_runs_as_often_as_it_is_told() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Mul", ["state", "two"], ["next"]),
            helper.make_node("Identity", ["next"], ["row"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("row", TensorProto.FLOAT, [2]),
        ],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["last", "rows"], body=body)
    model = graph([node], {"x": [2], "n": []}, ["last", "rows"], kinds={"n": TensorProto.INT64})
    same_as_onnxruntime(model, [floats(2), np.array(3)], [floats(2), np.array(0)])


def test_sizes_become_arithmetic_on_shapes() -> None:
    class Blocks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, t, c = x.shape
            y = x.reshape(b, t // 2, 2 * c).transpose(1, 2)
            return F.pad(y, (0, t % 3)) * t + torch.arange(t // 2 + t % 3)

    source = Blocks()
    imported = arrive(exported(source, example(floats(2, 6, 4), batch=0, time=1)))
    for x in (floats(2, 6, 4), floats(3, 8, 4), floats(1, 10, 4)):
        agree(list(live.run(imported.model, [x]).values()), list(live.run(source, [x]).values()))


def test_the_same_graph_gives_the_same_program_twice() -> None:
    make, first, _ = NETS["encoder"]
    model = exported(randomized(make()), first)
    sources = {write(plan(model), onnx_signature(model)).source for _ in range(2)}
    assert len(sources) == 1


def test_errors_are_netferrys_own() -> None:
    model = graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        {"x": ["b", 2, 3, 3, 3, 3]},
        ["y"],
        {"w": floats(2, 2, 1, 1, 1, 1)},
    )
    with pytest.raises(NetferryError, match="spatial"):
        arrive(model)


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
@pytest.mark.parametrize(("operator", "attributes"), [("Mod", {"fmod": 1}), ("Mod", {}), ("Div", {})])
def test_a_number_may_stand_in_front(operator: str, attributes: dict[str, int], dtype: str) -> None:
    if operator == "Mod" and not attributes and dtype == "float32":
        attributes = {"fmod": 1}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(operator, ["seven", "x"], ["y"], **attributes)], "g",
        [helper.make_tensor_value_info("x", kind, ["n", 3])], [helper.make_tensor_value_info("y", kind, ["n", 3])],
        [numpy_helper.from_array(np.array(7, dtype), "seven")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = np.array([[1, 2, 3], [-2, 5, 4]], dtype)
    (right,) = netferry.run(model, {"x": x}).values()
    (here,) = netferry.run(netferry.convert(model, "pytorch", verify=False).model, {"x": x}).values()
    np.testing.assert_allclose(here, right, rtol=1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_a_crop_that_reaches_outside_is_filled_with_its_own_value(known: bool) -> None:
    roi = np.array([0, 0, -0.5, -0.25, 1, 1, 1.5, 1.25], np.float32)
    attributes = {
        "mode": "linear",
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.5,
    }
    inputs = [helper.make_tensor_value_info("x", 1, [1, 2, 5, 6])]
    inputs += [] if known else [helper.make_tensor_value_info("roi", 1, [8])]
    weights = [numpy_helper.from_array(np.array([1, 2, 4, 4]), "sizes")]
    weights += [numpy_helper.from_array(roi, "roi")] if known else []
    node = helper.make_node("Resize", ["x", "roi", "", "sizes"], ["y"], **attributes)
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    feed = {"x": np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)} | (
        {} if known else {"roi": roi}
    )
    (right,) = netferry.run(model, feed).values()
    assert (right == 7.5).any() and (right != 7.5).any()
    (here,) = netferry.run(netferry.convert(model, "pytorch", verify=False).model, feed).values()
    np.testing.assert_allclose(here, right, rtol=1e-5, atol=1e-6)


class Nearness(nn.Module):
    """Scores, and how near the places are to each other: the last corner of a table that is long enough."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("near", torch.randn(2, 12, 12))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[-1]
        return x.softmax(-1) + self.near[..., -length:, -length:]


def test_the_last_corner_of_a_table_is_as_long_as_the_input() -> None:
    torch.manual_seed(3)
    model = Nearness().eval()
    proto = exported(model, Example("x", floats(2, 2, 7, 7), {0: "batch", 2: "length", 3: "length"}))
    back = arrive(proto).model
    for batch, length in ((1, 7), (3, 4), (2, 12)):
        x = floats(batch, 2, length, length, seed=length)
        agree(list(live.run(back, [x]).values()), [model(torch.from_numpy(x)).numpy()])
