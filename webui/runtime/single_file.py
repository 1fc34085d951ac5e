"""Stable Diffusion from one `.safetensors` file in the original layout, without a network: torch's side of it.

The configuration comes from the shapes (`checkpoint_family`), the vocabulary ships with the project, and the names are
translated by diffusers' own conversion functions, part by part, so that a part can be watched, measured and shared as
if it had come from a folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from webui.errors import UserError
from webui.runtime import checkpoint_family as layout
from webui.runtime import safety
from webui.runtime.checkpoint_family import CheckpointFamily, CheckpointPlan
from webui.runtime.clip_vocabulary import VOCABULARY_SIZE, read_clip_vocabulary
from webui.runtime.parts import Part
from webui.runtime.shared_tokenizer import share

_TRAIN_STEPS: Final = 1000
_PROBE_SIDE: Final = 16
_PROBE_LIKENESS: Final = 0.5
_V_PARAMETERIZATION: Final = re.compile(r"^\s*parameterization\s*:\s*[\"']?v\b", re.MULTILINE)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How one part lies in the file: the beginnings of its names, and how they become those of its class."""

    prefixes: tuple[str, ...]
    build: Callable[[], nn.Module]
    convert: Callable[[nn.Module, Tensors], Mapping[str, torch.Tensor]]


def checkpoint_parts(file: Path) -> tuple[Part, ...]:
    """Text encoder, U-Net and VAE of a Stable Diffusion 1.x or 2.x checkpoint.

    Raises UserError for a tensor that is missing or has another shape than its neighbours ask for: that is seen in the
    header, before any weight is read.
    """
    header = safety.read_safetensors_header(file)
    shapes = layout.shapes_of(header)
    plan = layout.plan_checkpoint(file, shapes)
    if plan.text_encoder["vocab_size"] != VOCABULARY_SIZE:
        raise UserError(
            "error.tokenizer_mismatch", folder=str(file), tokens=VOCABULARY_SIZE,
            vocabulary=plan.text_encoder["vocab_size"],
        )  # fmt: skip
    return tuple(_part(file, shapes, name, part) for name, part in _layouts(plan).items())


def load_clip_tokenizer(family: CheckpointFamily) -> CLIPTokenizer:
    """CLIP's tokenizer; Stable Diffusion 2 fills a prompt up with "!" (token 0), 1.x with the end token."""
    vocabulary, merges = read_clip_vocabulary()
    pad = {"pad_token": "!"} if family is CheckpointFamily.SD2 else {}
    options: dict[str, Any] = {"vocab": vocabulary, "merges": merges, "model_max_length": 77, **pad}
    return share(CLIPTokenizer(**options))


def build_scheduler_for(file: Path, unet: UNet2DConditionModel) -> DDIMScheduler:
    """The noise schedule that Stable Diffusion 1.x and 2.x were trained with, and what their U-Net predicts."""
    return DDIMScheduler(
        num_train_timesteps=_TRAIN_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type(file, unet),
    )


def family_of(file: Path) -> CheckpointFamily:
    """The family of a checkpoint that can be loaded."""
    return layout.plan_checkpoint(file, layout.shapes_of(safety.read_safetensors_header(file))).family


def prediction_type(file: Path, unet: UNet2DConditionModel) -> str:
    """What the U-Net predicts: as the file says, else as a `.yaml` beside it says, else as the U-Net behaves.

    "epsilon" or "v_prediction". Stable Diffusion 1.x predicts the noise. For 2.x neither names nor shapes
    tell the two kinds apart, so the U-Net is asked once (`predicts_noise`).
    """
    header = safety.read_safetensors_header(file)
    if layout.detect(layout.shapes_of(header)).family is CheckpointFamily.SD1:
        return "epsilon"
    metadata = header.get("__metadata__")
    said = str(metadata.get("modelspec.prediction_type", "")) if isinstance(metadata, dict) else ""
    if said:
        return "v_prediction" if said.startswith("v") else "epsilon"
    beside = file.with_suffix(".yaml")
    if beside.is_file() and beside.stat().st_size <= safety.MAX_JSON_BYTES:
        text = beside.read_text(encoding="utf-8", errors="replace")
        return "v_prediction" if _V_PARAMETERIZATION.search(text) else "epsilon"
    return "epsilon" if predicts_noise(unet) else "v_prediction"


@torch.no_grad()
def predicts_noise(unet: UNet2DConditionModel) -> bool:
    """Whether the U-Net, shown almost pure noise (t = 999), gives that noise back.

    x_t = alpha x_0 + sigma eps with alpha = 0.07: a U-Net that predicts eps returns about x_t, one that predicts
    v = alpha eps - sigma x_0 (Salimans & Ho 2022) something that hardly resembles it: the cosine of the two tells.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, _PROBE_SIDE, _PROBE_SIDE, generator=generator).to(unet.device, unet.dtype)
    context = torch.zeros(1, 77, unet.config.cross_attention_dim, device=unet.device, dtype=unet.dtype)
    output = unet(noise, _TRAIN_STEPS - 1, encoder_hidden_states=context).sample
    likeness = torch.nn.functional.cosine_similarity(output.flatten().float(), noise.flatten().float(), dim=0)
    return bool(likeness > _PROBE_LIKENESS)


def _layouts(plan: CheckpointPlan) -> dict[str, _Layout]:
    """In the order in which the parts compute."""
    open_clip = plan.family is CheckpointFamily.SD2
    return {
        "text_encoder": _Layout(
            (layout.OPEN_CLIP,) if open_clip else (layout.CLIP_L,),
            lambda: CLIPTextModel(CLIPTextConfig(bos_token_id=49406, eos_token_id=49407, **plan.text_encoder)),
            _open_clip_names if open_clip else _clip_names,
        ),
        "unet": _Layout(
            (layout.UNET,),
            lambda: UNet2DConditionModel.from_config({"sample_size": _sample_size(plan), **plan.unet}),
            lambda _, tensors: convert_ldm_unet_checkpoint(tensors, plan.unet),
        ),
        "vae": _Layout(
            (layout.VAE,),
            lambda: AutoencoderKL.from_config(dict(plan.vae)),
            lambda _, tensors: convert_ldm_vae_checkpoint(tensors, plan.vae),
        ),
    }


def _sample_size(plan: CheckpointPlan) -> int:
    """Latents a side at the size that the model was trained at."""
    return 96 if plan.family is CheckpointFamily.SD2 else 64


def _clip_names(module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    return _without_wrapper(module, convert_ldm_clip_checkpoint(tensors))


def _open_clip_names(module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    """OpenCLIP's last block is left out, which the configuration's number of layers says already."""
    module_any: Any = module
    kept = module_any.config.num_hidden_layers
    prefix = f"{layout.OPEN_CLIP}transformer.resblocks."
    wanted = {
        name: tensor
        for name, tensor in tensors.items()
        if not (name.startswith(prefix) and int(name.removeprefix(prefix).partition(".")[0]) >= kept)
        and name != f"{layout.OPEN_CLIP}text_projection"
    }
    return _without_wrapper(module, convert_open_clip_checkpoint(module, wanted, prefix=layout.OPEN_CLIP))


def _without_wrapper(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    if hasattr(module, "text_model"):
        return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}
    return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}


def _part(file: Path, shapes: layout.Shapes, name: str, part: _Layout) -> Part:
    return Part(name, (file,), partial(_empty, file, shapes, part), partial(_load, file, shapes, part))


def _empty(file: Path, shapes: layout.Shapes, part: _Layout) -> nn.Module:
    """The module without weights, once the file is known to have all of them in the right shapes."""
    module = part.build()
    described = {
        name: torch.empty(shape, device="meta") for name, shape in shapes.items() if name.startswith(part.prefixes)
    }
    _check_names(file, module, _converted(file, part, module, described))
    return module


def _load(file: Path, shapes: layout.Shapes, part: _Layout, dtype: torch.dtype) -> nn.Module:
    with init_empty_weights():
        module = part.build()
    names = [name for name in shapes if name.startswith(part.prefixes)]
    with safe_open(file, framework="pt") as weights:
        tensors = {name: _cast(weights.get_tensor(name), dtype) for name in names}
    converted = _converted(file, part, module, tensors)
    _check_names(file, module, converted)
    module.load_state_dict(
        {name: tensor.contiguous() for name, tensor in converted.items() if tensor is not None},
        strict=False,
        assign=True,
    )
    return module


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _converted(file: Path, part: _Layout, module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    try:
        return part.convert(module, tensors)
    except KeyError as error:
        raise UserError("error.checkpoint_lacks", file=str(file), name=str(error.args[0])) from error
    except (AttributeError, IndexError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("error.model_file_broken", file=str(file), reason=reason) from error


def _check_names(file: Path, module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    wanted = dict(module.named_parameters())
    missing = sorted(name for name in wanted if tensors.get(name) is None)
    if missing:
        raise UserError("error.weights_incomplete", file=str(file), count=len(missing), name=missing[0])
    for name, parameter in wanted.items():
        if tensors[name].shape != parameter.shape:
            raise UserError(
                "error.weights_shape", file=str(file), name=name, shape=list(tensors[name].shape),
                expected=list(parameter.shape),
            )  # fmt: skip
