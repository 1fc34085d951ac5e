"""The preview maps of the models seen so far, each fitted once; torch comes only with the first."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.latents import LatentRGB


class PreviewMaps:
    """Remembers the map of each model: fifteen numbers, so they stay when the model leaves the memory."""

    def __init__(self) -> None:
        self._maps: dict[Hashable, LatentRGB] = {}
        self._lock = threading.Lock()

    def of(self, key: Hashable, pipe: StableDiffusionPipeline) -> LatentRGB:
        """The map of the model `key`, fitted to its VAE (one encoding of a 128 x 128 chart) when it is new."""
        from webui.diffusion.latents import fit_latent_rgb

        with self._lock:
            if key not in self._maps:
                self._maps[key] = fit_latent_rgb(pipe)
            return self._maps[key]
