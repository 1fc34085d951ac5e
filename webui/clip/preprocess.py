"""From an 8-bit RGB picture to what the vision tower reads.

The model's own image processor does the same, at several times the cost: it turns every picture into an array and back
twice and normalises before it crops. `plan_for` reads what that processor would do; the pixels come out identical
(tests/clip/test_preprocess.py), except for very long pictures, see `LONG`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

# From this ratio of sides on, only the part that is kept is resized: 20,000 x 10 px would become 448,000 x 224 first.
# Pillow rounds its filter a little differently then: single pixels differ by one level of 255.
LONG: Final = 4.0


@dataclass(frozen=True, slots=True)
class PreprocessPlan:
    """Resize, centre crop, rescale to 0..1, normalise: CLIP's and SigLIP's recipe.

    `shortest_edge` is the size of the shorter side before the crop, or None when the picture is squeezed to
    (`height`, `width`) whatever its shape (SigLIP). `resample` is a Pillow filter number. `draft` lets the JPEG decoder
    reduce the picture first, down to twice the size needed: not the same pixels.
    """

    height: int
    width: int
    shortest_edge: int | None
    resample: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    draft: bool = False

    @property
    def draft_size(self) -> tuple[int, int] | None:
        """The (width, height) below which the decoder must not go, or None for a full decode."""
        return (2 * self.width, 2 * self.height) if self.draft else None


def plan_for(image_processor: Any, draft: bool = False) -> PreprocessPlan:
    """What `image_processor` (CLIPImageProcessor, SiglipImageProcessor, or alike) does to a picture.

    Raises ValueError for a recipe that this module does not know, such as padding or NaFlex patches.
    """
    p = image_processor
    size: Any = p.size
    crop: Any = getattr(p, "crop_size", None)
    if size is None:
        raise ValueError(f"{type(p).__name__} lets each picture decide its size")
    shortest_edge = size.get("shortest_edge")
    crops = bool(getattr(p, "do_center_crop", False)) and crop is not None
    if not (p.do_resize and p.do_rescale and p.do_normalize) or getattr(p, "do_pad", False):
        raise ValueError(f"{type(p).__name__} does not resize, rescale and normalise only")
    if shortest_edge is not None and not crops:
        raise ValueError(f"{type(p).__name__} keeps the shape of a picture")
    if shortest_edge is None and (size.get("height") is None or size.get("width") is None):
        raise ValueError(f"{type(p).__name__} resizes to {size}")
    if abs(p.rescale_factor * 255 - 1) > 1e-6:
        raise ValueError(f"{type(p).__name__} rescales by {p.rescale_factor}")
    target = crop if crops else size
    if shortest_edge is None and crops and (target["height"], target["width"]) != (size["height"], size["width"]):
        raise ValueError(f"{type(p).__name__} resizes to {size} and crops to {crop}")
    if shortest_edge is not None and shortest_edge < max(target["height"], target["width"]):
        raise ValueError(f"{type(p).__name__} crops to more than it resizes to")
    mean, std = tuple(map(float, p.image_mean)), tuple(map(float, p.image_std))
    return PreprocessPlan(target["height"], target["width"], shortest_edge, int(p.resample), mean, std, draft)


def fit(image: Image.Image, plan: PreprocessPlan) -> Image.Image:
    """The (height, width) part of the RGB picture that the model sees, as 8-bit RGB."""
    resample = Image.Resampling(plan.resample)
    if plan.shortest_edge is None:
        return image.resize((plan.width, plan.height), resample)
    width, height = _resized_size(image.size, plan.shortest_edge)
    left, top = (width - plan.width) // 2, (height - plan.height) // 2
    if max(width, height) <= LONG * min(width, height):
        return image.resize((width, height), resample).crop((left, top, left + plan.width, top + plan.height))
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + plan.width) * across, (top + plan.height) * down)
    return image.resize((plan.width, plan.height), resample, box=box)


def pixels(fitted: Image.Image, plan: PreprocessPlan) -> npt.NDArray[np.float32]:
    """(3, height, width) float32, normalised; `fitted` comes from `fit`."""
    scale = np.array([1 / (255 * s) for s in plan.std], np.float32)
    offset = np.array([-m / s for m, s in zip(plan.mean, plan.std, strict=True)], np.float32)
    values = np.asarray(fitted, np.float32) * scale + offset
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _resized_size(size: tuple[int, int], shortest_edge: int) -> tuple[int, int]:
    """(width, height) after the shorter side became `shortest_edge`; the longer one is cut to whole pixels."""
    width, height = size
    if width <= height:
        return shortest_edge, int(shortest_edge * height / width)
    return int(shortest_edge * width / height), shortest_edge
