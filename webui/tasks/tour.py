"""The guided tour: one prompt's way through every model, with all that the chapters show computed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from webui.clip.request import CellRequest, ScoreRequest
from webui.diffusion.prompt_weights import read_weights
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import competing_word_maps, enlarged, threshold_mask
from webui.errors import UserError
from webui.runtime.entries import CLIP, TXT2IMG, VIT
from webui.runtime.jobs import JobContext
from webui.store.gallery import SavedPicture
from webui.store.infotext import format_infotext
from webui.studio import Studio
from webui.tasks.clip import score_pictures, work_out
from webui.tasks.inside import (
    AblationRequest,
    LockIn,
    LockInRequest,
    TraceRequest,
    leave_out_word,
    prepare_trace,
    record_run,
    score_steps,
)
from webui.tasks.search import index_new_picture
from webui.tasks.vision import check_pictures, label_set, see_picture, work_out_row
from webui.vision.pictures import PictureFile
from webui.vision.request import AttentionRequest, CheckRequest, SeeRequest

if TYPE_CHECKING:
    from webui.clip.score import ScoreResult
    from webui.clip.worked import WorkedExample
    from webui.diffusion.ablation import Ablation
    from webui.vision.attention import SeenPicture, WorkedAttention
    from webui.vision.check import PictureCheck

TOUR: Final = "tour"
"""The kind of a job that makes a tour."""

FRAMES: Final = 6
_CHANGED: Final = 25.5
_RIVALS: Final = (("a dog", "dog"), ("a car", "car"), ("a cat", "cat"))
_THAI_RIVALS: Final = (("หมา", "หมา"), ("รถยนต์", "รถ"), ("แมว", "แมว"))
"""Texts to compare with, and what a prompt that names the same thing holds."""


@dataclass(frozen=True, slots=True)
class TourRequest:
    """A prompt for the model `model`; `seed` -1 takes any."""

    prompt: str
    model: str
    seed: int = -1


@dataclass(frozen=True, slots=True, eq=False)
class TourEyes:
    """What ViT makes of the picture, and one row of its last layer's attention from [CLS] in numbers."""

    seen: SeenPicture
    row: WorkedAttention
    check: PictureCheck


@dataclass(frozen=True, slots=True, eq=False)
class Tour:
    """Everything that the chapters show.

    `scored` is the picture against the prompt and two rivals, `worked` its score with the prompt in numbers. `frames`
    (FRAMES, H, W, 3) uint8 are the decoded x0 of the U-Net calls `calls`, from 0. `ablation` is the picture without
    word number `word`; both None for a prompt without words. `eyes` is None where there is no ViT.
    """

    picture: SavedPicture
    trace: Trace
    scored: ScoreResult
    worked: WorkedExample
    calls: tuple[int, ...]
    frames: np.ndarray
    lock_in: LockIn
    word: int | None
    ablation: Ablation | None
    eyes: TourEyes | None

    @property
    def effect_of_word(self) -> tuple[float, float]:
        """How much of the picture changes without the word, and how much of that lies outside the word's place.

        Shares of pixels, 0..1; a pixel has changed when its channels differ by a tenth of their range on average. Both
        are 0 where no word was left out.
        """
        if self.ablation is None or self.trace.picture is None:
            return 0.0, 0.0
        difference = np.abs(self.trace.picture.astype(np.float32) - self.ablation.picture).mean(axis=-1)
        changed = difference > _CHANGED
        place = threshold_mask(enlarged(self.ablation.attention, *changed.shape))
        return float(changed.mean()), float((changed & ~place).sum() / max(changed.sum(), 1))


def check_tour(studio: Studio, request: TourRequest) -> None:
    """All that can be checked before a model is loaded. Raises UserError."""
    entry = studio.catalog.find(request.model, TXT2IMG)
    if not entry.kind.word_maps:
        raise UserError("error.no_word_maps", model=entry.title)
    prepare_trace(studio, _recording(request))
    _clip(studio)


def take_tour(studio: Studio, request: TourRequest, context: JobContext) -> Tour:
    """Draw the prompt, recorded, and ask every model about it. The picture is saved like any other.

    Raises UserError, JobCancelled.
    """
    clip = _clip(studio)
    trace = record_run(studio, _recording(request), context).trace
    context.check()
    picture = _save(studio, trace)
    file = PictureFile(picture.path.name, picture.path)
    prompt = read_weights(request.prompt).text
    texts = (_one_line(prompt), *rivals_of(prompt))
    scored = score_pictures(studio, ScoreRequest((file,), texts, clip), context)
    worked = work_out(studio, CellRequest(file, texts[0], clip), context)
    calls = frame_calls(len(trace.header.steps))
    lock_in = score_steps(studio, LockInRequest(trace, texts[1:], clip), context)
    word = _chosen_word(studio, trace)
    ablation = None if word is None else leave_out_word(studio, AblationRequest(trace, word), context)
    return Tour(
        picture=picture,
        trace=trace,
        scored=scored,
        worked=worked,
        calls=calls,
        frames=lock_in.frames[list(calls)],
        lock_in=lock_in,
        word=word,
        ablation=ablation,
        eyes=_look(studio, file, request.prompt, context),
    )


def rivals_of(prompt: str) -> tuple[str, str]:
    """Two other texts in the prompt's language, if possible none that it names itself."""
    words = prompt.casefold()
    thai = any("\u0e01" <= letter <= "\u0e5b" for letter in words)
    rivals = _THAI_RIVALS if thai else _RIVALS
    others = [text for text, named in rivals if named not in words] + [text for text, _ in rivals]
    first, second, *_ = dict.fromkeys(others)
    return first, second


def frame_calls(count: int) -> tuple[int, ...]:
    """At most FRAMES of `count` U-Net calls, evenly spread, the first and the last among them."""
    return tuple(dict.fromkeys(int(call) for call in np.linspace(0, count - 1, FRAMES).round()))


def _clip(studio: Studio) -> str:
    entry = studio.catalog.first_usable(CLIP)
    if entry is None:
        raise UserError("error.no_clip", folder=str(studio.settings.models_dir))
    return entry.id


def _recording(request: TourRequest) -> TraceRequest:
    return TraceRequest(GenerateRequest(request.prompt, model=request.model, seed=request.seed))


def _save(studio: Studio, trace: Trace) -> SavedPicture:
    header = trace.header
    if trace.picture is None:
        raise UserError("error.trace_unfinished")
    height, width = trace.picture.shape[:2]
    infotext = format_infotext(header.request, header.seed, width, height)
    saved = studio.gallery.save(Image.fromarray(trace.picture), infotext, header.seed)
    index_new_picture(studio, saved.path)
    return saved


def _chosen_word(studio: Studio, trace: Trace) -> int | None:
    """The word to leave out: one that names a thing, else the one that had a place most to itself."""
    words = trace.header.words
    seen = [number for number in range(len(words)) if trace.header.rows_of_word(number)]
    if not seen:
        return None
    maps = competing_word_maps(trace)
    named = _things(studio, trace.header.request.prompt)
    things = [number for number in seen if words[number].casefold() in named]
    return max(things or seen, key=lambda number: float(maps[number].max()))


def _things(studio: Studio, prompt: str) -> frozenset[str]:
    vit = studio.catalog.first_usable(VIT)
    if vit is None:
        return frozenset()
    found = label_set(studio, vit.id).find(prompt).found
    return frozenset(word for noun in found for word in noun.written.casefold().split())


def _look(studio: Studio, file: PictureFile, prompt: str, context: JobContext) -> TourEyes | None:
    vit = studio.catalog.first_usable(VIT)
    if vit is None:
        return None
    seen = see_picture(studio, SeeRequest(file, vit.id), context)
    row = work_out_row(studio, AttentionRequest(file, seen.layers - 1, 0, 0, vit.id), context)
    return TourEyes(seen, row, check_pictures(studio, CheckRequest((file,), prompt, vit.id), context))


def _one_line(prompt: str) -> str:
    return " ".join(prompt.split())
