from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil

from tests.clip.samples import picture
from webui.clip.preprocess import fit, pixels, plan_for

CLIP = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
SIGLIP = SiglipImageProcessorPil(size={"height": 56, "width": 56})


def ours(image: Image.Image, processor: object) -> np.ndarray:
    plan = plan_for(processor)
    return pixels(fit(image, plan), plan)


@pytest.mark.parametrize("processor", [CLIP, SIGLIP], ids=["clip", "siglip"])
@pytest.mark.parametrize("size", [(56, 56), (100, 57), (57, 100), (64, 160), (161, 83), (1, 1), (30, 20), (224, 56)])
def test_pixels_equal_those_of_the_models_own_processor(processor: object, size: tuple[int, int]) -> None:
    image = picture(*size)
    theirs = processor(images=[image], return_tensors="np")["pixel_values"][0]  # type: ignore[operator]
    np.testing.assert_allclose(ours(image, processor), theirs, atol=2e-6)


@pytest.mark.parametrize("size", [(600, 57), (57, 700)])
def test_a_long_picture_differs_by_one_level_at_most(size: tuple[int, int]) -> None:
    image = picture(*size)
    theirs = CLIP(images=[image], return_tensors="np")["pixel_values"][0]
    one_level = 1 / 255 / min(CLIP.image_std)
    difference = np.abs(ours(image, CLIP) - theirs)
    assert difference.max() <= one_level * 1.01
    assert (difference > 1e-5).mean() < 0.05


def test_a_very_long_picture_is_never_blown_up() -> None:
    assert fit(Image.new("RGB", (20_000, 10), "red"), plan_for(CLIP)).size == (56, 56)


def test_a_recipe_that_is_not_known_is_refused() -> None:
    for options in ({"do_center_crop": False}, {"do_normalize": False}, {"rescale_factor": 1.0}, {"do_pad": True}):
        with pytest.raises(ValueError, match="CLIPImageProcessorPil"):
            plan_for(CLIPImageProcessorPil(**options))
