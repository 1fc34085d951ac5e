"""Which files of a Hub repository a download takes: what is read here, in one variant, and never a pickle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from webui.errors import UserError
from webui.runtime import safety
from webui.runtime.entries import TXT2IMG
from webui.runtime.listing import task_of_type

MODEL_INDEX: Final = "model_index.json"
CONFIG: Final = "config.json"

_NAME: Final = re.compile(r"\w[\w. -]*(/\w[\w. -]*)?", re.ASCII)
_SMALL_SUFFIXES: Final = (".json", ".txt", ".model")
_CARD: Final = re.compile(r"readme\.md|licen[sc]e([._-].*)?", re.IGNORECASE)
_MAX_CARD_BYTES: Final = 2**20
_PICKLES: Final = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")
_HALF: Final = "fp16"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository: its path there, and its size in bytes."""

    name: str
    size: int


def task_in(repo: str, index: Mapping[str, Any] | None, config: Mapping[str, Any] | None) -> str:
    """The task of a repository, by its model_index.json or config.json.

    Raises UserError for what cannot be loaded here, so that nothing large is downloaded in vain.
    """
    if index is not None:
        safety.check_model_index(Path(repo) / MODEL_INDEX, index)
        return TXT2IMG
    if config is None:
        raise UserError("error.hub_no_model", id=repo)
    model_type = str(config.get("model_type"))
    task = task_of_type(model_type)
    if task is None:
        raise UserError("error.model_not_supported", file=f"{repo}/{CONFIG}", name=model_type)
    return task


def choose_files(
    repo: str, files: Iterable[HubFile], index: Mapping[str, Any] | None, *, half: bool
) -> tuple[HubFile, ...]:
    """What to download of `files`: configuration, tokenizer, card, and the safetensors of one variant.

    `index` is the parsed model_index.json of a pipeline, None for a single model. `half` prefers fp16 files where there
    are any. Raises UserError when there are no safetensors.
    """
    sizes = {file.name: file.size for file in files if _NAME.fullmatch(file.name) and ".." not in file.name}
    chosen = [name for name, size in sizes.items() if _CARD.fullmatch(name) and size <= _MAX_CARD_BYTES]
    if index is None:
        chosen += _small_files(sizes, "") + _weights(repo, sizes, "", safety.TRANSFORMERS_STEM, half=half)
    else:
        chosen.append(MODEL_INDEX)
        for part in _parts(index):
            chosen += _small_files(sizes, f"{part}/")
            if part != "scheduler" and not part.startswith("tokenizer"):
                stem = safety.TRANSFORMERS_STEM if "encoder" in part else safety.DIFFUSERS_STEM
                chosen += _weights(repo, sizes, f"{part}/", stem, half=half)
    return tuple(HubFile(name, sizes[name]) for name in dict.fromkeys(chosen) if name in sizes)


def _parts(index: Mapping[str, Any]) -> list[str]:
    """The parts that are loaded: those with a class, without the ones that are never used here."""
    named = {name: value for name, value in index.items() if isinstance(value, list) and value != [None, None]}
    return [name for name in named if name not in safety.UNUSED_PARTS]


def _small_files(sizes: Mapping[str, int], folder: str) -> list[str]:
    """The configuration and the tokenizer that lie directly in `folder`."""
    found = [
        name
        for name, size in sizes.items()
        if str(PurePosixPath(name).parent) == (folder.rstrip("/") or ".")
        and name.endswith(_SMALL_SUFFIXES)
        and not name.endswith(".index.json")
        and ".index." not in name
        and name != MODEL_INDEX
        and size <= safety.MAX_JSON_BYTES
    ]
    if f"{folder}tokenizer.json" in sizes:  # the same as the SentencePiece model, and what is read
        found = [name for name in found if not name.endswith(".model")]
    return found


def _weights(repo: str, sizes: Mapping[str, int], folder: str, stem: str, *, half: bool) -> list[str]:
    """The safetensors in `folder` as `safety.find_weights` will look for them: whole, or in shards with an index."""
    for variant in (_HALF, None) if half else (None, _HALF):
        infix = f".{variant}" if variant else ""
        whole = f"{folder}{stem}{infix}.safetensors"
        if whole in sizes:
            return [whole]
        for name in (f"{stem}.safetensors.index{infix}.json", f"{stem}{infix}.safetensors.index.json"):
            if folder + name in sizes:
                return [folder + name, *_shards(sizes, folder + stem, infix)]
    if any(name.startswith(folder) and name.endswith(_PICKLES) for name in sizes):
        raise UserError("error.hub_pickle_only", id=repo)
    raise UserError("error.hub_no_weights", id=repo, folder=folder or "/")


def _shards(sizes: Mapping[str, int], stem: str, infix: str) -> list[str]:
    variant = re.escape(infix)
    pattern = re.compile(rf"{re.escape(stem)}({variant})?-\d{{5}}-of-\d{{5}}({variant})?\.safetensors")
    return sorted(name for name in sizes if pattern.fullmatch(name) and infix in name)
