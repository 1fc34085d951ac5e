"""One more text for a scored set of 100 pictures and 20 texts: seconds, and the share of the first scoring."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from tests.bench._clip import fresh_encoder, load_emoji_clip, write_photographs
from webui.clip.score import score
from webui.vision.pictures import PictureFile

PICTURES, TEXTS, ROUNDS = 100, 20, 3


def run() -> dict[str, object]:
    """Medians over the rounds, each with an empty cache at first."""
    clip = load_emoji_clip()
    texts = [f"a cat on background {number}" for number in range(TEXTS)]
    first, again = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = [PictureFile(path.name, path) for path in write_photographs(Path(folder), PICTURES, 640, 480)]
        score(fresh_encoder(clip), files[:2], texts[:2])
        for _ in range(ROUNDS):
            encoder = fresh_encoder(clip)
            start = time.perf_counter()
            score(encoder, files, texts)
            middle = time.perf_counter()
            more = score(encoder, files, [*texts, "a dog"])
            first.append(middle - start)
            again.append(time.perf_counter() - middle)
            assert (more.encoded_pictures, more.encoded_texts) == (0, 1)
    return {
        "pictures": PICTURES,
        "texts": TEXTS,
        "first_seconds": round(float(np.median(first)), 3),
        "one_more_text_seconds": round(float(np.median(again)), 3),
        "share": round(float(np.median(again) / np.median(first)), 3),
    }
