"""The VAE of a loaded pipeline in both directions: pixels to latent, latent to pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@torch.inference_mode()
def encode_picture(pipe: StableDiffusionPipeline, image: Image.Image) -> np.ndarray:
    """The latent of an RGB picture: (4, H/8, W/8) float32, scaled as in the pipeline, the same every time.

    The encoder gives a normal distribution for each cell; this is its mean, not a draw from it. The sides must be
    multiples of the VAE's factor, or the encoder would cut them.
    """
    pixels = pipe.image_processor.preprocess(image).to(computing_device(pipe), pipe.vae.dtype)
    latents = pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor
    return to_array(latents)


@torch.inference_mode()
def decode_latent(pipe: StableDiffusionPipeline, latent: np.ndarray) -> np.ndarray:
    """The picture of a (4, H/8, W/8) latent: (H, W, 3) uint8, as the pipeline would show it."""
    latents = torch.from_numpy(latent)[None].to(computing_device(pipe), pipe.vae.dtype)
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
    (image,) = pipe.image_processor.postprocess(pixels, output_type="pil", do_denormalize=[True])
    return np.asarray(image)


def computing_device(pipe: StableDiffusionPipeline) -> Any:
    """Where the pipeline computes; where offloading moves its parts about, `vae.device` is where they rest."""
    return pipe._execution_device  # noqa: SLF001


def to_array(latents: torch.Tensor) -> np.ndarray:
    """One latent of a batch of one, (1, 4, h, w) on any device, as (4, h, w) float32 in main memory."""
    array: np.ndarray = latents[0].detach().float().cpu().numpy()
    return array
