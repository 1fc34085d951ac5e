"""What latents a VAE makes, told from headers and configurations before one that does not fit is read, or its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from webui.errors import UserError
from webui.runtime import checkpoint_family as layout
from webui.runtime import safety

_USUAL_CHANNELS: Final = 4
"""Of diffusers' AutoencoderKL where its configuration names none."""


@dataclass(frozen=True, slots=True)
class VaeLatents:
    """A latent of an H x W picture is (`channels`, H/`factor`, W/`factor`)."""

    channels: int
    factor: int


def latents_of(config: Mapping[str, Any]) -> VaeLatents:
    """By a VAE's configuration."""
    channels = int(config.get("latent_channels", _USUAL_CHANNELS))
    return VaeLatents(channels, layout.vae_factor(config["block_out_channels"]))


def latents_of_file(file: Path) -> VaeLatents:
    """Of a VAE in a file of its own, by the shapes in its header. Raises UserError for one that is not whole."""
    return latents_of(layout.vae_config(file, layout.shapes_of(safety.read_safetensors_header(file)), None))


def latents_of_model(source: Path) -> VaeLatents:
    """Of the VAE of a txt2img model in a folder, or in one file. Raises UserError for one that is broken."""
    if source.is_file():
        return latents_of(layout.plan_checkpoint(source, layout.shapes_of(safety.read_safetensors_header(source))).vae)
    return latents_of(safety.read_json(source / "vae" / "config.json"))


def check_same_latents(file: Path, of_file: VaeLatents, of_model: VaeLatents) -> None:
    """Raise UserError that names `file` unless its VAE can take the place of the model's own."""
    for name, found, expected in (
        ("latent_channels", of_file.channels, of_model.channels),
        ("vae_scale_factor", of_file.factor, of_model.factor),
    ):
        if found != expected:
            raise UserError("error.vae_other_latents", file=str(file), name=name, value=found, expected=expected)
