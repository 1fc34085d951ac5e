from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.recipes.concepts import load_concepts
from models.recipes.draw import DEBIAN_FONT, SpriteSheet, draw
from models.recipes.scenes import BACKGROUNDS, single
from webui.clip.embed import Encoder

Draw = Callable[[Path, int], list[Path]]


@pytest.fixture(scope="session")
def encoder(emoji_suite: Path) -> Encoder:
    from tests.bench._clip import load_emoji_clip

    return Encoder(load_emoji_clip(), "emoji", threads=2)


@pytest.fixture(scope="session")
def draw_pictures() -> Draw:
    """Draws that many pictures of one thing each, named "<concept>-<number>.png", with a jitter no training had."""
    if not DEBIAN_FONT.is_file():
        pytest.skip("Debian's package fonts-noto-color-emoji is not installed")
    concepts = load_concepts()
    sheet = SpriteSheet(concepts, DEBIAN_FONT)

    def drawn(folder: Path, count: int) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(77_000)
        paths = []
        for number in range(count):
            place = number % len(concepts)
            scene = single(place, int(rng.integers(len(BACKGROUNDS))), "normal")
            paths.append(folder / f"{concepts[place].id}-{number}.png")
            Image.fromarray(draw(scene, sheet, rng)).save(paths[-1], compress_level=1)
        return paths

    return drawn
