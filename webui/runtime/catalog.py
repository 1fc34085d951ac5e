"""What models exist on this machine: the bundled suite, the user's models folder, and the Hugging Face cache.

The catalog reads configuration files only, so that a page can list models before torch is imported. A folder that is
broken is listed with its problem rather than hidden.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from webui.errors import UserError
from webui.runtime import safety
from webui.runtime.added import FILE_NAME, AddedPaths, Roots
from webui.runtime.checkpoint_family import CheckpointFamily, FileKind
from webui.runtime.folders import card_licence, folders_in, measure
from webui.runtime.hub_cache import cached_models, hub_cache_dir, name_of
from webui.runtime.pipelines import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, PipelineKind
from webui.runtime.weight_files import WeightFile, WeightFiles
from webui.settings import Settings, bundled_models_dir

TXT2IMG: Final = "txt2img"
CLIP: Final = "clip"
VIT: Final = "vit"
T5: Final = "t5"
BART: Final = "bart"
VAE: Final = "vae"
"""A VAE in a file of its own, which the manager leases beside a model; the catalogue lists no such models."""

AUTO_DTYPE: Final = "auto"
"""Let the manager choose: what the device computes fastest (`placement.choose_dtype`)."""

USUAL_GUIDANCE_SCALE: Final = 7.0
"""What Stable Diffusion models are drawn with where they do not name their own."""

_CHECKS: Final = {
    TXT2IMG: safety.check_pipeline_folder,
    CLIP: safety.check_clip_folder,
    VIT: safety.check_vit_folder,
    T5: safety.check_t5_folder,
    BART: safety.check_bart_folder,
}
_TASKS: Final = {
    **dict.fromkeys(safety.CONTRASTIVE, CLIP),
    "vit": VIT,
    **dict.fromkeys(safety.T5_CLASSES, T5),
    **dict.fromkeys(safety.BART_CLASSES, BART),
}
"""The task of a model_type in config.json."""

_DEFAULT_CELLS: Final = 128

SUITE_FILE: Final = "suite.json"
"""Lies in a folder with several models that belong together."""


@dataclass(frozen=True, slots=True)
class ModelKey:
    """Names one loaded model: equal keys share it.

    `source` is the absolute folder or, for a single-file checkpoint, the file; `revision` changes when the files in it
    do, so that weights which were replaced on disk are loaded anew; `dtype` is "auto", "float32", "float16" or
    "bfloat16". `copy_on` names the accelerator of a second copy, which the manager loads while the first is in use on
    another one; nobody else asks for it.
    """

    task: str
    source: str
    revision: str
    dtype: str = AUTO_DTYPE
    copy_on: str = ""

    @property
    def name(self) -> str:
        """The folder's name, or its repository's in the Hub's cache; for messages."""
        return name_of(Path(self.source))


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be asked for by `id` within its `task`.

    `size_bytes` is the size on disk. `default_width` and `default_height` (pixels) are what a txt2img model was trained
    at, and every size must be a multiple of `size_multiple` (the VAE's factor); all three are 0 for other tasks.
    `guidance_scale` is what it draws best with. `problem` says why the model cannot be used; None for a good one.
    `languages` are the prompt languages its card names, empty when it names none. `hub` is True for what lies in the
    Hugging Face cache, `added` for what was named by its path. `family` is told for single-file checkpoints, whose
    `source` is the file. `kind` is what a txt2img model is made of and can do.
    """

    id: str
    task: str
    title: str
    source: Path
    revision: str
    licence: str
    size_bytes: int
    bundled: bool
    default_width: int = 0
    default_height: int = 0
    size_multiple: int = 0
    guidance_scale: float = USUAL_GUIDANCE_SCALE
    languages: tuple[str, ...] = ()
    parameters: int | None = None
    problem: UserError | None = None
    hub: bool = False
    added: bool = False
    family: CheckpointFamily | None = None
    kind: PipelineKind = STABLE_DIFFUSION

    def key(self, dtype: str | None = None) -> ModelKey:
        """What to ask the manager for; raises the entry's problem if it has one."""
        if self.problem is not None:
            raise UserError(self.problem.key, **self.problem.values)
        return ModelKey(self.task, str(self.source), self.revision, dtype or AUTO_DTYPE)


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
        self._known: dict[_Listing, CatalogEntry] = {}
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
        yield from map(_file_entry, self._checkpoints(wait=wait))
        if self._hub_dir is not None:
            yield from self._hub_entries(self._hub_dir)

    def _added_entry(self, path: Path) -> CatalogEntry:
        """The model in a folder that was named by its path, or that it is gone."""
        task = task_of_folder(path)
        if task is not None:
            listing = _Listing(path.name, task, path.name, path, path, card_licence(path))
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
                listing = _Listing(cached.repo, task, cached.repo, cached.folder, cache, licence, hub=True)
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
                yield self._described(_Listing(name, task, name, candidate, root, card_licence(candidate)))

    def _suite_entries(self, folder: Path, root: Path) -> Iterator[CatalogEntry]:
        try:
            suite = _read_suite(folder)
            bundled = root == self._bundled_dir
            for listing in _suite_listings(suite, folder, root, bundled):
                yield self._described(listing)
        except UserError as problem:
            yield CatalogEntry(
                id=folder.name, task=TXT2IMG, title=folder.name, source=folder.resolve(), revision="", licence="",
                size_bytes=0, bundled=root == self._bundled_dir, problem=problem,
            )  # fmt: skip

    def _described(self, listing: _Listing) -> CatalogEntry:
        size, revision = measure(listing.folder)
        with self._lock:
            known = self._known.get(listing)
        if known is not None and known.revision == revision:
            return known
        entry = _describe(listing, size, revision)
        with self._lock:
            self._known[listing] = entry
        return entry


@dataclass(frozen=True, slots=True)
class _Listing:
    """A model before its folder has been looked into."""

    id: str
    task: str
    title: str
    folder: Path
    root: Path
    licence: str
    bundled: bool = False
    languages: tuple[str, ...] = ()
    parameters: int | None = None
    guidance_scale: float = USUAL_GUIDANCE_SCALE
    hub: bool = False


def task_of_type(model_type: str) -> str | None:
    """The task of a `model_type` in config.json; None for one that is not known here."""
    return _TASKS.get(model_type)


def open_catalog(settings: Settings) -> Catalog:
    """The catalog of this machine under `settings`."""
    added = AddedPaths(settings.data_dir / FILE_NAME)
    return Catalog(settings.models_dir, bundled_models_dir(), hub_cache_dir(), added)


def _describe(listing: _Listing, size: int, revision: str) -> CatalogEntry:
    entry = CatalogEntry(
        id=listing.id,
        task=listing.task,
        title=listing.title,
        source=listing.folder.resolve(),
        revision=revision,
        licence=listing.licence,
        size_bytes=size,
        bundled=listing.bundled,
        languages=listing.languages,
        parameters=listing.parameters,
        guidance_scale=listing.guidance_scale,
        hub=listing.hub,
    )
    try:
        safety.resolve_inside(listing.folder, (listing.root,))
        _CHECKS[listing.task](listing.folder, (listing.root,))
        if listing.task != TXT2IMG:
            return entry
        kind = safety.pipeline_kind(listing.folder)
        width, height, multiple = _picture_size(listing.folder, kind)
        named = listing.guidance_scale != USUAL_GUIDANCE_SCALE
        return replace(
            entry,
            default_width=width,
            default_height=height,
            size_multiple=multiple,
            kind=kind,
            guidance_scale=listing.guidance_scale if named else kind.guidance_scale,
        )
    except UserError as problem:
        return replace(entry, problem=problem)


def _file_entry(file: WeightFile) -> CatalogEntry:
    kind = STABLE_DIFFUSION_XL if file.family is CheckpointFamily.SDXL else STABLE_DIFFUSION
    return CatalogEntry(
        id=file.id,
        task=TXT2IMG,
        title=file.name,
        source=file.path,
        revision=file.revision,
        licence="",
        size_bytes=file.size_bytes,
        bundled=False,
        default_width=file.default_side,
        default_height=file.default_side,
        size_multiple=file.size_multiple,
        guidance_scale=kind.guidance_scale,
        problem=file.problem,
        family=file.family,
        added=file.added,
        kind=kind,
    )


def _picture_size(folder: Path, kind: PipelineKind) -> tuple[int, int, int]:
    """The width, height and their multiple in pixels: the denoiser's sample_size times the VAE's factor.

    The factor is 2 for each of the VAE's blocks but the last, as the pipelines' `vae_scale_factor` has it. A
    transformer takes patches of latents; one whose patches come as rows has no size of its own, and diffusers draws
    128 cells.
    """
    denoiser_file, vae_file = folder / kind.denoiser / "config.json", folder / "vae" / "config.json"
    blocks = safety.read_json(vae_file).get("block_out_channels")
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= 8:
        raise UserError("error.model_file_broken", file=str(vae_file), reason="no block_out_channels")
    factor = 2 ** (len(blocks) - 1)
    sample = safety.read_json(denoiser_file).get(
        "sample_size", _DEFAULT_CELLS if kind.embedded_guidance and kind.flow else None
    )
    height, width = sample if isinstance(sample, list) and len(sample) == 2 else (sample, sample)
    if not isinstance(height, int) or not isinstance(width, int) or min(height, width) < 1:
        raise UserError("error.model_file_broken", file=str(denoiser_file), reason="no sample_size")
    return width * factor, height * factor, factor * kind.patch


def task_of_folder(folder: Path) -> str | None:
    """What the model in `folder` is for, judged by its configuration file; None when it holds no model known here."""
    if (folder / "model_index.json").is_file():
        return TXT2IMG
    if not (folder / "config.json").is_file():
        return None
    try:
        config = safety.read_json(folder / "config.json")
    except UserError:
        return CLIP if (folder / "preprocessor_config.json").is_file() else None
    return task_of_type(str(config.get("model_type")))


def _read_suite(folder: Path) -> dict[str, Any]:
    suite = safety.read_json(folder / SUITE_FILE)
    if not isinstance(suite.get("models"), list):
        raise UserError("error.model_file_broken", file=str(folder / SUITE_FILE), reason="no models")
    return suite


def _suite_listings(suite: dict[str, Any], folder: Path, root: Path, bundled: bool) -> Iterator[_Listing]:
    licences = suite.get("licences", [])
    licence = "\n".join(map(str, licences)) if isinstance(licences, list) else str(licences)
    for model in suite["models"]:
        try:
            task, model_id, name = str(model["task"]), str(model["id"]), str(model["folder"])
        except (KeyError, TypeError) as error:
            reason = "a model without id, task and folder"
            raise UserError("error.model_file_broken", file=str(folder / SUITE_FILE), reason=reason) from error
        if task not in _CHECKS:
            continue  # a suite may bring models for tasks that came later
        yield _Listing(
            id=model_id,
            task=task,
            title=str(model.get("title") or suite.get("name") or model_id),
            folder=folder / name,
            root=root,
            licence=licence,
            bundled=bundled,
            languages=tuple(map(str, model.get("languages") or suite.get("languages") or ())),
            parameters=model.get("parameters") if isinstance(model.get("parameters"), int) else None,
            guidance_scale=_positive_number(model.get("guidance_scale"), USUAL_GUIDANCE_SCALE),
        )


def _positive_number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else otherwise


def _with_free_id(entry: CatalogEntry, taken: Iterable[tuple[str, str]]) -> CatalogEntry:
    """The entry, with a number behind its id when another model of its task has that id already."""
    names = {name for task, name in taken if task == entry.task}
    number, candidate = 2, entry.id
    while candidate in names:
        candidate = f"{entry.id} ({number})"
        number += 1
    return entry if candidate == entry.id else replace(entry, id=candidate)
