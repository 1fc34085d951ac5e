"""Quick pictures of candidates, so that words can be judged by what they draw. Nothing is saved to the gallery."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from webui.diffusion.request import GenerateRequest
from webui.errors import UserError
from webui.runtime.entries import CLIP, TXT2IMG, VIT
from webui.runtime.jobs import JobContext
from webui.store.gallery import png_bytes
from webui.store.infotext import format_infotext
from webui.studio import Studio
from webui.tasks.txt2img import prepare_plain_request, working_memory
from webui.tasks.vision import classify_pictures
from webui.vision.check import NounVerdict, judge_nouns
from webui.vision.labels import LabelSet
from webui.vision.pictures import PictureFile
from webui.vision.request import ClassifyRequest

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.generate import Picture, StepView
    from webui.runtime.loaders import ClipModel
    from webui.vision.vit import ClassifiedPicture

QUICK_STEPS: Final = 8
_CLIP_MEMORY: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """One picture for each of `texts`, all from one seed, so that only the words differ."""

    texts: tuple[str, ...]
    original: str
    model: str = ""
    seed: int = 7
    steps: int = QUICK_STEPS


@dataclass(frozen=True, slots=True, eq=False)
class SeenByVit:
    """What a ViT sees in a preview, and where the things that its text names stand among the labels."""

    labels: LabelSet
    picture: ClassifiedPicture
    verdicts: tuple[NounVerdict, ...]


@dataclass(frozen=True, slots=True)
class CandidatePreview:
    """A PNG with its infotext, and what two judges that did not draw it say of it.

    `own` and `original` are its CLIP cosines with the text it was drawn from and with the original, None without a CLIP
    model; `seen` is None without a ViT.
    """

    text: str
    png: bytes
    own: float | None = None
    original: float | None = None
    seen: SeenByVit | None = None


def preview_candidates(studio: Studio, request: PreviewRequest, context: JobContext) -> tuple[CandidatePreview, ...]:
    """Draw each text quickly and score the picture. Raises UserError; a cancel stops between steps (JobCancelled)."""
    usable = [entry.id for entry in studio.catalog.entries(TXT2IMG) if entry.problem is None]
    if not usable:
        raise UserError("error.no_models", folder=str(studio.settings.models_dir))
    first = GenerateRequest("", model=request.model or usable[0], seed=request.seed, steps=request.steps)
    asked = [prepare_plain_request(studio, replace(first, prompt=text)) for text in request.texts]
    key = studio.catalog.find(first.model, TXT2IMG).key()
    pngs: list[bytes] = []

    def keep(pictures: tuple[Picture, ...]) -> None:
        picture = pictures[0]
        pngs.append(png_bytes(picture.image, format_infotext(asked[len(pngs)], picture.seed, *picture.image.size)))

    def step(view: StepView) -> None:
        context.check()
        context.progress(len(pngs) * view.total + view.step, len(asked) * view.total, "phase.denoising")

    def draw(pipe: StableDiffusionPipeline) -> None:
        from webui.diffusion.generate import generate

        for one in asked[len(pngs) :]:
            generate(pipe, one, on_step=step, on_pictures=keep, cancel=context.cancelled, samplers=studio.samplers)
            context.check()

    studio.manager.run(
        key, draw, working_memory=working_memory(asked[0]), cancel=context.cancelled, on_progress=context.progress
    )
    plain = tuple(CandidatePreview(text, png) for text, png in zip(request.texts, pngs, strict=True))
    files = tuple(PictureFile(f"preview-{place}.png", png) for place, png in enumerate(pngs))
    return _seen(studio, files, _scored(studio, request, files, plain, context), context)


def _seen(
    studio: Studio, files: tuple[PictureFile, ...], previews: tuple[CandidatePreview, ...], context: JobContext
) -> tuple[CandidatePreview, ...]:
    """The previews with what the first usable ViT sees in them; one that was put there since is found."""
    entry = studio.catalog.first_usable(VIT)
    if entry is None:
        return previews
    found = classify_pictures(studio, ClassifyRequest(files, model=entry.id), context)
    return tuple(
        replace(
            preview,
            seen=SeenByVit(found.labels, picture, judge_nouns(found.labels.find(preview.text).found, picture)),
        )
        for preview, picture in zip(previews, found.pictures, strict=True)
    )


def _scored(
    studio: Studio,
    request: PreviewRequest,
    files: tuple[PictureFile, ...],
    plain: tuple[CandidatePreview, ...],
    context: JobContext,
) -> tuple[CandidatePreview, ...]:
    """The previews with CLIP's scores."""
    entry = studio.catalog.first_usable(CLIP)
    if entry is None:
        return plain
    key = entry.key()

    def score(clip: ClipModel) -> tuple[CandidatePreview, ...]:
        import numpy as np

        from webui.clip.embed import Encoder, embed_pictures, embed_texts

        encoder = Encoder(clip, f"{key.source}@{key.revision}:{clip.model.dtype}", studio.embeddings, title=entry.id)
        pictures = embed_pictures(encoder, files, context).vectors
        texts = embed_texts(encoder, [request.original, *request.texts], context).vectors
        pictures, texts = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (pictures, texts))
        return tuple(
            replace(preview, own=float(pictures[i] @ texts[i + 1]), original=float(pictures[i] @ texts[0]))
            for i, preview in enumerate(plain)
        )

    return studio.manager.run(
        key, score, working_memory=_CLIP_MEMORY, cancel=context.cancelled, on_progress=context.progress
    )
