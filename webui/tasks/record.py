"""What a job of the page "Inside" does: record a run.

`studio.jobs.submit(lambda context: record_run(studio, request, context), owner=..., kind="trace")`
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from webui.clip.concepts import read_concepts
from webui.diffusion.request import GenerateRequest
from webui.runtime.catalog import TXT2IMG
from webui.runtime.jobs import JobCancelled, JobContext
from webui.studio import Studio
from webui.tasks.txt2img import prepare_request

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.generate import StepView
    from webui.diffusion.trace import Trace

_BYTES_PER_PIXEL: Final = 4 * 256 * 4  # as txt2img's decoder, its peak


def record_run(studio: Studio, request: GenerateRequest, context: JobContext, *, all_heads: bool = False) -> Trace:
    """Draw one picture and record it. After a cancel, the trace of the calls that were made.

    Raises JobCancelled when none was made, and UserError for what the user can put right.
    """
    request = prepare_request(studio, replace(request, batch_size=1, batch_count=1))
    entry = studio.catalog.find(request.model, TXT2IMG)
    key = entry.key()

    def work(pipe: StableDiffusionPipeline) -> tuple[Trace, ...]:
        from webui.diffusion.generate import generate
        from webui.diffusion.recorder import Recorder

        recorder = Recorder(
            all_heads=all_heads,
            model_title=entry.title,
            latent_rgb=studio.previews.of(key, pipe),
            lexicon=_lexicon(studio, request.model),
        )

        def show(view: StepView) -> None:
            context.progress(view.step, view.total, "phase.denoising")

        generate(pipe, request, recorder=recorder, on_step=show, cancel=context.cancelled)
        return recorder.traces

    pixels = cast(int, request.width) * cast(int, request.height)
    traces = studio.manager.run(
        key, work, working_memory=pixels * _BYTES_PER_PIXEL, cancel=context.cancelled, on_progress=context.progress
    )
    if not traces:
        raise JobCancelled
    return traces[0]


def _lexicon(studio: Studio, model: str) -> tuple[str, ...]:
    """The Thai names of what the model's suite knows: they split a prompt that is written without spaces."""
    concepts = read_concepts(Path(studio.catalog.find(model, TXT2IMG).source))
    return tuple(name for concept in concepts for name in concept.names["th"])
