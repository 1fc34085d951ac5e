"""Which word drew which pixel: sums of the recorded cross-attention (DAAM; Tang et al. 2022), in numpy on a `Trace`.

Two readings of one recording: the attention as it is (`word_map`), and with the words competing for each place
(`competing_word_maps`), which finds the objects better: the benchmark `wordmaps` has both figures.

Attention shows where the U-Net looked for a word's meaning, not what the word caused: `ablation` checks that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image

from webui.diffusion.trace import Trace
from webui.diffusion.trace_header import TokenKind

THRESHOLD: Final = 0.4
"""DAAM's default: a pixel belongs to a word where its map is above this share of the map's peak."""

COMPETITION: Final = 2.0
"""The power to which words compete, see `competing`; chosen on prompts that nothing is measured on."""

Scale = Literal["shared", "word", "share"]


@dataclass(frozen=True, slots=True, eq=False)
class ScaledMaps:
    """Maps for the eye: (G, H, W) float32, 0..1; `tops` is the attention probability that 1 stands for in each."""

    maps: np.ndarray
    tops: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RankedWord:
    """One word, or special token, at one pixel. `share` of the attention there is 0..1; `word` is None for a token."""

    label: str
    kind: TokenKind
    word: int | None
    rows: tuple[int, ...]
    share: float


def word_map(
    trace: Trace,
    rows: Sequence[int],
    *,
    calls: Sequence[int] | None = None,
    levels: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """DAAM's map of a word whose tokens are `rows` of `trace.header.tokens`; (H, W) float32 attention probability.

    Each level's mean over heads and layers is enlarged to `size` (height, width; the latents' by default) by bicubic
    interpolation and clamped at 0; then follows the mean over the layers, the word's tokens and the U-Net calls.
    `calls` picks U-Net calls from 0, None takes the whole run; `levels` picks resolutions, the finest first.
    """
    header = trace.header
    height, width = size or (header.shapes.latent_height, header.shapes.latent_width)
    chosen = range(len(header.levels)) if levels is None else levels
    total = np.zeros((height, width), np.float32)
    for level in chosen:
        total += header.levels[level].layers * enlarged(_level_mean(trace, rows, calls, level), height, width)
    summed: np.ndarray = total / sum(header.levels[level].layers for level in chosen)
    return summed


def competing(maps: np.ndarray, power: float = COMPETITION) -> np.ndarray:
    """Each word's share of a place, m^power / sum over the words of m^power; (W, ...) of all words' maps, 0..1.

    What all words have in common there, such as a background that every word looks at a little, drops out; a power
    above 1 leaves more of the place to the word that is ahead. A word without others keeps its map as it is, for a
    share would say 1 everywhere.
    """
    if len(maps) < 2:
        return maps
    raised = np.asarray(maps, np.float64) ** power
    shares: np.ndarray = (raised / np.maximum(raised.sum(axis=0), np.finfo(np.float64).tiny)).astype(np.float32)
    return shares


def competing_word_maps(
    trace: Trace, *, calls: Sequence[int] | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The maps of all words of the prompt, competing for each place; (W, H, W) float32, 0 for a word that was cut off.

    At each resolution stands the word's share of what all words get there; of the mean over the resolutions, each
    counted by its layers as in DAAM, the squares compete once more. The ordinary recording is enough, and as no layer
    is picked, a model of any size is read in the same way.
    """
    header = trace.header
    rows = [header.rows_of_word(word) for word in range(len(header.words))]
    seen = [word for word, own in enumerate(rows) if own]
    height, width = size or (header.shapes.latent_height, header.shapes.latent_width)
    maps = np.zeros((len(rows), height, width), np.float32)
    if not seen:
        return maps
    layers = [level.layers for level in header.levels]
    shares = [
        competing(
            np.stack([word_map(trace, rows[word], calls=calls, levels=[level], size=(height, width)) for word in seen]),
            power=1,
        )
        for level in range(len(layers))
    ]
    maps[seen] = competing(np.average(shares, axis=0, weights=layers))
    return maps


def scaled_maps(
    trace: Trace, groups: Sequence[Sequence[int]], scale: Scale = "shared", calls: Sequence[int] | None = None
) -> ScaledMaps:
    """The maps of several words (`groups` of rows) on one of three scales.

    "shared": 1 is the highest peak of all, so that a word nobody looked at stays dark. "word": each from its own lowest
    to its own highest, as DAAM draws them. "share": the word's tokens together, of all attention at that place.
    """
    maps = np.stack([word_map(trace, rows, calls=calls) for rows in groups])
    peaks = maps.max(axis=(1, 2))
    if scale == "share":
        return ScaledMaps(
            maps * np.array([len(rows) for rows in groups], np.float32)[:, None, None], (1.0,) * len(maps)
        )
    if scale == "word":
        lows = maps.min(axis=(1, 2))
        spans = np.maximum(peaks - lows, np.finfo(np.float32).tiny)
        return ScaledMaps((maps - lows[:, None, None]) / spans[:, None, None], tuple(map(float, peaks)))
    top = max(float(peaks.max()), float(np.finfo(np.float32).tiny))
    return ScaledMaps(maps / top, (top,) * len(maps))


def threshold_mask(word_map: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Where the map is above `threshold` (0..1) of its peak; bool, the same shape."""
    mask: np.ndarray = word_map > threshold * word_map.max()
    return mask


def peak(word_map: np.ndarray) -> tuple[float, float]:
    """The middle of the map's highest cell, (x, y) in 0..1 of the picture's width and height."""
    row, column = np.unravel_index(int(word_map.argmax()), word_map.shape)
    return (float(column) + 0.5) / word_map.shape[1], (float(row) + 0.5) / word_map.shape[0]


def intersection_over_union(one: np.ndarray, other: np.ndarray) -> float:
    """|A and B| / |A or B| of two bool masks, 0 when both are empty."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 0.0


def ranked_words(
    trace: Trace, x: float, y: float, calls: Sequence[int] | None = None, *, include_special: bool = False
) -> tuple[RankedWord, ...]:
    """The words at a point of the picture, (x, y) in 0..1, the one with most attention first.

    A word's tokens count together. `include_special` adds the start, end and padding tokens, which often take most.
    """
    header = trace.header
    groups: list[tuple[str, TokenKind, int | None, tuple[int, ...]]] = [
        (text, "word", word, header.rows_of_word(word)) for word, text in enumerate(header.words)
    ]
    if include_special:
        groups += [
            (token.text, token.kind, None, (row,)) for row, token in enumerate(header.tokens) if token.word is None
        ]
    place = _place(x, header.shapes.latent_width), _place(y, header.shapes.latent_height)
    ranked = [
        RankedWord(label, kind, word, rows, float(word_map(trace, rows, calls=calls)[place[1], place[0]] * len(rows)))
        for label, kind, word, rows in groups
    ]
    return tuple(sorted(ranked, key=lambda entry: -entry.share))


def enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) enlarged to (height, width) by bicubic interpolation, clamped at 0; float32."""
    if values.shape == (height, width):
        return np.asarray(np.maximum(values, 0), np.float32)
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(np.maximum(np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)), 0))


def _level_mean(trace: Trace, rows: Sequence[int], calls: Sequence[int] | None, level: int) -> np.ndarray:
    chosen = list(rows)
    if calls is None:
        whole: np.ndarray = trace.mean_maps[level][chosen].astype(np.float32).mean(axis=0)
        return whole
    some: np.ndarray = np.mean([trace.level_map(call, level)[chosen].mean(axis=0) for call in calls], axis=0)
    return some


def _place(fraction: float, cells: int) -> int:
    return min(max(int(fraction * cells), 0), cells - 1)
