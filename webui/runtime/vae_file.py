"""A VAE in one `.safetensors` file, in the original layout or in diffusers', to take the place of a model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import nn

from webui.runtime import checkpoint_family as layout
from webui.runtime import safety
from webui.runtime.parts import Part
from webui.runtime.single_file import PartLayout, Tensors, part_of_file

_BEGINNINGS: Final = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_OLD_ATTENTION: Final = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""diffusers' names before 0.17."""


def check_vae_file(file: Path, roots: Sequence[Path]) -> None:
    """Raise UserError unless `file` is a whole VAE that lies in `roots`."""
    safety.resolve_inside(file, roots)
    layout.vae_config(file, layout.shapes_of(safety.read_safetensors_header(file)), None)


def vae_parts(file: Path) -> tuple[Part, ...]:
    """The one part. Raises UserError for a tensor that is missing or of another shape: that is seen in the header."""
    shapes = layout.shapes_of(safety.read_safetensors_header(file))
    config = layout.vae_config(file, shapes, None)
    prefix = layout.VAE if any(name.startswith(layout.VAE) for name in shapes) else ""
    convert = _current_names if layout.is_diffusers_vae(shapes) else partial(_converted, config)
    prefixes = tuple(f"{prefix}{beginning}" for beginning in _BEGINNINGS)
    return (part_of_file(file, shapes, "vae", PartLayout(prefixes, partial(_build, config), convert)),)


def _build(config: Mapping[str, Any]) -> nn.Module:
    module: nn.Module = AutoencoderKL.from_config(dict(config))
    return module


def _converted(config: Mapping[str, Any], _module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = convert_ldm_vae_checkpoint(tensors, config)
    return found


def _current_names(_module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    return {_current_name(name): tensor for name, tensor in tensors.items()}


def _current_name(name: str) -> str:
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(old, new)
    return name
