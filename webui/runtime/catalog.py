"""What models exist on this machine: the bundled suite, the user's models folder, and the Hugging Face cache.

The catalog reads configuration files only, so that a page can list models before torch is imported. A folder that is
broken is listed with its problem rather than hidden.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from webui.errors import UserError
from webui.runtime.added import FILE_NAME, AddedPaths, Roots
from webui.runtime.checkpoint_family import FileKind
from webui.runtime.entries import TXT2IMG, CatalogEntry
from webui.runtime.folders import card_licence, folders_in, measure
from webui.runtime.hub_cache import cached_models, hub_cache_dir
from webui.runtime.listing import SUITE_FILE, Listing, describe_file, describe_folder, suite_listings, task_of_folder
from webui.runtime.weight_files import WeightFile, WeightFiles
from webui.settings import Settings, bundled_models_dir


class Catalog:
    """The models in `bundled_dir`, `models_dir` and the cache `hub_dir`, looked up anew on each call; thread-safe.

    A look is one `os.scandir` a folder; what a folder contains is read again only when one of its files has changed.
    `files` are the single files in `models_dir`; where there are many, those not examined yet come with a later look.
    """

    def __init__(
        self, models_dir: Path, bundled_dir: Path, hub_dir: Path | None = None, added: AddedPaths | None = None
    ) -> None:
        self._models_dir = models_dir
        self._bundled_dir = bundled_dir
        self._hub_dir = hub_dir
        self.added = added
        self.files = WeightFiles(models_dir, added)
        self._known: dict[Listing, CatalogEntry] = {}
        self._lock = threading.Lock()

    @property
    def roots(self) -> Sequence[Path]:
        """The folders that models may lie in, and what was added by its path, as it is at each look."""
        fixed = (self._models_dir, self._bundled_dir, *([self._hub_dir] if self._hub_dir else []))
        return fixed if self.added is None else Roots(fixed, self.added)

    def entries(self, task: str | None = None, *, wait: bool = False) -> tuple[CatalogEntry, ...]:
        """All models, or those of one task: the bundled ones first, then the user's by name, then single files.

        `wait` examines every single file first.
        """
        found: dict[tuple[str, str], CatalogEntry] = {}
        sources: set[tuple[str, Path]] = set()
        for entry in self._all_entries(wait=wait):
            if (entry.task, entry.source) in sources:  # models_dir is often the folder with the bundled suite too
                continue
            sources.add((entry.task, entry.source))
            unique = _with_free_id(entry, found)
            found[unique.task, unique.id] = unique
        return tuple(entry for entry in found.values() if task is None or entry.task == task)

    def extras(self, *, wait: bool = False) -> tuple[WeightFile, ...]:
        """The files that go with a txt2img model: LoRA, VAE and embeddings; `wait` examines every file first."""
        kinds = (FileKind.LORA, FileKind.VAE, FileKind.EMBEDDING)
        return tuple(file for file in self.files.found(wait=wait) if file.kind in kinds)

    def find(self, model: str, task: str) -> CatalogEntry:
        """The entry called `model`: its id, or the bare name of the one single file that is called so.

        Raises UserError that lists what there is, or the entry's own problem.
        """
        entries = self.entries(task)
        if all(entry.id != model for entry in entries):
            entries = self.entries(task, wait=True)
        named = [entry for entry in entries if entry.family is not None and entry.title == model]
        if len(named) > 1 and all(entry.id != model for entry in entries):
            known = ", ".join(entry.id for entry in named)
            raise UserError("error.weights_same_name", name=model[:100], known=known)
        for entry in [entry for entry in entries if entry.id == model] or named:
            entry.key()
            return entry
        usable = ", ".join(entry.id for entry in entries if entry.problem is None)
        if not usable:
            raise UserError("error.no_models", folder=str(self._models_dir))
        raise UserError("error.unknown_model", model=model[:100], known=usable)

    def first_usable(self, task: str) -> CatalogEntry | None:
        """The first model of `task` that nothing is wrong with, if there is one."""
        return next((entry for entry in self.entries(task) if entry.problem is None), None)

    def _all_entries(self, *, wait: bool) -> Iterator[CatalogEntry]:
        for root in dict.fromkeys((self._bundled_dir, self._models_dir)):
            for folder in folders_in(root):
                if (folder / SUITE_FILE).is_file():
                    yield from self._suite_entries(folder, root)
                elif root == self._models_dir:
                    yield from self._folder_entries(folder, root)
        for path in self.added.paths() if self.added is not None else ():
            if path.is_dir() or not path.exists():
                yield self._added_entry(path)
        yield from map(describe_file, self._checkpoints(wait=wait))
        if self._hub_dir is not None:
            yield from self._hub_entries(self._hub_dir)

    def _added_entry(self, path: Path) -> CatalogEntry:
        """The model in a folder that was named by its path, or that it is gone."""
        task = task_of_folder(path)
        if task is not None:
            listing = Listing(path.name, task, path.name, path, path, card_licence(path))
            return replace(self._described(listing), added=True)
        return CatalogEntry(
            id=path.name, task=TXT2IMG, title=path.name, source=path, revision="", licence="", size_bytes=0,
            bundled=False, added=True, problem=UserError("error.added_gone", path=str(path)),
        )  # fmt: skip

    def _checkpoints(self, *, wait: bool) -> Iterator[WeightFile]:
        """Checkpoints in one file, and what lies where one belongs and is none."""
        kinds = (FileKind.CHECKPOINT, FileKind.OTHER)
        return (file for file in self.files.found(wait=wait) if file.kind in kinds)

    def _hub_entries(self, cache: Path) -> Iterator[CatalogEntry]:
        """What the Hub's library or this program has downloaded, as far as it is of a task known here.

        A repository of which only the configuration has been looked at is no model yet, and is left out.
        """
        for cached in cached_models(cache):
            task = task_of_folder(cached.folder) if cached.folder is not None else None
            if cached.folder is not None and task is not None:
                licence = card_licence(cached.folder)
                listing = Listing(cached.repo, task, cached.repo, cached.folder, cache, licence, hub=True)
                entry = self._described(listing)
                if entry.problem is None or entry.problem.key != "error.model_file_missing":
                    yield entry
                elif cached.partial_bytes or any(cached.folder.rglob("*.safetensors")):
                    yield replace(entry, problem=UserError("error.hub_begun", id=cached.repo))

    def _folder_entries(self, folder: Path, root: Path) -> Iterator[CatalogEntry]:
        """The model in `folder`, or, where it holds none, those one level down ("CompVis/stable-diffusion-v1-4")."""
        for candidate in (folder,) if task_of_folder(folder) else folders_in(folder):
            task = task_of_folder(candidate)
            if task is not None:
                name = candidate.relative_to(root).as_posix()
                yield self._described(Listing(name, task, name, candidate, root, card_licence(candidate)))

    def _suite_entries(self, folder: Path, root: Path) -> Iterator[CatalogEntry]:
        try:
            for listing in suite_listings(folder, root, root == self._bundled_dir):
                yield self._described(listing)
        except UserError as problem:
            yield CatalogEntry(
                id=folder.name, task=TXT2IMG, title=folder.name, source=folder.resolve(), revision="", licence="",
                size_bytes=0, bundled=root == self._bundled_dir, problem=problem,
            )  # fmt: skip

    def _described(self, listing: Listing) -> CatalogEntry:
        size, revision = measure(listing.folder)
        with self._lock:
            known = self._known.get(listing)
        if known is not None and known.revision == revision:
            return known
        entry = describe_folder(listing, size, revision)
        with self._lock:
            self._known[listing] = entry
        return entry


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of this machine under `settings`."""
    added = AddedPaths(settings.data_dir / FILE_NAME)
    return Catalog(settings.models_dir, bundled_models_dir(), hub_cache_dir(), added)


def _with_free_id(entry: CatalogEntry, taken: Iterable[tuple[str, str]]) -> CatalogEntry:
    """The entry, with a number behind its id when another model of its task has that id already."""
    names = {name for task, name in taken if task == entry.task}
    number, candidate = 2, entry.id
    while candidate in names:
        candidate = f"{entry.id} ({number})"
        number += 1
    return entry if candidate == entry.id else replace(entry, id=candidate)
