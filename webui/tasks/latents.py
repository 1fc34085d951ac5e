"""What a job on latents does, whoever asks: encode, decode, interpolate, add noise, record and resume.

`studio.jobs.submit(lambda context: encode(studio, request, context), owner=..., kind="latents")`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

import numpy as np

from webui.diffusion.interpolate import angle_between, lerp, shares, slerp
from webui.diffusion.latent_colours import LinearColours, cell_colours, fit_linear_colours
from webui.diffusion.picture_error import PictureError, compare_pictures
from webui.diffusion.picture_fit import FittedPicture, fit_to_limits, fit_to_size
from webui.diffusion.request import MAX_SEED, RANDOM_SEED, GenerateRequest, with_fixed_seed
from webui.diffusion.trace import Trace, open_trace
from webui.errors import UserError
from webui.runtime.catalog import TXT2IMG, CatalogEntry
from webui.runtime.jobs import JobCancelled, JobContext
from webui.studio import Studio
from webui.tasks.txt2img import prepare_plain_request
from webui.vision.pictures import MemoryGate, Note, PictureFile, PictureLimits, opened

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from webui.diffusion.denoise import RecordedRun

T = TypeVar("T")

MIN_FRAMES: Final = 2
MAX_FRAMES: Final = 24
_BYTES_PER_PIXEL: Final = 4 * 256 * 4  # as txt2img's decoder; encoding takes less
_CHANNELS: Final = 4
_PHASE: Final = "phase.latents"


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """A picture for a model's VAE, and perhaps a second one, which is made the same size.

    `keep_size` leaves the picture at its own size, cut to a multiple of the VAE's factor and shrunk into the limits;
    else it is scaled and cut to the size that the model was trained at.
    """

    picture: PictureFile
    model: str = "emoji"
    other: PictureFile | None = None
    keep_size: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DecodeRequest:
    """A latent (4, H/8, W/8) float32, scaled as the U-Net gets it, for a model's VAE."""

    latent: np.ndarray
    model: str = "emoji"


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPicture:
    """One picture in both forms, and what was lost on the way there and back.

    `fitted.image` is what was encoded and `notes` what was done to the file before. `latent` is (4, H/8, W/8) float32,
    `decoded` (H, W, 3) uint8. `colours` is fitted to this very latent; `chart_r_squared` and `chart_explains` say of
    the map that previews use what it explains on its colour chart and here.
    """

    name: str
    model: str
    fitted: FittedPicture
    notes: tuple[Note, ...]
    latent: np.ndarray
    decoded: np.ndarray
    error: PictureError
    colours: LinearColours
    chart_r_squared: float
    chart_explains: float
    alphas_cumprod: np.ndarray
    other_name: str = ""
    other: np.ndarray | None = None

    @property
    def original(self) -> np.ndarray:
        """The picture that was encoded, (H, W, 3) uint8."""
        return np.asarray(self.fitted.image)

    @property
    def factor(self) -> int:
        """Pixels along the side of one latent cell."""
        return self.fitted.image.height // int(self.latent.shape[1])


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


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """What the model takes for x_0 behind x_t: both decoded, (H, W, 3) uint8, and how far the guess is from x_0.

    `mean_squared_error` is per latent value.
    """

    noisy: np.ndarray
    picture: np.ndarray
    mean_squared_error: float


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A run that can be resumed, and the linear map that shows its latents.

    `rounded` says that it comes from a trace, whose predictions are kept in 16 bits.
    """

    run: RecordedRun
    colours: LinearColours
    rounded: bool = False


def encode(studio: Studio, request: EncodeRequest, context: JobContext) -> EncodedPicture:
    """Encode, decode and compare. Raises UserError for a picture that cannot be read and a model there is not."""
    entry = studio.catalog.find(request.model, TXT2IMG)
    fitted, notes = _read(studio, request.picture, lambda image: _fit(studio, entry, request, image))
    width, height = fitted.image.size
    second = None
    if request.other is not None:
        second, _ = _read(studio, request.other, lambda image: fit_to_size(image, width, height))

    def work(pipe: StableDiffusionPipeline) -> EncodedPicture:
        from webui.diffusion.denoise import alphas_cumprod
        from webui.diffusion.vae_codec import decode_latent, encode_picture

        latent = encode_picture(pipe, fitted.image)
        context.check()
        context.progress(1, 2, _PHASE)
        decoded = decode_latent(pipe, latent)
        means = cell_colours(np.asarray(fitted.image), *latent.shape[1:])
        chart = studio.previews.of(entry.key(), pipe)
        return EncodedPicture(
            name=request.picture.name,
            model=entry.id,
            fitted=fitted,
            notes=notes,
            latent=latent,
            decoded=decoded,
            error=compare_pictures(np.asarray(fitted.image), decoded),
            colours=fit_linear_colours(latent, means),
            chart_r_squared=chart.r_squared,
            chart_explains=LinearColours(chart.factors, chart.r_squared).explained(latent, means),
            alphas_cumprod=alphas_cumprod(pipe),
            other_name=request.other.name if request.other is not None else "",
            other=encode_picture(pipe, second.image) if second is not None else None,
        )

    return _with_pipe(studio, entry, width * height, work, context)


def check_encode(studio: Studio, request: EncodeRequest) -> None:
    """What can be checked before a model is loaded. Raises UserError."""
    studio.catalog.find(request.model, TXT2IMG)
    request.picture.read(_picture_limits(studio))


def check_decode(studio: Studio, request: DecodeRequest) -> None:
    """What can be checked before a model is loaded. Raises UserError."""
    entry = studio.catalog.find(request.model, TXT2IMG)
    latent, limit = request.latent, studio.settings.limits.max_side // entry.size_multiple
    if latent.ndim != 3 or latent.shape[0] != _CHANNELS or max(latent.shape[1:]) > limit:
        raise UserError("error.latent_shape", shape=" × ".join(map(str, latent.shape)), limit=limit)
    if not np.isfinite(latent).all():
        raise UserError("error.latent_not_finite")


def decode(studio: Studio, model: str, latent: np.ndarray, context: JobContext) -> np.ndarray:
    """The picture (H, W, 3) uint8 of an edited latent (4, H/8, W/8)."""
    entry = studio.catalog.find(model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> np.ndarray:
        from webui.diffusion.vae_codec import decode_latent

        return decode_latent(pipe, latent)

    return _with_pipe(studio, entry, _pixels(entry, latent), work, context)


def interpolate_latents(
    studio: Studio, model: str, start: np.ndarray, end: np.ndarray, frames: int, context: JobContext
) -> Interpolation:
    """Decode `frames` latents along the arc and as many along the line; the two ends are decoded once."""
    _check_frames(frames)
    entry = studio.catalog.find(model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Interpolation:
        from webui.diffusion.vae_codec import decode_latent

        return _between(start, end, frames, lambda latent: decode_latent(pipe, latent), context)

    return _with_pipe(studio, entry, _pixels(entry, start), work, context)


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

    return _with_pipe(studio, entry, cast(int, request.width) * cast(int, request.height), work, context)


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
        _with_pipe(studio, entry, cast(int, stops[0].width) * cast(int, stops[0].height), work, context)
    except JobCancelled:
        return False
    return True


def guess_x0(
    studio: Studio, request: GenerateRequest, x0: np.ndarray, sample: np.ndarray, timestep: int, context: JobContext
) -> Guess:
    """Ask the model of `request` (its prompt and guidance) once for what lies behind the noise."""
    request = prepare_plain_request(studio, request)
    entry = studio.catalog.find(request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Guess:
        from webui.diffusion.denoise import one_step_guess
        from webui.diffusion.vae_codec import decode_latent

        guessed = one_step_guess(pipe, sample, timestep, request.prompt, cast(float, request.guidance_scale))
        context.check()
        context.progress(1, 2, _PHASE)
        error = float(((guessed - x0) ** 2).mean())
        return Guess(decode_latent(pipe, sample), decode_latent(pipe, guessed), error)

    return _with_pipe(studio, entry, _pixels(entry, x0), work, context)


def record(studio: Studio, request: GenerateRequest, context: JobContext) -> Recording:
    """Draw one picture and keep what resuming needs."""
    request = prepare_plain_request(studio, with_fixed_seed(replace(request, batch_size=1, batch_count=1)))
    entry = studio.catalog.find(request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Recording:
        from webui.diffusion.denoise import record_run

        chart = studio.previews.of(entry.key(), pipe)
        run = record_run(pipe, request, _listener(context), studio.samplers)
        return Recording(run, LinearColours(chart.factors, chart.r_squared))

    return _with_pipe(studio, entry, cast(int, request.width) * cast(int, request.height), work, context)


def open_recording(studio: Studio, path: Path, context: JobContext) -> Recording:
    """A trace file as a run that can be resumed, with the model that it names. Raises UserError for what it is not."""
    return recording_of_trace(studio, open_trace(path), context)


def recording_of_trace(studio: Studio, trace: Trace, context: JobContext) -> Recording:
    """A trace as a run that can be resumed, by the model that it names. Raises UserError for a run that was stopped."""
    entry = studio.catalog.find(trace.header.request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> Recording:
        from webui.diffusion.denoise import run_from_trace

        chart = studio.previews.of(entry.key(), pipe)
        run = run_from_trace(pipe, trace, studio.samplers)
        return Recording(run, LinearColours(chart.factors, chart.r_squared), rounded=True)

    return _with_pipe(studio, entry, 0, work, context)


def resume(
    studio: Studio, recording: Recording, call: int, sample: np.ndarray | None, context: JobContext
) -> np.ndarray:
    """The picture (H, W, 3) uint8 that comes of going on from U-Net call `call` with `sample`, or as it was (None)."""
    entry = studio.catalog.find(recording.run.request.model, TXT2IMG)

    def work(pipe: StableDiffusionPipeline) -> np.ndarray:
        from webui.diffusion.denoise import resume_run

        return resume_run(pipe, recording.run, call, sample, _listener(context), studio.samplers)

    return _with_pipe(studio, entry, recording.run.picture[..., 0].size, work, context)


def request_to_draw(
    studio: Studio, prompt: str, model: str, seed: int | None, sampler: str, steps: int
) -> GenerateRequest:
    """The checked request of the page's small forms. Raises UserError."""
    asked = GenerateRequest(
        prompt, model=model, seed=RANDOM_SEED if seed is None else seed, sampler=sampler, steps=steps
    )
    return prepare_plain_request(studio, asked)


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
            context.progress(min(len(ways) * (frames - 2) + len(pictures), total), total, _PHASE)
        ways.append(tuple(pictures))
        norms.append(tuple(float(np.linalg.norm(way(start, end, share))) for share in steps))
    return Interpolation(steps, ways[0], ways[1], norms[0], norms[1], angle_between(start, end))


def _listener(context: JobContext) -> Callable[[int, int], None]:
    def hear(done: int, total: int) -> None:
        context.check()
        context.progress(done, total, "phase.denoising")

    return hear


def _part_listener(context: JobContext, part: int, parts: int) -> Callable[[int, int], None]:
    def hear(done: int, total: int) -> None:
        context.check()
        context.progress(part * total + done, parts * total, "phase.denoising")

    return hear


def _check_frames(frames: int) -> None:
    if not MIN_FRAMES <= frames <= MAX_FRAMES:
        raise UserError("error.frames_out_of_range", value=frames, low=MIN_FRAMES, high=MAX_FRAMES)


def _fit(studio: Studio, entry: CatalogEntry, request: EncodeRequest, image: object) -> FittedPicture:
    from PIL import Image

    picture = cast(Image.Image, image)
    if request.keep_size:
        return fit_to_limits(picture, entry.size_multiple, studio.settings.limits)
    return fit_to_size(picture, entry.default_width, entry.default_height)


def _read(
    studio: Studio, picture: PictureFile, fit: Callable[..., FittedPicture]
) -> tuple[FittedPicture, tuple[Note, ...]]:
    """The picture, upright, on white and in 8 bits, made to fit."""
    limits = _picture_limits(studio)
    with opened(picture.name, picture.read(limits), limits, MemoryGate()) as found:
        return fit(found.image), found.notes


def _picture_limits(studio: Studio) -> PictureLimits:
    return PictureLimits(studio.settings.max_upload_mb << 20, studio.settings.score_limits.max_picture_pixels)


def _pixels(entry: CatalogEntry, latent: np.ndarray) -> int:
    return int(latent.shape[1] * latent.shape[2]) * entry.size_multiple**2


def _with_pipe(
    studio: Studio, entry: CatalogEntry, pixels: int, work: Callable[[StableDiffusionPipeline], T], context: JobContext
) -> T:
    if entry.kind.training != "noise":
        keys = {"flow": "error.latents_not_for_flow", "consistency": "error.latents_not_for_consistency"}
        raise UserError(keys[entry.kind.training], model=entry.title)
    return studio.manager.run(
        entry.key(),
        work,
        working_memory=pixels * _BYTES_PER_PIXEL,
        cancel=context.cancelled,
        on_progress=context.progress,
    )
