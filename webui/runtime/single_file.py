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
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from webui.errors import UserError
from webui.runtime import checkpoint_family as layout
from webui.runtime import safety
from webui.runtime.checkpoint_family import CheckpointFamily, CheckpointPlan
from webui.runtime.clip_vocabulary import VOCABULARY_SIZE, read_clip_vocabulary
from webui.runtime.parts import Part
from webui.runtime.shared_tokenizer import share

NO_CHECKER: Final = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

_TRAIN_STEPS: Final = 1000
_PROBE_SIDE: Final = 16
_PROBE_LIKENESS: Final = 0.5
_BETAS: Final[Mapping[str, Any]] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_V_PREDICTION: Final = "v_pred"
_ZERO_SNR: Final = "ztsnr"
"""Empty tensors with which SDXL's descendants say how they were trained (Lin et al. 2024), as ComfyUI reads them."""
_V_PARAMETERIZATION: Final = re.compile(r"^\s*parameterization\s*:\s*[\"']?v\b", re.MULTILINE)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class PartLayout:
    """How one part lies in the file: the beginnings of its names, and how they become those of its class."""

    prefixes: tuple[str, ...]
    build: Callable[[], nn.Module]
    convert: Callable[[nn.Module, Tensors], Mapping[str, torch.Tensor]]


def checkpoint_parts(file: Path) -> tuple[Part, ...]:
    """Text encoders, U-Net and VAE of a Stable Diffusion 1.x, 2.x or SDXL checkpoint.

    Raises UserError for a tensor that is missing or has another shape than its neighbours ask for: that is seen in the
    header, before any weight is read.
    """
    header = safety.read_safetensors_header(file)
    shapes = layout.shapes_of(header)
    plan = layout.plan_checkpoint(file, shapes)
    for config in (plan.text_encoder, plan.text_encoder_2 or plan.text_encoder):
        if config["vocab_size"] != VOCABULARY_SIZE:
            sizes = {"tokens": VOCABULARY_SIZE, "vocabulary": config["vocab_size"]}
            raise UserError("error.tokenizer_mismatch", folder=str(file), **sizes)
    return tuple(part_of_file(file, shapes, name, part) for name, part in _layouts(plan).items())


def assemble_checkpoint(file: Path, modules: Mapping[str, Any]) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """The pipeline over the parts that were read from `file`."""
    family = family_of(file)
    scheduler = build_scheduler_for(file, modules["unet"])
    if family is not CheckpointFamily.SDXL:
        tokenizer = load_clip_tokenizer(open_clip=family is CheckpointFamily.SD2)
        return StableDiffusionPipeline(**modules, tokenizer=tokenizer, scheduler=scheduler, **NO_CHECKER)
    return StableDiffusionXLPipeline(
        **modules,
        tokenizer=load_clip_tokenizer(open_clip=False),
        tokenizer_2=load_clip_tokenizer(open_clip=True),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def load_clip_tokenizer(*, open_clip: bool) -> CLIPTokenizer:
    """CLIP's tokenizer; OpenCLIP's encoders take a prompt filled up with "!" (token 0), OpenAI's with the end token."""
    vocabulary, merges = read_clip_vocabulary()
    pad = {"pad_token": "!"} if open_clip else {}
    options: dict[str, Any] = {"vocab": vocabulary, "merges": merges, "model_max_length": 77, **pad}
    return share(CLIPTokenizer(**options))


def build_scheduler_for(file: Path, unet: UNet2DConditionModel) -> DDIMScheduler | EulerDiscreteScheduler:
    """The noise schedule that the family was trained with, its own sampler, and what its U-Net predicts."""
    options = {"num_train_timesteps": _TRAIN_STEPS, "steps_offset": 1, "prediction_type": prediction_type(file, unet)}
    if family_of(file) is CheckpointFamily.SDXL:
        zero_snr = _ZERO_SNR in safety.read_safetensors_header(file)
        return EulerDiscreteScheduler(**_BETAS, **options, timestep_spacing="leading", rescale_betas_zero_snr=zero_snr)
    return DDIMScheduler(**_BETAS, **options, clip_sample=False, set_alpha_to_one=False)


def family_of(file: Path) -> CheckpointFamily:
    """The family of a checkpoint that can be loaded."""
    return layout.plan_checkpoint(file, layout.shapes_of(safety.read_safetensors_header(file))).family


def prediction_type(file: Path, unet: UNet2DConditionModel) -> str:
    """What the U-Net predicts: as the file says, else as a `.yaml` beside it says, else as the U-Net behaves.

    "epsilon" or "v_prediction". Stable Diffusion 1.x predicts the noise, and SDXL where nothing else is said. For 2.x
    neither names nor shapes tell the two kinds apart, so the U-Net is asked once (`predicts_noise`).
    """
    header = safety.read_safetensors_header(file)
    family = layout.detect(layout.shapes_of(header)).family
    if family is CheckpointFamily.SD1:
        return "epsilon"
    if _V_PREDICTION in header:
        return "v_prediction"
    metadata = header.get("__metadata__")
    said = str(metadata.get("modelspec.prediction_type", "")) if isinstance(metadata, dict) else ""
    if said:
        return "v_prediction" if said.startswith("v") else "epsilon"
    beside = file.with_suffix(".yaml")
    if beside.is_file() and beside.stat().st_size <= safety.MAX_JSON_BYTES:
        text = beside.read_text(encoding="utf-8", errors="replace")
        return "v_prediction" if _V_PARAMETERIZATION.search(text) else "epsilon"
    return "epsilon" if family is CheckpointFamily.SDXL or predicts_noise(unet) else "v_prediction"


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


def _layouts(plan: CheckpointPlan) -> dict[str, PartLayout]:
    """In the order in which the parts compute."""
    return {
        **_text_layouts(plan),
        "unet": PartLayout(
            (layout.UNET,),
            lambda: UNet2DConditionModel.from_config({"sample_size": _sample_size(plan), **plan.unet}),
            lambda _, tensors: convert_ldm_unet_checkpoint(tensors, plan.unet),
        ),
        "vae": PartLayout(
            (layout.VAE,),
            lambda: AutoencoderKL.from_config(dict(plan.vae)),
            lambda _, tensors: convert_ldm_vae_checkpoint(tensors, plan.vae),
        ),
    }


def _text_layouts(plan: CheckpointPlan) -> dict[str, PartLayout]:
    if plan.family is CheckpointFamily.SD2:
        return {"text_encoder": _open_clip_layout(layout.OPEN_CLIP, CLIPTextModel, plan.text_encoder)}
    if plan.text_encoder_2 is None:
        return {"text_encoder": _clip_layout(layout.CLIP_L, plan.text_encoder)}
    return {
        "text_encoder": _clip_layout(layout.XL_FIRST, plan.text_encoder),
        "text_encoder_2": _open_clip_layout(layout.XL_SECOND, CLIPTextModelWithProjection, plan.text_encoder_2),
    }


def _clip_layout(prefix: str, config: Mapping[str, Any]) -> PartLayout:
    return PartLayout((prefix,), partial(_text_encoder, CLIPTextModel, config), _clip_names)


def _open_clip_layout(prefix: str, model_class: Any, config: Mapping[str, Any]) -> PartLayout:
    return PartLayout((prefix,), partial(_text_encoder, model_class, config), partial(_open_clip_names, prefix))


def _text_encoder(model_class: Any, config: Mapping[str, Any]) -> nn.Module:
    module: nn.Module = model_class(CLIPTextConfig(bos_token_id=49406, eos_token_id=49407, **config))
    return module


def _sample_size(plan: CheckpointPlan) -> int:
    """Latents a side at the size that the model was trained at."""
    return {CheckpointFamily.SD2: 96, CheckpointFamily.SDXL: 128}.get(plan.family, 64)


def _clip_names(module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    return _without_wrapper(module, convert_ldm_clip_checkpoint(tensors))


def _open_clip_names(prefix: str, module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
    """What the module has no place for is left out: Stable Diffusion 2's last block and its projection.

    The configuration's number of layers says the first already.
    """
    module_any: Any = module
    kept = module_any.config.num_hidden_layers
    blocks = f"{prefix}transformer.resblocks."
    wanted = {
        name: tensor
        for name, tensor in tensors.items()
        if not (name.startswith(blocks) and int(name.removeprefix(blocks).partition(".")[0]) >= kept)
        and (name != f"{prefix}text_projection" or hasattr(module, "text_projection"))
    }
    return _without_wrapper(module, convert_open_clip_checkpoint(module, wanted, prefix=prefix))


def _without_wrapper(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    if not hasattr(module, "text_model"):
        return {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    return {
        name if name.startswith("text_projection.") else f"text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in tensors.items()
    }


def part_of_file(file: Path, shapes: layout.Shapes, name: str, part: PartLayout) -> Part:
    """The part called `name` of a file with these `shapes`, to be built and loaded later."""
    return Part(name, (file,), partial(_empty, file, shapes, part), partial(_load, file, shapes, part))


def _empty(file: Path, shapes: layout.Shapes, part: PartLayout) -> nn.Module:
    """The module without weights, once the file is known to have all of them in the right shapes."""
    module = part.build()
    described = {
        name: torch.empty(shape, device="meta") for name, shape in shapes.items() if name.startswith(part.prefixes)
    }
    _check_names(file, module, _converted(file, part, module, described))
    return module


def _load(file: Path, shapes: layout.Shapes, part: PartLayout, dtype: torch.dtype) -> nn.Module:
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


def _converted(file: Path, part: PartLayout, module: nn.Module, tensors: Tensors) -> Mapping[str, torch.Tensor]:
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
