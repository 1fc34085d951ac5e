"""What a job on latents does, whoever asks: encode, decode, guess what lies behind noise.

`studio.jobs.submit(lambda context: encode(studio, request, context), owner=..., kind="latents")`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, cast

import numpy as np

from webui.diffusion.latent_colours import LinearColours, cell_colours, fit_linear_colours
from webui.diffusion.picture_error import PictureError, compare_pictures
from webui.diffusion.picture_fit import FittedPicture, fit_to_limits, fit_to_size
from webui.diffusion.request import RANDOM_SEED, GenerateRequest
from webui.errors import UserError
from webui.runtime.entries import TXT2IMG, CatalogEntry
from webui.runtime.jobs import JobContext
from webui.studio import Studio
from webui.tasks.txt2img import prepare_plain_request
from webui.vision.pictures import MemoryGate, Note, PictureFile, PictureLimits, opened

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

T = TypeVar("T")

_BYTES_PER_PIXEL: Final = 4 * 256 * 4  # as txt2img's decoder; encoding takes less
_CHANNELS: Final = 4
PHASE: Final = "phase.latents"
"""What a job on latents says that it is doing."""


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
class Guess:
    """What the model takes for x_0 behind x_t: both decoded, (H, W, 3) uint8, and how far the guess is from x_0.

    `mean_squared_error` is per latent value.
    """

    noisy: np.ndarray
    picture: np.ndarray
    mean_squared_error: float


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
        context.progress(1, 2, PHASE)
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

    return with_noise_model(studio, entry, width * height, work, context)


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

    return with_noise_model(studio, entry, pixels_of(entry, latent), work, context)


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
        context.progress(1, 2, PHASE)
        error = float(((guessed - x0) ** 2).mean())
        return Guess(decode_latent(pipe, sample), decode_latent(pipe, guessed), error)

    return with_noise_model(studio, entry, pixels_of(entry, x0), work, context)


def request_to_draw(
    studio: Studio, prompt: str, model: str, seed: int | None, sampler: str, steps: int
) -> GenerateRequest:
    """The checked request of the page's small forms. Raises UserError."""
    asked = GenerateRequest(
        prompt, model=model, seed=RANDOM_SEED if seed is None else seed, sampler=sampler, steps=steps
    )
    return prepare_plain_request(studio, asked)


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


def pixels_of(entry: CatalogEntry, latent: np.ndarray) -> int:
    """How many pixels the picture of a latent (C, h, w) has."""
    return int(latent.shape[1] * latent.shape[2]) * entry.size_multiple**2


def with_noise_model(
    studio: Studio, entry: CatalogEntry, pixels: int, work: Callable[[StableDiffusionPipeline], T], context: JobContext
) -> T:
    """Do `work` with the loaded model, with memory for a picture of so many pixels.

    Raises UserError for a model that was not trained on the noise schedule that these tools compute with.
    """
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
