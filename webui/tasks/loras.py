"""Which LoRA a request asks for, and drawing with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from webui.diffusion.lora_tags import split_loras, written
from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.runtime import safety
from webui.runtime.checkpoint_family import FileKind
from webui.studio import Studio

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

T = TypeVar("T")


def with_loras_apart(studio: Studio, request: GenerateRequest) -> GenerateRequest:
    """The request with the tags of its prompt in `loras`. Raises UserError for a LoRA that there is not, or is bad."""
    prompt, uses = split_loras(request.prompt)
    _, before = split_loras(request.loras)
    asked = replace(request, prompt=prompt, loras=written((*before, *uses)))
    for use in (*before, *uses):
        file = studio.catalog.files.named(use.name, FileKind.LORA)
        safety.read_safetensors_header(file.path)
    return asked


def refuse_loras(request: GenerateRequest) -> GenerateRequest:
    """The request itself, for work that does without LoRA; raises UserError when it asks for one."""
    if request.loras:
        raise UserError("error.lora_not_here", tags=request.loras)
    return request


def drawing_with_loras(
    studio: Studio, request: GenerateRequest, work: Callable[[StableDiffusionPipeline], T]
) -> Callable[[StableDiffusionPipeline], T]:
    """`work` with the request's LoRA on the pipeline while it runs, and off it afterwards."""
    _, uses = split_loras(request.loras)
    if not uses:
        return work

    def applied(pipe: StableDiffusionPipeline) -> T:
        from webui.diffusion.lora import LoraFile, loras_applied

        files = [LoraFile(studio.catalog.files.named(use.name, FileKind.LORA).path, use.weight) for use in uses]
        building, leaving = studio.manager.construction.write(), studio.manager.construction.write()
        with loras_applied(pipe, files, building, leaving):
            return work(pipe)

    return applied
