"""How well word maps find their objects: held-out prompts of two objects, mean IoU and peaks.

The right answer is not drawn by anybody, so it is taken from the picture: the first named object belongs in the left
half and the second in the right (the known layout), and within its half an object is what differs from the background
(the median colour of the picture's edge) by more than a fixed distance (colour segmentation). A picture in which a half
holds no object is counted and left out. How maps are summed is chosen on prompts of their own, not the measured ones.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.recipes.captions import NOTHING, describe
from models.recipes.concepts import load_concepts
from models.recipes.scenes import random_scene
from webui.diffusion.generate import generate
from webui.diffusion.recorder import Recorder
from webui.diffusion.request import GenerateRequest
from webui.diffusion.trace import Trace
from webui.diffusion.wordmaps import enlarged, intersection_over_union, threshold_mask, word_map
from webui.runtime.catalog import TXT2IMG
from webui.settings import Settings
from webui.studio import open_studio

CHOOSING, MEASURED = 16, 68
STEPS = 10
COLOUR_DISTANCE = 60.0
LEAST_REGION = 0.01


@dataclass(frozen=True)
class Case:
    """One drawn prompt: its trace, and for each of the two objects the rows of its name and its region."""

    trace: Trace
    rows: tuple[tuple[int, ...], tuple[int, ...]]
    regions: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Summing:
    """A way to sum: which layers, which part of the run, and whether words compete for each place."""

    layers: str
    part: str
    competing: bool

    def __str__(self) -> str:
        return f"layers {self.layers}, {self.part} of the run{', words compete' if self.competing else ''}"


def run() -> dict[str, object]:
    """Plain DAAM, and the way of summing that did best on the prompts for choosing, both on the measured prompts."""
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
    scores = {way: float(np.mean([iou for case in kept for iou in _ious(case, way)])) for way in _ways(kept[0].trace)}
    best = max(scores, key=lambda way: scores[way])
    cases = [case for case in measured if case is not None]
    return {
        "prompts": f"{MEASURED} held out of training, {len(cases)} with an object in both halves",
        "region": "known layout (left, right) and colour segmentation against the background",
        "daam": _figures(cases, None),
        "chosen": str(best),
        "chosen_on_other_prompts": {str(way): round(score, 3) for way, score in _top(scores, 5)},
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
        recorder = Recorder(all_heads=True)
        request = GenerateRequest(prompt, seed=1000 * seed + number, steps=STEPS, guidance_scale=guidance)
        generate(pipe, request, recorder=recorder)
        (trace,) = recorder.traces
        regions = _regions(trace)
        small = any(region.mean() < LEAST_REGION for region in regions)
        yield None if small else Case(trace, _rows(trace, names), regions)


def _rows(trace: Trace, names: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rows of the two names, looked for from the left; a name may be several words."""
    words, found, start = trace.header.words, [], 0
    for name in names:
        wanted = tuple(name.lower().replace("-", " ").split())
        start = next(i for i in range(start, len(words)) if words[i : i + len(wanted)] == wanted)
        found.append(tuple(r for w in range(start, start + len(wanted)) for r in trace.header.rows_of_word(w)))
        start += len(wanted)
    return found[0], found[1]


def _regions(trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    assert trace.picture is not None
    picture = trace.picture.astype(np.float32)
    edge = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])
    apart = np.linalg.norm(picture - np.median(edge, axis=0), axis=2) > COLOUR_DISTANCE
    left = np.arange(picture.shape[1]) < picture.shape[1] // 2
    return apart & left, apart & ~left


def _ways(trace: Trace) -> list[Summing]:
    single = [str(layer) for layer in range(len(trace.header.layers))]
    layers = ["all", *(f"{level.height}x{level.width}" for level in trace.header.levels), *single]
    parts = ("whole", "first half", "second half", "last quarter")
    return [Summing(layer, part, competing) for layer in layers for part in parts for competing in (False, True)]


def _maps(case: Case, way: Summing | None) -> list[np.ndarray]:
    """The two words' maps at the picture's size."""
    trace = case.trace
    height, width = trace.header.shapes.height, trace.header.shapes.width
    if way is None:
        return [enlarged(word_map(trace, rows), height, width) for rows in case.rows]
    calls = len(trace.header.steps)
    span = {
        "whole": range(calls),
        "first half": range(calls // 2),
        "second half": range(calls // 2, calls),
        "last quarter": range(calls - calls // 4, calls),
    }[way.part]
    chosen = [
        index
        for index, layer in enumerate(trace.header.layers)
        if way.layers in ("all", f"{layer.height}x{layer.width}", str(index))
    ]
    stacks = [np.mean([trace.head_map(call, layer).mean(axis=0) for call in span], axis=0) for layer in chosen]
    if way.competing:
        own = [row for row, token in enumerate(trace.header.tokens) if token.word is not None]
        stacks = [stack / np.maximum(stack[own].sum(axis=0), 1e-9) for stack in stacks]
    return [
        np.mean([enlarged(stack[list(rows)].mean(axis=0), height, width) for stack in stacks], axis=0)
        for rows in case.rows
    ]


def _ious(case: Case, way: Summing | None) -> list[float]:
    pairs = zip(_maps(case, way), case.regions, strict=True)
    return [intersection_over_union(threshold_mask(found), region) for found, region in pairs]


def _half_iou(case: Case) -> float:
    """What a map that only knows left from right would reach."""
    left = np.broadcast_to(np.arange(case.regions[0].shape[1]) < case.regions[0].shape[1] // 2, case.regions[0].shape)
    halves = (left, ~left)
    return float(np.mean([intersection_over_union(h, r) for h, r in zip(halves, case.regions, strict=True)]))


def _figures(cases: Sequence[Case], way: Summing | None) -> dict[str, object]:
    ious = np.array([np.mean(_ious(case, way)) for case in cases])
    on_object, on_half = [], []
    for case in cases:
        maps = _maps(case, way)
        places = [np.unravel_index(int(found.argmax()), found.shape) for found in maps]
        on_object.append([bool(region[place]) for region, place in zip(case.regions, places, strict=True)])
        half = maps[0].shape[1] // 2
        on_half.append([bool((place[1] < half) == (side == 0)) for side, place in enumerate(places)])
    half_width = 1.96 * ious.std(ddof=1) / math.sqrt(len(ious))
    return {
        "mean_iou_at_0.4": round(float(ious.mean()), 3),
        "interval_95": [round(float(ious.mean() + sign * half_width), 3) for sign in (-1, 1)],
        "words_whose_peak_is_on_their_object": round(float(np.mean(on_object)), 3),
        "prompts_with_both_peaks_on_their_objects": round(float(np.mean(np.all(on_object, axis=1))), 3),
        "words_whose_peak_is_in_their_half": round(float(np.mean(on_half)), 3),
    }


def _top(scores: dict[Summing, float], count: int) -> list[tuple[Summing, float]]:
    return sorted(scores.items(), key=lambda pair: -pair[1])[:count]
