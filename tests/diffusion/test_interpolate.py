from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from webui.diffusion.animation import ANIMATION_FORMATS, animate
from webui.diffusion.interpolate import angle_between, lerp, shares, slerp

RNG = np.random.default_rng(0)
START, END = RNG.normal(size=(2, 4, 16, 16)).astype(np.float32)


@pytest.mark.parametrize("way", [slerp, lerp])
def test_both_ways_start_and_end_at_the_latents_themselves(way: object) -> None:
    assert way is slerp or way is lerp
    assert np.array_equal(slerp(START, END, 0) if way is slerp else lerp(START, END, 0), START)
    assert np.array_equal(slerp(START, END, 1) if way is slerp else lerp(START, END, 1), END)


@given(st.floats(0, 1))
def test_slerp_stays_on_the_sphere_and_turns_evenly_where_lerp_cuts_through(share: float) -> None:
    end = END * (np.linalg.norm(START) / np.linalg.norm(END))
    between = slerp(START, end, share)
    assert np.linalg.norm(between) == pytest.approx(np.linalg.norm(START), rel=1e-4)
    assert angle_between(START, between) == pytest.approx(share * angle_between(START, end), abs=1e-3)
    assert np.linalg.norm(lerp(START, end, share)) <= np.linalg.norm(START) * (1 + 1e-5)


def test_two_noises_are_nearly_at_right_angles_so_lerp_loses_the_norm() -> None:
    assert angle_between(START, END) == pytest.approx(math.pi / 2, abs=0.1)
    assert np.linalg.norm(lerp(START, END, 0.5)) / np.linalg.norm(START) == pytest.approx(math.sqrt(0.5), abs=0.05)


@pytest.mark.parametrize("end", [START, 2 * START, -START, np.zeros_like(START)])
def test_parallel_opposite_and_empty_latents_go_along_the_line(end: np.ndarray) -> None:
    np.testing.assert_allclose(slerp(START, end, 0.25), 0.75 * START + 0.25 * end, atol=1e-5)


def test_shares_are_even_and_hold_both_ends() -> None:
    assert shares(5) == (0, 0.25, 0.5, 0.75, 1)


@pytest.mark.parametrize("kind", ANIMATION_FORMATS)
def test_an_animation_opens_again_and_goes_there_and_back(kind: str) -> None:
    frames = [np.full((12, 16, 3), level, np.uint8) for level in (0, 100, 200, 250)]
    with Image.open(io.BytesIO(animate(frames, kind, 80))) as played:
        assert Image.MIME[played.format or ""] in (ANIMATION_FORMATS[kind], "image/apng")
        assert played.is_animated
        assert played.info["loop"] == 0
        seen = []
        for number in range(played.n_frames):
            played.seek(number)
            seen.append(int(np.asarray(played.convert("RGB")).mean()))
            assert played.info["duration"] == 80
    assert seen == [0, 100, 200, 250, 200, 100]
