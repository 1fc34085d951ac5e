"""A catalogue's entry from what lies on disk: a folder's configuration, a suite's list, or a file's header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from webui.errors import UserError
from webui.runtime import safety
from webui.runtime.checkpoint_family import CheckpointFamily, vae_factor
from webui.runtime.entries import BART, CLIP, T5, TXT2IMG, USUAL_GUIDANCE_SCALE, VIT, CatalogEntry
from webui.runtime.pipelines import STABLE_DIFFUSION, STABLE_DIFFUSION_XL, PipelineKind
from webui.runtime.weight_files import WeightFile

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
class Listing:
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
    titles: Mapping[str, str] = field(default_factory=dict, hash=False)


def task_of_type(model_type: str) -> str | None:
    """The task of a `model_type` in config.json; None for one that is not known here."""
    return _TASKS.get(model_type)


def describe_folder(listing: Listing, size: int, revision: str) -> CatalogEntry:
    """The entry of the model in a folder of `size` bytes, with its problem where it cannot be used."""
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
        titles=listing.titles,
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


def describe_file(file: WeightFile) -> CatalogEntry:
    """The entry of a checkpoint in one file."""
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
    factor = vae_factor(blocks)
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


def suite_listings(folder: Path, root: Path, bundled: bool) -> Iterator[Listing]:
    """The models that the suite in `folder` names, less those for tasks that came later than this program.

    Raises UserError for a list that cannot be read.
    """
    suite = safety.read_json(folder / SUITE_FILE)
    if not isinstance(suite.get("models"), list):
        raise UserError("error.model_file_broken", file=str(folder / SUITE_FILE), reason="no models")
    licences = suite.get("licences", [])
    licence = "\n".join(map(str, licences)) if isinstance(licences, list) else str(licences)
    for model in suite["models"]:
        try:
            task, model_id, name = str(model["task"]), str(model["id"]), str(model["folder"])
        except (KeyError, TypeError) as error:
            reason = "a model without id, task and folder"
            raise UserError("error.model_file_broken", file=str(folder / SUITE_FILE), reason=reason) from error
        if task not in _CHECKS:
            continue
        yield Listing(
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
            titles=_texts(model.get("titles")),
        )


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


def _positive_number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else otherwise
