"""Pictures to feed a CLIP in tests."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from webui.vision.pictures import PictureFile


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft colour blots: something that a resize and a crop change."""
    small = np.random.default_rng(seed).integers(0, 256, (max(height // 8, 1), max(width // 8, 1), 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def png(width: int = 48, height: int = 40, seed: int = 0) -> PictureFile:
    buffer = io.BytesIO()
    picture(width, height, seed).save(buffer, "PNG")
    return PictureFile(f"picture-{seed}.png", buffer.getvalue())
