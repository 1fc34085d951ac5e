"""What can be asked of txt2img, and the checks that every door (page, REST, command line) shares.

Nothing here imports torch: the page builds requests before any model library is loaded.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass, replace

from webui.errors import UserError

MAX_SEED = 2**32 - 1
RANDOM_SEED = -1


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One press of "Generate": `batch_count` runs of `batch_size` pictures each.

    `width` and `height` are pixels; None stands for the model's own size. `seed` is 0..2**32-1, or -1 for a new one;
    picture i of the whole request is drawn from seed + i, as A1111 does. `guidance_scale` <= 1 turns classifier-free
    guidance off (Ho & Salimans 2022); None stands for the model's own.

    `translate` asks the task for a Thai or mixed prompt in English before anything is drawn (`tasks.translate`);
    `original_prompt` is what was written before it was translated. Neither changes what an instrument draws.

    `loras` are tags such as "<lora:name:0.8>", which the task takes out of the prompt and puts on the pipeline. `vae`
    is the name of a VAE's file, "" for the model's own.
    """

    prompt: str
    negative_prompt: str = ""
    model: str = "emoji"
    sampler: str = "DPM++ 2M Karras"
    steps: int = 20
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    seed: int = RANDOM_SEED
    batch_size: int = 1
    batch_count: int = 1
    translate: bool = False
    original_prompt: str = ""
    loras: str = ""
    vae: str = ""


@dataclass(frozen=True, slots=True)
class GenerateLimits:
    """The largest request that is accepted; remote mode lowers some of these."""

    max_steps: int = 150
    max_side: int = 2048
    max_pixels: int = 1024 * 1024
    max_batch_size: int = 8
    max_batch_count: int = 16
    max_guidance_scale: float = 30.0
    max_prompt_characters: int = 4000


def check_request(request: GenerateRequest, limits: GenerateLimits) -> None:
    """Raise UserError for the first thing in `request` that no model could do; what a model adds is checked later.

    The size's multiple depends on the VAE, so `check_size` does that once the model is known.
    """
    for text in (request.prompt, request.negative_prompt, request.original_prompt, request.loras, request.vae):
        check_text(text, limits.max_prompt_characters)
    _check_range("error.steps_out_of_range", request.steps, 1, limits.max_steps)
    _check_range("error.batch_size_out_of_range", request.batch_size, 1, limits.max_batch_size)
    _check_range("error.batch_count_out_of_range", request.batch_count, 1, limits.max_batch_count)
    if request.seed != RANDOM_SEED:
        _check_range("error.seed_out_of_range", request.seed, 0, MAX_SEED)
    guidance_scale = request.guidance_scale
    if guidance_scale is not None and not 0.0 <= guidance_scale <= limits.max_guidance_scale:  # NaN is not either
        raise UserError("error.guidance_scale_out_of_range", value=guidance_scale, high=limits.max_guidance_scale)


def check_size(width: int, height: int, multiple: int, limits: GenerateLimits) -> None:
    """Raise UserError unless both sides are multiples of `multiple` (the VAE's factor) within `limits`."""
    for side in (width, height):
        if side < multiple or side > limits.max_side or side % multiple:
            nearest = min(max(round(side / multiple) * multiple, multiple), limits.max_side // multiple * multiple)
            raise UserError(
                "error.size_not_possible", value=side, multiple=multiple, high=limits.max_side, nearest=nearest
            )
    if width * height > limits.max_pixels:
        raise UserError("error.too_many_pixels", width=width, height=height, limit=limits.max_pixels)


def with_fixed_seed(request: GenerateRequest) -> GenerateRequest:
    """The request with a seed of its own if it asked for a new one, leaving room for one seed a picture."""
    if request.seed != RANDOM_SEED:
        return request
    pictures = request.batch_size * request.batch_count
    return replace(request, seed=secrets.randbelow(MAX_SEED - pictures))


def picture_seeds(request: GenerateRequest) -> tuple[int, ...]:
    """The seed of each picture, in order: seed + i, starting again at 0 past the largest."""
    return tuple((request.seed + i) % (MAX_SEED + 1) for i in range(request.batch_size * request.batch_count))


def check_text(text: str, max_characters: int) -> None:
    """Raise UserError for a prompt that is too long or holds a control character."""
    if len(text) > max_characters:
        raise UserError("error.prompt_too_long", length=len(text), limit=max_characters)
    for position, character in enumerate(text, start=1):
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t":
            raise UserError("error.control_character", code=f"U+{ord(character):04X}", position=position)


def _check_range(key: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(key, value=value, low=low, high=high)
