"""txt2img: a stock diffusers pipeline, with a way to watch and to stop it that does not change a pixel."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from PIL import Image

from webui.diffusion.capabilities import capabilities_of, unpacked
from webui.diffusion.latents import predicted_x0
from webui.diffusion.light_pipeline import with_parts
from webui.diffusion.request import GenerateRequest, picture_seeds, with_fixed_seed
from webui.diffusion.samplers import SHIPPED_SAMPLERS, Sampler, Samplers, build_scheduler
from webui.diffusion.weighted_text import weighted_prompts, weights_applied
from webui.runtime.entries import USUAL_GUIDANCE_SCALE
from webui.runtime.pipelines import PIPELINES

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.recorder import BatchRecording, Recorder


@dataclass(frozen=True, slots=True)
class StepView:
    """One call of the U-Net or transformer, seen after guidance and before the scheduler's step.

    `step` counts calls from 1 to `total` over one batch (Heun and DPM2 make two a step but for the last, PLMS one more
    than its steps). `latents` is x_t and `model_output` the guided prediction, both (B, C, H/8, W/8) on the model's
    device; do not change them in place.
    """

    batch: int
    step: int
    total: int
    timestep: float
    latents: torch.Tensor
    model_output: torch.Tensor
    predicted_x0: torch.Tensor


@dataclass(frozen=True, slots=True)
class Picture:
    """One finished picture and the seed that gives it again."""

    image: Image.Image
    seed: int


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """What was drawn. `request` has its size and seed filled in; `stopped` means that pictures are missing."""

    pictures: tuple[Picture, ...]
    request: GenerateRequest
    seconds: float
    stopped: bool


class Stopped(Exception):  # noqa: N818 - no error
    """Leaves the pipeline's loop from within; `generate` catches it."""


def generate(
    pipe: StableDiffusionPipeline,
    request: GenerateRequest,
    *,
    first_batch: int = 0,
    on_step: Callable[[StepView], None] | None = None,
    on_pictures: Callable[[tuple[Picture, ...]], None] | None = None,
    cancel: threading.Event | None = None,
    recorder: Recorder | None = None,
    samplers: Samplers = SHIPPED_SAMPLERS,
) -> GenerateResult:
    """Draw all batches of `request` with `pipe`, which is not changed; the pixels are the stock pipeline's.

    `on_step` sees each U-Net call and `on_pictures` each finished batch. Once `cancel` is set, the run ends within
    one U-Net call and the result holds the batches that were finished. Picture i is drawn from a generator on the CPU
    seeded with seed + i, whatever the device; in a larger batch its latents differ in the sixth digit. `first_batch`
    leaves out batches that were drawn before. `recorder` gets a `Trace` of each picture and changes none of them.
    `samplers` are those that the request may name.
    Threads may draw with one `pipe` at once if its tokenizer is made for it (`runtime.shared_tokenizer`), as the
    manager's are.
    """
    request = resolved_request(pipe, request)
    sampler = samplers.find(request.sampler)
    seeds = picture_seeds(request)
    started = time.monotonic()
    pictures: list[Picture] = []
    cancel = cancel or threading.Event()
    for batch in range(first_batch, request.batch_count):
        batch_seeds = seeds[batch * request.batch_size :][: request.batch_size]
        try:
            drawn = _draw_batch(pipe, request, sampler, batch, batch_seeds, on_step, cancel, recorder)
        except Stopped:
            break
        pictures.extend(drawn)
        if on_pictures is not None:
            on_pictures(drawn)
    return GenerateResult(
        tuple(pictures),
        request,
        time.monotonic() - started,
        stopped=len(pictures) < len(seeds) - first_batch * request.batch_size,
    )


def resolved_request(pipe: StableDiffusionPipeline, request: GenerateRequest) -> GenerateRequest:
    """The request with the model's own size and the usual guidance where none is given, and with a seed."""
    own_height, own_width = capabilities_of(pipe).own_size
    return replace(
        with_fixed_seed(request),
        width=request.width or own_width,
        height=request.height or own_height,
        guidance_scale=USUAL_GUIDANCE_SCALE if request.guidance_scale is None else request.guidance_scale,
    )


def _draw_batch(
    pipe: StableDiffusionPipeline,
    request: GenerateRequest,
    sampler: Sampler,
    batch: int,
    seeds: tuple[int, ...],
    on_step: Callable[[StepView], None] | None,
    cancel: threading.Event,
    recorder: Recorder | None,
) -> tuple[Picture, ...]:
    if cancel.is_set():
        raise Stopped
    scheduler = build_scheduler(sampler, pipe.scheduler.config)
    with ExitStack() as stack:
        recording = None
        if recorder is not None:
            recording = stack.enter_context(recorder.recording(pipe, request, sampler, scheduler, seeds))
        size = cast(int, request.height), cast(int, request.width)
        _watch(scheduler, sampler, batch, on_step, cancel, recording, lambda rows: unpacked(pipe, rows, *size))
        prompt, negative = weighted_prompts(pipe, request)
        stack.enter_context(weights_applied(pipe, (prompt, negative)))
        images = with_parts(pipe, {"scheduler": scheduler})(
            prompt.text,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            width=request.width,
            height=request.height,
            num_images_per_prompt=len(seeds),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **_options(pipe, negative.text),
        ).images
        if recording is not None:
            recording.finish(images)
    return tuple(Picture(image, seed) for image, seed in zip(images, seeds, strict=True))


def _options(pipe: Any, negative_prompt: str) -> dict[str, Any]:
    """What this kind of pipeline is called with beside the usual."""
    kind = PIPELINES.get(type(pipe).__name__)
    options: dict[str, Any] = {} if kind is None else dict(kind.options)
    # Left out where nothing was written: SDXL then takes zeros, as it was trained with, instead of an empty prompt.
    return options | ({"negative_prompt": negative_prompt} if negative_prompt else {})


def _watch(
    scheduler: Any,
    sampler: Sampler,
    batch: int,
    on_step: Callable[[StepView], None] | None,
    cancel: threading.Event,
    recording: BatchRecording | None,
    unpack: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Let `on_step` see, and `cancel` end, each step of this scheduler, which belongs to one run.

    `functools.wraps` keeps the signature: the pipeline reads it to decide whether to pass `generator`, and a sampler
    that draws noise would otherwise draw it unseeded.
    """
    step = scheduler.step
    calls = 0

    @functools.wraps(step)
    def watched(model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if cancel.is_set():
            raise Stopped
        if on_step is not None or recording is not None:
            x0 = predicted_x0(scheduler, sampler.space, model_output, timestep, sample)
            shown = (unpack(sample), unpack(model_output), unpack(x0))
            view = StepView(batch, calls, len(scheduler.timesteps), float(timestep), *shown)
            if recording is not None:
                recording.step(view)
            if on_step is not None:
                on_step(view)
        result = step(model_output, timestep, sample, **options)
        if recording is not None:
            recording.stepped(unpack(result[0]))
        if cancel.is_set():
            raise Stopped
        return result

    scheduler.step = watched
