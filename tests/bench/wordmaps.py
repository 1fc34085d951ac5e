"""How well word maps find their objects: held-out prompts of two objects, mean IoU and peaks.

The right answer is not drawn by anybody, so it is taken from the picture: the first named object belongs in the left
half and the second in the right (the known layout), and within its half an object is what differs from the background
(the median colour of the picture's edge) by more than the half's own threshold (Otsu 1979), holes filled. A picture in
which a half holds no object is counted and left out. The way of reading is chosen on prompts of their own.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from models.recipes.captions import NOTHING, describe
from models.recipes.concepts import load_concepts
from models.recipes.scenes import random_scene
from webui.diffusion.generate import generate
from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import (
    COMPETITION,
    competing,
    competing_word_maps,
    enlarged,
    intersection_over_union,
    threshold_mask,
    word_map,
)
from webui.runtime.entries import TXT2IMG
from webui.settings import Settings
from webui.studio import open_studio

CHOOSING, MEASURED = 96, 68
STEPS = 10
LEAST_DISTANCE = 25.0
LEAST_REGION = 0.01


@dataclass(frozen=True)
class Case:
    """One drawn prompt: its trace, and for each of the two objects the numbers of its words and its region."""

    trace: Trace
    words: tuple[tuple[int, ...], tuple[int, ...]]
    regions: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Reading:
    """Which maps compete, and by which power of them; the first power leaves every word its share."""

    maps: str
    power: float

    def __str__(self) -> str:
        return f"{self.maps}, power {self.power}"


PAGE = Reading("shares, averaged over resolutions", COMPETITION)
MAPS = ("attention, averaged over layers", PAGE.maps, "geometric mean of resolutions", "finest", "coarsest")
POWERS = (1.0, 1.5, 2.0, 3.0)


def run() -> dict[str, object]:
    """Plain DAAM, the page's reading, and the reading that did best on the prompts for choosing, on other prompts."""
    with tempfile.TemporaryDirectory() as data_dir:
        studio = open_studio(Settings(data_dir=Path(data_dir)))
        try:
            entry = studio.catalog.find("emoji", TXT2IMG)
            with studio.manager.use(entry.key()) as pipe:
                choosing = list(_cases(pipe, entry.guidance_scale, CHOOSING, seed=1))
                measured = list(_cases(pipe, entry.guidance_scale, MEASURED, seed=2))
        finally:
            studio.close()
    kept = [case for case in choosing if case is not None]
    readings = [Reading(maps, power) for maps in MAPS for power in POWERS]
    scores = {way: float(np.mean([iou for case in kept for iou in _ious(case, way)])) for way in readings}
    best = max(scores, key=lambda way: scores[way])
    cases = [case for case in measured if case is not None]
    return {
        "prompts": f"{MEASURED} held out of training, {len(cases)} with an object in both halves",
        "region": "known layout (left, right) and colour segmentation against the background",
        "daam": _figures(cases, None),
        "page": str(PAGE),
        "page_measured": _figures(cases, PAGE),
        "chosen": f"{best}, on {len(kept)} other prompts",
        "chosen_there": {str(way): round(score, 3) for way, score in _top(scores, 5)},
        "chosen_measured": _figures(cases, best),
        "by_chance": {"iou_of_the_half": round(float(np.mean([_half_iou(case) for case in cases])), 3)},
    }


def _cases(pipe: Any, guidance: float | None, count: int, seed: int) -> Iterator[Case | None]:
    concepts = load_concepts()
    rng = np.random.default_rng(seed)
    for number in range(count):
        scene = random_scene(rng, len(concepts), pair_share=1.0, held_out=True)
        prompt = describe(scene, concepts, "en", NOTHING)
        names = [concepts[placed.concept].names["en"][0] for placed in scene.objects]
        recorder = Recorder()
        request = GenerateRequest(prompt, seed=1000 * seed + number, steps=STEPS, guidance_scale=guidance)
        generate(pipe, request, recorder=recorder)
        (trace,) = recorder.traces
        regions = _regions(trace)
        small = any(region.mean() < LEAST_REGION for region in regions)
        yield None if small else Case(trace, _words(trace, names), regions)


def _words(trace: Trace, names: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the two names' words, looked for from the left; a name may be several words."""
    words, found, start = trace.header.words, [], 0
    for name in names:
        wanted = tuple(name.lower().replace("-", " ").split())
        start = next(i for i in range(start, len(words)) if words[i : i + len(wanted)] == wanted)
        found.append(tuple(range(start, start + len(wanted))))
        start += len(wanted)
    return found[0], found[1]


def _regions(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    assert trace.picture is not None
    picture = trace.picture.astype(np.float32)
    edge = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])
    distance = np.linalg.norm(picture - np.median(edge, axis=0), axis=2)
    left = np.arange(picture.shape[1]) < picture.shape[1] // 2
    first, second = (
        _filled((distance > max(LEAST_DISTANCE, _otsu(distance[:, half]))) & half) for half in (left, ~left)
    )
    return first, second


def _otsu(values: np.ndarray) -> float:
    """The threshold between two groups of values that parts them most (Otsu 1979)."""
    counts, edges = np.histogram(values, 64)
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    above = values.size - below
    apart = (sums[-1] * below / values.size - sums[:-1]) ** 2 / np.maximum(below * above, 1)
    return float(edges[1 + int(apart.argmax())])


def _filled(mask: np.ndarray) -> np.ndarray:
    """`mask` without its holes: whatever cannot be reached from outside."""
    picture = Image.fromarray(np.pad(mask, 1).astype(np.uint8)).copy()
    ImageDraw.floodfill(picture, (0, 0), 2)
    filled: np.ndarray = np.asarray(picture)[1:-1, 1:-1] != 2
    return filled


def _maps(case: Case, way: Reading | None) -> list[np.ndarray]:
    """The two objects' maps at the latents' size; a name of several words is their mean."""
    trace = case.trace
    if way == PAGE:
        every = competing_word_maps(trace)
    else:
        every = _read(trace, way)
    return [every[list(words)].mean(axis=0) for words in case.words]


def _read(trace: Trace, way: Reading | None) -> np.ndarray:
    rows = [trace.header.rows_of_word(word) for word in range(len(trace.header.words))]
    maps = np.stack([word_map(trace, own) for own in rows])
    if way is None:
        return maps
    levels = [
        np.stack([word_map(trace, own, levels=[level]) for own in rows]) for level in range(len(trace.header.levels))
    ]
    if way.maps == "finest":
        maps = levels[0]
    elif way.maps == "coarsest":
        maps = levels[-1]
    elif way.maps == PAGE.maps:
        maps = np.mean([competing(level, power=1) for level in levels], axis=0)
    elif way.maps == "geometric mean of resolutions":
        maps = np.exp(np.mean([np.log(np.maximum(level, 1e-9)) for level in levels], axis=0))
    return competing(maps, way.power)


def _shown(case: Case, way: Reading | None) -> list[np.ndarray]:
    """The two maps at the picture's size."""
    shapes = case.trace.header.shapes
    return [enlarged(found, shapes.height, shapes.width) for found in _maps(case, way)]


def _ious(case: Case, way: Reading | None) -> list[float]:
    pairs = zip(_shown(case, way), case.regions, strict=True)
    return [intersection_over_union(threshold_mask(found), region) for found, region in pairs]


def _half_iou(case: Case) -> float:
    """What a map that only knows left from right would reach."""
    left = np.broadcast_to(np.arange(case.regions[0].shape[1]) < case.regions[0].shape[1] // 2, case.regions[0].shape)
    halves = (left, ~left)
    return float(np.mean([intersection_over_union(h, r) for h, r in zip(halves, case.regions, strict=True)]))


def _figures(cases: Sequence[Case], way: Reading | None) -> dict[str, object]:
    ious = np.array([np.mean(_ious(case, way)) for case in cases])
    on_object, on_half, cell_on_object = [], [], []
    for case in cases:
        maps = _shown(case, way)
        places = [np.unravel_index(int(found.argmax()), found.shape) for found in maps]
        on_object.append([bool(region[place]) for region, place in zip(case.regions, places, strict=True)])
        cells = zip(case.regions, _maps(case, way), strict=True)
        cell_on_object.append([bool(_cell(region, found).any()) for region, found in cells])
        half = maps[0].shape[1] // 2
        on_half.append([bool((place[1] < half) == (side == 0)) for side, place in enumerate(places)])
    half_width = 1.96 * ious.std(ddof=1) / math.sqrt(len(ious))
    return {
        "mean_iou_at_0.4": round(float(ious.mean()), 3),
        "interval_95": [round(float(ious.mean() + sign * half_width), 3) for sign in (-1, 1)],
        "words_whose_peak_is_on_their_object": round(float(np.mean(on_object)), 3),
        "prompts_with_both_peaks_on_their_objects": round(float(np.mean(np.all(on_object, axis=1))), 3),
        "words_whose_peak_cell_holds_some_of_their_object": round(float(np.mean(cell_on_object)), 3),
        "words_whose_peak_is_in_their_half": round(float(np.mean(on_half)), 3),
    }


def _cell(region: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The part of the region that lies in the highest cell of a map at the latents' size."""
    side = region.shape[0] // found.shape[0]
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    return region[row * side : (row + 1) * side, column * side : (column + 1) * side]


def _top(scores: dict[Reading, float], count: int) -> list[tuple[Reading, float]]:
    return sorted(scores.items(), key=lambda pair: -pair[1])[:count]
