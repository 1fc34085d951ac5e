"""What several of these tests need: the concepts, a sprite sheet, and a work folder that was trained a little."""

from pathlib import Path

import pytest

from models.recipes import train_bart, train_clip, train_t5, train_unet, train_vae, train_vit, unet_cache
from models.recipes.concepts import Concept, load_concepts
from models.recipes.draw import DEBIAN_FONT, SpriteSheet
from tests.models.tiny import TINY_CLIP, TINY_TEXT, TINY_UNET, TINY_VAE, TINY_VIT, tiny_run


@pytest.fixture(scope="session")
def concepts() -> tuple[Concept, ...]:
    return load_concepts()


@pytest.fixture(scope="session")
def sheet(concepts: tuple[Concept, ...]) -> SpriteSheet:
    if not DEBIAN_FONT.is_file():
        pytest.skip("Debian's package fonts-noto-color-emoji is not installed")
    return SpriteSheet(concepts, DEBIAN_FONT)


@pytest.fixture(scope="session")
def trained_dir(tmp_path_factory: pytest.TempPathFactory, sheet: SpriteSheet) -> Path:
    """A work folder in which every trainer has made two steps with tiny networks."""
    folder = tmp_path_factory.mktemp("work")
    run = tiny_run(folder, steps=2)
    train_clip.train(TINY_CLIP, run)
    train_vae.train(TINY_VAE, run)
    unet_cache.build(unet_cache.CacheBuild(folder, shards=1, batch=8, threads=1))
    train_unet.train(TINY_UNET, run)
    train_vit.train(TINY_VIT, run)
    train_t5.train(TINY_TEXT, run)
    train_bart.train(TINY_TEXT, run)
    return folder
