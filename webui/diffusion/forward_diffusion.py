"""Forward diffusion in closed form: any amount of noise in one step, with the numbers in it. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class NoisePoint:
    """One place on a model's noise schedule: x_t = `signal` x_0 + `noise` eps.

    `alpha_bar` is the cumulative product of the alphas at `timestep` (0..T-1), `signal` its root, `noise` the root of
    1 - alpha_bar.
    """

    timestep: int
    alpha_bar: float
    signal: float
    noise: float

    @property
    def snr_db(self) -> float:
        """Signal to noise, 10 log10(alpha_bar / (1 - alpha_bar)), for latents of unit variance."""
        return 20 * math.log10(self.signal / self.noise)


def noise_point(alphas_cumprod: np.ndarray, timestep: int) -> NoisePoint:
    """The place of `timestep` on the schedule whose cumulative products are `alphas_cumprod` (T,)."""
    alpha_bar = float(alphas_cumprod[timestep])
    return NoisePoint(timestep, alpha_bar, math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))


def seeded_noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal noise as float32, the same for the same seed. Not the noise that drawing with a seed starts from.

    That noise comes from torch's generator (`webui.diffusion.denoise.initial_noise`).
    """
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def add_noise(x0: np.ndarray, noise: np.ndarray, point: NoisePoint) -> np.ndarray:
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps (Ho, Jain & Abbeel 2020, equation 4), float32."""
    noised: np.ndarray = (point.signal * x0 + point.noise * noise).astype(np.float32)
    return noised
