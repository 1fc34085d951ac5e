"""What a latent shows: the predicted x0 behind a noisy one, and a linear map from latents to colours for previews."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image

from webui.diffusion.capabilities import latent_scaling

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.samplers import Space

CHART_SIDE: Final = 128
"""Pixels of the colour chart: 16 x 16 latents of Stable Diffusion's factor 8, many for the map's 15 unknowns."""

PREVIEW_SIDE: Final = 256
_PREVIEW_QUALITY: Final = 80


def predicted_x0(
    scheduler: Any, space: Space, model_output: torch.Tensor, timestep: torch.Tensor | float, sample: torch.Tensor
) -> torch.Tensor:
    """The clean latents that the model's output stands for, before `scheduler.step`; same shape and dtype as `sample`.

    `sample` is x_t as the scheduler gets it, before `scale_model_input`. With sigma the noise level of x_t:

    - "sigma" space, x = x0 + sigma eps: epsilon gives x - sigma eps; v gives
      x / (sigma^2 + 1) - v sigma / sqrt(sigma^2 + 1) (Karras et al. 2022; as EulerDiscreteScheduler.step).
    - "alpha" space, x = sqrt(a) x0 + sqrt(1 - a) eps: epsilon gives (x - sqrt(1 - a) eps) / sqrt(a); v gives
      sqrt(a) x - sqrt(1 - a) v (Salimans & Ho 2022, equation 11; as DDIMScheduler.step).
    - "flow" space, x = (1 - sigma) x0 + sigma eps, the model predicts the velocity eps - x0: x - sigma v (Lipman et al.
      2023; as FlowMatchEulerDiscreteScheduler.step).
    """
    if space == "flow":
        return sample - noise_level(scheduler, timestep) * model_output
    of_sample, of_output = _x0_weights(scheduler.config.prediction_type, space, noise_level(scheduler, timestep))
    return of_sample * sample + of_output * model_output


def _x0_weights(prediction_type: str, space: Space, sigma: float) -> tuple[float, float]:
    """The weights of x_t and of the model's output in x0."""
    root = math.sqrt(sigma**2 + 1)
    match prediction_type, space:
        case "epsilon", "sigma":
            return 1.0, -sigma
        case "epsilon", "alpha":
            return root, -sigma
        case "v_prediction", "sigma":
            return 1 / root**2, -sigma / root
        case "v_prediction", "alpha":
            return 1 / root, -sigma / root
        case _:
            raise NotImplementedError(f"prediction type {prediction_type}")


def noise_level(scheduler: Any, timestep: torch.Tensor | float) -> float:
    """The noise level sqrt((1 - a) / a) of the sample that the scheduler is about to step from.

    Schedulers that keep a table of sigmas know it by their step, which is exact for Karras sigmas too, where the
    timestep is rounded; the second half of a DPM2 step stands on an interpolated sigma of its own.
    """
    if not hasattr(scheduler, "sigmas"):
        alpha = float(scheduler.alphas_cumprod[int(timestep)])
        return math.sqrt((1 - alpha) / alpha)
    index = scheduler.step_index
    if index is None:
        index = scheduler.index_for_timestep(timestep)
    if hasattr(scheduler, "sigmas_interpol") and not scheduler.state_in_first_order:
        ancestral = hasattr(scheduler, "sigmas_up")  # keeps its midpoints one place earlier
        return float(scheduler.sigmas_interpol[index - 1 if ancestral else index])
    return float(scheduler.sigmas[index])


@dataclass(frozen=True, slots=True)
class LatentRGB:
    """An approximation of a VAE's decoder by a linear map from latent channels to colour; for previews only.

    `factors` is (C + 1, 3) float32: one row a latent channel and a last row for the constant. `r_squared` is the share
    of the colours' variance that the map explains on the chart it was fitted to.
    """

    factors: np.ndarray
    r_squared: float

    def image(self, latents: torch.Tensor) -> tuple[Image.Image, ...]:
        """One RGB picture of (W/8, H/8) pixels for each of the (B, C, H/8, W/8) latents (scaled as in the pipeline)."""
        channels = latents.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
        colours = channels @ self.factors[:-1] + self.factors[-1]
        return tuple(Image.fromarray(picture) for picture in np.clip(colours * 255.0 + 0.5, 0, 255).astype(np.uint8))

    def jpegs(self, latents: torch.Tensor, width: int, height: int) -> tuple[bytes, ...]:
        """Previews as JPEG files, shrunk to fit 256 x 256 if the picture of `width` x `height` pixels is larger."""
        shrink = min(1.0, PREVIEW_SIDE / max(width, height))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        return tuple(_jpeg(picture.resize(size, Image.Resampling.BICUBIC)) for picture in self.image(latents))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_PREVIEW_QUALITY)
    return buffer.getvalue()


@torch.inference_mode()
def fit_latent_rgb(pipe: StableDiffusionPipeline) -> LatentRGB:
    """Fit the map to this pipeline's VAE by least squares, from one encoding of a drawn colour chart."""
    chart, vae = colour_chart(), pipe.vae
    # Where offloading moves the VAE about, `vae.device` is where it rests, not where it computes.
    device = pipe._execution_device  # noqa: SLF001
    pixels = torch.from_numpy(chart).permute(2, 0, 1)[None].to(device, vae.dtype) * 2 - 1
    shift, scale = latent_scaling(vae)
    latents = (vae.encode(pixels).latent_dist.mode() - shift) * scale
    height, width = latents.shape[-2:]
    wanted = chart.reshape(height, CHART_SIDE // height, width, CHART_SIDE // width, 3).mean(axis=(1, 3)).reshape(-1, 3)
    channels = latents[0].float().cpu().numpy().reshape(latents.shape[1], -1).T
    inputs = np.concatenate([channels, np.ones((len(channels), 1), np.float32)], axis=1)
    factors, *_ = np.linalg.lstsq(inputs, wanted, rcond=None)
    residual = ((inputs @ factors - wanted) ** 2).sum()
    return LatentRGB(factors.astype(np.float32), float(1 - residual / ((wanted - wanted.mean(axis=0)) ** 2).sum()))


def colour_chart() -> np.ndarray:
    """A chart of 64 colours, 4 levels a channel, in squares of 16 pixels; (128, 128, 3) float32 in 0..1.

    The order is shuffled (always the same way), so that neighbours differ as objects and backgrounds do.
    """
    levels = np.linspace(0, 1, 4, dtype=np.float32)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 3)
    shuffled = np.random.default_rng(0).permutation(colours).reshape(8, 8, 3)
    square = CHART_SIDE // 8
    return shuffled.repeat(square, axis=0).repeat(square, axis=1)
