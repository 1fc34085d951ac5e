"""Pictures one after the other in one file that every browser plays. Pillow only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image

ANIMATION_FORMATS: Final = MappingProxyType({"webp": "image/webp", "gif": "image/gif", "png": "image/png"})
"""File ending to MIME type; "png" is APNG. WebP and APNG keep every pixel, GIF has 256 colours a frame."""


def animate(frames: Sequence[np.ndarray], kind: str, frame_ms: int = 120, *, back_again: bool = True) -> bytes:
    """An endless animation of (H, W, 3) uint8 frames as a file of `kind`, a key of ANIMATION_FORMATS.

    `back_again` plays the frames backwards after the last one, so that there is no jump.
    """
    order = [*frames, *frames[-2:0:-1]] if back_again else list(frames)
    first, *rest = (Image.fromarray(frame) for frame in order)
    options = {"lossless": True, "method": 2} if kind == "webp" else {}
    buffer = io.BytesIO()
    first.save(
        buffer, format=kind.upper(), save_all=True, append_images=rest, duration=frame_ms, loop=0, **options
    )  # fmt: skip
    return buffer.getvalue()
