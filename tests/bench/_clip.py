"""The CLIP that the benchmarks measure, and photographs to feed it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from webui.clip.cache import EmbeddingCache
from webui.clip.encoder import ClipParts, Encoder

EMOJI_CLIP = Path(__file__).resolve().parents[2] / "models" / "emoji" / "clip"


def load_emoji_clip() -> ClipParts:
    """The suite's CLIP in float32, in eval mode."""
    if not (EMOJI_CLIP / "config.json").is_file():
        raise SystemExit(f"{EMOJI_CLIP} holds no trained model; run the recipe first")
    model = CLIPModel.from_pretrained(EMOJI_CLIP, local_files_only=True, use_safetensors=True).float().eval()
    return ClipParts(model, CLIPProcessor.from_pretrained(EMOJI_CLIP, local_files_only=True))


def fresh_encoder(clip: ClipParts, *, draft: bool = False) -> Encoder:
    """An encoder that remembers nothing of earlier rounds."""
    return Encoder(clip, "emoji", EmbeddingCache(), draft=draft)


def write_photographs(folder: Path, count: int, width: int, height: int, first: int = 0) -> list[Path]:
    """JPEGs with soft areas, edges and grain, so that decoding costs what it costs for photographs.

    No two numbers from `first` on give the same picture.
    """
    paths = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse, np.int16) + rng.integers(-14, 15, (height, width, 1), dtype=np.int16)
        for _ in range(12):
            top, left = rng.integers(0, height - height // 6), rng.integers(0, width - width // 6)
            pixels[top : top + height // 6, left : left + width // 6] += rng.integers(-80, 80, 3, dtype=np.int16)
        path = folder / f"photograph-{number:03}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=88)
        paths.append(path)
    return paths
