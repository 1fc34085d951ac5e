"""Reads a request from loose values, as a form or a JSON body gives them; page and REST share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from webui.diffusion.request import GenerateRequest
from webui.errors import UserError

_TEXT: Final = frozenset({"prompt", "negative_prompt", "model", "sampler", "original_prompt", "loras", "vae"})
_TRUTH: Final = frozenset({"translate"})
_OPTIONAL: Final = frozenset({"guidance_scale", "width", "height"})
_SHOWN_CHARACTERS: Final = 60
_TOO_LARGE: Final = 2**53
"""Where a JSON number stops being exact; nothing that can be asked for comes near."""


def request_from_values(values: Mapping[str, object]) -> GenerateRequest:
    """The request that `values` (field name to JSON value) describe; what is left out keeps its default.

    Only the types are settled here: whole numbers may come as 20 or 20.0, a size or the guidance may be None. Raises
    UserError that names the field when it is unknown or of the wrong type, and when there is no prompt.
    """
    known = {field.name for field in fields(GenerateRequest)}
    for name in values:
        if name not in known:
            raise UserError("error.unknown_field", field=_shortened(name), known=", ".join(sorted(known)))
    if "prompt" not in values:
        raise UserError("error.field_missing", field="prompt")
    return GenerateRequest(**{name: _typed(name, value) for name, value in values.items()})


def _typed(name: str, value: object) -> Any:
    if name in _TEXT:
        if not isinstance(value, str):
            raise UserError("error.not_text", field=name, value=_shortened(value))
        return value
    if name in _TRUTH:
        if not isinstance(value, bool):
            raise UserError("error.not_true_or_false", field=name)
        return value
    if value is None and name in _OPTIONAL:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError("error.not_a_number", field=name, value=_shortened(value))
    if abs(value) >= _TOO_LARGE:
        raise UserError("error.number_too_large", field=name, limit=_TOO_LARGE)
    if name == "guidance_scale":
        return float(value)
    if isinstance(value, float) and not value.is_integer():  # neither infinity nor NaN is one
        raise UserError("error.not_a_whole_number", field=name, value=_shortened(value))
    return int(value)


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
