"""A certificate: what was compared, on which inputs, with which versions, and what came out; and whether that still holds.

The document is JSON with sorted keys and without machine paths: the same comparison gives the same bytes. Its
``digest`` is a SHA-256 over the rest, so that a change by hand is noticed. It is no signature: who can write the file
can also compute the digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netferry.converters import artifact, escaping, source
from netferry.converters.disk import staging
from netferry.converters.disk.digests import below, code_of, of_file
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import RefusedError, UsageError, WriteError
from netferry.converters.onnx.files import external_files
from netferry.converters.signature import Array, Example
from netferry.converters.trust import snapshot
from netferry.converters.trust.paths import is_plain, opened_inside, regular
from netferry.inference.intermediate import weights
from netferry.validation.comparison import metrics
from netferry.validation.reports import certificate_form
from netferry.validation.reports.report import Report, finite, versions

FORMAT = 1
MODEL, PARAMS, CODE = "(the model)", "(its parameters)", "(its code)"
"""What stands for files whose names do not matter: a copy under another name is the same model."""


@dataclass(frozen=True)
class Subject:
    """A model as the caller named it (a path, ``package.module:factory``, or live), and what was opened for it."""

    named: object
    opened: object
    weights: str | os.PathLike[str] | None = None


_LARGEST = 64 << 20
"""Bytes of a certificate; one of many inputs and outputs has some hundred thousand."""

# ---- writing ----------------------------------------------------------------------------------------


def write(
    path: Path,
    report: Report,
    subjects: tuple[Subject, Subject],
    given: Sequence[Example] | None,
    options: Mapping[str, Any],
    replacing: Overwriting | None = None,
) -> None:
    """Write what ``report`` proves; ``options`` are what the comparison was called with beside models and inputs."""
    document = finite(
        {
            "format": FORMAT,
            "source": identity(subjects[0], path.parent),
            "target": identity(subjects[1], path.parent),
            "inputs": {
                "given": None if given is None else [_shown(example) for example in given],
                "samples": list(report.samples),
                "data": None if report.data is None else dict(report.data),
            },
            "options": dict(options),
            "limits": _limits(),
            "versions": dict(report.versions or versions()),
            "verdict": _verdict(report),
        }
    )
    document = json.loads(_text(document))
    document["digest"] = _digest(document)
    if not path.parent.is_dir():
        raise WriteError("there is no such folder", where=str(path.parent))
    with staging.staged(path, "certificate", replacing) as stage:
        stage.write_text(_text(document), encoding="utf-8")


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _digest(document: Mapping[str, Any]) -> str:
    """Over everything but the digest itself, written without spaces."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _verdict(report: Report) -> dict[str, Any]:
    """The report without what stands elsewhere in the certificate, and without what is of the machine alone."""
    return {
        k: v
        for k, v in report.to_dict().items()
        if k not in ("versions", "samples", "source", "target", "data", "sandbox")
    }


def _limits() -> dict[str, Any]:
    """The numbers that the comparator holds a difference against: the module's public constants."""
    found: dict[str, Any] = {}
    for name, value in vars(metrics).items():
        if name.isupper() and isinstance(value, int | float | Mapping):
            found[name] = dict(value) if isinstance(value, Mapping) else value
    return found


def _shown(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "dtype": example.array.dtype.name,
        "shape": list(example.array.shape),
        "free": {str(axis): symbol for axis, symbol in example.free.items()},
        "asked": example.asked,
        "sha256": _of_array(example.array),
    }


# ---- what a model is --------------------------------------------------------------------------------


def identity(subject: Subject, folder: Path) -> dict[str, Any]:
    """A model by the hashes of its files; what Python builds, by those of its code's file and of its weights."""
    named = subject.named
    base: dict[str, Any] = {"title": source.title(named), "path": None, "factory": None, "files": {}}
    if isinstance(named, str | os.PathLike) and os.path.lexists(named):
        files = files_of(Path(named), subject.weights)
        return base | {"path": _relative(Path(named), folder), "files": _hashes(files)}
    if isinstance(named, str | os.PathLike):
        files = code_files(os.fspath(named))
        name = base["title"].rpartition("/")[2]
        return base | {
            "title": name,
            "factory": name,
            "files": _hashes(files),
            "weights": _of_weights(subject.opened),
        }
    return base | {"weights": _of_weights(subject.opened)}


def _relative(path: Path, folder: Path) -> str:
    """Seen from the certificate where it lies at or below its folder, else its name alone."""
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def code_files(factory: str) -> dict[str, Path]:
    """The files of a factory's code: the one that it stands in, whose name does not matter, and what that uses."""
    files = code_of(factory)
    first = next(iter(files), None)
    return {CODE if name == first else name: file for name, file in files.items()}


def files_of(path: Path, chosen: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Every file that a model on disk is made of, by its path relative to the model's own."""
    found = artifact.look(path)
    if found.path.is_dir():
        return below(found.path)
    files = {MODEL: found.path}
    if found.kind == "onnx":
        content = snapshot.mapped(found.path)
        outer = external_files(content.view(), found.path.parent, str(found.path))
        for name in outer:
            opened_inside(found.path.parent, name, str(found.path)).close()
        files |= {name: found.path.parent / name for name in outer}
    extra = Path(chosen) if chosen is not None else next(iter(found.companions[-1:]), None)
    return files if extra is None else files | {PARAMS: extra}


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    return {name: of_file(file) for name, file in files.items()}


def _of_array(array: Array) -> str:
    digest = hashlib.sha256(
        f"{array.dtype.str if array.dtype.kind != 'V' else array.dtype.name}{array.shape}".encode()
    )
    digest.update(repr(array.tolist()).encode() if array.dtype.kind in "OUS" else array.tobytes())
    return digest.hexdigest()


def _of_weights(model: object) -> str:
    """Over the names and the contents of all weights, in the order of their names."""
    digest = hashlib.sha256()
    for name, content in sorted((name, _of_array(array)) for name, array in weights(model)):
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()


# ---- checking ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """Whether a certificate still holds: what has changed since, and the verdict then and now."""

    certificate: str
    was: str
    now: str
    changed: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    verdict: tuple[str, ...] = ()
    report: Report | None = None
    options: str = ""

    @property
    def holds(self) -> bool:
        """Nothing that was compared has changed, and the comparison comes out as it did."""
        return not self.changed and not self.verdict

    def to_dict(self) -> dict[str, Any]:
        return {
            "certificate": self.certificate, "holds": self.holds, "was": self.was, "now": self.now,
            "options": self.options,
            "changed": list(self.changed), "versions": list(self.versions), "verdict": list(self.verdict),
            "report": None if self.report is None else self.report.to_dict(),
        }  # fmt: skip

    def to_text(self) -> str:
        head = "still holds" if self.holds else "does not hold any more"
        own = f", compared with {self.options}" if self.options else ""
        lines = [f"{self.certificate} {head}{own}: the verdict was {self.was} and is {self.now}"]
        lines += [f"  changed: {line}" for line in self.changed]
        lines += [f"  verdict: {line}" for line in self.verdict]
        lines += [f"  another version: {line}" for line in self.versions]
        return "\n".join(map(escaping.line, lines))


@dataclass(frozen=True)
class Certificate:
    """A certificate as it was read, known to be as netferry wrote it."""

    path: Path
    document: Mapping[str, Any]

    def subject(self, side: str, given: object | None) -> object:
        """The model of a side: as it is given, else at its path relative to the certificate.

        Code is run only where the caller names it: a certificate may come from anyone.
        """
        if given is not None:
            return given
        one = self.document[side]
        path = self.path.parent / (one["path"] or "") if is_plain(one["path"] or "..") else None
        if path is None or not _lies_beside(path, self.path.parent):
            raise UsageError(
                f"the {side} of the certificate, {one['title']}, is code or a live model, or is not beside it",
                where=str(self.path),
                remedy="Name both models: netferry verify --check F A B",
            )
        return str(path)

    @property
    def options(self) -> dict[str, Any]:
        """What to repeat the comparison with: options that were looked at, and no others."""
        return certificate_form.of_the_user(self.document["options"])

    def inputs(self, given: Sequence[Example] | None, data: bool = False) -> Sequence[Example] | None:
        """The inputs to repeat it on; data that was given then must be given again, and be the same."""
        wanted = self.document["inputs"]["given"]
        if self.document["inputs"].get("data") is not None and not data:
            raise UsageError(
                f"the certificate stands on rows of {self.document['inputs']['data']['name']}",
                where=str(self.path),
                remedy="Give the data again: --data as it was, or data=",
            )
        if wanted is not None and given is None:
            names = ", ".join(one["name"] for one in wanted)
            raise UsageError(
                f"the certificate stands on inputs that were given ({names})",
                where=str(self.path),
                remedy="Give them again: --input as it was, or inputs=",
            )
        return given

    def check(
        self,
        subjects: tuple[Subject, Subject],
        given: Sequence[Example] | None,
        compare: Callable[[], Report],
    ) -> Check:
        """Hash what is to be compared, compare it again, and report what is not as it was."""
        changed = [
            line
            for side, subject in zip(("source", "target"), subjects, strict=True)
            for line in _changes(side, self.document[side], identity(subject, self.path.parent))
        ]
        listed = None if given is None else [_shown(example) for example in given]
        if listed != self.document["inputs"]["given"]:
            changed.append("the inputs are not those that were given")
        report = compare()
        if report.data != self.document["inputs"].get("data"):
            changed.append("the rows of data are not those that were given")
        was = self.document["verdict"]
        moved = tuple(_moves(self.document["versions"], dict(report.versions or versions())))
        if _limits() != self.document["limits"]:
            moved += ("the comparator holds differences against other limits",)
        return Check(
            self.path.name, was["status"], report.status, tuple(changed), moved,
            tuple(_verdicts(was, finite(_verdict(report)))), report,
            certificate_form.options_text(self.document["options"]),
        )  # fmt: skip


def read(path: Path) -> Certificate:
    """Read a certificate; one that is damaged, of another format or changed by hand is refused."""
    where = str(path)
    try:
        with regular(path).open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise RefusedError(f"cannot be read ({error.strerror})", where=where) from error
    if len(text) > _LARGEST:
        raise RefusedError("larger than a certificate is", where=where, expected=f"at most {_LARGEST} bytes")
    document = certificate_form.parsed(text, where)
    if type(document["format"]) is not int or document["format"] != FORMAT:
        raise RefusedError(
            "a certificate of another format",
            where=where,
            expected=FORMAT,
            received=str(document["format"])[:60],
        )
    certificate_form.demand(document, where)
    if document["digest"] != _digest(document):
        raise RefusedError(
            "the certificate was changed after it was written",
            where=where,
            expected=f"the digest {document['digest']}",
            received=_digest(document),
            remedy="Make it again: netferry verify A B --certificate F",
        )
    return Certificate(path, document)


def _lies_beside(path: Path, folder: Path) -> bool:
    """Whether a model is there, and neither it nor a file of it is a link that leads out of the certificate's folder."""
    home = folder.resolve()
    try:
        if not path.resolve(strict=True).is_relative_to(home):
            return False
        files = files_of(path, None).values()
    except RefusedError:
        return True  # what is wrong with it is reported when it is opened
    except (OSError, RuntimeError):
        return False
    return all(file.resolve().is_relative_to(home) for file in files)


def _changes(side: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*was["files"], *now["files"]}):
        before, after = was["files"].get(name), now["files"].get(name)
        if before != after:
            what = "is new" if before is None else "is gone" if after is None else "has another content"
            yield f"{now['title']}, the {side}: {name} {what}"
    if was.get("weights") != now.get("weights") and None not in (was.get("weights"), now.get("weights")):
        yield f"the weights of the {side} are others"


def _moves(was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            yield f"{name} {was.get(name, 'not installed')}, now {now.get(name, 'not installed')}"


def _verdicts(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What came out otherwise: the status of the whole and of each output. Numbers may move within a status."""
    if was["status"] != now["status"]:
        yield f"{was['status']}, now {now['status']}"
    before, after = ({o["name"]: o["status"] for o in side["outputs"]} for side in (was, now))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"output {name}: {before.get(name, 'not there')}, now {after.get(name, 'not there')}"
