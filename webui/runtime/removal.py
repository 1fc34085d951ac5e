"""Deleting models: only what the user has put or downloaded here, never what the project ships."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from webui.errors import UserError
from webui.runtime.catalog import open_catalog
from webui.runtime.entries import CatalogEntry
from webui.runtime.hub_cache import cached_models, hub_cache_dir
from webui.runtime.listing import SUITE_FILE
from webui.settings import Settings


@dataclass(frozen=True, slots=True)
class Removable:
    """A folder, or a single file, that `remove` may delete, and how much it takes."""

    folder: Path
    size_bytes: int


def find_removable(settings: Settings, model: str) -> tuple[Removable, ...]:
    """The folders of the model called `model`, its begun download included.

    Raises UserError when there is none, and for models that ship with the project.
    """
    entries = [entry for entry in open_catalog(settings).entries(wait=True) if entry.id == model]
    own = [entry for entry in entries if not entry.bundled]
    if entries and not own:
        raise UserError("error.models_bundled", id=model)
    found = [_folder_of(entry, settings.models_dir) for entry in own if not entry.hub]
    found += [each.storage for each in cached_models(hub_cache_dir()) if each.repo == model]
    if not found:
        raise UserError("error.models_unknown", id=model[:100])
    return tuple(Removable(folder, _size_of(folder)) for folder in found)


def remove(found: Removable) -> None:
    """Delete the folder. Raises UserError when the system refuses; what was deleted until then is gone."""
    try:
        if found.folder.is_file():
            found.folder.unlink()
        else:
            shutil.rmtree(found.folder)
    except OSError as error:
        raise UserError(
            "error.models_not_removed", folder=str(found.folder), reason=error.strerror or str(error)
        ) from error


def _folder_of(entry: CatalogEntry, models_dir: Path) -> Path:
    """The model's own folder; raises UserError for a part of a suite and for a link to somewhere else."""
    if not entry.source.is_relative_to(models_dir.resolve()) or entry.source == models_dir.resolve():
        raise UserError("error.model_path_outside", path=str(entry.source), folder=str(models_dir))
    if (entry.source.parent / SUITE_FILE).is_file():
        raise UserError("error.models_bundled", id=entry.id)
    return entry.source


def _size_of(folder: Path) -> int:
    if folder.is_file():
        return folder.stat().st_size
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
