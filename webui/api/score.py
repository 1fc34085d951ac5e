"""POST /score: the fields of ScoreRequest as JSON with base64 pictures, or as a multipart form."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from webui.clip.request import ScoreRequest
from webui.errors import UserError
from webui.settings import Settings
from webui.vision.pictures import PictureFile

FIELDS: Final = ("pictures", "texts", "model")
_TEXT_FIELDS_BESIDE: Final = 8


async def read_score_request(request: Request, settings: Settings) -> ScoreRequest:
    """What is asked for. Raises UserError for a body that is too large, has another form, or misses its fields.

    JSON: {"pictures": [{"name": "cat.png", "content": "<base64>"}], "texts": ["a cat"], "model": "emoji"}. Form: files
    called `pictures`, fields called `texts`, and `model`. Together at most `max_upload_mb`.
    """
    body = await read_body(request, settings.max_upload_mb << 20)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return _from_json(body)
    form = await _form(request, body, settings)
    try:
        return await _from_form(form)
    finally:
        await form.close()


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises UserError for a longer one as soon as it is."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise UserError("error.body_too_large", limit=limit // 1024)
    return bytes(body)


def _from_json(body: bytes) -> ScoreRequest:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError("error.not_json") from error
    if not isinstance(values, dict):
        raise UserError("error.not_json")
    _check_fields(values)
    pictures = tuple(_picture(item, place) for place, item in enumerate(_list(values, "pictures"), start=1))
    texts = tuple(_text(item, "texts") for item in _list(values, "texts"))
    return _request(pictures, texts, values.get("model"))


async def _form(request: Request, body: bytes, settings: Settings) -> FormData:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    limits = settings.score_limits
    try:
        return await Request(request.scope, receive).form(
            max_files=limits.max_pictures + 1, max_fields=limits.max_texts + _TEXT_FIELDS_BESIDE
        )
    except (HTTPException, MultiPartException, UnicodeDecodeError) as error:
        raise UserError("error.not_a_form") from error


async def _from_form(form: FormData) -> ScoreRequest:
    _check_fields(form)
    pictures: list[PictureFile] = []
    for item in form.getlist("pictures"):
        if not isinstance(item, UploadFile):
            raise UserError("error.not_a_form")
        pictures.append(PictureFile(item.filename or f"picture-{len(pictures) + 1}", await item.read()))
    texts = tuple(_text(item, "texts") for item in form.getlist("texts"))
    return _request(tuple(pictures), texts, form.get("model"))


def _request(pictures: tuple[PictureFile, ...], texts: tuple[str, ...], model: object) -> ScoreRequest:
    return ScoreRequest(pictures, texts) if model is None else ScoreRequest(pictures, texts, _text(model, "model"))


def _check_fields(values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in FIELDS:
            raise UserError("error.unknown_field", field=str(name)[:100], known=", ".join(FIELDS))


def _list(values: Mapping[str, Any], field: str) -> list[Any]:
    found = values.get(field, [])
    if not isinstance(found, list):
        raise UserError("error.not_a_list", field=field)
    return found


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise UserError("error.not_text", field=field, value=repr(value)[:100])
    return value


def _picture(item: object, place: int) -> PictureFile:
    """{"name", "content"}, or the base64 content alone."""
    named = item if isinstance(item, dict) else {"content": item}
    name = _text(named.get("name", f"picture-{place}"), "pictures.name")
    content = _text(named.get("content"), "pictures.content")
    try:
        return PictureFile(name, base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError) as error:
        raise UserError("error.not_base64", name=name[:100]) from error
