"""Forms that PyTorch models come in: with hooks, parametrised, compiled, quantised, with pools that keep their indices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_oracle import Fn, check, operators, randomized
from torch import nn
from torch.nn import functional as F, utils
from torch.nn.utils import parametrizations, prune

from netferry.converters.errors import UnsupportedError

pytest.importorskip("onnxruntime")

ROWS, IMAGE = ("b", 5), ("b", 4, "h", "w")


def _hooked() -> nn.Module:
    layer = nn.Linear(5, 3)
    layer.register_forward_pre_hook(lambda _, given: (given[0] * 2,))
    layer.register_forward_hook(lambda _, __, result: result + 1)
    return layer


WRAPPED = {
    "hooks": _hooked,
    "weight norm": lambda: utils.weight_norm(nn.Linear(5, 3)),
    "weight norm as a parametrisation": lambda: parametrizations.weight_norm(nn.Linear(5, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(5, 3)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(5, 3)),
    "pruned": lambda: prune.l1_unstructured(nn.Linear(5, 3), "weight", 0.5),
}


@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_a_layer_that_is_wrapped_is_what_it_computes(make: Any) -> None:
    check(nn.Sequential(make(), nn.ReLU()).eval(), ROWS)


@pytest.mark.slow
def test_what_is_compiled_runs_as_it_was_written() -> None:
    inner = torch.compile(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), backend="eager")
    check(nn.Sequential(inner, nn.Linear(4, 2)), ROWS)


class Unpooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, where = self.pool(x)
        return self.unpool(y * 2, where, output_size=x.shape)


class Grown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 3, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x, output_size=(x.shape[2] * 2, x.shape[3] * 2))


class Standardised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.conv.weight.reshape(1, 6, -1)
        weight = F.batch_norm(flat, None, None, training=True, eps=1e-6).reshape_as(self.conv.weight)
        return F.conv2d(x, weight, self.conv.bias)


@pytest.mark.parametrize("make", [Unpooled, Grown, Standardised])
def test_what_layers_do_besides(make: Any) -> None:
    check(randomized(make()), IMAGE)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
@pytest.mark.parametrize("scale", [(2.1, 1.3), (1.05, 1 / 3), 2])
def test_the_nearest_pixel_is_the_one_that_pytorch_takes(mode: str, scale: Any) -> None:
    """Eight rows become sixteen by 2.1, which PyTorch takes for a doubling, and stay eight by 1.05."""
    check(Fn(lambda x: F.interpolate(x, scale_factor=scale, mode=mode)), IMAGE, tolerance=0)


@pytest.mark.parametrize("scale", [2.1, 1.05])
def test_the_nearest_element_of_a_series_is_the_one_that_pytorch_takes(scale: float) -> None:
    check(Fn(lambda x: F.interpolate(x, scale_factor=scale)), ("b", 4, "h"), tolerance=0)


def test_the_nearest_pixel_of_a_size_beside_another_is_the_one_that_pytorch_takes() -> None:
    check(
        Fn(lambda x, y: F.interpolate(x, size=y.shape[2:])),
        IMAGE,
        ("b", 4, "t", "s"),
        tolerance=0,
    )


def turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions by complex numbers, as the first llama has them."""
    angles = torch.outer(torch.arange(32.0), 10.0 ** -torch.arange(0, 3.0))
    turns = torch.polar(torch.ones_like(angles), angles)[: x.shape[1]]
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], 3, 2))
    return torch.view_as_real(pairs * turns).flatten(-2)


def test_complex_rotations_are_written_over_real_numbers() -> None:
    check(Fn(turned), ("b", "t", 6))


def _with_few_waves(x: torch.Tensor) -> torch.Tensor:
    """The waves that a Fourier operator keeps, written into a spectrum of zeros, at both ends and through a view of it."""
    waves = torch.fft.rfft(x)
    kept = torch.zeros(*waves.shape[:-1], x.shape[-1] // 2 + 1, dtype=torch.cfloat)
    seen = kept[..., :2]
    kept[..., :1] = waves[..., :1] * (0.5 + 2j)
    kept[:, -1:] = waves[:, -1:] * 2
    seen[..., 1] = waves[..., -1]
    return torch.fft.irfft(kept, n=x.shape[-1])


def _into_a_fixed_spectrum(x: torch.Tensor) -> torch.Tensor:
    kept = torch.zeros(3, 4, dtype=torch.complex64)
    kept[1, 2:] = torch.fft.fft(x.sum((0, 1)), n=2)
    kept[0] = 1.5
    return torch.view_as_real(kept)


def _exponents(x: torch.Tensor) -> torch.Tensor:
    """The kernel of a diagonal state space, from real weights and i."""
    rates = x.sum((0, 1))[:3] + 1j * torch.linspace(0, 2, 3)
    powers = torch.exp(-rates.unsqueeze(-1) * torch.arange(x.shape[1]) * 0.1)
    return (powers * (1 - 0.5j)).sum(0).real


def _about_the_middle(x: torch.Tensor) -> torch.Tensor:
    spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum * 2, dim=(-2, -1))).real + spectrum.abs()


def _not_reaching_back(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    real = x * 1
    made = torch.complex(real, real)
    made[:, 0] = 7
    return real, made.real, made.imag


@pytest.mark.parametrize(
    "function",
    [_with_few_waves, _into_a_fixed_spectrum, _exponents, _about_the_middle, _not_reaching_back],
    ids=lambda function: function.__name__,
)
def test_spectra_are_filled_shifted_and_multiplied_by_i(function: Any) -> None:
    check(Fn(function), ("b", "t", 6), tolerance=1e-4)


class Quantised(nn.Module):
    """What PyTorch's quantiser makes of a linear layer: steps and back, of eight bits.

    Weights of seven bits: of eight, onnxruntime's kernels without VNNI saturate sums of two products at 16 bits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randint(-63, 63, (3, 5), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(3) * 0.1 + 0.01)
        self.register_buffer("zeros", torch.zeros(3, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = torch.ops.quantized_decomposed
        steps = q.quantize_per_tensor(x, 0.02, 3, -128, 127, torch.int8)
        y = q.dequantize_per_tensor(steps, 0.02, 3, -128, 127, torch.int8)
        weight = q.dequantize_per_channel(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        return F.linear(y, weight)


def test_a_quantised_program_is_written_as_steps_and_back() -> None:
    pytest.importorskip("torch.ao.quantization.fx._decomposed")
    found = check(Quantised(), ROWS)
    assert operators(found).count("DequantizeLinear") == 2


MODES: dict[str, Any] = {
    "of a free axis": lambda x: torch.mode((x * 2).round(), 1).values,
    "of whole numbers, the axis kept": lambda x: (x * 3).round().to(torch.int32).mode(dim=1, keepdim=True)[0],
    "and where it stands": lambda x: tuple((x * 2).round().mode(-1)),
    "in front": lambda x: tuple(torch.mode((x * 2).round().long()[..., 0, :9].movedim(1, 0), 0, True)),
    "of truths": lambda x: tuple((x > 0).mode()),
    "of infinities": lambda x: tuple(torch.mode(torch.where(x.abs() > 0.7, x / 0.0, x.round()))),
    "of one number": lambda x: tuple(x.flatten()[0].mode()),
}


@pytest.mark.parametrize("name", MODES)
def test_what_stands_most_often_and_where_is_as_pytorch_finds_it(name: str) -> None:
    check(Fn(MODES[name]), ("b", "t", 9))


def test_where_it_stands_along_an_axis_that_pytorchs_sort_decides_is_refused() -> None:
    for long in (lambda x: x.mode(1).indices, lambda x: x.new_zeros(2, 17).mode()[1] + x.sum().long()):
        with pytest.raises(UnsupportedError, match="settled along axes of at most 16"):
            check(Fn(long), ("b", "t"))


GRADIENTS: dict[str, Any] = {
    "autograd.grad": lambda x: torch.autograd.grad((x.requires_grad_() ** 2).sum(), x)[0],
    "backward": lambda x: ((leaf := x.clone().requires_grad_()).pow(2).sum().backward(), leaf.grad)[1],
    "func.grad": lambda x: torch.func.grad(lambda y: (y**3).sum())(x),
    "func.jvp": lambda x: torch.func.jvp(torch.sin, (x,), (x,))[1],
    "func.vjp": lambda x: torch.func.vjp(torch.sin, x)[1](x)[0],
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_code_that_takes_derivatives_is_refused_in_one_sentence(name: str) -> None:
    def model(x: torch.Tensor) -> Any:
        with torch.enable_grad():
            return GRADIENTS[name](x)

    with pytest.raises(UnsupportedError, match="takes derivatives as it runs") as refusal:
        check(Fn(model), ("b", 4))
    assert "exporter" not in str(refusal.value)


def test_layers_whose_scale_is_found_as_they_run_are_refused_in_one_sentence() -> None:
    from torch.ao.quantization import quantize_dynamic

    if not set(torch.backends.quantized.supported_engines) - {"none"}:
        pytest.skip("this build of PyTorch has no kernels for quantised layers")
    model = quantize_dynamic(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), {nn.Linear})
    with pytest.raises(UnsupportedError, match="'linear_dynamic' finds its scale as it runs") as refusal:
        check(model, ("b", 4))
    assert "exporter" not in str(refusal.value)
