"""Loads what the trainers left in the work folder as ordinary models, ready to be used or exported."""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPModel, CLIPTokenizer

from models.recipes.checkpoints import load_checkpoint
from models.recipes.shapes import ClipShape, UnetShape, VaeShape, build_clip, build_unet, build_vae
from models.recipes.tokenizer import clip_tokenizer


def _require(path: Path, trainer: str) -> dict[str, Any]:
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError(f"{path} is missing: run `python -m models.recipes.{trainer}` first")
    return state


def load_trained_clip(work_dir: Path) -> tuple[CLIPModel, CLIPTokenizer]:
    """CLIP and the tokenizer that it was trained with."""
    state = _require(work_dir / "clip.pt", "train_clip")
    tokenizer = clip_tokenizer(state["merges"])
    clip = build_clip(tokenizer, ClipShape(**state["shape"]))
    clip.load_state_dict(state["model"])
    return clip.eval(), tokenizer


def load_trained_vae(work_dir: Path) -> AutoencoderKL:
    """The averaged weights. `normalise_latents` has been applied once the encoder is frozen."""
    state = _require(work_dir / "vae.pt", "train_vae")
    vae = build_vae(VaeShape(**state["shape"]))
    vae.load_state_dict(state["average"]["weights"])
    vae.register_to_config(scaling_factor=state["scaling_factor"])
    return vae.eval()


def load_trained_unet(work_dir: Path) -> UNet2DConditionModel:
    """The averaged weights."""
    state = _require(work_dir / "unet.pt", "train_unet")
    unet = build_unet(UnetShape(**state["shape"]))
    unet.load_state_dict(state["average"]["weights"])
    return unet.eval()
