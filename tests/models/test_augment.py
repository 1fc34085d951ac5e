import numpy as np
import torch

from models.recipes.augment import augment
from models.recipes.scenes import pair, single
from models.recipes.shapes import VitShape, build_vit
from models.recipes.train_vit import found, logits_of_some_patches, start_well, targets_of


def test_strength_zero_only_mirrors() -> None:
    pixels = torch.rand(16, 3, 32, 32) * 2 - 1
    changed = augment(pixels, np.random.default_rng(0), strength=0)
    mirrored = pixels.flip(-1)
    same = [torch.allclose(c, p, atol=1e-4) for c, p in zip(changed, pixels, strict=True)]
    flipped = [torch.allclose(c, p, atol=1e-4) for c, p in zip(changed, mirrored, strict=True)]
    assert all(a or b for a, b in zip(same, flipped, strict=True))
    assert any(same)
    assert any(flipped)


def test_full_strength_changes_every_picture_and_stays_in_range() -> None:
    pixels = torch.rand(16, 3, 32, 32) * 2 - 1
    changed = augment(pixels, np.random.default_rng(0))
    assert changed.shape == pixels.shape
    assert changed.abs().max() <= 1
    assert all(not torch.equal(c, p) for c, p in zip(changed, pixels, strict=True))


def test_two_objects_share_the_target() -> None:
    targets = targets_of([single(2, 0), pair(0, 3, 0)], 4)
    assert targets.tolist() == [[0, 0, 1, 0], [0.5, 0, 0, 0.5]]


def test_a_pair_is_found_when_both_are_among_the_first() -> None:
    ranking = torch.tensor([[0, 3, 1, 2], [0, 1, 3, 2]])
    assert found(ranking, [pair(0, 3, 0), pair(0, 3, 0)], 2) == 0.5


def test_all_patches_give_the_stock_logits() -> None:
    torch.manual_seed(0)
    vit = build_vit(["a", "b"], VitShape(width=32, layers=2, heads=2)).eval()
    pixels = torch.rand(2, 3, 128, 128) * 2 - 1
    start_well(vit, torch.rand(8, 3, 128, 128) * 2 - 1)
    with torch.no_grad():
        assert torch.allclose(logits_of_some_patches(vit, pixels, 1.0), vit(pixel_values=pixels).logits, atol=1e-4)


def test_a_good_start_gives_patches_like_variance() -> None:
    vit = build_vit(["a", "b"], VitShape(width=32, layers=1, heads=2))
    noise = torch.nn.functional.interpolate(torch.rand(64, 3, 32, 32) * 2 - 1, size=(128, 128), mode="bilinear")
    start_well(vit, noise)
    with torch.no_grad():
        patches = vit.vit.embeddings.patch_embeddings(noise)
    spread = patches.flatten(0, 1).std(dim=0)
    assert spread.max() / spread.min() < 3
    assert patches.mean().abs() < 0.1
