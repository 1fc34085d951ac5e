"""What a CLIP job does: encode pictures and texts, compare them, explain the result.

`studio.jobs.submit(lambda context: score_pictures(studio, request, context), owner=..., kind="clip")`

Vectors are kept in `studio.embeddings`, so scoring again with one more text encodes one text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from webui.clip.request import (
    CellRequest,
    NearestRequest,
    ScoreRequest,
    ZeroShotRequest,
    check_picture_count,
    check_score_request,
    check_texts,
)
from webui.errors import UserError
from webui.runtime.entries import CLIP
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.vision.pictures import PictureLimits

if TYPE_CHECKING:
    from webui.clip.encoder import Encoder
    from webui.clip.relevance import Relevance
    from webui.clip.request import RefusedPicture
    from webui.clip.score import ScoreResult
    from webui.clip.worked import WorkedExample
    from webui.clip.zeroshot import ZeroShot
    from webui.runtime.loaders import ClipModel
    from webui.vision.deletion import DeletionCurve

T = TypeVar("T")

_WORKING_MEMORY: Final = 384 * 1024 * 1024  # a batch of 16 through ViT-L/14; small models need far less
_RANDOM_ORDERS: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedScore:
    """Why a score: the relevance, the deletion curve that backs it, and the picture as the model saw it (PNG)."""

    relevance: Relevance
    curve: DeletionCurve
    model_view: bytes


@dataclass(frozen=True, slots=True, eq=False)
class ClassifiedPictures:
    """The answers for the pictures that could be read, and the ones that could not."""

    answers: ZeroShot
    refused: tuple[RefusedPicture, ...]


def check_score(studio: Studio, request: ScoreRequest) -> None:
    """All that can be checked before a model is loaded; `score_pictures` does it again. Raises UserError."""
    check_score_request(request, studio.settings.score_limits)
    studio.catalog.find(request.model, CLIP)


def score_pictures(studio: Studio, request: ScoreRequest, context: JobContext) -> ScoreResult:
    """Score every picture against every text. A cancel stops between pictures and leaves no result."""
    check_score(studio, request)

    def work(encoder: Encoder) -> ScoreResult:
        from webui.clip.score import score

        return score(encoder, request.pictures, request.texts, context)

    return with_encoder(studio, request.model, work, context)


def work_out(studio: Studio, request: CellRequest, context: JobContext) -> WorkedExample:
    """Every number between one picture, one text and their score, checked against the model."""
    check_texts([request.text], 1, studio.settings.score_limits)

    def work(encoder: Encoder) -> WorkedExample:
        from webui.clip.worked import worked_example

        return worked_example(encoder, request.picture, request.text)

    return with_encoder(studio, request.model, work, context)


def explain_score(studio: Studio, request: CellRequest, context: JobContext) -> ExplainedScore:
    """Relevance of patches and words for one score, with its deletion curve."""
    check_texts([request.text], 1, studio.settings.score_limits)

    def work(encoder: Encoder) -> ExplainedScore:
        from webui.clip.prepare import view_png
        from webui.clip.relevance import deletion_curve, explain

        relevance = explain(encoder, request.picture, request.text)
        context.check()
        curve = deletion_curve(
            encoder,
            request.picture,
            request.text,
            relevance.patches,
            random_orders=_RANDOM_ORDERS,
            watch=context,
        )
        return ExplainedScore(relevance, curve, view_png(encoder, request.picture))

    return with_encoder(studio, request.model, work, context)


def classify_pictures(studio: Studio, request: ZeroShotRequest, context: JobContext) -> ClassifiedPictures:
    """Sort pictures under labels without training; each label is encoded once and kept."""
    limits = studio.settings.score_limits
    check_picture_count(len(request.pictures), limits)
    check_texts(request.labels, limits.max_labels, limits)
    if not request.pictures:
        raise UserError("error.nothing_to_score")

    def work(encoder: Encoder) -> ClassifiedPictures:
        from webui.clip.embed import embed_pictures
        from webui.clip.zeroshot import classify, embed_labels

        labels = embed_labels(encoder, request.labels, request.templates, context)
        embedded = embed_pictures(encoder, request.pictures, context)
        names = [picture.name for picture in embedded.pictures]
        return ClassifiedPictures(classify(names, embedded.vectors, labels, encoder.head), embedded.refused)

    return with_encoder(studio, request.model, work, context)


def find_nearest(
    studio: Studio, request: NearestRequest, context: JobContext
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """For each text the labels nearest to it with their cosines, the nearest first."""
    limits = studio.settings.score_limits
    check_texts(request.texts, limits.max_texts, limits)
    check_texts(request.labels, limits.max_labels, limits)

    def work(encoder: Encoder) -> tuple[tuple[tuple[str, float], ...], ...]:
        from webui.clip.embed import embed_texts
        from webui.clip.zeroshot import embed_labels, nearest_labels

        labels = embed_labels(encoder, request.labels, watch=context)
        return nearest_labels(embed_texts(encoder, request.texts, context).vectors, labels, request.count)

    return with_encoder(studio, request.model, work, context)


def with_encoder(studio: Studio, model: str, work: Callable[[Encoder], T], context: JobContext) -> T:
    """Lease the model, wrap it with the studio's cache, and do `work` with it. Raises UserError."""
    entry = studio.catalog.find(model, CLIP)
    key = entry.key()
    settings = studio.settings
    limits = PictureLimits(settings.max_upload_mb << 20, settings.score_limits.max_picture_pixels)

    def leased(clip: ClipModel) -> T:
        from webui.clip.encoder import Encoder

        identity = f"{key.source}@{key.revision}:{clip.model.dtype}"
        return work(Encoder(clip, identity, studio.embeddings, title=entry.id, limits=limits))

    return studio.manager.run(
        key, leased, working_memory=_WORKING_MEMORY, cancel=context.cancelled, on_progress=context.progress
    )
