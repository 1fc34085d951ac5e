"""Stable Diffusion 1.x and 2.x in one file of the original layout, with the real vocabulary and few random weights.

The names are translated here from diffusers' to those of the original code, the other way round than the program does,
and by hand: what the program reads is what the original code would have saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

Tensors = dict[str, Any]  # torch.Tensor, which is imported where it is needed

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def tiny_stable_diffusion(version: int, *, prediction_type: str = "epsilon", seed: int = 0) -> StableDiffusionPipeline:
    """A pipeline of the classes and special settings of Stable Diffusion 1 or 2; 16 latents a side, VAE factor 2."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from webui.runtime.checkpoint_family import CheckpointFamily
    from webui.runtime.single_file import load_clip_tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            block_out_channels=(64, 128),
            layers_per_block=1,
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=64,
            attention_head_dim=8 if version == 1 else (1, 2),
            use_linear_projection=version == 2,
        )
        vae = AutoencoderKL(
            block_out_channels=(32, 64),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            layers_per_block=1,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=49408, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1,
                hidden_act="quick_gelu" if version == 1 else "gelu", bos_token_id=49406, eos_token_id=49407,
                projection_dim=64,
            )
        )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction_type,
    )  # fmt: skip
    family = CheckpointFamily.SD1 if version == 1 else CheckpointFamily.SD2
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text_encoder.eval(), tokenizer=load_clip_tokenizer(family), unet=unet.eval(),
        scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def checkpoint_tensors(pipeline: StableDiffusionPipeline, version: int) -> Tensors:
    """The pipeline's weights under the names of the original code."""
    parts: Any = pipeline
    texts = _clip_names if version == 1 else _open_clip_names
    return {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in _unet_names(parts.unet).items()},
        **{f"first_stage_model.{name}": tensor for name, tensor in _vae_names(parts.vae).items()},
        **texts(parts.text_encoder),
    }


def save_checkpoint(file: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
    """Write one `.safetensors` file."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata)


def _renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def _unet_names(unet: Any) -> Tensors:
    blocks = unet.config.layers_per_block + 1
    names: Tensors = {}
    for name, tensor in unet.state_dict().items():
        way, *rest = name.split(".")
        if way == "down_blocks":
            level, kind, number, *tail = rest
            place = 1 + int(level) * blocks + (int(number) if kind != "downsamplers" else blocks - 1)
            column = {"resnets": "0", "attentions": "1", "downsamplers": "0"}[kind]
            inner = ".".join(["op", *tail[1:]] if kind == "downsamplers" else tail)
            new = f"input_blocks.{place}.{column}.{inner}"
        elif way == "up_blocks":
            level, kind, number, *tail = rest
            last = kind == "upsamplers"
            attends = hasattr(unet.up_blocks[int(level)], "attentions")
            place = int(level) * blocks + (int(number) if not last else blocks - 1)
            column = {"resnets": "0", "attentions": "1", "upsamplers": "2" if attends else "1"}[kind]
            new = f"output_blocks.{place}.{column}.{'.'.join(tail)}"
        elif way == "mid_block":
            kind, number, *tail = rest
            place = 1 if kind == "attentions" else 2 * int(number)
            new = f"middle_block.{place}.{'.'.join(tail)}"
        else:
            kind, new = "", _renamed(name, UNET_ENDS)
        names[_renamed(new, RESNET) if kind == "resnets" else new] = tensor
    return names


def _vae_names(vae: Any) -> Tensors:
    last = len(vae.config.block_out_channels) - 1
    names: Tensors = {}
    for name, tensor in vae.state_dict().items():
        new = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        if "mid_block.attentions.0" in new:
            new = _renamed(new.replace("mid_block.attentions.0", "mid.attn_1"), VAE_ATTENTION)
        for level in range(last + 1):
            for old, other, place in (("encoder.down", "down", level), ("decoder.up", "up", last - level)):
                side = old.partition(".")[0]
                new = new.replace(f"{old}_blocks.{level}.resnets", f"{side}.{other}.{place}.block")
                new = new.replace(f"{old}_blocks.{level}.{other}samplers.0", f"{side}.{other}.{place}.{other}sample")
        names[new] = tensor[:, :, None, None] if "mid.attn_1" in new and tensor.ndim == 2 else tensor
    return names


def _clip_names(text_encoder: Any) -> Tensors:
    return {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in text_encoder.state_dict().items()
    }


def _open_clip_names(text_encoder: Any) -> Tensors:
    """OpenCLIP keeps the three projections in one tensor, and has one block more than Stable Diffusion 2 uses."""
    import torch

    own = {name.removeprefix("text_model."): tensor for name, tensor in text_encoder.state_dict().items()}
    used = text_encoder.config.num_hidden_layers
    model: Tensors = {
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "token_embedding.weight": own["embeddings.token_embedding.weight"],
        "ln_final.weight": own["final_layer_norm.weight"],
        "ln_final.bias": own["final_layer_norm.bias"],
        "text_projection": torch.eye(text_encoder.config.hidden_size),
        "logit_scale": torch.tensor(4.6),
    }
    for block in range(used + 1):
        layer = f"encoder.layers.{min(block, used - 1)}."
        place = f"transformer.resblocks.{block}."
        for kind in ("weight", "bias"):
            parts = [own[f"{layer}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            model[f"{place}attn.in_proj_{kind}"] = torch.cat(parts)
            model[f"{place}attn.out_proj.{kind}"] = own[f"{layer}self_attn.out_proj.{kind}"]
            for old, new in OPEN_CLIP_LAYER.items():
                model[f"{place}{new}.{kind}"] = own[f"{layer}{old}.{kind}"]
    return {f"cond_stage_model.model.{name}": tensor for name, tensor in model.items()}
