"""What can be asked about a prompt, and the checks that page, REST and command line share. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from webui.diffusion.request import MAX_SEED, check_text
from webui.errors import UserError

MAX_CHARACTERS: Final = 100_000
MASK: Final = "[mask]"
METHODS: Final = ("beam", "sample")
_MASKS: Final = re.compile(r"\[mask\]|<mask>|_{3,}", re.IGNORECASE)

_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "candidates": (1, 8),
    "beams": (1, 16),
    "temperature": (0.1, 2.0),
    "top_p": (0.05, 1.0),
    "max_new_tokens": (1, 256),
    "seed": (0, MAX_SEED),
}


class PromptTask(StrEnum):
    """What a model can do with a prompt."""

    TRANSLATE = "translate"
    SHORTEN = "shorten"
    EXPAND = "expand"
    REPAIR = "repair"
    FILL = "fill"


@dataclass(frozen=True, slots=True)
class WritingSettings:
    """How text is written: `method` "beam" keeps the `beams` best beginnings, "sample" draws from the model's odds.

    `temperature` (0.1 to 2) and `top_p` (0.05 to 1, Holtzman et al. 2020) and `seed` matter to "sample" only; beam
    search (one beam: greedy) has no chance in it. `candidates` different texts are wanted, each of at most
    `max_new_tokens` tokens.
    """

    method: str = "beam"
    candidates: int = 3
    beams: int = 4
    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 96
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """One press of a button on the Prompt page.

    `family` ("t5" or "bart") and `model` name the model; empty ones leave the choice to the first that can do `task`.
    `direction` ("th-en") is for translating; empty is Thai to English where the model has it. The tokens of
    `draw_model` (txt2img) are counted and `clip_model` compares meanings; empty is the first of each.
    """

    task: PromptTask
    text: str
    family: str = ""
    model: str = ""
    direction: str = ""
    draw_model: str = ""
    clip_model: str = ""
    settings: WritingSettings = field(default_factory=WritingSettings)


def check_prompt_request(request: PromptRequest) -> None:
    """Raise UserError for the first thing in `request` that no model could do."""
    if not request.text.strip():
        raise UserError("error.prompt_empty")
    check_text(request.text, MAX_CHARACTERS)
    if request.task is PromptTask.FILL and not has_mask(request.text):
        raise UserError("error.no_mask")
    settings = request.settings
    if settings.method not in METHODS:
        raise UserError("error.unknown_method", method=settings.method[:40], known=", ".join(METHODS))
    for name, (low, high) in _RANGES.items():
        value = getattr(settings, name)
        if not low <= value <= high:  # NaN is not either
            raise UserError("error.writing_out_of_range", field=name, value=value, low=low, high=high)


def has_mask(text: str) -> bool:
    """Whether something is left open for a model to fill in."""
    return MASK in mark_masks(text)


def mark_masks(text: str) -> str:
    """The text with every way to write a mask ("[MASK]", "<mask>", "___") as "[mask]"."""
    return _MASKS.sub(MASK, text)


def prompt_request_from_values(task: str, values: Mapping[str, object]) -> PromptRequest:
    """The request that loose values (field name to JSON value, settings beside the rest) describe.

    Raises UserError that names the field when it is unknown or of the wrong type, and for an unknown task.
    """
    if task not in tuple(PromptTask):
        raise UserError("error.unknown_prompt_task", task=task[:40], known=", ".join(PromptTask))
    texts = {name.name for name in fields(PromptRequest)} - {"task", "settings"}
    settings = {name.name: type(name.default) for name in fields(WritingSettings)}
    for name in values:
        if name not in texts and name not in settings:
            raise UserError("error.unknown_field", field=str(name)[:60], known=", ".join(sorted(texts | set(settings))))
    if "text" not in values:
        raise UserError("error.field_missing", field="text")
    asked: dict[str, Any] = {name: _text(name, values[name]) for name in texts & set(values)}
    written: dict[str, Any] = {
        name: _text(name, values[name]) if kind is str else _number(name, values[name], whole=kind is int)
        for name, kind in settings.items()
        if name in values
    }
    return PromptRequest(PromptTask(task), **asked, settings=WritingSettings(**written))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UserError("error.not_text", field=name, value=str(value)[:60])
    return value


def _number(name: str, value: object, *, whole: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError("error.not_a_number", field=name, value=str(value)[:60])
    if not whole:
        return float(value)
    if isinstance(value, float) and not value.is_integer():  # neither infinity nor NaN is one
        raise UserError("error.not_a_whole_number", field=name, value=str(value)[:60])
    return int(value)
