"""Generation parameters as A1111 writes them into its pictures ("infotext"), written and read.

Format: AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py and modules/processing.py (create_infotext):
the prompt, a line "Negative prompt: ...", and a last line "Steps: 20, Sampler: Euler a, ...". Values with a comma, a
colon or a line break stand as JSON strings there.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from PIL import Image, UnidentifiedImageError

import webui
from webui.diffusion.lora_tags import with_tags
from webui.diffusion.request import GenerateLimits, GenerateRequest, check_request, check_size
from webui.diffusion.samplers import SHIPPED_SAMPLERS, Samplers
from webui.errors import UserError

PNG_KEY: Final = "parameters"
"""The PNG text chunk in which A1111 and its kin keep the infotext."""

MAX_INFOTEXT_CHARACTERS: Final = 64 * 1024

_NEGATIVE: Final = "Negative prompt:"
_EXACT_PROMPT: Final = "Exact prompt"
_EXACT_NEGATIVE: Final = "Exact negative prompt"
_ORIGINAL: Final = "Original prompt"
"""What was written before it was translated; the first line, which other tools draw from, is the translation."""

# A1111's re_param_code with the repetition made unambiguous, so that hostile text cannot make it slow.
_FIELD: Final = re.compile(r'\s*(\w[\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
_INVERSIONS: Final = "TI hashes"
_NAMED_HASH: Final = re.compile(r"([^:,]+): ([0-9a-f]{8,64})(?:, |$)")
_VAE_ENDING: Final = ".safetensors"
_MIN_FIELDS: Final = 3
_SAMPLER: Final = ("Sampler", "Schedule type")
_MAX_MODEL_NAME: Final = 200
_NUMBERS: Final[Mapping[str, tuple[str, Callable[[str], int | float]]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
}
_FOREIGN_KEYS: Final[Mapping[str, str]] = {
    "workflow": "ComfyUI",
    "prompt": "ComfyUI",
    "invokeai_metadata": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "Dream": "InvokeAI",
    "fooocus_scheme": "Fooocus",
    "Comment": "NovelAI",
}


@dataclass(frozen=True, slots=True)
class Infotext:
    """What was found: `values` are fields of GenerateRequest, `ignored` says of each other field why it was left out.

    Each entry of `ignored` is a UserError whose message names the field: "infotext.unknown_field" or the check that
    the value failed. `inversions` are the textual inversions that it was drawn with, name to the beginning of a hash;
    `vae_hash` is the beginning of its VAE's, "" where none is named.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[UserError, ...] = ()
    inversions: Mapping[str, str] = field(default_factory=dict)
    vae_hash: str = ""
    sampler: str = ""
    """As the text names it, whether it is there or not."""

    def over(self, base: GenerateRequest) -> GenerateRequest:
        """`base` with what was found put over it."""
        return replace(base, **self.values)


def format_infotext(
    request: GenerateRequest, seed: int, width: int, height: int, files: Mapping[str, str] = MappingProxyType({})
) -> str:
    """The infotext of one picture of `request`, drawn from `seed` at `width` x `height` pixels.

    Where A1111's format cannot hold the prompts (a line in them looks like a field, or has spaces at its ends), two
    fields more keep them exactly. LoRA stand behind the prompt, as they do there. `files` are fields of the files that
    it was drawn with, beside the model. The sampler of an extension stands there by its whole name.
    """
    drawn = with_tags(request.prompt, request.loras)
    plain = "\n".join(
        part for part in (drawn, f"{_NEGATIVE} {request.negative_prompt}" if request.negative_prompt else "") if part
    )
    fields: dict[str, object] = {"Steps": request.steps, **_sampler_fields(request.sampler)}
    if request.guidance_scale is not None:
        fields["CFG scale"] = _shortest(request.guidance_scale)
    fields |= {
        "Seed": seed,
        "Size": f"{width}x{height}",
        "Model": request.model,
    }
    if request.vae:
        fields["VAE"] = f"{request.vae}{_VAE_ENDING}"
    if request.original_prompt:
        fields[_ORIGINAL] = request.original_prompt
    fields |= files
    fields["Version"] = f"diffuscope {webui.__version__}"
    text = f"{plain}\n{_format_fields(fields)}" if plain else _format_fields(fields)
    prompt, negative_prompt, _ = _split(text)
    if (prompt, negative_prompt) == (drawn, request.negative_prompt):
        return text
    fields |= {_EXACT_PROMPT: drawn, _EXACT_NEGATIVE: request.negative_prompt}
    return f"{plain}\n{_format_fields(fields)}"


def parse_infotext(text: str, limits: GenerateLimits | None = None, samplers: Samplers = SHIPPED_SAMPLERS) -> Infotext:
    """Read infotext of ours or of A1111; what is outside `limits` or not in `samplers` is ignored, and said to be.

    Raises UserError when the text is too long to be infotext or holds neither a prompt nor a field.
    """
    if len(text) > MAX_INFOTEXT_CHARACTERS:
        raise UserError("error.infotext_too_long", limit=MAX_INFOTEXT_CHARACTERS)
    if not text.strip():
        raise UserError("error.infotext_empty")
    prompt, negative_prompt, fields = _split(text)
    inversions = dict(_NAMED_HASH.findall(fields.pop(_INVERSIONS, "")))
    vae_hash = fields.pop("VAE hash", "")
    limits = limits or GenerateLimits()
    found: dict[str, Any] = {}
    ignored: list[UserError] = []
    sampler = " ".join(fields[name] for name in _SAMPLER if name in fields)
    for read in _readings(prompt, negative_prompt, fields, samplers):
        try:
            found |= _checked(read(), limits)
        except UserError as error:
            ignored.append(error)
    return Infotext(found, tuple(ignored), inversions, vae_hash, _shortened(sampler))


def request_from_infotext(text: str) -> GenerateRequest:
    """What a picture of ours was drawn from; its sampler by the name it had, whichever extension has brought it along.

    Raises UserError as `parse_infotext` does.
    """
    found = parse_infotext(text)
    return found.over(GenerateRequest(prompt="", sampler=found.sampler))


def carries_infotext(path: Path) -> bool:
    """Whether a file of any kind carries infotext."""
    try:
        return bool(read_infotext(path))
    except UserError:
        return False


def prompt_in(path: Path) -> str:
    """The prompt that a picture carries; "" for a file of any kind that carries none."""
    try:
        return str(parse_infotext(read_infotext(path)).values.get("prompt", ""))
    except UserError:
        return ""


def read_infotext(source: str | Path | IO[bytes] | Image.Image) -> str:
    """The infotext inside a PNG: a file, a stream or an opened image. No pixel is decoded.

    Raises UserError when it is no PNG, is damaged, has too large a text (a "zip bomb"), or has none.
    """
    if isinstance(source, Image.Image):
        return _infotext_of(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=["PNG"]) as image:
                return _infotext_of(image)
    except UnidentifiedImageError as error:
        raise UserError("error.not_a_png") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError("error.picture_too_large") from error
    # Pillow raises ValueError for text chunks over its limits, SyntaxError and the rest for damaged chunks.
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError("error.png_damaged", reason=str(error)) from error


def _infotext_of(image: Image.Image) -> str:
    text = image.info.get(PNG_KEY)
    if isinstance(text, str) and text.strip():
        return text
    for key, tool in _FOREIGN_KEYS.items():
        if key in image.info:
            raise UserError("error.infotext_of_another_tool", tool=tool)
    raise UserError("error.infotext_missing")


def _sampler_fields(name: str) -> dict[str, object]:
    sampler = SHIPPED_SAMPLERS.table.get(name)
    if sampler is None:
        return {"Sampler": name}
    values = (sampler.method, sampler.schedule)
    return {field: value for field, value in zip(_SAMPLER, values, strict=True) if value is not None}


def _format_fields(fields: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {_quote(value)}" for name, value in fields.items())


def _quote(value: object) -> str:
    """A1111's quote(): JSON where the value has a comma, colon or line break; we add what a reader would strip."""
    text = str(value)
    if text and text == text.strip() and not any(character in text for character in ',:\n"'):
        return text
    return json.dumps(text, ensure_ascii=False)


def _unquote(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def _split(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and fields, by A1111's rules: the last line holds fields if it holds three."""
    *lines, last = text.strip().split("\n")
    fields = {match[1]: _unquote(match[2].strip()) for match in _FIELD.finditer(last)}
    if len(fields) < _MIN_FIELDS:
        lines, fields = [*lines, last], {}
    prompt: list[str] = []
    negative: list[str] = []
    part = prompt
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(_NEGATIVE):
            part = negative
            stripped = stripped[len(_NEGATIVE) :].strip()
        part.append(stripped)
    return "\n".join(prompt), "\n".join(negative), fields


def _readings(
    prompt: str, negative_prompt: str, fields: dict[str, str], samplers: Samplers
) -> Iterator[Callable[[], dict[str, Any]]]:
    """One reading a field, so that a bad value spoils only itself."""
    prompt = fields.pop(_EXACT_PROMPT, prompt)
    negative_prompt = fields.pop(_EXACT_NEGATIVE, negative_prompt)
    yield lambda: {"prompt": prompt}
    yield lambda: {"negative_prompt": negative_prompt}
    method, schedule = (fields.pop(name, None) for name in _SAMPLER)
    if method is not None:
        yield partial(_read_sampler, samplers, method, schedule)
    fields.pop("Version", None)
    yield from (partial(_read_field, name, value) for name, value in fields.items())


def _read_field(name: str, value: str) -> dict[str, Any]:
    if name == "Size":
        width, _, height = value.partition("x")
        return {"width": _number(name, width, int), "height": _number(name, height, int)}
    if name == "Model":
        if len(value) > _MAX_MODEL_NAME or not value.isprintable():
            raise UserError("infotext.bad_value", name=name, value=_shortened(value))
        return {"model": value}
    if name == "VAE":  # the name of the file; A1111 writes no field for the model's own
        return {"vae": re.sub(r"\.(safetensors|ckpt|pt)$", "", value)}
    if name == _ORIGINAL:
        return {"original_prompt": value}
    if name not in _NUMBERS:
        raise UserError("infotext.unknown_field", name=_shortened(name), value=_shortened(value))
    attribute, kind = _NUMBERS[name]
    return {attribute: _number(name, value, kind)}


def _number(name: str, value: str, kind: Callable[[str], int | float]) -> int | float:
    try:
        return kind(value)
    except ValueError as error:
        raise UserError("infotext.bad_value", name=name, value=_shortened(value)) from error


def _read_sampler(samplers: Samplers, method: str, schedule: str | None) -> dict[str, Any]:
    name = samplers.from_infotext(method, schedule)
    if name is None:
        wanted = method if schedule is None else f"{method} {schedule}"
        raise UserError("infotext.unknown_sampler", name=_shortened(wanted))
    return {"sampler": name}


def _checked(values: dict[str, Any], limits: GenerateLimits) -> dict[str, Any]:
    """`values`, or the UserError with which a request that has them would be refused."""
    check_request(replace(GenerateRequest(prompt=""), **values), limits)
    if "width" in values:
        check_size(values["width"], values["height"], 1, limits)
    return values


def _shortest(number: float) -> str:
    return repr(number).removesuffix(".0")


def _shortened(text: str, limit: int = 80) -> str:
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text[:limit])
    return printable if len(text) <= limit else printable[: limit - 1] + "…"
