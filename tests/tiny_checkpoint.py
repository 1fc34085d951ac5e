"""Stable Diffusion 1.x, 2.x and SDXL in one file of the original layout, with the real vocabulary, few random weights.

The names are translated here from diffusers' to those of the original code, the other way round than the program does,
and by hand: what the program reads is what the original code would have saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

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
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def tiny_stable_diffusion(version: int, *, prediction_type: str = "epsilon", seed: int = 0) -> StableDiffusionPipeline:
    """A pipeline of the classes and special settings of Stable Diffusion 1 or 2; 16 latents a side, VAE factor 2."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

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
        vae = tiny_vae()
        text_encoder = _text_encoder("CLIPTextModel", 64, "quick_gelu" if version == 1 else "gelu")
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction_type,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text_encoder.eval(), tokenizer=load_clip_tokenizer(open_clip=version == 2),
        unet=unet.eval(), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_sdxl(seed: int = 0) -> StableDiffusionXLPipeline:
    """A pipeline of the classes and special settings of SDXL's base model; 16 latents a side, VAE factor 2."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    from webui.runtime.single_file import load_clip_tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            block_out_channels=(64, 128),
            layers_per_block=1,
            sample_size=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=64 + 128,
            attention_head_dim=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=6 * 256 + 32,
        )
        first = _text_encoder("CLIPTextModel", 64, "quick_gelu")
        second = _text_encoder("CLIPTextModelWithProjection", 128, "gelu", projection_dim=32)
        vae = tiny_vae(scaling_factor=0.13025)
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    pipeline = StableDiffusionXLPipeline(
        vae=vae.eval(), text_encoder=first.eval(), text_encoder_2=second.eval(), unet=unet.eval(), scheduler=scheduler,
        tokenizer=load_clip_tokenizer(open_clip=False), tokenizer_2=load_clip_tokenizer(open_clip=True),
        add_watermarker=False,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tiny_vae(**config: Any) -> Any:
    """A VAE of factor 2, or of one more for each of `block_out_channels`."""
    from diffusers import AutoencoderKL

    settings: dict[str, Any] = {"latent_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64)} | config
    levels = len(settings["block_out_channels"])
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **settings
    )


def _text_encoder(model_class: str, width: int, hidden_act: str, projection_dim: int = 64) -> Any:
    import transformers

    return getattr(transformers, model_class)(
        transformers.CLIPTextConfig(
            vocab_size=49408, hidden_size=width, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=width // 64, hidden_act=hidden_act, bos_token_id=49406, eos_token_id=49407,
            projection_dim=projection_dim,
        )
    )  # fmt: skip


def sdxl_tensors(pipeline: StableDiffusionXLPipeline) -> Tensors:
    """SDXL's weights under the names of the original code (Stability-AI/generative-models)."""
    parts: Any = pipeline
    return {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in _unet_names(parts.unet).items()},
        **{f"first_stage_model.{name}": tensor for name, tensor in vae_names(parts.vae).items()},
        **_clip_names(parts.text_encoder, "conditioner.embedders.0.transformer."),
        **_open_clip_names(parts.text_encoder_2, "conditioner.embedders.1.model."),
    }


def checkpoint_tensors(pipeline: StableDiffusionPipeline, version: int) -> Tensors:
    """The pipeline's weights under the names of the original code."""
    parts: Any = pipeline
    first, second = "cond_stage_model.transformer.", "cond_stage_model.model."
    texts = _clip_names(parts.text_encoder, first) if version == 1 else _open_clip_names(parts.text_encoder, second)
    return {
        **{f"model.diffusion_model.{name}": tensor for name, tensor in _unet_names(parts.unet).items()},
        **{f"first_stage_model.{name}": tensor for name, tensor in vae_names(parts.vae).items()},
        **texts,
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


def vae_names(vae: Any) -> Tensors:
    """A VAE's weights as the original code calls them."""
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


def _clip_names(text_encoder: Any, prefix: str) -> Tensors:
    return {
        f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor
        for name, tensor in text_encoder.state_dict().items()
    }


def _open_clip_names(text_encoder: Any, prefix: str) -> Tensors:
    """OpenCLIP keeps the three projections in one tensor, and has one block more than Stable Diffusion 2 uses.

    SDXL keeps all blocks, and the projection of the whole text, which OpenCLIP multiplies from the other side.
    """
    import torch

    own = {name.removeprefix("text_model."): tensor for name, tensor in text_encoder.state_dict().items()}
    used = text_encoder.config.num_hidden_layers
    projection = own.get("text_projection.weight")
    model: Tensors = {
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "token_embedding.weight": own["embeddings.token_embedding.weight"],
        "ln_final.weight": own["final_layer_norm.weight"],
        "ln_final.bias": own["final_layer_norm.bias"],
        "text_projection": torch.eye(text_encoder.config.hidden_size) if projection is None else projection.T,
        "logit_scale": torch.tensor(4.6),
    }
    for block in range(used + 1 if projection is None else used):
        layer = f"encoder.layers.{min(block, used - 1)}."
        place = f"transformer.resblocks.{block}."
        for kind in ("weight", "bias"):
            parts = [own[f"{layer}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            model[f"{place}attn.in_proj_{kind}"] = torch.cat(parts)
            model[f"{place}attn.out_proj.{kind}"] = own[f"{layer}self_attn.out_proj.{kind}"]
            for old, new in OPEN_CLIP_LAYER.items():
                model[f"{place}{new}.{kind}"] = own[f"{layer}{old}.{kind}"]
    return {f"{prefix}{name}": tensor for name, tensor in model.items()}
