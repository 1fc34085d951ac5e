"""The sums over a trace, against sums written out by hand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from webui.diffusion.bundled import find_bundled_trace
from webui.diffusion.trace import Trace, open_trace
from webui.diffusion.wordmaps import (
    competing,
    competing_word_maps,
    enlarged,
    intersection_over_union,
    peak,
    ranked_words,
    scaled_maps,
    threshold_mask,
    word_map,
)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return open_trace(find_bundled_trace("cat-blue-thai"))


def bicubic(values: np.ndarray, side: int) -> np.ndarray:
    resized = Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized).clip(0)


def test_a_words_map_is_the_mean_over_calls_layers_heads_and_tokens(trace: Trace) -> None:
    rows = trace.header.rows_of_word(1)
    assert len(rows) > 1, "a word of several tokens"
    by_size = defaultdict(list)
    for layer in range(len(trace.header.layers)):
        heads = [trace.head_map(call, layer)[:, rows].mean(axis=(0, 1)) for call in range(len(trace.header.steps))]
        by_size[heads[0].shape].append(np.mean(heads, axis=0))
    assert len(by_size) > 1, "a U-Net of several resolutions"
    total = sum(len(layers) * bicubic(np.mean(layers, axis=0), 16) for layers in by_size.values())
    expected = total / len(trace.header.layers)
    np.testing.assert_allclose(word_map(trace, rows), expected, atol=2e-3 * expected.max())


def test_the_whole_run_is_the_mean_of_its_calls(trace: Trace) -> None:
    rows = trace.header.rows_of_word(0)
    whole = word_map(trace, rows)
    np.testing.assert_allclose(word_map(trace, rows, calls=range(12)), whole, atol=whole.max() * 0.01)
    first, last = (word_map(trace, rows, calls=[call]) for call in (0, 11))
    assert np.abs(first - last).max() > whole.max() * 0.1, "the calls differ"


def test_all_rows_together_are_all_attention(trace: Trace) -> None:
    shares = scaled_maps(trace, [[row] for row in range(len(trace.header.tokens))], "share")
    # Bicubic interpolation overshoots a little, and the clamp at 0 keeps one side of it.
    assert np.abs(shares.maps.sum(axis=0) - 1).max() < 0.02
    assert set(shares.tops) == {1.0}


def test_a_shared_scale_keeps_the_weak_weak_and_an_own_scale_does_not(trace: Trace) -> None:
    groups = [trace.header.rows_of_word(word) for word in range(len(trace.header.words))]
    peaks = np.array([word_map(trace, rows).max() for rows in groups])
    shared, own = scaled_maps(trace, groups, "shared"), scaled_maps(trace, groups, "word")
    np.testing.assert_allclose(shared.maps.max(axis=(1, 2)), peaks / peaks.max(), rtol=1e-5)
    np.testing.assert_allclose(own.maps.max(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_allclose(own.maps.min(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(own.tops, peaks, rtol=1e-5)


def test_a_pixel_ranks_its_words(trace: Trace) -> None:
    words = ranked_words(trace, 0.4, 0.5)
    assert {entry.label for entry in words} == set(trace.header.words)
    shares = [entry.share for entry in words]
    assert shares == sorted(shares, reverse=True)
    every = ranked_words(trace, 0.4, 0.5, include_special=True)
    assert {entry.kind for entry in every} == {"start", "word", "end", "padding"}
    assert sum(entry.share for entry in every) == pytest.approx(1, abs=0.02)
    assert [entry.share for entry in ranked_words(trace, 1.0, 1.0)] != shares
    by_hand = word_map(trace, words[0].rows)[8, 6] * len(words[0].rows)
    assert words[0].share == pytest.approx(float(by_hand))


def test_masks_and_their_overlap() -> None:
    values = np.array([[0.0, 0.4, 0.41], [1.0, 0.2, 0.9]])
    mask = threshold_mask(values)
    assert mask.tolist() == [[False, False, True], [True, False, True]]
    assert intersection_over_union(mask, mask) == 1
    assert intersection_over_union(mask, ~mask) == 0
    assert intersection_over_union(mask, mask & (values == 1.0)) == pytest.approx(1 / 3)
    assert intersection_over_union(mask & False, mask & False) == 0
    assert peak(values) == pytest.approx((0.5 / 3, 0.75))


def test_enlarging_never_goes_below_zero() -> None:
    spike = np.zeros((4, 4), np.float32)
    spike[1, 1] = 1
    large = enlarged(spike, 16, 12)
    assert large.shape == (16, 12)
    assert large.min() == 0


def test_levels_can_be_chosen(trace: Trace) -> None:
    rows = trace.header.rows_of_word(0)
    fine, coarse = (word_map(trace, rows, levels=[level]) for level in (0, 1))
    assert not np.allclose(fine, coarse, rtol=0.1)
    np.testing.assert_allclose((fine + coarse) / 2, word_map(trace, rows), rtol=1e-4)  # four layers each
    one_level = replace(trace, header=replace(trace.header, levels=trace.header.levels[:1]))
    np.testing.assert_allclose(word_map(one_level, rows), fine, rtol=1e-6)


def test_words_compete_for_each_place_by_the_squares_of_their_attention() -> None:
    maps = np.array([[[0.3, 0.1], [0.0, 0.2]], [[0.1, 0.1], [0.0, 0.4]]], np.float32)
    shares = competing(maps)
    np.testing.assert_allclose(shares[0], [[0.9, 0.5], [0, 0.2]], rtol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=0), [[1, 1], [0, 1]], rtol=1e-5)
    np.testing.assert_allclose(competing(maps, power=1)[0], [[0.75, 0.5], [0, 1 / 3]], rtol=1e-5)
    assert np.array_equal(competing(maps[:1]), maps[:1]), "a word without others keeps its map"


def test_competing_words_share_out_every_place_at_every_resolution(trace: Trace) -> None:
    rows = [trace.header.rows_of_word(word) for word in range(len(trace.header.words))]
    by_level = [np.stack([word_map(trace, own, levels=[level]) for own in rows]) for level in (0, 1)]
    mean = sum(maps / maps.sum(axis=0) for maps in by_level) / 2  # four layers each
    maps = competing_word_maps(trace)
    np.testing.assert_allclose(maps, mean**2 / (mean**2).sum(axis=0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-5)
    early = competing_word_maps(trace, calls=range(6), size=(32, 32))
    assert early.shape == (len(rows), 32, 32)
    assert np.abs(early[:, ::2, ::2] - maps).max() > 0.05, "the first half of the run is another map"


def test_a_word_that_was_cut_off_has_no_map_and_one_alone_keeps_its_own(trace: Trace) -> None:
    words = (*trace.header.words, "unseen")
    longer = replace(trace, header=replace(trace.header, words=words))
    maps = competing_word_maps(longer)
    assert not maps[-1].any()
    assert np.array_equal(maps[:-1], competing_word_maps(trace))
    tokens = tuple(replace(token, word=0 if token.word == 1 else None) for token in trace.header.tokens)
    alone = replace(trace, header=replace(trace.header, tokens=tokens, words=("one",)))
    (own,) = competing_word_maps(alone)
    np.testing.assert_allclose(own, word_map(trace, trace.header.rows_of_word(1)), rtol=1e-5)
    nothing = tuple(replace(token, word=None) for token in trace.header.tokens)
    empty = replace(trace, header=replace(trace.header, tokens=nothing, words=()))
    assert competing_word_maps(empty).shape == (0, 16, 16)
