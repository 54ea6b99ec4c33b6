"""What belongs to a Hugging Face model beside its weights: the files of its tokenizer and processors, and its settings."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

from netferry.converters import artifact
from netferry.converters.trust import paths, snapshot

_BESIDE = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model",
    "sentencepiece.bpe.model", "source.spm", "target.spm", "chat_template.jinja", "chat_template.json",
    "preprocessor_config.json", "processor_config.json", "image_processor_config.json", "video_preprocessor_config.json",
    "feature_extractor_config.json",
)  # fmt: skip
"""Files that go with a converted model. No code is among them."""

_PIECE = 1 << 20


def folder_of(source: object) -> Path | None:
    """The Hugging Face folder that ``source`` names; None where it names anything else."""
    if not isinstance(source, str | os.PathLike) or not Path(source).is_dir():
        return None
    return Path(source) if artifact.look(source).kind == "transformers" else None


def beside(source: object, destination: Path) -> tuple[str, ...]:
    """The names of the files that are copied to the folder ``destination``; not of those that stand there as they are."""
    folder = folder_of(source)
    if folder is None or destination.resolve() == folder.resolve():
        return ()
    own = [name for name in _BESIDE if (folder / name).is_file()]
    return tuple(name for name in own if not _is_there(folder / name, destination / name))


def _is_there(file: Path, copy: Path) -> bool:
    if not copy.is_file() or copy.stat().st_size != file.stat().st_size:
        return False
    return filecmp.cmp(file, copy, shallow=False)


def copy_beside(source: object, destination: Path, into: Path) -> None:
    """Copy them to ``into``, which is to become ``destination``; each is read as any foreign file is."""
    folder = folder_of(source)
    for name in beside(source, destination):
        assert folder is not None
        where = str(folder / name)
        with paths.opened_inside(folder, name, where) as file:
            held = snapshot.copied(file, where)
        with held.open() as content, (into / name).open("xb") as target:
            while piece := content.read(_PIECE):
                target.write(piece)
