"""POST /score: the fields of ScoreRequest as JSON with base64 pictures, or as a multipart form."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from webui.clip.request import ScoreRequest
from webui.errors import UserError
from webui.security.payload import read_json_object
from webui.settings import Settings
from webui.vision.pictures import PictureFile

FIELDS: Final = ("pictures", "texts", "model")
_TEXT_FIELDS_BESIDE: Final = 8


async def read_score_request(request: Request, settings: Settings) -> ScoreRequest:
    """What is asked for. Raises UserError for a body that is too large, has another form, or misses its fields.

    JSON: {"pictures": [{"name": "cat.png", "content": "<base64>"}], "texts": ["a cat"], "model": "emoji"}. Form: files
    called `pictures`, fields called `texts`, and `model`. Together at most `max_upload_mb`.
    """
    pictures, values = await read_pictures(request, settings, FIELDS[1:], repeated=("texts",))
    texts = tuple(as_text(item, "texts") for item in _list(values, "texts"))
    model = values.get("model")
    return ScoreRequest(pictures, texts) if model is None else ScoreRequest(pictures, texts, as_text(model, "model"))


async def read_pictures(
    request: Request, settings: Settings, fields: Sequence[str], repeated: Sequence[str] = ()
) -> tuple[tuple[PictureFile, ...], dict[str, Any]]:
    """The pictures of a body, and its other `fields`, those of a form that are `repeated` as lists.

    Raises UserError for a body that is too large, has another form, or a field with another name.
    """
    body = await read_body(request, settings.max_upload_mb << 20)
    known = ("pictures", *fields)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        values = read_json_object(body)
        _check_fields(values, known)
        pictures = tuple(decoded_picture(item, place) for place, item in enumerate(_list(values, "pictures"), start=1))
        return pictures, {name: value for name, value in values.items() if name != "pictures"}
    form = await _form(request, body, settings)
    try:
        _check_fields(form, known)
        others = {name: form.getlist(name) if name in repeated else form[name] for name in fields if name in form}
        return await _uploaded(form), others
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


async def _uploaded(form: FormData) -> tuple[PictureFile, ...]:
    pictures: list[PictureFile] = []
    for item in form.getlist("pictures"):
        if not isinstance(item, UploadFile):
            raise UserError("error.not_a_form")
        pictures.append(PictureFile(item.filename or f"picture-{len(pictures) + 1}", await item.read()))
    return tuple(pictures)


def _check_fields(values: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in values:
        if name not in known:
            raise UserError("error.unknown_field", field=str(name)[:100], known=", ".join(known))


def _list(values: Mapping[str, Any], field: str) -> list[Any]:
    found = values.get(field, [])
    if not isinstance(found, list):
        raise UserError("error.not_a_list", field=field)
    return found


def as_text(value: object, field: str) -> str:
    """`value`, which must be text. Raises UserError."""
    if not isinstance(value, str):
        raise UserError("error.not_text", field=field, value=repr(value)[:100])
    return value


def decoded_picture(item: object, place: int) -> PictureFile:
    """{"name", "content"}, or the base64 content alone."""
    named = item if isinstance(item, dict) else {"content": item}
    name = as_text(named.get("name", f"picture-{place}"), "pictures.name")
    content = as_text(named.get("content"), "pictures.content")
    try:
        return PictureFile(name, base64.b64decode(content, validate=True))
    except (binascii.Error, ValueError) as error:
        raise UserError("error.not_base64", name=name[:100]) from error
