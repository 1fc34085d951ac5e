"""What the owner of this machine does with models: look one up, download it, load it, let it go.

All of it is refused in remote mode: it fills the disk and the memory of this machine.
"""

from __future__ import annotations

from webui.errors import UserError
from webui.runtime.catalog import CatalogEntry
from webui.runtime.download import DownloadPlan
from webui.runtime.hub_cache import read_hub_id
from webui.runtime.jobs import JobContext
from webui.runtime.status import LoadedModelStatus
from webui.security.rules import Deed, may
from webui.studio import Studio
from webui.views.models_page import loaded_id

LOAD = "load"
"""The kind of the job that loads a model."""


def look_up(studio: Studio, typed: str, *, half: bool = False) -> DownloadPlan:
    """Ask the Hub how large a model is; `typed` is its id or address. Raises UserError that says what to do."""
    _check_owner(studio)
    if typed.strip().startswith(("/", "~", ".")) or "\\" in typed:
        raise UserError("error.models_path", folder=str(studio.settings.models_dir))
    return studio.downloads.downloader.plan(read_hub_id(typed), half=half)


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
