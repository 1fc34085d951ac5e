"""What the owner of this machine does with models: look one up, download it, load it, let it go.

All of it is refused in remote mode: it fills the disk and the memory of this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.runtime.added import AddedPaths
from webui.runtime.catalog import Catalog
from webui.runtime.download import DownloadPlan
from webui.runtime.entries import CatalogEntry
from webui.runtime.hub_cache import read_hub_id
from webui.runtime.jobs import JobContext
from webui.runtime.listing import task_of_folder
from webui.runtime.status import LoadedModelStatus
from webui.runtime.weight_files import WeightFile
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.views.models_page import loaded_id

LOAD = "load"
"""The kind of the job that loads a model."""
_PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin")


def look_up(studio: Studio, typed: str, *, half: bool = False) -> DownloadPlan:
    """Ask the Hub how large a model is; `typed` is its id or address. Raises UserError that says what to do."""
    _check_owner(studio)
    return studio.downloads.downloader.plan(read_hub_id(typed), half=half)


def is_path(typed: str) -> bool:
    """Whether somebody means a place on this machine, not a model of the Hub."""
    return typed.strip().startswith(("/", "~", ".")) or "\\" in typed or typed.strip().endswith(".safetensors")


def add_path(studio: Studio, typed: str) -> str:
    """List the model in the folder or file `typed`, where it is; returns its name. Raises UserError."""
    _check_owner(studio)
    return name_path(studio.catalog, typed)


def forget_path(studio: Studio, path: str) -> None:
    """List it no longer; nothing is deleted."""
    _check_owner(studio)
    added_paths(studio.catalog).forget(Path(path))


def name_path(catalog: Catalog, typed: str) -> str:
    """`add_path` without a studio. What cannot be used is refused, and not listed."""
    try:
        path = Path(typed.strip()).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError("error.added_missing", path=typed.strip()[:200]) from error
    here = _listed_at(catalog, path)
    if here is None:
        if path.is_file() and path.suffix.lower() != ".safetensors":
            raise UserError("error.weights_pickle" if path.suffix in _PICKLES else "error.added_no_model", **_at(path))
        if path.is_dir() and task_of_folder(path) is None:
            raise UserError("error.added_no_model", **_at(path))
        added_paths(catalog).add(path)
        here = _listed_at(catalog, path)
        if here is None or here.problem is not None:
            added_paths(catalog).forget(path)
    if here is None:
        raise UserError("error.added_no_model", **_at(path))
    if here.problem is not None:
        raise UserError(here.problem.key, **here.problem.values)
    return here.id


def added_paths(catalog: Catalog) -> AddedPaths:
    """Where the catalogue's paths are kept."""
    assert catalog.added is not None  # noqa: S101 - `open_catalog` has made it so
    return catalog.added


def _listed_at(catalog: Catalog, path: Path) -> CatalogEntry | WeightFile | None:
    entries = (entry for entry in catalog.entries(wait=True) if entry.source == path)
    return next(entries, next((file for file in catalog.extras(wait=True) if file.path == path), None))


def _at(path: Path) -> dict[str, str]:
    return {"file": str(path), "path": str(path)}


def start_download(studio: Studio, plan: DownloadPlan) -> None:
    """Start the download of what was looked up; it goes on when the page closes."""
    _check_owner(studio)
    studio.downloads.start(plan)


def stop_download(studio: Studio, repo: str) -> None:
    """Stop a download; what is here stays."""
    _check_owner(studio)
    studio.downloads.stop(repo)


def load_model(studio: Studio, model: str, task: str, context: JobContext) -> CatalogEntry:
    """Read a model into memory ahead of its first use. Raises UserError, JobCancelled."""
    _check_owner(studio)
    entry = studio.catalog.find(model, task)
    with studio.manager.use(entry.key(), cancel=context.cancelled, on_progress=context.progress):
        return entry


def unload_model(studio: Studio, loaded: str) -> None:
    """Free all memory of the loaded model that `loaded_id` calls so. Raises UserError while it is in use."""
    _check_owner(studio)
    for status in _called(studio, loaded):
        studio.manager.unload(status.key)


def move_model_to_ram(studio: Studio, loaded: str) -> None:
    """Free the accelerator of a loaded model and keep it in RAM. Raises UserError while it is in use."""
    _check_owner(studio)
    for status in _called(studio, loaded):
        studio.manager.move_to_ram(status.key)


def _called(studio: Studio, loaded: str) -> list[LoadedModelStatus]:
    return [status for status in studio.manager.status() if loaded_id(status) == loaded]


def _check_owner(studio: Studio) -> None:
    if not may(studio.settings, Deed.DOWNLOAD_MODEL):
        raise UserError("error.models_remote")
