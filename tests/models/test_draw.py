from pathlib import Path

import numpy as np
import pytest

from models.recipes.concepts import Concept
from models.recipes.draw import PICTURE_SIZE, SpriteSheet, draw, require_font
from models.recipes.pictures import to_pictures, to_pixels
from models.recipes.scenes import BACKGROUNDS, pair, single


def test_a_seed_decides_the_picture(sheet: SpriteSheet) -> None:
    scene = single(0, 4, "small", "left")
    first, again, other = (draw(scene, sheet, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (PICTURE_SIZE, PICTURE_SIZE, 3)
    assert first.dtype == np.uint8


def test_the_background_has_its_colour(sheet: SpriteSheet) -> None:
    for index, background in enumerate(BACKGROUNDS):
        corner = draw(single(0, index), sheet, np.random.default_rng(0))[0, 0].astype(int)
        assert np.abs(corner - background.rgb).max() <= 10


@pytest.mark.parametrize(("place", "axis", "side"), [("left", 1, 0), ("right", 1, 1), ("top", 0, 0), ("bottom", 0, 1)])
def test_an_object_lies_where_its_place_says(sheet: SpriteSheet, place: str, axis: int, side: int) -> None:
    picture = draw(single(3, 8, "small", place), sheet, np.random.default_rng(0)).astype(int)
    foreground = np.argwhere(np.abs(picture - picture[64 if axis else 0, 64 if not axis else 0]).max(axis=-1) > 30)
    if len(foreground) > PICTURE_SIZE**2 / 2:  # the probed pixel was the object
        pytest.skip("no background at the probed pixel")
    assert (foreground[:, axis].mean() > PICTURE_SIZE / 2) == bool(side)


def test_a_pair_shows_both(sheet: SpriteSheet) -> None:
    rng = np.random.default_rng(0)
    together = draw(pair(0, 1, 9), sheet, rng)
    left, right = together[:, :64].astype(int), together[:, 64:].astype(int)
    assert np.ptp(left) > 100
    assert np.ptp(right) > 100


def test_every_concept_has_a_glyph(sheet: SpriteSheet, concepts: tuple[Concept, ...]) -> None:
    assert len(sheet) == len(concepts)


def test_a_missing_font_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="fonts-noto-color-emoji"):
        require_font(tmp_path / "none.ttf")


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    pictures = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert np.array_equal(to_pictures(to_pixels(pictures)), pictures)
