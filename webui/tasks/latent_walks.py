"""Pictures on the way from one latent to another, along the arc and along the line, and walks between prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from webui.diffusion.interpolate import angle_between, lerp, shares, slerp
from webui.diffusion.request import MAX_SEED, GenerateRequest
from webui.errors import UserError
from webui.runtime.entries import TXT2IMG
from webui.runtime.jobs import JobCancelled, JobContext
from webui.studio import Studio
from webui.tasks.latents import PHASE, pixels_of, with_noise_model
from webui.tasks.txt2img import prepare_plain_request

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

MIN_FRAMES: Final = 2
MAX_FRAMES: Final = 24


@dataclass(frozen=True, slots=True, eq=False)
class Interpolation:
    """The pictures on the way from one latent to another, both ways, (H, W, 3) uint8 each.

    `angle` is the one between the two, in radians; the norms are those of the latents that were decoded or drawn from.
    """

    shares: tuple[float, ...]
    slerp: tuple[np.ndarray, ...]
    lerp: tuple[np.ndarray, ...]
    slerp_norms: tuple[float, ...]
    lerp_norms: tuple[float, ...]
    angle: float


def interpolate_latents(
    studio: Studio, model: str, start: np.ndarray, end: np.ndarray, frames: int, context: JobContext
) -> Interpolation:
    """Decode `frames` latents along the arc and as many along the line; the two ends are decoded once."""
    _check_frames(frames)
    entry = studio.catalog.find(model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Interpolation:
        from webui.diffusion.vae_codec import decode_latent

        return _between(start, end, frames, lambda latent: decode_latent(pipe, latent), context)

    return with_noise_model(studio, entry, pixels_of(entry, start), work, context)


def interpolate_seeds(
    studio: Studio, request: GenerateRequest, other_seed: int, frames: int, context: JobContext
) -> Interpolation:
    """Draw the same prompt from the noises between the request's seed and another."""
    _check_frames(frames)
    if not 0 <= other_seed <= MAX_SEED:
        raise UserError("error.seed_out_of_range", value=other_seed, low=0, high=MAX_SEED)
    request = prepare_plain_request(studio, request)
    entry = studio.catalog.find(request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Interpolation:
        from webui.diffusion.denoise import draw_from_noise, initial_noise

        start, end = initial_noise(pipe, request), initial_noise(pipe, replace(request, seed=other_seed))

        def draw(noise: np.ndarray) -> np.ndarray:
            return draw_from_noise(pipe, request, noise, lambda _done, _total: context.check(), studio.samplers)

        return _between(start, end, frames, draw, context)

    return with_noise_model(studio, entry, cast(int, request.width) * cast(int, request.height), work, context)


def walk(
    studio: Studio,
    stops: Sequence[GenerateRequest],
    frames: int,
    context: JobContext,
    on_frame: Callable[[np.ndarray], None],
) -> bool:
    """Draw `frames` pictures (H, W, 3) uint8 evenly along the way from stop to stop, both ends included.

    `on_frame` hears of each as it is drawn. Of everything but prompts and seeds, the first stop decides. Returns
    whether all were drawn: a cancel ends the walk within one U-Net call and leaves the frames so far. Raises UserError.
    """
    stops = [prepare_plain_request(studio, stop) for stop in stops]
    entry = studio.catalog.find(stops[0].model, TXT2IMG)
    places = [share * (len(stops) - 1) for share in shares(frames)]
    drawn = 0

    def work(pipe: StableDiffusionPipeline) -> None:
        from webui.diffusion.denoise import draw_between

        nonlocal drawn
        for number in range(drawn, frames):  # one that ran out of memory goes on where it was
            leg = min(int(places[number]), len(stops) - 2)
            start = replace(stops[0], prompt=stops[leg].prompt, seed=stops[leg].seed)
            end = replace(stops[0], prompt=stops[leg + 1].prompt, seed=stops[leg + 1].seed)
            hear = _part_listener(context, number, frames)
            on_frame(draw_between(pipe, start, end, places[number] - leg, hear, studio.samplers))
            drawn = number + 1

    try:
        with_noise_model(studio, entry, cast(int, stops[0].width) * cast(int, stops[0].height), work, context)
    except JobCancelled:
        return False
    return True


def _between(
    start: np.ndarray,
    end: np.ndarray,
    frames: int,
    show: Callable[[np.ndarray], np.ndarray],
    context: JobContext,
) -> Interpolation:
    steps = shares(frames)
    ways: list[tuple[np.ndarray, ...]] = []
    norms: list[tuple[float, ...]] = []
    total = 2 * frames - 2
    shown: dict[float, np.ndarray] = {}
    for way in (slerp, lerp):
        pictures = []
        for share in steps:
            context.check()
            if share in (0, 1):  # both ways share their ends
                if share not in shown:
                    shown[share] = show(way(start, end, share))
                pictures.append(shown[share])
            else:
                pictures.append(show(way(start, end, share)))
            context.progress(min(len(ways) * (frames - 2) + len(pictures), total), total, PHASE)
        ways.append(tuple(pictures))
        norms.append(tuple(float(np.linalg.norm(way(start, end, share))) for share in steps))
    return Interpolation(steps, ways[0], ways[1], norms[0], norms[1], angle_between(start, end))


def _part_listener(context: JobContext, part: int, parts: int) -> Callable[[int, int], None]:
    def hear(done: int, total: int) -> None:
        context.check()
        context.progress(part * total + done, parts * total, "phase.denoising")

    return hear


def _check_frames(frames: int) -> None:
    if not MIN_FRAMES <= frames <= MAX_FRAMES:
        raise UserError("error.frames_out_of_range", value=frames, low=MIN_FRAMES, high=MAX_FRAMES)
