"""Another VAE in a loaded pipeline's place, for one run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final

from webui.diffusion.light_pipeline import with_parts
from webui.runtime.vae_latents import check_same_latents, latents_of

_THE_MODELS: Final = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""What the U-Net was trained with, so that it is the model's whatever VAE decodes; a file does not say it."""


def with_vae(pipe: Any, vae: Any, file: Path) -> Any:
    """A pipeline like `pipe` that decodes with `vae`, which came from `file`; neither is changed.

    Raises UserError for a VAE of other latents: another number of channels, or of pixels a latent covers.
    """
    own = pipe.vae
    check_same_latents(file, latents_of(vae.config), latents_of(own.config))
    placed = copy.copy(vae)  # the same weights, with settings of its own
    placed.register_to_config(**{name: own.config.get(name) for name in _THE_MODELS})
    if own.use_tiling:
        placed.enable_tiling()
    if own.use_slicing:
        placed.enable_slicing()
    return with_parts(pipe, {"vae": placed})
