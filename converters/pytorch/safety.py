"""What PyTorch's files may hold: archives whose pickles, programs and code call nothing but operators that compute."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.converters.artifact import Artifact, demand_kind
from netferry.converters.errors import RefusedError
from netferry.converters.pytorch import trusted
from netferry.converters.trust import paths, pickles, snapshot, tables, texts, zips
from netferry.converters.trust.permit import SHOWN, Looked, Permit
from netferry.converters.trust.zips import Archive

_CODE = "Build the model in Python and give package.module:factory with --weights weights.safetensors"
_RESAVE = "Save the state dict of a pickled model where it was made, best as .safetensors"


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into an exported program (``pt2``) or a TorchScript archive.

    Raises:
        RefusedError: it is damaged, claims more than it has, or would do something else than compute.
    """
    permit = permit or Permit()
    archive = zips.look(artifact.path, str(artifact.path), tables.PYTORCH)
    demand_kind(artifact, archive.entries)
    _check_entries(archive, artifact.kind)
    _LOOKS[artifact.kind](archive, permit)
    return Looked(permit, content=archive.content)


def look_at_weights(path: Path, permit: Permit) -> Looked:
    """Look into a ``.safetensors`` file, or what ``torch.save`` wrote of a state dict, before PyTorch reads it."""
    with paths.opened(path) as file:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        if is_zip:
            archive = zips.look(file, str(path), tables.PYTORCH)
            _look_at_tensors(archive, permit)
            return Looked(permit, content=archive.content)
        held = snapshot.copied(file, str(path))
    if held.read(1) == b"\x80":
        _look_at_old_tensors(held.view(), str(path), permit)
    return Looked(permit, content=held)


# ---- entries -------------------------------------------------------------------------------------

_ENTRIES: Mapping[str, re.Pattern[str]] = {
    "pt2": re.compile(
        r"archive_(format|version)|byteorder|version|\.(data/[^/]+|format_version|storage_alignment)|extra/.+"
        r"|models/[^/]+\.json|data/sample_inputs/[^/]+\.pt|data/(weights|constants|aotinductor)/.+|executorch/.+"
    ),
    "old pt2": re.compile(
        r"version|serialized_(exported_program\.json|(state_dict|constants|example_inputs)\.pt)|extra_files/.+"
    ),
    "torchscript": re.compile(
        r"byteorder|version|\.(data/[^/]+|format_version|storage_alignment)|extra/.+"
        r"|\w+\.pkl|\w+/\d+|code/.+\.(py|debug_pkl)"
    ),
}
"""The entries that PyTorch writes. It reads others too, each as something of its own: none that is not looked at gets there."""


def _check_entries(archive: Archive, kind: str) -> None:
    below = f"{zips.FOLDER}/"
    if kind == "pt2" and not any(name.startswith(below) for name in archive.entries):
        kind, below = "old pt2", ""
    strange = [name for name in archive.entries if not _ENTRIES[kind].fullmatch(name.removeprefix(below))]
    if strange:
        raise RefusedError(
            "it holds entries that PyTorch does not write",
            where=archive.where,
            received=", ".join(sorted(strange)[:SHOWN]),
        )


# ---- pickles of tensors --------------------------------------------------------------------------


def _look_at_tensors(archive: Archive, permit: Permit, known: frozenset[str] = trusted.TENSORS) -> None:
    """An archive of ``torch.save`` or of TorchScript: its pickles, and the storages that they claim."""
    for name in archive.entries:
        if not name.endswith(".pkl"):
            continue
        content, where = archive.read(name), f"{archive.where}: {name}"
        _look_at_pickle(content, where, permit, known)
        folder = re.sub(r"\.pkl$", "", name)
        if not permit.unsafe and folder.rpartition("/")[2] in ("data", "constants"):
            _check_storages(pickles.claims(content, where), archive, folder)


def _look_at_pickle(content: bytes, where: str, permit: Permit, known: frozenset[str]) -> int:
    found, end = pickles.globals_of(content, where)
    strange = {name for name in found if name not in known and not _is_script_class(name, known)}
    permit.ask("a pickle that calls more than tensors need", strange, where, _RESAVE)
    return end


def _is_script_class(name: str, known: frozenset[str]) -> bool:
    """A class of TorchScript code that lies in the same archive; ``torch.classes`` are compiled ones."""
    return (
        known is trusted.SCRIPT_GLOBALS
        and name.startswith("__torch__.")
        and not name.startswith("__torch__.torch.classes")
    )


def _look_at_old_tensors(left: memoryview, where: str, permit: Permit) -> None:
    """What PyTorch wrote before 1.6: five pickles in a row (number, version, system, state, keys), then the storages."""
    size = len(left)
    for _ in range(5):
        end = _look_at_pickle(bytes(left), where, permit, trusted.TENSORS)
        for _, numbers, each in _storages(
            pickles.claims(bytes(left[:end]), where) if not permit.unsafe else ()
        ):
            if numbers * each > size:
                raise RefusedError(
                    "it claims a storage that is not there", where=where, received=f"{numbers} numbers"
                )
        left = left[end:]


def _storages(claims: Iterable[Any]) -> Iterator[tuple[str, int, int]]:
    """Key, count of numbers and bytes of each, of a pickle's ('storage', type, key, location, count)."""
    for claim in claims:
        if (
            isinstance(claim, tuple)
            and len(claim) >= 5
            and claim[0] == "storage"
            and isinstance(claim[4], int)
        ):
            kind = str(claim[1]).rpartition(".")[2].removesuffix("Storage")
            yield str(claim[2]), claim[4], trusted.NUMBERS.get(kind, 1)


def _check_storages(claims: Iterable[Any], archive: Archive, folder: str) -> None:
    """PyTorch takes the count that the pickle states, whatever the entry holds."""
    for key, numbers, size in _storages(claims):
        entry = archive.entries.get(f"{folder}/{key}".lower())
        if entry is None or numbers < 0 or numbers * size > entry.file_size:
            raise RefusedError(
                f"it claims a storage that is not there ({key})",
                where=archive.where,
                expected=f"{numbers * size} bytes",
                received="none" if entry is None else f"{entry.file_size} bytes",
            )


# ---- exported programs ---------------------------------------------------------------------------

_SIZE_WORDS = frozenset(
    """
    Add Mul Pow Mod Min Max Eq Ne Lt Le Gt Ge And Or Not Integer Rational Float Symbol Abs floor ceiling Piecewise
    FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow
    FloatTrueDiv IntTrueDiv IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat
    Identity Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan ExprCondPair
    """.split()
)
_SIZE_NAMES = re.compile(
    r"[suz]\d+|zuf\d+|zf\d+|true|false|oo|int_oo|positive|integer|nonnegative|real|nonzero|precision"
)
_GROWING = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_LONGEST, _LARGEST_POWER = 10_000, 64
_ARITHMETIC = (
    ast.Expression, ast.Constant, ast.Load, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.UnaryOp, ast.USub, ast.UAdd, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Tuple,
    ast.keyword,
)  # fmt: skip
_OPERATOR = re.compile(r"torch\.ops\.(?P<family>\w+)\.(?P<name>\w+)(\.\w+)?")
_FAMILIES: Mapping[str, frozenset[str]] = {
    "aten": trusted.ATEN,
    "prims": trusted.PRIMS,
    "higher_order": trusted.HIGHER_ORDER,
    "quantized_decomposed": trusted.QUANTIZED,
}
_FOREIGN = re.compile(
    r"(.*/)?(data/aotinductor/.*|data/constants/(custom_obj|opaque_obj)_.*|.*\.(so|dll|dylib|pyd))"
)


def _look_at_program(archive: Archive, permit: Permit) -> None:
    foreign = {name for name in archive.entries if _FOREIGN.fullmatch(name)}
    permit.ask("compiled code or objects of classes of their own", foreign, archive.where, _CODE)
    for name in archive.entries:
        if name.endswith(".pt"):
            inner = zips.look(archive.read(name), f"{archive.where}: {name}", tables.PYTORCH)
            _look_at_tensors(inner, permit)
        elif name.endswith(".json"):
            _look_at_json(archive, name, permit)


def _look_at_json(archive: Archive, name: str, permit: Permit) -> None:
    where = f"{archive.where}: {name}"
    found = texts.document(archive.read(name), where)
    if name.endswith("_config.json"):
        _check_payloads(found, archive, name, permit)
    operators: set[str] = set()
    sizes: set[str] = set()
    for each in texts.mappings(found, where):
        if isinstance(target := each.get("target"), str) and "inputs" in each:
            operators.add(target)
        sizes |= {text for key in ("expr_str", "as_expr") if isinstance(text := each.get(key), str)}
        if isinstance(ranges := each.get("range_constraints"), dict):
            sizes |= set(ranges)
    permit.ask(
        "operators that are on no list", {one for one in operators if not _computes(one)}, where, _CODE
    )
    permit.ask("sizes that are no arithmetic", {text for text in sizes if not _is_size(text)}, where, _CODE)


def _computes(target: str) -> bool:
    if target in trusted.PYTHON:
        return True
    match = _OPERATOR.fullmatch(target)
    return match is not None and match["name"] in _FAMILIES.get(match["family"], ())


def _is_size(text: str) -> bool:
    """PyTorch hands these texts to sympy, which evaluates them as Python: only arithmetic on sizes gets there."""
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= _LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    return tree is not None and all(map(_is_arithmetic, ast.walk(tree)))


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _SIZE_WORDS or _SIZE_NAMES.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        return name in _SIZE_WORDS and (name not in _GROWING or all(map(_is_small, node.args)))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (
            _SIZE_NAMES.fullmatch(node.value) is not None
            or re.fullmatch(r"-?[\d.]{1,40}", node.value) is not None
        )
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return abs(node.value) < 1 << 64
    return isinstance(node, _ARITHMETIC) and not (
        isinstance(node, ast.Constant) and isinstance(node.value, bytes)
    )


def _is_small(node: ast.expr) -> bool:
    """A part that stays a symbol, or a number that no power makes large."""
    inside = list(ast.walk(node))
    if any(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in inside):
        return True
    numbers = [each.value for each in inside if isinstance(each, ast.Constant)]
    return all(
        isinstance(number, int | float) and abs(number) <= _LARGEST_POWER for number in numbers
    ) and not any(
        isinstance(each, ast.BinOp)
        or (isinstance(each, ast.Call) and getattr(each.func, "id", "") in _GROWING)
        for each in inside
    )


def _check_payloads(found: Any, archive: Archive, name: str, permit: Permit) -> None:
    """The tensors of an exported program: each lies inside its own entry."""
    config = found.get("config") if isinstance(found, dict) else None
    if not isinstance(config, dict):
        raise RefusedError("not a table of tensors", where=f"{archive.where}: {name}")
    folder = name.rpartition("/")[0]
    for key, payload in config.items():
        where = f"{archive.where}: {key}"
        try:
            entry = archive.entries.get(f"{folder}/{payload['path_name']}".lower())
            if entry is None:
                raise RefusedError(
                    "a tensor whose entry is missing", where=where, received=payload["path_name"]
                )
            if payload["use_pickle"]:
                _look_at_tensors(zips.look(archive.read(entry.filename), where, tables.PYTORCH), permit)
            elif (meta := payload["tensor_meta"]) is not None:
                _check_extent(meta, entry.file_size, where)
        except (KeyError, TypeError, AttributeError) as error:
            raise RefusedError(f"not a table of tensors ({error!r})", where=where) from error


def _check_extent(meta: Mapping[str, Any], size: int, where: str) -> None:
    dims, strides = ([one["as_int"] for one in meta[key]] for key in ("sizes", "strides"))
    offset = meta["storage_offset"]["as_int"]
    numbers = [*dims, *strides, offset]
    if len(dims) != len(strides) or any(type(one) is not int or one < 0 for one in numbers):
        raise RefusedError(
            "a tensor whose sizes cannot be", where=where, received=f"{dims} with strides {strides}"
        )
    last = offset + sum((dim - 1) * stride for dim, stride in zip(dims, strides, strict=True))
    if all(dims) and (last + 1) * trusted.SCALARS.get(meta["dtype"], 1) > size:
        raise RefusedError(
            "a tensor larger than its content", where=where, expected=f"{dims}", received=f"{size} bytes"
        )


# ---- TorchScript ---------------------------------------------------------------------------------


def _look_at_script(archive: Archive, permit: Permit) -> None:
    _look_at_tensors(archive, permit, trusted.SCRIPT_GLOBALS)
    strange: set[str] = set()
    for name in archive.entries:
        if name.endswith(".py"):
            strange |= set(_strange_calls(_parsed(archive.read(name), f"{archive.where}: {name}")))
    permit.ask("TorchScript code with operators that are on no list", strange, archive.where, _CODE)


def _parsed(code: bytes, where: str) -> ast.Module:
    """TorchScript's code is written in Python's grammar; what Python reads otherwise is not let through."""
    try:
        return ast.parse(code.decode("ascii"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RefusedError(
            f"TorchScript code that cannot be read ({type(error).__name__})", where=where
        ) from error


def _strange_calls(tree: ast.Module) -> Iterator[str]:
    """Operators by their dotted names, and words that the code neither defines nor may use."""
    nodes = list(ast.walk(tree))
    inner = {node.value for node in nodes if isinstance(node, ast.Attribute)}
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    known = own | trusted.SCRIPT_WORDS
    for node in nodes:
        if isinstance(node, ast.Attribute) and node not in inner:
            chain = _chain(node)
            if chain and not _is_known(chain):
                yield ".".join(chain)
        elif isinstance(node, ast.Name) and node not in inner and node.id not in known:
            yield node.id
    yield from own & {"torch", "ops"}


def _chain(node: ast.Attribute) -> Sequence[str]:
    """``torch.relu`` as its words; empty where it does not start at ``torch``, ``ops`` or a compiled class."""
    words: list[str] = []
    current: ast.expr = node
    while isinstance(current, ast.Attribute):
        words.insert(0, current.attr)
        current = current.value
    if not isinstance(current, ast.Name):
        return ()
    words.insert(0, current.id)
    return words if current.id in ("torch", "ops") or words[:3] == ["__torch__", "torch", "classes"] else ()


def _is_known(chain: Sequence[str]) -> bool:
    family, name = ".".join(chain[:-1]), chain[-1]
    return name in _SCRIPT_FAMILIES.get(family, ())


_SCRIPT_FAMILIES: Mapping[str, frozenset[str]] = {
    "torch": trusted.ATEN,
    "ops.aten": trusted.ATEN,
    "ops.prim": trusted.PRIM,
}
_LOOKS = {"pt2": _look_at_program, "torchscript": _look_at_script}
