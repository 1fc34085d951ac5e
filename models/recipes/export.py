"""Writes the trained models as folders that the stock classes load: `StableDiffusionPipeline` and `CLIPModel`.

    python -m models.recipes.export --work-dir models/recipes/work --out models/emoji

Weights are float16 safetensors, the U-Net's and the VAE's are moving averages. The folder is written beside the old
one and then takes its place, so that a reader never finds half of it.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTextModel, CLIPTokenizer

from models.recipes.concepts import Concept, load_concepts
from models.recipes.draw import PICTURE_SIZE
from models.recipes.shapes import build_scheduler
from models.recipes.tokenizer import load_tokenizer
from models.recipes.trained import load_trained_clip, load_trained_unet, load_trained_vae
from models.recipes.training import DEFAULT_WORK_DIR

EMOJI_FOLDER = Path(__file__).parent.parent / "emoji"
LICENCES = Path(__file__).with_name("licences")
MADE_BY_EVALUATE = ("MODEL_CARD.md", "contact_sheet.png", "measured.json")
VERSION = "0.1"
GUIDANCE_SCALE = 2.0  # of 1.3 to 7.5, this drew the most recognisable pictures


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


def write_suite(folder: Path, pipeline: StableDiffusionPipeline, clip: CLIPModel, concepts: Sequence[Concept]) -> None:
    """Write the whole suite into `folder`, which must exist."""
    networks = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    suite = describe_suite(parameters_of(*networks), parameters_of(clip))
    clip.half().save_pretrained(folder / "clip")
    build_processor(pipeline.tokenizer).save_pretrained(folder / "clip")
    pipeline.to(dtype=torch.float16).save_pretrained(folder / "txt2img", safe_serialization=True)
    shutil.copytree(LICENCES, folder / "LICENSES")
    _write_json(folder / "concepts.json", [_public(concept) for concept in concepts])
    _write_json(folder / "suite.json", suite)


def describe_suite(pipeline_parameters: int, clip_parameters: int) -> dict[str, Any]:
    """What `diffuscope models` shows."""
    return {
        "name": "Emoji suite",
        "version": VERSION,
        "languages": ["en", "th"],
        "licences": [
            "Weights: Apache-2.0",
            "Trained on glyphs of Noto Color Emoji (OFL-1.1)",
            "Names from the Unicode CLDR annotations (Unicode-3.0)",
        ],
        "models": [
            {
                "id": "emoji",
                "task": "txt2img",
                "title": "Emoji suite: Stable Diffusion in miniature",
                "folder": "txt2img",
                "guidance_scale": GUIDANCE_SCALE,
                "parameters": pipeline_parameters,
            },
            {
                "id": "emoji",
                "task": "clip",
                "title": "Emoji suite: CLIP in English and Thai",
                "folder": "clip",
                "parameters": clip_parameters,
            },
        ],
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


def export(work_dir: Path, out: Path) -> None:
    """Write, check, and put in place; what `evaluate` wrote there stays until it runs again."""
    concepts = load_concepts()
    clip, tokenizer = load_trained_clip(work_dir)
    pipeline = build_pipeline(clip, tokenizer, load_trained_vae(work_dir), load_trained_unet(work_dir))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        partial.chmod(0o755)
        write_suite(partial, pipeline, clip, concepts)
        check_suite(partial)
        for name in MADE_BY_EVALUATE:
            if (out / name).exists():
                shutil.copy2(out / name, partial / name)
        _replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
