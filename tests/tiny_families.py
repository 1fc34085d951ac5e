"""A tiny pipeline of each family, with random weights: the real classes, in folders as the Hub has them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from webui.runtime.random_weights import save_clip_tokenizer

CHANNELS: Final = 4
FACTOR: Final = 2
SIDE: Final = 16
WORDS: Final = 514


def save_families(folder: Path) -> None:
    """Write every family of `FAMILIES` into a folder of its name."""
    for name in FAMILIES:
        save_family(name, folder / name)


def save_family(name: str, folder: Path) -> None:
    """Write one of them into a folder."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(3)
        _save(FAMILIES[name](), folder)


def _save(parts: Mapping[str, Any], folder: Path) -> None:
    import diffusers

    index: dict[str, Any] = {"_class_name": parts["class"], "_diffusers_version": diffusers.__version__}
    for name, part in parts.items():
        if name.startswith("tokenizer"):
            kind = "CLIPTokenizer" if part == "clip" else "T5TokenizerFast"
            index[name] = ["transformers", kind]
            if part == "clip":
                save_clip_tokenizer(folder / name)
            else:
                t5_tokenizer().save_pretrained(folder / name)
        elif name != "class":
            part.save_pretrained(folder / name)
            library = type(part).__module__.partition(".")[0]
            index[name] = [library, type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def _clip(model_class: str = "CLIPTextModel", **config: Any) -> Any:
    import transformers

    encoder = getattr(transformers, model_class)(
        transformers.CLIPTextConfig(
            vocab_size=WORDS, hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=77, projection_dim=32, bos_token_id=512, eos_token_id=513,
            pad_token_id=513, **config,
        )
    )  # fmt: skip
    # A trained encoder's vectors have a mean, which weights of words keep: after the last layer, and before it.
    parts = dict(encoder.named_modules())
    next(part for name, part in parts.items() if name.endswith("final_layer_norm")).bias.data -= 0.1
    next(part for name, part in parts.items() if name.endswith("position_embedding")).weight.data += 0.1
    return encoder


def _t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=128, d_model=64, d_kv=8, d_ff=37, num_layers=1, num_heads=4, decoder_start_token_id=0)
    )


def t5_tokenizer() -> Any:
    """Every printable ASCII letter is a piece."""
    from transformers import T5TokenizerFast

    letters = [(chr(code), -3.0) for code in range(ord("!"), ord("~") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters, ("<extra_id_0>", 0.0)]
    return T5TokenizerFast(vocab=pieces, extra_ids=1)


def save_spiece(folder: Path) -> None:
    """The pieces of `t5_tokenizer` as SentencePiece writes them, with the configuration beside them."""
    pieces = json.loads(t5_tokenizer().backend_tokenizer.to_str())["model"]["vocab"]
    kinds = {"<unk>": 2, "<pad>": 3, "</s>": 3}
    messages = []
    for piece, score in pieces:
        if not piece.startswith("<extra_id"):
            text = piece.encode()
            kind = b"\x18" + bytes([kinds.get(piece, 1)])
            message = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + kind
            messages.append(b"\x0a" + bytes([len(message)]) + message)
    trainer = b"\x12\x02\x18\x01"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(b"".join(messages) + trainer)
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 1}', encoding="utf-8")


def _vae(**config: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=CHANNELS, norm_num_groups=8, **config,
    )  # fmt: skip


def _unet(**config: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings = {"attention_head_dim": 4, "cross_attention_dim": 32, "sample_size": SIDE // FACTOR} | config
    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), **settings,
    )  # fmt: skip


def _noise(**config: Any) -> Any:
    from diffusers import DDIMScheduler

    usual = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return DDIMScheduler(**usual, set_alpha_to_one=False, steps_offset=1, **config)


def _stable_diffusion(unet: Mapping[str, Any], scheduler: Mapping[str, Any], **text: Any) -> dict[str, Any]:
    return {
        "class": "StableDiffusionPipeline", "text_encoder": _clip(**text), "tokenizer": "clip",
        "unet": _unet(**unet), "vae": _vae(), "scheduler": _noise(**scheduler),
    }  # fmt: skip


def _stable_diffusion_2() -> dict[str, Any]:
    unet = {"attention_head_dim": (2, 4), "use_linear_projection": True}
    return _stable_diffusion(unet, {"prediction_type": "v_prediction"}, hidden_act="gelu")


def _turbo() -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler

    parts = _stable_diffusion({"attention_head_dim": (2, 4), "use_linear_projection": True}, {}, hidden_act="gelu")
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return parts | {"scheduler": EulerDiscreteScheduler(**betas, timestep_spacing="trailing")}


def _lcm() -> dict[str, Any]:
    from diffusers import LCMScheduler

    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    parts = _stable_diffusion({"time_cond_proj_dim": 16}, {})
    return parts | {"class": "LatentConsistencyModelPipeline", "scheduler": LCMScheduler(**betas)}


def _xl() -> dict[str, Any]:
    from diffusers import EulerDiscreteScheduler

    unet = {
        "attention_head_dim": (2, 4), "use_linear_projection": True, "transformer_layers_per_block": (1, 2),
        "cross_attention_dim": 64, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 32,
    }  # fmt: skip
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return {
        "class": "StableDiffusionXLPipeline", "text_encoder": _clip(), "tokenizer": "clip",
        "text_encoder_2": _clip("CLIPTextModelWithProjection", hidden_act="gelu"), "tokenizer_2": "clip",
        "unet": _unet(**unet), "vae": _vae(scaling_factor=0.13025),
        "scheduler": EulerDiscreteScheduler(**betas, steps_offset=1, timestep_spacing="leading"),
    }  # fmt: skip


def _sd3() -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

    return {
        "class": "StableDiffusion3Pipeline", "text_encoder": _clip("CLIPTextModelWithProjection"), "tokenizer": "clip",
        "text_encoder_2": _clip("CLIPTextModelWithProjection", hidden_act="gelu"), "tokenizer_2": "clip",
        "text_encoder_3": _t5(), "tokenizer_3": "t5",
        "transformer": SD3Transformer2DModel(
            sample_size=SIDE // FACTOR, patch_size=2, in_channels=CHANNELS, out_channels=CHANNELS, num_layers=1,
            attention_head_dim=8, num_attention_heads=4, joint_attention_dim=64, caption_projection_dim=32,
            pooled_projection_dim=64,
        ),
        "vae": _vae(scaling_factor=1.5305, shift_factor=0.0609),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }  # fmt: skip


def _flux() -> dict[str, Any]:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    return {
        "class": "FluxPipeline", "text_encoder": _clip(), "tokenizer": "clip", "text_encoder_2": _t5(),
        "tokenizer_2": "t5",
        "transformer": FluxTransformer2DModel(
            patch_size=1, in_channels=4 * CHANNELS, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=64, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        "vae": _vae(scaling_factor=0.3611, shift_factor=0.1159),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    }  # fmt: skip


def _pixart() -> dict[str, Any]:
    from diffusers import DPMSolverMultistepScheduler, PixArtTransformer2DModel

    return {
        "class": "PixArtSigmaPipeline", "text_encoder": _t5(), "tokenizer": "t5",
        "transformer": PixArtTransformer2DModel(
            sample_size=SIDE // FACTOR, patch_size=2, in_channels=CHANNELS, out_channels=2 * CHANNELS, num_layers=2,
            num_attention_heads=2, attention_head_dim=16, cross_attention_dim=32, caption_channels=64,
        ),
        "vae": _vae(scaling_factor=0.13025),
        "scheduler": DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
    }  # fmt: skip


FAMILIES: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "sd1": lambda: _stable_diffusion({}, {}),
    "sd2": _stable_diffusion_2,
    "turbo": _turbo,
    "lcm": _lcm,
    "xl": _xl,
    "sd3": _sd3,
    "flux": _flux,
    "pixart": _pixart,
}
