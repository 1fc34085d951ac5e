"""POST /classify and POST /check: pictures as JSON with base64, or as a multipart form, like POST /score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from webui.api.score import as_text, read_pictures
from webui.errors import UserError
from webui.settings import Settings
from webui.vision.request import CheckRequest, ClassifyRequest

CHECK: Final = "check"
"""The kind of a check's job."""


async def read_classify_request(request: Request, settings: Settings) -> ClassifyRequest:
    """`pictures`, and optionally `count` and `model`. Raises UserError for a body of another form."""
    pictures, values = await read_pictures(request, settings, ("count", "model"))
    asked: dict[str, Any] = {"count": _whole_number(values)} if "count" in values else {}
    if "model" in values:
        asked["model"] = as_text(values["model"], "model")
    return ClassifyRequest(pictures, **asked)


async def read_check_request(request: Request, settings: Settings) -> CheckRequest:
    """`pictures`, `prompt`, and optionally `model`. Raises UserError for a body of another form."""
    pictures, values = await read_pictures(request, settings, ("prompt", "model"))
    model = as_text(values["model"], "model") if "model" in values else None
    return CheckRequest(pictures, as_text(values.get("prompt", ""), "prompt"), model)


def _whole_number(values: Mapping[str, object]) -> int:
    count = values["count"]
    if isinstance(count, str) and count.isascii() and count.isdigit():  # a form has nothing but text
        return int(count)
    if not isinstance(count, int) or isinstance(count, bool):
        raise UserError("error.not_a_whole_number", field="count", value=repr(count)[:100])
    return count
