"""From one latent to another: along the sphere and along the straight line. numpy only."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

_NEARLY_PARALLEL: Final = 1e-6
"""Sine of the angle below which the arc is a straight line in float64."""


def slerp(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Spherical interpolation (Shoemake 1985): sin((1-t)a)/sin(a) start + sin(ta)/sin(a) end, a the angle between.

    `share` is t in 0..1; at 0 and 1 it gives back `start` and `end` themselves. The angle is taken between the whole
    latents as vectors; between two of the same norm the norm stays. Opposite or parallel ones go along the line.
    """
    if share <= 0:
        return start
    if share >= 1:
        return end
    angle = angle_between(start, end)
    sine = math.sin(angle)
    if sine < _NEARLY_PARALLEL:
        return lerp(start, end, share)
    mixed = math.sin((1 - share) * angle) / sine * start + math.sin(share * angle) / sine * end
    return mixed.astype(start.dtype)


def lerp(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """Linear interpolation, (1 - t) start + t end; between two noises its norm sinks, to 0.71 of it half-way."""
    if share <= 0:
        return start
    if share >= 1:
        return end
    return ((1 - share) * start + share * end).astype(start.dtype)


def angle_between(start: np.ndarray, end: np.ndarray) -> float:
    """The angle of two latents as vectors, 0..pi; 0 when one of them is all zeros."""
    first, second = start.astype(np.float64).ravel(), end.astype(np.float64).ravel()
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 0.0 if norms == 0 else math.acos(min(1.0, max(-1.0, float(first @ second) / norms)))


def shares(frames: int) -> tuple[float, ...]:
    """Evenly spaced shares from 0 to 1, both included, for at least 2 frames."""
    return tuple(i / (frames - 1) for i in range(frames))
