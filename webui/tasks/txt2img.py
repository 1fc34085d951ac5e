"""What a txt2img job does: draw, show it taking shape, save.

`studio.jobs.submit(lambda context: draw_pictures(studio, request, context), owner=..., kind="txt2img")`
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from webui.diffusion.lora_tags import split_loras
from webui.diffusion.prompt import TokenCount
from webui.diffusion.prompt_weights import check_weights, read_by
from webui.diffusion.request import GenerateRequest, check_request, check_size, with_fixed_seed
from webui.errors import UserError
from webui.hooks import BeforeGenerate, ImageSaved, StepDone
from webui.runtime.entries import TXT2IMG, CatalogEntry, ModelKey
from webui.runtime.jobs import JobCancelled, JobContext
from webui.runtime.pipelines import STABLE_DIFFUSION
from webui.store.gallery import SavedPicture
from webui.store.infotext import format_infotext
from webui.studio import Studio
from webui.tasks.files import (
    check_vae,
    drawing_with_files,
    file_fields,
    inversions_in,
    known_inversions,
    preview_key,
    refuse_files,
)
from webui.tasks.loras import refuse_loras, with_loras_apart
from webui.tasks.search import index_new_picture
from webui.tasks.translate import Translation, thai_translator, translate_first, wants_translation

if TYPE_CHECKING:
    import numpy as np
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.generate import Picture, StepView
    from webui.diffusion.latents import LatentRGB


_log = logging.getLogger(__name__)

_DECODER_BYTES_PER_PIXEL: Final = 4 * 256 * 4


@dataclass(frozen=True, slots=True)
class PreviewFrame:
    """The batch as it is taking shape: one small JPEG of the predicted x0 for each picture in it.

    The colours are approximated by a linear map; `step` and `total` count the U-Net calls of this batch.
    """

    jpegs: tuple[bytes, ...]
    batch: int
    step: int
    total: int


@dataclass(frozen=True, slots=True)
class DrawnPictures:
    """What a txt2img job leaves: pictures in the outputs folder, in order, and the request with size and seed fixed.

    `notices` are message keys that say what was done to fit the run into the memory; `translation` is what was drawn
    instead of the prompt, None when that was not asked for or not needed.
    """

    pictures: tuple[SavedPicture, ...]
    request: GenerateRequest
    seconds: float
    stopped: bool
    notices: tuple[str, ...] = ()
    translation: Translation | None = None


def prepare_request(studio: Studio, request: GenerateRequest) -> GenerateRequest:
    """Check all that can be checked before a model is loaded, and fill in the model's own settings and the seed.

    Call it before `submit`, so that a mistake is told at once; `draw_pictures` does it again. Raises UserError.
    """
    limits = studio.settings.limits
    check_request(request, limits)
    request = with_loras_apart(studio, request)
    inversions_in(studio, request.prompt, request.negative_prompt)
    entry = studio.catalog.find(request.model, TXT2IMG)
    check_vae(studio, request, entry)
    if entry.kind.weighs_words:
        check_weights(request.prompt, request.negative_prompt)
    studio.samplers.check(request.sampler, entry.title, entry.kind.training)
    if entry.kind.max_steps is not None and request.steps > entry.kind.max_steps:
        raise UserError("error.steps_out_of_range", value=request.steps, low=1, high=entry.kind.max_steps)
    if entry.kind.embedded_guidance and request.negative_prompt.strip():
        raise UserError("error.no_negative_prompt", model=entry.title)
    width, height = request.width or entry.default_width, request.height or entry.default_height
    check_size(width, height, entry.size_multiple, limits)
    if wants_translation(request):
        thai_translator(studio)
    guidance_scale = entry.guidance_scale if request.guidance_scale is None else request.guidance_scale
    return replace(with_fixed_seed(request), width=width, height=height, guidance_scale=guidance_scale)


def prepare_plain_request(studio: Studio, request: GenerateRequest) -> GenerateRequest:
    """As `prepare_request`, for work with the model's own parts only; a request for other files is refused."""
    return refuse_files(studio, refuse_loras(prepare_request(studio, request)))


def weight_notices(entry: CatalogEntry, request: GenerateRequest) -> tuple[str, ...]:
    """What is said of a prompt with weights: somebody may have meant ordinary brackets."""
    weighted = any(read_by(entry.kind, text).spans for text in (request.prompt, request.negative_prompt))
    return ("notice.prompt_weights",) if weighted else ()


def count_prompt_tokens(studio: Studio, model: str, prompt: str) -> TokenCount:
    """How much of the txt2img model's window `prompt` takes, LoRA tags aside; loads no weights. Raises UserError."""
    prompt, _ = split_loras(prompt)
    entry = studio.catalog.find(model, TXT2IMG)
    read = read_by(entry.kind, prompt)
    tokenizer, limit = entry.kind.counted
    if tokenizer not in entry.kind.parts:  # left out of this model: CLIP's window is what there is
        tokenizer, limit = STABLE_DIFFUSION.counted
    count = studio.tokenizers.count(
        entry.source,
        entry.revision,
        read.text,
        tokenizer,
        limit,
        known_inversions(studio),
        clip=not entry.kind.reads_with_t5(tokenizer),
        lowercase=entry.kind.lowercase,
    )
    return replace(count, weighted=read.words)


def draw_pictures(studio: Studio, request: GenerateRequest, context: JobContext) -> DrawnPictures:
    """Draw, save and publish: each SavedPicture as its batch is finished, and a PreviewFrame at every U-Net call.

    Where the prompt is to be translated first, the Translation is published before anything is drawn.

    The prompt tools of extensions change the prompts first of all.

    After a cancel it returns what is finished, with `stopped` set. When memory runs out, it goes on with the batch that
    failed on what the manager could make room for. Raises UserError for what the user can put right.
    """
    started = time.monotonic()
    request = prepare_request(studio, studio.hooks.rewritten(prepare_request(studio, request)))
    entry = studio.catalog.find(request.model, TXT2IMG)
    key = entry.key()
    wanted = request.batch_size * request.batch_count
    try:
        request, translation = translate_first(studio, request, context)
    except JobCancelled:
        return DrawnPictures((), request, time.monotonic() - started, stopped=True)
    if translation is not None:
        context.publish(translation)
    studio.hooks.tell(BeforeGenerate(request))
    drawing = _Drawing(studio, request, key, context)
    drawing.notices.extend(weight_notices(entry, request))
    try:
        studio.manager.run(
            key,
            drawing_with_files(studio, request, drawing.go_on, context.cancelled),
            working_memory=working_memory(request),
            cancel=context.cancelled,
            on_progress=context.progress,
            on_relief=lambda relief: drawing.notices.append(relief.value),
        )
    except JobCancelled:
        _log.debug("cancelled after %d pictures", len(drawing.saved))
    return DrawnPictures(
        pictures=tuple(drawing.saved),
        request=request,
        seconds=time.monotonic() - started,
        stopped=len(drawing.saved) < wanted,
        notices=tuple(drawing.notices),
        translation=translation,
    )


class _Drawing:
    """One run of draw_pictures: it survives a lack of memory, so that what is saved is not drawn again."""

    def __init__(self, studio: Studio, request: GenerateRequest, key: ModelKey, context: JobContext) -> None:
        self.saved: list[SavedPicture] = []
        self.notices: list[str] = []
        self._studio = studio
        self._request = request
        self._size = cast(int, request.width), cast(int, request.height)
        self._key = key
        self._context = context
        self._preview_map: LatentRGB | None = None
        self._file_fields = file_fields(studio, request)

    def go_on(self, pipe: StableDiffusionPipeline) -> None:
        """Draw the batches that are missing."""
        from webui.diffusion.generate import generate

        self._preview_map = self._studio.previews.of(preview_key(self._studio, self._request, self._key), pipe)
        finished = len(self.saved) // self._request.batch_size
        generate(
            pipe,
            self._request,
            first_batch=finished,
            on_step=self._show,
            on_pictures=self._save,
            cancel=self._context.cancelled,
            samplers=self._studio.samplers,
        )

    def _show(self, view: StepView) -> None:
        done = view.batch * view.total + view.step
        self._context.progress(done, self._request.batch_count * view.total, "phase.denoising")
        if self._preview_map is not None:
            jpegs = self._preview_map.jpegs(view.predicted_x0, *self._size)
            self._context.preview(PreviewFrame(jpegs, view.batch, view.step, view.total))
        if self._studio.hooks.wanted(StepDone):
            read = partial(_in_ram, view)
            self._studio.hooks.tell(StepDone(view.batch, view.step, view.total, view.timestep, read))

    def _save(self, pictures: tuple[Picture, ...]) -> None:
        for picture in pictures:
            infotext = format_infotext(self._request, picture.seed, *self._size, self._file_fields)
            self.saved.append(self._studio.gallery.save(picture.image, infotext, picture.seed))
            index_new_picture(self._studio, self.saved[-1].path)
            self._context.publish(self.saved[-1])
            self._studio.hooks.tell(ImageSaved(self.saved[-1].path, picture.seed, infotext))


def _in_ram(view: StepView) -> np.ndarray:
    """The predicted x0 of the batch, (B, 4, H/8, W/8) float32, as a copy that later steps leave alone."""
    array: np.ndarray = view.predicted_x0.detach().float().cpu().numpy().copy()
    return array


def working_memory(request: GenerateRequest) -> int:
    """Bytes that a run needs beside the weights; decoding is its peak.

    The decoder's last block works at full size on a few activations of some 256 channels in float32 (Stable Diffusion's
    VAE), one picture of the batch beside the other.
    """
    pixels = cast(int, request.width) * cast(int, request.height) * request.batch_size
    return pixels * _DECODER_BYTES_PER_PIXEL
