"""What the jobs of the page "Inside" do: record a run, leave out a word, score each step's x0.

`studio.jobs.submit(lambda context: record_run(studio, request, context), owner=..., kind="trace")`
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from webui.clip.concepts import read_concepts
from webui.clip.request import check_texts
from webui.diffusion.bundled import TRACES_FOLDER
from webui.diffusion.prompt_weights import read_weights
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import TRACE_SUFFIX, Trace, save_trace
from webui.errors import UserError
from webui.runtime.entries import CLIP, TXT2IMG
from webui.runtime.jobs import JobCancelled, JobContext
from webui.studio import Studio
from webui.tasks.clip import with_encoder
from webui.tasks.files import drawing_with_files, drawing_with_vae, file_fields, preview_key
from webui.tasks.translate import Translation, translate_first
from webui.tasks.txt2img import PreviewFrame, prepare_request, weight_notices, working_memory
from webui.vision.pictures import PictureFile

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.clip.embed import Encoder
    from webui.diffusion.ablation import Ablation
    from webui.diffusion.generate import StepView

TRACE: Final = "trace"
"""The kind of a job that records."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One picture to be drawn and recorded; `all_heads` keeps every head's maps too, where there is cross-attention."""

    generate: GenerateRequest
    all_heads: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RecordedRun:
    """The trace, whole or of a run that was stopped. `notices` say what was done to fit the run into the memory.

    `translation` is what was drawn instead of the prompt, `fields` what infotext says of files beside the model.
    """

    trace: Trace
    seconds: float
    notices: tuple[str, ...] = ()
    translation: Translation | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class AblationRequest:
    """Word number `word` of the recorded prompt is to be left out."""

    trace: Trace
    word: int


@dataclass(frozen=True, slots=True, eq=False)
class LockInRequest:
    """The x0 of each step is to be scored against the prompt and `rivals` by the CLIP model `model`."""

    trace: Trace
    rivals: tuple[str, ...] = ()
    model: str = "emoji"


@dataclass(frozen=True, slots=True, eq=False)
class LockIn:
    """`scores` (S, T) are cosines of each call's x0, decoded by the VAE, with `texts`: the prompt, then the rivals.

    `call` is the first U-Net call, from 0, from which the prompt stays ahead of every rival; None if there is none.
    `frames` (S, H, W, 3) uint8 are the pictures that were scored.
    """

    texts: tuple[str, ...]
    scores: np.ndarray
    call: int | None
    frames: np.ndarray


def prepare_trace(studio: Studio, request: TraceRequest) -> TraceRequest:
    """Check all that can be checked before a model is loaded, and fix size, guidance and seed. Raises UserError."""
    asked = request.generate
    if (asked.batch_size, asked.batch_count) != (1, 1):
        raise UserError("error.trace_one_picture")
    return replace(request, generate=prepare_request(studio, asked))


def record_run(studio: Studio, request: TraceRequest, context: JobContext) -> RecordedRun:
    """Draw and record; publishes a PreviewFrame at every U-Net call. The picture is in the trace, nothing is saved.

    The prompt tools of extensions change the prompts first of all.

    A cancel leaves the trace of what was done; JobCancelled when that is nothing. Raises UserError.
    """
    from_start = time.monotonic()
    request = prepare_trace(studio, request)
    request = prepare_trace(studio, replace(request, generate=studio.hooks.rewritten(request.generate)))
    entry = studio.catalog.find(request.generate.model, TXT2IMG)
    key = entry.key()
    asked, translation = translate_first(studio, request.generate, context)
    notices = [*weight_notices(entry, asked)]
    lexicon = [name for concept in read_concepts(entry.source) for name in concept.names["th"]]

    def record(pipe: StableDiffusionPipeline) -> tuple[Trace, ...]:
        from webui.diffusion.generate import generate
        from webui.diffusion.recorder import Recorder

        preview_map = studio.previews.of(preview_key(studio, asked, key), pipe)

        def show(view: StepView) -> None:
            context.progress(view.step, view.total, "phase.denoising")
            jpegs = preview_map.jpegs(view.predicted_x0, asked.width or 0, asked.height or 0)
            context.preview(PreviewFrame(jpegs, view.batch, view.step, view.total))

        recorder = Recorder(
            all_heads=request.all_heads, model_title=entry.title, latent_rgb=preview_map, lexicon=lexicon
        )
        generate(pipe, asked, on_step=show, cancel=context.cancelled, recorder=recorder, samplers=studio.samplers)
        return recorder.traces

    traces = studio.manager.run(
        key,
        drawing_with_files(studio, asked, record, context.cancelled),
        working_memory=working_memory(asked),
        cancel=context.cancelled,
        on_progress=context.progress,
        on_relief=lambda relief: notices.append(relief.value),
    )
    if not traces:
        raise JobCancelled
    seconds = time.monotonic() - from_start
    return RecordedRun(traces[0], seconds, tuple(notices), translation, file_fields(studio, asked))


def keep_trace(studio: Studio, trace: Trace) -> Path:
    """Save a recording in the outputs folder under its time, prompt and seed. Raises UserError when it cannot."""
    header = trace.header
    words = re.sub(r"[^\w]+", "-", header.request.prompt.lower()).strip("-")[:40] or "run"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{words}-{header.seed}{TRACE_SUFFIX}"
    path = studio.settings.outputs_dir / TRACES_FOLDER / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_trace(trace, path)
    except OSError as error:
        raise UserError("error.trace_not_saved", file=str(path), reason=error.strerror or str(error)) from error
    return path


def leave_out_word(studio: Studio, request: AblationRequest, context: JobContext) -> Ablation:
    """The recorded picture without one word, from the same seed. Raises UserError, JobCancelled."""
    asked = prepare_request(studio, request.trace.header.request)

    def work(pipe: StableDiffusionPipeline) -> Ablation | None:
        from webui.diffusion.ablation import ablate_word

        def tell(view: StepView) -> None:
            context.progress(view.step, view.total, "phase.without_word")

        return ablate_word(
            pipe, request.trace, request.word, on_step=tell, cancel=context.cancelled, samplers=studio.samplers
        )

    key = studio.catalog.find(asked.model, TXT2IMG).key()
    ablation = studio.manager.run(
        key,
        drawing_with_files(studio, asked, work, context.cancelled),
        working_memory=working_memory(asked),
        cancel=context.cancelled,
        on_progress=context.progress,
    )
    if ablation is None:
        raise JobCancelled
    return ablation


def score_steps(studio: Studio, request: LockInRequest, context: JobContext) -> LockIn:
    """When the picture began to look like its prompt, by CLIP. Raises UserError, JobCancelled."""
    header = request.trace.header
    texts = (read_weights(header.request.prompt).text, *dict.fromkeys(text for text in request.rivals if text.strip()))
    limits = studio.settings.score_limits
    check_texts(texts, limits.max_texts, limits)
    studio.catalog.find(request.model, CLIP)
    frames = _decoded(studio, request, context)
    files = [PictureFile(f"{number}.png", _png(frame)) for number, frame in enumerate(frames)]

    def work(encoder: Encoder) -> LockIn:
        from webui.clip.score import score
        from webui.diffusion.ablation import locked_in

        result = score(encoder, files, texts, context)
        # Texts that are written alike are scored once.
        scores = result.similarity.measures["cosine"]
        return LockIn(tuple(result.texts), scores, locked_in(scores), frames)

    return with_encoder(studio, request.model, work, context)


def _decoded(studio: Studio, request: LockInRequest, context: JobContext) -> np.ndarray:
    asked = prepare_request(studio, request.trace.header.request)

    def work(pipe: StableDiffusionPipeline) -> np.ndarray:
        from webui.diffusion.ablation import decode_x0

        return decode_x0(pipe, request.trace, cancel=context.cancelled)

    key = studio.catalog.find(asked.model, TXT2IMG).key()
    frames = studio.manager.run(
        key,
        drawing_with_vae(studio, asked, work, context.cancelled),
        working_memory=working_memory(asked),
        cancel=context.cancelled,
        on_progress=context.progress,
    )
    context.check()
    return frames


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
