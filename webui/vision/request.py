"""What can be asked of the Vision page, and the checks that every door (page, REST, command line) shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from webui.errors import UserError
from webui.vision.pictures import PictureFile

DEFAULT_MODEL: Final = "emoji"
MAX_LABELS: Final = 1000


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """What does the model see? `count` labels a picture; `model` is a catalogue id of the task "vit"."""

    pictures: tuple[PictureFile, ...]
    count: int = 5
    model: str = DEFAULT_MODEL


@dataclass(frozen=True, slots=True)
class SeeRequest:
    """One picture, the whole way through the model."""

    picture: PictureFile
    model: str = DEFAULT_MODEL


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """One row of attention: numbers from 0; token 0 is [CLS], token n + 1 is patch n."""

    picture: PictureFile
    layer: int
    head: int
    token: int
    model: str = DEFAULT_MODEL


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """Why one label? None asks for the likeliest."""

    picture: PictureFile
    label: int | None = None
    model: str = DEFAULT_MODEL


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """Do the pictures show what the prompt says? `model` None takes the first ViT that can be used."""

    pictures: tuple[PictureFile, ...]
    prompt: str
    model: str | None = None


def check_classify_request(request: ClassifyRequest, max_pictures: int) -> None:
    """Raise UserError for what no model could answer."""
    if not request.pictures:
        raise UserError("error.nothing_to_classify")
    if len(request.pictures) > max_pictures:
        raise UserError("error.too_many_pictures", count=len(request.pictures), limit=max_pictures)
    if not 1 <= request.count <= MAX_LABELS:
        raise UserError("error.label_count", value=request.count, limit=MAX_LABELS)
