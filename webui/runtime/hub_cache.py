"""The Hugging Face cache on this machine: what lies in it, without a network and without importing its library.

Its layout is that of `huggingface_hub`: `models--owner--name/snapshots/COMMIT/...`, links to `blobs/`, and `refs/` with
the commit of each branch (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from webui.errors import UserError

OFFLINE_BUT_FOR_DOWNLOADS: Final = "Yes"
"""What the command line sets HF_HUB_OFFLINE to: the library takes it for "1"; only a user's own "1" stops downloads."""

PARTIAL_SUFFIX: Final = ".diffuscope.incomplete"
"""Ends the name of a blob that is being downloaded, so that it can be resumed."""

_FOLDER_PREFIX: Final = "models--"
_SNAPSHOTS: Final = "snapshots"
_ADDRESS: Final = re.compile(
    r"(?:https?://[^/\s]+/)?(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:(?:@|/tree/)(?P<revision>\w(?:[\w./-]*\w)?))?/?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the Hub: "owner/name", and the branch, tag or commit that is meant."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A repository in the cache: `folder` is its newest snapshot, None while there is only a begun download.

    `partial_bytes` are those of files whose download has not ended.
    """

    repo: str
    storage: Path
    folder: Path | None
    partial_bytes: int


def read_hub_id(typed: str) -> HubModel:
    """What someone typed or pasted: "owner/name", "owner/name@revision", or the address of the model's page."""
    match = _ADDRESS.fullmatch(typed.strip())
    if match is None or ".." in typed or "--" in match["repo"]:
        raise UserError("error.hub_bad_id", id=typed.strip()[:100])
    return HubModel(match["repo"], match["revision"] or "main")


def hub_cache_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the Hub's library keeps models: HF_HUB_CACHE, else HF_HOME, else the user's cache folder."""
    if cache := environment.get("HF_HUB_CACHE"):
        return Path(cache).expanduser().absolute()
    home = environment.get("HF_HOME")
    if not home:
        home = str(Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return (Path(home).expanduser() / "hub").absolute()


def cached_models(cache: Path) -> tuple[CachedModel, ...]:
    """The model repositories in `cache`, by name; a folder that cannot be read holds none."""
    try:
        names = sorted(
            item.name for item in os.scandir(cache) if item.is_dir() and item.name.startswith(_FOLDER_PREFIX)
        )
    except OSError:
        return ()
    return tuple(_look(cache / name) for name in names)


def storage_of(cache: Path, repo: str) -> Path:
    """The folder of "owner/name" in the cache, whether it exists or not."""
    return cache / (_FOLDER_PREFIX + repo.replace("/", "--"))


def name_of(folder: Path) -> str:
    """What people call the model in `folder`: "owner/name" for a snapshot, whose own name is a commit."""
    storage = folder.parent.parent
    if folder.parent.name == _SNAPSHOTS and storage.name.startswith(_FOLDER_PREFIX):
        return _repo_of(storage)
    return folder.name


def _look(storage: Path) -> CachedModel:
    partial = sum(file.stat().st_size for file in (storage / "blobs").glob(f"*{PARTIAL_SUFFIX}"))
    return CachedModel(_repo_of(storage), storage, _newest_snapshot(storage), partial)


def _repo_of(storage: Path) -> str:
    return storage.name.removeprefix(_FOLDER_PREFIX).replace("--", "/")


def _newest_snapshot(storage: Path) -> Path | None:
    """The snapshot that "main" points to, or the one changed last."""
    try:
        commit = (storage / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = ""
    named = storage / _SNAPSHOTS / commit
    if re.fullmatch(r"[0-9a-f]{40}", commit) and named.is_dir():
        return named
    try:
        snapshots = [item for item in (storage / _SNAPSHOTS).iterdir() if item.is_dir()]
    except OSError:
        return None
    return max(snapshots, key=lambda item: item.stat().st_mtime, default=None)
