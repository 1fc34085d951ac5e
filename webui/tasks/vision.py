"""What a job of the Vision page does: classify, look inside, explain, and check pictures against their prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from webui.clip.concepts import read_concepts
from webui.clip.request import ScoreRequest, check_texts
from webui.diffusion.prompt_weights import read_weights
from webui.errors import UserError
from webui.hooks import ScoredPicture
from webui.runtime.entries import CLIP, VIT, CatalogEntry
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.tasks.clip import score_pictures
from webui.vision.check import CheckedPicture, ExtraScore, PictureCheck, judge_nouns
from webui.vision.labels import LabelSet, PromptNouns
from webui.vision.pictures import PictureLimits
from webui.vision.request import (
    AttentionRequest,
    CheckRequest,
    ClassifyRequest,
    ExplainRequest,
    SeeRequest,
    check_classify_request,
)

if TYPE_CHECKING:
    from webui.runtime.loaders import VitModel
    from webui.vision.attention import AttentionRows, SeenPicture, WorkedAttention
    from webui.vision.background import RimColour
    from webui.vision.saliency import ExplainedClass
    from webui.vision.vit import Classification, Classifier

T = TypeVar("T")

_WORKING_MEMORY: Final = 384 * 1024 * 1024  # a batch of 16 through ViT-B/16; small models need far less


def check_classify(studio: Studio, request: ClassifyRequest) -> None:
    """All that can be checked before a model is loaded; `classify_pictures` does it again. Raises UserError."""
    check_classify_request(request, studio.settings.score_limits.max_pictures)
    studio.catalog.find(request.model, VIT)


def has_vit(studio: Studio) -> bool:
    """Whether there is a ViT that can be asked."""
    return any(entry.problem is None for entry in studio.catalog.entries(VIT))


def classify_pictures(studio: Studio, request: ClassifyRequest, context: JobContext) -> Classification:
    """What a ViT sees in each picture. A cancel stops between batches and leaves no result."""
    check_classify(studio, request)

    def work(classifier: Classifier) -> Classification:
        from webui.vision.vit import classify

        return classify(classifier, request.pictures, context)

    return _with_classifier(studio, request.model, work, context)


def see_picture(studio: Studio, request: SeeRequest, context: JobContext) -> SeenPicture:
    """One picture, the whole way through the model."""

    def work(classifier: Classifier) -> SeenPicture:
        from webui.vision.attention import see

        return see(classifier, request.picture)

    return _with_classifier(studio, request.model, work, context)


def read_attention(studio: Studio, request: AttentionRequest, context: JobContext) -> AttentionRows:
    """How one token looks at all others, in every layer and head."""

    def work(classifier: Classifier) -> AttentionRows:
        from webui.vision.attention import attention_rows

        return attention_rows(classifier, request.picture, request.token)

    return _with_classifier(studio, request.model, work, context)


def work_out_row(studio: Studio, request: AttentionRequest, context: JobContext) -> WorkedAttention:
    """One row of attention with every number of it, checked against the model's own."""

    def work(classifier: Classifier) -> WorkedAttention:
        from webui.vision.attention import work_out_attention

        return work_out_attention(classifier, request.picture, request.layer, request.head, request.token)

    return _with_classifier(studio, request.model, work, context)


def explain_label(studio: Studio, request: ExplainRequest, context: JobContext) -> ExplainedClass:
    """Where a label's probability comes from, with the deletion check."""

    def work(classifier: Classifier) -> ExplainedClass:
        from webui.vision.saliency import explain_class

        return explain_class(classifier, request.picture, request.label, watch=context)

    return _with_classifier(studio, request.model, work, context)


def label_set(studio: Studio, model: str) -> LabelSet:
    """The labels of a ViT from its configuration file alone, without loading it. Raises UserError."""
    from webui.runtime.safety import read_json

    entry = studio.catalog.find(model, VIT)
    named = read_json(entry.source / "config.json").get("id2label") or {}
    names = tuple(str(named[key]) for key in sorted(named, key=int))
    return LabelSet(names, read_concepts(entry.source))


def prompt_nouns(studio: Studio, prompt: str, model: str | None = None) -> PromptNouns:
    """What of a prompt the check could look for; loads no model. Raises UserError when there is no ViT."""
    return label_set(studio, _first(studio, VIT, model).id).find(prompt)


def check_before_checking(studio: Studio, request: CheckRequest) -> None:
    """All that can be checked before a model is loaded. Raises UserError."""
    entry = _first(studio, VIT, request.model)
    check_classify(studio, ClassifyRequest(request.pictures, model=entry.id))
    check_texts([request.prompt], 1, studio.settings.score_limits)


def check_pictures(studio: Studio, request: CheckRequest, context: JobContext) -> PictureCheck:
    """Ask ViT and CLIP, which drew nothing, whether the pictures show what the prompt says.

    Without a CLIP model the check goes on and has no score. Raises UserError when there is no ViT or no picture.
    """
    from webui.vision.check import TOP

    check_before_checking(studio, request)
    entry = _first(studio, VIT, request.model)
    found = classify_pictures(studio, ClassifyRequest(request.pictures, TOP, entry.id), context)
    prompt = read_weights(request.prompt).text
    nouns = found.labels.find(prompt)
    clip = studio.catalog.first_usable(CLIP)
    cosines: dict[int, float] = {}
    if clip is not None and prompt.strip():
        scores = score_pictures(studio, ScoreRequest(request.pictures, (_one_line(prompt),), clip.id), context)
        cosines = {
            picture.source: float(row[0])
            for picture, row in zip(scores.pictures, scores.similarity.cosine, strict=True)
        }
    seen = {one.source: _measured(studio, request, one.source, context) for one in found.pictures}
    return PictureCheck(
        prompt=request.prompt,
        nouns=nouns,
        labels=found.labels,
        vit=entry.title,
        clip=clip.title if cosines and clip else None,
        pictures=tuple(
            CheckedPicture(
                place=one.source,
                name=one.name,
                classified=one,
                verdicts=judge_nouns(nouns.found, one),
                rim=seen[one.source][0],
                cosine=cosines.get(one.source),
                extra=seen[one.source][1],
            )
            for one in found.pictures
        ),
        refused=found.refused,
    )


def _measured(
    studio: Studio, request: CheckRequest, source: int, context: JobContext
) -> tuple[RimColour, tuple[ExtraScore, ...]]:
    """What is read off the pixels: the background, and the scores of extensions."""
    from webui.vision.background import rim_colour
    from webui.vision.pictures import MemoryGate, opened

    file, limits = request.pictures[source], _limits(studio)
    with opened(file.name, file.read(limits), limits, MemoryGate()) as picture:
        extra = studio.hooks.scores_of(ScoredPicture(picture.image.convert("RGB"), request.prompt, context))
        return rim_colour(picture.image), extra


def _first(studio: Studio, task: str, model: str | None) -> CatalogEntry:
    """The model asked for, or the first of its task that can be used."""
    if model is not None:
        return studio.catalog.find(model, task)
    usable = studio.catalog.first_usable(task)
    if usable is None:
        raise UserError("error.no_vit", folder=str(studio.settings.models_dir))
    return usable


def _one_line(prompt: str) -> str:
    return " ".join(prompt.split())


def _limits(studio: Studio) -> PictureLimits:
    settings = studio.settings
    return PictureLimits(settings.max_upload_mb << 20, settings.score_limits.max_picture_pixels)


def _with_classifier(studio: Studio, model: str, work: Callable[[Classifier], T], context: JobContext) -> T:
    """Lease the model, say what its labels mean, and do `work` with it. Raises UserError."""
    entry = studio.catalog.find(model, VIT)

    def leased(vit: VitModel) -> T:
        from webui.vision.vit import Classifier, label_names

        labels = LabelSet(label_names(vit.model.config), read_concepts(entry.source))
        return work(Classifier(vit, entry.id, labels, _limits(studio)))

    return studio.manager.run(
        entry.key(), leased, working_memory=_WORKING_MEMORY, cancel=context.cancelled, on_progress=context.progress
    )
