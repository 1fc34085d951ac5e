"""Loads what the trainers left as ordinary models, ready to be used, exported or trained on.

The work folder's checkpoint comes first. Where there is none and `exported` names a folder that `export` wrote, its
float16 weights are the start: checkpoints are large and get lost, the exported suite is in the repository.
"""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import Tokenizer
from transformers import (
    BartForConditionalGeneration,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5ForConditionalGeneration,
    ViTForImageClassification,
)

from models.recipes.checkpoints import load_checkpoint
from models.recipes.concepts import load_concepts
from models.recipes.shapes import (
    ClipShape,
    TextShape,
    UnetShape,
    VaeShape,
    VitShape,
    build_bart,
    build_clip,
    build_t5,
    build_unet,
    build_vae,
    build_vit,
)
from models.recipes.text_tokenizer import bart_tokenizer, t5_tokenizer
from models.recipes.tokenizer import clip_tokenizer, load_tokenizer


def is_trained(work_dir: Path, name: str) -> bool:
    """Whether the trainer of `name` has left a checkpoint."""
    return (work_dir / f"{name}.pt").exists()


def _require(work_dir: Path, name: str) -> dict[str, Any]:
    path = work_dir / f"{name}.pt"
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError(f"{path} is missing: run `python -m models.recipes.train_{name}` first")
    return state


def load_trained_clip(work_dir: Path, exported: Path | None = None) -> tuple[CLIPModel, CLIPTokenizer]:
    """CLIP and the tokenizer that it was trained with."""
    if exported is not None and not is_trained(work_dir, "clip"):
        clip = CLIPModel.from_pretrained(exported / "clip", local_files_only=True).float()
        return clip.eval(), load_tokenizer(exported / "clip", clip.config.text_config.vocab_size)
    state = _require(work_dir, "clip")
    tokenizer = clip_tokenizer(state["merges"])
    clip = build_clip(tokenizer, ClipShape(**state["shape"]))
    clip.load_state_dict(state["model"])
    return clip.eval(), tokenizer


def load_trained_vae(work_dir: Path, exported: Path | None = None) -> AutoencoderKL:
    """The averaged weights. `normalise_latents` has been applied once the encoder is frozen."""
    if exported is not None and not is_trained(work_dir, "vae"):
        return AutoencoderKL.from_pretrained(exported / "txt2img" / "vae", local_files_only=True).float().eval()
    state = _require(work_dir, "vae")
    vae = build_vae(VaeShape(**state["shape"]))
    vae.load_state_dict(state["average"]["weights"])
    vae.register_to_config(scaling_factor=state["scaling_factor"])
    return vae.eval()


def load_trained_unet(work_dir: Path, exported: Path | None = None) -> UNet2DConditionModel:
    """The averaged weights."""
    if exported is not None and not is_trained(work_dir, "unet"):
        return UNet2DConditionModel.from_pretrained(exported / "txt2img" / "unet", local_files_only=True).float().eval()
    state = _require(work_dir, "unet")
    unet = build_unet(UnetShape(**state["shape"]))
    unet.load_state_dict(state["average"]["weights"])
    return unet.eval()


def load_trained_vit(work_dir: Path) -> ViTForImageClassification:
    """The averaged weights, with the concepts' English names as labels."""
    state = _require(work_dir, "vit")
    vit = build_vit([concept.name("en") for concept in load_concepts()], VitShape(**state["shape"]))
    vit.load_state_dict(state["average"]["weights"])
    return vit.eval()


def load_trained_t5(work_dir: Path) -> tuple[T5ForConditionalGeneration, PreTrainedTokenizerFast]:
    """The averaged weights, and the tokenizer that they were trained with."""
    state = _require(work_dir, "t5")
    tokenizer = t5_tokenizer(Tokenizer.from_str(state["tokenizer"]))
    t5 = build_t5(tokenizer, TextShape(**state["shape"]))
    t5.load_state_dict(state["average"]["weights"])
    return t5.eval(), tokenizer


def load_trained_bart(work_dir: Path) -> tuple[BartForConditionalGeneration, PreTrainedTokenizerFast]:
    """The averaged weights, and the tokenizer that they were trained with."""
    state = _require(work_dir, "bart")
    tokenizer = bart_tokenizer(Tokenizer.from_str(state["tokenizer"]))
    bart = build_bart(tokenizer, TextShape(**state["shape"]))
    bart.load_state_dict(state["average"]["weights"])
    return bart.eval(), tokenizer
