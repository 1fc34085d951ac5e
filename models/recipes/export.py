"""Writes the trained models as folders that the stock classes load.

    python -m models.recipes.export --work-dir models/recipes/work --out models/emoji

Weights are float16 safetensors; all but CLIP's are moving averages. What has no checkpoint stays as it was exported.
The folder is written beside the old
one and then takes its place, so that a reader never finds half of it.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    BartForConditionalGeneration,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextModel,
    CLIPTokenizer,
    T5ForConditionalGeneration,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from models.recipes.concepts import Concept, load_concepts
from models.recipes.draw import PICTURE_SIZE
from models.recipes.shapes import build_scheduler
from models.recipes.tokenizer import load_tokenizer
from models.recipes.trained import (
    is_trained,
    load_trained_bart,
    load_trained_clip,
    load_trained_t5,
    load_trained_unet,
    load_trained_vae,
    load_trained_vit,
)
from models.recipes.training import DEFAULT_WORK_DIR, EMOJI_FOLDER

LICENCES = Path(__file__).with_name("licences")
MADE_BY_OTHERS = ("traces", "MODEL_CARD.md", "contact_sheet.png", "measured.json")
VERSION = "0.3"
GUIDANCE_SCALE = 2.0  # from 1.5 to 4 the pictures are recognised equally often


def build_pipeline(
    clip: CLIPModel, tokenizer: CLIPTokenizer, vae: AutoencoderKL, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """A `StableDiffusionPipeline` without safety checker, whose text encoder is CLIP's text tower."""
    text_encoder = CLIPTextModel(clip.config.text_config)
    text_encoder.load_state_dict(clip.text_model.state_dict())
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    """Scales a picture to 128 pixels and [-1, 1]."""
    image_processor = CLIPImageProcessorPil(
        size={"shortest_edge": PICTURE_SIZE},
        crop_size={"height": PICTURE_SIZE, "width": PICTURE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer)


def build_image_processor() -> ViTImageProcessorPil:
    """Scales a picture to 128x128 and [-1, 1], for the ViT."""
    return ViTImageProcessorPil(
        size={"height": PICTURE_SIZE, "width": PICTURE_SIZE}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )


def write_clip_and_pipeline(folder: Path, work_dir: Path, exported: Path | None) -> dict[str, int]:
    """CLIP and Stable Diffusion, which share the text tower; returns the number of parameters by folder."""
    clip, tokenizer = load_trained_clip(work_dir, exported)
    vae, unet = load_trained_vae(work_dir, exported), load_trained_unet(work_dir, exported)
    pipeline = build_pipeline(clip, tokenizer, vae, unet)
    counts = {"txt2img": parameters_of(pipeline.unet, pipeline.vae, pipeline.text_encoder), "clip": parameters_of(clip)}
    clip.half().save_pretrained(folder / "clip")
    build_processor(tokenizer).save_pretrained(folder / "clip")
    pipeline.to(dtype=torch.float16).save_pretrained(folder / "txt2img", safe_serialization=True)
    return counts


def write_vit(folder: Path, work_dir: Path, _: Path | None) -> dict[str, int]:
    """The ViT and its image processor."""
    vit = load_trained_vit(work_dir)
    build_image_processor().save_pretrained(folder / "vit")
    vit.half().save_pretrained(folder / "vit")
    return {"vit": parameters_of(vit)}


def write_t5(folder: Path, work_dir: Path, _: Path | None) -> dict[str, int]:
    """T5 and its tokenizer."""
    t5, tokenizer = load_trained_t5(work_dir)
    tokenizer.save_pretrained(folder / "t5")
    t5.half().save_pretrained(folder / "t5")
    return {"t5": parameters_of(t5)}


def write_bart(folder: Path, work_dir: Path, _: Path | None) -> dict[str, int]:
    """BART and its tokenizer."""
    bart, tokenizer = load_trained_bart(work_dir)
    tokenizer.save_pretrained(folder / "bart")
    bart.half().save_pretrained(folder / "bart")
    return {"bart": parameters_of(bart)}


@dataclass(frozen=True)
class Part:
    """Folders that are written together, from the checkpoints of `trainers`."""

    folders: tuple[str, ...]
    trainers: tuple[str, ...]
    write: Callable[[Path, Path, Path | None], dict[str, int]]


PARTS = (
    Part(("txt2img", "clip"), ("clip", "vae", "unet"), write_clip_and_pipeline),
    Part(("vit",), ("vit",), write_vit),
    Part(("t5",), ("t5",), write_t5),
    Part(("bart",), ("bart",), write_bart),
)
TITLES = {
    "txt2img": ("Emoji suite: Stable Diffusion in miniature", "ชุด Emoji: Stable Diffusion ฉบับจิ๋ว"),
    "clip": ("Emoji suite: CLIP in English and Thai", "ชุด Emoji: CLIP ภาษาอังกฤษและไทย"),
    "vit": ("Emoji suite: a Vision Transformer over all concepts", "ชุด Emoji: Vision Transformer ที่รู้จักทุกสิ่งในชุด"),
    "t5": (
        "Emoji suite: T5 for Thai to English, shorter and fuller prompts",
        "ชุด Emoji: T5 แปลไทยเป็นอังกฤษ ย่อและขยายพรอมต์",
    ),
    "bart": ("Emoji suite: BART for repairing prompts and filling masks", "ชุด Emoji: BART ซ่อมพรอมต์และเติมช่องว่าง"),
}


def describe_suite(parameters: dict[str, int]) -> dict[str, Any]:
    """What `diffuscope models` shows; `parameters` counts them by folder, and a folder has its task's name."""
    models = [
        {
            "id": "emoji",
            "task": task,
            "title": english,
            "titles": {"th": thai},
            "folder": task,
            "parameters": parameters[task],
        }
        for task, (english, thai) in TITLES.items()
        if task in parameters
    ]
    models[0]["guidance_scale"] = GUIDANCE_SCALE
    return {
        "name": "Emoji suite",
        "version": VERSION,
        "languages": ["en", "th"],
        "licences": [
            "Apache-2.0",
            "Noto Color Emoji: OFL-1.1",
            "Unicode CLDR: Unicode-3.0",
        ],
        "models": models,
    }


def parameters_of(*networks: nn.Module) -> int:
    """How many numbers were learned."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def check_suite(folder: Path) -> None:
    """Load everything back with the stock classes; raises when something does not fit."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder / "txt2img", local_files_only=True, use_safetensors=True)
    load_tokenizer(folder / "txt2img" / "tokenizer", pipeline.text_encoder.config.vocab_size)
    clip = CLIPModel.from_pretrained(folder / "clip", local_files_only=True)
    load_tokenizer(folder / "clip", clip.config.text_config.vocab_size)
    CLIPProcessor.from_pretrained(folder / "clip", local_files_only=True)
    if (folder / "vit").is_dir():
        ViTForImageClassification.from_pretrained(folder / "vit", local_files_only=True)
        AutoImageProcessor.from_pretrained(folder / "vit", local_files_only=True)
    for name, stock in (("t5", T5ForConditionalGeneration), ("bart", BartForConditionalGeneration)):
        if (folder / name).is_dir():
            model = stock.from_pretrained(folder / name, local_files_only=True)
            tokens = len(AutoTokenizer.from_pretrained(folder / name, local_files_only=True))
            if tokens != model.config.vocab_size:
                raise ValueError(f"{folder / name}: {tokens} pieces, but the model has {model.config.vocab_size}")


def export(work_dir: Path, out: Path) -> None:
    """Write what has checkpoints, keep the rest of `out`, check, and put in place.

    What `evaluate` and `record_traces` wrote there stays until they run again.
    Raises FileNotFoundError when CLIP, the VAE or the U-Net has
    neither a checkpoint nor a folder in `out`; ViT, T5 and BART come into the suite once they have been trained.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        partial.chmod(0o755)
        parameters: dict[str, int] = {}
        for part in PARTS:
            parameters |= _write_or_keep(part, partial, work_dir, out)
        shutil.copytree(LICENCES, partial / "LICENSES")
        _write_json(partial / "concepts.json", [_public(concept) for concept in load_concepts()])
        _write_json(partial / "suite.json", describe_suite(parameters))
        check_suite(partial)
        for name in MADE_BY_OTHERS:
            if (out / name).is_dir():
                shutil.copytree(out / name, partial / name)
            elif (out / name).exists():
                shutil.copy2(out / name, partial / name)
        _replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_or_keep(part: Part, partial: Path, work_dir: Path, out: Path) -> dict[str, int]:
    """Put the part's folders into `partial`; returns the number of parameters by folder, none for a part to come."""
    exported = out if all((out / folder).is_dir() for folder in part.folders) else None
    if any(is_trained(work_dir, name) for name in part.trainers):
        return part.write(partial, work_dir, exported)
    if exported is not None:
        for folder in part.folders:
            shutil.copytree(exported / folder, partial / folder)
        suite = json.loads((exported / "suite.json").read_text("utf-8"))
        return {model["folder"]: model["parameters"] for model in suite["models"] if model["folder"] in part.folders}
    return part.write(partial, work_dir, None) if part is PARTS[0] else {}


def _replace_folder(new: Path, old: Path) -> None:
    """Folders cannot be swapped in one step, so the old one steps aside for a moment."""
    aside = new.with_name(new.name + ".old")
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def _public(concept: Concept) -> dict[str, Any]:
    return {
        "id": concept.id,
        "emoji": concept.emoji,
        "group": concept.group,
        "en": list(concept.names["en"]),
        "th": list(concept.names["th"]),
        "prompt": {"en": concept.english_phrase(concept.name("en")), "th": concept.name("th")},
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def main() -> None:
    """Read the flags and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, default=DEFAULT_WORK_DIR, help="checkpoints (%(default)s)")
    parser.add_argument("--out", type=Path, default=EMOJI_FOLDER, help="where the suite goes (%(default)s)")
    flags = parser.parse_args()
    export(flags.work_dir, flags.out)


if __name__ == "__main__":
    main()
