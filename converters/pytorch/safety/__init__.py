"""What PyTorch's files may hold: archives whose pickles, programs and code call nothing but operators that compute."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from netferry.converters.artifact import Artifact, demand_kind
from netferry.converters.errors import RefusedError
from netferry.converters.pytorch.huggingface import folder
from netferry.converters.pytorch.safety import allowlist, formulas, program, script
from netferry.converters.trust import paths, pickles, snapshot, tables, texts, zips
from netferry.converters.trust.permit import SHOWN, Looked, Permit
from netferry.converters.trust.zips import Archive

_CODE = "Build the model in Python and give package.module:factory with --weights weights.safetensors"
_RESAVE = "Save the state dict of a pickled model where it was made, best as .safetensors"


def look(artifact: Artifact, weights: Path | None = None, permit: Permit | None = None) -> Looked:
    """Look into an exported program (``pt2``), a TorchScript archive or a Hugging Face folder.

    Raises:
        RefusedError: it is damaged, claims more than it has, or would do something else than compute.
    """
    permit = permit or Permit()
    if artifact.kind == "transformers":
        return folder.look(artifact.path, permit, _look_at_weights_inside)
    archive = zips.look(artifact.path, str(artifact.path), tables.PYTORCH)
    demand_kind(artifact, archive.entries)
    _check_entries(archive, artifact.kind)
    return Looked(permit, archive.content, _LOOKS[artifact.kind](archive, permit))


def look_at_weights(path: Path, permit: Permit) -> Looked:
    """Look into a ``.safetensors`` file, or what ``torch.save`` wrote of a state dict, before PyTorch reads it."""
    with paths.opened(path) as file:
        return _look_at_weights(file, str(path), permit)


def _look_at_weights_inside(folder: Path, name: str, permit: Permit) -> Looked:
    """``look_at_weights`` for a file that another file of the folder names."""
    where = str(folder / name) if paths.is_plain(name) else str(folder)
    with paths.opened_inside(folder, name, where) as file:
        return _look_at_weights(file, where, permit)


def _look_at_weights(file: IO[bytes], where: str, permit: Permit) -> Looked:
    is_zip = file.read(2) == b"PK"
    file.seek(0)
    if is_zip:
        archive = zips.look(file, where, tables.PYTORCH)
        _look_at_tensors(archive, permit)
        return Looked(permit, content=archive.content)
    held = snapshot.copied(file, where)
    if held.read(1) == b"\x80":
        _look_at_old_tensors(held.view(), where, permit)
    if where.endswith(".safetensors"):
        _look_at_header(held, where)
    return Looked(permit, content=held)


_LARGEST_HEADER = 100_000_000
"""Bytes of the JSON that a safetensors file begins with, by its own rules."""


def _look_at_header(held: snapshot.Snapshot, where: str) -> None:
    """Of a safetensors file: that it names each tensor once. All else its own reader holds against the file."""
    length = int.from_bytes(held.read(8), "little")
    if length <= min(held.size - 8, _LARGEST_HEADER):
        texts.document(held.read(length, 8), where)


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


def _look_at_tensors(archive: Archive, permit: Permit, known: frozenset[str] = allowlist.TENSORS) -> None:
    """An archive of ``torch.save`` or of TorchScript: its pickles, and the storages that they claim."""
    for name in archive.entries:
        if not name.lower().endswith(".pkl"):
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
        known is allowlist.SCRIPT_GLOBALS
        and name.startswith("__torch__.")
        and not name.startswith("__torch__.torch.classes")
    )


def _look_at_old_tensors(left: memoryview, where: str, permit: Permit) -> None:
    """What PyTorch wrote before 1.6: five pickles in a row (number, version, system, state, keys), then the storages."""
    size = len(left)
    for _ in range(5):
        end = _look_at_pickle(bytes(left), where, permit, allowlist.TENSORS)
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
            yield str(claim[2]), claim[4], allowlist.NUMBERS.get(kind, 1)


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

_PROGRAMS = re.compile(r"([^/]+/)?models/.*|serialized_exported_program\.json", re.IGNORECASE)
_PAYLOADS = re.compile(r"[^/]+/data/(weights|constants)/[^/]*_config\.json", re.IGNORECASE)
_EXAMPLES = re.compile(r"[^/]+/data/sample_inputs/.*|serialized_example_inputs\.pt", re.IGNORECASE)
"""Entries by what PyTorch reads them as; it reads names in any case."""

_FOREIGN = re.compile(
    r"(.*/)?(data/aotinductor/.*|data/constants/(custom_obj|opaque_obj)_.*|.*\.(so|dll|dylib|pyd))",
    re.IGNORECASE,
)


def _look_at_program(archive: Archive, permit: Permit) -> None:
    foreign = {name for name in archive.entries if _FOREIGN.fullmatch(name)}
    permit.ask("compiled code or objects of classes of their own", foreign, archive.where, _CODE)
    for name in archive.entries:
        where = f"{archive.where}: {name}"
        if _PROGRAMS.fullmatch(name):
            found = texts.document(archive.read(name), where)
            program.check(found, "ExportedProgram", where, permit)
            formulas.check(sorted(program.sizes(found, where)), where)
        elif _PAYLOADS.fullmatch(name):
            found = texts.document(archive.read(name), where)
            program.check(found, "PayloadConfig", where, permit)
            _check_payloads(found, archive, name, permit)
        elif name.lower().endswith(".pt"):
            inner = zips.look(archive.read(name), where, tables.PYTORCH)
            _look_at_tensors(inner, permit)
            if _EXAMPLES.fullmatch(name):
                _look_at_keys(inner, permit)


def _look_at_keys(archive: Archive, permit: Permit) -> None:
    """The keys of example inputs, which PyTorch writes into the code of guards."""
    for name in archive.entries:
        if name.endswith(".pkl"):
            where = f"{archive.where}: {name}"
            strange = {
                text for text in pickles.texts_of(archive.read(name), where) if not program.is_plain(text)
            }
            permit.ask("names that are none and would be written into code", strange, where, _CODE)


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
    if all(dims) and (last + 1) * allowlist.SCALARS.get(meta["dtype"], 1) > size:
        raise RefusedError(
            "a tensor larger than its content", where=where, expected=f"{dims}", received=f"{size} bytes"
        )


# ---- TorchScript ---------------------------------------------------------------------------------


def _look_at_script(archive: Archive, permit: Permit) -> frozenset[str]:
    """The names of its classes' own attributes, which PyTorch must not take for operators (``hidden``)."""
    _look_at_tensors(archive, permit, allowlist.SCRIPT_GLOBALS)
    trees = [
        script.parsed(archive.read(name), f"{archive.where}: {name}")
        for name in archive.entries
        if name.lower().endswith(".py")
    ]
    own = script.attributes(trees)
    found = {name for tree in trees for name in script.strange(tree, own)}
    permit.ask(_SCRIPT, found, archive.where, _CODE)
    return own - allowlist.ATEN


_SCRIPT = "TorchScript code with operators that are on no list"


def refuse_hidden(looked: Looked, where: str) -> None:
    """Refuse classes whose attributes are called as operators that are on no list: of a tensor, the same word means these.

    Asked once PyTorch is there to say how its operators are called.
    """
    from torch._C import _jit_get_schemas_for_operator as schemas

    hidden = {name for name in looked.message or () if schemas(f"aten::{name}")}
    looked.permit.ask(_SCRIPT, hidden, where, _CODE)


_LOOKS: Mapping[str, Callable[[Archive, Permit], Any]] = {
    "pt2": _look_at_program,
    "torchscript": _look_at_script,
}
