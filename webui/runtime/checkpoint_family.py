"""What a weights file is, told from the names and shapes of its tensors, never from its own name.

The configuration that a single-file checkpoint does not carry is derived from them too. Names are those of the original
Stable Diffusion code (CompVis/latent-diffusion, Stability-AI/stablediffusion and generative-models), as it saves its
state. Nothing here imports torch: a header of a few kilobytes is all that is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from webui.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor name to shape."""

UNET: Final = "model.diffusion_model."
VAE: Final = "first_stage_model."
CLIP_L: Final = "cond_stage_model.transformer."
OPEN_CLIP: Final = "cond_stage_model.model."
XL_FIRST: Final = "conditioner.embedders.0.transformer."
XL_SECOND: Final = "conditioner.embedders.1.model."
_REFINER: Final = "conditioner.embedders.0.model."

_HEAD_WIDTH: Final = 64
_SD1_HEADS: Final = 8
_LATENT_CHANNELS: Final = 4
_SCALING: Final = 0.18215
_XL_SCALING: Final = 0.13025
_SIZE_EMBEDDING: Final = 256
"""SDXL's embedding of each number of its micro-conditioning (Podell et al. 2023)."""


class FileKind(StrEnum):
    """What a weights file holds; the values are message keys."""

    CHECKPOINT = "weights.kind.checkpoint"
    LORA = "weights.kind.lora"
    VAE = "weights.kind.vae"
    EMBEDDING = "weights.kind.embedding"
    OTHER = "weights.kind.other"


class CheckpointFamily(StrEnum):
    """The architectures that are told apart; the values are their names."""

    SD1 = "Stable Diffusion 1.x"
    SD2 = "Stable Diffusion 2.x"
    SDXL = "SDXL"
    SDXL_REFINER = "SDXL refiner"
    PLAYGROUND = "Playground v2.5"
    SD3 = "Stable Diffusion 3"
    FLUX = "FLUX"


@dataclass(frozen=True, slots=True)
class Detected:
    """What a header says: the kind of file, for checkpoints the family, for LoRA and embeddings what they fit.

    `context_width` is the width of the text that the U-Net reads (768 for SD 1.x, 1024 for 2.x, 2048 for SDXL); 0 when
    the file does not touch it. `vectors` is how many tokens a textual inversion takes, 0 when its tensors fit nothing.
    `variant` names a relative of LoRA that is not read here ("LoHa").
    """

    kind: FileKind
    family: CheckpointFamily | None = None
    context_width: int = 0
    variant: str = ""
    vectors: int = 0


@dataclass(frozen=True, slots=True)
class CheckpointPlan:
    """The configurations of a checkpoint's parts: arguments of diffusers' and transformers' classes.

    `text_encoder` belongs to the one called "cond_stage_model" (SDXL: the first of two, `text_encoder_2` the second).
    `vae_factor` is how many pixels a latent covers a side.
    """

    family: CheckpointFamily
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    text_encoder_2: Mapping[str, Any] | None

    @property
    def vae_factor(self) -> int:
        """See `vae_factor`."""
        return vae_factor(self.vae["block_out_channels"])


def vae_factor(block_out_channels: Sequence[object]) -> int:
    """Pixels that a latent covers each way: 2 for each of the VAE's levels but the last."""
    return int(2 ** (len(block_out_channels) - 1))


def shapes_of(header: Mapping[str, Any]) -> Shapes:
    """The tensors' shapes in a header of `safety.read_safetensors_header`; what is no shape is left out."""
    found: dict[str, tuple[int, ...]] = {}
    for name, info in header.items():
        shape = info.get("shape") if isinstance(info, dict) and name != "__metadata__" else None
        if isinstance(shape, list) and all(isinstance(side, int) for side in shape):
            found[name] = tuple(shape)
    return found


def detect(shapes: Shapes) -> Detected:
    """What kind of file has these tensors."""
    if any(name.startswith(UNET) for name in shapes):
        return Detected(FileKind.CHECKPOINT, _family(shapes), _context_width(shapes))
    if any(_is_lora(name) for name in shapes) or _lora_variant(shapes):
        return Detected(FileKind.LORA, None, _lora_context_width(shapes), _lora_variant(shapes))
    if "emb_params" in shapes or {"clip_l", "clip_g"} <= shapes.keys():
        return _inversion([shapes[name] for name in ("clip_l", "clip_g", "emb_params") if name in shapes])
    if (
        f"{VAE}decoder.conv_in.weight" in shapes
        or {"decoder.conv_in.weight", "encoder.conv_in.weight"} <= shapes.keys()
    ):
        return Detected(FileKind.VAE)
    if len(shapes) == 1 and len(next(iter(shapes.values()))) in (1, 2):
        return _inversion(list(shapes.values()))
    return Detected(FileKind.OTHER)


def _inversion(tensors: Sequence[tuple[int, ...]]) -> Detected:
    """Vectors (n, width), or one (width,); SDXL has two tensors, one for each of its text encoders."""
    rows = {shape[0] if len(shape) == 2 else 1 for shape in tensors}
    fits = len(rows) == 1 and all(len(shape) in (1, 2) and min(shape) > 0 for shape in tensors)
    vectors = rows.pop() if fits else 0
    return Detected(FileKind.EMBEDDING, None, sum(shape[-1] for shape in tensors if shape), vectors=vectors)


def plan_checkpoint(file: Path, shapes: Shapes) -> CheckpointPlan:
    """How to build the parts of the checkpoint `file`. Raises UserError that names what cannot be loaded, and why."""
    family = _family(shapes)
    if family not in (CheckpointFamily.SD1, CheckpointFamily.SD2, CheckpointFamily.SDXL):
        if family is None:
            raise UserError("error.checkpoint_unknown", file=str(file))
        if family is CheckpointFamily.SDXL_REFINER:
            raise UserError("error.checkpoint_refiner", file=str(file))
        raise UserError("error.checkpoint_family", file=str(file), family=family.value)
    need = _Needed(file, shapes)
    in_channels = need.shape(f"{UNET}input_blocks.0.0.weight", 4)[1]
    if in_channels != _LATENT_CHANNELS:
        raise UserError("error.checkpoint_inpainting", file=str(file), family=family.value, channels=in_channels)
    second = None
    if family is CheckpointFamily.SD1:
        first = _clip_config(need, CLIP_L)
    elif family is CheckpointFamily.SD2:
        first = _open_clip_config(need, OPEN_CLIP, penultimate=True)
    else:
        first, second = _clip_config(need, XL_FIRST), _open_clip_config(need, XL_SECOND, penultimate=False)
    return CheckpointPlan(family, _unet_config(need, family), vae_config(file, shapes, family), first, second)


def vae_config(file: Path, shapes: Shapes, family: CheckpointFamily | None) -> dict[str, Any]:
    """The configuration of the VAE in `file`, within a checkpoint or by itself; raises UserError when it is not whole.

    `family` None takes the scaling factor of Stable Diffusion 1.x and 2.x: it is not in the weights.
    """
    prefix = VAE if any(name.startswith(VAE) for name in shapes) else ""
    level, block = ("down_blocks", "resnets") if is_diffusers_vae(shapes) else ("down", "block")
    need = _Needed(file, shapes)
    widths: list[int] = []
    while (shape := shapes.get(f"{prefix}encoder.{level}.{len(widths)}.{block}.0.conv1.weight")) is not None:
        widths.append(shape[0])
    if not 1 <= len(widths) <= 8:
        name = f"{prefix}encoder.{level}.0.{block}.0.conv1.weight"
        raise UserError("error.checkpoint_lacks", file=str(file), name=name)
    layers = _count(shapes, rf"{re.escape(prefix)}encoder\.{level}\.0\.{block}\.(\d+)\.conv1\.weight")
    return {
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "layers_per_block": layers,
        "latent_channels": need.shape(f"{prefix}decoder.conv_in.weight", 4)[1],
        "scaling_factor": _XL_SCALING if family is CheckpointFamily.SDXL else _SCALING,
        "use_quant_conv": f"{prefix}quant_conv.weight" in shapes,
        "use_post_quant_conv": f"{prefix}post_quant_conv.weight" in shapes,
    }


def is_diffusers_vae(shapes: Shapes) -> bool:
    """Whether a VAE's tensors have diffusers' names instead of the original code's."""
    return any(name.startswith("encoder.down_blocks.") for name in shapes)


@dataclass(frozen=True, slots=True)
class _Needed:
    file: Path
    shapes: Shapes

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor that must be there with that many dimensions."""
        shape = self.shapes.get(name)
        if shape is None:
            raise UserError("error.checkpoint_lacks", file=str(self.file), name=name)
        if len(shape) != dimensions:
            raise self.wrong(name)
        return shape

    def wrong(self, name: str) -> UserError:
        """The error for a tensor whose shape fits nothing."""
        return UserError("error.checkpoint_shape", file=str(self.file), name=name, shape=list(self.shapes[name]))


def _family(shapes: Shapes) -> CheckpointFamily | None:
    if "edm_mean" in shapes:  # SDXL's layout with another noise process (Karras et al. 2022) and other latents
        return CheckpointFamily.PLAYGROUND
    beginnings = {
        XL_SECOND: CheckpointFamily.SDXL,
        _REFINER: CheckpointFamily.SDXL_REFINER,
        OPEN_CLIP: CheckpointFamily.SD2,
        CLIP_L: CheckpointFamily.SD1,
        f"{UNET}joint_blocks.": CheckpointFamily.SD3,
        f"{UNET}double_blocks.": CheckpointFamily.FLUX,
    }
    found = {beginning for beginning in beginnings if any(name.startswith(beginning) for name in shapes)}
    return next((family for beginning, family in beginnings.items() if beginning in found), None)


def _unet_config(need: _Needed, family: CheckpointFamily) -> dict[str, Any]:
    levels = _levels(need)
    widths = tuple(level[0][0] for level in levels)
    mixed = next((level for level in levels if len(level) != len(levels[0]) or len(set(level)) != 1), None)
    if mixed is not None:
        raise UserError("error.checkpoint_blocks", file=str(need.file), family=family.value)
    depths = tuple(level[0][1] for level in levels)
    middle = f"{UNET}middle_block.1"
    context = need.shape(f"{middle}.transformer_blocks.0.attn2.to_k.weight", 2)[1]
    config: dict[str, Any] = {
        "block_out_channels": widths,
        "layers_per_block": len(levels[0]),
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        "transformer_layers_per_block": tuple(max(depth, 1) for depth in depths),
        "cross_attention_dim": context,
        "use_linear_projection": len(need.shapes.get(f"{middle}.proj_in.weight", ())) == 2,
        "attention_head_dim": _SD1_HEADS
        if family is CheckpointFamily.SD1
        else tuple(max(width // _HEAD_WIDTH, 1) for width in widths),
    }
    if family is CheckpointFamily.SDXL:
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _SIZE_EMBEDDING,
            "projection_class_embeddings_input_dim": need.shape(f"{UNET}label_emb.0.0.weight", 2)[1],
        }
    return config


def _levels(need: _Needed) -> list[list[tuple[int, int]]]:
    """For each resolution of the way down: (channels, transformer blocks) of its residual blocks."""
    levels: list[list[tuple[int, int]]] = [[]]
    block = 1
    while True:
        name = f"{UNET}input_blocks.{block}"
        if f"{name}.0.in_layers.2.weight" in need.shapes:
            pattern = rf"{re.escape(name)}\.1\.transformer_blocks\.(\d+)\.attn1\.to_q\.weight"
            levels[-1].append((need.shape(f"{name}.0.in_layers.2.weight", 4)[0], _count(need.shapes, pattern)))
        elif f"{name}.0.op.weight" in need.shapes:
            levels.append([])
        else:
            break
        block += 1
    if not all(levels):
        raise UserError("error.checkpoint_lacks", file=str(need.file), name=f"{UNET}input_blocks.{block}")
    return levels


def _clip_config(need: _Needed, prefix: str) -> dict[str, Any]:
    """OpenAI's text encoder, whose names are those of transformers; older files leave out "text_model"."""
    inner = f"{prefix}text_model." if any(name.startswith(f"{prefix}text_model.") for name in need.shapes) else prefix
    words, width = need.shape(f"{inner}embeddings.token_embedding.weight", 2)
    return {
        "vocab_size": words,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": need.shape(f"{inner}encoder.layers.0.mlp.fc1.weight", 2)[0],
        "num_hidden_layers": _count(need.shapes, rf"{re.escape(inner)}encoder\.layers\.(\d+)\.mlp\.fc1\.weight"),
        "num_attention_heads": max(width // _HEAD_WIDTH, 1),
        "max_position_embeddings": need.shape(f"{inner}embeddings.position_embedding.weight", 2)[0],
        "hidden_act": "quick_gelu",
    }


def _open_clip_config(need: _Needed, prefix: str, *, penultimate: bool) -> dict[str, Any]:
    """OpenCLIP's text encoder; `penultimate`: the last block is in the file, and Stable Diffusion 2 does without it."""
    words, width = need.shape(f"{prefix}token_embedding.weight", 2)
    pattern = rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight"
    layers = _count(need.shapes, pattern)
    return {
        "vocab_size": words,
        "hidden_size": width,
        "projection_dim": width if penultimate else need.shape(f"{prefix}text_projection", 2)[1],
        "intermediate_size": need.shape(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": layers - 1 if penultimate else layers,
        "num_attention_heads": max(width // _HEAD_WIDTH, 1),
        "max_position_embeddings": need.shape(f"{prefix}positional_embedding", 2)[0],
        "hidden_act": "gelu",
    }


def _context_width(shapes: Shapes) -> int:
    shape = shapes.get(f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight", ())
    return shape[1] if len(shape) == 2 else 0


_LORA_DOWN: Final = re.compile(
    r"attn2[._]to_k\.(lora_down|lora\.down|lora_A)\.weight$|attn2\.processor\.to_k_lora\.down\.weight$"
)


_LORA_VARIANTS: Final = {"hada_w1_a": "LoHa", "lokr_w1": "LoKr", "lokr_w1_a": "LoKr", "dora_scale": "DoRA"}


def _lora_variant(shapes: Shapes) -> str:
    """What LyCORIS calls the file's layers (Yeh et al. 2023); empty for plain LoRA and for anything else."""
    endings = {name.rpartition(".")[2] for name in shapes}
    return next((variant for ending, variant in _LORA_VARIANTS.items() if ending in endings), "")


def _is_lora(name: str) -> bool:
    return name.endswith((".lora_down.weight", ".lora.down.weight", ".lora_A.weight", "_lora.down.weight"))


def _lora_context_width(shapes: Shapes) -> int:
    """The input of the first layer that reads the text: (rank, width)."""
    return next((shape[1] for name, shape in shapes.items() if _LORA_DOWN.search(name) and len(shape) == 2), 0)


def _count(names: Iterable[str], pattern: str) -> int:
    """How many numbers from 0 on without a gap the names have in the pattern's group."""
    found = {int(match[1]) for name in names if (match := re.fullmatch(pattern, name))}
    return next(number for number in range(len(found) + 1) if number not in found)
