"""Complex numbers of a trace: each tensor of them is two real ones, and what is done to it is done to those.

ONNX's operators take no complex numbers, so none reaches a call. Constants that the inputs do not touch stay as they are
until they meet what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from netferry.converters.pytorch.to_onnx.tracer.calls import leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.names import everywhere, getter
from netferry.converters.pytorch.to_onnx.tracer.sizes import users_line
from netferry.converters.pytorch.to_onnx.tracer.spectra import dft
from netferry.converters.pytorch.to_onnx.tracer.untraceable import Complex

Body = TypeVar("Body", bound=Callable[..., Any])
Pair = tuple[Tensor, Tensor]

_BODIES: dict[Any, Callable[..., Any]] = {}
"""The torch function, and what it does to pairs."""


def _on_pairs(*functions: Any) -> Callable[[Body], Body]:
    def register(body: Body) -> Body:
        for function in functions:
            for position in everywhere(function) if isinstance(function, str) else (function,):
                _BODIES[position] = body
        return body

    return register


class ComplexNumbers:
    """The pairs of one trace, by the tensor that stands for each."""

    def __init__(self, fake: FakeTensorMode, is_traced: Callable[[Tensor], bool]) -> None:
        self._fake, self._is_traced = fake, is_traced
        self._pairs: dict[int, tuple[Tensor, Pair]] = {}

    def concerns(self, function: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether complex numbers come of it or go into it, and the inputs have a part in that."""
        if function not in _MAKERS and not any(x.dtype.is_complex for x in leaves_of((args, kwargs), Tensor)):
            if function in _FILLERS and _is_complex(kwargs.get("dtype")):
                return True
            if not leaves_of((args, kwargs), complex):
                return False
        if function in _ABOUT:
            return False
        given = leaves_of((args, kwargs), Tensor)
        return any(map(self._is_traced, given)) or bool(leaves_of((args, kwargs), torch.SymInt))

    def call(self, function: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        body = _BODIES.get(function)
        if body is None:
            name = getattr(function, "__name__", "a function")
            raise Complex(f"'{name}' of complex numbers", users_line())
        return body(self, *args, **kwargs)

    def pair(self, x: Any) -> Pair:
        """Real and imaginary parts; of what is real, zeros."""
        if not isinstance(x, Tensor):
            number = complex(x)
            return torch.tensor(number.real), torch.tensor(number.imag)
        if not x.dtype.is_complex:
            return x, torch.zeros_like(x)
        if id(x) not in self._pairs:
            with torch._C.DisableTorchFunction():
                if isinstance(x, FakeTensor):
                    raise Complex("a complex tensor that is made in another way", users_line())
                real = torch.view_as_real(x.detach().resolve_conj())
                self._pairs[id(x)] = x, (real[..., 0].contiguous(), real[..., 1].contiguous())
        return self._pairs[id(x)][1]

    def joined(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """A tensor that stands for the pair."""
        with torch._C.DisableTorchFunction(), self._fake:
            kind = torch.complex128 if real.dtype is torch.float64 else torch.complex64
            z = torch.empty(real.shape, dtype=kind, device=real.device)
        self._pairs[id(z)] = z, (real, imaginary)
        return z

    def own(self, x: Tensor) -> Pair:
        """The parts of a tensor that is written into."""
        if id(x) not in self._pairs or not isinstance(x, FakeTensor):
            raise Complex("a constant complex tensor that is written", users_line())
        return self._pairs[id(x)][1]


# ---- from and to real numbers ---------------------------------------------------------------------


@_on_pairs("complex")
def _complex(c: ComplexNumbers, real: Tensor, imag: Tensor, **_: Any) -> Tensor:
    return c.joined(*(part.clone() for part in torch.broadcast_tensors(real, imag)))  # type: ignore[no-untyped-call]


@_on_pairs("polar")
def _polar(c: ComplexNumbers, abs: Tensor, angle: Tensor, **_: Any) -> Tensor:
    return c.joined(abs * angle.cos(), abs * angle.sin())


@_on_pairs("view_as_complex")
def _view_as_complex(c: ComplexNumbers, input: Tensor) -> Tensor:
    return c.joined(*input.unbind(-1))


@_on_pairs("view_as_real")
def _view_as_real(c: ComplexNumbers, input: Tensor) -> Tensor:
    return torch.stack(c.pair(input), -1)


@_on_pairs("real", getter("real"))
def _real(c: ComplexNumbers, input: Tensor) -> Tensor:
    return c.pair(input)[0]


@_on_pairs("imag", getter("imag"))
def _imag(c: ComplexNumbers, input: Tensor) -> Tensor:
    return c.pair(input)[1]


@_on_pairs("abs", "absolute")
def _abs(c: ComplexNumbers, input: Tensor) -> Tensor:
    real, imaginary = c.pair(input)
    return (real * real + imaginary * imaginary).sqrt()


@_on_pairs("angle")
def _angle(c: ComplexNumbers, input: Tensor) -> Tensor:
    real, imaginary = c.pair(input)
    return torch.atan2(imaginary, real)


@_on_pairs("conj", "conj_physical", getter("H"), getter("mH"), "adjoint")
def _conj(c: ComplexNumbers, input: Tensor) -> Tensor:
    real, imaginary = c.pair(input)
    return c.joined(real, -imaginary)


def _filled(function: Any, c: ComplexNumbers, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    """Made of one number: ``torch.zeros(sizes, dtype=torch.cfloat)``, ``torch.ones_like(z)``."""
    like = [x for x in leaves_of((args, kwargs), Tensor) if x.dtype.is_complex]
    kind = dtype or like[0].dtype
    args, kwargs = map_structure(
        lambda item: c.pair(item)[0] if isinstance(item, Tensor) else item, (args, kwargs)
    )
    if not _is_complex(kind):
        return function(*args, dtype=kind, **kwargs)  # type: ignore[no-any-return]
    real = function(*args, dtype=_PARTS_OF[kind], **kwargs)
    return c.joined(real, torch.zeros_like(real))


def _is_complex(kind: Any) -> bool:
    return isinstance(kind, torch.dtype) and kind.is_complex


_PARTS_OF = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}

_FILLERS = frozenset(
    function
    for name in "zeros ones empty zeros_like ones_like empty_like new_zeros new_ones new_empty".split()
    for function in everywhere(name)
)
for _function in _FILLERS:
    _on_pairs(_function)(partial(_filled, _function))


@_on_pairs("setitem")
def _setitem(c: ComplexNumbers, input: Tensor, index: Any, value: Any) -> None:
    """Into both parts; into a real tensor goes what is real."""
    if input.dtype.is_complex:
        for part, given in zip(c.own(input), c.pair(value), strict=True):
            part[index] = given
    else:
        input[index] = c.pair(value)[0]


@_on_pairs("to", "type", "cfloat", "cdouble", "float", "double", "half", "bfloat16")
def _to(c: ComplexNumbers, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """To another dtype; to a real one the imaginary part is lost."""
    real, imaginary = c.pair(input)
    kinds = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.dtype)]
    kind = kinds[0] if kinds else input.dtype
    part = {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(kind, kind)
    return c.joined(real.to(part), imaginary.to(part)) if kind.is_complex else real.to(part)


# ---- what is done to both parts alike --------------------------------------------------------------

_PARTWISE = """
    cat chunk clone concat concatenate contiguous cumsum detach diff expand expand_as flatten flip gather getitem
    index_select mean movedim moveaxis narrow neg negative pad permute ravel repeat repeat_interleave reshape
    resolve_conj resolve_neg roll select split split_with_sizes squeeze stack sum swapaxes swapdims t take_along_dim
    tensor_split tile transpose unbind unflatten unsqueeze view view_as broadcast_to diagonal tril triu
""".split()


def _partwise(function: Any, c: ComplexNumbers, *args: Any, **kwargs: Any) -> Any:
    def part(number: int) -> Any:
        def of(item: Any) -> Any:
            return c.pair(item)[number] if isinstance(item, Tensor) and item.dtype.is_complex else item

        return function(*map_structure(of, args), **map_structure(of, kwargs))

    return _together(c, part(0), part(1))


def _together(c: ComplexNumbers, real: Any, imaginary: Any) -> Any:
    if isinstance(real, Tensor):
        return c.joined(real, imaginary)
    return type(real)(c.joined(*pair) for pair in zip(real, imaginary, strict=True))


_SHIFTS = (torch.fft.fftshift, torch.fft.ifftshift)

for _function in (*_SHIFTS, *chain.from_iterable(map(everywhere, _PARTWISE))):
    _on_pairs(_function)(partial(_partwise, _function))


def _cat(function: Any, c: ComplexNumbers, tensors: Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
    """Real ones among them have an imaginary part of zeros."""
    pairs = [c.pair(x) for x in tensors]
    real, imaginary = ([pair[number] for pair in pairs] for number in (0, 1))
    return c.joined(function(real, *args, **kwargs), function(imaginary, *args, **kwargs))


for _function in (torch.cat, torch.concat, torch.concatenate, torch.stack):
    _on_pairs(_function)(partial(_cat, _function))


@_on_pairs(torch.where)
def _where(c: ComplexNumbers, condition: Tensor, input: Any, other: Any) -> Tensor:
    first, second = c.pair(input), c.pair(other)
    return c.joined(*(torch.where(condition, *sides) for sides in zip(first, second, strict=True)))


# ---- arithmetic ------------------------------------------------------------------------------------


def _sum(sign: int, c: ComplexNumbers, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    (a, b), (u, v) = c.pair(input), c.pair(other)
    return _complex(c, a + u * (sign * alpha), b + v * (sign * alpha))


_on_pairs("add", "radd")(partial(_sum, 1))
_on_pairs("sub", "subtract")(partial(_sum, -1))


@_on_pairs("rsub")
def _rsub(c: ComplexNumbers, input: Any, other: Any) -> Tensor:
    return _sum(-1, c, other, input)


def _product(function: Callable[[Any, Any], Tensor], c: ComplexNumbers, input: Any, other: Any) -> Tensor:
    """Of whatever is linear in both: (a + bi)(u + vi) = au - bv + (av + bu)i; a real side has one part."""
    (a, b), (u, v) = c.pair(input), c.pair(other)
    if not isinstance(other, Tensor | complex) or (isinstance(other, Tensor) and not other.dtype.is_complex):
        return c.joined(function(a, other), function(b, other))
    if not isinstance(input, Tensor | complex) or (isinstance(input, Tensor) and not input.dtype.is_complex):
        return c.joined(function(input, u), function(input, v))
    return c.joined(function(a, u) - function(b, v), function(a, v) + function(b, u))


_on_pairs("mul", "multiply", "rmul")(partial(_product, torch.mul))
_on_pairs("matmul", "mm", "bmm", "mv", "dot", torch.linalg.matmul)(partial(_product, torch.matmul))


@_on_pairs(torch.einsum)
def _einsum(c: ComplexNumbers, equation: str, *operands: Any) -> Tensor:
    given = operands[0] if isinstance(operands[0], list | tuple) else operands
    if len(given) == 1:
        return _partwise(torch.einsum, c, equation, given[0])  # type: ignore[no-any-return]
    if len(given) > 2:
        raise Complex("an einsum of more than two complex tensors", users_line())
    return _product(lambda x, y: torch.einsum(equation, x, y), c, *given)


@_on_pairs("div", "divide", "true_divide", "truediv")
def _div(c: ComplexNumbers, input: Any, other: Any) -> Tensor:
    if not isinstance(other, complex) and not (isinstance(other, Tensor) and other.dtype.is_complex):
        a, b = c.pair(input)
        return c.joined(a / other, b / other)
    return _product(torch.mul, c, input, _reciprocal(c, other))


@_on_pairs("reciprocal")
def _reciprocal(c: ComplexNumbers, input: Any) -> Tensor:
    u, v = c.pair(input)
    length = u * u + v * v
    return c.joined(u / length, -v / length)


@_on_pairs("exp")
def _exp(c: ComplexNumbers, input: Tensor) -> Tensor:
    real, imaginary = c.pair(input)
    return _polar(c, real.exp(), imaginary)


@_on_pairs("square")
def _square(c: ComplexNumbers, input: Tensor) -> Tensor:
    return _product(torch.mul, c, input, input)


@_on_pairs("pow")
def _pow(c: ComplexNumbers, input: Any, exponent: Any) -> Tensor:
    if not isinstance(exponent, int) or exponent < 1:
        raise Complex(f"the power {exponent} of complex numbers", users_line())
    found = input
    for _ in range(exponent - 1):
        found = _product(torch.mul, c, found, input)
    return found  # type: ignore[no-any-return]


# ---- spectra ---------------------------------------------------------------------------------------


def _scale(n: Any, norm: str | None, inverse: bool) -> Any:
    """By what a transform of n elements is multiplied: ONNX divides the inverse by n, and the other by nothing."""
    usual = {
        None: 1,
        "backward": 1,
        "ortho": n**0.5 if inverse else n**-0.5,
        "forward": n if inverse else 1 / n,
    }
    return usual[norm]


def _fitted(x: Tensor, n: Any, dim: int) -> Tensor:
    """Cut or padded with zeros to n elements."""
    size = x.size(dim)
    if n is None or n is size or (isinstance(n, int) and isinstance(size, int) and n == size):
        return x
    if isinstance(n, int) and isinstance(size, int) and n < size:
        return x.narrow(dim, 0, n)
    behind = (0, 0) * (x.dim() - 1 - dim % x.dim())
    return torch.nn.functional.pad(x, (*behind, 0, n)).narrow(dim, 0, n)


def _transformed(c: ComplexNumbers, x: Tensor, n: Any, dim: int, norm: str | None, inverse: bool) -> Tensor:
    """One complex transform along an axis."""
    axis = dim % x.dim()
    real, imaginary = (_fitted(part, n, axis) for part in c.pair(x))
    found = dft(torch.stack([real, imaginary], -1), axis, inverse, False)
    scale = _scale(real.size(axis), norm, inverse)
    return c.joined(*(part if scale == 1 else part * scale for part in found.unbind(-1)))


def _half(c: ComplexNumbers, x: Tensor, n: Any, dim: int, norm: str | None) -> Tensor:
    """The first half of a real tensor's spectrum, which says all."""
    axis = dim % x.dim()
    x = _fitted(x if x.dtype.is_floating_point else x.to(torch.get_default_dtype()), n, axis)
    found = dft(x.unsqueeze(-1), axis, False, True)
    scale = _scale(x.size(axis), norm, False)
    return c.joined(*(part if scale == 1 else part * scale for part in found.unbind(-1)))


def _whole(c: ComplexNumbers, z: Tensor, n: Any, dim: int, norm: str | None) -> Tensor:
    """The real tensor of a first half: what is missing is the mirror of what is there."""
    axis = dim % z.dim()
    n = 2 * (z.size(axis) - 1) if n is None else n
    kept = n // 2 + 1
    real, imaginary = (_fitted(part, kept, axis) for part in c.pair(z))
    behind = [part.narrow(axis, 1, n - kept).flip(axis) for part in (real, imaginary)]
    full = torch.stack([torch.cat([real, behind[0]], axis), torch.cat([imaginary, -behind[1]], axis)], -1)
    found = dft(full, axis, True, False).select(-1, 0)
    scale = _scale(n, norm, True)
    return found if scale == 1 else found * scale


@_on_pairs(torch.fft.fft)
def _fft(
    c: ComplexNumbers, input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, **_: Any
) -> Tensor:
    return _transformed(c, input, n, dim, norm, False)


@_on_pairs(torch.fft.ifft)
def _ifft(
    c: ComplexNumbers, input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, **_: Any
) -> Tensor:
    return _transformed(c, input, n, dim, norm, True)


@_on_pairs(torch.fft.rfft)
def _rfft(
    c: ComplexNumbers, input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, **_: Any
) -> Tensor:
    return _half(c, input, n, dim, norm)


@_on_pairs(torch.fft.irfft)
def _irfft(
    c: ComplexNumbers, input: Tensor, n: Any = None, dim: int = -1, norm: str | None = None, **_: Any
) -> Tensor:
    return _whole(c, input, n, dim, norm)


def _along(x: Tensor, s: Any, dim: Any, planes: bool) -> list[tuple[int, Any]]:
    """Axes and their sizes: the last two of a plane's transform, all or those of the sizes of another's."""
    if dim is None:
        count = 2 if planes else x.dim() if s is None else len(s)
        dim = range(-count, 0)
    axes = [dim] if isinstance(dim, int) else list(dim)
    return list(zip(axes, [None] * len(axes) if s is None else list(s), strict=True))


def _many(
    first: Any, rest: Any, planes: bool, c: ComplexNumbers, input: Tensor, s: Any = None, dim: Any = None,
    norm: str | None = None, **_: Any,
) -> Tensor:  # fmt: skip
    """Axis by axis: the last one by ``first`` where that makes complex numbers, at the end where it makes real ones."""
    *others, last = _along(input, s, dim, planes)
    real_at_the_end = first is _whole
    x = input if real_at_the_end else first(c, input, last[1], last[0], norm)
    for axis, size in others:
        x = rest(c, x, size, axis, norm)
    return first(c, x, last[1], last[0], norm) if real_at_the_end else x  # type: ignore[no-any-return]


_FORWARD, _BACKWARD = partial(_transformed, inverse=False), partial(_transformed, inverse=True)
for _ending, _planes in (("2", True), ("n", False)):
    for _prefix, _first, _rest in (
        ("fft", _FORWARD, _FORWARD),
        ("ifft", _BACKWARD, _BACKWARD),
        ("rfft", _half, _FORWARD),
        ("irfft", _whole, _BACKWARD),
    ):
        _on_pairs(getattr(torch.fft, _prefix + _ending))(partial(_many, _first, _rest, _planes))


@_on_pairs(torch._C._VariableFunctions.stft)  # type: ignore[attr-defined]
def _stft(
    c: ComplexNumbers, input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Tensor | None = None, normalized: bool = False, onesided: bool | None = None, return_complex: bool | None = None,
    align_to_window: bool | None = None, **_: Any,
) -> Tensor:  # fmt: skip
    """Spectra of windows that overlap: (..., bins, windows)."""
    hop = n_fft // 4 if hop_length is None else hop_length
    frames = input.unfold(-1, n_fft, hop)
    if window is None and win_length not in (None, n_fft):
        window = torch.ones(win_length)  # type: ignore[arg-type]
    if window is not None:
        frames = frames * _centred(window, n_fft)
    norm = "ortho" if normalized else None
    found = (
        _half(c, frames, None, -1, norm)
        if onesided is not False
        else _transformed(c, frames, None, -1, norm, False)
    )
    real, imaginary = (part.transpose(-1, -2) for part in c.pair(found))
    return c.joined(real, imaginary) if return_complex else torch.stack([real, imaginary], -1)


def _centred(window: Tensor, n: int) -> Tensor:
    """Padded with zeros on both sides."""
    missing = n - int(window.size(0))
    return torch.nn.functional.pad(window, (missing // 2, missing - missing // 2)) if missing else window


@_on_pairs("istft")
def _istft(
    c: ComplexNumbers, input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Tensor | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
    length: Any = None, return_complex: bool = False,
) -> Tensor:  # fmt: skip
    """Windows laid over each other, over the sum of the squared windows that lie there."""
    if onesided is False or return_complex:
        raise Complex("istft of a two-sided spectrum", users_line())
    hop = n_fft // 4 if hop_length is None else hop_length
    weights = _centred(torch.ones(win_length or n_fft) if window is None else window, n_fft)
    real, imaginary = (part.transpose(-1, -2) for part in c.pair(input))
    frames = _whole(c, c.joined(real, imaginary), n_fft, -1, "ortho" if normalized else None) * weights
    flat = frames if frames.dim() == 3 else frames.unsqueeze(0)
    places = torch.eye(n_fft, dtype=flat.dtype).unsqueeze(1)
    over = torch.nn.functional.conv_transpose1d
    signal = over(flat.transpose(1, 2), places, stride=hop).squeeze(1)
    shares = (weights * weights).unsqueeze(1).expand(-1, flat.size(1)).unsqueeze(0)
    cover = over(shares, places, stride=hop).squeeze(1)
    begin = n_fft // 2 if center else 0
    count = signal.size(-1) - (n_fft if center else 0) if length is None else length
    found = signal.narrow(-1, begin, count) / cover.narrow(-1, begin, count)
    return found if frames.dim() == 3 else found.squeeze(0)


_MAKERS = frozenset(
    function
    for name in ("complex", "polar", "view_as_complex", "istft", "cfloat", "cdouble")
    for function in everywhere(name)
) | {
    function for function in _BODIES if str(getattr(function, "__name__", "")).startswith(("fft_", "stft"))
}.difference(_SHIFTS)
"""What complex numbers come of, or what is made for them, whatever it is given."""

_ABOUT = frozenset(
    {
        Tensor.dtype.__get__, Tensor.shape.__get__, Tensor.ndim.__get__, Tensor.device.__get__, Tensor.size, Tensor.dim,  # type: ignore[attr-defined]
        Tensor.is_complex, torch.is_complex, Tensor.is_floating_point, torch.is_floating_point, Tensor.numel,
        Tensor.__len__, Tensor.stride, Tensor.is_contiguous, Tensor.requires_grad.__get__, Tensor.is_conj, torch.is_conj,  # type: ignore[attr-defined]
    }
)  # fmt: skip
"""What is asked about a tensor, and does not look at its numbers."""
