"""What is walked: stops that are written one a line, and the frames of the way."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from webui.extensions.api import (
    ANIMATION_FORMATS,
    ExtensionAPI,
    GenerateRequest,
    JobContext,
    Words,
    animate,
    element,
    text,
)

MIN_FRAMES = 3
MAX_FRAMES = 60
STRIP = 8
FRAME_MS = 120


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """The stops and the frames (H, W, 3) uint8 that are drawn so far; `animation` is a data URL once it has ended."""

    stops: tuple[GenerateRequest, ...]
    wanted: int
    frames: tuple[np.ndarray, ...] = ()
    animation: str = ""
    ending: str = "webp"


def plan(api: ExtensionAPI, prompts: str, seeds: str, base: GenerateRequest, frames: int) -> Walk:
    """The checked stops: one a line of `prompts`, with the seeds in turn; a stop more where there are more seeds.

    Raises UserError.
    """
    texts = [line.strip() for line in prompts.splitlines() if line.strip()]
    numbers = [_seed(api, word) for word in seeds.replace(",", " ").split()]
    limits = api.limits
    most = min(MAX_FRAMES, limits.max_batch_size * limits.max_batch_count)
    if not MIN_FRAMES <= frames <= most:
        raise api.error("frames", value=frames, low=MIN_FRAMES, high=most)
    if not texts or not numbers or max(len(texts), len(numbers)) < 2:
        raise api.error("two_stops")
    if max(len(texts), len(numbers)) > frames:
        raise api.error("more_stops", stops=max(len(texts), len(numbers)), frames=frames)
    count = max(len(texts), len(numbers))
    stops = [
        api.check(replace(base, prompt=texts[min(i, len(texts) - 1)], seed=numbers[i % len(numbers)]))
        for i in range(count)
    ]
    return Walk(tuple(stops), frames)


def take(api: ExtensionAPI, walk: Walk, ending: str, context: JobContext, newest: list[Walk]) -> Walk:
    """In a job: draw the frames, keeping the walk so far in `newest`, then the animation of what there is."""

    def keep(frame: np.ndarray) -> None:
        newest[0] = replace(newest[0], frames=(*newest[0].frames, frame))

    api.walk(walk.stops, walk.wanted, context, keep)
    newest[0] = finished(newest[0], ending)
    return newest[0]


def finished(walk: Walk, ending: str) -> Walk:
    """The walk with the animation of the frames that there are, there and back."""
    if not walk.frames:
        return walk
    file = animate(walk.frames, ending, FRAME_MS)
    url = f"data:{ANIMATION_FORMATS[ending]};base64," + base64.b64encode(file).decode()
    return replace(walk, animation=url, ending=ending)


def render_walk(walk: Walk | None, words: Words) -> str:
    """The animation, or the newest frame while it is drawn, and some of the frames beside each other."""
    if walk is None:
        return element("p", text(words.text("empty")), class_="stage-hint")
    note = words.text("drawn", done=len(walk.frames), wanted=walk.wanted)
    if not walk.frames:
        return element("p", text(note))
    way = " → ".join(f"{stop.prompt} ({stop.seed})" for stop in walk.stops)
    source = walk.animation or _png(walk.frames[-1])
    picture = element("img", src=source, alt=words.text("alt", way=way), style="max-width:100%;min-width:16rem")
    save = element("a", text(words.text("save")), href=walk.animation, download=f"walk.{walk.ending}")
    chosen = _spread(walk.frames)
    strip = [
        element("img", src=_png(frame), alt=words.text("frame", number=number + 1), style="width:5rem;margin:0")
        for number, frame in chosen
    ]
    return element(
        "section",
        picture,
        element("p", text(note), *([" · ", save] if walk.animation else [])),
        element("div", *strip, style="display:flex;flex-wrap:wrap;gap:0.4rem"),
        element("p", text(way), dir="auto", class_="check-note"),
    )


def _spread(frames: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
    """At most STRIP of the frames, evenly, with the first and the last."""
    count = min(STRIP, len(frames))
    numbers = [round(i * (len(frames) - 1) / max(count - 1, 1)) for i in range(count)]
    return [(number, frames[number]) for number in numbers]


def _png(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _seed(api: ExtensionAPI, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise api.error("bad_seed", value=word[:50]) from None
