"""A Stable Diffusion that is real in everything but training: the same classes, a million random weights."""

from __future__ import annotations

from pathlib import Path

TINY_VAE_FACTOR = 2
TINY_SIDE = 16
"""Pixels: the U-Net's 8x8 latent times the VAE's factor."""


def save_tiny_pipeline(folder: Path) -> None:
    """Write a `StableDiffusionPipeline` in safetensors; the same weights every time."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from webui.runtime.random_weights import save_clip_tokenizer

    save_clip_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            sample_size=TINY_SIDE // TINY_VAE_FACTOR,
            norm_num_groups=8,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
        )
        vae = AutoencoderKL(
            block_out_channels=[16, 32],
            down_block_types=["DownEncoderBlock2D"] * 2,
            up_block_types=["UpDecoderBlock2D"] * 2,
            latent_channels=4,
            norm_num_groups=8,
            layers_per_block=1,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=37,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=77,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_tiny_clip(folder: Path, pipeline: Path | None = None) -> None:
    """Write a `CLIPModel` with tokenizer and image processor; its text tower is `pipeline`'s text encoder, if given."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTokenizer,
    )

    from webui.runtime.random_weights import save_clip_tokenizer

    save_clip_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tower = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 77, **special, **tower}
    encoder = None
    if pipeline is not None:
        encoder = CLIPTextModel.from_pretrained(pipeline / "text_encoder")
        text = CLIPTextConfig.from_pretrained(pipeline / "text_encoder").to_dict()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = CLIPModel(
            CLIPConfig(text_config=text, vision_config={"image_size": 32, "patch_size": 8, **tower}, projection_dim=16)
        )
    if encoder is not None:
        model.text_model.load_state_dict(encoder.state_dict())
    model.save_pretrained(folder)
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer).save_pretrained(folder)


def save_tiny_vit(folder: Path, labels: tuple[str, ...] = ("cat", "dog", "car"), side: int = 32) -> None:
    """Write a `ViTForImageClassification` with its image processor: patches of 8 px, 2 layers of 4 heads."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(
        image_size=side,
        patch_size=8,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.3,  # random attention that is not flat
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
