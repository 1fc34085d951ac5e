"""What is nearly the same picture: the same one at another size, recompressed, or slightly changed.

Vectors alone do not tell: two cats on blue may have nearly one vector. So the coarse colours must agree as well.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from webui.search.rows import PictureRow

GRID: Final = 8
LOOK_BYTES: Final = GRID * GRID * 3
SAME_COSINE: Final = 0.95
SAME_COLOURS: Final = 4.0
"""Mean difference of the grid's colours, in levels of 255; JPEG at quality 30 and halving the size stay below 2."""


def look_of(image: Image.Image) -> bytes:
    """The mean colours of an 8 x 8 grid over an RGB picture, 192 bytes."""
    return image.convert("RGB").resize((GRID, GRID), Image.Resampling.BOX).tobytes()


def look_of_file(data: bytes) -> bytes:
    """`look_of` for a small JPEG of our own making."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return look_of(image)


def group_duplicates(rows: Sequence[PictureRow]) -> tuple[tuple[int, ...], ...]:
    """Places of `rows` in groups of near-duplicates; each group and the groups themselves in the order of `rows`.

    A row joins the first group whose leader it resembles, so that no chain of small changes becomes a group.
    """
    if not rows:
        return ()
    vectors = np.stack([row.vector for row in rows])
    near = vectors @ vectors.T >= SAME_COSINE
    groups: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        leaders = (leader for leader in groups if near[leader, place] and _look_alike(rows[leader], row))
        groups.setdefault(next(leaders, place), []).append(place)
    return tuple(map(tuple, groups.values()))


def _look_alike(one: PictureRow, other: PictureRow) -> bool:
    if one.content == other.content or len(one.look) != len(other.look):
        return one.content == other.content
    colours = (np.frombuffer(row.look, np.uint8).astype(np.int16) for row in (one, other))
    return float(np.abs(next(colours) - next(colours)).mean()) <= SAME_COLOURS
