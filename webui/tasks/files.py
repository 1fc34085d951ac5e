"""What a request draws with beside its model: LoRA and textual inversions from the models folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from webui.diffusion.inversion_words import InversionWord, names_in
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.runtime.checkpoint_family import FileKind
from webui.runtime.weight_files import WeightFile
from webui.studio import Studio
from webui.tasks.loras import drawing_with_loras

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

T = TypeVar("T")

HASH_DIGITS = 12
"""As many digits of a file's SHA-256 as A1111 writes of an embedding."""


def drawing_with_files(
    studio: Studio, request: GenerateRequest, work: Callable[[StableDiffusionPipeline], T]
) -> Callable[[StableDiffusionPipeline], T]:
    """`work` on a pipeline that has all that the request names, while it runs."""
    return drawing_with_loras(studio, request, _with_inversions(studio, request, work))


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


def other_inversions(studio: Studio, drawn_with: Mapping[str, str]) -> tuple[UserError, ...]:
    """What of a picture's textual inversions (name to the beginning of a hash) is not here, or is another file."""
    known = [file for file in studio.catalog.files.found(wait=True) if file.kind is FileKind.EMBEDDING]
    remarks = []
    for name, digits in drawn_with.items():
        called = [file for file in known if file.name.lower() == name.lower()]
        if not called:
            remarks.append(UserError("infotext.inversion_missing", name=name[:100]))
        elif not any(studio.catalog.files.sha256(file).startswith(digits) for file in called):
            remarks.append(UserError("infotext.inversion_other", name=name[:100]))
    return tuple(remarks)


def refuse_inversions(studio: Studio, request: GenerateRequest) -> GenerateRequest:
    """The request itself, for work that does without textual inversions; raises UserError when it names one."""
    found = inversions_in(studio, request.prompt, request.negative_prompt)
    if found:
        raise UserError("error.inversion_not_here", name=found[0].name)
    return request


def file_fields(studio: Studio, request: GenerateRequest) -> dict[str, str]:
    """What infotext says of the files beside what stands in the request, in A1111's words."""
    return _inversion_fields(studio, inversions_in(studio, request.prompt, request.negative_prompt))


def _inversion_fields(studio: Studio, files: Iterable[WeightFile]) -> dict[str, str]:
    hashes = [f"{file.name}: {studio.catalog.files.sha256(file)[:HASH_DIGITS]}" for file in files]
    return {"TI hashes": ", ".join(hashes)} if hashes else {}


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
