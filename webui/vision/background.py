"""The colour behind the things in a picture, measured from its rim; no model is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from webui.vision.labels import COLOURS, Colour

_SIDE: Final = 64
_RIM: Final = 3  # of 64 pixels


@dataclass(frozen=True, slots=True)
class RimColour:
    """The named colour nearest to the middle of the rim's pixels, and the `share` of them that are nearest to it."""

    colour: Colour
    share: float


def rim_colour(image: Image.Image) -> RimColour:
    """What colour the outermost pixels of an RGB picture have: their median, named by the nearest of `COLOURS`.

    Distances are taken in CIE L*a*b* (D65), where they follow what people see. A rim of many colours has a low share.
    """
    small = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX))
    inner = np.zeros((_SIDE, _SIDE), bool)
    inner[_RIM:-_RIM, _RIM:-_RIM] = True
    rim = small[~inner]
    known = _lab(np.array([colour.rgb for colour in COLOURS]))
    middle = _lab(np.median(rim, axis=0)[None])[0]
    chosen = int(np.linalg.norm(known - middle, axis=1).argmin())
    nearest = np.linalg.norm(_lab(rim)[:, None] - known[None], axis=2).argmin(axis=1)
    return RimColour(COLOURS[chosen], float((nearest == chosen).mean()))


def _lab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB 0..255 to CIE L*a*b* under D65 (IEC 61966-2-1, CIE 15)."""
    values = rgb / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
