"""What can be asked of the similarity page, and the checks that every door (page, REST, command line) shares.

Nothing here imports torch: requests are built before any model library is loaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from webui.clip.limits import ScoreLimits
from webui.errors import UserError
from webui.vision.pictures import PictureFile


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Any number of pictures times any number of texts. `model` is a catalogue id of the task "clip"."""

    pictures: tuple[PictureFile, ...]
    texts: tuple[str, ...]
    model: str = "emoji"


@dataclass(frozen=True, slots=True)
class CellRequest:
    """One picture and one text, to be worked out or explained."""

    picture: PictureFile
    text: str
    model: str = "emoji"


@dataclass(frozen=True, slots=True)
class ZeroShotRequest:
    """Pictures to sort under labels; every template has {} where the label goes."""

    pictures: tuple[PictureFile, ...]
    labels: tuple[str, ...]
    templates: tuple[str, ...] = ("{}",)
    model: str = "emoji"


@dataclass(frozen=True, slots=True)
class NearestRequest:
    """Texts, and the labels among which each looks for its nearest ones."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    count: int = 5
    model: str = "emoji"


@dataclass(frozen=True, slots=True)
class TextList:
    """Texts to score, in order, without empty lines and with each text once; what was left out is said.

    `duplicates` names every text that was given more than once, `empty` counts the lines without a visible character.
    """

    texts: tuple[str, ...]
    empty: int = 0
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RefusedPicture:
    """A file that was left out, and why. `source` is its place in the request."""

    source: int
    name: str
    error: UserError


def read_texts(lines: str | Iterable[str]) -> TextList:
    """One text a line (or an item): blanks around it dropped, empty ones dropped, duplicates kept once."""
    items = [item.strip() for item in (lines.splitlines() if isinstance(lines, str) else lines)]
    kept = [item for item in items if item]
    unique = dict.fromkeys(kept)
    duplicates = tuple(text for text in unique if kept.count(text) > 1) if len(unique) < len(kept) else ()
    return TextList(tuple(unique), len(items) - len(kept), duplicates)


def check_score_request(request: ScoreRequest, limits: ScoreLimits) -> None:
    """Raise UserError for the first thing in `request` that no model could do.

    No pictures is a question about the texts alone; no texts is one about the pictures alone; neither is a mistake.
    """
    if not request.pictures and not request.texts:
        raise UserError("error.nothing_to_score")
    check_picture_count(len(request.pictures), limits)
    check_texts(request.texts, limits.max_texts, limits)


def check_picture_count(count: int, limits: ScoreLimits) -> None:
    """Raise UserError for more pictures than are scored in one go."""
    if count > limits.max_pictures:
        raise UserError("error.too_many_pictures", count=count, limit=limits.max_pictures)


def check_texts(texts: Iterable[str], most: int, limits: ScoreLimits) -> None:
    """Raise UserError for more than `most` texts, one that is far too long, or one with a control character."""
    for count, text in enumerate(texts, start=1):
        if count > most:
            raise UserError("error.too_many_texts", limit=most)
        if len(text) > limits.max_text_characters:
            raise UserError("error.text_too_long", number=count, length=len(text), limit=limits.max_text_characters)
        for character in text:
            if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n\r":
                raise UserError("error.text_control_character", number=count, code=f"U+{ord(character):04X}")
