"""What the trainers of the VAE and the U-Net are fed with."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from models.recipes.concepts import Concept
from models.recipes.draw import SpriteSheet
from models.recipes.train_unet import LatentShards, UnetBatch
from models.recipes.train_vae import DrawnBatches
from models.recipes.unet_cache import KINDS, DrawnSamples

CPU = torch.device("cpu")
ALL_KINDS = (1.0,) * len(KINDS)


def save_shard(folder: Path, number: int, kinds: list[int]) -> None:
    """Latents say shard and row; a text vector says shard and caption: 0 is empty, 2 r + 1 and 2 r + 2 are row r's."""
    rows = torch.arange(len(kinds))
    torch.save(
        {
            "kinds": torch.tensor(kinds),
            "latents": (100 * number + rows).half()[:, None, None, None].expand(-1, 4, 16, 16).clone(),
            "captions": torch.stack([2 * rows + 1, 2 * rows + 2], dim=1),
            "text_vectors": (100 * number + torch.arange(2 * len(kinds) + 1)).half()[:, None, None].clone(),
        },
        folder / f"shard_{number:03d}.pt",
    )


def pictures_of(batch: UnetBatch) -> list[int]:
    return batch.latents[:, 0, 0, 0].long().tolist()


def captions_of(batch: UnetBatch) -> list[int]:
    return batch.text[:, 0, 0].long().tolist()


@pytest.fixture
def shards(tmp_path: Path) -> LatentShards:
    save_shard(tmp_path, 0, [0, 1, 0, 2])
    save_shard(tmp_path, 1, [2, 2, 1])
    shards = LatentShards(tmp_path, CPU)
    shards.refresh()
    return shards


def test_a_picture_comes_with_one_of_its_own_captions(shards: LatentShards) -> None:
    batch = shards.batch(200, ALL_KINDS, 0.0, np.random.default_rng(0))
    assert set(pictures_of(batch)) == {0, 1, 2, 3, 100, 101, 102}
    languages = set()
    for picture, caption in zip(pictures_of(batch), captions_of(batch), strict=True):
        shard, row = divmod(picture, 100)
        language = caption - 100 * shard - 2 * row
        assert language in (1, 2)
        languages.add(language)
    assert languages == {1, 2}


def test_the_mix_chooses_the_kinds(shards: LatentShards) -> None:
    batch = shards.batch(50, (0.0, 0.0, 1.0), 0.0, np.random.default_rng(0))
    assert set(pictures_of(batch)) == {3, 100, 101}


def test_dropped_captions_are_the_empty_one(shards: LatentShards) -> None:
    batch = shards.batch(400, ALL_KINDS, 0.25, np.random.default_rng(0))
    empty = sum(caption % 100 == 0 for caption in captions_of(batch))
    assert 60 < empty < 140
    assert all(
        caption == picture // 100 * 100
        for picture, caption in zip(pictures_of(batch), captions_of(batch), strict=True)
        if caption % 100 == 0
    )


def test_shards_made_later_are_read_too(shards: LatentShards, tmp_path: Path) -> None:
    save_shard(tmp_path, 2, [1])
    shards.refresh()
    assert len(shards) == 8
    batch = shards.batch(100, (0.0, 1.0, 0.0), 0.0, np.random.default_rng(0))
    assert set(pictures_of(batch)) == {1, 102, 200}


def test_a_kind_that_no_shard_has_is_left_out(tmp_path: Path) -> None:
    save_shard(tmp_path, 0, [0, 0])
    shards = LatentShards(tmp_path, CPU)
    shards.refresh()
    assert set(pictures_of(shards.batch(20, (0.2, 0.4, 0.4), 0.0, np.random.default_rng(0)))) == {0, 1}


@pytest.mark.parametrize(("whole", "side"), [(True, 128), (False, 64)])
def test_drawing_processes_draw_different_pictures(sheet: SpriteSheet, whole: bool, side: int) -> None:
    batches = DrawnBatches(sheet, (1, 2, 3), 3, whole)
    first, second = islice(DataLoader(batches, batch_size=None, num_workers=2), 2)
    assert first.shape == second.shape == (3, side, side, 3)
    assert first.dtype == torch.uint8
    assert not torch.equal(first, second)
    again = next(iter(batches))
    assert torch.equal(torch.from_numpy(again), first)  # without processes it is what the first of them draws


def test_a_sample_is_decided_by_its_number(concepts: tuple[Concept, ...], sheet: SpriteSheet) -> None:
    samples = DrawnSamples(concepts, sheet, 2, 40)
    (once, picture), (again, same) = samples[7], samples[7]
    assert once == again
    assert np.array_equal(picture, same)
    assert len({samples[number][0].captions for number in range(len(samples))}) > 30
