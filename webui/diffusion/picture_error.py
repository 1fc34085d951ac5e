"""How far a picture is from its original, as a number and as a map. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

_WINDOW: Final = 11
_WINDOW_SIGMA: Final = 1.5
_C1: Final = (0.01 * 255) ** 2
_C2: Final = (0.03 * 255) ** 2


@dataclass(frozen=True, slots=True, eq=False)
class PictureError:
    """PSNR in dB (infinite for equal pictures), mean SSIM (1 for equal ones; None when a side is under 11 pixels).

    `error_map` is (H, W) float32: the root of the mean squared difference over the three colours, in levels of 0..255.
    """

    psnr: float
    ssim: float | None
    error_map: np.ndarray


def compare_pictures(original: np.ndarray, other: np.ndarray) -> PictureError:
    """Compare two (H, W, 3) uint8 pictures of the same size."""
    difference = original.astype(np.float64) - other.astype(np.float64)
    error_map = np.sqrt((difference**2).mean(axis=2))
    small = min(original.shape[:2]) < _WINDOW
    return PictureError(psnr(original, other), None if small else ssim(original, other), error_map.astype(np.float32))


def psnr(original: np.ndarray, other: np.ndarray) -> float:
    """10 log10(255^2 / mean squared error) of uint8 pictures, in dB; infinite when they are equal."""
    mean_squared = float(((original.astype(np.float64) - other.astype(np.float64)) ** 2).mean())
    return math.inf if mean_squared == 0 else 10 * math.log10(255**2 / mean_squared)


def ssim(original: np.ndarray, other: np.ndarray) -> float:
    """Mean structural similarity of (H, W, 3) uint8 pictures, computed for each colour and averaged.

    Wang, Bovik, Sheikh & Simoncelli 2004: a Gaussian window of 11 x 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, only
    where the whole window lies in the picture.
    """
    x, y = original.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    variance_x = _windowed(x * x) - mean_x**2
    variance_y = _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_x + variance_y + _C2)
    return float((luminance * structure).mean())


def _windowed(values: np.ndarray) -> np.ndarray:
    """The Gaussian-weighted mean around each pixel whose window is whole: (H, W, 3) to (H - 10, W - 10, 3)."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * _WINDOW_SIGMA**2))
    weights /= weights.sum()
    for axis in (0, 1):
        length = values.shape[axis] - _WINDOW + 1
        parts = (weight * np.take(values, range(i, i + length), axis) for i, weight in enumerate(weights))
        values = np.add.reduce(list(parts))
    return values
