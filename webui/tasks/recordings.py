"""Runs that can be gone on with from any of their steps: recorded here, or read from a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from webui.diffusion.latent_colours import LinearColours
from webui.diffusion.request import GenerateRequest, with_fixed_seed
from webui.diffusion.trace import Trace, open_trace
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.tasks.latents import with_noise_model
from webui.tasks.txt2img import prepare_plain_request

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.denoise import RecordedRun


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A run that can be resumed, and the linear map that shows its latents.

    `rounded` says that it comes from a trace, whose predictions are kept in 16 bits.
    """

    run: RecordedRun
    colours: LinearColours
    rounded: bool = False


def record(studio: Studio, request: GenerateRequest, context: JobContext) -> Recording:
    """Draw one picture and keep what resuming needs."""
    request = prepare_plain_request(studio, with_fixed_seed(replace(request, batch_size=1, batch_count=1)))
    entry = studio.catalog.find(request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Recording:
        from webui.diffusion.denoise import record_run

        chart = studio.previews.of(entry.key(), pipe)
        run = record_run(pipe, request, _listener(context), studio.samplers)
        return Recording(run, LinearColours(chart.factors, chart.r_squared))

    return with_noise_model(studio, entry, cast(int, request.width) * cast(int, request.height), work, context)


def open_recording(studio: Studio, path: Path, context: JobContext) -> Recording:
    """A trace file as a run that can be resumed, with the model that it names. Raises UserError for what it is not."""
    return recording_of_trace(studio, open_trace(path), context)


def recording_of_trace(studio: Studio, trace: Trace, context: JobContext) -> Recording:
    """A trace as a run that can be resumed, by the model that it names. Raises UserError for a run that was stopped."""
    entry = studio.catalog.find(trace.header.request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Recording:
        from webui.diffusion.denoise import run_from_trace

        chart = studio.previews.of(entry.key(), pipe)
        run = run_from_trace(pipe, trace, studio.samplers)
        return Recording(run, LinearColours(chart.factors, chart.r_squared), rounded=True)

    return with_noise_model(studio, entry, 0, work, context)


def resume(
    studio: Studio, recording: Recording, call: int, sample: np.ndarray | None, context: JobContext
) -> np.ndarray:
    """The picture (H, W, 3) uint8 that comes of going on from U-Net call `call` with `sample`, or as it was (None)."""
    entry = studio.catalog.find(recording.run.request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> np.ndarray:
        from webui.diffusion.denoise import resume_run

        return resume_run(pipe, recording.run, call, sample, _listener(context), studio.samplers)

    return with_noise_model(studio, entry, recording.run.picture[..., 0].size, work, context)


def _listener(context: JobContext) -> Callable[[int, int], None]:
    def hear(done: int, total: int) -> None:
        context.check()
        context.progress(done, total, "phase.denoising")

    return hear
