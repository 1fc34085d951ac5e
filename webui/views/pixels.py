"""Arrays as pictures that stand in a page by themselves: colours, signed maps, and maps of sizes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from webui.views.colours import NEGATIVE, POSITIVE, sequential
from webui.views.figures import data_url

_NOTHING = (247, 247, 247)
"""The middle of the signed scale, which stands for 0."""


def colour_png(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as the address of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return data_url(buffer.getvalue(), "png")


def signed_png(values: np.ndarray, reach: float) -> str:
    """(h, w) values: blue above 0, orange below, white at 0; full colour at `reach` and beyond."""
    share = np.clip(values / (reach or 1.0), -1, 1)[..., None]
    ends = np.where(share > 0, _channels(POSITIVE), _channels(NEGATIVE))
    mixed = np.abs(share) * ends + (1 - np.abs(share)) * np.array(_NOTHING)
    return colour_png(mixed.round().astype(np.uint8))


def size_png(values: np.ndarray, largest: float) -> str:
    """(h, w) values from 0 (dark) to `largest` (bright) in the sequential scale."""
    table = np.array([_channels(sequential(level / 255)) for level in range(256)], dtype=np.uint8)
    levels = np.clip(values / (largest or 1.0) * 255, 0, 255).astype(np.uint8)
    return colour_png(table[levels])


def signed_stops() -> tuple[str, str, str]:
    """The signed scale's colours from least to greatest, for a legend."""
    return (NEGATIVE, "#f7f7f7", POSITIVE)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
