"""What a model's code asks of free sizes: bounds are told and kept, remainders decided, numbers of sizes stay sizes."""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_oracle import Fn, check
from torch import nn

import netferry
from netferry.converters import size_bounds
from netferry.converters.errors import UnsupportedError, UsageError


def run_onnx(model: Any, inputs: dict[str, Any]) -> list[Any]:
    import onnxruntime

    made = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[Any] = made.run(None, inputs)
    return found


TABLE = torch.randn(66, 4, generator=torch.Generator().manual_seed(0))


def _strided(x: torch.Tensor) -> torch.Tensor:
    y = F.avg_pool1d(x.transpose(1, 2), 5, 3)
    return y * 2 if y.shape[-1] > 1 else y


def _table(x: torch.Tensor) -> torch.Tensor:
    if x.shape[1] + 2 > TABLE.shape[0]:
        raise_to = torch.zeros(x.shape[1] + 2, 4)
        return x + raise_to[2:]
    return x + TABLE[2 : 2 + x.shape[1]]


def _padded(multiple: int, by: str) -> Callable[[torch.Tensor], torch.Tensor]:
    def pad(x: torch.Tensor) -> torch.Tensor:
        n = x.shape[1]
        more = (multiple - n % multiple) % multiple if by == "%" else -(-n // multiple) * multiple - n
        if more > 0:
            x = F.pad(x, (0, 0, 0, more))
        return x.reshape(x.shape[0], -1, multiple, 4).sum(2)

    return pad


def _parts(count: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def split(x: torch.Tensor) -> torch.Tensor:
        many = torch.cat([x * (i + 1) for i in range(count)], 0)
        return sum(part * (i + 1) for i, part in enumerate(many.split(x.shape[0], 0)))  # type: ignore[return-value]

    return split


def _numbers(x: torch.Tensor) -> torch.Tensor:
    n, half = int(x.shape[1] * 2), int(x.shape[1] / 2)
    wide = F.interpolate(x.transpose(1, 2), size=max(n, 4), mode="linear")
    return wide[..., : min(half + 1, n)] / float(n)


def _even(x: torch.Tensor) -> torch.Tensor:
    return x[:, ::2] * 3 if x.shape[1] % 2 == 0 else x * 5


CASES: dict[str, tuple[Callable[..., Any], int, tuple[int, ...], tuple[str, ...]]] = {
    "behind strides": (_strided, 12, (9, 31), ("(length >= 8)",)),
    "a table": (_table, 24, (3, 60), ("(length <= 64)",)),
    "padded to 4": (_padded(4, "%"), 23, (24, 13, 1), ()),
    "padded to 4, by an example that needs none": (_padded(4, "%"), 24, (23, 13), ()),
    "padded to 7 by floors": (_padded(7, "//"), 23, (21, 13), ()),
    "two parts": (_parts(2), 5, (9, 1), ()),
    "five parts": (_parts(5), 5, (9, 2), ()),
    "int, float, max and min": (_numbers, 6, (9, 15), ()),
    "even ones": (_even, 6, (8, 20), ("((length % 2) == 0)",)),
}


@pytest.mark.parametrize(("function", "shown", "others", "bounds"), CASES.values(), ids=CASES)
def test_a_free_length_is_right_at_other_sizes_and_its_bounds_are_kept(
    function: Callable[..., Any], shown: int, others: tuple[int, ...], bounds: tuple[str, ...]
) -> None:
    model, rng = Fn(function), np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(2, shown, 4)).astype(np.float32)}
    free = {"x": {0: "batch", 1: "length"}}
    done = netferry.convert(model, "onnx", inputs=inputs, dynamic=free, seed=0, quick=True)
    assert done.route == "direct" and done.report is not None and done.report.status == "passed"
    metadata = {entry.key: entry.value for entry in done.model.metadata_props}
    assert size_bounds.of_metadata(metadata) == bounds
    assert len([note for note in done.notes if "goes another way" in note]) == len(bounds)
    for batch, length in zip((3, 1, 2), others, strict=False):
        x = rng.normal(size=(batch, length, 4)).astype(np.float32)
        (got,) = run_onnx(done.model, {"x": x})
        np.testing.assert_allclose(got, model(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-5)


def test_an_axis_that_is_named_as_a_sum_of_others_has_their_sizes() -> None:
    def step(x: torch.Tensor, mask: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        seen = torch.cat([past, x], 1)
        if mask.shape[1] > seen.shape[1]:
            mask = mask[:, : seen.shape[1]]
        return (x @ seen.transpose(1, 2)).masked_fill(mask[:, None] == 0, -1e4).softmax(-1) @ seen

    def arrays(batch: int, length: int, past: int) -> dict[str, Any]:
        rng = np.random.default_rng(length)
        shapes = {"x": length, "past": past}
        floats = {name: rng.normal(size=(batch, n, 4)).astype(np.float32) for name, n in shapes.items()}
        return {"x": floats["x"], "mask": np.ones((batch, past + length), np.int64), "past": floats["past"]}

    free = {name: {0: "batch", 1: "length"} for name in ("x", "mask", "past")}
    free["mask"][1], free["past"][1] = "past + length", "past"
    done = netferry.convert(Fn(step), "onnx", inputs=arrays(2, 3, 5), dynamic=free, seed=0, quick=True)
    assert done.report is not None and done.report.status == "passed"
    for sizes in ((3, 1, 9), (1, 4, 4)):
        given = arrays(*sizes)
        want = step(*(torch.from_numpy(array) for array in given.values())).numpy()
        np.testing.assert_allclose(run_onnx(done.model, given)[0], want, rtol=1e-5, atol=1e-5)


def test_examples_that_break_the_sum_are_refused() -> None:
    inputs = {"x": np.ones((2, 3), np.float32), "y": np.ones((2, 7), np.float32)}
    free = {"x": {1: "n"}, "y": {1: "2 * n"}}
    with pytest.raises(UsageError, match="two values"):
        netferry.convert(Fn(lambda x, y: x.sum() + y), "onnx", inputs=inputs, dynamic=free, verify=False)


class Strides(nn.Module):
    """Elements of buffers as numbers, in the ways that people take them."""

    def __init__(self, how: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.how = how
        self.register_buffer("stride", torch.tensor([8.0, 16.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.how(self, x)


@pytest.mark.parametrize(
    "how",
    [
        lambda m, x: torch.cat([x.new_full((1, 4), k) for k in m.stride]) + x,
        lambda m, x: x * float(m.stride[0]) + m.stride[1].item(),
        lambda m, x: x * sum(k for k in m.stride.tolist()) + int(m.stride.max()),
        lambda m, x: x / (2.0 if m.stride[0] < m.stride[1] else 1.0) + len(m.stride),
    ],
)
def test_elements_of_a_buffer_are_known_numbers(how: Callable[..., torch.Tensor]) -> None:
    model, x = Strides(how), np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    done = netferry.convert(model, "onnx", inputs={"x": x}, dynamic={}, verify=False)
    assert done.route == "direct"
    np.testing.assert_allclose(run_onnx(done.model, {"x": x})[0], how(model, torch.from_numpy(x)), rtol=1e-6)


SPATIAL: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "pooled to 6": lambda x: F.adaptive_avg_pool2d(x, 6),
    "pooled to 3 and as it is": lambda x: F.adaptive_avg_pool2d(x, (3, None)),
    "pooled and enlarged": lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, (2, 5)), x.shape[2:]),
    "area": lambda x: F.interpolate(x, size=(7, 5), mode="area"),
    "unfolded": lambda x: F.unfold(x, 3, padding=1),
    "unfolded with strides": lambda x: F.unfold(x, (2, 3), dilation=2, stride=(3, 2)),
    "shrunk smoothly": lambda x: F.interpolate(x, size=(8, 9), mode="bilinear", antialias=True),
    "smooth between corners": lambda x: F.interpolate(
        x, size=(8, 40), mode="bilinear", antialias=True, align_corners=True
    ),
    "cubics between corners": lambda x: F.interpolate(
        x, scale_factor=(0.6, 1.7), mode="bicubic", antialias=True, align_corners=True
    ),
    "one row between corners": lambda x: F.interpolate(
        x, size=(1, 5), mode="bilinear", antialias=True, align_corners=True
    ),
    "shrunk by cubics": lambda x: F.interpolate(x, size=(8, 9), mode="bicubic", antialias=True),
    "1.5 between corners": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True),
    "2.2 nearest": lambda x: F.interpolate(x, scale_factor=2.2),
}


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
@pytest.mark.parametrize("function", SPATIAL.values(), ids=SPATIAL)
def test_images_of_any_size_are_pooled_unfolded_and_resized_as_pytorch_does(
    function: Callable[[torch.Tensor], torch.Tensor], to: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 16, 20)).astype(np.float32)
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    done = netferry.convert(Fn(function), to, inputs={"x": x}, dynamic=free, verify=False)
    assert done.route == "direct", done.notes
    for shape in ((2, 3, 16, 20), (1, 3, 18, 24), (3, 3, 23, 31)):
        x = rng.normal(size=shape).astype(np.float32)
        given = torch.from_numpy(x)
        got = run_onnx(done.model, {"x": x})[0] if to == "onnx" else done.model(given).detach().numpy()
        np.testing.assert_allclose(got, function(given).numpy(), atol=2e-5)


BY_NAME: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flip": lambda x: torch.flip(x, dims=(1,)) + x.flip(dims=[-1]),
    "roll": lambda x: torch.roll(input=x, shifts=2, dims=1),
    "bmm": lambda x: torch.bmm(x, mat2=x.transpose(dim0=1, dim1=2)),
    "baddbmm": lambda x: x.sum(2)[:, :, None].baddbmm(batch1=x, batch2=x.mT, beta=0.5),
    "permute": lambda x: x.permute(dims=(0, 2, 1)),
    "scatter": lambda x: torch.scatter(x, dim=1, index=torch.zeros(1, 1, 1, dtype=torch.int64), value=3.0),
    "swapaxes": lambda x: torch.swapaxes(x, axis0=1, axis1=2),
    "addmm": lambda x: torch.addmm(x[0, :4, :4], mat1=x[0, :4], mat2=x[1, :4].T),
}


@pytest.mark.parametrize("function", BY_NAME.values(), ids=BY_NAME)
def test_arguments_by_keyword_go_to_their_places(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    done = netferry.convert(Fn(function), "onnx", inputs={"x": x}, verify=False)
    assert done.route == "direct", done.notes
    np.testing.assert_allclose(run_onnx(done.model, {"x": x})[0], function(torch.from_numpy(x)), rtol=1e-5)


def test_a_condition_that_is_no_condition_says_nothing() -> None:
    for text in ("__import__('os')", "n ** 9", "n.real < 3", "[n][0]", "m < 3", "(", "lambda: n", "9" * 3000):
        assert size_bounds.value(text, {"n": 4}) in (None, int("9" * 3000) if text[0] == "9" else None)
        assert size_bounds.hold([text], {"n": 4})
    assert size_bounds.value("past + 2 * max(n, 3) // 4", {"past": 1, "n": 9}) == 5
    assert not size_bounds.hold(["n % 2 == 0", "n <= 3"], {"n": 4})


def _steps(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Of whole numbers of two dtypes: PyTorch's own rule asks whether there is one alone."""
    size = (x.shape[axis] - 1) // 4 + 1
    return torch.arange(0, size, dtype=torch.int32) * torch.full((), 3)


def _grid(x: torch.Tensor) -> torch.Tensor:
    rows, columns = torch.meshgrid(_steps(x, 1), _steps(x, 2), indexing="ij")
    return x.sum((1, 2), keepdim=True) + rows + 2 * columns


def _in_a_row(x: torch.Tensor) -> torch.Tensor:
    return x.sum((1, 2), keepdim=True) * _steps(x, 2).view(1, -1)


def _pooled(x: torch.Tensor) -> torch.Tensor:
    y = F.max_pool2d(x, 4, ceil_mode=True)
    return torch.cat([y * 2, y + torch.ones(1, dtype=torch.float64).float()], 1).flatten(1)


def _gated(x: torch.Tensor, channels: int = 1) -> torch.Tensor:
    """The pool of a plane that comes of strides: its size rounds twice, and has a symbol of its own."""
    y = F.conv2d(x[:, None], torch.full((channels, 1, 3, 3), 0.2), None, 2, 1)
    gate = F.conv2d(F.avg_pool2d(y, 2, 2), torch.full((channels, channels, 1, 1), 0.7)).sigmoid()
    return y * F.interpolate(gate, size=y.shape[2:], mode="nearest")


def _gated_thrice(x: torch.Tensor) -> torch.Tensor:
    return _gated(x, 3)


@pytest.mark.parametrize("size", [4, 13])
@pytest.mark.parametrize(
    "function", [_grid, _in_a_row, _pooled, _gated, _gated_thrice], ids=lambda function: function.__name__
)
def test_a_size_that_is_one_in_the_example_by_chance_is_not_taken_for_one(
    function: Callable[[torch.Tensor], torch.Tensor], size: int
) -> None:
    x = torch.randn(2, size, size)
    done = netferry.convert(
        Fn(function), "onnx", inputs={"x": x.numpy()}, dynamic={"x": {1: "h", 2: "w"}}, verify=False
    )
    for height, width in ((4, 4), (3, 18), (21, 9)):
        given = torch.randn(2, height, width)
        (found,) = run_onnx(done.model, {"x": given.numpy()})
        np.testing.assert_allclose(found, function(given).numpy(), rtol=1e-5, atol=1e-5)


class NamedAxes(nn.Module):
    """Distances and masks as einx says them; its own code makes a number of each size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        einx: Any = sys.modules["einx"]
        rows, columns = torch.arange(x.shape[1]), torch.arange(x.shape[1])
        apart = einx.subtract("j, i -> 1 i j", columns, rows).abs()
        seen = einx.less("... j, ... i -> ... i j", x[..., 0], x[..., 1] + 0.5)
        scores = einx.where("b i j, 1 i j, ", seen, apart.float(), -1.5)
        summed = einx.add("b i j, i b", scores, x[..., 2].T)
        return summed + einx.maximum("[b] i j, [b] i j", scores, summed)


def _einx() -> types.ModuleType:
    """What einx gives of these expressions, frozen at the sizes of its operands."""
    made = types.ModuleType("einx")

    def frozen(function: Callable[..., Any]) -> Callable[..., Any]:
        def of(_: str, *operands: Any) -> Any:
            [operator.index(size) for one in operands if isinstance(one, torch.Tensor) for size in one.shape]
            return function(*operands)

        return of

    vars(made).update(
        subtract=frozen(lambda a, b: (a[None] - b[:, None])[None]),
        less=frozen(lambda a, b: a[:, None] < b[..., None]),
        where=frozen(torch.where),
        add=frozen(lambda a, b: a + b.T[..., None]),
        maximum=lambda _, a, b: torch.maximum(a, b),
    )
    return made


def test_functions_of_named_axes_leave_sizes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "einx", _einx())
    check(NamedAxes().eval(), ("b", "t", 3))


def _windowed(blocks: int) -> nn.Module:
    """Padded windows of rows, images whose channels lie last, and strides: each block's sizes are made of those of the last."""
    convolutions = [nn.Conv2d(4, 4, 3, padding=1, groups=2) for _ in range(blocks)]

    class Windowed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(convolutions)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for number, layer in enumerate(self.layers):
                batch, _, height, width = x.shape
                rows = F.layer_norm(x.flatten(2).transpose(1, 2), (4,)).view(batch, height, width, 4)
                rows = F.pad(rows, (0, 0, 0, (3 - width % 3) % 3, 0, (3 - height % 3) % 3))
                tall, wide = rows.shape[1:3]
                parts = rows.view(batch, tall // 3, 3, wide // 3, 3, 4).transpose(2, 3)
                parts = parts.contiguous() + parts.mean((3, 4), keepdim=True)
                rows = parts.transpose(2, 3).reshape(batch, tall, wide, 4)[:, :height, :width].contiguous()
                x = x + layer(rows.permute(0, 3, 1, 2))
                if number % 2:
                    x = F.conv2d(x, layer.weight, stride=2, padding=(1,), groups=2)
            return x

    return Windowed().eval()


def test_what_kernels_find_equal_by_chance_is_not_written_out() -> None:
    from netferry.converters.pytorch.to_onnx.tracer.sizes import Sizes

    sizes = Sizes()
    rows, columns = (sizes.free(name, 7) for name in ("rows", "columns"))
    tall, wide = (sizes.brief(size + (3 - size % 3) % 3) for size in (rows, columns))
    with sizes.kernels():
        assert bool(tall * 2 == wide * 2)
    assert not sizes.narrowings and not sizes._wholes


def test_windows_in_windows_are_right_at_all_sizes() -> None:
    model = _windowed(7)
    shown = {"x": np.random.default_rng(0).normal(size=(2, 4, 5, 7)).astype(np.float32)}
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    done = netferry.convert(model, "onnx", inputs=shown, dynamic=free, verify=False)
    assert done.route == "direct"
    for sizes_of in ((3, 4, 40, 17), (1, 4, 33, 33)):
        x = np.random.default_rng(1).normal(size=sizes_of).astype(np.float32)
        (got,) = run_onnx(done.model, {"x": x})
        want = model(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


class Layered(nn.Module):
    def __init__(self, layer: nn.Module, last: bool) -> None:
        super().__init__()
        self.layer, self.last = layer, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.last:
            x = x.movedim(-1, 1).contiguous().movedim(1, -1)
        found: torch.Tensor = self.layer(x.movedim(-1, 1)).relu_()
        return found.flatten(1) if self.last else found.contiguous().view(found.shape[0], -1)


CONVOLUTIONS: dict[str, tuple[nn.Module, int]] = {
    "strides and pads": (nn.Conv2d(3, 5, (3, 2), (2, 1), (1, 0)), 2),
    "same": (nn.Conv2d(3, 6, 3, padding="same", dilation=2, groups=3), 2),
    "valid": (nn.Conv2d(3, 6, 3, padding="valid"), 2),
    "reflected": (nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), 2),
    "a line": (nn.Conv1d(3, 6, 3, 2, 2, 2), 1),
    "a volume": (nn.Conv3d(3, 4, (1, 2, 3), 1, (0, 1, 1)), 3),
}


@pytest.mark.parametrize("last", (False, True), ids=("of order", "turned"))
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_what_convolutions_give_has_pytorchs_sizes_however_its_input_lies(name: str, last: bool) -> None:
    layer, rank = CONVOLUTIONS[name]
    check(Layered(layer, last).eval(), ("b", *("h", "w", 7)[:rank], 3))


def test_what_is_contiguous_already_is_written_through() -> None:
    def through(x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        y.contiguous()[:, 0] = 3.0
        z = y.transpose(1, 2)
        z.contiguous()[:, 0] = 5.0
        return y + z.contiguous().flatten(1)[:, :1, None]

    check(Fn(through), ("b", "t", 4))


def test_a_line_of_a_library_whose_name_begins_as_pytorchs_is_named() -> None:
    place = Path(torch.__file__).parent.with_name("torchvision") / "looks.py"
    room: dict[str, Any] = {}
    exec(compile("def look(x):\n    return x * int(x.max().item())", str(place), "exec"), room)
    with pytest.raises(UnsupportedError, match=r"looks at a tensor's values \(looks\.py:2"):
        netferry.convert(Fn(room["look"]), "onnx", inputs=[torch.ones(2, 3)], verify=False)
