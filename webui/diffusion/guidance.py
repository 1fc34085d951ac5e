"""What classifier-free guidance does at each step (Ho & Salimans 2022), in numpy on a `Trace`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from webui.diffusion.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class GuidanceMeter:
    """One entry a call, all on noise (a model that predicts v is converted), or on velocity for one of flow matching.

    `ratio` (S,) is |cond - uncond| / |uncond|; `cosine` (S,) that of the angle between cond and uncond; `stretch` (S,)
    is |guided| / |cond|, the growth that `guidance_rescale` would undo; `difference` (S, h, w) float32 is the root mean
    square of cond - uncond over the channels.
    """

    ratio: np.ndarray
    cosine: np.ndarray
    stretch: np.ndarray
    difference: np.ndarray


def alpha_latents(trace: Trace, call: int) -> np.ndarray:
    """x_t scaled to sqrt(a) x0 + sqrt(1 - a) eps, or as it is in "flow" space, where both shares sum to 1 already.

    (C, h, w) float32.
    """
    latents: np.ndarray = trace.latents[call]
    if trace.header.space != "sigma":
        return latents
    scaled: np.ndarray = latents * np.float32(math.sqrt(trace.header.steps[call].alpha_cumprod))
    return scaled


def noise_prediction(trace: Trace, call: int, output: np.ndarray) -> np.ndarray:
    """The noise eps that a U-Net output (C, h, w) stands for: itself, or sqrt(a) v + sqrt(1 - a) x_t from v.

    v = sqrt(a) eps - sqrt(1 - a) x0 (Salimans & Ho 2022), x_t in "alpha" scaling. The velocity of flow matching is left
    as it is: as noise, x_t + (1 - sigma) v, both halves of the first call would be x_t itself.
    """
    output = output.astype(np.float32)
    if trace.header.prediction_type != "v_prediction":
        return output
    alpha = trace.header.steps[call].alpha_cumprod
    noise: np.ndarray = np.float32(math.sqrt(alpha)) * output + np.float32(math.sqrt(1 - alpha)) * alpha_latents(
        trace, call
    )
    return noise


def guidance_meter(trace: Trace) -> GuidanceMeter | None:
    """The figures of a guided run; None for one without an unconditional half."""
    if trace.uncond is None:
        return None
    ratios, cosines, stretches, maps = [], [], [], []
    for call in range(len(trace.header.steps)):
        cond = noise_prediction(trace, call, trace.cond[call])
        uncond = noise_prediction(trace, call, trace.uncond[call])
        guided = noise_prediction(trace, call, trace.guided(call))
        difference = cond - uncond
        ratios.append(_over(_norm(difference), _norm(uncond)))
        cosines.append(_over(float((cond * uncond).sum()), _norm(cond) * _norm(uncond)))
        stretches.append(_over(_norm(guided), _norm(cond)))
        maps.append(np.sqrt((difference**2).mean(axis=0)))
    return GuidanceMeter(np.array(ratios), np.array(cosines), np.array(stretches), np.stack(maps).astype(np.float32))


def _norm(values: np.ndarray) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).sum()))


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0
