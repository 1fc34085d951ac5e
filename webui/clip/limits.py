"""How much can be asked of the similarity page in one go; plain data, so that the settings can hold it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScoreLimits:
    """The largest request that is accepted; remote mode starts from lower ones.

    `max_picture_pixels` is for one picture, before it is decoded.
    """

    max_pictures: int = 500
    max_texts: int = 500
    max_labels: int = 5000
    max_text_characters: int = 4000
    max_picture_pixels: int = 80_000_000
