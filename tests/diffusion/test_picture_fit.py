from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from webui.diffusion.picture_fit import fit_to_limits, fit_to_size
from webui.diffusion.request import GenerateLimits

LIMITS = GenerateLimits(max_side=256, max_pixels=128 * 256)


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([2, 8]))
def test_any_picture_fits(width: int, height: int, multiple: int) -> None:
    fitted = fit_to_limits(Image.new("RGB", (width, height)), multiple, LIMITS)
    assert fitted.source_size == (width, height)
    for side, scaled in zip(fitted.image.size, fitted.scaled_size, strict=True):
        assert side % multiple == 0
        assert multiple <= side <= LIMITS.max_side
        assert side <= scaled
    assert fitted.image.width * fitted.image.height <= LIMITS.max_pixels * 1.05


def test_a_picture_that_fits_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    fitted = fit_to_limits(Image.fromarray(pixels), 8, LIMITS)
    assert not fitted.scaled
    assert not fitted.cropped
    assert np.array_equal(np.asarray(fitted.image), pixels)


def test_edges_are_cut_evenly_and_it_is_said() -> None:
    pixels = np.arange(21 * 16 * 3, dtype=np.uint32).reshape(16, 21, 3).astype(np.uint8)
    fitted = fit_to_limits(Image.fromarray(pixels), 8, LIMITS)
    assert (fitted.scaled, fitted.cropped) == (False, True)
    assert np.array_equal(np.asarray(fitted.image), pixels[:, 2:18])


@pytest.mark.parametrize(
    ("size", "scaled"), [((300, 150), (256, 128)), ((64, 32), (256, 128)), ((128, 256), (128, 256))]
)
def test_covering_a_size_scales_by_the_shorter_side(size: tuple[int, int], scaled: tuple[int, int]) -> None:
    fitted = fit_to_size(Image.new("RGB", size), 128, 128)
    assert fitted.image.size == (128, 128)
    assert fitted.scaled_size == scaled
