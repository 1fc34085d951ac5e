"""What a loaded pipeline can do, read from its parts: the instruments ask this instead of a model's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import torch

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]
Guidance = Literal["classifier_free", "embedded"]

_DEFAULT_CELLS: Final = 128


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`latent_channels` and `factor` make a latent of an H x W picture (C, H/factor, W/factor).

    `cross_attention` says that a U-Net's cross-attention can be recorded. `own_size` is the (height, width) in pixels
    that it was trained at. `packed` says that the sampler works on rows of patches, (B, cells/4, 4 C), instead of on
    latents. `text_encoders` are their names in the order of use. `shift` and `scale` make the sampler's latents of the
    VAE's: (z - shift) scale.
    """

    cross_attention: bool
    text_encoders: tuple[str, ...]
    latent_channels: int
    factor: int
    own_size: tuple[int, int]
    prediction: Prediction
    guidance: Guidance
    packed: bool
    shift: float
    scale: float


def capabilities_of(pipe: Any) -> Capabilities:
    """Ask a pipeline's parts."""
    parts = pipe.components
    denoiser: Any = parts.get("unet") or parts["transformer"]
    shift, scale = latent_scaling(pipe.vae)
    packed = hasattr(pipe, "_unpack_latents")
    # A packed transformer has no sample_size of its own: its rows of patches may be of any number.
    cells = _DEFAULT_CELLS if packed else denoiser.config.sample_size
    height, width = (cells, cells) if isinstance(cells, int) else cells
    return Capabilities(
        cross_attention=bool(parts.get("unet") and denoiser.config.cross_attention_dim),
        text_encoders=tuple(name for name, part in parts.items() if name.startswith("text_encoder") and part),
        latent_channels=int(pipe.vae.config.latent_channels),
        factor=int(pipe.vae_scale_factor),
        own_size=(height * pipe.vae_scale_factor, width * pipe.vae_scale_factor),
        prediction=pipe.scheduler.config.get("prediction_type", "flow"),
        guidance="embedded" if packed or denoiser.config.get("time_cond_proj_dim") else "classifier_free",
        packed=packed,
        shift=shift,
        scale=scale,
    )


def latent_scaling(vae: Any) -> tuple[float, float]:
    """(shift, scale): the sampler's latents are (z - shift) scale of the VAE's."""
    return float(getattr(vae.config, "shift_factor", None) or 0.0), float(vae.config.scaling_factor)


def unpacked(pipe: Any, rows: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Rows of patches as the latents (B, C, H/factor, W/factor) of an H x W picture; latents stay as they are."""
    if rows.ndim == 4:
        return rows
    latents: torch.Tensor = pipe._unpack_latents(rows, height, width, pipe.vae_scale_factor)  # noqa: SLF001
    return latents
