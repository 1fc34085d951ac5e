"""What a request draws with beside its model: LoRA, textual inversions and a VAE from the models folder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from webui.diffusion.inversion_words import InversionWord, names_in
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.runtime.checkpoint_family import FileKind
from webui.runtime.entries import VAE, CatalogEntry, ModelKey
from webui.runtime.vae_latents import check_same_latents, latents_of_file, latents_of_model
from webui.runtime.weight_files import WeightFile
from webui.store.infotext import Infotext
from webui.studio import Studio
from webui.tasks.loras import drawing_with_loras

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

T = TypeVar("T")

HASH_DIGITS: Final = 12
VAE_HASH_DIGITS: Final = 10
"""As many digits of a file's SHA-256 as A1111 writes of an embedding and of a VAE."""


def drawing_with_files(
    studio: Studio,
    request: GenerateRequest,
    work: Callable[[StableDiffusionPipeline], T],
    cancel: threading.Event | None = None,
) -> Callable[[StableDiffusionPipeline], T]:
    """`work` on a pipeline that has all that the request names, while it runs."""
    prompted = drawing_with_loras(studio, request, _with_inversions(studio, request, work))
    return drawing_with_vae(studio, request, prompted, cancel)


def drawing_with_vae(
    studio: Studio,
    request: GenerateRequest,
    work: Callable[[StableDiffusionPipeline], T],
    cancel: threading.Event | None = None,
) -> Callable[[StableDiffusionPipeline], T]:
    """`work` on a pipeline that decodes with the request's VAE; the model's other parts are not loaded again."""
    file = vae_file(studio, request)
    if file is None:
        return work
    key = ModelKey(VAE, str(file.path), file.revision)

    def applied(pipe: StableDiffusionPipeline) -> T:
        from webui.diffusion.other_vae import with_vae
        from webui.diffusion.vae_codec import computing_device

        with studio.manager.beside(key, str(computing_device(pipe)), cancel) as vae:
            return work(with_vae(pipe, vae, file.path))

    return applied


def vae_file(studio: Studio, request: GenerateRequest) -> WeightFile | None:
    """The VAE that the request names, None for the model's own. Raises UserError for one that is not there, or bad."""
    return studio.catalog.files.named(request.vae, FileKind.VAE) if request.vae else None


def check_vae(studio: Studio, request: GenerateRequest, entry: CatalogEntry) -> None:
    """Raise UserError for a VAE that is not there, or that makes other latents than this model's; loads nothing."""
    file = vae_file(studio, request)
    if file is not None:
        check_same_latents(file.path, latents_of_file(file.path), latents_of_model(entry.source))


def preview_key(studio: Studio, request: GenerateRequest, key: ModelKey) -> tuple[ModelKey, str]:
    """What the colours of a run's previews depend on: the model and the VAE."""
    file = vae_file(studio, request)
    return key, "" if file is None else f"{file.path}\0{file.revision}"


def inversions_in(studio: Studio, *texts: str, wait: bool = True) -> tuple[WeightFile, ...]:
    """The textual inversions that the texts name, in order. Raises UserError for one that cannot be used.

    `wait` examines every file in the models folder first.
    """
    files = [file for file in studio.catalog.files.found(wait=wait) if file.kind is FileKind.EMBEDDING]
    chosen = []
    for name in names_in(texts, [file.name for file in files]):
        called = [file for file in files if file.name.lower() == name]
        if len(called) > 1:
            known = ", ".join(file.id for file in called)
            raise UserError("error.inversion_same_name", name=name[:100], known=known)
        if called[0].problem is not None:
            raise UserError(called[0].problem.key, **called[0].problem.values)
        chosen.append(called[0])
    return tuple(chosen)


def known_inversions(studio: Studio) -> tuple[InversionWord, ...]:
    """The words that usable files give a meaning, as far as the files have been looked into."""
    files = [file for file in studio.catalog.files.found() if file.kind is FileKind.EMBEDDING and file.problem is None]
    return tuple(InversionWord(file.name, file.vectors) for file in files)


def usable_files(studio: Studio, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` (fields of a request), without a VAE that there is not here."""
    try:
        vae_file(studio, replace(GenerateRequest(""), vae=values.get("vae", "")))
    except UserError:
        return {name: value for name, value in values.items() if name != "vae"}
    return dict(values)


def other_files(studio: Studio, found: Infotext) -> tuple[UserError, ...]:
    """What of the files that a picture was drawn with is not here, or is another file of that name."""
    remarks = _other_inversions(studio, found.inversions)
    try:
        vae = vae_file(studio, found.over(GenerateRequest("")))
    except UserError as error:
        return (*remarks, error)
    if vae is None or studio.catalog.files.sha256(vae).startswith(found.vae_hash):
        return remarks
    return (*remarks, UserError("infotext.vae_other", name=vae.name))


def _other_inversions(studio: Studio, drawn_with: Mapping[str, str]) -> tuple[UserError, ...]:
    """`drawn_with` is name to the beginning of a hash."""
    known = [file for file in studio.catalog.files.found(wait=True) if file.kind is FileKind.EMBEDDING]
    remarks = []
    for name, digits in drawn_with.items():
        called = [file for file in known if file.name.lower() == name.lower()]
        if not called:
            remarks.append(UserError("infotext.inversion_missing", name=name[:100]))
        elif not any(studio.catalog.files.sha256(file).startswith(digits) for file in called):
            remarks.append(UserError("infotext.inversion_other", name=name[:100]))
    return tuple(remarks)


def refuse_files(studio: Studio, request: GenerateRequest) -> GenerateRequest:
    """The request itself, for work without textual inversions and another VAE; raises UserError when it names one."""
    if request.vae:
        raise UserError("error.vae_not_here", name=request.vae)
    found = inversions_in(studio, request.prompt, request.negative_prompt)
    if found:
        raise UserError("error.inversion_not_here", name=found[0].name)
    return request


def file_fields(studio: Studio, request: GenerateRequest) -> dict[str, str]:
    """What infotext says of the files beside what stands in the request, in A1111's words."""
    files, vae = studio.catalog.files, vae_file(studio, request)
    words = inversions_in(studio, request.prompt, request.negative_prompt)
    hashes = [f"{file.name}: {files.sha256(file)[:HASH_DIGITS]}" for file in words]
    return {
        **({} if vae is None else {"VAE hash": files.sha256(vae)[:VAE_HASH_DIGITS]}),
        **({"TI hashes": ", ".join(hashes)} if hashes else {}),
    }


def _with_inversions(
    studio: Studio, request: GenerateRequest, work: Callable[[StableDiffusionPipeline], T]
) -> Callable[[StableDiffusionPipeline], T]:
    files = inversions_in(studio, request.prompt, request.negative_prompt)
    if not files:
        return work

    def applied(pipe: StableDiffusionPipeline) -> T:
        from webui.diffusion.inversions import InversionFile, inversions_applied

        chosen = [InversionFile(file.path, InversionWord(file.name, file.vectors)) for file in files]
        with inversions_applied(pipe, chosen, (request.prompt, request.negative_prompt)) as knowing:
            return work(knowing)

    return applied
