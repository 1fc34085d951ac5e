from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.diffusion.latent_edits import (
    MAX_EDITS,
    EditHistory,
    LatentEdit,
    NoiseRegion,
    PasteRegion,
    Region,
    RoundToBits,
    ScaleChannel,
    SwapChannels,
    ZeroChannel,
    ZeroRegion,
    apply_edits,
)
from webui.errors import UserError

LATENT = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
OTHER = np.random.default_rng(1).normal(size=(4, 6, 8)).astype(np.float32)
PLACE = Region(2, 1, 3, 2)


def outside(region: Region) -> np.ndarray:
    mask = np.ones(LATENT.shape[1:], dtype=bool)
    mask[region.slices()] = False
    return mask


def test_no_edit_is_a_copy() -> None:
    edited = apply_edits(LATENT, ())
    assert np.array_equal(edited, LATENT)
    edited[:] = 0
    assert LATENT.any()


@pytest.mark.parametrize(
    ("edit", "inverse"),
    [
        (ScaleChannel(1, 2.0, 0.5), ScaleChannel(1, 0.5, -0.25)),
        (SwapChannels(0, 3), SwapChannels(0, 3)),
        (SwapChannels(2, 2), SwapChannels(2, 2)),
    ],
)
def test_an_edit_and_its_inverse_leave_the_latent(edit: LatentEdit, inverse: LatentEdit) -> None:
    np.testing.assert_allclose(apply_edits(LATENT, (edit, inverse)), LATENT, atol=1e-6)
    assert edit == inverse or not np.allclose(apply_edits(LATENT, (edit,)), LATENT)


def test_a_channel_is_zeroed_and_swapped() -> None:
    zeroed = apply_edits(LATENT, (ZeroChannel(2),))
    assert not zeroed[2].any()
    assert np.array_equal(zeroed[[0, 1, 3]], LATENT[[0, 1, 3]])
    swapped = apply_edits(LATENT, (SwapChannels(0, 3),))
    assert np.array_equal(swapped, LATENT[[3, 1, 2, 0]])


@pytest.mark.parametrize("edit", [ZeroRegion(PLACE), NoiseRegion(PLACE, 5, 2.0), PasteRegion(PLACE, 4, 3)])
def test_a_region_changes_and_nothing_else(edit: LatentEdit) -> None:
    edited = apply_edits(LATENT, (edit,), OTHER)
    assert np.array_equal(edited[:, outside(PLACE)], LATENT[:, outside(PLACE)])
    inside = edited[:, *PLACE.slices()]
    match edit:
        case ZeroRegion():
            assert not inside.any()
        case PasteRegion():
            assert np.array_equal(inside, OTHER[:, 3:5, 4:7])
        case _:
            assert not np.isclose(inside, LATENT[:, *PLACE.slices()]).any()
            assert np.array_equal(edited, apply_edits(LATENT, (edit,)))


def test_noise_has_the_strength_that_was_asked_for() -> None:
    whole = Region(0, 0, 64, 64)
    noise = apply_edits(np.zeros((4, 64, 64), np.float32), (NoiseRegion(whole, 1, 3.0),))
    assert noise.std() == pytest.approx(3.0, rel=0.02)
    assert noise.mean() == pytest.approx(0.0, abs=0.05)


@given(st.integers(1, 12))
def test_rounding_keeps_so_many_levels_and_moves_no_value_further_than_half_a_step(bits: int) -> None:
    rounded = apply_edits(LATENT, (RoundToBits(bits),))
    for channel, before in zip(rounded, LATENT, strict=True):
        assert len(np.unique(channel)) <= 2**bits
        step = (before.max() - before.min()) / (2**bits - 1)
        assert np.abs(channel - before).max() <= step / 2 + 1e-5
    flat = np.full((4, 2, 2), 0.7, np.float32)
    assert np.array_equal(apply_edits(flat, (RoundToBits(bits),)), flat)


@pytest.mark.parametrize(
    ("edit", "key"),
    [
        (ZeroChannel(4), "error.no_such_channel"),
        (SwapChannels(0, -1), "error.no_such_channel"),
        (ScaleChannel(0, float("nan")), "error.edit_number_out_of_range"),
        (ScaleChannel(0, 1.0, 1e9), "error.edit_number_out_of_range"),
        (ZeroRegion(Region(7, 0, 2, 1)), "error.region_outside"),
        (ZeroRegion(Region(-1, 0, 2, 1)), "error.region_outside"),
        (NoiseRegion(Region(0, 0, 0, 1)), "error.region_outside"),
        (PasteRegion(PLACE, 6, 0), "error.region_outside"),
        (RoundToBits(0), "error.bits_out_of_range"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(edit: LatentEdit, key: str) -> None:
    with pytest.raises(UserError) as refusal:
        apply_edits(LATENT, (edit,), OTHER)
    assert refusal.value.key == key


def test_pasting_needs_another_latent() -> None:
    with pytest.raises(UserError) as refusal:
        apply_edits(LATENT, (PasteRegion(PLACE, 0, 0),))
    assert refusal.value.key == "error.no_other_latent"


EDITS = st.lists(st.sampled_from([ZeroChannel(0), SwapChannels(1, 2), ZeroRegion(PLACE), RoundToBits(3)]), max_size=8)


@given(EDITS, st.integers(0, 8))
def test_undo_and_redo_walk_the_same_list(edits: list[LatentEdit], times: int) -> None:
    history = EditHistory()
    for edit in edits:
        history = history.add(edit)
    undone = history
    for _ in range(times):
        undone = undone.undo()
    assert undone.done == tuple(edits)[: max(0, len(edits) - times)]
    redone = undone
    for _ in range(times):
        redone = redone.redo()
    assert redone == history
    if undone.undone:
        assert undone.add(ZeroChannel(3)).undone == ()


def test_the_list_of_edits_has_an_end() -> None:
    history = EditHistory((ZeroChannel(0),) * MAX_EDITS)
    with pytest.raises(UserError):
        history.add(ZeroChannel(0))
