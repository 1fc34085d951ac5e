"""Pictures a second: `embed_pictures` against a plain loop over `CLIPModel` and its processor, on the same JPEGs.

The rounds take turns. Decoding at a reduced size (`Image.draft`) is measured beside it, with the drift it causes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tests.bench._clip import fresh_encoder, load_emoji_clip, write_photographs
from webui.clip.embed import embed_pictures, embed_texts
from webui.clip.encoder import ClipParts
from webui.clip.similarity import unit
from webui.vision.pictures import PictureFile

PICTURES = 32
ROUNDS = 3
SIZE = (1920, 1080)
TEXTS = ("a cat", "a dog on a blue background", "a red car", "แมว", "a house", "an apple and a tree")

T = TypeVar("T")


def run() -> dict[str, object]:
    """Medians over the rounds; drift is the largest over all pictures (and texts)."""
    clip = load_emoji_clip()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), PICTURES, *SIZE)
        files = [PictureFile(path.name, path) for path in paths]
        _plain_loop(clip, paths[:2])  # the first pass through a model pays for its buffers
        seconds: dict[str, list[float]] = {"plain": [], "ours": [], "draft": [], "decode": []}
        for _ in range(ROUNDS):
            plain = _timed(seconds["plain"], _plain_loop, clip, paths)
            ours = _timed(seconds["ours"], embed_pictures, fresh_encoder(clip), files).vectors
            draft = _timed(seconds["draft"], embed_pictures, fresh_encoder(clip, draft=True), files).vectors
            _timed(seconds["decode"], _decode, paths)
    texts = unit(embed_texts(fresh_encoder(clip), TEXTS).vectors)
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        "pictures": PICTURES,
        "size": list(SIZE),
        "plain_pictures_per_second": round(PICTURES / median["plain"], 1),
        "ours_pictures_per_second": round(PICTURES / median["ours"], 1),
        "draft_pictures_per_second": round(PICTURES / median["draft"], 1),
        "ours_over_plain": round(median["plain"] / median["ours"], 2),
        "draft_over_plain": round(median["plain"] / median["draft"], 2),
        "decode_share_of_plain": round(median["decode"] / median["plain"], 2),
        "largest_difference_of_scores": float(np.abs(unit(plain) @ texts.T - unit(ours) @ texts.T).max()),
        "draft_largest_drift_of_scores": float(np.abs(unit(draft) @ texts.T - unit(ours) @ texts.T).max()),
        "draft_smallest_cosine_to_full_decode": float((unit(draft) * unit(ours)).sum(axis=1).min()),
    }


def _timed(times: list[float], work: Callable[..., T], *arguments: object) -> T:
    start = time.perf_counter()
    result = work(*arguments)
    times.append(time.perf_counter() - start)
    return result


def _plain_loop(clip: ClipParts, paths: Sequence[Path]) -> npt.NDArray[np.float32]:
    rows = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as image:
                inputs = clip.processor.image_processor(images=image.convert("RGB"), return_tensors="pt")
            rows.append(clip.model.get_image_features(**inputs).pooler_output[0].numpy())
    return np.stack(rows)


def _decode(paths: Sequence[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.convert("RGB")
