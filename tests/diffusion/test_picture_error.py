from __future__ import annotations

import math

import numpy as np
import pytest

from webui.diffusion.picture_error import compare_pictures, psnr, ssim

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def flat(level: int) -> np.ndarray:
    return np.full((24, 32, 3), level, np.uint8)


def test_a_picture_equals_itself() -> None:
    same = compare_pictures(PICTURE, PICTURE)
    assert same.psnr == math.inf
    assert same.ssim == pytest.approx(1)
    assert not same.error_map.any()


def test_psnr_of_known_differences() -> None:
    assert psnr(flat(0), flat(255)) == 0
    assert psnr(flat(100), flat(110)) == pytest.approx(10 * math.log10(255**2 / 100))


def test_ssim_of_two_flat_pictures_is_its_luminance_term() -> None:
    """Without variance the formula leaves (2 x y + C1) / (x^2 + y^2 + C1), Wang et al. 2004, equation 6."""
    c1 = (0.01 * 255) ** 2
    assert ssim(flat(100), flat(150)) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1))


def test_ssim_in_its_slow_form() -> None:
    """The definition, window by window, on one colour."""
    other = np.clip(PICTURE.astype(int) + np.random.default_rng(1).integers(-40, 40, PICTURE.shape), 0, 255)
    other = other.astype(np.uint8)
    axis = np.arange(11) - 5
    weights = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for colour in range(3):
        x, y = (p[..., colour].astype(float) for p in (PICTURE, other))
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = (p[top : top + 11, left : left + 11] for p in (x, y))
                ma, mb = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
                cov = (weights * (a - ma) * (b - mb)).sum()
                found.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(PICTURE, other) == pytest.approx(np.mean(found), abs=1e-9)


def test_the_error_map_shows_where() -> None:
    other = PICTURE.copy()
    other[3, 5] = PICTURE[3, 5] ^ 64
    error = compare_pictures(PICTURE, other)
    assert error.error_map.argmax() == 3 * 32 + 5
    assert error.error_map[3, 5] == pytest.approx(64)
    assert (error.error_map > 0).sum() == 1


def test_a_picture_smaller_than_the_window_has_no_ssim() -> None:
    assert compare_pictures(PICTURE[:8], PICTURE[:8]).ssim is None
