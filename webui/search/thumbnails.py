"""Small copies of pictures for the results: made at the first look, kept by content in the cache folder."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Final

from PIL import Image

from webui.store.whole_file import write_whole
from webui.vision.pictures import MemoryGate, PictureFile, PictureLimits, opened

_log = logging.getLogger(__name__)

SIDE: Final = 320
"""Longer side in pixels: cards are up to 200 CSS pixels wide, on screens of up to twice as many."""


class Thumbnails:
    """WebP files below `folder`; safe from any thread."""

    def __init__(self, folder: Path, limits: PictureLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._gate = MemoryGate()

    def of(self, path: Path, content: str) -> bytes:
        """The thumbnail of the picture at `path` as WebP, kept under the hash of its `content`.

        Raises UserError when the file cannot be read any more.
        """
        kept = self._folder / content[:2] / f"{content}-{SIDE}.webp"
        try:
            return kept.read_bytes()
        except OSError:
            made = self._make(path)
        _keep(kept, made)
        return made

    def _make(self, path: Path) -> bytes:
        file = PictureFile(path.name, path)
        with opened(file.name, file.read(self._limits), self._limits, self._gate, (SIDE, SIDE)) as picture:
            small = picture.image.copy()
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=80, method=2)
        return buffer.getvalue()


def _keep(path: Path, content: bytes) -> None:
    """Write whole or not at all; without room for it the thumbnail is made again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        _log.warning("a thumbnail is not kept: %s", error)
