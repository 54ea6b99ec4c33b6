"""TorchScript under netferry's own trace: scripted and traced modules, whole, inside others, and with control flow."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from pytorch_oracle import Shape, check, export, operators, randomized
from torch import Tensor, nn
from torch.nn import functional as F

from netferry.converters.errors import UnsupportedError, UsageError

ROWS: Shape = ("b", 6)
STEPS: Shape = ("b", "t", 6)
IMAGE: Shape = ("b", 3, "h", "w")


class Within(nn.Module):
    """What code adds around a part that is TorchScript."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.scale = part, nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.part(x) * self.scale)


class Choosing(nn.Module):
    """Branches on ranks, flags and sizes; a loop over its own layers; numbers of sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.deep = True

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for number, layer in enumerate(self.layers):
            out = out + layer(out) * (number + 1) / 3.0
        if self.training:
            out = out * 7
        if self.deep and out.dim() == 3:
            return out.mean(1) * float(x.size(1)) + x.shape[0] // 2
        return out


class Sliced(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x[:, 1:, ::2]
        parts = torch.jit.annotate(list[Tensor], [])
        for part in y.split(1, dim=2):
            parts.append(part.relu())
        z = torch.cat(parts, dim=-1)
        z[..., 0] = z[..., 1] * 2
        return z.view(z.size(0), -1, z.size(1))


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        low, high = x.chunk(2, dim=-1)
        return {"sum": low + high, "product": (low * high).softmax(-1)}


class Reading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.named = torch.jit.script(Named())

    def forward(self, x: Tensor) -> Tensor:
        found = self.named(x)
        return found["sum"] / (1 + found["product"])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(6, 4, batch_first=True, bidirectional=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class Resized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.silu(self.norm(self.conv(x))), 2)
        size = [x.shape[2], x.shape[3]]
        return F.interpolate(y, size=size, mode="bilinear", align_corners=False)


class Looping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.size(0), 6)
        for step in range(x.size(1)):
            state = torch.tanh(self.cell(torch.cat([x[:, step], state], 1)))
        return state


MADE: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "layers": (lambda: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 4)), STEPS),
    "choosing": (Choosing, STEPS),
    "choosing, of rows": (Choosing, ROWS),
    "sliced": (Sliced, STEPS),
    "recurrent": (Recurrent, STEPS),
    "resized": (Resized, IMAGE),
}


@pytest.mark.parametrize("name", MADE)
def test_a_scripted_module_is_traced_whole_and_within_another(name: str) -> None:
    make, shape = MADE[name]
    scripted = torch.jit.script(randomized(make()).eval())
    check(scripted, shape, tolerance=3e-5)
    check(randomized(Within(scripted)), shape, tolerance=3e-5)


def test_a_traced_module_keeps_its_sizes_free_where_its_trace_does() -> None:
    traced = torch.jit.trace(randomized(Resized()).eval(), torch.zeros(2, 3, 8, 8))
    found = check(Within(traced), IMAGE, tolerance=3e-5)
    assert "Conv" in operators(found)


def test_a_scripted_module_gives_structures_to_the_code_around_it() -> None:
    check(Reading(), STEPS, tolerance=3e-5)


def test_a_frozen_and_a_loaded_archive_are_traced() -> None:
    scripted = torch.jit.script(randomized(Resized()).eval())
    check(torch.jit.freeze(scripted), IMAGE, tolerance=3e-5)
    memory = io.BytesIO()
    torch.jit.save(scripted, memory)
    memory.seek(0)
    check(torch.jit.load(memory), IMAGE, tolerance=3e-5)


def test_a_scripted_loop_over_a_free_length_goes_by_the_exporter_that_writes_loops() -> None:
    found = check(torch.jit.script(randomized(Looping()).eval()), STEPS, route="torchscript")
    assert "Loop" in operators(found)


def test_a_scripted_loop_inside_of_other_code_is_refused_by_its_size() -> None:
    with pytest.raises((UsageError, UnsupportedError), match="length"):
        export(Within(torch.jit.script(Looping())), STEPS)


def test_a_scripted_module_that_keeps_something_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.zeros(1)

        def forward(self, x: Tensor) -> Tensor:
            self.seen = x.sum(0)
            return x + self.seen

    with pytest.raises(UnsupportedError, match="seen"):
        export(Within(torch.jit.script(Counting())), ROWS)
