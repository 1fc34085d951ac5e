"""What a prompt job does, whoever asks: translate, shorten, expand, repair or fill, and compare with the original.

`studio.jobs.submit(lambda context: rewrite_prompt(studio, request, context), owner=..., kind="prompt")`
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from webui.diffusion.prompt import TokenCount
from webui.errors import UserError
from webui.prompts.abilities import Abilities, Skill, choose_model
from webui.prompts.improve import Candidate, as_candidates, shorten_to_fit, similarities
from webui.prompts.request import PromptRequest, PromptTask, check_prompt_request
from webui.runtime.entries import CLIP, TXT2IMG, CatalogEntry
from webui.runtime.jobs import JobContext
from webui.studio import Studio

if TYPE_CHECKING:
    from webui.clip.embed import Encoder
    from webui.prompts.attention import CrossAttention
    from webui.prompts.rewriting import Rewriter
    from webui.runtime.loaders import ClipModel

T = TypeVar("T")

PROMPT: Final = "prompt"
"""The kind of these jobs."""

_WORKING_MEMORY: Final = 256 * 1024 * 1024  # a few beams through t5-base or bart-large; small models need far less
_UNKNOWN_SHARE: Final = 0.1
_ATTENTION_TOKENS: Final = 128  # a table with more columns is no picture any more
_COMPARED: Final = frozenset({PromptTask.SHORTEN, PromptTask.EXPAND, PromptTask.REPAIR, PromptTask.FILL})
"""What changes a prompt word by word; a translation shares no words with its original."""


@dataclass(frozen=True, slots=True)
class TextSoFar:
    """Published after every token: what is written so far, one text or one for each candidate."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PromptAnswer:
    """The candidates for `request`, the likeliest first; nothing is replaced, the user chooses.

    `model` is the id of the model of `family` that wrote them, `source` what it was given (prefix and all), `tokens`
    the original's. `notes` say in words what a reader must know: parts, what does not fit, what could not be compared.
    """

    request: PromptRequest
    family: str
    model: str
    source: str
    tokens: TokenCount
    candidates: tuple[Candidate, ...]
    notes: tuple[UserError, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """Cross-attention of `family`'s `model` while it writes `target` for `source` (its prefix included)."""

    family: str
    model: str
    source: str
    target: str


def check_prompt(studio: Studio, request: PromptRequest) -> tuple[CatalogEntry, Skill, Abilities]:
    """All that can be checked before a model is loaded, and the model that will be asked. Raises UserError."""
    check_prompt_request(request)
    if request.draw_model:
        studio.catalog.find(request.draw_model, TXT2IMG)
    if request.clip_model:
        studio.catalog.find(request.clip_model, CLIP)
    entries = studio.catalog.entries()
    return choose_model(entries, request.task, request.family, request.model, request.direction)


def rewrite_prompt(studio: Studio, request: PromptRequest, context: JobContext) -> PromptAnswer:
    """Write the candidates and compare them; what is written so far is published as TextSoFar.

    A cancel stops between two tokens (JobCancelled). Raises UserError for what the user can put right.
    """
    started = time.monotonic()
    entry, skill, abilities = check_prompt(studio, request)
    count = _counter(studio, request.draw_model)
    notes: list[UserError] = []

    def work(rewriter: Rewriter) -> tuple[Candidate, ...]:
        return _candidates(rewriter, request, skill, abilities, count, notes, context)

    candidates = _leased(studio, entry, work, context)
    if not candidates:
        raise UserError("error.nothing_written", model=entry.title)
    candidates = _with_similarities(studio, request, candidates, notes, context)
    source = skill.prefix + request.text
    tokens = count(request.text)
    seconds = time.monotonic() - started
    return PromptAnswer(request, entry.task, entry.id, source, tokens, candidates, tuple(notes), seconds)


def attend(studio: Studio, request: AttentionRequest, context: JobContext) -> CrossAttention:
    """From which words of the source each word of the target was taken. Raises UserError."""

    def work(rewriter: Rewriter) -> CrossAttention:
        from webui.prompts.attention import cross_attention
        from webui.prompts.t5 import check_length

        check_length(rewriter, request.source, _ATTENTION_TOKENS)
        check_length(rewriter, request.target, _ATTENTION_TOKENS)
        return cross_attention(rewriter, request.source, request.target)

    return _leased(studio, studio.catalog.find(request.model, request.family), work, context)


def answer_as_dict(answer: PromptAnswer) -> dict[str, Any]:
    """What REST and the command line give out; `candidates` each with `text` and its scores."""
    return {
        "task": str(answer.request.task),
        "model": answer.model,
        "family": answer.family,
        "original": {"text": answer.request.text, "tokens": answer.tokens.used, "token_limit": answer.tokens.limit},
        "candidates": [
            {
                "text": candidate.text,
                "clip_similarity": candidate.similarity,
                "log_probability": candidate.log_probability,
                "tokens": candidate.tokens.used,
                "token_limit": candidate.tokens.limit,
                "fits": candidate.fits,
                "cut": candidate.cut,
                "dropped": list(candidate.dropped),
            }
            for candidate in answer.candidates
        ],
        "notes": [note.key for note in answer.notes],
        "settings": asdict(answer.request.settings),
        "seconds": round(answer.seconds, 3),
    }


def _candidates(
    rewriter: Rewriter,
    request: PromptRequest,
    skill: Skill,
    abilities: Abilities,
    count: Callable[[str], TokenCount],
    notes: list[UserError],
    context: JobContext,
) -> tuple[Candidate, ...]:
    from webui.prompts import bart, t5
    from webui.prompts.rewriting import check_special_tokens, unknown_share

    check_special_tokens(
        rewriter, request.text if request.task is not PromptTask.FILL else _without_masks(request.text)
    )
    if (share := unknown_share(rewriter, request.text)) > _UNKNOWN_SHARE:
        notes.append(UserError("prompt.note.unknown_pieces", share=f"{100 * share:.0f}"))

    def told(texts: tuple[str, ...]) -> None:
        context.preview(TextSoFar(texts))

    compare = request.task in _COMPARED
    how = (request.text, request.settings, context, told)
    reads = abilities.reads_tokens
    if request.task is PromptTask.SHORTEN:
        return _shortened(rewriter, request, skill, reads, count, notes, context, told)
    if request.task is PromptTask.REPAIR:
        found = bart.repair(rewriter, *how, reads_tokens=reads)
    elif request.task is PromptTask.FILL:
        fill = bart.fill if rewriter.tokenizer.mask_token is not None else t5.fill_spans
        found = fill(rewriter, *how, reads_tokens=reads)
        if len(found.texts) < request.settings.candidates:
            notes.append(UserError("prompt.note.fewer", found=len(found.texts), wanted=request.settings.candidates))
    else:
        ask = t5.translate if request.task is PromptTask.TRANSLATE else t5.expand
        found = ask(rewriter, *how, prefix=skill.prefix, reads_tokens=reads)
    if found.parts > 1:
        notes.append(UserError("prompt.note.parts", parts=found.parts))
    return as_candidates(request.text, found.texts, count, compare=compare)


def _shortened(
    rewriter: Rewriter,
    request: PromptRequest,
    skill: Skill,
    reads: int,
    count: Callable[[str], TokenCount],
    notes: list[UserError],
    context: JobContext,
    told: Callable[[tuple[str, ...]], None],
) -> tuple[Candidate, ...]:
    """Shorter candidates, with a note on how that went."""
    if not count(request.text).cut_text:
        notes.append(UserError("prompt.note.fitted_already", tokens=count(request.text).used))
    found = shorten_to_fit(
        rewriter, request.text, count, request.settings, context, told, prefix=skill.prefix, reads_tokens=reads
    )
    if found.parts > 1:
        notes.append(UserError("prompt.note.parts", parts=found.parts))
    if found.rounds > 1:
        notes.append(UserError("prompt.note.rounds", rounds=found.rounds, steps=" → ".join(map(str, found.steps))))
    if found.cut is not None:
        over = count(found.texts[0].text)
        notes.append(UserError("prompt.note.does_not_fit", tokens=over.used, limit=over.limit))
    return as_candidates(request.text, found.texts, count, compare=True, cut=found.cut)


def _without_masks(text: str) -> str:
    from webui.prompts.request import MASK, mark_masks

    return mark_masks(text).replace(MASK, "")


def _with_similarities(
    studio: Studio,
    request: PromptRequest,
    candidates: tuple[Candidate, ...],
    notes: list[UserError],
    context: JobContext,
) -> tuple[Candidate, ...]:
    """The candidates with their CLIP similarity to the original; without a CLIP model a note says so."""
    entry = _first(studio, CLIP, request.clip_model)
    if entry is None:
        notes.append(UserError("prompt.note.no_clip"))
        return candidates
    if PromptTask.FILL is not request.task and _counter(studio, request.draw_model)(request.text).cut_text:
        notes.append(UserError("prompt.note.similarity_cut"))
    key = entry.key()

    def work(clip: ClipModel) -> tuple[float, ...]:
        from webui.clip.embed import Encoder

        identity = f"{key.source}@{key.revision}:{clip.model.dtype}"
        encoder: Encoder = Encoder(clip, identity, studio.embeddings, title=entry.id)
        return similarities(encoder, request.text, [candidate.text for candidate in candidates], context)

    values = studio.manager.run(
        key, work, working_memory=_WORKING_MEMORY, cancel=context.cancelled, on_progress=context.progress
    )
    return tuple(replace(c, similarity=value) for c, value in zip(candidates, values, strict=True))


def _counter(studio: Studio, draw_model: str) -> Callable[[str], TokenCount]:
    """Counts by the tokenizer of the txt2img model; raises UserError when there is none."""
    entry = _first(studio, TXT2IMG, draw_model)
    if entry is None:
        raise UserError("error.no_models", folder=str(studio.settings.models_dir))
    return lambda text: studio.tokenizers.count(entry.source, entry.revision, text)


def _first(studio: Studio, task: str, model: str) -> CatalogEntry | None:
    if model:
        return studio.catalog.find(model, task)
    return studio.catalog.first_usable(task)


def _leased(studio: Studio, entry: CatalogEntry, work: Callable[[Rewriter], T], context: JobContext) -> T:
    return studio.manager.run(
        entry.key(), work, working_memory=_WORKING_MEMORY, cancel=context.cancelled, on_progress=context.progress
    )
