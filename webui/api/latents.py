"""POST /encode and POST /decode: a picture as the VAE's latent, and a latent as a picture.

A latent is {"shape": [4, H/8, W/8], "content": "<base64>"}, its numbers as little-endian float32, row by row, scaled as
the U-Net gets them; a decoded picture is the base64 of a PNG file.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from PIL import Image
from starlette.requests import Request

from webui.api.score import as_text, read_pictures
from webui.errors import UserError
from webui.settings import Settings
from webui.tasks.latents import DecodeRequest, EncodedPicture, EncodeRequest

ENCODE: Final = "encode"
DECODE: Final = "decode"
"""The kinds of their jobs."""
_FIELDS: Final = ("latent", "model")
_FLOAT32: Final = np.dtype("<f4")


async def read_encode_request(request: Request, settings: Settings) -> EncodeRequest:
    """One picture as for POST /score, and optionally `model` and `keep_size`. Raises UserError."""
    pictures, values = await read_pictures(request, settings, ("model", "keep_size"))
    if len(pictures) != 1:
        raise UserError("error.one_picture_wanted", count=len(pictures))
    asked: dict[str, Any] = {"keep_size": _true_or_false(values["keep_size"])} if "keep_size" in values else {}
    if "model" in values:
        asked["model"] = as_text(values["model"], "model")
    return EncodeRequest(pictures[0], **asked)


def read_decode_request(values: Mapping[str, object]) -> DecodeRequest:
    """`latent`, and optionally `model`. Raises UserError for a latent whose bytes are not those of its shape."""
    for name in values:
        if name not in _FIELDS:
            raise UserError("error.unknown_field", field=name[:100], known=", ".join(_FIELDS))
    asked = {"model": as_text(values["model"], "model")} if "model" in values else {}
    return DecodeRequest(_latent(values.get("latent")), **asked)


def encoded_as_dict(found: EncodedPicture) -> dict[str, Any]:
    """The latent, and how much of the picture comes back from it."""
    latent = np.ascontiguousarray(found.latent, _FLOAT32)
    return {
        "shape": list(latent.shape),
        "content": base64.b64encode(latent.tobytes()).decode("ascii"),
        "width": found.original.shape[1],
        "height": found.original.shape[0],
        "psnr": found.error.psnr if math.isfinite(found.error.psnr) else None,
        "ssim": found.error.ssim,
    }


def decoded_as_dict(picture: np.ndarray) -> dict[str, Any]:
    """A picture (H, W, 3) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"width": picture.shape[1], "height": picture.shape[0], "content": content}


def _latent(value: object) -> np.ndarray:
    described = value if isinstance(value, dict) else {}
    shape, content = described.get("shape"), described.get("content")
    sides = isinstance(shape, list) and len(shape) == 3 and all(type(side) is int and side > 0 for side in shape)
    if not sides or not isinstance(content, str):
        raise UserError("error.latent_form")
    assert isinstance(shape, list)  # noqa: S101 - for the type checker
    try:
        numbers = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError("error.not_base64", name="latent") from error
    if len(numbers) != _FLOAT32.itemsize * math.prod(shape):
        raise UserError("error.latent_form")
    return np.frombuffer(numbers, _FLOAT32).reshape(shape).astype(np.float32)


def _true_or_false(value: object) -> bool:
    known = {"true": True, "false": False}  # a form has nothing but text
    found = known.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise UserError("error.not_true_or_false", field="keep_size")
    return found
